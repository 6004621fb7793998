/* twill: graceful_shutdown - "please stop" becomes an orderly end, inside one time budget.
   SPDX-License-Identifier: MIT OR Unlicense
   Build: cc -std=c11 -pthread. In one .c file: #define TWILL_IMPLEMENTATION before the include.

WHEN TO USE IT
    A program that has work to finish, or to hand back, when Ctrl-C, SIGTERM or a call asks it to
    stop: no new work, what runs is finished or cancelled, components are closed in order, the
    process ends as its parent expects. A second Ctrl-C always works, whatever hangs.
WHEN NOT
    One loop that polls one flag: a sig_atomic_t does. Child processes are not looked after: a hook
    may do that.

EXAMPLE:
#include <signal.h>
#include <stdio.h>

#define TWILL_IMPLEMENTATION
#include "twill_graceful_shutdown.h"

static int save(const twill_task *task)                 // a hook: runs when all work has ended
{
    printf("saved %d\n", *(int *)task->context);
    return 0;                                           // not 0: FAILED in the report
}

int main(void)
{
    twill_shutdown *stop;
    twill_shutdown_report report;
    int rounds = 0;
    if (twill_shutdown_create(&stop, &(twill_shutdown_options){ .exit_code = true }) != TWILL_OK)
        return 1;
    twill_shutdown_add(stop, "save", save, &rounds, 0);
    while (twill_shutdown_enter(stop) == TWILL_OK) {    // CLOSED once it has been asked to stop
        if (++rounds == 3)
            raise(SIGTERM);                             // in real life somebody else does
        twill_shutdown_leave(stop);
    }
    twill_shutdown_finish(stop, &report);
    printf("signal %d: %zu tasks, %zu stuck\n", report.reason, report.entered, report.stuck);
    twill_shutdown_destroy(stop);                       // usual: twill_shutdown_exit(stop, 0)
    return 0;
}
END OF EXAMPLE
OUTPUT:
saved 3
signal 15: 3 tasks, 0 stuck
END OF OUTPUT

PHASES, forward only
    RUNNING         until a signal of the list comes, or twill_shutdown_request
    DRAINING        the drain token fires, twill_shutdown_wait returns, enter answers CLOSED
    CANCELLING      the cancel token fires: every twill wait under it answers CANCELLED. It comes
                    when `drain` is over, whether or not finish has been called; or, in finish, as
                    soon as nobody is inside
    HOOKS           in finish: nobody is inside, or `cancel` is over. Last added runs first
    STOPPED         finish returns

OPTIONS (twill_shutdown_options; zeroed or NULL: SIGINT and SIGTERM, 20 s)
    no_signals      installs nothing; any number of such objects. signals, actions and message must
                    be unset
    signals         those that stop; NULL: SIGINT and SIGTERM. None that reports a fault, not
                    SIGKILL or SIGSTOP, none twice: INVALID
    actions         other signals (SIGHUP: read the configuration anew), each with a function that
                    runs in a thread of the object, never in signal context, until the hooks begin.
                    Three signals may give one call, never none
    total           from the request to the end; 0: 20 s. Below 0: INVALID, as in all of these
    drain           0: half of total
    cancel          0: a quarter of total. drain + cancel > total, both given: INVALID; one alone is
                    cut to what total leaves. The hooks have all that is left then
    same_press      a repeat within it is the same Ctrl-C, seen again; 0: 200 ms
    second          KILLS: the second press ends the process at once, from the handler, whatever
                    hangs. HURRIES: it goes to CANCELLING, a third kills. IGNORED
    exit_code       false: the process dies by the signal, as shells and supervisors want it. true:
                    it exits with 128 + signal
    take_ignored    false: SIGINT, SIGQUIT and SIGHUP stay ignored where they were (nohup, `cmd &`)
    no_hard_stop    false: where a signal has come, to ask or after a request, the process is ended
                    at the end of total, whatever hangs, and even when finish is never called; at
                    once, if total was over
    message         written to standard error by the handler at the first press, if that can be
                    done at once; copied; at most 4096 bytes count
    on_phase        each phase but RUNNING once, in order, in a thread of the object (in that of
                    finish, where no other is to be had)
    context         task->context of on_phase
    steps           filled by finish: how each hook ended, in the order they ran

HOOKS
    A hook gets task->until: its limit, and a token that fires then. It has 10 ms more to come back;
    then it is passed over: TIMEOUT, its thread is abandoned, the next hook gets another. What it
    uses must outlive that: destroy none of it when hooks_overran is not 0, but leave by
    twill_shutdown_exit. A pool or a queue is closed by a hook that calls its close or drain with
    task->until. FAILED: it returned a code. LOST: it ended its thread. NO_THREAD: it returned 0,
    but ran in the thread of finish, unguarded, as no other was to be had. When total is over it
    does not run: TIMEOUT.

ERRORS
    create          INVALID; BUSY: somebody in this process has the signals; NO_MEMORY; NO_THREAD;
                    FAILED: no descriptors, or a system without signals (no_signals works). Nothing
                    is installed then
    enter           OK; CLOSED; TOO_BIG: 16777215 are inside
    wait            OK: asked to stop; CLOSED: destroyed before that; TIMEOUT, CANCELLED
    finish          OK; FAILED: a hook has failed; TIMEOUT: somebody is stuck or was passed over.
                    Again: the same answer and report. BUSY: another thread is in it
    DEADLOCK        finish or destroy, called in a hook, an action or on_phase
    add             OK; CLOSED: the hooks have begun; NO_MEMORY; INVALID
    destroy         OK; BUSY: a thread is in finish; DEADLOCK
    FORKED          everything in a forked child; destroy frees there, and gives the child its
                    signals back

SIGNALS
    The handler stores, writes a byte to a pipe, and, on the second press, ends the process: it
    takes no lock, allocates nothing, keeps errno. It is installed with SA_RESTART and SA_ONSTACK.
    destroy restores what was there before, bit for bit, where the handler is still ours. A signal
    that stops and comes so late that nobody could have been told of it before destroy, or while a
    create fails, is raised again, for whoever is there then. Masks of your threads are not changed,
    so exec'd children are not born deaf. A forked child that does not exec should destroy its copy:
    until then it ignores the signals.

THREADS      All functions by any thread; destroy last: what has not begun by then comes too late.
             requested, reason and request also in signal handlers.
             Threads of the object: the watcher (times and tokens; runs no user code) and the runner
             (user code: on_phase, actions, hooks of the tokens, hooks).
ORDERING     What came before a request comes before what sees it. Work before leave comes before
             the hooks.
ALLOCATES    create: two blocks; add: one; a runner in place of one that is lost: one; exit: one.
BLOCKS       wait, finish (at most what is left of total), destroy (for user code that runs), exit.
COSTS        enter, leave: one read-modify-write on a shared line. requested: three loads. Two
             pipes. No system call while nobody asks.
WINDOWS      By MinGW-w64: Ctrl-C is SIGINT, Ctrl-Break SIGBREAK; twill_shutdown_fd is -1. A console
             that is closed, and a logoff, are SIGBREAK, too, for who has it in the list; then the
             system leaves 5 s: total is 4.5 s at most, the windows half of what is left each.
PITFALLS     Nothing ends a phase early for work that does not enter and leave. A budget counts from
             the request: finish, called after its end, runs no hook. exit does not run finish. A
             process that dies by a signal runs no atexit functions. Do not read from
             twill_shutdown_fd. An object is no parent for tokens that outlive it. */
#ifndef TWILL_GRACEFUL_SHUTDOWN_H
#define TWILL_GRACEFUL_SHUTDOWN_H

#include "base/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct twill_shutdown twill_shutdown;

/* See PHASES above. */
typedef enum twill_shutdown_phase {
    TWILL_SHUTDOWN_RUNNING = 0,
    TWILL_SHUTDOWN_DRAINING,
    TWILL_SHUTDOWN_CANCELLING,
    TWILL_SHUTDOWN_HOOKS,
    TWILL_SHUTDOWN_STOPPED
} twill_shutdown_phase;

/* "TWILL_SHUTDOWN_DRAINING" and so on, for logs; static. "unknown" for other values. */
TWILL__DECL const char *twill_shutdown_phase_name(twill_shutdown_phase phase);

/* What the second press does. */
typedef enum twill_second_signal {
    TWILL_SECOND_KILLS = 0,
    TWILL_SECOND_HURRIES,
    TWILL_SECOND_IGNORED
} twill_second_signal;

typedef struct twill_signal_action {
    int signal;                                     /* not one of those that stop */
    void (*fn)(int signal, const twill_task *task); /* task->until: ends at CANCELLING */
    void *context;
} twill_signal_action;

typedef struct twill_shutdown_step { /* how a hook ended */
    const char *name;                /* until destroy */
    twill_status status;             /* OK, FAILED, TIMEOUT, LOST, NO_THREAD: see HOOKS above */
    int code;
    twill_ns wall;
} twill_shutdown_step;

typedef struct twill_shutdown_options { /* see OPTIONS above */
    bool no_signals;
    const int *signals;
    size_t signal_count;
    const twill_signal_action *actions;
    size_t action_count;
    twill_ns total;
    twill_ns drain;
    twill_ns cancel;
    twill_ns same_press;
    twill_second_signal second;
    bool exit_code;
    bool take_ignored;
    bool no_hard_stop;
    const char *message;
    void (*on_phase)(twill_shutdown_phase phase, int reason, const twill_task *task);
    void *context;
    twill_shutdown_step *steps;
    size_t steps_capacity;
} twill_shutdown_options;

typedef struct twill_shutdown_report {
    twill_status status; /* what finish answers */
    int reason;
    /* work: entered, ever; left before CANCELLING; in it; not at all: the sum is entered */
    size_t entered, left_in_drain, left_in_cancel, stuck;
    size_t hooks, hooks_failed, hooks_overran, steps_stored;
    twill_ns wall; /* from the request */
} twill_shutdown_report;

/* TWILL_OK: *out is the object. Else *out is NULL, and nothing is installed. */
TWILL__DECL twill_status twill_shutdown_create(twill_shutdown **out,
                                               const twill_shutdown_options *options);

/* Restores the handlers, answers CLOSED to who waits, joins the threads, frees. NULL: OK. */
TWILL__DECL twill_status twill_shutdown_destroy(twill_shutdown *shutdown);

/* ---- asking ---- */

/* These three in signal handlers, too. NULL: the object that owns the signals, if there is one. */
TWILL__DECL bool twill_shutdown_requested(const twill_shutdown *shutdown);
/* The signal, or what request was given; INT_MAX: finish was called unasked. 0: not requested. */
TWILL__DECL int twill_shutdown_reason(const twill_shutdown *shutdown);
/* reason > 0 (else it counts as 1). The first one stays. */
TWILL__DECL void twill_shutdown_request(twill_shutdown *shutdown, int reason);

/* ---- for the work ---- */

/* How far it is. NULL, or in a forked child: RUNNING. */
TWILL__DECL twill_shutdown_phase twill_shutdown_get_phase(const twill_shutdown *shutdown);

/* For twill_until.cancel and as parents of tokens; the object's own. drain: accept no more. cancel:
   give up. Their reason is that of the shutdown. */
TWILL__DECL twill_cancel *twill_shutdown_drain_token(twill_shutdown *shutdown);
TWILL__DECL twill_cancel *twill_shutdown_cancel_token(twill_shutdown *shutdown);

/* Readable once requested, for poll loops. Do not read. -1: none here. */
TWILL__DECL int twill_shutdown_fd(const twill_shutdown *shutdown);

/* Around a piece of work that should be finished. Nobody is let in who could have seen the request;
   whoever was let in is waited for and counted. Each OK wants one leave, by any thread. */
TWILL__DECL twill_status twill_shutdown_enter(twill_shutdown *shutdown);
TWILL__DECL void twill_shutdown_leave(twill_shutdown *shutdown);

/* ---- the end ---- */

typedef int twill_shutdown_fn(const twill_task *task);

/* A hook. The name is copied (NULL: ""). limit 0: what is left of total. */
TWILL__DECL twill_status twill_shutdown_add(twill_shutdown *shutdown, const char *name,
                                            twill_shutdown_fn *fn, void *context, twill_ns limit);

/* Until it is asked to stop. */
TWILL__DECL twill_status twill_shutdown_wait(twill_shutdown *shutdown, twill_until until);

/* Asks, if nobody has; goes through the phases; fills *report (may be NULL), also when it is
   refused: then all but the status is 0. */
TWILL__DECL twill_status twill_shutdown_finish(twill_shutdown *shutdown,
                                               twill_shutdown_report *report);

/* Ends the process; does not return. Stopped by a signal: restores the handlers, flushes stdio, and
   dies by it (or exits with 128 + signal). Else destroys the object and calls exit(code); with
   threads that are stuck: flushes for up to 100 ms and _exit(code), since exit would destroy what
   they use. Does not run finish. NULL, or in a forked child: exit(code). */
#if defined __GNUC__
__attribute__((noreturn))
#endif
TWILL__DECL void
twill_shutdown_exit(twill_shutdown *shutdown, int code);

#ifdef __cplusplus
}
#endif
#endif

#ifdef TWILL_IMPLEMENTATION
#ifndef TWILL__GRACEFUL_SHUTDOWN_IMPL
#define TWILL__GRACEFUL_SHUTDOWN_IMPL

#include "graceful_shutdown/finish.h"
#include "graceful_shutdown/life.h"

TWILL__DEFINE const char *twill_shutdown_phase_name(twill_shutdown_phase phase)
{
    static const char *const names[] = {"TWILL_SHUTDOWN_RUNNING", "TWILL_SHUTDOWN_DRAINING",
                                        "TWILL_SHUTDOWN_CANCELLING", "TWILL_SHUTDOWN_HOOKS",
                                        "TWILL_SHUTDOWN_STOPPED"};
    return (unsigned)phase < sizeof names / sizeof names[0] ? names[phase] : "unknown";
}

/* ---- asking ---- */

/* The object to be asked, or NULL; let_go follows. */
static inline twill_shutdown *twill__shutdown_get(const twill_shutdown *shutdown)
{
    if (!shutdown)
        return twill__shutdown_pin();
    return twill__shutdown_here(shutdown) ? (twill_shutdown *)(uintptr_t)shutdown : NULL;
}

static inline void twill__shutdown_let_go(const twill_shutdown *given, const twill_shutdown *got)
{
    if (!given && got)
        twill__owner_release();
}

TWILL__DEFINE int twill_shutdown_reason(const twill_shutdown *shutdown)
{
    const twill_shutdown *got = twill__shutdown_get(shutdown);
    int32_t asked = got ? twill__shutdown_answer(got) : 0;
    twill__shutdown_let_go(shutdown, got);
    return asked < 0 ? -asked : asked;
}

TWILL__DEFINE bool twill_shutdown_requested(const twill_shutdown *shutdown)
{
    return twill_shutdown_reason(shutdown) != 0;
}

TWILL__DEFINE void twill_shutdown_request(twill_shutdown *shutdown, int reason)
{
    twill_shutdown *got = twill__shutdown_get(shutdown);
    if (got)
        twill__shutdown_ask(got, reason > 0 ? reason : 1);
    twill__shutdown_let_go(shutdown, got);
}

TWILL__DEFINE twill_shutdown_phase twill_shutdown_get_phase(const twill_shutdown *shutdown)
{
    if (!shutdown || !twill__shutdown_here(shutdown))
        return TWILL_SHUTDOWN_RUNNING;
    (void)twill__shutdown_answer(shutdown);
    return (twill_shutdown_phase)(atomic_load_explicit(&shutdown->work, memory_order_seq_cst) &
                                  TWILL__WORK_PHASE);
}

TWILL__DEFINE twill_cancel *twill_shutdown_drain_token(twill_shutdown *shutdown)
{
    if (!shutdown)
        return NULL;
    twill__shutdown_seen(shutdown);
    return &shutdown->drain_token;
}

TWILL__DEFINE twill_cancel *twill_shutdown_cancel_token(twill_shutdown *shutdown)
{
    return shutdown ? &shutdown->cancel_token : NULL; /* it fires when the watcher has told */
}

TWILL__DEFINE int twill_shutdown_fd(const twill_shutdown *shutdown)
{
#if TWILL__BELLS
    if (shutdown && twill__shutdown_here(shutdown)) {
        twill__shutdown_seen(shutdown);
        return shutdown->flag.out;
    }
#endif
    (void)shutdown;
    return -1;
}

/* ---- work ---- */

TWILL__DEFINE twill_status twill_shutdown_enter(twill_shutdown *shutdown)
{
    uint64_t seen, next;
    if (!shutdown)
        return TWILL_INVALID;
    if (!twill__shutdown_here(shutdown))
        return TWILL_FORKED;
    /* acquire: pairs with twill__work_advance: who is told CLOSED has seen the request */
    seen = atomic_load_explicit(&shutdown->work, memory_order_acquire);
    do {
        if (seen & TWILL__WORK_PHASE) {
            (void)twill__shutdown_answer(shutdown);
            return TWILL_CLOSED;
        }
        if ((seen & TWILL__WORK_INSIDE) == TWILL__WORK_INSIDE)
            return TWILL_TOO_BIG;
        next = seen + TWILL__WORK_ONE + TWILL__WORK_TOTAL;
    } while (!atomic_compare_exchange_weak_explicit(&shutdown->work, &seen, next,
                                                    memory_order_seq_cst, memory_order_seq_cst));
    if ((seen ^ next) >> 63) /* once in 2^35 */
        atomic_fetch_add_explicit(&shutdown->halves, 1, memory_order_seq_cst);
    return TWILL_OK;
}

TWILL__DEFINE void twill_shutdown_leave(twill_shutdown *shutdown)
{
    uint64_t before;
    if (!shutdown || !twill__shutdown_here(shutdown))
        return;
    /* release, among others: pairs with the RMW by which finish goes on to the hooks */
    before = atomic_fetch_sub_explicit(&shutdown->work, TWILL__WORK_ONE, memory_order_seq_cst);
    TWILL_ASSERT(twill__work_inside(before) > 0); /* a leave without an enter */
    if (twill__work_inside(before) != 1 || !(before & TWILL__WORK_WAITED))
        return;
    /* the last out: finish waits for this, our last access; the address is but a key then */
    atomic_fetch_or_explicit(&shutdown->pulse, 1, memory_order_seq_cst);
    twill__wake(&shutdown->pulse, 1);
}

/* ---- the end ---- */

TWILL__DEFINE twill_status twill_shutdown_add(twill_shutdown *shutdown, const char *name,
                                              twill_shutdown_fn *fn, void *context, twill_ns limit)
{
    size_t length = name ? strlen(name) : 0;
    twill__shutdown_hook *hook;
    bool closed;
    if (!shutdown || !fn || limit < 0)
        return TWILL_INVALID;
    if (!twill__shutdown_here(shutdown))
        return TWILL_FORKED;
    /* relaxed: a hint, so that the answer is CLOSED even without memory; no phase comes back */
    if ((atomic_load_explicit(&shutdown->work, memory_order_relaxed) & TWILL__WORK_PHASE) >=
        TWILL_SHUTDOWN_HOOKS)
        return TWILL_CLOSED;
    hook = (twill__shutdown_hook *)TWILL_MALLOC(sizeof *hook + length + 1);
    if (!hook)
        return TWILL_NO_MEMORY;
    hook->fn = fn;
    hook->context = context;
    hook->limit = limit;
    memcpy(hook->name, length ? name : "", length + 1);
    twill__lock(&shutdown->lock);
    closed = shutdown->closed || shutdown->told >= TWILL_SHUTDOWN_HOOKS;
    if (!closed) {
        hook->earlier = shutdown->hooks;
        shutdown->hooks = hook;
    }
    twill__shutdown_unlock(shutdown);
    if (closed)
        TWILL_FREE(hook);
    return closed ? TWILL_CLOSED : TWILL_OK;
}

TWILL__DEFINE twill_status twill_shutdown_wait(twill_shutdown *shutdown, twill_until until)
{
    twill__node me;
    twill_status status = TWILL_OK;
    bool asked, closed;
    if (!shutdown)
        return TWILL_INVALID;
    if (!twill__shutdown_here(shutdown))
        return TWILL_FORKED;
    twill__lock(&shutdown->lock);
    asked = twill__shutdown_answer(shutdown) != 0;
    closed = shutdown->closed;
    if (asked || closed) {
        twill__shutdown_unlock(shutdown);
        return asked ? TWILL_OK : TWILL_CLOSED;
    }
    twill__node_init(&me);
    twill__list_append(&shutdown->waiters, &me);
    twill__shutdown_unlock(shutdown);
    status = twill__wait(&me, until);
    if (status == TWILL_OK)
        return (twill_status)me.answer;
    twill__lock(&shutdown->lock);
    twill__list_remove(&shutdown->waiters, &me);
    if (twill__shutdown_answer(shutdown)) /* and the watcher has not come to it */
        status = TWILL_OK;
    else if (shutdown->closed)
        status = TWILL_CLOSED;
    twill__shutdown_unlock(shutdown);
    return status;
}

/* finish has begun nothing, nor waited. */
static inline twill_status twill__shutdown_refuse(twill_shutdown_report *report,
                                                  twill_status status)
{
    if (report) {
        memset(report, 0, sizeof *report);
        report->status = status;
    }
    return status;
}

TWILL__DEFINE twill_status twill_shutdown_finish(twill_shutdown *shutdown,
                                                 twill_shutdown_report *report)
{
    twill_shutdown_report result;
    bool busy, finished;
    if (!shutdown)
        return twill__shutdown_refuse(report, TWILL_INVALID);
    if (!twill__shutdown_here(shutdown))
        return twill__shutdown_refuse(report, TWILL_FORKED);
    if (twill__shutdown_inside(shutdown))
        return twill__shutdown_refuse(report, TWILL_DEADLOCK);
    twill__lock(&shutdown->lock);
    finished = shutdown->finished;
    busy = shutdown->finishing;
    if (!finished && !busy)
        shutdown->finishing = true;
    twill__shutdown_unlock(shutdown);
    if (!finished && busy)
        return twill__shutdown_refuse(report, TWILL_BUSY);
    if (!finished) {
        twill__shutdown_ask(shutdown, INT_MAX); /* unless somebody has */
        twill__shutdown_drain(shutdown);
        twill__shutdown_run_hooks(shutdown);
        twill__shutdown_stopped(shutdown);
        twill__shutdown_last_word(shutdown);
    }
    twill__lock(&shutdown->lock);
    result = shutdown->report;
    shutdown->finishing &= finished; /* another thread may still be at its last word */
    twill__shutdown_unlock(shutdown);
    if (report)
        *report = result;
    return result.status;
}

/* ---- exit ---- */

#define TWILL__FLUSH_FOR TWILL_MS(100) /* where somebody may hold a stream's lock for ever */

typedef struct twill__flush { /* of a thread that may never end: nobody frees it */
    twill__thrd thread;
    _Atomic uint32_t done;
} twill__flush;

static void twill__flush_main(void *arg)
{
    twill__flush *flush = (twill__flush *)arg;
    fflush(NULL);
    /* pairs with twill__flush_stdio */
    atomic_store_explicit(&flush->done, 1, memory_order_release);
    twill__wake(&flush->done, 1);
}

/* In a thread of its own: somebody may hold a stream's lock for ever. */
static inline void twill__flush_stdio(twill_ns until, bool stuck)
{
    twill__flush *flush = (twill__flush *)TWILL_MALLOC(sizeof *flush);
    if (flush)
        atomic_init(&flush->done, 0);
    if (!flush ||
        !twill__shutdown_thread(&flush->thread, twill__flush_main, flush, "twill-flush")) {
        if (!stuck)
            fflush(NULL);
        return;
    }
    /* pairs with twill__flush_main */
    while (!atomic_load_explicit(&flush->done, memory_order_acquire) && !twill__expired(until))
        twill__park(&flush->done, 0, until);
}

TWILL__DEFINE void twill_shutdown_exit(twill_shutdown *shutdown, int code)
{
    twill_ns until = twill__clock_now() + TWILL__FLUSH_FOR;
    int32_t asked;
    bool stuck;
    if (!shutdown || !twill__shutdown_here(shutdown))
        exit(code);
    asked = twill__shutdown_asked(shutdown);
    twill__lock(&shutdown->lock);
    stuck = shutdown->report.stuck || shutdown->hung;
    if (!stuck && shutdown->end > until)
        until = shutdown->end;
    twill__shutdown_unlock(shutdown);
    if (asked < 0) {
#if TWILL__SIGNALS
        twill__shutdown_restore(shutdown); /* from here on one press more ends it by itself */
#endif
        twill__flush_stdio(until, stuck);
        twill__signal_die(-asked, shutdown->options.exit_code);
    }
    if (stuck) {
        twill__flush_stdio(until, stuck);
        _Exit(code);
    }
    (void)twill_shutdown_destroy(shutdown);
    exit(code);
}

#endif
#endif
