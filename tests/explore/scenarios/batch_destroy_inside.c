/* Destroy while an add waits for room: it is told CLOSED, or its item is processed. */
#include "batch_common.h"

static _Atomic int ready;

static int held(twill_batch *batch, const twill_task *task)
{
    while (!atomic_load(&ready))
        twill__yield();
    return see(batch, task);
}

int main(void)
{
    struct side one = {.item = 1};
    twill_batcher *batcher = batcher_of(held, (twill_batch_options){.max_items = 1, .capacity = 1});
    assert(twill_batcher_add(batcher, &items[0], NULL) == TWILL_OK);
    go(&one, add_one, batcher);
    for (bool inside = false; !inside;) { /* until it has reached the line */
        twill__yield();
        twill__light_take(&batcher->lock, TWILL__BATCHER_SPIN);
        inside = batcher->adders.first != NULL;
        twill__light_unlock(&batcher->lock);
    }
    atomic_store(&ready, 1);
    assert(twill_batcher_destroy(batcher) == TWILL_OK);
    end(&one);
    assert(one.status == TWILL_OK || one.status == TWILL_CLOSED);
    check_told(one.status == TWILL_OK ? 2 : 1);
    return 0;
}
