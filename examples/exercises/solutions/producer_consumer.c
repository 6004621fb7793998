/* Solution: producer and consumers, with end markers, as the task asks. The task is in
   ../producer_consumer.c; the way without markers is in producer_consumer_close.c. */
#define TWILL_IMPLEMENTATION
#include "twill_parallel_map.h"
#include "twill_producer_consumer.h"

#include <stdio.h>
#include <stdlib.h>

enum { ITEMS = 20, ROOM = 5, CONSUMERS = 2, END = -1 };

typedef struct factory {
    twill_queue *queue;
    int results[CONSUMERS][ITEMS]; /* each consumer has a list of its own: no lock */
    int count[CONSUMERS];
} factory;

/* A full queue holds the producer back: it is never more than ROOM items ahead. That is what a
   bound is for; an unbounded queue would let a quick producer fill the memory.

   The last thing are the end markers: as many as there are consumers, since each consumer takes one
   out and then looks no further. With ONE marker the consumer that gets it goes home, and the other
   waits for ever for an item that nobody sends: the program hangs, every time. And who knows how
   many consumers there are? The producer has to. */
static void produce(twill_queue *queue)
{
    int marker = END;
    for (int i = 0; i < ITEMS; i++)
        twill_queue_push(queue, &i);
    for (int k = 0; k < CONSUMERS; k++)
        twill_queue_push(queue, &marker);
}

static void consume(factory *all, int who)
{
    int i;
    while (twill_queue_pop(all->queue, &i) == TWILL_OK && i != END) {
        twill_sleep(twill_within(TWILL_MS(100)));
        printf("Consumer-%c processed %d -> %d\n", 'A' + who, i, i * i);
        all->results[who][all->count[who]++] = i * i;
    }
}

/* Three roles, each one item of a parallel loop: they run at once because the loop has as many
   workers as items (run.workers). That matters: on fewer threads, the producer could fill the queue
   with nobody there to empty it. `strict` makes that a refusal instead of a hang. */
static int role(const twill_task *task)
{
    factory *all = task->context;
    if (task->index == 0)
        produce(all->queue);
    else
        consume(all, (int)task->index - 1);
    return 0;
}

static int by_size(const void *left, const void *right)
{
    int a = *(const int *)left, b = *(const int *)right;
    return (a > b) - (a < b);
}

int main(void)
{
    factory all = {NULL, {{0}}, {0}};
    int sorted[CONSUMERS * ITEMS], n = 0;
    twill_status status =
        twill_queue_create(&all.queue, sizeof(int), &(twill_queue_options){.capacity = ROOM});
    if (status == TWILL_OK)
        status = twill_parallel_for(
            1 + CONSUMERS, role,
            &(twill_parallel_options){
                .run = {.workers = 1 + CONSUMERS, .strict = true, .context = &all}});
    if (status != TWILL_OK) {
        fprintf(stderr, "%s\n", twill_status_text(status));
        return 1;
    }
    twill_queue_destroy(all.queue);

    /* The loop has joined its threads: what they wrote is ours to read. */
    for (int who = 0; who < CONSUMERS; who++)
        for (int k = 0; k < all.count[who]; k++)
            sorted[n++] = all.results[who][k];
    qsort(sorted, (size_t)n, sizeof sorted[0], by_size);
    printf("\nSorted results: [");
    for (int k = 0; k < n; k++)
        printf("%s%d", k ? ", " : "", sorted[k]);
    printf("]\n");
    return 0;
}
