/* A delayed task is cancelled, and the worker that kept its time is called away until a later one
   has run: that one's time comes all the same, since another worker, parked for ever, is woken to
   keep it. */
#include "pool_common.h"

static _Atomic uint32_t over;

static int wait_for_it(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    while (!atomic_load(&over))
        (void)twill__park(&over, 0, 0);
    return 0;
}

static int be_it(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    atomic_store(&over, 1);
    twill__wake(&over, 1);
    return 0;
}

int main(void)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 2});
    twill_submit_options soon = {.start_at = twill_now() + TWILL_SEC(1)},
                         later = {.start_at = twill_now() + TWILL_SEC(2)};
    twill_future first;

    assert(twill_pool_submit(pool, run_it, NULL, &first, &soon) == TWILL_OK);
    (void)twill_future_cancel(first); /* it may have run */
    twill_future_release(first);
    (void)twill_sleep(twill_within(TWILL_MS(100)));
    assert(twill_pool_submit(pool, wait_for_it, NULL, NULL, NULL) == TWILL_OK);
    (void)twill_sleep(twill_within(TWILL_MS(100)));
    assert(twill_pool_submit(pool, be_it, NULL, NULL, &later) == TWILL_OK);
    assert(twill_pool_destroy(pool) == TWILL_OK);
    return 0;
}
