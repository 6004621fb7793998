/* on_item and the callback add to their own batcher, which is full. */
#include "batch_common.h"

static twill_batcher *self;

static int adds(twill_batch *batch, const twill_task *task)
{
    if (twill_batch_item(batch, 0) == &items[0]) {
        twill_status status = twill_batcher_add(self, &items[2], NULL);
        assert(status == TWILL_OK || status == TWILL_DEADLOCK);
        if (status != TWILL_OK)
            tell(&items[2], &(twill_outcome){.status = TWILL_FULL}, NULL, task);
    }
    return see(batch, task);
}

int main(void)
{
    struct side one = {.item = 1};
    self = batcher_of(adds, (twill_batch_options){.max_items = 1, .capacity = 2});
    go(&one, add_one, self);
    assert(twill_batcher_add(self, &items[0], NULL) == TWILL_OK);
    end(&one);
    assert(one.status == TWILL_OK);
    assert(twill_batcher_flush(self) == TWILL_OK);
    check_books(self);
    assert(twill_batcher_destroy(self) == TWILL_OK);
    check_told(3);
    return 0;
}
