/* twill_pipeline, push-driven; faults, hooks, nesting, threads that end, forks. */
#define HARNESS_FAULTS
#include "harness.h"

#define TWILL_IMPLEMENTATION
#include "twill_pipeline.h"
#include "twill_worker_pool.h"

enum { MOST = 4096 };

typedef struct tally {
    atomic_int seen[MOST], dropped[MOST];
    atomic_int running, gate, told, ran, late;
    int last, order_errors;
    int end_at; /* the item whose call ends its thread; -1: none */
    bool caller_too;
    twill_pipeline *pipe;
    twill_status answer;
    size_t n[MOST], batches;
} tally;

static tally t;

static void tally_init(void)
{
    memset(&t, 0, sizeof t);
    t.last = -1;
    t.end_at = -1;
}

static int pass_on(const void *in, void *out, const twill_task *task)
{
    (void)task;
    if (out)
        memcpy(out, in, sizeof(int));
    atomic_fetch_add(&t.ran, 1);
    return 0;
}

static int note(const void *in, void *out, const twill_task *task)
{
    int i = *(const int *)in;
    (void)out;
    (void)task;
    atomic_fetch_add(&t.seen[i], 1);
    t.order_errors += i <= t.last;
    t.last = i;
    return 0;
}

static void note_drop(void *item, twill_status why, const twill_task *task)
{
    CHECK(why == TWILL_CANCELLED || why == TWILL_FAILED);
    CHECK_EQ(task->worker, UINT_MAX);
    atomic_fetch_add(&t.dropped[*(int *)item], 1);
}

/* Blocks until the gate is open, or its token fires. */
static int gated(const void *in, void *out, const twill_task *task)
{
    atomic_fetch_add(&t.running, 1);
    while (!atomic_load(&t.gate) && !twill_task_cancelled(task))
        twill_sleep(twill_within(TWILL_US(50)));
    atomic_fetch_sub(&t.running, 1);
    return pass_on(in, out, task);
}

static void wait_running(int n)
{
    while (atomic_load(&t.running) < n)
        twill_sleep(twill_within(TWILL_US(50)));
}

#define WORK(...)                                                       \
    {                                                                   \
        .out_size = sizeof(int), .drop = note_drop, .work = __VA_ARGS__ \
    }
#define SINK()                                                        \
    {                                                                 \
        .kind = TWILL_STAGE_IN_ORDER, .drop = note_drop, .work = note \
    }

static twill_pipeline *make(const twill_stage *stages, size_t n,
                            const twill_pipeline_options *options)
{
    twill_pipeline *p = NULL;
    CHECK_EQ(twill_pipeline_create(&p, sizeof(int), stages, n, options), TWILL_OK);
    t.pipe = p;
    return p;
}

static twill_pipeline_report figures(twill_pipeline *p)
{
    twill_pipeline_report r;
    twill_pipeline_get_stats(p, &r, NULL);
    return r;
}

static void push_all(twill_pipeline *p, int from, int to)
{
    for (int i = from; i < to; i++)
        CHECK_EQ(twill_pipeline_push(p, &i), TWILL_OK);
}

static void check_each(int n)
{
    for (int i = 0; i < n; i++)
        CHECK_EQ(atomic_load(&t.seen[i]) + atomic_load(&t.dropped[i]), 1);
}

/* ---- push, close, join ---- */

TEST(pushed_items_come_out_in_order)
{
    const twill_stage stages[] = {WORK(pass_on, .workers = 3), WORK(pass_on), SINK()};
    for (size_t tokens = 0; tokens < 5; tokens++) {
        tally_init();
        twill_pipeline *p = make(stages, 3, &(twill_pipeline_options){.tokens = tokens});
        push_all(p, 0, 1000);
        CHECK_EQ(twill_pipeline_join(p), TWILL_OK);
        CHECK_EQ(t.order_errors, 0);
        CHECK_EQ(t.last, 999);
        CHECK_EQ(figures(p).run.done, 1000);
        CHECK_EQ(twill_pipeline_join(p), TWILL_OK); /* again: the same */
        CHECK_EQ(twill_pipeline_close(p), TWILL_CLOSED);
        CHECK_EQ(twill_pipeline_cancel(p), TWILL_OK);
        CHECK_EQ(twill_pipeline_push(p, &t.last), TWILL_CLOSED);
        CHECK_EQ(twill_pipeline_destroy(p), TWILL_OK);
    }
}

TEST(work_goes_on_without_a_join)
{
    const twill_stage stages[] = {WORK(pass_on), SINK()};
    tally_init();
    twill_pipeline *p = make(stages, 2, &(twill_pipeline_options){.run.workers = 1});
    push_all(p, 0, 2);
    while (figures(p).run.done < 2)
        twill_sleep(twill_within(TWILL_US(100)));
    CHECK_EQ(twill_pipeline_join(p), TWILL_OK);
    CHECK_EQ(twill_pipeline_destroy(p), TWILL_OK);
}

TEST(full_timeout_cancelled)
{
    const twill_stage stages[] = {WORK(gated, .workers = 2), SINK()};
    twill_cancel cancel = {{0}};
    int item = 2;
    tally_init();
    twill_pipeline *p = make(stages, 2, &(twill_pipeline_options){.tokens = 2});
    push_all(p, 0, 2);
    wait_running(2);
    CHECK_EQ(twill_pipeline_try_push(p, &item), TWILL_FULL);
    CHECK_EQ(twill_pipeline_push_until(p, &item, twill_within(TWILL_MS(5))), TWILL_TIMEOUT);
    twill_cancel_fire(&cancel, 1);
    CHECK_EQ(twill_pipeline_push_until(p, &item, twill_until_cancelled(&cancel)), TWILL_CANCELLED);
    CHECK_EQ(twill_pipeline_join_until(p, twill_within(TWILL_MS(5))), TWILL_TIMEOUT);
    CHECK_EQ(twill_pipeline_try_push(p, &item), TWILL_CLOSED); /* join has closed it */
    atomic_store(&t.gate, 1);
    CHECK_EQ(twill_pipeline_join(p), TWILL_OK);
    CHECK_EQ(figures(p).run.done, 2);
    CHECK_EQ(twill_pipeline_destroy(p), TWILL_OK);
    CHECK_EQ(twill_pipeline_push(NULL, &item), TWILL_INVALID);
    CHECK_EQ(twill_pipeline_close(NULL), TWILL_INVALID);
    CHECK_EQ(twill_pipeline_cancel(NULL), TWILL_INVALID);
    CHECK_EQ(twill_pipeline_join(NULL), TWILL_INVALID);
    CHECK_EQ(twill_pipeline_destroy(NULL), TWILL_OK);
}

static int fails_at_5(const void *in, void *out, const twill_task *task)
{
    return *(const int *)in == 5 ? 55 : pass_on(in, out, task);
}

TEST(after_a_failure_push_answers_closed)
{
    const twill_stage stages[] = {WORK(fails_at_5, .workers = 2), SINK()};
    twill_status status = TWILL_OK;
    int i;
    tally_init();
    twill_pipeline *p = make(stages, 2, NULL);
    for (i = 0; i < MOST && status == TWILL_OK; i++)
        status = twill_pipeline_push(p, &i);
    CHECK_EQ(status, TWILL_CLOSED);
    CHECK_EQ(twill_pipeline_join(p), TWILL_FAILED);
    CHECK_EQ(figures(p).run.first_error.index, 5);
    CHECK_EQ(figures(p).run.first_error.code, 55);
    CHECK_EQ(figures(p).failed_stage, 0);
    CHECK_EQ(t.last, 4);
    CHECK_EQ(twill_pipeline_destroy(p), TWILL_OK);
    for (int k = 0; k < i; k++) /* the pushed ones but for 5, which work has seen */
        CHECK(atomic_load(&t.seen[k]) + atomic_load(&t.dropped[k]) <= 1);
}

typedef struct pusher {
    twill__thrd thread;
    int from, count, in;
    twill_status status;
} pusher;

static void push_many(void *pusher_)
{
    pusher *me = pusher_;
    for (int i = me->from; i < me->from + me->count && me->status == TWILL_OK; i++) {
        me->status = twill_pipeline_push(t.pipe, &i);
        me->in += me->status == TWILL_OK;
    }
}

static void start(pusher *me, int from, int count)
{
    memset(me, 0, sizeof *me);
    me->from = from;
    me->count = count;
    me->thread.fn = push_many;
    me->thread.arg = me;
    me->thread.cpu = UINT_MAX;
    CHECK(twill__thread_start(&me->thread));
}

TEST(many_pushers)
{
    const twill_stage stages[] = {WORK(pass_on, .workers = 3),
                                  {.work = pass_on, .kind = TWILL_STAGE_SERIAL}};
    pusher pushers[4];
    for (int round = 0; round < 10; round++) {
        tally_init();
        twill_pipeline *p = make(stages, 2, &(twill_pipeline_options){.tokens = 3});
        for (int k = 0; k < 4; k++)
            start(&pushers[k], k * 500, 500);
        for (int k = 0; k < 4; k++)
            twill__thread_join(&pushers[k].thread);
        CHECK_EQ(twill_pipeline_join(p), TWILL_OK);
        CHECK_EQ(figures(p).run.total, 2000);
        CHECK_EQ(figures(p).run.done, 2000);
        CHECK(figures(p).in_flight_peak <= 3);
        CHECK_EQ(twill_pipeline_destroy(p), TWILL_OK);
    }
}

TEST(cancel_close_and_destroy_race_with_pushers)
{
    const twill_stage stages[] = {WORK(pass_on, .workers = 2), SINK()};
    pusher pushers[3];
    for (int round = 0; round < 60; round++) {
        twill_pipeline_report r;
        int in = 0, ended = 0;
        tally_init();
        twill_pipeline *p = make(stages, 2, &(twill_pipeline_options){.tokens = 2, .report = &r});
        for (int k = 0; k < 3; k++)
            start(&pushers[k], k * 1000, 1000);
        twill_sleep(twill_within(TWILL_US(20 * (round % 10))));
        if (round % 3 == 0)
            CHECK_EQ(twill_pipeline_cancel(p), TWILL_OK);
        else if (round % 3 == 1)
            CHECK_EQ(twill_pipeline_close(p), TWILL_OK);
        else
            CHECK(twill_pipeline_join_until(p, twill_within(TWILL_US(10))) <= TWILL_TIMEOUT);
        for (int k = 0; k < 3; k++) {
            twill__thread_join(&pushers[k].thread);
            CHECK(pushers[k].status == TWILL_CLOSED || pushers[k].in == 1000);
            in += pushers[k].in;
        }
        CHECK_EQ(twill_pipeline_destroy(p), TWILL_OK);
        CHECK_EQ(r.run.total, in);
        CHECK_EQ(r.run.total, r.run.done + r.run.failed + r.run.skipped);
        for (int i = 0; i < 3000; i++) {
            int times = atomic_load(&t.seen[i]) + atomic_load(&t.dropped[i]);
            CHECK(times <= 1);
            ended += times;
        }
        CHECK_EQ(ended, in);
    }
}

TEST(cancel_drops_what_has_not_started)
{
    const twill_stage stages[] = {WORK(gated, .workers = 2), SINK()};
    tally_init();
    twill_pipeline *p = make(stages, 2, &(twill_pipeline_options){.tokens = 9});
    push_all(p, 0, 9);
    wait_running(2);
    CHECK_EQ(twill_pipeline_cancel(p), TWILL_OK); /* the gated ones hear it */
    CHECK_EQ(twill_pipeline_cancel(p), TWILL_OK);
    CHECK_EQ(twill_pipeline_join(p), TWILL_CANCELLED);
    CHECK_EQ(figures(p).run.skipped, 9);
    check_each(9);
    CHECK_EQ(twill_pipeline_destroy(p), TWILL_OK);
}

TEST(destroy_drops_what_is_inside)
{
    const twill_stage stages[] = {WORK(pass_on),
                                  {.batch_max = 100,
                                   .linger = TWILL_FOREVER,
                                   .drop = note_drop,
                                   .batch = (twill_stage_batch_fn *)NULL}};
    int batch_never(const void *items, size_t n, const twill_task *task);
    twill_stage both[2] = {stages[0], stages[1]};
    both[1].batch = batch_never;
    tally_init();
    twill_pipeline *p = make(both, 2, &(twill_pipeline_options){.tokens = 200});
    push_all(p, 0, 50);
    CHECK_EQ(twill_pipeline_destroy(p), TWILL_OK);
    check_each(50);
}

int batch_never(const void *items, size_t n, const twill_task *task)
{
    (void)items;
    (void)n;
    (void)task;
    CHECK(false);
    return 0;
}

TEST(a_token_wakes_an_idle_pipeline)
{
    twill_stage stages[2] = {
        WORK(pass_on),
        {.batch = batch_never, .batch_max = 100, .linger = TWILL_FOREVER, .drop = note_drop}};
    twill_cancel cancel = {{0}};
    tally_init();
    twill_pipeline *p =
        make(stages, 2, &(twill_pipeline_options){.tokens = 200, .run.until.cancel = &cancel});
    push_all(p, 0, 20);
    while (atomic_load(&t.ran) < 20)
        twill_sleep(twill_within(TWILL_US(50)));
    twill_cancel_fire(&cancel, 1);
    while (figures(p).run.skipped < 20) /* by its own threads */
        twill_sleep(twill_within(TWILL_US(50)));
    CHECK_EQ(twill_pipeline_push(p, &t.last), TWILL_CLOSED);
    CHECK_EQ(twill_pipeline_join(p), TWILL_CANCELLED);
    CHECK_EQ(twill_pipeline_destroy(p), TWILL_OK);
    twill_cancel_detach(&cancel);
}

static bool a_deadline_comes_when_idle(twill_ns within)
{
    twill_stage stages[2] = {
        WORK(pass_on),
        {.batch = batch_never, .batch_max = 100, .linger = TWILL_FOREVER, .drop = note_drop}};
    tally_init();
    twill_pipeline *p = make(
        stages, 2, &(twill_pipeline_options){.tokens = 200, .run.until = twill_within(within)});
    int i = 3;
    bool in_time = twill_pipeline_push(p, &i) == TWILL_OK;
    while (in_time && figures(p).run.skipped < 1)
        twill_sleep(twill_within(TWILL_MS(1)));
    CHECK_EQ(twill_pipeline_push(p, &i), TWILL_CLOSED);
    CHECK_EQ(twill_pipeline_join(p), TWILL_TIMEOUT);
    CHECK_EQ(twill_pipeline_destroy(p), TWILL_OK);
    return in_time;
}

TEST(a_deadline_ends_an_idle_pipeline)
{
    CHECK(test_in_time(TWILL_MS(20), a_deadline_comes_when_idle));
}

/* ---- both phases ---- */

TEST(stop_drains_or_cancels)
{
    const twill_stage stages[] = {WORK(gated, .workers = 2), SINK()};
    twill_stopped stopped;
    tally_init();
    twill_pipeline *p = make(stages, 2, NULL);
    push_all(p, 0, 6);
    atomic_store(&t.gate, 1);
    CHECK_EQ(twill_pipeline_stop(p, twill_within(TWILL_SEC(100)), twill_within(TWILL_SEC(100)),
                                 &stopped),
             TWILL_OK);
    CHECK_EQ(stopped.cancelled, 0);
    CHECK_EQ(stopped.stuck, 0);
    CHECK_EQ(figures(p).run.done, 6);
    CHECK_EQ(twill_pipeline_destroy(p), TWILL_OK);
    /* a drain that is over at once */
    tally_init();
    p = make(stages, 2, NULL);
    push_all(p, 0, 6);
    wait_running(2);
    CHECK_EQ(twill_pipeline_stop(p, twill_within(0), twill_within(TWILL_SEC(100)), &stopped),
             TWILL_OK);
    CHECK_EQ(stopped.cancelled, 6);
    CHECK_EQ(twill_pipeline_join(p), TWILL_CANCELLED);
    CHECK_EQ(twill_pipeline_destroy(p), TWILL_OK);
}

static int deaf(const void *in, void *out, const twill_task *task)
{
    (void)task;
    atomic_fetch_add(&t.running, 1);
    while (!atomic_load(&t.gate))
        twill_sleep(twill_within(TWILL_US(50)));
    atomic_fetch_sub(&t.running, 1);
    return pass_on(in, out, task);
}

TEST(stop_says_what_is_stuck)
{
    const twill_stage stages[] = {WORK(deaf, .workers = 2), SINK()};
    twill_stopped stopped;
    tally_init();
    twill_pipeline *p = make(stages, 2, NULL);
    push_all(p, 0, 4);
    wait_running(2);
    CHECK_EQ(twill_pipeline_stop(p, twill_within(0), twill_within(TWILL_MS(10)), &stopped),
             TWILL_TIMEOUT);
    CHECK_EQ(stopped.stuck, 2);
    atomic_store(&t.gate, 1);
    CHECK_EQ(
        twill_pipeline_stop(p, twill_within(TWILL_SEC(100)), twill_within(TWILL_SEC(100)), NULL),
        TWILL_OK);
    CHECK_EQ(twill_pipeline_destroy(p), TWILL_OK);
    check_each(4);
}

/* ---- from inside ---- */

static int asks_inside(const void *in, void *out, const twill_task *task)
{
    twill_stopped stopped;
    int bad = 0;
    bad += twill_pipeline_join(t.pipe) != TWILL_DEADLOCK;
    bad += twill_pipeline_destroy(t.pipe) != TWILL_DEADLOCK;
    bad += twill_pipeline_stop(t.pipe, task->until, task->until, &stopped) != TWILL_DEADLOCK;
    atomic_store(&t.told, 1);
    return bad ? bad : pass_on(in, out, task);
}

TEST(waiting_for_oneself_is_a_deadlock)
{
    const twill_stage stages[] = {WORK(asks_inside), SINK()};
    tally_init();
    twill_pipeline *p = make(stages, 2, NULL);
    push_all(p, 0, 1);
    while (!atomic_load(&t.told))
        twill_sleep(twill_within(TWILL_US(50)));
    CHECK_EQ(twill_pipeline_join(p), TWILL_OK);
    CHECK_EQ(twill_pipeline_destroy(p), TWILL_OK);
}

/* A stage that pushes into its own pipeline. */
static int pushes_more(const void *in, void *out, const twill_task *task)
{
    int i = *(const int *)in, more = i + 100;
    (void)task;
    if (i < 100) {
        twill_status status = twill_pipeline_push(t.pipe, &more);
        if (status == TWILL_DEADLOCK)
            atomic_fetch_add(&t.late, 1);
        else if (status != TWILL_OK)
            return 1;
    }
    return pass_on(in, out, task);
}

TEST(a_stage_may_push_while_there_is_room)
{
    const twill_stage stages[] = {WORK(pushes_more, .workers = 2)};
    for (size_t tokens = 1; tokens < 6; tokens++)
        for (unsigned workers = 1; workers < 4; workers++) {
            int in = 0;
            tally_init();
            twill_pipeline *p = make(
                stages, 1, &(twill_pipeline_options){.tokens = tokens, .run.workers = workers});
            for (int i = 0; i < 50; i++)
                in += twill_pipeline_push(p, &i) == TWILL_OK;
            CHECK_EQ(in, 50);
            while (figures(p).run.done < 100 - (size_t)atomic_load(&t.late))
                twill_sleep(twill_within(TWILL_US(50)));
            CHECK_EQ(twill_pipeline_join(p), TWILL_OK);
            if (tokens == 1)
                CHECK_EQ(atomic_load(&t.late), 50);
            CHECK_EQ(figures(p).run.total, 100 - (size_t)atomic_load(&t.late));
            CHECK_EQ(twill_pipeline_destroy(p), TWILL_OK);
        }
}

/* All tokens are out, but a batch that lingers brings some back: the push inside waits for it. */
static int pushes_late(const void *in, void *out, const twill_task *task)
{
    if (*(const int *)in == 2) {
        int more = 100;
        while (figures(t.pipe).run.total < 3) /* all tokens are out */
            twill_sleep(twill_within(TWILL_US(50)));
        t.answer = twill_pipeline_push(t.pipe, &more);
        atomic_store(&t.told, 1);
    }
    return pass_on(in, out, task);
}

static int note_size(const void *items, size_t n, const twill_task *task);

/* The end of the run would bring back none that a push could have. */
TEST(a_push_inside_waits_for_a_batch_that_is_due)
{
    const twill_stage stages[] = {
        WORK(pushes_late, .workers = 1),
        {.batch = note_size, .kind = TWILL_STAGE_SERIAL, .batch_max = 8, .linger = TWILL_MS(5)}};
    for (int ends = 0; ends < 2; ends++) {
        tally_init();
        twill_pipeline *p =
            make(stages, 2,
                 &(twill_pipeline_options){.tokens = 3,
                                           .run.workers = 2,
                                           .run.until = ends ? twill_within(TWILL_SEC(3600))
                                                             : (twill_until){0, NULL}});
        push_all(p, 0, 3);
        while (!atomic_load(&t.told))
            twill_sleep(twill_within(TWILL_US(50)));
        CHECK_EQ(twill_pipeline_join(p), TWILL_OK);
        CHECK_EQ(t.answer, TWILL_OK);
        CHECK_EQ(figures(p).run.done, 4);
        CHECK_EQ(twill_pipeline_destroy(p), TWILL_OK);
    }
}

/* One worker, in a burst of two: what the first of them has done is out of it before the push of
   the second is told that nobody is left. */
static int last_pushes(const void *in, void *out, const twill_task *task)
{
    int i = *(const int *)in, more = 100;
    (void)out;
    (void)task;
    if (i == 40) {
        while (!atomic_load(&t.gate))
            twill_sleep(twill_within(TWILL_US(50)));
    }
    if (i == 43) {
        t.answer = twill_pipeline_push(t.pipe, &more);
        if (twill__thread()->team) /* else it is a pusher that helps: its item may be needed */
            CHECK_EQ(t.answer, TWILL_OK);
        atomic_store(&t.told, 1);
    }
    return 0;
}

static void push_one_more(void *unused)
{
    (void)unused;
    push_all(t.pipe, 45, 46);
}

TEST(a_push_inside_counts_what_its_burst_has_done)
{
    const twill_stage stages[] = {{.work = last_pushes, .kind = TWILL_STAGE_IN_ORDER}};
    twill__thrd thread[2];
    tally_init();
    twill_pipeline *p = make(stages, 1, &(twill_pipeline_options){.tokens = 5, .run.workers = 1});
    for (int i = 0; i < 45; i++) /* 40 waits, and 41 to 44 behind it; we do not help */
        while (twill_pipeline_try_push(p, &i) == TWILL_FULL)
            twill_sleep(twill_within(TWILL_US(50)));
    for (int k = 0; k < 2; k++) {
        thread[k] = (twill__thrd){.fn = push_one_more, .cpu = UINT_MAX};
        CHECK(twill__thread_start(&thread[k]));
    }
    twill_sleep(twill_within(TWILL_MS(5))); /* more likely than not: they wait for tokens */
    atomic_store(&t.gate, 1);
    for (int k = 0; k < 2; k++)
        twill__thread_join(&thread[k]);
    while (!atomic_load(&t.told))
        twill_sleep(twill_within(TWILL_US(50)));
    CHECK_EQ(twill_pipeline_join(p), TWILL_OK);
    CHECK_EQ(figures(p).run.done, 47 + (t.answer == TWILL_OK));
    CHECK_EQ(twill_pipeline_destroy(p), TWILL_OK);
}

/* No thread could be started: who helps is alone, and a push of its callback can never end. */
static int pushes_if_it_can(const void *in, void *out, const twill_task *task)
{
    int i = *(const int *)in, more = i + 100;
    if (i < 100) {
        twill_status status = twill_pipeline_push(t.pipe, &more);
        atomic_fetch_add(status == TWILL_OK ? &t.told : &t.late, 1);
        CHECK(status == TWILL_OK || status == TWILL_DEADLOCK || status == TWILL_CLOSED);
    }
    return pass_on(in, out, task);
}

TEST(a_push_inside_without_threads)
{
    const twill_stage stages[] = {WORK(pushes_if_it_can, .workers = 2), SINK()};
    tally_init();
    faults_fail_thread(1);
    twill_pipeline *p = make(stages, 2, &(twill_pipeline_options){.tokens = 2});
    push_all(p, 0, 10);
    CHECK_EQ(twill_pipeline_join(p), TWILL_OK);
    CHECK(atomic_load(&t.late) > 0);
    CHECK_EQ(figures(p).run.done, 10 + (size_t)atomic_load(&t.told));
    CHECK_EQ(twill_pipeline_destroy(p), TWILL_OK);
}

/* A caller helps no longer than it waits, however much there is to do. */
static int naps(const void *in, void *out, const twill_task *task)
{
    twill_sleep(twill_within(TWILL_MS(20)));
    return pass_on(in, out, task);
}

TEST(who_helps_keeps_its_own_time)
{
    enum { N = 2000 };
    const twill_stage stages[] = {WORK(naps, .kind = TWILL_STAGE_SERIAL)};
    for (int helpers = 0; helpers < 2; helpers++) { /* also where the joiner is alone */
        twill_stopped stopped;
        tally_init();
        faults_fail_thread(helpers ? 0 : 1);
        twill_pipeline *p =
            make(stages, 1, &(twill_pipeline_options){.tokens = N, .run.workers = 2});
        faults_fail_thread(0);
        push_all(p, 0, N);
        CHECK_EQ(twill_pipeline_join_until(p, twill_within(TWILL_MS(10))), TWILL_TIMEOUT);
        CHECK(figures(p).run.done < N / 2);
        CHECK_EQ(twill_pipeline_stop(p, twill_within(TWILL_MS(10)), twill_within(TWILL_SEC(50)),
                                     &stopped),
                 TWILL_OK);
        CHECK(stopped.cancelled > 0);
        CHECK_EQ(figures(p).run.total, N);
        CHECK_EQ(twill_pipeline_destroy(p), TWILL_OK);
    }
}

/* ---- linger ---- */

static int note_size(const void *items, size_t n, const twill_task *task)
{
    (void)items;
    (void)task;
    t.n[t.batches++] = n;
    atomic_fetch_add(&t.ran, (int)n);
    return 0;
}

/* False: the machine needed the whole linger to push what belongs together. */
static bool batches_as_pushed(twill_ns linger)
{
    const twill_stage stages[] = {
        {.batch = note_size, .kind = TWILL_STAGE_SERIAL, .batch_max = 10, .linger = linger}};
    tally_init();
    twill_pipeline *p = make(stages, 1, &(twill_pipeline_options){.tokens = 100});
    twill_ns since = twill_now();
    push_all(p, 0, 3);
    bool in_time = twill_now() - since < linger;
    while (atomic_load(&t.ran) < 3)
        twill_sleep(twill_within(TWILL_US(200)));
    CHECK(twill_now() - since >= linger);
    since = twill_now();
    push_all(p, 0, 10); /* full: at once */
    in_time = in_time && twill_now() - since < linger;
    while (atomic_load(&t.ran) < 13)
        twill_sleep(twill_within(TWILL_US(200)));
    since = twill_now();
    push_all(p, 0, 4); /* the close flushes */
    CHECK_EQ(twill_pipeline_join(p), TWILL_OK);
    in_time = in_time && twill_now() - since < linger;
    if (in_time) {
        CHECK_EQ(t.batches, 3);
        CHECK_EQ(t.n[0], 3);
        CHECK_EQ(t.n[1], 10);
        CHECK_EQ(t.n[2], 4);
    }
    CHECK_EQ(twill_pipeline_destroy(p), TWILL_OK);
    return in_time;
}

TEST(linger_flushes_a_batch)
{
    CHECK(test_in_time(TWILL_MS(20), batches_as_pushed));
}

TEST(linger_without_threads_is_watched_by_who_joins)
{
    const twill_stage stages[] = {
        WORK(pass_on),
        {.batch = note_size, .kind = TWILL_STAGE_SERIAL, .batch_max = 10, .linger = TWILL_MS(5)}};
    tally_init();
    faults_fail_thread(1);
    twill_pipeline *p = make(stages, 2, &(twill_pipeline_options){.tokens = 6});
    push_all(p, 0, 20); /* push helps, and looks after the batch */
    CHECK_EQ(twill_pipeline_join(p), TWILL_OK);
    CHECK_EQ(atomic_load(&t.ran), 40);
    CHECK(figures(p).run.flags & TWILL_REPORT_DEGRADED);
    CHECK_EQ(twill_pipeline_destroy(p), TWILL_OK);
}

/* ---- faults ---- */

static int numbers_to_100(void *out, const twill_task *task)
{
    if (task->index == 100)
        return twill_task_stop(task);
    *(int *)out = (int)task->index;
    return 0;
}

TEST(threads_that_cannot_be_started)
{
    const twill_stage stages[] = {WORK(pass_on, .workers = 3), SINK()};
    for (unsigned k = 1; k < 6; k++)
        for (int strict = 0; strict < 2; strict++) {
            twill_pipeline_report r;
            twill_pipeline *p;
            twill_pipeline_options o = {.report = &r, .run.strict = strict};
            tally_init();
            faults_fail_thread(k);
            twill_status status = twill_pipeline_run(numbers_to_100, sizeof(int), stages, 2, &o);
            faults_fail_thread(0);
            CHECK_EQ(status, strict && k <= 3 ? TWILL_NO_THREAD : TWILL_OK);
            if (status == TWILL_OK) {
                CHECK_EQ(t.last, 99);
                CHECK_EQ(!!(r.run.flags & TWILL_REPORT_DEGRADED), k <= 3);
                CHECK_EQ(r.run.workers_started, k <= 3 ? k : 4);
            } else {
                CHECK_EQ(t.last, -1);
                CHECK_EQ(atomic_load(&t.ran), 0);
                CHECK_EQ(r.run.status, TWILL_NO_THREAD);
            }
            tally_init();
            faults_fail_thread(k);
            status = twill_pipeline_create(&p, sizeof(int), stages, 2, &o);
            faults_fail_thread(0);
            CHECK_EQ(status, strict && k <= 4 ? TWILL_NO_THREAD : TWILL_OK);
            if (status != TWILL_OK) {
                CHECK_PTR(p, NULL);
                continue;
            }
            push_all(p, 0, 100);
            CHECK_EQ(twill_pipeline_join(p), TWILL_OK);
            CHECK_EQ(t.last, 99);
            CHECK_EQ(twill_pipeline_destroy(p), TWILL_OK);
        }
}

TEST(memory_that_is_not_there)
{
    const twill_stage stages[] = {WORK(pass_on, .workers = 3), SINK()};
    long live = faults_live();
    for (unsigned k = 1; k < 4; k++) {
        twill_pipeline_report r;
        twill_pipeline *p;
        twill_status status;
        tally_init();
        faults_fail_alloc(k);
        status = twill_pipeline_run(numbers_to_100, sizeof(int), stages, 2,
                                    &(twill_pipeline_options){.report = &r});
        faults_fail_alloc(0);
        CHECK_EQ(status, k == 1 ? TWILL_NO_MEMORY : TWILL_OK);
        CHECK_EQ(r.run.status, status);
        faults_fail_alloc(k);
        status = twill_pipeline_create(&p, sizeof(int), stages, 2, NULL);
        CHECK_EQ(status, k == 1 ? TWILL_NO_MEMORY : TWILL_OK);
        if (status == TWILL_OK) {
            push_all(p, 0, 50);
            CHECK_EQ(twill_pipeline_join(p), TWILL_OK);
            CHECK_EQ(twill_pipeline_destroy(p), TWILL_OK);
        }
        faults_fail_alloc(0);
    }
    CHECK_EQ(faults_live(), live);
}

/* ---- hooks ---- */

static atomic_int starts, stops;
static atomic_int start_fails; /* so many from the first on */

static int start_hook(void **state, const twill_task *task)
{
    int k = atomic_fetch_add(&starts, 1);
    *state = (void *)((uintptr_t)task->worker + 1);
    return k < atomic_load(&start_fails) ? 31 : 0;
}

static void stop_hook(void *state, const twill_task *task)
{
    CHECK_EQ((uintptr_t)state, (uintptr_t)task->worker + 1);
    atomic_fetch_add(&stops, 1);
}

static int with_state(const void *in, void *out, const twill_task *task)
{
    if ((uintptr_t)task->worker_state != (uintptr_t)task->worker + 1)
        return 1;
    twill_sleep(twill_within(TWILL_US(100)));
    return pass_on(in, out, task);
}

TEST(worker_hooks)
{
    const twill_stage stages[] = {WORK(with_state, .workers = 3), SINK()};
    for (int fails = 0; fails < 5; fails++) {
        twill_pipeline_report r;
        twill_pipeline_options o = {
            .report = &r, .run.worker_start = start_hook, .run.worker_stop = stop_hook};
        tally_init();
        atomic_store(&starts, 0);
        atomic_store(&stops, 0);
        atomic_store(&start_fails, fails);
        twill_status status = twill_pipeline_run(numbers_to_100, sizeof(int), stages, 2, &o);
        if (fails == 4) { /* nobody could start */
            CHECK_EQ(status, TWILL_FAILED);
            CHECK_EQ(r.run.first_error.index, SIZE_MAX);
            CHECK_EQ(r.run.first_error.code, 31);
            CHECK_EQ(r.run.total, 0);
            CHECK_EQ(atomic_load(&stops), 0);
        } else {
            CHECK_EQ(status, TWILL_OK);
            CHECK_EQ(t.last, 99);
            CHECK_EQ(atomic_load(&stops), atomic_load(&starts) - fails);
            CHECK(atomic_load(&stops) >= 1);
        }
    }
    /* pushed: what is inside is dropped */
    tally_init();
    atomic_store(&start_fails, INT_MAX);
    twill_pipeline *p =
        make(stages, 2, &(twill_pipeline_options){.tokens = 8, .run.worker_start = start_hook});
    int in = 0;
    for (int i = 0; i < 20; i++)
        in += twill_pipeline_push(p, &i) == TWILL_OK;
    CHECK_EQ(twill_pipeline_join(p), TWILL_FAILED);
    CHECK_EQ(figures(p).run.skipped, in);
    CHECK_EQ(twill_pipeline_destroy(p), TWILL_OK);
    for (int i = 0; i < in; i++)
        CHECK_EQ(atomic_load(&t.dropped[i]), 1);
}

/* ---- nesting, pools ---- */

static int inner_sum(const void *in, void *out, const twill_task *task)
{
    *(long *)task->context += *(const int *)in;
    (void)out;
    return 0;
}

static twill_pool *the_pool;

static int runs_a_pipeline(const void *in, void *out, const twill_task *task)
{
    long sum = 0;
    const twill_stage stages[] = {
        WORK(pass_on, .workers = 2),
        {.work = inner_sum, .kind = TWILL_STAGE_IN_ORDER, .context = &sum}};
    (void)task;
    if (twill_pipeline_run(numbers_to_100, sizeof(int), stages, 2,
                           &(twill_pipeline_options){.run.pool = the_pool}) != TWILL_OK)
        return 1;
    memcpy(out, in, sizeof(int));
    return sum != 4950;
}

TEST(pipelines_in_pipelines)
{
    const twill_stage stages[] = {WORK(runs_a_pipeline, .workers = 3), SINK()};
    for (unsigned threads = 0; threads < 4; threads++) {
        twill_pipeline_report r;
        tally_init();
        the_pool = NULL;
        if (threads)
            CHECK_EQ(twill_pool_create(&the_pool, &(twill_pool_options){.run.workers = threads}),
                     TWILL_OK);
        CHECK_EQ(twill_pipeline_run(numbers_to_100, sizeof(int), stages, 2,
                                    &(twill_pipeline_options){.run.pool = the_pool, .report = &r}),
                 TWILL_OK);
        CHECK_EQ(r.run.done, 100);
        CHECK_EQ(t.order_errors, 0);
        CHECK_EQ(twill_pool_destroy(the_pool), TWILL_OK);
    }
}

TEST(several_pipelines_on_a_pool_of_one)
{
    const twill_stage stages[] = {WORK(pass_on, .workers = 2),
                                  {.work = pass_on, .kind = TWILL_STAGE_IN_ORDER}};
    twill_pipeline *p[3];
    twill_pool *pool;
    tally_init();
    CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 1}), TWILL_OK);
    for (int k = 0; k < 3; k++)
        p[k] = make(stages, 2, &(twill_pipeline_options){.run.pool = pool, .tokens = 4});
    for (int i = 0; i < 300; i++)
        for (int k = 0; k < 3; k++)
            CHECK_EQ(twill_pipeline_push(p[k], &i), TWILL_OK);
    for (int k = 0; k < 3; k++)
        CHECK_EQ(twill_pipeline_join(p[k]), TWILL_OK);
    for (int k = 0; k < 3; k++) {
        CHECK_EQ(figures(p[k]).run.done, 300);
        CHECK_EQ(twill_pipeline_destroy(p[k]), TWILL_OK);
    }
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

/* ---- a callback that ends its thread ---- */

static void end_thread(void)
{
#ifdef TWILL_USE_PTHREAD
    pthread_exit(NULL);
#else
    thrd_exit(0);
#endif
}

static uint64_t main_thread;

static int ends(const void *in, void *out, const twill_task *task)
{
    int i = *(const int *)in;
    if (i == t.end_at && (t.caller_too || twill__thread_number() != main_thread))
        end_thread();
    while (i == t.end_at) { /* not here: fail, so that the test sees it */
        atomic_fetch_add(&t.late, 1);
        break;
    }
    return pass_on(in, out, task);
}

TEST(a_callback_ends_a_worker)
{
    const twill_stage stages[] = {WORK(pass_on), WORK(ends, .workers = 2), SINK()};
    for (int at = 0; at < 60; at += 7)
        for (int policy = 0; policy < 2; policy++) {
            twill_pipeline_report r;
            tally_init();
            main_thread = 0;
            t.caller_too = true;
            t.end_at = at;
            twill_pipeline *p =
                make(stages, 3,
                     &(twill_pipeline_options){.run.on_error = policy ? TWILL_ON_ERROR_COLLECT
                                                                      : TWILL_ON_ERROR_DEFAULT,
                                               .tokens = 200,
                                               .run.workers = 3});
            for (int i = 0; i < 60; i++)
                if (twill_pipeline_push(p, &i) != TWILL_OK)
                    break;
            while (figures(p).run.failed == 0) /* by a thread of its own */
                twill_sleep(twill_within(TWILL_US(100)));
            CHECK_EQ(twill_pipeline_join(p), TWILL_FAILED);
            r = figures(p);
            CHECK_EQ(r.run.first_error.index, at);
            CHECK_EQ(r.run.first_error.status, TWILL_LOST);
            CHECK_EQ(r.run.failed, 1);
            CHECK_EQ(r.run.total, r.run.done + r.run.failed + r.run.skipped);
            if (policy)
                CHECK_EQ(r.run.done, 59);
            CHECK_EQ(twill_pipeline_destroy(p), TWILL_OK);
        }
}

typedef struct lone { /* a thread whose own callback ends it */
    twill__thrd thread;
    twill_pipeline_report r;
    unsigned workers;
} lone;

static void run_alone(void *lone_)
{
    lone *me = lone_;
    const twill_stage stages[] = {WORK(pass_on), WORK(ends, .workers = 2), SINK()};
    main_thread = 0;
    (void)twill_pipeline_run(
        numbers_to_100, sizeof(int), stages, 3,
        &(twill_pipeline_options){.run.workers = me->workers, .tokens = 20, .report = &me->r});
}

TEST(a_callback_ends_the_caller)
{
    long live = faults_live();
    for (unsigned workers = 1; workers < 3; workers++)
        for (int at = 0; at < 60; at += 11) {
            lone me;
            tally_init();
            t.caller_too = true;
            t.end_at = at;
            memset(&me, 0, sizeof me);
            me.workers = workers;
            me.thread.fn = run_alone;
            me.thread.arg = &me;
            me.thread.cpu = UINT_MAX;
            CHECK(twill__thread_start(&me.thread));
            twill__thread_join(&me.thread);
            CHECK_EQ(me.r.run.status, TWILL_FAILED);
            CHECK_EQ(me.r.run.first_error.index, at);
            CHECK_EQ(me.r.run.first_error.status, TWILL_LOST);
            CHECK_EQ(me.r.run.total, me.r.run.done + me.r.run.failed + me.r.run.skipped);
            for (int i = 0; i < 100; i++)
                CHECK(atomic_load(&t.seen[i]) + atomic_load(&t.dropped[i]) <= 1);
        }
    CHECK_EQ(faults_live(), live);
}

/* A caller that helps: a push, or a join. The pipeline does not wait for it any more. */
static void push_alone(void *unused)
{
    (void)unused;
    main_thread = 0;
    push_all(t.pipe, 0, 60);
    CHECK_EQ(twill_pipeline_join(t.pipe), TWILL_OK); /* it does not return */
    CHECK(false);
}

static void stop_ends(void *state, const twill_task *task)
{
    (void)state;
    (void)task;
    if (atomic_fetch_add(&t.told, 1) == 0)
        end_thread();
}

static int start_well(void **state, const twill_task *task)
{
    (void)state;
    (void)task;
    return 0;
}

TEST(a_callback_ends_a_caller_that_helps)
{
    const twill_stage stages[] = {WORK(pass_on), WORK(ends, .workers = 2), SINK()};
    long live = faults_live();
    for (int at = 0; at <= 66; at += 11) { /* 60 and on: worker_stop, in the join */
        twill__thrd thread = {.fn = push_alone, .cpu = UINT_MAX};
        twill_pipeline_report r;
        tally_init();
        t.caller_too = true;
        t.end_at = at < 60 ? at : -1;
        faults_fail_thread(1); /* nobody else works */
        twill_pipeline *p =
            make(stages, 3,
                 &(twill_pipeline_options){.tokens = at < 33 ? 5 : 100,
                                           .run.worker_start = start_well,
                                           .run.worker_stop = at < 60 ? NULL : stop_ends,
                                           .run.workers = 3});
        faults_fail_thread(0);
        CHECK(twill__thread_start(&thread));
        twill__thread_join(&thread);
        CHECK_EQ(twill_pipeline_join(p), at < 60 ? TWILL_FAILED : TWILL_OK);
        r = figures(p);
        CHECK_EQ(r.run.failed, at < 60);
        CHECK_EQ(r.run.total, r.run.done + r.run.failed + r.run.skipped);
        CHECK_EQ(twill_pipeline_destroy(p), TWILL_OK);
    }
    CHECK_EQ(faults_live(), live);
}

/* A batch fails, and the first dead letter of it ends its thread: none of it is called again. */
static atomic_int letters;

static int note_batch(const void *items, size_t n, const twill_task *task)
{
    (void)task;
    for (size_t k = 0; k < n; k++)
        atomic_fetch_add(&t.seen[((const int *)items)[k]], 1);
    return 7;
}

static void last_letter(size_t stage, void *in, int code, const twill_task *task)
{
    (void)in;
    (void)task;
    CHECK_EQ(stage, 0);
    CHECK_EQ(code, 7);
    if (atomic_fetch_add(&letters, 1) == 0)
        end_thread();
}

TEST(a_dead_letter_ends_its_thread)
{
    const twill_stage stages[] = {{.batch = note_batch, .batch_max = 8, .linger = TWILL_FOREVER}};
    twill_pipeline_report r;
    tally_init();
    atomic_store(&letters, 0);
    twill_pipeline *p = make(stages, 1,
                             &(twill_pipeline_options){.run.on_error = TWILL_ON_ERROR_COLLECT,
                                                       .dead_letter = last_letter,
                                                       .tokens = 32,
                                                       .run.workers = 1});
    push_all(p, 0, 16);
    while (figures(p).run.failed < 16) /* by threads of its own */
        twill_sleep(twill_within(TWILL_US(100)));
    CHECK_EQ(twill_pipeline_join(p), TWILL_FAILED);
    r = figures(p);
    CHECK_EQ(r.run.failed, 16);
    CHECK_EQ(r.run.total, 16);
    CHECK_EQ(r.run.first_error.status, TWILL_FAILED);
    CHECK_EQ(r.run.first_error.code, 7);
    check_each(16);
    CHECK_EQ(twill_pipeline_destroy(p), TWILL_OK);
}

/* worker_start ends each thread that it is called in: nobody can run anything, and it is called
   once for each number. */
static int ends_at_start(void **state, const twill_task *task)
{
    (void)state;
    (void)task;
    atomic_fetch_add(&t.told, 1);
    end_thread();
    return 0;
}

TEST(worker_start_ends_its_thread)
{
    const twill_stage stages[] = {WORK(pass_on), SINK()};
    for (unsigned workers = 1; workers < 4; workers++) {
        twill_pipeline_report r;
        int i = 0;
        tally_init();
        twill_pipeline *p =
            make(stages, 2,
                 &(twill_pipeline_options){
                     .run.workers = workers, .tokens = 40, .run.worker_start = ends_at_start});
        while (i < 30 && twill_pipeline_try_push(p, &i) == TWILL_OK)
            i++;
        for (int k = 0; figures(p).run.status == TWILL_OK && k < 20000; k++)
            twill_sleep(twill_within(TWILL_MS(1)));
        CHECK_EQ(twill_pipeline_try_push(p, &i), TWILL_CLOSED);
        CHECK_EQ(twill_pipeline_join(p), TWILL_FAILED);
        r = figures(p);
        CHECK_EQ(r.run.done, 0);
        CHECK_EQ(r.run.skipped, r.run.total);
        CHECK_EQ(r.run.first_error.index, SIZE_MAX);
        CHECK_EQ(atomic_load(&t.told), workers);
        CHECK_EQ(twill_pipeline_destroy(p), TWILL_OK);
    }
}

/* Above the cut: 0 and 1 are in one batch with 3, when 2 has failed. The batch, or the drop of what
   was above the cut, ends its thread; what it held is given back once, the room behind it, too. */
static bool ends_in_drop;

static int third_fails_last(const void *in, void *out, const twill_task *task)
{
    atomic_fetch_add(&t.running, *(const int *)in == 2);
    while (*(const int *)in == 2) {
        twill_stage_stats s[3];
        twill_pipeline_get_stats(t.pipe, NULL, s);
        if (s[1].waiting == 3)
            return 9;
        twill_sleep(twill_within(TWILL_US(50)));
    }
    return pass_on(in, out, task);
}

static int batch_below_cut(const void *items, size_t n, const twill_task *task)
{
    CHECK_EQ(n, 2);
    if (!ends_in_drop)
        end_thread();
    return twill_pipeline_emit(task, items) != TWILL_OK;
}

static void drop_above_cut(void *item, twill_status why, const twill_task *task)
{
    note_drop(item, why, task);
    CHECK_EQ(*(int *)item, 3);
    if (ends_in_drop)
        end_thread();
}

TEST(a_batch_across_the_cut_ends_its_thread)
{
    const twill_stage stages[] = {WORK(third_fails_last, .workers = 2),
                                  {.batch = batch_below_cut,
                                   .batch_max = 8,
                                   .linger = TWILL_FOREVER,
                                   .out_size = sizeof(int),
                                   .outputs_max = 1,
                                   .drop = drop_above_cut},
                                  {.work = note, .buffer = 1}};
    for (int k = 0; k < 2; k++) {
        twill_pipeline_report r;
        tally_init();
        ends_in_drop = k == 1;
        twill_pipeline *p =
            make(stages, 3, &(twill_pipeline_options){.tokens = 8, .run.workers = 2});
        push_all(p, 0, 3);
        wait_running(1);
        push_all(p, 3, 4);                 /* not in one burst with 2 */
        while (figures(p).run.skipped < 1) /* by threads of its own */
            twill_sleep(twill_within(TWILL_US(50)));
        CHECK_EQ(twill_pipeline_join(p), TWILL_FAILED);
        r = figures(p);
        CHECK_EQ(r.run.failed, k ? 1 : 3);
        CHECK_EQ(r.run.done, k ? 2 : 0);
        CHECK_EQ(r.run.first_error.status, k ? TWILL_FAILED : TWILL_LOST);
        CHECK_EQ(atomic_load(&t.dropped[3]), 1);
        CHECK_EQ(twill_pipeline_destroy(p), TWILL_OK);
    }
}

static int source_ends(void *out, const twill_task *task)
{
    if (task->index == 10)
        end_thread();
    return numbers_to_100(out, task);
}

static void run_source_alone(void *lone_)
{
    lone *me = lone_;
    const twill_stage stages[] = {WORK(pass_on), SINK()};
    (void)twill_pipeline_run(source_ends, sizeof(int), stages, 2,
                             &(twill_pipeline_options){.run.workers = 1, .report = &me->r});
}

TEST(a_source_ends_its_thread)
{
    lone me = {.thread = {.fn = run_source_alone, .arg = &me, .cpu = UINT_MAX}};
    tally_init();
    CHECK(twill__thread_start(&me.thread));
    twill__thread_join(&me.thread);
    CHECK_EQ(me.r.run.status, TWILL_FAILED);
    CHECK_EQ(me.r.run.first_error.index, 10);
    CHECK_EQ(me.r.run.first_error.status, TWILL_LOST);
    CHECK_EQ(me.r.run.failed, 1);
    CHECK_EQ(me.r.run.total, me.r.run.done + me.r.run.failed + me.r.run.skipped);
}

/* ---- two who join ---- */

static void await_joiner(void)
{
    twill_ns end = twill_now() + TWILL_SEC(100);
    bool there = false;
    while (!there && twill_now() < end) {
        twill__lock(&t.pipe->lock);
        there = t.pipe->joiners.first != NULL;
        twill__unlock(&t.pipe->lock);
        twill_sleep(twill_within(TWILL_US(50)));
    }
    CHECK(there);
}

static void await_closing(void)
{
    twill_ns end = twill_now() + TWILL_SEC(100);
    bool closing = false;
    while (!closing && twill_now() < end) {
        twill__lock(&t.pipe->lock);
        closing = t.pipe->closing;
        twill__unlock(&t.pipe->lock);
        twill_sleep(twill_within(TWILL_US(50)));
    }
    CHECK(closing);
}

static void join_alone(void *unused)
{
    (void)unused;
    t.answer = twill_pipeline_join(t.pipe);
}

static void stops_when_another_joins(void *state, const twill_task *task)
{
    (void)state;
    (void)task;
    await_joiner();
}

TEST(who_joins_while_another_sends_the_workers_home)
{
    const twill_stage stages[] = {WORK(pass_on)};
    twill__thrd thread = {.fn = join_alone, .cpu = UINT_MAX};
    tally_init();
    twill_pipeline *p =
        make(stages, 1,
             &(twill_pipeline_options){.run.workers = 1,
                                       .run.worker_start = start_well,
                                       .run.worker_stop = stops_when_another_joins});
    push_all(p, 0, 3);
    while (figures(p).run.done < 3)
        twill_sleep(twill_within(TWILL_US(50)));
    CHECK(twill__thread_start(&thread));
    await_closing();
    CHECK_EQ(twill_pipeline_join(p), TWILL_OK);
    twill__thread_join(&thread);
    CHECK_EQ(t.answer, TWILL_OK);
    CHECK_EQ(twill_pipeline_destroy(p), TWILL_OK);
}

/* The callbacks that the last joiner, or a destroy, runs itself are told so, too. */
static void waits_for_the_end(void *state, const twill_task *task)
{
    (void)state, (void)task;
    CHECK_EQ(twill_pipeline_join(t.pipe), TWILL_DEADLOCK);
    CHECK_EQ(twill_pipeline_stop(t.pipe, twill_within(0), twill_within(0), NULL), TWILL_DEADLOCK);
    CHECK_EQ(twill_pipeline_destroy(t.pipe), TWILL_DEADLOCK);
    atomic_fetch_add(&t.told, 1);
}

static void drop_waits_for_the_end(void *item, twill_status why, const twill_task *task)
{
    note_drop(item, why, task);
    waits_for_the_end(NULL, task);
}

static int starts_badly(void **state, const twill_task *task)
{
    (void)state, (void)task;
    return 31;
}

TEST(the_last_callbacks_do_not_wait_for_themselves)
{
    twill_stage stages[] = {WORK(pass_on)};
    stages[0].drop = drop_waits_for_the_end;
    for (int how = 0; how < 3; how++) {
        twill_pipeline_options options = {.run.workers = 1, .run.worker_start = start_well};
        if (how == 2)
            options.run.worker_start = starts_badly;
        else
            options.run.worker_stop = waits_for_the_end;
        tally_init();
        twill_pipeline *p = make(stages, 1, &options);
        push_all(p, 0, 1);
        if (how == 0) {
            CHECK_EQ(twill_pipeline_join(p), TWILL_OK);
            CHECK_EQ(atomic_load(&t.told), 1);
        }
        CHECK_EQ(twill_pipeline_destroy(p), TWILL_OK);
    }
}

static int fails_when_somebody_joins(void **state, const twill_task *task)
{
    (void)state;
    (void)task;
    atomic_store(&t.told, 1);
    await_joiner();
    return 31;
}

static void drop_when_another_joins(void *item, twill_status why, const twill_task *task)
{
    note_drop(item, why, task);
    await_joiner();
}

/* Nobody could start; one who joins drops what is inside, and ends in that: another one does the
   rest. */
static int fails_to_start(void **state, const twill_task *task)
{
    (void)state;
    (void)task;
    atomic_store(&t.told, 1);
    while (!atomic_load(&t.gate))
        twill_sleep(twill_within(TWILL_US(50)));
    return 31;
}

static void drop_one_ends(void *item, twill_status why, const twill_task *task)
{
    note_drop(item, why, task);
    if (*(int *)item == 0)
        end_thread();
}

TEST(who_drops_the_rest_ends_its_thread)
{
    const twill_stage stages[] = {{.work = note, .drop = drop_one_ends}};
    twill__thrd thread = {.fn = join_alone, .cpu = UINT_MAX};
    twill_pipeline_report r;
    tally_init();
    t.answer = TWILL_EMPTY;
    twill_pipeline *p =
        make(stages, 1,
             &(twill_pipeline_options){
                 .run.workers = 1, .tokens = 4, .run.worker_start = fails_to_start});
    push_all(p, 0, 1);
    while (!atomic_load(&t.told))
        twill_sleep(twill_within(TWILL_US(50)));
    push_all(p, 1, 3);
    atomic_store(&t.gate, 1);
    CHECK(twill__thread_start(&thread));
    twill__thread_join(&thread);
    CHECK_EQ(t.answer, TWILL_EMPTY); /* it did not return */
    CHECK_EQ(twill_pipeline_join(p), TWILL_FAILED);
    r = figures(p);
    CHECK_EQ(r.run.total, 3);
    CHECK_EQ(r.run.skipped, 3);
    check_each(3);
    CHECK_EQ(twill_pipeline_destroy(p), TWILL_OK);
}

/* Nobody could start; one who joins drops what is inside, and the other waits for him. */
TEST(two_join_what_could_not_start)
{
    const twill_stage stages[] = {{.work = note, .drop = drop_when_another_joins}};
    twill__thrd thread = {.fn = join_alone, .cpu = UINT_MAX};
    twill_pipeline_report r;
    tally_init();
    twill_pipeline *p =
        make(stages, 1,
             &(twill_pipeline_options){
                 .run.workers = 1, .tokens = 4, .run.worker_start = fails_when_somebody_joins});
    push_all(p, 0, 1);
    while (!atomic_load(&t.told))
        twill_sleep(twill_within(TWILL_US(50)));
    push_all(p, 1, 2);
    CHECK(twill__thread_start(&thread));
    await_closing();
    CHECK_EQ(twill_pipeline_join(p), TWILL_FAILED);
    twill__thread_join(&thread);
    CHECK_EQ(t.answer, TWILL_FAILED);
    r = figures(p);
    CHECK(r.run.skipped == 2 && r.run.first_error.code == 31);
    CHECK(atomic_load(&t.dropped[0]) == 1 && atomic_load(&t.dropped[1]) == 1);
    CHECK_EQ(twill_pipeline_cancel(p), TWILL_OK);
    CHECK_EQ(twill_pipeline_destroy(p), TWILL_OK);
}

/* A push inside waits for the other worker; when that one has nothing to do any more but what comes
   behind this item, nobody is left. */
static int pushes_beside(const void *in, void *out, const twill_task *task)
{
    int i = *(const int *)in, more = 100;
    bool waits = false;
    wait_running(i == 0 ? 1 : 0);
    if (i == 0) {
        t.answer = twill_pipeline_push(t.pipe, &more);
        return pass_on(in, out, task);
    }
    atomic_fetch_add(&t.running, 1);
    while (!waits && i == 1) {
        twill__lock(&t.pipe->lock);
        waits = t.pipe->blocked_inside == 1 && t.pipe->pushers.first != t.pipe->pushers.last;
        twill__unlock(&t.pipe->lock);
        twill_sleep(twill_within(TWILL_US(50)));
    }
    return pass_on(in, out, task);
}

TEST(a_push_inside_is_left_alone)
{
    const twill_stage stages[] = {WORK(pushes_beside, .workers = 2), SINK()};
    twill_pool *pool;
    pusher outside;
    CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 2}), TWILL_OK);
    for (int where = 0; where < 3; where++) { /* beside nothing; a deadline; on a pool */
        twill_pipeline_options options = {.tokens = 2, .run.workers = 2};
        if (where == 1)
            options.run.until = twill_within(TWILL_SEC(3600));
        if (where == 2)
            options.run.pool = pool;
        tally_init();
        twill_pipeline *p = make(stages, 2, &options);
        push_all(p, 0, 2);
        wait_running(1);                /* 1 runs, and nobody could help with it any more */
        start(&outside, 2, 1);          /* who waits outside is in the way of nobody */
        while (figures(p).run.done < 2) /* by threads of its own */
            twill_sleep(twill_within(TWILL_US(50)));
        twill__thread_join(&outside.thread);
        CHECK_EQ(t.answer, TWILL_DEADLOCK);
        CHECK_EQ(outside.in, 1);
        CHECK_EQ(twill_pipeline_join(p), TWILL_OK);
        check_each(3);
        CHECK_EQ(twill_pipeline_destroy(p), TWILL_OK);
    }
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

/* On a pool of one, too: its only thread pushes inside, although there is a worker number more. */
static int pushes_at_first(const void *in, void *out, const twill_task *task)
{
    int more = 100;
    while (!atomic_load(&t.gate)) /* until all tickets are out */
        twill_sleep(twill_within(TWILL_US(50)));
    if (*(const int *)in == 0)
        t.answer = twill_pipeline_push(t.pipe, &more);
    return pass_on(in, out, task);
}

TEST(a_push_inside_on_a_pool_of_one)
{
    const twill_stage stages[] = {WORK(pushes_at_first, .workers = 2), SINK()};
    twill_pool *pool;
    CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 1}), TWILL_OK);
    for (size_t tokens = 1; tokens <= 2; tokens++) {
        tally_init();
        twill_pipeline *p =
            make(stages, 2,
                 &(twill_pipeline_options){.tokens = tokens, .run.workers = 2, .run.pool = pool});
        for (int i = 0; i < (int)tokens; i++)
            CHECK_EQ(twill_pipeline_try_push(p, &i), TWILL_OK);
        atomic_store(&t.gate, 1);
        while (figures(p).run.done < tokens) /* by the pool's thread */
            twill_sleep(twill_within(TWILL_US(50)));
        CHECK_EQ(t.answer, TWILL_DEADLOCK);
        CHECK_EQ(twill_pipeline_join(p), TWILL_OK);
        check_each((int)tokens);
        CHECK_EQ(twill_pipeline_destroy(p), TWILL_OK);
    }
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

/* No thread could be started. One who pushes works, and pushes inside, too: nobody could come but
   who waits outside for a ticket. */
static int pushes_when_another_waits(const void *in, void *out, const twill_task *task)
{
    int i = *(const int *)in, more = 100;
    bool waits = i != 0;
    while (!waits) {
        twill__lock(&t.pipe->lock);
        waits = t.pipe->pushers.first != NULL;
        twill__unlock(&t.pipe->lock);
        twill_sleep(twill_within(TWILL_US(50)));
    }
    if (i == 0)
        t.answer = twill_pipeline_push(t.pipe, &more);
    return pass_on(in, out, task);
}

TEST(a_push_inside_while_another_waits_outside)
{
    const twill_stage stages[] = {WORK(pushes_when_another_waits, .workers = 2)};
    twill__thrd thread = {.fn = push_one_more, .cpu = UINT_MAX};
    tally_init();
    faults_fail_thread(1);
    twill_pipeline *p = make(stages, 1, &(twill_pipeline_options){.tokens = 1, .run.workers = 2});
    faults_fail_thread(0);
    push_all(p, 0, 1);
    CHECK(twill__thread_start(&thread));
    push_all(p, 1, 2);
    twill__thread_join(&thread);
    CHECK_EQ(t.answer, TWILL_DEADLOCK);
    CHECK_EQ(twill_pipeline_join(p), TWILL_OK);
    CHECK_EQ(figures(p).run.done, 3);
    CHECK_EQ(twill_pipeline_destroy(p), TWILL_OK);
}

/* The third number has no thread: two that push inside wait for one another. */
static int pushes_to_the_end(const void *in, void *out, const twill_task *task)
{
    int i = *(const int *)in, more = i + 100;
    if (i < 2) {
        atomic_fetch_add(&t.running, 1);
        wait_running(2);
        atomic_fetch_add(twill_pipeline_push(t.pipe, &more) == TWILL_DEADLOCK ? &t.late : &t.told,
                         1);
    }
    return pass_on(in, out, task);
}

TEST(two_that_push_inside_wait_for_one_another)
{
    const twill_stage stages[] = {WORK(pushes_to_the_end, .workers = 3)};
    tally_init();
    faults_fail_thread(3);
    twill_pipeline *p = make(stages, 1, &(twill_pipeline_options){.tokens = 2, .run.workers = 3});
    faults_fail_thread(0);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(twill_pipeline_try_push(p, &i), TWILL_OK);
    while (figures(p).run.done < 2) /* by threads of its own */
        twill_sleep(twill_within(TWILL_US(50)));
    CHECK_EQ(twill_pipeline_join(p), TWILL_OK);
    CHECK(atomic_load(&t.late) >= 1);
    CHECK_EQ(atomic_load(&t.late) + atomic_load(&t.told), 2);
    CHECK_EQ(figures(p).run.done, 2 + (size_t)atomic_load(&t.told));
    CHECK_EQ(twill_pipeline_destroy(p), TWILL_OK);
}

/* A task that is over gives nothing any more, nor does one of another kind. */
static twill_task kept;

static int keeps_task(const void *in, void *out, const twill_task *task)
{
    (void)in;
    (void)out;
    kept = *task;
    return 5;
}

static void drop_emits(void *item, twill_status why, const twill_task *task)
{
    note_drop(item, why, task);
    CHECK_EQ(twill_pipeline_emit(&kept, item), TWILL_INVALID);
}

static int start_emits(void **state, const twill_task *task)
{
    int out = 1;
    (void)state;
    CHECK_EQ(twill_pipeline_emit(task, &out), TWILL_INVALID);
    return twill_pipeline_filter(task);
}

TEST(emit_outside_a_call)
{
    const twill_stage stages[] = {
        {.work = keeps_task, .out_size = sizeof(int), .drop = drop_emits, .workers = 1}, SINK()};
    tally_init();
    faults_fail_thread(1); /* one hand does it all */
    twill_pipeline *p = make(
        stages, 2,
        &(twill_pipeline_options){.tokens = 8, .run.workers = 1, .run.worker_start = start_emits});
    faults_fail_thread(0);
    push_all(p, 0, 4);
    CHECK_EQ(twill_pipeline_join(p), TWILL_FAILED);
    CHECK(atomic_load(&t.dropped[0]) == 0 && atomic_load(&t.dropped[3]) == 1);
    CHECK_EQ(twill_pipeline_destroy(p), TWILL_OK);
}

/* ---- batches ---- */

/* A linger that ends beyond all time is for ever; and a batch may be longer than a burst. */
TEST(batches_that_are_long)
{
    const twill_stage stages[] = {
        {.batch = note_size, .batch_max = 300, .workers = 1, .linger = TWILL_FOREVER - 1}};
    tally_init();
    twill_pipeline *p = make(stages, 1, &(twill_pipeline_options){.tokens = 400});
    push_all(p, 0, 299);
    CHECK_EQ(atomic_load(&t.ran), 0); /* until nothing more can come */
    CHECK_EQ(twill_pipeline_join(p), TWILL_OK);
    CHECK_EQ(t.batches, 1);
    CHECK_EQ(t.n[0], 299);
    CHECK_EQ(twill_pipeline_destroy(p), TWILL_OK);

    tally_init();
    p = make(stages, 1, &(twill_pipeline_options){.tokens = 400});
    push_all(p, 0, 310);
    while (atomic_load(&t.ran) < 300)
        twill_sleep(twill_within(TWILL_US(50)));
    CHECK_EQ(t.n[0], 300);
    CHECK_EQ(twill_pipeline_join(p), TWILL_OK);
    CHECK_EQ(t.n[1], 10);
    CHECK_EQ(twill_pipeline_destroy(p), TWILL_OK);
}

/* Four batches of four: the first gives two outputs, the others none, each in a way of its own. */
static int batch_in_four_ways(const void *items, size_t n, const twill_task *task)
{
    const int *item = items;
    CHECK_EQ(n, 4);
    switch (item[0] / 4) {
    case 0:
        CHECK_EQ(twill_pipeline_emit(task, &item[1]), TWILL_OK);
        return twill_pipeline_emit(task, &item[2]) != TWILL_OK;
    case 1:
        return 0;
    case 2:
        return twill_pipeline_filter(task);
    default:
        return twill_task_skip(task);
    }
}

TEST(batches_with_few_outputs)
{
    const twill_stage stages[] = {{.batch = batch_in_four_ways,
                                   .batch_max = 4,
                                   .kind = TWILL_STAGE_IN_ORDER,
                                   .linger = TWILL_FOREVER,
                                   .out_size = sizeof(int),
                                   .outputs_max = 2},
                                  {.work = note, .buffer = 2, .workers = 1}};
    twill_pipeline_report r;
    tally_init();
    twill_pipeline *p = make(stages, 2, &(twill_pipeline_options){.tokens = 16});
    push_all(p, 0, 16);
    CHECK_EQ(twill_pipeline_join(p), TWILL_OK);
    r = figures(p);
    CHECK(r.run.done == 12 && r.run.skipped == 4 && r.run.failed == 0);
    CHECK_EQ(r.filtered, 8); /* the first batch has outputs for all of its items */
    CHECK_EQ(r.delivered, 2);
    CHECK(atomic_load(&t.seen[1]) == 1 && atomic_load(&t.seen[2]) == 1);
    CHECK_EQ(twill_pipeline_destroy(p), TWILL_OK);
}

/* ---- forks ---- */

#if HARNESS_FORKS
static void in_child(void (*fn)(void))
{
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        fn();
        _exit(atomic_load(&harness_failures) != 0);
    }
    CHECK(child > 0);
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void all_forked(void)
{
    int i = 1;
    twill_stopped stopped;
    CHECK_EQ(twill_pipeline_push(t.pipe, &i), TWILL_FORKED);
    CHECK_EQ(twill_pipeline_try_push(t.pipe, &i), TWILL_FORKED);
    CHECK_EQ(twill_pipeline_close(t.pipe), TWILL_FORKED);
    CHECK_EQ(twill_pipeline_cancel(t.pipe), TWILL_FORKED);
    CHECK_EQ(twill_pipeline_join(t.pipe), TWILL_FORKED);
    CHECK_EQ(twill_pipeline_stop(t.pipe, twill_within(0), twill_within(0), &stopped), TWILL_FORKED);
    CHECK_EQ(twill_pipeline_destroy(t.pipe), TWILL_FORKED);
    CHECK_EQ(figures(t.pipe).run.total, 0);
    long live = faults_live();
    twill_pipeline_abandon(t.pipe);
    CHECK_EQ(faults_live(), live - 1);
}

TEST(a_forked_child_is_told)
{
    const twill_stage stages[] = {WORK(gated, .workers = 2), SINK()};
    tally_init();
    twill_pipeline *p = make(stages, 2, NULL);
    push_all(p, 0, 4);
    wait_running(2);
    twill_pipeline_abandon(p); /* here it does nothing */
    in_child(all_forked);
    atomic_store(&t.gate, 1);
    CHECK_EQ(twill_pipeline_join(p), TWILL_OK);
    CHECK_EQ(twill_pipeline_destroy(p), TWILL_OK);
    check_each(4);
}

static pid_t forked = -1;

/* In the child, before anybody looks for leaks: what the parent's threads hold is not found. */
static void end_quietly(void)
{
    _exit(0);
}

static int forks(const void *in, void *out, const twill_task *task)
{
    if (forked == 0)
        _exit(2); /* nothing is run in the child */
    if (*(const int *)in == 10) {
        forked = fork();
        if (forked == 0) {
            alarm(20); /* instead of a hang */
            atexit(end_quietly);
        }
    }
    return pass_on(in, out, task);
}

TEST(a_fork_in_a_callback)
{
    const twill_stage stages[] = {WORK(forks, .kind = TWILL_STAGE_IN_ORDER), SINK()};
    twill_pipeline_report report = {.run.status = TWILL_BUSY};
    pid_t self = getpid();
    int status = 0;
    tally_init();
    forked = -1;
    /* the caller alone, so that the child has somebody who returns */
    twill_status answer =
        twill_pipeline_run(numbers_to_100, sizeof(int), stages, 2,
                           &(twill_pipeline_options){.run.workers = 1, .report = &report});
    if (getpid() != self)
        _exit(answer == TWILL_FORKED && report.run.status == TWILL_FORKED ? 0 : 1);
    CHECK_EQ(answer, TWILL_OK);
    CHECK_EQ(t.last, 99);
    CHECK(forked > 0);
    CHECK_EQ(waitpid(forked, &status, 0), forked);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* On a worker: the child has nobody whom it could return to, and ends. */
TEST(a_fork_on_a_worker)
{
    const twill_stage stages[] = {WORK(forks, .kind = TWILL_STAGE_IN_ORDER), SINK()};
    int status = -1;
    tally_init();
    forked = -1;
    fflush(NULL); /* it exits */
    twill_pipeline *p = make(stages, 2, &(twill_pipeline_options){.run.workers = 1, .tokens = 64});
    push_all(p, 0, 20);
    while (figures(p).run.done < 20) /* without our help */
        twill_sleep(twill_within(TWILL_US(100)));
    CHECK_EQ(twill_pipeline_join(p), TWILL_OK);
    CHECK_EQ(twill_pipeline_destroy(p), TWILL_OK);
    CHECK(forked > 0);
    CHECK_EQ(waitpid(forked, &status, 0), forked);
    CHECK(WIFEXITED(status));
    CHECK_EQ(WEXITSTATUS(status), 0);
}

/* The fork comes while another thread has the lock. In the child it stays locked, and nothing of
   the pipeline may be waited for, nor run, whatever the callback says. */
typedef enum what_then { RETURNS, FAILS, STOPS, BATCH_FAILS, SOURCE_FAILS, WHATS } what_then;
static what_then then;
static bool in_the_child;

static int fork_and_then(const twill_task *task)
{
    twill__flow *p = ((twill__flow_hand *)task->private_)->pipe;
    if (in_the_child)
        _exit(2); /* nothing is run here */
    twill__lock(&p->lock);
    forked = fork();
    if (forked) {
        twill__unlock(&p->lock);
        return 0;
    }
    in_the_child = true;
    alarm(20); /* instead of a hang */
    return then == STOPS ? twill_task_stop(task) : then == RETURNS ? 0 : 7;
}

static int forks_at_10(const void *in, void *out, const twill_task *task)
{
    int code = 0;
    if (in_the_child)
        _exit(2);
    if (then <= STOPS && *(const int *)in == 10)
        code = fork_and_then(task);
    return code ? code : pass_on(in, out, task);
}

static int forks_in_batch(const void *items, size_t n, const twill_task *task)
{
    int code = 0;
    if (in_the_child)
        _exit(2);
    if (then == BATCH_FAILS && *(const int *)items <= 10 && ((const int *)items)[n - 1] >= 10)
        code = fork_and_then(task);
    for (size_t k = 0; k < n && !code; k++)
        t.last = ((const int *)items)[k];
    return code;
}

static int forks_in_source(void *out, const twill_task *task)
{
    if (in_the_child)
        _exit(2);
    if (then == SOURCE_FAILS && task->index == 10 && forked < 0 && fork_and_then(task))
        return 7;
    return numbers_to_100(out, task);
}

static void no_letter(size_t stage, void *in, int code, const twill_task *task)
{
    (void)stage;
    (void)in;
    (void)code;
    (void)task;
    _exit(3);
}

TEST(a_fork_under_the_lock)
{
    const twill_stage stages[] = {
        WORK(forks_at_10, .kind = TWILL_STAGE_IN_ORDER),
        {.batch = forks_in_batch, .kind = TWILL_STAGE_IN_ORDER, .batch_max = 4},
    };
    for (then = RETURNS; then < WHATS; then++) {
        pid_t self = getpid();
        int status = 0;
        tally_init();
        forked = -1;
        twill_status answer = twill_pipeline_run(
            forks_in_source, sizeof(int), stages, 2,
            &(twill_pipeline_options){.run.workers = 1, .tokens = 32, .dead_letter = no_letter});
        if (getpid() != self)
            _exit(answer == TWILL_FORKED ? 0 : 1);
        CHECK_EQ(answer, TWILL_OK);
        CHECK_EQ(t.last, 99);
        CHECK(forked > 0);
        CHECK_EQ(waitpid(forked, &status, 0), forked);
        CHECK(WIFEXITED(status));
        CHECK_EQ(WEXITSTATUS(status), 0);
    }
}

/* The fork comes in one of the callbacks around the work, in a caller that helps. The child is
   told, whatever it was doing, and calls nothing more. */
typedef enum where_forked {
    IN_DROP,
    IN_LETTER,
    IN_BATCH_DROP,
    IN_BATCH_LETTER,
    IN_START,
    IN_LAST_DROP,
    IN_PUSH,
    IN_STOP,
    IN_DESTROY,
    AND_ENDS,
    WHERES
} where_forked;
static where_forked where;

static void fork_here(where_forked here)
{
    if (in_the_child)
        _exit(2);
    if (where != here || forked >= 0)
        return;
    fflush(NULL);
    forked = fork();
    if (forked)
        return;
    in_the_child = true;
    atexit(end_quietly);
    alarm(20); /* instead of a hang */
    if (where == AND_ENDS)
        end_thread();
}

static int fails_from_4(const void *in, void *out, const twill_task *task)
{
    fork_here(where >= IN_PUSH && where != IN_DESTROY ? where : WHERES);
    return where <= IN_LETTER && *(const int *)in == 4 ? 7 : pass_on(in, out, task);
}

static int batch_fails(const void *items, size_t n, const twill_task *task)
{
    (void)items;
    (void)n;
    (void)task;
    fork_here(WHERES);
    return where == IN_BATCH_DROP || where == IN_BATCH_LETTER ? 7 : 0;
}

static void fork_drop(void *item, twill_status why, const twill_task *task)
{
    fork_here(where);
    note_drop(item, why, task);
}

static void fork_letter(size_t stage, void *in, int code, const twill_task *task)
{
    (void)stage;
    (void)in;
    (void)task;
    CHECK_EQ(code, 7);
    fork_here(where == IN_LETTER || where == IN_BATCH_LETTER ? where : WHERES);
}

static int fork_start(void **state, const twill_task *task)
{
    (void)state;
    (void)task;
    fork_here(IN_START);
    return where == IN_LAST_DROP ? 31 : 0;
}

TEST(a_fork_around_the_work)
{
#ifdef TWILL__UNDER_TSAN /* it keeps a thread of its own in a forked child, which then never ends */
    SKIP("a child whose last thread is to end");
#endif
    const twill_stage stages[] = {
        {.work = fails_from_4, .out_size = sizeof(int), .drop = fork_drop, .workers = 1},
        {.batch = batch_fails,
         .batch_max = 4,
         .workers = 1,
         .linger = TWILL_FOREVER,
         .drop = fork_drop}};
    for (where = 0; where < WHERES; where++) {
        bool letter = where == IN_LETTER || where == IN_BATCH_LETTER;
        twill_status answer = TWILL_OK;
        pid_t self = getpid();
        int status = 0;
        tally_init();
        forked = -1;
        faults_fail_thread(1); /* nobody else works */
        twill_pipeline *p =
            make(stages, 2,
                 &(twill_pipeline_options){.tokens = where == IN_PUSH ? 4 : 16,
                                           .run.workers = 1,
                                           .run.worker_start = fork_start,
                                           .dead_letter = letter ? fork_letter : NULL});
        faults_fail_thread(0);
        for (int i = 0; i < 8 && answer == TWILL_OK; i++)
            answer = twill_pipeline_push(p, &i);
        if (where == IN_STOP)
            answer = twill_pipeline_stop(p, twill_within(TWILL_SEC(100)),
                                         twill_within(TWILL_SEC(100)), NULL);
        else if (where == IN_DESTROY)
            answer = twill_pipeline_destroy(p);
        else if (where != IN_PUSH || getpid() == self)
            answer = twill_pipeline_join(p);
        if (getpid() != self)
            _exit(answer == TWILL_FORKED ? 0 : 1);
        CHECK_EQ(answer,
                 where <= IN_BATCH_LETTER || where == IN_LAST_DROP ? TWILL_FAILED : TWILL_OK);
        CHECK(forked > 0);
        CHECK_EQ(waitpid(forked, &status, 0), forked);
        CHECK(WIFEXITED(status));
        CHECK_EQ(WEXITSTATUS(status), 0);
        if (where != IN_DESTROY)
            CHECK_EQ(twill_pipeline_destroy(p), TWILL_OK);
    }
}
#endif

/* ---- figures while it runs ---- */

TEST(figures_are_live)
{
    const twill_stage stages[] = {WORK(gated, .workers = 2), SINK()};
    twill_stage_stats s[2];
    twill_pipeline_report r;
    tally_init();
    twill_pipeline *p = make(stages, 2, &(twill_pipeline_options){.tokens = 6});
    push_all(p, 0, 6);
    wait_running(2);
    twill_pipeline_get_stats(p, &r, s);
    CHECK_EQ(r.run.total, 6);
    CHECK_EQ(r.run.done, 0);
    CHECK_EQ(r.in_flight_peak, 6);
    CHECK_EQ(s[0].running, 2);
    CHECK_EQ(s[0].waiting, 4);
    CHECK_EQ(s[1].in, 0);
    atomic_store(&t.gate, 1);
    CHECK_EQ(twill_pipeline_join(p), TWILL_OK);
    twill_pipeline_get_stats(p, &r, s);
    CHECK_EQ(s[0].in, 6);
    CHECK_EQ(s[0].running_peak, 2);
    CHECK_EQ(s[1].in, 6);
    CHECK_EQ(twill_pipeline_destroy(p), TWILL_OK);
}

HARNESS_MAIN

TEST(arguments_that_are_not_there)
{
    const twill_stage stages[] = {WORK(pass_on), SINK()};
    twill_pipeline_report report;
    twill_stage_stats stats[2];
    twill_stopped stopped = {9, 9, 9};
    int item = 0;
    tally_init();
    CHECK_EQ(twill_pipeline_push(NULL, &item), TWILL_INVALID);
    CHECK_EQ(twill_pipeline_close(NULL), TWILL_INVALID);
    CHECK_EQ(twill_pipeline_cancel(NULL), TWILL_INVALID);
    CHECK_EQ(twill_pipeline_join(NULL), TWILL_INVALID);
    CHECK_EQ(twill_pipeline_stop(NULL, twill_within(0), twill_within(0), &stopped), TWILL_INVALID);
    CHECK_EQ(stopped.finished, 0);
    CHECK_EQ(twill_pipeline_destroy(NULL), TWILL_OK);
    twill_pipeline_abandon(NULL);
    twill_pipeline_get_stats(NULL, &report, NULL);
    CHECK_EQ(report.run.total, 0);
    CHECK_EQ(report.failed_stage, SIZE_MAX);
    twill_pipeline *p = make(stages, 2, NULL);
    CHECK_EQ(twill_pipeline_push(p, NULL), TWILL_INVALID);
    push_all(p, 0, 4);
    CHECK_EQ(
        twill_pipeline_stop(p, twill_within(TWILL_SEC(100)), twill_within(TWILL_SEC(100)), NULL),
        TWILL_OK);
    twill_pipeline_get_stats(p, &report, NULL);
    CHECK_EQ(report.run.done, 4);
    twill_pipeline_get_stats(p, NULL, stats);
    CHECK_EQ(stats[1].in, 4);
    CHECK_EQ(twill_pipeline_destroy(p), TWILL_OK);
}

/* More who wait for room than are woken in one go. */
TEST(a_crowd_of_pushers_is_told)
{
    enum { CROWD = 20 };
    const twill_stage stages[] = {WORK(gated, .workers = 1), SINK()};
    pusher pushers[CROWD];
    tally_init();
    twill_pipeline *p = make(stages, 2, &(twill_pipeline_options){.tokens = 1});
    push_all(p, 0, 1);
    wait_running(1);
    for (int k = 0; k < CROWD; k++)
        start(&pushers[k], 100 + k, 1);
    twill_sleep(twill_within(TWILL_MS(2))); /* they wait by then; who does not is told, too */
    CHECK_EQ(twill_pipeline_cancel(p), TWILL_OK);
    for (int k = 0; k < CROWD; k++) {
        twill__thread_join(&pushers[k].thread);
        CHECK_EQ(pushers[k].in, 0);
        CHECK_EQ(pushers[k].status, TWILL_CLOSED);
    }
    CHECK_EQ(twill_pipeline_destroy(p), TWILL_OK);
}
