/* Retries of limited calls in the tasks of a pool. Each schedule draws some tasks, from one or two
   threads, with time limits, a token and an `on_done`; each enters a bulkhead and calls with
   retries, which share a budget; an attempt takes a token of a limiter below its deadline, naps,
   fails, hints when to come again, gives its token back, slows the limiter down, or ends its
   thread. Meanwhile somebody cancels a task, fires the token, closes the limiter or the bulkhead,
   sets the rate, or stops the pool.

   Whatever it is: never more than may be are inside; the limiter has granted what it says, and no
   more than its rate makes; a report counts the attempts, and says why there was no further one;
   nobody retries for nothing; a task has one outcome, runs or is dropped; nobody waits for ever,
   and answers have a reason.
   EXPLORE-FLAGS: -DTWILL__SPIN=0 -DTWILL__TICKS=0 */
#undef NDEBUG
#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "explore.h"

#define TWILL__REPLACE_AFTER TWILL_US(10)
#define TWILL_IMPLEMENTATION
#include "twill_rate_limiter.h"
#include "twill_retry_backoff.h"
#include "twill_worker_pool.h"

enum { SIDES = 2, TASKS = 3, MOST = SIDES * TASKS, CODE = 7, LATER = 8, CAPACITY = 3 };

typedef struct one_task {
    int attempts, last;
    bool left; /* its thread has ended */
    twill_retry_report report;
    twill_future future;
    atomic_int ran, dropped, told;
} one_task;

static one_task tasks[MOST];
static twill_pool *pool;
static twill_rate_limiter limiter;
static twill_bulkhead bulkhead;
static twill_retry_budget budget;
static twill_cancel token;
static bool may_end, may_change;
static _Thread_local bool stays; /* it waits, and so it may run a task */
static int places;
static atomic_int inside, retries, closed_limiter, closed_bulkhead, stopped, changed, ended;
static _Atomic uint64_t granted, returned;
static twill_ns begun;

static int choose(int n)
{
    return EXPLORE_CHOICE(n, 0);
}

static bool one_in(int n)
{
    return choose(n) == 0;
}

static void leave_thread(void)
{
    atomic_fetch_add(&ended, 1);
#ifdef TWILL_USE_PTHREAD
    pthread_exit(NULL);
#else
    thrd_exit(0);
#endif
}

/* ---- an attempt ---- */

static twill_ns when_again(int code, const void *out, const twill_task *task)
{
    (void)out, (void)task;
    if (code != LATER)
        return 0;
    return one_in(4) ? TWILL_RETRY_NEVER : twill_rate_limiter_wait_time(&limiter, 1);
}

static int take(twill_until until)
{
    twill_status status = one_in(4) ? twill_rate_limiter_try_acquire(&limiter, 1)
                                    : twill_rate_limiter_acquire_until(&limiter, 1, until);
    switch (status) {
    case TWILL_OK:
        atomic_fetch_add(&granted, 1);
        return 0;
    case TWILL_EMPTY:
        return LATER;
    case TWILL_CLOSED:
        assert(atomic_load(&closed_limiter));
        return CODE;
    case TWILL_CANCELLED:
        assert(twill_cancel_fired(until.cancel));
        return CODE;
    default:
        assert(status == TWILL_TIMEOUT && until.deadline);
        return LATER;
    }
}

static int attempt(const void *in, void *out, const twill_task *task)
{
    one_task *t = &tasks[*(const int *)in];
    int code;
    (void)out;
    assert(task->index == (size_t)t->attempts && task->context == t);
    t->attempts++;
    t->last = -1;
    if (task->index)
        atomic_fetch_add(&retries, 1);
    code = take(task->until);
    switch (code ? 9 : choose(8)) {
    case 0:
        code = CODE;
        break;
    case 1:
        (void)twill_sleep((twill_until){twill_now() + TWILL_US(2), task->until.cancel});
        break;
    case 2:
        atomic_fetch_add(&returned, 1);
        twill_rate_limiter_give_back(&limiter, 1);
        break;
    case 3:
        if (may_change)
            twill_rate_limiter_penalise(&limiter, TWILL_US(2));
        break;
    case 4:
        if (may_end && !stays) { /* who lets go of its place must do so first */
            t->left = true;
            atomic_fetch_sub(&inside, 1);
            assert(twill_bulkhead_leave(&bulkhead) == TWILL_OK);
            leave_thread();
        }
        break;
    default:
        break;
    }
    return t->last = code;
}

/* ---- a task ---- */

static void check_report(const one_task *t, twill_status status, twill_until until)
{
    const twill_retry_report *r = &t->report;
    assert(r->status == status && r->attempts == (size_t)t->attempts && r->attempts <= 3);
    switch (r->end) {
    case TWILL_RETRY_SUCCEEDED:
        assert(status == TWILL_OK && t->last == 0);
        break;
    case TWILL_RETRY_CANCELLED:
        assert(status == TWILL_CANCELLED && twill_cancel_fired(until.cancel));
        break;
    case TWILL_RETRY_DEADLINE:
        assert(status == TWILL_TIMEOUT && until.deadline);
        break;
    case TWILL_RETRY_PERMANENT:
        assert(status == TWILL_FAILED && t->last == LATER && r->code == LATER);
        break;
    case TWILL_RETRY_ATTEMPTS:
        assert(status == TWILL_FAILED && r->attempts == 3 && r->code == t->last);
        break;
    case TWILL_RETRY_HINT_TOO_LONG:
        assert(t->last == LATER);
        break;
    default:
        assert(r->end == TWILL_RETRY_NO_BUDGET && status == TWILL_FAILED && t->last > 0);
    }
}

static int task_fn(void *task_, void *result, const twill_task *task)
{
    one_task *t = task_;
    twill_status status;
    int number = (int)(t - tasks);
    twill_retry_options o = {.max_attempts = 3,
                             .base = TWILL_US(1),
                             .until = task->until,
                             .attempt_timeout = one_in(3) ? TWILL_US(3) : 0,
                             .context = t,
                             .after_failure = one_in(2) ? when_again : NULL,
                             .budget = &budget};
    (void)result;
    assert(atomic_fetch_add(&t->ran, 1) == 0 && !atomic_load(&t->dropped));
    status = twill_bulkhead_enter_until(&bulkhead, task->until);
    if (status != TWILL_OK) {
        assert(status == TWILL_CLOSED      ? atomic_load(&closed_bulkhead)
               : status == TWILL_CANCELLED ? twill_cancel_fired(task->until.cancel)
                                           : status == TWILL_TIMEOUT && task->until.deadline);
        return CODE;
    }
    assert(atomic_fetch_add(&inside, 1) < places);
    status = twill_retry_call(&number, NULL, attempt, &o, &t->report);
    check_report(t, status, o.until);
    atomic_fetch_sub(&inside, 1);
    assert(twill_bulkhead_leave(&bulkhead) == TWILL_OK);
    return status == TWILL_OK ? 0 : CODE;
}

static void task_dropped(void *task_, twill_status why, const twill_task *task)
{
    one_task *t = task_;
    (void)task;
    assert(why == TWILL_CANCELLED || why == TWILL_TIMEOUT);
    assert(atomic_fetch_add(&t->dropped, 1) == 0 && !atomic_load(&t->ran));
}

static void task_told(const twill_outcome *outcome, void *result, const twill_task *task)
{
    (void)result, (void)task;
    assert(atomic_fetch_add(&tasks[*(const int *)outcome->key].told, 1) == 0);
}

/* ---- the threads ---- */

static void meddle(int mine)
{
    switch (choose(8)) {
    case 0:
        (void)twill_future_cancel(tasks[mine].future);
        break;
    case 1:
        twill_cancel_fire(&token, 1);
        break;
    case 2:
        atomic_store(&closed_limiter, 1);
        (void)twill_rate_limiter_close(&limiter);
        break;
    case 3:
        atomic_store(&closed_bulkhead, 1);
        (void)twill_bulkhead_close(&bulkhead);
        break;
    case 4:
        if (may_change) {
            atomic_store(&changed, 1);
            (void)twill_rate_limiter_set_rate(&limiter, 1 + (uint64_t)choose(2), TWILL_US(2), 2);
        }
        break;
    case 5:
        atomic_store(&stopped, 1);
        (void)twill_pool_stop(pool, twill_within(TWILL_US(choose(3))),
                              twill_within(TWILL_US(choose(3))), NULL);
        break;
    default:
        break;
    }
}

static void ask(int mine)
{
    one_task *t = &tasks[mine];
    twill_outcome outcome;
    twill_status status = twill_future_wait(t->future, NULL, &outcome);
    assert(status == TWILL_OK || status == TWILL_FAILED);
    assert(outcome.key && *(const int *)outcome.key == mine);
    switch (outcome.status) {
    case TWILL_OK:
        assert(status == TWILL_OK && atomic_load(&t->ran) == 1);
        break;
    case TWILL_LOST:
        assert(atomic_load(&ended));
        break;
    case TWILL_FAILED:
        assert(outcome.code == CODE && atomic_load(&t->ran) == 1);
        break;
    default:
        assert(outcome.status == TWILL_CANCELLED || outcome.status == TWILL_TIMEOUT);
    }
    twill_future_release(t->future);
}

static const int numbers[MOST] = {0, 1, 2, 3, 4, 5};

static void side(void *first_)
{
    int first = *(const int *)first_, given = 0, wanted = 1 + choose(TASKS);
    stays = true;
    for (int k = first; k < first + wanted; k++) {
        twill_submit_options o = {.key = (void *)&numbers[k],
                                  .context = &tasks[k],
                                  .timeout = one_in(3) ? TWILL_US(4) : 0,
                                  .start_by = one_in(5) ? twill_now() + TWILL_US(2) : 0,
                                  .cancel = one_in(2) ? &token : NULL,
                                  .drop = task_dropped,
                                  .on_done = task_told};
        twill_status status = twill_pool_submit(pool, task_fn, &tasks[k], &tasks[k].future, &o);
        if (status != TWILL_OK) {
            assert(status == TWILL_CLOSED && atomic_load(&stopped));
            break;
        }
        given++;
    }
    if (given)
        meddle(first + choose(given));
    for (int k = first; k < first + given; k++)
        ask(k);
    for (int k = first; k < first + given; k++)
        assert(atomic_load(&tasks[k].told) == 1);
}

static void settle(void)
{
    twill_rate_limiter_stats s;
    uint64_t made = (uint64_t)(twill_now() - begun) / (uint64_t)TWILL_US(2);
    twill_rate_limiter_get_stats(&limiter, &s);
    assert(s.waiting == 0 && s.granted == atomic_load(&granted));
    if (!atomic_load(&changed))
        assert(atomic_load(&granted) <= 2 + atomic_load(&returned) + made);
    assert(atomic_load(&inside) == 0 && twill_bulkhead_leave(&bulkhead) == TWILL_INVALID);
    for (int k = 0; k < MOST; k++)
        assert(atomic_load(&tasks[k].ran) + atomic_load(&tasks[k].dropped) <= 1);
    assert(twill_retry_budget_left(&budget) == CAPACITY || atomic_load(&retries));
}

int main(void)
{
    static twill__thrd other;
    static const int firsts[SIDES] = {0, TASKS};
    twill_pool_options p = {.run.workers = 1 + (unsigned)choose(2),
                            .capacity = 1 + (size_t)choose(2)};
    twill_rate_limiter_options l = {.tokens = 1, .per = TWILL_US(2), .burst = 2, .counted = true};
    bool two = one_in(2);
    may_end = one_in(3);
    may_change = one_in(2);
    l.barging = one_in(3);
    l.strict_spacing = one_in(3);
    p.newest_first = one_in(4);
    places = 1 + choose(2);
    begun = twill_now();
    assert(twill_rate_limiter_init(&limiter, &l) == TWILL_OK);
    assert(twill_bulkhead_init(&bulkhead, (size_t)places, 8) == TWILL_OK);
    assert(twill_retry_budget_init(
               &budget, &(twill_retry_budget_options){
                            .capacity = CAPACITY, .retry_cost = 1, .timeout_cost = 1}) == TWILL_OK);
    assert(twill_pool_create(&pool, &p) == TWILL_OK);
    if (two) {
        other.fn = side;
        other.arg = (void *)&firsts[1];
        other.cpu = UINT_MAX;
        assert(twill__thread_start(&other));
    }
    side((void *)&firsts[0]);
    if (two)
        twill__thread_join(&other);
    assert(twill_pool_destroy(pool) == TWILL_OK);
    settle();
    twill_cancel_detach(&token);
    return 0;
}
