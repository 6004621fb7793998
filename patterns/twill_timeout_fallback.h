/* twill_timeout_fallback.h - twill 0.1.0 - SPDX-License-Identifier: MIT OR Unlicense (text at the end)
   GENERATED from patterns/src/timeout_fallback.h and its parts. Do not edit it here: edit there, then `make headers`. */

/* twill: timeout_fallback - a function with a deadline, and what serves instead.
   SPDX-License-Identifier: MIT OR Unlicense
   Build: cc -std=c11 -pthread. In one .c file: #define TWILL_IMPLEMENTATION before the include.

WHEN TO USE IT
    A function may take longer than its caller can wait, and cannot be trusted to look at a clock: a
    library call, a disk, a peer. The call returns at the deadline whatever the function does, with
    its result, with a fallback's, or with a constant, and says which. What is left behind keeps
    valid memory, is bounded in number and counted, and its late result goes to a callback once.
WHEN NOT
    The function looks at a token or a deadline by itself: give it twill_within(...). Many tasks at
    once: worker_pool. Trying again: retry_backoff (and give each attempt a deadline from here).
    A thread cannot be killed: a function that never returns keeps its thread for good. If that
    happens often, put it into a process.

EXAMPLE:
#include <stdio.h>

#define TWILL_IMPLEMENTATION
#include "twill_timeout_fallback.h"

static int fetch(const void *in, void *out, const twill_task *task)
{
    int key = *(const int *)in;
    if (key == 7)                                       // a server that does not answer; this
        twill_sleep(task->until);                       // function happens to look at its token
    *(int *)out = key * 100;
    return twill_task_cancelled(task) ? -1 : 0;         // not 0: it has failed
}

int main(void)
{
    int last_price = 42, price = 0;
    for (int key = 6; key < 8; key++) {
        twill_status status = twill_call_with_timeout(&key, sizeof key, &price, sizeof price,
                                                      fetch, TWILL_SEC(1), &last_price);
        printf("%d: %d (%s)\n", key, price, twill_status_text(status));
    }
    return twill_timeout_drain(NULL, twill_within(TWILL_SEC(10)), NULL) != TWILL_OK;
}
END OF EXAMPLE
OUTPUT:
6: 600 (success)
7: 42 (the deadline passed)
END OF OUTPUT

OPTIONS (twill_timeout_options; zeroed or NULL: 5 s, a thread a call, no fallback)
    timeout         bounds the primary. 0: 5 s; TWILL_FOREVER: none of its own
    run.until       bounds every call, with what the call itself is given: the earliest counts
    mode            ABANDON: returns at the deadline. COOPERATE: no thread; the function runs in the
                    caller and is told by its task. JOIN: a thread; the token fires at the deadline,
                    the call waits for the end: punctual as the function is, nothing stays behind
    grace           ABANDON: after the token fired, so much more for a function that obeys
    fallbacks       functions tried in order, in the caller's thread, while `until` allows it: the
                    timeout above is over then. One that fails, or that returns after its own limit,
                    is passed over. Copied at create, as the constant is
    fallback_value  the last resort; must have the size of the call's out
    fallback_on_failure   false: a code of the primary's own is TWILL_FAILED at once
    free_input      once for each call's copy of the input, by its last user, in whichever thread
                    that is; where no memory was left for a copy it gets the caller's bytes. Not
                    for a call that is refused with INVALID, TOO_BIG or FORKED
    discard         once for each result that nobody takes: it came late, lost against another copy,
                    came with a code (INT_MIN: the function has ended its thread), or is that of a
                    fallback that was passed over. In the function's thread, with the input copy
    max_abandoned   ABANDON: functions that run, with their call or after it; 0: 64. Beyond: BUSY
    max_running     the same in every mode; 0: no further bound
    idle_threads    kept for the next call; 0: 4
    hedge_after     a second copy of the function starts when the first has not ended after so long,
                    a third after that ..: the first result wins, the others are told and discarded.
                    The function must bear being run twice; task->index says which copy it is, 0 the
                    first. 0: none. Not with COOPERATE
    max_hedges      copies beside the first, a call; 0: 1
    hedge_budget    extra copies for each call, on average (0..1); 0: 0.05. Saved up to 10, begins
                    at 1. Without budget, place, memory or thread a copy is skipped
    run.context, stack_size, name, worker_start, worker_stop (in the thread, at its begin and end)
                    but for `context` not with COOPERATE. Other fields of run: INVALID

STATUS AND ERRORS
    TWILL_OK        a function has made the bytes in out: report.source and level say which
    else            how the primary did, and out holds the constant (source FROM_VALUE), or what it
                    held before. A constant never hides that there was a timeout
    TIMEOUT         the deadline passed; also when the function gave up after it, whatever its code
    FAILED          it returned report.code before the deadline, and no result came. Whatever the
                    number: a function's own TWILL_TIMEOUT is a failure, not the deadline
    CANCELLED       a token fired, also between two fallbacks: nothing further runs, no constant
    LOST            it ended its thread
    BUSY, NO_MEMORY, NO_THREAD   it did not start (NO_THREAD: or worker_start said report.code)
    CLOSED          no fallback, no constant
    INVALID, TOO_BIG, FORKED     refused: nothing ran, nothing is counted
    A result that is there wins over the deadline. COOPERATE and JOIN also give a result that comes
    late: report.wall shows it.

THREADS      All functions by any thread, calls also from inside a function (max_running 1: BUSY,
             not a hang). destroy when the calls have returned, but for those that stragglers make:
             they are answered, later ones CLOSED; the token of run.until must outlive them. The
             threads are the object's own, never a pool's: a straggler would take a worker of it.
NESTING      Give task->until to what the function calls: it carries the deadline and a token that
             fires with the caller's, so 5 s inside 1 s is 1 s. The token outlives the call, the
             caller's own need not. A twill_cancel_request on the caller's, or on run.until's, is
             seen when the function looks with twill_task_cancelled.
ORDERING     What came before the call is visible to the function, what it did to who gets its
             result (the caller, or discard); what a straggler did to who sees drain return OK.
OWNERSHIP    The function writes into memory of the call's block, never into out, which may live on
             the caller's stack. The input is a copy, shared read-only by all copies of the function
             and the fallbacks. in_size 0: the pointer itself; it must stay until discard or drain.
ALLOCATES    A block a call: head, input, results. A record a thread. create: one block.
BLOCKS       A call: until the deadline plus grace plus one wake-up, never for a straggler. destroy:
             never for one either. User code runs under no lock; hooks that a function adds to its
             token run in the caller's thread at the deadline.
COSTS        Two wake-ups a call when a thread is idle; one more thread when not. An abandoned
             function: its block and its thread.
FORK         In the child an object answers FORKED, so does a call whose callback has forked, and
             nothing more is called there; destroy frees its memory. The one-call form begins anew.
             Signal handlers: nothing of this header.
PITFALLS     exit() while stragglers run destroys what they use (statics, stdio): drain first, and
             if something is left, _Exit. dlclose of their code: the same, and drain sees a function
             off its books, not out of its last instructions. in_size 0 with a pointer to the stack.
             After NO_MEMORY a fallback writes into out itself, since there is nothing else. */
#ifndef TWILL_TIMEOUT_FALLBACK_H
#define TWILL_TIMEOUT_FALLBACK_H

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

/* ---- one call ---- */

/* Runs fn on a thread of its own, with a copy of the input, and returns at the deadline at the
   latest. TWILL_OK: out holds the function's result. TWILL_FAILED: fn returned something else than
   0; out is untouched. TWILL_TIMEOUT, LOST, BUSY, NO_THREAD, NO_MEMORY: out holds the bytes of
   *fallback, and is untouched if that is NULL. TWILL_INVALID, TOO_BIG: nothing ran. timeout: 0:
   over already, fn is not called; TWILL_FOREVER: no deadline; below 0: TWILL_INVALID. */
TWILL__DECL twill_status twill_call_with_timeout(const void *in, size_t in_size, void *out,
                                                 size_t out_size, twill_map_fn *fn,
                                                 twill_ns timeout, const void *fallback);

/* ---- the object ---- */

typedef struct twill_timeout twill_timeout;

typedef enum twill_timeout_mode {
    TWILL_TIMEOUT_ABANDON = 0, /* a thread for each function; on time always */
    TWILL_TIMEOUT_COOPERATE,   /* in the caller's thread; as punctual as the function's looks */
    TWILL_TIMEOUT_JOIN         /* a thread for each function; waits for its end */
} twill_timeout_mode;

typedef struct twill_fallback {
    twill_map_fn *fn; /* runs in the caller's thread; task->index: 1, 2, ... */
    twill_ns timeout; /* its own limit; 0: what is left of the whole call */
} twill_fallback;

typedef struct twill_timeout_options { /* see OPTIONS above */
    twill_run run;
    twill_ns timeout;
    twill_ns grace;
    twill_timeout_mode mode;
    const twill_fallback *fallbacks;
    size_t fallback_count;
    const void *fallback_value;
    size_t fallback_value_size;
    bool fallback_on_failure;
    void (*free_input)(void *in, const twill_task *task);
    twill_discard_fn *discard;
    size_t max_abandoned;
    size_t max_running;
    size_t idle_threads;
    twill_ns hedge_after;
    size_t max_hedges;
    double hedge_budget;
} twill_timeout_options;

typedef enum twill_timeout_source {
    TWILL_FROM_NOTHING = 0,
    TWILL_FROM_PRIMARY,
    TWILL_FROM_HEDGE,
    TWILL_FROM_FALLBACK,
    TWILL_FROM_VALUE
} twill_timeout_source;

/* "TWILL_FROM_FALLBACK" and so on, for logs; static. "unknown" for other values. */
TWILL__DECL const char *twill_timeout_source_name(twill_timeout_source source);

typedef struct twill_timeout_report {
    twill_status
        primary; /* why the primary did not serve, or TWILL_OK. Set before a fallback runs */
    int code;    /* of the function that decided; 0 when none did */
    twill_timeout_source source; /* where the bytes in out come from */
    unsigned level;              /* the hedge's or the fallback's number, from 1; else 0 */
    bool abandoned;              /* this call has left a function behind */
    twill_ns wall;
} twill_timeout_report;

/* calls == ok + failed + timeouts + cancelled + refused once every call has returned. They count
   how the primary (or a hedge) did, whatever a fallback did after it; failed: FAILED and LOST. */
typedef struct twill_timeout_stats {
    uint64_t calls, ok, failed, timeouts, cancelled, refused;
    uint64_t hedges, hedges_skipped; /* started; not started: no budget, place, memory, thread */
    uint64_t late;                   /* functions that ended after their call had returned */
    uint64_t fallbacks, values;      /* calls that a fallback, or the constant, has served */
    size_t running;                  /* functions, the abandoned ones included */
    size_t abandoned, abandoned_peak;
} twill_timeout_stats;

/* TWILL_OK: *out is the object. Else *out is NULL: INVALID, TOO_BIG, NO_MEMORY. No thread yet. */
TWILL__DECL twill_status twill_timeout_create(twill_timeout **out,
                                              const twill_timeout_options *options);

/* One call. `until` bounds all of it (the timeout bounds the primary); give a task's own `until`
   to nest. report: may be NULL, else filled on every return. Any thread, also inside a function of
   the same object. */
TWILL__DECL twill_status twill_timeout_call(twill_timeout *timeout, const void *in, size_t in_size,
                                            void *out, size_t out_size, twill_map_fn *fn,
                                            twill_until until, twill_timeout_report *report);

/* How many functions run whose call has returned. NULL, here and below: those of
   twill_call_with_timeout, of the whole process. */
TWILL__DECL size_t twill_timeout_abandoned(const twill_timeout *timeout);

/* Waits until there are none: TWILL_OK, and their callbacks have returned. Else TIMEOUT or
   CANCELLED; CLOSED: destroyed meanwhile; DEADLOCK: asked by one of them. *left (may be NULL): how
   many there are then. */
TWILL__DECL twill_status twill_timeout_drain(twill_timeout *timeout, twill_until until,
                                             size_t *left);

/* One moment's figures. NULL, or the object of a parent process: zeroes. */
TWILL__DECL void twill_timeout_get_stats(twill_timeout *timeout, twill_timeout_stats *out);

/* New calls answer TWILL_CLOSED; those inside go on. A second one: CLOSED, and nothing changed. */
TWILL__DECL twill_status twill_timeout_close(twill_timeout *timeout);

/* Closes, joins the idle threads, and returns; the last straggler frees what is left. The calls
   must have returned, but for those made by stragglers. NULL: TWILL_OK. From a callback of its own:
   TWILL_DEADLOCK, and nothing changed. */
TWILL__DECL twill_status twill_timeout_destroy(twill_timeout *timeout);

#ifdef __cplusplus
}
#endif
#endif


#ifdef TWILL_IMPLEMENTATION
#ifndef TWILL__TIMEOUT_FALLBACK_IMPL
#define TWILL__TIMEOUT_FALLBACK_IMPL

/* ---- timeout_fallback/call.h ---- */
/* call.h: one call, from its checks to its report. */
#ifndef TWILL__TIMEOUT_CALL_H
#define TWILL__TIMEOUT_CALL_H

/* ---- timeout_fallback/runner.h ---- */
/* runner.h: a function under a deadline, from its start to the last use of its block; the threads
   that run it. */
#ifndef TWILL__TIMEOUT_RUNNER_H
#define TWILL__TIMEOUT_RUNNER_H

/* ---- timeout_fallback/books.h ---- */
/* books.h: what is known of the functions that run under a deadline for one owner: an object, or
   all calls of twill_call_with_timeout in a process. */
#ifndef TWILL__TIMEOUT_BOOKS_H
#define TWILL__TIMEOUT_BOOKS_H

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

struct twill__timeout_block;

#define TWILL__TIMEOUT_PLACES 64   /* by default */
#define TWILL__HEDGES_SAVED   10.0 /* at most */

/* One lock guards all of it: the books, the owner, the blocks and how their calls stand. So a
   function's end, its place, its thread and the answer to its caller change in one step. */
typedef struct TWILL__VIEW twill__stragglers {
    _Atomic uint32_t lock;
    _Atomic uint32_t generation;         /* of the process that uses it; 0: never used */
    uint32_t running;                    /* functions, those of calls that have returned included */
    uint32_t abandoned;                  /* functions whose call has returned */
    struct twill__timeout_block *blocks; /* not freed yet */
    twill__list waiters;                 /* for abandoned to be 0 */
} twill__stragglers;
_Static_assert(sizeof(twill__stragglers) <= sizeof(((twill__global *)0)->stragglers),
               "the process keeps too little room for its stragglers");

/* The books of the one-call form. In a forked child they begin anew: its parent's threads are not
   there. */
static inline twill__stragglers *twill__process_books(void)
{
    twill__stragglers *books = (twill__stragglers *)(void *)twill__process()->stragglers;
    if (twill__adopt(&books->generation)) {
        atomic_store_explicit(&books->lock, 0, memory_order_relaxed);
        books->running = books->abandoned = 0;
        books->blocks = NULL;
        books->waiters.first = books->waiters.last = NULL;
        twill__adopted(&books->generation);
    }
    return books;
}

static inline bool twill__books_here(const twill__stragglers *books)
{
    /* relaxed: written before the owner was known to others, or by this very thread */
    return atomic_load_explicit(&books->generation, memory_order_relaxed) == twill__generation();
}

#endif

/* ---- a call's block ---- */

typedef struct twill__timeout_runner { /* one start of the function: the primary, or a hedge */
    twill__call head;                  /* first: task.private_ points here */
    struct twill__timeout_block *block;
    void *result; /* written by the function alone, read when it has ended */
    twill_task task;
    _Atomic uint64_t thread; /* that runs it; read only to be compared with one's own */
    /* under the lock */
    bool started, ended;
    bool late; /* its call has returned */
} twill__timeout_runner;

/* All of a call that outlives it: one allocation, with the input, the results and the scratch
   area behind it. Freed by the last of: the call, and each function that was started. */
typedef struct twill__timeout_block {
    /* set before the first function starts */
    twill__stragglers *books;
    struct twill_timeout *owner; /* NULL: the one-call form */
    twill_map_fn *fn;
    const void *in;
    char *scratch; /* for the fallbacks' results; NULL: none */
    twill_until until;
    twill_cancel token; /* has no parent: the caller's token may go before the functions end */
    unsigned runners;
    bool watched;       /* the call has a token */
    twill__thrd thread; /* the one-call form's */
    /* under the lock */
    struct twill__timeout_block *next, *previous;
    unsigned references, started, finished, ended; /* finished: judged; ended: left the books */
    bool told;                                     /* the token fires, or has */
    bool gone;                                     /* the call takes no result any more */
    bool cancelled;
    const twill_cancel *asked[2]; /* the caller's token and the run's; NULL once the call is over */
    twill__timeout_runner *winner;
    twill_status verdict; /* of the last that was judged and has no result to give */
    int code;
    twill__list waiter; /* the caller, or nobody */
    twill__timeout_runner runner[];
} twill__timeout_block;

/* ---- the object ---- */

typedef struct twill__timeout_hand { /* a thread of an object */
    twill__thrd thread;
    struct twill_timeout *owner;
    twill__node node;                            /* waits here while it is idle */
    _Atomic uint64_t number;                     /* read only to be compared with one's own */
    struct twill__timeout_hand *next, *previous; /* of all */
    struct twill__timeout_hand *next_over;
    twill__timeout_runner *runner; /* what to run next; NULL: the end */
    bool busy;                     /* has a function, or is about to */
    bool published;                /* who started it does not touch it any more */
    bool over;                     /* its last access has come */
    bool let_go;                   /* nobody joins it: it frees itself */
} twill__timeout_hand;

typedef struct twill__timeout_visit {   /* a call of an object, on its caller's stack */
    struct twill__timeout_visit *outer; /* of the same thread, of any object */
    const struct twill_timeout *owner;
} twill__timeout_visit;

struct twill_timeout {
    twill__stragglers books;
    twill_timeout_options options; /* what it points to stands behind */
    char name[16];
    /* under the lock */
    size_t references; /* the owner's, and one for each block, hand and drain */
    bool closed, destroyed;
    twill__timeout_hand *hands, *over; /* all; those to be joined */
    twill__list idle;                  /* the last one is the warmest */
    size_t idle_count;
    double hedges_left;
    twill_timeout_stats counts;
};

/* Under the lock; the caller frees the object, after unlocking, when it is true. */
static inline bool twill__timeout_unref(struct twill_timeout *owner)
{
    return --owner->references == 0;
}

/* ---- leaving ---- */

typedef struct twill__timeout_life { /* of the thread that runs a function, on its stack */
    twill__stragglers *books;
    struct twill_timeout *owner;
    twill__timeout_hand *hand; /* NULL: the one-call form's thread, or the caller's */
    twill__timeout_runner *runner;
    int step;
    bool dying;   /* a callback has ended the thread */
    bool started; /* worker_start has been called and has returned 0 */
    int how, code;
    void *worker_state;
    twill_task task; /* for callbacks beside the function */
} twill__timeout_life;
enum {
    TWILL__LIFE_START,
    TWILL__LIFE_RUN,
    TWILL__LIFE_JUDGE,
    TWILL__LIFE_DISCARD,
    TWILL__LIFE_RELEASE,
    TWILL__LIFE_LEAVE,
    TWILL__LIFE_IDLE,
    TWILL__LIFE_STOP,
    TWILL__LIFE_OVER,
    TWILL__LIFE_END
};
enum {
    TWILL__HOW_RETURNED,
    TWILL__HOW_LOST /* ended its thread */,
    TWILL__HOW_UNFIT /* no start */
};

/* Under the lock: a function has ended. Its place is free, and its thread ready for the next. */
static inline void twill__timeout_leave(twill__timeout_life *life, bool late)
{
    twill__stragglers *books = life->books;
    struct twill_timeout *owner = life->owner;
    twill__timeout_hand *hand = life->hand;
    books->running--;
    if (late) {
        books->abandoned--;
        if (owner)
            owner->counts.late++;
        if (!books->abandoned)
            twill__answer_all(&books->waiters, TWILL_OK);
    }
    life->runner = NULL;
    life->step = hand ? TWILL__LIFE_STOP : TWILL__LIFE_END;
    if (!hand)
        return;
    hand->busy = false;
    if (life->dying || life->how == TWILL__HOW_UNFIT || owner->destroyed ||
        owner->idle_count >= owner->options.idle_threads)
        return;
    twill__node_init(&hand->node);
    hand->node.value = hand;
    hand->runner = NULL;
    twill__list_append(&owner->idle, &hand->node);
    owner->idle_count++;
    life->step = TWILL__LIFE_IDLE;
}

/* Under the lock: tells the caller, if it sleeps. Returns the address to wake after unlocking. */
static inline const void *twill__timeout_tell(twill__timeout_block *block)
{
    twill__node *node = block->waiter.first;
    return node && twill__grant(&block->waiter, node) ? &node->word : NULL;
}

static inline void twill__timeout_unlock(twill__stragglers *books, const void *sleeper)
{
    twill__unlock(&books->lock);
    if (sleeper)
        twill__wake(sleeper, 1);
}

/* Under the lock: takes a block out of the books, for whoever was its last owner. */
static inline void twill__timeout_unlink(twill__timeout_block *block)
{
    if (block->next)
        block->next->previous = block->previous;
    if (block->previous)
        block->previous->next = block->next;
    else
        block->books->blocks = block->next;
}

static inline void twill__timeout_free_input(struct twill_timeout *owner, const void *in,
                                             const twill_task *task)
{
    if (owner && owner->options.free_input)
        owner->options.free_input((void *)(uintptr_t)in, task);
}

/* ---- the steps of a life ---- */

static inline void twill__life_start(twill__timeout_life *life)
{
    const twill_run *run = life->owner ? &life->owner->options.run : NULL;
    life->step = TWILL__LIFE_RUN;
    if (!life->hand || !run->worker_start)
        return;
    life->how = TWILL__HOW_UNFIT; /* also if it ends the thread */
    life->step = TWILL__LIFE_JUDGE;
    life->code = run->worker_start(&life->worker_state, &life->runner->task);
    if (life->code != 0)
        return;
    life->started = true;
    life->step = TWILL__LIFE_RUN;
}

static inline void twill__life_run(twill__timeout_life *life)
{
    twill__timeout_runner *runner = life->runner;
    twill_task *task = &runner->task;
    task->worker_state = life->worker_state;
    /* relaxed: only this thread asks for its own number */
    atomic_store_explicit(&runner->thread, twill__thread_number(), memory_order_relaxed);
    life->task = *task;
    life->step = TWILL__LIFE_JUDGE;
    life->how = TWILL__HOW_LOST; /* unless it returns */
    life->code = INT_MIN;
    life->code = runner->block->fn(runner->block->in, runner->result, task);
    life->how = TWILL__HOW_RETURNED;
}

/* Whose result is it? Decided once, under the lock: the call takes it, or `discard` does. */
static inline void twill__life_judge(twill__timeout_life *life)
{
    twill__timeout_runner *runner = life->runner;
    twill__timeout_block *block = runner->block;
    const void *sleeper = NULL;
    bool value = life->how == TWILL__HOW_RETURNED && life->code == 0;
    bool over = !value && twill__expired(block->until.deadline);
    twill__lock(&life->books->lock);
    block->finished++;
    if (value && !block->gone && !block->winner) {
        block->winner = runner;
        block->ended++;
        runner->ended = true;
        block->references--; /* the caller has one */
        twill__timeout_leave(life, false);
        sleeper = twill__timeout_tell(block);
        twill__timeout_unlock(life->books, sleeper);
        return;
    }
    /* a copy that could not start says nothing where another one has run */
    if (!value && (life->how != TWILL__HOW_UNFIT || block->verdict == TWILL_OK)) {
        block->code = life->how == TWILL__HOW_LOST ? 0 : life->code;
        block->verdict = life->how == TWILL__HOW_UNFIT  ? TWILL_NO_THREAD
                         : life->how == TWILL__HOW_LOST ? TWILL_LOST
                         : block->cancelled             ? TWILL_CANCELLED
                         : over || block->told          ? TWILL_TIMEOUT
                                                        : TWILL_FAILED;
    }
    life->step = life->how == TWILL__HOW_UNFIT ? TWILL__LIFE_RELEASE : TWILL__LIFE_DISCARD;
    twill__unlock(&life->books->lock);
}

static inline void twill__life_discard(twill__timeout_life *life)
{
    twill__timeout_runner *runner = life->runner;
    life->step = TWILL__LIFE_RELEASE;
    if (life->owner && life->owner->options.discard)
        life->owner->options.discard((void *)(uintptr_t)runner->block->in, runner->result,
                                     life->code, &runner->task);
}

/* The caller is still there: it frees the block. Or this is the last owner. */
static inline void twill__life_release(twill__timeout_life *life)
{
    twill__timeout_runner *runner = life->runner;
    twill__timeout_block *block = runner->block;
    const void *sleeper;
    twill__lock(&life->books->lock);
    if (block->references > 1) {
        block->references--;
        block->ended++;
        runner->ended = true;
        twill__timeout_leave(life, runner->late);
        sleeper = twill__timeout_tell(block);
        twill__timeout_unlock(life->books, sleeper);
        return;
    }
    twill__timeout_unlink(block);
    life->step = TWILL__LIFE_LEAVE;
    twill__unlock(&life->books->lock);
    life->task = runner->task;
    twill__timeout_free_input(life->owner, block->in, &life->task);
}

/* After free_input: the last owner of a block frees it; only a late one comes here. */
static inline void twill__life_leave(twill__timeout_life *life)
{
    struct twill_timeout *owner = life->owner;
    bool last = false;
    TWILL_FREE(life->runner->block);
    twill__lock(&life->books->lock);
    twill__timeout_leave(life, true);
    if (owner)
        last = twill__timeout_unref(owner);
    TWILL_ASSERT(!last); /* the hand holds it, too */
    twill__unlock(&life->books->lock);
    (void)last;
}

static inline void twill__life_idle(twill__timeout_life *life)
{
    twill__timeout_hand *hand = life->hand;
    twill__await(&hand->node);
    life->runner = hand->runner;
    life->step = life->runner ? TWILL__LIFE_RUN : TWILL__LIFE_STOP;
}

static inline void twill__life_stop(twill__timeout_life *life)
{
    const twill_run *run = &life->owner->options.run;
    life->step = TWILL__LIFE_OVER;
    if (life->started && run->worker_stop) {
        life->task.until = (twill_until){0, NULL};
        life->task.private_ = NULL;
        run->worker_stop(life->worker_state, &life->task);
    }
}

/* The hand's last access to the object: it will be joined, or frees itself. */
static inline void twill__life_over(twill__timeout_life *life)
{
    struct twill_timeout *owner = life->owner;
    twill__timeout_hand *hand = life->hand;
    bool mine, last = false;
    life->step = TWILL__LIFE_END;
    twill__lock(&life->books->lock);
    hand->over = true;
    mine = hand->published && hand->let_go;
    if (mine) {
        last = twill__timeout_unref(owner);
    } else if (hand->published && !owner->destroyed) { /* destroy joins it else */
        hand->next_over = owner->over;
        owner->over = hand;
    }
    twill__unlock(&life->books->lock);
    if (mine)
        TWILL_FREE(hand);
    if (last)
        TWILL_FREE(owner);
}

static void twill__life_quit(void *life);

/* Each step says what comes after it before it calls the user, so that a callback that ends the
   thread ends that step and no other. */
static inline void twill__life_go(twill__timeout_life *life)
{
    TWILL__GUARD_PUSH(twill__life_quit, life);
    while (life->step != TWILL__LIFE_END) { /* exit: each life comes to its end */
        if (!twill__books_here(life->books)) {
            life->step = TWILL__LIFE_END; /* a callback has forked: nothing of it is here */
            break;
        }
        switch (life->step) {
        case TWILL__LIFE_START:
            twill__life_start(life);
            break;
        case TWILL__LIFE_RUN:
            twill__life_run(life);
            break;
        case TWILL__LIFE_JUDGE:
            twill__life_judge(life);
            break;
        case TWILL__LIFE_DISCARD:
            twill__life_discard(life);
            break;
        case TWILL__LIFE_RELEASE:
            twill__life_release(life);
            break;
        case TWILL__LIFE_LEAVE:
            twill__life_leave(life);
            break;
        case TWILL__LIFE_IDLE:
            twill__life_idle(life);
            break;
        case TWILL__LIFE_STOP:
            twill__life_stop(life);
            break;
        default:
            twill__life_over(life);
            break;
        }
    }
    TWILL__GUARD_POP(0);
}

static void twill__life_quit(void *life_)
{
    twill__timeout_life *life = (twill__timeout_life *)life_;
    life->dying = true;
    twill__life_go(life);
}

/* ---- threads ---- */

static inline void twill__life_of(twill__timeout_life *life, twill__timeout_runner *runner,
                                  twill__timeout_hand *hand)
{
    memset(life, 0, sizeof *life);
    life->books = runner->block->books;
    life->owner = runner->block->owner;
    life->runner = runner;
    life->hand = hand;
    life->task = runner->task;
}

static inline void twill__hand_main(void *hand_)
{
    twill__timeout_hand *hand = (twill__timeout_hand *)hand_;
    twill__timeout_life life;
    /* relaxed: only this thread asks for its own number */
    atomic_store_explicit(&hand->number, twill__thread_number(), memory_order_relaxed);
    twill__life_of(&life, hand->runner, hand);
    twill__life_go(&life);
}

static inline void twill__call_main(void *block)
{
    twill__timeout_life life;
    twill__life_of(&life, ((twill__timeout_block *)block)->runner, NULL);
    twill__life_go(&life);
}

/* Under the lock: a hand that is not in the books any more. */
static inline void twill__hand_unlink(struct twill_timeout *owner, twill__timeout_hand *hand)
{
    if (hand->next)
        hand->next->previous = hand->previous;
    if (hand->previous)
        hand->previous->next = hand->next;
    else
        owner->hands = hand->next;
}

/* Under the lock: those to be joined, as a list by next_over. */
static inline twill__timeout_hand *twill__hands_over(struct twill_timeout *owner)
{
    twill__timeout_hand *list = owner->over;
    for (twill__timeout_hand *hand = list; hand; hand = hand->next_over) {
        twill__hand_unlink(owner, hand);
        owner->references--; /* who asks has one */
    }
    owner->over = NULL;
    return list;
}

static inline void twill__hands_join(twill__timeout_hand *list)
{
    while (list) {
        twill__timeout_hand *hand = list;
        list = hand->next_over;
        twill__thread_join(&hand->thread);
        TWILL_FREE(hand);
    }
}

/* A new thread for a function that is in the books already. */
static inline twill_status twill__timeout_hire(struct twill_timeout *owner,
                                               twill__timeout_runner *runner)
{
    twill__timeout_hand *hand = (twill__timeout_hand *)TWILL_MALLOC(sizeof *hand);
    bool started, mine = false;
    if (!hand)
        return TWILL_NO_MEMORY;
    memset(hand, 0, sizeof *hand);
    hand->thread.fn = twill__hand_main;
    hand->thread.arg = hand;
    hand->thread.cpu = UINT_MAX;
    hand->thread.stack_size = owner->options.run.stack_size;
    twill__thread_name(&hand->thread, owner->name);
    hand->owner = owner;
    hand->runner = runner;
    hand->busy = true;
    twill__lock(&owner->books.lock);
    hand->let_go = owner->destroyed; /* a straggler has called: destroy has been here */
    if (!hand->let_go) {
        hand->next = owner->hands;
        if (hand->next)
            hand->next->previous = hand;
        owner->hands = hand;
    }
    owner->references++;
    twill__unlock(&owner->books.lock);
    started = twill__thread_start(&hand->thread);
    twill__lock(&owner->books.lock);
    hand->published = true;
    if (!started || (hand->let_go && hand->over)) {
        if (!hand->let_go)
            twill__hand_unlink(owner, hand);
        owner->references--; /* who calls has one */
        mine = true;
    }
    if (started && hand->let_go) { /* destroyed, perhaps meanwhile */
        twill__thread_let_go(&hand->thread);
    } else if (started && hand->over) {
        hand->next_over = owner->over;
        owner->over = hand;
    }
    twill__unlock(&owner->books.lock);
    if (mine)
        TWILL_FREE(hand);
    return started ? TWILL_OK : TWILL_NO_THREAD;
}

/* Starts runner k of a block, whose place is taken already. Else the place is free again. */
static inline twill_status twill__timeout_start(twill__timeout_block *block, unsigned k)
{
    struct twill_timeout *owner = block->owner;
    twill__timeout_runner *runner = &block->runner[k];
    twill__timeout_hand *over = NULL;
    twill_status status;
    twill__lock(&block->books->lock);
    block->references++;
    block->started++;
    runner->started = true;
    if (owner)
        over = twill__hands_over(owner);
    if (owner && owner->idle.last) {
        twill__node *node = owner->idle.last;
        twill__timeout_hand *hand = (twill__timeout_hand *)node->value;
        owner->idle_count--;
        hand->runner = runner;
        hand->busy = true;
        (void)twill__grant(&owner->idle, node); /* an idle hand never leaves */
        twill__timeout_unlock(block->books, &node->word);
        twill__hands_join(over);
        return TWILL_OK;
    }
    twill__unlock(&block->books->lock);
    twill__hands_join(over);
    if (owner) {
        status = twill__timeout_hire(owner, runner);
    } else {
        block->thread.fn = twill__call_main;
        block->thread.arg = block;
        block->thread.cpu = UINT_MAX;
        status = twill__thread_start(&block->thread) ? TWILL_OK : TWILL_NO_THREAD;
    }
    if (status == TWILL_OK)
        return TWILL_OK;
    twill__lock(&block->books->lock);
    block->references--;
    block->started--;
    runner->started = false;
    block->books->running--;
    twill__unlock(&block->books->lock);
    return status;
}

#endif

typedef struct twill__timeout_call { /* on the caller's stack */
    twill__call head;                /* first: private_ of a fallback's task points here */
    twill__timeout_visit visit;
    twill__stragglers *books;
    struct twill_timeout *owner; /* NULL: the one-call form */
    const twill_timeout_options *options;
    twill__timeout_block *block;
    const void *in;
    size_t in_size;
    void *out;
    size_t out_size;
    twill_map_fn *fn;
    const void *value; /* the last resort; NULL: none */
    unsigned runners;
    twill_until until; /* of the whole call; its token is the caller's, or `both` */
    twill_ns deadline; /* of the primary */
    twill_ns begun;
    twill_cancel both; /* fires when one of two tokens does */
    twill_cancel_hook on_run, on_cancel;
    twill_cancel *run_token; /* on_run hangs there; NULL: there are not two */
    int step;
    twill_timeout_report *report, own_report;
    twill_task task; /* of callbacks in the caller's thread */
} twill__timeout_call;
enum { TWILL__CALL_OPEN, TWILL__CALL_FREE, TWILL__CALL_OVER };

/* ---- the caller's token ---- */

/* The call ends now: by a hook of the caller's token, or by a look at it. */
static inline void twill__timeout_cancel(twill__timeout_block *block, int reason)
{
    const void *sleeper = NULL;
    twill__lock(&block->books->lock);
    if (!block->gone) {
        block->cancelled = block->told = true;
        sleeper = twill__timeout_tell(block);
    }
    twill__timeout_unlock(block->books, sleeper);
    twill_cancel_fire(&block->token, reason);
}

static void twill__timeout_on_cancel(int reason, const twill_task *task)
{
    twill__timeout_cancel((twill__timeout_block *)task->context, reason);
}

static void twill__timeout_on_run(int reason, const twill_task *task)
{
    twill_cancel_fire((twill_cancel *)task->context, reason);
}

/* A function looks at its token, which no request (of a signal handler, say) has reached: asks the
   caller's and the run's, while the caller is there, and passes on what they say. */
static bool twill__timeout_looks(const twill_task *task)
{
    twill__timeout_block *block = ((twill__timeout_runner *)task->private_)->block;
    int reason = 0;
    if (!block->watched)
        return false;
    twill__lock(&block->books->lock);
    for (unsigned k = 0; k < 2 && !reason; k++)
        reason = twill_cancel_reason(block->asked[k]);
    twill__unlock(&block->books->lock);
    if (reason)
        twill__timeout_cancel(block, reason);
    return reason != 0;
}

/* In the caller's thread: is the call cancelled? A request on the run's token has not reached the
   token of both. */
static inline bool twill__timeout_cancelled(twill__timeout_call *call)
{
    int reason = twill_cancel_reason(call->run_token);
    if (reason)
        twill_cancel_fire(&call->both, reason);
    return twill_cancel_fired(call->until.cancel);
}

/* So does a fallback look. */
static bool twill__timeout_step_looks(const twill_task *task)
{
    return twill__timeout_cancelled((twill__timeout_call *)task->private_);
}

static inline void twill__timeout_hook(twill__timeout_call *call)
{
    twill_cancel *run = call->options->run.until.cancel, *own = call->until.cancel;
    if (run && own && run != own) {
        twill_cancel_init(&call->both, own);
        call->on_run.fn = twill__timeout_on_run;
        call->on_run.context = &call->both;
        call->run_token = run;
        call->until.cancel = &call->both;
        twill_cancel_add_hook(run, &call->on_run);
    } else if (!own) {
        call->until.cancel = run;
    }
    if (call->block && call->until.cancel) {
        call->block->watched = true;
        call->block->asked[0] = call->until.cancel;
        call->block->asked[1] = call->run_token;
        call->on_cancel.fn = twill__timeout_on_cancel;
        call->on_cancel.context = call->block;
        twill_cancel_add_hook(call->until.cancel, &call->on_cancel);
    }
}

static inline void twill__timeout_unhook(twill__timeout_call *call)
{
    if (call->block && call->block->watched) {
        twill_cancel_remove_hook(call->until.cancel, &call->on_cancel);
        twill__lock(&call->books->lock);
        for (unsigned k = 0; k < 2; k++) /* a function may be looking at them */
            call->block->asked[k] = NULL;
        twill__unlock(&call->books->lock);
    }
    if (call->run_token) {
        twill_cancel_remove_hook(call->run_token, &call->on_run);
        twill_cancel_detach(&call->both);
    }
}

/* ---- the block ---- */

static inline bool twill__timeout_add(size_t *total, size_t count, size_t size)
{
    if (size && count > (SIZE_MAX / 2 - 16) / size)
        return false;
    size = (count * size + 15) / 16 * 16;
    if (*total > SIZE_MAX / 2 - size)
        return false;
    *total += size;
    return true;
}

/* Its bytes; 0: more than there can be. */
static inline size_t twill__timeout_bytes(const twill__timeout_call *call)
{
    size_t bytes = 0, slot = 0, areas = call->runners + (call->options->fallback_count != 0);
    size_t heads = offsetof(twill__timeout_block, runner);
    if (!twill__timeout_add(&slot, 1, call->out_size) ||
        call->runners > (SIZE_MAX / 2 - heads) / sizeof(twill__timeout_runner) ||
        !twill__timeout_add(&bytes, 1, heads + call->runners * sizeof(twill__timeout_runner)) ||
        !twill__timeout_add(&bytes, 1, call->in_size) || !twill__timeout_add(&bytes, areas, slot))
        return 0;
    return bytes;
}

static inline void twill__timeout_block_make(twill__timeout_call *call, size_t bytes)
{
    static const twill__call_table table = {twill__timeout_looks, NULL, NULL, NULL, NULL};
    twill__timeout_block *block = (twill__timeout_block *)TWILL_MALLOC(bytes);
    size_t slot = (call->out_size + 15) / 16 * 16;
    char *at;
    call->block = block;
    if (!block)
        return;
    memset(block, 0, bytes);
    at = (char *)block + (offsetof(twill__timeout_block, runner) +
                          call->runners * sizeof(twill__timeout_runner) + 15) /
                             16 * 16;
    block->books = call->books;
    block->owner = call->owner;
    block->fn = call->fn;
    block->in = call->in;
    if (call->in_size)
        block->in = memcpy(at, call->in, call->in_size);
    at += (call->in_size + 15) / 16 * 16;
    twill_cancel_init(&block->token, NULL);
    block->until.deadline = call->deadline;
    block->until.cancel = &block->token;
    block->runners = call->runners;
    block->references = 1;
    for (unsigned k = 0; k < call->runners; k++, at += slot) {
        twill__timeout_runner *runner = &block->runner[k];
        runner->head.table = &table;
        runner->block = block;
        runner->result = at;
        runner->task = (twill_task){
            k, call->options->run.context, k, call->runners, NULL, block->until, runner};
    }
    block->scratch = call->options->fallback_count ? at : NULL;
}

/* ---- in and out of the books ---- */

/* Under the lock: is there no place for one function more? */
static inline bool twill__timeout_full(const twill__timeout_call *call)
{
    const twill_timeout_options *options = call->options;
    size_t running = call->books->running;
    return (options->mode == TWILL_TIMEOUT_ABANDON && running >= options->max_abandoned) ||
           (options->max_running && running >= options->max_running);
}

/* Under the lock. Also when a copy gives back what it took: others have saved meanwhile. */
static inline void twill__timeout_save_hedges(struct twill_timeout *owner, double copies)
{
    owner->hedges_left += copies;
    if (owner->hedges_left > TWILL__HEDGES_SAVED)
        owner->hedges_left = TWILL__HEDGES_SAVED;
}

/* Takes a place, or says why not. */
static inline twill_status twill__timeout_admit(twill__timeout_call *call)
{
    twill__timeout_block *block = call->block;
    struct twill_timeout *owner = call->owner;
    bool over = twill__expired(call->deadline), cancelled;
    twill_status status = TWILL_OK;
    cancelled = !block && twill__timeout_cancelled(call);
    if (owner) {
        call->visit.owner = owner;
        call->visit.outer = (twill__timeout_visit *)twill__thread()->visit;
        twill__thread()->visit = &call->visit;
    }
    twill__lock(&call->books->lock);
    if (owner) {
        owner->counts.calls++;
        if (owner->options.hedge_after)
            twill__timeout_save_hedges(owner, owner->options.hedge_budget);
    }
    if (owner && owner->closed)
        status = TWILL_CLOSED;
    else if (cancelled || (block && block->cancelled))
        status = TWILL_CANCELLED;
    else if (over)
        status = TWILL_TIMEOUT;
    else if (twill__timeout_full(call))
        status = TWILL_BUSY;
    else if (!block)
        status = TWILL_NO_MEMORY;
    else
        call->books->running++;
    if (block) {
        block->next = call->books->blocks;
        if (block->next)
            block->next->previous = block;
        call->books->blocks = block;
        if (owner)
            owner->references++;
    }
    twill__unlock(&call->books->lock);
    return status;
}

static inline void twill__timeout_count(struct twill_timeout *owner,
                                        const twill_timeout_report *report)
{
    twill_timeout_stats *counts = &owner->counts;
    switch ((int)report->primary) {
    case TWILL_OK:
        counts->ok++;
        break;
    case TWILL_FAILED:
    case TWILL_LOST:
        counts->failed++;
        break;
    case TWILL_TIMEOUT:
        counts->timeouts++;
        break;
    case TWILL_CANCELLED:
        counts->cancelled++;
        break;
    default:
        counts->refused++;
        break;
    }
    counts->fallbacks += report->source == TWILL_FROM_FALLBACK;
    counts->values += report->source == TWILL_FROM_VALUE;
}

/* The end of a call, also of one whose thread a callback has ended. */
static void twill__timeout_end(void *call_)
{
    twill__timeout_call *call = (twill__timeout_call *)call_;
    twill__timeout_block *block = call->block;
    struct twill_timeout *owner = call->owner;
    bool mine = true; /* the input is this thread's to free */
    if (call->step == TWILL__CALL_OPEN && twill__books_here(call->books)) {
        call->step = TWILL__CALL_FREE;
        twill__timeout_unhook(call);
        twill__lock(&call->books->lock);
        if (owner)
            twill__timeout_count(owner, call->report);
        if (block) {
            mine = --block->references == 0;
            if (mine)
                twill__timeout_unlink(block);
            if (mine && owner)
                owner->references--; /* whoever calls has another */
        }
        twill__unlock(&call->books->lock);
        if (mine)
            twill__timeout_free_input(owner, block ? block->in : call->in, &call->task);
        else
            call->step = TWILL__CALL_OVER;
    }
    if (call->visit.owner) /* free_input has returned; also in a child, which may destroy now */
        twill__thread()->visit = call->visit.outer;
    if (call->step == TWILL__CALL_FREE && block)
        TWILL_FREE(block);
    call->step = TWILL__CALL_OVER;
}

/* ---- waiting for the function ---- */

/* Under the lock, which it gives back meanwhile: until somebody tells, or the instant `until`. */
static inline bool twill__timeout_told(twill__timeout_block *block, twill_ns until)
{
    twill__node node;
    twill_status status;
    twill__node_init(&node);
    twill__list_append(&block->waiter, &node);
    twill__unlock(&block->books->lock);
    status = twill__wait(&node, (twill_until){until, NULL});
    twill__lock(&block->books->lock);
    if (status != TWILL_OK)
        twill__list_remove(&block->waiter, &node);
    return status == TWILL_OK;
}

/* Under the lock, which it gives back meanwhile. */
static inline void twill__timeout_fire(twill__timeout_block *block, int reason)
{
    block->told = true;
    twill__unlock(&block->books->lock);
    twill_cancel_fire(&block->token, reason);
    twill__lock(&block->books->lock);
}

/* Under the lock, which it gives back meanwhile: copy k of the function, if there may be one. */
static inline void twill__timeout_hedge(twill__timeout_call *call, unsigned k)
{
    struct twill_timeout *owner = call->owner;
    bool start = owner->hedges_left >= 1 && !twill__timeout_full(call);
    if (start) {
        owner->hedges_left -= 1;
        call->books->running++;
        twill__unlock(&call->books->lock);
        start = twill__timeout_start(call->block, k) == TWILL_OK;
        twill__lock(&call->books->lock);
        if (!start)
            twill__timeout_save_hedges(owner, 1);
    }
    if (start)
        owner->counts.hedges++;
    else
        owner->counts.hedges_skipped++;
}

/* Under the lock, which it gives back while it waits. Returns when the call is decided: a result,
   every function ended, the token, the deadline with its grace; in mode JOIN, every function
   ended. */
static inline void twill__timeout_attend(twill__timeout_call *call)
{
    const twill_timeout_options *options = call->options;
    twill__timeout_block *block = call->block;
    bool join = options->mode == TWILL_TIMEOUT_JOIN, late = false;
    unsigned next = 1;
    twill_ns hedge_at = options->hedge_after ? twill_within(options->hedge_after).deadline : 0;
    for (;;) { /* exit: every function ends, or the deadline passes */
        bool decided = block->winner || block->cancelled;
        twill_ns until;
        if (block->ended == block->started || (!join && (decided || (late && !options->grace))))
            return;
        if (join && decided && !block->told) {
            twill__timeout_fire(block, TWILL_CANCELLED);
            continue;
        }
        if (next == block->runners || block->finished || decided || late)
            hedge_at = 0;
        until = late ? (join ? 0 : twill__instant_after(call->deadline, options->grace))
                     : twill__nearer(decided ? 0 : call->deadline, hedge_at);
        if (twill__timeout_told(block, until))
            continue;
        if (late)
            return;
        if (hedge_at && !twill__expired(call->deadline)) {
            if (!block->finished && !block->cancelled)
                twill__timeout_hedge(call, next++);
            hedge_at = twill_within(options->hedge_after).deadline;
        } else {
            late = true;
            if (!block->winner && !block->cancelled)
                twill__timeout_fire(block, TWILL_TIMEOUT);
        }
    }
}

/* ---- the primary ---- */

/* Under the lock: the call takes no result after this; what still runs is abandoned. Returns
   whether anything is. */
static inline bool twill__timeout_go(twill__timeout_call *call)
{
    twill__timeout_block *block = call->block;
    twill__stragglers *books = call->books;
    block->gone = true;
    for (unsigned k = 0; k < block->runners; k++) {
        twill__timeout_runner *runner = &block->runner[k];
        if (runner->started && !runner->ended) {
            runner->late = true;
            books->abandoned++;
        }
    }
    if (call->owner && books->abandoned > call->owner->counts.abandoned_peak)
        call->owner->counts.abandoned_peak = books->abandoned;
    return block->ended < block->started;
}

/* Under the lock, and a function was started: how it did, and who won. */
static inline twill_status twill__timeout_verdict(const twill__timeout_call *call)
{
    const twill__timeout_block *block = call->block;
    if (block->winner)
        return TWILL_OK;
    if (block->finished == block->started)
        return block->verdict;
    return block->cancelled ? TWILL_CANCELLED : TWILL_TIMEOUT;
}

/* Runs the function, whose place is taken, and takes its result. */
static inline twill_status twill__timeout_primary(twill__timeout_call *call)
{
    twill__timeout_block *block = call->block;
    twill_timeout_report *report = call->report;
    twill__timeout_runner *winner;
    twill_status status;
    bool alone; /* a thread of this call alone, to be joined */
    if (call->options->mode == TWILL_TIMEOUT_COOPERATE) {
        twill__timeout_life life;
        twill__lock(&call->books->lock);
        block->references++;
        block->started++;
        block->runner->started = true;
        twill__unlock(&call->books->lock);
        report->primary = TWILL_LOST; /* unless it returns */
        twill__life_of(&life, block->runner, NULL);
        twill__life_go(&life);
        if (!twill__books_here(call->books))
            return TWILL_FORKED;
    } else {
        status = twill__timeout_start(block, 0);
        if (status != TWILL_OK)
            return status;
    }
    twill__lock(&call->books->lock);
    twill__timeout_attend(call);
    report->abandoned = twill__timeout_go(call);
    winner = block->winner;
    status = twill__timeout_verdict(call);
    if (status == TWILL_FAILED || status == TWILL_NO_THREAD)
        report->code = block->code;
    if (report->abandoned && !block->told)
        twill__timeout_fire(block, TWILL_CANCELLED);
    twill__unlock(&call->books->lock);
    alone = !call->owner;
    if (alone && report->abandoned)
        twill__thread_let_go(&block->thread);
    else if (alone)
        twill__thread_join(&block->thread);
    if (status == TWILL_OK) {
        unsigned k = (unsigned)(winner - block->runner);
        if (call->out_size)
            memcpy(call->out, winner->result, call->out_size);
        report->source = k ? TWILL_FROM_HEDGE : TWILL_FROM_PRIMARY;
        report->level = k;
    }
    return status;
}

/* ---- what serves instead ---- */

/* One fallback: true: its result is in out. */
static inline bool twill__timeout_step(twill__timeout_call *call, size_t k)
{
    const twill_fallback *step = &call->options->fallbacks[k];
    const void *in = call->block ? call->block->in : call->in;
    void *result = call->block ? (void *)call->block->scratch : call->out;
    twill_task task = call->task;
    twill_ns own = step->timeout ? twill_within(step->timeout).deadline : 0;
    int code;
    task.index = k + 1;
    task.private_ = call;
    task.until.deadline = twill__nearer(call->until.deadline, own);
    task.until.cancel = call->until.cancel;
    if (call->out_size)
        memset(result, 0, call->out_size);
    code = step->fn(in, result, &task);
    if (!twill__books_here(call->books)) /* it has forked, and this is the child */
        return false;
    if (code != 0 || twill__expired(own)) {
        if (call->options->discard)
            call->options->discard((void *)(uintptr_t)in, result, code, &task);
        return false;
    }
    if (call->out_size && result != call->out)
        memcpy(call->out, result, call->out_size);
    return true;
}

/* The chain, then the constant. Returns the call's status. */
static inline twill_status twill__timeout_fall_back(twill__timeout_call *call, twill_status status)
{
    twill_timeout_report *report = call->report;
    for (size_t k = 0; k < call->options->fallback_count; k++) {
        if (twill__timeout_cancelled(call) || twill__expired(call->until.deadline))
            break;
        if (twill__timeout_step(call, k)) {
            report->source = TWILL_FROM_FALLBACK;
            report->level = (unsigned)(k + 1);
            report->code = 0;
            return TWILL_OK;
        }
        if (!twill__books_here(call->books))
            return TWILL_FORKED;
    }
    if (twill__timeout_cancelled(call))
        return TWILL_CANCELLED; /* nobody wants the value */
    if (call->value) {
        if (call->out_size)
            memcpy(call->out, call->value, call->out_size);
        report->source = TWILL_FROM_VALUE;
    }
    return status;
}

/* ---- all of it ---- */

static inline bool twill__timeout_falls_back(const twill__timeout_call *call, twill_status status)
{
    return status != TWILL_OK && status != TWILL_CANCELLED && status != TWILL_CLOSED &&
           status != TWILL_FORKED && (status != TWILL_FAILED || call->options->fallback_on_failure);
}

static inline twill_status twill__timeout_do(twill__timeout_call *call)
{
    twill_status status;
    twill__timeout_hook(call);
    status = twill__timeout_admit(call);
    if (status == TWILL_OK)
        status = twill__timeout_primary(call);
    call->report->primary = status;
    if (twill__timeout_falls_back(call, status))
        status = twill__timeout_fall_back(call, status);
    return status;
}

/* The call is set up but for what follows from it; `timeout` bounds the primary. */
static inline twill_status twill__timeout_run(twill__timeout_call *call, twill_ns timeout)
{
    static const twill__call_table table = {twill__timeout_step_looks, NULL, NULL, NULL, NULL};
    const twill_run *run = &call->options->run;
    twill_status status = TWILL_INVALID;
    size_t bytes;
    call->head.table = &table;
    if (!call->fn || (call->in_size && !call->in) || (call->out_size && !call->out))
        return TWILL_INVALID;
    call->runners = 1 + (call->options->hedge_after ? (unsigned)call->options->max_hedges : 0);
    bytes = twill__timeout_bytes(call);
    if (!bytes)
        return TWILL_TOO_BIG;
    call->until.deadline = twill__nearer(call->until.deadline, run->until.deadline);
    call->deadline = twill__nearer(call->until.deadline, twill_within(timeout).deadline);
    call->task = (twill_task){SIZE_MAX, run->context, UINT_MAX, 0, NULL, {0, NULL}, NULL};
    twill__timeout_block_make(call, bytes);
    TWILL__GUARD_PUSH(twill__timeout_end, call);
    status = twill__timeout_do(call);
    twill__timeout_end(call);
    TWILL__GUARD_POP(0);
    return status;
}

#endif

TWILL__DEFINE const char *twill_timeout_source_name(twill_timeout_source source)
{
    static const char *const names[] = {"TWILL_FROM_NOTHING", "TWILL_FROM_PRIMARY",
                                        "TWILL_FROM_HEDGE", "TWILL_FROM_FALLBACK",
                                        "TWILL_FROM_VALUE"};
    return (unsigned)source < sizeof names / sizeof names[0] ? names[source] : "unknown";
}

/* ---- create ---- */

static inline bool twill__timeout_run_valid(const twill_run *run, twill_timeout_mode mode)
{
    if (run->pool || run->workers || run->strict || run->on_error || run->max_errors ||
        run->errors || run->errors_capacity || run->statuses || run->codes || run->cpus ||
        run->cpu_count || run->report)
        return false;
    return mode != TWILL_TIMEOUT_COOPERATE ||
           !(run->worker_start || run->worker_stop || run->stack_size || run->name);
}

static inline bool twill__timeout_options_valid(const twill_timeout_options *options)
{
    if (!twill__timeout_run_valid(&options->run, options->mode) || options->timeout < 0 ||
        options->grace < 0 || (unsigned)options->mode > TWILL_TIMEOUT_JOIN ||
        !options->fallbacks != !options->fallback_count ||
        !options->fallback_value != !options->fallback_value_size || options->hedge_after < 0 ||
        !(options->hedge_budget >= 0 && options->hedge_budget <= 1) /* NaN, too */ ||
        (options->hedge_after && options->mode == TWILL_TIMEOUT_COOPERATE))
        return false;
    for (size_t k = 0; k < options->fallback_count; k++)
        if (!options->fallbacks[k].fn || options->fallbacks[k].timeout < 0)
            return false;
    return true;
}

static inline void twill__timeout_defaults(twill_timeout_options *options)
{
    if (!options->timeout)
        options->timeout = TWILL_SEC(5);
    if (!options->max_abandoned)
        options->max_abandoned = TWILL__TIMEOUT_PLACES;
    if (!options->idle_threads)
        options->idle_threads = 4;
    if (!options->max_hedges)
        options->max_hedges = 1;
    if (!(options->hedge_budget > 0))
        options->hedge_budget = 0.05;
}

TWILL__DEFINE twill_status twill_timeout_create(twill_timeout **out,
                                                const twill_timeout_options *options)
{
    static const twill_timeout_options none;
    size_t bytes = 0, chain = 0;
    twill_timeout *made;
    if (!out)
        return TWILL_INVALID;
    *out = NULL;
    if (!options)
        options = &none;
    if (!twill__timeout_options_valid(options))
        return TWILL_INVALID;
    /* the user's chain is in memory: this cannot be too much */
    (void)twill__timeout_add(&bytes, 1, sizeof *made);
    (void)twill__timeout_add(&chain, options->fallback_count, sizeof(twill_fallback));
    (void)twill__timeout_add(&bytes, 1, chain);
    if (options->max_hedges > UINT_MAX - 1 ||
        !twill__timeout_add(&bytes, 1, options->fallback_value_size))
        return TWILL_TOO_BIG;
    made = (twill_timeout *)TWILL_MALLOC(bytes);
    if (!made)
        return TWILL_NO_MEMORY;
    memset(made, 0, sizeof *made);
    made->options = *options;
    twill__timeout_defaults(&made->options);
    if (options->fallback_count)
        made->options.fallbacks = (const twill_fallback *)memcpy(
            (char *)made + (sizeof *made + 15) / 16 * 16, options->fallbacks,
            options->fallback_count * sizeof(twill_fallback));
    if (options->fallback_value)
        made->options.fallback_value =
            memcpy((char *)made + (sizeof *made + 15) / 16 * 16 + chain, options->fallback_value,
                   options->fallback_value_size);
    for (size_t i = 0; options->run.name && options->run.name[i] && i < sizeof made->name - 1; i++)
        made->name[i] = options->run.name[i];
    /* nobody else knows the object yet */
    atomic_store_explicit(&made->books.lock, 0, memory_order_relaxed);
    atomic_store_explicit(&made->books.generation, twill__generation(), memory_order_relaxed);
    made->references = 1;
    made->hedges_left = 1;
    *out = made;
    return TWILL_OK;
}

/* ---- call ---- */

TWILL__DEFINE twill_status twill_timeout_call(twill_timeout *timeout, const void *in,
                                              size_t in_size, void *out, size_t out_size,
                                              twill_map_fn *fn, twill_until until,
                                              twill_timeout_report *report)
{
    twill__timeout_call call;
    twill_ns begun = twill__clock_now();
    twill_status status = TWILL_INVALID;
    memset(&call, 0, sizeof call);
    call.report = report ? report : &call.own_report;
    memset(call.report, 0, sizeof *call.report);
    call.report->primary = TWILL_INVALID;
    if (timeout && !twill__books_here(&timeout->books)) {
        status = call.report->primary = TWILL_FORKED;
    } else if (timeout && (!timeout->options.fallback_value ||
                           timeout->options.fallback_value_size == out_size)) {
        call.books = &timeout->books;
        call.owner = timeout;
        call.options = &timeout->options;
        call.value = timeout->options.fallback_value;
        call.in = in;
        call.in_size = in_size;
        call.out = out;
        call.out_size = out_size;
        call.fn = fn;
        call.until = until;
        status = twill__timeout_run(&call, timeout->options.timeout);
        if (status == TWILL_TOO_BIG)
            call.report->primary = status;
    }
    call.report->wall = twill__clock_now() - begun;
    return status;
}

TWILL__DEFINE twill_status twill_call_with_timeout(const void *in, size_t in_size, void *out,
                                                   size_t out_size, twill_map_fn *fn,
                                                   twill_ns timeout, const void *fallback)
{
    static const twill_timeout_options options = {.max_abandoned = TWILL__TIMEOUT_PLACES};
    twill__timeout_call call;
    if (timeout < 0)
        return TWILL_INVALID;
    memset(&call, 0, sizeof call);
    call.report = &call.own_report;
    call.books = twill__process_books();
    call.options = &options;
    call.value = fallback;
    call.in = in;
    call.in_size = in_size;
    call.out = out;
    call.out_size = out_size;
    call.fn = fn;
    return twill__timeout_run(&call, timeout);
}

/* ---- stragglers ---- */

/* Is this thread in a call of the object? */
static inline bool twill__timeout_calls(const twill_timeout *timeout)
{
    const twill__timeout_visit *visit = (const twill__timeout_visit *)twill__thread()->visit;
    while (visit && visit->owner != timeout)
        visit = visit->outer;
    return visit != NULL;
}

/* Under the lock: does this thread run a function, or a callback, of these books? */
static inline bool twill__timeout_inside(const twill__stragglers *books,
                                         const struct twill_timeout *owner)
{
    uint64_t me = twill__thread_number();
    /* relaxed: only one's own number matters, and one has written it oneself */
    for (const twill__timeout_hand *hand = owner ? owner->hands : NULL; hand; hand = hand->next)
        if (atomic_load_explicit(&hand->number, memory_order_relaxed) == me)
            return true;
    for (const twill__timeout_block *block = owner ? NULL : books->blocks; block;
         block = block->next)
        if (atomic_load_explicit(&block->runner->thread, memory_order_relaxed) == me)
            return true;
    return false;
}

static inline twill__stragglers *twill__timeout_books(const twill_timeout *timeout)
{
    return timeout ? (twill__stragglers *)(uintptr_t)&timeout->books : twill__process_books();
}

TWILL__DEFINE size_t twill_timeout_abandoned(const twill_timeout *timeout)
{
    twill__stragglers *books = twill__timeout_books(timeout);
    size_t abandoned;
    if (!twill__books_here(books))
        return 0;
    twill__lock(&books->lock);
    abandoned = books->abandoned;
    twill__unlock(&books->lock);
    return abandoned;
}

TWILL__DEFINE twill_status twill_timeout_drain(twill_timeout *timeout, twill_until until,
                                               size_t *left)
{
    twill__stragglers *books = twill__timeout_books(timeout);
    twill_status status = TWILL_OK;
    twill__node node;
    bool last = false;
    size_t abandoned = 0;
    if (left)
        *left = 0;
    if (!twill__books_here(books))
        return TWILL_FORKED;
    twill__lock(&books->lock);
    if (timeout && timeout->destroyed) { /* by one that was left behind: it would be waited for */
        status = TWILL_CLOSED;
        abandoned = books->abandoned;
    } else if (books->abandoned && twill__timeout_inside(books, timeout)) {
        status = TWILL_DEADLOCK;
        abandoned = books->abandoned;
    } else if (books->abandoned) {
        twill__node_init(&node);
        twill__list_append(&books->waiters, &node);
        if (timeout)
            timeout->references++;
        twill__unlock(&books->lock);
        status = twill__wait(&node, until);
        twill__lock(&books->lock);
        if (status != TWILL_OK)
            twill__list_remove(&books->waiters, &node);
        else
            status = (twill_status)node.answer;
        if (status != TWILL_OK)
            abandoned = books->abandoned;
        if (timeout)
            last = twill__timeout_unref(timeout);
    }
    twill__unlock(&books->lock);
    if (last)
        TWILL_FREE(timeout);
    if (left)
        *left = abandoned;
    return status;
}

TWILL__DEFINE void twill_timeout_get_stats(twill_timeout *timeout, twill_timeout_stats *out)
{
    if (!out)
        return;
    memset(out, 0, sizeof *out);
    if (!timeout || !twill__books_here(&timeout->books))
        return;
    twill__lock(&timeout->books.lock);
    *out = timeout->counts;
    out->running = timeout->books.running;
    out->abandoned = timeout->books.abandoned;
    twill__unlock(&timeout->books.lock);
}

/* ---- close, destroy ---- */

TWILL__DEFINE twill_status twill_timeout_close(twill_timeout *timeout)
{
    bool closed;
    if (!timeout)
        return TWILL_INVALID;
    if (!twill__books_here(&timeout->books))
        return TWILL_FORKED;
    twill__lock(&timeout->books.lock);
    closed = timeout->closed;
    timeout->closed = true;
    twill__unlock(&timeout->books.lock);
    return closed ? TWILL_CLOSED : TWILL_OK;
}

/* In a forked child: its parent's threads are not here, and whoever held the lock is not, either:
   then the lists may be torn, and only the object itself goes. */
static inline twill_status twill__timeout_bury(twill_timeout *timeout)
{
    twill__timeout_hand *hand;
    twill__timeout_block *block;
    if (twill__timeout_calls(timeout))
        return TWILL_DEADLOCK;
    /* relaxed: one thread */
    if (!(atomic_load_explicit(&timeout->books.lock, memory_order_relaxed) & 1)) {
        if (twill__timeout_inside(&timeout->books, timeout))
            return TWILL_DEADLOCK;
        while ((hand = timeout->hands)) {
            timeout->hands = hand->next;
            TWILL_FREE(hand);
        }
        while ((block = timeout->books.blocks)) {
            timeout->books.blocks = block->next;
            TWILL_FREE(block);
        }
    }
    TWILL_FREE(timeout);
    return TWILL_OK;
}

/* Under the lock: busy threads are let go, and those that a straggler's call is just starting, for
   it looks at them once more; the others, as a list by `next_over`, are to be joined. */
static inline twill__timeout_hand *twill__timeout_dismiss(twill_timeout *timeout)
{
    twill__timeout_hand *join = NULL, *hand;
    while (timeout->idle.last) {
        twill__node *node = timeout->idle.last;
        (void)twill__grant(&timeout->idle, node); /* its hand has nothing to run: the end */
        twill__wake(&node->word, 1);
    }
    while ((hand = timeout->hands)) {
        twill__hand_unlink(timeout, hand);
        if (hand->busy || !hand->published) {
            hand->let_go = true;
            if (hand->published)
                twill__thread_let_go(&hand->thread);
        } else {
            hand->next_over = join;
            join = hand;
            timeout->references--;
        }
    }
    timeout->over = NULL;
    return join;
}

TWILL__DEFINE twill_status twill_timeout_destroy(twill_timeout *timeout)
{
    twill__timeout_hand *join;
    bool last;
    if (!timeout)
        return TWILL_OK;
    if (!twill__books_here(&timeout->books))
        return twill__timeout_bury(timeout);
    twill__lock(&timeout->books.lock);
    if (twill__timeout_calls(timeout) || twill__timeout_inside(&timeout->books, timeout)) {
        twill__unlock(&timeout->books.lock);
        return TWILL_DEADLOCK;
    }
    timeout->closed = timeout->destroyed = true;
    join = twill__timeout_dismiss(timeout);
    twill__answer_all(&timeout->books.waiters, TWILL_CLOSED);
    twill__unlock(&timeout->books.lock);
    twill__hands_join(join);
    twill__lock(&timeout->books.lock);
    last = twill__timeout_unref(timeout);
    twill__unlock(&timeout->books.lock);
    if (last)
        TWILL_FREE(timeout);
    return TWILL_OK;
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
