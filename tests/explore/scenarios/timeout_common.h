/* timeout_common.h: what the scenarios of timeout_fallback share. Each is a program of one run;
   compile with -DTWILL__SPIN=0. Every function that has run is either taken or discarded, every
   input is freed once, and nothing is left. */
#ifndef TIMEOUT_COMMON_H
#define TIMEOUT_COMMON_H

#undef NDEBUG
#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static atomic_int ran, taken, discarded, freed, live /* blocks */;

extern void *count_malloc(size_t size); /* extern: the library is compiled apart */
extern void count_free(void *block);

void *count_malloc(size_t size)
{
    void *block = malloc(size);
    if (block)
        atomic_fetch_add(&live, 1);
    return block;
}

void count_free(void *block)
{
    free(block);
    atomic_fetch_sub(&live, 1); /* after it: who sees 0 sees them gone */
}

#define TWILL_MALLOC(size) count_malloc(size)
#define TWILL_FREE(block)  count_free(block)
#define TWILL_IMPLEMENTATION
#include "twill_timeout_fallback.h"

struct side {
    twill__thrd thread;
    twill_timeout *timeout;
    twill_until until;
    int in, out;
    twill_status status;
};

static inline bool go(struct side *side, void (*fn)(void *side), twill_timeout *timeout)
{
    memset(&side->thread, 0, sizeof side->thread);
    side->thread.fn = fn;
    side->thread.arg = side;
    side->thread.cpu = UINT_MAX;
    side->timeout = timeout;
    return twill__thread_start(&side->thread);
}

static inline void end(struct side *side)
{
    twill__thread_join(&side->thread);
}

/* in > 0: sleeps so many microseconds; < 0: fails with that code */
static inline int work(const void *in, void *out, const twill_task *task)
{
    int n = *(const int *)in;
    (void)task;
    atomic_fetch_add(&ran, 1);
    if (n > 0)
        twill_sleep(twill_within(TWILL_US(n)));
    *(int *)out = n + 100;
    return n < 0 ? n : 0;
}

/* ends with its token */
static inline int obeys(const void *in, void *out, const twill_task *task)
{
    (void)in;
    atomic_fetch_add(&ran, 1);
    twill_sleep(task->until);
    *(int *)out = 1;
    return 5;
}

static inline void note_discard(void *in, void *result, int code, const twill_task *task)
{
    (void)task;
    assert(*(int *)result != 0 && code <= 5);
    (void)*(volatile int *)in;
    atomic_fetch_add(&discarded, 1);
}

static inline void note_free(void *in, const twill_task *task)
{
    (void)task;
    *(int *)in = 0; /* nobody else reads it any more */
    atomic_fetch_add(&freed, 1);
}

static inline twill_timeout *timeout_of(twill_timeout_options options)
{
    twill_timeout *timeout;
    options.free_input = note_free;
    options.discard = note_discard;
    if (twill_timeout_create(&timeout, &options) != TWILL_OK)
        exit(0); /* a sweep of failures */
    return timeout;
}

static inline twill_status call(twill_timeout *timeout, int in, twill_map_fn *fn, twill_until until)
{
    int out = -1;
    twill_status status =
        twill_timeout_call(timeout, &in, sizeof in, &out, sizeof out, fn, until, NULL);
    assert((out != -1) == (status == TWILL_OK));
    if (status == TWILL_OK)
        atomic_fetch_add(&taken, 1);
    return status;
}

static inline void finish(twill_timeout *timeout, int calls)
{
    twill_timeout_stats s;
    assert(twill_timeout_drain(timeout, (twill_until){0, NULL}, NULL) == TWILL_OK);
    twill_timeout_get_stats(timeout, &s);
    assert(s.calls == s.ok + s.failed + s.timeouts + s.cancelled + s.refused);
    assert(s.calls == (uint64_t)calls && s.running == 0 && s.abandoned == 0);
    assert(atomic_load(&ran) == atomic_load(&taken) + atomic_load(&discarded));
    assert(atomic_load(&freed) == calls);
    assert(twill_timeout_destroy(timeout) == TWILL_OK);
    assert(atomic_load(&live) == 0);
}
#endif
