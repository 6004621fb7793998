/* Two flushes wait while the last item ends and another comes in. */
#include "batch_common.h"

int main(void)
{
    struct side one = {.item = 1}, two = {.item = 0};
    twill_batcher *batcher =
        batcher_of(see, (twill_batch_options){.max_items = 2, .linger = TWILL_FOREVER});
    assert(twill_batcher_add(batcher, &items[0], NULL) == TWILL_OK);
    two.until = twill_within(TWILL_US(1));
    go(&one, add_one, batcher);
    go(&two, flush, batcher);
    assert(twill_batcher_flush(batcher) == TWILL_OK);
    assert(atomic_load(&told[0]) == 1);
    end(&one);
    end(&two);
    assert(two.status == TWILL_OK || two.status == TWILL_TIMEOUT);
    check_books(batcher);
    assert(twill_batcher_destroy(batcher) == TWILL_OK);
    check_told(2);
    return 0;
}
