/* Two workers, batches of one, one key, and a first attempt that fails: never two at once, and in
   the order of add. */
#include "batch_common.h"

static _Atomic int inside, last = -1;

static uint64_t one_key(const void *item, const twill_task *task)
{
    (void)item;
    (void)task;
    return 5;
}

static int alone(twill_batch *batch, const twill_task *task)
{
    int item = (int)((int *)twill_batch_item(batch, 0) - items);
    (void)task;
    assert(atomic_fetch_add(&inside, 1) == 0);
    assert(batch->count == 1);
    assert(atomic_load(&last) == item - (batch->attempt == 1) ||
           (item == 0 && batch->attempt == 2));
    atomic_store(&last, item);
    atomic_fetch_sub(&inside, 1);
    if (item == 0 && batch->attempt == 1)
        return 7;
    atomic_fetch_add(&seen[item], 1);
    return 0;
}

int main(void)
{
    twill_batcher *batcher = batcher_of(
        alone,
        (twill_batch_options){.max_items = 1, .run.workers = 2, .key_of = one_key, .attempts = 2});
    for (int i = 0; i < 3; i++)
        assert(twill_batcher_add(batcher, &items[i], NULL) == TWILL_OK);
    assert(twill_batcher_destroy(batcher) == TWILL_OK);
    check_told(3);
    assert(atomic_load(&last) == 2);
    return 0;
}
