/* bench_counter.h - progress updates: threads that each make `each` of them, timed together.
 * The contender gives the loop of one thread and a way to read the count afterwards. */
#ifndef BENCH_COUNTER_H
#define BENCH_COUNTER_H

#include "bench.h"
#include <pthread.h>

typedef struct bench_counter_thread {
    void (*update)(size_t updates); /* the whole loop, so that no call by pointer is in it */
    size_t each;
} bench_counter_thread;

static void *bench_counter_run(void *argument)
{
    bench_counter_thread *t = (bench_counter_thread *)argument;
    t->update(t->each);
    return NULL;
}

/* Wall time over all updates of all threads, thread creation included (some 0.01 ns an update). */
static inline void bench_counter(unsigned threads, size_t each, void (*update)(size_t updates),
                                 uint64_t (*count)(void))
{
    pthread_t ids[64];
    bench_counter_thread t = {update, each};
    if (threads < 1 || threads > 64)
        exit(2);
    int64_t start = bench_now();
    for (unsigned k = 0; k < threads; k++) {
        if (pthread_create(&ids[k], NULL, bench_counter_run, &t) != 0) {
            fprintf(stderr, "pthread_create failed\n");
            exit(4);
        }
    }
    for (unsigned k = 0; k < threads; k++)
        pthread_join(ids[k], NULL);
    int64_t took = bench_now() - start;
    if (count() != (uint64_t)threads * each)
        bench_wrong("count of updates", (size_t)count());
    bench_report("ns/update", (double)took / ((double)threads * (double)each));
}

#endif
