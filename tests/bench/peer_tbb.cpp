// oneTBB: parallel_for over a blocked range, with its automatic and its static partitioner.
#include "bench.h"
#include <tbb/blocked_range.h>
#include <tbb/global_control.h>
#include <tbb/parallel_for.h>

typedef tbb::blocked_range<size_t> range;

static void map_auto(void *context)
{
    const bench_map m = *static_cast<bench_map *>(context);
    tbb::parallel_for(range(0, m.n), [=](const range &part) {
        bench_squares(m.in, m.out, part.begin(), part.end());
    });
}

static void map_static(void *context)
{
    const bench_map m = *static_cast<bench_map *>(context);
    const auto body = [=](const range &part) {
        bench_squares(m.in, m.out, part.begin(), part.end());
    };
    tbb::parallel_for(range(0, m.n), body, tbb::static_partitioner());
}

static void skew(void *context)
{
    const bench_skew s = *static_cast<bench_skew *>(context);
    tbb::parallel_for(range(0, s.n), [=](const range &part) {
        for (size_t i = part.begin(); i < part.end(); i++)
            bench_skew_item(&s, i);
    });
}

int main(int argc, char **argv)
{
    static const bench_entry entries[] = {
        {"map", BENCH_MAP, map_auto},
        {"map-static", BENCH_MAP, map_static},
        {"skew", BENCH_SKEW, skew},
    };
    tbb::global_control threads(tbb::global_control::max_allowed_parallelism, bench_threads());
    return bench_main(argc, argv, entries, BENCH_COUNT(entries));
}
