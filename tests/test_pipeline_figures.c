/* test_pipeline_figures.c - what a pipeline tells about its stages, and who is told when it
   ends. */
#include "harness.h"

#include "twill_pipeline.h"
#include "twill_worker_pool.h"

#include "pool_kit.h"

static struct gate gate;

static twill_pipeline *pipeline_of(const twill_stage *stages, size_t n,
                                   const twill_pipeline_options *options)
{
    twill_pipeline *pipeline = NULL;

    memset(&gate, 0, sizeof gate);
    CHECK_EQ(twill_pipeline_create(&pipeline, sizeof(int), stages, n, options), TWILL_OK);
    return pipeline;
}

/* Item 0 waits at the gate. */
static int first_waits(const void *in, void *out, const twill_task *task)
{
    (void)task;
    if (*(const int *)in == 0)
        CHECK(gate_wait(&gate));
    if (out)
        *(int *)out = *(const int *)in;
    return 0;
}

static int passes(const void *in, void *out, const twill_task *task)
{
    (void)task;
    if (out)
        *(int *)out = *(const int *)in;
    return 0;
}

static int takes_a_while(const void *in, void *out, const twill_task *task)
{
    (void)in, (void)out, (void)task;
    (void)twill_sleep(twill_within(TWILL_MS(2)));
    return 0;
}

static void wait_for(twill_pipeline *pipeline, uint64_t delivered)
{
    twill_ns end = twill_now() + TWILL_SEC(100);
    twill_pipeline_report report;

    do {
        twill_pipeline_get_stats(pipeline, &report, NULL);
        (void)twill_sleep(twill_within(TWILL_US(200)));
    } while (report.delivered < delivered && twill_now() < end);
    CHECK_EQ(report.delivered, delivered);
}

TEST(the_longest_line_before_a_stage_is_kept)
{
    const twill_stage stage = {
        .work = first_waits, .out_size = sizeof(int), .kind = TWILL_STAGE_SERIAL};
    twill_pipeline_report report;
    twill_stage_stats stats;
    twill_pipeline *pipeline =
        pipeline_of(&stage, 1,
                    &(twill_pipeline_options){
                        .run.workers = 1, .tokens = 8, .report = &report, .stage_stats = &stats});

    for (int i = 0; i < 5; i++) {
        CHECK_EQ(twill_pipeline_push(pipeline, &i), TWILL_OK);
        if (i == 0)
            CHECK(gate_inside(&gate, 1));
    }
    gate_open(&gate);
    wait_for(pipeline, 5);
    CHECK_EQ(twill_pipeline_push(pipeline, &(int){9}), TWILL_OK);
    wait_for(pipeline, 6);
    CHECK_EQ(twill_pipeline_join(pipeline), TWILL_OK);
    twill_pipeline_get_stats(pipeline, &report, &stats);
    CHECK_EQ(twill_pipeline_destroy(pipeline), TWILL_OK);
    CHECK_EQ(stats.waiting_peak, 4);
    CHECK_EQ(stats.waiting, 0);
    CHECK_EQ(stats.in, 6);
    CHECK_EQ(stats.out, 6);
    CHECK_EQ(stats.running, 0);
    CHECK_EQ(stats.running_peak, 1);
    CHECK_EQ(stats.failed + stats.dropped + stats.filtered, 0);
    CHECK(stats.busy > 0 && stats.longest > 0 && stats.longest <= stats.busy);
    CHECK_EQ(report.delivered, 6);
    CHECK_EQ(report.run.total, 6);
    CHECK_EQ(report.run.done, 6);
    CHECK(report.in_flight_peak >= 5 && report.in_flight_peak <= 8);
    CHECK(report.run.busiest > 0 && report.run.busiest == report.run.busy);
    CHECK_EQ(report.run.workers_used, 1);
    CHECK_EQ(report.bottleneck, 0);
}

TEST(what_waits_for_its_turn_is_counted)
{
    const twill_stage stages[2] = {
        {.work = first_waits, .out_size = sizeof(int), .workers = 2},
        {.work = passes, .out_size = sizeof(int), .kind = TWILL_STAGE_IN_ORDER}};
    twill_stage_stats stats[2];
    twill_pipeline *pipeline =
        pipeline_of(stages, 2, &(twill_pipeline_options){.run.workers = 2, .tokens = 8});
    twill_ns end = twill_now() + TWILL_SEC(100);

    for (int i = 0; i < 4; i++) {
        CHECK_EQ(twill_pipeline_push(pipeline, &i), TWILL_OK);
        if (i == 0)
            CHECK(gate_inside(&gate, 1));
    }
    do {
        twill_pipeline_get_stats(pipeline, NULL, stats);
        (void)twill_sleep(twill_within(TWILL_US(200)));
    } while (stats[1].waiting < 3 && twill_now() < end);
    CHECK_EQ(stats[1].waiting, 3);
    gate_open(&gate);
    CHECK_EQ(twill_pipeline_join(pipeline), TWILL_OK);
    twill_pipeline_get_stats(pipeline, NULL, stats);
    CHECK_EQ(stats[1].reorder_peak, 3);
    CHECK_EQ(stats[1].in, 4);
    CHECK_EQ(stats[0].in, 4);
    CHECK_EQ(stats[0].running_peak, 2);
    CHECK_EQ(stats[1].running_peak, 1);
    CHECK_EQ(twill_pipeline_destroy(pipeline), TWILL_OK);
}

/* Each item as two. */
static int doubles(const void *in, void *out, const twill_task *task)
{
    if (*(const int *)in == 0)
        CHECK(gate_wait(&gate));
    (void)out;
    for (int k = 0; k < 2; k++)
        CHECK_EQ(twill_pipeline_emit(task, in), TWILL_OK);
    return 0;
}

TEST(what_waits_for_its_turn_is_counted_by_pieces)
{
    const twill_stage stages[2] = {
        {.work = doubles, .out_size = sizeof(int), .outputs_max = 2, .workers = 2},
        {.work = passes, .out_size = sizeof(int), .kind = TWILL_STAGE_IN_ORDER}};
    twill_stage_stats stats[2];
    twill_pipeline *pipeline =
        pipeline_of(stages, 2, &(twill_pipeline_options){.run.workers = 2, .tokens = 8});
    twill_ns end = twill_now() + TWILL_SEC(100);

    for (int i = 0; i < 4; i++) {
        CHECK_EQ(twill_pipeline_push(pipeline, &i), TWILL_OK);
        if (i == 0)
            CHECK(gate_inside(&gate, 1));
    }
    do {
        twill_pipeline_get_stats(pipeline, NULL, stats);
        (void)twill_sleep(twill_within(TWILL_US(200)));
    } while (stats[1].waiting < 6 && twill_now() < end);
    gate_open(&gate);
    CHECK_EQ(twill_pipeline_join(pipeline), TWILL_OK);
    twill_pipeline_get_stats(pipeline, NULL, stats);
    CHECK(stats[1].reorder_peak >= 6 &&
          stats[1].reorder_peak <= 7); /* one of the first item's two */
    CHECK_EQ(stats[1].in, 8);
    CHECK_EQ(twill_pipeline_destroy(pipeline), TWILL_OK);
}

TEST(the_bottleneck_is_the_busiest_stage)
{
    const twill_stage stages[3] = {{.work = passes, .out_size = sizeof(int)},
                                   {.work = takes_a_while, .out_size = sizeof(int)},
                                   {.work = passes}};
    twill_pipeline_report report = {.bottleneck = 9};
    twill_stage_stats stats[3];
    twill_pipeline *pipeline;

    /* a busy machine may hold up one of the others, but not every time */
    for (int tries = 0; tries < 40 && report.bottleneck != 1; tries++) {
        pipeline = pipeline_of(
            stages, 3,
            &(twill_pipeline_options){.run.workers = 2, .report = &report, .stage_stats = stats});
        for (int i = 0; i < 4; i++)
            CHECK_EQ(twill_pipeline_push(pipeline, &i), TWILL_OK);
        CHECK_EQ(twill_pipeline_join(pipeline), TWILL_OK);
        CHECK_EQ(twill_pipeline_destroy(pipeline), TWILL_OK);
        for (int k = 0; k < 3; k++) /* there was room behind each, always */
            CHECK_EQ(stats[k].held, 0);
        CHECK(stats[1].longest >= TWILL_MS(2));
        CHECK(stats[1].busy >= TWILL_MS(8));
        CHECK(report.run.busy >= TWILL_MS(8));
        CHECK(report.run.busiest >= TWILL_MS(4));
    }
    CHECK_EQ(report.bottleneck, 1);

    pipeline =
        pipeline_of(stages, 3, &(twill_pipeline_options){.run.workers = 2, .report = &report});
    CHECK_EQ(twill_pipeline_join(pipeline), TWILL_OK);
    CHECK_EQ(twill_pipeline_destroy(pipeline), TWILL_OK);
    CHECK_EQ(report.bottleneck, 0); /* none was busy */
    CHECK_EQ(report.run.total, 0);
}

/* ---- who is told ---- */

static twill_cancel token;
static atomic_bool answered;

static void *pushes_until_the_end(void *pipeline)
{
    twill_status status;
    int item = 1;

    while ((status = twill_pipeline_push(pipeline, &item)) == TWILL_OK)
        continue;
    atomic_store(&answered, true);
    return (void *)(intptr_t)status;
}

/* While a callback that does not look at its token goes on. */
TEST(who_pushes_is_told_when_the_token_fires)
{
    const twill_stage stage = {
        .work = first_waits, .out_size = sizeof(int), .kind = TWILL_STAGE_SERIAL};
    twill_pipeline *pipeline;
    twill_ns end = twill_now() + TWILL_SEC(100);
    pthread_t thread;
    void *status;

    twill_cancel_init(&token, NULL);
    atomic_store(&answered, false);
    pipeline = pipeline_of(
        &stage, 1,
        &(twill_pipeline_options){.run = {.workers = 1, .until = {0, &token}}, .tokens = 2});
    CHECK_EQ(twill_pipeline_push(pipeline, &(int){0}), TWILL_OK);
    CHECK(gate_inside(&gate, 1));
    CHECK_EQ(pthread_create(&thread, NULL, pushes_until_the_end, pipeline), 0);
    (void)twill_sleep(twill_within(TWILL_MS(10)));
    CHECK(!atomic_load(&answered));
    twill_cancel_fire(&token, 1);
    while (!atomic_load(&answered) && twill_now() < end)
        (void)twill_sleep(twill_within(TWILL_MS(1)));
    CHECK(atomic_load(&answered));
    gate_open(&gate);
    CHECK_EQ(pthread_join(thread, &status), 0);
    CHECK((intptr_t)status == TWILL_CANCELLED || (intptr_t)status == TWILL_CLOSED);
    CHECK_EQ(twill_pipeline_join(pipeline), TWILL_CANCELLED);
    CHECK_EQ(twill_pipeline_destroy(pipeline), TWILL_OK);
    twill_cancel_detach(&token);
}

HARNESS_MAIN
