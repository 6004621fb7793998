/* On a pool, where the only worker number is in a long call. Who waits for room would look after
   what is due; it sleeps until it can, and does not ask again and again.
   EXPLORE: --punctual */
#include "batch_common.h"
#include "twill_worker_pool.h"

static int takes_long(twill_batch *batch, const twill_task *task)
{
    (void)see(batch, task);
    (void)twill_sleep(twill_within(TWILL_MS(20)));
    return 0;
}

int main(void)
{
    twill_batch_options options = {.max_items = 2, .capacity = 2, .linger = TWILL_MS(1)};
    twill_batcher *batcher;

    assert(twill_pool_create(&options.run.pool, &(twill_pool_options){.run.workers = 1}) ==
           TWILL_OK);
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
