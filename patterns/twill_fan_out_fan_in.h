/* twill_fan_out_fan_in.h - twill 0.1.0 - SPDX-License-Identifier: MIT OR Unlicense (text at the end)
   GENERATED from patterns/src/fan_out_fan_in.h and its parts. Do not edit it here: edit there, then `make headers`. */

/* twill: fan_out_fan_in - start many independent tasks, and take each outcome as it arrives.
   SPDX-License-Identifier: MIT OR Unlicense
   Build: cc -std=c11 -pthread. In one .c file: #define TWILL_IMPLEMENTATION before the include.

WHEN TO USE IT
    Each of many tasks gives a result of its own, at a time of its own, and one thread folds them
    into one answer: a total, a page, the first that works, the first three that agree. Outcomes
    come in the order in which tasks end, each exactly once, with its index and key; the code that
    folds them runs on one thread and needs no lock. The same for an endless source, with a bounded
    window.
WHEN NOT
    Results go to their own places in an array: parallel_map. Items flow through several stages:
    pipeline. Nobody waits for the result: worker_pool.

EXAMPLE:
#include <stdio.h>

#define TWILL_IMPLEMENTATION
#include "twill_fan_out_fan_in.h"

static int squares_below(const void *in, void *out, const twill_task *task)
{
    long n = *(const long *)in, sum = 0;
    (void)task;
    for (long i = 0; i < n; i++)
        sum += i * i;
    *(long *)out = sum;
    return n == 300;                            // not 0: this one has failed
}

static int add_up(const void *result, const twill_outcome *outcome, const twill_task *task)
{
    if (outcome->status == TWILL_OK)            // result is NULL otherwise
        *(long *)task->context += *(const long *)result;
    return 0;
}

int main(void)
{
    long n[4] = {100, 200, 300, 400}, total = 0;
    twill_report report;
    twill_status status = twill_fan_out_fan_in(n, sizeof *n, 4, squares_below, sizeof(long), add_up,
        &(twill_fan_options){ .run.workers = 2, .run.context = &total, .run.report = &report });
    printf("%s, item %zu: code %d; %zu others: %ld\n", twill_status_name(status),
           report.first_error.index, report.first_error.code, report.done, total);
    return 0;
}
END OF EXAMPLE
OUTPUT:
TWILL_FAILED, item 2: code 1; 3 others: 24228450
END OF OUTPUT

OPTIONS (twill_fan_options; NULL or zeroed: all outcomes, in the order in which tasks end)
    run             workers: tasks at once, on threads of the fan's own (started at create) or on
                    run.pool; 0: the pool's, those of the call around it, or the CPUs. For waiting
                    work (network, disk) more than the CPUs. The calling thread collects and is not
                    counted; it runs tasks itself only where nobody else may: no thread could be
                    started (DEGRADED), it is itself a thread of that pool, or none of these has
                    come for 1 ms (all may wait for it; not with max_abandoned).
                    until ends the fan as a whole. on_error 0: COLLECT; ALL_OK: LOWEST. statuses and
                    codes [n]: twill_fan_out_fan_in only, else INVALID
    goal            ALL        every outcome. FAILED if any failed, the lowest index first
                    ALL_OK     the first failure cancels those above it, those below still run, so
                               the error is the same in every run; aggregate is called only when all
                               are in, and not at all unless all succeeded (all up to the first
                               twill_task_stop, if one says it). Not with a stream
                    FIRST_OK   the first success cancels the rest; failures end no race
                    QUORUM     `quorum` successes; ends early also when they are out of reach: after
                               close with what is in flight, whatever tasks might still go
                    ENOUGH     `enough`, asked after each outcome by the thread that took it
                    A goal that is met: OK, failures stay in the report. Not met: FAILED
    quorum, enough  with those goals, and only with them
    ordered         index order: an outcome is kept back until the lower ones are out
    result_size     bytes of a task's result; the object only (the calls have a parameter)
    in_flight       tasks queued or running, exact, but for those that a task runs inside it (see
                    NESTED); 0: twice the workers. go waits for room
    max_unread      outcomes not yet taken; 0: 65536, in the calls 1024. With that many a go is
                    refused; in the calls nothing more is started. Bounds the memory: it does not
                    grow with n
    timeout         of each task, from its start. Its token fires, its outcome is TIMEOUT, a success
                    that comes later goes to `discard`. Seen at once by whoever waits in next, or by
                    an idle worker. 0: none
    max_abandoned   0: structured, all that run are waited for. Else up to so many may be left
                    behind: a task over its timeout is answered at once although it still runs; at
                    the end of the fan (deadline, goal met, destroy) those that still run are LOST.
                    More than so many are waited for until they are that few. Not 0: a
                    twill_cancel_request on run.until's token is seen by twill_task_cancelled alone
    drop            accepted, and never ran: CANCELLED or TIMEOUT. Exactly one of {task, drop}
    discard         a success that nobody will take: late, after the goal, or unread at destroy
    notify          the object only: "try_next would give something", an outcome or CLOSED, where
                    there was nothing. From the thread that made it so (also one that fires the
                    token of run.until: there it must return, as a hook; at a deadline an idle
                    worker); short; it may write to an eventfd. Read until EMPTY

ERRORS
    calls           OK; FAILED: a task, aggregate or pull failed (report.first_error: which), or the
                    goal was not met; CANCELLED, TIMEOUT: run.until was over before all had run.
                    FORKED: a callback forked, and this is the child. Refusals (nothing ran): as
                    those of create
    go              OK; CLOSED: after close (but from the fan's own tasks while any is in flight),
                    cancel, or the end by goal or error; CANCELLED, TIMEOUT: run.until is over, or
                    the wait; FULL: max_unread (but go_until), or the window (try; and in notify, or
                    on another thread of a task, where nothing can run inside); NO_MEMORY. Not OK:
                    arg stays the caller's
    next            OK: an outcome, whatever it is; CLOSED: no more will come; EMPTY (try);
                    CANCELLED, TIMEOUT: the wait, and nothing is lost. DEADLOCK: closed, and all
                    that is in flight waits in next
    outcome.status  OK; FAILED: outcome.code is what the task returned; TIMEOUT; CANCELLED: it never
                    ran, or said twill_task_skip; LOST: it ended its thread, or was left behind
    TWILL_INVALID   NULL where something is needed; an option that makes no sense. TOO_BIG: sizes
    stop, destroy   DEADLOCK from a callback of the fan; stop: TIMEOUT, CANCELLED: some are stuck
    In the report a task that had started and ended with TIMEOUT or LOST counts failed, one that
    never started skipped. done + failed + skipped == total, always.

THREADS      All functions by any thread, also by the fan's own tasks; destroy last.
NESTED       go and try_go from a task at a full window run the new task at once, inside it (FULL,
             if ordered has no place for its outcome). next inside a task runs queued tasks of this
             fan meanwhile, no others. A pool of one is enough. A call inside a call takes the
             threads of that, if run.workers is 0; with max_abandoned, since what it leaves behind
             may outlive that, threads of its own, or run.pool.
ORDERING     go, then the task, then next or aggregate: aggregate may use plain variables.
BLOCKS       next, go, the calls, stop, destroy. No user code runs under a lock.
ALLOCATES    One block at create or at the call; records of tasks later, 32 at first and then as
             many as there are, never more than in_flight + max_unread (+ max_abandoned), and one
             for each thread that is just giving one back. They are used again, and freed at the
             end. ALL_OK takes all n before the start.
OWNERSHIP    arg is the task's from OK of go on; the result is copied out by next, zeroes unless the
             outcome is OK. Items of an array stay where they are, but with max_abandoned the fan
             has copies, since a task may outlive the call. What is left behind keeps the fan's
             block, a worker each and one thread that waits for them, and on a pool the pool.
COSTS        One lock, taken twice a task, and once by each go and next; 256 bytes a record, with an
             item and a result of 8 bytes each, or a result of 16. A worker takes several tasks of
             less than 5 us at a time, and the lock once for all of them, if no outcome decides
             anything (ALL, COLLECT, no timeout, notify or max_abandoned, not ordered, 16 workers
             at most); who sleeps may see their outcomes up to 0.1 ms later, in the order of their
             ends. The larger in_flight is, the more it takes. A call over an array then has up to
             half of its records in its block (128 KB a worker at most).
FORK         In the child: FORKED; destroy frees. Calls made there work. Only a task may return in a
             child: drop, discard, notify and enough, if they fork, let it exec or _exit.
PITFALLS     A task left behind must not touch what its caller owns: give it an item, a result, and
             nothing else. Without `drop` and `discard` what arg and results own leaks. A straggler
             keeps its worker: leave room in run.workers. worker_stop of a worker that was left
             behind runs when it returns. */
#ifndef TWILL_FAN_OUT_FAN_IN_H
#define TWILL_FAN_OUT_FAN_IN_H

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

typedef enum twill_fan_goal {
    TWILL_FAN_ALL = 0,  /* every outcome; a failure stops nothing (but by run.on_error) */
    TWILL_FAN_ALL_OK,   /* the first failure cancels the rest */
    TWILL_FAN_FIRST_OK, /* a race: the first success cancels the rest */
    TWILL_FAN_QUORUM,   /* `quorum` successes; ends when they are in, or out of reach */
    TWILL_FAN_ENOUGH    /* `enough` decides after each outcome */
} twill_fan_goal;

typedef struct twill_fan_options { /* see OPTIONS above */
    twill_run run;
    twill_fan_goal goal;
    size_t quorum;
    bool (*enough)(const twill_outcome *outcome, const void *result, const twill_task *task);
    bool ordered;
    size_t result_size;
    size_t in_flight;
    size_t max_unread;
    twill_ns timeout;
    size_t max_abandoned;
    twill_drop_fn *drop;
    twill_discard_fn *discard;
    void (*notify)(const twill_task *task);
} twill_fan_options;

/* ---- one call ---- */

/* On the calling thread, one at a time. result: NULL unless the outcome is TWILL_OK. Not 0, or
   twill_task_stop: the rest is told, and not aggregated. */
typedef int twill_aggregate_fn(const void *result, const twill_outcome *outcome,
                               const twill_task *task);
/* Writes the next item; at the end: return twill_task_stop(task). */
typedef int twill_pull_fn(void *item, const twill_task *task);

/* Runs `process` on each of n items, on run.workers threads, and `aggregate` (may be NULL) on this
   one, as results arrive. */
TWILL__DECL twill_status twill_fan_out_fan_in(const void *items, size_t item_size, size_t n,
                                              twill_map_fn *process, size_t result_size,
                                              twill_aggregate_fn *aggregate,
                                              const twill_fan_options *options);

/* The same over a source of any length: `pull` runs on the calling thread, too, and is not called
   while the window is full. */
TWILL__DECL twill_status twill_fan_stream(twill_pull_fn *pull, size_t item_size,
                                          twill_map_fn *process, size_t result_size,
                                          twill_aggregate_fn *emit,
                                          const twill_fan_options *options);

/* ---- the object ---- */

typedef struct twill_fan twill_fan;

/* Starts the threads. TWILL_OK: *out is the fan. Else *out is NULL: INVALID, TOO_BIG, NO_MEMORY,
   NO_THREAD (run.strict), CLOSED (the pool), FORKED. */
TWILL__DECL twill_status twill_fan_create(twill_fan **out, const twill_fan_options *options);

/* One task more: fn(arg, result, task) on a worker. key comes back in the outcome, beside the
   index, which counts accepted tasks. go waits for room in the window; try_go never waits; go_until
   waits for readers, too. */
TWILL__DECL twill_status twill_fan_go(twill_fan *fan, twill_task_fn *fn, void *arg, void *key);
TWILL__DECL twill_status twill_fan_try_go(twill_fan *fan, twill_task_fn *fn, void *arg, void *key);
TWILL__DECL twill_status twill_fan_go_until(twill_fan *fan, twill_task_fn *fn, void *arg, void *key,
                                            twill_until until);

/* No more go; after the last outcome next says CLOSED. A second one: CLOSED. */
TWILL__DECL twill_status twill_fan_close(twill_fan *fan);

/* The next outcome: each accepted task exactly once. result: result_size bytes, or NULL. */
TWILL__DECL twill_status twill_fan_next(twill_fan *fan, void *result, twill_outcome *outcome);
TWILL__DECL twill_status twill_fan_try_next(twill_fan *fan, void *result, twill_outcome *outcome);
TWILL__DECL twill_status twill_fan_next_until(twill_fan *fan, void *result, twill_outcome *outcome,
                                              twill_until until);

/* Closes, drops what is queued, tells what runs; all of it still comes out of next. A second one:
   CLOSED. */
TWILL__DECL twill_status twill_fan_cancel(twill_fan *fan);

/* In two phases: closes, waits for what is in flight until `drain`; then cancels, and waits until
   `join`. *out (may be NULL): what ended by itself, what was cancelled, what still runs. Outcomes
   stay to be read. */
TWILL__DECL twill_status twill_fan_stop(twill_fan *fan, twill_until drain, twill_until join,
                                        twill_stopped *out);

/* Cancels what is left, waits, gives unread successes to `discard`, fills run.report, frees. Calls
   that wait inside are answered first. NULL: TWILL_OK. */
TWILL__DECL twill_status twill_fan_destroy(twill_fan *fan);

/* accepted == done + failed + skipped + queued + running. abandoned: running, with their outcome
   given; records: as much memory as was needed at once. */
typedef struct twill_fan_stats {
    size_t accepted, done, failed, skipped;
    size_t queued, running, unread, abandoned;
    size_t records;
} twill_fan_stats;
/* One moment's figures. NULL or a parent process's fan: zeroes. */
TWILL__DECL void twill_fan_get_stats(twill_fan *fan, twill_fan_stats *out);

#ifdef __cplusplus
}
#endif
#endif


#ifdef TWILL_IMPLEMENTATION
#ifndef TWILL__FAN_OUT_FAN_IN_IMPL
#define TWILL__FAN_OUT_FAN_IN_IMPL

/* ---- fan_out_fan_in/call.h ---- */
/* call.h: one call: the calling thread collects what the workers have done. */
#ifndef TWILL__FAN_CALL_H
#define TWILL__FAN_CALL_H

/* ---- fan_out_fan_in/life.h ---- */
/* life.h: a fan from its options to its report. */
#ifndef TWILL__FAN_LIFE_H
#define TWILL__FAN_LIFE_H

/* ---- fan_out_fan_in/object.h ---- */
/* object.h: go and next, and their waits. */
#ifndef TWILL__FAN_OBJECT_H
#define TWILL__FAN_OBJECT_H

/* ---- fan_out_fan_in/workers.h ---- */
/* workers.h: who runs a fan's tasks. */
#ifndef TWILL__FAN_WORKERS_H
#define TWILL__FAN_WORKERS_H

/* ---- fan_out_fan_in/state.h ---- */
/* state.h: what happens to a fan under its lock: acceptance, outcomes, goals, ends. */
#ifndef TWILL__FAN_STATE_H
#define TWILL__FAN_STATE_H

/* ---- fan_out_fan_in/tasks.h ---- */
/* tasks.h: the records of a fan's tasks, and the fan itself. */
#ifndef TWILL__FAN_TASKS_H
#define TWILL__FAN_TASKS_H

/* ---- engine/crew.h ---- */
/* crew.h: the workers of an object: threads of its own, or those of a pool, who come when there is
   work and leave when there is none. */
#ifndef TWILL__ENGINE_CREW_H
#define TWILL__ENGINE_CREW_H

/* ---- engine/run.h ---- */
/* run.h: a parallel call from its options to its report. Patterns call twill__run_call. */
#ifndef TWILL__ENGINE_RUN_H
#define TWILL__ENGINE_RUN_H

/* ---- engine/team.h ---- */
/* team.h: threads that help calls, and how a call meets them. */
#ifndef TWILL__ENGINE_TEAM_H
#define TWILL__ENGINE_TEAM_H

/* ---- engine/claim.h ---- */
/* claim.h: who runs which items. */
#ifndef TWILL__ENGINE_CLAIM_H
#define TWILL__ENGINE_CLAIM_H

/* ---- engine/job.h ---- */
/* job.h: one parallel call: its workers' slots, what has failed, what need not run any more. */
#ifndef TWILL__ENGINE_JOB_H
#define TWILL__ENGINE_JOB_H

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

struct twill__job;
struct twill__team;
struct twill__seat;

/* Runs the items begin..end-1 that must run, and accounts for each by twill__item_end or
   twill__item_failed. */
typedef void twill__body_fn(struct twill__job *job, twill_task *task, size_t begin, size_t end);

enum { TWILL__SAID_SKIP = 1, TWILL__SAID_STOP = 2 };

/* Work that functions give, instead of ranges of items: see engine/crew.h. */
typedef struct twill__crew_table {
    twill__call_table calls;
    bool (*ready)(void *object);
    void (*work)(void *object, twill_task *task);
    void (*ended)(void *object, twill_task *task);
} twill__crew_table;

/* Why a worker does nothing, or nothing more: told to a pattern whose workers wait for one
   another. */
typedef enum twill__missed {
    TWILL__MISSED_OVER,    /* it found the call stopped */
    TWILL__MISSED_REFUSED, /* its worker_start failed: the number is lost */
    TWILL__MISSED_ENDED    /* a callback ended its thread: both are lost */
} twill__missed;

/* One worker number of one call. */
typedef struct twill__slot {
    /* written by the owner and by thieves */
    _Alignas(TWILL__LINE) _Atomic uint64_t range; /* lo:hi, blocks not begun yet */
    /* first item of the running chunk, SIZE_MAX: none. Goes down only under the token's lock, so
       that a late fire cannot hit a lower item */
    _Atomic size_t begin;
    twill_cancel token; /* task->until.cancel */
    /* written by the owner alone; the caller reads them after the join */
    _Alignas(TWILL__LINE) size_t done;
    size_t failed, skipped, chunks;
    size_t end; /* of the running chunk, or of the part of it that is one callback */
    /* of the running loop: its first item, SIZE_MAX: none; items that ended oddly. Of a chunk that
       is run in such parts: `from` is its end */
    size_t from, odd;
    size_t low; /* lowest failed item, SIZE_MAX: none; its status and code */
    twill_status low_status;
    int low_code;
    size_t fail_index; /* from twill_task_fail; SIZE_MAX: not said */
    bool used, started, refused;
    bool inside;   /* a callback of this call runs now */
    unsigned said; /* by the item: TWILL__SAID_... */
    void *state;
    uint64_t busy; /* ticks */
} twill__slot;

/* twill_schedule's values; checked where the pattern takes them. And FRONT: as AUTO, but from the
   front on, for a search: what lies behind its end need not have been begun. */
typedef enum twill__schedule {
    TWILL__AUTO,
    TWILL__STATIC,
    TWILL__DYNAMIC,
    TWILL__GUIDED,
    TWILL__COST,
    TWILL__FRONT
} twill__schedule;

/* Whether a loop is begun alone and timed, and its chunks made by that. */
static inline bool twill__is_timed(twill__schedule schedule)
{
    return schedule == TWILL__AUTO || schedule == TWILL__FRONT;
}

typedef struct twill__cut { /* COST: items of about equal cost together */
    size_t begin, end;
    uint64_t cost;
} twill__cut;

typedef struct twill__job {
    /* set before helpers can come in, then only read. First what each of them needs at once: every
       line of it must come from the caller's cache, see twill__fetch */
    twill__call call;              /* first: task->private_ points here */
    const twill__crew_table *crew; /* NULL: items; else all but the workers is the object's */
    twill__body_fn *body;
    void *data; /* the pattern's */
    twill__slot *slot;
    /* a bit a number: in use; its slot is made; STATIC: its range is taken; the three arrays stand
       behind one another, in `bits` where that is enough */
    _Atomic uint64_t *taken, *ready;
    size_t n;             /* of this pass */
    size_t start, block;  /* AUTO: the first item of the ranges, items a block */
    size_t kept;          /* so many blocks newcomers leave to the caller; the rest they share */
    size_t chunk, chunk0; /* floor or size asked for; first chunk, in blocks */
    uint64_t tick_rate;   /* see platform/ticks.h; set with the team */
    const twill_run *run;
    unsigned np;         /* worker numbers */
    uint32_t generation; /* of the process in which helpers were called; 0: none were */
    twill__schedule schedule;
    bool whole;   /* a chunk is one callback: never cut into steps */
    bool detail;  /* statuses, codes or errors are wanted */
    bool may_end; /* there is a token or a deadline */
    bool settled; /* it has ended well, and gives a result: what comes now is too late */
    /* what ends it: the run's, or, in a pass after the last item, nothing */
    twill_until until;
    struct twill__team *team;
    struct twill__seat *seat;
    struct twill__job *parent; /* as outer, if it is on the same team */
    void *record;              /* the task of engine/record.h whose callback made it */
    void (*missed)(struct twill__job *job, twill__missed why); /* may be NULL */
    _Atomic uint64_t *ranges;
    twill__cut *cuts;
    size_t cut_count;
    size_t first, unit;       /* place k of the pass: the user's items first + k * unit and on */
    const size_t *starts;     /* or, where units differ: items from starts[k] on; [n + 1] */
    struct twill__job *outer; /* the call whose callback made this one, in the same thread */
    struct twill__team *from; /* the team that this thread belongs to, or NULL */
    twill_on_error policy;
    uint32_t flags;
    /* shared while it runs */
    _Alignas(TWILL__LINE) _Atomic size_t limit; /* items from here on need not run */
    _Atomic size_t stop_at;    /* the last item that the lowest twill_task_stop lets through */
    _Atomic uint32_t stop;     /* the status that ends it all, 0: none */
    _Atomic uint64_t bits[3];  /* one line for all that a newcomer must know */
    _Atomic uint32_t degraded; /* a helper's worker_start failed */
    _Atomic size_t failures;
    twill_item_error earliest; /* in time: written by whoever made `failures` 1 */
    _Atomic uint32_t errors_lock;
    size_t errors_count; /* of run->errors, a heap with the highest index on top */
    _Alignas(TWILL__LINE) _Atomic size_t next; /* DYNAMIC, GUIDED: item; COST: cut */
} twill__job;

static inline uint64_t twill__bit(unsigned worker)
{
    return (uint64_t)1 << worker % 64;
}

static inline unsigned twill__words(unsigned workers)
{
    return (workers + 63) / 64;
}

/* Lowers a word to `to` unless it is lower. */
static inline void twill__lower(_Atomic size_t *word, size_t to)
{
    /* relaxed: a guess for the CAS, or lower: who has lowered it so far tells who must know */
    size_t now = atomic_load_explicit(word, memory_order_relaxed);
    while (to < now && !atomic_compare_exchange_weak_explicit(word, &now, to, memory_order_seq_cst,
                                                              memory_order_relaxed)) {}
}

/* In a child that a callback has forked: helpers, and what they had in hand, stayed with the
   parent. */
static inline bool twill__left_alone(const twill__job *job)
{
    return job->generation && job->generation != twill__generation();
}

/* ---- internal stop ---- */

/* Fires the tokens of workers whose chunk begins at `least` or above. The seq_cst load of begin
   pairs with its store in twill__set_begin: either we see the chunk, or its worker sees the limit
   that was lowered before. */
static inline void twill__fire_from(twill__job *job, size_t least)
{
    for (unsigned word = 0; word < twill__words(job->np); word++) {
        uint64_t bits = atomic_load_explicit(&job->ready[word], memory_order_seq_cst);
        for (; bits; bits &= bits - 1) {
            twill__slot *slot = &job->slot[word * 64 + (unsigned)__builtin_ctzll(bits)];
            size_t begin = atomic_load_explicit(&slot->begin, memory_order_seq_cst);
            if (begin != SIZE_MAX && begin >= least)
                twill__fire(twill__token_of(&slot->token), TWILL_FAILED, &slot->begin, least);
        }
    }
}

static inline void twill__stop_all(twill__job *job, twill_status why, bool tell)
{
    uint32_t none = 0;
    atomic_compare_exchange_strong_explicit(&job->stop, &none, (uint32_t)why, memory_order_seq_cst,
                                            memory_order_seq_cst);
    twill__lower(&job->limit, 0);
    if (tell)
        twill__fire_from(job, 0);
}

static inline size_t twill__place_among(const size_t *starts, size_t n, size_t item)
{
    size_t low = 0;
    while (n - low > 1) { /* exit: the gap shrinks; starts[low] <= item < starts[n] */
        size_t mid = low + (n - low) / 2;
        if (starts[mid] <= item)
            low = mid;
        else
            n = mid;
    }
    return low;
}

/* The place in this pass that the user's item belongs to. */
static inline size_t twill__place_of(const twill__job *job, size_t item)
{
    if (job->starts)
        return twill__place_among(job->starts, job->n, item);
    return item < job->first ? 0
           : job->unit == 1  ? item - job->first
                             : (item - job->first) / job->unit;
}

/* Whether the call is over: told so, token, or deadline (`now` is a recent instant). The user's
   token tells the workers' tokens itself, and the deadline stands in every task. */
static inline bool twill__stopped(twill__job *job, twill_ns now)
{
    const twill_until *until = &job->until;
    /* a hint: data come by the join */
    if (atomic_load_explicit(&job->stop, memory_order_relaxed))
        return true;
    if (until->cancel && twill_cancel_fired(until->cancel))
        twill__stop_all(job, TWILL_CANCELLED, false);
    else if (twill__past(until->deadline, now))
        twill__stop_all(job, TWILL_TIMEOUT, false);
    else
        return false;
    return true;
}

/* Before each item: relaxed, since running an item too many is harmless; exactness comes from
   twill__fire_from. */
static inline bool twill__may_run(const twill__job *job, size_t index)
{
    return index < atomic_load_explicit(&job->limit, memory_order_relaxed);
}

/* ---- errors ---- */

static inline void twill__errors_sift(twill_item_error *heap, size_t count, size_t at)
{
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        twill_item_error moved = heap[at];
        if (child + 1 < count && heap[child + 1].index > heap[child].index)
            child++;
        if (heap[child].index <= moved.index)
            return;
        heap[at] = heap[child];
        heap[child] = moved;
    }
}

/* Keeps the `capacity` lowest errors (not 0): a heap whose top is the highest of those kept. */
static inline void twill__heap_keep(twill_item_error *heap, size_t capacity, size_t *count,
                                    twill_item_error error)
{
    size_t at;
    if (*count < capacity) {
        for (at = (*count)++; at > 0 && heap[(at - 1) / 2].index < error.index; at = (at - 1) / 2)
            heap[at] = heap[(at - 1) / 2];
        heap[at] = error;
    } else if (error.index < heap[0].index) {
        heap[0] = error;
        twill__errors_sift(heap, *count, 0);
    }
}

static inline void twill__heap_sort(twill_item_error *heap, size_t count)
{
    for (; count > 1; count--) {
        twill_item_error top = heap[0];
        heap[0] = heap[count - 1];
        heap[count - 1] = top;
        twill__errors_sift(heap, count - 1, 0);
    }
}

/* Into run->errors. */
static inline void twill__errors_keep(twill__job *job, twill_item_error error)
{
    if (twill__left_alone(job))
        return; /* a forked child: the lock may be a parent thread's for ever */
    twill__lock(&job->errors_lock);
    twill__heap_keep(job->run->errors, job->run->errors_capacity, &job->errors_count, error);
    twill__unlock(&job->errors_lock);
}

static inline void twill__errors_sort(twill__job *job)
{
    twill__heap_sort(job->run->errors, job->errors_count);
}

/* ---- how an item ended ---- */

static inline void twill__item_note(twill__job *job, size_t item, twill_status status, int code)
{
    if (job->run->statuses)
        job->run->statuses[item] = status;
    if (job->run->codes)
        job->run->codes[item] = code;
}

/* `at`: the place in this pass, in units of job->n; `item`: the user's index (the same, but for
   patterns that pass over blocks). */
static inline void twill__item_failed(twill__job *job, twill__slot *me, size_t at, size_t item,
                                      twill_status status, int code)
{
    twill_item_error error = {item, status, code};
    size_t before, most = job->run->max_errors ? job->run->max_errors : 1;
    me->failed++;
    me->said = 0;
    if (item < me->low) {
        me->low = item;
        me->low_status = status;
        me->low_code = code;
    }
    if (job->detail) {
        twill__item_note(job, item, status, code);
        if (job->run->errors_capacity)
            twill__errors_keep(job, error);
    }
    if (job->policy == TWILL_ON_ERROR_COLLECT)
        return;
    if (job->policy == TWILL_ON_ERROR_LOWEST) {
        twill__lower(&job->limit, at);
        twill__fire_from(job, at + 1);
        return;
    }
    /* told to give up by a stop below: it counts, and no more. relaxed: who was told, by the token
       or by the limit, acquired what was stored before */
    if (item >= atomic_load_explicit(&job->stop_at, memory_order_relaxed))
        return;
    before = atomic_fetch_add_explicit(&job->failures, 1, memory_order_seq_cst);
    if (before == 0)
        job->earliest = error;
    if (before + 1 >= (job->policy == TWILL_ON_ERROR_FIRST ? 1 : most))
        twill__stop_all(job, TWILL_FAILED, true);
}

static inline void twill__item_end(twill__job *job, twill__slot *me, size_t item, int code)
{
    if (code) {
        twill__item_failed(job, me, item, item, TWILL_FAILED, code);
    } else if (me->said & TWILL__SAID_SKIP) {
        me->said = 0;
        me->skipped++;
        if (job->detail)
            twill__item_note(job, item, TWILL_CANCELLED, 0);
    } else {
        me->said = 0;
        me->done++;
        if (job->detail)
            twill__item_note(job, item, TWILL_OK, 0);
    }
}

/* A loop over items, one callback each. It looks round before each item, or, while items are so
   quick that a look would cost more than they do, before each eighth or 64th, or, while the caller
   is alone and only its items can end the call, once; and it counts its items once, at the end:

       size_t i = twill__loop_begin(&loop, job, me, begin, end), look;
       while ((look = twill__loop_look(&loop, i, end)) > i) {
           do
               code = callback..., i++;
           while (!twill__loop_odd(me, code) && i < look);
           if (!twill__loop_goes_on(&loop, i - 1, code))
               end = i;
       }
       twill__loop_end(me, i); */
typedef struct twill__loop {
    twill__job *job;
    twill__slot *me;
    size_t step;
    twill_ns at; /* the last look at the clock */
    bool detail;
} twill__loop;

/* Where nobody asks for a certain size, many items are a chunk that lasts 10 us: each is quick. */
static inline size_t twill__loop_step(const twill__job *job, size_t items)
{
    if (job->may_end)
        return 1;
    if (!job->generation)
        return SIZE_MAX;
    if (items >= 1024 && twill__is_timed(job->schedule) && !job->chunk)
        return 64;
    return items >= 64 ? 8 : 1;
}

static inline size_t twill__loop_begin(twill__loop *loop, twill__job *job, twill__slot *me,
                                       size_t begin, size_t end)
{
    loop->job = job;
    loop->me = me;
    loop->detail = job->detail;
    loop->step = twill__loop_step(job, end - begin);
    loop->at = 0;
    me->from = begin;
    me->odd = 0;
    me->said = 0;
    return begin;
}

/* How far to run from item i on; i: no further. */
static inline size_t twill__loop_look(twill__loop *loop, size_t i, size_t end)
{
    twill__job *job = loop->job;
    if (i >= end || !twill__may_run(job, i))
        return i;
    if (job->may_end) {
        twill_ns now = 0;
        if (!twill__no_deadline(job->until.deadline)) {
            now = twill__clock_now();
            /* one quick item says little about the next ones */
            loop->step = !loop->at || now - loop->at >= (twill_ns)loop->step * 200 ? 1
                         : loop->step < 8                                          ? loop->step * 2
                                                                                   : 8;
            loop->at = now;
        }
        if (job->until.cancel)
            loop->step = 1;
        if (twill__stopped(job, now))
            return i;
    }
    if (loop->detail) /* each is noted */
        return i + 1;
    return end - i < loop->step ? end : i + loop->step;
}

/* Whether an item ended in another way than most. */
static inline bool twill__loop_odd(const twill__slot *me, int code)
{
    return ((unsigned)code | me->said) != 0; /* one branch an item */
}

static __attribute__((noinline)) bool twill__loop_note(twill__loop *loop, size_t item, int code)
{
    loop->me->odd++;
    twill__item_end(loop->job, loop->me, item, code);
    return twill__may_run(loop->job, item + 1);
}

/* After an item that was odd, or the last one before the next look. False: the item after this one
   must not run any more. */
static inline bool twill__loop_goes_on(twill__loop *loop, size_t item, int code)
{
    return !(twill__loop_odd(loop->me, code) || loop->detail) || twill__loop_note(loop, item, code);
}

/* `to`: the first item that did not run. */
static inline void twill__loop_end(twill__slot *me, size_t to)
{
    me->done += to - me->from - me->odd;
    me->from = SIZE_MAX;
}

/* Apart, since almost every range just ends well. */
static __attribute__((noinline)) void twill__range_odd(twill__job *job, twill__slot *me, size_t at,
                                                       size_t begin, size_t end, int code)
{
    size_t failed = me->fail_index;
    if (code) {
        if (failed < begin || failed >= end)
            failed = begin;
        me->done += failed - begin;
        if (job->detail)
            for (size_t i = begin; i < failed; i++)
                twill__item_note(job, i, TWILL_OK, 0);
        twill__item_failed(job, me, at == SIZE_MAX ? failed : at, failed, TWILL_FAILED, code);
    } else {
        twill_status status = me->said & TWILL__SAID_SKIP ? TWILL_CANCELLED : TWILL_OK;
        me->said = 0;
        if (status == TWILL_OK)
            me->done += end - begin;
        else
            me->skipped += end - begin;
        if (job->detail)
            for (size_t i = begin; i < end; i++)
                twill__item_note(job, i, status, 0);
    }
}

/* A callback for the items begin..end-1 together has returned `code`. `at`: its place in the pass,
   SIZE_MAX: the pass counts items too. */
static inline void twill__range_end(twill__job *job, twill__slot *me, size_t at, size_t begin,
                                    size_t end, int code)
{
    if (code || me->said || job->detail)
        twill__range_odd(job, me, at, begin, end, code);
    else
        me->done += end - begin;
    me->fail_index = SIZE_MAX;
}

/* ---- what callbacks say ---- */

static inline bool twill__job_cancelled(const twill_task *task)
{
    const twill__job *job = (const twill__job *)task->private_;
    /* relaxed: an answer a moment later is as good. acquire: whoever gives up because of a stop
       sees where that was: see twill__item_failed */
    return atomic_load_explicit(&job->stop, memory_order_relaxed) ||
           twill__place_of(job, task->index) >
               atomic_load_explicit(&job->limit, memory_order_acquire);
}

/* The last item of the callback that runs for `index`: a stop takes effect behind it. */
static inline size_t twill__last_with(const twill__job *job, unsigned worker, size_t index)
{
    size_t place = twill__place_of(job, index), begin = job->first + place * job->unit;
    if (job->whole)
        return job->slot[worker].end - 1;
    if (job->starts)
        return job->starts[place + 1] - 1;
    return job->unit < SIZE_MAX - begin ? begin + (job->unit - 1) : SIZE_MAX - 1;
}

static inline void twill__job_stop_at(const twill_task *task, size_t last)
{
    twill__job *job = (twill__job *)task->private_;
    TWILL_ASSERT(task->worker < job->np); /* here and below: see twill__task_init */
    job->slot[task->worker].said |= TWILL__SAID_STOP;
    twill__lower(&job->stop_at, last);
    twill__lower(&job->limit, twill__place_of(job, task->index));
    twill__fire_from(job, twill__place_of(job, task->index) + 1);
}

static inline void twill__job_stop(const twill_task *task)
{
    if (task->index != SIZE_MAX)
        twill__job_stop_at(
            task, twill__last_with((const twill__job *)task->private_, task->worker, task->index));
}

static inline void twill__job_skip(const twill_task *task)
{
    twill__job *job = (twill__job *)task->private_;
    TWILL_ASSERT(task->worker < job->np);
    job->slot[task->worker].said |= TWILL__SAID_SKIP;
}

static inline void twill__job_fail(const twill_task *task, size_t index)
{
    twill__job *job = (twill__job *)task->private_;
    TWILL_ASSERT(task->worker < job->np);
    job->slot[task->worker].fail_index = index;
}

static inline const twill__call_table *twill__job_table(void)
{
    static const twill__call_table table = {twill__job_cancelled, twill__job_stop, twill__job_skip,
                                            twill__job_fail, NULL};
    return &table;
}

/* ---- worker numbers ---- */

/* Field by field: a memset of two lines costs more than a tiny call may. always_inline: of a slot
   whose place it knows the compiler sets several at once. */
static inline __attribute__((always_inline)) void twill__slot_reset(twill__slot *slot,
                                                                    twill__token *parent)
{
    twill__token *token = twill__token_of(&slot->token);
    atomic_init(&slot->range, 0);
    atomic_init(&slot->begin, SIZE_MAX);
    token->parent = parent;
    token->head.link = NULL;
    token->firing = NULL;
    atomic_init(&token->me.linked, 0);
    atomic_init(&token->lock, 0);
    atomic_init(&token->state, 0);
    atomic_init(&token->generation, 0);
    slot->done = slot->failed = slot->skipped = slot->chunks = 0;
    slot->low = slot->fail_index = slot->from = SIZE_MAX;
    slot->used = slot->started = slot->refused = slot->inside = false;
    slot->said = 0;
    slot->state = NULL;
    slot->busy = 0;
}

static inline void twill__slot_init(twill__job *job, unsigned worker)
{
    twill__slot_reset(&job->slot[worker], twill__token_of(job->run->until.cancel));
}

static inline void twill__task_init(twill__job *job, unsigned worker, twill_task *task)
{
    task->index = SIZE_MAX;
    task->context = job->run->context;
    task->worker = worker;
    task->workers = job->np;
    task->worker_state = job->slot[worker].state;
    task->until.deadline = job->run->until.deadline;
    task->until.cancel = &job->slot[worker].token;
    task->private_ = job;
}

/* Makes the token ready for another chunk: under its lock, so that a fire meant for the last one
   cannot come late. */
static inline void twill__renew(twill__slot *slot, size_t begin)
{
    twill__token *token = twill__token_of(&slot->token);
    twill__token_lock(token);
    atomic_store_explicit(&slot->begin, begin, memory_order_seq_cst);
    /* under the lock that fire takes */
    atomic_store_explicit(&token->state, 0, memory_order_relaxed);
    twill__unlock(&token->lock);
}

static inline bool twill__take_bit(_Atomic uint64_t *words, unsigned worker)
{
    return !(
        atomic_fetch_or_explicit(&words[worker / 64], twill__bit(worker), memory_order_seq_cst) &
        twill__bit(worker));
}

static inline bool twill__number_free(const twill__job *job)
{
    for (unsigned worker = 0; worker < job->np; worker += 64) {
        uint64_t all = job->np - worker >= 64 ? UINT64_MAX : twill__bit(job->np) - 1;
        if (~atomic_load_explicit(&job->taken[worker / 64], memory_order_seq_cst) & all)
            return true;
    }
    return false;
}

/* A free number, `prefer` if it can be had. UINT_MAX: none. */
static inline unsigned twill__take_number(twill__job *job, unsigned prefer)
{
    unsigned worker = prefer;
    if (prefer >= job->np || !twill__take_bit(job->taken, prefer)) {
        for (worker = 0; worker < job->np; worker++)
            if (!(atomic_load_explicit(&job->taken[worker / 64], memory_order_relaxed) &
                  twill__bit(worker)) &&
                /* the relaxed load spares RMWs that would fail */
                twill__take_bit(job->taken, worker))
                break;
        if (worker == job->np)
            return UINT_MAX;
    }
    /* relaxed: who has the number alone sets its bit; `taken`, by which it came, orders it */
    if (atomic_load_explicit(&job->ready[worker / 64], memory_order_relaxed) & twill__bit(worker)) {
        twill__renew(&job->slot[worker], SIZE_MAX); /* the number was another thread's */
    } else {
        twill__slot_init(job, worker);
        atomic_fetch_or_explicit(&job->ready[worker / 64], twill__bit(worker),
                                 memory_order_seq_cst);
    }
    return worker;
}

static inline void twill__give_number(twill__job *job, unsigned worker)
{
    atomic_store_explicit(&job->slot[worker].begin, SIZE_MAX, memory_order_seq_cst);
    atomic_fetch_and_explicit(&job->taken[worker / 64], ~twill__bit(worker), memory_order_seq_cst);
}

#endif

/* AUTO keeps one contiguous range a worker, packed lo:hi in a 64-bit word, in blocks counted from
   job->start. The owner takes chunks from the front, whoever has nothing takes the back half of the
   largest range. The caller begins with all of it; helpers split it as they come in, so one that
   never comes costs nothing. Sources: lazy range splitting, after A. Tzannes et al., "Lazy
   Binary-Splitting" (PPoPP 2010); chunks sized by time. */

#define TWILL__CHUNK_NS 10000 /* of a chunk: a look at the ticks and a few RMWs vanish in it */
#define TWILL__FIRST_NS 600   /* of the caller's first one: until then a thread that spins is in */
#define TWILL__CRUMBS   8     /* a chunk is worth so many of what is not worth halving */

typedef struct twill__pace { /* of one thread in one call */
    size_t chunk, least;     /* next chunk, smallest chunk; in blocks */
    uint64_t goal;           /* what a chunk should last, in ticks */
    uint64_t at, since;      /* the last look at the ticks; the first */
    bool timed;              /* it looks at them */
} twill__pace;

static inline uint64_t twill__pack(uint64_t lo, uint64_t hi)
{
    return lo << 32 | hi;
}

static inline uint64_t twill__lo(uint64_t range)
{
    return range >> 32;
}

static inline uint64_t twill__hi(uint64_t range)
{
    return range & 0xffffffffu;
}

/* The first item of a block; saturates at n. */
static inline size_t twill__item_of(const twill__job *job, uint64_t block)
{
    size_t left = job->n - job->start;
    if (job->block > 1) /* else a division spared */
        left /= job->block;
    return block > left ? job->n : job->start + (size_t)block * job->block;
}

/* The other way round: how many blocks so many items are, rounded up. */
static inline size_t twill__blocks_of(const twill__job *job, size_t items)
{
    return job->block == 1 ? items : items / job->block + (items % job->block != 0);
}

/* Whether the range holds items that must run. */
static inline bool twill__range_wanted(const twill__job *job, uint64_t range)
{
    return twill__lo(range) < twill__hi(range) &&
           twill__may_run(job, twill__item_of(job, twill__lo(range)));
}

/* STATIC: where the part of a worker begins: equal parts, the first n % w of them one longer. */
static inline size_t twill__share(const twill__job *job, unsigned worker)
{
    size_t each = job->n / job->np, more = job->n % job->np;
    return each * worker + (worker < more ? worker : more);
}

/* ---- is there work? ---- */

static inline bool twill__has_work(twill__job *job)
{
    if (job->crew)
        return job->crew->ready(job->data);
    if (atomic_load_explicit(&job->stop, memory_order_relaxed)) /* as in twill__stopped */
        return false;
    for (unsigned word = 0; word < twill__words(job->np); word++)
        for (uint64_t bits = atomic_load_explicit(&job->ready[word], memory_order_seq_cst); bits;
             bits &= bits - 1)
            if (twill__range_wanted(
                    job, atomic_load_explicit(
                             &job->slot[word * 64 + (unsigned)__builtin_ctzll(bits)].range,
                             memory_order_seq_cst)))
                return true;
    switch (job->schedule) {
    case TWILL__AUTO:
        return false;
    /* relaxed, from here on: such work is only ever taken; who sees what is gone tries in vain */
    case TWILL__STATIC:
        for (unsigned worker = 0; worker < job->np; worker++)
            if (!(atomic_load_explicit(&job->ranges[worker / 64], memory_order_relaxed) &
                  twill__bit(worker)) &&
                twill__may_run(job, twill__share(job, worker)))
                return true;
        return false;
    case TWILL__DYNAMIC:
    case TWILL__GUIDED:
    case TWILL__FRONT: {
        size_t next = atomic_load_explicit(&job->next, memory_order_relaxed);
        return next < job->n && twill__may_run(job, next);
    }
    case TWILL__COST:
        return atomic_load_explicit(&job->next, memory_order_relaxed) < job->cut_count;
    }
    return false;
}

/* ---- claims ---- */

/* How much of an own range of `left` blocks the next chunk takes: half at most, but for crumbs. */
static inline uint64_t twill__chunk_of(const twill__pace *pace, uint64_t left)
{
    uint64_t half = (left + 1) / 2, chunk = pace->chunk < half ? pace->chunk : half;
    if (chunk >= pace->least)
        return chunk;
    return pace->least < left ? pace->least : left;
}

/* AUTO, and what a thread that ended has left in any schedule: the next chunk of the own range. */
static inline bool twill__claim_own(twill__job *job, twill__slot *me, const twill__pace *pace,
                                    size_t *begin, size_t *end)
{
    /* a guess for the CAS */
    uint64_t range = atomic_load_explicit(&me->range, memory_order_relaxed);
    while (twill__lo(range) < twill__hi(range)) {
        uint64_t lo = twill__lo(range), hi = twill__hi(range);
        uint64_t chunk = twill__chunk_of(pace, hi - lo);
        if (!twill__range_wanted(job, range))
            chunk = hi - lo; /* all of it lies above the limit: drop it in one step */
        /* relaxed: the range carries no data; twill__set_begin orders the claim against a
           failure */
        if (!atomic_compare_exchange_weak_explicit(&me->range, &range, twill__pack(lo + chunk, hi),
                                                   memory_order_relaxed, memory_order_relaxed))
            continue;
        *begin = twill__item_of(job, lo);
        *end = twill__item_of(job, lo + chunk);
        return true;
    }
    return false;
}

static inline bool twill__claim_static(twill__job *job, unsigned worker, size_t *begin, size_t *end)
{
    unsigned k = worker;
    if (!twill__take_bit(job->ranges, worker)) {
        for (k = 0; k < job->np; k++) /* relaxed: it only spares RMWs that would fail */
            if (!(atomic_load_explicit(&job->ranges[k / 64], memory_order_relaxed) &
                  twill__bit(k)) &&
                /* the relaxed load spares RMWs that would fail */
                twill__take_bit(job->ranges, k))
                break;
        if (k == job->np)
            return false;
    }
    *begin = twill__share(job, k);
    *end = twill__share(job, k + 1);
    return *begin < *end;
}

static inline bool twill__claim_next(twill__job *job, const twill__pace *pace, size_t *begin,
                                     size_t *end)
{
    /* a guess for the CAS */
    size_t at = atomic_load_explicit(&job->next, memory_order_relaxed), size, part;
    do {
        /* in index order: all that follows lies above, too */
        if (at >= job->n || !twill__may_run(job, at))
            return false;
        part = (job->n - at) / job->np / 2;
        size = job->schedule == TWILL__FRONT ? pace->least : job->chunk ? job->chunk : 1;
        if (job->schedule == TWILL__FRONT && part > pace->chunk)
            part = pace->chunk;
        if ((job->schedule == TWILL__GUIDED || job->schedule == TWILL__FRONT) && part > size)
            size = part;
        if (size > job->n - at) /* by CAS, so that an n near SIZE_MAX cannot wrap */
            size = job->n - at;
        /* relaxed: as in twill__claim_own */
    } while (!atomic_compare_exchange_weak_explicit(&job->next, &at, at + size,
                                                    memory_order_relaxed, memory_order_relaxed));
    *begin = at;
    *end = at + size;
    return true;
}

static inline bool twill__claim_cut(twill__job *job, size_t *begin, size_t *end)
{
    size_t at = atomic_load_explicit(&job->next, memory_order_relaxed); /* a guess for the CAS */
    while (at < job->cut_count) { /* relaxed: the cuts were written before helpers came in */
        if (!atomic_compare_exchange_weak_explicit(&job->next, &at, at + 1, memory_order_relaxed,
                                                   memory_order_relaxed))
            continue;
        *begin = job->cuts[at].begin;
        *end = job->cuts[at].end;
        return true;
    }
    return false;
}

/* Where a thief cuts a range: in the middle; crumbs it takes whole. A newcomer takes a part of its
   own, if that is still there: in call after call the same items meet the same cache. */
static inline uint64_t twill__split(const twill__job *job, unsigned worker, const twill__slot *me,
                                    const twill__pace *pace, uint64_t range)
{
    uint64_t size = twill__hi(range) - twill__lo(range), home;
    if (size <= 2 * pace->least)
        return twill__lo(range);
    if (!me->used && worker && job->schedule == TWILL__AUTO) {
        uint64_t blocks = twill__blocks_of(job, job->n - job->start);
        home = job->kept + (blocks - job->kept) / (job->np - 1) * (worker - 1);
        if (home > twill__lo(range) && home < twill__hi(range) && twill__hi(range) == blocks)
            return home;
    }
    return twill__lo(range) + size / 2;
}

/* Who has the largest range of all that are wanted, and the range; NULL: there is none. */
static inline twill__slot *twill__largest(const twill__job *job, const twill__slot *me,
                                          uint64_t *range)
{
    twill__slot *victim = NULL;
    uint64_t size = 0;
    for (unsigned word = 0; word < twill__words(job->np); word++)
        for (uint64_t bits = atomic_load_explicit(&job->ready[word], memory_order_seq_cst); bits;
             bits &= bits - 1) {
            twill__slot *slot = &job->slot[word * 64 + (unsigned)__builtin_ctzll(bits)];
            /* a guess for the CAS */
            uint64_t seen = atomic_load_explicit(&slot->range, memory_order_relaxed);
            if (slot != me && twill__range_wanted(job, seen) &&
                twill__hi(seen) - twill__lo(seen) > size) {
                victim = slot;
                *range = seen;
                size = twill__hi(seen) - twill__lo(seen);
            }
        }
    return victim;
}

/* Takes the back part of the largest range. */
static inline bool twill__steal(twill__job *job, unsigned worker, twill__slot *me,
                                const twill__pace *pace)
{
    for (;;) { /* exit: no range left that is wanted; each failed CAS is another's progress */
        uint64_t range = 0, mid;
        twill__slot *victim = twill__largest(job, me, &range);
        if (!victim)
            return false;
        mid = twill__split(job, worker, me, pace, range);
        /* relaxed: as in twill__claim_own */
        if (!atomic_compare_exchange_strong_explicit(&victim->range, &range,
                                                     twill__pack(twill__lo(range), mid),
                                                     memory_order_relaxed, memory_order_relaxed))
            continue;
        /* seq_cst: the thief then looks for sleepers */
        atomic_exchange_explicit(&me->range, twill__pack(mid, twill__hi(range)),
                                 memory_order_seq_cst);
        return true;
    }
}

/* As twill__set_begin, while nobody else can be inside. */
static inline void twill__begin_alone(twill__slot *me, size_t begin)
{
    size_t old = atomic_load_explicit(&me->begin, memory_order_relaxed); /* our own store */
    if (old != SIZE_MAX && begin < old)
        twill__renew(me, begin);
    else /* opening publishes */
        atomic_store_explicit(&me->begin, begin, memory_order_relaxed);
}

/* Tells which chunk runs next. The seq_cst store pairs with the load in twill__fire_from: the
   caller's next step is a seq_cst load of the limit, so a failure below either finds this chunk or
   is seen by it. */
static inline void twill__set_begin(twill__slot *me, size_t begin)
{
    size_t old = atomic_load_explicit(&me->begin, memory_order_relaxed); /* our own store */
    if (old != SIZE_MAX && begin < old)
        twill__renew(me, begin);
    else
        atomic_store_explicit(&me->begin, begin, memory_order_seq_cst);
}

/* ---- pace ---- */

/* The smallest chunk that the user wants, in blocks. */
static inline size_t twill__pace_floor(const twill__job *job)
{
    return job->chunk > 1 && job->schedule == TWILL__AUTO ? (job->chunk - 1) / job->block + 1 : 1;
}

static inline void twill__pace_init(const twill__job *job, twill__pace *pace)
{
    pace->least = twill__pace_floor(job);
    pace->chunk = job->chunk0 > pace->least ? job->chunk0 : pace->least;
    pace->goal = job->tick_rate * TWILL__CHUNK_NS / 1024;
    /* a few blocks are over before it could learn from them */
    pace->timed = job->schedule != TWILL__AUTO || job->n - job->start > 2 || job->run->report;
    pace->at = pace->since = 0;
}

static inline void twill__pace_start(twill__pace *pace)
{
    if (pace->timed)
        pace->at = pace->since = twill__ticks();
}

/* AUTO, before the call is open: the caller gets all there is, and claims its first chunk. */
static inline void twill__claim_first(twill__job *job, const twill__pace *pace, uint64_t blocks,
                                      size_t *begin, size_t *end)
{
    twill__slot *me = &job->slot[0];
    uint64_t chunk = twill__chunk_of(pace, blocks);
    /* opening publishes */
    atomic_store_explicit(&me->range, twill__pack(chunk, blocks), memory_order_relaxed);
    *begin = twill__item_of(job, 0);
    *end = twill__item_of(job, chunk);
    twill__begin_alone(me, *begin);
}

/* After a chunk of `blocks`: the next one shall last TWILL__CHUNK_NS. */
static inline void twill__pace_on(const twill__job *job, twill__pace *pace, size_t blocks)
{
    uint64_t now, took, fit;
    size_t floor = twill__pace_floor(job);
    if (!pace->timed)
        return;
    now = twill__ticks();
    took = now > pace->at ? now - pace->at : 1;
    fit = pace->goal / TWILL__CRUMBS * blocks / took;
    pace->at = now;
    pace->least = fit < 1 ? 1 : fit > 1000000 ? 1000000 : (size_t)fit;
    if (took < pace->goal / 2 && blocks >= pace->chunk)
        pace->chunk =
            blocks > SIZE_MAX / 8 ? blocks : pace->chunk * (took < pace->goal / 16 ? 4 : 2);
    else if (took > 2 * pace->goal && pace->chunk > 1)
        pace->chunk = (size_t)(blocks * pace->goal / took) + 1;
    if (pace->least < floor)
        pace->least = floor;
    if (pace->chunk < pace->least)
        pace->chunk = pace->least;
}

/* ---- running a chunk ---- */

/* Calls the body, and marks that a callback may be running. */
static inline void twill__run_body(twill__job *job, twill__slot *me, twill_task *task, size_t begin,
                                   size_t end)
{
    me->inside = true;
    job->body(job, task, begin, end);
    me->inside = false;
}

static inline void twill__run_chunk(twill__job *job, twill__slot *me, twill_task *task,
                                    size_t begin, size_t end)
{
    /* blocks of many items: look up now and then */
    size_t step = job->block == 1 ? end - begin : job->chunk > 65536 ? job->chunk : 65536;
    me->used = true;
    me->chunks++;
    me->end = end;
    while (begin < end && twill__may_run(job, begin)) { /* exit: bounded by the items */
        size_t now = end - begin < step ? end - begin : step;
        twill__run_body(job, me, task, begin, begin + now);
        begin += now;
        if (begin < end && twill__stopped(job, job->may_end ? twill__clock_now() : 0))
            return;
    }
}

static inline bool twill__claim(twill__job *job, unsigned worker, twill__slot *me,
                                const twill__pace *pace, size_t *begin, size_t *end)
{
    if (twill__claim_own(job, me, pace, begin, end))
        return true;
    switch (job->schedule) {
    case TWILL__AUTO:
        return false;
    case TWILL__STATIC:
        return twill__claim_static(job, worker, begin, end);
    case TWILL__DYNAMIC:
    case TWILL__GUIDED:
    case TWILL__FRONT:
        return twill__claim_next(job, pace, begin, end);
    case TWILL__COST:
        return twill__claim_cut(job, begin, end);
    }
    return false;
}

#endif

#define TWILL__SEATS     16    /* calls with helpers at once, on one team; others run alone */
#define TWILL__IDLE_SPIN 50000 /* ns a thread looks for the next call before it parks */

/* A seat's word. Jobs live on callers' stacks; helpers reach them through a seat, which outlives
   them. A seat is free only when its owner has cleared it: open bit off and count 0 is not free. */
#define TWILL__SEAT_OPEN  0x80000000u /* helpers may come in */
#define TWILL__SEAT_WAIT  0x40000000u /* the caller sleeps on the word */
#define TWILL__SEAT_OWNED 0x20000000u /* a call has it */
#define TWILL__SEAT_SHUT  0x10000000u /* the team closes: no call may have it */
#define TWILL__SEAT_BYE   0x08000000u /* the closing thread sleeps until the call is over */
#define TWILL__SEAT_COUNT 0x07ffffffu /* helpers inside */

typedef struct twill__seat {
    _Alignas(TWILL__LINE) _Atomic uint32_t word;
    /* for threads that spin: whether so little is left for them that tiny items would be over
       before they have come in; the epoch that the last opening made << 32 | openings so far */
    _Atomic uint32_t little;
    _Atomic uint64_t opened;
    /* written by the owner before it opens; who is not in may fetch their lines, and no more */
    _Atomic(twill__job *) job;
    _Atomic(twill__slot *) slot;
} twill__seat;

typedef struct twill__helper {
    twill__thrd thread;
    struct twill__team *team;
    unsigned number;
    struct twill__helper *next; /* replacements */
} twill__helper;

typedef struct twill__team {
    /* One more for each call that opens, and at the close. Alone in its line: those who spin on it
       take it from whoever writes, once a call */
    _Alignas(TWILL__LINE) _Atomic uint32_t epoch;
    _Alignas(TWILL__LINE) _Atomic uint32_t idle; /* threads with nothing to do: spin or parked */
    /* what seldom changes */
    _Alignas(TWILL__LINE) _Atomic uint32_t parked;
    _Atomic uint32_t hint; /* the seat that opened last */
    _Atomic uint32_t closed;
    _Atomic twill_ns alarm;   /* some idle thread looks round then; TWILL_FOREVER: never */
    _Atomic uint32_t keepers; /* threads that are parked until then, not for ever */
    unsigned spinners;        /* so many of them may spin: one CPU is the caller's */
    _Atomic unsigned threads; /* started, and not ended */
    _Atomic uint32_t flags;   /* a pool's: what its threads could not have */
    twill__home home;         /* the process that started them */
    uint64_t tick_rate;       /* see platform/ticks.h */
    twill__helper *helper;
    _Atomic(twill__helper *) replacements; /* for threads that ended in a callback of a crew */
    _Atomic uint32_t lost;                 /* of them, those that nobody replaces */
    twill__seat seat[TWILL__SEATS];
} twill__team;

/* ---- in and out of a seat ---- */

/* A newcomer reads the job's head from the caller's cache, line by line: all of them at once take
   no longer than one. */
static inline void twill__fetch(const twill__job *job)
{
    for (size_t at = 0; at <= offsetof(twill__job, next); at += TWILL__FETCHED)
        __builtin_prefetch((const char *)job + at);
}

/* For one that spins, has seen the seat open, and is about to come in. */
static inline void twill__fetch_ahead(const twill__seat *seat)
{
    /* relaxed: only their lines are fetched */
    const twill__job *job = atomic_load_explicit(&seat->job, memory_order_relaxed);
    twill__prefetch(seat);
    twill__prefetch(atomic_load_explicit(&seat->slot, memory_order_relaxed));
    twill__prefetch(&job->limit);
    twill__fetch(job);
}

static inline twill__job *twill__enter(twill__seat *seat)
{
    uint32_t word;
    while ((word = atomic_load_explicit(&seat->word, memory_order_seq_cst)) & TWILL__SEAT_OPEN)
        if (atomic_compare_exchange_weak_explicit(&seat->word, &word, word + 1,
                                                  memory_order_seq_cst, memory_order_relaxed))
            /* relaxed: the word orders it, and tells it anew */
            return atomic_load_explicit(&seat->job, memory_order_relaxed);
    return NULL;
}

/* The caller, asleep on the word, has something to do again. */
static inline void twill__rouse(twill__seat *seat)
{
    if (atomic_load_explicit(&seat->word, memory_order_seq_cst) & TWILL__SEAT_WAIT) {
        atomic_fetch_and_explicit(&seat->word, ~TWILL__SEAT_WAIT, memory_order_seq_cst);
        twill__wake(&seat->word, INT_MAX);
    }
}

/* After the fetch_sub the job may be gone; the seat stays. */
static inline void twill__leave(twill__seat *seat)
{
    uint32_t word = atomic_fetch_sub_explicit(&seat->word, 1, memory_order_seq_cst) - 1;
    if (!(word & TWILL__SEAT_COUNT) && (word & TWILL__SEAT_WAIT))
        twill__rouse(seat);
}

/* Work has come up in this call: wakes its caller and those of the calls around it, who may run it.
   Read-modify-write (by whoever made the work visible), then load: the sleeper does the same the
   other way round. */
static inline void twill__rouse_callers(twill__job *job)
{
    for (; job; job = job->parent)
        if (job->seat)
            twill__rouse(job->seat);
}

/* After the epoch was raised: how many of those who sleep on it are to be woken for `need` of
   them. */
static inline int twill__sleepers_of(twill__team *team, unsigned need)
{
    uint32_t parked = atomic_load_explicit(&team->parked, memory_order_seq_cst), idle;
    if (!parked)
        return 0;
    idle = atomic_load_explicit(&team->idle, memory_order_seq_cst);
    if (idle > parked) { /* those who spin see the epoch */
        if (idle - parked >= need)
            return 0;
        need -= idle - parked;
    }
    return need > INT_MAX ? INT_MAX : (int)need;
}

/* Tells up to `need` idle threads to look round. Returns how many of those who sleep on the epoch
   are still to be woken: for that, the team may be gone. */
static inline int twill__call_round(twill__team *team, unsigned need)
{
    atomic_fetch_add_explicit(&team->epoch, 1, memory_order_seq_cst);
    return twill__sleepers_of(team, need);
}

static inline void twill__call_helpers(twill__team *team, unsigned need)
{
    int sleepers = twill__call_round(team, need);
    if (sleepers)
        twill__wake(&team->epoch, sleepers);
}

/* Work has come up in this call, which somebody who looked a moment ago has not seen. */
static inline void twill__call_another(twill__job *job)
{
    if (atomic_load_explicit(&job->team->idle, memory_order_seq_cst) && twill__number_free(job))
        twill__call_helpers(job->team, 1);
}

/* ---- taking part ---- */

/* The caller is the only worker, and has claimed all there is. */
static inline bool twill__all_mine(const twill__job *job, const twill__slot *me)
{
    uint64_t range =
        atomic_load_explicit(&me->range, memory_order_relaxed); /* ours until another is in */
    return twill__lo(range) >= twill__hi(range) && job->schedule == TWILL__AUTO && job->np <= 64 &&
           atomic_load_explicit(&job->ready[0], memory_order_seq_cst) == 1;
}

/* Nothing is left for helpers: who came now would only be waited for. The seat is open. True:
   nobody is inside, and nobody will be. */
static inline bool twill__shut_out(twill__job *job)
{
    /* takes off a bit that is set: cheaper than an and whose result is asked for */
    return !(atomic_fetch_sub_explicit(&job->seat->word, TWILL__SEAT_OPEN, memory_order_seq_cst) &
             TWILL__SEAT_COUNT);
}

/* begin..end-1: a first chunk that is claimed already, or none. True: it was the only worker, and
   the seat is shut: there is nobody to wait for. */
static __attribute__((noinline)) bool twill__work_on(twill__job *job, unsigned worker,
                                                     twill_task *task, twill__pace *pace,
                                                     size_t begin, size_t end)
{
    twill__slot *me = &job->slot[worker];
    bool claimed = begin < end, open = worker == 0, alone = false;
    twill__pace_start(pace);
    /* exit: no work left to claim, or stopped; each turn claims, steals or returns */
    for (;;) {
        if (twill__stopped(job, job->may_end ? twill__clock_now() : 0)) {
            if (job->missed)
                job->missed(job, TWILL__MISSED_OVER);
            break;
        }
        if (claimed || twill__claim(job, worker, me, pace, &begin, &end)) {
            if (open && twill__all_mine(job, me)) {
                alone = twill__shut_out(job);
                open = false;
            }
            if (alone)
                twill__begin_alone(me, begin);
            else if (!claimed)
                twill__set_begin(me, begin);
            claimed = false;
            /* seq_cst: see twill__set_begin */
            if (begin >= atomic_load_explicit(&job->limit, memory_order_seq_cst))
                continue;
            twill__run_chunk(job, me, task, begin, end);
            twill__pace_on(job, pace, twill__blocks_of(job, end - begin));
            continue;
        }
        if (alone || !twill__steal(job, worker, me, pace))
            break;
        /* one who looked between the theft and its publishing saw nothing */
        twill__rouse_callers(job);
        twill__call_another(job);
    }
    me->busy += pace->at - pace->since;
    return alone;
}

/* noinline: its locals must not stand in the frame of a guard, which may be a setjmp */
static __attribute__((noinline)) void twill__take_part(twill__job *job, unsigned worker,
                                                       twill_task *task)
{
    twill__pace pace;
    if (job->crew) {
        job->slot[worker].used = true;
        job->crew->work(job->data, task);
        return;
    }
    twill__pace_init(job, &pace);
    (void)twill__work_on(job, worker, task, &pace, 0, 0);
}

/* What is left of a chunk, from place `from` on, goes back into the worker's range, where others
   find it. */
static inline void twill__hand_back(twill__job *job, twill__slot *me, size_t from, size_t end)
{
    uint64_t range, back;
    if (end <= from || job->block != 1 || job->n - job->start > 0xffffffffu)
        return;
    /* a guess for the CAS */
    range = atomic_load_explicit(&me->range, memory_order_relaxed);
    do
        back =
            twill__pack(from - job->start,
                        twill__lo(range) < twill__hi(range) ? twill__hi(range) : end - job->start);
    /* seq_cst: then it looks for who sleeps; relaxed: another guess */
    while (!atomic_compare_exchange_weak_explicit(&me->range, &range, back, memory_order_seq_cst,
                                                  memory_order_relaxed));
}

/* A thread ends inside a callback: its item is LOST, what is left of its chunk goes back. */
static inline void twill__thread_ended(twill__job *job, unsigned worker, const twill_task *task)
{
    twill__slot *me = &job->slot[worker];
    size_t item = task->index, at;
    me->said = 0;
    if (!me->inside || item == SIZE_MAX) {
        me->refused = true; /* it ended inside a hook, or in another call's callback */
        return;
    }
    at = twill__place_of(job, item);
    me->inside = false;
    if (me->from != SIZE_MAX && !job->whole)
        twill__loop_end(me, item);
    if (!job->whole)
        twill__hand_back(job, me, at + 1, me->end);
    else if (me->from != SIZE_MAX)
        twill__hand_back(job, me, me->end, me->from);
    twill__item_failed(job, me, at, item, TWILL_LOST, 0);
    atomic_store_explicit(&me->begin, SIZE_MAX, memory_order_seq_cst);
    twill__rouse_callers(job);
}

/* ---- a helper ---- */

/* what the clean-up needs when a callback ends the thread */
typedef struct twill__visit {
    twill__seat *seat;
    twill__job *job, *outer;
    void *record; /* of this thread, before */
    unsigned worker;
    twill_task task;
} twill__visit;

static inline void twill__helper_main(void *helper);

/* How many threads it has: a number, which a pool changes as it likes. */
static inline unsigned twill__team_threads(const twill__team *team)
{
    return atomic_load_explicit(&team->threads, memory_order_relaxed);
}

#ifndef TWILL__REPLACE_AFTER /* the explorer wants less */
#define TWILL__REPLACE_AFTER TWILL_MS(10)
#endif

/* Another thread in the place of this one. False: without memory or threads there is none. */
static inline bool twill__succeed(twill__team *team, const twill__helper *dying)
{
    twill__helper *fresh = (twill__helper *)TWILL_MALLOC(sizeof *fresh);
    if (!fresh)
        return false;
    memset(fresh, 0, sizeof *fresh);
    fresh->team = team;
    fresh->number = dying->number;
    fresh->thread.fn = twill__helper_main;
    fresh->thread.arg = fresh;
    fresh->thread.stack_size = dying->thread.stack_size;
    fresh->thread.cpu = dying->thread.cpu;
    memcpy(fresh->thread.name, dying->thread.name, sizeof fresh->thread.name);
    if (!twill__thread_start(&fresh->thread)) {
        TWILL_FREE(fresh);
        return false;
    }
    /* release: pairs with the exchange in twill__team_close; relaxed: a guess for the CAS */
    fresh->next = atomic_load_explicit(&team->replacements, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&team->replacements, &fresh->next, fresh,
                                                  memory_order_release, memory_order_relaxed)) {}
    return true;
}

/* A thread of the team has ended in a callback, and is in no seat any more: another one takes its
   place. If there is none, and this was the last one (whoever makes `lost` full, is), it stays
   until there is, or the team closes: nobody else would do what comes up. Whoever closes the team
   joins the dying thread first, and then finds what it has left. */
static inline void twill__replace(twill__team *team)
{
    const twill__helper *dying = (const twill__helper *)twill__thread()->helper;
    if (!dying || dying->team != team) /* its own team's: it may be a guest of a pool's */
        return;
    if (twill__succeed(team, dying) ||
        /* relaxed, here and below: a count; one thread finds itself the last */
        atomic_fetch_add_explicit(&team->lost, 1, memory_order_relaxed) + 1 <
            twill__team_threads(team))
        return;
    for (;;) { /* exit: closed, or replaced */
        uint32_t epoch = atomic_load_explicit(&team->epoch, memory_order_seq_cst);
        if (atomic_load_explicit(&team->closed, memory_order_seq_cst))
            return;
        (void)twill__park(&team->epoch, epoch,
                          twill__instant_after(twill__clock_now(), TWILL__REPLACE_AFTER));
        if (twill__succeed(team, dying)) { /* one that comes while the team closes is joined, too */
            atomic_fetch_sub_explicit(&team->lost, 1, memory_order_relaxed);
            return;
        }
    }
}

static inline void twill__visit_ended(void *visit_)
{
    twill__visit *visit = (twill__visit *)visit_;
    twill__job *job = visit->job;
    twill__team *team = job->team; /* stays for a thread of its own */
    /* the outermost: no clean-up of this thread comes after it. A call that has made its threads
       for itself goes on with fewer */
    bool replaced = !visit->outer && (job->crew || job->parent);
    twill__thread()->job = visit->outer;
    twill__thread()->record = visit->record;
    if (job->crew) {
        job->crew->ended(job->data, &visit->task);
        twill__give_number(job, visit->worker);
        twill__call_another(job); /* one who found no number free meanwhile may have parked */
    } else {
        twill__thread_ended(job, visit->worker, &visit->task);
        twill__call_another(job);
        /* the number stays taken: its slot holds the item's end */
        atomic_store_explicit(&job->degraded, 1, memory_order_seq_cst);
        if (job->missed)
            job->missed(job, TWILL__MISSED_ENDED);
    }
    twill__leave(visit->seat); /* the job may be gone then */
    if (replaced)
        twill__replace(team);
}

/* worker_start, once a number and call. False: this number runs nothing. */
static inline bool twill__worker_ready(twill__job *job, unsigned worker, twill_task *task,
                                       int *code)
{
    twill__slot *me = &job->slot[worker];
    *code = 0;
    twill__task_init(job, worker, task);
    if (!job->run->worker_start || me->started)
        return !me->refused;
    *code = job->run->worker_start(&me->state, task);
    me->said = 0;
    if (*code) {
        me->refused = true;
        return false;
    }
    me->started = true;
    task->worker_state = me->state;
    return true;
}

/* An alarm is set, and nobody is parked until then. A keeper takes himself off before he looks, and
   asks this before he goes to work: the last one who does wakes somebody who has parked for ever.
   So, all seq_cst, an alarm finds one who is parked until then, or awake; and who has something due
   no earlier than that need call nobody. */
static inline bool twill__team_unkept(const twill__team *team)
{
    return atomic_load_explicit(&team->alarm, memory_order_seq_cst) != TWILL_FOREVER &&
           !atomic_load_explicit(&team->keepers, memory_order_seq_cst);
}

static inline bool twill__other_open(const twill__team *team, const twill__seat *seat)
{
    for (unsigned i = 0; i < TWILL__SEATS; i++)
        if (&team->seat[i] != seat &&
            (atomic_load_explicit(&team->seat[i].word, memory_order_seq_cst) & TWILL__SEAT_OPEN))
            return true;
    return false;
}

/* Inside a seat: work on its job under a free number. False: nothing to do there. */
static inline bool twill__serve(twill__seat *seat, twill__job *job, unsigned prefer)
{
    twill__visit visit;
    twill__self *self = twill__thread();
    int code;
    if (!twill__has_work(job) || (visit.worker = twill__take_number(job, prefer)) == UINT_MAX)
        return false;
    if (atomic_load_explicit(&job->team->parked, memory_order_seq_cst)) {
        if (twill__team_unkept(job->team))
            twill__call_helpers(job->team, 1);
        else if ((twill__number_free(job) && twill__has_work(job)) ||
                 twill__other_open(job->team, seat))
            /* the next one: two calls may have counted on the same idle thread */
            twill__wake(&job->team->epoch, 1);
    }
    visit.seat = seat;
    visit.job = job;
    visit.outer = self->job;
    visit.record = self->record;
    self->job = job;
    /* the helper's items are a part of the task that made the call; those of an object are not */
    if (!job->crew || job->record)
        self->record = job->record;
    TWILL__GUARD_PUSH(twill__visit_ended, &visit);
    if (twill__worker_ready(job, visit.worker, &visit.task, &code)) {
        twill__take_part(job, visit.worker, &visit.task);
        twill__give_number(job, visit.worker);
    } else {
        /* and the number stays taken */
        atomic_store_explicit(&job->degraded, 1, memory_order_seq_cst);
        if (job->missed)
            job->missed(job, TWILL__MISSED_REFUSED);
    }
    TWILL__GUARD_POP(0);
    self->job = visit.outer;
    self->record = visit.record;
    return true;
}

static inline bool twill__serve_seat(twill__team *team, unsigned seat, unsigned prefer)
{
    twill__seat *at = &team->seat[seat];
    twill__job *job = twill__enter(at);
    bool served;
    if (!job)
        return false;
    twill__fetch(job);
    served = twill__serve(at, job, prefer);
    twill__leave(at);
    return served;
}

static inline bool twill__serve_team(twill__team *team, unsigned prefer)
{
    unsigned hint = atomic_load_explicit(&team->hint, memory_order_seq_cst) % TWILL__SEATS;
    if (twill__serve_seat(team, hint, prefer))
        return true;
    for (unsigned seat = 0; seat < TWILL__SEATS; seat++)
        if (seat != hint && twill__serve_seat(team, seat, prefer))
            return true;
    return false;
}

/* Whether some call wants another thread. It only looks: who serves must not count as idle, or a
   call takes him for one that spins and wakes nobody. */
static inline bool twill__call_waits(twill__team *team)
{
    for (unsigned i = 0; i < TWILL__SEATS; i++) {
        twill__job *job = twill__enter(&team->seat[i]);
        bool wanted;
        if (!job)
            continue;
        wanted = twill__number_free(job) && twill__has_work(job);
        twill__leave(&team->seat[i]);
        if (wanted)
            return true;
    }
    return false;
}

/* It is due. Who takes it looks round, but stays with the first work that he finds: so another one
   looks, too, and all who are about to sleep; the crews that they ask set theirs anew. */
static inline void twill__take_alarm(twill__team *team, twill_ns alarm)
{
    if (atomic_compare_exchange_strong_explicit(&team->alarm, &alarm, TWILL_FOREVER,
                                                memory_order_seq_cst, memory_order_seq_cst))
        twill__call_helpers(team, 1);
}

/* For a thread that has always something to do: whether the alarm is due, which it takes then. */
static inline bool twill__team_due(twill__team *team)
{
    /* relaxed: what is not seen now is seen the next time */
    twill_ns alarm = atomic_load_explicit(&team->alarm, memory_order_relaxed);
    if (alarm == TWILL_FOREVER || twill__clock_now() < alarm)
        return false;
    twill__take_alarm(team, alarm);
    return true;
}

/* Until the epoch changes, an alarm is due, or `until`. False: this was an alarm. */
static inline bool twill__nap(twill__team *team, uint32_t epoch, twill_ns until)
{
    twill_ns alarm = atomic_load_explicit(&team->alarm, memory_order_seq_cst),
             end = alarm < until ? alarm : until;
    bool keeps = alarm != TWILL_FOREVER;
    if (keeps)
        /* see twill__team_unkept */
        atomic_fetch_add_explicit(&team->keepers, 1, memory_order_seq_cst);
    if (end == TWILL_FOREVER)
        twill__park(&team->epoch, epoch, 0);
    else if (twill__clock_now() < end)
        (void)twill__park(&team->epoch, epoch, end);
    if (!keeps)
        return true;
    atomic_fetch_sub_explicit(&team->keepers, 1, memory_order_seq_cst);
    if (twill__clock_now() < alarm)
        return true;
    twill__take_alarm(team, alarm);
    return false;
}

/* Whether this process made the team: a forked child has none of its threads. */
static inline bool twill__team_here(const twill__team *team)
{
    return twill__at_home(team->home);
}

static inline void twill__helper_main(void *helper_)
{
    twill__helper *helper = (twill__helper *)helper_;
    twill__team *team = helper->team;
    twill__thread()->team = team;
    twill__thread()->helper = helper;
    for (;;) { /* exit: closed; or a callback has forked, and this is the child */
        uint32_t epoch = atomic_load_explicit(&team->epoch, memory_order_seq_cst);
        if (twill__serve_team(team, helper->number))
            continue;
        if (atomic_load_explicit(&team->closed, memory_order_seq_cst) || !twill__team_here(team))
            break;
        /* then look again: a thief that saw no idle thread calls none */
        atomic_fetch_add_explicit(&team->idle, 1, memory_order_seq_cst);
        if (!twill__call_waits(team) &&
            /* relaxed, down to the nap, which it may spare: a park compares the epoch, after
               `parked` was raised */
            atomic_load_explicit(&team->epoch, memory_order_relaxed) == epoch &&
            !(atomic_load_explicit(&team->idle, memory_order_relaxed) -
                      atomic_load_explicit(&team->parked, memory_order_relaxed) <=
                  team->spinners &&
              twill__spin(&team->epoch, epoch, TWILL__IDLE_SPIN, 0))) {
            atomic_fetch_add_explicit(&team->parked, 1, memory_order_seq_cst);
            if (atomic_load_explicit(&team->epoch, memory_order_relaxed) == epoch)
                (void)twill__nap(team, epoch, TWILL_FOREVER);
            atomic_fetch_sub_explicit(&team->parked, 1, memory_order_seq_cst);
        }
        atomic_fetch_sub_explicit(&team->idle, 1, memory_order_seq_cst);
    }
    twill__thread()->team = NULL;
    twill__thread()->helper = NULL;
}

/* ---- a team's life ---- */

static inline void twill__team_init(twill__team *team, twill__helper *helper)
{
    unsigned cpus = twill__cpus_hint();
    memset(team, 0, sizeof *team);
    atomic_init(&team->alarm, TWILL_FOREVER);
    team->spinners = cpus - 1;
    team->home = twill__home_here();
    team->tick_rate = twill__ticks_per_us();
    team->helper = helper;
}

/* Starts threads until there are `upto`. False: one could not be started; those that could,
   help. */
static inline bool twill__team_grow(twill__team *team, unsigned upto, const twill_run *run)
{
    for (unsigned k; (k = twill__team_threads(team)) < upto;) {
        twill__helper *helper = &team->helper[k];
        memset(helper, 0, sizeof *helper);
        helper->thread.fn = twill__helper_main;
        helper->thread.arg = helper;
        twill__thread_name(&helper->thread, run->name);
        helper->thread.stack_size = run->stack_size;
        helper->thread.cpu = run->cpu_count ? run->cpus[k % run->cpu_count] : UINT_MAX;
        helper->team = team;
        helper->number = k + 1;
        if (!twill__thread_start(&helper->thread))
            return false;
        atomic_fetch_add_explicit(&team->threads, 1, memory_order_relaxed);
    }
    return true;
}

/* What its threads could not have: TWILL_REPORT_NO_... */
static inline uint32_t twill__team_flags(const twill__team *team)
{
    /* relaxed, here and below: set before a thread does anything */
    uint32_t flags = atomic_load_explicit(&team->flags, memory_order_relaxed);
    for (unsigned k = 0; team->helper && k < twill__team_threads(team); k++)
        flags |= atomic_load_explicit(&team->helper[k].thread.flags, memory_order_relaxed);
    return flags;
}

/* It looks round by itself now and then: a call that was never open does not wake it, nor does the
   token. */
static inline twill_status twill__seat_shut(_Atomic uint32_t *word, twill_until until)
{
    twill_status over;
    uint32_t seen = atomic_load_explicit(word, memory_order_seq_cst);
    while (!(seen & TWILL__SEAT_SHUT)) { /* exit: free, once the call that has it is over */
        if (seen == 0)
            atomic_compare_exchange_weak_explicit(word, &seen, TWILL__SEAT_SHUT,
                                                  memory_order_seq_cst, memory_order_seq_cst);
        else if ((over = twill__over(until)) != TWILL_OK)
            return over;
        else if (!(seen & TWILL__SEAT_BYE))
            atomic_compare_exchange_weak_explicit(word, &seen, seen | TWILL__SEAT_BYE,
                                                  memory_order_seq_cst, memory_order_seq_cst);
        else
            (void)twill__park(word, seen,
                              twill__nearer(until.deadline, twill__clock_now() + TWILL_MS(1)));
        seen = atomic_load_explicit(word, memory_order_seq_cst);
    }
    return TWILL_OK;
}

/* Lets no further call in, and waits for those that are on it: OK; TIMEOUT, CANCELLED: ask
   again. */
static inline twill_status twill__team_shut(twill__team *team, twill_until until)
{
    twill_status status = TWILL_OK;
    for (unsigned i = 0; i < TWILL__SEATS && status == TWILL_OK; i++)
        status = twill__seat_shut(&team->seat[i].word, until);
    return status;
}

/* Ends the threads, after the calls that are on it: those that come later find no seat. Returns the
   flags that its threads have raised. In a forked child there is nobody to join. */
static inline uint32_t twill__team_close(twill__team *team)
{
    twill_until forever = {0, NULL};
    uint32_t flags = 0;
    if (!twill__team_here(team))
        return 0;
    (void)twill__team_shut(team, forever);
    atomic_store_explicit(&team->closed, 1, memory_order_seq_cst);
    twill__call_helpers(team, UINT_MAX);
    for (unsigned k = 0; k < twill__team_threads(team); k++) {
        twill__thread_join(&team->helper[k].thread);
        /* after the join */
        flags |= atomic_load_explicit(&team->helper[k].thread.flags, memory_order_relaxed);
    }
    /* acquire: pairs with twill__replace. Those that it joins may leave further ones */
    for (twill__helper *fresh;
         (fresh = atomic_exchange_explicit(&team->replacements, NULL, memory_order_acquire));)
        while (fresh) {
            twill__helper *next = fresh->next;
            twill__thread_join(&fresh->thread);
            TWILL_FREE(fresh);
            fresh = next;
        }
    return flags;
}

/* ---- a call meets its helpers ---- */

/* A seat keeps the team alive until twill__release. NULL: all are taken, or the team closes. */
static inline twill__seat *twill__take_seat(twill__team *team)
{
    for (unsigned i = 0; i < TWILL__SEATS; i++) {
        uint32_t none = 0; /* the relaxed load spares RMWs that would fail */
        if (atomic_load_explicit(&team->seat[i].word, memory_order_relaxed) == 0 &&
            atomic_compare_exchange_strong_explicit(&team->seat[i].word, &none, TWILL__SEAT_OWNED,
                                                    memory_order_seq_cst, memory_order_seq_cst))
            return &team->seat[i];
    }
    return NULL;
}

static inline void twill__release(twill__seat *seat)
{
    /* Shut and with nobody inside: only a closing thread may write here. A plain store spares a
       tiny call an RMW; it may wipe out the BYE of one that comes just now, which looks again by
       itself. release: pairs with the CAS of the next owner */
    if (!(atomic_load_explicit(&seat->word, memory_order_relaxed) & TWILL__SEAT_BYE)) {
        atomic_store_explicit(&seat->word, 0, memory_order_release);
    } else {
        atomic_store_explicit(&seat->word, 0, memory_order_seq_cst);
        twill__wake(&seat->word, INT_MAX);
    }
}

/* twill__team_shut if no call is on it; else false, and nothing has changed: it takes each seat as
   a call does, so that calls which come meanwhile run alone and whoever shuts waits, and gives all
   of them back if it cannot have one. */
static inline bool twill__team_try_shut(twill__team *team)
{
    bool mine[TWILL__SEATS];
    for (unsigned i = 0; i < TWILL__SEATS; i++) {
        uint32_t seen = 0;
        mine[i] =
            atomic_compare_exchange_strong_explicit(&team->seat[i].word, &seen, TWILL__SEAT_OWNED,
                                                    memory_order_seq_cst, memory_order_seq_cst);
        if (mine[i] || seen & TWILL__SEAT_SHUT)
            continue;
        while (i-- > 0) /* exit: all that came before */
            if (mine[i])
                twill__release(&team->seat[i]);
        return false;
    }
    for (unsigned i = 0; i < TWILL__SEATS; i++)
        if (mine[i] &&
            atomic_exchange_explicit(&team->seat[i].word, TWILL__SEAT_SHUT, memory_order_seq_cst) &
                TWILL__SEAT_BYE)
            twill__wake(&team->seat[i].word, INT_MAX);
    return true;
}

/* Opens the job's seat to the team. */
static inline void twill__open(twill__job *job, unsigned need)
{
    twill__team *team = job->team;
    uint32_t seat = (uint32_t)(job->seat - team->seat);
    uint64_t opened;
    int sleepers;
    /* relaxed, here and below: who comes in has seen the word; for others they are hints, which
       `opened` makes valid */
    atomic_store_explicit(&job->seat->job, job, memory_order_relaxed);
    atomic_store_explicit(&job->seat->slot, job->slot, memory_order_relaxed);
    atomic_store_explicit(&job->seat->little,
                          job->schedule == TWILL__AUTO && !job->crew &&
                              job->n - job->start <= 2 * (size_t)job->np,
                          memory_order_relaxed);
    /* a store, as in twill__release; seq_cst, since idle threads and callers around this one are
       looked at below */
    atomic_store_explicit(&job->seat->word, TWILL__SEAT_OWNED | TWILL__SEAT_OPEN,
                          memory_order_seq_cst);
    /* relaxed: hints. The look spares taking a line from those who read it */
    if (atomic_load_explicit(&team->hint, memory_order_relaxed) != seat)
        atomic_store_explicit(&team->hint, seat, memory_order_relaxed);
    opened = atomic_load_explicit(&job->seat->opened, memory_order_relaxed); /* an owner's store */
    opened = (uint64_t)(atomic_fetch_add_explicit(&team->epoch, 1, memory_order_seq_cst) + 1)
                 << 32 |
             (uint32_t)(opened + 1);
    /* relaxed: only compared with the epoch */
    atomic_store_explicit(&job->seat->opened, opened, memory_order_relaxed);
    sleepers = twill__sleepers_of(team, need);
    if (sleepers)
        twill__wake(&team->epoch, sleepers);
    if (job->parent)
        twill__rouse_callers(job->parent);
}

static inline bool twill__is_below(const twill__job *job, const twill__job *top)
{
    for (; job; job = job->parent)
        if (job == top)
            return true;
    return false;
}

/* While the caller waits: calls nested below its own, which the serial loop would run under the
   same locks. */
static inline bool twill__serve_below(twill__job *top)
{
    twill__team *team = top->team;
    for (unsigned i = 0; i < TWILL__SEATS; i++) {
        twill__job *job;
        bool served;
        if (&team->seat[i] == top->seat ||
            !(atomic_load_explicit(&team->seat[i].word, memory_order_seq_cst) & TWILL__SEAT_OPEN) ||
            !(job = twill__enter(&team->seat[i])))
            continue;
        served = twill__is_below(job, top) && twill__serve(&team->seat[i], job, UINT_MAX);
        twill__leave(&team->seat[i]);
        if (served)
            return true;
    }
    return false;
}

/* Work has come back while the caller waited: those who have left may come in again, or an item of
   several would wait behind one that sleeps. */
static inline void twill__resume(twill__job *job, twill_task *task)
{
    /* seq_cst: he takes all of it, and then looks for idle ones */
    atomic_fetch_or_explicit(&job->seat->word, TWILL__SEAT_OPEN, memory_order_seq_cst);
    twill__take_part(job, 0, task);
    atomic_fetch_and_explicit(&job->seat->word, ~TWILL__SEAT_OPEN, memory_order_seq_cst);
}

/* Waits for those who came in, and only for them. Meanwhile it runs what comes up. */
static inline void twill__meet(twill__job *job, twill_task *task, bool may_run)
{
    twill__seat *seat = job->seat;
    bool spun = false;
    uint32_t word = atomic_load_explicit(&seat->word, memory_order_seq_cst);
    if (word & TWILL__SEAT_OPEN)
        word = atomic_fetch_and_explicit(&seat->word, ~TWILL__SEAT_OPEN, memory_order_seq_cst) &
               ~TWILL__SEAT_OPEN;
    /* exit: helpers leave; what they wait for is strictly below. One that ended may have left
       work */
    while ((word & TWILL__SEAT_COUNT) || (may_run && twill__has_work(job))) {
        if (twill__left_alone(job))
            break;
        if (!(word & TWILL__SEAT_COUNT)) {
            twill__resume(job, task);
        } else if (!spun) {
            spun = true;
            twill__spin(&seat->word, word, TWILL__SPIN_WAIT, TWILL__SPIN_YIELDS);
        } else if (may_run && twill__serve_below(job)) {
            spun = false;
        } else if (may_run && twill__has_work(job)) {
            twill__resume(job, task);
            spun = false;
        } else if (word & TWILL__SEAT_WAIT) {
            twill__park(&seat->word, word, 0);
            spun = false;
        } else {
            /* then look once more */
            atomic_fetch_or_explicit(&seat->word, TWILL__SEAT_WAIT, memory_order_seq_cst);
        }
        word = atomic_load_explicit(&seat->word, memory_order_seq_cst);
    }
}

/* ---- what a header with run.pool knows of a pool ---- */

#define TWILL__POOL_LAYOUT 3
struct twill_pool {
    unsigned layout;
    twill__team *team;
};

#endif

#define TWILL__MAX_WORKERS 65536u
#define TWILL__SMALL_FRAME 8     /* worker numbers on the caller's stack: 6 KiB in all */
#define TWILL__LARGE_FRAME 64    /* 25 KiB; above, one allocation */
#define TWILL__WAKE_NS     3000  /* the rest is worth a helper: a wake and a cache miss or ten */
#define TWILL__CREATE_NS   60000 /* ... that must be started: twice the cost of a thread */

/* What a pattern does with an open call: one or more passes (twill__run_pass). */
typedef void twill__steps_fn(twill__job *job, void *data);

typedef struct twill__call_record { /* what a call needs besides the job */
    twill__job job;
    twill_task task; /* the caller's */
    twill__team own;
    twill__helper *helper;
    unsigned want; /* helpers that would be welcome */
    bool has_own, eager, opened, guarded;
    bool start_failed, lost; /* the caller's worker_start; its thread has ended outside an item */
    int start_code;
    size_t total;
    size_t at, chunk0, kept; /* plan's, until the pass has taken them */
    twill_ns since;
    /* freed at the close, also when a callback ends the thread */
    struct twill__scratch *scratch;
    void *memory; /* twill__run_huge's */
} twill__call_record;

typedef struct twill__scratch {
    _Alignas(16) struct twill__scratch *next;
} twill__scratch;

/* Memory until the call is over, aligned for anything; NULL: there is none. */
static inline void *twill__scratch_get(twill__job *job, size_t bytes)
{
    twill__call_record *call = (twill__call_record *)(void *)job;
    twill__scratch *scratch = NULL;
    if (bytes <= SIZE_MAX - sizeof *scratch)
        scratch = (twill__scratch *)TWILL_MALLOC(sizeof *scratch + bytes);
    if (!scratch)
        return NULL;
    scratch->next = call->scratch;
    call->scratch = scratch;
    return scratch + 1;
}

/* ---- checks ---- */

static inline twill_status twill__check_pool(const twill_pool *pool)
{
    if (pool->layout != TWILL__POOL_LAYOUT)
        return TWILL_INVALID;
    return twill__team_here(pool->team) ? TWILL_OK : TWILL_FORKED;
}

static inline twill_status twill__check_run(const twill_run *run)
{
    if ((unsigned)run->on_error > TWILL_ON_ERROR_LIMIT || (run->errors_capacity && !run->errors) ||
        !run->cpu_count != !run->cpus)
        return TWILL_INVALID;
    return run->pool ? twill__check_pool(run->pool) : TWILL_OK;
}

/* Fills the report of a call that runs nothing. */
static inline twill_status twill__refuse(const twill_run *run, size_t total, twill_status status)
{
    if (run && run->report) {
        memset(run->report, 0, sizeof *run->report);
        run->report->status = status;
        run->report->total = run->report->skipped = total;
    }
    return status;
}

/* ---- who helps ---- */

typedef struct twill__plan {
    twill__job *outer; /* the call whose callback makes this one */
    twill__team *team; /* to be called; NULL: threads of its own */
    twill__seat *seat; /* on a pool: held from the start, so that the pool stays */
    twill__job *parent;
    uint32_t flags;
    unsigned np;
    bool guard; /* something must be undone if a callback ends the thread */
    size_t total;
    /* a loop without wishes (engine/brief.h): the user's function; else 0 */
    uintptr_t key;
    /* chunk0 is 0, or: the first `at` items have run; those that follow are worth so many helpers,
       and shall begin with such a chunk; of them, so many shall be left to the caller (0: any) */
    size_t at, chunk0, kept;
    unsigned helpers;
} twill__plan;

/* workers: as asked for. always_inline: twill__run_brief keeps the plan in registers */
static inline __attribute__((always_inline)) void twill__make_plan(twill__plan *plan,
                                                                   const twill__self *self,
                                                                   const twill_run *run,
                                                                   unsigned workers, size_t total)
{
    twill__job *outer = self->job;
    plan->outer = outer;
    plan->team = NULL;
    plan->seat = NULL;
    plan->parent = NULL;
    plan->flags = 0;
    plan->guard = false;
    plan->total = total;
    plan->key = 0;
    plan->at = plan->chunk0 = plan->kept = 0;
    if (workers > total) /* first: what is too many for the items is not too many for the pool */
        workers = total > 1 ? (unsigned)total : 1;
    if (run->pool) {
        unsigned most = twill__team_threads(run->pool->team);
        plan->team = run->pool->team;
        if (!workers) /* a lazy pool may have none yet */
            workers = most ? most : 1;
        if (workers > most + 1) { /* threads of the pool and the caller */
            workers = most + 1;
            plan->flags |= TWILL_REPORT_DEGRADED;
        }
    } else if (outer && outer->team && !workers) { /* nested: the threads of the call around it */
        plan->team = outer->team;
        workers = outer->np;
    } else if (!outer && !workers && self->team) { /* in a task: those of its pool */
        plan->team = self->team;
        workers = twill__team_threads(plan->team);
        plan->flags |= TWILL_REPORT_NESTED;
    } else if (!workers) {
        workers = outer ? outer->np : twill__cpus_hint();
    }
    if (outer && plan->team && outer->team == plan->team) {
        plan->parent = outer;
        plan->flags |= TWILL_REPORT_NESTED;
    }
    if (workers > TWILL__MAX_WORKERS) {
        workers = TWILL__MAX_WORKERS;
        plan->flags |= TWILL_REPORT_DEGRADED;
    }
    if (workers > total)
        workers = total > 1 ? (unsigned)total : 1;
    plan->np = workers;
}

/* Starts the call's own threads, `upto` of them. */
static inline bool twill__hire(twill__call_record *call, unsigned upto)
{
    if (!call->has_own) {
        twill__team_init(&call->own, call->helper);
        call->has_own = true;
    }
    if (twill__team_grow(&call->own, upto, call->job.run))
        return true;
    call->job.flags |= TWILL_REPORT_DEGRADED;
    return false;
}

/* ---- one pass ---- */

typedef struct twill__pass {
    size_t n;
    twill__body_fn *body;
    void *data;
    twill__schedule schedule;
    size_t chunk;
    twill__cut *cuts;
    size_t cut_count;
    bool whole;  /* a chunk is one callback */
    bool forced; /* n says nothing about the work: call helpers at once */
    /* units are parts of a longer loop: few of them say nothing */
    bool parts;
    /* unit k: the user's items first + k * unit and on; unit 0: 1 */
    size_t first, unit;
    const size_t *starts; /* or starts[k] and on; NULL: units are all alike */
} twill__pass;

static inline void twill__pass_init(twill__call_record *call, const twill__pass *pass)
{
    twill__job *job = &call->job;
    job->n = pass->n;
    job->first = pass->first;
    job->unit = pass->unit ? pass->unit : 1;
    job->starts = pass->starts;
    job->start = 0;
    job->block = 1;
    job->chunk = pass->chunk;
    job->chunk0 = 1;
    job->kept = 0;
    job->schedule = pass->schedule;
    job->whole = pass->whole;
    job->body = pass->body;
    job->data = pass->data;
    job->cuts = pass->cuts;
    job->cut_count = pass->cut_count;
    /* nobody else is here; opening publishes */
    atomic_store_explicit(&job->limit, SIZE_MAX, memory_order_relaxed);
    atomic_store_explicit(&job->next, 0, memory_order_relaxed);
    /* what an earlier pass left */
    for (unsigned word = 0; call->opened && word < twill__words(job->np); word++)
        for (uint64_t bits = atomic_load_explicit(&job->ready[word], memory_order_seq_cst); bits;
             bits &= bits - 1)
            atomic_store_explicit(&job->slot[word * 64 + (unsigned)__builtin_ctzll(bits)].range, 0,
                                  memory_order_relaxed);
    if (pass->schedule == TWILL__STATIC)
        for (unsigned word = 0; word < twill__words(job->np); word++) /* relaxed: as above */
            atomic_store_explicit(&job->ranges[word], 0, memory_order_relaxed);
}

static inline void twill__serial_chunk(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    twill__slot *me = &job->slot[0];
    atomic_store_explicit(&me->begin, begin, memory_order_relaxed); /* nobody else is here */
    me->end = end;
    me->used = true;
    me->chunks++;
    twill__run_body(job, me, task, begin, end);
}

/* The caller alone, in the order that the schedule promises. Chunks that are one callback are kept
   short where a token or a deadline may end the call; loops over items look for themselves. */
static inline void twill__run_serial(twill__job *job, twill_task *task, size_t at)
{
    bool by_time = job->whole && job->may_end && job->schedule != TWILL__STATIC;
    size_t least = job->chunk ? job->chunk : 1, size = by_time ? least : job->n;
    twill_ns since = by_time ? twill__clock_now() : 0;
    if (job->schedule == TWILL__DYNAMIC && job->whole)
        size = least;
    for (size_t cut = 0; job->schedule == TWILL__COST && cut < job->cut_count; cut++) {
        if (cut && job->may_end && twill__stopped(job, twill__clock_now()))
            return;
        if (twill__may_run(job, job->cuts[cut].begin))
            twill__serial_chunk(job, task, job->cuts[cut].begin, job->cuts[cut].end);
    }
    while (job->schedule != TWILL__COST && at < job->n && twill__may_run(job, at)) {
        size_t now = size < job->n - at ? size : job->n - at;
        twill__serial_chunk(job, task, at, at + now);
        at += now;
        if (by_time && at < job->n) {
            twill_ns here = twill__clock_now(), took = here - since;
            if (twill__stopped(job, here))
                return;
            since = here;
            if (job->schedule == TWILL__DYNAMIC)
                continue;
            if (took < TWILL__CHUNK_NS / 2 && size <= SIZE_MAX / 2)
                size *= 2;
            else if (took > 2 * TWILL__CHUNK_NS)
                size = size / 2 > least ? size / 2 : least;
        }
    }
}

/* What the first items say about the rest. */
typedef enum twill__verdict {
    TWILL__ALONE,  /* it is cheaper than its helpers */
    TWILL__SHARED, /* it is worth them */
    TWILL__UNSURE  /* too few items, or too short a time, to judge by */
} twill__verdict;

typedef struct twill__judge {
    uint64_t spent;     /* ticks that `items` of them took, above 0 */
    size_t items, left; /* left: those that are to come */
    bool few;
    bool hired;       /* helpers need not be started */
    uint64_t rate;    /* of the ticks */
    size_t chunk0;    /* out: the first chunk */
    unsigned helpers; /* in and out: how many are worth calling */
} twill__judge;

/* How many items the caller's first chunk has, where `items` of them took so many ticks. */
static inline size_t twill__first_chunk(uint64_t rate, uint64_t spent, size_t items)
{
    double chunk = (double)(rate * TWILL__FIRST_NS / 1024) / (double)spent * (double)items;
    return chunk < 1 ? 1 : chunk > 4096 ? 4096 : (size_t)chunk;
}

static inline twill__verdict twill__judge_slowly(twill__judge *judge, uint64_t price)
{
    /* times `items`: a division spared */
    double left = (double)judge->spent * (double)judge->left;
    double cost = (double)price * (double)judge->items;
    if (left <= cost)
        return TWILL__ALONE;
    if (!judge->few && judge->spent <= judge->rate * 200 / 1024 && left <= 8 * cost)
        return TWILL__UNSURE;
    judge->chunk0 = twill__first_chunk(judge->rate, judge->spent, judge->items);
    if (!judge->hired && left / cost < judge->helpers)
        judge->helpers = (unsigned)(left / cost);
    return TWILL__SHARED;
}

/* What the rest must cost to be worth a helper, in ticks. */
static inline uint64_t twill__judge_price(uint64_t rate, bool hired)
{
    return rate * (hired ? TWILL__WAKE_NS : TWILL__CREATE_NS) / 1024;
}

static inline twill__verdict twill__judge_rest(twill__judge *judge)
{
    uint64_t price = twill__judge_price(judge->rate, judge->hired);
    if ((judge->spent | judge->items | judge->left | price) >> 31 ==
            0 && /* then nothing overflows */
        judge->spent * judge->left <= price * judge->items)
        return TWILL__ALONE;
    return twill__judge_slowly(judge, price);
}

/* One item may be most of the loop. */
static inline bool twill__is_few(size_t n, unsigned workers)
{
    return n / 32 < workers;
}

/* So many items are run first, to be timed: what they cost too much on one thread is 1/64 of the
   loop. */
static inline size_t twill__probe_size(size_t n, bool few)
{
    return few ? 1 : n / 64 > 16 ? 16 : n / 64 + 1;
}

/* The caller begins alone and times its first items: returns where the others would begin,
   job->n if nothing is left that is worth them. *helpers: how many are worth calling. */
static inline size_t twill__probe(twill__job *job, twill_task *task, bool few, unsigned *helpers)
{
    size_t at = 0, size = twill__probe_size(job->n, few);
    twill__judge judge = {.few = few, .hired = job->team != NULL, .helpers = *helpers};
    uint64_t since;
    if (size < job->chunk)
        size = job->chunk < job->n ? job->chunk : job->n;
    judge.rate = job->team ? job->team->tick_rate : twill__ticks_per_us();
    since = twill__ticks();
    for (;;) { /* exit: all done, stopped, or the rest is worth threads */
        twill__serial_chunk(job, task, at, at + size);
        at += size;
        if (at >= job->n || !twill__may_run(job, at) ||
            (job->may_end && twill__stopped(job, twill__clock_now())))
            return job->n;
        judge.spent = (twill__ticks() - since) | 1;
        judge.items = at;
        judge.left = job->n - at;
        switch (twill__judge_rest(&judge)) {
        case TWILL__ALONE:
            size = job->may_end && job->whole && job->n - at > at ? at : job->n - at;
            break;
        case TWILL__SHARED:
            job->chunk0 = judge.chunk0;
            *helpers = judge.helpers;
            return at;
        case TWILL__UNSURE:
            size *= 4; /* still less than what is left */
            break;
        }
    }
}

/* A team and a seat on it. False: all its seats are taken, and the caller runs alone. */
static inline bool twill__seated(twill__call_record *call)
{
    twill__job *job = &call->job;
    if (!job->team) {
        twill__team_init(&call->own, call->helper);
        call->has_own = true;
        job->team = &call->own;
    }
    if (!job->seat)
        job->seat = twill__take_seat(job->team);
    return job->seat != NULL;
}

/* noinline: its locals must not stand in the frame of a guard */
static __attribute__((noinline)) void twill__share_out(twill__call_record *call, size_t at,
                                                       unsigned helpers)
{
    twill__job *job = &call->job;
    size_t blocks = job->n - at, begin = 0, end = 0;
    twill__pace pace;
    /* all seats are taken, or an earlier pass's helpers have stayed with a parent process */
    if (!twill__seated(call) || twill__left_alone(job)) {
        twill__run_serial(job, &call->task, at);
        return;
    }
    if (job->schedule == TWILL__AUTO) {
        job->start = at;
        job->block = blocks / 0xfffffffeu + 1;
        blocks = twill__blocks_of(job, blocks);
        job->chunk0 = twill__blocks_of(job, job->chunk0);
        job->kept = job->kept              ? twill__blocks_of(job, job->kept)
                    : job->chunk0 < blocks ? job->chunk0 + (blocks - job->chunk0) / job->np
                                           : blocks;
    }
    job->generation = twill__generation();
    job->tick_rate = job->team->tick_rate;
    twill__pace_init(job, &pace);
    if (job->schedule == TWILL__AUTO)
        twill__claim_first(job, &pace, blocks, &begin, &end);
    else if (job->schedule == TWILL__FRONT) /* opening publishes */
        atomic_store_explicit(&job->next, at, memory_order_relaxed);
    call->opened = true;
    job->flags &= ~(uint32_t)TWILL_REPORT_SERIAL;
    twill__open(job, helpers);
    if (job->team == &call->own && twill__team_threads(&call->own) < helpers)
        /* the first to come works while the others are started */
        (void)twill__hire(call, helpers);
    if (!twill__work_on(job, 0, &call->task, &pace, begin, end))
        twill__meet(job, &call->task, true);
}

/* ---- open, close ---- */

static inline void twill__stop_workers(twill__job *job)
{
    uint32_t stop;
    if (!job->run->worker_stop)
        return;
    /* what told a worker to give up its items is no reason for this. relaxed, here and at the end:
       nobody else is here */
    atomic_store_explicit(&job->limit, SIZE_MAX, memory_order_relaxed);
    stop = atomic_exchange_explicit(&job->stop, 0, memory_order_relaxed);
    for (unsigned worker = 0; worker < job->np; worker++) {
        twill_task task;
        if (!(atomic_load_explicit(&job->ready[worker / 64], memory_order_seq_cst) &
              twill__bit(worker)) ||
            !job->slot[worker].started)
            continue;
        twill__renew(&job->slot[worker], SIZE_MAX);
        twill__task_init(job, worker, &task);
        job->slot[worker].started = false;
        job->run->worker_stop(job->slot[worker].state, &task);
    }
    atomic_store_explicit(&job->stop, stop, memory_order_relaxed);
}

/* The status of an item that has not run. Whether a deadline is why is known at the end, and an
   item that said skip is CANCELLED in any case: until then it is one with which none ends. */
static inline twill_status twill__unrun(const twill_run *run)
{
    return twill__no_deadline(run->until.deadline) ? TWILL_CANCELLED : TWILL_EMPTY;
}

/* Statuses of items that never ran say why. */
static inline void twill__finish_statuses(twill__job *job, size_t total)
{
    const twill_run *run = job->run;
    bool late = atomic_load_explicit(&job->stop, memory_order_relaxed) == TWILL_TIMEOUT;
    if (!run->statuses || twill__unrun(run) == TWILL_CANCELLED)
        return;
    for (size_t i = 0; i < total; i++)
        if (run->statuses[i] == TWILL_EMPTY)
            run->statuses[i] = late ? TWILL_TIMEOUT : TWILL_CANCELLED;
}

/* What one worker has done. */
static inline void twill__answer_slot(const twill__slot *slot, twill_report *report)
{
    report->done += slot->done;
    report->failed += slot->failed;
    report->chunks += slot->chunks;
    report->workers_used += slot->used;
    if (slot->busy) {
        twill_ns busy = twill__time_of_ticks(slot->busy);
        report->busy += busy;
        if (busy > report->busiest)
            report->busiest = busy;
    }
    if (slot->failed && (!report->first_error.status || slot->low < report->first_error.index)) {
        report->first_error.index = slot->low;
        report->first_error.status = slot->low_status;
        report->first_error.code = slot->low_code;
    }
}

static inline twill_status twill__answer(twill__call_record *call, twill_report *report)
{
    twill__job *job = &call->job;
    /* all have left: the join ordered it */
    size_t stop_at = atomic_load_explicit(&job->stop_at, memory_order_relaxed);
    uint32_t stop = atomic_load_explicit(&job->stop, memory_order_relaxed);
    size_t own = job->slot[0].done + job->slot[0].failed;
    for (unsigned word = 0; word < twill__words(job->np); word++)
        for (uint64_t bits = atomic_load_explicit(&job->ready[word], memory_order_seq_cst); bits;
             bits &= bits - 1) {
            twill__slot *slot = &job->slot[word * 64 + (unsigned)__builtin_ctzll(bits)];
            twill__answer_slot(slot, report);
            if (twill__token_used(twill__token_of(&slot->token)))
                twill_cancel_detach(&slot->token);
        }
    report->skipped = call->total - report->done - report->failed;
    if (report->skipped && !stop && stop_at == SIZE_MAX && job->may_end &&
        twill__stopped(job, twill__clock_now()))
        /* items gave up because of it */
        stop = atomic_load_explicit(&job->stop, memory_order_relaxed);
    if (atomic_load_explicit(&job->failures, memory_order_seq_cst) &&
        job->policy == TWILL_ON_ERROR_FIRST)
        report->first_error = job->earliest;
    else if (report->first_error.index > stop_at && stop != TWILL_FAILED)
        /* the serial loop never got there */
        memset(&report->first_error, 0, sizeof report->first_error);
    if (call->start_failed || (call->lost && !report->first_error.status)) {
        report->first_error.index = SIZE_MAX;
        report->first_error.status = call->start_failed ? TWILL_FAILED : TWILL_LOST;
        report->first_error.code = call->start_code;
    }
    if (report->first_error.status)
        return TWILL_FAILED;
    if (stop && report->skipped)
        return (twill_status)stop;
    /* helpers' items may be counted, and their results not be there yet */
    if (own != call->total && !job->settled && twill__left_alone(job))
        return TWILL_FORKED;
    return TWILL_OK;
}

static inline twill_status twill__close_call(twill__call_record *call)
{
    twill__job *job = &call->job;
    const twill_run *run = job->run;
    twill_report report;
    twill__stop_workers(job);
    for (twill__scratch *next; call->scratch; call->scratch = next) {
        next = call->scratch->next;
        TWILL_FREE(call->scratch);
    }
    if (!call->has_own && !run->report && !job->detail && job->slot[0].done == call->total &&
        (!call->opened ||
         (job->np <= 64 && atomic_load_explicit(&job->ready[0], memory_order_seq_cst) == 1))) {
        /* the short way of a tiny call: the caller has done all, and nobody asks how */
        if (job->seat)
            twill__release(job->seat);
        if (twill__token_used(twill__token_of(&job->slot[0].token)))
            twill_cancel_detach(&job->slot[0].token);
        return TWILL_OK;
    }
    memset(&report, 0, sizeof report);
    report.workers_started = call->opened ? job->np : 1;
    if (run->pool && run->report && call->opened)
        job->flags |= twill__team_flags(run->pool->team);
    if (job->seat) /* the pool may go now */
        twill__release(job->seat);
    if (call->has_own) {
        report.workers_started = twill__team_threads(&call->own) + 1;
        job->flags |= twill__team_close(&call->own);
    }
    report.total = call->total;
    report.status = twill__answer(call, &report);
    if (job->detail) {
        twill__finish_statuses(job, call->total);
        twill__errors_sort(job);
        report.errors_stored = job->errors_count;
    }
    if (run->report) {
        if (atomic_load_explicit(&job->degraded, memory_order_relaxed)) /* after the join */
            job->flags |= TWILL_REPORT_DEGRADED;
        report.flags = job->flags;
        report.wall = twill__clock_now() - call->since;
        if (!call->opened)
            report.busy = report.busiest = report.wall;
        *run->report = report;
    }
    return report.status;
}

/* A callback ends the calling thread: its item, or the call, is LOST; the helpers are waited for,
   hooks and report are as ever. */
static inline void twill__caller_ended(void *call_)
{
    twill__call_record *call = (twill__call_record *)call_;
    twill__thread_ended(&call->job, 0, &call->task);
    call->lost = call->job.slot[0].refused;
    twill__thread()->job = call->job.outer;
    if (call->opened)
        twill__meet(&call->job, &call->task, false);
    (void)twill__close_call(call);
    if (call->memory)
        TWILL_FREE(call->memory);
}

static inline void twill__together(twill__call_record *call, size_t at, unsigned helpers)
{
    if (call->guarded) {
        twill__share_out(call, at, helpers);
        return;
    }
    TWILL__GUARD_PUSH(twill__caller_ended, call);
    twill__thread()->job = &call->job;
    twill__share_out(call, at, helpers);
    twill__thread()->job = call->job.outer;
    TWILL__GUARD_POP(0);
}

/* ---- passes ---- */

/* Runs one pass of the call, and returns when all of it is over. */
static inline void twill__run_pass(twill__job *job, const twill__pass *pass)
{
    twill__call_record *call = (twill__call_record *)(void *)job;
    unsigned helpers = call->want;
    bool few;
    size_t at = 0;
    if (atomic_load_explicit(&job->stop, memory_order_relaxed)) /* nobody else is here now */
        return;
    twill__pass_init(call, pass);
    if (helpers >= pass->n)
        helpers = pass->n > 1 ? (unsigned)(pass->n - 1) : 0;
    if (helpers == 0) {
        twill__run_serial(job, &call->task, 0);
        return;
    }
    few = !pass->parts && twill__is_few(pass->n, job->np);
    if (call->chunk0) { /* of the only pass: as probed, or as it was a moment ago */
        at = call->at;
        job->chunk0 = call->chunk0;
        job->kept = call->kept;
        call->chunk0 = 0;
    } else if (!call->eager && twill__is_timed(pass->schedule) && !pass->forced &&
               !(few && job->team))
        at = twill__probe(job, &call->task, few, &helpers);
    if (at < pass->n)
        twill__together(call, at, helpers);
}

static inline void twill__run_guarded(twill__call_record *call, twill__steps_fn *steps, void *data)
{
    twill__self *self = twill__thread();
    call->guarded = true;
    TWILL__GUARD_PUSH(twill__caller_ended, call);
    call->start_failed = !twill__worker_ready(&call->job, 0, &call->task, &call->start_code);
    self->job = &call->job;
    if (!call->start_failed)
        steps(&call->job, data);
    self->job = call->job.outer;
    TWILL__GUARD_POP(0);
}

/* bits: NULL where those in the job are enough. */
static inline void twill__init_job(twill__call_record *call, const twill_run *run, unsigned np,
                                   twill__slot *slots, _Atomic uint64_t *bits)
{
    twill__job *job = &call->job;
    unsigned words = twill__words(np);
    if (!bits)
        bits = job->bits;
    job->call.table = twill__job_table();
    job->crew = NULL;
    job->missed = NULL;
    job->run = run;
    job->policy = run->on_error ? run->on_error : TWILL_ON_ERROR_LOWEST;
    job->np = np;
    job->slot = slots;
    job->taken = bits;
    job->ready = bits + words;
    job->ranges = bits + 2 * words;
    for (unsigned word = 0; word < 3 * words; word++)
        atomic_init(&bits[word], 0);
    atomic_init(job->taken, 1); /* the caller is worker 0 */
    atomic_init(job->ready, 1);
    job->generation = 0;
    job->detail = run->statuses || run->codes || run->errors_capacity;
    job->until = run->until;
    job->may_end = !twill__for_ever(run->until);
    job->settled = false;
    job->errors_count = 0;
    atomic_init(&job->limit, SIZE_MAX);
    atomic_init(&job->stop_at, SIZE_MAX);
    atomic_init(&job->stop, 0);
    atomic_init(&job->degraded, 0);
    atomic_init(&job->failures, 0);
    atomic_init(&job->errors_lock, 0);
    atomic_init(&job->next, 0);
    twill__slot_init(job, 0);
    call->has_own = call->opened = call->start_failed = call->lost = call->guarded = false;
    call->scratch = NULL;
    call->start_code = 0;
    call->eager = run->workers != 0;
}

static inline void twill__prefill(const twill_run *run, size_t total)
{
    for (size_t i = 0; run->statuses && i < total; i++)
        run->statuses[i] = twill__unrun(run);
    if (run->codes && total)
        memset(run->codes, 0, total * sizeof *run->codes);
}

/* How many items newcomers shall leave to the caller the next time: what it came to do this time,
   if anybody has helped. By and by, so that one odd call does not send the items of many others to
   another cache. */
static inline size_t twill__next_kept(const twill__call_record *call, const twill__plan *plan)
{
    const twill__job *job = &call->job;
    size_t even = plan->total / job->np, kept = plan->kept ? plan->kept : even;
    size_t done = job->slot[0].done;
    if (job->np > 64 || atomic_load_explicit(&job->ready[0], memory_order_seq_cst) != 1)
        kept = done > kept ? kept + (done - kept) / 4 : kept - (kept - done) / 4;
    return kept < even / 2 ? even / 2 : kept > even + even / 2 ? even + even / 2 : kept;
}

/* Notes whether the loop was worth a team's helpers, by what the caller's own items took: the next
   one like it opens before its first item, and is judged again when it is over. */
static inline void twill__note_dear(const twill__call_record *call, const twill__plan *plan)
{
    const twill__job *job = &call->job;
    const twill__slot *mine = &job->slot[0];
    twill__self *self = twill__thread();
    size_t items = mine->done - plan->at;
    self->dear = 0;
    if (!call->opened || call->has_own || !items || !mine->busy)
        return;
    if ((double)mine->busy * (double)plan->total <=
        2 * (double)twill__judge_price(job->tick_rate, true) * (double)items)
        return;
    self->dear = plan->key;
    self->dear_team = job->team;
    self->dear_n = plan->total;
    self->dear_chunk = twill__first_chunk(job->tick_rate, mine->busy, items);
    self->dear_kept = twill__next_kept(call, plan);
    self->dear_job = job;
    self->dear_slot = mine;
}

static inline twill_status twill__run_in(twill__call_record *call, const twill__plan *plan,
                                         const twill_run *run, twill__slot *slots,
                                         _Atomic uint64_t *bits, twill__steps_fn *steps, void *data)
{
    twill__job *job = &call->job;
    unsigned np = plan->np;
    twill__init_job(call, run, np, slots, bits);
    job->outer = plan->outer;
    job->from = (twill__team *)twill__thread()->team;
    job->record = twill__thread()->record;
    job->team = plan->team;
    job->seat = plan->seat;
    job->parent = plan->parent;
    job->flags = plan->flags;
    call->want = plan->chunk0 ? plan->helpers : np - 1;
    call->at = plan->at;
    call->chunk0 = plan->chunk0;
    call->kept = plan->kept;
    job->slot[0].done = plan->at; /* or skipped: nobody asks */
    call->total = plan->total;
    call->since = run->report ? twill__clock_now() : 0;
    if (job->detail)
        twill__prefill(run, call->total);
    if (call->total == 0 || (job->may_end && twill__stopped(job, twill__clock_now())))
        return twill__close_call(call);
    if (np > 1 && !job->team && (call->eager || run->strict) && !twill__hire(call, np - 1) &&
        run->strict) {
        (void)twill__team_close(&call->own);
        twill__finish_statuses(job, call->total);
        return twill__refuse(run, call->total, TWILL_NO_THREAD);
    }
    if (call->has_own)
        job->team = &call->own;
    job->flags |= TWILL_REPORT_SERIAL;
    if (plan->guard || run->pool || run->worker_start || run->workers || run->until.cancel ||
        run->report || job->detail) {
        twill__run_guarded(call, steps, data);
    } else {
        /* nothing to clean up, should a callback end the thread before helpers come in */
        twill__task_init(job, 0, &call->task);
        steps(job, data);
    }
    if (plan->key)
        twill__note_dear(call, plan);
    return twill__close_call(call);
}

#define TWILL__DEFINE_FRAME(NAME, WORKERS)                                                 \
    static __attribute__((noinline)) twill_status NAME(                                    \
        const twill__plan *plan, const twill_run *run, twill__steps_fn *steps, void *data) \
    {                                                                                      \
        twill__slot slots[WORKERS];                                                        \
        twill__helper helpers[WORKERS];                                                    \
        twill__call_record call;                                                           \
        call.helper = helpers;                                                             \
        call.memory = NULL;                                                                \
        return twill__run_in(&call, plan, run, slots, NULL, steps, data);                  \
    }
TWILL__DEFINE_FRAME(twill__run_small, TWILL__SMALL_FRAME)
TWILL__DEFINE_FRAME(twill__run_large, TWILL__LARGE_FRAME)

/* More workers than a stack should carry: one allocation; without it TWILL__LARGE_FRAME of them. */
static __attribute__((noinline)) twill_status
twill__run_huge(twill__plan *plan, const twill_run *run, twill__steps_fn *steps, void *data)
{
    size_t np = plan->np, words = twill__words(plan->np);
    char *memory = (char *)TWILL_MALLOC(np * (sizeof(twill__slot) + sizeof(twill__helper)) +
                                        24 * words + TWILL__LINE);
    twill__call_record call;
    twill__slot *slots;
    _Atomic uint64_t *bits;
    twill_status status;
    if (!memory && run->strict) {
        if (plan->seat)
            twill__release(plan->seat);
        return twill__refuse(run, plan->total, TWILL_NO_MEMORY);
    }
    if (!memory) {
        plan->np = TWILL__LARGE_FRAME;
        plan->helpers = TWILL__LARGE_FRAME - 1; /* no more than there is room for */
        plan->flags |= TWILL_REPORT_DEGRADED;
        return twill__run_large(plan, run, steps, data);
    }
    slots = (twill__slot *)(void *)(memory +
                                    (TWILL__LINE - (uintptr_t)memory % TWILL__LINE) % TWILL__LINE);
    bits = (_Atomic uint64_t *)(void *)(slots + np);
    call.helper = (twill__helper *)(void *)(bits + 3 * words);
    call.memory = memory;
    plan->guard = true;
    status = twill__run_in(&call, plan, run, slots, bits, steps, data);
    TWILL_FREE(memory);
    return status;
}

/* The call itself, in a frame of the right size. */
static inline twill_status twill__run_planned(twill__plan *plan, const twill_run *run,
                                              twill__steps_fn *steps, void *data)
{
    if (plan->np <= TWILL__SMALL_FRAME)
        return twill__run_small(plan, run, steps, data);
    if (plan->np <= TWILL__LARGE_FRAME)
        return twill__run_large(plan, run, steps, data);
    return twill__run_huge(plan, run, steps, data);
}

/* A call on a pool holds a seat from beginning to end, so that the pool stays. False: the pool's
   destroy has begun. */
static inline __attribute__((always_inline)) bool twill__plan_seat(twill__plan *plan)
{
    plan->seat = twill__take_seat(plan->team);
    if (!plan->seat &&
        (atomic_load_explicit(&plan->team->seat[0].word, memory_order_seq_cst) & TWILL__SEAT_SHUT))
        return false;
    if (!plan->seat)
        plan->np = 1; /* so many calls are on it that the caller runs alone */
    return true;
}

/* Runs `steps` as one call over `total` items of the user's. guard: there is something to free if a
   callback ends the thread (twill__scratch_get). */
static inline twill_status twill__run_call(const twill_run *run, size_t total, bool guard,
                                           twill__steps_fn *steps, void *data)
{
    twill__plan plan;
    twill_status status = twill__check_run(run);
    if (status != TWILL_OK)
        return twill__refuse(run, total, status);
    twill__make_plan(&plan, twill__thread(), run, run->workers, total);
    plan.guard = guard;
    if (run->strict && (plan.flags & TWILL_REPORT_DEGRADED))
        return twill__refuse(run, total, TWILL_NO_THREAD);
    if (run->pool && total && !twill__plan_seat(&plan))
        return twill__refuse(run, total, TWILL_CLOSED);
    if (run->pool && total && !plan.seat && run->workers > 1 && total > 1) {
        if (run->strict)
            return twill__refuse(run, total, TWILL_NO_THREAD);
        plan.flags |= TWILL_REPORT_DEGRADED;
    }
    return twill__run_planned(&plan, run, steps, data);
}

#endif

/* A crew is a job (engine/job.h) whose work is given by three functions of the object:

       ready   is there work for one worker more? Any thread, often; it may take the object's lock.
               When it answers no although something is due later, it says when
               (twill__crew_alarm)
       work    on a worker: works until nothing is ready. It must not sleep: a thread of a pool
               has other things to do, and one of the crew's own parks in the team
       ended   inside work a callback has ended the thread: puts the books in order. Other
               workers may be at work already, under the same number, when it has returned

   All else is the team's: worker numbers, worker_start and worker_stop, tokens, waking, guards.
   task->until is the deadline of the run and the token of the worker number; task->private_ is the
   crew's job, whose table is crew_table.calls: an object that wants one of its own puts its own
   record there in a copy of the task. */
typedef struct twill__crew {
    twill__job job;
    twill__team own;
    twill_run run; /* a copy */
    twill__helper *helper;
    twill__home home;
    bool has_own;
} twill__crew;

/* Of the block that a crew of so many workers needs behind it, in multiples of a line. */
static inline size_t twill__crew_bytes(unsigned workers, unsigned own_threads)
{
    size_t bytes = (size_t)workers * sizeof(twill__slot) +
                   (size_t)own_threads * sizeof(twill__helper) +
                   2 * sizeof(uint64_t) * twill__words(workers);
    return (bytes + TWILL__LINE - 1) / TWILL__LINE * TWILL__LINE;
}

static inline void twill__crew_init(twill__crew *crew, const twill_run *run, unsigned workers,
                                    const twill__crew_table *table, void *object, void *memory)
{
    twill__job *job = &crew->job;
    _Atomic uint64_t *bits;
    memset(crew, 0, sizeof *crew);
    crew->run = *run;
    job->call.table = &table->calls;
    job->crew = table;
    job->data = object;
    job->run = &crew->run;
    job->np = workers;
    job->slot = (twill__slot *)memory;
    job->block = job->unit = 1;
    bits = (_Atomic uint64_t *)(void *)(job->slot + workers);
    job->taken = bits;
    job->ready = bits + twill__words(workers);
    for (unsigned word = 0; word < 2 * twill__words(workers); word++)
        atomic_init(&bits[word], 0);
    atomic_init(&job->limit, SIZE_MAX);
    atomic_init(&job->stop_at, SIZE_MAX);
    job->until = run->until;
    job->may_end = !twill__for_ever(run->until);
    crew->home = twill__home_here();
    job->generation = crew->home.generation;
    crew->helper = (twill__helper *)(void *)(bits + 2 * twill__words(workers));
}

/* Whether this process opened it. */
static inline bool twill__crew_here(const twill__crew *crew)
{
    return twill__at_home(crew->home);
}

/* Opens a crew of `workers` numbers. `memory`: twill__crew_bytes, aligned to TWILL__LINE. Threads:
   those of run->pool, if it has any, and a seat; or, for a call that ends before the callback
   around it does (`nested`), those of the call around it; else `own_threads` are started. Fewer
   than that, even none, is no failure (flag DEGRADED, and callers help), but with run->strict. The
   object must be ready to be asked. OK; INVALID, FORKED, CLOSED (pool), NO_THREAD: nothing is
   open. */
static inline twill_status twill__crew_open(twill__crew *crew, const twill_run *run,
                                            unsigned workers, unsigned own_threads, bool nested,
                                            const twill__crew_table *table, void *object,
                                            void *memory)
{
    const twill__self *self = twill__thread();
    twill__job *job = &crew->job, *outer = self->job;
    twill_status status = twill__check_run(run);
    bool all = true;
    if (status != TWILL_OK)
        return status;
    twill__crew_init(crew, run, workers, table, object, memory);
    if (run->pool)
        job->team = run->pool->team;
    else if (nested && outer && outer->team && !run->workers)
        job->team = outer->team;
    if (nested) { /* its callbacks are a part of what this thread is in: it waits for them */
        job->outer = outer;
        job->from = (twill__team *)self->team;
        job->record = self->record;
    }
    if (job->team) {
        job->seat = twill__take_seat(job->team);
        if (!job->seat && run->pool &&
            (atomic_load_explicit(&job->team->seat[0].word, memory_order_seq_cst) &
             TWILL__SEAT_SHUT))
            return TWILL_CLOSED;
        /* seq_cst, after the seat was taken: see twill__pool_threads */
        if (job->seat && run->pool && own_threads &&
            !atomic_load_explicit(&job->team->threads, memory_order_seq_cst)) {
            /* a lazy pool: its threads come with its first tasks, not for us */
            twill__release(job->seat);
            job->seat = NULL;
        }
        if (job->seat && nested && outer && outer->team == job->team) {
            job->parent = outer;
            job->flags |= TWILL_REPORT_NESTED;
        }
    }
    if (!job->seat) { /* no team asked for, or none of its threads can come */
        if (job->team)
            job->flags |= TWILL_REPORT_DEGRADED;
        twill__team_init(&crew->own, crew->helper);
        crew->has_own = true;
        job->team = &crew->own;
        job->seat = twill__take_seat(job->team);
    }
    job->tick_rate = job->team->tick_rate;
    if (crew->has_own) /* before anybody works here: a call nested below reads the team */
        all = twill__team_grow(&crew->own, own_threads, run);
    else if (run->pool && twill__team_threads(job->team) < own_threads)
        all = false;
    if (!all && run->strict) { /* before anybody can come in */
        twill__release(job->seat);
        if (crew->has_own)
            (void)twill__team_close(&crew->own);
        return TWILL_NO_THREAD;
    }
    if (!all)
        job->flags |= TWILL_REPORT_DEGRADED;
    twill__open(job, 0);
    return TWILL_OK;
}

/* Work has come up for `need` workers more: after it was published (under the lock that `ready`
   takes, or by a seq_cst RMW). Without sleepers one RMW and one load. */
static inline void twill__crew_call(twill__crew *crew, unsigned need)
{
    twill__call_helpers(crew->job.team, need);
}

/* Something is due at `instant`: an idle thread asks `ready` then. */
static inline void twill__crew_alarm(twill__crew *crew, twill_ns instant)
{
    twill__team *team = crew->job.team;
    twill_ns alarm = atomic_load_explicit(&team->alarm, memory_order_seq_cst);
    while (instant < alarm) /* exit: set, or an earlier one is */
        if (atomic_compare_exchange_weak_explicit(&team->alarm, &alarm, instant,
                                                  memory_order_seq_cst, memory_order_seq_cst)) {
            twill__call_helpers(team, 1); /* a parked one has read the later alarm */
            return;
        }
}

/* Whether this thread is inside a callback of the crew, or of a call nested below one: then it must
   not wait for the crew's end. */
static inline bool twill__crew_inside(const twill__crew *crew)
{
    for (const twill__job *job = twill__thread()->job; job; job = job->outer)
        if (job == &crew->job)
            return true;
    return false;
}

/* Whether a thread that waits should work: it is itself one of those that the crew could wait for,
   or works for a call that one of those waits for. */
static inline bool twill__crew_counts_on_us(const twill__crew *crew)
{
    const twill__team *team = crew->job.team;
    const twill__self *self = twill__thread();
    if (self->team == team)
        return true;
    for (const twill__job *job = self->job; job; job = job->outer)
        if (job->team == team || job->from == team)
            return true;
    return false;
}

/* The calling thread takes part until nothing is ready. False: nothing was, or no number is free,
   or its worker_start failed. A crew's own callback may help, too, if the object can bear it. */
static inline bool twill__crew_help(twill__crew *crew)
{
    twill__job *job = &crew->job;
    bool served;
    if (!twill__enter(job->seat))
        return false;
    served = twill__serve(job->seat, job, UINT_MAX);
    /* one who found no number free meanwhile may have parked */
    if (served && job->crew->ready(job->data))
        twill__call_helpers(job->team, 1);
    twill__leave(job->seat);
    return served;
}

/* A worker begins on something numbered `number`; at the end of all, SIZE_MAX. A fire from
   twill__crew_fire_from that is meant for an earlier, higher one cannot hit it. */
static inline void twill__crew_begin(twill__crew *crew, unsigned worker, size_t number)
{
    twill__set_begin(&crew->job.slot[worker], number);
}

/* Fires the tokens of the workers that are on a number from `least` on. */
static inline void twill__crew_fire_from(twill__crew *crew, size_t least)
{
    twill__fire_from(&crew->job, least);
}

/* Shuts the door, waits for those inside (who leave when nothing is ready), ends the own threads,
   runs worker_stop here, in worker order, and gives back the seat. From no callback of the crew
   (twill__crew_inside). Fills workers_started, workers_used and the flags of *report, if there is
   one. In a forked child it does nothing but fill. */
static inline void twill__crew_close(twill__crew *crew, twill_report *report)
{
    twill__job *job = &crew->job;
    unsigned threads = twill__team_threads(job->team);
    if (twill__crew_here(crew)) {
        twill__meet(job, NULL, false);
        twill__stop_workers(job);
        if (!crew->has_own)
            job->flags |= twill__team_flags(job->team);
        twill__release(job->seat);
        if (crew->has_own)
            job->flags |= twill__team_close(&crew->own);
        for (unsigned worker = 0; worker < job->np; worker++)
            if ((atomic_load_explicit(&job->ready[worker / 64], memory_order_seq_cst) &
                 twill__bit(worker)) &&
                twill__token_used(twill__token_of(&job->slot[worker].token)))
                twill_cancel_detach(&job->slot[worker].token);
    }
    if (!report)
        return;
    report->workers_started = threads < job->np ? threads : job->np;
    for (unsigned worker = 0; worker < job->np; worker++)
        if (atomic_load_explicit(&job->ready[worker / 64], memory_order_seq_cst) &
            twill__bit(worker))
            report->workers_used += job->slot[worker].used;
    /* relaxed: after the join */
    if (atomic_load_explicit(&job->degraded, memory_order_relaxed))
        job->flags |= TWILL_REPORT_DEGRADED;
    report->flags = job->flags;
}

#endif

/* A record is held by the thread that runs it, by its outcome until that is read, and for a moment
   by who fires its token; the last one gives it back. Records are type-stable: their chunks stay
   until the fan goes, so a late fire of a token hits a token. */
typedef struct twill__fan_task {
    /* who runs it writes these, and nobody else looks before: they stay with that CPU */
    twill__call call;                        /* first: task->private_ points here */
    struct twill__fan_task *next, *previous; /* its place among those that run */
    struct twill__fan_task *outer;           /* it runs inside that one, in the same thread */
    struct twill_fan *fan;
    twill_ns due;       /* its own time is over then; 0: it has no limit */
    twill_cancel token; /* task->until.cancel */
    /* what who goes and the reader want, together: two lines go from one CPU to the other */
    _Alignas(TWILL__LINE) twill_task_fn *fn; /* NULL: the call's process */
    void *arg;
    struct twill__fan_lane *lane;  /* whose record it is; NULL: anybody's */
    struct twill__fan_task *after; /* its place among the outcomes, or those that are free */
    twill_outcome outcome;
    unsigned holds;
    bool tell, told; /* its token is to fire; somebody does that */
    bool expired;    /* its time is over */
    bool answered;   /* its outcome is given, and it still runs */
    bool skip;       /* it said twill_task_skip */
    bool waits;      /* in next, and is counted in fan->blocked */
    bool late;       /* a success after the goal was met */
    /* the item (stream; max_abandoned) and the result stand behind it */
} twill__fan_task;
#define TWILL__FAN_RECORD (offsetof(twill__fan_task, late) + sizeof(bool)) /* then they begin */

typedef struct twill__fan_list {
    twill__fan_task *first, *last;
} twill__fan_list;

typedef struct twill__fan_outcomes { /* in the order in which they came */
    twill__fan_task *first, *last;
} twill__fan_outcomes;

typedef struct twill__fan_chunk { /* of records, and a ring for all there are then, or none */
    struct twill__fan_chunk *next;
    size_t ring_size;
} twill__fan_chunk;

/* Those that wait for a worker: a ring, so that a worker who takes many reads few lines. */
typedef struct twill__fan_queue {
    twill__fan_task **ring;
    size_t size; /* a power of two; 0: a call over an array has none */
    size_t head, count;
} twill__fan_queue;

/* LANES. A worker whose tasks are quick takes a run of items, or of tasks from the queue, at a
   time, and goes through it without the lock. It takes from the front of `range`; who runs out of
   work takes from its back, under the lock. Its ring holds records: [taken, ended) have ended, and
   whoever has the lock publishes them (twill__fan_sweep), in the order of the ends. So neither a
   task nor an outcome waits behind one that turns out to be slow. Behind `ended` stand those of the
   queue that it took. For the items of an array the records are the lane's own: one is used again
   when its outcome was read, and [returned, taken) are published and not yet read. */
enum {
    TWILL__FAN_LANES = 16,     /* so many workers at most: who sweeps looks at all of them */
    TWILL__FAN_PLACES = 256,   /* records of a lane at most, */
    TWILL__FAN_FEWEST = 4,     /* and at least */
    TWILL__FAN_BYTES = 131072, /* of a lane at most */
    TWILL__FAN_YIELDS = 16,    /* to a reader who has not read what is in a lane; in vain: */
    TWILL__FAN_HURRIES = 64    /* so often none */
};
#define TWILL__FAN_RUN_NS    20000 /* what a run shall last */
#define TWILL__FAN_QUICK_NS  5000  /* longer tasks are taken one by one */
#define TWILL__FAN_LOCK_NS   4000  /* a sweep of a full lane */
#define TWILL__FAN_GATHER_NS 50000 /* so long outcomes of quick tasks may gather, while one waits */

typedef struct twill__fan_lane {
    /* the owner's; the others look, and take items */
    _Alignas(TWILL__LINE) _Atomic uint64_t range; /* base + [lo, hi) are not begun */
    _Atomic(twill__fan_task *) current;           /* it runs; or NULL */
    _Atomic uint32_t ended;
    size_t base; /* an item's index, or a place; changes under the lock, while the range is empty */
    /* under the lock */
    _Alignas(TWILL__LINE) uint32_t taken;
    uint32_t returned;
    bool open; /* the worker is in it */
    /* set at creation */
    uint32_t places; /* a power of two; 0: there are no lanes */
    twill__fan_task **ring;
} twill__fan_lane;

typedef struct twill__fan_slot { /* of one worker number; the thread that has it writes */
    /* its number: only the own thread finds itself here */
    _Atomic uint64_t thread;
    twill_task *task;
    twill__fan_task *current; /* the innermost that runs */
    bool starting;            /* inside worker_start; left so: the hook has ended its thread */
    size_t chunks;
    twill_ns busy;
    twill_ns pace;    /* ns a task, lately; 0: not known */
    uint32_t run;     /* items of the last run */
    unsigned hurries; /* so often it does not wait for the reader */
    twill__fan_lane lane;
} twill__fan_slot;

/* A thread that waits in a call of the fan. What it is told stands in node.answer. */
typedef struct twill__fan_wait {
    twill__node node;
    unsigned helps;        /* it could run a task itself: TWILL__FAN_HELPS_... */
    bool unread;           /* a go that waits for readers, too */
    bool strict;           /* outcomes that gather must be shown at once */
    bool hungry;           /* counted in fan->hungry */
    bool naps;             /* it looks round by itself after 1 ms */
    bool refused;          /* it would have run a task, and no worker number was free */
    size_t most;           /* a watcher: so many may be left behind */
    twill__fan_task *task; /* to be accepted, or handed over */
} twill__fan_wait;
enum { TWILL__FAN_AGAIN = -1 }; /* as an answer: look again */
enum {
    TWILL__FAN_HELPS_NUMBERED = 1, /* if a worker number is free */
    TWILL__FAN_HELPS_ALWAYS = 2    /* under that of its own task, which waits */
};

/* A thread that helps: it runs one task, since it waits for something else. On its stack. */
typedef struct twill__fan_helping {
    struct twill__fan_helping *next;
    uint64_t thread;
    bool visits; /* it came by a call, and is counted in fan->visits */
} twill__fan_helping;

/* A callback that runs in a call from outside, on its stack: it must not destroy the fan. */
typedef struct twill__fan_calling {
    struct twill__fan_calling *next;
    uint64_t thread;
} twill__fan_calling;

struct twill_fan {
    _Atomic uint32_t lock;
    /* ---- under the lock ---- */
    bool closed;          /* no go but from its own tasks */
    bool met, unmet;      /* the goal is; it cannot be any more */
    bool cut_short;       /* by the end of all, a task was skipped */
    bool stopped;         /* aggregate has had enough: who was told to end has not failed */
    twill_status over;    /* not OK: tasks that have not started end with it */
    twill_status refusal; /* and go answers this */
    size_t limit;         /* the highest index that must still run */
    size_t stop_at;       /* the lowest index that said stop */
    size_t next_index;    /* of the next task */
    size_t emit;          /* ordered: the index that is given next */
    twill__fan_queue queue;
    twill__fan_list running, overdue;
    twill__fan_outcomes done;
    twill__fan_task *free;
    twill__fan_chunk *chunks;
    size_t records, used; /* all; those not free */
    size_t in_flight;     /* accepted, without an outcome */
    size_t executing;     /* of them, in a thread; answered ones not counted */
    size_t unread;        /* outcomes not yet taken */
    size_t answered;      /* running, with their outcome given */
    size_t blocked;       /* of those executing: waiting in next */
    size_t successes, succeeded, failed, skipped;
    size_t failures; /* that count for on_error */
    twill_item_error lowest, earliest;
    size_t errors_count;                  /* of run.errors */
    twill__list readers, goers, watchers; /* twill__fan_wait */
    twill__fan_helping *helping;
    twill__fan_calling *calling;
    unsigned refused; /* worker numbers whose worker_start failed */
    int start_code;
    size_t deaths;      /* threads that ended in a callback */
    bool deserted;      /* a pool's threads did not come for 1 ms, nor since then */
    unsigned lingering; /* workers that wait for tasks outside the lock for a moment */
    unsigned spinning;  /* readers that wait outside the lock for a moment */
    twill_ns gather; /* a reader waits while outcomes gather in lanes, until then; 0: none does */
    /* a call's items: taken by index; SIZE_MAX as source_n: nobody knows */
    const char *items;
    size_t source_next, source_n;
    bool pulled;  /* stream: the source may give more */
    bool cut_off; /* stream: the run was over before the source */
    /* ---- shared without the lock ---- */
    _Alignas(TWILL__LINE) _Atomic uint32_t ready; /* is there something to run? */
    _Atomic uint32_t published;                   /* changes for those who wait outside */
    _Atomic uint32_t visits; /* calls inside, and VISITS_WAIT: the destroyer sleeps on it */
    /* looked at by workers in a lane, after each item; written seldom */
    _Alignas(TWILL__LINE) _Atomic size_t cut; /* items from here on need not be begun */
    _Atomic uint32_t hungry;                  /* so many wait, and will not look by themselves */
    /* ---- set at creation ---- */
    _Alignas(TWILL__LINE) twill_fan_goal goal;
    bool laned; /* quick tasks may go through lanes */
    twill_on_error policy;
    size_t quorum, most_errors;
    bool ordered, copies; /* copies: items are the record's */
    bool streams;         /* tasks come by go, or are pulled: they wait in the queue */
    size_t item_size, result_size, item_at, result_at, task_size;
    size_t window, max_unread, capacity, max_abandoned;
    twill_ns timeout, since;
    twill_map_fn *process;
    bool (*enough)(const twill_outcome *outcome, const void *result, const twill_task *task);
    twill_drop_fn *drop;
    twill_discard_fn *discard;
    void (*notify)(const twill_task *task);
    void *context;
    twill_status *statuses;
    int *codes;
    twill_report *report;
    int (*worker_start)(void **worker_state, const twill_task *task);
    twill_cancel *cancel; /* run.until's */
    twill_cancel_hook hook;
    twill_cancel root;      /* above all tokens of the fan */
    twill__fan_task **ring; /* ordered: the outcomes by index % ring_size */
    size_t ring_size;
    twill__fan_slot *slot;
    unsigned workers;
    void *memory;
    twill__thrd reaper;
    twill__crew crew;
};
#define TWILL__FAN_VISITS_WAIT 0x80000000u

/* ---- lists ---- */

static inline void twill__fan_append(twill__fan_list *list, twill__fan_task *task)
{
    task->next = NULL;
    task->previous = list->last;
    if (list->last)
        list->last->next = task;
    else
        list->first = task;
    list->last = task;
}

static inline void twill__fan_remove(twill__fan_list *list, twill__fan_task *task)
{
    if (task->previous)
        task->previous->next = task->next;
    else
        list->first = task->next;
    if (task->next)
        task->next->previous = task->previous;
    else
        list->last = task->previous;
}

static inline void twill__fan_push(twill__fan_outcomes *outcomes, twill__fan_task *task)
{
    task->after = NULL;
    if (outcomes->last)
        outcomes->last->after = task;
    else
        outcomes->first = task;
    outcomes->last = task;
}

static inline twill__fan_task *twill__fan_pop(twill__fan_outcomes *outcomes)
{
    twill__fan_task *task = outcomes->first;
    if (task && !(outcomes->first = task->after))
        outcomes->last = NULL;
    return task;
}

/* ---- lanes ---- */

/* Takes an item that nobody has begun, from the front (the owner) or the back (under the lock). */
static inline bool twill__fan_lane_take(twill__fan_lane *lane, bool back, size_t *index)
{
    uint64_t range = atomic_load_explicit(&lane->range, memory_order_seq_cst);
    while (twill__lo(range) < twill__hi(range)) { /* exit: empty, or one is ours */
        size_t lo = (size_t)twill__lo(range), hi = (size_t)twill__hi(range),
               at = back ? hi - 1 : lo;
        uint64_t rest = back ? twill__pack(lo, hi - 1) : twill__pack(lo + 1, hi);
        /* seq_cst, as all that a lane shares */
        if (atomic_compare_exchange_weak_explicit(&lane->range, &range, rest, memory_order_seq_cst,
                                                  memory_order_seq_cst)) {
            *index = lane->base + at;
            return true;
        }
    }
    return false;
}

static inline bool twill__fan_lane_any(const twill__fan_lane *lane)
{
    uint64_t range = atomic_load_explicit(&lane->range, memory_order_seq_cst);
    return twill__lo(range) < twill__hi(range);
}

/* Under the lock: a lane with items that nobody has begun, or NULL. */
static inline twill__fan_lane *twill__fan_lane_left(const twill_fan *fan)
{
    for (unsigned k = 0; fan->laned && k < fan->workers; k++)
        if (twill__fan_lane_any(&fan->slot[k].lane))
            return &fan->slot[k].lane;
    return NULL;
}

/* ---- records ---- */

static inline void *twill__fan_result(const twill_fan *fan, twill__fan_task *task)
{
    return fan->result_size ? (char *)task + fan->result_at : NULL;
}

/* Under the lock: makes `count` records of the memory. */
static inline void twill__fan_add_records(twill_fan *fan, char *memory, size_t count)
{
    for (size_t k = count; k-- > 0;) { /* the first one lies on top */
        twill__fan_task *task = (twill__fan_task *)(void *)(memory + k * fan->task_size);
        task->after = fan->free;
        fan->free = task;
    }
    fan->records += count;
}

/* Under the lock: the ring that the queue needs with so many records more; 0: it has it. */
static inline size_t twill__fan_next_ring(const twill_fan *fan, size_t more)
{
    size_t size = fan->queue.size;
    while (size && size < fan->records + more)
        size *= 2;
    return size == fan->queue.size ? 0 : size;
}

/* Without the lock: a chunk of `count` records; NULL: no memory. */
static inline twill__fan_chunk *twill__fan_new_chunk(const twill_fan *fan, size_t count,
                                                     size_t ring_size)
{
    twill__fan_chunk *chunk;
    if (count > (SIZE_MAX / 4 - 2 * TWILL__LINE) / fan->task_size ||
        ring_size > SIZE_MAX / 4 / sizeof(twill__fan_task *))
        return NULL;
    chunk = (twill__fan_chunk *)TWILL_MALLOC(count * fan->task_size + 2 * TWILL__LINE +
                                             ring_size * sizeof(twill__fan_task *));
    if (chunk)
        chunk->ring_size = ring_size;
    return chunk;
}

/* How many records come next: as many as there are, within the capacity. */
static inline size_t twill__fan_growth(const twill_fan *fan)
{
    size_t most = fan->capacity + fan->max_abandoned,
           more = fan->records < 4096 ? fan->records : 4096;
    if (most <= fan->records) /* inline tasks of tasks */
        return 1;
    return more < most - fan->records ? more : most - fan->records;
}

/* Under the lock: the queue goes on in a larger ring. */
static inline void twill__fan_move_queue(twill__fan_queue *queue, twill__fan_task **ring,
                                         size_t size)
{
    for (size_t k = 0; k < queue->count; k++)
        ring[k] = queue->ring[(queue->head + k) & (queue->size - 1)];
    queue->ring = ring;
    queue->size = size;
    queue->head = 0;
}

/* Under the lock. False: somebody was quicker, and the chunk is not needed. */
static inline bool twill__fan_add_chunk(twill_fan *fan, twill__fan_chunk *chunk, size_t count)
{
    uintptr_t at = ((uintptr_t)(chunk + 1) + TWILL__LINE - 1) / TWILL__LINE * TWILL__LINE;
    char *records = (char *)chunk + (at - (uintptr_t)chunk);
    size_t most = twill__fan_growth(fan), size = chunk->ring_size;
    if (size < fan->queue.size)
        size = fan->queue.size;
    if (count > most)
        count = most;
    if (fan->free || (size && fan->records + count > size))
        return false;
    chunk->next = fan->chunks;
    fan->chunks = chunk;
    if (size != fan->queue.size)
        twill__fan_move_queue(&fan->queue,
                              (twill__fan_task **)(void *)(records + count * fan->task_size), size);
    twill__fan_add_records(fan, records, count);
    return true;
}

/* There is one. */
static inline twill__fan_task *twill__fan_take_free(twill_fan *fan)
{
    twill__fan_task *task = fan->free;
    fan->free = task->after;
    fan->used++;
    return task;
}

/* There is room: the queue has a place for each record. */
static inline void twill__fan_enqueue(twill__fan_queue *queue, twill__fan_task *task)
{
    queue->ring[(queue->head + queue->count++) & (queue->size - 1)] = task;
}

static inline twill__fan_task *twill__fan_dequeue(twill__fan_queue *queue)
{
    queue->count--;
    return queue->ring[queue->head++ & (queue->size - 1)];
}

/* What stands first in the queue, or NULL. */
static inline twill__fan_task *twill__fan_queue_first(const twill__fan_queue *queue)
{
    return queue->count ? queue->ring[queue->head & (queue->size - 1)] : NULL;
}

/* The lane's record number `at`. */
static inline twill__fan_task *twill__fan_lane_at(const twill__fan_lane *lane, uint32_t at)
{
    return lane->ring[at & (lane->places - 1)];
}

static inline void twill__fan_release(twill_fan *fan, twill__fan_task *task)
{
    twill__fan_lane *lane = task->lane;
    if (--task->holds)
        return;
    if (lane) { /* the owner takes them again in their order */
        while (lane->returned != lane->taken &&
               twill__fan_lane_at(lane, lane->returned)->holds == 0)
            lane->returned++;
        return;
    }
    task->after = fan->free;
    fan->free = task;
    fan->used--;
}
#endif

/* Everything is decided under one lock. Whoever changes something ends with twill__fan_exit, which
   settles: hands outcomes to those who wait for them, accepts tasks that wait for room, and then,
   outside the lock, wakes, fires and notifies. So while the lock is free nobody waits for what is
   there. */
typedef struct twill__fan_turn { /* what to do after the lock */
    bool visitor;                /* a call from outside */
    bool counted;                /* in fan->visits: it will touch the fan without the lock */
    bool lazy;                   /* `ready` may stay set: a worker who finds nothing clears it */
    bool again;                  /* all who wait shall look again */
    const twill__fan_wait *naps; /* this one has just looked */
    bool fire_all, fire_some, notify;
    unsigned call; /* workers */
    twill_ns alarm;
    unsigned count; /* whom to wake */
    _Atomic uint32_t *word[16];
} twill__fan_turn;

static inline void twill__fan_lock(twill_fan *fan, twill__fan_turn *turn)
{
    turn->again = turn->fire_all = turn->fire_some = turn->notify = false;
    turn->naps = NULL;
    turn->call = turn->count = 0;
    turn->alarm = 0;
    twill__lock_after(&fan->lock, TWILL__FAN_LOCK_NS);
}

/* A call from outside comes in. */
static inline void twill__fan_enter(twill_fan *fan, twill__fan_turn *turn)
{
    turn->visitor = turn->lazy = true;
    turn->counted = false;
    twill__fan_lock(fan, turn);
}

/* Under the lock: destroy waits for it from now on. */
static inline void twill__fan_count_in(twill_fan *fan, twill__fan_turn *turn)
{
    if (!turn->visitor || turn->counted)
        return;
    turn->counted = true;
    /* relaxed: the lock orders it before the destroyer's look */
    atomic_fetch_add_explicit(&fan->visits, 1, memory_order_relaxed);
}

/* Its last access to the fan. */
static inline void twill__fan_leave(twill_fan *fan)
{
    /* release: pairs with the destroyer's load */
    if (atomic_fetch_sub_explicit(&fan->visits, 1, memory_order_release) ==
        (TWILL__FAN_VISITS_WAIT | 1))
        twill__wake(&fan->visits, 1);
}

static inline bool twill__fan_here(const twill_fan *fan)
{
    return twill__crew_here(&fan->crew);
}

static inline twill_task twill__fan_outside(const twill_fan *fan, size_t index)
{
    twill_task task = {index, fan->context, UINT_MAX, fan->workers, NULL, {0, NULL}, NULL};
    return task;
}

/* ---- what there is ---- */

static inline bool twill__fan_spared(const twill_fan *fan, size_t index)
{
    return fan->over || index > fan->limit;
}

/* Items of the source that must still be started. */
static inline bool twill__fan_source_left(const twill_fan *fan)
{
    return fan->source_next < fan->source_n && !twill__fan_spared(fan, fan->source_next);
}

static inline bool twill__fan_available(const twill_fan *fan)
{
    return fan->queue.count || ((fan->streams || fan->used < fan->capacity) &&
                                (twill__fan_source_left(fan) || twill__fan_lane_left(fan)));
}

/* ordered: where the outcome of an index is kept. `capacity` may get less, the ring does not. */
static inline twill__fan_task **twill__fan_place(const twill_fan *fan, size_t index)
{
    return &fan->ring[index % fan->ring_size];
}

static inline bool twill__fan_readable(const twill_fan *fan)
{
    return fan->ordered ? *twill__fan_place(fan, fan->emit) != NULL : fan->done.first != NULL;
}

/* No outcome is left, and none will come. A call is closed from the start: its source has the
   rest. */
static inline bool twill__fan_finished(const twill_fan *fan)
{
    return fan->closed && !fan->in_flight && !fan->pulled && !twill__fan_source_left(fan) &&
           !twill__fan_readable(fan);
}

/* The next outcome, or NULL. */
static inline twill__fan_task *twill__fan_take(twill_fan *fan)
{
    twill__fan_task *task;
    if (fan->ordered) {
        twill__fan_task **place = twill__fan_place(fan, fan->emit);
        task = *place;
        *place = NULL;
        fan->emit += task != NULL;
    } else {
        task = twill__fan_pop(&fan->done);
    }
    fan->unread -= task != NULL;
    return task;
}

/* ---- how it ends early ---- */

/* Those in lanes that are above `index` are told. `cut` was lowered before: seq_cst, as a worker
   shows `current` and then looks at `cut`. Nothing in a lane is used again while we have the lock.
 */
static inline void twill__fan_lanes_tell(twill_fan *fan, twill__fan_turn *turn, size_t index)
{
    for (unsigned k = 0; fan->laned && k < fan->workers; k++) {
        twill__fan_task *task =
            atomic_load_explicit(&fan->slot[k].lane.current, memory_order_seq_cst);
        if (task && task->outcome.index > index)
            task->tell = turn->fire_some = true;
    }
}

/* Tasks above `index` need not run. */
static inline void twill__fan_lower(twill_fan *fan, twill__fan_turn *turn, size_t index)
{
    twill__fan_list *lists[2] = {&fan->running, &fan->overdue};
    if (index >= fan->limit)
        return;
    fan->limit = index;
    fan->closed = turn->again = true;
    if (!fan->over)
        atomic_store_explicit(&fan->cut, index + 1, memory_order_seq_cst);
    twill__fan_lanes_tell(fan, turn, index);
    for (int k = 0; k < 2; k++)
        for (twill__fan_task *task = lists[k]->first; task; task = task->next)
            if (task->outcome.index > index)
                task->tell = turn->fire_some = true;
}

/* Nothing more is started; those that run are told. go answers `refusal`. */
static inline void twill__fan_end(twill_fan *fan, twill__fan_turn *turn, twill_status why,
                                  twill_status refusal)
{
    bool finished;
    if (fan->over)
        return;
    finished = twill__fan_finished(fan);
    fan->over = why;
    fan->refusal = refusal;
    fan->closed = turn->again = turn->fire_all = true;
    turn->notify |= !finished && twill__fan_finished(fan); /* it is CLOSED that can be read now */
    atomic_store_explicit(&fan->cut, 0, memory_order_seq_cst);
}

/* The user's token has fired, or is asked to: what runs hears the same reason. */
static inline void twill__fan_cancelled(twill_fan *fan, twill__fan_turn *turn, int reason)
{
    if (!fan->over)
        twill_cancel_request(&fan->root, reason);
    twill__fan_end(fan, turn, TWILL_CANCELLED, TWILL_CANCELLED);
}

/* The run's own end: looked at before each task and each wait. */
static inline void twill__fan_look(twill_fan *fan, twill__fan_turn *turn, twill_ns now)
{
    twill_ns deadline = fan->crew.run.until.deadline;
    int reason;
    if (fan->over)
        return;
    reason = twill_cancel_reason(fan->cancel);
    if (reason)
        twill__fan_cancelled(fan, turn, reason);
    else if (!twill__no_deadline(deadline) && now >= deadline)
        twill__fan_end(fan, turn, TWILL_TIMEOUT, TWILL_TIMEOUT);
}

/* ---- outcomes ---- */

/* Nothing above `index` counts: the serial loop never came there. So what has failed there before
   is forgotten, too, or the answer were one of time; but not if it has ended the run. */
static inline void twill__fan_stop_at(twill_fan *fan, size_t index)
{
    static const twill_item_error none;
    fan->stop_at = index;
    if ((fan->over && fan->refusal == TWILL_CLOSED) || fan->lowest.index <= index)
        return;
    fan->failures = 0;
    fan->lowest = fan->earliest = none;
}

static inline void twill__fan_failure(twill_fan *fan, twill__fan_turn *turn,
                                      const twill__fan_task *task)
{
    twill_item_error error = {task->outcome.index, task->outcome.status, task->outcome.code};
    fan->failed++;
    if (error.index > fan->stop_at || fan->stopped) /* told to give up */
        return;
    if (!fan->lowest.status || error.index < fan->lowest.index)
        fan->lowest = error;
    if (fan->crew.run.errors_capacity)
        twill__heap_keep(fan->crew.run.errors, fan->crew.run.errors_capacity, &fan->errors_count,
                         error);
    if (task->answered && !task->expired) /* left behind, because the run is over */
        return;
    if (fan->failures++ == 0)
        fan->earliest = error;
    if (fan->policy == TWILL_ON_ERROR_LOWEST)
        twill__fan_lower(fan, turn, error.index);
    else if (fan->policy != TWILL_ON_ERROR_COLLECT && fan->failures >= fan->most_errors)
        twill__fan_end(fan, turn, TWILL_CANCELLED, TWILL_CLOSED);
}

/* Whether `quorum` successes, which were not had yet, still can be. */
static inline bool twill__fan_in_reach(const twill_fan *fan)
{
    size_t left = fan->in_flight;
    if (!fan->closed || fan->pulled)
        return true; /* nobody knows how many more will come */
    if (twill__fan_source_left(fan))
        left += fan->source_n - fan->source_next;
    return left >= fan->quorum - fan->successes;
}

/* After an outcome, or a close: is the goal met, or out of reach? */
static inline void twill__fan_judge(twill_fan *fan, twill__fan_turn *turn)
{
    if (fan->met || fan->unmet || !fan->quorum)
        return;
    fan->met = fan->successes >= fan->quorum;
    fan->unmet = !fan->met && !twill__fan_in_reach(fan);
    if (fan->met || fan->unmet)
        twill__fan_end(fan, turn, TWILL_CANCELLED, TWILL_CLOSED);
}

static inline void twill__fan_count(twill_fan *fan, twill__fan_turn *turn, twill__fan_task *task)
{
    twill_outcome *outcome = &task->outcome;
    if (fan->statuses)
        fan->statuses[outcome->index] = outcome->status;
    if (fan->codes)
        fan->codes[outcome->index] = outcome->code;
    if (outcome->status == TWILL_OK) {
        fan->succeeded++;
        fan->successes++;
        task->late = fan->met;
    } else if (outcome->status == TWILL_CANCELLED || !outcome->started) {
        fan->skipped++;
        twill__fan_look(fan, turn, outcome->finished); /* it may have heard of the end before us */
        fan->cut_short |= fan->over != 0;              /* else it gave up by itself */
    } else {
        twill__fan_failure(fan, turn, task);
    }
    twill__fan_judge(fan, turn);
}

/* The task has its outcome: from now on it can be read. */
static inline void twill__fan_publish(twill_fan *fan, twill__fan_turn *turn, twill__fan_task *task,
                                      twill_status status, int code, twill_ns now)
{
    task->outcome.status = status;
    task->outcome.code = code;
    task->outcome.finished = now;
    fan->in_flight--;
    fan->unread++;
    twill__fan_count(fan, turn, task);
    if (fan->ordered) {
        *twill__fan_place(fan, task->outcome.index) = task;
        turn->notify |= task->outcome.index == fan->emit;
    } else {
        turn->notify |= !fan->done.first;
        twill__fan_push(&fan->done, task);
    }
    if (fan->spinning) /* relaxed: a hint to look again under the lock */
        atomic_fetch_add_explicit(&fan->published, 1, memory_order_relaxed);
}

/* Publishes what the lanes have gathered, in the order of the ends. */
static inline void twill__fan_sweep(twill_fan *fan, twill__fan_turn *turn)
{
    uint32_t ended[TWILL__FAN_LANES];
    if (!fan->laned)
        return;
    for (unsigned k = 0; k < fan->workers; k++) {
        twill__fan_lane *lane = &fan->slot[k].lane;
        /* seq_cst: see twill__fan_wait_in */
        ended[k] = atomic_load_explicit(&lane->ended, memory_order_seq_cst);
        for (uint32_t at = lane->taken; at != ended[k]; at++) {
            const twill__fan_task *task = twill__fan_lane_at(lane, at);
            __builtin_prefetch(&task->fn);
            __builtin_prefetch(&task->holds);
        }
    }
    for (;;) { /* exit: all that had ended */
        twill__fan_task *first = NULL;
        twill__fan_lane *from = NULL;
        for (unsigned k = 0; k < fan->workers; k++) {
            twill__fan_lane *lane = &fan->slot[k].lane;
            twill__fan_task *task = twill__fan_lane_at(lane, lane->taken);
            if (lane->taken == ended[k] ||
                (first && first->outcome.finished <= task->outcome.finished))
                continue;
            first = task;
            from = lane;
        }
        if (!first)
            return;
        from->taken++;
        if (fan->streams) /* the place is free, whoever has the record */
            from->returned = from->taken;
        twill__fan_publish(fan, turn, first, first->outcome.status, first->outcome.code,
                           first->outcome.finished);
    }
}

/* The lane's next record is passed over, by its owner: it has another end. */
static inline void twill__fan_lane_pass(twill_fan *fan, twill__fan_turn *turn,
                                        twill__fan_lane *lane)
{
    twill__fan_sweep(fan, turn);
    lane->taken++;
    if (fan->streams)
        lane->returned = lane->taken;
    atomic_store_explicit(&lane->ended, lane->taken, memory_order_seq_cst);
    /* relaxed: under the lock, as all who look */
    atomic_store_explicit(&lane->current, NULL, memory_order_relaxed);
}

/* It gets its outcome although it still runs. */
static inline void twill__fan_answer(twill_fan *fan, twill__fan_turn *turn, twill__fan_task *task,
                                     twill_status status)
{
    task->answered = true;
    fan->answered++;
    fan->executing--;
    fan->blocked -= task->waits;
    task->waits = false;
    twill__fan_publish(fan, turn, task, status, 0, twill__clock_now());
}

static inline void twill__fan_answer_overdue(twill_fan *fan, twill__fan_turn *turn)
{
    for (twill__fan_task *task = fan->overdue.first; task && fan->answered < fan->max_abandoned;
         task = task->next)
        if (!task->answered)
            twill__fan_answer(fan, turn, task, TWILL_TIMEOUT);
}

/* Tasks have a time of their own, and it is over. They stand in the order of their start, so of
   their ends. */
static inline void twill__fan_expire(twill_fan *fan, twill__fan_turn *turn, twill_ns now)
{
    for (twill__fan_task *task; (task = fan->running.first) && now >= task->due;) {
        twill__fan_remove(&fan->running, task);
        twill__fan_append(&fan->overdue, task);
        task->expired = task->tell = turn->fire_some = true;
    }
    if (fan->overdue.first)
        twill__fan_answer_overdue(fan, turn);
}

/* What time has brought. The clock is read only where it can say something. */
static inline void twill__fan_clock(twill_fan *fan, twill__fan_turn *turn)
{
    bool timed = fan->timeout || !twill__no_deadline(fan->crew.run.until.deadline);
    twill_ns now = timed ? twill__clock_now() : 0;
    twill__fan_look(fan, turn, now);
    if (fan->timeout)
        twill__fan_expire(fan, turn, now);
}

/* When time will bring something, at the earliest; `deadline` otherwise. */
static inline twill_ns twill__fan_next_instant(const twill_fan *fan, twill_ns deadline)
{
    twill_ns run = fan->crew.run.until.deadline;
    if (twill__no_deadline(deadline))
        deadline = TWILL_FOREVER;
    if (!fan->over && !twill__no_deadline(run) && run < deadline)
        deadline = run;
    if (fan->timeout) { /* what starts later is due later than what would start now */
        twill_ns due = fan->running.first ? fan->running.first->due
                                          : twill__instant_after(twill__clock_now(), fan->timeout);
        if (due < deadline)
            deadline = due;
    }
    return deadline;
}

/* ---- tasks ---- */

/* A record is taken: what all see of it. */
static inline void twill__fan_fresh(twill__fan_task *task, twill_task_fn *fn, void *arg, void *key)
{
    static const twill_outcome none = {TWILL_OK, 0, 0, NULL, UINT_MAX, 0, 0, 0, 0};
    task->fn = fn;
    task->arg = arg;
    task->lane = NULL;
    task->after = NULL;
    task->outcome = none;
    task->outcome.key = key;
    task->holds = 2;
    task->tell = task->told = task->expired = task->answered = task->skip = false;
    task->waits = task->late = false;
}

/* It is about to run here: the rest of it. */
static inline void twill__fan_prepare(twill_fan *fan, twill__fan_task *task,
                                      const twill__fan_slot *slot, const twill__call_table *table)
{
    task->call.table = table;
    task->next = task->previous = task->outer = NULL;
    task->fan = fan;
    task->due = 0;
    twill_cancel_init(&task->token, slot->task->until.cancel);
}

static inline void twill__fan_accept(twill_fan *fan, twill__fan_turn *turn, twill__fan_task *task,
                                     twill_ns now)
{
    task->outcome.index = fan->next_index++;
    task->outcome.queued = now;
    /* with as many before it all workers are at work, or called; and some look by themselves */
    turn->call += fan->queue.count < fan->workers && fan->queue.count >= fan->lingering;
    fan->in_flight++;
    twill__fan_enqueue(&fan->queue, task);
}

static inline void twill__fan_start(twill_fan *fan, twill__fan_turn *turn, twill__fan_task *task,
                                    unsigned worker, twill_ns now)
{
    task->outcome.started = now;
    task->outcome.worker = worker;
    task->outcome.attempts = 1;
    fan->executing++;
    twill__fan_append(&fan->running, task);
    if (fan->timeout) {
        task->due = twill__instant_after(now, fan->timeout);
        turn->alarm = task->due;
    }
}

/* It has come to its end, in its thread. */
static inline void twill__fan_ended(twill_fan *fan, twill__fan_turn *turn, twill__fan_task *task,
                                    twill_status status, int code, twill_ns now)
{
    twill__fan_sweep(fan, turn); /* what has ended before */
    twill__fan_remove(task->expired ? &fan->overdue : &fan->running, task);
    if (task->answered) {
        fan->answered--;
        twill__fan_answer_overdue(fan, turn);
    } else {
        fan->executing--;
        if (status != TWILL_LOST && (task->expired || (task->due && now >= task->due)))
            twill__fan_publish(fan, turn, task, TWILL_TIMEOUT, 0, now);
        else
            twill__fan_publish(fan, turn, task,
                               status == TWILL_OK && task->skip ? TWILL_CANCELLED : status, code,
                               now);
    }
    twill__fan_release(fan, task);
}

/* ---- settling ---- */

/* One who waits wants to see what ends in a lane at once, or not any more. */
static inline void twill__fan_hungers(twill_fan *fan, twill__fan_wait *wait, bool hungry)
{
    if (wait->hungry == hungry)
        return;
    wait->hungry = hungry;
    /* seq_cst: a worker in a lane raises `ended`, then looks at this; who waits sweeps then */
    if (hungry)
        atomic_fetch_add_explicit(&fan->hungry, 1, memory_order_seq_cst);
    else
        atomic_fetch_sub_explicit(&fan->hungry, 1, memory_order_seq_cst);
}

static inline bool twill__fan_grant(twill_fan *fan, twill__fan_turn *turn, twill__list *list,
                                    twill__fan_wait *wait, int answer)
{
    _Atomic uint32_t *word = &wait->node.word;
    bool hungry = wait->hungry;
    wait->node.answer = answer;
    twill__fan_hungers(fan, wait, false); /* it will sweep the rest itself */
    if (!twill__grant(list, &wait->node)) {
        twill__fan_hungers(fan, wait, hungry);
        return false;
    }
    if (turn->count < sizeof turn->word / sizeof turn->word[0])
        turn->word[turn->count++] = word;
    else
        twill__wake(word, 1);
    return true;
}

static inline void twill__fan_grant_all(twill_fan *fan, twill__fan_turn *turn, twill__list *list,
                                        int answer)
{
    for (twill__node *node = list->first, *next; node; node = next) {
        next = node->next;
        (void)twill__fan_grant(fan, turn, list, (twill__fan_wait *)(void *)node, answer);
    }
}

static inline bool twill__fan_room(const twill_fan *fan)
{
    return fan->in_flight < fan->window && fan->unread < fan->max_unread;
}

/* A stream: whether the thread that calls may take one more item. */
static inline bool twill__fan_may_pull(const twill_fan *fan)
{
    return fan->pulled && !twill__fan_spared(fan, fan->next_index) &&
           fan->in_flight < fan->window && fan->used < fan->capacity;
}

/* First come, first served. A plain go does not wait for readers. */
static inline void twill__fan_settle_goers(twill_fan *fan, twill__fan_turn *turn)
{
    for (twill__node *node = fan->goers.first, *next; node; node = next) {
        twill__fan_wait *wait = (twill__fan_wait *)(void *)node;
        next = node->next;
        if (fan->unread >= fan->max_unread) {
            if (!wait->unread) /* also behind one who does wait for readers */
                (void)twill__fan_grant(fan, turn, &fan->goers, wait, TWILL_FULL);
            continue;
        }
        if (!twill__fan_room(fan))
            return;
        /* its frame stays until it has had the lock again */
        if (twill__fan_grant(fan, turn, &fan->goers, wait, TWILL_OK))
            twill__fan_accept(fan, turn, wait->task, twill__clock_now());
    }
}

/* All that is in flight waits in next: another one has read what the last of them waits for. It
   looks again, and answers DEADLOCK. */
static inline void twill__fan_settle_blocked(twill_fan *fan, twill__fan_turn *turn)
{
    for (twill__node *node = fan->readers.first, *next; node; node = next) {
        twill__fan_wait *wait = (twill__fan_wait *)(void *)node;
        next = node->next;
        if (wait->helps == TWILL__FAN_HELPS_ALWAYS &&
            twill__fan_grant(fan, turn, &fan->readers, wait, TWILL__FAN_AGAIN))
            return;
    }
}

static inline void twill__fan_settle_readers(twill_fan *fan, twill__fan_turn *turn)
{
    for (twill__node *node = fan->readers.first, *next; node && twill__fan_readable(fan);
         node = next) {
        twill__fan_wait *wait = (twill__fan_wait *)(void *)node;
        next = node->next;
        wait->task = fan->ordered ? *twill__fan_place(fan, fan->emit) : fan->done.first;
        if (!twill__fan_grant(fan, turn, &fan->readers, wait, TWILL_OK))
            continue;
        (void)twill__fan_take(fan);
        fan->gather = 0;
    }
    /* what ends behind one that is not over yet gives nothing to read, but room to pull */
    if (twill__fan_finished(fan) || twill__fan_may_pull(fan))
        twill__fan_grant_all(fan, turn, &fan->readers, TWILL__FAN_AGAIN);
    else if (fan->closed && fan->blocked && fan->in_flight == fan->blocked)
        twill__fan_settle_blocked(fan, turn);
}

/* Nothing is in flight any more, but tasks that may be left behind, when `most` may be. */
static inline bool twill__fan_calm(const twill_fan *fan, size_t most)
{
    size_t room = most > fan->answered ? most - fan->answered : 0;
    return !fan->in_flight || (fan->in_flight == fan->executing && fan->in_flight <= room);
}

static inline void twill__fan_settle_watchers(twill_fan *fan, twill__fan_turn *turn)
{
    for (twill__node *node = fan->watchers.first, *next; node; node = next) {
        twill__fan_wait *wait = (twill__fan_wait *)(void *)node;
        next = node->next;
        if (turn->again || twill__fan_calm(fan, wait->most))
            (void)twill__fan_grant(fan, turn, &fan->watchers, wait, TWILL__FAN_AGAIN);
    }
}

/* Tasks wait, nobody is at one, and the threads are a pool's: all of them may be in tasks that wait
   for this fan. With max_abandoned a caller stays out: it must be able to leave what runs. */
static inline bool twill__fan_lonely(const twill_fan *fan)
{
    return !fan->executing && !fan->crew.has_own && !fan->max_abandoned &&
           twill__fan_available(fan);
}

/* There are no threads: they could not be started, or a callback has ended them and they could not
   be replaced; or none has come while one could. */
static inline bool twill__fan_orphaned(const twill_fan *fan)
{
    const twill__team *team = fan->crew.job.team;
    return fan->deserted ||
           atomic_load_explicit(&team->lost, memory_order_seq_cst) >= team->threads;
}

/* Somebody who waits could run a task, and perhaps nobody else will. */
static inline bool twill__fan_settle_helper(twill_fan *fan, twill__fan_turn *turn,
                                            twill__list *list)
{
    bool numbered = fan->executing < fan->workers - fan->refused;
    bool orphaned = numbered && twill__fan_orphaned(fan);
    for (twill__node *node = list->first, *next; node; node = next) {
        twill__fan_wait *wait = (twill__fan_wait *)(void *)node;
        next = node->next;
        if (wait != turn->naps &&
            (orphaned || wait->helps == TWILL__FAN_HELPS_ALWAYS || (wait->helps && numbered)) &&
            twill__fan_grant(fan, turn, list, wait, TWILL__FAN_AGAIN))
            return true;
    }
    return false;
}

/* Perhaps nobody comes for what waits: somebody who waits shall look round by himself. */
static inline bool twill__fan_settle_lonely(twill_fan *fan, twill__fan_turn *turn,
                                            twill__list *list)
{
    for (twill__node *node = list->first, *next; node; node = next) {
        twill__fan_wait *wait = (twill__fan_wait *)(void *)node;
        next = node->next;
        if (wait->naps || twill__fan_grant(fan, turn, list, wait, TWILL__FAN_AGAIN))
            return true;
    }
    return false;
}

static inline void twill__fan_settle(twill_fan *fan, twill__fan_turn *turn)
{
    bool available;
    if (fan->goers.first && !turn->again)
        twill__fan_settle_goers(fan, turn);
    if (fan->readers.first)
        twill__fan_settle_readers(fan, turn);
    if (turn->again) {
        twill__fan_grant_all(fan, turn, &fan->goers, TWILL__FAN_AGAIN);
        twill__fan_grant_all(fan, turn, &fan->readers, TWILL__FAN_AGAIN);
    }
    if (fan->watchers.first)
        twill__fan_settle_watchers(fan, turn);
    /* relaxed: written under the lock alone, so the own load is exact */
    if (turn->lazy && atomic_load_explicit(&fan->ready, memory_order_relaxed) &&
        !fan->readers.first && !fan->goers.first && !fan->watchers.first)
        return;
    available = twill__fan_available(fan);
    if (available && (fan->readers.first || fan->goers.first || fan->watchers.first) &&
        !twill__fan_settle_helper(fan, turn, &fan->readers) &&
        !twill__fan_settle_helper(fan, turn, &fan->goers) &&
        !twill__fan_settle_helper(fan, turn, &fan->watchers) && twill__fan_lonely(fan) &&
        !twill__fan_settle_lonely(fan, turn, &fan->readers) &&
        !twill__fan_settle_lonely(fan, turn, &fan->goers))
        (void)twill__fan_settle_lonely(fan, turn, &fan->watchers);
    /* relaxed: as above */
    if (available != (bool)atomic_load_explicit(&fan->ready, memory_order_relaxed)) {
        /* seq_cst: a worker looks at it after the epoch, which twill__crew_call raises after it */
        atomic_store_explicit(&fan->ready, available, memory_order_seq_cst);
        if (available && !turn->call && !fan->lingering)
            turn->call = fan->workers;
    }
}

/* ---- leaving the lock ---- */

static inline void twill__fan_exit(twill_fan *fan, twill__fan_turn *turn);

/* One that is to be told, and was not yet, or NULL. */
static inline twill__fan_task *twill__fan_to_tell(const twill_fan *fan)
{
    const twill__fan_list *lists[2] = {&fan->running, &fan->overdue};
    twill__fan_task *task;
    for (int k = 0; k < 2; k++)
        for (task = lists[k]->first; task; task = task->next)
            if (task->tell && !task->told)
                return task;
    for (unsigned k = 0; fan->laned && k < fan->workers; k++)
        if ((task = atomic_load_explicit(&fan->slot[k].lane.current, memory_order_seq_cst)) &&
            task->tell && !task->told)
            return task;
    return NULL;
}

/* Fires the tokens of the tasks that are to be told. */
static inline void twill__fan_fire_some(twill_fan *fan)
{
    for (;;) { /* exit: each task is told once */
        twill__fan_task *task;
        twill__fan_turn turn = {.visitor = false};
        int why = (int)TWILL_CANCELLED;
        twill__lock(&fan->lock);
        task = twill__fan_to_tell(fan);
        if (task) {
            why = task->expired ? (int)TWILL_TIMEOUT : why; /* it may expire while we fire */
            task->told = true;
            task->holds++; /* not used again before we are back */
        }
        twill__unlock(&fan->lock);
        if (!task)
            return;
        twill_cancel_fire(&task->token, why);
        twill__fan_lock(fan, &turn);
        twill__fan_release(fan, task);
        twill__fan_exit(fan, &turn); /* a record more may be what a worker waits for */
    }
}

/* ---- callbacks of calls from outside ---- */

static inline void twill__fan_call_in(twill_fan *fan, twill__fan_calling *calling)
{
    calling->next = fan->calling;
    calling->thread = twill__thread_number();
    fan->calling = calling;
}

static inline void twill__fan_call_out(twill_fan *fan, const twill__fan_calling *calling)
{
    twill__fan_calling **at = &fan->calling;
    while (*at != calling)
        at = &(*at)->next;
    *at = calling->next;
}

/* Whether this thread is inside a callback of the fan: then it must not wait for the fan's end. */
static inline bool twill__fan_inside(twill_fan *fan)
{
    uint64_t me = twill__thread_number();
    bool inside = twill__crew_inside(&fan->crew);
    twill__lock(&fan->lock);
    for (const twill__fan_calling *calling = fan->calling; calling; calling = calling->next)
        inside |= calling->thread == me;
    twill__unlock(&fan->lock);
    return inside;
}

typedef struct twill__fan_outcall {
    twill__fan_calling calling;
    twill_fan *fan;
    bool visitor; /* a worker needs neither: the crew's guard sees it end */
} twill__fan_outcall;

static inline void twill__fan_outcall_begin(twill_fan *fan, const twill__fan_turn *turn,
                                            twill__fan_outcall *outcall)
{
    outcall->fan = fan;
    outcall->visitor = turn->visitor;
    if (outcall->visitor)
        twill__fan_call_in(fan, &outcall->calling);
}

static inline void twill__fan_outcall_end(twill__fan_outcall *outcall)
{
    if (!outcall->visitor)
        return;
    twill__lock(&outcall->fan->lock);
    twill__fan_call_out(outcall->fan, &outcall->calling);
    twill__unlock(&outcall->fan->lock);
}

/* The callback has ended the thread. */
static inline void twill__fan_outcall_ended(void *outcall_)
{
    twill__fan_outcall *outcall = (twill__fan_outcall *)outcall_;
    twill__fan_outcall_end(outcall);
    if (outcall->visitor)
        twill__fan_leave(outcall->fan);
}

static inline void twill__fan_notify(twill_fan *fan, twill__fan_outcall *outcall)
{
    twill_task task = twill__fan_outside(fan, SIZE_MAX);
    TWILL__GUARD_PUSH(twill__fan_outcall_ended, outcall);
    fan->notify(&task);
    TWILL__GUARD_POP(0);
    twill__fan_outcall_end(outcall);
}

static inline void twill__fan_exit(twill_fan *fan, twill__fan_turn *turn)
{
    twill__fan_outcall outcall;
    bool notify = turn->notify && fan->notify;
    twill__fan_settle(fan, turn);
    twill__fan_count_in(fan, turn);
    if (notify)
        twill__fan_outcall_begin(fan, turn, &outcall);
    twill__unlock(&fan->lock);
    for (unsigned k = 0; k < turn->count; k++)
        twill__wake(turn->word[k], 1);
    if (turn->call)
        twill__crew_call(&fan->crew, turn->call);
    if (turn->alarm)
        twill__crew_alarm(&fan->crew, turn->alarm);
    if (turn->fire_all)
        twill_cancel_fire(&fan->root, (int)TWILL_CANCELLED);
    if (turn->fire_some)
        twill__fan_fire_some(fan);
    if (notify)
        twill__fan_notify(fan, &outcall);
}

/* Under the lock before and after: calls notify, if it is to be called. It may end the thread: so
   not with a task in hand, nor while something on this stack stands in a list. True: the lock was
   given back: look again. */
static inline bool twill__fan_told(twill_fan *fan, twill__fan_turn *turn)
{
    if (!turn->notify || !fan->notify)
        return false;
    twill__fan_exit(fan, turn);
    twill__fan_lock(fan, turn);
    return true;
}
#endif

/* ---- what a task says ---- */

static inline void twill__fan_task_stop(const twill_task *task)
{
    twill__fan_task *mine = (twill__fan_task *)task->private_;
    twill_fan *fan = mine->fan;
    twill__fan_turn turn = {.visitor = false};
    if (!twill__fan_here(fan)) /* it has forked */
        return;
    twill__fan_lock(fan, &turn);
    if (!mine->answered) {
        if (mine->outcome.index < fan->stop_at)
            twill__fan_stop_at(fan, mine->outcome.index);
        twill__fan_lower(fan, &turn, mine->outcome.index);
    }
    twill__fan_exit(fan, &turn);
}

static inline void twill__fan_task_skip(const twill_task *task)
{
    ((twill__fan_task *)task->private_)->skip = true; /* read by its own thread alone */
}

/* With max_abandoned the user's token is not above the task's, and a request (of a signal handler,
   say) has not reached that: asks the user's, while it is there, and passes on what it says. */
static inline bool twill__fan_task_looks(const twill_task *task)
{
    twill_fan *fan = ((twill__fan_task *)task->private_)->fan;
    twill__fan_turn turn = {.visitor = false};
    if (!twill__fan_here(fan))
        return false;
    twill__fan_lock(fan, &turn);
    twill__fan_look(fan, &turn, 0);
    if (turn.fire_all)
        twill__fan_exit(fan, &turn);
    else
        twill__unlock(&fan->lock);
    return turn.fire_all;
}

/* Who has no token of the user's looks without the lock. `cancel` is read with max_abandoned alone,
   and then under the lock: see twill__fan_bury. */
static inline const twill__call_table *twill__fan_task_table(const twill_fan *fan)
{
    static const twill__call_table table[2] = {
        {NULL, twill__fan_task_stop, twill__fan_task_skip, NULL, NULL},
        {twill__fan_task_looks, twill__fan_task_stop, twill__fan_task_skip, NULL, NULL}};
    return &table[fan->max_abandoned && fan->cancel];
}

/* ---- tasks that do not run ---- */

typedef struct twill__fan_dropping { /* what its guard needs */
    twill__fan_calling calling;
    twill_fan *fan;
    twill__fan_task *task;
    twill_status why;
    bool visitor;
} twill__fan_dropping;

static inline void *twill__fan_item(const twill_fan *fan, twill__fan_task *task)
{
    return fan->copies ? (char *)task + fan->item_at : task->arg;
}

static inline void twill__fan_dropped(void *dropping_)
{
    twill__fan_dropping *dropping = (twill__fan_dropping *)dropping_;
    twill_fan *fan = dropping->fan;
    twill__fan_turn turn = {.visitor = dropping->visitor, .counted = dropping->visitor};
    twill__fan_lock(fan, &turn);
    if (dropping->visitor)
        twill__fan_call_out(fan, &dropping->calling);
    twill__fan_publish(fan, &turn, dropping->task, dropping->why, 0, twill__clock_now());
    twill__fan_release(fan, dropping->task);
    twill__fan_exit(fan, &turn);
    if (dropping->visitor)
        twill__fan_leave(fan);
}

static inline void twill__fan_call_drop(twill_fan *fan, void *item, size_t index, twill_status why)
{
    twill_task task = twill__fan_outside(fan, index);
    fan->drop(item, why, &task);
}

/* The task was taken out of the queue; the lock is held before and after. */
static inline void twill__fan_drop(twill_fan *fan, twill__fan_turn *turn, twill__fan_task *task)
{
    twill__fan_dropping dropping = {
        {NULL, 0}, fan, task, fan->over ? fan->over : TWILL_CANCELLED, turn->visitor};
    if (fan->drop) {
        if (dropping.visitor)
            twill__fan_call_in(fan, &dropping.calling);
        twill__fan_exit(fan, turn);
        TWILL__GUARD_PUSH(twill__fan_dropped, &dropping);
        twill__fan_call_drop(fan, twill__fan_item(fan, task), task->outcome.index, dropping.why);
        TWILL__GUARD_POP(0);
        twill__fan_lock(fan, turn);
        if (dropping.visitor)
            twill__fan_call_out(fan, &dropping.calling);
    }
    twill__fan_publish(fan, turn, task, dropping.why, 0, twill__clock_now());
    twill__fan_release(fan, task);
}

/* A record becomes that of the source's item. */
static inline void twill__fan_item_record(twill_fan *fan, twill__fan_task *task, size_t index)
{
    twill__fan_fresh(task, NULL, NULL, NULL);
    task->outcome.index = index;
    task->outcome.queued = fan->since;
    task->arg = (void *)(uintptr_t)(fan->items + index * fan->item_size);
}

/* Under the lock: the last one of a lane that nobody has begun, as a task of its own. NULL: there
   is none any more. An item needs a free record. */
static inline twill__fan_task *twill__fan_lane_last(twill_fan *fan, twill__fan_lane *lane)
{
    twill__fan_task *task;
    size_t at;
    if (!twill__fan_lane_take(lane, true, &at))
        return NULL;
    if (fan->streams) {
        task = twill__fan_lane_at(lane, (uint32_t)at);
        task->holds = 2;
    } else {
        task = twill__fan_take_free(fan);
        twill__fan_item_record(fan, task, at);
    }
    return task;
}

/* The highest one in a lane, if it need not run: becomes a task of its own, or NULL. */
static inline twill__fan_task *twill__fan_lane_spared(twill_fan *fan)
{
    for (unsigned k = 0; fan->laned && (fan->streams || fan->free) && k < fan->workers; k++) {
        twill__fan_lane *lane = &fan->slot[k].lane;
        size_t last = lane->base +
                      (size_t)twill__hi(atomic_load_explicit(&lane->range, memory_order_seq_cst)) -
                      1;
        twill__fan_task *task;
        if (!twill__fan_lane_any(lane))
            continue;
        if (fan->streams)
            last = twill__fan_lane_at(lane, (uint32_t)last)->outcome.index;
        if (twill__fan_spared(fan, last) && (task = twill__fan_lane_last(fan, lane)) != NULL)
            return task;
    }
    return NULL;
}

/* Drops what need not run any more, without waiting for a worker. False: there was nothing. */
static inline bool twill__fan_drop_spared(twill_fan *fan, twill__fan_turn *turn)
{
    twill__fan_task *task;
    if (!fan->over && fan->limit == SIZE_MAX)
        return false;
    if (twill__fan_told(fan, turn))
        return true;
    task = twill__fan_queue_first(&fan->queue);
    if (!task)
        task = twill__fan_lane_spared(fan);
    else if (twill__fan_spared(fan, task->outcome.index))
        (void)twill__fan_dequeue(&fan->queue);
    else
        return false;
    if (task)
        twill__fan_drop(fan, turn, task);
    return task != NULL;
}

/* ---- tasks that run ---- */

/* A record for a task, or NULL: there is no memory, or (look again) there was none under the
   lock. */
static inline twill__fan_task *twill__fan_record(twill_fan *fan, twill__fan_turn *turn,
                                                 bool *no_memory)
{
    size_t more, ring;
    twill__fan_chunk *chunk;
    *no_memory = false;
    if (fan->free)
        return twill__fan_take_free(fan);
    more = twill__fan_growth(fan);
    ring = twill__fan_next_ring(fan, more);
    twill__fan_exit(fan, turn);
    chunk = twill__fan_new_chunk(fan, more, ring);
    twill__fan_lock(fan, turn);
    *no_memory = !chunk && !fan->free;
    if (chunk && !twill__fan_add_chunk(fan, chunk, more)) {
        twill__fan_exit(fan, turn);
        TWILL_FREE(chunk);
        twill__fan_lock(fan, turn);
    }
    return NULL;
}

/* The next one to run. NULL: none, or the lock was given back: look again. */
static inline twill__fan_task *twill__fan_next_task(twill_fan *fan, twill__fan_turn *turn)
{
    twill__fan_lane *lane;
    twill__fan_task *task;
    if (fan->queue.count)
        return twill__fan_dequeue(&fan->queue);
    if (!fan->streams && !fan->free) {
        bool no_memory;
        (void)twill__fan_record(fan, turn, &no_memory);
        if (no_memory)
            fan->capacity = fan->used; /* it goes on with those that it has */
        return NULL;                   /* the lock was given back: items may be spared by now */
    }
    if (!twill__fan_source_left(fan)) { /* what a lane has not begun, since its worker is slow */
        lane = twill__fan_lane_left(fan);
        return lane ? twill__fan_lane_last(fan, lane) : NULL;
    }
    task = twill__fan_take_free(fan);
    twill__fan_item_record(fan, task, fan->source_next++);
    fan->in_flight++;
    if (fan->copies) /* the caller may be gone before the task */
        memcpy((char *)task + fan->item_at, task->arg, fan->item_size);
    return task;
}

/* Runs the user's function. The record is in `running`; no lock is held. */
static inline int twill__fan_invoke(twill_fan *fan, const twill_task *base, twill__fan_task *task)
{
    twill_task mine = *base;
    void *result = twill__fan_result(fan, task);
    mine.index = task->outcome.index;
    mine.until.cancel = &task->token;
    if (task->due && (twill__no_deadline(mine.until.deadline) || task->due < mine.until.deadline))
        mine.until.deadline = task->due;
    mine.private_ = task;
    if (result)
        memset(result, 0, fan->result_size);
    return task->fn ? task->fn(task->arg, result, &mine)
                    : fan->process(twill__fan_item(fan, task), result, &mine);
}

static inline void twill__fan_call_discard(twill_fan *fan, twill__fan_task *task)
{
    twill_task outside = twill__fan_outside(fan, task->outcome.index);
    fan->discard(twill__fan_item(fan, task), twill__fan_result(fan, task), 0, &outside);
}

/* Runs a task to its end. The lock is held before and after; false: it is another process now, and
   nothing of the fan is touched any more. */
static inline bool twill__fan_run(twill_fan *fan, twill__fan_turn *turn, twill__fan_slot *slot,
                                  twill__fan_task *task, twill_ns *now)
{
    twill_ns end;
    int code;
    /* before others can see it run, and fire it */
    twill__fan_prepare(fan, task, slot, twill__fan_task_table(fan));
    if (*now < task->outcome.queued) /* the end of the task before it */
        *now = task->outcome.queued;
    twill__fan_start(fan, turn, task, slot->task->worker, *now);
    task->outer = slot->current;
    slot->current = task;
    twill__fan_exit(fan, turn);
    code = twill__fan_invoke(fan, slot->task, task);
    if (!twill__fan_here(fan))
        return false;
    twill__token_leave(twill__token_of(&task->token)); /* no hook of a fire is running now */
    *now = end = twill__clock_now();
    twill__fan_lock(fan, turn);
    if (!code && !task->skip && fan->discard &&
        (task->answered || task->expired || (task->due && end >= task->due))) {
        twill__fan_exit(fan, turn); /* nobody will take this success */
        twill__fan_call_discard(fan, task);
        *now = twill__clock_now(); /* the next one begins now */
        twill__fan_lock(fan, turn);
    }
    slot->chunks++;
    if (!task->outer) {
        slot->pace = end - task->outcome.started + 1;
        slot->busy += slot->pace - 1;
    }
    slot->current = task->outer;
    twill__fan_ended(fan, turn, task, code ? TWILL_FAILED : TWILL_OK, code, end);
    return true;
}

/* Runs or drops the next one. The lock is held before and after; false: as above. */
static inline bool twill__fan_step(twill_fan *fan, twill__fan_turn *turn, twill__fan_slot *slot,
                                   twill_ns *now)
{
    twill__fan_task *task;
    if (twill__fan_told(fan, turn) || twill__fan_drop_spared(fan, turn)) {
        *now = twill__clock_now(); /* callbacks take their time */
        twill__fan_look(fan, turn, *now);
        return true;
    }
    task = twill__fan_next_task(fan, turn);
    if (!task)
        return true;
    if (!twill__fan_run(fan, turn, slot, task, now))
        return false;
    twill__fan_look(fan, turn, *now);
    if (fan->timeout)
        twill__fan_expire(fan, turn, *now);
    return true;
}

/* ---- lanes ---- */

/* Under the lock: takes a run of items into the worker's lane; how many, 0: none. */
static inline uint32_t twill__fan_lane_fill(twill_fan *fan, twill__fan_slot *slot)
{
    twill__fan_lane *lane = &slot->lane;
    /* relaxed: the own store */
    uint32_t ended = atomic_load_explicit(&lane->ended, memory_order_relaxed);
    size_t left = fan->streams ? fan->queue.count : fan->source_n - fan->source_next, most,
           n = slot->run ? 2 * (size_t)slot->run : 2;
    if (!lane->places || !slot->pace || slot->pace > TWILL__FAN_QUICK_NS || !left ||
        (!fan->streams && !twill__fan_source_left(fan)) || twill__fan_lane_any(lane))
        return 0;
    most = (left - 1) / (2 * (size_t)fan->workers) + 1; /* the end is for all */
    if (most > (size_t)(TWILL__FAN_RUN_NS / slot->pace))
        most = (size_t)(TWILL__FAN_RUN_NS / slot->pace);
    if (most > lane->places / 2)
        most = lane->places / 2;
    if (most > n)
        most = n;
    n = lane->places - (ended - lane->returned);
    if (n > most)
        n = most;
    if (!n)
        return 0;
    if (fan->streams) {
        lane->base = ended;
        for (uint32_t at = 0; at < n; at++) {
            twill__fan_task *task = twill__fan_dequeue(&fan->queue);
            lane->ring[(ended + at) & (lane->places - 1)] = task;
            __builtin_prefetch(&task->fn, 1);
            __builtin_prefetch(&task->holds, 1);
        }
    } else {
        lane->base = fan->source_next;
        fan->source_next += n;
        fan->in_flight += n;
    }
    lane->open = true;
    fan->executing++;
    slot->run = (uint32_t)n;
    atomic_store_explicit(&lane->range, twill__pack(0, n), memory_order_seq_cst);
    return slot->run;
}

/* Under the lock: whether quick tasks could go through the lane, if its outcomes were read. */
static inline bool twill__fan_lane_is_full(const twill_fan *fan, const twill__fan_slot *slot)
{
    const twill__fan_lane *lane = &slot->lane;
    /* relaxed: the own store */
    uint32_t kept = atomic_load_explicit(&lane->ended, memory_order_relaxed) - lane->returned;
    /* something is kept: so there is a lane, and its pace is known */
    return lane->places - kept < lane->places / 4 && slot->pace <= TWILL__FAN_QUICK_NS &&
           !twill__fan_lane_any(lane) && twill__fan_source_left(fan);
}

/* Lets the reader have the CPU for a moment, if he is all that is waited for: to go on without the
   lane costs three times as much, and takes the lock from him, too. Not again and again, if he is
   slow. True: the lock was given back meanwhile. */
static inline bool twill__fan_lane_waits(twill_fan *fan, twill__fan_turn *turn,
                                         twill__fan_slot *slot, twill_ns *now)
{
    unsigned yields = TWILL__SPIN ? TWILL__FAN_YIELDS : 1;
    if (!twill__fan_lane_is_full(fan, slot))
        return false;
    if (slot->hurries) {
        slot->hurries--;
        return false;
    }
    twill__fan_sweep(fan, turn);
    while (yields-- && twill__fan_lane_is_full(fan, slot)) {
        twill__fan_exit(fan, turn);
        twill__yield();
        twill__fan_lock(fan, turn);
    }
    slot->hurries = twill__fan_lane_is_full(fan, slot) ? TWILL__FAN_HURRIES : 0;
    *now = twill__clock_now();
    return true;
}

/* Under the lock: its worker leaves it; what is left in it is for others. */
static inline void twill__fan_lane_close(twill_fan *fan, twill__fan_lane *lane)
{
    lane->open = false;
    fan->executing--;
}

/* Takes the next one; NULL: none is left. */
static inline twill__fan_task *twill__fan_lane_next(twill_fan *fan, twill__fan_slot *slot)
{
    twill__fan_lane *lane = &slot->lane;
    /* relaxed: the own store */
    uint32_t ended = atomic_load_explicit(&lane->ended, memory_order_relaxed);
    twill__fan_task *task;
    size_t at;
    if (!twill__fan_lane_take(lane, false, &at))
        return NULL;
    task = twill__fan_lane_at(lane, ended);
    if (!fan->streams) {
        twill__fan_item_record(fan, task, at);
        task->lane = lane;
    }
    task->holds = 1; /* of the outcome: nobody touches it here after its end */
    twill__fan_prepare(fan, task, slot, twill__fan_task_table(fan));
    /* seq_cst: then `cut` is looked at; see twill__fan_lanes_tell */
    atomic_store_explicit(&lane->current, task, memory_order_seq_cst);
    return task;
}

/* Runs it, and gathers its outcome. False: it is another process now. */
static inline bool twill__fan_lane_run(twill_fan *fan, twill__fan_slot *slot, twill__fan_task *task,
                                       twill_ns *now)
{
    twill__fan_lane *lane = &slot->lane;
    uint32_t ended = atomic_load_explicit(&lane->ended, memory_order_relaxed); /* the own store */
    int code;
    if (*now < task->outcome.queued) /* the end of the task before it */
        *now = task->outcome.queued;
    task->outcome.started = *now;
    task->outcome.worker = slot->task->worker;
    task->outcome.attempts = 1;
    slot->current = task;
    code = twill__fan_invoke(fan, slot->task, task);
    if (!twill__fan_here(fan))
        return false;
    twill__token_leave(twill__token_of(&task->token)); /* no hook of a fire is running now */
    slot->current = NULL;
    *now = twill__clock_now();
    slot->chunks++;
    slot->busy += *now - task->outcome.started;
    task->outcome.finished = *now;
    task->outcome.code = code;
    task->outcome.status = code ? TWILL_FAILED : task->skip ? TWILL_CANCELLED : TWILL_OK;
    /* relaxed: before `ended`, so that who has published it does not find it here */
    atomic_store_explicit(&lane->current, NULL, memory_order_relaxed);
    /* seq_cst: then `hungry` is looked at */
    atomic_store_explicit(&lane->ended, ended + 1, memory_order_seq_cst);
    return true;
}

/* Whether the worker in a lane must have the lock: somebody waits for outcomes, or the run is
   over. */
static inline bool twill__fan_lane_calls(const twill_fan *fan, twill_ns now)
{
    twill_ns deadline = fan->crew.run.until.deadline;
    return atomic_load_explicit(&fan->hungry, memory_order_seq_cst) ||
           (!twill__no_deadline(deadline) && now >= deadline) ||
           (fan->cancel && twill_cancel_fired(fan->cancel));
}

/* A run of items, if tasks are quick. The lock is held before and after. 0: none was taken; 1; -1:
   this is another process now. */
static inline int twill__fan_lane_work(twill_fan *fan, twill__fan_turn *turn, twill__fan_slot *slot,
                                       twill_ns *now)
{
    twill__fan_lane *lane = &slot->lane;
    twill__fan_task *task;
    twill_ns began = *now;
    uint32_t at, n = twill__fan_lane_fill(fan, slot);
    if (!n)
        return 0;
    twill__fan_exit(fan, turn);
    while ((task = twill__fan_lane_next(fan, slot)) != NULL) { /* exit: each turn takes one */
        bool spared = task->outcome.index >= atomic_load_explicit(&fan->cut, memory_order_seq_cst);
        if (!spared && !twill__fan_lane_run(fan, slot, task, now))
            return -1;
        if (!spared && !twill__fan_lane_calls(fan, *now))
            continue;
        twill__fan_lock(fan, turn);
        twill__fan_look(fan, turn, *now);
        if (spared) {
            twill__fan_lane_pass(fan, turn, lane);
            task->holds++;
            twill__fan_drop(fan, turn, task);
        } else {
            twill__fan_sweep(fan, turn);
        }
        twill__fan_exit(fan, turn);
    }
    twill__fan_lock(fan, turn);
    twill__fan_lane_close(fan, lane);
    /* relaxed: the own store */
    at = atomic_load_explicit(&lane->ended, memory_order_relaxed);
    if (fan->gather && (*now >= fan->gather || at - lane->taken >= lane->places / 2))
        twill__fan_sweep(fan, turn);
    slot->pace = (*now - began) / n + 1;
    twill__fan_look(fan, turn, *now);
    return 1;
}

/* ---- the crew's functions ---- */

static inline bool twill__fan_ready(void *fan_)
{
    twill_fan *fan = (twill_fan *)fan_;
    twill_ns due = 0, run = 0;
    if (!twill__fan_here(fan)) /* a task has forked: the others are the parent's */
        return false;
    /* seq_cst: see twill__fan_settle */
    if (atomic_load_explicit(&fan->ready, memory_order_seq_cst))
        return true;
    if (fan->notify)
        run = fan->crew.run.until.deadline;
    if (!fan->timeout && twill__no_deadline(run))
        return false;
    twill__lock(&fan->lock);
    if (fan->running.first)
        due = fan->running.first->due;
    if (!fan->over)
        due = twill__nearer(due, run);
    twill__unlock(&fan->lock);
    if (due && twill__clock_now() >= due)
        return true;
    if (due)
        twill__crew_alarm(&fan->crew, due);
    return false;
}

/* The entry of this thread among those that help, or NULL. */
static inline twill__fan_helping **twill__fan_find_helping(twill_fan *fan)
{
    uint64_t me = fan->helping ? twill__thread_number() : 0;
    for (twill__fan_helping **at = &fan->helping; *at; at = &(*at)->next)
        if ((*at)->thread == me)
            return at;
    return NULL;
}

static inline bool twill__fan_is_ready(void *fan_)
{
    /* relaxed: a hint to look under the lock */
    return atomic_load_explicit(&((twill_fan *)fan_)->ready, memory_order_relaxed) != 0;
}

/* Tasks were quick, and there are none just now: more will come. A moment here, where go need not
   wake anybody. True: there are some. */
static inline bool twill__fan_lingers(twill_fan *fan, twill__fan_turn *turn,
                                      const twill__fan_slot *slot, twill_ns *now)
{
    if (!fan->streams || !fan->laned || !slot->pace || slot->pace > TWILL__FAN_QUICK_NS ||
        (fan->closed && !fan->pulled))
        return false;
    if (fan->readers.first || fan->goers.first || fan->watchers.first)
        twill__fan_sweep(fan, turn);
    fan->lingering++;
    twill__fan_exit(fan, turn);
    (void)twill__spin_for(twill__fan_is_ready, fan, TWILL__SPIN_WAIT, TWILL__SPIN_YIELDS);
    *now = twill__clock_now();
    twill__fan_lock(fan, turn);
    fan->lingering--;
    return twill__fan_available(fan);
}

static inline void twill__fan_work(void *fan_, twill_task *task)
{
    twill_fan *fan = (twill_fan *)fan_;
    twill__fan_slot *slot = &fan->slot[task->worker];
    twill__fan_turn turn = {.visitor = false};
    twill_ns now;
    bool once, full;
    slot->task = task;
    /* relaxed: only the own thread finds its number here */
    atomic_store_explicit(&slot->thread, twill__thread_number(), memory_order_relaxed);
    twill__fan_lock(fan, &turn);
    once = twill__fan_find_helping(fan) != NULL;
    if (!once)
        fan->deserted = false;
    now = twill__clock_now();
    twill__fan_clock(fan, &turn);
    /* exit: each turn takes a task; helpers one; lingers once after each */
    while (twill__fan_available(fan) || (!once && twill__fan_lingers(fan, &turn, slot, &now))) {
        int lane;
        if (!once && twill__fan_lane_waits(fan, &turn, slot, &now))
            continue;
        lane = once ? 0 : twill__fan_lane_work(fan, &turn, slot, &now);
        if (lane < 0 || (!lane && !twill__fan_step(fan, &turn, slot, &now)))
            return;
        if (once)
            break;
    }
    atomic_store_explicit(&slot->thread, 0, memory_order_relaxed);
    full = fan->laned && twill__fan_source_left(fan);
    if (fan->readers.first || fan->goers.first || fan->watchers.first)
        twill__fan_sweep(fan, &turn); /* nobody else may do that for them */
    twill__fan_exit(fan, &turn);
    if (full && !once) /* of outcomes: who reads them may want this CPU */
        twill__yield();
}

/* A callback has ended the thread: what it ran is LOST. */
static inline void twill__fan_died(void *fan_, twill_task *task)
{
    twill_fan *fan = (twill_fan *)fan_;
    twill__fan_slot *slot = &fan->slot[task->worker];
    twill__fan_helping **helping;
    twill__fan_turn turn = {.visitor = false};
    twill_ns now = twill__clock_now();
    bool visits = false;
    if (!twill__fan_here(fan))
        return;
    for (twill__fan_task *lost = slot->current; lost; lost = lost->outer)
        twill__token_leave(twill__token_of(&lost->token));
    twill__fan_lock(fan, &turn);
    for (twill__fan_task *lost = slot->current, *outer; lost; lost = outer) {
        outer = lost->outer;
        if (outer || !slot->lane.open) {
            twill__fan_ended(fan, &turn, lost, TWILL_LOST, 0, now);
        } else { /* the lane's */
            twill__fan_lane_pass(fan, &turn, &slot->lane);
            twill__fan_publish(fan, &turn, lost, TWILL_LOST, 0, now);
        }
    }
    slot->current = NULL;
    if (slot->lane.open)
        twill__fan_lane_close(fan, &slot->lane);
    atomic_store_explicit(&slot->thread, 0, memory_order_relaxed); /* as above */
    fan->deaths++;
    helping = twill__fan_find_helping(fan);
    if (helping) {
        visits = (*helping)->visits;
        *helping = (*helping)->next;
    }
    twill__fan_exit(fan, &turn);
    if (visits)
        twill__fan_leave(fan);
}

/* The user's worker_start, and what follows when every number refuses: nobody will run a task. */
static inline int twill__fan_worker_start(void **state, const twill_task *task)
{
    twill_fan *fan = (twill_fan *)((twill__job *)task->private_)->data;
    twill__fan_slot *slot = &fan->slot[task->worker];
    twill__fan_turn turn = {.visitor = false};
    int code = -1;
    if (!slot->starting) { /* else it has ended a thread already */
        slot->starting = true;
        code = fan->worker_start(state, task);
        slot->starting = false;
    }
    if (!code || !twill__fan_here(fan))
        return code;
    twill__fan_lock(fan, &turn);
    fan->start_code = code;
    if (++fan->refused == fan->workers)
        twill__fan_end(fan, &turn, TWILL_CANCELLED, TWILL_CLOSED);
    twill__fan_exit(fan, &turn);
    return code;
}

/* ---- callers that run tasks ---- */

/* Where this thread runs a task of the fan, or NULL. */
static inline twill__fan_slot *twill__fan_my_slot(const twill_fan *fan)
{
    uint64_t me = twill__thread_number();
    /* relaxed: the own number is the own store. One that helps in a callback has two */
    for (unsigned k = 0; k < fan->workers; k++)
        if (atomic_load_explicit(&fan->slot[k].thread, memory_order_relaxed) == me &&
            fan->slot[k].current)
            return &fan->slot[k];
    return NULL;
}

/* Runs one task, if a worker number is free. 1: it did. 0: it did not. -1: this is another process
   now. */
static inline int twill__fan_help(twill_fan *fan, twill__fan_turn *turn)
{
    twill__fan_helping me = {fan->helping, twill__thread_number(), turn->visitor}, **at;
    bool served;
    fan->helping = &me;
    twill__fan_exit(fan, turn);
    served = twill__crew_help(&fan->crew);
    if (!twill__fan_here(fan))
        return -1;
    twill__fan_lock(fan, turn);
    at = twill__fan_find_helping(fan);
    *at = (*at)->next;
    return served;
}

/* While a call waits: runs a task instead, if this thread should. 1: the lock was given back, the
   caller looks again. 0: it did not; *refused: it would have. -1: this is another process now. */
static inline int twill__fan_instead(twill_fan *fan, twill__fan_turn *turn, twill__fan_slot *slot,
                                     bool helps, bool *refused)
{
    bool before = *refused;
    int served;
    *refused = false;
    if (!twill__fan_available(fan))
        return 0;
    if (twill__fan_told(fan, turn))
        return 1;
    if (slot) {
        twill_ns now = twill__clock_now();
        return twill__fan_step(fan, turn, slot, &now) ? 1 : -1;
    }
    if (fan->executing >= fan->workers - fan->refused || !(helps || twill__fan_orphaned(fan)))
        return 0;
    if (before) { /* and all has been looked at since */
        *refused = true;
        return 0;
    }
    served = twill__fan_help(fan, turn);
    *refused = served == 0;
    return served < 0 ? -1 : 1;
}
#endif

/* ---- waiting ---- */

/* Whether a worker is in a lane. */
static inline bool twill__fan_gathering(const twill_fan *fan)
{
    for (unsigned k = 0; fan->laned && k < fan->workers; k++)
        if (fan->slot[k].lane.open)
            return true;
    return false;
}

/* Under the lock before and after: waits in `list`. True: answered, in wait->node.answer. False:
   *over is TIMEOUT or CANCELLED by `until`, or OK: time has brought something else. */
static inline bool twill__fan_wait_in(twill_fan *fan, twill__fan_turn *turn, twill__list *list,
                                      twill__fan_wait *wait, twill_until until, twill_status *over)
{
    twill_until soon = {twill__fan_next_instant(fan, until.deadline), until.cancel};
    twill_status status;
    bool gather = twill__fan_gathering(fan) && list == &fan->readers && !wait->strict;
    bool lonely = twill__fan_lonely(fan);
    twill_ns look = 0;
    if (twill__fan_told(fan, turn)) {
        *over = TWILL_OK;
        return false;
    }
    wait->naps =
        (wait->helps || wait->refused || fan->deaths || lonely) && twill__fan_available(fan);
    wait->refused = false;
    if (wait->naps) {
        turn->naps = wait;
        /* no worker number was free a moment ago; or a thread may not be replaced in a moment, or
           none may come */
        look = twill__clock_now() + TWILL_MS(1);
        soon.deadline = twill__nearer(soon.deadline, look);
    }
    twill__node_init(&wait->node);
    twill__list_append(list, &wait->node);
    if (gather) { /* workers in lanes need not look whether somebody waits: they are quick */
        fan->gather = twill__clock_now() + TWILL__FAN_GATHER_NS;
        soon.deadline = twill__nearer(soon.deadline, fan->gather + TWILL__FAN_GATHER_NS);
    } else if (fan->laned) {
        twill__fan_hungers(fan, wait, true);
        twill__fan_sweep(fan, turn);
    }
    twill__fan_exit(fan, turn);
    status = twill__wait(&wait->node, soon);
    twill__fan_lock(fan, turn);
    fan->gather = 0;
    twill__fan_hungers(fan, wait, false);
    if (status == TWILL_OK)
        return true;
    twill__list_remove(list, &wait->node);
    fan->deserted |= lonely && twill__fan_lonely(fan) && twill__clock_now() >= look;
    *over = twill__over(until);
    return false;
}

typedef struct twill__fan_watch {
    const twill_fan *fan;
    uint32_t seen;
} twill__fan_watch;

/* Changes when there is something to look at. */
static inline uint32_t twill__fan_moves(const twill_fan *fan)
{
    /* relaxed: hints to look again under the lock */
    uint32_t moves = atomic_load_explicit(&fan->published, memory_order_relaxed);
    for (unsigned k = 0; fan->laned && k < fan->workers; k++)
        moves += atomic_load_explicit(&fan->slot[k].lane.ended, memory_order_relaxed);
    return moves;
}

static inline bool twill__fan_moved(void *watch_)
{
    twill__fan_watch *watch = (twill__fan_watch *)watch_;
    return twill__fan_moves(watch->fan) != watch->seen;
}

/* Before a node is put into a list: a moment outside the lock, since a parked round trip costs far
   more. */
static inline void twill__fan_moment(twill_fan *fan, twill__fan_turn *turn)
{
    twill__fan_watch watch = {fan, twill__fan_moves(fan)}; /* under the lock */
    fan->spinning++;
    twill__fan_exit(fan, turn);
    if (twill__spin_for(twill__fan_moved, &watch, TWILL__SPIN_WAIT, TWILL__SPIN_YIELDS) &&
        fan->laned)
        twill__yield(); /* more will gather */
    twill__fan_lock(fan, turn);
    fan->spinning--;
}

static inline unsigned twill__fan_helps(const twill_fan *fan, const twill__fan_slot *slot)
{
    return slot                                   ? TWILL__FAN_HELPS_ALWAYS
           : twill__crew_counts_on_us(&fan->crew) ? TWILL__FAN_HELPS_NUMBERED
                                                  : 0;
}

/* The end of a call. */
static inline twill_status twill__fan_return(twill_fan *fan, twill__fan_turn *turn,
                                             twill_status status)
{
    if (turn->visitor && !turn->counted) {
        twill__fan_settle(fan, turn);
        if (!turn->count && !turn->call && !turn->alarm && !turn->fire_all && !turn->fire_some &&
            !(turn->notify && fan->notify)) {
            twill__unlock(&fan->lock); /* the last access: destroy need not know of it */
            return status;
        }
    }
    twill__fan_exit(fan, turn);
    if (turn->visitor)
        twill__fan_leave(fan);
    return status;
}

/* A call begins. From inside a callback of the fan nobody needs to count it: destroy waits for the
   callback. */
static inline bool twill__fan_begin(twill_fan *fan, twill__fan_turn *turn)
{
    bool inside = twill__crew_inside(&fan->crew);
    if (inside) {
        turn->visitor = turn->lazy = false;
        twill__fan_lock(fan, turn);
    } else {
        twill__fan_enter(fan, turn);
    }
    return inside;
}

/* ---- next ---- */

/* ENOUGH: asks about an outcome that this thread has taken. */
static inline void twill__fan_ask(twill_fan *fan, twill__fan_turn *turn, twill__fan_task *task)
{
    twill_task outside = twill__fan_outside(fan, task->outcome.index);
    twill__fan_outcall outcall;
    bool enough;
    (void)twill__fan_told(fan, turn);
    twill__fan_outcall_begin(fan, turn, &outcall);
    twill__fan_exit(fan, turn);
    TWILL__GUARD_PUSH(twill__fan_outcall_ended, &outcall);
    enough = fan->enough(&task->outcome,
                         task->outcome.status == TWILL_OK ? twill__fan_result(fan, task) : NULL,
                         &outside);
    TWILL__GUARD_POP(0);
    twill__fan_outcall_end(&outcall);
    twill__fan_lock(fan, turn);
    if (enough) {
        fan->met = true;
        twill__fan_end(fan, turn, TWILL_CANCELLED, TWILL_CLOSED);
    }
}

/* Copies the outcome out, and gives the record back. */
static inline void twill__fan_deliver(twill_fan *fan, twill__fan_turn *turn, twill__fan_task *task,
                                      void *result, twill_outcome *outcome)
{
    if (fan->enough && !fan->met)
        twill__fan_ask(fan, turn, task);
    *outcome = task->outcome;
    if (result && outcome->status != TWILL_OK) {
        memset(result, 0, fan->result_size);       /* the task may still be writing its own */
    } else if (result && fan->result_size > 256) { /* too long to hold up the others */
        twill__fan_exit(fan, turn);
        memcpy(result, twill__fan_result(fan, task), fan->result_size);
        twill__fan_lock(fan, turn);
    } else if (result && fan->result_size) {
        memcpy(result, twill__fan_result(fan, task), fan->result_size);
    }
    twill__fan_release(fan, task);
}

/* How many tasks this thread has begun that have no outcome yet. */
static inline size_t twill__fan_depth(const twill__fan_slot *slot)
{
    size_t depth = 0;
    for (const twill__fan_task *task = slot->current; task; task = task->outer)
        depth += !task->answered;
    return depth;
}

/* These wait in next, or do not any more. */
static inline void twill__fan_block(twill_fan *fan, const twill__fan_slot *slot, bool waits)
{
    for (twill__fan_task *task = slot ? slot->current : NULL; task; task = task->outer)
        if (!task->answered) {
            task->waits = waits;
            fan->blocked += waits ? 1 : (size_t)-1;
        }
}

static inline twill_status twill__fan_get(twill_fan *fan, void *result, twill_outcome *outcome,
                                          twill_until until, bool wait)
{
    twill__fan_turn turn;
    twill__fan_wait me = {.helps = 0};
    twill_status over = TWILL_OK;
    bool spun = false, inside = twill__fan_begin(fan, &turn);
    twill__fan_slot *slot = inside ? twill__fan_my_slot(fan) : NULL;
    twill__fan_task *task;
    me.helps = wait ? twill__fan_helps(fan, slot) : 0;
    for (;;) { /* exit: an answer; each turn is another's progress, or time */
        int instead;
        twill__fan_clock(fan, &turn);
        if (!twill__fan_readable(fan))
            twill__fan_sweep(fan, &turn);
        if ((task = twill__fan_take(fan)) != NULL)
            break;
        if (twill__fan_finished(fan))
            return twill__fan_return(fan, &turn, TWILL_CLOSED);
        if (twill__fan_drop_spared(fan, &turn))
            continue;
        if (!wait)
            return twill__fan_return(fan, &turn, TWILL_EMPTY);
        if (over == TWILL_OK)
            over = twill__over(until);
        if (over != TWILL_OK)
            return twill__fan_return(fan, &turn, over);
        instead = twill__fan_instead(fan, &turn, slot, me.helps != 0, &me.refused);
        if (instead < 0)
            return TWILL_FORKED;
        if (instead)
            continue;
        if (slot && fan->closed && fan->in_flight == fan->blocked + twill__fan_depth(slot))
            return twill__fan_return(fan, &turn, TWILL_DEADLOCK);
        if (!spun && !fan->readers.first) {
            spun = true;
            twill__fan_moment(fan, &turn);
            continue;
        }
        twill__fan_block(fan, slot, true);
        if (!twill__fan_wait_in(fan, &turn, &fan->readers, &me, until, &over))
            me.node.answer = TWILL__FAN_AGAIN;
        twill__fan_block(fan, slot, false);
        me.strict = true; /* who gathers does it once */
        if (me.node.answer == TWILL_OK) {
            task = me.task;
            break;
        }
    }
    twill__fan_deliver(fan, &turn, task, result, outcome);
    return twill__fan_return(fan, &turn, TWILL_OK);
}

/* ---- go ---- */

typedef enum twill__fan_mode { TWILL__FAN_TRY, TWILL__FAN_GO, TWILL__FAN_UNTIL } twill__fan_mode;

/* Whether it takes no more tasks: OK if it does. */
static inline twill_status twill__fan_refusal(const twill_fan *fan, bool inside)
{
    if (fan->limit != SIZE_MAX)
        return TWILL_CLOSED;
    if (fan->over)
        return fan->refusal;
    return fan->closed && !(inside && fan->in_flight) ? TWILL_CLOSED : TWILL_OK;
}

/* A task of the fan goes at a full window: the new one takes its place, as a call would. */
static inline twill_status twill__fan_inline(twill_fan *fan, twill__fan_turn *turn,
                                             twill__fan_slot *slot, twill__fan_task *task)
{
    twill_ns now = twill__clock_now();
    task->outcome.index = fan->next_index++;
    task->outcome.queued = now;
    fan->in_flight++;
    if (!twill__fan_run(fan, turn, slot, task, &now))
        return TWILL_FORKED;
    return twill__fan_return(fan, turn, TWILL_OK);
}

/* What a go that may not be accepted at once does: OK: it may wait. */
static inline twill_status twill__fan_go_over(const twill_fan *fan, twill__fan_mode mode,
                                              bool inside, const twill__fan_slot *slot,
                                              twill_until until)
{
    if (mode == TWILL__FAN_TRY || (fan->unread >= fan->max_unread && mode != TWILL__FAN_UNTIL))
        return TWILL_FULL;
    if (inside && !slot && mode == TWILL__FAN_GO)
        return TWILL_FULL; /* on another thread of a task: it can run nothing inline */
    return twill__over(until);
}

static inline twill_status twill__fan_go(twill_fan *fan, twill_task_fn *fn, void *arg, void *key,
                                         twill_until until, twill__fan_mode mode)
{
    twill__fan_turn turn;
    twill__fan_wait me = {.helps = 0};
    twill_status status, over = TWILL_OK;
    twill_ns now = twill__clock_now(); /* not under the lock */
    twill__fan_slot *slot;
    bool inside, no_memory = false;
    if (!fan || !fn)
        return TWILL_INVALID;
    if (!twill__fan_here(fan))
        return TWILL_FORKED;
    inside = twill__fan_begin(fan, &turn);
    slot = inside ? twill__fan_my_slot(fan) : NULL;
    me.unread = mode == TWILL__FAN_UNTIL;
    me.helps = mode == TWILL__FAN_TRY ? 0 : twill__fan_helps(fan, slot);
    for (;;) { /* exit: as above */
        bool in_line, waits;
        int instead;
        if (fan->in_flight >= fan->window)
            twill__fan_sweep(fan, &turn);
        in_line = slot && fan->in_flight >= fan->window && fan->unread < fan->max_unread;
        twill__fan_clock(fan, &turn);
        if (in_line && twill__fan_told(fan, &turn))
            continue;
        if ((status = twill__fan_refusal(fan, inside)) != TWILL_OK)
            break;
        if (in_line && fan->ordered && fan->next_index - fan->emit >= fan->ring_size) {
            status = TWILL_FULL;
            break;
        }
        waits = !in_line && (!twill__fan_room(fan) || (fan->goers.first && !inside));
        if (waits) {
            if (over == TWILL_OK)
                over = twill__fan_go_over(fan, mode, inside, slot, until);
            if ((status = over) != TWILL_OK)
                break;
            instead = twill__fan_instead(fan, &turn, slot, me.helps != 0, &me.refused);
            if (instead < 0)
                return TWILL_FORKED;
            if (instead) {
                now = twill__clock_now();
                continue;
            }
        }
        if (!me.task) {
            if ((me.task = twill__fan_record(fan, &turn, &no_memory)) != NULL) {
                twill__fan_fresh(me.task, fn, arg, key);
            } else if (no_memory) {
                status = TWILL_NO_MEMORY;
                break;
            }
            continue;
        }
        if (in_line)
            return twill__fan_inline(fan, &turn, slot, me.task);
        if (!waits) {
            twill__fan_accept(fan, &turn, me.task, now);
            return twill__fan_return(fan, &turn, TWILL_OK);
        }
        if (!twill__fan_wait_in(fan, &turn, &fan->goers, &me, until, &over))
            me.node.answer = TWILL__FAN_AGAIN;
        if (me.node.answer == TWILL_OK)
            return twill__fan_return(fan, &turn, TWILL_OK);
        if (me.node.answer == TWILL_FULL) {
            status = TWILL_FULL;
            break;
        }
        now = twill__clock_now();
    }
    if (me.task) {
        me.task->holds = 1;
        twill__fan_release(fan, me.task);
    }
    return twill__fan_return(fan, &turn, status);
}
#endif

/* ---- platform/terminal.h ---- */
/* terminal.h: what a progress display asks of the system: the terminal, one whole write, signals
   held off meanwhile. */
#ifndef TWILL__PLATFORM_TERMINAL_H
#define TWILL__PLATFORM_TERMINAL_H

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

typedef enum twill__wrote {
    TWILL__WROTE,
    TWILL__WROTE_NOT /* would have blocked: nothing, or the front part */,
    TWILL__WROTE_BROKEN
} twill__wrote;

#ifdef TWILL__POSIX
#define TWILL__TERMINALS 1 /* 0: there is nothing to draw on, only lines */
#include <sys/ioctl.h>

/* ---- the terminal ---- */

static inline bool twill__terminal_is(int fd)
{
    int saved = errno;
    bool is = isatty(fd) == 1;
    errno = saved;
    return is;
}

/* Leaves 0 where the terminal does not say. */
static inline void twill__terminal_size(int fd, unsigned *columns, unsigned *rows)
{
    struct winsize size;
    int saved = errno;
    *columns = *rows = 0;
    if (ioctl(fd, TIOCGWINSZ, &size) == 0) {
        *columns = size.ws_col;
        *rows = size.ws_row;
    }
    errno = saved;
}

/* Whether we may draw there. -1 (not a terminal, not our session's) counts as yes: containers and
   pipes have no foreground. */
static inline bool twill__terminal_foreground(int fd)
{
    int saved = errno;
    pid_t group = tcgetpgrp(fd);
    errno = saved;
    return group == -1 || group == getpgrp();
}

/* ---- writing ---- */

/* False: it could not take a byte within `ms`. A broken descriptor counts as ready: the write will
   say what it is. */
static inline bool twill__terminal_writable(int fd, int ms)
{
    struct pollfd one = {fd, POLLOUT, 0};
    twill_ns end = twill__clock_now() + TWILL_MS(ms);
    int saved = errno, got;
    while ((got = poll(&one, 1, ms)) == -1 && errno == EINTR) {
        twill_ns left = end - twill__clock_now();
        ms = left > 0 ? (int)(left / 1000000) : 0;
    }
    errno = saved;
    return got != 0;
}

#ifndef TWILL__TERMINAL_PATIENCE
#define TWILL__TERMINAL_PATIENCE 1000 /* ms; a test has less */
#endif

/* Writes it all, in one write where the system lets us. A descriptor that would block: false
   `must`: nothing is written, or, when it stops in the middle, the rest is given a second; true: it
   waits. */
static inline twill__wrote twill__write_all(int fd, const char *data, size_t size, bool must)
{
    size_t at = 0;
    while (at < size) {
        ssize_t got = write(fd, data + at, size - at);
        if (got > 0) {
            at += (size_t)got;
        } else if (errno != EINTR) { /* -1: of more than no bytes, 0 is no answer */
            if (errno != EAGAIN && errno != EWOULDBLOCK)
                return TWILL__WROTE_BROKEN;
            if (must)
                (void)twill__terminal_writable(fd, TWILL__TERMINAL_PATIENCE);
            else if (at == 0 || !twill__terminal_writable(fd, TWILL__TERMINAL_PATIENCE))
                return TWILL__WROTE_NOT;
        }
    } /* exit: each turn writes, waits, or returns */
    return TWILL__WROTE;
}

/* The same with SIGPIPE held off, and with SIGTTOU too if `quiet`, so that a background process is
   not stopped. A SIGPIPE that our write has raised is taken back; one that was pending before
   stays. */
static inline twill__wrote twill__write_calmly(int fd, const char *data, size_t size, bool must,
                                               bool quiet)
{
    sigset_t pipe_, block, old, pending;
    int saved = errno, signal;
    twill__wrote wrote;
    bool before;
    sigemptyset(&pipe_);
    sigaddset(&pipe_, SIGPIPE);
    block = pipe_;
    if (quiet)
        sigaddset(&block, SIGTTOU);
    pthread_sigmask(TWILL__SIGNALS_BLOCK, &block, &old);
    sigemptyset(&pending);
    sigpending(&pending);
    before = sigismember(&pending, SIGPIPE) == 1;
    wrote = twill__write_all(fd, data, size, must);
    if (wrote == TWILL__WROTE_BROKEN && errno == EPIPE && !before) {
        sigpending(&pending);
        if (sigismember(&pending, SIGPIPE) == 1) /* not when it is ignored */
            sigwait(&pipe_, &signal);
    }
    pthread_sigmask(TWILL__SIGNALS_SET, &old, NULL);
    errno = saved;
    return wrote;
}

#else
/* ---- elsewhere: lines only ---- */
#define TWILL__TERMINALS 0
#include <io.h>

static inline bool twill__terminal_is(int fd)
{
    (void)fd;
    return false;
}

static inline void twill__terminal_size(int fd, unsigned *columns, unsigned *rows)
{
    (void)fd;
    *columns = *rows = 0;
}

static inline bool twill__terminal_foreground(int fd)
{
    (void)fd;
    return true;
}

static inline bool twill__terminal_writable(int fd, int ms)
{
    (void)fd;
    (void)ms;
    return true;
}

static inline twill__wrote twill__write_calmly(int fd, const char *data, size_t size, bool must,
                                               bool quiet)
{
    (void)must;
    (void)quiet;
    for (size_t at = 0; at < size;) {
        int got = _write(fd, data + at, (unsigned)(size - at));
        if (got <= 0)
            return TWILL__WROTE_BROKEN;
        at += (size_t)got;
    }
    return TWILL__WROTE;
}
#endif

#endif

/* ---- create ---- */

typedef struct twill__fan_plan { /* what is to be made, and where it stands in its block */
    const twill_fan_options *options;
    size_t item_size, result_size, n; /* n: items of an array */
    bool call, stream, nested;
    unsigned workers, own;
    size_t window, max_unread, capacity;
    size_t task_size, item_at, result_at;
    /* places: of a lane; queue: of its first ring */
    size_t slots, crew, ring, places, lane_rings, lanes, queue, queue_ring, records, first, bytes;
} twill__fan_plan;

static inline bool twill__fan_options_valid(const twill__fan_plan *plan)
{
    const twill_fan_options *options = plan->options;
    const twill_run *run = &options->run;
    if ((unsigned)options->goal > TWILL_FAN_ENOUGH || options->timeout < 0 ||
        (options->goal == TWILL_FAN_QUORUM) != (options->quorum != 0) ||
        (options->goal == TWILL_FAN_ENOUGH) != (options->enough != NULL))
        return false;
    if (!plan->call)
        return !run->statuses && !run->codes;
    if (options->notify || (options->result_size && options->result_size != plan->result_size))
        return false;
    if (plan->stream)
        return !run->statuses && !run->codes && options->goal != TWILL_FAN_ALL_OK;
    return options->goal != TWILL_FAN_QUORUM || options->quorum <= plan->n;
}

static inline void twill__fan_plan_workers(twill__fan_plan *plan)
{
    const twill_run *run = &plan->options->run;
    const twill__job *outer = twill__thread()->job;
    unsigned workers = run->workers;
    if (!workers)
        workers = run->pool                            ? run->pool->team->threads
                  : plan->call && outer && outer->team ? outer->np
                                                       : twill__cpus_hint();
    if (!workers)
        workers = 1;
    plan->window = plan->options->in_flight ? plan->options->in_flight : 2 * (size_t)workers;
    if (workers > plan->window)
        workers = (unsigned)plan->window;
    if (plan->call && !plan->stream && workers > plan->n)
        workers = (unsigned)plan->n;
    plan->workers = workers;
    plan->own = workers;
}

/* Adds count * size to *total, in multiples of a line; false: too big. */
static inline bool twill__fan_add(size_t *total, size_t count, size_t size)
{
    if (size && count > (SIZE_MAX / 4 - TWILL__LINE) / size)
        return false;
    if (*total > SIZE_MAX / 4 - TWILL__LINE - count * size)
        return false;
    *total += (count * size + TWILL__LINE - 1) / TWILL__LINE * TWILL__LINE;
    return true;
}

/* Where so many bytes stand behind `at`, for any type of that size. */
static inline size_t twill__fan_place_of(size_t at, size_t size)
{
    size_t unit = size % 16 ? 8 : 16;
    return (at + unit - 1) / unit * unit;
}

/* How many places a lane has; 0: there are none. Only where no outcome decides anything. Those of
   an array have records of their own, a part of those that the call may have. */
static inline size_t twill__fan_plan_lanes(const twill__fan_plan *plan)
{
    const twill_fan_options *options = plan->options;
    const twill_on_error policy = options->run.on_error;
    size_t places = TWILL__FAN_PLACES;
    if (options->goal != TWILL_FAN_ALL || options->ordered || options->notify ||
        (policy != TWILL_ON_ERROR_DEFAULT && policy != TWILL_ON_ERROR_COLLECT) ||
        (options->timeout && options->timeout != TWILL_FOREVER) || options->max_abandoned ||
        plan->workers > TWILL__FAN_LANES || (!plan->queue && !plan->n))
        return 0;
    if (plan->queue) {
        while (places > TWILL__FAN_FEWEST && places / 2 >= plan->window)
            places /= 2;
        return places;
    }
    while (places > plan->capacity / (2 * (size_t)plan->workers) ||
           places > TWILL__FAN_BYTES / plan->task_size)
        places /= 2;
    return places < TWILL__FAN_FEWEST ? 0 : places;
}

/* Sizes and places; OK or TOO_BIG. */
static inline twill_status twill__fan_plan_memory(twill__fan_plan *plan)
{
    const twill_fan_options *options = plan->options;
    bool copies = plan->stream || (plan->call && options->max_abandoned);
    size_t item = copies ? plan->item_size : 0;
    if (item > SIZE_MAX / 8 || plan->result_size > SIZE_MAX / 8)
        return TWILL_TOO_BIG;
    plan->item_at = twill__fan_place_of(TWILL__FAN_RECORD, item);
    plan->result_at = twill__fan_place_of(plan->item_at + item, plan->result_size);
    plan->task_size =
        (plan->result_at + plan->result_size + TWILL__LINE - 1) / TWILL__LINE * TWILL__LINE;
    plan->max_unread = options->max_unread ? options->max_unread : plan->call ? 1024 : 65536;
    if (plan->window > SIZE_MAX / 8 || plan->max_unread > SIZE_MAX / 8)
        return TWILL_TOO_BIG;
    plan->capacity = plan->window + plan->max_unread;
    if (plan->call && !plan->stream &&
        (plan->capacity > plan->n || options->goal == TWILL_FAN_ALL_OK))
        plan->capacity = plan->n;
    plan->first = plan->call && options->goal == TWILL_FAN_ALL_OK ? plan->n
                  : plan->window < 32                             ? plan->window
                                                                  : 32;
    plan->bytes = TWILL__LINE;
    (void)twill__fan_add(&plan->bytes, 1, sizeof(twill_fan));
    plan->slots = plan->bytes;
    (void)twill__fan_add(&plan->bytes, plan->workers, sizeof(twill__fan_slot));
    plan->crew = plan->bytes;
    (void)twill__fan_add(&plan->bytes, 1, twill__crew_bytes(plan->workers, plan->own));
    plan->ring = plan->bytes;
    if (options->ordered &&
        !twill__fan_add(&plan->bytes, plan->capacity, sizeof(twill__fan_task *)))
        return TWILL_TOO_BIG;
    if (!plan->call || plan->stream) /* first <= 32 */
        for (plan->queue = 1; plan->queue < plan->first;)
            plan->queue *= 2;
    plan->queue_ring = plan->bytes;
    (void)twill__fan_add(&plan->bytes, plan->queue, sizeof(twill__fan_task *));
    plan->places = twill__fan_plan_lanes(plan);
    plan->lane_rings = plan->bytes;
    (void)twill__fan_add(&plan->bytes, plan->workers * plan->places, sizeof(twill__fan_task *));
    plan->lanes = plan->bytes;
    if (!plan->queue) {
        plan->capacity -= plan->workers * plan->places;
        if (plan->first > plan->capacity)
            plan->first = plan->capacity;
        /* no more than TWILL__FAN_BYTES for each of a few workers */
        (void)twill__fan_add(&plan->bytes, plan->workers * plan->places, plan->task_size);
    }
    plan->records = plan->bytes;
    return twill__fan_add(&plan->bytes, plan->first, plan->task_size) ? TWILL_OK : TWILL_TOO_BIG;
}

static inline twill_status twill__fan_check(twill__fan_plan *plan)
{
    twill_status status = twill__check_run(&plan->options->run);
    if (!twill__fan_options_valid(plan))
        return TWILL_INVALID;
    if (status != TWILL_OK)
        return status;
    if (plan->options->run.workers > TWILL__MAX_WORKERS)
        return TWILL_TOO_BIG;
    twill__fan_plan_workers(plan);
    return twill__fan_plan_memory(plan);
}

static inline void twill__fan_init_lanes(twill_fan *fan, const twill__fan_plan *plan, char *base)
{
    for (size_t k = 0; k < fan->workers; k++) {
        twill__fan_lane *lane = &fan->slot[k].lane;
        lane->places = (uint32_t)plan->places;
        lane->ring = (twill__fan_task **)(void *)(base + plan->lane_rings) + k * plan->places;
        for (size_t at = 0; at < plan->places; at++)
            lane->ring[at] =
                plan->queue
                    ? NULL
                    : (twill__fan_task *)(void *)(base + plan->lanes +
                                                  (k * plan->places + at) * plan->task_size);
    }
}

static inline void twill__fan_init(twill_fan *fan, const twill__fan_plan *plan)
{
    const twill_fan_options *options = plan->options;
    const twill_run *run = &options->run;
    char *base = (char *)fan - TWILL__LINE;
    memset(fan, 0, sizeof *fan);
    fan->limit = fan->stop_at = SIZE_MAX;
    fan->goal = options->goal;
    fan->policy = run->on_error                       ? run->on_error
                  : options->goal == TWILL_FAN_ALL_OK ? TWILL_ON_ERROR_LOWEST
                                                      : TWILL_ON_ERROR_COLLECT;
    fan->most_errors = fan->policy == TWILL_ON_ERROR_LIMIT && run->max_errors ? run->max_errors : 1;
    fan->quorum = options->goal == TWILL_FAN_FIRST_OK ? 1 : options->quorum;
    fan->ordered = options->ordered;
    fan->copies = plan->stream || (plan->call && options->max_abandoned);
    fan->item_size = plan->item_size;
    fan->result_size = plan->result_size;
    fan->item_at = plan->item_at;
    fan->result_at = plan->result_at;
    fan->task_size = plan->task_size;
    fan->window = plan->window;
    fan->max_unread = plan->max_unread;
    fan->capacity = plan->capacity;
    fan->max_abandoned = options->max_abandoned;
    fan->timeout = options->timeout == TWILL_FOREVER ? 0 : options->timeout;
    fan->since = twill__clock_now();
    fan->drop = options->drop;
    fan->discard = options->discard;
    fan->notify = options->notify;
    fan->context = run->context;
    fan->statuses = run->statuses;
    fan->codes = run->codes;
    fan->report = run->report;
    fan->worker_start = run->worker_start;
    fan->cancel = run->until.cancel;
    fan->workers = plan->workers;
    fan->slot = (twill__fan_slot *)(void *)(base + plan->slots);
    memset(fan->slot, 0, plan->workers * sizeof *fan->slot);
    if (fan->ordered) {
        fan->ring = (twill__fan_task **)(void *)(base + plan->ring);
        fan->ring_size = plan->capacity;
        memset(fan->ring, 0, plan->capacity * sizeof *fan->ring);
    }
    fan->laned = plan->places != 0;
    fan->streams = plan->queue != 0;
    fan->queue.ring = (twill__fan_task **)(void *)(base + plan->queue_ring);
    fan->queue.size = plan->queue;
    twill__fan_init_lanes(fan, plan, base);
    atomic_init(&fan->cut, SIZE_MAX);
    twill__fan_add_records(fan, base + plan->records, plan->first);
    /* of what is left behind the fan alone is above: the user's token may go */
    twill_cancel_init(&fan->root, fan->max_abandoned ? NULL : fan->cancel);
}

/* The user's token has fired: in the thread that fires it. */
static inline void twill__fan_token_fired(int reason, const twill_task *task)
{
    twill_fan *fan = (twill_fan *)task->context;
    twill__fan_turn turn;
    twill__fan_enter(fan, &turn);
    twill__fan_cancelled(fan, &turn, reason);
    (void)twill__fan_return(fan, &turn, TWILL_OK);
}

/* Opens the crew: the source, if any, is there already. */
static inline twill_status twill__fan_open(twill_fan *fan, const twill__fan_plan *plan)
{
    static const twill__crew_table table = {
        {NULL, NULL, NULL, NULL, NULL}, twill__fan_ready, twill__fan_work, twill__fan_died};
    twill_run run = plan->options->run;
    char *base = (char *)fan - TWILL__LINE;
    twill_status status;
    run.until.cancel = &fan->root;
    run.statuses = NULL;
    run.codes = NULL;
    run.report = NULL;
    if (run.worker_start)
        run.worker_start = twill__fan_worker_start;
    atomic_init(&fan->ready, twill__fan_available(fan)); /* twill__crew_open publishes it */
    status = twill__crew_open(&fan->crew, &run, plan->workers, plan->own, plan->nested, &table, fan,
                              base + plan->crew);
    if (status != TWILL_OK)
        return status;
    /* relaxed: the own store, or a worker has come by now */
    if (atomic_load_explicit(&fan->ready, memory_order_relaxed))
        twill__crew_call(&fan->crew, plan->workers);
    if (fan->notify && !twill__no_deadline(run.until.deadline))
        twill__crew_alarm(&fan->crew, run.until.deadline); /* perhaps nobody else looks then */
    fan->hook.fn = twill__fan_token_fired;
    fan->hook.context = fan;
    twill_cancel_add_hook(fan->cancel, &fan->hook);
    return TWILL_OK;
}

/* The block of a fan; NULL: no memory. */
static inline twill_fan *twill__fan_allocate(const twill__fan_plan *plan)
{
    char *memory = (char *)TWILL_MALLOC(plan->bytes + TWILL__LINE);
    twill_fan *fan;
    if (!memory)
        return NULL;
    fan = (twill_fan *)(void *)(memory + TWILL__LINE +
                                (TWILL__LINE - (uintptr_t)memory % TWILL__LINE) % TWILL__LINE);
    twill__fan_init(fan, plan);
    fan->memory = memory;
    return fan;
}

static inline void twill__fan_free(twill_fan *fan)
{
    void *memory = fan->memory;
    for (twill__fan_chunk *chunk = fan->chunks, *next; chunk; chunk = next) {
        next = chunk->next;
        TWILL_FREE(chunk);
    }
    TWILL_FREE(memory);
}

/* ---- the end ---- */

/* Waits, under the lock before and after, until no task is in flight but those that may be left
   behind. OK, or what `until` says; FORKED: a task that ran here has forked, and this is the child:
   the lock is not held, and nothing is touched any more. */
static inline twill_status twill__fan_settle_down(twill_fan *fan, twill__fan_turn *turn,
                                                  twill_until until, size_t most)
{
    twill__fan_wait me = {.helps = twill__fan_helps(fan, NULL), .most = most};
    twill_status over = TWILL_OK;
    for (;;) { /* exit: tasks end, or `until` */
        int instead;
        twill__fan_clock(fan, turn);
        twill__fan_sweep(fan, turn);
        if (twill__fan_calm(fan, most)) /* now: the clock has answered some */
            return TWILL_OK;
        if (twill__fan_drop_spared(fan, turn))
            continue;
        if (over == TWILL_OK)
            over = twill__over(until);
        if (over != TWILL_OK)
            return over;
        instead = twill__fan_instead(fan, turn, NULL, me.helps != 0, &me.refused);
        if (instead < 0)
            return TWILL_FORKED;
        if (instead)
            continue;
        (void)twill__fan_wait_in(fan, turn, &fan->watchers, &me, until, &over);
    }
}

/* Those that still run are left behind: their outcome is LOST. */
static inline void twill__fan_abandon(twill_fan *fan, twill__fan_turn *turn)
{
    twill__fan_list *lists[2] = {&fan->running, &fan->overdue};
    for (int k = 0; k < 2; k++)
        for (twill__fan_task *task = lists[k]->first; task; task = task->next)
            if (!task->answered)
                twill__fan_answer(fan, turn, task, TWILL_LOST);
}

/* Nobody else is inside any more, or will come. */
static inline void twill__fan_wait_visits(twill_fan *fan)
{
    for (;;) { /* exit: calls inside were told, and end */
        /* relaxed: a guess */
        uint32_t visits = atomic_load_explicit(&fan->visits, memory_order_relaxed);
        if (!(visits & ~TWILL__FAN_VISITS_WAIT)) {
            bool wanted;
            twill__lock(&fan->lock);
            /* acquire: pairs with twill__fan_leave */
            wanted = twill__lock_wanted(&fan->lock) ||
                     (atomic_load_explicit(&fan->visits, memory_order_acquire) &
                      ~TWILL__FAN_VISITS_WAIT);
            twill__unlock(&fan->lock);
            if (!wanted)
                return;
            twill__yield();
        } else if (!(visits & TWILL__FAN_VISITS_WAIT)) {
            /* relaxed: the count beside it is looked at again */
            atomic_fetch_or_explicit(&fan->visits, TWILL__FAN_VISITS_WAIT, memory_order_relaxed);
        } else {
            twill__park(&fan->visits, visits, 0);
        }
    }
}

static inline void twill__fan_reap(void *fan_)
{
    twill_fan *fan = (twill_fan *)fan_;
    twill__lock(&fan->lock); /* whoever started this thread is done with its record */
    twill__unlock(&fan->lock);
    twill__crew_close(&fan->crew, NULL);
    twill_cancel_detach(&fan->root);
    twill__fan_free(fan);
}

/* The figures, when all outcomes are given: tasks that were left behind change none of them. */
static inline void twill__fan_fill(twill_fan *fan, twill_report *report)
{
    memset(report, 0, sizeof *report);
    twill__lock(&fan->lock); /* workers may still come, and those left behind count what they run */
    report->done = fan->succeeded;
    report->failed = fan->failed;
    report->skipped = fan->skipped;
    report->total = fan->succeeded + fan->failed + fan->skipped;
    report->first_error =
        fan->policy == TWILL_ON_ERROR_FIRST && fan->earliest.status ? fan->earliest : fan->lowest;
    if (fan->refused == fan->workers) {
        report->first_error.index = SIZE_MAX;
        report->first_error.status = TWILL_FAILED;
        report->first_error.code = fan->start_code;
    }
    for (unsigned k = 0; k < fan->workers; k++) {
        report->chunks += fan->slot[k].chunks;
        report->busy += fan->slot[k].busy;
        if (fan->slot[k].busy > report->busiest)
            report->busiest = fan->slot[k].busy;
        report->workers_used += fan->slot[k].chunks != 0 || fan->slot[k].current;
    }
    twill__unlock(&fan->lock);
    twill__heap_sort(fan->crew.run.errors, fan->errors_count);
    report->errors_stored = fan->errors_count;
    report->wall = twill__clock_now() - fan->since;
}

/* How the run as a whole ended. Under the lock. */
static inline twill_status twill__fan_judged(const twill_fan *fan, const twill_report *report)
{
    if (fan->met)
        return TWILL_OK;
    if (fan->failures || fan->refused == fan->workers)
        return TWILL_FAILED;
    if ((fan->cut_short || report->failed || fan->cut_off) &&
        (fan->refusal == TWILL_TIMEOUT || fan->refusal == TWILL_CANCELLED))
        return fan->refusal;
    if (report->total && fan->stop_at == SIZE_MAX && !fan->stopped &&
        (fan->quorum || fan->goal == TWILL_FAN_ENOUGH ||
         (fan->goal == TWILL_FAN_ALL_OK && report->skipped && !fan->cut_short)))
        return TWILL_FAILED; /* the goal was not met */
    return TWILL_OK;
}

static inline twill_status twill__fan_verdict(twill_fan *fan, const twill_report *report)
{
    twill_status verdict;
    twill__lock(&fan->lock); /* the token or the deadline may say something just now */
    verdict = twill__fan_judged(fan, report);
    twill__unlock(&fan->lock);
    return verdict;
}

/* All outcomes are given. Ends the threads, and frees; what was left behind is freed later, by a
   thread that waits for it. */
static inline void twill__fan_bury(twill_fan *fan, twill_report *report)
{
    bool left, started;
    twill_cancel_remove_hook(fan->cancel, &fan->hook);
    twill__fan_wait_visits(fan);
    twill__lock(&fan->lock);
    left = fan->answered != 0;
    if (left) /* the user's token may go now: what is left behind must not ask it */
        fan->cancel = NULL;
    twill__unlock(&fan->lock);
    if (left) {
        twill__team *team = fan->crew.job.team;
        report->workers_started = team->threads < fan->workers ? team->threads : fan->workers;
        report->flags = fan->crew.job.flags;
        fan->reaper.fn = twill__fan_reap;
        fan->reaper.arg = fan;
        fan->reaper.cpu = UINT_MAX;
        twill__lock(&fan->lock); /* the new thread frees its record after it has had the lock */
        started = twill__thread_start(&fan->reaper);
        if (started)
            twill__thread_let_go(&fan->reaper);
        twill__unlock(&fan->lock);
        if (started)
            return;
    }
    report->workers_used = 0;
    twill__crew_close(&fan->crew, report);
    twill_cancel_detach(&fan->root);
    twill__fan_free(fan);
}
#endif

enum { TWILL__FAN_SOME = 64 /* outcomes between two looks */, TWILL__FAN_BURST = 32 /* pulls */ };
#define TWILL__FAN_BURST_NS 5000 /* outcomes wait for no more pulls than these, and one */

typedef struct twill__fan_call {
    twill__call call; /* first: what aggregate and pull say */
    twill_fan *fan;
    const twill_fan_options *options;
    twill_aggregate_fn *aggregate;
    twill_pull_fn *pull;
    twill__fan_outcomes batch; /* taken, not yet aggregated */
    twill__fan_outcomes kept;  /* ALL_OK: until all are in */
    twill_ns pulled;           /* when the source gave an item */
    size_t given;              /* index of the outcome that aggregate has; SIZE_MAX: it is pull */
    size_t rest;               /* items from here on were never begun, and have no outcome yet */
    bool said_stop;            /* by the callback that runs */
    bool silent;               /* aggregate is not called any more */
    bool enough;               /* so it was decided */
    bool met;                  /* ALL_OK: all are */
    bool inside;               /* in aggregate, enough or pull */
    twill_item_error error;    /* of aggregate or pull */
    twill_status status;
    twill_report report;
} twill__fan_call;

static inline void twill__fan_call_stop(const twill_task *task)
{
    ((twill__fan_call *)task->private_)->said_stop = true;
}

static inline const twill__call_table *twill__fan_call_table(void)
{
    static const twill__call_table table = {NULL, twill__fan_call_stop, NULL, NULL, NULL};
    return &table;
}

static inline twill_task twill__fan_call_task(twill__fan_call *call, size_t index)
{
    twill_task task = twill__fan_outside(call->fan, index);
    task.until.deadline = call->fan->crew.run.until.deadline;
    task.until.cancel = &call->fan->root;
    task.private_ = call;
    return task;
}

/* ---- aggregate ---- */

/* Ends the call early, from the calling thread. met: the goal is reached; else aggregate wants no
   more. */
static inline void twill__fan_call_end(twill__fan_call *call, bool met)
{
    twill__fan_turn turn = {.visitor = false};
    twill__fan_lock(call->fan, &turn);
    call->fan->met |= met;
    call->fan->stopped |= !met;
    twill__fan_end(call->fan, &turn, TWILL_CANCELLED, TWILL_CLOSED);
    twill__fan_exit(call->fan, &turn);
}

/* One outcome for aggregate, then for `enough`. False: a fork; nothing is touched any more. */
static inline bool twill__fan_aggregate(twill__fan_call *call, const void *result,
                                        const twill_outcome *outcome)
{
    twill_task task = twill__fan_call_task(call, outcome->index);
    int code = 0;
    bool enough = false;
    call->said_stop = false;
    call->inside = true;
    call->given = outcome->index;
    if (call->aggregate)
        code = call->aggregate(result, outcome, &task);
    if (!code && !call->said_stop && call->options->enough && !call->enough)
        enough = call->options->enough(outcome, result, &task);
    call->inside = false;
    if (!twill__fan_here(call->fan))
        return false;
    if (code) {
        call->error.index = outcome->index;
        call->error.status = TWILL_FAILED;
        call->error.code = code;
    }
    call->enough |= enough;
    call->silent = code || call->said_stop;
    if (call->silent || enough)
        twill__fan_call_end(call, enough);
    return true;
}

static inline void twill__fan_call_discards(twill__fan_call *call, twill__fan_task *task)
{
    if (task->outcome.status == TWILL_OK && call->fan->discard)
        twill__fan_call_discard(call->fan, task);
}

/* An outcome that was taken. False: as above. */
static inline bool twill__fan_consume(twill__fan_call *call, twill__fan_task *task)
{
    bool good = task->outcome.status == TWILL_OK, goes_on = true;
    if (call->silent || (good && (task->late || call->enough)))
        twill__fan_call_discards(call, task);
    else
        goes_on = twill__fan_aggregate(call, good ? twill__fan_result(call->fan, task) : NULL,
                                       &task->outcome);
    return goes_on;
}

/* Works off the batch. The lock is held before and after; false: as above. */
static inline bool twill__fan_work_off(twill__fan_call *call, twill__fan_turn *turn)
{
    twill_fan *fan = call->fan;
    twill__fan_task *done = NULL, *task;
    twill__fan_exit(fan, turn);
    while ((task = twill__fan_pop(&call->batch)) != NULL) {
        if (fan->goal == TWILL_FAN_ALL_OK) {
            twill__fan_push(&call->kept, task);
            continue;
        }
        if (!twill__fan_consume(call, task))
            return false;
        task->after = done;
        done = task;
    }
    twill__fan_lock(fan, turn);
    while (done) {
        task = done;
        done = task->after;
        twill__fan_release(fan, task);
    }
    return true;
}

/* ---- pull ---- */

static inline void twill__fan_source_ended(twill_fan *fan, twill__fan_turn *turn)
{
    fan->pulled = false;
    twill__fan_judge(fan, turn);
}

/* Pulls one item. The lock is held before and after; false: as above. */
static inline bool twill__fan_pull(twill__fan_call *call, twill__fan_turn *turn)
{
    twill_fan *fan = call->fan;
    twill_task task = twill__fan_call_task(call, fan->next_index);
    twill__fan_task *record;
    twill_ns now;
    bool no_memory;
    int code;
    if ((record = twill__fan_record(fan, turn, &no_memory)) == NULL) {
        if (no_memory) /* it goes on with those that it has */
            fan->capacity = fan->used;
        return true;
    }
    twill__fan_fresh(record, NULL, NULL, NULL);
    twill__fan_exit(fan, turn);
    call->said_stop = false;
    call->inside = true;
    call->given = SIZE_MAX;
    code = call->pull((char *)record + fan->item_at, &task);
    call->inside = false;
    if (!twill__fan_here(fan))
        return false;
    now = twill__clock_now();
    twill__fan_lock(fan, turn);
    if (!code && !call->said_stop) {
        call->pulled = now;
        twill__fan_accept(fan, turn, record, now);
        return true;
    }
    if (code) {
        call->error.index = task.index;
        call->error.status = TWILL_FAILED;
        call->error.code = code;
    }
    record->holds = 1;
    twill__fan_release(fan, record);
    twill__fan_source_ended(fan, turn);
    return true;
}

/* Pulls some, while that is quick: each of them can be begun at once. How many; false: as above. */
static inline bool twill__fan_pull_some(twill__fan_call *call, twill__fan_turn *turn,
                                        unsigned *count)
{
    twill_fan *fan = call->fan;
    twill_ns began = call->pulled = 0;
    *count = 0;
    do { /* exit: a number, or time */
        if (!twill__fan_pull(call, turn))
            return false;
        if (!began)
            began = call->pulled;
        ++*count;
    } while (*count < TWILL__FAN_BURST && twill__fan_may_pull(fan) &&
             call->pulled - began < TWILL__FAN_BURST_NS);
    return true;
}

/* ---- collecting ---- */

/* Whether all that still runs was told to end, and may be left behind. */
static inline bool twill__fan_may_abandon(const twill_fan *fan)
{
    const twill__fan_list *lists[2] = {&fan->running, &fan->overdue};
    if (!fan->executing || fan->in_flight != fan->executing || fan->pulled ||
        twill__fan_source_left(fan) || fan->answered + fan->executing > fan->max_abandoned)
        return false;
    for (int k = 0; k < 2; k++)
        for (const twill__fan_task *task = lists[k]->first; task; task = task->next)
            if (!task->answered && !twill__fan_spared(fan, task->outcome.index))
                return false;
    return true;
}

/* Waits for an outcome. The lock is held before and after. spun: a moment was waited in vain. While
   quick tasks run, let them gather for a moment: to be woken for each costs more than they do. */
static inline void twill__fan_call_wait(twill__fan_call *call, twill__fan_turn *turn, bool *spun,
                                        bool *refused)
{
    static const twill_until forever = {0, NULL};
    twill_fan *fan = call->fan;
    twill__fan_wait me = {
        .helps = twill__fan_helps(fan, NULL), .strict = *spun, .refused = *refused};
    twill_status over;
    if (!*spun && !twill__fan_gathering(fan)) {
        *spun = true;
        twill__fan_moment(fan, turn);
        return;
    }
    *spun = !*spun;
    *refused = false;
    if (twill__fan_wait_in(fan, turn, &fan->readers, &me, forever, &over) &&
        me.node.answer == TWILL_OK)
        twill__fan_push(&call->batch, me.task);
}

/* Until all tasks have their outcome, and it was taken. False: as above. */
static inline bool twill__fan_collect(twill__fan_call *call)
{
    twill_fan *fan = call->fan;
    twill__fan_turn turn = {.lazy = true};
    twill__fan_task *task;
    bool spun = false, refused = false, helps = twill__crew_counts_on_us(&fan->crew);
    twill__fan_lock(fan, &turn);
    for (;;) { /* exit: all is over; each turn is an outcome, an item, or time */
        unsigned some = TWILL__FAN_SOME; /* at a time: workers wait for their records */
        int instead;
        twill__fan_clock(fan, &turn);
        twill__fan_sweep(fan, &turn);
        if (twill__fan_may_pull(fan) && (!fan->queue.count || !twill__fan_readable(fan))) {
            /* then as many outcomes: neither side waits long for the other */
            if (!twill__fan_pull_some(call, &turn, &some))
                return false;
        }
        if (fan->pulled && twill__fan_spared(fan, fan->next_index)) {
            fan->cut_off = true; /* the source had not said that this is all */
            twill__fan_source_ended(fan, &turn);
        }
        for (unsigned k = 0; k < some && (task = twill__fan_take(fan)) != NULL; k++)
            twill__fan_push(&call->batch, task);
        if (call->batch.first) {
            spun = false;
            if (!twill__fan_work_off(call, &turn))
                return false;
            continue;
        }
        if (twill__fan_drop_spared(fan, &turn) || twill__fan_may_pull(fan))
            continue;
        if (!fan->in_flight && !twill__fan_source_left(fan) && !fan->pulled)
            break;
        if (twill__fan_may_abandon(fan)) {
            twill__fan_abandon(fan, &turn);
            continue;
        }
        if ((instead = twill__fan_instead(fan, &turn, NULL, helps, &refused)) < 0)
            return false;
        if (!instead)
            twill__fan_call_wait(call, &turn, &spun, &refused);
    }
    twill__fan_exit(fan, &turn);
    return true;
}

/* Items of the array that were never begun. */
static inline bool twill__fan_call_rest(twill__fan_call *call)
{
    twill_fan *fan = call->fan;
    twill_outcome outcome = {TWILL_OK, 0, 0, NULL, UINT_MAX, 0, fan->since, 0, 0};
    outcome.finished = twill__clock_now();
    twill__lock(&fan->lock); /* the token or the deadline may still end what is at its end */
    outcome.status = fan->over ? fan->over : TWILL_CANCELLED;
    if (call->rest < fan->source_next)
        call->rest = fan->source_next;
    fan->cut_short |= fan->over && call->rest < fan->source_n;
    twill__unlock(&fan->lock);
    while (call->rest < fan->source_n) {
        outcome.index = call->rest++;
        fan->skipped++;
        if (fan->statuses)
            fan->statuses[outcome.index] = outcome.status;
        if (fan->codes)
            fan->codes[outcome.index] = 0;
        if (fan->drop)
            twill__fan_call_drop(fan,
                                 (void *)(uintptr_t)(fan->items + outcome.index * fan->item_size),
                                 outcome.index, outcome.status);
        if (!twill__fan_here(fan))
            return false;
        if (!call->silent && fan->goal != TWILL_FAN_ALL_OK && call->aggregate &&
            !twill__fan_aggregate(call, NULL, &outcome))
            return false;
    }
    return true;
}

/* ALL_OK: whether the first `most` have succeeded. */
static inline bool twill__fan_call_all_ok(const twill__fan_call *call, size_t most)
{
    size_t good = 0;
    for (const twill__fan_task *task = call->kept.first; task; task = task->after)
        good += task->outcome.status == TWILL_OK && task->outcome.index < most;
    return good == most;
}

/* ALL_OK: all are in. Where one said stop, it was the last of the serial loop. */
static inline bool twill__fan_call_kept(twill__fan_call *call)
{
    const twill_fan *fan = call->fan;
    size_t most = fan->stop_at < fan->source_n ? fan->stop_at + 1 : fan->source_n;
    twill__fan_task *task;
    if (fan->goal != TWILL_FAN_ALL_OK)
        return true;
    call->met = twill__fan_call_all_ok(call, most);
    call->silent = !call->met;
    while ((task = twill__fan_pop(&call->kept)) != NULL) {
        if (task->outcome.index >= most)
            twill__fan_call_discards(call, task);
        else if (!twill__fan_consume(call, task))
            return false;
    }
    return true;
}

/* ---- the end of the call ---- */

static inline void twill__fan_call_answer(twill__fan_call *call, twill_status verdict)
{
    twill_report *report = &call->report;
    if (call->met) /* run.until came later, or for what stands behind a stop */
        verdict = TWILL_OK;
    else if (call->fan->goal == TWILL_FAN_ALL_OK && verdict == TWILL_OK)
        verdict = TWILL_FAILED;
    if (call->error.status) {
        verdict = TWILL_FAILED;
        if (!call->pull || !report->first_error.status ||
            call->error.index < report->first_error.index)
            report->first_error = call->error;
    }
    call->status = report->status = verdict;
}

/* Also when a callback ends the calling thread: then something is left. */
static inline void twill__fan_call_finish(void *call_)
{
    twill__fan_call *call = (twill__fan_call *)call_;
    twill_fan *fan = call->fan;
    twill_report *out = fan->report;
    twill__fan_turn turn = {.visitor = false};
    twill__fan_task *task;
    if (call->inside) {
        call->error.index = call->given;
        call->error.status = TWILL_LOST;
    }
    twill__fan_lock(fan, &turn);
    fan->stopped |= call->inside; /* what is told now has not failed */
    call->inside = false;
    if (fan->in_flight || fan->pulled || fan->source_next < fan->source_n)
        twill__fan_end(fan, &turn, TWILL_CANCELLED, TWILL_CLOSED);
    fan->pulled = false;
    (void)twill__fan_settle_down(fan, &turn, (twill_until){0, NULL}, fan->max_abandoned);
    twill__fan_abandon(fan, &turn);
    while ((task = twill__fan_take(fan)) != NULL)
        twill__fan_push(&call->batch, task);
    twill__fan_exit(fan, &turn);
    while ((task = twill__fan_pop(&call->batch)) != NULL ||
           (task = twill__fan_pop(&call->kept)) != NULL)
        twill__fan_call_discards(call, task);
    call->silent = true;
    (void)twill__fan_call_rest(call);
    twill__fan_fill(fan, &call->report);
    twill__fan_call_answer(call, twill__fan_verdict(fan, &call->report));
    twill__fan_bury(fan, &call->report);
    if (out)
        *out = call->report;
}

static inline twill_status twill__fan_call_run(twill__fan_call *call)
{
    bool here;
    TWILL__GUARD_PUSH(twill__fan_call_finish, call);
    here = twill__fan_collect(call) &&
           (call->fan->goal != TWILL_FAN_ALL_OK || twill__fan_call_rest(call)) &&
           twill__fan_call_kept(call) && twill__fan_call_rest(call);
    TWILL__GUARD_POP(0);
    if (here) {
        twill__fan_call_finish(call);
        return call->status;
    }
    /* a callback has forked, and this is the child: the parent has the threads, and the work */
    (void)twill__refuse(call->fan->report ? &(twill_run){.report = call->fan->report} : NULL, 0,
                        TWILL_FORKED);
    twill__fan_free(call->fan);
    return TWILL_FORKED;
}

static inline twill_status twill__fan_one_call(twill__fan_plan *plan, const void *items,
                                               twill_pull_fn *pull, twill_map_fn *process,
                                               twill_aggregate_fn *aggregate)
{
    twill__fan_call call;
    twill_status status = twill__fan_check(plan);
    twill_fan *fan;
    if (status != TWILL_OK || (!plan->stream && plan->n == 0))
        return twill__refuse(&plan->options->run, plan->n, status);
    fan = twill__fan_allocate(plan);
    if (!fan)
        return twill__refuse(&plan->options->run, plan->n, TWILL_NO_MEMORY);
    fan->process = process;
    fan->items = (const char *)items;
    fan->source_n = plan->n;
    fan->pulled = plan->stream;
    fan->closed = true;
    memset(&call, 0, sizeof call);
    call.call.table = twill__fan_call_table();
    call.fan = fan;
    call.options = plan->options;
    call.aggregate = aggregate;
    call.pull = pull;
    {
        /* over before it began: no item is begun */
        twill__fan_turn turn = {.visitor = false};
        fan->crew.run.until = plan->options->run.until;
        twill__fan_look(fan, &turn, fan->since);
        if (turn.fire_all)
            twill_cancel_fire(&fan->root, 1);
    }
    status = twill__fan_open(fan, plan);
    if (status != TWILL_OK) {
        twill__fan_free(fan);
        return twill__refuse(&plan->options->run, plan->n, status);
    }
    return twill__fan_call_run(&call);
}
#endif

static inline const twill_fan_options *twill__fan_defaults(const twill_fan_options *options)
{
    static const twill_fan_options none;
    return options ? options : &none;
}

/* ---- one call ---- */

TWILL__DEFINE twill_status twill_fan_out_fan_in(const void *items, size_t item_size, size_t n,
                                                twill_map_fn *process, size_t result_size,
                                                twill_aggregate_fn *aggregate,
                                                const twill_fan_options *options)
{
    twill__fan_plan plan;
    memset(&plan, 0, sizeof plan);
    plan.options = twill__fan_defaults(options);
    plan.item_size = item_size;
    plan.result_size = result_size;
    plan.n = n;
    plan.call = true;
    plan.nested = !plan.options->max_abandoned; /* what is left behind outlives the call around */
    if (!process || (n && (!items || !item_size)))
        return twill__refuse(&plan.options->run, n, TWILL_INVALID);
    if (n && item_size > SIZE_MAX / n)
        return twill__refuse(&plan.options->run, n, TWILL_TOO_BIG);
    return twill__fan_one_call(&plan, items, NULL, process, aggregate);
}

TWILL__DEFINE twill_status twill_fan_stream(twill_pull_fn *pull, size_t item_size,
                                            twill_map_fn *process, size_t result_size,
                                            twill_aggregate_fn *emit,
                                            const twill_fan_options *options)
{
    twill__fan_plan plan;
    memset(&plan, 0, sizeof plan);
    plan.options = twill__fan_defaults(options);
    plan.item_size = item_size;
    plan.result_size = result_size;
    plan.call = plan.stream = true;
    plan.nested = !plan.options->max_abandoned; /* as above */
    if (!pull || !process || !item_size)
        return twill__refuse(&plan.options->run, 0, TWILL_INVALID);
    return twill__fan_one_call(&plan, NULL, pull, process, emit);
}

/* ---- the object ---- */

TWILL__DEFINE twill_status twill_fan_create(twill_fan **out, const twill_fan_options *options)
{
    twill__fan_plan plan;
    twill_status status;
    twill_fan *fan;
    if (!out)
        return TWILL_INVALID;
    *out = NULL;
    memset(&plan, 0, sizeof plan);
    plan.options = twill__fan_defaults(options);
    plan.result_size = plan.options->result_size;
    status = twill__fan_check(&plan);
    if (status != TWILL_OK)
        return status;
    fan = twill__fan_allocate(&plan);
    if (!fan)
        return TWILL_NO_MEMORY;
    fan->enough = plan.options->enough;
    status = twill__fan_open(fan, &plan);
    if (status != TWILL_OK) {
        twill__fan_free(fan);
        return status;
    }
    *out = fan;
    return TWILL_OK;
}

TWILL__DEFINE twill_status twill_fan_go(twill_fan *fan, twill_task_fn *fn, void *arg, void *key)
{
    return twill__fan_go(fan, fn, arg, key, (twill_until){0, NULL}, TWILL__FAN_GO);
}

TWILL__DEFINE twill_status twill_fan_try_go(twill_fan *fan, twill_task_fn *fn, void *arg, void *key)
{
    return twill__fan_go(fan, fn, arg, key, (twill_until){0, NULL}, TWILL__FAN_TRY);
}

TWILL__DEFINE twill_status twill_fan_go_until(twill_fan *fan, twill_task_fn *fn, void *arg,
                                              void *key, twill_until until)
{
    return twill__fan_go(fan, fn, arg, key, until, TWILL__FAN_UNTIL);
}

TWILL__DEFINE twill_status twill_fan_close(twill_fan *fan)
{
    twill__fan_turn turn;
    twill_status status;
    if (!fan)
        return TWILL_INVALID;
    if (!twill__fan_here(fan))
        return TWILL_FORKED;
    (void)twill__fan_begin(fan, &turn);
    status = fan->closed ? TWILL_CLOSED : TWILL_OK;
    turn.notify = status == TWILL_OK;
    fan->closed = turn.again = true;
    twill__fan_judge(fan, &turn);
    turn.notify &= twill__fan_finished(fan);
    return twill__fan_return(fan, &turn, status);
}

static inline twill_status twill__fan_next(twill_fan *fan, void *result, twill_outcome *outcome,
                                           twill_until until, bool wait)
{
    if (!fan || !outcome)
        return TWILL_INVALID;
    if (!twill__fan_here(fan))
        return TWILL_FORKED;
    return twill__fan_get(fan, result, outcome, until, wait);
}

TWILL__DEFINE twill_status twill_fan_next(twill_fan *fan, void *result, twill_outcome *outcome)
{
    return twill__fan_next(fan, result, outcome, (twill_until){0, NULL}, true);
}

TWILL__DEFINE twill_status twill_fan_try_next(twill_fan *fan, void *result, twill_outcome *outcome)
{
    return twill__fan_next(fan, result, outcome, (twill_until){0, NULL}, false);
}

TWILL__DEFINE twill_status twill_fan_next_until(twill_fan *fan, void *result,
                                                twill_outcome *outcome, twill_until until)
{
    return twill__fan_next(fan, result, outcome, until, true);
}

TWILL__DEFINE twill_status twill_fan_cancel(twill_fan *fan)
{
    twill__fan_turn turn;
    twill_status status;
    if (!fan)
        return TWILL_INVALID;
    if (!twill__fan_here(fan))
        return TWILL_FORKED;
    (void)twill__fan_begin(fan, &turn);
    status = fan->over ? TWILL_CLOSED : TWILL_OK;
    twill__fan_end(fan, &turn, TWILL_CANCELLED, TWILL_CLOSED);
    while (twill__fan_drop_spared(fan, &turn)) {} /* exit: nothing is queued any more */
    return twill__fan_return(fan, &turn, status);
}

TWILL__DEFINE twill_status twill_fan_stop(twill_fan *fan, twill_until drain, twill_until join,
                                          twill_stopped *out)
{
    twill__fan_turn turn;
    twill_status status;
    size_t ran, skipped;
    bool finished;
    if (out)
        memset(out, 0, sizeof *out);
    if (!fan)
        return TWILL_INVALID;
    if (!twill__fan_here(fan))
        return TWILL_FORKED;
    if (twill__fan_inside(fan))
        return TWILL_DEADLOCK;
    twill__fan_enter(fan, &turn);
    twill__fan_sweep(fan, &turn);
    ran = fan->succeeded + fan->failed;
    skipped = fan->skipped;
    finished = twill__fan_finished(fan);
    fan->closed = turn.again = true;
    twill__fan_judge(fan, &turn);
    turn.notify = !finished && twill__fan_finished(fan);
    status = twill__fan_settle_down(fan, &turn, drain, 0);
    if (status == TWILL_FORKED)
        return status;
    if (status != TWILL_OK) { /* what is queued is dropped, and none of it runs here */
        twill__fan_end(fan, &turn, TWILL_CANCELLED, TWILL_CLOSED);
        status = twill__fan_settle_down(fan, &turn, join, 0);
    }
    if (out) {
        out->finished = fan->succeeded + fan->failed - ran;
        out->cancelled = fan->skipped - skipped;
        out->stuck = fan->in_flight + fan->answered;
    }
    return twill__fan_return(fan, &turn, status);
}

static inline void twill__fan_unread_discard(twill_fan *fan, twill__fan_turn *turn,
                                             twill__fan_task *task)
{
    twill__fan_outcall outcall;
    twill__fan_outcall_begin(fan, turn, &outcall);
    twill__fan_exit(fan, turn);
    TWILL__GUARD_PUSH(twill__fan_outcall_ended, &outcall);
    twill__fan_call_discard(fan, task);
    TWILL__GUARD_POP(0);
    twill__fan_outcall_end(&outcall);
    twill__fan_lock(fan, turn);
}

TWILL__DEFINE twill_status twill_fan_destroy(twill_fan *fan)
{
    twill__fan_turn turn;
    twill__fan_task *task;
    twill_report report, *out;
    if (!fan)
        return TWILL_OK;
    if (!twill__fan_here(fan)) {
        twill__fan_free(fan);
        return TWILL_OK;
    }
    if (twill__fan_inside(fan))
        return TWILL_DEADLOCK;
    twill__fan_enter(fan, &turn); /* so a callback that it runs is known to be one */
    twill__fan_end(fan, &turn, TWILL_CANCELLED, TWILL_CLOSED);
    turn.again = true;
    turn.notify = false; /* nobody shall read here any more */
    (void)twill__fan_settle_down(fan, &turn, (twill_until){0, NULL}, fan->max_abandoned);
    twill__fan_abandon(fan, &turn);
    while ((task = twill__fan_take(fan)) != NULL) {
        if (task->outcome.status == TWILL_OK && fan->discard)
            twill__fan_unread_discard(fan, &turn, task);
        twill__fan_release(fan, task);
    }
    (void)twill__fan_return(fan, &turn, TWILL_OK);
    out = fan->report;
    twill__fan_fill(fan, &report);
    report.status = twill__fan_verdict(fan, &report);
    if (report.status == TWILL_OK && (fan->cut_short || report.failed) && !fan->met &&
        fan->stop_at == SIZE_MAX)
        report.status = TWILL_CANCELLED; /* by twill_fan_cancel, or here; failed: left behind */
    twill__fan_bury(fan, &report);
    if (out)
        *out = report;
    return TWILL_OK;
}

TWILL__DEFINE void twill_fan_get_stats(twill_fan *fan, twill_fan_stats *out)
{
    twill__fan_turn turn;
    if (!out)
        return;
    memset(out, 0, sizeof *out);
    if (!fan || !twill__fan_here(fan))
        return;
    (void)twill__fan_begin(fan, &turn);
    twill__fan_sweep(fan, &turn);
    out->accepted = fan->next_index;
    out->done = fan->succeeded;
    out->failed = fan->failed;
    out->skipped = fan->skipped;
    out->running = fan->executing;
    if (out->running > fan->in_flight) /* a worker is still in its lane, and all there has ended */
        out->running = fan->in_flight;
    out->queued = fan->in_flight - out->running;
    out->unread = fan->unread;
    out->abandoned = fan->answered;
    out->records = fan->records;
    (void)twill__fan_return(fan, &turn, TWILL_OK);
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
