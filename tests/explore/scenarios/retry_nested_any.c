/* Retries inside one another. Each schedule draws, for two threads and a pool, a tree of them: an
   attempt succeeds, fails, sleeps, fires a token, ends its thread, or makes another retry, as a
   call or a loop, in its own thread or in a task of the pool that it waits for; below the token and
   the deadline of the attempt around it, or a token of its own, which a hook fires when the one
   above does. Some share a budget.

   Whatever it is: a report counts the attempts that were begun, and says why there was no further
   one, and that is so, with a thread that ended, too; pauses are as long as told; and the budget
   pays for each retry.
   EXPLORE-FLAGS: -DTWILL__SPIN=0 -DTWILL__TICKS=0 */
#include <stdatomic.h>
#include <stdbool.h>

#include "retry_common.h"
#include "twill_worker_pool.h"

enum { SIDES = 2, NODES = 10, DEEPEST = 3, COST = 2, CAPACITY = 4, CODE = 5 };

struct node { /* one retry; one thread at a time, and what waits for it comes after it */
    struct node *above;
    int depth, calls, last;
    bool loops, left, ended, hooked;
    twill_cancel own; /* on neither a stack nor a heap: its thread may end */
    twill_cancel_hook hook;
    twill_future future; /* of the task that makes it */
    bool asked;
    twill_retry_options options;
    twill_retry_report report;
};

static struct node nodes[NODES];
static atomic_int made, retries, given;
static twill_retry_budget budget;
static twill_cancel token;
static twill_pool *pool;
static _Thread_local bool stays;

static bool one_in(int n)
{
    return EXPLORE_CHOICE(n, 0) == 0;
}

static void pass_on(int reason, const twill_task *task)
{
    twill_cancel_fire(task->context, reason);
}

static int nest(struct node *above, twill_until around);

/* The thread ends with all that it is in the middle of. */
static void leave(struct node *me)
{
    for (; me; me = me->asked ? NULL : me->above)
        me->ended = true;
    stays = true;
    END_THREAD();
}

static int attempt(struct node *me, size_t number, twill_until until)
{
    assert((size_t)me->calls == number);
    if (number)
        atomic_fetch_add(&retries, me->options.budget != NULL);
    me->calls++;
    me->last = CODE;
    switch (EXPLORE_CHOICE(9, 0)) {
    case 0:
        me->last = 0;
        break;
    case 1:
        (void)twill_sleep((twill_until){twill_now() + TWILL_US(3), until.cancel});
        break;
    case 2:
        twill_cancel_fire(one_in(2) ? &token : &me->own, 1);
        break;
    case 3:
        if (!stays && !me->loops)
            leave(me);
        break;
    case 4:
    case 5:
    case 6:
        me->last = nest(me, until);
        break;
    default:
        break;
    }
    return me->last;
}

static int try_once(const void *in, void *out, const twill_task *task)
{
    (void)in, (void)out;
    return attempt(task->context, task->index, task->until);
}

static void check_end(const struct node *me)
{
    const twill_retry_options *o = &me->options;
    const twill_retry_report *r = &me->report;
    switch (r->end) {
    case TWILL_RETRY_SUCCEEDED:
        assert(r->status == TWILL_OK && me->last == 0 && r->code == 0);
        break;
    case TWILL_RETRY_ATTEMPTS:
        assert(r->status == TWILL_FAILED && r->attempts == o->max_attempts);
        break;
    case TWILL_RETRY_NO_BUDGET:
        assert(r->status == TWILL_FAILED && o->budget);
        break;
    case TWILL_RETRY_DEADLINE:
        assert(r->status == TWILL_TIMEOUT && o->until.deadline);
        break;
    case TWILL_RETRY_CANCELLED:
        assert(r->status == TWILL_CANCELLED && twill_cancel_fired(o->until.cancel));
        break;
    case TWILL_RETRY_LEFT:
        assert(me->left || me->ended);
        assert(r->status == (me->left || me->calls > 1 ? TWILL_FAILED : TWILL_LOST));
        break;
    default:
        assert(!"refused");
    }
    assert(r->end == TWILL_RETRY_LEFT || (!me->ended && !me->left));
    assert(r->attempts == (size_t)me->calls && r->attempts <= o->max_attempts);
    assert(r->attempts || r->end == TWILL_RETRY_CANCELLED || r->end == TWILL_RETRY_DEADLINE);
    assert(r->slept >= 0 && r->wall >= r->slept);
}

static int play(struct node *me)
{
    twill_retry retry;
    if (!me->loops)
        return (int)twill_retry_call(NULL, NULL, try_once, &me->options, &me->report);
    assert(twill_retry_init(&retry, &me->options) == TWILL_OK);
    while (!me->left && twill_retry_next(&retry)) {
        int code = attempt(me, twill_retry_attempt_number(&retry), twill_retry_until(&retry));
        twill_retry_result(&retry, code);
        me->left = code && one_in(6);
    }
    return (int)twill_retry_finish(&retry, &me->report);
}

static int play_task(void *me, void *result, const twill_task *task)
{
    (void)result, (void)task;
    return play(me);
}

static void draw(struct node *me, twill_until around)
{
    twill_retry_options *o = &me->options;
    me->loops = one_in(3);
    o->max_attempts = 1 + (size_t)EXPLORE_CHOICE(2, 0);
    o->base = o->cap = TWILL_US(1);
    o->until = around;
    if (one_in(3)) {
        o->until.cancel = &me->own;
        if (one_in(2)) {
            twill_cancel_init(&me->own, around.cancel);
        } else {
            me->hooked = true;
            me->hook.fn = pass_on;
            me->hook.context = &me->own;
            twill_cancel_add_hook(around.cancel, &me->hook);
        }
    }
    if (one_in(3) && !o->until.deadline)
        o->until.deadline = twill_now() + TWILL_US(1 + EXPLORE_CHOICE(4, 0));
    o->budget = one_in(2) ? &budget : NULL;
    o->context = me;
    o->seed = 1;
}

static void let_go(struct node *me, twill_cancel *above)
{
    if (me->hooked)
        twill_cancel_remove_hook(above, &me->hook);
    twill_cancel_detach(&me->own);
}

static int nest(struct node *above, twill_until around)
{
    int status, k = atomic_load(&made) < NODES ? atomic_fetch_add(&made, 1) : NODES;
    struct node *me;
    if (k >= NODES || (above && above->depth >= DEEPEST))
        return CODE;
    me = &nodes[k];
    me->above = above;
    me->depth = above ? above->depth + 1 : 0;
    draw(me, around);
    me->asked = above && one_in(3); /* before its task reads it */
    if (me->asked)
        assert(twill_pool_submit(pool, play_task, me, &me->future, NULL) == TWILL_OK);
    if (me->asked) {
        bool stayed = stays;
        stays = true; /* it may run here: its end would be this one's */
        status = twill_future_wait(me->future, NULL, NULL) == TWILL_OK ? 0 : CODE;
        stays = stayed;
    } else {
        status = play(me);
    }
    let_go(me, around.cancel);
    return status ? CODE : 0;
}

static void begin(void *unused)
{
    (void)unused;
    (void)nest(NULL, (twill_until){0, &token});
}

int main(void)
{
    struct side sides[SIDES];
    int paid = 0, count;
    stays = true;
    assert(twill_retry_budget_init(&budget, &(twill_retry_budget_options){.capacity = CAPACITY,
                                                                          .retry_cost = COST,
                                                                          .timeout_cost = COST}) ==
           TWILL_OK);
    assert(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 1}) == TWILL_OK);
    for (int k = 0; k < SIDES; k++)
        go(&sides[k], begin);
    for (int k = 0; k < SIDES; k++)
        end(&sides[k]);
    assert(twill_pool_destroy(pool) == TWILL_OK);
    count = atomic_load(&made) < NODES ? atomic_load(&made) : NODES;
    for (int k = 0; k < count; k++) {
        const struct node *me = &nodes[k];
        if (!me->options.context || (me->loops && me->ended))
            continue; /* too deep; or nobody has finished it */
        check_end(me);
        if (me->options.budget && me->report.status == TWILL_OK)
            paid += me->calls == 1 ? 1 : COST;
    }
    assert(atomic_load(&retries) * COST <= CAPACITY + paid);
    assert(twill_retry_budget_left(&budget) <= CAPACITY);
    for (int k = count; k-- > 0;) { /* what an ended thread has left behind; children first */
        if (nodes[k].ended)
            let_go(&nodes[k], nodes[k].above ? nodes[k].above->options.until.cancel : &token);
        if (nodes[k].asked)
            twill_future_release(nodes[k].future);
    }
    twill_cancel_detach(&token);
    return 0;
}
