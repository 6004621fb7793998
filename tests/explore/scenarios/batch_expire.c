/* An item's time is over while it waits, while it is in a call, or just when that returns; two
   threads wait for its future, another destroys the batcher. */
#include "batch_common.h"

static void await(void *side_)
{
    struct side *side = side_;
    twill_outcome outcome;
    side->status = twill_future_wait(side->future, NULL, &outcome);
    assert(side->status == (outcome.status == TWILL_OK ? TWILL_OK : TWILL_FAILED));
    assert(outcome.status == TWILL_OK || outcome.status == TWILL_TIMEOUT);
}

static int slow(twill_batch *batch, const twill_task *task)
{
    (void)see(batch, task);
    (void)twill_sleep(twill_within(2));
    return 0;
}

int main(void)
{
    struct side one = {.item = 0}, two = {.item = 0};
    twill_batcher *batcher =
        batcher_of(slow, (twill_batch_options){.max_items = 1, .linger = 1, .item_timeout = 3});
    assert(twill_batcher_add(batcher, &items[0], &one.future) == TWILL_OK);
    two.future = one.future;
    go(&one, await, batcher);
    go(&two, await, batcher);
    assert(twill_batcher_add(batcher, &items[1], NULL) == TWILL_OK);
    assert(twill_batcher_destroy(batcher) == TWILL_OK);
    end(&one);
    end(&two);
    twill_future_release(one.future);
    assert(one.status == two.status);
    assert(one.status == (atomic_load(&how[0]) == TWILL_OK ? TWILL_OK : TWILL_FAILED));
    check_told(2);
    return 0;
}
