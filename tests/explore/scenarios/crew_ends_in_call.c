/* A callback of a batcher makes a call, the batcher's other thread helps, and an item ends it. It
   is replaced, as in a callback of the batcher itself: two later callbacks, that wait for one
   another, are at once. */
#include <pthread.h>

#include "batch_common.h"
#include "twill_parallel_map.h"

static _Atomic uint32_t inside;

static int item(const twill_task *task)
{
    if (task->worker != 0)
        pthread_exit(NULL);
    return 0;
}

static int call_or_meet(twill_batch *batch, const twill_task *task)
{
    if (twill_batch_item(batch, 0) == &items[0]) {
        (void)twill_parallel_for(2, item, NULL);
        return see(batch, task);
    }
    if (atomic_fetch_add(&inside, 1) + 1 == 2)
        twill__wake(&inside, INT_MAX);
    while (atomic_load(&inside) < 2)
        twill__park(&inside, 1, 0);
    return see(batch, task);
}

int main(void)
{
    twill_batcher *batcher =
        batcher_of(call_or_meet, (twill_batch_options){.max_items = 1, .run.workers = 2});
    twill_future future;

    assert(twill_batcher_add(batcher, &items[0], &future) == TWILL_OK);
    assert(twill_future_wait(future, NULL, NULL) == TWILL_OK);
    twill_future_release(future);
    for (int i = 1; i < 3; i++)
        assert(twill_batcher_add(batcher, &items[i], NULL) == TWILL_OK);
    assert(twill_batcher_destroy(batcher) == TWILL_OK);
    check_told(3);
    return 0;
}
