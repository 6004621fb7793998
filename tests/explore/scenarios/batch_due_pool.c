/* The worker of a pool that keeps the time of an open lot is called away by a task, until that lot
   was seen: its time comes all the same, since another worker, parked for ever, is woken to keep
   it. */
#include "batch_common.h"
#include "twill_worker_pool.h"

#include <limits.h>

static _Atomic uint32_t over;

static int wait_for_it(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    while (!atomic_load(&over))
        (void)twill__park(&over, 0, 0);
    return 0;
}

static int be_it(twill_batch *batch, const twill_task *task)
{
    atomic_store(&over, 1);
    twill__wake(&over, INT_MAX);
    return see(batch, task);
}

int main(void)
{
    twill_batch_options options = {.max_items = 2, .linger = TWILL_SEC(1)};
    twill_batcher *batcher;

    assert(twill_pool_create(&options.run.pool, &(twill_pool_options){.run.workers = 2}) ==
           TWILL_OK);
    batcher = batcher_of(be_it, options);
    assert(twill_batcher_add(batcher, &items[0], NULL) == TWILL_OK);
    (void)twill_sleep(twill_within(TWILL_MS(100)));
    assert(twill_pool_submit(options.run.pool, wait_for_it, NULL, NULL, NULL) == TWILL_OK);
    while (!atomic_load(&over)) /* nobody closes, which would flush it */
        (void)twill__park(&over, 0, 0);
    assert(twill_batcher_destroy(batcher) == TWILL_OK);
    check_told(1);
    assert(twill_pool_destroy(options.run.pool) == TWILL_OK);
    return 0;
}
