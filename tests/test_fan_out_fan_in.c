/* twill_fan_out_fan_in and twill_fan_stream: goals, order, errors, ends, faults. */
#define HARNESS_FAULTS
#include "harness.h"

#include "platform/threads.h"
#include "twill_fan_out_fan_in.h"
#include "twill_parallel_map.h"
#include "twill_worker_pool.h"

#include <limits.h>

#ifdef TWILL_USE_PTHREAD
#define END_THREAD() pthread_exit(NULL)
#else
#define END_THREAD() thrd_exit(0)
#endif
#define OPTIONS(...) (&(twill_fan_options){__VA_ARGS__})

/* ---- a plan, and what was seen ---- */

enum { MOST = 3000 };
typedef struct seen {
    /* per item: how often process ran, aggregate saw it, it was dropped, discarded */
    atomic_uchar ran[MOST], dropped[MOST], discarded[MOST];
    unsigned char aggregated[MOST];
    twill_status status[MOST];
    size_t order[MOST], count;
    long sum;
    /* the plan */
    int code[MOST];        /* what process returns */
    twill_ns nap[MOST];    /* and how long it takes */
    bool deaf;             /* it does not look at its token */
    int end_thread;        /* this item ends its thread, unless that is the test's; -1: none */
    int stop_at, fail_at;  /* aggregate does so at the k-th call; -1: never */
    int pull_fails, items; /* stream */
    atomic_int now, most, out, ended;
    twill_report report;
} seen;

static int numbers[MOST];
static _Thread_local bool is_caller; /* it works, too, when nobody of a pool comes in time */

static seen *fresh(void)
{
    static seen s;
    for (int i = 0; i < MOST; i++)
        numbers[i] = i;
    memset(&s, 0, sizeof s);
    s.end_thread = s.stop_at = s.fail_at = s.pull_fails = -1;
    return &s;
}

static int process(const void *in, void *out, const twill_task *task)
{
    seen *s = task->context;
    int i = *(const int *)in, now = atomic_fetch_add(&s->now, 1) + 1;
    CHECK_EQ(i, task->index);
    CHECK_EQ(*(int *)out, 0);
    if (now > atomic_load(&s->most))
        atomic_store(&s->most, now);
    atomic_fetch_add(&s->ran[i], 1);
    if (s->nap[i])
        twill_sleep(twill_within_or_cancelled(s->nap[i], s->deaf ? NULL : task->until.cancel));
    atomic_fetch_sub(&s->now, 1);
    if (i == s->end_thread && !is_caller) {
        atomic_store(&s->ended, 1);
        END_THREAD();
    }
    *(int *)out = i * 2;
    if (!s->deaf && s->nap[i] && twill_task_cancelled(task))
        return twill_task_skip(task);
    return s->code[i];
}

static int aggregate(const void *result, const twill_outcome *outcome, const twill_task *task)
{
    seen *s = task->context;
    size_t i = outcome->index;
    CHECK_EQ(task->index, i);
    s->aggregated[i]++;
    s->status[i] = outcome->status;
    if (outcome->status == TWILL_OK) {
        CHECK_EQ(*(const int *)result, i * 2);
        CHECK_EQ(outcome->code, 0);
        s->sum += *(const int *)result;
    } else {
        CHECK_PTR(result, NULL);
    }
    if (outcome->status == TWILL_FAILED)
        CHECK_EQ(outcome->code, s->code[i]);
    if (outcome->started) {
        CHECK(outcome->queued && outcome->started <= outcome->finished);
        CHECK(outcome->queued <= outcome->started && outcome->attempts == 1);
    }
    s->order[s->count++] = i;
    if ((int)s->count - 1 == s->stop_at)
        return twill_task_stop(task);
    return (int)s->count - 1 == s->fail_at ? 77 : 0;
}

static void note_drop(void *item, twill_status why, const twill_task *task)
{
    seen *s = task->context;
    CHECK(why == TWILL_CANCELLED || why == TWILL_TIMEOUT);
    CHECK_EQ(*(int *)item, task->index);
    atomic_fetch_add(&s->dropped[task->index], 1);
}

static void note_discard(void *item, void *result, int code, const twill_task *task)
{
    seen *s = task->context;
    CHECK_EQ(code, 0);
    CHECK_EQ(*(int *)item, task->index);
    CHECK_EQ(*(int *)result, task->index * 2);
    atomic_fetch_add(&s->discarded[task->index], 1);
    atomic_fetch_add(&s->out, 1);
}

static twill_status run(seen *s, int n, twill_fan_options *options)
{
    twill_status status;
    options->run.context = s;
    options->run.report = &s->report;
    options->drop = note_drop;
    options->discard = note_discard;
    is_caller = true;
    status = twill_fan_out_fan_in(numbers, sizeof(int), (size_t)n, process, sizeof(int), aggregate,
                                  options);
    CHECK_EQ(status, s->report.status);
    return status;
}

/* Exactly one of run and drop for each item; the report adds up; a success is aggregated or
   discarded, never both. `all`: aggregate saw everything. */
static void check_books(seen *s, int n, bool all)
{
    size_t ran = 0;
    CHECK_EQ(s->report.total, n);
    CHECK_EQ(s->report.total, s->report.done + s->report.failed + s->report.skipped);
    for (int i = 0; i < n; i++) {
        ran += atomic_load(&s->ran[i]);
        CHECK_EQ(atomic_load(&s->ran[i]) + atomic_load(&s->dropped[i]), 1);
        CHECK(s->aggregated[i] <= 1);
        if (all)
            CHECK_EQ(s->aggregated[i] + atomic_load(&s->discarded[i]), 1);
        CHECK((s->aggregated[i] && s->status[i] == TWILL_OK) + atomic_load(&s->discarded[i]) <= 1);
    }
    CHECK(ran >= s->report.done + s->report.failed);
    CHECK_EQ(faults_live(), 0);
}

/* ---- all goes well ---- */

TEST(every_item_once)
{
    for (unsigned workers = 1; workers <= 4; workers++)
        for (int n = 1; n <= MOST; n = n * 7 + 1) {
            seen *s = fresh();
            CHECK_EQ(run(s, n, OPTIONS(.run.workers = workers, .max_unread = workers * 3)),
                     TWILL_OK);
            CHECK_EQ(s->sum, (long)n * (n - 1));
            CHECK_EQ(s->count, n);
            CHECK(atomic_load(&s->most) <= (int)workers);
            CHECK_EQ(s->report.done, n);
            check_books(s, n, true);
        }
}

TEST(defaults)
{
    seen *s = fresh();
    CHECK_EQ(run(s, 100, OPTIONS(.ordered = false)), TWILL_OK);
    check_books(s, 100, true);
    CHECK_EQ(twill_fan_out_fan_in(NULL, 0, 0, process, 4, aggregate, NULL), TWILL_OK);
    s = fresh();
    CHECK_EQ(twill_fan_out_fan_in(numbers, 4, 50, process, 4, NULL,
                                  OPTIONS(.run.context = s, .run.report = &s->report)),
             TWILL_OK); /* only counts */
    CHECK_EQ(s->report.done, 50);
}

static void ignore_notice(const twill_task *task)
{
    (void)task;
}

static int no_items(void *item, const twill_task *task)
{
    (void)item;
    return twill_task_stop(task);
}

TEST(bad_input)
{
    seen *s = fresh();
    twill_status statuses[1];
    int code;
#define CALL(...)                                                                   \
    twill_fan_out_fan_in(numbers, sizeof(int), 10, process, sizeof(int), aggregate, \
                         OPTIONS(.run.context = s, __VA_ARGS__))
    CHECK_EQ(twill_fan_out_fan_in(numbers, 4, 10, NULL, 4, aggregate, NULL), TWILL_INVALID);
    CHECK_EQ(twill_fan_out_fan_in(NULL, 4, 10, process, 4, aggregate, NULL), TWILL_INVALID);
    CHECK_EQ(twill_fan_out_fan_in(numbers, 0, 10, process, 4, aggregate, NULL), TWILL_INVALID);
    CHECK_EQ(twill_fan_out_fan_in(numbers, SIZE_MAX / 4, 10, process, 4, aggregate, NULL),
             TWILL_TOO_BIG);
    CHECK_EQ(twill_fan_out_fan_in(numbers, 4, 10, process, SIZE_MAX / 2, aggregate, NULL),
             TWILL_TOO_BIG);
    CHECK_EQ(twill_fan_out_fan_in(numbers, 4, 10, process, SIZE_MAX / 16, aggregate,
                                  OPTIONS(.run.workers = 8)),
             TWILL_TOO_BIG);
    CHECK_EQ(CALL(.goal = TWILL_FAN_QUORUM), TWILL_INVALID);
    CHECK_EQ(CALL(.goal = TWILL_FAN_QUORUM, .quorum = 11), TWILL_INVALID);
    CHECK_EQ(CALL(.quorum = 1), TWILL_INVALID);
    CHECK_EQ(CALL(.goal = TWILL_FAN_ENOUGH), TWILL_INVALID);
    CHECK_EQ(CALL(.goal = (twill_fan_goal)99), TWILL_INVALID);
    CHECK_EQ(CALL(.timeout = -1), TWILL_INVALID);
    CHECK_EQ(CALL(.result_size = 3), TWILL_INVALID);
    CHECK_EQ(CALL(.run.errors_capacity = 3), TWILL_INVALID);
    CHECK_EQ(CALL(.run.workers = 1u << 20), TWILL_TOO_BIG);
    CHECK_EQ(CALL(.in_flight = SIZE_MAX / 2), TWILL_TOO_BIG);
    CHECK_EQ(CALL(.in_flight = SIZE_MAX), TWILL_TOO_BIG);
    CHECK_EQ(CALL(.max_unread = SIZE_MAX), TWILL_TOO_BIG);
    CHECK_EQ(CALL(.notify = ignore_notice), TWILL_INVALID);
    CHECK_EQ(twill_fan_stream(no_items, 4, NULL, 4, aggregate, NULL), TWILL_INVALID);
    CHECK_EQ(twill_fan_stream(no_items, 0, process, 4, aggregate, NULL), TWILL_INVALID);
    CHECK_EQ(twill_fan_stream(no_items, SIZE_MAX / 4, process, 4, aggregate, NULL), TWILL_TOO_BIG);
    CHECK_EQ(
        twill_fan_stream(no_items, 4, process, 4, aggregate, OPTIONS(.run.statuses = statuses)),
        TWILL_INVALID);
    CHECK_EQ(twill_fan_stream(no_items, 4, process, 4, aggregate, OPTIONS(.run.codes = &code)),
             TWILL_INVALID);
    CHECK_EQ(
        twill_fan_stream(no_items, 4, process, 4, aggregate, OPTIONS(.goal = TWILL_FAN_ALL_OK)),
        TWILL_INVALID);
    CHECK_EQ(twill_fan_stream(NULL, 4, process, 4, aggregate, NULL), TWILL_INVALID);
    CHECK_EQ(s->count, 0);
    for (int i = 0; i < 10; i++)
        CHECK_EQ(atomic_load(&s->ran[i]), 0);
    CHECK_EQ(twill_fan_create(NULL, NULL), TWILL_INVALID);
    (void)statuses;
    CHECK_EQ(faults_live(), 0);
}

/* Exercise 1 of the course: ten sums on four workers. */
static int squares(const void *in, void *out, const twill_task *task)
{
    int64_t n = *(const int *)in, sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += i * i;
    *(int64_t *)out = sum;
    return task->index == 4 && task->context ? 9 : 0;
}

typedef struct sums {
    int64_t total;
    int count, failed, code;
} sums;
static sums exercise_sums;

static int add_sums(const void *result, const twill_outcome *outcome, const twill_task *task)
{
    (void)task;
    if (outcome->status == TWILL_OK) {
        exercise_sums.total += *(const int64_t *)result;
        exercise_sums.count++;
    } else {
        exercise_sums.failed = (int)outcome->index;
        exercise_sums.code = outcome->code;
    }
    return 0;
}

TEST(exercise)
{
    int n[10];
    for (int i = 0; i < 10; i++)
        n[i] = 1000 * (i + 1);
    memset(&exercise_sums, 0, sizeof exercise_sums);
    CHECK_EQ(twill_fan_out_fan_in(n, sizeof *n, 10, squares, sizeof(int64_t), add_sums,
                                  OPTIONS(.run.workers = 4)),
             TWILL_OK);
    CHECK_EQ(exercise_sums.total, 1008140842500);
    CHECK_EQ(exercise_sums.count, 10);
    memset(&exercise_sums, 0, sizeof exercise_sums);
    CHECK_EQ(twill_fan_out_fan_in(n, sizeof *n, 10, squares, sizeof(int64_t), add_sums,
                                  OPTIONS(.run.workers = 4, .run.context = n)),
             TWILL_FAILED);
    CHECK_EQ(exercise_sums.total, 1008140842500 - 41654167500);
    CHECK_EQ(exercise_sums.failed, 4);
    CHECK_EQ(exercise_sums.code, 9);
}

/* ---- order ---- */

TEST(ordered_is_the_serial_loop)
{
    for (int round = 0; round < 60; round++) {
        int n = 1 + (int)test_random_below(300);
        seen *s = fresh();
        for (int i = 0; i < n; i++)
            s->nap[i] = test_random_below(20) ? 0 : TWILL_US(50);
        CHECK_EQ(run(s, n,
                     OPTIONS(.run.workers = 1 + (unsigned)round % 4, .ordered = true,
                             .max_unread = 1 + (size_t)test_random_below(20))),
                 TWILL_OK);
        for (int i = 0; i < n; i++)
            CHECK_EQ(s->order[i], i);
        check_books(s, n, true);
    }
}

static bool as_they_end(twill_ns apart)
{
    seen *s = fresh();
    s->nap[0] = 2 * apart;
    s->nap[1] = 1;
    s->nap[2] = apart;
    CHECK_EQ(run(s, 3, OPTIONS(.run.workers = 3)), TWILL_OK);
    check_books(s, 3, true);
    return s->order[0] == 1 && s->order[1] == 2 && s->order[2] == 0;
}

TEST(true_completion_order)
{
    CHECK(test_in_time(TWILL_MS(20), as_they_end));
}

/* Quick ones are taken several at a time: among them slow ones, failures, one that ends its thread,
   and a stop. */
TEST(quick_items_in_runs)
{
    for (int round = 0; round < 12; round++) {
        bool stop = round % 3 == 1;
        seen *s = fresh();
        for (int k = 0; k < 5; k++)
            s->nap[test_random_below(MOST)] = TWILL_US(300);
        for (int k = 0; k < 20; k++)
            s->code[test_random_below(MOST)] = 7;
        if (round % 2)
            s->end_thread = (int)test_random_below(MOST);
        if (stop)
            s->stop_at = 1000;
        (void)run(s, MOST, OPTIONS(.run.workers = 1 + (unsigned)round % 4));
        CHECK_EQ(s->count, stop ? 1001 : MOST);
        check_books(s, MOST, !stop);
    }
}

/* ---- goals and errors ---- */

TEST(all_runs_everything)
{
    seen *s = fresh();
    twill_item_error errors[2];
    twill_status statuses[100];
    int codes[100];
    s->code[70] = 3;
    s->code[30] = 4;
    s->code[50] = 5;
    CHECK_EQ(run(s, 100,
                 OPTIONS(.run.workers = 3, .run.errors = errors, .run.errors_capacity = 2,
                         .run.statuses = statuses, .run.codes = codes)),
             TWILL_FAILED);
    CHECK_EQ(s->report.done, 97);
    CHECK_EQ(s->report.failed, 3);
    CHECK_EQ(s->report.first_error.index, 30);
    CHECK_EQ(s->report.first_error.code, 4);
    CHECK_EQ(s->report.errors_stored, 2);
    CHECK_EQ(errors[0].index, 30);
    CHECK_EQ(errors[1].index, 50);
    for (int i = 0; i < 100; i++) {
        CHECK_EQ(statuses[i], s->code[i] ? TWILL_FAILED : TWILL_OK);
        CHECK_EQ(codes[i], s->code[i]);
    }
    check_books(s, 100, true);
}

TEST(policies_stop_early)
{
    int early = 0; /* a thread may be held up while it fails, but not each time */
    for (int round = 0; round < 20; round++) {
        seen *s = fresh();
        s->code[20] = 4;
        s->code[40] = 5;
        for (int i = 0; i < MOST; i++)
            s->nap[i] = TWILL_US(20);
        CHECK_EQ(run(s, 2000, OPTIONS(.run.workers = 3, .run.on_error = TWILL_ON_ERROR_LOWEST)),
                 TWILL_FAILED);
        CHECK_EQ(s->report.first_error.index, 20);
        early += s->report.skipped > 1000;
        for (int i = 0; i <= 20; i++)
            CHECK_EQ(atomic_load(&s->ran[i]), 1);
        check_books(s, 2000, true);
    }
    CHECK(early > 0);
    seen *s = fresh();
    s->code[20] = s->code[40] = 5;
    CHECK_EQ(run(s, 2000, OPTIONS(.run.workers = 3, .run.on_error = TWILL_ON_ERROR_FIRST)),
             TWILL_FAILED);
    CHECK(s->report.first_error.code == 5 && s->report.skipped > 0);
    check_books(s, 2000, true);
    s = fresh();
    s->code[20] = s->code[40] = 5;
    CHECK_EQ(
        run(s, 2000,
            OPTIONS(.run.workers = 3, .run.on_error = TWILL_ON_ERROR_LIMIT, .run.max_errors = 3)),
        TWILL_FAILED);
    CHECK_EQ(s->report.skipped, 0);
    check_books(s, 2000, true);
}

TEST(all_ok_aggregates_all_or_nothing)
{
    for (int round = 0; round < 30; round++) {
        seen *s = fresh();
        CHECK_EQ(run(s, 200,
                     OPTIONS(.run.workers = 3, .goal = TWILL_FAN_ALL_OK, .ordered = round % 2,
                             .max_unread = 4)),
                 TWILL_OK);
        CHECK_EQ(s->count, 200);
        check_books(s, 200, true);
        s = fresh();
        s->code[150] = 7;
        s->code[40 + round] = 8;
        s->nap[10] = s->nap[40 + round] = TWILL_US(100);
        CHECK_EQ(run(s, 200, OPTIONS(.run.workers = 3, .goal = TWILL_FAN_ALL_OK)), TWILL_FAILED);
        CHECK_EQ(s->count, 0);
        CHECK_EQ(s->report.first_error.index, 40 + round);
        CHECK_EQ(s->report.first_error.code, 8);
        for (int i = 0; i < 40 + round; i++)
            CHECK_EQ(atomic_load(&s->ran[i]), 1);
        CHECK_EQ(atomic_load(&s->out), s->report.done);
        check_books(s, 200, false);
    }
}

static int five_gives_up(const void *in, void *out, const twill_task *task)
{
    (void)in, (void)out;
    return task->index == 5 ? twill_task_skip(task) : 0;
}

static int count_calls(const void *result, const twill_outcome *outcome, const twill_task *task)
{
    (void)result, (void)outcome;
    ++*(int *)task->context;
    return 0;
}

TEST(all_ok_is_not_met_where_one_gave_up)
{
    int calls = 0;
    twill_report report;
    CHECK_EQ(twill_fan_out_fan_in(numbers, sizeof(int), 10, five_gives_up, 0, count_calls,
                                  OPTIONS(.run.workers = 2, .run.context = &calls,
                                          .run.report = &report, .goal = TWILL_FAN_ALL_OK)),
             TWILL_FAILED);
    CHECK_EQ(calls, 0);
    CHECK_EQ(report.done, 9);
    CHECK_EQ(report.skipped, 1);
    CHECK_EQ(report.first_error.status, TWILL_OK); /* nobody has failed */
}

static atomic_int race_told, race_late;

static int good_from_400(const void *in, void *out, const twill_task *task)
{
    (void)out, (void)task;
    return *(const int *)in < 400 ? 5 : 0;
}

static int tell_race(const void *result, const twill_outcome *outcome, const twill_task *task)
{
    (void)result, (void)outcome, (void)task;
    atomic_fetch_add(&race_told, 1);
    return 0;
}

static void count_late(void *arg, void *result, int code, const twill_task *task)
{
    (void)arg, (void)result, (void)code, (void)task;
    atomic_fetch_add(&race_late, 1);
}

/* As quick as those that go through lanes where no outcome decides: each worker ends one at most
   after the first success, which goes to discard, and all others are told. */
TEST(a_race_of_quick_tasks)
{
    enum { N = 3000 };
    static int items[N];
    twill_report report;
    for (int i = 0; i < N; i++)
        items[i] = i;
    atomic_store(&race_told, 0);
    atomic_store(&race_late, 0);
    CHECK_EQ(twill_fan_out_fan_in(items, sizeof *items, N, good_from_400, 0, tell_race,
                                  &(twill_fan_options){.run = {.workers = 2, .report = &report},
                                                       .discard = count_late,
                                                       .goal = TWILL_FAN_FIRST_OK}),
             TWILL_OK);
    CHECK(report.done >= 1 && report.done <= 2);
    CHECK_EQ(atomic_load(&race_late), report.done - 1);
    CHECK_EQ(atomic_load(&race_told) + atomic_load(&race_late), N);
}

TEST(first_success_wins)
{
    seen *s = fresh();
    s->code[0] = 5; /* the first to end fails: that ends no race */
    s->nap[1] = TWILL_SEC(30);
    s->nap[2] = TWILL_MS(20);
    s->nap[3] = TWILL_SEC(30);
    CHECK_EQ(run(s, 1000, OPTIONS(.run.workers = 2, .goal = TWILL_FAN_FIRST_OK)), TWILL_OK);
    CHECK(s->status[0] == TWILL_FAILED);
    CHECK_EQ(s->report.failed, 1);
    CHECK_EQ(s->status[1], TWILL_CANCELLED);
    CHECK_EQ(s->sum, 4);
    check_books(s, 1000, true);
    s = fresh();
    for (int i = 0; i < 10; i++)
        s->code[i] = i + 1;
    CHECK_EQ(run(s, 10, OPTIONS(.run.workers = 2, .goal = TWILL_FAN_FIRST_OK)), TWILL_FAILED);
    CHECK_EQ(s->report.failed, 10);
    CHECK_EQ(s->report.first_error.index, 0);
    check_books(s, 10, true);
    s = fresh(); /* one alone tries no more than it must */
    CHECK_EQ(run(s, 1000, OPTIONS(.run.workers = 1, .goal = TWILL_FAN_FIRST_OK)), TWILL_OK);
    CHECK_EQ(s->report.done, 1);
    check_books(s, 1000, true);
}

TEST(quorum)
{
    for (int round = 0; round < 50; round++) {
        seen *s = fresh();
        s->code[0] = s->code[3] = 1;
        size_t good = 0;
        CHECK_EQ(run(s, 100,
                     OPTIONS(.run.workers = 3, .goal = TWILL_FAN_QUORUM, .quorum = 10,
                             .ordered = round % 2)),
                 TWILL_OK);
        for (int i = 0; i < 100; i++)
            good += s->aggregated[i] && s->status[i] == TWILL_OK;
        CHECK_EQ(good, 10); /* later ones were discarded */
        CHECK_EQ(s->report.done, 10 + (size_t)atomic_load(&s->out));
        check_books(s, 100, true);
    }
    seen *s = fresh();
    for (int i = 0; i < 51; i++)
        s->code[i] = 1;
    s->nap[99] = TWILL_SEC(30); /* 50 cannot be reached any more: told */
    CHECK_EQ(run(s, 100, OPTIONS(.run.workers = 100, .goal = TWILL_FAN_QUORUM, .quorum = 50)),
             TWILL_FAILED);
    CHECK(s->status[99] == TWILL_CANCELLED);
    check_books(s, 100, true);
}

static bool enough_sum(const twill_outcome *outcome, const void *result, const twill_task *task)
{
    CHECK_EQ(outcome->status == TWILL_OK, result != NULL);
    return ((seen *)task->context)->sum >= 100;
}

TEST(enough)
{
    for (int round = 0; round < 20; round++) {
        seen *s = fresh();
        CHECK_EQ(
            run(s, 500, OPTIONS(.run.workers = 2, .goal = TWILL_FAN_ENOUGH, .enough = enough_sum)),
            TWILL_OK);
        CHECK(s->sum >= 100);
        check_books(s, 500, true);
    }
    seen *s = fresh();
    CHECK_EQ(run(s, 5, OPTIONS(.run.workers = 2, .goal = TWILL_FAN_ENOUGH, .enough = enough_sum)),
             TWILL_FAILED);
    CHECK_EQ(s->report.done, 5);
    check_books(s, 5, true);
}

/* ---- aggregate ---- */

TEST(aggregate_stops_and_fails)
{
    for (int k = 0; k < 40; k += 13) {
        seen *s = fresh();
        s->stop_at = k;
        CHECK_EQ(run(s, 1000, OPTIONS(.run.workers = 3)), TWILL_OK);
        CHECK_EQ(s->count, k + 1);
        CHECK_EQ(s->report.done, k + 1 + atomic_load(&s->out));
        check_books(s, 1000, false);
        s = fresh();
        s->fail_at = k;
        CHECK_EQ(run(s, 1000, OPTIONS(.run.workers = 3, .ordered = true)), TWILL_FAILED);
        CHECK_EQ(s->count, k + 1);
        CHECK_EQ(s->report.first_error.index, k);
        CHECK_EQ(s->report.first_error.code, 77);
        check_books(s, 1000, false);
        s = fresh();
        s->fail_at = k;
        CHECK_EQ(run(s, 100, OPTIONS(.run.workers = 3, .goal = TWILL_FAN_ALL_OK)), TWILL_FAILED);
        CHECK_EQ(s->report.first_error.code, 77);
        CHECK_EQ(s->count, k + 1);
        CHECK_EQ(s->report.done, 100);
        check_books(s, 100, true);
    }
}

/* Those far above wait for the stop, so that there are some left that it keeps from running. */
static int stop_in_process(const void *in, void *out, const twill_task *task)
{
    (void)process(in, out, task);
    if (task->index > 200)
        twill_sleep(twill_within_or_cancelled(TWILL_SEC(100), task->until.cancel));
    return task->index == 30 ? twill_task_stop(task) : 0;
}

TEST(stop_in_a_task)
{
    seen *s = fresh();
    for (int i = 100; i < 1000; i++) /* so that there is something left to skip */
        s->nap[i] = TWILL_MS(1);
    CHECK_EQ(
        twill_fan_out_fan_in(numbers, sizeof(int), 1000, stop_in_process, sizeof(int), aggregate,
                             OPTIONS(.run = {.workers = 3, .context = s, .report = &s->report})),
        TWILL_OK);
    for (int i = 0; i <= 30; i++)
        CHECK(s->aggregated[i] == 1 && s->status[i] == TWILL_OK);
    CHECK(s->report.skipped > 0);
    CHECK_EQ(s->count, 1000);
}

/* All that the serial loop had before it ended, and no more. */
TEST(a_stop_with_all_ok_aggregates_what_comes_before_it)
{
    for (int ordered = 0; ordered < 2; ordered++) {
        seen *s = fresh();
        CHECK_EQ(twill_fan_out_fan_in(numbers, sizeof(int), 100, stop_in_process, sizeof(int),
                                      aggregate,
                                      OPTIONS(.run = {.workers = 3, .context = s},
                                              .goal = TWILL_FAN_ALL_OK, .ordered = ordered)),
                 TWILL_OK);
        CHECK_EQ(s->count, 31);
        for (int i = 0; i < 100; i++)
            CHECK_EQ(s->aggregated[i], i <= 30);
    }
}

/* ---- run.until ---- */

typedef struct fires {
    twill_cancel token;
    twill_ns after;
} fires;

static void fire_soon(void *fires_)
{
    fires *f = fires_;
    twill_sleep(twill_within(f->after));
    twill_cancel_fire(&f->token, 1);
}

/* The first two have ended by then, if the machine lets them. */
static bool two_end_before(twill_ns within, bool fired, bool ordered)
{
    seen *s = fresh();
    fires f = {.after = within};
    twill__thrd thread;
    twill_cancel_init(&f.token, NULL);
    memset(&thread, 0, sizeof thread);
    thread.fn = fire_soon;
    thread.arg = &f;
    thread.cpu = UINT_MAX;
    for (int i = 0; i < 100; i++)
        s->nap[i] = i < 2 ? TWILL_US(100) : TWILL_SEC(60);
    if (fired)
        CHECK(twill__thread_start(&thread));
    twill_status status =
        run(s, 100,
            OPTIONS(.run.workers = 2, .ordered = ordered,
                    .run.until = fired ? twill_until_cancelled(&f.token) : twill_within(within)));
    if (fired)
        twill__thread_join(&thread);
    CHECK_EQ(status, fired ? TWILL_CANCELLED : TWILL_TIMEOUT);
    CHECK(s->report.done <= 2);
    CHECK_EQ(s->report.skipped, 100 - s->report.done);
    CHECK_EQ(s->status[99], status);
    check_books(s, 100, true);
    twill_cancel_detach(&f.token);
    return s->report.done == 2 && s->status[0] == TWILL_OK;
}

static bool a_deadline(twill_ns within)
{
    return two_end_before(within, false, false) && two_end_before(within, false, true);
}

static bool a_cancel(twill_ns within)
{
    return two_end_before(within, true, false) && two_end_before(within, true, true);
}

TEST(cancel_and_deadline)
{
    CHECK(test_in_time(TWILL_MS(20), a_deadline));
    CHECK(test_in_time(TWILL_MS(20), a_cancel));
}

TEST(over_before_it_began)
{
    seen *s = fresh();
    CHECK_EQ(run(s, 10, OPTIONS(.run.workers = 2, .run.until = twill_within(0))), TWILL_TIMEOUT);
    CHECK_EQ(s->report.skipped, 10);
    for (int i = 0; i < 10; i++)
        CHECK(s->status[i] == TWILL_TIMEOUT && !atomic_load(&s->ran[i]));
    check_books(s, 10, true);
}

/* A deaf task that still succeeds after the deadline is a success. */
static bool it_begins_before(twill_ns deadline)
{
    seen *s = fresh();
    s->deaf = true;
    s->nap[0] = 2 * deadline;
    twill_status status = run(s, 1, OPTIONS(.run.workers = 1, .run.until = twill_within(deadline)));
    bool in_time = atomic_load(&s->ran[0]);
    CHECK_EQ(status, in_time ? TWILL_OK : TWILL_TIMEOUT);
    CHECK_EQ(s->status[0], status);
    check_books(s, 1, true);
    return in_time;
}

TEST(late_success_is_one)
{
    CHECK(test_in_time(TWILL_MS(20), it_begins_before));
}

/* ---- time limit of a task ---- */

static bool one_has_no_time(twill_ns timeout)
{
    seen *s = fresh();
    s->nap[1] = TWILL_SEC(60); /* polite: ended by its token */
    CHECK_EQ(run(s, 4, OPTIONS(.run.workers = 2, .timeout = timeout)), TWILL_FAILED);
    CHECK_EQ(s->status[1], TWILL_TIMEOUT);
    check_books(s, 4, true);
    if (s->report.done != 3)
        return false; /* another one had none, either */
    CHECK_EQ(s->report.failed, 1);
    CHECK_EQ(s->report.first_error.status, TWILL_TIMEOUT);
    CHECK_EQ(s->report.first_error.index, 1);
    return true;
}

/* It is waited for, and its success comes too late. */
static bool one_is_deaf(twill_ns timeout)
{
    seen *s = fresh();
    s->deaf = true;
    s->nap[1] = 8 * timeout;
    twill_status status = run(s, 4, OPTIONS(.run.workers = 2, .timeout = timeout));
    CHECK_EQ(s->report.total, 4);
    if (status == TWILL_OK)
        return false; /* nobody looked until it had ended */
    CHECK_EQ(status, TWILL_FAILED);
    if (s->status[1] != TWILL_TIMEOUT)
        return false; /* likewise, while another one had no time */
    CHECK_EQ(atomic_load(&s->discarded[1]), 1);
    return true;
}

TEST(timeout_of_a_task)
{
    CHECK(test_in_time(TWILL_MS(20), one_has_no_time));
    CHECK(test_in_time(TWILL_MS(10), one_is_deaf));
}

/* ---- tasks left behind ---- */

static atomic_int release_deaf, deaf_out;

static int deaf(const void *in, void *out, const twill_task *task)
{
    int i = *(const int *)in;
    (void)task;
    while (i >= 1000 && !atomic_load(&release_deaf))
        twill_sleep(twill_within(TWILL_MS(1)));
    *(int *)out = i;
    return 0;
}

static void late_result(void *item, void *result, int code, const twill_task *task)
{
    (void)task;
    CHECK(*(int *)result == *(int *)item && code == 0);
    if (*(int *)item >= 1000)
        atomic_fetch_add(&deaf_out, 1);
}

static twill_status left_status[8];

static int note_status(const void *result, const twill_outcome *outcome, const twill_task *task)
{
    (void)result;
    (void)task;
    left_status[outcome->index] = outcome->status;
    return 0;
}

static void wait_for_stragglers(int count)
{
    atomic_store(&release_deaf, 1);
    for (int k = 0; k < 100000 && (atomic_load(&deaf_out) < count || faults_live()); k++)
        twill_sleep(twill_within(TWILL_MS(1)));
    CHECK_EQ(atomic_load(&deaf_out), count);
    CHECK_EQ(faults_live(), 0);
}

static bool two_are_left(twill_ns deadline, bool ordered)
{
    int *items = malloc(3 * sizeof *items);
    twill_cancel *token = malloc(sizeof *token);
    twill_report report;
    twill_ns began = twill_now();
    items[0] = 1;
    items[1] = 1000;
    items[2] = 1001;
    atomic_store(&release_deaf, 0);
    atomic_store(&deaf_out, 0);
    twill_cancel_init(token, NULL);
    CHECK_EQ(twill_fan_out_fan_in(
                 items, sizeof *items, 3, deaf, sizeof(int), note_status,
                 OPTIONS(.run = {.workers = 3,
                                 .report = &report,
                                 .until = twill_within_or_cancelled(deadline, token)},
                         .max_abandoned = 2, .discard = late_result, .ordered = ordered)),
             TWILL_TIMEOUT);
    CHECK(twill_now() - began < TWILL_SEC(60));
    int left = (left_status[1] == TWILL_LOST) + (left_status[2] == TWILL_LOST);
    bool in_time = left_status[0] == TWILL_OK && left == 2;
    if (in_time) {
        CHECK_EQ(report.done, 1);
        CHECK_EQ(report.failed, 2);
    }
    free(items); /* the fan has copies */
    free(token);
    wait_for_stragglers(left);
    return in_time;
}

static bool each_is_left(twill_ns deadline)
{
    return two_are_left(deadline, false) && two_are_left(deadline, true);
}

TEST(left_behind_at_the_deadline)
{
    CHECK(test_in_time(TWILL_MS(20), each_is_left));
}

TEST(left_behind_by_a_race)
{
    int items[3] = {1000, 1, 2};
    twill_report report;
    atomic_store(&release_deaf, 0);
    atomic_store(&deaf_out, 0);
    CHECK_EQ(twill_fan_out_fan_in(items, sizeof *items, 3, deaf, sizeof(int), note_status,
                                  OPTIONS(.run = {.workers = 2, .report = &report},
                                          .goal = TWILL_FAN_FIRST_OK, .max_abandoned = 1,
                                          .discard = late_result)),
             TWILL_OK);
    CHECK_EQ(left_status[0], TWILL_LOST);
    CHECK_EQ(report.total, 3);
    wait_for_stragglers(1);
}

static bool one_is_answered_at_once(twill_ns timeout)
{
    int items[3] = {1000, 1, 2};
    twill_report report;
    atomic_store(&release_deaf, 0);
    atomic_store(&deaf_out, 0);
    CHECK_EQ(
        twill_fan_out_fan_in(items, sizeof *items, 3, deaf, sizeof(int), note_status,
                             OPTIONS(.run = {.workers = 2, .report = &report}, .timeout = timeout,
                                     .max_abandoned = 1, .discard = late_result)),
        TWILL_FAILED);
    CHECK_EQ(left_status[0], TWILL_TIMEOUT);
    bool in_time = left_status[1] == TWILL_OK && left_status[2] == TWILL_OK;
    CHECK(!in_time || report.failed == 1);
    wait_for_stragglers(1);
    return in_time;
}

TEST(timeout_answers_at_once)
{
    CHECK(test_in_time(TWILL_MS(20), one_is_answered_at_once));
}

/* One more than may be left behind: all are waited for. */
static bool one_remains(twill_ns deadline)
{
    seen *s = fresh();
    s->deaf = true;
    for (int i = 0; i < 3; i++)
        s->nap[i] = (2 + 2 * i) * deadline;
    twill_status status = run(
        s, 3, OPTIONS(.run.workers = 3, .max_abandoned = 1, .run.until = twill_within(deadline)));
    CHECK_EQ(status, s->report.done == 3 ? TWILL_OK : TWILL_TIMEOUT);
    bool in_time = s->report.done == 2 && s->status[2] == TWILL_LOST;
    for (int k = 0; k < 60000 && faults_live(); k++)
        twill_sleep(twill_within(TWILL_MS(1)));
    CHECK(!in_time || atomic_load(&s->discarded[2]) == 1);
    CHECK_EQ(faults_live(), 0);
    return in_time;
}

TEST(too_many_to_leave_behind)
{
    CHECK(test_in_time(TWILL_MS(20), one_remains));
}

/* ---- threads ---- */

TEST(a_task_ends_its_thread)
{
    for (int k = 0; k < 20; k++) {
        seen *s = fresh();
        s->end_thread = k;
        CHECK_EQ(run(s, 100, OPTIONS(.run.workers = 1 + (unsigned)k % 3)), TWILL_FAILED);
        CHECK_EQ(s->status[k], TWILL_LOST);
        CHECK_EQ(s->report.done, 99);
        CHECK_EQ(s->report.failed, 1);
        CHECK_EQ(s->report.first_error.index, k);
        CHECK_EQ(s->report.first_error.status, TWILL_LOST);
        check_books(s, 100, true);
    }
}

/* Nobody can wait for one that is left behind: it is waited for here. */
static bool waited_for_here(twill_ns deadline)
{
    seen *s = fresh();
    s->deaf = true;
    s->nap[0] = 2 * deadline;
    faults_fail_thread(2);
    twill_status status = run(
        s, 1, OPTIONS(.run.workers = 1, .max_abandoned = 1, .run.until = twill_within(deadline)));
    faults_fail_thread(0);
    CHECK_EQ(faults_live(), 0);
    if (!atomic_load(&s->ran[0]) || status == TWILL_OK)
        return false; /* nothing moved until the deadline, or until both were over */
    CHECK_EQ(status, TWILL_TIMEOUT);
    CHECK_EQ(atomic_load(&s->discarded[0]), 1);
    return true;
}

TEST(any_thread_may_be_missing)
{
    for (unsigned long k = 1; k <= 4; k++) {
        seen *s = fresh();
        faults_fail_thread(k);
        CHECK_EQ(run(s, 100, OPTIONS(.run.workers = 3, .ordered = k % 2)), TWILL_OK);
        CHECK_EQ(!!(s->report.flags & TWILL_REPORT_DEGRADED), k <= 3);
        check_books(s, 100, true);
        faults_fail_thread(0);
    }
    seen *s = fresh();
    faults_fail_thread(2);
    CHECK_EQ(run(s, 100, OPTIONS(.run.workers = 3, .run.strict = true)), TWILL_NO_THREAD);
    CHECK_EQ(s->count, 0);
    CHECK_EQ(faults_live(), 0);
    /* a thread that ends and cannot be replaced */
    for (unsigned long k = 2; k <= 3; k++) {
        s = fresh();
        s->end_thread = 5;
        faults_fail_thread(k);
        CHECK_EQ(run(s, 50, OPTIONS(.run.workers = 1)), TWILL_FAILED);
        CHECK_EQ(s->report.done, 49);
        check_books(s, 50, true);
    }
    faults_fail_thread(0);
    CHECK(test_in_time(TWILL_MS(20), waited_for_here));
}

TEST(any_allocation_may_fail)
{
    for (unsigned long k = 1; k <= 6; k++) {
        seen *s = fresh();
        faults_fail_alloc_from(k);
        twill_status status = run(s, 400, OPTIONS(.run.workers = 2));
        faults_fail_alloc(0);
        CHECK_EQ(status, k == 1 ? TWILL_NO_MEMORY : TWILL_OK);
        CHECK_EQ(s->count, k == 1 ? 0 : 400);
        CHECK_EQ(faults_live(), 0);
    }
}

static atomic_int starts, stops, start_fails;

static int start(void **state, const twill_task *task)
{
    if ((int)task->worker < atomic_load(&start_fails))
        return 31;
    if (atomic_load(&start_fails) == -1 && atomic_fetch_add(&start_fails, -1) == -1)
        END_THREAD();
    atomic_fetch_add(&starts, 1);
    *state = &starts;
    return 0;
}

static void stop(void *state, const twill_task *task)
{
    (void)task;
    CHECK_PTR(state, &starts);
    atomic_fetch_add(&stops, 1);
}

static bool comes_to(atomic_int *count, int least)
{
    twill_ns end = twill_now() + TWILL_SEC(100);
    while (atomic_load(count) < least && twill_now() < end)
        twill_sleep(twill_within(TWILL_US(50)));
    return atomic_load(count) >= least;
}

/* The reader keeps up with the first items: there are few records. Then one is slow, and while
   others gather behind it there is no memory for more. */
static int slow_while_full(const void *in, void *out, const twill_task *task)
{
    seen *s = task->context;
    int i = *(const int *)in;
    CHECK(i <= 20 ? comes_to(&s->most, i - 1) : comes_to(&s->out, 1));
    if (i == 20) {
        unsigned long asked = faults_allocs();
        faults_fail_alloc_from(1);
        atomic_store(&s->out, 1);
        for (int k = 0; k < 200000 && faults_allocs() == asked; k++)
            twill_sleep(twill_within(TWILL_US(50)));
        CHECK(faults_allocs() > asked);
        faults_fail_alloc(0);
    }
    *(int *)out = i * 2;
    return 0;
}

static int count_and_aggregate(const void *result, const twill_outcome *outcome,
                               const twill_task *task)
{
    int code = aggregate(result, outcome, task);
    atomic_fetch_add(&((seen *)task->context)->most, 1);
    return code;
}

TEST(order_is_kept_when_memory_runs_out_on_the_way)
{
    seen *s = fresh();
    CHECK_EQ(twill_fan_out_fan_in(numbers, sizeof *numbers, 100, slow_while_full, sizeof(int),
                                  count_and_aggregate,
                                  OPTIONS(.run = {.workers = 2,
                                                  .context = s,
                                                  .report = &s->report,
                                                  .until = twill_within(TWILL_SEC(100))},
                                          .ordered = true, .in_flight = 2, .max_unread = 64)),
             TWILL_OK);
    CHECK_EQ(s->count, 100);
    for (size_t i = 0; i < 100; i++)
        CHECK_EQ(s->order[i], i);
    CHECK_EQ(s->report.done, 100);
    CHECK_EQ(faults_live(), 0);
}

TEST(worker_hooks)
{
    for (int fails = -1; fails <= 3; fails++) {
        seen *s = fresh();
        atomic_store(&starts, 0);
        atomic_store(&stops, 0);
        atomic_store(&start_fails, fails);
        twill_status status =
            run(s, 200, OPTIONS(.run = {.workers = 3, .worker_start = start, .worker_stop = stop}));
        CHECK_EQ(status, fails == 3 ? TWILL_FAILED : TWILL_OK);
        CHECK_EQ(s->report.done, fails == 3 ? 0 : 200);
        if (fails == 3)
            CHECK(s->report.first_error.index == SIZE_MAX && s->report.first_error.code == 31);
        CHECK_EQ(atomic_load(&starts), atomic_load(&stops));
        check_books(s, 200, true);
    }
}

/* ---- pools and nesting ---- */

TEST(on_a_pool)
{
    for (unsigned threads = 1; threads <= 3; threads++) {
        twill_pool *pool;
        CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.run.workers = threads}), TWILL_OK);
        for (int round = 0; round < 20; round++) {
            seen *s = fresh();
            s->end_thread = round == 7 ? 3 : -1;
            twill_status status = run(s, 100, OPTIONS(.run.pool = pool));
            CHECK_EQ(status, atomic_load(&s->ended) ? TWILL_FAILED : TWILL_OK);
            CHECK(atomic_load(&s->most) <= (int)threads);
            for (int i = 0; i < 100; i++)
                CHECK_EQ(s->aggregated[i], 1);
        }
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    }
}

static twill_pool *nest_pool;

static int inner_process(const void *in, void *out, const twill_task *task)
{
    (void)task;
    *(int *)out = *(const int *)in;
    return 0;
}

static int inner_add(const void *result, const twill_outcome *outcome, const twill_task *task)
{
    CHECK_EQ(outcome->status, TWILL_OK);
    *(int *)task->context += *(const int *)result;
    return 0;
}

static int outer_process(const void *in, void *out, const twill_task *task)
{
    int items[5] = {1, 2, 3, 4, *(const int *)in};
    (void)task;
    return (int)twill_fan_out_fan_in(
        items, sizeof *items, 5, inner_process, sizeof(int), inner_add,
        OPTIONS(.run.pool = nest_pool, .run.context = out, .in_flight = 1));
}

TEST(nested_in_a_pool_of_one)
{
    for (int round = 0; round < 20; round++) {
        int items[6] = {10, 20, 30, 40, 50, 60}, sum = 0;
        if (round % 2)
            CHECK_EQ(twill_pool_create(&nest_pool, &(twill_pool_options){.run.workers = 1}),
                     TWILL_OK);
        CHECK_EQ(twill_fan_out_fan_in(
                     items, sizeof *items, 6, outer_process, sizeof(int), inner_add,
                     OPTIONS(.run.pool = nest_pool, .run.context = &sum, .in_flight = 1)),
                 TWILL_OK);
        CHECK_EQ(sum, 210 + 60);
        CHECK_EQ(twill_pool_destroy(nest_pool), TWILL_OK);
        nest_pool = NULL;
    }
}

static int body_with_fan(const twill_task *task)
{
    int out = 0, in = (int)task->index;
    CHECK_EQ(outer_process(&in, &out, task), 0);
    CHECK_EQ(out, 10 + in);
    return 0;
}

TEST(inside_a_parallel_call)
{
    CHECK_EQ(twill_parallel_for(40, body_with_fan, &(twill_parallel_options){.run.workers = 3}),
             TWILL_OK);
}

/* ---- fork ---- */

static atomic_int forked;

static int fork_once(const void *in, void *out, const twill_task *task)
{
    (void)in;
    (void)out;
    if (task->index == 3 && !atomic_exchange(&forked, 1)) {
        pid_t child = fork();
        if (child == 0) { /* a call of its own works here */
#ifdef TWILL__UNDER_TSAN  /* it allows no threads in a forked child */
            _exit(0);
#endif
            int items[3] = {1, 2, 3}, sum = 0;
            _exit(twill_fan_out_fan_in(items, sizeof *items, 3, inner_process, sizeof(int),
                                       inner_add, OPTIONS(.run.workers = 2, .run.context = &sum)) !=
                      TWILL_OK ||
                  sum != 6);
        }
        int status = -1;
        CHECK_EQ(waitpid(child, &status, 0), child);
        CHECK_EQ(status, 0);
    }
    return 0;
}

static int fork_in_aggregate(const void *result, const twill_outcome *outcome,
                             const twill_task *task)
{
    (void)result;
    (void)outcome;
    if (!atomic_exchange(&forked, 1)) {
        pid_t child = fork();
        *(pid_t *)task->context = child;
    }
    return 0;
}

TEST(fork_in_callbacks)
{
    int items[10] = {0}, status = -1;
    pid_t child = -1;
    twill_status answer;
#ifdef __SANITIZE_ADDRESS__
    SKIP("a thread may hold the address sanitizer's own lock while another one forks");
#endif
    atomic_store(&forked, 0);
    CHECK_EQ(twill_fan_out_fan_in(items, sizeof *items, 10, fork_once, 0, NULL,
                                  OPTIONS(.run.workers = 2)),
             TWILL_OK);
    atomic_store(&forked, 0);
    answer =
        twill_fan_out_fan_in(items, sizeof *items, 10, inner_process, sizeof(int),
                             fork_in_aggregate, OPTIONS(.run.workers = 2, .run.context = &child));
    if (child == 0)
        _exit(answer != TWILL_FORKED);
    CHECK_EQ(answer, TWILL_OK);
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
}

/* ---- streams ---- */

static int pull(void *item, const twill_task *task)
{
    seen *s = task->context;
    if ((int)task->index == s->pull_fails)
        return 55;
    if ((int)task->index >= s->items)
        return twill_task_stop(task);
    *(int *)item = (int)task->index;
    return 0;
}

static twill_status stream(seen *s, twill_fan_options *options)
{
    options->run.context = s;
    options->run.report = &s->report;
    options->drop = note_drop;
    options->discard = note_discard;
    return twill_fan_stream(pull, sizeof(int), process, sizeof(int), aggregate, options);
}

TEST(stream_to_its_end)
{
    for (unsigned workers = 1; workers <= 3; workers++)
        for (int ordered = 0; ordered <= 1; ordered++)
            for (int n = 0; n < MOST; n = n * 9 + 1) {
                seen *s = fresh();
                s->items = n;
                CHECK_EQ(stream(s, OPTIONS(.run.workers = workers, .ordered = ordered,
                                           .in_flight = 3, .max_unread = 2)),
                         TWILL_OK);
                CHECK_EQ(s->sum, (long)n * (n - 1));
                for (int i = 0; ordered && i < n; i++)
                    CHECK_EQ(s->order[i], i);
                check_books(s, n, true);
            }
}

TEST(stream_is_bounded_and_stops)
{
    for (int ordered = 0; ordered <= 1; ordered++) {
        seen *s = fresh();
        s->items = INT_MAX; /* endless */
        s->stop_at = 100;
        CHECK_EQ(stream(s, OPTIONS(.run.workers = 2, .ordered = ordered, .in_flight = 4,
                                   .max_unread = 3)),
                 TWILL_OK);
        CHECK_EQ(s->count, 101);
        CHECK(s->report.total <= 101 + 7); /* no further than the window */
        check_books(s, (int)s->report.total, false);
    }
    /* a slow first item bounds what is kept back */
    seen *s = fresh();
    s->items = 1000;
    s->nap[0] = TWILL_MS(50);
    CHECK_EQ(stream(s, OPTIONS(.run.workers = 2, .ordered = true, .in_flight = 2, .max_unread = 5)),
             TWILL_OK);
    check_books(s, 1000, true);
}

static _Thread_local bool collects;

/* One of a worker's goes on when ten others have ended. */
static int one_waits_for_ten(const void *in, void *out, const twill_task *task)
{
    seen *s = task->context;
    twill_until until = twill_within(TWILL_SEC(100));

    (void)in, (void)out;
    if (collects || atomic_exchange(&s->most, 1)) {
        atomic_fetch_add(&s->now, 1);
        return 0;
    }
    while (atomic_load(&s->now) < 10 && twill_now() < until.deadline)
        (void)twill_sleep(twill_within(TWILL_US(30)));
    return atomic_load(&s->now) < 10;
}

/* It makes more records than it begins with, while outcomes are kept back. */
TEST(stream_keeps_back_as_many_as_it_may)
{
    seen *s = fresh();
    s->items = 30;
    collects = true;
    CHECK_EQ(twill_fan_stream(pull, sizeof(int), one_waits_for_ten, 0, NULL,
                              OPTIONS(.run.workers = 2, .run.context = s, .ordered = true,
                                      .in_flight = 2, .max_unread = 20)),
             TWILL_OK);
    CHECK(atomic_load(&s->now) >= 29);
}

TEST(stream_errors)
{
    for (int k = 0; k < 60; k += 17) {
        seen *s = fresh();
        s->items = 100;
        s->pull_fails = k;
        CHECK_EQ(stream(s, OPTIONS(.run.workers = 2)), TWILL_FAILED);
        CHECK_EQ(s->report.first_error.index, k);
        CHECK_EQ(s->report.first_error.code, 55);
        CHECK_EQ(s->report.done, k); /* what was pulled is finished */
        check_books(s, k, true);
        s = fresh();
        s->items = 100;
        s->fail_at = k;
        CHECK_EQ(stream(s, OPTIONS(.run.workers = 2)), TWILL_FAILED);
        CHECK_EQ(s->report.first_error.code, 77);
        check_books(s, (int)s->report.total, false);
    }
    seen *s = fresh();
    s->items = 10;
    CHECK_EQ(stream(s, OPTIONS(.goal = TWILL_FAN_ALL_OK)), TWILL_INVALID);
    CHECK_EQ(stream(s, OPTIONS(.goal = TWILL_FAN_QUORUM, .quorum = 11)), TWILL_FAILED);
    s = fresh();
    s->items = INT_MAX;
    for (int i = 0; i < MOST; i++)
        s->nap[i] = TWILL_US(300);
    CHECK_EQ(stream(s, OPTIONS(.run.until = twill_within(TWILL_MS(20)))), TWILL_TIMEOUT);
    check_books(s, (int)s->report.total, true);
}

/* Nothing is skipped that was never pulled; still the source was not read to its end. */
TEST(a_stream_that_is_cut_off_says_so)
{
    twill_cancel token = {0};
    seen *s = fresh();
    s->items = INT_MAX;
    CHECK_EQ(stream(s, OPTIONS(.run.until = twill_within(0))), TWILL_TIMEOUT);
    CHECK_EQ(s->report.total, 0);
    check_books(s, 0, true);
    twill_cancel_fire(&token, 1);
    s = fresh();
    s->items = INT_MAX;
    CHECK_EQ(stream(s, OPTIONS(.run.until.cancel = &token)), TWILL_CANCELLED);
    CHECK_EQ(s->report.total, 0);
    check_books(s, 0, true);
}

/* ---- the calling thread ends in aggregate ---- */

static twill_report ended_report;

static int end_in_aggregate(const void *result, const twill_outcome *outcome,
                            const twill_task *task)
{
    (void)result;
    (void)task;
    if (outcome->index % 5 == 4)
        END_THREAD();
    return 0;
}

static void call_and_end(void *unused)
{
    (void)unused;
    (void)twill_fan_out_fan_in(numbers, sizeof(int), 50, inner_process, sizeof(int),
                               end_in_aggregate,
                               OPTIONS(.run = {.workers = 2, .report = &ended_report}));
    CHECK(false);
}

TEST(the_caller_ends_in_aggregate)
{
    twill__thrd thread;
    memset(&thread, 0, sizeof thread);
    memset(&ended_report, 0, sizeof ended_report);
    thread.fn = call_and_end;
    thread.cpu = UINT_MAX;
    CHECK(twill__thread_start(&thread));
    twill__thread_join(&thread);
    CHECK_EQ(ended_report.status, TWILL_FAILED);
    CHECK_EQ(ended_report.first_error.status, TWILL_LOST);
    CHECK_EQ(ended_report.total, 50);
    CHECK_EQ(ended_report.total, ended_report.done + ended_report.failed + ended_report.skipped);
    CHECK_EQ(faults_live(), 0);
}

/* Those behind the one that ended it stand in the fan, and nobody has read them. */
static atomic_int others_ran, first_told, discards;

static int behind_the_first(const void *in, void *out, const twill_task *task)
{
    (void)out;
    (void)task;
    while (*(const int *)in && !atomic_load(&first_told))
        (void)twill_sleep(twill_within(TWILL_US(50)));
    atomic_fetch_add(&others_ran, *(const int *)in != 0);
    return 0;
}

static int end_when_all_ran(const void *result, const twill_outcome *outcome,
                            const twill_task *task)
{
    (void)result;
    (void)task;
    CHECK_EQ(outcome->index, 0);
    atomic_store(&first_told, 1);
    while (atomic_load(&others_ran) < 3)
        (void)twill_sleep(twill_within(TWILL_US(50)));
    END_THREAD();
    return 0;
}

static void count_discards(void *item, void *result, int code, const twill_task *task)
{
    (void)item;
    (void)result;
    (void)code;
    (void)task;
    atomic_fetch_add(&discards, 1);
}

static void call_and_end_first(void *unused)
{
    (void)unused;
    (void)twill_fan_out_fan_in(
        numbers, sizeof(int), 4, behind_the_first, sizeof(int), end_when_all_ran,
        OPTIONS(.run = {.workers = 2, .report = &ended_report}, .discard = count_discards));
    CHECK(false);
}

TEST(what_nobody_read_is_discarded_when_the_caller_ends)
{
    twill__thrd thread;
    (void)fresh(); /* the numbers */
    memset(&thread, 0, sizeof thread);
    memset(&ended_report, 0, sizeof ended_report);
    atomic_store(&others_ran, 0);
    atomic_store(&first_told, 0);
    atomic_store(&discards, 0);
    thread.fn = call_and_end_first;
    thread.cpu = UINT_MAX;
    CHECK(twill__thread_start(&thread));
    twill__thread_join(&thread);
    CHECK_EQ(ended_report.done, 4);
    CHECK_EQ(atomic_load(&discards), 3);
    CHECK_EQ(faults_live(), 0);
}

/* Nothing was in flight: the source alone was open. */
static int pull_and_end(void *item, const twill_task *task)
{
    (void)item;
    (void)task;
    END_THREAD();
    return 0;
}

static void stream_and_end(void *unused)
{
    (void)unused;
    (void)twill_fan_stream(pull_and_end, sizeof(int), inner_process, sizeof(int), NULL,
                           OPTIONS(.run = {.workers = 1, .report = &ended_report}));
    CHECK(false);
}

TEST(the_caller_ends_in_its_first_pull)
{
    twill__thrd thread;
    memset(&thread, 0, sizeof thread);
    memset(&ended_report, 0, sizeof ended_report);
    thread.fn = stream_and_end;
    thread.cpu = UINT_MAX;
    CHECK(twill__thread_start(&thread));
    twill__thread_join(&thread);
    CHECK_EQ(ended_report.status, TWILL_FAILED);
    CHECK_EQ(ended_report.first_error.status, TWILL_LOST);
    CHECK_EQ(ended_report.total, 0);
    CHECK_EQ(faults_live(), 0);
}

/* Records so large that a lane has fewer of them. */
typedef struct page {
    int number, rest[1023];
} page;

static int fill_page(const void *in, void *out, const twill_task *task)
{
    page *mine = out;
    (void)task;
    mine->number = *(const int *)in;
    mine->rest[1022] = -mine->number;
    return 0;
}

static int read_page(const void *result, const twill_outcome *outcome, const twill_task *task)
{
    const page *one = result;
    int *sum = task->context;
    CHECK_EQ(outcome->status, TWILL_OK);
    CHECK_EQ(one->number, numbers[outcome->index]);
    CHECK_EQ(one->rest[1022], -one->number);
    ++*sum;
    return 0;
}

TEST(large_results)
{
    int sum = 0;
    CHECK_EQ(twill_fan_out_fan_in(numbers, sizeof(int), 200, fill_page, sizeof(page), read_page,
                                  OPTIONS(.run = {.workers = 1, .context = &sum})),
             TWILL_OK);
    CHECK_EQ(sum, 200);
}

HARNESS_MAIN

/* ---- whatever the options ---- */

typedef struct odd { /* a call of which everything may be odd */
    int n, task_stop, task_skip, enough_from, ends_at;
    twill_cancel token;
    int fires_at;
    twill_status statuses[MOST];
    int codes[MOST];
} odd;

static odd strange;

static int odd_process(const void *in, void *out, const twill_task *task)
{
    int i = *(const int *)in;
    int code = process(in, out, task);
    if (i == strange.fires_at)
        twill_cancel_fire(&strange.token, 1);
    if (i == strange.task_stop)
        return twill_task_stop(task);
    return i == strange.task_skip ? twill_task_skip(task) : code;
}

static bool odd_enough(const twill_outcome *outcome, const void *result, const twill_task *task)
{
    (void)task;
    CHECK_EQ(outcome->status == TWILL_OK, result != NULL);
    return outcome->status == TWILL_OK && (int)outcome->index >= strange.enough_from;
}

static int below(int limit)
{
    return (int)test_random_below((uint64_t)limit);
}

/* -1, three times of four; else one of n. */
static int seldom(int n)
{
    return below(4) ? -1 : below(n);
}

static twill_fan_options odd_options(seen *s)
{
    static const twill_on_error policies[] = {TWILL_ON_ERROR_DEFAULT, TWILL_ON_ERROR_COLLECT,
                                              TWILL_ON_ERROR_FIRST, TWILL_ON_ERROR_LIMIT,
                                              TWILL_ON_ERROR_LOWEST};
    twill_fan_options o = {.run.workers = (unsigned)below(4), .in_flight = (size_t)below(5)};
    int n = strange.n = 1 + below(below(4) ? 12 : 200), longest = n > 12 ? 1 : 100;
    bool quick = below(2);
    o.goal = (twill_fan_goal)below(TWILL_FAN_ENOUGH + 1);
    o.quorum = o.goal == TWILL_FAN_QUORUM ? 1 + (size_t)below(n) : 0;
    o.enough = o.goal == TWILL_FAN_ENOUGH ? odd_enough : NULL;
    o.max_unread = (size_t)below(3) * (size_t)below(8);
    o.ordered = below(2);
    o.run.on_error = policies[below(5)];
    o.run.max_errors = o.run.on_error == TWILL_ON_ERROR_LIMIT ? (size_t)(1 + below(3)) : 0;
    o.timeout = below(4) ? 0 : below(2) ? TWILL_FOREVER : TWILL_US(1 + below(300));
    if (!below(6))
        o.run.until.deadline = twill_now() + TWILL_US(below(300));
    if (!below(3))
        o.run.until.cancel = &strange.token;
    strange.task_stop = seldom(n);
    strange.task_skip = seldom(n);
    strange.fires_at = seldom(n);
    strange.enough_from = below(2 * n);
    s->stop_at = seldom(n);
    s->fail_at = seldom(n);
    s->pull_fails = seldom(2 * n);
    s->items = n;
    s->deaf = below(2);
    for (int i = 0; i < n; i++) {
        s->code[i] = below(5) ? 0 : 1 + below(9);
        s->nap[i] = quick || below(3) ? 0 : TWILL_US(below(longest));
    }
    return o;
}

TEST(whatever_the_options_the_books_add_up)
{
    for (int round = 0; round < 100; round++) {
        seen *s = fresh();
        bool streams = round % 3 == 0;
        twill_fan_options o = odd_options(s);
        size_t counts[3] = {0, 0, 0};
        twill_cancel_init(&strange.token, NULL);
        if (streams && o.goal == TWILL_FAN_ALL_OK)
            o.goal = TWILL_FAN_ALL;
        o.run.context = s;
        o.run.report = &s->report;
        o.drop = note_drop;
        o.discard = note_discard;
        if (streams) {
            (void)twill_fan_stream(pull, sizeof(int), odd_process, sizeof(int), aggregate, &o);
            check_books(s, (int)s->report.total, false);
            CHECK(s->report.total <= (size_t)strange.n);
            twill_cancel_detach(&strange.token);
            continue;
        }
        o.run.statuses = round & 1 ? strange.statuses : NULL;
        o.run.codes = round & 2 ? strange.codes : NULL;
        (void)twill_fan_out_fan_in(numbers, sizeof(int), (size_t)strange.n, odd_process,
                                   sizeof(int), round % 5 ? aggregate : NULL, &o);
        check_books(s, strange.n, false);
        for (int i = 0; i < strange.n; i++) {
            if (o.run.statuses) {
                twill_status status = strange.statuses[i];
                bool ran = atomic_load(&s->ran[i]);
                counts[status == TWILL_OK                                            ? 0
                       : status == TWILL_CANCELLED || (!ran && status != TWILL_LOST) ? 2
                                                                                     : 1]++;
                if (s->aggregated[i])
                    CHECK_EQ(status, s->status[i]);
                if (o.run.codes)
                    CHECK_EQ(strange.codes[i], status == TWILL_FAILED ? s->code[i] : 0);
            }
        }
        if (o.run.statuses) {
            CHECK_EQ(counts[0], s->report.done);
            CHECK_EQ(counts[1], s->report.failed);
            CHECK_EQ(counts[2], s->report.skipped);
        }
        twill_cancel_detach(&strange.token);
    }
}

/* Sizes at which records, lanes or rings are as small, or as large, as they get. */
TEST(sizes_at_their_bounds)
{
    seen *s = fresh();
    CHECK_EQ(run(s, 100, OPTIONS(.run.workers = 1, .in_flight = 40, .max_unread = 1)), TWILL_OK);
    check_books(s, 100, true); /* a lane has most of the records */
    s = fresh();
    CHECK_EQ(run(s, 100, OPTIONS(.run.workers = 17, .in_flight = 17, .timeout = TWILL_FOREVER)),
             TWILL_OK); /* more workers than lanes */
    check_books(s, 100, true);
    s = fresh();
    CHECK_EQ(run(s, 100, OPTIONS(.max_abandoned = 1, .run.workers = 2)), TWILL_OK);
    check_books(s, 100, true);
    CHECK_EQ(run(s, 10, OPTIONS(.result_size = 3)), TWILL_INVALID);
    s = fresh();
    CHECK_EQ(run(s, 10, OPTIONS(.result_size = sizeof(int))), TWILL_OK); /* as it is said anyway */
    check_books(s, 10, true);
    s = fresh();
    CHECK_EQ(run(s, 10,
                 OPTIONS(.ordered = true, .run.workers = 1, .in_flight = SIZE_MAX / 8,
                         .max_unread = SIZE_MAX / 8)),
             TWILL_OK); /* no more than there are items */
    {
        twill_fan *fan;
        CHECK_EQ(twill_fan_create(&fan, OPTIONS(.ordered = true, .run.workers = 1, .in_flight = 1,
                                                .max_unread = SIZE_MAX / 8)),
                 TWILL_TOO_BIG);
        CHECK_EQ(twill_fan_create(&fan, OPTIONS(.ordered = true, .run.workers = 1, .in_flight = 32,
                                                .max_unread = SIZE_MAX / 32 - 4096,
                                                .result_size = 1 << 20)),
                 TWILL_TOO_BIG);
        CHECK_EQ(twill_fan_create(
                     &fan, OPTIONS(.run.workers = 1, .in_flight = 32, .result_size = SIZE_MAX / 9)),
                 TWILL_TOO_BIG);
        CHECK_EQ(twill_fan_create(
                     &fan, OPTIONS(.run.workers = 1, .in_flight = 1, .result_size = SIZE_MAX / 9)),
                 TWILL_NO_MEMORY);
    }
}

/* ---- forks in the other callbacks of a call ---- */

enum { IN_PULL, IN_ENOUGH, IN_KEPT, IN_REST, IN_PROCESS, FORKS };
static int fork_in;
static pid_t call_child;

static void fork_now(int where)
{
    if (where == fork_in && call_child < 0)
        call_child = fork();
}

static int forking_pull(void *item, const twill_task *task)
{
    fork_now(IN_PULL);
    *(int *)item = 1;
    return task->index == 3 ? twill_task_stop(task) : 0;
}

static bool forking_enough(const twill_outcome *outcome, const void *result, const twill_task *task)
{
    (void)outcome;
    (void)result;
    (void)task;
    fork_now(IN_ENOUGH);
    return false;
}

static int forking_aggregate(const void *result, const twill_outcome *outcome,
                             const twill_task *task)
{
    (void)result;
    (void)task;
    fork_now(outcome->started ? IN_KEPT : IN_REST);
    return 0;
}

static int forking_process(const void *in, void *out, const twill_task *task)
{
    (void)in;
    (void)out;
    (void)task;
    fork_now(IN_PROCESS);
    return 0;
}

/* In the child the call says so, in its report, too, and leaves the rest to the parent. */
TEST(a_fork_in_any_callback_of_a_call)
{
#ifdef __SANITIZE_ADDRESS__
    SKIP("a thread may hold the address sanitizer's own lock while another one forks");
#endif
    for (fork_in = 0; fork_in < FORKS; fork_in++) {
        static const int items[4] = {1, 2, 3, 4};
        pid_t parent = getpid();
        twill_report report;
        twill_cancel token;
        int status = -1;
        twill_status answer;
        twill_fan_options options = {.run.workers = 1, .run.report = &report};
        call_child = -1;
        twill_cancel_init(&token, NULL);
        if (fork_in == IN_REST) { /* no item is begun */
            twill_cancel_fire(&token, 1);
            options.run.until.cancel = &token;
        }
        if (fork_in == IN_KEPT)
            options.goal = TWILL_FAN_ALL_OK;
        if (fork_in == IN_ENOUGH) {
            options.goal = TWILL_FAN_ENOUGH;
            options.enough = forking_enough;
        }
        if (fork_in == IN_PROCESS)
            faults_fail_thread(1); /* so the caller runs it */
        if (fork_in == IN_PULL)
            answer = twill_fan_stream(forking_pull, sizeof(int), forking_process, 0,
                                      forking_aggregate, &options);
        else
            answer = twill_fan_out_fan_in(items, sizeof *items, 4, forking_process, 0,
                                          forking_aggregate, &options);
        if (getpid() != parent)
            _exit(answer != TWILL_FORKED || report.status != TWILL_FORKED);
        faults_fail_thread(0);
        CHECK_EQ(answer, fork_in == IN_REST     ? TWILL_CANCELLED
                         : fork_in == IN_ENOUGH ? TWILL_FAILED
                                                : TWILL_OK);
        CHECK(call_child > 0);
        CHECK_EQ(waitpid(call_child, &status, 0), call_child);
        CHECK_EQ(status, 0);
        twill_cancel_detach(&token);
        CHECK_EQ(faults_live(), 0);
    }
}
