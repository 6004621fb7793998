/* A worker of a pool goes from a task, perhaps, into the batch of a batcher that was given the
   pool, which lasts until the pool is idle: what has ended is not waited for. */
#include "batch_common.h"
#include "twill_worker_pool.h"

#include <limits.h>

static _Atomic uint32_t over;

static int run_it(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    return 0;
}

static int wait_in_batch(twill_batch *batch, const twill_task *task)
{
    while (!atomic_load(&over))
        (void)twill__park(&over, 0, 0);
    return see(batch, task);
}

int main(void)
{
    twill_batch_options options = {.max_items = 1};
    twill_batcher *batcher;
    twill_pool *pool;

    assert(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 2}) == TWILL_OK);
    options.run.pool = pool;
    batcher = batcher_of(wait_in_batch, options);
    assert(twill_pool_submit(pool, run_it, NULL, NULL, NULL) == TWILL_OK);
    assert(twill_batcher_add(batcher, &items[0], NULL) == TWILL_OK);
    assert(twill_pool_wait_idle(pool) == TWILL_OK);
    atomic_store(&over, 1);
    twill__wake(&over, INT_MAX);
    assert(twill_batcher_destroy(batcher) == TWILL_OK);
    check_told(1);
    assert(twill_pool_destroy(pool) == TWILL_OK);
    return 0;
}
