/* test_worker_pool_tasks.c - tasks of a pool: submitted, full, in order, waited for, cancelled,
   delayed. */
#define _GNU_SOURCE
#define HARNESS_FAULTS
#include "harness.h"
#include "twill_parallel_map.h"
#include "twill_worker_pool.h"

#include "pool_kit.h"

#include <limits.h>
#include <sys/resource.h>

static const twill_submit_options with_number = {.result_size = sizeof(intptr_t)};

/* ---- results ---- */

TEST(results_and_errors_by_index)
{
    /* equal tasks are kept apart */
    static const int numbers[] = {1, 2, 3, 3, 3, 1};
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 3});
    twill_future futures[6];
    twill_pool_stats stats;

    for (size_t i = 0; i < 6; i++)
        CHECK_EQ(twill_pool_submit(pool, i == 4 ? fail_with : number_of,
                                   (void *)(intptr_t)numbers[i], &futures[i], &with_number),
                 TWILL_OK);
    for (size_t i = 0; i < 6; i++) {
        intptr_t result = -1;
        twill_outcome outcome;

        CHECK_EQ(twill_future_wait(futures[i], &result, &outcome),
                 i == 4 ? TWILL_FAILED : TWILL_OK);
        CHECK_EQ(result, i == 4 ? 0 : numbers[i]);
        CHECK_EQ(outcome.status, i == 4 ? TWILL_FAILED : TWILL_OK);
        CHECK_EQ(outcome.code, i == 4 ? 3 : 0);
        CHECK_EQ(outcome.index, i);
        CHECK_EQ(outcome.attempts, 1);
        CHECK(outcome.queued > 0 && outcome.queued <= outcome.started &&
              outcome.started <= outcome.finished);
        CHECK_EQ(twill_future_wait(futures[i], &result, NULL), i == 4 ? TWILL_FAILED : TWILL_OK);
        twill_future_release(futures[i]);
        CHECK_EQ(twill_future_wait(futures[i], &result, NULL), TWILL_STALE);
    }
    stats = idle_stats(pool);
    CHECK_EQ(stats.done, 5);
    CHECK_EQ(stats.failed, 1);
    CHECK_EQ(stats.submitted, 6);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

/* they are dated by ticks: right to 0.3 us, but where the counter jumps, and then to a span */
TEST(instants_of_quick_tasks_are_those_of_the_clock)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 2});

    for (int i = 0; i < 2000; i++) {
        twill_ns before = twill_now();
        twill_future future;
        twill_outcome outcome;

        CHECK_EQ(twill_pool_submit(pool, number_of, NULL, &future, NULL), TWILL_OK);
        CHECK_EQ(twill_future_wait(future, NULL, &outcome), TWILL_OK);
        twill_future_release(future);
        CHECK(outcome.queued >= before - TWILL_US(200));
        CHECK(outcome.started >= outcome.queued && outcome.finished >= outcome.started);
        CHECK(outcome.finished <= twill_now() + TWILL_US(200));
    }
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

TEST(futures_outlive_their_pool)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1});
    twill_future futures[40];
    intptr_t result;

    for (intptr_t i = 0; i < 40; i++)
        CHECK_EQ(twill_pool_submit(pool, number_of, (void *)i, &futures[i], &with_number),
                 TWILL_OK);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    for (intptr_t i = 0; i < 40; i++) {
        CHECK_EQ(twill_future_wait(futures[i], &result, NULL), TWILL_OK);
        CHECK_EQ(result, i);
        CHECK_EQ(twill_future_cancel(futures[i]), TWILL_OK);
        CHECK(faults_live() > 0);
        twill_future_release(futures[i]);
    }
    CHECK_EQ(faults_live(), 0);
}

/* What a variable on the stack may hold before anybody has written to it. */
static twill_future *chance(twill_future *future)
{
    *future = (twill_future){(void *)(uintptr_t)8, 3};
    return future;
}

static bool is_none(twill_future future)
{
    return !future.slot && !future.generation &&
           twill_future_wait(future, NULL, NULL) == TWILL_INVALID;
}

TEST(bad_arguments)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1});
    twill_future future;
    twill_submit_options bad = {.timeout = -1};
    size_t accepted = 9;

    CHECK_EQ(twill_pool_submit(NULL, number_of, NULL, chance(&future), NULL), TWILL_INVALID);
    CHECK(is_none(future));
    CHECK_EQ(twill_pool_submit(pool, NULL, NULL, chance(&future), NULL), TWILL_INVALID);
    CHECK(is_none(future));
    CHECK_EQ(twill_pool_submit(pool, number_of, NULL, chance(&future), &bad), TWILL_INVALID);
    CHECK(is_none(future));
    CHECK_EQ(twill_pool_submit_many(pool, NULL, NULL, 3, NULL, &accepted, NULL), TWILL_INVALID);
    CHECK_EQ(accepted, 0);
    CHECK_EQ(twill_pool_submit_many(pool, number_of, NULL, 0, NULL, &accepted, NULL), TWILL_OK);
    const twill_submit_options refused[] = {{.start_at = -1}, {.start_by = -1}};
    for (int i = 0; i < 2; i++)
        CHECK_EQ(twill_pool_submit(pool, number_of, NULL, &future, &refused[i]), TWILL_INVALID);
    CHECK_EQ(twill_pool_resume(NULL), TWILL_INVALID);
    CHECK_EQ(twill_pool_resize(NULL, 1, 1), TWILL_INVALID);
    CHECK_EQ(twill_pool_each_worker(NULL, number_of, NULL, twill_within(0)), TWILL_INVALID);
    CHECK_EQ(twill_pool_pause(NULL), TWILL_INVALID);
    CHECK_EQ(twill_pool_close(NULL), TWILL_INVALID);
    CHECK_EQ(twill_pool_wait_idle(NULL), TWILL_INVALID);
    CHECK_EQ(twill_pool_each_worker(pool, NULL, NULL, twill_within(0)), TWILL_INVALID);
    CHECK_EQ(twill_pool_resize(pool, 0, 0), TWILL_INVALID);
    CHECK_EQ(twill_pool_resize(pool, 3, 2), TWILL_INVALID);
    CHECK_EQ(twill_pool_resize(pool, 1u << 30, 0), TWILL_TOO_BIG);
    CHECK_EQ(twill_pool_stop(NULL, twill_within(0), twill_within(0), NULL), TWILL_INVALID);
    CHECK_EQ(twill_pool_abandon(NULL, NULL), TWILL_INVALID);
    CHECK_PTR(twill_pool_current(), NULL);
    CHECK_EQ(stats_of(pool).submitted, 0);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

static int fails_each(void *arg, void *result, const twill_task *task)
{
    (void)result, (void)task;
    atomic_fetch_add((atomic_int *)arg, 1);
    return 3;
}

static int each_inside(void *arg, void *result, const twill_task *task)
{
    (void)result, (void)task;
    return (int)twill_pool_each_worker(arg, fails_each, arg, twill_within(0));
}

TEST(each_worker_answers)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 2});
    atomic_int calls = 0;
    twill_future future;
    twill_outcome outcome;

    CHECK_EQ(twill_pool_each_worker(pool, fails_each, &calls, twill_within(TWILL_SEC(100))),
             TWILL_FAILED);
    CHECK_EQ(atomic_load(&calls), 2);
    CHECK_EQ(twill_pool_submit(pool, each_inside, pool, &future, &with_number), TWILL_OK);
    CHECK_EQ(twill_future_wait(future, NULL, &outcome), TWILL_FAILED);
    CHECK_EQ(outcome.code, TWILL_DEADLOCK);
    twill_future_release(future);
    CHECK_EQ(twill_pool_close(pool), TWILL_OK);
    CHECK_EQ(twill_pool_each_worker(pool, fails_each, &calls, twill_within(0)), TWILL_CLOSED);
    CHECK_EQ(twill_pool_pause(pool), TWILL_CLOSED);
    CHECK_EQ(twill_pool_resize(pool, 1, 1), TWILL_CLOSED);
    CHECK_EQ(atomic_load(&calls), 2);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

TEST(resize_without_memory_or_thread)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1});

    faults_fail_alloc(1);
    CHECK_EQ(twill_pool_resize(pool, 3, 3), TWILL_NO_MEMORY);
    faults_fail_alloc(0);
    faults_fail_thread(1);
    CHECK_EQ(twill_pool_resize(pool, 3, 3), TWILL_NO_THREAD);
    faults_fail_thread(1);
    CHECK_EQ(twill_pool_resize(pool, 1, 2), TWILL_NO_THREAD); /* the watch */
    faults_fail_thread(0);
    CHECK_EQ(twill_pool_resize(pool, 2, 3), TWILL_OK);
    CHECK_EQ(stats_of(pool).workers, 2);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

/* ---- full ---- */

static atomic_uint dropped, ran, discarded;
static atomic_int why_dropped;

static void on_drop(void *item, twill_status why, const twill_task *task)
{
    (void)item, (void)task;
    atomic_fetch_add(&dropped, 1);
    atomic_store(&why_dropped, (int)why);
}

static void on_discard(void *arg, void *result, int code, const twill_task *task)
{
    (void)arg, (void)result, (void)code, (void)task;
    atomic_fetch_add(&discarded, 1);
}

static int run_it(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    atomic_fetch_add(&ran, 1);
    return 0;
}

/* Who does not look at the answer, and waits, is told so. */
TEST(a_refused_task_has_no_future)
{
    struct gate gate = {0};
    twill_cancel fired = {0};
    twill_future future, many[4];
    size_t accepted;
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1, .capacity = 2});
    twill_pool *busy = pool_of(
        &(twill_pool_options){.run.workers = 1, .capacity = 2, .overflow = TWILL_OVERFLOW_REJECT});

    CHECK_EQ(twill_pool_submit(pool, at_gate, &gate, NULL, NULL), TWILL_OK);
    CHECK_EQ(twill_pool_submit(busy, at_gate, &gate, NULL, NULL), TWILL_OK);
    CHECK(gate_inside(&gate, 2));
    for (int i = 0; i < 4; i++)
        chance(&many[i]);
    CHECK_EQ(twill_pool_submit_many(busy, run_it, NULL, 4, many, &accepted, NULL), TWILL_FULL);
    CHECK_EQ(accepted, 2);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(is_none(many[i]), i >= 2);
    CHECK_EQ(twill_future_wait_all(many, 4, (twill_until){0}), TWILL_INVALID);
    CHECK_EQ(twill_pool_submit(busy, run_it, NULL, chance(&future), NULL), TWILL_FULL);
    CHECK(is_none(future));
    for (int i = 0; i < 2; i++)
        CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_OK);
    CHECK_EQ(twill_pool_try_submit(pool, run_it, NULL, chance(&future), NULL), TWILL_FULL);
    CHECK(is_none(future));
    CHECK_EQ(twill_pool_submit_until(pool, run_it, NULL, chance(&future), twill_within(0), NULL),
             TWILL_TIMEOUT);
    CHECK(is_none(future));
    twill_cancel_fire(&fired, 1);
    CHECK_EQ(twill_pool_submit_until(pool, run_it, NULL, chance(&future),
                                     twill_until_cancelled(&fired), NULL),
             TWILL_CANCELLED);
    CHECK(is_none(future));
    gate_open(&gate);
    CHECK_EQ(twill_pool_close(pool), TWILL_OK);
    CHECK_EQ(twill_pool_submit(pool, run_it, NULL, chance(&future), NULL), TWILL_CLOSED);
    CHECK(is_none(future));
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(twill_pool_destroy(busy), TWILL_OK);
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(twill_future_wait(many[i], NULL, NULL), i < 2 ? TWILL_OK : TWILL_INVALID);
        twill_future_release(many[i]);
    }
    CHECK_EQ(faults_live(), 0);
}

static pthread_t this_thread;

static int where_am_i(void *arg, void *result, const twill_task *task)
{
    (void)result;
    CHECK(pthread_equal(pthread_self(), this_thread));
    CHECK_EQ(task->worker, UINT_MAX);
    atomic_fetch_add((atomic_uint *)arg, 1);
    return 0;
}

/* One worker at the gate, `capacity` tasks behind it, and then five more. */
static void fill(twill_overflow overflow, twill_status expected, unsigned will_run,
                 unsigned will_drop, bool plain)
{
    for (size_t capacity = 1; capacity <= 5; capacity++) {
        struct gate gate = {0};
        twill_pool *pool = pool_of(
            &(twill_pool_options){.run.workers = 1, .capacity = capacity, .overflow = overflow});
        twill_submit_options options = {.drop = plain ? NULL : on_drop};
        twill_pool_stats stats;

        atomic_store(&dropped, 0);
        atomic_store(&ran, 0);
        CHECK_EQ(twill_pool_submit(pool, at_gate, &gate, NULL, NULL), TWILL_OK);
        CHECK(gate_inside(&gate, 1));
        for (size_t i = 0; i < capacity; i++)
            CHECK_EQ(twill_pool_try_submit(pool, run_it, NULL, NULL, &options), TWILL_OK);
        CHECK_EQ(stats_of(pool).queued, capacity);
        for (int i = 0; i < 5; i++)
            CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, &options), expected);
        CHECK_EQ(stats_of(pool).queued, capacity);
        gate_open(&gate);
        stats = idle_stats(pool);
        CHECK_EQ(atomic_load(&ran), capacity + will_run);
        CHECK_EQ(atomic_load(&dropped), plain ? 0 : will_drop);
        CHECK_EQ(stats.dropped, will_drop);
        CHECK_EQ(stats.queued_peak, capacity);
        CHECK_EQ(stats.refused, expected == TWILL_FULL ? 5 : 0);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
        CHECK_EQ(faults_live(), 0);
    }
}

TEST(a_full_queue_by_each_policy)
{
    for (int plain = 0; plain < 2; plain++) {
        fill(TWILL_OVERFLOW_REJECT, TWILL_FULL, 0, 0, plain);
        fill(TWILL_OVERFLOW_CALLER_RUNS, TWILL_OK, 5, 0, plain);
        fill(TWILL_OVERFLOW_DROP_INCOMING, TWILL_DROPPED, 0, 5, plain);
        fill(TWILL_OVERFLOW_DROP_OLDEST, TWILL_OK, 0, 5, plain);
        fill(TWILL_OVERFLOW_DROP_NEWEST, TWILL_OK, 0, 5, plain);
    }
}

TEST(a_full_queue_blocks_until_there_is_room)
{
    struct gate gate = {0};
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1, .capacity = 2});
    twill_cancel token = {{0}};
    twill_future future = {0};

    atomic_store(&ran, 0);
    atomic_store(&dropped, 0);
    CHECK_EQ(twill_pool_submit(pool, at_gate, &gate, NULL, NULL), TWILL_OK);
    CHECK(gate_inside(&gate, 1));
    for (int i = 0; i < 2; i++)
        CHECK_EQ(twill_pool_submit_until(pool, run_it, NULL, NULL, twill_within(0), NULL),
                 TWILL_OK);
    CHECK_EQ(twill_pool_try_submit(pool, run_it, NULL, &future,
                                   &(twill_submit_options){.drop = on_drop}),
             TWILL_FULL);
    CHECK_PTR(future.slot, NULL);
    CHECK_EQ(twill_pool_submit_until(pool, run_it, NULL, NULL, twill_within(TWILL_MS(2)),
                                     &(twill_submit_options){.drop = on_drop}),
             TWILL_TIMEOUT);
    twill_cancel_fire(&token, 1);
    CHECK_EQ(twill_pool_submit_until(pool, run_it, NULL, NULL, twill_until_cancelled(&token),
                                     &(twill_submit_options){.drop = on_drop}),
             TWILL_CANCELLED);
    CHECK_EQ(atomic_load(&dropped), 0); /* who was refused keeps his argument */
    CHECK_EQ(stats_of(pool).refused, 3);
    gate_open(&gate);
    for (int i = 0; i < 100; i++)
        CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_OK);
    (void)idle_stats(pool);
    CHECK_EQ(atomic_load(&ran), 102);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

static int note_index(void *at, void *result, const twill_task *task)
{
    (void)result;
    *(size_t *)at = task->index;
    return 0;
}

TEST(who_may_run_it_when_the_queue_is_full)
{
    struct gate gate = {0};
    size_t index[2] = {0, 0};
    atomic_uint counter = 0;
    twill_pool *pool = pool_of(&(twill_pool_options){
        .run.workers = 1, .capacity = 1, .overflow = TWILL_OVERFLOW_CALLER_RUNS});
    twill_future future;
    intptr_t result = 0;
    twill_outcome outcome;

    this_thread = pthread_self();
    CHECK_EQ(twill_pool_submit(pool, at_gate, &gate, NULL, NULL), TWILL_OK);
    CHECK(gate_inside(&gate, 1));
    CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_OK);
    CHECK_EQ(twill_pool_submit(pool, where_am_i, &counter, NULL, NULL), TWILL_OK);
    CHECK_EQ(twill_pool_submit(pool, number_of, (void *)4, &future, &with_number), TWILL_OK);
    CHECK_EQ(twill_future_try_wait(future, &result, &outcome), TWILL_OK);
    CHECK_EQ(result, 4);
    CHECK_EQ(outcome.worker, UINT_MAX);
    CHECK_EQ(twill_pool_try_submit(pool, number_of, NULL, NULL, NULL), TWILL_FULL);
    CHECK_EQ(twill_pool_submit(pool, number_of, NULL, NULL,
                               &(twill_submit_options){.start_at = twill_now() + TWILL_SEC(9)}),
             TWILL_FULL);
    CHECK_EQ(atomic_load(&counter), 1);
    CHECK_EQ(stats_of(pool).caller_ran, 2);
    for (int i = 0; i < 2; i++) /* numbers of their own: 0 and 1 are in the pool */
        CHECK_EQ(twill_pool_submit(pool, note_index, &index[i], NULL, NULL), TWILL_OK);
    CHECK(index[0] > 1 && index[1] > index[0]);
    gate_open(&gate);
    twill_future_release(future);
    (void)idle_stats(pool);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

/* It is no worker. */
static int sees_one_busy(void *pool, void *result, const twill_task *task)
{
    (void)result, (void)task;
    CHECK_EQ(stats_of(pool).busy, 1);
    return 0;
}

TEST(a_submitter_that_runs_a_task_is_no_busy_worker)
{
    struct gate gate = {0};
    twill_pool *pool = pool_of(&(twill_pool_options){
        .run.workers = 1, .capacity = 1, .overflow = TWILL_OVERFLOW_CALLER_RUNS});
    twill_future future;

    CHECK_EQ(twill_pool_submit(pool, at_gate, &gate, NULL, NULL), TWILL_OK);
    CHECK(gate_inside(&gate, 1));
    CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_OK);
    CHECK_EQ(twill_pool_submit(pool, sees_one_busy, pool, &future, NULL), TWILL_OK);
    CHECK_EQ(twill_pool_submit(pool, sees_one_busy, pool, NULL, NULL), TWILL_OK);
    CHECK_EQ(twill_future_try_wait(future, NULL, NULL), TWILL_OK);
    twill_future_release(future);
    gate_open(&gate);
    (void)idle_stats(pool);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

static int has_context(void *context, void *result, const twill_task *task)
{
    (void)result;
    CHECK_PTR(task->context, context);
    return 0;
}

static int submits_beside(void *context, void *result, const twill_task *task)
{
    (void)result, (void)task;
    CHECK_EQ(twill_pool_submit(twill_pool_current(), has_context, context, NULL, NULL), TWILL_OK);
    return 0;
}

/* A task inherits the context of the one that submits it; in no task, the pool's. */
TEST(what_is_submitted_in_each_worker_has_the_context_of_the_pool)
{
    int own = 0;
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 2, .run.context = &own});

    CHECK_EQ(twill_pool_each_worker(pool, submits_beside, &own, (twill_until){0, NULL}), TWILL_OK);
    CHECK_EQ(idle_stats(pool).done, 2);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

/* a task that fills its own queue */
static int breed(void *pool, void *result, const twill_task *task)
{
    (void)result;
    for (int i = 0; i < 50; i++) {
        twill_future future;
        intptr_t number = 0;

        CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_OK);
        CHECK_EQ(twill_pool_submit(pool, number_of, (void *)(intptr_t)i, &future, &with_number),
                 TWILL_OK);
        CHECK_EQ(twill_future_wait_until(future, &number, NULL, task->until), TWILL_OK);
        CHECK_EQ(number, i);
        twill_future_release(future);
    }
    return 0;
}

TEST(a_pool_of_one_with_room_for_one)
{
    for (int workers = 1; workers <= 3; workers++) {
        twill_pool *pool =
            pool_of(&(twill_pool_options){.run.workers = (unsigned)workers, .capacity = 1});
        twill_pool_stats stats;

        atomic_store(&ran, 0);
        for (int i = 0; i < 5; i++)
            CHECK_EQ(twill_pool_submit(pool, breed, pool, NULL, NULL), TWILL_OK);
        stats = idle_stats(pool);
        CHECK_EQ(atomic_load(&ran), 250);
        CHECK_EQ(stats.submitted, 5 + 500);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
        CHECK_EQ(faults_live(), 0);
    }
}

/* ---- order ---- */

static struct notes notes;

static int note_it(void *number, void *result, const twill_task *task)
{
    (void)result, (void)task;
    note(&notes, (int)(intptr_t)number);
    return 0;
}

static void notes_clear(void)
{
    atomic_store(&notes.count, 0);
}

TEST(first_in_first_out_and_last_in_first_out)
{
    for (int newest = 0; newest < 2; newest++) {
        struct gate gate = {0};
        twill_pool *pool = pool_of(
            &(twill_pool_options){.run.workers = 1, .capacity = 3000, .newest_first = newest});

        notes_clear();
        CHECK_EQ(twill_pool_submit(pool, at_gate, &gate, NULL, NULL), TWILL_OK);
        CHECK(gate_inside(&gate, 1));
        for (intptr_t i = 0; i < 2000; i++)
            CHECK_EQ(twill_pool_submit(pool, note_it, (void *)i, NULL,
                                       i % 3 ? NULL : &(twill_submit_options){.drop = on_drop}),
                     TWILL_OK);
        gate_open(&gate);
        (void)idle_stats(pool);
        CHECK_EQ(atomic_load(&notes.count), 2000);
        for (int i = 0; i < 2000; i++)
            CHECK_EQ(atomic_load(&notes.what[i]), newest ? 1999 - i : i);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    }
}

TEST(priorities_and_first_come_within_one)
{
    for (int switched = 0; switched < 2; switched++) {
        struct gate gate = {0};
        twill_pool *pool = pool_of(
            &(twill_pool_options){.run.workers = 1, .capacity = 3000, .ageing = TWILL_FOREVER});
        int last[7], seen = 0;

        notes_clear();
        CHECK_EQ(twill_pool_submit(pool, at_gate, &gate, NULL, NULL), TWILL_OK);
        CHECK(gate_inside(&gate, 1));
        /* in the second round the ring is in use before the first priority comes */
        for (intptr_t i = 0; i < 1000; i++) {
            int priority = switched && i < 300 ? 0 : (int)test_random_below(7) - 3;

            CHECK_EQ(twill_pool_submit(pool, note_it, (void *)(i * 8 + priority + 3), NULL,
                                       &(twill_submit_options){.priority = priority}),
                     TWILL_OK);
        }
        gate_open(&gate);
        (void)idle_stats(pool);
        CHECK_EQ(atomic_load(&notes.count), 1000);
        for (int i = 0; i < 7; i++)
            last[i] = -1;
        seen = 6;
        for (int i = 0; i < 1000; i++) {
            int what = atomic_load(&notes.what[i]);

            CHECK(what % 8 <= seen); /* never a higher one after a lower one */
            seen = what % 8;
            CHECK(what / 8 > last[seen]);
            last[seen] = what / 8;
        }
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    }
}

static void hears_nothing(const twill_task_info *info, const twill_task *task)
{
    (void)info, (void)task;
}

TEST(a_priority_without_memory_asks_nothing_of_plain_tasks)
{
    for (unsigned long k = 1;; k++) { /* heap, record, and what the record is made of */
        struct gate gate = {0};
        /* told of each, so that each goes by the lock */
        twill_pool *pool =
            pool_of(&(twill_pool_options){.run.workers = 1, .on_event = hears_nothing});
        twill_status status;
        notes_clear();
        CHECK_EQ(twill_pool_submit(pool, at_gate, &gate, NULL, NULL), TWILL_OK);
        CHECK(gate_inside(&gate, 1));
        faults_fail_alloc(k);
        status = twill_pool_submit(pool, note_it, (void *)1, NULL,
                                   &(twill_submit_options){.priority = 1});
        faults_fail_alloc_from(status == TWILL_OK ? 0 : 1);
        if (status != TWILL_OK)
            CHECK_EQ(twill_pool_submit_many(pool, note_it, NULL, 100, NULL, NULL, NULL), TWILL_OK);
        faults_fail_alloc_from(0);
        gate_open(&gate);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
        CHECK(status == TWILL_OK || status == TWILL_NO_MEMORY);
        CHECK(status == TWILL_NO_MEMORY || k > 1);
        if (status != TWILL_NO_MEMORY)
            break;
    }
}

TEST(who_waits_long_enough_comes_first)
{
    struct gate gate = {0};
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1, .ageing = TWILL_MS(1)});

    notes_clear();
    CHECK_EQ(twill_pool_submit(pool, at_gate, &gate, NULL, NULL), TWILL_OK);
    CHECK(gate_inside(&gate, 1));
    CHECK_EQ(twill_pool_submit(pool, note_it, (void *)1, NULL, NULL), TWILL_OK);
    (void)twill_sleep(twill_within(TWILL_MS(12)));
    CHECK_EQ(
        twill_pool_submit(pool, note_it, (void *)2, NULL, &(twill_submit_options){.priority = 10}),
        TWILL_OK);
    CHECK_EQ(twill_pool_submit(pool, note_it, (void *)3, NULL,
                               &(twill_submit_options){.priority = 1000000}),
             TWILL_OK);
    CHECK_EQ(twill_pool_submit(pool, note_it, (void *)4, NULL,
                               &(twill_submit_options){.priority = INT_MIN}),
             TWILL_OK);
    CHECK_EQ(twill_pool_submit(pool, note_it, (void *)5, NULL,
                               &(twill_submit_options){.priority = INT_MAX}),
             TWILL_OK);
    gate_open(&gate);
    (void)idle_stats(pool);
    CHECK_EQ(atomic_load(&notes.what[0]), 5);
    CHECK_EQ(atomic_load(&notes.what[1]), 3);
    CHECK_EQ(atomic_load(&notes.what[2]), 1); /* aged by 12 steps */
    CHECK_EQ(atomic_load(&notes.what[3]), 2);
    CHECK_EQ(atomic_load(&notes.what[4]), 4);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

/* So much that no key could hold it: the larger one goes first all the same. */
TEST(a_long_ageing_leaves_priorities_apart)
{
    static const int priorities[] = {2000, INT_MIN, 3000, -5, INT_MAX, 1000, -6, 0};
    static const int order[] = {4, 2, 0, 5, 7, 3, 6, 1};
    struct gate gate = {0};
    twill_pool *pool =
        pool_of(&(twill_pool_options){.run.workers = 1, .ageing = TWILL_FOREVER / 4});

    notes_clear();
    CHECK_EQ(twill_pool_submit(pool, at_gate, &gate, NULL, NULL), TWILL_OK);
    CHECK(gate_inside(&gate, 1));
    for (intptr_t i = 0; i < 8; i++)
        CHECK_EQ(twill_pool_submit(pool, note_it, (void *)i, NULL,
                                   &(twill_submit_options){.priority = priorities[i]}),
                 TWILL_OK);
    gate_open(&gate);
    (void)idle_stats(pool);
    for (int i = 0; i < 8; i++)
        CHECK_EQ(atomic_load(&notes.what[i]), order[i]);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

/* ---- cancel ---- */

TEST(a_queued_task_is_taken_out_of_the_middle)
{
    for (int priorities = 0; priorities < 2; priorities++) {
        struct gate gate = {0};
        twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1, .capacity = 100});
        twill_future futures[100];
        twill_outcome outcome;
        unsigned gone = 0;
        twill_pool_stats stats;

        atomic_store(&ran, 0);
        atomic_store(&dropped, 0);
        CHECK_EQ(twill_pool_submit(pool, at_gate, &gate, NULL, NULL), TWILL_OK);
        CHECK(gate_inside(&gate, 1));
        for (int round = 0; round < 60; round++) { /* holes, and again and again */
            for (int i = 0; i < 100; i++)
                if (round == 0 || i % 7 == round % 7)
                    CHECK_EQ(twill_pool_try_submit(
                                 pool, run_it, NULL, &futures[i],
                                 &(twill_submit_options){.drop = on_drop,
                                                         .priority = priorities ? i % 3 : 0}),
                             TWILL_OK);
            CHECK_EQ(twill_pool_try_submit(pool, run_it, NULL, NULL, NULL), TWILL_FULL);
            for (int i = 0; i < 100; i++)
                if (i % 7 == (round + 1) % 7) {
                    CHECK_EQ(twill_future_cancel(futures[i]), TWILL_OK);
                    CHECK_EQ(atomic_load(&why_dropped), TWILL_CANCELLED);
                    CHECK_EQ(atomic_load(&dropped), ++gone);
                    CHECK_EQ(twill_future_try_wait(futures[i], NULL, &outcome), TWILL_FAILED);
                    CHECK_EQ(outcome.status, TWILL_CANCELLED);
                    CHECK_EQ(outcome.attempts, 0);
                    CHECK_EQ(twill_future_cancel(futures[i]), TWILL_OK); /* twice: nothing */
                    twill_future_release(futures[i]);
                }
        }
        for (int i = 0; i < 100; i++)
            if (i % 7 != 60 % 7)
                twill_future_release(futures[i]);
        gate_open(&gate);
        stats = idle_stats(pool);
        CHECK_EQ(stats.cancelled, gone);
        CHECK_EQ(atomic_load(&ran) + gone + 1, stats.submitted);
        CHECK_EQ(stats.workers, 1);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
        CHECK_EQ(faults_live(), 0);
    }
}

static int until_told(void *gate_, void *result, const twill_task *task)
{
    struct gate *gate = gate_;
    twill_status status;

    (void)result;
    atomic_fetch_add(&gate->inside, 1);
    status = twill_sleep(twill_until_cancelled(task->until.cancel));
    CHECK_EQ(status, TWILL_CANCELLED);
    CHECK(twill_task_cancelled(task));
    switch (atomic_load(&gate->open)) {
    case 1:
        return 0;
    case 2:
        return twill_task_skip(task);
    default:
        return 5;
    }
}

TEST(a_running_task_is_told_by_its_token)
{
    static const twill_status ends[] = {TWILL_OK, TWILL_CANCELLED, TWILL_FAILED};

    for (unsigned how = 0; how < 9; how++) {
        struct gate gate = {0, how % 3 + 1};
        twill_cancel pool_token = {{0}}, own = {{0}};
        twill_pool *pool =
            pool_of(&(twill_pool_options){.run.workers = 1, .run.until.cancel = &pool_token});
        twill_future future;
        twill_outcome outcome;

        CHECK_EQ(twill_pool_submit(pool, until_told, &gate, &future,
                                   &(twill_submit_options){.cancel = how % 2 ? &own : NULL}),
                 TWILL_OK);
        CHECK(gate_inside(&gate, 1));
        if (how < 3)
            CHECK_EQ(twill_future_cancel(future), TWILL_OK);
        else if (how < 6 || !(how % 2))
            twill_cancel_fire(&pool_token, 7);
        else
            twill_cancel_fire(&own, 7);
        (void)twill_future_wait(future, NULL, &outcome);
        CHECK_EQ(outcome.status, ends[how % 3]);
        CHECK_EQ(outcome.code, how % 3 == 2 ? 5 : 0);
        twill_future_release(future);
        (void)idle_stats(pool);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    }
}

static void *opens_late(void *gate)
{
    (void)twill_sleep(twill_within(TWILL_MS(3)));
    gate_open(gate);
    return NULL;
}

/* The only worker does not come back: who waits sees the limit, also if he was there before the
   task began; and a thread from outside does not run it itself, since it could not return then. */
TEST(a_limit_is_seen_by_who_waited_before_the_task_began)
{
    for (int how = 0; how < 3; how++) {
        struct gate first = {0}, deaf = {0};
        twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1});
        twill_submit_options options = {.timeout = TWILL_MS(2)};
        twill_cancel never = {{0}};
        twill_outcome outcome;
        twill_future future;
        pthread_t opener;
        size_t which;

        CHECK_EQ(twill_pool_submit(pool, at_gate, &first, NULL, NULL), TWILL_OK);
        CHECK_EQ(twill_pool_submit(pool, at_gate, &deaf, &future, &options), TWILL_OK);
        pthread_create(&opener, NULL, opens_late, &first);
        if (how == 0)
            CHECK_EQ(twill_future_wait(future, NULL, &outcome), TWILL_FAILED);
        else if (how == 1)
            CHECK_EQ(twill_future_wait_until(future, NULL, &outcome, twill_until_cancelled(&never)),
                     TWILL_FAILED);
        else
            CHECK_EQ(twill_future_wait_any(&future, 1, &which, twill_until_cancelled(&never)),
                     TWILL_OK);
        CHECK_EQ(twill_future_wait(future, NULL, &outcome), TWILL_FAILED);
        CHECK_EQ(outcome.status, TWILL_TIMEOUT);
        CHECK_EQ(outcome.attempts, 1);
        gate_open(&deaf);
        pthread_join(opener, NULL);
        twill_future_release(future);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
        CHECK_EQ(faults_live(), 0);
    }
}

static int told_at_once(void *arg, void *result, const twill_task *task)
{
    (void)result;
    *(int *)arg = twill_cancel_reason(task->until.cancel);
    return twill_task_cancelled(task) ? twill_task_skip(task) : 0;
}

/* A token takes nothing out of the queue: who begins late is told. */
TEST(a_task_begins_after_its_token_has_fired)
{
    for (int own = 0; own < 2; own++) {
        twill_cancel token = {{0}};
        twill_pool *pool = pool_of(
            &(twill_pool_options){.run.workers = 1, .run.until.cancel = own ? NULL : &token});
        twill_submit_options options = {.cancel = own ? &token : NULL, .drop = on_drop};
        twill_outcome outcome;
        twill_future future;
        int reason = 0, plain = 0;

        CHECK_EQ(twill_pool_pause(pool), TWILL_OK);
        CHECK_EQ(twill_pool_submit(pool, told_at_once, &reason, &future, &options), TWILL_OK);
        CHECK_EQ(twill_pool_submit(pool, told_at_once, &plain, NULL, NULL), TWILL_OK);
        twill_cancel_fire(&token, 7);
        CHECK_EQ(twill_pool_resume(pool), TWILL_OK);
        CHECK_EQ(twill_future_wait(future, NULL, &outcome), TWILL_FAILED);
        CHECK_EQ(outcome.status, TWILL_CANCELLED); /* it said so */
        CHECK_EQ(outcome.attempts, 1);
        CHECK_EQ(reason, 7);
        twill_future_release(future);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
        CHECK_EQ(plain, own ? 0 : 7);
        CHECK_EQ(faults_live(), 0);
    }
}

TEST(two_tokens_above_a_task_that_never_runs)
{
    struct gate gate = {0};
    twill_cancel pool_token = {{0}}, own = {{0}};
    twill_pool *pool =
        pool_of(&(twill_pool_options){.run.workers = 1, .run.until.cancel = &pool_token});
    twill_submit_options options = {.cancel = &own};

    CHECK_EQ(twill_pool_submit(pool, at_gate, &gate, NULL, NULL), TWILL_OK);
    CHECK(gate_inside(&gate, 1));
    for (int i = 0; i < 100; i++) { /* the record is used again and again */
        twill_future future;

        CHECK_EQ(twill_pool_submit(pool, run_it, NULL, &future, &options), TWILL_OK);
        CHECK_EQ(twill_future_cancel(future), TWILL_OK);
        twill_future_release(future);
    }
    twill_cancel_fire(&pool_token, 3);
    gate_open(&gate);
    CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, &options), TWILL_OK);
    CHECK_EQ(idle_stats(pool).cancelled, 100);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

/* ---- time ---- */

/* A task that is not due holds up nobody; false: it was due before the other one was there. */
static bool one_later_one_now(twill_ns delay)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1});
    twill_ns now = twill_now();
    twill_future later;
    twill_outcome outcome;
    atomic_uint counter = 0;
    CHECK_EQ(twill_pool_submit(pool, count_up, &counter, &later,
                               &(twill_submit_options){.start_at = now + delay}),
             TWILL_OK);
    CHECK_EQ(twill_pool_submit(pool, count_up, &counter, NULL, NULL), TWILL_OK); /* not held up */
    twill_status early = twill_future_try_wait(later, NULL, NULL);
    bool in_time = twill_now() < now + delay;
    CHECK(!in_time || early == TWILL_EMPTY);
    CHECK_EQ(twill_future_wait(later, NULL, &outcome), TWILL_OK);
    CHECK(outcome.started >= now + delay);
    in_time = in_time && atomic_load(&counter) == 2;
    twill_future_release(later);
    (void)idle_stats(pool);
    CHECK_EQ(atomic_load(&counter), 2);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    return in_time;
}

TEST(not_before)
{
    CHECK(test_in_time(TWILL_MS(20), one_later_one_now));
}

TEST(not_after)
{
    struct gate gate = {0};
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1});
    twill_ns now;
    twill_future later, late, never;
    twill_outcome outcome;
    atomic_uint counter = 0;

    atomic_store(&dropped, 0);
    CHECK_EQ(twill_pool_submit(pool, at_gate, &gate, NULL, NULL), TWILL_OK);
    CHECK(gate_inside(&gate, 1));
    now = twill_now();
    CHECK_EQ(
        twill_pool_submit(pool, count_up, &counter, &late,
                          &(twill_submit_options){.start_by = now + TWILL_MS(5), .drop = on_drop}),
        TWILL_OK);
    CHECK_EQ(twill_pool_submit(pool, count_up, &counter, &never,
                               &(twill_submit_options){.start_at = now + TWILL_SEC(500),
                                                       .start_by = now + TWILL_MS(6),
                                                       .drop = on_drop}),
             TWILL_OK);
    /* the worker is busy: whoever waits sees the time; with a deadline he does not run it */
    CHECK_EQ(twill_future_wait_until(late, NULL, &outcome, twill_within(TWILL_SEC(60))),
             TWILL_FAILED);
    CHECK_EQ(outcome.status, TWILL_TIMEOUT);
    CHECK(outcome.finished >= now + TWILL_MS(5));
    (void)twill_sleep(twill_within(TWILL_MS(3)));
    gate_open(&gate);
    CHECK_EQ(twill_future_wait(never, NULL, &outcome), TWILL_FAILED);
    CHECK_EQ(outcome.status, TWILL_TIMEOUT);
    CHECK_EQ(atomic_load(&dropped), 2);
    CHECK_EQ(atomic_load(&why_dropped), TWILL_TIMEOUT);
    twill_future_release(late);
    twill_future_release(never);
    CHECK_EQ(idle_stats(pool).timed_out, 2);
    CHECK_EQ(atomic_load(&counter), 0);

    CHECK_EQ(twill_pool_submit(pool, count_up, &counter, &never,
                               &(twill_submit_options){.start_at = TWILL_FOREVER}),
             TWILL_OK);
    CHECK_EQ(twill_pool_submit(pool, count_up, &counter, &later, NULL), TWILL_OK);
    CHECK_EQ(twill_future_wait(later, NULL, NULL), TWILL_OK);
    CHECK_EQ(twill_future_try_wait(never, NULL, NULL), TWILL_EMPTY);
    CHECK_EQ(twill_future_cancel(never), TWILL_OK);
    CHECK_EQ(twill_future_wait(never, NULL, &outcome), TWILL_FAILED);
    CHECK_EQ(outcome.status, TWILL_CANCELLED);
    twill_future_release(later);
    twill_future_release(never);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

/* In order, if the first is not due before the last is there. */
static bool all_are_there_before_the_first_is_due(twill_ns delay)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1});
    twill_ns now = twill_now();

    notes_clear();
    for (intptr_t i = 0; i < 50; i++)
        CHECK_EQ(twill_pool_submit(pool, note_it, (void *)((i * 7) % 50), NULL,
                                   &(twill_submit_options){
                                       .start_at = now + delay + (i * 7) % 50 * TWILL_US(100)}),
                 TWILL_OK);
    bool in_time = twill_now() < now + delay;
    (void)idle_stats(pool);
    CHECK(twill_now() >= now + delay + 49 * TWILL_US(100));
    CHECK_EQ(atomic_load(&notes.count), 50);
    for (int i = 0; i < 50 && in_time; i++)
        CHECK_EQ(atomic_load(&notes.what[i]), i);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    return in_time;
}

TEST(delayed_tasks_occupy_nobody_and_come_in_order)
{
    CHECK(test_in_time(TWILL_MS(5), all_are_there_before_the_first_is_due));
}

static int deaf(void *gate, void *result, const twill_task *task)
{
    (void)task;
    CHECK(gate_wait(gate));
    *(intptr_t *)result = 77;
    return 0;
}

/* Room for them in the queue, which holds 4096 at first, is made when they are accepted. */
TEST(a_crowd_of_delayed_tasks_comes_at_once)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1, .capacity = 4200});
    twill_ns at = twill_now() + TWILL_MS(20);
    atomic_uint counter = 0;

    for (int i = 0; i < 4200; i++)
        CHECK_EQ(twill_pool_submit(pool, count_up, &counter, NULL,
                                   &(twill_submit_options){.start_at = at}),
                 TWILL_OK);
    CHECK_EQ(idle_stats(pool).done, 4200);
    CHECK_EQ(atomic_load(&counter), 4200);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

TEST(a_deaf_task_ends_for_those_who_wait_and_its_result_is_discarded)
{
    for (int idle = 0; idle < 2; idle++) {
        struct gate gate = {0};
        twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = idle ? 2 : 1});
        twill_future future;
        twill_outcome outcome;
        intptr_t result = 1;
        twill_ns end = twill_now() + TWILL_SEC(100);

        atomic_store(&discarded, 0);
        CHECK_EQ(twill_pool_submit(pool, deaf, &gate, &future,
                                   &(twill_submit_options){.result_size = sizeof result,
                                                           .timeout = TWILL_MS(5),
                                                           .discard = on_discard}),
                 TWILL_OK);
        CHECK(gate_inside(&gate, 1));
        if (idle) { /* an idle worker sees the time */
            while (twill_future_try_wait(future, NULL, NULL) == TWILL_EMPTY && twill_now() < end)
                (void)twill_sleep(twill_within(TWILL_US(100)));
        }
        CHECK_EQ(twill_future_wait(future, &result, &outcome), TWILL_FAILED);
        CHECK_EQ(outcome.status, TWILL_TIMEOUT);
        CHECK_EQ(result, 1);
        CHECK_EQ(atomic_load(&discarded), 0);
        CHECK_EQ(stats_of(pool).busy, 1);
        gate_open(&gate);
        CHECK_EQ(idle_stats(pool).timed_out, 1);
        CHECK_EQ(atomic_load(&discarded), 1);
        twill_future_release(future);
        CHECK_EQ(atomic_load(&discarded), 1);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
        CHECK_EQ(faults_live(), 0);
    }
}

static int sleep_out(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result;
    CHECK(task->until.deadline > 0);
    (void)twill_sleep(task->until);
    CHECK(twill_task_cancelled(task));
    return 0;
}

TEST(a_task_that_keeps_its_timeout_is_late_all_the_same)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1});
    twill_future future;
    twill_outcome outcome;

    CHECK_EQ(twill_pool_submit(pool, sleep_out, NULL, &future,
                               &(twill_submit_options){.timeout = TWILL_MS(3)}),
             TWILL_OK);
    CHECK_EQ(twill_future_wait(future, NULL, &outcome), TWILL_FAILED);
    CHECK_EQ(outcome.status, TWILL_TIMEOUT);
    twill_future_release(future);
    CHECK_EQ(idle_stats(pool).timed_out, 1);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

/* ---- what becomes of results ---- */

TEST(a_result_that_nobody_takes_is_discarded_once)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1});
    twill_submit_options options = {.result_size = sizeof(intptr_t), .discard = on_discard};
    twill_future future;
    intptr_t result;

    atomic_store(&discarded, 0);
    CHECK_EQ(twill_pool_submit(pool, number_of, NULL, NULL, &options), TWILL_OK);
    (void)idle_stats(pool);
    CHECK_EQ(atomic_load(&discarded), 1); /* nobody asked */
    CHECK_EQ(twill_pool_submit(pool, number_of, NULL, &future, &options), TWILL_OK);
    CHECK_EQ(twill_future_wait(future, NULL, NULL), TWILL_OK);
    CHECK_EQ(atomic_load(&discarded), 1);
    twill_future_release(future);
    CHECK_EQ(atomic_load(&discarded), 2); /* asked, and not taken */
    CHECK_EQ(twill_pool_submit(pool, number_of, NULL, &future, &options), TWILL_OK);
    CHECK_EQ(twill_future_wait(future, &result, NULL), TWILL_OK);
    twill_future_release(future);
    CHECK_EQ(atomic_load(&discarded), 2); /* taken */
    CHECK_EQ(twill_pool_submit(pool, number_of, NULL, &future, &options), TWILL_OK);
    twill_future_release(future);
    (void)idle_stats(pool);
    CHECK_EQ(atomic_load(&discarded), 3); /* released while it ran, or before */
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

static int big(void *arg, void *result, const twill_task *task)
{
    const unsigned char *bytes = result;

    (void)task;
    for (size_t i = 0; i < 5000; i++)
        CHECK_EQ(bytes[i], 0);
    memset(result, (int)(intptr_t)arg, 5000);
    return 0;
}

TEST(large_results_are_zeroed_every_time)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 2});
    unsigned char bytes[5000];
    unsigned long before = 0;

    for (int i = 0; i < 300; i++) {
        twill_future future;

        CHECK_EQ(twill_pool_submit(pool, big, (void *)(intptr_t)(i % 200 + 1), &future,
                                   &(twill_submit_options){.result_size = 5000}),
                 TWILL_OK);
        CHECK_EQ(twill_future_wait(future, bytes, NULL), TWILL_OK);
        CHECK_EQ(bytes[0], i % 200 + 1);
        CHECK_EQ(bytes[4999], i % 200 + 1);
        twill_future_release(future);
        if (i == 100)
            before = faults_allocs();
    }
    CHECK_EQ(faults_allocs(), before); /* steady: nothing is allocated */
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

TEST(a_steady_pool_allocates_nothing)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 2});
    atomic_uint counter = 0;
    unsigned long before = 0;

    for (int round = 0; round < 40; round++) {
        twill_future futures[100];

        if (round == 10)
            before = faults_allocs();
        for (int i = 0; i < 100; i++) {
            CHECK_EQ(twill_pool_submit(pool, count_up, &counter, &futures[i], NULL), TWILL_OK);
            CHECK_EQ(twill_pool_submit(pool, count_up, &counter, NULL, NULL), TWILL_OK);
        }
        CHECK_EQ(twill_future_wait_all(futures, 100, twill_within(TWILL_SEC(60))), TWILL_OK);
        for (int i = 0; i < 100; i++)
            twill_future_release(futures[i]);
    }
    CHECK_EQ(faults_allocs(), before);
    (void)idle_stats(pool);
    CHECK_EQ(atomic_load(&counter), 8000);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

/* ---- on_done, context ---- */

struct done {
    atomic_uint count;
    twill_outcome outcome;
    intptr_t result;
    bool had_result;
    void *context;
};

static void on_done(const twill_outcome *outcome, void *result, const twill_task *task)
{
    struct done *done = outcome->key;

    done->outcome = *outcome;
    done->had_result = result != NULL;
    if (result)
        done->result = *(intptr_t *)result;
    done->context = task->context;
    atomic_fetch_add(&done->count, 1);
}

TEST(on_done_comes_before_the_future)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 2});

    for (int i = 0; i < 500; i++) {
        struct done done = {0};
        twill_future future;

        CHECK_EQ(twill_pool_submit(pool, i % 2 ? number_of : fail_with, (void *)5, &future,
                                   &(twill_submit_options){.result_size = sizeof(intptr_t),
                                                           .key = &done,
                                                           .context = &future,
                                                           .on_done = on_done}),
                 TWILL_OK);
        (void)twill_future_wait(future, NULL, NULL);
        CHECK_EQ(atomic_load(&done.count), 1);
        CHECK_EQ(done.outcome.status, i % 2 ? TWILL_OK : TWILL_FAILED);
        CHECK(done.had_result);
        CHECK_EQ(done.result, i % 2 ? 5 : 0);
        CHECK_PTR(done.context, &future);
        twill_future_release(future);
    }
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

static int ask_context(void *arg, void *result, const twill_task *task)
{
    (void)arg;
    *(void **)result = task->context;
    return 0;
}

static int child_context(void *pool, void *result, const twill_task *task)
{
    twill_future future;

    CHECK_EQ(twill_pool_submit(pool, ask_context, NULL, &future,
                               &(twill_submit_options){.result_size = sizeof(void *)}),
             TWILL_OK);
    CHECK_EQ(twill_future_wait(future, result, NULL), TWILL_OK);
    twill_future_release(future);
    CHECK_PTR(twill_pool_current(), pool);
    /* on a worker, or on the thread that waits for it */
    CHECK(task->worker == UINT_MAX || (task->workers == 2 && task->worker < 2));
    return 0;
}

TEST(context_is_inherited)
{
    int mine, pools;
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 2, .run.context = &pools});

    for (int i = 0; i < 40; i++) {
        twill_future future;
        void *seen = NULL;
        void *own = i % 2 ? &mine : NULL;

        CHECK_EQ(
            twill_pool_submit(pool, i % 4 < 2 ? ask_context : child_context, pool, &future,
                              &(twill_submit_options){.result_size = sizeof seen, .context = own}),
            TWILL_OK);
        CHECK_EQ(twill_future_wait(future, &seen, NULL), TWILL_OK);
        CHECK_PTR(seen, own ? own : &pools);
        twill_future_release(future);
    }
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

/* ---- waiting ---- */

struct wait_for {
    twill_future *future;
    twill_status status;
    twill_until until;
    struct gate gate;
};

static int wait_for_it(void *arg, void *result, const twill_task *task)
{
    struct wait_for *wait = arg;

    (void)result, (void)task;
    CHECK(gate_wait(&wait->gate));
    wait->status = twill_future_wait_until(*wait->future, NULL, NULL, wait->until);
    return 0;
}

/* In a pool of one it would have to run the task itself. */
static int waits_too_late(void *pool, void *result, const twill_task *task)
{
    atomic_uint counter = 0;
    twill_cancel token = {0};
    twill_future future;

    (void)result, (void)task;
    CHECK_EQ(twill_pool_submit(pool, count_up, &counter, &future, NULL), TWILL_OK);
    CHECK_EQ(twill_future_wait_until(future, NULL, NULL, (twill_until){1, NULL}), TWILL_TIMEOUT);
    twill_cancel_fire(&token, 1);
    CHECK_EQ(twill_future_wait_until(future, NULL, NULL, twill_until_cancelled(&token)),
             TWILL_CANCELLED);
    CHECK_EQ(atomic_load(&counter), 0);
    CHECK_EQ(twill_future_wait(future, NULL, NULL), TWILL_OK);
    CHECK_EQ(atomic_load(&counter), 1);
    twill_future_release(future);
    return 0;
}

TEST(a_wait_that_is_over_runs_nothing)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1});

    CHECK_EQ(twill_pool_submit(pool, waits_too_late, pool, NULL, NULL), TWILL_OK);
    CHECK_EQ(idle_stats(pool).done, 2);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

TEST(waiting_for_oneself_is_a_deadlock)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 2});

    for (int timed = 0; timed < 2; timed++) {
        struct wait_for wait = {.until = timed ? twill_within(TWILL_SEC(60)) : (twill_until){0}};
        twill_future future;

        wait.future = &future;
        CHECK_EQ(twill_pool_submit(pool, wait_for_it, &wait, &future, NULL), TWILL_OK);
        gate_open(&wait.gate);
        CHECK_EQ(twill_future_wait(future, NULL, NULL), TWILL_OK);
        CHECK_EQ(wait.status, TWILL_DEADLOCK);
        twill_future_release(future);
    }
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

TEST(a_circle_of_waits_is_a_deadlock_in_one_of_them)
{
    for (int round = 0; round < 100; round++) {
        enum { RING = 3 };
        twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = RING});
        struct wait_for waits[RING];
        twill_future futures[RING];
        int deadlocks = 0;

        memset(waits, 0, sizeof waits);
        for (int i = 0; i < RING; i++)
            waits[i].future = &futures[(i + 1) % RING];
        for (int i = 0; i < RING; i++)
            CHECK_EQ(twill_pool_submit(pool, wait_for_it, &waits[i], &futures[i], NULL), TWILL_OK);
        for (int i = 0; i < RING; i++)
            CHECK(gate_inside(&waits[i].gate, 1));
        for (int i = 0; i < RING; i++)
            gate_open(&waits[i].gate);
        for (int i = 0; i < RING; i++)
            CHECK_EQ(twill_future_wait(futures[i], NULL, NULL), TWILL_OK);
        for (int i = 0; i < RING; i++) {
            deadlocks += waits[i].status == TWILL_DEADLOCK;
            CHECK(waits[i].status == TWILL_DEADLOCK || waits[i].status == TWILL_OK);
            twill_future_release(futures[i]);
        }
        CHECK_EQ(deadlocks, 1);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    }
}

struct through_map {
    twill_pool *pool;
    twill_future *future;
    atomic_uint deadlocks;
};

static int wait_in_item(const void *in, void *out, const twill_task *task)
{
    struct through_map *map = task->context;

    (void)in;
    *(int *)out = 0;
    if (task->index == 0) { /* so that helpers come in */
        (void)twill_sleep(twill_within(TWILL_US(200)));
    } else if (twill_future_wait(*map->future, NULL, NULL) == TWILL_DEADLOCK) {
        atomic_fetch_add(&map->deadlocks, 1);
    }
    return 0;
}

static int map_that_waits(void *arg, void *result, const twill_task *task)
{
    struct through_map *map = arg;
    int items[6] = {0}, out[6];

    (void)result, (void)task;
    return (int)twill_parallel_map(
        items, sizeof *items, out, sizeof *out, 6, wait_in_item,
        &(twill_parallel_options){.run.pool = map->pool, .run.workers = 3, .run.context = map});
}

TEST(a_circle_through_a_parallel_call_is_a_deadlock)
{
    for (int round = 0; round < 50; round++) {
        twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 3});
        twill_future future;
        struct through_map map = {.pool = pool, .future = &future};

        CHECK_EQ(twill_pool_submit(pool, map_that_waits, &map, &future, NULL), TWILL_OK);
        CHECK_EQ(twill_future_wait(future, NULL, NULL), TWILL_OK);
        CHECK_EQ(atomic_load(&map.deadlocks), 5);
        twill_future_release(future);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    }
}

static int tree(void *depth_, void *result, const twill_task *task)
{
    intptr_t depth = (intptr_t)depth_, sum = 1;

    if (depth > 0) {
        twill_future children[2];
        intptr_t one;

        for (int i = 0; i < 2; i++)
            CHECK_EQ(twill_pool_submit(twill_pool_current(), tree, (void *)(depth - 1),
                                       &children[i], &with_number),
                     TWILL_OK);
        CHECK_EQ(twill_future_wait_all(children, 2, task->until), TWILL_OK);
        for (int i = 0; i < 2; i++) {
            CHECK_EQ(twill_future_wait(children[i], &one, NULL), TWILL_OK);
            twill_future_release(children[i]);
            sum += one;
        }
    }
    *(intptr_t *)result = sum;
    return 0;
}

TEST(a_tree_of_waits_in_pools_of_any_size)
{
    for (unsigned workers = 1; workers <= 4; workers++) {
        twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = workers, .capacity = 7});
        twill_future future;
        intptr_t sum = 0;

        CHECK_EQ(twill_pool_submit(pool, tree, (void *)9, &future, &with_number), TWILL_OK);
        CHECK_EQ(twill_future_wait(future, &sum, NULL), TWILL_OK);
        CHECK_EQ(sum, 1023);
        twill_future_release(future);
        CHECK_EQ(idle_stats(pool).done, 1023);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
        CHECK_EQ(faults_live(), 0);
    }
}

static int any_child(void *pool, void *result, const twill_task *task)
{
    twill_future children[20];
    size_t which = 99;

    for (intptr_t i = 0; i < 20; i++)
        CHECK_EQ(twill_pool_submit(pool, number_of, (void *)i, &children[i], &with_number),
                 TWILL_OK);
    CHECK_EQ(twill_future_wait_any(children, 20, &which, task->until), TWILL_OK);
    CHECK(which < 20);
    CHECK_EQ(twill_future_wait(children[which], result, NULL), TWILL_OK);
    for (int i = 0; i < 20; i++)
        twill_future_release(children[i]);
    return 0;
}

TEST(any_of_many_in_a_pool_of_one)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1});

    for (int i = 0; i < 50; i++) {
        twill_future future;
        intptr_t number = -1;

        CHECK_EQ(twill_pool_submit(pool, any_child, pool, &future, &with_number), TWILL_OK);
        CHECK_EQ(twill_future_wait(future, &number, NULL), TWILL_OK);
        CHECK(number >= 0 && number < 20);
        twill_future_release(future);
    }
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

/* ---- many at once ---- */

TEST(submit_many)
{
    enum { N = 300 };
    static void *args[N];
    static twill_future futures[N];
    size_t accepted = 0;

    for (intptr_t i = 0; i < N; i++)
        args[i] = (void *)i;
    for (size_t capacity = 1; capacity < 500; capacity *= 5) {
        twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 2, .capacity = capacity});
        intptr_t number;

        CHECK_EQ(twill_pool_submit_many(pool, number_of, args, N, futures, &accepted, &with_number),
                 TWILL_OK);
        CHECK_EQ(accepted, N);
        for (intptr_t i = 0; i < N; i++) {
            CHECK_EQ(twill_future_wait(futures[i], &number, NULL), TWILL_OK);
            CHECK_EQ(number, i);
            twill_future_release(futures[i]);
        }
        CHECK_EQ(twill_pool_submit_many(pool, run_it, NULL, N, NULL, NULL, NULL), TWILL_OK);
        CHECK_EQ(idle_stats(pool).done, 2 * N);
        CHECK_EQ(twill_pool_close(pool), TWILL_OK);
        CHECK_EQ(twill_pool_submit_many(pool, run_it, NULL, N, NULL, &accepted, NULL),
                 TWILL_CLOSED);
        CHECK_EQ(accepted, 0);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
        CHECK_EQ(faults_live(), 0);
    }
    {
        struct gate gate = {0};
        twill_pool *pool = pool_of(&(twill_pool_options){
            .run.workers = 1, .capacity = 10, .overflow = TWILL_OVERFLOW_REJECT});

        CHECK_EQ(twill_pool_submit(pool, at_gate, &gate, NULL, NULL), TWILL_OK);
        CHECK(gate_inside(&gate, 1));
        CHECK_EQ(twill_pool_submit_many(pool, run_it, NULL, N, NULL, &accepted, NULL), TWILL_FULL);
        CHECK_EQ(accepted, 10);
        gate_open(&gate);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    }
}

struct storm {
    pthread_t thread;
    twill_pool *pool;
    uint64_t seed;
    unsigned accepted;
};

static atomic_uint storm_ran, storm_dropped, storm_done;

static int storm_task(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result;
    atomic_fetch_add(&storm_ran, 1);
    if (task->index % 64 == 5)
        (void)twill_sleep(twill_within(TWILL_US(50)));
    return task->index % 5 == 0;
}

static void storm_drop(void *item, twill_status why, const twill_task *task)
{
    (void)item, (void)why, (void)task;
    atomic_fetch_add(&storm_dropped, 1);
}

static void storm_on_done(const twill_outcome *outcome, void *result, const twill_task *task)
{
    (void)outcome, (void)result, (void)task;
    atomic_fetch_add(&storm_done, 1);
}

static void *storm_main(void *storm_)
{
    struct storm *storm = storm_;

    for (int i = 0; i < 600; i++) {
        twill_future future;
        twill_submit_options options = {.drop = storm_drop, .on_done = storm_on_done};
        uint64_t dice = storm->seed = storm->seed * 6364136223846793005u + 1442695040888963407u;
        twill_status status;

        dice >>= 33;
        options.priority = dice % 11 == 0 ? (int)(dice % 5) : 0;
        options.start_at = dice % 13 == 0 ? twill_now() + TWILL_US(100) : 0;
        options.start_by = dice % 17 == 0 ? twill_now() + TWILL_US(150) : 0;
        options.timeout = dice % 19 == 0 ? TWILL_US(40) : 0;
        status = twill_pool_submit(storm->pool, storm_task, NULL, &future, &options);
        CHECK(status == TWILL_OK || status == TWILL_FULL || status == TWILL_DROPPED);
        if (status == TWILL_FULL)
            continue;
        storm->accepted++;
        if (dice % 3 == 0)
            (void)twill_future_cancel(future);
        if (dice % 7 == 0)
            (void)twill_future_wait_until(future, NULL, NULL, twill_within(TWILL_US(30)));
        if (dice % 23 == 0)
            (void)twill_future_wait(future, NULL, NULL);
        twill_future_release(future);
    }
    return NULL;
}

TEST(a_storm_of_everything_leaves_the_books_balanced)
{
    for (int overflow = 0; overflow <= TWILL_OVERFLOW_CALLER_RUNS; overflow++) {
        twill_pool *pool = pool_of(&(twill_pool_options){
            .run.workers = 3, .capacity = 8, .overflow = (twill_overflow)overflow});
        struct storm storms[4];
        unsigned accepted = 0;
        twill_pool_stats stats;

        atomic_store(&storm_ran, 0);
        atomic_store(&storm_dropped, 0);
        atomic_store(&storm_done, 0);
        for (int i = 0; i < 4; i++) {
            storms[i] = (struct storm){.pool = pool, .seed = test_random()};
            pthread_create(&storms[i].thread, NULL, storm_main, &storms[i]);
        }
        for (int i = 0; i < 4; i++) {
            pthread_join(storms[i].thread, NULL);
            accepted += storms[i].accepted;
        }
        stats = idle_stats(pool);
        CHECK_EQ(stats.submitted, accepted);
        CHECK_EQ(atomic_load(&storm_ran) + atomic_load(&storm_dropped), accepted);
        CHECK_EQ(atomic_load(&storm_done), accepted);
        CHECK_EQ(stats.started, atomic_load(&storm_ran));
        CHECK_EQ(stats.queued, 0);
        CHECK(stats.queued_peak <= 8);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
        CHECK_EQ(faults_live(), 0);
    }
}

/* ---- events and levels ---- */

struct history {
    atomic_uint count[3];
    char text[64][8];
    atomic_uint length[64];
};

static struct history history;

static void on_event(const twill_task_info *info, const twill_task *task)
{
    static const char names[] = "QSEKR";
    unsigned at;

    (void)task;
    CHECK(info->when > 0);
    if (info->index == SIZE_MAX) {
        CHECK_EQ(info->event, TWILL_EVENT_REFUSED);
        CHECK_EQ(info->status, TWILL_FULL);
        atomic_fetch_add(&history.count[2], 1);
        return;
    }
    at = atomic_fetch_add(&history.length[info->index], 1);
    history.text[info->index][at] = info->event == TWILL_EVENT_ENDED && info->status != TWILL_OK
                                        ? (info->status == TWILL_FAILED ? 'F' : 'X')
                                        : names[info->event];
}

TEST(events_tell_each_task_from_its_beginning_to_its_end)
{
    struct gate gate = {0};
    twill_pool *pool = pool_of(&(twill_pool_options){
        .run.workers = 1, .capacity = 20, .overflow = TWILL_OVERFLOW_REJECT, .on_event = on_event});
    twill_future future;

    memset(&history, 0, sizeof history);
    CHECK_EQ(twill_pool_submit(pool, at_gate, &gate, NULL, NULL), TWILL_OK);
    CHECK(gate_inside(&gate, 1));
    for (int i = 0; i < 19; i++)
        CHECK_EQ(twill_pool_submit(pool, i % 2 ? fail_with : run_it, (void *)1, NULL,
                                   i % 3 ? NULL : &with_number),
                 TWILL_OK);
    CHECK_EQ(twill_pool_submit(pool, run_it, NULL, &future, NULL), TWILL_OK);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_FULL);
    CHECK_EQ(twill_future_cancel(future), TWILL_OK);
    twill_future_release(future);
    gate_open(&gate);
    (void)idle_stats(pool);
    CHECK_EQ(atomic_load(&history.count[2]), 3);
    for (int i = 0; i < 20; i++)
        CHECK_STR(history.text[i], i && i % 2 == 0 ? "QSF" : "QSE");
    CHECK_STR(history.text[20], "QX");
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

TEST(who_waits_runs_the_next_task_himself)
{
    struct gate gate = {0};
    atomic_uint counter = 0;
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1});
    twill_future futures[4];
    intptr_t result = 0;
    twill_outcome outcome;

    this_thread = pthread_self();
    CHECK_EQ(twill_pool_submit(pool, at_gate, &gate, NULL, NULL), TWILL_OK);
    CHECK(gate_inside(&gate, 1));
    CHECK_EQ(twill_pool_submit(pool, where_am_i, &counter, &futures[0], NULL), TWILL_OK);
    CHECK_EQ(twill_pool_submit(pool, number_of, (void *)4, &futures[1], &with_number), TWILL_OK);
    CHECK_EQ(twill_pool_submit(pool, fail_with, (void *)5, &futures[2], NULL), TWILL_OK);
    CHECK_EQ(twill_pool_submit(pool, where_am_i, &counter, &futures[3], NULL), TWILL_OK);
    CHECK_EQ(twill_future_wait(futures[0], NULL, NULL), TWILL_OK);
    CHECK_EQ(twill_future_wait(futures[1], &result, &outcome), TWILL_OK);
    CHECK_EQ(result, 4);
    CHECK_EQ(outcome.worker, UINT_MAX);
    CHECK(outcome.started >= outcome.queued && outcome.finished >= outcome.started);
    CHECK_EQ(twill_future_wait(futures[2], NULL, &outcome), TWILL_FAILED);
    CHECK_EQ(outcome.code, 5);
    CHECK_EQ(twill_future_wait(futures[3], NULL, NULL), TWILL_OK);
    CHECK_EQ(atomic_load(&counter), 2);
    CHECK_EQ(stats_of(pool).started, 5);
    gate_open(&gate);
    CHECK_EQ(idle_stats(pool).done, 4); /* theirs are counted, or this would not end */
    for (size_t i = 0; i < 4; i++)
        twill_future_release(futures[i]);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

TEST(a_large_queue_grows_while_the_worker_is_away)
{
    struct gate gate = {0};
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1, .capacity = 9000});

    atomic_store(&ran, 0);
    for (int i = 0; i < 64; i++) /* so that tasks count as quick */
        CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_OK);
    CHECK_EQ(twill_pool_wait_idle(pool), TWILL_OK);
    CHECK_EQ(twill_pool_submit(pool, at_gate, &gate, NULL, NULL), TWILL_OK);
    CHECK(gate_inside(&gate, 1));
    for (int i = 0; i < 9000; i++) /* none of them waits for the worker */
        CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_OK);
    CHECK_EQ(stats_of(pool).queued, 9000);
    gate_open(&gate);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(atomic_load(&ran), 9064);
}

static atomic_uint highs, lows, tangled;

static void on_level(bool high, size_t length, const twill_task *task)
{
    unsigned all = atomic_load(&highs) + atomic_load(&lows);

    (void)length;
    CHECK_EQ(task->worker, UINT_MAX);
    if (high != (all % 2 == 0))
        atomic_fetch_add(&tangled, 1);
    atomic_fetch_add(high ? &highs : &lows, 1);
}

TEST(the_level_is_told_at_its_edges)
{
    twill_pool *pool = pool_of(&(twill_pool_options){
        .run.workers = 2, .high_mark = 9, .low_mark = 4, .on_level = on_level});

    atomic_store(&highs, 0);
    atomic_store(&lows, 0);
    atomic_store(&tangled, 0);
    for (unsigned round = 1; round <= 3; round++) {
        CHECK_EQ(twill_pool_pause(pool), TWILL_OK);
        (void)twill_sleep(twill_within(TWILL_US(100)));
        for (int i = 0; i < 8; i++)
            CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_OK);
        CHECK_EQ(atomic_load(&highs), round - 1);
        for (int i = 0; i < 8; i++)
            CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_OK);
        CHECK_EQ(atomic_load(&highs), round);
        CHECK_EQ(atomic_load(&lows), round - 1);
        CHECK_EQ(twill_pool_resume(pool), TWILL_OK);
        (void)idle_stats(pool);
    }
    CHECK_EQ(atomic_load(&highs), 3);
    CHECK_EQ(atomic_load(&lows), 3);
    /* and by those that time takes out of the queue */
    CHECK_EQ(twill_pool_pause(pool), TWILL_OK);
    for (int i = 0; i < 9; i++)
        CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL,
                                   &(twill_submit_options){.start_by = twill_now() + TWILL_MS(5)}),
                 TWILL_OK);
    CHECK_EQ(idle_stats(pool).timed_out, 9);
    CHECK_EQ(atomic_load(&lows), atomic_load(&highs));
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(atomic_load(&tangled), 0);
}

/* ---- run_all ---- */

static int square(const void *in, void *out, const twill_task *task)
{
    int64_t number = *(const int64_t *)in;

    (void)task;
    *(int64_t *)out = number * number;
    return number % 10 == 7 ? (int)number : 0;
}

TEST(run_all_gives_every_outcome_in_order)
{
    enum { N = 500 };
    static int64_t numbers[N], results[N];
    static twill_outcome outcomes[N];
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 2});
    twill_report report;

    for (int i = 0; i < N; i++)
        numbers[i] = i;
    for (int round = 0; round < 3; round++) {
        twill_run_all_options options = {.run.report = &report};

        if (round == 1)
            options.run.workers = 4;
        if (round == 2)
            options.run.pool = pool;
        CHECK_EQ(twill_run_all(numbers, sizeof *numbers, results, sizeof *results, N, square,
                               outcomes, &options),
                 TWILL_FAILED);
        CHECK_EQ(report.total, N);
        CHECK_EQ(report.failed, N / 10);
        CHECK_EQ(report.done, N - N / 10);
        CHECK_EQ(report.first_error.index, 7);
        for (int i = 0; i < N; i++) {
            CHECK_EQ(results[i], (int64_t)i * i);
            CHECK_EQ(outcomes[i].index, i);
            CHECK_EQ(outcomes[i].status, i % 10 == 7 ? TWILL_FAILED : TWILL_OK);
            CHECK_EQ(outcomes[i].code, i % 10 == 7 ? i : 0);
            CHECK(outcomes[i].queued > 0 && outcomes[i].started >= outcomes[i].queued &&
                  outcomes[i].finished >= outcomes[i].started);
        }
    }
    CHECK_EQ(twill_run_all(NULL, 0, NULL, 0, 0, square, NULL, NULL), TWILL_OK);
    CHECK_EQ(twill_run_all(numbers, sizeof *numbers, results, sizeof *results, 3, NULL, NULL, NULL),
             TWILL_INVALID);
    CHECK_EQ(twill_run_all(NULL, 8, results, 8, 3, square, NULL, NULL), TWILL_INVALID);
    CHECK_EQ(twill_run_all(numbers, 0, results, 8, 3, square, NULL, NULL), TWILL_INVALID);
    CHECK_EQ(twill_run_all(numbers, 8, NULL, 8, 3, square, NULL, NULL), TWILL_INVALID);
    CHECK_EQ(twill_run_all(numbers, 8, results, 0, 3, square, NULL, NULL), TWILL_INVALID);
    CHECK_EQ(twill_run_all(numbers, 8, results, 8, 3, square, NULL,
                           &(twill_run_all_options){.timeout = -1}),
             TWILL_INVALID);
    CHECK_EQ(twill_run_all(numbers, 8, results, SIZE_MAX / 2, 3, square, NULL, NULL),
             TWILL_TOO_BIG);
    CHECK_EQ(twill_run_all(numbers, 1, results, 1, SIZE_MAX / 8, square, outcomes, NULL),
             TWILL_TOO_BIG);
    CHECK_EQ(twill_run_all(numbers, 8, results, 8, 3, square, outcomes,
                           &(twill_run_all_options){.timeout = TWILL_FOREVER,
                                                    .run.on_error = TWILL_ON_ERROR_LOWEST,
                                                    .run.until = twill_within(TWILL_SEC(60))}),
             TWILL_OK);
    CHECK_EQ(results[2], 4);
    CHECK_EQ(twill_run_all(numbers, SIZE_MAX / 2, results, 8, 3, square, NULL, NULL),
             TWILL_TOO_BIG);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

static int slow_or_lost(const void *in, void *out, const twill_task *task)
{
    (void)out;
    if (*(const int *)in == 1)
        (void)twill_sleep(task->until);
    if (*(const int *)in == 2)
        pthread_exit(NULL);
    if (*(const int *)in == 3)
        return twill_task_skip(task);
    return 0;
}

static void *run_all_somewhere(void *arg)
{
    int tasks[12] = {0, 1, 3, 2, 0, 1, 0, 0, 3, 2, 0, 0};
    twill_outcome *outcomes = arg;

    (void)twill_run_all(tasks, sizeof *tasks, NULL, 0, 12, slow_or_lost, outcomes,
                        &(twill_run_all_options){.run.workers = 4, .timeout = TWILL_MS(20)});
    return NULL;
}

TEST(run_all_survives_tasks_that_are_late_or_end_their_thread)
{
    static const twill_status ends[4] = {TWILL_OK, TWILL_TIMEOUT, TWILL_LOST, TWILL_CANCELLED};
    static const int tasks[12] = {0, 1, 3, 2, 0, 1, 0, 0, 3, 2, 0, 0};

    for (int round = 0; round < 20; round++) {
        static twill_outcome outcomes[12];
        pthread_t thread;

        /* the caller may be the one whose thread ends */
        pthread_create(&thread, NULL, run_all_somewhere, outcomes);
        pthread_join(thread, NULL);
        for (int i = 0; i < 12; i++)
            if (outcomes[i].attempts)
                CHECK(outcomes[i].status == ends[tasks[i]] ||
                      (outcomes[i].status == TWILL_TIMEOUT && /* held up on a busy machine */
                       outcomes[i].finished - outcomes[i].started >= TWILL_MS(20)));
    }
    {
        twill_cancel token = {{0}};
        int one[4] = {0};
        twill_outcome outcomes[4];

        twill_cancel_fire(&token, 1);
        CHECK_EQ(twill_run_all(one, sizeof *one, NULL, 0, 4, slow_or_lost, outcomes,
                               &(twill_run_all_options){.run.until.cancel = &token}),
                 TWILL_CANCELLED);
        for (int i = 0; i < 4; i++)
            CHECK_EQ(outcomes[i].status, TWILL_CANCELLED);
        CHECK_EQ(twill_run_all(one, sizeof *one, NULL, 0, 4, slow_or_lost, outcomes,
                               &(twill_run_all_options){.run.until.deadline = 1}),
                 TWILL_TIMEOUT);
        for (int i = 0; i < 4; i++)
            CHECK_EQ(outcomes[i].status, TWILL_TIMEOUT);
    }
}

/* ---- cost ---- */

static double cpu_seconds(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* Once its tasks are over and who looked for more has gone to sleep. */
static bool next_to_no_cpu(twill_ns ns, bool paused)
{
    twill_pool *pool = pool_of(
        &(twill_pool_options){.run.workers = 4, .max_workers = 8, .stuck_after = TWILL_SEC(5)});
    double before, used;

    if (paused)
        CHECK_EQ(twill_pool_pause(pool), TWILL_OK);
    for (int i = 0; i < 10; i++)
        CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_OK);
    (void)twill_sleep(twill_within(TWILL_MS(20)));
    before = cpu_seconds();
    (void)twill_sleep(twill_within(ns));
    used = cpu_seconds() - before;
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    return used < (double)ns / 1e9 / 3;
}

static bool idle_it_uses_no_cpu(twill_ns ns)
{
    return next_to_no_cpu(ns, false);
}

static bool paused_it_uses_no_cpu(twill_ns ns)
{
    return next_to_no_cpu(ns, true);
}

TEST(an_idle_or_paused_pool_uses_no_cpu)
{
    CHECK(test_in_time(TWILL_MS(150), idle_it_uses_no_cpu));
    CHECK(test_in_time(TWILL_MS(150), paused_it_uses_no_cpu));
}

static int nap_or_not(void *naps, void *result, const twill_task *task)
{
    (void)result, (void)task;
    if (naps)
        (void)twill_sleep(twill_within(TWILL_MS(2)));
    return 0;
}

/* Four of them find room, and wait for the other thirty, which this worker runs itself: the last
   one naps. */
static int submit_more_than_there_is_room_for(void *pool, void *result, const twill_task *task)
{
    void *args[34] = {NULL};
    (void)result, (void)task;
    args[33] = pool;
    CHECK_EQ(twill_pool_submit_many(pool, nap_or_not, args, 34, NULL, NULL, NULL), TWILL_OK);
    return 0;
}

TEST(what_runs_at_once_has_not_waited)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1, .capacity = 4});
    twill_pool_stats stats;

    CHECK_EQ(twill_pool_submit(pool, submit_more_than_there_is_room_for, pool, NULL, NULL),
             TWILL_OK);
    stats = idle_stats(pool);
    CHECK_EQ(stats.caller_ran, 30);
    CHECK(stats.wait_p50 >= TWILL_MS(2));
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

TEST(statistics_of_time)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 2});
    twill_pool_stats stats;

    CHECK_EQ(twill_pool_pause(pool), TWILL_OK);
    for (int i = 0; i < 20; i++)
        CHECK_EQ(twill_pool_submit(pool, sleep_out, NULL, NULL,
                                   &(twill_submit_options){.timeout = TWILL_MS(1)}),
                 TWILL_OK);
    (void)twill_sleep(twill_within(TWILL_MS(1))); /* so each of them waits */
    CHECK_EQ(twill_pool_resume(pool), TWILL_OK);
    stats = idle_stats(pool);
    CHECK(stats.run_p50 >= TWILL_MS(1) && stats.run_p50 <= stats.run_p95 &&
          stats.run_p95 <= stats.run_p99 && stats.run_p99 < TWILL_SEC(20));
    CHECK(stats.wait_p95 >= TWILL_MS(1) && stats.wait_p50 <= stats.wait_p99);
    CHECK(stats.busy_total >= TWILL_MS(15));
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

HARNESS_MAIN

/* ---- each option by itself ---- */

static atomic_uint option_done, option_ended;

static void option_on_done(const twill_outcome *outcome, void *result, const twill_task *task)
{
    (void)result, (void)task;
    CHECK_EQ(outcome->status, TWILL_OK);
    atomic_fetch_add(&option_done, 1);
}

static void option_discard(void *arg, void *result, int code, const twill_task *task)
{
    (void)arg, (void)result, (void)code, (void)task;
    atomic_fetch_add(&option_ended, 1);
}

static void option_drop(void *arg, twill_status why, const twill_task *task)
{
    (void)arg, (void)why, (void)task;
    CHECK(false); /* it runs */
}

static int option_task(void *arg, void *result, const twill_task *task)
{
    const twill_submit_options *its = arg;
    CHECK_EQ(result != NULL, its->result_size != 0);
    CHECK_PTR(task->context, its->context);
    CHECK_EQ(!twill_task_cancelled(task), true);
    return 0;
}

/* One option that is set makes a task of its own, whichever it is; none makes a plain one. */
TEST(any_option_alone_is_honoured)
{
    twill_cancel token;
    const twill_submit_options each[] = {{0},
                                         {.priority = 1},
                                         {.result_size = 8},
                                         {.key = &token},
                                         {.context = &token},
                                         {.start_at = 1},
                                         {.start_by = TWILL_FOREVER},
                                         {.timeout = TWILL_FOREVER},
                                         {.timeout = TWILL_SEC(3600)},
                                         {.cancel = &token},
                                         {.on_done = option_on_done},
                                         {.drop = option_drop},
                                         {.discard = option_discard}};
    enum { EACH = sizeof each / sizeof each[0] };
    twill_cancel whole;
    twill_cancel_init(&token, NULL);
    twill_cancel_init(&whole, NULL);
    atomic_store(&option_done, 0);
    atomic_store(&option_ended, 0);
    for (int k = 0; k < 4; k++) { /* with and without a token of the pool; asked for, or not */
        twill_pool *pool = pool_of(
            &(twill_pool_options){.run.workers = 1, .run.until.cancel = k & 1 ? &whole : NULL});
        twill_future futures[EACH];
        for (size_t i = 0; i < EACH; i++)
            CHECK_EQ(twill_pool_submit(pool, option_task, (void *)(uintptr_t)&each[i],
                                       k & 2 ? &futures[i] : NULL, &each[i]),
                     TWILL_OK);
        for (size_t i = 0; i < EACH && k & 2; i++) {
            twill_outcome outcome;
            CHECK_EQ(twill_future_wait(futures[i], NULL, &outcome), TWILL_OK);
            CHECK_PTR(outcome.key, each[i].key);
            twill_future_release(futures[i]);
        }
        CHECK_EQ(idle_stats(pool).done, EACH);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    }
    CHECK_EQ(atomic_load(&option_done), 4);
    CHECK_EQ(atomic_load(&option_ended), 4); /* nobody takes a result */
    twill_cancel_detach(&token);
    twill_cancel_detach(&whole);
    CHECK_EQ(faults_live(), 0);
}

/* ---- many at once, one by one ---- */

static atomic_uint many_events, many_queued;
static void many_event(const twill_task_info *info, const twill_task *task)
{
    (void)task;
    atomic_fetch_add(&many_events, 1);
    atomic_fetch_add(&many_queued, info->event == TWILL_EVENT_QUEUED);
}

/* With events, or a second token, they go in one by one; and what a full queue does is said of
   all. */
TEST(submit_many_by_each_policy)
{
    static const twill_overflow policies[] = {
        TWILL_OVERFLOW_REJECT, TWILL_OVERFLOW_DROP_INCOMING, TWILL_OVERFLOW_DROP_OLDEST,
        TWILL_OVERFLOW_DROP_NEWEST, TWILL_OVERFLOW_CALLER_RUNS};
    enum { N = 12 };
    for (int k = 0; k < 20; k++) {
        twill_overflow policy = policies[k % 5];
        bool events = k / 5 & 1, tokens = k / 10 & 1;
        twill_future futures[N];
        twill_cancel token, whole;
        struct gate gate = {0};
        size_t accepted = 99, ended = 0;
        twill_pool_stats stats;
        twill_status status;
        twill_pool *pool;
        memset(futures, 0, sizeof futures);
        twill_cancel_init(&token, NULL);
        twill_cancel_init(&whole, NULL);
        atomic_store(&many_events, 0);
        atomic_store(&many_queued, 0);
        pool = pool_of(&(twill_pool_options){.run.workers = 1,
                                             .capacity = 5,
                                             .overflow = policy,
                                             .run.until.cancel = tokens ? &whole : NULL,
                                             .on_event = events ? many_event : NULL});
        CHECK_EQ(twill_pool_submit(pool, at_gate, &gate, NULL, NULL), TWILL_OK);
        CHECK(gate_inside(&gate, 1));
        status = twill_pool_submit_many(pool, run_it, NULL, N, futures, &accepted,
                                        tokens ? &(twill_submit_options){.cancel = &token} : NULL);
        CHECK_EQ(status, policy == TWILL_OVERFLOW_REJECT          ? TWILL_FULL
                         : policy == TWILL_OVERFLOW_DROP_INCOMING ? TWILL_DROPPED
                                                                  : TWILL_OK);
        CHECK_EQ(accepted, policy == TWILL_OVERFLOW_REJECT ? 5 : N);
        gate_open(&gate);
        for (size_t i = 0; i < N; i++) {
            twill_status each = twill_future_wait(futures[i], NULL, NULL);
            CHECK(each == (i < accepted ? TWILL_OK : TWILL_INVALID) || each == TWILL_FAILED ||
                  each == TWILL_STALE);
            ended += each == TWILL_OK;
            twill_future_release(futures[i]);
        }
        CHECK_EQ(ended, policy == TWILL_OVERFLOW_CALLER_RUNS ? N : 5);
        stats = idle_stats(pool);
        CHECK_EQ(stats.done, 1 + ended);
        CHECK_EQ(stats.dropped, accepted - ended);
        CHECK_EQ(stats.submitted, 1 + accepted);
        if (events)
            CHECK_EQ(atomic_load(&many_queued), 1 + accepted);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
        twill_cancel_detach(&token);
        twill_cancel_detach(&whole);
        CHECK_EQ(faults_live(), 0);
    }
}

/* Some are in when memory ends: they run, and the count says how many. */
TEST(submit_many_without_memory)
{
    for (unsigned long k = 1;; k++) {
        enum { N = 200 };
        static twill_future futures[N];
        size_t accepted = 0;
        bool all;
        twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1, .capacity = 500});
        twill_status status;
        faults_fail_alloc(k);
        status = twill_pool_submit_many(pool, run_it, NULL, N, futures, &accepted,
                                        &(twill_submit_options){.result_size = 100});
        all = status == TWILL_OK;
        faults_fail_alloc(0);
        CHECK(status == TWILL_OK || status == TWILL_NO_MEMORY);
        CHECK_EQ(accepted == N, all);
        CHECK_EQ(idle_stats(pool).done, accepted);
        for (size_t i = 0; i < accepted; i++)
            twill_future_release(futures[i]);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
        CHECK_EQ(faults_live(), 0);
        if (all)
            break;
    }
}

/* ---- run_all at its seams ---- */

static int all_naps(const void *in, void *out, const twill_task *task)
{
    (void)out;
    if (*(const int *)in == 1)
        (void)twill_sleep(task->until); /* as long as it may */
    if (*(const int *)in == 2)
        return twill_task_stop(task);
    return *(const int *)in == 3 ? twill_task_skip(task) : *(const int *)in == 4 ? 44 : 0;
}

static bool two_deadlines(twill_ns timeout)
{
    const int late[9] = {0, 1, 0}, failing[9] = {4, 1, 0};
    twill_outcome outcomes[9];
    twill_report report;
    twill_run_all_options o = {.run.workers = 1, .run.report = &report, .timeout = timeout};
    o.run.until = twill_within(TWILL_SEC(3000)); /* its own comes before the whole's */
    CHECK_EQ(twill_run_all(late, 4, NULL, 0, 3, all_naps, outcomes, &o), TWILL_FAILED);
    CHECK_EQ(outcomes[1].status, TWILL_TIMEOUT);
    if (outcomes[0].status != TWILL_OK || outcomes[2].status != TWILL_OK)
        return false;                      /* a quick one took all of it */
    o.run.on_error = TWILL_ON_ERROR_FIRST; /* and the rest does not run */
    CHECK_EQ(twill_run_all(late, 4, NULL, 0, 3, all_naps, outcomes, &o), TWILL_FAILED);
    if (outcomes[0].status != TWILL_OK)
        return false;
    CHECK_EQ(report.first_error.index, 1);
    CHECK_EQ(report.first_error.status, TWILL_TIMEOUT);
    CHECK_EQ(outcomes[2].status, TWILL_CANCELLED);
    o.timeout = TWILL_SEC(3600); /* the whole's comes first */
    o.run.until = twill_within(timeout);
    CHECK_EQ(twill_run_all(late, 4, NULL, 0, 9, all_naps, outcomes, &o), TWILL_TIMEOUT);
    if (outcomes[1].attempts == 0)
        return false;
    CHECK_EQ(outcomes[1].status, TWILL_OK);      /* it came back by itself, in its own time */
    CHECK_EQ(outcomes[8].status, TWILL_TIMEOUT); /* the one behind a quick one is not looked at */
    CHECK_EQ(outcomes[8].attempts, 0);
    o.run.on_error = TWILL_ON_ERROR_DEFAULT; /* the answer is FAILED, and hides nobody's reason */
    o.run.until = twill_within(timeout);
    twill_status status = twill_run_all(failing, 4, NULL, 0, 9, all_naps, outcomes, &o);
    if (outcomes[1].attempts == 0)
        return false;
    CHECK_EQ(status, TWILL_FAILED);
    CHECK_EQ(outcomes[0].status, TWILL_FAILED);
    CHECK_EQ(outcomes[0].code, 44);
    CHECK_EQ(outcomes[8].status, TWILL_TIMEOUT);
    CHECK_EQ(outcomes[8].attempts, 0);
    CHECK_EQ(outcomes[8].started, 0);
    CHECK(outcomes[8].finished >= outcomes[1].finished);
    return true;
}

TEST(run_all_at_its_seams)
{
    const int items[6] = {0, 3, 0, 2, 0, 0};
    int results[6];
    twill_outcome outcomes[9];
    twill_report report;
    twill_run_all_options o = {.run.workers = 1, .run.report = &report};
    CHECK_EQ(twill_run_all(items, 4, NULL, 4, 6, all_naps, NULL, &o), TWILL_INVALID);
    CHECK_EQ(twill_run_all(items, 4, results, 0, 6, all_naps, NULL, &o), TWILL_INVALID);
    CHECK_EQ(twill_run_all(items, 4, NULL, 4, 0, all_naps, NULL, &o), TWILL_OK); /* of none */
    o.timeout = TWILL_FOREVER;
    CHECK_EQ(twill_run_all(items, 4, NULL, 0, 6, all_naps, outcomes, &o), TWILL_OK);
    CHECK_EQ(outcomes[1].status, TWILL_CANCELLED); /* it said skip */
    CHECK_EQ(outcomes[3].status, TWILL_OK);
    CHECK_EQ(outcomes[5].status, TWILL_CANCELLED); /* it never ran */
    CHECK_EQ(outcomes[5].attempts, 0);
    o.timeout = TWILL_FOREVER - 1; /* from now on: for ever */
    CHECK_EQ(twill_run_all(items, 4, NULL, 0, 1, all_naps, outcomes, &o), TWILL_OK);
    CHECK(test_in_time(TWILL_MS(1), two_deadlines));
}

TEST(figures_of_no_pool)
{
    twill_pool_stats stats;
    memset(&stats, 1, sizeof stats);
    twill_pool_get_stats(NULL, &stats);
    CHECK_EQ(stats.submitted, 0);
    CHECK_EQ(stats.workers, 0);
    twill_pool_get_stats(NULL, NULL);
    CHECK_EQ(twill_pool_workers(NULL), 0);
}

/* ---- one thread tells the level ---- */

static struct gate level_gate;
static struct notes level_notes;
static twill_future level_future;

static void level_at_gate(bool high, size_t length, const twill_task *task)
{
    (void)length, (void)task;
    note(&level_notes, high);
    if (high)
        CHECK(gate_wait(&level_gate));
}

static void *reaches_the_mark(void *pool)
{
    CHECK_EQ(twill_pool_submit(pool, run_it, NULL, &level_future, NULL), TWILL_OK);
    CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_OK);
    return NULL;
}

/* Who comes to the other edge meanwhile leaves it to the one who tells, and does not wait. */
TEST(the_level_is_told_in_turn_by_one)
{
    twill_pool *pool = pool_of(&(twill_pool_options){
        .run.workers = 1, .high_mark = 2, .low_mark = 1, .on_level = level_at_gate});
    pthread_t thread;

    memset(&level_gate, 0, sizeof level_gate);
    memset(&level_notes, 0, sizeof level_notes);
    CHECK_EQ(twill_pool_pause(pool), TWILL_OK);
    CHECK_EQ(pthread_create(&thread, NULL, reaches_the_mark, pool), 0);
    CHECK(gate_inside(&level_gate, 1));
    CHECK_EQ(twill_future_cancel(level_future), TWILL_OK);
    CHECK_EQ(atomic_load(&level_notes.count), 1);
    gate_open(&level_gate);
    pthread_join(thread, NULL);
    CHECK_EQ(atomic_load(&level_notes.count), 2);
    CHECK(atomic_load(&level_notes.what[0]) == 1 && atomic_load(&level_notes.what[1]) == 0);
    twill_future_release(level_future);
    CHECK_EQ(twill_pool_resume(pool), TWILL_OK);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

/* ---- records that are used again ---- */

static atomic_uint given_back;

static void count_back(void *arg, void *result, int code, const twill_task *task)
{
    (void)arg, (void)result, (void)code, (void)task;
    atomic_fetch_add(&given_back, 1);
}

TEST(a_record_takes_nothing_over_from_the_task_before)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1});
    twill_cancel token;
    twill_future future;

    atomic_store(&given_back, 0);
    twill_cancel_init(&token, NULL);
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(twill_pool_submit(pool, run_it, NULL, &future,
                                   i % 2 ? &(twill_submit_options){.cancel = &token} : NULL),
                 TWILL_OK);
        CHECK_EQ(twill_future_wait(future, NULL, NULL), TWILL_OK);
        twill_future_release(future);
    }
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(twill_pool_submit(pool, run_it, NULL, &future,
                                   i % 2 ? NULL : &(twill_submit_options){.discard = count_back}),
                 TWILL_OK);
        twill_future_release(future);
        (void)idle_stats(pool);
        CHECK_EQ(atomic_load(&given_back), i / 2 + 1);
    }
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    twill_cancel_detach(&token);
}

static int ends_after_gate(void *gate, void *result, const twill_task *task)
{
    (void)result, (void)task;
    CHECK(gate_wait(gate));
    pthread_exit(NULL);
}

/* A task that is overruled by its timeout comes back, or does not: nobody hears of it any more. */
TEST(late_tasks_without_a_discard)
{
    for (int ends = 0; ends < 2; ends++) {
        struct gate gate = {0};
        twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1});
        twill_future future;
        twill_outcome outcome;

        CHECK_EQ(twill_pool_submit(pool, ends ? ends_after_gate : at_gate, &gate, &future,
                                   &(twill_submit_options){.timeout = TWILL_MS(2)}),
                 TWILL_OK);
        CHECK(gate_inside(&gate, 1));
        CHECK_EQ(twill_future_wait(future, NULL, &outcome), TWILL_FAILED);
        CHECK_EQ(outcome.status, TWILL_TIMEOUT);
        gate_open(&gate);
        CHECK_EQ(idle_stats(pool).timed_out, 1);
        twill_future_release(future);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
        CHECK_EQ(faults_live(), 0);
    }
}

/* ---- a task's own tasks at a full queue ---- */

static atomic_uint heard_queued;

static void hears_queued(const twill_task_info *info, const twill_task *task)
{
    (void)task;
    atomic_fetch_add(&heard_queued, info->event == TWILL_EVENT_QUEUED);
}

static int pthread_exit_here(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    pthread_exit(NULL);
}

struct filler {
    twill_pool *pool;
    int mode;
};

static int fills_queue(void *filler_, void *result, const twill_task *task)
{
    struct filler *filler = filler_;
    twill_pool *pool = filler->pool;

    (void)result, (void)task;
    CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_OK);
    if (filler->mode == 0) {
        for (int i = 0; i < 5; i++)
            CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_OK);
        CHECK_EQ(twill_pool_try_submit(pool, run_it, NULL, NULL, NULL), TWILL_FULL);
    } else if (filler->mode == 1) {
        CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_FULL);
    } else {
        (void)twill_pool_submit(pool, pthread_exit_here, NULL, NULL, NULL);
        CHECK(false);
    }
    return 0;
}

TEST(a_task_at_its_own_full_queue)
{
    for (int mode = 0; mode < 3; mode++) {
        struct filler filler = {.mode = mode};
        twill_pool_stats stats;

        atomic_store(&heard_queued, 0);
        filler.pool = pool_of(&(twill_pool_options){.run.workers = 1,
                                                    .capacity = 1,
                                                    .overflow = mode == 1 ? TWILL_OVERFLOW_REJECT
                                                                          : TWILL_OVERFLOW_BLOCK,
                                                    .on_event = mode == 0 ? hears_queued : NULL});
        CHECK_EQ(twill_pool_submit(filler.pool, fills_queue, &filler, NULL, NULL), TWILL_OK);
        stats = idle_stats(filler.pool);
        CHECK_EQ(stats.submitted, mode == 0 ? 7 : mode == 1 ? 2 : 3);
        CHECK_EQ(stats.lost, mode == 2 ? 2 : 0);
        CHECK_EQ(atomic_load(&heard_queued), mode == 0 ? 7 : 0);
        CHECK_EQ(twill_pool_destroy(filler.pool), TWILL_OK);
        CHECK_EQ(faults_live(), 0);
    }
}

static int closes_and_submits(void *pool, void *result, const twill_task *task)
{
    size_t accepted = 0;

    (void)result, (void)task;
    CHECK_EQ(twill_pool_close(pool), TWILL_OK);
    CHECK_EQ(twill_pool_submit_many(pool, run_it, NULL, 3, NULL, &accepted, NULL), TWILL_OK);
    CHECK_EQ(accepted, 3);
    return 0;
}

/* Whom the full queue sends home needs a record there, if somebody hears of it. */
TEST(a_caller_without_memory_runs_nothing)
{
    struct gate gate = {0};
    atomic_uint count = 0;
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1,
                                                     .capacity = 1,
                                                     .overflow = TWILL_OVERFLOW_CALLER_RUNS,
                                                     .on_event = hears_nothing});

    CHECK_EQ(twill_pool_submit(pool, at_gate, &gate, NULL, NULL), TWILL_OK);
    CHECK(gate_inside(&gate, 1));
    CHECK_EQ(twill_pool_submit(pool, count_up, &count, NULL, NULL), TWILL_OK);
    faults_fail_alloc_from(1);
    CHECK_EQ(twill_pool_submit(pool, count_up, &count, NULL, NULL), TWILL_NO_MEMORY);
    faults_fail_alloc(0);
    CHECK_EQ(atomic_load(&count), 0);
    CHECK_EQ(twill_pool_submit(pool, count_up, &count, NULL, NULL), TWILL_OK);
    CHECK_EQ(atomic_load(&count), 1); /* here */
    gate_open(&gate);
    CHECK_EQ(idle_stats(pool).done, 3);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

TEST(submit_many_to_a_closed_pool_and_with_tokens)
{
    twill_cancel root, own;
    size_t accepted = 9;
    twill_pool *pool;

    twill_cancel_init(&root, NULL);
    twill_cancel_init(&own, NULL);
    pool = pool_of(&(twill_pool_options){.run.workers = 1, .run.until.cancel = &root});
    CHECK_EQ(twill_pool_submit_many(pool, run_it, NULL, 3, NULL, &accepted,
                                    &(twill_submit_options){.cancel = &own}),
             TWILL_OK);
    CHECK_EQ(accepted, 3);
    CHECK_EQ(twill_pool_submit(pool, closes_and_submits, pool, NULL, NULL), TWILL_OK);
    CHECK_EQ(idle_stats(pool).done, 7);
    CHECK_EQ(twill_pool_submit_many(pool, run_it, NULL, 3, NULL, &accepted, NULL), TWILL_CLOSED);
    CHECK_EQ(accepted, 0);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    twill_cancel_detach(&own);
    twill_cancel_detach(&root);
}

static void no_stop(void *state, const twill_task *task)
{
    (void)state, (void)task;
}

/* Where workers have a state, nobody else runs their tasks. */
TEST(who_waits_runs_nothing_that_needs_a_workers_state)
{
    struct gate gate = {0};
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1, .run.worker_stop = no_stop});
    twill_future future;

    CHECK_EQ(twill_pool_submit(pool, at_gate, &gate, NULL, NULL), TWILL_OK);
    CHECK(gate_inside(&gate, 1));
    CHECK_EQ(twill_pool_submit(pool, run_it, NULL, &future, NULL), TWILL_OK);
    CHECK_EQ(twill_future_wait_until(future, NULL, NULL, twill_within(TWILL_MS(1))), TWILL_TIMEOUT);
    gate_open(&gate);
    CHECK_EQ(twill_future_wait(future, NULL, NULL), TWILL_OK);
    twill_future_release(future);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}
