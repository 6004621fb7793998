/* on_item takes its time for an item whose own is over: those who wait for its future sleep until
   it has been told. EXPLORE: --max-steps=1500 */
#include "batch_common.h"
#include "explore.h"

static void await(void *side_)
{
    struct side *side = side_;
    side->status = twill_future_wait(side->future, NULL, NULL);
}

static int slow(twill_batch *batch, const twill_task *task)
{
    (void)see(batch, task);
    (void)twill_sleep(twill_within(EXPLORE_CHOICE(4, 0)));
    return 0;
}

int main(void)
{
    struct side one = {.item = 0}, two;
    twill_batcher *batcher =
        batcher_of(slow, (twill_batch_options){.max_items = 1, .linger = 1, .item_timeout = 3});
    telling = TWILL_MS(1);
    assert(twill_batcher_add(batcher, &items[0], &one.future) == TWILL_OK);
    two = one;
    go(&one, await, batcher);
    go(&two, await, batcher);
    end(&one);
    end(&two);
    assert(one.status == two.status);
    twill_future_release(one.future);
    assert(twill_batcher_destroy(batcher) == TWILL_OK);
    check_told(1);
    return 0;
}
