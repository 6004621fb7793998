/* twill's algorithms: by a function an item ("-item") and with the body compiled in ("-typed"), on
 * a pool that is made before and warm. */
#include "bench_algorithms.h"

#define TWILL_IMPLEMENTATION
#include "twill_parallel_map.h"
#include "twill_worker_pool.h"

static twill_pool *pool;

static void must(twill_status status, const char *what)
{
    if (status == TWILL_OK)
        return;
    fprintf(stderr, "WRONG RESULT: %s: %s\n", what, twill_status_name(status));
    exit(3);
}

#define ON_POOL               \
    &(twill_parallel_options) \
    {                         \
        .run.pool = pool      \
    }

/* ---- reduce ---- */

static int add_terms(void *acc, size_t begin, size_t end, const twill_task *task)
{
    const bench_data *d = task->context;
    double sum = *(double *)acc;
    for (size_t i = begin; i < end; i++)
        sum += d->terms[i];
    *(double *)acc = sum;
    return 0;
}

static int add_sums(void *left, void *right, const twill_task *task)
{
    (void)task;
    *(double *)left += *(double *)right;
    return 0;
}

static void reduce_any(bench_data *d, bool unordered)
{
    const twill_reducer reducer = {
        .size = sizeof(double), .fold = add_terms, .combine = add_sums, .unordered = unordered};
    must(twill_parallel_reduce(d->n, &reducer, &d->sum,
                               &(twill_parallel_options){.run.pool = pool, .run.context = d}),
         "twill_parallel_reduce");
}

static void reduce(void *context)
{
    reduce_any(context, false);
}

static void reduce_unordered(void *context)
{
    reduce_any(context, true);
}

TWILL_DEFINE_REDUCE(sum_terms, double, double, x, x, a, b, a + b, 0)

static void reduce_typed(void *context)
{
    bench_data *d = context;
    must(sum_terms(d->terms, d->n, &d->sum, ON_POOL), "TWILL_DEFINE_REDUCE");
}

/* ---- scan, filter, find ---- */

static int add_numbers(void *left, void *right, const twill_task *task)
{
    (void)task;
    *(uint32_t *)left += *(uint32_t *)right;
    return 0;
}

static void scan(void *context)
{
    bench_data *d = context;
    must(twill_parallel_scan(d->in, d->out, sizeof *d->in, d->n, NULL, add_numbers, ON_POOL),
         "twill_parallel_scan");
}

static bool is_wanted(const void *item, const twill_task *task)
{
    (void)task;
    return bench_wanted(*(const uint32_t *)item);
}

static void filter(void *context)
{
    bench_data *d = context;
    must(twill_parallel_filter(d->in, sizeof *d->in, d->n, d->out, &d->kept, is_wanted, ON_POOL),
         "twill_parallel_filter");
}

static bool is_needle(const void *item, const twill_task *task)
{
    return *(const uint32_t *)item == ((const bench_data *)task->context)->needle;
}

static void find(void *context)
{
    bench_data *d = context;
    must(twill_parallel_find(d->in, sizeof *d->in, d->n, &d->found, is_needle,
                             &(twill_parallel_options){.run.pool = pool, .run.context = d}),
         "twill_parallel_find");
}

TWILL_DEFINE_SCAN(sum_numbers, uint32_t, a, b, a + b)
TWILL_DEFINE_FILTER(keep_wanted, uint32_t, x, bench_wanted(x))
TWILL_DEFINE_FIND(find_needle, uint32_t, x, x == ((const bench_data *)task->context)->needle)

static void scan_typed(void *context)
{
    bench_data *d = context;
    must(sum_numbers(d->in, d->out, d->n, NULL, ON_POOL), "TWILL_DEFINE_SCAN");
}

static void filter_typed(void *context)
{
    bench_data *d = context;
    must(keep_wanted(d->in, d->n, d->out, &d->kept, ON_POOL), "TWILL_DEFINE_FILTER");
}

static void find_typed(void *context)
{
    bench_data *d = context;
    must(find_needle(d->in, d->n, &d->found,
                     &(twill_parallel_options){.run.pool = pool, .run.context = d}),
         "TWILL_DEFINE_FIND");
}

/* ---- sort ---- */

static int compare_numbers(const void *a, const void *b, const twill_task *task)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    (void)task;
    return (x > y) - (x < y);
}

static void sort(void *context)
{
    bench_data *d = context;
    bench_fresh(d);
    must(twill_parallel_sort(d->out, d->n, sizeof *d->out, compare_numbers, ON_POOL),
         "twill_parallel_sort");
}

static int compare_records(const void *a, const void *b, const twill_task *task)
{
    uint64_t x = ((const bench_record *)a)->key, y = ((const bench_record *)b)->key;
    (void)task;
    return (x > y) - (x < y);
}

static void records(void *context)
{
    bench_data *d = context;
    bench_fresh_records(d);
    must(twill_parallel_sort(d->records, d->n, sizeof *d->records, compare_records, ON_POOL),
         "twill_parallel_sort");
}

TWILL_DEFINE_SORT(sort_numbers, uint32_t, a, b, a < b)
TWILL_DEFINE_SORT(sort_records, bench_record, a, b, a.key < b.key)

static void sort_typed(void *context)
{
    bench_data *d = context;
    bench_fresh(d);
    must(sort_numbers(d->out, d->n, ON_POOL), "TWILL_DEFINE_SORT");
}

static void records_typed(void *context)
{
    bench_data *d = context;
    bench_fresh_records(d);
    must(sort_records(d->records, d->n, ON_POOL), "TWILL_DEFINE_SORT");
}

/* ---- a loop in a loop ---- */

typedef struct nest_row {
    const bench_data *data;
    size_t row;
} nest_row;

static int nest_cols(size_t begin, size_t end, const twill_task *task)
{
    const nest_row *r = task->context;
    for (size_t col = begin; col < end; col++)
        bench_nest_item(r->data, r->row, col);
    return 0;
}

static int nest_rows(const twill_task *task)
{
    nest_row r = {task->context, task->index};
    return (int)twill_parallel_range(r.data->inner, nest_cols,
                                     &(twill_parallel_options){.run.context = &r});
}

static void nest(void *context)
{
    bench_data *d = context;
    must(twill_parallel_for(d->outer, nest_rows,
                            &(twill_parallel_options){.run.pool = pool, .run.context = d}),
         "a loop in a loop");
}

int main(int argc, char **argv)
{
    static const bench_algorithm entries[] = {
        {"reduce", BENCH_REDUCE, reduce, 0},
        {"reduce-unordered", BENCH_REDUCE, reduce_unordered, 0},
        {"reduce-typed", BENCH_REDUCE, reduce_typed, 0},
        {"scan-item", BENCH_SCAN, scan, 0},
        {"scan-typed", BENCH_SCAN, scan_typed, 0},
        {"filter-item", BENCH_FILTER, filter, 0},
        {"filter-typed", BENCH_FILTER, filter_typed, 0},
        {"find-item", BENCH_FIND, find, 0},
        {"find-typed", BENCH_FIND, find_typed, 0},
        {"sort-item", BENCH_SORT, sort, 1},
        {"sort-typed", BENCH_SORT, sort_typed, 1},
        {"records-item", BENCH_RECORDS, records, 1},
        {"records-typed", BENCH_RECORDS, records_typed, 1},
        {"nest", BENCH_NEST, nest, 0},
    };
    must(twill_pool_create(&pool, &(twill_pool_options){.run.workers = bench_threads()}),
         "twill_pool_create");
    int status = bench_algorithms_main(argc, argv, entries, BENCH_COUNT(entries));
    twill_pool_destroy(pool);
    return status;
}
