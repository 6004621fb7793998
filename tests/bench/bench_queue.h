/* bench_queue.h: what the C contenders of the queue share: so many producers and consumers of
 * 8-byte numbers, wall time over items, from before the first thread starts until the last has
 * ended. usage: contender producers consumers capacity items [batch] */
#ifndef BENCH_QUEUE_H
#define BENCH_QUEUE_H

#include "bench.h"
#include <pthread.h>

enum { BENCH_SIDE_MOST = 64, BENCH_BATCH_MOST = 64 };

typedef struct bench_queue_side {
    uint64_t first, count; /* producers: the numbers to send */
    uint64_t sum, got;     /* consumers: what came */
    size_t batch;
} bench_queue_side;

/* A contender's part: the queue, one producer's work, one consumer's until closed, the close. */
static void queue_open(size_t capacity);
static void queue_produce(bench_queue_side *side);
static void queue_consume(bench_queue_side *side);
static void queue_close(void);

static void *bench_produce(void *side)
{
    queue_produce(side);
    return NULL;
}

static void *bench_consume(void *side)
{
    queue_consume(side);
    return NULL;
}

static inline int bench_queue_main(int argc, char **argv)
{
    static bench_queue_side from[BENCH_SIDE_MOST], to[BENCH_SIDE_MOST];
    pthread_t producer[BENCH_SIDE_MOST], consumer[BENCH_SIDE_MOST];
    uint64_t number[5] = {1, 1, 1024, 1000000, 1}, sum = 0, got = 0;
    for (int k = 1; k < argc && k < 6; k++)
        number[k - 1] = strtoul(argv[k], NULL, 10);
    if (number[0] - 1 >= BENCH_SIDE_MOST || number[1] - 1 >= BENCH_SIDE_MOST || !number[2] ||
        !number[3] || number[4] - 1 >= BENCH_BATCH_MOST)
        return 2;
    queue_open((size_t)number[2]);
    int64_t start = bench_now();
    for (uint64_t k = 0; k < number[1]; k++) {
        to[k].batch = (size_t)number[4];
        if (pthread_create(&consumer[k], NULL, bench_consume, &to[k]) != 0)
            return 4;
    }
    for (uint64_t k = 0; k < number[0]; k++) {
        from[k].first = number[3] * k / number[0];
        from[k].count = number[3] * (k + 1) / number[0] - from[k].first;
        from[k].batch = (size_t)number[4];
        if (pthread_create(&producer[k], NULL, bench_produce, &from[k]) != 0)
            return 4;
    }
    for (uint64_t k = 0; k < number[0]; k++)
        pthread_join(producer[k], NULL);
    queue_close();
    for (uint64_t k = 0; k < number[1]; k++) {
        pthread_join(consumer[k], NULL);
        sum += to[k].sum;
        got += to[k].got;
    }
    int64_t took = bench_now() - start;
    if (got != number[3] || sum != number[3] * (number[3] - 1) / 2)
        bench_wrong("queue", (size_t)got);
    bench_report("ns/item", (double)took / (double)number[3]);
    return 0;
}

#endif
