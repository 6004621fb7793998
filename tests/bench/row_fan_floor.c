/* Not a fan: the least that workers and a reader need for outcomes with a time each. Every worker
 * has its share of the items, cut once and for all, and a ring of records of its own; a record is
 * its result and its two times, in two lines, published by a store. Nobody can fail, stop, steal,
 * sleep or be told; who finds nothing yields.
 * usage: row_fan_floor tasks [steps] */
#include "bench.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

enum { PLACES = 256, WORKERS = 16 };

typedef struct record {
    _Alignas(64) int64_t started, finished;
    _Alignas(64) uint64_t index, result;
} record;

typedef struct lane {
    _Alignas(128) _Atomic uint64_t ended;
    _Alignas(128) _Atomic uint64_t returned;
    _Alignas(128) uint64_t begin, end;
    record place[PLACES];
} lane;

static lane lanes[WORKERS];
static const uint64_t *items;
static uint32_t steps;

static void *work(void *lane_)
{
    lane *me = lane_;
    uint64_t n = me->end - me->begin;
    int64_t now = bench_now();
    for (uint64_t k = 0; k < n; k++) {
        record *r = &me->place[k % PLACES];
        while (k - atomic_load_explicit(&me->returned, memory_order_acquire) == PLACES)
            sched_yield();
        r->started = now;
        r->index = me->begin + k;
        r->result = bench_work(items[r->index], steps) ? items[r->index] : 1;
        r->finished = now = bench_now();
        atomic_store_explicit(&me->ended, k + 1, memory_order_release);
    }
    return NULL;
}

static uint64_t read_all(unsigned workers)
{
    uint64_t total = 0, left = 0, at[WORKERS] = {0};
    for (unsigned w = 0; w < workers; w++)
        left += lanes[w].end - lanes[w].begin;
    while (left) {
        uint64_t before = left;
        for (unsigned w = 0; w < workers; w++) {
            uint64_t ended = atomic_load_explicit(&lanes[w].ended, memory_order_acquire);
            for (; at[w] != ended; at[w]++, left--) {
                const record *r = &lanes[w].place[at[w] % PLACES];
                total += r->finished >= r->started ? r->result : 0;
            }
            atomic_store_explicit(&lanes[w].returned, ended, memory_order_release);
        }
        if (left == before)
            sched_yield();
    }
    return total;
}

int main(int argc, char **argv)
{
    uint64_t n = argc > 1 ? strtoul(argv[1], NULL, 10) : 1000000, total;
    uint64_t *numbers = (uint64_t *)bench_memory(n * sizeof *numbers);
    unsigned workers = bench_threads() < WORKERS ? bench_threads() : WORKERS;
    pthread_t thread[WORKERS];
    int64_t start;
    steps = argc > 2 ? (uint32_t)atoi(argv[2]) : 0;
    for (uint64_t i = 0; i < n; i++)
        numbers[i] = i + 1;
    items = numbers;
    start = bench_now();
    for (unsigned w = 0; w < workers; w++) {
        lanes[w].begin = n * w / workers;
        lanes[w].end = n * (w + 1) / workers;
        if (pthread_create(&thread[w], NULL, work, &lanes[w]) != 0)
            return 4;
    }
    total = read_all(workers);
    for (unsigned w = 0; w < workers; w++)
        pthread_join(thread[w], NULL);
    if (total != n * (n + 1) / 2)
        bench_wrong("fan", (size_t)total);
    bench_report("ns/task", (double)(bench_now() - start) / (double)n);
    free(numbers);
    return 0;
}
