/* twill_retry_backoff.h - twill 0.1.0 - SPDX-License-Identifier: MIT OR Unlicense (text at the end)
   GENERATED from patterns/src/retry_backoff.h and its parts. Do not edit it here: edit there, then `make headers`. */

/* twill: retry_backoff - call what may fail for a moment again, later and later, and know when to
   stop.
   SPDX-License-Identifier: MIT OR Unlicense
   Build: cc -std=c11 -pthread. In one .c file: #define TWILL_IMPLEMENTATION before the include.

WHEN TO USE IT
    A call fails now and would succeed in a moment: a server is busy, a lock is taken, a name does
    not resolve yet. The call is made again a bounded number of times, with pauses that grow and are
    uneven (so that a thousand clients do not come back in step), within a deadline, and not at all
    when the failure is permanent or the caller has been told to stop.
WHEN NOT
    What is called must bear being called twice: THIS PATTERN MAY RUN A TASK MORE THAN ONCE. A call
    that timed out may have been done all the same; give it a key by which the other side knows it
    again. A failure that stays (bad arguments, no permission) is not cured by retries: say so in
    after_failure. One layer retries: three layers of three tries are 27 calls at the bottom.

EXAMPLE:
#include <stdio.h>

#define TWILL_IMPLEMENTATION
#include "twill_retry_backoff.h"

static int fetch(const void *url, void *page, const twill_task *task)
{
    if (task->index < 2)                                    // index: 0 is the first call
        return 503;                                         // busy; any code but 0 is a failure
    *(const char **)page = url;
    return 0;
}

int main(void)
{
    const char *page = NULL;
    twill_retry_report report;
    twill_status status = twill_retry_call("example.org/a", &page, fetch,
        &(twill_retry_options){ .max_attempts = 5, .base = TWILL_MS(1) }, &report);
    printf("%s after %zu calls: %s\n", twill_status_name(status), report.attempts, page);
    return 0;
}
END OF EXAMPLE
OUTPUT:
TWILL_OK after 3 calls: example.org/a
END OF OUTPUT

THREE FORMS
    One call        twill_retry_call(in, out, fn, options, report): makes the calls, sleeps between.
    A loop          twill_retry r; twill_retry_init(&r, options);
                    while (twill_retry_next(&r)) twill_retry_result(&r, attempt(...));
                    status = twill_retry_finish(&r, &report);
    Without sleep   twill_retry_next_at(&r, &due) instead of next says WHEN to make the next call;
                    event loops arm a timer, and work in a pool is submitted again at `due`. Do not
                    use the sleeping forms in a pool's worker: ten failing jobs that sleep stall the
                    jobs that would succeed.

OPTIONS (twill_retry_options; zeroed or NULL: 3 calls, 100 ms doubling to 10 s, full jitter)
    max_attempts    total calls, the first included. 0: 3. Above INT32_MAX: INVALID
    unlimited       no bound on calls; then max_attempts is 0 and there is a deadline or a token
    base            the first delay before jitter. 0: 100 ms
    cap             no delay is longer, jitter included (a hint may be). 0: 10 s
    multiplier      0: 2. From 1 to 1e9
    jitter          e is the delay without it. FULL: uniform in 0..e (default: the least load on the
                    other side). NONE: e. EQUAL: e/2 + uniform in 0..e/2. DECORRELATED: uniform in
                    base..3 x the delay before. PROPORTIONAL: e +- jitter_factor x e. ADDITIVE: e +
                    uniform in 0..jitter_add
    jitter_factor   PROPORTIONAL. 0: 0.5. At most 1
    jitter_add      ADDITIVE. 0: base
    max_elapsed     a limit on the whole, from the first call. 0: none
    attempt_timeout a limit on each call: in task->until, for fn to heed. 0: none
    max_hint        a longer hint ends the retry at once. 0: 5 min
    last_try_at_deadline  instead of giving up early: one last call just before the deadline (before
                    it by what the last call took, at least 1 ms), unless a hint forbids
    immediate_first_retry  the first retry does not sleep; the schedule begins with the second
    until           deadline and token of the whole
    context         task->context of all callbacks
    after_failure   looks at a failure (out: NULL in the loop forms). 0: back off as usual. Above 0:
                    wait at least this (a server's Retry-After), plus up to a tenth, since the whole
                    fleet got the same hint. TWILL_RETRY_NEVER, or anything below 0: permanent
    on_retry        told before each pause. In both, task->index is the failed attempt
    budget          shared by many retries and threads: see twill_retry_budget
    seed            the same seed gives the same delays on every machine. 0: a fresh one
    history         the caller's array of history_count attempts: keeps the last ones, oldest first
    Whatever makes no sense is refused: TWILL_INVALID, and nothing is called.

ERRORS              report.end says why it stopped, report.code is what the last call returned
    TWILL_OK        a call returned 0
    TWILL_FAILED    ATTEMPTS: all calls used up. PERMANENT. NO_BUDGET. HINT_TOO_LONG. Also: a loop
                    LEFT after a failure
    TWILL_TIMEOUT   DEADLINE: over (also after a pause: no call begins then), or the next pause
                    would pass it (report.next_delay: that pause)
    TWILL_CANCELLED CANCELLED: the token fired. It is asked before the code: a cancelled call is
                    never retried as a failure
    TWILL_INVALID   REFUSED: an option, or NULL where something is needed. Nothing was called
    TWILL_LOST      LEFT: the loop ended, or fn ended its thread, before any call had a result
    But for INVALID, and a token or deadline that was over before the first call, fn has run at
    least once. The first call is never delayed. After the last one there is no pause.

THREADS      A twill_retry belongs to one thread at a time; a budget to any number.
BLOCKS       call and next sleep; the token ends the sleep. fn is never interrupted: it overruns its
             limit unless it heeds task->until; timeout_fallback returns in time from one that does
             not.
ORDERING     A budget publishes nothing: relaxed.
ALLOCATES    Nothing. No thread, no lock. Leaving a loop early leaks nothing.
OWNERSHIP    in, out, context, budget and history are the caller's, and outlive the call. out is not
             cleared between calls.
COSTS        Between two calls: a clock reading or two, one multiplication, one sleep.
FORK         A child goes on; with seed 0 it draws other delays than its parent.
PITFALLS     A retry inside a retry multiplies. Without a deadline a pause may take 10 s by default.
             In a signal handler nothing here may be called. */
#ifndef TWILL_RETRY_BACKOFF_H
#define TWILL_RETRY_BACKOFF_H

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

typedef enum twill_jitter {
    TWILL_JITTER_FULL = 0,
    TWILL_JITTER_NONE,
    TWILL_JITTER_EQUAL,
    TWILL_JITTER_DECORRELATED,
    TWILL_JITTER_PROPORTIONAL,
    TWILL_JITTER_ADDITIVE
} twill_jitter;

#define TWILL_RETRY_NEVER ((twill_ns)-1) /* as a hint: permanent, stop */

typedef struct twill_retry_attempt {
    size_t number; /* from 0 */
    int code;      /* what the call returned */
    twill_ns started, took, slept_before;
} twill_retry_attempt;

/* ---- budget ---- */

/* So many retries and no more, together, however many callers there are: when everything fails,
   retries must not multiply the load. The caller's memory; zeroed: ready, with the defaults. */
typedef struct twill_retry_budget {
    TWILL_PRIVATE(8);
} twill_retry_budget;

typedef struct twill_retry_budget_options {
    uint32_t capacity;     /* tokens; starts full. 0: 500 */
    uint32_t retry_cost;   /* of a retry. 0: 5. A success after retries gives the last one's back */
    uint32_t timeout_cost; /* of a retry after an attempt that ran into attempt_timeout. 0: 10 */
    uint32_t success_milli; /* what a success at the first call adds, in thousandths. 0: 1000 */
    /* The other known model: each failure costs 1, each success adds success_milli (0: 100), and
       retries are made only while more than half is there. capacity 0: 10. No costs. */
    bool half_rule;
} twill_retry_budget_options;

/* INVALID: NULL, a cost above the capacity, costs beside half_rule. Not while it is in use. */
TWILL__DECL twill_status twill_retry_budget_init(twill_retry_budget *budget,
                                                 const twill_retry_budget_options *options);
/* Whole tokens that are there. NULL: 0. */
TWILL__DECL uint64_t twill_retry_budget_left(const twill_retry_budget *budget);

/* ---- one call ---- */

typedef struct twill_retry_options { /* see OPTIONS above */
    size_t max_attempts;
    bool unlimited;
    twill_ns base;
    twill_ns cap;
    double multiplier;
    twill_jitter jitter;
    double jitter_factor;
    twill_ns jitter_add;
    twill_ns max_elapsed;
    twill_ns attempt_timeout;
    twill_ns max_hint;
    bool last_try_at_deadline;
    bool immediate_first_retry;
    twill_until until;
    void *context;
    twill_ns (*after_failure)(int code, const void *out, const twill_task *task);
    void (*on_retry)(const twill_retry_attempt *failed, twill_ns delay, const twill_task *task);
    twill_retry_budget *budget;
    uint64_t seed;
    twill_retry_attempt *history;
    size_t history_count;
} twill_retry_options;

typedef enum twill_retry_end {
    TWILL_RETRY_SUCCEEDED = 0,
    TWILL_RETRY_ATTEMPTS,
    TWILL_RETRY_PERMANENT,
    TWILL_RETRY_DEADLINE,
    TWILL_RETRY_CANCELLED,
    TWILL_RETRY_NO_BUDGET,
    TWILL_RETRY_HINT_TOO_LONG,
    TWILL_RETRY_REFUSED,
    TWILL_RETRY_LEFT
} twill_retry_end;

typedef struct twill_retry_report {
    twill_status status;  /* what the call returned */
    twill_retry_end end;  /* why it stopped */
    int code;             /* of the last call that returned; 0: none did, or it succeeded */
    size_t attempts;      /* calls made */
    twill_ns wall, slept; /* from the first call to the end; of that, in pauses */
    twill_ns next_delay;  /* the pause that would have come next, when it gave up before one */
} twill_retry_report;

/* "TWILL_RETRY_PERMANENT" and so on, for logs; static. "unknown" for other values. */
TWILL__DECL const char *twill_retry_end_name(twill_retry_end end);

/* Calls fn(in, out, task) until it returns 0 or something above says stop. task->index: the
   attempt, from 0; task->until: its deadline, and the token. `report` may be NULL. */
TWILL__DECL twill_status twill_retry_call(const void *in, void *out, twill_map_fn *fn,
                                          const twill_retry_options *options,
                                          twill_retry_report *report);

/* ---- a loop ---- */

/* The caller's, on the stack; holds no resource. Copies of it are independent. */
typedef struct twill_retry {
    twill_retry_options options;
    TWILL_PRIVATE(24);
} twill_retry;

/* INVALID: next is false, and finish says REFUSED. */
TWILL__DECL twill_status twill_retry_init(twill_retry *retry, const twill_retry_options *options);
/* Whether to make a call now; sleeps before it says yes. Once false, always false. Without a result
   for the attempt before (asserted), that one counts as failed, with code -1. */
TWILL__DECL bool twill_retry_next(twill_retry *retry);
/* The same without sleeping: true: make the call at *due (an instant, perhaps past). Between then
   and now the caller listens to the token. */
TWILL__DECL bool twill_retry_next_at(twill_retry *retry, twill_ns *due);
/* How long this attempt may take, and the token. */
TWILL__DECL twill_until twill_retry_until(const twill_retry *retry);
/* Number of this attempt, from 0. */
TWILL__DECL size_t twill_retry_attempt_number(const twill_retry *retry);
/* How this attempt ended; 0: success. Once for each attempt (asserted). */
TWILL__DECL void twill_retry_result(twill_retry *retry, int code);
/* Before the result: a hint, as after_failure returns it, which is not asked then. Serves once. */
TWILL__DECL void twill_retry_hint(twill_retry *retry, twill_ns wait);
/* The status of the whole; also when the loop was left early. `report` may be NULL. */
TWILL__DECL twill_status twill_retry_finish(twill_retry *retry, twill_retry_report *report);

/* The schedule alone: the delay before retry k (from 0). *state is the generator: begin with the
   seed; *previous the delay before, 0 at first. -1: refused options, or NULL. For k in order these
   are the delays of the loop. Takes up to k steps. */
TWILL__DECL twill_ns twill_retry_delay(const twill_retry_options *options, size_t k,
                                       uint64_t *state, twill_ns *previous);

#ifdef __cplusplus
}
#endif
#endif


#ifdef TWILL_IMPLEMENTATION
#ifndef TWILL__RETRY_BACKOFF_IMPLEMENTATION
#define TWILL__RETRY_BACKOFF_IMPLEMENTATION

/* ---- engine/backoff.h ---- */
/* backoff.h: how long to wait before trying again: growing pauses, made uneven. Integers only, so
   that a seed means the same delays everywhere. */
#ifndef TWILL__ENGINE_BACKOFF_H
#define TWILL__ENGINE_BACKOFF_H

/* ---- engine/random.h ---- */
/* random.h: a small generator whose numbers are the same for a seed on every machine. */
#ifndef TWILL__ENGINE_RANDOM_H
#define TWILL__ENGINE_RANDOM_H

/* ---- engine/wide.h ---- */
/* wide.h: products of 128 bits and their quotients, the same on every machine. */
#ifndef TWILL__ENGINE_WIDE_H
#define TWILL__ENGINE_WIDE_H

typedef struct twill__wide {
    uint64_t high, low;
} twill__wide;

static inline twill__wide twill__wide_product(uint64_t a, uint64_t b)
{
    twill__wide result;
#if defined __SIZEOF_INT128__ && !defined TWILL__NO_INT128
    __extension__ typedef unsigned __int128 twill__u128;
    twill__u128 product = (twill__u128)a * b;
    result.high = (uint64_t)(product >> 64);
    result.low = (uint64_t)product;
#else
    uint64_t al = a & 0xffffffffu, ah = a >> 32, bl = b & 0xffffffffu, bh = b >> 32;
    uint64_t low = al * bl, left = ah * bl, right = al * bh;
    uint64_t middle = (low >> 32) + (left & 0xffffffffu) + right; /* cannot overflow */
    result.low = middle << 32 | (low & 0xffffffffu);
    result.high = ah * bh + (left >> 32) + (middle >> 32);
#endif
    return result;
}

/* value >> shift, for a shift below 128; UINT64_MAX when the result does not fit. */
static inline uint64_t twill__wide_shifted(twill__wide value, unsigned shift)
{
    if (shift >= 64)
        return value.high >> (shift - 64);
    if (value.high >> shift)
        return UINT64_MAX;
    return shift ? value.high << (64 - shift) | value.low >> shift : value.low;
}

/* value / by, rounded down, and the rest; UINT64_MAX when the quotient does not fit. For slow
   paths: one step a bit. by > 0. */
static inline uint64_t twill__wide_quotient(twill__wide value, uint64_t by, uint64_t *rest)
{
    uint64_t quotient = 0, left = value.high;
    *rest = 0;
    if (value.high >= by)
        return UINT64_MAX;
    for (int bit = 63; bit >= 0; bit--) {
        bool carry = left >> 63;
        left = left << 1 | (value.low >> bit & 1);
        quotient <<= 1;
        if (carry || left >= by) {
            left -= by;
            quotient |= 1;
        }
    }
    *rest = left;
    return quotient;
}

/* a * b / by, rounded down; UINT64_MAX when it does not fit. */
static inline uint64_t twill__wide_scaled(uint64_t a, uint64_t b, uint64_t by)
{
    uint64_t rest;
    return twill__wide_quotient(twill__wide_product(a, b), by, &rest);
}

static inline uint64_t twill__saturated_sum(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

#endif

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

/* splitmix64 (Steele, Lea, Flood 2014): the state is a counter, so any value is a good seed. */
static inline uint64_t twill__random(uint64_t *state)
{
    uint64_t x = *state += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* Uniform in 0..most, both included. The bias is at most (most + 1) / 2^64. */
static inline uint64_t twill__random_to(uint64_t *state, uint64_t most)
{
    uint64_t number = twill__random(state);
    return most == UINT64_MAX ? number : twill__wide_product(number, most + 1).high;
}

/* A state to begin with: the seed, or, if that is 0, one that threads, objects and moments do not
   share. */
static inline uint64_t twill__random_begin(uint64_t seed, const void *object)
{
    uint64_t state = (uint64_t)twill__clock_now() ^ (uint64_t)twill__generation() << 48;
    if (seed)
        return seed;
    state = twill__random(&state) ^ twill__thread_number();
    state = twill__random(&state) ^ (uint64_t)(uintptr_t)object;
    return twill__random(&state);
}

#endif

/* The values of twill_jitter, for patterns that do not show it. */
enum {
    TWILL__JITTER_FULL,
    TWILL__JITTER_NONE,
    TWILL__JITTER_EQUAL,
    TWILL__JITTER_DECORRELATED,
    TWILL__JITTER_PROPORTIONAL,
    TWILL__JITTER_ADDITIVE
};

/* Both may lie in storage that the caller owns as plain words. */
typedef struct __attribute__((may_alias))
twill__backoff {             /* the shape of a schedule; fixed once made */
    uint64_t base, cap, add; /* ns, <= INT64_MAX; cap: of every delay, jitter included */
    uint64_t growth;         /* multiplier * 2^32, >= 2^32 */
    uint64_t spread;         /* PROPORTIONAL: factor * 2^32, <= 2^32 */
    int jitter;
} twill__backoff;

typedef struct __attribute__((may_alias))
twill__delays {      /* where one sequence of delays stands; all zero but `random` */
    uint64_t random; /* the generator: see twill__random_begin */
    uint64_t grown;  /* the last delay before jitter; 0: none yet */
    uint64_t last;   /* the last delay; 0: none yet. DECORRELATED grows from it */
} twill__delays;

/* value * 2^32, rounded; for 0 <= value < 2^31. Every step is exact, so excess precision of the
   machine changes nothing. */
static inline uint64_t twill__fixed(double value)
{
    double scaled = value * 4294967296.0;
    uint64_t whole = (uint64_t)scaled;
    return scaled - (double)whole >= 0.5 ? whole + 1 : whole;
}

/* The usual one: doubling from `base` to `cap`, FULL jitter. */
static inline twill__backoff twill__backoff_usual(twill_ns base, twill_ns cap)
{
    twill__backoff shape = {(uint64_t)base,    (uint64_t)cap,     (uint64_t)base,
                            UINT64_C(2) << 32, UINT64_C(1) << 31, TWILL__JITTER_FULL};
    return shape;
}

/* One step of growth. It stops at the cap, so no count of retries can make it overflow. */
static inline uint64_t twill__backoff_grow(const twill__backoff *shape, uint64_t grown)
{
    uint64_t next = twill__wide_shifted(twill__wide_product(grown, shape->growth), 32);
    return next < shape->cap ? next : shape->cap;
}

static inline uint64_t twill__backoff_first(const twill__backoff *shape)
{
    return shape->base < shape->cap ? shape->base : shape->cap;
}

/* The delay that belongs to `grown`; `last` is the delay before it, 0 at first. Never above the
   cap. */
static inline uint64_t twill__backoff_jittered(const twill__backoff *shape, uint64_t grown,
                                               uint64_t last, uint64_t *random)
{
    uint64_t delay = grown, part;
    switch (shape->jitter) {
    case TWILL__JITTER_FULL:
        delay = twill__random_to(random, grown);
        break;
    case TWILL__JITTER_EQUAL:
        delay = grown / 2 + twill__random_to(random, grown - grown / 2);
        break;
    case TWILL__JITTER_DECORRELATED:
        last = last ? last : shape->base;
        part = last > UINT64_MAX / 3 ? UINT64_MAX : 3 * last;
        part = part > shape->base ? part - shape->base : 0;
        delay = twill__saturated_sum(shape->base, twill__random_to(random, part));
        break;
    case TWILL__JITTER_PROPORTIONAL: /* spread <= 1: part <= grown, so no delay is negative */
        part = twill__wide_shifted(twill__wide_product(grown, shape->spread), 32);
        delay = grown - part + twill__random_to(random, 2 * part);
        break;
    case TWILL__JITTER_ADDITIVE:
        delay = twill__saturated_sum(grown, twill__random_to(random, shape->add));
        break;
    default: /* NONE */
        break;
    }
    return delay < shape->cap ? delay : shape->cap;
}

/* The next delay of a sequence. */
static inline twill_ns twill__backoff_next(const twill__backoff *shape, twill__delays *delays)
{
    delays->grown =
        delays->grown ? twill__backoff_grow(shape, delays->grown) : twill__backoff_first(shape);
    delays->last = twill__backoff_jittered(shape, delays->grown, delays->last, &delays->random);
    return (twill_ns)delays->last;
}

#endif

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

/* ---- retry_backoff/budget.h ---- */
/* budget.h: a store of tokens that many retries share. */
#ifndef TWILL__RETRY_BUDGET_H
#define TWILL__RETRY_BUDGET_H

/* One word counts what is gone, in thousandths of a token, so that a zeroed budget is full. It only
   counts: every access is relaxed, and the compare-and-swap keeps it within 0..capacity. */
typedef struct TWILL__VIEW twill__budget {
    _Atomic uint64_t gone;
    uint32_t capacity, retry_cost, timeout_cost, success_milli; /* set at init; 0: the default */
    uint32_t half;
} twill__budget;
_Static_assert(sizeof(twill__budget) <= sizeof(twill_retry_budget),
               "twill_retry_budget is too small");

static inline twill__budget *twill__budget_of(const twill_retry_budget *budget)
{
    return (twill__budget *)(uintptr_t)budget;
}

static inline uint64_t twill__budget_capacity(const twill__budget *me) /* thousandths */
{
    return UINT64_C(1000) * (me->capacity ? me->capacity : me->half ? 10 : 500);
}

static inline uint32_t twill__budget_cost(const twill__budget *me, bool timed_out)
{
    return timed_out        ? me->timeout_cost ? me->timeout_cost : 10
           : me->retry_cost ? me->retry_cost
                            : 5;
}

/* Takes `amount`, or as much as there is if `partly`; false: nothing taken. */
static inline bool twill__budget_spend(twill__budget *me, uint64_t amount, bool partly)
{
    uint64_t capacity = twill__budget_capacity(me), take;
    uint64_t gone = atomic_load_explicit(&me->gone, memory_order_relaxed);
    do {
        take = amount <= capacity - gone ? amount : capacity - gone;
        if (take < amount && !partly)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&me->gone, &gone, gone + take,
                                                    memory_order_relaxed, memory_order_relaxed));
    return true;
}

static inline void twill__budget_return(twill__budget *me, uint64_t amount)
{
    uint64_t gone = atomic_load_explicit(&me->gone, memory_order_relaxed), give;
    do
        give = amount < gone ? amount : gone; /* full at most */
    while (give && !atomic_compare_exchange_weak_explicit(
                       &me->gone, &gone, gone - give, memory_order_relaxed, memory_order_relaxed));
}

/* A failure that is not permanent. */
static inline void twill__budget_failure(twill_retry_budget *budget)
{
    twill__budget *me = twill__budget_of(budget);
    if (me->half)
        (void)twill__budget_spend(me, 1000, true);
}

/* May there be a retry? *paid: what it took, in tokens. */
static inline bool twill__budget_take(twill_retry_budget *budget, bool timed_out, uint32_t *paid)
{
    twill__budget *me = twill__budget_of(budget);
    uint32_t cost;
    *paid = 0;
    if (me->half)
        return 2 * atomic_load_explicit(&me->gone, memory_order_relaxed) <
               twill__budget_capacity(me);
    cost = twill__budget_cost(me, timed_out);
    if (!twill__budget_spend(me, UINT64_C(1000) * cost, false))
        return false;
    *paid = cost;
    return true;
}

static inline void twill__budget_give(twill_retry_budget *budget, uint32_t paid)
{
    twill__budget_return(twill__budget_of(budget), UINT64_C(1000) * paid);
}

static inline void twill__budget_success(twill_retry_budget *budget, uint32_t paid, bool at_once)
{
    twill__budget *me = twill__budget_of(budget);
    if (at_once || me->half)
        twill__budget_return(me, me->success_milli ? me->success_milli : me->half ? 100 : 1000);
    else
        twill__budget_give(budget, paid);
}

TWILL__DEFINE twill_status twill_retry_budget_init(twill_retry_budget *budget,
                                                   const twill_retry_budget_options *options)
{
    static const twill_retry_budget_options none;
    twill__budget made;
    options = options ? options : &none;
    if (!budget || (options->half_rule && (options->retry_cost || options->timeout_cost)))
        return TWILL_INVALID;
    memset(&made, 0, sizeof made);
    made.capacity = options->capacity;
    made.retry_cost = options->retry_cost;
    made.timeout_cost = options->timeout_cost;
    made.success_milli = options->success_milli;
    made.half = options->half_rule;
    for (int k = 0; k < 2 && !made.half; k++)
        if (UINT64_C(1000) * twill__budget_cost(&made, k) > twill__budget_capacity(&made))
            return TWILL_INVALID;
    memset(budget, 0, sizeof *budget);
    memcpy(budget, &made, sizeof made);
    return TWILL_OK;
}

TWILL__DEFINE uint64_t twill_retry_budget_left(const twill_retry_budget *budget)
{
    const twill__budget *me = twill__budget_of(budget);
    if (!budget)
        return 0;
    return (twill__budget_capacity(me) - atomic_load_explicit(&me->gone, memory_order_relaxed)) /
           1000;
}

#endif

/* ---- retry_backoff/schedule.h ---- */
/* schedule.h: which options of a retry make sense, and the delays they mean. */
#ifndef TWILL__RETRY_SCHEDULE_H
#define TWILL__RETRY_SCHEDULE_H

#define TWILL__RETRY_CALLS 3                 /* the default of max_attempts */
#define TWILL__RETRY_HINT  TWILL_SEC(5 * 60) /* of max_hint */

/* Written so that NaN is refused, too. */
static inline bool twill__retry_number(double value, double least, double most)
{
    return value == 0 || (value >= least && value <= most);
}

static inline bool twill__retry_valid(const twill_retry_options *o)
{
    bool bounded = !twill__no_deadline(o->until.deadline) || o->until.cancel ||
                   !twill__no_deadline(o->max_elapsed);
    if (o->max_attempts > INT32_MAX || (o->unlimited && (o->max_attempts || !bounded)))
        return false;
    if (o->base < 0 || o->cap < 0 || o->jitter_add < 0 || o->max_elapsed < 0 ||
        o->attempt_timeout < 0 || o->max_hint < 0)
        return false;
    if (!twill__retry_number(o->multiplier, 1, 1e9) || !twill__retry_number(o->jitter_factor, 0, 1))
        return false;
    if ((unsigned)o->jitter > TWILL_JITTER_ADDITIVE)
        return false;
    return (o->history != NULL) == (o->history_count != 0);
}

static inline twill__backoff twill__retry_shape(const twill_retry_options *o)
{
    twill__backoff shape =
        twill__backoff_usual(o->base ? o->base : TWILL_MS(100), o->cap ? o->cap : TWILL_SEC(10));
    shape.jitter = (int)o->jitter;
    if (o->multiplier != 0)
        shape.growth = twill__fixed(o->multiplier);
    if (o->jitter_factor != 0)
        shape.spread = twill__fixed(o->jitter_factor);
    if (o->jitter_add)
        shape.add = (uint64_t)o->jitter_add;
    return shape;
}

#endif

TWILL__DEFINE const char *twill_retry_end_name(twill_retry_end end)
{
    static const char *const names[] = {
        "TWILL_RETRY_SUCCEEDED",     "TWILL_RETRY_ATTEMPTS",  "TWILL_RETRY_PERMANENT",
        "TWILL_RETRY_DEADLINE",      "TWILL_RETRY_CANCELLED", "TWILL_RETRY_NO_BUDGET",
        "TWILL_RETRY_HINT_TOO_LONG", "TWILL_RETRY_REFUSED",   "TWILL_RETRY_LEFT"};
    return (unsigned)end < sizeof names / sizeof names[0] ? names[end] : "unknown";
}

/* ---- one attempt ---- */

enum {
    TWILL__RETRY_RESTING /* before the first call, or after a result */,
    TWILL__RETRY_RUNNING /* next or next_at has said yes */,
    TWILL__RETRY_OVER
};

typedef struct TWILL__VIEW twill__retry { /* the private words of a twill_retry */
    twill__backoff shape;
    twill__delays delays;
    twill_ns begun;    /* the first call; 0: none yet */
    twill_ns deadline; /* of the whole; TWILL_FOREVER: none */
    twill_ns started, ended, slept, slept_before, hint, next_delay;
    size_t number; /* of the attempt, from 0 */
    const void *out;
    uint32_t generation, paid; /* paid: what this attempt took from the budget, in tokens */
    int code;
    uint8_t phase, end;
    bool last_try, hinted, ready; /* ready: init has accepted the options */
} twill__retry;
_Static_assert(sizeof(twill__retry) <= sizeof(((twill_retry *)0)->private_words),
               "twill_retry is too small");
_Static_assert((int)TWILL__JITTER_FULL == (int)TWILL_JITTER_FULL &&
                   (int)TWILL__JITTER_ADDITIVE == (int)TWILL_JITTER_ADDITIVE &&
                   (int)TWILL__JITTER_PROPORTIONAL == (int)TWILL_JITTER_PROPORTIONAL &&
                   (int)TWILL__JITTER_DECORRELATED == (int)TWILL_JITTER_DECORRELATED,
               "the engine's jitter modes are the public ones");

static inline twill__retry *twill__retry_of(const twill_retry *retry)
{
    return (twill__retry *)(uintptr_t)retry->private_words;
}

static inline twill_task twill__retry_task(const twill_retry *retry, bool running)
{
    twill__retry *me = twill__retry_of(retry);
    twill_task task = {me->number, retry->options.context, UINT_MAX, 0, NULL, {0, NULL}, NULL};
    if (running) {
        task.worker = 0;
        task.workers = 1;
        task.until = twill_retry_until(retry);
    }
    return task;
}

static inline bool twill__retry_stop(twill__retry *me, twill_retry_end end)
{
    me->phase = TWILL__RETRY_OVER;
    me->end = (uint8_t)end;
    return false;
}

static inline void twill__retry_begin(twill__retry *me, twill_ns at)
{
    me->phase = TWILL__RETRY_RUNNING;
    me->started = at;
    me->hinted = false;
    me->hint = 0;
}

/* Before the first call: the token, then the deadline. */
static inline bool twill__retry_first(twill_retry *retry, twill_ns now)
{
    twill__retry *me = twill__retry_of(retry);
    const twill_retry_options *options = &retry->options;
    twill_ns limit = options->max_elapsed ? options->max_elapsed : TWILL_FOREVER;
    me->begun = me->ended = now;
    me->deadline =
        twill__no_deadline(options->until.deadline) ? TWILL_FOREVER : options->until.deadline;
    if (limit < TWILL_FOREVER - now && now + limit < me->deadline)
        me->deadline = now + limit;
    if (twill_cancel_fired(options->until.cancel))
        return twill__retry_stop(me, TWILL_RETRY_CANCELLED);
    if (now >= me->deadline)
        return twill__retry_stop(me, TWILL_RETRY_DEADLINE);
    twill__retry_begin(me, now);
    return true;
}

static inline void twill__retry_attempt_of(const twill__retry *me, twill_retry_attempt *attempt)
{
    attempt->number = me->number;
    attempt->code = me->code;
    attempt->started = me->started;
    attempt->took = me->ended - me->started;
    attempt->slept_before = me->slept_before;
}

static inline void twill__retry_remember(const twill_retry *retry)
{
    const twill_retry_options *options = &retry->options;
    twill__retry *me = twill__retry_of(retry);
    size_t at = me->number, count = options->history_count;
    if (!count)
        return;
    if (at >= count) { /* the oldest goes */
        memmove(options->history, options->history + 1, (count - 1) * sizeof *options->history);
        at = count - 1;
    }
    twill__retry_attempt_of(me, &options->history[at]);
}

/* Whether the attempt ran into its own limit. */
static inline bool twill__retry_overran(const twill_retry *retry)
{
    twill__retry *me = twill__retry_of(retry);
    twill_ns limit = retry->options.attempt_timeout;
    return limit && me->ended - me->started >= limit;
}

/* ---- what comes after a failure ---- */

/* What the user says about it. False: stop. */
static inline bool twill__retry_worth_it(twill_retry *retry)
{
    twill__retry *me = twill__retry_of(retry);
    const twill_retry_options *options = &retry->options;
    if (!me->hinted && options->after_failure) {
        twill_task task = twill__retry_task(retry, false);
        me->hint = options->after_failure(me->code, me->out, &task);
    }
    if (me->hint < 0)
        return twill__retry_stop(me, TWILL_RETRY_PERMANENT);
    if (options->budget)
        twill__budget_failure(options->budget);
    if (!options->unlimited &&
        me->number + 1 >= (options->max_attempts ? options->max_attempts : TWILL__RETRY_CALLS))
        return twill__retry_stop(me, TWILL_RETRY_ATTEMPTS);
    if (me->hint > (options->max_hint ? options->max_hint : TWILL__RETRY_HINT)) {
        me->next_delay = me->hint;
        return twill__retry_stop(me, TWILL_RETRY_HINT_TOO_LONG);
    }
    return true;
}

/* The pause: the schedule's, or the hint and a little if that is longer. */
static inline twill_ns twill__retry_pause(twill_retry *retry)
{
    twill__retry *me = twill__retry_of(retry);
    uint64_t delay = 0, hint = (uint64_t)me->hint;
    if (!retry->options.seed && me->generation != twill__generation()) { /* not in step with the
                                                                            parent process */
        me->generation = twill__generation();
        me->delays.random = twill__random_begin(0, retry);
    }
    if (!retry->options.immediate_first_retry || me->number)
        delay = (uint64_t)twill__backoff_next(&me->shape, &me->delays);
    if (hint) {
        delay = delay > hint ? delay : hint;
        delay += twill__random_to(&me->delays.random, hint / 10);
    }
    return delay < (uint64_t)TWILL_FOREVER ? (twill_ns)delay : TWILL_FOREVER - 1;
}

/* When the next call is made: *at. False: not in time. */
static inline bool twill__retry_place(twill_retry *retry, twill_ns now, twill_ns *at)
{
    twill__retry *me = twill__retry_of(retry);
    twill_ns delay = twill__retry_pause(retry), took = me->ended - me->started;
    me->next_delay = delay;
    if (!me->last_try && delay < TWILL_FOREVER - now && now + delay < me->deadline) {
        *at = now + delay;
        return true;
    }
    took = took > TWILL_MS(1) ? took : TWILL_MS(1);
    if (retry->options.last_try_at_deadline && !me->last_try && me->deadline < TWILL_FOREVER &&
        me->deadline - now > took && me->deadline - now - took >= me->hint) {
        me->last_try = true;
        *at = me->deadline - took;
        return true;
    }
    return twill__retry_stop(me, TWILL_RETRY_DEADLINE);
}

static inline void twill__retry_refund(void *retry_)
{
    twill_retry *retry = (twill_retry *)retry_;
    twill__retry *me = twill__retry_of(retry);
    if (retry->options.budget)
        twill__budget_give(retry->options.budget, me->paid); /* once: it ends, or pays anew */
}

/* A callback that ends its thread: the call it was told of, which is paid for, is not made. */
static inline void twill__retry_tell(twill_retry *retry, twill_ns delay)
{
    twill_retry_attempt failed;
    twill_task task = twill__retry_task(retry, false);
    twill__retry_attempt_of(twill__retry_of(retry), &failed);
    TWILL__GUARD_PUSH(twill__retry_refund, retry);
    retry->options.on_retry(&failed, delay, &task);
    TWILL__GUARD_POP(0);
}

/* Decides what a failure leads to. True: a call at *at, paid for. */
static inline bool twill__retry_decide(twill_retry *retry, twill_ns now, twill_ns *at)
{
    twill__retry *me = twill__retry_of(retry);
    const twill_retry_options *options = &retry->options;
    if (twill_cancel_fired(options->until.cancel))
        return twill__retry_stop(me, TWILL_RETRY_CANCELLED);
    if (!twill__retry_worth_it(retry) || !twill__retry_place(retry, now, at))
        return false;
    if (options->budget &&
        !twill__budget_take(options->budget, twill__retry_overran(retry), &me->paid))
        return twill__retry_stop(me, TWILL_RETRY_NO_BUDGET);
    me->next_delay = 0;
    if (options->on_retry)
        twill__retry_tell(retry, *at - now);
    return true;
}

/* Both forms of next. */
static inline bool twill__retry_go(twill_retry *retry, twill_ns *due)
{
    twill__retry *me = twill__retry_of(retry);
    twill_ns now, at = 0;
    TWILL_ASSERT(me->phase != TWILL__RETRY_RUNNING); /* a result for the attempt before */
    if (me->phase == TWILL__RETRY_RUNNING)
        twill_retry_result(retry, -1);
    if (!me->ready || me->phase == TWILL__RETRY_OVER)
        return false;
    now = twill__clock_now();
    if (!me->begun) {
        *due = now;
        return twill__retry_first(retry, now);
    }
    if (!twill__retry_decide(retry, now, &at))
        return false;
    *due = at;
    return true;
}

static inline void twill__retry_again(twill__retry *me, twill_ns at)
{
    me->number++;
    me->slept_before = at - me->ended;
    me->slept += me->slept_before;
    twill__retry_begin(me, at);
}

/* After the pause: the call that is paid for is not made. */
static inline bool twill__retry_give_up(twill_retry *retry, twill_retry_end end)
{
    twill__retry *me = twill__retry_of(retry);
    twill__retry_refund(retry);
    me->slept += twill__clock_now() - me->ended;
    return twill__retry_stop(me, end);
}

/* ---- the public functions ---- */

TWILL__DEFINE twill_status twill_retry_init(twill_retry *retry, const twill_retry_options *options)
{
    static const twill_retry_options none;
    twill__retry *me;
    if (!retry)
        return TWILL_INVALID;
    me = twill__retry_of(retry);
    memset(me, 0, sizeof *me);
    retry->options = options ? *options : none;
    me->ready = twill__retry_valid(&retry->options);
    if (!me->ready)
        return TWILL_INVALID;
    me->shape = twill__retry_shape(&retry->options);
    me->generation = twill__generation();
    me->delays.random = twill__random_begin(retry->options.seed, retry);
    return TWILL_OK;
}

TWILL__DEFINE bool twill_retry_next(twill_retry *retry)
{
    twill__retry *me;
    twill_ns due = 0;
    if (!retry || !twill__retry_go(retry, &due))
        return false;
    me = twill__retry_of(retry);
    if (me->phase == TWILL__RETRY_RUNNING) /* the first call */
        return true;
    if (twill_sleep((twill_until){due, retry->options.until.cancel}) != TWILL_OK ||
        twill_cancel_fired(retry->options.until.cancel))
        return twill__retry_give_up(retry, TWILL_RETRY_CANCELLED);
    due = twill__clock_now();
    if (due >= me->deadline) /* a callback took its time, or the thread woke late */
        return twill__retry_give_up(retry, TWILL_RETRY_DEADLINE);
    twill__retry_again(me, due);
    return true;
}

TWILL__DEFINE bool twill_retry_next_at(twill_retry *retry, twill_ns *due)
{
    twill_ns at = 0;
    if (!retry || !due || !twill__retry_go(retry, &at))
        return false;
    if (twill__retry_of(retry)->phase != TWILL__RETRY_RUNNING)
        twill__retry_again(twill__retry_of(retry), at);
    *due = at;
    return true;
}

TWILL__DEFINE twill_until twill_retry_until(const twill_retry *retry)
{
    twill_until until = {0, NULL};
    const twill__retry *me;
    twill_ns limit;
    if (!retry)
        return until;
    me = twill__retry_of(retry);
    limit = retry->options.attempt_timeout;
    until.cancel = retry->options.until.cancel;
    if (!me->begun) /* no attempt yet */
        return retry->options.until;
    until.deadline = me->deadline;
    if (limit && limit < TWILL_FOREVER - me->started && me->started + limit < until.deadline)
        until.deadline = me->started + limit;
    return until;
}

TWILL__DEFINE size_t twill_retry_attempt_number(const twill_retry *retry)
{
    return retry ? twill__retry_of(retry)->number : 0;
}

TWILL__DEFINE void twill_retry_result(twill_retry *retry, int code)
{
    twill__retry *me;
    if (!retry)
        return;
    me = twill__retry_of(retry);
    TWILL_ASSERT(me->phase == TWILL__RETRY_RUNNING); /* an attempt, and one result for it */
    if (me->phase != TWILL__RETRY_RUNNING)
        return;
    me->ended = twill__clock_now();
    if (me->ended < me->started) /* next_at, and called before its time */
        me->ended = me->started;
    me->code = code;
    me->phase = TWILL__RETRY_RESTING;
    twill__retry_remember(retry);
    if (code)
        return;
    if (retry->options.budget)
        twill__budget_success(retry->options.budget, me->number ? me->paid : 0, me->number == 0);
    (void)twill__retry_stop(me, TWILL_RETRY_SUCCEEDED);
}

TWILL__DEFINE void twill_retry_hint(twill_retry *retry, twill_ns wait)
{
    twill__retry *me;
    if (!retry)
        return;
    me = twill__retry_of(retry);
    TWILL_ASSERT(me->phase == TWILL__RETRY_RUNNING); /* before the result */
    if (me->phase != TWILL__RETRY_RUNNING)
        return;
    me->hint = wait;
    me->hinted = true;
}

static inline twill_status twill__retry_status(const twill__retry *me)
{
    switch ((twill_retry_end)me->end) {
    case TWILL_RETRY_SUCCEEDED:
        return TWILL_OK;
    case TWILL_RETRY_DEADLINE:
        return TWILL_TIMEOUT;
    case TWILL_RETRY_CANCELLED:
        return TWILL_CANCELLED;
    case TWILL_RETRY_REFUSED:
        return TWILL_INVALID;
    case TWILL_RETRY_LEFT:
        return me->code ? TWILL_FAILED : TWILL_LOST;
    default:
        return TWILL_FAILED;
    }
}

TWILL__DEFINE twill_status twill_retry_finish(twill_retry *retry, twill_retry_report *report)
{
    twill__retry *me;
    twill_status status;
    if (!retry) {
        if (report)
            *report = (twill_retry_report){.status = TWILL_INVALID, .end = TWILL_RETRY_REFUSED};
        return TWILL_INVALID;
    }
    me = twill__retry_of(retry);
    if (!me->ready) {
        (void)twill__retry_stop(me, TWILL_RETRY_REFUSED);
    } else if (me->phase != TWILL__RETRY_OVER) {
        /* next_at has promised a call whose time has not come: it was not made, nor waited for */
        if (me->phase == TWILL__RETRY_RUNNING && twill__clock_now() < me->started) {
            twill__retry_refund(retry);
            me->number--; /* the first call's time is never to come */
            me->slept -= me->slept_before;
        }
        (void)twill__retry_stop(me, TWILL_RETRY_LEFT);
    }
    status = twill__retry_status(me);
    if (report) {
        memset(report, 0, sizeof *report);
        report->status = status;
        report->end = (twill_retry_end)me->end;
        report->code = me->code;
        report->attempts = me->started ? me->number + 1 : 0;
        report->slept = me->slept;
        report->wall = me->begun ? twill__clock_now() - me->begun : 0;
        report->next_delay = me->next_delay;
    }
    return status;
}

TWILL__DEFINE twill_ns twill_retry_delay(const twill_retry_options *options, size_t k,
                                         uint64_t *state, twill_ns *previous)
{
    static const twill_retry_options none;
    twill__backoff shape;
    uint64_t grown;
    options = options ? options : &none;
    if (!state || !previous || *previous < 0 || !twill__retry_valid(options))
        return -1;
    if (options->immediate_first_retry && k-- == 0)
        return 0;
    shape = twill__retry_shape(options);
    grown = twill__backoff_first(&shape);
    for (; k > 0; k--) { /* also ends where it no longer grows */
        uint64_t next = twill__backoff_grow(&shape, grown);
        if (next == grown)
            break;
        grown = next;
    }
    *previous = (twill_ns)twill__backoff_jittered(&shape, grown, (uint64_t)*previous, state);
    return *previous;
}

/* ---- one call ---- */

typedef struct twill__retry_calling {
    twill_retry retry;
    twill_retry_report *report;
} twill__retry_calling;

/* At the end, and when fn or a callback ends the thread: the report may outlive it. */
static inline void twill__retry_called(void *calling_)
{
    twill__retry_calling *calling = (twill__retry_calling *)calling_;
    (void)twill_retry_finish(&calling->retry, calling->report);
}

TWILL__DEFINE twill_status twill_retry_call(const void *in, void *out, twill_map_fn *fn,
                                            const twill_retry_options *options,
                                            twill_retry_report *report)
{
    twill__retry_calling calling;
    twill__retry *me;
    (void)twill_retry_init(&calling.retry, options);
    calling.report = report;
    me = twill__retry_of(&calling.retry);
    me->out = out;
    if (!fn)
        me->ready = false;
    TWILL__GUARD_PUSH(twill__retry_called, &calling);
    while (twill_retry_next(&calling.retry)) {
        twill_task task = twill__retry_task(&calling.retry, true);
        twill_retry_result(&calling.retry, fn(in, out, &task));
    }
    TWILL__GUARD_POP(1);
    return twill__retry_status(me);
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
