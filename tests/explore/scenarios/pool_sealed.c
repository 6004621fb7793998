/* A stop is past its drain: while a callback of the first task that it cancels takes its time, or
   waits for the next one, the worker begins none. */
#include "explore.h"
#include "pool_common.h"

static twill_future next;
static _Atomic bool dropping;

static void drop_slowly(void *waits, twill_status why, const twill_task *task)
{
    (void)why, (void)task;
    atomic_store(&dropping, true);
    if (waits)
        assert(twill_future_wait(next, NULL, NULL) == TWILL_FAILED);
    else
        (void)twill_sleep(twill_within(TWILL_US(10)));
}

static int begins(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    assert(!atomic_load(&dropping)); /* it stood behind the one that is dropped */
    return 0;
}

static int hook(void **state, const twill_task *task)
{
    (void)state, (void)task;
    return 0;
}

int main(void)
{
    bool waits = EXPLORE_CHOICE(2, 0);
    twill_pool *pool =
        pool_of(&(twill_pool_options){.run.workers = 1, .run.worker_start = waits ? hook : NULL});

    assert(twill_pool_submit(pool, run_it, NULL, NULL, NULL) == TWILL_OK);
    assert(twill_pool_submit(pool, run_it, waits ? &next : NULL, NULL,
                             &(twill_submit_options){.drop = drop_slowly}) == TWILL_OK);
    assert(twill_pool_submit(pool, begins, NULL, &next, NULL) == TWILL_OK);
    assert(twill_pool_stop(pool, twill_within(0), (twill_until){0, NULL}, NULL) == TWILL_OK);
    twill_future_release(next);
    assert(twill_pool_destroy(pool) == TWILL_OK);
    return 0;
}
