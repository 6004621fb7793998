/* OpenMP. Built twice: by gcc it runs on libgomp, by clang on LLVM's libomp. */
#include "bench.h"

#include <omp.h>

static void map_static(void *context)
{
    bench_map *m = context;
    const uint32_t *restrict in = m->in;
    uint32_t *restrict out = m->out;
    size_t n = m->n;
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i++)
        out[i] = in[i] * in[i];
}

static void map_item(void *context)
{
    bench_map *m = context;
    bench_item *item = bench_by_pointer();
    size_t n = m->n;
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i++)
        item(m->in + i, m->out + i);
}

static void map_dynamic(void *context)
{
    bench_map *m = context;
    const uint32_t *restrict in = m->in;
    uint32_t *restrict out = m->out;
    size_t n = m->n;
#pragma omp parallel for schedule(dynamic, 4096)
    for (size_t i = 0; i < n; i++)
        out[i] = in[i] * in[i];
}

static void skew_static(void *context)
{
    bench_skew *s = context;
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < s->n; i++)
        bench_skew_item(s, i);
}

static void skew_dynamic(void *context)
{
    bench_skew *s = context;
#pragma omp parallel for schedule(dynamic, 16)
    for (size_t i = 0; i < s->n; i++)
        bench_skew_item(s, i);
}

static void skew_guided(void *context)
{
    bench_skew *s = context;
#pragma omp parallel for schedule(guided)
    for (size_t i = 0; i < s->n; i++)
        bench_skew_item(s, i);
}

int main(int argc, char **argv)
{
    static const bench_entry entries[] = {
        {"map-static", BENCH_MAP, map_static},    {"map-dynamic", BENCH_MAP, map_dynamic},
        {"map-item", BENCH_MAP, map_item},
        {"skew-static", BENCH_SKEW, skew_static}, {"skew-dynamic", BENCH_SKEW, skew_dynamic},
        {"skew-guided", BENCH_SKEW, skew_guided},
    };
    omp_set_num_threads((int)bench_threads());
    return bench_main(argc, argv, entries, BENCH_COUNT(entries));
}
