/* Of a pool's two workers one sleeps, and the other one is about to look round: who adds to a
   batcher that was given the pool counts on that one. But it takes a task, which waits until the
   batch has run: the sleeper is woken for it. */
#include "batch_common.h"
#include "twill_worker_pool.h"

#include <limits.h>

static _Atomic uint32_t over;

static void wait_for_it(void)
{
    while (!atomic_load(&over))
        (void)twill__park(&over, 0, 0);
}

static int wait_in_task(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    wait_for_it();
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
    twill_batch_options options = {.max_items = 1};
    twill_batcher *batcher;

    assert(twill_pool_create(&options.run.pool, &(twill_pool_options){.run.workers = 2}) ==
           TWILL_OK);
    batcher = batcher_of(be_it, options);
    assert(twill_pool_submit(options.run.pool, wait_in_task, NULL, NULL, NULL) == TWILL_OK);
    assert(twill_batcher_add(batcher, &items[0], NULL) == TWILL_OK);
    wait_for_it();
    assert(twill_batcher_destroy(batcher) == TWILL_OK);
    check_told(1);
    assert(twill_pool_destroy(options.run.pool) == TWILL_OK);
    return 0;
}
