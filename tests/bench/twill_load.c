/* twill_load.c - a pool under load. usage: load WHAT NUMBER
 *     compute W    tasks that compute for some 20 us, on W workers: wall time over tasks
 *     compute99 W  how long 99 of 100 of these take at the most, once begun
 *     sleep W      tasks that wait for 1 ms, on W workers: wall time over tasks
 *     room N       flooded, room for N: how long 99 of 100 accepted tasks wait at the most
 *     bound N      that many tasks before it, each as long as the median, on as many workers as
 * CPUs
 *     refuse N     flooded, room for N, and it is full: the median of a submit that is refused */
#include "bench.h"

#define TWILL_IMPLEMENTATION
#include "twill_worker_pool.h"

enum { TASKS = 4000, STEPS = 20000, SLEEPS = 512, REFUSALS = 20000 };

static twill_pool *pool;

static int compute(void *arg, void *result, const twill_task *task)
{
    uint64_t x = bench_work(task->index, STEPS);
    (void)arg;
    if (result)
        *(uint64_t *)result = x;
    return x == 0; /* keeps the work */
}

static int wait_ms(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    return twill_sleep(twill_within(TWILL_MS(1))) != TWILL_OK;
}

static void open_pool(unsigned workers, size_t capacity, twill_overflow overflow)
{
    if (twill_pool_create(&pool, &(twill_pool_options){.run.workers = workers,
                                                       .capacity = capacity,
                                                       .overflow = overflow}) != TWILL_OK)
        exit(4);
}

/* Wall time over tasks; none may be refused. */
static double flood(twill_task_fn *task, long tasks)
{
    int64_t since = bench_now();
    for (long i = 0; i < tasks; i++)
        if (twill_pool_submit(pool, task, NULL, NULL, NULL) != TWILL_OK)
            bench_wrong("submit", (size_t)i);
    if (twill_pool_wait_idle(pool) != TWILL_OK)
        bench_wrong("wait", 0);
    return (double)(bench_now() - since) / (double)tasks;
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static double refusals(void)
{
    static int64_t times[REFUSALS];
    for (int n = 0; n < REFUSALS;) {
        int64_t since = bench_now();
        twill_status status = twill_pool_submit(pool, compute, NULL, NULL, NULL);
        int64_t took = bench_now() - since;
        if (status == TWILL_FULL)
            times[n++] = took;
        else if (status != TWILL_OK)
            bench_wrong("submit", (size_t)n);
    }
    qsort(times, REFUSALS, sizeof *times, compare);
    return (double)times[REFUSALS / 2];
}

int main(int argc, char **argv)
{
    const char *what = argc > 2 ? argv[1] : "";
    size_t number = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;
    unsigned cpus = bench_threads();
    twill_pool_stats stats;
    double ns;
    if (strcmp(what, "compute") == 0 || strcmp(what, "compute99") == 0) {
        open_pool((unsigned)number, 0, TWILL_OVERFLOW_BLOCK);
        ns = flood(compute, TASKS);
        twill_pool_get_stats(pool, &stats);
        if (strcmp(what, "compute99") == 0)
            ns = (double)stats.run_p99;
    } else if (strcmp(what, "sleep") == 0) {
        open_pool((unsigned)number, 0, TWILL_OVERFLOW_BLOCK);
        ns = flood(wait_ms, SLEEPS);
    } else if (strcmp(what, "room") == 0 || strcmp(what, "bound") == 0) {
        open_pool(cpus, number, TWILL_OVERFLOW_BLOCK);
        (void)flood(compute, TASKS);
        twill_pool_get_stats(pool, &stats);
        ns = strcmp(what, "room") == 0 ? (double)stats.wait_p99
                                       : (double)stats.run_p50 * (double)number / cpus;
    } else if (strcmp(what, "refuse") == 0) {
        open_pool(cpus, number, TWILL_OVERFLOW_REJECT);
        ns = refusals();
    } else {
        return 2;
    }
    bench_report(what, ns);
    return twill_pool_destroy(pool) != TWILL_OK;
}
