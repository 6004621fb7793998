/* pool_common.h: what the scenarios of pools share. Each is a program of one run; compile with
   -DTWILL__SPIN=0. */
#ifndef POOL_COMMON_H
#define POOL_COMMON_H

#undef NDEBUG
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define TWILL__CPU_SECONDS() 0.0
#define TWILL__CLASSES 4
#ifndef TWILL__STAND_INS
#define TWILL__STAND_INS 1
#endif
#define TWILL_IMPLEMENTATION
#include "twill_worker_pool.h"

static _Atomic unsigned ran, dropped, discarded;

struct side { /* a thread beside main */
    twill__thrd thread;
    twill_pool *pool;
    twill_future future;
    twill_until until;
    twill_status status;
    twill_outcome outcome;
};

/* What would only cost schedules: reading files for the number of CPUs, a page for the fork
   mark. */
static inline void quiet(void)
{
    twill__global *global = twill__process();

    atomic_store(&global->cpus, 2);
    atomic_store(&global->generation, 1);
    atomic_store(&global->own_mark, 1);
    atomic_store(&global->mark, &global->own_mark);
}

static inline void go(struct side *side, void (*fn)(void *side))
{
    memset(&side->thread, 0, sizeof side->thread);
    side->thread.fn = fn;
    side->thread.arg = side;
    side->thread.cpu = UINT_MAX;
    assert(twill__thread_start(&side->thread));
}

static inline void end(struct side *side)
{
    twill__thread_join(&side->thread);
}

static inline int run_it(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)task;
    atomic_fetch_add(&ran, 1);
    if (result)
        *(int *)result = 7;
    return 0;
}

static inline void drop_it(void *item, twill_status why, const twill_task *task)
{
    (void)item, (void)why, (void)task;
    atomic_fetch_add(&dropped, 1);
}

static inline void discard_it(void *arg, void *result, int code, const twill_task *task)
{
    (void)arg, (void)code, (void)task;
    assert(*(int *)result == 7);
    atomic_fetch_add(&discarded, 1);
}

static inline twill_pool *pool_of(const twill_pool_options *options)
{
    twill_pool *pool;

    quiet();
    assert(twill_pool_create(&pool, options) == TWILL_OK);
    return pool;
}

/* For ever, and without running the task oneself: the explorer may let any deadline pass. */
static inline twill_until without_helping(void)
{
    static twill_cancel never;

    return twill_until_cancelled(&never);
}

static inline void wait_on(void *side_)
{
    struct side *side = side_;

    side->status = twill_future_wait_until(side->future, NULL, &side->outcome, side->until);
}

static inline void balanced(twill_pool *pool, uint64_t submitted)
{
    twill_pool_stats s;

    twill_pool_get_stats(pool, &s);
    assert(s.submitted == submitted);
    assert(s.submitted == s.done + s.failed + s.timed_out + s.cancelled + s.dropped + s.lost);
    assert(s.queued == 0);
}
#endif
