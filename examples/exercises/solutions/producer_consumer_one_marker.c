/* Not a solution: what breaks with one end marker for two consumers. The consumer that takes the
   marker out goes home; the other one waits for an item that nobody sends. With twill_queue_pop it
   would wait for ever, and the program with it, every time: that is no race that one could be lucky
   with. Here it waits with a deadline, so that it can tell. */
#define TWILL_IMPLEMENTATION
#include "twill_parallel_map.h"
#include "twill_producer_consumer.h"

#include <stdio.h>

enum { ITEMS = 20, ROOM = 5, CONSUMERS = 2, END = -1 };

static void produce(twill_queue *queue)
{
    int marker = END;
    for (int i = 0; i < ITEMS; i++)
        twill_queue_push(queue, &i);
    twill_queue_push(queue, &marker); /* one, as if there were one consumer */
}

static void consume(twill_queue *queue, int who)
{
    int i;
    for (;;) {
        /* An item takes 0.1 s: whoever waits ten times as long waits in vain. */
        twill_status status = twill_queue_pop_until(queue, &i, twill_within(TWILL_SEC(1)));
        if (status != TWILL_OK) {
            printf("\nConsumer-%c still waits: %s\n", 'A' + who, twill_status_text(status));
            return;
        }
        if (i == END)
            return;
        twill_sleep(twill_within(TWILL_MS(100)));
        printf("Consumer-%c processed %d -> %d\n", 'A' + who, i, i * i);
    }
}

static int role(const twill_task *task)
{
    twill_queue *queue = task->context;
    if (task->index == 0)
        produce(queue);
    else
        consume(queue, (int)task->index - 1);
    return 0;
}

int main(void)
{
    twill_queue *queue;
    twill_status status =
        twill_queue_create(&queue, sizeof(int), &(twill_queue_options){.capacity = ROOM});
    if (status == TWILL_OK)
        status = twill_parallel_for(
            1 + CONSUMERS, role,
            &(twill_parallel_options){
                .run = {.workers = 1 + CONSUMERS, .strict = true, .context = queue}});
    if (status != TWILL_OK) {
        fprintf(stderr, "%s\n", twill_status_text(status));
        return 1;
    }
    twill_queue_destroy(queue);
    return 0;
}
