/* twill_produce_consume: roles, errors on either side, ends, faults. */
#define HARNESS_FAULTS
#include "harness.h"

#include "platform/threads.h"
#include "twill_producer_consumer.h"
#include "twill_worker_pool.h"

#include <limits.h>

enum { MOST = 20000 };
static atomic_uchar consumed[MOST], dropped[MOST];
static atomic_int producers_run, dead, dead_code, at_once, most_at_once, ended_at;

static long base_live; /* blocks that are not the call's */

typedef struct plan {
    int items;        /* of each producer */
    int bad, code;    /* the accept number that fails */
    int bad_producer; /* its index; -1: none */
    int stop_at;      /* the accept number that stops; -1: none */
    int end_thread;   /* the accept number from which on a callback ends its thread; -1: none */
    twill_ns nap;
    int told[8]; /* what each producer's last push answered */
} plan;

static plan plan_of(int items)
{
    plan p = {items, -1, 0, -1, -1, -1, 0, {0}};
    for (int k = 0; k < MOST; k++) {
        atomic_store(&consumed[k], 0);
        atomic_store(&dropped[k], 0);
    }
    atomic_store(&producers_run, 0);
    atomic_store(&dead, 0);
    atomic_store(&most_at_once, 0);
    atomic_store(&ended_at, -1);
    base_live = faults_live();
    return p;
}

static int produce(twill_queue *queue, const twill_task *task)
{
    plan *p = task->context;
    twill_status status = TWILL_OK;
    atomic_fetch_add(&producers_run, 1);
    for (int k = 0; k < p->items && status == TWILL_OK; k++) {
        int item = (int)task->index * p->items + k;
        if (k == p->items / 2 && (int)task->index == p->bad_producer)
            return 77;
        status = twill_queue_push(queue, &item);
        while (p->end_thread >= 0 && !atomic_load(&consumed[0])) /* by a thread of its own */
            twill_sleep(twill_within(TWILL_US(100)));
    }
    p->told[task->index % 8] = (int)status;
    return status == TWILL_OK ? 0 : 99; /* 99 after CLOSED must not count */
}

static int consume(void *item, const twill_task *task)
{
    plan *p = task->context;
    int code = 0, none = -1, now = atomic_fetch_add(&at_once, 1) + 1;
    if (now > atomic_load(&most_at_once))
        atomic_store(&most_at_once, now);
    atomic_fetch_add(&consumed[*(int *)item], 1);
    if (p->nap)
        twill_sleep(twill_within_or_cancelled(p->nap, task->until.cancel));
    if ((int)task->index == p->bad)
        code = p->code;
    if ((int)task->index == p->stop_at)
        twill_task_stop(task);
    atomic_fetch_sub(&at_once, 1);
    /* on the calling thread, which relieves, it would end the test */
    if (p->end_thread >= 0 && (int)task->index >= p->end_thread && task->worker != 0 &&
        atomic_compare_exchange_strong(&ended_at, &none, (int)task->index)) {
#ifdef TWILL_USE_PTHREAD
        pthread_exit(NULL);
#else
        thrd_exit(0);
#endif
    }
    return code;
}

static void note_drop(void *item, twill_status why, const twill_task *task)
{
    (void)task;
    CHECK(why == TWILL_CANCELLED || why == TWILL_DROPPED);
    atomic_fetch_add(&dropped[*(int *)item], 1);
}

static void bury(void *item, int code, const twill_task *task)
{
    CHECK(*(int *)item >= 0);
    CHECK(task->index < MOST);
    atomic_store(&dead_code, code);
    atomic_fetch_add(&dead, 1);
}

/* Each accepted item was consumed or dropped, never both, and the report says how many. */
static void check_books(const twill_report *report, const twill_queue_stats *stats)
{
    size_t run = 0, gone = 0, both = 0;
    for (int k = 0; k < MOST; k++) {
        run += atomic_load(&consumed[k]);
        gone += atomic_load(&dropped[k]);
        both += atomic_load(&consumed[k]) + atomic_load(&dropped[k]) > 1;
    }
    CHECK_EQ(both, 0);
    CHECK_EQ(report->total, report->done + report->failed + report->skipped);
    CHECK_EQ(report->total, stats->accepted);
    CHECK_EQ(run + gone, report->total);
    CHECK_EQ(stats->accepted,
             stats->popped + stats->dropped + stats->expired + stats->cleared + stats->length);
    CHECK_EQ(stats->length, 0);
    CHECK_EQ(stats->popped, run);
    CHECK_EQ(faults_live(), base_live);
}

typedef struct outcome {
    twill_status status;
    twill_report report;
    twill_queue_stats stats;
} outcome;

static outcome run(plan *p, twill_produce_consume_options options)
{
    outcome out;
    memset(&out, 0, sizeof out);
    options.run.context = p;
    options.run.report = &out.report;
    options.queue_stats = &out.stats;
    options.queue.drop = note_drop;
    options.dead_letter = bury;
    out.status = twill_produce_consume(sizeof(int), produce, consume, &options);
    CHECK_EQ(out.status, out.report.status);
    return out;
}

#define OPTIONS(...) ((twill_produce_consume_options){__VA_ARGS__})

/* ---- all goes well ---- */

TEST(every_item_once)
{
    for (unsigned producers = 1; producers <= 4; producers += 3)
        for (unsigned workers = 1; workers <= 4; workers++)
            for (size_t batch = 1; batch <= 9; batch += 4) {
                plan p = plan_of(1000);
                outcome out = run(&p, OPTIONS(.run.workers = workers, .producers = producers,
                                              .queue.capacity = 5, .batch = batch));
                CHECK_EQ(out.status, TWILL_OK);
                CHECK_EQ(out.report.done, producers * 1000);
                CHECK_EQ(atomic_load(&producers_run), producers);
                CHECK(atomic_load(&most_at_once) <= (int)workers);
                CHECK(out.stats.peak <= 5);
                check_books(&out.report, &out.stats);
            }
}

static int squares(void *item, const twill_task *task)
{
    int i = *(int *)item;
    ((int *)task->context)[task->index] = i * i;
    return 0;
}

static int produce_20(twill_queue *queue, const twill_task *task)
{
    (void)task;
    for (int i = 0; i < 20; i++)
        if (twill_queue_push(queue, &i) != TWILL_OK)
            return 1;
    return 0;
}

TEST(exercise)
{
    int results[20] = {0};
    twill_queue_stats stats;
    CHECK_EQ(twill_produce_consume(sizeof(int), produce_20, squares,
                                   &OPTIONS(.run.workers = 2, .run.context = results,
                                            .queue.capacity = 5, .queue_stats = &stats)),
             TWILL_OK);
    for (int i = 0; i < 20; i++)
        CHECK_EQ(results[i], i * i);
    CHECK(stats.peak <= 5);
}

TEST(defaults_and_refusals)
{
    int results[20];
    int code;
    CHECK_EQ(twill_produce_consume(0, produce_20, squares, NULL), TWILL_INVALID);
    CHECK_EQ(twill_produce_consume(4, NULL, squares, NULL), TWILL_INVALID);
    CHECK_EQ(twill_produce_consume(4, produce_20, squares, &OPTIONS(.queue.producers = 1)),
             TWILL_INVALID);
    CHECK_EQ(twill_produce_consume(4, produce_20, squares, &OPTIONS(.run.codes = &code)),
             TWILL_INVALID);
    CHECK_EQ(twill_produce_consume(4, produce_20, squares, &OPTIONS(.batch = SIZE_MAX / 2)),
             TWILL_TOO_BIG);
    CHECK_EQ(twill_produce_consume(4, produce_20, squares, &OPTIONS(.run.context = results)),
             TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

/* ---- errors ---- */

TEST(the_lowest_error_every_time)
{
    for (int round = 0; round < 40; round++) {
        plan p = plan_of(2000);
        twill_item_error errors[4];
        p.bad = round * 7;
        p.code = 5 + round;
        outcome out = run(&p, OPTIONS(.run.workers = 1 + (unsigned)round % 4, .run.errors = errors,
                                      .run.errors_capacity = 4, .queue.capacity = 3,
                                      .batch = 1 + (size_t)round % 3));
        CHECK_EQ(out.status, TWILL_FAILED);
        CHECK_EQ(out.report.first_error.index, p.bad);
        CHECK_EQ(out.report.first_error.code, p.code);
        CHECK_EQ(out.report.failed, 1);
        CHECK_EQ(out.report.errors_stored, 1);
        CHECK_EQ(errors[0].index, p.bad);
        CHECK_EQ(atomic_load(&dead), 1);
        CHECK_EQ(atomic_load(&dead_code), p.code);
        CHECK(p.bad + 200 > 0 && out.report.total < 2000); /* it stops early */
        for (int k = 0; k < p.bad; k++)
            CHECK_EQ(atomic_load(&consumed[k]), 1); /* all below has run */
        check_books(&out.report, &out.stats);
    }
}

TEST(collect_runs_everything)
{
    plan p = plan_of(500);
    p.bad = 10;
    p.code = 3;
    outcome out = run(&p, OPTIONS(.run.workers = 2, .producers = 2, .queue.capacity = 4,
                                  .run.on_error = TWILL_ON_ERROR_COLLECT));
    CHECK_EQ(out.status, TWILL_FAILED);
    CHECK_EQ(out.report.done, 999);
    CHECK_EQ(out.report.failed, 1);
    check_books(&out.report, &out.stats);
}

TEST(first_and_limit_stop_early)
{
    plan p = plan_of(5000);
    p.bad = 20;
    p.code = 3;
    outcome out = run(
        &p, OPTIONS(.run.workers = 3, .run.on_error = TWILL_ON_ERROR_FIRST, .queue.capacity = 4));
    CHECK_EQ(out.status, TWILL_FAILED);
    CHECK_EQ(out.report.first_error.index, 20);
    CHECK(out.report.total < 5000);
    check_books(&out.report, &out.stats);
    p = plan_of(5000);
    p.bad = 20;
    p.code = 3;
    out = run(&p, OPTIONS(.run.workers = 3, .run.on_error = TWILL_ON_ERROR_LIMIT,
                          .run.max_errors = 2, .queue.capacity = 4));
    CHECK_EQ(out.status, TWILL_FAILED);
    CHECK_EQ(out.report.total, 5000);
    check_books(&out.report, &out.stats);
}

TEST(a_producer_fails)
{
    for (int round = 0; round < 10; round++) {
        plan p = plan_of(400);
        p.bad_producer = round % 3;
        outcome out = run(&p, OPTIONS(.run.workers = 2, .producers = 3, .queue.capacity = 2));
        CHECK_EQ(out.status, TWILL_FAILED);
        CHECK_EQ(out.report.first_error.index, SIZE_MAX);
        CHECK_EQ(out.report.first_error.code, 77);
        CHECK_EQ(out.report.failed, 0);
        for (int k = 0; k < 200; k++) /* what it had pushed was consumed */
            CHECK_EQ(atomic_load(&consumed[p.bad_producer * 400 + k]), 1);
        check_books(&out.report, &out.stats);
    }
}

TEST(stop_in_consume)
{
    plan p = plan_of(3000);
    p.stop_at = 100;
    outcome out = run(&p, OPTIONS(.run.workers = 3, .queue.capacity = 8));
    CHECK_EQ(out.status, TWILL_OK);
    for (int k = 0; k <= 100; k++)
        CHECK_EQ(atomic_load(&consumed[k]), 1);
    CHECK(out.report.total < 3000);
    check_books(&out.report, &out.stats);
}

static int produce_and_stop(twill_queue *queue, const twill_task *task)
{
    for (int i = 0; i < 30; i++)
        CHECK_EQ(twill_queue_push(queue, &i), TWILL_OK);
    twill_task_stop(task);
    CHECK_EQ(twill_queue_push(queue, &(int){30}), TWILL_CLOSED);
    return 0;
}

TEST(stop_in_a_producer)
{
    plan p = plan_of(0);
    twill_report report;
    CHECK_EQ(
        twill_produce_consume(sizeof(int), produce_and_stop, consume,
                              &OPTIONS(.run.workers = 2, .run.context = &p, .run.report = &report)),
        TWILL_OK);
    CHECK_EQ(report.done, 30);
}

/* ---- run.until ---- */

static void fire_soon(void *token)
{
    twill_sleep(twill_within(TWILL_MS(20)));
    twill_cancel_fire(token, 1);
}

TEST(cancel_and_deadline_end_both_sides)
{
    for (int round = 0; round < 4; round++) {
        plan p = plan_of(5000);
        twill_cancel token;
        twill__thrd thread;
        p.nap = TWILL_MS(1) * (round < 2 ? 1 : 1000);
        twill_cancel_init(&token, NULL);
        memset(&thread, 0, sizeof thread);
        thread.fn = fire_soon;
        thread.arg = &token;
        thread.cpu = UINT_MAX;
        if (round % 2)
            CHECK(twill__thread_start(&thread));
        outcome out =
            run(&p, OPTIONS(.run.workers = 2, .queue.capacity = 2, .producers = 2,
                            .run.until = round % 2 ? twill_until_cancelled(&token)
                                                   : twill_within(TWILL_MS(round < 2 ? 20 : 1))));
        if (round % 2) {
            twill__thread_join(&thread);
            CHECK_EQ(out.status, TWILL_CANCELLED);
        } else {
            CHECK_EQ(out.status, TWILL_TIMEOUT);
        }
        CHECK(out.report.total < 10000);
        check_books(&out.report, &out.stats);
        twill_cancel_detach(&token);
    }
}

TEST(over_before_it_began)
{
    plan p = plan_of(10);
    outcome out = run(&p, OPTIONS(.run.workers = 2, .run.until = twill_within(0)));
    CHECK_EQ(out.status, TWILL_TIMEOUT);
    CHECK_EQ(atomic_load(&producers_run), 0);
    check_books(&out.report, &out.stats);
}

/* ---- fewer threads ---- */

static int produce_by_select(twill_queue *queue, const twill_task *task)
{
    plan *p = task->context;
    for (int k = 0; k < p->items; k++) {
        twill_queue_case cases[] = {{NULL, false, NULL, TWILL_OK}, {queue, true, &k, TWILL_OK}};
        size_t chosen = 0;
        if (twill_queue_select_until(cases, 2, TWILL_SELECT_FAIR, &chosen, task->until) != TWILL_OK)
            return 98;
    }
    return 0;
}

TEST(a_select_consumes_where_nobody_else_does)
{
    for (unsigned long k = 0; k <= 2; k++) {
        plan p = plan_of(300);
        twill_report report;
        faults_fail_thread(k);
        CHECK_EQ(twill_produce_consume(
                     sizeof(int), produce_by_select, consume,
                     &OPTIONS(.run.workers = 2, .run.context = &p, .run.report = &report,
                              .run.until = twill_within(TWILL_SEC(5)), .queue.capacity = 2)),
                 TWILL_OK);
        faults_fail_thread(0);
        CHECK_EQ(report.done, 300);
        CHECK_EQ(report.skipped, 0);
    }
}

TEST(any_thread_may_be_missing)
{
    for (unsigned long k = 1; k <= 5; k++) {
        plan p = plan_of(300);
        faults_fail_thread(k);
        outcome out = run(&p, OPTIONS(.run.workers = 2, .producers = 2, .queue.capacity = 2));
        CHECK_EQ(out.status, TWILL_OK);
        CHECK_EQ(out.report.done, 600);
        CHECK_EQ(!!(out.report.flags & TWILL_REPORT_DEGRADED), k <= 3);
        check_books(&out.report, &out.stats);
        p = plan_of(300);
        p.bad = 50;
        p.code = 9;
        faults_fail_thread(k);
        out = run(&p, OPTIONS(.run.workers = 2, .queue.capacity = 2));
        CHECK_EQ(out.status, TWILL_FAILED);
        CHECK_EQ(out.report.first_error.index, 50);
        check_books(&out.report, &out.stats);
        faults_fail_thread(0);
    }
    plan p = plan_of(300);
    faults_fail_thread(1);
    outcome out = run(&p, OPTIONS(.run.workers = 2, .run.strict = true));
    CHECK_EQ(out.status, TWILL_NO_THREAD);
    CHECK_EQ(atomic_load(&producers_run), 0);
    check_books(&out.report, &out.stats);
}

static atomic_int started;

static int start_first_alone(void **state, const twill_task *task)
{
    *state = NULL;
    atomic_fetch_add(&started, 1);
    return task->worker == 0 ? 0 : 5;
}

TEST(helpers_that_refuse_to_start_consume_nothing)
{
    for (unsigned long k = 0; k <= 3; k++) {
        plan p = plan_of(300);
        faults_fail_thread(k);
        outcome out = run(&p, OPTIONS(.run.workers = 2, .run.worker_start = start_first_alone,
                                      .producers = 2, .queue.capacity = 2));
        faults_fail_thread(0);
        CHECK_EQ(out.status, TWILL_OK);
        CHECK_EQ(out.report.done, 600);
        check_books(&out.report, &out.stats);
    }
}

/* The helpers come when the call is over: nobody consumes, and yet the producer has to be told. */
static int start_late(void **state, const twill_task *task)
{
    *state = NULL;
    if (task->worker != 0)
        while (!atomic_load(&started)) /* exit: the test's token, or deadline, is due then */
            twill_sleep(twill_within(TWILL_US(100)));
    return 0;
}

static void let_start(void *token)
{
    twill_sleep(twill_within(TWILL_MS(5)));
    if (token)
        twill_cancel_fire(token, 1);
    atomic_store(&started, 1);
}

TEST(over_before_the_helpers_come)
{
    for (int round = 0; round < 4; round++) {
        plan p = plan_of(300);
        twill_cancel token = {0};
        twill__thrd thread;
        memset(&thread, 0, sizeof thread);
        thread.fn = let_start;
        thread.arg = round % 2 ? &token : NULL;
        thread.cpu = UINT_MAX;
        atomic_store(&started, 0);
        CHECK(twill__thread_start(&thread));
        outcome out =
            run(&p, OPTIONS(.run.workers = 2, .run.worker_start = start_late, .queue.capacity = 2,
                            .run.until = round % 2 ? twill_until_cancelled(&token)
                                                   : twill_within(TWILL_MS(4))));
        twill__thread_join(&thread);
        CHECK_EQ(out.status, round % 2 ? TWILL_CANCELLED : TWILL_TIMEOUT);
        check_books(&out.report, &out.stats);
        twill_cancel_detach(&token);
    }
}

TEST(any_allocation_may_fail)
{
    for (unsigned long k = 1; k <= 3; k++) {
        plan p = plan_of(100);
        faults_fail_alloc(k);
        outcome out = run(&p, OPTIONS(.run.workers = 2));
        CHECK(out.status == TWILL_NO_MEMORY || (k > 2 && out.status == TWILL_OK));
        check_books(&out.report, &out.stats);
        faults_fail_alloc(0);
    }
}

TEST(on_a_pool_of_one)
{
    twill_pool *pool;
    CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 1}), TWILL_OK);
    for (int round = 0; round < 20; round++) {
        plan p = plan_of(200);
        outcome out = run(&p, OPTIONS(.run.pool = pool, .producers = 2, .queue.capacity = 1));
        CHECK_EQ(out.status, TWILL_OK);
        CHECK_EQ(out.report.done, 400);
        check_books(&out.report, &out.stats);
    }
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

TEST(on_a_pool_without_threads_yet)
{
    twill_pool *pool;
    CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 2, .lazy = true}),
             TWILL_OK);
    plan p = plan_of(200);
    outcome out = run(&p, OPTIONS(.run.pool = pool));
    CHECK_EQ(out.status, TWILL_OK);
    CHECK_EQ(out.report.done, 200);
    CHECK_EQ(out.report.skipped, 0);
    check_books(&out.report, &out.stats);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

TEST(the_producer_consumes_when_the_queue_is_full)
{
    plan p = plan_of(500);
    outcome out = run(&p, OPTIONS(.run.workers = 1, .queue.capacity = 2,
                                  .queue.overflow = TWILL_OVERFLOW_CALLER_RUNS));
    CHECK_EQ(out.status, TWILL_OK);
    CHECK_EQ(out.report.done, 500);
    check_books(&out.report, &out.stats);
}

TEST(drops_are_counted_as_skipped)
{
    plan p = plan_of(3000);
    outcome out = run(&p, OPTIONS(.run.workers = 1, .producers = 2, .queue.capacity = 2,
                                  .queue.overflow = TWILL_OVERFLOW_DROP_OLDEST));
    CHECK_EQ(out.status, TWILL_OK);
    CHECK_EQ(out.report.total, 6000);
    CHECK_EQ(out.report.skipped, out.stats.dropped);
    check_books(&out.report, &out.stats);
}

/* ---- a callback that ends its thread ---- */

TEST(a_consumer_ends_its_thread)
{
    for (int policy = 0; policy < 2; policy++)
        for (size_t batch = 1; batch < 4; batch += 2) {
            plan p = plan_of(300);
            p.end_thread = 40;
            outcome out = run(&p, OPTIONS(.run.workers = 1, .queue.capacity = 2, .batch = batch,
                                          .run.on_error = policy ? TWILL_ON_ERROR_COLLECT
                                                                 : TWILL_ON_ERROR_LOWEST));
            CHECK(atomic_load(&ended_at) >= 40);
            CHECK_EQ(out.status, TWILL_FAILED);
            CHECK_EQ(out.report.first_error.index, atomic_load(&ended_at));
            CHECK_EQ(out.report.first_error.status, TWILL_LOST);
            CHECK_EQ(out.report.failed, 1);
            if (policy && batch == 1)
                CHECK_EQ(out.report.done, 299); /* the producer itself goes on */
            check_books(&out.report, &out.stats);
        }
}

HARNESS_MAIN
