/* Two pushes, two pops and a close at any moment, room for one: the books balance. */
#include "queue_common.h"

static void two(void *side_)
{
    struct side *side = side_;
    int item = side->item, got = 0;
    side->status = TWILL_OK;
    for (int k = 0; k < 2 && side->status == TWILL_OK; k++) {
        side->status =
            side->item ? twill_queue_push(side->queue, &item) : twill_queue_pop(side->queue, &item);
        got += side->status == TWILL_OK;
    }
    side->item = got;
}

int main(void)
{
    struct side push = {.item = 1}, pop = {.item = 0};
    twill_queue *queue = queue_of(1);

    go(&push, two, queue);
    go(&pop, two, queue);
    assert(twill_queue_close(queue) == TWILL_OK);
    end(&push);
    end(&pop);
    assert(push.item == pop.item + (int)twill_queue_length(queue));
    assert(push.status == TWILL_OK || push.status == TWILL_CLOSED);
    check_books(queue);
    assert(twill_queue_destroy(queue) == TWILL_OK);
    return 0;
}
