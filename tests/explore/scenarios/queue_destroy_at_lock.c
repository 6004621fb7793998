/* A destroy that gets the lock while calls stand before it: those that have come so far are served,
   and the memory goes after the last of them. */
#define QUEUE_ENGINE TWILL_ENGINE_LOCK
#include "queue_common.h"

static void try_one(void *side_)
{
    struct side *side = side_;
    side->status = side->item ? twill_queue_try_push(side->queue, &side->item)
                              : twill_queue_try_pop(side->queue, &side->item);
}

int main(void)
{
    struct side push = {.item = 1}, pop = {.item = 0};
    twill_queue *queue = queue_of(1);

    twill__queue_lock(queue);
    go(&push, try_one, queue);
    go(&pop, try_one, queue);
    while (atomic_load(&queue->lock.waiters) / TWILL__WAITER < 2) /* until both stand there */
        twill__yield();
    twill__light_unlock(&queue->lock);
    assert(twill_queue_destroy(queue) == TWILL_OK);
    end(&push);
    end(&pop);
    assert(push.status == TWILL_OK || push.status == TWILL_CLOSED);
    assert(pop.status == TWILL_OK ? push.status == TWILL_OK
                                  : pop.status == TWILL_EMPTY || pop.status == TWILL_CLOSED);
    return 0;
}
