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

HARNESS_MAIN
