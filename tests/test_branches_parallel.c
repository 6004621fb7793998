/* test_branches_parallel.c - ways of twill_parallel_map.h that no other test takes for certain: refusals of
   each form, sizes that are copied in their own way, stops at the edge of a word, accumulators that cannot be
   made or combined. */
#define HARNESS_FAULTS
#include "harness.h"

#include "twill_parallel_map.h"

enum { ITEMS = 1000, WIDEST = 16 };

static int map_it(const void *in, void *out, const twill_task *task)
{
    (void)task;
    *(char *)out = *(const char *)in;
    return 0;
}

static int nothing(const twill_task *task)
{
    (void)task;
    return 0;
}

static int no_range(size_t begin, size_t end, const twill_task *task)
{
    (void)begin, (void)end, (void)task;
    return 0;
}

static int no_tile(size_t row, size_t row_end, size_t col, size_t col_end, const twill_task *task)
{
    (void)row, (void)row_end, (void)col, (void)col_end, (void)task;
    return 0;
}

static bool keep_any(const void *item, const twill_task *task)
{
    (void)item, (void)task;
    return true;
}

static int by_byte(const void *a, const void *b, const twill_task *task)
{
    (void)task;
    return *(const unsigned char *)a - *(const unsigned char *)b;
}

/* ---- refusals ---- */

TEST(an_unknown_schedule_is_refused_by_each_form)
{
    twill_parallel_options bad = {.schedule = (twill_schedule)99};
    twill_for_fn *const fns[] = {nothing};
    char in[4] = "abc", out[4];
    size_t n;

    CHECK_EQ(twill_parallel_map(in, 1, out, 1, 3, map_it, &bad), TWILL_INVALID);
    CHECK_EQ(twill_parallel_for(3, nothing, &bad), TWILL_INVALID);
    CHECK_EQ(twill_parallel_range(3, no_range, &bad), TWILL_INVALID);
    CHECK_EQ(twill_parallel_tiles(3, 3, 1, 1, no_tile, &bad), TWILL_INVALID);
    CHECK_EQ(twill_parallel_invoke(fns, 1, &bad), TWILL_INVALID);
    CHECK_EQ(twill_parallel_filter(in, 1, 3, out, &n, keep_any, &bad), TWILL_INVALID);
    CHECK_EQ(twill_parallel_find(in, 1, 3, &n, keep_any, &bad), TWILL_INVALID);
    CHECK_EQ(twill_parallel_sort(in, 3, 1, by_byte, &bad), TWILL_INVALID);
}

/* ---- filter ---- */

/* Items are marked in their first byte; the rest tells the item, so that a wrong copy is seen. */
static void fill(unsigned char *items, size_t size, unsigned third)
{
    for (size_t i = 0; i < ITEMS; i++) {
        for (size_t k = 0; k < size; k++)
            items[i * size + k] = (unsigned char)(i * 7 + k);
        items[i * size] = i % 3 < third;
    }
}

static bool keep_marked(const void *item, const twill_task *task)
{
    (void)task;
    return *(const unsigned char *)item;
}

static void filter_and_compare(size_t size, unsigned third, unsigned workers)
{
    static unsigned char items[ITEMS * WIDEST], wanted[ITEMS * WIDEST];
    twill_parallel_options options = {.run.workers = workers};
    size_t n = 0, got;

    fill(items, size, third);
    for (size_t i = 0; i < ITEMS; i++)
        if (items[i * size]) {
            memcpy(wanted + n * size, items + i * size, size);
            n++;
        }
    CHECK_EQ(twill_parallel_filter(items, size, ITEMS, items, &got, keep_marked, &options),
             TWILL_OK);
    CHECK_EQ(got, n);
    CHECK(memcmp(items, wanted, n * size) == 0);
}

TEST(a_filter_copies_items_of_every_size)
{
    static const size_t sizes[] = {1, 4, 8, 12, 16};

    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (unsigned third = 0; third <= 3; third++)
            for (unsigned workers = 1; workers <= 3; workers += 2)
                filter_and_compare(sizes[s], third, workers);
}

typedef struct stop {
    size_t at;
} stop;

static bool keep_until(const void *item, const twill_task *task)
{
    (void)item;
    if (task->index == ((const stop *)task->context)->at)
        twill_task_stop(task);
    return true;
}

TEST(a_stopped_filter_keeps_what_lies_below)
{
    static const size_t stops[] = {0, 62, 63, 64, 100, 127, ITEMS - 1};
    static int in[ITEMS], out[ITEMS];

    for (int i = 0; i < ITEMS; i++)
        in[i] = i;
    for (size_t s = 0; s < sizeof stops / sizeof *stops; s++) {
        stop where = {stops[s]};
        twill_parallel_options options = {.run = {.workers = 2, .context = &where}};
        size_t got = 0;
        CHECK_EQ(twill_parallel_filter(in, sizeof *in, ITEMS, out, &got, keep_until, &options),
                 TWILL_OK);
        CHECK_EQ(got, where.at + 1);
        CHECK(memcmp(in, out, got * sizeof *in) == 0);
    }
}

TEST(a_large_filter_needs_memory)
{
    enum { MANY = 1 << 20 };
    char *items = calloc(MANY, 1);
    size_t got = 1;

    CHECK(items);
    faults_fail_alloc_from(1);
    CHECK_EQ(twill_parallel_filter(items, 1, MANY, NULL, &got, keep_marked, NULL), TWILL_NO_MEMORY);
    faults_fail_alloc_from(0);
    CHECK_EQ(got, 0);
    free(items);
}

/* ---- reduce ---- */

static int no_identity(void *acc, const twill_task *task)
{
    (void)acc, (void)task;
    return 5;
}

static int add_range(void *acc, size_t begin, size_t end, const twill_task *task)
{
    (void)task;
    for (size_t i = begin; i < end; i++)
        *(uint64_t *)acc += i;
    return 0;
}

static int add_right(void *left, void *right, const twill_task *task)
{
    (void)task;
    *(uint64_t *)left += *(uint64_t *)right;
    return 0;
}

static int refuse_right(void *left, void *right, const twill_task *task)
{
    (void)left, (void)right, (void)task;
    return 6;
}

TEST(an_identity_that_fails_for_no_items_is_told)
{
    twill_reducer reducer = {
        .size = 8, .identity = no_identity, .fold = add_range, .combine = add_right};
    twill_report report;
    uint64_t sum = 77;

    CHECK_EQ(
        twill_parallel_reduce(0, &reducer, &sum, &(twill_parallel_options){.run.report = &report}),
        TWILL_FAILED);
    CHECK_EQ(report.first_error.code, 5);
    CHECK_EQ(report.first_error.status, TWILL_FAILED);
    CHECK(report.first_error.index == SIZE_MAX);
    CHECK_EQ(twill_parallel_reduce(0, &reducer, &sum, NULL), TWILL_FAILED);
    CHECK_EQ(twill_parallel_reduce(10, &reducer, &sum, NULL), TWILL_FAILED);
}

static void combine_fails(bool unordered)
{
    twill_reducer reducer = {
        .size = 8, .fold = add_range, .combine = refuse_right, .unordered = unordered, .blocks = 8};
    twill_report report;
    uint64_t sum = 77;
    twill_status status = twill_parallel_reduce(
        ITEMS, &reducer, &sum,
        &(twill_parallel_options){.run = {.workers = 2, .report = &report}, .chunk = 50});

    /* unordered: one worker may have done all, and then nothing is combined */
    CHECK(status == TWILL_FAILED || (unordered && status == TWILL_OK));
    if (status == TWILL_FAILED) {
        CHECK_EQ(report.first_error.code, 6);
        CHECK_EQ(sum, 77);
    } else {
        CHECK_EQ(sum, (uint64_t)ITEMS * (ITEMS - 1) / 2);
    }
}

TEST(a_combine_that_fails_fails_the_call)
{
    for (int round = 0; round < 20; round++) {
        combine_fails(false);
        combine_fails(true);
    }
}

TEST(costs_do_not_cut_an_ordered_reduce)
{
    twill_reducer reducer = {.size = 8, .fold = add_range, .combine = add_right};
    uint64_t sum = 77;

    CHECK_EQ(twill_parallel_reduce(3, &reducer, &sum,
                                   &(twill_parallel_options){.schedule = TWILL_SCHEDULE_COST}),
             TWILL_INVALID);
    reducer.size = 0;
    CHECK_EQ(twill_parallel_reduce(3, &reducer, &sum, NULL), TWILL_INVALID);
    CHECK_EQ(sum, 77);
}

/* ---- whatever the options ---- */

/* A loop whose items may fail, stop, skip or fire the token of the whole: no item runs twice, the report
   and the statuses add up and say the same, and a loop that nothing has ended gives its result. */
enum { ODD_MOST = 400, NEVER = ODD_MOST };
static struct odd {
    size_t n, fails_at, stops_at, skips_at, fires_at, slow_from;
    twill_cancel token;
    atomic_uchar ran[ODD_MOST];
    atomic_int live; /* accumulators */
} odd;

static size_t below(size_t limit)
{
    return (size_t)test_random_below(limit);
}

static size_t seldom(size_t n)
{
    return below(3) || !n ? NEVER : below(n);
}

static int odd_item(size_t i, const twill_task *task)
{
    CHECK_EQ(atomic_fetch_add(&odd.ran[i], 1), 0);
    if (i >= odd.slow_from) {
        twill_ns end = twill_now() + TWILL_US(15);
        while (twill_now() < end) {}
    }
    if (i == odd.fires_at)
        twill_cancel_fire(&odd.token, 1);
    if (i == odd.stops_at)
        return twill_task_stop(task);
    if (i == odd.skips_at)
        return twill_task_skip(task);
    return i == odd.fails_at ? 100 + (int)i : 0;
}

static int odd_for(const twill_task *task)
{
    return odd_item(task->index, task);
}

static int odd_map(const void *in, void *out, const twill_task *task)
{
    CHECK_EQ(*(const uint32_t *)in, task->index);
    *(uint32_t *)out = *(const uint32_t *)in * 2;
    return odd_item(task->index, task);
}

static int odd_range(size_t begin, size_t end, const twill_task *task)
{
    for (size_t i = begin; i < end; i++) {
        int code = odd_item(i, task);
        if (i == odd.stops_at || i == odd.skips_at) /* said of the range */
            return 0;
        if (code)
            return twill_task_fail(task, i, code);
    }
    return 0;
}

static uint64_t odd_cost(size_t index, const twill_task *task)
{
    (void)task;
    return index % 7;
}

static bool odd_test(const void *item, const twill_task *task)
{
    (void)odd_item(task->index, task);
    return *(const uint32_t *)item % 5 == 2;
}

static int odd_identity(void *acc, const twill_task *task)
{
    (void)task;
    atomic_fetch_add(&odd.live, 1);
    memset(acc, 0, 200);
    return 0;
}

static void odd_dispose(void *acc, const twill_task *task)
{
    (void)acc, (void)task;
    atomic_fetch_sub(&odd.live, 1);
}

static int odd_fold(void *acc, size_t begin, size_t end, const twill_task *task)
{
    for (size_t i = begin; i < end; i++) {
        int code = odd_item(i, task);
        *(uint64_t *)acc += i + 1;
        if (code)
            return code;
    }
    return 0;
}

static int odd_sum(void *left, void *right, const twill_task *task)
{
    (void)task;
    *(uint32_t *)left += *(uint32_t *)right;
    return 0;
}

static twill_parallel_options odd_options(void)
{
    twill_parallel_options o = {.run.workers = (unsigned)below(5), .chunk = below(2) * below(9)};
    size_t n = odd.n = below(8) ? below(60) : below(ODD_MOST);
    o.schedule = (twill_schedule)below(TWILL_SCHEDULE_COST + 1);
    o.cost_of = o.schedule == TWILL_SCHEDULE_COST ? odd_cost : NULL;
    o.run.on_error = (twill_on_error)below(TWILL_ON_ERROR_LIMIT + 1);
    o.run.max_errors = o.run.on_error == TWILL_ON_ERROR_LIMIT ? 1 + below(3) : 0;
    o.run.until.cancel = below(2) ? &odd.token : NULL;
    if (!below(8))
        o.run.until.deadline = twill_now() + TWILL_US((twill_ns)below(100));
    odd.fails_at = seldom(n);
    odd.stops_at = seldom(n);
    odd.skips_at = seldom(n);
    odd.fires_at = seldom(n);
    odd.slow_from = below(4) ? NEVER : below(n + 1);
    memset((void *)odd.ran, 0, sizeof odd.ran);
    atomic_store(&odd.live, 0);
    return o;
}

/* Nothing has ended it, and nothing was left out. */
static bool odd_is_whole(const twill_parallel_options *o)
{
    return odd.fails_at == NEVER && odd.stops_at == NEVER && odd.skips_at == NEVER &&
           (odd.fires_at == NEVER || !o->run.until.cancel) && !o->run.until.deadline;
}

static void check_odd(const twill_report *report, const twill_status *statuses)
{
    size_t counts[3] = {0, 0, 0};
    CHECK_EQ(report->total, odd.n);
    CHECK_EQ(report->total, report->done + report->failed + report->skipped);
    for (size_t i = 0; statuses && i < odd.n; i++)
        counts[statuses[i] == TWILL_OK ? 0 : statuses[i] == TWILL_FAILED ? 1 : 2]++;
    if (statuses) {
        CHECK_EQ(counts[0], report->done);
        CHECK_EQ(counts[1], report->failed);
        CHECK_EQ(counts[2], report->skipped);
    }
}

TEST(loops_add_up_whatever_the_options)
{
    static uint32_t in[ODD_MOST], out[ODD_MOST];
    static twill_status statuses[ODD_MOST];
    static int codes[ODD_MOST];
    for (uint32_t i = 0; i < ODD_MOST; i++)
        in[i] = i;
    for (int round = 0; round < 300; round++) {
        twill_parallel_options o = odd_options();
        twill_report report;
        twill_status status;
        bool asks = below(2);
        twill_cancel_init(&odd.token, NULL);
        o.run.report = &report;
        o.run.statuses = asks ? statuses : NULL;
        o.run.codes = asks && below(2) ? codes : NULL;
        if (round % 3 == 0)
            status = twill_parallel_for(odd.n, odd_for, &o);
        else if (round % 3 == 1)
            status = twill_parallel_map(in, 4, out, 4, odd.n, odd_map, &o);
        else
            status = twill_parallel_range(odd.n, odd_range, &o);
        CHECK_EQ(status, report.status);
        check_odd(&report, o.run.statuses);
        if (odd_is_whole(&o)) {
            CHECK_EQ(status, TWILL_OK);
            CHECK_EQ(report.done, odd.n);
        }
        if (report.first_error.status) /* none where the serial loop stops before it */
            CHECK_EQ(report.first_error.index, odd.fails_at);
        for (size_t i = 0; o.run.codes && i < odd.n; i++)
            CHECK_EQ(codes[i], statuses[i] == TWILL_FAILED ? 100 + (int)i : 0);
        for (size_t i = 0; round % 3 == 1 && i < odd.n && status == TWILL_OK; i++)
            if (asks && statuses[i] == TWILL_OK)
                CHECK_EQ(out[i], 2 * i);
        twill_cancel_detach(&odd.token);
        CHECK_EQ(faults_live(), 0);
    }
}

static int odd_order(const void *a, const void *b, const twill_task *task)
{
    uint32_t x = *(const uint32_t *)a / 4, y = *(const uint32_t *)b / 4;
    (void)task;
    if (odd.fires_at != NEVER && x == odd.fires_at)
        twill_cancel_fire(&odd.token, 1);
    return x < y ? -1 : x > y;
}

TEST(algorithms_give_their_result_or_say_why_not)
{
    static uint32_t in[ODD_MOST], out[ODD_MOST];
    for (int round = 0; round < 300; round++) {
        twill_parallel_options o = odd_options();
        twill_status status;
        bool whole;
        size_t got = 77;
        uint64_t sum[25] = {77};
        twill_cancel_init(&odd.token, NULL);
        if (round % 5 && o.schedule == TWILL_SCHEDULE_COST) {
            o.schedule = TWILL_SCHEDULE_AUTO;
            o.cost_of = NULL;
        }
        whole = odd_is_whole(&o);
        for (uint32_t i = 0; i < ODD_MOST; i++)
            in[i] = i;
        if (round % 5 == 0) {
            status = twill_parallel_find(in, 4, odd.n, &got, odd_test, &o);
            if (status == TWILL_OK && whole)
                CHECK_EQ(got, odd.n > 2 ? 2 : odd.n);
            CHECK(got == odd.n || got % 5 == 2);
        } else if (round % 5 == 1) {
            status = twill_parallel_filter(in, 4, odd.n, below(2) ? in : NULL, &got, odd_test, &o);
            if (status == TWILL_OK && whole)
                CHECK_EQ(got, (odd.n + 2) / 5);
            if (status != TWILL_OK)
                CHECK_EQ(got, 0);
        } else if (round % 5 == 2) {
            twill_reducer reducer = {.size = below(2) ? 200 : 8,
                                     .fold = odd_fold,
                                     .combine = add_right,
                                     .unordered = below(2),
                                     .blocks = below(2) * below(20)};
            if (reducer.size == 200) {
                reducer.identity = odd_identity;
                reducer.dispose = odd_dispose;
            }
            o.schedule = TWILL_SCHEDULE_AUTO;
            o.cost_of = NULL;
            status = twill_parallel_reduce(odd.n, &reducer, sum, &o);
            if (status == TWILL_OK && whole)
                CHECK_EQ(sum[0], (uint64_t)odd.n * (odd.n + 1) / 2);
            if (status != TWILL_OK)
                CHECK_EQ(sum[0], 77);
            if (reducer.dispose)
                CHECK_EQ(atomic_load(&odd.live), status == TWILL_OK);
        } else if (round % 5 == 3) {
            uint32_t start = 5;
            status = twill_parallel_scan(in, out, 4, odd.n, below(2) ? &start : NULL, odd_sum, &o);
            if (status == TWILL_OK && odd.n > 1)
                CHECK(out[odd.n - 1] == odd.n * (odd.n - 1) / 2 ||
                      out[odd.n - 1] == 5 + (odd.n - 1) * (odd.n - 2) / 2);
        } else {
            o.chunk = 0;
            o.schedule = TWILL_SCHEDULE_AUTO;
            o.cost_of = NULL;
            for (size_t i = 0; i < odd.n; i++)
                in[i] = (uint32_t)((i * 37) % (odd.n ? odd.n : 1));
            status = twill_parallel_sort(in, odd.n, 4, odd_order, &o);
            for (size_t i = 1; i < odd.n && status == TWILL_OK; i++)
                CHECK(in[i - 1] / 4 <= in[i] / 4);
        }
        if (whole)
            CHECK(status == TWILL_OK || status == TWILL_INVALID);
        twill_cancel_detach(&odd.token);
        CHECK_EQ(faults_live(), 0);
    }
}

/* ---- memory that there is not ---- */

static int no_compare(const void *a, const void *b, const twill_task *task)
{
    (void)a, (void)b, (void)task;
    CHECK(false);
    return 0;
}

static int no_combine(void *left, void *right, const twill_task *task)
{
    (void)left, (void)right, (void)task;
    CHECK(false);
    return 0;
}

TEST(accumulators_and_items_as_large_as_all_memory)
{
    char here[8] = {0};
    twill_reducer reducer = {.size = SIZE_MAX / 2, .fold = add_range, .combine = add_right};
    for (int unordered = 0; unordered < 2; unordered++) {
        reducer.unordered = unordered;
        CHECK_EQ(twill_parallel_reduce(100, &reducer, here, NULL), TWILL_NO_MEMORY);
        reducer.size = SIZE_MAX - 4;
        CHECK_EQ(twill_parallel_reduce(100, &reducer, here, NULL), TWILL_NO_MEMORY);
    }
    CHECK_EQ(twill_parallel_scan(here, here, SIZE_MAX / 3, 3, NULL, no_combine, NULL),
             TWILL_NO_MEMORY);
    CHECK_EQ(twill_parallel_sort(here, 3, SIZE_MAX / 3, no_compare, NULL), TWILL_NO_MEMORY);
    CHECK_EQ(twill_parallel_sort(here, 3, 1, NULL, NULL), TWILL_INVALID);
    CHECK_EQ(twill_parallel_sort(here, 3, 1, no_compare, &(twill_parallel_options){.chunk = 1}),
             TWILL_INVALID);
    CHECK_EQ(faults_live(), 0);
}

HARNESS_MAIN
