/* Two that push and two that pop, room for one, one of each with a deadline: the calls look as if
   each had been done at once. */
#include "queue_linear.h"

static void push_two(void *side_)
{
    struct side *side = side_;
    told_push(side->queue, side->item, side->until);
    told_push(side->queue, side->item + 1, side->until);
}

static void pop_two(void *side_)
{
    struct side *side = side_;
    told_pop(side->queue, side->until);
    told_pop(side->queue, side->until);
}

int main(void)
{
    twill_until soon = {.deadline = twill_now() + TWILL_MS(5)};
    struct side first = {.item = 1}, second = {.item = 11, .until = soon};
    struct side third = {.until = {0}}, fourth = {.until = soon};
    twill_queue *queue = queue_of(1);

    told_capacity(1);
    go(&first, push_two, queue);
    go(&second, push_two, queue);
    go(&third, pop_two, queue);
    go(&fourth, pop_two, queue);
    twill_sleep((twill_until){.deadline = twill_now() + TWILL_MS(10)});
    told_close(queue);
    end(&first);
    end(&second);
    end(&third);
    end(&fourth);
    told_try_pop(queue);
    explore_linearizable(&linear_queue);
    check_books(queue);
    assert(twill_queue_destroy(queue) == TWILL_OK);
    return 0;
}
