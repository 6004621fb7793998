/* bench_tasks.h: what the C contenders of the pool share: empty tasks, wall time over tasks, from
 * the first submission until all are over. usage:
 * contender outside n | inside k | futures n | trip n
 *     outside  n tasks from one thread, nobody asks
 *     inside   k tasks that submit k tasks each
 *     futures  n tasks, 1000 futures at a time, each one waited for
 *     trip     submit one task and wait for it, on an idle warm pool; the median of n */
#ifndef BENCH_TASKS_H
#define BENCH_TASKS_H

#include "bench.h"

/* A contender's part. */
typedef void bench_task(void *arg, long number);
static void tasks_open(unsigned workers);
static void tasks_submit(bench_task *task, void *arg, long number);
static void tasks_wait(void); /* for all */
static void tasks_futures(bench_task *task, char *marks, long n);
static void tasks_trip(bench_task *task, char *mark);

static char *bench_marks;

static void bench_leaf(void *mark, long number)
{
    (void)number;
    *(char *)mark = 1;
}

static void bench_many(void *marks, long n)
{
    for (long i = 0; i < n; i++)
        tasks_submit(bench_leaf, (char *)marks + i, 0);
}

static int bench_compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static double bench_trips(long n)
{
    int64_t *times = bench_memory((size_t)n * sizeof *times);
    for (long i = 0; i < n; i++) {
        int64_t since = bench_now();
        tasks_trip(bench_leaf, &bench_marks[i]);
        times[i] = bench_now() - since;
    }
    qsort(times, (size_t)n, sizeof *times, bench_compare);
    return (double)times[n / 2];
}

static inline int bench_tasks_main(int argc, char **argv)
{
    long n = argc > 2 ? strtol(argv[2], NULL, 10) : 1000, count = n;
    const char *what = argc > 1 ? argv[1] : "outside";
    double ns = 0;
    if (n < 1)
        return 2;
    if (strcmp(what, "inside") == 0)
        count = n * n;
    bench_marks = bench_memory((size_t)count);
    tasks_open(bench_threads());
    tasks_submit(bench_leaf, bench_marks, 0);
    tasks_wait();
    memset(bench_marks, 0, (size_t)count);
    int64_t start = bench_now();
    if (strcmp(what, "outside") == 0)
        for (long i = 0; i < n; i++)
            tasks_submit(bench_leaf, bench_marks + i, 0);
    else if (strcmp(what, "inside") == 0)
        for (long i = 0; i < n; i++)
            tasks_submit(bench_many, bench_marks + i * n, n);
    else if (strcmp(what, "futures") == 0)
        tasks_futures(bench_leaf, bench_marks, n);
    else
        ns = bench_trips(n);
    tasks_wait();
    if (ns == 0)
        ns = (double)(bench_now() - start) / (double)count;
    for (long i = 0; i < count; i++)
        if (!bench_marks[i])
            bench_wrong("tasks", (size_t)i);
    bench_report("ns/task", ns);
    return 0;
}

#endif
