/* test_limits.c - the sizes at which objects and calls say TOO_BIG, one below and one above:
   where no memory is, what is not too big says so. */
#define HARNESS_FAULTS
#include "harness.h"

#include "twill.h"

#include <limits.h>

enum { BELOW, AT, ABOVE, PLACES };

static void no_memory(bool now)
{
    faults_fail_alloc_from(now ? 1 : 0);
}

/* ---- numbers of workers ---- */

static int stage_work(const void *in, void *out, const twill_task *task)
{
    (void)in, (void)out, (void)task;
    return 0;
}

static int batch_work(twill_batch *batch, const twill_task *task)
{
    (void)batch, (void)task;
    return 0;
}

static twill_status objects(int which, unsigned workers, void **out)
{
    static const twill_stage stage = {.work = stage_work, .out_size = 4};

    switch (which) {
    case 0:
        return twill_pool_create((twill_pool **)out, &(twill_pool_options){.run.workers = workers});
    case 1:
        return twill_pool_create((twill_pool **)out,
                                 &(twill_pool_options){.run.workers = 1, .max_workers = workers});
    case 2:
        return twill_pool_create(
            (twill_pool **)out,
            &(twill_pool_options){.run.workers = 1, .stuck_after = 1, .max_abandoned = workers});
    case 3:
        return twill_fan_create((twill_fan **)out,
                                &(twill_fan_options){.run.workers = workers, .in_flight = 70000});
    case 4:
        return twill_batcher_create((twill_batcher **)out, batch_work,
                                    &(twill_batch_options){.run.workers = workers});
    default:
        return twill_pipeline_create(
            (twill_pipeline **)out, 4, &stage, 1,
            &(twill_pipeline_options){.run.workers = workers, .tokens = 1u << 20});
    }
}

TEST(numbers_of_workers)
{
    enum { MOST = 65536 }; /* TWILL__MAX_NUMBERS and TWILL__MAX_WORKERS */

    for (int which = 0; which < 6; which++)
        for (unsigned at = BELOW; at < PLACES; at++) {
            void *out = &out;
            twill_status status;
            no_memory(true);
            status = objects(which, MOST - 1 + at, &out);
            no_memory(false);
            CHECK_EQ(status, at == ABOVE ? TWILL_TOO_BIG : TWILL_NO_MEMORY);
            CHECK(out == NULL);
        }
}

static int one_item(const twill_task *task)
{
    (void)task;
    return 0;
}

TEST(more_workers_than_there_can_be_in_a_call)
{
    twill_parallel_options options = {.run.workers = UINT_MAX};
    twill_status status = twill_parallel_for(10, one_item, &options);

    CHECK(status == TWILL_OK || status == TWILL_TOO_BIG);
}

/* ---- items and bytes: calls ---- */

static int copies(const void *in, void *out, const twill_task *task)
{
    (void)in, (void)out, (void)task;
    CHECK(false); /* none of these runs */
    return 0;
}

TEST(items_whose_bytes_no_size_can_hold)
{
    static char item[8], out[8];

    for (size_t size = 2; size <= 8; size++) {
        size_t most = SIZE_MAX / size;
        twill_report report;
        CHECK_EQ(twill_parallel_map(item, size, out, 1, most + 1, copies, NULL), TWILL_TOO_BIG);
        CHECK_EQ(twill_parallel_map(item, 1, out, size, most + 1, copies, NULL), TWILL_TOO_BIG);
        CHECK_EQ(twill_fan_out_fan_in(item, size, most + 1, copies, 0, NULL,
                                      &(twill_fan_options){.run.report = &report}),
                 TWILL_TOO_BIG);
        CHECK_EQ(report.status, TWILL_TOO_BIG);
        CHECK_EQ(twill_run_all(item, size, NULL, 0, most + 1, copies, NULL, NULL), TWILL_TOO_BIG);
        CHECK_EQ(twill_run_all(item, 1, out, size, most + 1, copies, NULL, NULL), TWILL_TOO_BIG);
        CHECK_EQ(twill_batch_process(item, size, NULL, 0, most + 1, batch_work, NULL),
                 TWILL_TOO_BIG);
    }
}

TEST(futures_whose_waits_no_size_can_hold)
{
    twill_future none = {0};

    CHECK_EQ(twill_future_wait_any(&none, SIZE_MAX / 8, NULL, (twill_until){0, NULL}),
             TWILL_TOO_BIG);
}

/* ---- pipelines ---- */

static twill_status pipeline(twill_stage stage, size_t tokens)
{
    twill_pipeline *out;
    twill_status status;

    no_memory(true);
    status = twill_pipeline_create(&out, 4, &stage, 1, &(twill_pipeline_options){.tokens = tokens});
    no_memory(false);
    CHECK(out == NULL);
    return status;
}

static int batch_stage(const void *items, size_t n, const twill_task *task)
{
    (void)items, (void)n, (void)task;
    return 0;
}

TEST(sizes_of_a_pipeline)
{
    const size_t billion = (size_t)1 << 30;
    twill_stage one = {.work = stage_work, .out_size = 4}, many = one, batch = one;
    twill_stage *stages;
    twill_pipeline *out;

    CHECK_EQ(pipeline(one, billion), TWILL_NO_MEMORY);
    CHECK_EQ(pipeline(one, billion + 1), TWILL_TOO_BIG);
    many.outputs_max = 1 << 10;
    CHECK_EQ(pipeline(many, (size_t)1 << 20), TWILL_NO_MEMORY);
    CHECK_EQ(pipeline(many, ((size_t)1 << 20) + 1), TWILL_TOO_BIG);
    many.outputs_max = UINT32_MAX;
    CHECK_EQ(pipeline(many, 1), TWILL_TOO_BIG);
    many.outputs_max = (size_t)UINT32_MAX + 1;
    CHECK_EQ(pipeline(many, 1), TWILL_TOO_BIG);
    many.outputs_max = billion;
    CHECK_EQ(pipeline(many, 1), TWILL_NO_MEMORY);
    many.outputs_max = billion + 1;
    CHECK_EQ(pipeline(many, 1), TWILL_TOO_BIG);
    batch.work = NULL;
    batch.batch = batch_stage;
    batch.batch_max = UINT32_MAX;
    CHECK_EQ(pipeline(batch, 4), TWILL_NO_MEMORY);
    batch.batch_max = (size_t)UINT32_MAX + 1;
    CHECK_EQ(pipeline(batch, 4), TWILL_TOO_BIG);

    stages = malloc(65537 * sizeof *stages);
    for (size_t k = 0; k < 65537; k++)
        stages[k] = one;
    no_memory(true);
    CHECK_EQ(twill_pipeline_create(&out, 4, stages, 65536, &(twill_pipeline_options){.tokens = 1}),
             TWILL_NO_MEMORY);
    CHECK_EQ(twill_pipeline_create(&out, 4, stages, 65537, &(twill_pipeline_options){.tokens = 1}),
             TWILL_TOO_BIG);
    no_memory(false);
    free(stages);
}

/* A pipeline without stages copies, and says so. */
TEST(a_pipeline_map_without_stages)
{
    int items[5] = {1, 2, 3, 4, 5}, results[5] = {0};
    twill_status statuses[5];
    twill_pipeline_report report;
    twill_report run;

    for (int with = 0; with < 4; with++) {
        memset(&report, 0xa5, sizeof report);
        memset(&run, 0xa5, sizeof run);
        memset(statuses, 0xa5, sizeof statuses);
        memset(results, 0, sizeof results);
        CHECK_EQ(
            twill_pipeline_map(items, sizeof(int), results, sizeof(int), 5, NULL, 0,
                               &(twill_pipeline_options){.report = with & 1 ? &report : NULL,
                                                         .run = {.report = with & 2 ? &run : NULL,
                                                                 .statuses = statuses}}),
            TWILL_OK);
        CHECK_EQ(memcmp(items, results, sizeof items), 0);
        for (int i = 0; i < 5; i++)
            CHECK_EQ(statuses[i], TWILL_OK);
        if (with & 1) {
            CHECK_EQ(report.delivered, 5);
            CHECK_EQ(report.filtered, 0);
            CHECK_EQ(report.failed_stage, SIZE_MAX);
            CHECK_EQ(report.run.total, 5);
            CHECK_EQ(report.run.done, 5);
            CHECK_EQ(report.run.workers_used, 1);
            CHECK_EQ(report.bottleneck, 0);
        }
        if (with & 2) {
            CHECK_EQ(run.total, 5);
            CHECK_EQ(run.done, 5);
            CHECK_EQ(run.workers_started, 1);
        }
    }
}

/* ---- pools of resources ---- */

static int makes(void **resource, const twill_task *task)
{
    *resource = NULL;
    (void)task;
    return 1;
}

TEST(sizes_of_a_resource_pool)
{
    twill_resource_pool *pool;
    const size_t most = UINT32_MAX;

    for (unsigned at = BELOW; at < PLACES; at++) {
        twill_status status;
        no_memory(true);
        status = twill_resource_pool_create(
            &pool, &(twill_resource_pool_options){.create = makes, .max = most - 1 + at});
        no_memory(false);
        CHECK_EQ(status, at == BELOW ? TWILL_NO_MEMORY : TWILL_TOO_BIG);
        CHECK(pool == NULL);
    }
}

/* ---- what a refusal leaves behind ---- */

static bool wanted(const void *item, const twill_task *task)
{
    (void)item, (void)task;
    return true;
}

static int run_it(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    return 0;
}

static int no_values(const twill_batch *batch, const twill_task *task)
{
    (void)batch, (void)task;
    return 0;
}

/* Handles are empty, so that giving one back by mistake gives back nothing. */
TEST(a_refusal_hands_out_no_handle)
{
    static const twill_lease no_lease;
    static const twill_reservation no_reservation;
    twill_until now = twill_within(0);
    twill_future futures[2];
    twill_lease leases[2];
    twill_reservation reservation;
    twill_rate_limiter limiter;

    memset(futures, 'x', sizeof futures);
    CHECK_EQ(twill_pool_submit(NULL, run_it, NULL, &futures[0], NULL), TWILL_INVALID);
    CHECK(!futures[0].slot && !futures[0].generation);
    memset(futures, 'x', sizeof futures);
    CHECK_EQ(twill_pool_submit_many(NULL, run_it, NULL, 2, futures, NULL, NULL), TWILL_INVALID);
    CHECK(!futures[0].slot && !futures[1].slot);
    memset(futures, 'x', sizeof futures);
    CHECK_EQ(twill_batcher_add(NULL, NULL, &futures[0]), TWILL_INVALID);
    CHECK(!futures[0].slot && !futures[0].generation);
    memset(leases, 'x', sizeof leases);
    CHECK_EQ(twill_resource_pool_acquire_many_until(NULL, leases, 2, now), TWILL_INVALID);
    CHECK(!memcmp(&leases[0], &no_lease, sizeof no_lease) && !leases[1].pool);

    memset(&reservation, 'x', sizeof reservation);
    CHECK_EQ(twill_rate_limiter_reserve(NULL, 1, 0, &reservation), TWILL_INVALID);
    CHECK(!memcmp(&reservation, &no_reservation, sizeof reservation));
    CHECK_EQ(twill_rate_limiter_init_per_second(&limiter, 1, 1), TWILL_OK);
    CHECK_EQ(twill_rate_limiter_reserve_at(&limiter, 1, 0, 5, &reservation), TWILL_OK);
    CHECK_EQ(reservation.due, 5);
    CHECK_EQ(twill_rate_limiter_reserve_at(&limiter, 1, TWILL_FOREVER, 5, &reservation), TWILL_OK);
    CHECK_EQ(twill_rate_limiter_reserve_at(&limiter, 1, 0, 5, &reservation), TWILL_TIMEOUT);
    CHECK(!memcmp(&reservation, &no_reservation, sizeof reservation));
    CHECK(!twill_rate_limiter_cancel(&limiter, &reservation));
    CHECK_EQ(twill_rate_limiter_reserve_at(&limiter, 2, 0, 5, &reservation), TWILL_TOO_BIG);
    CHECK_EQ(reservation.due, 0);
    CHECK_EQ(twill_rate_limiter_reserve_at(&limiter, 0, 0, 7, &reservation), TWILL_OK);
    CHECK_EQ(reservation.due, 7);
    CHECK(!twill_rate_limiter_cancel(&limiter, &reservation));
}

TEST(a_refusal_counts_nothing)
{
    twill_until now = twill_within(0);
    twill_stopped stopped = {9, 9, 9};
    twill_shutdown_report report = {.entered = 9, .wall = 9};
    size_t count = 9;
    void *values = &count;
    int item = 5;

    CHECK_EQ(twill_pool_stop(NULL, now, now, &stopped), TWILL_INVALID);
    CHECK_EQ(stopped.finished + stopped.cancelled + stopped.stuck, 0);
    stopped.stuck = 9;
    CHECK_EQ(twill_pool_abandon(NULL, &stopped), TWILL_INVALID);
    CHECK_EQ(stopped.stuck, 0);
    stopped.stuck = 9;
    CHECK_EQ(twill_batcher_stop(NULL, now, now, &stopped), TWILL_INVALID);
    CHECK_EQ(stopped.stuck, 0);
    stopped.stuck = 9;
    CHECK_EQ(twill_fan_stop(NULL, now, now, &stopped), TWILL_INVALID);
    CHECK_EQ(stopped.stuck, 0);
    stopped.stuck = 9;
    CHECK_EQ(twill_pipeline_stop(NULL, now, now, &stopped), TWILL_INVALID);
    CHECK_EQ(stopped.stuck, 0);

    CHECK_EQ(twill_shutdown_finish(NULL, &report), TWILL_INVALID);
    CHECK(report.status == TWILL_INVALID && report.entered == 0 && report.wall == 0);

    CHECK_EQ(twill_queue_push_many_until(NULL, &item, 1, &count, now), TWILL_INVALID);
    CHECK_EQ(count, 0);
    count = 9;
    CHECK_EQ(twill_queue_pop_many_until(NULL, &item, 1, &count, now), TWILL_INVALID);
    CHECK(count == 0 && item == 5);
    count = 9;
    CHECK_EQ(twill_pool_submit_many(NULL, run_it, NULL, 1, NULL, &count, NULL), TWILL_INVALID);
    CHECK_EQ(count, 0);
    count = 9;
    CHECK_EQ(twill_parallel_filter(&item, 0, 1, &item, &count, wanted, NULL), TWILL_INVALID);
    CHECK_EQ(count, 0);
    CHECK_EQ(twill_parallel_find(NULL, sizeof item, 1, &count, wanted, NULL), TWILL_INVALID);
    CHECK_EQ(count, 1); /* none is found */
    CHECK_EQ(twill_batch_flat_map(NULL, 1, 1, no_values, 1, &values, &count, NULL), TWILL_INVALID);
    CHECK(!values && count == 0);
}

/* What a call would have brought is as it was. */
TEST(a_refusal_brings_nothing)
{
    twill_until now = twill_within(0);
    twill_future none = {NULL, 0};
    twill_outcome outcome = {.index = 5};
    void *resource = &none;
    size_t which = 9;
    int item = 5;

    CHECK_EQ(twill_queue_pop(NULL, &item), TWILL_INVALID);
    CHECK_EQ(twill_queue_select_until(NULL, 1, TWILL_SELECT_FAIR, &which, now), TWILL_INVALID);
    CHECK_EQ(twill_fan_next(NULL, &item, &outcome), TWILL_INVALID);
    CHECK_EQ(twill_future_wait(none, &item, &outcome), TWILL_INVALID);
    CHECK_EQ(twill_future_wait_any(&none, 1, &which, now), TWILL_INVALID);
    CHECK_EQ(twill_resource_pool_detach(NULL, &(twill_lease){0}, &resource), TWILL_INVALID);
    CHECK(item == 5 && outcome.index == 5 && which == 9 && resource == &none);
}

HARNESS_MAIN
