/* twill_fan: go, next, close, cancel, stop, destroy, and the races between them. */
#define HARNESS_FAULTS
#include "harness.h"

/* In place of the next allocation, which fails. */
static void (*instead_of_memory)(void);

static void *allocate(size_t size)
{
    void (*instead)(void) = instead_of_memory;
    if (!instead)
        return test_malloc(size);
    instead_of_memory = NULL;
    instead();
    return NULL;
}

#undef TWILL_MALLOC
#define TWILL_MALLOC(size) allocate(size)

#define TWILL_IMPLEMENTATION
#include "twill_fan_out_fan_in.h"
#include "twill_parallel_map.h"
#include "twill_worker_pool.h"

#ifdef TWILL_USE_PTHREAD
#define END_THREAD() pthread_exit(NULL)
#else
#define END_THREAD() thrd_exit(0)
#endif
#define OPTIONS(...) (&(twill_fan_options){__VA_ARGS__})

/* ---- tasks ---- */

enum { MOST = 20000 };
static atomic_uchar ran[MOST], dropped[MOST], discarded[MOST];
static unsigned char given[MOST];
static atomic_int at_once, most_at_once, gate, inside;

static void clear(void)
{
    memset((void *)ran, 0, sizeof ran);
    memset((void *)dropped, 0, sizeof dropped);
    memset((void *)discarded, 0, sizeof discarded);
    memset(given, 0, sizeof given);
    atomic_store(&most_at_once, 0);
    atomic_store(&gate, 0);
    atomic_store(&inside, 0);
}

static void *tag(int i)
{
    return (void *)(intptr_t)i;
}

static void enter(int i)
{
    int now = atomic_fetch_add(&at_once, 1) + 1, most = atomic_load(&most_at_once);
    while (most < now && !atomic_compare_exchange_weak(&most_at_once, &most, now))
        continue;
    atomic_fetch_add(&ran[i], 1);
}

static int quick(void *arg, void *result, const twill_task *task)
{
    int i = (int)(intptr_t)arg;
    CHECK(task->worker < task->workers);
    enter(i);
    if (result) {
        CHECK_EQ(*(int *)result, 0);
        *(int *)result = i * 2;
    }
    atomic_fetch_sub(&at_once, 1);
    return i % 10 == 9 ? i : 0;
}

/* Until the gate opens; deaf to its token. */
static int gated(void *arg, void *result, const twill_task *task)
{
    int i = (int)(intptr_t)arg;
    (void)task;
    enter(i);
    atomic_fetch_add(&inside, 1);
    while (!atomic_load(&gate))
        twill_sleep(twill_within(TWILL_US(200)));
    if (result)
        *(int *)result = i * 2;
    atomic_fetch_sub(&at_once, 1);
    return 0;
}

/* Until its token fires. */
static int polite(void *arg, void *result, const twill_task *task)
{
    int i = (int)(intptr_t)arg;
    (void)result;
    enter(i);
    atomic_fetch_add(&inside, 1);
    CHECK(twill_sleep(task->until) <= TWILL_CANCELLED);
    CHECK(twill_task_cancelled(task));
    atomic_fetch_sub(&at_once, 1);
    return twill_task_skip(task);
}

static void wait_inside(int count)
{
    while (atomic_load(&inside) < count)
        twill_sleep(twill_within(TWILL_US(100)));
}

static void note_drop(void *arg, twill_status why, const twill_task *task)
{
    CHECK(why == TWILL_CANCELLED || why == TWILL_TIMEOUT);
    CHECK_EQ(task->worker, UINT_MAX);
    atomic_fetch_add(&dropped[(intptr_t)arg], 1);
}

static void note_discard(void *arg, void *result, int code, const twill_task *task)
{
    (void)task;
    CHECK_EQ(code, 0);
    if (result)
        CHECK_EQ(*(int *)result, (int)(intptr_t)arg * 2);
    atomic_fetch_add(&discarded[(intptr_t)arg], 1);
}

static twill_fan *make(twill_fan_options *options)
{
    twill_fan *fan;
    options->drop = note_drop;
    options->discard = note_discard;
    options->result_size = sizeof(int);
    CHECK_EQ(twill_fan_create(&fan, options), TWILL_OK);
    return fan;
}

static void check_outcome(const twill_outcome *outcome, int result)
{
    int i = (int)(intptr_t)outcome->key;
    given[i]++;
    if (outcome->status == TWILL_OK)
        CHECK_EQ(result, i * 2);
    if (outcome->status == TWILL_FAILED)
        CHECK_EQ(outcome->code, i);
    if (outcome->started)
        CHECK(outcome->queued <= outcome->started && outcome->started <= outcome->finished);
}

/* Reads until `end`; returns how many. */
static int read_all(twill_fan *fan, twill_status end)
{
    twill_outcome outcome;
    twill_status status;
    int count = 0, result;
    while ((status = twill_fan_next(fan, &result, &outcome)) == TWILL_OK) {
        check_outcome(&outcome, result);
        count++;
    }
    CHECK_EQ(status, end);
    return count;
}

static void check_books(int n, bool all_given)
{
    for (int i = 0; i < n; i++) {
        CHECK_EQ(atomic_load(&ran[i]) + atomic_load(&dropped[i]), 1);
        CHECK(given[i] <= 1);
        CHECK(given[i] + atomic_load(&discarded[i]) <= 1 || !atomic_load(&ran[i]));
        if (all_given)
            CHECK_EQ(given[i], 1);
    }
    CHECK_EQ(faults_live(), 0);
}

static void destroy(twill_fan *fan, const twill_report *report)
{
    CHECK_EQ(twill_fan_destroy(fan), TWILL_OK);
    if (report)
        CHECK_EQ(report->total, report->done + report->failed + report->skipped);
}

typedef struct side {
    twill__thrd thread;
    twill_fan *fan;
    int from, to;
    twill_status status;
    twill_until until;
} side;

static void begin(side *s, twill_fan *fan, void (*fn)(void *))
{
    memset(&s->thread, 0, sizeof s->thread);
    s->thread.fn = fn;
    s->thread.arg = s;
    s->thread.cpu = UINT_MAX;
    s->fan = fan;
    CHECK(twill__thread_start(&s->thread));
}

/* ---- go and next ---- */

TEST(each_outcome_once_with_its_key)
{
    for (unsigned workers = 1; workers <= 3; workers++)
        for (int ordered = 0; ordered <= 1; ordered++) {
            twill_report report;
            twill_fan *fan =
                make(OPTIONS(.run = {.workers = workers, .report = &report}, .ordered = ordered));
            clear();
            for (int i = 0; i < 2000; i++)
                CHECK_EQ(twill_fan_go(fan, quick, tag(i), tag(i)), TWILL_OK);
            CHECK_EQ(twill_fan_close(fan), TWILL_OK);
            CHECK_EQ(twill_fan_close(fan), TWILL_CLOSED);
            CHECK_EQ(twill_fan_go(fan, quick, tag(1), NULL), TWILL_CLOSED);
            CHECK_EQ(read_all(fan, TWILL_CLOSED), 2000);
            CHECK_EQ(read_all(fan, TWILL_CLOSED), 0);
            CHECK(atomic_load(&most_at_once) <= (int)workers);
            destroy(fan, &report);
            CHECK_EQ(report.status, TWILL_FAILED);
            CHECK_EQ(report.done, 1800);
            CHECK_EQ(report.first_error.index, 9);
            check_books(2000, true);
        }
}

TEST(empty_and_bad_input)
{
    twill_fan *fan = make(OPTIONS(.run.workers = 1));
    twill_stopped stopped;
    twill_outcome outcome;
    twill_fan_stats stats;
    CHECK_EQ(twill_fan_try_next(fan, NULL, &outcome), TWILL_EMPTY);
    CHECK_EQ(twill_fan_next_until(fan, NULL, &outcome, twill_within(TWILL_MS(1))), TWILL_TIMEOUT);
    CHECK_EQ(twill_fan_next(fan, NULL, NULL), TWILL_INVALID);
    CHECK_EQ(twill_fan_next(NULL, NULL, &outcome), TWILL_INVALID);
    CHECK_EQ(twill_fan_go(fan, NULL, NULL, NULL), TWILL_INVALID);
    CHECK_EQ(twill_fan_go(NULL, quick, NULL, NULL), TWILL_INVALID);
    CHECK_EQ(twill_fan_close(NULL), TWILL_INVALID);
    CHECK_EQ(twill_fan_cancel(NULL), TWILL_INVALID);
    memset(&stopped, 0xff, sizeof stopped);
    CHECK_EQ(twill_fan_stop(NULL, twill_within(0), twill_within(0), &stopped), TWILL_INVALID);
    CHECK_EQ(stopped.finished + stopped.cancelled + stopped.stuck, 0);
    CHECK_EQ(twill_fan_stop(NULL, twill_within(0), twill_within(0), NULL), TWILL_INVALID);
    CHECK_EQ(twill_fan_destroy(NULL), TWILL_OK);
    CHECK_EQ(twill_fan_close(fan), TWILL_OK);
    CHECK_EQ(twill_fan_next(fan, NULL, &outcome), TWILL_CLOSED);
    CHECK_EQ(twill_fan_try_next(fan, NULL, &outcome), TWILL_CLOSED);
    twill_fan_get_stats(fan, &stats);
    CHECK_EQ(stats.accepted, 0);
    twill_fan_get_stats(NULL, &stats);
    destroy(fan, NULL);
    twill_status statuses[1];
    CHECK_EQ(twill_fan_create(&fan, OPTIONS(.run.statuses = statuses)), TWILL_INVALID);
    CHECK_PTR(fan, NULL);
    int code;
    CHECK_EQ(twill_fan_create(&fan, OPTIONS(.run.codes = &code)), TWILL_INVALID);
    CHECK_EQ(twill_fan_create(&fan, OPTIONS(.ordered = true, .in_flight = SIZE_MAX / 16)),
             TWILL_TOO_BIG);
    CHECK_EQ(twill_fan_create(&fan, OPTIONS(.goal = TWILL_FAN_QUORUM)), TWILL_INVALID);
    CHECK_EQ(twill_fan_create(&fan, OPTIONS(.result_size = SIZE_MAX / 2)), TWILL_TOO_BIG);
    CHECK_EQ(twill_fan_create(&fan, OPTIONS(.max_unread = SIZE_MAX)), TWILL_TOO_BIG);
    CHECK_EQ(faults_live(), 0);
}

TEST(a_ready_outcome_comes_before_an_expired_deadline)
{
    twill_fan *fan = make(OPTIONS(.run.workers = 1));
    twill_outcome outcome;
    twill_fan_stats stats;
    int result;
    clear();
    CHECK_EQ(twill_fan_go(fan, quick, tag(1), tag(1)), TWILL_OK);
    do
        twill_fan_get_stats(fan, &stats);
    while (!stats.unread);
    CHECK_EQ(twill_fan_next_until(fan, &result, &outcome, twill_within(0)), TWILL_OK);
    CHECK_EQ(twill_fan_next_until(fan, &result, &outcome, twill_within(0)), TWILL_TIMEOUT);
    destroy(fan, NULL);
}

TEST(window)
{
    twill_fan *fan = make(OPTIONS(.run.workers = 2, .in_flight = 3));
    twill_outcome outcome;
    twill_fan_stats stats;
    clear();
    for (int i = 0; i < 3; i++)
        CHECK_EQ(twill_fan_try_go(fan, gated, tag(i), tag(i)), TWILL_OK);
    wait_inside(2);
    CHECK_EQ(twill_fan_try_go(fan, gated, tag(3), tag(3)), TWILL_FULL);
    CHECK_EQ(twill_fan_go_until(fan, gated, tag(3), tag(3), twill_within(TWILL_MS(5))),
             TWILL_TIMEOUT);
    twill_fan_get_stats(fan, &stats);
    CHECK_EQ(stats.running, 2);
    CHECK_EQ(stats.queued, 1);
    CHECK_EQ(stats.accepted, 3);
    CHECK_EQ(twill_fan_next_until(fan, NULL, &outcome, twill_within(TWILL_MS(5))), TWILL_TIMEOUT);
    atomic_store(&gate, 1);
    CHECK_EQ(twill_fan_go(fan, gated, tag(3), tag(3)), TWILL_OK); /* a task ends: room, unread */
    CHECK_EQ(twill_fan_close(fan), TWILL_OK);
    CHECK_EQ(read_all(fan, TWILL_CLOSED), 4);
    CHECK_EQ(atomic_load(&most_at_once), 2);
    destroy(fan, NULL);
    check_books(4, true);
}

static void read_some(void *side_)
{
    side *s = side_;
    twill_outcome outcome;
    int result;
    twill_sleep(twill_within(TWILL_MS(20)));
    for (int k = s->from; k < s->to; k++) {
        CHECK_EQ(twill_fan_next(s->fan, &result, &outcome), TWILL_OK);
        check_outcome(&outcome, result);
    }
}

TEST(unread_outcomes_are_bounded)
{
    twill_fan *fan = make(OPTIONS(.run.workers = 2, .in_flight = 2, .max_unread = 5));
    twill_outcome outcome;
    twill_fan_stats stats;
    side reader = {.from = 0, .to = 3};
    int accepted = 0, result;
    clear();
    for (;;) { /* one thread that goes and does not read: it cannot hang */
        twill_status status = twill_fan_go(fan, quick, tag(accepted), tag(accepted));
        if (status != TWILL_OK) {
            CHECK_EQ(status, TWILL_FULL);
            break;
        }
        accepted++;
    }
    CHECK(accepted >= 5 && accepted <= 7);
    CHECK_EQ(
        twill_fan_go_until(fan, quick, tag(accepted), tag(accepted), twill_within(TWILL_MS(5))),
        TWILL_TIMEOUT);
    begin(&reader, fan, read_some);
    CHECK_EQ(twill_fan_go_until(fan, quick, tag(accepted), tag(accepted), (twill_until){0, NULL}),
             TWILL_OK); /* waits for the reader */
    twill__thread_join(&reader.thread);
    accepted++;
    CHECK_EQ(twill_fan_close(fan), TWILL_OK);
    CHECK_EQ(3 + read_all(fan, TWILL_CLOSED), accepted);
    CHECK_EQ(twill_fan_next(fan, &result, &outcome), TWILL_CLOSED);
    twill_fan_get_stats(fan, &stats);
    CHECK(stats.records <= 7);
    destroy(fan, NULL);
    check_books(accepted, true);
}

static void go_some(void *side_)
{
    side *s = side_;
    for (int i = s->from; i < s->to; i++)
        CHECK_EQ(twill_fan_go_until(s->fan, quick, tag(i), tag(i), (twill_until){0, NULL}),
                 TWILL_OK);
}

static atomic_int read_count, readers_ended;
static atomic_uchar given_by_threads[MOST];

static void read_until_closed(void *side_)
{
    side *s = side_;
    twill_outcome outcome;
    int result;
    while ((s->status = twill_fan_next_until(s->fan, &result, &outcome, s->until)) == TWILL_OK) {
        atomic_fetch_add(&given_by_threads[(intptr_t)outcome.key], 1);
        atomic_fetch_add(&read_count, 1);
    }
    atomic_fetch_add(&readers_ended, 1);
}

/* Memory does not grow with n; nothing is lost between many threads. */
TEST(many_goers_many_readers)
{
    for (int ordered = 0; ordered <= 1; ordered++) {
        twill_fan *fan =
            make(OPTIONS(.run.workers = 2, .in_flight = 4, .max_unread = 8, .ordered = ordered));
        twill_fan_stats stats;
        side goers[3], readers[2] = {{.until = {0, NULL}}, {.until = {0, NULL}}};
        clear();
        atomic_store(&read_count, 0);
        memset((void *)given_by_threads, 0, sizeof given_by_threads);
        for (int k = 0; k < 2; k++)
            begin(&readers[k], fan, read_until_closed);
        for (int k = 0; k < 3; k++) {
            goers[k].from = k * 1000;
            goers[k].to = (k + 1) * 1000;
            begin(&goers[k], fan, go_some);
        }
        for (int k = 0; k < 3; k++)
            twill__thread_join(&goers[k].thread);
        CHECK_EQ(twill_fan_close(fan), TWILL_OK);
        for (int k = 0; k < 2; k++) {
            twill__thread_join(&readers[k].thread);
            CHECK_EQ(readers[k].status, TWILL_CLOSED);
        }
        CHECK_EQ(atomic_load(&read_count), 3000);
        for (int i = 0; i < 3000; i++)
            CHECK_EQ(atomic_load(&given_by_threads[i]), 1);
        twill_fan_get_stats(fan, &stats);
        CHECK(stats.records <= 12 + 7); /* each of the threads may be giving one back */
        CHECK(atomic_load(&most_at_once) <= 2);
        destroy(fan, NULL);
        check_books(3000, false);
    }
}

/* The cost of an outcome does not depend on how many there are: reading is a walk of a list. */
TEST(completion_order)
{
    twill_fan *fan = make(OPTIONS(.run.workers = 3));
    twill_outcome outcome, last = {.finished = 0};
    clear();
    for (int i = 0; i < 3000; i++)
        CHECK_EQ(twill_fan_go(fan, quick, tag(i), tag(i)), TWILL_OK);
    CHECK_EQ(twill_fan_close(fan), TWILL_OK);
    while (twill_fan_next(fan, NULL, &outcome) == TWILL_OK) {
        last = outcome;
        given[(intptr_t)outcome.key]++;
    }
    CHECK(last.finished > 0);
    destroy(fan, NULL);
    check_books(3000, true);
}

/* ---- tasks that use their own fan ---- */

static twill_fan *own;
static atomic_int next_key;

static int tree(void *arg, void *result, const twill_task *task)
{
    int depth = (int)(intptr_t)arg;
    (void)task;
    *(int *)result = 0;
    for (int k = 0; k < 2 && depth > 0; k++) {
        int key = atomic_fetch_add(&next_key, 1);
        CHECK_EQ(twill_fan_go(own, tree, tag(depth - 1), tag(key)), TWILL_OK);
    }
    return 0;
}

TEST(tasks_go_on_their_own_fan)
{
    for (int round = 0; round < 12; round++) {
        twill_pool *pool = NULL;
        twill_outcome outcome;
        int count = 0;
        twill_status status;
        if (round % 2)
            CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 1}), TWILL_OK);
        CHECK_EQ(twill_fan_create(&own, OPTIONS(.run = {.pool = pool, .workers = pool ? 0 : 2},
                                                .in_flight = round < 6 ? 1 : 3, .result_size = 4)),
                 TWILL_OK);
        clear();
        atomic_store(&next_key, 1);
        CHECK_EQ(twill_fan_go(own, tree, tag(8), tag(0)), TWILL_OK);
        CHECK_EQ(twill_fan_close(own), TWILL_OK); /* running tasks may still go */
        while ((status = twill_fan_next(own, NULL, &outcome)) == TWILL_OK) {
            given[(intptr_t)outcome.key]++;
            count++;
        }
        CHECK_EQ(status, TWILL_CLOSED);
        CHECK_EQ(count, 511);
        for (int i = 0; i < 511; i++)
            CHECK_EQ(given[i], 1);
        destroy(own, NULL);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
        CHECK_EQ(faults_live(), 0);
    }
}

static int go_and_read(void *arg, void *result, const twill_task *task)
{
    twill_outcome outcome;
    int value = 0;
    (void)arg;
    (void)task;
    CHECK_EQ(twill_fan_go(own, quick, tag(7), tag(7)), TWILL_OK);
    CHECK_EQ(twill_fan_next(own, &value, &outcome), TWILL_OK);
    CHECK_EQ(value, 14);
    CHECK_EQ(twill_fan_close(own), TWILL_OK);
    CHECK_EQ(twill_fan_next(own, &value, &outcome), TWILL_DEADLOCK);
    CHECK_EQ(twill_fan_destroy(own), TWILL_DEADLOCK);
    CHECK_EQ(twill_fan_stop(own, twill_within(0), twill_within(0), NULL), TWILL_DEADLOCK);
    *(int *)result = 2;
    return 0;
}

TEST(a_task_reads_its_own_fan)
{
    for (int round = 0; round < 6; round++) {
        twill_pool *pool = NULL;
        twill_outcome outcome;
        int value;
        if (round % 2)
            CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 1}), TWILL_OK);
        clear();
        own =
            make(OPTIONS(.run = {.pool = pool, .workers = 1}, .in_flight = 1 + (size_t)round % 3));
        CHECK_EQ(twill_fan_go(own, go_and_read, tag(1), tag(1)), TWILL_OK);
        while (atomic_load(&ran[7]) == 0)
            twill_sleep(twill_within(TWILL_US(100)));
        twill_sleep(twill_within(TWILL_MS(2)));
        CHECK_EQ(twill_fan_next(own, &value, &outcome), TWILL_OK);
        CHECK_EQ(value, 2);
        CHECK_EQ(twill_fan_next(own, &value, &outcome), TWILL_CLOSED);
        destroy(own, NULL);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    }
}

static twill_pool *one;

static int whole_fan(const twill_task *task)
{
    twill_fan *fan;
    twill_outcome outcome;
    int count = 0;
    (void)task;
    CHECK_EQ(twill_fan_create(&fan, OPTIONS(.run.pool = one, .in_flight = 1)), TWILL_OK);
    for (int i = 0; i < 10; i++)
        CHECK_EQ(twill_fan_go(fan, quick, tag(i), tag(i)), TWILL_OK);
    CHECK_EQ(twill_fan_close(fan), TWILL_OK);
    while (twill_fan_next(fan, NULL, &outcome) == TWILL_OK)
        count++;
    CHECK_EQ(count, 10);
    CHECK_EQ(twill_fan_destroy(fan), TWILL_OK);
    return 0;
}

TEST(fans_in_callbacks_on_a_pool_of_one)
{
    for (int round = 0; round < 20; round++) {
        CHECK_EQ(twill_pool_create(&one, &(twill_pool_options){.run.workers = 1}), TWILL_OK);
        CHECK_EQ(twill_parallel_for(8, whole_fan,
                                    &(twill_parallel_options){.run.pool = one, .run.workers = 2}),
                 TWILL_OK);
        CHECK_EQ(twill_pool_destroy(one), TWILL_OK);
    }
}

static void whole_fan_aside(void *code)
{
    *(int *)code = whole_fan(NULL);
}

static int waits_for_a_fan(void *arg, void *result, const twill_task *task)
{
    int code = -1;
    twill__thrd aside = {.fn = whole_fan_aside, .arg = &code, .cpu = UINT_MAX};
    (void)arg, (void)result, (void)task;
    CHECK(twill__thread_start(&aside));
    twill__thread_join(&aside);
    return code;
}

static int fan_that_abandons(const twill_task *task)
{
    twill_fan *fan;
    twill_outcome outcome;
    (void)task;
    atomic_fetch_add(&inside, 1);
    while (atomic_load(&inside) < 2) /* exit: the other item is the other thread's */
        twill__yield();
    CHECK_EQ(twill_fan_create(&fan, OPTIONS(.run.pool = one, .max_abandoned = 1)), TWILL_OK);
    CHECK_EQ(twill_fan_go(fan, quick, tag(0), tag(0)), TWILL_OK);
    CHECK_EQ(twill_fan_next(fan, NULL, &outcome), TWILL_OK);
    CHECK_EQ(twill_fan_destroy(fan), TWILL_OK);
    return 0;
}

static int waits_for_its_threads(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    return (int)twill_parallel_for(2, fan_that_abandons,
                                   &(twill_parallel_options){.run.workers = 2});
}

/* The pool's only thread waits for who waits in a fan on that pool: he runs the tasks himself. With
   max_abandoned only a thread of which it can be seen. */
TEST(fans_that_the_only_thread_of_their_pool_waits_for)
{
    twill_task_fn *fn[2] = {waits_for_a_fan, waits_for_its_threads};
    for (int k = 0; k < 2; k++) {
        twill_future future;
        atomic_store(&inside, 0);
        CHECK_EQ(twill_pool_create(&one, &(twill_pool_options){.run.workers = 1}), TWILL_OK);
        CHECK_EQ(twill_pool_submit(one, fn[k], NULL, &future, NULL), TWILL_OK);
        /* with a deadline it does not run the task itself */
        CHECK_EQ(twill_future_wait_until(future, NULL, NULL, twill_within(TWILL_SEC(60))),
                 TWILL_OK);
        twill_future_release(future);
        CHECK_EQ(twill_pool_destroy(one), TWILL_OK);
    }
    atomic_store(&inside, 0);
}

TEST(pool_is_closed_or_lives_longer)
{
    twill_pool *pool;
    twill_fan *fan;
    CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 2}), TWILL_OK);
    clear();
    fan = make(OPTIONS(.run.pool = pool));
    for (int i = 0; i < 100; i++)
        CHECK_EQ(twill_fan_go(fan, quick, tag(i), tag(i)), TWILL_OK);
    CHECK_EQ(twill_fan_close(fan), TWILL_OK);
    CHECK_EQ(read_all(fan, TWILL_CLOSED), 100);
    destroy(fan, NULL);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    check_books(100, true);
}

/* ---- ends ---- */

static void read_until_told(void *side_)
{
    side *s = side_;
    twill_outcome outcome;
    s->status = twill_fan_next(s->fan, NULL, &outcome);
}

/* The fan's own token: nobody has given it a task, and who waits gives none to next. */
TEST(a_token_ends_a_wait_for_the_next_outcome)
{
    twill_cancel token;
    twill_fan *fan;
    side reader;
    twill_cancel_init(&token, NULL);
    fan = make(OPTIONS(.run = {.workers = 1, .until.cancel = &token}));
    begin(&reader, fan, read_until_told);
    (void)twill_sleep(twill_within(TWILL_MS(2)));
    twill_cancel_fire(&token, 1);
    twill__thread_join(&reader.thread);
    CHECK_EQ(reader.status, TWILL_CLOSED);
    destroy(fan, NULL);
}

TEST(cancel_drops_the_queued_and_tells_the_running)
{
    for (int drop_by = 0; drop_by < 2; drop_by++) {
        twill_report report;
        twill_cancel token;
        twill_fan *fan;
        twill_outcome outcome;
        twill_cancel_init(&token, NULL);
        fan = make(OPTIONS(.run = {.workers = 2, .report = &report, .until.cancel = &token},
                           .in_flight = 10));
        clear();
        for (int i = 0; i < 10; i++)
            CHECK_EQ(twill_fan_go(fan, polite, tag(i), tag(i)), TWILL_OK);
        wait_inside(2);
        if (drop_by == 0) {
            CHECK_EQ(twill_fan_cancel(fan), TWILL_OK);
            CHECK_EQ(twill_fan_cancel(fan), TWILL_CLOSED);
            int gone = 0;
            for (int i = 0; i < 10; i++)
                gone += atomic_load(&dropped[i]);
            CHECK_EQ(gone, 8); /* at once */
        } else {
            twill_cancel_fire(&token, 1);
        }
        CHECK_EQ(twill_fan_go(fan, quick, tag(99), NULL), drop_by ? TWILL_CANCELLED : TWILL_CLOSED);
        for (int k = 0; k < 10; k++) {
            CHECK_EQ(twill_fan_next(fan, NULL, &outcome), TWILL_OK);
            CHECK_EQ(outcome.status, TWILL_CANCELLED);
            check_outcome(&outcome, 0);
        }
        CHECK_EQ(twill_fan_next(fan, NULL, &outcome), TWILL_CLOSED);
        destroy(fan, &report);
        CHECK_EQ(report.skipped, 10);
        CHECK_EQ(report.status, TWILL_CANCELLED);
        check_books(10, true);
        twill_cancel_detach(&token);
    }
}

/* The first task begins before the deadline, if the machine lets it; the others never do. */
static bool the_deadline_comes(twill_ns within)
{
    twill_report report;
    clear();
    twill_fan *fan =
        make(OPTIONS(.run = {.workers = 1, .report = &report, .until = twill_within(within)},
                     .in_flight = 5));
    twill_outcome outcome;
    int gone = 0;
    while (gone < 5 && twill_fan_go(fan, polite, tag(gone), tag(gone)) == TWILL_OK)
        gone++;
    for (int k = 0; k < gone; k++) {
        CHECK_EQ(twill_fan_next(fan, NULL, &outcome), TWILL_OK);
        check_outcome(&outcome, 0);
        CHECK_EQ(outcome.status, outcome.attempts ? TWILL_CANCELLED : TWILL_TIMEOUT);
        CHECK(!outcome.attempts || outcome.key == tag(0));
    }
    CHECK_EQ(twill_fan_next(fan, NULL, &outcome), TWILL_CLOSED);
    CHECK_EQ(twill_fan_go(fan, quick, NULL, NULL), TWILL_TIMEOUT);
    bool in_time = gone == 5 && atomic_load(&ran[0]);
    destroy(fan, &report);
    CHECK_EQ(report.status, TWILL_TIMEOUT);
    check_books(gone, true);
    return in_time;
}

TEST(deadline_of_the_run)
{
    CHECK(test_in_time(TWILL_MS(50), the_deadline_comes));
}

TEST(destroy_with_everything_inside)
{
    for (int round = 0; round < 30; round++) {
        twill_report report;
        twill_fan *fan = make(OPTIONS(.run = {.workers = 2, .report = &report}, .in_flight = 50));
        int n = 40;
        clear();
        for (int i = 0; i < n; i++)
            CHECK_EQ(twill_fan_go(fan, i % 20 == 19 ? polite : quick, tag(i), tag(i)), TWILL_OK);
        if (round % 2)
            wait_inside(1);
        destroy(fan, &report);
        CHECK_EQ(report.total, n);
        size_t thrown = 0;
        for (int i = 0; i < n; i++)
            thrown += atomic_load(&discarded[i]);
        CHECK_EQ(thrown, report.done);
        check_books(n, false);
    }
}

TEST(destroy_answers_those_who_wait)
{
    for (int round = 0; round < 50; round++) {
        twill_fan *fan = make(OPTIONS(.run.workers = 1, .in_flight = 1, .max_unread = 1));
        side reader = {.until = {0, NULL}}, timed = {.until = twill_within(TWILL_MS(1))};
        clear();
        atomic_store(&read_count, 0);
        atomic_store(&readers_ended, 0);
        begin(&reader, fan, read_until_closed);
        begin(&timed, fan, read_until_closed);
        if (round % 2)
            twill_sleep(twill_within(TWILL_US(900)));
        else
            CHECK_EQ(twill_fan_go(fan, quick, tag(1), tag(1)), TWILL_OK);
        if (round % 3 == 0)
            CHECK_EQ(twill_fan_close(fan), TWILL_OK);
        /* both have begun their last call, or are through with it */
        while (atomic_load(&read_count) < (round % 2 ? 0 : 1)) {}
        for (int out = 0; out + (int)atomic_load(&fan->visits) < 2;)
            out = atomic_load(&readers_ended); /* read first: nobody is counted twice */
        CHECK_EQ(twill_fan_destroy(fan), TWILL_OK);
        twill__thread_join(&reader.thread);
        twill__thread_join(&timed.thread);
        CHECK_EQ(reader.status, TWILL_CLOSED);
        CHECK(timed.status == TWILL_CLOSED || timed.status == TWILL_TIMEOUT);
        CHECK_EQ(faults_live(), 0);
    }
}

/* One obeys its token, and one does not. */
static bool one_is_stuck(twill_ns window)
{
    twill_fan *fan = make(OPTIONS(.run.workers = 2, .in_flight = 10));
    twill_stopped stopped;
    clear();
    CHECK_EQ(twill_fan_go(fan, gated, tag(0), tag(0)), TWILL_OK);
    for (int i = 1; i < 6; i++)
        CHECK_EQ(twill_fan_go(fan, polite, tag(i), tag(i)), TWILL_OK);
    wait_inside(2);
    CHECK_EQ(twill_fan_stop(fan, twill_within(TWILL_MS(2)), twill_within(window), &stopped),
             TWILL_TIMEOUT);
    CHECK_EQ(stopped.finished, 0);
    CHECK_EQ(stopped.cancelled + stopped.stuck, 6);
    bool in_time = stopped.stuck == 1; /* else the polite one had no time to come back */
    atomic_store(&gate, 1);
    CHECK_EQ(twill_fan_stop(fan, (twill_until){0, NULL}, (twill_until){0, NULL}, &stopped),
             TWILL_OK);
    CHECK(stopped.finished >= 1);
    CHECK_EQ(read_all(fan, TWILL_CLOSED), 6);
    destroy(fan, NULL);
    check_books(6, true);
    return in_time;
}

TEST(stop_drains_then_cancels_then_says_who_is_stuck)
{
    twill_fan *fan = make(OPTIONS(.run.workers = 2, .in_flight = 10));
    twill_stopped stopped;
    clear();
    for (int i = 0; i < 10; i++)
        CHECK_EQ(twill_fan_go(fan, quick, tag(i), tag(i)), TWILL_OK);
    CHECK_EQ(twill_fan_stop(fan, (twill_until){0, NULL}, (twill_until){0, NULL}, &stopped),
             TWILL_OK);
    CHECK(stopped.finished <= 10 && stopped.cancelled == 0 && stopped.stuck == 0);
    CHECK_EQ(read_all(fan, TWILL_CLOSED), 10);
    destroy(fan, NULL);
    check_books(10, true);
    CHECK(test_in_time(TWILL_MS(50), one_is_stuck));
}

/* ---- time limits ---- */

static void await_nothing_live(void)
{
    twill_ns end = twill_now() + TWILL_SEC(100);
    while (faults_live() && twill_now() < end)
        twill_sleep(twill_within(TWILL_US(100)));
    CHECK_EQ(faults_live(), 0);
}

static void wait_for_nothing(void)
{
    atomic_store(&gate, 1);
    await_nothing_live();
}

static bool two_are_answered_at_once(twill_ns timeout)
{
    twill_report report;
    twill_fan *fan = make(OPTIONS(.run = {.workers = 3, .report = &report}, .in_flight = 10,
                                  .timeout = timeout, .max_abandoned = 2));
    twill_outcome outcome;
    twill_fan_stats stats;
    clear();
    for (int i = 0; i < 3; i++)
        CHECK_EQ(twill_fan_go(fan, gated, tag(i), tag(i)), TWILL_OK);
    wait_inside(3);
    for (int k = 0; k < 2; k++) {
        CHECK_EQ(twill_fan_next(fan, NULL, &outcome), TWILL_OK);
        CHECK_EQ(outcome.status, TWILL_TIMEOUT);
        check_outcome(&outcome, 0);
    }
    /* the third may not be left behind */
    CHECK_EQ(twill_fan_next_until(fan, NULL, &outcome, twill_within(TWILL_MS(20))), TWILL_TIMEOUT);
    twill_fan_get_stats(fan, &stats);
    CHECK_EQ(stats.abandoned, 2);
    CHECK_EQ(stats.running, 1);
    atomic_store(&gate, 1);
    CHECK_EQ(twill_fan_next(fan, NULL, &outcome), TWILL_OK);
    CHECK_EQ(outcome.status, TWILL_TIMEOUT);
    check_outcome(&outcome, 0);
    CHECK_EQ(twill_fan_go(fan, quick, tag(3), tag(3)), TWILL_OK); /* and it goes on */
    CHECK_EQ(twill_fan_next(fan, NULL, &outcome), TWILL_OK);
    bool in_time = outcome.status == TWILL_OK; /* else the machine needed the whole time for it */
    given[3]++;
    destroy(fan, &report);
    CHECK_EQ(report.failed, 4 - in_time);
    CHECK_EQ(report.done, in_time);
    wait_for_nothing();
    for (int i = 0; i < 3; i++)
        CHECK_EQ(atomic_load(&discarded[i]), 1);
    return in_time;
}

TEST(timeout_answers_at_once_within_max_abandoned)
{
    CHECK(test_in_time(TWILL_MS(20), two_are_answered_at_once));
}

/* Nobody waits in next: an idle thread sees to it. */
static atomic_int notified;

static void count_notify(const twill_task *task)
{
    CHECK_EQ(task->worker, UINT_MAX);
    atomic_fetch_add(&notified, 1);
}

TEST(timeout_without_a_reader)
{
    twill_fan *fan = make(OPTIONS(.run.workers = 2, .timeout = TWILL_MS(10), .max_abandoned = 1,
                                  .notify = count_notify));
    twill_outcome outcome;
    clear();
    atomic_store(&notified, 0);
    CHECK_EQ(twill_fan_go(fan, gated, tag(0), tag(0)), TWILL_OK);
    for (int k = 0; k < 100000 && !atomic_load(&notified); k++)
        twill_sleep(twill_within(TWILL_MS(1)));
    CHECK_EQ(atomic_load(&notified), 1);
    CHECK_EQ(twill_fan_try_next(fan, NULL, &outcome), TWILL_OK);
    CHECK_EQ(outcome.status, TWILL_TIMEOUT);
    CHECK_EQ(twill_fan_destroy(fan), TWILL_OK); /* leaves it behind */
    wait_for_nothing();
    CHECK_EQ(atomic_load(&discarded[0]), 1);
}

TEST(destroy_leaves_behind)
{
    for (int pooled = 0; pooled <= 1; pooled++) {
        twill_pool *pool = NULL;
        twill_report report;
        twill_fan *fan;
        if (pooled)
            CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 2}), TWILL_OK);
        fan = make(
            OPTIONS(.run = {.workers = 2, .pool = pool, .report = &report}, .max_abandoned = 2));
        clear();
        for (int i = 0; i < 2; i++)
            CHECK_EQ(twill_fan_go(fan, gated, tag(i), tag(i)), TWILL_OK);
        wait_inside(2);
        destroy(fan, &report);
        CHECK_EQ(report.failed, 2);
        CHECK_EQ(report.status, TWILL_CANCELLED); /* not OK: destroy ended it before all had run */
        CHECK_EQ(report.first_error.status, TWILL_LOST);
        atomic_store(&gate, 1);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK); /* waits for them */
        wait_for_nothing();
        CHECK_EQ(atomic_load(&discarded[0]) + atomic_load(&discarded[1]), 2);
    }
}

/* ---- goals ---- */

TEST(goals_of_the_object)
{
    twill_report report;
    twill_outcome outcome;
    twill_fan *fan = make(OPTIONS(.run = {.workers = 2, .report = &report}, .in_flight = 20,
                                  .goal = TWILL_FAN_QUORUM, .quorum = 2));
    int good = 0, count = 0;
    clear();
    for (int i = 0; i < 6; i++) {
        twill_status status = twill_fan_go(fan, i < 2 ? quick : polite, tag(i), tag(i));
        CHECK(status == TWILL_OK || status == TWILL_CLOSED);
        count += status == TWILL_OK;
    }
    for (int k = 0; k < count; k++) {
        CHECK_EQ(twill_fan_next(fan, NULL, &outcome), TWILL_OK);
        good += outcome.status == TWILL_OK;
    }
    CHECK_EQ(good, 2);
    CHECK_EQ(twill_fan_next(fan, NULL, &outcome), TWILL_CLOSED);
    CHECK_EQ(twill_fan_go(fan, quick, tag(9), NULL), TWILL_CLOSED);
    destroy(fan, &report);
    CHECK_EQ(report.status, TWILL_OK);
    /* out of reach once closed */
    fan = make(OPTIONS(.run = {.workers = 2, .report = &report}, .in_flight = 20,
                       .goal = TWILL_FAN_QUORUM, .quorum = 3));
    clear();
    CHECK_EQ(twill_fan_go(fan, polite, tag(0), tag(0)), TWILL_OK);
    CHECK_EQ(twill_fan_go(fan, polite, tag(1), tag(1)), TWILL_OK);
    CHECK_EQ(twill_fan_close(fan), TWILL_OK);
    CHECK_EQ(read_all(fan, TWILL_CLOSED), 2);
    destroy(fan, &report);
    CHECK_EQ(report.status, TWILL_FAILED);
}

static bool third(const twill_outcome *outcome, const void *result, const twill_task *task)
{
    (void)task;
    return outcome->status == TWILL_OK && *(const int *)result == 6;
}

TEST(enough_of_the_object)
{
    twill_report report;
    twill_outcome outcome;
    twill_fan *fan = make(OPTIONS(.run = {.workers = 1, .report = &report}, .in_flight = 20,
                                  .goal = TWILL_FAN_ENOUGH, .enough = third));
    clear();
    for (int i = 0; i < 4; i++)
        CHECK_EQ(twill_fan_go(fan, quick, tag(i), tag(i)), TWILL_OK);
    CHECK_EQ(twill_fan_go(fan, polite, tag(4), tag(4)), TWILL_OK);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(twill_fan_next(fan, NULL, &outcome), TWILL_OK);
    CHECK_EQ(twill_fan_go(fan, quick, tag(5), NULL), TWILL_CLOSED);
    CHECK_EQ(twill_fan_next(fan, NULL, &outcome), TWILL_OK);
    CHECK_EQ(outcome.status, TWILL_CANCELLED);
    destroy(fan, &report);
    CHECK_EQ(report.status, TWILL_OK);
}

TEST(first_failure_ends_all_ok)
{
    for (int round = 0; round < 30; round++) {
        twill_report report;
        twill_fan *fan = make(OPTIONS(.run = {.workers = 3, .report = &report}, .in_flight = 50,
                                      .goal = TWILL_FAN_ALL_OK));
        int count = 0;
        clear();
        for (int i = 0; i < 40; i++) {
            twill_status status = twill_fan_go(fan, quick, tag(i), tag(i));
            CHECK(status == TWILL_OK || (status == TWILL_CLOSED && i > 9));
            count += status == TWILL_OK;
        }
        (void)twill_fan_close(fan);
        CHECK_EQ(read_all(fan, TWILL_CLOSED), count);
        destroy(fan, &report);
        CHECK_EQ(report.status, TWILL_FAILED);
        CHECK_EQ(report.first_error.index, 9); /* the same every time */
        CHECK_EQ(report.first_error.code, 9);
        check_books(count, true);
    }
}

static int gives_up(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result;
    return twill_task_skip(task);
}

/* The report says CANCELLED where somebody has cancelled something. */
TEST(a_task_that_gives_up_cuts_nothing_short)
{
    for (int all_ok = 0; all_ok <= 1; all_ok++) {
        twill_report report;
        twill_outcome outcome;
        twill_fan *fan = make(OPTIONS(.run = {.workers = 2, .report = &report},
                                      .goal = all_ok ? TWILL_FAN_ALL_OK : TWILL_FAN_ALL));
        clear();
        CHECK_EQ(twill_fan_go(fan, gives_up, NULL, NULL), TWILL_OK);
        CHECK_EQ(twill_fan_go(fan, quick, tag(1), tag(1)), TWILL_OK);
        CHECK_EQ(twill_fan_close(fan), TWILL_OK);
        for (int i = 0; i < 2; i++)
            CHECK_EQ(twill_fan_next(fan, NULL, &outcome), TWILL_OK);
        CHECK_EQ(twill_fan_next(fan, NULL, &outcome), TWILL_CLOSED);
        destroy(fan, &report);
        CHECK_EQ(report.done, 1);
        CHECK_EQ(report.skipped, 1);
        CHECK_EQ(report.status, all_ok ? TWILL_FAILED : TWILL_OK);
    }
}

/* ---- an event loop ---- */

static void read_after_notify(void *side_)
{
    side *s = side_;
    twill_outcome outcome;
    int result, seen = 0, count = 0;
    while (s->status != TWILL_CLOSED) {
        while (atomic_load(&notified) == seen)
            twill_sleep(twill_within(TWILL_US(50)));
        seen = atomic_load(&notified);
        while ((s->status = twill_fan_try_next(s->fan, &result, &outcome)) == TWILL_OK) {
            check_outcome(&outcome, result);
            count++;
        }
    }
    s->to = count;
}

TEST(notify_loses_no_outcome)
{
    for (int ordered = 0; ordered <= 1; ordered++) {
        twill_fan *fan =
            make(OPTIONS(.run.workers = 2, .notify = count_notify, .ordered = ordered));
        side loop = {.status = TWILL_OK};
        clear();
        atomic_store(&notified, 0);
        begin(&loop, fan, read_after_notify);
        for (int i = 0; i < 3000; i++)
            CHECK_EQ(twill_fan_go(fan, quick, tag(i), tag(i)), TWILL_OK);
        CHECK_EQ(twill_fan_close(fan), TWILL_OK);
        twill__thread_join(&loop.thread);
        CHECK_EQ(loop.to, 3000);
        destroy(fan, NULL);
        check_books(3000, true);
    }
}

/* The end by a token is something to read, too: once, and where it is news. */
TEST(notify_of_the_end_by_a_token)
{
    for (int closed = 0; closed <= 1; closed++) {
        twill_cancel token;
        twill_outcome outcome;
        twill_cancel_init(&token, NULL);
        twill_fan *fan =
            make(OPTIONS(.run = {.workers = 1, .until.cancel = &token}, .notify = count_notify));
        atomic_store(&notified, 0);
        CHECK_EQ(twill_fan_try_next(fan, NULL, &outcome), TWILL_EMPTY);
        if (closed)
            CHECK_EQ(twill_fan_close(fan), TWILL_OK);
        CHECK_EQ(atomic_load(&notified), closed);
        twill_cancel_fire(&token, 1);
        CHECK_EQ(atomic_load(&notified), 1);
        CHECK_EQ(twill_fan_try_next(fan, NULL, &outcome), TWILL_CLOSED);
        destroy(fan, NULL);
        twill_cancel_detach(&token);
    }
}

static void destroy_in_notify(const twill_task *task)
{
    (void)task;
    if (own)
        CHECK_EQ(twill_fan_destroy(own), TWILL_DEADLOCK);
    atomic_fetch_add(&notified, 1);
}

static void destroy_in_drop(void *arg, twill_status why, const twill_task *task)
{
    note_drop(arg, why, task);
    CHECK_EQ(twill_fan_destroy(own), TWILL_DEADLOCK);
}

static twill_status stop_in_destroy[2];

static void stop_in_drop(void *arg, twill_status why, const twill_task *task)
{
    note_drop(arg, why, task);
    stop_in_destroy[0] = twill_fan_stop(own, twill_within(TWILL_SEC(1)), twill_within(0), NULL);
}

static void stop_in_discard(void *arg, void *result, int code, const twill_task *task)
{
    (void)arg, (void)result, (void)code, (void)task;
    stop_in_destroy[1] = twill_fan_stop(own, twill_within(TWILL_SEC(1)), twill_within(0), NULL);
}

/* Of those that destroy itself calls, too. */
TEST(stop_in_callbacks_of_destroy)
{
    twill_fan_stats stats;
    clear();
    stop_in_destroy[0] = stop_in_destroy[1] = TWILL_OK;
    CHECK_EQ(twill_fan_create(&own, OPTIONS(.run.workers = 1, .in_flight = 5, .drop = stop_in_drop,
                                            .discard = stop_in_discard)),
             TWILL_OK);
    CHECK_EQ(twill_fan_go(own, quick, tag(0), tag(0)), TWILL_OK);
    do
        twill_fan_get_stats(own, &stats);
    while (stats.unread < 1);
    CHECK_EQ(twill_fan_go(own, polite, tag(1), tag(1)), TWILL_OK);
    CHECK_EQ(twill_fan_go(own, polite, tag(2), tag(2)), TWILL_OK);
    wait_inside(1);
    CHECK_EQ(twill_fan_destroy(own), TWILL_OK);
    CHECK_EQ(stop_in_destroy[0], TWILL_DEADLOCK);
    CHECK_EQ(stop_in_destroy[1], TWILL_DEADLOCK);
    own = NULL;
}

TEST(destroy_in_callbacks)
{
    CHECK_EQ(twill_fan_create(&own, OPTIONS(.run.workers = 1, .in_flight = 5,
                                            .notify = destroy_in_notify, .drop = destroy_in_drop)),
             TWILL_OK);
    clear();
    atomic_store(&notified, 0);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(twill_fan_go(own, polite, tag(i), tag(i)), TWILL_OK);
    wait_inside(1);
    CHECK_EQ(twill_fan_cancel(own), TWILL_OK);
    while (!atomic_load(&notified))
        twill_sleep(twill_within(TWILL_US(50)));
    CHECK_EQ(read_all(own, TWILL_CLOSED), 3);
    CHECK_EQ(twill_fan_destroy(own), TWILL_OK);
    own = NULL;
    check_books(3, true);
}

/* ---- ended threads ---- */

/* No memory for one more record; but meanwhile one has come back. */
static twill_fan *short_of_records;

static void read_one(void)
{
    twill_outcome outcome;
    CHECK_EQ(twill_fan_next(short_of_records, NULL, &outcome), TWILL_OK);
}

TEST(a_record_comes_back_as_memory_runs_out)
{
    twill_fan *fan;
    twill_outcome outcome;
    clear();
    CHECK_EQ(twill_fan_create(&fan, OPTIONS(.run.workers = 1, .in_flight = 1, .max_unread = 4)),
             TWILL_OK);
    short_of_records = fan;
    for (int i = 0; i < 2; i++) {
        if (i)
            instead_of_memory = read_one;
        CHECK_EQ(twill_fan_go(fan, quick, tag(i), tag(i)), TWILL_OK);
        CHECK(!instead_of_memory);
    }
    CHECK_EQ(twill_fan_next(fan, NULL, &outcome), TWILL_OK);
    CHECK_EQ(atomic_load(&ran[0]) + atomic_load(&ran[1]), 2);
    CHECK_EQ(twill_fan_destroy(fan), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

/* In order: a task that goes on inside of itself for ever has as many ahead of it as are kept. */
static twill_status deepest;
static int depth_of_go;

static int goes_deeper(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    ++depth_of_go;
    deepest = twill_fan_go(short_of_records, goes_deeper, NULL, NULL);
    return 0;
}

TEST(in_order_a_task_goes_only_so_far_ahead)
{
    twill_fan *fan;
    twill_outcome outcome;
    size_t most;
    depth_of_go = 0;
    CHECK_EQ(twill_fan_create(
                 &fan, OPTIONS(.run.workers = 1, .in_flight = 1, .max_unread = 3, .ordered = true)),
             TWILL_OK);
    short_of_records = fan;
    most = fan->ring_size;
    deepest = TWILL_EMPTY;
    CHECK_EQ(twill_fan_go(fan, goes_deeper, NULL, NULL), TWILL_OK);
    CHECK_EQ(twill_fan_close(fan), TWILL_OK);
    for (size_t k = 0; k < most; k++) {
        CHECK_EQ(twill_fan_next(fan, NULL, &outcome), TWILL_OK);
        CHECK_EQ(outcome.index, k);
    }
    CHECK_EQ(twill_fan_next(fan, NULL, &outcome), TWILL_CLOSED);
    CHECK_EQ(depth_of_go, most);
    CHECK_EQ(twill_fan_destroy(fan), TWILL_OK);
}

static int end_thread(void *arg, void *result, const twill_task *task)
{
    (void)result;
    (void)task;
    atomic_fetch_add(&ran[(intptr_t)arg], 1);
    END_THREAD();
    return 0;
}

static int go_and_end(void *arg, void *result, const twill_task *task)
{
    int i = (int)(intptr_t)arg;
    (void)result;
    (void)task;
    atomic_fetch_add(&ran[i], 1);
    (void)twill_fan_go(own, end_thread, tag(i + 1), tag(i + 1)); /* inline: both are LOST */
    atomic_fetch_add(&inside, 1);
    return 0;
}

TEST(a_task_ends_its_thread)
{
    for (unsigned workers = 1; workers <= 2; workers++) {
        twill_outcome outcome;
        int lost = 0;
        own = make(OPTIONS(.run.workers = workers, .in_flight = 1));
        clear();
        CHECK_EQ(twill_fan_go(own, go_and_end, tag(0), tag(0)), TWILL_OK);
        for (int i = 2; i < 50; i++)
            CHECK_EQ(twill_fan_go(own, i % 7 ? quick : end_thread, tag(i), tag(i)), TWILL_OK);
        CHECK_EQ(twill_fan_close(own), TWILL_OK);
        while (twill_fan_next(own, NULL, &outcome) == TWILL_OK) {
            lost += outcome.status == TWILL_LOST;
            given[(intptr_t)outcome.key]++;
        }
        CHECK_EQ(atomic_load(&inside), 0);
        CHECK_EQ(lost, 9);
        destroy(own, NULL);
        check_books(50, true);
    }
}

static void next_and_end(void *side_)
{
    side *s = side_;
    twill_outcome outcome;
    (void)twill_fan_next(s->fan, NULL, &outcome);
    CHECK(false); /* the task has ended this thread */
}

TEST(no_thread_at_all)
{
    faults_fail_thread(1);
    twill_fan *fan = make(OPTIONS(.run.workers = 2, .in_flight = 3));
    faults_fail_thread(0);
    side helper = {.status = TWILL_OK};
    twill_fan_stats stats;
    clear();
    for (int i = 0; i < 100; i++) /* the caller runs them, where it would wait */
        CHECK_EQ(twill_fan_go(fan, quick, tag(i), tag(i)), TWILL_OK);
    do
        twill_fan_get_stats(fan, &stats);
    while (stats.running);
    int before = 0;
    twill_outcome outcome;
    int result;
    while (before < 100) {
        CHECK_EQ(twill_fan_next(fan, &result, &outcome), TWILL_OK);
        check_outcome(&outcome, result);
        before++;
    }
    /* a helper's thread ends in the task it runs */
    CHECK_EQ(twill_fan_go(fan, end_thread, tag(100), tag(100)), TWILL_OK);
    begin(&helper, fan, next_and_end);
    twill__thread_join(&helper.thread);
    CHECK_EQ(twill_fan_next(fan, NULL, &outcome), TWILL_OK);
    CHECK_EQ(outcome.status, TWILL_LOST);
    given[100]++;
    destroy(fan, NULL);
    check_books(101, true);
}

/* ---- faults, forks, churn ---- */

TEST(any_allocation_may_fail)
{
    for (unsigned long k = 1; k <= 4; k++) {
        twill_fan *fan = NULL;
        twill_status status;
        int accepted = 0;
        clear();
        faults_fail_alloc_from(k);
        status = twill_fan_create(
            &fan, OPTIONS(.run.workers = 1, .in_flight = 500, .result_size = sizeof(int)));
        CHECK_EQ(status, k == 1 ? TWILL_NO_MEMORY : TWILL_OK);
        for (int i = 0; fan && i < 400; i++) {
            status = twill_fan_go(fan, quick, tag(accepted), tag(accepted));
            CHECK(status == TWILL_OK || status == TWILL_NO_MEMORY);
            if (status == TWILL_OK)
                accepted++;
        }
        faults_fail_alloc(0);
        if (fan) {
            CHECK(accepted < 400);
            CHECK_EQ(twill_fan_go(fan, quick, tag(accepted), tag(accepted)), TWILL_OK);
            CHECK_EQ(twill_fan_close(fan), TWILL_OK);
            CHECK_EQ(read_all(fan, TWILL_CLOSED), accepted + 1);
            destroy(fan, NULL);
        }
        CHECK_EQ(faults_live(), 0);
    }
}

TEST(a_forked_child)
{
    twill_fan *fan = make(OPTIONS(.run.workers = 2));
    twill_outcome outcome;
    int status = -1;
    clear();
    CHECK_EQ(twill_fan_go(fan, quick, tag(1), tag(1)), TWILL_OK);
    CHECK_EQ(twill_fan_next(fan, NULL, &outcome), TWILL_OK);
    pid_t child = fork();
    if (child == 0) {
        twill_fan_stats stats;
        twill_fan_get_stats(fan, &stats);
        bool right =
            stats.accepted == 0 && twill_fan_go(fan, quick, tag(2), NULL) == TWILL_FORKED &&
            twill_fan_next(fan, NULL, &outcome) == TWILL_FORKED &&
            twill_fan_close(fan) == TWILL_FORKED && twill_fan_cancel(fan) == TWILL_FORKED &&
            twill_fan_stop(fan, twill_within(0), twill_within(0), NULL) == TWILL_FORKED &&
            twill_fan_destroy(fan) == TWILL_OK;
        _exit(!right);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    destroy(fan, NULL);
}

/* A task forks while another thread has the lock. In the child it stays locked: nothing of the fan
   is waited for or run there, and the call that ran the task says FORKED. */
static pid_t fork_child;

/* In the child, before anybody looks for leaks: what the parent's threads hold is not found. */
static void end_quietly(void)
{
    _exit(0);
}

static int forks(void *arg, void *result, const twill_task *task)
{
    twill_fan *fan = ((twill__fan_task *)task->private_)->fan;
    if (fork_child == 0)
        _exit(2);
    if (result)
        *(int *)result = (int)(intptr_t)arg * 2;
    if (arg != tag(1))
        return 0;
    twill__lock(&fan->lock);
    fork_child = fork();
    if (fork_child) {
        twill__unlock(&fan->lock);
        return 0;
    }
    alarm(20); /* instead of a hang */
    atexit(end_quietly);
    fan->max_abandoned = 1; /* so a look at the token would ask under the lock */
    (void)twill_task_cancelled(task);
    return twill_task_stop(task);
}

TEST(a_task_forks)
{
    for (int by = 0; by < 3; by++) {
        pid_t parent = getpid();
        twill_outcome outcome;
        twill_fan *fan;
        twill_status answer;
        int status = -1;
        fork_child = -1;
        faults_fail_thread(1); /* so the caller runs the tasks */
        fan = make(OPTIONS(.run.workers = 1, .in_flight = 4));
        faults_fail_thread(0);
        for (int k = 0; k < 3; k++)
            CHECK_EQ(twill_fan_go(fan, forks, tag(k), NULL), TWILL_OK);
        if (by == 0) {
            answer = twill_fan_stop(fan, (twill_until){0, NULL}, (twill_until){0, NULL}, NULL);
        } else if (by == 1) {
            do
                answer = twill_fan_next(fan, NULL, &outcome);
            while (answer == TWILL_OK && outcome.index < 2);
        } else { /* a go at a full window */
            CHECK_EQ(twill_fan_go(fan, forks, tag(3), NULL), TWILL_OK);
            do
                answer = twill_fan_go(fan, forks, tag(4), NULL);
            while (answer == TWILL_OK && fork_child < 0);
        }
        if (getpid() != parent)
            _exit(answer == TWILL_FORKED && twill_fan_destroy(fan) == TWILL_OK ? 0 : 1);
        CHECK_EQ(answer, TWILL_OK);
        CHECK(fork_child > 0);
        CHECK_EQ(waitpid(fork_child, &status, 0), fork_child);
        CHECK(WIFEXITED(status));
        CHECK_EQ(WEXITSTATUS(status), 0);
        destroy(fan, NULL);
    }
}

/* The same on a worker: the child has nobody whom it could return to, and ends. */
TEST(a_task_forks_on_a_worker)
{
    twill_outcome outcome;
    int status = -1;
    fork_child = -1;
    clear();
    twill_fan *fan = make(OPTIONS(.run.workers = 1, .in_flight = 8));
    CHECK_EQ(twill_fan_go(fan, gated, tag(0), NULL), TWILL_OK);
    for (int k = 1; k < 5; k++)
        CHECK_EQ(twill_fan_go(fan, forks, tag(k), NULL), TWILL_OK);
    fflush(NULL); /* it exits */
    atomic_store(&gate, 1);
    for (int k = 0; k < 5; k++)
        CHECK_EQ(twill_fan_next(fan, NULL, &outcome), TWILL_OK);
    CHECK(fork_child > 0);
    CHECK_EQ(waitpid(fork_child, &status, 0), fork_child);
    CHECK(WIFEXITED(status));
    CHECK_EQ(WEXITSTATUS(status), 0);
    destroy(fan, NULL);
}

TEST(create_and_destroy_on_a_pool)
{
    twill_pool *pool;
    twill_outcome outcome;
    CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 2}), TWILL_OK);
    clear();
    for (int k = 0; k < 3000; k++) {
        twill_fan *fan;
        CHECK_EQ(twill_fan_create(&fan, OPTIONS(.run.pool = pool)), TWILL_OK);
        CHECK_EQ(twill_fan_go(fan, quick, tag(k), tag(k)), TWILL_OK);
        if (k % 2)
            CHECK_EQ(twill_fan_next(fan, NULL, &outcome), TWILL_OK);
        CHECK_EQ(twill_fan_destroy(fan), TWILL_OK);
    }
    for (int k = 0; k < 100000; k++) {
        twill_fan *fan = NULL;
        if (twill_fan_create(&fan, OPTIONS(.run.pool = pool)) != TWILL_OK ||
            (k % 100 == 0 && twill_fan_go(fan, quick, tag(k / 100), NULL) != TWILL_OK) ||
            twill_fan_destroy(fan) != TWILL_OK)
            CHECK_EQ(k, -1); /* a life went wrong */
    }
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

HARNESS_MAIN

/* ---- whatever the options ---- */

/* Goers, readers, and tasks that go and read themselves, on one fan that may end at any time: each
   task that was accepted runs or is dropped once, each outcome is read once, and nothing hangs. */
typedef struct crowd {
    twill_fan *fan;
    atomic_int next, accepted, read;
    int n;
    bool inner;
    twill_cancel token;
    int ends_at;
} crowd;

static crowd all_of_them;

static twill_status go_one(int i, int how);

static int crowd_task(void *arg, void *result, const twill_task *task)
{
    int i = (int)(intptr_t)arg;
    crowd *c = &all_of_them;
    enter(i);
    if (result)
        *(int *)result = i * 2;
    if (c->inner && i % 5 == 2) {
        int more = atomic_fetch_add(&c->next, 1);
        if (more < c->n)
            (void)go_one(more, i % 3);
    }
    if (c->inner && i % 7 == 3) {
        twill_outcome outcome;
        int its;
        if (twill_fan_next_until(c->fan, &its, &outcome, twill_within(TWILL_US(20))) == TWILL_OK) {
            CHECK(outcome.status != TWILL_OK || its == 2 * (int)(intptr_t)outcome.key);
            atomic_fetch_add(&c->read, 1);
        }
    }
    if (i % 11 == 4)
        (void)twill_sleep(twill_within_or_cancelled(TWILL_US(150), task->until.cancel));
    atomic_fetch_sub(&at_once, 1);
    if (i == c->ends_at)
        return twill_task_stop(task);
    return i % 10 == 9 ? i : i % 13 == 12 ? twill_task_skip(task) : 0;
}

static twill_status go_one(int i, int how)
{
    crowd *c = &all_of_them;
    twill_status status = how == 0   ? twill_fan_go(c->fan, crowd_task, tag(i), tag(i))
                          : how == 1 ? twill_fan_try_go(c->fan, crowd_task, tag(i), tag(i))
                                     : twill_fan_go_until(c->fan, crowd_task, tag(i), tag(i),
                                                          twill_within(TWILL_US(100)));
    if (status == TWILL_OK)
        atomic_fetch_add(&c->accepted, 1);
    else
        atomic_fetch_add(&dropped[i], 1); /* it never was the fan's */
    return status;
}

static void crowd_goes(void *unused)
{
    crowd *c = &all_of_them;
    int i;
    (void)unused;
    while ((i = atomic_fetch_add(&c->next, 1)) < c->n)
        (void)go_one(i, i % 3);
}

static void crowd_reads(void *unused)
{
    crowd *c = &all_of_them;
    twill_outcome outcome;
    twill_status status;
    int result;
    (void)unused;
    for (;;) {
        status = atomic_load(&c->read) % 3 == 0
                     ? twill_fan_next_until(c->fan, &result, &outcome, twill_within(TWILL_US(50)))
                     : twill_fan_next(c->fan, &result, &outcome);
        if (status == TWILL_CLOSED)
            return;
        CHECK(status == TWILL_OK || status == TWILL_TIMEOUT);
        if (status == TWILL_OK) {
            CHECK(outcome.status != TWILL_OK || result == 2 * (int)(intptr_t)outcome.key);
            atomic_fetch_add(&c->read, 1);
        }
    }
}

static unsigned below(unsigned limit)
{
    return (unsigned)test_random_below(limit);
}

TEST(whoever_goes_and_reads_the_books_add_up)
{
    crowd *c = &all_of_them;
    for (int round = 0; round < 60; round++) {
        twill_pool *pool = NULL;
        twill_fan_options options = {.run.workers = below(4),
                                     .in_flight = below(4),
                                     .max_unread = below(3) ? below(6) : 0,
                                     .ordered = below(2),
                                     .timeout = below(3) ? 0 : TWILL_US(100)};
        unsigned end = below(5);
        side sides[4];
        memset(sides, 0, sizeof sides);
        clear();
        atomic_store(&c->next, 0);
        atomic_store(&c->accepted, 0);
        atomic_store(&c->read, 0);
        c->n = 20 + (int)below(60);
        c->inner = below(2);
        c->ends_at = end == 0 ? (int)below(40) : -1;
        if (round % 4 == 3) {
            CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 1}), TWILL_OK);
            options.run.pool = pool;
        }
        twill_cancel_init(&c->token, NULL);
        options.run.until.cancel = end == 1 ? &c->token : NULL;
        options.run.until.deadline = end == 2 ? twill_now() + TWILL_US(below(500)) : 0;
        c->fan = make(&options);
        for (int k = 0; k < 4; k++)
            begin(&sides[k], c->fan, k < 2 ? crowd_goes : crowd_reads);
        if (end == 1)
            twill_cancel_fire(&c->token, 1);
        else if (end == 3)
            CHECK_EQ(twill_fan_cancel(c->fan), TWILL_OK);
        for (int k = 0; k < 4; k++) {
            if (k == 2)
                (void)twill_fan_close(c->fan);
            twill__thread_join(&sides[k].thread);
        }
        CHECK_EQ(twill_fan_destroy(c->fan), TWILL_OK);
        CHECK_EQ(atomic_load(&c->read), atomic_load(&c->accepted));
        for (int i = 0; i < c->n; i++)
            CHECK_EQ(atomic_load(&ran[i]) + atomic_load(&dropped[i]), 1);
        twill_cancel_detach(&c->token);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
        CHECK_EQ(faults_live(), 0);
    }
}

/* ---- other callbacks that end their thread ---- */

static int who_ends; /* the key at whose callback the thread ends */

static void drop_and_end(void *arg, twill_status why, const twill_task *task)
{
    note_drop(arg, why, task);
    if ((int)(intptr_t)arg == who_ends)
        END_THREAD();
}

static void cancels(void *side_)
{
    side *s = side_;
    (void)twill_fan_cancel(s->fan);
    CHECK(false); /* drop has ended this thread */
}

/* A worker whose task says stop: the rest is dropped by it, or by who reads. */
static int stops_at_once(void *arg, void *result, const twill_task *task)
{
    (void)gated(arg, result, task);
    return twill_task_stop(task);
}

static atomic_int read_there;

static void reads_to_the_end(void *side_)
{
    side *s = side_;
    twill_outcome outcome;
    while (twill_fan_next(s->fan, NULL, &outcome) == TWILL_OK) {
        CHECK_EQ(outcome.status, outcome.index ? TWILL_CANCELLED : TWILL_OK);
        atomic_fetch_add(&read_there, 1);
    }
}

/* In a call from outside, and on a worker or in a thread that reads, whichever comes first: what
   was to be dropped is dropped once, its outcome can be read, and destroy waits for nobody who has
   gone. */
TEST(a_drop_ends_its_thread)
{
    for (int by = 0; by < 2; by++) {
        twill_fan *fan;
        side caller = {.status = TWILL_OK};
        twill_outcome outcome;
        int count = 0;
        clear();
        atomic_store(&read_there, 0);
        who_ends = 2;
        CHECK_EQ(
            twill_fan_create(&fan, OPTIONS(.run.workers = 1, .in_flight = 8, .drop = drop_and_end)),
            TWILL_OK);
        CHECK_EQ(twill_fan_go(fan, by ? stops_at_once : gated, tag(0), tag(0)), TWILL_OK);
        wait_inside(1);
        for (int i = 1; i < 5; i++)
            CHECK_EQ(twill_fan_go(fan, quick, tag(i), tag(i)), TWILL_OK);
        if (by == 0) {
            begin(&caller, fan, cancels);
            twill__thread_join(&caller.thread);
        }
        atomic_store(&gate, 1);
        CHECK_EQ(twill_fan_close(fan), by ? TWILL_OK : TWILL_CLOSED);
        if (by) { /* that thread may be the one that ends */
            begin(&caller, fan, reads_to_the_end);
            twill__thread_join(&caller.thread);
        }
        while (twill_fan_next(fan, NULL, &outcome) == TWILL_OK) {
            CHECK_EQ(outcome.status, outcome.index ? TWILL_CANCELLED : TWILL_OK);
            count++;
        }
        CHECK_EQ(count + atomic_load(&read_there), 5);
        CHECK_EQ(twill_fan_destroy(fan), TWILL_OK);
        check_books(5, false);
    }
}

static int fails(void *arg, void *result, const twill_task *task)
{
    (void)result;
    (void)task;
    atomic_fetch_add(&ran[(intptr_t)arg], 1);
    return 3;
}

static bool enough_and_end(const twill_outcome *outcome, const void *result, const twill_task *task)
{
    (void)task;
    CHECK_EQ(outcome->status == TWILL_OK, result != NULL);
    END_THREAD();
    return false;
}

static void notify_and_end(const twill_task *task)
{
    (void)task;
    if (atomic_exchange(&gate, 1) == 0)
        END_THREAD();
}

/* `enough`, in the thread that reads; `notify`, in the worker whose outcome is the first. */
TEST(enough_or_notify_ends_its_thread)
{
    twill_fan *fan;
    side reader = {.status = TWILL_OK};
    twill_outcome outcome;
    int result;
    clear();
    CHECK_EQ(twill_fan_create(&fan, OPTIONS(.run.workers = 1, .in_flight = 4, .result_size = 4,
                                            .goal = TWILL_FAN_ENOUGH, .enough = enough_and_end)),
             TWILL_OK);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(twill_fan_go(fan, i ? quick : fails, tag(i), tag(i)), TWILL_OK);
    for (int k = 0; k < 2; k++) {
        begin(&reader, fan, next_and_end);
        twill__thread_join(&reader.thread);
    }
    CHECK_EQ(twill_fan_destroy(fan), TWILL_OK);
    clear();
    CHECK_EQ(twill_fan_create(&fan, OPTIONS(.run.workers = 1, .in_flight = 4, .result_size = 4,
                                            .notify = notify_and_end)),
             TWILL_OK);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(twill_fan_go(fan, quick, tag(i), tag(i)), TWILL_OK);
    CHECK_EQ(twill_fan_close(fan), TWILL_OK);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(twill_fan_next(fan, &result, &outcome), TWILL_OK);
        CHECK_EQ(result, 2 * (int)(intptr_t)outcome.key);
    }
    CHECK_EQ(twill_fan_next(fan, &result, &outcome), TWILL_CLOSED);
    CHECK_EQ(twill_fan_destroy(fan), TWILL_OK);
}

static _Atomic uint64_t ends_there;

static void notify_ends_there(const twill_task *task)
{
    (void)task;
    if (atomic_load(&ends_there) == twill__thread_number())
        END_THREAD();
}

static void cancels_or_waits(void *side_)
{
    side *s = side_;
    atomic_store(&ends_there, twill__thread_number());
    if (s->from == 0)
        (void)twill_fan_cancel(s->fan);
    else if (s->from == 1)
        (void)twill_fan_stop(s->fan, (twill_until){0, NULL}, (twill_until){0, NULL}, NULL);
    else
        (void)twill_fan_go_until(s->fan, quick, tag(4), tag(4), (twill_until){0, NULL});
    CHECK(false); /* notify has ended this thread */
}

static void times_are_over(twill_fan *fan)
{
    twill__lock(&fan->lock);
    for (twill__fan_task *task = fan->running.first; task; task = task->next)
        task->due = 1;
    twill__unlock(&fan->lock);
}

/* Nor has it a task in hand that it drops, or a place in a line. */
TEST(notify_that_ends_its_thread_leaves_nothing)
{
    for (int how = 0; how < 3; how++) {
        side caller = {.from = how};
        int count = how ? 2 : 4;
        clear();
        twill_fan *fan = make(OPTIONS(.run.workers = 2, .in_flight = 8, .max_unread = how == 2,
                                      .timeout = TWILL_SEC(3600), .max_abandoned = 1,
                                      .notify = notify_ends_there));
        for (int i = 0; i < 2; i++)
            CHECK_EQ(twill_fan_go(fan, gated, tag(i), tag(i)), TWILL_OK);
        wait_inside(2);
        for (int i = 2; i < count; i++)
            CHECK_EQ(twill_fan_go(fan, quick, tag(i), tag(i)), TWILL_OK);
        if (how)
            times_are_over(fan);
        begin(&caller, fan, cancels_or_waits);
        twill__thread_join(&caller.thread);
        twill__lock(&fan->lock);
        CHECK(!fan->calling && !fan->watchers.first && !fan->goers.first);
        twill__unlock(&fan->lock);
        atomic_store(&gate, 1);
        (void)twill_fan_close(fan);
        CHECK_EQ(read_all(fan, TWILL_CLOSED), count);
        destroy(fan, NULL);
        for (int i = 0; i < count; i++)
            CHECK(given[i] == 1 && ran[i] + dropped[i] == 1);
        /* those whose time was over were left behind, and end by this */
        while (how && atomic_load(&discarded[0]) + atomic_load(&discarded[1]) < 2)
            twill_sleep(twill_within(TWILL_US(50)));
    }
}

/* A request reaches no token below by itself: a task that looks finds it all the same. */
static int looks_after_a_request(void *arg, void *result, const twill_task *task)
{
    (void)result;
    CHECK(!twill_task_cancelled(task));
    twill_cancel_request(arg, 5);
    CHECK(twill_task_cancelled(task));
    return twill_task_skip(task);
}

TEST(a_task_that_looks_sees_a_request)
{
    for (size_t left = 0; left <= 1; left++) {
        twill_cancel token;
        twill_outcome outcome;
        twill_fan *fan;
        twill_cancel_init(&token, NULL);
        CHECK_EQ(twill_fan_create(&fan, OPTIONS(.run = {.workers = 1, .until.cancel = &token},
                                                .max_abandoned = left)),
                 TWILL_OK);
        CHECK_EQ(twill_fan_go(fan, looks_after_a_request, &token, NULL), TWILL_OK);
        CHECK_EQ(twill_fan_next(fan, NULL, &outcome), TWILL_OK);
        CHECK_EQ(outcome.status, TWILL_CANCELLED);
        CHECK_EQ(twill_fan_destroy(fan), TWILL_OK);
        twill_cancel_detach(&token);
    }
}

/* Its time is over and its outcome given when it says stop: nothing is spared by that any more. */
static int late_stop(void *arg, void *result, const twill_task *task)
{
    (void)result;
    enter((int)(intptr_t)arg);
    (void)twill_sleep((twill_until){0, task->until.cancel});
    while (!atomic_load(&gate))
        twill_sleep(twill_within(TWILL_US(50)));
    (void)twill_task_stop(task);
    atomic_fetch_sub(&at_once, 1);
    return 0;
}

static bool a_late_stop_says_nothing(twill_ns timeout)
{
    twill_outcome outcome;
    int result = 7;
    clear();
    twill_fan *fan =
        make(OPTIONS(.run.workers = 2, .in_flight = 4, .timeout = timeout, .max_abandoned = 1));
    CHECK_EQ(twill_fan_go(fan, late_stop, tag(0), tag(0)), TWILL_OK);
    CHECK_EQ(twill_fan_next(fan, &result, &outcome), TWILL_OK);
    CHECK_EQ(outcome.status, TWILL_TIMEOUT);
    CHECK_EQ(result, 0);
    atomic_store(&gate, 1);
    while (atomic_load(&discarded[0]) == 0)
        twill_sleep(twill_within(TWILL_US(50)));
    CHECK_EQ(twill_fan_go(fan, quick, tag(1), tag(1)), TWILL_OK); /* it is not closed */
    CHECK_EQ(twill_fan_next(fan, &result, &outcome), TWILL_OK);
    CHECK(outcome.status == TWILL_OK || outcome.status == TWILL_TIMEOUT);
    CHECK_EQ(twill_fan_destroy(fan), TWILL_OK);
    await_nothing_live();
    return outcome.status == TWILL_OK;
}

TEST(a_stop_after_the_outcome_says_nothing)
{
    CHECK(test_in_time(TWILL_MS(2), a_late_stop_says_nothing));
}

/* More who wait than are woken in one go. */
TEST(a_crowd_of_readers_is_told)
{
    enum { CROWD = 20 };
    side readers[CROWD];
    twill_fan *fan;
    twill_outcome outcome;
    int untouched = 7;
    memset(readers, 0, sizeof readers);
    atomic_store(&read_count, 0);
    atomic_store(&readers_ended, 0);
    CHECK_EQ(twill_fan_create(&fan, OPTIONS(.run.workers = 1)), TWILL_OK);
    for (int k = 0; k < CROWD; k++)
        begin(&readers[k], fan, read_until_closed);
    while ((atomic_load(&fan->visits) & ~TWILL__FAN_VISITS_WAIT) < CROWD)
        twill_sleep(twill_within(TWILL_US(50)));
    twill_sleep(twill_within(TWILL_MS(1)));
    CHECK_EQ(twill_fan_close(fan), TWILL_OK);
    for (int k = 0; k < CROWD; k++) {
        twill__thread_join(&readers[k].thread);
        CHECK_EQ(readers[k].status, TWILL_CLOSED);
    }
    CHECK_EQ(twill_fan_destroy(fan), TWILL_OK);
    /* and a result that was never asked for stays as it is */
    clear();
    CHECK_EQ(twill_fan_create(&fan, OPTIONS(.run.workers = 1)), TWILL_OK);
    CHECK_EQ(twill_fan_go(fan, quick, tag(1), tag(1)), TWILL_OK);
    CHECK_EQ(twill_fan_next(fan, &untouched, &outcome), TWILL_OK);
    CHECK_EQ(untouched, 7);
    CHECK_EQ(twill_fan_destroy(fan), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

/* ---- who waits, and who is inside ---- */

static void await_under(twill_fan *fan, bool (*holds)(const twill_fan *fan))
{
    twill_ns end = twill_now() + TWILL_SEC(100);
    bool done = false;
    while (!done && twill_now() < end) {
        twill__lock(&fan->lock);
        done = holds(fan);
        twill__unlock(&fan->lock);
        if (!done)
            twill_sleep(twill_within(TWILL_US(50)));
    }
    CHECK(done);
}

static bool has_died(const twill_fan *fan)
{
    return fan->deaths != 0;
}

/* 1 goes inside itself; the second one goes when the time of all is over: one is answered, and
   notified, and the window is full yet. */
static int goes_when_times_are_over(void *arg, void *result, const twill_task *task)
{
    (void)result, (void)task;
    atomic_fetch_add(&ran[(intptr_t)arg], 1);
    if (arg == tag(1)) {
        (void)twill_fan_go(own, goes_when_times_are_over, tag(2), tag(2));
    } else {
        times_are_over(own);
        atomic_store(&ends_there, twill__thread_number());
        (void)twill_fan_go(own, quick, tag(3), tag(3));
    }
    CHECK(false); /* notify has ended this thread */
    return 0;
}

/* Nor a task that it was about to run itself: that is not accepted. */
TEST(notify_that_ends_its_thread_in_go_takes_no_task)
{
    twill_fan_stats stats;
    clear();
    atomic_store(&ends_there, 0);
    own = make(OPTIONS(.run.workers = 2, .in_flight = 2, .timeout = TWILL_SEC(3600),
                       .max_abandoned = 1, .notify = notify_ends_there));
    CHECK_EQ(twill_fan_go(own, gated, tag(0), tag(0)), TWILL_OK);
    wait_inside(1);
    CHECK_EQ(twill_fan_go(own, goes_when_times_are_over, tag(1), tag(1)), TWILL_OK);
    await_under(own, has_died);
    twill_fan_get_stats(own, &stats);
    CHECK_EQ(stats.accepted, 3);
    atomic_store(&gate, 1);
    CHECK_EQ(twill_fan_close(own), TWILL_OK);
    CHECK_EQ(read_all(own, TWILL_CLOSED), 3);
    destroy(own, NULL);
    own = NULL;
    while (atomic_load(&discarded[0]) == 0) /* it was left behind, and ends by this */
        twill_sleep(twill_within(TWILL_US(50)));
    await_nothing_live();
}

static twill_status went[2];
static atomic_int both_there, both_went;

/* Both threads of the pool have one; that of worker 0 keeps its own until the end. */
static int keeps_worker_0(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result;
    atomic_fetch_add(&both_there, 1);
    while (atomic_load(&both_there) < 2 || (task->worker == 0 && !atomic_load(&both_went)))
        twill_sleep(twill_within(TWILL_US(50))); /* the watchdog is the bound */
    return 0;
}

static int goes_twice(void *arg, void *result, const twill_task *task)
{
    (void)task;
    *(int *)result = 2 * (int)(intptr_t)arg;
    for (int k = 0; k < 2; k++)
        went[k] = twill_fan_go(own, quick, tag(3 + k), tag(3 + k));
    atomic_store(&both_went, 1);
    return 0;
}

static void goes_and_reads(const twill_task *task)
{
    twill_outcome outcome;
    (void)task;
    if (atomic_fetch_add(&notified, 1))
        return;
    CHECK_EQ(twill_fan_go(own, goes_twice, tag(2), tag(2)), TWILL_OK);
    for (int k = 0; k < 3; k++) /* two have to be run here */
        CHECK_EQ(twill_fan_next(own, NULL, &outcome), TWILL_OK);
}

/* notify has the worker's number, under which no task runs, and the task that it runs a second
   one. The thread of worker 1 takes the lower number first. */
TEST(a_task_in_notify_goes_inline_at_a_full_window_as_any_other)
{
    twill_pool *pool;
    clear();
    atomic_store(&notified, 0);
    atomic_store(&both_there, 0);
    atomic_store(&both_went, 0);
    went[0] = went[1] = TWILL_INVALID;
    CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 2}), TWILL_OK);
    for (int k = 0; k < 2; k++)
        CHECK_EQ(twill_pool_submit(pool, keeps_worker_0, NULL, NULL, NULL), TWILL_OK);
    own = make(
        OPTIONS(.run = {.pool = pool, .workers = 2}, .in_flight = 2, .notify = goes_and_reads));
    CHECK_EQ(twill_fan_go(own, gated, tag(0), tag(0)), TWILL_OK);
    wait_inside(1);
    CHECK_EQ(twill_fan_go(own, quick, tag(1), tag(1)), TWILL_OK); /* so it stays a worker */
    atomic_store(&gate, 1);
    while (!atomic_load(&both_went)) /* the watchdog is the bound */
        twill_sleep(twill_within(TWILL_US(50)));
    CHECK_EQ(went[0], TWILL_OK);
    CHECK_EQ(went[1], TWILL_OK);
    CHECK_EQ(twill_fan_close(own), TWILL_OK);
    CHECK_EQ(read_all(own, TWILL_CLOSED), 2);
    destroy(own, NULL);
    own = NULL;
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

static bool has_reader(const twill_fan *fan)
{
    return fan->readers.first != NULL;
}

static bool has_goer(const twill_fan *fan)
{
    return fan->goers.first != NULL;
}

static bool has_three(const twill_fan *fan)
{
    return fan->unread == 3;
}

static bool is_over(const twill_fan *fan)
{
    return fan->over != 0;
}

static bool is_closed_and_empty(const twill_fan *fan)
{
    return fan->closed && !fan->in_flight;
}

static twill_fan *asked_fan;

/* In any order they are inside; as they came they leave. */
static bool enough_one_by_one(const twill_outcome *outcome, const void *result,
                              const twill_task *task)
{
    int came = atomic_fetch_add(&inside, 1);
    (void)outcome;
    (void)result;
    (void)task;
    while (atomic_load(&gate) < came || atomic_load(&inside) < 3)
        twill_sleep(twill_within(TWILL_US(50)));
    CHECK(twill__fan_inside(asked_fan));
    return false;
}

static void next_one(void *side_)
{
    side *s = side_;
    twill_outcome outcome;
    s->status = twill_fan_next(s->fan, NULL, &outcome);
    s->to = s->status == TWILL_OK ? (int)(intptr_t)outcome.key : -1;
    atomic_fetch_add(&gate, 1);
}

TEST(three_readers_are_asked_and_leave_as_they_came)
{
    side readers[3] = {{.to = -1}, {.to = -1}, {.to = -1}};
    clear();
    CHECK_EQ(twill_fan_create(&asked_fan,
                              OPTIONS(.run.workers = 1, .in_flight = 4, .goal = TWILL_FAN_ENOUGH,
                                      .enough = enough_one_by_one)),
             TWILL_OK);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(twill_fan_go(asked_fan, fails, tag(i), tag(i)), TWILL_OK);
    for (int i = 0; i < 3; i++)
        begin(&readers[i], asked_fan, next_one);
    for (int i = 0; i < 3; i++) {
        twill__thread_join(&readers[i].thread);
        CHECK_EQ(readers[i].status, TWILL_OK);
    }
    CHECK_EQ(readers[0].to + readers[1].to + readers[2].to, 3);
    CHECK(!twill__fan_inside(asked_fan));
    CHECK_EQ(twill_fan_destroy(asked_fan), TWILL_OK);
}

/* Each part of the block has its own place, one behind the other. */
static void check_places(const twill__fan_plan *plan)
{
    size_t pointer = sizeof(twill__fan_task *);
    CHECK(TWILL__LINE + sizeof(twill_fan) <= plan->slots);
    CHECK(plan->slots + plan->workers * sizeof(twill__fan_slot) <= plan->crew);
    CHECK(plan->crew < plan->queue_ring);
    CHECK(plan->queue == 0 || plan->queue >= plan->first);
    CHECK(plan->queue_ring + plan->queue * pointer <= plan->lane_rings);
    CHECK(plan->lane_rings + plan->workers * plan->places * pointer <= plan->lanes);
    CHECK(plan->lanes + (plan->queue ? 0 : plan->workers * plan->places * plan->task_size) <=
          plan->records);
    CHECK(plan->records + plan->first * plan->task_size <= plan->bytes);
}

/* The lanes of a call take a part of the records that it may have, and a part of the memory; those
   of a stream have none of their own. */
TEST(lanes_leave_half_of_the_records)
{
    for (unsigned workers = 1; workers <= 20; workers++)
        for (size_t unread = 1; unread <= 4096; unread *= 2)
            for (size_t result = 1; result <= 100000; result *= 10) {
                twill__fan_plan plan = {.options =
                                            OPTIONS(.run.workers = workers, .max_unread = unread),
                                        .call = true,
                                        .item_size = 1,
                                        .result_size = result,
                                        .n = 10000};
                twill__fan_plan stream = plan;
                CHECK_EQ(twill__fan_check(&plan), TWILL_OK);
                check_places(&plan);
                CHECK_EQ(plan.capacity + workers * plan.places, plan.window + unread);
                CHECK(plan.places * workers <= (plan.window + unread) / 2);
                CHECK(plan.places * plan.task_size <= TWILL__FAN_BYTES);
                stream.stream = true;
                stream.n = 0;
                CHECK_EQ(twill__fan_check(&stream), TWILL_OK);
                check_places(&stream);
                CHECK_EQ(stream.capacity, stream.window + unread);
            }
}

static bool none_executes(const twill_fan *fan)
{
    return fan->executing == 0 && fan->queue.count == 0;
}

/* What has ended in a lane has ended, though nobody has looked. */
TEST(a_stop_without_patience_sees_what_has_ended)
{
    twill_stopped stopped;
    clear();
    own = make(OPTIONS(.run.workers = 1, .in_flight = 64));
    for (int i = 0; i < 50; i++)
        CHECK_EQ(twill_fan_go(own, quick, tag(i), tag(i)), TWILL_OK);
    for (int i = 0; i < 50; i++)
        while (!atomic_load(&ran[i]))
            twill_sleep(twill_within(TWILL_US(50)));
    await_under(own, none_executes);
    CHECK_EQ(twill_fan_stop(own, twill_within(0), twill_within(0), &stopped), TWILL_OK);
    CHECK_EQ(stopped.cancelled + stopped.stuck, 0);
    CHECK_EQ(read_all(own, TWILL_CLOSED), 50);
    destroy(own, NULL);
}

/* Places of a lane: of a call over an array, or of a stream. */
static size_t lane_places(const twill_fan_options *options, bool stream)
{
    twill__fan_plan plan = {.options = options, .call = true, .stream = stream, .item_size = 1};
    plan.n = stream ? 0 : 10000;
    CHECK_EQ(twill__fan_check(&plan), TWILL_OK);
    return plan.places;
}

static bool never_enough(const twill_outcome *outcome, const void *result, const twill_task *task)
{
    (void)outcome;
    (void)result;
    (void)task;
    return false;
}

TEST(lanes_where_no_outcome_decides)
{
    twill__fan_plan none = {.options = OPTIONS(.run.workers = 4), .call = true};
    for (int stream = 0; stream < 2; stream++) {
        CHECK(lane_places(OPTIONS(.run.workers = 4), stream));
        CHECK(lane_places(OPTIONS(.run.workers = 16), stream));
        CHECK(lane_places(OPTIONS(.run.workers = 4, .timeout = TWILL_FOREVER), stream));
        CHECK(lane_places(OPTIONS(.run = {.workers = 4, .on_error = TWILL_ON_ERROR_COLLECT}),
                          stream));
        CHECK(
            !lane_places(OPTIONS(.run = {.workers = 4, .on_error = TWILL_ON_ERROR_FIRST}), stream));
        CHECK(!lane_places(OPTIONS(.run = {.workers = 4, .on_error = TWILL_ON_ERROR_LOWEST}),
                           stream));
        CHECK(!lane_places(OPTIONS(.run.workers = 17), stream));
        CHECK(!lane_places(OPTIONS(.run.workers = 4, .timeout = TWILL_SEC(1)), stream));
        CHECK(!lane_places(OPTIONS(.run.workers = 4, .max_abandoned = 1), stream));
        CHECK(!lane_places(OPTIONS(.run.workers = 4, .ordered = true), stream));
        CHECK(!lane_places(OPTIONS(.run.workers = 4, .goal = TWILL_FAN_FIRST_OK), stream));
        CHECK(!lane_places(
            OPTIONS(.run.workers = 4, .goal = TWILL_FAN_ENOUGH, .enough = never_enough), stream));
    }
    /* a stream's hold what may be in flight, and the records are anybody's */
    CHECK_EQ(lane_places(OPTIONS(.run.workers = 2, .in_flight = 3), true), 4);
    CHECK_EQ(lane_places(OPTIONS(.run.workers = 2, .in_flight = 8), true), 8);
    CHECK_EQ(lane_places(OPTIONS(.run.workers = 2, .in_flight = 9), true), 16);
    CHECK_EQ(lane_places(OPTIONS(.run.workers = 2, .in_flight = 1000), true), 256);
    /* no item, no lane; and one who is notified hears of each outcome at once */
    CHECK_EQ(twill__fan_check(&none), TWILL_OK);
    CHECK_EQ(none.places, 0);
    none = (twill__fan_plan){.options = OPTIONS(.run.workers = 4, .notify = count_notify)};
    CHECK_EQ(twill__fan_check(&none), TWILL_OK);
    CHECK_EQ(none.places, 0);
}

/* No thread: a reader that waits already runs what comes. */
TEST(a_reader_runs_what_comes_when_nobody_else_can)
{
    side reader = {.to = -1};
    clear();
    faults_fail_thread(1);
    twill_fan *fan = make(OPTIONS(.run.workers = 2, .in_flight = 4));
    faults_fail_thread(0);
    begin(&reader, fan, next_one);
    await_under(fan, has_reader);
    CHECK_EQ(twill_fan_go(fan, quick, tag(1), tag(1)), TWILL_OK);
    twill__thread_join(&reader.thread);
    CHECK(reader.status == TWILL_OK && reader.to == 1);
    destroy(fan, NULL);
}

static void go_for_room(void *side_)
{
    side *s = side_;
    s->status =
        twill_fan_go_until(s->fan, quick, tag(s->from), tag(s->from), (twill_until){0, NULL});
}

/* The same of one who waits for room, while nobody reads. */
TEST(a_goer_runs_what_is_queued_when_nobody_else_can)
{
    side reader = {.to = -1}, goer = {.from = 3};
    twill_fan_stats stats;
    twill_outcome outcome;
    clear();
    faults_fail_thread(1);
    twill_fan *fan = make(OPTIONS(.run.workers = 1, .in_flight = 3, .max_unread = 1));
    faults_fail_thread(0);
    CHECK_EQ(twill_fan_go(fan, gated, tag(0), tag(0)), TWILL_OK);
    CHECK_EQ(twill_fan_go(fan, quick, tag(1), tag(1)), TWILL_OK);
    CHECK_EQ(twill_fan_go(fan, quick, tag(2), tag(2)), TWILL_OK);
    begin(&reader, fan, next_one); /* runs 0, and keeps the only number */
    wait_inside(1);
    begin(&goer, fan, go_for_room);
    await_under(fan, has_goer);
    atomic_store(&gate, 1);
    twill__thread_join(&reader.thread);
    CHECK(reader.status == TWILL_OK);
    for (int k = 0; k < 3; k++)
        CHECK_EQ(twill_fan_next(fan, NULL, &outcome), TWILL_OK);
    twill__thread_join(&goer.thread);
    CHECK_EQ(goer.status, TWILL_OK);
    CHECK_EQ(twill_fan_close(fan), TWILL_OK);
    CHECK_EQ(twill_fan_next(fan, NULL, &outcome), TWILL_CLOSED);
    twill_fan_get_stats(fan, &stats);
    CHECK_EQ(stats.done, 4);
    destroy(fan, NULL);
}

static void notify_nobody(const twill_task *task)
{
    (void)task;
}

/* Two wait for room, and one of them runs tasks meanwhile: where he calls `notify`, and no outcome
   makes room, the other one goes on. */
TEST(another_goer_runs_what_is_queued_while_one_notifies)
{
    side goers[2] = {{.from = 3}, {.from = 4}};
    twill_outcome outcome;
    clear();
    faults_fail_thread(1);
    twill_fan *fan =
        make(OPTIONS(.run.workers = 1, .in_flight = 3, .max_unread = 1, .notify = notify_nobody));
    faults_fail_thread(0);
    CHECK_EQ(twill_fan_go(fan, gated, tag(0), tag(0)), TWILL_OK);
    CHECK_EQ(twill_fan_go(fan, quick, tag(1), tag(1)), TWILL_OK);
    CHECK_EQ(twill_fan_go(fan, quick, tag(2), tag(2)), TWILL_OK);
    begin(&goers[0], fan, go_for_room); /* runs 0, and keeps the only number */
    wait_inside(1);
    begin(&goers[1], fan, go_for_room);
    await_under(fan, has_goer);
    atomic_store(&gate, 1);
    await_under(fan, has_three); /* nobody reads until then */
    for (int k = 0; k < 5; k++)
        CHECK_EQ(twill_fan_next(fan, NULL, &outcome), TWILL_OK);
    for (int k = 0; k < 2; k++) {
        twill__thread_join(&goers[k].thread);
        CHECK_EQ(goers[k].status, TWILL_OK);
    }
    CHECK_EQ(twill_fan_close(fan), TWILL_OK);
    CHECK_EQ(twill_fan_next(fan, NULL, &outcome), TWILL_CLOSED);
    destroy(fan, NULL);
}

static int reads_in_pool(void *arg, void *result, const twill_task *task)
{
    twill_outcome outcome;
    (void)result, (void)task;
    CHECK_EQ(twill_fan_next(arg, NULL, &outcome), TWILL_OK);
    return 0;
}

/* A thread of the pool reads, and runs what comes, if the fan has a number for it; else it sleeps
   until one of those that run has ended. */
TEST(a_reader_of_the_pool_runs_what_comes_if_a_number_is_free)
{
    for (unsigned numbers = 1; numbers < 3; numbers++) {
        twill_pool *pool;
        twill_fan *fan;
        twill_outcome outcome;
        CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 2}), TWILL_OK);
        clear();
        fan = make(OPTIONS(.run = {.pool = pool, .workers = numbers}, .in_flight = 4));
        CHECK_EQ(twill_fan_go(fan, gated, tag(0), tag(0)), TWILL_OK);
        wait_inside(1);
        CHECK_EQ(twill_pool_submit(pool, reads_in_pool, fan, NULL, NULL), TWILL_OK);
        await_under(fan, has_reader);
        CHECK_EQ(twill_fan_go(fan, quick, tag(1), tag(1)), TWILL_OK);
        if (numbers == 2)
            CHECK_EQ(twill_pool_wait_idle(pool), TWILL_OK); /* it has had that one */
        else
            CHECK_EQ(atomic_load(&ran[1]), 0);
        atomic_store(&gate, 1);
        CHECK_EQ(twill_fan_next(fan, NULL, &outcome), TWILL_OK);
        CHECK_EQ(twill_pool_wait_idle(pool), TWILL_OK);
        CHECK_EQ(twill_fan_close(fan), TWILL_OK);
        CHECK_EQ(twill_fan_next(fan, NULL, &outcome), TWILL_CLOSED);
        destroy(fan, NULL);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    }
}

/* Likewise who waits for its end: a task that runs goes, and waits for the new one. */
static int stops_in_pool(void *fan, void *result, const twill_task *task)
{
    static const twill_until forever = {0, NULL};
    (void)result;
    (void)task;
    CHECK_EQ(twill_fan_stop(fan, forever, forever, NULL), TWILL_OK);
    return 0;
}

static bool has_watcher(const twill_fan *fan)
{
    return fan->watchers.first != NULL;
}

static int goes_when_watched(void *arg, void *result, const twill_task *task)
{
    (void)arg;
    (void)result;
    (void)task;
    atomic_fetch_add(&inside, 1);
    await_under(own, has_watcher);
    CHECK_EQ(twill_fan_go(own, quick, tag(1), tag(1)), TWILL_OK);
    while (!atomic_load(&ran[1]))
        twill_sleep(twill_within(TWILL_US(50)));
    return 0;
}

TEST(who_stops_a_fan_of_the_pool_runs_what_comes)
{
    twill_pool *pool;
    CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 2}), TWILL_OK);
    clear();
    own = make(OPTIONS(.run = {.pool = pool, .workers = 2}, .in_flight = 4));
    CHECK_EQ(twill_fan_go(own, goes_when_watched, tag(0), tag(0)), TWILL_OK);
    wait_inside(1);
    CHECK_EQ(twill_pool_submit(pool, stops_in_pool, own, NULL, NULL), TWILL_OK);
    CHECK_EQ(twill_pool_wait_idle(pool), TWILL_OK);
    CHECK_EQ(read_all(own, TWILL_CLOSED), 2);
    destroy(own, NULL);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

/* A task reads in a closed fan: there is another one that it can wait for. */
static int reads_the_other(void *arg, void *result, const twill_task *task)
{
    twill_outcome outcome;
    (void)task;
    atomic_fetch_add(&inside, 1);
    while (!atomic_load(&gate))
        twill_sleep(twill_within(TWILL_US(50)));
    CHECK_EQ(twill_fan_next(own, NULL, &outcome), TWILL_OK);
    CHECK_EQ((intptr_t)outcome.key, 1);
    *(int *)result = 2 * (int)(intptr_t)arg;
    return 0;
}

static int ends_when_read(void *arg, void *result, const twill_task *task)
{
    (void)task;
    atomic_fetch_add(&inside, 1);
    await_under(own, has_reader);
    *(int *)result = 2 * (int)(intptr_t)arg;
    return 0;
}

TEST(a_task_waits_for_another_in_a_closed_fan)
{
    clear();
    own = make(OPTIONS(.run.workers = 2, .in_flight = 4));
    CHECK_EQ(twill_fan_go(own, reads_the_other, tag(0), tag(0)), TWILL_OK);
    CHECK_EQ(twill_fan_go(own, ends_when_read, tag(1), tag(1)), TWILL_OK);
    wait_inside(2);
    CHECK_EQ(twill_fan_close(own), TWILL_OK);
    atomic_store(&gate, 1);
    while (atomic_load(&own->visits))
        twill_sleep(twill_within(TWILL_US(50)));
    await_under(own, is_closed_and_empty);
    CHECK_EQ(read_all(own, TWILL_CLOSED), 1);
    destroy(own, NULL);
}

/* go from inside when the fan takes nothing more, for three reasons. */
static twill_status late_answer;

static int goes_when_destroyed(void *arg, void *result, const twill_task *task)
{
    (void)arg;
    (void)result;
    (void)task;
    atomic_fetch_add(&inside, 1);
    await_under(own, is_over);
    late_answer = twill_fan_go(own, quick, tag(9), tag(9));
    return 0;
}

static int goes_when_left(void *arg, void *result, const twill_task *task)
{
    (void)arg;
    (void)result;
    (void)task;
    await_under(own, is_closed_and_empty);
    late_answer = twill_fan_go(own, quick, tag(9), tag(9));
    atomic_store(&gate, 1);
    return 0;
}

TEST(a_fan_that_takes_nothing_more)
{
    twill_outcome outcome;
    twill_fan_stats stats;
    clear();
    late_answer = TWILL_OK;
    own = make(OPTIONS(.run.workers = 1, .in_flight = 4));
    own->discard = NULL;
    CHECK_EQ(twill_fan_go(own, goes_when_destroyed, tag(0), tag(0)), TWILL_OK);
    wait_inside(1);
    destroy(own, NULL);
    CHECK_EQ(late_answer, TWILL_CLOSED);

    own = make(OPTIONS(.run.workers = 1, .in_flight = 4, .run.on_error = TWILL_ON_ERROR_LOWEST));
    CHECK_EQ(twill_fan_go(own, fails, tag(0), tag(0)), TWILL_OK);
    CHECK_EQ(twill_fan_next(own, NULL, &outcome), TWILL_OK);
    CHECK_EQ(twill_fan_go(own, quick, tag(1), tag(1)), TWILL_CLOSED);
    destroy(own, NULL);

    late_answer = TWILL_OK;
    own =
        make(OPTIONS(.run.workers = 1, .in_flight = 4, .timeout = TWILL_MS(5), .max_abandoned = 1));
    own->discard = NULL;
    CHECK_EQ(twill_fan_go(own, goes_when_left, tag(0), tag(0)), TWILL_OK);
    CHECK_EQ(twill_fan_next(own, NULL, &outcome), TWILL_OK);
    CHECK_EQ(outcome.status, TWILL_TIMEOUT);
    CHECK_EQ(twill_fan_close(own), TWILL_OK);
    while (!atomic_load(&gate))
        twill_sleep(twill_within(TWILL_US(50)));
    CHECK_EQ(late_answer, TWILL_CLOSED);
    do
        twill_fan_get_stats(own, &stats);
    while (stats.abandoned);
    destroy(own, NULL);
}

/* worker_start is inside and has no task: it can run nothing in a full window. notify, in a worker
   between two tasks, may go. */
static int goes_at_start(void **state, const twill_task *task)
{
    (void)state;
    (void)task;
    CHECK_EQ(twill_fan_go(own, quick, tag(8), tag(8)), TWILL_FULL);
    CHECK_EQ(twill_fan_try_go(own, quick, tag(8), tag(8)), TWILL_FULL);
    CHECK_EQ(twill_fan_go_until(own, quick, tag(8), tag(8), twill_within(0)), TWILL_TIMEOUT);
    atomic_store(&gate, 1);
    return 0;
}

static atomic_int heard;

static void goes_once(const twill_task *task)
{
    (void)task;
    if (atomic_fetch_add(&heard, 1) == 0)
        late_answer = twill_fan_go(own, quick, tag(5), tag(5));
}

TEST(go_in_hooks)
{
    clear();
    own = make(OPTIONS(.run.workers = 1, .in_flight = 1, .run.worker_start = goes_at_start));
    CHECK_EQ(twill_fan_go(own, gated, tag(0), tag(0)), TWILL_OK);
    CHECK_EQ(twill_fan_close(own), TWILL_OK);
    CHECK_EQ(read_all(own, TWILL_CLOSED), 1);
    destroy(own, NULL);
    clear();
    atomic_store(&heard, 0);
    own = make(OPTIONS(.run.workers = 1, .in_flight = 4, .notify = goes_once));
    CHECK_EQ(twill_fan_go(own, gated, tag(0), tag(0)), TWILL_OK);
    CHECK_EQ(twill_fan_go(own, quick, tag(1), tag(1)), TWILL_OK);
    atomic_store(&gate, 1);
    while (!atomic_load(&ran[5]))
        twill_sleep(twill_within(TWILL_US(50)));
    CHECK_EQ(late_answer, TWILL_OK);
    CHECK_EQ(twill_fan_close(own), TWILL_OK);
    CHECK_EQ(read_all(own, TWILL_CLOSED), 3);
    destroy(own, NULL);
}

/* ---- calls ---- */

static int numbers[MOST];
static twill_cancel call_token;
static twill_status seen_status[4];

static size_t pulls_slowly = SIZE_MAX; /* this one, 8 ms after the one before has begun */
static _Atomic twill_ns stays_since;

static int pull_numbers(void *item, const twill_task *task)
{
    twill_ns end = twill_now() + TWILL_SEC(100);
    *(int *)item = (int)task->index;
    if (task->index == pulls_slowly)
        while (twill_now() < atomic_load(&stays_since) + TWILL_MS(8) && twill_now() < end)
            twill_sleep(twill_within(TWILL_MS(1)));
    return task->index >= (size_t)(intptr_t)task->context ? twill_task_stop(task) : 0;
}

static int note_seen(const void *result, const twill_outcome *outcome, const twill_task *task)
{
    (void)result;
    (void)task;
    if (outcome->index < 4)
        seen_status[outcome->index] = outcome->status;
    atomic_fetch_add(&inside, 1);
    return 0;
}

static int stays(const void *in, void *out, const twill_task *task)
{
    (void)out;
    (void)task;
    if (*(const int *)in == 1)
        twill_cancel_fire(&call_token, 1);
    else
        atomic_store(&stays_since, twill_now());
    while (!atomic_load(&gate))
        twill_sleep(twill_within(TWILL_US(50)));
    return 0;
}

/* One whose time was over, and then one that runs when all is over. */
TEST(two_are_left_behind_one_after_the_other)
{
    twill_report report;
    clear();
    pulls_slowly = 1; /* the time of the one before is over then */
    atomic_store(&stays_since, TWILL_FOREVER - TWILL_SEC(1));
    twill_cancel_init(&call_token, NULL);
    CHECK_EQ(twill_fan_stream(pull_numbers, sizeof(int), stays, 0, note_seen,
                              OPTIONS(.run = {.workers = 2,
                                              .report = &report,
                                              .until.cancel = &call_token,
                                              .context = tag(2)},
                                      .in_flight = 2, .timeout = TWILL_MS(5), .max_abandoned = 2)),
             TWILL_FAILED);
    CHECK(report.total == 2 && report.failed == 2);
    CHECK(seen_status[0] == TWILL_TIMEOUT && seen_status[1] != TWILL_OK);
    atomic_store(&gate, 1);
    await_nothing_live();
    pulls_slowly = SIZE_MAX;
    twill_cancel_detach(&call_token);
}

/* No memory for a second record while the only one is of a task that was left behind. */
static int lasts_while_memory_is_asked_for(const void *in, void *out, const twill_task *task)
{
    unsigned long asked = faults_allocs();
    (void)out;
    (void)task;
    if (*(const int *)in)
        return 0;
    faults_fail_alloc_from(1);
    for (int k = 0; k < 200000 && faults_allocs() == asked; k++)
        twill_sleep(twill_within(TWILL_US(50)));
    CHECK(faults_allocs() > asked);
    twill_sleep(twill_within(TWILL_MS(1)));
    return 0;
}

static bool one_record_is_enough(twill_ns timeout)
{
    twill_report report;
    clear();
    CHECK_EQ(twill_fan_stream(pull_numbers, sizeof(int), lasts_while_memory_is_asked_for, 0,
                              note_seen,
                              OPTIONS(.run = {.workers = 1, .report = &report, .context = tag(4)},
                                      .in_flight = 1, .timeout = timeout, .max_abandoned = 1)),
             TWILL_FAILED);
    faults_fail_alloc(0);
    CHECK(report.total == 4 && report.done + report.failed == 4);
    CHECK_EQ(seen_status[0], TWILL_TIMEOUT);
    await_nothing_live();
    return report.done == 3 && seen_status[3] == TWILL_OK; /* none of the quick ones took so long */
}

TEST(a_stream_goes_on_with_the_record_that_it_has)
{
    CHECK(test_in_time(TWILL_MS(4), one_record_is_enough));
}

static void note_discard_of_number(void *item, void *result, int code, const twill_task *task)
{
    (void)result;
    (void)code;
    (void)task;
    atomic_fetch_add(&discarded[*(int *)item], 1);
}

static int makes_nothing(const void *in, void *out, const twill_task *task)
{
    (void)in;
    (void)out;
    (void)task;
    return 0;
}

static int ends_at_second(const void *result, const twill_outcome *outcome, const twill_task *task)
{
    (void)result;
    (void)task;
    given[outcome->index]++;
    if (atomic_fetch_add(&inside, 1) == 1)
        END_THREAD();
    return 0;
}

static void call_all_ok(void *unused)
{
    (void)unused;
    (void)twill_fan_out_fan_in(numbers, sizeof(int), 5, makes_nothing, 0, ends_at_second,
                               OPTIONS(.run.workers = 1, .goal = TWILL_FAN_ALL_OK, .ordered = true,
                                       .discard = note_discard_of_number));
    CHECK(false);
}

/* All or nothing, and the caller's thread ends between: what was kept and not given is
   discarded. */
TEST(what_was_kept_for_a_caller_that_has_gone)
{
    side caller = {.status = TWILL_OK};
    clear();
    for (int i = 0; i < 5; i++)
        numbers[i] = i;
    begin(&caller, NULL, call_all_ok);
    twill__thread_join(&caller.thread);
    for (int i = 0; i < 5; i++)
        CHECK(given[i] == (i < 2) && atomic_load(&discarded[i]) == (i >= 2));
    CHECK_EQ(faults_live(), 0);
}

static int inner_body(const twill_task *task)
{
    (void)task;
    CHECK_EQ(twill_fan_out_fan_in(numbers, sizeof(int), 5, makes_nothing, 0, note_seen, NULL),
             TWILL_OK);
    return 0;
}

TEST(in_a_loop_that_has_one_worker)
{
    clear();
    CHECK_EQ(twill_parallel_for(2, inner_body, &(twill_parallel_options){.run.workers = 1}),
             TWILL_OK);
    CHECK(atomic_load(&inside) >= 5);
}

/* ---- lanes ---- */

enum {
    WAITS_STRICTLY,
    PAST_DEADLINE,
    FIRES,
    STOPS,
    OUTLIVES,
    FORKS_IN_LANE,
    FORKS_AND_ENDS,
    LANES
};
static int in_lane;
static atomic_int lane_done;
static uint64_t calls_thread;

/* The first item that runs in a lane, with others behind it there. */
static int in_lanes(const void *in, void *out, const twill_task *task)
{
    twill__fan_task *mine = (twill__fan_task *)task->private_;
    twill_ns end = twill_now() + TWILL_SEC(100);
    (void)in;
    (void)out;
    if (fork_child == 0)
        _exit(2); /* nothing is run in the child */
    if (!mine->lane || !twill__fan_lane_any(mine->lane) || atomic_exchange(&lane_done, 1))
        return 0;
    switch (in_lane) {
    case WAITS_STRICTLY:
        while (!atomic_load(&mine->fan->hungry) && twill_now() < end)
            twill_sleep(twill_within(TWILL_US(20)));
        CHECK(atomic_load(&mine->fan->hungry));
        return 0;
    case PAST_DEADLINE:
        return twill_sleep((twill_until){mine->fan->crew.run.until.deadline, NULL}) != TWILL_OK;
    case FIRES:
        twill_cancel_fire(&call_token, 1);
        return 0;
    case STOPS:
        return twill_task_stop(task);
    case OUTLIVES:
        await_under(mine->fan, is_over);
        twill_sleep(twill_within(TWILL_MS(1)));
        return 0;
    default:
        fflush(NULL);
        fork_child = fork();
        if (fork_child == 0) {
            alarm(20); /* instead of a hang */
            atexit(end_quietly);
            if (in_lane == FORKS_AND_ENDS)
                END_THREAD();
        }
        return 0;
    }
}

static void drop_number(void *item, twill_status why, const twill_task *task)
{
    (void)why;
    (void)task;
    atomic_fetch_add(&dropped[*(int *)item], 1);
    if (in_lane == STOPS && twill__thread_number() != calls_thread &&
        atomic_fetch_add(&inside, 1) == 0)
        END_THREAD();
}

static int ends_when_outlived(const void *result, const twill_outcome *outcome,
                              const twill_task *task)
{
    (void)result;
    (void)outcome;
    (void)task;
    if (atomic_load(&lane_done))
        END_THREAD();
    return 0;
}

static twill_report lane_report;
static twill_status lane_answer;

static void call_in_lanes(void *unused)
{
    twill_fan_options options = {
        .run = {.workers = 2, .report = &lane_report, .until = twill_within(TWILL_SEC(100))},
        .in_flight = 512,
        .drop = drop_number};
    (void)unused;
    calls_thread = twill__thread_number();
    if (in_lane == PAST_DEADLINE)
        options.run.until = twill_within(TWILL_MS(1));
    if (in_lane == FIRES || in_lane == PAST_DEADLINE)
        options.run.until.cancel = &call_token;
    lane_answer = TWILL_LOST;
    lane_answer = twill_fan_out_fan_in(numbers, sizeof(int), MOST, in_lanes, 0,
                                       in_lane == OUTLIVES ? ends_when_outlived : NULL, &options);
}

TEST(quick_items_in_lanes)
{
    for (int i = 0; i < MOST; i++)
        numbers[i] = i;
    for (in_lane = 0; in_lane < LANES; in_lane++) {
        side caller = {.status = TWILL_OK};
        int status = -1;
#if defined __SANITIZE_ADDRESS__ || defined TWILL__UNDER_TSAN || !HARNESS_FORKS
        if (in_lane >= FORKS_IN_LANE)
            break;
#endif
        clear();
        atomic_store(&lane_done, 0);
        fork_child = -1;
        twill_cancel_init(&call_token, NULL);
        begin(&caller, NULL, call_in_lanes);
        twill__thread_join(&caller.thread);
        CHECK_EQ(lane_report.total, MOST);
        CHECK_EQ(lane_report.total, lane_report.done + lane_report.failed + lane_report.skipped);
        if (!atomic_load(&lane_done)) /* a machine too slow for lanes */
            continue;
        if (in_lane == OUTLIVES) {
            CHECK_EQ(lane_answer, TWILL_LOST);
        } else { /* the others may have run by then, all of them */
            twill_status why = in_lane == PAST_DEADLINE ? TWILL_TIMEOUT : TWILL_CANCELLED;
            bool cut = lane_report.skipped && in_lane != STOPS;
            CHECK_EQ(lane_answer, cut ? why : TWILL_OK);
        }
        if (in_lane >= FORKS_IN_LANE) {
            CHECK(fork_child > 0);
            CHECK_EQ(waitpid(fork_child, &status, 0), fork_child);
            CHECK_EQ(status, 0);
        }
        CHECK_EQ(faults_live(), 0);
        twill_cancel_detach(&call_token);
    }
}

/* ---- forks where a task is run for another, and in hooks ---- */

#if HARNESS_FORKS
static int forks_quietly(void *arg, void *result, const twill_task *task)
{
    (void)arg;
    (void)task;
    *(int *)result = 2 * (int)(intptr_t)arg;
    fflush(NULL);
    fork_child = fork();
    if (fork_child == 0) {
        alarm(20);
        atexit(end_quietly);
    }
    return 0;
}

static int runs_another(void *arg, void *result, const twill_task *task)
{
    int i = (int)(intptr_t)arg;
    twill_outcome outcome;
    twill_status answer;
    (void)task;
    *(int *)result = 2 * i;
    if (i == 0) {
        answer = twill_fan_go(own, forks_quietly, tag(2), tag(2)); /* inline */
    } else {
        CHECK_EQ(twill_fan_go(own, forks_quietly, tag(2), tag(2)), TWILL_OK);
        answer = twill_fan_next(own, NULL, &outcome);
    }
    if (fork_child == 0)
        _exit(answer == TWILL_FORKED ? 0 : 1);
    CHECK_EQ(answer, TWILL_OK);
    return 0;
}

static int start_forks(void **state, const twill_task *task)
{
    (void)state;
    (void)task;
    fflush(NULL);
    fork_child = fork();
    if (fork_child == 0) {
        alarm(20);
        atexit(end_quietly);
        return 5;
    }
    return 0;
}

static void drop_forks(void *item, twill_status why, const twill_task *task)
{
    (void)item;
    (void)why;
    (void)task;
    if (fork_child == 0)
        _exit(2); /* the rest is the parent's */
    if (fork_child < 0) {
        fork_child = fork();
        if (fork_child == 0)
            alarm(20);
    }
}

static void check_child(void)
{
    int status = -1;
    CHECK(fork_child > 0);
    CHECK_EQ(waitpid(fork_child, &status, 0), fork_child);
    CHECK_EQ(status, 0);
}

TEST(forks_inside)
{
#if defined __SANITIZE_ADDRESS__ || defined TWILL__UNDER_TSAN
    SKIP("a sanitizer's own lock may be held while a thread forks, or its own thread outlive the "
         "child");
#endif
    for (int by = 0; by < 3; by++) {
        fork_child = -1;
        clear();
        own = make(OPTIONS(.run.workers = 1, .in_flight = by == 0 ? 1 : 4,
                           .run.worker_start = by == 2 ? start_forks : NULL));
        CHECK_EQ(twill_fan_go(own, by == 2 ? quick : runs_another, tag(by), tag(by)), TWILL_OK);
        CHECK_EQ(twill_fan_close(own), TWILL_OK);
        CHECK_EQ(read_all(own, TWILL_CLOSED), by == 0 ? 2 : 1);
        destroy(own, NULL);
        check_child();
    }
    for (int goal = 0; goal < 2; goal++) { /* what was never begun is dropped */
        pid_t parent = getpid();
        twill_status answer;
        fork_child = -1;
        twill_cancel_init(&call_token, NULL);
        twill_cancel_fire(&call_token, 1);
        answer = twill_fan_out_fan_in(numbers, sizeof(int), 5, makes_nothing, 0, NULL,
                                      OPTIONS(.run = {.workers = 1, .until.cancel = &call_token},
                                              .goal = goal ? TWILL_FAN_ALL_OK : TWILL_FAN_ALL,
                                              .drop = drop_forks));
        if (getpid() != parent)
            _exit(answer == TWILL_FORKED ? 0 : 1);
        CHECK_EQ(answer, TWILL_CANCELLED);
        check_child();
        twill_cancel_detach(&call_token);
    }
}
#endif
