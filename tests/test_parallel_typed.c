/* test_parallel_typed.c - TWILL_DEFINE_REDUCE, SCAN, FILTER and FIND of twill_parallel_map.h: they
   promise what the forms by function do, and their results are those of serial references. */
#define HARNESS_FAULTS
#include "harness.h"
#include "twill_parallel_map.h"
#include "twill_worker_pool.h"

#include <limits.h>

#include "parallel_kit.h"

static const size_t edges[] = {0,    1,    2,    3,    7,    8,     15,    16,    17,
                               31,   32,   33,   63,   64,   65,    127,   128,   129,
                               255,  256,  257,  511,  512,  513,   577,   1000,  4000,
                               4001, 4095, 4096, 4097, 9973, 16383, 16384, 16385, 30011};
enum { EDGES = sizeof edges / sizeof *edges, MOST = 30011, LONG = 1200000 };

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

/* What an expression does besides: it notes that it was asked, and fires a token, or ends the loop,
   at one item. */
static atomic_uchar asked[MOST];
static atomic_size_t calls;
static twill_cancel token;
static size_t fires_at, stops_at;

static void begin_asking(void)
{
    memset((void *)asked, 0, sizeof asked);
    atomic_store(&calls, 0);
    twill_cancel_init(&token, NULL);
    fires_at = stops_at = SIZE_MAX;
}

static uint32_t ask(uint32_t item, const twill_task *task)
{
    atomic_fetch_add_explicit(&asked[item], 1, memory_order_relaxed); /* counts */
    atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed);
    if (item == fires_at)
        twill_cancel_fire(&token, 1);
    if (item == stops_at)
        (void)twill_task_stop(task);
    return item;
}

static uint32_t items[MOST], results[MOST];

static void number_items(void)
{
    for (uint32_t i = 0; i < MOST; i++) {
        items[i] = i;
        results[i] = UINT32_MAX;
    }
}

/* ---- reduce ---- */

typedef struct wide { /* larger than what is folded on a worker's stack */
    affine value;
    uint64_t rest[30];
} wide;

static wide widened(affine value)
{
    wide result = {{0, 0}, {0}};

    result.value = value;
    result.rest[29] = ~value.b;
    return result;
}

static wide compose_wide(wide first, wide then)
{
    return widened(compose(first.value, then.value));
}

TWILL_DEFINE_REDUCE(compose_all, affine, affine, m, m, a, b, compose(a, b), ((affine){1, 0}))
TWILL_DEFINE_REDUCE(compose_all_wide, affine, wide, m, widened(m), a, b, compose_wide(a, b),
                    widened((affine){1, 0}))
TWILL_DEFINE_REDUCE(sum_floats, float, float, x, x, a, b, a + b, 0)
TWILL_DEFINE_REDUCE(count_items, uint32_t, size_t, x, 1, a, b, a + b, 0)
TWILL_DEFINE_REDUCE(largest, int, int, x, x, a, b, a > b ? a : b, INT_MIN)
TWILL_DEFINE_REDUCE(sum_asked, uint32_t, uint64_t, x, ask(x, task), a, b, a + b, 0)
TWILL_DEFINE_REDUCE(sum_scaled, int, double, x, x **(const double *)task->context, a, b, a + b, 0)

TEST(typed_reduce_keeps_the_order)
{
    twill_pool *pool = pool_of_three();

    draw_maps();
    for (int round = 0; round < 120; round++) {
        size_t n = any_size(round / 2);
        twill_parallel_options options = any_options(pool, true);
        affine want = {1, 0}, got = {0, 0};
        wide got_wide;

        for (size_t i = 0; i < n; i++)
            want = compose(want, maps[i]);
        CHECK_EQ(compose_all(maps, n, &got, &options), TWILL_OK);
        CHECK(got.a == want.a && got.b == want.b);
        CHECK_EQ(compose_all_wide(maps, n, &got_wide, &options), TWILL_OK);
        CHECK(got_wide.value.a == want.a && got_wide.value.b == want.b);
        CHECK_EQ(got_wide.rest[29], ~want.b);
    }
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

TEST(typed_reduce_gives_the_same_bits_on_any_number_of_threads)
{
    static float numbers[LONG];
    twill_pool *pool = pool_of_three();

    for (size_t i = 0; i < LONG; i++)
        numbers[i] = (float)(harness_mix(i) % 1000003) * (float)(1 + i % 1000) * 1e-3f;
    for (int round = 0; round < 60; round++) {
        size_t n = round == 59 ? LONG : any_size(round);
        float want = -1;

        for (unsigned workers = 1; workers <= 8; workers++) {
            twill_parallel_options options = {.run.workers = workers};
            float sum = -2;

            options.schedule = (twill_schedule)test_random_below(4);
            options.chunk = (size_t)test_random_below(1000);
            options.run.pool = workers == 3 ? pool : NULL;
            if (workers % 2 == 0) /* one that does not come makes no difference */
                options.run.until = twill_within(TWILL_SEC(1000));
            CHECK_EQ(sum_floats(numbers, n, &sum, &options), TWILL_OK);
            if (workers == 1)
                want = sum;
            CHECK(memcmp(&sum, &want, sizeof sum) == 0);
        }
    }
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

TEST(typed_reduce_of_nothing_is_what_the_macro_says)
{
    int most = 5, numbers[3] = {-7, -3, -5};
    size_t count = 77;
    double scale = 0.5, sum;

    CHECK_EQ(largest(NULL, 0, &most, NULL), TWILL_OK);
    CHECK_EQ(most, INT_MIN);
    CHECK_EQ(largest(numbers, 3, &most, NULL), TWILL_OK);
    CHECK_EQ(most, -3);
    CHECK_EQ(count_items(items, MOST, &count, NULL), TWILL_OK);
    CHECK_EQ(count, MOST);
    CHECK_EQ(sum_scaled(numbers, 3, &sum, &(twill_parallel_options){.run.context = &scale}),
             TWILL_OK);
    CHECK(sum == -7.5);
}

TEST(typed_reduce_that_is_cancelled_leaves_the_result)
{
    number_items();
    for (int round = 0; round < 60; round++) {
        twill_parallel_options options = any_options(NULL, true);
        twill_report report;
        uint64_t sum = 12345;
        twill_status status;

        begin_asking();
        fires_at = (size_t)test_random_below(MOST);
        options.run.until = twill_until_cancelled(&token);
        options.run.report = &report;
        status = sum_asked(items, MOST, &sum, &options);
        CHECK(status == TWILL_OK || status == TWILL_CANCELLED);
        CHECK_EQ(sum, status == TWILL_OK ? (uint64_t)MOST * (MOST - 1) / 2 : 12345);
        CHECK_EQ(report.total, report.done + report.failed + report.skipped);
        for (size_t i = 0; i < MOST; i++)
            if (!CHECK(atomic_load(&asked[i]) <= 1))
                break;
    }
}

/* A block of many items does not keep the call for long. */
TEST(typed_reduce_hears_of_the_token_inside_of_a_block)
{
    static uint32_t many[LONG];
    uint64_t sum = 12345;
    twill_report report;

    begin_asking();
    fires_at = 5;
    for (uint32_t i = 0; i < LONG; i++)
        many[i] = i % 1000;
    CHECK_EQ(sum_asked(many, LONG, &sum,
                       &(twill_parallel_options){.run = {.workers = 1,
                                                         .report = &report,
                                                         .until = twill_until_cancelled(&token)}}),
             TWILL_CANCELLED);
    CHECK_EQ(sum, 12345);
    CHECK_EQ(atomic_load(&calls), 4000); /* of a block of 4688 */
    CHECK(report.done == 0 && report.skipped == LONG);
}

TEST(invalid_typed_reductions)
{
    int number = 3, most = 5;
    twill_report report;
    twill_parallel_options options = {.run.report = &report};

    CHECK_EQ(largest(NULL, 1, &most, &options), TWILL_INVALID);
    CHECK_EQ(report.skipped, 1);
    CHECK_EQ(largest(&number, 1, NULL, &options), TWILL_INVALID);
    CHECK_EQ(largest(&number, SIZE_MAX / 2, &most, &options), TWILL_TOO_BIG);
    options.schedule = TWILL_SCHEDULE_COST;
    options.cost_of = kit_cost;
    CHECK_EQ(largest(&number, 1, &most, &options), TWILL_INVALID);
    CHECK_EQ(most, 5);
}

/* ---- scan ---- */

TWILL_DEFINE_SCAN(scan_maps, affine, a, b, compose(a, b))
TWILL_DEFINE_SCAN(scan_floats, float, a, b, a + b)
TWILL_DEFINE_SCAN(scan_wide, wide, a, b, compose_wide(a, b))
TWILL_DEFINE_SCAN(scan_asked, uint32_t, a, b, a + 0 * ask(0, task) + b)

TEST(typed_scan_equals_the_serial_loop)
{
    twill_pool *pool = pool_of_three();
    static affine in[MOST], out[MOST];

    draw_maps();
    for (int round = 0; round < 140; round++) {
        size_t n = any_size(round / 2);
        twill_parallel_options options = any_options(pool, false);
        affine start = {test_random() | 1, test_random()}, now = start;
        bool in_place = test_random_below(2) == 0, exclusive = round % 2 == 0;

        options.schedule = test_random_below(2) ? TWILL_SCHEDULE_AUTO : TWILL_SCHEDULE_STATIC;
        memcpy(in, maps, sizeof in);
        memset(out, 0, sizeof out);
        CHECK_EQ(scan_maps(in, in_place ? in : out, n, exclusive ? &start : NULL, &options),
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

TEST(static_typed_scan_gives_the_same_bits)
{
    static float in[MOST], one[MOST], other[MOST];

    for (size_t i = 0; i < MOST; i++)
        in[i] = (float)test_random_below(1000003) * (float)(1 + i % 1000) * 1e-3f;
    for (unsigned workers = 2; workers <= 8; workers += 2) {
        twill_parallel_options options = {.schedule = TWILL_SCHEDULE_STATIC};

        options.run.workers = 1;
        CHECK_EQ(scan_floats(in, one, MOST, NULL, &options), TWILL_OK);
        options.run.workers = workers;
        CHECK_EQ(scan_floats(in, other, MOST, NULL, &options), TWILL_OK);
        CHECK(memcmp(one, other, sizeof one) == 0);
    }
}

TEST(typed_scan_of_large_elements)
{
    enum { N = 700 };
    wide *in = calloc(N, sizeof *in), *out = calloc(N, sizeof *out);

    draw_maps();
    for (int i = 0; i < N; i++)
        in[i] = widened(maps[i]);
    for (unsigned workers = 1; workers <= 3; workers++)
        for (int exclusive = 0; exclusive < 2; exclusive++) {
            twill_parallel_options options = {.run.workers = workers};
            wide start = widened(maps[N]);
            affine now = exclusive ? maps[N] : in[0].value;

            CHECK_EQ(scan_wide(in, out, N, exclusive ? &start : NULL, &options), TWILL_OK);
            for (int i = 0; i < N; i++) {
                if (!exclusive && i)
                    now = compose(now, maps[i]);
                if (!CHECK(out[i].value.a == now.a && out[i].value.b == now.b &&
                           out[i].rest[29] == ~now.b))
                    break;
                if (exclusive)
                    now = compose(now, maps[i]);
            }
        }
    free(in);
    free(out);
    CHECK_EQ(faults_live(), 0);
}

/* What nobody asks for may overflow. */
TEST(typed_scan_combines_no_more_than_the_serial_loop)
{
    uint32_t start = 9;

    number_items();
    for (int exclusive = 0; exclusive < 2; exclusive++)
        for (size_t n = 1; n < 40; n++) {
            begin_asking();
            CHECK_EQ(scan_asked(items, results, n, exclusive ? &start : NULL,
                                &(twill_parallel_options){.run.workers = 1}),
                     TWILL_OK);
            CHECK_EQ(atomic_load(&calls), n - 1);
        }
}

TEST(typed_scan_that_is_cancelled_says_so)
{
    number_items();
    for (unsigned workers = 2; workers <= 4; workers++) { /* alone it has one block */
        twill_report report;
        twill_parallel_options options = {
            .run = {.workers = workers, .report = &report, .until = {.cancel = &token}}};

        begin_asking();
        fires_at = 0; /* the first combine */
        CHECK_EQ(scan_asked(items, results, MOST, NULL, &options), TWILL_CANCELLED);
        CHECK_EQ(report.total, report.done + report.failed + report.skipped);
        CHECK(report.skipped > 0 && report.failed == 0);
    }
}

TEST(invalid_typed_scans)
{
    twill_parallel_options refused[] = {{.schedule = (twill_schedule)9},
                                        {.chunk = 1},
                                        {.cost_of = kit_cost},
                                        {.run.errors_capacity = 1}};
    float in[2] = {1, 2}, out[2];

    for (int k = 0; k < 4; k++)
        CHECK_EQ(scan_floats(in, out, 2, NULL, &refused[k]), TWILL_INVALID);
    CHECK_EQ(scan_floats(NULL, out, 2, NULL, NULL), TWILL_INVALID);
    CHECK_EQ(scan_floats(in, NULL, 2, NULL, NULL), TWILL_INVALID);
    CHECK_EQ(scan_floats(in, out, SIZE_MAX / 2, NULL, NULL), TWILL_TOO_BIG);
    CHECK_EQ(scan_floats(NULL, NULL, 0, NULL, NULL), TWILL_OK);
}

/* ---- filter ---- */

static uint64_t filter_below;

static bool is_kept(uint32_t item)
{
    return harness_mix(item) % 1000 < filter_below;
}

typedef struct item7 {
    unsigned char bytes[7];
} item7;

static uint32_t number_of(const item7 *item)
{
    uint32_t number;

    memcpy(&number, item->bytes, sizeof number);
    return number;
}

TWILL_DEFINE_FILTER(keep_numbers, uint32_t, x, is_kept(ask(x, task)))
TWILL_DEFINE_FILTER(keep_sevens, item7, x, is_kept(ask(number_of(&x), task)))
TWILL_DEFINE_FILTER(keep_above, uint32_t, x, x >= *(const uint32_t *)task->context)

static void check_filter(size_t n, bool sevens, bool in_place, bool count_only,
                         const twill_parallel_options *options)
{
    static item7 in[MOST];
    size_t wanted = 0, got = 777, size = sevens ? sizeof(item7) : sizeof(uint32_t);
    char *from = sevens ? (char *)in : (char *)items, *out;

    number_items();
    begin_asking();
    for (uint32_t i = 0; i < n; i++) {
        memcpy(in[i].bytes, &i, sizeof i);
        in[i].bytes[6] = (unsigned char)(i % 251);
        wanted += is_kept(i);
    }
    out = in_place ? from : (char *)malloc(wanted * size + (wanted == 0)); /* exact room */
    CHECK_EQ(
        sevens ? keep_sevens(in, n, count_only ? NULL : (item7 *)(void *)out, &got, options)
               : keep_numbers(items, n, count_only ? NULL : (uint32_t *)(void *)out, &got, options),
        TWILL_OK);
    CHECK_EQ(got, wanted);
    for (uint32_t i = 0, k = 0; i < n && !count_only; i++) {
        uint32_t number;

        if (!is_kept(i))
            continue;
        memcpy(&number, out + k++ * size, sizeof number);
        if (!CHECK_EQ(number, i) || !CHECK(!sevens || (unsigned char)out[k * size - 1] == i % 251))
            break;
    }
    for (size_t i = 0; i < n; i++)
        if (!CHECK_EQ(atomic_load(&asked[i]), 1))
            break;
    if (!in_place)
        free(out);
}

TEST(typed_filter_equals_the_serial_loop)
{
    static const uint64_t densities[] = {0, 1, 500, 999, 1000};
    twill_pool *pool = pool_of_three();

    for (int round = 0; round < 150; round++) {
        twill_parallel_options options = any_options(pool, true);

        filter_below = densities[test_random_below(5)];
        check_filter(any_size(round / 3), round % 3 == 0, round % 2 == 0, test_random_below(6) == 0,
                     &options);
    }
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

TEST(typed_filter_that_is_cancelled_changes_nothing)
{
    filter_below = 500;
    for (int round = 0; round < 60; round++) {
        twill_parallel_options options = any_options(NULL, true);
        twill_status status;
        size_t got = 777, wanted = 0;

        number_items();
        begin_asking();
        fires_at = (size_t)test_random_below(MOST);
        options.run.until = twill_until_cancelled(&token);
        status = keep_numbers(items, MOST, items, &got, &options);
        CHECK(status == TWILL_OK || status == TWILL_CANCELLED);
        for (uint32_t i = 0; i < MOST; i++) {
            if (status == TWILL_CANCELLED && !CHECK_EQ(items[i], i))
                break;
            if (status == TWILL_OK && is_kept(i) && !CHECK_EQ(items[wanted++], i))
                break;
        }
        CHECK_EQ(got, wanted);
    }
}

/* A stop takes effect at the end of its range: what lies further up is not kept. */
TEST(typed_filter_keeps_nothing_above_a_stop)
{
    filter_below = 1000;
    for (int round = 0; round < 60; round++) {
        twill_parallel_options options = any_options(NULL, true);
        twill_report report;
        size_t got = 777;

        number_items();
        begin_asking();
        stops_at = (size_t)test_random_below(MOST);
        options.run.report = &report;
        CHECK_EQ(keep_numbers(items, MOST, results, &got, &options), TWILL_OK);
        CHECK(got > stops_at && got <= MOST);
        for (uint32_t i = 0; i < MOST; i++)
            if (!CHECK_EQ(results[i], i < got ? i : UINT32_MAX) ||
                !CHECK(atomic_load(&asked[i]) == 1 || i >= got))
                break;
        CHECK(report.failed == 0 && report.done >= got);
    }
}

TEST(invalid_typed_filters)
{
    uint32_t in[3] = {1, 2, 3}, out[3], least = 2;
    size_t n = 9;

    CHECK_EQ(keep_above(in, 3, out, NULL, NULL), TWILL_INVALID);
    CHECK_EQ(keep_above(NULL, 3, out, &n, NULL), TWILL_INVALID);
    CHECK_EQ(n, 0);
    CHECK_EQ(keep_above(in, SIZE_MAX / 3, out, &n, NULL), TWILL_TOO_BIG);
    CHECK_EQ(keep_above(NULL, 0, NULL, &n, NULL), TWILL_OK);
    CHECK_EQ(keep_above(in, 3, out, &n, &(twill_parallel_options){.run.context = &least}),
             TWILL_OK);
    CHECK(n == 2 && out[0] == 2 && out[1] == 3);
}

/* ---- find ---- */

static uint32_t needles[3];

static bool is_needle(uint32_t item)
{
    return item == needles[0] || item == needles[1] || item == needles[2];
}

TWILL_DEFINE_FIND(find_needle, uint32_t, x, is_needle(ask(x, task)))
TWILL_DEFINE_FIND(find_equal, uint32_t, x, x == *(const uint32_t *)task->context)

TEST(typed_find_gives_the_lowest_match)
{
    twill_pool *pool = pool_of_three();

    number_items();
    for (int round = 0; round < 220; round++) {
        size_t n = any_size(round / 3), at = 12345, lowest = n;
        twill_parallel_options options = any_options(pool, true);
        twill_report report;

        begin_asking();
        for (int k = 0; k < 3; k++) {
            needles[k] = n && test_random_below(3) ? (uint32_t)test_random_below(n) : UINT32_MAX;
            lowest = needles[k] < lowest ? needles[k] : lowest;
        }
        options.run.report = &report;
        CHECK_EQ(find_needle(items, n, &at, &options), TWILL_OK);
        CHECK_EQ(at, lowest);
        for (size_t i = 0; i < n && i <= lowest; i++)
            if (!CHECK(atomic_load(&asked[i]) >= 1))
                break;
        CHECK(report.status == TWILL_OK && report.failed == 0);
        CHECK(report.done + report.skipped == n && report.done >= (lowest < n ? lowest + 1 : n));
    }
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

TEST(typed_find_in_many_items)
{
    static uint32_t many[LONG];
    twill_pool *pool = pool_of_three();

    for (int round = 0; round < 60; round++) {
        uint32_t wanted = 1;
        twill_parallel_options options = {
            .run = {.context = &wanted, .pool = round % 2 ? pool : NULL}};
        size_t n = LONG - (size_t)test_random_below(100), where = (size_t)test_random_below(n);
        size_t at = 7;

        many[where] = many[n - 1] = wanted;
        if (round % 3 == 0)
            options.run.until = twill_within(TWILL_SEC(1000));
        CHECK_EQ(find_equal(many, n, &at, &options), TWILL_OK);
        CHECK_EQ(at, where);
        many[where] = many[n - 1] = 0;
        CHECK_EQ(find_equal(many, n, &at, &options), TWILL_OK);
        CHECK_EQ(at, n);
    }
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

TEST(typed_find_that_is_cancelled_tells_what_it_saw)
{
    number_items();
    for (int round = 0; round < 60; round++) {
        twill_parallel_options options = any_options(NULL, true);
        twill_status status;
        size_t at = 7, lowest = (size_t)test_random_below(MOST);

        begin_asking();
        needles[0] = needles[1] = needles[2] = (uint32_t)lowest;
        fires_at = (size_t)test_random_below(MOST);
        options.run.until = twill_until_cancelled(&token);
        status = find_needle(items, MOST, &at, &options);
        CHECK(status == TWILL_OK || status == TWILL_CANCELLED);
        CHECK(at == lowest || (at == MOST && status == TWILL_CANCELLED));
    }
}

/* Whatever the schedule, a chunk is cut where it would keep the call from looking round. */
TEST(typed_loops_hear_of_the_token_inside_of_a_chunk)
{
    number_items();
    for (int schedule = TWILL_SCHEDULE_AUTO; schedule <= TWILL_SCHEDULE_GUIDED; schedule++)
        for (int filters = 0; filters < 2; filters++) {
            twill_report report;
            twill_parallel_options options = {
                .run = {.workers = 1, .report = &report, .until = {.cancel = &token}},
                .schedule = (twill_schedule)schedule,
                .chunk = MOST};
            size_t result = 7;

            begin_asking();
            fires_at = 5;
            needles[0] = needles[1] = needles[2] = UINT32_MAX;
            filter_below = 500;
            CHECK_EQ(filters ? keep_numbers(items, MOST, results, &result, &options)
                             : find_needle(items, MOST, &result, &options),
                     TWILL_CANCELLED);
            CHECK_EQ(result, filters ? 0 : MOST);
            CHECK(atomic_load(&calls) > 5 && atomic_load(&calls) <= 16);
            CHECK_EQ(report.done, atomic_load(&calls));
            CHECK_EQ(report.skipped, MOST - report.done);
        }
}

TEST(typed_find_sees_nothing_above_a_stop)
{
    number_items();
    for (int round = 0; round < 60; round++) {
        twill_parallel_options options = any_options(NULL, true);
        size_t at = 7;

        begin_asking();
        stops_at = (size_t)test_random_below(MOST);
        needles[0] = needles[1] = needles[2] = MOST - 1;
        CHECK_EQ(find_needle(items, MOST, &at, &options), TWILL_OK);
        /* the range of the stop may be the last one */
        CHECK(at == MOST || at == MOST - 1);
        if (options.run.workers == 1 && options.schedule != TWILL_SCHEDULE_AUTO && stops_at < 16)
            CHECK_EQ(at, MOST);
    }
}

/* ---- items that are pointers ---- */

TWILL_DEFINE_MAP(without_first, const char *, const char *, x, x + 1)
TWILL_DEFINE_REDUCE(last_word, const char *, const char *, x, x, a, b, strcmp(a, b) > 0 ? a : b, "")
TWILL_DEFINE_SCAN(last_so_far, const char *, a, b, strcmp(a, b) > 0 ? a : b)
TWILL_DEFINE_FILTER(keep_odd_ends, char *, x, x[2] % 2 == 1)
TWILL_DEFINE_FIND(first_nine, char *, x, x[2] == '9')
TWILL_DEFINE_SORT(sort_words, const char *, a, b, strcmp(a, b) < 0)

TEST(typed_forms_of_pointers)
{
    enum { N = 1000 };
    static char texts[N][4];
    static char *in[N], *out[N];
    static const char *words[N], *more[N];
    const char *last = NULL;
    size_t kept = 0, at = 0;
    twill_parallel_options options = {.run.workers = 2};

    for (unsigned i = 0; i < N; i++) {
        unsigned number = i * 7 % N;

        texts[i][0] = (char)('0' + number / 100);
        texts[i][1] = (char)('0' + number / 10 % 10);
        texts[i][2] = (char)('0' + number % 10);
        in[i] = texts[i];
        words[i] = texts[i];
    }
    CHECK_EQ(first_nine(in, N, &at, &options), TWILL_OK);
    CHECK_EQ(at, 7); /* 49 */
    CHECK_EQ(keep_odd_ends(in, N, out, &kept, &options), TWILL_OK);
    CHECK_EQ(kept, N / 2);
    CHECK(out[0] == in[1]);
    CHECK_EQ(last_word(words, N, &last, &options), TWILL_OK);
    CHECK(strcmp(last, "999") == 0);
    CHECK_EQ(sort_words(words, N, &options), TWILL_OK);
    CHECK_EQ(last_so_far(words, more, N, NULL, &options), TWILL_OK);
    CHECK(memcmp(words, more, sizeof words) == 0);
    CHECK_EQ(without_first(words, more, N, &options), TWILL_OK);
    for (size_t i = 0; i < N; i++)
        if (!CHECK(more[i] == words[i] + 1 && (i == 0 || strcmp(words[i - 1], words[i]) < 0)))
            break;
}

/* Macros that become a literal with commas are as good as any other expression. */
typedef struct pair {
    int x, y;
} pair;
#define PAIR(x, y) \
    (pair)         \
    {              \
        x, y       \
    }
TWILL_DEFINE_MAP(swapped_pairs, pair, pair, p, PAIR(p.y, p.x))
TWILL_DEFINE_REDUCE(sum_of_pairs, pair, pair, p, PAIR(p.x, p.y), a, b, PAIR(a.x + b.x, a.y + b.y),
                    PAIR(0, 0))
TWILL_DEFINE_SCAN(sums_of_pairs, pair, a, b, PAIR(a.x + b.x, a.y + b.y))
TWILL_DEFINE_FILTER(pairs_of_five, pair, p, p.x == PAIR(5, 6).x)
TWILL_DEFINE_FIND(first_pair_of_three, pair, p, p.x == PAIR(3, 4).x)
TWILL_DEFINE_SORT(sort_pairs, pair, a, b, a.x < PAIR(b.x, b.y).x)

TEST(typed_forms_of_expressions_with_commas)
{
    pair pairs[3] = {{6, 5}, {4, 3}, {2, 1}}, sum, sums[3], fives[3];
    size_t n = 0, at = 0;

    CHECK_EQ(swapped_pairs(pairs, pairs, 3, NULL), TWILL_OK);
    CHECK_EQ(sort_pairs(pairs, 3, NULL), TWILL_OK);
    CHECK_EQ(pairs[0].x, 1);
    CHECK_EQ(sum_of_pairs(pairs, 3, &sum, NULL), TWILL_OK);
    CHECK(sum.x == 9 && sum.y == 12);
    CHECK_EQ(sums_of_pairs(pairs, sums, 3, NULL, NULL), TWILL_OK);
    CHECK(sums[1].x == 4 && sums[2].y == 12);
    CHECK_EQ(pairs_of_five(pairs, 3, fives, &n, NULL), TWILL_OK);
    CHECK(n == 1 && fives[0].y == 6);
    CHECK_EQ(first_pair_of_three(pairs, 3, &at, NULL), TWILL_OK);
    CHECK_EQ(at, 1);
}

TEST(invalid_typed_finds)
{
    uint32_t in[2] = {1, 2};
    size_t at = 7;

    CHECK_EQ(find_needle(NULL, 2, &at, NULL), TWILL_INVALID);
    CHECK_EQ(at, 2);
    CHECK_EQ(find_needle(in, 2, NULL, NULL), TWILL_INVALID);
    CHECK_EQ(find_needle(in, SIZE_MAX / 2, &at, NULL), TWILL_TOO_BIG);
    CHECK_EQ(find_needle(in, 2, &at, &(twill_parallel_options){.schedule = (twill_schedule)7}),
             TWILL_INVALID);
    CHECK_EQ(find_needle(NULL, 0, &at, NULL), TWILL_OK);
    CHECK_EQ(at, 0);
}

/* ---- statuses ---- */

TEST(typed_loops_tell_what_has_run)
{
    static twill_status statuses[MOST];

    number_items();
    for (int round = 0; round < 40; round++) {
        twill_parallel_options options = any_options(NULL, true);
        size_t at = 7, lowest = (size_t)test_random_below(MOST), done = 0;
        twill_report report;

        begin_asking();
        needles[0] = needles[1] = needles[2] = (uint32_t)lowest;
        options.run.statuses = statuses;
        options.run.report = &report;
        CHECK_EQ(find_needle(items, MOST, &at, &options), TWILL_OK);
        CHECK_EQ(at, lowest);
        for (size_t i = 0; i < MOST; i++) {
            done += statuses[i] == TWILL_OK;
            if (!CHECK(statuses[i] == TWILL_OK || (statuses[i] == TWILL_CANCELLED && i > lowest)))
                break;
        }
        CHECK_EQ(done, report.done);
    }
}

HARNESS_MAIN
