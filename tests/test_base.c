/* test_base.c: the vocabulary: statuses, durations and instants, how long a wait may last,
   sleeping, what a callback may say. Compiled as plain C11: no feature-test macro, as users may
   have it. */
#include "harness.h"

#define TWILL_IMPLEMENTATION
#include "twill_parallel_map.h"

#define LOOSE TWILL_SEC(50) /* "soon" on a loaded machine; a hang is far longer */

static void go(twill__thrd *thread, void (*fn)(void *), void *arg)
{
    memset(thread, 0, sizeof *thread);
    thread->fn = fn;
    thread->arg = arg;
    thread->cpu = UINT_MAX;
    if (!CHECK(twill__thread_start(thread)))
        abort();
}

/* ---- statuses ---- */

TEST(status_table)
{
    static const struct {
        twill_status status;
        int value;
        const char *name, *text;
    } all[] = {
        {TWILL_OK, 0, "TWILL_OK", "success"},
        {TWILL_FAILED, 1, "TWILL_FAILED", "a callback returned a code other than 0"},
        {TWILL_TIMEOUT, 2, "TWILL_TIMEOUT", "the deadline passed"},
        {TWILL_CANCELLED, 3, "TWILL_CANCELLED", "the cancel token fired"},
        {TWILL_CLOSED, 4, "TWILL_CLOSED", "closed, and no more will come"},
        {TWILL_FULL, 5, "TWILL_FULL", "no room now"},
        {TWILL_EMPTY, 6, "TWILL_EMPTY", "nothing there now"},
        {TWILL_DROPPED, 7, "TWILL_DROPPED", "dropped by the overflow policy"},
        {TWILL_LOST, 8, "TWILL_LOST", "nobody will ever say how it ended"},
        {TWILL_INVALID, 32, "TWILL_INVALID", "an argument or option is not valid"},
        {TWILL_NO_MEMORY, 33, "TWILL_NO_MEMORY", "not enough memory"},
        {TWILL_NO_THREAD, 34, "TWILL_NO_THREAD", "a thread could not be started"},
        {TWILL_BUSY, 35, "TWILL_BUSY", "in use"},
        {TWILL_TOO_BIG, 36, "TWILL_TOO_BIG", "too big for a limit or for size_t"},
        {TWILL_DEADLOCK, 37, "TWILL_DEADLOCK", "this wait could never end"},
        {TWILL_STALE, 38, "TWILL_STALE", "the handle's object is gone"},
        {TWILL_FORKED, 39, "TWILL_FORKED", "made by the parent process, before a fork"},
    };
    size_t known = 0;

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        CHECK_EQ((int)all[i].status, all[i].value);
        CHECK_STR(twill_status_name(all[i].status), all[i].name);
        CHECK_STR(twill_status_text(all[i].status), all[i].text);
    }
    for (int value = 0; value < 1000; value++) /* and no status that this list does not know */
        known += strcmp(twill_status_name((twill_status)value), "unknown status") != 0;
    CHECK_EQ(known, sizeof all / sizeof all[0]);
}

TEST(status_unknown)
{
    static const int values[] = {9, 31, 40, 255, INT_MAX, -1, INT_MIN};

    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        CHECK_STR(twill_status_name((twill_status)values[i]), "unknown status");
        CHECK_STR(twill_status_text((twill_status)values[i]), "unknown status");
    }
}

/* ---- durations and instants ---- */

TEST(time_macros)
{
    _Static_assert(_Generic(TWILL_US(1), twill_ns : 1, default : 0),
                   "a duration has the type of durations");
    _Static_assert(_Generic(TWILL_SEC(1), twill_ns : 1, default : 0),
                   "a duration has the type of durations");
    CHECK_EQ(TWILL_US(3), 3000);
    CHECK_EQ(TWILL_MS(3), 3000000);
    CHECK_EQ(TWILL_SEC(3), INT64_C(3000000000));
    CHECK_EQ(TWILL_MS(-3), -3000000);
    CHECK_EQ(TWILL_SEC(INT_MAX),
             INT64_C(2147483647000000000)); /* an int is widened before the product */
    CHECK_EQ(TWILL_US(1 + 1), 2000);
    CHECK_EQ(TWILL_SEC(0.5), 500000000); /* not cut to whole seconds before the product */
    CHECK_EQ(TWILL_MS(2.5), 2500000);
    CHECK_EQ(TWILL_MS(sizeof(int) / sizeof(int)), 1000000);
    CHECK_EQ(TWILL_FOREVER, INT64_MAX);
}

TEST(now_never_goes_back)
{
    twill_ns last = twill_now(), first = last;

    CHECK(first > 0);
    for (int i = 0; i < 20000; i++) {
        twill_ns now = twill_now();
        if (now < last)
            CHECK_EQ(now, last);
        last = now;
    }
    CHECK(last > first);
}

TEST(cpus_at_least_one)
{
    unsigned count = twill_cpus();

    CHECK(count >= 1);
    CHECK_EQ(twill_cpus(), count);
}

/* ---- how long ---- */

TEST(within_is_from_now)
{
    twill_ns before = twill_now();
    twill_until until = twill_within(TWILL_MS(5));
    twill_ns after = twill_now();

    CHECK(until.deadline >= before + TWILL_MS(5));
    CHECK(until.deadline <= after + TWILL_MS(5));
    CHECK_PTR(until.cancel, NULL);
}

TEST(within_nothing_is_over)
{
    static const twill_ns durations[] = {0, -1, -TWILL_SEC(3), INT64_MIN};

    for (size_t i = 0; i < sizeof durations / sizeof durations[0]; i++) {
        twill_until until = twill_within(durations[i]);
        CHECK(until.deadline > 0); /* 0 would mean for ever */
        CHECK(until.deadline <= twill_now());
        CHECK(twill__expired(until.deadline));
    }
}

TEST(within_saturates)
{
    twill_ns now = twill_now();
    const twill_ns durations[] = {TWILL_FOREVER - 1, TWILL_FOREVER - now, TWILL_FOREVER - now - 1,
                                  TWILL_FOREVER - now + 1, TWILL_FOREVER / 2};

    CHECK_EQ(twill_within(TWILL_FOREVER).deadline, 0);
    for (size_t i = 0; i < sizeof durations / sizeof durations[0]; i++) {
        twill_until until = twill_within(durations[i]);
        CHECK(until.deadline > now);
        CHECK(until.deadline < TWILL_FOREVER); /* a deadline, though a far one */
        CHECK(!twill__expired(until.deadline));
    }
}

TEST(until_forms)
{
    twill_cancel token = {{0}};
    twill_until until = twill_until_cancelled(&token);

    CHECK_EQ(until.deadline, 0);
    CHECK_PTR(until.cancel, &token);
    until = twill_within_or_cancelled(TWILL_FOREVER, &token);
    CHECK_EQ(until.deadline, 0);
    CHECK_PTR(until.cancel, &token);
    until = twill_within_or_cancelled(TWILL_SEC(1), &token);
    CHECK(until.deadline > twill_now());
    CHECK_PTR(until.cancel, &token);
    until = twill_within_or_cancelled(0, &token);
    CHECK(until.deadline > 0 && until.deadline <= twill_now());
}

TEST(expired_deadlines)
{
    CHECK(!twill__expired(0));
    CHECK(!twill__expired(TWILL_FOREVER));
    CHECK(!twill__expired(twill_now() + TWILL_SEC(100)));
    CHECK(twill__expired(1));
    CHECK(twill__expired(-1));
    CHECK(twill__expired(INT64_MIN));
}

/* ---- sleeping ---- */

TEST(sleep_lasts_at_least_its_time)
{
    static const twill_ns durations[] = {1,           100,         TWILL_US(3), TWILL_US(80),
                                         TWILL_MS(1), TWILL_MS(30)};

    for (size_t i = 0; i < sizeof durations / sizeof durations[0]; i++) {
        twill_until until = twill_within(durations[i]);
        CHECK_EQ(twill_sleep(until), TWILL_OK);
        CHECK(twill_now() >= until.deadline);
        CHECK(twill_now() < until.deadline + LOOSE);
    }
}

static void fire_later(void *arg)
{
    twill_sleep(twill_within(TWILL_MS(20)));
    twill_cancel_fire(arg, 4);
}

TEST(sleep_ends_with_the_token)
{
    twill_cancel token = {{0}};
    twill_ns start = twill_now();
    twill__thrd firer;

    go(&firer, fire_later, &token);
    CHECK_EQ(twill_sleep(twill_within_or_cancelled(TWILL_SEC(100), &token)), TWILL_CANCELLED);
    CHECK(twill_now() - start >= TWILL_MS(20));
    CHECK(twill_now() - start < TWILL_MS(20) + LOOSE);
    twill__thread_join(&firer);
    CHECK_EQ(twill_cancel_reason(&token), 4);
}

TEST(sleep_when_all_is_over)
{
    twill_cancel fired = {{0}}, asked = {{0}}, quiet = {{0}};
    twill_ns start = twill_now();
    twill_until both;

    twill_cancel_fire(&fired, 1);
    twill_cancel_request(&asked, 1);
    both.cancel = &fired;
    both.deadline = 1; /* the sleep is done: success goes first */
    CHECK_EQ(twill_sleep(both), TWILL_OK);
    both.deadline = -5;
    CHECK_EQ(twill_sleep(both), TWILL_OK);
    both.deadline = 0;
    CHECK_EQ(twill_sleep(both), TWILL_CANCELLED);
    both.deadline = twill_now() + TWILL_SEC(100);
    CHECK_EQ(twill_sleep(both), TWILL_CANCELLED);
    CHECK_EQ(twill_sleep(twill_within_or_cancelled(TWILL_SEC(100), &asked)), TWILL_CANCELLED);
    CHECK_EQ(twill_sleep(twill_within_or_cancelled(0, &quiet)), TWILL_OK);
    CHECK_EQ(twill_sleep(twill_within(-TWILL_SEC(1))), TWILL_OK);
    CHECK(twill_now() - start < LOOSE);
}

TEST(sleep_for_ever_is_refused)
{
    twill_until nothing = {0, NULL};

    CHECK_EQ(twill_sleep(nothing), TWILL_DEADLOCK);
    CHECK_EQ(twill_sleep(twill_within(TWILL_FOREVER)), TWILL_DEADLOCK);
    nothing.deadline = TWILL_FOREVER;
    CHECK_EQ(twill_sleep(nothing), TWILL_DEADLOCK);
}

/* ---- what a callback may say ---- */

struct record {
    twill__call call; /* first, as every engine's record */
    bool stopped;
    int stops, skips, fails, begins, ends;
    size_t failed;
};

static struct record *record_of(const twill_task *task)
{
    return task->private_;
}

static bool record_cancelled(const twill_task *task)
{
    return record_of(task)->stopped;
}

static void record_stop(const twill_task *task)
{
    record_of(task)->stops++;
}

static void record_skip(const twill_task *task)
{
    record_of(task)->skips++;
}

static void record_fail(const twill_task *task, size_t index)
{
    record_of(task)->fails++;
    record_of(task)->failed = index;
}

static void record_block(const twill_task *task, bool begin)
{
    *(begin ? &record_of(task)->begins : &record_of(task)->ends) += 1;
}

TEST(task_speaks_to_its_engine)
{
    static const twill__call_table table = {record_cancelled, record_stop, record_skip, record_fail,
                                            record_block};
    struct record record = {{&table}, false, 0, 0, 0, 0, 0, 0};
    twill_task task = {3, NULL, 0, 1, NULL, {0, NULL}, &record};

    CHECK(!twill_task_cancelled(&task));
    record.stopped = true;
    CHECK(twill_task_cancelled(&task));
    CHECK_EQ(twill_task_stop(&task), 0);
    CHECK_EQ(record.stops, 1);
    CHECK_EQ(twill_task_skip(&task), 0);
    CHECK_EQ(record.skips, 1);
    CHECK_EQ(twill_task_fail(&task, 17, -5), -5);
    CHECK_EQ(record.fails, 1);
    CHECK_EQ(record.failed, 17);
    twill_task_block_begin(&task);
    CHECK_EQ(record.begins, 1);
    CHECK_EQ(record.ends, 0);
    twill_task_block_end(&task);
    CHECK_EQ(record.ends, 1);
}

/* A task made by hand has no engine, and an engine may not have every entry: all calls are
   harmless. */
TEST(task_without_engine)
{
    static const twill__call_table empty;
    struct record record = {{&empty}, false, 0, 0, 0, 0, 0, 0};
    twill_task by_hand = {0, NULL, UINT_MAX, 0, NULL, {0, NULL}, NULL}, bare = by_hand;
    const twill_task *tasks[] = {NULL, &by_hand, &bare};

    bare.private_ = &record;
    for (size_t i = 0; i < sizeof tasks / sizeof tasks[0]; i++) {
        CHECK(!twill_task_cancelled(tasks[i]));
        CHECK_EQ(twill_task_stop(tasks[i]), 0);
        CHECK_EQ(twill_task_skip(tasks[i]), 0);
        CHECK_EQ(twill_task_fail(tasks[i], 1, 99), 99);
        twill_task_block_begin(tasks[i]);
        twill_task_block_end(tasks[i]);
    }
}

TEST(task_cancelled_by_deadline_or_token)
{
    twill_cancel token = {{0}};
    twill_task task = {0, NULL, UINT_MAX, 0, NULL, {0, NULL}, NULL};

    task.until = twill_within_or_cancelled(TWILL_SEC(100), &token);
    CHECK(!twill_task_cancelled(&task));
    task.until.deadline = 1;
    CHECK(twill_task_cancelled(&task));
    task.until.deadline = 0;
    CHECK(!twill_task_cancelled(&task));
    twill_cancel_request(&token, 2);
    CHECK(twill_task_cancelled(&task));
}

/* ---- the shape of what users own ---- */

TEST(objects_keep_their_shape)
{
    twill_until until = {0};
    twill_report report = {0};
    twill_run run = {0};

    CHECK_EQ(sizeof(twill_cancel), 64); /* two fit a line pair; users embed it */
    CHECK_EQ(_Alignof(twill_cancel), 8);
    CHECK_EQ(_Alignof(twill_cancel_hook), 8);
    CHECK_EQ(until.deadline, 0);
    CHECK_EQ(report.status, TWILL_OK);
    CHECK_EQ(run.on_error, TWILL_ON_ERROR_DEFAULT);
    CHECK_EQ(TWILL_OVERFLOW_BLOCK, 0);
}

TEST(version_has_one_number_and_one_text)
{
    char text[32];

    snprintf(text, sizeof text, "%d.%d.%d", TWILL_VERSION / 10000, TWILL_VERSION / 100 % 100,
             TWILL_VERSION % 100);
    CHECK_STR(TWILL_VERSION_TEXT, text);
}

HARNESS_MAIN
