/* A bulk of two, a push and two pops, room for two: the bulk's items stay side by side. */
#include "queue_common.h"

static void push_two(void *side_)
{
    struct side *side = side_;
    int items[2] = {1, 2};
    side->status = twill_queue_push_bulk_until(side->queue, items, 2, side->until);
}

int main(void)
{
    struct side bulk = {.item = 0}, push = {.item = 9};
    twill_queue *queue = queue_of(2);
    int item[4] = {0}, at = 0;

    item[0] = 9;
    assert(twill_queue_push(queue, item) == TWILL_OK);
    go(&bulk, push_two, queue);
    go(&push, push_one, queue);
    for (int k = 0; k < 4; k++)
        assert(twill_queue_pop(queue, &item[k]) == TWILL_OK);
    end(&bulk);
    end(&push);
    while (item[at] == 9)
        at++;
    assert(at < 3 && item[at] == 1 && item[at + 1] == 2);
    assert(bulk.status == TWILL_OK && push.status == TWILL_OK);
    check_books(queue);
    assert(twill_queue_destroy(queue) == TWILL_OK);
    return 0;
}
