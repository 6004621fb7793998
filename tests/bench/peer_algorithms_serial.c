/* The measure of everything: one thread, plain loops, and the C library's qsort (in glibc before
 * 2.37 a merge sort, and stable while memory lasts). */
#include "bench_algorithms.h"

static void reduce(void *context)
{
    bench_data *d = context;
    double sum = 0;
    for (size_t i = 0; i < d->n; i++)
        sum += d->terms[i];
    d->sum = sum;
}

static void scan(void *context)
{
    bench_data *d = context;
    const uint32_t *in = d->in;
    uint32_t *restrict out = d->out, sum = 0;
    for (size_t i = 0; i < d->n; i++)
        out[i] = sum += in[i];
}

static void filter(void *context)
{
    bench_data *d = context;
    const uint32_t *in = d->in;
    uint32_t *restrict out = d->out;
    size_t kept = 0;
    for (size_t i = 0; i < d->n; i++)
        if (bench_wanted(in[i]))
            out[kept++] = in[i];
    d->kept = kept;
}

static void find(void *context)
{
    bench_data *d = context;
    size_t i = 0;
    while (i < d->n && d->in[i] != d->needle)
        i++;
    d->found = i;
}

static void sort(void *context)
{
    bench_data *d = context;
    bench_fresh(d);
    qsort(d->out, d->n, sizeof *d->out, bench_before);
}

static int record_before(const void *a, const void *b)
{
    uint64_t x = ((const bench_record *)a)->key, y = ((const bench_record *)b)->key;
    return (x > y) - (x < y);
}

static void records(void *context)
{
    bench_data *d = context;
    bench_fresh_records(d);
    qsort(d->records, d->n, sizeof *d->records, record_before);
}

static void nest(void *context)
{
    bench_data *d = context;
    for (size_t row = 0; row < d->outer; row++)
        for (size_t col = 0; col < d->inner; col++)
            bench_nest_item(d, row, col);
}

int main(int argc, char **argv)
{
    static const bench_algorithm entries[] = {
        {"reduce", BENCH_REDUCE, reduce, 0}, {"scan", BENCH_SCAN, scan, 0},
        {"filter", BENCH_FILTER, filter, 0}, {"find", BENCH_FIND, find, 0},
        {"sort", BENCH_SORT, sort, 0},       {"records", BENCH_RECORDS, records, 0},
        {"nest", BENCH_NEST, nest, 0},
    };
    return bench_algorithms_main(argc, argv, entries, BENCH_COUNT(entries));
}
