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

TEST(refusals_of_the_call)
{
    twill_status statuses[4];
    const struct {
        twill_status status;
        size_t size;
        twill_produce_consume_options options;
    } row[] = {
        {TWILL_INVALID, 4, {.run.statuses = statuses}},
        {TWILL_INVALID, 4, {.run.on_error = (twill_on_error)99}},
        {TWILL_INVALID, 4, {.queue.order = (twill_queue_order)9}},
        {TWILL_TOO_BIG, 4, {.producers = 65536}},
        {TWILL_TOO_BIG, 4, {.producers = 65535, .run.workers = 2}},
        {TWILL_TOO_BIG, 4, {.producers = 1, .run.workers = 65536}},
        {TWILL_TOO_BIG, 4096, {.run.workers = 1, .batch = SIZE_MAX / 4096}},
        {TWILL_TOO_BIG, 1, {.run.workers = 7, .batch = SIZE_MAX / 40}},   /* their numbers */
        {TWILL_TOO_BIG, 64, {.run.workers = 1, .batch = SIZE_MAX / 256}}, /* their items */
        {TWILL_TOO_BIG, 64, {.run.workers = 1, .batch = SIZE_MAX / 64 + 1}},
    };
    for (size_t k = 0; k < sizeof row / sizeof row[0]; k++) {
        twill_produce_consume_options options = row[k].options;
        twill_report report;
        twill_queue_stats stats;
        memset(&stats, 0xa5, sizeof stats);
        options.run.report = &report;
        options.queue_stats = &stats;
        CHECK_EQ(twill_produce_consume(row[k].size, produce_20, squares, &options), row[k].status);
        CHECK_EQ(report.status, row[k].status);
        CHECK_EQ(report.total, 0);
        CHECK_EQ(stats.accepted, 0);
        CHECK_EQ(stats.age_max, 0);
    }
    CHECK_EQ(twill_produce_consume(4, produce_20, NULL, NULL), TWILL_INVALID);
    CHECK_EQ(faults_live(), 0);
}

static int twice(void *item, const twill_task *task)
{
    atomic_fetch_add((atomic_int *)task->context, *(int *)item);
    return 0;
}

static void drop_for_itself(void *item, twill_status why, const twill_task *task)
{
    CHECK_EQ(why, TWILL_DROPPED);
    atomic_fetch_add((atomic_int *)task->context, *(int *)item);
}

TEST(the_queue_has_a_context_of_its_own)
{
    atomic_int ran = 0, gone = 0;
    twill_report report;
    CHECK_EQ(twill_produce_consume(sizeof(int), produce_20, twice,
                                   &OPTIONS(.run.workers = 1, .run.context = &ran,
                                            .run.report = &report, .queue.context = &gone,
                                            .queue.capacity = 1, .queue.drop = drop_for_itself,
                                            .queue.overflow = TWILL_OVERFLOW_DROP_OLDEST)),
             TWILL_OK);
    CHECK_EQ(atomic_load(&ran) + atomic_load(&gone), 190);
    CHECK_EQ(report.total, 20);
}

static int call_inside(void *item, const twill_task *task)
{
    atomic_int sum = 0;
    (void)item;
    CHECK_EQ(twill_produce_consume(sizeof(int), produce_20, twice, &OPTIONS(.run.context = &sum)),
             TWILL_OK);
    CHECK_EQ(atomic_load(&sum), 190);
    atomic_fetch_add((atomic_int *)task->context, 1);
    return 0;
}

TEST(a_call_inside_a_call)
{
    atomic_int calls = 0;
    CHECK_EQ(twill_produce_consume(sizeof(int), produce_20, call_inside,
                                   &OPTIONS(.run.workers = 2, .run.context = &calls)),
             TWILL_OK);
    CHECK_EQ(atomic_load(&calls), 20);
}

/* ---- errors ---- */

TEST(the_lowest_error_every_time)
{
    int early = 0;
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
        early += out.report.total < 2000;
        for (int k = 0; k < p.bad; k++)
            CHECK_EQ(atomic_load(&consumed[k]), 1); /* all below has run */
        check_books(&out.report, &out.stats);
    }
    CHECK(early > 0); /* it stops; a thread may be held up while it fails, but not each time */
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
    plan p;
    outcome out;
    for (int round = 0; round < 20; round++) { /* a thread may be held up while it fails */
        p = plan_of(5000);
        p.bad = 20;
        p.code = 3;
        out = run(&p, OPTIONS(.run.workers = 3, .run.on_error = TWILL_ON_ERROR_FIRST,
                              .queue.capacity = 4));
        CHECK_EQ(out.status, TWILL_FAILED);
        CHECK_EQ(out.report.first_error.index, 20);
        check_books(&out.report, &out.stats);
        if (out.report.total < 5000)
            break;
    }
    CHECK(out.report.total < 5000);
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

/* Each policy, for producers: what the first two of four return. */
TEST(policies_hold_for_producers)
{
    const struct {
        twill_on_error policy;
        size_t most;
        bool all; /* every producer is called */
    } row[] = {{TWILL_ON_ERROR_LOWEST, 0, false}, {TWILL_ON_ERROR_FIRST, 0, false},
               {TWILL_ON_ERROR_FIRST, 5, false},  {TWILL_ON_ERROR_LIMIT, 1, false},
               {TWILL_ON_ERROR_LIMIT, 2, true},   {TWILL_ON_ERROR_COLLECT, 0, true}};
    for (size_t k = 0; k < sizeof row / sizeof row[0]; k++) {
        plan p = plan_of(20);
        p.bad_producer = 0;
        faults_fail_thread(1); /* one thread: the producers come one after another */
        outcome out =
            run(&p, OPTIONS(.run.workers = 1, .producers = 4, .queue.capacity = 4,
                            .run.on_error = row[k].policy, .run.max_errors = row[k].most));
        faults_fail_thread(0);
        CHECK_EQ(out.status, TWILL_FAILED);
        CHECK_EQ(out.report.first_error.index, SIZE_MAX);
        CHECK_EQ(out.report.first_error.code, 77);
        if (row[k].all)
            CHECK_EQ(out.report.done, 70);
        else
            CHECK(out.report.total <= 10);
        CHECK_EQ(atomic_load(&producers_run), row[k].all ? 4 : 1);
        check_books(&out.report, &out.stats);
    }
}

static int all_fail(twill_queue *queue, const twill_task *task)
{
    (void)queue;
    return 50 + (int)task->index;
}

TEST(the_first_of_two_producers_that_fail)
{
    plan p = plan_of(0);
    twill_report report;
    CHECK_EQ(twill_produce_consume(sizeof(int), all_fail, consume,
                                   &OPTIONS(.run.workers = 1, .run.context = &p, .producers = 3,
                                            .run.on_error = TWILL_ON_ERROR_COLLECT,
                                            .run.report = &report)),
             TWILL_FAILED);
    CHECK_EQ(report.first_error.index, SIZE_MAX);
    CHECK(report.first_error.code >= 50 && report.first_error.code < 53);
    CHECK_EQ(report.failed, 0);
}

static int ends_itself(twill_queue *queue, const twill_task *task)
{
    const plan *p = task->context;
    CHECK_EQ(twill_queue_push(queue, &(int){0}), TWILL_OK);
    if (p->code == 1)
        return (int)TWILL_CLOSED; /* said, and not so */
    CHECK_EQ(p->code == 2 ? twill_queue_close(queue) : twill_queue_fail(queue, 42), TWILL_OK);
    return (int)twill_queue_push(queue, &(int){1});
}

TEST(a_producer_ends_the_queue)
{
    for (int how = 1; how <= 3; how++) {
        plan p = plan_of(0);
        p.code = how;
        twill_report report;
        CHECK_EQ(twill_produce_consume(
                     sizeof(int), ends_itself, consume,
                     &OPTIONS(.run.workers = 1, .run.context = &p, .run.report = &report)),
                 how == 2 ? TWILL_OK : TWILL_FAILED);
        CHECK_EQ(report.total, 1);
        CHECK_EQ(report.done, 1);
        CHECK_EQ(report.first_error.code, how == 1 ? (int)TWILL_CLOSED : how == 2 ? 0 : 42);
        if (how != 2)
            CHECK_EQ(report.first_error.index, SIZE_MAX);
        p.code = 0;
    }
}

TEST(an_error_with_nothing_to_drop_to)
{
    twill_report report = {.total = 500};
    /* see the_lowest_error_every_time */
    for (int round = 0; round < 20 && report.total == 500; round++) {
        plan p = plan_of(500);
        p.bad = 3;
        p.code = 5;
        CHECK_EQ(twill_produce_consume(sizeof(int), produce, consume,
                                       &OPTIONS(.run.workers = 2, .run.context = &p, .batch = 8,
                                                .run.report = &report, .queue.capacity = 32)),
                 TWILL_FAILED);
        CHECK_EQ(report.first_error.index, 3);
        CHECK_EQ(report.total, report.done + report.failed + report.skipped);
    }
    CHECK(report.total < 500);
}

TEST(stop_in_consume)
{
    bool early = false;
    for (int round = 0; round < 20 && !early; round++) { /* see the_lowest_error_every_time */
        plan p = plan_of(3000);
        p.stop_at = 100;
        outcome out = run(&p, OPTIONS(.run.workers = 3, .queue.capacity = 8));
        CHECK_EQ(out.status, TWILL_OK);
        for (int k = 0; k <= 100; k++)
            CHECK_EQ(atomic_load(&consumed[k]), 1);
        early = out.report.total < 3000;
        check_books(&out.report, &out.stats);
    }
    CHECK(early);
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

static int produce_late(twill_queue *queue, const twill_task *task)
{
    (void)queue;
    (void)twill_sleep(task->until);
    return 0;
}

/* The consumers wait for an item when it ends. */
TEST(run_until_ends_consumers_that_wait)
{
    for (int round = 0; round < 2; round++) {
        plan p = plan_of(0);
        twill_cancel token;
        twill__thrd thread;
        twill_report report;
        twill_cancel_init(&token, NULL);
        memset(&thread, 0, sizeof thread);
        thread.fn = fire_soon;
        thread.arg = &token;
        thread.cpu = UINT_MAX;
        if (round)
            CHECK(twill__thread_start(&thread));
        CHECK_EQ(twill_produce_consume(sizeof(int), produce_late, consume,
                                       &OPTIONS(.run.workers = 1, .run.context = &p,
                                                .run.report = &report,
                                                .run.until = round ? twill_until_cancelled(&token)
                                                                   : twill_within(TWILL_MS(5)))),
                 round ? TWILL_CANCELLED : TWILL_TIMEOUT);
        CHECK_EQ(report.total, 0);
        if (round)
            twill__thread_join(&thread);
        twill_cancel_detach(&token);
    }
}

static int produce_slowly(twill_queue *queue, const twill_task *task)
{
    twill_status status = twill_queue_push(queue, &(int){0});
    while (!atomic_load(&consumed[0]) && !twill_queue_is_closed(queue))
        twill_sleep(twill_within(TWILL_US(100)));
    (void)twill_sleep(task->until);
    return (int)status;
}

/* Everything was produced and consumed when the deadline came: but producers had still to begin. */
TEST(producers_that_were_never_called)
{
    plan p = plan_of(0);
    twill_report report;
    CHECK_EQ(
        twill_produce_consume(sizeof(int), produce_slowly, consume,
                              &OPTIONS(.run.workers = 1, .run.context = &p, .run.report = &report,
                                       .producers = 2, .run.until = twill_within(TWILL_MS(5)))),
        TWILL_TIMEOUT);
    CHECK_EQ(report.total, report.done + report.skipped);
}

static twill_queue *last_queue;

static int produce_one(twill_queue *queue, const twill_task *task)
{
    (void)task;
    last_queue = queue;
    return (int)twill_queue_push(queue, &(int){0});
}

/* The producer has gone, and the deadline has passed. */
static int consume_till_late(void *item, const twill_task *task)
{
    while (!twill_queue_is_closed(last_queue))
        twill_sleep(twill_within(TWILL_US(100)));
    (void)twill_sleep(task->until);
    return consume(item, task);
}

static bool all_is_taken_before(int64_t ns)
{
    plan p = plan_of(0);
    twill_report report;
    twill_status status =
        twill_produce_consume(sizeof(int), produce_one, consume_till_late,
                              &OPTIONS(.run.workers = 1, .run.context = &p, .run.report = &report,
                                       .run.until = twill_within(ns)));
    if (!report.done) /* they had not begun */
        return false;
    CHECK_EQ(status, TWILL_OK);
    CHECK_EQ(report.done, 1);
    CHECK_EQ(report.skipped, 0);
    return true;
}

TEST(everything_was_done_when_the_deadline_came)
{
    CHECK(test_in_time(TWILL_MS(2), all_is_taken_before));
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
                              .run.until = twill_within(TWILL_SEC(50)), .queue.capacity = 2)),
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

/* A stop says: nothing after this item; a hook has none. */
static int start_and_stop(void **state, const twill_task *task)
{
    *state = NULL;
    return twill_task_stop(task);
}

TEST(a_stop_in_a_hook_means_nothing)
{
    plan p = plan_of(300);
    outcome out =
        run(&p, OPTIONS(.run.workers = 2, .run.worker_start = start_and_stop, .queue.capacity = 2));
    CHECK_EQ(out.status, TWILL_OK);
    CHECK_EQ(out.report.done, 300);
    check_books(&out.report, &out.stats);
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

static void let_start(void *until_)
{
    const twill_until *until = until_;
    if (until->cancel) {
        twill_sleep(twill_within(TWILL_MS(5)));
        twill_cancel_fire(until->cancel, 1);
    } else {
        twill_sleep(*until);
    }
    atomic_store(&started, 1);
}

TEST(over_before_the_helpers_come)
{
    for (int round = 0; round < 4; round++) {
        plan p = plan_of(300);
        twill_cancel token = {0};
        twill_until until = round % 2 ? twill_until_cancelled(&token) : twill_within(TWILL_MS(4));
        twill__thrd thread;
        memset(&thread, 0, sizeof thread);
        thread.fn = let_start;
        thread.arg = &until;
        thread.cpu = UINT_MAX;
        atomic_store(&started, 0);
        CHECK(twill__thread_start(&thread));
        outcome out = run(&p, OPTIONS(.run.workers = 2, .run.worker_start = start_late,
                                      .queue.capacity = 2, .run.until = until));
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

static _Atomic uint64_t who_produces;
static atomic_int by_producer;

static int produce_60(twill_queue *queue, const twill_task *task)
{
    (void)task;
    atomic_store(&who_produces, twill__thread_number());
    for (int k = 0; k < 60; k++)
        if (twill_queue_push(queue, &k) != TWILL_OK)
            return 1;
    return 0;
}

static int consume_after_producer(void *item, const twill_task *task)
{
    (void)item;
    (void)task;
    if (atomic_load(&who_produces) == twill__thread_number())
        atomic_fetch_add(&by_producer, 1);
    while (!atomic_load(&by_producer)) /* the consumer hangs: only the producer can go on */
        twill_sleep(twill_within(TWILL_US(50)));
    return 0;
}

TEST(a_push_to_a_full_queue_consumes)
{
    twill_report report;
    CHECK_EQ(
        twill_produce_consume(sizeof(int), produce_60, consume_after_producer,
                              &OPTIONS(.run.workers = 1, .run.report = &report, .queue.capacity = 1,
                                       .queue.overflow = TWILL_OVERFLOW_CALLER_RUNS)),
        TWILL_OK);
    CHECK_EQ(report.done, 60);
    CHECK(atomic_load(&by_producer) > 0);
}

/* Alone, a producer consumes what it has pushed: and what it runs may stop, fail or fill up. */
TEST(alone_a_stop_is_a_consumers)
{
    plan p = plan_of(100);
    p.stop_at = 10;
    faults_fail_thread(1);
    outcome out = run(&p, OPTIONS(.run.workers = 1, .queue.capacity = 4));
    faults_fail_thread(0);
    CHECK_EQ(out.status, TWILL_OK);
    CHECK_EQ(out.report.done, 11);
    check_books(&out.report, &out.stats);
}

static twill_queue *foreign;

static int consume_and_push_again(void *item, const twill_task *task)
{
    int more = *(int *)item + 100;
    atomic_fetch_add(&consumed[*(int *)item], 1);
    (void)task;
    if (more < 103) { /* its own place is free; behind it only this thread could make room */
        CHECK_EQ(twill_queue_push(foreign, &more), TWILL_OK);
        CHECK_EQ(twill_queue_push_until(foreign, &more, twill_within(TWILL_US(500))),
                 TWILL_TIMEOUT);
    }
    return 0;
}

static int produce_four(twill_queue *queue, const twill_task *task)
{
    (void)task;
    foreign = queue;
    for (int k = 0; k < 4; k++)
        CHECK_EQ(twill_queue_push(queue, &k), TWILL_OK);
    return 0;
}

static void push_from_outside(void *told)
{
    for (int k = 0; k < 50 && *(twill_status *)told == TWILL_OK; k++)
        *(twill_status *)told = twill_queue_push(foreign, &k);
}

static int produce_elsewhere(twill_queue *queue, const twill_task *task)
{
    twill__thrd thread;
    twill_status told = TWILL_OK;
    (void)task;
    foreign = queue;
    memset(&thread, 0, sizeof thread);
    thread.fn = push_from_outside;
    thread.arg = &told;
    thread.cpu = UINT_MAX;
    CHECK(twill__thread_start(&thread));
    twill__thread_join(&thread);
    return (int)told;
}

/* A thread that is none of the call's cannot consume: it waits for room. */
TEST(a_push_from_a_thread_outside)
{
    for (int caller_runs = 0; caller_runs < 2; caller_runs++) {
        plan p = plan_of(0);
        twill_report report;
        p.nap = TWILL_US(200);
        CHECK_EQ(twill_produce_consume(sizeof(int), produce_elsewhere, consume,
                                       &OPTIONS(.run.workers = 1, .run.context = &p,
                                                .run.report = &report, .queue.capacity = 1,
                                                .queue.overflow = caller_runs
                                                                      ? TWILL_OVERFLOW_CALLER_RUNS
                                                                      : TWILL_OVERFLOW_BLOCK)),
                 TWILL_OK);
        CHECK_EQ(report.done, 50);
    }
}

/* A producer alone consumes an item, which pushes: it cannot consume another one meanwhile. */
TEST(a_push_inside_a_relief_waits)
{
    plan p = plan_of(0);
    twill_report report;
    faults_fail_thread(1);
    CHECK_EQ(twill_produce_consume(sizeof(int), produce_four, consume_and_push_again,
                                   &OPTIONS(.run.workers = 1, .run.context = &p,
                                            .run.report = &report, .queue.capacity = 1)),
             TWILL_OK);
    faults_fail_thread(0);
    CHECK_EQ(report.total, 7);
    CHECK_EQ(report.done, 7);
}

/* The calling thread, which is alone, ends in the first item, or in the drop of one that was too
   old: what is left is cleared, and only the item was lost. */
static twill_queue_stats left_stats;
static twill_report left_report;
static bool ends_in_drop;

static void end_this_thread(void)
{
#ifdef TWILL_USE_PTHREAD
    pthread_exit(NULL);
#else
    thrd_exit(0);
#endif
}

static int produce_four_and_age(twill_queue *queue, const twill_task *task)
{
    (void)task;
    for (int k = 0; k < 4; k++)
        CHECK_EQ(twill_queue_push(queue, &k), TWILL_OK);
    if (ends_in_drop)
        (void)twill_sleep(twill_within(10));
    return 0;
}

static int end_in_the_first(void *item, const twill_task *task)
{
    (void)item, (void)task;
    end_this_thread();
    return 0;
}

static void end_in_a_drop(void *item, twill_status why, const twill_task *task)
{
    (void)item, (void)task;
    if (why == TWILL_TIMEOUT)
        end_this_thread();
}

static void call_and_end(void *none)
{
    (void)none;
    faults_fail_thread(1);
    (void)twill_produce_consume(sizeof(int), produce_four_and_age, end_in_the_first,
                                &OPTIONS(.run.workers = 1, .run.report = &left_report,
                                         .queue.capacity = 8, .queue_stats = &left_stats,
                                         .queue.drop = ends_in_drop ? end_in_a_drop : NULL,
                                         .queue.max_age = ends_in_drop));
    CHECK(false);
}

TEST(what_is_left_when_the_only_thread_ends)
{
    for (int drop = 0; drop < 2; drop++) {
        twill__thrd thread;
        ends_in_drop = drop;
        memset(&thread, 0, sizeof thread);
        thread.fn = call_and_end;
        thread.cpu = UINT_MAX;
        CHECK(twill__thread_start(&thread));
        twill__thread_join(&thread);
        faults_fail_thread(0);
        CHECK_EQ(left_report.status, TWILL_FAILED);
        CHECK_EQ(left_report.failed, !drop);
        CHECK_EQ(left_report.first_error.status, TWILL_LOST);
        CHECK_EQ(left_report.first_error.index, drop ? SIZE_MAX : 0);
        CHECK_EQ(left_report.total, 4);
        CHECK_EQ(left_report.done + left_report.failed + left_report.skipped, 4);
        CHECK_EQ(left_stats.accepted, 4);
        CHECK_EQ(left_stats.popped + left_stats.cleared + left_stats.expired + left_stats.dropped,
                 4);
        CHECK_EQ(left_stats.length, 0);
    }
    CHECK_EQ(faults_live(), 0);
}

/* A consumer has its batch in hand, and a drop callback holds its queue up: neither can make room
   for what a select would push. */
static twill_status select_told[3];

static twill_status select_push(twill_queue *queue, twill_until until)
{
    int item = 9;
    twill_queue_case one = {.queue = queue, .push = true, .item = &item}, two[2] = {one, one};
    size_t chosen;
    return twill_queue_select_until(two, 2, TWILL_SELECT_FAIR, &chosen, until);
}

static int produce_and_clear(twill_queue *queue, const twill_task *task)
{
    (void)task;
    foreign = queue;
    CHECK_EQ(twill_queue_push(queue, &(int){1}), TWILL_OK);
    CHECK_EQ(twill_queue_clear(queue), 1);
    for (int k = 2; k < 5; k++) /* the last one finds no room while the first is consumed */
        CHECK_EQ(select_push(queue, (twill_until){0, NULL}), TWILL_OK);
    return 0;
}

static void drop_and_select(void *item, twill_status why, const twill_task *task)
{
    (void)item, (void)why, (void)task;
    while (twill_queue_try_push(foreign, &(int){8}) == TWILL_OK) {}
    select_told[0] = select_push(foreign, (twill_until){0, NULL});
}

static int consume_and_select(void *item, const twill_task *task)
{
    (void)task;
    if (*(int *)item != 7 && twill_queue_try_push(foreign, &(int){7}) == TWILL_OK)
        select_told[1] = select_push(foreign, twill_within(TWILL_US(50)));
    return 0;
}

TEST(a_select_where_nobody_can_make_room)
{
    plan p = plan_of(0);
    twill_report report;
    faults_fail_thread(1);
    CHECK_EQ(
        twill_produce_consume(sizeof(int), produce_and_clear, consume_and_select,
                              &OPTIONS(.run.workers = 1, .run.context = &p, .run.report = &report,
                                       .queue.capacity = 1, .queue.drop = drop_and_select)),
        TWILL_OK);
    faults_fail_thread(0);
    CHECK_EQ(select_told[0], TWILL_DEADLOCK);
    CHECK_EQ(select_told[1], TWILL_TIMEOUT);
    CHECK(report.done >= 4);
}

static atomic_int step;

static void until_step(int at_least)
{
    while (atomic_load(&step) < at_least)
        twill_sleep(twill_within(TWILL_US(50)));
}

/* The first producer has consumed an item itself when it waits; then the second one consumes, and
   fails. */
static twill_status told_to_the_first;

static int produce_and_wait(twill_queue *queue, const twill_task *task)
{
    if (task->index == 0) {
        for (int k = 1; k <= 2; k++)
            CHECK_EQ(twill_queue_push(queue, &k), TWILL_OK);
        atomic_store(&step, 1);
        told_to_the_first =
            twill_sleep(twill_within_or_cancelled(TWILL_SEC(100), task->until.cancel));
        return 0;
    }
    until_step(1);
    (void)twill_queue_push(queue, &(int){3});
    return 0;
}

static int two_is_bad(void *item, const twill_task *task)
{
    (void)task;
    return *(int *)item == 2 ? 9 : 0;
}

TEST(a_producer_that_has_consumed_is_told_of_a_failure_above)
{
    twill_report report;

    atomic_store(&step, 0);
    CHECK_EQ(twill_produce_consume(
                 sizeof(int), produce_and_wait, two_is_bad,
                 &(twill_produce_consume_options){.run = {.workers = 2, .report = &report},
                                                  .producers = 2,
                                                  .queue.capacity = 1}),
             TWILL_FAILED);
    CHECK_EQ(told_to_the_first, TWILL_CANCELLED);
    CHECK_EQ(report.first_error.index, 1);
    CHECK_EQ(report.first_error.code, 9);
}

static int produce_four_at_once(twill_queue *queue, const twill_task *task)
{
    (void)task;
    for (int k = 2; k < 6; k++)
        CHECK_EQ(twill_queue_push(queue, &k), TWILL_OK);
    return 0;
}

/* What was popped beside an item that fails, and is not consumed, was not popped in the books. */
TEST(items_that_are_spared_were_cleared)
{
    const twill_queue_engine engines[2] = {TWILL_ENGINE_DEFAULT, TWILL_ENGINE_LOCK};

    for (int k = 0; k < 2; k++) {
        twill_queue_stats stats;
        faults_fail_thread(1);
        CHECK_EQ(twill_produce_consume(sizeof(int), produce_four_at_once, two_is_bad,
                                       &(twill_produce_consume_options){
                                           .run.workers = 1,
                                           .batch = 4,
                                           .queue = {.capacity = 4, .engine = engines[k]},
                                           .queue_stats = &stats}),
                 TWILL_FAILED);
        faults_fail_thread(0);
        CHECK_EQ(stats.accepted, 4);
        CHECK_EQ(stats.popped, 1);
        CHECK_EQ(stats.cleared, 3);
        CHECK_EQ(stats.dropped + stats.expired + stats.length, 0);
    }
}

static int produce_two_fills(twill_queue *queue, const twill_task *task)
{
    (void)task;
    foreign = queue;
    for (int k = 0; k < 3; k++)
        CHECK_EQ(twill_queue_push(queue, &k), TWILL_OK);
    atomic_store(&step, 1); /* the consumer may start */
    until_step(2);          /* it has item 0, and perhaps two more in its hand */
    while (twill_queue_length(queue) < 3) {
        static int next = 3;
        CHECK_EQ(twill_queue_push(queue, &next), TWILL_OK);
        next++;
    }
    atomic_store(&step, 3);
    until_step(4);
    return 0;
}

static int start_at_step_1(void **state, const twill_task *task)
{
    *state = NULL;
    if (task->worker != 0)
        until_step(1);
    return 0;
}

static int consume_and_push(void *item_, const twill_task *task)
{
    int item = *(int *)item_, more = 99;
    (void)task;
    if (item == 0) {
        atomic_store(&step, 2);
        until_step(3);
        CHECK_EQ(twill_queue_push_until(foreign, &more, twill_within(TWILL_MS(2))), TWILL_TIMEOUT);
        CHECK_EQ(*(int *)item_, 0);
        atomic_store(&step, 4);
    }
    atomic_fetch_add(&consumed[item], 1);
    return 0;
}

/* Who consumes cannot make room by consuming: he has a batch in his hand. */
TEST(a_consumer_that_pushes_waits)
{
    for (size_t batch = 1; batch <= 3; batch += 2)
        for (int caller_runs = 0; caller_runs < 2; caller_runs++) {
            plan p = plan_of(0);
            twill_report report;
            twill_queue_stats stats;
            atomic_store(&step, 0);
            CHECK_EQ(twill_produce_consume(
                         sizeof(int), produce_two_fills, consume_and_push,
                         &OPTIONS(.run.workers = 1, .run.context = &p, .run.report = &report,
                                  .run.worker_start = start_at_step_1, .queue.capacity = 3,
                                  .batch = batch, .queue_stats = &stats,
                                  .queue.overflow = caller_runs ? TWILL_OVERFLOW_CALLER_RUNS
                                                                : TWILL_OVERFLOW_BLOCK)),
                     TWILL_OK);
            CHECK_EQ(report.done, report.total);
            check_books(&report, &stats);
        }
}

/* From hand to hand: the items have their numbers all the same. */
TEST(a_call_on_a_rendezvous)
{
    for (unsigned workers = 1; workers <= 3; workers += 2) {
        plan p = plan_of(200);
        outcome out = run(&p, OPTIONS(.run.workers = workers, .producers = 2, .batch = 3,
                                      .queue.capacity = TWILL_RENDEZVOUS));
        CHECK_EQ(out.status, TWILL_OK);
        CHECK_EQ(out.report.done, 400);
        check_books(&out.report, &out.stats);
        p = plan_of(200);
        p.bad = 30;
        p.code = 4;
        out = run(&p, OPTIONS(.run.workers = workers, .queue.capacity = TWILL_RENDEZVOUS));
        CHECK_EQ(out.status, TWILL_FAILED);
        CHECK_EQ(out.report.first_error.index, 30);
        check_books(&out.report, &out.stats);
    }
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

static void end_here(void)
{
#ifdef TWILL_USE_PTHREAD
    pthread_exit(NULL);
#else
    thrd_exit(0);
#endif
}

enum where { IN_PRODUCE, IN_RELIEF, IN_CONSUME };
typedef struct ending { /* a call that is ended with its thread */
    enum where where;
    twill_on_error policy;
    twill_report report;
    bool returned;
} ending;

static int produce_and_end(twill_queue *queue, const twill_task *task)
{
    const ending *e = task->context;
    for (int k = 0; k < 4; k++)
        if (twill_queue_push(queue, &k) != TWILL_OK)
            return 1;
    if (e->where == IN_PRODUCE)
        end_here();
    return 0;
}

static int consume_and_end(void *item, const twill_task *task)
{
    const ending *e = task->context;
    atomic_fetch_add(&consumed[*(int *)item], 1);
    if (task->index == 1 && e->where != IN_PRODUCE)
        end_here();
    return 0;
}

static void call_that_ends(void *ending_)
{
    ending *e = ending_;
    faults_fail_thread(1);
    (void)twill_produce_consume(sizeof(int), produce_and_end, consume_and_end,
                                &OPTIONS(.run.workers = 1, .run.context = e,
                                         .run.on_error = e->policy, .run.report = &e->report,
                                         .queue.capacity = e->where == IN_RELIEF ? 2 : 16));
    e->returned = true;
}

/* One thread alone, the caller's: the other one cannot be started. */
TEST(the_calling_thread_ends)
{
    for (int where = IN_PRODUCE; where <= IN_CONSUME; where++)
        for (int policy = TWILL_ON_ERROR_LOWEST; policy <= TWILL_ON_ERROR_LIMIT; policy++) {
            ending e = {(enum where)where, (twill_on_error)policy, {0}, false};
            twill__thrd thread;
            plan_of(0);
            memset(&thread, 0, sizeof thread);
            thread.fn = call_that_ends;
            thread.arg = &e;
            thread.cpu = UINT_MAX;
            CHECK(twill__thread_start(&thread));
            twill__thread_join(&thread);
            faults_fail_thread(0);
            CHECK(!e.returned);
            CHECK_EQ(e.report.status, TWILL_FAILED);
            CHECK_EQ(e.report.first_error.status, TWILL_LOST);
            CHECK_EQ(e.report.first_error.index, where == IN_PRODUCE ? SIZE_MAX : 1);
            CHECK_EQ(e.report.failed, where != IN_PRODUCE);
            CHECK_EQ(e.report.total, e.report.done + e.report.failed + e.report.skipped);
            CHECK_EQ(faults_live(), base_live);
        }
}

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

/* A level callback ends the thread of who has taken an item out: it was in no hand yet, and goes to
   `drop`, as all do that nobody consumes; what this worker has consumed before does not. */
static atomic_int level_armed, level_phase;

static void end_at_low(bool high, size_t length, const twill_task *task)
{
    (void)length, (void)task;
    if (!high && atomic_load(&level_armed))
        end_here();
}

static void note_cancelled(void *item, twill_status why, const twill_task *task)
{
    CHECK_EQ(why, TWILL_CANCELLED);
    CHECK_EQ(task->index, *(int *)item);
    atomic_fetch_add(&dropped[*(int *)item], 1);
}

static void await_phase(int phase)
{
    while (atomic_load(&level_phase) < phase)
        twill_sleep(twill_within(TWILL_US(50)));
}

static int produce_two_and_one(twill_queue *queue, const twill_task *task)
{
    plan *p = task->context;
    const int items[] = {0, 1, 2};
    size_t count;
    CHECK_EQ(twill_queue_push_many_until(queue, items, 2, &count, (twill_until){0, NULL}),
             TWILL_OK);
    await_phase(1);
    CHECK_EQ(twill_queue_push(queue, &items[2]), TWILL_OK);
    atomic_store(&level_armed, 1);
    atomic_store(&level_phase, 2);
    p->told[0] = (int)twill_queue_join(queue);
    return 0;
}

static int consume_in_turn(void *item, const twill_task *task)
{
    (void)task;
    atomic_fetch_add(&consumed[*(int *)item], 1);
    if (*(int *)item == 1) {
        atomic_store(&level_phase, 1);
        await_phase(2);
    }
    return 0;
}

TEST(a_level_that_ends_a_consumer_loses_no_item)
{
    for (int policy = 0; policy < 2; policy++) {
        plan p = plan_of(0);
        outcome out;
        twill_status status;
        memset(&out, 0, sizeof out);
        atomic_store(&level_armed, 0);
        atomic_store(&level_phase, 0);
        status = twill_produce_consume(
            sizeof(int), produce_two_and_one, consume_in_turn,
            &OPTIONS(.run.workers = 1, .run.context = &p, .run.report = &out.report, .batch = 3,
                     .run.on_error = policy ? TWILL_ON_ERROR_COLLECT : TWILL_ON_ERROR_LOWEST,
                     .queue.capacity = 8, .queue.drop = note_cancelled,
                     .queue.on_level = end_at_low, .queue.high_mark = 1,
                     .queue_stats = &out.stats));
        CHECK_EQ(status, TWILL_FAILED);
        CHECK_EQ(out.report.first_error.status, TWILL_LOST);
        CHECK_EQ(out.report.first_error.index, SIZE_MAX);
        CHECK_EQ(p.told[0], TWILL_OK);
        CHECK_EQ(out.report.done, 2);
        CHECK_EQ(out.report.skipped, 1);
        CHECK_EQ(atomic_load(&dropped[2]), 1);
        check_books(&out.report, &out.stats);
    }
}

/* The same to a producer that consumes, since nobody else does: its place among the consumers is
   free then. */
static int produce_beside_nobody(twill_queue *queue, const twill_task *task)
{
    int item = 0;
    if (task->worker == 0) { /* comes for the place when the other one has ended */
        await_phase(2);
        return 0;
    }
    CHECK_EQ(twill_queue_push(queue, &item), TWILL_OK);
    await_phase(1);
    item = 1;
    CHECK_EQ(twill_queue_push(queue, &item), TWILL_OK);
    atomic_store(&level_armed, 1);
    (void)twill_queue_join(queue);
    CHECK(false);
    return 0;
}

static int consume_and_end_at_once(void *item, const twill_task *task)
{
    (void)task;
    atomic_fetch_add(&consumed[*(int *)item], 1);
    atomic_store(&level_phase, 1);
    end_here();
    return 0;
}

static void end_at_low_and_say(bool high, size_t length, const twill_task *task)
{
    if (!high && atomic_load(&level_armed))
        atomic_store(&level_phase, 2);
    end_at_low(high, length, task);
}

TEST(a_level_that_ends_a_producer_in_relief)
{
    plan p = plan_of(0);
    outcome out;
    memset(&out, 0, sizeof out);
    atomic_store(&level_armed, 0);
    atomic_store(&level_phase, 0);
    CHECK_EQ(twill_produce_consume(sizeof(int), produce_beside_nobody, consume_and_end_at_once,
                                   &OPTIONS(.run.workers = 1, .producers = 2, .run.context = &p,
                                            .run.report = &out.report,
                                            .run.on_error = TWILL_ON_ERROR_COLLECT,
                                            .queue.capacity = 8, .queue.drop = note_cancelled,
                                            .queue.on_level = end_at_low_and_say,
                                            .queue.high_mark = 1, .queue_stats = &out.stats)),
             TWILL_FAILED);
    CHECK_EQ(out.report.first_error.status, TWILL_LOST);
    CHECK_EQ(out.report.first_error.index, 0);
    CHECK_EQ(out.report.failed, 1);
    CHECK_EQ(out.report.skipped, 1);
    CHECK_EQ(atomic_load(&dropped[1]), 1);
    check_books(&out.report, &out.stats);
}

/* Items that are given up were cleared, and not popped and finished: who takes one out himself can
   still say that he is through with it. */
static int produce_ten_and_take(twill_queue *queue, const twill_task *task)
{
    plan *p = task->context;
    int items[11];
    size_t count;
    for (int k = 0; k < 11; k++)
        items[k] = k;
    CHECK_EQ(twill_queue_push_many_until(queue, items, 10, &count, (twill_until){0, NULL}),
             TWILL_OK);
    await_phase(1);
    CHECK_EQ(twill_queue_push(queue, &items[10]), TWILL_OK);
    CHECK_EQ(twill_queue_pop(queue, &items[0]), TWILL_OK);
    CHECK_EQ(items[0], 10);
    atomic_store(&level_phase, 2);
    while (!atomic_load(&dropped[9]))
        twill_sleep(twill_within(TWILL_US(50)));
    p->told[0] = (int)twill_queue_task_done(queue);
    p->told[1] = (int)twill_queue_task_done(queue);
    p->told[2] = (int)twill_queue_join_until(queue, twill_within(TWILL_SEC(20)));
    return 0;
}

static int consume_and_stop(void *item, const twill_task *task)
{
    atomic_fetch_add(&consumed[*(int *)item], 1);
    atomic_store(&level_phase, 1);
    await_phase(2);
    return twill_task_stop(task);
}

TEST(what_a_producer_takes_beside_items_that_are_given_up)
{
    plan p = plan_of(0);
    twill_queue_stats stats;
    atomic_store(&level_phase, 0);
    CHECK_EQ(
        twill_produce_consume(sizeof(int), produce_ten_and_take, consume_and_stop,
                              &OPTIONS(.run.workers = 1, .run.context = &p, .batch = 10,
                                       .queue.capacity = 16, .queue.drop = note_cancelled,
                                       .queue.engine = TWILL_ENGINE_LOCK, .queue_stats = &stats)),
        TWILL_OK);
    CHECK_EQ(p.told[0], TWILL_OK);
    CHECK_EQ(p.told[1], TWILL_INVALID);
    CHECK_EQ(p.told[2], TWILL_OK);
    CHECK_EQ(stats.popped, 2);
    CHECK_EQ(stats.cleared, 9);
}

/* ---- items that must stand on multiples of 64 ---- */

typedef struct wide_item {
    _Alignas(64) char bytes[64];
} wide_item;

static atomic_int wide_seen, wide_crooked;

static void see_wide(const void *item)
{
    atomic_fetch_add(&wide_seen, 1);
    if ((uintptr_t)item % 64)
        atomic_fetch_add(&wide_crooked, 1);
}

static int produce_wide(twill_queue *queue, const twill_task *task)
{
    wide_item items[20];
    size_t count;
    (void)task;
    memset(items, 0, sizeof items);
    CHECK_EQ(twill_queue_push_many_until(queue, items, 20, &count, (twill_until){0, NULL}),
             TWILL_OK);
    return 0;
}

static int consume_wide(void *item, const twill_task *task)
{
    see_wide(item);
    return task->index == 10;
}

static void bury_wide(void *item, int code, const twill_task *task)
{
    (void)code, (void)task;
    see_wide(item);
}

static void drop_wide(void *item, twill_status why, const twill_task *task)
{
    (void)why, (void)task;
    see_wide(item);
}

TEST(items_are_shown_as_aligned_as_their_type)
{
    for (size_t batch = 1; batch < 8; batch++)
        for (int locked = 0; locked < 2; locked++) {
            atomic_store(&wide_seen, 0);
            atomic_store(&wide_crooked, 0);
            CHECK_EQ(twill_produce_consume(
                         sizeof(wide_item), produce_wide, consume_wide,
                         &OPTIONS(.run.workers = 2, .batch = batch, .queue.drop = drop_wide,
                                  .queue.capacity = 32, .dead_letter = bury_wide,
                                  .queue.engine = locked ? TWILL_ENGINE_LOCK : 0)),
                     TWILL_FAILED);
            CHECK_EQ(atomic_load(&wide_seen), 21);
            CHECK_EQ(atomic_load(&wide_crooked), 0);
        }
}

/* ---- what a callback may do with the queue of the call ---- */

typedef struct phases {
    atomic_int done;      /* items whose consume has returned, or ended its thread */
    int each, bad;        /* items a phase; every bad-th fails; 0: none */
    bool by_select, ends; /* ends: a helper that consumes a bad one ends its thread */
    int early;            /* phases that went on too soon */
    twill_status joined;
} phases;

static int produce_in_phases(twill_queue *queue, const twill_task *task)
{
    phases *p = task->context;
    (void)task;
    for (int phase = 1; phase <= 5; phase++) {
        for (int k = 1; k <= p->each; k++) {
            twill_queue_case one = {queue, true, &k, TWILL_OK};
            size_t chosen;
            twill_status status = p->by_select
                                      ? twill_queue_select_until(&one, 1, TWILL_SELECT_FAIR,
                                                                 &chosen, (twill_until){0, NULL})
                                      : twill_queue_push(queue, &k);
            if (!CHECK_EQ(status, TWILL_OK))
                return 98;
        }
        p->joined = twill_queue_join(queue);
        p->early += atomic_load(&p->done) != phase * p->each;
        if (p->joined != TWILL_OK)
            return 97;
    }
    return 0;
}

static int consume_in_phases(void *item, const twill_task *task)
{
    phases *p = task->context;
    bool bad = p->bad && *(int *)item % p->bad == 0;
    if (task->index % 3 == 0)
        twill_sleep(twill_within(TWILL_US(20)));
    atomic_fetch_add(&p->done, 1);
    if (bad && p->ends && task->worker != 0) {
#ifdef TWILL_USE_PTHREAD
        pthread_exit(NULL);
#else
        thrd_exit(0);
#endif
    }
    return bad ? 5 : 0;
}

static void run_in_phases(phases *p, twill_produce_consume_options options)
{
    twill_report report;
    options.run.context = p;
    options.run.report = &report;
    options.run.on_error = TWILL_ON_ERROR_COLLECT;
    atomic_init(&p->done, 0);
    p->joined = TWILL_EMPTY;
    CHECK_EQ(twill_produce_consume(sizeof(int), produce_in_phases, consume_in_phases, &options),
             p->bad ? TWILL_FAILED : TWILL_OK);
    CHECK_EQ(p->joined, TWILL_OK);
    CHECK_EQ(p->early, 0);
    CHECK_EQ(report.total, 5 * (size_t)p->each);
    CHECK_EQ(report.skipped, 0);
}

TEST(a_producer_joins_what_it_has_pushed)
{
    static const size_t capacities[] = {1, 7, 100, TWILL_RENDEZVOUS};
    for (unsigned long fails = 0; fails <= 2; fails++) /* 1: the caller is alone */
        for (int kind = 0; kind < 4 * 8; kind++) {
            phases p = {.each = 20, .bad = kind & 4 ? 6 : 0, .by_select = kind & 8};
            faults_fail_thread(fails);
            run_in_phases(&p, OPTIONS(.run.workers = 2, .queue.capacity = capacities[kind % 4],
                                      .queue.engine = kind & 16 ? TWILL_ENGINE_LOCK : 0,
                                      .batch = kind & 4 ? 3 : 0));
            faults_fail_thread(0);
        }
    for (int kind = 0; kind < 4; kind++) {
        phases p = {.each = 20};
        run_in_phases(&p, OPTIONS(.run.workers = 2, .queue.capacity = capacities[kind],
                                  .queue.overflow = TWILL_OVERFLOW_CALLER_RUNS));
    }
}

TEST(a_producer_joins_on_a_pool_of_one)
{
    twill_pool *pool;
    CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 1}), TWILL_OK);
    for (int round = 0; round < 20; round++) {
        phases p = {.each = 20, .bad = round % 2 ? 6 : 0};
        run_in_phases(&p, OPTIONS(.run.pool = pool, .queue.capacity = round % 3 ? 100 : 3));
    }
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

TEST(a_join_does_not_wait_for_what_is_lost)
{
    for (size_t batch = 1; batch < 4; batch++) {
        phases p = {.each = 20, .bad = 20, .ends = true};
        run_in_phases(&p, OPTIONS(.run.workers = 3, .queue.capacity = 5, .batch = batch));
    }
}

static int push_and_join(twill_queue *queue, const twill_task *task)
{
    plan *p = task->context;
    for (int k = 0; k < p->items; k++)
        if (twill_queue_push(queue, &k) != TWILL_OK)
            break;
    p->told[0] = (int)twill_queue_join(queue); /* no limit of its own */
    return 0;
}

/* What is dropped because the call ends early has ended, too. */
TEST(a_join_ends_with_the_call)
{
    for (unsigned long fails = 0; fails <= 1; fails++)
        for (int how = 0; how < 3; how++) {
            plan p = plan_of(50);
            twill_report report;
            twill_produce_consume_options options =
                OPTIONS(.run.workers = 2, .run.context = &p, .run.report = &report,
                        .queue.capacity = 64, .queue.drop = note_drop);
            if (how == 0)
                p.bad = 10, p.code = 7;
            else if (how == 1)
                p.stop_at = 10;
            else
                p.nap = TWILL_MS(1), options.run.until = twill_within(TWILL_MS(2));
            faults_fail_thread(fails);
            CHECK_EQ(twill_produce_consume(sizeof(int), push_and_join, consume, &options),
                     how == 0   ? TWILL_FAILED
                     : how == 1 ? TWILL_OK
                                : TWILL_TIMEOUT);
            faults_fail_thread(0);
            CHECK_EQ(p.told[0], TWILL_OK);
            CHECK_EQ(report.total, report.done + report.failed + report.skipped);
        }
}

/* The helpers come when the call is over: the producer that joins gives up what is left itself. */
static twill_until late_until;

static int start_too_late(void **state, const twill_task *task)
{
    (void)state;
    while (task->worker != 0 && twill__clock_now() <= late_until.deadline)
        twill_sleep(twill_within(TWILL_US(100)));
    return 0;
}

TEST(a_join_ends_where_helpers_come_too_late)
{
    plan p = plan_of(5);
    late_until = twill_within(TWILL_MS(3));
    CHECK_EQ(twill_produce_consume(
                 sizeof(int), push_and_join, consume,
                 &OPTIONS(.run.workers = 2, .run.context = &p, .run.worker_start = start_too_late,
                          .run.until = late_until, .queue.capacity = 8, .queue.drop = note_drop)),
             TWILL_TIMEOUT);
    CHECK_EQ(p.told[0], TWILL_OK);
}

static twill_queue *_Atomic the_queue;

static int push_two(twill_queue *queue, const twill_task *task)
{
    int item = 1, left;
    (void)task;
    atomic_store(&the_queue, queue);
    CHECK_EQ(twill_queue_destroy(queue), TWILL_DEADLOCK);
    CHECK_EQ(twill_queue_detach(queue), TWILL_INVALID); /* the call does it, at the return */
    CHECK_EQ(twill_queue_attach(queue), TWILL_OK);
    CHECK_EQ(twill_queue_detach(queue), TWILL_OK);
    CHECK_EQ(twill_queue_detach(queue), TWILL_INVALID);
    CHECK_EQ(twill_queue_push(queue, &item), TWILL_OK);
    CHECK_EQ(twill_queue_push(queue, &item), TWILL_OK);
    /* an item that a producer takes is its own to finish, and skipped for the report */
    if (twill_queue_try_pop(queue, &left) == TWILL_OK)
        CHECK_EQ(twill_queue_task_done(queue), TWILL_OK);
    CHECK_EQ(twill_queue_join(queue), TWILL_OK);
    return 0;
}

static int wait_for_oneself(void *item, const twill_task *task)
{
    (void)item;
    (void)task;
    CHECK_EQ(twill_queue_join(atomic_load(&the_queue)), TWILL_DEADLOCK);
    CHECK_EQ(twill_queue_destroy(atomic_load(&the_queue)), TWILL_DEADLOCK);
    return 0;
}

TEST(the_queue_of_a_call_is_the_calls)
{
    for (unsigned long fails = 0; fails <= 2; fails++)
        for (size_t capacity = 1; capacity <= 3; capacity++) {
            twill_report report;
            base_live = faults_live();
            faults_fail_thread(fails);
            CHECK_EQ(
                twill_produce_consume(sizeof(int), push_two, wait_for_oneself,
                                      &OPTIONS(.producers = 3, .run.workers = 2,
                                               .run.report = &report, .queue.capacity = capacity)),
                TWILL_OK);
            faults_fail_thread(0);
            CHECK_EQ(report.total, 6); /* no producer was told CLOSED */
            CHECK_EQ(faults_live(), base_live);
        }
}

HARNESS_MAIN
