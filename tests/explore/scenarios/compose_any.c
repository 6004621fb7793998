/* The patterns inside one another's callbacks. Each schedule draws a tree of calls: maps, tasks, a
   fan, a pipeline, batches, producers and consumers, a map with a bar, a future that is waited for,
   a batcher's item, a call with a timeout, retries, a borrowed resource; each callback makes
   another call, until there is enough. All go to one pool, to threads of their own, or to nobody
   else; below the token and the deadline of the callback around them, or one of their own. What is
   at the bottom is done, fails, sleeps, fires the token, asks for the shutdown, or ends its thread.

   Whatever it is: every call returns; one that says OK has called back for everything, once, and
   with success; its report adds up and agrees with what its callbacks have seen; other answers have
   a reason; nothing runs when a call has returned; and everything can be ended at the end.
   EXPLORE-FLAGS: -DTWILL__SPIN=0 -DTWILL__TICKS=0 */
#undef NDEBUG
#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "explore.h"

static int thread_fails(void);
static void *counted_malloc(size_t size);
static void counted_free(void *memory);
#define TWILL_MALLOC(size)   counted_malloc(size)
#define TWILL_FREE(memory)   counted_free(memory)
#define TWILL__FAIL_THREAD() thread_fails()
#define TWILL__REPLACE_AFTER TWILL_US(10)
#define TWILL__NO_SIGNALS    1
#define TWILL_IMPLEMENTATION
#include "twill.h"

enum { FUEL = 7, DEEPEST = 4, MOST = 2, CODE = 7, CALLS = 64 };
enum { FAILS = 1, FIRES = 2, ENDS = 4, THREADLESS = 8, DEADLINES = 16 }; /* what may happen */

static twill_pool *pool;
static twill_batcher *batcher;
static twill_timeout *timeouts;
static twill_resource_pool *resources;
static twill_retry_budget budget;
static twill_shutdown *stop;
static int may;
static atomic_int armed, fuel = FUEL, ended, inside_timeouts, threadless, added, item_ends;
static twill_cancel own_token, *token;
static _Thread_local bool stays;

typedef struct call { /* one call of the library; its callbacks are counted there */
    int n, depth;
    atomic_int begun, good, bad, running;
    twill_until until;
    twill_report report;
    twill_future handle; /* of a thread that may end while it waits */
    atomic_int asked;
} call;

static call calls[CALLS];
static atomic_int made;

static atomic_int blocks;

static void *counted_malloc(size_t size)
{
    atomic_fetch_add(&blocks, 1);
    return malloc(size);
}

static void counted_free(void *memory)
{
    free(memory);
    if (memory)
        atomic_fetch_sub(&blocks, 1);
}

static int choose(int n)
{
    return EXPLORE_CHOICE(n, 0);
}

static bool one_in(int n)
{
    return choose(n) == 0;
}

static int thread_fails(void)
{
    bool fails = atomic_load(&armed) && (may & THREADLESS) && one_in(3);
    atomic_fetch_add(&threadless, fails);
    return fails;
}

static int act(int depth, const twill_task *around);

/* ---- callbacks ---- */

static int act_in(call *c, const twill_task *task)
{
    int code;
    atomic_fetch_add(&c->begun, 1);
    atomic_fetch_add(&c->running, 1);
    code = act(c->depth + 1, task);
    atomic_fetch_add(code ? &c->bad : &c->good, 1);
    atomic_fetch_sub(&c->running, 1);
    return code;
}

static int item(const void *in, void *out, const twill_task *task)
{
    if (out)
        *(int *)out = 1 + *(const int *)in;
    return act_in(task->context, task);
}

static int task_fn(void *c, void *result, const twill_task *task)
{
    *(int *)result = 1;
    return act_in(c, task);
}

static int batch_fn(twill_batch *batch, const twill_task *task)
{
    for (size_t i = 0; i < batch->count; i++)
        twill_batch_set(batch, i, act_in(task->context, task));
    return 0;
}

static int batcher_fn(twill_batch *batch, const twill_task *task)
{
    for (size_t i = 0; i < batch->count; i++)
        twill_batch_set(batch, i, act_in(twill_batch_item(batch, i), task));
    return 0;
}

static void item_ended(void *c, const twill_outcome *outcome, void *result, const twill_task *task)
{
    (void)c, (void)outcome, (void)result, (void)task;
    atomic_fetch_add(&item_ends, 1);
}

static int aggregate(const void *result, const twill_outcome *outcome, const twill_task *task)
{
    (void)task;
    assert((result != NULL) == (outcome->status == TWILL_OK));
    return 0;
}

static int produce(twill_queue *queue, const twill_task *task)
{
    const call *c = task->context;
    for (int k = 0; k < c->n; k++) {
        twill_status status = twill_queue_push_until(queue, &k, task->until);
        if (status != TWILL_OK)
            return status == TWILL_CLOSED ? 0 : CODE;
    }
    return 0;
}

static int consume(void *k, const twill_task *task)
{
    (void)k;
    return act_in(task->context, task);
}

static int use(void *resource, const twill_task *task)
{
    (void)resource;
    return act_in(task->context, task);
}

static int create(void **resource, const twill_task *task)
{
    (void)task;
    *resource = &fuel;
    return 0;
}

/* Its call may have returned. */
static int timed(const void *c, void *out, const twill_task *task)
{
    int code;
    atomic_fetch_add(&inside_timeouts, 1);
    code = act(1 + *(const int *)c, task);
    *(int *)out = 1;
    atomic_fetch_sub(&inside_timeouts, 1);
    return code;
}

/* ---- the bottom ---- */

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

static int leaf(const twill_task *around)
{
    switch (choose(8)) {
    case 0:
        return may & FAILS ? CODE : 0;
    case 1:
        (void)twill_sleep(twill_within(TWILL_US(2)));
        break;
    case 2:
        if (around)
            (void)twill_sleep((twill_until){twill_now() + TWILL_US(3), around->until.cancel});
        break;
    case 3:
        if ((may & FIRES) && one_in(2))
            twill_shutdown_request(stop, 1);
        else if (may & FIRES)
            twill_cancel_fire(token, 1);
        break;
    case 4:
        if ((may & ENDS) && !stays && one_in(2))
            leave_thread();
        break;
    default:
        break;
    }
    return 0;
}

/* ---- calls ---- */

static void draw_run(call *c, twill_run *run, const twill_task *around, bool threads)
{
    c->until = around && !one_in(3) ? around->until : (twill_until){0, token};
    if ((may & DEADLINES) && one_in(3)) {
        twill_ns soon = twill_now() + TWILL_US(1 + choose(6));
        if (!c->until.deadline || soon < c->until.deadline)
            c->until.deadline = soon;
    }
    run->context = c;
    run->until = c->until;
    run->report = &c->report;
    if (!threads)
        return;
    run->workers = 1 + (unsigned)choose(2);
    run->pool = one_in(4) ? NULL : pool;
    if (run->pool && one_in(3))
        run->workers = 0;
    c->n = 1 + choose(MOST);
}

/* Its answer has a reason. */
static void check_reason(const call *c, twill_status status)
{
    switch (status) {
    case TWILL_OK:
        break;
    case TWILL_FAILED:
        assert(atomic_load(&c->bad) || atomic_load(&ended));
        break;
    case TWILL_CANCELLED:
        assert(twill_cancel_fired(c->until.cancel) || atomic_load(&ended));
        break;
    case TWILL_TIMEOUT:
        assert(c->until.deadline && twill_now() >= c->until.deadline);
        break;
    case TWILL_NO_THREAD:
        assert(atomic_load(&threadless));
        break;
    default:
        assert(!"an answer without a reason");
    }
}

static int check(call *c, twill_status status, int wanted)
{
    const twill_report *r = &c->report;
    check_reason(c, status);
    assert(r->status == status && r->skipped <= r->total && r->failed <= r->total);
    assert(r->total == r->done + r->failed + r->skipped);
    if (!atomic_load(&ended))
        assert(!atomic_load(&c->running));
    assert(atomic_load(&c->begun) <= wanted);
    if (status == TWILL_OK)
        assert(atomic_load(&c->good) == wanted && (int)r->done == c->n);
    if (wanted == c->n && !atomic_load(&ended) && status != TWILL_NO_THREAD)
        assert((int)r->done == atomic_load(&c->good) && (int)r->failed == atomic_load(&c->bad));
    return status == TWILL_FAILED ? CODE : 0;
}

static int map(call *c, const twill_task *around, int form)
{
    int in[MOST] = {0}, out[MOST] = {0}, wanted;
    twill_status status;
    if (form == 0) {
        twill_parallel_options o = {.run = {0}};
        draw_run(c, &o.run, around, true);
        status = twill_parallel_map(in, sizeof *in, out, sizeof *out, (size_t)c->n, item, &o);
    } else if (form == 1) {
        twill_run_all_options o = {.run = {0}};
        draw_run(c, &o.run, around, true);
        status = twill_run_all(in, sizeof *in, out, sizeof *out, (size_t)c->n, item, NULL, &o);
    } else if (form == 2) {
        twill_fan_options o = {.ordered = one_in(2)};
        draw_run(c, &o.run, around, true);
        status = twill_fan_out_fan_in(in, sizeof *in, (size_t)c->n, item, sizeof *out,
                                      one_in(2) ? aggregate : NULL, &o);
    } else {
        twill_map_with_progress_options o = {.progress = {.style = TWILL_PROGRESS_SILENT}};
        draw_run(c, &o.run, around, true);
        status = twill_map_with_progress(in, sizeof *in, out, sizeof *out, (size_t)c->n, item, &o);
    }
    wanted = c->n;
    for (int k = 0; k < c->n && status == TWILL_OK && form != 2; k++)
        assert(out[k] == 1);
    return check(c, status, wanted);
}

static int pipeline(call *c, const twill_task *around)
{
    int in[MOST] = {0}, out[MOST] = {0};
    twill_stage stages[2] = {{.work = item, .out_size = sizeof(int), .kind = TWILL_STAGE_IN_ORDER},
                             {.work = item, .out_size = sizeof(int)}};
    twill_pipeline_options o = {.run = {0}};
    draw_run(c, &o.run, around, true);
    stages[0].kind = (twill_stage_kind)choose(3);
    stages[0].context = stages[1].context = c;
    o.run.context = NULL;
    return check(c,
                 twill_pipeline_map(in, sizeof *in, out, sizeof *out, (size_t)c->n, stages, 2, &o),
                 2 * c->n);
}

static int batches(call *c, const twill_task *around)
{
    int in[MOST] = {0};
    twill_batch_options o = {.max_items = 1 + (size_t)choose(2)};
    draw_run(c, &o.run, around, true);
    return check(c, twill_batch_process(in, sizeof *in, NULL, 0, (size_t)c->n, batch_fn, &o), c->n);
}

static int exchange(call *c, const twill_task *around)
{
    twill_produce_consume_options o = {.queue = {.capacity = one_in(4) ? TWILL_RENDEZVOUS : 1}};
    twill_status status;
    draw_run(c, &o.run, around, true);
    status = twill_produce_consume(sizeof(int), produce, consume, &o);
    if (status == TWILL_FAILED && !atomic_load(&c->bad)) /* the producer, that was told to stop */
        assert(twill_cancel_fired(c->until.cancel) || c->until.deadline || atomic_load(&ended));
    else
        check_reason(c, status);
    if (status == TWILL_OK)
        assert(atomic_load(&c->good) == c->n);
    return status == TWILL_FAILED ? CODE : 0;
}

static void let_go(call *c)
{
    if (atomic_exchange(&c->asked, 0))
        twill_future_release(c->handle);
}

/* A task of the pool, that is waited for. */
static int future(call *c, const twill_task *around)
{
    twill_run none = {0};
    twill_outcome outcome;
    int result = 0;
    twill_status status;
    draw_run(c, &none, around, false);
    status = twill_pool_submit_until(pool, task_fn, c, &c->handle, c->until,
                                     &(twill_submit_options){.result_size = sizeof(int)});
    if (status != TWILL_OK) {
        assert(status == TWILL_CLOSED || status == TWILL_CANCELLED || status == TWILL_TIMEOUT);
        assert(!atomic_load(&c->begun));
        return 0;
    }
    atomic_store(&c->asked, 1);
    status = twill_future_wait(c->handle, &result, &outcome);
    assert(status == TWILL_OK || status == TWILL_FAILED);
    assert(status != TWILL_OK || (result == 1 && atomic_load(&c->good) == 1));
    if (status == TWILL_FAILED)
        assert(atomic_load(&c->bad) || twill_cancel_fired(token) || atomic_load(&ended));
    let_go(c);
    return outcome.status == TWILL_FAILED ? CODE : 0;
}

static int batched(call *c, const twill_task *around)
{
    twill_run none = {0};
    twill_outcome outcome;
    twill_status status;
    draw_run(c, &none, around, false);
    status = twill_batcher_add_until(batcher, c, &c->handle, c->until);
    if (status != TWILL_OK) {
        assert(status == TWILL_CLOSED || status == TWILL_CANCELLED || status == TWILL_TIMEOUT ||
               (status == TWILL_DEADLOCK && around));
        return 0;
    }
    atomic_fetch_add(&added, 1);
    atomic_store(&c->asked, 1);
    status = twill_future_wait(c->handle, NULL, &outcome);
    if (status == TWILL_DEADLOCK) { /* from inside of its only worker: it ends later */
        assert(around);
        return 0;
    }
    assert(status == TWILL_OK || status == TWILL_FAILED);
    let_go(c);
    return outcome.status == TWILL_FAILED ? CODE : 0;
}

static int with_timeout(call *c, const twill_task *around)
{
    twill_run none = {0};
    twill_timeout_report report;
    int out = 0;
    twill_status status;
    draw_run(c, &none, around, false);
    status = twill_timeout_call(timeouts, &c->depth, sizeof c->depth, &out, sizeof out, timed,
                                c->until, &report);
    assert((status == TWILL_OK) == (out == 1));
    if (status == TWILL_LOST)
        assert(atomic_load(&ended));
    else
        assert(status != TWILL_INVALID && status != TWILL_TOO_BIG && status != TWILL_NO_MEMORY);
    return status == TWILL_FAILED ? report.code : 0;
}

static int retried(call *c, const twill_task *around)
{
    twill_run none = {0};
    twill_retry_report report;
    int out = 0, in = 0;
    twill_status status;
    draw_run(c, &none, around, false);
    status = twill_retry_call(&in, &out, item,
                              &(twill_retry_options){.max_attempts = 2,
                                                     .base = TWILL_US(1),
                                                     .until = c->until,
                                                     .context = c,
                                                     .budget = one_in(2) ? &budget : NULL},
                              &report);
    if (status == TWILL_TIMEOUT) /* or the next pause would end too late */
        assert(c->until.deadline);
    else
        check_reason(c, status);
    assert((int)report.attempts == atomic_load(&c->begun) && report.attempts <= 2);
    assert((status == TWILL_OK) == (atomic_load(&c->good) == 1));
    return status == TWILL_FAILED ? report.code : 0;
}

static int borrowed(call *c, const twill_task *around)
{
    twill_run none = {0};
    twill_with_resource_options o = {.report = &c->report};
    twill_status status;
    twill_ns soon;
    draw_run(c, &none, around, false);
    soon = twill_now() + TWILL_US(5); /* with a token, no circle is looked for */
    if (!c->until.deadline || c->until.deadline > soon)
        c->until.deadline = soon;
    o.until = c->until;
    c->n = 1;
    status = twill_with_resource(resources, use, c, &o);
    if (status == TWILL_DEADLOCK || status == TWILL_CLOSED)
        return 0;
    return check(c, status, 1);
}

/* ---- the tree ---- */

static int act(int depth, const twill_task *around)
{
    call *c;
    if (depth >= DEEPEST || one_in(4) || atomic_fetch_sub(&fuel, 1) <= 0)
        return leaf(around);
    c = &calls[atomic_fetch_add(&made, 1)];
    c->depth = depth;
    switch (choose(12)) {
    case 0:
    case 1:
    case 2:
    case 3:
        return map(c, around, choose(4));
    case 4:
        return pipeline(c, around);
    case 5:
        return batches(c, around);
    case 6:
        return exchange(c, around);
    case 7:
        return future(c, around);
    case 8: /* not inside, where what waits may be what is waited for */
        return around ? leaf(around) : batched(c, around);
    case 9:
        return with_timeout(c, around);
    case 10:
        return retried(c, around);
    default:
        return borrowed(c, around);
    }
}

static void beside(void *unused)
{
    (void)unused;
    if (twill_shutdown_enter(stop) != TWILL_OK)
        return;
    (void)act(0, NULL);
    twill_shutdown_leave(stop);
}

static void create_all(void)
{
    twill_pool_options p = {.run = {.workers = 1 + (unsigned)choose(2)}};
    twill_batch_options b = {.run = {.workers = 1, .pool = one_in(2) ? pool : NULL},
                             .max_items = 1,
                             .on_item = item_ended};
    twill_timeout_options t = {.timeout = may & DEADLINES ? TWILL_US(4) : TWILL_FOREVER,
                               .mode = (twill_timeout_mode)choose(3)};
    assert(twill_shutdown_create(&stop, &(twill_shutdown_options){.no_signals = true}) == TWILL_OK);
    token = one_in(2) ? &own_token : twill_shutdown_cancel_token(stop);
    p.run.until.cancel = one_in(3) ? token : NULL;
    if (one_in(3))
        p.max_workers = p.run.workers + 1;
    assert(twill_pool_create(&pool, &p) == TWILL_OK);
    b.run.pool = one_in(2) ? pool : NULL;
    assert(twill_batcher_create(&batcher, batcher_fn, &b) == TWILL_OK);
    assert(twill_timeout_create(&timeouts, &t) == TWILL_OK);
    assert(twill_resource_pool_create(
               &resources, &(twill_resource_pool_options){.max = 1 + (size_t)choose(2),
                                                          .create = create}) == TWILL_OK);
}

int main(void)
{
    twill__thrd other = {.fn = beside, .cpu = UINT_MAX};
    twill_shutdown_report report;
    twill_status status;
    bool two = one_in(2);
    stays = true;
    may = choose(32);
    create_all();
    atomic_store(&armed, 1);
    if (two)
        two = twill__thread_start(&other);
    (void)act(0, NULL);
    if (two)
        twill__thread_join(&other);
    status = twill_shutdown_finish(stop, &report); /* TIMEOUT: time may pass at any time */
    assert(status == TWILL_OK || status == TWILL_TIMEOUT || atomic_load(&ended));
    assert(twill_timeout_drain(timeouts, (twill_until){0, NULL}, NULL) == TWILL_OK);
    assert(twill_timeout_destroy(timeouts) == TWILL_OK);
    assert(twill_batcher_destroy(batcher) == TWILL_OK);
    assert(atomic_load(&item_ends) == atomic_load(&added));
    assert(twill_pool_destroy(pool) == TWILL_OK);
    for (int k = 0; k < atomic_load(&made); k++)
        let_go(&calls[k]);
    assert(twill_resource_pool_destroy(resources) == TWILL_OK);
    assert(twill_shutdown_destroy(stop) == TWILL_OK);
    twill_cancel_detach(&own_token);
    while (atomic_load(&blocks)) /* exit: who was passed over comes to its end */
        (void)twill_sleep(twill_within(TWILL_MS(1)));
    return 0;
}
