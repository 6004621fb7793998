/* test_worker_pool_life.c - a pool's threads and its end: growth, blocked, stuck and ended workers,
   pause, resize, stop, abandon, faults, forks. */
#define _GNU_SOURCE
#define HARNESS_FAULTS
#include "harness.h"
#include "platform/system.h" /* TWILL__UNDER_TSAN */
#include "twill_parallel_map.h"
#include "twill_worker_pool.h"

#include "pool_kit.h"
#include "parallel_kit.h"

#include <time.h>

static atomic_uint dropped, ran, discarded, starts, stops, stuck_told, lost_told;

static void clear_counts(void)
{
    atomic_store(&dropped, 0);
    atomic_store(&ran, 0);
    atomic_store(&discarded, 0);
    atomic_store(&starts, 0);
    atomic_store(&stops, 0);
    atomic_store(&stuck_told, 0);
    atomic_store(&lost_told, 0);
}

static void on_drop(void *item, twill_status why, const twill_task *task)
{
    (void)item, (void)why, (void)task;
    atomic_fetch_add(&dropped, 1);
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

static bool comes_true(bool (*there)(twill_pool *pool, unsigned value), twill_pool *pool,
                       unsigned value)
{
    twill_ns end = twill_now() + TWILL_SEC(100);

    while (!there(pool, value)) {
        if (twill_now() > end)
            return false;
        (void)twill_sleep(twill_within(TWILL_US(100)));
    }
    return true;
}

static bool has_workers(twill_pool *pool, unsigned count)
{
    return stats_of(pool).workers == count && twill_pool_workers(pool) == count;
}

static bool nothing_lives(twill_pool *pool, unsigned count)
{
    (void)pool;
    return faults_live() == (long)count;
}

static bool has_started(twill_pool *pool, unsigned count)
{
    (void)pool;
    return atomic_load(&starts) == count;
}

static bool has_stopped(twill_pool *pool, unsigned count)
{
    (void)pool;
    return atomic_load(&stops) == count;
}

/* ---- hooks ---- */

static _Atomic(void *) state_of[64];
static atomic_uint fail_start; /* the k-th worker_start returns 1 */

static int on_start(void **state, const twill_task *task)
{
    unsigned count = atomic_fetch_add(&starts, 1) + 1;

    CHECK(task->worker < task->workers);
    if (count == atomic_load(&fail_start))
        return 1;
    *state = malloc(1);
    if (task->worker < 64)
        atomic_store(&state_of[task->worker], *state);
    return 0;
}

static void on_stop(void *state, const twill_task *task)
{
    if (task->worker < 64)
        CHECK_PTR(state, atomic_load(&state_of[task->worker]));
    free(state);
    atomic_fetch_add(&stops, 1);
}

static int has_state(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result;
    CHECK(task->worker_state != NULL);
    CHECK_PTR(task->worker_state, atomic_load(&state_of[task->worker]));
    return 0;
}

TEST(hooks_run_once_a_worker_on_its_own_thread)
{
    twill_pool *pool;

    clear_counts();
    atomic_store(&fail_start, 0);
    pool = pool_of(&(twill_pool_options){
        .run.workers = 3, .run.worker_start = on_start, .run.worker_stop = on_stop});
    CHECK_EQ(atomic_load(&starts), 3); /* create has waited for them */
    for (int i = 0; i < 200; i++) {
        twill_future future;

        CHECK_EQ(twill_pool_submit(pool, has_state, NULL, &future, NULL), TWILL_OK);
        if (i % 2)
            CHECK_EQ(twill_future_wait(future, NULL, NULL), TWILL_OK); /* never run by us */
        twill_future_release(future);
    }
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(atomic_load(&starts), 3);
    CHECK_EQ(atomic_load(&stops), 3);
}

TEST(a_hook_that_fails_is_a_thread_that_could_not_be_started)
{
    for (unsigned k = 1; k <= 4; k++)
        for (int strict = 0; strict < 2; strict++) {
            twill_pool *pool = NULL;
            twill_status status;

            clear_counts();
            atomic_store(&fail_start, k);
            status = twill_pool_create(&pool, &(twill_pool_options){.run.workers = 3,
                                                                    .run.strict = strict,
                                                                    .run.worker_start = on_start,
                                                                    .run.worker_stop = on_stop});
            CHECK_EQ(status, k <= 3 && strict ? TWILL_NO_THREAD : TWILL_OK);
            if (status == TWILL_OK) {
                CHECK_EQ(stats_of(pool).workers, k <= 3 ? 2 : 3);
                CHECK_EQ(twill_pool_submit(pool, has_state, NULL, NULL, NULL), TWILL_OK);
                CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
            }
            CHECK_EQ(atomic_load(&stops), atomic_load(&starts) - (k <= 3));
            CHECK_EQ(faults_live(), 0);
        }
    {
        twill_pool *pool = NULL;

        clear_counts();
        atomic_store(&fail_start, 1);
        CHECK_EQ(twill_pool_create(
                     &pool, &(twill_pool_options){.run.workers = 1, .run.worker_start = on_start}),
                 TWILL_NO_THREAD);
        CHECK_PTR(pool, NULL);
        atomic_store(&fail_start, 0);
        CHECK_EQ(faults_live(), 0);
    }
}

TEST(a_lazy_pool_starts_with_its_tasks)
{
    int before = kit_threads();
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 3, .lazy = true});
    struct gate gate = {0};

    CHECK_EQ(twill_pool_workers(pool), 0);
    CHECK(kit_threads() <= before); /* one from before may have ended only now */
    for (unsigned i = 1; i <= 3; i++) {
        CHECK_EQ(twill_pool_submit(pool, at_gate, &gate, NULL, NULL), TWILL_OK);
        CHECK(gate_inside(&gate, i));
    }
    CHECK_EQ(twill_pool_workers(pool), 3);
    for (int i = 0; i < 50; i++)
        CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_OK);
    CHECK_EQ(twill_pool_workers(pool), 3);
    gate_open(&gate);
    (void)idle_stats(pool);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    pool = pool_of(&(twill_pool_options){.run.workers = 3, .lazy = true});
    CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL,
                               &(twill_submit_options){.start_at = twill_now() + TWILL_MS(3)}),
             TWILL_OK);
    CHECK_EQ(idle_stats(pool).done, 1); /* somebody is there for the timer */
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

/* ---- growth ---- */

TEST(a_pool_grows_by_waiting_time_and_shrinks)
{
    twill_pool *pool = pool_of(&(twill_pool_options){
        .run.workers = 1, .max_workers = 4, .grow_after = TWILL_MS(1), .idle_after = TWILL_MS(20)});
    struct gate gate = {0};
    unsigned workers;

    for (int i = 0; i < 4; i++) /* they sleep: there is CPU left */
        CHECK_EQ(twill_pool_submit(pool, at_gate, &gate, NULL, NULL), TWILL_OK);
    CHECK(gate_inside(&gate, 4));
    CHECK_EQ(stats_of(pool).workers, 4);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_OK);
    (void)twill_sleep(twill_within(TWILL_MS(5)));
    CHECK_EQ(stats_of(pool).workers, 4);
    gate_open(&gate);
    CHECK_EQ(idle_stats(pool).workers_peak, 4);
    CHECK(comes_true(has_workers, pool, 1));
    gate = (struct gate){0};
    CHECK_EQ(twill_pool_submit(pool, at_gate, &gate, NULL, NULL), TWILL_OK);
    CHECK(gate_inside(&gate, 1));
    CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_OK);
    CHECK_EQ(twill_pool_pause(pool), TWILL_OK); /* what waits then asks for nobody */
    workers = stats_of(pool).workers;
    (void)twill_sleep(twill_within(TWILL_MS(5)));
    CHECK(stats_of(pool).workers <= workers); /* one that came before that may go */
    CHECK_EQ(twill_pool_resume(pool), TWILL_OK);
    gate_open(&gate);
    (void)idle_stats(pool);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

/* An instant so far away has no number. */
TEST(for_ever_means_never)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1,
                                                     .max_workers = 3,
                                                     .idle_after = TWILL_FOREVER,
                                                     .stuck_after = TWILL_FOREVER});
    struct gate gate = {0}, other = {0};
    twill_future future;
    clock_t used = CLOCKS_PER_SEC;

    for (int i = 0; i < 3; i++)
        CHECK_EQ(twill_pool_submit(pool, at_gate, &gate, NULL, NULL), TWILL_OK);
    CHECK(gate_inside(&gate, 3)); /* it grows, and they stay */
    gate_open(&gate);
    CHECK_EQ(idle_stats(pool).workers, 3);
    for (int tries = 0; tries < 20 && used >= CLOCKS_PER_SEC / 10; tries++) {
        clock_t begin = clock();
        (void)twill_sleep(twill_within(TWILL_MS(200)));
        used = clock() - begin;
    }
    CHECK(used < CLOCKS_PER_SEC / 10); /* and sleep */
    CHECK_EQ(stats_of(pool).workers, 3);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);

    pool = pool_of(
        &(twill_pool_options){.run.workers = 1, .max_workers = 3, .grow_after = TWILL_FOREVER});
    CHECK_EQ(twill_pool_submit(pool, at_gate, &other, &future,
                               &(twill_submit_options){.timeout = TWILL_FOREVER - 1}),
             TWILL_OK);
    CHECK(gate_inside(&other, 1));
    CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_OK);
    (void)twill_sleep(twill_within(TWILL_MS(30)));
    CHECK_EQ(stats_of(pool).workers, 1);
    gate_open(&other);
    CHECK_EQ(twill_future_wait(future, NULL, NULL), TWILL_OK);
    twill_future_release(future);
    CHECK_EQ(idle_stats(pool).workers_peak, 1);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

static int block_here(void *gate, void *result, const twill_task *task)
{
    (void)result;
    twill_task_block_begin(task);
    twill_task_block_begin(task);
    twill_task_block_end(task);
    CHECK(gate_wait(gate));
    twill_task_block_end(task);
    return 0;
}

TEST(a_worker_that_says_it_blocks_is_made_up_for_at_once)
{
    twill_pool *pool = pool_of(
        &(twill_pool_options){.run.workers = 1, .max_workers = 3, .grow_after = TWILL_SEC(100)});
    struct gate gate = {0};

    atomic_store(&ran, 0);
    CHECK_EQ(twill_pool_submit(pool, block_here, &gate, NULL, NULL), TWILL_OK);
    CHECK(gate_inside(&gate, 1));
    CHECK_EQ(stats_of(pool).blocked, 1);
    CHECK_EQ(twill_pool_submit(pool, block_here, &gate, NULL, NULL), TWILL_OK);
    CHECK(gate_inside(&gate, 2));
    CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_OK);
    for (int i = 0; i < 300000 && !atomic_load(&ran); i++)
        (void)twill_sleep(twill_within(TWILL_US(50)));
    CHECK_EQ(atomic_load(&ran), 1);
    CHECK_EQ(stats_of(pool).workers, 3);
    gate_open(&gate);
    CHECK_EQ(idle_stats(pool).blocked, 0);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

/* There are numbers for those that are given up, but none is. */
TEST(a_pool_at_its_most_makes_up_for_nobody)
{
    twill_pool *pool = pool_of(&(twill_pool_options){
        .run.workers = 1, .stuck_after = TWILL_SEC(1000), .max_abandoned = 1});
    struct gate gate = {0};

    CHECK_EQ(twill_pool_submit(pool, block_here, &gate, NULL, NULL), TWILL_OK);
    CHECK(gate_inside(&gate, 1));
    CHECK_EQ(stats_of(pool).blocked, 1);
    CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_OK);
    CHECK_EQ(stats_of(pool).workers, 1);
    gate_open(&gate);
    CHECK_EQ(idle_stats(pool).workers_peak, 1);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

TEST(resize_up_and_down_under_load)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 4});
    static const unsigned sizes[] = {16, 4, 1, 7, 2, 9};

    atomic_store(&ran, 0);
    for (int i = 0; i < 6; i++) {
        for (int k = 0; k < 300; k++)
            CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_OK);
        CHECK_EQ(twill_pool_resize(pool, sizes[i], 0), TWILL_OK);
        CHECK(comes_true(has_workers, pool, sizes[i]));
    }
    CHECK_EQ(idle_stats(pool).done, 1800);
    CHECK_EQ(twill_pool_resize(pool, 2, 5), TWILL_OK);
    CHECK_EQ(twill_pool_close(pool), TWILL_OK);
    CHECK_EQ(twill_pool_close(pool), TWILL_CLOSED);
    CHECK_EQ(twill_pool_resize(pool, 2, 0), TWILL_CLOSED);
    CHECK_EQ(twill_pool_pause(pool), TWILL_CLOSED);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

/* ---- pause, each ---- */

TEST(a_paused_pool_starts_nothing)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 2});
    twill_future future;

    atomic_store(&ran, 0);
    CHECK_EQ(twill_pool_pause(pool), TWILL_OK);
    for (int i = 0; i < 20; i++)
        CHECK_EQ(twill_pool_submit(pool, run_it, NULL, i == 19 ? &future : NULL, NULL), TWILL_OK);
    CHECK_EQ(twill_future_wait_until(future, NULL, NULL, twill_within(TWILL_MS(3))), TWILL_TIMEOUT);
    twill_future_release(future);
    CHECK_EQ(twill_pool_wait_idle_until(pool, twill_within(TWILL_MS(1))), TWILL_TIMEOUT);
    CHECK_EQ(atomic_load(&ran), 0);
    CHECK_EQ(stats_of(pool).queued, 20);
    CHECK_EQ(twill_pool_resume(pool), TWILL_OK);
    (void)idle_stats(pool);
    CHECK_EQ(atomic_load(&ran), 20);
    CHECK_EQ(twill_pool_pause(pool), TWILL_OK);
    CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_OK);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK); /* a pause cannot hang the end */
    CHECK_EQ(atomic_load(&ran), 21);
}

static int on_each(void *seen, void *result, const twill_task *task)
{
    (void)result;
    atomic_fetch_add(&((atomic_uint *)seen)[task->worker], 1);
    return task->worker == 1;
}

TEST(once_on_every_worker)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 4});
    atomic_uint seen[4] = {0};
    struct gate gate = {0};

    for (int i = 0; i < 20; i++)
        CHECK_EQ(twill_pool_each_worker(pool, on_each, seen, twill_within(TWILL_SEC(60))),
                 TWILL_FAILED);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(atomic_load(&seen[i]), 20);
    CHECK_EQ(twill_pool_submit(pool, at_gate, &gate, NULL, NULL), TWILL_OK);
    CHECK(gate_inside(&gate, 1));
    CHECK_EQ(twill_pool_each_worker(pool, on_each, seen, twill_within(TWILL_MS(5))), TWILL_TIMEOUT);
    gate_open(&gate);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

/* ---- the end of a thread ---- */

static int exit_here(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    pthread_exit(NULL);
}

static twill_future child_future;

static int exit_in_child(void *pool, void *result, const twill_task *task)
{
    (void)result, (void)task;
    CHECK_EQ(twill_pool_submit(pool, exit_here, NULL, &child_future, NULL), TWILL_OK);
    (void)twill_future_wait(child_future, NULL, NULL); /* it runs here: never back */
    CHECK(false);
    return 0;
}

TEST(a_task_that_ends_its_thread_is_lost_and_the_worker_replaced)
{
    twill_pool *pool;

    clear_counts();
    atomic_store(&fail_start, 0);
    pool = pool_of(&(twill_pool_options){
        .run.workers = 2, .run.worker_start = on_start, .run.worker_stop = on_stop});
    for (int i = 0; i < 50; i++) {
        twill_future future;
        twill_outcome outcome;

        CHECK_EQ(twill_pool_submit(pool, exit_here, NULL, &future,
                                   &(twill_submit_options){.drop = on_drop, .discard = on_discard}),
                 TWILL_OK);
        CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_OK);
        if (i % 2)
            CHECK_EQ(twill_pool_submit(pool, exit_here, NULL, NULL, NULL), TWILL_OK);
        CHECK_EQ(twill_future_wait(future, NULL, &outcome), TWILL_FAILED);
        CHECK_EQ(outcome.status, TWILL_LOST);
        twill_future_release(future);
    }
    CHECK_EQ(idle_stats(pool).lost, 75);
    CHECK_EQ(atomic_load(&ran), 50);
    CHECK_EQ(atomic_load(&dropped) + atomic_load(&discarded), 0);
    CHECK(comes_true(has_started, pool, 77));
    CHECK(comes_true(has_stopped, pool, 75));
    CHECK(comes_true(has_workers, pool, 2));
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(atomic_load(&starts), atomic_load(&stops));
    CHECK_EQ(faults_live(), 0);
}

struct asker {
    pthread_t thread;
    twill_pool *pool;
    twill_future future;
    bool any; /* of many: then there is memory to be freed */
    atomic_bool came_back;
};

static void *ask(void *asker_)
{
    struct asker *asker = asker_;
    twill_future many[17];

    for (int i = 0; i < 17; i++)
        many[i] = asker->future;
    if (asker->any)
        (void)twill_future_wait_any(many, 17, NULL, (twill_until){0, NULL});
    else
        (void)twill_future_wait(asker->future, NULL, NULL);
    atomic_store(&asker->came_back, true);
    return NULL;
}

TEST(a_helping_waiter_ends_with_the_task_that_ends_its_thread)
{
    for (int round = 0; round < 50; round++) {
        twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1});
        struct asker asker = {.pool = pool, .any = round % 2};
        struct gate gate = {0};
        twill_outcome outcome;
        twill_future nested;

        CHECK_EQ(twill_pool_submit(pool, at_gate, &gate, NULL, NULL), TWILL_OK);
        CHECK(gate_inside(&gate, 1));
        CHECK_EQ(twill_pool_submit(pool, exit_here, NULL, &asker.future, NULL), TWILL_OK);
        pthread_create(&asker.thread, NULL, ask, &asker);
        pthread_join(asker.thread, NULL); /* the worker is busy: it ran there, and ended it */
        CHECK(!atomic_load(&asker.came_back));
        CHECK_EQ(twill_future_wait(asker.future, NULL, &outcome), TWILL_FAILED);
        CHECK_EQ(outcome.status, TWILL_LOST);
        twill_future_release(asker.future);
        gate_open(&gate);
        CHECK_EQ(twill_pool_submit(pool, exit_in_child, pool, &nested, NULL), TWILL_OK);
        CHECK_EQ(twill_future_wait_until(nested, NULL, &outcome, twill_within(TWILL_SEC(60))),
                 TWILL_FAILED);
        CHECK_EQ(outcome.status, TWILL_LOST); /* both on the stack */
        CHECK_EQ(twill_future_wait(child_future, NULL, &outcome), TWILL_FAILED);
        CHECK_EQ(outcome.status, TWILL_LOST);
        twill_future_release(child_future);
        twill_future_release(nested);
        CHECK_EQ(idle_stats(pool).lost, 3);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
        CHECK_EQ(faults_live(), 0);
    }
}

/* ---- stuck ---- */

static _Atomic(void *) stuck_key;

static void on_event(const twill_task_info *info, const twill_task *task)
{
    (void)task;
    if (info->event == TWILL_EVENT_STUCK && info->index == 0)
        atomic_store(&stuck_key, info->key);
    /* a short one may be as late, on a busy machine */
    if (info->event == TWILL_EVENT_STUCK && info->index < 2)
        atomic_fetch_add(&stuck_told, 1);
    if (info->event == TWILL_EVENT_ENDED && info->status == TWILL_LOST)
        atomic_fetch_add(&lost_told, 1);
}

static bool told_stuck(twill_pool *pool, unsigned count)
{
    (void)pool;
    return atomic_load(&stuck_told) == count;
}

static bool gave_up(twill_pool *pool, unsigned count)
{
    return stats_of(pool).abandoned == count;
}

static int stuck_here(void *gate, void *result, const twill_task *task)
{
    (void)task;
    CHECK(gate_wait(gate));
    if (result)
        *(int *)result = 3;
    return 0;
}

TEST(a_stuck_task_is_told_once_and_its_worker_replaced)
{
    for (unsigned most = 0; most <= 2; most++) {
        struct gate gate = {0};
        twill_pool *pool;
        twill_future future;
        twill_outcome outcome;
        int result = 1;

        clear_counts();
        pool = pool_of(&(twill_pool_options){.run.workers = 1,
                                             .stuck_after = TWILL_MS(4),
                                             .max_abandoned = most,
                                             .on_event = on_event});
        CHECK_EQ(twill_pool_submit(pool, stuck_here, &gate, &future,
                                   &(twill_submit_options){.result_size = sizeof(int),
                                                           .discard = on_discard,
                                                           .key = &gate}),
                 TWILL_OK);
        CHECK(gate_inside(&gate, 1));
        CHECK(comes_true(told_stuck, pool, 1));
        CHECK_PTR(atomic_load(&stuck_key), &gate);
        CHECK(comes_true(gave_up, pool, most ? 1 : 0));
        if (most) {
            CHECK_EQ(twill_future_wait(future, &result, &outcome), TWILL_FAILED);
            CHECK_EQ(outcome.status, TWILL_LOST);
            CHECK_EQ(result, 1);
            /* a plain one, too; and beyond the bound nobody is given up */
            CHECK_EQ(twill_pool_submit(pool, stuck_here, &gate, NULL, NULL), TWILL_OK);
            CHECK(comes_true(told_stuck, pool, 2));
            CHECK(comes_true(gave_up, pool, most));
            if (most == 2) {
                CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_OK);
                CHECK_EQ(twill_pool_wait_idle(pool), TWILL_OK);
                CHECK_EQ(atomic_load(&ran), 1);
                CHECK_EQ(stats_of(pool).lost, 2);
            }
        }
        CHECK_EQ(atomic_load(&discarded), 0);
        gate_open(&gate);
        (void)twill_future_wait(future, NULL, NULL);
        twill_future_release(future);
        CHECK_EQ(twill_pool_wait_idle(pool), TWILL_OK);
        CHECK(comes_true(gave_up, pool, 0));
        (void)idle_stats(pool);
        CHECK_EQ(atomic_load(&discarded), 1); /* late, or never asked for */
        CHECK_EQ(atomic_load(&lost_told), most);
        CHECK_EQ(atomic_load(&stuck_told), most ? 2 : 1);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
        CHECK_EQ(faults_live(), 0);
    }
}

/* However long it takes to be told: nobody is given up meanwhile, unless he was before. */
static void late_to_hear(const twill_task_info *info, const twill_task *task)
{
    unsigned abandoned;

    (void)task;
    if (info->event != TWILL_EVENT_ENDED || info->status == TWILL_LOST)
        return;
    abandoned = stats_of(twill_pool_current()).abandoned;
    (void)twill_sleep(twill_within(TWILL_MS(25)));
    CHECK_EQ(stats_of(twill_pool_current()).abandoned, abandoned);
}

TEST(a_task_that_has_ended_is_not_given_up_as_stuck)
{
    for (int ask = 0; ask < 2; ask++) { /* a plain one, or one with a time limit */
        twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1,
                                                         .stuck_after = TWILL_MS(10),
                                                         .max_abandoned = 1,
                                                         .on_event = late_to_hear});
        twill_submit_options limit = {.timeout = TWILL_SEC(60)};
        twill_pool_stats stats;

        clear_counts();
        CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, ask ? &limit : NULL), TWILL_OK);
        CHECK_EQ(
            twill_pool_stop(pool, twill_within(TWILL_FOREVER), twill_within(TWILL_FOREVER), NULL),
            TWILL_OK);
        stats = stats_of(pool);
        CHECK(books_balance(&stats));
        CHECK_EQ(atomic_load(&ran), 1);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
        CHECK_EQ(faults_live(), 0);
    }
}

TEST(what_runs_when_a_watch_begins_counts_from_then_on)
{
    static struct gate gate;
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1});
    twill_ns before;

    memset(&gate, 0, sizeof gate);
    for (int i = 0; i < 2; i++) /* the second one is taken without the lock */
        CHECK_EQ(twill_pool_submit(pool, i ? at_gate : run_it, &gate, NULL, NULL), TWILL_OK);
    CHECK(gate_inside(&gate, 1));
    before = twill_now();
    CHECK_EQ(stats_of(pool).oldest_running, 0); /* no watch */
    CHECK_EQ(twill_pool_resize(pool, 1, 2), TWILL_OK);
    (void)twill_sleep(twill_within(TWILL_MS(2)));
    {
        twill_ns oldest = stats_of(pool).oldest_running;

        CHECK(oldest >= TWILL_MS(2));
        CHECK(oldest <= twill_now() - before);
    }
    gate_open(&gate);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

/* ---- stop ---- */

static twill_pool *stopped_meanwhile;

static void stop_it(const twill_task_info *info, const twill_task *task)
{
    twill_stopped stopped;

    (void)task;
    if (info->event == TWILL_EVENT_QUEUED)
        CHECK_EQ(twill_pool_stop(stopped_meanwhile, twill_within(0), twill_within(0), &stopped),
                 TWILL_TIMEOUT);
}

TEST(what_is_on_its_way_in_when_the_pool_stops_is_cancelled)
{
    for (int later = 0; later < 2; later++) {
        twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1, .on_event = stop_it});
        twill_future future;
        twill_outcome outcome;

        clear_counts();
        stopped_meanwhile = pool;
        CHECK_EQ(twill_pool_submit(
                     pool, run_it, NULL, &future,
                     &(twill_submit_options){
                         .drop = on_drop, .start_at = later ? twill_now() + TWILL_SEC(3600) : 0}),
                 TWILL_OK);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK); /* at once */
        CHECK_EQ(twill_future_wait(future, NULL, &outcome), TWILL_FAILED);
        CHECK_EQ(outcome.status, TWILL_CANCELLED);
        twill_future_release(future);
        CHECK_EQ(atomic_load(&ran), 0);
        CHECK_EQ(atomic_load(&dropped), 1);
        CHECK_EQ(faults_live(), 0);
    }
}

static int start_once(void **state, const twill_task *task)
{
    (void)state, (void)task;
    return atomic_fetch_add(&starts, 1) > 0;
}

TEST(a_pool_ends_although_no_worker_can_start_any_more)
{
    twill_pool *pool;
    twill_future future;
    twill_outcome outcome;

    clear_counts();
    pool = pool_of(&(twill_pool_options){.run.workers = 1, .run.worker_start = start_once});
    CHECK_EQ(twill_pool_pause(pool), TWILL_OK);
    CHECK_EQ(twill_pool_submit(pool, exit_here, NULL, NULL, NULL), TWILL_OK);
    CHECK_EQ(twill_pool_submit(pool, run_it, NULL, &future, NULL), TWILL_OK);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    (void)twill_future_wait(future, NULL, &outcome);
    CHECK_EQ(outcome.status, TWILL_CANCELLED);
    twill_future_release(future);
    CHECK(atomic_load(&starts) <= 4);
    CHECK_EQ(atomic_load(&ran), 0);
    CHECK_EQ(faults_live(), 0);
}

TEST(what_is_too_late_does_not_run_in_who_destroys_either)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1, .lazy = true});
    twill_future futures[2];
    twill_outcome outcome;
    twill_ns by = twill_now() + TWILL_MS(1);

    clear_counts();
    faults_fail_thread(1);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(
            twill_pool_submit(pool, run_it, NULL, &futures[i],
                              &(twill_submit_options){.drop = on_drop, .start_by = i ? 0 : by}),
            TWILL_OK);
    (void)twill_sleep((twill_until){by, NULL});
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    faults_fail_thread(0);
    CHECK_EQ(twill_future_wait(futures[0], NULL, &outcome), TWILL_FAILED);
    CHECK_EQ(outcome.status, TWILL_TIMEOUT);
    CHECK_EQ(twill_future_wait(futures[1], NULL, NULL), TWILL_OK);
    for (int i = 0; i < 2; i++)
        twill_future_release(futures[i]);
    CHECK_EQ(atomic_load(&ran), 1);
    CHECK_EQ(atomic_load(&dropped), 1);
    CHECK_EQ(faults_live(), 0);
}

/* Then nothing is left that a stop would have to cancel. */
TEST(what_is_too_late_is_no_reason_to_cancel)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1, .lazy = true});
    twill_ns by = twill_now() + TWILL_US(100);
    twill_until forever = {0, NULL};
    twill_stopped stopped;

    clear_counts();
    faults_fail_thread(1);
    CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, &(twill_submit_options){.start_by = by}),
             TWILL_OK);
    (void)twill_sleep((twill_until){by, NULL});
    CHECK_EQ(twill_pool_stop(pool, forever, forever, &stopped), TWILL_OK);
    faults_fail_thread(0);
    CHECK_EQ(stopped.cancelled, 0);
    CHECK_EQ(stopped.finished, 1); /* by its time */
    CHECK_EQ(stats_of(pool).timed_out, 1);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(atomic_load(&ran), 0);
    CHECK_EQ(faults_live(), 0);
}

static bool has_run(twill_pool *pool, unsigned count)
{
    (void)pool;
    return atomic_load(&ran) == count;
}

TEST(a_watch_starts_who_could_not_be_started)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1,
                                                     .lazy = true,
                                                     .stuck_after = TWILL_SEC(1000),
                                                     .grow_after = TWILL_SEC(1000)});

    clear_counts();
    faults_fail_thread(1);
    CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_OK);
    faults_fail_thread(0);
    CHECK(comes_true(has_run, pool, 1)); /* though nobody waits for the pool, or submits */
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

static int start_later(void **state, const twill_task *task)
{
    (void)state, (void)task;
    return atomic_fetch_add(&starts, 1) == 0;
}

/* The first worker does not start: another one is tried, though nobody submits any more. */
TEST(who_waits_gets_a_worker_after_all)
{
    for (int form = 0; form < 3; form++) {
        twill_pool *pool = pool_of(&(twill_pool_options){
            .run.workers = 1, .run.worker_start = start_later, .lazy = true, .capacity = 1});
        twill_future futures[2];
        size_t which = 9;

        clear_counts();
        for (int i = 0; i < 2; i++) /* the second one waits for room */
            CHECK_EQ(twill_pool_submit(pool, run_it, NULL, &futures[i], NULL), TWILL_OK);
        if (form == 0)
            CHECK_EQ(twill_future_wait(futures[1], NULL, NULL), TWILL_OK);
        else if (form == 1)
            CHECK_EQ(twill_future_wait_any(&futures[1], 1, &which, (twill_until){0, NULL}),
                     TWILL_OK);
        else
            CHECK_EQ(twill_pool_wait_idle(pool), TWILL_OK);
        for (int i = 0; i < 2; i++)
            twill_future_release(futures[i]);
        CHECK_EQ(atomic_load(&starts), 2);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
        CHECK_EQ(atomic_load(&ran), 2);
        CHECK_EQ(faults_live(), 0);
    }
}

TEST(stop_in_two_phases)
{
    for (int deaf = 0; deaf < 2; deaf++) {
        struct gate gate = {0};
        twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 2});
        twill_stopped stopped;
        twill_future last;
        twill_outcome outcome;

        clear_counts();
        for (int i = 0; i < 4; i++)
            CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_OK);
        (void)idle_stats(pool);
        for (int i = 0; i < 2; i++)
            CHECK_EQ(twill_pool_submit(pool, deaf ? at_gate : at_gate_or_told, &gate, NULL,
                                       i ? NULL : &(twill_submit_options){.drop = on_drop}),
                     TWILL_OK);
        CHECK(gate_inside(&gate, 2));
        for (int i = 0; i < 4; i++)
            CHECK_EQ(twill_pool_submit(pool, run_it, NULL, i == 3 ? &last : NULL,
                                       &(twill_submit_options){.drop = on_drop}),
                     TWILL_OK);
        CHECK_EQ(twill_pool_stop(pool, twill_within(TWILL_MS(3)),
                                 twill_within(TWILL_MS(deaf ? 20 : 20000)), &stopped),
                 deaf ? TWILL_TIMEOUT : TWILL_OK);
        CHECK_EQ(stopped.finished, 0);
        CHECK_EQ(stopped.cancelled, deaf ? 4 : 6);
        CHECK_EQ(stopped.stuck, deaf ? 2 : 0);
        CHECK_EQ(atomic_load(&dropped), 4);
        CHECK_EQ(twill_future_wait(last, NULL, &outcome), TWILL_FAILED);
        CHECK_EQ(outcome.status, TWILL_CANCELLED);
        twill_future_release(last);
        CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_CLOSED);
        gate_open(&gate);
        CHECK_EQ(twill_pool_stop(pool, twill_within(0), twill_within(TWILL_FOREVER), &stopped),
                 TWILL_OK);
        CHECK_EQ(stopped.stuck, 0);
        CHECK_EQ(twill_pool_workers(pool), 0);
        {
            twill_pool_stats stats = stats_of(pool);

            (void)books_balance(&stats);
        }
        CHECK_EQ(twill_pool_stop(pool, twill_within(0), twill_within(0), &stopped), TWILL_OK);
        CHECK_EQ(twill_parallel_for(10, NULL, NULL), TWILL_INVALID);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
        CHECK_EQ(faults_live(), 0);
    }
}

static int end_pool(void *pool, void *result, const twill_task *task)
{
    twill_stopped stopped;

    (void)result, (void)task;
    CHECK_EQ(twill_pool_destroy(pool), TWILL_DEADLOCK);
    CHECK_EQ(twill_pool_stop(pool, twill_within(0), twill_within(0), &stopped), TWILL_DEADLOCK);
    CHECK_EQ(twill_pool_wait_idle(pool), TWILL_DEADLOCK);
    CHECK_EQ(twill_pool_each_worker(pool, run_it, NULL, twill_within(0)), TWILL_DEADLOCK);
    return 0;
}

/* What callbacks may not, outside of tasks. */
static twill_pool *asked;
static twill_future asked_of;
static atomic_uint asking;
static _Thread_local bool owner; /* the thread of the test: none of the pool's */

/* `task`: this thread is to end one. With an end, such waits time out. */
static void ask_here(bool task)
{
    twill_until forever = {0, NULL};
    twill_stopped stopped;

    atomic_fetch_add(&asking, 1);
    if (!owner) {
        (void)end_pool(asked, NULL, NULL);
        return;
    }
    CHECK_EQ(twill_pool_destroy(asked), TWILL_DEADLOCK);
    if (!task)
        return;
    CHECK_EQ(twill_pool_stop(asked, forever, forever, &stopped), TWILL_DEADLOCK);
    CHECK_EQ(twill_pool_stop(asked, twill_within(0), forever, &stopped), TWILL_DEADLOCK);
    CHECK_EQ(twill_pool_stop(asked, forever, twill_within(0), &stopped), TWILL_DEADLOCK);
    CHECK_EQ(twill_pool_wait_idle(asked), TWILL_DEADLOCK);
    CHECK_EQ(twill_pool_wait_idle_until(asked, twill_within(0)), TWILL_TIMEOUT);
}

static void ask_for_it(void)
{
    size_t which = 9;

    CHECK_EQ(twill_future_wait(asked_of, NULL, NULL), TWILL_DEADLOCK);
    CHECK_EQ(twill_future_wait_until(asked_of, NULL, NULL, twill_within(TWILL_SEC(100))),
             TWILL_DEADLOCK);
    CHECK_EQ(twill_future_wait_any(&asked_of, 1, &which, (twill_until){0, NULL}), TWILL_DEADLOCK);
    ask_here(true);
}

static void ask_in_drop(void *item, twill_status why, const twill_task *task)
{
    (void)item, (void)why, (void)task;
    ask_for_it();
}

static void ask_in_done(const twill_outcome *outcome, void *result, const twill_task *task)
{
    (void)outcome, (void)result, (void)task;
    ask_for_it();
}

static void ask_in_event(const twill_task_info *info, const twill_task *task)
{
    (void)task;
    if (info->key == &asked_of)
        ask_for_it();
    else if (asked)
        ask_here(info->event != TWILL_EVENT_REFUSED);
}

static void ask_in_level(bool high, size_t length, const twill_task *task)
{
    (void)high, (void)length, (void)task;
    ask_here(false);
}

static int ask_in_start(void **state, const twill_task *task)
{
    (void)state, (void)task;
    CHECK_EQ(twill_pool_resize(asked, 1, 0), TWILL_OK);
    ask_here(true);
    return 0;
}

static void ask_in_stop(void *state, const twill_task *task)
{
    (void)state, (void)task;
    ask_here(true);
}

static void ask_in_hook(int reason, const twill_task *task)
{
    (void)reason, (void)task;
    ask_here(false);
    CHECK_EQ(twill_pool_each_worker(asked, run_it, NULL, (twill_until){0, NULL}), TWILL_DEADLOCK);
}

static int hooks_itself(void *gate_, void *result, const twill_task *task)
{
    twill_cancel_hook hook = {.fn = ask_in_hook};

    (void)result;
    twill_cancel_add_hook(task->until.cancel, &hook);
    (void)stuck_here(gate_, NULL, task);
    twill_cancel_remove_hook(task->until.cancel, &hook);
    return 0;
}

TEST(callbacks_outside_of_tasks_may_not_wait_for_the_pool_either)
{
    struct gate gate = {0};
    twill_submit_options asks = {.drop = ask_in_drop, .on_done = ask_in_done, .key = &asked_of};
    twill_pool *pool = asked = pool_of(&(twill_pool_options){.run.workers = 1,
                                                             .run.worker_start = ask_in_start,
                                                             .run.worker_stop = ask_in_stop,
                                                             .lazy = true,
                                                             .capacity = 1,
                                                             .overflow = TWILL_OVERFLOW_REJECT,
                                                             .high_mark = 1,
                                                             .on_level = ask_in_level,
                                                             .on_event = ask_in_event});
    twill_future first;

    owner = true;
    atomic_store(&asking, 0);
    CHECK_EQ(twill_pool_submit(pool, hooks_itself, &gate, &first, NULL), TWILL_OK);
    CHECK(gate_inside(&gate, 1)); /* QUEUED, high, worker_start, low, STARTED */
    CHECK_EQ(atomic_load(&asking), 5);
    CHECK_EQ(twill_pool_submit(pool, run_it, NULL, &asked_of, &asks), TWILL_OK); /* QUEUED, high */
    CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_FULL);     /* REFUSED */
    CHECK_EQ(twill_future_cancel(asked_of), TWILL_OK); /* low, drop, on_done, ENDED */
    CHECK_EQ(atomic_load(&asking), 12);
    twill_future_release(asked_of);
    CHECK_EQ(twill_future_cancel(first), TWILL_OK); /* the hook */
    CHECK_EQ(atomic_load(&asking), 13);
    twill_future_release(first);
    CHECK_EQ(twill_pool_submit(pool, run_it, NULL, &asked_of, &asks), TWILL_OK); /* QUEUED, high */
    gate_open(&gate);
    CHECK_EQ(twill_pool_wait_idle(pool), TWILL_OK); /* ENDED; low, STARTED, on_done, ENDED */
    CHECK_EQ(atomic_load(&asking), 20);
    twill_future_release(asked_of);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK); /* worker_stop */
    CHECK_EQ(atomic_load(&asking), 21);
    owner = false;
    CHECK_EQ(faults_live(), 0);
}

static int submit_more(void *pool, void *result, const twill_task *task)
{
    (void)result;
    if (task->index < 20)
        CHECK_EQ(twill_pool_submit(pool, submit_more, pool, NULL, NULL), TWILL_OK);
    (void)twill_sleep(twill_within(TWILL_US(200)));
    return 0;
}

TEST(a_pool_does_not_end_itself_but_its_tasks_may_go_on)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1});
    twill_future future;

    CHECK_EQ(twill_pool_submit(pool, end_pool, pool, &future, NULL), TWILL_OK);
    CHECK_EQ(twill_future_wait(future, NULL, NULL), TWILL_OK);
    twill_future_release(future);
    CHECK_EQ(twill_pool_submit(pool, submit_more, pool, NULL, NULL), TWILL_OK);
    CHECK_EQ(twill_pool_close(pool), TWILL_OK);
    CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_CLOSED);
    CHECK_EQ(idle_stats(pool).done, 21);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

struct blocked_sender {
    pthread_t thread;
    twill_pool *pool;
    twill_status status;
    atomic_uint *ready;
};

static void *send_blocked(void *sender_)
{
    struct blocked_sender *sender = sender_;

    atomic_fetch_add(sender->ready, 1);
    sender->status = twill_pool_submit(sender->pool, run_it, NULL, NULL, NULL);
    return NULL;
}

static void *stop_too(void *pool)
{
    (void)twill_pool_stop(pool, twill_within(TWILL_MS(1)), twill_within(TWILL_FOREVER), NULL);
    return NULL;
}

TEST(stop_with_waiting_senders_and_from_two_threads)
{
    for (int round = 0; round < 100; round++) {
        struct gate gate = {0};
        twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1, .capacity = 1});
        struct blocked_sender senders[3];
        atomic_uint ready = 0;
        pthread_t stopper;
        unsigned accepted = 0;

        atomic_store(&ran, 0);
        CHECK_EQ(twill_pool_submit(pool, at_gate_or_told, &gate, NULL, NULL), TWILL_OK);
        CHECK(gate_inside(&gate, 1));
        for (int i = 0; i < 3; i++) {
            senders[i].pool = pool;
            senders[i].ready = &ready;
            pthread_create(&senders[i].thread, NULL, send_blocked, &senders[i]);
        }
        while (atomic_load(&ready) < 3)
            continue;
        if (round % 2)
            (void)twill_sleep(twill_within(TWILL_US(50)));
        pthread_create(&stopper, NULL, stop_too, pool);
        CHECK_EQ(twill_pool_stop(pool, twill_within(TWILL_MS(round % 3)),
                                 twill_within(TWILL_FOREVER), NULL),
                 TWILL_OK);
        for (int i = 0; i < 3; i++) {
            pthread_join(senders[i].thread, NULL);
            CHECK(senders[i].status == TWILL_OK || senders[i].status == TWILL_CLOSED);
            accepted += senders[i].status == TWILL_OK;
        }
        pthread_join(stopper, NULL);
        {
            twill_pool_stats stats = stats_of(pool);

            CHECK_EQ(stats.submitted, accepted + 1);
            (void)books_balance(&stats);
        }
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
        CHECK_EQ(faults_live(), 0);
    }
}

TEST(an_abandoned_pool_goes_with_its_last_thread)
{
    for (int round = 0; round < 60; round++) {
        int before = kit_threads();
        static struct gate gate;
        twill_pool *pool = pool_of(
            &(twill_pool_options){.run = {.workers = 2, .stack_size = round % 4 ? 0 : 1 << 18},
                                  .stuck_after = round % 3 ? 0 : TWILL_SEC(50)});
        twill_stopped stopped;
        twill_future future;
        twill_outcome outcome;

        memset(&gate, 0, sizeof gate);
        clear_counts();
        for (int i = 0; i < round % 3; i++)
            CHECK_EQ(twill_pool_submit(pool, at_gate, &gate, NULL, NULL), TWILL_OK);
        CHECK(gate_inside(&gate, (unsigned)round % 3));
        for (int i = 0; i < 3; i++)
            CHECK_EQ(twill_pool_submit(pool, run_it, NULL, i == 2 ? &future : NULL,
                                       &(twill_submit_options){.drop = on_drop}),
                     TWILL_OK);
        CHECK_EQ(twill_pool_abandon(pool, &stopped), TWILL_OK);
        CHECK(stopped.stuck >= (unsigned)round % 3);
        (void)twill_future_wait(future, NULL, &outcome);
        CHECK(outcome.status == TWILL_OK || outcome.status == TWILL_CANCELLED);
        if (round % 2)
            twill_future_release(future);
        gate_open(&gate);
        CHECK(kit_threads_back_to(before));
        if (round % 2 == 0)
            twill_future_release(future);
        CHECK(comes_true(nothing_lives, NULL, 0));
        CHECK_EQ(atomic_load(&ran) + atomic_load(&dropped), 3);
    }
}

/* The pool has gone but for what the future needs; that is not freed twice. */
TEST(a_future_of_a_pool_that_has_gone_may_be_cancelled)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1});
    twill_future future;
    twill_stopped stopped;

    CHECK_EQ(twill_pool_submit(pool, run_it, NULL, &future, NULL), TWILL_OK);
    CHECK_EQ(twill_future_wait(future, NULL, NULL), TWILL_OK);
    CHECK_EQ(twill_pool_abandon(pool, &stopped), TWILL_OK);
    for (int i = 0; i < 1000000 && faults_live() > 4; i++) /* its core, with the records */
        (void)twill_sleep(twill_within(TWILL_US(100)));
    CHECK_EQ(twill_future_cancel(future), TWILL_OK);
    CHECK_EQ(twill_future_wait(future, NULL, NULL), TWILL_OK);
    twill_future_release(future);
    CHECK(comes_true(nothing_lives, NULL, 0));
}

/* ---- who runs his task himself, because the queue is full ---- */

struct outsider {
    pthread_t thread;
    twill_pool *pool;
    twill_task_fn *fn;
    void *arg;
    twill_status status;
};

static void *outsider_main(void *outsider_)
{
    struct outsider *outsider = outsider_;

    outsider->status = twill_pool_submit(outsider->pool, outsider->fn, outsider->arg, NULL, NULL);
    return NULL;
}

/* One worker at the gate, one task behind it, and the next on its submitter's thread. */
static struct outsider outside(twill_pool *pool, struct gate *gate)
{
    struct outsider outsider = {.pool = pool};

    CHECK_EQ(twill_pool_submit(pool, at_gate_or_told, gate, NULL, NULL), TWILL_OK);
    CHECK(gate_inside(gate, 1));
    CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_OK);
    return outsider;
}

static void outsider_go(struct outsider *outsider, twill_task_fn *fn, void *arg)
{
    outsider->fn = fn;
    outsider->arg = arg;
    CHECK_EQ(pthread_create(&outsider->thread, NULL, outsider_main, outsider), 0);
}

static twill_pool *caller_runs(void)
{
    return pool_of(&(twill_pool_options){
        .run.workers = 1, .capacity = 1, .overflow = TWILL_OVERFLOW_CALLER_RUNS});
}

TEST(who_waits_for_a_pool_waits_for_tasks_of_callers_too)
{
    struct gate gate = {0}, beside = {0};
    twill_pool *pool = caller_runs();
    struct outsider outsider = outside(pool, &gate);
    twill_pool_stats stats;

    outsider_go(&outsider, at_gate, &beside);
    CHECK(gate_inside(&beside, 1));
    gate_open(&gate);
    CHECK_EQ(twill_pool_wait_idle_until(pool, twill_within(TWILL_MS(5))), TWILL_TIMEOUT);
    gate_open(&beside);
    stats = idle_stats(pool);
    CHECK_EQ(stats.submitted, 3);
    CHECK_EQ(stats.done, 3);
    CHECK_EQ(stats.caller_ran, 1);
    pthread_join(outsider.thread, NULL);
    CHECK_EQ(outsider.status, TWILL_OK);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

TEST(a_stop_tells_tasks_of_callers_and_lets_none_begin)
{
    struct gate gate = {0}, beside = {0};
    twill_pool *pool = caller_runs();
    struct outsider outsider = outside(pool, &gate);
    twill_stopped stopped;

    outsider_go(&outsider, at_gate_or_told, &beside);
    CHECK(gate_inside(&beside, 1));
    CHECK_EQ(twill_pool_stop(pool, twill_within(0), twill_within(TWILL_SEC(50)), &stopped),
             TWILL_OK);
    CHECK_EQ(stopped.cancelled, 3);
    CHECK_EQ(stopped.stuck, 0);
    pthread_join(outsider.thread, NULL);
    CHECK_EQ(outsider.status, TWILL_OK);
    CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_CLOSED);
    CHECK_EQ(stats_of(pool).cancelled, 3);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

TEST(a_closed_pool_takes_no_task_from_a_caller_though_it_is_full)
{
    struct gate gate = {0};
    twill_pool *pool = caller_runs();

    (void)outside(pool, &gate);
    CHECK_EQ(twill_pool_close(pool), TWILL_OK);
    CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_CLOSED);
    gate_open(&gate);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

static int here;

static int on_the_callers_thread(void *pool, void *result, const twill_task *task)
{
    twill_future future;

    (void)result;
    CHECK_PTR(twill_pool_current(), pool);
    CHECK_EQ(task->worker, UINT_MAX);
    CHECK_EQ(task->workers, 1);
    CHECK_PTR(task->context, &here);
    CHECK_EQ(twill_pool_wait_idle(pool), TWILL_DEADLOCK);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_DEADLOCK);
    CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_OK); /* on top of it */
    CHECK_EQ(twill_pool_submit(pool, run_it, NULL, &future, NULL), TWILL_OK);
    CHECK_EQ(twill_future_wait(future, NULL, NULL), TWILL_OK);
    twill_future_release(future);
    return 5;
}

TEST(a_caller_that_runs_a_task_is_a_part_of_the_pool)
{
    struct gate gate = {0};
    twill_pool *pool = caller_runs();
    twill_submit_options options = {.context = &here};
    twill_pool_stats stats;

    (void)outside(pool, &gate);
    atomic_store(&ran, 0);
    CHECK_EQ(twill_pool_submit(pool, on_the_callers_thread, pool, NULL, &options), TWILL_OK);
    CHECK_PTR(twill_pool_current(), NULL);
    CHECK_EQ(atomic_load(&ran), 2);
    gate_open(&gate);
    stats = idle_stats(pool);
    CHECK_EQ(stats.caller_ran, 3);
    CHECK_EQ(stats.failed, 1);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

struct two_pools {
    twill_pool *asked, *full;
    atomic_uint inside;
};

static int asks_beside_its_caller(const twill_task *task)
{
    struct two_pools *two = task->context;

    atomic_fetch_add(&two->inside, 1);
    while (atomic_load(&two->inside) < 2)
        (void)twill_sleep(twill_within(TWILL_US(50)));
    CHECK_EQ(twill_pool_wait_idle_until(two->asked, twill_within(TWILL_SEC(100))), TWILL_DEADLOCK);
    return 0;
}

static int calls_a_helper(void *two, void *result, const twill_task *task)
{
    (void)result, (void)task;
    CHECK_EQ(twill_parallel_for(2, asks_beside_its_caller,
                                &(twill_parallel_options){.run = {.workers = 2, .context = two},
                                                          .schedule = TWILL_SCHEDULE_DYNAMIC,
                                                          .chunk = 1}),
             TWILL_OK);
    return 0;
}

static int submits_to_a_full_one(void *two, void *result, const twill_task *task)
{
    (void)result, (void)task;
    CHECK_EQ(twill_pool_submit(((struct two_pools *)two)->full, calls_a_helper, two, NULL, NULL),
             TWILL_OK);
    return 0;
}

/* A task of one pool runs a plain one of another, whose call has a helper: that is a part of
   both. */
TEST(a_helper_is_a_part_of_the_task_around_its_callers)
{
    struct gate gate = {0};
    struct two_pools two = {.asked = pool_of(&(twill_pool_options){.run.workers = 1})};
    twill_future future;

    two.full = caller_runs();
    (void)outside(two.full, &gate);
    CHECK_EQ(twill_pool_submit(two.asked, submits_to_a_full_one, &two, &future, NULL), TWILL_OK);
    CHECK_EQ(twill_future_wait(future, NULL, NULL), TWILL_OK);
    twill_future_release(future);
    CHECK_EQ(atomic_load(&two.inside), 2);
    gate_open(&gate);
    CHECK_EQ(twill_pool_destroy(two.full), TWILL_OK);
    CHECK_EQ(twill_pool_destroy(two.asked), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

TEST(a_caller_whose_thread_ends_in_its_task_leaves_its_place)
{
    struct gate gate = {0};
    twill_pool *pool = caller_runs();
    struct outsider outsider = outside(pool, &gate);
    twill_pool_stats stats;

    for (int i = 0; i < 6; i++) {
        outsider_go(&outsider, exit_here, NULL);
        pthread_join(outsider.thread, NULL);
    }
    for (int i = 0; i < 6; i++) {
        outsider_go(&outsider, run_it, NULL);
        pthread_join(outsider.thread, NULL);
    }
    gate_open(&gate);
    stats = idle_stats(pool);
    CHECK_EQ(stats.lost, 6);
    CHECK_EQ(stats.caller_ran, 12);
    CHECK_EQ(stats.started, 14);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

TEST(a_caller_frees_the_abandoned_pool_whose_task_it_runs)
{
    for (int round = 0; round < 20; round++) {
        struct gate gate = {0}, beside = {0};
        twill_pool *pool = caller_runs();
        struct outsider outsider = outside(pool, &gate);
        twill_stopped stopped;

        outsider_go(&outsider, at_gate, &beside);
        CHECK(gate_inside(&beside, 1));
        CHECK_EQ(twill_pool_abandon(pool, &stopped), TWILL_OK);
        CHECK(stopped.stuck >= 1);
        gate_open(&beside);
        pthread_join(outsider.thread, NULL);
        CHECK(comes_true(nothing_lives, NULL, 0));
    }
}

/* ---- faults ---- */

TEST(every_allocation_fails_once)
{
    for (unsigned long k = 1; k < 40; k++) {
        twill_pool *pool = NULL;
        twill_status status;
        unsigned accepted = 0, refused = 0;

        faults_fail_alloc(k);
        status =
            twill_pool_create(&pool, &(twill_pool_options){.run.workers = 2,
                                                           .max_workers = 3,
                                                           .capacity = 200,
                                                           .overflow = TWILL_OVERFLOW_CALLER_RUNS});
        if (status == TWILL_OK) {
            twill_future futures[60];

            atomic_store(&ran, 0);
            (void)twill_pool_pause(pool);
            for (int i = 0; i < 60; i++) {
                status = twill_pool_submit(
                    pool, run_it, NULL, &futures[accepted],
                    &(twill_submit_options){.result_size = i % 4 ? 0 : 300,
                                            .priority = i > 20 ? i % 3 : 0,
                                            .start_at = i % 5 ? 0 : twill_now() + TWILL_US(50)});
                CHECK(status == TWILL_OK || status == TWILL_NO_MEMORY);
                accepted += status == TWILL_OK;
                refused += status == TWILL_NO_MEMORY;
            }
            (void)twill_pool_resume(pool);
            CHECK_EQ(twill_future_wait_all(futures, accepted, twill_within(TWILL_SEC(60))),
                     TWILL_OK);
            for (unsigned i = 0; i < accepted; i++)
                twill_future_release(futures[i]);
            CHECK(refused <= 1);
            CHECK_EQ(idle_stats(pool).done, accepted);
            CHECK_EQ(stats_of(pool).refused, refused);
            CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
        } else {
            CHECK(status == TWILL_NO_MEMORY || status == TWILL_NO_THREAD);
        }
        faults_fail_alloc(0);
        CHECK_EQ(faults_live(), 0);
    }
}

TEST(threads_fail_while_it_runs)
{
    for (unsigned k = 1; k <= 6; k++) {
        twill_pool *pool;

        pool = pool_of(&(twill_pool_options){.run.workers = 3, .lazy = true});
        atomic_store(&ran, 0);
        faults_fail_thread(k);
        for (int i = 0; i < 20; i++)
            CHECK_EQ(twill_pool_submit(pool, i % 5 == 4 ? exit_here : run_it, NULL, NULL, NULL),
                     TWILL_OK);
        faults_fail_thread(0);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
        CHECK_EQ(atomic_load(&ran), 16);
        CHECK_EQ(faults_live(), 0);
    }
}

/* The only worker ends, and no other can be had at that moment: who waits sees to it later. */
TEST(wait_idle_gets_a_worker_where_none_is_left)
{
    for (int later = 0; later < 2; later++) {
        twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1});

        clear_counts();
        CHECK_EQ(twill_pool_pause(pool), TWILL_OK);
        CHECK_EQ(twill_pool_submit(pool, exit_here, NULL, NULL, NULL), TWILL_OK);
        CHECK_EQ(twill_pool_submit(
                     pool, run_it, NULL, NULL,
                     &(twill_submit_options){.start_at = later ? twill_now() + TWILL_MS(100) : 0}),
                 TWILL_OK);
        faults_fail_thread(1);
        CHECK_EQ(twill_pool_resume(pool), TWILL_OK);
        CHECK(comes_true(has_workers, pool, 0));
        CHECK_EQ(twill_pool_wait_idle_until(pool, twill_within(TWILL_MS(5))), TWILL_TIMEOUT);
        faults_fail_thread(0);
        CHECK_EQ(twill_pool_wait_idle(pool), TWILL_OK);
        CHECK_EQ(atomic_load(&ran), 1);
        CHECK_EQ(idle_stats(pool).lost, 1);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
        CHECK_EQ(faults_live(), 0);
    }
}

TEST(a_wait_for_workers_that_cannot_start_ends_by_its_time)
{
    twill_pool *pool;

    clear_counts();
    pool = pool_of(&(twill_pool_options){.run.workers = 1, .run.worker_start = start_once});
    CHECK_EQ(twill_pool_pause(pool), TWILL_OK);
    CHECK_EQ(twill_pool_submit(pool, exit_here, NULL, NULL, NULL), TWILL_OK);
    CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_OK);
    CHECK_EQ(twill_pool_resume(pool), TWILL_OK);
    CHECK_EQ(twill_pool_wait_idle_until(pool, twill_within(TWILL_MS(50))), TWILL_TIMEOUT);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(atomic_load(&ran), 0);
    CHECK_EQ(faults_live(), 0);
}

static atomic_uint heard[TWILL_EVENT_REFUSED + 1];

static void hear(const twill_task_info *info, const twill_task *task)
{
    (void)task;
    atomic_fetch_add(&heard[info->event], 1);
}

static void told_nothing(int reason, const twill_task *task)
{
    (void)reason, (void)task;
    CHECK(false);
}

static int until_fired(void *token, void *result, const twill_task *task)
{
    twill_cancel_hook hook = {.fn = told_nothing};

    (void)result;
    CHECK_PTR(twill_pool_current(), task->context);
    CHECK(!twill_task_cancelled(task));
    twill_cancel_add_hook(task->until.cancel, &hook); /* it uses its token */
    twill_cancel_remove_hook(task->until.cancel, &hook);
    twill_cancel_fire(token, 0);
    CHECK_EQ(twill_sleep(twill_until_cancelled(task->until.cancel)), TWILL_CANCELLED);
    return twill_task_cancelled(task) ? twill_task_skip(task) : 98;
}

/* What destroy runs itself, since no worker can be had, is a task like any other. */
TEST(destroy_runs_tasks_as_a_worker_would)
{
    for (int ask = 0; ask < 2; ask++) { /* a plain one, or one with a future */
        twill_cancel token = {0};
        twill_future future;
        twill_stopped stopped;
        twill_pool *pool = pool_of(&(twill_pool_options){
            .run.workers = 1, .lazy = true, .run.until.cancel = &token, .on_event = hear});

        for (unsigned i = 0; i <= TWILL_EVENT_REFUSED; i++)
            atomic_store(&heard[i], 0);
        faults_fail_thread(1);
        CHECK_EQ(twill_pool_submit(pool, until_fired, &token, ask ? &future : NULL,
                                   &(twill_submit_options){.context = pool}),
                 TWILL_OK);
        CHECK_EQ(twill_pool_stop(pool, (twill_until){0, NULL}, (twill_until){0, NULL}, &stopped),
                 TWILL_OK);
        faults_fail_thread(0);
        CHECK_EQ(atomic_load(&heard[TWILL_EVENT_STARTED]), 1);
        CHECK_EQ(atomic_load(&heard[TWILL_EVENT_ENDED]), 1);
        CHECK_EQ(stopped.cancelled, 1); /* it gave up */
        CHECK_EQ(stats_of(pool).started, 1);
        CHECK_EQ(stats_of(pool).cancelled, 1);
        if (ask)
            twill_future_release(future);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
        CHECK_EQ(faults_live(), 0);
    }
}

static int naps(void *unused, void *result, const twill_task *task)
{
    (void)unused, (void)result;
    (void)twill_sleep((twill_until){twill_now() + TWILL_US(50), task->until.cancel});
    return 0;
}

/* Its token stood in the list of the one above, which fires when the pool is gone. */
TEST(nothing_of_a_task_stays_in_the_token_above_it)
{
    /* with a future; by a worker, or by the thread that stops */
    for (int way = 0; way < 4; way++) {
        twill_cancel token = {0};
        twill_until forever = {0, NULL};
        twill_pool *pool = pool_of(
            &(twill_pool_options){.run.workers = 1, .lazy = true, .run.until.cancel = &token});
        twill_future future;
        twill_stopped stopped;

        faults_fail_thread(way & 2 ? 1 : 0);
        CHECK_EQ(twill_pool_submit(pool, naps, NULL, way & 1 ? &future : NULL, NULL), TWILL_OK);
        CHECK_EQ(twill_pool_stop(pool, forever, forever, &stopped), TWILL_OK);
        faults_fail_thread(0);
        CHECK(stopped.finished <= 1);
        if (way & 2)
            CHECK_EQ(stopped.finished, 1);
        CHECK_EQ(stopped.cancelled, 0);
        if (way & 1)
            twill_future_release(future);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
        CHECK_EQ(faults_live(), 0);
        twill_cancel_fire(&token, 1);
        CHECK_EQ(twill_cancel_reason(&token), 1);
    }
    { /* by the thread that submits */
        struct gate gate = {0};
        twill_cancel token = {0};
        twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1,
                                                         .run.until.cancel = &token,
                                                         .capacity = 1,
                                                         .overflow = TWILL_OVERFLOW_CALLER_RUNS});

        (void)outside(pool, &gate);
        CHECK_EQ(twill_pool_submit(pool, naps, NULL, NULL, NULL), TWILL_OK);
        CHECK_EQ(stats_of(pool).caller_ran, 1);
        gate_open(&gate);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
        CHECK_EQ(faults_live(), 0);
        twill_cancel_fire(&token, 1);
        CHECK_EQ(twill_cancel_reason(&token), 1);
    }
}

/* One after the other by the same worker, who does not come to the lock between them. */
TEST(a_task_behind_another_ends_the_thread)
{
    for (int ask = 0; ask < 2; ask++) { /* which of them is the plain one */
        twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1, .on_event = hear});
        twill_future future;
        twill_pool_stats stats;

        for (unsigned i = 0; i <= TWILL_EVENT_REFUSED; i++)
            atomic_store(&heard[i], 0);
        CHECK_EQ(twill_pool_pause(pool), TWILL_OK);
        CHECK_EQ(twill_pool_submit(pool, run_it, NULL, ask ? NULL : &future, NULL), TWILL_OK);
        CHECK_EQ(twill_pool_submit(pool, exit_here, NULL, ask ? &future : NULL, NULL), TWILL_OK);
        CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_OK);
        CHECK_EQ(twill_pool_resume(pool), TWILL_OK);
        stats = idle_stats(pool);
        CHECK_EQ(stats.lost, 1);
        CHECK_EQ(stats.done, 2);
        CHECK_EQ(atomic_load(&heard[TWILL_EVENT_ENDED]), 3);
        twill_future_release(future);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
        CHECK_EQ(faults_live(), 0);
    }
}

/* A worker that has gone is not counted on. */
TEST(the_times_are_of_the_workers_there_are)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 3});
    twill_pool_stats one, two;
    twill_ns begun, took;

    CHECK(comes_true(has_workers, pool, 3));
    CHECK_EQ(twill_pool_resize(pool, 1, 0), TWILL_OK);
    CHECK(comes_true(has_workers, pool, 1));
    begun = twill_now();
    one = stats_of(pool);
    (void)twill_sleep(twill_within(TWILL_MS(4)));
    two = stats_of(pool);
    took = twill_now() - begun;
    CHECK(two.busy_total + two.idle_total - one.busy_total - one.idle_total <= took + took / 4);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

static atomic_uint highs, lows;

static void edge(bool high, size_t length, const twill_task *task)
{
    (void)length, (void)task;
    atomic_fetch_add(high ? &highs : &lows, 1);
}

TEST(destroy_tells_the_low_mark_of_what_it_runs)
{
    twill_pool *pool = pool_of(&(twill_pool_options){
        .run.workers = 1, .lazy = true, .high_mark = 3, .low_mark = 1, .on_level = edge});

    atomic_store(&highs, 0);
    atomic_store(&lows, 0);
    clear_counts();
    faults_fail_thread(1);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_OK);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    faults_fail_thread(0);
    CHECK_EQ(atomic_load(&ran), 4);
    CHECK_EQ(atomic_load(&highs), 1);
    CHECK_EQ(atomic_load(&lows), 1);
    CHECK_EQ(faults_live(), 0);
}

/* ---- forks ---- */

TEST(a_child_has_no_pool)
{
    twill_pool *pool =
        pool_of(&(twill_pool_options){.run.workers = 2, .stuck_after = TWILL_SEC(9)});
    twill_future future;
    pid_t child;
    int status = -1;

    CHECK_EQ(twill_pool_submit(pool, run_it, NULL, &future, NULL), TWILL_OK);
    CHECK_EQ(twill_future_wait(future, NULL, NULL), TWILL_OK);
    child = fork();
    if (child == 0) {
        CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_FORKED);
        CHECK_EQ(twill_pool_wait_idle(pool), TWILL_FORKED);
        CHECK_EQ(twill_pool_pause(pool), TWILL_FORKED);
        CHECK_EQ(twill_pool_close(pool), TWILL_FORKED);
        CHECK_EQ(twill_pool_resize(pool, 3, 0), TWILL_FORKED);
        CHECK_EQ(twill_pool_each_worker(pool, run_it, NULL, twill_within(0)), TWILL_FORKED);
        CHECK_EQ(twill_pool_stop(pool, twill_within(0), twill_within(0), NULL), TWILL_FORKED);
        CHECK_EQ(twill_future_wait(future, NULL, NULL), TWILL_FORKED);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
#ifndef TWILL__UNDER_TSAN /* which lets no forked child have threads */
        pool = pool_of(NULL);
        CHECK_EQ(twill_pool_submit(pool, run_it, NULL, &future, NULL), TWILL_OK);
        CHECK_EQ(twill_future_wait(future, NULL, NULL), TWILL_OK);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
#endif
        _exit(0);
    }
    waitpid(child, NULL, 0);
    twill_future_release(future);
    child = fork();
    if (child == 0) {
        CHECK_EQ(twill_pool_abandon(pool, NULL), TWILL_OK);
        _exit(atomic_load(&harness_failures) != 0);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

/* The child has one thread, the one that forked. It must not hang, and run nothing of the
   parent's. */
static int fork_here(void *ends, void *result, const twill_task *task)
{
    int status = -1;
    pid_t child;

    (void)result, (void)task;
    child = fork();
    if (child == 0) {
        (void)alarm(20);
        if (ends)
            exit_here(NULL, NULL, task);
        return 0;
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    return 0;
}

static int only_in_parent(void *parent, void *result, const twill_task *task)
{
    (void)result, (void)task;
    if (getpid() != *(pid_t *)parent)
        _exit(3);
    return 0;
}

TEST(a_task_that_forks_ends_in_the_child)
{
    pid_t parent = getpid();
#if defined __SANITIZE_ADDRESS__ || defined TWILL__UNDER_TSAN
    SKIP("another thread may hold a lock of the sanitizer's own while one forks");
#endif
    for (int kind = 0; kind < 12; kind++) {
        twill_pool *pool = pool_of(
            &(twill_pool_options){.run.workers = 2, .stuck_after = kind & 1 ? TWILL_SEC(100) : 0});
        twill_future future;

        CHECK_EQ(twill_pool_submit(pool, fork_here, kind & 4 ? pool : NULL,
                                   kind & 2 ? &future : NULL, NULL),
                 TWILL_OK);
        for (int i = 0; i < 20; i++)
            CHECK_EQ(twill_pool_submit(pool, only_in_parent, &parent, NULL, NULL), TWILL_OK);
        if (kind & 2) {
            CHECK_EQ(twill_future_wait_until(future, NULL, NULL, twill_within(TWILL_SEC(60))),
                     TWILL_OK);
            twill_future_release(future);
        }
        if (kind & 8)
            CHECK_EQ(twill_pool_each_worker(pool, fork_here, NULL, (twill_until){0, NULL}),
                     TWILL_OK);
        CHECK_EQ(idle_stats(pool).done, 21);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    }
    CHECK_EQ(faults_live(), 0);
}

TEST(a_helped_task_that_forks_says_so)
{
    pid_t parent = getpid(), child;
    struct gate gate = {0};
    twill_pool *pool;
    twill_future future;
    twill_status status;
#if defined __SANITIZE_ADDRESS__ || defined TWILL__UNDER_TSAN
    SKIP("as above");
#endif
    pool = pool_of(&(twill_pool_options){.run.workers = 1});
    CHECK_EQ(twill_pool_submit(pool, at_gate, &gate, NULL, NULL), TWILL_OK);
    CHECK(gate_inside(&gate, 1));
    CHECK_EQ(twill_pool_submit(pool, fork_here, NULL, &future, NULL), TWILL_OK);
    status = twill_future_wait(future, NULL, NULL); /* it runs here */
    child = getpid();
    if (child != parent)
        _exit(status == TWILL_FORKED && twill_pool_destroy(pool) == TWILL_OK ? 0 : 4);
    CHECK_EQ(status, TWILL_OK);
    twill_future_release(future);
    gate_open(&gate);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

/* So does one that its submitter runs, since the queue is full, plain or not; whether it returns or
   ends its thread. */
TEST(a_task_that_forks_on_its_submitter_ends_in_the_child)
{
    pid_t parent = getpid();
#if defined __SANITIZE_ADDRESS__ || defined TWILL__UNDER_TSAN
    SKIP("as above");
#endif
    for (int kind = 0; kind < 4; kind++) {
        struct gate gate = {0};
        twill_pool *pool = caller_runs();
        twill_future future;
        twill_status status;

        CHECK_EQ(twill_pool_submit(pool, at_gate, &gate, NULL, NULL), TWILL_OK);
        CHECK(gate_inside(&gate, 1));
        CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_OK);
        status = twill_pool_submit(pool, fork_here, kind & 1 ? pool : NULL,
                                   kind & 2 ? &future : NULL, NULL);
        if (getpid() != parent)
            _exit(status == TWILL_OK && twill_pool_destroy(pool) == TWILL_OK ? 0 : 4);
        CHECK_EQ(status, TWILL_OK);
        if (kind & 2) {
            CHECK_EQ(twill_future_try_wait(future, NULL, NULL), TWILL_OK);
            twill_future_release(future);
        }
        gate_open(&gate);
        CHECK_EQ(idle_stats(pool).done, 3);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    }
    CHECK_EQ(faults_live(), 0);
}

static int run_a_fork_inside(void *ends, void *result, const twill_task *task)
{
    pid_t parent = getpid();
    twill_pool *pool = twill_pool_current();
    twill_future future;

    (void)result, (void)task;
    CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_OK);
    CHECK_EQ(twill_pool_submit(pool, fork_here, ends, &future, NULL), TWILL_OK);
    if (getpid() != parent)
        _exit(twill_pool_destroy(pool) == TWILL_OK ? 0 : 4);
    twill_future_release(future);
    return 0;
}

TEST(a_task_that_forks_inside_another_ends_in_the_child)
{
#if defined __SANITIZE_ADDRESS__ || defined TWILL__UNDER_TSAN
    SKIP("as above");
#endif
    for (int ends = 0; ends < 2; ends++) {
        twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1, .capacity = 1});

        CHECK_EQ(twill_pool_submit(pool, run_a_fork_inside, ends ? pool : NULL, NULL, NULL),
                 TWILL_OK);
        CHECK_EQ(idle_stats(pool).done, 3);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    }
    CHECK_EQ(faults_live(), 0);
}

/* ---- calls and tasks on the same threads ---- */

static int square_in(const void *in, void *out, const twill_task *task)
{
    (void)task;
    *(int *)out = *(const int *)in * *(const int *)in;
    return 0;
}

/* A worker comes from its task into a call, whose item forks. */
struct meeting {
    struct gate gate, met;
};

static int item_of_two(const twill_task *task)
{
    struct meeting *meeting = task->context;

    if (task->index == 0) {
        gate_open(&meeting->gate);
        return gate_inside(&meeting->met, 1) ? 0 : 99;
    }
    atomic_fetch_add(&meeting->met.inside, 1);
    return fork_here(NULL, NULL, task);
}

TEST(an_item_that_forks_ends_in_the_child)
{
#if defined __SANITIZE_ADDRESS__ || defined TWILL__UNDER_TSAN
    SKIP("another thread may hold a lock of the sanitizer's own while one forks");
#endif
    for (int round = 0; round < 3; round++) {
        struct meeting meeting = {{0}, {0}};
        twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1});

        CHECK_EQ(twill_pool_submit(pool, at_gate, &meeting.gate, NULL, NULL), TWILL_OK);
        CHECK(gate_inside(&meeting.gate, 1));
        CHECK_EQ(twill_parallel_for(2, item_of_two,
                                    &(twill_parallel_options){.run.pool = pool,
                                                              .run.workers = 2,
                                                              .run.context = &meeting}),
                 TWILL_OK);
        CHECK_EQ(idle_stats(pool).done, 1);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    }
    CHECK_EQ(faults_live(), 0);
}

/* As another version of the header might have made it. */
TEST(a_pool_of_another_layout_is_refused)
{
    static TWILL_ALIGNAS(64) unsigned memory[64];
    static const twill_until forever;
    twill_pool *pool = (twill_pool *)(void *)memory;
    twill_pool_stats stats;
    int item = 0;

    memory[0] = UINT_MAX;
    CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_INVALID);
    CHECK_EQ(twill_pool_pause(pool), TWILL_INVALID);
    CHECK_EQ(twill_pool_resize(pool, 1, 1), TWILL_INVALID);
    CHECK_EQ(twill_pool_wait_idle(pool), TWILL_INVALID);
    CHECK_EQ(twill_pool_each_worker(pool, run_it, NULL, forever), TWILL_INVALID);
    CHECK_EQ(twill_pool_close(pool), TWILL_INVALID);
    CHECK_EQ(twill_pool_stop(pool, forever, forever, NULL), TWILL_INVALID);
    CHECK_EQ(twill_pool_abandon(pool, NULL), TWILL_INVALID);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_INVALID);
    twill_pool_get_stats(pool, &stats);
    CHECK_EQ(stats.capacity, 0);
    CHECK_EQ(twill_parallel_map(&item, sizeof item, &item, sizeof item, 1, square_in,
                                &(twill_parallel_options){.run.pool = pool}),
             TWILL_INVALID);
}

static int map_inside(void *pool, void *result, const twill_task *task)
{
    static int in[64];
    int out[64];

    (void)result;
    return (int)twill_parallel_map(
        in, sizeof *in, out, sizeof *out, 64, square_in,
        &(twill_parallel_options){.run.pool = task->index % 2 ? pool : NULL});
}

TEST(tasks_and_parallel_calls_share_the_threads)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 3});

    for (int round = 0; round < 100; round++) {
        int in[500] = {0}, out[500];

        for (int i = 0; i < 20; i++)
            CHECK_EQ(twill_pool_submit(pool, map_inside, pool, NULL, NULL), TWILL_OK);
        CHECK_EQ(twill_parallel_map(in, sizeof *in, out, sizeof *out, 500, square_in,
                                    &(twill_parallel_options){.run.pool = pool}),
                 TWILL_OK);
    }
    CHECK_EQ(idle_stats(pool).done, 2000);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

static int open_gate(void *gate, void *result, const twill_task *task)
{
    (void)result, (void)task;
    gate_open(gate);
    return 0;
}

static int wait_at(const twill_task *task)
{
    return gate_wait(task->context) ? 0 : 99;
}

/* A worker that spins may know of the timer alone, and is who takes part in the call. */
TEST(a_timer_does_not_wait_for_a_call_while_a_worker_is_idle)
{
    for (int round = 0; round < 20; round++) {
        struct gate gate = {0};
        twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 3});
        twill_future future;

        (void)twill_sleep(twill_within(TWILL_MS(round % 3))); /* all of them sleep, or not yet */
        CHECK_EQ(twill_pool_submit(pool, open_gate, &gate, &future,
                                   &(twill_submit_options){.start_at = twill_now() + TWILL_MS(2)}),
                 TWILL_OK);
        CHECK_EQ(twill_parallel_for(2, wait_at,
                                    &(twill_parallel_options){
                                        .run.pool = pool, .run.workers = 2, .run.context = &gate}),
                 TWILL_OK);
        twill_future_release(future);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    }
    CHECK_EQ(faults_live(), 0);
}

TEST(many_pools_come_and_go)
{
    int before = kit_threads();
    twill_ns since;

    for (int i = 0; i < 3000; i++) {
        twill_pool *pool =
            pool_of(&(twill_pool_options){.run.workers = 1 + (unsigned)i % 2, .lazy = i % 4 == 1});

        if (i % 3)
            CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_OK);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    }
    /* a hundred thousand of them; one of a thousand has had a thread */
    for (int i = 0; i < 100000; i++) {
        twill_pool *pool = NULL;

        if (twill_pool_create(&pool, &(twill_pool_options){.run.workers = 1, .lazy = true}) !=
                TWILL_OK ||
            (i % 1000 == 0 && twill_pool_submit(pool, run_it, NULL, NULL, NULL) != TWILL_OK) ||
            twill_pool_destroy(pool) != TWILL_OK)
            CHECK_EQ(i, -1); /* a life went wrong */
    }
    CHECK(kit_threads_back_to(before));
    CHECK_EQ(faults_live(), 0);
    {
        twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 16});

        since = twill_now();
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
        CHECK(twill_now() - since < TWILL_SEC(100));
    }
}

HARNESS_MAIN

/* ---- given up in odd places ---- */

typedef struct nest {
    struct gate gate;
    twill_pool *pool;
    twill_future inner;
    pthread_t thread;
    twill_status each;
    uint64_t runs_outer, runs_inner; /* thread_mark */
} nest;

static int inner_of_nest(void *nest_, void *result, const twill_task *task)
{
    nest *n = nest_;
    n->runs_inner = thread_mark();
    return block_here(&n->gate, result, task);
}

/* Runs another task while it waits for it, which says that it blocks, and is stuck. */
static int outer_of_nest(void *nest_, void *result, const twill_task *task)
{
    nest *n = nest_;
    (void)result, (void)task;
    n->runs_outer = thread_mark();
    CHECK_EQ(twill_pool_submit(n->pool, inner_of_nest, n, &n->inner, NULL), TWILL_OK);
    return twill_future_wait(n->inner, NULL, NULL) == TWILL_OK ? 5 : 6;
}

static void *each_of_nest(void *nest_)
{
    nest *n = nest_;
    n->each = twill_pool_each_worker(n->pool, run_it, NULL, twill_within(TWILL_SEC(100)));
    return NULL;
}

/* Both are LOST, who waits for every worker does not wait for this one, and the pool goes on. */
static bool both_are_lost(twill_ns stuck_after)
{
    nest n = {.each = TWILL_LOST};
    twill_future outer;
    twill_outcome outcome;
    twill_pool_stats stats;
    clear_counts();
    n.pool = pool_of(&(twill_pool_options){
        .run.workers = 1, .stuck_after = stuck_after, .max_abandoned = 1, .on_event = on_event});
    CHECK_EQ(twill_pool_submit(n.pool, outer_of_nest, &n, &outer, NULL), TWILL_OK);
    CHECK(gate_inside(&n.gate, 1));
    if (n.runs_inner != n.runs_outer) { /* given up before it waited */
        gate_open(&n.gate);
        CHECK_EQ(twill_future_wait(n.inner, NULL, NULL), TWILL_OK);
        CHECK(comes_true(gave_up, n.pool, 0));
        twill_future_release(outer);
        twill_future_release(n.inner);
        CHECK_EQ(twill_pool_destroy(n.pool), TWILL_OK);
        return false;
    }
    CHECK_EQ(pthread_create(&n.thread, NULL, each_of_nest, &n), 0);
    CHECK_EQ(twill_future_wait(outer, NULL, &outcome), TWILL_FAILED);
    CHECK_EQ(outcome.status, TWILL_LOST);
    CHECK_EQ(twill_future_wait(n.inner, NULL, &outcome), TWILL_FAILED);
    CHECK_EQ(outcome.status, TWILL_LOST);
    CHECK(comes_true(gave_up, n.pool, 1));
    CHECK_EQ(stats_of(n.pool).blocked, 0);
    pthread_join(n.thread, NULL);
    CHECK_EQ(n.each, TWILL_OK);
    CHECK_EQ(twill_pool_submit(n.pool, run_it, NULL, NULL, NULL), TWILL_OK);
    CHECK_EQ(twill_pool_wait_idle(n.pool), TWILL_OK);
    gate_open(&n.gate);
    CHECK(comes_true(gave_up, n.pool, 0));
    stats = idle_stats(n.pool);
    CHECK_EQ(stats.lost, 2);
    CHECK_EQ(stats.blocked, 0);
    twill_future_release(outer);
    twill_future_release(n.inner);
    CHECK_EQ(twill_pool_destroy(n.pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
    return true;
}

TEST(a_worker_is_given_up_with_all_that_it_stands_in)
{
    CHECK(test_in_time(TWILL_MS(8), both_are_lost));
}

/* A pool that was made smaller does not replace the one that is stuck. */
TEST(one_too_many_is_given_up_and_not_replaced)
{
    struct gate gate = {0};
    twill_pool *pool;
    clear_counts();
    pool = pool_of(&(twill_pool_options){
        .run.workers = 2, .stuck_after = TWILL_MS(20), .max_abandoned = 2, .on_event = on_event});
    for (int i = 0; i < 2; i++)
        CHECK_EQ(
            twill_pool_submit(pool, stuck_here, &gate, NULL, &(twill_submit_options){.key = &gate}),
            TWILL_OK);
    CHECK(gate_inside(&gate, 2));
    CHECK_EQ(twill_pool_resize(pool, 1, 0), TWILL_OK);
    CHECK(comes_true(gave_up, pool, 2));
    CHECK(comes_true(has_workers, pool, 1));
    CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_OK);
    CHECK_EQ(twill_pool_wait_idle(pool), TWILL_OK);
    CHECK_EQ(stats_of(pool).lost, 2);
    gate_open(&gate);
    CHECK(comes_true(gave_up, pool, 0));
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

/* ---- small changes, and the end, in odd states ---- */

static int resize_inside(void *pool, void *result, const twill_task *task)
{
    twill_status *said = result;
    (void)task;
    *said = twill_pool_resize(pool, 2, 0); /* does not wait for the thread that comes */
    return 0;
}

static int waits_inside(void *pool, void *result, const twill_task *task)
{
    twill_status *said = result;
    (void)task;
    *said = twill_pool_wait_idle(pool);
    CHECK_EQ(twill_pool_each_worker(pool, run_it, NULL, twill_within(0)), TWILL_DEADLOCK);
    return 0;
}

TEST(changes_from_inside_and_of_lazy_or_closed_pools)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1});
    const twill_submit_options gives = {.result_size = sizeof(twill_status)};
    twill_status said = TWILL_LOST;
    twill_future future;
    CHECK_EQ(twill_pool_submit(pool, resize_inside, pool, &future, &gives), TWILL_OK);
    CHECK_EQ(twill_future_wait(future, &said, NULL), TWILL_OK);
    CHECK_EQ(said, TWILL_OK);
    twill_future_release(future);
    CHECK(comes_true(has_workers, pool, 2));
    CHECK_EQ(twill_pool_submit(pool, waits_inside, pool, &future, &gives), TWILL_OK);
    CHECK_EQ(twill_future_wait(future, &said, NULL), TWILL_OK);
    CHECK_EQ(said, TWILL_DEADLOCK);
    twill_future_release(future);
    faults_fail_thread(1); /* the watch that a pool which may grow needs */
    CHECK_EQ(twill_pool_resize(pool, 2, 4), TWILL_NO_THREAD);
    faults_fail_thread(0);
    CHECK_EQ(twill_pool_resize(pool, 2, 4), TWILL_OK);
    faults_fail_thread(1);
    CHECK_EQ(twill_pool_resize(pool, 4, 4), TWILL_NO_THREAD); /* there are two, and more are owed */
    faults_fail_thread(0);
    CHECK_EQ(twill_pool_resize(pool, 3, 4), TWILL_OK);
    CHECK(comes_true(has_workers, pool, 3));
    CHECK_EQ(twill_pool_close(pool), TWILL_OK);
    CHECK_EQ(twill_pool_resize(pool, 1, 0), TWILL_CLOSED);
    CHECK_EQ(twill_pool_each_worker(pool, run_it, NULL, twill_within(0)), TWILL_CLOSED);
    CHECK_EQ(twill_pool_pause(pool), TWILL_CLOSED);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    pool = pool_of(&(twill_pool_options){
        .run.workers = 1, .lazy = true, .run.name = "a name that is far too long for a thread"});
    CHECK_EQ(twill_pool_resize(pool, 3, 0), TWILL_OK);
    CHECK_EQ(stats_of(pool).workers, 0);
    CHECK_EQ(twill_pool_wait_idle_until(pool, twill_within(0)), TWILL_OK);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.max_workers = 1}), TWILL_OK);
    CHECK_EQ(stats_of(pool).workers, 1); /* no more than that, whatever the machine has */
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

typedef struct each_call {
    pthread_t thread;
    twill_pool *pool;
    twill_until until;
    struct gate *gate;
    twill_status status;
} each_call;

static void *each_main(void *call_)
{
    each_call *call = call_;
    call->status = twill_pool_each_worker(call->pool, at_gate, call->gate, call->until);
    return NULL;
}

/* The second one stands behind the first, and gives up: the first goes on. */
TEST(two_calls_on_every_worker)
{
    struct gate gate = {0};
    each_call first = {.gate = &gate}, second = {.gate = &gate};
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1});
    twill_cancel token;
    twill_cancel_init(&token, NULL);
    first.pool = second.pool = pool;
    second.until = twill_until_cancelled(&token);
    CHECK_EQ(pthread_create(&first.thread, NULL, each_main, &first), 0);
    CHECK(gate_inside(&gate, 1));
    CHECK_EQ(pthread_create(&second.thread, NULL, each_main, &second), 0);
    (void)twill_sleep(twill_within(TWILL_MS(2))); /* it waits by then, or does not begin to */
    twill_cancel_fire(&token, 1);
    pthread_join(second.thread, NULL);
    CHECK_EQ(second.status, TWILL_CANCELLED);
    gate_open(&gate);
    pthread_join(first.thread, NULL);
    CHECK_EQ(first.status, TWILL_OK);
    CHECK_EQ(atomic_load(&gate.inside), 1);
    twill_cancel_detach(&token);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

struct both {
    twill_pool *pool;
    struct gate gate;
    atomic_uint ran[2][2]; /* by call and worker */
    pthread_t thread;
    twill_status status;
};

static int opens(void *gate, void *result, const twill_task *task)
{
    (void)result, (void)task;
    gate_open(gate);
    return 0;
}

static int first_of_both(void *both_, void *result, const twill_task *task)
{
    struct both *both = both_;

    (void)result;
    atomic_fetch_add(&both->ran[0][task->worker], 1);
    return task->worker == 1 && !gate_wait(&both->gate);
}

static int second_of_both(void *both_, void *result, const twill_task *task)
{
    struct both *both = both_;

    (void)result;
    atomic_fetch_add(&both->ran[1][task->worker], 1);
    if (task->worker == 0) /* the other one is still in the first call, until it has run this */
        CHECK_EQ(twill_pool_submit(both->pool, opens, &both->gate, NULL, NULL), TWILL_OK);
    return 0;
}

static void *first_call(void *both_)
{
    struct both *both = both_;

    both->status =
        twill_pool_each_worker(both->pool, first_of_both, both, twill_within(TWILL_FOREVER));
    return NULL;
}

/* A worker that is through with two calls goes on, although another one is held up in the first. */
TEST(a_worker_that_is_through_with_two_calls_goes_on)
{
    struct both both = {.pool = pool_of(&(twill_pool_options){.run.workers = 2})};

    CHECK_EQ(pthread_create(&both.thread, NULL, first_call, &both), 0);
    CHECK(gate_inside(&both.gate, 1));
    CHECK_EQ(twill_pool_each_worker(both.pool, second_of_both, &both, twill_within(TWILL_FOREVER)),
             TWILL_OK);
    pthread_join(both.thread, NULL);
    CHECK_EQ(both.status, TWILL_OK);
    for (int k = 0; k < 4; k++)
        CHECK_EQ(atomic_load(&both.ran[k / 2][k % 2]), 1);
    CHECK_EQ(twill_pool_destroy(both.pool), TWILL_OK);
}

static struct gate stays, goes_last;

static void three_goes_last(void *state, const twill_task *task)
{
    (void)state;
    if (task->worker == 3)
        CHECK(gate_wait(&goes_last));
}

static int zero_stays(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result;
    return task->worker == 0 && !gate_wait(&stays);
}

static void *first_one_stays(void *pool)
{
    CHECK_EQ(twill_pool_each_worker(pool, zero_stays, NULL, twill_within(TWILL_FOREVER)), TWILL_OK);
    return NULL;
}

static int so_many_workers(void *arg, void *result, const twill_task *task)
{
    (void)arg;
    *(unsigned *)result = task->workers;
    return 0;
}

/* Whichever of those who are too many leaves last, tasks are told how many are left. */
TEST(tasks_are_told_of_a_smaller_pool)
{
    twill_pool *pool =
        pool_of(&(twill_pool_options){.run.workers = 4, .run.worker_stop = three_goes_last});
    unsigned workers = 0;
    twill_future future;
    pthread_t thread;

    atomic_store(&stays.inside, 0);
    atomic_store(&stays.open, 0);
    atomic_store(&goes_last.open, 0);
    CHECK_EQ(pthread_create(&thread, NULL, first_one_stays, pool), 0);
    CHECK(gate_inside(&stays, 1));
    CHECK_EQ(twill_pool_resize(pool, 1, 0), TWILL_OK);
    CHECK(comes_true(has_workers, pool, 2));
    gate_open(&goes_last);
    CHECK(comes_true(has_workers, pool, 1));
    gate_open(&stays);
    pthread_join(thread, NULL);
    CHECK_EQ(twill_pool_submit(pool, so_many_workers, NULL, &future,
                               &(twill_submit_options){.result_size = sizeof workers}),
             TWILL_OK);
    CHECK_EQ(twill_future_wait(future, &workers, NULL), TWILL_OK);
    CHECK_EQ(workers, 1);
    twill_future_release(future);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

/* Twenty who wait for room are told at once that there will be none. */
enum { CROWD = 20 };
static atomic_uint crowd_comes, crowd_closed;

static void *crowd_main(void *pool)
{
    twill_status status;
    atomic_fetch_add(&crowd_comes, 1);
    status = twill_pool_submit(pool, run_it, NULL, NULL, NULL);
    CHECK_EQ(status, TWILL_CLOSED);
    atomic_fetch_add(&crowd_closed, status == TWILL_CLOSED);
    return NULL;
}

TEST(a_crowd_that_waits_for_room_is_told)
{
    struct gate gate = {0};
    pthread_t threads[CROWD];
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1, .capacity = 1});
    twill_stopped stopped;
    atomic_store(&crowd_closed, 0);
    atomic_store(&crowd_comes, 0);
    CHECK_EQ(twill_pool_submit(pool, at_gate_or_told, &gate, NULL, NULL), TWILL_OK);
    CHECK(gate_inside(&gate, 1));
    CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_OK);
    for (int k = 0; k < CROWD; k++)
        CHECK_EQ(pthread_create(&threads[k], NULL, crowd_main, pool), 0);
    while (atomic_load(&crowd_comes) < CROWD)
        (void)twill_sleep(twill_within(TWILL_US(50)));
    (void)twill_sleep(twill_within(TWILL_MS(2))); /* they wait by then; who does not is told, too */
    CHECK_EQ(twill_pool_stop(pool, twill_within(0), twill_within(TWILL_SEC(100)), &stopped),
             TWILL_OK);
    for (int k = 0; k < CROWD; k++)
        pthread_join(threads[k], NULL);
    CHECK_EQ(atomic_load(&crowd_closed), CROWD);
    CHECK_EQ(stats_of(pool).refused, CROWD);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

/* What is delayed is cancelled by a stop, in whatever order its timers stand. */
TEST(a_stop_cancels_what_is_delayed)
{
    twill_pool *pool =
        pool_of(&(twill_pool_options){.run.workers = 2, .stuck_after = TWILL_SEC(100)});
    struct gate gate = {0};
    twill_stopped stopped;
    twill_future running[2]; /* their timers come first */
    for (int k = 0; k < 2; k++)
        CHECK_EQ(twill_pool_submit(pool, at_gate_or_told, &gate, &running[k],
                                   &(twill_submit_options){.timeout = TWILL_SEC(50)}),
                 TWILL_OK);
    CHECK(gate_inside(&gate, 2));
    for (int k = 0; k < 9; k++)
        CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL,
                                   &(twill_submit_options){
                                       .start_at = twill_now() + TWILL_SEC(100 - 7 * (k % 4))}),
                 TWILL_OK);
    CHECK_EQ(twill_pool_stop(pool, twill_within(0), twill_within(TWILL_SEC(100)), &stopped),
             TWILL_OK);
    CHECK_EQ(stopped.cancelled, 11); /* the two that run said skip */
    CHECK_EQ(stopped.stuck, 0);
    CHECK_EQ(stats_of(pool).queued, 0);
    twill_future_release(running[0]);
    twill_future_release(running[1]);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

/* ---- pools without threads, and other rare states ---- */

static void no_stop(void *state, const twill_task *task)
{
    (void)state, (void)task;
}

TEST(workers_by_default_are_no_more_than_the_most)
{
    const char *names[] = {"short", "a name that is much longer than a thread may have one"};

    clear_counts();
    for (int i = 0; i < 2; i++) {
        twill_pool *pool = pool_of(
            &(twill_pool_options){.run.name = names[i], .max_workers = 10000, .lazy = true});
        CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_OK);
        (void)idle_stats(pool);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    }
    CHECK_EQ(atomic_load(&ran), 2);
}

/* What nobody is left to run is cancelled at the stop, if a worker's state is needed for it, or its
   time has not come. */
TEST(a_stop_without_threads)
{
    for (int delayed = 0; delayed < 2; delayed++) {
        twill_stopped stopped;
        twill_pool *pool = pool_of(&(twill_pool_options){
            .run.workers = 1, .lazy = true, .run.worker_stop = delayed ? NULL : no_stop});
        clear_counts();
        faults_fail_thread(1);
        CHECK_EQ(
            twill_pool_submit(
                pool, run_it, NULL, NULL,
                delayed ? &(twill_submit_options){.start_at = twill_now() + TWILL_SEC(100)} : NULL),
            TWILL_OK);
        CHECK_EQ(twill_pool_stop(pool, twill_within(TWILL_SEC(100)), twill_within(TWILL_SEC(100)),
                                 &stopped),
                 TWILL_OK);
        faults_fail_thread(0);
        CHECK_EQ(stopped.cancelled, 1);
        CHECK_EQ(atomic_load(&ran), 0);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    }
    CHECK_EQ(faults_live(), 0);
}

static struct gate call_gate;

static int body_at_gate(const twill_task *task)
{
    (void)task;
    CHECK(gate_wait(&call_gate));
    return 0;
}

static void *call_on_pool(void *pool)
{
    CHECK_EQ(twill_parallel_for(2, body_at_gate,
                                &(twill_parallel_options){.run.pool = pool, .run.workers = 2}),
             TWILL_OK);
    return NULL;
}

TEST(a_stop_does_not_wait_for_a_call_beyond_its_time)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 2});
    pthread_t thread;

    atomic_store(&call_gate.inside, 0);
    atomic_store(&call_gate.open, 0);
    CHECK_EQ(pthread_create(&thread, NULL, call_on_pool, pool), 0);
    CHECK(gate_inside(&call_gate, 1));
    CHECK_EQ(twill_pool_stop(pool, twill_within(0), twill_within(0), NULL), TWILL_TIMEOUT);
    gate_open(&call_gate);
    pthread_join(thread, NULL);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

static int waits_for(void *future, void *result, const twill_task *task)
{
    (void)result, (void)task;
    CHECK_EQ(twill_future_wait(*(twill_future *)future, NULL, NULL), TWILL_OK);
    return 0;
}

/* One that was given up, or one of another pool, which runs the task that it waits for. */
TEST(whoever_is_left_behind_the_workers_is_waited_for)
{
    for (int k = 0; k < 4; k++) {
        struct gate gate = {0}, stuck = {0};
        bool helper = k % 2, abandons = k / 2;
        int before = kit_threads();
        twill_pool *other = NULL,
                   *pool = pool_of(&(twill_pool_options){.run.workers = 1,
                                                         .stuck_after = helper ? 0 : TWILL_MS(2),
                                                         .max_abandoned = !helper});
        twill_future future = {0};

        if (helper) {
            CHECK_EQ(twill_pool_submit(pool, at_gate, &gate, NULL, NULL), TWILL_OK);
            CHECK(gate_inside(&gate, 1));
            CHECK_EQ(twill_pool_submit(pool, at_gate, &stuck, &future, NULL), TWILL_OK);
            other = pool_of(&(twill_pool_options){.run.workers = 1});
            CHECK_EQ(twill_pool_submit(other, waits_for, &future, NULL, NULL), TWILL_OK);
            CHECK(gate_inside(&stuck, 1));
            gate_open(&gate);
        } else {
            CHECK_EQ(twill_pool_submit(pool, at_gate, &stuck, NULL, NULL), TWILL_OK);
            CHECK(comes_true(gave_up, pool, 1));
        }
        if (abandons) {
            CHECK_EQ(twill_pool_abandon(pool, NULL), TWILL_OK);
            CHECK(kit_threads_back_to(before + 1)); /* that one */
            CHECK(faults_live() > 0);
        }
        for (int i = 0; i < 2 && !abandons; i++) { /* while workers leave, and when they have */
            CHECK_EQ(twill_pool_stop(pool, twill_within(0), twill_within(TWILL_MS(1)), NULL),
                     TWILL_TIMEOUT);
            CHECK(comes_true(has_workers, pool, 0));
        }
        gate_open(&stuck);
        CHECK_EQ(twill_pool_destroy(other), TWILL_OK);
        if (helper)
            twill_future_release(future);
        if (!abandons)
            CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
        CHECK(comes_true(nothing_lives, NULL, 0));
    }
}

TEST(abandoned_with_no_thread_or_with_some_that_have_gone)
{
    twill_stopped stopped;
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 3, .lazy = true});

    CHECK_EQ(twill_pool_abandon(pool, &stopped), TWILL_OK);
    CHECK(comes_true(nothing_lives, NULL, 0));
    pool = pool_of(&(twill_pool_options){.run.workers = 3, .lazy = true});
    faults_fail_thread(1);
    CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_OK);
    faults_fail_thread(0);
    CHECK_EQ(twill_pool_abandon(pool, &stopped), TWILL_OK);
    CHECK_EQ(stopped.cancelled, 1);
    CHECK(comes_true(nothing_lives, NULL, 0));
    pool = pool_of(&(twill_pool_options){.run.workers = 3});
    CHECK_EQ(twill_pool_resize(pool, 1, 0), TWILL_OK);
    CHECK(comes_true(has_workers, pool, 1));
    CHECK_EQ(twill_pool_abandon(pool, &stopped), TWILL_OK);
    CHECK(comes_true(nothing_lives, NULL, 0));
}

/* A task that a caller runs occupies no worker, and does not wait for the pool it is of. */
static int looks_round(void *pool, void *result, const twill_task *task)
{
    (void)result;
    twill_task_block_begin(task); /* as any caller: nobody makes up for it */
    CHECK_EQ(stats_of(pool).blocked, 0);
    CHECK_EQ(stats_of(pool).busy, 0);
    twill_task_block_end(task);
    CHECK_EQ(twill_pool_each_worker(pool, run_it, NULL, twill_within(0)), TWILL_DEADLOCK);
    return 0;
}

TEST(a_caller_looks_round_in_its_task)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1, .lazy = true});
    twill_future future;

    faults_fail_thread(1);
    CHECK_EQ(twill_pool_submit(pool, looks_round, pool, &future, NULL), TWILL_OK);
    CHECK_EQ(twill_future_wait(future, NULL, NULL), TWILL_OK);
    faults_fail_thread(0);
    twill_future_release(future);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

static int on_each_of(void *pool, void *result, const twill_task *task)
{
    (void)result, (void)task;
    CHECK_EQ(twill_pool_each_worker(pool, run_it, NULL, twill_within(TWILL_SEC(100))), TWILL_OK);
    return 0;
}

static struct three_pools {
    twill_pool *first, *second, *third;
    uint64_t caller;
    atomic_uint asked;
} three;

/* By a thread of the second pool, for a task of the first one. */
static int asks_for_the_first(const twill_task *task)
{
    (void)task;
    if (atomic_load(&three.asked))
        return 0;
    if (thread_mark() == three.caller)
        return (int)twill_sleep(twill_within(TWILL_US(200)));
    CHECK_EQ(twill_pool_wait_idle(three.first), TWILL_DEADLOCK);
    CHECK_EQ(twill_pool_wait_idle(three.third), TWILL_OK);
    atomic_store(&three.asked, 1);
    return 0;
}

/* On top of a task of the first one, while the second one's own thread is busy. */
static int asks_for_both(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    CHECK(thread_mark() == three.caller);
    CHECK_EQ(twill_pool_wait_idle(three.first), TWILL_DEADLOCK);
    CHECK_EQ(twill_pool_wait_idle(three.second), TWILL_DEADLOCK);
    return 0;
}

static int calls_the_second(void *gate_, void *result, const twill_task *task)
{
    struct gate *gate = gate_;
    twill_future future;

    (void)result, (void)task;
    three.caller = thread_mark();
    CHECK_EQ(
        twill_parallel_for(20000, asks_for_the_first,
                           &(twill_parallel_options){.run = {.pool = three.second, .workers = 2}}),
        TWILL_OK);
    CHECK_EQ(twill_pool_submit(three.second, at_gate, gate, NULL, NULL), TWILL_OK);
    CHECK(gate_inside(gate, 1));
    CHECK_EQ(twill_pool_submit(three.second, asks_for_both, NULL, &future, NULL), TWILL_OK);
    CHECK_EQ(twill_future_wait(future, NULL, NULL), TWILL_OK);
    twill_future_release(future);
    gate_open(gate);
    return 0;
}

/* Whoever works for a task, on whatever thread, does not wait for its pool. */
static void waits_for_the_pool_below(bool plain)
{
    struct gate gate = {0};
    twill_future future;

    atomic_store(&three.asked, 0);
    three.first = pool_of(&(twill_pool_options){.run.workers = 1});
    three.second = pool_of(&(twill_pool_options){.run.workers = 1});
    three.third = pool_of(&(twill_pool_options){.run.workers = 1});
    CHECK_EQ(twill_pool_submit(three.first, calls_the_second, &gate, plain ? NULL : &future, NULL),
             TWILL_OK);
    (void)idle_stats(three.first);
    if (!plain)
        twill_future_release(future);
    CHECK_EQ(atomic_load(&three.asked), 1);
    CHECK_EQ(twill_pool_destroy(three.first), TWILL_OK);
    CHECK_EQ(twill_pool_destroy(three.second), TWILL_OK);
    CHECK_EQ(twill_pool_destroy(three.third), TWILL_OK);
}

TEST(a_wait_for_the_pool_below_is_a_deadlock_in_another_one_too)
{
    waits_for_the_pool_below(false);
    waits_for_the_pool_below(true);
}

static struct late_helper {
    struct gate gate;
    twill_future future;
    atomic_int status;
} late_helper;

static int waits_when_given_up(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    CHECK(gate_wait(&late_helper.gate));
    atomic_store(&late_helper.status, (int)twill_future_wait_until(late_helper.future, NULL, NULL,
                                                                   twill_within(TWILL_MS(2))));
    return 0;
}

static bool late_helper_is_back(twill_pool *pool, unsigned count)
{
    (void)pool, (void)count;
    return atomic_load(&late_helper.status) >= 0;
}

/* Its number is another worker's: what it waits for is left to those who count. */
TEST(a_worker_that_was_given_up_runs_nothing_it_waits_for)
{
    struct gate gate = {0};
    twill_pool *pool = pool_of(
        &(twill_pool_options){.run.workers = 1, .stuck_after = TWILL_MS(2), .max_abandoned = 1});

    clear_counts();
    late_helper.gate = (struct gate){0};
    atomic_store(&late_helper.status, -1);
    CHECK_EQ(twill_pool_submit(pool, waits_when_given_up, NULL, NULL, NULL), TWILL_OK);
    CHECK(comes_true(gave_up, pool, 1));
    CHECK_EQ(twill_pool_submit(pool, at_gate, &gate, NULL, NULL), TWILL_OK);
    CHECK(gate_inside(&gate, 1)); /* at the one in its place */
    CHECK_EQ(twill_pool_submit(pool, run_it, NULL, &late_helper.future, NULL), TWILL_OK);
    gate_open(&late_helper.gate);
    CHECK(comes_true(late_helper_is_back, pool, 0));
    CHECK_EQ(atomic_load(&late_helper.status), TWILL_TIMEOUT);
    gate_open(&gate);
    CHECK_EQ(twill_future_wait(late_helper.future, NULL, NULL), TWILL_OK);
    twill_future_release(late_helper.future);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

TEST(who_waits_runs_nothing_of_a_paused_pool)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1});
    twill_future future;

    clear_counts();
    CHECK_EQ(twill_pool_pause(pool), TWILL_OK);
    CHECK_EQ(twill_pool_submit(pool, run_it, NULL, &future, NULL), TWILL_OK);
    CHECK_EQ(twill_future_wait_until(future, NULL, NULL, twill_within(TWILL_MS(2))), TWILL_TIMEOUT);
    CHECK_EQ(atomic_load(&ran), 0);
    CHECK_EQ(twill_pool_resume(pool), TWILL_OK);
    CHECK_EQ(twill_future_wait(future, NULL, NULL), TWILL_OK);
    twill_future_release(future);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

static void no_key_of_another(const twill_task_info *info, const twill_task *task)
{
    (void)task;
    if (info->event == TWILL_EVENT_STUCK) {
        CHECK_PTR(info->key, NULL);
        atomic_fetch_add(&stuck_told, 1);
    }
    if (info->event == TWILL_EVENT_ENDED && info->status == TWILL_LOST)
        atomic_fetch_add(&lost_told, 1);
}

struct stacked {
    twill_pool *pool;
    struct gate gate;
    unsigned depth; /* of one thread */
    twill_future below[3];
};

static int waits_for_one_of_its_own(void *stacked_, void *result, const twill_task *task)
{
    struct stacked *stacked = stacked_;
    twill_future future;

    (void)result, (void)task;
    CHECK_EQ(twill_pool_submit(stacked->pool, at_gate, &stacked->gate, &future,
                               &(twill_submit_options){.key = stacked}),
             TWILL_OK);
    CHECK_EQ(twill_future_wait(future, NULL, NULL), TWILL_OK);
    twill_future_release(future);
    return 0;
}

/* A task without a handle is told as it was submitted, whatever it runs itself meanwhile; and where
   nobody is given up, nothing ends. */
TEST(a_plain_task_is_stuck_in_one_that_it_waits_for)
{
    static struct stacked stacked;

    clear_counts();
    stacked = (struct stacked){0};
    stacked.pool = pool_of(&(twill_pool_options){
        .run.workers = 1, .stuck_after = TWILL_MS(2), .on_event = no_key_of_another});
    CHECK_EQ(twill_pool_submit(stacked.pool, waits_for_one_of_its_own, &stacked, NULL, NULL),
             TWILL_OK);
    CHECK(gate_inside(&stacked.gate, 1));
    CHECK(comes_true(told_stuck, stacked.pool, 1));
    gate_open(&stacked.gate);
    CHECK_EQ(idle_stats(stacked.pool).done, 2);
    CHECK_EQ(atomic_load(&lost_told), 0);
    CHECK_EQ(atomic_load(&stuck_told), 1);
    CHECK_EQ(twill_pool_destroy(stacked.pool), TWILL_OK);
}

/* Waits for the next deeper one; the third stays at the gate. */
static int waits_for_a_deeper_one(void *stacked_, void *result, const twill_task *task)
{
    struct stacked *stacked = stacked_;
    bool last = ++stacked->depth == 3;

    (void)task;
    if (last)
        return at_gate(&stacked->gate, result, task);
    CHECK_EQ(twill_pool_submit(stacked->pool, waits_for_a_deeper_one, stacked,
                               &stacked->below[stacked->depth],
                               &(twill_submit_options){.key = &stacked->below[stacked->depth]}),
             TWILL_OK);
    return twill_future_wait(stacked->below[stacked->depth], NULL, NULL) != TWILL_OK;
}

/* Three deep on one worker: the outermost one is told. */
TEST(of_tasks_that_wait_for_one_another_the_first_is_stuck)
{
    static struct stacked stacked;

    clear_counts();
    stacked = (struct stacked){0};
    stacked.pool = pool_of(
        &(twill_pool_options){.run.workers = 1, .stuck_after = TWILL_MS(5), .on_event = on_event});
    CHECK_EQ(twill_pool_submit(stacked.pool, waits_for_a_deeper_one, &stacked, &stacked.below[0],
                               &(twill_submit_options){.key = &stacked.below[0]}),
             TWILL_OK);
    CHECK(gate_inside(&stacked.gate, 1));
    CHECK(comes_true(told_stuck, stacked.pool, 1));
    CHECK_PTR(atomic_load(&stuck_key), &stacked.below[0]);
    gate_open(&stacked.gate);
    CHECK_EQ(idle_stats(stacked.pool).done, 3);
    for (int k = 0; k < 3; k++)
        twill_future_release(stacked.below[k]);
    CHECK_EQ(twill_pool_destroy(stacked.pool), TWILL_OK);
}

TEST(a_task_waits_for_the_workers_of_another_pool)
{
    twill_pool *one = pool_of(&(twill_pool_options){.run.workers = 1}),
               *two = pool_of(&(twill_pool_options){.run.workers = 2});

    clear_counts();
    CHECK_EQ(twill_pool_submit(one, on_each_of, two, NULL, NULL), TWILL_OK);
    (void)idle_stats(one);
    CHECK_EQ(atomic_load(&ran), 2);
    CHECK_EQ(twill_pool_destroy(one), TWILL_OK);
    CHECK_EQ(twill_pool_destroy(two), TWILL_OK);
}

static int runs_one_later(void *pool, void *result, const twill_task *task)
{
    twill_future future;
    twill_outcome outcome;
    twill_ns now;

    (void)result, (void)task;
    CHECK_EQ(twill_pool_submit(pool, run_it, NULL, &future, NULL), TWILL_OK);
    (void)twill_sleep(twill_within(TWILL_US(200)));
    now = twill_now();
    CHECK_EQ(twill_future_wait(future, NULL, &outcome), TWILL_OK); /* and so runs it */
    CHECK(outcome.started >= now && outcome.finished >= outcome.started);
    twill_future_release(future);
    return 0;
}

/* A worker that runs one task after the other knows when the last one ended; that is no beginning
   of one that runs inside of the next. */
TEST(a_task_on_top_of_another_begins_when_it_begins)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1});
    twill_future future[2];

    CHECK_EQ(twill_pool_pause(pool), TWILL_OK);
    CHECK_EQ(twill_pool_submit(pool, run_it, NULL, &future[0], NULL), TWILL_OK);
    CHECK_EQ(twill_pool_submit(pool, runs_one_later, pool, &future[1], NULL), TWILL_OK);
    CHECK_EQ(twill_pool_resume(pool), TWILL_OK);
    CHECK_EQ(idle_stats(pool).done, 3);
    for (int i = 0; i < 2; i++)
        twill_future_release(future[i]);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

struct stack {
    twill_pool *one, *two, *third;
};

static int on_top_of_two(void *stack_, void *result, const twill_task *task)
{
    struct stack *stack = stack_;

    (void)result, (void)task;
    CHECK_PTR(twill_pool_current(), stack->two);
    CHECK_EQ(twill_pool_wait_idle(stack->one), TWILL_DEADLOCK);
    CHECK_EQ(twill_pool_wait_idle(stack->two), TWILL_DEADLOCK);
    CHECK_EQ(twill_pool_wait_idle(stack->third), TWILL_OK);
    return 0;
}

static int on_top_of_one(void *stack_, void *result, const twill_task *task)
{
    struct stack *stack = stack_;
    twill_future future;

    (void)result, (void)task;
    CHECK_EQ(twill_pool_submit(stack->two, on_top_of_two, stack, &future, NULL), TWILL_OK);
    CHECK_EQ(twill_future_wait(future, NULL, NULL), TWILL_OK); /* and so runs it here */
    twill_future_release(future);
    return 0;
}

TEST(a_task_on_top_of_two_pools_may_wait_for_a_third)
{
    struct gate gate = {0};
    twill_pool_options options = {.run.workers = 1};
    struct stack stack = {pool_of(&options), pool_of(&options), pool_of(&options)};

    CHECK_EQ(twill_pool_submit(stack.two, at_gate, &gate, NULL, NULL), TWILL_OK);
    CHECK(gate_inside(&gate, 1));
    CHECK_EQ(twill_pool_submit(stack.one, on_top_of_one, &stack, NULL, NULL), TWILL_OK);
    CHECK_EQ(idle_stats(stack.one).done, 1);
    gate_open(&gate);
    CHECK_EQ(idle_stats(stack.two).done, 2);
    CHECK_EQ(twill_pool_destroy(stack.one), TWILL_OK);
    CHECK_EQ(twill_pool_destroy(stack.two), TWILL_OK);
    CHECK_EQ(twill_pool_destroy(stack.third), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

struct let_in {
    twill_pool *pool;
    struct gate ready, entered;
};

static void *comes_in(void *in_)
{
    struct let_in *in = in_;

    atomic_fetch_add(&in->ready.inside, 1);
    CHECK_EQ(twill_pool_submit(in->pool, run_it, NULL, NULL, NULL), TWILL_OK); /* blocks */
    gate_open(&in->entered);
    return NULL;
}

/* The task that is taken out by who waits for it goes on only when its place is another's. */
TEST(who_runs_a_task_of_a_full_queue_lets_the_next_one_in)
{
    struct gate gate = {0};
    struct let_in in = {.pool = pool_of(&(twill_pool_options){.run.workers = 1, .capacity = 1})};
    pthread_t thread;
    twill_future future;

    CHECK_EQ(twill_pool_submit(in.pool, at_gate, &gate, NULL, NULL), TWILL_OK);
    CHECK(gate_inside(&gate, 1));
    CHECK_EQ(twill_pool_submit(in.pool, at_gate, &in.entered, &future, NULL), TWILL_OK);
    CHECK_EQ(pthread_create(&thread, NULL, comes_in, &in), 0);
    CHECK(gate_inside(&in.ready, 1));
    (void)twill_sleep(twill_within(TWILL_US(300))); /* likely it waits by now */
    CHECK_EQ(twill_future_wait(future, NULL, NULL), TWILL_OK);
    twill_future_release(future);
    gate_open(&gate);
    pthread_join(thread, NULL);
    (void)idle_stats(in.pool);
    CHECK_EQ(twill_pool_destroy(in.pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

TEST(the_oldest_of_those_that_run)
{
    struct gate gate = {0};
    twill_pool *pool =
        pool_of(&(twill_pool_options){.run.workers = 4, .stuck_after = TWILL_SEC(100)});

    for (unsigned i = 1; i <= 4; i++) {
        CHECK_EQ(twill_pool_submit(pool, at_gate, &gate, NULL, NULL), TWILL_OK);
        CHECK(gate_inside(&gate, i));
        (void)twill_sleep(twill_within(TWILL_MS(1)));
    }
    CHECK(stats_of(pool).oldest_running >= TWILL_MS(4));
    gate_open(&gate);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

/* A thread that ends where it had said that it blocks, or in what every worker is to do once. */
static int blocks_and_ends(void *arg, void *result, const twill_task *task)
{
    twill_task_block_begin(task);
    return exit_here(arg, result, task);
}

TEST(a_thread_ends_in_odd_places)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 2});

    clear_counts();
    CHECK_EQ(twill_pool_submit(pool, blocks_and_ends, NULL, NULL, NULL), TWILL_OK);
    CHECK_EQ(idle_stats(pool).lost, 1);
    CHECK(comes_true(has_workers, pool, 2));
    CHECK_EQ(stats_of(pool).blocked, 0);
    CHECK_EQ(twill_pool_each_worker(pool, exit_here, NULL, twill_within(TWILL_SEC(100))),
             TWILL_FAILED);
    CHECK(comes_true(has_workers, pool, 2));
    CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_OK);
    (void)idle_stats(pool);
    CHECK_EQ(atomic_load(&ran), 1);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

/* One that was given up says that it blocks: nobody takes its place a second time. */
static int blocks_when_given_up(void *gate, void *result, const twill_task *task)
{
    (void)result;
    CHECK(gate_wait(gate));
    twill_task_block_begin(task);
    twill_task_block_end(task);
    twill_task_block_end(task); /* one too many: nothing */
    return 0;
}

TEST(a_worker_that_was_given_up_blocks)
{
    struct gate gate = {0};
    twill_pool *pool = pool_of(
        &(twill_pool_options){.run.workers = 1, .stuck_after = TWILL_MS(4), .max_abandoned = 1});

    CHECK_EQ(twill_pool_submit(pool, blocks_when_given_up, &gate, NULL, NULL), TWILL_OK);
    CHECK(comes_true(gave_up, pool, 1));
    gate_open(&gate);
    CHECK(comes_true(gave_up, pool, 0));
    CHECK_EQ(stats_of(pool).blocked, 0);
    CHECK_EQ(stats_of(pool).workers, 1);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

/* What is queued already when a worker says that it blocks has another one at once. */
static int blocks_for_the_next(void *gate, void *result, const twill_task *task)
{
    twill_ns end = twill_now() + TWILL_SEC(100);

    (void)result;
    CHECK(gate_wait(gate));
    twill_task_block_begin(task);
    while (!atomic_load(&ran) && twill_now() < end)
        (void)twill_sleep(twill_within(TWILL_US(50)));
    twill_task_block_end(task);
    CHECK_EQ(atomic_load(&ran), 1);
    return 0;
}

TEST(a_worker_that_blocks_has_its_queue_run)
{
    struct gate gate = {0};
    twill_pool *pool = pool_of(
        &(twill_pool_options){.run.workers = 1, .max_workers = 2, .grow_after = TWILL_SEC(100)});

    clear_counts();
    CHECK_EQ(twill_pool_submit(pool, blocks_for_the_next, &gate, NULL, NULL), TWILL_OK);
    CHECK(gate_inside(&gate, 1));
    CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_OK);
    gate_open(&gate);
    (void)idle_stats(pool);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

/* Given up before or after it says so: it is counted off once. */
static int blocks_and_ends_at(void *gates_, void *result, const twill_task *task)
{
    struct gate *gates = gates_;

    CHECK(gate_wait(&gates[0]));
    twill_task_block_begin(task);
    CHECK(gate_wait(&gates[1]));
    return exit_here(NULL, result, task);
}

TEST(a_worker_that_was_given_up_ends_where_it_blocks)
{
    for (int first = 0; first < 2; first++) {
        struct gate gates[2] = {{0}};
        twill_pool *pool = pool_of(&(twill_pool_options){
            .run.workers = 1, .stuck_after = TWILL_MS(4), .max_abandoned = 1});

        if (first)
            gate_open(&gates[0]);
        CHECK_EQ(twill_pool_submit(pool, blocks_and_ends_at, gates, NULL, NULL), TWILL_OK);
        CHECK(comes_true(gave_up, pool, 1));
        gate_open(&gates[0]);
        gate_open(&gates[1]);
        CHECK(comes_true(gave_up, pool, 0));
        CHECK_EQ(stats_of(pool).blocked, 0);
        CHECK_EQ(stats_of(pool).workers, 1);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    }
}

/* What the watch sleeps until is far away: a task waits that only another worker would run, or is
   stuck. */
TEST(a_watch_looks_sooner_than_it_meant_to)
{
    for (int which = 0; which < 3; which++) {
        bool watches = which != 1;
        struct gate gate = {0};
        twill_future later = {NULL, 0}, future;
        twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1,
                                                         .max_workers = which < 2 ? 2 : 1,
                                                         .grow_after = TWILL_MS(1),
                                                         .stuck_after = which == 1 ? TWILL_SEC(3600)
                                                                        : which == 2 ? TWILL_MS(4)
                                                                                     : 0,
                                                         .max_abandoned = which == 2});

        clear_counts();
        if (watches)
            CHECK_EQ(twill_pool_submit(pool, run_it, NULL, &later,
                                       &(twill_submit_options){
                                           .start_at = twill_within(TWILL_SEC(3600)).deadline}),
                     TWILL_OK);
        CHECK_EQ(twill_pool_submit(pool, at_gate, &gate, NULL, NULL), TWILL_OK);
        CHECK(gate_inside(&gate, 1));
        (void)twill_sleep(twill_within(TWILL_MS(1))); /* perhaps it sleeps by now */
        CHECK_EQ(twill_pool_submit(pool, run_it, NULL, &future, NULL), TWILL_OK);
        CHECK_EQ(twill_future_wait_until(future, NULL, NULL, twill_within(TWILL_SEC(20))),
                 TWILL_OK);
        gate_open(&gate);
        twill_future_release(future);
        if (watches) {
            CHECK_EQ(twill_future_cancel(later), TWILL_OK);
            twill_future_release(later);
        }
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    }
}

TEST(a_lazy_pool_made_larger_has_a_thread_for_what_waits)
{
    struct gate gate = {0};
    twill_future future;
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1, .lazy = true});

    CHECK_EQ(twill_pool_submit(pool, at_gate, &gate, NULL, NULL), TWILL_OK);
    CHECK(gate_inside(&gate, 1));
    CHECK_EQ(twill_pool_submit(pool, run_it, NULL, &future, NULL), TWILL_OK);
    CHECK_EQ(stats_of(pool).workers, 1);
    CHECK_EQ(twill_pool_resize(pool, 3, 0), TWILL_OK);
    CHECK_EQ(twill_future_wait_until(future, NULL, NULL, twill_within(TWILL_SEC(20))), TWILL_OK);
    CHECK_EQ(stats_of(pool).workers, 2); /* as many as there is work for */
    gate_open(&gate);
    twill_future_release(future);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

/* In a queue with room for one: the callbacks of a task that never ran may use its room. */
static void once_more(const twill_outcome *outcome, void *result, const twill_task *task)
{
    (void)result;
    CHECK(outcome->status == TWILL_CANCELLED || outcome->status == TWILL_TIMEOUT);
    CHECK_EQ(twill_pool_submit_until(task->context, run_it, NULL, NULL, twill_within(TWILL_SEC(20)),
                                     NULL),
             TWILL_OK);
}

TEST(what_never_ran_gives_its_room_back_before_it_is_told)
{
    for (int late = 0; late < 2; late++) {
        struct gate gate = {0};
        twill_future future;
        twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1, .capacity = 1});

        clear_counts();
        CHECK_EQ(twill_pool_submit(pool, at_gate, &gate, NULL, NULL), TWILL_OK);
        CHECK(gate_inside(&gate, 1));
        CHECK_EQ(twill_pool_submit(pool, run_it, NULL, &future,
                                   &(twill_submit_options){
                                       .context = pool,
                                       .on_done = once_more,
                                       .start_by = late ? twill_within(TWILL_MS(20)).deadline : 0}),
                 TWILL_OK);
        if (late)
            CHECK_EQ(twill_future_wait_until(future, NULL, NULL, twill_within(TWILL_SEC(20))),
                     TWILL_FAILED);
        else
            CHECK_EQ(twill_future_cancel(future), TWILL_OK);
        gate_open(&gate);
        CHECK_EQ(idle_stats(pool).submitted, 3);
        CHECK_EQ(atomic_load(&ran), 1);
        twill_future_release(future);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    }
}

static void *destroy_it(void *pool)
{
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK(false); /* it has ended in a task */
    return NULL;
}

TEST(who_ends_a_pool_may_end_in_a_task_of_it)
{
    pthread_t thread;
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1, .lazy = true});

    clear_counts();
    faults_fail_thread(1);
    CHECK_EQ(twill_pool_submit(pool, exit_here, NULL, NULL, NULL), TWILL_OK);
    CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_OK);
    pthread_create(&thread, NULL, destroy_it, pool);
    pthread_join(thread, NULL);
    faults_fail_thread(0);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK); /* as if it were the first */
    CHECK_EQ(atomic_load(&ran), 1);
    CHECK_EQ(faults_live(), 0);
}

/* In what it is to do once: it counts as one that is about to look round no longer than it is. */
static int waits_for_two(void *pool, void *result, const twill_task *task)
{
    (void)result, (void)task;
    for (int k = 0; k < 2; k++) {
        twill_future future;

        CHECK_EQ(twill_pool_submit(pool, naps, NULL, &future, NULL), TWILL_OK);
        CHECK_EQ(twill_future_wait(future, NULL, NULL), TWILL_OK);
        twill_future_release(future);
    }
    return 0;
}

TEST(a_worker_that_ran_tasks_inside_a_call_is_called_again)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1});
    twill_future future;

    clear_counts();
    CHECK_EQ(twill_pool_each_worker(pool, waits_for_two, pool, twill_within(TWILL_SEC(60))),
             TWILL_OK);
    (void)twill_sleep(twill_within(TWILL_MS(2))); /* it sleeps by now */
    CHECK_EQ(twill_pool_submit(pool, run_it, NULL, &future, NULL), TWILL_OK);
    CHECK_EQ(twill_future_wait_until(future, NULL, NULL, twill_within(TWILL_SEC(20))), TWILL_OK);
    twill_future_release(future);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

/* A worker goes from a task into a call, for long: what has ended has ended for who waits for the
   pool, too. */
struct call_at { /* a call of two items that wait at the gate */
    twill_pool *pool;
    struct gate gate;
};

static void *call_at_gate(void *call_)
{
    struct call_at *call = call_;
    twill_parallel_options options = {
        .run.pool = call->pool, .run.workers = 2, .run.context = &call->gate};

    CHECK_EQ(twill_parallel_for(2, wait_at, &options), TWILL_OK);
    return NULL;
}

TEST(who_waits_for_the_pool_does_not_wait_for_a_call_behind_a_task)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1});
    struct call_at call = {.pool = pool};
    struct gate gate = {0};
    pthread_t caller;

    CHECK_EQ(twill_pool_submit(pool, at_gate, &gate, NULL, NULL), TWILL_OK);
    CHECK(gate_inside(&gate, 1));
    pthread_create(&caller, NULL, call_at_gate, &call);
    CHECK(gate_inside(&call.gate, 1));
    gate_open(&gate);
    CHECK(gate_inside(&call.gate, 2)); /* the worker is in the call */
    CHECK_EQ(twill_pool_wait_idle_until(pool, twill_within(TWILL_SEC(20))), TWILL_OK);
    gate_open(&call.gate);
    pthread_join(caller, NULL);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

/* On top of what it is to do once, since the queue is full, a worker runs a task that ends its
   thread: the task it ran before has ended once. */
static int runs_on_top(void *pool, void *result, const twill_task *task)
{
    (void)result, (void)task;
    CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_OK);
    CHECK_EQ(twill_pool_submit(pool, exit_here, NULL, NULL, NULL), TWILL_OK);
    CHECK(false); /* it has ended there */
    return 0;
}

TEST(a_thread_ends_in_a_task_on_top_of_a_call)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1, .capacity = 1});

    clear_counts();
    CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_OK);
    CHECK_EQ(idle_stats(pool).done, 1);
    CHECK_EQ(twill_pool_each_worker(pool, runs_on_top, pool, twill_within(TWILL_SEC(60))),
             TWILL_FAILED);
    CHECK_EQ(twill_pool_wait_idle_until(pool, twill_within(TWILL_SEC(20))), TWILL_OK);
    CHECK_EQ(idle_stats(pool).lost, 1);
    CHECK_EQ(atomic_load(&ran), 2);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

/* Tasks with an instant that all wait for room: each needs a place among the timers, too, once it
   is in. (More than it was seen to need when it came: a heap that was too small.) */
enum { DELAYED = 15, PLAIN = 25 };

static void *submit_delayed(void *pool)
{
    CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL,
                               &(twill_submit_options){.start_at = TWILL_FOREVER - 1}),
             TWILL_OK);
    return NULL;
}

static bool has_accepted(twill_pool *pool, unsigned count)
{
    return stats_of(pool).submitted == count;
}

TEST(whoever_waits_for_room_has_a_timer_then)
{
    twill_pool *pool =
        pool_of(&(twill_pool_options){.run.workers = 1, .capacity = DELAYED + PLAIN});
    pthread_t sender[PLAIN];
    twill_stopped stopped;

    clear_counts();
    CHECK_EQ(twill_pool_pause(pool), TWILL_OK);
    for (int i = 0; i < DELAYED; i++)
        (void)submit_delayed(pool);
    for (int i = 0; i < PLAIN; i++)
        CHECK_EQ(twill_pool_submit(pool, run_it, NULL, NULL, NULL), TWILL_OK);
    for (int i = 0; i < PLAIN; i++)
        pthread_create(&sender[i], NULL, submit_delayed, pool);
    (void)twill_sleep(twill_within(TWILL_MS(10))); /* most of them wait by then */
    CHECK_EQ(twill_pool_resume(pool), TWILL_OK);
    CHECK(comes_true(has_accepted, pool, DELAYED + 2 * PLAIN));
    for (int i = 0; i < PLAIN; i++)
        pthread_join(sender[i], NULL);
    CHECK_EQ(twill_pool_stop(pool, twill_within(0), (twill_until){0, NULL}, &stopped), TWILL_OK);
    CHECK_EQ(atomic_load(&ran), PLAIN);
    CHECK_EQ(stats_of(pool).cancelled, DELAYED + PLAIN);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

/* A callback of a task that was too late waits for another one: for one that is too late as well,
   or for the next one of the only worker, which ends the first. */
struct late_wait {
    twill_future first, second;
    twill_status status;
    unsigned told;
};

static void wait_for_other(const twill_outcome *outcome, void *result, const twill_task *task)
{
    struct late_wait *wait = task->context;
    twill_future other = outcome->key ? wait->first : wait->second;

    (void)result;
    CHECK_EQ(outcome->status, TWILL_TIMEOUT);
    if (!wait->told++)
        wait->status = twill_future_wait_until(other, NULL, NULL, twill_within(TWILL_SEC(20)));
}

TEST(a_callback_of_a_late_task_waits_for_another)
{
    for (int both = 0; both < 2; both++) {
        struct gate gate = {0};
        struct late_wait wait = {.told = 0};
        twill_ns by = twill_within(TWILL_MS(5)).deadline;
        twill_submit_options late = {.context = &wait, .on_done = wait_for_other, .start_by = by};
        twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1});

        clear_counts();
        CHECK_EQ(twill_pool_submit(pool, at_gate, &gate, NULL, NULL), TWILL_OK);
        CHECK(gate_inside(&gate, 1));
        CHECK_EQ(twill_pool_submit(pool, run_it, NULL, &wait.first, &late), TWILL_OK);
        late.key = &late;
        CHECK_EQ(twill_pool_submit(pool, run_it, NULL, &wait.second, both ? &late : NULL),
                 TWILL_OK);
        CHECK_EQ(twill_sleep((twill_until){by, NULL}), TWILL_OK);
        gate_open(&gate);
        CHECK_EQ(twill_pool_wait_idle(pool), TWILL_OK);
        CHECK_EQ(wait.status, both ? TWILL_FAILED : TWILL_OK);
        CHECK_EQ(wait.told, both ? 2 : 1);
        CHECK_EQ(atomic_load(&ran), both ? 0 : 1);
        twill_future_release(wait.first);
        twill_future_release(wait.second);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    }
}

/* A full queue drops what comes. Its room has come by while the dropped one is announced: the next
   one is accepted. */
struct announced {
    twill_pool *pool;
    struct gate first, second;
    twill_status status;
};

static void make_room(const twill_task_info *info, const twill_task *task)
{
    struct announced *now = task->context;

    if (info->event != TWILL_EVENT_QUEUED || info->key != now)
        return;
    gate_open(&now->first);
    CHECK(gate_inside(&now->second, 1)); /* nothing waits any more */
    now->status = twill_pool_submit(now->pool, run_it, NULL, NULL, NULL);
}

TEST(what_is_dropped_takes_no_room)
{
    struct announced now = {.status = TWILL_INVALID};

    clear_counts();
    now.pool = pool_of(&(twill_pool_options){.run = {.workers = 1, .context = &now},
                                             .capacity = 1,
                                             .overflow = TWILL_OVERFLOW_DROP_INCOMING,
                                             .on_event = make_room});
    CHECK_EQ(twill_pool_submit(now.pool, at_gate, &now.first, NULL, NULL), TWILL_OK);
    CHECK(gate_inside(&now.first, 1));
    CHECK_EQ(twill_pool_submit(now.pool, at_gate, &now.second, NULL, NULL), TWILL_OK);
    CHECK_EQ(twill_pool_submit(now.pool, run_it, NULL, NULL, &(twill_submit_options){.key = &now}),
             TWILL_DROPPED);
    CHECK_EQ(now.status, TWILL_OK);
    gate_open(&now.second);
    CHECK_EQ(idle_stats(now.pool).dropped, 1);
    CHECK_EQ(atomic_load(&ran), 1);
    CHECK_EQ(twill_pool_destroy(now.pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

/* A stop is past its drain: what has not begun ends CANCELLED, also while a callback of the first
   of these takes its time, and a worker has nothing to do; or if it waits for the next one. */
struct slow_drop {
    struct gate gate;
    twill_future next;
    twill_until until;
    twill_status status;
};

static void drop_slowly(void *drop_, twill_status why, const twill_task *task)
{
    struct slow_drop *drop = drop_;

    (void)task;
    CHECK_EQ(why, TWILL_CANCELLED);
    gate_open(&drop->gate); /* the worker's */
    drop->status = twill_future_wait_until(drop->next, NULL, NULL, drop->until);
}

TEST(nothing_begins_after_the_drain)
{
    for (int kind = 0; kind < 4; kind++) {
        bool for_ever = kind & 1;
        struct slow_drop drop = {.status = TWILL_INVALID};
        twill_stopped stopped;
        twill_pool_options hooks = {
            .run = {.workers = 1, .worker_start = on_start, .worker_stop = on_stop}};
        twill_pool_options plain = {.run.workers = 1};
        twill_pool *pool = pool_of(kind & 2 ? &hooks : &plain);

        clear_counts();
        CHECK_EQ(twill_pool_submit(pool, at_gate, &drop.gate, NULL, NULL), TWILL_OK);
        CHECK(gate_inside(&drop.gate, 1));
        CHECK_EQ(twill_pool_submit(pool, run_it, &drop, NULL,
                                   &(twill_submit_options){.drop = drop_slowly}),
                 TWILL_OK);
        CHECK_EQ(twill_pool_submit(pool, run_it, NULL, &drop.next, NULL), TWILL_OK);
        if (!for_ever)
            drop.until = twill_within(TWILL_MS(20));
        CHECK_EQ(twill_pool_stop(pool, twill_within(0), (twill_until){0, NULL}, &stopped),
                 TWILL_OK);
        CHECK_EQ(drop.status, for_ever ? TWILL_FAILED : TWILL_TIMEOUT);
        CHECK_EQ(stopped.cancelled, 2);
        CHECK_EQ(atomic_load(&ran), 0);
        twill_future_release(drop.next);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
        CHECK_EQ(faults_live(), 0);
    }
}
