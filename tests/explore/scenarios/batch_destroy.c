/* Destroy with an add that waits for room and a flush inside, or on their way out. */
#include "batch_common.h"

int main(void)
{
    struct side one = {.item = 1}, two = {.item = 0};
    twill_batcher_stats s;
    twill_batcher *batcher = batcher_of(see, (twill_batch_options){.max_items = 1, .capacity = 1});
    two.until = twill_within(TWILL_US(1));
    assert(twill_batcher_add(batcher, &items[0], NULL) == TWILL_OK);
    go(&one, add_one, batcher);
    go(&two, flush, batcher);
    do { /* both inside, or done */
        twill__yield();
        twill_batcher_get_stats(batcher, &s);
    } while (s.done == 0);
    twill_batcher_close(batcher);
    end(&two);
    end(&one);
    assert(twill_batcher_destroy(batcher) == TWILL_OK);
    assert(one.status == TWILL_OK || one.status == TWILL_CLOSED);
    assert(two.status == TWILL_OK || two.status == TWILL_TIMEOUT);
    check_told(one.status == TWILL_OK ? 2 : 1);
    return 0;
}
