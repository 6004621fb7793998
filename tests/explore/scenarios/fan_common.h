/* fan_common.h: what the scenarios of the fan share. Each is a program of one run; compile with
   -DTWILL__SPIN=0 -DTWILL__TICKS=0. */
#ifndef FAN_COMMON_H
#define FAN_COMMON_H

#undef NDEBUG
#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static _Atomic int live_blocks;

extern void *counted_malloc(size_t size); /* extern: the library is compiled apart */
extern void counted_free(void *block);

void *counted_malloc(size_t size)
{
    void *block = malloc(size);
    if (block)
        atomic_fetch_add(&live_blocks, 1);
    return block;
}

void counted_free(void *block)
{
    free(block);
    atomic_fetch_sub(&live_blocks, block != NULL);
}

#define TWILL_MALLOC(size) counted_malloc(size)
#define TWILL_FREE(block)  counted_free(block)
#define TWILL_IMPLEMENTATION
#include "twill_fan_out_fan_in.h"

extern int explore_choice(int n) __attribute__((weak));

static inline int choose(int n)
{
    return explore_choice ? explore_choice(n) : n > 1;
}

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

static _Atomic unsigned ran[8], dropped[8], discarded[8];
static unsigned given[8];

static inline int task(void *arg, void *result, const twill_task *me)
{
    (void)me;
    atomic_fetch_add(&ran[(intptr_t)arg], 1);
    if (result)
        *(int *)result = (int)(intptr_t)arg;
    return 0;
}

/* Until its token fires. */
static inline int polite(void *arg, void *result, const twill_task *me)
{
    (void)result;
    atomic_fetch_add(&ran[(intptr_t)arg], 1);
    (void)twill_sleep(me->until);
    return twill_task_skip(me);
}

static inline void drop(void *arg, twill_status why, const twill_task *me)
{
    (void)me;
    assert(why == TWILL_CANCELLED || why == TWILL_TIMEOUT);
    atomic_fetch_add(&dropped[(intptr_t)arg], 1);
}

static inline void discard(void *arg, void *result, int code, const twill_task *me)
{
    (void)result;
    (void)me;
    assert(code == 0);
    atomic_fetch_add(&discarded[(intptr_t)arg], 1);
}

static inline void *tag(int i)
{
    return (void *)(intptr_t)i;
}

/* Reads what is left; returns how many. */
static inline int read_all(twill_fan *fan)
{
    twill_outcome outcome;
    twill_status status;
    int count = 0;

    while ((status = twill_fan_next(fan, NULL, &outcome)) == TWILL_OK) {
        given[(intptr_t)outcome.key]++;
        count++;
    }
    assert(status == TWILL_CLOSED);
    return count;
}

/* One of {run, drop} for each that was accepted. */
static inline void check_books(int n)
{
    for (int i = 0; i < n; i++)
        assert(ran[i] + dropped[i] == 1 && given[i] <= 1);
}

static inline void counts_add_up(const twill_report *report, size_t n)
{
    assert(report->total == n);
    assert(report->done + report->failed + report->skipped == n);
}

struct side {
    twill__thrd thread;
    twill_fan *fan;
    twill_until until;
    twill_status status;
    twill_outcome outcome;
};

static inline void begin(struct side *side, twill_fan *fan, void (*fn)(void *side))
{
    memset(&side->thread, 0, sizeof side->thread);
    side->thread.fn = fn;
    side->thread.arg = side;
    side->thread.cpu = UINT_MAX;
    side->fan = fan;
    assert(twill__thread_start(&side->thread));
}

static inline void end(struct side *side)
{
    twill__thread_join(&side->thread);
}

static _Atomic unsigned through;

static inline void next_one(void *side_)
{
    struct side *side = side_;
    side->status = twill_fan_next_until(side->fan, NULL, &side->outcome, side->until);
    atomic_fetch_add(&through, 1);
}

/* Until so many calls have begun, or are through. */
static inline void wait_inside(twill_fan *fan, unsigned calls)
{
    for (;;) { /* in this order: nobody is counted twice */
        unsigned out = atomic_load(&through);
        if (out + atomic_load(&fan->visits) >= calls)
            return;
        twill__yield();
    }
}
#endif
