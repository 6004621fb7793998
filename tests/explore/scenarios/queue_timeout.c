/* The deadline of a pop meets the only push: the item is with the one or in the queue. */
#include "queue_common.h"

int main(void)
{
    struct side pop = {.until = {0, NULL}}, push = {.item = 7};
    twill_queue *queue = queue_of(1);
    int left = 0;

    pop.until = twill_within(TWILL_US(1));
    go(&pop, pop_one, queue);
    go(&push, push_one, queue);
    end(&pop);
    end(&push);
    assert(push.status == TWILL_OK);
    assert(pop.status == TWILL_OK || pop.status == TWILL_TIMEOUT);
    assert(twill_queue_try_pop(queue, &left) == (pop.status ? TWILL_OK : TWILL_EMPTY));
    assert((pop.status ? left : pop.item) == 7);
    check_books(queue);
    assert(twill_queue_destroy(queue) == TWILL_OK);
    return 0;
}
