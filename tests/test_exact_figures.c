/* test_exact_figures.c - figures and answers that are exact, of several patterns; what a copy of an
   object in a forked child still does; and what a thread of ours leaves as it was. */
#define _GNU_SOURCE
#define HARNESS_FAULTS
#include "harness.h"

#define TWILL_IMPLEMENTATION
#include "twill.h"

#include "pool_kit.h"

#include <fcntl.h>

static struct gate gate;

static void fresh(void)
{
    memset(&gate, 0, sizeof gate);
}

static twill_until for_ever(void)
{
    return (twill_until){0, NULL};
}

/* The status with which a forked child ends. */
static int child_of(int (*fn)(void *), void *arg)
{
    int status = -1;
    pid_t child = fork();

    if (child == 0)
        _exit(fn(arg));
    CHECK(child > 0);
    CHECK_EQ(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + status;
}

/* ---- queues ---- */

/* Until somebody waits for the queue, and a while longer. */
static void let_wait(twill_queue *queue)
{
    twill_queue_stats stats;

    do {
        (void)twill_sleep(twill_within(TWILL_US(200)));
        twill_queue_get_stats(queue, &stats);
    } while (!stats.waiting_push && !stats.waiting_pop);
    (void)twill_sleep(twill_within(TWILL_MS(30)));
}

static void *pops_late(void *queue)
{
    int item;

    let_wait(queue);
    CHECK_EQ(twill_queue_pop(queue, &item), TWILL_OK);
    (void)twill_sleep(twill_within(TWILL_MS(5)));
    CHECK_EQ(twill_queue_pop(queue, &item), TWILL_OK);
    return NULL;
}

static void *pushes_late(void *queue)
{
    let_wait(queue);
    CHECK_EQ(twill_queue_push(queue, &(int){1}), TWILL_OK);
    (void)twill_sleep(twill_within(TWILL_MS(5)));
    CHECK_EQ(twill_queue_push(queue, &(int){1}), TWILL_OK);
    return NULL;
}

TEST(the_longest_wait_is_kept)
{
    static const twill_queue_engine engines[] = {TWILL_ENGINE_DEFAULT, TWILL_ENGINE_LOCK};

    for (int k = 0; k < 2; k++) {
        twill_queue *queue;
        twill_queue_stats stats;
        pthread_t thread;
        int item = 1;
        CHECK_EQ(twill_queue_create(&queue, sizeof item,
                                    &(twill_queue_options){.capacity = 1, .engine = engines[k]}),
                 TWILL_OK);
        CHECK_EQ(twill_queue_push(queue, &item), TWILL_OK);
        CHECK_EQ(pthread_create(&thread, NULL, pops_late, queue), 0);
        CHECK_EQ(twill_queue_push(queue, &item), TWILL_OK);
        CHECK_EQ(twill_queue_push(queue, &item), TWILL_OK);
        CHECK_EQ(pthread_join(thread, NULL), 0);
        CHECK_EQ(twill_queue_pop(queue, &item), TWILL_OK);
        CHECK_EQ(pthread_create(&thread, NULL, pushes_late, queue), 0);
        CHECK_EQ(twill_queue_pop(queue, &item), TWILL_OK);
        CHECK_EQ(twill_queue_pop(queue, &item), TWILL_OK);
        CHECK_EQ(pthread_join(thread, NULL), 0);
        twill_queue_get_stats(queue, &stats);
        CHECK(stats.push_wait_max >= TWILL_MS(20));
        CHECK(stats.push_wait_total >= stats.push_wait_max);
        CHECK(stats.pop_wait_max >= TWILL_MS(20));
        CHECK(stats.pop_wait_total >= stats.pop_wait_max);
        CHECK(stats.push_waits >= 1 && stats.push_waits <= 2);
        CHECK(stats.pop_waits >= 1 && stats.pop_waits <= 2);
        CHECK(stats.wakes >= 1);
        CHECK_EQ(stats.capacity, 1);
        CHECK_EQ(stats.accepted, 5);
        CHECK_EQ(stats.popped, 5);
        CHECK_EQ(twill_queue_destroy(queue), TWILL_OK);
    }
}

static int produces_four(twill_queue *queue, const twill_task *task)
{
    (void)task;
    for (int i = 0; i < 4; i++)
        if (twill_queue_push(queue, &i) != TWILL_OK)
            return 0;
    return 0;
}

static int fails_at_once(twill_queue *queue, const twill_task *task)
{
    (void)queue, (void)task;
    return 9;
}

static int consumes(void *item, const twill_task *task)
{
    (void)task;
    return *(int *)item == 1 ? 5 : 0;
}

TEST(whose_failure_it_was)
{
    twill_report report;
    twill_queue_stats stats;

    for (unsigned workers = 2; workers < 4; workers++) {
        CHECK_EQ(twill_produce_consume(sizeof(int), fails_at_once, consumes,
                                       &(twill_produce_consume_options){
                                           .run = {.workers = workers, .report = &report}}),
                 TWILL_FAILED);
        CHECK_EQ(report.first_error.index, SIZE_MAX); /* no item's */
        CHECK_EQ(report.first_error.status, TWILL_FAILED);
        CHECK_EQ(report.first_error.code, 9);
        CHECK_EQ(report.total, 0);
        CHECK_EQ(twill_produce_consume(
                     sizeof(int), produces_four, consumes,
                     &(twill_produce_consume_options){.run = {.workers = workers,
                                                              .on_error = TWILL_ON_ERROR_COLLECT,
                                                              .report = &report},
                                                      .queue_stats = &stats}),
                 TWILL_FAILED);
        CHECK_EQ(report.first_error.index, 1);
        CHECK_EQ(report.first_error.code, 5);
        CHECK_EQ(report.done, 3);
        CHECK_EQ(report.failed, 1);
        /* who has produced consumes, too */
        CHECK(report.workers_used >= 1 && report.workers_used <= workers + 1);
        CHECK_EQ(stats.accepted, 4);
        CHECK_EQ(stats.popped, 4);
        CHECK_EQ(stats.cleared, 0);
    }
}

/* ---- pools and futures ---- */

static twill_future pending, ended;
static size_t which;
static atomic_uint counter;

static int asks_for_any(void *pool, void *result, const twill_task *task)
{
    twill_future both[2];

    (void)result, (void)task;
    CHECK_EQ(twill_pool_submit(pool, count_up, &counter, &pending, NULL), TWILL_OK);
    both[0] = pending;
    both[1] = ended;
    CHECK_EQ(twill_future_wait_any(both, 2, &which, for_ever()), TWILL_OK);
    CHECK_EQ(which, 1);
    CHECK_EQ(atomic_load(&counter), 0); /* what had not begun was left alone */
    return 0;
}

TEST(any_of_them_has_ended_already)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1});

    atomic_store(&counter, 0);
    CHECK_EQ(twill_pool_submit(pool, number_of, NULL, &ended, NULL), TWILL_OK);
    CHECK_EQ(twill_future_wait(ended, NULL, NULL), TWILL_OK);
    CHECK_EQ(twill_pool_submit(pool, asks_for_any, pool, NULL, NULL), TWILL_OK);
    (void)idle_stats(pool);
    CHECK_EQ(atomic_load(&counter), 1);
    twill_future_release(pending);
    twill_future_release(ended);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

TEST(none_of_them_ends_in_time)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1});
    twill_future future[2];
    twill_cancel token;

    fresh();
    twill_cancel_init(&token, NULL);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(twill_pool_submit(pool, at_gate, &gate, &future[i], NULL), TWILL_OK);
    CHECK_EQ(twill_future_wait_any(future, 2, &which, twill_within(TWILL_MS(3))), TWILL_TIMEOUT);
    twill_cancel_fire(&token, 1);
    CHECK_EQ(twill_future_wait_any(future, 2, &which, (twill_until){0, &token}), TWILL_CANCELLED);
    CHECK_EQ(twill_future_wait_all(future, 2, twill_within(TWILL_MS(3))), TWILL_TIMEOUT);
    gate_open(&gate);
    CHECK_EQ(twill_future_wait_all(future, 2, for_ever()), TWILL_OK);
    for (int i = 0; i < 2; i++)
        twill_future_release(future[i]);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    twill_cancel_detach(&token);
}

TEST(ten_thousand_tasks_at_once)
{
    enum { TASKS = 10000 };
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 2, .capacity = 2 * TASKS});
    twill_pool_stats stats;
    void **args = malloc(TASKS * sizeof *args);
    size_t accepted = 0;

    atomic_store(&counter, 0);
    for (int i = 0; i < TASKS; i++)
        args[i] = &counter;
    CHECK_EQ(twill_pool_pause(pool), TWILL_OK);
    CHECK_EQ(twill_pool_submit_many(pool, count_up, args, TASKS, NULL, &accepted, NULL), TWILL_OK);
    CHECK_EQ(accepted, TASKS);
    stats = stats_of(pool);
    CHECK_EQ(stats.queued, TASKS);
    CHECK_EQ(stats.queued_peak, TASKS);
    CHECK_EQ(twill_pool_resume(pool), TWILL_OK);
    stats = idle_stats(pool);
    CHECK_EQ(stats.done, TASKS);
    CHECK_EQ(atomic_load(&counter), TASKS);
    free(args);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

TEST(how_long_tasks_have_waited_and_run)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1});
    twill_pool_stats stats;

    fresh();
    CHECK_EQ(twill_pool_submit(pool, at_gate, &gate, NULL, NULL), TWILL_OK);
    CHECK(gate_inside(&gate, 1));
    for (int i = 0; i < 9; i++)
        CHECK_EQ(twill_pool_submit(pool, number_of, NULL, NULL, NULL), TWILL_OK);
    (void)twill_sleep(twill_within(TWILL_MS(20)));
    stats = stats_of(pool);
    CHECK_EQ(stats.busy, 1);
    CHECK_EQ(stats.queued, 9);
    gate_open(&gate);
    stats = idle_stats(pool);
    CHECK(stats.wait_p50 >= TWILL_MS(19));
    CHECK(stats.wait_p99 >= stats.wait_p95 && stats.wait_p95 >= stats.wait_p50);
    CHECK(stats.run_p99 >= TWILL_MS(19));
    CHECK(stats.busy_total >= TWILL_MS(19));
    CHECK_EQ(stats.queued_peak, 9);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

/* The nearer one of the run's deadline and the task's own. */
static twill_ns deadlines[3];

static int notes_its_deadline(const void *in, void *out, const twill_task *task)
{
    (void)out;
    deadlines[*(const int *)in] = task->until.deadline;
    return 0;
}

TEST(a_task_of_run_all_has_the_nearer_deadline)
{
    static const int tasks[3] = {0, 1, 2};
    twill_ns far = twill_now() + TWILL_SEC(1000), near_ = twill_now() + TWILL_SEC(10), begun;

    for (int k = 0; k < 4; k++) {
        twill_run_all_options options = {.run.workers = 1};
        options.run.until.deadline = k == 0 ? 0 : k == 1 ? far : near_;
        options.timeout = k == 3 ? 0 : TWILL_SEC(100);
        begun = twill_now();
        CHECK_EQ(twill_run_all(tasks, sizeof(int), NULL, 0, 3, notes_its_deadline, NULL, &options),
                 TWILL_OK);
        for (int i = 0; i < 3; i++)
            if (k < 2)
                CHECK(deadlines[i] >= begun + TWILL_SEC(100) &&
                      deadlines[i] <= twill_now() + TWILL_SEC(100));
            else
                CHECK_EQ(deadlines[i], near_);
    }
}

/* ---- bulkheads and limiters ---- */

static twill_bulkhead bulkhead;

static void *waits_inside(void *unused)
{
    (void)unused;
    CHECK_EQ(twill_bulkhead_enter(&bulkhead), TWILL_OK);
    CHECK_EQ(twill_bulkhead_leave(&bulkhead), TWILL_OK);
    return NULL;
}

/* Those who wait in the parent are not here: a place that is free is. */
static int leaves_and_enters(void *unused)
{
    (void)unused;
    if (twill_bulkhead_try_enter(&bulkhead) != TWILL_FULL)
        return 1;
    if (twill_bulkhead_leave(&bulkhead) != TWILL_OK)
        return 2;
    return twill_bulkhead_try_enter(&bulkhead) == TWILL_OK ? 0 : 3;
}

TEST(a_forked_bulkhead_keeps_its_count_and_no_waiter)
{
    pthread_t thread;

    CHECK_EQ(twill_bulkhead_init(&bulkhead, 1, 2), TWILL_OK);
    CHECK_EQ(twill_bulkhead_enter(&bulkhead), TWILL_OK);
    CHECK_EQ(pthread_create(&thread, NULL, waits_inside, NULL), 0);
    (void)twill_sleep(twill_within(TWILL_MS(20)));
    CHECK_EQ(child_of(leaves_and_enters, NULL), 0);
    CHECK_EQ(twill_bulkhead_leave(&bulkhead), TWILL_OK);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(twill_bulkhead_leave(&bulkhead), TWILL_INVALID);
}

TEST(who_is_late_is_told_so_before_that_it_is_full)
{
    twill_cancel token;

    twill_cancel_init(&token, NULL);
    CHECK_EQ(twill_bulkhead_init(&bulkhead, 1, 0), TWILL_OK);
    CHECK_EQ(twill_bulkhead_enter(&bulkhead), TWILL_OK);
    CHECK_EQ(twill_bulkhead_enter(&bulkhead), TWILL_FULL);
    CHECK_EQ(twill_bulkhead_enter_until(&bulkhead, (twill_until){1, NULL}), TWILL_TIMEOUT);
    twill_cancel_fire(&token, 1);
    CHECK_EQ(twill_bulkhead_enter_until(&bulkhead, (twill_until){0, &token}), TWILL_CANCELLED);
    CHECK_EQ(twill_bulkhead_leave(&bulkhead), TWILL_OK);
    twill_cancel_detach(&token);
}

TEST(so_many_limiters_together)
{
    enum { MOST = 17 };
    twill_rate_limiter limiter[MOST], *all[MOST];

    for (int i = 0; i < MOST; i++) {
        CHECK_EQ(twill_rate_limiter_init(
                     &limiter[i],
                     &(twill_rate_limiter_options){.tokens = 1, .per = TWILL_SEC(1), .burst = 2}),
                 TWILL_OK);
        all[i] = &limiter[i];
    }
    CHECK_EQ(twill_rate_limiter_acquire_all_until(all, MOST, 1, for_ever()), TWILL_TOO_BIG);
    CHECK_EQ(twill_rate_limiter_acquire_all_until(all, MOST - 1, 1, for_ever()), TWILL_OK);
    CHECK_EQ(twill_rate_limiter_acquire_all_until(all, 0, 1, for_ever()), TWILL_OK);
}

/* ---- resources ---- */

static twill_resource_pool *resources;
static atomic_int destroys;
static twill_status from_keeper;
static int thing;

static int makes(void **resource, const twill_task *task)
{
    (void)task;
    *resource = &thing;
    return 0;
}

static void asks_the_impossible(void *resource, twill_resource_end why, const twill_task *task)
{
    (void)resource, (void)task;
    if (why == TWILL_RESOURCE_IDLE && atomic_fetch_add(&destroys, 1) == 0)
        from_keeper = twill_resource_pool_destroy(resources);
}

/* The thread that keeps the pool cannot end it, and leaves it as it was. */
TEST(the_keeper_does_not_destroy_its_pool)
{
    twill_lease lease = {0};
    twill_ns end = twill_now() + TWILL_SEC(100);
    twill_lease_info info;
    int line;

    from_keeper = TWILL_OK;
    atomic_store(&destroys, 0);
    CHECK_EQ(twill_resource_pool_create(
                 &resources, &(twill_resource_pool_options){.max = 2,
                                                            .create = makes,
                                                            .destroy = asks_the_impossible,
                                                            .max_idle_time = TWILL_MS(2),
                                                            .maintain_every = TWILL_MS(2)}),
             TWILL_OK);
    line = __LINE__ + 1;
    CHECK_EQ(twill_resource_pool_acquire(resources, &lease), TWILL_OK);
    CHECK_EQ(twill_resource_pool_leases(resources, &info, 1), 1);
    CHECK_EQ(info.line, line);
    CHECK_STR(info.file, __FILE__);
    CHECK(info.resource == &thing);
    CHECK_EQ(twill_resource_pool_release(resources, &lease), TWILL_OK);
    while (!atomic_load(&destroys) && twill_now() < end)
        (void)twill_sleep(twill_within(TWILL_MS(1)));
    CHECK_EQ(atomic_load(&destroys), 1);
    CHECK_EQ(twill_resource_pool_destroy(resources), TWILL_OK);
    CHECK(from_keeper == TWILL_BUSY || from_keeper == TWILL_DEADLOCK);
}

/* ---- shutdown ---- */

static int own_shutdown(void *parents)
{
    twill_shutdown *own;
    struct sigaction now;

    if (twill_shutdown_create(&own, NULL) != TWILL_OK)
        return 1;
    (void)twill_shutdown_destroy(parents);
    if (sigaction(SIGTERM, NULL, &now) != 0 || now.sa_handler == SIG_DFL)
        return 2; /* the child's own handler went with the copy */
    if (raise(SIGTERM) != 0 || twill_shutdown_wait(own, twill_within(TWILL_SEC(100))) != TWILL_OK)
        return 3;
    return 0;
}

TEST(a_childs_shutdown_outlives_the_copy_of_its_parents)
{
    twill_shutdown *shutdown;

#if defined __SANITIZE_THREAD__
    SKIP("the thread sanitizer starts no thread in a forked child");
#endif
    CHECK_EQ(twill_shutdown_create(&shutdown, NULL), TWILL_OK);
    CHECK_EQ(child_of(own_shutdown, shutdown), 0);
    CHECK_EQ(twill_shutdown_destroy(shutdown), TWILL_OK);
}

#if TWILL__SIGNALS
TEST(a_refused_shutdown_is_nobodys_owner)
{
    static const int no[] = {SIGTERM, 33}; /* glibc keeps 33 for itself; elsewhere it is fine */
    twill_shutdown *shutdown;
    twill_status status = twill_shutdown_create(
        &shutdown, &(twill_shutdown_options){.signals = no, .signal_count = 2});

    CHECK_EQ(atomic_load(&twill__process()->signal_owner) != NULL, status == TWILL_OK);
    if (status == TWILL_OK)
        CHECK_EQ(twill_shutdown_destroy(shutdown), TWILL_OK);
    CHECK(atomic_load(&twill__process()->signal_owner) == NULL);
}

TEST(a_full_bell_leaves_errno_alone)
{
    twill__bell bell;

    if (!CHECK(twill__bell_make(&bell)))
        return;
    errno = 77;
    for (int i = 0; i < 100000; i++)
        twill__bell_ring(&bell);
    CHECK_EQ(errno, 77);
    twill__bell_end(&bell);
}
#endif

static int masked(const twill_task *task)
{
    sigset_t now;

    (void)task;
    CHECK_EQ(pthread_sigmask(SIG_BLOCK, NULL, &now), 0);
    CHECK(sigismember(&now, SIGUSR2) == 1);
    CHECK(sigismember(&now, SIGTERM) == 1);
    CHECK(sigismember(&now, SIGSEGV) == 0);
    return 0;
}

/* A hook's thread takes no signal that is meant for another. */
TEST(the_threads_of_a_shutdown_hold_signals_off)
{
    twill_shutdown *shutdown;
    sigset_t now;

    CHECK_EQ(twill_shutdown_create(&shutdown, &(twill_shutdown_options){.no_signals = true}),
             TWILL_OK);
    CHECK_EQ(pthread_sigmask(SIG_BLOCK, NULL, &now), 0);
    CHECK(sigismember(&now, SIGUSR2) == 0);
    CHECK_EQ(twill_shutdown_add(shutdown, "masked", masked, NULL, 0), TWILL_OK);
    CHECK_EQ(twill_shutdown_finish(shutdown, NULL), TWILL_OK);
    CHECK_EQ(twill_shutdown_destroy(shutdown), TWILL_OK);
}

/* ---- the platform ---- */

TEST(no_terminal_has_no_size)
{
    unsigned columns = 7, rows = 9;
    int ends[2];

    CHECK_EQ(pipe(ends), 0);
    errno = 77;
    twill__terminal_size(ends[1], &columns, &rows);
    CHECK_EQ(columns, 0);
    CHECK_EQ(rows, 0);
    CHECK_EQ(errno, 77);
    close(ends[0]);
    close(ends[1]);
}

static int open_files(void)
{
    int count = 0;

    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) != -1;
    return count;
}

TEST(to_count_processors_keeps_no_file_open)
{
    int before = open_files();

    for (int i = 0; i < 8; i++)
        CHECK(twill__cpus_now() > 0);
    CHECK_EQ(open_files(), before);
}

#if defined __linux__
TEST(a_processor_past_all_is_refused)
{
    CHECK(!twill__bind(128 * sizeof(long) * CHAR_BIT));
    CHECK(!twill__bind(128 * sizeof(long) * CHAR_BIT - 1));
    CHECK(!twill__bind(UINT_MAX));
}
#endif

TEST(characters_at_the_borders_of_utf8)
{
    static const struct {
        const char *text;
        uint32_t c;
        size_t length;
    } cases[] = {{"\x7f", 0x7f, 1},
                 {"\xc2\x80", 0x80, 2},
                 {"\xc1\xbf", 0xfffd, 1},
                 {"\xdf\xbf", 0x7ff, 2},
                 {"\xe0\xa0\x80", 0x800, 3},
                 {"\xe0\x9f\xbf", 0xfffd, 1},
                 {"\xed\x9f\xbf", 0xd7ff, 3},
                 {"\xed\xa0\x80", 0xfffd, 1},
                 {"\xed\xbf\xbf", 0xfffd, 1},
                 {"\xee\x80\x80", 0xe000, 3},
                 {"\xef\xbf\xbf", 0xffff, 3},
                 {"\xf0\x90\x80\x80", 0x10000, 4},
                 {"\xf0\x8f\xbf\xbf", 0xfffd, 1},
                 {"\xf4\x8f\xbf\xbf", 0x10ffff, 4},
                 {"\xf4\x90\x80\x80", 0xfffd, 1}};

    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        size_t length = 0;
        CHECK_EQ(twill__print_utf8(cases[k].text, &length), cases[k].c);
        CHECK_EQ(length, cases[k].length);
    }
}

/* The floor of a chunk, in blocks: rounded up. */
TEST(no_chunk_is_smaller_than_asked)
{
    static const struct {
        size_t chunk, block, floor;
    } cases[] = {{0, 1, 1}, {1, 1, 1},   {2, 1, 2},   {50, 1, 50},
                 {2, 4, 1}, {64, 64, 1}, {65, 64, 2}, {128, 64, 2}};

    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        twill__job job;
        memset(&job, 0, sizeof job);
        job.schedule = TWILL__AUTO;
        job.chunk = cases[k].chunk;
        job.block = cases[k].block;
        CHECK_EQ(twill__pace_floor(&job), cases[k].floor);
        job.schedule = TWILL__GUIDED;
        CHECK_EQ(twill__pace_floor(&job), 1);
    }
}

/* ---- what is left behind ---- */

static int is_not_called(const twill_task *task)
{
    (void)task;
    return CHECK(false);
}

/* A call that is refused for want of memory gives its seat on the pool back. */
TEST(a_refused_call_keeps_no_seat)
{
    enum { WORKERS = 66 };
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = WORKERS});
    twill_report report;

    for (int i = 0; i < 2 * TWILL__SEATS; i++) {
        twill_parallel_options options = {
            .run = {.pool = pool, .workers = WORKERS, .strict = true, .report = &report}};
        faults_fail_alloc_from(1);
        CHECK_EQ(twill_parallel_for(1000, is_not_called, &options), TWILL_NO_MEMORY);
        faults_fail_alloc_from(0);
        CHECK_EQ(report.skipped, 1000);
    }
    CHECK_EQ(twill_pool_stop(pool, for_ever(), twill_within(TWILL_SEC(100)), NULL), TWILL_OK);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

static void *borrows(void *pool)
{
    twill_lease lease = {0};

    return (void *)(intptr_t)twill_resource_pool_acquire(pool, &lease);
}

/* More than a turn under the lock can note. */
TEST(a_close_answers_any_number_of_borrowers)
{
    enum { WAIT = 40 };
    twill_lease lease = {0};
    pthread_t thread[WAIT];

    CHECK_EQ(twill_resource_pool_create(&resources,
                                        &(twill_resource_pool_options){.max = 1, .create = makes}),
             TWILL_OK);
    CHECK_EQ(twill_resource_pool_acquire(resources, &lease), TWILL_OK);
    for (int i = 0; i < WAIT; i++)
        CHECK_EQ(pthread_create(&thread[i], NULL, borrows, resources), 0);
    (void)twill_sleep(twill_within(TWILL_MS(30)));
    CHECK_EQ(twill_resource_pool_close(resources), TWILL_OK);
    for (int i = 0; i < WAIT; i++) {
        void *answer;
        CHECK_EQ(pthread_join(thread[i], &answer), 0);
        CHECK_EQ((intptr_t)answer, TWILL_CLOSED);
    }
    CHECK_EQ(twill_resource_pool_release(resources, &lease), TWILL_OK);
    CHECK_EQ(twill_resource_pool_destroy(resources), TWILL_OK);
}

/* ---- loops ---- */

static twill_cancel at_last;

static bool fires_at_the_last(const void *item, const twill_task *task)
{
    if (task->index == 99)
        twill_cancel_fire(&at_last, 1);
    return *(const int *)item % 2 == 0;
}

/* All items are done: the token comes too late, and what was kept is written. */
TEST(a_token_that_fires_in_the_last_item_is_late)
{
    int in[100], out[100] = {0};
    size_t n = 0;

    for (int i = 0; i < 100; i++)
        in[i] = i;
    twill_cancel_init(&at_last, NULL);
    CHECK_EQ(twill_parallel_filter(
                 in, sizeof(int), 100, out, &n, fires_at_the_last,
                 &(twill_parallel_options){.run = {.workers = 1, .until = {0, &at_last}}}),
             TWILL_OK);
    CHECK_EQ(n, 50);
    for (int i = 0; i < 50; i++)
        CHECK_EQ(out[i], 2 * i);
    twill_cancel_detach(&at_last);
}

static uint64_t costs[24];
static size_t ran_in[24], ran;

static uint64_t cost_of(size_t index, const twill_task *task)
{
    (void)task;
    return costs[index];
}

static int notes_its_turn(const twill_task *task)
{
    ran_in[ran++] = task->index;
    return 0;
}

/* Each item a cut of its own: none is much cheaper than another. */
TEST(the_dearest_cut_is_the_first)
{
    for (int round = 0; round < 20; round++) {
        size_t n = 2 + (size_t)test_random_below(23);
        for (size_t i = 0; i < n; i++)
            costs[i] = 1000000 + test_random_below(1000);
        ran = 0;
        CHECK_EQ(twill_parallel_for(n, notes_its_turn,
                                    &(twill_parallel_options){.run.workers = 1,
                                                              .schedule = TWILL_SCHEDULE_COST,
                                                              .cost_of = cost_of}),
                 TWILL_OK);
        CHECK_EQ(ran, n);
        for (size_t k = 1; k < n; k++)
            CHECK(costs[ran_in[k]] <= costs[ran_in[k - 1]]);
    }
}

/* ---- options ---- */

TEST(the_factor_of_a_jitter_is_used)
{
    twill_retry_options options = {.jitter = TWILL_JITTER_PROPORTIONAL};

    CHECK_EQ(twill__retry_shape(&options).spread, UINT64_C(1) << 31);
    options.jitter_factor = 0.25;
    CHECK_EQ(twill__retry_shape(&options).spread, UINT64_C(1) << 30);
}

TEST(the_largest_queue_of_a_pool)
{
    const size_t most = SIZE_MAX / 4 / sizeof(twill__todo);
    twill_pool *pool;

    for (size_t above = 0; above < 2; above++) {
        faults_fail_alloc_from(1);
        CHECK_EQ(twill_pool_create(
                     &pool, &(twill_pool_options){.run.workers = 1, .capacity = most + above}),
                 above ? TWILL_TOO_BIG : TWILL_NO_MEMORY);
        faults_fail_alloc_from(0);
    }
}

static size_t dropped_index;

static void notes_the_drop(void *arg, twill_status why, const twill_task *task)
{
    (void)arg;
    CHECK_EQ(why, TWILL_DROPPED);
    dropped_index = task->index;
}

#define NAMED(FN, VALUE) CHECK_STR(FN(VALUE), #VALUE)

TEST(what_is_told_has_a_name)
{
    NAMED(twill_retry_end_name, TWILL_RETRY_SUCCEEDED);
    NAMED(twill_retry_end_name, TWILL_RETRY_ATTEMPTS);
    NAMED(twill_retry_end_name, TWILL_RETRY_PERMANENT);
    NAMED(twill_retry_end_name, TWILL_RETRY_DEADLINE);
    NAMED(twill_retry_end_name, TWILL_RETRY_CANCELLED);
    NAMED(twill_retry_end_name, TWILL_RETRY_NO_BUDGET);
    NAMED(twill_retry_end_name, TWILL_RETRY_HINT_TOO_LONG);
    NAMED(twill_retry_end_name, TWILL_RETRY_REFUSED);
    NAMED(twill_retry_end_name, TWILL_RETRY_LEFT);
    CHECK_STR(twill_retry_end_name((twill_retry_end)(TWILL_RETRY_LEFT + 1)), "unknown");
    NAMED(twill_resource_end_name, TWILL_RESOURCE_CLOSED);
    NAMED(twill_resource_end_name, TWILL_RESOURCE_IDLE);
    NAMED(twill_resource_end_name, TWILL_RESOURCE_OLD);
    NAMED(twill_resource_end_name, TWILL_RESOURCE_USED_UP);
    NAMED(twill_resource_end_name, TWILL_RESOURCE_INVALID);
    NAMED(twill_resource_end_name, TWILL_RESOURCE_BROKEN);
    NAMED(twill_resource_end_name, TWILL_RESOURCE_EVICTED);
    NAMED(twill_resource_end_name, TWILL_RESOURCE_SURPLUS);
    CHECK_STR(twill_resource_end_name((twill_resource_end)0), "unknown");
    CHECK_STR(twill_resource_end_name(TWILL_RESOURCE_END_COUNT), "unknown");
    NAMED(twill_shutdown_phase_name, TWILL_SHUTDOWN_RUNNING);
    NAMED(twill_shutdown_phase_name, TWILL_SHUTDOWN_DRAINING);
    NAMED(twill_shutdown_phase_name, TWILL_SHUTDOWN_CANCELLING);
    NAMED(twill_shutdown_phase_name, TWILL_SHUTDOWN_HOOKS);
    NAMED(twill_shutdown_phase_name, TWILL_SHUTDOWN_STOPPED);
    CHECK_STR(twill_shutdown_phase_name((twill_shutdown_phase)5), "unknown");
    NAMED(twill_timeout_source_name, TWILL_FROM_NOTHING);
    NAMED(twill_timeout_source_name, TWILL_FROM_PRIMARY);
    NAMED(twill_timeout_source_name, TWILL_FROM_HEDGE);
    NAMED(twill_timeout_source_name, TWILL_FROM_FALLBACK);
    NAMED(twill_timeout_source_name, TWILL_FROM_VALUE);
    CHECK_STR(twill_timeout_source_name((twill_timeout_source)5), "unknown");
    NAMED(twill_event_name, TWILL_EVENT_QUEUED);
    NAMED(twill_event_name, TWILL_EVENT_STARTED);
    NAMED(twill_event_name, TWILL_EVENT_ENDED);
    NAMED(twill_event_name, TWILL_EVENT_STUCK);
    NAMED(twill_event_name, TWILL_EVENT_REFUSED);
    CHECK_STR(twill_event_name((twill_event)5), "unknown");
}

TEST(a_dropped_task_has_its_number)
{
    twill_pool *pool = pool_of(&(twill_pool_options){
        .run.workers = 1, .capacity = 2, .overflow = TWILL_OVERFLOW_DROP_INCOMING});

    dropped_index = SIZE_MAX;
    CHECK_EQ(twill_pool_pause(pool), TWILL_OK);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(twill_pool_submit(pool, number_of, NULL, NULL, NULL), TWILL_OK);
    CHECK_EQ(twill_pool_submit(pool, number_of, NULL, NULL,
                               &(twill_submit_options){.drop = notes_the_drop}),
             TWILL_DROPPED);
    CHECK_EQ(dropped_index, 2);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

HARNESS_MAIN
