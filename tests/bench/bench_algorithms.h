/*
 * bench_algorithms.h - the data of reduce, scan, filter, find, sort and of a loop in a loop, with
 * their checks.
 * A contender lists what it can do and calls bench_algorithms_main:
 *     reduce n | scan n | filter n | find n middle|none | sort n random|nearly
 *     records n | nest outer inner steps
 */
#ifndef BENCH_ALGORITHMS_H
#define BENCH_ALGORITHMS_H

#include "bench.h"

/* 64 bytes, of which 8 are the key. */
typedef struct bench_record {
    uint64_t key, place, rest[6];
} bench_record;

typedef struct bench_data {
    size_t n, found, kept;
    double sum;
    uint32_t needle;
    const double *terms;
    const uint32_t *in; /* small numbers for a scan, any for the others */
    uint32_t *out;
    const bench_record *records_in;
    bench_record *records;
    uint64_t *cells; /* of the nested loop */
    size_t outer, inner;
    uint32_t steps;
} bench_data;

enum { BENCH_REDUCE, BENCH_SCAN, BENCH_FILTER, BENCH_FIND, BENCH_SORT, BENCH_RECORDS, BENCH_NEST };

typedef struct bench_algorithm {
    const char *name;
    int kind;
    bench_call *call;
    int stable; /* RECORDS: equal keys keep their order */
} bench_algorithm;

/* ---- what all contenders ask of an item ---- */

static inline int bench_wanted(uint32_t x)
{
    return (x & 1) != 0;
}

static inline void bench_nest_item(const bench_data *d, size_t row, size_t col)
{
    size_t at = row * d->inner + col;
    d->cells[at] = bench_work(at, d->steps);
}

/* A sort works on a fresh copy each time, and the copying is timed with it. */
static inline void bench_fresh(bench_data *d)
{
    memcpy(d->out, d->in, d->n * sizeof *d->out);
}

static inline void bench_fresh_records(bench_data *d)
{
    memcpy(d->records, d->records_in, d->n * sizeof *d->records);
}

/* ---- data ---- */

static inline void bench_data_init(bench_data *d, int kind, size_t n, const char *shape)
{
    uint32_t *in = (uint32_t *)bench_memory(n * sizeof *in);
    double *terms = (double *)bench_memory(n * sizeof *terms);
    memset(d, 0, sizeof *d);
    d->n = n;
    for (size_t i = 0; i < n; i++) {
        uint64_t x = bench_scramble(i);
        in[i] = kind == BENCH_SCAN ? (uint32_t)(x & 7) : (uint32_t)(x >> 16) | 1u << 31;
        terms[i] = (double)(x >> 11) * 0x1p-53;
    }
    if (kind == BENCH_FILTER) /* any bit of a scrambled number is as good as another */
        for (size_t i = 0; i < n; i++)
            in[i] ^= 1u << 31;
    if (kind == BENCH_FIND) {
        d->needle = 5; /* all others are large */
        if (strcmp(shape, "middle") == 0)
            in[n / 2] = d->needle;
    }
    if (strcmp(shape, "nearly") == 0) { /* in order, but for one in a hundred that changed places */
        for (size_t i = 0; i < n; i++)
            in[i] = (uint32_t)i * 2;
        for (size_t i = 0; i < n / 200; i++) {
            size_t a = bench_scramble(2 * i) % n, b = bench_scramble(2 * i + 1) % n;
            uint32_t x = in[a];
            in[a] = in[b];
            in[b] = x;
        }
    }
    if (kind == BENCH_RECORDS) {
        bench_record *records = (bench_record *)bench_memory(n * sizeof *records);
        for (size_t i = 0; i < n; i++) {
            records[i].key = bench_scramble(i) % n;
            records[i].place = i;
            records[i].rest[5] = ~(uint64_t)i;
        }
        d->records_in = records;
        d->records = (bench_record *)bench_memory(n * sizeof *records);
    }
    d->in = in;
    d->terms = terms;
    d->out = (uint32_t *)bench_memory(n * sizeof *d->out);
}

/* ---- checks: each after the results were cleared ---- */

static inline int bench_before(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static inline void bench_check_sort(bench_data *d)
{
    uint32_t *want = (uint32_t *)bench_memory(d->n * sizeof *want);
    memcpy(want, d->in, d->n * sizeof *want);
    qsort(want, d->n, sizeof *want, bench_before);
    for (size_t i = 0; i < d->n; i++)
        if (d->out[i] != want[i])
            bench_wrong("sort", i);
    free(want);
}

static inline void bench_check_records(const bench_data *d, int stable)
{
    unsigned char *seen = (unsigned char *)bench_memory(d->n);
    for (size_t i = 0; i < d->n; i++) {
        const bench_record *r = &d->records[i];
        if (r->place >= d->n || seen[r->place] || r->rest[5] != ~r->place ||
            r->key != d->records_in[r->place].key)
            bench_wrong("a record", i);
        seen[r->place] = 1;
        if (i && (r[-1].key > r->key || (stable && r[-1].key == r->key && r[-1].place > r->place)))
            bench_wrong("order of records", i);
    }
    free(seen);
}

static inline void bench_check(bench_call *call, bench_data *d, int kind, int stable)
{
    size_t kept = 0, found = d->n;
    uint32_t sum = 0;
    double total = 0;
    memset(d->out, 0xff, d->n * sizeof *d->out);
    d->found = d->kept = SIZE_MAX;
    d->sum = -1;
    for (size_t i = 0; kind == BENCH_NEST && i < d->outer * d->inner; i++)
        d->cells[i] = ~bench_work(i, d->steps);
    call(d);
    if (kind == BENCH_SORT)
        bench_check_sort(d);
    if (kind == BENCH_RECORDS)
        bench_check_records(d, stable);
    for (size_t i = 0; kind == BENCH_NEST && i < d->outer * d->inner; i++)
        if (d->cells[i] != bench_work(i, d->steps))
            bench_wrong("nested loop", i);
    for (size_t i = 0; i < d->n; i++) {
        total += d->terms[i];
        sum += d->in[i];
        if (kind == BENCH_SCAN && d->out[i] != sum)
            bench_wrong("scan", i);
        if (kind == BENCH_FILTER && bench_wanted(d->in[i]) && d->out[kept++] != d->in[i])
            bench_wrong("filter", i);
        if (d->in[i] == d->needle && found == d->n)
            found = i;
    }
    if (kind == BENCH_FILTER && d->kept != kept)
        bench_wrong("how many the filter kept", d->kept);
    if (kind == BENCH_FIND && d->found != found)
        bench_wrong("find", d->found);
    /* each adds in an order of its own */
    if (kind == BENCH_REDUCE && !(d->sum > total * (1 - 1e-11) && d->sum < total * (1 + 1e-11)))
        bench_wrong("sum", 0);
}

static inline int bench_algorithms_main(int argc, char **argv, const bench_algorithm *entries,
                                        size_t count)
{
    for (size_t e = 0; argc > 2 && e < count; e++) {
        bench_data d;
        size_t n = strtoul(argv[2], NULL, 10);
        if (strcmp(argv[1], entries[e].name) != 0 || n == 0)
            continue;
        if (entries[e].kind == BENCH_NEST) {
            if (argc < 5)
                break;
            bench_data_init(&d, BENCH_NEST, 1, "");
            d.outer = n;
            d.inner = strtoul(argv[3], NULL, 10);
            d.steps = (uint32_t)strtoul(argv[4], NULL, 10);
            d.cells = (uint64_t *)bench_memory(d.outer * d.inner * sizeof *d.cells);
        } else {
            bench_data_init(&d, entries[e].kind, n, argc > 3 ? argv[3] : "");
        }
        bench_mean(entries[e].call, &d);
        bench_check(entries[e].call, &d, entries[e].kind, entries[e].stable);
        return 0;
    }
    fprintf(stderr, "usage: %s ENTRY ARGUMENTS; entries:", argv[0]);
    for (size_t e = 0; e < count; e++)
        fprintf(stderr, " %s", entries[e].name);
    fprintf(stderr, "\n");
    return 2;
}

#endif
