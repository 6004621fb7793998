/* Pushes and pops that never wait meet those that do, and a close: FULL, EMPTY and CLOSED are the
   truth at some moment of each call. */
#include "queue_linear.h"

static void push_try(void *side_)
{
    struct side *side = side_;
    told_try_push(side->queue, 1);
    told_push(side->queue, 2, (twill_until){0});
    told_try_push(side->queue, 3);
}

static void pop_try(void *side_)
{
    struct side *side = side_;
    told_try_pop(side->queue);
    told_pop(side->queue, (twill_until){0});
    told_try_pop(side->queue);
}

int main(void)
{
    struct side push = {.item = 1}, pop = {.item = 0};
    twill_queue *queue = queue_of(1);

    told_capacity(1);
    go(&push, push_try, queue);
    go(&pop, pop_try, queue);
    told_push(queue, 7, (twill_until){.deadline = twill_now() + TWILL_MS(1)});
    told_close(queue);
    end(&push);
    end(&pop);
    told_try_pop(queue);
    explore_linearizable(&linear_queue);
    check_books(queue);
    assert(twill_queue_destroy(queue) == TWILL_OK);
    return 0;
}
