/* One that pushes without the lock, one that waits until all is done, and a clear, after which that
   may be so for a moment: a join ends well, or goes on. */
#include "queue_common.h"

static void join_it(void *side_)
{
    struct side *side = side_;
    side->status = twill_queue_join(side->queue);
}

int main(void)
{
    struct side push = {.item = 3}, join = {0};
    twill_queue *queue = queue_of(3);
    int item = 2;

    assert(twill_queue_push(queue, &item) == TWILL_OK);
    go(&join, join_it, queue);
    go(&push, push_one, queue);
    (void)twill_queue_clear(queue);
    end(&push);
    (void)twill_queue_clear(queue);
    end(&join);
    assert(push.status == TWILL_OK && join.status == TWILL_OK);
    check_books(queue);
    assert(twill_queue_destroy(queue) == TWILL_OK);
    return 0;
}
