/* The measure of everything: one thread and a plain loop. */
#include "bench.h"

static void map(void *context)
{
    bench_map *m = context;
    bench_squares(m->in, m->out, 0, m->n);
}

static void map_item(void *context)
{
    bench_map *m = context;
    bench_item *item = bench_by_pointer();
    for (size_t i = 0; i < m->n; i++)
        item(m->in + i, m->out + i);
}

static void skew(void *context)
{
    bench_skew *s = context;
    for (size_t i = 0; i < s->n; i++)
        bench_skew_item(s, i);
}

int main(int argc, char **argv)
{
    static const bench_entry entries[] = {
        {"map", BENCH_MAP, map}, {"map-item", BENCH_MAP, map_item}, {"skew", BENCH_SKEW, skew}};
    return bench_main(argc, argv, entries, BENCH_COUNT(entries));
}
