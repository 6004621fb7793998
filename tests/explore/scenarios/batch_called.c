/* A lot becomes ready while the worker, which looks without the lock, goes to sleep. */
#include "batch_common.h"

int main(void)
{
    struct side one = {.item = 1};
    twill_batcher *batcher;
    twill_batch_options options = {.max_items = 1, .linger = TWILL_FOREVER};
    assert(twill_batcher_create(&batcher, see, &options) == TWILL_OK);
    go(&one, add_one, batcher);
    assert(twill_batcher_add(batcher, &items[0], NULL) == TWILL_OK);
    end(&one);
    assert(twill_batcher_flush(batcher) == TWILL_OK); /* nothing is open: it calls nobody */
    assert(atomic_load(&seen[0]) == 1 && atomic_load(&seen[1]) == 1);
    check_books(batcher);
    assert(twill_batcher_destroy(batcher) == TWILL_OK);
    return 0;
}
