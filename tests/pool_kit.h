/* pool_kit.h: gates, notes and tasks that the tests of pools share. Include it after harness.h and
   the twill headers. */
#ifndef TWILL_POOL_KIT_H
#define TWILL_POOL_KIT_H

#include <pthread.h>
#include <stdint.h>
#ifndef TWILL_USE_PTHREAD
#include <threads.h>
#endif

/* Tells threads that live apart. */
static inline uint64_t thread_mark(void)
{
    return (uint64_t)(uintptr_t)pthread_self();
}

/* A gate that tasks wait at; `inside` counts those who have come to it. */
struct gate {
    atomic_uint inside, open;
};

static inline void gate_open(struct gate *gate)
{
    atomic_store(&gate->open, 1);
}

static inline bool gate_inside(struct gate *gate, unsigned count)
{
    twill_ns end = twill_now() + TWILL_SEC(100);

    while (atomic_load(&gate->inside) < count) {
        if (twill_now() > end)
            return false;
        (void)twill_sleep(twill_within(TWILL_US(30)));
    }
    return true;
}

static inline bool gate_wait(struct gate *gate)
{
    twill_ns end = twill_now() + TWILL_SEC(100);

    atomic_fetch_add(&gate->inside, 1);
    while (!atomic_load(&gate->open)) {
        if (twill_now() > end)
            return false;
        (void)twill_sleep(twill_within(TWILL_US(30)));
    }
    return true;
}

static inline int at_gate(void *gate, void *result, const twill_task *task)
{
    (void)result, (void)task;
    return gate_wait(gate) ? 0 : 99;
}

/* at the gate, or until told */
static inline int at_gate_or_told(void *gate_, void *result, const twill_task *task)
{
    struct gate *gate = gate_;

    (void)result;
    atomic_fetch_add(&gate->inside, 1);
    while (!atomic_load(&gate->open)) {
        if (twill_task_cancelled(task))
            return twill_task_skip(task);
        (void)twill_sleep(twill_within(TWILL_US(30)));
    }
    return 0;
}

static inline int count_up(void *counter, void *result, const twill_task *task)
{
    (void)result, (void)task;
    atomic_fetch_add((atomic_uint *)counter, 1);
    return 0;
}

static inline int number_of(void *number, void *result, const twill_task *task)
{
    (void)task;
    if (result)
        *(intptr_t *)result = (intptr_t)number;
    return 0;
}

static inline int fail_with(void *code, void *result, const twill_task *task)
{
    (void)result, (void)task;
    return (int)(intptr_t)code;
}

/* What happened, in order. */
struct notes {
    atomic_uint count;
    atomic_int what[4096];
};

static inline void note(struct notes *notes, int what)
{
    unsigned at = atomic_fetch_add(&notes->count, 1);

    if (at < 4096)
        atomic_store(&notes->what[at], what);
}

static inline twill_pool *pool_of(const twill_pool_options *options)
{
    twill_pool *pool = NULL;

    CHECK_EQ(twill_pool_create(&pool, options), TWILL_OK);
    return pool;
}

static inline bool books_balance(const twill_pool_stats *s)
{
    return CHECK_EQ(s->submitted,
                    s->done + s->failed + s->timed_out + s->cancelled + s->dropped + s->lost);
}

static inline twill_pool_stats stats_of(twill_pool *pool)
{
    twill_pool_stats stats;

    twill_pool_get_stats(pool, &stats);
    return stats;
}

static inline twill_pool_stats idle_stats(twill_pool *pool)
{
    twill_pool_stats stats;

    CHECK_EQ(twill_pool_wait_idle(pool), TWILL_OK);
    stats = stats_of(pool);
    (void)books_balance(&stats);
    return stats;
}

#endif
