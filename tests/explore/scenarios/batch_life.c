/* Two threads add to batches of two; one is left for the linger or for destroy. */
#include "batch_common.h"

int main(void)
{
    struct side one = {.item = 1}, two = {.item = 2};
    twill_batcher *batcher =
        batcher_of(see, (twill_batch_options){.max_items = 2, .linger = TWILL_US(1)});
    go(&one, add_one, batcher);
    go(&two, add_one, batcher);
    assert(twill_batcher_add(batcher, &items[0], NULL) == TWILL_OK);
    end(&one);
    end(&two);
    assert(one.status == TWILL_OK && two.status == TWILL_OK);
    check_books(batcher);
    assert(twill_batcher_destroy(batcher) == TWILL_OK);
    check_told(3);
    return 0;
}
