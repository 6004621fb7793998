/* Any retries beside one another. Each schedule draws, for two threads: how many calls, delays,
   jitter, limits on the whole and on each call, a last call at the deadline, a budget that they
   share, a token, the form (call or loop, left early or not); calls that succeed, fail, overrun
   their limit, give hints, fire the token, end the thread.

   Whatever it is: the report counts the calls that were made, says why they ended, and that is so;
   pauses are as long as the schedule says, and the budget pays for each retry. */
#include "retry_common.h"

enum { SIDES = 2, COST = 2, CAPACITY = 3, CODE = 5 };

static struct player {
    struct side side;
    int calls, pauses, last;
    bool loops, ended, left;
    twill_ns over, delay; /* when the last call ended; the pause after it */
} players[SIDES];

static twill_retry_budget budget;
static twill_cancel token;
static atomic_int retries;

static bool one_in(int n)
{
    return EXPLORE_CHOICE(n, 0) == 0;
}

static int attempt(struct player *me, size_t number, twill_until until)
{
    const twill_retry_options *o = &me->side.options;
    twill_ns now = twill_now();
    assert((size_t)me->calls == number);
    if (number) {
        assert(now >= me->over + me->delay);
        atomic_fetch_add(&retries, o->budget != NULL);
    }
    assert(!o->attempt_timeout || until.deadline);
    me->calls++;
    me->last = CODE;
    switch (EXPLORE_CHOICE(8, 0)) {
    case 0:
        me->last = 0;
        break;
    case 1:
        (void)twill_sleep(twill_within(TWILL_US(6)));
        break;
    case 2:
        (void)twill_sleep(twill_within_or_cancelled(TWILL_US(3), until.cancel));
        break;
    case 3:
        twill_cancel_fire(&token, 1);
        break;
    case 4:
        if (!me->loops && one_in(3)) {
            me->ended = true;
            END_THREAD();
        }
        break;
    default:
        break;
    }
    me->over = twill_now();
    me->delay = 0;
    return me->last;
}

static int try_once(const void *in, void *out, const twill_task *task)
{
    (void)in, (void)out;
    return attempt(task->context, task->index, task->until);
}

static void on_retry(const twill_retry_attempt *failed, twill_ns delay, const twill_task *task)
{
    struct player *me = task->context;
    const twill_retry_options *o = &me->side.options;
    assert(failed->number + 1 == (size_t)me->calls && failed->code == CODE);
    assert(task->index == failed->number && delay >= 0);
    assert(delay <= (o->cap > TWILL_US(4) ? o->cap : TWILL_US(4)) + TWILL_US(1));
    if (o->jitter == TWILL_JITTER_NONE && !o->after_failure && !o->last_try_at_deadline) {
        twill_ns due = o->base;
        for (size_t k = o->immediate_first_retry; k < failed->number; k++)
            due = 2 * due < o->cap ? 2 * due : o->cap;
        assert(delay == (o->immediate_first_retry && !failed->number ? 0 : due));
    }
    me->delay = delay;
    me->pauses++;
}

static twill_ns after_failure(int code, const void *out, const twill_task *task)
{
    static const twill_ns hints[] = {0, 0, TWILL_US(3), TWILL_US(50), TWILL_RETRY_NEVER};
    (void)out;
    assert(code == CODE && task->index + 1 == (size_t)((struct player *)task->context)->calls);
    return hints[EXPLORE_CHOICE(5, 0)];
}

static void play(void *player)
{
    struct player *me = player;
    twill_retry retry;
    if (!me->loops) {
        (void)twill_retry_call(NULL, NULL, try_once, &me->side.options, &me->side.report);
        return;
    }
    assert(twill_retry_init(&retry, &me->side.options) == TWILL_OK);
    while (!me->left && twill_retry_next(&retry)) {
        int code = attempt(me, twill_retry_attempt_number(&retry), twill_retry_until(&retry));
        twill_retry_result(&retry, code);
        me->left = one_in(6);
    }
    assert(twill_retry_finish(&retry, &me->side.report) == me->side.report.status);
}

static void check_end(const struct player *me)
{
    const twill_retry_options *o = &me->side.options;
    const twill_retry_report *r = &me->side.report;
    size_t most = o->max_attempts ? o->max_attempts : 3;
    switch (r->end) {
    case TWILL_RETRY_SUCCEEDED:
        assert(r->status == TWILL_OK && me->last == 0 && r->code == 0);
        break;
    case TWILL_RETRY_ATTEMPTS:
        assert(r->status == TWILL_FAILED && r->attempts == most);
        break;
    case TWILL_RETRY_PERMANENT:
    case TWILL_RETRY_HINT_TOO_LONG:
        assert(r->status == TWILL_FAILED && o->after_failure);
        break;
    case TWILL_RETRY_NO_BUDGET:
        assert(r->status == TWILL_FAILED && o->budget);
        break;
    case TWILL_RETRY_DEADLINE:
        assert(r->status == TWILL_TIMEOUT && (o->until.deadline || o->max_elapsed));
        break;
    case TWILL_RETRY_CANCELLED:
        assert(r->status == TWILL_CANCELLED && o->until.cancel && twill_cancel_fired(&token));
        break;
    case TWILL_RETRY_LEFT:
        assert(me->left || me->ended);
        assert(r->status == (me->left || me->calls > 1 ? TWILL_FAILED : TWILL_LOST));
        break;
    default:
        assert(!"refused");
    }
}

static void check(const struct player *me)
{
    const twill_retry_options *o = &me->side.options;
    const twill_retry_report *r = &me->side.report;
    check_end(me);
    assert(r->attempts == (size_t)me->calls);
    assert(r->attempts <= (o->max_attempts ? o->max_attempts : 3));
    assert(r->attempts || r->end == TWILL_RETRY_CANCELLED || r->end == TWILL_RETRY_DEADLINE);
    if (me->calls && !me->ended && r->end != TWILL_RETRY_CANCELLED)
        assert(r->code == me->last);
    assert(r->slept >= 0 && r->wall >= r->slept);
    assert(!o->on_retry || me->pauses == me->calls - 1 || me->pauses == me->calls);
}

static void draw(struct player *me)
{
    twill_retry_options *o = &me->side.options;
    me->loops = one_in(3);
    o->max_attempts = (size_t)EXPLORE_CHOICE(4, 0);
    o->base = TWILL_US(1), o->cap = TWILL_US(1 + EXPLORE_CHOICE(4, 0));
    o->jitter = (twill_jitter)EXPLORE_CHOICE(6, 0);
    if (o->jitter == TWILL_JITTER_ADDITIVE)
        o->jitter_add = TWILL_US(1);
    o->max_elapsed = one_in(4) ? TWILL_US(8) : 0;
    o->attempt_timeout = one_in(3) ? TWILL_US(2) : 0;
    o->max_hint = TWILL_US(10);
    o->immediate_first_retry = one_in(4);
    o->until.deadline = one_in(3) ? twill_now() + TWILL_US(6) : 0;
    o->until.cancel = one_in(2) ? &token : NULL;
    o->last_try_at_deadline = o->until.deadline && one_in(3);
    o->after_failure = one_in(3) ? after_failure : NULL;
    o->on_retry = one_in(4) ? NULL : on_retry;
    o->budget = one_in(2) ? &budget : NULL;
    o->context = me;
    o->seed = 1;
}

int main(void)
{
    int paid = 0;
    assert(twill_retry_budget_init(&budget, &(twill_retry_budget_options){.capacity = CAPACITY,
                                                                          .retry_cost = COST,
                                                                          .timeout_cost = COST}) ==
           TWILL_OK);
    for (int k = 0; k < SIDES; k++)
        draw(&players[k]);
    for (int k = 0; k < SIDES; k++)
        go(&players[k].side, play);
    if (one_in(4))
        twill_cancel_fire(&token, 1);
    for (int k = 0; k < SIDES; k++)
        end(&players[k].side);
    for (int k = 0; k < SIDES; k++)
        check(&players[k]);
    for (int k = 0; k < SIDES; k++) /* what successes have given back */
        if (players[k].side.options.budget && players[k].side.report.status == TWILL_OK)
            paid += players[k].calls == 1 ? 1 : COST;
    assert(atomic_load(&retries) * COST <= CAPACITY + paid);
    assert(twill_retry_budget_left(&budget) <= CAPACITY);
    twill_cancel_detach(&token);
    return 0;
}
