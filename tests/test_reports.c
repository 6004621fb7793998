/* test_reports.c - what a report says about how the work was handed out. */
#include "harness.h"

#include "twill_parallel_map.h"

enum { ITEMS = 2000 };

static twill_report report;

static int nothing(const twill_task *task)
{
    (void)task;
    return 0;
}

static int slow(const twill_task *task)
{
    twill_ns end = twill_now() + TWILL_US(20);

    (void)task;
    while (twill_now() < end)
        continue;
    return 0;
}

static twill_parallel_options options_of(twill_schedule schedule, size_t chunk, unsigned workers)
{
    twill_parallel_options options = {.schedule = schedule, .chunk = chunk};

    memset(&report, 0, sizeof report);
    options.run.workers = workers;
    options.run.report = &report;
    return options;
}

TEST(static_hands_out_one_part_a_worker)
{
    for (unsigned workers = 2; workers < 6; workers++) {
        twill_parallel_options options = options_of(TWILL_SCHEDULE_STATIC, 0, workers);
        CHECK_EQ(twill_parallel_for(ITEMS, nothing, &options), TWILL_OK);
        CHECK_EQ(report.chunks, workers);
        CHECK_EQ(report.done, ITEMS);
    }
}

TEST(dynamic_hands_out_chunk_by_chunk)
{
    static const size_t chunks[] = {1, 7, 8, 100, ITEMS - 1, ITEMS, ITEMS + 1};

    for (size_t k = 0; k < sizeof chunks / sizeof chunks[0]; k++) {
        twill_parallel_options options = options_of(TWILL_SCHEDULE_DYNAMIC, chunks[k], 3);
        CHECK_EQ(twill_parallel_for(ITEMS, nothing, &options), TWILL_OK);
        CHECK_EQ(report.chunks, (ITEMS + chunks[k] - 1) / chunks[k]);
    }
}

TEST(auto_and_guided_never_hand_out_less_than_a_chunk)
{
    static const twill_schedule schedules[] = {TWILL_SCHEDULE_AUTO, TWILL_SCHEDULE_GUIDED};

    for (int k = 0; k < 2; k++)
        for (size_t chunk = 50; chunk <= 400; chunk *= 2) {
            twill_parallel_options options = options_of(schedules[k], chunk, 4);
            CHECK_EQ(twill_parallel_for(ITEMS, slow, &options), TWILL_OK);
            CHECK(report.chunks >= 1);
            /* the ends of ranges may be shorter: one a range, and a range is not halved below it */
            CHECK(report.chunks <= 2 * ITEMS / chunk + 4);
        }
}

static int never_called(const void *in, void *out, const twill_task *task)
{
    (void)in, (void)out, (void)task;
    CHECK(false);
    return 0;
}

TEST(no_items_need_no_arrays)
{
    twill_parallel_options options = options_of(TWILL_SCHEDULE_AUTO, 0, 2);

    CHECK_EQ(twill_parallel_map(NULL, 0, NULL, 0, 0, never_called, &options), TWILL_OK);
    CHECK_EQ(report.total, 0);
    CHECK_EQ(report.chunks, 0);
}

HARNESS_MAIN
