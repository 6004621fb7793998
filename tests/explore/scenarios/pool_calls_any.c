/* The end of a pool while calls are on it. Each schedule draws what one or two threads do with the
   pool: a map, a fold, tasks at once, a fan, a pipeline, batches, producers and consumers, or a fan
   that they fill by hand and destroy; and what main does meanwhile: closes the pool, stops it with
   or without a deadline, and destroys it, as soon as the last call of each thread is under way. A
   callback fails, naps, ends its thread, makes another call on the pool, submits a task, closes, or
   asks for the end, which it may not.

   Whatever it is: a call is CLOSED, and then nothing of it runs, or it is done as if nobody had
   touched the pool; nothing runs when it has returned; an accepted task runs or is dropped; destroy
   returns, and no sooner than the calls.
   EXPLORE: --polling --max-steps=100000
   EXPLORE-FLAGS: -DTWILL__SPIN=0 -DTWILL__TICKS=0 */
#undef NDEBUG
#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "explore.h"

#define TWILL__REPLACE_AFTER TWILL_US(10)
#define TWILL__NO_SIGNALS    1
#define TWILL_IMPLEMENTATION
#include "twill.h"

enum { SIDES = 2, MOST = 3, DEEPEST = 2, CALLS = 16, CODE = 7 };

typedef struct call {
    int n, depth, side; /* side: -1 inside of another call */
    atomic_int begun, good, bad, running, wanted;
    twill_report report;
} call;

typedef struct caller {
    twill__thrd thread;
    int number, turns;
    atomic_bool last_begun;
} caller;

static twill_pool *pool;
static call calls[CALLS];
static caller callers[SIDES];
static atomic_int made, shut, closes, ended, submitted, tasks_run, tasks_dropped;
static atomic_bool destroyed;
static bool ends, lazy;
static bool objects; /* a fan and its like: they have threads of their own if the pool has none */
static _Thread_local bool stays;

static int choose(int n)
{
    return EXPLORE_CHOICE(n, 0);
}

static bool one_in(int n)
{
    return choose(n) == 0;
}

static int make_call(int depth, int side);

/* ---- callbacks ---- */

static void leave_thread(void)
{
    stays = true;
    atomic_store(&ended, 1);
#ifdef TWILL_USE_PTHREAD
    pthread_exit(NULL);
#else
    thrd_exit(0);
#endif
}

static int task_fn(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    atomic_fetch_add(&tasks_run, 1);
    return 0;
}

static void task_dropped(void *arg, twill_status why, const twill_task *task)
{
    (void)arg, (void)task;
    assert(why == TWILL_CANCELLED);
    atomic_fetch_add(&tasks_dropped, 1);
}

static void submit(void)
{
    twill_status status =
        twill_pool_submit(pool, task_fn, NULL, NULL, &(twill_submit_options){.drop = task_dropped});
    assert(status == TWILL_OK || (status == TWILL_CLOSED && atomic_load(&shut)));
    atomic_fetch_add(&submitted, status == TWILL_OK);
}

static void close_pool(void)
{
    twill_status status;
    atomic_store(&shut, 1);
    status = twill_pool_close(pool);
    assert(status == TWILL_CLOSED || (status == TWILL_OK && atomic_fetch_add(&closes, 1) == 0));
}

static void ask_for_the_end(void)
{
    twill_until forever = {0, NULL};
    if (lazy || ends || atomic_load(&shut)) /* the call may have threads of its own */
        return;
    assert(twill_pool_destroy(pool) == TWILL_DEADLOCK);
    assert(twill_pool_stop(pool, forever, forever, NULL) == TWILL_DEADLOCK);
}

static int act(int depth)
{
    switch (choose(10)) {
    case 0:
        return CODE;
    case 1:
        (void)twill_sleep(twill_within(TWILL_US(2)));
        break;
    case 2:
        if (ends && !stays)
            leave_thread();
        break;
    case 3:
    case 4:
        return depth + 1 < DEEPEST ? make_call(depth + 1, -1) : 0;
    case 5:
        submit();
        break;
    case 6:
        close_pool();
        break;
    case 7:
        ask_for_the_end();
        break;
    default:
        break;
    }
    return 0;
}

static int act_in(call *c)
{
    int code;
    atomic_fetch_add(&c->begun, 1);
    atomic_fetch_add(&c->running, 1);
    assert(!atomic_load(&destroyed));
    if (c->side >= 0 && callers[c->side].turns == 0)
        atomic_store(&callers[c->side].last_begun, true);
    code = act(c->depth);
    atomic_fetch_add(code ? &c->bad : &c->good, 1);
    atomic_fetch_sub(&c->running, 1);
    return code;
}

static int item(const void *in, void *out, const twill_task *task)
{
    if (out)
        *(int *)out = 1 + *(const int *)in;
    return act_in(task->context);
}

static int fan_item(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result;
    return act_in(task->context);
}

static int fold_items(void *acc, size_t begin, size_t end, const twill_task *task)
{
    for (size_t i = begin; i < end; i++) {
        int code = act_in(task->context);
        if (code)
            return twill_task_fail(task, i, code);
        *(int *)acc += 1;
    }
    return 0;
}

static int combine(void *left, void *right, const twill_task *task)
{
    (void)task;
    *(int *)left += *(int *)right;
    return 0;
}

static int batch_fn(twill_batch *batch, const twill_task *task)
{
    for (size_t i = 0; i < batch->count; i++)
        twill_batch_set(batch, i, act_in(task->context));
    return 0;
}

static int produce(twill_queue *queue, const twill_task *task)
{
    const call *c = task->context;
    for (int k = 0; k < c->n; k++)
        if (twill_queue_push_until(queue, &k, task->until) != TWILL_OK)
            return CODE;
    return 0;
}

static int consume(void *k, const twill_task *task)
{
    (void)k;
    return act_in(task->context);
}

/* ---- calls ---- */

static void run_of(call *c, twill_run *run)
{
    run->pool = pool;
    run->context = c;
    run->report = &c->report;
    run->workers = (unsigned)choose(4);
    run->on_error = one_in(2) ? TWILL_ON_ERROR_DEFAULT : TWILL_ON_ERROR_COLLECT;
}

static int check(call *c, twill_status status, int wanted)
{
    if (!atomic_load(&ended))
        assert(!atomic_load(&c->running));
    assert(atomic_load(&c->begun) <= wanted);
    switch (status) {
    case TWILL_OK:
        assert(atomic_load(&c->good) == wanted && !atomic_load(&c->bad));
        break;
    case TWILL_FAILED:
        assert(atomic_load(&c->bad) || atomic_load(&ended));
        break;
    default:
        assert(status == TWILL_CLOSED && atomic_load(&shut) && !atomic_load(&c->begun));
    }
    return status == TWILL_FAILED ? CODE : 0;
}

static int transient(call *c, int form)
{
    int in[MOST] = {0}, out[MOST] = {0}, sum = 0, wanted = c->n;
    size_t n = (size_t)c->n;
    twill_status status;
    if (form == 0) {
        twill_parallel_options o = {.run = {0}};
        run_of(c, &o.run);
        status = twill_parallel_map(in, sizeof *in, out, sizeof *out, n, item, &o);
    } else if (form == 1) {
        static const twill_reducer reducer = {
            .size = sizeof(int), .combine = combine, .fold = fold_items};
        twill_parallel_options o = {.run = {0}};
        run_of(c, &o.run);
        status = twill_parallel_reduce(n, &reducer, &sum, &o);
        assert(status != TWILL_OK || sum == c->n);
    } else if (form == 2) {
        twill_run_all_options o = {.run = {0}};
        run_of(c, &o.run);
        o.run.on_error = TWILL_ON_ERROR_DEFAULT;
        status = twill_run_all(in, sizeof *in, out, sizeof *out, n, item, NULL, &o);
    } else if (form == 3) {
        twill_fan_options o = {.ordered = one_in(2)};
        run_of(c, &o.run);
        o.run.on_error = TWILL_ON_ERROR_DEFAULT;
        status = twill_fan_out_fan_in(in, sizeof *in, n, item, sizeof *out, NULL, &o);
    } else if (form == 4) {
        twill_stage stages[2] = {
            {.work = item, .out_size = sizeof(int), .kind = TWILL_STAGE_IN_ORDER, .context = c},
            {.work = item, .out_size = sizeof(int), .context = c}};
        twill_pipeline_options o = {.run = {0}};
        run_of(c, &o.run);
        o.run.context = NULL;
        wanted = 2 * c->n;
        status = twill_pipeline_map(in, sizeof *in, out, sizeof *out, n, stages, 2, &o);
    } else if (form == 5) {
        twill_batch_options o = {.max_items = 1 + (size_t)choose(2)};
        run_of(c, &o.run);
        o.run.on_error = TWILL_ON_ERROR_DEFAULT;
        status = twill_batch_process(in, sizeof *in, NULL, 0, n, batch_fn, &o);
    } else {
        twill_produce_consume_options o = {.queue = {.capacity = 1}};
        run_of(c, &o.run);
        o.run.on_error = TWILL_ON_ERROR_DEFAULT;
        status = twill_produce_consume(sizeof(int), produce, consume, &o);
    }
    if (status == TWILL_CLOSED)
        assert(c->report.skipped == c->report.total);
    return check(c, status, wanted);
}

/* A fan that is filled by hand. */
static int fan(call *c)
{
    twill_fan *made_fan;
    twill_fan_options o = {.run = {0}};
    twill_status status;
    int gone = 0, come = 0;
    bool stayed = stays;
    twill_outcome outcome;
    stays = true; /* who would destroy it? */
    run_of(c, &o.run);
    o.run.report = NULL;
    o.run.on_error = TWILL_ON_ERROR_DEFAULT;
    status = twill_fan_create(&made_fan, &o);
    if (status != TWILL_OK) {
        assert(status == TWILL_CLOSED && atomic_load(&shut));
        stays = stayed;
        return 0;
    }
    for (int k = 0; k < c->n; k++)
        gone += twill_fan_go(made_fan, fan_item, NULL, NULL) == TWILL_OK;
    (void)twill_fan_close(made_fan);
    while (twill_fan_next(made_fan, NULL, &outcome) == TWILL_OK)
        come++;
    assert(come == gone && (atomic_load(&ended) || atomic_load(&c->begun) == gone));
    assert(twill_fan_destroy(made_fan) == TWILL_OK);
    stays = stayed;
    return 0;
}

/* ---- the program ---- */

static int make_call(int depth, int side)
{
    call *c;
    int number = atomic_fetch_add(&made, 1);
    if (number >= CALLS)
        return 0;
    c = &calls[number];
    c->depth = depth;
    c->side = side;
    c->n = 1 + choose(MOST);
    return objects && one_in(6) ? fan(c) : transient(c, choose(objects ? 7 : 3));
}

static void calls_on_it(void *caller_)
{
    caller *me = caller_;
    stays = true;
    while (me->turns-- > 0) /* exit: counted */
        (void)make_call(0, me->number);
    atomic_store(&me->last_begun, true);
}

static void stop(void)
{
    twill_until drain = {0, NULL}, join = {0, NULL};
    twill_stopped stopped;
    twill_status status;
    if (one_in(2))
        drain = twill_within(TWILL_US(choose(4)));
    if (one_in(2))
        join = twill_within(TWILL_US(choose(4)));
    atomic_store(&shut, 1);
    status = twill_pool_stop(pool, drain, join, one_in(2) ? &stopped : NULL);
    assert(status == TWILL_OK || (status == TWILL_TIMEOUT && join.deadline));
}

int main(void)
{
    twill_pool_options options = {.run = {.workers = 1 + (unsigned)choose(2)}};
    int sides = 1 + choose(SIDES), before = choose(3);
    bool joins;
    stays = true;
    ends = one_in(3);
    options.lazy = lazy = one_in(4);
    objects = one_in(2);
    joins = objects && (lazy || ends || before == 1);
    options.max_workers = one_in(4) ? options.run.workers + 1 : 0;
    assert(twill_pool_create(&pool, &options) == TWILL_OK);
    for (int k = 0; k < sides; k++) {
        callers[k].number = k;
        callers[k].turns = 1 + choose(2);
        callers[k].thread.fn = calls_on_it;
        callers[k].thread.arg = &callers[k];
        callers[k].thread.cpu = UINT_MAX;
        assert(twill__thread_start(&callers[k].thread));
    }
    if (before == 0)
        close_pool();
    if (before == 1)
        stop();
    for (int k = 0; k < sides; k++) {
        if (joins)
            twill__thread_join(&callers[k].thread);
        while (!atomic_load(&callers[k].last_begun)) /* exit: it is, or it returns */
            (void)twill_sleep(twill_within(TWILL_US(1)));
    }
    atomic_store(&shut, 1);
    assert(twill_pool_destroy(pool) == TWILL_OK);
    atomic_store(&destroyed, true);
    for (int k = 0; k < sides && !joins; k++)
        twill__thread_join(&callers[k].thread);
    assert(atomic_load(&submitted) == atomic_load(&tasks_run) + atomic_load(&tasks_dropped));
    return 0;
}
