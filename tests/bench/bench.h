/*
 * bench.h - what all C and C++ contenders share: the clock, the work, the data with its checks,
 * and the loop that times a call. A contender's file says only how it runs a workload; README.md
 * says more. Include it before any other header: it asks for the monotonic clock.
 *
 * A program is called as
 *     contender ENTRY ARGUMENTS...
 * and prints one line "name value" (nanoseconds). It leaves with status 3 and a line on standard
 * error when its result is wrong: a fast wrong answer must never get into a table.
 *
 * BENCH_MS       the shortest time that a measurement may take, in ms (default 50)
 * BENCH_CALLS    if set: exactly so many calls instead, after a tenth as many unmeasured ones
 * BENCH_THREADS  how many threads compute at once, the caller included (default: the CPUs online)
 */
#ifndef BENCH_H
#define BENCH_H

#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#ifdef __cplusplus
#define BENCH_RESTRICT __restrict
#else
#define BENCH_RESTRICT restrict
#endif

/* ---- clock and settings ---- */

static inline int64_t bench_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + (int64_t)t.tv_nsec;
}

static inline long bench_setting(const char *name, long otherwise)
{
    const char *text = getenv(name);
    long value = text ? atol(text) : 0;
    return value > 0 ? value : otherwise;
}

/* Asks the kernel, which costs microseconds: once a program, never in what is timed. */
static inline unsigned bench_threads(void)
{
    return (unsigned)bench_setting("BENCH_THREADS", sysconf(_SC_NPROCESSORS_ONLN));
}

static inline void bench_report(const char *what, double ns)
{
    printf("%s %.3f\n", what, ns);
}

static inline void bench_wrong(const char *what, size_t where)
{
    fprintf(stderr, "WRONG RESULT: %s at %zu\n", what, where);
    exit(3);
}

static inline void *bench_memory(size_t bytes)
{
    void *memory = calloc(1, bytes + 64);
    if (!memory) {
        fprintf(stderr, "out of memory: %zu bytes\n", bytes);
        exit(4);
    }
    return memory;
}

/* ---- work ---- */

/* A chain of `steps` dependent multiply-adds. The empty asm pins each value for a moment: without
 * it clang multiplies several steps together at compile time and does an eighth of the work. */
static inline uint64_t bench_work(uint64_t x, uint32_t steps)
{
    for (; steps; steps--) {
        x = x * 2862933555777941757u + 3037000493u;
        __asm__ volatile("" : "+r"(x));
    }
    return x;
}

static inline uint64_t bench_scramble(uint64_t x)
{
    x = (x + 0x632be59bd9b4e019u) * 0xd1342543de82ef95u;
    x ^= x >> 32;
    x *= 0xaf251af3b0f025b5u;
    return x ^ (x >> 29);
}

/* Steps that item i of n costs. 'u': rising, 'd': falling, both a line from 0 to 2500;
 * 'p': a Pareto tail of exponent 1, from 50 steps, cut at half a million. */
static inline uint32_t bench_cost(char shape, size_t i, size_t n)
{
    if (shape == 'u')
        return (uint32_t)(2500 * i / n);
    if (shape == 'd')
        return (uint32_t)(2500 * (n - i) / n);
    uint64_t cost = (UINT64_C(50) << 24) / ((bench_scramble(i) >> 40) + 1);
    return cost > 500000 ? 500000 : (uint32_t)cost;
}

/* ---- the timing loop ---- */

typedef void bench_call(void *context);

/* Not inlined: everybody pays the same indirect call, and no compiler can merge one call with the
 * next. */
__attribute__((noinline)) static int64_t bench_batch(bench_call *call, void *context, int64_t calls)
{
    int64_t start = bench_now();
    for (int64_t i = 0; i < calls; i++)
        call(context);
    return bench_now() - start;
}

/* Batches of 1, 2, 4.. calls warm up threads, caches and pages until they took BENCH_MS together.
 * The best of them says how many calls fill BENCH_MS, and that many are measured: a number that was
 * settled before, so that a stall cannot end the measurement and weigh more than its share. */
static inline void bench_mean(bench_call *call, void *context)
{
    double budget = (double)bench_setting("BENCH_MS", 50) * 1e6, spent = 0, best = 0;
    int64_t calls = bench_setting("BENCH_CALLS", 0);
    if (calls > 0) {
        bench_batch(call, context, calls / 10 + 1);
    } else {
        for (calls = 1; spent < budget; calls *= 2) {
            double took = (double)bench_batch(call, context, calls), each = took / (double)calls;
            spent += took;
            if (calls == 1 || each < best)
                best = each;
        }
        calls = best < 1 ? (int64_t)budget : (int64_t)(budget / best) + 1;
    }
    bench_report("ns/call", (double)bench_batch(call, context, calls) / (double)calls);
}

/* The longest single call of those made within BENCH_MS. */
static inline void bench_worst(bench_call *call, void *context)
{
    int64_t least = (int64_t)bench_setting("BENCH_MS", 50) * 1000000, worst = 0;
    for (int i = 0; i < 10; i++)
        call(context);
    int64_t start = bench_now(), before = start;
    while (before - start < least) {
        call(context);
        int64_t after = bench_now();
        if (after - before > worst)
            worst = after - before;
        before = after;
    }
    bench_report("worst-ns/call", (double)worst);
}

/* ---- map: n squares of 32-bit numbers ---- */

typedef struct bench_map {
    const uint32_t *in;
    uint32_t *out;
    size_t n;
} bench_map;

/* the loop that everybody runs, on a part or on the whole */
static inline void bench_squares(const uint32_t *BENCH_RESTRICT in, uint32_t *BENCH_RESTRICT out,
                                 size_t begin, size_t end)
{
    for (size_t i = begin; i < end; i++)
        out[i] = in[i] * in[i];
}

/* The same by a call an item, through a pointer that no compiler sees through: for the forms of a
 * contender that are given a function. */
typedef int bench_item(const void *in, void *out);

static int bench_square(const void *in, void *out)
{
    uint32_t x = *(const uint32_t *)in;
    *(uint32_t *)out = x * x;
    return 0;
}

static inline bench_item *bench_by_pointer(void)
{
    bench_item *volatile item = bench_square;
    return item;
}

static inline void bench_map_check(bench_call *call, bench_map *map)
{
    /* cleared before each call: what one leaves out cannot hide behind the results of another */
    int calls = map->n <= 10000 ? 64 : map->n <= 1000000 ? 8 : 1;
    for (int c = 0; c < calls; c++) {
        memset(map->out, 0, map->n * sizeof *map->out);
        call(map);
        for (size_t i = 0; i < map->n; i++)
            if (map->out[i] != map->in[i] * map->in[i])
                bench_wrong("map", i);
    }
}

static inline void bench_run_map(bench_call *call, size_t n, const char *how)
{
    bench_map map;
    uint32_t *in = (uint32_t *)bench_memory(n * sizeof *in);
    for (size_t i = 0; i < n; i++)
        in[i] = (uint32_t)i + 1;
    map.in = in;
    map.out = (uint32_t *)bench_memory(n * sizeof *map.out);
    map.n = n;
    if (strcmp(how, "worst") == 0)
        bench_worst(call, &map);
    else
        bench_mean(call, &map);
    bench_map_check(call, &map);
    free(in);
    free(map.out);
}

/* ---- skew: n items of unequal cost ---- */

typedef struct bench_skew {
    uint64_t *out;
    size_t n;
    char shape;
} bench_skew;

static inline void bench_skew_item(const bench_skew *skew, size_t i)
{
    skew->out[i] = bench_work(i, bench_cost(skew->shape, i, skew->n));
}

static inline void bench_run_skew(bench_call *call, char shape, size_t n)
{
    bench_skew skew;
    skew.out = (uint64_t *)bench_memory(n * sizeof *skew.out);
    skew.n = n;
    skew.shape = shape;
    bench_mean(call, &skew);
    for (size_t i = 0; i < n; i++)
        skew.out[i] = ~bench_work(i, bench_cost(shape, i, n));
    call(&skew);
    for (size_t i = 0; i < n; i++)
        if (skew.out[i] != bench_work(i, bench_cost(shape, i, n)))
            bench_wrong("skew", i);
    free(skew.out);
}

/* ---- the command line ---- */

enum { BENCH_MAP, BENCH_SKEW };

typedef struct bench_entry {
    const char *name;
    int kind;
    bench_call *call;
} bench_entry;

/* ENTRY n [worst] for a BENCH_MAP, ENTRY shape n for a BENCH_SKEW. A new kind of workload gets its
 * data, its check and its line here, and every contender one more entry. */
static inline int bench_main(int argc, char **argv, const bench_entry *entries, size_t count)
{
    for (size_t e = 0; argc > 2 && e < count; e++) {
        if (strcmp(argv[1], entries[e].name) != 0)
            continue;
        size_t n = strtoul(argv[entries[e].kind == BENCH_MAP || argc < 4 ? 2 : 3], NULL, 10);
        if (n == 0)
            break;
        if (entries[e].kind == BENCH_MAP)
            bench_run_map(entries[e].call, n, argc > 3 ? argv[3] : "");
        else
            bench_run_skew(entries[e].call, argv[2][0], n);
        return 0;
    }
    fprintf(stderr, "usage: %s ENTRY ARGUMENTS; entries:", argv[0]);
    for (size_t e = 0; e < count; e++)
        fprintf(stderr, " %s %s", entries[e].name,
                entries[e].kind == BENCH_MAP ? "n [worst]" : "u|d|p n");
    fprintf(stderr, "\n");
    return 2;
}

#define BENCH_COUNT(array) (sizeof(array) / sizeof *(array))

#endif
