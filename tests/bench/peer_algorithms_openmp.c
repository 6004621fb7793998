/* OpenMP: its reductions, its scan (gcc's from 10 on), a loop in a loop. No filter and no sort. */
#include "bench_algorithms.h"

#include <omp.h>

static void reduce(void *context)
{
    bench_data *d = context;
    const double *terms = d->terms;
    size_t n = d->n;
    double sum = 0;
#pragma omp parallel for schedule(static) reduction(+ : sum)
    for (size_t i = 0; i < n; i++)
        sum += terms[i];
    d->sum = sum;
}

static void scan(void *context)
{
    bench_data *d = context;
    const uint32_t *restrict in = d->in;
    uint32_t *restrict out = d->out, sum = 0;
    size_t n = d->n;
#pragma omp parallel for reduction(inscan, + : sum)
    for (size_t i = 0; i < n; i++) {
        sum += in[i];
#pragma omp scan inclusive(sum)
        out[i] = sum;
    }
}

/* no way out of the loop: all items are looked at */
static void find(void *context)
{
    bench_data *d = context;
    const uint32_t *in = d->in;
    uint32_t needle = d->needle;
    size_t n = d->n, found = n;
#pragma omp parallel for schedule(static) reduction(min : found)
    for (size_t i = 0; i < n; i++)
        if (in[i] == needle && i < found)
            found = i;
    d->found = found;
}

static void nest(void *context)
{
    bench_data *d = context;
#pragma omp parallel for schedule(dynamic)
    for (size_t row = 0; row < d->outer; row++) {
#pragma omp parallel for schedule(static)
        for (size_t col = 0; col < d->inner; col++)
            bench_nest_item(d, row, col);
    }
}

static void nest_collapsed(void *context)
{
    bench_data *d = context;
#pragma omp parallel for collapse(2) schedule(static)
    for (size_t row = 0; row < d->outer; row++)
        for (size_t col = 0; col < d->inner; col++)
            bench_nest_item(d, row, col);
}

int main(int argc, char **argv)
{
    static const bench_algorithm entries[] = {
        {"reduce", BENCH_REDUCE, reduce, 0},
        {"scan", BENCH_SCAN, scan, 0},
        {"find", BENCH_FIND, find, 0},
        {"nest", BENCH_NEST, nest, 0},
        {"nest-collapsed", BENCH_NEST, nest_collapsed, 0},
    };
    omp_set_num_threads((int)bench_threads());
    return bench_algorithms_main(argc, argv, entries, BENCH_COUNT(entries));
}
