/* test_parallel_algorithms.c - tiles, invoke, reduce, scan, filter, find, sort and the typed map of
   twill_parallel_map.h against serial references. */
#define HARNESS_FAULTS
#include "harness.h"
#include "platform/system.h" /* TWILL__UNDER_TSAN */
#include "twill_parallel_map.h"
#include "twill_worker_pool.h"

#include <limits.h>

#include "parallel_kit.h"

static const size_t edges[] = {0,    1,    2,    3,     15,    16,    17,   63,   64,
                               65,   127,  128,  129,   255,   256,   257,  1000, 4095,
                               4096, 4097, 9973, 16383, 16384, 16385, 30011};
enum { EDGES = sizeof edges / sizeof *edges, MOST = 30011 };
#ifdef TWILL__UNDER_TSAN
enum { SLOW = 3 }; /* times slower: so many fewer rounds */
#else
enum { SLOW = 1 };
#endif

static size_t any_size(int round)
{
    return round < EDGES ? edges[round]
                         : (size_t)test_random_below(test_random_below(3) ? 600 : MOST);
}

/* Options of all kinds; `pool` is used now and then. */
static twill_parallel_options any_options(twill_pool *pool, bool schedules)
{
    twill_parallel_options options;

    memset(&options, 0, sizeof options);
    options.run.workers = test_random_below(3) ? 1 + (unsigned)test_random_below(8) : 0;
    if (test_random_below(3) == 0)
        options.run.pool = pool;
    if (schedules) {
        options.schedule = (twill_schedule)test_random_below(4);
        options.chunk = test_random_below(2) ? 0 : (size_t)test_random_below(300);
    }
    return options;
}

static twill_pool *pool_of_three(void)
{
    twill_pool *pool = NULL;

    CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 3}), TWILL_OK);
    return pool;
}

/* ---- typed map ---- */

TWILL_DEFINE_MAP(squares, int, int64_t, x, (int64_t)x *x)
TWILL_DEFINE_MAP(shifted, double, double, x, x + *(const double *)task->context)

TEST(typed_map)
{
    static int in[5000];
    static int64_t out[5000];
    double numbers[100], more = 0.5;
    twill_parallel_options options = {.run = {.workers = 3, .context = &more}};

    for (int i = 0; i < 5000; i++)
        in[i] = i - 2500;
    CHECK_EQ(squares(in, out, 5000, NULL), TWILL_OK);
    for (int i = 0; i < 5000; i++)
        CHECK_EQ(out[i], (int64_t)in[i] * in[i]);
    for (int i = 0; i < 100; i++)
        numbers[i] = i;
    CHECK_EQ(shifted(numbers, numbers, 100, &options), TWILL_OK);
    for (int i = 0; i < 100; i++)
        CHECK(numbers[i] == i + 0.5);
    CHECK_EQ(squares(NULL, out, 5, NULL), TWILL_INVALID);
    CHECK_EQ(squares(in, NULL, 5, NULL), TWILL_INVALID);
    CHECK_EQ(squares((const int *)(void *)out, out, 5, NULL), TWILL_INVALID);
    CHECK_EQ(squares(NULL, NULL, 0, NULL), TWILL_OK);
}

/* ---- tiles ---- */

typedef struct grid {
    size_t rows, cols, tile_rows, tile_cols;
    unsigned char seen[200][200];
    atomic_uint odd, calls;
    size_t fails;
} grid;

static int fill_tile(size_t row, size_t row_end, size_t col, size_t col_end, const twill_task *task)
{
    grid *all = (grid *)task->context;

    atomic_fetch_add(&all->calls, 1);
    if (row >= row_end || col >= col_end || row_end > all->rows || col_end > all->cols)
        atomic_fetch_add(&all->odd, 1);
    if (all->tile_rows && (row % all->tile_rows || row_end - row > all->tile_rows))
        atomic_fetch_add(&all->odd, 1);
    if (all->tile_cols && (col % all->tile_cols || col_end - col > all->tile_cols))
        atomic_fetch_add(&all->odd, 1);
    for (size_t r = row; r < row_end; r++)
        for (size_t c = col; c < col_end; c++)
            all->seen[r][c]++;
    return task->index >= all->fails ? 5 : 0;
}

TEST(tiles_cover_the_grid_once)
{
    twill_pool *pool = pool_of_three();
    static grid all;

    for (int round = 0; round < 150; round++) {
        twill_parallel_options options = any_options(pool, true);

        memset(&all, 0, sizeof all);
        all.rows = 1 + (size_t)test_random_below(200);
        all.cols = 1 + (size_t)test_random_below(200);
        all.tile_rows = (size_t)test_random_below(40);
        all.tile_cols = test_random_below(2) ? 0 : (size_t)test_random_below(300);
        all.fails = SIZE_MAX;
        options.run.context = &all;
        CHECK_EQ(twill_parallel_tiles(all.rows, all.cols, all.tile_rows, all.tile_cols, fill_tile,
                                      &options),
                 TWILL_OK);
        CHECK_EQ(atomic_load(&all.odd), 0);
        for (size_t r = 0; r < 200; r++)
            for (size_t c = 0; c < 200; c++)
                if (!CHECK_EQ(all.seen[r][c], r < all.rows && c < all.cols))
                    return;
    }
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

TEST(tiles_report_the_lowest_that_failed)
{
    static grid all;
    twill_report report;
    twill_parallel_options options = {.run = {.workers = 4, .context = &all, .report = &report}};

    for (size_t fails = 0; fails < 20; fails += 3) {
        memset(&all, 0, sizeof all);
        all.rows = 100, all.cols = 100, all.tile_rows = 20, all.tile_cols = 25;
        all.fails = fails;
        CHECK_EQ(twill_parallel_tiles(100, 100, 20, 25, fill_tile, &options), TWILL_FAILED);
        CHECK_EQ(report.total, 20);
        CHECK_EQ(report.first_error.index, fails);
        CHECK_EQ(report.done, fails);
    }
}

TEST(tiles_of_a_huge_grid_end_early)
{
    static grid all;
    twill_parallel_options options = {.run = {.workers = 2, .context = &all}};
    twill_ns begin = twill_now();

    all.fails = 0;
    all.rows = all.cols = 1; /* every tile is odd, none is written */
    memset(all.seen, 0, sizeof all.seen);
    options.run.until = twill_within(0);
    CHECK_EQ(twill_parallel_tiles(SIZE_MAX, 3, 1, 1, fill_tile, &options), TWILL_TOO_BIG);
    CHECK_EQ(twill_parallel_tiles(SIZE_MAX, 1, 1, 1, fill_tile, &options), TWILL_TIMEOUT);
    CHECK_EQ(twill_parallel_tiles(SIZE_MAX, SIZE_MAX, SIZE_MAX, SIZE_MAX, fill_tile, &options),
             TWILL_TIMEOUT);
    CHECK(twill_now() - begin < TWILL_SEC(100));
    CHECK_EQ(atomic_load(&all.calls), 0);
}

/* ---- invoke ---- */

static atomic_uint invoked[4];

static int invoke_0(const twill_task *task)
{
    atomic_fetch_add(&invoked[0], task->index == 0);
    return 0;
}

static int invoke_1(const twill_task *task)
{
    atomic_fetch_add(&invoked[1], task->index == 1);
    return *(const int *)task->context;
}

static int invoke_2(const twill_task *task)
{
    atomic_fetch_add(&invoked[2], task->index % 2 == 0);
    return 0;
}

TEST(invoke_calls_each_function_once)
{
    twill_for_fn *fns[] = {invoke_0, invoke_1, invoke_2, invoke_0, invoke_2};

    for (int code = 0; code < 2; code++) {
        twill_report report;
        twill_parallel_options options = {
            .run = {.context = &code, .on_error = TWILL_ON_ERROR_COLLECT, .report = &report}};

        memset(invoked, 0, sizeof invoked);
        CHECK_EQ(twill_parallel_invoke(fns, 5, &options), code ? TWILL_FAILED : TWILL_OK);
        CHECK_EQ(atomic_load(&invoked[0]), 1);
        CHECK_EQ(atomic_load(&invoked[1]), 1);
        CHECK_EQ(atomic_load(&invoked[2]), 2);
        CHECK_EQ(report.done, 5 - (size_t)code);
        CHECK_EQ(report.first_error.index, (size_t)code);
    }
}

/* ---- reduce ---- */

static float numbers[MOST];

static int fold_floats(void *acc, size_t begin, size_t end, const twill_task *task)
{
    float sum = *(float *)acc;

    (void)task;
    for (size_t i = begin; i < end; i++)
        sum += numbers[i];
    *(float *)acc = sum;
    return 0;
}

static int add_floats(void *left, void *right, const twill_task *task)
{
    (void)task;
    *(float *)left += *(float *)right;
    return 0;
}

TEST(reduce_gives_the_same_bits_on_any_number_of_threads)
{
    twill_pool *pool = pool_of_three();

    for (size_t i = 0; i < MOST; i++)
        numbers[i] = (float)test_random_below(1000003) * (float)(1 + i % 1000) * 1e-3f;
    for (int round = 0; round < 40; round++) {
        size_t n = any_size(round);
        twill_reducer reducer = {.size = sizeof(float), .fold = fold_floats, .combine = add_floats};
        float want = -1;

        if (round % 3 == 0)
            reducer.blocks = 1 + (size_t)test_random_below(700);
        for (unsigned workers = 1; workers <= 8; workers++) {
            twill_parallel_options options = {.run.workers = workers};
            float sum = -2;

            options.schedule = (twill_schedule)test_random_below(4);
            options.chunk = (size_t)test_random_below(1000);
            options.run.pool = workers == 3 ? pool : NULL;
            CHECK_EQ(twill_parallel_reduce(n, &reducer, &sum, &options), TWILL_OK);
            if (workers == 1)
                want = sum;
            CHECK(memcmp(&sum, &want, sizeof sum) == 0);
        }
    }
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

/* x -> a x + b modulo 2^64: composition is associative and does not commute. */
typedef struct affine {
    uint64_t a, b;
} affine;
static affine maps[MOST];

static affine compose(affine first, affine then)
{
    affine both = {first.a * then.a, first.b * then.a + then.b};

    return both;
}

static void draw_maps(void)
{
    for (size_t i = 0; i < MOST; i++) {
        maps[i].a = test_random() | 1;
        maps[i].b = test_random();
    }
}

/* An accumulator that knows what it covers, is counted, and can be made large. */
typedef struct span {
    affine value;
    size_t begin, end; /* items; none: SIZE_MAX */
    uint64_t magic;
} span;
enum { LARGE = 9000 };
#define SPAN_MAGIC UINT64_C(0x5ca1ab1e0ddba11)
static atomic_int spans;
static atomic_uint span_faults;
static size_t reduce_fails, combine_fails, identity_fails; /* the item, or how manieth call */
static atomic_size_t combines, identities;

static int make_span(void *acc, const twill_task *task)
{
    span made = {{1, 0}, SIZE_MAX, SIZE_MAX, SPAN_MAGIC};

    (void)task;
    if (atomic_fetch_add(&identities, 1) + 1 == identity_fails)
        return 31;
    atomic_fetch_add(&spans, 1);
    memcpy(acc, &made, sizeof made);
    return 0;
}

static void dispose_span(void *acc, const twill_task *task)
{
    span *gone = (span *)acc;

    (void)task;
    if (gone->magic != SPAN_MAGIC)
        atomic_fetch_add(&span_faults, 1);
    gone->magic = 0;
    atomic_fetch_sub(&spans, 1);
}

static int fold_span(void *acc, size_t begin, size_t end, const twill_task *task)
{
    span *all = (span *)acc;

    if (all->magic != SPAN_MAGIC || begin >= end)
        atomic_fetch_add(&span_faults, 1);
    if (all->begin == SIZE_MAX)
        all->begin = begin;
    else if (all->end != begin) /* only unordered reductions may do so */
        atomic_fetch_add(&span_faults, 1u << 16);
    all->end = end;
    for (size_t i = begin; i < end; i++) {
        if (i >= reduce_fails)
            return twill_task_fail(task, i, (int)i + 1);
        all->value = compose(all->value, maps[i]);
    }
    return 0;
}

static int combine_spans(void *left_, void *right_, const twill_task *task)
{
    span *left = (span *)left_, *right = (span *)right_;

    (void)task;
    if (left->magic != SPAN_MAGIC || right->magic != SPAN_MAGIC || left->end != right->begin)
        atomic_fetch_add(&span_faults, 1);
    if (atomic_fetch_add(&combines, 1) + 1 == combine_fails)
        return 41;
    left->value = compose(left->value, right->value);
    left->end = right->end;
    return 0;
}

static twill_reducer span_reducer(size_t size)
{
    twill_reducer reducer = {.size = size,
                             .identity = make_span,
                             .fold = fold_span,
                             .combine = combine_spans,
                             .dispose = dispose_span};

    atomic_store(&spans, 0);
    atomic_store(&span_faults, 0);
    atomic_store(&combines, 0);
    atomic_store(&identities, 0);
    reduce_fails = SIZE_MAX;
    combine_fails = identity_fails = 0;
    return reducer;
}

TEST(reduce_keeps_the_order_and_disposes_of_every_accumulator)
{
    twill_pool *pool = pool_of_three();
    static unsigned char result[LARGE];

    draw_maps();
    for (int round = 0; round < 120; round++) {
        size_t n = any_size(round / 2), live = (size_t)faults_live();
        twill_reducer reducer = span_reducer(round % 2 ? LARGE : sizeof(span));
        twill_parallel_options options = any_options(pool, true);
        affine want = {1, 0};
        span got;

        if (test_random_below(3) == 0)
            reducer.blocks = 1 + (size_t)test_random_below(2000);
        CHECK_EQ(twill_parallel_reduce(n, &reducer, result, &options), TWILL_OK);
        memcpy(&got, result, sizeof got);
        for (size_t i = 0; i < n; i++)
            want = compose(want, maps[i]);
        CHECK(got.value.a == want.a && got.value.b == want.b);
        CHECK_EQ(got.magic, SPAN_MAGIC);
        CHECK(n == 0 || (got.begin == 0 && got.end == n));
        CHECK_EQ(atomic_load(&spans), 1); /* the result alone */
        CHECK_EQ(atomic_load(&span_faults), 0);
        CHECK_EQ(faults_live(), (long)live);
    }
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

TEST(reduce_that_fails_disposes_of_all_and_leaves_the_result)
{
    twill_pool *pool = pool_of_three();
    static unsigned char result[LARGE], kept[LARGE];

    draw_maps();
    memset(kept, 0x77, sizeof kept);
    for (int round = 0; round < 150; round++) {
        size_t n = 1 + any_size(round / 3);
        twill_reducer reducer = span_reducer(round % 2 ? LARGE : sizeof(span));
        twill_parallel_options options = any_options(pool, true);
        twill_report report;
        twill_status status;

        if (n > MOST)
            n = MOST;
        if (round % 3 == 0)
            reduce_fails = (size_t)test_random_below(n);
        else if (round % 3 == 1)
            combine_fails = 1 + (size_t)test_random_below(20);
        else
            identity_fails = 1 + (size_t)test_random_below(20);
        memcpy(result, kept, sizeof result);
        options.run.report = &report;
        status = twill_parallel_reduce(n, &reducer, result, &options);
        CHECK_EQ(atomic_load(&span_faults), 0);
        CHECK_EQ(report.total, report.done + report.failed + report.skipped);
        if (status == TWILL_OK) { /* so many combines or identities were not needed */
            CHECK(reduce_fails == SIZE_MAX);
            CHECK_EQ(atomic_load(&spans), 1);
            continue;
        }
        CHECK_EQ(status, TWILL_FAILED);
        CHECK_EQ(atomic_load(&spans), 0);
        CHECK(memcmp(result, kept, sizeof result) == 0);
        CHECK_EQ(report.first_error.code, reduce_fails != SIZE_MAX ? (int)reduce_fails + 1
                                          : combine_fails          ? 41
                                                                   : 31);
        if (reduce_fails != SIZE_MAX)
            CHECK_EQ(report.first_error.index, reduce_fails);
        CHECK_EQ(report.failed > 0, true);
    }
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

static twill_cancel reduce_token;
static size_t fires_at;

static int fold_and_fire(void *acc, size_t begin, size_t end, const twill_task *task)
{
    if (begin <= fires_at && fires_at < end)
        twill_cancel_fire(&reduce_token, 1);
    return fold_span(acc, begin, end, task);
}

TEST(reduce_that_is_cancelled_disposes_of_all)
{
    unsigned char result[sizeof(span)], kept[sizeof(span)];

    draw_maps();
    memset(kept, 0x77, sizeof kept);
    for (int round = 0; round < 60; round++) {
        twill_reducer reducer = span_reducer(sizeof(span));
        twill_parallel_options options = any_options(NULL, true);
        twill_status status;

        twill_cancel_init(&reduce_token, NULL);
        fires_at = (size_t)test_random_below(MOST);
        reducer.fold = fold_and_fire;
        reducer.blocks = 200;
        options.run.until = twill_until_cancelled(&reduce_token);
        memcpy(result, kept, sizeof result);
        status = twill_parallel_reduce(MOST, &reducer, result, &options);
        CHECK(status == TWILL_OK || status == TWILL_CANCELLED);
        CHECK_EQ(atomic_load(&spans), status == TWILL_OK);
        CHECK_EQ(memcmp(result, kept, sizeof result) == 0, status != TWILL_OK);
        CHECK_EQ(atomic_load(&span_faults), 0);
    }
}

static atomic_bool first_block_runs;

static int fold_and_stop(void *acc, size_t begin, size_t end, const twill_task *task)
{
    int code = fold_span(acc, begin, end, task);
    twill_ns patience = twill_now() + TWILL_MS(20); /* alone on its machine each waits in vain */
    if (code)
        return code;
    if (end == MOST) {
        while (!atomic_load(&first_block_runs) && twill_now() < patience)
            twill_sleep(twill_within(TWILL_US(10)));
        twill_cancel_fire(&reduce_token, 1);
        twill_task_stop(task);
        return 0;
    }
    atomic_store(&first_block_runs, true);
    /* after its block this worker finds the token fired */
    while (!twill_cancel_fired(&reduce_token) && twill_now() < patience)
        twill_sleep(twill_within(TWILL_US(10)));
    return 0;
}

/* The last item says stop, so nothing is left out once all have begun, whatever the token says
   meanwhile. */
TEST(reduce_that_stops_at_its_last_item_while_it_is_cancelled_is_whole)
{
    unsigned char result[sizeof(span)], kept[sizeof(span)];

    draw_maps();
    memset(kept, 0x77, sizeof kept);
    for (int round = 0; round < 10; round++) {
        twill_reducer reducer = span_reducer(sizeof(span));
        twill_parallel_options options = {.run.workers = 2, .schedule = TWILL_SCHEDULE_STATIC};
        twill_status status;

        twill_cancel_init(&reduce_token, NULL);
        atomic_store(&first_block_runs, false);
        reducer.fold = fold_and_stop;
        reducer.blocks = 2;
        options.run.until = twill_until_cancelled(&reduce_token);
        memcpy(result, kept, sizeof result);
        status = twill_parallel_reduce(MOST, &reducer, result, &options);
        CHECK(status == TWILL_OK || (status == TWILL_CANCELLED && !atomic_load(&first_block_runs)));
        CHECK_EQ(atomic_load(&spans), status == TWILL_OK);
        CHECK_EQ(memcmp(result, kept, sizeof result) == 0, status != TWILL_OK);
        CHECK_EQ(atomic_load(&span_faults), 0);
        twill_cancel_detach(&reduce_token);
    }
}

static int fold_count(void *acc, size_t begin, size_t end, const twill_task *task)
{
    (void)task;
    *(uint64_t *)acc += (uint64_t)(end - begin) * ((uint64_t)begin + (uint64_t)end - 1) / 2;
    return 0;
}

static int add_counts(void *left, void *right, const twill_task *task)
{
    (void)task;
    *(uint64_t *)left += *(uint64_t *)right;
    return 0;
}

TEST(unordered_reduce_adds_up)
{
    twill_pool *pool = pool_of_three();

    for (int round = 0; round < 60; round++) {
        twill_reducer reducer = {
            .size = 8, .fold = fold_count, .combine = add_counts, .unordered = true};
        twill_parallel_options options = any_options(pool, true);
        uint64_t sum = 7, n = any_size(round);

        CHECK_EQ(twill_parallel_reduce((size_t)n, &reducer, &sum, &options), TWILL_OK);
        CHECK_EQ(sum, n ? n * (n - 1) / 2 : 0);
    }
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

static int fold_any_order(void *acc, size_t begin, size_t end, const twill_task *task)
{
    ((span *)acc)->end = begin; /* whatever was before */
    (void)task;
    return begin <= reduce_fails && reduce_fails < end ? 51 : 0;
}

static int combine_any_order(void *left, void *right, const twill_task *task)
{
    if (((span *)left)->magic != SPAN_MAGIC || ((span *)right)->magic != SPAN_MAGIC)
        atomic_fetch_add(&span_faults, 1);
    (void)task;
    return 0;
}

TEST(unordered_reduce_disposes_of_every_accumulator)
{
    for (int round = 0; round < 60; round++) {
        twill_reducer reducer = span_reducer(sizeof(span));
        twill_parallel_options options = any_options(NULL, true);
        span result;
        bool fails = round % 2 == 1;

        reducer.fold = fold_any_order;
        reducer.combine = combine_any_order;
        reducer.unordered = true;
        if (fails)
            reduce_fails = (size_t)test_random_below(1000);
        CHECK_EQ(twill_parallel_reduce(1000, &reducer, &result, &options),
                 fails ? TWILL_FAILED : TWILL_OK);
        CHECK_EQ(atomic_load(&spans), fails ? 0 : 1);
        CHECK_EQ(atomic_load(&span_faults), 0);
    }
}

TEST(reduce_of_nothing_is_the_identity)
{
    twill_reducer reducer = span_reducer(sizeof(span));
    twill_reducer zero = {.size = 8, .fold = fold_count, .combine = add_counts};
    uint64_t sum = 9;
    span result;

    CHECK_EQ(twill_parallel_reduce(0, &reducer, &result, NULL), TWILL_OK);
    CHECK_EQ(result.magic, SPAN_MAGIC);
    CHECK_EQ(atomic_load(&spans), 1);
    CHECK_EQ(twill_parallel_reduce(0, &zero, &sum, NULL), TWILL_OK);
    CHECK_EQ(sum, 0);
}

TEST(invalid_reductions)
{
    twill_reducer good = {.size = 8, .fold = fold_count, .combine = add_counts}, bad[3];
    twill_report report;
    twill_parallel_options options = {.run.report = &report};
    uint64_t sum = 5;

    for (int i = 0; i < 3; i++)
        bad[i] = good;
    bad[0].size = 0;
    bad[1].fold = NULL;
    bad[2].combine = NULL;
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(twill_parallel_reduce(9, &bad[i], &sum, &options), TWILL_INVALID);
        CHECK_EQ(report.status, TWILL_INVALID);
        CHECK_EQ(report.skipped, 9);
    }
    CHECK_EQ(twill_parallel_reduce(0, &bad[0], &sum, &options), TWILL_OK); /* nothing to keep */
    CHECK_EQ(twill_parallel_reduce(9, NULL, &sum, &options), TWILL_INVALID);
    CHECK_EQ(twill_parallel_reduce(9, &good, NULL, &options), TWILL_INVALID);
    CHECK_EQ(sum, 5);
}

/* ---- scan ---- */

static atomic_uint scan_calls;

static int compose_maps(void *left, void *right, const twill_task *task)
{
    affine both = compose(*(affine *)left, *(affine *)right);

    (void)task;
    atomic_fetch_add_explicit(&scan_calls, 1, memory_order_relaxed); /* a count */
    memcpy(left, &both, sizeof both);
    return 0;
}

TEST(scan_equals_the_serial_loop)
{
    twill_pool *pool = pool_of_three();
    static affine in[MOST], out[MOST];

    draw_maps();
    for (int round = 0; round < 100; round++) {
        size_t n = any_size(round / 2);
        twill_parallel_options options = any_options(pool, false);
        affine start = {test_random() | 1, test_random()}, now = start;
        bool in_place = test_random_below(2) == 0, exclusive = round % 2 == 0;

        options.schedule = test_random_below(2) ? TWILL_SCHEDULE_AUTO : TWILL_SCHEDULE_STATIC;
        memcpy(in, maps, sizeof in);
        memset(out, 0, sizeof out);
        CHECK_EQ(twill_parallel_scan(in, in_place ? in : out, sizeof *in, n,
                                     exclusive ? &start : NULL, compose_maps, &options),
                 TWILL_OK);
        for (size_t i = 0; i < n; i++) {
            const affine *got = in_place ? &in[i] : &out[i];

            if (!exclusive)
                now = i ? compose(now, maps[i]) : maps[0];
            if (!CHECK(got->a == now.a && got->b == now.b))
                break;
            if (exclusive)
                now = compose(now, maps[i]);
        }
        if (!in_place)
            CHECK(memcmp(in, maps, sizeof in) == 0);
    }
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

TEST(static_scan_gives_the_same_bits)
{
    static float one[MOST], other[MOST];

    for (size_t i = 0; i < MOST; i++)
        numbers[i] = (float)test_random_below(1000003) * (float)(1 + i % 1000) * 1e-3f;
    for (unsigned workers = 2; workers <= 8; workers += 2) {
        twill_parallel_options options = {.schedule = TWILL_SCHEDULE_STATIC};

        options.run.workers = 1;
        CHECK_EQ(twill_parallel_scan(numbers, one, 4, MOST, NULL, add_floats, &options), TWILL_OK);
        options.run.workers = workers;
        CHECK_EQ(twill_parallel_scan(numbers, other, 4, MOST, NULL, add_floats, &options),
                 TWILL_OK);
        CHECK(memcmp(one, other, sizeof one) == 0);
    }
}

static int scan_code;

static int compose_or_fail(void *left, void *right, const twill_task *task)
{
    unsigned call = atomic_fetch_add(&scan_calls, 1);

    if (call == 300)
        return scan_code;
    affine both = compose(*(affine *)left, *(affine *)right);
    (void)task;
    memcpy(left, &both, sizeof both);
    return 0;
}

TEST(scan_whose_combine_fails)
{
    static affine out[MOST];

    draw_maps();
    scan_code = -9;
    for (int round = 0; round < 20; round++) {
        twill_report report;
        twill_parallel_options options = any_options(NULL, false);

        options.run.report = &report;
        atomic_store(&scan_calls, 0);
        CHECK_EQ(twill_parallel_scan(maps, out, sizeof *out, 5000, NULL, compose_or_fail, &options),
                 TWILL_FAILED);
        CHECK_EQ(report.first_error.code, -9);
        CHECK_EQ(report.total, report.done + report.failed + report.skipped);
        CHECK(report.failed >= 1 && report.skipped < report.total);
    }
}

static int add_or_fail(void *left, void *right, const twill_task *task)
{
    (void)task;
    atomic_fetch_add(&scan_calls, 1);
    *(int *)left += *(int *)right;
    return *(int *)right == 99 ? 5 : 0;
}

/* The last block has no sum: that it is missing does not mean that it is to be written yet. */
TEST(scan_whose_last_combine_fails)
{
    int in[40] = {0}, out[40];

    for (size_t n = 2; n <= 40; n++) {
        twill_report report;
        twill_parallel_options options = {.run = {.workers = 1, .report = &report}};

        in[n - 1] = 99;
        atomic_store(&scan_calls, 0);
        CHECK_EQ(twill_parallel_scan(in, out, sizeof *in, n, NULL, add_or_fail, &options),
                 TWILL_FAILED);
        CHECK_EQ(atomic_load(&scan_calls), (int)n - 1);
        CHECK(report.done == n - 1 && report.failed == 1 && report.skipped == 0);
        CHECK_EQ(report.first_error.index, n - 1);
        in[n - 1] = 0;
    }
}

typedef struct large { /* beyond what a scan keeps on a stack */
    uint64_t sum, rest[63];
} large;

static int add_large(void *left, void *right, const twill_task *task)
{
    large *a = left;
    const large *b = right;

    (void)task;
    a->sum += b->sum;
    for (int i = 0; i < 63; i++)
        a->rest[i] ^= b->rest[i];
    return 0;
}

TEST(scan_of_large_elements)
{
    enum { N = 700 };
    large *in = calloc(N, sizeof *in), *out = calloc(N, sizeof *out), start = {100, {0}};

    for (int i = 0; i < N; i++) {
        in[i].sum = (uint64_t)i;
        in[i].rest[i % 63] = test_random();
    }
    for (unsigned workers = 1; workers <= 3; workers++)
        for (int exclusive = 0; exclusive < 2; exclusive++) {
            twill_parallel_options options = {.run.workers = workers};
            large now = start;
            int wrong = 0;

            CHECK_EQ(twill_parallel_scan(in, out, sizeof *in, N, exclusive ? &start : NULL,
                                         add_large, &options),
                     TWILL_OK);
            if (!exclusive)
                memset(&now, 0, sizeof now);
            for (int i = 0; i < N; i++) {
                large before = now;
                (void)add_large(&now, &in[i], NULL);
                wrong += memcmp(&out[i], exclusive ? &before : &now, sizeof now) != 0;
            }
            CHECK_EQ(wrong, 0);
            faults_fail_alloc(1);
            CHECK_EQ(twill_parallel_scan(in, out, sizeof *in, N, NULL, add_large, &options),
                     workers > 1 ? TWILL_NO_MEMORY : TWILL_OK); /* alone it needs none */
            faults_fail_alloc(0);
        }
    free(in);
    free(out);
    CHECK_EQ(faults_live(), 0);
}

static uint64_t any_cost(size_t index, const twill_task *task)
{
    (void)task;
    return index;
}

TEST(invalid_scans)
{
    twill_parallel_options refused[] = {{.schedule = (twill_schedule)9},
                                        {.chunk = 1},
                                        {.cost_of = any_cost},
                                        {.run.errors_capacity = 1}};
    affine in[2] = {{1, 0}, {1, 0}}, out[2];

    for (int k = 0; k < 4; k++)
        CHECK_EQ(twill_parallel_scan(in, out, 16, 2, NULL, compose_maps, &refused[k]),
                 TWILL_INVALID);
    CHECK_EQ(twill_parallel_scan(in, out, 16, 2, NULL, NULL, NULL), TWILL_INVALID);
    CHECK_EQ(twill_parallel_scan(NULL, out, 16, 2, NULL, compose_maps, NULL), TWILL_INVALID);
    CHECK_EQ(twill_parallel_scan(in, NULL, 16, 2, NULL, compose_maps, NULL), TWILL_INVALID);
    CHECK_EQ(twill_parallel_scan(in, out, 0, 2, NULL, compose_maps, NULL), TWILL_INVALID);
    CHECK_EQ(twill_parallel_scan(in, out, 16, SIZE_MAX / 2, NULL, compose_maps, NULL),
             TWILL_TOO_BIG);
    CHECK_EQ(twill_parallel_scan(NULL, NULL, 16, 0, NULL, compose_maps, NULL), TWILL_OK);
}

/* ---- filter ---- */

static atomic_uchar asked[MOST];
static uint64_t filter_below;

static bool keep_some(const void *item, const twill_task *task)
{
    uint32_t value;

    memcpy(&value, item, sizeof value);
    atomic_fetch_add(&asked[task->index], 1);
    return harness_mix(value) % 1000 < filter_below;
}

typedef struct item7 {
    unsigned char bytes[7];
} item7;

TEST(filter_equals_the_serial_loop)
{
    static const uint64_t densities[] = {0, 1, 500, 999, 1000};
    twill_pool *pool = pool_of_three();
    item7 *in = (item7 *)calloc(MOST, sizeof *in), *want = (item7 *)calloc(MOST, sizeof *want);

    for (int round = 0; round < 120; round++) {
        size_t n = any_size(round / 2), wanted = 0, got = 777;
        twill_parallel_options options = any_options(pool, true);
        bool in_place = round % 2 == 0, count_only = test_random_below(6) == 0;
        item7 *out;

        filter_below = densities[test_random_below(5)];
        for (size_t i = 0; i < n; i++) {
            uint32_t value = (uint32_t)i;

            memcpy(in[i].bytes, &value, 4);
            in[i].bytes[6] = (unsigned char)i;
            atomic_store(&asked[i], 0);
            if (harness_mix(value) % 1000 < filter_below)
                want[wanted++] = in[i];
        }
        out =
            in_place ? in : (item7 *)malloc(wanted * sizeof *out + (wanted == 0)); /* exact room */
        CHECK_EQ(twill_parallel_filter(in, sizeof *in, n, count_only ? NULL : out, &got, keep_some,
                                       &options),
                 TWILL_OK);
        CHECK_EQ(got, wanted);
        if (!count_only)
            CHECK(memcmp(out, want, wanted * sizeof *out) == 0);
        for (size_t i = 0; i < n; i++)
            if (!CHECK_EQ(atomic_load(&asked[i]), 1))
                break;
        if (!in_place)
            free(out);
    }
    free(in);
    free(want);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

static bool keep_until_cancelled(const void *item, const twill_task *task)
{
    (void)item;
    if (task->index == fires_at)
        twill_cancel_fire(&reduce_token, 1);
    return task->index % 2 == 0;
}

TEST(filter_that_is_cancelled_changes_nothing)
{
    static uint32_t items[MOST], kept[MOST];

    for (uint32_t i = 0; i < MOST; i++)
        items[i] = kept[i] = i * 3;
    for (int round = 0; round < 40; round++) {
        twill_parallel_options options = any_options(NULL, true);
        twill_status status;
        size_t got = 777;

        twill_cancel_init(&reduce_token, NULL);
        fires_at = (size_t)test_random_below(MOST);
        options.run.until = twill_until_cancelled(&reduce_token);
        status = twill_parallel_filter(items, 4, MOST, items, &got, keep_until_cancelled, &options);
        CHECK(status == TWILL_CANCELLED || status == TWILL_OK);
        if (status == TWILL_CANCELLED) {
            CHECK_EQ(got, 0);
            CHECK(memcmp(items, kept, sizeof items) == 0);
        } else {
            CHECK_EQ(got, (MOST + 1) / 2);
            for (uint32_t i = 0; i < got; i++)
                CHECK_EQ(items[i], i * 6);
            memcpy(items, kept, sizeof items);
        }
    }
}

static atomic_uint kept_above;

/* the third waits for the other worker, and says stop */
static bool keep_all_and_stop(const void *item, const twill_task *task)
{
    twill_until until = twill_within(TWILL_MS(200));

    (void)item;
    atomic_fetch_add(&kept_above, task->index >= 128);
    if (task->index != 2)
        return true;
    while (atomic_load(&kept_above) < 100 && twill_now() < until.deadline)
        (void)twill_sleep(twill_within(TWILL_US(30)));
    (void)twill_task_stop(task);
    return true;
}

TEST(filter_keeps_nothing_above_a_stop)
{
    static uint32_t items[256], kept[256];
    size_t got = 777;

    for (uint32_t i = 0; i < 256; i++)
        items[i] = i + 1;
    CHECK_EQ(twill_parallel_filter(
                 items, 4, 256, kept, &got, keep_all_and_stop,
                 &(twill_parallel_options){.run.workers = 2, .schedule = TWILL_SCHEDULE_STATIC}),
             TWILL_OK);
    CHECK_EQ(got, 3);
    for (uint32_t i = 0; i < 256; i++)
        CHECK_EQ(kept[i], i < 3 ? i + 1 : 0);
}

TEST(invalid_filters)
{
    uint32_t in[3] = {1, 2, 3}, out[3];
    size_t n;

    CHECK_EQ(twill_parallel_filter(in, 4, 3, out, &n, NULL, NULL), TWILL_INVALID);
    CHECK_EQ(twill_parallel_filter(in, 4, 3, out, NULL, keep_some, NULL), TWILL_INVALID);
    CHECK_EQ(twill_parallel_filter(NULL, 4, 3, out, &n, keep_some, NULL), TWILL_INVALID);
    CHECK_EQ(twill_parallel_filter(in, 0, 3, out, &n, keep_some, NULL), TWILL_INVALID);
    CHECK_EQ(twill_parallel_filter(in, 4, SIZE_MAX / 3, out, &n, keep_some, NULL), TWILL_TOO_BIG);
    CHECK_EQ(twill_parallel_filter(NULL, 4, 0, NULL, &n, keep_some, NULL), TWILL_OK);
    CHECK_EQ(n, 0);
}

/* ---- find ---- */

static size_t lowest_match;

static bool match_from(const void *item, const twill_task *task)
{
    atomic_fetch_add(&asked[task->index], 1);
    if (task->index == lowest_match && test_random_below(4) == 0)
        kit_pause(TWILL_US(300)); /* the lowest is the slowest */
    return *(const uint32_t *)item == 1;
}

TEST(find_gives_the_lowest_match)
{
    static uint32_t items[MOST];
    twill_pool *pool = pool_of_three();

    for (int round = 0; round < 200; round++) {
        size_t n = any_size(round / 3), at = 12345;
        twill_parallel_options options = any_options(pool, true);
        unsigned matches = (unsigned)test_random_below(4);

        memset(items, 0, sizeof items);
        lowest_match = n;
        for (unsigned i = 0; i < matches && n; i++)
            items[test_random_below(n)] = 1;
        for (size_t i = n; i-- > 0;) {
            atomic_store(&asked[i], 0);
            if (items[i])
                lowest_match = i;
        }
        CHECK_EQ(twill_parallel_find(items, 4, n, &at, match_from, &options), TWILL_OK);
        CHECK_EQ(at, lowest_match);
        for (size_t i = 0; i < n; i++)
            if (!CHECK(atomic_load(&asked[i]) == 1 ||
                       (i > lowest_match && !atomic_load(&asked[i]))))
                break;
    }
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

/* ---- sort ---- */

typedef struct record {
    uint32_t key, place; /* where it was */
} record;

static int by_key(const void *a, const void *b, const twill_task *task)
{
    uint32_t x, y;

    (void)task;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return x < y ? -1 : x > y;
}

static uint32_t any_key(int kind, size_t i, size_t n)
{
    switch (kind) {
    case 0:
        return (uint32_t)test_random();
    case 1:
        return (uint32_t)test_random_below(5);
    case 2:
        return (uint32_t)i; /* sorted already */
    case 3:
        return (uint32_t)(n - i); /* the wrong way round */
    case 4:
        return 7;
    case 5:
        return (uint32_t)(i % 100);
    case 6: /* in order, but for a few */
        return test_random_below(50) ? (uint32_t)i : (uint32_t)test_random_below(n);
    default: /* up and down again */
        return (uint32_t)(i < n / 2 ? i : n - i);
    }
}
enum { KEY_KINDS = 8 };

typedef struct wide { /* two are no multiple of 8; still moved itself */
    record key;
    unsigned char filling[52];
} wide;
typedef struct wider { /* sorted by pointers */
    record key;
    unsigned char filling[92];
} wider;
TWILL_DEFINE_SORT(sort_keys, uint32_t, a, b, a < b)
TWILL_DEFINE_SORT(sort_typed_records, record, a, b, a.key < b.key)
TWILL_DEFINE_SORT(sort_wide, wide, a, b, a.key.key < b.key.key)
TWILL_DEFINE_SORT(sort_wider, wider, a, b, a.key.key < b.key.key)
static const size_t typed_sizes[] = {sizeof(uint32_t), sizeof(record), sizeof(wide), sizeof(wider)};

static twill_status sort_typed(void *items, size_t n, size_t size,
                               const twill_parallel_options *options)
{
    switch (size) {
    case sizeof(uint32_t):
        return sort_keys((uint32_t *)items, n, options);
    case sizeof(record):
        return sort_typed_records((record *)items, n, options);
    case sizeof(wide):
        return sort_wide((wide *)items, n, options);
    default:
        return sort_wider((wider *)items, n, options);
    }
}

/* Items of `size` bytes: key, place, and a filling that depends on the place. */
static void check_sort(size_t n, size_t size, int kind, bool typed,
                       const twill_parallel_options *options)
{
    unsigned char *items = (unsigned char *)malloc(n * size + (n == 0)), *seen;
    record last = {0, 0};
    bool ok = true;

    for (size_t i = 0; i < n; i++) {
        record made = {any_key(kind, i, n), (uint32_t)i};

        memset(items + i * size, (int)(i % 255), size);
        memcpy(items + i * size, &made, size < sizeof made ? size : sizeof made);
    }
    seen = (unsigned char *)calloc(n + 1, 1);
    CHECK_EQ(typed ? sort_typed(items, n, size, options)
                   : twill_parallel_sort(items, n, size, by_key, options),
             TWILL_OK);
    for (size_t i = 0; i < n && ok; i++) {
        record here = {0, 0};

        memcpy(&here, items + i * size, size < sizeof here ? size : sizeof here);
        ok = CHECK(i == 0 || last.key < here.key ||
                   (last.key == here.key && last.place <= here.place));
        if (size >= sizeof here) {
            ok = ok && CHECK(here.place < n && !seen[here.place]++);
            for (size_t b = sizeof here; b < size && ok; b++)
                ok = CHECK_EQ(items[i * size + b], here.place % 255);
        }
        last = here;
    }
    free(seen);
    free(items);
}

TEST(sort_is_stable_and_complete)
{
    static const size_t sizes[] = {4, 8, 8, 12, 16, 24, 32, 33, 64, 100};
    twill_pool *pool = pool_of_three();

    for (int round = 0; round < 240 / SLOW; round++) {
        twill_parallel_options options = any_options(pool, false);
        bool typed = round % 3 == 0;

        check_sort(any_size(round / 3),
                   typed ? typed_sizes[test_random_below(4)] : sizes[test_random_below(10)],
                   (int)test_random_below(KEY_KINDS), typed, &options);
    }
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

TEST(small_sorts_of_all_lengths)
{
    for (size_t n = 0; n <= 200; n++)
        for (int kind = 0; kind < KEY_KINDS; kind += kind == 0 || n % 4 == 0 ? 1 : 3) {
            twill_parallel_options options = {.run.workers = n % 8 == 7 ? 2 : 1};

            check_sort(n, 8, kind, false, &options);
            check_sort(n, typed_sizes[n % 4], kind, true, &options);
        }
}

/* It breaks its promise. No order can come of it; yet a merge loses no item and gives none twice.
   (Two pieces of one merge may.) */
static int by_chance(const void *a, const void *b, const twill_task *task)
{
    (void)a;
    (void)b;
    return (int)(atomic_fetch_add((atomic_uint *)task->context, 1) * 2654435761u >> 16) % 3 - 1;
}

TWILL_DEFINE_SORT(sort_by_chance, record, a, b, by_chance(&a, &b, task) < 0)

TEST(merges_whose_comparison_contradicts_itself_keep_every_item)
{
    static unsigned char seen[3000];

    for (int round = 0; round < 60; round++) {
        size_t n = 2 + (size_t)test_random_below(round % 2 ? 2900 : 90);
        size_t size = round % 3 == 0 ? 100 : 8;
        atomic_uint chance = (unsigned)test_random_below(1000);
        twill_parallel_options options = {.run = {.workers = 1, .context = &chance}};
        unsigned char *items = (unsigned char *)calloc(n, size);

        for (size_t i = 0; i < n; i++) {
            record made = {0, (uint32_t)i};

            memcpy(items + i * size, &made, sizeof made);
        }
        CHECK_EQ(round % 3 == 1 ? sort_by_chance((record *)(void *)items, n, &options)
                                : twill_parallel_sort(items, n, size, by_chance, &options),
                 TWILL_OK);
        memset(seen, 0, sizeof seen);
        for (size_t i = 0; i < n; i++) {
            record here;

            memcpy(&here, items + i * size, sizeof here);
            if (!CHECK(here.place < n && !seen[here.place]++))
                break;
        }
        free(items);
    }
}

static atomic_uint compares;
static unsigned compares_left;

static int by_key_until_cancelled(const void *a, const void *b, const twill_task *task)
{
    if (atomic_fetch_add(&compares, 1) == compares_left)
        twill_cancel_fire(&reduce_token, 1);
    return by_key(a, b, task);
}

TWILL_DEFINE_SORT(sort_until_cancelled, record, a, b, by_key_until_cancelled(&a, &b, task) < 0)

TEST(sort_that_is_cancelled_keeps_every_item)
{
    static unsigned char seen[20000];
    unsigned cancelled = 0;

    for (int round = 0; round < 80 / SLOW; round++) {
        size_t n = 2 + (size_t)test_random_below(19000), size = round % 2 ? 8 : 80;
        twill_parallel_options options = any_options(NULL, false);
        unsigned char *items = (unsigned char *)calloc(n, size);
        twill_status status;

        twill_cancel_init(&reduce_token, NULL);
        atomic_store(&compares, 0);
        compares_left = (unsigned)test_random_below(n * 14);
        options.run.until = twill_until_cancelled(&reduce_token);
        for (size_t i = 0; i < n; i++) {
            record made = {(uint32_t)test_random(), (uint32_t)i};

            memcpy(items + i * size, &made, sizeof made);
        }
        status = round % 4 == 1
                     ? sort_until_cancelled((record *)(void *)items, n, &options)
                     : twill_parallel_sort(items, n, size, by_key_until_cancelled, &options);
        CHECK(status == TWILL_OK || status == TWILL_CANCELLED);
        cancelled += status == TWILL_CANCELLED;
        memset(seen, 0, sizeof seen);
        for (size_t i = 0; i < n; i++) {
            record here;

            memcpy(&here, items + i * size, sizeof here);
            if (!CHECK(here.place < n && !seen[here.place]++))
                break;
        }
        free(items);
    }
    CHECK(cancelled > 0);
    CHECK_EQ(faults_live(), 0);
}

/* Large items are compared first and moved then: until they are moved back, the call can end. */
TEST(sort_of_large_items_that_is_cancelled_before_it_moves_them_changes_nothing)
{
    enum { N = 500 };
    static wider items[N], before[N];
    twill_parallel_options options = {.run = {.workers = 1, .until = {.cancel = &reduce_token}}};
    unsigned all;

    for (uint32_t i = 0; i < N; i++) {
        before[i].key.key = i * 7919 % N;
        before[i].key.place = i;
    }
    twill_cancel_init(&reduce_token, NULL);
    atomic_store(&compares, 0);
    compares_left = UINT_MAX;
    memcpy(items, before, sizeof items);
    CHECK_EQ(twill_parallel_sort(items, N, sizeof *items, by_key_until_cancelled, &options),
             TWILL_OK);
    all = atomic_load(&compares);
    atomic_store(&compares, 0);
    compares_left = all - 1; /* the last one */
    memcpy(items, before, sizeof items);
    CHECK_EQ(twill_parallel_sort(items, N, sizeof *items, by_key_until_cancelled, &options),
             TWILL_CANCELLED);
    CHECK(memcmp(items, before, sizeof items) == 0);
}

static size_t bytes_size;

static int by_bytes(const void *a, const void *b)
{
    return memcmp(a, b, bytes_size);
}

static int by_bytes_too(const void *a, const void *b, const twill_task *task)
{
    (void)task;
    return by_bytes(a, b);
}

/* Each size has a way to be copied. */
TEST(sorts_of_every_size)
{
    static const size_t sizes[] = {1, 2, 3, 4, 5, 8, 12, 16, 24, 63, 65};
    enum { N = 3000 };

    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++)
        for (unsigned workers = 1; workers <= 3; workers += 2) {
            size_t bytes = N * sizes[k];
            unsigned char *items = malloc(bytes), *model = malloc(bytes);

            for (size_t i = 0; i < bytes; i++)
                items[i] = (unsigned char)test_random_below(i % sizes[k] ? 256 : 7);
            memcpy(model, items, bytes);
            bytes_size = sizes[k];
            qsort(model, N, sizes[k], by_bytes);
            CHECK_EQ(twill_parallel_sort(items, N, sizes[k], by_bytes_too,
                                         &(twill_parallel_options){.run.workers = workers}),
                     TWILL_OK);
            CHECK(memcmp(items, model, bytes) == 0);
            free(items);
            free(model);
        }
}

TEST(invalid_sorts)
{
    uint32_t items[3] = {3, 2, 1};
    twill_report report;
    twill_parallel_options options = {.run.report = &report};

    CHECK_EQ(twill_parallel_sort(items, 3, 4, NULL, &options), TWILL_INVALID);
    CHECK_EQ(report.status, TWILL_INVALID);
    CHECK_EQ(twill_parallel_sort(NULL, 3, 4, by_key, &options), TWILL_INVALID);
    CHECK_EQ(twill_parallel_sort(items, 3, 0, by_key, &options), TWILL_INVALID);
    CHECK_EQ(twill_parallel_sort(items, SIZE_MAX / 3, 4, by_key, &options), TWILL_TOO_BIG);
    CHECK_EQ(twill_parallel_sort(NULL, 0, 4, by_key, &options), TWILL_OK);
    CHECK_EQ(sort_keys(NULL, 3, &options), TWILL_INVALID);
    CHECK_EQ(sort_keys(items, SIZE_MAX / 3, &options), TWILL_TOO_BIG);
    CHECK_EQ(sort_keys(NULL, 0, NULL), TWILL_OK);
    options.schedule = TWILL_SCHEDULE_STATIC;
    CHECK_EQ(twill_parallel_sort(items, 3, 4, by_key, &options), TWILL_INVALID);
    CHECK_EQ(sort_keys(items, 3, &options), TWILL_INVALID);
    options.schedule = TWILL_SCHEDULE_AUTO;
    options.chunk = 3;
    CHECK_EQ(twill_parallel_sort(items, 3, 4, by_key, &options), TWILL_INVALID);
    CHECK(items[0] == 3 && items[1] == 2 && items[2] == 1);
}

/* ---- find and stop ---- */

static bool sixty_or_stop(const void *item, const twill_task *task)
{
    int value = *(const int *)item;

    if (value == 1) {
        twill_sleep(twill_within(TWILL_MS(5)));
        twill_task_stop(task);
    }
    return value == 60;
}

TEST(find_sees_nothing_above_a_stop)
{
    int items[64];

    for (int i = 0; i < 64; i++)
        items[i] = i;
    for (unsigned workers = 1; workers <= 4; workers++) {
        size_t at = 0;
        twill_parallel_options options = {.run = {.workers = workers}};
        CHECK_EQ(twill_parallel_find(items, sizeof *items, 64, &at, sixty_or_stop, &options),
                 TWILL_OK);
        CHECK_EQ(at, 64); /* the serial loop got no further than item 1 */
    }
}

HARNESS_MAIN
