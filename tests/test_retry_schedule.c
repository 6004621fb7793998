/* test_retry_schedule.c - when retries call, to the nanosecond: on a clock that only sleeps
   move. */
#include "harness.h"
#include "virtual_time.h"

#define TWILL_IMPLEMENTATION
#include "twill_retry_backoff.h"

#if VIRTUAL_TIME

struct plan { /* how long each call takes, and what it returns */
    twill_ns takes[16];
    int code[16];
    twill_ns begun, at[16]; /* when they came, from the first one */
    size_t calls;
};

static int call(const void *in, void *out, const twill_task *task)
{
    struct plan *plan = task->context;
    (void)in;
    (void)out;
    if (plan->calls == 0)
        plan->begun = virtual_now;
    plan->at[plan->calls] = virtual_now - plan->begun;
    virtual_now += plan->takes[plan->calls];
    return plan->code[plan->calls++];
}

static twill_retry_report run(struct plan *plan, twill_retry_options options)
{
    twill_retry_report report;
    options.context = plan;
    plan->calls = 0;
    twill_status status = twill_retry_call(NULL, NULL, call, &options, &report);
    CHECK_EQ(status, report.status);
    CHECK_EQ(plan->calls, report.attempts);
    return report;
}

static struct plan fails(int times)
{
    struct plan plan = {.calls = 0};
    for (int k = 0; k < times; k++)
        plan.code[k] = 5;
    return plan;
}

/* R73: calls at 0, 1, 3 s; the last error returned at 3 s, nothing slept after it. */
TEST(the_source_documents_schedule)
{
    struct plan plan = fails(16);
    twill_retry_options options = {.base = TWILL_SEC(1), .jitter = TWILL_JITTER_NONE};
    twill_retry_report report = run(&plan, options);
    CHECK_EQ(report.attempts, 3);
    CHECK_EQ(plan.at[1], TWILL_SEC(1));
    CHECK_EQ(plan.at[2], TWILL_SEC(3));
    CHECK_EQ(report.wall, TWILL_SEC(3));
    CHECK_EQ(report.slept, TWILL_SEC(3));
    plan.code[1] = 0;
    report = run(&plan, options);
    CHECK_EQ(report.status, TWILL_OK);
    CHECK_EQ(report.wall, TWILL_SEC(1));
    for (uint64_t seed = 1; seed < 200; seed++) { /* R74: plus up to a second each */
        plan = fails(16);
        options.jitter = TWILL_JITTER_ADDITIVE;
        options.jitter_add = TWILL_SEC(1);
        options.seed = seed;
        report = run(&plan, options);
        CHECK(report.wall >= TWILL_SEC(3) && report.wall <= TWILL_SEC(5));
    }
}

TEST(every_jitter_mode_to_the_nanosecond)
{
    for (int jitter = TWILL_JITTER_FULL; jitter <= TWILL_JITTER_ADDITIVE; jitter++) {
        struct plan plan = fails(16);
        twill_retry_options options = {
            .max_attempts = 12, .jitter = (twill_jitter)jitter, .seed = 99};
        uint64_t state = 99;
        twill_ns previous = 0, at = 0;
        (void)run(&plan, options);
        for (size_t k = 1; k < 12; k++) {
            at += twill_retry_delay(&options, k - 1, &state, &previous);
            CHECK_EQ(plan.at[k], at);
        }
    }
}

TEST(the_time_of_calls_is_not_counted_as_pause)
{
    struct plan plan = fails(16);
    plan.takes[0] = TWILL_MS(250);
    plan.takes[1] = TWILL_MS(500);
    twill_retry_report report = run(&plan, (twill_retry_options){.jitter = TWILL_JITTER_NONE});
    CHECK_EQ(plan.at[1], TWILL_MS(350));
    CHECK_EQ(plan.at[2], TWILL_MS(350 + 500 + 200));
    CHECK_EQ(report.slept, TWILL_MS(300));
    CHECK_EQ(report.wall, TWILL_MS(1050));
}

/* R76: a deadline of 2.5 s: calls at 0 and 1 s, and it returns at 1 s. */
TEST(gives_up_early)
{
    struct plan plan = fails(16);
    twill_retry_options options = {.max_attempts = 9,
                                   .base = TWILL_SEC(1),
                                   .jitter = TWILL_JITTER_NONE,
                                   .max_elapsed = TWILL_MS(2500)};
    twill_retry_report report = run(&plan, options);
    CHECK_EQ(report.status, TWILL_TIMEOUT);
    CHECK_EQ(report.attempts, 2);
    CHECK_EQ(report.wall, TWILL_SEC(1));
    CHECK_EQ(report.next_delay, TWILL_SEC(2));
    options.max_elapsed = TWILL_SEC(3); /* exactly what is left: too late */
    CHECK_EQ(run(&plan, options).attempts, 2);
    options.max_elapsed++;
    CHECK_EQ(run(&plan, options).attempts, 3);
    options.max_elapsed = 0;
    options.until = twill_within(TWILL_SEC(3)); /* the caller's deadline means the same */
    report = run(&plan, options);
    CHECK_EQ(report.attempts, 2);
    CHECK_EQ(report.end, TWILL_RETRY_DEADLINE);
    options.until = twill_within(TWILL_SEC(5));
    options.max_elapsed = TWILL_MS(500); /* the earlier of both */
    CHECK_EQ(run(&plan, options).attempts, 1);
}

TEST(one_last_try_at_the_deadline)
{
    struct plan plan = fails(16);
    twill_retry_options options = {.max_attempts = 9,
                                   .base = TWILL_SEC(1),
                                   .jitter = TWILL_JITTER_NONE,
                                   .max_elapsed = TWILL_MS(2500),
                                   .last_try_at_deadline = true};
    twill_retry_report report = run(&plan, options);
    CHECK_EQ(report.attempts, 3);
    CHECK_EQ(plan.at[2], TWILL_MS(2499)); /* calls take no time here: at least 1 ms */
    CHECK_EQ(report.status, TWILL_TIMEOUT);
    plan.takes[1] = TWILL_MS(400);
    report = run(&plan, options);
    CHECK_EQ(plan.at[2], TWILL_MS(2100)); /* what the last call took */
    CHECK_EQ(report.attempts, 3);
    plan.code[2] = 0;
    CHECK_EQ(run(&plan, options).status, TWILL_OK);
    plan = fails(16);
    plan.takes[1] = TWILL_MS(800); /* ends at 1.8 s: there is not as much left */
    report = run(&plan, options);
    CHECK_EQ(report.attempts, 2);
    CHECK_EQ(report.wall, TWILL_MS(1800));
}

static void tell_slowly(const twill_retry_attempt *failed, twill_ns delay, const twill_task *task)
{
    (void)failed;
    (void)delay;
    (void)task;
    virtual_now += TWILL_MS(2500);
}

static twill_ns look_slowly(int code, const void *out, const twill_task *task)
{
    (void)code;
    (void)out;
    tell_slowly(NULL, 0, task);
    return 0;
}

/* A callback overruns the whole: the call that it was told of is not made, nor paid for. */
TEST(no_call_begins_when_the_time_is_over)
{
    struct plan plan = fails(16);
    twill_retry_budget budget = {0};
    twill_retry_options options = {.base = TWILL_SEC(1),
                                   .jitter = TWILL_JITTER_NONE,
                                   .max_elapsed = TWILL_MS(2500),
                                   .budget = &budget,
                                   .on_retry = tell_slowly};
    for (int k = 0; k < 2; k++) {
        twill_retry_report report = run(&plan, options);
        CHECK_EQ(report.attempts, 1);
        CHECK_EQ(report.end, TWILL_RETRY_DEADLINE);
        CHECK_EQ(report.wall, TWILL_MS(2500));
        CHECK_EQ(report.next_delay, 0);
        CHECK_EQ(twill_retry_budget_left(&budget), 500);
        options.on_retry = NULL;
        options.after_failure = look_slowly;
    }
    options.max_elapsed++; /* just in time */
    CHECK_EQ(run(&plan, options).attempts, 2);
}

static twill_ns ask_two_seconds(int code, const void *out, const twill_task *task)
{
    (void)code;
    (void)out;
    return task->index == 1 ? TWILL_SEC(2) : 0;
}

TEST(a_hint_forbids_the_last_try)
{
    struct plan plan = fails(16);
    twill_retry_options options = {.max_attempts = 9,
                                   .base = TWILL_SEC(1),
                                   .jitter = TWILL_JITTER_NONE,
                                   .max_elapsed = TWILL_MS(2500),
                                   .last_try_at_deadline = true,
                                   .after_failure = ask_two_seconds};
    twill_retry_report report = run(&plan, options);
    CHECK_EQ(report.attempts, 2);
    CHECK_EQ(report.status, TWILL_TIMEOUT);
    CHECK_EQ(report.wall, TWILL_SEC(1));
}

TEST(a_hint_may_exceed_the_cap_but_is_not_shortened)
{
    for (uint64_t seed = 1; seed < 100; seed++) {
        struct plan plan = fails(16);
        twill_retry_options options = {.base = TWILL_MS(1),
                                       .cap = TWILL_MS(1),
                                       .seed = seed,
                                       .after_failure = ask_two_seconds};
        (void)run(&plan, options);
        CHECK(plan.at[1] <= TWILL_MS(1));
        CHECK(plan.at[2] - plan.at[1] >= TWILL_SEC(2));
        CHECK(plan.at[2] - plan.at[1] <= TWILL_MS(2200));
    }
}

TEST(the_first_retry_may_be_immediate)
{
    struct plan plan = fails(16);
    twill_retry_options options = {.max_attempts = 4,
                                   .base = TWILL_SEC(1),
                                   .jitter = TWILL_JITTER_NONE,
                                   .immediate_first_retry = true};
    (void)run(&plan, options);
    CHECK_EQ(plan.at[1], 0);
    CHECK_EQ(plan.at[2], TWILL_SEC(1));
    CHECK_EQ(plan.at[3], TWILL_SEC(3));
}

TEST(unlimited_ends_by_the_deadline)
{
    struct plan plan = fails(16);
    twill_retry_options options = {.unlimited = true,
                                   .base = TWILL_SEC(1),
                                   .multiplier = 1,
                                   .jitter = TWILL_JITTER_NONE,
                                   .max_elapsed = TWILL_MS(9500)};
    twill_retry_report report = run(&plan, options);
    CHECK_EQ(report.attempts, 10);
    CHECK_EQ(report.status, TWILL_TIMEOUT);
}

/* R78: a pool of one, a job that fails with a pause of a second, ten jobs of 10 ms: whoever waits
   occupies nobody. The loop below is a timer and a worker. */
TEST(who_waits_occupies_nobody)
{
    twill_retry retry[11];
    twill_ns due[11], begun = virtual_now, others_done = 0;
    bool open[11];
    int left = 11;
    twill_retry_options options = {.base = TWILL_SEC(1), .jitter = TWILL_JITTER_NONE};
    for (int k = 0; k < 11; k++) {
        CHECK_EQ(twill_retry_init(&retry[k], &options), TWILL_OK);
        open[k] = twill_retry_next_at(&retry[k], &due[k]);
    }
    while (left) {
        int next = -1;
        for (int k = 0; k < 11; k++)
            if (open[k] && (next < 0 || due[k] < due[next]))
                next = k;
        if (due[next] > virtual_now)
            virtual_now = due[next];
        if (next) {
            virtual_now += TWILL_MS(10);
            others_done = virtual_now - begun;
        }
        twill_retry_result(&retry[next], next ? 0 : 5);
        open[next] = twill_retry_next_at(&retry[next], &due[next]);
        left -= !open[next];
    }
    CHECK_EQ(others_done, TWILL_MS(100));
    CHECK_EQ(virtual_now - begun, TWILL_MS(3000));
}

/* Optimistic locking: clients that meet fail and retry. Jitter is no decoration. */
TEST(jitter_ends_contention)
{
    size_t calls[2];
    twill_ns took[2];
    for (int mode = 0; mode < 2; mode++) {
        enum { CLIENTS = 40 };
        twill_retry retry[CLIENTS];
        twill_ns due[CLIENTS], begun = virtual_now, busy_until = 0;
        int left = CLIENTS;
        bool open[CLIENTS];
        calls[mode] = 0;
        for (int k = 0; k < CLIENTS; k++) {
            twill_retry_options options = {.max_attempts = 1000,
                                           .base = TWILL_MS(5),
                                           .cap = TWILL_SEC(2),
                                           .jitter = mode ? TWILL_JITTER_FULL : TWILL_JITTER_NONE,
                                           .seed = (uint64_t)k + 1};
            CHECK_EQ(twill_retry_init(&retry[k], &options), TWILL_OK);
            open[k] = twill_retry_next_at(&retry[k], &due[k]);
        }
        while (left) {
            int next = -1;
            for (int k = 0; k < CLIENTS; k++)
                if (open[k] && (next < 0 || due[k] < due[next]))
                    next = k;
            if (due[next] > virtual_now)
                virtual_now = due[next];
            bool won = virtual_now >= busy_until; /* the write takes 10 ms; others collide */
            if (won)
                busy_until = virtual_now + TWILL_MS(10);
            calls[mode]++;
            twill_retry_result(&retry[next], won ? 0 : 5);
            open[next] = twill_retry_next_at(&retry[next], &due[next]);
            left -= !open[next];
        }
        took[mode] = virtual_now - begun;
    }
    CHECK(calls[1] * 2 < calls[0]);
    CHECK(took[1] * 2 < took[0]);
}

#else

TEST(virtual_time)
{
    SKIP("waits are not futexes on this back end");
}

#endif

HARNESS_MAIN
