/* Levels are told by turns, high first, whoever's push or pop reaches them, also while another one
   tells; and the last that was told is where the queue is in the end.
   EXPLORE-TREE: --preemptions=2 --stale=0 --faults=0 */
#include "queue_common.h"

static int told; /* calls come one at a time */

static void on_level(bool high, size_t length, const twill_task *task)
{
    (void)task;
    assert(high == (told % 2 == 0) && length <= 2);
    told++;
}

static void push_two(void *side_)
{
    push_one(side_);
    push_one(side_);
}

static void pop_two(void *side_)
{
    pop_one(side_);
    pop_one(side_);
}

int main(void)
{
    twill_queue_options options = {
        .capacity = 2, .high_mark = 2, .low_mark = 0, .on_level = on_level};
    struct side push = {.item = 1}, pop = {.item = 0};
    twill_queue *queue;
    int item;

    assert(twill_queue_create(&queue, sizeof(int), &options) == TWILL_OK);
    go(&push, push_two, queue);
    go(&pop, pop_two, queue);
    assert(twill_queue_push(queue, &(int){2}) == TWILL_OK);
    end(&push);
    end(&pop);
    assert(push.status == TWILL_OK && pop.status == TWILL_OK);
    check_books(queue);
    assert(twill_queue_push(queue, &(int){3}) == TWILL_OK);
    assert(told % 2 == 1); /* it is full, and high was told last */
    for (int k = 0; k < 2; k++)
        assert(twill_queue_pop(queue, &item) == TWILL_OK);
    assert(told % 2 == 0);
    assert(twill_queue_destroy(queue) == TWILL_OK);
    return 0;
}
