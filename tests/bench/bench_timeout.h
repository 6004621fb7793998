/* bench_timeout.h: what the contenders of the timeout section share. A contender runs a function
 * with a deadline, in its own way, and says whether it was in time.
 *
 *     contender call              an empty function with a deadline of 10 s: ns a call
 *     contender overrun MICROS    a function that sleeps for longer than its deadline of so many
 *                                 microseconds: the median time from the deadline to the return */
#ifndef BENCH_TIMEOUT_H
#define BENCH_TIMEOUT_H

#include "bench.h"

/* A contender's part: 1: *out is the function's result, 0: the deadline passed. */
static int timeout_call(int64_t in, int64_t *out, int64_t deadline_ns);

/* The function of all contenders: sleeps for `in` ns, and returns in + 1. */
static inline int64_t bench_task(int64_t in)
{
    if (in > 0) {
        struct timespec t;
        t.tv_sec = (time_t)(in / 1000000000);
        t.tv_nsec = (long)(in % 1000000000);
        nanosleep(&t, NULL);
    }
    return in + 1;
}

static void bench_empty_call(void *unused)
{
    int64_t out = 0;
    (void)unused;
    if (!timeout_call(0, &out, INT64_C(10000000000)) || out != 1)
        bench_wrong("the result of a call", 0);
}

static int bench_compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static inline void bench_overrun(int64_t deadline_ns)
{
    enum { CALLS = 41 };
    int64_t over[CALLS];
    for (int k = 0; k < CALLS; k++) {
        int64_t out = -1, begun = bench_now();
        if (timeout_call(deadline_ns * 4, &out, deadline_ns) || out != -1)
            bench_wrong("a call that was to time out", (size_t)k);
        over[k] = bench_now() - begun - deadline_ns;
    }
    qsort(over, CALLS, sizeof over[0], bench_compare);
    bench_report("ns", (double)over[CALLS / 2]);
}

static inline int bench_timeout_main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "call") == 0)
        bench_mean(bench_empty_call, NULL);
    else if (argc == 3 && strcmp(argv[1], "overrun") == 0)
        bench_overrun(atoll(argv[2]) * 1000);
    else
        return 2;
    return 0;
}
#endif
