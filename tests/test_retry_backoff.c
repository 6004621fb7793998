/* test_retry_backoff.c - retries, row by row of the manual. Most of it decides without sleeping
   (next_at); instants on a clock of its own are in test_retry_schedule.c. */
#define HARNESS_FAULTS
#include "harness.h"

static atomic_int asserted; /* the header's assertions are counted, not fatal */
#define TWILL_ASSERT(condition) ((condition) ? (void)0 : (void)atomic_fetch_add(&asserted, 1))
#define TWILL_IMPLEMENTATION
#include "twill_retry_backoff.h"

#include <math.h>

#ifdef TWILL_USE_PTHREAD
#define END_THREAD() pthread_exit(NULL)
#else
#define END_THREAD() thrd_exit(0)
#endif

/* ---- kit ---- */

static void start(twill__thrd *thread, void (*fn)(void *arg), void *arg)
{
    memset(thread, 0, sizeof *thread);
    thread->fn = fn;
    thread->arg = arg;
    thread->cpu = UINT_MAX;
    CHECK(twill__thread_start(thread));
}

static const twill_retry_options quick = {.base = 1000, .cap = 1000, .jitter = TWILL_JITTER_NONE};

struct script { /* codes that the calls return, in turn */
    int code[8];
    size_t calls;
    const void *in;
    void *out;
    twill_cancel *fire_in; /* fired during call `fire_at` */
    size_t fire_at;
};

static int play(const void *in, void *out, const twill_task *task)
{
    struct script *script = task->context;
    CHECK_EQ(task->index, script->calls);
    CHECK_EQ(task->worker, 0);
    CHECK_EQ(task->workers, 1);
    script->in = in;
    script->out = out;
    if (script->fire_in && script->calls == script->fire_at)
        twill_cancel_fire(script->fire_in, 1);
    return script->code[script->calls++ % 8];
}

static twill_retry_report run(struct script *script, twill_retry_options options)
{
    twill_retry_report report;
    options.context = script;
    twill_status status = twill_retry_call(NULL, NULL, play, &options, &report);
    CHECK_EQ(status, report.status);
    CHECK_EQ(report.attempts, script->calls);
    CHECK(report.slept <= report.wall);
    return report;
}

/* ---- the call ---- */

TEST(first_success_returns_at_once)
{
    struct script script = {.code = {0}};
    int in = 0, out = 0;
    twill_retry_options options = {.context = &script};
    CHECK_EQ(twill_retry_call(&in, &out, play, &options, NULL), TWILL_OK);
    CHECK_EQ(script.calls, 1);
    CHECK_PTR(script.in, &in);
    CHECK_PTR(script.out, &out);
}

TEST(three_calls_and_the_last_code)
{
    struct script script = {.code = {5, 6, 7, 8}};
    twill_retry_report report = run(&script, quick);
    CHECK_EQ(report.status, TWILL_FAILED);
    CHECK_EQ(report.end, TWILL_RETRY_ATTEMPTS);
    CHECK_EQ(report.code, 7);
    CHECK_EQ(report.attempts, 3);
    CHECK(report.slept >= 2000);
    CHECK_EQ(report.next_delay, 0);
}

TEST(success_after_failures)
{
    struct script script = {.code = {5, 0}};
    twill_retry_report report = run(&script, quick);
    CHECK_EQ(report.status, TWILL_OK);
    CHECK_EQ(report.end, TWILL_RETRY_SUCCEEDED);
    CHECK_EQ(report.code, 0);
    CHECK_EQ(report.attempts, 2);
}

TEST(one_attempt_is_one_call)
{
    struct script script = {.code = {9}};
    twill_retry_options options = {.max_attempts = 1, .base = TWILL_SEC(100)};
    twill_retry_report report = run(&script, options);
    CHECK_EQ(report.end, TWILL_RETRY_ATTEMPTS);
    CHECK_EQ(report.attempts, 1);
    CHECK_EQ(report.slept, 0); /* no sleep after the last call */
}

TEST(bad_options_call_nothing)
{
    twill_cancel token = {0};
    twill_retry_attempt history;
    const twill_retry_options bad[] = {
        {.max_attempts = (size_t)INT32_MAX + 1},
        {.max_attempts = (size_t)-1},
        {.unlimited = true},
        {.unlimited = true, .max_attempts = 3, .max_elapsed = 1},
        {.unlimited = true, .max_elapsed = TWILL_FOREVER},
        {.base = -1},
        {.cap = -1},
        {.multiplier = 0.99},
        {.multiplier = -2},
        {.multiplier = 1.1e9},
        {.multiplier = NAN},
        {.multiplier = INFINITY},
        {.jitter = (twill_jitter)6},
        {.jitter = (twill_jitter)-1},
        {.jitter_factor = -0.1},
        {.jitter_factor = 1.01},
        {.jitter_factor = NAN},
        {.jitter_add = -1},
        {.max_elapsed = -1},
        {.attempt_timeout = -1},
        {.max_hint = -1},
        {.history = &history},
        {.history_count = 1},
    };
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++) {
        struct script script = {.code = {0}};
        twill_retry retry;
        uint64_t state = 1;
        twill_ns previous = 0;
        twill_retry_report report = run(&script, bad[k]);
        CHECK_EQ(report.status, TWILL_INVALID);
        CHECK_EQ(report.end, TWILL_RETRY_REFUSED);
        CHECK_EQ(twill_retry_init(&retry, &bad[k]), TWILL_INVALID);
        CHECK(!twill_retry_next(&retry));
        CHECK(!twill_retry_next_at(&retry, &previous));
        CHECK_EQ(twill_retry_finish(&retry, NULL), TWILL_INVALID);
        CHECK_EQ(twill_retry_delay(&bad[k], 0, &state, &previous), -1);
    }
    twill_retry_options good = {.unlimited = true, .until.cancel = &token};
    twill_retry retry;
    CHECK_EQ(twill_retry_init(&retry, &good), TWILL_OK);
    CHECK_EQ(twill_retry_init(NULL, NULL), TWILL_INVALID);
    CHECK_EQ(twill_retry_finish(NULL, NULL), TWILL_INVALID);
    twill_retry_report report;
    CHECK_EQ(twill_retry_finish(NULL, &report), TWILL_INVALID);
    CHECK_EQ(report.end, TWILL_RETRY_REFUSED);
    CHECK_EQ(twill_retry_call(NULL, NULL, NULL, NULL, &report), TWILL_INVALID);
    CHECK_EQ(report.attempts, 0);
    CHECK(!twill_retry_next(NULL));
    twill_ns due = 7;
    CHECK(!twill_retry_next_at(NULL, &due));
    CHECK(!twill_retry_next_at(&retry, NULL));
    CHECK_EQ(due, 7);
    CHECK_EQ(twill_retry_attempt_number(NULL), 0);
    CHECK_EQ(twill_retry_until(NULL).deadline, 0);
    twill_retry_result(NULL, 0);
    twill_retry_hint(NULL, 0);
}

TEST(over_before_the_first_call)
{
    twill_cancel token = {0};
    twill_cancel_fire(&token, 1);
    struct script script = {.code = {0}};
    twill_retry_report report = run(&script, (twill_retry_options){.until = twill_within(0)});
    CHECK_EQ(report.status, TWILL_TIMEOUT);
    CHECK_EQ(report.end, TWILL_RETRY_DEADLINE);
    report = run(&script, (twill_retry_options){.until = twill_within_or_cancelled(0, &token)});
    CHECK_EQ(report.status, TWILL_CANCELLED);
    CHECK_EQ(report.end, TWILL_RETRY_CANCELLED);
    CHECK_EQ(report.attempts, 0);
    CHECK_EQ(report.code, 0);
}

/* ---- why it stops ---- */

static const void *seen_out;
static twill_ns judge(int code, const void *out, const twill_task *task)
{
    CHECK_EQ(task->worker, UINT_MAX);
    seen_out = out;
    return code == 404 ? TWILL_RETRY_NEVER : code == 405 ? -77 : code == 429 ? TWILL_SEC(400) : 0;
}

TEST(permanent_failures_are_not_retried)
{
    struct script script = {.code = {503, 404}};
    twill_retry_options options = quick;
    options.after_failure = judge;
    twill_retry_report report = run(&script, options);
    CHECK_EQ(report.status, TWILL_FAILED);
    CHECK_EQ(report.end, TWILL_RETRY_PERMANENT);
    CHECK_EQ(report.code, 404);
    CHECK_EQ(report.attempts, 2);
    script = (struct script){.code = {405}}; /* any negative hint */
    CHECK_EQ(run(&script, options).end, TWILL_RETRY_PERMANENT);
    int out;
    script = (struct script){.code = {404}};
    options.context = &script;
    CHECK_EQ(twill_retry_call(NULL, &out, play, &options, NULL), TWILL_FAILED);
    CHECK_PTR(seen_out, &out);
}

TEST(a_hint_too_long_ends_at_once)
{
    struct script script = {.code = {429}};
    twill_retry_options options = quick;
    options.after_failure = judge;
    twill_retry_report report = run(&script, options);
    CHECK_EQ(report.status, TWILL_FAILED);
    CHECK_EQ(report.end, TWILL_RETRY_HINT_TOO_LONG);
    CHECK_EQ(report.next_delay, TWILL_SEC(400));
    script = (struct script){.code = {429}};
    options.max_attempts = 1; /* no attempt is left: that comes first */
    CHECK_EQ(run(&script, options).end, TWILL_RETRY_ATTEMPTS);
}

TEST(gives_up_before_a_sleep_that_would_pass_the_deadline)
{
    struct script script = {.code = {5, 5, 5}};
    twill_retry_options options = {.base = TWILL_SEC(500),
                                   .cap = TWILL_SEC(500),
                                   .jitter = TWILL_JITTER_NONE,
                                   .max_elapsed = TWILL_SEC(400)};
    twill_retry_report report = run(&script, options);
    CHECK_EQ(report.status, TWILL_TIMEOUT);
    CHECK_EQ(report.end, TWILL_RETRY_DEADLINE);
    CHECK_EQ(report.code, 5);
    CHECK_EQ(report.attempts, 1);
    CHECK_EQ(report.next_delay, TWILL_SEC(500));
    CHECK(report.wall < TWILL_SEC(100));
}

TEST(a_cancelled_call_is_not_a_failure_to_retry)
{
    twill_cancel token = {0};
    struct script script = {.code = {5, 5, 5}, .fire_in = &token, .fire_at = 1};
    twill_retry_options options = quick;
    options.until.cancel = &token;
    options.after_failure = judge; /* and is not asked about it */
    seen_out = &script;
    twill_retry_report report = run(&script, options);
    CHECK_EQ(report.status, TWILL_CANCELLED);
    CHECK_EQ(report.attempts, 2);
    CHECK_EQ(report.code, 5);
    options.max_attempts = 1; /* nor is it a reason that it was the last one */
    script = (struct script){.code = {5}};
    CHECK_EQ(run(&script, options).attempts, 0); /* the token has fired */
    twill_cancel fresh = {0};
    options.until.cancel = &fresh;
    script = (struct script){.code = {5}, .fire_in = &fresh};
    report = run(&script, options);
    CHECK_EQ(report.end, TWILL_RETRY_CANCELLED);
    CHECK_EQ(report.attempts, 1);
    options.max_attempts = 0;
    /* success comes before all */
    twill_cancel again = {0};
    script = (struct script){.code = {0}, .fire_in = &again};
    options.until.cancel = &again;
    CHECK_EQ(run(&script, options).status, TWILL_OK);
}

/* Fires when somebody sleeps under the token. */
static void fire_at_sleeper(void *arg)
{
    twill__token *token = twill__token_of(arg);
    bool sleeps = false;
    while (!sleeps) {
        twill_sleep(twill_within(TWILL_US(100)));
        twill__token_lock(token);
        sleeps = token->head.link != NULL;
        twill__unlock(&token->lock);
    }
    twill_cancel_fire(arg, 1);
}

TEST(cancel_interrupts_the_sleep)
{
    twill_cancel token = {0};
    twill_retry_budget budget = {{0}};
    struct script script = {.code = {5}};
    twill__thrd thread;
    twill_retry_options options = {.base = TWILL_SEC(100),
                                   .cap = TWILL_SEC(100),
                                   .jitter = TWILL_JITTER_NONE,
                                   .budget = &budget,
                                   .until.cancel = &token};
    start(&thread, fire_at_sleeper, &token);
    twill_retry_report report = run(&script, options);
    twill__thread_join(&thread);
    CHECK_EQ(report.status, TWILL_CANCELLED);
    CHECK_EQ(report.attempts, 1);
    CHECK(report.wall < TWILL_SEC(50));
    CHECK(report.slept > 0);
    CHECK_EQ(twill_retry_budget_left(&budget), 500); /* given back */
}

/* ---- hooks and history ---- */

static twill_retry_attempt told[8];
static twill_ns told_delay[8];
static int told_count;
static void note(const twill_retry_attempt *failed, twill_ns delay, const twill_task *task)
{
    CHECK_EQ(task->index, failed->number);
    told[told_count] = *failed;
    told_delay[told_count++] = delay;
}

TEST(on_retry_is_told_before_each_pause)
{
    struct script script = {.code = {5, 6, 7}};
    twill_retry_options options = quick;
    options.on_retry = note;
    told_count = 0;
    (void)run(&script, options);
    CHECK_EQ(told_count, 2); /* attempts - 1 */
    CHECK_EQ(told[0].code, 5);
    CHECK_EQ(told[1].code, 6);
    CHECK_EQ(told[0].number, 0);
    CHECK_EQ(told[1].number, 1);
    CHECK_EQ(told_delay[1], 1000);
    CHECK_EQ(told[0].slept_before, 0);
    CHECK(told[1].slept_before >= 1000);
    CHECK(told[1].started >= told[0].started + told[0].took + 1000);
}

TEST(history_keeps_the_last_oldest_first)
{
    for (size_t count = 1; count <= 6; count++) {
        twill_retry_attempt history[6];
        struct script script = {.code = {10, 11, 12, 13, 14}};
        twill_retry_options options = quick;
        options.max_attempts = 5;
        options.history = history;
        options.history_count = count;
        (void)run(&script, options);
        for (size_t k = 0; k < count && k < 5; k++) {
            size_t number = count < 5 ? 5 - count + k : k;
            CHECK_EQ(history[k].number, number);
            CHECK_EQ(history[k].code, 10 + number);
        }
    }
}

/* ---- the loop ---- */

TEST(the_loop_form)
{
    twill_retry retry;
    twill_retry_report report;
    size_t calls = 0;
    CHECK_EQ(twill_retry_init(&retry, &quick), TWILL_OK);
    while (twill_retry_next(&retry)) {
        CHECK_EQ(twill_retry_attempt_number(&retry), calls);
        twill_retry_result(&retry, calls++ < 2 ? 3 : 0);
    }
    CHECK_EQ(calls, 3);
    CHECK(!twill_retry_next(&retry));
    CHECK_EQ(twill_retry_finish(&retry, &report), TWILL_OK);
    CHECK_EQ(report.attempts, 3);
    CHECK_EQ(twill_retry_finish(&retry, &report), TWILL_OK); /* as often as one likes */
    CHECK(!twill_retry_next(&retry));
}

TEST(leaving_early_is_fine)
{
    twill_retry retry;
    twill_retry_report report;
    CHECK_EQ(twill_retry_init(&retry, &quick), TWILL_OK);
    CHECK_EQ(twill_retry_finish(&retry, &report), TWILL_LOST); /* never called */
    CHECK_EQ(report.end, TWILL_RETRY_LEFT);
    CHECK_EQ(report.attempts, 0);
    CHECK(!twill_retry_next(&retry));

    CHECK_EQ(twill_retry_init(&retry, &quick), TWILL_OK);
    CHECK(twill_retry_next(&retry));
    twill_retry_result(&retry, 17);
    CHECK(twill_retry_next(&retry)); /* and break */
    CHECK_EQ(twill_retry_finish(&retry, &report), TWILL_FAILED);
    CHECK_EQ(report.end, TWILL_RETRY_LEFT);
    CHECK_EQ(report.code, 17);
    CHECK_EQ(report.attempts, 2);
}

TEST(an_attempt_without_result_is_a_failure)
{
    twill_retry retry;
    twill_retry_report report;
    int before = atomic_load(&asserted);
    CHECK_EQ(twill_retry_init(&retry, &quick), TWILL_OK);
    for (int k = 0; k < 3; k++)
        CHECK(twill_retry_next(&retry));
    CHECK_EQ(atomic_load(&asserted) - before, 2);
    CHECK(!twill_retry_next(&retry));
    CHECK_EQ(twill_retry_finish(&retry, &report), TWILL_FAILED);
    CHECK_EQ(report.code, -1);
    CHECK_EQ(report.end, TWILL_RETRY_ATTEMPTS);
    before = atomic_load(&asserted);
    twill_retry_result(&retry, 0); /* nobody asked: nothing changes */
    twill_retry_hint(&retry, 5);
    CHECK_EQ(atomic_load(&asserted) - before, 2);
    CHECK_EQ(twill_retry_finish(&retry, NULL), TWILL_FAILED);
}

TEST(next_at_never_sleeps)
{
    twill_retry retry;
    twill_retry_report report;
    twill_ns due = 0, begun = twill_now(), delay = TWILL_SEC(100);
    twill_retry_options options = {.max_attempts = 5,
                                   .base = TWILL_SEC(100),
                                   .cap = TWILL_SEC(150),
                                   .jitter = TWILL_JITTER_NONE};
    CHECK_EQ(twill_retry_init(&retry, &options), TWILL_OK);
    CHECK(!twill_retry_next_at(&retry, NULL));
    CHECK(twill_retry_next_at(&retry, &due));
    CHECK(due >= begun && due <= twill_now());
    for (int k = 0; k < 4; k++) {
        twill_ns asked = twill_now();
        twill_retry_result(&retry, 5);
        CHECK(twill_retry_next_at(&retry, &due));
        CHECK(due - asked >= delay && due - asked <= delay + TWILL_SEC(20));
        delay = TWILL_SEC(150);
    }
    twill_retry_result(&retry, 5);
    CHECK(!twill_retry_next_at(&retry, &due));
    CHECK(!twill_retry_next_at(&retry, &due));
    CHECK_EQ(twill_retry_finish(&retry, &report), TWILL_FAILED);
    CHECK_EQ(report.attempts, 5);
    CHECK(twill_now() - begun < TWILL_SEC(60));
}

/* A pause beyond all time, without a deadline: there is no last moment to try at. */
TEST(no_last_try_where_there_is_no_deadline)
{
    twill_retry retry;
    twill_retry_report report;
    twill_ns due;
    twill_retry_options options = {.last_try_at_deadline = true, .max_hint = TWILL_FOREVER};
    CHECK_EQ(twill_retry_init(&retry, &options), TWILL_OK);
    CHECK(twill_retry_next_at(&retry, &due));
    twill_retry_hint(&retry, TWILL_FOREVER - 1);
    twill_retry_result(&retry, 5);
    CHECK(!twill_retry_next_at(&retry, &due));
    CHECK_EQ(twill_retry_finish(&retry, &report), TWILL_TIMEOUT);
    CHECK_EQ(report.end, TWILL_RETRY_DEADLINE);
    CHECK_EQ(report.attempts, 1);
}

TEST(a_promised_call_that_is_not_made_costs_nothing)
{
    twill_retry_budget budget = {{0}};
    twill_retry_report report;
    twill_retry retry;
    twill_ns due;
    twill_retry_options options = {
        .base = TWILL_SEC(100), .jitter = TWILL_JITTER_NONE, .budget = &budget};
    CHECK_EQ(twill_retry_init(&retry, &options), TWILL_OK);
    CHECK(twill_retry_next_at(&retry, &due));
    twill_retry_result(&retry, 5);
    CHECK(twill_retry_next_at(&retry, &due));
    CHECK_EQ(twill_retry_budget_left(&budget), 495);
    CHECK_EQ(twill_retry_finish(&retry, &report), TWILL_FAILED);
    CHECK_EQ(twill_retry_budget_left(&budget), 500);
    CHECK_EQ(report.attempts, 1);
    CHECK_EQ(report.slept, 0);
    CHECK_EQ(twill_retry_finish(&retry, &report), TWILL_FAILED); /* the same again */
    CHECK_EQ(report.attempts, 1);
}

TEST(hints_in_the_loop)
{
    twill_retry retry;
    twill_retry_report report;
    twill_ns due, now;
    twill_retry_options options = quick;
    options.max_attempts = 100;
    options.after_failure = judge; /* not asked beside a hint: 404 would be permanent */
    CHECK_EQ(twill_retry_init(&retry, &options), TWILL_OK);
    CHECK(twill_retry_next_at(&retry, &due));
    for (int k = 0; k < 20; k++) { /* a fleet that got the same hint does not come in step */
        now = twill_now();
        twill_retry_hint(&retry, TWILL_SEC(100)); /* above the cap */
        twill_retry_result(&retry, 404);
        CHECK(twill_retry_next_at(&retry, &due));
        CHECK(due - now >= TWILL_SEC(100) && due - now <= TWILL_SEC(130));
    }
    now = twill_now();
    twill_retry_result(&retry, 5); /* a hint serves once */
    CHECK(twill_retry_next_at(&retry, &due));
    CHECK(due - now < TWILL_SEC(50));
    twill_retry_hint(&retry, TWILL_RETRY_NEVER);
    twill_retry_result(&retry, 5);
    CHECK(!twill_retry_next_at(&retry, &due));
    CHECK_EQ(twill_retry_finish(&retry, &report), TWILL_FAILED);
    CHECK_EQ(report.end, TWILL_RETRY_PERMANENT);
}

TEST(attempts_have_a_deadline_of_their_own)
{
    twill_cancel token = {0};
    twill_retry retry;
    twill_ns due;
    twill_retry_options options = {.base = TWILL_SEC(10),
                                   .jitter = TWILL_JITTER_NONE,
                                   .max_elapsed = TWILL_SEC(12),
                                   .attempt_timeout = TWILL_SEC(5),
                                   .until.cancel = &token};
    CHECK_EQ(twill_retry_init(&retry, &options), TWILL_OK);
    CHECK_EQ(twill_retry_until(&retry).deadline, 0);
    CHECK(twill_retry_next_at(&retry, &due));
    twill_ns begun = due;
    CHECK_EQ(twill_retry_until(&retry).deadline, begun + TWILL_SEC(5));
    CHECK_PTR(twill_retry_until(&retry).cancel, &token);
    twill_retry_result(&retry, 5);
    if (twill_retry_next_at(&retry, &due)) /* the whole ends before the attempt would */
        CHECK_EQ(twill_retry_until(&retry).deadline, begun + TWILL_SEC(12));
}

/* ---- the budget ---- */

TEST(budget_defaults)
{
    twill_retry_budget budget = {{0}};
    struct script script = {.code = {5, 5, 5}};
    twill_retry_options options = quick;
    options.budget = &budget;
    CHECK_EQ(twill_retry_budget_left(&budget), 500); /* zeroed is full */
    CHECK_EQ(run(&script, options).end, TWILL_RETRY_ATTEMPTS);
    CHECK_EQ(twill_retry_budget_left(&budget), 490); /* two retries */
    script = (struct script){.code = {5, 0}};
    CHECK_EQ(run(&script, options).status, TWILL_OK);
    CHECK_EQ(twill_retry_budget_left(&budget), 490); /* what the last one took is back */
    script = (struct script){.code = {0}};
    CHECK_EQ(run(&script, options).status, TWILL_OK);
    CHECK_EQ(twill_retry_budget_left(&budget), 491);
    for (int k = 0; k < 20; k++) {
        script = (struct script){.code = {0}};
        CHECK_EQ(run(&script, options).status, TWILL_OK);
    }
    CHECK_EQ(twill_retry_budget_left(&budget), 500); /* never above the capacity */
}

TEST(budget_runs_out)
{
    twill_retry_budget budget;
    twill_retry_budget_options store = {.capacity = 10, .retry_cost = 4};
    CHECK_EQ(twill_retry_budget_init(&budget, &store), TWILL_OK);
    struct script script = {.code = {5, 5, 5, 5, 5}};
    twill_retry_options options = quick;
    options.max_attempts = 5;
    options.budget = &budget;
    twill_retry_report report = run(&script, options);
    CHECK_EQ(report.status, TWILL_FAILED);
    CHECK_EQ(report.end, TWILL_RETRY_NO_BUDGET);
    CHECK_EQ(report.attempts, 3);
    CHECK_EQ(report.next_delay, 1000);
    CHECK_EQ(twill_retry_budget_left(&budget), 2);
    script = (struct script){.code = {5}};
    CHECK_EQ(run(&script, options).attempts, 1); /* the first call asks no budget */
}

static int dawdle(const void *in, void *out, const twill_task *task)
{
    (void)in;
    (void)out;
    CHECK(twill_sleep(task->until) == TWILL_OK); /* its own deadline */
    return 5;
}

TEST(an_attempt_that_ran_into_its_limit_costs_more)
{
    twill_retry_budget budget;
    twill_retry_budget_options store = {.capacity = 100, .retry_cost = 1, .timeout_cost = 40};
    CHECK_EQ(twill_retry_budget_init(&budget, &store), TWILL_OK);
    twill_retry_options options = quick;
    options.attempt_timeout = TWILL_MS(1);
    options.budget = &budget;
    options.max_attempts = 2;
    CHECK_EQ(twill_retry_call(NULL, NULL, dawdle, &options, NULL), TWILL_FAILED);
    CHECK_EQ(twill_retry_budget_left(&budget), 60);
}

TEST(half_rule)
{
    twill_retry_budget budget;
    twill_retry_budget_options store = {.half_rule = true};
    twill_retry_options options = quick;
    options.budget = &budget;
    options.max_attempts = 20;
    CHECK_EQ(twill_retry_budget_init(&budget, &store), TWILL_OK);
    CHECK_EQ(twill_retry_budget_left(&budget), 10);
    struct script script = {.code = {5, 5, 5, 5, 5, 5, 5, 5}};
    twill_retry_report report = run(&script, options);
    CHECK_EQ(report.end, TWILL_RETRY_NO_BUDGET);
    CHECK_EQ(report.attempts, 5); /* the fifth failure leaves half: not more than that */
    CHECK_EQ(twill_retry_budget_left(&budget), 5);
    for (int k = 0; k < 20; k++) { /* twenty successes bring two tokens: two failures */
        script = (struct script){.code = {0}};
        CHECK_EQ(run(&script, options).status, TWILL_OK);
    }
    CHECK_EQ(twill_retry_budget_left(&budget), 7);
    script = (struct script){.code = {5, 5, 5, 5, 5, 5, 5, 5}};
    CHECK_EQ(run(&script, options).attempts, 2);
    for (int k = 0; k < 8; k++) { /* failures that find less than a token take what is there */
        script = (struct script){.code = {5, 5}};
        CHECK_EQ(run(&script, options).attempts, 1);
    }
    CHECK_EQ(twill_retry_budget_left(&budget), 0);
    for (int k = 0; k < 10; k++) {
        script = (struct script){.code = {0}};
        CHECK_EQ(run(&script, options).status, TWILL_OK);
    }
    CHECK_EQ(twill_retry_budget_left(&budget), 1);
}

/* Each measure by itself, and its default. */
TEST(budgets_of_other_measures)
{
    twill_retry_budget budget;
    twill_retry_options options = quick;
    struct script script;
    options.budget = &budget;
    /* a success brings so many thousandths: never above the capacity, and by the half rule, too */
    for (int half = 0; half < 2; half++) {
        CHECK_EQ(
            twill_retry_budget_init(&budget, &(twill_retry_budget_options){.capacity = 20,
                                                                           .success_milli = 2500,
                                                                           .half_rule = half}),
            TWILL_OK);
        script = (struct script){.code = {5, 5, 0}};
        CHECK_EQ(run(&script, options).status, TWILL_OK);
        /* two failures, a success; or two retries, and the last one's cost is back */
        CHECK_EQ(twill_retry_budget_left(&budget), half ? 20 : 15);
        script = (struct script){.code = {0}};
        CHECK_EQ(run(&script, options).status, TWILL_OK);
        CHECK_EQ(twill_retry_budget_left(&budget), half ? 20 : 17);
    }
    /* an attempt that overran costs 10, whatever a retry costs */
    CHECK_EQ(twill_retry_budget_init(
                 &budget, &(twill_retry_budget_options){.capacity = 30, .retry_cost = 1}),
             TWILL_OK);
    options.attempt_timeout = TWILL_MS(1);
    options.max_attempts = 2;
    CHECK_EQ(twill_retry_call(NULL, NULL, dawdle, &options, NULL), TWILL_FAILED);
    CHECK_EQ(twill_retry_budget_left(&budget), 20);
    script = (struct script){.code = {5, 0}}; /* in time: 1, which is back */
    options.attempt_timeout = TWILL_SEC(100);
    CHECK_EQ(run(&script, options).status, TWILL_OK);
    CHECK_EQ(twill_retry_budget_left(&budget), 20);
}

TEST(the_nearer_of_two_ends_is_the_deadline)
{
    for (int k = 0; k < 3; k++) {
        struct script script = {.code = {5, 5, 5}};
        twill_retry_options options = {.base = TWILL_SEC(100), .jitter = TWILL_JITTER_NONE};
        options.until = k == 0 ? twill_within(TWILL_SEC(1)) : (twill_until){0, NULL};
        options.max_elapsed = k == 0   ? TWILL_SEC(50)
                              : k == 1 ? TWILL_SEC(1)
                                       : TWILL_FOREVER - 1; /* after all time: none */
        options.max_attempts = k == 2 ? 1 : 3;
        CHECK_EQ(run(&script, options).end, k == 2 ? TWILL_RETRY_ATTEMPTS : TWILL_RETRY_DEADLINE);
        CHECK_EQ(script.calls, 1);
    }
}

TEST(budget_refusals)
{
    twill_retry_budget budget;
    const twill_retry_budget_options bad[] = {
        {.capacity = 4},
        {.capacity = 10, .retry_cost = 11},
        {.capacity = 10, .timeout_cost = 11},
        {.capacity = 4, .timeout_cost = 1}, /* a retry costs 5 by default */
        {.half_rule = true, .retry_cost = 1},
        {.half_rule = true, .timeout_cost = 1},
    };
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++)
        CHECK_EQ(twill_retry_budget_init(&budget, &bad[k]), TWILL_INVALID);
    CHECK_EQ(twill_retry_budget_init(NULL, NULL), TWILL_INVALID);
    CHECK_EQ(twill_retry_budget_init(&budget, NULL), TWILL_OK);
    CHECK_EQ(twill_retry_budget_init(&budget, &bad[1]), TWILL_INVALID); /* and it is as it was */
    CHECK_EQ(twill_retry_budget_left(&budget), 500);
    CHECK_EQ(twill_retry_budget_left(NULL), 0);
}

struct spender {
    twill__thrd thread;
    twill_retry_budget *budget;
    uint64_t retries;
};

static void spend(void *spender_)
{
    struct spender *me = spender_;
    twill_retry_options options = {.base = 1, .cap = 1, .max_attempts = 2, .budget = me->budget};
    for (int k = 0; k < 2000; k++) {
        struct script script = {.code = {5, 5}};
        options.context = &script;
        twill_retry_report report;
        (void)twill_retry_call(NULL, NULL, play, &options, &report);
        me->retries += report.attempts - 1;
        CHECK(twill_retry_budget_left(me->budget) <= 10000);
    }
}

TEST(a_shared_budget_counts_exactly)
{
    twill_retry_budget budget;
    twill_retry_budget_options store = {.capacity = 10000, .retry_cost = 3};
    struct spender spender[4] = {0};
    uint64_t retries = 0;
    CHECK_EQ(twill_retry_budget_init(&budget, &store), TWILL_OK);
    for (int k = 0; k < 4; k++) {
        spender[k].budget = &budget;
        start(&spender[k].thread, spend, &spender[k]);
    }
    for (int k = 0; k < 4; k++) {
        twill__thread_join(&spender[k].thread);
        retries += spender[k].retries;
    }
    CHECK_EQ(retries, 3333);
    CHECK_EQ(twill_retry_budget_left(&budget), 1);
}

/* ---- the schedule alone ---- */

TEST(schedule_is_what_the_loop_does)
{
    for (int k = 0; k < 60; k++) {
        twill_retry_options options = {.max_attempts = 12,
                                       .base = TWILL_SEC(1),
                                       .cap = TWILL_SEC(1000),
                                       .jitter = (twill_jitter)(k % 6),
                                       .multiplier = 1 + (double)(k % 4),
                                       .immediate_first_retry = k % 5 == 0,
                                       .on_retry = note,
                                       .seed = 1 + test_random() / 2};
        twill_retry retry;
        uint64_t state = options.seed;
        twill_ns previous = 0, due;
        told_count = 0;
        CHECK_EQ(twill_retry_init(&retry, &options), TWILL_OK);
        for (size_t retries = 0; retries < 8; retries++) {
            CHECK(twill_retry_next_at(&retry, &due));
            twill_retry_result(&retry, 5);
        }
        for (size_t retries = 0; retries < 7; retries++)
            CHECK_EQ(told_delay[retries], twill_retry_delay(&options, retries, &state, &previous));
    }
}

/* Limits beyond the end of time are none. */
TEST(limits_for_ever)
{
    twill_retry_options options = {.max_elapsed = TWILL_FOREVER - 1,
                                   .attempt_timeout = TWILL_FOREVER - 1,
                                   .jitter = TWILL_JITTER_NONE,
                                   .base = TWILL_FOREVER,
                                   .cap = TWILL_FOREVER};
    twill_retry retry;
    twill_ns due = 0;
    CHECK_EQ(twill_retry_init(&retry, &options), TWILL_OK);
    CHECK_EQ(twill_retry_until(&retry).deadline, 0);
    CHECK(twill_retry_next_at(&retry, &due));
    CHECK_EQ(twill_retry_until(&retry).deadline, TWILL_FOREVER);
    twill_retry_result(&retry, 1);
    CHECK(!twill_retry_next_at(&retry, &due)); /* the pause would not end */
    twill_retry_report report;
    CHECK_EQ(twill_retry_finish(&retry, &report), TWILL_TIMEOUT);
    CHECK_EQ(report.attempts, 1);
    CHECK_EQ(report.end, TWILL_RETRY_DEADLINE);
}

TEST(schedule_edges)
{
    uint64_t state = 1;
    twill_ns previous = 0;
    twill_retry_options options = {.jitter = TWILL_JITTER_NONE};
    CHECK_EQ(twill_retry_delay(&options, 0, &state, &previous), TWILL_MS(100));
    CHECK_EQ(twill_retry_delay(&options, 3, &state, &previous), TWILL_MS(800));
    CHECK_EQ(twill_retry_delay(&options, 80, &state, &previous), TWILL_SEC(10));
    CHECK_EQ(twill_retry_delay(&options, SIZE_MAX, &state, &previous), TWILL_SEC(10));
    options.multiplier = 1;
    CHECK_EQ(twill_retry_delay(&options, SIZE_MAX, &state, &previous), TWILL_MS(100));
    options = (twill_retry_options){
        .jitter = TWILL_JITTER_NONE, .base = INT64_MAX, .cap = INT64_MAX, .multiplier = 1e9};
    CHECK_EQ(twill_retry_delay(&options, 100, &state, &previous), INT64_MAX);
    CHECK_EQ(twill_retry_delay(NULL, 0, NULL, &previous), -1);
    CHECK_EQ(twill_retry_delay(NULL, 0, &state, NULL), -1);
    previous = -1;
    CHECK_EQ(twill_retry_delay(NULL, 0, &state, &previous), -1);
    previous = 0;
    options.immediate_first_retry = true;
    CHECK_EQ(twill_retry_delay(&options, 0, &state, &previous), 0);
}

TEST(different_seeds_differ)
{
    uint64_t one = 1, two = 2;
    twill_ns previous = 0;
    twill_retry a, b;
    CHECK(twill_retry_delay(NULL, 0, &one, &previous) !=
          twill_retry_delay(NULL, 0, &two, &previous));
    told_count = 0;
    twill_retry_options options = {.base = TWILL_SEC(10), .on_retry = note};
    for (int k = 0; k < 2; k++) { /* seed 0: fresh for each */
        twill_retry *retry = k ? &a : &b;
        twill_ns due;
        CHECK_EQ(twill_retry_init(retry, &options), TWILL_OK);
        CHECK(twill_retry_next_at(retry, &due));
        twill_retry_result(retry, 5);
        CHECK(twill_retry_next_at(retry, &due));
    }
    CHECK(told_delay[0] != told_delay[1]);
}

/* ---- ends of threads and processes ---- */

static int end_thread(const void *in, void *out, const twill_task *task)
{
    (void)in;
    (void)out;
    if (task->index == 1)
        END_THREAD();
    return 5;
}

static void call_and_end(void *report)
{
    (void)twill_retry_call(NULL, NULL, end_thread, &quick, report);
    CHECK(false); /* never comes here */
}

TEST(a_callback_that_ends_its_thread)
{
    twill_retry_report report = {0};
    twill__thrd thread;
    start(&thread, call_and_end, &report);
    twill__thread_join(&thread);
    CHECK_EQ(report.end, TWILL_RETRY_LEFT);
    CHECK_EQ(report.status, TWILL_FAILED); /* the first call had failed */
    CHECK_EQ(report.attempts, 2);
    CHECK_EQ(faults_allocs(), 0);
}

static void end_when_told(const twill_retry_attempt *failed, twill_ns delay, const twill_task *task)
{
    (void)failed;
    (void)delay;
    (void)task;
    END_THREAD();
}

static void be_told_and_end(void *options)
{
    (void)twill_retry_call(NULL, NULL, end_thread, options, NULL);
    CHECK(false);
}

TEST(a_retry_that_is_told_of_and_not_made_costs_nothing)
{
    static twill_retry_budget budget;
    twill_retry_options options = {
        .base = TWILL_US(1), .budget = &budget, .on_retry = end_when_told};
    twill__thrd thread;
    start(&thread, be_told_and_end, &options);
    twill__thread_join(&thread);
    CHECK_EQ(twill_retry_budget_left(&budget), 500);
}

TEST(a_child_process_goes_on_out_of_step)
{
#if HARNESS_FORKS
    twill_retry retry;
    twill_ns due, mine, theirs = 0;
    int ends[2];
    twill_retry_options options = {.base = TWILL_SEC(1000), .cap = TWILL_SEC(1000)};
    CHECK_EQ(twill_retry_init(&retry, &options), TWILL_OK);
    CHECK(twill_retry_next_at(&retry, &due));
    twill_retry_result(&retry, 5);
    CHECK_EQ(pipe(ends), 0);
    uint64_t before = twill__retry_of(&retry)->delays.random;
    pid_t child = fork();
    if (child == 0) {
        CHECK(twill_retry_next_at(&retry, &due));
        /* one draw from the same state would be one step of the counter */
        CHECK(twill__retry_of(&retry)->delays.random != before + UINT64_C(0x9e3779b97f4a7c15));
        CHECK(write(ends[1], &due, sizeof due) == (ssize_t)sizeof due);
        _exit(0);
    }
    CHECK(child > 0);
    CHECK(twill_retry_next_at(&retry, &mine));
    CHECK(read(ends[0], &theirs, sizeof theirs) == (ssize_t)sizeof theirs);
    CHECK(mine != theirs);
    CHECK_EQ(waitpid(child, NULL, 0), child);
    close(ends[0]);
    close(ends[1]);
#else
    SKIP("no fork");
#endif
}

HARNESS_MAIN
