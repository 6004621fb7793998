/* A packed lot fails in a worker's hands and is tried again item by item, while another item
   without a future comes in, and one with a future, which unpacks the open lot. */
#include "batch_common.h"

static _Atomic int calls;

static int fails_once(twill_batch *batch, const twill_task *task)
{
    if (atomic_fetch_add(&calls, 1) == 0)
        return 7;
    return see(batch, task);
}

static void add_asked(void *side_)
{
    struct side *side = side_;
    side->status = twill_batcher_add(side->batcher, &items[side->item], &side->future);
}

int main(void)
{
    struct side one = {.item = 1}, two = {.item = 2};
    twill_outcome outcome;
    twill_batcher *batcher = batcher_of(
        fails_once, (twill_batch_options){.max_items = 2, .linger = TWILL_US(1), .attempts = 2});
    assert(twill_batcher_add(batcher, &items[0], NULL) == TWILL_OK);
    go(&one, add_one, batcher);
    go(&two, add_asked, batcher);
    assert(twill_batcher_flush(batcher) == TWILL_OK);
    assert(atomic_load(&told[0]) == 1);
    end(&one);
    end(&two);
    assert(twill_future_wait(two.future, NULL, &outcome) == TWILL_OK);
    assert(outcome.key == &items[2]);
    twill_future_release(two.future);
    check_books(batcher);
    assert(twill_batcher_destroy(batcher) == TWILL_OK);
    check_told(3);
    for (int i = 0; i < 3; i++)
        assert(atomic_load(&how[i]) == TWILL_OK);
    return 0;
}
