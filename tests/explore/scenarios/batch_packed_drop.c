/* DROP_OLDEST and a stop without patience meet a worker that takes the same packed lot. */
#include "batch_common.h"

int main(void)
{
    struct side one = {.item = 2};
    twill_stopped stopped;
    twill_batcher *batcher =
        batcher_of(see, (twill_batch_options){.max_items = 2,
                                              .capacity = 2,
                                              .linger = TWILL_US(1),
                                              .overflow = TWILL_OVERFLOW_DROP_OLDEST});
    for (int i = 0; i < 2; i++)
        assert(twill_batcher_add(batcher, &items[i], NULL) == TWILL_OK);
    go(&one, add_one, batcher);
    assert(twill_batcher_stop(batcher, twill_within(TWILL_US(1)), (twill_until){0, NULL},
                              &stopped) == TWILL_OK);
    end(&one);
    assert(one.status == TWILL_OK || one.status == TWILL_FULL || one.status == TWILL_CLOSED);
    assert(stopped.stuck == 0);
    check_books(batcher);
    assert(twill_batcher_destroy(batcher) == TWILL_OK);
    check_told(one.status == TWILL_OK ? 3 : 2);
    return 0;
}
