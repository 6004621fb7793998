/* What a fan tells about itself, figure by figure, and what its callbacks are given. */
#define HARNESS_FAULTS
#include "harness.h"

#include "twill_fan_out_fan_in.h"
#include "twill_parallel_map.h"
#include "twill_worker_pool.h"

#include "pool_kit.h"

#include <limits.h>

#ifdef TWILL_USE_PTHREAD
#define END_THREAD() pthread_exit(NULL)
#else
#define END_THREAD() thrd_exit(0)
#endif
#define OPTIONS(...) (&(twill_fan_options){__VA_ARGS__})

static twill_report report;
static struct gate gate;

static void fresh(void)
{
    memset(&report, 0, sizeof report);
    memset(&gate, 0, sizeof gate);
}

static twill_fan *fan_of(const twill_fan_options *options)
{
    twill_fan *fan = NULL;

    CHECK_EQ(twill_fan_create(&fan, options), TWILL_OK);
    return fan;
}

static int skipped(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result;
    return twill_task_skip(task);
}

static twill_fan_stats stats_now(twill_fan *fan)
{
    twill_fan_stats stats;

    memset(&stats, 0xa5, sizeof stats);
    twill_fan_get_stats(fan, &stats);
    return stats;
}

/* Until so many outcomes wait to be read. */
static void wait_unread(twill_fan *fan, size_t count)
{
    while (stats_now(fan).unread < count)
        (void)twill_sleep(twill_within(TWILL_US(100)));
}

/* ---- figures ---- */

TEST(every_figure_of_a_fan)
{
    twill_fan *fan;
    twill_fan_stats stats;
    twill_outcome outcome;
    intptr_t result;

    fresh();
    fan = fan_of(OPTIONS(.run = {.workers = 1, .report = &report}, .in_flight = 16,
                         .result_size = sizeof result));
    for (int i = 0; i < 3; i++)
        CHECK_EQ(twill_fan_go(fan, number_of, (void *)(intptr_t)(10 + i), NULL), TWILL_OK);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(twill_fan_go(fan, fail_with, (void *)(intptr_t)(20 + i), NULL), TWILL_OK);
    CHECK_EQ(twill_fan_go(fan, skipped, NULL, NULL), TWILL_OK);
    wait_unread(fan, 6);
    CHECK_EQ(twill_fan_go(fan, at_gate, &gate, NULL), TWILL_OK);
    CHECK(gate_inside(&gate, 1));
    for (int i = 0; i < 4; i++)
        CHECK_EQ(twill_fan_go(fan, number_of, NULL, NULL), TWILL_OK);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(twill_fan_next(fan, &result, &outcome), TWILL_OK);

    stats = stats_now(fan);
    CHECK_EQ(stats.accepted, 11);
    CHECK_EQ(stats.done, 3);
    CHECK_EQ(stats.failed, 2);
    CHECK_EQ(stats.skipped, 1);
    CHECK_EQ(stats.running, 1);
    CHECK_EQ(stats.queued, 4);
    CHECK_EQ(stats.unread, 4);
    CHECK_EQ(stats.abandoned, 0);
    CHECK(stats.records >= 9);

    CHECK_EQ(twill_fan_cancel(fan), TWILL_OK); /* the four, and the one at the gate is told */
    stats = stats_now(fan);
    CHECK_EQ(stats.skipped, 5);
    CHECK_EQ(stats.queued, 0);
    CHECK_EQ(stats.running, 1);
    CHECK_EQ(stats.unread, 8);
    gate_open(&gate);
    wait_unread(fan, 9);
    CHECK_EQ(twill_fan_destroy(fan), TWILL_OK);
    CHECK_EQ(report.total, 11);
    CHECK_EQ(report.done, 4);
    CHECK_EQ(report.failed, 2);
    CHECK_EQ(report.skipped, 5);
    CHECK_EQ(report.chunks, 7);
    CHECK_EQ(report.workers_used, 1);
    CHECK_EQ(report.workers_started, 1);
    CHECK_EQ(report.flags, 0);
    CHECK_EQ(report.status, TWILL_FAILED);
    CHECK_EQ(report.first_error.index, 3);
    CHECK_EQ(report.first_error.status, TWILL_FAILED);
    CHECK_EQ(report.first_error.code, 20);
    CHECK(report.wall > 0 && report.busy > 0 && report.busiest == report.busy);
}

TEST(no_fan_has_no_figures)
{
    static const twill_fan_stats zero;
    twill_fan_stats stats = stats_now(NULL);

    CHECK_EQ(memcmp(&stats, &zero, sizeof zero), 0);
    twill_fan_get_stats(NULL, NULL);
}

static int twice(const void *in, void *out, const twill_task *task)
{
    (void)task;
    *(int *)out = 2 * *(const int *)in;
    return 0;
}

static const int numbers[8] = {0, 1, 2, 3, 4, 5, 6, 7};

TEST(figures_of_a_call)
{
    for (unsigned workers = 1; workers < 4; workers++) {
        fresh();
        CHECK_EQ(twill_fan_out_fan_in(numbers, sizeof(int), 8, twice, sizeof(int), NULL,
                                      OPTIONS(.run = {.workers = workers, .report = &report})),
                 TWILL_OK);
        CHECK_EQ(report.total, 8);
        CHECK_EQ(report.done, 8);
        CHECK_EQ(report.chunks, 8);
        CHECK_EQ(report.workers_started, workers);
        CHECK(report.workers_used >= 1 && report.workers_used <= workers);
        CHECK(report.busy >= report.busiest && report.busiest > 0);
        CHECK(workers > 1 || report.busy == report.busiest);
        CHECK_EQ(report.flags, 0);
        CHECK_EQ(report.errors_stored, 0);
        CHECK_EQ(report.first_error.status, TWILL_OK);
    }
}

static int deaf(void *gate_, void *result, const twill_task *task)
{
    (void)result, (void)task;
    (void)gate_wait(gate_);
    return 0;
}

TEST(a_fan_that_leaves_something_says_what_it_lacked)
{
    twill_fan *fan;

    fresh();
    faults_fail_thread(2); /* one of two cannot be started */
    fan = fan_of(OPTIONS(.run = {.workers = 2, .report = &report}, .max_abandoned = 1));
    faults_fail_thread(0);
    CHECK_EQ(twill_fan_go(fan, deaf, &gate, NULL), TWILL_OK);
    CHECK(gate_inside(&gate, 1));
    CHECK_EQ(twill_fan_destroy(fan), TWILL_OK);
    CHECK_EQ(report.flags, TWILL_REPORT_DEGRADED);
    CHECK_EQ(report.failed, 1);
    CHECK_EQ(report.workers_started, 1);
    CHECK_EQ(report.workers_used, 1);
    gate_open(&gate);
    (void)twill_sleep(twill_within(TWILL_MS(20)));
}

/* ---- who is told ---- */

static atomic_int notified;

static void note_it(const twill_task *task)
{
    (void)task;
    atomic_fetch_add(&notified, 1);
}

TEST(the_end_of_a_fan_is_notified_once)
{
    twill_outcome outcome;

    for (int by_cancel = 0; by_cancel < 2; by_cancel++) {
        twill_fan *fan = fan_of(OPTIONS(.run.workers = 1, .notify = note_it));
        atomic_store(&notified, 0);
        CHECK_EQ(twill_fan_try_next(fan, NULL, &outcome), TWILL_EMPTY);
        CHECK_EQ(by_cancel ? twill_fan_cancel(fan) : twill_fan_close(fan), TWILL_OK);
        CHECK_EQ(atomic_load(&notified), 1);
        CHECK_EQ(twill_fan_try_next(fan, NULL, &outcome), TWILL_CLOSED);
        CHECK_EQ(by_cancel ? twill_fan_cancel(fan) : twill_fan_close(fan), TWILL_CLOSED);
        CHECK_EQ(twill_fan_stop(fan, twill_within(0), twill_within(0), NULL), TWILL_OK);
        CHECK_EQ(atomic_load(&notified), 1);
        CHECK_EQ(twill_fan_destroy(fan), TWILL_OK);
        CHECK_EQ(atomic_load(&notified), 1);
    }
}

/* By an idle worker, or by whoever sees first that it has passed. */
TEST(the_deadline_of_an_idle_fan_is_notified)
{
    for (int goes = 0; goes < 2; goes++) {
        twill_ns end = twill_now() + TWILL_SEC(100);
        twill_outcome outcome;
        twill_fan *fan;

        atomic_store(&notified, 0);
        fan = fan_of(OPTIONS(.run = {.workers = 1, .until = twill_within(goes ? 0 : TWILL_MS(1))},
                             .notify = note_it));
        if (goes)
            CHECK_EQ(twill_fan_go(fan, number_of, NULL, NULL), TWILL_TIMEOUT);
        while (!atomic_load(&notified) && twill_now() < end)
            (void)twill_sleep(twill_within(TWILL_US(100)));
        CHECK_EQ(twill_fan_try_next(fan, NULL, &outcome), TWILL_CLOSED);
        CHECK_EQ(twill_fan_destroy(fan), TWILL_OK);
        CHECK_EQ(atomic_load(&notified), 1);
    }
}

/* ---- the same reason for all ---- */

static int asks_why(void *by_request, void *result, const twill_task *task)
{
    (void)result;
    if (by_request)
        twill_cancel_request(task->context, 5);
    else
        twill_cancel_fire(task->context, 5);
    CHECK(twill_task_cancelled(task));
    CHECK_EQ(twill_cancel_reason(task->until.cancel), 5);
    return twill_task_skip(task);
}

TEST(what_runs_hears_the_reason_of_the_user)
{
    for (int way = 0; way < 4; way++) {
        twill_cancel token;
        twill_outcome outcome;
        twill_fan *fan;

        twill_cancel_init(&token, NULL);
        fan = fan_of(OPTIONS(.run = {.workers = 1, .context = &token, .until.cancel = &token},
                             .max_abandoned = (size_t)way / 2));
        CHECK_EQ(twill_fan_go(fan, asks_why, way % 2 ? &token : NULL, NULL), TWILL_OK);
        CHECK_EQ(twill_fan_next(fan, NULL, &outcome), TWILL_OK);
        CHECK_EQ(outcome.status, TWILL_CANCELLED);
        CHECK_EQ(twill_fan_destroy(fan), TWILL_OK);
        twill_cancel_detach(&token);
    }
}

static int when_told(const void *in, void *out, const twill_task *task)
{
    (void)in, (void)out;
    (void)twill_sleep(task->until);
    return twill_task_skip(task);
}

static struct {
    twill_cancel *token;
    twill_ns deadline;
    unsigned calls;
    bool fired;
} seen;

static int look_at_the_token(const void *result, const twill_outcome *outcome,
                             const twill_task *task)
{
    (void)result, (void)outcome;
    CHECK(task->until.cancel != NULL);
    CHECK_EQ(task->until.deadline, seen.deadline);
    CHECK_EQ(task->worker, UINT_MAX);
    if (seen.calls++ == 0)
        twill_cancel_fire(seen.token, 5);
    seen.fired = twill_cancel_fired(task->until.cancel) != 0;
    CHECK(twill_sleep(task->until) == TWILL_CANCELLED);
    return 0;
}

/* In aggregate, and in pull, the token of the task is the call's: it fires with the user's. */
TEST(aggregate_hears_that_the_call_ends)
{
    twill_cancel token;

    fresh();
    twill_cancel_init(&token, NULL);
    memset(&seen, 0, sizeof seen);
    seen.token = &token;
    seen.deadline = twill_within(TWILL_SEC(60)).deadline;
    CHECK_EQ(twill_fan_out_fan_in(numbers, sizeof(int), 1, twice, sizeof(int), look_at_the_token,
                                  OPTIONS(.run = {.workers = 1, .until = {seen.deadline, &token}})),
             TWILL_OK);
    CHECK_EQ(seen.calls, 1);
    CHECK(seen.fired);
    CHECK_EQ(twill_fan_out_fan_in(
                 numbers, sizeof(int), 3, when_told, sizeof(int), NULL,
                 OPTIONS(.run = {.workers = 1, .report = &report, .until = {0, &token}})),
             TWILL_CANCELLED);
    CHECK_EQ(report.skipped, 3);
    CHECK_EQ(report.chunks, 0);
    twill_cancel_detach(&token);
}

static int stops_at_three(const void *in, void *out, const twill_task *task)
{
    (void)in, (void)out;
    return task->index == 3 ? twill_task_stop(task) : 0;
}

static int fires_the_token(const void *result, const twill_outcome *outcome, const twill_task *task)
{
    (void)result, (void)outcome, (void)task;
    if (seen.calls++ == 0)
        twill_cancel_fire(seen.token, 5);
    return 0;
}

/* ALL_OK is met when all up to a stop have succeeded, whatever comes then: aggregate has them. */
TEST(all_ok_is_met_also_if_the_token_fires_then)
{
    twill_cancel token;

    fresh();
    twill_cancel_init(&token, NULL);
    memset(&seen, 0, sizeof seen);
    seen.token = &token;
    CHECK_EQ(twill_fan_out_fan_in(
                 numbers, sizeof(int), 10, stops_at_three, sizeof(int), fires_the_token,
                 OPTIONS(.run = {.workers = 1, .report = &report, .until = {0, &token}},
                         .goal = TWILL_FAN_ALL_OK)),
             TWILL_OK);
    CHECK_EQ(seen.calls, 4);
    CHECK_EQ(report.status, TWILL_OK);
    CHECK_EQ(report.done, 4);
    CHECK_EQ(report.skipped, 6);
    twill_cancel_detach(&token);
}

static int gives_up_at_three(const void *in, void *out, const twill_task *task)
{
    (void)in, (void)out;
    return task->index == 3 ? twill_task_skip(task) : 0;
}

/* Aggregate fires the token when all have run. */
static int fires_at_the_last(const void *result, const twill_outcome *outcome,
                             const twill_task *task)
{
    (void)result, (void)outcome, (void)task;
    if (++seen.calls == 4)
        twill_cancel_fire(seen.token, 5);
    return 0;
}

/* The end of run.until cuts nothing short that has run before it: a task that gave up by itself has
   done so. */
TEST(a_token_after_all_have_run_cancels_nothing)
{
    twill_cancel token;

    fresh();
    twill_cancel_init(&token, NULL);
    memset(&seen, 0, sizeof seen);
    seen.token = &token;
    CHECK_EQ(twill_fan_out_fan_in(
                 numbers, sizeof(int), 4, gives_up_at_three, sizeof(int), fires_at_the_last,
                 OPTIONS(.run = {.workers = 2, .report = &report, .until = {0, &token}})),
             TWILL_OK);
    CHECK_EQ(report.done, 3);
    CHECK_EQ(report.skipped, 1);
    twill_cancel_detach(&token);
}

/* ---- a callback that ends the calling thread ---- */

static int ends_at_two(const void *result, const twill_outcome *outcome, const twill_task *task)
{
    (void)result, (void)task;
    if (outcome->index == 2)
        END_THREAD();
    return 0;
}

static int pull_ends(void *item, const twill_task *task)
{
    *(int *)item = (int)task->index;
    if (task->index == 2)
        END_THREAD();
    return 0;
}

static void *aggregate_ends_main(void *until)
{
    (void)twill_fan_out_fan_in(
        numbers, sizeof(int), 8, twice, sizeof(int), ends_at_two,
        OPTIONS(.run = {.workers = 2, .report = &report, .until = *(const twill_until *)until},
                .ordered = true));
    return NULL;
}

static void *pull_ends_main(void *unused)
{
    (void)unused;
    (void)twill_fan_stream(pull_ends, sizeof(int), twice, sizeof(int), NULL,
                           OPTIONS(.run = {.workers = 2, .report = &report}));
    return NULL;
}

static void in_a_thread(void *(*fn)(void *), twill_until *until)
{
    pthread_t thread;

    CHECK_EQ(pthread_create(&thread, NULL, fn, until), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

TEST(a_report_names_the_item_at_which_the_thread_ended)
{
    for (int over = 0; over < 2; over++) { /* over: they are those that were never begun */
        twill_until until = over ? twill_within(0) : (twill_until){0, NULL};

        fresh();
        in_a_thread(aggregate_ends_main, &until);
        CHECK_EQ(report.status, TWILL_FAILED);
        CHECK_EQ(report.first_error.status, TWILL_LOST);
        CHECK_EQ(report.first_error.index, 2);
        CHECK_EQ(report.done + report.failed + report.skipped, 8);
    }
    fresh();
    in_a_thread(pull_ends_main, NULL);
    CHECK_EQ(report.status, TWILL_FAILED);
    CHECK_EQ(report.first_error.status, TWILL_LOST);
    CHECK_EQ(report.first_error.index, SIZE_MAX);
}

/* ---- the window ---- */

static atomic_uint together;

/* Waits for three others. */
static int meets_three(const void *in, void *out, const twill_task *task)
{
    twill_ns end = twill_now() + TWILL_SEC(100);

    (void)in, (void)out, (void)task;
    atomic_fetch_add(&together, 1);
    while (atomic_load(&together) < 4)
        if (twill_now() > end)
            return 1;
        else
            (void)twill_sleep(twill_within(TWILL_US(50)));
    return 0;
}

static int pull_four(void *item, const twill_task *task)
{
    *(int *)item = 1;
    return task->index == 4 ? twill_task_stop(task) : 0;
}

TEST(a_stream_fills_its_window_before_it_waits)
{
    fresh();
    atomic_store(&together, 0);
    CHECK_EQ(twill_fan_stream(pull_four, sizeof(int), meets_three, 0, NULL,
                              OPTIONS(.run = {.workers = 4, .report = &report}, .in_flight = 4)),
             TWILL_OK);
    CHECK_EQ(report.done, 4);
    CHECK_EQ(report.chunks, 4);
}

static struct {
    twill_fan *fan;
    twill_status at_full_window, at_unread, after_close;
    uint64_t thread, inner;
} inner;

static int note_thread(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    inner.inner = thread_mark();
    return 0;
}

static int goes_on(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    inner.thread = thread_mark();
    inner.at_full_window = twill_fan_go(inner.fan, note_thread, NULL, NULL);
    CHECK_EQ(inner.inner, inner.thread); /* at once, inside it */
    CHECK_EQ(stats_now(inner.fan).unread, 1);
    inner.inner = 0;
    inner.at_unread = twill_fan_go(inner.fan, note_thread, NULL, NULL);
    CHECK_EQ(inner.inner, 0);
    gate_open(&gate);
    return 0;
}

TEST(a_task_at_a_full_window_runs_the_next_itself_if_it_can_be_read)
{
    twill_outcome outcome;

    fresh();
    memset(&inner, 0, sizeof inner);
    inner.fan = fan_of(OPTIONS(.run.workers = 1, .in_flight = 1, .max_unread = 1));
    CHECK_EQ(twill_fan_go(inner.fan, goes_on, NULL, NULL), TWILL_OK);
    CHECK_EQ(twill_fan_close(inner.fan), TWILL_OK);
    CHECK(gate_wait(&gate)); /* it looks at what is unread */
    for (int i = 0; i < 2; i++)
        CHECK_EQ(twill_fan_next(inner.fan, NULL, &outcome), TWILL_OK);
    CHECK_EQ(twill_fan_next(inner.fan, NULL, &outcome), TWILL_CLOSED);
    CHECK_EQ(inner.at_full_window, TWILL_OK);
    CHECK_EQ(inner.at_unread, TWILL_FULL);
    CHECK_EQ(twill_fan_destroy(inner.fan), TWILL_OK);
}

/* Closed: its own tasks may add while one is in flight, others may not. */
static int goes_after_close(void *gate_, void *result, const twill_task *task)
{
    (void)result, (void)task;
    (void)gate_wait(gate_);
    inner.after_close = twill_fan_go(inner.fan, note_thread, NULL, NULL);
    return 0;
}

TEST(a_closed_fan_takes_tasks_of_its_own_alone)
{
    twill_outcome outcome;

    fresh();
    memset(&inner, 0, sizeof inner);
    inner.fan = fan_of(OPTIONS(.run.workers = 2));
    CHECK_EQ(twill_fan_go(inner.fan, goes_after_close, &gate, NULL), TWILL_OK);
    CHECK(gate_inside(&gate, 1));
    CHECK_EQ(twill_fan_close(inner.fan), TWILL_OK);
    CHECK_EQ(twill_fan_go(inner.fan, note_thread, NULL, NULL), TWILL_CLOSED);
    CHECK_EQ(twill_fan_try_go(inner.fan, note_thread, NULL, NULL), TWILL_CLOSED);
    gate_open(&gate);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(twill_fan_next(inner.fan, NULL, &outcome), TWILL_OK);
    CHECK_EQ(twill_fan_next(inner.fan, NULL, &outcome), TWILL_CLOSED);
    CHECK_EQ(inner.after_close, TWILL_OK);
    CHECK_EQ(stats_now(inner.fan).accepted, 2);
    CHECK_EQ(twill_fan_go(inner.fan, note_thread, NULL, NULL), TWILL_CLOSED);
    CHECK_EQ(twill_fan_destroy(inner.fan), TWILL_OK);
}

/* ---- results ---- */

enum { LONG_RESULT = 300 };

static int fills(void *byte, void *result, const twill_task *task)
{
    (void)task;
    memset(result, (int)(intptr_t)byte, LONG_RESULT);
    return (intptr_t)byte == 9;
}

TEST(a_result_may_be_long_and_need_not_be_taken)
{
    static const unsigned char zeros[LONG_RESULT];
    unsigned char result[LONG_RESULT], all[LONG_RESULT];
    twill_fan *fan = fan_of(OPTIONS(.run.workers = 1, .result_size = LONG_RESULT));
    twill_outcome outcome;

    for (intptr_t byte = 7; byte < 10; byte++)
        CHECK_EQ(twill_fan_go(fan, fills, (void *)byte, NULL), TWILL_OK);
    CHECK_EQ(twill_fan_next(fan, NULL, &outcome), TWILL_OK);
    CHECK_EQ(outcome.status, TWILL_OK);
    CHECK_EQ(twill_fan_next(fan, result, &outcome), TWILL_OK);
    memset(all, 8, sizeof all);
    CHECK_EQ(memcmp(result, all, sizeof all), 0);
    CHECK_EQ(twill_fan_next(fan, result, &outcome), TWILL_OK);
    CHECK_EQ(outcome.status, TWILL_FAILED);
    CHECK_EQ(memcmp(result, zeros, sizeof zeros), 0);
    CHECK_EQ(twill_fan_destroy(fan), TWILL_OK);
}

/* ---- stop ---- */

static int stops_at_one(void *number, void *result, const twill_task *task)
{
    (void)result;
    return (intptr_t)number == 1 ? twill_task_stop(task) : 0;
}

TEST(a_task_that_says_stop_spares_those_after_it)
{
    twill_fan *fan;
    twill_outcome outcome;

    fresh();
    fan = fan_of(OPTIONS(.run = {.workers = 1, .report = &report}, .in_flight = 8));
    CHECK_EQ(twill_fan_go(fan, at_gate, &gate, NULL), TWILL_OK);
    CHECK(gate_inside(&gate, 1));
    for (intptr_t i = 1; i < 5; i++)
        CHECK_EQ(twill_fan_go(fan, stops_at_one, (void *)i, NULL), TWILL_OK);
    gate_open(&gate);
    for (size_t i = 0; i < 5; i++) {
        CHECK_EQ(twill_fan_next(fan, NULL, &outcome), TWILL_OK);
        CHECK_EQ(outcome.status, outcome.index < 2 ? TWILL_OK : TWILL_CANCELLED);
    }
    CHECK_EQ(twill_fan_go(fan, number_of, NULL, NULL), TWILL_CLOSED);
    CHECK_EQ(twill_fan_next(fan, NULL, &outcome), TWILL_CLOSED);
    CHECK_EQ(twill_fan_destroy(fan), TWILL_OK);
    CHECK_EQ(report.chunks, 2);
    CHECK_EQ(report.skipped, 3);
}

/* What failed above it before that was known counts, but is no reason to fail. */
static atomic_bool failure_seen;

static int stops_when_one_has_failed(const void *in, void *out, const twill_task *task)
{
    (void)in, (void)out;
    if (task->index)
        return 9;
    while (!atomic_load(&failure_seen)) /* the watchdog is the bound */
        (void)twill_sleep(twill_within(TWILL_US(50)));
    return twill_task_stop(task);
}

static int sees_failures(const void *result, const twill_outcome *outcome, const twill_task *task)
{
    (void)result, (void)task;
    if (outcome->status == TWILL_FAILED)
        atomic_store(&failure_seen, true);
    return 0;
}

TEST(a_stop_below_a_failure_is_no_question_of_time)
{
    for (int lowest = 0; lowest < 2; lowest++) {
        fresh();
        atomic_store(&failure_seen, false);
        CHECK_EQ(twill_fan_out_fan_in(
                     numbers, sizeof(int), 2, stops_when_one_has_failed, sizeof(int), sees_failures,
                     OPTIONS(.run = {.workers = 2,
                                     .report = &report,
                                     .on_error = lowest ? TWILL_ON_ERROR_LOWEST : 0})),
                 TWILL_OK);
        CHECK_EQ(report.done, 1);
        CHECK_EQ(report.failed, 1);
        CHECK_EQ(report.first_error.status, TWILL_OK);
    }
}

static atomic_int polite_inside;
static int polite_code;       /* of those that are told */
static size_t quick_item;     /* the one that is not polite */
static int says_of_the_first; /* 0: stop; INT_MIN: it ends the thread */

static int polite_but_for_one(const void *in, void *out, const twill_task *task)
{
    (void)in, (void)out;
    if (task->index == quick_item)
        return 0;
    atomic_fetch_add(&polite_inside, 1);
    (void)twill_sleep((twill_until){0, task->until.cancel});
    return polite_code ? polite_code : twill_task_skip(task);
}

/* Of the first outcome, while another one runs. */
static int has_had_enough(const void *result, const twill_outcome *outcome, const twill_task *task)
{
    (void)result;
    CHECK_EQ(outcome->index, quick_item);
    while (!atomic_load(&polite_inside)) /* the watchdog is the bound */
        (void)twill_sleep(twill_within(TWILL_US(50)));
    if (says_of_the_first == INT_MIN)
        END_THREAD();
    return says_of_the_first ? says_of_the_first : twill_task_stop(task);
}

static void about_to_be_told(int code, size_t item, int says)
{
    fresh();
    atomic_store(&polite_inside, 0);
    polite_code = code;
    quick_item = item;
    says_of_the_first = says;
}

/* The rest is told, and the answer is OK: whatever it says then, and whatever the goal was. */
TEST(who_is_told_by_a_stop_in_aggregate_has_not_failed)
{
    for (int way = 0; way < 4; way++) {
        about_to_be_told(way % 2 ? 7 : 0, 0, 0);
        CHECK_EQ(twill_fan_out_fan_in(numbers, sizeof(int), 3, polite_but_for_one, sizeof(int),
                                      has_had_enough,
                                      OPTIONS(.run = {.workers = 2, .report = &report},
                                              .goal = way < 2 ? TWILL_FAN_ALL : TWILL_FAN_QUORUM,
                                              .quorum = way < 2 ? 0 : 2)),
                 TWILL_OK);
        CHECK_EQ(report.done, 1);
        CHECK_EQ(report.failed > 0, way % 2);
        CHECK_EQ(report.done + report.failed + report.skipped, 3);
        CHECK_EQ(report.first_error.status, TWILL_OK);
    }
}

static int pull_two(void *item, const twill_task *task)
{
    *(int *)item = 1;
    return task->index == 2 ? twill_task_stop(task) : 0;
}

static void *streams_two(void *unused)
{
    (void)unused;
    CHECK_EQ(twill_fan_stream(pull_two, sizeof(int), polite_but_for_one, sizeof(int),
                              has_had_enough, OPTIONS(.run = {.workers = 2, .report = &report})),
             TWILL_FAILED);
    return NULL;
}

TEST(what_aggregate_says_comes_before_what_follows_from_it)
{
    for (int ends = 0; ends < 2; ends++) {
        about_to_be_told(7, 1, ends ? INT_MIN : 77);
        in_a_thread(streams_two, NULL);
        CHECK_EQ(report.status, TWILL_FAILED);
        CHECK_EQ(report.first_error.index, 1);
        CHECK_EQ(report.first_error.status, ends ? TWILL_LOST : TWILL_FAILED);
        CHECK_EQ(report.first_error.code, ends ? 0 : 77);
        CHECK_EQ(report.failed, 1);
    }
}

/* ---- whose thread works ---- */

static unsigned stragglers; /* max_abandoned of the fan */

static int fan_of_one(const twill_task *task)
{
    twill_fan_options options = {.run = {.pool = task->context, .workers = 1},
                                 .max_abandoned = stragglers};
    static const int one = 1;

    return twill_fan_out_fan_in(&one, sizeof one, 1, twice, sizeof(int), NULL, &options) !=
           TWILL_OK;
}

static atomic_uint calls_done;

static void *from_a_parallel_call(void *pool)
{
    twill_parallel_options options = {.run = {.workers = 1, .context = pool}};

    CHECK_EQ(twill_parallel_for(1, fan_of_one, &options), TWILL_OK);
    atomic_fetch_add(&calls_done, 1);
    return NULL;
}

/* A call inside another team's callback collects, and leaves the pool's work to the pool: for a
   while, or, where tasks may be abandoned, for good. */
TEST(a_stranger_does_not_work_for_a_pool_at_once)
{
    for (stragglers = 0; stragglers < 2; stragglers++) {
        twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1});
        pthread_t thread;

        fresh();
        atomic_store(&calls_done, 0);
        CHECK_EQ(twill_pool_submit(pool, at_gate, &gate, NULL, NULL), TWILL_OK);
        CHECK(gate_inside(&gate, 1));
        CHECK_EQ(pthread_create(&thread, NULL, from_a_parallel_call, pool), 0);
        if (stragglers) {
            (void)twill_sleep(twill_within(TWILL_MS(30)));
            CHECK_EQ(atomic_load(&calls_done), 0);
        } else {
            CHECK_EQ(pthread_join(thread, NULL), 0);
        }
        gate_open(&gate);
        if (stragglers)
            CHECK_EQ(pthread_join(thread, NULL), 0);
        CHECK_EQ(atomic_load(&calls_done), 1);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    }
}

/* A pool whose threads come with its first tasks has none for a fan yet. */
TEST(a_fan_on_a_pool_without_threads)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 2, .lazy = true});

    fresh();
    CHECK_EQ(twill_fan_out_fan_in(numbers, sizeof(int), 8, twice, sizeof(int), NULL,
                                  OPTIONS(.run = {.pool = pool, .report = &report})),
             TWILL_OK);
    CHECK_EQ(report.done, 8);
    CHECK_EQ(report.chunks, 8);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

HARNESS_MAIN
