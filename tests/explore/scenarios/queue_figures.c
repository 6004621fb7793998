/* Figures are taken while an item goes and another one comes: they are of one moment, with no more
   inside than there is room for. */
#include "queue_common.h"

static void pop_and_push(void *side_)
{
    struct side *side = side_;
    int item;
    assert(twill_queue_pop(side->queue, &item) == TWILL_OK && item == 1);
    side->status = twill_queue_push(side->queue, &side->item);
}

int main(void)
{
    struct side other = {.item = 2};
    twill_queue *queue = queue_of(1);
    twill_queue_stats s;
    int item = 1;

    assert(twill_queue_push(queue, &item) == TWILL_OK);
    go(&other, pop_and_push, queue);
    twill_queue_get_stats(queue, &s);
    assert(s.length <= 1 && s.accepted == s.popped + s.length);
    end(&other);
    assert(other.status == TWILL_OK && twill_queue_pop(queue, &item) == TWILL_OK && item == 2);
    check_books(queue);
    assert(twill_queue_destroy(queue) == TWILL_OK);
    return 0;
}
