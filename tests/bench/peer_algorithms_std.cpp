// The C++ standard library, on one thread and with std::execution::par. With BENCH_GNU: libstdc++'s
// parallel mode instead, which stands on OpenMP.
#include "bench_algorithms.h"
#include <algorithm>
#include <functional>
#include <numeric>
#ifdef BENCH_GNU
#include <omp.h>
#include <parallel/algorithm>
#include <parallel/numeric>
namespace many = __gnu_parallel;
#define MANY
#else
#include <execution>
#include <tbb/global_control.h>
namespace many = std;
#define MANY std::execution::par,
#endif

static bool by_key(const bench_record &a, const bench_record &b)
{
    return a.key < b.key;
}

static void reduce(void *context)
{
    bench_data *d = static_cast<bench_data *>(context);
#ifdef BENCH_GNU
    d->sum = many::accumulate(d->terms, d->terms + d->n, 0.0, std::plus<double>());
#else
    d->sum = many::reduce(MANY d->terms, d->terms + d->n, 0.0);
#endif
}

static void scan(void *context)
{
    bench_data *d = static_cast<bench_data *>(context);
#ifdef BENCH_GNU
    many::partial_sum(d->in, d->in + d->n, d->out, std::plus<uint32_t>());
#else
    many::inclusive_scan(MANY d->in, d->in + d->n, d->out);
#endif
}

#ifndef BENCH_GNU
static void filter(void *context)
{
    bench_data *d = static_cast<bench_data *>(context);
    uint32_t *end = many::copy_if(MANY d->in, d->in + d->n, d->out,
                                  [](uint32_t x) { return bench_wanted(x) != 0; });
    d->kept = static_cast<size_t>(end - d->out);
}
#endif

static void find(void *context)
{
    bench_data *d = static_cast<bench_data *>(context);
    const uint32_t needle = d->needle;
    const uint32_t *at =
        many::find_if(MANY d->in, d->in + d->n, [=](uint32_t x) { return x == needle; });
    d->found = static_cast<size_t>(at - d->in);
}

static void sort(void *context)
{
    bench_data *d = static_cast<bench_data *>(context);
    bench_fresh(d);
    many::stable_sort(MANY d->out, d->out + d->n, std::less<uint32_t>());
}

static void sort_unstable(void *context)
{
    bench_data *d = static_cast<bench_data *>(context);
    bench_fresh(d);
    many::sort(MANY d->out, d->out + d->n, std::less<uint32_t>());
}

static void records(void *context)
{
    bench_data *d = static_cast<bench_data *>(context);
    bench_fresh_records(d);
    many::stable_sort(MANY d->records, d->records + d->n, by_key);
}

static void records_unstable(void *context)
{
    bench_data *d = static_cast<bench_data *>(context);
    bench_fresh_records(d);
    many::sort(MANY d->records, d->records + d->n, by_key);
}

#ifndef BENCH_GNU
static void sort_alone(void *context)
{
    bench_data *d = static_cast<bench_data *>(context);
    bench_fresh(d);
    std::stable_sort(d->out, d->out + d->n);
}

static void records_alone(void *context)
{
    bench_data *d = static_cast<bench_data *>(context);
    bench_fresh_records(d);
    std::stable_sort(d->records, d->records + d->n, by_key);
}
#endif

int main(int argc, char **argv)
{
    static const bench_algorithm entries[] = {
        {"reduce", BENCH_REDUCE, reduce, 0},
        {"scan", BENCH_SCAN, scan, 0},
        {"find", BENCH_FIND, find, 0},
        {"sort", BENCH_SORT, sort, 1},
        {"sort-unstable", BENCH_SORT, sort_unstable, 0},
        {"records", BENCH_RECORDS, records, 1},
        {"records-unstable", BENCH_RECORDS, records_unstable, 0},
#ifndef BENCH_GNU
        {"filter", BENCH_FILTER, filter, 0},
        {"sort-alone", BENCH_SORT, sort_alone, 1},
        {"records-alone", BENCH_RECORDS, records_alone, 1},
#endif
    };
#ifdef BENCH_GNU
    omp_set_num_threads(static_cast<int>(bench_threads()));
#else
    tbb::global_control threads(tbb::global_control::max_allowed_parallelism, bench_threads());
#endif
    return bench_algorithms_main(argc, argv, entries, BENCH_COUNT(entries));
}
