/* A callback of a task that is too late waits for another one: for one that is too late as well, or
   for the next one of the only worker. */
#include "explore.h"
#include "pool_common.h"

static twill_future other;

static void wait_for_other(const twill_outcome *outcome, void *result, const twill_task *task)
{
    (void)outcome, (void)result, (void)task;
    assert(twill_future_wait(other, NULL, NULL) <= TWILL_FAILED);
}

static int wait_until_late(void *by, void *result, const twill_task *task)
{
    (void)result, (void)task;
    assert(twill_sleep((twill_until){*(twill_ns *)by, NULL}) == TWILL_OK);
    return 0;
}

int main(void)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1});
    twill_ns by = twill_now() + TWILL_US(50);
    twill_submit_options late = {.start_by = by};

    assert(twill_pool_submit(pool, wait_until_late, &by, NULL, NULL) == TWILL_OK);
    assert(twill_pool_submit(pool, run_it, NULL, &other, EXPLORE_CHOICE(2, 0) ? &late : NULL) ==
           TWILL_OK);
    late.on_done = wait_for_other;
    assert(twill_pool_submit(pool, run_it, NULL, NULL, &late) == TWILL_OK);
    assert(twill_pool_destroy(pool) == TWILL_OK);
    twill_future_release(other);
    return 0;
}
