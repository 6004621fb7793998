/* twill_graceful_shutdown.h - twill 0.1.0 - SPDX-License-Identifier: MIT OR Unlicense (text at the end)
   GENERATED from patterns/src/graceful_shutdown.h and its parts. Do not edit it here: edit there, then `make headers`. */

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

/* ---- base/base.h ---- */
/* base.h: the vocabulary that every header shows. It only declares; platform/ and engine/ implement
   it. */

/* ---- base/version.h ---- */
/* version.h: one version for all headers of one .c file. */
#ifndef TWILL_VERSION
#define TWILL_VERSION      100 /* major * 10000 + minor * 100 + patch */
#define TWILL_VERSION_TEXT "0.1.0"
#endif
/* Not under the guard: a second header checks what the first one brought. The assertion names both
   versions. */
#if TWILL_VERSION != 100
#ifdef __cplusplus
static_assert(TWILL_VERSION == 100,
              "this header is twill 0.1.0, but twill " TWILL_VERSION_TEXT " came before it");
#else
_Static_assert(TWILL_VERSION == 100,
               "this header is twill 0.1.0, but twill " TWILL_VERSION_TEXT " came before it");
#endif
#error "twill headers of different versions in one file"
#endif

/* ---- base/link.h ---- */
/* link.h: how declarations are decorated. See "Rules of linking" in docs/internals.md. */
#ifndef TWILL__BASE_LINK_H
#define TWILL__BASE_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined TWILL_STATIC && !defined TWILL_IMPLEMENTATION
#define TWILL_IMPLEMENTATION
#endif
#if defined __cplusplus && defined TWILL_IMPLEMENTATION
#error "twill: define TWILL_IMPLEMENTATION in a .c file; C++ files include the declarations"
#endif

#ifdef TWILL_STATIC
#define TWILL__DECL static inline
#elif defined TWILL_API
#define TWILL__DECL TWILL_API
#else
#define TWILL__DECL extern
#endif

#ifdef __cplusplus
#define TWILL_ALIGNAS(n)         alignas(n)
#define TWILL__CAST(type, value) static_cast<type>(value) /* in what C++ compiles, too */
#else
#define TWILL_ALIGNAS(n)         _Alignas(n)
#define TWILL__CAST(type, value) ((type)(value))
#endif
/* Storage of a caller-owned object that only the implementation reads: n words of 64 bits. */
#define TWILL_PRIVATE(n) TWILL_ALIGNAS(8) uint64_t private_words[n]

#endif

/* ---- base/status.h ---- */
/* status.h: what a call answers. One table gives value, name and text. */
#ifndef TWILL__BASE_STATUS_H
#define TWILL__BASE_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

/* Outcomes come first, refusals from 32 on: a refused call has changed nothing. When several
   hold, the first of this order is said: success, FAILED, CLOSED, CANCELLED, TIMEOUT, then FULL
   or EMPTY. */
#define TWILL_STATUS_TABLE(X)                                     \
    X(TWILL_OK, 0, "success")                                     \
    X(TWILL_FAILED, 1, "a callback returned a code other than 0") \
    X(TWILL_TIMEOUT, 2, "the deadline passed")                    \
    X(TWILL_CANCELLED, 3, "the cancel token fired")               \
    X(TWILL_CLOSED, 4, "closed, and no more will come")           \
    X(TWILL_FULL, 5, "no room now")                               \
    X(TWILL_EMPTY, 6, "nothing there now")                        \
    X(TWILL_DROPPED, 7, "dropped by the overflow policy")         \
    X(TWILL_LOST, 8, "nobody will ever say how it ended")         \
    X(TWILL_INVALID, 32, "an argument or option is not valid")    \
    X(TWILL_NO_MEMORY, 33, "not enough memory")                   \
    X(TWILL_NO_THREAD, 34, "a thread could not be started")       \
    X(TWILL_BUSY, 35, "in use")                                   \
    X(TWILL_TOO_BIG, 36, "too big for a limit or for size_t")     \
    X(TWILL_DEADLOCK, 37, "this wait could never end")            \
    X(TWILL_STALE, 38, "the handle's object is gone")             \
    X(TWILL_FORKED, 39, "made by the parent process, before a fork")

#define TWILL__STATUS_ENUM(NAME, VALUE, TEXT) NAME = VALUE,
typedef enum twill_status { TWILL_STATUS_TABLE(TWILL__STATUS_ENUM) } twill_status;
#undef TWILL__STATUS_ENUM

/* The name ("TWILL_TIMEOUT") and a short English text, both static. "unknown status" for other
   values. Any thread. */
TWILL__DECL const char *twill_status_name(twill_status status);
TWILL__DECL const char *twill_status_text(twill_status status);

#ifdef __cplusplus
}
#endif
#endif

/* ---- base/time.h ---- */
/* time.h: durations, instants, how long a call may wait. */
#ifndef TWILL__BASE_TIME_H
#define TWILL__BASE_TIME_H

#ifdef __cplusplus
extern "C" {
#endif

/* Nanoseconds: durations, and instants of the monotonic clock. An instant is always above 0. */
typedef int64_t twill_ns;
/* n: an integer, or a double: TWILL_SEC(0.5) */
#define TWILL_US(n)   TWILL__CAST(twill_ns, (n)*INT64_C(1000))
#define TWILL_MS(n)   TWILL__CAST(twill_ns, (n)*INT64_C(1000000))
#define TWILL_SEC(n)  TWILL__CAST(twill_ns, (n)*INT64_C(1000000000))
#define TWILL_FOREVER INT64_MAX

typedef struct twill_cancel twill_cancel;

/* How long a call may wait: until the instant `deadline` (0: no limit) or until `cancel` fires
   (NULL: no token). {0} waits for ever. A call that can succeed at once does so even when both are
   over. */
typedef struct twill_until {
    twill_ns deadline;
    twill_cancel *cancel;
} twill_until;

/* Now, on the monotonic clock. Never goes back; steps of the wall clock do not move it. Any
   thread. */
TWILL__DECL twill_ns twill_now(void);

/* CPUs this process may use: affinity mask, then the cgroup quota rounded down, at least 1. Reads
   the system anew at each call (some system calls). The patterns go by the last reading: that of
   the first call in the process, of this function, or of a pool that counts them. So ask once more
   when mask or quota has changed; not in a thread that is bound to fewer CPUs than the others. */
TWILL__DECL unsigned twill_cpus(void);

/* Until `ns` from now. <= 0: over already. TWILL_FOREVER: no deadline. Sums saturate. */
TWILL__DECL twill_until twill_within(twill_ns ns);
TWILL__DECL twill_until twill_until_cancelled(twill_cancel *cancel);
TWILL__DECL twill_until twill_within_or_cancelled(twill_ns ns, twill_cancel *cancel);

/* Sleeps until the deadline (TWILL_OK) or until the token fires (TWILL_CANCELLED). With neither of
   them the sleep could never end: TWILL_DEADLOCK at once. */
TWILL__DECL twill_status twill_sleep(twill_until until);

#ifdef __cplusplus
}
#endif
#endif

/* ---- base/cancel.h ---- */
/* cancel.h: the cancel token, which ends every kind of wait. */
#ifndef TWILL__BASE_CANCEL_H
#define TWILL__BASE_CANCEL_H

#ifdef __cplusplus
extern "C" {
#endif

struct twill_task;

/* A cancel token. The caller owns it; zeroed, it is ready and has no parent. It must outlive every
   call that it is given to, and its children. All functions may be called by any thread, but for
   _init. */
struct twill_cancel {
    TWILL_PRIVATE(8);
};

/* Makes `cancel` ready, as a child of `parent` (NULL: none). Costs nothing until somebody waits on
   it. */
TWILL__DECL void twill_cancel_init(twill_cancel *cancel, twill_cancel *parent);

/* Before the memory of a token goes: leaves the parent and waits for a fire that is calling its
   hooks in another thread. Children first. A token without parent needs it only when its own hooks
   may be running; a twill_cancel_fire on this very token must have returned. Zeroed and never used:
   harmless. NULL: nothing. */
TWILL__DECL void twill_cancel_detach(twill_cancel *cancel);

/* Fires the token and its children: wakes every wait below it, then calls the hooks. The first
   reason stays; a reason of 0 counts as 1. Fired already: nothing more happens. */
TWILL__DECL void twill_cancel_fire(twill_cancel *cancel, int reason);

/* Async-signal-safe: stores the reason and wakes nobody. Polls see it at once, waits that begin
   later too; one that sleeps already does not, until somebody fires the token. For signals use
   graceful_shutdown. */
TWILL__DECL void twill_cancel_request(twill_cancel *cancel, int reason);

/* Whether this token or one above it has fired; NULL: false. Never blocks. */
TWILL__DECL bool twill_cancel_fired(const twill_cancel *cancel);
/* Its reason, 0 while it has not fired. */
TWILL__DECL int twill_cancel_reason(const twill_cancel *cancel);

/* A callback for the moment of firing; the caller owns the memory. `fn` runs once, in the thread
   that fires, and must return. NULL as token, below: one that never fires. */
typedef struct twill_cancel_hook {
    void (*fn)(int reason, const struct twill_task *task); /* task->context is the hook's */
    void *context;
    TWILL_PRIVATE(4);
} twill_cancel_hook;

/* Adds a hook; when the token has fired already, fn runs at once, in this thread. */
TWILL__DECL void twill_cancel_add_hook(twill_cancel *cancel, twill_cancel_hook *hook);
/* After it fn neither runs nor will run: it waits for one that runs in another thread (not for its
   own caller). */
TWILL__DECL void twill_cancel_remove_hook(twill_cancel *cancel, twill_cancel_hook *hook);

#ifdef __cplusplus
}
#endif
#endif

/* ---- base/task.h ---- */
/* task.h: what a callback is told, and what it may say. */
#ifndef TWILL__BASE_TASK_H
#define TWILL__BASE_TASK_H

#ifdef __cplusplus
extern "C" {
#endif

/* Every callback's LAST parameter: there is no other context. Valid during the call; copies of it
   too. */
typedef struct twill_task {
    size_t index;  /* the item; SIZE_MAX where there is none */
    void *context; /* the user's, from the options */
    /* dense, 0..workers-1, owned by the executing thread; UINT_MAX outside a worker */
    unsigned worker;
    unsigned workers;   /* how many callbacks of this call may run at once */
    void *worker_state; /* what worker_start made */
    /* give it to every wait inside the callback: it ends when the item should */
    twill_until until;
    void *private_; /* the library's record of this call; NULL in a task made by hand */
} twill_task;

/* Whether to give up: token, deadline, or an internal stop at a lower item. Long callbacks poll
   it. */
TWILL__DECL bool twill_task_cancelled(const twill_task *task);
/* Like `break`: no error, lower items still run, higher ones need not. Returns 0: `return
   twill_task_stop(task);` */
TWILL__DECL int twill_task_stop(const twill_task *task);
/* "I gave up": the item counts as skipped. Returns 0. */
TWILL__DECL int twill_task_skip(const twill_task *task);
/* Range forms: says which item failed. Returns code: `return twill_task_fail(task, i, code);` */
TWILL__DECL int twill_task_fail(const twill_task *task, size_t index, int code);
/* About to block outside the library, and back: a pool may add a thread meanwhile. */
TWILL__DECL void twill_task_block_begin(const twill_task *task);
TWILL__DECL void twill_task_block_end(const twill_task *task);

/* Callbacks return 0 for success; any other int is the user's own code, kept untouched. */
/* one item, one result */
typedef int twill_map_fn(const void *in, void *out, const twill_task *task);
/* one task; result: a zeroed slot */
typedef int twill_task_fn(void *arg, void *result, const twill_task *task);
/* never run nor delivered */
typedef void twill_drop_fn(void *item, twill_status why, const twill_task *task);
/* ran; nobody takes it */
typedef void twill_discard_fn(void *arg, void *result, int code, const twill_task *task);

#ifdef __cplusplus
}
#endif
#endif

/* ---- base/run.h ---- */
/* run.h: how to run, and the report of what happened. */
#ifndef TWILL__BASE_RUN_H
#define TWILL__BASE_RUN_H

#ifdef __cplusplus
extern "C" {
#endif

typedef enum twill_on_error {
    TWILL_ON_ERROR_DEFAULT = 0, /* LOWEST; COLLECT for run_all, fan and batches */
    /* stops early, and reports what the serial loop would have reported */
    TWILL_ON_ERROR_LOWEST,
    TWILL_ON_ERROR_FIRST,   /* stops at once; the first in time */
    TWILL_ON_ERROR_COLLECT, /* runs everything */
    TWILL_ON_ERROR_LIMIT    /* stops once max_errors items have failed */
} twill_on_error;

/* What a full container does; named by what is dropped. */
typedef enum twill_overflow {
    TWILL_OVERFLOW_BLOCK = 0,
    TWILL_OVERFLOW_REJECT,
    TWILL_OVERFLOW_DROP_INCOMING,
    TWILL_OVERFLOW_DROP_OLDEST,
    TWILL_OVERFLOW_DROP_NEWEST, /* the newest of those queued */
    TWILL_OVERFLOW_CALLER_RUNS  /* pools */
} twill_overflow;

typedef struct twill_item_error {
    size_t index; /* SIZE_MAX: no item, e.g. worker_start */
    /* TWILL_OK: no error; FAILED; LOST: its callback ended the thread, or was left behind; TIMEOUT:
       it was past a time limit of its own */
    twill_status status;
    int code; /* the user's; 0 unless FAILED */
} twill_item_error;

typedef struct twill_outcome { /* how one item or task ended */
    twill_status status;
    int code; /* what it returned, if it FAILED; else 0 */
    size_t index;
    void *key;                          /* the submitter's own tag */
    unsigned worker;                    /* that ran it; UINT_MAX: none has */
    unsigned attempts;                  /* how often it was begun; 0: it never ran */
    twill_ns queued, started, finished; /* instants; started is 0 if it never ran */
} twill_outcome;

typedef struct twill_stopped { /* what a `_stop` call saw */
    size_t finished, cancelled, stuck;
} twill_stopped;

typedef struct twill_pool twill_pool;
typedef struct twill_future { /* a copyable handle; {0} is no task */
    void *slot;
    uint64_t generation;
} twill_future;

/* twill_report.flags */
enum {
    TWILL_REPORT_DEGRADED = 1,      /* fewer workers than asked: thread, hook or memory failed */
    TWILL_REPORT_NESTED = 2,        /* ran on the threads of the call, or pool, around it */
    TWILL_REPORT_SERIAL = 4,        /* the caller alone: too small for threads, or one worker */
    TWILL_REPORT_NO_STACK_SIZE = 8, /* stack_size could not be honoured */
    TWILL_REPORT_NO_AFFINITY = 16   /* cpus could not be honoured */
};

/* What happened. total == done + failed + skipped, always. */
typedef struct twill_report {
    twill_status status;
    size_t total, done, failed, skipped;
    size_t errors_stored; /* entries written to run.errors */
    size_t chunks;        /* how often work was handed out */
    twill_item_error first_error;
    unsigned workers_started;     /* that could take part, the caller included */
    unsigned workers_used;        /* that ran at least one item */
    twill_ns wall, busy, busiest; /* of the call; summed over workers; of the busiest worker */
    uint32_t flags;               /* TWILL_REPORT_... */
} twill_report;

/* How to run: first member, `run`, of every options struct that uses threads. Zeroed: sensible
   defaults. A field that a pattern cannot honour must be zero, else TWILL_INVALID. */
typedef struct twill_run {
    /* NULL: threads of the call's own; or, with workers 0, those of the call around it, or (of
       parallel_map's calls, run_all and the batches of an array) of the pool in whose task it is */
    twill_pool *pool;
    /* callbacks at once, the caller included; 0: the pool's, else the CPUs, as far as the work is
       worth them. Set: all of them start before the first item */
    unsigned workers;
    bool strict;       /* fewer threads than asked: TWILL_NO_THREAD, and nothing runs */
    twill_until until; /* deadline and token of the whole call */
    void *context;     /* task->context */
    /* on the worker, before its first item; once a worker number and call. Not 0: this worker runs
       nothing */
    int (*worker_start)(void **worker_state, const twill_task *task);
    /* once for each start that returned 0: on the calling thread, in worker order, after the last
       item (so it may merge) */
    void (*worker_stop)(void *worker_state, const twill_task *task);
    twill_on_error on_error;
    size_t max_errors;        /* LIMIT: stop after so many, 0 = 1; else ignored */
    twill_item_error *errors; /* optional: the failures of the lowest indexes, sorted */
    size_t errors_capacity;
    /* optional, [n]: how each item ended; CANCELLED: it said twill_task_skip; CANCELLED or TIMEOUT:
       it never ran, and that is why. A refusal may leave both as they were */
    twill_status *statuses;
    int *codes;        /* optional, [n]: each item's code */
    size_t stack_size; /* of threads that are started, bytes; 0: the system's default */
    /* of threads that are started; the system may cut it (Linux: 15 bytes) */
    const char *name;
    /* of threads that are started: thread k runs on cpus[k % cpu_count] */
    const unsigned *cpus;
    size_t cpu_count;
    twill_report *report; /* optional: filled on every return of a call, by destroy of an object */
} twill_run;

#ifdef __cplusplus
}
#endif
#endif

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

/* ---- graceful_shutdown/finish.h ---- */
/* graceful_shutdown/finish.h: the end, step by step: work, hooks, report. */
#ifndef TWILL__GRACEFUL_SHUTDOWN_FINISH_H
#define TWILL__GRACEFUL_SHUTDOWN_FINISH_H

/* ---- graceful_shutdown/watcher.h ---- */
/* graceful_shutdown/watcher.h: the phases, and the thread that keeps their times. It runs no user
   code, so nothing can hold it up. */
#ifndef TWILL__GRACEFUL_SHUTDOWN_WATCHER_H
#define TWILL__GRACEFUL_SHUTDOWN_WATCHER_H

/* ---- graceful_shutdown/runner.h ---- */
/* graceful_shutdown/runner.h: the thread that runs the user's code: on_phase, actions, hooks. */
#ifndef TWILL__GRACEFUL_SHUTDOWN_RUNNER_H
#define TWILL__GRACEFUL_SHUTDOWN_RUNNER_H

/* ---- graceful_shutdown/state.h ---- */
/* graceful_shutdown/state.h: the object, and all that a signal handler does with it. */
#ifndef TWILL__GRACEFUL_SHUTDOWN_STATE_H
#define TWILL__GRACEFUL_SHUTDOWN_STATE_H

/* ---- engine/call.h ---- */
/* call.h: what a callback may say about its item; each engine answers through a table behind
   task->private_. */
#ifndef TWILL__ENGINE_CALL_H
#define TWILL__ENGINE_CALL_H

/* ---- engine/cancel.h ---- */
/* cancel.h: waiting and cancelling: one protocol for every wait of the library. docs/internals.md
   argues it. */
#ifndef TWILL__ENGINE_CANCEL_H
#define TWILL__ENGINE_CANCEL_H

/* ---- engine/chain.h ---- */
/* chain.h: lists with two ends, linked in both directions by fields of the items themselves. */
#ifndef TWILL__ENGINE_CHAIN_H
#define TWILL__ENGINE_CHAIN_H

/* The ends are `first` and `last`, both NULL while it is empty; `previous` and `next` name the
   fields. An item may stand in several lists, by fields of other names. Arguments are evaluated
   more than once. */

/* Puts `item` behind `place`; NULL: in front of all. */
#define TWILL__CHAIN_IN(first, last, place, item, previous, next)         \
    do {                                                                  \
        (item)->previous = (place);                                       \
        (item)->next = (item)->previous ? (item)->previous->next : first; \
        if ((item)->previous)                                             \
            (item)->previous->next = (item);                              \
        else                                                              \
            first = (item);                                               \
        if ((item)->next)                                                 \
            (item)->next->previous = (item);                              \
        else                                                              \
            last = (item);                                                \
    } while (0)

/* Takes it out; its own fields stay. */
#define TWILL__CHAIN_OUT(first, last, item, previous, next) \
    do {                                                    \
        if ((item)->previous)                               \
            (item)->previous->next = (item)->next;          \
        else                                                \
            first = (item)->next;                           \
        if ((item)->next)                                   \
            (item)->next->previous = (item)->previous;      \
        else                                                \
            last = (item)->previous;                        \
    } while (0)

#endif

/* ---- engine/lock.h ---- */
/* lock.h: a lock of 32 bits that knows how many threads wait for it. Zeroed: free. */
#ifndef TWILL__ENGINE_LOCK_H
#define TWILL__ENGINE_LOCK_H

/* ---- engine/spin.h ---- */
/* spin.h: what every wait does before it parks. The explorer sets TWILL__SPIN to 0: a spin only
   multiplies schedules. */
#ifndef TWILL__ENGINE_SPIN_H
#define TWILL__ENGINE_SPIN_H

/* ---- platform/platform.h ---- */
/* platform.h: all that knows a system. */

/* ---- platform/system.h ---- */
/* system.h: which back end, and what -std=c11 hides. The files of platform/ are the only ones that
   know a system. */
#ifndef TWILL__PLATFORM_SYSTEM_H
#define TWILL__PLATFORM_SYSTEM_H

#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Reads and writes storage that the caller owns as plain words; hence may_alias. */
#define TWILL__VIEW __attribute__((may_alias))

/* ---- back end ---- */
#if defined __SANITIZE_THREAD__
#define TWILL__UNDER_TSAN 1
#elif defined __has_feature
#if __has_feature(thread_sanitizer)
#define TWILL__UNDER_TSAN 1
#endif
#endif

/* All have pthreads; on Windows they are MinGW-w64's, and nothing else of POSIX is used there. */
#if defined __unix__ || defined __APPLE__ || defined __HAIKU__
#define TWILL__POSIX 1
#elif !defined __MINGW32__
#error "twill: platform/ has no back end for this system"
#endif

/* pthreads: where asked, where <threads.h> is missing, under ThreadSanitizer, which crashes on
   glibc's thrd_create, and with musl, whose thrd_create blocks all signals in the new thread */
#if !defined TWILL_USE_PTHREAD
#if defined TWILL__UNDER_TSAN || defined __STDC_NO_THREADS__ || defined __APPLE__ || \
    defined __MINGW32__ || (defined __linux__ && !defined __GLIBC__)
#define TWILL_USE_PTHREAD 1
#elif defined __has_include
#if !__has_include(<threads.h>)
#define TWILL_USE_PTHREAD 1
#endif
#endif
#endif
#if !defined __linux__ && !defined TWILL_NO_FUTEX
#define TWILL_NO_FUTEX 1
#endif

#include <pthread.h>
#include <sched.h>
#ifdef TWILL__POSIX
#include <unistd.h>
#endif
#ifndef TWILL_USE_PTHREAD
#include <threads.h>
#endif
#include <time.h>

/* ---- linking ---- */
/* TWILL__DEFINE: a public function of a pattern. TWILL__WEAK: one of a shared part, so that two
   libraries may both carry it. TWILL__ONE: the state that must exist once a process; default
   visibility, or each shared object would have its own. MinGW's linker does not merge weak
   functions: there one file of a program has the code of all the headers that it uses. */
#ifdef __MINGW32__
#define TWILL__MERGED
#define TWILL__EVERYWHERE
#else
#define TWILL__MERGED     __attribute__((weak))
#define TWILL__EVERYWHERE __attribute__((weak, visibility("default")))
#endif
#ifdef TWILL_STATIC
#define TWILL__WEAK   static inline
#define TWILL__DEFINE static inline
#elif defined TWILL_API
#define TWILL__WEAK   TWILL__MERGED TWILL_API
#define TWILL__DEFINE TWILL_API
#else
#define TWILL__WEAK TWILL__MERGED
#define TWILL__DEFINE
#endif
#if defined TWILL_STATIC && defined __MINGW32__
#define TWILL__ONE static inline
#else
#define TWILL__ONE TWILL__EVERYWHERE
#endif

/* ---- replaceable ---- */
#if !defined TWILL_MALLOC && !defined TWILL_FREE
#define TWILL_MALLOC(size)  malloc(size)
#define TWILL_FREE(pointer) free(pointer)
#elif !defined TWILL_MALLOC || !defined TWILL_FREE
#error "twill: define both of TWILL_MALLOC and TWILL_FREE, or none"
#endif
#ifndef TWILL_ASSERT
#include <assert.h>
#define TWILL_ASSERT(condition) assert(condition)
#endif
#ifndef TWILL__FAIL_THREAD
#define TWILL__FAIL_THREAD() 0 /* tests: not 0 makes this creation of a thread fail */
#endif

#define TWILL__LINE \
    128 /* bytes that two threads should not share: a line and its prefetched neighbour */

/* ---- what plain -std=c11 hides: ISO C has no way to ask for it later, so the prototypes stand
   here ---- */
#if defined __linux__ && LONG_MAX == 0x7fffffffL && !defined __x86_64__ && \
    ((defined __GLIBC__ && defined _TIME_BITS && _TIME_BITS == 64) ||      \
     defined _REDIR_TIME64 /* musl 1.2 */)
/* 64-bit time_t on 32 bits */
extern int clock_gettime(int, struct timespec *) __asm__("__clock_gettime64");
#elif defined TWILL__POSIX && !defined __APPLE__
extern int clock_gettime(int, struct timespec *); /* clockid_t is int wherever we run */
#endif
#ifdef __linux__
#include <sys/syscall.h>
extern long syscall(long, ...);
#endif

static inline void twill__yield(void)
{
#ifdef TWILL_USE_PTHREAD
    sched_yield();
#else
    thrd_yield();
#endif
}

#endif

/* ---- platform/clock.h ---- */
/* clock.h: the monotonic clock. */
#ifndef TWILL__PLATFORM_CLOCK_H
#define TWILL__PLATFORM_CLOCK_H

#if defined __linux__
#define TWILL__MONOTONIC 1
#elif defined __APPLE__
#define TWILL__MONOTONIC 8 /* CLOCK_UPTIME_RAW: the clock that its condition variables wait on */
#else
#define TWILL__MONOTONIC CLOCK_MONOTONIC
#endif

static inline twill_ns twill__clock_now(void)
{
    struct timespec t;
    clock_gettime(TWILL__MONOTONIC, &t);
    return (twill_ns)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline struct timespec twill__timespec(twill_ns at)
{
    struct timespec t;
    twill_ns seconds = at / 1000000000;
    if (sizeof t.tv_sec == 4 && seconds > 0x7fffffff) /* 32-bit time_t: far enough */
        seconds = 0x7fffffff;
    t.tv_sec = (time_t)seconds;
    t.tv_nsec = (long)(at % 1000000000);
    return t;
}

/* The instant ns >= 0 after another one, on any axis; TWILL_FOREVER: it will not come. */
static inline twill_ns twill__instant_after(twill_ns at, twill_ns ns)
{
    return (uint64_t)ns >= (uint64_t)TWILL_FOREVER - (uint64_t)at ? TWILL_FOREVER : at + ns;
}

#endif

/* ---- platform/process.h ---- */
/* process.h: what exists once a thread and once a process, and how a fork is noticed. */
#ifndef TWILL__PLATFORM_PROCESS_H
#define TWILL__PLATFORM_PROCESS_H

#include <errno.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

/* The link names carry the number of the layout: libraries that were built from headers of another
   layout get a copy of their own instead of a torn one. Raise it when one of the two structures
   changes. */
#define twill__thread  twill__thread_layout7
#define twill__process twill__process_layout4

#define TWILL__DUTIES 6 /* of a thread; deeper ones are not noted */

struct twill__job;
struct twill__team;

typedef struct twill__self {  /* of one thread; only that thread reads and writes it */
    uint64_t number;          /* never used again in this process; 0: not given yet */
    struct twill__job *job;   /* the innermost call whose callback runs here */
    struct twill__team *team; /* the team whose thread this is, or NULL */
    void *helper;             /* its record there */
    void *record;             /* the innermost task of engine/record.h whose callback runs here */
    void *runner;             /* what it runs tasks of a pool as, or NULL */
    void *visit;              /* its innermost call of an object of timeouts, or NULL */
    unsigned duties; /* what it has to do after the callback that it is in: engine/duty.h */
    struct {
        const void *object, *record;
        unsigned what;
    } duty[TWILL__DUTIES];
    /* the last parallel loop without wishes that was cheap: when it was judged so, in ticks (0: a
       later one was not); its function, team and items; how many of these run before the next look
       at the ticks, and how many ticks may have passed by then; see engine/brief.h */
    uint64_t ticked;
    uintptr_t cheap;
    struct twill__team *cheap_team;
    size_t cheap_n, cheap_first;
    uint64_t cheap_most;
    /* the last one that was worth helpers, 0: a later one was not; its function, team and items,
       its first chunk, and how many items are the caller's; where its record and the caller's slot
       stood, and most likely will stand again */
    uintptr_t dear;
    struct twill__team *dear_team;
    size_t dear_n, dear_chunk, dear_kept;
    const void *dear_job, *dear_slot;
} twill__self;

typedef struct twill__global { /* of the process */
    _Atomic uint64_t threads;  /* numbers given */
    /* 1, and more in each forked child that uses the library */
    _Atomic uint32_t generation;
    _Atomic uint32_t own_mark;        /* the mark, where the kernel cannot wipe a page on fork */
    _Atomic(_Atomic uint32_t *) mark; /* holds the generation; a fork makes it 0 */
    _Atomic uint32_t cpus;            /* the last count, 0: none yet */
    _Atomic uint64_t tick_rate;       /* see platform/ticks.h; 0: not measured yet */
    /* waits for ever, of engine/future_wait.h; made anew after a fork */
    _Atomic uint32_t waits_lock, waits_generation;
    void *waits;
    /* the process that owns the signals << 32 | threads that use its object just now; 0: nobody */
    _Atomic uint64_t signal_claim;
    _Atomic(void *) signal_owner; /* NULL while it comes and goes; see platform/signals.h */
    void *stragglers[16 / sizeof(void *) + 3]; /* twill__stragglers of timeout_fallback/books.h */
    _Atomic uintptr_t fence;                   /* what the kernel said; see platform/fence.h */
    void *reserved[2];                         /* later parts */
} twill__global;

TWILL__ONE twill__self *twill__thread(void);
TWILL__ONE twill__global *twill__process(void);

TWILL__ONE twill__self *twill__thread(void)
{
    static _Thread_local twill__self self;
    return &self;
}

TWILL__ONE twill__global *twill__process(void)
{
    static twill__global global;
    return &global;
}

/* The same without a call but the first; it never changes. */
static inline twill__self *twill__thread_here(void)
{
    static _Thread_local twill__self *self;
    if (!self)
        self = twill__thread();
    return self;
}

/* The numbers of another copy of this state, which a plugin may have, begin elsewhere: or two
   threads that meet at one object would be one. The highest bit is free, also where addresses have
   48 bits and more: resource_pool/desk.h doubles a number. */
static inline uint64_t twill__thread_number_of(uintptr_t state, uint64_t given)
{
    return ((uint64_t)state << 16 >> 1) + given;
}

static __attribute__((noinline)) uint64_t twill__thread_number_new(void)
{
    twill__self *self = twill__thread();
    twill__global *global = twill__process();
    if (!self->number) /* relaxed: only the value matters */
        self->number = twill__thread_number_of(
            (uintptr_t)global,
            atomic_fetch_add_explicit(&global->threads, 1, memory_order_relaxed) + 1);
    return self->number;
}

static inline uint64_t *twill__thread_number_copy(void)
{
    static _Thread_local uint64_t copy; /* it never changes, and needs no call here */
    return &copy;
}

static inline uint64_t twill__thread_number(void)
{
    uint64_t *copy = twill__thread_number_copy();
    if (!*copy)
        *copy = twill__thread_number_new();
    return *copy;
}

/* The same without a call; 0: it was not asked for before. */
static inline uint64_t twill__thread_number_known(void)
{
    return *twill__thread_number_copy();
}

/* ---- fork ---- */

#ifdef TWILL__POSIX
extern int pthread_atfork(void (*)(void), void (*)(void), void (*)(void));

static inline void twill__forked(void) /* in the child, before fork returns */
{
    /* one thread: nobody to pair with */
    atomic_store_explicit(&twill__process()->own_mark, 0, memory_order_relaxed);
}
#endif

/* A word that is 0 after a fork. Linux: a page of its own that the kernel wipes, which also sees
   _Fork and clone. Else a fork handler does it. */
static inline _Atomic uint32_t *twill__new_mark(twill__global *global)
{
#if defined __linux__ && !defined TWILL__NO_WIPEONFORK
    extern int madvise(void *, size_t, int);
    /* MAP_ANONYMOUS is another number on MIPS, Alpha and PA-RISC: there the call fails, and the
       fallback serves. An emulator that accepts any advice (qemu-user) wipes nothing: it is asked
       for one that does not exist first. */
    int saved = errno;
    void *page = mmap(NULL, 65536, 1 | 2 /* read, write */, MAP_PRIVATE | 0x20, -1, 0);
    if (page != (void *)-1) {
        if (madvise(page, 65536, -1) != 0 &&
            madvise(page, 65536, 18 /* MADV_WIPEONFORK, Linux 4.14 */) == 0) {
            errno = saved;
            return (_Atomic uint32_t *)page;
        }
        munmap(page, 65536);
    }
    errno = saved;
#endif
#ifdef TWILL__POSIX
    (void)pthread_atfork(NULL, NULL, twill__forked);
#endif
    return &global->own_mark;
}

static inline _Atomic uint32_t *twill__arm_mark(twill__global *global)
{
    _Atomic uint32_t *mark = twill__new_mark(global), *none = NULL;
    uint32_t unborn = 0;
    /* relaxed: both words only count; what they guard is ordered by the release below */
    atomic_compare_exchange_strong_explicit(&global->generation, &unborn, 1, memory_order_relaxed,
                                            memory_order_relaxed);
    atomic_store_explicit(mark, 1, memory_order_relaxed);
    /* release: pairs with the acquire in twill__generation; a loser's page stays mapped, once in a
       process's life */
    if (!atomic_compare_exchange_strong_explicit(&global->mark, &none, mark, memory_order_acq_rel,
                                                 memory_order_acquire))
        return none;
    return mark;
}

/* The number of this process in its line of forks: what holds an older one was made by a parent. */
static inline uint32_t twill__generation(void)
{
    twill__global *global = twill__process();
    /* pairs with arm_mark */
    _Atomic uint32_t *mark = atomic_load_explicit(&global->mark, memory_order_acquire);
    uint32_t seen;
    if (!mark)
        mark = twill__arm_mark(global);
    /* acquire, also below: pairs with the release */
    seen = atomic_load_explicit(mark, memory_order_acquire);
    if (!seen) {
        uint32_t next = atomic_fetch_add_explicit(&global->generation, 1, memory_order_relaxed) + 1;
        /* release: a child of this one that has the number counts on from it. Nobody waits here: a
           signal handler may have come in between */
        if (atomic_compare_exchange_strong_explicit(mark, &seen, next, memory_order_acq_rel,
                                                    memory_order_acquire))
            return next;
    }
    return seen;
}

/* The process that an object was made in: a child of it finds none of the threads that the object
   knows, and locks that will be held for ever. */
typedef struct twill__home {
    uint32_t generation;
    const _Atomic uint32_t *mark; /* says the generation of whoever reads it */
} twill__home;

static inline twill__home twill__home_here(void)
{
    twill__home home = {twill__generation(), NULL};
    /* pairs with arm_mark; the generation was asked: so there is one */
    home.mark = atomic_load_explicit(&twill__process()->mark, memory_order_acquire);
    return home;
}

/* Whether this is still that process. Async-signal-safe, and cheap: a load and no call. */
static inline bool twill__at_home(twill__home home)
{
    /* relaxed: a number alone, and this process wrote it before it had the home */
    return atomic_load_explicit(home.mark, memory_order_relaxed) == home.generation;
}

/* For what goes on in a forked child, with its locks free and its lists empty. `generation` is a
   word of it: of the process that used it last, 0: none has yet. 1: that is another one, and the
   caller alone makes anew what belonged to its threads, by relaxed stores, and then calls
   twill__adopted; 0: it is ours; -1: not yet: another one is at it. */
static inline int twill__adopt_turn(_Atomic uint32_t *generation)
{
    uint32_t now = twill__generation(), busy = 0x80000000u | now;
    /* pairs with the release in twill__adopted */
    uint32_t seen = atomic_load_explicit(generation, memory_order_acquire);
    if (seen == now)
        return 0;
    /* release: a child whose copy says that somebody was at it has that process's number, too, and
       counts on from it. twill__adopted publishes what was done */
    if (seen != busy && atomic_compare_exchange_strong_explicit(
                            generation, &seen, busy, memory_order_release, memory_order_relaxed))
        return 1;
    return -1;
}

/* The same for who may wait: true: the caller's to make anew; others wait for that here. */
static inline bool twill__adopt(_Atomic uint32_t *generation)
{
    int turn;
    while ((turn = twill__adopt_turn(generation)) < 0) /* exit: who is at it takes a few steps */
        twill__yield();
    return turn;
}

static inline void twill__adopted(_Atomic uint32_t *generation)
{
    /* pairs with the acquire in twill__adopt_turn */
    atomic_store_explicit(generation, twill__generation(), memory_order_release);
}

#endif

/* ---- platform/park.h ---- */
/* park.h: the one blocking primitive: wait on a 32-bit word until it changes, a wake, or a
   deadline. */
#ifndef TWILL__PLATFORM_PARK_H
#define TWILL__PLATFORM_PARK_H

/* twill__park(word, expected, deadline): sleeps while *word == expected. Returns false when the
   deadline (an instant; 0 or TWILL_FOREVER: none) has passed. May return true for no reason: all
   callers loop. Leaves errno alone. twill__wake(address, n): wakes up to n sleepers (INT_MAX: all).
   It uses the address as a key and never reads it, so the word may be gone already. */

static inline bool twill__no_deadline(twill_ns deadline)
{
    return deadline == 0 || deadline == TWILL_FOREVER;
}

#ifndef TWILL_NO_FUTEX
/* ---- Linux futex; source: "Futexes Are Tricky", U. Drepper ---- */

/* 32-bit systems with a 64-bit time_t must not hand it to the old system call */
#if defined SYS_futex_time64 && defined SYS_futex
#define TWILL__FUTEX      (sizeof(time_t) > sizeof(long) ? SYS_futex_time64 : SYS_futex)
#define TWILL__FUTEX_WAKE SYS_futex
#elif defined SYS_futex_time64
#define TWILL__FUTEX      SYS_futex_time64
#define TWILL__FUTEX_WAKE SYS_futex_time64
#else
#define TWILL__FUTEX      SYS_futex
#define TWILL__FUTEX_WAKE SYS_futex
#endif

static inline bool twill__park(const _Atomic uint32_t *word, uint32_t expected, twill_ns deadline)
{
    struct timespec at, *limit = NULL;
    int saved = errno;
    bool in_time = true;
    if (!twill__no_deadline(deadline)) {
        at = twill__timespec(deadline > 0 ? deadline : 1);
        limit = &at;
    }
    /* FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG: absolute, monotonic */
    if (syscall(TWILL__FUTEX, word, 9 | 128, expected, limit, NULL, 0xffffffffu) == -1 &&
        errno != EAGAIN && errno != EINTR) {
        if (errno == ETIMEDOUT) {
            in_time = false;
        } else { /* ENOSYS, EPERM in a sandbox: waiting without sleeping stays correct */
            sched_yield();
            in_time = twill__no_deadline(deadline) || twill__clock_now() < deadline;
        }
    }
    errno = saved;
    return in_time;
}

static inline void twill__wake(const void *address, int n)
{
    int saved = errno;
    /* FUTEX_WAKE | FUTEX_PRIVATE_FLAG */
    syscall(TWILL__FUTEX_WAKE, address, 1 | 128, n, NULL, NULL, 0);
    errno = saved;
}

#else
/* ---- a process-wide table of sleepers by address; source: WTF::ParkingLot ---- */

#define TWILL__BUCKETS 64

#ifdef TWILL_USE_PTHREAD
#define twill__parking twill__parking_pthread_layout1
typedef pthread_mutex_t twill__mutex;
typedef pthread_cond_t twill__condition;
#else
#define twill__parking twill__parking_c11_layout1
typedef mtx_t twill__mutex;
typedef cnd_t twill__condition;
#endif

typedef struct twill__sleeper { /* on the sleeper's stack, guarded by its bucket's mutex */
    const void *address;
    struct twill__sleeper *next;
    bool woken;
    twill__condition condition;
} twill__sleeper;

typedef struct twill__bucket {
    twill__mutex mutex;
    twill__sleeper *first, **last; /* in order of arrival */
} twill__bucket;

typedef struct twill__lot {
    /* that made the buckets; another one: made anew, nobody of old sleeps here */
    _Atomic uint32_t generation;
    twill__bucket bucket[TWILL__BUCKETS];
} twill__lot;

TWILL__ONE twill__lot *twill__parking(void);
TWILL__ONE twill__lot *twill__parking(void)
{
    static twill__lot lot;
    return &lot;
}

#ifdef TWILL_USE_PTHREAD
#define TWILL__MUTEX_INIT(m)        pthread_mutex_init(m, NULL)
#define TWILL__MUTEX_LOCK(m)        pthread_mutex_lock(m)
#define TWILL__MUTEX_UNLOCK(m)      pthread_mutex_unlock(m)
#define TWILL__CONDITION_SIGNAL(c)  pthread_cond_signal(c)
#define TWILL__CONDITION_WAIT(c, m) pthread_cond_wait(c, m)
#define TWILL__CONDITION_DESTROY(c) pthread_cond_destroy(c)

/* they cannot be told of the monotonic clock, but wait for a time */
#if defined __APPLE__ || defined __MINGW32__
#define TWILL__RELATIVE_WAITS 1
#endif

static inline bool twill__condition_init(twill__condition *condition)
{
#ifdef TWILL__RELATIVE_WAITS
    return pthread_cond_init(condition, NULL) == 0;
#else
    extern int pthread_condattr_setclock(pthread_condattr_t *, int);
    pthread_condattr_t attributes;
    bool made;
    if (pthread_condattr_init(&attributes) != 0)
        return false;
    made = pthread_condattr_setclock(&attributes, TWILL__MONOTONIC) == 0 &&
           pthread_cond_init(condition, &attributes) == 0;
    pthread_condattr_destroy(&attributes);
    return made;
#endif
}

/* one wait; the caller loops */
static inline void twill__condition_wait_until(twill__condition *condition, twill__mutex *mutex,
                                               twill_ns deadline)
{
#ifdef TWILL__RELATIVE_WAITS
    twill_ns left = deadline > 0 ? deadline - twill__clock_now() : 0, day = TWILL_SEC(86400);
    struct timespec t = twill__timespec(left <= 0 ? 1 : left < day ? left : day);
    pthread_cond_timedwait_relative_np(condition, mutex, &t);
#else
    struct timespec t = twill__timespec(deadline);
    pthread_cond_timedwait(condition, mutex, &t);
#endif
}
#else
#define TWILL__MUTEX_INIT(m)        mtx_init(m, mtx_plain)
#define TWILL__MUTEX_LOCK(m)        mtx_lock(m)
#define TWILL__MUTEX_UNLOCK(m)      mtx_unlock(m)
#define TWILL__CONDITION_SIGNAL(c)  cnd_signal(c)
#define TWILL__CONDITION_WAIT(c, m) cnd_wait(c, m)
#define TWILL__CONDITION_DESTROY(c) cnd_destroy(c)

static inline bool twill__condition_init(twill__condition *condition)
{
    return cnd_init(condition) == thrd_success;
}

/* C11 waits on the wall clock alone: short slices, looked at by the monotonic clock. A step forward
   ends a slice early, which is harmless; a step back of s makes the running slice, and so a
   deadline, late by up to s: where that matters, TWILL_USE_PTHREAD. */
static inline void twill__condition_wait_until(twill__condition *condition, twill__mutex *mutex,
                                               twill_ns deadline)
{
    twill_ns left = deadline > 0 ? deadline - twill__clock_now() : -1;
    struct timespec t;
    if (left > TWILL_MS(20))
        left = TWILL_MS(20);
    if (left < 0 || timespec_get(&t, TIME_UTC) != TIME_UTC)
        return;
    left += t.tv_nsec;
    t.tv_sec += (time_t)(left / 1000000000);
    t.tv_nsec = (long)(left % 1000000000);
    cnd_timedwait(condition, mutex, &t);
}
#endif

static inline twill__bucket *twill__bucket_of(const void *address)
{
    twill__lot *lot = twill__parking();
    if (twill__adopt(&lot->generation)) {
        for (int i = 0; i < TWILL__BUCKETS; i++) {
            /* cannot fail for a plain mutex where we run */
            (void)TWILL__MUTEX_INIT(&lot->bucket[i].mutex);
            lot->bucket[i].first = NULL;
            lot->bucket[i].last = &lot->bucket[i].first;
        }
        twill__adopted(&lot->generation);
    }
    return &lot->bucket[((uintptr_t)address >> 4) * 0x9e3779b1u >> 8 & (TWILL__BUCKETS - 1)];
}

static inline void twill__bucket_remove(twill__bucket *bucket, twill__sleeper **link)
{
    twill__sleeper *sleeper = *link;
    *link = sleeper->next;
    if (bucket->last == &sleeper->next)
        bucket->last = link;
}

static inline bool twill__park(const _Atomic uint32_t *word, uint32_t expected, twill_ns deadline)
{
    int saved = errno;
    twill__bucket *bucket = twill__bucket_of(word);
    twill__sleeper me;
    bool in_time = true;
    me.address = word;
    me.next = NULL;
    me.woken = false;
    /* no resources: waiting without sleeping stays correct */
    if (!twill__condition_init(&me.condition)) {
        twill__yield();
        errno = saved;
        return twill__no_deadline(deadline) || twill__clock_now() < deadline;
    }
    TWILL__MUTEX_LOCK(&bucket->mutex);
    if (atomic_load_explicit(word, memory_order_seq_cst) == expected) {
        *bucket->last = &me;
        bucket->last = &me.next;
        while (!me.woken && in_time) {
            if (twill__no_deadline(deadline)) {
                TWILL__CONDITION_WAIT(&me.condition, &bucket->mutex);
            } else {
                twill__condition_wait_until(&me.condition, &bucket->mutex, deadline);
                in_time = twill__clock_now() < deadline;
            }
        }
        if (me.woken) {
            in_time = true;
        } else {
            twill__sleeper **link = &bucket->first;
            while (*link != &me)
                link = &(*link)->next;
            twill__bucket_remove(bucket, link);
        }
    }
    TWILL__MUTEX_UNLOCK(&bucket->mutex);
    TWILL__CONDITION_DESTROY(&me.condition);
    errno = saved;
    return in_time;
}

static inline void twill__wake(const void *address, int n)
{
    int saved = errno;
    twill__bucket *bucket = twill__bucket_of(address);
    twill__sleeper **link = &bucket->first;
    TWILL__MUTEX_LOCK(&bucket->mutex);
    while (*link && n > 0) {
        twill__sleeper *sleeper = *link;
        if (sleeper->address != address) {
            link = &sleeper->next;
            continue;
        }
        twill__bucket_remove(bucket, link);
        sleeper->woken = true;
        /* under the mutex: the sleeper's frame is still there */
        TWILL__CONDITION_SIGNAL(&sleeper->condition);
        n--;
    }
    TWILL__MUTEX_UNLOCK(&bucket->mutex);
    errno = saved;
}
#endif

/* Sleeps for so long. */
static inline void twill__doze(twill_ns time)
{
    _Atomic uint32_t nobody = 0;
    twill_ns deadline = twill__clock_now() + time;
    while (twill__park(&nobody, 0, deadline)) {} /* exit: the deadline */
}

#endif

/* ---- platform/fence.h ---- */
/* fence.h: a fence between two sides of which one passes by all the time and the other one seldom:
   the seldom side pays for both. */
#ifndef TWILL__PLATFORM_FENCE_H
#define TWILL__PLATFORM_FENCE_H

/* Two threads that each store one word and then look at the other's must not both miss the other's
   store. C11 wants a sequentially consistent fence in both. Here one has a light fence, which keeps
   the compiler from moving its accesses across and costs nothing, and the other one a heavy fence,
   in which the kernel makes every thread of the process that runs just now pass a fence of the
   processor, and who does not run has passed one (membarrier, Linux 4.14). So of what a thread does
   before and after its light fence, one lies on this side of the heavy one:
   - what it stored before its light fence is seen by who comes out of the heavy one, or
   - what was stored before the heavy one is seen by it after its light fence.
   C11 does not know this pair: what is assumed is that membarrier does as its manual says, and that
   the compiler orders atomic accesses around atomic_signal_fence as it would for a handler on the
   same thread. A light fence alone, or two, order nothing.

   Source: M. Desnoyers, membarrier(2); P. McKenney, "Is Parallel Programming Hard", memory barriers
   for read-mostly sides. */

enum { TWILL__FENCE_UNKNOWN = 0, TWILL__FENCE_HEAVY, TWILL__FENCE_NONE };
enum { TWILL__MEMBARRIER_PRIVATE = 8, TWILL__MEMBARRIER_REGISTER = 16 };

#ifndef TWILL__MEMBARRIER /* tests: a kernel that has none, or takes it away */
#define TWILL__MEMBARRIER(command) twill__membarrier(command)
#endif

/* 0: done. ThreadSanitizer does not know it. */
static inline long twill__membarrier(int command)
{
#if defined __linux__ && defined SYS_membarrier && !defined TWILL_NO_FUTEX && \
    !defined TWILL__UNDER_TSAN && !defined TWILL__NO_MEMBARRIER
    return syscall(SYS_membarrier, command, 0, 0);
#else
    (void)command;
    return -1;
#endif
}

/* Is there a heavy fence? Asks, and registers, at the first call in a process, which may then take
   some ms if it has threads already: not under a lock. */
static inline bool twill__fence_offered(void)
{
    _Atomic uintptr_t *word = &twill__process()->fence;
    /* relaxed: the kernel's answer alone, and the same for all */
    uintptr_t known = atomic_load_explicit(word, memory_order_relaxed);
    if (known == TWILL__FENCE_UNKNOWN) {
        int saved = errno;
        known = TWILL__MEMBARRIER(TWILL__MEMBARRIER_REGISTER) == 0 &&
                        TWILL__MEMBARRIER(TWILL__MEMBARRIER_PRIVATE) == 0
                    ? TWILL__FENCE_HEAVY
                    : TWILL__FENCE_NONE;
        errno = saved;
        atomic_store_explicit(word, known, memory_order_relaxed);
    }
    return known == TWILL__FENCE_HEAVY;
}

static inline void twill__fence_light(void)
{
    atomic_signal_fence(memory_order_seq_cst);
}

/* After twill__fence_offered has said yes. False: the kernel has none any more (a sandbox that was
   closed meanwhile): then it was a long sleep, in which every processor's stores have come out; and
   nobody is offered one again. */
static inline bool twill__fence_heavy(void)
{
    int saved = errno;
    bool done = TWILL__MEMBARRIER(TWILL__MEMBARRIER_PRIVATE) == 0 ||
                (TWILL__MEMBARRIER(TWILL__MEMBARRIER_REGISTER) == 0 && /* by a fork, perhaps */
                 TWILL__MEMBARRIER(TWILL__MEMBARRIER_PRIVATE) == 0);
    errno = saved;
    if (!done) {
        /* relaxed: as above */
        atomic_store_explicit(&twill__process()->fence, TWILL__FENCE_NONE, memory_order_relaxed);
        twill__doze(TWILL_MS(1));
    }
    return done;
}

#endif

/* ---- platform/threads.h ---- */
/* threads.h: start and join, and what a thread may ask of the system. */
#ifndef TWILL__PLATFORM_THREADS_H
#define TWILL__PLATFORM_THREADS_H

/* One thread; whoever starts it owns the record, and keeps it until the join. */
typedef struct twill__thrd {
    void (*fn)(void *arg);
    void *arg;
    char name[16];     /* cut; "": none */
    size_t stack_size; /* 0: the system's default */
    unsigned cpu;      /* UINT_MAX: any */
    bool by_pthread;
    _Atomic uint32_t flags; /* TWILL_REPORT_NO_..., set by the thread before it calls fn */
    pthread_t pthread;
#ifndef TWILL_USE_PTHREAD
    thrd_t c11;
#endif
} twill__thrd;

/* ---- inside the new thread ---- */

#ifdef __linux__
extern int prctl(int, ...);

static inline bool twill__bind(unsigned cpu)
{
    unsigned long mask[128] = {0};
    const unsigned bits = (unsigned)(sizeof mask[0] * CHAR_BIT);
    int saved = errno;
    bool bound;
    if (cpu >= bits * 128)
        return false;
    mask[cpu / bits] |= 1ul << cpu % bits;
    bound = syscall(SYS_sched_setaffinity, 0, sizeof mask, mask) == 0;
    errno = saved;
    return bound;
}

static inline void twill__set_name(const char *name)
{
    prctl(15 /* PR_SET_NAME */, (unsigned long)(uintptr_t)name, 0ul, 0ul, 0ul);
}
#else
static inline bool twill__bind(unsigned cpu)
{
    (void)cpu;
    return false;
}

static inline void twill__set_name(const char *name)
{
    (void)name;
}
#endif

static inline void twill__thread_body(void *record)
{
    twill__thrd *thread = (twill__thrd *)record;
    /* relaxed: read after the join, or as a hint */
    if (thread->cpu != UINT_MAX && !twill__bind(thread->cpu))
        atomic_fetch_or_explicit(&thread->flags, TWILL_REPORT_NO_AFFINITY, memory_order_relaxed);
    if (thread->name[0])
        twill__set_name(thread->name);
    thread->fn(thread->arg);
}

/* ---- start, join ---- */

static void *twill__pthread_main(void *record)
{
    twill__thread_body(record);
    return NULL;
}

static inline bool twill__pthread_start(twill__thrd *thread)
{
    pthread_attr_t attributes;
    bool started;
    if (pthread_attr_init(&attributes) != 0)
        return false;
    if (thread->stack_size && pthread_attr_setstacksize(&attributes, thread->stack_size) != 0)
        /* relaxed: the thread is not started yet */
        atomic_fetch_or_explicit(&thread->flags, TWILL_REPORT_NO_STACK_SIZE, memory_order_relaxed);
    started = pthread_create(&thread->pthread, &attributes, twill__pthread_main, thread) == 0;
    pthread_attr_destroy(&attributes);
    return started;
}
#ifndef TWILL_USE_PTHREAD
static int twill__c11_main(void *record)
{
    twill__thread_body(record);
    return 0;
}
#endif

/* The new thread must not read the caller's strings: they may be gone. */
static inline void twill__thread_name(twill__thrd *thread, const char *name)
{
    for (size_t i = 0; name && name[i] && i < sizeof thread->name - 1; i++)
        thread->name[i] = name[i]; /* the record was zeroed */
}

/* The record is zeroed but for fn, arg, name, stack_size and cpu. */
static inline bool twill__thread_start(twill__thrd *thread)
{
    int saved = errno;
    bool started;
    atomic_init(&thread->flags, 0);
    if (TWILL__FAIL_THREAD())
        return false;
#if defined TWILL_USE_PTHREAD
    thread->by_pthread = true;
    started = twill__pthread_start(thread);
#else
    thread->by_pthread = thread->stack_size != 0; /* C11 cannot ask for a stack size */
    started = thread->by_pthread
                  ? twill__pthread_start(thread)
                  : thrd_create(&thread->c11, twill__c11_main, thread) == thrd_success;
#endif
    errno = saved;
    return started;
}

static inline void twill__thread_join(twill__thrd *thread)
{
#if defined TWILL_USE_PTHREAD
    pthread_join(thread->pthread, NULL);
#else
    if (thread->by_pthread)
        pthread_join(thread->pthread, NULL);
    else
        thrd_join(thread->c11, NULL);
#endif
}

/* In place of a join: nobody will wait. The record must stay until the thread has used it last. */
static inline void twill__thread_let_go(twill__thrd *thread)
{
#if defined TWILL_USE_PTHREAD
    pthread_detach(thread->pthread);
#else
    if (thread->by_pthread)
        pthread_detach(thread->pthread);
    else
        thrd_detach(thread->c11);
#endif
}

/* tells the core that this is a spin */
static inline void twill__pause(void)
{
#if defined __x86_64__ || defined __i386__
    __builtin_ia32_pause();
#elif defined __aarch64__
    __asm__ volatile("isb" ::: "memory");
#endif
}

#define TWILL__FETCHED 64 /* bytes that one prefetch brings; TWILL__LINE is more */

/* A line that this thread will write soon, and that may be another one's now. The compiler's own
   prefetch for writing is, without flags, one for reading. */
static inline void twill__prefetch(const void *place)
{
#if defined __x86_64__
    __asm__ volatile("prefetchw %0" : : "m"(*(const char *)place)); /* a no-op where unknown */
#else
    __builtin_prefetch(place, 1);
#endif
}

/* ---- a callback that ends its thread ---- */
/* TWILL__GUARD_PUSH(fn, arg) ... TWILL__GUARD_POP(run): fn(arg) runs when the thread ends in
   between (thrd_exit, pthread_exit), in this frame. The frames below it are gone by then: what
   others still use must stand in this one or above. A destructor of thread-specific storage would
   run when all are gone. Must stand in one block, and nothing may jump out of it. On Windows a
   thread that ends calls nobody: there a callback must return. */
#ifdef TWILL__POSIX
#define TWILL__GUARD_PUSH(fn, arg) pthread_cleanup_push(fn, arg)
#define TWILL__GUARD_POP(run)      pthread_cleanup_pop(run)
#else
#define TWILL__GUARD_PUSH(fn, arg)        \
    {                                     \
        void (*guard_fn_)(void *) = (fn); \
        void *guard_arg_ = (arg);
#define TWILL__GUARD_POP(run)  \
    if (run)                   \
        guard_fn_(guard_arg_); \
    }
#endif

/* For a guard: memory that goes in any case. */
static inline void twill__guard_free(void *memory)
{
    if (memory)
        TWILL_FREE(memory);
}

#endif

/* ---- platform/cpus.h ---- */
/* cpus.h: how many CPUs this process may use: affinity mask, then the cgroup's quota rounded down,
   at least 1. */
#ifndef TWILL__PLATFORM_CPUS_H
#define TWILL__PLATFORM_CPUS_H

#include <stdio.h>

#ifndef TWILL__SYSTEM_ROOT
#define TWILL__SYSTEM_ROOT "" /* tests put a folder of their own before /proc and /sys */
#endif

#ifdef __linux__
#define TWILL__PATH 1024
#define TWILL__READ "re" /* e: close on exec */

static inline bool twill__read_line(const char *path, const char *name, char *line, int size)
{
    char full[TWILL__PATH];
    FILE *file;
    bool got;
    int length = snprintf(full, sizeof full, "%s%s%s", TWILL__SYSTEM_ROOT, path, name);
    if (length < 0 || length >= (int)sizeof full)
        return false;
    file = fopen(full, TWILL__READ);
    if (!file)
        return false;
    got = fgets(line, size, file) != NULL;
    fclose(file);
    return got;
}

/* quota / period in whole CPUs; 0: no limit */
static inline unsigned twill__quota(long long quota, long long period)
{
    if (quota <= 0 || period <= 0)
        return 0;
    quota /= period;
    return quota < 1 ? 1 : quota > INT_MAX ? INT_MAX : (unsigned)quota;
}

static inline unsigned twill__fewer(unsigned a, unsigned b)
{
    return !a ? b : !b ? a : a < b ? a : b;
}

/* One folder of a cgroup: v2 has "quota|max period" in cpu.max, v1 two files (-1: no limit). */
static inline unsigned twill__cgroup_folder(const char *folder, bool v2)
{
    char line[128];
    long long quota, period;
    if (v2)
        return twill__read_line(folder, "/cpu.max", line, sizeof line) &&
                       sscanf(line, "%lld %lld", &quota, &period) == 2
                   ? twill__quota(quota, period)
                   : 0;
    if (!twill__read_line(folder, "/cpu.cfs_quota_us", line, sizeof line) ||
        sscanf(line, "%lld", &quota) != 1)
        return 0;
    if (!twill__read_line(folder, "/cpu.cfs_period_us", line, sizeof line) ||
        sscanf(line, "%lld", &period) != 1)
        return 0;
    return twill__quota(quota, period);
}

/* The tightest limit from `path` up to the root of the hierarchy: a limit above binds too. */
static inline unsigned twill__cgroup_walk(const char *mount, const char *path, bool v2)
{
    char folder[TWILL__PATH];
    unsigned least = 0;
    size_t root = strlen(mount);
    int length = snprintf(folder, sizeof folder, "%s%s", mount, strcmp(path, "/") == 0 ? "" : path);
    if (length < 0 || length >= (int)sizeof folder)
        return 0;
    for (;;) { /* ends: the path gets shorter each time */
        char *slash;
        least = twill__fewer(least, twill__cgroup_folder(folder, v2));
        slash = strrchr(folder, '/'); /* the mount has one, at least */
        if ((size_t)(slash - folder) < root)
            return least;
        *slash = '\0';
    }
}

/* Whether the comma-separated controller list holds "cpu". */
static inline bool twill__has_cpu(const char *list, const char *end)
{
    while (list < end) {
        const char *comma = list;
        while (comma < end && *comma != ',')
            comma++;
        if (comma - list == 3 && memcmp(list, "cpu", 3) == 0)
            return true;
        list = comma + 1;
    }
    return false;
}

/* Lines of /proc/self/cgroup: "id:controllers:path"; v2 has no controllers. In a container the path
   may be the host's and not exist here: the walk then finds the root's files, which are the
   container's. */
static inline unsigned twill__cgroup_cpus(void)
{
    char line[TWILL__PATH];
    unsigned least = 0;
    FILE *file = fopen(TWILL__SYSTEM_ROOT "/proc/self/cgroup", TWILL__READ);
    if (!file)
        return 0;
    while (fgets(line, sizeof line, file)) {
        char *controllers = strchr(line, ':'), *path;
        if (!controllers || !(path = strchr(controllers + 1, ':')))
            continue;
        line[strcspn(line, "\n")] = '\0';
        controllers++;
        if (path == controllers) {
            least = twill__fewer(least, twill__cgroup_walk("/sys/fs/cgroup", path + 1, true));
        } else if (twill__has_cpu(controllers, path)) {
            least = twill__fewer(least,
                                 twill__cgroup_walk("/sys/fs/cgroup/cpu,cpuacct", path + 1, false));
            least = twill__fewer(least, twill__cgroup_walk("/sys/fs/cgroup/cpu", path + 1, false));
        }
    }
    fclose(file);
    return least;
}

static inline unsigned twill__affinity_cpus(void)
{
    unsigned long mask[1024] = {0}; /* 65536 CPUs */
    unsigned count = 0;
    long bytes = syscall(SYS_sched_getaffinity, 0, sizeof mask, mask);
    for (long i = 0; i < bytes / (long)sizeof mask[0]; i++)
        for (unsigned long bits = mask[i]; bits; bits &= bits - 1)
            count++;
    return count;
}
#else
static inline unsigned twill__affinity_cpus(void)
{
#if defined _SC_NPROCESSORS_ONLN
    long count = sysconf(_SC_NPROCESSORS_ONLN);
#elif defined __MINGW32__
    long count = pthread_num_processors_np();
#else
    long count = 1;
#endif
    return count < 1 ? 1 : (unsigned)count;
}

static inline unsigned twill__cgroup_cpus(void)
{
    return 0;
}
#endif

/* Asks the system, and remembers the answer for twill__cpus_hint. Not from a thread that is bound
   to a CPU: Linux answers for the calling thread. */
static inline unsigned twill__cpus_now(void)
{
    int saved = errno;
    unsigned count = twill__affinity_cpus(), limit = twill__cgroup_cpus();
    if (count == 0)
        count = 1;
    if (limit && limit < count)
        count = limit;
    errno = saved;
    /* a number, no data behind it */
    atomic_store_explicit(&twill__process()->cpus, count, memory_order_relaxed);
    return count;
}

/* The last answer, for hot paths: no system call but the first time. */
static inline unsigned twill__cpus_hint(void)
{
    /* as above */
    unsigned count = atomic_load_explicit(&twill__process()->cpus, memory_order_relaxed);
    return count ? count : twill__cpus_now();
}

#endif

/* ---- platform/ticks.h ---- */
/* ticks.h: a counter cheaper than the clock, for guesses alone: how long a handful of items took. A
   wrong reading (a thread that moved between cores, a clock rate that changed) makes a guess worse,
   and nothing else. */
#ifndef TWILL__PLATFORM_TICKS_H
#define TWILL__PLATFORM_TICKS_H

#ifndef TWILL__TICKS
#if defined __x86_64__ || defined __aarch64__
#define TWILL__TICKS 1
#else
#define TWILL__TICKS 0 /* the clock itself; the explorer sets it, too */
#endif
#endif

static inline uint64_t twill__ticks(void)
{
#if !TWILL__TICKS
    return (uint64_t)twill__clock_now();
#elif defined __x86_64__
    return __builtin_ia32_rdtsc();
#else
    uint64_t count;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(count));
    return count;
#endif
}

#if TWILL__TICKS
/* Both clocks at one moment: of a few readings the one that took least, so that neither a switch to
   another thread nor the first call of the clock comes between the two. */
static inline void twill__ticks_and_clock(uint64_t *ticks, twill_ns *now)
{
    uint64_t least = UINT64_MAX;
    *ticks = 0, *now = 0;
    for (int i = 0; i < 5; i++) {
        uint64_t before = twill__ticks();
        twill_ns read = twill__clock_now();
        uint64_t took = twill__ticks() - before;
        if (took < least) {
            least = took;
            *ticks = before + took / 2;
            *now = read;
        }
    }
}
#endif

/* Ticks in 2^20 ns: fine enough for counters of a few MHz. Measured once a process, in the shadow
   of the first count of CPUs, which reads files. */
static inline uint64_t twill__ticks_per_ms(void)
{
#if TWILL__TICKS
    twill__global *global = twill__process();
    /* a number, no data behind it */
    uint64_t rate = atomic_load_explicit(&global->tick_rate, memory_order_relaxed);
    if (!rate) {
        uint64_t first, last;
        twill_ns since, now;
        twill__ticks_and_clock(&first, &since);
        (void)twill__cpus_now();
        do
            twill__ticks_and_clock(&last, &now);
        while (now - since < 20000); /* ends: the clock runs */
        rate = ((last - first) << 20) / (uint64_t)(now - since);
        rate = rate ? rate : 1;
        /* as above */
        atomic_store_explicit(&global->tick_rate, rate, memory_order_relaxed);
    }
    return rate;
#else
    return 1 << 20;
#endif
}

/* Ticks in 1.024 us, for guesses: of a slow counter, to a few percent. */
static inline uint64_t twill__ticks_per_us(void)
{
    uint64_t rate = (twill__ticks_per_ms() + 512) >> 10;
    return rate ? rate : 1;
}

/* How long so many ticks last. */
static inline twill_ns twill__time_of_ticks(uint64_t ticks)
{
    return (twill_ns)((double)ticks * (1 << 20) / (double)twill__ticks_per_ms());
}

#endif

#ifndef TWILL__SPIN
#define TWILL__SPIN 1
#endif
#define TWILL__SPIN_WAIT \
    700 /* ns: below the 10 us of a parked round trip, above the 0.25 us of a quick answer */
#define TWILL__SPIN_YIELDS 4
enum { TWILL__SPIN_FIRST = 4, TWILL__SPIN_MOST = 64 }; /* pauses before a look */

/* Alone on one CPU nobody can change anything while this thread spins. */
static inline bool twill__spin_helps(void)
{
    /* relaxed: a number; 0: not known */
    return TWILL__SPIN && atomic_load_explicit(&twill__process()->cpus, memory_order_relaxed) != 1;
}

/* Does nothing for so long. */
static inline void twill__spin_away(twill_ns time)
{
    twill_ns until = twill__clock_now() + time;
    do /* exit: the clock runs */
        for (unsigned pause = 0; pause < 4; pause++)
            twill__pause();
    while (twill__clock_now() < until);
}

/* Looks again, less and less often, for so long: a look takes the line from who works on it. True
   once `done` says so. The limit is a time, not a count: a pause costs 6 ns on one machine and 45
   on the next. */
static inline bool twill__spin_looks(bool (*done)(void *data), void *data, twill_ns limit,
                                     unsigned first, unsigned most)
{
    twill_ns until = 0, now;
    for (unsigned pauses = first;; pauses = pauses < most ? 2 * pauses : most) {
        for (unsigned pause = 0; pause < pauses; pause++)
            twill__pause();
        if (done(data))
            return true;
        now = twill__clock_now();
        if (!until)
            until = now + limit;
        else if (now >= until)
            return false;
    }
}

static inline bool twill__spin_yields(bool (*done)(void *data), void *data, unsigned yields)
{
    while (yields-- > 0) {
        twill__yield();
        if (done(data))
            return true;
    }
    return false;
}

static inline bool twill__spin_for(bool (*done)(void *data), void *data, twill_ns limit,
                                   unsigned yields)
{
    return twill__spin_helps() &&
           (twill__spin_looks(done, data, limit, TWILL__SPIN_FIRST, TWILL__SPIN_MOST) ||
            twill__spin_yields(done, data, yields));
}

/* Waits a moment for *word to differ from `value`; false: it did not. The limit is a time, not a
   count: a pause costs 6 ns on one machine and 45 on the next. */
static inline bool twill__spin(const _Atomic uint32_t *word, uint32_t value, twill_ns limit,
                               unsigned yields)
{
    twill_ns until = 0;
    if (!twill__spin_helps())
        return atomic_load_explicit(word, memory_order_acquire) != value;
    for (unsigned k = 1;; k++) {
        /* acquire: pairs with the release of whoever changed the word; most callers look again with
           their own order */
        if (atomic_load_explicit(word, memory_order_acquire) != value)
            return true;
        twill__pause();
        if (k % 16 != 0)
            continue;
        twill_ns now = twill__clock_now();
        if (!until)
            until = now + limit;
        else if (now >= until)
            break;
    }
    while (yields-- > 0) {
        twill__yield();
        if (atomic_load_explicit(word, memory_order_acquire) != value)
            return true;
    }
    return false;
}

#endif

/* The count says how many threads wait: unlock wakes nobody when nobody waits, and a destroyer can
   tell whether somebody is on his way in. ROUSED: one of them has been woken, and has not parked
   again yet nor taken the lock. Meanwhile others may take it and let it go, and need not wake a
   second one each time. A variant of U. Drepper's third mutex, with a count, and with the second
   bit of D. Vyukov's mutex of Go. */
enum { TWILL__HELD = 1, TWILL__ROUSED = 2, TWILL__WAITER = 4 };

/* Pauses before a look: more and more, so that a holder who comes again and again is left alone. */
enum { TWILL__LOCK_FIRST = 16, TWILL__LOCK_MOST = 256 };

/* Spinning: only while nobody sleeps there. */
static inline bool twill__try_lock(void *lock_)
{
    _Atomic uint32_t *lock = (_Atomic uint32_t *)lock_;
    uint32_t word = 0;
    /* a look first: a CAS that fails would take the line from the holder, too. acquire: pairs with
       the release in twill__unlock */
    return atomic_load_explicit(lock, memory_order_relaxed) == 0 &&
           atomic_compare_exchange_strong_explicit(lock, &word, TWILL__HELD, memory_order_acquire,
                                                   memory_order_relaxed);
}

static inline bool twill__lock_is_free(void *lock)
{
    /* a guess for the CAS in twill__lock_wait */
    return !(atomic_load_explicit((_Atomic uint32_t *)lock, memory_order_relaxed) & TWILL__HELD);
}

static inline bool twill__lock_spin(bool (*done)(void *lock), _Atomic uint32_t *lock, twill_ns spin)
{
    return twill__spin_helps() &&
           twill__spin_looks(done, lock, spin, TWILL__LOCK_FIRST, TWILL__LOCK_MOST);
}

/* Whoever parks sees the lock held and nobody roused, and the kernel sees the same: so the unlock
   that comes wakes somebody. While ROUSED is set, somebody who is counted is awake, or about to be
   woken by the one who set it. */
static __attribute__((noinline)) void twill__lock_wait(_Atomic uint32_t *lock, twill_ns spin)
{
    bool parked = false;
    /* a count: the CAS below synchronises */
    uint32_t next, word = atomic_fetch_add_explicit(lock, TWILL__WAITER, memory_order_relaxed);
    word += TWILL__WAITER;
    for (;;) { /* exit: taken; each holder lets go, and sees to it that one of us looks */
        if (!(word & TWILL__HELD)) {
            next = (word - TWILL__WAITER) | TWILL__HELD;
            if (parked || next < TWILL__WAITER)
                next &= ~(uint32_t)TWILL__ROUSED;
            /* acquire: pairs with the release in twill__unlock */
            if (atomic_compare_exchange_weak_explicit(lock, &word, next, memory_order_acquire,
                                                      memory_order_relaxed))
                return;
            continue;
        }
        next = word & ~(uint32_t)TWILL__ROUSED;
        if (next != word && !atomic_compare_exchange_weak_explicit(
                                lock, &word, next, memory_order_relaxed, memory_order_relaxed))
            continue; /* it may have been us: then the next holder has to wake somebody */
        twill__park(lock, next, 0);
        parked = true;
        (void)twill__lock_spin(twill__lock_is_free, lock, spin);
        word = atomic_load_explicit(lock, memory_order_relaxed); /* a guess for the CAS */
    }
}

/* `spin`: how long its holders may have it at a time. To park costs 10 us. */
static inline void twill__lock_after(_Atomic uint32_t *lock, twill_ns spin)
{
    uint32_t word = 0;
    /* acquire: as in twill__try_lock */
    if (atomic_compare_exchange_strong_explicit(lock, &word, TWILL__HELD, memory_order_acquire,
                                                memory_order_relaxed) ||
        (word == TWILL__HELD && twill__lock_spin(twill__try_lock, lock, spin)))
        return;
    twill__lock_wait(lock, spin);
}

static inline void twill__lock(_Atomic uint32_t *lock)
{
    twill__lock_after(lock, TWILL__SPIN_WAIT);
}

static __attribute__((noinline)) void twill__unlock_wanted(_Atomic uint32_t *lock, uint32_t word)
{
    uint32_t next;
    do
        next = (word - TWILL__HELD) | TWILL__ROUSED;
    /* pairs with twill__lock */
    while (!atomic_compare_exchange_weak_explicit(lock, &word, next, memory_order_release,
                                                  memory_order_relaxed));
    if (!(word & TWILL__ROUSED))
        twill__wake(lock, 1);
}

/* Its CAS is the last access: the lock's memory may go right after it. */
static inline void twill__unlock(_Atomic uint32_t *lock)
{
    uint32_t word = TWILL__HELD;
    /* release: pairs with twill__lock */
    if (!atomic_compare_exchange_strong_explicit(lock, &word, 0, memory_order_release,
                                                 memory_order_relaxed))
        twill__unlock_wanted(lock, word);
}

/* Under the lock: does anybody wait for it? */
static inline bool twill__lock_wanted(const _Atomic uint32_t *lock)
{
    /* who is not counted yet came too late */
    return atomic_load_explicit(lock, memory_order_relaxed) >= TWILL__WAITER;
}

#endif

/* ---- lists ---- */

/* A place in a token's list: of a waiting thread, a hook, or a child token. Guarded by that token's
   lock; `linked` is also read without it, as a hint. */
struct twill__link;
/* a pointer in such storage; a struct, since gcc 12 -flto crashes on less */
typedef struct TWILL__VIEW twill__place {
    struct twill__link *link;
} twill__place;
typedef struct TWILL__VIEW twill__link {
    twill__place next, *previous;
    /* while linked; a hook that runs: the generation it runs in */
    uint32_t kind;
    _Atomic uint32_t linked; /* 0, or the generation of the process that linked it */
} twill__link;
enum { TWILL__LINK_NODE = 1, TWILL__LINK_HOOK, TWILL__LINK_CHILD };

static inline void twill__link_in(twill__place *head, twill__link *link, uint32_t kind)
{
    link->kind = kind;
    link->next = *head;
    link->previous = head;
    if (link->next.link)
        link->next.link->previous = &link->next;
    head->link = link;
    /* pairs with the acquire in twill__link_up */
    atomic_store_explicit(&link->linked, twill__generation(), memory_order_release);
}

static inline void twill__link_out(twill__link *link)
{
    *link->previous = link->next;
    if (link->next.link)
        link->next.link->previous = link->previous;
    /* read back under the lock, or as a hint */
    atomic_store_explicit(&link->linked, 0, memory_order_relaxed);
}

/* A waiting thread, on its own stack. `word` alone decides how the wait ends; the rest is guarded
   by the object. */
typedef struct twill__node {
    _Atomic uint32_t word;
    int answer; /* the object's, written before GRANTED */
    void *value;
    struct twill__node *next, *previous;
    twill__link in_token;
} twill__node;
enum {
    TWILL__GRANTED = 1 /* the object decided */,
    TWILL__LEAVING = 2 /* the waiter decided */,
    TWILL__NUDGED = 4 /* a token fired */
};

typedef struct twill__list { /* in order of arrival */
    twill__node *first, *last;
} twill__list;

static inline void twill__node_init(twill__node *node)
{
    memset(node, 0, sizeof *node);
    /* nobody else knows it yet */
    atomic_store_explicit(&node->word, 0, memory_order_relaxed);
}

static inline void twill__list_append(twill__list *list, twill__node *node)
{
    TWILL__CHAIN_IN(list->first, list->last, list->last, node, previous, next);
}

static inline void twill__list_remove(twill__list *list, twill__node *node)
{
    TWILL__CHAIN_OUT(list->first, list->last, node, previous, next);
}

/* Under the object's lock, the answer written: true: the node is granted, unlinked, and no longer
   ours; after unlocking wake the address of its word (take it before). False: it is leaving, and
   unlinks itself. */
static inline bool twill__grant(twill__list *list, twill__node *node)
{
    /* a shortcut; the RMW decides */
    if (atomic_load_explicit(&node->word, memory_order_relaxed) & TWILL__LEAVING)
        return false;
    twill__list_remove(list, node);
    /* acq_rel: pairs with the waiter's load of the word and its fetch_or(LEAVING) */
    if (atomic_fetch_or_explicit(&node->word, TWILL__GRANTED, memory_order_acq_rel) &
        TWILL__LEAVING) {
        twill__list_append(list, node);
        return false;
    }
    return true;
}

/* Under the object's lock: answers and wakes all who wait; one that leaves is passed. */
static inline void twill__answer_all(twill__list *list, int answer)
{
    for (twill__node *node = list->first, *next; node; node = next) {
        /* ends: one that leaves is put at the end once */
        _Atomic uint32_t *word = &node->word;
        next = node->next;
        node->answer = answer;
        if (twill__grant(list, node))
            twill__wake(word, 1);
    }
}

/* Grants whoever waits in a list that only this lock guards, whether leaving or not. */
static inline void twill__grant_all(twill__list *list)
{
    while (list->first) {
        twill__node *node = list->first;
        _Atomic uint32_t *word = &node->word;
        twill__list_remove(list, node);
        /* pairs with twill__await */
        atomic_fetch_or_explicit(word, TWILL__GRANTED, memory_order_acq_rel);
        twill__wake(word, 1);
    }
}

/* Waits for GRANTED and nothing else: for waits that are sure to end. */
static inline void twill__await(twill__node *node)
{
    for (;;) {
        /* pairs with the grant */
        uint32_t word = atomic_load_explicit(&node->word, memory_order_acquire);
        if (word & TWILL__GRANTED)
            return;
        if (!twill__spin(&node->word, word, TWILL__SPIN_WAIT, TWILL__SPIN_YIELDS))
            twill__park(&node->word, word, 0);
    }
}

/* ---- the token ---- */

typedef struct twill__firing { /* on the stack of the thread that calls hooks */
    pthread_t thread; /* not its number: another copy of the library may give it another one */
    bool hook_gone, token_gone; /* what its own hook took away meanwhile */
    twill__list waiters;        /* who waits for the hook, or the whole firing, to end */
} twill__firing;

typedef struct TWILL__VIEW twill__token {
    twill__link me; /* in the parent's list */
    struct twill__token *parent;
    twill__place head; /* waiting threads, hooks, children */
    twill__firing *firing;
    _Atomic uint32_t lock;
    _Atomic int32_t state;       /* 0, or the reason */
    _Atomic uint32_t generation; /* of the process that used it last; 0: never used */
    uint32_t reserved;
} twill__token;
_Static_assert(sizeof(twill__token) <= sizeof(twill_cancel), "the public token is too small");
_Static_assert(_Alignof(twill__token) <= _Alignof(twill_cancel),
               "the public token is aligned too little");

typedef struct TWILL__VIEW twill__hook {
    void (*fn)(int reason, const twill_task *task);
    void *context;
    twill__link link;
    twill__firing *firing;
} twill__hook;
_Static_assert(sizeof(twill__hook) <= sizeof(twill_cancel_hook), "the public hook is too small");
_Static_assert(offsetof(twill_cancel_hook, private_words) <= offsetof(twill__hook, link),
               "the hook's head");

static inline bool twill__fired_here(const twill__firing *firing)
{
    return pthread_equal(firing->thread, pthread_self());
}

static inline twill__token *twill__token_of(const twill_cancel *cancel)
{
    return (twill__token *)(uintptr_t)cancel;
}

/* Of a token of an older process nothing is left: its lists are of threads that are not here. */
static inline void twill__token_adopt(twill__token *token)
{
    if (twill__adopt(&token->generation)) {
        atomic_store_explicit(&token->lock, 0, memory_order_relaxed);
        atomic_store_explicit(&token->me.linked, 0, memory_order_relaxed);
        token->head.link = NULL;
        token->firing = NULL;
        twill__adopted(&token->generation);
    }
}

/* Whether anybody ever locked it: only then can it be linked, or be firing. */
static inline bool twill__token_used(const twill__token *token)
{
    /* pairs with twill__adopted */
    return atomic_load_explicit(&token->generation, memory_order_acquire) != 0;
}

static inline void twill__token_lock(twill__token *token)
{
    twill__token_adopt(token);
    twill__lock(&token->lock);
}

/* The reason, or 0. A reason found above is stored below, so that it never changes for one who has
   seen it. */
static inline int twill__token_poll(twill__token *token)
{
    for (twill__token *t = token; t; t = t->parent) {
        /* pairs with fire and request */
        int32_t reason = atomic_load_explicit(&t->state, memory_order_acquire);
        if (!reason)
            continue;
        int32_t none = 0;
        if (t != token &&
            !atomic_compare_exchange_strong_explicit(&token->state, &none, reason,
                                                     memory_order_acq_rel, memory_order_acquire))
            reason = none;
        return reason;
    }
    return 0;
}

/* Links a token into its parent, the top of the chain first: whoever fires above then finds what is
   below. */
static inline void twill__link_up(twill__token *token)
{
    twill__token *parent = token->parent;
    if (!parent)
        return;
    twill__token_adopt(token);
    /* pairs with twill__link_in */
    if (atomic_load_explicit(&token->me.linked, memory_order_acquire))
        return;
    twill__link_up(parent);
    twill__token_lock(parent);
    if (!atomic_load_explicit(&token->me.linked, memory_order_relaxed) &&
        !twill__token_poll(parent))
        twill__link_in(&parent->head, &token->me, TWILL__LINK_CHILD);
    twill__unlock(&parent->lock);
}

/* ---- firing ---- */

/* Under the token's lock: tells the waiting thread; its node is not touched after the fetch_or. */
static inline void twill__nudge(twill__link *link)
{
    _Atomic uint32_t *word =
        &((twill__node *)(void *)((char *)link - offsetof(twill__node, in_token)))->word;
    twill__link_out(link);
    /* pairs with the load in twill__wait */
    atomic_fetch_or_explicit(word, TWILL__NUDGED, memory_order_acq_rel);
    twill__wake(word, 1);
}

/* Pass 1, under the token's lock: every wait below is told before any hook runs. No user code. */
static inline void twill__tell(twill__token *token, int reason)
{
    int32_t none = 0;
    /* release: pairs with the acquire in poll. acquire: pairs with a request: hooks here and below
       are called with its reason */
    if (!atomic_compare_exchange_strong_explicit(&token->state, &none, reason, memory_order_acq_rel,
                                                 memory_order_acquire))
        /* requested here before: what is below hears the nearest reason */
        reason = none;
    for (twill__link *link = token->head.link, *next; link; link = next) {
        next = link->next.link;
        if (link->kind == TWILL__LINK_NODE) {
            twill__nudge(link);
        } else if (link->kind == TWILL__LINK_CHILD) {
            twill__token *child = (twill__token *)(void *)link;
            twill__token_lock(child);
            twill__tell(child, reason);
            twill__unlock(&child->lock);
        }
    }
}

/* Calls one hook without the lock. False: the hook took the token away. A hook must return: one
   that ends its thread leaves whoever waits for it waiting. */
static inline bool twill__call_hook(twill__token *token, twill__hook *hook, twill__firing *firing)
{
    int reason = atomic_load_explicit(&token->state, memory_order_relaxed); /* under the lock */
    twill_task task = {SIZE_MAX, hook->context, UINT_MAX, 0, NULL, {0, NULL}, NULL};
    hook->firing = firing;
    hook->link.kind = twill__generation();
    firing->hook_gone = false;
    twill__unlock(&token->lock);
    hook->fn(reason, &task);
    if (firing->token_gone)
        return false;
    twill__token_lock(token);
    if (!firing->hook_gone)
        hook->firing = NULL;
    twill__grant_all(&firing->waiters);
    return true;
}

/* Pass 2, called with the token locked and token->firing == firing: the hooks, this token's and
   those below. It ends early when the token is made ready again (a team does so for a worker that
   goes on to a lower item). */
static inline void twill__drain(twill__token *token, twill__firing *firing)
{
    twill__link *link;
    /* under the lock */
    while ((link = token->head.link) && atomic_load_explicit(&token->state, memory_order_relaxed)) {
        if (link->kind == TWILL__LINK_NODE) {
            twill__nudge(link);
        } else if (link->kind == TWILL__LINK_HOOK) {
            twill__hook *hook = (twill__hook *)(void *)((char *)link - offsetof(twill__hook, link));
            twill__link_out(link);
            if (!twill__call_hook(token, hook, firing))
                return;
        } else {
            twill__token *child = (twill__token *)(void *)link;
            twill__firing below = {firing->thread, false, false, {NULL, NULL}};
            twill__link_out(link);
            twill__token_lock(child);
            if (child->firing) {
                twill__unlock(&child->lock);
                continue;
            }
            child->firing = &below; /* pins it: a detach waits */
            twill__unlock(&token->lock);
            twill__drain(child, &below);
            if (firing->token_gone) /* a hook below has taken this token away, too */
                return;
            twill__token_lock(token);
        }
    }
    token->firing = NULL;
    twill__grant_all(&firing->waiters);
    twill__unlock(&token->lock);
}

/* Fires if `begin` is NULL, or, looked at under the lock, *begin is an item from `least` on
   (SIZE_MAX: none). */
static inline void twill__fire(twill__token *token, int reason, const _Atomic size_t *begin,
                               size_t least)
{
    twill__firing firing = {pthread_self(), false, false, {NULL, NULL}};
    int earlier;
    twill__token_lock(token);
    if (begin) {
        /* written under this lock when it goes down */
        size_t at = atomic_load_explicit(begin, memory_order_relaxed);
        if (at == SIZE_MAX || at < least) {
            twill__unlock(&token->lock);
            return;
        }
    }
    earlier = twill__token_poll(token);
    twill__tell(token, earlier ? earlier : reason);
    if (token->firing) {
        twill__unlock(&token->lock);
        return;
    }
    token->firing = &firing;
    twill__drain(token, &firing);
}

/* Under the token's lock: until the other thread that fires it has come to the end of a hook, or of
   all. */
static inline void twill__wait_firing(twill__token *token)
{
    twill__node me;
    twill__node_init(&me);
    TWILL_ASSERT(token->firing);
    twill__list_append(&token->firing->waiters, &me);
    twill__unlock(&token->lock);
    twill__await(&me);
    twill__token_lock(token);
}

/* ---- the public functions ---- */

TWILL__WEAK void twill_cancel_init(twill_cancel *cancel, twill_cancel *parent)
{
    twill__token *token = twill__token_of(cancel);
    memset(token, 0, sizeof *token);
    /* relaxed: nobody else knows it yet; others may have known what stood here before */
    atomic_store_explicit(&token->lock, 0, memory_order_relaxed);
    atomic_store_explicit(&token->state, 0, memory_order_relaxed);
    atomic_store_explicit(&token->generation, 0, memory_order_relaxed);
    atomic_store_explicit(&token->me.linked, 0, memory_order_relaxed);
    token->parent = twill__token_of(parent);
}

/* Leaves the parent, and waits for a fire that calls hooks in another thread. The pointer to the
   parent stays: whoever still fires this very token may read it. */
static inline void twill__token_leave(twill__token *token)
{
    twill__token *parent = token->parent;
    if (!twill__token_used(token))
        return;
    if (parent) {
        twill__token_adopt(token);
        twill__token_lock(parent);
        /* under the lock */
        if (atomic_load_explicit(&token->me.linked, memory_order_relaxed))
            twill__link_out(&token->me);
        twill__unlock(&parent->lock);
    }
    twill__token_lock(token);
    while (token->firing && !twill__fired_here(token->firing))
        twill__wait_firing(token); /* exit: hooks end */
    if (token->firing) { /* by us, in a hook, after which the firing looks at its own frame alone */
        token->firing->token_gone = true;
        token->firing = NULL;
    }
    twill__unlock(&token->lock);
}

TWILL__WEAK void twill_cancel_detach(twill_cancel *cancel)
{
    twill__token *token = twill__token_of(cancel);
    if (!token)
        return;
    twill__token_leave(token);
    token->parent = NULL;
}

TWILL__WEAK void twill_cancel_fire(twill_cancel *cancel, int reason)
{
    if (cancel)
        twill__fire(twill__token_of(cancel), reason ? reason : 1, NULL, 0);
}

TWILL__WEAK void twill_cancel_request(twill_cancel *cancel, int reason)
{
    int32_t none = 0;
    if (cancel) /* acq_rel: pairs with the acquire in poll */
        atomic_compare_exchange_strong_explicit(&twill__token_of(cancel)->state, &none,
                                                reason ? reason : 1, memory_order_acq_rel,
                                                memory_order_relaxed);
}

TWILL__WEAK bool twill_cancel_fired(const twill_cancel *cancel)
{
    return cancel && twill__token_poll(twill__token_of(cancel)) != 0;
}

TWILL__WEAK int twill_cancel_reason(const twill_cancel *cancel)
{
    return cancel ? twill__token_poll(twill__token_of(cancel)) : 0;
}

TWILL__WEAK void twill_cancel_add_hook(twill_cancel *cancel, twill_cancel_hook *public_hook)
{
    twill__token *token = twill__token_of(cancel);
    twill__hook *hook = (twill__hook *)(void *)public_hook;
    int reason;
    if (!token) /* a token that never fires */
        return;
    twill__link_up(token);
    hook->firing = NULL;
    /* ours alone until it is linked */
    atomic_store_explicit(&hook->link.linked, 0, memory_order_relaxed);
    twill__token_lock(token);
    reason = twill__token_poll(token);
    if (!reason)
        twill__link_in(&token->head, &hook->link, TWILL__LINK_HOOK);
    twill__unlock(&token->lock);
    if (reason) {
        twill_task task = {SIZE_MAX, hook->context, UINT_MAX, 0, NULL, {0, NULL}, NULL};
        hook->fn(reason, &task);
    }
}

TWILL__WEAK void twill_cancel_remove_hook(twill_cancel *cancel, twill_cancel_hook *public_hook)
{
    twill__token *token = twill__token_of(cancel);
    twill__hook *hook = (twill__hook *)(void *)public_hook;
    uint32_t now = twill__generation();
    if (!token)
        return;
    twill__token_lock(token);
    /* under the lock */
    if (atomic_load_explicit(&hook->link.linked, memory_order_relaxed) == now) {
        twill__link_out(&hook->link);
    } else {
        while (hook->firing) { /* exit: the hook ends */
            /* it runs in the parent process, not here; or its token was detached in a hook, and the
               firing may be gone */
            if (hook->link.kind != now || token->firing != hook->firing) {
                hook->firing = NULL;
                break;
            }
            if (twill__fired_here(hook->firing)) {
                hook->firing->hook_gone = true;
                hook->firing = NULL;
                break;
            }
            twill__wait_firing(token);
        }
    }
    twill__unlock(&token->lock);
}

/* ---- THE wait ---- */

static inline twill_ns twill__nearer(twill_ns a, twill_ns b)
{
    return twill__no_deadline(a) ? b : twill__no_deadline(b) ? a : a < b ? a : b;
}

static inline bool twill__expired(twill_ns deadline)
{
    return !twill__no_deadline(deadline) && twill__clock_now() >= deadline;
}

/* Likewise; the instant is known, and recent. */
static inline bool twill__past(twill_ns deadline, twill_ns now)
{
    return !twill__no_deadline(deadline) && now >= deadline;
}

/* Whether nothing ends it but what it waits for. */
static inline bool twill__for_ever(twill_until until)
{
    return !until.cancel && twill__no_deadline(until.deadline);
}

/* A wait until then: is it over already? The token comes first. */
static inline twill_status twill__over(twill_until until)
{
    if (until.cancel && twill_cancel_fired(until.cancel))
        return TWILL_CANCELLED;
    return twill__expired(until.deadline) ? TWILL_TIMEOUT : TWILL_OK;
}

/* The node stands in its object's list already (or in none). TWILL_OK: granted, and the object is
   not touched again. TIMEOUT, CANCELLED: the caller locks the object and unlinks the node. A
   deadline that finds the token fired hides behind it, whether its firer has come this far or
   not. */
static inline twill_status twill__wait(twill__node *node, twill_until until)
{
    twill__token *token = twill__token_of(until.cancel);
    twill_status status = TWILL_OK;
    bool listed = false;
    if (twill__spin(&node->word, 0, TWILL__SPIN_WAIT, TWILL__SPIN_YIELDS) &&
        /* pairs with the grant */
        (atomic_load_explicit(&node->word, memory_order_acquire) & TWILL__GRANTED))
        return TWILL_OK;
    if (token) {
        twill__link_up(token);
        twill__token_lock(token);
        /* under the lock: or a fire between look and link is missed */
        if (twill__token_poll(token)) {
            status = TWILL_CANCELLED;
        } else {
            twill__link_in(&token->head, &node->in_token, TWILL__LINK_NODE);
            listed = true;
        }
        twill__unlock(&token->lock);
    }
    while (status == TWILL_OK) { /* exit: granted, nudged, or the deadline */
        /* pairs with grant and nudge */
        uint32_t word = atomic_load_explicit(&node->word, memory_order_acquire);
        if (word & TWILL__GRANTED)
            break;
        if (word & TWILL__NUDGED)
            status = TWILL_CANCELLED;
        else if (!twill__park(&node->word, word, until.deadline))
            status = TWILL_TIMEOUT;
    }
    /* acq_rel: pairs with the fetch_or of grant and nudge; the first one decides */
    if (status != TWILL_OK) {
        uint32_t word = atomic_fetch_or_explicit(&node->word, TWILL__LEAVING, memory_order_acq_rel);
        if (word & TWILL__GRANTED)
            status = TWILL_OK;
        else if ((word & TWILL__NUDGED) || twill_cancel_fired(until.cancel))
            status = TWILL_CANCELLED;
    }
    /* acquire: pairs with the nudge, whose last access to the node this is */
    if (listed && !(atomic_load_explicit(&node->word, memory_order_acquire) & TWILL__NUDGED)) {
        /* NUDGED: the firer has unlinked it, and the token may be gone */
        twill__token_lock(token);
        /* under the lock */
        if (atomic_load_explicit(&node->in_token.linked, memory_order_relaxed))
            twill__link_out(&node->in_token);
        twill__unlock(&token->lock);
    }
    return status;
}

/* The same until `sooner`, an instant not after the deadline at which the caller has to look again:
   EMPTY. */
static inline twill_status twill__wait_sooner(twill__node *node, twill_ns sooner, twill_until until)
{
    twill_status status = twill__wait(node, (twill_until){sooner, until.cancel});
    return status == TWILL_TIMEOUT && !twill__expired(until.deadline) ? TWILL_EMPTY : status;
}

/* ---- time ---- */

TWILL__WEAK twill_ns twill_now(void)
{
    return twill__clock_now();
}

TWILL__WEAK unsigned twill_cpus(void)
{
    return twill__cpus_now();
}

TWILL__WEAK twill_until twill_within_or_cancelled(twill_ns ns, twill_cancel *cancel)
{
    twill_until until = {0, cancel};
    twill_ns now;
    if (ns == TWILL_FOREVER)
        return until;
    now = twill__clock_now();
    until.deadline = ns <= 0 ? 1 : ns >= TWILL_FOREVER - now ? TWILL_FOREVER - 1 : now + ns;
    return until;
}

TWILL__WEAK twill_until twill_within(twill_ns ns)
{
    return twill_within_or_cancelled(ns, NULL);
}

TWILL__WEAK twill_until twill_until_cancelled(twill_cancel *cancel)
{
    return twill_within_or_cancelled(TWILL_FOREVER, cancel);
}

TWILL__WEAK twill_status twill_sleep(twill_until until)
{
    twill__node me;
    twill_status status;
    if (twill__for_ever(until))
        return TWILL_DEADLOCK;
    if (twill__expired(until.deadline))
        return TWILL_OK;
    if (twill_cancel_fired(until.cancel))
        return TWILL_CANCELLED;
    twill__node_init(&me);
    status = twill__wait(&me, until);
    return twill__expired(until.deadline) ? TWILL_OK : status; /* slept enough: a success */
}

#endif

/* First member of every record that task->private_ points to. An entry may be NULL: it does
   nothing. */
typedef struct twill__call {
    const struct twill__call_table *table;
} twill__call;

typedef struct twill__call_table {
    bool (*cancelled)(const twill_task *task); /* besides token and deadline */
    void (*stop)(const twill_task *task);
    void (*skip)(const twill_task *task);
    void (*fail)(const twill_task *task, size_t index);
    void (*block)(const twill_task *task, bool begin);
} twill__call_table;

static inline const twill__call_table *twill__table_of(const twill_task *task)
{
    static const twill__call_table none;
    return task && task->private_ ? ((const twill__call *)task->private_)->table : &none;
}

TWILL__WEAK bool twill_task_cancelled(const twill_task *task)
{
    const twill__call_table *table = twill__table_of(task);
    return task &&
           (twill_cancel_fired(task->until.cancel) || twill__expired(task->until.deadline) ||
            (table->cancelled && table->cancelled(task)));
}

TWILL__WEAK int twill_task_stop(const twill_task *task)
{
    const twill__call_table *table = twill__table_of(task);
    if (table->stop)
        table->stop(task);
    return 0;
}

TWILL__WEAK int twill_task_skip(const twill_task *task)
{
    const twill__call_table *table = twill__table_of(task);
    if (table->skip)
        table->skip(task);
    return 0;
}

TWILL__WEAK int twill_task_fail(const twill_task *task, size_t index, int code)
{
    const twill__call_table *table = twill__table_of(task);
    if (table->fail)
        table->fail(task, index);
    return code;
}

TWILL__WEAK void twill_task_block_begin(const twill_task *task)
{
    const twill__call_table *table = twill__table_of(task);
    if (table->block)
        table->block(task, true);
}

TWILL__WEAK void twill_task_block_end(const twill_task *task)
{
    const twill__call_table *table = twill__table_of(task);
    if (table->block)
        table->block(task, false);
}

#endif

/* ---- engine/status.h ---- */
/* status.h: names and texts of the status table. */
#ifndef TWILL__ENGINE_STATUS_H
#define TWILL__ENGINE_STATUS_H

TWILL__WEAK const char *twill_status_name(twill_status status)
{
    switch (status) {
#define TWILL__STATUS_NAME(NAME, VALUE, TEXT) \
    case NAME:                                \
        return #NAME;
        TWILL_STATUS_TABLE(TWILL__STATUS_NAME)
#undef TWILL__STATUS_NAME
    }
    return "unknown status";
}

TWILL__WEAK const char *twill_status_text(twill_status status)
{
    switch (status) {
#define TWILL__STATUS_TEXT(NAME, VALUE, TEXT) \
    case NAME:                                \
        return TEXT;
        TWILL_STATUS_TABLE(TWILL__STATUS_TEXT)
#undef TWILL__STATUS_TEXT
    }
    return "unknown status";
}

#endif

/* ---- platform/signals.h ---- */
/* signals.h: masks, actions, and a bell that a signal handler may ring. What a handler may use here
   says so. */
#ifndef TWILL__PLATFORM_SIGNALS_H
#define TWILL__PLATFORM_SIGNALS_H

#include <signal.h>

/* TWILL__SIGNALS 1: handlers can be installed. 0: masks alone, or not even these. A build may say
   TWILL__NO_SIGNALS. TWILL__BELLS 1: a bell has a descriptor, `out`, to be polled. TWILL__CONSOLE
   1: the system ends the process some seconds after its console has been closed. */

#ifdef TWILL__POSIX
#include <fcntl.h>
#include <poll.h>
#include <sys/select.h> /* sigset_t, also where <signal.h> hides it */
#include <unistd.h>

/* ---- masks ---- */

#ifndef __APPLE__ /* hidden by -std=c11 */
extern int pthread_sigmask(int, const sigset_t *, sigset_t *);
extern int sigemptyset(sigset_t *);
extern int sigfillset(sigset_t *);
extern int sigaddset(sigset_t *, int);
extern int sigdelset(sigset_t *, int);
extern int sigismember(const sigset_t *, int);
extern int sigpending(sigset_t *);
extern int sigwait(const sigset_t *, int *);
#endif
#ifdef SIG_BLOCK
enum {
    TWILL__SIGNALS_BLOCK = SIG_BLOCK,
    TWILL__SIGNALS_UNBLOCK = SIG_UNBLOCK,
    TWILL__SIGNALS_SET = SIG_SETMASK
};
#elif defined __linux__ && !defined __mips__
enum { TWILL__SIGNALS_BLOCK = 0, TWILL__SIGNALS_UNBLOCK = 1, TWILL__SIGNALS_SET = 2 };
#else
enum { TWILL__SIGNALS_BLOCK = 1, TWILL__SIGNALS_UNBLOCK = 2, TWILL__SIGNALS_SET = 3 };
#endif

typedef sigset_t twill__signal_mask;

/* A thread reports a fault of its own by these: they are never held off. */
static inline bool twill__signal_is_fault(int number)
{
    switch (number) {
    case SIGSEGV:
    case SIGILL:
    case SIGFPE:
    case SIGABRT:
#ifdef SIGBUS
    case SIGBUS:
#endif
#ifdef SIGTRAP
    case SIGTRAP:
#endif
#ifdef SIGSYS
    case SIGSYS:
#endif
        return true;
    default:
        return false;
    }
}

#define TWILL__SIGNAL_COUNT 65 /* numbers below it; Linux has 64, but for MIPS */

/* Holds off every signal but the faults. A thread started now inherits it. */
static inline void twill__signals_hold(twill__signal_mask *old)
{
    sigset_t all;
    sigfillset(&all);
    for (int number = 1; number < 32; number++)
        if (twill__signal_is_fault(number))
            sigdelset(&all, number);
    pthread_sigmask(TWILL__SIGNALS_BLOCK, &all, old);
}

static inline void twill__signals_restore(const twill__signal_mask *old)
{
    pthread_sigmask(TWILL__SIGNALS_SET, old, NULL);
}

/* For the calling thread. Async-signal-safe. */
static inline void twill__signal_unblock(int number)
{
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, number);
    pthread_sigmask(TWILL__SIGNALS_UNBLOCK, &one, NULL);
}

/* ---- actions ---- */

/* Never C's signal(): undefined in programs with threads, and -std=c11 makes it the one-shot form
   on glibc. Where struct sigaction is hidden, it stands here as the platform has it;
   tests/test_signals.c compares it with the system's own. */
#if defined TWILL__NO_SIGNALS
#define TWILL__SIGNALS 0
#elif defined SA_RESTART && !defined TWILL__OWN_ACTION /* tests compare the two */
#define TWILL__SIGNALS        1
typedef struct sigaction twill__action;
#define TWILL__ACTION_HANDLER sa_handler
#define TWILL__ACTION_MASK    sa_mask
#define TWILL__ACTION_FLAGS   sa_flags
#if defined SA_ONSTACK
enum { TWILL__ACTION_RESTART = SA_RESTART, TWILL__ACTION_ONSTACK = SA_ONSTACK };
#elif defined __linux__ /* hidden by _POSIX_C_SOURCE */
enum { TWILL__ACTION_RESTART = SA_RESTART, TWILL__ACTION_ONSTACK = 0x08000000 };
#else
enum { TWILL__ACTION_RESTART = SA_RESTART, TWILL__ACTION_ONSTACK = 0 };
#endif
static inline int twill__sigaction(int number, const twill__action *action, twill__action *old)
{
    return sigaction(number, action, old);
}
#elif defined __linux__ &&                                                               \
    (defined __x86_64__ || defined __i386__ || defined __aarch64__ || defined __arm__ || \
     defined __riscv || defined __powerpc__ || defined __loongarch__)
#define TWILL__SIGNALS        1
#define TWILL__ACTION_OWN     1
#define TWILL__ACTION_HANDLER handler
#define TWILL__ACTION_MASK    mask
#define TWILL__ACTION_FLAGS   flags
typedef struct twill__action { /* glibc and musl alike on these processors */
    void (*handler)(int);
    sigset_t mask;
    int flags;
    void (*restorer)(void);
} twill__action;
enum { TWILL__ACTION_RESTART = 0x10000000, TWILL__ACTION_ONSTACK = 0x08000000 };
/* under a name of our own: a file that does show sigaction may be compiled into the same program */
extern int twill__sigaction(int, const twill__action *, twill__action *) __asm__("sigaction");
#else
#define TWILL__SIGNALS 0
#endif
#define TWILL__BELLS   TWILL__SIGNALS
#define TWILL__CONSOLE 0

#if TWILL__SIGNALS
/* The action of `handler`, during which the others of the list are held off. */
static inline void twill__action_make(twill__action *action, void (*handler)(int),
                                      const int *numbers, size_t count)
{
    memset(action, 0, sizeof *action);
    action->TWILL__ACTION_HANDLER = handler;
    action->TWILL__ACTION_FLAGS = TWILL__ACTION_RESTART | TWILL__ACTION_ONSTACK;
    sigemptyset(&action->TWILL__ACTION_MASK);
    for (size_t i = 0; i < count; i++)
        sigaddset(&action->TWILL__ACTION_MASK, numbers[i]);
}

/* Async-signal-safe: whether it has the system's own action. */
static inline bool twill__signal_is_plain(int number)
{
    twill__action now;
    return twill__sigaction(number, NULL, &now) == 0 && now.TWILL__ACTION_HANDLER == SIG_DFL;
}

/* In a handler: it stays installed. */
static inline void twill__signal_again(int number, void (*handler)(int))
{
    (void)number;
    (void)handler;
}
#endif

static inline uint32_t twill__pid(void)
{
    return (uint32_t)getpid();
}

#else

/* ---- platform/signals_windows.h ---- */
/* signals_windows.h: what signals.h needs, by Windows' C library: Ctrl-C is SIGINT, Ctrl-Break and
   a window that is closed are SIGBREAK, each told on a thread of its own; SIGTERM comes from raise
   alone. There are no masks. */
#ifndef TWILL__PLATFORM_SIGNALS_WINDOWS_H
#define TWILL__PLATFORM_SIGNALS_WINDOWS_H

#include <io.h>
#include <process.h>
#include <signal.h>

#ifdef TWILL__NO_SIGNALS
#define TWILL__SIGNALS 0
#else
#define TWILL__SIGNALS 1
#endif
#define TWILL__BELLS        0
#define TWILL__SIGNAL_COUNT 23 /* numbers below it */

typedef int twill__signal_mask;

static inline void twill__signals_hold(twill__signal_mask *old)
{
    *old = 0;
}

static inline void twill__signals_restore(const twill__signal_mask *old)
{
    (void)old;
}

static inline void twill__signal_unblock(int number)
{
    (void)number;
}

static inline bool twill__signal_is_fault(int number)
{
    return number == SIGSEGV || number == SIGILL || number == SIGFPE || number == SIGABRT;
}

#define TWILL__ACTION_HANDLER handler
typedef struct twill__action {
    void (*handler)(int);
} twill__action;

static inline void twill__action_make(twill__action *action, void (*handler)(int),
                                      const int *numbers, size_t count)
{
    (void)numbers, (void)count; /* nothing is held off */
    action->handler = handler;
}

/* A handler serves once, and is put back by itself: twill__signal_again. */
static inline int twill__sigaction(int number, const twill__action *action, twill__action *old)
{
    /* 2: SIG_GET, what is there */
    void (*handler)(int) = action ? action->handler : (void (*)(int))(uintptr_t)2;
    handler = signal(number, handler);
    if (handler == SIG_ERR)
        return -1;
    if (old)
        old->handler = handler;
    return 0;
}

static inline bool twill__signal_is_plain(int number)
{
    (void)number; /* a handler has just put itself back */
    return false;
}

static inline void twill__signal_again(int number, void (*handler)(int))
{
    (void)signal(number, handler);
}

/* A console that is closed, and a user who logs off or shuts down, are told to a handler on a
   thread of its own; when that returns, and after 5 s at the latest, the process is over. Ctrl-C
   and Ctrl-Break stay with the C library. */
#define TWILL__CONSOLE               1
#define TWILL__CONSOLE_SIGNAL        SIGBREAK /* what it counts as */
#define TWILL__CONSOLE_GRACE         TWILL_MS(4500)
#define TWILL__CONSOLE_HANDLER(NAME) static int __stdcall NAME(unsigned long event)
typedef int(__stdcall *twill__console_fn)(unsigned long event);
extern __declspec(dllimport) int __stdcall SetConsoleCtrlHandler(twill__console_fn, int);

static inline bool twill__console_goes(unsigned long event)
{
    return event == 2 || event == 5 || event == 6; /* CTRL_CLOSE_EVENT, _LOGOFF_, _SHUTDOWN_ */
}

/* Without a console nobody is told. */
static inline void twill__console_tells(twill__console_fn handler, bool on)
{
    (void)SetConsoleCtrlHandler(handler, on);
}

static inline uint32_t twill__pid(void)
{
    return (uint32_t)_getpid();
}

static inline void twill__say(const char *text, size_t length)
{
    int wrote = _write(2, text, (unsigned)length);
    (void)wrote;
}

#endif
#endif

/* Async-signal-safe: gives this process an end that its parent sees as death by `number` (a shell
   shows 128 + number, and stops its script); with `code`, or where the default action does not kill
   (process 1), an exit with 128 + number. Runs no exit functions. */
_Noreturn static inline void twill__signal_die(int number, bool code)
{
#if TWILL__SIGNALS
    if (!code) {
        twill__action plain;
        twill__action_make(&plain, SIG_DFL, NULL, 0);
        twill__sigaction(number, &plain, NULL);
        twill__signal_unblock(number);
        raise(number);
    }
#else
    (void)code;
#endif
    _Exit(128 + number);
}

#if TWILL__SIGNALS
/* Whether `action` is that of `handler`. */
static inline bool twill__action_is(const twill__action *action, void (*handler)(int))
{
    return action->TWILL__ACTION_HANDLER == handler;
}
#endif

/* ---- who owns the signals ---- */

/* The claim names the owner by its process id, so that a handler that runs in a forked child knows
   that it is not meant, and counts who uses the owner's object just now, so that it outlives
   them. All but claim and disclaim are async-signal-safe, as _Atomic uint64_t has no lock. */
#if TWILL__SIGNALS
/* on i386 clang says "sometimes": of a long long, which may be aligned to 4 there */
#ifdef __GCC_HAVE_SYNC_COMPARE_AND_SWAP_8
_Static_assert(ATOMIC_LLONG_LOCK_FREE &&ATOMIC_POINTER_LOCK_FREE == 2,
               "signal handlers need atomics without a lock");
#else
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_POINTER_LOCK_FREE == 2,
               "signal handlers need atomics without a lock");
#endif
#endif

static inline uint64_t twill__process_id(void)
{
    return (uint64_t)twill__pid() << 32;
}

/* The owner, or NULL: nobody, or another process. Not NULL: twill__owner_release follows. */
static inline void *twill__owner_pin(void)
{
    twill__global *global = twill__process();
    uint64_t mine = twill__process_id();
    uint64_t seen = atomic_load_explicit(&global->signal_claim, memory_order_relaxed);
    void *owner;
    do
        if (seen >> 32 != mine >> 32) /* also in a child by vfork, whose memory is the parent's */
            return NULL;
    while (!atomic_compare_exchange_weak_explicit(&global->signal_claim, &seen, seen + 1,
                                                  memory_order_seq_cst, memory_order_seq_cst));
    owner = atomic_load_explicit(&global->signal_owner, memory_order_seq_cst);
    if (!owner)
        atomic_fetch_sub_explicit(&global->signal_claim, 1, memory_order_seq_cst);
    return owner;
}

static inline void twill__owner_release(void)
{
    /* pairs with the CAS in twill__owner_leave: what was done comes before the object's end */
    atomic_fetch_sub_explicit(&twill__process()->signal_claim, 1, memory_order_seq_cst);
}

/* False: somebody in this process owns them. A parent's claim is void in its child: then *parent is
   the parent's object, a copy of it; else NULL. */
static inline bool twill__owner_claim(void **parent)
{
    twill__global *global = twill__process();
    uint64_t mine = twill__process_id();
    uint64_t seen = atomic_load_explicit(&global->signal_claim, memory_order_relaxed);
    do
        if (seen >> 32 == mine >> 32)
            return false;
    while (!atomic_compare_exchange_weak_explicit(&global->signal_claim, &seen, mine,
                                                  memory_order_seq_cst, memory_order_seq_cst));
    /* after the claim: nobody else here makes an object and ends it meanwhile */
    *parent = seen ? atomic_load_explicit(&global->signal_owner, memory_order_seq_cst) : NULL;
    return true;
}

/* In a forked child: this copy goes. False: the child has an owner of its own. */
static inline bool twill__owner_forget(const void *object)
{
    twill__global *global = twill__process();
    if (atomic_load_explicit(&global->signal_owner, memory_order_seq_cst) == object)
        atomic_store_explicit(&global->signal_owner, NULL, memory_order_seq_cst);
    return atomic_load_explicit(&global->signal_claim, memory_order_seq_cst) >> 32 !=
           twill__process_id() >> 32;
}

static inline void twill__owner_publish(void *object)
{
    /* pairs with the load in twill__owner_pin */
    atomic_store_explicit(&twill__process()->signal_owner, object, memory_order_seq_cst);
}

/* The object goes: nobody finds it any more, and who had found it has let go. */
static inline void twill__owner_leave(void)
{
    twill__global *global = twill__process();
    uint64_t mine = twill__process_id();
    atomic_store_explicit(&global->signal_owner, NULL, memory_order_seq_cst);
    /* seq_cst here and in pin: whoever counts himself after this load finds no owner */
    for (;;) { /* ends: a handler takes a bounded number of steps */
        uint64_t alone = mine;
        if (atomic_compare_exchange_weak_explicit(&global->signal_claim, &alone, 0,
                                                  memory_order_seq_cst, memory_order_seq_cst))
            return;
        twill__yield();
    }
}

/* ---- a bell: rung in a handler, heard by one thread ---- */

#if TWILL__BELLS
typedef struct twill__bell {
    int in, out;
} twill__bell;

/* Both ends non-blocking, and closed by an exec. */
static inline bool twill__pipe(int ends[2])
{
    int saved = errno;
    bool made;
#ifdef __linux__
    extern int pipe2(int[2], int);
#ifdef O_CLOEXEC
    made = pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0;
#else
    made = pipe2(ends, 02000000 | O_NONBLOCK) == 0; /* every processor named above has this one */
#endif
#else
    made = pipe(ends) == 0;
    for (int i = 0; made && i < 2; i++) {
        (void)fcntl(ends[i], F_SETFD, FD_CLOEXEC);
        (void)fcntl(ends[i], F_SETFL, O_NONBLOCK);
    }
#endif
    errno = saved;
    return made;
}

static inline bool twill__bell_make(twill__bell *bell)
{
    int ends[2];
    if (!twill__pipe(ends))
        return false;
    bell->out = ends[0];
    bell->in = ends[1];
    return true;
}

static inline void twill__bell_end(twill__bell *bell)
{
    int saved = errno;
    close(bell->in);
    close(bell->out);
    errno = saved;
}

/* Async-signal-safe. A full pipe rings already. */
static inline void twill__bell_ring(twill__bell *bell)
{
    int saved = errno;
    ssize_t wrote = write(bell->in, "", 1);
    (void)wrote;
    errno = saved;
}

/* Waits for a ring, or the deadline (0: none), and takes the rings off. What the ringer has stored
   before is to be read after this. */
static inline void twill__bell_wait(twill__bell *bell, twill_ns deadline)
{
    struct pollfd one = {bell->out, POLLIN, 0};
    int saved = errno, ms = -1;
    char taken[64];
    if (!twill__no_deadline(deadline)) {
        twill_ns left = deadline - twill__clock_now(), limit = 1000000; /* some 17 minutes */
        left = left > 0 ? left / 1000000 + (left % 1000000 != 0) : 0;
        ms = (int)(left < limit ? left : limit);
    }
    (void)poll(&one, 1, ms);
    while (read(bell->out, taken, sizeof taken) == (ssize_t)sizeof taken)
        continue; /* ends: each takes 64 rings off; at worst ringers keep it busy */
    errno = saved;
}

/* Async-signal-safe: some text to standard error, if it takes it at once. Neither a terminal that
   is held nor a reader that is gone (SIGPIPE) may harm the one who was only asked to stop. */
static inline void twill__say(const char *text, size_t length)
{
    struct pollfd one = {2, POLLOUT, 0};
    int saved = errno;
    if (poll(&one, 1, 0) == 1 && one.revents == POLLOUT) {
        ssize_t wrote = write(2, text, length);
        (void)wrote;
    }
    errno = saved;
}

#else
/* nothing to poll: a word to park on */
typedef struct twill__bell {
    _Atomic uint32_t rung;
} twill__bell;

static inline bool twill__bell_make(twill__bell *bell)
{
    atomic_init(&bell->rung, 0);
    return true;
}

static inline void twill__bell_end(twill__bell *bell)
{
    (void)bell;
}

static inline void twill__bell_ring(twill__bell *bell)
{
    if (!atomic_exchange_explicit(&bell->rung, 1, memory_order_seq_cst))
        twill__wake(&bell->rung, 1);
}

static inline void twill__bell_wait(twill__bell *bell, twill_ns deadline)
{
    /* exit: a ring, or the deadline */
    while (!atomic_exchange_explicit(&bell->rung, 0, memory_order_seq_cst))
        if (!twill__park(&bell->rung, 0, deadline))
            return;
}
#endif

#endif

#include <stdio.h>

/* ---- the object ---- */

typedef struct twill__shutdown_hook {
    struct twill__shutdown_hook *earlier; /* added before it, so run after it; later: run before */
    twill_shutdown_fn *fn;
    void *context;
    twill_ns limit;
    char name[];
} twill__shutdown_hook;

/* The thread that runs user code. One that does not come back is abandoned: then it owns this
   record, and touches nothing else of ours. */
typedef struct twill__runner {
    struct twill_shutdown *shutdown;
    twill__thrd thread;
    _Atomic uint32_t state;
    _Atomic uint64_t number; /* the thread's; 0 until it runs */
    twill_cancel token;      /* of the hook that it runs */
} twill__runner;
enum {
    TWILL__RUNNER_IDLE,
    TWILL__RUNNER_BUSY,    /* in user code */
    TWILL__RUNNER_PARTING, /* being abandoned */
    TWILL__RUNNER_ABANDONED,
    TWILL__RUNNER_GONE /* user code has ended the thread */
};

typedef struct twill__shutdown_job { /* one hook, given to the runner */
    twill__shutdown_hook *hook;      /* NULL: none */
    size_t index;
    twill_ns until;
    bool taken, done, lost;
    int code;
} twill__shutdown_job;

#define TWILL__STOPS 1 /* in `kind`: a signal that stops; from 2 on: that of action kind - 2 */

struct twill_shutdown {
    /* set at create */
    twill_shutdown_options options;
    twill_signal_action *actions;
    const char *message;
    size_t message_length;
    twill__home home;
    bool owner; /* of the process's signals */
    uint8_t kind[TWILL__SIGNAL_COUNT];
#if TWILL__SIGNALS
    bool installed[TWILL__SIGNAL_COUNT];
    twill__action old[TWILL__SIGNAL_COUNT];
#endif
#if TWILL__BELLS
    twill__bell flag; /* its out end is what poll loops get; written once, never read */
#endif
    twill__bell bell; /* wakes the watcher */
    /* written in handlers and by whoever asks */
    _Atomic int64_t asked_at;
    _Atomic int32_t asked;   /* 0; the reason; a signal that came: minus its number */
    _Atomic int32_t stopper; /* 0; the first signal that stops, whoever had asked before it */
    _Atomic uint32_t presses, hurry;
    _Atomic uint32_t seen;    /* the program has been told by a function's answer */
    _Atomic int64_t press_at; /* the last one that counted */
    _Atomic uint32_t raised[TWILL__SIGNAL_COUNT];
#if TWILL__CONSOLE
    _Atomic int64_t over_at; /* when the system ends the process; 0: it does not */
#endif
    /* work: phase, WAITED, tasks inside, tasks ever */
    _Alignas(TWILL__LINE) _Atomic uint64_t work;
    _Atomic uint64_t halves;
    _Alignas(TWILL__LINE) _Atomic uint32_t pulse; /* what finish parks on: bit 0: all out */
    /* guarded by lock, from here on */
    _Atomic uint32_t lock;
    twill__list waiters, idle, settlers; /* in wait; the runner; finish */
    twill__node *destroyer;
    twill_shutdown_phase told, news; /* the phase; the last that the runner has taken up */
    twill_ns drain_end, cancel_end, end;
    uint64_t after_drain, after_cancel; /* tasks inside */
    twill__shutdown_hook *hooks, *ran;
    twill__shutdown_job job;
    twill__runner *runner;  /* NULL: none could be started */
    bool starting;          /* somebody makes a new one */
    unsigned firing;        /* threads that fire a token of ours */
    uint64_t inline_thread; /* runs user code in place of a runner */
    size_t hung;            /* runners abandoned */
    bool finishing, finished, closed, quit;
    twill_shutdown_report report;
    twill_cancel drain_token, cancel_token;
    twill__thrd watcher;
};

static inline bool twill__shutdown_here(const twill_shutdown *shutdown)
{
    return twill__at_home(shutdown->home);
}

/* ---- the word of work ---- */

/* Phase and count are one word: entering is one step with looking at the phase. The total has 36
   bits; `halves` counts how often its top bit has turned. */
#define TWILL__WORK_PHASE  UINT64_C(7)
#define TWILL__WORK_WAITED UINT64_C(8) /* who leaves last says so in `pulse` */
#define TWILL__WORK_INSIDE UINT64_C(0xffffff0)
#define TWILL__WORK_ONE    UINT64_C(0x10)
#define TWILL__WORK_TOTAL  (UINT64_C(1) << 28)

static inline uint64_t twill__work_inside(uint64_t work)
{
    return (work & TWILL__WORK_INSIDE) / TWILL__WORK_ONE;
}

/* Goes on to `phase`, from RUNNING or from the one before; returns what was there. */
static inline uint64_t twill__work_advance(twill_shutdown *shutdown, twill_shutdown_phase phase)
{
    /* a guess for the CAS */
    uint64_t seen = atomic_load_explicit(&shutdown->work, memory_order_relaxed);
    do
        if ((seen & TWILL__WORK_PHASE) >= (uint64_t)phase)
            return seen;
    while (!atomic_compare_exchange_weak_explicit(&shutdown->work, &seen,
                                                  (seen & ~TWILL__WORK_PHASE) | (uint64_t)phase,
                                                  memory_order_seq_cst, memory_order_seq_cst));
    return seen;
}

/* All who ever entered; nobody enters any more. */
static inline uint64_t twill__work_total(const twill_shutdown *shutdown)
{
    uint64_t total = atomic_load_explicit(&shutdown->work, memory_order_seq_cst) >> 28;
    uint64_t halves = atomic_load_explicit(&shutdown->halves, memory_order_seq_cst);
    if ((halves & 1) != total >> 35) /* the one who turned the bit has not come to count it */
        halves++;
    return (halves << 35) + (total & ((UINT64_C(1) << 35) - 1));
}

/* ---- asking: async-signal-safe, like all up to the end of this file ---- */

/* The first one wins. `asked`: see the field. */
static inline void twill__shutdown_ask(twill_shutdown *shutdown, int32_t asked)
{
    int64_t never = 0;
    int32_t none = 0, nobody = 0;
    bool arms = asked < 0 &&
                atomic_compare_exchange_strong_explicit(&shutdown->stopper, &nobody, -asked,
                                                        memory_order_seq_cst, memory_order_seq_cst);
    /* before `asked`, which publishes it */
    atomic_compare_exchange_strong_explicit(&shutdown->asked_at, &never, twill__clock_now(),
                                            memory_order_relaxed, memory_order_relaxed);
    /* acq_rel: pairs with the acquire in twill__shutdown_asked */
    if (!atomic_compare_exchange_strong_explicit(&shutdown->asked, &none, asked,
                                                 memory_order_acq_rel, memory_order_relaxed)) {
        if (arms) /* there is a hard stop from now on */
            twill__bell_ring(&shutdown->bell);
        return;
    }
    twill__work_advance(shutdown, TWILL_SHUTDOWN_DRAINING);
    twill_cancel_request(&shutdown->drain_token, asked < 0 ? -asked : asked);
#if TWILL__BELLS
    twill__bell_ring(&shutdown->flag);
#endif
    twill__bell_ring(&shutdown->bell); /* the flags are set: whoever hears it finds them */
}

/* 0, or `asked`. Who has seen it here is not let in by enter. */
static inline int32_t twill__shutdown_asked(const twill_shutdown *shutdown)
{
    /* acquire: pairs with the CAS in ask */
    int32_t asked = atomic_load_explicit(&shutdown->asked, memory_order_acquire);
    if (asked && !(atomic_load_explicit(&shutdown->work, memory_order_seq_cst) &
                   TWILL__WORK_PHASE)) /* ask is about to do it */
        twill__work_advance((twill_shutdown *)(uintptr_t)shutdown, TWILL_SHUTDOWN_DRAINING);
    return asked;
}

static inline void twill__shutdown_seen(const twill_shutdown *shutdown)
{
    _Atomic uint32_t *seen = &((twill_shutdown *)(uintptr_t)shutdown)->seen;
    /* relaxed: destroy reads it, after all that the program does */
    if (!atomic_load_explicit(seen, memory_order_relaxed))
        atomic_store_explicit(seen, 1, memory_order_relaxed);
}

/* As twill__shutdown_asked, for an answer to the program. */
static inline int32_t twill__shutdown_answer(const twill_shutdown *shutdown)
{
    int32_t asked = twill__shutdown_asked(shutdown);
    if (asked)
        twill__shutdown_seen(shutdown);
    return asked;
}

/* ---- signals ---- */

/* Which press this is: 1, 2..; 0: the same as the last, seen again (sent to the group and
   forwarded). */
static inline uint32_t twill__shutdown_press(twill_shutdown *shutdown, twill_ns now)
{
    int64_t at = atomic_load_explicit(&shutdown->press_at, memory_order_seq_cst);
    if (at && now - at <= shutdown->options.same_press)
        return 0;
    if (!atomic_compare_exchange_strong_explicit(&shutdown->press_at, &at, now,
                                                 memory_order_seq_cst, memory_order_seq_cst))
        return 0; /* another thread has just taken one */
    return atomic_fetch_add_explicit(&shutdown->presses, 1, memory_order_seq_cst) + 1;
}

/* What the handler does. True: this press ends the process, at once. */
static inline bool twill__shutdown_signal(twill_shutdown *shutdown, int number, twill_ns now)
{
    twill_second_signal second = shutdown->options.second;
    uint32_t press;
    if (shutdown->kind[number] != TWILL__STOPS) {
        atomic_store_explicit(&shutdown->raised[number], 1, memory_order_seq_cst);
        twill__bell_ring(&shutdown->bell);
        return false;
    }
    press = twill__shutdown_press(shutdown, now);
    if (press >= 2 && second != TWILL_SECOND_IGNORED) {
        if (second == TWILL_SECOND_KILLS || press >= 3)
            return true;
        atomic_store_explicit(&shutdown->hurry, 1, memory_order_seq_cst);
        twill__bell_ring(&shutdown->bell);
    }
    twill__shutdown_ask(shutdown, -number);
#if TWILL__SIGNALS
    if (press == 1 && shutdown->message_length)
        twill__say(shutdown->message, shutdown->message_length);
#endif
    return false;
}

/* The owner of the signals, or NULL; twill__owner_release follows. */
static inline twill_shutdown *twill__shutdown_pin(void)
{
    twill_shutdown *shutdown = (twill_shutdown *)twill__owner_pin();
    /* a child that has just claimed the signals: the object is still the parent's */
    if (shutdown && !twill__shutdown_here(shutdown)) {
        twill__owner_release();
        return NULL;
    }
    return shutdown;
}

#if TWILL__SIGNALS
static void twill__shutdown_handler(int number)
{
    int saved = errno;
    twill_shutdown *shutdown = twill__shutdown_pin();
    twill__signal_again(number, twill__shutdown_handler);
    if (shutdown) { /* else: a forked child, or the object is just coming or going */
        if (number > 0 && number < TWILL__SIGNAL_COUNT && shutdown->kind[number] &&
            twill__shutdown_signal(shutdown, number, twill__clock_now()))
            twill__signal_die(number, shutdown->options.exit_code);
        twill__owner_release();
    } else if (twill__signal_is_plain(number)) { /* we began, and then another thread put it back */
        raise(number);
    }
    errno = saved;
}

#if TWILL__CONSOLE
/* The console is closed: as its signal, if that is one that stops. With the return of this thread
   the process is over: it stays for as long as it may, or until the program has ended by itself. */
TWILL__CONSOLE_HANDLER(twill__shutdown_console)
{
    twill_shutdown *shutdown = twill__console_goes(event) ? twill__shutdown_pin() : NULL;
    bool stops = shutdown && shutdown->kind[TWILL__CONSOLE_SIGNAL] == TWILL__STOPS;
    if (stops) {
        /* before the request: its windows go by it */
        atomic_store_explicit(&shutdown->over_at, twill__clock_now() + TWILL__CONSOLE_GRACE,
                              memory_order_seq_cst);
        twill__shutdown_ask(shutdown, -TWILL__CONSOLE_SIGNAL);
        twill__bell_ring(&shutdown->bell); /* perhaps it had been asked before */
    }
    if (shutdown)
        twill__owner_release();
    if (stops)
        (void)twill_sleep(twill_within(TWILL__CONSOLE_GRACE));
    return stops;
}
#endif
#endif

#endif

/* ---- the lock ---- */

/* A destroyer waits until nobody is inside or on the way in: whoever sees that tells him. */
static inline void twill__shutdown_unlock(twill_shutdown *shutdown)
{
    twill__node *node = shutdown->destroyer;
    if (node && !shutdown->waiters.first && !shutdown->firing &&
        !twill__lock_wanted(&shutdown->lock)) {
        _Atomic uint32_t *word = &node->word;
        shutdown->destroyer = NULL;
        /* pairs with twill__await */
        atomic_fetch_or_explicit(word, TWILL__GRANTED, memory_order_acq_rel);
        twill__unlock(&shutdown->lock);
        twill__wake(word, 1);
        return;
    }
    twill__unlock(&shutdown->lock);
}

/* ---- user code ---- */

/* Whether the calling thread is in user code of ours: then a wait for us would never end. */
static inline bool twill__shutdown_inside(twill_shutdown *shutdown)
{
    uint64_t me = twill__thread_number();
    bool inside;
    twill__lock(&shutdown->lock);
    /* relaxed: only a thread's own number can match */
    inside = shutdown->inline_thread == me ||
             (shutdown->runner &&
              atomic_load_explicit(&shutdown->runner->number, memory_order_relaxed) == me);
    twill__shutdown_unlock(shutdown);
    return inside;
}

static inline twill_task twill__shutdown_task(void *context, size_t index, twill_ns deadline,
                                              twill_cancel *token)
{
    twill_task task = {index, context, UINT_MAX, 0, NULL, {deadline, token}, NULL};
    if (deadline == TWILL_FOREVER)
        task.until.deadline = 0;
    return task;
}

/* Under the lock: the action to call next, or action_count. Actions end where the hooks begin. */
static inline size_t twill__shutdown_due_action(const twill_shutdown *shutdown)
{
    size_t i = 0, count = shutdown->options.action_count;
    while (i < count && (shutdown->told >= TWILL_SHUTDOWN_HOOKS ||
                         !atomic_load_explicit(&shutdown->raised[shutdown->actions[i].signal],
                                               memory_order_seq_cst)))
        i++;
    return i;
}

static inline bool twill__shutdown_has_todo(const twill_shutdown *shutdown)
{
    return shutdown->news < shutdown->told ||
           twill__shutdown_due_action(shutdown) < shutdown->options.action_count ||
           (shutdown->job.hook && !shutdown->job.taken);
}

/* What a phase brings: its token's hooks, then on_phase. The waits were told long before. Called
   with the lock held, left without. Hooks of tokens must return, and destroy waits for them; from
   on_phase on the object may be gone. */
static inline void twill__shutdown_enter_phase(twill_shutdown *shutdown, twill__runner *runner,
                                               twill_shutdown_phase phase)
{
    int32_t asked = twill__shutdown_asked(shutdown);
    int reason = asked < 0 ? -asked : asked;
    void (*on_phase)(twill_shutdown_phase, int, const twill_task *) = shutdown->options.on_phase;
    twill_task task =
        twill__shutdown_task(shutdown->options.context, SIZE_MAX, shutdown->end, NULL);
    shutdown->firing++;
    twill__unlock(&shutdown->lock);
    if (phase == TWILL_SHUTDOWN_DRAINING)
        twill_cancel_fire(&shutdown->drain_token, reason);
    else if (phase == TWILL_SHUTDOWN_CANCELLING)
        twill_cancel_fire(&shutdown->cancel_token, reason);
    twill__lock(&shutdown->lock);
    shutdown->firing--;
    /* relaxed: abandoned a moment later is as if in on_phase */
    if (runner && atomic_load_explicit(&runner->state, memory_order_relaxed) != TWILL__RUNNER_BUSY)
        on_phase = NULL;
    twill__shutdown_unlock(shutdown);
    if (on_phase)
        on_phase(phase, reason, &task);
}

/* Called and left with the lock held; false: the runner was abandoned meanwhile, and neither lock
   nor object is his any more: nothing of it is read once the lock is gone. `runner` NULL: in the
   caller's thread, and there is no job. */
static inline bool twill__shutdown_do(twill_shutdown *shutdown, twill__runner *runner)
{
    size_t i = twill__shutdown_due_action(shutdown);
    uint32_t busy = TWILL__RUNNER_BUSY;
    int code = 0;
    bool hook = false;
    if (runner) /* under the lock; who abandons sees it by his CAS */
        atomic_store_explicit(&runner->state, TWILL__RUNNER_BUSY, memory_order_relaxed);
    if (shutdown->news < shutdown->told) {
        shutdown->news = (twill_shutdown_phase)(shutdown->news + 1);
        twill__shutdown_enter_phase(shutdown, runner, shutdown->news);
    } else if (i < shutdown->options.action_count) {
        twill_signal_action action = shutdown->actions[i];
        twill_task task = twill__shutdown_task(action.context, i, 0, &shutdown->cancel_token);
        /* before the call: a signal during it brings another one. An exchange, since it takes off
           what came after the look, too: what was before that signal, the call is to see */
        (void)atomic_exchange_explicit(&shutdown->raised[action.signal], 0, memory_order_seq_cst);
        twill__unlock(&shutdown->lock);
        action.fn(action.signal, &task);
    } else {
        const twill__shutdown_job *job = &shutdown->job;
        twill_task task =
            twill__shutdown_task(job->hook->context, job->index, job->until, &runner->token);
        twill_shutdown_fn *fn = job->hook->fn;
        shutdown->job.taken = hook = true;
        twill__unlock(&shutdown->lock);
        code = fn(&task);
    }
    /* acq_rel: pairs with the CAS of who abandons; the first decides */
    if (runner &&
        !atomic_compare_exchange_strong_explicit(&runner->state, &busy, TWILL__RUNNER_IDLE,
                                                 memory_order_acq_rel, memory_order_acquire))
        return false;
    twill__lock(&shutdown->lock);
    if (hook) {
        shutdown->job.code = code;
        shutdown->job.done = true;
    }
    return true;
}

/* ---- the thread ---- */

/* Under the lock. */
static inline void twill__shutdown_rouse(twill_shutdown *shutdown)
{
    twill__grant_all(&shutdown->idle);
}

/* Under the lock: finish waits until the runner has nothing to do, or is gone. */
static inline void twill__shutdown_settled(twill_shutdown *shutdown)
{
    twill__node *node = shutdown->settlers.first;
    if (node) {
        _Atomic uint32_t *word = &node->word;
        if (twill__grant(&shutdown->settlers, node))
            twill__wake(word, 1);
    }
}

/* The record is the abandoned thread's own, once he who abandons has let go of it. */
static inline void twill__runner_part(twill__runner *runner)
{
    /* acquire: pairs with the release in twill__shutdown_abandon */
    while (atomic_load_explicit(&runner->state, memory_order_acquire) != TWILL__RUNNER_ABANDONED)
        twill__yield(); /* ends: he has one step to do */
    TWILL_FREE(runner);
}

static void twill__runner_gone(void *arg) /* user code ends this thread */
{
    twill__runner *runner = (twill__runner *)arg;
    twill_shutdown *shutdown = runner->shutdown;
    uint32_t busy = TWILL__RUNNER_BUSY;
    /* as in twill__shutdown_do */
    if (!atomic_compare_exchange_strong_explicit(&runner->state, &busy, TWILL__RUNNER_GONE,
                                                 memory_order_acq_rel, memory_order_acquire)) {
        twill__runner_part(runner);
        return;
    }
    twill__lock(&shutdown->lock);
    if (shutdown->job.hook && shutdown->job.taken)
        shutdown->job.lost = true;
    twill__shutdown_settled(shutdown);
    twill__bell_ring(&shutdown->bell); /* the watcher starts another */
    twill__shutdown_unlock(shutdown);
}

/* False: abandoned. */
static inline bool twill__runner_loop(twill__runner *runner)
{
    twill_shutdown *shutdown = runner->shutdown;
    twill__lock(&shutdown->lock);
    for (;;) { /* exit: quit, which destroy sets */
        twill__node me;
        if (twill__shutdown_has_todo(shutdown)) { /* also at the end: what came in time is served */
            if (!twill__shutdown_do(shutdown, runner))
                return false;
            continue;
        }
        twill__shutdown_settled(shutdown);
        if (shutdown->quit)
            break;
        twill__node_init(&me);
        twill__list_append(&shutdown->idle, &me);
        twill__shutdown_unlock(shutdown);
        twill__await(&me);
        twill__lock(&shutdown->lock);
    }
    twill__shutdown_unlock(shutdown);
    return true;
}

static void twill__runner_main(void *arg)
{
    twill__runner *runner = (twill__runner *)arg;
    bool ours = true;
    /* relaxed: see twill__shutdown_inside */
    atomic_store_explicit(&runner->number, twill__thread_number(), memory_order_relaxed);
    TWILL__GUARD_PUSH(twill__runner_gone, runner);
    ours = twill__runner_loop(runner);
    TWILL__GUARD_POP(0);
    if (!ours)
        twill__runner_part(runner);
}

/* A thread of ours takes no signals, but those that it asks for. */
static inline bool twill__shutdown_thread(twill__thrd *thread, void (*fn)(void *), void *arg,
                                          const char *name)
{
    twill__signal_mask mask;
    bool started;
    memset(thread, 0, sizeof *thread);
    thread->fn = fn;
    thread->arg = arg;
    thread->cpu = UINT_MAX;
    twill__thread_name(thread, name);
    twill__signals_hold(&mask);
    started = twill__thread_start(thread);
    twill__signals_restore(&mask);
    return started;
}

static inline twill_status twill__runner_start(twill_shutdown *shutdown)
{
    twill__runner *runner = (twill__runner *)TWILL_MALLOC(sizeof *runner);
    if (!runner)
        return TWILL_NO_MEMORY;
    memset(runner, 0, sizeof *runner);
    runner->shutdown = shutdown;
    twill__lock(&shutdown->lock);
    shutdown->runner = runner; /* before it runs user code, which may ask who it is */
    twill__shutdown_unlock(shutdown);
    if (twill__shutdown_thread(&runner->thread, twill__runner_main, runner, "twill-hooks"))
        return TWILL_OK;
    twill__lock(&shutdown->lock);
    shutdown->runner = NULL;
    twill__shutdown_unlock(shutdown);
    TWILL_FREE(runner);
    return TWILL_NO_THREAD;
}

/* Another runner in place of one whose thread has ended, or of none, if there is something to do,
   or for finish. Nothing to do, or the other one does it already: returns at once. During finish
   only finish takes runners away. */
static inline void twill__runner_renew(twill_shutdown *shutdown, bool finish)
{
    twill__runner *runner;
    bool wanted;
    twill__lock(&shutdown->lock);
    runner = shutdown->runner;
    /* relaxed: it is joined before anything of it is read */
    wanted =
        !shutdown->starting && shutdown->finishing == finish &&
        (runner ? atomic_load_explicit(&runner->state, memory_order_relaxed) == TWILL__RUNNER_GONE
                : finish || twill__shutdown_has_todo(shutdown));
    if (wanted) {
        shutdown->starting = true;
        shutdown->runner = NULL;
    }
    twill__shutdown_unlock(shutdown);
    if (!wanted)
        return;
    if (runner) {
        twill__thread_join(&runner->thread);
        TWILL_FREE(runner);
    }
    (void)twill__runner_start(shutdown);
    twill__lock(&shutdown->lock);
    shutdown->starting = false;
    twill__shutdown_settled(shutdown);
    twill__shutdown_unlock(shutdown);
}

/* False: it has come back in the meantime. */
static inline bool twill__shutdown_abandon(twill_shutdown *shutdown)
{
    twill__runner *runner;
    uint32_t busy = TWILL__RUNNER_BUSY;
    twill__lock(&shutdown->lock);
    while (shutdown->starting) { /* ends: the watcher has a few steps to do */
        twill__shutdown_unlock(shutdown);
        twill__yield();
        twill__lock(&shutdown->lock);
    }
    runner = shutdown->runner; /* only finish changes it now */
    twill__shutdown_unlock(shutdown);
    /* acq_rel: pairs with the CAS in twill__shutdown_do */
    if (!runner ||
        !atomic_compare_exchange_strong_explicit(&runner->state, &busy, TWILL__RUNNER_PARTING,
                                                 memory_order_acq_rel, memory_order_relaxed))
        return false;
    twill__lock(&shutdown->lock);
    shutdown->runner = NULL;
    shutdown->hung++;
    twill__shutdown_unlock(shutdown);
    twill__thread_let_go(&runner->thread);
    /* release: the last access; pairs with twill__runner_part */
    atomic_store_explicit(&runner->state, TWILL__RUNNER_ABANDONED, memory_order_release);
    return true;
}

#endif

/* ---- phases ---- */

/* Under the lock: no window ends after the system has ended the process, and half of what is left
   is for what comes after it. True: one has become shorter. */
static inline bool twill__shutdown_hasten(twill_shutdown *shutdown, twill_ns now)
{
#if TWILL__CONSOLE
    twill_ns over = atomic_load_explicit(&shutdown->over_at, memory_order_seq_cst), half;
    if (!over || shutdown->told >= TWILL_SHUTDOWN_HOOKS)
        return false;
    if (over < shutdown->end)
        shutdown->end = over;
    half = now < shutdown->end ? now + (shutdown->end - now) / 2 : now;
    if (shutdown->told == TWILL_SHUTDOWN_DRAINING && shutdown->drain_end > over) {
        shutdown->drain_end = half;
        return true;
    }
    if (shutdown->told == TWILL_SHUTDOWN_CANCELLING && shutdown->cancel_end >= over) {
        shutdown->cancel_end = half;
        return true;
    }
#else
    (void)shutdown, (void)now;
#endif
    return false;
}

/* Under the lock: goes to the phase that it is time for; true: that was a new one, or its end is
   another one, and twill__shutdown_announce follows. An empty house ends a phase only once finish
   has been called: before that, the program may have work that it does not count. */
static inline bool twill__shutdown_step(twill_shutdown *shutdown, twill_ns now)
{
    twill_shutdown_phase before = shutdown->told;
    twill_shutdown_options *options = &shutdown->options;
    bool changed;
    if (!twill__shutdown_asked(shutdown))
        return false;
    if (shutdown->told == TWILL_SHUTDOWN_RUNNING) {
        /* published by `asked` */
        twill_ns at = atomic_load_explicit(&shutdown->asked_at, memory_order_relaxed);
        shutdown->told = TWILL_SHUTDOWN_DRAINING;
        shutdown->end = twill__instant_after(at, options->total);
        shutdown->drain_end = twill__instant_after(at, options->drain);
        twill__answer_all(&shutdown->waiters, TWILL_OK);
    }
    changed = twill__shutdown_hasten(shutdown, now);
    if (shutdown->told == TWILL_SHUTDOWN_DRAINING) {
        uint64_t inside =
            twill__work_inside(atomic_load_explicit(&shutdown->work, memory_order_seq_cst));
        if (now >= shutdown->drain_end ||
            atomic_load_explicit(&shutdown->hurry, memory_order_seq_cst) ||
            (shutdown->finishing && inside == 0)) {
            shutdown->after_drain =
                twill__work_inside(twill__work_advance(shutdown, TWILL_SHUTDOWN_CANCELLING));
            shutdown->told = TWILL_SHUTDOWN_CANCELLING;
            shutdown->cancel_end = twill__instant_after(now, options->cancel);
            if (shutdown->cancel_end > shutdown->end)
                shutdown->cancel_end = shutdown->end;
            changed |= twill__shutdown_hasten(shutdown, now);
        }
    }
    if (shutdown->told == TWILL_SHUTDOWN_CANCELLING && shutdown->finishing) {
        uint64_t inside =
            twill__work_inside(atomic_load_explicit(&shutdown->work, memory_order_seq_cst));
        if (now >= shutdown->cancel_end || inside == 0) {
            shutdown->after_cancel =
                twill__work_inside(twill__work_advance(shutdown, TWILL_SHUTDOWN_HOOKS));
            shutdown->told = TWILL_SHUTDOWN_HOOKS;
        }
    }
    changed |= shutdown->told != before;
    return changed;
}

/* Ends every wait below the token now; its hooks, user code, are the runner's. */
static inline void twill__shutdown_tell(twill_cancel *cancel, int reason)
{
    twill__token *token = twill__token_of(cancel);
    twill__token_lock(token);
    twill__tell(token, reason);
    twill__unlock(&token->lock);
}

/* Without the lock; what is told twice is heard once. */
static inline void twill__shutdown_announce(twill_shutdown *shutdown)
{
    int32_t asked = twill__shutdown_asked(shutdown);
    int reason = asked < 0 ? -asked : asked;
    twill_shutdown_phase told;
    twill__lock(&shutdown->lock);
    told = shutdown->told;
    twill__shutdown_rouse(shutdown);
    twill__shutdown_unlock(shutdown);
    twill__shutdown_tell(&shutdown->drain_token, reason); /* first, whoever comes first */
    if (told >= TWILL_SHUTDOWN_CANCELLING)
        twill__shutdown_tell(&shutdown->cancel_token, reason);
    /* finish may be parked on it; an odd word stays odd */
    atomic_fetch_add_explicit(&shutdown->pulse, 2, memory_order_seq_cst);
    twill__wake(&shutdown->pulse, 1);
}

/* ---- the watcher ---- */

/* Under the lock: when to look again; 0: when the bell rings. */
static inline twill_ns twill__shutdown_next(const twill_shutdown *shutdown, bool hard)
{
    twill_ns next = TWILL_FOREVER;
    if (shutdown->told == TWILL_SHUTDOWN_DRAINING)
        next = shutdown->drain_end;
    if (hard && shutdown->end < next)
        next = shutdown->end;
    return next == TWILL_FOREVER ? 0 : next;
}

static void twill__shutdown_watch(void *arg)
{
    twill_shutdown *shutdown = (twill_shutdown *)arg;
#if TWILL__SIGNALS
    bool quit;
    twill__lock(&shutdown->lock); /* until create has installed the handler, or has failed */
    quit = shutdown->quit;
    twill__shutdown_unlock(shutdown);
    /* where the program holds them off in all its threads, this one takes them */
    for (int number = 1; number < TWILL__SIGNAL_COUNT && !quit; number++)
        if (shutdown->kind[number])
            twill__signal_unblock(number);
#endif
    for (;;) { /* exit: quit, which destroy sets */
        twill_ns now = twill__clock_now(), next;
        int32_t stopper;
        bool changed, hard;
        twill__lock(&shutdown->lock);
        if (shutdown->quit) /* what comes now, destroy sees */
            break;
        changed = twill__shutdown_step(shutdown, now);
        if (twill__shutdown_has_todo(shutdown))
            twill__shutdown_rouse(shutdown);
        stopper = atomic_load_explicit(&shutdown->stopper, memory_order_seq_cst);
        hard = stopper && shutdown->told && !shutdown->options.no_hard_stop;
        next = twill__shutdown_next(shutdown, hard);
        twill__shutdown_unlock(shutdown);
        if (changed)
            twill__shutdown_announce(shutdown);
        if (hard && now >= shutdown->end)
            twill__signal_die(stopper, shutdown->options.exit_code);
        twill__runner_renew(shutdown, false);
        twill__bell_wait(&shutdown->bell, next);
    }
    twill__shutdown_unlock(shutdown);
}

#endif

/* A hook that obeys its limit needs a moment to come back; only then is it passed over. */
#define TWILL__HOOK_GRACE   TWILL_MS(10)
/* Runners that may hang, or end their threads, before the hooks: each takes with it an action that
   ran, or the news of one of three phases. */
#define TWILL__RUNNERS_LOST 4

/* ---- work ---- */

/* Through DRAINING and CANCELLING. The one who leaves last touches nothing of ours after his
   fetch_or on `pulse`, and we do not go on before that: the object may be freed soon. */
static inline void twill__shutdown_drain(twill_shutdown *shutdown)
{
    uint64_t work;
    bool armed;
    (void)twill__shutdown_asked(shutdown); /* shuts the door, if who asks has not come to it */
    work = atomic_fetch_or_explicit(&shutdown->work, TWILL__WORK_WAITED, memory_order_seq_cst);
    armed = twill__work_inside(work) > 0; /* and nobody comes in any more */
    for (;;) {                            /* exit: HOOKS, at the end of the windows at the latest */
        /* before the look at the work: who changes that later changes this, too */
        uint32_t pulse = atomic_load_explicit(&shutdown->pulse, memory_order_seq_cst);
        bool changed;
        twill_ns until;
        twill_shutdown_phase told;
        twill__lock(&shutdown->lock);
        changed = twill__shutdown_step(shutdown, twill__clock_now());
        told = shutdown->told;
        until = told == TWILL_SHUTDOWN_DRAINING ? shutdown->drain_end : shutdown->cancel_end;
        twill__shutdown_unlock(shutdown);
        if (changed)
            twill__shutdown_announce(shutdown);
        if (told >= TWILL_SHUTDOWN_HOOKS)
            break;
        if (!changed)
            twill__park(&shutdown->pulse, pulse, until);
    }
    work = atomic_fetch_and_explicit(&shutdown->work, ~TWILL__WORK_WAITED, memory_order_seq_cst);
    if (!armed || twill__work_inside(work) > 0)
        return;
    for (;;) { /* ends: the last one out is at the step between the two words */
        uint32_t pulse = atomic_load_explicit(&shutdown->pulse, memory_order_seq_cst);
        if (pulse & 1)
            return;
        twill__park(&shutdown->pulse, pulse, 0);
    }
}

/* ---- the runner, seen from finish ---- */

/* Waits until the runner has nothing left to do, its present hook included. False: the instant has
   come first. Without a runner: true. */
static inline bool twill__shutdown_settle(twill_shutdown *shutdown, twill_ns until)
{
    twill__node me;
    twill_status status;
    twill__lock(&shutdown->lock);
    for (;;) { /* exit: settled, or the deadline */
        const twill__runner *runner = shutdown->runner;
        const twill__shutdown_job *job = &shutdown->job;
        /* acquire: pairs with the CAS by which the runner comes back from user code */
        uint32_t state = runner ? atomic_load_explicit(&runner->state, memory_order_acquire)
                                : TWILL__RUNNER_GONE;
        bool open = job->hook && job->taken && !job->done && !job->lost; /* soon to be told */
        if (!shutdown->starting && !open &&
            (state == TWILL__RUNNER_GONE ||
             (state == TWILL__RUNNER_IDLE && !twill__shutdown_has_todo(shutdown))))
            break;
        twill__node_init(&me);
        twill__list_append(&shutdown->settlers, &me);
        twill__shutdown_unlock(shutdown);
        status = twill__wait(&me, (twill_until){until, NULL});
        twill__lock(&shutdown->lock);
        if (status != TWILL_OK) {
            twill__list_remove(&shutdown->settlers, &me);
            twill__shutdown_unlock(shutdown);
            return false;
        }
    }
    twill__shutdown_unlock(shutdown);
    return true;
}

/* How a hook ended: into the report. */
static inline void twill__shutdown_note(twill_shutdown *shutdown, const twill_shutdown_step *step)
{
    twill_shutdown_report *report = &shutdown->report;
    if (report->hooks < shutdown->options.steps_capacity)
        shutdown->options.steps[report->steps_stored++] = *step;
    report->hooks++;
    report->hooks_failed += step->status == TWILL_FAILED || step->status == TWILL_LOST;
    report->hooks_overran += step->status == TWILL_TIMEOUT;
}

/* User code in the thread of finish has ended that thread: another one may go on. */
static void twill__shutdown_finisher_gone(void *arg)
{
    twill_shutdown *shutdown = (twill_shutdown *)arg;
    twill_shutdown_step step = {NULL, TWILL_LOST, 0, 0};
    twill__lock(&shutdown->lock);
    shutdown->inline_thread = 0;
    shutdown->finishing = false;
    if (shutdown->job.hook) {
        step.name = shutdown->job.hook->name;
        step.wall = twill__clock_now() - shutdown->job.until;
        twill__shutdown_note(shutdown, &step);
    }
    shutdown->job.hook = NULL;
    twill__shutdown_unlock(shutdown);
}

/* What is to be done, in this thread: `hook`, or, NULL, what the phases bring. */
static inline void twill__shutdown_inline(twill_shutdown *shutdown, const twill_task *task,
                                          const twill__shutdown_hook *hook, int *code)
{
    TWILL__GUARD_PUSH(twill__shutdown_finisher_gone, shutdown);
    twill__lock(&shutdown->lock);
    shutdown->inline_thread = twill__thread_number();
    while (!hook && shutdown->news < shutdown->told)
        (void)twill__shutdown_do(shutdown, NULL);
    twill__shutdown_unlock(shutdown);
    if (hook)
        *code = hook->fn(task);
    twill__lock(&shutdown->lock);
    shutdown->inline_thread = 0;
    twill__shutdown_unlock(shutdown);
    TWILL__GUARD_POP(0);
}

/* An instant that leaves three quarters of what is left. */
static inline twill_ns twill__shutdown_share(const twill_shutdown *shutdown)
{
    twill_ns now = twill__clock_now(), left = shutdown->end - now;
    return shutdown->end == TWILL_FOREVER ? TWILL_FOREVER : now + (left > 0 ? left / 4 : 0);
}

/* A runner that is free, at the cost of those that do not come back in time: until then, or in a
   share of what is left. False: there is none to be had, and what the phases brought has been done
   here. */
static inline bool twill__shutdown_ready(twill_shutdown *shutdown, twill_ns until)
{
    bool there;
    for (int lost = 0; lost <= TWILL__RUNNERS_LOST; lost++) { /* or there is nothing to be done */
        twill__runner_renew(shutdown, true);
        if (twill__shutdown_settle(shutdown, until) || lost == TWILL__RUNNERS_LOST)
            continue;
        (void)twill__shutdown_abandon(shutdown);
        until = twill__shutdown_share(shutdown);
    }
    twill__lock(&shutdown->lock);
    there = shutdown->runner != NULL;
    twill__shutdown_unlock(shutdown);
    if (!there)
        twill__shutdown_inline(shutdown, NULL, NULL, NULL);
    return there;
}

/* ---- hooks ---- */

/* The present job is over, or out of our hands: how did it end? */
static inline twill_status twill__shutdown_job_end(twill_shutdown *shutdown, bool in_time,
                                                   int *code)
{
    twill__shutdown_job *job = &shutdown->job;
    twill_status status = TWILL_TIMEOUT;
    if (!in_time) {
        bool hangs;
        twill__lock(&shutdown->lock);
        hangs = job->taken; /* else its thread never came to it: nobody will run it */
        if (!hangs)
            job->hook = NULL;
        twill__shutdown_unlock(shutdown);
        if (hangs && !twill__shutdown_abandon(shutdown)) /* it is just coming back */
            in_time = twill__shutdown_settle(shutdown, TWILL_FOREVER);
    }
    twill__lock(&shutdown->lock);
    if (in_time && job->lost) {
        status = TWILL_LOST;
    } else if (in_time && job->done) { /* else its thread ended before it came to it */
        status = job->code ? TWILL_FAILED : TWILL_OK;
        *code = job->code;
    }
    job->hook = NULL;
    twill__shutdown_unlock(shutdown);
    return status;
}

static inline twill_status twill__shutdown_run_guarded(twill_shutdown *shutdown,
                                                       twill__shutdown_hook *hook, size_t index,
                                                       twill_ns until, twill_ns over, int *code)
{
    twill_cancel *token = &shutdown->runner->token; /* the runner is idle: the token is ours */
    bool in_time;
    twill_cancel_detach(token);
    twill_cancel_init(token, NULL);
    twill__lock(&shutdown->lock);
    shutdown->job = (twill__shutdown_job){hook, index, until, false, false, false, 0};
    twill__shutdown_rouse(shutdown);
    twill__shutdown_unlock(shutdown);
    in_time = twill__shutdown_settle(shutdown, until);
    if (!in_time) {
        twill_cancel_fire(token, twill_shutdown_reason(shutdown));
        in_time = twill__shutdown_settle(shutdown, over);
    }
    return twill__shutdown_job_end(shutdown, in_time, code);
}

static inline twill_status twill__shutdown_run_unguarded(twill_shutdown *shutdown,
                                                         twill__shutdown_hook *hook, size_t index,
                                                         twill_ns until, int *code)
{
    twill_cancel token;
    twill_task task = twill__shutdown_task(hook->context, index, until, &token);
    twill_cancel_init(&token, NULL);
    twill__lock(&shutdown->lock);
    /* for twill__shutdown_finisher_gone, as the instant of its start; taken: for no runner */
    shutdown->job = (twill__shutdown_job){hook, index, twill__clock_now(), true, false, false, 0};
    twill__shutdown_unlock(shutdown);
    twill__shutdown_inline(shutdown, &task, hook, code);
    twill__lock(&shutdown->lock);
    shutdown->job.hook = NULL;
    twill__shutdown_unlock(shutdown);
    twill_cancel_detach(&token);
    return *code ? TWILL_FAILED : TWILL_NO_THREAD;
}

static inline void twill__shutdown_run_hook(twill_shutdown *shutdown, twill__shutdown_hook *hook)
{
    twill_shutdown_report *report = &shutdown->report;
    twill_shutdown_step step = {hook->name, TWILL_TIMEOUT, 0, 0};
    twill_ns start = twill__clock_now(), until = shutdown->end, over;
    if (hook->limit && twill__instant_after(start, hook->limit) < until)
        until = twill__instant_after(start, hook->limit);
    over = twill__instant_after(until, TWILL__HOOK_GRACE);
    if (over > shutdown->end)
        over = shutdown->end;
    if (over != TWILL_FOREVER && over - until < TWILL__HOOK_GRACE &&
        over - start > 2 * TWILL__HOOK_GRACE)
        until = over - TWILL__HOOK_GRACE;
    if (start < shutdown->end) {
        if (twill__shutdown_ready(shutdown, over))
            step.status =
                twill__shutdown_run_guarded(shutdown, hook, report->hooks, until, over, &step.code);
        else
            step.status =
                twill__shutdown_run_unguarded(shutdown, hook, report->hooks, until, &step.code);
        step.wall = twill__clock_now() - start;
    } /* else the total is over: it does not run, and the report says so */
    twill__shutdown_note(shutdown, &step);
}

static inline void twill__shutdown_run_hooks(twill_shutdown *shutdown)
{
    /* on_phase and an action that runs have a quarter of what is left to come back */
    (void)twill__shutdown_ready(shutdown, twill__shutdown_share(shutdown));
    for (;;) { /* exit: none left, and none is added from HOOKS on */
        twill__shutdown_hook *hook;
        twill__lock(&shutdown->lock);
        hook = shutdown->hooks;
        if (hook) {
            shutdown->hooks = hook->earlier;
            hook->earlier = shutdown->ran; /* its name is in the user's steps */
            shutdown->ran = hook;
        }
        twill__shutdown_unlock(shutdown);
        if (!hook)
            return;
        twill__shutdown_run_hook(shutdown, hook);
    }
}

/* ---- the report ---- */

static inline void twill__shutdown_stopped(twill_shutdown *shutdown)
{
    twill_shutdown_report *report = &shutdown->report;
    uint64_t total = twill__work_total(shutdown);
    int64_t asked_at = atomic_load_explicit(&shutdown->asked_at, memory_order_relaxed);
    twill__lock(&shutdown->lock);
    report->reason = twill_shutdown_reason(shutdown);
    report->entered = (size_t)total;
    report->left_in_drain = (size_t)(total - shutdown->after_drain);
    report->left_in_cancel = (size_t)(shutdown->after_drain - shutdown->after_cancel);
    report->stuck = (size_t)shutdown->after_cancel;
    TWILL_ASSERT(report->entered == report->left_in_drain + report->left_in_cancel + report->stuck);
    report->status = report->hooks_failed                                       ? TWILL_FAILED
                     : report->stuck || report->hooks_overran || shutdown->hung ? TWILL_TIMEOUT
                                                                                : TWILL_OK;
    report->wall = twill__clock_now() - asked_at;
    shutdown->told = TWILL_SHUTDOWN_STOPPED;
    (void)twill__work_advance(shutdown, TWILL_SHUTDOWN_STOPPED);
    shutdown->finished = true;
    twill__shutdown_rouse(shutdown);
    twill__shutdown_unlock(shutdown);
}

/* on_phase(STOPPED) comes before finish returns, unless it hangs. */
static inline void twill__shutdown_last_word(twill_shutdown *shutdown)
{
    twill_ns until = twill__clock_now() + TWILL__HOOK_GRACE;
    if (until < shutdown->end)
        until = shutdown->end;
    if (shutdown->options.on_phase) {
        twill__runner_renew(shutdown, true);
        if (!shutdown->runner)
            twill__shutdown_inline(shutdown, NULL, NULL, NULL);
        else if (!twill__shutdown_settle(shutdown, until))
            (void)twill__shutdown_abandon(shutdown);
    }
}

#endif

/* ---- graceful_shutdown/life.h ---- */
/* graceful_shutdown/life.h: an object from its options to its end. */
#ifndef TWILL__GRACEFUL_SHUTDOWN_LIFE_H
#define TWILL__GRACEFUL_SHUTDOWN_LIFE_H

/* ---- create ---- */

static inline bool twill__shutdown_take(uint8_t *kind, int number, uint8_t as)
{
    if (number <= 0 || number >= TWILL__SIGNAL_COUNT || kind[number])
        return false;
#if TWILL__SIGNALS
    if (twill__signal_is_fault(number))
        return false;
#ifdef SIGKILL
    if (number == SIGKILL || number == SIGSTOP)
        return false;
#endif
#endif
    kind[number] = as;
    return true;
}

static inline bool twill__shutdown_kinds(uint8_t *kind, const twill_shutdown_options *options)
{
    static const int usual[] = {SIGINT, SIGTERM};
    const int *signals = options->signals ? options->signals : usual;
    size_t count = options->signals ? options->signal_count : 2;
    if (options->no_signals)
        return !options->signals && !options->signal_count && !options->actions &&
               !options->action_count && !options->message;
    if (count == 0 || count >= TWILL__SIGNAL_COUNT || (!options->signals && options->signal_count))
        return false;
    if (!options->actions != !options->action_count || options->action_count >= TWILL__SIGNAL_COUNT)
        return false;
    for (size_t i = 0; i < count; i++)
        if (!twill__shutdown_take(kind, signals[i], TWILL__STOPS))
            return false;
    for (size_t i = 0; i < options->action_count; i++)
        if (!options->actions[i].fn ||
            !twill__shutdown_take(kind, options->actions[i].signal, (uint8_t)(i + 2)))
            return false;
    return true;
}

static inline twill_ns twill__shutdown_part(twill_ns total, twill_ns share)
{
    return total == TWILL_FOREVER || total < share ? total : total / share;
}

/* Defaults in, nonsense out. */
static inline bool twill__shutdown_plan(twill_shutdown_options *options)
{
    if (options->total < 0 || options->drain < 0 || options->cancel < 0 ||
        options->same_press < 0 || (unsigned)options->second > TWILL_SECOND_IGNORED ||
        (options->steps_capacity && !options->steps))
        return false;
    if (!options->total)
        options->total = TWILL_SEC(20);
    if (options->drain && options->cancel &&
        (options->drain > options->total || options->cancel > options->total - options->drain))
        return false;
    if (!options->drain)
        options->drain = twill__shutdown_part(options->total, 2);
    if (options->drain > options->total)
        options->drain = options->total;
    if (!options->cancel)
        options->cancel = twill__shutdown_part(options->total, 4);
    if (!options->same_press)
        options->same_press = TWILL_MS(200);
    return true;
}

#if TWILL__SIGNALS
/* Puts back what was there, where nobody else has come in the meantime. */
static inline void twill__shutdown_restore(twill_shutdown *shutdown)
{
    for (int number = 1; number < TWILL__SIGNAL_COUNT; number++) {
        twill__action now;
        if (!shutdown->installed[number])
            continue;
        if (twill__sigaction(number, NULL, &now) == 0 &&
            twill__action_is(&now, twill__shutdown_handler))
            twill__sigaction(number, &shutdown->old[number], NULL);
        shutdown->installed[number] = false;
    }
#if TWILL__CONSOLE
    twill__console_tells(twill__shutdown_console, false);
#endif
}

/* Those that a shell or nohup lets a program ignore. */
static inline bool twill__shutdown_keeps(int number)
{
#ifdef SIGHUP
    if (number == SIGQUIT || number == SIGHUP)
        return true;
#endif
    return number == SIGINT;
}

/* `parent`: the object of the process that has forked us; what we find installed may be its. */
static inline bool twill__shutdown_install(twill_shutdown *shutdown, const twill_shutdown *parent)
{
    int numbers[TWILL__SIGNAL_COUNT];
    size_t count = 0;
    twill__action ours;
    for (int number = 1; number < TWILL__SIGNAL_COUNT; number++)
        if (shutdown->kind[number])
            numbers[count++] = number;
    twill__action_make(&ours, twill__shutdown_handler, numbers, count);
    for (size_t i = 0; i < count; i++) {
        int number = numbers[i];
        twill__action *old = &shutdown->old[number];
        bool keeps = twill__shutdown_keeps(number);
        if (twill__sigaction(number, NULL, old) != 0)
            break;
        if (parent && parent->installed[number] && twill__action_is(old, twill__shutdown_handler))
            *old = parent->old[number];
        if (keeps && twill__action_is(old, SIG_IGN) && !shutdown->options.take_ignored)
            continue;
        if (twill__sigaction(number, &ours, NULL) != 0)
            break;
        shutdown->installed[number] = true;
        numbers[i] = 0;
    }
    for (size_t i = 0; i < count; i++)
        if (numbers[i] && !twill__action_is(&shutdown->old[numbers[i]], SIG_IGN)) {
            twill__shutdown_restore(shutdown);
            return false;
        }
#if TWILL__CONSOLE
    twill__console_tells(twill__shutdown_console, true);
#endif
    return true;
}
#endif

static inline bool twill__shutdown_bells(twill_shutdown *shutdown)
{
    if (!twill__bell_make(&shutdown->bell))
        return false;
#if TWILL__BELLS
    if (!twill__bell_make(&shutdown->flag)) {
        twill__bell_end(&shutdown->bell);
        return false;
    }
#endif
    return true;
}

static inline void twill__shutdown_bells_end(twill_shutdown *shutdown)
{
    twill__bell_end(&shutdown->bell);
#if TWILL__BELLS
    twill__bell_end(&shutdown->flag);
#endif
}

enum { TWILL__MESSAGE_MOST = 4096 };

/* One block: the object, the actions, the message. */
static inline twill_shutdown *twill__shutdown_make(const twill_shutdown_options *options)
{
    size_t head = (sizeof(twill_shutdown) + 15) / 16 * 16, length = 0, bytes;
    size_t actions = options->action_count * sizeof(twill_signal_action);
    void *memory;
    twill_shutdown *shutdown;
    while (options->message && options->message[length] && length < TWILL__MESSAGE_MOST)
        length++;
    bytes = head + actions + length + TWILL__LINE + sizeof(void *);
    memory = TWILL_MALLOC(bytes);
    if (!memory)
        return NULL;
    memset(memory, 0, bytes);
    shutdown = (twill_shutdown *)(((uintptr_t)memory + sizeof(void *) + TWILL__LINE - 1) /
                                  TWILL__LINE * TWILL__LINE);
    ((void **)(void *)shutdown)[-1] = memory;
    shutdown->options = *options;
    shutdown->actions = (twill_signal_action *)(void *)((char *)shutdown + head);
    if (actions)
        memcpy(shutdown->actions, options->actions, actions);
    if (length)
        memcpy((char *)shutdown->actions + actions, options->message, length);
    shutdown->message = (char *)shutdown->actions + actions;
    shutdown->message_length = length;
    shutdown->home = twill__home_here();
    return shutdown;
}

static inline void twill__shutdown_free(twill_shutdown *shutdown)
{
    twill__shutdown_hook *lists[] = {shutdown->hooks, shutdown->ran};
    for (size_t i = 0; i < 2; i++)
        for (twill__shutdown_hook *hook = lists[i], *next; hook; hook = next) {
            next = hook->earlier;
            TWILL_FREE(hook);
        }
    twill__shutdown_bells_end(shutdown);
    TWILL_FREE(((void **)(void *)shutdown)[-1]);
}

/* Ends both threads. Says whether the watcher has told anybody of a request; from here on it tells
   nobody. */
static inline bool twill__shutdown_join(twill_shutdown *shutdown, bool watcher)
{
    twill__runner *runner;
    bool told;
    twill__lock(&shutdown->lock);
    shutdown->quit = true;
    told = shutdown->told != TWILL_SHUTDOWN_RUNNING;
    twill__shutdown_rouse(shutdown);
    twill__shutdown_unlock(shutdown);
    twill__bell_ring(&shutdown->bell);
    if (watcher)
        twill__thread_join(&shutdown->watcher);
    runner = shutdown->runner; /* nobody is left who changes it */
    if (runner) {
        twill__thread_join(&runner->thread);
        twill_cancel_detach(&runner->token);
        TWILL_FREE(runner);
    }
    shutdown->runner = NULL;
    return told;
}

/* A signal that came, and that nobody was told of: for whoever is there now. */
static inline void twill__shutdown_pass_on(int32_t asked)
{
#if TWILL__SIGNALS
    if (asked < 0)
        raise(-asked);
#else
    (void)asked;
#endif
}

static inline twill_status twill__shutdown_start(twill_shutdown *shutdown,
                                                 const twill_shutdown *parent)
{
    twill_status status = twill__runner_start(shutdown);
    bool watched;
    if (status != TWILL_OK)
        return status;
    twill__lock(&shutdown->lock); /* the watcher lets no signal in before it is handled */
    watched = twill__shutdown_thread(&shutdown->watcher, twill__shutdown_watch, shutdown,
                                     "twill-shutdown");
    if (!watched)
        status = TWILL_NO_THREAD;
#if TWILL__SIGNALS
    if (watched && shutdown->owner) {
        twill__owner_publish(shutdown); /* before the handler: it finds all it needs */
        if (!twill__shutdown_install(shutdown, parent)) {
            twill__owner_publish(NULL);
            status = TWILL_INVALID; /* a number that the system does not let us have */
        }
    }
#else
    (void)parent;
#endif
    shutdown->quit = status != TWILL_OK;
    twill__shutdown_unlock(shutdown);
    if (status != TWILL_OK)
        (void)twill__shutdown_join(shutdown, watched);
    return status;
}

TWILL__DEFINE twill_status twill_shutdown_create(twill_shutdown **out,
                                                 const twill_shutdown_options *given)
{
    static const twill_shutdown_options none;
    twill_shutdown_options options = given ? *given : none;
    uint8_t kind[TWILL__SIGNAL_COUNT] = {0};
    twill_shutdown *shutdown, *parent = NULL;
    int32_t asked;
    bool owner = !options.no_signals;
    twill_status status = TWILL_FAILED;
    if (!out)
        return TWILL_INVALID;
    *out = NULL;
    if (!twill__shutdown_plan(&options) || !twill__shutdown_kinds(kind, &options))
        return TWILL_INVALID;
    if (owner && !TWILL__SIGNALS)
        return TWILL_FAILED;
#if TWILL__SIGNALS
    if (owner) {
        void *claimed = NULL;
        if (!twill__owner_claim(&claimed))
            return TWILL_BUSY;
        parent = (twill_shutdown *)claimed;
        twill__owner_publish(NULL);
    }
#endif
    shutdown = twill__shutdown_make(&options);
    if (!shutdown) {
        status = TWILL_NO_MEMORY;
    } else if (twill__shutdown_bells(shutdown)) {
        shutdown->owner = owner;
        memcpy(shutdown->kind, kind, sizeof kind);
        status = twill__shutdown_start(shutdown, parent);
        if (status == TWILL_OK) {
            *out = shutdown;
            return TWILL_OK;
        }
    }
#if TWILL__SIGNALS
    if (owner)
        twill__owner_leave(); /* and no handler uses the object any more */
#endif
    asked = shutdown ? twill__shutdown_asked(shutdown) : 0;
    if (shutdown && status != TWILL_FAILED)
        twill__shutdown_bells_end(shutdown);
    if (shutdown)
        TWILL_FREE(((void **)(void *)shutdown)[-1]);
    twill__shutdown_pass_on(asked);
    return status;
}

/* ---- destroy ---- */

/* In a child: its threads are not here; whatever they guarded is not looked at. */
static inline void twill__shutdown_destroy_copy(twill_shutdown *shutdown)
{
#if TWILL__SIGNALS
    if (shutdown->owner && twill__owner_forget(shutdown))
        twill__shutdown_restore(shutdown);
#endif
    if (shutdown->runner)
        TWILL_FREE(shutdown->runner);
    twill__shutdown_free(shutdown);
}

TWILL__DEFINE twill_status twill_shutdown_destroy(twill_shutdown *shutdown)
{
    bool busy, told;
    int32_t asked;
    if (!shutdown)
        return TWILL_OK;
    if (!twill__shutdown_here(shutdown)) {
        twill__shutdown_destroy_copy(shutdown);
        return TWILL_FORKED;
    }
    if (twill__shutdown_inside(shutdown))
        return TWILL_DEADLOCK;
    twill__lock(&shutdown->lock);
    busy = shutdown->finishing || shutdown->closed;
    if (!busy) {
        shutdown->closed = true;
        twill__answer_all(&shutdown->waiters, TWILL_CLOSED);
    }
    twill__shutdown_unlock(shutdown);
    if (busy)
        return TWILL_BUSY;
    /* first: a handler that has begun in the watcher finds the object still */
    told = twill__shutdown_join(shutdown, true);
#if TWILL__SIGNALS
    if (shutdown->owner) {
        twill__shutdown_restore(shutdown);
        twill__owner_leave();
    }
#endif
    /* relaxed: see twill__shutdown_answer */
    told |= atomic_load_explicit(&shutdown->seen, memory_order_relaxed) != 0;
    asked = twill__shutdown_asked(shutdown);
    twill__lock(&shutdown->lock);
    if (shutdown->waiters.first || shutdown->firing || twill__lock_wanted(&shutdown->lock)) {
        twill__node me;
        twill__node_init(&me);
        shutdown->destroyer = &me;
        twill__unlock(&shutdown->lock);
        twill__await(&me);
        twill__lock(&shutdown->lock); /* whoever told us has left the section now */
    }
    twill__unlock(&shutdown->lock);
    twill_cancel_detach(&shutdown->cancel_token);
    twill_cancel_detach(&shutdown->drain_token);
    twill__shutdown_free(shutdown);
    twill__shutdown_pass_on(told ? 0 : asked);
    return TWILL_OK;
}

#endif

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

/*
twill is available under either of two licences: take the one that you prefer.

------------------------------------------------------------------------------
ALTERNATIVE A - MIT License

Copyright (c) 2026 the twill authors

Permission is hereby granted, free of charge, to any person obtaining a copy of
this software and associated documentation files (the "Software"), to deal in
the Software without restriction, including without limitation the rights to
use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies
of the Software, and to permit persons to whom the Software is furnished to do
so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.

------------------------------------------------------------------------------
ALTERNATIVE B - Public Domain (www.unlicense.org)

This is free and unencumbered software released into the public domain.

Anyone is free to copy, modify, publish, use, compile, sell, or distribute this
software, either in source code form or as a compiled binary, for any purpose,
commercial or non-commercial, and by any means.

In jurisdictions that recognize copyright laws, the author or authors of this
software dedicate any and all copyright interest in the software to the public
domain. We make this dedication for the benefit of the public at large and to
the detriment of our heirs and successors. We intend this dedication to be an
overt act of relinquishment in perpetuity of all present and future rights to
this software under copyright law.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN
ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION
WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.

For more information, please refer to <https://unlicense.org/>
*/
