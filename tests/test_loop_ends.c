/* test_loop_ends.c - loops that another worker's failure or stop cuts short, and what they
   report. */
#define HARNESS_FAULTS
#include "harness.h"

#include "twill_fan_out_fan_in.h"
#include "twill_parallel_map.h"
#include "twill_pipeline.h"

static twill_report report;

static twill_parallel_options options_of(unsigned workers, twill_schedule schedule)
{
    twill_parallel_options options = {.schedule = schedule};

    memset(&report, 0xa5, sizeof report);
    options.run.workers = workers;
    options.run.report = &report;
    return options;
}

/* ---- by what another worker says ---- */

enum { HALF = 4000 };

static atomic_size_t upper;
static atomic_bool begun, ends;
static bool by_stop;

/* Item 0 ends the loop when the other half has begun, which is in no hurry then. */
static int ends_the_other(const twill_task *task)
{
    twill_ns end = twill_now() + TWILL_SEC(100);

    if (task->index >= HALF) {
        atomic_store(&begun, true);
        while (!atomic_load(&ends) && twill_now() < end)
            (void)twill_sleep(twill_within(TWILL_US(20)));
        (void)twill_sleep(twill_within(TWILL_MS(10)));
        atomic_fetch_add(&upper, 1);
        return 0;
    }
    if (task->index)
        return 0;
    while (!atomic_load(&begun) && twill_now() < end)
        (void)twill_sleep(twill_within(TWILL_US(20)));
    atomic_store(&ends, true);
    return by_stop ? twill_task_stop(task) : 7;
}

TEST(what_is_above_a_failure_or_a_stop_ends_soon)
{
    for (int stop = 0; stop < 2; stop++) {
        twill_parallel_options options = options_of(2, TWILL_SCHEDULE_STATIC);
        size_t before;
        by_stop = stop;
        atomic_store(&upper, 0);
        atomic_store(&begun, false);
        atomic_store(&ends, false);
        options.run.on_error = TWILL_ON_ERROR_LOWEST;
        CHECK_EQ(twill_parallel_for(2 * HALF, ends_the_other, &options),
                 stop ? TWILL_OK : TWILL_FAILED);
        before = atomic_load(&upper);
        CHECK(before < HALF / 2); /* it does a hundred in a second */
        CHECK(report.skipped >= HALF - before);
    }
}

/* Who asks through a task that has no token hears it all the same. */
static int asks_without_a_token(const twill_task *task)
{
    twill_task bare = *task;
    twill_ns end = twill_now() + TWILL_SEC(100);

    bare.until = (twill_until){0, NULL};
    if (task->index < HALF) {
        while (!atomic_load(&begun) && twill_now() < end)
            (void)twill_sleep(twill_within(TWILL_US(20)));
        return 7;
    }
    CHECK(!twill_task_cancelled(&bare) || atomic_load(&begun));
    atomic_store(&begun, true);
    while (!twill_task_cancelled(&bare))
        if (twill_now() > end)
            return CHECK(false);
        else
            (void)twill_sleep(twill_within(TWILL_US(20)));
    return 0;
}

TEST(a_task_without_its_token_is_told_too)
{
    static const twill_on_error policies[] = {TWILL_ON_ERROR_LOWEST, TWILL_ON_ERROR_FIRST};

    for (int k = 0; k < 2; k++) {
        twill_parallel_options options = options_of(2, TWILL_SCHEDULE_STATIC);
        atomic_store(&begun, false);
        options.run.on_error = policies[k];
        CHECK_EQ(twill_parallel_for(2 * HALF, asks_without_a_token, &options), TWILL_FAILED);
        CHECK_EQ(report.first_error.code, 7);
    }
}

/* ---- the figures ---- */

static int takes_a_while(const twill_task *task)
{
    twill_ns end = twill_now() + TWILL_US(20);

    (void)task;
    while (twill_now() < end)
        continue;
    return 0;
}

static __attribute__((noinline)) void dirty_the_stack(void)
{
    volatile unsigned char all[32768];

    for (size_t i = 0; i < sizeof all; i++)
        all[i] = 0xa5;
}

TEST(a_workers_time_is_within_the_calls)
{
    for (unsigned workers = 1; workers < 20; workers += 6) {
        twill_parallel_options options = options_of(workers, TWILL_SCHEDULE_DYNAMIC);
        dirty_the_stack();
        CHECK_EQ(twill_parallel_for(400, takes_a_while, &options), TWILL_OK);
        CHECK_EQ(report.done, 400);
        CHECK(report.busiest >= TWILL_US(20));
        CHECK(report.busiest <= report.wall + TWILL_MS(1));
        CHECK(report.busy >= TWILL_US(20) * 400);
        CHECK(report.busy <= report.wall * (twill_ns)workers + TWILL_MS(1));
    }
}

/* ---- one item says both ---- */

static int stops_and_fails(const void *in, void *out, const twill_task *task)
{
    (void)in, (void)out;
    if (task->index != 3)
        return 0;
    (void)twill_task_stop(task);
    return 7;
}

static int six(void *out, const twill_task *task)
{
    *(int *)out = 0;
    return task->index == 6 ? twill_task_stop(task) : 0;
}

/* The item has run, and says that it has failed: that is no error above the stop. */
TEST(an_item_that_stops_and_fails_has_failed)
{
    static const int in[6];
    int out[6];
    const twill_on_error policies[3] = {TWILL_ON_ERROR_LOWEST, TWILL_ON_ERROR_FIRST,
                                        TWILL_ON_ERROR_LIMIT};

    for (int k = 0; k < 3; k++) {
        const twill_stage stage = {.work = stops_and_fails, .kind = TWILL_STAGE_SERIAL};
        twill_pipeline_report flow;
        twill_run run = {.workers = 1, .on_error = policies[k], .report = &report};
        CHECK_EQ(twill_parallel_map(in, sizeof *in, out, sizeof *out, 6, stops_and_fails,
                                    &(twill_parallel_options){.run = run}),
                 TWILL_FAILED);
        CHECK_EQ(report.first_error.index, 3);
        CHECK_EQ(twill_fan_out_fan_in(in, sizeof *in, 6, stops_and_fails, sizeof *out, NULL,
                                      &(twill_fan_options){.run = run}),
                 TWILL_FAILED);
        CHECK_EQ(report.first_error.index, 3);
        run.report = NULL;
        CHECK_EQ(twill_pipeline_run(six, sizeof *in, &stage, 1,
                                    &(twill_pipeline_options){.run = run, .report = &flow}),
                 TWILL_FAILED);
        CHECK_EQ(flow.run.first_error.index, 3);
        CHECK_EQ(flow.run.first_error.code, 7);
        CHECK_EQ(flow.run.failed, 1);
    }
}

HARNESS_MAIN
