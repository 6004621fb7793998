/* What the source documents and their exercises say of times and counts, one a schedule: exact in
   every order of steps, as long as no thread is held up. (To a millisecond: see pool_exact.)
   EXPLORE: --punctual --polling
   EXPLORE-FLAGS: -DTWILL__SPIN=0 -DTWILL__TICKS=0 */
#undef NDEBUG
#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "explore.h"

#define TWILL__NO_SIGNALS 1
#define TWILL_IMPLEMENTATION
#include "twill.h"

enum { SIDES = 20 };

typedef struct side {
    twill__thrd thread;
    int number, count;
    twill_ns at[SIDES + 2];
} side;

static side sides[SIDES];
static twill_ns begun;
static twill_queue *queue;
static twill_rate_limiter limiter;
static twill_cancel token;
static twill_shutdown *stop;
static atomic_int passed; /* whoever comes after an instant sees what was fired before it */

static void go(int number, void (*fn)(void *side))
{
    side *one = &sides[number];
    one->number = number;
    one->thread.fn = fn;
    one->thread.arg = one;
    one->thread.cpu = UINT_MAX;
    assert(twill__thread_start(&one->thread));
}

static void end(int number)
{
    twill__thread_join(&sides[number].thread);
}

static void nap(twill_ns time)
{
    assert(twill_sleep(twill_within(time)) == TWILL_OK);
    atomic_fetch_add(&passed, 1);
}

static bool is(twill_ns instant, twill_ns after)
{
    return instant >= begun + after && instant < begun + after + TWILL_MS(1);
}

static void now_is(twill_ns after)
{
    assert(is(twill_now(), after));
}

/* ---- maps ---- */

static const twill_schedule schedules[] = {TWILL_SCHEDULE_AUTO, TWILL_SCHEDULE_STATIC,
                                           TWILL_SCHEDULE_DYNAMIC, TWILL_SCHEDULE_GUIDED};

static int ten_ms(const twill_task *task) /* deaf */
{
    (void)task;
    nap(TWILL_MS(10));
    return 0;
}

/* 40 items of 10 ms on 20 threads. */
static void many_workers(void)
{
    twill_parallel_options options = {.run.workers = 20};
    options.schedule = schedules[EXPLORE_CHOICE(2, 0)];
    assert(twill_parallel_for(40, ten_ms, &options) == TWILL_OK);
    now_is(TWILL_MS(20));
}

static void fire_at_55(void *side_)
{
    (void)side_;
    nap(TWILL_MS(55));
    twill_cancel_fire(&token, 1);
    atomic_fetch_add(&passed, 1);
}

/* 100 items of 10 ms on two; at 55 ms ten are done, and the two that run are waited for. */
static void cancelled(void)
{
    twill_status statuses[100];
    size_t ok = 0;
    twill_report report;
    twill_parallel_options options = {.run = {.workers = 2, .report = &report}};
    options.run.until.cancel = &token;
    options.run.statuses = statuses;
    options.schedule = schedules[EXPLORE_CHOICE(4, 0)];
    go(0, fire_at_55);
    assert(twill_parallel_for(100, ten_ms, &options) == TWILL_CANCELLED);
    now_is(TWILL_MS(60));
    for (int i = 0; i < 100; i++) {
        assert(statuses[i] == TWILL_OK || statuses[i] == TWILL_CANCELLED);
        ok += statuses[i] == TWILL_OK;
    }
    assert(ok == 12 && report.done == 12 && report.skipped == 88);
    end(0);
    twill_cancel_detach(&token);
}

static int square(const void *in, void *out, const twill_task *task)
{
    (void)task;
    nap(TWILL_MS(100));
    *(int *)out = *(const int *)in * *(const int *)in;
    return 0;
}

/* 20 items of 0.1 s, five at once, and a count of them. */
static void counted(void)
{
    int in[20], out[20], sum = 0;
    twill_map_with_progress_options options = {.run.workers = 5};
    options.progress.style = TWILL_PROGRESS_SILENT;
    for (int i = 0; i < 20; i++)
        in[i] = i;
    assert(twill_map_with_progress(in, sizeof *in, out, sizeof *out, 20, square, &options) ==
           TWILL_OK);
    now_is(TWILL_MS(400));
    for (int i = 0; i < 20; i++)
        sum += out[i];
    assert(sum == 2470);
}

/* ---- queues ---- */

static void consume_to_marker(void *side_)
{
    side *me = side_;
    int item;
    for (;;) { /* exit: an end marker */
        assert(twill_queue_pop(queue, &item) == TWILL_OK);
        if (item < 0)
            return;
        nap(TWILL_MS(100));
        me->count++;
    }
}

/* Room for five, 20 items of 0.1 s, two consumers, a marker for each. */
static void markers(void)
{
    static const twill_queue_engine engines[] = {TWILL_ENGINE_RING, TWILL_ENGINE_LOCK};
    twill_queue_stats stats;
    int marker = -1;
    assert(twill_queue_create(
               &queue, sizeof marker,
               &(twill_queue_options){.capacity = 5, .engine = engines[EXPLORE_CHOICE(2, 0)]}) ==
           TWILL_OK);
    go(0, consume_to_marker);
    go(1, consume_to_marker);
    for (int i = 0; i < 20; i++)
        assert(twill_queue_push(queue, &i) == TWILL_OK);
    now_is(TWILL_MS(700));
    assert(twill_queue_push(queue, &marker) == TWILL_OK);
    assert(twill_queue_push(queue, &marker) == TWILL_OK);
    now_is(TWILL_MS(800));
    end(0);
    end(1);
    now_is(TWILL_MS(1000));
    assert(sides[0].count == 10 && sides[1].count == 10);
    twill_queue_get_stats(queue, &stats);
    assert(stats.peak == 5);
    assert(twill_queue_destroy(queue) == TWILL_OK);
}

static void push_until_closed(void *side_)
{
    side *me = side_;
    while (twill_queue_push(queue, &me->number) == TWILL_OK) /* exit: closed */
        me->count++;
}

/* Four that push for ever, and an item leaves each millisecond: they take turns. */
static void shares(void)
{
    static const twill_queue_engine engines[] = {TWILL_ENGINE_RING, TWILL_ENGINE_LOCK};
    int item, got[4] = {0};
    assert(twill_queue_create(
               &queue, sizeof item,
               &(twill_queue_options){.capacity = 1, .engine = engines[EXPLORE_CHOICE(2, 0)]}) ==
           TWILL_OK);
    for (int k = 0; k < 4; k++)
        go(k, push_until_closed);
    for (int k = 0; k < 20; k++) {
        nap(TWILL_MS(1));
        assert(twill_queue_pop(queue, &item) == TWILL_OK);
        got[item]++;
    }
    twill_queue_close(queue);
    for (int k = 0; k < 4; k++) {
        assert(got[k] >= 4 && got[k] <= 6);
        end(k);
    }
    assert(twill_queue_destroy(queue) == TWILL_OK);
}

static int value_of(const void *item, const twill_task *task)
{
    (void)task;
    return *(const int *)item;
}

/* Something urgent comes each millisecond and is served at once; what is five steps less urgent
   waits for five times `ageing`, and without ageing for ever. */
static void starves(void)
{
    bool ages = EXPLORE_CHOICE(2, 0);
    twill_queue_options options = {.order = TWILL_ORDER_PRIORITY, .priority_of = value_of};
    int low = 0, high = 5, item = high, turns = 0;
    options.ageing = ages ? TWILL_MS(10) : TWILL_FOREVER;
    assert(twill_queue_create(&queue, sizeof item, &options) == TWILL_OK);
    assert(twill_queue_push(queue, &low) == TWILL_OK);
    for (; turns < 100 && item == high; turns++) {
        assert(twill_queue_push(queue, &high) == TWILL_OK);
        assert(twill_queue_pop(queue, &item) == TWILL_OK);
        nap(TWILL_MS(1));
    }
    assert(ages ? turns >= 50 && turns <= 52 : turns == 100);
    assert(twill_queue_destroy(queue) == TWILL_OK);
}

static int one_item(twill_queue *to, const twill_task *task)
{
    (void)task;
    return (int)twill_queue_push(to, &(int){7});
}

static int fails(const void *in, void *out, const twill_task *task)
{
    static const twill_ns at[] = {0, TWILL_SEC(1), TWILL_SEC(3)};
    (void)in, (void)out;
    now_is(at[task->index]);
    return 5;
}

static int tries(void *item, const twill_task *task)
{
    twill_retry_options options = {.base = TWILL_SEC(1), .jitter = TWILL_JITTER_NONE};
    twill_retry_report report;
    options.until = task->until;
    (void)twill_retry_call(item, NULL, fails, &options, &report);
    assert(report.attempts == 3);
    return report.code;
}

static void bury(void *item, int code, const twill_task *task)
{
    (void)task;
    assert(*(int *)item == 7 && code == 5);
    now_is(TWILL_SEC(3)); /* no pause after the last attempt */
    sides[0].count++;
}

/* What always fails is tried at 0, 1 and 3 s, and then it is a dead letter. */
static void dead_letter(void)
{
    twill_produce_consume_options options = {
        .run = {.workers = 2, .on_error = TWILL_ON_ERROR_COLLECT}};
    options.dead_letter = bury;
    assert(twill_produce_consume(sizeof(int), one_item, tries, &options) == TWILL_FAILED);
    now_is(TWILL_SEC(3));
    assert(sides[0].count == 1);
}

/* ---- pipelines and batches ---- */

static int next(void *out, const twill_task *task)
{
    *(int *)out = (int)task->index;
    return task->index == 20 ? twill_task_stop(task) : 0;
}

static int step(const void *in, void *out, const twill_task *task)
{
    (void)task;
    nap(TWILL_MS(10));
    if (out)
        *(int *)out = *(const int *)in;
    return 0;
}

/* 20 items through three stages of 10 ms with one worker each: 22 steps of time, and not 60. */
static void streams(void)
{
    const twill_stage stages[] = {{.work = step, .out_size = sizeof(int), .workers = 1},
                                  {.work = step, .out_size = sizeof(int), .workers = 1},
                                  {.work = step, .workers = 1}};
    assert(twill_pipeline_run(next, sizeof(int), stages, 3, NULL) == TWILL_OK);
    now_is(TWILL_MS(220));
}

static int leaves(twill_batch *batch, const twill_task *task)
{
    side *me = task->context;
    me->at[me->count++] = twill_now();
    assert(batch->count == (me->count == 1 ? 3 : me->count == 2 ? 10 : 2));
    return 0;
}

/* Three items leave when the first is 50 ms old, ten at once, and two by the close. */
static void lingers(void)
{
    twill_batcher *batcher;
    twill_batch_options options = {.max_items = 10, .linger = TWILL_MS(50)};
    int item = 0;
    options.run.context = &sides[0];
    assert(twill_batcher_create(&batcher, leaves, &options) == TWILL_OK);
    for (int k = 0; k < 3; k++)
        assert(twill_batcher_add(batcher, &item, NULL) == TWILL_OK);
    nap(TWILL_MS(60));
    for (int k = 0; k < 12; k++)
        assert(twill_batcher_add(batcher, &item, NULL) == TWILL_OK);
    assert(twill_batcher_destroy(batcher) == TWILL_OK);
    assert(sides[0].count == 3);
    assert(is(sides[0].at[0], TWILL_MS(50)) && is(sides[0].at[1], TWILL_MS(60)));
    assert(is(sides[0].at[2], TWILL_MS(60)));
}

/* ---- limits ---- */

static void start_one(void *side_)
{
    side *me = side_;
    assert(twill_rate_limiter_acquire(&limiter, 1) == TWILL_OK);
    me->at[me->count++] = twill_now();
}

/* 20 threads, ten a second, 21 starts: one each 0.1 s, the last after 2 s. */
static void ten_a_second(void)
{
    int starts[21] = {0};
    assert(twill_rate_limiter_init_per_second(&limiter, 10, 1) == TWILL_OK);
    for (int k = 1; k < SIDES; k++)
        go(k, start_one);
    start_one(&sides[0]);
    start_one(&sides[0]);
    for (int k = 1; k < SIDES; k++)
        end(k);
    now_is(TWILL_SEC(2));
    for (int k = 0; k < SIDES; k++)
        for (int i = 0; i < sides[k].count; i++)
            starts[(sides[k].at[i] - begun + TWILL_MS(1)) / TWILL_MS(100)]++;
    for (int k = 0; k < 21; k++)
        assert(starts[k] == 1);
}

/* After ten idle seconds no more than the burst is there. */
static void no_storm(void)
{
    assert(twill_rate_limiter_init_per_second(&limiter, 10, 1) == TWILL_OK);
    nap(TWILL_SEC(10));
    for (int k = 0; k < 3; k++) {
        assert(twill_rate_limiter_acquire(&limiter, 1) == TWILL_OK);
        now_is(TWILL_SEC(10) + k * TWILL_MS(100));
    }
}

/* ---- the end ---- */

static int one_second(const twill_task *task)
{
    (void)task;
    nap(TWILL_SEC(1));
    return 0;
}

static int hangs(const twill_task *task)
{
    (void)task;
    assert(twill_sleep(twill_until_cancelled(&token)) == TWILL_CANCELLED);
    return 0;
}

/* Three hooks of 1 s, for ever, and 1 s, each with a limit of 2 s (and 10 ms to come back). */
static void hooks(void)
{
    static const twill_status ends[] = {TWILL_OK, TWILL_TIMEOUT, TWILL_OK};
    twill_shutdown_step steps[3];
    twill_shutdown_report report;
    twill_shutdown_options options = {.no_signals = true, .steps = steps, .steps_capacity = 3};
    assert(twill_shutdown_create(&stop, &options) == TWILL_OK);
    assert(twill_shutdown_add(stop, "first", one_second, NULL, TWILL_SEC(2)) == TWILL_OK);
    assert(twill_shutdown_add(stop, "second", hangs, NULL, TWILL_SEC(2)) == TWILL_OK);
    assert(twill_shutdown_add(stop, "third", one_second, NULL, TWILL_SEC(2)) == TWILL_OK);
    assert(twill_shutdown_finish(stop, &report) == TWILL_TIMEOUT);
    now_is(TWILL_SEC(4) + TWILL_MS(10));
    for (int k = 0; k < 3; k++)
        assert(steps[k].status == ends[k]);
    assert(steps[0].name[0] == 't' && steps[2].name[0] == 'f' && report.hooks_overran == 1);
    twill_cancel_fire(&token, 1);
    nap(TWILL_MS(1)); /* the abandoned thread goes */
    assert(twill_shutdown_destroy(stop) == TWILL_OK);
}

static void ask_at_500(void *side_)
{
    (void)side_;
    nap(TWILL_MS(500));
    twill_shutdown_request(stop, 1);
}

static void told(twill_shutdown_phase phase, int reason, const twill_task *task)
{
    (void)phase, (void)reason, (void)task;
    atomic_fetch_add(&passed, 1);
}

static int fifth_of_a_second(const twill_task *task)
{
    (void)task;
    nap(TWILL_MS(200));
    return 0;
}

/* A map of ten items of 0.2 s, one at a time, is asked to stop after 0.5 s: three are done, and
   each of the others says that it never ran. */
static void map_that_is_asked(void)
{
    twill_status statuses[10];
    twill_parallel_options options = {.run.workers = 1};
    assert(twill_shutdown_create(
               &stop, &(twill_shutdown_options){.no_signals = true, .on_phase = told}) == TWILL_OK);
    go(0, ask_at_500);
    options.run.statuses = statuses;
    options.run.until.cancel = twill_shutdown_drain_token(stop);
    assert(twill_parallel_for(10, fifth_of_a_second, &options) == TWILL_CANCELLED);
    now_is(TWILL_MS(600));
    for (int k = 0; k < 10; k++)
        assert(statuses[k] == (k < 3 ? TWILL_OK : TWILL_CANCELLED));
    end(0);
    assert(twill_shutdown_finish(stop, NULL) == TWILL_OK);
    assert(twill_shutdown_destroy(stop) == TWILL_OK);
}

int main(void)
{
    static void (*const all[])(void) = {
        many_workers, cancelled, counted,      markers,  shares, starves,          dead_letter,
        streams,      lingers,   ten_a_second, no_storm, hooks,  map_that_is_asked};
    begun = twill_now();
    all[EXPLORE_CHOICE((int)(sizeof all / sizeof all[0]), 0)]();
    return 0;
}
