/* test_crew.c - the workers of an object: its own threads, a pool's, callers that help, alarms, and
   threads that end inside. */
#define _GNU_SOURCE
#define HARNESS_FAULTS
#include "harness.h"
#define TWILL_IMPLEMENTATION
#include "twill_batch_processing.h"
#include "twill_fan_out_fan_in.h"
#include "twill_parallel_map.h"
#include "twill_pipeline.h"
#include "twill_worker_pool.h"

#ifdef TWILL_USE_PTHREAD
#define END_THREAD() pthread_exit(NULL)
#else
#define END_THREAD() thrd_exit(0)
#endif

/* A heap of work: `left` units, each counted once. */
typedef struct heap {
    twill__crew *crew;
    _Atomic uint32_t lock;
    unsigned left, done, ended, inside, inside_peak;
    unsigned end_at, to_end; /* from this unit on so many end their thread; 0: none */
    twill_ns due;            /* a unit comes up then; 0: none */
    atomic_bool hold;        /* no unit ends before it is false */
} heap;

static bool heap_ready(void *object)
{
    heap *h = object;
    bool ready;
    twill_ns due;
    twill__lock(&h->lock);
    if (h->due && twill_now() >= h->due) {
        h->due = 0;
        h->left++;
    }
    due = h->due;
    ready = h->left > 0;
    twill__unlock(&h->lock);
    if (!ready && due)
        twill__crew_alarm(h->crew, due);
    return ready;
}

static void heap_work(void *object, twill_task *task)
{
    heap *h = object;
    CHECK(task->worker < task->workers);
    while (heap_ready(h)) {
        bool end = false;
        twill__lock(&h->lock);
        if (h->left) {
            h->left--;
            if (++h->inside > h->inside_peak)
                h->inside_peak = h->inside;
            end = h->done + 1 >= h->end_at && h->to_end && h->to_end--;
            twill__unlock(&h->lock);
            twill__yield();
            while (atomic_load(&h->hold))
                twill_sleep(twill_within(TWILL_US(100)));
            if (end)
                END_THREAD();
            twill__lock(&h->lock);
            h->inside--;
            h->done++;
        }
        twill__unlock(&h->lock);
    }
}

static void heap_ended(void *object, twill_task *task)
{
    heap *h = object;
    (void)task;
    twill__lock(&h->lock);
    h->inside--;
    h->done++;
    h->ended++;
    twill__unlock(&h->lock);
}

static const twill__crew_table heap_table = {
    .ready = heap_ready, .work = heap_work, .ended = heap_ended};

typedef struct site {
    void *memory;
    heap heap;
} site;

static twill_status open_nested(site *s, const twill_run *run, unsigned workers, unsigned own,
                                bool nested)
{
    size_t head = (sizeof(twill__crew) + TWILL__LINE - 1) / TWILL__LINE * TWILL__LINE;
    char *at;
    memset(s, 0, sizeof *s);
    s->memory = malloc(head + twill__crew_bytes(workers, own) + TWILL__LINE);
    at = (char *)s->memory + (TWILL__LINE - (uintptr_t)s->memory % TWILL__LINE) % TWILL__LINE;
    s->heap.crew = (twill__crew *)(void *)at;
    return twill__crew_open(s->heap.crew, run, workers, own, nested, &heap_table, &s->heap,
                            at + head);
}

static twill_status open_site(site *s, const twill_run *run, unsigned workers, unsigned own)
{
    return open_nested(s, run, workers, own, false);
}

static void give(site *s, unsigned units)
{
    twill__lock(&s->heap.lock);
    s->heap.left += units;
    twill__unlock(&s->heap.lock);
    twill__crew_call(s->heap.crew, units);
}

static unsigned done_of(site *s)
{
    unsigned done;
    twill__lock(&s->heap.lock);
    done = s->heap.done;
    twill__unlock(&s->heap.lock);
    return done;
}

static bool wait_done(site *s, unsigned units)
{
    for (twill_ns end = twill_now() + TWILL_SEC(100); twill_now() < end;) {
        if (done_of(s) >= units)
            return true;
        twill_sleep(twill_within(TWILL_US(200)));
    }
    return false;
}

static void close_site(site *s, twill_report *report)
{
    twill__crew_close(s->heap.crew, report);
    free(s->memory);
}

TEST(own_threads_do_all_of_it)
{
    site s;
    twill_report report = {0};
    CHECK_EQ(open_site(&s, &(twill_run){0}, 3, 3), TWILL_OK);
    for (unsigned k = 1; k <= 200; k++) {
        give(&s, 5);
        if (k % 50 == 0)
            CHECK(wait_done(&s, 5 * k));
    }
    CHECK(wait_done(&s, 1000));
    CHECK(s.heap.inside_peak <= 3);
    close_site(&s, &report);
    CHECK_EQ(s.heap.done, 1000);
    CHECK_EQ(report.workers_started, 3);
    CHECK(report.workers_used >= 1 && report.workers_used <= 3);
    CHECK_EQ(report.flags, 0);
}

TEST(callers_help_where_no_thread_is)
{
    site s;
    CHECK_EQ(open_site(&s, &(twill_run){0}, 1, 0), TWILL_OK);
    CHECK(!twill__crew_help(s.heap.crew));
    give(&s, 7);
    CHECK(twill__crew_help(s.heap.crew));
    CHECK_EQ(s.heap.done, 7);
    close_site(&s, NULL);
}

TEST(a_pool_serves_crews_and_tells_who_comes_late)
{
    twill_pool *pool;
    site s[3];
    twill_report report = {0};
    CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 2}), TWILL_OK);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(open_site(&s[i], &(twill_run){.pool = pool}, 2, 0), TWILL_OK);
    for (int k = 0; k < 100; k++)
        for (int i = 0; i < 3; i++)
            give(&s[i], 2);
    for (int i = 0; i < 3; i++) {
        CHECK(wait_done(&s[i], 200));
        close_site(&s[i], &report);
    }
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

TEST(an_alarm_brings_a_worker)
{
    for (int pooled = 0; pooled < 2; pooled++) {
        twill_pool *pool = NULL;
        site s;
        twill_ns due;
        if (pooled)
            CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 2}), TWILL_OK);
        CHECK_EQ(open_site(&s, &(twill_run){.pool = pool}, 2, pooled ? 0 : 2), TWILL_OK);
        for (int k = 1; k <= 5; k++) {
            twill_sleep(twill_within(TWILL_MS(1)));
            due = twill_now() + TWILL_MS(3);
            twill__lock(&s.heap.lock);
            s.heap.due = due;
            twill__unlock(&s.heap.lock);
            twill__crew_alarm(s.heap.crew, due);
            CHECK(wait_done(&s, (unsigned)k));
            CHECK(twill_now() >= due);
        }
        close_site(&s, NULL);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    }
}

/* One crew's work is long: what others on the same pool are due to do later does not wait for
   it. */
TEST(an_alarm_is_not_lost_behind_another_one)
{
    twill_pool *pool;
    CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 3}), TWILL_OK);
    for (int round = 0; round < 20; round++) {
        site s[3];
        twill_ns due = twill_now() + TWILL_MS(2);
        for (int i = 0; i < 3; i++) {
            CHECK_EQ(open_site(&s[i], &(twill_run){.pool = pool}, 2, 0), TWILL_OK);
            atomic_store(&s[i].heap.hold, i == 0);
        }
        for (int i = 0; i < 3; i++) {
            twill__lock(&s[i].heap.lock);
            s[i].heap.due = due + TWILL_MS(i);
            twill__unlock(&s[i].heap.lock);
            twill__crew_alarm(s[i].heap.crew, due + TWILL_MS(i));
        }
        CHECK(wait_done(&s[1], 1) && wait_done(&s[2], 1));
        CHECK_EQ(done_of(&s[0]), 0);
        atomic_store(&s[0].heap.hold, false);
        CHECK(wait_done(&s[0], 1));
        for (int i = 0; i < 3; i++) {
            CHECK_EQ(done_of(&s[i]), 1);
            close_site(&s[i], NULL);
        }
    }
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

/* More crews on a pool than it has seats: the others have threads of their own, and say so. */
TEST(seats_run_out)
{
    enum { CREWS = TWILL__SEATS + 3 };
    twill_pool *pool;
    site s[CREWS];
    unsigned degraded = 0;
    CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 2}), TWILL_OK);
    for (int i = 0; i < CREWS; i++)
        CHECK_EQ(open_site(&s[i], &(twill_run){.pool = pool}, 2, 2), TWILL_OK);
    for (int i = 0; i < CREWS; i++)
        give(&s[i], 20);
    for (int i = 0; i < CREWS; i++) {
        twill_report report = {0};
        CHECK(wait_done(&s[i], 20));
        close_site(&s[i], &report);
        degraded += !!(report.flags & TWILL_REPORT_DEGRADED);
    }
    CHECK(degraded >= 3 && degraded < CREWS);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

/* A lazy pool has no thread that could come. */
TEST(a_pool_without_threads_yet)
{
    twill_pool *pool;
    site s;
    twill_report report = {0};
    CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 2, .lazy = true}),
             TWILL_OK);
    CHECK_EQ(open_site(&s, &(twill_run){.pool = pool}, 2, 2), TWILL_OK);
    give(&s, 20);
    CHECK(wait_done(&s, 20));
    close_site(&s, &report);
    CHECK(report.flags & TWILL_REPORT_DEGRADED);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

TEST(threads_that_end_in_callbacks_are_replaced)
{
    site s;
    long live = faults_live();
    CHECK_EQ(open_site(&s, &(twill_run){0}, 2, 2), TWILL_OK);
    s.heap.end_at = 5;
    s.heap.to_end = 7;
    give(&s, 20);
    CHECK(wait_done(&s, 20));
    give(&s, 20);
    CHECK(wait_done(&s, 40));
    CHECK_EQ(s.heap.ended, 7);
    close_site(&s, NULL);
    CHECK_EQ(s.heap.inside, 0);
    CHECK_EQ(faults_live(), live);
}

TEST(a_thread_that_cannot_be_replaced)
{
    twill_ns end = twill_now() + TWILL_SEC(100);
    site s;

    CHECK_EQ(open_site(&s, &(twill_run){0}, 2, 2), TWILL_OK);
    s.heap.end_at = s.heap.to_end = 1;
    faults_fail_alloc_from(1);
    give(&s, 20);
    CHECK(wait_done(&s, 20));
    while (!atomic_load(&s.heap.crew->job.team->lost) && twill_now() < end)
        twill_sleep(twill_within(TWILL_US(50)));
    CHECK_EQ(atomic_load(&s.heap.crew->job.team->lost), 1);
    faults_fail_alloc(0);
    CHECK_EQ(s.heap.ended, 1);
    close_site(&s, NULL);
}

TEST(threads_that_cannot_start)
{
    site s;
    twill_report report = {0};
    for (int k = 0; k < 3; k++) {
        faults_fail_thread((unsigned long)k + 1);
        CHECK_EQ(open_site(&s, &(twill_run){0}, 2, 2), TWILL_OK);
        faults_fail_thread(0);
        give(&s, 10);
        while (done_of(&s) < 10 && twill__crew_help(s.heap.crew))
            continue;
        CHECK(wait_done(&s, 10));
        close_site(&s, &report);
        CHECK_EQ(!!(report.flags & TWILL_REPORT_DEGRADED), k < 2);
    }
    faults_fail_thread(1);
    CHECK_EQ(open_site(&s, &(twill_run){.strict = true}, 2, 2), TWILL_NO_THREAD);
    faults_fail_thread(0);
    free(s.memory);
}

/* A pool that is stopped takes no object; one that is only closed works for those it has. */
static int nothing_of_batch(twill_batch *batch, const twill_task *task)
{
    (void)batch, (void)task;
    return 0;
}

static int nothing_of_stage(const void *in, void *out, const twill_task *task)
{
    (void)in, (void)out, (void)task;
    return 0;
}

static int nothing_below(const twill_task *task)
{
    (void)task;
    CHECK(false);
    return 0;
}

TEST(a_stopped_pool_takes_no_object)
{
    twill_pool *pool;
    twill_report report;
    site s;
    twill_fan *fan;
    twill_batcher *batcher;
    twill_pipeline *pipeline;
    const twill_stage stage = {.work = nothing_of_stage, .out_size = sizeof(int)};

    CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 2}), TWILL_OK);
    CHECK_EQ(twill_pool_stop(pool, (twill_until){0, NULL}, (twill_until){0, NULL}, NULL), TWILL_OK);
    for (unsigned own = 0; own < 3; own += 2) {
        CHECK_EQ(open_site(&s, &(twill_run){.pool = pool}, 2, own), TWILL_CLOSED);
        free(s.memory);
    }
    CHECK_EQ(twill_parallel_for(9, nothing_below, &(twill_parallel_options){.run.pool = pool}),
             TWILL_CLOSED);
    CHECK_EQ(
        twill_parallel_for(9, nothing_below,
                           &(twill_parallel_options){.run = {.pool = pool, .report = &report}}),
        TWILL_CLOSED);
    CHECK_EQ(report.skipped, 9);
    CHECK_EQ(twill_fan_create(&fan, &(twill_fan_options){.run.pool = pool}), TWILL_CLOSED);
    CHECK(fan == NULL);
    CHECK_EQ(
        twill_batcher_create(&batcher, nothing_of_batch, &(twill_batch_options){.run.pool = pool}),
        TWILL_CLOSED);
    CHECK(batcher == NULL);
    CHECK_EQ(twill_pipeline_create(&pipeline, sizeof(int), &stage, 1,
                                   &(twill_pipeline_options){.run.pool = pool}),
             TWILL_CLOSED);
    CHECK(pipeline == NULL);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

static void *stops_the_pool(void *pool)
{
    return (void *)(intptr_t)twill_pool_stop(pool, (twill_until){0, NULL}, (twill_until){0, NULL},
                                             NULL);
}

/* A pool stops: its first seat is shut, on the second one a crew goes on, and the third is free.
   Whoever gets that has it, and the stop waits for it. */
TEST(a_seat_that_is_had_is_kept)
{
    twill_pool *pool;
    twill_ns end = twill_now() + TWILL_SEC(100);
    pthread_t thread;
    void *status;
    site s[3];
    twill_status third;

    CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 2}), TWILL_OK);
    CHECK_EQ(open_site(&s[0], &(twill_run){.pool = pool}, 2, 0), TWILL_OK);
    CHECK_EQ(open_site(&s[1], &(twill_run){.pool = pool}, 2, 0), TWILL_OK);
    CHECK(s[0].heap.crew->job.seat == &s[0].heap.crew->job.team->seat[0]);
    close_site(&s[0], NULL);
    CHECK_EQ(pthread_create(&thread, NULL, stops_the_pool, pool), 0);
    while (!(atomic_load(&s[1].heap.crew->job.team->seat[0].word) & TWILL__SEAT_SHUT) &&
           twill_now() < end)
        twill_sleep(twill_within(TWILL_US(200)));
    third = open_site(&s[2], &(twill_run){.pool = pool}, 2, 0);
    CHECK(third == TWILL_OK || third == TWILL_CLOSED);
    if (third == TWILL_OK)
        close_site(&s[2], NULL);
    else
        free(s[2].memory);
    close_site(&s[1], NULL);
    CHECK_EQ(pthread_join(thread, &status), 0);
    CHECK_EQ((intptr_t)status, TWILL_OK);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

/* What the threads of a pool could not be given, its crews report. */
TEST(a_crew_reports_what_its_pool_could_not_do)
{
    const unsigned nowhere = 100000;
    twill_pool *pool;
    site s;
    twill_report report = {0};

    CHECK_EQ(
        twill_pool_create(
            &pool, &(twill_pool_options){.run = {.workers = 2, .cpus = &nowhere, .cpu_count = 1}}),
        TWILL_OK);
    CHECK_EQ(open_site(&s, &(twill_run){.pool = pool}, 2, 2), TWILL_OK);
    give(&s, 20);
    CHECK(wait_done(&s, 20));
    close_site(&s, &report);
    CHECK_EQ(report.flags, TWILL_REPORT_NO_AFFINITY);
    CHECK_EQ(report.workers_started, 2);
    CHECK(report.workers_used >= 1 && report.workers_used <= 2);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

/* No seat, and no thread that could come to it either. */
TEST(seats_of_a_pool_without_threads_run_out)
{
    enum { CREWS = TWILL__SEATS + 2 };
    twill_pool *pool;
    site s[CREWS];

    CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 1, .lazy = true}),
             TWILL_OK);
    for (int i = 0; i < CREWS; i++)
        CHECK_EQ(open_site(&s[i], &(twill_run){.pool = pool}, 1, i < TWILL__SEATS ? 0 : 1),
                 TWILL_OK);
    for (int i = TWILL__SEATS; i < CREWS; i++) {
        give(&s[i], 3);
        CHECK(wait_done(&s[i], 3));
    }
    for (int i = 0; i < CREWS; i++) {
        twill_report report = {0};
        close_site(&s[i], &report);
        CHECK_EQ(report.flags, i < TWILL__SEATS ? 0 : TWILL_REPORT_DEGRADED);
    }
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

static atomic_uint started;

static int asks_in_its_hook(void **state, const twill_task *task)
{
    *state = NULL;
    CHECK(!twill_task_cancelled(task));
    CHECK_EQ(twill_task_skip(task), 0);
    CHECK_EQ(twill_task_stop(task), 0);
    CHECK(task->worker < task->workers);
    atomic_fetch_add(&started, 1);
    return 0;
}

/* In the hook of a worker nothing is to be skipped or stopped; to say so is harmless. */
TEST(a_hook_of_a_crew_may_ask_anything)
{
    site s;

    atomic_store(&started, 0);
    CHECK_EQ(open_site(&s, &(twill_run){.worker_start = asks_in_its_hook}, 1, 1), TWILL_OK);
    give(&s, 5);
    CHECK(wait_done(&s, 5));
    close_site(&s, NULL);
    CHECK_EQ(atomic_load(&started), 1);
}

/* ---- calls below ---- */

static int copies(const void *in, void *out, const twill_task *task)
{
    (void)task;
    *(int *)out = *(const int *)in;
    return 0;
}

static int fan_below(const twill_task *task)
{
    static const int items[4] = {1, 2, 3, 4};
    twill_report report;
    twill_fan_options options = {.run.report = &report};

    (void)task;
    CHECK_EQ(twill_fan_out_fan_in(items, sizeof(int), 4, copies, sizeof(int), NULL, &options),
             TWILL_OK);
    CHECK_EQ(report.flags & ~(uint32_t)TWILL_REPORT_DEGRADED, TWILL_REPORT_NESTED);
    CHECK_EQ(report.done, 4);
    options.run.workers = 2; /* threads of its own */
    CHECK_EQ(twill_fan_out_fan_in(items, sizeof(int), 4, copies, sizeof(int), NULL, &options),
             TWILL_OK);
    CHECK_EQ(report.flags, 0);
    CHECK_EQ(report.workers_started, 2);
    return 0;
}

TEST(a_call_below_another_says_whose_threads_it_had)
{
    CHECK_EQ(twill_parallel_for(4, fan_below, &(twill_parallel_options){.run.workers = 2}),
             TWILL_OK);
}

/* More of them than its team has seats for: the others have threads of their own. */
static int crews_below(const twill_task *task)
{
    enum { CREWS = TWILL__SEATS + 1 };
    site s[CREWS];
    twill_report report;

    if (task->index)
        return 0;
    for (int i = 0; i < CREWS; i++) {
        CHECK_EQ(open_nested(&s[i], &(twill_run){0}, 1, 1, true), TWILL_OK);
        give(&s[i], 2);
    }
    CHECK(!s[0].heap.crew->has_own);
    CHECK(s[CREWS - 1].heap.crew->has_own);
    CHECK(wait_done(&s[CREWS - 1], 2));
    for (int i = 0; i < CREWS; i++) {
        while (done_of(&s[i]) < 2) /* the team's threads may have something else to do */
            (void)twill__crew_help(s[i].heap.crew);
        memset(&report, 0, sizeof report);
        close_site(&s[i], &report);
    }
    CHECK_EQ(report.flags, TWILL_REPORT_DEGRADED);
    return 0;
}

TEST(crews_below_a_call_when_its_seats_run_out)
{
    CHECK_EQ(twill_parallel_for(2, crews_below, &(twill_parallel_options){.run.workers = 2}),
             TWILL_OK);
}

TEST(a_crew_of_a_parent_is_not_its_childs)
{
    site s;
    pid_t child;

    CHECK_EQ(open_site(&s, &(twill_run){0}, 2, 1), TWILL_OK);
    child = fork();
    if (child == 0) {
        twill_report report = {0};
        close_site(&s, &report);
        CHECK_EQ(report.workers_started, 1);
        CHECK_EQ(report.workers_used, 0);
        _exit(0);
    }
    CHECK_EQ(waitpid(child, NULL, 0), child);
    give(&s, 3);
    CHECK(wait_done(&s, 3));
    close_site(&s, NULL);
}

TEST(a_crew_is_not_opened_with_options_that_are_wrong)
{
    site s;

    CHECK_EQ(open_site(&s, &(twill_run){.errors_capacity = 1}, 2, 1), TWILL_INVALID);
    free(s.memory);
}

static int helps_out(void *site_, void *result, const twill_task *task)
{
    site *s = site_;

    (void)result, (void)task;
    (void)twill__crew_help(s->heap.crew); /* may end the thread */
    return 0;
}

/* On the thread that helps the call; the caller waits until that is done. */
static int helps_beside(const twill_task *task)
{
    site *s = task->context;

    return task->worker ? helps_out(s, NULL, task) : !wait_done(s, 3);
}

/* A thread of one team ends in a callback of another one's crew: the team that it is of has to
   replace it, not the one whose crew it helped. */
TEST(a_helper_from_elsewhere_ends_its_thread)
{
    twill_pool *pool;
    twill_future future;
    twill_outcome outcome;
    site s;

    CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 1}), TWILL_OK);
    CHECK_EQ(open_site(&s, &(twill_run){0}, 2, 0), TWILL_OK);
    for (int turn = 0; turn < 2; turn++) {
        twill__lock(&s.heap.lock);
        s.heap.left = s.heap.to_end = s.heap.end_at = 1;
        twill__unlock(&s.heap.lock);
        CHECK_EQ(twill_pool_submit(pool, helps_out, &s, &future, NULL), TWILL_OK);
        CHECK_EQ(twill_future_wait_until(future, NULL, &outcome, twill_within(TWILL_SEC(100))),
                 TWILL_FAILED);
        CHECK_EQ(outcome.status, TWILL_LOST);
        twill_future_release(future);
    }
    twill__lock(&s.heap.lock);
    s.heap.left = s.heap.to_end = s.heap.end_at = 1;
    twill__unlock(&s.heap.lock);
    CHECK_EQ(twill_parallel_for(2, helps_beside,
                                &(twill_parallel_options){.run = {.workers = 2, .context = &s}}),
             TWILL_FAILED);
    CHECK_EQ(s.heap.ended, 3);
    CHECK(!atomic_load(&s.heap.crew->job.team->replacements));
    close_site(&s, NULL);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

static twill_fan *outer_fan;

static int ends_the_outer(const void *in, void *out, const twill_task *task)
{
    (void)in, (void)out, (void)task;
    CHECK_EQ(twill_fan_destroy(outer_fan), TWILL_DEADLOCK);
    CHECK_EQ(twill_fan_stop(outer_fan, (twill_until){0, NULL}, (twill_until){0, NULL}, NULL),
             TWILL_DEADLOCK);
    return 0;
}

static int calls_below(void *arg, void *result, const twill_task *task)
{
    static const int items[2] = {1, 2};
    (void)arg, (void)result, (void)task;
    return twill_fan_out_fan_in(items, sizeof(int), 2, ends_the_outer, 0, NULL,
                                &(twill_fan_options){.run.workers = 2}) != TWILL_OK;
}

/* Also on a thread of the call below: who waits there for the one above waits for himself. */
TEST(a_thread_of_a_call_below_is_inside_of_the_one_above)
{
    twill_outcome outcome;

    CHECK_EQ(twill_fan_create(&outer_fan, &(twill_fan_options){.run.workers = 1}), TWILL_OK);
    CHECK_EQ(twill_fan_go(outer_fan, calls_below, NULL, NULL), TWILL_OK);
    CHECK_EQ(twill_fan_next(outer_fan, NULL, &outcome), TWILL_OK);
    CHECK_EQ(outcome.status, TWILL_OK);
    CHECK_EQ(twill_fan_destroy(outer_fan), TWILL_OK);
}

/* ---- calls that a task of a pool of one makes, with threads of their own ---- */

enum form { A_MAP, A_FAN, A_PIPELINE, BATCHES, FORMS };

static int (*inner_act)(const twill_task *task);

static int inner_item(const void *in, void *out, const twill_task *task)
{
    (void)in, (void)out;
    return inner_act(task);
}

static int inner_batch(twill_batch *batch, const twill_task *task)
{
    (void)batch;
    return inner_act(task);
}

/* Two items at once; of a fan none runs on the calling thread. */
static twill_status call_inside(enum form form)
{
    static const int in[2] = {0};
    const twill_run run = {.workers = 2};
    const twill_stage stage = {.work = inner_item, .out_size = sizeof(int), .workers = 2};
    int out[2] = {0};
    switch (form) {
    case A_MAP:
        return twill_parallel_map(in, sizeof *in, out, sizeof *out, 2, inner_item,
                                  &(twill_parallel_options){.run = run});
    case A_FAN:
        return twill_fan_out_fan_in(in, sizeof *in, 2, inner_item, 0, NULL,
                                    &(twill_fan_options){.run = run});
    case A_PIPELINE:
        return twill_pipeline_map(in, sizeof *in, out, sizeof *out, 2, &stage, 1,
                                  &(twill_pipeline_options){.run = run, .tokens = 2});
    default:
        return twill_batch_process(in, sizeof *in, NULL, 0, 2, inner_batch,
                                   &(twill_batch_options){.run = run, .max_items = 1});
    }
}

static struct whole {
    twill_pool *pool;
    twill_batcher *batcher;
    twill_future future; /* of the task that makes the call */
    pthread_t caller;
    atomic_int known, asked, through, ran, batched;
} whole;

static int count_one(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    atomic_fetch_add(&whole.ran, 1);
    return 0;
}

static int count_batch(twill_batch *batch, const twill_task *task)
{
    (void)task;
    atomic_fetch_add(&whole.batched, (int)batch->count);
    return 0;
}

static void until_it_is(atomic_int *what, int value)
{
    while (atomic_load(what) < value)
        (void)twill_sleep(twill_within(TWILL_US(30)));
}

/* On another thread than the task's, which waits for us, and is all that the pool has. */
static int asks_for_the_whole(const twill_task *task)
{
    twill_until forever = {0, NULL};
    twill_future future;

    if (pthread_equal(pthread_self(), whole.caller)) {
        until_it_is(&whole.through, 1);
        return 0;
    }
    if (atomic_fetch_add(&whole.asked, 1))
        return 0;
    CHECK_EQ(twill_future_wait(whole.future, NULL, NULL), TWILL_DEADLOCK);
    CHECK_EQ(twill_pool_wait_idle(whole.pool), TWILL_DEADLOCK);
    CHECK_EQ(twill_pool_stop(whole.pool, forever, forever, NULL), TWILL_DEADLOCK);
    CHECK_EQ(twill_pool_destroy(whole.pool), TWILL_DEADLOCK);
    for (int k = 0; k < 3; k++) /* one more than it has room for, or than are to be in the books */
        CHECK_EQ(twill_pool_submit(whole.pool, count_one, NULL, NULL, NULL), TWILL_OK);
    for (int k = 0; k < 2; k++)
        CHECK_EQ(twill_batcher_add_until(whole.batcher, &whole, NULL, task->until), TWILL_OK);
    CHECK_EQ(twill_batcher_flush_until(whole.batcher, task->until), TWILL_OK);
    CHECK_EQ(atomic_load(&whole.batched), 2);
    CHECK_EQ(twill_batcher_add_until(whole.batcher, &whole, &future, task->until), TWILL_OK);
    CHECK_EQ(twill_future_wait(future, NULL, NULL), TWILL_OK);
    twill_future_release(future);
    CHECK_EQ(twill_pool_close(whole.pool), TWILL_OK);
    CHECK_EQ(twill_pool_submit(whole.pool, count_one, NULL, NULL, NULL), TWILL_OK);
    CHECK_EQ(twill_pool_submit_many(whole.pool, count_one, NULL, 2, NULL, NULL, NULL), TWILL_OK);
    atomic_store(&whole.through, 1);
    return 0;
}

static int makes_the_call(void *form, void *result, const twill_task *task)
{
    (void)result, (void)task;
    until_it_is(&whole.known, 1);
    whole.caller = pthread_self();
    CHECK_EQ(call_inside(*(enum form *)form), TWILL_OK);
    return 0;
}

TEST(a_call_of_a_task_is_a_part_of_it_on_all_its_threads)
{
    for (enum form form = A_MAP; form < FORMS; form++) {
        twill_batch_options on_pool = {.max_items = 1, .capacity = 1};

        memset(&whole, 0, sizeof whole);
        inner_act = asks_for_the_whole;
        CHECK_EQ(
            twill_pool_create(&whole.pool, &(twill_pool_options){.run.workers = 1, .capacity = 1}),
            TWILL_OK);
        on_pool.run.pool = whole.pool;
        CHECK_EQ(twill_batcher_create(&whole.batcher, count_batch, &on_pool), TWILL_OK);
        CHECK_EQ(twill_pool_submit(whole.pool, makes_the_call, &form, &whole.future, NULL),
                 TWILL_OK);
        atomic_store(&whole.known, 1);
        CHECK_EQ(twill_pool_wait_idle(whole.pool), TWILL_OK);
        CHECK_EQ(atomic_load(&whole.ran), 6);
        CHECK_EQ(atomic_load(&whole.batched), 3);
        twill_future_release(whole.future);
        CHECK_EQ(twill_batcher_destroy(whole.batcher), TWILL_OK);
        CHECK_EQ(twill_pool_destroy(whole.pool), TWILL_OK);
    }
}

/* ---- a task that ends its thread on top of an item, for which another item waits ---- */

static int ends_for_both(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    atomic_store(&whole.through, 1);
    until_it_is(&whole.asked, 1);
    END_THREAD();
    return 0;
}

static int waits_for_the_end(const twill_task *task)
{
    twill_outcome outcome;

    (void)task;
    if (!pthread_equal(pthread_self(), whole.caller)) {
        until_it_is(&whole.through, 1); /* the calling thread is at it, on top of its own item */
        atomic_fetch_add(&whole.asked, 1);
    }
    CHECK_EQ(twill_future_wait(whole.future, NULL, &outcome), TWILL_FAILED);
    CHECK_EQ(outcome.status, TWILL_LOST);
    CHECK(!pthread_equal(pthread_self(), whole.caller)); /* that one has ended */
    return 0;
}

static int makes_the_last_call(void *form, void *result, const twill_task *task)
{
    (void)result, (void)task;
    until_it_is(&whole.known, 1);
    whole.caller = pthread_self();
    CHECK_EQ(twill_pool_submit(whole.pool, ends_for_both, NULL, &whole.future, NULL), TWILL_OK);
    (void)call_inside(*(enum form *)form);
    CHECK(false);
    return 0;
}

/* The call waits for its other items, and these for a task whose end nobody was told. */
TEST(who_ends_its_thread_on_top_of_a_call_is_told_of_before_the_call_ends)
{
    static const enum form forms[] = {A_MAP, A_PIPELINE, BATCHES}; /* that run some themselves */

    for (unsigned k = 0; k < 3; k++) {
        enum form form = forms[k];
        twill_future future;
        twill_outcome outcome;
        twill_pool_stats stats;

        memset(&whole, 0, sizeof whole);
        CHECK_EQ(twill_pool_create(&whole.pool, &(twill_pool_options){.run.workers = 1}), TWILL_OK);
        inner_act = waits_for_the_end;
        CHECK_EQ(twill_pool_submit(whole.pool, makes_the_last_call, &form, &future, NULL),
                 TWILL_OK);
        atomic_store(&whole.known, 1);
        CHECK_EQ(twill_future_wait_until(future, NULL, &outcome, twill_within(TWILL_SEC(100))),
                 TWILL_FAILED);
        CHECK_EQ(outcome.status, TWILL_LOST);
        CHECK_EQ(twill_pool_wait_idle(whole.pool), TWILL_OK);
        twill_pool_get_stats(whole.pool, &stats);
        CHECK_EQ(stats.lost, 2);
        CHECK_EQ(stats.done, 0);
        twill_future_release(future);
        twill_future_release(whole.future);
        CHECK_EQ(twill_pool_destroy(whole.pool), TWILL_OK);
    }
}

/* ---- a batch that is left over when the one who had the worker's number is gone ---- */

static int ends_or_counts(twill_batch *batch, const twill_task *task)
{
    if (pthread_equal(pthread_self(), whole.caller) || batch->first != 0)
        return count_batch(batch, task);
    atomic_store(&whole.through, 1);
    until_it_is(&whole.asked, 1);
    (void)twill_sleep(twill_within(TWILL_MS(3))); /* so that it most likely has asked in vain */
    END_THREAD();
    return 0;
}

static void *flushes_from_outside(void *unused)
{
    until_it_is(&whole.known, 1); /* the pool's thread is busy */
    CHECK_EQ(twill_batcher_add(whole.batcher, &whole, NULL), TWILL_OK);
    (void)twill_batcher_flush(whole.batcher);
    CHECK(false);
    return unused;
}

static int waits_for_its_batch(void *flush, void *result, const twill_task *task)
{
    twill_future future;

    (void)result;
    whole.caller = pthread_self();
    atomic_store(&whole.known, 1);
    until_it_is(&whole.through, 1);
    CHECK_EQ(twill_batcher_add_until(whole.batcher, &whole, &future, task->until), TWILL_OK);
    atomic_store(&whole.asked, 1);
    if (*(const bool *)flush)
        CHECK_EQ(twill_batcher_flush_until(whole.batcher, task->until), TWILL_OK);
    CHECK_EQ(twill_future_wait(future, NULL, NULL), TWILL_OK);
    twill_future_release(future);
    return 0;
}

TEST(who_found_no_worker_number_free_takes_the_batch_that_is_left)
{
    for (int flush = 0; flush < 2; flush++) {
        bool flushes = flush;
        pthread_t outside;

        memset(&whole, 0, sizeof whole);
        CHECK_EQ(twill_pool_create(&whole.pool, &(twill_pool_options){.run.workers = 1}), TWILL_OK);
        CHECK_EQ(
            twill_batcher_create(&whole.batcher, ends_or_counts,
                                 &(twill_batch_options){.run.pool = whole.pool, .max_items = 1}),
            TWILL_OK);
        CHECK_EQ(twill_pool_submit(whole.pool, waits_for_its_batch, &flushes, NULL, NULL),
                 TWILL_OK);
        CHECK_EQ(pthread_create(&outside, NULL, flushes_from_outside, NULL), 0);
        pthread_join(outside, NULL);
        CHECK_EQ(twill_pool_wait_idle(whole.pool), TWILL_OK);
        CHECK_EQ(atomic_load(&whole.batched), 1);
        CHECK_EQ(twill_batcher_destroy(whole.batcher), TWILL_OK);
        CHECK_EQ(twill_pool_destroy(whole.pool), TWILL_OK);
    }
}

HARNESS_MAIN
