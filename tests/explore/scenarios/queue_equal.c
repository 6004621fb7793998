/* Items of one priority leave in the order of their numbers, whichever push has read the clock
   first: that is before the queue's lock, and who gets there second is the later one. */
#undef NDEBUG
#include <assert.h>
#include <string.h>

#define TWILL_IMPLEMENTATION
#include "twill_producer_consumer.h"

#include "explore.h"

enum { PRODUCERS = 2, EACH = 2 };

static size_t next, count;

static int priority_of(const void *item, const twill_task *task)
{
    (void)item, (void)task;
    return 1;
}

static int produce(twill_queue *queue, const twill_task *task)
{
    int item = (int)task->index;
    for (int k = 0; k < EACH; k++) {
        (void)twill_sleep(twill_within(TWILL_US(1)));
        assert(twill_queue_push(queue, &item) == TWILL_OK);
    }
    return 0;
}

static int consume(void *item, const twill_task *task)
{
    (void)item;
    (void)twill_sleep(twill_within(TWILL_US(2)));
    assert(!count || task->index > next);
    next = task->index;
    count++;
    return 0;
}

int main(void)
{
    twill_produce_consume_options options = {.producers = PRODUCERS,
                                             .run = {.workers = 1},
                                             .queue = {.capacity = 1 + (size_t)EXPLORE_CHOICE(3, 2),
                                                       .order = TWILL_ORDER_PRIORITY,
                                                       .priority_of = priority_of}};
    assert(twill_produce_consume(sizeof(int), produce, consume, &options) == TWILL_OK);
    assert(count == PRODUCERS * EACH);
    return 0;
}
