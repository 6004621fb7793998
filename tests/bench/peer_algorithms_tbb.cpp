// oneTBB: its reduce (and the one with a fixed tree), scan, sort (not stable), a loop in a loop.
#include "bench_algorithms.h"
#include <functional>
#include <tbb/blocked_range.h>
#include <tbb/global_control.h>
#include <tbb/parallel_for.h>
#include <tbb/parallel_reduce.h>
#include <tbb/parallel_scan.h>
#include <tbb/parallel_sort.h>

typedef tbb::blocked_range<size_t> range;

static void reduce(void *context)
{
    bench_data *d = static_cast<bench_data *>(context);
    const double *terms = d->terms;
    const auto add = [=](const range &part, double sum) {
        for (size_t i = part.begin(); i < part.end(); i++)
            sum += terms[i];
        return sum;
    };
    d->sum = tbb::parallel_reduce(range(0, d->n), 0.0, add, std::plus<double>());
}

static void reduce_fixed(void *context)
{
    bench_data *d = static_cast<bench_data *>(context);
    const double *terms = d->terms;
    const auto add = [=](const range &part, double sum) {
        for (size_t i = part.begin(); i < part.end(); i++)
            sum += terms[i];
        return sum;
    };
    // without a grain its tree goes down to single items
    d->sum =
        tbb::parallel_deterministic_reduce(range(0, d->n, 4096), 0.0, add, std::plus<double>());
}

static void scan(void *context)
{
    bench_data *d = static_cast<bench_data *>(context);
    const uint32_t *in = d->in;
    uint32_t *out = d->out;
    const auto body = [=](const range &part, uint32_t sum, bool last) {
        if (last)
            for (size_t i = part.begin(); i < part.end(); i++)
                out[i] = sum += in[i];
        else
            for (size_t i = part.begin(); i < part.end(); i++)
                sum += in[i];
        return sum;
    };
    tbb::parallel_scan(range(0, d->n), 0u, body, std::plus<uint32_t>());
}

static void sort(void *context)
{
    bench_data *d = static_cast<bench_data *>(context);
    bench_fresh(d);
    tbb::parallel_sort(d->out, d->out + d->n);
}

static void records(void *context)
{
    bench_data *d = static_cast<bench_data *>(context);
    bench_fresh_records(d);
    tbb::parallel_sort(d->records, d->records + d->n,
                       [](const bench_record &a, const bench_record &b) { return a.key < b.key; });
}

static void nest(void *context)
{
    const bench_data *d = static_cast<bench_data *>(context);
    tbb::parallel_for(size_t(0), d->outer, [=](size_t row) {
        tbb::parallel_for(range(0, d->inner), [=](const range &part) {
            for (size_t col = part.begin(); col < part.end(); col++)
                bench_nest_item(d, row, col);
        });
    });
}

int main(int argc, char **argv)
{
    static const bench_algorithm entries[] = {
        {"reduce", BENCH_REDUCE, reduce, 0},
        {"reduce-fixed", BENCH_REDUCE, reduce_fixed, 0},
        {"scan", BENCH_SCAN, scan, 0},
        {"sort-unstable", BENCH_SORT, sort, 0},
        {"records-unstable", BENCH_RECORDS, records, 0},
        {"nest", BENCH_NEST, nest, 0},
    };
    tbb::global_control threads(tbb::global_control::max_allowed_parallelism, bench_threads());
    return bench_algorithms_main(argc, argv, entries, BENCH_COUNT(entries));
}
