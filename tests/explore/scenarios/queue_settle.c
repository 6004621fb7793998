/* Room for one. A pop that waits gets the item of a push that was between its claim and its stamp
   when the pop came; so there is room, and another push that waits for it must hear of that from
   the same turn: nobody comes any more. */
#include "queue_common.h"

int main(void)
{
    struct side first = {.item = 1}, second = {.item = 2}, pop = {.item = 0};
    twill_queue *queue = queue_of(1);
    int item;

    go(&pop, pop_one, queue);
    go(&first, push_one, queue);
    go(&second, push_one, queue);
    end(&pop);
    end(&first);
    end(&second);
    assert(pop.status == TWILL_OK && first.status == TWILL_OK && second.status == TWILL_OK);
    assert(twill_queue_try_pop(queue, &item) == TWILL_OK && item + pop.item == 3);
    check_books(queue);
    assert(twill_queue_destroy(queue) == TWILL_OK);
    return 0;
}
