/* retry_common.h: what the scenarios of retries share. Each is a program of one run; compile with
   -DTWILL__SPIN=0. */
#ifndef RETRY_COMMON_H
#define RETRY_COMMON_H

#undef NDEBUG
#include <assert.h>
#include <string.h>

#include "explore.h"

#define TWILL_IMPLEMENTATION
#include "twill_retry_backoff.h"

#ifdef TWILL_USE_PTHREAD
#define END_THREAD() pthread_exit(NULL)
#else
#define END_THREAD() thrd_exit(0)
#endif

struct side {
    twill__thrd thread;
    twill_retry_options options;
    twill_retry_report report;
    int calls;
};

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

/* in: the code to return */
static inline int count_and_fail(const void *in, void *out, const twill_task *task)
{
    (void)out;
    assert((int)task->index == ((struct side *)task->context)->calls);
    ((struct side *)task->context)->calls++;
    return *(const int *)in;
}

static inline void call(void *side_)
{
    struct side *side = side_;
    int code = 5;
    side->options.context = side;
    (void)twill_retry_call(&code, NULL, count_and_fail, &side->options, &side->report);
    assert((size_t)side->calls == side->report.attempts);
}
#endif
