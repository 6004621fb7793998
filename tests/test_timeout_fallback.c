/* Functions with a deadline, row by row of the manual: punctuality, who owns what, who serves
   instead, stragglers and their bound, hedges, ends. */
#define HARNESS_FAULTS
#include "harness.h"

#define TWILL_IMPLEMENTATION
#include "twill_timeout_fallback.h"

#ifdef TWILL_USE_PTHREAD
#define END_THREAD() pthread_exit(NULL)
#else
#define END_THREAD() thrd_exit(0)
#endif

/* ---- kit ---- */

typedef struct ticket { /* what the functions are told to do */
    int value;
    int code;
    int obey; /* 1: ends with its token, with its code; 2: ends with it, and serves */
    int ends_thread;
    twill_ns takes;    /* sleeps so long, whatever its token says (unless it obeys) */
    atomic_int *gate;  /* waits until it is not 0, whatever its token says */
    atomic_int *began; /* counts those that have begun */
} ticket;

static atomic_int ran, discarded, freed, last_code, started, stopped;
static atomic_int discard_value;

static void reset(void)
{
    ran = discarded = freed = started = stopped = 0;
    last_code = discard_value = -1;
}

static int work(const void *in, void *out, const twill_task *task)
{
    const ticket *t = in;
    atomic_fetch_add(&ran, 1);
    if (t->began)
        atomic_fetch_add(t->began, 1);
    if (t->ends_thread)
        END_THREAD();
    if (t->obey) {
        twill_until until = task->until;
        if (t->takes)
            until.deadline = twill__nearer(until.deadline, twill_within(t->takes).deadline);
        twill_sleep(until);
        if (t->obey == 1 && twill_task_cancelled(task))
            return t->code ? t->code : 1;
    } else if (t->takes) {
        twill_sleep(twill_within(t->takes));
    }
    while (t->gate && !atomic_load(t->gate))
        twill_sleep(twill_within(TWILL_US(200)));
    *(int *)out = t->value;
    return t->obey ? 0 : t->code;
}

static void note_discard(void *in, void *result, int code, const twill_task *task)
{
    (void)in;
    CHECK(task->context == (void *)&ran || task->context == NULL);
    atomic_store(&last_code, code);
    atomic_store(&discard_value, *(int *)result);
    atomic_fetch_add(&discarded, 1);
}

static void note_free(void *in, const twill_task *task)
{
    (void)task;
    CHECK(in != NULL);
    atomic_fetch_add(&freed, 1);
}

static twill_timeout *timeout_of(twill_timeout_options options)
{
    twill_timeout *timeout = NULL;
    options.free_input = note_free;
    if (!options.discard)
        options.discard = note_discard;
    CHECK_EQ(twill_timeout_create(&timeout, &options), TWILL_OK);
    reset();
    return timeout;
}

static const twill_until for_ever;

/* The result; INT_MIN: out is untouched. */
static int out_of_call;
static twill_timeout_report report;

static twill_status call_until(twill_timeout *timeout, ticket t, twill_until until)
{
    out_of_call = INT_MIN;
    return twill_timeout_call(timeout, &t, sizeof t, &out_of_call, sizeof out_of_call, work, until,
                              &report);
}

static twill_status call(twill_timeout *timeout, ticket t)
{
    return call_until(timeout, t, for_ever);
}

static twill_timeout_stats stats_of(twill_timeout *timeout)
{
    twill_timeout_stats stats;
    twill_timeout_get_stats(timeout, &stats);
    return stats;
}

/* Drains, checks the sums, destroys: nothing may be left. */
static void finish(twill_timeout *timeout)
{
    twill_timeout_stats s;
    size_t left = 9;
    CHECK_EQ(twill_timeout_drain(timeout, for_ever, &left), TWILL_OK);
    CHECK_EQ(left, 0);
    s = stats_of(timeout);
    CHECK_EQ(s.calls, s.ok + s.failed + s.timeouts + s.cancelled + s.refused);
    CHECK_EQ(s.running, 0);
    CHECK_EQ(s.abandoned, 0);
    CHECK_EQ(atomic_load(&freed), s.calls);
    CHECK_EQ(twill_timeout_destroy(timeout), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

static void until_count(atomic_int *count, int n)
{
    while (atomic_load(count) < n) /* the watchdog is the bound */
        twill_sleep(twill_within(TWILL_US(100)));
}

typedef struct actor { /* one call in a thread of its own */
    twill__thrd thread;
    void (*fn)(struct actor *actor);
    twill_timeout *timeout;
    ticket ticket;
    twill_until until;
    twill_status status;
    twill_timeout_report report;
    int out;
} actor;

static void actor_main(void *me)
{
    ((actor *)me)->fn(me);
}

static void go(actor *who, void (*fn)(actor *who), twill_timeout *timeout)
{
    memset(&who->thread, 0, sizeof who->thread);
    who->thread.fn = actor_main;
    who->thread.arg = who;
    who->thread.cpu = UINT_MAX;
    who->fn = fn;
    who->timeout = timeout;
    CHECK(twill__thread_start(&who->thread));
}

static void join(actor *who)
{
    twill__thread_join(&who->thread);
}

static void one_call(actor *me)
{
    me->status = twill_timeout_call(me->timeout, &me->ticket, sizeof me->ticket, &me->out,
                                    sizeof me->out, work, me->until, &me->report);
}

/* ---- one call ---- */

static int one(ticket t, twill_ns timeout, const int *fallback, int *out)
{
    *out = INT_MIN;
    return (int)twill_call_with_timeout(&t, sizeof t, out, sizeof *out, work, timeout, fallback);
}

TEST(one_call_says_how_it_was)
{
    int out, fallback = 77;
    reset();
    CHECK_EQ(one((ticket){.value = 5}, TWILL_SEC(20), &fallback, &out), TWILL_OK);
    CHECK_EQ(out, 5);
    CHECK_EQ(one((ticket){.value = 77}, TWILL_FOREVER, &fallback, &out), TWILL_OK);
    CHECK_EQ(out, 77); /* a result that equals the fallback is a result */
    CHECK_EQ(one((ticket){.code = 3}, TWILL_SEC(20), &fallback, &out), TWILL_FAILED);
    CHECK_EQ(out, INT_MIN);
    CHECK_EQ(atomic_load(&ran), 3);
    CHECK_EQ(one((ticket){.value = 1}, 0, &fallback, &out), TWILL_TIMEOUT); /* over already */
    CHECK_EQ(out, 77);
    CHECK_EQ(one((ticket){.value = 1}, 0, NULL, &out), TWILL_TIMEOUT);
    CHECK_EQ(out, INT_MIN);
    CHECK_EQ(one((ticket){.value = 1}, -1, &fallback, &out), TWILL_INVALID);
    CHECK_EQ(out, INT_MIN);
    CHECK_EQ(atomic_load(&ran), 3);
    CHECK_EQ(one((ticket){.ends_thread = 1}, TWILL_SEC(20), &fallback, &out), TWILL_LOST);
    CHECK_EQ(out, 77);
    CHECK_EQ(twill_timeout_abandoned(NULL), 0);
    CHECK_EQ(faults_live(), 0);
}

/* The source's call of 0.1 s took as long as its task (D12, 1.001 s of 1 s): the executor's exit
   joined it. Here the task cannot end before the call has returned. */
static bool one_call_returns(twill_ns limit)
{
    atomic_int gate = 0;
    int out, fallback = 77;
    size_t left;
    reset();
    CHECK_EQ(one((ticket){.value = 5, .gate = &gate}, limit, &fallback, &out), TWILL_TIMEOUT);
    CHECK_EQ(out, 77);
    bool in_time = twill_timeout_abandoned(NULL) == 1; /* it had begun by then */
    if (in_time) {
        CHECK_EQ(twill_timeout_drain(NULL, twill_within(TWILL_MS(1)), &left), TWILL_TIMEOUT);
        CHECK_EQ(left, 1);
        CHECK_EQ(faults_live(), 1); /* one block a straggler */
    }
    gate = 1;
    CHECK_EQ(twill_timeout_drain(NULL, for_ever, &left), TWILL_OK);
    CHECK_EQ(left, 0);
    CHECK_EQ(out, 77); /* the late result never reaches it */
    CHECK_EQ(faults_live(), 0);
    return in_time;
}

TEST(returns_at_the_deadline_whatever_the_task_does)
{
    CHECK(test_in_time(TWILL_MS(10), one_call_returns));
}

TEST(stragglers_of_one_calls_are_bounded)
{
    atomic_int gate = 0, began = 0;
    int out, fallback = 1;
    actor actors[2] = {{.until = {0, NULL}}};
    (void)actors;
    reset();
    for (int k = 0; k < 64; k++)
        CHECK_EQ(one((ticket){.gate = &gate, .began = &began}, 1000, &fallback, &out) &
                     ~TWILL_TIMEOUT,
                 0);
    until_count(&began, (int)twill_timeout_abandoned(NULL));
    while (twill_timeout_abandoned(NULL) < 64) /* one whose deadline passed before its start */
        (void)one((ticket){.gate = &gate, .began = &began}, TWILL_MS(1), NULL, &out);
    CHECK_EQ(one((ticket){.gate = &gate}, TWILL_SEC(20), &fallback, &out), TWILL_BUSY);
    CHECK_EQ(out, 1);
    gate = 1;
    CHECK_EQ(twill_timeout_drain(NULL, for_ever, NULL), TWILL_OK);
    CHECK_EQ(one((ticket){.value = 4}, TWILL_SEC(20), &fallback, &out), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

static int sees_pointer(const void *in, void *out, const twill_task *task)
{
    *(const void **)out = in;
    CHECK(task->private_ != NULL);
    return 0;
}

static int no_result(const void *in, void *out, const twill_task *task)
{
    (void)in, (void)out, (void)task;
    return 0;
}

TEST(no_input_no_output)
{
    const void *seen = NULL;
    int here = 1;
    CHECK_EQ(
        twill_call_with_timeout(&here, 0, &seen, sizeof seen, sees_pointer, TWILL_SEC(20), NULL),
        TWILL_OK);
    CHECK_PTR(seen, &here); /* the pointer itself */
    CHECK_EQ(twill_call_with_timeout(&here, sizeof here, &seen, sizeof seen, sees_pointer,
                                     TWILL_SEC(20), NULL),
             TWILL_OK);
    CHECK(seen != &here); /* a copy */
    CHECK_EQ(twill_call_with_timeout(NULL, 0, NULL, 0, no_result, TWILL_SEC(20), NULL), TWILL_OK);
    CHECK_EQ(twill_call_with_timeout(NULL, 1, NULL, 0, no_result, TWILL_SEC(20), NULL),
             TWILL_INVALID);
    CHECK_EQ(twill_call_with_timeout(NULL, 0, NULL, 1, no_result, TWILL_SEC(20), NULL),
             TWILL_INVALID);
    CHECK_EQ(twill_call_with_timeout(NULL, 0, NULL, 0, NULL, TWILL_SEC(20), NULL), TWILL_INVALID);
    CHECK_EQ(twill_call_with_timeout(NULL, 0, NULL, 0, no_result, 0, &here), TWILL_TIMEOUT);
    CHECK_EQ(twill_call_with_timeout(&here, SIZE_MAX / 2, &seen, SIZE_MAX / 2, no_result,
                                     TWILL_SEC(20), NULL),
             TWILL_TOO_BIG);
    CHECK_EQ(twill_call_with_timeout(&here, SIZE_MAX, &seen, 8, no_result, TWILL_SEC(20), NULL),
             TWILL_TOO_BIG);
    CHECK_EQ(faults_live(), 0);
}

/* ---- the object ---- */

static int start_hook(void **state, const twill_task *task);
static void stop_hook(void *state, const twill_task *task);

TEST(refusals)
{
    static const twill_fallback nothing = {NULL, 0}, negative = {work, -1};
    static unsigned cpu;
    static const int value = 1;
    twill_timeout *timeout = (twill_timeout *)&timeout;
    twill_report run_report;
    twill_item_error run_errors[1];
    twill_status run_status;
    int run_code;
    const twill_timeout_options bad[] = {
        {.timeout = -1},
        {.grace = -1},
        {.mode = (twill_timeout_mode)3},
        {.mode = (twill_timeout_mode)-1},
        {.fallback_count = 1},
        {.fallbacks = &nothing},
        {.fallbacks = &nothing, .fallback_count = 1},
        {.fallbacks = &negative, .fallback_count = 1},
        {.fallback_value = &value},
        {.fallback_value_size = 1},
        {.hedge_after = -1},
        {.hedge_budget = -0.1},
        {.hedge_budget = 1.1},
        {.hedge_budget = (double)__builtin_nanf("")},
        {.hedge_after = 1, .mode = TWILL_TIMEOUT_COOPERATE},
        {.run.name = "x", .mode = TWILL_TIMEOUT_COOPERATE},
        {.run.pool = (twill_pool *)&timeout},
        {.run.workers = 1},
        {.run.strict = true},
        {.run.cpus = &cpu, .run.cpu_count = 1},
        {.run.on_error = TWILL_ON_ERROR_FIRST},
        {.run.report = &run_report},
        {.run.max_errors = 1},
        {.run.errors = run_errors},
        {.run.errors_capacity = 1},
        {.run.statuses = &run_status},
        {.run.codes = &run_code},
        {.run.cpus = &cpu},
        {.run.cpu_count = 1},
        {.run.worker_start = start_hook, .mode = TWILL_TIMEOUT_COOPERATE},
        {.run.worker_stop = stop_hook, .mode = TWILL_TIMEOUT_COOPERATE},
        {.run.stack_size = 1 << 20, .mode = TWILL_TIMEOUT_COOPERATE},
    };
    CHECK_EQ(twill_timeout_create(NULL, NULL), TWILL_INVALID);
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++) {
        CHECK_EQ(twill_timeout_create(&timeout, &bad[k]), TWILL_INVALID);
        CHECK_PTR(timeout, NULL);
    }
    CHECK_EQ(
        twill_timeout_create(&timeout, &(twill_timeout_options){.fallback_value = &value,
                                                                .fallback_value_size = SIZE_MAX}),
        TWILL_TOO_BIG);
    CHECK_EQ(twill_timeout_create(
                 &timeout, &(twill_timeout_options){.hedge_after = 1, .max_hedges = SIZE_MAX}),
             TWILL_TOO_BIG);
    CHECK_EQ(twill_timeout_create(&timeout,
                                  &(twill_timeout_options){.fallback_value = &value,
                                                           .fallback_value_size = SIZE_MAX / 2}),
             TWILL_TOO_BIG);
    CHECK_EQ(twill_timeout_create(
                 &timeout,
                 &(twill_timeout_options){.hedge_after = 1, .max_hedges = (size_t)UINT_MAX + 1}),
             TWILL_TOO_BIG);
    twill_timeout_stats stats, zero;
    memset(&zero, 0, sizeof zero);
    memset(&stats, 1, sizeof stats);
    twill_timeout_get_stats(NULL, &stats);
    CHECK(memcmp(&stats, &zero, sizeof zero) == 0);
    twill_timeout_get_stats(NULL, NULL);
    CHECK_EQ(twill_timeout_call(NULL, NULL, 0, NULL, 0, no_result, for_ever, &report),
             TWILL_INVALID);
    CHECK_EQ(report.primary, TWILL_INVALID);
    CHECK_EQ(twill_timeout_close(NULL), TWILL_INVALID);
    CHECK_EQ(twill_timeout_destroy(NULL), TWILL_OK);
    timeout = timeout_of(
        (twill_timeout_options){.fallback_value = &value, .fallback_value_size = sizeof value});
    CHECK_EQ(twill_timeout_call(timeout, NULL, 0, NULL, 0, no_result, for_ever, NULL),
             TWILL_INVALID); /* the constant has another size */
    CHECK_EQ(twill_timeout_call(timeout, NULL, 0, &out_of_call, sizeof value, NULL, for_ever, NULL),
             TWILL_INVALID);
    CHECK_EQ(twill_timeout_call(timeout, &value, SIZE_MAX, &out_of_call, sizeof value, work,
                                for_ever, &report),
             TWILL_TOO_BIG);
    CHECK_EQ(report.primary, TWILL_TOO_BIG);
    CHECK_EQ(atomic_load(&freed), 0); /* a refused call has taken nothing */
    finish(timeout);
}

TEST(close_refuses_and_a_second_one_says_so)
{
    twill_timeout *timeout = timeout_of((twill_timeout_options){.timeout = 0});
    CHECK_EQ(call(timeout, (ticket){.value = 3}), TWILL_OK);
    CHECK_EQ(out_of_call, 3);
    CHECK_EQ(report.primary, TWILL_OK);
    CHECK_EQ(report.source, TWILL_FROM_PRIMARY);
    CHECK_EQ(report.level, 0);
    CHECK(!report.abandoned && report.wall >= 0);
    CHECK_EQ(twill_timeout_close(timeout), TWILL_OK);
    CHECK_EQ(twill_timeout_close(timeout), TWILL_CLOSED);
    CHECK_EQ(call(timeout, (ticket){.value = 3}), TWILL_CLOSED);
    CHECK_EQ(out_of_call, INT_MIN);
    CHECK_EQ(atomic_load(&ran), 1);
    CHECK_EQ(stats_of(timeout).refused, 1);
    finish(timeout);
}

/* Exactly one of {the caller takes the result, discard} for each function that has run. */
static bool three_late_results(twill_ns limit)
{
    unsigned long threads = faults_threads();
    atomic_int gate = 0;
    int value = 77;
    twill_timeout *timeout = timeout_of((twill_timeout_options){.timeout = limit,
                                                                .fallback_value = &value,
                                                                .fallback_value_size = sizeof value,
                                                                .run.context = &ran});
    for (int k = 0; k < 3; k++) {
        gate = 0;
        CHECK_EQ(call(timeout, (ticket){.value = 42 + k, .gate = &gate, .code = k}), TWILL_TIMEOUT);
        CHECK_EQ(out_of_call, 77);
        CHECK_EQ(report.primary, TWILL_TIMEOUT);
        CHECK_EQ(report.source, TWILL_FROM_VALUE);
        CHECK_EQ(report.code, 0);
        if (!report.abandoned) { /* it had not begun by then */
            gate = 1;
            finish(timeout);
            return false;
        }
        CHECK_EQ(twill_timeout_abandoned(timeout), 1);
        CHECK_EQ(atomic_load(&discarded), k);
        gate = 1;
        CHECK_EQ(twill_timeout_drain(timeout, for_ever, NULL), TWILL_OK);
        CHECK_EQ(atomic_load(&discarded), k + 1);
        CHECK_EQ(atomic_load(&last_code), k);
        CHECK_EQ(atomic_load(&discard_value), 42 + k);
        CHECK_EQ(atomic_load(&freed), k + 1);
    }
    CHECK_EQ(stats_of(timeout).late, 3);
    CHECK_EQ(stats_of(timeout).timeouts, 3);
    CHECK_EQ(stats_of(timeout).values, 3);
    CHECK_EQ(stats_of(timeout).abandoned_peak, 1);
    CHECK_EQ(faults_threads() - threads, 1); /* the straggler's thread serves again */
    finish(timeout);
    return true;
}

TEST(late_result_goes_to_discard_once)
{
    CHECK(test_in_time(TWILL_MS(10), three_late_results));
}

TEST(failure_is_the_functions_own)
{
    int value = 77;
    twill_timeout_options options = {.fallback_value = &value, .fallback_value_size = sizeof value};
    for (int cooperate = 0; cooperate < 2; cooperate++) {
        options.mode = cooperate ? TWILL_TIMEOUT_COOPERATE : TWILL_TIMEOUT_ABANDON;
        options.fallback_on_failure = false;
        twill_timeout *timeout = timeout_of(options);
        /* whatever the number: TWILL_TIMEOUT of its own is not the deadline (D13) */
        CHECK_EQ(call(timeout, (ticket){.code = TWILL_TIMEOUT}), TWILL_FAILED);
        CHECK_EQ(report.code, TWILL_TIMEOUT);
        CHECK_EQ(report.source, TWILL_FROM_NOTHING);
        CHECK_EQ(out_of_call, INT_MIN);
        CHECK_EQ(atomic_load(&discarded), 1); /* before the call returns */
        CHECK_EQ(atomic_load(&last_code), TWILL_TIMEOUT);
        CHECK_EQ(stats_of(timeout).failed, 1);
        finish(timeout);
        options.fallback_on_failure = true;
        timeout = timeout_of(options);
        CHECK_EQ(call(timeout, (ticket){.code = -9}), TWILL_FAILED);
        CHECK_EQ(report.code, -9);
        CHECK_EQ(report.source, TWILL_FROM_VALUE);
        CHECK_EQ(out_of_call, 77);
        finish(timeout);
    }
}

/* A call that had not begun at its deadline: too short a time for this machine. */
static bool not_begun(twill_timeout *timeout, int calls)
{
    if (atomic_load(&ran) == calls)
        return false;
    finish(timeout);
    return true;
}

static bool it_waits(twill_timeout_mode mode, twill_ns limit)
{
    unsigned long threads = faults_threads();
    twill_timeout *timeout = timeout_of((twill_timeout_options){.mode = mode, .timeout = limit});
    /* ends with its token: TIMEOUT, and its code is not a failure */
    CHECK_EQ(call(timeout, (ticket){.obey = 1, .code = 5, .takes = TWILL_SEC(60)}), TWILL_TIMEOUT);
    CHECK_EQ(report.code, 0);
    CHECK(!report.abandoned);
    CHECK(report.wall >= limit);
    if (not_begun(timeout, 1))
        return false;
    CHECK_EQ(atomic_load(&discarded), 1);
    /* a value that comes late is a value */
    twill_status status = call(timeout, (ticket){.value = 6, .takes = 2 * limit});
    if (not_begun(timeout, 2))
        return false;
    CHECK_EQ(status, TWILL_OK);
    CHECK_EQ(out_of_call, 6);
    CHECK(report.wall >= 2 * limit);
    status = call(timeout, (ticket){.obey = 2, .value = 8, .takes = TWILL_SEC(60)});
    if (not_begun(timeout, 3))
        return false;
    CHECK_EQ(status, TWILL_OK);
    CHECK_EQ(out_of_call, 8);
    CHECK_EQ(twill_timeout_abandoned(timeout), 0);
    CHECK_EQ(stats_of(timeout).late, 0);
    CHECK_EQ(faults_threads() - threads, mode == TWILL_TIMEOUT_JOIN); /* COOPERATE has no thread */
    finish(timeout);
    return true;
}

static bool both_wait(twill_ns limit)
{
    return it_waits(TWILL_TIMEOUT_COOPERATE, limit) && it_waits(TWILL_TIMEOUT_JOIN, limit);
}

TEST(modes_that_wait)
{
    CHECK(test_in_time(TWILL_MS(10), both_wait));
}

static bool it_has_grace(twill_ns limit)
{
    atomic_int gate = 0;
    twill_timeout *timeout =
        timeout_of((twill_timeout_options){.timeout = limit, .grace = TWILL_SEC(60)});
    twill_status status = call(timeout, (ticket){.obey = 2, .value = 4, .takes = TWILL_SEC(60)});
    if (not_begun(timeout, 1))
        return false;
    CHECK_EQ(status, TWILL_OK);
    CHECK_EQ(out_of_call, 4);
    CHECK_EQ(call(timeout, (ticket){.obey = 1, .code = 4, .takes = TWILL_SEC(60)}),
             TWILL_TIMEOUT); /* it gave up because it was told to */
    CHECK(!report.abandoned);
    CHECK_EQ(stats_of(timeout).late, 0);
    finish(timeout);
    timeout = timeout_of((twill_timeout_options){.timeout = limit, .grace = TWILL_MS(2)});
    CHECK_EQ(call(timeout, (ticket){.gate = &gate}), TWILL_TIMEOUT);
    bool in_time = report.abandoned;
    CHECK(!in_time || report.wall >= limit + TWILL_MS(2));
    gate = 1;
    finish(timeout);
    return in_time;
}

TEST(grace_waits_for_the_obedient)
{
    CHECK(test_in_time(TWILL_MS(10), it_has_grace));
}

/* ---- deadlines, tokens ---- */

TEST(the_earliest_deadline_bounds)
{
    atomic_int gate = 0;
    twill_timeout *timeout = timeout_of((twill_timeout_options){.timeout = TWILL_SEC(50)});
    CHECK_EQ(call_until(timeout, (ticket){.gate = &gate}, twill_within(TWILL_MS(2))),
             TWILL_TIMEOUT);
    CHECK_EQ(call_until(timeout, (ticket){.gate = &gate}, twill_within(0)), TWILL_TIMEOUT);
    CHECK(!report.abandoned);
    gate = 1;
    finish(timeout);
    gate = 0;
    timeout = timeout_of(
        (twill_timeout_options){.timeout = TWILL_FOREVER, .run.until = twill_within(TWILL_MS(2))});
    CHECK_EQ(call(timeout, (ticket){.gate = &gate}), TWILL_TIMEOUT);
    gate = 1;
    finish(timeout);
}

static int nests(const void *in, void *out, const twill_task *task)
{
    twill_timeout *inner = *(twill_timeout *const *)in;
    ticket t = {.obey = 1, .code = 3, .takes = TWILL_SEC(40)};
    int unused;
    twill_timeout_report inside;
    /* no thought of the deadline around it: 50 s inside 10 ms is 10 ms */
    twill_status status =
        twill_timeout_call(inner, &t, sizeof t, &unused, sizeof unused, work, task->until, &inside);
    *(int *)out = (int)status;
    return 0;
}

static bool the_inner_one_ends(twill_ns limit)
{
    twill_timeout *inner = NULL, *outer;
    int status = -1;
    CHECK_EQ(twill_timeout_create(&inner, &(twill_timeout_options){.timeout = TWILL_SEC(50)}),
             TWILL_OK);
    outer = timeout_of(
        (twill_timeout_options){.timeout = limit, .mode = TWILL_TIMEOUT_JOIN, .free_input = NULL});
    twill_status all = twill_timeout_call(outer, &inner, sizeof inner, &status, sizeof status,
                                          nests, for_ever, NULL);
    bool in_time = all != TWILL_TIMEOUT; /* it had begun by then */
    if (in_time) {
        CHECK_EQ(all, TWILL_OK);
        CHECK(status == TWILL_TIMEOUT || status == TWILL_CANCELLED);
    }
    CHECK_EQ(twill_timeout_drain(inner, for_ever, NULL), TWILL_OK);
    CHECK_EQ(twill_timeout_destroy(inner), TWILL_OK);
    finish(outer);
    return in_time;
}

TEST(nested_deadlines_take_the_minimum)
{
    CHECK(test_in_time(TWILL_MS(10), the_inner_one_ends));
}

TEST(cancelled_before)
{
    twill_cancel token;
    int value = 1;
    static const twill_fallback chain = {work, 0};
    twill_timeout *timeout = timeout_of((twill_timeout_options){.fallback_value = &value,
                                                                .fallback_value_size = sizeof value,
                                                                .fallbacks = &chain,
                                                                .fallback_count = 1});
    twill_cancel_init(&token, NULL);
    twill_cancel_fire(&token, 1);
    CHECK_EQ(call_until(timeout, (ticket){.value = 1}, twill_until_cancelled(&token)),
             TWILL_CANCELLED);
    CHECK_EQ(out_of_call, INT_MIN); /* nobody wants a value */
    CHECK_EQ(report.source, TWILL_FROM_NOTHING);
    CHECK_EQ(atomic_load(&ran), 0);
    CHECK_EQ(call_until(timeout, (ticket){.value = 1}, twill_within_or_cancelled(0, &token)),
             TWILL_CANCELLED);
    finish(timeout);
}

static atomic_int reason_seen;

static int waits_for_token(const void *in, void *out, const twill_task *task)
{
    const ticket *t = in;
    (void)out;
    atomic_fetch_add(t->began, 1);
    twill_sleep(task->until);
    atomic_store(&reason_seen, twill_cancel_reason(task->until.cancel));
    while (t->gate && !atomic_load(t->gate))
        twill_sleep(twill_within(TWILL_US(100)));
    return 9;
}

static void call_waiter(actor *me)
{
    me->status = twill_timeout_call(me->timeout, &me->ticket, sizeof me->ticket, &me->out,
                                    sizeof me->out, waits_for_token, me->until, &me->report);
}

/* The caller's token, or the object's, or that where the caller has none: the call ends, the
   function is told the reason. */
TEST(cancel_while_it_runs)
{
    for (int which = 0; which < 9; which++) {
        twill_cancel own, all;
        atomic_int began = 0, gate = 0;
        twill_timeout_mode mode = (twill_timeout_mode)(which < 6 ? which / 2 : which - 6);
        bool abandon = mode == TWILL_TIMEOUT_ABANDON;
        actor who = {.ticket = {.began = &began, .gate = abandon ? &gate : NULL}};
        twill_cancel_init(&own, NULL);
        twill_cancel_init(&all, NULL);
        twill_timeout *timeout = timeout_of((twill_timeout_options){
            .mode = mode, .timeout = TWILL_FOREVER, .run.until = {0, &all}});
        who.until.cancel = which < 6 ? &own : NULL;
        go(&who, call_waiter, timeout);
        until_count(&began, 1);
        twill_cancel_fire(which < 6 && which % 2 ? &own : &all, 31);
        join(&who);
        CHECK_EQ(who.status, TWILL_CANCELLED);
        CHECK_EQ(who.report.code, 0);
        CHECK_EQ(who.report.abandoned, abandon);
        CHECK_EQ(twill_timeout_abandoned(timeout), abandon ? 1 : 0);
        twill_cancel_detach(&own); /* the straggler does not need it */
        memset(&own, 0x5a, sizeof own);
        gate = 1;
        CHECK_EQ(twill_timeout_drain(timeout, for_ever, NULL), TWILL_OK);
        CHECK_EQ(atomic_load(&reason_seen), 31);
        finish(timeout);
    }
}

static int polls(const void *in, void *out, const twill_task *task)
{
    const ticket *t = in;
    (void)out;
    atomic_fetch_add(t->began, 1);
    while (!twill_task_cancelled(task))
        twill__yield();
    return 9;
}

static void call_poller(actor *me)
{
    me->status = twill_timeout_call(me->timeout, &me->ticket, sizeof me->ticket, &me->out,
                                    sizeof me->out, polls, me->until, &me->report);
}

/* A request (of a signal handler) wakes nobody, but a function that looks passes it on: one on the
   call's token, on the object's, or on either of both. */
TEST(a_request_is_seen_by_who_looks)
{
    for (int kind = 0; kind < 12; kind++) {
        twill_timeout_mode mode = (twill_timeout_mode)(kind % 3);
        bool both = kind >= 6, by_run = kind / 3 % 2;
        twill_cancel token, all;
        atomic_int began = 0;
        actor who = {.ticket = {.began = &began}};
        twill_cancel_init(&token, NULL);
        twill_cancel_init(&all, NULL);
        twill_timeout *timeout =
            timeout_of((twill_timeout_options){.mode = mode,
                                               .timeout = TWILL_FOREVER,
                                               .run.until.cancel = both || by_run ? &all : NULL});
        who.until.cancel = both || !by_run ? &token : NULL;
        go(&who, call_poller, timeout);
        until_count(&began, 1);
        twill_cancel_request(by_run ? &all : &token, 4);
        join(&who);
        CHECK_EQ(who.status, TWILL_CANCELLED);
        finish(timeout);
    }
}

/* ---- fallbacks ---- */

typedef struct chain_log {
    size_t calls, index[4];
    twill_status primary[4];
} chain_log;
static chain_log steps;

static int note_step(const twill_task *task)
{
    CHECK_EQ(task->worker, UINT_MAX);
    steps.primary[steps.calls] = report.primary;
    steps.index[steps.calls++] = task->index;
    return (int)task->index;
}

static int step_fails(const void *in, void *out, const twill_task *task)
{
    CHECK_EQ(*(int *)out, 0);
    *(int *)out = ((const ticket *)in)->value + 1;
    return note_step(task);
}

static int step_serves(const void *in, void *out, const twill_task *task)
{
    CHECK_EQ(*(int *)out, 0); /* what the step before it wrote is gone */
    note_step(task);
    *(int *)out = ((const ticket *)in)->value + 2;
    return 0;
}

static int step_is_late(const void *in, void *out, const twill_task *task)
{
    (void)in;
    note_step(task);
    twill_sleep(task->until); /* its own limit */
    CHECK(twill_task_cancelled(task));
    *(int *)out = 1;
    return 0;
}

static bool two_steps_serve(twill_ns limit)
{
    atomic_int gate = 0;
    int value = 77;
    const twill_fallback chain[] = {{step_fails, 0}, {step_serves, 0}, {step_fails, 0}};
    twill_timeout *timeout =
        timeout_of((twill_timeout_options){.timeout = limit,
                                           .fallbacks = chain,
                                           .fallback_count = 3,
                                           .fallback_value = &value,
                                           .fallback_value_size = sizeof value});
    memset(&steps, 0, sizeof steps);
    CHECK_EQ(call(timeout, (ticket){.value = 10, .gate = &gate}), TWILL_OK);
    CHECK_EQ(out_of_call, 12);
    CHECK_EQ(report.primary, TWILL_TIMEOUT);
    CHECK_EQ(report.source, TWILL_FROM_FALLBACK);
    CHECK_EQ(report.level, 2);
    CHECK_EQ(steps.calls, 2);
    CHECK_EQ(steps.index[0], 1);
    CHECK_EQ(steps.index[1], 2);
    CHECK_EQ(steps.primary[0], TWILL_TIMEOUT); /* set before a fallback runs */
    CHECK_EQ(atomic_load(&last_code), 1);      /* the failed step's result */
    gate = 1;
    CHECK_EQ(stats_of(timeout).fallbacks, 1);
    CHECK_EQ(stats_of(timeout).timeouts, 1);
    bool in_time = report.abandoned; /* it had begun by then */
    finish(timeout);
    /* a failure of its own is returned at once */
    timeout = timeout_of(
        (twill_timeout_options){.timeout = TWILL_SEC(30), .fallbacks = chain, .fallback_count = 3});
    CHECK_EQ(call(timeout, (ticket){.code = 4}), TWILL_FAILED);
    CHECK_EQ(steps.calls, 2);
    finish(timeout);
    return in_time;
}

TEST(chain_in_order)
{
    CHECK(test_in_time(TWILL_MS(10), two_steps_serve));
}

TEST(chain_ends_with_the_constant)
{
    int value = 77;
    const twill_fallback chain[] = {{step_is_late, TWILL_MS(20)}, {step_fails, 0}};
    twill_timeout *timeout =
        timeout_of((twill_timeout_options){.fallback_on_failure = true,
                                           .fallbacks = chain,
                                           .fallback_count = 2,
                                           .fallback_value = &value,
                                           .fallback_value_size = sizeof value});
    value = 78; /* it was copied */
    memset(&steps, 0, sizeof steps);
    CHECK_EQ(call(timeout, (ticket){.code = 6}), TWILL_FAILED);
    CHECK_EQ(out_of_call, 77);
    CHECK_EQ(report.source, TWILL_FROM_VALUE);
    CHECK_EQ(report.code, 6);
    CHECK_EQ(steps.calls, 2);
    CHECK_EQ(atomic_load(&discarded), 3);
    /* over already: no function is called, only the constant is used */
    CHECK_EQ(call_until(timeout, (ticket){.value = 6}, twill_within(0)), TWILL_TIMEOUT);
    CHECK_EQ(out_of_call, 77);
    CHECK_EQ(steps.calls, 2);
    finish(timeout);
}

static twill_cancel mid_token;

static int step_cancels(const void *in, void *out, const twill_task *task)
{
    (void)in;
    note_step(task);
    twill_cancel_fire(&mid_token, 1);
    CHECK(twill_task_cancelled(task));
    *(int *)out = 5;
    return 1;
}

TEST(cancelled_between_steps)
{
    int value = 77;
    const twill_fallback chain[] = {{step_cancels, 0}, {step_serves, 0}};
    twill_timeout *timeout =
        timeout_of((twill_timeout_options){.fallback_on_failure = true,
                                           .fallbacks = chain,
                                           .fallback_count = 2,
                                           .fallback_value = &value,
                                           .fallback_value_size = sizeof value});
    memset(&steps, 0, sizeof steps);
    twill_cancel_init(&mid_token, NULL);
    CHECK_EQ(call_until(timeout, (ticket){.code = 6}, twill_until_cancelled(&mid_token)),
             TWILL_CANCELLED);
    CHECK_EQ(out_of_call, INT_MIN);
    CHECK_EQ(steps.calls, 1);
    CHECK_EQ(report.primary, TWILL_FAILED);
    finish(timeout);
}

static twill_cancel requested, another; /* the run's; the call's */
static bool requester_looks;

static int step_requests(const void *in, void *out, const twill_task *task)
{
    (void)in, (void)out;
    note_step(task);
    CHECK(!twill_task_cancelled(task));
    twill_cancel_request(&requested, 3);
    return requester_looks ? !twill_task_cancelled(task) : 1;
}

/* A request on the object's token is seen in a fallback that looks, between two of them, and before
   the first, also where the call has a token of its own, and no memory. */
TEST(a_request_ends_the_chain)
{
    const twill_fallback chain[] = {{step_requests, 0}, {step_serves, 0}};
    for (int looks = 0; looks < 2; looks++) {
        twill_timeout *timeout;
        twill_cancel_init(&requested, NULL);
        twill_cancel_init(&another, NULL);
        timeout = timeout_of((twill_timeout_options){.fallback_on_failure = true,
                                                     .fallbacks = chain,
                                                     .fallback_count = 2,
                                                     .run.until.cancel = &requested});
        requester_looks = looks;
        memset(&steps, 0, sizeof steps);
        CHECK_EQ(call_until(timeout, (ticket){.code = 6}, twill_until_cancelled(&another)),
                 looks ? TWILL_OK : TWILL_CANCELLED); /* a result wins */
        CHECK_EQ(steps.calls, 1);
        CHECK_EQ(report.primary, TWILL_FAILED);
        for (int memory = 0; memory < 2; memory++) {
            faults_fail_alloc(memory ? 0 : 1);
            CHECK_EQ(call_until(timeout, (ticket){.code = 6}, twill_until_cancelled(&another)),
                     TWILL_CANCELLED);
            CHECK_EQ(steps.calls, 1);
        }
        CHECK(!twill_cancel_fired(&another));
        finish(timeout);
    }
}

/* ---- bounds ---- */

/* R62: calls of a task that does not end, cap 4: four threads, the rest is told BUSY at once. */
static bool four_stragglers(twill_ns limit)
{
    atomic_int gate = 0;
    int value = 77;
    unsigned busy = 0;
    unsigned long threads = faults_threads();
    twill_timeout *timeout =
        timeout_of((twill_timeout_options){.timeout = limit,
                                           .max_abandoned = 4,
                                           .idle_threads = 1,
                                           .fallback_value = &value,
                                           .fallback_value_size = sizeof value});
    for (int k = 0; k < 100; k++) {
        twill_status status = call(timeout, (ticket){.gate = &gate});
        CHECK(status == TWILL_TIMEOUT || status == TWILL_BUSY);
        CHECK_EQ(out_of_call, 77);
        busy += status == TWILL_BUSY;
        CHECK(status != TWILL_BUSY || !report.abandoned);
    }
    bool in_time = busy >= 96 - 10; /* a deadline may pass before the start */
    CHECK(in_time ? stats_of(timeout).abandoned == 4 : stats_of(timeout).abandoned <= 4);
    CHECK(in_time ? stats_of(timeout).abandoned_peak == 4 : stats_of(timeout).abandoned_peak <= 4);
    CHECK_EQ(stats_of(timeout).refused, busy);
    CHECK(faults_threads() - threads <= 4 && (!in_time || faults_threads() - threads == 4));
    gate = 1;
    CHECK_EQ(twill_timeout_drain(timeout, for_ever, NULL), TWILL_OK);
    CHECK(call(timeout, (ticket){.value = 2}) != TWILL_BUSY);
    finish(timeout);
    return in_time;
}

TEST(stragglers_are_bounded)
{
    CHECK(test_in_time(TWILL_MS(1), four_stragglers));
}

TEST(max_running_bounds_every_mode)
{
    for (int mode = 0; mode < 3; mode++) {
        unsigned long threads = faults_threads();
        atomic_int gate = 0, began = 0;
        actor who = {.ticket = {.value = 8, .gate = &gate, .began = &began}};
        twill_timeout *timeout = timeout_of((twill_timeout_options){
            .mode = (twill_timeout_mode)mode, .timeout = TWILL_FOREVER, .max_running = 1});
        go(&who, one_call, timeout);
        until_count(&began, 1);
        CHECK_EQ(call(timeout, (ticket){.value = 1}), TWILL_BUSY);
        CHECK_EQ(stats_of(timeout).running, 1);
        gate = 1;
        join(&who);
        CHECK_EQ(who.status, TWILL_OK);
        for (int k = 0; k < 50; k++) /* the place is free before the call returns */
            CHECK_EQ(call(timeout, (ticket){.value = 1}), TWILL_OK);
        CHECK_EQ(faults_threads() - threads, mode == TWILL_TIMEOUT_COOPERATE ? 1 : 2);
        finish(timeout);
    }
}

static int calls_itself(const void *in, void *out, const twill_task *task)
{
    twill_timeout *timeout = *(twill_timeout *const *)in;
    ticket t = {.value = 3};
    *(int *)out =
        (int)twill_timeout_call(timeout, &t, sizeof t, out, sizeof(int), work, task->until, NULL);
    return 0;
}

TEST(entered_again_from_inside)
{
    for (int mode = 0; mode < 3; mode++)
        for (size_t max = 1; max < 3; max++) {
            int status = -1;
            twill_timeout *timeout = timeout_of((twill_timeout_options){
                .mode = (twill_timeout_mode)mode, .timeout = TWILL_SEC(30), .max_running = max});
            CHECK_EQ(twill_timeout_call(timeout, &timeout, sizeof timeout, &status, sizeof status,
                                        calls_itself, for_ever, NULL),
                     TWILL_OK);
            CHECK_EQ(status, max == 1 ? TWILL_BUSY : TWILL_OK);
            finish(timeout);
        }
}

/* ---- hedges ---- */

static atomic_int hedge_gate[4], hedges_begun;

static int hedged(const void *in, void *out, const twill_task *task)
{
    const ticket *t = in;
    CHECK_EQ(task->worker, task->index);
    atomic_fetch_add(&ran, 1);
    atomic_fetch_add(&hedges_begun, 1);
    if (task->index == (size_t)t->value) {
        until_count(&hedges_begun, t->value + 1); /* those before it, too */
        *(int *)out = 100 + (int)task->index;
        return t->code;
    }
    while (!atomic_load(&hedge_gate[task->index]))
        twill_sleep(twill_within(TWILL_US(100)));
    if (t->obey)
        CHECK(twill_task_cancelled(task)); /* the losers are told */
    *(int *)out = (int)task->index;
    return t->code ? t->code + (int)task->index : 0;
}

static twill_status hedge(twill_timeout *timeout, ticket t)
{
    for (int k = 0; k < 4; k++)
        hedge_gate[k] = 0;
    hedges_begun = 0;
    out_of_call = INT_MIN;
    return twill_timeout_call(timeout, &t, sizeof t, &out_of_call, sizeof out_of_call, hedged,
                              for_ever, &report);
}

/* The primary, until a hedge was skipped. */
static int waits_for_a_skip(const void *in, void *out, const twill_task *task)
{
    (void)task;
    while (stats_of(*(twill_timeout *const *)in).hedges_skipped ==
           0) /* the watchdog is the bound */
        twill_sleep(twill_within(TWILL_US(200)));
    *(int *)out = 5;
    return 0;
}

static twill_status call_until_skipped(twill_timeout *timeout)
{
    out_of_call = INT_MIN;
    return twill_timeout_call(timeout, &timeout, sizeof timeout, &out_of_call, sizeof out_of_call,
                              waits_for_a_skip, for_ever, &report);
}

TEST(a_hedge_wins)
{
    twill_timeout *timeout = timeout_of((twill_timeout_options){
        .timeout = TWILL_SEC(30), .hedge_after = TWILL_MS(1), .max_hedges = 2, .hedge_budget = 1});
    CHECK_EQ(hedge(timeout, (ticket){.value = 2, .obey = 1}), TWILL_OK);
    CHECK_EQ(out_of_call, 102);
    CHECK_EQ(report.source, TWILL_FROM_HEDGE);
    CHECK_EQ(report.level, 2);
    CHECK_EQ(report.primary, TWILL_OK);
    CHECK(report.abandoned);
    CHECK_EQ(twill_timeout_abandoned(timeout), 2);
    hedge_gate[0] = hedge_gate[1] = 1;
    CHECK_EQ(twill_timeout_drain(timeout, for_ever, NULL), TWILL_OK);
    CHECK_EQ(atomic_load(&discarded), 2);
    CHECK_EQ(stats_of(timeout).hedges, 2);
    CHECK_EQ(stats_of(timeout).late, 2);
    finish(timeout);
}

/* The balance starts at 1, each call adds its share, each hedge takes 1. */
TEST(hedges_keep_to_their_budget)
{
    twill_timeout *timeout = timeout_of((twill_timeout_options){
        .timeout = TWILL_SEC(30), .hedge_after = TWILL_MS(1), .hedge_budget = 0.25});
    CHECK_EQ(hedge(timeout, (ticket){.value = 1}), TWILL_OK); /* 1.25 - 1 */
    CHECK_EQ(report.source, TWILL_FROM_HEDGE);
    hedge_gate[0] = 1;
    CHECK_EQ(twill_timeout_drain(timeout, for_ever, NULL), TWILL_OK);
    CHECK_EQ(stats_of(timeout).hedges, 1);
    /* 0.5: none, and the primary serves */
    CHECK_EQ(call_until_skipped(timeout), TWILL_OK);
    CHECK_EQ(out_of_call, 5);
    CHECK_EQ(report.source, TWILL_FROM_PRIMARY);
    CHECK_EQ(stats_of(timeout).hedges, 1);
    CHECK_EQ(stats_of(timeout).hedges_skipped, 1);
    CHECK_EQ(call(timeout, (ticket){.value = 5}), TWILL_OK);  /* 0.75 */
    CHECK_EQ(hedge(timeout, (ticket){.value = 1}), TWILL_OK); /* 1 - 1 */
    CHECK_EQ(report.source, TWILL_FROM_HEDGE);
    hedge_gate[0] = 1;
    finish(timeout);
}

static int fails_by_number(const void *in, void *out, const twill_task *task)
{
    (void)in, (void)out;
    atomic_fetch_add(&ran, 1);
    while (!task->index && atomic_load(&ran) < 2)
        twill_sleep(twill_within(TWILL_US(100)));
    twill_sleep(twill_within(task->index ? TWILL_MS(10) : TWILL_MS(1)));
    return 10 + (int)task->index;
}

TEST(all_copies_fail)
{
    twill_timeout *timeout = timeout_of((twill_timeout_options){.timeout = TWILL_SEC(30),
                                                                .hedge_after = TWILL_MS(1),
                                                                .hedge_budget = 1,
                                                                .fallback_on_failure = false});
    ticket t = {.value = 0};
    CHECK_EQ(twill_timeout_call(timeout, &t, sizeof t, &out_of_call, sizeof out_of_call,
                                fails_by_number, for_ever, &report),
             TWILL_FAILED);
    CHECK(report.code == 10 || report.code == 11); /* the last one's */
    CHECK_EQ(atomic_load(&last_code), report.code);
    CHECK_EQ(atomic_load(&discarded), 2);
    finish(timeout);
    /* a failure does not start the next copy early, and none starts after the last has ended */
    timeout = timeout_of((twill_timeout_options){
        .timeout = TWILL_SEC(30), .hedge_after = TWILL_SEC(20), .hedge_budget = 1});
    CHECK_EQ(call(timeout, (ticket){.code = 4}), TWILL_FAILED);
    CHECK_EQ(atomic_load(&ran), 1);
    finish(timeout);
}

static atomic_int copy_starts;

/* In the thread of the second copy, after the first has failed. */
static int refuses_the_copy(void **state, const twill_task *task)
{
    (void)state;
    if (task->index == 0)
        return 0;
    atomic_store(&copy_starts, 1);
    while (!atomic_load(&discarded)) /* the watchdog is the bound */
        twill_sleep(twill_within(TWILL_US(100)));
    return 9;
}

TEST(a_copy_that_does_not_start_says_nothing)
{
    int constant = 6;
    twill_timeout *timeout =
        timeout_of((twill_timeout_options){.run.worker_start = refuses_the_copy,
                                           .timeout = TWILL_SEC(30),
                                           .hedge_after = 1,
                                           .hedge_budget = 1,
                                           .fallback_value = &constant,
                                           .fallback_value_size = sizeof constant});
    atomic_store(&copy_starts, 0);
    CHECK_EQ(call(timeout, (ticket){.code = 4, .gate = &copy_starts}), TWILL_FAILED);
    CHECK_EQ(report.primary, TWILL_FAILED);
    CHECK_EQ(report.code, 4);
    CHECK_EQ(report.source, TWILL_FROM_NOTHING);
    CHECK_EQ(out_of_call, INT_MIN);
    finish(timeout);
}

TEST(joined_hedges_leave_nothing)
{
    twill_timeout *timeout = timeout_of((twill_timeout_options){.mode = TWILL_TIMEOUT_JOIN,
                                                                .timeout = TWILL_SEC(30),
                                                                .hedge_after = TWILL_MS(1),
                                                                .hedge_budget = 1});
    /* the hedge serves at once, the primary sleeps until it is told */
    ticket t = {.obey = 1, .code = 1, .takes = TWILL_SEC(40)};
    for (int k = 0; k < 4; k++)
        hedge_gate[k] = 0;
    (void)t;
    hedges_begun = 0;
    out_of_call = INT_MIN;
    ticket u = {.value = 1, .obey = 0};
    hedge_gate[0] = 1;
    CHECK_EQ(twill_timeout_call(timeout, &u, sizeof u, &out_of_call, sizeof out_of_call, hedged,
                                for_ever, &report),
             TWILL_OK);
    CHECK(!report.abandoned);
    CHECK_EQ(twill_timeout_abandoned(timeout), 0);
    CHECK_EQ(atomic_load(&ran), atomic_load(&discarded) + 1);
    finish(timeout);
}

/* ---- threads ---- */

static int start_hook(void **state, const twill_task *task)
{
    CHECK(task->context != NULL);
    *state = task->context;
    return atomic_fetch_add(&started, 1) == *(int *)task->context ? 7 : 0;
}

static void stop_hook(void *state, const twill_task *task)
{
    CHECK_PTR(state, task->context);
    atomic_fetch_add(&stopped, 1);
}

static int sees_state(const void *in, void *out, const twill_task *task)
{
    (void)in;
    CHECK_PTR(task->worker_state, task->context);
    *(int *)out = 1;
    return 0;
}

TEST(worker_hooks)
{
    int refuse = -1;
    twill_timeout *timeout = timeout_of((twill_timeout_options){.run.worker_start = start_hook,
                                                                .run.worker_stop = stop_hook,
                                                                .run.context = &refuse,
                                                                .run.name = "deadline",
                                                                .run.stack_size = 256 * 1024});
    for (int k = 0; k < 3; k++)
        CHECK_EQ(twill_timeout_call(timeout, &refuse, sizeof refuse, &out_of_call, sizeof(int),
                                    sees_state, for_ever, NULL),
                 TWILL_OK);
    CHECK_EQ(atomic_load(&started), 1); /* one thread serves them all */
    finish(timeout);
    CHECK_EQ(atomic_load(&stopped), 1);
    refuse = 0;
    timeout = timeout_of((twill_timeout_options){
        .run.worker_start = start_hook, .run.worker_stop = stop_hook, .run.context = &refuse});
    CHECK_EQ(twill_timeout_call(timeout, &refuse, sizeof refuse, &out_of_call, sizeof(int),
                                sees_state, for_ever, &report),
             TWILL_NO_THREAD);
    CHECK_EQ(report.code, 7);
    CHECK_EQ(atomic_load(&discarded), 0); /* nothing has run */
    CHECK_EQ(twill_timeout_call(timeout, &refuse, sizeof refuse, &out_of_call, sizeof(int),
                                sees_state, for_ever, &report),
             TWILL_OK);
    finish(timeout);
    CHECK_EQ(atomic_load(&stopped), 1);
}

/* A start without a stop: the state goes with the thread. */
TEST(a_worker_may_start_and_never_stop)
{
    int refuse = -1;
    twill_timeout *timeout =
        timeout_of((twill_timeout_options){.run.worker_start = start_hook, .run.context = &refuse});
    CHECK_EQ(twill_timeout_call(timeout, &refuse, sizeof refuse, &out_of_call, sizeof(int),
                                sees_state, for_ever, NULL),
             TWILL_OK);
    finish(timeout);
    CHECK_EQ(atomic_load(&started), 1);
    CHECK_EQ(atomic_load(&stopped), 0);
}

TEST(surplus_threads_end)
{
    enum { CALLS = 6 };
    atomic_int gate = 0, began = 0;
    actor who[CALLS] = {{.until = {0, NULL}}};
    twill_timeout *timeout =
        timeout_of((twill_timeout_options){.timeout = TWILL_FOREVER, .idle_threads = 2});
    for (int round = 0; round < 3; round++) {
        began = gate = 0;
        for (int k = 0; k < CALLS; k++) {
            who[k].ticket = (ticket){.value = k, .gate = &gate, .began = &began};
            go(&who[k], one_call, timeout);
        }
        until_count(&began, CALLS);
        gate = 1;
        for (int k = 0; k < CALLS; k++) {
            join(&who[k]);
            CHECK_EQ(who[k].status, TWILL_OK);
            CHECK_EQ(who[k].out, k);
        }
    }
    CHECK_EQ(faults_threads(), 3 * CALLS + CALLS + 2 * (CALLS - 2));
    finish(timeout);
}

/* Callbacks that end their thread: the books stay right, the thread is replaced. */
static atomic_int ends_in;

static void ending_free(void *in, const twill_task *task)
{
    (void)in, (void)task;
    atomic_fetch_add(&freed, 1);
    if (atomic_load(&ends_in) == 2)
        END_THREAD();
}

static void ending_discard(void *in, void *result, int code, const twill_task *task)
{
    (void)in, (void)result, (void)task;
    atomic_store(&last_code, code);
    atomic_fetch_add(&discarded, 1);
    if (atomic_load(&ends_in) == 1)
        END_THREAD();
}

static bool each_ends_its_thread(twill_ns limit)
{
    for (int where = 0; where < 3; where++) {
        atomic_int gate = 0;
        twill_timeout *timeout = NULL;
        CHECK_EQ(
            twill_timeout_create(&timeout, &(twill_timeout_options){.timeout = TWILL_FOREVER,
                                                                    .free_input = ending_free,
                                                                    .discard = ending_discard}),
            TWILL_OK);
        reset();
        ends_in = where;
        if (where == 0) {
            CHECK_EQ(call(timeout, (ticket){.ends_thread = 1}), TWILL_LOST);
            CHECK_EQ(atomic_load(&last_code), INT_MIN);
            CHECK_EQ(stats_of(timeout).failed, 1);
        } else {
            CHECK_EQ(call_until(timeout, (ticket){.gate = &gate, .code = 2}, twill_within(limit)),
                     TWILL_TIMEOUT);
        }
        bool in_time = where == 0 || report.abandoned; /* it had begun by then */
        gate = 1;
        CHECK_EQ(twill_timeout_drain(timeout, for_ever, NULL), TWILL_OK);
        CHECK_EQ(atomic_load(&discarded), in_time);
        CHECK_EQ(atomic_load(&freed), 1);
        ends_in = 0;
        CHECK_EQ(call(timeout, (ticket){.value = 4}), TWILL_OK);
        CHECK_EQ(atomic_load(&freed), 2);
        CHECK_EQ(twill_timeout_destroy(timeout), TWILL_OK);
        CHECK_EQ(faults_live(), 0);
        if (!in_time)
            return false;
    }
    return true;
}

TEST(callbacks_that_end_their_thread)
{
    CHECK(test_in_time(TWILL_MS(10), each_ends_its_thread));
}

static int step_ends_thread(const void *in, void *out, const twill_task *task)
{
    (void)in, (void)out, (void)task;
    END_THREAD();
    return 0;
}

/* In the caller's thread: the call ends with it, and leaves nothing. */
TEST(the_caller_ends_inside)
{
    const twill_fallback chain = {step_ends_thread, 0};
    for (int cooperate = 0; cooperate < 2; cooperate++) {
        actor who = {.ticket = {.ends_thread = cooperate, .code = 3}};
        twill_timeout *timeout = timeout_of((twill_timeout_options){
            .mode = cooperate ? TWILL_TIMEOUT_COOPERATE : TWILL_TIMEOUT_ABANDON,
            .fallbacks = cooperate ? NULL : &chain,
            .fallback_count = !cooperate,
            .fallback_on_failure = true});
        go(&who, one_call, timeout);
        join(&who);
        CHECK_EQ(stats_of(timeout).calls, 1);
        CHECK_EQ(stats_of(timeout).failed, 1);
        CHECK_EQ(atomic_load(&discarded), 1);
        finish(timeout);
    }
}

/* It has returned all but its input, which it is to free: the call is over, and its block goes. */
TEST(the_caller_ends_as_it_frees_the_input)
{
    for (int memory = 0; memory < 2; memory++) {
        actor who = {.ticket = {.value = 3}};
        twill_timeout *timeout = NULL;
        CHECK_EQ(
            twill_timeout_create(&timeout, &(twill_timeout_options){.mode = TWILL_TIMEOUT_COOPERATE,
                                                                    .free_input = ending_free}),
            TWILL_OK);
        reset();
        ends_in = 2;
        faults_fail_alloc(memory ? 0 : 1);
        go(&who, one_call, timeout);
        join(&who);
        faults_fail_alloc(0);
        CHECK_EQ(who.out, memory ? 3 : 0);
        CHECK_EQ(stats_of(timeout).ok, memory);
        CHECK_EQ(stats_of(timeout).refused, !memory);
        finish(timeout);
        ends_in = 0;
    }
}

/* ---- ends ---- */

/* Destroy never waits for a straggler; its block, its thread and the object go with it. */
TEST(destroy_with_stragglers)
{
    for (int n = 1; n < 4; n++) {
        atomic_int gate = 0, began = 0;
        twill_timeout *timeout = timeout_of((twill_timeout_options){.timeout = TWILL_MS(1)});
        for (int k = 0; k < n; k++)
            CHECK_EQ(call(timeout, (ticket){.gate = &gate, .began = &began}), TWILL_TIMEOUT);
        int out_there = (int)twill_timeout_abandoned(timeout);
        CHECK_EQ(twill_timeout_destroy(timeout), TWILL_OK);
        CHECK(faults_live() >= out_there);
        gate = 1;
        while (faults_live() != 0) /* the last one frees it all */
            twill_sleep(twill_within(TWILL_US(100)));
        CHECK_EQ(atomic_load(&discarded), out_there);
        CHECK_EQ(atomic_load(&freed), n);
    }
}

static twill_status destroy_status;
static twill_timeout *victim;

static int destroys(const void *in, void *out, const twill_task *task)
{
    (void)in, (void)task;
    *(int *)out = (int)twill_timeout_destroy(victim);
    return 0;
}

static void discard_destroys(void *in, void *result, int code, const twill_task *task)
{
    (void)in, (void)result, (void)code, (void)task;
    destroy_status = twill_timeout_destroy(victim);
}

static void free_destroys(void *in, const twill_task *task)
{
    (void)in;
    (void)task;
    destroy_status = twill_timeout_destroy(victim);
}

/* Whose thread it is does not matter: here the call's own, when all else of it is over. */
TEST(destroy_from_free_input_is_a_deadlock)
{
    for (int mode = 0; mode < 3; mode++) {
        destroy_status = TWILL_OK;
        CHECK_EQ(
            twill_timeout_create(&victim, &(twill_timeout_options){.mode = (twill_timeout_mode)mode,
                                                                   .timeout = TWILL_FOREVER,
                                                                   .free_input = free_destroys}),
            TWILL_OK);
        CHECK_EQ(call(victim, (ticket){.value = 1}), TWILL_OK);
        CHECK_EQ(destroy_status, TWILL_DEADLOCK);
        if (destroy_status == TWILL_DEADLOCK)
            CHECK_EQ(twill_timeout_destroy(victim), TWILL_OK);
    }
}

TEST(destroy_from_inside_is_a_deadlock)
{
    for (int mode = 0; mode < 3; mode++) {
        int status = -1;
        victim = timeout_of(
            (twill_timeout_options){.mode = (twill_timeout_mode)mode, .discard = discard_destroys});
        CHECK_EQ(twill_timeout_call(victim, &status, sizeof status, &status, sizeof status,
                                    destroys, for_ever, NULL),
                 TWILL_OK);
        CHECK_EQ(status, TWILL_DEADLOCK);
        CHECK_EQ(call(victim, (ticket){.code = 1}), TWILL_FAILED);
        CHECK_EQ(destroy_status, TWILL_DEADLOCK);
        CHECK_EQ(call(victim, (ticket){.value = 1}), TWILL_OK); /* nothing has changed */
        finish(victim);
    }
}

static atomic_int drained;

static int drains(const void *in, void *out, const twill_task *task)
{
    twill_timeout *of = *(twill_timeout *const *)in;
    (void)out;
    twill_sleep(task->until); /* it is a straggler then */
    while (!twill_timeout_abandoned(of))
        twill__yield();
    atomic_store(&drained, (int)twill_timeout_drain(of, for_ever, NULL));
    return 0;
}

static bool it_drains_itself(twill_ns limit)
{
    twill_timeout *timeout = timeout_of((twill_timeout_options){.timeout = limit}), *none = NULL;
    drained = -1;
    CHECK_EQ(twill_timeout_call(timeout, &timeout, sizeof timeout, &out_of_call, sizeof out_of_call,
                                drains, for_ever, NULL),
             TWILL_TIMEOUT);
    CHECK_EQ(twill_timeout_drain(timeout, for_ever, NULL), TWILL_OK);
    finish(timeout);
    if (atomic_load(&drained) == -1)
        return false; /* it had not begun by then */
    CHECK_EQ(atomic_load(&drained), TWILL_DEADLOCK);
    drained = -1;
    CHECK_EQ(twill_call_with_timeout(&none, sizeof none, NULL, 0, drains, limit, NULL),
             TWILL_TIMEOUT);
    CHECK_EQ(twill_timeout_drain(NULL, for_ever, NULL), TWILL_OK);
    CHECK(atomic_load(&drained) == TWILL_DEADLOCK || atomic_load(&drained) == -1);
    return atomic_load(&drained) != -1;
}

TEST(a_straggler_cannot_drain_itself)
{
    CHECK(test_in_time(TWILL_MS(10), it_drains_itself));
}

typedef struct late_drain {
    twill_timeout *timeout;
    atomic_int *gate, *answer;
} late_drain;

static int drains_when_destroyed(const void *in, void *out, const twill_task *task)
{
    const late_drain *d = in;
    size_t left = 0;
    (void)task;
    while (!atomic_load(d->gate)) /* the watchdog is the bound */
        twill_sleep(twill_within(TWILL_US(100)));
    atomic_store(d->answer,
                 (int)twill_timeout_drain(d->timeout, twill_within(TWILL_MS(20)), &left));
    CHECK_EQ(left, 1);
    *(int *)out = 0;
    return 0;
}

/* Destroy has taken its thread off the books, but what it would wait for is itself. */
TEST(a_straggler_cannot_drain_what_is_destroyed)
{
    atomic_int gate = 0, answer = -1;
    for (twill_ns limit = TWILL_MS(1); atomic_load(&answer) == -1; limit *= 2) {
        twill_timeout *timeout = timeout_of((twill_timeout_options){.timeout = limit});
        late_drain d = {timeout, &gate, &answer};
        atomic_store(&gate, 0);
        CHECK_EQ(twill_timeout_call(timeout, &d, sizeof d, &out_of_call, sizeof out_of_call,
                                    drains_when_destroyed, for_ever, NULL),
                 TWILL_TIMEOUT);
        CHECK_EQ(twill_timeout_destroy(timeout), TWILL_OK);
        atomic_store(&gate, 1);
        while (faults_live() != 0) /* if there was no time to begin it, once more */
            twill_sleep(twill_within(TWILL_US(100)));
    }
    CHECK_EQ(atomic_load(&answer), TWILL_CLOSED);
}

static void drain_until(actor *me)
{
    size_t left;
    me->status = twill_timeout_drain(me->timeout, me->until, &left);
    me->out = (int)left;
}

/* ---- the same of the one-call form, and not only for the newest ---- */

static atomic_bool straggler_goes, straggler_began;

static int straggles(const void *in, void *out, const twill_task *task)
{
    twill_ns end = twill_now() + TWILL_SEC(100);

    (void)in, (void)out, (void)task;
    atomic_store(&straggler_began, true);
    while (!atomic_load(&straggler_goes) && twill_now() < end)
        (void)twill_sleep(twill_within(TWILL_US(200)));
    return 0;
}

static int drains_behind_another(const void *in, void *out, const twill_task *task)
{
    (void)in, (void)out, (void)task;
    for (twill_ns limit = TWILL_MS(1); !atomic_load(&straggler_began); limit *= 2)
        CHECK_EQ(twill_call_with_timeout(NULL, 0, NULL, 0, straggles, limit, NULL), TWILL_TIMEOUT);
    CHECK_EQ(twill_timeout_drain(NULL, twill_within(TWILL_MS(20)), NULL), TWILL_DEADLOCK);
    return 0;
}

TEST(an_older_straggler_cannot_drain_itself_either)
{
    atomic_store(&straggler_goes, false);
    atomic_store(&straggler_began, false);
    CHECK_EQ(twill_call_with_timeout(NULL, 0, NULL, 0, drains_behind_another, TWILL_SEC(30), NULL),
             TWILL_OK);
    atomic_store(&straggler_goes, true);
    CHECK_EQ(twill_timeout_drain(NULL, twill_within(TWILL_SEC(100)), NULL), TWILL_OK);
}

/* Who waits for his function tells it at the deadline, and it need not look at the time. */
static int waits_for_its_token(const void *in, void *out, const twill_task *task)
{
    (void)in, (void)out;
    CHECK_EQ(twill_sleep((twill_until){0, task->until.cancel}), TWILL_CANCELLED);
    CHECK_EQ(twill_cancel_reason(task->until.cancel), TWILL_TIMEOUT);
    return 5;
}

TEST(a_deadline_tells_the_function)
{
    for (int grace = 0; grace < 2; grace++) {
        twill_timeout *timeout = timeout_of(
            (twill_timeout_options){.timeout = TWILL_MS(2),
                                    .mode = grace ? TWILL_TIMEOUT_ABANDON : TWILL_TIMEOUT_JOIN,
                                    .grace = grace ? TWILL_SEC(30) : 0});
        CHECK_EQ(twill_timeout_call(timeout, &grace, sizeof grace, &out_of_call, sizeof out_of_call,
                                    waits_for_its_token, for_ever, &report),
                 TWILL_TIMEOUT);
        CHECK_EQ(stats_of(timeout).abandoned, 0);
        CHECK_EQ(twill_timeout_destroy(timeout), TWILL_OK);
    }
}

static bool all_are_answered(twill_ns limit)
{
    atomic_int gate = 0;
    twill_cancel token;
    size_t left = 9;
    actor waits = {.until = {0, NULL}};
    twill_timeout *timeout = timeout_of((twill_timeout_options){.timeout = limit});
    CHECK_EQ(twill_timeout_drain(timeout, twill_within(0), &left), TWILL_OK);
    CHECK_EQ(left, 0);
    CHECK_EQ(call(timeout, (ticket){.gate = &gate}), TWILL_TIMEOUT);
    if (!report.abandoned) {
        finish(timeout);
        return false; /* it had not begun by then */
    }
    CHECK_EQ(twill_timeout_drain(timeout, twill_within(0), &left), TWILL_TIMEOUT);
    CHECK_EQ(left, 1);
    twill_cancel_init(&token, NULL);
    twill_cancel_fire(&token, 1);
    CHECK_EQ(twill_timeout_drain(timeout, twill_until_cancelled(&token), &left), TWILL_CANCELLED);
    go(&waits, drain_until, timeout);
    gate = 1;
    join(&waits);
    CHECK_EQ(waits.status, TWILL_OK);
    CHECK_EQ(waits.out, 0);
    finish(timeout);
    return true;
}

TEST(drain_answers)
{
    CHECK(test_in_time(TWILL_MS(10), all_are_answered));
}

/* Who drains is told that there is nothing to drain any more. */
TEST(destroy_answers_who_drains)
{
    atomic_int gate = 0;
    bool stands = false;
    actor waits = {.until = {0, NULL}};
    twill_timeout *timeout = timeout_of((twill_timeout_options){.timeout = TWILL_MS(1)});
    CHECK_EQ(call(timeout, (ticket){.gate = &gate}), TWILL_TIMEOUT);
    if (twill_timeout_abandoned(timeout) == 1) { /* else it had not begun by then */
        go(&waits, drain_until, timeout);
        while (!stands) { /* the watchdog is the bound */
            twill_sleep(twill_within(TWILL_US(100)));
            twill__lock(&timeout->books.lock);
            stands = timeout->books.waiters.first != NULL;
            twill__unlock(&timeout->books.lock);
        }
        CHECK_EQ(twill_timeout_destroy(timeout), TWILL_OK);
        join(&waits);
        CHECK_EQ(waits.status, TWILL_CLOSED);
        CHECK_EQ(waits.out, 1);
    } else {
        CHECK_EQ(twill_timeout_destroy(timeout), TWILL_OK);
    }
    gate = 1;
    while (faults_live() != 0) /* the straggler frees it all */
        twill_sleep(twill_within(TWILL_US(100)));
}

TEST(a_hundred_thousand_lives)
{
    for (int k = 0; k < 100000; k++) {
        twill_timeout *timeout;
        if (twill_timeout_create(&timeout, NULL) != TWILL_OK ||
            (k % 1000 == 0 && call(timeout, (ticket){.value = k}) != TWILL_OK) ||
            twill_timeout_destroy(timeout) != TWILL_OK)
            CHECK_EQ(k, -1); /* a life went wrong */
    }
    CHECK_EQ(faults_live(), 0);
}

/* ---- races ---- */

/* The end of the function against the deadline, many times: one of the two, never both. */
TEST(the_end_meets_the_deadline)
{
    unsigned ok = 0, late = 0;
    twill_timeout *timeout = timeout_of((twill_timeout_options){.timeout = TWILL_US(300)});
    for (int k = 0; k < 1500; k++) {
        twill_ns takes = TWILL_US(200) + (twill_ns)test_random_below(TWILL_US(150));
        twill_status status = call(timeout, (ticket){.value = k, .takes = takes});
        CHECK(status == TWILL_OK || status == TWILL_TIMEOUT || status == TWILL_BUSY);
        CHECK_EQ(out_of_call, status == TWILL_OK ? k : INT_MIN);
        ok += status == TWILL_OK;
        late += status == TWILL_TIMEOUT;
    }
    CHECK_EQ(twill_timeout_drain(timeout, for_ever, NULL), TWILL_OK);
    CHECK_EQ((unsigned)atomic_load(&ran), ok + (unsigned)atomic_load(&discarded));
    CHECK(late >= (unsigned)atomic_load(&discarded));
    CHECK_EQ(stats_of(timeout).late, atomic_load(&discarded));
    finish(timeout);
}

TEST(the_end_meets_the_deadline_of_one_call)
{
    for (int k = 0; k < 400; k++) {
        twill_ns takes = TWILL_US(100) + (twill_ns)test_random_below(TWILL_US(300));
        int out, status = one((ticket){.value = k, .takes = takes}, TWILL_US(300), &k, &out);
        CHECK(status == TWILL_OK || status == TWILL_TIMEOUT || status == TWILL_BUSY);
        CHECK_EQ(out, k);
    }
    CHECK_EQ(twill_timeout_drain(NULL, for_ever, NULL), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

static void call_and_race(actor *me)
{
    for (int k = 0; k < 150; k++) {
        ticket t = {.value = k,
                    .takes = (twill_ns)test_random_below(TWILL_US(400)),
                    .code = (int)test_random_below(4) == 0,
                    .obey = (int)test_random_below(3)};
        twill_cancel token;
        int out = INT_MIN;
        twill_cancel_init(&token, me->until.cancel);
        twill_status status = twill_timeout_call(
            me->timeout, &t, sizeof t, &out, sizeof out, work,
            twill_within_or_cancelled((twill_ns)test_random_below(TWILL_US(500)), &token), NULL);
        twill_cancel_detach(&token);
        CHECK(status == TWILL_OK || status == TWILL_TIMEOUT || status == TWILL_BUSY ||
              status == TWILL_FAILED || status == TWILL_CANCELLED);
        CHECK_EQ(out, status == TWILL_OK ? k : INT_MIN);
    }
}

TEST(many_callers_many_ends)
{
    enum { CALLERS = 4 };
    actor who[CALLERS] = {{.until = {0, NULL}}};
    for (int mode = 0; mode < 3; mode++) {
        twill_cancel token;
        twill_timeout *timeout =
            timeout_of((twill_timeout_options){.mode = (twill_timeout_mode)mode,
                                               .hedge_after = mode == 1 ? 0 : TWILL_US(50),
                                               .hedge_budget = 1,
                                               .max_hedges = 2,
                                               .grace = TWILL_US(20),
                                               .max_abandoned = 6,
                                               .idle_threads = 2});
        twill_cancel_init(&token, NULL);
        for (int k = 0; k < CALLERS; k++) {
            who[k].until.cancel = &token;
            go(&who[k], call_and_race, timeout);
        }
        twill_sleep(twill_within(TWILL_MS(20)));
        twill_cancel_fire(&token, 2);
        for (int k = 0; k < CALLERS; k++)
            join(&who[k]);
        CHECK_EQ(twill_timeout_drain(timeout, for_ever, NULL), TWILL_OK);
        twill_timeout_stats s = stats_of(timeout);
        CHECK(s.abandoned_peak <= 6);
        CHECK_EQ((uint64_t)atomic_load(&ran), s.ok + (uint64_t)atomic_load(&discarded));
        finish(timeout);
    }
}

/* ---- faults ---- */

TEST(every_allocation_and_thread_fails)
{
    static const int value = 77;
    for (int threads = 0; threads < 2; threads++)
        for (unsigned long k = 1; k < 6; k++) {
            twill_timeout *timeout = NULL;
            twill_status status;
            reset();
            if (threads)
                faults_fail_thread(k);
            else
                faults_fail_alloc(k);
            status = twill_timeout_create(
                &timeout, &(twill_timeout_options){.fallback_value = &value,
                                                   .fallback_value_size = sizeof value,
                                                   .free_input = note_free,
                                                   .discard = note_discard});
            CHECK_EQ(status, !threads && k == 1 ? TWILL_NO_MEMORY : TWILL_OK);
            if (status == TWILL_OK) {
                status = call(timeout, (ticket){.value = 5});
                CHECK_EQ(status, threads ? (k == 1 ? TWILL_NO_THREAD : TWILL_OK)
                                         : (k < 4 ? TWILL_NO_MEMORY : TWILL_OK));
                CHECK_EQ(out_of_call, status == TWILL_OK ? 5 : 77);
                CHECK_EQ(report.primary, status);
                faults_fail_alloc(0);
                faults_fail_thread(0);
                CHECK_EQ(call(timeout, (ticket){.value = 6}), TWILL_OK);
                finish(timeout);
            }
            faults_fail_alloc(0);
            faults_fail_thread(0);
            CHECK_EQ(faults_live(), 0);
        }
}

TEST(fallbacks_serve_without_memory_and_threads)
{
    const twill_fallback chain = {step_serves, 0};
    int out, fallback = 3;
    twill_timeout *timeout =
        timeout_of((twill_timeout_options){.fallbacks = &chain, .fallback_count = 1});
    memset(&steps, 0, sizeof steps);
    faults_fail_alloc_from(1);
    CHECK_EQ(call(timeout, (ticket){.value = 5}), TWILL_OK);
    CHECK_EQ(report.primary, TWILL_NO_MEMORY);
    CHECK_EQ(out_of_call, 7);
    CHECK_EQ(one((ticket){.value = 5}, TWILL_SEC(20), &fallback, &out), TWILL_NO_MEMORY);
    CHECK_EQ(out, 3);
    faults_fail_alloc_from(0);
    faults_fail_thread(1);
    CHECK_EQ(call(timeout, (ticket){.value = 5}), TWILL_OK);
    CHECK_EQ(report.primary, TWILL_NO_THREAD);
    CHECK_EQ(one((ticket){.value = 5}, TWILL_SEC(20), &fallback, &out), TWILL_NO_THREAD);
    CHECK_EQ(out, 3);
    faults_fail_thread(0);
    CHECK_EQ(atomic_load(&ran), 0);
    finish(timeout);
}

/* Whoever has cancelled his call hears that, and not that there was no memory for it. */
TEST(cancelled_before_and_without_memory)
{
    twill_cancel token;
    twill_timeout *timeout = timeout_of((twill_timeout_options){.timeout = TWILL_SEC(9)});
    twill_cancel_init(&token, NULL);
    faults_fail_alloc(1);
    CHECK_EQ(call_until(timeout, (ticket){.value = 1}, twill_until_cancelled(&token)),
             TWILL_NO_MEMORY);
    twill_cancel_fire(&token, 1);
    faults_fail_alloc(1);
    CHECK_EQ(call_until(timeout, (ticket){.value = 1}, twill_until_cancelled(&token)),
             TWILL_CANCELLED);
    faults_fail_alloc(0);
    CHECK_EQ(atomic_load(&ran), 0);
    CHECK_EQ(stats_of(timeout).cancelled, 1);
    CHECK_EQ(stats_of(timeout).refused, 1);
    finish(timeout);
}

TEST(a_hedge_that_cannot_start_is_skipped)
{
    twill_timeout *timeout = timeout_of((twill_timeout_options){
        .timeout = TWILL_SEC(30), .hedge_after = TWILL_MS(1), .hedge_budget = 1});
    faults_fail_thread(2);
    CHECK_EQ(call_until_skipped(timeout), TWILL_OK);
    faults_fail_thread(0);
    CHECK_EQ(out_of_call, 5);
    CHECK_EQ(report.source, TWILL_FROM_PRIMARY);
    CHECK_EQ(stats_of(timeout).hedges, 0);
    CHECK_EQ(stats_of(timeout).hedges_skipped, 1);
    finish(timeout);
}

/* One that gives its share back, after other calls have saved theirs. */
TEST(no_more_than_ten_hedges_are_saved_up)
{
    twill_timeout *timeout = timeout_of((twill_timeout_options){.timeout = 1, .hedge_after = 1});
    timeout->hedges_left = 8.5;
    twill__timeout_save_hedges(timeout, 1);
    CHECK(timeout->hedges_left == 9.5);
    twill__timeout_save_hedges(timeout, 1);
    CHECK(timeout->hedges_left == 10);
    finish(timeout);
}

/* ---- whatever the options ---- */

static twill_cancel odd_tokens[2]; /* of the run, of the call */

enum { ODD_QUICK, ODD_FAILS, ODD_SLOW, ODD_OBEYS, ODD_FIRES_RUN, ODD_FIRES_OWN, ODD_KINDS };
typedef struct odd_in {
    int value, kind, hedge_kind;
    bool has_out;
} odd_in;

static int odd_act(const odd_in *in, int kind, void *out, int value, const twill_task *task)
{
    atomic_fetch_add(&ran, 1);
    if (kind == ODD_SLOW)
        twill_sleep(twill_within(TWILL_US(120)));
    else if (kind == ODD_OBEYS)
        twill_sleep(twill_within_or_cancelled(TWILL_US(400), task->until.cancel));
    else if (kind >= ODD_FIRES_RUN)
        twill_cancel_fire(&odd_tokens[kind - ODD_FIRES_RUN], 1);
    if (in->has_out) /* else `out` points to no bytes */
        *(int *)out = value;
    return kind == ODD_FAILS ? 77 : 0;
}

static int odd_primary(const void *in, void *out, const twill_task *task)
{
    const odd_in *mine = in;
    return odd_act(mine, task->index ? mine->hedge_kind : mine->kind, out, mine->value, task);
}

static int odd_fallback(const void *in, void *out, const twill_task *task)
{
    const odd_in *mine = in;
    return odd_act(mine, mine->hedge_kind, out, mine->value + 1000 * (int)task->index, task);
}

static void odd_discard(void *in, void *result, int code, const twill_task *task)
{
    (void)in, (void)result, (void)task;
    CHECK(code == 0 || code == 77);
}

static int odd_below(int limit)
{
    return (int)test_random_below((uint64_t)limit);
}

TEST(a_call_says_who_has_served_whatever_the_options)
{
    static const twill_fallback chain[] = {{odd_fallback, 0}, {odd_fallback, TWILL_US(60)}};
    for (int round = 0; round < 150; round++) {
        twill_timeout *timeout;
        int value = 9, out = INT_MIN;
        bool has_out = odd_below(4), own = odd_below(2);
        odd_in in = {round, odd_below(ODD_KINDS), odd_below(ODD_KINDS), has_out};
        twill_until until = {0, NULL};
        twill_status status;
        twill_timeout_options o = {.mode = (twill_timeout_mode)odd_below(3),
                                   .timeout = TWILL_US(50 + odd_below(250)),
                                   .grace = odd_below(3) ? 0 : TWILL_US(100),
                                   .fallback_count = (size_t)odd_below(3),
                                   .fallback_on_failure = odd_below(2),
                                   .free_input = note_free,
                                   .discard = odd_below(3) ? odd_discard : NULL};
        o.fallbacks = o.fallback_count ? chain : NULL;
        for (int k = 0; k < 2; k++)
            twill_cancel_init(&odd_tokens[k], NULL);
        if (odd_below(2) && o.mode != TWILL_TIMEOUT_COOPERATE) {
            o.hedge_after = TWILL_US(30);
            o.max_hedges = 1 + (size_t)odd_below(2);
            o.hedge_budget = 1;
        }
        if (odd_below(2) && has_out) {
            o.fallback_value = &value;
            o.fallback_value_size = sizeof value;
        }
        o.run.until.cancel = odd_below(2) ? &odd_tokens[0] : NULL;
        until.cancel = own ? odd_below(4) ? &odd_tokens[1] : o.run.until.cancel : NULL;
        if (!odd_below(5))
            until.deadline = twill_now() + TWILL_US(odd_below(200));
        CHECK_EQ(twill_timeout_create(&timeout, &o), TWILL_OK);
        reset();
        status = twill_timeout_call(timeout, &in, sizeof in, has_out ? &out : NULL,
                                    has_out ? sizeof out : 0, odd_primary, until, &report);
        CHECK(status == TWILL_OK || status == TWILL_FAILED || status == TWILL_TIMEOUT ||
              status == TWILL_CANCELLED);
        CHECK_EQ(status == TWILL_OK,
                 report.source != TWILL_FROM_NOTHING && report.source != TWILL_FROM_VALUE);
        if (!has_out || report.source == TWILL_FROM_NOTHING)
            CHECK_EQ(out, INT_MIN);
        else if (report.source == TWILL_FROM_VALUE)
            CHECK_EQ(out, 9);
        else
            CHECK_EQ(out,
                     round + (report.source == TWILL_FROM_FALLBACK ? 1000 * (int)report.level : 0));
        if (o.mode != TWILL_TIMEOUT_ABANDON)
            CHECK(!report.abandoned);
        finish(timeout);
        for (int k = 0; k < 2; k++)
            twill_cancel_detach(&odd_tokens[k]);
    }
}

TEST(bytes_that_no_memory_holds)
{
    int in = 0, out;
    twill_timeout_report its;
    twill_timeout *timeout = timeout_of((twill_timeout_options){.timeout = TWILL_SEC(9)});
    CHECK_EQ(
        twill_timeout_call(timeout, &in, SIZE_MAX / 2 - 16, &out, 4, odd_primary, for_ever, &its),
        TWILL_TOO_BIG);
    CHECK_EQ(
        twill_timeout_call(timeout, &in, 4, &out, SIZE_MAX / 2 - 8, odd_primary, for_ever, &its),
        TWILL_TOO_BIG);
    CHECK_EQ(its.source, TWILL_FROM_NOTHING);
    CHECK_EQ(twill_timeout_destroy(timeout), TWILL_OK);
    timeout = timeout_of((twill_timeout_options){.hedge_after = TWILL_SEC(9), .max_hedges = 7});
    CHECK_EQ(/* one result would do, but not eight */
             twill_timeout_call(timeout, &in, 4, &out, SIZE_MAX / 8, odd_primary, for_ever, &its),
             TWILL_TOO_BIG);
    CHECK_EQ(twill_timeout_destroy(timeout), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

static twill_status create_with(twill_timeout_options options)
{
    twill_timeout *timeout;
    twill_status status = twill_timeout_create(&timeout, &options);
    if (status == TWILL_OK)
        (void)twill_timeout_destroy(timeout);
    return status;
}

TEST(numbers_of_an_object_at_their_bounds)
{
    int value = 1;
    CHECK_EQ(create_with((twill_timeout_options){.timeout = 1,
                                                 .run.name = "a name that no thread can have"}),
             TWILL_OK);
    CHECK_EQ(create_with((twill_timeout_options){
                 .timeout = 1, .fallback_value = &value, .fallback_value_size = SIZE_MAX / 2 - 16}),
             TWILL_TOO_BIG);
}

/* ---- fork ---- */

static bool two_stay_over_a_fork(twill_ns limit)
{
    atomic_int gate = 0;
    int out, fallback = 6;
    twill_timeout *timeout = timeout_of((twill_timeout_options){.timeout = TWILL_SEC(50)});
    CHECK_EQ(call(timeout, (ticket){.value = 1}), TWILL_OK);
    for (int k = 0; k < 2; k++)
        CHECK_EQ(call_until(timeout, (ticket){.gate = &gate}, twill_within(limit)), TWILL_TIMEOUT);
    CHECK_EQ(one((ticket){.gate = &gate}, limit, &fallback, &out), TWILL_TIMEOUT);
    bool in_time = twill_timeout_abandoned(timeout) == 2 && twill_timeout_abandoned(NULL) == 1;
    pid_t child = in_time ? fork() : -1;
    if (child == 0) {
        CHECK_EQ(call(timeout, (ticket){.value = 1}), TWILL_FORKED);
        CHECK_EQ(report.primary, TWILL_FORKED);
        CHECK_EQ(twill_timeout_close(timeout), TWILL_FORKED);
        CHECK_EQ(twill_timeout_drain(timeout, for_ever, NULL), TWILL_FORKED);
        CHECK_EQ(twill_timeout_abandoned(timeout), 0);
        CHECK_EQ(stats_of(timeout).calls, 0);
        CHECK_EQ(twill_timeout_destroy(timeout), TWILL_OK); /* touches no thread */
        CHECK_EQ(faults_live(), 1);                         /* the one call's */
        /* the one-call form begins anew */
        CHECK_EQ(twill_timeout_abandoned(NULL), 0);
#ifndef TWILL__UNDER_TSAN /* which starts no thread in a child */
        CHECK_EQ(one((ticket){.value = 9}, TWILL_SEC(20), &fallback, &out), TWILL_OK);
        CHECK_EQ(out, 9);
#endif
        _exit(0);
    }
    int status = 0;
    CHECK(!in_time ||
          (waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0));
    gate = 1;
    CHECK_EQ(twill_timeout_drain(NULL, for_ever, NULL), TWILL_OK);
    finish(timeout);
    return in_time;
}

TEST(forked_child)
{
    CHECK(test_in_time(TWILL_MS(10), two_stay_over_a_fork));
}

static int forks(const void *in, void *out, const twill_task *task)
{
    (void)in, (void)task;
    pid_t child = fork();
    *(int *)out = (int)child;
    return 0;
}

/* In a child whose call has returned: nobody is inside any more. */
static void destroys_and_ends(twill_timeout *timeout)
{
    CHECK_EQ(twill_timeout_destroy(timeout), TWILL_OK);
    _exit(harness_failures ? 1 : 0);
}

/* A function that forks in the caller's thread and returns in the child, too. */
TEST(a_fork_inside)
{
    pid_t child = 0;
    twill_timeout *timeout = timeout_of((twill_timeout_options){.mode = TWILL_TIMEOUT_COOPERATE});
    twill_status status = twill_timeout_call(timeout, &child, sizeof child, &child, sizeof child,
                                             forks, for_ever, NULL);
    if (status == TWILL_FORKED)
        destroys_and_ends(timeout);
    CHECK_EQ(status, TWILL_OK);
    int how = 0;
    CHECK(waitpid(child, &how, 0) == child && WIFEXITED(how) && WEXITSTATUS(how) == 0);
    finish(timeout);
}

/* Another thread of the parent's has the lock, for ever now: the object goes, and what its lists
   say is not believed. */
TEST(a_fork_while_the_books_are_locked)
{
    twill_timeout *timeout = timeout_of((twill_timeout_options){.timeout = TWILL_SEC(50)});
    int how = 0;
    pid_t child;
    CHECK_EQ(call(timeout, (ticket){.value = 1}), TWILL_OK);
    twill__lock(&timeout->books.lock);
    child = fork();
    if (child == 0) {
        CHECK_EQ(faults_live(), 2);
        CHECK_EQ(twill_timeout_destroy(timeout), TWILL_OK);
        CHECK_EQ(faults_live(), 1); /* the thread's */
        _exit(harness_failures ? 1 : 0);
    }
    twill__unlock(&timeout->books.lock);
    CHECK(waitpid(child, &how, 0) == child && WIFEXITED(how) && WEXITSTATUS(how) == 0);
    finish(timeout);
}

static int forks_and_destroys(const void *in, void *out, const twill_task *task)
{
    (void)forks(in, out, task);
    if (*(int *)out == 0) {
        CHECK_EQ(twill_timeout_destroy(victim), TWILL_DEADLOCK);
        _exit(harness_failures ? 1 : 0);
    }
    return 0;
}

/* In the child, too, what called this function still stands below it. */
TEST(a_fork_inside_that_destroys)
{
    pid_t child = 0;
    int how = 0;
    victim = timeout_of((twill_timeout_options){.mode = TWILL_TIMEOUT_COOPERATE});
    CHECK_EQ(twill_timeout_call(victim, &child, sizeof child, &child, sizeof child,
                                forks_and_destroys, for_ever, NULL),
             TWILL_OK);
    CHECK(waitpid(child, &how, 0) == child && WIFEXITED(how) && WEXITSTATUS(how) == 0);
    finish(victim);
}

static int forks_and_says(const void *in, void *out, const twill_task *task)
{
    (void)forks(in, out, task);
    return *(int *)out == 0 ? *(const int *)in : 0; /* in the child as it is told */
}

/* So with a fallback: in the child nothing further is called, whatever it returned there. */
TEST(a_fork_inside_of_a_fallback)
{
    static const twill_fallback fallbacks[] = {{forks_and_says, 0}, {forks_and_says, 0}};
    twill_timeout *timeout = timeout_of((twill_timeout_options){.timeout = 1, /* over at once */
                                                                .mode = TWILL_TIMEOUT_COOPERATE,
                                                                .fallbacks = fallbacks,
                                                                .fallback_count = 2});
    for (int code = 0; code < 2; code++) {
        pid_t child = -1;
        twill_status status = twill_timeout_call(timeout, &code, sizeof code, &child, sizeof child,
                                                 forks_and_says, for_ever, NULL);
        if (status == TWILL_FORKED) {
            CHECK_EQ(child, -1);
            CHECK_EQ(discarded, 0);
            destroys_and_ends(timeout);
        }
        CHECK_EQ(status, TWILL_OK);
        int how = 0;
        CHECK(waitpid(child, &how, 0) == child && WIFEXITED(how) && WEXITSTATUS(how) == 0);
    }
    finish(timeout);
}

static pid_t freed_in;

static void free_forks(void *in, const twill_task *task)
{
    (void)in, (void)task;
    freed_in = fork();
    if (freed_in == 0)
        CHECK_EQ(twill_timeout_destroy(victim), TWILL_DEADLOCK);
}

/* So with free_input; the result was there before. */
TEST(a_fork_inside_of_free_input)
{
    int how = 0;
    CHECK_EQ(twill_timeout_create(&victim, &(twill_timeout_options){.mode = TWILL_TIMEOUT_COOPERATE,
                                                                    .timeout = TWILL_FOREVER,
                                                                    .free_input = free_forks}),
             TWILL_OK);
    freed_in = -1;
    CHECK_EQ(call(victim, (ticket){.value = 1}), TWILL_OK);
    if (freed_in == 0)
        destroys_and_ends(victim);
    CHECK(waitpid(freed_in, &how, 0) == freed_in && WIFEXITED(how) && WEXITSTATUS(how) == 0);
    CHECK_EQ(twill_timeout_destroy(victim), TWILL_OK);
}

HARNESS_MAIN
