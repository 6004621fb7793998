/* One waits until there is something, one takes it, and a third closes behind the push. */
#include "queue_common.h"

static void ready(void *side_)
{
    struct side *side = side_;
    side->status = twill_queue_ready_until(side->queue, side->until);
}

static void push_and_close(void *side_)
{
    push_one(side_);
    (void)twill_queue_close(((struct side *)side_)->queue);
}

int main(void)
{
    struct side watch = {.item = 0}, push = {.item = 3}, pop = {.item = 0};
    twill_queue *queue = queue_of(1);

    go(&watch, ready, queue);
    go(&pop, pop_one, queue);
    go(&push, push_and_close, queue);
    end(&watch);
    end(&pop);
    end(&push);
    assert(pop.status == TWILL_OK && pop.item == 3);
    assert(watch.status == TWILL_OK || watch.status == TWILL_CLOSED);
    check_books(queue);
    assert(twill_queue_destroy(queue) == TWILL_OK);
    return 0;
}
