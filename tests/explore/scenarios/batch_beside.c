/* An item that has failed waits longer for its next attempt than it may live. The worker that had
   it is held up by on_item of another one; the other worker, who is idle, ends it in time.
   EXPLORE: --punctual */
#include "explore.h"
#include "batch_common.h"

static twill_ns ended[2];

static int one_is_bad(twill_batch *batch, const twill_task *task)
{
    (void)see(batch, task);
    for (size_t i = 0; i < batch->count; i++)
        twill_batch_set(batch, i, twill_batch_item(batch, i) == &items[0] ? 5 : 0);
    return 0;
}

static void tell_slowly(void *item, const twill_outcome *outcome, void *result,
                        const twill_task *task)
{
    ended[(int *)item - items] = twill_now();
    if (outcome->status == TWILL_OK)
        (void)twill_sleep(twill_within(TWILL_MS(20)));
    tell(item, outcome, result, task);
}

int main(void)
{
    twill_batcher *batcher;
    twill_batch_options options = {.run.workers = 2,
                                   .max_items = 2,
                                   .linger = TWILL_US(10),
                                   .item_timeout = TWILL_MS(1),
                                   .attempts = 2,
                                   .backoff = TWILL_SEC(1),
                                   .seed = 1,
                                   .on_item = tell_slowly};
    twill_ns begun = twill_now();
    assert(twill_batcher_create(&batcher, one_is_bad, &options) == TWILL_OK);
    assert(twill_batcher_add(batcher, &items[0], NULL) == TWILL_OK);
    assert(twill_batcher_add(batcher, &items[1], NULL) == TWILL_OK);
    assert(twill_batcher_destroy(batcher) == TWILL_OK);
    assert(atomic_load(&told[0]) == 1 && atomic_load(&told[1]) == 1);
    if (atomic_load(&seen[0]) == 1) { /* not too late already, as when a linger parted the two */
        EXPLORE_REACHED("too old before its next attempt");
        assert(atomic_load(&how[0]) == TWILL_TIMEOUT);
        assert(ended[0] >= begun + TWILL_MS(1) && ended[0] < begun + TWILL_MS(2));
    }
    return 0;
}
