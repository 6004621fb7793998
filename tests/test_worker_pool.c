/* test_worker_pool.c - pools: made, used, asked to do what they cannot, destroyed. */
#define _GNU_SOURCE
#define HARNESS_FAULTS
#include "harness.h"
#include "engine/team.h"
#include "twill_parallel_map.h"
#include "twill_worker_pool.h"

#include "parallel_kit.h"
#include "pool_kit.h"

#include <limits.h>
#include <dirent.h>
#include <sched.h>

static int no_work(const twill_task *task)
{
    (void)task;
    return 0;
}

TEST(create_and_destroy)
{
    int before = kit_threads();
    twill_pool *pool;

    for (unsigned workers = 1; workers <= 16; workers *= 2) {
        CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.run.workers = workers}), TWILL_OK);
        CHECK_EQ(twill_pool_workers(pool), workers);
        if (before > 0) { /* of those from before some may have ended only now */
            int now = kit_threads();
            CHECK(now > (int)workers && now <= before + (int)workers);
        }
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
        CHECK(kit_threads_back_to(before));
    }
    CHECK_EQ(twill_pool_create(&pool, NULL), TWILL_OK);
    CHECK_EQ(twill_pool_workers(pool), twill_cpus());
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(twill_pool_destroy(NULL), TWILL_OK);
    CHECK_EQ(twill_pool_workers(NULL), 0);
    CHECK_EQ(faults_live(), 0);
}

TEST(two_thousand_pools)
{
    int before = kit_threads();

    for (int i = 0; i < 2000; i++) {
        twill_pool *pool;
        twill_parallel_options options = {.run.workers = 3};

        if (!CHECK_EQ(
                twill_pool_create(&pool, &(twill_pool_options){.run.workers = 1 + (unsigned)i % 3}),
                TWILL_OK))
            return;
        options.run.pool = pool;
        if (i % 2)
            CHECK_EQ(twill_parallel_for(20, no_work, &options), TWILL_OK);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    }
    CHECK(kit_threads_back_to(before));
    CHECK_EQ(faults_live(), 0);
}

static void any_level(bool high, size_t length, const twill_task *task)
{
    (void)high, (void)length, (void)task;
}

TEST(fields_that_a_pool_cannot_honour_are_invalid)
{
    twill_pool_options bad[22];
    twill_cancel token = {{0}};
    twill_item_error error;
    twill_report report;
    twill_status status;
    int code;

    memset(bad, 0, sizeof bad);
    bad[0].run.pool = (twill_pool *)&token;
    bad[1].run.until.deadline = 1;
    bad[2].max_workers = 2;
    bad[2].run.workers = 3;
    bad[3].capacity = 1;
    bad[3].overflow = (twill_overflow)17;
    bad[4].max_abandoned = 1; /* without stuck_after */
    bad[5].high_mark = 3;     /* without on_level */
    bad[14].on_level = any_level;
    bad[15].on_level = any_level;
    bad[15].high_mark = bad[15].low_mark = 3;
    bad[16].idle_after = -1;
    bad[17].stuck_after = -1;
    bad[6].run.on_error = TWILL_ON_ERROR_FIRST;
    bad[7].run.max_errors = 1;
    bad[8].run.errors = &error;
    bad[9].run.errors_capacity = 1;
    bad[10].run.statuses = &status;
    bad[11].run.codes = &code;
    bad[12].run.report = &report;
    bad[13].run.cpu_count = 1; /* without cpus */
    bad[18].grow_after = -1;
    bad[19].ageing = -1;
    bad[20].low_mark = 3; /* without on_level */
    bad[21].run.cpus = (unsigned *)&code;
    for (int i = 0; i < 22; i++) {
        twill_pool *pool = (twill_pool *)&token;

        CHECK_EQ(twill_pool_create(&pool, &bad[i]), TWILL_INVALID);
        CHECK_PTR(pool, NULL);
    }
    CHECK_EQ(twill_pool_create(NULL, NULL), TWILL_INVALID);
    CHECK_EQ(faults_threads(), 0);
    CHECK_EQ(faults_allocs(), 0);
}

TEST(too_many_workers_are_refused)
{
    twill_pool *pool = NULL;

    CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.run.workers = UINT_MAX}),
             TWILL_TOO_BIG);
    CHECK_PTR(pool, NULL);
    const twill_pool_options large[] = {{.run.workers = 1, .max_workers = UINT_MAX},
                                        {.max_abandoned = UINT_MAX, .stuck_after = 1},
                                        {.capacity = SIZE_MAX}};
    for (size_t i = 0; i < sizeof large / sizeof large[0]; i++) {
        CHECK_EQ(twill_pool_create(&pool, &large[i]), TWILL_TOO_BIG);
        CHECK_PTR(pool, NULL);
    }
}

/* No number given: not more than the most, whatever the processors. */
TEST(max_workers_alone)
{
    twill_pool *pool = NULL;
    twill_pool_stats stats;

    CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.max_workers = 1}), TWILL_OK);
    twill_pool_get_stats(pool, &stats);
    CHECK_EQ(stats.workers, 1);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

static int no_task(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    return 0;
}

TEST(threads_that_cannot_be_started)
{
    int before = kit_threads();

    for (unsigned k = 1; k <= 6; k++) {
        for (int strict = 0; strict < 2; strict++) {
            twill_pool *pool = (twill_pool *)&before;
            twill_pool_options options = {.run = {.workers = 5, .strict = strict}};
            bool works = k > 5 || (k > 1 && !strict);
            twill_status status;

            faults_fail_thread(k);
            status = twill_pool_create(&pool, &options);
            faults_fail_thread(0);
            CHECK_EQ(status, works ? TWILL_OK : TWILL_NO_THREAD);
            if (!works) {
                CHECK_PTR(pool, NULL);
                continue;
            }
            CHECK_EQ(twill_pool_workers(pool), k - 1);
            if (k == 3) { /* it does not try again by itself, later and with all of them busy */
                struct gate gate = {0};
                (void)twill_sleep(twill_within(TWILL_MS(30)));
                for (int i = 0; i < 2; i++)
                    CHECK_EQ(twill_pool_submit(pool, at_gate, &gate, NULL, NULL), TWILL_OK);
                CHECK(gate_inside(&gate, 2));
                for (int i = 0; i < 10; i++)
                    CHECK_EQ(twill_pool_submit(pool, no_task, NULL, NULL, NULL), TWILL_OK);
                CHECK_EQ(twill_pool_workers(pool), 2);
                gate_open(&gate);
                CHECK_EQ(twill_pool_wait_idle(pool), TWILL_OK);
                CHECK_EQ(twill_pool_workers(pool), 2);
            }
            CHECK_EQ(twill_parallel_for(1000, no_work, &(twill_parallel_options){.run.pool = pool}),
                     TWILL_OK);
            CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
        }
    }
    CHECK(kit_threads_back_to(before));
    CHECK_EQ(faults_live(), 0);
}

TEST(no_memory_for_a_pool)
{
    for (unsigned long k = 1; k <= 3; k++) {
        twill_pool *pool = (twill_pool *)&k;
        twill_status status;

        faults_fail_alloc(k);
        status = twill_pool_create(&pool, &(twill_pool_options){.run.workers = 2});
        faults_fail_alloc(0);
        CHECK(status == TWILL_OK || status == TWILL_NO_MEMORY);
        CHECK(k > 1 || status == TWILL_NO_MEMORY);
        if (status == TWILL_OK)
            CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
        else
            CHECK_PTR(pool, NULL);
        CHECK_EQ(faults_live(), 0);
    }
}

/* ---- how many at once ---- */

typedef struct crowd {
    atomic_uint inside, peak, met;
    unsigned want;
} crowd;

static int meet(const twill_task *task)
{
    crowd *all = (crowd *)task->context;
    unsigned inside = atomic_fetch_add(&all->inside, 1) + 1, peak = atomic_load(&all->peak);

    while (peak < inside && !atomic_compare_exchange_weak(&all->peak, &peak, inside))
        continue;
    if (inside == all->want)
        atomic_store(&all->met, 1);
    CHECK(kit_wait_for(&all->met, 1)); /* ends once all were in at the same time */
    kit_pause(TWILL_MS(2));
    atomic_fetch_sub(&all->inside, 1);
    return 0;
}

TEST(a_pool_of_w_runs_w_at_once_and_one_more_when_asked)
{
    for (unsigned size = 1; size <= 5; size++) {
        for (unsigned asked = 0; asked <= size + 2; asked++) {
            unsigned want = asked == 0 ? size : asked <= size + 1 ? asked : size + 1;
            crowd all = {.want = want};
            twill_report report;
            twill_pool *pool;
            twill_parallel_options options = {
                .run = {.workers = asked, .context = &all, .report = &report}};

            CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.run.workers = size}),
                     TWILL_OK);
            options.run.pool = pool;
            CHECK_EQ(twill_parallel_for(4 * want, meet, &options), TWILL_OK);
            CHECK_EQ(atomic_load(&all.peak), want);
            CHECK_EQ(report.workers_started, want);
            CHECK_EQ(!(report.flags & TWILL_REPORT_DEGRADED), asked <= size + 1);
            options.run.strict = true;
            if (asked > size + 1) {
                CHECK_EQ(twill_parallel_for(9, meet, &options), TWILL_NO_THREAD);
                CHECK_EQ(report.skipped, 9);
            }
            CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
        }
    }
}

/* ---- destroy ---- */

typedef struct ends {
    twill_pool *pool;
    pthread_t caller;
    atomic_uint by_caller, by_helper, wrong, begun, ended;
} ends;

static int destroy_inside(const twill_task *task)
{
    ends *plan = (ends *)task->context;
    bool caller = pthread_equal(pthread_self(), plan->caller) != 0;

    atomic_fetch_add(caller ? &plan->by_caller : &plan->by_helper, 1);
    if (twill_pool_destroy(plan->pool) != TWILL_DEADLOCK)
        atomic_fetch_add(&plan->wrong, 1);
    kit_pause(TWILL_US(200));
    return 0;
}

static int destroy_in_nested(const twill_task *task)
{
    ends *plan = (ends *)task->context;
    twill_parallel_options options = {.run = {.context = plan, .workers = task->index % 2 ? 3 : 0}};

    return (int)twill_parallel_for(6, destroy_inside,
                                   &options); /* also on threads of a call of its own */
}

TEST(destroy_from_inside_is_a_deadlock)
{
    ends plan = {.caller = pthread_self()};

    CHECK_EQ(twill_pool_create(&plan.pool, &(twill_pool_options){.run.workers = 2}), TWILL_OK);
    /* more, where the helpers are late */
    for (int round = 0; round < 5 || (round < 5000 && !atomic_load(&plan.by_helper)); round++) {
        twill_parallel_options options = {
            .run = {.pool = plan.pool, .workers = 3, .context = &plan}};

        CHECK_EQ(twill_parallel_for(20, destroy_inside, &options), TWILL_OK);
        CHECK_EQ(twill_parallel_for(6, destroy_in_nested, &options), TWILL_OK);
    }
    CHECK(atomic_load(&plan.by_caller) > 0 && atomic_load(&plan.by_helper) > 0);
    CHECK_EQ(atomic_load(&plan.wrong), 0);
    CHECK_EQ(twill_pool_destroy(plan.pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

/* The cheapest call there is, while the caller still runs alone. */
TEST(destroy_from_a_plain_call_is_a_deadlock_too)
{
    static const size_t sizes[] = {1, 2, 7, 1000};

    for (int k = 0; k < 4; k++) {
        ends plan = {.caller = pthread_self()};
        twill_parallel_options options = {.run.context = &plan};

        CHECK_EQ(twill_pool_create(&plan.pool, &(twill_pool_options){.run.workers = 2}), TWILL_OK);
        options.run.pool = plan.pool;
        CHECK_EQ(twill_parallel_for(sizes[k], destroy_inside, &options), TWILL_OK);
        CHECK_EQ(atomic_load(&plan.wrong), 0);
        CHECK_EQ(atomic_load(&plan.by_caller) + atomic_load(&plan.by_helper), sizes[k]);
        CHECK_EQ(twill_pool_destroy(plan.pool), TWILL_OK);
    }
}

static int slow_item(const twill_task *task)
{
    ends *plan = (ends *)task->context;

    atomic_fetch_add(&plan->begun, 1);
    kit_pause(TWILL_US(500));
    atomic_fetch_add(&plan->ended, 1);
    return 0;
}

static void *call_slowly(void *plan_)
{
    ends *plan = (ends *)plan_;
    twill_parallel_options options = {
        .run = {.pool = plan->pool, .context = plan, .workers = test_random_below(2) ? 0 : 3}};

    CHECK_EQ(twill_parallel_for(64, slow_item, &options), TWILL_OK);
    return NULL;
}

TEST(destroy_waits_for_the_call_of_another_thread)
{
    for (int round = 0; round < 20; round++) {
        ends plan = {.pool = NULL};
        pthread_t thread;

        CHECK_EQ(twill_pool_create(&plan.pool, &(twill_pool_options){.run.workers = 2}), TWILL_OK);
        CHECK_EQ(pthread_create(&thread, NULL, call_slowly, &plan), 0);
        CHECK(kit_wait_for(&plan.begun, 1 + (unsigned)test_random_below(20)));
        CHECK_EQ(twill_pool_destroy(plan.pool), TWILL_OK);
        CHECK_EQ(atomic_load(&plan.ended), 64);
        pthread_join(thread, NULL);
    }
    CHECK_EQ(faults_live(), 0);
}

/* ---- what the threads are ---- */

#if defined __linux__
static bool thread_called(const char *name)
{
    DIR *folder = opendir("/proc/self/task");
    struct dirent *entry;
    bool found = false;

    while (folder && (entry = readdir(folder)) != NULL) {
        char path[300], line[64] = "";
        FILE *file;

        snprintf(path, sizeof path, "/proc/self/task/%s/comm", entry->d_name);
        if (!(file = fopen(path, "r")))
            continue;
        if (fgets(line, sizeof line, file))
            line[strcspn(line, "\n")] = '\0';
        fclose(file);
        found |= strcmp(line, name) == 0;
    }
    if (folder)
        closedir(folder);
    return found;
}

/* The string may go as soon as create has returned. */
TEST(threads_have_the_pools_name)
{
    for (int round = 0; round < 20; round++) {
        char name[32];
        twill_pool *pool;
        bool found = false;

        snprintf(name, sizeof name, "twill name %d and on", 10 + round);
        CHECK_EQ(
            twill_pool_create(&pool, &(twill_pool_options){.run = {.workers = 3, .name = name}}),
            TWILL_OK);
        memset(name, 'x', sizeof name);
        snprintf(name, sizeof name, "twill name %d a", 10 + round);
        name[15] = '\0'; /* what Linux keeps */
        for (int i = 0; i < 30000 && !found; i++, kit_pause(TWILL_MS(1)))
            found = thread_called(name);
        CHECK(found);
        CHECK(!thread_called("xxxxxxxxxxxxxxx"));
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    }
}

extern int pthread_getattr_np(pthread_t, pthread_attr_t *);

typedef struct seen {
    size_t stack;
    int cpu_ok;
    pthread_t caller;
    atomic_uint helpers;
    unsigned cpu;
} seen;

static int look_at_thread(const twill_task *task)
{
    seen *plan = (seen *)task->context;
    pthread_attr_t attributes;
    cpu_set_t mask;
    size_t stack = 0;

    if (pthread_equal(pthread_self(), plan->caller))
        return kit_wait_for(&plan->helpers, 1) ? 0 : 1;
    if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
        pthread_attr_getstacksize(&attributes, &stack);
        pthread_attr_destroy(&attributes);
    }
    plan->stack = stack;
    plan->cpu_ok = sched_getaffinity(0, sizeof mask, &mask) == 0 && CPU_COUNT(&mask) == 1 &&
                   CPU_ISSET(plan->cpu, &mask);
    atomic_fetch_add(&plan->helpers, 1);
    return 0;
}

static unsigned own_cpu(void)
{
    cpu_set_t mask;

    if (sched_getaffinity(0, sizeof mask, &mask) == 0)
        for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++)
            if (CPU_ISSET(cpu, &mask))
                return cpu;
    return 0;
}

TEST(stack_size_and_cpus_are_honoured)
{
    unsigned cpu = own_cpu();

    for (int on_pool = 0; on_pool < 2; on_pool++) {
        seen plan = {.caller = pthread_self(), .cpu = cpu};
        twill_pool *pool = NULL;
        twill_report report;
        twill_parallel_options options = {
            .run = {.workers = 2, .context = &plan, .report = &report}};
        twill_run threads = {
            .stack_size = (size_t)1 << 20, .cpus = &cpu, .cpu_count = 1, .workers = 1};

        if (on_pool) {
            CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.run = threads}), TWILL_OK);
            options.run.pool = pool;
        } else {
            options.run.stack_size = threads.stack_size;
            options.run.cpus = threads.cpus;
            options.run.cpu_count = 1;
        }
        CHECK_EQ(twill_parallel_for(2, look_at_thread, &options), TWILL_OK);
        CHECK_EQ(atomic_load(&plan.helpers), 1);
#if !defined TWILL__UNDER_TSAN && !defined __SANITIZE_ADDRESS__ /* which enlarge stacks */
        CHECK(plan.stack >= (size_t)1 << 20 && plan.stack < (size_t)1 << 21);
#endif
        CHECK(plan.cpu_ok);
        CHECK_EQ(report.flags & (TWILL_REPORT_NO_STACK_SIZE | TWILL_REPORT_NO_AFFINITY), 0);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    }
}

TEST(what_cannot_be_honoured_is_flagged)
{
    unsigned cpu = 8000; /* there is none such */
    twill_report report;
    twill_parallel_options options = {
        .run = {.workers = 2, .stack_size = 1, .cpus = &cpu, .cpu_count = 1, .report = &report}};

    CHECK_EQ(twill_parallel_for(100, no_work, &options), TWILL_OK);
    CHECK_EQ(report.done, 100);
    CHECK(report.flags & TWILL_REPORT_NO_STACK_SIZE);
    CHECK(report.flags & TWILL_REPORT_NO_AFFINITY);
}

TEST(a_pool_keeps_the_cpus_it_was_given)
{
    unsigned cpu = own_cpu();
    twill_pool *pool;
    twill_report report;
    twill_parallel_options options = {.run = {.workers = 2, .report = &report}};

    CHECK_EQ(twill_pool_create(
                 &pool, &(twill_pool_options){.lazy = true,
                                              .run = {.workers = 1, .cpus = &cpu, .cpu_count = 1}}),
             TWILL_OK);
    cpu = 8000; /* there is none such */
    CHECK_EQ(twill_pool_submit(pool, number_of, NULL, NULL, NULL), TWILL_OK);
    CHECK_EQ(twill_pool_wait_idle(pool), TWILL_OK); /* its thread has come by now */
    options.run.pool = pool;
    CHECK_EQ(twill_parallel_for(100, no_work, &options), TWILL_OK);
    CHECK_EQ(report.flags & TWILL_REPORT_NO_AFFINITY, 0);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

static bool next_to_no_cpu(twill_ns ns)
{
    twill_pool *pool;
    clock_t begin;
    double used; /* of that time: a machine of many may bill this process for what others took */

    CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 8}), TWILL_OK);
    CHECK_EQ(twill_parallel_for(1000, no_work,
                                &(twill_parallel_options){.run = {.pool = pool, .workers = 9}}),
             TWILL_OK);
    kit_pause(TWILL_MS(20)); /* they look round for a while */
    begin = clock();
    kit_pause(ns);
    used = (double)(clock() - begin) / CLOCKS_PER_SEC / ((double)ns / 1e9);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
#if defined TWILL__UNDER_TSAN
    return used < 0.25; /* its own thread works now and then */
#else
    return used < 0.025;
#endif
}

TEST(idle_pool_uses_no_cpu)
{
    CHECK(test_in_time(TWILL_MS(200), next_to_no_cpu));
}
#endif

/* ---- more calls than seats ---- */

static twill_pool *full_pool;
static _Atomic int full_in, full_over;

static int hold_seat(const twill_task *task)
{
    (void)task;
    atomic_fetch_add(&full_in, 1);
    while (!atomic_load(&full_over))
        twill_sleep(twill_within(TWILL_US(200)));
    return 0;
}

static int destroy_full_pool(const twill_task *task)
{
    *(twill_status *)task->context = twill_pool_destroy(full_pool);
    return 0;
}

static void call_on_full_pool(void *arg)
{
    twill_parallel_options options = {.run = {.pool = full_pool}};

    (void)arg;
    CHECK_EQ(twill_parallel_for(1, hold_seat, &options), TWILL_OK);
}

TEST(a_call_without_a_seat_is_seen_by_destroy)
{
    twill__thrd threads[TWILL__SEATS];
    twill_pool_options one = {.run.workers = 1};
    twill_status status = TWILL_OK;
    twill_parallel_options options = {.run = {.context = &status}};

    atomic_store(&full_in, 0);
    atomic_store(&full_over, 0);
    CHECK_EQ(twill_pool_create(&full_pool, &one), TWILL_OK);
    memset(threads, 0, sizeof threads);
    for (int i = 0; i < TWILL__SEATS; i++) {
        threads[i].fn = call_on_full_pool;
        threads[i].cpu = UINT_MAX;
        CHECK(twill__thread_start(&threads[i]));
    }
    while (atomic_load(&full_in) < TWILL__SEATS)
        twill__yield();
    options.run.pool = full_pool;
    CHECK_EQ(twill_parallel_for(1, destroy_full_pool, &options), TWILL_OK);
    CHECK_EQ(status, TWILL_DEADLOCK);
    atomic_store(&full_over, 1);
    for (int i = 0; i < TWILL__SEATS; i++)
        twill__thread_join(&threads[i]);
    CHECK_EQ(twill_pool_destroy(full_pool), TWILL_OK);
}

TEST(strict_asks_for_no_more_than_there_are_items)
{
    twill_pool *pool;
    twill_pool_options four = {.run.workers = 4};
    twill_report report;
    twill_status status = TWILL_FAILED;
    twill_parallel_options options = {.run = {.workers = 8, .strict = true, .report = &report}};

    CHECK_EQ(twill_pool_create(&pool, &four), TWILL_OK);
    options.run.pool = pool;
    options.run.context = &status;
    atomic_store(&full_over, 1);
    CHECK_EQ(twill_parallel_for(3, hold_seat, &options), TWILL_OK); /* 3 of 5 are enough */
    CHECK_EQ(report.flags & TWILL_REPORT_DEGRADED, 0);
    CHECK_EQ(twill_parallel_for(30, hold_seat, &options), TWILL_NO_THREAD);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

HARNESS_MAIN
