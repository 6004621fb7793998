/* Any program on a fan that several threads use. Each schedule draws one: goal, policy, order,
   window, unread outcomes, time limits, what may be left behind, notify, the run's token and
   deadline, threads of its own, of a pool, or fewer than asked; and what two or three threads do,
   one of them perhaps a task of the pool: go and next in each form, close, cancel, stop, read the
   figures, fire a token, close the pool. Tasks fail, skip, stop, sleep, end their thread, go on
   with another one, read, close, cancel, ask for what they may not.

   Whatever it is: what was accepted runs or is dropped, once; a success is read or discarded, once;
   an outcome is read once, all of them before next says CLOSED, in order if that was asked; each
   answer has a reason; the figures add up at any moment, and at the end to what was done. Nothing
   hangs, polls or is left. */
#include <stdbool.h>

extern int thread_fails(void);
#define TWILL__FAIL_THREAD() thread_fails()
#include "fan_common.h"

#include "explore.h"
#include "twill_worker_pool.h"

#ifdef TWILL_USE_PTHREAD
#define END_THREAD() pthread_exit(NULL)
#else
#define END_THREAD() thrd_exit(0)
#endif

enum { WELL, FAILS, SLEEPS, DEAF, SKIPS, STOPS, ENDS, GOES, READS, FORBIDDEN, CUTS, KINDS };
enum { SIDES = 3, EACH = 2, EXTRA = SIDES * EACH, ALL = EXTRA + 2, FAILURE = 7 };
enum { NOT_ASKED = -1, LEFT = -2 /* its thread has ended in go */ };
enum { FOR_EVER, TRY, UNTIL };

static twill_fan *shared;
static twill_fan_options options;
static twill_report report;
static twill_pool *pool;
static twill_cancel token, others; /* the run's; of those who wait */
static bool ends;
static _Atomic bool threadless;
static int kind[ALL];
static _Atomic int answer[ALL];
static _Thread_local bool stays;

static _Atomic int good[ALL], read_[ALL], delivered[ALL], extra, closing, cancelling;
static _Atomic unsigned notified;
static _Atomic size_t index_of[ALL]; /* + 1 */

int thread_fails(void)
{
    return atomic_load(&threadless) && choose(2);
}

/* With a deadline: who shall read, or take part, may not come. */
static twill_until soon(void)
{
    return (twill_until){twill_now() + TWILL_US(1 + choose(10)), choose(3) ? NULL : &others};
}

static bool over(const twill_until *until, twill_status status)
{
    return status == TWILL_TIMEOUT ? until->deadline && twill_now() >= until->deadline
                                   : twill_cancel_fired(until->cancel);
}

static int run_one(void *arg, void *result, const twill_task *me);

static void go(int id, int way, bool inside)
{
    twill_until until = way == UNTIL ? soon() : (twill_until){0, NULL};
    twill_status status;
    atomic_store(&answer[id], LEFT);
    status = way == TRY     ? twill_fan_try_go(shared, run_one, tag(id), tag(id))
             : way == UNTIL ? twill_fan_go_until(shared, run_one, tag(id), tag(id), until)
                            : twill_fan_go(shared, run_one, tag(id), tag(id));
    atomic_store(&answer[id], (int)status);
    switch (status) {
    case TWILL_OK:
    case TWILL_FULL:
        break;
    case TWILL_CLOSED:
        assert(atomic_load(&closing) || options.run.until.deadline);
        break;
    case TWILL_TIMEOUT:
        assert((way == UNTIL && over(&until, status)) ||
               (options.run.until.deadline && twill_now() >= options.run.until.deadline));
        break;
    default:
        assert(status == TWILL_CANCELLED);
        assert((way == UNTIL && over(&until, status)) || twill_cancel_fired(&token));
    }
}

static void note(int result, const twill_outcome *outcome)
{
    int id = (int)(intptr_t)outcome->key;
    assert(id < ALL && atomic_fetch_add(&read_[id], 1) == 0);
    assert(!ran[id] || atomic_load(&index_of[id]) == outcome->index + 1);
    assert(outcome->code == (outcome->status == TWILL_FAILED ? FAILURE : 0));
    assert(result == (outcome->status == TWILL_OK ? 100 + id : 0));
    if (outcome->status == TWILL_OK)
        atomic_fetch_add(&delivered[id], 1);
}

static twill_status next(int way, bool inside)
{
    twill_until until = way == UNTIL ? soon() : (twill_until){0, NULL};
    twill_outcome outcome;
    int result = -1;
    twill_status status = way == TRY     ? twill_fan_try_next(shared, &result, &outcome)
                          : way == UNTIL ? twill_fan_next_until(shared, &result, &outcome, until)
                                         : twill_fan_next(shared, &result, &outcome);
    switch (status) {
    case TWILL_OK:
        note(result, &outcome);
        break;
    case TWILL_CLOSED:
        assert(atomic_load(&closing) || options.run.until.deadline);
        break;
    case TWILL_EMPTY:
        assert(way == TRY);
        break;
    case TWILL_DEADLOCK:
        assert(inside && way != TRY);
        break;
    default:
        assert(way == UNTIL && over(&until, status));
    }
    return status;
}

/* ---- callbacks ---- */

static void close_or_cancel(void)
{
    twill_status status;
    atomic_store(&closing, 1);
    if (choose(2)) {
        status = twill_fan_close(shared);
    } else {
        atomic_store(&cancelling, 1);
        status = twill_fan_cancel(shared);
    }
    assert(status == TWILL_OK || status == TWILL_CLOSED);
}

static void act_inside(int how)
{
    int id;
    twill_stopped out;
    if (how == GOES) {
        id = EXTRA + atomic_fetch_add(&extra, 1);
        if (id < ALL)
            go(id, choose(3), true);
    } else if (how == READS) {
        (void)next(TRY + choose(2), true);
    } else if (how == FORBIDDEN) {
        assert(twill_fan_destroy(shared) == TWILL_DEADLOCK);
        assert(twill_fan_stop(shared, (twill_until){0}, (twill_until){0}, &out) == TWILL_DEADLOCK);
    } else if (how == CUTS) {
        close_or_cancel();
    }
}

/* It may be left behind: then the fan is there, but not what waits for it. */
static int run_one(void *arg, void *result, const twill_task *me)
{
    int id = (int)(intptr_t)arg;
    atomic_store(&index_of[id], me->index + 1);
    assert(atomic_fetch_add(&ran[id], 1) == 0);
    switch (kind[id]) {
    case FAILS:
        return FAILURE;
    case SKIPS:
        return twill_task_skip(me);
    case SLEEPS:
        (void)twill_sleep(twill_within_or_cancelled(TWILL_US(20), me->until.cancel));
        break;
    case DEAF:
        (void)twill_sleep(twill_within(TWILL_US(30)));
        break;
    case STOPS:
        atomic_store(&closing, 1);
        (void)twill_task_stop(me);
        break;
    case ENDS:
        if (ends && !stays) {
            stays = true;
            END_THREAD();
        }
        break;
    default:
        act_inside(kind[id]);
    }
    *(int *)result = 100 + id;
    atomic_fetch_add(&good[id], 1);
    return 0;
}

static void drop_it(void *arg, twill_status why, const twill_task *me)
{
    (void)me;
    assert(why == TWILL_CANCELLED || why == TWILL_TIMEOUT);
    assert(atomic_fetch_add(&dropped[(intptr_t)arg], 1) == 0);
}

static void discard_it(void *arg, void *result, int code, const twill_task *me)
{
    (void)me;
    assert(code == 0 && *(int *)result == 100 + (int)(intptr_t)arg);
    assert(atomic_fetch_add(&discarded[(intptr_t)arg], 1) == 0);
}

static void tell(const twill_task *me)
{
    (void)me;
    atomic_fetch_add(&notified, 1);
}

static bool enough(const twill_outcome *outcome, const void *result, const twill_task *me)
{
    (void)result, (void)me;
    if (outcome->index == 1)
        atomic_store(&closing, 1);
    return outcome->index == 1;
}

/* ---- what the threads do ---- */

static void look(void)
{
    twill_fan_stats s;
    twill_fan_get_stats(shared, &s);
    assert(s.accepted == s.done + s.failed + s.skipped + s.queued + s.running);
    assert(s.accepted <= ALL && s.unread <= s.accepted && s.abandoned <= options.max_abandoned);
    assert(!options.in_flight || s.queued + s.running <= options.in_flight + ALL);
    assert(!options.max_unread || s.unread <= ALL);
}

static void stop(void)
{
    twill_until join = choose(2) ? soon() : (twill_until){0, NULL};
    twill_stopped out;
    twill_status status;
    atomic_store(&closing, 1);
    atomic_store(&cancelling, 1);
    status = twill_fan_stop(shared, twill_within(TWILL_US(choose(3) * 8)), join, &out);
    assert(status == TWILL_OK || over(&join, status));
}

static void play(int side)
{
    int id = side * EACH;
    for (int k = EACH + 2; k > 0; k--) {
        int what = choose(16);
        if (what < 6 && id < (side + 1) * EACH) {
            go(id++, what % 3, false);
        } else if (what < 10) {
            (void)next(what % 2 ? TRY : UNTIL, false);
        } else if (what == 10) {
            look();
        } else if (what == 11) {
            stop();
        } else if (what == 12) {
            close_or_cancel();
        } else if (what == 13) {
            atomic_store(&closing, 1);
            atomic_store(&cancelling, 1);
            twill_cancel_fire(&others, 1);
            if (choose(2))
                twill_cancel_fire(&token, 1);
        } else if (what == 14 && pool) {
            (void)twill_pool_close(pool);
        }
    }
}

static void beside(void *side_)
{
    (void)side_;
    play(1);
}

static int task_plays(void *arg, void *result, const twill_task *me)
{
    (void)arg, (void)result, (void)me;
    play(2);
    return 0;
}

static void read_rest(void)
{
    twill_status status;
    atomic_store(&closing, 1);
    status = twill_fan_close(shared);
    assert(status == TWILL_OK || status == TWILL_CLOSED);
    if (choose(3) == 0)
        return;
    while ((status = next(FOR_EVER, false)) == TWILL_OK) {}
    assert(status == TWILL_CLOSED);
    for (int id = 0; id < ALL && !options.max_abandoned; id++) /* else one may be reading yet */
        assert(answer[id] == LEFT || read_[id] == (answer[id] == TWILL_OK));
}

/* ---- what is drawn ---- */

static void draw(void)
{
    static const twill_on_error policies[] = {TWILL_ON_ERROR_DEFAULT, TWILL_ON_ERROR_LOWEST,
                                              TWILL_ON_ERROR_FIRST, TWILL_ON_ERROR_LIMIT};
    int odd = 1 + choose(3);
    for (int id = 0; id < ALL; id++) {
        answer[id] = NOT_ASKED;
        kind[id] = choose(odd) ? WELL : choose(KINDS);
    }
    ends = choose(3) == 0;
    options = (twill_fan_options){.run.workers = (unsigned)choose(3),
                                  .run.report = &report,
                                  .run.on_error = policies[choose(4)],
                                  .goal = (twill_fan_goal)choose(5),
                                  .ordered = choose(2),
                                  .result_size = sizeof(int),
                                  .in_flight = (size_t)choose(4),
                                  .max_unread = (size_t)choose(4),
                                  .timeout = choose(3) ? 0 : TWILL_US(10),
                                  .max_abandoned = (size_t)choose(3),
                                  .notify = choose(2) ? tell : NULL,
                                  .drop = drop_it,
                                  .discard = discard_it};
    if (options.goal == TWILL_FAN_QUORUM)
        options.quorum = 1 + (size_t)choose(3);
    if (options.goal == TWILL_FAN_ENOUGH)
        options.enough = enough;
    if (options.run.on_error == TWILL_ON_ERROR_LIMIT)
        options.run.max_errors = 2;
    if (options.goal != TWILL_FAN_ALL || options.run.on_error)
        atomic_store(&closing, 1); /* the fan may close itself */
    if (choose(3) == 0)
        options.run.until.cancel = &token;
    if (choose(4) == 0)
        options.run.until.deadline = twill_now() + TWILL_US(15);
    if (choose(2))
        assert(twill_pool_create(&pool, &(twill_pool_options){
                                            .run.workers = 1 + (unsigned)choose(2)}) == TWILL_OK);
    if (choose(2))
        options.run.pool = pool;
}

/* ---- what must hold ---- */

static void check(void)
{
    size_t total = 0, dones = 0;
    for (int id = 0; id < ALL; id++) {
        int in = (int)ran[id] + (int)dropped[id];
        assert(answer[id] == LEFT ? in <= 1 : in == (answer[id] == TWILL_OK));
        assert(read_[id] <= in && delivered[id] + (int)discarded[id] == good[id]);
        total += (size_t)in;
        dones += (size_t)delivered[id];
    }
    counts_add_up(&report, total);
    assert(report.done >= dones);
}

int main(void)
{
    struct side side;
    twill_future future = {0};
    bool with_thread, with_task;
    twill_status status;

    quiet();
    stays = true;
    draw();
    atomic_store(&threadless, choose(6) == 1);
    assert(twill_fan_create(&shared, &options) == TWILL_OK);
    atomic_store(&threadless, false);
    with_thread = choose(2);
    if (with_thread)
        begin(&side, shared, beside);
    with_task = pool && choose(2);
    if (with_task)
        with_task = twill_pool_submit(pool, task_plays, NULL, &future, NULL) == TWILL_OK;
    play(0);
    if (with_thread)
        end(&side);
    if (with_task) {
        status = twill_future_wait(future, NULL, NULL);
        assert(status == TWILL_OK || (status == TWILL_FAILED && ends));
        twill_future_release(future);
    }
    read_rest();
    assert(twill_fan_destroy(shared) == TWILL_OK);
    assert(twill_pool_destroy(pool) == TWILL_OK);
    while (atomic_load(&live_blocks)) /* what was left behind frees them */
        (void)twill_sleep(twill_within(TWILL_MS(1)));
    check();
    twill_cancel_detach(&token);
    twill_cancel_detach(&others);
    return 0;
}
