/* twill's parallel_map in the forms that a program may choose from. All but "transient" run on a
 * pool that is made before and warm. The options are built anew for each call, as in the manual:
 * that is part of the price. */
#include "bench.h"

#define TWILL_IMPLEMENTATION
#include "twill_parallel_map.h"
#include "twill_worker_pool.h"

static twill_pool *pool;
static unsigned threads;

static void must(twill_status status, const char *what)
{
    if (status == TWILL_OK)
        return;
    fprintf(stderr, "WRONG RESULT: %s: %s\n", what, twill_status_name(status));
    exit(3);
}

/* ---- squares ---- */

static int squares_range(size_t begin, size_t end, const twill_task *task)
{
    const bench_map *m = task->context;
    bench_squares(m->in, m->out, begin, end);
    return 0;
}

static int square_item(const void *in, void *out, const twill_task *task)
{
    uint32_t x = *(const uint32_t *)in;
    (void)task;
    *(uint32_t *)out = x * x;
    return 0;
}

TWILL_DEFINE_MAP(squares_typed, uint32_t, uint32_t, x, x * x)

static void map_range(void *context)
{
    bench_map *m = context;
    must(twill_parallel_range(m->n, squares_range,
                              &(twill_parallel_options){.run.pool = pool, .run.context = m}),
         "twill_parallel_range");
}

/* the same, by a program that keeps its options from call to call */
static void map_kept(void *context)
{
    static twill_parallel_options options;
    bench_map *m = context;
    options.run.pool = pool;
    options.run.context = m;
    must(twill_parallel_range(m->n, squares_range, &options), "twill_parallel_range, options kept");
}

static void map_typed(void *context)
{
    bench_map *m = context;
    must(squares_typed(m->in, m->out, m->n, &(twill_parallel_options){.run.pool = pool}),
         "TWILL_DEFINE_MAP");
}

static void map_item(void *context)
{
    bench_map *m = context;
    must(twill_parallel_map(m->in, sizeof *m->in, m->out, sizeof *m->out, m->n, square_item,
                            &(twill_parallel_options){.run.pool = pool}),
         "twill_parallel_map");
}

/* every worker is called in before the first item, however small the work */
static void map_forced(void *context)
{
    bench_map *m = context;
    must(twill_parallel_range(m->n, squares_range,
                              &(twill_parallel_options){.run.pool = pool, .run.context = m,
                                                        .run.workers = threads}),
         "twill_parallel_range, workers set");
}

/* no pool: the call makes its own threads, if it thinks them worth it */
static void map_transient(void *context)
{
    bench_map *m = context;
    must(twill_parallel_range(m->n, squares_range, &(twill_parallel_options){.run.context = m}),
         "twill_parallel_range, no pool");
}

/* ---- items of unequal cost ---- */

static int skew_part(size_t begin, size_t end, const twill_task *task)
{
    const bench_skew *s = task->context;
    for (size_t i = begin; i < end; i++)
        bench_skew_item(s, i);
    return 0;
}

static int skew_item(const twill_task *task)
{
    bench_skew_item(task->context, task->index);
    return 0;
}

static void skew_range(void *context)
{
    bench_skew *s = context;
    must(twill_parallel_range(s->n, skew_part,
                              &(twill_parallel_options){.run.pool = pool, .run.context = s}),
         "twill_parallel_range");
}

static void skew_for(void *context)
{
    bench_skew *s = context;
    must(twill_parallel_for(s->n, skew_item,
                            &(twill_parallel_options){.run.pool = pool, .run.context = s}),
         "twill_parallel_for");
}

int main(int argc, char **argv)
{
    static const bench_entry entries[] = {
        {"range", BENCH_MAP, map_range},        {"typed", BENCH_MAP, map_typed},
        {"kept", BENCH_MAP, map_kept},
        {"item", BENCH_MAP, map_item},          {"forced", BENCH_MAP, map_forced},
        {"transient", BENCH_MAP, map_transient}, {"skew-range", BENCH_SKEW, skew_range},
        {"skew-for", BENCH_SKEW, skew_for},
    };
    threads = bench_threads();
    if (argc > 1 && strcmp(argv[1], "transient") != 0)
        must(twill_pool_create(&pool, &(twill_pool_options){.run.workers = threads}),
             "twill_pool_create");
    int status = bench_main(argc, argv, entries, BENCH_COUNT(entries));
    twill_pool_destroy(pool);
    return status;
}
