/* A producer alone at a rendezvous, in the instant in which another thread closes the queue: its
   item is consumed, or its push is told CLOSED, and the item is nowhere. */
#undef NDEBUG
#include <assert.h>
#include <stdatomic.h>
#include <string.h>

static _Atomic int alone; /* then no thread can be had */
static int no_thread(void);
#define TWILL__FAIL_THREAD() no_thread()

#define TWILL_IMPLEMENTATION
#include "twill_producer_consumer.h"

static int no_thread(void)
{
    return atomic_load(&alone);
}

static _Atomic(twill_queue *) open_one;
static _Atomic int is_closed;
static int consumed;
static twill_status answer = TWILL_EMPTY;

static void close_it(void *unused)
{
    twill_queue *queue;
    (void)unused;
    while (!(queue = atomic_load(&open_one))) /* exit: the producer begins */
        twill__yield();
    assert(twill_queue_close(queue) == TWILL_OK);
    atomic_store(&is_closed, 1);
}

static int produce(twill_queue *queue, const twill_task *task)
{
    int item = 7;
    (void)task;
    atomic_store(&open_one, queue);
    answer = twill_queue_push(queue, &item);
    while (!atomic_load(&is_closed)) /* the queue stays until then */
        twill__yield();
    return answer == TWILL_CLOSED ? 0 : (int)answer;
}

static int consume(void *item, const twill_task *task)
{
    assert(*(int *)item == 7 && task->index == 0);
    consumed++;
    return 0;
}

int main(void)
{
    twill__thrd closer;
    twill_report report;
    twill_produce_consume_options options = {.run = {.workers = 1, .report = &report},
                                             .queue = {.capacity = TWILL_RENDEZVOUS}};
    memset(&closer, 0, sizeof closer);
    closer.fn = close_it;
    closer.cpu = UINT_MAX;
    assert(twill__thread_start(&closer));
    atomic_store(&alone, 1);
    assert(twill_produce_consume(sizeof(int), produce, consume, &options) == TWILL_OK);
    twill__thread_join(&closer);
    assert(answer == TWILL_OK || answer == TWILL_CLOSED);
    assert(consumed == (answer == TWILL_OK) && report.done == (size_t)consumed);
    assert(report.total == report.done);
    return 0;
}
