/* A destroy that begins while an add stands before the lock: it is served, however late it comes to
   be counted, and the memory goes after it has left. */
#include "batch_common.h"

int main(void)
{
    struct side one = {.item = 0};
    twill_batcher *batcher = batcher_of(see, (twill_batch_options){.max_items = 1, .capacity = 1});
    twill__light_take(&batcher->lock, TWILL__BATCHER_SPIN);
    go(&one, add_one, batcher);
    while (!twill__light_wanted(&batcher->lock)) /* until it stands there */
        twill__yield();
    twill__light_unlock(&batcher->lock);
    assert(twill_batcher_destroy(batcher) == TWILL_OK);
    end(&one);
    assert(one.status == TWILL_OK || one.status == TWILL_CLOSED);
    check_told(one.status == TWILL_OK ? 1 : 0);
    return 0;
}
