/* test_signal_storms.c - signals all the time, to every thread, while each operation runs that may
   wait: no wait ends early, no status is another one for it, nothing is lost, and the books
   balance. The signals that shutdown takes are in test_graceful_shutdown_signals.c. */
#define _XOPEN_SOURCE 700
#define HARNESS_FAULTS
#include "harness.h"

#include "platform/threads.h"
#include "twill.h"

#include <limits.h>
#include <pthread.h>
#include <sys/time.h>

enum { SIDES = 3 };

typedef struct side {
    twill__thrd thread;
    _Atomic pthread_t *self;
    void (*fn)(struct side *side);
    void *what;
    int number;
    uint64_t ok, empty, timeout, cancelled, other; /* answers */
} side;

static atomic_uint seen, ready, over;
static atomic_bool calm;
static _Atomic pthread_t selves[SIDES];
static twill_ns ends;

static void on_signal(int number)
{
    (void)number;
    atomic_fetch_add(&seen, 1);
}

/* For 0.2 s, and until the storm has come to something. */
static bool going(void)
{
    twill_ns now = twill_now();
    return now < ends || (atomic_load(&seen) < 20 && now < ends + TWILL_SEC(50));
}

/* A thread's part: it stays until the storm is over, since pthread_kill needs it. */
static void take_part(void *side_)
{
    side *me = side_;
    atomic_store(me->self, pthread_self());
    atomic_fetch_add(&ready, 1);
    me->fn(me);
    atomic_fetch_add(&over, 1);
    while (!atomic_load(&calm))
        twill__yield();
}

/* SIDES threads run fn(side) for 0.2 s or as long as it takes, and each is hit every 0.1 ms, as is
   whichever thread the kernel chooses. */
static void storm(side *sides, void (*fn)(side *me), void *what)
{
    struct sigaction action, old;
    struct timespec pause = {0, 100000};
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal; /* without SA_RESTART: every wait of the kernel ends */
    CHECK_EQ(sigaction(SIGUSR1, &action, &old), 0);
    atomic_store(&seen, 0);
    atomic_store(&ready, 0);
    atomic_store(&over, 0);
    atomic_store(&calm, false);
    ends = twill_now() + TWILL_MS(200);
    for (int k = 0; k < SIDES; k++) {
        sides[k] = (side){.self = &selves[k], .fn = fn, .what = what, .number = k};
        sides[k].thread.fn = take_part;
        sides[k].thread.arg = &sides[k];
        sides[k].thread.cpu = UINT_MAX;
        if (!CHECK(twill__thread_start(&sides[k].thread)))
            exit(1);
    }
    while (atomic_load(&ready) < SIDES)
        twill__yield();
    while (atomic_load(&over) < SIDES) {
        for (int k = 0; k < SIDES; k++)
            pthread_kill(atomic_load(&selves[k]), SIGUSR1);
        kill(getpid(), SIGUSR1);
        nanosleep(&pause, NULL);
    }
    atomic_store(&calm, true);
    for (int k = 0; k < SIDES; k++)
        twill__thread_join(&sides[k].thread);
    CHECK_EQ(sigaction(SIGUSR1, &old, NULL), 0);
    CHECK(atomic_load(&seen) >= 20); /* or nothing was tested */
}

static bool count(side *me, twill_status status)
{
    me->ok += status == TWILL_OK;
    me->empty += status == TWILL_EMPTY;
    me->timeout += status == TWILL_TIMEOUT;
    me->cancelled += status == TWILL_CANCELLED;
    me->other += status != TWILL_OK && status != TWILL_EMPTY && status != TWILL_TIMEOUT &&
                 status != TWILL_CANCELLED;
    return status == TWILL_OK;
}

static uint64_t sum(const side *sides, size_t at)
{
    uint64_t total = 0;
    for (int k = 0; k < SIDES; k++)
        total += *(const uint64_t *)(const void *)((const char *)&sides[k] + at);
    return total;
}
#define SUM(field) sum(sides, offsetof(side, field))

/* ---- rate_limiter ---- */

static void limited(side *me)
{
    twill_rate_limiter *limiter = me->what;
    while (going()) {
        twill_reservation later;
        twill_ns wait = (twill_ns)test_random_below(TWILL_MS(3));
        switch (test_random_below(4)) {
        case 0:
            count(me, twill_rate_limiter_acquire(limiter, 1));
            break;
        case 1:
            count(me, twill_rate_limiter_acquire_until(limiter, 2, twill_within(wait)));
            break;
        case 2:
            count(me, twill_rate_limiter_try_acquire(limiter, 1));
            break;
        default: /* BUSY: somebody waits */
            if (twill_rate_limiter_reserve(limiter, 1, TWILL_MS(5), &later) == TWILL_OK)
                twill_rate_limiter_cancel(limiter, &later);
        }
    }
}

TEST(limiter)
{
    side sides[SIDES];
    twill_rate_limiter limiter;
    twill_rate_limiter_stats stats;
    twill_ns begun = twill_now(), took;
    CHECK_EQ(
        twill_rate_limiter_init(
            &limiter, &(twill_rate_limiter_options){.tokens = 4000, .burst = 2, .counted = true}),
        TWILL_OK);
    storm(sides, limited, &limiter);
    took = twill_now() - begun;
    twill_rate_limiter_get_stats(&limiter, &stats);
    CHECK_EQ(SUM(other), 0);
    CHECK_EQ(stats.timed_out, SUM(timeout));
    CHECK_EQ(stats.waiting, 0);
    CHECK(stats.granted >= SUM(ok));
    /* a wait that ended early would let more through; a reservation is up to 5 ms ahead */
    took += TWILL_MS(5);
    CHECK(stats.granted - stats.given_back <= 2 + (uint64_t)(took / TWILL_US(250)) + 1);
}

static struct door {
    twill_bulkhead bulkhead;
    atomic_int inside, most;
} door;

static void go_in(side *me)
{
    while (going()) {
        twill_until until = twill_within((twill_ns)test_random_below(TWILL_MS(1)));
        if (!count(me, test_random_below(2) ? twill_bulkhead_enter(&door.bulkhead)
                                            : twill_bulkhead_enter_until(&door.bulkhead, until)))
            continue;
        CHECK(atomic_fetch_add(&door.inside, 1) < 2);
        twill_sleep(twill_within(TWILL_US(50)));
        atomic_fetch_sub(&door.inside, 1);
        CHECK_EQ(twill_bulkhead_leave(&door.bulkhead), TWILL_OK);
    }
}

TEST(bulkhead)
{
    side sides[SIDES];
    CHECK_EQ(twill_bulkhead_init(&door.bulkhead, 2, SIZE_MAX), TWILL_OK);
    storm(sides, go_in, NULL);
    CHECK_EQ(SUM(other) + SUM(empty) + SUM(cancelled), 0);
    CHECK_EQ(twill_bulkhead_leave(&door.bulkhead), TWILL_INVALID); /* all have left */
}

/* ---- retry_backoff ---- */

static int fails(const void *in, void *out, const twill_task *task)
{
    (void)in;
    (void)out;
    return 1 + (int)task->index;
}

static void retries(side *me)
{
    twill_cancel token = {{0}};
    twill_retry_options options = {.max_attempts = 4, .base = TWILL_MS(1), .budget = me->what};
    options.jitter = TWILL_JITTER_NONE;
    while (going()) {
        twill_retry_report report;
        twill_ns begun = twill_now();
        options.until = test_random_below(3) ? twill_within(TWILL_SEC(100))
                                             : twill_within_or_cancelled(TWILL_US(2500), &token);
        switch (twill_retry_call(NULL, NULL, fails, &options, &report)) {
        case TWILL_FAILED: /* 1 + 2 + 4 ms of pauses, none of them cut short */
            CHECK(report.end == TWILL_RETRY_ATTEMPTS && report.attempts == 4 && report.code == 4);
            CHECK(twill_now() - begun >= TWILL_MS(7));
            CHECK(report.slept >= TWILL_MS(7));
            me->ok++;
            break;
        case TWILL_TIMEOUT: /* given up before the pause that would have passed the deadline */
            CHECK(report.end == TWILL_RETRY_DEADLINE && report.attempts < 4);
            /* 0 attempts: held up before the first */
            CHECK(report.attempts <= 1 || report.slept >= TWILL_MS(1));
            me->timeout++;
            break;
        default:
            me->other++;
        }
        me->empty += report.attempts ? report.attempts - 1 : 0; /* retries */
    }
    twill_cancel_detach(&token);
}

TEST(retry)
{
    side sides[SIDES];
    twill_retry_budget budget;
    twill_retry_budget_options options = {.capacity = 1000000, .retry_cost = 1};
    CHECK_EQ(twill_retry_budget_init(&budget, &options), TWILL_OK);
    storm(sides, retries, &budget);
    CHECK_EQ(SUM(other), 0);
    CHECK_EQ(twill_retry_budget_left(&budget), 1000000 - SUM(empty)); /* a token a retry */
}

/* ---- resource_pool ---- */

static atomic_int made, gone, held[64];

static int make(void **resource, const twill_task *task)
{
    (void)task;
    *resource = &held[atomic_fetch_add(&made, 1) % 64];
    return 0;
}

static void unmake(void *resource, twill_resource_end why, const twill_task *task)
{
    (void)why;
    (void)task;
    CHECK_EQ(atomic_load((atomic_int *)resource), 0);
    atomic_fetch_add(&gone, 1);
}

static int use(void *resource, const twill_task *task)
{
    atomic_int *in = resource;
    CHECK_EQ(atomic_fetch_add(in, 1), 0); /* nobody else has it */
    if (test_random_below(4) == 0)
        twill_sleep(twill_within(TWILL_US(100)));
    atomic_fetch_sub(in, 1);
    if (test_random_below(16) == 0)
        twill_resource_pool_broken(task);
    return 0;
}

static void borrow(side *me)
{
    twill_resource_pool *pool = me->what;
    while (going()) {
        twill_lease l[2] = {{0}};
        twill_with_resource_options with = {.until = twill_within(TWILL_SEC(100))};
        twill_until until = twill_within((twill_ns)test_random_below(TWILL_MS(1)));
        switch (test_random_below(5)) {
        case 0:
            if (count(me, twill_resource_pool_acquire(pool, &l[0])))
                CHECK_EQ(twill_resource_pool_release(pool, &l[0]), TWILL_OK);
            break;
        case 1:
            if (count(me, twill_resource_pool_acquire_until(pool, &l[0], until)))
                CHECK_EQ(twill_resource_pool_discard(pool, &l[0]), TWILL_OK);
            break;
        case 2:
            if (count(me, twill_resource_pool_acquire_many_until(pool, l, 2, until)))
                for (int k = 0; k < 2; k++)
                    CHECK_EQ(twill_resource_pool_release(pool, &l[k]), TWILL_OK);
            break;
        case 3:
            count(me, twill_resource_pool_maintain(pool, NULL, with.until));
            break;
        default:
            count(me, twill_with_resource(pool, use, NULL, &with));
        }
    }
}

/* At the desk (plain), or under the lock, with a thread of its own. */
static void pool_in_a_storm(bool plain)
{
    side sides[SIDES];
    twill_resource_pool *pool;
    twill_resource_pool_stats stats;
    twill_resource_pool_options options = {.max = 2, .create = make, .destroy = unmake};
    if (!plain)
        options.maintain_every = TWILL_US(300);
    atomic_store(&made, 0);
    atomic_store(&gone, 0);
    CHECK_EQ(twill_resource_pool_create(&pool, &options), TWILL_OK);
    storm(sides, borrow, pool);
    CHECK_EQ(SUM(other) + SUM(empty) + SUM(cancelled), 0);
    twill_resource_pool_get_stats(pool, &stats);
    CHECK_EQ(stats.leased + stats.waiting + stats.creating, 0);
    CHECK_EQ(stats.acquires, stats.releases + stats.discards);
    CHECK_EQ(stats.total, stats.idle);
    CHECK_EQ(twill_resource_pool_close(pool), TWILL_OK);
    CHECK_EQ(twill_resource_pool_drain(pool), TWILL_OK);
    CHECK_EQ(twill_resource_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(atomic_load(&made), atomic_load(&gone));
}

TEST(resource_pool)
{
    pool_in_a_storm(true);
    pool_in_a_storm(false);
}

/* ---- graceful_shutdown ---- */

static int hook(const twill_task *task)
{
    twill_ns begun = twill_now();
    CHECK_EQ(twill_sleep(twill_within(TWILL_US(500))), TWILL_OK);
    CHECK(twill_now() - begun >= TWILL_US(500));
    atomic_fetch_add((atomic_int *)task->context, 1);
    return 0;
}

/* Each thread has an object of its own, from its creation to its end. */
static void stops(side *me)
{
    while (going() || me->ok == 0) {
        atomic_int hooks = 0;
        twill_shutdown *stop;
        twill_shutdown_report report;
        twill_shutdown_options options = {.no_signals = true, .total = TWILL_SEC(30)};
        if (!CHECK_EQ(twill_shutdown_create(&stop, &options), TWILL_OK))
            return;
        CHECK_EQ(twill_shutdown_add(stop, "one", hook, &hooks, 0), TWILL_OK);
        CHECK_EQ(twill_shutdown_add(stop, "two", hook, &hooks, TWILL_SEC(20)), TWILL_OK);
        CHECK_EQ(twill_shutdown_enter(stop), TWILL_OK);
        CHECK_EQ(twill_shutdown_wait(stop, twill_within(TWILL_US(200))), TWILL_TIMEOUT);
        twill_shutdown_request(stop, 5);
        CHECK_EQ(twill_shutdown_wait(stop, (twill_until){0, NULL}), TWILL_OK);
        CHECK_EQ(twill_shutdown_enter(stop), TWILL_CLOSED);
        twill_shutdown_leave(stop);
        CHECK_EQ(twill_shutdown_finish(stop, &report), TWILL_OK);
        CHECK(report.reason == 5 && report.entered == 1 && report.left_in_drain == 1);
        CHECK_EQ(atomic_load(&hooks), 2);
        CHECK_EQ(twill_shutdown_destroy(stop), TWILL_OK);
        me->ok++;
    }
}

TEST(shutdown)
{
    side sides[SIDES];
    storm(sides, stops, NULL);
    CHECK(SUM(ok) > 0);
    CHECK_EQ(faults_live(), 0);
}

/* ---- the other patterns ---- */

static int doubles(const void *in, void *out, const twill_task *task)
{
    (void)task;
    if (*(const int *)in % 16 == 0)
        twill_sleep(twill_within(TWILL_US(100)));
    *(int *)out = 2 * *(const int *)in;
    return 0;
}

static int adds(const void *result, const twill_outcome *outcome, const twill_task *task)
{
    *(long *)task->context += outcome->status == TWILL_OK ? *(const int *)result : 0;
    return 0;
}

static int batch(twill_batch *b, const twill_task *task)
{
    (void)task;
    twill_sleep(twill_within(TWILL_US(100)));
    for (size_t k = 0; k < b->count; k++)
        *(int *)twill_batch_result(b, k) = 2 * *(const int *)twill_batch_item(b, k);
    return 0;
}

enum { ITEMS = 64 };

/* Each call's results are those without a storm. */
static void calls(side *me)
{
    static const twill_stage stage = {.work = doubles, .out_size = sizeof(int), .workers = 2};
    int in[ITEMS], out[ITEMS], constant = -1;
    for (int k = 0; k < ITEMS; k++)
        in[k] = k;
    while (going() || me->ok < 6) {
        long total = 0;
        int one = -2;
        twill_outcome outcomes[ITEMS];
        memset(out, 0, sizeof out);
        switch (me->ok++ % 6) {
        case 0:
            CHECK_EQ(twill_parallel_map(in, sizeof *in, out, sizeof *out, ITEMS, doubles,
                                        &(twill_parallel_options){.run.workers = 2}),
                     TWILL_OK);
            break;
        case 1:
            CHECK_EQ(twill_fan_out_fan_in(in, sizeof *in, ITEMS, doubles, sizeof *out, adds,
                                          &(twill_fan_options){.run.context = &total}),
                     TWILL_OK);
            CHECK_EQ(total, ITEMS * (ITEMS - 1));
            continue;
        case 2:
            CHECK_EQ(twill_pipeline_map(in, sizeof *in, out, sizeof *out, ITEMS, &stage, 1, NULL),
                     TWILL_OK);
            break;
        case 3:
            CHECK_EQ(twill_batch_process(in, sizeof *in, out, sizeof *out, ITEMS, batch,
                                         &(twill_batch_options){.max_items = 10}),
                     TWILL_OK);
            break;
        case 4:
            CHECK_EQ(
                twill_run_all(in, sizeof *in, out, sizeof *out, ITEMS, doubles, outcomes, NULL),
                TWILL_OK);
            break;
        default:
            CHECK_EQ(twill_call_with_timeout(&in[16], sizeof *in, &one, sizeof one, doubles,
                                             TWILL_SEC(30), &constant),
                     TWILL_OK);
            CHECK_EQ(one, 32);
            continue;
        }
        for (int k = 0; k < ITEMS; k++)
            CHECK_EQ(out[k], 2 * k);
    }
}

TEST(one_call_forms)
{
    side sides[SIDES];
    storm(sides, calls, NULL);
    CHECK(SUM(ok) >= 6);
    CHECK_EQ(twill_timeout_drain(NULL, twill_within(TWILL_SEC(100)), NULL), TWILL_OK);
}

/* Two push, one pops: blocking, with deadlines, and in a batcher and a pool. */
typedef struct flow {
    twill_queue *queue;
    twill_batcher *batcher;
    twill_pool *pool;
    atomic_uint pushed, popped, ran;
} flow;

static int flush(twill_batch *b, const twill_task *task)
{
    (void)task;
    (void)b;
    twill_sleep(twill_within(TWILL_US(50)));
    return 0;
}

static int task_runs(void *arg, void *result, const twill_task *task)
{
    (void)task;
    atomic_fetch_add(&((flow *)arg)->ran, 1);
    *(int *)result = 7;
    return 0;
}

static void submit_one(side *me, flow *all)
{
    twill_future future;
    int result = 0;
    CHECK_EQ(twill_pool_submit(all->pool, task_runs, all, &future,
                               &(twill_submit_options){.result_size = sizeof result}),
             TWILL_OK);
    CHECK_EQ(twill_future_wait(future, &result, NULL), TWILL_OK);
    CHECK_EQ(result, 7);
    twill_future_release(future);
    me->cancelled++; /* tasks */
}

static void flows(side *me)
{
    flow *all = me->what;
    while (going()) {
        int item = me->number;
        twill_until until = twill_within((twill_ns)test_random_below(TWILL_MS(1)));
        if (me->number == 0) {
            twill_status status = twill_queue_pop_until(all->queue, &item, until);
            CHECK(status == TWILL_OK || (status == TWILL_TIMEOUT && twill_now() >= until.deadline));
            atomic_fetch_add(&all->popped, status == TWILL_OK);
        } else {
            twill_status status = twill_queue_push_until(all->queue, &item, until);
            CHECK(status == TWILL_OK || (status == TWILL_TIMEOUT && twill_now() >= until.deadline));
            atomic_fetch_add(&all->pushed, status == TWILL_OK);
            CHECK_EQ(twill_batcher_add(all->batcher, &all->queue, NULL), TWILL_OK);
            me->ok++; /* added */
            if (test_random_below(8) == 0)
                CHECK_EQ(twill_batcher_flush(all->batcher), TWILL_OK);
            submit_one(me, all);
        }
    }
}

TEST(objects_that_wait)
{
    side sides[SIDES];
    flow all = {.queue = NULL};
    twill_batcher_stats stats;
    int item;
    twill_batch_options batches = {.max_items = 4, .linger = TWILL_MS(1)};
    CHECK_EQ(twill_queue_create(&all.queue, sizeof item, &(twill_queue_options){.capacity = 2}),
             TWILL_OK);
    CHECK_EQ(twill_batcher_create(&all.batcher, flush, &batches), TWILL_OK);
    CHECK_EQ(twill_pool_create(&all.pool, &(twill_pool_options){.run.workers = 2}), TWILL_OK);
    storm(sides, flows, &all);
    while (twill_queue_try_pop(all.queue, &item) == TWILL_OK)
        atomic_fetch_add(&all.popped, 1);
    CHECK_EQ(atomic_load(&all.pushed), atomic_load(&all.popped));
    CHECK_EQ(atomic_load(&all.ran), SUM(cancelled));
    CHECK_EQ(twill_batcher_flush(all.batcher), TWILL_OK);
    twill_batcher_get_stats(all.batcher, &stats);
    CHECK_EQ(stats.added, SUM(ok));
    CHECK_EQ(stats.done, stats.added);
    CHECK_EQ(twill_batcher_destroy(all.batcher), TWILL_OK);
    CHECK_EQ(twill_pool_destroy(all.pool), TWILL_OK);
    twill_queue_destroy(all.queue);
}

/* ---- a request and a deadline ---- */

/* A signal handler's request wakes nobody: each wait sleeps until its deadline, and then says that
   it was cancelled, since the cause goes before the consequence. */
static twill_cancel asked;
static atomic_bool release;

static void asks(int number)
{
    (void)number;
    twill_cancel_request(&asked, 3);
}

static int stays(void *arg, void *result, const twill_task *task)
{
    (void)arg;
    (void)result;
    (void)task;
    while (!atomic_load(&release))
        twill_sleep(twill_within(TWILL_MS(1)));
    return 0;
}

static int stays_too(const void *in, void *out, const twill_task *task)
{
    (void)in;
    return stays(NULL, out, task);
}

/* The deadline, with the request long before it. */
static twill_until soon(void)
{
    struct itimerval in = {{0, 0}, {0, 500}};
    twill_cancel_detach(&asked);
    asked = (twill_cancel){{0}};
    CHECK_EQ(setitimer(ITIMER_REAL, &in, NULL), 0);
    return twill_within_or_cancelled(TWILL_MS(3), &asked);
}

TEST(a_deadline_after_a_request)
{
    struct sigaction action, old;
    struct flow all = {.queue = NULL};
    twill_resource_pool *pool;
    twill_shutdown *stop;
    twill_timeout *timeout;
    twill_bulkhead door_of_one;
    twill_future future;
    twill_lease lease = {0}, none = {0};
    twill_status slept;
    size_t which, left;
    int item = 1;
    memset(&action, 0, sizeof action);
    action.sa_handler = asks;
    CHECK_EQ(sigaction(SIGALRM, &action, &old), 0);
    atomic_store(&release, false);
    CHECK_EQ(twill_queue_create(&all.queue, sizeof item, &(twill_queue_options){.capacity = 1}),
             TWILL_OK);
    CHECK_EQ(twill_pool_create(&all.pool, &(twill_pool_options){.run.workers = 1, .capacity = 1}),
             TWILL_OK);
    CHECK_EQ(
        twill_resource_pool_create(
            &pool, &(twill_resource_pool_options){.max = 1, .create = make, .destroy = unmake}),
        TWILL_OK);
    CHECK_EQ(twill_shutdown_create(&stop, &(twill_shutdown_options){.no_signals = true}), TWILL_OK);
    CHECK_EQ(twill_timeout_create(&timeout, &(twill_timeout_options){.timeout = TWILL_MS(1)}),
             TWILL_OK);
    CHECK_EQ(twill_bulkhead_init(&door_of_one, 1, SIZE_MAX), TWILL_OK);
    CHECK_EQ(twill_pool_submit(all.pool, stays, NULL, &future, NULL), TWILL_OK);
    while (!twill_timeout_abandoned(timeout)) /* it was too late to begin */
        CHECK_EQ(twill_timeout_call(timeout, &item, sizeof item, NULL, 0, stays_too,
                                    (twill_until){0, NULL}, NULL),
                 TWILL_TIMEOUT);

    CHECK_EQ(twill_future_wait_until(future, NULL, NULL, soon()), TWILL_CANCELLED);
    CHECK_EQ(twill_future_wait_any(&future, 1, &which, soon()), TWILL_CANCELLED);
    CHECK_EQ(twill_future_wait_all(&future, 1, soon()), TWILL_CANCELLED);
    CHECK_EQ(twill_pool_wait_idle_until(all.pool, soon()), TWILL_CANCELLED);
    CHECK_EQ(twill_timeout_drain(timeout, soon(), &left), TWILL_CANCELLED);
    CHECK_EQ(left, 1);
    CHECK_EQ(twill_shutdown_wait(stop, soon()), TWILL_CANCELLED);
    CHECK_EQ(twill_queue_pop_until(all.queue, &item, soon()), TWILL_CANCELLED);
    CHECK_EQ(twill_queue_push(all.queue, &item), TWILL_OK);
    CHECK_EQ(twill_queue_push_until(all.queue, &item, soon()), TWILL_CANCELLED);
    CHECK_EQ(twill_resource_pool_acquire(pool, &lease), TWILL_OK);
    CHECK_EQ(twill_resource_pool_acquire_until(pool, &none, soon()), TWILL_CANCELLED);
    CHECK_EQ(twill_resource_pool_close(pool), TWILL_OK);
    CHECK_EQ(twill_resource_pool_drain_until(pool, soon()), TWILL_CANCELLED);
    CHECK_EQ(twill_bulkhead_enter(&door_of_one), TWILL_OK);
    CHECK_EQ(twill_bulkhead_enter_until(&door_of_one, soon()), TWILL_CANCELLED);
    /* it has slept: success goes before both; unless the request came before it began to */
    for (int tries = 0; (slept = twill_sleep(soon())) == TWILL_CANCELLED && tries < 50;)
        tries++;
    CHECK_EQ(slept, TWILL_OK);

    CHECK_EQ(sigaction(SIGALRM, &old, NULL), 0);
    atomic_store(&release, true);
    CHECK_EQ(twill_future_wait(future, NULL, NULL), TWILL_OK);
    twill_future_release(future);
    CHECK_EQ(twill_timeout_drain(timeout, twill_within(TWILL_SEC(100)), NULL), TWILL_OK);
    CHECK_EQ(twill_bulkhead_leave(&door_of_one), TWILL_OK);
    CHECK_EQ(twill_resource_pool_release(pool, &lease), TWILL_OK);
    CHECK_EQ(twill_resource_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(twill_timeout_destroy(timeout), TWILL_OK);
    CHECK_EQ(twill_shutdown_destroy(stop), TWILL_OK);
    CHECK_EQ(twill_pool_destroy(all.pool), TWILL_OK);
    twill_queue_destroy(all.queue);
    twill_cancel_detach(&asked);
}

HARNESS_MAIN
