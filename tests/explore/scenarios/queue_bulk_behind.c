/* A bulk waits for room while two pops empty cells in any order. Between a pop's claim and its
   stamp the bulk does not poll; and where one pop was too early to see the bulk, and its stamp is
   seen late by the other one, the bulk looks by itself. */
#include "queue_common.h"

static void push_two(void *side_)
{
    struct side *side = side_;
    int items[2] = {3, 4};
    side->status = twill_queue_push_bulk_until(side->queue, items, 2, side->until);
}

int main(void)
{
    struct side bulk = {.item = 0}, other = {.item = 0};
    twill_queue *queue = queue_of(2);
    int item;

    for (item = 1; item <= 2; item++)
        assert(twill_queue_push(queue, &item) == TWILL_OK);
    go(&other, pop_one, queue);
    go(&bulk, push_two, queue);
    assert(twill_queue_pop(queue, &item) == TWILL_OK);
    end(&other);
    end(&bulk);
    assert(bulk.status == TWILL_OK && other.status == TWILL_OK && item + other.item == 3);
    for (int k = 3; k <= 4; k++)
        assert(twill_queue_pop(queue, &item) == TWILL_OK && item == k);
    check_books(queue);
    assert(twill_queue_destroy(queue) == TWILL_OK);
    return 0;
}
