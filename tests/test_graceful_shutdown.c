/* graceful_shutdown without signals: phases, work, hooks, budget, failures. Signals are met in
   test_graceful_shutdown_signals.c. */
#define HARNESS_FAULTS 1
#include "harness.h"

#define TWILL_IMPLEMENTATION
#include "twill_graceful_shutdown.h"
#include "twill_parallel_map.h"
#include "twill_producer_consumer.h"
#include "twill_rate_limiter.h"
#include "twill_retry_backoff.h"

#include <sys/resource.h>

#define QUIET .no_signals = true
#define SHORT QUIET, .total = TWILL_SEC(2), .drain = TWILL_MS(200), .cancel = TWILL_MS(200)

static twill_shutdown *make(const twill_shutdown_options *options)
{
    twill_shutdown *shutdown = NULL;
    CHECK_EQ(twill_shutdown_create(&shutdown, options), TWILL_OK);
    CHECK(shutdown != NULL);
    return shutdown;
}

static twill_shutdown *quiet(void)
{
    return make(&(twill_shutdown_options){QUIET});
}

static void end(twill_shutdown *shutdown)
{
    CHECK_EQ(twill_shutdown_destroy(shutdown), TWILL_OK);
}

/* The hooks that were given up end in their own time, and free what they have. */
static void end_with_abandoned(twill_shutdown *shutdown)
{
    twill_ns until = twill_now() + TWILL_SEC(100);
    end(shutdown);
    while (faults_live() && twill_now() < until)
        twill_sleep(twill_within(TWILL_US(200)));
    CHECK_EQ(faults_live(), 0);
}

struct thread {
    twill__thrd thread;
    void (*fn)(struct thread *me);
    twill_shutdown *shutdown;
    twill_until until;
    twill_status status;
    size_t count;
    twill_ns at, left;
    atomic_int stage;
};

static void thread_main(void *me)
{
    ((struct thread *)me)->fn(me);
}

static void go(struct thread *me, void (*fn)(struct thread *me), twill_shutdown *shutdown)
{
    memset(&me->thread, 0, sizeof me->thread);
    me->fn = fn;
    me->shutdown = shutdown;
    me->thread.fn = thread_main;
    me->thread.arg = me;
    me->thread.cpu = UINT_MAX;
    CHECK(twill__thread_start(&me->thread));
}

static void join(struct thread *me)
{
    twill__thread_join(&me->thread);
}

static void until_stage(struct thread *me, int stage)
{
    while (atomic_load(&me->stage) < stage)
        twill_sleep(twill_within(TWILL_US(100)));
}

/* ---- asking ---- */

TEST(from_running_to_stopped)
{
    twill_shutdown *s = quiet();
    twill_shutdown_report report;
    struct pollfd fd = {twill_shutdown_fd(s), POLLIN, 0};
    CHECK(!twill_shutdown_requested(s));
    CHECK_EQ(twill_shutdown_reason(s), 0);
    CHECK_EQ(twill_shutdown_get_phase(s), TWILL_SHUTDOWN_RUNNING);
    CHECK_EQ(poll(&fd, 1, 0), TWILL__SIGNALS ? 0 : fd.fd == -1 ? 0 : 1);
    CHECK(!twill_cancel_fired(twill_shutdown_drain_token(s)));
    CHECK_EQ(twill_shutdown_enter(s), TWILL_OK);
    twill_shutdown_leave(s);
    twill_shutdown_request(s, 7);
    twill_shutdown_request(s, 8);
    CHECK(twill_shutdown_requested(s));
    CHECK_EQ(twill_shutdown_reason(s), 7);
    CHECK_EQ(twill_shutdown_get_phase(s), TWILL_SHUTDOWN_DRAINING);
    CHECK_EQ(twill_cancel_reason(twill_shutdown_drain_token(s)), 7);
    CHECK(!twill_cancel_fired(twill_shutdown_cancel_token(s)));
    CHECK_EQ(twill_shutdown_enter(s), TWILL_CLOSED);
    CHECK_EQ(twill_shutdown_wait(s, (twill_until){0}), TWILL_OK);
    if (TWILL__SIGNALS) {
        CHECK_EQ(poll(&fd, 1, 0), 1);
        CHECK_EQ(fd.revents & POLLIN, POLLIN);
    }
    CHECK_EQ(twill_shutdown_finish(s, &report), TWILL_OK);
    CHECK_EQ(report.status, TWILL_OK);
    CHECK_EQ(report.reason, 7);
    CHECK_EQ(report.entered, 1);
    CHECK_EQ(report.left_in_drain, 1);
    CHECK_EQ(report.left_in_cancel + report.stuck + report.hooks, 0);
    CHECK(report.wall > 0 && report.wall < TWILL_SEC(10));
    CHECK_EQ(twill_cancel_reason(twill_shutdown_cancel_token(s)), 7);
    CHECK_EQ(twill_shutdown_get_phase(s), TWILL_SHUTDOWN_STOPPED);
    end(s);
}

TEST(reasons_are_positive)
{
    twill_shutdown *s = quiet();
    twill_shutdown_report report;
    twill_shutdown_request(s, 0);
    CHECK_EQ(twill_shutdown_reason(s), 1);
    end(s);
    s = quiet();
    twill_shutdown_request(s, INT_MIN);
    CHECK_EQ(twill_shutdown_reason(s), 1);
    end(s);
    s = quiet();
    CHECK_EQ(twill_shutdown_finish(s, &report), TWILL_OK);
    CHECK_EQ(report.reason, INT_MAX);
    end(s);
}

TEST(null_is_answered)
{
    CHECK_EQ(twill_shutdown_create(NULL, NULL), TWILL_INVALID);
    CHECK_EQ(twill_shutdown_destroy(NULL), TWILL_OK);
    CHECK(!twill_shutdown_requested(NULL)); /* nobody owns the signals */
    CHECK_EQ(twill_shutdown_reason(NULL), 0);
    twill_shutdown_request(NULL, 3);
    CHECK_EQ(twill_shutdown_get_phase(NULL), TWILL_SHUTDOWN_RUNNING);
    CHECK_PTR(twill_shutdown_drain_token(NULL), NULL);
    CHECK_PTR(twill_shutdown_cancel_token(NULL), NULL);
    CHECK_EQ(twill_shutdown_fd(NULL), -1);
    CHECK_EQ(twill_shutdown_enter(NULL), TWILL_INVALID);
    twill_shutdown_leave(NULL);
    CHECK_EQ(twill_shutdown_add(NULL, "", NULL, NULL, 0), TWILL_INVALID);
    CHECK_EQ(twill_shutdown_wait(NULL, (twill_until){0}), TWILL_INVALID);
    CHECK_EQ(twill_shutdown_finish(NULL, NULL), TWILL_INVALID);
}

static void some_action(int number, const twill_task *task)
{
    (void)number;
    (void)task;
}

TEST(bad_options_are_refused)
{
    static const int twice[] = {SIGTERM, SIGTERM}, fault[] = {SIGSEGV}, none[] = {0},
                     huge[] = {1000}, hard[] = {SIGKILL}, stop[] = {SIGSTOP};
    static const twill_signal_action stops[] = {{SIGINT, some_action, NULL}},
                                     no_fn[] = {{SIGHUP, NULL, NULL}},
                                     pair[] = {{SIGHUP, some_action, NULL},
                                               {SIGHUP, some_action, NULL}};
    const twill_shutdown_options bad[] = {
        {.total = -1},
        {.drain = -1},
        {.cancel = -1},
        {.same_press = -1},
        {.total = 10, .drain = 6, .cancel = 5},
        {.total = 10, .drain = 11, .cancel = 1},
        {.second = (twill_second_signal)3},
        {.steps_capacity = 1},
        {.signals = twice, .signal_count = 2},
        {.signals = fault, .signal_count = 1},
        {.signals = none, .signal_count = 1},
        {.signals = huge, .signal_count = 1},
        {.signals = hard, .signal_count = 1},
        {.signals = stop, .signal_count = 1},
        {.signals = twice},
        {.signals = twice, .signal_count = 1000},
        {.signal_count = 1},
        {.actions = pair, .action_count = 1000},
        {.actions = stops, .action_count = 1},
        {.actions = no_fn, .action_count = 1},
        {.actions = pair, .action_count = 2},
        {.actions = pair},
        {.action_count = 2},
        {QUIET, .signals = hard, .signal_count = 1},
        {QUIET, .signals = hard},
        {QUIET, .signal_count = 1},
        {QUIET, .actions = pair, .action_count = 1},
        {QUIET, .actions = pair},
        {QUIET, .action_count = 1},
        {QUIET, .message = "no handler writes it"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        twill_shutdown *s = (twill_shutdown *)(uintptr_t)8;
        if (!CHECK_EQ(twill_shutdown_create(&s, &bad[i]), TWILL_INVALID))
            harness_say("  options %zu\n", i);
        CHECK_PTR(s, NULL);
    }
    CHECK_EQ(faults_allocs(), 0);
}

/* ---- wait ---- */

static void wait_there(struct thread *me)
{
    atomic_store(&me->stage, 1);
    me->status = twill_shutdown_wait(me->shutdown, me->until);
    me->at = twill_now();
}

TEST(wait_ends_as_it_should)
{
    twill_shutdown *s = quiet();
    twill_cancel token = {{0}};
    struct thread one = {.until = {0, &token}}, two = {0}, three = {0};
    CHECK_EQ(twill_shutdown_wait(s, twill_within(0)), TWILL_TIMEOUT);
    CHECK_EQ(twill_shutdown_wait(s, twill_within(TWILL_MS(2))), TWILL_TIMEOUT);
    go(&one, wait_there, s);
    go(&two, wait_there, s);
    go(&three, wait_there, s);
    until_stage(&one, 1);
    twill_cancel_fire(&token, 1);
    join(&one);
    CHECK_EQ(one.status, TWILL_CANCELLED);
    CHECK_EQ(twill_shutdown_wait(s, twill_until_cancelled(&token)), TWILL_CANCELLED);
    twill_shutdown_request(s, 1);
    join(&two);
    join(&three);
    CHECK_EQ(two.status, TWILL_OK);
    CHECK_EQ(three.status, TWILL_OK);
    CHECK_EQ(twill_shutdown_wait(s, (twill_until){1, &token}), TWILL_OK);
    end(s);
}

TEST(destroy_answers_who_waits)
{
    for (int k = 0; k < 50; k++) {
        twill_shutdown *s = quiet();
        struct thread waits[3] = {{.count = 0}};
        for (int i = 0; i < 3; i++) {
            if (i == 1)
                waits[i].until = twill_within(TWILL_US(test_random_below(100)));
            go(&waits[i], wait_there, s);
        }
        for (int i = 0; i < 3; i++)
            until_stage(&waits[i], 1);
        for (bool inside = false; !inside;) { /* a call that has begun has reached the lock */
            size_t count = 0;
            twill__lock(&s->lock);
            for (twill__node *node = s->waiters.first; node; node = node->next)
                count++;
            inside = count >= 2;
            twill__unlock(&s->lock);
        }
        twill_sleep(twill_within(TWILL_US(test_random_below(100))));
        if (waits[1]
                .until.deadline) { /* it may come later than destroy, which would be its fault */
            twill__thread_join(&waits[1].thread);
            CHECK_EQ(waits[1].status, TWILL_TIMEOUT);
        }
        end(s);
        for (int i = 0; i < 3; i += 2) {
            join(&waits[i]);
            CHECK_EQ(waits[i].status, TWILL_CLOSED);
        }
    }
}

/* ---- work ---- */

static void work_on(struct thread *me)
{
    atomic_store(&me->stage, 1);
    while ((me->status = twill_shutdown_enter(me->shutdown)) == TWILL_OK) {
        me->count++;
        if (me->count % 64 == 0)
            twill__yield();
        twill_shutdown_leave(me->shutdown);
    }
}

TEST(nobody_enters_after_the_request)
{
    for (int k = 0; k < 60; k++) {
        twill_shutdown *s = quiet();
        twill_shutdown_report report;
        struct thread works[3] = {{.count = 0}};
        size_t entered = 0;
        for (int i = 0; i < 3; i++)
            go(&works[i], work_on, s);
        for (int i = 0; i < 3; i++)
            until_stage(&works[i], 1);
        twill_sleep(twill_within(TWILL_US(test_random_below(300))));
        if (k % 2)
            twill_shutdown_request(s, 2);
        CHECK_EQ(twill_shutdown_finish(s, &report), TWILL_OK);
        CHECK_EQ(twill_shutdown_enter(s), TWILL_CLOSED);
        for (int i = 0; i < 3; i++) {
            join(&works[i]);
            CHECK_EQ(works[i].status, TWILL_CLOSED);
            entered += works[i].count;
        }
        CHECK_EQ(report.entered, entered);
        CHECK_EQ(report.entered, report.left_in_drain + report.left_in_cancel + report.stuck);
        CHECK_EQ(report.stuck, 0);
        end(s);
    }
}

/* The last to leave, finish and destroy at the same moment: the object goes, nobody touches it. */
static void leave_late(struct thread *me)
{
    CHECK_EQ(twill_shutdown_enter(me->shutdown), TWILL_OK);
    atomic_store(&me->stage, 1);
    while (!twill_shutdown_requested(me->shutdown))
        twill__yield();
    twill_shutdown_leave(me->shutdown);
}

TEST(the_last_one_out_touches_nothing)
{
    for (int k = 0; k < 150; k++) {
        twill_shutdown *s = quiet();
        struct thread work[2] = {{.count = 0}};
        go(&work[0], leave_late, s);
        go(&work[1], leave_late, s);
        until_stage(&work[0], 1);
        until_stage(&work[1], 1);
        CHECK_EQ(twill_shutdown_finish(s, NULL), TWILL_OK);
        end(s);
        join(&work[0]);
        join(&work[1]);
    }
}

static void leave_at_drain(struct thread *me)
{
    CHECK_EQ(twill_shutdown_enter(me->shutdown), TWILL_OK);
    atomic_store(&me->stage, 1);
    me->status = twill_sleep(twill_until_cancelled(twill_shutdown_drain_token(me->shutdown)));
    twill_shutdown_leave(me->shutdown);
    me->left = twill_now();
}

static void leave_at_cancel(struct thread *me)
{
    CHECK_EQ(twill_shutdown_enter(me->shutdown), TWILL_OK);
    atomic_store(&me->stage, 1);
    me->status = twill_sleep(twill_until_cancelled(twill_shutdown_cancel_token(me->shutdown)));
    me->at = twill_now();
    twill_shutdown_leave(me->shutdown);
    me->left = twill_now();
}

static void leave_when_told(struct thread *me)
{
    CHECK_EQ(twill_shutdown_enter(me->shutdown), TWILL_OK);
    atomic_store(&me->stage, 1);
    until_stage(me, 2);
    twill_shutdown_leave(me->shutdown);
}

/* Each leaves in its window, if the machine lets it. */
static bool each_leaves_in_its_window(twill_ns window)
{
    twill_shutdown *s = make(
        &(twill_shutdown_options){QUIET, .total = 10 * window, .drain = window, .cancel = window});
    twill_shutdown_report report, again;
    struct thread drains = {0}, cancels = {0}, stuck = {0};
    go(&drains, leave_at_drain, s);
    go(&cancels, leave_at_cancel, s);
    go(&stuck, leave_when_told, s);
    until_stage(&drains, 1);
    until_stage(&cancels, 1);
    until_stage(&stuck, 1);
    twill_ns start = twill_now();
    twill_shutdown_request(s, 4);
    CHECK_EQ(twill_shutdown_finish(s, &report), TWILL_TIMEOUT);
    atomic_store(&stuck.stage, 2); /* a late leave is safe */
    join(&drains);
    join(&cancels);
    join(&stuck);
    bool in_time = drains.left <= start + window && cancels.left <= start + 2 * window;
    if (in_time) {
        CHECK_EQ(report.left_in_drain, 1);
        CHECK_EQ(report.left_in_cancel, 1);
    }
    CHECK_EQ(report.status, TWILL_TIMEOUT);
    CHECK_EQ(report.entered, 3);
    CHECK_EQ(report.stuck, 3 - report.left_in_drain - report.left_in_cancel);
    CHECK(report.stuck >= 1);
    CHECK(cancels.at - start >= window);
    CHECK(report.wall >= 2 * window && report.wall < TWILL_SEC(60));
    CHECK_EQ(drains.status, TWILL_CANCELLED);
    CHECK_EQ(cancels.status, TWILL_CANCELLED);
    CHECK_EQ(twill_shutdown_finish(s, &again), TWILL_TIMEOUT);
    CHECK(memcmp(&report, &again, sizeof report) == 0);
    end(s);
    return in_time;
}

TEST(who_left_when)
{
    CHECK(test_in_time(TWILL_MS(200), each_leaves_in_its_window));
}

TEST(the_windows_end_without_finish)
{
    twill_shutdown *s = make(&(twill_shutdown_options){SHORT});
    twill_ns start = twill_now();
    twill_shutdown_request(s, 4);
    CHECK_EQ(twill_sleep(twill_within_or_cancelled(TWILL_SEC(100), twill_shutdown_drain_token(s))),
             TWILL_CANCELLED);
    CHECK_EQ(twill_sleep(twill_within_or_cancelled(TWILL_SEC(100), twill_shutdown_cancel_token(s))),
             TWILL_CANCELLED);
    CHECK(twill_now() - start >= TWILL_MS(200) && twill_now() - start < TWILL_SEC(100));
    CHECK_EQ(twill_shutdown_get_phase(s), TWILL_SHUTDOWN_CANCELLING);
    end(s); /* without finish, too */
}

/* The phases by instants alone, without threads: each change comes at its nanosecond, and not one
   before it; who looks late moves the next window, but not the end. */
static void check_budget(twill_ns late, twill_ns total, twill_ns drain, twill_ns cancel,
                         twill_ns drain_end, twill_ns cancel_end)
{
    twill_ns at = TWILL_SEC(1000), over;
    twill_shutdown_options options = {QUIET, .total = total, .drain = drain, .cancel = cancel};
    CHECK(twill__shutdown_plan(&options));
    twill_shutdown *shutdown = twill__shutdown_make(&options);
    CHECK(!twill__shutdown_step(shutdown, at)); /* nobody has asked */
    CHECK_EQ(shutdown->told, TWILL_SHUTDOWN_RUNNING);
    atomic_store(&shutdown->work, TWILL__WORK_ONE + TWILL__WORK_TOTAL); /* one is inside */
    atomic_store(&shutdown->asked_at, at);
    atomic_store(&shutdown->asked, 1);
    CHECK(twill__shutdown_step(shutdown, at));
    CHECK_EQ(shutdown->told, TWILL_SHUTDOWN_DRAINING);
    CHECK_EQ(twill__shutdown_next(shutdown, true), at + drain_end);
    CHECK(!twill__shutdown_step(shutdown, at + drain_end - 1));
    CHECK(twill__shutdown_step(shutdown, at + drain_end + late));
    CHECK_EQ(shutdown->told, TWILL_SHUTDOWN_CANCELLING);
    over = at + cancel_end + late;
    over = over < shutdown->end ? over : shutdown->end;
    CHECK_EQ(twill__shutdown_next(shutdown, true),
             options.total == TWILL_FOREVER ? 0 : at + options.total);
    CHECK(!twill__shutdown_step(shutdown, over)); /* the hooks are for finish */
    shutdown->finishing = true;
    CHECK(!twill__shutdown_step(shutdown, over - 1));
    CHECK(twill__shutdown_step(shutdown, over));
    CHECK_EQ(shutdown->told, TWILL_SHUTDOWN_HOOKS);
    CHECK_EQ(shutdown->after_drain, 1);
    CHECK_EQ(shutdown->after_cancel, 1);
    TWILL_FREE(((void **)(void *)shutdown)[-1]);
}

TEST(phases_change_at_their_instants)
{
    for (twill_ns late = 0; late < 3; late++) {
        check_budget(late, 0, 0, 0, TWILL_SEC(10), TWILL_SEC(15));
        check_budget(late, 100, 30, 20, 30, 50);
        check_budget(late, 100, 0, 0, 50, 75);
        check_budget(late, 100, 90, 0, 90, 115); /* the end comes first */
        check_budget(late, 100, 0, 60, 50, 110);
        check_budget(late, TWILL_FOREVER, 5, 7, 5, 12);
    }
}

TEST(windows_of_odd_totals)
{
    const twill_ns row[][5] = {/* total, drain, cancel; what they come to */
                               {TWILL_FOREVER, 0, 0, TWILL_FOREVER, TWILL_FOREVER},
                               {1, 0, 0, 1, 1},
                               {3, 0, 0, 1, 3},
                               {10, 11, 0, 10, 2},
                               {10, 0, 20, 5, 20}};
    for (size_t k = 0; k < sizeof row / sizeof row[0]; k++) {
        twill_shutdown_options options = {
            .total = row[k][0], .drain = row[k][1], .cancel = row[k][2]};
        CHECK(twill__shutdown_plan(&options));
        CHECK_EQ(options.total, row[k][0]);
        CHECK_EQ(options.drain, row[k][3]);
        CHECK_EQ(options.cancel, row[k][4]);
    }
}

/* An empty house ends both windows at once, in finish alone; a second press the first one. */
TEST(phases_end_early)
{
    twill_ns at = TWILL_SEC(1000);
    for (int hurry = 0; hurry < 2; hurry++) {
        twill_shutdown_options options = {QUIET};
        CHECK(twill__shutdown_plan(&options));
        twill_shutdown *shutdown = twill__shutdown_make(&options);
        atomic_store(&shutdown->asked_at, at);
        atomic_store(&shutdown->asked, 1);
        CHECK(twill__shutdown_step(shutdown, at));
        CHECK(!twill__shutdown_step(shutdown, at + 1));
        CHECK_EQ(shutdown->told, TWILL_SHUTDOWN_DRAINING);
        if (hurry) {
            atomic_store(&shutdown->hurry, 1);
            CHECK(twill__shutdown_step(shutdown, at + 2));
            CHECK_EQ(shutdown->told, TWILL_SHUTDOWN_CANCELLING);
        }
        shutdown->finishing = true;
        CHECK(twill__shutdown_step(shutdown, at + 3));
        CHECK_EQ(shutdown->told, TWILL_SHUTDOWN_HOOKS);
        TWILL_FREE(((void **)(void *)shutdown)[-1]);
    }
}

TEST(counts_wrap_and_stop)
{
    twill_shutdown *s = quiet();
    twill_shutdown_report report;
    uint64_t half = UINT64_C(1) << 35;
    for (int k = 0; k < 3; k++) { /* as if so many had come and gone */
        atomic_store(&s->work, ((half - 1) << 28) + (k & 1 ? half << 28 : 0));
        CHECK_EQ(twill_shutdown_enter(s), TWILL_OK);
        twill_shutdown_leave(s);
        CHECK_EQ(atomic_load(&s->halves), k + 1);
        CHECK_EQ(twill__work_total(s), half * (uint64_t)(k + 1));
    }
    atomic_store(&s->work, TWILL__WORK_INSIDE);
    CHECK_EQ(twill_shutdown_enter(s), TWILL_TOO_BIG);
    atomic_store(&s->work, 0);
    atomic_store(&s->halves, 0);
    CHECK_EQ(twill_shutdown_finish(s, &report), TWILL_OK);
    CHECK_EQ(report.entered, 0);
    end(s);
}

/* ---- hooks ---- */

struct note { /* atomic: a hook that was passed over is not ordered before the next */
    atomic_int order[8], count, release;
    _Atomic twill_ns until;
    twill_shutdown *shutdown;
    twill_status status, status2;
};

static int note_it(const twill_task *task, int number)
{
    struct note *note = task->context;
    note->order[note->count++] = number;
    note->until = task->until.deadline;
    CHECK(task->worker == UINT_MAX);
    CHECK(task->until.cancel != NULL);
    return 0;
}

static int hook_one(const twill_task *task)
{
    return note_it(task, 1);
}

static int hook_two(const twill_task *task)
{
    return note_it(task, 2);
}

static int hook_fails(const twill_task *task)
{
    note_it(task, 3);
    return 42;
}

static int hook_hangs(const twill_task *task)
{
    struct note *note = task->context;
    note_it(task, 4);
    while (!atomic_load(&note->release))
        (void)twill_sleep(twill_within(TWILL_MS(1)));
    CHECK(twill_task_cancelled(task));
    return 0;
}

static int hook_exits(const twill_task *task)
{
    note_it(task, 5);
#ifdef TWILL_USE_PTHREAD
    pthread_exit(NULL);
#else
    thrd_exit(0);
#endif
}

static int hook_waits_for_limit(const twill_task *task)
{
    CHECK_EQ(twill_sleep((twill_until){0, task->until.cancel}), TWILL_CANCELLED);
    return 0;
}

static int hook_obeys(const twill_task *task)
{
    note_it(task, 6);
    CHECK_EQ(twill_sleep((twill_until){0, task->until.cancel}), TWILL_CANCELLED);
    return 0;
}

TEST(a_hook_that_obeys_its_limit_is_in_time)
{
    static struct note note; /* as below */
    twill_shutdown_step step = {.status = TWILL_LOST};
    for (int k = 0; k < 100 && step.status != TWILL_OK; k++) { /* unless the machine is busy */
        twill_shutdown *s = make(&(twill_shutdown_options){QUIET, .total = TWILL_SEC(30),
                                                           .steps = &step, .steps_capacity = 1});
        CHECK_EQ(twill_shutdown_add(s, "obeys", hook_waits_for_limit, &note, TWILL_MS(20)),
                 TWILL_OK);
        (void)twill_shutdown_finish(s, NULL);
        CHECK(step.wall >= TWILL_MS(20));
        end_with_abandoned(s);
    }
    CHECK_EQ(step.status, TWILL_OK);
}

static struct note late_note; /* an abandoned hook may read it at any time */

static bool each_hook_has_a_status(twill_ns limit)
{
    twill_shutdown_step steps[8];
    char name[] = "one";
    struct note *note = &late_note;
    twill_shutdown *s = make(&(twill_shutdown_options){QUIET, .total = TWILL_SEC(60),
                                                       .steps = steps, .steps_capacity = 5});
    twill_shutdown_report report;
    static const int order[] = {6, 5, 4, 3, 2, 1};
    static const twill_status status[] = {TWILL_OK, TWILL_LOST, TWILL_TIMEOUT, TWILL_FAILED,
                                          TWILL_OK};
    memset(note, 0, sizeof *note);
    CHECK_EQ(twill_shutdown_add(s, name, hook_one, note, 0), TWILL_OK);
    name[0] = 'x';
    CHECK_EQ(twill_shutdown_add(s, NULL, hook_two, note, TWILL_SEC(50)), TWILL_OK);
    CHECK_EQ(twill_shutdown_add(s, "fails", hook_fails, note, 0), TWILL_OK);
    CHECK_EQ(twill_shutdown_add(s, "hangs", hook_hangs, note, limit), TWILL_OK);
    CHECK_EQ(twill_shutdown_add(s, "exits", hook_exits, note, 0), TWILL_OK);
    CHECK_EQ(twill_shutdown_add(s, "obeys", hook_obeys, note, limit), TWILL_OK);
    CHECK_EQ(twill_shutdown_finish(s, &report), TWILL_FAILED);
    CHECK_EQ(report.status, TWILL_FAILED);
    CHECK_EQ(report.hooks, 6);
    CHECK_EQ(report.hooks_failed, 2);
    /* on a busy machine the one that obeys may need more than its 10 ms to come back */
    bool late = steps[0].status == TWILL_TIMEOUT && steps[0].wall >= limit + TWILL_MS(10);
    CHECK_EQ(report.hooks_overran, 1 + late);
    CHECK_EQ(report.steps_stored, 5);
    /* and one that begins after its limit comes among the later ones */
    bool in_time = note->count == 6;
    for (int i = 0; i < 6; i++)
        in_time = in_time && (note->order[i] == order[i]);
    for (int i = 0; i < 5; i++) {
        CHECK_EQ(steps[i].status, i == 0 && late ? TWILL_TIMEOUT : status[i]);
        CHECK_EQ(steps[i].code, status[i] == TWILL_FAILED ? 42 : 0);
        CHECK(steps[i].wall >= 0 && steps[i].wall < TWILL_SEC(60));
    }
    CHECK_STR(steps[0].name, "obeys");
    CHECK_STR(steps[4].name, "");
    CHECK(steps[0].wall >= limit && steps[2].wall >= limit);
    CHECK_EQ(twill_shutdown_add(s, "late", hook_one, note, 0), TWILL_CLOSED);
    atomic_store(&note->release, 1);
    end_with_abandoned(s);
    return in_time;
}

TEST(hooks_run_last_first_and_each_has_a_status)
{
    CHECK(test_in_time(TWILL_MS(100), each_hook_has_a_status));
}

static bool a_hook_takes_the_total(twill_ns total)
{
    twill_shutdown_step steps[3];
    struct note *note = &late_note;
    twill_shutdown *s = make(&(twill_shutdown_options){
        QUIET, .total = total, .drain = 1, .cancel = 1, .steps = steps, .steps_capacity = 3});
    twill_shutdown_report report;
    twill_ns start = twill_now();
    memset(note, 0, sizeof *note);
    CHECK_EQ(twill_shutdown_add(s, "never runs", hook_one, note, 0), TWILL_OK);
    CHECK_EQ(twill_shutdown_add(s, "takes all", hook_hangs, note, TWILL_FOREVER), TWILL_OK);
    CHECK_EQ(twill_shutdown_add(s, "first", hook_two, note, 0), TWILL_OK);
    CHECK_EQ(twill_shutdown_finish(s, &report), TWILL_TIMEOUT);
    bool in_time = note->count == 2 && steps[0].status == TWILL_OK;
    CHECK(report.wall >= total - TWILL_MS(1) && report.wall < TWILL_SEC(60));
    CHECK_EQ(report.hooks, 3);
    if (in_time) {
        CHECK(note->until > start && note->until <= twill_now() + total);
        CHECK_EQ(report.hooks_overran, 2);
    }
    CHECK_EQ(steps[1].status, TWILL_TIMEOUT);
    CHECK_EQ(steps[2].status, TWILL_TIMEOUT);
    atomic_store(&note->release, 1);
    end_with_abandoned(s);
    return in_time;
}

TEST(limits_are_within_the_total)
{
    CHECK(test_in_time(TWILL_MS(100), a_hook_takes_the_total));
}

TEST(hooks_see_the_work)
{
    /* no race is reported, and the counts are there: work before leave comes before the hooks */
    for (int k = 0; k < 50; k++) {
        twill_shutdown *s = quiet();
        struct thread works[2] = {{.count = 0}};
        struct note note = {.count = 0};
        for (int i = 0; i < 2; i++)
            go(&works[i], leave_at_drain, s);
        for (int i = 0; i < 2; i++)
            until_stage(&works[i], 1);
        CHECK_EQ(twill_shutdown_add(s, "", hook_one, &note, 0), TWILL_OK);
        CHECK_EQ(twill_shutdown_finish(s, NULL), TWILL_OK);
        CHECK_EQ(note.count, 1);
        for (int i = 0; i < 2; i++) {
            CHECK_EQ(works[i].status, TWILL_CANCELLED); /* written before leave */
            join(&works[i]);
        }
        end(s);
    }
}

static int hook_asks(const twill_task *task)
{
    struct note *note = task->context;
    note->status = twill_shutdown_finish(note->shutdown, NULL);
    note->status2 = twill_shutdown_destroy(note->shutdown);
    CHECK_EQ(twill_shutdown_add(note->shutdown, "", hook_one, note, 0), TWILL_CLOSED);
    CHECK_EQ(twill_shutdown_wait(note->shutdown, (twill_until){0}), TWILL_OK);
    return 0;
}

TEST(no_deadlock_from_inside)
{
    twill_shutdown *s = quiet();
    struct note note = {.shutdown = s};
    CHECK_EQ(twill_shutdown_add(s, "", hook_asks, &note, 0), TWILL_OK);
    CHECK_EQ(twill_shutdown_finish(s, NULL), TWILL_OK);
    CHECK_EQ(note.status, TWILL_DEADLOCK);
    CHECK_EQ(note.status2, TWILL_DEADLOCK);
    end(s);
}

static void phase_asks(twill_shutdown_phase phase, int reason, const twill_task *task)
{
    struct note *note = task->context;
    CHECK_EQ(reason, 9);
    note->order[note->count++] = (int)phase;
    CHECK_EQ(twill_shutdown_finish(note->shutdown, NULL), TWILL_DEADLOCK);
    CHECK_EQ(twill_shutdown_destroy(note->shutdown), TWILL_DEADLOCK);
}

TEST(each_phase_is_told_once_in_order)
{
    for (int k = 0; k < 50; k++) {
        struct note note = {.count = 0};
        twill_shutdown *s =
            make(&(twill_shutdown_options){QUIET, .on_phase = phase_asks, .context = &note});
        note.shutdown = s;
        twill_shutdown_request(s, 9);
        CHECK_EQ(twill_shutdown_finish(s, NULL), TWILL_OK);
        CHECK_EQ(note.count, 4); /* STOPPED, too, was told before finish came back */
        for (int i = 0; i < 4; i++)
            CHECK_EQ(note.order[i], i + 1);
        end(s);
    }
}

static void phase_hangs(twill_shutdown_phase phase, int reason, const twill_task *task)
{
    struct note *note = task->context;
    (void)reason;
    note->order[phase] = 1;
    while (phase == TWILL_SHUTDOWN_DRAINING && !atomic_load(&note->release))
        (void)twill_sleep(twill_within(TWILL_MS(1)));
}

static bool a_phase_that_hangs(twill_ns total)
{
    struct note *note = &late_note;
    twill_shutdown_report report;
    memset(note, 0, sizeof *note);
    twill_shutdown *s = make(
        &(twill_shutdown_options){QUIET, .total = total, .on_phase = phase_hangs, .context = note});
    CHECK_EQ(twill_shutdown_add(s, "", hook_one, note, 0), TWILL_OK);
    CHECK_EQ(twill_shutdown_finish(s, &report), TWILL_TIMEOUT);
    bool in_time =
        note->count == 1 && report.hooks_overran == 0; /* the hook has run all the same */
    if (in_time) {
        CHECK_EQ(report.hooks_failed, 0);
        CHECK(note->order[TWILL_SHUTDOWN_CANCELLING] && note->order[TWILL_SHUTDOWN_STOPPED]);
    }
    atomic_store(&note->release, 1);
    end_with_abandoned(s);
    return in_time;
}

TEST(on_phase_may_hang)
{
    CHECK(test_in_time(TWILL_MS(200), a_phase_that_hangs));
}

static void every_phase_hangs(twill_shutdown_phase phase, int reason, const twill_task *task)
{
    struct note *note = task->context;
    (void)reason;
    note->order[phase] = 1;
    while (!atomic_load(&note->release))
        (void)twill_sleep(twill_within(TWILL_MS(1)));
}

/* Phases that hang one after the other: whether the hook and each of them had its time. */
static bool phases_that_hang(twill_ns total,
                             void (*on_phase)(twill_shutdown_phase, int, const twill_task *))
{
    struct note *note = &late_note;
    twill_shutdown_report report;
    memset(note, 0, sizeof *note);
    twill_shutdown *s = make(&(twill_shutdown_options){
        QUIET, .total = total, .drain = 1, .cancel = 1, .on_phase = on_phase, .context = note});
    CHECK_EQ(twill_shutdown_add(s, "", hook_one, note, 0), TWILL_OK);
    CHECK_EQ(twill_shutdown_finish(s, &report), TWILL_TIMEOUT);
    CHECK(report.wall < TWILL_SEC(60));
    CHECK_EQ(report.hooks_failed, 0);
    bool in_time = note->count == 1 && report.hooks_overran == 0;
    for (int phase = TWILL_SHUTDOWN_DRAINING; phase <= TWILL_SHUTDOWN_STOPPED; phase++)
        in_time = in_time && note->order[phase] == 1;
    atomic_store(&note->release, 1);
    end_with_abandoned(s);
    return in_time;
}

static bool each_phase_hangs(twill_ns total)
{
    return phases_that_hang(total, every_phase_hangs);
}

/* Each takes its thread with it: the hook runs, and finish comes back in its time. */
TEST(each_phase_may_hang)
{
    CHECK(test_in_time(TWILL_MS(400), each_phase_hangs));
}

static void phase_ends_or_hangs(twill_shutdown_phase phase, int reason, const twill_task *task)
{
    if (phase != TWILL_SHUTDOWN_DRAINING) {
        every_phase_hangs(phase, reason, task);
        return;
    }
    ((struct note *)task->context)->order[phase] = 1;
#ifdef TWILL_USE_PTHREAD
    pthread_exit(NULL);
#else
    thrd_exit(0);
#endif
}

static bool one_ends_the_others_hang(twill_ns total)
{
    return phases_that_hang(total, phase_ends_or_hangs);
}

/* The thread after one that ended may hang: the hook runs all the same, and has its time. */
TEST(a_phase_hangs_after_one_that_ended)
{
    CHECK(test_in_time(TWILL_MS(300), one_ends_the_others_hang));
}

static void phase_until(twill_shutdown_phase phase, int reason, const twill_task *task)
{
    struct note *note = task->context;
    (void)reason;
    note->order[phase] = task->until.deadline == 0;
}

TEST(a_total_without_end)
{
    struct note note = {.count = 0};
    twill_shutdown_step steps[2];
    twill_shutdown *s =
        make(&(twill_shutdown_options){QUIET, .total = TWILL_FOREVER, .on_phase = phase_until,
                                       .context = &note, .steps = steps, .steps_capacity = 2});
    CHECK_EQ(twill_shutdown_add(s, "", hook_one, &note, 0), TWILL_OK);
    CHECK_EQ(twill_shutdown_add(s, "", hook_two, &note, TWILL_SEC(5)), TWILL_OK);
    CHECK_EQ(twill_shutdown_finish(s, NULL), TWILL_OK);
    CHECK_EQ(note.count, 2);
    CHECK_EQ(note.until, 0); /* of the last that ran: it has no limit */
    CHECK_EQ(steps[0].status + steps[1].status, TWILL_OK);
    for (int phase = TWILL_SHUTDOWN_DRAINING; phase <= TWILL_SHUTDOWN_STOPPED; phase++)
        CHECK_EQ(note.order[phase], 1);
    end(s);
}

/* finish comes when the total is over: it runs no hook, and says so. */
TEST(a_late_finish)
{
    struct note note = {.count = 0};
    twill_shutdown_report report;
    twill_shutdown *s = make(&(twill_shutdown_options){QUIET, .total = TWILL_MS(1)});
    CHECK_EQ(twill_shutdown_add(s, "", hook_one, &note, 0), TWILL_OK);
    twill_shutdown_request(s, 3);
    twill_sleep(twill_within(TWILL_MS(5)));
    CHECK_EQ(twill_shutdown_finish(s, &report), TWILL_TIMEOUT);
    CHECK_EQ(report.hooks, 1);
    CHECK_EQ(report.hooks_overran, 1);
    CHECK_EQ(note.count, 0);
    end(s);
}

static void finish_there(struct thread *me)
{
    me->status = twill_shutdown_finish(me->shutdown, NULL);
}

static int hook_waits(const twill_task *task)
{
    struct note *note = task->context;
    atomic_store(&note->release, 1);
    while (atomic_load(&note->release) != 2)
        (void)twill_sleep(twill_within(TWILL_US(100)));
    return 0;
}

TEST(the_second_finish_is_told)
{
    twill_shutdown *s = quiet();
    struct thread finishes = {0};
    struct note note = {.count = 0};
    CHECK_EQ(twill_shutdown_add(s, "", hook_waits, &note, 0), TWILL_OK);
    go(&finishes, finish_there, s);
    while (atomic_load(&note.release) != 1)
        (void)twill_sleep(twill_within(TWILL_US(100)));
    CHECK_EQ(twill_shutdown_finish(s, NULL), TWILL_BUSY);
    CHECK_EQ(twill_shutdown_destroy(s), TWILL_BUSY);
    atomic_store(&note.release, 2);
    join(&finishes);
    CHECK_EQ(finishes.status, TWILL_OK);
    CHECK_EQ(twill_shutdown_finish(s, NULL), TWILL_OK);
    end(s);
}

/* ---- hooks of the tokens ---- */

static void count_fire(int reason, const twill_task *task)
{
    CHECK_EQ(reason, 5);
    atomic_fetch_add((atomic_int *)task->context, 1);
}

TEST(hooks_of_the_tokens_run)
{
    twill_shutdown *s = quiet();
    atomic_int fired = 0;
    twill_cancel_hook hooks[2] = {{.fn = count_fire, .context = &fired},
                                  {.fn = count_fire, .context = &fired}};
    twill_cancel below;
    twill_cancel_init(&below, twill_shutdown_cancel_token(s));
    twill_cancel_add_hook(twill_shutdown_drain_token(s), &hooks[0]);
    twill_cancel_add_hook(&below, &hooks[1]);
    twill_shutdown_request(s, 5);
    CHECK_EQ(twill_shutdown_finish(s, NULL), TWILL_OK);
    CHECK_EQ(atomic_load(&fired), 2);
    twill_cancel_detach(&below);
    end(s);
}

/* ---- failures ---- */

static int lowest_free_descriptor(void)
{
    int descriptor = dup(2);
    close(descriptor);
    return descriptor;
}

TEST(create_fails_and_leaves_nothing)
{
    long before = faults_live();
    int lowest = lowest_free_descriptor();
    for (unsigned long k = 1; k <= 2; k++) {
        twill_shutdown *s;
        faults_fail_alloc(k);
        CHECK_EQ(twill_shutdown_create(&s, &(twill_shutdown_options){QUIET}), TWILL_NO_MEMORY);
        faults_fail_alloc(0);
        CHECK_PTR(s, NULL);
        faults_fail_thread(k);
        CHECK_EQ(twill_shutdown_create(&s, &(twill_shutdown_options){QUIET}), TWILL_NO_THREAD);
        faults_fail_thread(0);
        CHECK_PTR(s, NULL);
        CHECK_EQ(faults_live(), before);
        CHECK_EQ(lowest_free_descriptor(), lowest);
    }
    end(quiet());
    CHECK_EQ(faults_live(), before);
}

#if TWILL__SIGNALS
TEST(create_without_descriptors)
{
    long before = faults_live();
    struct rlimit limit, less;
    int free_fd = dup(0);
    close(free_fd);
    if (!CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0))
        return;
    for (int k = 0; k < 4; k++) {
        twill_shutdown *s;
        less = limit;
        less.rlim_cur = (rlim_t)(free_fd + k);
        CHECK(setrlimit(RLIMIT_NOFILE, &less) == 0);
        CHECK_EQ(twill_shutdown_create(&s, &(twill_shutdown_options){QUIET}), TWILL_FAILED);
        CHECK_PTR(s, NULL);
        CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
        CHECK_EQ(faults_live(), before);
        CHECK_EQ(dup(0), free_fd); /* none is left open */
        close(free_fd);
    }
}
#endif

TEST(add_fails)
{
    twill_shutdown *s = quiet();
    CHECK_EQ(twill_shutdown_add(s, "", NULL, NULL, 0), TWILL_INVALID);
    CHECK_EQ(twill_shutdown_add(s, "", hook_one, NULL, -1), TWILL_INVALID);
    faults_fail_alloc(1);
    CHECK_EQ(twill_shutdown_add(s, "", hook_one, NULL, 0), TWILL_NO_MEMORY);
    faults_fail_alloc(0);
    end(s);
}

TEST(hooks_without_a_thread)
{
    for (int memory = 0; memory < 2; memory++) {
        twill_shutdown_step steps[4];
        static struct note note;
        twill_shutdown *s = make(&(twill_shutdown_options){QUIET, .total = TWILL_SEC(10),
                                                           .steps = steps, .steps_capacity = 4});
        twill_shutdown_report report;
        memset(&note, 0, sizeof note);
        note.shutdown = s;
        CHECK_EQ(twill_shutdown_add(s, "asks", hook_asks, &note, 0), TWILL_OK);
        CHECK_EQ(twill_shutdown_add(s, "fails", hook_fails, &note, 0), TWILL_OK);
        CHECK_EQ(twill_shutdown_add(s, "one", hook_one, &note, 0), TWILL_OK);
        CHECK_EQ(twill_shutdown_add(s, "hangs", hook_hangs, &note, TWILL_MS(20)), TWILL_OK);
        if (memory)
            faults_fail_alloc_from(1);
        else
            faults_fail_thread(1);
        CHECK_EQ(twill_shutdown_finish(s, &report), TWILL_FAILED);
        faults_fail_alloc(0);
        faults_fail_thread(0);
        CHECK_EQ(report.hooks, 4);
        CHECK_EQ(report.hooks_failed, 1);
        CHECK_EQ(report.hooks_overran, 1);
        CHECK_EQ(steps[0].status, TWILL_TIMEOUT);
        CHECK_EQ(steps[1].status, TWILL_NO_THREAD);
        CHECK_EQ(steps[2].status, TWILL_FAILED);
        CHECK_EQ(steps[2].code, 42);
        CHECK_EQ(steps[3].status, TWILL_NO_THREAD);
        CHECK_EQ(note.status, TWILL_DEADLOCK);
        CHECK_EQ(note.status2, TWILL_DEADLOCK);
        atomic_store(&note.release, 1);
        end_with_abandoned(s);
    }
}

/* A phase hangs, and no other thread can be had: the rest is told in the thread of finish. */
static bool a_phase_hangs_without_a_thread(twill_ns total)
{
    struct note *note = &late_note;
    memset(note, 0, sizeof *note);
    twill_shutdown *s = make(&(twill_shutdown_options){
        QUIET, .total = total, .drain = 1, .cancel = 1, .on_phase = phase_hangs, .context = note});
    CHECK_EQ(twill_shutdown_add(s, "", hook_one, note, 0), TWILL_OK);
    faults_fail_thread(1);
    CHECK_EQ(twill_shutdown_finish(s, NULL), TWILL_TIMEOUT);
    bool in_time = note->count == 1;
    for (int phase = TWILL_SHUTDOWN_DRAINING; phase <= TWILL_SHUTDOWN_STOPPED; phase++)
        in_time = in_time && note->order[phase] == 1;
    pid_t child = fork(); /* the copy has no thread to forget, either */
    if (child == 0) {
        CHECK_EQ(twill_shutdown_destroy(s), TWILL_FORKED);
        _exit(harness_failures ? 1 : 6);
    }
    int status = -1;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 6);
    faults_fail_thread(0);
    atomic_store(&note->release, 1);
    end_with_abandoned(s);
    return in_time;
}

TEST(phases_without_a_thread)
{
    CHECK(test_in_time(TWILL_SEC(1), a_phase_hangs_without_a_thread));
}

static void first_phase_exits(twill_shutdown_phase phase, int reason, const twill_task *task)
{
    struct note *note = task->context;
    (void)reason;
    note->order[note->count++] = (int)phase;
    if (phase != TWILL_SHUTDOWN_DRAINING)
        return;
#ifdef TWILL_USE_PTHREAD
    pthread_exit(NULL);
#else
    thrd_exit(0);
#endif
}

/* The first phase ends the only thread, and there is no hook: all are told before finish
   returns. */
TEST(each_phase_is_told_without_a_thread)
{
    static struct note note;
    twill_shutdown *s =
        make(&(twill_shutdown_options){QUIET, .on_phase = first_phase_exits, .context = &note});
    memset(&note, 0, sizeof note);
    faults_fail_thread(1);
    CHECK_EQ(twill_shutdown_finish(s, NULL), TWILL_OK);
    CHECK_EQ(note.count, 4);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(note.order[i], i + 1);
    faults_fail_thread(0);
    end(s);
}

static void phase_exits(twill_shutdown_phase phase, int reason, const twill_task *task)
{
    struct note *note = task->context;
    (void)reason;
    note->order[phase]++;
    if (phase == TWILL_SHUTDOWN_DRAINING)
        while (!atomic_load(&note->release))
            (void)twill_sleep(twill_within(TWILL_MS(1)));
    if (phase != TWILL_SHUTDOWN_HOOKS)
        return;
#ifdef TWILL_USE_PTHREAD
    pthread_exit(NULL);
#else
    thrd_exit(0);
#endif
}

/* on_phase ends the thread of finish, the only one: it is no hook, and another finish goes on. */
TEST(a_phase_ends_the_finisher)
{
    static struct note note;
    twill_shutdown *s =
        make(&(twill_shutdown_options){QUIET, .total = TWILL_SEC(1), .drain = 1, .cancel = 1,
                                       .on_phase = phase_exits, .context = &note});
    twill_shutdown_report report;
    struct thread finishes = {.status = TWILL_BUSY};
    memset(&note, 0, sizeof note);
    CHECK_EQ(twill_shutdown_add(s, "", hook_one, &note, 0), TWILL_OK);
    faults_fail_thread(2); /* the first is the one that finishes */
    go(&finishes, finish_there, s);
    join(&finishes);
    faults_fail_thread(0);
    CHECK_EQ(finishes.status, TWILL_BUSY); /* it never came back */
    CHECK_EQ(twill_shutdown_finish(s, &report), TWILL_TIMEOUT);
    CHECK_EQ(report.hooks_failed, 0);
    CHECK_EQ(note.order[TWILL_SHUTDOWN_HOOKS], 1);
    CHECK_EQ(note.order[TWILL_SHUTDOWN_STOPPED], 1);
    atomic_store(&note.release, 1);
    end_with_abandoned(s);
}

/* The only thread that was left ends in a hook: another finish goes on where it stopped. */
static bool a_finisher_ends(twill_ns limit)
{
    twill_shutdown_step steps[4];
    struct note *note = &late_note;
    memset(note, 0, sizeof *note);
    twill_shutdown *s = make(&(twill_shutdown_options){QUIET, .total = TWILL_SEC(60),
                                                       .steps = steps, .steps_capacity = 4});
    twill_shutdown_report report;
    struct thread finishes = {0};
    CHECK_EQ(twill_shutdown_add(s, "one", hook_one, note, 0), TWILL_OK);
    CHECK_EQ(twill_shutdown_add(s, "exits", hook_exits, note, 0), TWILL_OK);
    CHECK_EQ(twill_shutdown_add(s, "hangs", hook_hangs, note, limit), TWILL_OK);
    faults_fail_thread(2); /* the first is the one that finishes */
    go(&finishes, finish_there, s);
    join(&finishes);
    faults_fail_thread(0);
    CHECK_EQ(twill_shutdown_finish(s, &report), TWILL_FAILED);
    /* what begins after its limit comes among the others, or its thread takes the next */
    bool in_time = note->count == 3 && note->order[0] == 4;
    CHECK_EQ(report.hooks, 3);
    CHECK_EQ(report.steps_stored, 3);
    CHECK_STR(steps[1].name, "exits");
    if (in_time) {
        CHECK_EQ(report.hooks_failed, 1);
        CHECK_EQ(report.hooks_overran, 1);
        CHECK_EQ(steps[0].status, TWILL_TIMEOUT);
        CHECK_EQ(steps[1].status, TWILL_LOST);
        CHECK(steps[1].wall >= 0 && steps[1].wall < TWILL_SEC(60));
        CHECK_EQ(steps[2].status, TWILL_OK);
        CHECK_EQ(note->order[2], 1);
    }
    atomic_store(&note->release, 1);
    end_with_abandoned(s);
    return in_time;
}

TEST(a_finisher_that_ends_is_replaced)
{
    CHECK(test_in_time(TWILL_MS(20), a_finisher_ends));
}

/* ---- a fork ---- */

TEST(a_child_has_nothing_of_it)
{
    twill_shutdown *s = quiet();
    struct note note = {.count = 0};
    int status = -1;
    pid_t child;
    CHECK_EQ(twill_shutdown_add(s, "", hook_one, &note, 0), TWILL_OK);
    child = fork();
    if (child == 0) {
        twill_shutdown_request(s, 1);
        CHECK(!twill_shutdown_requested(s));
        CHECK_EQ(twill_shutdown_get_phase(s), TWILL_SHUTDOWN_RUNNING);
        CHECK_EQ(twill_shutdown_enter(s), TWILL_FORKED);
        twill_shutdown_leave(s);
        CHECK_EQ(twill_shutdown_add(s, "", hook_one, &note, 0), TWILL_FORKED);
        CHECK_EQ(twill_shutdown_wait(s, (twill_until){0}), TWILL_FORKED);
        CHECK_EQ(twill_shutdown_finish(s, NULL), TWILL_FORKED);
        CHECK_EQ(twill_shutdown_fd(s), -1);
        CHECK_EQ(twill_shutdown_destroy(s), TWILL_FORKED);
        CHECK_EQ(faults_live(), 0);
#if !defined TWILL__UNDER_TSAN && !defined __SANITIZE_ADDRESS__
        /* sanitizers know nothing of new threads in a child of many */
        s = quiet(); /* a child may have its own */
        CHECK_EQ(twill_shutdown_finish(s, NULL), TWILL_OK);
        end(s);
#endif
        _exit(7);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    CHECK(!twill_shutdown_requested(s));
    CHECK_EQ(twill_shutdown_finish(s, NULL), TWILL_OK);
    CHECK_EQ(note.count, 1);
    end(s);
}

/* ---- every wait of the library ends ---- */

struct waits {
    struct thread thread;
    twill_queue *full, *empty;
    twill_rate_limiter *limiter;
    twill_bulkhead *bulkhead;
    int kind;
};

static void wait_somehow(struct thread *me)
{
    struct waits *waits = (struct waits *)(void *)me;
    twill_until until = {0, twill_shutdown_cancel_token(me->shutdown)};
    int item = 1;
    size_t chosen, count;
    twill_retry retry;
    twill_queue_case cases[2] = {{.queue = waits->full, .push = true, .item = &item},
                                 {.queue = waits->empty, .item = &item}};
    atomic_store(&me->stage, 1);
    switch (waits->kind) {
    case 0:
        me->status = twill_queue_push_until(waits->full, &item, until);
        break;
    case 1:
        me->status = twill_queue_pop_until(waits->empty, &item, until);
        break;
    case 2:
        me->status = twill_queue_select_until(cases, 2, TWILL_SELECT_FAIR, &chosen, until);
        break;
    case 3:
        me->status = twill_queue_join_until(waits->full, until);
        break;
    case 4:
        me->status = twill_queue_pop_batch_until(waits->empty, &item, 1, &count, 1, until);
        break;
    case 5:
        me->status = twill_sleep(until);
        break;
    case 6:
        me->status = twill_rate_limiter_acquire_until(waits->limiter, 1, until);
        break;
    case 7:
        me->status = twill_bulkhead_enter_until(waits->bulkhead, until);
        break;
    case 8:
        CHECK_EQ(twill_retry_init(&retry, &(twill_retry_options){.base = TWILL_SEC(60),
                                                                 .cap = TWILL_SEC(60),
                                                                 .jitter = TWILL_JITTER_NONE,
                                                                 .until = until}),
                 TWILL_OK);
        CHECK(twill_retry_next(&retry));
        twill_retry_result(&retry, 1);
        me->status = twill_retry_next(&retry) ? TWILL_OK : TWILL_CANCELLED;
        break;
    default:
        me->status = twill_sleep(twill_within_or_cancelled(TWILL_SEC(60), until.cancel));
        break;
    }
    me->at = twill_now();
}

TEST(every_wait_ends_at_the_cancel_instant)
{
    enum { KINDS = 10 };
    twill_rate_limiter limiter;
    twill_bulkhead bulkhead;
    twill_shutdown *s = make(&(twill_shutdown_options){SHORT});
    struct waits waits[KINDS] = {{.kind = 0}};
    twill_queue *full, *empty;
    int item = 1;
    twill_ns first = TWILL_FOREVER, last = 0, asked;
    CHECK_EQ(twill_queue_create(&full, sizeof item, &(twill_queue_options){.capacity = 1}), 0);
    CHECK_EQ(twill_queue_create(&empty, sizeof item, &(twill_queue_options){.capacity = 1}), 0);
    CHECK_EQ(twill_queue_push(full, &item), TWILL_OK);
    CHECK_EQ(twill_rate_limiter_init_per_second(&limiter, 0.001, 1), TWILL_OK);
    CHECK_EQ(twill_rate_limiter_acquire(&limiter, 1), TWILL_OK);
    CHECK_EQ(twill_bulkhead_init(&bulkhead, 1, KINDS), TWILL_OK);
    CHECK_EQ(twill_bulkhead_enter(&bulkhead), TWILL_OK);
    for (int i = 0; i < KINDS; i++) {
        waits[i].kind = i;
        waits[i].full = full;
        waits[i].empty = empty;
        waits[i].limiter = &limiter;
        waits[i].bulkhead = &bulkhead;
        go(&waits[i].thread, wait_somehow, s);
    }
    for (int i = 0; i < KINDS; i++)
        until_stage(&waits[i].thread, 1);
    asked = twill_now();
    twill_shutdown_request(s, 3);
    for (int i = 0; i < KINDS; i++) {
        join(&waits[i].thread);
        CHECK_EQ(waits[i].thread.status, TWILL_CANCELLED);
        first = waits[i].thread.at < first ? waits[i].thread.at : first;
        last = waits[i].thread.at > last ? waits[i].thread.at : last;
    }
    CHECK(first - asked >= TWILL_MS(199));
    CHECK(last - first < TWILL_SEC(30));
    CHECK_EQ(twill_bulkhead_leave(&bulkhead), TWILL_OK);
    CHECK_EQ(twill_shutdown_finish(s, NULL), TWILL_OK);
    end(s);
    twill_queue_destroy(full);
    twill_queue_destroy(empty);
}

/* R98: a map under the token loses nothing: each item has a status. The fourth asks for the end. */
static int asks_and_waits(const void *in, void *out, const twill_task *task)
{
    (void)in;
    if (task->index == 3)
        twill_shutdown_request(task->context, 3);
    if (task->index >= 3) {
        CHECK_EQ(twill_sleep(twill_until_cancelled(task->until.cancel)), TWILL_CANCELLED);
        return twill_task_skip(task);
    }
    *(int *)out = 1;
    return 0;
}

TEST(a_map_keeps_what_is_done)
{
    twill_shutdown *s = make(&(twill_shutdown_options){SHORT});
    int in[12] = {0}, out[12] = {0};
    twill_status statuses[12], status;
    twill_report report;
    size_t done = 0, not_done = 0;
    status = twill_parallel_map(
        in, sizeof in[0], out, sizeof out[0], 12, asks_and_waits,
        &(twill_parallel_options){.run.workers = 1,
                                  .run.context = s,
                                  .run.until.cancel = twill_shutdown_cancel_token(s),
                                  .run.statuses = statuses,
                                  .run.report = &report});
    CHECK_EQ(status, TWILL_CANCELLED);
    for (int i = 0; i < 12; i++) {
        done += statuses[i] == TWILL_OK;
        not_done += statuses[i] == TWILL_CANCELLED;
        CHECK_EQ(out[i], statuses[i] == TWILL_OK);
    }
    CHECK_EQ(done + not_done, 12);
    CHECK(done >= 1 && not_done >= 1);
    CHECK_EQ(report.done, done);
    end(s);
}

/* ---- two at once ---- */

TEST(any_number_without_signals)
{
    twill_shutdown *s[3];
    for (int i = 0; i < 3; i++)
        s[i] = quiet();
    twill_shutdown_request(s[1], 5);
    CHECK(!twill_shutdown_requested(s[0]) && twill_shutdown_requested(s[1]) &&
          !twill_shutdown_requested(s[2]));
    for (int i = 0; i < 3; i++)
        end(s[i]);
}

HARNESS_MAIN
