/* A full queue whose item will be too old, and two who wait for its place: a select, which stands
   first, and a push behind it. Nobody pops. Both come in when an item expires, and neither looks
   again and again meanwhile. */
#include "queue_common.h"

#include "explore.h"

static twill_queue *queue;
static atomic_int dropped;

static void drop(void *item, twill_status why, const twill_task *task)
{
    (void)task;
    assert(why == TWILL_TIMEOUT || (why == TWILL_CANCELLED && *(int *)item >= 2));
    atomic_fetch_add(&dropped, 1);
}

static void select_push(void *side_)
{
    struct side *side = side_;
    twill_queue_case one = {side->queue, true, &side->item, TWILL_OK};
    side->status =
        twill_queue_select_until(&one, 1, TWILL_SELECT_IN_ORDER, &(size_t){0}, side->until);
}

int main(void)
{
    struct side first = {.item = 2}, second = {.item = 3};
    twill_ns begin = twill_now();
    int item = 1;
    assert(twill_queue_create(&queue, sizeof(int),
                              &(twill_queue_options){
                                  .capacity = 1,
                                  .max_age = TWILL_US(10),
                                  .drop = drop,
                                  .order = (twill_queue_order)EXPLORE_CHOICE(2, 0)}) == TWILL_OK);
    assert(twill_queue_push(queue, &item) == TWILL_OK);
    go(&first, select_push, queue);
    if (EXPLORE_CHOICE(2, 0))
        (void)twill_sleep(twill_within(TWILL_US(5)));
    go(&second, push_one, queue);
    end(&first);
    end(&second);
    assert(first.status == TWILL_OK && second.status == TWILL_OK);
    assert(twill_now() >= begin + TWILL_US(10) && atomic_load(&dropped) == 2);
    check_books(queue);
    assert(twill_queue_destroy(queue) == TWILL_OK);
    return 0;
}
