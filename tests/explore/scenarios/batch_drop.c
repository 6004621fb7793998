/* DROP_OLDEST and a cancel meet the batch that is taking the same item. */
#include "batch_common.h"

static void cancel(void *side_)
{
    struct side *side = side_;
    side->status = twill_future_cancel(side->future);
}

int main(void)
{
    struct side one = {.item = 2}, two = {.item = 0};
    twill_status status;
    twill_batcher *batcher =
        batcher_of(see, (twill_batch_options){.max_items = 2,
                                              .capacity = 2,
                                              .linger = TWILL_US(1),
                                              .overflow = TWILL_OVERFLOW_DROP_OLDEST});
    assert(twill_batcher_add(batcher, &items[0], &two.future) == TWILL_OK);
    assert(twill_batcher_add(batcher, &items[1], NULL) == TWILL_OK);
    go(&two, cancel, batcher);
    go(&one, add_one, batcher);
    end(&one);
    end(&two);
    assert(one.status == TWILL_OK || one.status == TWILL_FULL);
    status = twill_future_wait(two.future, NULL, NULL);
    assert(status == (atomic_load(&how[0]) == TWILL_OK ? TWILL_OK : TWILL_FAILED));
    twill_future_release(two.future);
    check_books(batcher);
    assert(twill_batcher_destroy(batcher) == TWILL_OK);
    check_told(one.status == TWILL_OK ? 3 : 2);
    return 0;
}
