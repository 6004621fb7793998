/* A call from a pool's task: its only worker number is that of a task whose time is over, and which
   goes on. The caller would run the item that waits; it sleeps, and does not ask again and again.
   EXPLORE: --punctual */
#include "fan_common.h"

#include "twill_worker_pool.h"

static twill_pool *pool;

static int deaf(const void *item, void *result, const twill_task *me)
{
    (void)item, (void)result, (void)me;
    (void)twill_sleep(twill_within(TWILL_MS(20)));
    return 0;
}

static int call(void *arg, void *result, const twill_task *me)
{
    static const int items[2];
    twill_report report;

    (void)arg, (void)result, (void)me;
    (void)twill_fan_out_fan_in(
        items, sizeof *items, 2, deaf, 0, NULL,
        &(twill_fan_options){.run = {.pool = pool, .workers = 1, .report = &report},
                             .timeout = TWILL_MS(1),
                             .max_abandoned = 1});
    counts_add_up(&report, 2);
    return 0;
}

int main(void)
{
    quiet();
    assert(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 2}) == TWILL_OK);
    assert(twill_pool_submit(pool, call, NULL, NULL, NULL) == TWILL_OK);
    assert(twill_pool_wait_idle(pool) == TWILL_OK);
    assert(twill_pool_destroy(pool) == TWILL_OK);
    while (atomic_load(&live_blocks))
        (void)twill_sleep(twill_within(TWILL_US(100)));
    return 0;
}
