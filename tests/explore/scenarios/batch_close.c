/* An add meets a close meets the expiry of the open batch. */
#include "batch_common.h"

int main(void)
{
    struct side one = {.item = 1};
    twill_batcher *batcher =
        batcher_of(see, (twill_batch_options){.max_items = 3, .linger = TWILL_US(1)});
    assert(twill_batcher_add(batcher, &items[0], NULL) == TWILL_OK);
    go(&one, add_one, batcher);
    assert(twill_batcher_close(batcher) == TWILL_OK);
    end(&one);
    assert(one.status == TWILL_OK || one.status == TWILL_CLOSED);
    assert(twill_batcher_flush(batcher) == TWILL_OK);
    check_books(batcher);
    assert(twill_batcher_destroy(batcher) == TWILL_OK);
    check_told(one.status == TWILL_OK ? 2 : 1);
    return 0;
}
