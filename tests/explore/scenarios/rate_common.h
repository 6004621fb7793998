/* rate_common.h: what the scenarios of limiters and bulkheads share. Each is a program of one run;
   compile with -DTWILL__SPIN=0. */
#ifndef RATE_COMMON_H
#define RATE_COMMON_H

#undef NDEBUG
#include <assert.h>
#include <string.h>

#include "explore.h"

#define TWILL_IMPLEMENTATION
#include "twill_rate_limiter.h"

struct caller {
    twill__thrd thread;
    twill_rate_limiter *limiter;
    twill_bulkhead *bulkhead;
    twill_until until;
    uint64_t n;
    twill_status status;
};

static inline void go(struct caller *caller, void (*fn)(void *caller))
{
    memset(&caller->thread, 0, sizeof caller->thread);
    caller->thread.fn = fn;
    caller->thread.arg = caller;
    caller->thread.cpu = UINT_MAX;
    assert(twill__thread_start(&caller->thread));
}

static inline void end(struct caller *caller)
{
    twill__thread_join(&caller->thread);
}

static inline void acquire(void *caller_)
{
    struct caller *caller = caller_;
    caller->status = twill_rate_limiter_acquire_until(caller->limiter, caller->n, caller->until);
}

static inline void try_one(void *caller_)
{
    struct caller *caller = caller_;
    caller->status = twill_rate_limiter_try_acquire(caller->limiter, caller->n);
}

static inline void enter(void *caller_)
{
    struct caller *caller = caller_;
    caller->status = twill_bulkhead_enter_until(caller->bulkhead, caller->until);
}

/* `there` of `burst` tokens, and no more for a long time. */
static inline void slow(twill_rate_limiter *limiter, uint64_t burst, uint64_t there)
{
    twill_rate_limiter_options options = {.tokens = 1,
                                          .per = TWILL_SEC(1000000),
                                          .burst = burst,
                                          .used = burst - there,
                                          .counted = true};
    assert(twill_rate_limiter_init(limiter, &options) == TWILL_OK);
}

static inline twill_rate_limiter_stats books(twill_rate_limiter *limiter)
{
    twill_rate_limiter_stats stats;
    twill_rate_limiter_get_stats(limiter, &stats);
    assert(stats.waiting == 0);
    return stats;
}

#endif
