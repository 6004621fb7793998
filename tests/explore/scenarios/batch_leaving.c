/* Two adds wait for room when there is some, and one of them gives up just then: it has its place,
   or it has gone and the other one has; no place is lost, and none is given twice. */
#include "batch_common.h"

static twill_cancel token;

int main(void)
{
    struct side one = {.item = 1, .until.cancel = &token}, two = {.item = 2};
    twill_batcher *batcher = batcher_of(
        see, (twill_batch_options){.max_items = 1, .linger = TWILL_FOREVER, .capacity = 1});
    twill_cancel_init(&token, NULL);
    assert(twill_batcher_add(batcher, &items[0], NULL) == TWILL_OK);
    go(&one, add_one, batcher);
    go(&two, add_one, batcher);
    twill_cancel_fire(&token, 1);
    end(&one);
    end(&two);
    assert(two.status == TWILL_OK);
    assert(one.status == TWILL_OK || one.status == TWILL_CANCELLED);
    assert(twill_batcher_flush(batcher) == TWILL_OK);
    check_books(batcher);
    assert(twill_batcher_destroy(batcher) == TWILL_OK);
    for (int i = 0; i < 3; i++)
        assert(atomic_load(&told[i]) == (i != 1 || one.status == TWILL_OK));
    twill_cancel_detach(&token);
    return 0;
}
