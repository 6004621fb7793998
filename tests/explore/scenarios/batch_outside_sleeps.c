/* On a pool, where the only worker number is in a long call and a batch is ready. Who waits from
   outside, for room or for the end, sleeps, as there may be many such: to ask at each millisecond
   would be too many steps here.
   EXPLORE: --punctual */
#include "batch_common.h"
#include "twill_worker_pool.h"

static int takes_long(twill_batch *batch, const twill_task *task)
{
    (void)see(batch, task);
    (void)twill_sleep(twill_within(TWILL_SEC(2)));
    return 0;
}

int main(void)
{
    twill_batch_options options = {.max_items = 1, .capacity = 2};
    twill_batcher *batcher;

    assert(twill_pool_create(&options.run.pool, &(twill_pool_options){.run.workers = 1}) ==
           TWILL_OK);
    options.run.workers = 1;
    batcher = batcher_of(takes_long, options);
    assert(twill_batcher_add(batcher, &items[0], NULL) == TWILL_OK);
    while (!atomic_load(&seen[0]))
        (void)twill_sleep(twill_within(TWILL_US(100)));
    assert(twill_batcher_add(batcher, &items[1], NULL) == TWILL_OK);
    assert(twill_batcher_add(batcher, &items[2], NULL) == TWILL_OK);
    assert(twill_batcher_destroy(batcher) == TWILL_OK);
    check_told(3);
    assert(twill_pool_destroy(options.run.pool) == TWILL_OK);
    return 0;
}
