/* bench_limiter.h - limiters: a try that finds tokens, by threads at once; and how far from its
 * rate a limiter is that a thread waits for. */
#ifndef BENCH_LIMITER_H
#define BENCH_LIMITER_H

#include "bench_counter.h"

/* A contender says how to make a limiter, and how to take one token. */
static void limiter_open(double per_second, uint64_t burst);
static int limiter_try(void);
static void limiter_wait(void);

static _Atomic uint64_t limiter_taken;

static void limiter_tries(size_t tries)
{
    uint64_t taken = 0;
    for (; tries; tries--)
        taken += limiter_try() != 0;
    limiter_taken += taken;
}

static uint64_t limiter_count(void)
{
    return limiter_taken;
}

/* Millionths by which the rate was missed, over `seconds`. */
static inline void limiter_run(double rate, double seconds)
{
    uint64_t n = (uint64_t)(rate * seconds);
    limiter_wait(); /* the burst of 1 */
    int64_t start = bench_now();
    for (uint64_t k = 0; k < n; k++)
        limiter_wait();
    double took = (double)(bench_now() - start) * 1e-9, off = (double)n / (took * rate) - 1;
    bench_report("ppm", (off < 0 ? -off : off) * 1e6);
}

static inline int bench_limiter_main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "try") == 0) {
        limiter_open(1e9, 1 << 30);
        bench_counter((unsigned)strtoul(argv[2], NULL, 10), strtoul(argv[3], NULL, 10),
                      limiter_tries, limiter_count);
    } else if (argc == 4 && strcmp(argv[1], "run") == 0) {
        limiter_open(strtod(argv[2], NULL), 1);
        limiter_run(strtod(argv[2], NULL), strtod(argv[3], NULL));
    } else {
        fprintf(stderr, "usage: %s try threads tries-each | run per-second seconds\n", argv[0]);
        return 2;
    }
    return 0;
}

#endif
