/* A pool's only worker has one task after the other to do, until two batchers that were given the
   pool have worked, too: two have work at once, or one has something due. No task keeps it from
   looking at each of them. */
#include "explore.h"

#include "batch_common.h"
#include "twill_worker_pool.h"

static _Atomic unsigned left;
static _Atomic bool ready;
static twill_pool *pool;

static int go_on(void *arg, void *result, const twill_task *task)
{
    (void)result, (void)task;
    (void)twill_sleep(twill_within(TWILL_US(100)));
    if (!atomic_load(&ready) || atomic_load(&left))
        assert(twill_pool_submit(pool, go_on, arg, NULL, NULL) == TWILL_OK);
    return 0;
}

static int be_it(twill_batch *batch, const twill_task *task)
{
    atomic_fetch_sub(&left, 1);
    return see(batch, task);
}

int main(void)
{
    int count = EXPLORE_CHOICE(2, 0) ? 2 : 1;
    twill_batch_options options = {.max_items = 1};
    twill_batcher *batcher[2];

    if (count == 1)
        options.max_items = 2, options.linger = TWILL_MS(1);
    assert(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 1}) == TWILL_OK);
    options.run.pool = pool;
    atomic_store(&left, (unsigned)count);
    for (int k = 0; k < count; k++)
        batcher[k] = batcher_of(be_it, options);
    assert(twill_pool_submit(pool, go_on, NULL, NULL, NULL) == TWILL_OK);
    for (int k = 0; k < count; k++)
        assert(twill_batcher_add(batcher[k], &items[k], NULL) == TWILL_OK);
    atomic_store(&ready, true);
    assert(twill_pool_wait_idle(pool) == TWILL_OK);
    assert(!atomic_load(&left));
    for (int k = 0; k < count; k++)
        assert(twill_batcher_destroy(batcher[k]) == TWILL_OK);
    check_told(count);
    assert(twill_pool_destroy(pool) == TWILL_OK);
    return 0;
}
