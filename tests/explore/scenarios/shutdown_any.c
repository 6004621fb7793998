/* Programs drawn anew in each schedule, over all that the graceful shutdown offers without the
   system's signals. Drawn: total, windows and limits, or none of them; up to three hooks, and an
   on_phase, that sleep, overrun, fail, ask for what they may not, or end their thread; two or three
   threads that work inside, under the tokens or not, wait, ask, press twice, add a hook, and call
   finish beside main. What must hold: a phase and a hook come once, nobody enters once the request
   can be seen, every answer fits what was drawn, finish says the same to all, and its report and
   steps are what was done. Where nothing ends by time, also: phases and hooks come in order, the
   hooks after all work, each with the status that it earned. */
#include <stdatomic.h>
#include <stddef.h>

static void *counted_malloc(size_t size);
static void counted_free(void *memory);
#define TWILL_MALLOC(size) counted_malloc(size)
#define TWILL_FREE(memory) counted_free(memory)
#include "shutdown_common.h"

#include "explore.h"
#include <limits.h>
#include <signal.h>
#include <stdlib.h>

enum { SIDES = 3, OWN = 3, HOOKS = OWN + 2 };
enum hook_kind { PLAIN, FAILS, SLEEPS, ENDS, LATE, FORBIDDEN, HOOK_KINDS };

static twill_shutdown *shutdown;
static twill_shutdown_options options;
static twill_shutdown_step steps[HOOKS];
static struct side sides[SIDES];
static struct hook {
    enum hook_kind kind;
    _Atomic int ran;
} hooks[HOOKS];
static bool strict; /* nothing ends by time */
static _Atomic int blocks, entered, inside, given, added, presses, told[5], last_phase, next = OWN;
static _Atomic int asked; /* somebody, and it has returned */

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

static bool one_in(int n)
{
    return EXPLORE_CHOICE(n, 0) == 0;
}

static void leave_thread(void)
{
#ifdef TWILL_USE_PTHREAD
    pthread_exit(NULL);
#else
    thrd_exit(0);
#endif
}

/* ---- user code: where anything ends by time, the object may be gone meanwhile ---- */

static void ask_for_forbidden(void)
{
    if (!strict)
        return;
    assert(twill_shutdown_finish(shutdown, NULL) == TWILL_DEADLOCK);
    assert(twill_shutdown_destroy(shutdown) == TWILL_DEADLOCK);
}

static int hook_runs(const twill_task *task)
{
    struct hook *hook = task->context;
    int number = (int)(hook - hooks);
    assert(atomic_fetch_add(&hook->ran, 1) == 0);
    if (strict) {
        assert(atomic_load(&inside) == 0 && !twill_cancel_fired(task->until.cancel));
        assert(twill_shutdown_get_phase(shutdown) == TWILL_SHUTDOWN_HOOKS);
        assert(twill_shutdown_enter(shutdown) == TWILL_CLOSED);
        assert(twill_shutdown_add(shutdown, "", hook_runs, hook, 0) == TWILL_CLOSED);
        assert(number < OWN ? number < atomic_exchange(&next, number) : atomic_load(&next) == OWN);
    }
    switch (hook->kind) {
    case FAILS:
        return 7;
    case SLEEPS:
        (void)twill_sleep(twill_within_or_cancelled(TWILL_US(8), task->until.cancel));
        break;
    case ENDS:
        leave_thread();
        break;
    case LATE:
        (void)twill_sleep(twill_within(TWILL_MS(30)));
        break;
    case FORBIDDEN:
        ask_for_forbidden();
        break;
    default:
        break;
    }
    return 0;
}

static void on_phase(twill_shutdown_phase phase, int reason, const twill_task *task)
{
    assert(phase > TWILL_SHUTDOWN_RUNNING && phase <= TWILL_SHUTDOWN_STOPPED && !task->context);
    assert(atomic_fetch_add(&told[phase], 1) == 0);
    if (strict) {
        assert(atomic_fetch_add(&last_phase, 1) == (int)phase - 1);
        assert(twill_shutdown_get_phase(shutdown) >= phase);
        assert(twill_shutdown_reason(shutdown) == reason);
        assert(twill_cancel_fired(twill_shutdown_drain_token(shutdown)));
        if (phase >= TWILL_SHUTDOWN_CANCELLING)
            assert(twill_cancel_fired(twill_shutdown_cancel_token(shutdown)));
    }
    if (one_in(4))
        ask_for_forbidden();
    if (one_in(4))
        (void)twill_sleep(twill_within(strict ? TWILL_US(6) : TWILL_MS(40)));
    if (one_in(4))
        leave_thread();
}

/* ---- what the threads do ---- */

static void add_hook(int number, enum hook_kind kind, twill_ns limit)
{
    static const char *const names[HOOKS] = {"0", "1", "2", "3", "4"};
    twill_status status;
    hooks[number].kind = kind;
    status = twill_shutdown_add(shutdown, names[number], hook_runs, &hooks[number], limit);
    if (status == TWILL_OK) {
        atomic_fetch_add(&added, 1);
        return;
    }
    assert(status == TWILL_CLOSED && number >= OWN);
    assert(twill_shutdown_get_phase(shutdown) >= TWILL_SHUTDOWN_HOOKS);
}

static void draw_hook(int number)
{
    enum hook_kind kind = (enum hook_kind)EXPLORE_CHOICE(HOOK_KINDS, 0);
    add_hook(number, kind, !strict && one_in(2) ? TWILL_US(4) : 0);
}

static void work(void)
{
    bool was_asked = atomic_load(&asked);
    twill_status status = twill_shutdown_enter(shutdown);
    twill_cancel child, *token = NULL;
    if (status != TWILL_OK) {
        assert(status == TWILL_CLOSED && twill_shutdown_requested(shutdown));
        return;
    }
    assert(!was_asked);
    atomic_fetch_add(&entered, 1);
    atomic_fetch_add(&inside, 1);
    switch (EXPLORE_CHOICE(3, 0)) {
    case 0:
        token = twill_shutdown_drain_token(shutdown);
        break;
    case 1:
        token = twill_shutdown_cancel_token(shutdown);
        break;
    default:
        break;
    }
    twill_cancel_init(&child, token);
    status = twill_sleep(twill_within_or_cancelled(
        (twill_ns)(1 + EXPLORE_CHOICE(3, 0)) * TWILL_US(5), one_in(2) ? token : &child));
    assert(status == TWILL_OK || (status == TWILL_CANCELLED && twill_cancel_fired(token)));
    twill_cancel_detach(&child);
    atomic_fetch_sub(&inside, 1);
    twill_shutdown_leave(shutdown);
}

static void wait_for_request(void)
{
    twill_until until = {0, NULL};
    twill_status status;
    if (one_in(2))
        until = twill_within(TWILL_US(4));
    if (one_in(3))
        until.cancel = twill_shutdown_cancel_token(shutdown);
    status = twill_shutdown_wait(shutdown, until);
    if (status == TWILL_TIMEOUT)
        assert(until.deadline && twill_now() >= until.deadline);
    else if (status == TWILL_CANCELLED)
        assert(twill_cancel_fired(until.cancel));
    else
        assert(status == TWILL_OK && twill_shutdown_requested(shutdown));
}

static void ask(void)
{
    if (one_in(2))
        twill_shutdown_request(shutdown, 1 + EXPLORE_CHOICE(3, 0));
    else if (atomic_fetch_add(&presses, 1) < 2) /* a third would end the process */
        come(shutdown, SIGTERM);
    else
        return;
    assert(twill_shutdown_requested(shutdown));
    atomic_store(&asked, 1);
    assert(twill_shutdown_enter(shutdown) == TWILL_CLOSED);
    assert(twill_shutdown_get_phase(shutdown) >= TWILL_SHUTDOWN_DRAINING ||
           !twill_cancel_fired(twill_shutdown_cancel_token(shutdown)));
}

static void finish(void)
{
    twill_shutdown_report report, again;
    twill_status status = twill_shutdown_finish(shutdown, &report);
    if (status == TWILL_BUSY)
        return;
    assert(status == report.status && twill_shutdown_get_phase(shutdown) == TWILL_SHUTDOWN_STOPPED);
    assert(twill_shutdown_finish(shutdown, &again) == status);
    assert(memcmp(&report, &again, sizeof report) == 0);
    assert(report.reason == twill_shutdown_reason(shutdown));
}

static void play(void *side)
{
    int moves = 1 + EXPLORE_CHOICE(3, 0);
    (void)side;
    while (moves-- > 0) { /* exit: counted */
        switch (EXPLORE_CHOICE(7, 0)) {
        case 0:
            ask();
            break;
        case 1:
            wait_for_request();
            break;
        case 2:
            finish();
            break;
        case 3: {
            int number = OWN + atomic_fetch_add(&given, 1);
            if (number < HOOKS)
                draw_hook(number);
            break;
        }
        default:
            work();
        }
    }
}

/* ---- the whole ---- */

static void draw_options(void)
{
    strict = one_in(2);
    options.second = TWILL_SECOND_HURRIES;
    options.same_press = 1;
    options.no_hard_stop = true;
    options.on_phase = one_in(2) ? on_phase : NULL;
    options.steps = steps;
    options.steps_capacity = one_in(3) ? 1 : HOOKS;
    if (strict)
        return;
    options.total = one_in(2) ? TWILL_FOREVER : one_in(2) ? TWILL_MS(45) : TWILL_US(30);
    options.drain = one_in(2) ? TWILL_US(8) : 0;
    options.cancel = one_in(2) ? TWILL_US(8) : 0;
}

static void check_steps(const twill_shutdown_report *report)
{
    static const twill_status earned[HOOK_KINDS] = {[FAILS] = TWILL_FAILED, [ENDS] = TWILL_LOST};
    size_t failed = 0, overran = 0;
    for (size_t k = 0; k < report->steps_stored; k++) {
        int number = steps[k].name[0] - '0';
        const struct hook *hook = &hooks[number];
        assert(steps[k].status == earned[hook->kind] ||
               (!strict && steps[k].status == TWILL_TIMEOUT));
        assert(steps[k].code == (steps[k].status == TWILL_FAILED ? 7 : 0));
        assert(atomic_load(&hook->ran) == 1 || steps[k].status == TWILL_TIMEOUT);
        failed += steps[k].status == TWILL_FAILED || steps[k].status == TWILL_LOST;
        overran += steps[k].status == TWILL_TIMEOUT;
    }
    if (report->steps_stored == report->hooks)
        assert(report->hooks_failed == failed && report->hooks_overran == overran);
    else
        assert(report->steps_stored == 1 && report->hooks_failed >= failed);
}

static void check_report(const twill_shutdown_report *report)
{
    size_t room = options.steps_capacity, n = (size_t)atomic_load(&added);
    assert(report->hooks == n && report->steps_stored == (n < room ? n : room));
    assert(report->entered == (size_t)atomic_load(&entered));
    assert(report->entered == report->left_in_drain + report->left_in_cancel + report->stuck);
    assert((report->reason >= 1 && report->reason <= 3) || report->reason == SIGTERM ||
           report->reason == INT_MAX);
    assert((report->status == TWILL_FAILED) == (report->hooks_failed > 0));
    if (!report->hooks_failed && (report->stuck || report->hooks_overran))
        assert(report->status == TWILL_TIMEOUT);
    if (strict) {
        assert(report->stuck == 0 && report->hooks_overran == 0 && report->status != TWILL_TIMEOUT);
        assert(atomic_load(&last_phase) == (options.on_phase ? TWILL_SHUTDOWN_STOPPED : 0));
    }
    check_steps(report);
}

int main(void)
{
    int n = 2 + EXPLORE_CHOICE(2, 0), own = EXPLORE_CHOICE(OWN + 1, 0);
    twill_shutdown_report report;
    draw_options();
    shutdown = make(options);
    shutdown->kind[SIGTERM] = TWILL__STOPS;
    for (int k = 0; k < own; k++)
        draw_hook(k);
    for (int k = 0; k < n; k++)
        go(&sides[k], play, shutdown);
    if (one_in(2))
        finish();
    else
        ask();
    for (int k = 0; k < n; k++)
        end(&sides[k]);
    assert(twill_shutdown_finish(shutdown, &report) == report.status);
    check_report(&report);
    assert(twill_shutdown_destroy(shutdown) == TWILL_OK);
    while (atomic_load(&blocks)) /* exit: who was passed over comes to its end */
        (void)twill_sleep(twill_within(TWILL_MS(1)));
    return 0;
}
