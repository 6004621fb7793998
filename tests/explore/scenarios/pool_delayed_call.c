/* The worker that keeps the time of a delayed task is called away by a parallel loop, which needs
   the task to have run: its time comes all the same, since another worker, parked for ever, is
   woken to keep it. */
#include "pool_common.h"
#include "twill_parallel_map.h"

#include <limits.h>

static _Atomic uint32_t over;

static int be_it(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    atomic_store(&over, 1);
    twill__wake(&over, INT_MAX);
    return 0;
}

static int wait_for_it(const twill_task *task)
{
    (void)task;
    while (!atomic_load(&over))
        (void)twill__park(&over, 0, 0);
    return 0;
}

int main(void)
{
    twill_submit_options later = {.start_at = twill_now() + TWILL_SEC(1)};
    twill_parallel_options options = {.chunk = 1};

    options.run.pool = pool_of(&(twill_pool_options){.run.workers = 2});
    assert(twill_pool_submit(options.run.pool, be_it, NULL, NULL, &later) == TWILL_OK);
    (void)twill_sleep(twill_within(TWILL_MS(100)));
    assert(twill_parallel_for(2, wait_for_it, &options) == TWILL_OK);
    assert(twill_pool_destroy(options.run.pool) == TWILL_OK);
    return 0;
}
