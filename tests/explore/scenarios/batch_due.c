/* Lots become ready, and the open one's time comes, while two workers look without the lock whether
   there is something to do. Nobody is told of items: they are seen, or a flush hangs. */
#include "batch_common.h"

int main(void)
{
    struct side one = {.item = 1};
    twill_batcher *batcher;
    twill_batch_options options = {.max_items = 2, .linger = TWILL_US(1), .run.workers = 2};
    assert(twill_batcher_create(&batcher, see, &options) == TWILL_OK);
    go(&one, add_one, batcher);
    assert(twill_batcher_add(batcher, &items[0], NULL) == TWILL_OK);
    while (atomic_load(&seen[0]) == 0) /* by count or by time: nobody flushes */
        (void)twill_sleep(twill_within(TWILL_US(2)));
    assert(twill_batcher_add(batcher, &items[2], NULL) == TWILL_OK);
    end(&one);
    assert(twill_batcher_flush(batcher) == TWILL_OK);
    for (int i = 0; i < 3; i++)
        assert(atomic_load(&seen[i]) == 1);
    check_books(batcher);
    assert(twill_batcher_destroy(batcher) == TWILL_OK);
    return 0;
}
