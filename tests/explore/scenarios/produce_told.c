/* Item 0 fails, item 1 would be consumed for ever: it is told, or not begun, whichever comes
   first. */
#undef NDEBUG
#include <assert.h>

#define TWILL_IMPLEMENTATION
#include "twill_producer_consumer.h"

#include "explore.h"

static int two(twill_queue *queue, const twill_task *task)
{
    (void)task;
    for (int k = 0; k < 2; k++)
        if (twill_queue_push(queue, &k) != TWILL_OK)
            return 0;
    return 0;
}

static int fails_or_waits(void *item, const twill_task *task)
{
    if (*(int *)item == 0)
        return 5;
    assert(twill_sleep((twill_until){0, task->until.cancel}) == TWILL_CANCELLED);
    EXPLORE_REACHED("told");
    return 0;
}

int main(void)
{
    twill_report report;

    EXPLORE_MUST_REACH("told");
    assert(twill_produce_consume(
               sizeof(int), two, fails_or_waits,
               &(twill_produce_consume_options){.run = {.workers = 2, .report = &report},
                                                .queue.capacity = 2}) == TWILL_FAILED);
    assert(report.first_error.index == 0 && report.first_error.code == 5);
    return 0;
}
