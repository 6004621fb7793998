/* A queue that drops its oldest item never answers FULL, and what is dropped and what comes in is
   one step, also beside pops and a close. */
#include "queue_linear.h"

static void told_force(twill_queue *queue, int item)
{
    int call = explore_call("force", item);
    explore_return(call, linear_status(twill_queue_push(queue, &item)));
}

static void force_two(void *side_)
{
    struct side *side = side_;
    told_force(side->queue, side->item);
    told_force(side->queue, side->item + 1);
}

static void pop_two(void *side_)
{
    struct side *side = side_;
    told_try_pop(side->queue);
    told_try_pop(side->queue);
}

int main(void)
{
    size_t capacity = 1 + (size_t)explore_choice(2);
    twill_queue_options options = {.capacity = capacity, .overflow = TWILL_OVERFLOW_DROP_OLDEST};
    struct side push = {.item = 1}, pop = {.item = 0};
    twill_queue *queue;

    assert(twill_queue_create(&queue, sizeof(int), &options) == TWILL_OK);
    told_capacity(capacity);
    told_force(queue, 7);
    go(&push, force_two, queue);
    go(&pop, pop_two, queue);
    told_force(queue, 3);
    told_force(queue, 4);
    if (explore_choice(2))
        told_close(queue);
    end(&push);
    end(&pop);
    told_try_pop(queue);
    explore_linearizable(&linear_queue);
    check_books(queue);
    assert(twill_queue_destroy(queue) == TWILL_OK);
    return 0;
}
