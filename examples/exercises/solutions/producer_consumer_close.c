/* Solution: producer and consumers, without end markers. "Nothing more comes" is a state of the
   queue, not an item: every consumer learns of it, however many there are, and every int is a valid
   item again. */
#define TWILL_IMPLEMENTATION
#include "twill_producer_consumer.h"

#include <stdio.h>

enum { ITEMS = 20, ROOM = 5 };

/* The one-call form closes the queue when its last producer has returned, lets the consumers drain
   it, and joins everything. Should a consumer fail, the queue closes at once and this push says so:
   a producer must never be left waiting for room that nobody will make. */
static int produce(twill_queue *queue, const twill_task *task)
{
    (void)task;
    for (int i = 0; i < ITEMS; i++)
        if (twill_queue_push(queue, &i) != TWILL_OK)
            break;
    return 0;
}

/* task->index is the item's place in the order of arrival. With one producer that is the order of
   sending, so each result has a place of its own: no list to share, nothing to lock, nothing to
   sort. task->worker says which thread this is. */
static int consume(void *item, const twill_task *task)
{
    int i = *(int *)item, *results = task->context;
    twill_sleep(twill_within_or_cancelled(TWILL_MS(100), task->until.cancel));
    printf("Consumer-%c processed %d -> %d\n", task->worker % 2 ? 'A' : 'B', i, i * i);
    results[task->index] = i * i;
    return 0;
}

int main(void)
{
    int results[ITEMS] = {0};
    twill_status status = twill_produce_consume(
        sizeof(int), produce, consume,
        &(twill_produce_consume_options){
            .run.workers = 2, .run.context = results, .queue.capacity = ROOM});
    if (status != TWILL_OK) {
        fprintf(stderr, "%s\n", twill_status_text(status));
        return 1;
    }
    printf("\nSorted results: [");
    for (int k = 0; k < ITEMS; k++)
        printf("%s%d", k ? ", " : "", results[k]);
    printf("]\n");
    return 0;
}
