/* Stop gives up at once, while a worker takes a batch and another item waits to be tried again. */
#include "batch_common.h"

static int first_fails(twill_batch *batch, const twill_task *task)
{
    int item = (int)((int *)twill_batch_item(batch, 0) - items);
    (void)task;
    if (item == 0)
        return 7;
    return see(batch, task);
}

int main(void)
{
    twill_stopped stopped;
    twill_batcher *batcher = batcher_of(
        first_fails,
        (twill_batch_options){.max_items = 1, .attempts = 2, .backoff = TWILL_US(5), .seed = 1});
    for (int i = 0; i < 3; i++)
        assert(twill_batcher_add(batcher, &items[i], NULL) == TWILL_OK);
    assert(twill_batcher_stop(batcher, twill_within(0), (twill_until){0, NULL}, &stopped) ==
           TWILL_OK);
    assert(stopped.stuck == 0 && stopped.finished + stopped.cancelled <= 3);
    check_books(batcher);
    assert(twill_batcher_destroy(batcher) == TWILL_OK);
    check_told(3);
    assert(atomic_load(&how[0]) == TWILL_FAILED || atomic_load(&how[0]) == TWILL_CANCELLED);
    return 0;
}
