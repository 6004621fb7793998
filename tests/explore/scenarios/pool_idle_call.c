/* The worker is in a parallel call until the end. A thread outside runs the next task of the queue
   itself, without the lock, since it waits for it, and main waits until the pool is idle: it hears
   of the end; or, if that task has submitted another one, does not take it for the end of both. */
#include "explore.h"
#include "pool_common.h"

static int has_a_child;
static _Atomic uint32_t begun, both_in, over;

static int stay(const void *in, void *out, const twill_task *task)
{
    (void)in, (void)out, (void)task;
    if (atomic_fetch_add(&both_in, 1) == 1)
        twill__wake(&both_in, 1);
    while (!atomic_load(&over)) /* exit: main has waited */
        twill__park(&over, 0, 0);
    return 0;
}

static void call(void *side_)
{
    struct side *side = side_;
    char items[2] = {0};

    side->status =
        twill_run_all(items, 1, NULL, 0, 2, stay, NULL,
                      &(twill_run_all_options){.run.pool = side->pool, .run.workers = 2});
}

static int run_next(void *pool, void *result, const twill_task *task)
{
    (void)result, (void)task;
    if (has_a_child)
        assert(twill_pool_submit(pool, run_it, NULL, NULL, NULL) == TWILL_OK);
    atomic_store_explicit(&begun, 1, memory_order_relaxed);
    twill__wake(&begun, 1);
    return 0;
}

static void wait_for_it(void *side_)
{
    struct side *side = side_;

    assert(twill_future_wait(side->future, NULL, NULL) == TWILL_OK);
    if (has_a_child) { /* main may wait for it */
        atomic_store(&over, 1);
        twill__wake(&over, 2);
    }
}

int main(void)
{
    struct side caller = {0}, other = {0};
    uint32_t seen;

    has_a_child = EXPLORE_CHOICE(2, 0);
    caller.pool = other.pool = pool_of(&(twill_pool_options){.run.workers = 1});
    go(&caller, call);
    while ((seen = atomic_load(&both_in)) < 2) /* exit: both are in the call */
        twill__park(&both_in, seen, 0);
    assert(twill_pool_submit(other.pool, run_next, other.pool, &other.future, NULL) == TWILL_OK);
    go(&other, wait_for_it);
    while (has_a_child && !atomic_load_explicit(&begun, memory_order_relaxed)) /* exit: it runs */
        twill__park(&begun, 0, 0);
    assert(twill_pool_wait_idle(other.pool) == TWILL_OK);
    assert(ran == (unsigned)has_a_child);
    atomic_store(&over, 1);
    twill__wake(&over, 2);
    end(&caller);
    end(&other);
    assert(caller.status == TWILL_OK);
    twill_future_release(other.future);
    assert(twill_pool_destroy(other.pool) == TWILL_OK);
    return 0;
}
