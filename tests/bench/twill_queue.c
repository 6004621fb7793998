/* twill_queue, blocking: one item at a time, or in batches. */
#include "bench_queue.h"

#define TWILL_IMPLEMENTATION
#include "twill_producer_consumer.h"

static twill_queue *queue;

static twill_queue_engine engine;

static void queue_open(size_t capacity)
{
    if (twill_queue_create(
            &queue, 8, &(twill_queue_options){.capacity = capacity, .engine = engine}) != TWILL_OK)
        exit(4);
}

static void queue_produce(bench_queue_side *side)
{
    uint64_t items[BENCH_BATCH_MOST];
    for (uint64_t k = 0; k < side->count;) {
        size_t n = 0;
        while (n < side->batch && k < side->count)
            items[n++] = side->first + k++;
        twill_status status =
            side->batch == 1
                ? twill_queue_push(queue, items)
                : twill_queue_push_many_until(queue, items, n, NULL, (twill_until){0, NULL});
        if (status != TWILL_OK)
            bench_wrong("push", (size_t)k);
    }
}

static void queue_consume(bench_queue_side *side)
{
    uint64_t items[BENCH_BATCH_MOST];
    size_t n = 1;
    while ((side->batch == 1 ? twill_queue_pop(queue, items)
                             : twill_queue_pop_many_until(queue, items, side->batch, &n,
                                                          (twill_until){0, NULL})) == TWILL_OK)
        for (size_t k = 0; k < n; k++) {
            side->sum += items[k];
            side->got++;
        }
}

static void queue_close(void)
{
    twill_queue_close(queue);
}

int main(int argc, char **argv)
{
    if (argc > 6 && strcmp(argv[6], "lock") == 0)
        engine = TWILL_ENGINE_LOCK;
    int status = bench_queue_main(argc, argv);
    if (status == 0 && getenv("BENCH_STATS")) { /* for tuning, not for the tables */
        twill_queue_stats s;
        twill_queue_get_stats(queue, &s);
        fprintf(stderr, "push_waits %llu pop_waits %llu wakes %llu\n",
                (unsigned long long)s.push_waits, (unsigned long long)s.pop_waits,
                (unsigned long long)s.wakes);
    }
    return status;
}
