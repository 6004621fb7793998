/* test_team.c - how calls meet their threads: nesting, callers side by side, threads that end,
   forks, interruptions, and the claims inside. */
#define _GNU_SOURCE
#include "harness.h"
#define TWILL_IMPLEMENTATION
#include "twill_parallel_map.h"
#include "twill_worker_pool.h"

#include "parallel_kit.h"

#include <sys/time.h>

static twill_pool *make_pool(unsigned workers)
{
    twill_pool *pool = NULL;

    CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.run.workers = workers}), TWILL_OK);
    return pool;
}

#ifdef TWILL_USE_PTHREAD
#define END_THREAD() pthread_exit(NULL)
#else
#define END_THREAD() thrd_exit(0)
#endif

/* ---- nesting ---- */

typedef struct deep {
    twill_pool *pool[4]; /* of each level; NULL: none */
    atomic_uint ran[4];
    atomic_uint not_nested;
    atomic_int most_threads;
    unsigned workers;
} deep;

typedef struct level {
    deep *all;
    int depth;
} level;

static int go_deeper(const twill_task *task)
{
    const level *here = (const level *)task->context;
    deep *all = here->all;
    int threads = kit_threads(), most = atomic_load(&all->most_threads);

    atomic_fetch_add(&all->ran[here->depth], 1);
    while (most < threads && !atomic_compare_exchange_weak(&all->most_threads, &most, threads))
        continue;
    if (here->depth < 3) {
        level below = {all, here->depth + 1};
        twill_report report;
        twill_parallel_options options = {
            .run = {.pool = all->pool[below.depth], .context = &below, .report = &report}};

        CHECK_EQ(twill_parallel_for(3, go_deeper, &options), TWILL_OK);
        CHECK_EQ(report.done, 3);
        if (!(report.flags & TWILL_REPORT_NESTED))
            atomic_fetch_add(&all->not_nested, 1);
    }
    return 0;
}

static void nest_four_deep(deep *all)
{
    level top = {all, 0};
    twill_parallel_options options = {
        .run = {.pool = all->pool[0], .workers = all->workers, .context = &top}};
    unsigned want = 3;

    CHECK_EQ(twill_parallel_for(3, go_deeper, &options), TWILL_OK);
    for (int depth = 0; depth < 4; depth++, want *= 3)
        CHECK_EQ(atomic_load(&all->ran[depth]), want);
}

TEST(nested_calls_use_the_threads_of_the_outermost)
{
    int before = kit_threads();

    for (unsigned workers = 2; workers <= 4; workers++) {
        for (int round = 0; round < 20; round++) {
            deep all = {.workers = workers};

            nest_four_deep(&all);
            CHECK(atomic_load(&all.most_threads) <= before + 3);
            CHECK_EQ(atomic_load(&all.not_nested), 0);
        }
    }
    CHECK(kit_threads_back_to(before));
}

TEST(nested_calls_on_the_same_pool)
{
    for (unsigned size = 1; size <= 4; size *= 2) {
        twill_pool *pool = make_pool(size);
        int with_pool = kit_threads();

        for (int round = 0; round < 30; round++) {
            deep all = {.pool = {pool, round % 2 ? pool : NULL, pool, NULL}, .workers = size + 1};

            nest_four_deep(&all);
            CHECK(atomic_load(&all.most_threads) <= with_pool);
            CHECK_EQ(atomic_load(&all.not_nested), 0);
        }
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    }
}

TEST(nested_calls_on_other_pools)
{
    for (unsigned size = 1; size <= 4; size *= 2) {
        twill_pool *one = make_pool(size), *two = make_pool(5 - size);

        for (int round = 0; round < 30; round++) {
            deep all = {.pool = {one, two, one, round % 2 ? two : NULL},
                        .workers = round % 3 ? 0 : 2};

            nest_four_deep(&all);
        }
        CHECK_EQ(twill_pool_destroy(one), TWILL_OK);
        CHECK_EQ(twill_pool_destroy(two), TWILL_OK);
    }
}

/* A callback that makes a nested call while it holds a lock: whoever ran another item of the outer
   call in the same thread meanwhile would want the lock that the thread holds. */
static _Thread_local int depth_here;

typedef struct locked {
    pthread_mutex_t mutex;
    twill_pool *pool;
    atomic_uint strangers, inner;
} locked;

static int count_inner(const twill_task *task)
{
    locked *plan = (locked *)task->context;

    atomic_fetch_add(&plan->inner, 1);
    if (task->index % 4 == 0)
        kit_pause(TWILL_US(20));
    else
        kit_burn(500);
    return 0;
}

static int call_under_lock(const twill_task *task)
{
    locked *plan = (locked *)task->context;
    twill_parallel_options options = {.run = {.pool = plan->pool, .context = plan}};

    if (depth_here++)
        atomic_fetch_add(&plan->strangers, 1);
    pthread_mutex_lock(&plan->mutex);
    CHECK_EQ(twill_parallel_for(20, count_inner, &options), TWILL_OK);
    pthread_mutex_unlock(&plan->mutex);
    depth_here--;
    return 0;
}

TEST(waiting_runs_no_strangers_under_a_held_lock)
{
    for (unsigned size = 0; size <= 4; size++) {
        twill_pool *pool = size ? make_pool(size) : NULL;
        locked plan = {.mutex = PTHREAD_MUTEX_INITIALIZER, .pool = pool};

        for (int round = 0; round < 8; round++) {
            twill_parallel_options options = {
                .run = {.pool = pool, .workers = size ? size + 1 : 4, .context = &plan}};

            CHECK_EQ(twill_parallel_for(12, call_under_lock, &options), TWILL_OK);
        }
        CHECK_EQ(atomic_load(&plan.strangers), 0);
        CHECK_EQ(atomic_load(&plan.inner), 8 * 12 * 20);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    }
}

/* The caller, idle at the end of its call, helps a call that a helper makes below it. */
typedef struct below {
    pthread_t caller;
    atomic_uint begun, in_inner, by_caller;
} below;

static int inner_meets(const twill_task *task)
{
    below *plan = (below *)task->context;

    if (pthread_equal(pthread_self(), plan->caller))
        atomic_fetch_add(&plan->by_caller, 1);
    atomic_fetch_add(&plan->in_inner, 1);
    return kit_wait_for(&plan->in_inner, 2) ? 0 : 1; /* ends only when two threads are in */
}

static int second_calls_below(const twill_task *task)
{
    below *plan = (below *)task->context;
    twill_parallel_options options = {.run = {.context = plan}};

    if (pthread_equal(pthread_self(), plan->caller))
        return kit_wait_for(&plan->begun, 1) ? 0 : 1;
    atomic_fetch_add(&plan->begun, 1);
    kit_pause(TWILL_MS(3)); /* the caller is parked by then */
    return (int)twill_parallel_for(2, inner_meets, &options);
}

TEST(parked_caller_helps_the_calls_below_it)
{
    for (int round = 0; round < 20; round++) {
        below plan = {.caller = pthread_self()};
        twill_parallel_options options = {.run = {.workers = 2, .context = &plan}};

        CHECK_EQ(twill_parallel_for(2, second_calls_below, &options), TWILL_OK);
        CHECK_EQ(atomic_load(&plan.in_inner), 2);
        CHECK_EQ(atomic_load(&plan.by_caller), 1);
    }
}

/* ---- callers side by side ---- */

typedef struct side {
    twill_pool *pool;
    atomic_uint entered, release, ended;
} side;

static int wait_for_release(const twill_task *task)
{
    side *plan = (side *)task->context;

    atomic_fetch_add(&plan->entered, 1);
    return kit_wait_for(&plan->release, 1) ? 0 : 1;
}

static void *long_call(void *plan_)
{
    side *plan = (side *)plan_;
    twill_parallel_options options = {.run = {.pool = plan->pool, .workers = 8, .context = plan}};

    CHECK_EQ(twill_parallel_for(20, wait_for_release, &options), TWILL_OK);
    atomic_fetch_add(&plan->ended, 1);
    return NULL;
}

static int no_work(const twill_task *task)
{
    (void)task;
    return 0;
}

TEST(short_call_is_not_delayed_by_a_long_one_on_the_pool)
{
    for (unsigned size = 1; size <= 4; size++) {
        side plan = {.pool = make_pool(size)};
        twill_parallel_options options = {.run = {.pool = plan.pool}};
        pthread_t thread;

        CHECK_EQ(pthread_create(&thread, NULL, long_call, &plan), 0);
        CHECK(kit_wait_for(&plan.entered, size + 1)); /* all threads of the pool are taken */
        for (int round = 0; round < 50; round++) {
            options.run.workers = (unsigned)round % 4;
            CHECK_EQ(twill_parallel_for(100, no_work, &options), TWILL_OK);
        }
        CHECK_EQ(atomic_load(&plan.ended), 0);
        atomic_store(&plan.release, 1);
        pthread_join(thread, NULL);
        CHECK_EQ(twill_pool_destroy(plan.pool), TWILL_OK);
    }
}

/* Two callers open at the same moment, each needs one of the pool's threads: both must get it. */
typedef struct meeting {
    twill_pool *pool;
    atomic_uint *gate;
    unsigned at;
    atomic_uint inside;
} meeting;

static int meet_in_pair(const twill_task *task)
{
    meeting *mine = (meeting *)task->context;

    atomic_fetch_add(&mine->inside, 1);
    return kit_wait_for(&mine->inside, 2) ? 0 : 1;
}

static void *call_pair(void *mine_)
{
    meeting *mine = (meeting *)mine_;
    twill_parallel_options options = {.run = {.pool = mine->pool, .workers = 2, .context = mine}};

    atomic_fetch_add(mine->gate, 1);
    while (atomic_load(mine->gate) < mine->at)
        continue; /* ends: the other caller comes */
    CHECK_EQ(twill_parallel_for(2, meet_in_pair, &options), TWILL_OK);
    return NULL;
}

TEST(calls_that_open_together_both_get_a_helper)
{
    twill_pool *pool = make_pool(2);
    atomic_uint gate = 0;

    for (unsigned round = 1; round <= 300; round++) {
        meeting one = {pool, &gate, 2 * round, 0}, two = {pool, &gate, 2 * round, 0};
        pthread_t thread;

        CHECK_EQ(pthread_create(&thread, NULL, call_pair, &two), 0);
        call_pair(&one);
        pthread_join(thread, NULL);
        if (round % 10 == 0)
            kit_pause(TWILL_US(200)); /* now the threads of the pool sleep */
    }
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

static int does_nothing(void *arg, void *result, const twill_task *task)
{
    (void)arg;
    (void)result;
    (void)task;
    return 0;
}

/* BUSY: nothing has changed, also for calls that come later and take the other seats. */
TEST(abandon_while_a_call_is_on_the_pool)
{
    twill_pool *pool = make_pool(1);
    twill__seat *first = twill__take_seat(pool->team), *second = twill__take_seat(pool->team);
    twill_future future;
    twill__release(first);
    CHECK_EQ(twill_pool_abandon(pool, NULL), TWILL_BUSY);
    for (unsigned i = 0; i < TWILL__SEATS; i++)
        CHECK_EQ(atomic_load(&pool->team->seat[i].word),
                 &pool->team->seat[i] == second ? TWILL__SEAT_OWNED : 0);
    CHECK_EQ(twill_pool_submit(pool, does_nothing, NULL, &future, NULL), TWILL_OK);
    CHECK_EQ(twill_future_wait(future, NULL, NULL), TWILL_OK);
    twill_future_release(future);
    twill__release(second);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

static int holds_its_thread(void *side_, void *result, const twill_task *task)
{
    side *plan = side_;

    (void)result, (void)task;
    atomic_fetch_add(&plan->entered, 1);
    while (!atomic_load(&plan->release))
        kit_pause(TWILL_US(200));
    return 0;
}

/* A pool whose threads are all busy, more than one word of numbers: the caller does everything. */
TEST(a_wide_pool_that_has_no_time)
{
    enum { WIDE = 65 };
    side plan = {.pool = make_pool(WIDE)};

    for (int i = 0; i < WIDE; i++)
        CHECK_EQ(twill_pool_submit(plan.pool, holds_its_thread, &plan, NULL, NULL), TWILL_OK);
    CHECK(kit_wait_for(&plan.entered, WIDE));
    CHECK_EQ(twill_parallel_for(200, no_work, &(twill_parallel_options){.run.pool = plan.pool}),
             TWILL_OK);
    atomic_store(&plan.release, 1);
    CHECK_EQ(twill_pool_destroy(plan.pool), TWILL_OK);
}

/* A stop that waits for a call on the pool ends with its time or its token, and can be asked
   again. */
TEST(a_stop_waits_for_a_call_as_long_as_it_may)
{
    side plan = {.pool = make_pool(2)};
    twill_cancel token;
    pthread_t thread;

    twill_cancel_init(&token, NULL);
    twill_cancel_fire(&token, 1);
    CHECK_EQ(pthread_create(&thread, NULL, long_call, &plan), 0);
    CHECK(kit_wait_for(&plan.entered, 1));
    CHECK_EQ(twill_pool_stop(plan.pool, (twill_until){1, NULL}, twill_within(1), NULL),
             TWILL_TIMEOUT);
    CHECK_EQ(twill_pool_stop(plan.pool, (twill_until){1, NULL}, twill_within(TWILL_MS(2)), NULL),
             TWILL_TIMEOUT);
    CHECK_EQ(
        twill_pool_stop(plan.pool, (twill_until){1, NULL}, twill_until_cancelled(&token), NULL),
        TWILL_CANCELLED);
    atomic_store(&plan.release, 1);
    CHECK_EQ(twill_pool_stop(plan.pool, (twill_until){1, NULL}, twill_within(TWILL_SEC(100)), NULL),
             TWILL_OK);
    pthread_join(thread, NULL);
    twill_cancel_detach(&token);
    CHECK_EQ(twill_pool_destroy(plan.pool), TWILL_OK);
}

TEST(many_more_calls_at_once_than_seats)
{
    side plan = {.pool = make_pool(2)};
    pthread_t threads[40];

    for (int i = 0; i < 40; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, long_call, &plan), 0);
    CHECK(kit_wait_for(&plan.entered, 40)); /* each caller is in its own call */
    atomic_store(&plan.release, 1);
    for (int i = 0; i < 40; i++)
        pthread_join(threads[i], NULL);
    CHECK_EQ(atomic_load(&plan.ended), 40);
    CHECK_EQ(atomic_load(&plan.entered), 800);
    CHECK_EQ(twill_pool_destroy(plan.pool), TWILL_OK);
}

static void *random_calls(void *pool)
{
    twill_ns end = twill_now() + TWILL_MS(500);

    for (int round = 0; round < 400 && (round < 5 || twill_now() < end); round++) {
        kit_call *call = kit_draw(300);
        twill_status status;

        call->options.run.pool = (twill_pool *)pool;
        status = kit_run(call);
        kit_check_and_free(call, status, "callers on one pool");
    }
    return NULL;
}

TEST(random_calls_of_many_callers_on_one_pool)
{
    twill_pool *pool = make_pool(3);
    pthread_t threads[24];

    for (int i = 0; i < 24; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, random_calls, pool), 0);
    for (int i = 0; i < 24; i++)
        pthread_join(threads[i], NULL);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

/* ---- threads that end in a callback ---- */

typedef struct endings {
    size_t item; /* ends its thread */
    bool on_caller;
    pthread_t caller;
    atomic_uint ran[300], starts, stops, ended, begun, waits;
    twill_parallel_options options;
    twill_report report;
    twill_status statuses[300];
    size_t n;
} endings;

static int end_at(const twill_task *task)
{
    endings *plan = (endings *)task->context;
    bool caller = pthread_equal(pthread_self(), plan->caller) != 0;

    atomic_fetch_add(&plan->ran[task->index], 1);
    if (task->index == plan->item && caller == plan->on_caller) {
        atomic_fetch_add(&plan->ended, 1);
        END_THREAD();
    }
    kit_pause(TWILL_US(20));
    return 0;
}

static int end_start(void **state, const twill_task *task)
{
    endings *plan = (endings *)task->context;

    *state = plan;
    atomic_fetch_add(&plan->starts, 1);
    return 0;
}

static void end_stop(void *state, const twill_task *task)
{
    (void)task;
    atomic_fetch_add(&((endings *)state)->stops, 1);
}

static void endings_init(endings *plan, size_t n, int schedule)
{
    memset(plan, 0, sizeof *plan);
    plan->n = n;
    plan->caller = pthread_self();
    plan->options.schedule = (twill_schedule)schedule;
    plan->options.cost_of = kit_cost;
    plan->options.run.context = plan;
    plan->options.run.on_error = TWILL_ON_ERROR_COLLECT;
    plan->options.run.statuses = plan->statuses;
    plan->options.run.report = &plan->report;
    plan->options.run.worker_start = end_start;
    plan->options.run.worker_stop = end_stop;
}

/* What must hold when one item's thread has ended (or none, if the item ran where it may not). */
static void endings_check(const endings *plan, twill_status status)
{
    unsigned ended = atomic_load(&plan->ended);

    CHECK(ended <= 1);
    CHECK_EQ(status, ended ? TWILL_FAILED : TWILL_OK);
    CHECK_EQ(plan->report.done, plan->n - ended);
    CHECK_EQ(plan->report.failed, ended);
    CHECK_EQ(plan->report.skipped, 0);
    CHECK_EQ(atomic_load(&plan->starts), atomic_load(&plan->stops));
    for (size_t i = 0; i < plan->n; i++) {
        CHECK_EQ(atomic_load(&plan->ran[i]), 1);
        CHECK_EQ(plan->statuses[i], ended && i == plan->item ? TWILL_LOST : TWILL_OK);
    }
    if (!ended)
        return;
    CHECK_EQ(plan->report.first_error.index, plan->item);
    CHECK_EQ(plan->report.first_error.status, TWILL_LOST);
    CHECK_EQ(plan->report.first_error.code, 0);
    CHECK(plan->report.flags & TWILL_REPORT_DEGRADED);
}

TEST(helper_that_ends_loses_its_item_alone)
{
    unsigned ended = 0;

    for (int round = 0; round < 60; round++) {
        endings plan;
        twill_status status;

        endings_init(&plan, 1 + (size_t)test_random_below(60), round % 5);
        plan.options.run.workers = 2 + (unsigned)test_random_below(4);
        plan.item = (size_t)test_random_below(plan.n);
        status = twill_parallel_for(plan.n, end_at, &plan.options);
        endings_check(&plan, status);
        ended += atomic_load(&plan.ended);
    }
    CHECK(ended > 0);
}

/* The caller waits already when the helper ends: what is left of the helper's chunk is the caller's
   to run. */
static int end_after_the_caller(const twill_task *task)
{
    endings *plan = (endings *)task->context;

    atomic_fetch_add(&plan->ran[task->index], 1);
    if (pthread_equal(pthread_self(), plan->caller)) {
        if (task->index == 0)
            kit_wait_for(&plan->begun, 1);
        atomic_fetch_add(&plan->waits, 1);
    } else if (task->index == plan->item) {
        atomic_fetch_add(&plan->begun, 1);
        kit_wait_for(&plan->waits, 50);
        kit_pause(TWILL_MS(3));
        atomic_fetch_add(&plan->ended, 1);
        END_THREAD();
    }
    return 0;
}

TEST(waiting_caller_runs_what_an_ended_helper_left)
{
    for (int round = 0; round < 10; round++) {
        endings plan;
        twill_status status;

        endings_init(&plan, 100, TWILL_SCHEDULE_STATIC);
        plan.options.run.workers = 2;
        plan.item = 50;
        status = twill_parallel_for(100, end_after_the_caller, &plan.options);
        endings_check(&plan, status);
        CHECK_EQ(atomic_load(&plan.ended), 1);
    }
}

TEST(pool_works_on_when_all_its_threads_have_ended)
{
    for (unsigned size = 1; size <= 3; size++) {
        twill_pool *pool = make_pool(size);

        for (int round = 0; round < 12; round++) {
            endings plan;
            twill_status status;

            endings_init(&plan, 40, round % 4);
            plan.options.run.pool = pool;
            plan.options.run.workers = size + 1;
            plan.item = (size_t)test_random_below(plan.n);
            status = twill_parallel_for(plan.n, end_at, &plan.options);
            endings_check(&plan, status);
        }
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    }
}

static void *call_that_ends_its_caller(void *plan_)
{
    endings *plan = (endings *)plan_;

    plan->caller = pthread_self();
    (void)twill_parallel_for(plan->n, end_at, &plan->options);
    CHECK_EQ(atomic_load(&plan->ended),
             0); /* else the call has returned into a thread that ended */
    return NULL;
}

static void end_the_caller(twill_pool *pool, unsigned workers, int schedule)
{
    static endings plan; /* not on the stack of the thread that ends */
    pthread_t thread;
    int before = kit_threads();

    endings_init(&plan, 50, schedule);
    plan.on_caller = true;
    plan.item = (size_t)test_random_below(plan.n);
    plan.options.run.pool = pool;
    plan.options.run.workers = workers;
    CHECK_EQ(pthread_create(&thread, NULL, call_that_ends_its_caller, &plan), 0);
    pthread_join(thread, NULL);
    CHECK_EQ(plan.report.done + plan.report.failed + plan.report.skipped, plan.n);
    CHECK_EQ(plan.report.failed, atomic_load(&plan.ended));
    CHECK_EQ(atomic_load(&plan.starts), atomic_load(&plan.stops));
    if (atomic_load(&plan.ended)) {
        CHECK_EQ(plan.report.status, TWILL_FAILED);
        CHECK_EQ(plan.statuses[plan.item], TWILL_LOST);
    }
    for (size_t i = 0; i < plan.n; i++)
        CHECK(atomic_load(&plan.ran[i]) <= 1);
    CHECK(kit_threads_back_to(before)); /* no helper is left on the dead frame */
}

TEST(caller_that_ends_waits_for_its_helpers)
{
    twill_pool *pool = make_pool(2);

    for (int round = 0; round < 30; round++)
        end_the_caller(round % 3 ? NULL : pool, 1 + (unsigned)round % 4, round % 5);
    CHECK_EQ(twill_parallel_for(100, no_work, &(twill_parallel_options){.run.pool = pool}),
             TWILL_OK);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

/* The caller waits for its call and runs a call below it meanwhile, when a callback of that one
   ends the thread: no item of the caller's own call is lost by it. */
typedef struct served {
    twill_report report;
    pthread_t caller;
    atomic_uint begun, ended;
} served;

static int end_while_serving(const twill_task *task)
{
    served *plan = (served *)task->context;

    if (pthread_equal(pthread_self(), plan->caller)) {
        atomic_fetch_add(&plan->ended, 1);
        END_THREAD();
    }
    return kit_wait_for(&plan->ended, 1) ? 0 : 1;
}

static int one_of_two(const twill_task *task)
{
    served *plan = (served *)task->context;
    twill_parallel_options options = {.run.context = plan};

    if (pthread_equal(pthread_self(), plan->caller))
        return kit_wait_for(&plan->begun, 1) ? 0 : 1;
    atomic_fetch_add(&plan->begun, 1);
    kit_pause(TWILL_MS(2));
    (void)twill_parallel_for(2, end_while_serving, &options); /* one item is lost with its thread */
    return 0;
}

static void *call_two(void *plan_)
{
    served *plan = (served *)plan_;
    twill_parallel_options options = {
        .run = {.workers = 2, .context = plan, .report = &plan->report}};

    plan->caller = pthread_self();
    (void)twill_parallel_for(2, one_of_two, &options);
    return NULL;
}

TEST(caller_that_ends_in_a_call_below_loses_none_of_its_own)
{
    int before = kit_threads();

    for (int round = 0; round < 20; round++) {
        static served plan;
        pthread_t thread;

        memset(&plan, 0, sizeof plan);
        CHECK_EQ(pthread_create(&thread, NULL, call_two, &plan), 0);
        pthread_join(thread, NULL);
        CHECK_EQ(atomic_load(&plan.ended), 1);
        CHECK_EQ(plan.report.done, 2);
        CHECK_EQ(plan.report.failed + plan.report.skipped, 0);
    }
    CHECK(kit_threads_back_to(before));
}

/* worker_start that ends its thread: that worker runs nothing, nobody is lost. */
static int start_ends(void **state, const twill_task *task)
{
    endings *plan = (endings *)task->context;

    (void)state;
    atomic_fetch_add(&plan->starts, 1);
    if (task->worker == 1) {
        atomic_fetch_add(&plan->ended, 1);
        END_THREAD();
    }
    return 0;
}

static void count_stop(void *state, const twill_task *task)
{
    (void)state;
    atomic_fetch_add(&((endings *)task->context)->stops, 1);
}

TEST(helper_that_ends_in_its_hook_runs_nothing)
{
    for (int round = 0; round < 10; round++) {
        endings plan;

        endings_init(&plan, 60, round % 5);
        plan.item = SIZE_MAX;
        plan.options.run.workers = 2 + (unsigned)round % 3;
        plan.options.run.worker_start = start_ends;
        plan.options.run.worker_stop = count_stop;
        CHECK_EQ(twill_parallel_for(plan.n, end_at, &plan.options), TWILL_OK);
        CHECK_EQ(plan.report.done, plan.n);
        CHECK_EQ(atomic_load(&plan.stops), atomic_load(&plan.starts) - atomic_load(&plan.ended));
        if (atomic_load(&plan.ended))
            CHECK(plan.report.flags & TWILL_REPORT_DEGRADED);
    }
}

/* ---- fork ---- */

#if !defined TWILL__UNDER_TSAN /* which ends a child that starts threads */

typedef struct forks {
    pthread_t caller;
    bool by_caller;
    int fails; /* the code of the item that has forked, in the child */
    twill_pool *pool;
    atomic_uint forked;
    pid_t child;
    bool in_child;
} forks;

static void check_child(twill_pool *pool)
{
    twill_report report;
    twill_parallel_options options = {.run = {.report = &report}};

#ifdef __SANITIZE_ADDRESS__ /* it knows nothing of new threads in a child of many */
    options.run.workers = 1;
#endif
    CHECK_EQ(twill_parallel_for(1000, no_work, &options), TWILL_OK);
    CHECK_EQ(report.done, 1000);
#ifndef __SANITIZE_ADDRESS__
    options.run.workers = 3;
    CHECK_EQ(twill_parallel_for(1000, no_work, &options), TWILL_OK);
    CHECK_EQ(report.done, 1000);
    CHECK_EQ(report.workers_started, 3);
#endif
    options.run.workers = 0;
    options.run.pool = pool;
    CHECK_EQ(twill_parallel_for(1000, no_work, &(twill_parallel_options){.run.pool = pool}),
             TWILL_FORKED);
    CHECK_EQ(twill_parallel_for(1000, no_work, &options), TWILL_FORKED);
    CHECK_EQ(report.status, TWILL_FORKED);
    CHECK_EQ(report.skipped, 1000);
}

static int fork_once(const twill_task *task)
{
    forks *plan = (forks *)task->context;

    kit_pause(TWILL_MS(1));
    if ((pthread_equal(pthread_self(), plan->caller) != 0) != plan->by_caller ||
        atomic_exchange(&plan->forked, 1))
        return 0;
    plan->child = fork();
    if (plan->child != 0)
        return 0;
    plan->in_child = true;
    check_child(plan->pool);
    if (!plan->by_caller)
        _exit(0);
    return plan->fails; /* and the call goes on in the child, without its helpers */
}

static void check_exit(pid_t child)
{
    int status = -1;

    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

TEST(fork_in_a_callback)
{
    for (int round = 0; round < 8; round++) {
        forks plan = {.caller = pthread_self(),
                      .by_caller = round % 2 == 0,
                      .fails = round >= 4 ? 6 : 0,
                      .pool = make_pool(2)};
        twill_item_error errors[2];
        twill_report report;
        twill_parallel_options options = {.run = {.workers = 3,
                                                  .context = &plan,
                                                  .on_error = TWILL_ON_ERROR_COLLECT,
                                                  .errors = errors,
                                                  .errors_capacity = 2,
                                                  .report = &report}};
        twill_status status;

        if (round % 4 >= 2)
            options.run.pool = plan.pool;
        status = twill_parallel_for(20, fork_once, &options);
        if (plan.in_child) {
            CHECK_EQ(report.failed, plan.fails != 0);
            if (plan.fails) { /* not stored where a thread of the parent may have been writing */
                CHECK_EQ(status, TWILL_FAILED);
                CHECK_EQ(report.errors_stored, 0);
            } else {
                CHECK(status == TWILL_OK || status == TWILL_FORKED);
                CHECK(status == TWILL_FORKED || report.skipped == 0);
            }
            CHECK_EQ(report.done + report.failed + report.skipped, 20);
            check_child(plan.pool);
            CHECK_EQ(twill_pool_destroy(plan.pool), TWILL_OK);
            _exit(0);
        }
        CHECK_EQ(status, TWILL_OK);
        CHECK_EQ(report.done, 20);
        if (atomic_load(&plan.forked))
            check_exit(plan.child);
        CHECK_EQ(twill_pool_destroy(plan.pool), TWILL_OK);
    }
}

/* The caller forks in its first fold or test while a helper is in one: in the child nobody ends
   that, so there is no result. */
static struct {
    atomic_uint helper_in, forked, dropped, torn;
    pid_t child;
} half;

static void fork_beside_a_helper(const twill_task *task)
{
    if (task->worker != 0) {
        atomic_store(&half.helper_in, 1);
        CHECK(kit_wait_for(&half.forked, 1));
    } else if (!atomic_load(&half.forked)) {
        CHECK(kit_wait_for(&half.helper_in, 1));
        half.child = fork();
        atomic_store(&half.forked, 1);
    }
}

static int fold_and_fork(void *acc, size_t begin, size_t end, const twill_task *task)
{
    *(uint64_t *)acc += 1000;
    fork_beside_a_helper(task);
    *(uint64_t *)acc += end - begin - 1000;
    return 0;
}

static int add_halves(void *left, void *right, const twill_task *task)
{
    (void)task;
    *(uint64_t *)left += *(uint64_t *)right;
    return 0;
}

static void drop_half(void *acc, const twill_task *task)
{
    (void)task;
    atomic_fetch_add(&half.dropped, 1);
    atomic_fetch_add(&half.torn, *(uint64_t *)acc >= 1000); /* a fold is in the middle of it */
}

static bool keep_and_fork(const void *item, const twill_task *task)
{
    fork_beside_a_helper(task);
    return *(const int *)item % 2;
}

TEST(no_result_in_a_child_that_lacks_a_part)
{
    enum { N = 100 };
    for (int form = 0; form < 3; form++) {
        twill_reducer reducer = {.size = 8,
                                 .fold = fold_and_fork,
                                 .combine = add_halves,
                                 .dispose = drop_half,
                                 .unordered = form == 1,
                                 .blocks = 10};
        twill_parallel_options options = {.run.workers = 2};
        twill_status status;
        uint64_t sum = 77;
        int items[N];
        size_t kept = 77;

        atomic_store(&half.helper_in, 0);
        atomic_store(&half.forked, 0);
        atomic_store(&half.dropped, 0);
        for (int i = 0; i < N; i++)
            items[i] = i;
        if (form < 2)
            status = twill_parallel_reduce(N, &reducer, &sum, &options);
        else
            status = twill_parallel_filter(items, sizeof *items, N, items, &kept, keep_and_fork,
                                           &options);
        if (half.child == 0) {
            CHECK_EQ(status, TWILL_FORKED);
            CHECK_EQ(sum, 77);
            CHECK_EQ(kept, form < 2 ? 77 : 0);
            for (int i = 0; i < N; i++)
                CHECK_EQ(items[i], i);
            CHECK(form == 2 || atomic_load(&half.dropped));
            _exit(atomic_load(&half.torn) != 0);
        }
        CHECK_EQ(status, TWILL_OK);
        CHECK_EQ(atomic_load(&half.torn), 0);
        CHECK_EQ(sum, form < 2 ? N : 77);
        CHECK_EQ(kept, form < 2 ? 77 : N / 2);
        check_exit(half.child);
    }
}

TEST(pool_made_before_a_fork)
{
    twill_pool *pool = make_pool(3);
    pid_t child = fork();

    if (child == 0) {
        check_child(pool);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
#ifndef __SANITIZE_ADDRESS__ /* as above: the stacks of new threads are still marked as used */
        twill_pool *own = make_pool(2);
        CHECK_EQ(twill_parallel_for(1000, no_work,
                                    &(twill_parallel_options){.run = {.pool = own, .workers = 3}}),
                 TWILL_OK);
        CHECK_EQ(twill_pool_destroy(own), TWILL_OK);
#endif
        _exit(0);
    }
    check_exit(child);
    CHECK_EQ(twill_parallel_for(1000, no_work, &(twill_parallel_options){.run.pool = pool}),
             TWILL_OK);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}
#endif

/* ---- interruptions ---- */

static atomic_uint alarms;

static void on_alarm(int signal)
{
    (void)signal;
    atomic_fetch_add_explicit(&alarms, 1, memory_order_relaxed); /* a count */
}

TEST(interrupted_system_calls_are_invisible)
{
    struct sigaction action, old;
    struct itimerval often = {{0, 500}, {0, 500}}, never = {{0, 0}, {0, 0}};
    twill_pool *pool = make_pool(3);
    twill_ns end = twill_now() + TWILL_MS(500);

    memset(&action, 0, sizeof action); /* no SA_RESTART */
    action.sa_handler = on_alarm;
    sigaction(SIGALRM, &action, &old);
    setitimer(ITIMER_REAL, &often, NULL);
    for (int round = 0; round < 5 || twill_now() < end || atomic_load(&alarms) <= 10; round++) {
        kit_call *call = kit_draw(300);
        twill_status status;

        if (round % 2)
            call->options.run.pool = pool;
        else
            call->options.run.workers = 3;
        status = kit_run(call);
        kit_check_and_free(call, status, "under alarms");
    }
    setitimer(ITIMER_REAL, &never, NULL);
    sigaction(SIGALRM, &old, NULL);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

/* ---- claims ---- */

TEST(claims_near_the_largest_index_do_not_wrap)
{
    static const twill__schedule schedules[] = {TWILL__DYNAMIC, TWILL__GUIDED, TWILL__FRONT};
    for (int round = 0; round < 2000; round++) {
        twill__job job;
        twill__pace pace = {0};
        size_t n = SIZE_MAX - (size_t)test_random_below(5),
               at = n - (size_t)test_random_below(2000);
        size_t begin, end;

        memset(&job, 0, sizeof job);
        job.n = n;
        job.np = 1 + (unsigned)test_random_below(64);
        job.chunk = (size_t)test_random_below(4) ? (size_t)test_random_below(100) : SIZE_MAX;
        job.schedule = schedules[test_random_below(3)];
        pace.least = 1 + (size_t)test_random_below(100);
        pace.chunk = pace.least + (size_t)test_random_below(2) * (n / 3);
        atomic_init(&job.limit, SIZE_MAX);
        atomic_init(&job.next, at);
        while (twill__claim_next(&job, &pace, &begin, &end)) {
            if (!CHECK_EQ(begin, at) || !CHECK(end > begin && end <= n))
                return;
            at = end;
        }
        CHECK_EQ(at, n);
    }
}

TEST(shares_cover_every_item_once)
{
    for (int round = 0; round < 2000; round++) {
        twill__job job;
        size_t least, most = 0;

        memset(&job, 0, sizeof job);
        job.n = test_random_below(2) ? SIZE_MAX - (size_t)test_random_below(100)
                                     : (size_t)test_random_below(300);
        job.np = 1 + (unsigned)test_random_below(100);
        least = job.n;
        CHECK_EQ(twill__share(&job, 0), 0);
        CHECK_EQ(twill__share(&job, job.np), job.n);
        for (unsigned worker = 0; worker < job.np; worker++) {
            size_t share = twill__share(&job, worker + 1) - twill__share(&job, worker);

            least = share < least ? share : least;
            most = share > most ? share : most;
        }
        CHECK(most - least <= 1);
    }
}

/* The last item that runs with a stop: the last of its unit, whose end may not be a number. */
TEST(a_stop_ends_behind_its_unit)
{
    static twill__job job; /* zeros */

    job.first = 10;
    job.unit = 8;
    CHECK_EQ(twill__last_with(&job, 0, 10), 17);
    CHECK_EQ(twill__last_with(&job, 0, 26), 33);
    job.unit = SIZE_MAX / 2;
    CHECK_EQ(twill__last_with(&job, 0, 10), SIZE_MAX / 2 + 9);
    CHECK_EQ(twill__last_with(&job, 0, SIZE_MAX - 2), SIZE_MAX - 1);
}

/* What takes 600 ns, by the first items; a tick is a nanosecond. */
TEST(a_first_chunk_is_neither_nothing_nor_too_much)
{
    CHECK_EQ(twill__first_chunk(1024, 300, 16), 32);
    CHECK_EQ(twill__first_chunk(1024, 10000, 1), 1);
    CHECK_EQ(twill__first_chunk(1024, 1, 16), 4096);
}

/* Many quick items that nobody has cut run 64 between two looks, or 8; one for one who may be told
   to end. */
TEST(quick_items_are_looked_at_less_often)
{
    static twill__job job; /* large for a stack */

    memset(&job, 0, sizeof job);
    CHECK_EQ(twill__loop_step(&job, 5000), SIZE_MAX); /* alone */
    job.generation = 1;
    CHECK_EQ(twill__loop_step(&job, 63), 1);
    CHECK_EQ(twill__loop_step(&job, 64), 8);
    CHECK_EQ(twill__loop_step(&job, 1023), 8);
    CHECK_EQ(twill__loop_step(&job, 1024), 64);
    job.chunk = 1024;
    CHECK_EQ(twill__loop_step(&job, 1024), 8);
    job.chunk = 0;
    job.schedule = TWILL__DYNAMIC;
    CHECK_EQ(twill__loop_step(&job, 1024), 8);
    job.may_end = true;
    CHECK_EQ(twill__loop_step(&job, 1024), 1);
}

TEST(blocks_saturate_at_n)
{
    for (int round = 0; round < 2000; round++) {
        twill__job job;
        uint64_t blocks;
        size_t left;

        memset(&job, 0, sizeof job);
        job.start = (size_t)test_random_below(100);
        job.n = test_random_below(2) ? SIZE_MAX - (size_t)test_random_below(3)
                                     : job.start + 1 + (size_t)test_random();
        if (job.n <= job.start)
            continue;
        left = job.n - job.start;
        job.block = left / 0xfffffffeu + 1;
        blocks = left / job.block + (left % job.block != 0);
        CHECK(blocks <= 0xffffffffu);
        CHECK_EQ(twill__item_of(&job, 0), job.start);
        CHECK_EQ(twill__item_of(&job, blocks), job.n);
        CHECK(twill__item_of(&job, blocks - 1) < job.n);
        CHECK_EQ(twill__item_of(&job, 0xffffffffu), job.n);
    }
}

TEST(kept_errors_are_the_lowest)
{
    for (int round = 0; round < 300; round++) {
        twill_item_error errors[20];
        twill_run run = {.errors = errors, .errors_capacity = 1 + (size_t)test_random_below(20)};
        twill__job job;
        size_t n = (size_t)test_random_below(60),
               want = n < run.errors_capacity ? n : run.errors_capacity;
        size_t order[60];

        memset(&job, 0, sizeof job);
        job.run = &run;
        for (size_t i = 0; i < n; i++)
            order[i] = i;
        for (size_t i = n; i-- > 1;) {
            size_t other = (size_t)test_random_below(i + 1), kept = order[i];

            order[i] = order[other];
            order[other] = kept;
        }
        for (size_t i = 0; i < n; i++)
            twill__errors_keep(&job, (twill_item_error){order[i], TWILL_FAILED, (int)order[i] + 1});
        twill__errors_sort(&job);
        CHECK_EQ(job.errors_count, want);
        for (size_t i = 0; i < want; i++)
            CHECK(errors[i].index == i && errors[i].code == (int)i + 1);
    }
}

/* ---- calls without wishes ---- */

enum { PLAIN = 70 }; /* enough for a caller alone with two workers, and cheap */

typedef struct plain {
    twill_pool *pool;
    size_t fail_at, stop_at, end_at, skip_below;
    atomic_uint ran[PLAIN];
    twill_ns dear; /* what an item takes; 0: next to nothing */
    _Atomic bool nested_alone;
    atomic_uint workers; /* a bit each */
} plain;

static int plain_item(const twill_task *task)
{
    plain *call = (plain *)task->context;

    atomic_fetch_add(&call->ran[task->index], 1);
    if (task->index == call->end_at)
        END_THREAD();
    if (task->index < call->skip_below)
        twill_task_skip(task);
    if (task->index == call->stop_at)
        twill_task_stop(task);
    return task->index == call->fail_at ? 7 : 0;
}

/* Whether all items up to `last` ran once, and those above at most once. */
static bool plain_ran(plain *call, size_t last)
{
    for (size_t i = 0; i < PLAIN; i++) {
        unsigned ran = atomic_exchange(&call->ran[i], 0);

        if (!CHECK(ran == 1 || (i > last && ran == 0)))
            return false;
    }
    return true;
}

static twill_status plain_call(plain *call)
{
    return twill_parallel_for(
        PLAIN, plain_item, &(twill_parallel_options){.run = {.pool = call->pool, .context = call}});
}

TEST(call_without_wishes_answers_like_the_serial_loop)
{
    for (unsigned size = 0; size < 3; size++) {
        plain call = {.pool = size ? make_pool(size) : NULL,
                      .fail_at = SIZE_MAX,
                      .stop_at = SIZE_MAX,
                      .end_at = SIZE_MAX};

        for (size_t at = 0; at < PLAIN; at++) {
            CHECK_EQ(plain_call(&call), TWILL_OK);
            plain_ran(&call, PLAIN - 1);
            call.fail_at = at;
            CHECK_EQ(plain_call(&call), TWILL_FAILED);
            plain_ran(&call, at);
            call.stop_at = at / 2; /* no higher than what fails */
            CHECK_EQ(plain_call(&call), at ? TWILL_OK : TWILL_FAILED);
            plain_ran(&call, at / 2);
            call.fail_at = SIZE_MAX;
            CHECK_EQ(plain_call(&call), TWILL_OK);
            plain_ran(&call, at / 2);
            call.stop_at = SIZE_MAX;
            call.skip_below = at;
            CHECK_EQ(plain_call(&call), TWILL_OK);
            plain_ran(&call, PLAIN - 1);
            call.skip_below = 0;
        }
        if (size)
            CHECK_EQ(twill_pool_destroy(call.pool), TWILL_OK);
    }
}

static void *plain_ends(void *call)
{
    (void)plain_call((plain *)call); /* may come back, if a helper met the item */
    return NULL;
}

TEST(call_without_wishes_lets_go_of_its_pool_when_a_callback_ends_the_thread)
{
    plain call = {.pool = make_pool(2), .fail_at = SIZE_MAX, .stop_at = SIZE_MAX, .end_at = 30};

    for (int round = 0; round < 40; round++) { /* more than a pool has seats */
        pthread_t thread;

        if (!CHECK_EQ(pthread_create(&thread, NULL, plain_ends, &call), 0))
            break;
        pthread_join(thread, NULL);
        plain_ran(&call, 30);
    }
    CHECK_EQ(twill_pool_destroy(call.pool), TWILL_OK); /* or it waits for ever */
}

static int below_plain(const twill_task *task)
{
    (void)task;
    return 0;
}

static int nests(const twill_task *task)
{
    plain *call = (plain *)task->context;
    twill_report report;
    twill_parallel_options options = {.run = {.workers = 0, .report = &report}};

    atomic_fetch_or(&call->workers, 1u << task->worker % 32);
    if (call->dear)
        kit_pause(call->dear);
    if (task->index % 16)
        return 0;
    if (twill_parallel_for(4, below_plain, &options) != TWILL_OK ||
        !(report.flags & TWILL_REPORT_NESTED))
        atomic_store(&call->nested_alone, true);
    return 0;
}

static plain becomes;

static bool is_helped(twill_ns dear)
{
    twill_parallel_options options = {.run = {.pool = becomes.pool, .context = &becomes}};
    unsigned workers;

    becomes.dear = 0;
    for (int cheap = 0; cheap < 100; cheap++)
        CHECK_EQ(twill_parallel_for(96, nests, &options), TWILL_OK);
    becomes.dear = dear;
    atomic_store(&becomes.workers, 0);
    CHECK_EQ(twill_parallel_for(96, nests, &options), TWILL_OK);
    workers = atomic_load(&becomes.workers);
    return workers & (workers - 1); /* two, or three */
}

TEST(cheap_call_that_becomes_dear_is_helped)
{
    becomes.pool = make_pool(3);
    atomic_store(&becomes.nested_alone, false);
    for (int round = 0; round < 5; round++) {
        twill_ns dear = TWILL_MS(1); /* more, where the pool's threads are late */

        while (!is_helped(dear) && CHECK(dear < TWILL_MS(200)))
            dear *= 2;
    }
    CHECK(!atomic_load(&becomes.nested_alone));
    CHECK_EQ(twill_pool_destroy(becomes.pool), TWILL_OK);
}

/* ---- the record that a thread keeps for its next tiny call ---- */

enum { TINY = 64 };

typedef enum tiny_way {
    TINY_PLAIN,
    TINY_FAILS,
    TINY_NAMES_AN_ITEM, /* and does not fail */
    TINY_SKIPS,
    TINY_STOPS,
    TINY_LINKS, /* a child of its token, which it leaves */
    TINY_FIRES,
    TINY_REQUESTS,
    TINY_NESTS,
    TINY_WAYS
} tiny_way;

typedef struct tiny {
    twill_pool *pool;
    tiny_way way;
    twill_cancel child;
    unsigned workers;
    bool known;        /* it was cheap a moment ago, however busy this machine is */
    atomic_size_t ran; /* items: a call that lost its processor in between is helped */
    atomic_bool dirty; /* a call found what another one had left */
} tiny;

static twill_status tiny_call(tiny *call);

static int tiny_range(size_t begin, size_t end, const twill_task *task)
{
    tiny *call = (tiny *)task->context;

    if (begin == 0 && (task->index || task->worker || task->workers != call->workers ||
                       task->worker_state || twill__thread()->job != task->private_ ||
                       twill_task_cancelled(task) || twill_cancel_fired(task->until.cancel)))
        atomic_store(&call->dirty, true);
    atomic_fetch_add(&call->ran, end - begin);
    switch (call->way) {
    case TINY_FAILS:
        return twill_task_fail(task, begin, 7);
    case TINY_NAMES_AN_ITEM:
        return twill_task_fail(task, begin, 0);
    case TINY_SKIPS:
        return twill_task_skip(task);
    case TINY_STOPS:
        return twill_task_stop(task);
    case TINY_LINKS:
        if (begin == 0) {
            twill_cancel_init(&call->child, task->until.cancel);
            twill_cancel_fire(&call->child, 5);
        }
        return 0;
    case TINY_FIRES:
        twill_cancel_fire(task->until.cancel, 5);
        return 0;
    case TINY_REQUESTS:
        twill_cancel_request(task->until.cancel, 5);
        return 0;
    case TINY_NESTS: {
        tiny inner = {.pool = call->pool, .workers = call->workers, .known = call->known};
        if (tiny_call(&inner) != TWILL_OK || atomic_load(&inner.ran) != TINY ||
            atomic_load(&inner.dirty))
            atomic_store(&call->dirty, true);
        return 0;
    }
    default:
        return 0;
    }
}

static twill_status tiny_call(tiny *call)
{
    twill__self *self = twill__thread();

    if (call->known) {
        self->cheap = (uintptr_t)tiny_range;
        self->cheap_team = call->pool->team;
        self->cheap_n = TINY;
        self->cheap_first = TINY / 4;
        self->cheap_most = UINT64_MAX;
        self->ticked = 1;
    }
    atomic_store(&call->ran, 0);
    return twill_parallel_range(
        TINY, tiny_range, &(twill_parallel_options){.run = {.pool = call->pool, .context = call}});
}

/* Whatever a call does to its record, the next one finds it as new. */
TEST(a_kept_record_is_as_new)
{
    for (unsigned workers = 2; workers > 0; workers--) {
        tiny call = {.pool = make_pool(workers), .workers = workers};
        for (unsigned round = 0; round < 20 * TINY_WAYS; round++) {
            twill_status status;

            call.known = round % 2; /* each way is met with both: their number is odd */
            call.way = TINY_PLAIN;
            for (unsigned i = 0; i < 3; i++) /* judged; known; in the kept record */
                CHECK(tiny_call(&call) == TWILL_OK && atomic_load(&call.ran) == TINY);
            call.way = (tiny_way)(round % TINY_WAYS);
            status = tiny_call(&call);
            CHECK_EQ(status, call.way == TINY_FAILS ? TWILL_FAILED : TWILL_OK);
            CHECK(atomic_load(&call.ran) == TINY || call.way == TINY_FAILS ||
                  call.way == TINY_STOPS);
        }
        CHECK(!atomic_load(&call.dirty));
        CHECK_EQ(twill_pool_destroy(call.pool), TWILL_OK);
    }
}

TEST(a_known_call_without_a_seat_runs_alone)
{
    tiny call = {.pool = make_pool(2), .workers = 1, .known = true};
    twill__seat *taken[TWILL__SEATS];

    for (int i = 0; i < TWILL__SEATS; i++)
        CHECK((taken[i] = twill__take_seat(call.pool->team)) != NULL);
    CHECK_EQ(tiny_call(&call), TWILL_OK);
    CHECK_EQ(atomic_load(&call.ran), TINY);
    CHECK(!atomic_load(&call.dirty));
    for (int i = 0; i < TWILL__SEATS; i++)
        twill__release(taken[i]);
    CHECK_EQ(twill_pool_destroy(call.pool), TWILL_OK);
}

static int dear_item(const twill_task *task)
{
    atomic_fetch_add(&((atomic_uint *)task->context)[task->index], 1);
    twill__spin_away(TWILL_US(2));
    return 0;
}

/* A loop that was worth helpers calls them before its first item. */
static int takes_20_us(const twill_task *task)
{
    twill_ns end = twill_now() + TWILL_US(20);

    (void)task;
    while (twill_now() < end)
        continue;
    return 0;
}

/* However a call without wishes ends, alone, helped, on a pool: its thread is in no call then.
   First what is not known to be dear: it becomes a whole call on the way. */
TEST(a_thread_is_in_no_call_after_its_calls)
{
    twill_parallel_options pooled = {.run.pool = make_pool(2)};

    for (int i = 0; i < 6; i++) {
        CHECK_EQ(twill_parallel_for(i < 3 ? 400 : 10, takes_20_us, i % 3 == 2 ? &pooled : NULL),
                 TWILL_OK);
        CHECK(twill__thread()->job == NULL);
    }
    CHECK_EQ(twill_pool_destroy(pooled.run.pool), TWILL_OK);
}

TEST(dear_loop_is_known_again)
{
    atomic_uint ran[128];
    twill_parallel_options options = {.run = {.pool = make_pool(2), .context = ran}};
    const twill__self *self = twill__thread();

    for (size_t i = 0; i < 128; i++)
        atomic_init(&ran[i], 0);
    for (int round = 0; round < 50; round++) {
        CHECK_EQ(twill_parallel_for(128, dear_item, &options), TWILL_OK);
        for (size_t i = 0; i < 128; i++)
            CHECK_EQ(atomic_exchange(&ran[i], 0), 1);
        CHECK(self->dear == (uintptr_t)dear_item && self->dear_n == 128 && self->dear_chunk);
    }
    CHECK_EQ(twill_pool_destroy(options.run.pool), TWILL_OK);
}

/* What is known of the last loop is known of the same function, as many items, on the same team. */
TEST(another_loop_is_not_known)
{
    static twill__team team, other;
    twill__self self = {.ticked = 1, .cheap_most = 0, .cheap_first = 8};
    twill__brief brief;

    self.dear = self.cheap = 5;
    self.dear_n = self.cheap_n = 128;
    self.dear_team = self.cheap_team = &team;
    self.dear_chunk = 7;
    self.dear_kept = 9;
    for (int differs = 0; differs < 4; differs++) {
        size_t n = differs == 1 ? 129 : 128, at = 0;
        uint64_t now;
        twill__plan plan = {.team = differs == 2 ? &other : &team, .np = 3};

        brief.self = &self;
        brief.key = differs == 3 ? 6 : 5;
        brief.job.n = n;
        brief.job.team = plan.team;
        CHECK_EQ(twill__brief_dear(&brief, n, &plan), differs == 0);
        CHECK_EQ(plan.chunk0, differs ? 0 : 7);
        CHECK_EQ(plan.kept, differs ? 0 : 9);
        CHECK_EQ(plan.helpers, differs ? 0 : 2);
        if (differs) /* it would run some */
            CHECK(!twill__brief_again(&brief, &at, &now) && at == 0);
    }
}

#if TWILL__BRIEF_KEPT
static void no_body(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    (void)job, (void)task, (void)begin, (void)end;
}

static void another_body(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    no_body(job, task, begin, end);
}

/* A call that is like the last one, on a pool of more than one, by a thread that is in no call. */
TEST(a_cheap_loop_is_known_by_what_it_is)
{
    static twill__team team, other;
    static twill__job outer;
    twill_pool pool = {TWILL__POOL_LAYOUT, &team}, another = {TWILL__POOL_LAYOUT, &other};
    for (int differs = 0; differs < 9; differs++) {
        twill__self self = {.ticked = differs != 1, .cheap = 5, .cheap_team = &team};
        twill_run run = {.pool = differs == 4 ? NULL : differs == 5 ? &another : &pool};
        self.cheap_n = differs == 2 ? 255 : 256;
        self.job = differs == 3 ? &outer : NULL;
        atomic_store(&team.threads, differs == 6 ? 9 : differs == 7 ? 1 : 2); /* 9: few items */
        CHECK_EQ(twill__brief_is_known(&self, &run, 256, differs == 8 ? 6 : 5), differs == 0);
    }
}

/* The record serves the thread, function, body, items and team that it was set for, of that
   size. */
TEST(a_record_serves_the_loop_that_it_was_set_for)
{
    static twill__team team, other;
    twill__self self = {.cheap = 5, .cheap_team = &team}, somebody = {.cheap = 5};
    twill_run run = {.context = NULL};
    atomic_store(&team.threads, 3);
    atomic_store(&other.threads, 3);
    for (int differs = 0; differs < 7; differs++) {
        twill__brief kept;
        twill__brief_renew(&kept, &self, &run, 256, no_body);
        kept.self = differs == 1 ? &somebody : kept.self;
        kept.key = differs == 2 ? 6 : kept.key;
        kept.job.body = differs == 3 ? another_body : kept.job.body;
        kept.job.team = differs == 4 ? &other : kept.job.team;
        kept.task.workers = differs == 5 ? 2 : kept.task.workers;
        CHECK_EQ(twill__brief_fits(&kept, &self, differs == 6 ? 255 : 256, no_body), differs == 0);
    }
}

/* And again, if nothing in it has changed. */
TEST(a_record_is_clean_if_nothing_happened)
{
    static twill__team team;
    twill__self self = {.cheap = 5, .cheap_team = &team};
    twill_run run = {.context = NULL};
    for (int happens = 0; happens < 8; happens++) {
        twill__brief kept;
        twill__token *token = twill__token_of(&kept.slot.token);
        twill__brief_renew(&kept, &self, &run, 256, no_body);
        switch (happens) {
        case 1:
            atomic_store(&kept.job.limit, 100);
            break;
        case 2:
            atomic_store(&kept.job.stop_at, 100);
            break;
        case 3:
            kept.slot.fail_index = 100;
            break;
        case 4:
            kept.slot.failed = 1;
            break;
        case 5:
            kept.slot.said = 1;
            break;
        case 6:
            atomic_store(&token->generation, 1);
            break;
        case 7:
            atomic_store(&token->state, 1);
            break;
        default:
            break;
        }
        CHECK_EQ(twill__brief_is_clean(&kept), happens == 0);
    }
}
#endif

TEST(dear_is_what_costs_more_than_two_wakes)
{
    static const struct {
        uint64_t busy;
        size_t done, at;
        bool opened, dear;
    } table[] = {{7000, 100, 0, true, true},   {5000, 100, 0, true, false},
                 {4000, 50, 0, true, true},    {4000, 100, 50, true, true},
                 {7000, 100, 0, false, false}, {0, 100, 0, true, false},
                 {7000, 50, 50, true, false}};
    const twill__self *self = twill__thread();

    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        static twill__call_record call;
        twill__slot slot = {.busy = table[i].busy, .done = table[i].done};
        twill__plan plan = {.key = 1, .total = 100, .at = table[i].at};

        call.opened = table[i].opened;
        call.job.slot = &slot;
        call.job.np = 2;
        call.job.ready = call.job.bits;
        call.job.tick_rate = 1024; /* a tick is a nanosecond */
        twill__note_dear(&call, &plan);
        CHECK_EQ(self->dear != 0, table[i].dear);
    }
    twill__thread()->dear = 0;
}

/* Ticks are nanoseconds here: a helper that is there is worth 3000 of them, one that must be
   started 60000. */
TEST(first_items_tell_whether_the_rest_is_worth_helpers)
{
    static const struct {
        uint64_t spent;
        size_t items, left;
        bool few, hired;
        unsigned helpers, wanted;
        twill__verdict verdict;
    } table[] = {
        {100, 10, 300, false, true, 3, 3, TWILL__ALONE},
        {100, 10, 301, false, true, 3, 3, TWILL__UNSURE},
        {100, 10, 2400, false, true, 3, 3, TWILL__UNSURE},
        {100, 10, 2401, false, true, 3, 3, TWILL__SHARED},
        {100, 10, 301, true, true, 3, 3, TWILL__SHARED},
        {201, 10, 301, false, true, 3, 3, TWILL__SHARED},
        {60000, 1, 2, true, false, 3, 2, TWILL__SHARED}, /* two of them are, a third one is not */
        {60000, 1, 2, true, false, 1, 1, TWILL__SHARED},
        {1, 1, (size_t)1 << 31, true, false, 3, 3, TWILL__SHARED},
        {1, (size_t)1 << 28, (size_t)1 << 31, false, true, 3, 3, TWILL__ALONE},
    };

    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        twill__judge judge = {.spent = table[i].spent,
                              .items = table[i].items,
                              .left = table[i].left,
                              .few = table[i].few,
                              .hired = table[i].hired,
                              .helpers = table[i].helpers,
                              .rate = 1024};
        CHECK_EQ(twill__judge_rest(&judge), table[i].verdict);
        CHECK_EQ(judge.helpers, table[i].wanted);
        CHECK(table[i].verdict != TWILL__SHARED || judge.chunk0 >= 1);
    }
}

static int adds_one(const twill_task *task)
{
    atomic_fetch_add_explicit((atomic_size_t *)task->context, 1, memory_order_relaxed);
    return 0;
}

/* However fast a counter ticks, and with it how dear items seem: at some rate they are found too
   cheap to judge by the first, and more of them are looked at. */
TEST(first_items_that_say_too_little)
{
    enum { ITEMS = 8000 };
    twill_pool *pool = make_pool(2);
    uint64_t rate = pool->team->tick_rate;
    twill__self *self = twill__thread();
    twill_report report;

    for (uint64_t seems = 1; seems < UINT64_C(1) << 34; seems *= 4)
        for (int asked = 0; asked < 2; asked++) {
            atomic_size_t ran = 0;
            twill_parallel_options options = {
                .run = {.pool = pool, .context = &ran, .report = asked ? &report : NULL}};
            pool->team->tick_rate = seems;
            self->dear = self->ticked = 0; /* it is met for the first time */
            CHECK_EQ(twill_parallel_for(ITEMS, adds_one, &options), TWILL_OK);
            CHECK_EQ(atomic_load(&ran), ITEMS);
        }
    pool->team->tick_rate = rate;
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

/* The caller's part moves to what it did, by a quarter of the way, and not too far; without helpers
   it stays. */
TEST(callers_part_follows_what_it_did)
{
    static const struct {
        size_t kept, done, next;
        unsigned np;
        uint64_t ready;
    } table[] = {{0, 600, 525, 2, 3},    {400, 600, 450, 2, 3},  {600, 400, 550, 2, 3},
                 {400, 1000, 400, 2, 1}, {740, 1000, 750, 2, 3}, {260, 0, 250, 2, 3},
                 {0, 250, 250, 4, 15},   {300, 1000, 375, 4, 3}};

    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        static twill__call_record call;
        twill__slot slot = {.done = table[i].done};
        twill__plan plan = {.total = 1000, .kept = table[i].kept};

        call.job.slot = &slot;
        call.job.np = table[i].np;
        call.job.ready = call.job.bits;
        atomic_store(&call.job.bits[0], table[i].ready);
        CHECK_EQ(twill__next_kept(&call, &plan), table[i].next);
    }
}

HARNESS_MAIN
