/* A shutdown whose hooks end the other patterns. Each schedule draws two threads that work inside
   of it on a queue, a pool, a set of resources, a limiter and a batcher, below its tokens; and
   hooks, in any order, that close and empty the queue, stop or destroy the pool, close and drain
   the set, close the limiter, stop the batcher, and make a call on a pool that may have ended.
   Sometimes a window is over while a thread still works.

   Whatever it is: no call waits for ever, and its answer fits; what went into the queue comes out
   once; an accepted task runs or is dropped; an accepted item ends; what is lent comes back; and
   each hook ends in the way that it has earned.
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

enum { SIDES = 2, MOVES = 3, CODE = 7 };
enum { EMPTIES, STOPS, SHUTS, STARVES, FLUSHES, CALLS, HOOKS };

static twill_shutdown *stop;
static twill_queue *queue;
static twill_pool *pool;
static twill_resource_pool *set;
static twill_rate_limiter limiter;
static twill_batcher *batcher;
static bool strict; /* nobody works any more when the hooks begin */
static atomic_int shut[HOOKS], ran[HOOKS], gave[HOOKS]; /* begun; done; what it has returned */
static atomic_int pushed, popped, submitted, tasks_run, tasks_dropped, added, batched, items_ended,
    lent, resources;
static int order[HOOKS], hooks;
static bool on_pool; /* the batcher, which a stop of it would wait for */

static int choose(int n)
{
    return EXPLORE_CHOICE(n, 0);
}

static bool one_in(int n)
{
    return choose(n) == 0;
}

/* ---- callbacks ---- */

static int create(void **resource, const twill_task *task)
{
    (void)task;
    *resource = &resources;
    atomic_fetch_add(&resources, 1);
    return 0;
}

static void destroy(void *resource, twill_resource_end why, const twill_task *task)
{
    (void)resource, (void)why, (void)task;
    atomic_fetch_sub(&resources, 1);
}

static int batch_fn(twill_batch *batch, const twill_task *task)
{
    (void)task;
    atomic_fetch_add(&batched, (int)batch->count);
    return 0;
}

static void item_ended(void *item, const twill_outcome *outcome, void *result,
                       const twill_task *task)
{
    (void)item, (void)outcome, (void)result, (void)task;
    atomic_fetch_add(&items_ended, 1);
}

static int nothing(const twill_task *task)
{
    atomic_fetch_add((atomic_int *)task->context, 1);
    return 0;
}

/* ---- the work ---- */

static twill_until some_until(void)
{
    twill_until until = {0, NULL};
    if (one_in(3))
        until = twill_within(TWILL_US(choose(4)));
    /* without windows the second token comes when nobody is inside any more */
    until.cancel = one_in(2) && (until.deadline || !strict) ? twill_shutdown_cancel_token(stop)
                                                            : twill_shutdown_drain_token(stop);
    return until;
}

/* `closed_by`: the hook after whose beginning a call may be CLOSED; until: what else may end it. */
static bool fits(twill_status status, int closed_by, twill_until until)
{
    switch (status) {
    case TWILL_OK:
        return true;
    case TWILL_CLOSED:
        assert(atomic_load(&shut[closed_by]));
        break;
    case TWILL_CANCELLED:
        assert(twill_cancel_fired(until.cancel));
        break;
    default:
        assert(status == TWILL_TIMEOUT && until.deadline);
        assert(closed_by == STARVES /* says so before */ || twill_now() >= until.deadline);
    }
    return false;
}

static void borrow(twill_until until)
{
    twill_lease lease;
    if (!fits(twill_resource_pool_acquire_until(set, &lease, until), SHUTS, until))
        return;
    atomic_fetch_add(&lent, 1);
    if (one_in(2))
        (void)twill_sleep((twill_until){twill_now() + TWILL_US(2), until.cancel});
    atomic_fetch_sub(&lent, 1);
    assert(twill_resource_pool_release(set, &lease) == TWILL_OK);
}

static int task_fn(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result;
    atomic_fetch_add(&tasks_run, 1);
    if (one_in(2)) {
        twill_until until = {twill_now() + TWILL_US(3), task->until.cancel};
        twill_lease lease;
        twill_status status = twill_resource_pool_acquire_until(set, &lease, until);
        if (status == TWILL_OK)
            assert(twill_resource_pool_release(set, &lease) == TWILL_OK);
    }
    return 0;
}

static void task_dropped(void *arg, twill_status why, const twill_task *task)
{
    (void)arg, (void)task;
    assert(why == TWILL_CANCELLED);
    atomic_fetch_add(&tasks_dropped, 1);
}

static void submit(twill_until until)
{
    twill_future future = {0};
    bool asks = one_in(2);
    twill_submit_options options = {.drop = task_dropped};
    if (!fits(twill_pool_submit_until(pool, task_fn, NULL, asks ? &future : NULL, until, &options),
              STOPS, until))
        return;
    atomic_fetch_add(&submitted, 1);
    if (asks) {
        twill_status status = twill_future_wait_until(future, NULL, NULL, until);
        if (status != TWILL_FAILED)
            (void)fits(status, STOPS, until);
        else
            assert(atomic_load(&shut[STOPS]) ||
                   twill_cancel_fired(twill_shutdown_cancel_token(stop)));
        twill_future_release(future);
    }
}

static void call_on_pool(twill_until until)
{
    atomic_int count = 0;
    twill_report report;
    twill_parallel_options options = {
        .run = {.pool = pool, .until = until, .context = &count, .report = &report}};
    if (fits(twill_parallel_for(2, nothing, &options), STOPS, until))
        assert(atomic_load(&count) == 2);
    else
        assert((int)report.done == atomic_load(&count) && report.done + report.skipped == 2);
}

static void work(void)
{
    twill_until until = some_until();
    int item = 1;
    switch (choose(7)) {
    case 0:
        atomic_fetch_add(&pushed,
                         fits(twill_queue_push_until(queue, &item, until), EMPTIES, until));
        break;
    case 1:
        atomic_fetch_add(&popped, fits(twill_queue_pop_until(queue, &item, until), EMPTIES, until));
        break;
    case 2:
        submit(until);
        break;
    case 3:
        borrow(until);
        break;
    case 4:
        (void)fits(twill_rate_limiter_acquire_until(&limiter, 1, until), STARVES, until);
        break;
    case 5:
        if (fits(twill_batcher_add_until(batcher, &added, NULL, until), FLUSHES, until))
            atomic_fetch_add(&added, 1);
        break;
    default:
        call_on_pool(until);
    }
}

static void work_inside(void *unused)
{
    int moves = 1 + choose(MOVES);
    (void)unused;
    while (moves-- > 0 && twill_shutdown_enter(stop) == TWILL_OK) { /* exit: counted */
        work();
        twill_shutdown_leave(stop);
    }
    if (one_in(2))
        twill_shutdown_request(stop, 1);
}

/* ---- the hooks ---- */

static int give(int number, bool failed)
{
    int code = failed ? CODE : 0;
    atomic_store(&gave[number], code);
    atomic_fetch_add(&ran[number], 1);
    return code;
}

static int empties(const twill_task *task)
{
    int item;
    atomic_store(&shut[EMPTIES], 1);
    assert(twill_queue_close(queue) == TWILL_OK);
    for (;;) { /* exit: it is closed */
        twill_status status = twill_queue_pop_until(queue, &item, task->until);
        if (status != TWILL_OK) {
            assert(status == TWILL_CLOSED);
            break;
        }
        atomic_fetch_add(&popped, 1);
    }
    return give(EMPTIES, false);
}

static int stops(const twill_task *task)
{
    twill_stopped stopped;
    twill_until drain = one_in(2) ? twill_within(0) : task->until;
    atomic_store(&shut[STOPS], 1);
    if (one_in(3))
        assert(twill_pool_close(pool) == TWILL_OK);
    assert(twill_pool_stop(pool, drain, task->until, &stopped) == TWILL_OK && !stopped.stuck);
    if (strict && order[0] == STOPS && one_in(2)) { /* it is the last one */
        assert(twill_pool_destroy(pool) == TWILL_OK);
        pool = NULL;
    }
    return give(STOPS, false);
}

static int shuts(const twill_task *task)
{
    twill_status status;
    atomic_store(&shut[SHUTS], 1);
    assert(twill_resource_pool_close(set) == TWILL_OK);
    status = twill_resource_pool_drain_until(set, task->until);
    assert(status == TWILL_OK);
    return give(SHUTS, false);
}

static int starves(const twill_task *task)
{
    (void)task;
    atomic_store(&shut[STARVES], 1);
    assert(twill_rate_limiter_close(&limiter) == TWILL_OK);
    assert(twill_rate_limiter_close(&limiter) == TWILL_CLOSED);
    return give(STARVES, false);
}

static int flushes(const twill_task *task)
{
    twill_stopped stopped;
    atomic_store(&shut[FLUSHES], 1);
    assert(twill_batcher_stop(batcher, task->until, task->until, &stopped) == TWILL_OK);
    return give(FLUSHES, !stopped.finished);
}

/* On the pool, which an earlier hook may have stopped. */
static int calls(const twill_task *task)
{
    atomic_int count = 0;
    twill_parallel_options options = {
        .run = {.pool = pool, .until = task->until, .context = &count}};
    twill_status status;
    atomic_store(&shut[CALLS], 1);
    status = twill_parallel_for(3, nothing, &options);
    assert(status == TWILL_OK || (status == TWILL_CLOSED && atomic_load(&shut[STOPS])));
    assert(atomic_load(&count) == (status == TWILL_OK ? 3 : 0));
    return give(CALLS, status != TWILL_OK);
}

static void add_hooks(void)
{
    static twill_shutdown_fn *const all[HOOKS] = {empties, stops, shuts, starves, flushes, calls};
    static const char *const names[HOOKS] = {"0", "1", "2", "3", "4", "5"};
    int first = choose(HOOKS), step = one_in(2) ? 1 : 5; /* in a circle, either way */
    int most = 1 + choose(HOOKS);
    for (int k = 0; k < most; k++) {
        int hook = (first + k * step) % HOOKS;
        if (hook == STOPS && on_pool)
            continue;
        order[hooks++] = hook;
        assert(twill_shutdown_add(stop, names[hook], all[hook], NULL, 0) == TWILL_OK);
    }
}

/* ---- the whole ---- */

static void create_all(void)
{
    twill_shutdown_options s = {.no_signals = true, .total = TWILL_FOREVER};
    twill_pool_options p = {.run = {.workers = 1}, .capacity = 1 + (size_t)choose(2)};
    twill_resource_pool_options r = {.max = 1, .create = create, .destroy = destroy};
    twill_batch_options b = {.run = {.workers = 1}, .max_items = 2, .on_item = item_ended};
    strict = one_in(2);
    if (!strict) {
        s.drain = TWILL_US(2);
        s.cancel = TWILL_US(2);
    }
    assert(twill_shutdown_create(&stop, &s) == TWILL_OK);
    assert(twill_queue_create(&queue, sizeof(int), &(twill_queue_options){.capacity = 1}) ==
           TWILL_OK);
    p.run.until.cancel = one_in(2) ? twill_shutdown_cancel_token(stop) : NULL;
    assert(twill_pool_create(&pool, &p) == TWILL_OK);
    r.max_idle = one_in(2); /* not plain */
    assert(twill_resource_pool_create(&set, &r) == TWILL_OK);
    assert(twill_rate_limiter_init(&limiter,
                                   &(twill_rate_limiter_options){
                                       .tokens = 1, .per = TWILL_US(2), .burst = 1}) == TWILL_OK);
    on_pool = one_in(3);
    b.run.pool = on_pool ? pool : NULL;
    assert(twill_batcher_create(&batcher, batch_fn, &b) == TWILL_OK);
}

int main(void)
{
    static twill__thrd sides[SIDES];
    twill_shutdown_report report;
    twill_status status;
    int n = 1 + choose(SIDES), item, failed = 0;
    create_all();
    add_hooks();
    for (int k = 0; k < n; k++) {
        sides[k].fn = work_inside;
        sides[k].cpu = UINT_MAX;
        assert(twill__thread_start(&sides[k]));
    }
    status = twill_shutdown_finish(stop, &report);
    for (int k = 0; k < n; k++)
        twill__thread_join(&sides[k]);
    for (int k = 0; k < hooks; k++) {
        assert(atomic_load(&ran[order[k]]) == 1);
        failed += atomic_load(&gave[order[k]]) != 0;
    }
    assert(report.hooks == (size_t)hooks && report.hooks_failed == (size_t)failed);
    assert(report.hooks_overran == 0 && (!strict || report.stuck == 0));
    assert(status == (failed ? TWILL_FAILED : report.stuck ? TWILL_TIMEOUT : TWILL_OK));
    assert(twill_batcher_destroy(batcher) == TWILL_OK);
    assert(atomic_load(&items_ended) == atomic_load(&added));
    assert(twill_pool_destroy(pool) == TWILL_OK);
    assert(atomic_load(&submitted) == atomic_load(&tasks_run) + atomic_load(&tasks_dropped));
    while (twill_queue_try_pop(queue, &item) == TWILL_OK) /* exit: it only gets less */
        atomic_fetch_add(&popped, 1);
    assert(atomic_load(&pushed) == atomic_load(&popped));
    assert(twill_queue_destroy(queue) == TWILL_OK);
    assert(atomic_load(&lent) == 0);
    assert(twill_resource_pool_destroy(set) == TWILL_OK);
    assert(atomic_load(&resources) == 0);
    assert(twill_shutdown_destroy(stop) == TWILL_OK);
    return 0;
}
