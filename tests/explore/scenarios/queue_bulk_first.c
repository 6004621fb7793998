/* A push that begins while a bulk waits comes after it, also when the bulk looks again by itself
   because a pop is under way. */
#include "queue_common.h"

static void push_two(void *side_)
{
    struct side *side = side_;
    int items[2] = {3, 4};
    side->status = twill_queue_push_bulk_until(side->queue, items, 2, side->until);
}

static bool behind;

static void push_behind(void *side_)
{
    struct side *side = side_;
    twill_queue_stats s;
    twill_queue_get_stats(side->queue, &s);
    behind = s.waiting_push == 1;
    push_one(side);
}

int main(void)
{
    struct side bulk = {.item = 0}, push = {.item = 9};
    twill_queue *queue = queue_of(2);
    int items[5], at = 0;

    for (int k = 1; k <= 2; k++)
        assert(twill_queue_push(queue, &k) == TWILL_OK);
    go(&bulk, push_two, queue);
    go(&push, push_behind, queue);
    for (int k = 0; k < 5; k++)
        assert(twill_queue_pop(queue, &items[k]) == TWILL_OK);
    end(&bulk);
    end(&push);
    assert(bulk.status == TWILL_OK && push.status == TWILL_OK);
    while (items[at] != 3)
        at++;
    assert(at < 4 && items[at + 1] == 4 && (!behind || items[4] == 9));
    check_books(queue);
    assert(twill_queue_destroy(queue) == TWILL_OK);
    return 0;
}
