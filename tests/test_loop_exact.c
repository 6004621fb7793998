/* test_loop_exact.c - at which item a deadline ends a loop, on a clock that only callbacks move. */
#include "harness.h"
#include "virtual_time.h"

#define TWILL__TICKS 0
#define TWILL_IMPLEMENTATION
#include "twill_batch_processing.h"
#include "twill_parallel_map.h"

#if VIRTUAL_TIME

static twill_report report;

static twill_parallel_options options_of(unsigned workers, twill_schedule schedule)
{
    twill_parallel_options options = {.schedule = schedule};

    memset(&report, 0xa5, sizeof report);
    options.run.workers = workers;
    options.run.report = &report;
    return options;
}

static twill_ns takes;
static size_t runs;

static int moves_the_clock(const twill_task *task)
{
    CHECK_EQ(task->index, runs);
    runs++;
    virtual_now += takes;
    return 0;
}

/* Items that take long are looked at one by one, so no item begins late; short ones in eighths. */
TEST(a_deadline_is_seen_at_the_item)
{
    static const twill_schedule schedules[] = {TWILL_SCHEDULE_AUTO, TWILL_SCHEDULE_STATIC,
                                               TWILL_SCHEDULE_DYNAMIC, TWILL_SCHEDULE_GUIDED};
    static const twill_ns costs[] = {1, 50, 199, 200, 201, 1000, 1000000};

    for (size_t c = 0; c < sizeof costs / sizeof costs[0]; c++)
        for (twill_ns most = 0; most < 60; most += 7)
            for (int s = 0; s < 4; s++) {
                twill_parallel_options options = options_of(1, schedules[s]);
                twill_ns begun = virtual_now;
                size_t exact, late;
                takes = costs[c];
                runs = 0;
                options.chunk = 100;
                options.run.until.deadline = begun + most * takes + takes / 2;
                CHECK_EQ(twill_parallel_for(100, moves_the_clock, &options), TWILL_TIMEOUT);
                exact = (size_t)((options.run.until.deadline - begun + takes - 1) / takes);
                late = takes < 200 ? 7 : 0;
                CHECK(runs >= exact && runs <= exact + late);
                CHECK_EQ(report.status, TWILL_TIMEOUT);
                CHECK_EQ(report.done, runs);
                CHECK_EQ(report.skipped, 100 - runs);
                CHECK_EQ(report.wall, virtual_now - begun);
                virtual_now += 1000;
            }
}

TEST(a_deadline_that_is_over_runs_nothing)
{
    twill_parallel_options options = options_of(1, TWILL_SCHEDULE_AUTO);

    runs = 0;
    options.run.until.deadline = virtual_now;
    CHECK_EQ(twill_parallel_for(100, moves_the_clock, &options), TWILL_TIMEOUT);
    CHECK_EQ(runs, 0);
    CHECK_EQ(report.skipped, 100);
    options.run.until.deadline = virtual_now + 1;
    takes = 1000;
    CHECK_EQ(twill_parallel_for(100, moves_the_clock, &options), TWILL_TIMEOUT);
    CHECK_EQ(runs, 1);
}

static int fails_at_once(const twill_task *task)
{
    (void)task;
    return 7;
}

static int skips_the_second(const twill_task *task)
{
    virtual_now += 1000;
    return task->index == 1 ? twill_task_skip(task) : 0;
}

static int skips_from_the_second_on(size_t begin, size_t end, const twill_task *task)
{
    virtual_now += 1000 * (twill_ns)(end - begin);
    return begin ? twill_task_skip(task) : 0;
}

static int skips_the_second_batch(twill_batch *batch, const twill_task *task)
{
    virtual_now += 1000 * (twill_ns)batch->count;
    return batch->first ? twill_task_skip(task) : 0;
}

/* The deadline says why of what never ran, and of nothing else. */
TEST(an_item_that_said_skip_is_cancelled_whatever_ended_the_call)
{
    for (int form = 0; form < 3; form++) {
        twill_status statuses[12], status;
        twill_parallel_options options = options_of(1, TWILL_SCHEDULE_DYNAMIC);
        twill_batch_options batches = {.max_items = 2};
        int items[12] = {0};

        options.chunk = form ? 2 : 1;
        options.run.statuses = statuses;
        options.run.until.deadline = virtual_now + 3500;
        batches.run = options.run;
        status = form == 0   ? twill_parallel_for(12, skips_the_second, &options)
                 : form == 1 ? twill_parallel_range(12, skips_from_the_second_on, &options)
                             : twill_batch_process(items, sizeof items[0], NULL, 0, 12,
                                                   skips_the_second_batch, &batches);
        CHECK_EQ(status, TWILL_TIMEOUT);
        CHECK_EQ(report.done, form ? 2 : 3);
        CHECK_EQ(report.skipped, form ? 10 : 9);
        for (int i = 0; i < 12; i++)
            CHECK_EQ(statuses[i], i >= 4                    ? TWILL_TIMEOUT
                                  : (form ? i < 2 : i != 1) ? TWILL_OK
                                                            : TWILL_CANCELLED);
    }
}

/* A deadline that has not passed is no reason. */
TEST(what_an_error_ended_is_cancelled_before_the_deadline)
{
    twill_status statuses[4];
    twill_parallel_options options = options_of(1, TWILL_SCHEDULE_STATIC);

    options.run.statuses = statuses;
    options.run.until.deadline = virtual_now + 1000000;
    CHECK_EQ(twill_parallel_for(4, fails_at_once, &options), TWILL_FAILED);
    CHECK_EQ(statuses[0], TWILL_FAILED);
    for (int i = 1; i < 4; i++)
        CHECK_EQ(statuses[i], TWILL_CANCELLED);
}

static bool matches_late(const void *item, const twill_task *task)
{
    virtual_now += 1000;
    if (*(const char *)item == 's')
        (void)twill_task_skip(task);
    return *(const char *)item == 'm';
}

/* All below the match have been looked at: the deadline comes too late, but for one that gave
   up. */
TEST(a_match_that_is_certain_is_no_timeout)
{
    for (int schedule = TWILL_SCHEDULE_AUTO; schedule <= TWILL_SCHEDULE_GUIDED; schedule++) {
        twill_parallel_options options = options_of(1, (twill_schedule)schedule);
        size_t index = 0;

        options.run.until.deadline = virtual_now + 2500;
        CHECK_EQ(twill_parallel_find("..m..", 1, 5, &index, matches_late, &options), TWILL_OK);
        CHECK_EQ(index, 2);
        CHECK_EQ(report.done, 3);
        options.run.until.deadline = virtual_now + 2500;
        CHECK_EQ(twill_parallel_find(".sm..", 1, 5, &index, matches_late, &options), TWILL_TIMEOUT);
        CHECK_EQ(index, 2);
        options.run.until.deadline = virtual_now + 2500;
        CHECK_EQ(twill_parallel_find("....m", 1, 5, &index, matches_late, &options), TWILL_TIMEOUT);
        CHECK_EQ(index, 5);
    }
}

#else

TEST(a_deadline_is_seen_at_the_item)
{
    SKIP("time is virtual where waiting is a futex alone");
}

#endif

HARNESS_MAIN
