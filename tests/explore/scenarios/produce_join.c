/* A producer joins what it has pushed, in the call of producers and consumers: a consumer has it in
   his hand, or sleeps already, or ends his thread with it; where nobody is left to come for it, the
   producer consumes it. */
#undef NDEBUG
#include <assert.h>
#include <string.h>

#define TWILL_IMPLEMENTATION
#include "twill_producer_consumer.h"

#include "explore.h"

#ifdef TWILL_USE_PTHREAD
#define END_THREAD() pthread_exit(NULL)
#else
#define END_THREAD() thrd_exit(0)
#endif

static int ended; /* plain: what a join has waited for has happened before */
static bool ends;

static int produce(twill_queue *queue, const twill_task *task)
{
    (void)task;
    for (int item = 1; item <= 2; item++) {
        assert(twill_queue_push(queue, &item) == TWILL_OK);
        assert(twill_queue_join(queue) == TWILL_OK);
        assert(ended == item);
    }
    return 0;
}

static int consume(void *item, const twill_task *task)
{
    (void)item;
    ended++;
    if (task->worker == 0) {
        EXPLORE_REACHED("the producer consumes");
    } else {
        EXPLORE_REACHED("a helper consumes");
        if (ends)
            END_THREAD();
    }
    return 0;
}

int main(void)
{
    twill_produce_consume_options options = {.queue = {.capacity = 2}};
    twill_report report;
    EXPLORE_MUST_REACH("a helper consumes");
    EXPLORE_MUST_REACH("the producer consumes");
    ends = EXPLORE_CHOICE(2, 0);
    if (EXPLORE_CHOICE(2, 0))
        options.queue.engine = TWILL_ENGINE_LOCK;
    options.run.workers = 1 + (unsigned)EXPLORE_CHOICE(2, 0);
    options.run.on_error = TWILL_ON_ERROR_COLLECT;
    options.run.report = &report;
    (void)twill_produce_consume(sizeof(int), produce, consume, &options);
    assert(ended == 2 && report.total == 2 && report.done + report.failed == 2);
    return 0;
}
