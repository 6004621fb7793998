/* pthreadpool: squares by tiles (its fastest form for cheap items), unequal items one by one. */
#include "bench.h"

#include <pthreadpool.h>

static pthreadpool_t pool;
static unsigned threads;

static void tile(void *context, size_t begin, size_t count)
{
    bench_map *m = context;
    bench_squares(m->in, m->out, begin, begin + count);
}

static void map(void *context)
{
    bench_map *m = context;
    /* as few tiles as threads while a tile is small, then 16 KiB: the best of the sizes tried */
    size_t most = 4096, share = (m->n + threads - 1) / threads;
    pthreadpool_parallelize_1d_tile_1d(pool, tile, m, m->n, share < most ? share : most, 0);
}

/* its plain form: a call an item by pointer */
static void square(void *context, size_t i)
{
    bench_map *m = context;
    (void)bench_square(m->in + i, m->out + i);
}

static void map_item(void *context)
{
    bench_map *m = context;
    pthreadpool_parallelize_1d(pool, square, m, m->n, 0);
}

static void item(void *context, size_t i)
{
    bench_skew_item(context, i);
}

static void skew(void *context)
{
    bench_skew *s = context;
    pthreadpool_parallelize_1d(pool, item, s, s->n, 0);
}

int main(int argc, char **argv)
{
    static const bench_entry entries[] = {
        {"map", BENCH_MAP, map}, {"map-item", BENCH_MAP, map_item}, {"skew", BENCH_SKEW, skew}};
    threads = bench_threads();
    pool = pthreadpool_create(threads);
    if (!pool) {
        fprintf(stderr, "pthreadpool_create failed\n");
        return 4;
    }
    int status = bench_main(argc, argv, entries, BENCH_COUNT(entries));
    pthreadpool_destroy(pool);
    return status;
}
