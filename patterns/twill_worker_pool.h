/* twill_worker_pool.h - twill 0.1.0 - SPDX-License-Identifier: MIT OR Unlicense (text at the end)
   GENERATED from patterns/src/worker_pool.h and its parts. Do not edit it here: edit there, then `make headers`. */

/* twill_worker_pool.h - tasks on threads that outlive one call. SPDX-License-Identifier: MIT OR
   Unlicense

   Compile: cc -std=c11 -pthread. One .c file says `#define TWILL_IMPLEMENTATION` before it includes
   twill headers.

   WHAT IT IS FOR
   Work that comes in pieces, from anywhere: submit a task, ask for its result, its error or its
   end by a future, cancel it, delay it, limit its time. The queue is bounded; the end has two
   phases. twill_run_all is the one-call form for n tasks that are there already. Every pattern that
   has threads for its work takes a pool by `run.pool`, and the same threads serve its calls, too
   (but for timeout_fallback, whose stragglers would keep them).

   WHEN NOT
   A loop over items: twill_parallel_map hands out ranges, not tasks. One call now and then: it
   starts its own threads when the work is worth them. Work that flows through stages: pipeline.

   EXAMPLE:
   #define TWILL_IMPLEMENTATION
   #include "twill_worker_pool.h"
   #include <stdio.h>

   static int square(void *arg, void *result, const twill_task *task)
   {
       int x = *(int *)arg;
       *(int *)result = x * x;
       return task->index == 2 ? 42 : 0;  // any int but 0 is an error of yours
   }

   int main(void)
   {
       int numbers[4] = {1, 2, 3, 4};
       twill_future futures[4];
       twill_pool *pool;
       if (twill_pool_create(&pool, NULL) != TWILL_OK) return 1;
       for (int i = 0; i < 4; i++)
           if (twill_pool_submit(pool, square, &numbers[i], &futures[i],
                                 &(twill_submit_options){.result_size = sizeof(int)}) != TWILL_OK)
               return 1;
       for (int i = 0; i < 4; i++) {
           int result = 0;
           twill_outcome outcome;
           (void)twill_future_wait(futures[i], &result, &outcome);
           printf("%d: %s, code %d\n", result, twill_status_name(outcome.status), outcome.code);
           twill_future_release(futures[i]);
       }
       return twill_pool_destroy(pool) != TWILL_OK;
   }
   END OF EXAMPLE
   OUTPUT:
   1: TWILL_OK, code 0
   4: TWILL_OK, code 0
   9: TWILL_FAILED, code 42
   16: TWILL_OK, code 0
   END OF OUTPUT

   OPTIONS (twill_pool_options; NULL or zeroed: the defaults beside the fields below)
     run.workers      workers; 0 = the CPUs this process may use
     run.strict       a thread that cannot be started: TWILL_NO_THREAD (else the pool runs on those
                      it has)
     run.worker_start, run.worker_stop   once a worker, on its thread
     run.until.cancel parent of every task's token. A token tells tasks that run, and takes none out
                      of the queue: one that begins after it has fired is told at once
                      (twill_task_cancelled). Before it begins a task is cancelled by
                      twill_future_cancel, stop and abandon
     run.context, run.stack_size, run.name, run.cpus, run.cpu_count. Name and list are copied. A
                      size or CPU that could not be had: the reports of parallel calls on the pool
                      say so
     every other field of run must be zero: TWILL_INVALID
     overflow, when `capacity` tasks wait:
       BLOCK          submit waits, submit_until until then, try_submit says FULL. From a task of
                      the pool the new one runs at once, on top of it: never a wait for its own
                      queue (FULL if its start_at is still to come; so with CALLER_RUNS). Without
                      hooks so do the other threads of a call that a task makes
       REJECT         FULL
       CALLER_RUNS    it runs on the submitting thread (task->worker is UINT_MAX there, without a
                      worker_state); try_submit says FULL. While tasks take less than a microsecond
                      and workers are busy, those that follow at once go the same way without a
                      look whether there is room by now: capacity / 4 / workers, 7 to 127 of them
       DROP_OLDEST, DROP_NEWEST   one that waits ends DROPPED, by its `drop` (FULL, if all that wait
                      are delayed)
       DROP_INCOMING  the new one does; submit says DROPPED

   HOW A TASK ENDS, in exactly one of these ways
     OK, FAILED       by what it returned (FAILED: the code is in the outcome)
     CANCELLED        cancelled before it began; or it returned twill_task_skip
     TIMEOUT          past its `timeout`, whatever it returned; or not begun by `start_by`
     DROPPED          by the overflow policy
     LOST             it ended its thread (thrd_exit, pthread_exit), or was given up as stuck
   A running task that ignores its timeout ends TIMEOUT for those who wait, at that moment: whoever
   waits sees to it, else an idle worker, or the watch. (A task that waits for it, and so runs it
   itself, comes back when it does.) Its late result goes to `discard`.

   ERRORS       Each call says its own, below. INVALID: NULL or a nonsense option. FORKED: in a
                child process. CLOSED: after close. DEADLOCK: the wait would never end. NO_MEMORY:
                submit is refused, and the pool goes on.
   THREADS      All functions may be called by any thread, also from tasks, hooks and callbacks; but
                stop, destroy, wait_idle and each_worker from inside the pool (its tasks, calls that
                these make, hooks, and threads) say DEADLOCK. From callbacks on other threads (the
                submitter's, or of who cancels) so do those that could never end: destroy; stop and
                wait_idle without a deadline or token, while a task is in that thread's hands; and a
                wait for that task.
                Not seen: a hook on the token of a task, when a thread of yours fires the token
                above it (run.until.cancel): the task waits for the hook, so give a wait for the
                pool there a deadline.
                Hooks and callbacks (drop, discard, on_done, on_event, on_level) must return: only a
                task may end its thread, and not one that runs on top of a callback, which waits for
                it or has submitted it to a full queue. No lock is held while they run. The events
                of one task come in order, one after the other; but a STUCK that was found at the
                very end of its task may come after ENDED.
   ORDER        First in, first out within a priority. A task gains one step of priority for each
                `ageing` that it waits. Submit happens before the task, the task before its waiters
                and on_done. In outcomes of tasks that have no options but result, key and
                context, instants are right to 0.3 us.
   WAITING      A task that waits for another one that has not begun runs it itself, and never a
                third one: a pool of one worker and room for one is enough for any nesting. A thread
                outside does so, too, if its wait has neither deadline nor token, the task no
                timeout, and the pool no hooks (wait_any: if no worker is idle). Waits that close a
                circle say DEADLOCK in the last of them. Not seen is a circle through a wait_any, or
                through a task that has not begun, of a pool with hooks that the waiting thread is
                none of, whose workers all wait: a resize may begin it, a cancel or a stop may end
                it, so nobody can say that it is for ever. Give such waits a deadline.
   BLOCKS       submit while full (BLOCK); waits; stop and destroy. create and resize until
                worker_start is done.
   ALLOCATES    create; a worker when it starts; records and queue when there are more at once than
                ever before: a steady pool allocates nothing. Results of more than 48 bytes have a
                block of their own, used again.
   OWNERSHIP    The creator destroys, when no other call on the pool is under way but submits that
                wait for room, waits, and parallel calls: those it waits for. (But not for a fan,
                pipeline, batcher or producers that were given it when it had no thread, as a lazy
                one or one that is being stopped: they have threads of their own.) A pool must
                outlive the calls that are given it, not its futures. `arg` belongs to the task from
                acceptance until one of {fn, drop}.
   THREADS OF ITS OWN   the workers; with stuck_after or max_workers one more, which watches.
   IDLE         Workers look for work for 50 us after the last one (one CPU is left to others), then
                sleep: no CPU time. While tasks of less than a microsecond come one after another,
                and a worker is at work on them, nobody is called for each: one of the others looks
                every 0.1 ms whether it is needed; 0.2 ms is the longest that a task waits so. Of
                empty tasks one worker runs more alone than two that take turns.
   FORK         In the child the pool answers TWILL_FORKED; destroy, and abandon, free the memory
                there and join nobody. A task that forks, and returns in the child, too, ends its
                worker there: so the child, which has no other thread. Hooks and callbacks that fork
                must not return in the child: let it exec or _exit.
   PITFALLS     A task that another one waits for, and so runs, has that one's worker_state. A stuck
                worker is given up, not stopped: what it uses must stay. `workers` of a call
                on a pool counts the caller: a pool of 4 and its caller run up to 5 at once when
                asked for 5, and 4 by default. task->worker is below task->workers, which is
                max_workers + max_abandoned (more after a resize to fewer, as long as one of the old
                numbers is in use), and is used again after a worker has left. A hook that fails,
                like a thread, makes a pool smaller: see stats.workers. A pool that is left without
                any worker tries every 10 ms to have one, as long as somebody waits for room, for a
                task or for all of them, or a thread of its own is still there to try, as the last
                one is while there are tasks, or objects that were given the pool; else the next
                submit does. */

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

/* ---- base/future.h ---- */
/* future.h: the answer of a task that runs elsewhere: wait for it, cancel it, let it go. */
#ifndef TWILL_BASE_FUTURE_H
#define TWILL_BASE_FUTURE_H

#ifdef __cplusplus
extern "C" {
#endif

/* A twill_future is a handle: copy it freely, {0} is none. It is good until it is released, also
   when the object that gave it (a pool, a batcher) is gone. All functions may be called by any
   thread. A handle of {0} is TWILL_INVALID, a released one TWILL_STALE (as long as its object, or
   another future of it, is there), one of a parent process TWILL_FORKED.

   A wait says how the TASK ended: TWILL_OK, or TWILL_FAILED with the rest in *outcome: FAILED and
   the task's code, TIMEOUT, CANCELLED, DROPPED, LOST. TWILL_TIMEOUT and TWILL_CANCELLED as the
   wait's own answer speak of the wait alone: ask again. A task that has ended answers at once, also
   past the deadline. `result` (NULL: not wanted) gets the bytes of the task's result if its
   callback has returned, else it is left alone; `outcome` may be NULL, too. Any number of threads
   may wait, any number of times.

   A worker that waits for a task that nobody has begun runs that task itself, and never another
   one. TWILL_DEADLOCK: the wait could never end, because what it waits for waits for it. */
TWILL__DECL twill_status twill_future_wait(twill_future future, void *result,
                                           twill_outcome *outcome);
/* TWILL_EMPTY: not yet. */
TWILL__DECL twill_status twill_future_try_wait(twill_future future, void *result,
                                               twill_outcome *outcome);
TWILL__DECL twill_status twill_future_wait_until(twill_future future, void *result,
                                                 twill_outcome *outcome, twill_until until);

/* Until one of n has ended: *which is its place (the lowest, if several have), and it is neither
   taken nor released. TWILL_OK however it ended. n == 0: TWILL_INVALID. More than 16: one
   allocation, TWILL_NO_MEMORY. */
TWILL__DECL twill_status twill_future_wait_any(const twill_future *futures, size_t n, size_t *which,
                                               twill_until until);
/* Until all of n have ended: TWILL_OK, or TWILL_FAILED if any ended otherwise. n == 0: OK. */
TWILL__DECL twill_status twill_future_wait_all(const twill_future *futures, size_t n,
                                               twill_until until);

/* Not begun: it never will be, and ends CANCELLED now. Running: its token fires, and how it ends is
   its own affair. Ended, or cancelled before: nothing. */
TWILL__DECL twill_status twill_future_cancel(twill_future future);

/* Gives the handle back; the task goes on. {0} or released before: nothing. */
TWILL__DECL void twill_future_release(twill_future future);

#ifdef __cplusplus
}
#endif
#endif

#ifndef TWILL_WORKER_POOL_H
#define TWILL_WORKER_POOL_H

#ifdef __cplusplus
extern "C" {
#endif

typedef enum twill_event {
    TWILL_EVENT_QUEUED,
    TWILL_EVENT_STARTED,
    TWILL_EVENT_ENDED,  /* `status` says how */
    TWILL_EVENT_STUCK,  /* it runs for longer than stuck_after */
    TWILL_EVENT_REFUSED /* not accepted; `status` says why */
} twill_event;

/* "TWILL_EVENT_STUCK" and so on, for logs; static. "unknown" for other values. */
TWILL__DECL const char *twill_event_name(twill_event event);

typedef struct twill_task_info { /* what on_event is told */
    twill_event event;
    twill_status status; /* ENDED: as in its outcome. REFUSED: what submit answers */
    size_t index;        /* the task's number; SIZE_MAX: refused, so it has none */
    void *key;
    unsigned worker; /* UINT_MAX: none */
    twill_ns when;
} twill_task_info;

typedef struct twill_pool_options {
    twill_run run; /* workers, hooks, names, context; run.until.cancel: every task's parent */
    unsigned max_workers; /* 0: run.workers, a fixed size; else the pool grows up to this */
    bool lazy;            /* threads start with the first tasks */
    twill_ns idle_after;  /* a worker more than run.workers leaves after so long; 0 = 10 s */
    twill_ns grow_after;  /* one is added when a task has waited for so long; 0 = 10 ms */
    size_t capacity;      /* tasks that wait, delayed ones included; 0 = 1024; exact */
    twill_overflow overflow;
    bool newest_first;    /* last in, first out */
    twill_ns ageing;      /* so long a wait is worth one step of priority; 0 = 1 s; FOREVER: none */
    twill_ns stuck_after; /* 0: no watch; else a task that runs for longer is told by on_event */
    unsigned max_abandoned; /* 0: told only; else so many such workers are given up and replaced */
    /* waiting tasks: on_level is told true at high_mark, false when down at low_mark; 0, 0: off */
    size_t high_mark, low_mark;
    void (*on_level)(bool high, size_t length, const twill_task *task);
    void (*on_event)(const twill_task_info *info, const twill_task *task);
} twill_pool_options;

typedef struct twill_submit_options {
    int priority;         /* larger goes first */
    size_t result_size;   /* > 0: `result` is a zeroed slot of this size */
    void *key;            /* the submitter's own tag, for outcome and events */
    void *context;        /* task->context; NULL: of the submitting task, else run.context */
    twill_ns start_at;    /* an instant: not before; 0: at once */
    twill_ns start_by;    /* an instant: not begun by then: TIMEOUT and drop; 0: no limit */
    twill_ns timeout;     /* of its run: then its token fires, and it ends TIMEOUT; 0: none */
    twill_cancel *cancel; /* parent of its token, beside run.until.cancel of the pool */
    /* how it ended, before its future wakes; on the thread that found out; short. result: NULL
       unless its callback returned */
    void (*on_done)(const twill_outcome *outcome, void *result, const twill_task *task);
    twill_drop_fn *drop;       /* it never ran: exactly one of {fn, drop} */
    twill_discard_fn *discard; /* it ran, and nobody will take its result */
} twill_submit_options;

/* Starts the threads. TWILL_OK: *out is the pool. Else *out is NULL: INVALID, TOO_BIG, NO_MEMORY,
   NO_THREAD (no worker could be started, or, with run.strict, not all, or not the one that watches;
   a worker_start that does not return 0 is a thread that could not). */
TWILL__DECL twill_status twill_pool_create(twill_pool **out, const twill_pool_options *options);

/* Hands a task over: OK: it is accepted, and will end in exactly one way; *future (NULL: nobody
   asks) is its handle, to be released. A full queue: see `overflow` in the manual. CLOSED, FULL,
   TIMEOUT, CANCELLED, NO_MEMORY, INVALID, FORKED: refused; `arg` is still yours, nothing will be
   called, and *future is {0}. DROPPED: accepted, and it has ended by `drop` already. options:
   copied; NULL: none. */
TWILL__DECL twill_status twill_pool_submit(twill_pool *pool, twill_task_fn *fn, void *arg,
                                           twill_future *future,
                                           const twill_submit_options *options);
/* Never waits, and never runs a task here: FULL instead. */
TWILL__DECL twill_status twill_pool_try_submit(twill_pool *pool, twill_task_fn *fn, void *arg,
                                               twill_future *future,
                                               const twill_submit_options *options);
TWILL__DECL twill_status twill_pool_submit_until(twill_pool *pool, twill_task_fn *fn, void *arg,
                                                 twill_future *future, twill_until until,
                                                 const twill_submit_options *options);
/* fn(args[i]) for each of n (args NULL: with NULL), in order, in one step while there is room;
   futures: [n] or NULL. *accepted (NULL ok): so many were; the status is that of the next one, and
   from it on futures are {0}. All accepted: OK, or DROPPED if any has ended so. */
TWILL__DECL twill_status twill_pool_submit_many(twill_pool *pool, twill_task_fn *fn,
                                                void *const *args, size_t n, twill_future *futures,
                                                size_t *accepted,
                                                const twill_submit_options *options);

/* From now on so many workers. Too many leave after their task; the missing are started: NO_THREAD:
   not all of them could be. Also NO_MEMORY, INVALID, TOO_BIG, CLOSED. */
TWILL__DECL twill_status twill_pool_resize(twill_pool *pool, unsigned workers,
                                           unsigned max_workers);
/* Running tasks go on, with what they wait for; none else is started, but by a submit to a full
   queue that runs its own. stop and destroy resume. */
TWILL__DECL twill_status twill_pool_pause(twill_pool *pool);
TWILL__DECL twill_status twill_pool_resume(twill_pool *pool);
/* Until every accepted task has ended, delayed ones included. From inside the pool: DEADLOCK. */
TWILL__DECL twill_status twill_pool_wait_idle(twill_pool *pool);
TWILL__DECL twill_status twill_pool_wait_idle_until(twill_pool *pool, twill_until until);
/* Calls fn(arg) once on each worker there is, between tasks, and waits for all. FAILED: one
   returned other than 0. TIMEOUT, CANCELLED: not on all of them. From inside the pool: DEADLOCK. */
TWILL__DECL twill_status twill_pool_each_worker(twill_pool *pool, twill_task_fn *fn, void *arg,
                                                twill_until until);

/* No more tasks from outside; accepted ones, and calls that they make, may still submit, until the
   pool has drained. A second
   one: CLOSED, and nothing changed. */
TWILL__DECL twill_status twill_pool_close(twill_pool *pool);
/* Closes; until `drain` (an instant) everything accepted runs; then what has not begun ends
   CANCELLED, and running tasks are told by their tokens; until `join` it waits for them and ends
   the threads. OK: all have ended. TIMEOUT, CANCELLED: out->stuck still run (0: no task does, but
   a thread has not left yet); the pool is valid, call again. From inside the pool: DEADLOCK, and
   nothing changed. End a batcher, fan or pipeline on the pool before: from `drain` on only its
   callers' own threads work for it, so nobody sees to a linger. */
TWILL__DECL twill_status twill_pool_stop(twill_pool *pool, twill_until drain, twill_until join,
                                         twill_stopped *out);
/* Closes, runs what is accepted, waits for calls on the pool, ends the threads, frees. NULL:
   TWILL_OK. From inside the pool: DEADLOCK, and nothing changed. */
TWILL__DECL twill_status twill_pool_destroy(twill_pool *pool);
/* Cancels as stop does, and waits for nobody: the last thread to leave frees. The pool must not be
   used any more. BUSY: a parallel call is on it, and nothing changed. */
TWILL__DECL twill_status twill_pool_abandon(twill_pool *pool, twill_stopped *out);

/* The pool whose task runs on this thread, or else whose worker it is; or NULL. */
TWILL__DECL twill_pool *twill_pool_current(void);
/* How many threads it has. */
TWILL__DECL unsigned twill_pool_workers(const twill_pool *pool);

typedef struct twill_pool_stats {
    /* when idle: submitted == done + failed + timed_out + cancelled + dropped + lost */
    uint64_t submitted, refused, started, done, failed, timed_out, cancelled, dropped, lost;
    uint64_t caller_ran; /* by the submitting thread */
    size_t queued, queued_peak, capacity;
    unsigned workers, idle, busy, blocked, abandoned, workers_peak;
    twill_ns wait_p50, wait_p95, wait_p99; /* from acceptance to start, of tasks that workers ran */
    twill_ns run_p50, run_p95, run_p99;    /* at most 1/16 too high; of tasks shorter than 1 us
                                              one of 16 is measured, than 64 ns one of 64 */
    twill_ns busy_total, idle_total;       /* of the workers there are */
    twill_ns oldest_running;               /* with a watch */
} twill_pool_stats;
/* Any thread. Zeros for a pool of a parent process. Allocates for a moment; without memory the
   percentiles are 0. */
TWILL__DECL void twill_pool_get_stats(twill_pool *pool, twill_pool_stats *out);

typedef struct twill_run_all_options {
    twill_run run;
    twill_ns timeout; /* of each task: its until ends then, and it counts TIMEOUT; 0: none */
} twill_run_all_options;
/* Runs n tasks: fn(task i, result i), the caller taking part, and waits for all of them. Every task
   runs whatever the others do (run.on_error: COLLECT by default); outcomes (NULL ok, else [n]) say
   how each ended, in task order. results and result_size: NULL and 0 for none. OK; FAILED: any
   failed; TIMEOUT, CANCELLED; INVALID, TOO_BIG, and what run.pool and run.strict say. */
TWILL__DECL twill_status twill_run_all(const void *tasks, size_t task_size, void *results,
                                       size_t result_size, size_t n, twill_map_fn *fn,
                                       twill_outcome *outcomes,
                                       const twill_run_all_options *options);

#ifdef __cplusplus
}
#endif
#endif


#ifdef TWILL_IMPLEMENTATION
#ifndef TWILL__WORKER_POOL_IMPL
#define TWILL__WORKER_POOL_IMPL

/* ---- worker_pool/control.h ---- */
/* control.h: a pool's beginning, changes and end. */
#ifndef TWILL__WORKER_POOL_CONTROL_H
#define TWILL__WORKER_POOL_CONTROL_H

/* ---- worker_pool/watch.h ---- */
/* watch.h: the thread that looks after a pool with `stuck_after`, or one that may grow. */
#ifndef TWILL__WORKER_POOL_WATCH_H
#define TWILL__WORKER_POOL_WATCH_H

/* ---- worker_pool/submit.h ---- */
/* submit.h: tasks on their way in. */
#ifndef TWILL__WORKER_POOL_SUBMIT_H
#define TWILL__WORKER_POOL_SUBMIT_H

/* ---- worker_pool/workers.h ---- */
/* workers.h: the life of a pool's thread, from worker_start to its end. */
#ifndef TWILL__WORKER_POOL_WORKERS_H
#define TWILL__WORKER_POOL_WORKERS_H

/* ---- worker_pool/idle.h ---- */
/* idle.h: what a worker does next, and when it sleeps. */
#ifndef TWILL__WORKER_POOL_IDLE_H
#define TWILL__WORKER_POOL_IDLE_H

/* ---- worker_pool/start.h ---- */
/* start.h: the pool's threads come: as many as there is work for. */
#ifndef TWILL__WORKER_POOL_START_H
#define TWILL__WORKER_POOL_START_H

/* ---- worker_pool/asked.h ---- */
/* asked.h: what tasks say to their pool, and what futures ask of it. */
#ifndef TWILL__WORKER_POOL_ASKED_H
#define TWILL__WORKER_POOL_ASKED_H

/* ---- worker_pool/guests.h ---- */
/* guests.h: tasks run by a thread that is no worker, or on top of another one. */
#ifndef TWILL__WORKER_POOL_GUESTS_H
#define TWILL__WORKER_POOL_GUESTS_H

/* ---- worker_pool/running.h ---- */
/* running.h: a task from its start to its end, however it ends. */
#ifndef TWILL__WORKER_POOL_RUNNING_H
#define TWILL__WORKER_POOL_RUNNING_H

/* ---- worker_pool/ends.h ---- */
/* ends.h: how a task ends, by when it has to, and who gets its room. */
#ifndef TWILL__WORKER_POOL_ENDS_H
#define TWILL__WORKER_POOL_ENDS_H

/* ---- worker_pool/pool.h ---- */
/* pool.h: what a pool consists of, its counts, and who is told when something changes. */
#ifndef TWILL__WORKER_POOL_POOL_H
#define TWILL__WORKER_POOL_POOL_H

/* ---- engine/duty.h ---- */
/* duty.h: what a thread has to do when the callback that it is in has returned: a wait for that,
   from the callback, would never end. */
#ifndef TWILL__ENGINE_DUTY_H
#define TWILL__ENGINE_DUTY_H

/* ---- platform/process.h ---- */
/* process.h: what exists once a thread and once a process, and how a fork is noticed. */
#ifndef TWILL__PLATFORM_PROCESS_H
#define TWILL__PLATFORM_PROCESS_H

/* ---- platform/clock.h ---- */
/* clock.h: the monotonic clock. */
#ifndef TWILL__PLATFORM_CLOCK_H
#define TWILL__PLATFORM_CLOCK_H

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

/* Kept with the thread, not on its stack: when a task ends the thread, what is noted of frames that
   are gone is at worst one duty too many. */

/* `what`: more is more, for that object; 0: nothing but the end of the record (or NULL). */
static inline void twill__duty_begin(const void *object, const void *record, unsigned what)
{
    twill__self *self = twill__thread();
    unsigned i = self->duties++;
    if (i >= TWILL__DUTIES)
        return;
    self->duty[i].object = object;
    self->duty[i].record = record;
    self->duty[i].what = what;
}

static inline void twill__duty_over(void)
{
    twill__thread()->duties--;
}

/* The most of it; 0: none. */
static inline unsigned twill__duty_to(const void *object)
{
    const twill__self *self = twill__thread();
    unsigned most = 0;
    for (unsigned i = 0; i < self->duties && i < TWILL__DUTIES; i++)
        if (self->duty[i].object == object && self->duty[i].what > most)
            most = self->duty[i].what;
    return most;
}

/* Whether it is this thread that will end that record. */
static inline bool twill__duty_ends(const void *record)
{
    const twill__self *self = twill__thread();
    for (unsigned i = 0; i < self->duties && i < TWILL__DUTIES; i++)
        if (self->duty[i].record == record)
            return true;
    return false;
}

#endif

/* ---- engine/future.h ---- */
/* future.h: the handles to tasks: wait for any of them, and the public functions. */
#ifndef TWILL__ENGINE_FUTURE_H
#define TWILL__ENGINE_FUTURE_H

/* ---- engine/future_wait.h ---- */
/* future_wait.h: the wait for the end of one task. */
#ifndef TWILL__ENGINE_FUTURE_WAIT_H
#define TWILL__ENGINE_FUTURE_WAIT_H

/* ---- engine/record_life.h ---- */
/* record_life.h: who uses a record, and what its object does with it. */
#ifndef TWILL__ENGINE_RECORD_LIFE_H
#define TWILL__ENGINE_RECORD_LIFE_H

/* ---- engine/record.h ---- */
/* record.h: the records of tasks that somebody may wait for, and their memory. */
#ifndef TWILL__ENGINE_RECORD_H
#define TWILL__ENGINE_RECORD_H

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

/* An object that gives out futures (a pool, a batcher) makes a core, and takes its records from it.
   A record has up to three kinds of users: the object (from twill__record_get until
   twill__record_disown), the handle (until twill_future_release), and those who look at it this
   moment, the pins. Its memory is type-stable and the core outlives the object as long as a record
   of it is in use: so an old handle finds a record, and a generation in it that is not its own.

   `word` says who uses it, whether its task has ended, and in which generation: one CAS decides who
   is the last user, and by it the record is free again. It is in no list then: twill__record_get
   goes round and looks. So the end of a task for which nobody waits is one CAS, a wait that comes
   later one load, and the release one more CAS. Whatever else there is to do goes by the lock,
   whose holders change `word` by CAS, too.

   A record that was never used stands at the end of its slab, in memory that nobody has touched,
   and one that the object has put back in a list. Of these an object may reserve some, for what
   must not fail later.

   The life of a record:
       twill__record_get       by one thread at a time (the object's lock)
       twill__record_hold      gives the handle, before another thread can know the record
       twill__record_claim     it is somebody's, and nobody helps any more
       twill__record_enter     the runner's thread, just before the callback
       twill__record_settle    true to exactly one: that one says how the task ended, in `outcome`
       twill__record_publish   once; wakes who waits
       twill__record_left      the runner's thread, after the callback
       twill__record_disown    the object will not touch it again */

#ifndef TWILL__FIRST_RECORDS /* the explorer wants fewer */
#define TWILL__FIRST_RECORDS 32
#endif
#define TWILL__RESULT_ROOM 48 /* bytes of a result that need no allocation */

enum { /* of record.word: the rest is the generation. None of them: it is free */
       TWILL__BY_OBJECT = 1,
       TWILL__BY_HANDLE = 2,
       TWILL__BY_PIN = 4, /* pins != 0; changes under the lock */
       TWILL__USERS = 7,
       TWILL__ORPHAN = 8, /* the object has gone: the last user tells the core */
       TWILL__ENDED = 16,
       TWILL__WELL = 32,     /* ended with TWILL_OK */
       TWILL__TOLD = 64,     /* the last user calls `forget`, if nobody took the result */
       TWILL__TOUCHED = 128, /* the object's: no simple end */
       TWILL__FLAGS = 255
};
#define TWILL__GENERATION 256 /* one more */

struct twill__record;

/* What an object does for its records: the first three are there, the others may be NULL. None is
   called under a lock. The record stays while the function runs, but its task may have ended. */
typedef struct twill__record_table {
    /* Runs a task that nobody has begun, on this thread. `idle`: only if no thread that is there
       for it will. True: it has; the caller's pin was given back before the task ran, since it may
       end the thread. False: it has not. */
    bool (*help)(struct twill__record *record, bool idle);
    /* record->due has come. Both with a pin of the caller, which goes back also if a callback that
       they call ends the thread */
    void (*expire)(struct twill__record *record);
    void (*cancel)(struct twill__record *record);
    /* it ran, and nobody will take its result: the last call for this task */
    void (*forget)(struct twill__record *record);
    /* A guess without a pin, for a thread that is in no task: somebody is about to come to it, or
       has, so that it is better to stay away for so long than to help, or to look. *seen: how far
       he had come at the last look (first 0). 0 if he has not moved since. */
    twill_ns (*comes)(const struct twill__record *record, uint64_t *seen);
    /* Without a pin, by a thread that is in no task: runs the task of that handle, if it is the
       next one and nobody else begins it. False: it has not. */
    bool (*run_next)(twill_future future);
    /* With a pin, before a sleep: nobody may be there who would begin it. When to look again; 0:
       not before it has ended. */
    twill_ns (*again)(struct twill__record *record);
} twill__record_table;

typedef struct twill__future_wait { /* on the waiter's stack; guarded by its record's lock */
    struct twill__future_wait *next, *previous;
    twill__node *node;
    struct twill__record *record;
    twill_ns due; /* the record's, before this thread looked whether it may run the task */
    bool listed;
} twill__future_wait;

typedef struct twill__record {
    /* One line: what the end of a task writes, and a wait reads. `outcome` is the object's, until
       it has published it. */
    _Atomic uint64_t word;
    twill_outcome outcome;
    /* Another one: what its runner reads. The object's, written before the record is known, or by
       the runner. */
    twill_task_fn *fn; /* of an object whose tasks have one each */
    void *arg, *context;
    void *result;
    struct twill__record *outer; /* what its runner is in the middle of; the next put back */
    size_t result_size;
    _Atomic uint32_t begun; /* somebody's: nobody helps any more; a hint */
    bool returned;          /* its callback came back before it was settled: there is a result */
    bool simple, clean, stopped; /* the object's */
    int where;
    /* under the lock, which lives on from task to task */
    _Atomic uint32_t lock;
    /* What most tasks do not need. */
    TWILL_ALIGNAS(16) char room[TWILL__RESULT_ROOM];
    twill__future_wait *waits;     /* under the lock */
    struct twill__record *roomier; /* with room for a large result, all in a circle */
    /* A third one, with the first words of an object's own: what a submit looks at beside. */
    uint32_t pins; /* under the lock, as the next two */
    bool settled;  /* somebody says, or has said, how it ended */
    bool taken;    /* by a wait */
    struct twill__core *core;
    _Atomic twill_ns due; /* somebody must `expire` it then; 0: never */
    /* release, after the result's address: a forked child frees it */
    _Atomic size_t result_room;
} twill__record;
_Static_assert(offsetof(twill__record, fn) <= TWILL__LINE &&
                   offsetof(twill__record, room) <= 2 * TWILL__LINE,
               "what is used by every task stands in two lines");

typedef struct twill__slab {
    struct twill__slab *next;
    _Atomic size_t count; /* records; release, when one is made: a forked child looks at them */
    size_t room;          /* memory for so many, of which the rest was never touched */
    void *memory;
    char *first; /* record */
} twill__slab;

typedef struct twill__core {
    /* of the thread that may call twill__record_get */
    twill__record *put;           /* back */
    twill__record *roomy;         /* in the circle: the last that was taken */
    _Atomic(twill__slab *) slabs; /* release, as a slab's count */
    twill__slab *hand;            /* where it looks next for a free one: */
    size_t at;                    /* in that slab */
    size_t found;                 /* since it began at the first one */
    size_t records;
    size_t sure, reserved; /* records: put back, or never touched; of them: twill__core_reserve */
    char other_line[TWILL__LINE]; /* what follows is read by all */
    size_t size;                  /* of a record, a multiple of TWILL__LINE */
    const twill__record_table *table;
    void *owner; /* memory that the records' functions need: freed with the core */
    twill__home home;
    _Atomic size_t users; /* set by twill__core_leave: records in use, and itself */
} twill__core;

/* ---- memory ---- */

static inline twill__core *twill__core_create(size_t record_size, const twill__record_table *table)
{
    twill__core *core = (twill__core *)TWILL_MALLOC(sizeof *core);
    if (!core)
        return NULL;
    memset(core, 0, sizeof *core);
    core->size = (record_size + TWILL__LINE - 1) / TWILL__LINE * TWILL__LINE;
    core->table = table;
    core->home = twill__home_here();
    return core;
}

/* Whether this process made it. */
static inline bool twill__core_here(const twill__core *core)
{
    return twill__at_home(core->home);
}

/* acquire, here and in the next one: of a forked child, what another thread had made of them before
   the fork */
static inline twill__slab *twill__core_slabs(const twill__core *core)
{
    return atomic_load_explicit(&core->slabs, memory_order_acquire);
}

static inline size_t twill__slab_count(const twill__slab *slab)
{
    return atomic_load_explicit(&slab->count, memory_order_acquire);
}

static inline twill__record *twill__slab_at(const twill__core *core, const twill__slab *slab,
                                            size_t i)
{
    return (twill__record *)(void *)(slab->first + i * core->size);
}

static inline bool twill__record_is_free(const twill__record *record)
{
    /* acquire: pairs with the CAS of its last user */
    return !(atomic_load_explicit(&record->word, memory_order_acquire) & TWILL__FLAGS);
}

/* Memory for `count` records more, and looks there next. Of the thread that may call
   twill__record_get. */
static inline bool twill__core_grow(twill__core *core, size_t count)
{
    twill__slab *slab;
    char *first;
    if (count > (SIZE_MAX - TWILL__LINE) / core->size)
        return false;
    slab = (twill__slab *)TWILL_MALLOC(sizeof *slab);
    if (!slab)
        return false;
    slab->memory = TWILL_MALLOC(count * core->size + TWILL__LINE);
    if (!slab->memory) {
        TWILL_FREE(slab);
        return false;
    }
    first = (char *)slab->memory;
    slab->first = first + (TWILL__LINE - (uintptr_t)first % TWILL__LINE) % TWILL__LINE;
    atomic_init(&slab->count, 0);
    slab->room = count;
    slab->next = twill__core_slabs(core);
    atomic_store_explicit(&core->slabs, slab, memory_order_release);
    core->hand = slab;
    core->at = core->found = 0;
    core->records += count;
    core->sure += count;
    return true;
}

/* The next of a slab's that were never touched. */
static inline twill__record *twill__core_unwrap(twill__core *core, twill__slab *slab)
{
    size_t at = twill__slab_count(slab);
    twill__record *record = twill__slab_at(core, slab, at);
    core->sure--;
    memset(record, 0, core->size);
    record->core = core;
    record->result = record->room;
    atomic_init(&record->word, TWILL__GENERATION);
    atomic_store_explicit(&slab->count, at + 1, memory_order_release);
    return record;
}

static inline void twill__core_free(twill__core *core)
{
    for (twill__slab *slab = twill__core_slabs(core), *next; slab; slab = next) {
        size_t count = twill__slab_count(slab);
        next = slab->next;
        for (size_t i = 0; i < count; i++) {
            twill__record *record = twill__slab_at(core, slab, i);
            if (atomic_load_explicit(&record->result_room, memory_order_acquire))
                TWILL_FREE(record->result);
        }
        TWILL_FREE(slab->memory);
        TWILL_FREE(slab);
    }
    if (core->owner)
        TWILL_FREE(core->owner);
    TWILL_FREE(core);
}

static inline void twill__core_unuse(twill__core *core)
{
    /* acq_rel: what other users did to their records comes before the last one frees them */
    if (atomic_fetch_sub_explicit(&core->users, 1, memory_order_acq_rel) == 1)
        twill__core_free(core);
}

static inline void twill__core_gives_room(twill__core *core, twill__record *record)
{
    record->roomier = core->roomy ? core->roomy->roomier : record;
    if (core->roomy)
        core->roomy->roomier = record;
    core->roomy = record;
}

/* A free record with room for a large result, if one is near: else each would come to have some. */
static inline twill__record *twill__core_roomy(twill__core *core, size_t size)
{
    twill__record *record = core->roomy;
    for (unsigned looks = 0; record && looks < 8; looks++) {
        record = record->roomier;
        /* relaxed, here and below: this thread has written it */
        if (atomic_load_explicit(&record->result_room, memory_order_relaxed) >= size &&
            twill__record_is_free(record))
            return core->roomy = record;
    }
    return NULL;
}

/* Room for a result. False: no memory. */
static inline bool twill__record_room(twill__record *record, size_t size)
{
    size_t has = atomic_load_explicit(&record->result_room, memory_order_relaxed);
    if (size > TWILL__RESULT_ROOM && has < size) {
        void *room = TWILL_MALLOC(size);
        if (!room)
            return false;
        if (has) { /* 0 before it goes: a child that was forked here does not free it again */
            atomic_store_explicit(&record->result_room, 0, memory_order_relaxed);
            TWILL_FREE(record->result);
        } else {
            twill__core_gives_room(record->core, record);
        }
        record->result = room;
        atomic_store_explicit(&record->result_room, size, memory_order_release);
    }
    record->result_size = size;
    if (size)
        memset(record->result, 0, size);
    return true;
}

/* What is used by every task, to be written soon; it was another core's. */
static inline void twill__record_fetch(const twill__record *record)
{
    twill__prefetch(&record->word);
    twill__prefetch(&record->fn);
}

#define TWILL__RECORDS_AHEAD 4

/* The next free record on the way round, or a new one; those that were put back are reserved, or
   there are none. A round that has found less than a quarter of them free makes as many new ones:
   so a look finds one after four others at most, on an average. NULL: there is none, and no
   memory. */
static inline twill__record *twill__core_find(twill__core *core)
{
    for (;;) { /* exit: found; or a whole round has found none, and there is no memory */
        twill__slab *slab = core->hand;
        if (!slab) {
            size_t found = core->found + (core->sure - core->reserved);
            core->hand = twill__core_slabs(core);
            core->at = core->found = 0;
            if (found <= (core->records - core->reserved) / 4 &&
                !twill__core_grow(core, core->records ? core->records : TWILL__FIRST_RECORDS) &&
                !found)
                return NULL;
        } else if (core->at == twill__slab_count(slab)) {
            if (twill__slab_count(slab) < slab->room && core->sure > core->reserved) {
                core->at++;
                core->found++;
                return twill__core_unwrap(core, slab);
            }
            core->hand = slab->next;
            core->at = 0;
        } else {
            twill__record *record = twill__slab_at(core, slab, core->at++);
            if (core->at + TWILL__RECORDS_AHEAD <= twill__slab_count(slab))
                twill__record_fetch(
                    twill__slab_at(core, slab, core->at - 1 + TWILL__RECORDS_AHEAD));
            if (twill__record_is_free(record)) {
                core->found++;
                return record;
            }
        }
    }
}

/* Its word, from whoever gives it out: there is no other user, and an old handle looks at nothing
   but the generation, which it will not find. */
static inline void twill__record_flags(twill__record *record, uint64_t flags)
{
    uint64_t word = atomic_load_explicit(&record->word, memory_order_relaxed);
    atomic_store_explicit(&record->word, (word & ~(uint64_t)TWILL__FLAGS) | flags,
                          memory_order_relaxed);
}

/* The object gives back a record that nobody else has known. By the thread that may call
   twill__record_get. */
static inline void twill__record_put(twill__record *record)
{
    twill__core *core = record->core;
    record->outer = core->put;
    core->put = record;
    core->sure++;
}

/* One of those that were put back or never touched. There is one. */
static inline twill__record *twill__core_sure(twill__core *core)
{
    twill__record *record = core->put;
    twill__slab *slab = twill__core_slabs(core);
    if (record) {
        core->put = record->outer;
        core->sure--;
        return record;
    }
    while (twill__slab_count(slab) == slab->room)
        slab = slab->next;
    return twill__core_unwrap(core, slab);
}

/* It is the object's. */
static inline void twill__record_ready(twill__record *record)
{
    twill__record_flags(record, TWILL__BY_OBJECT);
    /* relaxed: ours alone */
    atomic_store_explicit(&record->begun, 0, memory_order_relaxed);
    if (atomic_load_explicit(&record->due, memory_order_relaxed))
        atomic_store_explicit(&record->due, 0, memory_order_relaxed);
    record->returned = false;
    if (record->settled || record->taken)
        record->settled = record->taken = false;
}

/* A record for a task: the object's, its result zeroed. NULL: no memory. By one thread at a
   time. */
static inline twill__record *twill__record_get(twill__core *core, size_t result_size)
{
    twill__record *record = NULL;
    if (result_size > TWILL__RESULT_ROOM)
        record = twill__core_roomy(core, result_size);
    if (!record && core->put && core->sure > core->reserved)
        record = twill__core_sure(core);
    if (!record && !(record = twill__core_find(core)))
        return NULL;
    twill__record_ready(record);
    if (twill__record_room(record, result_size))
        return record;
    twill__record_put(record);
    return NULL;
}

/* One record more than are reserved: so many calls of twill__record_get_reserved cannot fail.
   Hardly one is touched before. False: no memory. By the thread that may call twill__record_get, as
   what follows. */
static inline bool twill__core_reserve(twill__core *core)
{
    if (core->sure == core->reserved) {
        twill__record *record = twill__core_find(core);
        if (!record)
            return false;
        twill__record_ready(record);
        twill__record_put(record);
    }
    core->reserved++;
    return true;
}

static inline void twill__core_unreserve(twill__core *core, size_t count)
{
    core->reserved -= count;
}

/* For a task without a result. */
static inline twill__record *twill__record_get_reserved(twill__core *core)
{
    twill__record *record = twill__core_sure(core);
    core->reserved--;
    twill__record_ready(record);
    record->result_size = 0;
    return record;
}

/* The last user tells the object (`forget`). Before another thread can know the record. */
static inline void twill__record_tells(twill__record *record)
{
    uint64_t word = atomic_load_explicit(&record->word, memory_order_relaxed);
    twill__record_flags(record, (word & TWILL__FLAGS) | TWILL__TOLD);
}

/* The handle; once a task, before another thread can know the record. */
static inline twill_future twill__record_hold(twill__record *record)
{
    uint64_t word = atomic_load_explicit(&record->word, memory_order_relaxed);
    twill_future future = {record, word / TWILL__GENERATION};
    atomic_store_explicit(&record->word, word | TWILL__BY_HANDLE, memory_order_relaxed);
    return future;
}

/* Of a record with a handle that stays, or is pinned. */
static inline uint64_t twill__record_generation(const twill__record *record)
{
    return atomic_load_explicit(&record->word, memory_order_relaxed) / TWILL__GENERATION;
}

#endif

/* ---- users ---- */

/* One user less. True: it was the last, and has to `forget` now, with a pin of its own. */
static inline bool twill__record_drop(twill__record *record, uint64_t user, bool *orphan)
{
    /* relaxed: a guess for the CAS */
    uint64_t word = atomic_load_explicit(&record->word, memory_order_relaxed), next;
    bool last, forget;
    do {
        next = (word & ~user) + (user == TWILL__BY_HANDLE ? TWILL__GENERATION : 0);
        last = !(next & TWILL__USERS);
        forget = last && word & TWILL__TOLD && record->returned && !record->taken;
        if (forget)
            next |= TWILL__BY_PIN;
        else if (last)
            next &= ~(uint64_t)TWILL__FLAGS;
        /* release: what this one did comes before the next use. acquire: pairs with the release of
           the other users */
    } while (!atomic_compare_exchange_weak_explicit(&record->word, &word, next,
                                                    memory_order_acq_rel, memory_order_relaxed));
    *orphan = last && !forget && word & TWILL__ORPHAN;
    return forget;
}

/* Called with the record locked, for one of its users that goes; unlocks. */
static inline void twill__record_let_go(twill__record *record, uint64_t user)
{
    twill__core *core = record->core;
    bool orphan;
    if (twill__record_drop(record, user, &orphan)) {
        record->taken = true;
        record->pins++; /* nobody but us */
        twill__unlock(&record->lock);
        core->table->forget(record);
        twill__lock(&record->lock);
        record->pins--;
        (void)twill__record_drop(record, TWILL__BY_PIN, &orphan); /* it is taken */
    }
    twill__unlock(&record->lock); /* for which twill__core_leave waits */
    if (orphan)
        twill__core_unuse(core);
}

/* Under the lock, which it leaves: a pin less. */
static inline void twill__record_pin_off(twill__record *record)
{
    if (--record->pins)
        twill__unlock(&record->lock);
    else
        twill__record_let_go(record, TWILL__BY_PIN);
}

/* Under the lock: a pin more, if these bits of the word are such. */
static inline bool twill__record_pin_if(twill__record *record, uint64_t mask, uint64_t bits)
{
    /* relaxed: the CAS decides; the lock orders all but what the last user left behind, which is
       not looked at */
    uint64_t word = atomic_load_explicit(&record->word, memory_order_relaxed);
    do
        if ((word & mask) != bits)
            return false;
    /* acquire: pairs with the end. It is an RMW also for the second pin: what others do by one CAS,
       comes before it or fails */
    while (!atomic_compare_exchange_weak_explicit(&record->word, &word, word | TWILL__BY_PIN,
                                                  memory_order_acquire, memory_order_relaxed));
    record->pins++;
    return true;
}

/* Pins a record that may have come back already. False: its object has done with it. */
static inline bool twill__record_pin(twill__record *record)
{
    bool there;
    twill__lock(&record->lock);
    there = twill__record_pin_if(record, TWILL__BY_OBJECT, TWILL__BY_OBJECT);
    twill__unlock(&record->lock);
    return there;
}

static inline void twill__record_unpin(twill__record *record)
{
    twill__lock(&record->lock);
    twill__record_pin_off(record);
}

static inline void twill__record_disown(twill__record *record)
{
    twill__lock(&record->lock);
    twill__record_let_go(record, TWILL__BY_OBJECT);
}

/* In a forked child: whether somebody has a handle of it. */
static inline bool twill__core_handled(const twill__core *core)
{
    for (twill__slab *slab = twill__core_slabs(core); slab; slab = slab->next)
        for (size_t i = 0; i < twill__slab_count(slab); i++)
            /* relaxed: there is no other thread that could know it */
            if (atomic_load_explicit(&twill__slab_at(core, slab, i)->word, memory_order_relaxed) &
                TWILL__BY_HANDLE)
                return true;
    return false;
}

/* Whether somebody still uses it; then its last user counts itself out. */
static inline bool twill__record_orphan(twill__record *record)
{
    uint64_t word;
    twill__lock(&record->lock); /* who was the last user, has left it */
    word = atomic_load_explicit(&record->word, memory_order_seq_cst);
    while (word & TWILL__USERS &&
           !atomic_compare_exchange_weak_explicit(&record->word, &word, word | TWILL__ORPHAN,
                                                  memory_order_seq_cst, memory_order_seq_cst)) {}
    twill__unlock(&record->lock);
    return word & TWILL__USERS;
}

/* The object goes: it owns no record any more, or only such whose runners are still on their way
   (they disown them later). The core goes with the last record in use. */
static inline void twill__core_leave(twill__core *core)
{
    size_t users = 1;
    if (!twill__core_here(core)) { /* no thread of the parent's is here, but handles may be */
        if (!twill__core_handled(core))
            twill__core_free(core);
        return;
    }
    for (; core->put; core->put = core->put->outer)
        twill__record_flags(core->put, 0);
    /* nobody may come to 0 meanwhile. relaxed: who counts himself out has found ORPHAN, which is
       set after this, under the record's lock */
    atomic_store_explicit(&core->users, SIZE_MAX / 2, memory_order_relaxed);
    for (twill__slab *slab = twill__core_slabs(core); slab; slab = slab->next)
        for (size_t i = 0; i < twill__slab_count(slab); i++)
            users += twill__record_orphan(twill__slab_at(core, slab, i));
    /* those who have gone meanwhile have counted themselves out already; we are still here.
       relaxed: a count; twill__core_unuse orders */
    atomic_fetch_sub_explicit(&core->users, SIZE_MAX / 2 - users, memory_order_relaxed);
    twill__core_unuse(core);
}

/* ---- the object's side ---- */

/* The innermost task whose callback runs on this thread; NULL: none. */
static inline twill__record *twill__record_current(void)
{
    return (twill__record *)twill__thread()->record;
}

/* It is somebody's: nobody will `help` any more. Before another thread can settle it. */
static inline void twill__record_claim(twill__record *record)
{
    /* relaxed: a hint for those who would help; they look again under the object's lock */
    atomic_store_explicit(&record->begun, 1, memory_order_relaxed);
}

/* The callback did not keep it. */
static inline void twill__record_unclaim(twill__record *record)
{
    atomic_store_explicit(&record->begun, 0, memory_order_relaxed); /* as above */
}

/* The callback is about to run on this thread. */
static inline void twill__record_enter(twill__record *record, twill__self *self)
{
    record->outer = (twill__record *)self->record;
    self->record = record;
}

/* It has returned, or ended its thread. */
static inline void twill__record_left(twill__record *record, twill__self *self)
{
    self->record = record->outer;
}

static inline bool twill__record_ended(const twill__record *record)
{
    /* acquire: pairs with the end */
    return atomic_load_explicit(&record->word, memory_order_acquire) & TWILL__ENDED;
}

/* True: the caller decides how the task ended, and must publish it. */
static inline bool twill__record_settle(twill__record *record, bool returned)
{
    bool first;
    twill__lock(&record->lock);
    first = !record->settled;
    record->settled = true;
    if (first)
        record->returned = returned;
    twill__unlock(&record->lock);
    return first;
}

static inline uint64_t twill__record_end_flags(const twill__record *record)
{
    return TWILL__ENDED | (record->outcome.status == TWILL_OK ? TWILL__WELL : 0u);
}

/* Under the record's lock: who waits looks again. */
static inline void twill__record_rouse(twill__record *record)
{
    for (twill__future_wait *wait; (wait = record->waits);) {
        _Atomic uint32_t *word = &wait->node->word;
        record->waits = wait->next;
        wait->listed = false;
        /* acq_rel: pairs with twill__wait. A node that waits for several records is granted by any
           of them; it stays until it has had each one's lock */
        atomic_fetch_or_explicit(word, TWILL__GRANTED, memory_order_acq_rel);
        twill__wake(word, 1);
    }
}

/* Under the record's lock: it has ended. */
static inline void twill__record_end(twill__record *record)
{
    /* release: publishes the outcome */
    atomic_fetch_or_explicit(&record->word, twill__record_end_flags(record), memory_order_release);
    twill__record_rouse(record);
}

/* It is due at another time than who waits already has seen. */
static inline void twill__record_stir(twill__record *record)
{
    twill__lock(&record->lock);
    twill__record_rouse(record);
    twill__unlock(&record->lock);
}

/* After twill__record_settle said true, the outcome written. The record may have new users, or
   none, right after it: the object still owns it, or does not touch it again. */
static inline void twill__record_publish(twill__record *record, bool disown)
{
    twill__lock(&record->lock);
    twill__record_end(record);
    if (disown)
        twill__record_let_go(record, TWILL__BY_OBJECT);
    else
        twill__unlock(&record->lock);
}

/* twill__record_settle and twill__record_publish in one, where nobody else can settle it. */
static inline void twill__record_finish(twill__record *record, bool returned)
{
    twill__lock(&record->lock);
    record->settled = true;
    record->returned = returned;
    twill__record_end(record);
    twill__record_let_go(record, TWILL__BY_OBJECT);
}

/* The same in one step, if nobody but the handle uses it, and nobody has touched it. */
static inline bool twill__record_finish_alone(twill__record *record)
{
    /* relaxed: the CAS decides */
    uint64_t word = atomic_load_explicit(&record->word, memory_order_relaxed);
    record->returned = true; /* nobody looks yet */
    return (word & TWILL__FLAGS & ~(uint64_t)TWILL__TOLD) ==
               (TWILL__BY_OBJECT | TWILL__BY_HANDLE) &&
           /* release: publishes the outcome, and all that the task did */
           atomic_compare_exchange_strong_explicit(&record->word, &word,
                                                   (word & ~(uint64_t)TWILL__BY_OBJECT) |
                                                       twill__record_end_flags(record),
                                                   memory_order_release, memory_order_relaxed);
}

#endif

/* ---- who waits for whom ---- */

/* One wait for ever, in the process's list. It ends when `record` ends, which cannot be before the
   callbacks on its runner's stack have returned. */
typedef struct twill__blocked {
    struct twill__blocked *next, *previous;
    twill__record *stack;  /* the tasks that this wait is a part of, innermost first */
    twill__record *record; /* pinned */
    bool seen;
} twill__blocked;

/* Locks the list. After a fork it is empty: the threads in it are not here. */
static inline void twill__blocked_lock(void)
{
    twill__global *process = twill__process();
    if (twill__adopt(&process->waits_generation)) {
        atomic_store_explicit(&process->waits_lock, 0, memory_order_relaxed);
        process->waits = NULL;
        twill__adopted(&process->waits_generation);
    }
    twill__lock(&process->waits_lock);
}

static inline void twill__blocked_unlock(void)
{
    twill__unlock(&twill__process()->waits_lock);
}

static inline bool twill__on_stack(const twill__record *stack, const twill__record *record)
{
    for (; stack; stack = stack->outer)
        if (stack == record)
            return true;
    return false;
}

/* Whether `record` cannot end before a task of `stack` does. Under the list's lock: what the
   waits in it stand on does not move. */
static inline bool twill__leads_back(twill__blocked *list, const twill__record *stack,
                                     twill__record *record)
{
    if (twill__record_ended(record))
        return false;
    if (twill__on_stack(stack, record))
        return true;
    for (twill__blocked *wait = list; wait; wait = wait->next)
        if (!wait->seen && twill__on_stack(wait->stack, record)) {
            wait->seen = true;
            if (twill__leads_back(list, stack, wait->record))
                return true;
        }
    return false;
}

/* Enters a wait for ever, unless it would close a circle: test and entry in one step, or two
   threads enter at once and neither sees the other. */
static inline bool twill__blocked_enter(twill__blocked *me)
{
    twill__blocked *first;
    bool circle;
    twill__blocked_lock();
    first = (twill__blocked *)twill__process()->waits;
    for (twill__blocked *wait = first; wait; wait = wait->next)
        wait->seen = false;
    circle = twill__leads_back(first, me->stack, me->record);
    if (!circle) {
        me->next = first;
        if (first)
            first->previous = me;
        twill__process()->waits = me;
    }
    twill__blocked_unlock();
    return !circle;
}

static inline void twill__blocked_leave(twill__blocked *me)
{
    twill__blocked_lock();
    if (me->previous)
        me->previous->next = me->next;
    else
        twill__process()->waits = me->next;
    if (me->next)
        me->next->previous = me->previous;
    twill__blocked_unlock();
}

/* ---- the waiter's side ---- */

/* One look without the lock: what the handle is good for, and the word. */
static inline twill_status twill__future_look(twill_future future, uint64_t *word)
{
    twill__record *record = (twill__record *)future.slot;
    if (!record)
        return TWILL_INVALID;
    if (!twill__core_here(record->core))
        return TWILL_FORKED;
    /* acquire: pairs with the end */
    *word = atomic_load_explicit(&record->word, memory_order_acquire);
    return *word / TWILL__GENERATION == future.generation ? TWILL_OK : TWILL_STALE;
}

/* Locks and pins the record of a handle. INVALID, FORKED, STALE: neither. */
static inline twill_status twill__future_pin(twill_future future)
{
    twill__record *record = (twill__record *)future.slot;
    uint64_t word;
    twill_status status = twill__future_look(future, &word);
    if (status != TWILL_OK)
        return status;
    twill__lock(&record->lock);
    if (twill__record_pin_if(record, ~(uint64_t)TWILL__FLAGS | TWILL__BY_HANDLE,
                             future.generation * TWILL__GENERATION | TWILL__BY_HANDLE))
        return TWILL_OK;
    twill__unlock(&record->lock);
    return TWILL_STALE;
}

static inline twill_status twill__word_status(uint64_t word)
{
    return word & TWILL__WELL ? TWILL_OK : TWILL_FAILED;
}

/* Under the lock, pinned: the answer of one who asks, if it has ended. */
static inline bool twill__record_answer(twill__record *record, void *result, twill_outcome *outcome,
                                        twill_status *status)
{
    /* relaxed: it has ended under the lock, or before the CAS that has pinned it */
    uint64_t word = atomic_load_explicit(&record->word, memory_order_relaxed);
    if (!(word & TWILL__ENDED))
        return false;
    if (outcome)
        *outcome = record->outcome;
    if (result && record->returned) {
        record->taken = true;
        memcpy(result, record->result, record->result_size);
    }
    *status = twill__word_status(word);
    return true;
}

/* Under the record's lock, pinned. */
static inline void twill__future_enlist(twill__record *record, twill__future_wait *wait,
                                        twill__node *node)
{
    wait->node = node;
    wait->record = record;
    wait->listed = true;
    wait->previous = NULL;
    wait->next = record->waits;
    if (wait->next)
        wait->next->previous = wait;
    record->waits = wait;
}

/* Under the record's lock. */
static inline void twill__future_delist(twill__record *record, twill__future_wait *wait)
{
    if (!wait->listed)
        return;
    if (wait->previous)
        wait->previous->next = wait->next;
    else
        record->waits = wait->next;
    if (wait->next)
        wait->next->previous = wait->previous;
    wait->listed = false;
}

/* Whether this thread is inside a task or a call, on which others may wait. */
static inline bool twill__inside(void)
{
    const twill__self *self = twill__thread();
    return self->record || self->runner || self->job;
}

/* Whether nobody has begun it. A hint: see twill__record_claim. */
static inline bool twill__record_waiting(const twill__record *record)
{
    return !atomic_load_explicit(&record->begun, memory_order_relaxed) &&
           !twill__record_ended(record);
}

static void twill__record_let_be(void *record_)
{
    twill__record *record = (twill__record *)record_;
    if (twill__core_here(record->core)) /* else a callback has forked, and it is the parent's */
        twill__record_unpin(record);
}

/* Calls `expire` or `cancel` with the caller's pin, and gives that back. noinline: its locals must
   not stand in the frame of a guard */
static __attribute__((noinline)) void twill__record_tell(twill__record *record,
                                                         void (*tell)(twill__record *record))
{
    TWILL__GUARD_PUSH(twill__record_let_be, record);
    tell(record);
    TWILL__GUARD_POP(1);
}

/* relaxed: a hint; expire and help look under their own locks, under which it is written */
static inline twill_ns twill__record_due(const twill__record *record)
{
    return atomic_load_explicit(&record->due, memory_order_relaxed);
}

/* For one that is about to sleep: when it has to look again at the latest, or 0. Pinned. */
static inline twill_ns twill__record_again(twill__record *record, twill_ns due)
{
    const twill__record_table *table = record->core->table;
    return table->again ? twill__nearer(due, table->again(record)) : due;
}

/* Of a record that is pinned: true: look again, and the pin is given back. `help`: this thread may
   run it; `idle`: from outside only if no thread that is there for it will. */
static inline bool twill__record_push_on(twill__record *record, bool help, bool idle)
{
    const twill__record_table *table = record->core->table;
    twill_ns due = twill__record_due(record);
    if (due && twill__clock_now() >= due) {
        twill__record_tell(record, table->expire);
        return true;
    }
    return help && twill__record_waiting(record) && table->help(record, idle && !twill__inside());
}

/* Whether this thread may run a task that another one would have run. One that waits for a time or
   a token would overrun it; but a task that waits for another one must, or a pool of one stands
   still. */
static inline bool twill__future_may_help(twill_until until)
{
    if (twill__inside())
        return !twill__expired(until.deadline) && !twill_cancel_fired(until.cancel);
    return twill__for_ever(until);
}

/* Sleeps until the node is granted or the wait is over; EMPTY: until the record is due, or since it
   was meanwhile: a task that could not be run then may have to be now. */
static inline twill_status twill__future_sleep(twill__future_wait *wait, twill_until until)
{
    twill__node *node = wait->node;
    twill__record *record = wait->record;
    twill__blocked blocked = {NULL, NULL, twill__record_current(), record, false};
    twill_ns due = twill__record_due(record);
    twill_status status;
    if (twill__on_stack(blocked.stack, record) || twill__duty_ends(record))
        return TWILL_DEADLOCK;
    if (due != wait->due)
        return TWILL_EMPTY;
    due = twill__record_again(record, due);
    if (due || !twill__for_ever(until))
        return twill__wait_sooner(node, twill__nearer(until.deadline, due), until);
    if (twill__spin(&node->word, 0, TWILL__SPIN_WAIT, TWILL__SPIN_YIELDS))
        return TWILL_OK; /* no other bit comes without a token */
    if (!twill__blocked_enter(&blocked))
        return TWILL_DEADLOCK;
    status = twill__wait(node, until);
    twill__blocked_leave(&blocked);
    return status;
}

/* Before a wait: brings the task forward if that is up to this thread. True: look again. The wait
   stands in no list meanwhile, and `help` gives the pin back: the task may end the thread. */
static inline bool twill__future_push_on(twill_future future, bool help, bool idle)
{
    twill__record *record = (twill__record *)future.slot;
    if (twill__future_pin(future) != TWILL_OK)
        return false;
    twill__unlock(&record->lock);
    if (twill__record_push_on(record, help, idle))
        return true;
    twill__record_unpin(record);
    return false;
}

/* Whether it is worth a try. */
static inline bool twill__record_waits_for_us(const twill__record *record, bool help)
{
    return twill__record_due(record) || (help && twill__record_waiting(record));
}

static inline bool twill__future_moved(void *future_)
{
    const twill_future *future = (const twill_future *)future_;
    uint64_t word;
    return twill__future_look(*future, &word) != TWILL_OK || word & TWILL__ENDED;
}

/* A moment, without a pin, which would cost the runner more than the look: for one who is at it, or
   about to be. So he gets ahead with the next ones, too. If nobody is, it may be run here. */
static inline void twill__future_bide(twill_future future)
{
    const twill__record *record = (const twill__record *)future.slot;
    const twill__record_table *table = record->core->table;
    bool outside = !twill__inside();
    uint64_t seen = 0;
    twill_ns stay;
    while (outside && table->comes && (stay = table->comes(record, &seen)) && twill__spin_helps()) {
        /* exit: ended, or whoever is about to come stands still */
        twill__spin_away(stay);
        if (twill__future_moved(&future))
            return;
    }
    if (outside && table->run_next && twill__record_waiting(record) && table->run_next(future))
        return;
    if (!twill__record_waiting(record))
        (void)twill__spin_for(twill__future_moved, &future, TWILL__SPIN_WAIT, 0);
}

/* Sleeps, pinned by this wait. True: it has ended. */
static inline bool twill__future_wait_long(twill__record *record, void *result,
                                           twill_outcome *outcome, twill_until until, twill_ns due,
                                           twill_status *status)
{
    twill__future_wait wait;
    twill__node node;
    twill_status answer = TWILL_OK;
    bool ended;
    twill__node_init(&node);
    twill__future_enlist(record, &wait, &node);
    twill__unlock(&record->lock);
    wait.due = due;
    *status = twill__future_sleep(&wait, until);
    twill__lock(&record->lock);
    twill__future_delist(record, &wait);
    ended = twill__record_answer(record, result, outcome, &answer);
    twill__record_pin_off(record);
    if (ended)
        *status = answer;
    return ended;
}

/* Not yet answered by one look. */
static __attribute__((noinline)) twill_status twill__future_await_long(twill_future future,
                                                                       void *result,
                                                                       twill_outcome *outcome,
                                                                       twill_until until)
{
    twill__record *record = (twill__record *)future.slot;
    bool tried = false;
    twill_ns due = 0;
    uint64_t word;
    if (twill__for_ever(until) && !twill__future_moved(&future)) {
        twill__future_bide(future);
        if (!result && !outcome && twill__future_look(future, &word) == TWILL_OK &&
            word & TWILL__ENDED)
            return twill__word_status(word);
    }
    for (;;) { /* exit: ended, or the wait is over; each turn sleeps, or something has happened */
        twill_status status = twill__future_pin(future);
        bool help;
        if (status != TWILL_OK)
            return status;
        if (twill__record_answer(record, result, outcome, &status)) {
            twill__record_pin_off(record);
            return status;
        }
        if (!tried)
            due = twill__record_due(record);
        help = !tried && twill__future_may_help(until);
        if (!tried && twill__record_waits_for_us(record, help)) {
            twill__record_pin_off(record);
            tried = !twill__future_push_on(future, help, false);
            continue;
        }
        if (twill__future_wait_long(record, result, outcome, until, due, &status))
            return status;
        if (status != TWILL_EMPTY && status != TWILL_OK) /* OK: roused */
            return status;
        tried = false;
    }
}

static inline twill_status twill__future_await(twill_future future, void *result,
                                               twill_outcome *outcome, twill_until until)
{
    uint64_t word = 0;
    twill_status status = twill__future_look(future, &word);
    if (status != TWILL_OK)
        return status;
    if (word & TWILL__ENDED && !result && !outcome)
        return twill__word_status(word);
    return twill__future_await_long(future, result, outcome, until);
}

#endif

/* ---- wait for any ---- */

/* Takes the node out of the lists of the first n; the place of the lowest that has ended, or n. */
static inline size_t twill__any_leave(twill__future_wait *waits, size_t n)
{
    size_t ended = n;
    for (size_t i = n; i-- > 0;) {
        twill__record *record = waits[i].record;
        twill__lock(&record->lock);
        if (twill__record_ended(record))
            ended = i;
        twill__future_delist(record, &waits[i]);
        twill__record_pin_off(record);
    }
    return ended;
}

/* Puts the node into all n lists. Not OK: into none. */
static inline twill_status twill__any_enter(const twill_future *futures, size_t n,
                                            twill__future_wait *waits, twill__node *node)
{
    twill__node_init(node);
    for (size_t i = 0; i < n; i++) {
        twill_status status = twill__future_pin(futures[i]);
        if (status != TWILL_OK) {
            (void)twill__any_leave(waits, i);
            return status;
        }
        twill__future_enlist((twill__record *)futures[i].slot, &waits[i], node);
        twill__unlock(&waits[i].record->lock);
    }
    return TWILL_OK;
}

/* One sleep. EMPTY: look again. */
static inline twill_status twill__any_sleep(twill__future_wait *waits, size_t n, twill__node *node,
                                            twill_until until)
{
    twill_ns sooner = until.deadline;
    bool mine = true;
    for (size_t i = 0; i < n; i++) {
        twill__record *record = waits[i].record;
        /* hints; who has ended grants the node, or is found at the end */
        if (twill__record_ended(record))
            return TWILL_EMPTY;
        mine =
            mine && (twill__on_stack(twill__record_current(), record) || twill__duty_ends(record));
        if (twill__record_due(record) != waits[i].due) /* as in twill__future_sleep */
            return TWILL_EMPTY;
        sooner = twill__nearer(sooner, twill__record_again(record, waits[i].due));
    }
    return mine ? TWILL_DEADLOCK : twill__wait_sooner(node, sooner, until);
}

/* The first that has ended, or n; brings them forward on the way, until one has. A thread from
   outside leaves them to idle workers: another one may end before the one that it would run. */
static inline size_t twill__any_push_on(const twill_future *futures, size_t n,
                                        twill__future_wait *waits, twill_until until)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t word;
        if (twill__future_look(futures[i], &word) != TWILL_OK)
            return n; /* entering will say so */
        if (word & TWILL__ENDED)
            return i;
        waits[i].due = twill__record_due((const twill__record *)futures[i].slot);
    }
    for (size_t i = 0; i < n; i++)
        if (twill__future_push_on(futures[i], twill__future_may_help(until), true))
            return n;
    return n;
}

/* noinline: its locals must not stand in the frame of a guard */
static __attribute__((noinline)) twill_status twill__any_await(const twill_future *futures,
                                                               size_t n, size_t *which,
                                                               twill__future_wait *waits,
                                                               twill_until until)
{
    for (;;) { /* exit: one has ended, or the wait is over */
        size_t ended = twill__any_push_on(futures, n, waits, until);
        twill__node node;
        twill_status status = TWILL_OK;
        if (ended == n) {
            status = twill__any_enter(futures, n, waits, &node);
            if (status != TWILL_OK)
                return status;
            status = twill__any_sleep(waits, n, &node, until);
            ended = twill__any_leave(waits, n);
        }
        if (ended < n) {
            if (which)
                *which = ended;
            return TWILL_OK;
        }
        if (status != TWILL_EMPTY && status != TWILL_OK) /* OK: roused by one of them */
            return status;
    }
}

/* With allocated `waits`, which go also if a task that it runs ends the thread. */
static __attribute__((noinline)) void twill__any_await_many(const twill_future *futures, size_t n,
                                                            size_t *which,
                                                            twill__future_wait *waits,
                                                            twill_until until, twill_status *status)
{
    TWILL__GUARD_PUSH(twill__guard_free, waits);
    *status = twill__any_await(futures, n, which, waits, until);
    TWILL__GUARD_POP(1);
}

/* ---- the public functions ---- */

TWILL__WEAK twill_status twill_future_wait_until(twill_future future, void *result,
                                                 twill_outcome *outcome, twill_until until)
{
    return twill__future_await(future, result, outcome, until);
}

TWILL__WEAK twill_status twill_future_wait(twill_future future, void *result,
                                           twill_outcome *outcome)
{
    twill_until until = {0, NULL};
    return twill__future_await(future, result, outcome, until);
}

TWILL__WEAK twill_status twill_future_try_wait(twill_future future, void *result,
                                               twill_outcome *outcome)
{
    twill__record *record = (twill__record *)future.slot;
    for (;;) { /* exit: answered; what is due is expired once */
        uint64_t word = 0;
        twill_status status = twill__future_look(future, &word);
        twill_ns due;
        if (status == TWILL_OK && !(word & TWILL__ENDED)) {
            due = twill__record_due(record);
            if (!due || twill__clock_now() < due)
                return TWILL_EMPTY;
        }
        if (status == TWILL_OK)
            status = twill__future_pin(future);
        if (status != TWILL_OK)
            return status;
        if (twill__record_answer(record, result, outcome, &status)) {
            twill__record_pin_off(record);
            return status;
        }
        twill__unlock(&record->lock);
        twill__record_tell(record, record->core->table->expire);
    }
}

TWILL__WEAK twill_status twill_future_wait_any(const twill_future *futures, size_t n, size_t *which,
                                               twill_until until)
{
    twill__future_wait few[16], *waits;
    twill_status status;
    if (!futures || n == 0)
        return TWILL_INVALID;
    if (n <= 16)
        return twill__any_await(futures, n, which, few, until);
    if (n > SIZE_MAX / sizeof *waits)
        return TWILL_TOO_BIG;
    if (!(waits = (twill__future_wait *)TWILL_MALLOC(n * sizeof *waits)))
        return TWILL_NO_MEMORY;
    twill__any_await_many(futures, n, which, waits, until, &status);
    return status;
}

TWILL__WEAK twill_status twill_future_wait_all(const twill_future *futures, size_t n,
                                               twill_until until)
{
    twill_status all = TWILL_OK;
    if (!futures && n)
        return TWILL_INVALID;
    for (size_t i = 0; i < n; i++)
        if (!futures[i].slot) /* of a refused task, say: nobody is waited for, nor helped */
            return TWILL_INVALID;
    for (size_t i = 0; i < n; i++) {
        twill_status status = twill__future_await(futures[i], NULL, NULL, until);
        if (status != TWILL_OK && status != TWILL_FAILED)
            return status;
        if (status == TWILL_FAILED)
            all = TWILL_FAILED;
    }
    return all;
}

TWILL__WEAK twill_status twill_future_cancel(twill_future future)
{
    twill__record *record = (twill__record *)future.slot;
    twill_status status = twill__future_pin(future);
    if (status != TWILL_OK)
        return status;
    twill__unlock(&record->lock);
    twill__record_tell(record, record->core->table->cancel);
    return TWILL_OK;
}

TWILL__WEAK void twill_future_release(twill_future future)
{
    twill__record *record = (twill__record *)future.slot;
    uint64_t word = 0;
    bool orphan;
    if (twill__future_look(future, &word) != TWILL_OK)
        return;
    if ((word & TWILL__FLAGS & ~(uint64_t)TWILL__WELL) == (TWILL__BY_HANDLE | TWILL__ENDED) &&
        /* release: it is free; pairs with the acquire in twill__core_find, which by the chain of
           read-modify-writes takes what all users before have released, too */
        atomic_compare_exchange_strong_explicit(
            &record->word, &word, (word & ~(uint64_t)TWILL__FLAGS) + TWILL__GENERATION,
            memory_order_release, memory_order_relaxed))
        return;
    if (twill__future_pin(future) != TWILL_OK)
        return;
    /* pinned: it stays this generation's, and this is not the last user */
    (void)twill__record_drop(record, TWILL__BY_HANDLE, &orphan);
    twill__record_pin_off(record);
}

#endif

/* ---- engine/histogram.h ---- */
/* histogram.h: durations by logarithmic classes, for percentiles. */
#ifndef TWILL__ENGINE_HISTOGRAM_H
#define TWILL__ENGINE_HISTOGRAM_H

/* 16 classes an octave: a percentile is at most 1/16 too high. After G. Tene's HdrHistogram. One
   thread adds; any may sum, and sees what it has seen of it. */
#ifndef TWILL__CLASSES           /* the explorer wants fewer */
#define TWILL__CLASSES (16 * 45) /* up to 2^48 ns, three days; all above is in the last */
#endif

typedef struct twill__histogram {
    _Atomic uint64_t longest;
    _Atomic uint32_t count[TWILL__CLASSES];
} twill__histogram;

typedef struct twill__histogram_sum {
    uint64_t total, longest;
    uint64_t count[TWILL__CLASSES];
} twill__histogram_sum;

static inline unsigned twill__class_of(uint64_t ns)
{
    unsigned octave, at;
    if (ns < 16)
        return (unsigned)ns;
    octave = 63 - (unsigned)__builtin_clzll(ns);
    at = (octave - 3) * 16 + (unsigned)(ns >> (octave - 4) & 15);
    return at < TWILL__CLASSES ? at : TWILL__CLASSES - 1;
}

/* The longest duration of a class. */
static inline uint64_t twill__class_end(unsigned at)
{
    unsigned octave = at / 16 + 3;
    if (at < 16)
        return at;
    return ((uint64_t)(16 + at % 16 + 1) << (octave - 4)) - 1;
}

/* By the owner, before a count would begin at 0 again: all are halved, so that percentiles stay. */
static __attribute__((noinline, cold)) void twill__histogram_halve(twill__histogram *histogram)
{
    for (unsigned i = 0; i < TWILL__CLASSES; i++) { /* relaxed: as below */
        uint32_t count = atomic_load_explicit(&histogram->count[i], memory_order_relaxed);
        atomic_store_explicit(&histogram->count[i], count - count / 2, memory_order_relaxed);
    }
}

/* By the owner. Relaxed: statistics, with nothing behind them. */
static inline void twill__histogram_add(twill__histogram *histogram, uint64_t ns)
{
    _Atomic uint32_t *count = &histogram->count[twill__class_of(ns)];
    if (atomic_load_explicit(count, memory_order_relaxed) == UINT32_MAX)
        twill__histogram_halve(histogram);
    atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    if (ns > atomic_load_explicit(&histogram->longest, memory_order_relaxed))
        atomic_store_explicit(&histogram->longest, ns, memory_order_relaxed);
}

/* Relaxed: as above. */
static inline void twill__histogram_sum_up(twill__histogram_sum *sum,
                                           const twill__histogram *histogram)
{
    uint64_t longest = atomic_load_explicit(&histogram->longest, memory_order_relaxed);
    if (longest > sum->longest)
        sum->longest = longest;
    for (unsigned i = 0; i < TWILL__CLASSES; i++) {
        uint32_t count = atomic_load_explicit(&histogram->count[i], memory_order_relaxed);
        sum->count[i] += count;
        sum->total += count;
    }
}

/* The least duration that `percent` of all do not exceed, up to a class. 0: there are none. */
static inline twill_ns twill__percentile(const twill__histogram_sum *sum, unsigned percent)
{
    uint64_t rank = (sum->total * percent + 99) / 100, seen = 0;
    for (unsigned i = 0; i < TWILL__CLASSES; i++) {
        seen += sum->count[i];
        if (seen && seen >= rank) {
            uint64_t end = twill__class_end(i);
            return (twill_ns)(end < sum->longest && i < TWILL__CLASSES - 1 ? end : sum->longest);
        }
    }
    return 0;
}

#endif

/* ---- engine/tasks.h ---- */
/* tasks.h: what a pool has still to do: in order of arrival, by priorities that age, and later. */
#ifndef TWILL__ENGINE_TASKS_H
#define TWILL__ENGINE_TASKS_H

/* ---- engine/tasks_ring.h ---- */
/* tasks_ring.h: what a pool has still to do: the record of it, and the ring, from which tasks are
   taken without the lock. */
#ifndef TWILL__ENGINE_TASKS_RING_H
#define TWILL__ENGINE_TASKS_RING_H

/* All of it under the owner's lock, but for two things. While it is not held (twill__todos_hold),
   any thread may take the oldest task with one compare-and-swap on `head`. Everything else that a
   task can be taken by holds first: one bit in `head`, and those without the lock find nothing.
   Letting go moves all positions on by a whole turn of the ring, so that whoever has read a cell
   before cannot take what stands there now.

   And while it is not shut (twill__todos_shut), any thread may come in at the door: one
   compare-and-swap sets a bit in `tail`, and until a plain store moves the tail on, it alone pushes
   and writes what else is guarded by the door. One read-modify-write a push: for the holder of the
   lock, who shuts the door first, the two together are one lock. Whoever finds the door taken or
   shut waits at the lock instead. To hold is to shut, too.

   While all priorities are 0 the tasks stand in a ring in order of arrival. One taken out of the
   middle leaves a hole, which is passed over; a ring that is full of holes is pushed together, so
   that holes cost a constant time each. The first task of another priority turns the ring into a
   heap, keyed by `queued - priority * ageing`: the key never changes while time passes, so ageing
   needs no sorting, and equal keys go by number. An empty heap is a ring again. */

/* Places of a ring: of the smallest, and, where no more than that may wait, of the first; beyond,
   it grows with what does wait. */
#ifndef TWILL__FIRST_PLACES /* the explorer wants fewer; powers of 2 */
#define TWILL__FIRST_PLACES 64
#define TWILL__EARLY_PLACES 4096
#endif

typedef struct
    twill__todo_entry { /* of a task that can be taken out of the middle, or has a timer */
    /* in the ring or the heap, + 1; 0: it has not been there. Relaxed: under the lock, or a
       guess */
    _Atomic uint64_t place;
    size_t timer; /* its place in the timer heap + 1; 0: none */
    twill_ns when;
} twill__todo_entry;

typedef struct twill__todo {
    twill_task_fn *fn; /* NULL: `arg` is the entry of a record */
    void *arg, *context;
    size_t index;   /* its number */
    uint64_t stamp; /* ticks at its acceptance; 0: not measured */
} twill__todo;

typedef struct twill__keyed {
    int64_t key;
    twill__todo todo;
} twill__keyed;

/* A place of the ring. Who takes without the lock reads it before he knows that it is his: all
   relaxed. */
typedef struct twill__todo_cell {
    _Atomic(twill_task_fn *) fn;
    _Atomic(void *) arg;
    _Atomic(void *) context;
    _Atomic uint64_t number; /* 2 * index; + 1: it was measured */
} twill__todo_cell;

typedef struct twill__todo_ring {
    struct twill__todo_ring *older; /* too small by now; who is late may still read there */
    size_t size;                    /* a power of 2 */
    twill__todo_cell *cell;
    _Atomic uint64_t *stamp; /* of those that were measured */
} twill__todo_ring;

#define TWILL__HOLD   ((uint64_t)1 << 63) /* in `head`: nobody takes without the lock */
#define TWILL__SHUT   ((uint64_t)1 << 63) /* in `tail`: nobody comes in without the lock */
#define TWILL__INSIDE ((uint64_t)1 << 62) /* in `tail`: somebody has come in, and is at it */

typedef struct twill__todos {
    /* by who is inside, or, while shut, under the lock */
    _Alignas(TWILL__LINE) _Atomic uint64_t tail;
    uint64_t seen; /* the head as it was some time ago, or is, while held */
    /* by who takes */
    _Alignas(TWILL__LINE) _Atomic uint64_t head; /* held: TWILL__HOLD, and `seen` says where */
    /* by nobody, for long: read by both */
    _Alignas(TWILL__LINE) _Atomic(twill__todo_ring *) ring;
    _Atomic size_t size; /* the ring's, for those who may come after its end */
    _Atomic bool shut;   /* or to be shut as soon as who is inside has left; under the lock */
    bool held;           /* under the lock, as all that follows */
    bool keyed, mixed;   /* now by keys; there were priorities at some time */
    bool newest_first;
    size_t holes;
    twill__keyed *heap;
    size_t heap_length, heap_room;
    twill_ns ageing; /* TWILL_FOREVER: never */
    twill__todo_entry **timers;
    size_t timer_count, timer_room;
    _Alignas(TWILL__LINE) char other_line; /* what follows is written by others */
} twill__todos;

/* NULL: no memory. */
static inline twill__todo_ring *twill__todo_ring_make(size_t size)
{
    size_t cell = sizeof(twill__todo_cell) + sizeof(uint64_t);
    twill__todo_ring *ring;
    if (size > (SIZE_MAX - sizeof *ring - TWILL__LINE) / cell)
        return NULL;
    ring = (twill__todo_ring *)TWILL_MALLOC(sizeof *ring + TWILL__LINE + size * cell);
    if (!ring)
        return NULL;
    ring->older = NULL;
    ring->size = size;
    ring->cell = (twill__todo_cell *)(void *)((char *)(ring + 1) +
                                              (TWILL__LINE - (uintptr_t)(ring + 1) % TWILL__LINE) %
                                                  TWILL__LINE);
    ring->stamp = (_Atomic uint64_t *)(void *)(ring->cell + size);
    return ring;
}

static inline bool twill__todos_init(twill__todos *todos, size_t capacity, bool newest_first,
                                     twill_ns ageing)
{
    twill__todo_ring *ring;
    size_t size = TWILL__FIRST_PLACES;
    memset(todos, 0, sizeof *todos);
    while (size < capacity && size < TWILL__EARLY_PLACES)
        size *= 2;
    ring = twill__todo_ring_make(size);
    atomic_init(&todos->ring, ring);
    atomic_init(&todos->size, size);
    atomic_init(&todos->head, TWILL__HOLD);
    atomic_init(&todos->tail, TWILL__SHUT);
    atomic_init(&todos->shut, true);
    todos->held = true;
    todos->newest_first = newest_first;
    todos->ageing = ageing ? ageing : TWILL_SEC(1);
    return ring != NULL;
}

static inline void twill__todos_free(twill__todos *todos)
{
    /* relaxed, here and below: written under the lock */
    twill__todo_ring *ring = atomic_load_explicit(&todos->ring, memory_order_relaxed), *older;
    for (; ring; ring = older) {
        older = ring->older;
        TWILL_FREE(ring);
    }
    TWILL_FREE(todos->heap);
    TWILL_FREE(todos->timers);
    atomic_store_explicit(&todos->ring, NULL, memory_order_relaxed);
    todos->heap = NULL;
    todos->timers = NULL;
}

static inline void *twill__larger(void *old, size_t used, size_t bytes)
{
    void *fresh = TWILL_MALLOC(bytes);
    if (fresh && used)
        memcpy(fresh, old, used);
    if (fresh)
        TWILL_FREE(old);
    return fresh;
}

static inline void twill__todo_placed(const twill__todo *todo, uint64_t place)
{
    if (!todo->fn)
        atomic_store_explicit(&((twill__todo_entry *)todo->arg)->place, place,
                              memory_order_relaxed);
}

static inline uint64_t twill__todo_place(const twill__todo_entry *entry)
{
    return atomic_load_explicit(&entry->place, memory_order_relaxed);
}

static inline bool twill__is_hole(const twill__todo *todo)
{
    return !todo->fn && !todo->arg;
}

/* ---- the ring ---- */

#define TWILL__CELLS_AHEAD  8  /* cells */
#define TWILL__STAMPS_AHEAD 16 /* stamps: two lines */

static inline twill__todo_ring *twill__todos_ring(const twill__todos *todos)
{
    return atomic_load_explicit(&todos->ring, memory_order_relaxed); /* under the lock */
}

/* For those who write it; else a guess. */
static inline uint64_t twill__todos_tail(const twill__todos *todos)
{
    return atomic_load_explicit(&todos->tail, memory_order_relaxed) &
           ~(TWILL__SHUT | TWILL__INSIDE);
}

/* For all others. */
static inline uint64_t twill__todos_tail_now(const twill__todos *todos)
{
    /* acquire: pairs with the release in twill__todos_tail_to */
    return atomic_load_explicit(&todos->tail, memory_order_acquire) &
           ~(TWILL__SHUT | TWILL__INSIDE);
}

/* Under the lock and shut. */
static inline void twill__todos_tail_to(twill__todos *todos, uint64_t position)
{
    /* release: pairs with the acquire of who takes */
    atomic_store_explicit(&todos->tail, position | TWILL__SHUT, memory_order_release);
}

static inline void twill__todo_put(twill__todo_ring *ring, uint64_t position,
                                   const twill__todo *todo)
{
    size_t at = (size_t)(position & (ring->size - 1));
    twill__todo_cell *cell = &ring->cell[at];
    uint64_t number = 2 * (uint64_t)todo->index;
    if (todo->stamp) {
        number++;
        atomic_store_explicit(&ring->stamp[at], todo->stamp, memory_order_relaxed);
    }
    atomic_store_explicit(&cell->fn, todo->fn, memory_order_relaxed);
    atomic_store_explicit(&cell->arg, todo->arg, memory_order_relaxed);
    atomic_store_explicit(&cell->context, todo->context, memory_order_relaxed);
    atomic_store_explicit(&cell->number, number, memory_order_relaxed);
}

static inline __attribute__((always_inline)) void
twill__todo_read(twill__todo_ring *ring, uint64_t position, twill__todo *todo)
{
    size_t at = (size_t)(position & (ring->size - 1));
    twill__todo_cell *cell = &ring->cell[at];
    uint64_t number = atomic_load_explicit(&cell->number, memory_order_relaxed);
    todo->fn = atomic_load_explicit(&cell->fn, memory_order_relaxed);
    todo->arg = atomic_load_explicit(&cell->arg, memory_order_relaxed);
    todo->context = atomic_load_explicit(&cell->context, memory_order_relaxed);
    todo->index = (size_t)(number / 2);
    todo->stamp = number & 1 ? atomic_load_explicit(&ring->stamp[at], memory_order_relaxed) : 0;
}

/* ---- the door ---- */

#define TWILL__DOOR_NAP 50000 /* ns: who is inside has lost his CPU, and may need ours */

static inline bool twill__todos_are_shut(const twill__todos *todos)
{
    /* written under the lock; without it, a guess */
    return atomic_load_explicit(&todos->shut, memory_order_relaxed);
}

/* Without the lock: from now on this thread alone pushes, until twill__todos_leave. False: another
   one does, or the door is shut. Its CAS is what somebody who goes to sleep is compared with: he is
   counted, then looks at the tail; we set the tail, then look for who is counted. */
static inline bool twill__todos_enter(twill__todos *todos, uint64_t *tail)
{
    /* a guess for the CAS */
    *tail = atomic_load_explicit(&todos->tail, memory_order_relaxed);
    return !twill__todos_are_shut(todos) && !(*tail & (TWILL__SHUT | TWILL__INSIDE)) &&
           atomic_compare_exchange_strong_explicit(&todos->tail, tail, *tail | TWILL__INSIDE,
                                                   memory_order_seq_cst, memory_order_relaxed);
}

/* The tail is there now; the last access. */
static inline void twill__todos_leave(twill__todos *todos, uint64_t tail)
{
    /* release: pairs with the acquire of who takes, comes in next, or shuts */
    atomic_store_explicit(&todos->tail, tail, memory_order_release);
}

/* Under the lock: from now on its holder alone pushes, until the door is opened. Who is inside is
   waited for: he is about to leave, unless he has lost his CPU. */
static inline void twill__todos_shut(twill__todos *todos)
{
    static const _Atomic uint32_t never;
    unsigned yields = 0;
    uint64_t tail;
    if (twill__todos_are_shut(todos))
        return;
    atomic_store_explicit(&todos->shut, true, memory_order_relaxed); /* seen soon enough */
    tail = atomic_load_explicit(&todos->tail, memory_order_relaxed); /* a guess for the CAS */
    for (unsigned looks = 1;; looks++) { /* exit: who is inside leaves, and few come after him */
        tail &= ~TWILL__INSIDE;
        /* acquire: what those who were inside have written */
        if (atomic_compare_exchange_weak_explicit(&todos->tail, &tail, tail | TWILL__SHUT,
                                                  memory_order_acquire, memory_order_relaxed))
            return;
        if (TWILL__SPIN && looks % 64 != 0)
            twill__pause();
        else if (yields++ < 16)
            twill__yield();
        else
            (void)twill__park(&never, 0, twill__clock_now() + TWILL__DOOR_NAP);
    }
}

/* Under the lock, not held: others may push again. */
static inline void twill__todos_open(twill__todos *todos)
{
    atomic_store_explicit(&todos->shut, false, memory_order_relaxed); /* a guess for others */
    /* release: pairs with twill__todos_enter */
    atomic_store_explicit(&todos->tail, twill__todos_tail(todos), memory_order_release);
}

/* From now on the lock's holder alone takes tasks, until it lets go. */
static inline void twill__todos_hold(twill__todos *todos)
{
    if (todos->held)
        return;
    twill__todos_shut(todos);
    todos->held = true;
    /* acquire: what those who took before have written (twill__todos_take) comes before this */
    todos->seen = atomic_fetch_or_explicit(&todos->head, TWILL__HOLD, memory_order_acquire);
}

/* Whether there are places enough for that: each letting go takes a whole turn, which for a large
   ring is 2^61 places after months. Then it stays held, and all goes by the lock. */
static inline bool twill__todos_may_let_go(const twill__todos *todos)
{
    return twill__todos_tail(todos) < TWILL__INSIDE / 2;
}

static inline void twill__todos_let_go(twill__todos *todos)
{
    uint64_t turn = twill__todos_ring(todos)->size;
    todos->held = false;
    todos->seen += turn;
    twill__todos_tail_to(todos, twill__todos_tail(todos) + turn);
    /* release: pairs with the acquire of who takes: it sees both, or none */
    atomic_store_explicit(&todos->head, todos->seen, memory_order_release);
}

/* Inside, or under the lock and shut: looks how far those who take without the lock have come. */
static inline void twill__todos_see(twill__todos *todos)
{
    if (!todos->held) /* acquire: a cell is filled again only after it was read */
        todos->seen = atomic_load_explicit(&todos->head, memory_order_acquire);
}

/* Likewise: places of the ring that are taken, at most; exact while held, or after a look just
   now. */
static inline size_t twill__todos_span(const twill__todos *todos)
{
    return (size_t)(twill__todos_tail(todos) - todos->seen);
}

/* Inside: whether there is room for one more, where `most` may wait. */
static inline bool twill__todos_fits(twill__todos *todos, uint64_t tail, size_t most)
{
    size_t room = twill__todos_ring(todos)->size;
    if (most < room)
        room = most;
    if (tail - todos->seen >= room)
        twill__todos_see(todos);
    return tail - todos->seen < room;
}

/* Under the lock and shut: how many wait at most; exactly so many while held. */
static inline size_t twill__todos_at_most(const twill__todos *todos)
{
    return todos->keyed ? todos->heap_length : twill__todos_span(todos) - todos->holes;
}

/* Under the lock: how many wait; if it is not held, at the moment of the call, and who is just
   inside has not come yet. */
static inline size_t twill__todos_length(const twill__todos *todos)
{
    uint64_t head;
    if (todos->held)
        return twill__todos_at_most(todos);
    head = atomic_load_explicit(&todos->head, memory_order_acquire); /* first: it only follows */
    return (size_t)(twill__todos_tail_now(todos) - head);
}

/* Under the lock, by who has just counted himself among the idle, or off what others count on:
   whether there is nothing. Whoever is inside just now is waited for: he may not have seen it. */
static inline bool twill__todos_are_empty(twill__todos *todos)
{
    /* seq_cst: see twill__todos_enter */
    if (atomic_load_explicit(&todos->tail, memory_order_seq_cst) & TWILL__INSIDE)
        twill__todos_shut(todos);
    return twill__todos_length(todos) == 0;
}

typedef struct twill__taker { /* a thread that takes without the lock */
    /* as they were some time ago: their line is the pushers' */
    uint64_t tail;
    twill__todo_ring *ring; /* while head is in these TWILL__FIRST_PLACES: */
    uint64_t page;          /* + 1; 0: not known */
    /* the record that may be this thread's, before it is: who holds, sees it */
    _Atomic(twill__todo_entry *) claim;
    const twill__todo_entry *ahead; /* a guess: a record whose turn it will be soon, or NULL */
    uint64_t next;                  /* its last place, + 1 */
    bool beside;                    /* a guess: others have taken some since */
} twill__taker;

#define TWILL__TAKES_AHEAD 3

/* The lines of a record were another core's: it is named early enough to fetch them. */
static inline void twill__todo_look_ahead(twill__todo_ring *ring, uint64_t head,
                                          twill__taker *taker)
{
    const twill__todo_cell *cell = &ring->cell[(head + TWILL__TAKES_AHEAD) & (ring->size - 1)];
    taker->ahead = NULL;
    if ((int64_t)(taker->tail - head) > TWILL__CELLS_AHEAD)
        __builtin_prefetch(&ring->cell[(head + TWILL__CELLS_AHEAD) & (ring->size - 1)]);
    if ((int64_t)(taker->tail - head) > TWILL__TAKES_AHEAD &&
        !atomic_load_explicit(&cell->fn, memory_order_relaxed))
        taker->ahead =
            (const twill__todo_entry *)atomic_load_explicit(&cell->arg, memory_order_relaxed);
}

/* A guess, without the lock, and also after the end: how many stood before it, when so many had
   been taken; of those that have been taken, it is about the size of the ring. */
static inline size_t twill__todos_before(const twill__todos *todos, const twill__todo_entry *entry,
                                         uint64_t head)
{
    size_t size = atomic_load_explicit(&todos->size, memory_order_relaxed);
    return (size_t)(twill__todo_place(entry) - 1 - head) & (size - 1);
}

/* Letting go moves the head on by a whole turn: so within as many places as the smallest ring has
   it is the same ring. acquire: what it points to. One that is too old or too new is found out by
   the CAS. */
static inline twill__todo_ring *twill__taker_ring(const twill__todos *todos, twill__taker *taker,
                                                  uint64_t head)
{
    uint64_t page = head / TWILL__FIRST_PLACES + 1;
    if (taker->page != page) {
        taker->ring = atomic_load_explicit(&todos->ring, memory_order_acquire);
        taker->page = page;
    }
    return taker->ring;
}

/* A guess, without the pushers' line: whether it knows of more. */
static inline bool twill__todos_known(const twill__todos *todos, const twill__taker *taker)
{
    uint64_t head = atomic_load_explicit(&todos->head, memory_order_relaxed);
    return !(head & TWILL__HOLD) && (int64_t)(taker->tail - head) > 0;
}

/* A guess, as below: as long as the taker knows of more, the pushers' line is left alone. */
static inline bool twill__todos_wait(const twill__todos *todos, twill__taker *taker)
{
    if (!twill__todos_known(todos, taker))
        taker->tail = twill__todos_tail_now(todos);
    return twill__todos_known(todos, taker);
}

/* Whether something stands at the head, or came after that. The tail goes back only while held, and
   then the head passes what it was. */
static inline bool twill__todos_reach(const twill__todos *todos, twill__taker *taker, uint64_t head)
{
    if ((int64_t)(taker->tail - head) <= 0)
        taker->tail = twill__todos_tail_now(todos);
    return (int64_t)(taker->tail - head) > 0;
}

/* Without the lock: the oldest. False: there is none, or it is held. */
static inline bool twill__todos_take(twill__todos *todos, twill__todo *todo, twill__taker *taker)
{
    /* acquire, here and in the CAS: pairs with twill__todos_let_go */
    uint64_t head = atomic_load_explicit(&todos->head, memory_order_acquire);
    for (;;) { /* exit: taken, or nothing there; each turn is another's take */
        twill__todo_ring *ring;
        if (head & TWILL__HOLD || !twill__todos_reach(todos, taker, head))
            return false;
        ring = twill__taker_ring(todos, taker, head);
        twill__todo_read(ring, head, todo);
        /* relaxed: the CAS publishes it, to twill__todos_hold */
        atomic_store_explicit(&taker->claim, todo->fn ? NULL : (twill__todo_entry *)todo->arg,
                              memory_order_relaxed);
        /* release: the cell was read before it is filled again (twill__todos_see) */
        if (atomic_compare_exchange_weak_explicit(&todos->head, &head, head + 1,
                                                  memory_order_acq_rel, memory_order_acquire)) {
            taker->beside = head != taker->next;
            taker->next = head + 1;
            twill__todo_look_ahead(ring, head, taker);
            return true;
        }
    }
}

/* Without the lock: whether the oldest is that entry's. Then what was known of its record before
   the call that put it there, is known here; and as long as *head stays, it stands there. False
   also: it is held. */
static inline bool twill__todos_next_is(const twill__todos *todos, const twill__todo_entry *entry,
                                        twill__taker *taker, uint64_t *head)
{
    const twill__todo_cell *cell;
    twill__todo_ring *ring;
    *head = atomic_load_explicit(&todos->head, memory_order_acquire); /* as in twill__todos_take */
    if (*head & TWILL__HOLD || !twill__todos_reach(todos, taker, *head))
        return false;
    ring = twill__taker_ring(todos, taker, *head);
    cell = &ring->cell[*head & (ring->size - 1)];
    return !atomic_load_explicit(&cell->fn, memory_order_relaxed) &&
           atomic_load_explicit(&cell->arg, memory_order_relaxed) == entry;
}

/* After that: takes it, if it still stands there. */
static inline bool twill__todos_take_it(twill__todos *todos, twill__todo_entry *entry,
                                        twill__taker *taker, uint64_t head)
{
    /* as in twill__todos_take */
    atomic_store_explicit(&taker->claim, entry, memory_order_relaxed);
    return atomic_compare_exchange_strong_explicit(&todos->head, &head, head + 1,
                                                   memory_order_acq_rel, memory_order_relaxed);
}

/* A guess, without the lock. */
static inline bool twill__todos_are_held(const twill__todos *todos)
{
    return atomic_load_explicit(&todos->head, memory_order_relaxed) & TWILL__HOLD;
}

/* Pushes the ring together; into a larger one if `fresh` is not NULL. */
static inline void twill__todos_ring_pack(twill__todos *todos, twill__todo_ring *fresh)
{
    twill__todo_ring *ring = twill__todos_ring(todos), *into = fresh ? fresh : ring;
    uint64_t to, tail = twill__todos_tail(todos);
    twill__todos_hold(todos);
    to = todos->seen;
    for (uint64_t from = todos->seen; from != tail; from++) {
        twill__todo todo;
        twill__todo_read(ring, from, &todo);
        if (twill__is_hole(&todo))
            continue;
        twill__todo_put(into, to, &todo);
        twill__todo_placed(&todo, (to & (into->size - 1)) + 1);
        to++;
    }
    todos->holes = 0;
    twill__todos_tail_to(todos, to);
    if (fresh) {
        fresh->older = ring;
        /* release: pairs with the acquire in twill__todos_take */
        atomic_store_explicit(&todos->ring, fresh, memory_order_release);
        atomic_store_explicit(&todos->size, fresh->size, memory_order_relaxed); /* a figure */
    }
}

/* Under the lock and shut: room for `count` more. */
static inline bool twill__todos_ring_room(twill__todos *todos, size_t count)
{
    size_t size = twill__todos_ring(todos)->size, used;
    twill__todo_ring *fresh;
    if (count <= size && twill__todos_span(todos) <= size - count)
        return true;
    twill__todos_see(todos);
    if (count <= size && twill__todos_span(todos) <= size - count)
        return true;
    used = twill__todos_span(todos) - todos->holes;
    if (todos->holes && count <= size / 2 && used <= size / 2) {
        twill__todos_ring_pack(todos, NULL);
        return true;
    }
    /* twice as large: if it was only pushed together, it would soon have to be again, and the old
       one stays. Enough: each who comes asks for one more than there was room for */
    if (size > SIZE_MAX / 2)
        return false;
    TWILL_ASSERT(2 * size - used >= count);
    fresh = twill__todo_ring_make(2 * size);
    if (!fresh)
        return false;
    twill__todos_ring_pack(todos, fresh);
    return true;
}

/* Held: no hole at either end. */
static inline void twill__todos_ring_trim(twill__todos *todos)
{
    twill__todo_ring *ring = twill__todos_ring(todos);
    uint64_t head = todos->seen, tail = twill__todos_tail(todos);
    twill__todo todo;
    for (; todos->holes; head++, todos->holes--) { /* no more of them than places */
        twill__todo_read(ring, head, &todo);
        if (!twill__is_hole(&todo))
            break;
    }
    for (; todos->holes; tail--, todos->holes--) {
        twill__todo_read(ring, tail - 1, &todo);
        if (!twill__is_hole(&todo))
            break;
    }
    todos->seen = head;
    twill__todos_tail_to(todos, tail);
}

#endif

/* ---- the heap ---- */

static inline bool twill__before(const twill__todos *todos, const twill__keyed *a,
                                 const twill__keyed *b)
{
    if (a->key != b->key)
        return a->key < b->key;
    return todos->newest_first ? a->todo.index > b->todo.index : a->todo.index < b->todo.index;
}

static inline void twill__heap_set(twill__todos *todos, size_t at, const twill__keyed *keyed)
{
    todos->heap[at] = *keyed;
    twill__todo_placed(&keyed->todo, at + 1);
}

/* Puts `keyed` in at `at` or where it belongs above or below. */
static inline void twill__heap_settle(twill__todos *todos, size_t at, const twill__keyed *keyed)
{
    for (; at > 0 && twill__before(todos, keyed, &todos->heap[(at - 1) / 2]); at = (at - 1) / 2)
        twill__heap_set(todos, at, &todos->heap[(at - 1) / 2]);
    for (size_t child; (child = 2 * at + 1) < todos->heap_length; at = child) {
        if (child + 1 < todos->heap_length &&
            twill__before(todos, &todos->heap[child + 1], &todos->heap[child]))
            child++;
        if (!twill__before(todos, &todos->heap[child], keyed))
            break;
        twill__heap_set(todos, at, &todos->heap[child]);
    }
    twill__heap_set(todos, at, keyed);
}

static inline twill__todo twill__heap_take(twill__todos *todos, size_t at)
{
    twill__todo todo = todos->heap[at].todo;
    todos->heap_length--;
    if (at < todos->heap_length) {
        twill__keyed last = todos->heap[todos->heap_length];
        twill__heap_settle(todos, at, &last);
    }
    if (!todos->heap_length)
        todos->keyed = false;
    twill__todo_placed(&todo, 0);
    return todo;
}

static inline bool twill__heap_room(twill__todos *todos, size_t count)
{
    size_t room = todos->heap_room ? todos->heap_room : 64;
    void *fresh;
    if (count <= todos->heap_room)
        return true;
    while (room < count)
        room *= 2;
    if (room > SIZE_MAX / sizeof *todos->heap ||
        !(fresh = twill__larger(todos->heap, todos->heap_length * sizeof *todos->heap,
                                room * sizeof *todos->heap)))
        return false;
    todos->heap = (twill__keyed *)fresh;
    todos->heap_room = room;
    return true;
}

static inline int64_t twill__key_of(const twill__todos *todos, twill_ns queued, int priority)
{
    double key;
    if (todos->newest_first || todos->ageing == TWILL_FOREVER)
        return -(int64_t)priority;
    key = (double)queued - (double)priority * (double)todos->ageing;
    if (key >= 9e18 || key <= -9e18) /* too far away for a number: the priority alone decides */
        return (key > 0 ? INT64_C(9000000000000000000) : -INT64_C(9000000000000000000)) - priority;
    return queued - (int64_t)priority * todos->ageing;
}

/* When a stamp was taken. */
static inline twill_ns twill__stamp_ns(uint64_t stamp, uint64_t rate, uint64_t ticks, twill_ns now)
{
    uint64_t age = ticks > stamp ? ticks - stamp : 0; /* counters may differ by a little */
    return now - (twill_ns)((double)age * 1024 / (double)rate);
}

/* From the ring into the heap. Those that were not measured count as queued with the one before. */
static inline void twill__todos_sort(twill__todos *todos, uint64_t rate)
{
    uint64_t ticks = twill__ticks(), tail = twill__todos_tail(todos);
    twill_ns now = twill__clock_now(), last = 1;
    twill__todos_hold(todos);
    todos->keyed = true;
    for (uint64_t from = todos->seen; from != tail; from++) {
        twill__keyed keyed;
        twill__todo_read(twill__todos_ring(todos), from, &keyed.todo);
        if (twill__is_hole(&keyed.todo))
            continue;
        if (keyed.todo.stamp) {
            twill_ns at = twill__stamp_ns(keyed.todo.stamp, rate, ticks, now);
            if (at > last)
                last = at;
        }
        keyed.key = twill__key_of(todos, last, 0);
        todos->heap_length++;
        twill__heap_settle(todos, todos->heap_length - 1, &keyed);
    }
    todos->holes = 0;
    todos->seen = tail;
}

/* ---- both ---- */

/* Room for one more, in a heap, too, if it has a priority or others had one; beside `promised`
   others that may come. False: no memory. */
static inline bool twill__todos_room(twill__todos *todos, bool mixed, size_t promised)
{
    return twill__todos_ring_room(todos, promised + 1) &&
           (!mixed || twill__heap_room(todos, twill__todos_length(todos) + promised + 1));
}

/* Room for so many timers. False: no memory. */
static inline bool twill__timer_space(twill__todos *todos, size_t count)
{
    size_t room = todos->timer_room ? 2 * todos->timer_room : 16;
    void *fresh;
    if (count <= todos->timer_room)
        return true;
    if (room > SIZE_MAX / sizeof *todos->timers ||
        !(fresh = twill__larger(todos->timers, todos->timer_count * sizeof *todos->timers,
                                room * sizeof *todos->timers)))
        return false;
    todos->timers = (twill__todo_entry **)fresh;
    todos->timer_room = room;
    return true;
}

/* By who is inside, or under the lock and shut; there is room in the ring. */
static inline void twill__todos_fill(twill__todos *todos, uint64_t tail, const twill__todo *todo)
{
    twill__todo_ring *ring = twill__todos_ring(todos);
    twill__todo_placed(todo, (tail & (ring->size - 1)) + 1);
    twill__todo_put(ring, tail, todo);
    twill__prefetch(&ring->cell[(tail + TWILL__CELLS_AHEAD) & (ring->size - 1)]);
    if (todo->stamp)
        twill__prefetch(&ring->stamp[(tail + TWILL__STAMPS_AHEAD) & (ring->size - 1)]);
}

/* After twill__todos_room. queued: matters with priorities alone; 0: now. */
static inline void twill__todos_push(twill__todos *todos, const twill__todo *todo, int priority,
                                     twill_ns queued, uint64_t rate)
{
    if (priority != 0 && !todos->keyed)
        twill__todos_sort(todos, rate);
    if (todos->keyed) {
        twill__keyed keyed;
        keyed.todo = *todo;
        keyed.key = twill__key_of(todos, queued ? queued : twill__clock_now(), priority);
        todos->heap_length++;
        twill__heap_settle(todos, todos->heap_length - 1, &keyed);
    } else {
        uint64_t tail = twill__todos_tail(todos);
        twill__todos_fill(todos, tail, todo);
        twill__todos_tail_to(todos, tail + 1);
    }
}

static inline twill__todo twill__todos_ring_pop(twill__todos *todos, bool last)
{
    twill__todo_ring *ring = twill__todos_ring(todos);
    uint64_t tail = twill__todos_tail(todos);
    twill__todo todo;
    if (last) {
        twill__todo_read(ring, tail - 1, &todo);
        twill__todos_tail_to(todos, tail - 1);
    } else {
        twill__todo_read(ring, todos->seen, &todo);
        todos->seen++;
    }
    twill__todos_ring_trim(todos);
    return todo;
}

/* Held: the next one to run; length > 0. */
static inline twill__todo twill__todos_pop(twill__todos *todos)
{
    return todos->keyed ? twill__heap_take(todos, 0)
                        : twill__todos_ring_pop(todos, todos->newest_first);
}

/* Held: the oldest, or the newest; length > 0. In a heap it is looked for. */
static inline twill__todo twill__todos_drop(twill__todos *todos, bool newest)
{
    size_t at = 0;
    if (!todos->keyed)
        return twill__todos_ring_pop(todos, newest);
    for (size_t i = 1; i < todos->heap_length; i++)
        if ((todos->heap[i].todo.index > todos->heap[at].todo.index) == newest)
            at = i;
    return twill__heap_take(todos, at);
}

/* Held: whether it waits: one that was pushed may have been taken. */
static inline bool twill__todos_have(const twill__todos *todos, const twill__todo_entry *entry)
{
    twill__todo_ring *ring = twill__todos_ring(todos);
    size_t at =
        (size_t)twill__todo_place(entry) - 1; /* of an old place: then another stands there */
    twill__todo todo;
    if (todos->keyed)
        return at < todos->heap_length && !todos->heap[at].todo.fn &&
               todos->heap[at].todo.arg == entry;
    if (((at - todos->seen) & (ring->size - 1)) >= twill__todos_span(todos))
        return false;
    twill__todo_read(ring, at, &todo);
    return !todo.fn && todo.arg == entry;
}

/* Held: out of the middle. */
static inline void twill__todos_remove(twill__todos *todos, twill__todo_entry *entry)
{
    static const twill__todo hole;
    uint64_t at = twill__todo_place(entry) - 1;
    if (todos->keyed) {
        (void)twill__heap_take(todos, (size_t)at);
        return;
    }
    twill__todo_put(twill__todos_ring(todos), at, &hole);
    todos->holes++;
    twill__todos_ring_trim(todos);
}

/* The stamp of the task that has waited longest, as far as it was measured; 0: not known. There
   is one. */
static inline uint64_t twill__todos_oldest(twill__todos *todos)
{
    uint64_t oldest = 0;
    if (!todos->keyed) {
        twill__todo todo;
        twill__todo_read(twill__todos_ring(todos), todos->seen, &todo);
        return todo.stamp;
    }
    for (size_t i = 0; i < todos->heap_length; i++)
        if (todos->heap[i].todo.stamp && (!oldest || todos->heap[i].todo.stamp < oldest))
            oldest = todos->heap[i].todo.stamp;
    return oldest;
}

/* ---- timers ---- */

static inline void twill__timer_settle(twill__todos *todos, size_t at, twill__todo_entry *entry)
{
    twill__todo_entry **heap = todos->timers;
    for (; at > 0 && entry->when < heap[(at - 1) / 2]->when; at = (at - 1) / 2) {
        heap[at] = heap[(at - 1) / 2];
        heap[at]->timer = at + 1;
    }
    for (size_t child; (child = 2 * at + 1) < todos->timer_count; at = child) {
        if (child + 1 < todos->timer_count && heap[child + 1]->when < heap[child]->when)
            child++;
        if (heap[child]->when >= entry->when)
            break;
        heap[at] = heap[child];
        heap[at]->timer = at + 1;
    }
    heap[at] = entry;
    entry->timer = at + 1;
}

/* After twill__timer_space. */
static inline void twill__timer_set(twill__todos *todos, twill__todo_entry *entry, twill_ns when)
{
    size_t at = entry->timer ? entry->timer - 1 : todos->timer_count++;
    entry->when = when;
    twill__timer_settle(todos, at, entry);
}

static inline void twill__timer_stop(twill__todos *todos, twill__todo_entry *entry)
{
    size_t at = entry->timer - 1;
    if (!entry->timer)
        return;
    entry->timer = 0;
    todos->timer_count--;
    if (at < todos->timer_count)
        twill__timer_settle(todos, at, todos->timers[todos->timer_count]);
}

/* The earliest instant; TWILL_FOREVER: none. */
static inline twill_ns twill__timer_next(const twill__todos *todos)
{
    return todos->timer_count ? todos->timers[0]->when : TWILL_FOREVER;
}

#endif

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

/* ---- engine/wakes.h ---- */
/* wakes.h: whom to wake after a turn under a lock. */
#ifndef TWILL__ENGINE_WAKES_H
#define TWILL__ENGINE_WAKES_H

typedef struct twill__wakes {
    unsigned count; /* 0 at the begin of a turn */
    const void *word[16];
} twill__wakes;

/* One that finds no room is woken at once: under the lock, but soon enough. */
static inline void twill__wakes_add(twill__wakes *wakes, const void *word)
{
    if (wakes->count < sizeof wakes->word / sizeof wakes->word[0])
        wakes->word[wakes->count++] = word;
    else
        twill__wake(word, 1);
}

/* After the unlock. Who waited may be gone by now: a wake does not read its address. */
static inline void twill__wakes_send(const twill__wakes *wakes)
{
    for (unsigned k = 0; k < wakes->count; k++)
        twill__wake(wakes->word[k], 1);
}

/* twill__grant with an answer. */
static inline bool twill__wakes_grant(twill__wakes *wakes, twill__list *list, twill__node *node,
                                      int answer)
{
    const void *word = &node->word;
    node->answer = answer;
    if (!twill__grant(list, node))
        return false;
    twill__wakes_add(wakes, word);
    return true;
}

/* Answers all who wait; one that leaves is passed. */
static inline void twill__wakes_grant_all(twill__wakes *wakes, twill__list *list, int answer)
{
    /* ends: one that leaves is put at the end once */
    for (twill__node *node = list->first, *next; node; node = next) {
        next = node->next;
        (void)twill__wakes_grant(wakes, list, node, answer);
    }
}

#endif

/* ---- platform/tempo.h ---- */
/* tempo.h: how fast the tick counter runs, as the monotonic clock has it: for who asks for the time
   millions of times a second. */
#ifndef TWILL__PLATFORM_TEMPO_H
#define TWILL__PLATFORM_TEMPO_H

/* A reading of the clock is a reading of the counter, a fence in front of it, and a conversion; the
   counter alone costs half. So the clock is read once in a while, with the counter around it: an
   anchor. For the next TWILL__TEMPO_SPAN ticks (some 0.1 ms) the time is the anchor's and the ticks
   since, at the tempo that older anchors had. Nothing is assumed about the counter but what each
   anchor shows anew:
   - the clock was read within TWILL__TEMPO_WIDTH ns: so it is the counter that the kernel's own
     clock reads, and the thread was not interrupted. An anchor says too little by as much;
   - the tempo comes from two anchors that are 4096 times as far apart as their readings took.
   So within a span the time is right to 0.3 us; it may go back by as much at the next anchor. With
   a counter that has jumped, or that differs from one CPU to the other, it is wrong for one span,
   by no more than a span. */
#ifndef TWILL__TEMPO
#if TWILL__TICKS && defined __x86_64__
#define TWILL__TEMPO 1
#else
#define TWILL__TEMPO 0 /* all readings are the clock's */
#endif
#endif

enum {
    TWILL__TEMPO_SPAN = 1 << 18,
    TWILL__TEMPO_WIDTH = 256,
    TWILL__TEMPO_APART = 4096,
    TWILL__TEMPO_LONG = 1 << 28 /* ticks after which a tempo is measured from a new anchor */
};
#define TWILL__TEMPO_ONE  (UINT64_C(1) << 32) /* 1 ns a tick; slower counters do not pay */
#define TWILL__TEMPO_LOST (UINT64_C(1) << 32) /* ticks, or ns, after which nothing is known */

/* Zeroed: nothing is known. One thread at a time. */
typedef struct TWILL__VIEW twill__tempo {
    uint64_t factor;      /* ns a tick, times 2^32; 0: not known */
    uint64_t tick, width; /* the anchor that it is measured from */
    twill_ns clock;
} twill__tempo;

/* The clock was read between two ticks. True: that is an anchor, at the later one, and me->factor
   says how to go on from there. */
static inline bool twill__tempo_anchor(twill__tempo *me, twill_ns clock, uint64_t before,
                                       uint64_t after)
{
    uint64_t width = after - before, ticks = after - me->tick;
    uint64_t time = (uint64_t)clock - (uint64_t)me->clock;
    bool lost = !me->clock || ticks >= TWILL__TEMPO_LOST || time >= TWILL__TEMPO_LOST;
    if (width >= TWILL__TEMPO_LONG)
        return false;
    if (lost)
        me->factor = 0;
    else if (ticks > TWILL__TEMPO_APART * (width + me->width))
        me->factor = (time << 32) / ticks;
    if (lost || ticks >= TWILL__TEMPO_LONG) {
        me->tick = after;
        me->width = width;
        me->clock = clock;
    }
    return me->factor && me->factor <= TWILL__TEMPO_ONE &&
           width * me->factor >> 32 < TWILL__TEMPO_WIDTH;
}

/* A clock made of that. Zeroed: not wound up. One thread at a time. */
typedef struct TWILL__VIEW twill__ticker {
    twill__tempo tempo;
    uint64_t tick; /* the last anchor */
    twill_ns now;
    bool runs; /* from it */
} twill__ticker;

static __attribute__((noinline, cold)) twill_ns twill__ticker_anchor(twill__ticker *me)
{
    uint64_t before = twill__ticks();
    me->now = twill__clock_now();
    me->tick = twill__ticks();
    me->runs = twill__tempo_anchor(&me->tempo, me->now, before, me->tick);
    return me->now;
}

/* The counter for twill__ticker_at, a little later; 0: it is not used here. */
static inline uint64_t twill__ticker_read(void)
{
    return TWILL__TEMPO ? twill__ticks() : 0;
}

/* The time when the counter was read, just now. (Before the last anchor: then it is now.) */
static inline twill_ns twill__ticker_at(twill__ticker *me, uint64_t ticks)
{
    uint64_t since = ticks - me->tick;
    if (!TWILL__TEMPO)
        return twill__clock_now();
    if (!me->runs || since >= TWILL__TEMPO_SPAN)
        return twill__ticker_anchor(me);
    return me->now + (twill_ns)(since * me->tempo.factor >> 32);
}

static inline twill_ns twill__ticker_now(twill__ticker *me)
{
    return twill__ticker_at(me, twill__ticker_read());
}

#endif

/* One lock guards the pool. Its tasks wait in engine/tasks.h; its threads are a team
   (engine/team.h) whose main loop looks for tasks, too, so that one set of threads serves tasks and
   parallel calls. Taking a task out of the queue decides who answers for it: a worker, a waiter
   that helps, a cancel, a drop policy, a timer, the end. No user code runs under the lock.

   A busy worker takes its next task without the lock (twill__worker_goes_on), and a task comes in
   without it (twill__order_joins), as long as there is nothing but the order of arrival to mind
   (twill__pool_in_order, twill__pool_open). Whatever else there is to mind, a pause, a time, a
   sender that waits for room, holds the queue first: then all take the lock. A worker reports its
   ended tasks when it takes the lock again, which it does before it is idle.

   Who runs a plain task himself because the queue is full (CALLER_RUNS), or a task that he waits
   for because it is the next one, takes no lock, if he finds a stand-in free.

   A task without future and without options but the context is plain: it lives in the queue's cell
   alone. Any other one is a twill__errand, a record of engine/record.h. */

#define TWILL__QUICK 1000 /* ns: to call somebody for such a task costs more than the task */
#define TWILL__TINY  64   /* ns: two who take such tasks side by side are slower than one */
#define TWILL__TURN  128  /* ns: of the pool itself, between two tasks with a future */

typedef enum twill__counted {
    TWILL__N_STARTED,
    TWILL__N_DONE,
    TWILL__N_FAILED,
    TWILL__N_TIMED_OUT,
    TWILL__N_CANCELLED,
    TWILL__N_DROPPED,
    TWILL__N_LOST,
    TWILL__N_CALLER_RAN,
    TWILL__N_INLINED, /* plain ones among them */
    TWILL__TALLIES
} twill__counted;

typedef enum twill__whereabouts {
    TWILL__NOWHERE,
    TWILL__LATER, /* not before its start_at */
    TWILL__READY,
    TWILL__RUNNING
} twill__whereabouts;

typedef enum twill__stage {
    TWILL__UNTOLD,
    TWILL__BEGUN,       /* STARTED was told */
    TWILL__ENDED_UNTOLD /* before that: who tells STARTED tells ENDED, too */
} twill__stage;

struct twill__pool;
struct twill__hand;

/* A task that is not plain. Its `outcome` has what was known at its submission (index, key, queued)
   and then (started), before it has ended. `where` is a twill__whereabouts, under the pool's lock,
   as the entry is; RUNNING stays until the next use, and one that was taken without the lock stays
   READY (twill__errand_queued). `simple`: the options below are 0. `clean`: the token is the pool's
   child, and nobody has used it or come to its gate.
   `stopped`, under the pool's lock: a stop has fired its token, or is about to. */
typedef struct twill__errand {
    twill__record record;
    struct twill__pool *pool;
    struct twill__errand *below; /* that the same runner is in the middle of */
    twill__todo_entry entry;
    /* of those that a stop, the watch are about to end: each takes a task once */
    struct twill__errand *stop_chain, *stuck_chain;
    bool timed; /* it has, or will have, a timer */
    /* set at submission */
    int priority;
    twill_ns start_at, start_by, timeout;
    void (*on_done)(const twill_outcome *outcome, void *result, const twill_task *task);
    twill_drop_fn *drop;
    twill_discard_fn *discard;
    int code;               /* for it: what the callback returned, however that counts */
    twill_cancel token;     /* task->until.cancel */
    twill_cancel_hook hook; /* on the pool's token, if the task has one of its own, too */
    bool hooked;
    _Atomic uint32_t gate; /* of those who fire the token */
    /* with on_event: a twill__stage, so that STARTED is told before ENDED, whoever says the
       latter */
    _Atomic uint32_t stage;
} twill__errand;

/* A thread that runs tasks: a worker, or one that helps, or has to run its own. */
typedef struct twill__hand {
    twill__call call; /* first: task->private_ */
    struct twill__pool *pool;
    struct twill__hand *next, *previous; /* of the pool; under the lock */
    struct twill__hand *outer;           /* what this thread was before; its own */
    /* its claim is the innermost record that it runs, or is about to take: by the owner, under the
       lock or before a take without it. relaxed: whoever reads it has the lock, and holds the
       queue */
    twill__taker taker;
    /* under the lock */
    bool busy, plain; /* `plain`: its outermost task is */
    bool told /* that it is stuck */, given_up;
    size_t forgiven;  /* tasks that nobody waits for any more */
    unsigned blocked; /* regions of twill_task_block_begin */
    twill_ns since;   /* it is busy; only in a pool with a watch */
    size_t index;     /* of that task */
    void *about;      /* its context, if it is plain */
    /* its own */
    unsigned worker, workers;       /* `workers`: as tasks are told; copied under the lock */
    bool outside, fired;            /* not a worker; `fired`: under the lock */
    struct twill__stand_in *stands; /* of a stand-in: that */
    bool looks;                     /* counted in `looking`; its own */
    twill__self *self;              /* the thread that is it */
    void *state, *context;
    unsigned said, depth;       /* TWILL__SAID_...; tasks on its stack */
    size_t ended;               /* tasks that the pool does not know of yet */
    size_t number, numbers_end; /* for inlined tasks: the next, and the end of those reserved */
    twill_ns now; /* the end of the last task, if the next one begins at once; else 0 */
    twill__ticker ticker;
    twill_cancel token;    /* of plain tasks */
    _Atomic uint32_t gate; /* of those who fire it */
    /* relaxed, by the owner: statistics */
    _Atomic uint64_t tally[TWILL__TALLIES];
    twill__histogram *waited, *ran; /* NULL: not kept */
} twill__hand;

/* What those outside run a task as, without the lock: a plain one at once, because the queue is
   full, or the next one of the queue, for which they wait. Runners that stay, so that it takes two
   steps. The pool's lock comes in only while somebody looks: who waits for the pool, or has closed
   it. */
#ifndef TWILL__STAND_INS   /* the explorer wants fewer */
#define TWILL__STAND_INS 4 /* a thread has one of them, if no other one uses it just now */
#endif
enum { TWILL__STANDING = 1, TWILL__WATCHED = 2 }; /* of stand_in.word */

typedef struct twill__stand_in {
    /* STANDING: it runs a task; WATCHED: it ends, or would begin, under the lock */
    _Alignas(TWILL__LINE) _Atomic uint32_t word;
    /* relaxed: so many tasks of its thread go on without a look whether there is room by now */
    _Atomic uint32_t runs_on;
    _Atomic uint64_t over; /* tasks of the queue that it has run: see twill__pool_unfinished */
    twill__hand runner;
} twill__stand_in;

typedef enum twill__life {
    TWILL__NO_THREAD_YET,
    TWILL__COMING, /* started, and not through worker_start */
    TWILL__LIVE,
    TWILL__GIVEN_UP /* its task is stuck; it is not counted any more */
} twill__life;

typedef struct twill__everyone { /* one twill_pool_each_worker */
    struct twill__everyone *next;
    twill_task_fn *fn;
    void *arg;
    twill_until until;
    uint64_t number;
    unsigned left, inside, failed;
} twill__everyone;

typedef struct twill__worker {
    twill__hand runner;
    void *memory;
    twill__life life; /* under the lock, as all down to each_seen */
    twill__thrd thread, past;
    bool has_past;       /* a thread that has left, and was not joined */
    bool going;          /* counted in the pool's `going` */
    bool woke;           /* it comes from sleep: its own, as the next */
    bool naps;           /* counted in the pool's `napping` */
    uint64_t naps_since; /* what was submitted then */
    bool gives_way;      /* another one is enough: its own, as the next two */
    twill_ns naps_at;    /* its nap began then, */
    uint64_t naps_taken; /* after so many tasks */
    twill_ns idle_since;
    uint64_t each_seen;
    twill__everyone *each; /* that it is in; its own */
    /* its own; relaxed for readers */
    _Atomic uint64_t born, idle_ticks;
    twill__histogram waited, ran;
} twill__worker;

typedef struct twill__pool {
    twill_pool head; /* first: what others know of it */
    _Alignas(TWILL__LINE) _Atomic uint32_t lock;
    /* under the lock */
    bool paused, closed; /* closed: to those outside */
    bool sealed;         /* to tasks, too */
    bool ending;         /* a stop has begun: it sees to what is left */
    bool leaving;        /* workers go when there is nothing to do */
    bool forsaken, gone; /* twill_pool_abandon; the memory goes */
    bool telling, is_high;
    twill__todos todos;
    size_t later, reserved; /* tasks that wait for their time; that are on their way in */
    size_t timed;           /* works with timers, set or to be set */
    uint64_t over;          /* of those that were submitted; see twill__pool_unfinished */
    uint64_t refused, level_turns, level_told, each_number;
    twill__list senders;     /* who wait for room */
    twill__list watchers;    /* who wait for something to change */
    unsigned visitors;       /* calls in either */
    _Atomic uint32_t waited; /* calls in the latter; written under the lock */
    twill__everyone *each;
    twill__hand *runners;
    twill__worker **worker; /* by number */
    unsigned numbers;       /* entries of it */
    unsigned least, most;   /* workers wanted; at most */
    unsigned going;         /* workers that have decided to leave, and still count as live */
    unsigned live, coming, abandoned, outside, blocked, live_peak;
    twill_ns failed_at;                  /* the last thread that could not be started; 0: none */
    twill_ns grown_at, cpu_at, cpu_then; /* growth: the last one; the last look at the CPU clock */
    twill__thrd watch;
    bool has_watch, watch_ends;
    _Atomic twill_ns watch_until; /* it sleeps until then; 0: it does not */
    /* the task that was measured last took less than TWILL__QUICK, TWILL__TINY */
    _Atomic bool quick, tiny;
    /* relaxed: plain tasks whose number has one of these bits are not measured */
    _Atomic size_t sample;
    /* while the queue is held, a guess for who is full anyway, else 0; written under the lock */
    _Atomic size_t used;
    /* workers that are about to take the lock and look: they count themselves before they publish
       an outcome, so whoever has seen it, and submits, need call nobody */
    _Atomic uint32_t looking;
    _Atomic uint32_t napping; /* idle workers that look again soon, unasked */
    _Atomic bool on_way;      /* an idle worker was called, and has not looked yet */
    _Atomic uint32_t watch_word;
    /* relaxed: counts of threads that are no runners */
    _Atomic uint64_t tally[TWILL__TALLIES];
    /* by who is inside (twill__todos_enter), or, while shut, under the lock */
    _Alignas(TWILL__LINE) size_t next_index;
    size_t peak;
    size_t lingering;           /* submits that look for room out there; they come back */
    twill__ticker ticker;       /* of those who come in */
    _Atomic uint64_t submitted; /* relaxed for others: see twill__pool_unfinished */
    /* relaxed: how many numbers of workers there may be, as tasks are told; under the lock */
    _Alignas(TWILL__LINE) _Atomic unsigned told;
    /* set at creation */
    size_t capacity;
    twill_pool_options options;
    char name[16];
    uint64_t tick_scale; /* ns in 2^20 ticks */
    twill__core *core;
    twill__team team;
    twill__stand_in stand_in[TWILL__STAND_INS];
} twill__pool;

/* ---- where this thread is ---- */

static inline twill__pool *twill__pool_of(twill_pool *pool)
{
    return (twill__pool *)(void *)pool;
}

static inline bool twill__pool_here(const twill__pool *pool)
{
    return twill__team_here(&pool->team);
}

/* What this thread runs tasks of this pool as; NULL: it is none of its runners. */
static inline twill__hand *twill__hand_here(const twill__pool *pool)
{
    twill__hand *runner = (twill__hand *)twill__thread()->runner;
    while (runner && runner->pool != pool)
        runner = runner->outer;
    return runner;
}

/* What a thread that is in a callback of the pool's, but not in a task, has to do for it afterwards
   (engine/duty.h). */
enum {
    TWILL__LEAVE = 1, /* a call that the end waits for */
    TWILL__END_TASK,  /* it, or what depends on it, is in this thread's hands */
    TWILL__FREE_WORKER,
    TWILL__BE_WORKER
}; /* or the watch */

/* Whether this thread is a part of something that the pool's end waits for. */
static inline bool twill__pool_inside(const twill__pool *pool)
{
    const twill__self *self = twill__thread();
    if (self->team == &pool->team || twill__hand_here(pool) ||
        twill__duty_to(pool) >= TWILL__BE_WORKER)
        return true;
    for (const twill__job *job = self->job; job; job = job->outer)
        if (job->team == &pool->team || job->from == &pool->team)
            return true;
    for (const twill__record *record = (const twill__record *)self->record; record;
         record = record->outer)
        if (record->core == pool->core)
            return true;
    return false;
}

/* Whether this thread works for a call that was made by a task of the pool, whatever threads the
   call has: then that task waits for it. */
static inline bool twill__pool_counts_on_us(const twill__pool *pool)
{
    for (const twill__job *job = twill__thread()->job; job; job = job->outer)
        if (job->from == &pool->team)
            return true;
    return false;
}

/* ---- tokens that end while others may fire them ---- */

#define TWILL__GATE_SHUT 0x80000000u

/* Fires, unless the token's owner has done with it; who comes to the gate first is waited for. */
static inline void twill__gate_fire(const twill__pool *pool, _Atomic uint32_t *gate,
                                    twill_cancel *token, int reason)
{
    if (!(atomic_fetch_add_explicit(gate, 1, memory_order_seq_cst) & TWILL__GATE_SHUT)) {
        twill__duty_begin(pool, NULL, TWILL__FREE_WORKER); /* in hooks of the token */
        twill_cancel_fire(token, reason);
        twill__duty_over();
    }
    if (atomic_fetch_sub_explicit(gate, 1, memory_order_seq_cst) == (TWILL__GATE_SHUT | 1))
        twill__wake(gate, 1); /* the owner */
}

/* The owner's: nobody fires any more. */
static inline void twill__gate_shut(_Atomic uint32_t *gate)
{
    uint32_t word =
        atomic_fetch_or_explicit(gate, TWILL__GATE_SHUT, memory_order_seq_cst) | TWILL__GATE_SHUT;
    while (word != TWILL__GATE_SHUT) { /* exit: hooks return */
        if (!twill__spin(gate, word, TWILL__SPIN_WAIT, TWILL__SPIN_YIELDS))
            twill__park(gate, word, 0);
        word = atomic_load_explicit(gate, memory_order_seq_cst);
    }
}

/* ---- counts ---- */

static inline bool twill__hand_is_busy(const twill__hand *runner)
{
    /* seq_cst: a stop has set WATCHED before it looks, so none begins after that */
    return runner->busy ||
           (runner->stands &&
            atomic_load_explicit(&runner->stands->word, memory_order_seq_cst) & TWILL__STANDING);
}

/* How many numbers there are, or may come to be. */
static inline unsigned twill__pool_told(const twill__pool *pool)
{
    return atomic_load_explicit(&pool->told, memory_order_relaxed); /* a number */
}

static inline void twill__count(twill__pool *pool, twill__hand *runner, twill__counted what)
{
    if (runner)
        atomic_store_explicit(&runner->tally[what],
                              atomic_load_explicit(&runner->tally[what], memory_order_relaxed) + 1,
                              memory_order_relaxed);
    else
        atomic_fetch_add_explicit(&pool->tally[what], 1, memory_order_relaxed);
}

static inline twill__counted twill__counted_of(twill_status status)
{
    switch (status) {
    case TWILL_OK:
        return TWILL__N_DONE;
    case TWILL_TIMEOUT:
        return TWILL__N_TIMED_OUT;
    case TWILL_CANCELLED:
    case TWILL_CLOSED:
        return TWILL__N_CANCELLED;
    case TWILL_DROPPED:
        return TWILL__N_DROPPED;
    case TWILL_LOST:
        return TWILL__N_LOST;
    default:
        return TWILL__N_FAILED;
    }
}

static inline uint64_t twill__ticks_ns(const twill__pool *pool, uint64_t ticks)
{
    return (ticks >> 20) * pool->tick_scale + ((ticks & 0xfffff) * pool->tick_scale >> 20);
}

/* Whether the task of that number is. relaxed: a guess */
static inline bool twill__pool_measures(const twill__pool *pool, size_t index)
{
    return !(index & atomic_load_explicit(&pool->sample, memory_order_relaxed));
}

/* ---- a turn under the lock ---- */

typedef struct twill__turn { /* what to do after it */
    unsigned call;           /* idle workers to call */
    bool watch;              /* wake the watch */
    bool level;              /* tell the level */
    twill__wakes wakes;
    twill__errand *late;  /* a work whose time is over: to be ended */
    twill__errand *stale; /* pinned: running, and over time */
} twill__turn;

static inline void twill__turn_begin(twill__pool *pool, twill__turn *turn)
{
    turn->call = turn->wakes.count = 0;
    turn->watch = turn->level = false;
    turn->late = turn->stale = NULL;
    twill__lock(&pool->lock);
}

static inline void twill__pool_free(twill__pool *pool);

/* Under the lock: whether a stand-in runs a task. Then its end will come to the lock, and change
   something. */
static inline bool twill__pool_stood_in(twill__pool *pool)
{
    bool busy = false;
    for (unsigned i = 0; i < TWILL__STAND_INS; i++) {
        _Atomic uint32_t *stands = &pool->stand_in[i].word;
        /* seq_cst: see twill__stand_in_ends; acquire: pairs with its end, at which it finds the
           bit */
        uint32_t word = atomic_load_explicit(stands, memory_order_seq_cst);
        if (word == TWILL__STANDING)
            (void)atomic_compare_exchange_strong_explicit(
                stands, &word, TWILL__STANDING | TWILL__WATCHED, memory_order_acquire,
                memory_order_acquire);
        busy = busy || word & TWILL__STANDING;
    }
    return busy;
}

/* Whether nobody will ever come back to an abandoned pool. */
static inline bool twill__pool_empty(twill__pool *pool)
{
    return pool->forsaken && !pool->gone && !pool->live && !pool->abandoned && !pool->outside &&
           !pool->visitors && !pool->lingering && !pool->has_watch && !twill__pool_stood_in(pool);
}

/* Whether workers may take tasks without the lock: none of what they would overlook is there.
   Whoever brings such a thing about, holds the queue. */
static inline bool twill__pool_in_order(const twill__pool *pool)
{
    const twill__todos *todos = &pool->todos;
    return !todos->keyed && !todos->holes && !todos->newest_first && !pool->timed &&
           !pool->paused && !pool->sealed && !pool->each && !pool->senders.first &&
           !pool->has_watch && !pool->options.on_level && pool->live - pool->going <= pool->most;
}

/* Under the lock: whether a task is accepted, and not over. Whoever reports that a task is over has
   seen that it was accepted. First the stand-ins: what their tasks submitted is seen then. And
   `submitted` last: so the sum never passes it, and if they are equal, they were equal before. */
static inline bool twill__pool_unfinished(twill__pool *pool)
{
    uint64_t over = pool->over;
    if (twill__pool_stood_in(pool))
        return true;
    for (unsigned i = 0; i < TWILL__STAND_INS; i++)
        /* acquire: pairs with the release in twill__stand_in_ends */
        over += atomic_load_explicit(&pool->stand_in[i].over, memory_order_acquire);
    return atomic_load_explicit(&pool->submitted, memory_order_relaxed) != over;
}

/* How many workers are not inside a region that blocks. */
static inline unsigned twill__pool_active(const twill__pool *pool)
{
    return pool->live > pool->blocked ? pool->live - pool->blocked : 0;
}

/* Whether others may push without the lock: what they would overlook is not there either.
   Whoever brings such a thing about, shuts the door. */
static inline bool twill__pool_open(const twill__pool *pool)
{
    return !pool->closed && !pool->reserved &&
           /* nobody would have to start a thread */
           (pool->live >= pool->most || twill__pool_active(pool) >= pool->least);
}

static inline size_t twill__pool_used(twill__pool *pool)
{
    return twill__todos_length(&pool->todos) + pool->later + pool->reserved;
}

/* Whether there is no room. One look at how far the workers have come is spared as long as there
   was room when somebody looked last: they make more. */
static inline bool twill__pool_full(twill__pool *pool)
{
    size_t beside = pool->later + pool->reserved;
    return twill__todos_at_most(&pool->todos) + beside >= pool->capacity &&
           twill__pool_used(pool) >= pool->capacity;
}

/* At the end of a turn in which the queue was shut, and perhaps held. */
static inline void twill__pool_unhold(twill__pool *pool)
{
    size_t used = 0;
    if (pool->todos.held) {
        if (twill__pool_in_order(pool) && twill__todos_may_let_go(&pool->todos))
            twill__todos_let_go(&pool->todos);
        else if (!pool->sealed)
            used = twill__pool_used(pool);
        atomic_store_explicit(&pool->used, used, memory_order_relaxed); /* a guess for others */
    }
    if (!pool->todos.held && twill__pool_open(pool))
        twill__todos_open(&pool->todos);
}

/* Calls workers for what has come up, and the watch. The pool is there. */
static inline void twill__turn_call(twill__pool *pool, twill__turn *turn)
{
    if (turn->call)
        twill__call_helpers(&pool->team, turn->call);
    if (turn->watch) {
        /* relaxed: see twill__watch_looks */
        atomic_fetch_add_explicit(&pool->watch_word, 1, memory_order_relaxed);
        twill__wake(&pool->watch_word, 1);
    }
    turn->call = 0;
    turn->watch = false;
}

/* Unlocks, and does what is left to do, but for `level`, `late` and `stale`. The pool may be gone
   then, if the caller is not a part of it: who has left it calls before (twill__turn_call). */
static inline void twill__turn_end(twill__pool *pool, twill__turn *turn)
{
    bool last = twill__pool_empty(pool);
    if (twill__todos_are_shut(&pool->todos))
        twill__pool_unhold(pool);
    if (last)
        pool->gone = true;
    twill__unlock(&pool->lock);
    if (last) {
        twill__pool_free(pool);
        turn->call = 0;
        turn->watch = false;
    }
    twill__turn_call(pool, turn);
    twill__wakes_send(&turn->wakes);
}

/* Something has changed that somebody may wait for: all look again. */
static inline void twill__pool_changed(twill__pool *pool, twill__turn *turn)
{
    while (pool->watchers.first) {
        twill__node *node = pool->watchers.first;
        _Atomic uint32_t *word = &node->word;
        twill__list_remove(&pool->watchers, node);
        /* acq_rel: pairs with twill__wait; whoever leaves finds that it is not listed */
        node->answer = TWILL_OK;
        atomic_fetch_or_explicit(word, TWILL__GRANTED, memory_order_acq_rel);
        twill__wakes_add(&turn->wakes, word);
    }
}

/* A visitor leaves for good: the destroyer may wait for it. */
static inline void twill__pool_left(twill__pool *pool, twill__turn *turn)
{
    pool->visitors--;
    twill__pool_changed(pool, turn);
}

/* Waits under the lock, which it lets go meanwhile, until `there` says so. */
static inline twill_status twill__pool_await(twill__pool *pool, twill__turn *turn,
                                             twill_until until,
                                             bool (*there)(twill__pool *pool, const void *data),
                                             const void *data)
{
    twill_status status = TWILL_OK;
    pool->visitors++;
    /* before the first look: see twill__stand_in_ends */
    atomic_fetch_add_explicit(&pool->waited, 1, memory_order_seq_cst);
    while (status == TWILL_OK && !there(pool, data)) { /* exit: there, or the wait is over */
        twill__node me;
        twill__node_init(&me);
        me.answer = TWILL_EMPTY;
        twill__list_append(&pool->watchers, &me);
        twill__turn_end(pool, turn);
        status = twill__wait(&me, until);
        twill__turn_begin(pool, turn);
        if (status != TWILL_OK && me.answer == TWILL_EMPTY)
            twill__list_remove(&pool->watchers, &me);
    }
    if (status != TWILL_OK && there(pool, data))
        status = TWILL_OK;
    atomic_fetch_sub_explicit(&pool->waited, 1, memory_order_relaxed); /* one too many costs time */
    twill__pool_left(pool, turn);
    return status;
}

/* ---- the level of the queue ---- */

/* After the queue has grown or shrunk, under the lock. While the door is open it has only shrunk,
   by us, and nobody wants to know. */
static inline void twill__pool_level(twill__pool *pool, twill__turn *turn)
{
    size_t length;
    if (twill__todos_are_shut(&pool->todos) && !pool->todos.held)
        twill__todos_see(&pool->todos);
    else if (!pool->todos.held)
        return;
    length = twill__todos_length(&pool->todos) + pool->later;
    if (length > pool->peak)
        pool->peak = length;
    if (!pool->options.on_level)
        return;
    if (pool->is_high ? length <= pool->options.low_mark : length >= pool->options.high_mark) {
        pool->is_high = !pool->is_high;
        pool->level_turns++;
        turn->level = true;
    }
}

/* After the turn: tells each edge once, in turn; one thread at a time tells all there are. */
static inline void twill__pool_tell_level(twill__pool *pool)
{
    twill_task task = {SIZE_MAX, pool->options.run.context, UINT_MAX, 0, NULL, {0, NULL}, NULL};
    twill__turn turn;
    twill__turn_begin(pool, &turn);
    if (!pool->telling) {
        pool->telling = true;
        pool->visitors++;
        while (pool->level_told != pool->level_turns) { /* exit: all told */
            bool high = pool->level_told++ % 2 == 0;
            size_t length = twill__todos_length(&pool->todos) + pool->later;
            twill__turn_end(pool, &turn);
            twill__duty_begin(pool, NULL, TWILL__LEAVE);
            pool->options.on_level(high, length, &task);
            twill__duty_over();
            twill__turn_begin(pool, &turn);
        }
        pool->telling = false;
        twill__pool_left(pool, &turn);
    }
    twill__turn_end(pool, &turn);
}

/* ---- events ---- */

static inline twill_task twill__task_about(const twill__pool *pool, size_t index, void *context)
{
    twill_task task = {index, context, UINT_MAX, 0, NULL, {0, NULL}, NULL};
    (void)pool;
    return task;
}

static inline void twill__event(twill__pool *pool, twill_event event, twill_status status,
                                size_t index, void *key, unsigned worker, const twill_task *task)
{
    twill_task_info info;
    if (!pool->options.on_event)
        return;
    info.event = event;
    info.status = status;
    info.index = index;
    info.key = key;
    info.worker = worker;
    info.when = twill__clock_now();
    pool->options.on_event(&info, task);
}

#endif

static inline twill__errand *twill__errand_of(twill__record *record)
{
    return (twill__errand *)(void *)record;
}

static inline twill__errand *twill__errand_at(const twill__todo_entry *entry)
{
    return (twill__errand *)(void *)((char *)(uintptr_t)entry - offsetof(twill__errand, entry));
}

/* The innermost record that a runner runs, or NULL; see there. */
static inline twill__errand *twill__hand_work(const twill__hand *runner)
{
    twill__todo_entry *entry = atomic_load_explicit(&runner->taker.claim, memory_order_relaxed);
    return entry ? twill__errand_at(entry) : NULL;
}

static inline void twill__hand_on(twill__hand *runner, twill__errand *work)
{
    atomic_store_explicit(&runner->taker.claim, work ? &work->entry : NULL, memory_order_relaxed);
}

/* ---- how it ended ---- */

/* By the one who says so. */
static inline void twill__errand_ends(twill__errand *work, twill_status status, int code,
                                      unsigned worker, twill_ns finished)
{
    twill_outcome *outcome = &work->record.outcome;
    outcome->status = status;
    outcome->code = status == TWILL_FAILED ? code : 0;
    outcome->worker = worker;
    outcome->attempts = outcome->started ? 1 : 0;
    outcome->finished = finished;
}

static inline void twill__errand_event(twill__pool *pool, const twill__errand *work,
                                       const twill_task *task)
{
    const twill_outcome *outcome = &work->record.outcome;
    twill__duty_begin(pool, &work->record, 0);
    twill__event(pool, TWILL_EVENT_ENDED, outcome->status, outcome->index, outcome->key,
                 outcome->worker, task);
    twill__duty_over();
}

static inline void twill__errand_done(twill__pool *pool, twill__hand *runner, twill__errand *work,
                                      bool returned, const twill_task *task)
{
    const twill_outcome *outcome = &work->record.outcome;
    twill__count(pool, runner, twill__counted_of(outcome->status));
    if (!work->record.simple && work->on_done) {
        twill__duty_begin(pool, &work->record, 0);
        work->on_done(outcome, returned ? work->record.result : NULL, task);
        twill__duty_over();
    }
}

/* What everybody is told before the future wakes: counts, on_done, the event. */
static inline void twill__errand_told(twill__pool *pool, twill__hand *runner, twill__errand *work,
                                      bool returned, const twill_task *task)
{
    twill__errand_done(pool, runner, work, returned, task);
    if (pool->options.on_event)
        twill__errand_event(pool, work, task);
}

/* Its token is of no use any more. */
static inline void twill__errand_quiet(twill__pool *pool, twill__errand *work)
{
    if (work->hooked)
        twill_cancel_remove_hook(pool->options.run.until.cancel, &work->hook);
    work->hooked = false;
    work->record.clean = false;
    twill__gate_shut(&work->gate);
    if (twill__token_used(twill__token_of(&work->token)))
        twill_cancel_detach(&work->token);
}

/* Fires the token of one that is pinned, and has not ended when it was looked under that pin. */
static inline void twill__errand_fire(twill__errand *work, twill_status reason)
{
    /* relaxed: whoever ends it in one step finds the pin, or this */
    atomic_fetch_or_explicit(&work->record.word, TWILL__TOUCHED, memory_order_relaxed);
    twill__gate_fire(work->pool, &work->gate, &work->token, (int)reason);
}

/* It never ran, and the caller took it out of the queue: exactly one of {fn, drop}. */
static inline void twill__errand_drop(twill__pool *pool, twill__errand *work, twill_status why)
{
    twill_task task = twill__task_about(pool, work->record.outcome.index, work->record.context);
    twill__errand_quiet(pool, work);
    twill__errand_ends(work, why, 0, UINT_MAX, twill__clock_now());
    twill__duty_begin(pool, &work->record, TWILL__END_TASK);
    if (work->drop)
        work->drop(work->record.arg, why, &task);
    twill__errand_told(pool, NULL, work, false, &task);
    twill__duty_over();
    twill__record_finish(&work->record, false);
}

static inline void twill__todo_drop(twill__pool *pool, const twill__todo *todo, twill_status why)
{
    if (!todo->fn) {
        twill__errand_drop(pool, twill__errand_at((twill__todo_entry *)todo->arg), why);
    } else {
        twill_task task = twill__task_about(pool, todo->index, todo->context);
        twill__count(pool, NULL, twill__counted_of(why));
        twill__duty_begin(pool, NULL, TWILL__END_TASK);
        twill__event(pool, TWILL_EVENT_ENDED, why, todo->index, NULL, UINT_MAX, &task);
        twill__duty_over();
    }
}

/* By its runner, who has told STARTED: tells ENDED, too, if that has come up meanwhile. */
static inline void twill__errand_begun(twill__pool *pool, twill__errand *work)
{
    twill_task task = twill__task_about(pool, work->record.outcome.index, work->record.context);
    /* acquire: pairs with twill__errand_tells: the outcome is there */
    if (atomic_exchange_explicit(&work->stage, TWILL__BEGUN, memory_order_acq_rel) ==
        TWILL__ENDED_UNTOLD)
        twill__errand_event(pool, work, &task);
}

/* Not by its runner, the outcome written. False: he tells. */
static inline bool twill__errand_tells(twill__errand *work)
{
    uint32_t untold = TWILL__UNTOLD;
    /* acq_rel: pairs with twill__errand_begun; one of the two tells ENDED */
    return !atomic_compare_exchange_strong_explicit(&work->stage, &untold, TWILL__ENDED_UNTOLD,
                                                    memory_order_acq_rel, memory_order_acquire);
}

/* It runs, and others shall not wait for its end any more. The caller has pinned it. */
static inline void twill__errand_overrule(twill__pool *pool, twill__errand *work,
                                          twill_status status)
{
    if (twill__record_settle(&work->record, false)) {
        twill_task task = twill__task_about(pool, work->record.outcome.index, work->record.context);
        twill__errand_ends(work, status, 0, UINT_MAX, twill__clock_now());
        twill__errand_done(pool, NULL, work, false, &task);
        if (pool->options.on_event && twill__errand_tells(work))
            twill__errand_event(pool, work, &task);
        twill__record_publish(&work->record, false);
    }
    twill__errand_fire(work, status);
}

/* ---- timers ---- */

/* Under the lock, when a work with timers has its last one behind it. */
static inline void twill__errand_untimed(twill__pool *pool, twill__errand *work)
{
    if (!work->timed)
        return;
    work->timed = false;
    pool->timed--;
    twill__timer_stop(&pool->todos, &work->entry);
    /* relaxed: see twill__record_due */
    atomic_store_explicit(&work->record.due, 0, memory_order_relaxed);
}

/* Somebody who sleeps must know of it: an idle worker, or the watch. */
static inline void twill__errand_timer(twill__pool *pool, twill__turn *turn, twill__errand *work,
                                       twill_ns when)
{
    twill_ns alarm = atomic_load_explicit(&pool->team.alarm, memory_order_seq_cst);
    twill__timer_set(&pool->todos, &work->entry, when);
    /* as above */
    atomic_store_explicit(&work->record.due, when, memory_order_relaxed);
    if (when < atomic_load_explicit(&pool->watch_until, memory_order_relaxed))
        turn->watch = true; /* relaxed: written under the lock */
    if (!atomic_load_explicit(&pool->team.idle, memory_order_relaxed))
        return;          /* whoever becomes idle looks under the lock */
    while (when < alarm) /* exit: set, or an earlier one is */
        if (atomic_compare_exchange_weak_explicit(&pool->team.alarm, &alarm, when,
                                                  memory_order_seq_cst, memory_order_seq_cst)) {
            turn->call++;
            return;
        }
}

static inline void twill__errand_push(twill__pool *pool, twill__turn *turn, twill__errand *work)
{
    twill__todo todo = {NULL, &work->entry, NULL, work->record.outcome.index, 0};
    if (twill__pool_measures(pool, todo.index))
        todo.stamp = twill__ticks();
    work->record.where = TWILL__READY;
    twill__todos_push(&pool->todos, &todo, work->priority, work->record.outcome.queued,
                      pool->team.tick_rate);
    if (work->start_by)
        twill__errand_timer(pool, turn, work, work->start_by);
}

/* Whether it has still to begin; under the lock, and from then on held, if it has not ended. */
static inline bool twill__errand_queued(twill__pool *pool, twill__errand *work)
{
    /* then the pool may be gone; else its end waits for this task, and so for our lock */
    if (twill__record_ended(&work->record))
        return false;
    twill__todos_hold(&pool->todos);
    return work->record.where == TWILL__LATER ||
           (work->record.where == TWILL__READY && twill__todos_have(&pool->todos, &work->entry));
}

/* Out of the queue, or of the delayed ones; under the lock. The caller answers for it now. */
static inline void twill__errand_take(twill__pool *pool, twill__errand *work)
{
    if (work->record.where == TWILL__READY)
        twill__todos_remove(&pool->todos, &work->entry);
    else
        pool->later--;
    work->record.where = TWILL__NOWHERE;
}

static inline void twill__pool_wants(twill__pool *pool, twill__turn *turn);
static inline void twill__pool_room(twill__pool *pool, twill__turn *turn);

/* Under the lock: what is due at `now`. True: one task is to be ended after the turn, and others
   may be due still. No more than one, nor beside one that is to be run: its callbacks may wait for
   the others, which are nobody's yet. */
static inline bool twill__pool_tick(twill__pool *pool, twill__turn *turn, twill_ns now)
{
    bool moved = false;
    /* exit: timers stop, or go on */
    while (!turn->late && !turn->stale && twill__timer_next(&pool->todos) <= now) {
        twill__errand *work = twill__errand_at(pool->todos.timers[0]);
        if (work->record.where == TWILL__LATER && !(work->start_by && work->start_by <= now)) {
            /* its room was taken with the order */
            pool->later--;
            twill__timer_stop(&pool->todos, &work->entry);
            atomic_store_explicit(&work->record.due, 0, memory_order_relaxed); /* as above */
            twill__errand_push(pool, turn, work);
            twill__pool_wants(pool, turn);
            moved = true;
        } else if (work->record.where == TWILL__RUNNING) {
            twill__errand_untimed(pool, work);
            if (twill__record_pin(&work->record))
                turn->stale = work;
        } else {
            twill__errand_untimed(pool, work);
            twill__errand_take(pool, work);
            turn->late = work;
            pool->visitors++; /* until it has ended: the pool stays */
            moved = true;
        }
    }
    if (moved) {
        twill__pool_level(pool, turn);
        twill__pool_room(pool, turn); /* of what is late: its callbacks may wait for some */
    }
    return turn->late || turn->stale;
}

static inline void twill__pool_ended(twill__pool *pool);

/* After the turn: ends what its tick has found, and tells the level. */
static inline void twill__turn_settle(twill__pool *pool, twill__turn *turn)
{
    twill__errand *late = turn->late, *stale = turn->stale;
    bool level = turn->level;
    turn->late = turn->stale = NULL;
    turn->level = false;
    if (late) {
        twill__errand_drop(pool, late, TWILL_TIMEOUT);
        twill__pool_ended(pool);
    }
    if (stale) {
        twill__errand_overrule(pool, stale, TWILL_TIMEOUT);
        twill__record_unpin(&stale->record);
    }
    if (level)
        twill__pool_tell_level(pool);
}

/* Its record; NULL: it is plain. */
static inline twill__errand *twill__todo_work(const twill__todo *todo)
{
    return todo->fn ? NULL : twill__errand_at((twill__todo_entry *)todo->arg);
}

/* The same by one who has taken a task out of the queue, and has still to run or to end it. `work`:
   its record, or NULL. */
static inline void twill__turn_settle_first(twill__pool *pool, twill__turn *turn,
                                            const twill__errand *work)
{
    twill__duty_begin(pool, work ? &work->record : NULL, TWILL__END_TASK);
    twill__turn_settle(pool, turn);
    twill__duty_over();
}

/* ---- room ---- */

/* Under the lock: whoever waits for room gets it, in order. */
static inline void twill__pool_room(twill__pool *pool, twill__turn *turn)
{
    for (twill__node *node = pool->senders.first, *next; node && !twill__pool_full(pool);
         node = next) {
        next = node->next;
        if (twill__wakes_grant(&turn->wakes, &pool->senders, node, TWILL_OK))
            pool->reserved++;
    }
}

/* A task is over, of one who was counted as a visitor for it. Not from a runner: it counts its
   own. */
static inline void twill__pool_ended(twill__pool *pool)
{
    twill__turn turn;
    twill__turn_begin(pool, &turn);
    pool->over++;
    twill__pool_left(pool, &turn);
    twill__turn_end(pool, &turn);
}

#endif

static inline void twill__hand_task(const twill__hand *runner, size_t index, void *context,
                                    twill_task *task)
{
    task->index = index;
    task->context = context;
    task->worker = runner->worker;
    task->workers = runner->workers;
    task->worker_state = runner->state;
    task->until.deadline = 0;
    task->until.cancel = NULL;
    task->private_ = (void *)(uintptr_t)runner;
}

/* A task took so long. relaxed: a guess */
static inline bool twill__pool_is_quick(const twill__pool *pool)
{
    return atomic_load_explicit(&pool->quick, memory_order_relaxed);
}

static inline bool twill__pool_is_tiny(const twill__pool *pool)
{
    return atomic_load_explicit(&pool->tiny, memory_order_relaxed);
}

static inline void twill__pool_took(twill__pool *pool, uint64_t ns)
{
    if (twill__pool_is_quick(pool) != (ns < TWILL__QUICK))
        atomic_store_explicit(&pool->quick, ns < TWILL__QUICK, memory_order_relaxed);
    if (twill__pool_is_tiny(pool) != (ns < TWILL__TINY))
        atomic_store_explicit(&pool->tiny, ns < TWILL__TINY, memory_order_relaxed);
}

/* Under the lock: the watch sleeps for longer than that runner's task may take. */
static inline bool twill__watch_is_late(const twill__pool *pool, const twill__hand *runner)
{
    /* relaxed: written under the lock */
    return atomic_load_explicit(&pool->watch_until, memory_order_relaxed) >
           twill__instant_after(runner->since, pool->options.stuck_after);
}

/* It has told that its task has begun: a worker's outermost one may be stuck from now on. */
static inline void twill__hand_begun(twill__pool *pool, twill__hand *runner)
{
    twill__turn turn;
    if (!pool->options.stuck_after || runner->outside || runner->depth != 1)
        return;
    twill__turn_begin(pool, &turn);
    runner->since = twill__clock_now();
    turn.watch = twill__watch_is_late(pool, runner);
    twill__turn_end(pool, &turn);
}

/* The outermost task of a worker, a plain one, is over: false: the watch has counted it as LOST.
   After this it leaves it alone. */
static inline bool twill__plain_counts(twill__pool *pool, twill__hand *runner)
{
    twill__turn turn;
    bool counts;
    if (!pool->options.stuck_after)
        return true;
    twill__turn_begin(pool, &turn);
    counts = !runner->given_up;
    runner->busy = false;
    twill__turn_end(pool, &turn);
    return counts;
}

/* It has returned `code`; `since`: 0, or its start in ticks. */
static inline void twill__plain_over(twill__pool *pool, twill__hand *runner, const twill_task *task,
                                     uint64_t since, int code, bool inlined)
{
    twill_status status = code                              ? TWILL_FAILED
                          : runner->said & TWILL__SAID_SKIP ? TWILL_CANCELLED
                                                            : TWILL_OK;
    bool counts;
    if (since && runner->ran) {
        uint64_t ns = twill__ticks_ns(pool, twill__ticks() - since);
        twill__histogram_add(runner->ran, ns);
        twill__pool_took(pool, ns);
    }
    counts = inlined || twill__plain_counts(pool, runner);
    if (counts)
        twill__count(pool, runner, twill__counted_of(status));
    if (pool->options.on_event && counts)
        twill__event(pool, TWILL_EVENT_ENDED, status, task->index, NULL, runner->worker, task);
}

/* A plain task; `inlined`: on top of another one, and never queued. False: it has forked, and this
   is the child: the parent has the pool, and nothing of it is touched any more. */
static inline bool twill__run_plain(twill__pool *pool, twill__hand *runner, const twill__todo *todo,
                                    bool inlined)
{
    void *context = runner->context;
    unsigned said = runner->said;
    uint64_t since = 0;
    twill_task task;
    bool here;
    int code;
    twill__hand_task(runner, todo->index, todo->context, &task);
    task.until.cancel = &runner->token;
    if (todo->stamp) {
        since = twill__ticks();
        if (runner->waited)
            twill__histogram_add(
                runner->waited,
                twill__ticks_ns(pool, since > todo->stamp ? since - todo->stamp : 0));
    }
    runner->said = 0;
    runner->context = todo->context;
    runner->depth++;
    twill__count(pool, runner, TWILL__N_STARTED);
    if (pool->options.on_event) {
        twill__event(pool, TWILL_EVENT_STARTED, TWILL_OK, todo->index, NULL, runner->worker, &task);
        twill__hand_begun(pool, runner);
    }
    code = todo->fn(todo->arg, NULL, &task);
    if ((here = twill__pool_here(pool)))
        twill__plain_over(pool, runner, &task, since, code, inlined);
    runner->depth--;
    runner->ended += !inlined;
    runner->now = 0;
    runner->said = said;
    runner->context = context;
    return here;
}

/* How long it may run; 0: as long as it likes. */
static inline twill_ns twill__errand_limit(const twill__errand *work)
{
    return work->record.simple ? 0 : work->timeout;
}

/* What it said, by the rules of the manual. */
static inline twill_status twill__errand_status(const twill__errand *work,
                                                const twill__hand *runner, int code, twill_ns now)
{
    twill_ns limit = twill__errand_limit(work);
    if (limit && now >= twill__instant_after(work->record.outcome.started, limit))
        return TWILL_TIMEOUT;
    if (code)
        return TWILL_FAILED;
    return runner->said & TWILL__SAID_SKIP ? TWILL_CANCELLED : TWILL_OK;
}

/* Whether nobody but its handle has come near it: then one step ends it. */
static inline bool twill__errand_is_calm(const twill__errand *work)
{
    const twill__token *token = twill__token_of(&work->token);
    return work->record.simple && !twill__token_used(token) &&
           /* relaxed: a reason from above was found by the task itself, or is another's, who leaves
              TWILL__TOUCHED */
           !atomic_load_explicit(&token->state, memory_order_relaxed);
}

/* It counts as about to look for more, unless there is more: whoever hears of the end, and submits,
   need call nobody. */
static inline void twill__hand_looks(twill__pool *pool, twill__hand *runner)
{
    if (runner->depth != 1 || runner->outside || twill__pool_is_quick(pool) ||
        twill__todos_wait(&pool->todos, &runner->taker))
        return; /* quick ones are looked for without the lock (twill__worker_searches) */
    runner->looks = true;
    /* relaxed: the end publishes it, and the pool's lock orders its own end */
    atomic_fetch_add_explicit(&pool->looking, 1, memory_order_relaxed);
}

/* Others may say that it is over, too. */
static inline void twill__errand_over_raced(twill__pool *pool, twill__hand *runner,
                                            twill__errand *work, twill_status status, int code,
                                            bool returned, const twill_task *task, twill_ns now)
{
    bool outermost = runner->depth <= 1;
    twill__errand_quiet(pool, work);
    if (work->timeout || outermost) { /* the others had their last timer before they began */
        twill__turn turn;
        twill__turn_begin(pool, &turn);
        twill__errand_untimed(pool, work);
        if (outermost) /* for the watch: it cannot be stuck any more */
            runner->busy = false;
        twill__turn_end(pool, &turn);
    }
    if (twill__record_settle(&work->record, returned)) {
        twill__errand_ends(work, status, code, runner->worker, now);
        twill__errand_told(pool, runner, work, returned, task);
        twill__record_publish(&work->record, true);
    } else {
        if (returned && work->discard) /* late: nobody can take it */
            work->discard(work->record.arg, work->record.result, code, task);
        twill__record_disown(&work->record);
    }
}

/* When the task that runs there ends: by ticks, if nothing but an outcome depends on it. No sooner
   than it began: that may be the clock's, or of an older anchor, or of whoever handed it over. */
static inline twill_ns twill__hand_now(const twill__pool *pool, twill__hand *runner,
                                       const twill__errand *work)
{
    twill_ns now, started = work->record.outcome.started;
    if (!work->record.simple || (runner->outside && !runner->stands) || pool->options.stuck_after)
        now = twill__clock_now();
    else
        now = twill__ticker_now(&runner->ticker);
    return now > started ? now : started;
}

/* The callback is over: it returned, or (LOST) ended its thread. On its runner's thread. */
static inline void twill__errand_over(twill__pool *pool, twill__hand *runner, twill__errand *work,
                                      int code, bool returned, const twill_task *task)
{
    twill_ns now = twill__hand_now(pool, runner, work);
    uint64_t took = (uint64_t)(now - work->record.outcome.started);
    twill_status status = returned ? twill__errand_status(work, runner, code, now) : TWILL_LOST;
    bool calm = returned && twill__errand_is_calm(work);
    /* it began with the end of the one before: a guess how long it took without that */
    uint64_t own = runner->now == work->record.outcome.started ? TWILL__TURN : 0;
    twill__record_left(&work->record, runner->self);
    runner->now = now;
    if (!work->record.simple)
        work->code = code;
    if (twill__pool_measures(pool, work->record.outcome.index)) {
        twill__pool_took(pool, took > own ? took - own : 0);
        if (returned && runner->ran)
            twill__histogram_add(runner->ran, took);
    }
    if (twill__errand_limit(work) || pool->options.stuck_after) {
        twill__errand_over_raced(pool, runner, work, status, code, returned, task, now);
    } else {
        if (!calm)
            twill__errand_quiet(pool, work);
        twill__errand_ends(work, status, code, runner->worker, now);
        twill__errand_told(pool, runner, work, returned, task);
        if (returned && (work->record.simple || !work->discard))
            twill__hand_looks(pool, runner);
        if (!calm || !twill__record_finish_alone(&work->record)) {
            if (calm) /* who has come meanwhile may have fired it */
                twill__errand_quiet(pool, work);
            twill__record_finish(&work->record, returned);
        }
    }
    runner->ended++;
}

/* The work was taken out of the queue for this runner (twill__hand_takes). False: as
   twill__run_plain. */
static inline bool twill__run_work(twill__pool *pool, twill__hand *runner, twill__errand *work)
{
    const twill_outcome *outcome = &work->record.outcome;
    twill_ns limit = twill__errand_limit(work);
    void *context = runner->context;
    unsigned said = runner->said;
    twill_task task;
    bool here;
    int code;
    twill__hand_task(runner, outcome->index, work->record.context, &task);
    task.until.cancel = &work->token;
    if (limit)
        task.until.deadline = twill__instant_after(outcome->started, limit);
    if (runner->waited && twill__pool_measures(pool, outcome->index))
        twill__histogram_add(runner->waited, (uint64_t)(outcome->started - outcome->queued));
    runner->said = 0;
    runner->context = work->record.context;
    runner->depth++;
    twill__count(pool, runner, TWILL__N_STARTED);
    twill__record_enter(&work->record, runner->self);
    if (pool->options.on_event) {
        twill__event(pool, TWILL_EVENT_STARTED, TWILL_OK, outcome->index, outcome->key,
                     runner->worker, &task);
        twill__errand_begun(pool, work);
        twill__hand_begun(pool, runner);
    }
    code = work->record.fn(work->record.arg, work->record.result_size ? work->record.result : NULL,
                           &task);
    if ((here = twill__pool_here(pool)))
        twill__errand_over(pool, runner, work, code, true, &task);
    else
        twill__record_left(&work->record, runner->self);
    runner->depth--;
    runner->said = said;
    runner->context = context;
    return here;
}

/* Taken out of the queue, it is this runner's now. */
static inline void twill__errand_begins(twill__hand *runner, twill__errand *work)
{
    bool simple = work->record.simple;
    /* the last one ended before this one was due, perhaps, and its time limit counts from now */
    work->record.outcome.started = runner->now && (simple || !work->timed) ? runner->now
                                   : runner->stands && simple ? twill__ticker_now(&runner->ticker)
                                                              : twill__clock_now();
    if (work->record.outcome.started < work->record.outcome.queued)
        work->record.outcome.started = work->record.outcome.queued;
    twill__record_claim(&work->record);
}

/* The same under the lock. */
static inline void twill__hand_takes(twill__pool *pool, twill__turn *turn, twill__hand *runner,
                                     twill__errand *work)
{
    twill__errand_begins(runner, work);
    work->record.where = TWILL__RUNNING;
    work->below = runner->depth ? twill__hand_work(runner) : NULL;
    twill__hand_on(runner, work);
    if (!work->timed)
        return;
    if (!work->timeout) {
        twill__errand_untimed(pool, work);
        return;
    }
    twill__errand_timer(pool, turn, work,
                        twill__instant_after(work->record.outcome.started, work->timeout));
    twill__record_stir(&work->record); /* who waits already sleeps no longer than that */
}

#endif

/* ---- a thread that is no worker, or a task on top of another ---- */

typedef struct twill__guest { /* what the clean-up needs */
    twill__pool *pool;
    twill__hand *runner;
    twill__errand *work;
    twill__team *team; /* of the thread itself: a call inside the task is this pool's meanwhile */
    unsigned duties;   /* likewise, before the task */
    const twill__todo *todo; /* work NULL: a plain one */
} twill__guest;

/* Under the lock: this thread may run tasks now. */
static inline void twill__hand_in(twill__pool *pool, twill__hand *runner)
{
    runner->pool = pool;
    runner->workers = twill__pool_told(pool);
    runner->previous = NULL;
    runner->next = pool->runners;
    if (runner->next)
        runner->next->previous = runner;
    pool->runners = runner;
}

/* Under the lock. Never the last one: the stand-ins, which came first, stay. */
static inline void twill__hand_out(twill__pool *pool, twill__hand *runner)
{
    if (runner->previous)
        runner->previous->next = runner->next;
    else
        pool->runners = runner->next;
    runner->next->previous = runner->previous;
}

/* Under the lock: it is in no task of the queue. Should its thread end now, that is no end of the
   last one. */
static inline void twill__hand_off(twill__hand *runner)
{
    runner->plain = false;
    twill__hand_on(runner, NULL);
}

/* Under the lock: what a runner has finished. */
static inline void twill__hand_report(twill__pool *pool, twill__turn *turn, twill__hand *runner)
{
    size_t ended = runner->ended;
    if (!ended)
        return;
    runner->ended = 0;
    if (runner->forgiven) { /* those were taken off when it was given up */
        size_t less = ended < runner->forgiven ? ended : runner->forgiven;
        runner->forgiven -= less;
        ended -= less;
    }
    pool->over += ended;
    if (pool->watchers.first)
        twill__pool_changed(pool, turn);
}

/* Under the lock: it has something else to do first, perhaps for long: whoever submits must not
   count on it. */
static inline void twill__hand_looks_away(twill__pool *pool, twill__turn *turn, twill__hand *runner)
{
    if (!runner->looks)
        return;
    runner->looks = false;
    atomic_fetch_sub_explicit(&pool->looking, 1, memory_order_seq_cst); /* see twill__pool_calls */
    if (!twill__todos_are_empty(&pool->todos))
        twill__pool_wants(pool, turn);
}

static inline const twill__call_table *twill__hand_table(void);

static inline void twill__guest_in(twill__pool *pool, twill__hand *runner)
{
    memset(runner, 0, sizeof *runner);
    runner->call.table = twill__hand_table();
    runner->worker = UINT_MAX;
    runner->outside = runner->busy = true;
    runner->outer = (twill__hand *)twill__thread()->runner;
    twill_cancel_init(&runner->token, pool->options.run.until.cancel);
    twill__hand_in(pool, runner);
    pool->outside++;
}

/* Its task is over, or its thread ends. */
static inline void twill__guest_out(twill__guest *guest)
{
    twill__pool *pool = guest->pool;
    twill__hand *runner = guest->runner;
    twill__turn turn;
    twill__thread()->runner = runner->outer;
    twill__thread()->team = guest->team;
    if (!twill__pool_here(pool)) /* it has forked */
        return;
    if (twill__token_used(twill__token_of(&runner->token)))
        twill_cancel_detach(&runner->token);
    twill__turn_begin(pool, &turn);
    twill__hand_report(pool, &turn, runner);
    twill__hand_out(pool, runner);
    for (unsigned i = 0; i < TWILL__TALLIES; i++) { /* relaxed: counts */
        uint64_t count = atomic_load_explicit(&runner->tally[i], memory_order_relaxed);
        if (count)
            atomic_fetch_add_explicit(&pool->tally[i], count, memory_order_relaxed);
    }
    pool->outside--;
    twill__pool_changed(pool, &turn);
    twill__turn_end(pool, &turn);
}

/* A plain task that was `lost` has no record to ask. */
static inline void twill__plain_lost(twill__pool *pool, twill__hand *runner)
{
    twill_task task;
    twill__hand_task(runner, runner->index, runner->about, &task);
    twill__count(pool, runner, TWILL__N_LOST);
    twill__event(pool, TWILL_EVENT_ENDED, TWILL_LOST, runner->index, NULL, runner->worker, &task);
}

/* What runs on a runner, down to that depth, ends with its thread: all of it is LOST. `rest`: the
   innermost record below. */
static inline void twill__hand_lost(twill__pool *pool, twill__hand *runner, unsigned depth,
                                    const twill__errand *rest)
{
    while (runner->depth > depth && twill__pool_here(pool)) { /* exit: one less each time; a fork */
        twill__errand *work = twill__hand_work(runner), *below;
        twill_task task;
        if (work != rest) {
            below = work->below;
            twill__hand_task(runner, work->record.outcome.index, work->record.context, &task);
            twill__errand_over(pool, runner, work, 0, false, &task);
            twill__hand_on(runner, below);
        } else if (runner->depth > 1 || !runner->plain) { /* inlined: nobody is told of those */
            twill__count(pool, runner, TWILL__N_LOST);
        } else {
            if (twill__plain_counts(pool, runner))
                twill__plain_lost(pool, runner);
            runner->ended++;
        }
        runner->depth--;
    }
}

static inline void twill__guest_ended(void *guest_)
{
    twill__guest *guest = (twill__guest *)guest_;
    guest->runner->self->duties = guest->duties;
    twill__hand_lost(guest->pool, guest->runner, 0, NULL);
    twill__guest_out(guest);
}

/* Runs what was taken for this guest. */
static inline void twill__guest_runs(twill__guest *guest)
{
    twill__self *self = twill__thread();
    guest->runner->self = self;
    self->runner = guest->runner;
    guest->team = self->team;
    guest->duties = self->duties;
    self->team = &guest->pool->team;
    TWILL__GUARD_PUSH(twill__guest_ended, guest);
    (void)(guest->work ? twill__run_work(guest->pool, guest->runner, guest->work)
                       : twill__run_plain(guest->pool, guest->runner, guest->todo, false));
    TWILL__GUARD_POP(0);
    twill__guest_out(guest);
}

typedef struct twill__on_top { /* what the clean-up needs */
    twill__pool *pool;
    twill__hand *runner;
    twill__errand *work, *below; /* the work may be another task's when it is over */
    unsigned depth, duties;      /* before it */
    bool here;
} twill__on_top;

/* Its end is told before those of what is below: a call down there waits for its other threads, and
   these may wait for it. */
static inline void twill__on_top_ended(void *top_)
{
    twill__on_top *top = (twill__on_top *)top_;
    top->runner->self->duties = top->duties;
    twill__hand_lost(top->pool, top->runner, top->depth, top->below);
}

/* noinline: its locals must not stand in the frame of a guard */
static __attribute__((noinline)) void twill__on_top_runs(twill__on_top *top)
{
    TWILL__GUARD_PUSH(twill__on_top_ended, top);
    top->here = twill__run_work(top->pool, top->runner, top->work);
    TWILL__GUARD_POP(0);
}

/* A runner runs a work on top of what it is doing. */
static inline void twill__run_nested(twill__pool *pool, twill__hand *runner, twill__errand *work)
{
    twill__on_top top = {pool, runner, work, work->below, runner->depth, runner->self->duties,
                         true};
    twill__turn turn;
    twill__on_top_runs(&top);
    if (!top.here)
        return;
    twill__turn_begin(pool, &turn);
    twill__hand_on(runner, top.below);
    twill__hand_report(pool, &turn, runner);
    twill__hand_looks_away(pool, &turn, runner); /* in a call it goes on with that */
    twill__turn_end(pool, &turn);
}

/* Under the lock, the work taken out of the queue, and after it unlocked: runs it on this thread,
   which is `runner`, or (NULL) none of the pool's. */
static inline void twill__run_here(twill__pool *pool, twill__turn *turn, twill__hand *runner,
                                   twill__errand *work)
{
    twill__hand guest_runner;
    twill__guest guest = {pool, &guest_runner, work, NULL, 0, NULL};
    if (!runner)
        twill__guest_in(pool, &guest_runner);
    else
        runner->now = 0;
    twill__hand_takes(pool, turn, runner ? runner : &guest_runner, work);
    twill__turn_end(pool, turn);
    twill__turn_settle_first(pool, turn, work);
    if (runner)
        twill__run_nested(pool, runner, work);
    else
        twill__guest_runs(&guest);
}

/* The same with a plain task, on a thread that is none of the pool's. */
static inline void twill__run_plain_here(twill__pool *pool, twill__turn *turn,
                                         const twill__todo *todo)
{
    twill__hand runner;
    twill__guest guest = {pool, &runner, NULL, NULL, 0, todo};
    twill__guest_in(pool, &runner);
    runner.plain = true;
    runner.index = todo->index;
    runner.about = todo->context;
    twill__turn_end(pool, turn);
    twill__turn_settle_first(pool, turn, NULL);
    twill__guest_runs(&guest);
}

/* ---- a stand-in ---- */

/* At the pool's beginning. */
static inline void twill__stand_ins_make(twill__pool *pool)
{
    for (unsigned i = 0; i < TWILL__STAND_INS; i++) {
        twill__hand *runner = &pool->stand_in[i].runner;
        runner->call.table = twill__hand_table();
        runner->worker = UINT_MAX;
        runner->outside = true;
        runner->stands = &pool->stand_in[i];
        twill_cancel_init(&runner->token, pool->options.run.until.cancel);
        twill__hand_in(pool, runner);
    }
}

/* The pool goes, and nobody is in it. */
static inline void twill__stand_ins_end(twill__pool *pool)
{
    /* in a child of a fork others of the parent's may stand in their tokens' lists */
    for (unsigned i = 0; i < TWILL__STAND_INS && twill__pool_here(pool); i++) {
        twill_cancel *token = &pool->stand_in[i].runner.token;
        if (twill__token_used(twill__token_of(token)))
            twill_cancel_detach(token);
    }
}

/* Under the lock, at a close: nobody stands in any more, but for those who do. */
static inline void twill__stand_ins_shut(twill__pool *pool)
{
    for (unsigned i = 0; i < TWILL__STAND_INS; i++)
        atomic_fetch_or_explicit(&pool->stand_in[i].word, TWILL__WATCHED, memory_order_seq_cst);
}

/* This thread's. */
static inline twill__stand_in *twill__stand_in_here(twill__pool *pool)
{
    return &pool->stand_in[twill__thread_number() % TWILL__STAND_INS];
}

/* From now on the pool stays. False: somebody else does, or the pool is closed. */
static inline bool twill__stand_in_begins(twill__stand_in *stand_in)
{
    uint32_t word = 0;
    /* seq_cst: see twill__stand_in_ends; acquire: pairs with the end of the one before */
    return atomic_compare_exchange_strong_explicit(&stand_in->word, &word, TWILL__STANDING,
                                                   memory_order_seq_cst, memory_order_relaxed);
}

/* The last access to the pool, which may be gone then. Who waits for the pool is counted in
   `waited` before he looks at us. So, all seq_cst: if we have not seen him, he has seen us begin,
   and then either leaves WATCHED here, or sees that it is over. */
static inline void twill__stand_in_ends(twill__pool *pool, twill__stand_in *stand_in)
{
    twill__hand *runner = &stand_in->runner;
    uint32_t word = TWILL__STANDING;
    twill__turn turn;
    twill__hand_on(runner, NULL);
    if (runner->ended) { /* by this thread alone; release: pairs with twill__pool_unfinished */
        uint64_t over = atomic_load_explicit(&stand_in->over, memory_order_relaxed);
        atomic_store_explicit(&stand_in->over, over + runner->ended, memory_order_release);
        runner->ended = 0;
    }
    /* release: pairs with the next one's beginning, and with twill__pool_stood_in */
    if (!atomic_load_explicit(&pool->waited, memory_order_seq_cst) &&
        atomic_compare_exchange_strong_explicit(&stand_in->word, &word, 0, memory_order_release,
                                                memory_order_relaxed))
        return;
    twill__turn_begin(pool, &turn);
    /* release: as above. Nobody else writes it now */
    atomic_store_explicit(&stand_in->word, pool->closed ? TWILL__WATCHED : 0, memory_order_release);
    twill__pool_changed(pool, &turn);
    twill__turn_end(pool, &turn);
}

/* Its task is over, or its thread ends. */
static inline void twill__stand_in_out(const twill__guest *guest)
{
    twill__thread()->runner = guest->runner->outer;
    twill__thread()->team = guest->team;
    if (twill__pool_here(guest->pool)) /* else it has forked */
        twill__stand_in_ends(guest->pool, guest->runner->stands);
}

static inline void twill__stand_in_ended(void *guest_)
{
    twill__guest *guest = (twill__guest *)guest_;
    twill__hand *runner = guest->runner;
    runner->self->duties = guest->duties;
    if (twill__pool_here(guest->pool)) {
        twill__hand_lost(guest->pool, runner, 0, NULL);
        runner->said = 0;
        runner->context = NULL;
    }
    twill__stand_in_out(guest);
}

/* After twill__stand_in_begins: a task of the queue, or (work NULL) one that never was there.
   noinline: its locals must not stand in the frame of a guard */
static __attribute__((noinline)) void twill__stand_in_runs(twill__pool *pool, twill__hand *runner,
                                                           twill__errand *work,
                                                           const twill__todo *todo)
{
    twill__self *self = twill__thread();
    twill__guest guest = {pool, runner, work, self->team, self->duties, todo};
    runner->outer = (twill__hand *)self->runner;
    if (runner->workers != twill__pool_told(pool)) /* read in one with `worker`: costs 6 ns else */
        runner->workers = twill__pool_told(pool);
    runner->self = self;
    self->runner = runner;
    self->team = &pool->team;
    TWILL__GUARD_PUSH(twill__stand_in_ended, &guest);
    if (work) {
        (void)twill__run_work(pool, runner, work);
    } else {
        (void)twill__run_plain(pool, runner, todo, true);
    }
    TWILL__GUARD_POP(0);
    twill__stand_in_out(&guest);
}

#endif

/* ---- what tasks say ---- */

static inline void twill__hand_skip(const twill_task *task)
{
    ((twill__hand *)task->private_)->said |= TWILL__SAID_SKIP;
}

static inline void twill__hand_block(const twill_task *task, bool begin);

static inline const twill__call_table *twill__hand_table(void)
{
    static const twill__call_table table = {NULL, NULL, twill__hand_skip, NULL, twill__hand_block};
    return &table;
}

/* ---- what futures ask ---- */

/* Under the lock, which it gives back: it has still to begin, and never will. The pool stays until
   it has ended. */
static inline void twill__errand_never(twill__pool *pool, twill__turn *turn, twill__errand *work)
{
    twill__errand_take(pool, work);
    twill__errand_untimed(pool, work);
    twill__pool_level(pool, turn);
    twill__pool_room(pool, turn);
    pool->visitors++;
    twill__turn_end(pool, turn);
    twill__turn_settle_first(pool, turn, work);
    twill__errand_drop(pool, work, TWILL_CANCELLED);
    twill__pool_ended(pool);
}

static inline bool twill__errand_help(twill__record *record, bool idle)
{
    twill__errand *work = twill__errand_of(record);
    twill__pool *pool = work->pool;
    twill__hand *runner = twill__hand_here(pool);
    const twill_run *run = &pool->options.run;
    /* the task may need a worker's state; whoever runs it would not come back at its limit, and
       outside workers may as well */
    bool may = (runner || !(run->worker_start || run->worker_stop)) &&
               !(twill__errand_limit(work) && !twill__inside() && twill__team_threads(&pool->team));
    twill__turn turn;
    if (!may && !twill__duty_to(pool))
        return false;
    twill__turn_begin(pool, &turn);
    if (pool->sealed && twill__errand_queued(pool, work)) {
        /* as who ends the pool would do, but perhaps it is he who waits, in a callback */
        twill__record_unpin(record);
        twill__errand_never(pool, &turn, work);
        return true;
    }
    if (!may) {
        twill__turn_end(pool, &turn);
        return false;
    }
    if ((runner && runner->given_up) || work->record.where != TWILL__READY ||
        !twill__errand_queued(pool, work) ||
        (!runner && (pool->paused ||
                     (idle && atomic_load_explicit(&pool->team.idle, memory_order_seq_cst))))) {
        twill__turn_end(pool, &turn);
        return false;
    }
    twill__errand_take(pool, work);
    twill__pool_level(pool, &turn);
    twill__pool_room(pool, &turn);
    twill__record_unpin(record); /* the task may end the thread, and then nobody could */
    twill__run_here(pool, &turn, runner, work);
    return true;
}

/* By a thread that is in no task: the next one of the queue, for which it waits, without the lock.
   The pool stays from the first step on, and a record that stands in the queue is in use: so the
   generation that is read between the look and the take is that of the task which is taken. */
static inline bool twill__errand_run_next(twill_future future)
{
    twill__record *record = (twill__record *)future.slot;
    twill__errand *work = twill__errand_of(record);
    twill__pool *pool = work->pool;
    twill__stand_in *stand_in = twill__stand_in_here(pool);
    twill__hand *runner = &stand_in->runner;
    uint64_t head;
    if (pool->options.run.worker_start || pool->options.run.worker_stop ||
        !twill__stand_in_begins(stand_in))
        return false;
    if (!twill__todos_next_is(&pool->todos, &work->entry, &runner->taker, &head) ||
        twill__record_generation(record) != future.generation ||
        !twill__todos_take_it(&pool->todos, &work->entry, &runner->taker, head)) {
        twill__stand_in_ends(pool, stand_in);
        return false;
    }
    runner->now = 0;
    twill__errand_begins(runner, work);
    twill__stand_in_runs(pool, runner, work, NULL);
    return true;
}

#define TWILL__NEAR   64   /* tasks before it */
#define TWILL__BEHIND 16   /* tasks: as many were taken after it at most, and are left at least, */
#define TWILL__BESIDE 1500 /* ns: if he who is at them is left alone for so long */
#define TWILL__EACH   100  /* ns: a quick task, more or less */

/* Somebody is busy with quick tasks, and near this one, or has just begun it. Each look takes lines
   that he writes: while there are many, he is left alone as long as he comes on. If it is the next
   one of a few, he may as well have lost his CPU. */
static inline twill_ns twill__errand_comes(const twill__record *record, uint64_t *seen)
{
    const twill__errand *work = (const twill__errand *)(const void *)record;
    const twill__pool *pool = work->pool;
    const twill__team *team = &pool->team;
    /* guesses, all of them */
    uint64_t head = atomic_load_explicit(&pool->todos.head, memory_order_relaxed);
    size_t before = twill__todos_before(&pool->todos, &work->entry, head), size;
    if (!twill__pool_is_quick(pool) || head & TWILL__HOLD || head == *seen ||
        atomic_load_explicit(&team->idle, memory_order_relaxed) >= twill__team_threads(team))
        return 0;
    *seen = head;
    size = atomic_load_explicit(&pool->todos.size, memory_order_relaxed);
    if (twill__todos_tail(&pool->todos) - head >= TWILL__BEHIND)
        return ((before + TWILL__BEHIND) & (size - 1)) <= TWILL__BEHIND + TWILL__NEAR
                   ? TWILL__BESIDE
                   : 0;
    return before < TWILL__BEHIND ? (twill_ns)before * TWILL__EACH : 0;
}

static inline void twill__errand_expire(twill__record *record)
{
    twill__pool *pool = twill__errand_of(record)->pool;
    twill__turn turn;
    twill__turn_begin(pool, &turn);
    pool->visitors++;
    (void)twill__pool_tick(pool, &turn, twill__clock_now()); /* who waits asks again */
    twill__turn_end(pool, &turn);
    twill__duty_begin(pool, NULL, TWILL__LEAVE);
    twill__turn_settle(pool, &turn);
    twill__duty_over();
    twill__turn_begin(pool, &turn);
    twill__pool_left(pool, &turn);
    twill__turn_end(pool, &turn);
}

static inline void twill__errand_cancel(twill__record *record)
{
    twill__errand *work = twill__errand_of(record);
    twill__pool *pool = work->pool;
    twill__turn turn;
    twill__turn_begin(pool, &turn);
    if (twill__errand_queued(pool, work)) {
        twill__errand_never(pool, &turn, work);
        return;
    }
    twill__turn_end(pool, &turn);
    if (!twill__record_ended(record))
        twill__errand_fire(work, TWILL_CANCELLED);
}

static inline void twill__errand_forget(twill__record *record)
{
    twill__errand *work = twill__errand_of(record); /* with a discard: see twill__errand_options */
    twill_task task = {
        work->record.outcome.index, work->record.context, UINT_MAX, 0, NULL, {0, NULL}, NULL};
    work->discard(work->record.arg, record->result, work->code, &task);
}

static inline twill_ns twill__pool_revives(twill__pool *pool);

/* A thread may have failed to start, and nobody was left to try again. */
static inline twill_ns twill__errand_again(twill__record *record)
{
    twill__pool *pool = twill__errand_of(record)->pool;
    twill__turn turn;
    twill_ns soon;
    /* whoever left the pool without workers before this task came, did so before us; later ones see
       to it themselves */
    if (twill__team_threads(&pool->team))
        return 0;
    twill__turn_begin(pool, &turn);
    soon = twill__pool_revives(pool);
    twill__turn_end(pool, &turn);
    return soon;
}

static inline const twill__record_table *twill__errand_table(void)
{
    static const twill__record_table table = {
        twill__errand_help,  twill__errand_expire,   twill__errand_cancel, twill__errand_forget,
        twill__errand_comes, twill__errand_run_next, twill__errand_again};
    return &table;
}

#endif

#ifndef TWILL__GROW_AFTER /* the explorer wants less */
#define TWILL__GROW_AFTER TWILL_MS(10)
#endif
#define TWILL__MAX_NUMBERS 65536u

/* ---- starting ---- */

static void twill__worker_main(void *worker);

static inline twill__worker *twill__worker_make(twill__pool *pool, unsigned number)
{
    char *memory = (char *)TWILL_MALLOC(sizeof(twill__worker) + TWILL__LINE), *at;
    twill__worker *worker;
    if (!memory)
        return NULL;
    at = memory + (TWILL__LINE - (uintptr_t)memory % TWILL__LINE) % TWILL__LINE;
    worker = (twill__worker *)(void *)at;
    memset(worker, 0, sizeof *worker);
    worker->memory = memory;
    worker->runner.call.table = twill__hand_table();
    worker->runner.pool = pool;
    worker->runner.worker = number;
    worker->runner.waited = &worker->waited;
    worker->runner.ran = &worker->ran;
    return worker;
}

static inline void twill__pool_threads(twill__pool *pool)
{
    /* seq_cst: the last one to leave then looks for seats (twill__pool_bare), and who takes one
       then looks here (twill__crew_open): one of both sees the other */
    atomic_store_explicit(&pool->team.threads, pool->live, memory_order_seq_cst);
    if (pool->live > pool->live_peak)
        pool->live_peak = pool->live;
}

/* Under the lock, or before the pool is known. Who stays when the pool is made smaller keeps a
   number that is too large for it. */
static inline void twill__pool_tells(twill__pool *pool)
{
    unsigned told = pool->most + pool->options.max_abandoned, last = pool->numbers;
    while (last > told &&
           !(pool->worker[last - 1] && pool->worker[last - 1]->life != TWILL__NO_THREAD_YET))
        last--;
    atomic_store_explicit(&pool->told, last > told ? last : told, memory_order_relaxed);
}

/* Under the lock, which the new thread takes first: so its handle is there when anybody looks.
   False: it could not be started. */
static inline bool twill__worker_create(twill__pool *pool)
{
    const twill_run *run = &pool->options.run;
    twill__worker *worker;
    unsigned number = 0;
    while (number < pool->numbers && pool->worker[number] &&
           pool->worker[number]->life != TWILL__NO_THREAD_YET)
        number++;
    if (number == pool->numbers)
        return false;
    worker = pool->worker[number];
    if (!worker)
        worker = pool->worker[number] = twill__worker_make(pool, number);
    if (!worker)
        return false;
    memset(&worker->thread, 0, sizeof worker->thread);
    worker->thread.fn = twill__worker_main;
    worker->thread.arg = worker;
    worker->thread.stack_size = run->stack_size;
    worker->thread.cpu = run->cpu_count ? run->cpus[number % run->cpu_count] : UINT_MAX;
    twill__thread_name(&worker->thread, pool->name);
    worker->life = TWILL__COMING;
    pool->live++;
    pool->coming++;
    if (!twill__thread_start(&worker->thread)) {
        worker->life = TWILL__NO_THREAD_YET;
        pool->live--;
        pool->coming--;
        return false;
    }
    if (number >= twill__pool_told(pool)) /* lower ones are just going */
        twill__pool_tells(pool);
    twill__pool_threads(pool);
    return true;
}

/* The same, if there may be something to do. */
static inline bool twill__worker_start(twill__pool *pool)
{
    if (pool->sealed && !twill__todos_length(&pool->todos)) /* nothing is left, now or later */
        return false;
    if (twill__worker_create(pool))
        return true;
    pool->failed_at = twill__clock_now();
    return false;
}

/* Not again and again what has just failed. */
static inline bool twill__worker_retry(twill__pool *pool)
{
    return !(pool->failed_at && twill__clock_now() - pool->failed_at <= TWILL__GROW_AFTER) &&
           twill__worker_start(pool);
}

/* ---- a pool that is left without workers ---- */

/* Whether a call or an object has a seat, or is about to open it. */
static inline bool twill__pool_in_use(const twill__pool *pool)
{
    for (unsigned i = 0; i < TWILL__SEATS; i++)
        if (atomic_load_explicit(&pool->team.seat[i].word, memory_order_seq_cst) &
            TWILL__SEAT_OWNED)
            return true;
    return false;
}

/* Under the lock: there is none, and there should be: for tasks, or for an object that was given
   the pool when it had some. */
static inline bool twill__pool_bare(const twill__pool *pool)
{
    return pool->live == pool->going && !pool->ending && !pool->leaving &&
           (twill__todos_length(&pool->todos) || pool->later || pool->senders.first ||
            twill__pool_in_use(pool));
}

/* Under the lock, by who waits for a worker, or was the last one: if the pool is bare, tries to
   start one; paused, not for tasks. When to look again; 0: it is not. */
static inline twill_ns twill__pool_revives(twill__pool *pool)
{
    if (!twill__pool_bare(pool) ||
        ((!pool->paused || twill__pool_in_use(pool)) && twill__worker_retry(pool)))
        return 0;
    return twill__instant_after(twill__clock_now(), TWILL__GROW_AFTER);
}

static inline bool twill__pool_is_clad(twill__pool *pool, const void *data)
{
    (void)data;
    return !twill__pool_bare(pool);
}

/* Under the lock, by a thread that is about to end, and is no worker any more: it stays as long as
   the pool is bare, since there may be nobody else who would start one. */
static inline void twill__pool_bequeath(twill__pool *pool, twill__turn *turn)
{
    twill_ns look;
    while ((look = twill__pool_revives(pool)) != 0) /* exit: not bare any more, or ending */
        (void)twill__pool_await(pool, turn, (twill_until){look, NULL}, twill__pool_is_clad, NULL);
}

/* Work has come up, and so many of so many workers are idle: whether to call one. Whoever asks is
   inside or has the lock. A worker takes himself off these counts first, and then looks at the
   queue; so, all seq_cst: if one of them is set after somebody has come in, there is a worker who
   will see it. `on_way` is taken off also by each who goes to sleep, before his last look: so it
   says that all who are idle were called, or will be at once. */
static inline bool twill__pool_calls(twill__pool *pool, uint32_t idle, unsigned live)
{
    if (atomic_load_explicit(&pool->on_way, memory_order_seq_cst))
        return false;
    /* one that spins hears of it for a store; one that sleeps is not called while another is about
       to look. relaxed: a guess */
    if (atomic_load_explicit(&pool->looking, memory_order_seq_cst) &&
        idle <= atomic_load_explicit(&pool->team.parked, memory_order_relaxed))
        return false;
    /* somebody is at work on quick ones, and another one looks soon whether that has changed */
    if (atomic_load_explicit(&pool->napping, memory_order_seq_cst) && idle < live &&
        twill__pool_is_quick(pool))
        return false;
    /* and then the call, which moves the epoch on */
    atomic_store_explicit(&pool->on_way, true, memory_order_seq_cst);
    return true;
}

/* Under the lock, work has come up: one wake, none when a worker is on its way; or a thread more,
   if there are fewer than there should be; or the watch looks after it. */
static inline void twill__pool_wants(twill__pool *pool, twill__turn *turn)
{
    /* under the lock: who is idle has counted himself before he looked under it */
    uint32_t idle = atomic_load_explicit(&pool->team.idle, memory_order_relaxed);
    if (pool->paused)
        return;
    if (idle) {
        turn->call += twill__pool_calls(pool, idle, pool->live - pool->coming);
        return;
    }
    if (twill__pool_active(pool) < pool->least && pool->live < pool->most && !pool->coming) {
        if (twill__worker_retry(pool))
            return;
        if (!pool->live) /* who waits for the pool sees to it */
            twill__pool_changed(pool, turn);
    }
    if (pool->has_watch && pool->live < pool->most && !pool->cpu_at)
        turn->watch = true; /* else it is at it */
}

#endif

#define TWILL__IDLE_AFTER TWILL_SEC(10)
#define TWILL__NAP        100000 /* ns: an idle worker looks again then, while quick tasks come */
#define TWILL__NO_CROWD   128    /* ns a task: so fast, those at work want no help */

/* ---- what a worker does next ---- */

typedef enum twill__next { TWILL__IDLE_NOW, TWILL__RUN_IT, TWILL__RUN_EACH, TWILL__GO } twill__next;

/* Under the lock: there are more workers than should be. */
static inline bool twill__worker_surplus(const twill__pool *pool)
{
    return pool->live - pool->going > pool->most;
}

/* Under the lock: it may leave, having been idle for long. */
static inline bool twill__worker_retires(const twill__pool *pool, const twill__worker *worker)
{
    twill_ns after = pool->options.idle_after;
    return pool->live - pool->coming - pool->going > pool->least && worker->idle_since &&
           twill__clock_now() - worker->idle_since >= (after ? after : TWILL__IDLE_AFTER);
}

static inline twill__everyone *twill__each_next(const twill__pool *pool,
                                                const twill__worker *worker)
{
    twill__everyone *each = pool->each; /* in order */
    while (each && each->number <= worker->each_seen)
        each = each->next;
    return each;
}

/* Under the lock. False: there is nothing to do. */
static inline bool twill__worker_takes(twill__pool *pool, twill__turn *turn, twill__worker *worker,
                                       twill__todo *todo)
{
    twill__hand *runner = &worker->runner;
    if (!pool->todos.held) {
        /* who is inside may count on us (twill__pool_calls): he is waited for, and seen here or
           below */
        if (twill__todos_are_empty(&pool->todos) ||
            !twill__todos_take(&pool->todos, todo, &runner->taker))
            return false;
    } else if (pool->paused || pool->sealed || !twill__todos_length(&pool->todos)) {
        return false; /* sealed: who ends the pool cancels them */
    } else {
        *todo = twill__todos_pop(&pool->todos);
    }
    runner->busy = true;
    runner->plain = todo->fn != NULL;
    runner->index = todo->index;
    runner->about = todo->context;
    worker->idle_since = 0;
    twill__pool_level(pool, turn);
    if (pool->senders.first)
        twill__pool_room(pool, turn);
    if (!todo->fn) {
        twill__errand *work = twill__errand_at((twill__todo_entry *)todo->arg);
        twill__hand_takes(pool, turn, runner, work);
        runner->index = work->record.outcome.index;
    }
    if (pool->has_watch) {
        bool untold = pool->options.on_event && pool->options.stuck_after; /* twill__hand_begun */
        runner->since = untold ? TWILL_FOREVER : runner->now ? runner->now : twill__clock_now();
        runner->told = false;
        if (pool->options.stuck_after && !untold && twill__watch_is_late(pool, runner))
            turn->watch = true;
    }
    /* the next one: whoever called for this task has called one worker only; and somebody idle
       must know the alarm */
    if (twill__todos_length(&pool->todos) || twill__team_unkept(&pool->team))
        twill__pool_wants(pool, turn);
    return true;
}

/* A clock costs more than a tiny task: then one of 64 is measured, of quick ones one of 16. */
static inline void twill__pool_sample(twill__pool *pool)
{
    size_t sample = !TWILL__TICKS || pool->has_watch || !twill__pool_is_quick(pool) ? 0
                    : twill__pool_is_tiny(pool)                                     ? 63
                                                                                    : 15;
    if (atomic_load_explicit(&pool->sample, memory_order_relaxed) != sample)
        atomic_store_explicit(&pool->sample, sample, memory_order_relaxed);
}

/* Under the lock: it has something else to do, and may have been called for what is there. */
static inline void twill__worker_passes(twill__pool *pool, twill__turn *turn)
{
    if (twill__todos_length(&pool->todos) || pool->todos.timer_count ||
        twill__team_unkept(&pool->team))
        twill__pool_wants(pool, turn);
}

static inline twill__next twill__worker_next(twill__worker *worker, twill__todo *todo,
                                             twill__everyone **each)
{
    twill__hand *runner = &worker->runner;
    twill__pool *pool = runner->pool;
    twill__next next = TWILL__IDLE_NOW;
    twill__turn turn;
    if (!twill__pool_here(pool))
        return TWILL__GO;
    twill__turn_begin(pool, &turn);
    twill__hand_report(pool, &turn, runner);
    runner->busy = false;
    twill__hand_off(runner);
    runner->workers = twill__pool_told(pool);
    if (worker->woke)
        /* this and the next two: see twill__pool_calls */
        atomic_store_explicit(&pool->on_way, false, memory_order_seq_cst);
    worker->woke = false;
    if (worker->naps)
        atomic_fetch_sub_explicit(&pool->napping, 1, memory_order_seq_cst);
    worker->naps = false;
    if (runner->looks)
        atomic_fetch_sub_explicit(&pool->looking, 1, memory_order_seq_cst);
    runner->looks = false;
    twill__pool_sample(pool);
    while (pool->todos.timer_count && twill__pool_tick(pool, &turn, twill__clock_now())) {
        /* exit: nothing is due any more. Callbacks may take their time */
        twill__worker_passes(pool, &turn);
        twill__turn_end(pool, &turn);
        twill__turn_settle(pool, &turn);
        twill__turn_begin(pool, &turn);
    }
    if (runner->given_up || twill__worker_surplus(pool)) {
        next = TWILL__GO;
    } else if ((*each = twill__each_next(pool, worker))) {
        worker->each_seen = (*each)->number;
        (*each)->inside++;
        next = TWILL__RUN_EACH;
    } else if (!worker->gives_way && twill__worker_takes(pool, &turn, worker, todo)) {
        next = TWILL__RUN_IT;
    } else if (pool->leaving || twill__worker_retires(pool, worker)) {
        next = TWILL__GO;
    }
    if (next == TWILL__GO && !runner->given_up) {
        worker->going = true;
        pool->going++;
    }
    if (next == TWILL__GO || next == TWILL__RUN_EACH)
        twill__worker_passes(pool, &turn);
    twill__turn_end(pool, &turn);
    if (turn.level) /* it has not ended any task since it took one */
        twill__turn_settle_first(pool, &turn,
                                 next == TWILL__RUN_IT ? twill__todo_work(todo) : NULL);
    return next;
}

static inline void twill__worker_each(twill__worker *worker, twill__everyone *each)
{
    twill__pool *pool = worker->runner.pool;
    twill__turn turn;
    twill_task task;
    int code;
    twill__hand_task(&worker->runner, SIZE_MAX, pool->options.run.context, &task);
    task.until = each->until;
    worker->each = each;
    code = each->fn(each->arg, NULL, &task);
    worker->each = NULL;
    if (!twill__pool_here(pool)) /* it has forked */
        return;
    twill__turn_begin(pool, &turn);
    each->inside--;
    each->left--;
    each->failed += code != 0;
    twill__pool_changed(pool, &turn);
    twill__turn_end(pool, &turn);
}

/* ---- idle ---- */

/* How many tasks have begun, or were taken out otherwise. A guess, without the lock. */
static inline uint64_t twill__pool_taken(const twill__pool *pool)
{
    uint64_t head = atomic_load_explicit(&pool->todos.head, memory_order_relaxed) & ~TWILL__HOLD;
    return atomic_load_explicit(&pool->submitted, memory_order_relaxed) -
           (twill__todos_tail(&pool->todos) - head);
}

/* Under the lock, counted as idle, while quick tasks come, or (`crowd`) are left to others: one
   looks again soon, unasked. */
static inline void twill__worker_naps(twill__pool *pool, twill__worker *worker, bool crowd)
{
    /* relaxed: a figure */
    uint64_t submitted = atomic_load_explicit(&pool->submitted, memory_order_relaxed);
    if (atomic_load_explicit(&pool->napping, memory_order_seq_cst) ||
        !(crowd || (twill__pool_is_quick(pool) && submitted != worker->naps_since)))
        return;
    worker->naps = true;
    worker->naps_since = submitted;
    worker->naps_at = twill__clock_now();
    worker->naps_taken = twill__pool_taken(pool);
    atomic_fetch_add_explicit(&pool->napping, 1, memory_order_seq_cst);
}

/* Under the lock, counted as idle: whether there is nothing to do, or others are at it. *until:
   when to look again. */
static inline bool twill__worker_may_sleep(twill__pool *pool, twill__worker *worker,
                                           twill_ns *until)
{
    twill_ns timer = twill__timer_next(&pool->todos),
             alarm = atomic_load_explicit(&pool->team.alarm, memory_order_seq_cst),
             after = pool->options.idle_after;
    bool crowd =
        worker->gives_way && !pool->todos.held &&
        atomic_load_explicit(&pool->team.idle, memory_order_seq_cst) < pool->live - pool->coming;
    *until = TWILL_FOREVER;
    /* see twill__pool_calls */
    if (atomic_load_explicit(&pool->on_way, memory_order_seq_cst))
        atomic_store_explicit(&pool->on_way, false, memory_order_seq_cst);
    if ((!crowd && !twill__todos_are_empty(&pool->todos) && !pool->paused && !pool->sealed) ||
        pool->leaving || twill__worker_surplus(pool) || twill__each_next(pool, worker))
        return false;
    if (!worker->idle_since)
        worker->idle_since = twill__clock_now();
    if (pool->live - pool->coming - pool->going > pool->least)
        *until = twill__instant_after(worker->idle_since, after ? after : TWILL__IDLE_AFTER);
    twill__worker_naps(pool, worker, crowd);
    while (timer < alarm &&
           !atomic_compare_exchange_weak_explicit(&pool->team.alarm, &alarm, timer,
                                                  memory_order_seq_cst, memory_order_seq_cst)) {}
    return true;
}

static inline bool twill__worker_looks(twill__pool *pool, twill__worker *worker, twill_ns *until)
{
    twill__turn turn;
    bool sleeps;
    twill__turn_begin(pool, &turn);
    sleeps = twill__worker_may_sleep(pool, worker, until);
    twill__turn_end(pool, &turn);
    return sleeps;
}

/* After a nap: whether those who are at work want no help, since they are faster alone. */
static inline bool twill__worker_naps_on(twill__worker *worker, twill_ns until)
{
    twill__pool *pool = worker->runner.pool;
    uint64_t taken = twill__pool_taken(pool), since = worker->naps_taken;
    twill_ns now = twill__clock_now(), took = now - worker->naps_at;
    worker->naps_at = now;
    worker->naps_taken = taken;
    return worker->naps && now < until && twill__pool_is_tiny(pool) &&
           !twill__todos_are_held(&pool->todos) &&
           atomic_load_explicit(&pool->team.idle, memory_order_seq_cst) <
               twill__team_threads(&pool->team) &&
           (int64_t)(taken - since) > took / TWILL__NO_CROWD;
}

/* Counted as parked. */
static inline void twill__worker_rests(twill__worker *worker, uint32_t epoch, twill_ns until)
{
    twill__team *team = &worker->runner.pool->team;
    twill_ns soon;
    do /* exit: it was called, or has to look */
        soon = worker->naps ? worker->naps_at + TWILL__NAP : until;
    while (atomic_load_explicit(&team->epoch, memory_order_seq_cst) == epoch &&
           twill__nap(team, epoch, soon < until ? soon : until) && /* false: an alarm was due */
           twill__worker_naps_on(worker, until));
}

/* ns without a look after a call of a few items: tiny ones would be over before a spinner is in,
   and who is in is waited for. While one tiny call follows the other it looks less and less often,
   since each look takes two lines that the next call needs. To wake a parked thread takes 10 us. */
#define TWILL__STAND_BACK       300
#define TWILL__STAND_BACK_TWICE 3 /* so many times it is doubled */

typedef struct twill__lull { /* what a worker that spins has seen */
    uint32_t epoch;          /* changes up to here do not concern it */
    const twill__seat *seat; /* the last of them was made here; NULL: there was none */
    uint64_t opened;         /* that seat's `opened`, and `little`, at that moment */
    bool little;
} twill__lull;

/* Whether nothing but openings of one seat has changed the epoch. */
static inline bool twill__only_calls(const twill__team *team, twill__lull *lull)
{
    /* relaxed, here and below: hints; `opened` is valid for the epoch that it names */
    const twill__seat *seat =
        &team->seat[atomic_load_explicit(&team->hint, memory_order_relaxed) % TWILL__SEATS];
    uint64_t opened = atomic_load_explicit(&seat->opened, memory_order_relaxed);
    uint32_t now = (uint32_t)(opened >> 32), calls = 1;
    if (seat == lull->seat)
        calls = (uint32_t)opened - (uint32_t)lull->opened;
    if (!calls || now - lull->epoch != calls)
        return false;
    lull->epoch = now;
    lull->seat = seat;
    lull->opened = opened;
    lull->little = atomic_load_explicit(&seat->little, memory_order_relaxed);
    return true;
}

/* Whether the call that opened there last is worth coming in. */
static inline bool twill__call_stays(const twill__lull *lull)
{
    const _Atomic uint32_t *word = &lull->seat->word;
    unsigned same;
    if (!(atomic_load_explicit(word, memory_order_seq_cst) & TWILL__SEAT_OPEN))
        return false;
    if (!lull->little || !TWILL__SPIN) {
        twill__fetch_ahead(lull->seat);
        return true;
    }
    twill__spin_away(TWILL__STAND_BACK / 2);
    /* still open, and by nobody else. relaxed: only compared */
    same = atomic_load_explicit(&lull->seat->opened, memory_order_relaxed) == lull->opened;
    return same & ((atomic_load_explicit(word, memory_order_seq_cst) & TWILL__SEAT_OPEN) != 0);
}

/* For TWILL__IDLE_SPIN at most, letting others run every now and then: whom the last task has woken
   may stand in the queue of this very CPU. A call that is over when it comes to it does not end the
   spin: a look round takes the lines that the next call needs. False: nothing has changed the
   epoch, and the worker may park; true: it has to look round. */
static inline bool twill__worker_spins(const twill__team *team, uint32_t epoch)
{
    twill_ns until = twill__clock_now() + TWILL__IDLE_SPIN;
    unsigned twice = 0;
    twill__lull lull = {epoch, NULL, 0, false};
    do {
        if (!twill__spin(&team->epoch, lull.epoch, TWILL__SPIN_WAIT, 1)) {
            twice = 0;
            continue;
        }
        if (lull.little) {
            twill__spin_away(TWILL__STAND_BACK << twice);
            twice += twice < TWILL__STAND_BACK_TWICE;
        }
        if (!twill__only_calls(team, &lull) || twill__call_stays(&lull))
            return true;
    } while (TWILL__SPIN && twill__clock_now() < until);
    return lull.seat != NULL;
}

/* Not while others are at work, if it looks again soon anyway. */
static inline bool twill__worker_may_spin(const twill__worker *worker)
{
    const twill__team *team = &worker->runner.pool->team;
    uint32_t idle = atomic_load_explicit(&team->idle, memory_order_seq_cst);
    return idle - atomic_load_explicit(&team->parked, memory_order_seq_cst) <= team->spinners &&
           (!worker->naps || idle >= twill__team_threads(team));
}

/* The team's protocol (twill__helper_main): counted first, then it looks at tasks and calls. */
static inline void twill__worker_idle(twill__worker *worker, uint32_t epoch)
{
    twill__pool *pool = worker->runner.pool;
    twill__team *team = &pool->team;
    uint64_t since = twill__ticks();
    twill_ns until;
    worker->runner.now = 0;
    worker->woke = true;
    atomic_fetch_add_explicit(&team->idle, 1, memory_order_seq_cst);
    if (twill__worker_looks(pool, worker, &until) && !twill__call_waits(team) &&
        atomic_load_explicit(&team->epoch, memory_order_seq_cst) == epoch &&
        !(twill__worker_may_spin(worker) && twill__worker_spins(team, epoch))) {
        atomic_fetch_add_explicit(&team->parked, 1, memory_order_seq_cst);
        twill__worker_rests(worker, epoch, until);
        atomic_fetch_sub_explicit(&team->parked, 1, memory_order_seq_cst);
    }
    atomic_fetch_sub_explicit(&team->idle, 1, memory_order_seq_cst);
    worker->gives_way = false;
    /* relaxed: statistics */
    atomic_store_explicit(&worker->idle_ticks,
                          atomic_load_explicit(&worker->idle_ticks, memory_order_relaxed) +
                              (twill__ticks() - since),
                          memory_order_relaxed);
}

#endif

#define TWILL__SEARCH 1500 /* ns a busy worker lets the next quick tasks come together */

/* ---- a worker's life ---- */

static inline bool twill__worker_run(twill__worker *worker, const twill__todo *todo)
{
    twill__hand *runner = &worker->runner;
    return todo->fn ? twill__run_plain(runner->pool, runner, todo, false)
                    : twill__run_work(runner->pool, runner,
                                      twill__errand_at((twill__todo_entry *)todo->arg));
}

/* A call may take it for long: so it tells what it has done, for which others may wait. */
static inline void twill__worker_looks_away(twill__worker *worker)
{
    twill__pool *pool = worker->runner.pool;
    twill__turn turn;
    twill__turn_begin(pool, &turn);
    twill__hand_report(pool, &turn, &worker->runner);
    twill__hand_off(&worker->runner);
    twill__hand_looks_away(pool, &turn, &worker->runner);
    twill__turn_end(pool, &turn);
}

/* While tasks are quick and come one after another: lets a few come together, since each look takes
   the line that they are written to. */
static inline bool twill__worker_searches(twill__worker *worker, twill__todo *todo)
{
    twill__hand *runner = &worker->runner;
    twill__pool *pool = runner->pool;
    uint64_t since = twill__ticks(), wait = pool->team.tick_rate * TWILL__SEARCH >> 10;
    if (!TWILL__SPIN || twill__cpus_hint() == 1 || !twill__pool_is_quick(pool))
        return false;
    /* exit: something has come, or it was looked often enough; no more than one look while held */
    for (unsigned look = 0; look < 3 && !twill__todos_are_held(&pool->todos); look++, wait *= 2) {
        while (twill__ticks() - since < wait)
            for (unsigned pause = 0; pause < 16; pause++)
                twill__pause();
        if (twill__todos_take(&pool->todos, todo, &runner->taker)) {
            runner->now = 0; /* it begins now, not with the end of the one before */
            return true;
        }
    }
    return false;
}

/* Two who take tiny tasks side by side are slower than one, since each take fetches the line that
   the other has written: one of them naps. */
static inline bool twill__worker_gives_way(twill__worker *worker)
{
    const twill__pool *pool = worker->runner.pool;
    worker->gives_way =
        worker->runner.taker.beside && twill__pool_is_tiny(pool) &&
        /* a guess; whether others are at it is looked at when it is counted as idle */
        atomic_load_explicit(&pool->team.idle, memory_order_relaxed) + 1 <
            twill__team_threads(&pool->team);
    return worker->gives_way;
}

/* The next task without the lock, for one that is busy: then it counts as such, and has told that
   it is awake. */
static inline bool twill__worker_goes_on(twill__worker *worker, twill__todo *todo)
{
    twill__hand *runner = &worker->runner;
    twill__todos *todos = &runner->pool->todos;
    if (!runner->busy || runner->looks || twill__worker_gives_way(worker))
        return false;
    /* quick ones: does not look for every single one what has come */
    if ((twill__todos_known(todos, &runner->taker) || !twill__worker_searches(worker, todo)) &&
        !twill__todos_take(todos, todo, &runner->taker))
        return false;
    runner->plain = todo->fn != NULL;
    runner->index = todo->index;
    runner->about = todo->context;
    if (runner->taker.ahead)
        twill__record_fetch(&twill__errand_at(runner->taker.ahead)->record);
    if (!todo->fn)
        twill__errand_begins(runner, twill__errand_at((twill__todo_entry *)todo->arg));
    return true;
}

/* It was idle, and does not look at calls now: whoever has counted on it for one
   (twill__sleepers_of) has woken nobody, and another one shall look. seq_cst: its count among the
   idle went first, and the work of a call comes before the look at that count */
static inline void twill__worker_passes_on(twill__team *team)
{
    if (atomic_load_explicit(&team->parked, memory_order_seq_cst) && twill__call_waits(team))
        twill__wake(&team->epoch, 1);
}

/* noinline: its locals must not stand in the frame of a guard */
static __attribute__((noinline)) void twill__worker_loop(twill__worker *worker)
{
    twill__pool *pool = worker->runner.pool;
    twill__team *team = &pool->team;
    uint32_t served = 0;
    bool idled = false;
    for (;;) { /* exit: it is to go, or a callback has forked, and this is the child */
        uint32_t epoch = atomic_load_explicit(&team->epoch, memory_order_seq_cst);
        twill__everyone *each = NULL;
        twill__todo todo;
        twill__next next = twill__worker_goes_on(worker, &todo)
                               ? TWILL__RUN_IT
                               : twill__worker_next(worker, &todo, &each);
        if (idled && next != TWILL__IDLE_NOW)
            twill__worker_passes_on(team);
        idled = false;
        switch (next) {
        case TWILL__GO:
            return;
        case TWILL__RUN_EACH:
            twill__worker_each(worker, each);
            worker->runner.now = 0;
            break;
        case TWILL__RUN_IT:
            if (!twill__worker_run(worker, &todo))
                return;
            if (epoch == served && !twill__team_due(team)) /* no call has come up since it looked */
                break;
            served = epoch;
            if (!twill__other_open(team, NULL))
                break;
            twill__worker_looks_away(worker);
            if (twill__serve_team(team, worker->runner.worker + 1)) {
                served--; /* another one may wait, too */
                worker->runner.now = 0;
                if (!twill__pool_here(pool))
                    return;
            }
            break;
        case TWILL__IDLE_NOW:
            worker->runner.now = 0;
            if (twill__serve_team(team, worker->runner.worker + 1)) {
                worker->idle_since = 0, worker->gives_way = false;
            } else {
                twill__worker_idle(worker, epoch);
                idled = true;
            }
            break;
        }
    }
}

/* Under the lock, the last thing a thread does but for the unlock. */
static inline void twill__worker_left(twill__pool *pool, twill__turn *turn, twill__worker *worker)
{
    twill__hand *runner = &worker->runner;
    twill__todos_shut(&pool->todos); /* whoever comes may have to start a thread */
    if (worker->life == TWILL__GIVEN_UP)
        pool->abandoned--;
    else
        pool->live--;
    if (worker->going)
        pool->going--;
    worker->going = false;
    if (worker->life == TWILL__LIVE || worker->life == TWILL__GIVEN_UP)
        twill__hand_out(pool, runner);
    for (unsigned i = 0; i < TWILL__TALLIES; i++) /* relaxed: counts */
        atomic_fetch_add_explicit(
            &pool->tally[i], atomic_exchange_explicit(&runner->tally[i], 0, memory_order_relaxed),
            memory_order_relaxed);
    worker->life = TWILL__NO_THREAD_YET;
    if (runner->worker == twill__pool_told(pool) - 1)
        twill__pool_tells(pool);
    worker->has_past = !pool->forsaken;
    worker->past = worker->thread;
    if (runner->blocked && !runner->given_up)
        pool->blocked--;
    for (twill__everyone *each = twill__each_next(pool, worker); each; each = each->next)
        each->left -= !runner->given_up;
    runner->blocked = 0;
    runner->given_up = runner->told = runner->busy = false;
    twill__hand_on(runner, NULL);
    runner->forgiven = 0;
    twill__pool_threads(pool);
    twill__pool_changed(pool, turn);
}

/* Under the lock, it has left: there may be one more in its place, which who came with work while
   there were as many as may be has not asked for. The pool stays no longer than the lock. */
static inline void twill__worker_makes_room(twill__pool *pool, twill__turn *turn)
{
    if (twill__todos_length(&pool->todos))
        twill__pool_wants(pool, turn);
    twill__turn_call(pool, turn);
}

/* Joins the thread that had this number before: it has left already, or is about to. */
static inline void twill__worker_bury(twill__pool *pool, twill__worker *worker)
{
    twill__turn turn;
    twill__thrd past;
    bool has_past;
    twill__turn_begin(pool, &turn); /* so that whoever started us has written our handle */
    worker->runner.workers = twill__pool_told(pool);
    has_past = worker->has_past;
    if (has_past) {
        past = worker->past;
        twill__pool_changed(pool, &turn); /* it may be waiting for us (twill__pool_bequeath) */
    }
    worker->has_past = false;
    twill__turn_end(pool, &turn);
    if (has_past)
        twill__thread_join(&past);
}

static inline void twill__worker_stop_hook(twill__worker *worker)
{
    twill__pool *pool = worker->runner.pool;
    twill_task task;
    twill__hand_task(&worker->runner, SIZE_MAX, pool->options.run.context, &task);
    twill__duty_begin(pool, NULL, TWILL__BE_WORKER);
    if (pool->options.run.worker_stop)
        pool->options.run.worker_stop(worker->runner.state, &task);
    twill__duty_over();
}

/* The thread's last steps. `lost`: a callback has ended it, and another one takes its place. */
static inline void twill__worker_leaves(twill__worker *worker, bool lost)
{
    twill__pool *pool = worker->runner.pool;
    twill__turn turn;
    twill__thread()->team = NULL;
    twill__thread()->runner = NULL;
    if (!twill__pool_here(pool)) /* a callback has forked: the pool is the parent's */
        return;
    twill__worker_stop_hook(worker);
    twill__gate_shut(&worker->runner.gate);
    if (twill__token_used(twill__token_of(&worker->runner.token)))
        twill_cancel_detach(&worker->runner.token);
    twill__turn_begin(pool, &turn);
    twill__hand_report(pool, &turn, &worker->runner);
    if (worker->each) {
        worker->each->inside--;
        worker->each->left--;
        worker->each->failed++;
        worker->each = NULL;
    }
    twill__worker_left(pool, &turn, worker);
    if (lost && pool->live - pool->going < pool->least)
        (void)twill__worker_start(pool);
    twill__worker_makes_room(pool, &turn);
    twill__pool_bequeath(pool, &turn);
    twill__turn_end(pool, &turn);
}

/* A callback has ended the thread: what it ran is LOST. */
static inline void twill__worker_ended(void *worker_)
{
    twill__worker *worker = (twill__worker *)worker_;
    twill__thread()->duties = 0;
    twill__hand_lost(worker->runner.pool, &worker->runner, 0, NULL);
    twill__worker_leaves(worker, true);
}

/* worker_start. False: this thread will run nothing. */
static inline bool twill__worker_begins(twill__worker *worker)
{
    twill__pool *pool = worker->runner.pool;
    twill__hand *runner = &worker->runner;
    twill__turn turn;
    twill_task task;
    bool well = true;
    runner->state = NULL;
    runner->context = NULL;
    runner->said = runner->depth = 0;
    runner->ended = 0;
    runner->now = 0;
    twill_cancel_init(&runner->token, pool->options.run.until.cancel);
    atomic_fetch_and_explicit(&runner->gate, ~TWILL__GATE_SHUT, memory_order_seq_cst);
    twill__hand_task(runner, SIZE_MAX, pool->options.run.context, &task);
    twill__duty_begin(pool, NULL, TWILL__BE_WORKER);
    if (pool->options.run.worker_start)
        well = pool->options.run.worker_start(&runner->state, &task) == 0;
    twill__duty_over();
    twill__turn_begin(pool, &turn);
    pool->coming--;
    /* relaxed: set by this thread */
    atomic_fetch_or_explicit(&pool->team.flags,
                             atomic_load_explicit(&worker->thread.flags, memory_order_relaxed),
                             memory_order_relaxed);
    atomic_store_explicit(&worker->born, twill__ticks(), memory_order_relaxed); /* statistics */
    atomic_store_explicit(&worker->idle_ticks, 0, memory_order_relaxed);
    worker->idle_since = 0;
    worker->each_seen = pool->each_number;
    if (well) {
        worker->life = TWILL__LIVE;
        twill__hand_in(pool, runner);
        twill__pool_changed(pool, &turn);
    } else {
        pool->failed_at = twill__clock_now();
        twill__worker_left(pool, &turn, worker);
        twill__worker_makes_room(pool, &turn);
        twill__pool_bequeath(pool, &turn);
    }
    twill__turn_end(pool, &turn);
    return well;
}

static void twill__worker_main(void *worker_)
{
    twill__worker *worker = (twill__worker *)worker_;
    twill__pool *pool = worker->runner.pool;
    twill__self *self = twill__thread();
    twill__worker_bury(pool, worker);
    if (!twill__worker_begins(worker))
        return;
    self->team = &pool->team;
    self->runner = &worker->runner;
    worker->runner.self = self;
    TWILL__GUARD_PUSH(twill__worker_ended, worker);
    twill__worker_loop(worker);
    TWILL__GUARD_POP(0);
    twill__worker_leaves(worker, false);
}

/* ---- regions that block ---- */

static inline void twill__hand_block(const twill_task *task, bool begin)
{
    twill__hand *runner = (twill__hand *)task->private_;
    twill__pool *pool = runner->pool;
    twill__turn turn;
    if (runner->outside)
        return;
    twill__turn_begin(pool, &turn);
    if (begin) {
        if (pool->live < pool->most)
            twill__todos_shut(&pool->todos); /* as in twill__worker_left */
        if (!runner->blocked++ && !runner->given_up)
            pool->blocked++;
        if (twill__todos_length(&pool->todos))
            twill__pool_wants(pool, &turn);
    } else if (runner->blocked && !--runner->blocked && !runner->given_up) {
        pool->blocked--;
    }
    twill__turn_end(pool, &turn);
}

#endif

typedef struct twill__order { /* one submission */
    twill__pool *pool;
    twill__hand *runner; /* of this thread; NULL: it is none of the pool's */
    const twill_submit_options *options;
    twill__todo todo; /* as it goes into the queue, if it is plain */
    twill_future *future;
    twill__errand *work;       /* NULL: plain */
    bool plain, simple, waits; /* simple: the future alone is told of its end */
    const twill_until *until;
} twill__order;

/* No option but result, key and context. */
static inline bool twill__is_simple(const twill_submit_options *options)
{
    return !options->priority && !options->start_at && !options->start_by && !options->timeout &&
           !options->cancel && !options->on_done && !options->drop && !options->discard;
}

/* always_inline, here and below: most of it is known where it is called; 4 % of a plain submit */
static inline __attribute__((always_inline)) twill_status
twill__order_init(twill__order *order, twill_pool *pool, twill_task_fn *fn, twill_future *future,
                  const twill_submit_options *options, bool waits, const twill_until *until)
{
    static const twill_submit_options none;
    order->simple = !options || twill__is_simple(options);
    if (!options)
        options = &none;
    if (!pool || !fn || pool->layout != TWILL__POOL_LAYOUT ||
        (!order->simple &&
         (options->start_at < 0 || options->start_by < 0 || options->timeout < 0)))
        return TWILL_INVALID;
    order->pool = twill__pool_of(pool);
    if (!twill__pool_here(order->pool))
        return TWILL_FORKED;
    order->runner = twill__hand_here(order->pool);
    order->options = options;
    order->todo.fn = fn;
    order->future = future;
    order->work = NULL;
    order->plain = !future && order->simple && !options->result_size && !options->key;
    order->waits = waits;
    order->until = until;
    order->todo.context = options->context;
    if (!order->todo.context && order->runner && order->runner->depth)
        order->todo.context = order->runner->context; /* inherited */
    else if (!order->todo.context)
        order->todo.context = order->pool->options.run.context;
    return TWILL_OK;
}

/* ---- under the lock ---- */

static inline bool twill__order_timed(const twill__order *order)
{
    const twill_submit_options *options = order->options;
    return !order->simple && (options->start_at || options->start_by || options->timeout);
}

static inline void twill__hook_fires(int reason, const twill_task *task)
{
    twill_cancel_fire((twill_cancel *)task->context, reason);
}

/* What stands in lines of its own, which most tasks leave as they are. */
static inline void twill__errand_options(twill__errand *work, const twill_submit_options *options)
{
    work->priority = options->priority;
    work->start_at = options->start_at;
    work->start_by = options->start_by;
    work->timeout = options->timeout == TWILL_FOREVER ? 0 : options->timeout;
    work->on_done = options->on_done;
    work->drop = options->drop;
    work->discard = options->discard;
    work->timed = work->hooked = false;
    if (options->discard)
        twill__record_tells(&work->record);
}

/* Its token, if that is not as it should be. */
static inline void twill__errand_token(twill__pool *pool, twill__errand *work, twill_cancel *cancel)
{
    if (work->record.clean && !cancel)
        return;
    work->record.clean = !cancel;
    atomic_store_explicit(&work->gate, 0, memory_order_relaxed); /* nobody knows it yet */
    twill_cancel_init(&work->token, cancel ? cancel : pool->options.run.until.cancel);
}

/* The record of a task that is not plain. False: no memory. */
static inline bool twill__order_record(twill__order *order)
{
    const twill_submit_options *options = order->options;
    twill__pool *pool = order->pool;
    twill__record *record = twill__record_get(pool->core, options->result_size);
    twill__errand *work = twill__errand_of(record);
    if (!record)
        return false;
    if (!order->simple || !record->simple) /* none of them was set by the one before */
        twill__errand_options(work, options);
    record->simple = order->simple;
    if (work->pool != pool)
        work->pool = pool;
    if (work->below)
        work->below = NULL;
    record->fn = order->todo.fn;
    record->arg = order->todo.arg;
    record->context = order->todo.context;
    record->outcome.key = options->key;
    record->outcome.started = 0;
    twill__errand_token(pool, work, options->cancel);
    order->work = work;
    return true;
}

static inline bool twill__order_memory(twill__order *order)
{
    twill__pool *pool = order->pool;
    size_t promised = pool->later + pool->reserved;
    bool mixed = pool->todos.mixed || order->options->priority;
    /* all this anew when it has its record, and has waited for room: others have come meanwhile */
    if (!twill__todos_room(&pool->todos, mixed, promised) ||
        (twill__order_timed(order) && !twill__timer_space(&pool->todos, pool->timed + 1)))
        return false;
    if (!order->plain && !order->work && !twill__order_record(order))
        return false;
    pool->todos.mixed = mixed; /* only now: else plain ones would ask for that memory, too */
    return true;
}

/* It is accepted: it has a number, and ends in exactly one way. `ticks`: the counter when it came,
   just now; 0: not read. */
static inline __attribute__((always_inline)) void twill__order_number(twill__order *order,
                                                                      uint64_t ticks)
{
    twill__pool *pool = order->pool;
    twill__errand *work = order->work;
    order->todo.index = pool->next_index++;
    /* by one thread at a time */
    atomic_store_explicit(&pool->submitted,
                          atomic_load_explicit(&pool->submitted, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    if (!work)
        return;
    work->record.outcome.index = order->todo.index;
    work->record.outcome.queued =
        !work->record.simple
            ? twill__clock_now()
            : twill__ticker_at(&pool->ticker, ticks ? ticks : twill__ticker_read());
    if (order->future)
        *order->future = twill__record_hold(&work->record);
    if (twill__order_timed(order)) {
        work->timed = true;
        pool->timed++;
        twill__todos_hold(&pool->todos);
    }
}

/* What goes into the queue; `entry`: room for it. */
static inline const twill__todo *twill__order_todo(twill__order *order, twill__todo *entry,
                                                   uint64_t ticks)
{
    twill__todo *todo = &order->todo;
    if (order->work) {
        todo = entry;
        todo->fn = NULL;
        todo->arg = &order->work->entry;
        todo->context = NULL;
        todo->index = order->todo.index;
    }
    todo->stamp = !twill__pool_measures(order->pool, todo->index) ? 0
                  : ticks                                         ? ticks
                                                                  : twill__ticks();
    return todo;
}

static inline void twill__order_push(twill__order *order, twill__turn *turn)
{
    twill__pool *pool = order->pool;
    twill__errand *work = order->work;
    if (!work) {
        twill__todos_push(&pool->todos, twill__order_todo(order, NULL, 0), 0, 0,
                          pool->team.tick_rate);
    } else if (work->start_at > work->record.outcome.queued) {
        bool ends = work->start_by && work->start_by < work->start_at; /* before it may begin */
        work->record.where = TWILL__LATER;
        pool->later++;
        twill__errand_timer(pool, turn, work, ends ? work->start_by : work->start_at);
        if (!pool->live && !twill__worker_start(pool)) /* somebody must see the time */
            twill__pool_changed(pool, turn);
    } else {
        twill__errand_push(pool, turn, work);
    }
    twill__pool_level(pool, turn);
    if (!work || work->record.where == TWILL__READY)
        twill__pool_wants(pool, turn);
}

/* With events or a second token: what must be done without the lock before anybody can take the
   task. The room that it needs (0: none) is kept. */
static inline void twill__order_announce(twill__order *order, twill__turn *turn, size_t room)
{
    twill__pool *pool = order->pool;
    twill__errand *work = order->work;
    bool hooks = work && order->options->cancel && pool->options.run.until.cancel;
    if (!pool->options.on_event && !hooks)
        return;
    pool->reserved += room;
    if (work) /* relaxed: nobody knows it yet */
        atomic_store_explicit(&work->stage, TWILL__UNTOLD, memory_order_relaxed);
    twill__turn_end(pool, turn);
    twill__duty_begin(pool, work ? &work->record : NULL, TWILL__END_TASK);
    twill__turn_settle(pool, turn);
    if (hooks) {
        work->hook.fn = twill__hook_fires;
        work->hook.context = &work->token;
        work->hooked = true;
        twill_cancel_add_hook(pool->options.run.until.cancel, &work->hook);
    }
    if (pool->options.on_event) {
        twill_task task = twill__task_about(pool, order->todo.index, order->todo.context);
        twill__event(pool, TWILL_EVENT_QUEUED, TWILL_OK, order->todo.index,
                     work ? work->record.outcome.key : NULL, UINT_MAX, &task);
    }
    twill__duty_over();
    twill__turn_begin(pool, turn);
    pool->reserved -= room;
}

/* ---- what a full queue does ---- */

static inline twill_status twill__order_refuse(twill__order *order, twill__turn *turn,
                                               twill_status why)
{
    twill__pool *pool = order->pool;
    bool told = pool->options.on_event != NULL;
    if (order->future)
        *order->future = (twill_future){NULL, 0};
    if (order->work)
        twill__record_put(&order->work->record);
    pool->refused++;
    pool->visitors += told; /* else the pool may be gone after the turn */
    twill__turn_end(pool, turn);
    twill__turn_settle(pool, turn);
    if (told) {
        twill_task task = twill__task_about(pool, SIZE_MAX, order->todo.context);
        twill__duty_begin(pool, NULL, TWILL__LEAVE);
        twill__event(pool, TWILL_EVENT_REFUSED, why, SIZE_MAX, order->options->key, UINT_MAX,
                     &task);
        twill__duty_over();
        twill__turn_begin(pool, turn);
        twill__pool_left(pool, turn);
        twill__turn_end(pool, turn);
    }
    return why;
}

/* A plain task that will run on this thread as `runner`, at once: no lock, but for numbers. */
static inline void twill__order_inlined(twill__order *order, twill__hand *runner)
{
    twill__pool *pool = order->pool;
    if (runner->number == runner->numbers_end) {
        twill__turn turn;
        twill__turn_begin(pool, &turn);
        twill__todos_shut(&pool->todos);
        runner->number = pool->next_index;
        runner->numbers_end = pool->next_index += 64;
        if (runner->outside)
            runner->workers = twill__pool_told(pool);
        twill__turn_end(pool, &turn);
    }
    order->todo.index = runner->number++;
    order->todo.stamp = 0;
    twill__count(pool, runner, TWILL__N_CALLER_RAN);
    twill__count(pool, runner, TWILL__N_INLINED);
}

/* A plain task of a task, while the queue is full. */
static inline void twill__order_inline(twill__order *order)
{
    twill__order_inlined(order, order->runner);
    (void)twill__run_plain(order->pool, order->runner, &order->todo, true);
}

#define TWILL__RUNS_ON      7 /* tasks; as many as that even where a few wait at most */
#define TWILL__RUNS_ON_MOST 127

/* How many tasks run on the submitting thread without a look for room between. A queue that is
   nearly full all the time is the worst there is: each look, and each task that just fits, takes
   lines from the workers, who then go at half their speed. Meanwhile they take a quarter of what
   waits, at most. */
static inline uint32_t twill__order_run_length(const twill__pool *pool)
{
    size_t quarter = pool->capacity / (4 * (size_t)twill__pool_told(pool));
    return quarter < TWILL__RUNS_ON        ? TWILL__RUNS_ON
           : quarter < TWILL__RUNS_ON_MOST ? (uint32_t)quarter
                                           : TWILL__RUNS_ON_MOST;
}

/* This thread's, if it is one from outside whose plain tasks it runs itself while the queue is
   full; else NULL, as for those with events: see twill__order_is_inline. */
static inline twill__stand_in *twill__order_stand_in(const twill__order *order)
{
    if (order->pool->options.overflow != TWILL_OVERFLOW_CALLER_RUNS || !order->plain ||
        order->runner || !order->waits || order->pool->options.on_event)
        return NULL;
    return twill__stand_in_here(order->pool);
}

/* It runs as a plain task of this thread. False: somebody else is the stand-in just now, or the
   pool is closed. `more`: so many may follow without a look. */
static inline bool twill__order_stands_in(twill__order *order, twill__stand_in *stand_in,
                                          uint32_t more)
{
    if (!twill__stand_in_begins(stand_in))
        return false;
    /* relaxed: a guess */
    atomic_store_explicit(&stand_in->runs_on, more, memory_order_relaxed);
    twill__order_inlined(order, &stand_in->runner);
    twill__stand_in_runs(order->pool, &stand_in->runner, NULL, &order->todo);
    return true;
}

/* There was no room a moment ago, tasks are quick, and workers at it: not each of them looks again,
   since a look takes the workers' line from them. */
static inline bool twill__order_runs_on(twill__order *order, twill__stand_in *stand_in)
{
    twill__pool *pool = order->pool;
    /* relaxed, here and below: guesses */
    uint32_t more = atomic_load_explicit(&stand_in->runs_on, memory_order_relaxed);
    if (!more || !twill__pool_is_quick(pool) ||
        atomic_load_explicit(&pool->team.idle, memory_order_relaxed) >=
            twill__team_threads(&pool->team))
        return false;
    return twill__order_stands_in(order, stand_in, more - 1);
}

/* It has a number, and will not run. */
static inline void twill__order_drop(twill__order *order, twill__turn *turn, twill_status why)
{
    twill__pool *pool = order->pool;
    twill__todo entry;
    pool->visitors++;
    if (order->work)
        twill__errand_untimed(pool, order->work);
    twill__turn_end(pool, turn);
    twill__turn_settle_first(pool, turn, order->work);
    twill__todo_drop(pool, twill__order_todo(order, &entry, 0), why);
    twill__pool_ended(pool);
}

/* On this thread, now; unless its time is over, or, while it was announced, all that had not begun
   were cancelled. */
static inline twill_status twill__order_run(twill__order *order, twill__turn *turn)
{
    twill__pool *pool = order->pool;
    twill_ns by = order->options->start_by;
    if (order->options->start_at > twill__clock_now())
        return twill__order_refuse(order, turn, TWILL_FULL);
    if (!order->work && !twill__order_record(order))
        return twill__order_refuse(order, turn, TWILL_NO_MEMORY);
    twill__order_number(order, 0);
    twill__order_announce(order, turn, 0);
    if (pool->sealed || (by && by <= twill__clock_now())) {
        twill__order_drop(order, turn, pool->sealed ? TWILL_CANCELLED : TWILL_TIMEOUT);
        return TWILL_OK;
    }
    twill__count(pool, order->runner, TWILL__N_CALLER_RAN);
    twill__run_here(pool, turn, order->runner, order->work);
    return TWILL_OK;
}

static inline twill_status twill__order_accept(twill__order *order, twill__turn *turn)
{
    twill__order_number(order, 0);
    twill__order_announce(order, turn, 1);
    if (order->pool->sealed) { /* meanwhile: all that had not begun were cancelled */
        twill__order_drop(order, turn, TWILL_CANCELLED);
        return TWILL_OK;
    }
    twill__order_push(order, turn);
    twill__turn_end(order->pool, turn);
    twill__turn_settle(order->pool, turn);
    return TWILL_OK;
}

/* The new one is dropped. */
static inline twill_status twill__order_dropped(twill__order *order, twill__turn *turn)
{
    twill__order_number(order, 0);
    twill__order_announce(order, turn, 0);
    twill__order_drop(order, turn, TWILL_DROPPED);
    return TWILL_DROPPED;
}

/* One that is queued makes room. */
static inline twill_status twill__order_displaces(twill__order *order, twill__turn *turn,
                                                  bool newest)
{
    twill__pool *pool = order->pool;
    twill__errand *work;
    twill__todo victim;
    if (!twill__todos_length(&pool->todos)) /* all are delayed, or on their way in */
        return twill__order_refuse(order, turn, TWILL_FULL);
    victim = twill__todos_drop(&pool->todos, newest);
    if ((work = twill__todo_work(&victim))) {
        work->record.where = TWILL__NOWHERE;
        twill__errand_untimed(pool, work);
    }
    /* the new one takes its room; the victim is waited for without any */
    pool->visitors++;
    twill__duty_begin(pool, work ? &work->record : NULL, TWILL__END_TASK); /* the victim's */
    (void)twill__order_accept(order, turn);
    twill__duty_over();
    twill__todo_drop(pool, &victim, TWILL_DROPPED);
    twill__pool_ended(pool);
    return TWILL_OK;
}

/* A guess without the lock. */
static inline bool twill__pool_looks_roomy(const twill__pool *pool)
{
    uint64_t head = atomic_load_explicit(&pool->todos.head, memory_order_seq_cst);
    uint64_t tail = twill__todos_tail_now(&pool->todos);
    if (head & TWILL__HOLD)
        return atomic_load_explicit(&pool->used, memory_order_relaxed) < pool->capacity;
    /* or others have moved both meanwhile */
    return tail - head < pool->capacity ||
           atomic_load_explicit(&pool->todos.head, memory_order_seq_cst) != head;
}

static inline bool twill__pool_has_room(void *pool)
{
    return twill__pool_looks_roomy((const twill__pool *)pool);
}

/* Looks for room for a moment, outside the lock: workers that are quick make some before a sleeper
   could be woken. */
static inline void twill__order_spin(const twill__order *order, twill__turn *turn)
{
    twill__pool *pool = order->pool;
    if (!twill__spin_helps() || pool->senders.first)
        return;
    pool->visitors++; /* the end waits for us */
    twill__turn_end(pool, turn);
    twill__turn_settle(pool, turn);
    (void)twill__spin_for(twill__pool_has_room, pool, TWILL__SPIN_WAIT, TWILL__SPIN_YIELDS);
    twill__turn_begin(pool, turn);
    twill__pool_left(pool, turn);
}

/* Waits for room. OK: there is, and it is kept in `reserved`. Under the lock at both ends; a
   visitor from then on. */
static inline twill_status twill__order_wait(twill__order *order, twill__turn *turn)
{
    twill__pool *pool = order->pool;
    twill_status status;
    twill__node me;
    twill__node_init(&me);
    twill__list_append(&pool->senders, &me); /* held: workers give it room */
    pool->visitors++;
    do { /* exit: there is room, or the wait is over; without workers it looks again and again */
        twill_ns soon = twill__pool_revives(pool);
        twill__turn_end(pool, turn);
        twill__turn_settle(pool, turn);
        status =
            twill__wait_sooner(&me, twill__nearer(order->until->deadline, soon), *order->until);
        twill__turn_begin(pool, turn);
        if (status == TWILL_EMPTY && pool->closed)
            status = TWILL_CLOSED; /* who closed has passed it */
        if (status == TWILL_EMPTY) {
            /* relaxed: who gives room does so under the lock */
            atomic_store_explicit(&me.word, 0, memory_order_relaxed);
            twill__pool_room(pool, turn);
        }
    } while (status == TWILL_EMPTY);
    twill__todos_shut(&pool->todos);
    if (status == TWILL_OK)
        status = (twill_status)me.answer;
    else
        twill__list_remove(&pool->senders, &me);
    return status;
}

static inline twill_status twill__order_decides(twill__order *order, twill__turn *turn);

static inline twill_status twill__order_full(twill__order *order, twill__turn *turn)
{
    twill__pool *pool = order->pool;
    twill_status status;
    twill__todos_hold(&pool->todos); /* else a worker makes room meanwhile */
    if (!twill__pool_full(pool))
        return twill__order_accept(order, turn);
    switch (pool->options.overflow) {
    case TWILL_OVERFLOW_REJECT:
        return twill__order_refuse(order, turn, TWILL_FULL);
    case TWILL_OVERFLOW_DROP_INCOMING:
        return twill__order_dropped(order, turn);
    case TWILL_OVERFLOW_DROP_OLDEST:
        return twill__order_displaces(order, turn, false);
    case TWILL_OVERFLOW_DROP_NEWEST:
        return twill__order_displaces(order, turn, true);
    case TWILL_OVERFLOW_CALLER_RUNS:
        return order->waits ? twill__order_run(order, turn)
                            : twill__order_refuse(order, turn, TWILL_FULL);
    case TWILL_OVERFLOW_BLOCK:
        break;
    }
    if (!order->waits)
        return twill__order_refuse(order, turn, TWILL_FULL);
    if (order->runner || /* never a wait for its own queue */
        (!pool->options.run.worker_start && !pool->options.run.worker_stop &&
         twill__pool_counts_on_us(pool)))
        return twill__order_run(order, turn);
    twill__order_spin(order, turn);
    twill__todos_hold(&pool->todos);
    if (pool->closed || (!pool->senders.first && !twill__pool_full(pool)))
        return twill__order_decides(order, turn); /* not full again: it is held */
    status = twill__order_wait(order, turn);
    if (status == TWILL_OK) {
        pool->reserved--;
        if (pool->sealed || !twill__order_memory(order)) {
            status = pool->sealed ? TWILL_CLOSED : TWILL_NO_MEMORY;
            twill__pool_room(pool, turn);
        }
    }
    status = status == TWILL_OK ? twill__order_accept(order, turn)
                                : twill__order_refuse(order, turn, status);
    twill__turn_begin(pool, turn);
    twill__pool_left(pool, turn);
    twill__turn_end(pool, turn);
    return status;
}

/* ---- submitting ---- */

/* A guess that saves the lock: it is full, and then a task's own task runs at once anyway. With
   events it needs a record, which still says which one it was when it has ended the thread. */
static inline bool twill__order_is_inline(const twill__order *order)
{
    const twill__pool *pool = order->pool;
    return order->plain && order->runner && order->waits && !pool->options.on_event &&
           (pool->options.overflow == TWILL_OVERFLOW_BLOCK ||
            pool->options.overflow == TWILL_OVERFLOW_CALLER_RUNS) &&
           !twill__pool_looks_roomy(pool);
}

/* Whether nothing of it is out of the ordinary: it goes in behind the others, nobody is told. */
static inline bool twill__order_ordinary(const twill__order *order)
{
    const twill_submit_options *options = order->options;
    const twill_pool_options *pool = &order->pool->options;
    return !pool->on_event && (order->simple || (!options->priority && !twill__order_timed(order) &&
                                                 !(options->cancel && pool->run.until.cancel)));
}

/* Inside: the longest that the queue has been. */
static inline void twill__order_peak(twill__pool *pool, uint64_t tail)
{
    if (tail - pool->todos.seen <= pool->peak)
        return; /* not longer, even if nothing was taken since the last look */
    twill__todos_see(&pool->todos);
    if (tail - pool->todos.seen > pool->peak)
        pool->peak = (size_t)(tail - pool->todos.seen);
}

/* Whether it is better to look for room out there for a moment than to take the lock, and sleep. */
static inline bool twill__order_may_linger(const twill__order *order)
{
    const twill__pool *pool = order->pool;
    return pool->options.overflow == TWILL_OVERFLOW_BLOCK && order->waits && !order->runner &&
           !order->until->deadline && !order->until->cancel && twill__pool_is_quick(pool) &&
           twill__cpus_hint() != 1;
}

/* After that, outside. The looks are far apart, so that a few tasks may come in one after another:
   each takes the workers' line from them. False: there was no room for long. The end waits for who
   lingers. */
static inline bool twill__order_lingers(const twill__order *order)
{
    const twill__pool *pool = order->pool;
    uint64_t since = twill__ticks(), wait = pool->team.tick_rate * TWILL__SEARCH >> 10;
    for (unsigned look = 0; look < 3; look++, wait *= 2) {
        while (TWILL__SPIN && twill__ticks() - since < wait)
            for (unsigned pause = 0; pause < 16; pause++)
                twill__pause();
        if (twill__pool_looks_roomy(pool))
            return true;
    }
    return false;
}

#ifndef TWILL__LINGERS   /* the explorer wants fewer */
#define TWILL__LINGERS 4 /* rounds of 10 us, while others take the room: then it waits in turn */
#endif

typedef enum twill__joined { TWILL__NOT_IN, TWILL__NO_ROOM, TWILL__IN } twill__joined;

/* The short way for most tasks, without the lock and with the same result. NOT_IN: it is for the
   long one; NO_ROOM: there may be some in a moment. `lingers`: is counted among those who have to
   come back. Once it is in, it does not touch the pool again, which may be gone. */
static inline twill__joined twill__order_joins(twill__order *order, bool *lingers)
{
    twill__pool *pool = order->pool;
    twill__todos *todos = &pool->todos;
    _Atomic uint32_t *epoch = &pool->team.epoch;
    int sleepers = 0;
    uint64_t tail;
    uint32_t idle;
    bool fits;
    twill__todo entry;
    /* before the door, whose CAS waits for what was written last: so does the counter, meanwhile */
    uint64_t ticks = !order->plain && order->simple ? twill__ticker_read() : 0;
    if (!twill__todos_enter(todos, &tail))
        return TWILL__NOT_IN;
    pool->lingering -= *lingers;
    fits = twill__todos_fits(todos, tail, pool->capacity);
    *lingers = false;
    if (!fits || (!order->plain && !twill__order_record(order))) {
        /* else it is the ring that is too small */
        *lingers = !fits && tail - todos->seen >= pool->capacity && twill__order_may_linger(order);
        pool->lingering += *lingers;
        twill__todos_leave(todos, tail);
        return *lingers ? TWILL__NO_ROOM : TWILL__NOT_IN;
    }
    twill__order_number(order, ticks);
    if (order->work)
        order->work->record.where = TWILL__READY;
    twill__todos_fill(todos, tail, twill__order_todo(order, &entry, ticks));
    twill__order_peak(pool, tail + 1);
    /* seq_cst: see twill__todos_enter */
    idle = atomic_load_explicit(&pool->team.idle, memory_order_seq_cst);
    if (idle && twill__pool_calls(pool, idle, twill__team_threads(&pool->team)))
        sleepers = twill__call_round(&pool->team, 1);
    twill__todos_leave(todos, tail + 1);
    if (sleepers)
        twill__wake(epoch, sleepers);
    return TWILL__IN;
}

/* Without the lock. False: it is for the long way. */
static inline bool twill__order_is_short(twill__order *order, bool *lingers)
{
    twill__pool *pool = order->pool;
    twill__stand_in *stand_in = twill__order_stand_in(order);
    if (twill__order_is_inline(order)) {
        twill__order_inline(order);
        return true;
    }
    if (stand_in && twill__order_runs_on(order, stand_in))
        return true;
    if (twill__order_ordinary(order)) {
        twill__joined joined;
        unsigned rounds = 0;
        /* exit: it is in, or the door is shut, or there was no room for long, or others had it */
        do
            if ((joined = twill__order_joins(order, lingers)) == TWILL__IN)
                return true;
        while (joined == TWILL__NO_ROOM && rounds++ < TWILL__LINGERS &&
               twill__order_lingers(order));
    }
    return stand_in && !twill__pool_looks_roomy(pool) &&
           twill__order_stands_in(order, stand_in, twill__order_run_length(pool));
}

/* Whether it comes from an accepted task, or from a call that one has made: then it comes in after
   a close, too. */
static inline bool twill__order_is_inner(const twill__order *order)
{
    return order->runner || twill__pool_counts_on_us(order->pool);
}

/* Under the lock and shut, which it leaves. */
static inline twill_status twill__order_decides(twill__order *order, twill__turn *turn)
{
    twill__pool *pool = order->pool;
    if (pool->sealed || (pool->closed && !twill__order_is_inner(order)))
        return twill__order_refuse(order, turn, TWILL_CLOSED);
    if (!twill__order_memory(order))
        return twill__order_refuse(order, turn, TWILL_NO_MEMORY);
    if (twill__pool_full(pool))
        return twill__order_full(order, turn);
    return twill__order_accept(order, turn);
}

static inline twill_status twill__order_go(twill__order *order)
{
    twill__pool *pool = order->pool;
    bool lingers = false;
    twill__turn turn;
    twill_status status;
    if (twill__order_is_short(order, &lingers))
        return TWILL_OK;
    twill__turn_begin(pool, &turn);
    twill__todos_shut(&pool->todos);
    if (!lingers)
        return twill__order_decides(order, &turn);
    pool->lingering--;
    pool->visitors++; /* the end waits for it until it has left */
    status = twill__order_decides(order, &turn);
    twill__turn_begin(pool, &turn);
    twill__pool_left(pool, &turn);
    twill__turn_end(pool, &turn);
    return status;
}

static inline __attribute__((always_inline)) twill_status
twill__submit_one(twill_pool *pool, twill_task_fn *fn, void *arg, twill_future *future,
                  const twill_submit_options *options, bool waits, const twill_until *until)
{
    twill__order order;
    twill_status status = twill__order_init(&order, pool, fn, future, options, waits, until);
    if (status != TWILL_OK) {
        if (future)
            *future = (twill_future){NULL, 0};
        return status;
    }
    order.todo.arg = arg;
    return twill__order_go(&order);
}

TWILL__DEFINE twill_status twill_pool_submit(twill_pool *pool, twill_task_fn *fn, void *arg,
                                             twill_future *future,
                                             const twill_submit_options *options)
{
    static const twill_until forever = {0, NULL};
    return twill__submit_one(pool, fn, arg, future, options, true, &forever);
}

TWILL__DEFINE twill_status twill_pool_try_submit(twill_pool *pool, twill_task_fn *fn, void *arg,
                                                 twill_future *future,
                                                 const twill_submit_options *options)
{
    static const twill_until forever = {0, NULL};
    return twill__submit_one(pool, fn, arg, future, options, false, &forever);
}

TWILL__DEFINE twill_status twill_pool_submit_until(twill_pool *pool, twill_task_fn *fn, void *arg,
                                                   twill_future *future, twill_until until,
                                                   const twill_submit_options *options)
{
    return twill__submit_one(pool, fn, arg, future, options, true, &until);
}

/* As many of args[*at..n-1] as there is room for, under one lock. */
static inline void twill__submit_some(twill__order *order, void *const *args, size_t *at, size_t n,
                                      twill_future *futures)
{
    twill__pool *pool = order->pool;
    size_t from = *at;
    twill__turn turn;
    twill__turn_begin(pool, &turn);
    twill__todos_shut(&pool->todos);
    while (*at < n && !pool->sealed && !(pool->closed && !twill__order_is_inner(order)) &&
           !twill__pool_full(pool)) {
        order->work = NULL;
        order->todo.arg = args ? args[*at] : NULL;
        order->future = futures ? &futures[*at] : NULL;
        if (!twill__order_memory(order))
            break;
        twill__order_number(order, 0);
        twill__order_push(order, &turn);
        ++*at;
    }
    if (turn.call && *at - from > turn.call)
        turn.call = *at - from < UINT_MAX ? (unsigned)(*at - from) : UINT_MAX;
    twill__turn_end(pool, &turn);
    twill__turn_settle(pool, &turn);
}

TWILL__DEFINE twill_status twill_pool_submit_many(twill_pool *pool, twill_task_fn *fn,
                                                  void *const *args, size_t n,
                                                  twill_future *futures, size_t *accepted,
                                                  const twill_submit_options *options)
{
    static const twill_until forever = {0, NULL};
    twill__order order;
    twill_status status = twill__order_init(&order, pool, fn, futures, options, true, &forever);
    bool dropped = false;
    size_t at = 0;
    while (at < n && (status == TWILL_OK || status == TWILL_DROPPED)) { /* exit: all, or refused */
        bool quiet = !order.pool->options.on_event &&
                     !(order.options->cancel && order.pool->options.run.until.cancel);
        if (quiet)
            twill__submit_some(&order, args, &at, n, futures);
        if (at == n)
            break;
        order.work = NULL;
        order.todo.arg = args ? args[at] : NULL;
        order.future = futures ? &futures[at] : NULL;
        status = twill__order_go(&order);
        dropped = dropped || status == TWILL_DROPPED;
        at += status == TWILL_OK || status == TWILL_DROPPED;
    }
    if (accepted)
        *accepted = at;
    while (futures && at < n) /* exit: none is left that a wait could take for a task */
        futures[at++] = (twill_future){NULL, 0};
    return status == TWILL_OK && dropped ? TWILL_DROPPED : status;
}

#endif

#ifndef TWILL__CPU_SECONDS /* of the process so far; the explorer sets it */
#define TWILL__CPU_SECONDS() ((double)clock() / CLOCKS_PER_SEC)
#endif

/* ---- growth ---- */

static inline unsigned twill__pool_busy(const twill__pool *pool)
{
    unsigned busy = 0;
    for (const twill__hand *runner = pool->runners; runner; runner = runner->next)
        busy += runner->busy && !runner->outside && !runner->given_up;
    return busy;
}

/* Whether another worker would find a CPU to run on: somebody says that he blocks, or the process
   used less than 0.8 CPU a busy worker since the last look. */
static inline bool twill__pool_has_cpu(twill__pool *pool, twill_ns now)
{
    double seconds = TWILL__CPU_SECONDS(), then = (double)pool->cpu_then / 1e9;
    double span = (double)(now - pool->cpu_at) / 1e9;
    bool first = pool->cpu_at == 0;
    pool->cpu_at = now;
    pool->cpu_then = (twill_ns)(seconds * 1e9);
    if (pool->blocked)
        return true;
    return !first && span > 0 && (seconds - then) / span < 0.8 * (double)twill__pool_busy(pool);
}

/* Under the lock. When to look again. */
static inline twill_ns twill__pool_grow(twill__pool *pool, twill_ns now)
{
    twill_ns after = pool->options.grow_after ? pool->options.grow_after : TWILL__GROW_AFTER;
    twill_ns queued, due;
    uint64_t oldest;
    if (pool->live >= pool->most || !twill__todos_length(&pool->todos) || pool->paused ||
        atomic_load_explicit(&pool->team.idle, memory_order_seq_cst)) {
        pool->cpu_at = 0;
        return TWILL_FOREVER;
    }
    oldest = twill__todos_oldest(&pool->todos);
    /* one that nobody measured came before there was a watch */
    queued = oldest ? twill__stamp_ns(oldest, pool->team.tick_rate, twill__ticks(), now) : 0;
    due = twill__instant_after(queued > pool->grown_at ? queued : pool->grown_at, after);
    if (!pool->cpu_at) /* the span that is measured begins */
        (void)twill__pool_has_cpu(pool, now);
    else if (now >= due) {
        pool->grown_at = now;
        if (twill__pool_has_cpu(pool, now))
            (void)twill__worker_start(pool);
        return twill__instant_after(now, after);
    }
    return due > now ? due : twill__instant_after(now, after);
}

/* ---- stuck ---- */

typedef struct twill__stuck { /* what the watch has found under the lock */
    bool found, plain;        /* plain: one is given up in a task without a record */
    size_t index;
    void *key, *context;
    unsigned worker;
    twill__errand *works; /* pinned, by `stuck_chain` */
} twill__stuck;

/* A worker is not counted on any more; another one takes its place. */
static inline void twill__worker_give_up(twill__pool *pool, twill__worker *worker,
                                         twill__stuck *stuck)
{
    twill__hand *runner = &worker->runner;
    size_t count = runner->plain;
    stuck->plain = runner->plain;
    for (twill__errand *work = twill__hand_work(runner); work; work = work->below) {
        count++;
        if (twill__record_pin(&work->record)) {
            work->stuck_chain = stuck->works;
            stuck->works = work;
        }
    }
    runner->given_up = true;
    runner->forgiven = count;
    pool->over += count;
    worker->life = TWILL__GIVEN_UP;
    pool->live--;
    pool->abandoned++;
    if (runner->blocked)
        pool->blocked--;
    for (twill__everyone *each = twill__each_next(pool, worker); each; each = each->next)
        each->left--;
    twill__pool_threads(pool);
    if (pool->live - pool->going < pool->least)
        (void)twill__worker_start(pool);
}

/* Under the lock: the first worker whose task has run for too long, not yet told. When to look
   again. */
static inline twill_ns twill__pool_stuck(twill__pool *pool, twill__turn *turn, twill_ns now,
                                         twill__stuck *stuck)
{
    twill_ns after = pool->options.stuck_after, next = TWILL_FOREVER;
    for (twill__hand *runner = pool->runners; runner; runner = runner->next) {
        twill__worker *worker = (twill__worker *)(void *)runner;
        const twill__errand *base = twill__hand_work(runner);
        if (runner->outside || !runner->busy || runner->told)
            continue;
        if (now - runner->since < after || stuck->found) {
            twill_ns due = twill__instant_after(runner->since, after);
            next = due < next ? due : next;
            continue;
        }
        while (base && base->below)
            base = base->below;
        stuck->found = runner->told = true;
        stuck->index = runner->index;
        stuck->worker = runner->worker;
        stuck->key = base && !runner->plain ? base->record.outcome.key : NULL;
        stuck->context = base && !runner->plain ? base->record.context : runner->about;
        if (pool->abandoned < pool->options.max_abandoned)
            twill__worker_give_up(pool, worker, stuck);
    }
    twill__pool_changed(pool, turn);
    return next;
}

static inline void twill__watch_tells(twill__pool *pool, const twill__stuck *stuck)
{
    twill_task task = twill__task_about(pool, stuck->index, stuck->context);
    twill__event(pool, TWILL_EVENT_STUCK, TWILL_LOST, stuck->index, stuck->key, stuck->worker,
                 &task);
    if (stuck->plain) {
        twill__count(pool, NULL, TWILL__N_LOST);
        twill__event(pool, TWILL_EVENT_ENDED, TWILL_LOST, stuck->index, NULL, stuck->worker, &task);
    }
    for (twill__errand *work = stuck->works, *next; work; work = next) {
        next = work->stuck_chain;
        twill__errand_overrule(pool, work, TWILL_LOST);
        twill__record_unpin(&work->record);
    }
}

/* ---- the thread ---- */

/* One look. *word: for the park; false: it is to end. */
static inline bool twill__watch_looks(twill__pool *pool, twill__stuck *stuck, uint32_t *word,
                                      twill_ns *until)
{
    twill__turn turn;
    twill_ns now, next;
    bool goes_on;
    memset(stuck, 0, sizeof *stuck);
    twill__turn_begin(pool, &turn);
    now = twill__clock_now();
    goes_on = !pool->watch_ends;
    (void)twill__pool_tick(pool, &turn, now); /* it looks again at once if more is due */
    *until = twill__timer_next(&pool->todos);
    if (pool->options.stuck_after) {
        next = twill__pool_stuck(pool, &turn, now, stuck);
        *until = next < *until ? next : *until;
    }
    next = twill__pool_grow(pool, now);
    *until = next < *until ? next : *until;
    next = twill__pool_revives(pool);
    *until = next && next < *until ? next : *until;
    /* raised under the lock or after it, by whoever wants us to look. relaxed: who has had the lock
       after us raises it after this, and then we do not sleep by what we read here */
    *word = atomic_load_explicit(&pool->watch_word, memory_order_relaxed);
    /* read under the lock */
    atomic_store_explicit(&pool->watch_until, *until, memory_order_relaxed);
    twill__turn_end(pool, &turn);
    twill__turn_settle(pool, &turn);
    return goes_on;
}

static inline void twill__watch_main(void *pool_)
{
    twill__pool *pool = (twill__pool *)pool_;
    twill__stuck stuck;
    twill__turn turn;
    uint32_t word;
    twill_ns until;
    twill__duty_begin(pool, NULL, TWILL__BE_WORKER);
    while (twill__watch_looks(pool, &stuck, &word, &until)) {
        if (stuck.found)
            twill__watch_tells(pool, &stuck);
        else
            (void)twill__park(&pool->watch_word, word, until);
    }
    if (stuck.found)
        twill__watch_tells(pool, &stuck);
    twill__turn_begin(pool, &turn);
    pool->has_watch = false;
    twill__pool_changed(pool, &turn);
    twill__turn_end(pool, &turn);
}

/* Under the lock, before the pool is known. */
static inline bool twill__watch_start(twill__pool *pool)
{
    memset(&pool->watch, 0, sizeof pool->watch);
    pool->watch.fn = twill__watch_main;
    pool->watch.arg = pool;
    pool->watch.cpu = UINT_MAX;
    twill__thread_name(&pool->watch, pool->name);
    pool->has_watch = true;
    if (twill__thread_start(&pool->watch))
        return true;
    pool->has_watch = false;
    return false;
}

#endif

/* ---- create ---- */

static inline bool twill__pool_run_valid(const twill_run *run)
{
    return !run->pool && !run->until.deadline && !run->on_error && !run->max_errors &&
           !run->errors && !run->errors_capacity && !run->statuses && !run->codes && !run->report &&
           !run->cpus == !run->cpu_count;
}

static inline bool twill__pool_valid(const twill_pool_options *options, unsigned workers)
{
    return twill__pool_run_valid(&options->run) &&
           (!options->max_workers || options->max_workers >= workers) && options->idle_after >= 0 &&
           options->grow_after >= 0 && options->ageing >= 0 && options->stuck_after >= 0 &&
           (unsigned)options->overflow <= TWILL_OVERFLOW_CALLER_RUNS &&
           (options->stuck_after || !options->max_abandoned) &&
           !options->on_level == !(options->high_mark || options->low_mark) &&
           (!options->on_level || (options->high_mark > options->low_mark));
}

static inline void twill__pool_free(twill__pool *pool)
{
    twill__core *core = pool->core;
    for (unsigned i = 0; i < pool->numbers; i++)
        if (pool->worker[i])
            TWILL_FREE(pool->worker[i]->memory);
    TWILL_FREE(pool->worker);
    twill__stand_ins_end(pool);
    pool->worker = NULL;
    pool->numbers = 0;
    twill__todos_free(&pool->todos);
    twill__core_leave(core); /* and then, with the last future, the pool's own memory */
}

/* The table of numbers; under the lock, or before the pool is known. */
static inline bool twill__pool_numbers(twill__pool *pool, unsigned most)
{
    size_t numbers = (size_t)most + pool->options.max_abandoned;
    void *fresh;
    if (numbers <= pool->numbers)
        return true;
    if (numbers > UINT_MAX)
        return false;
    fresh = twill__larger(pool->worker, pool->numbers * sizeof *pool->worker,
                          numbers * sizeof *pool->worker);
    if (!fresh)
        return false;
    pool->worker = (twill__worker **)fresh;
    for (size_t i = pool->numbers; i < numbers; i++)
        pool->worker[i] = NULL;
    pool->numbers = (unsigned)numbers;
    return true;
}

/* Memory, nothing started. NULL: there is none. */
static inline twill__pool *twill__pool_make(const twill_pool_options *options, unsigned workers)
{
    const twill_run *run = &options->run;
    size_t size = sizeof(twill__pool) + TWILL__LINE, cpus = run->cpu_count;
    char *memory = cpus > (SIZE_MAX - size) / sizeof *run->cpus
                       ? NULL
                       : (char *)TWILL_MALLOC(size + cpus * sizeof *run->cpus);
    twill__pool *pool;
    if (!memory)
        return NULL;
    pool = (twill__pool *)(void *)(memory +
                                   (TWILL__LINE - (uintptr_t)memory % TWILL__LINE) % TWILL__LINE);
    memset(pool, 0, sizeof *pool);
    twill__team_init(&pool->team, NULL);
    pool->head.layout = TWILL__POOL_LAYOUT;
    pool->head.team = &pool->team;
    pool->options = *options;
    pool->capacity = options->capacity ? options->capacity : 1024;
    for (size_t i = 0; run->name && run->name[i] && i < sizeof pool->name - 1; i++)
        pool->name[i] = run->name[i];
    pool->options.run.name = NULL; /* the user's string may go, and the list of CPUs */
    if (cpus)
        pool->options.run.cpus =
            (const unsigned *)memcpy(pool + 1, run->cpus, cpus * sizeof *run->cpus);
    pool->tick_scale = ((uint64_t)1 << 40) / twill__ticks_per_ms();
    pool->least = workers;
    pool->most = options->max_workers ? options->max_workers : workers;
    pool->core = twill__core_create(sizeof(twill__errand), twill__errand_table());
    if (!pool->core) {
        TWILL_FREE(memory);
        return NULL;
    }
    pool->core->owner = memory;
    if (!twill__todos_init(&pool->todos, pool->capacity, options->newest_first, options->ageing) ||
        !twill__pool_numbers(pool, pool->most)) {
        twill__pool_free(pool);
        return NULL;
    }
    twill__pool_tells(pool);
    twill__stand_ins_make(pool);
    return pool;
}

static inline bool twill__all_came(twill__pool *pool, const void *data)
{
    (void)data;
    return !pool->coming;
}

static inline twill_status twill__pool_end(twill__pool *pool, twill_until drain, twill_until join,
                                           twill_stopped *out);

/* Starts what is to start, and waits for worker_start. */
static inline twill_status twill__pool_begin(twill__pool *pool)
{
    const twill_pool_options *options = &pool->options;
    twill_until forever = {0, NULL};
    bool watched = options->stuck_after || pool->most > pool->least, well = true, few;
    unsigned live;
    twill__turn turn;
    twill__turn_begin(pool, &turn);
    if (watched)
        well = twill__watch_start(pool);
    while (well && !options->lazy && pool->live < pool->least)
        well = twill__worker_start(pool);
    (void)twill__pool_await(pool, &turn, forever, twill__all_came, NULL);
    live = pool->live;
    few = !options->lazy && live < pool->least;
    if (few && live)
        pool->least = live; /* it does not try again by itself; twill_pool_resize does */
    twill__turn_end(pool, &turn);
    if ((watched && !pool->has_watch) || (few && (!live || options->run.strict))) {
        (void)twill__pool_end(pool, forever, forever, NULL);
        twill__pool_free(pool);
        return TWILL_NO_THREAD;
    }
    return TWILL_OK;
}

TWILL__DEFINE twill_status twill_pool_create(twill_pool **out, const twill_pool_options *options)
{
    static const twill_pool_options none;
    unsigned workers;
    twill__pool *pool;
    twill_status status;
    if (!out)
        return TWILL_INVALID;
    *out = NULL;
    if (!options)
        options = &none;
    workers = options->run.workers ? options->run.workers : twill__cpus_now();
    if (!options->run.workers && options->max_workers && options->max_workers < workers)
        workers = options->max_workers;
    if (!twill__pool_valid(options, workers))
        return TWILL_INVALID;
    if (workers > TWILL__MAX_NUMBERS || options->max_workers > TWILL__MAX_NUMBERS ||
        options->max_abandoned > TWILL__MAX_NUMBERS ||
        options->capacity > SIZE_MAX / 4 / sizeof(twill__todo))
        return TWILL_TOO_BIG;
    pool = twill__pool_make(options, workers);
    if (!pool)
        return TWILL_NO_MEMORY;
    status = twill__pool_begin(pool);
    if (status == TWILL_OK)
        *out = &pool->head;
    return status;
}

/* ---- small changes ---- */

/* INVALID, FORKED; else the lock is held. */
static inline twill_status twill__pool_lock(twill_pool *pool, twill__turn *turn)
{
    if (!pool || pool->layout != TWILL__POOL_LAYOUT)
        return TWILL_INVALID;
    if (!twill__pool_here(twill__pool_of(pool)))
        return TWILL_FORKED;
    twill__turn_begin(twill__pool_of(pool), turn);
    return TWILL_OK;
}

/* All idle workers look round. */
static inline void twill__pool_rouse(twill__pool *pool, twill__turn *turn)
{
    turn->call = UINT_MAX;
    turn->watch = pool->has_watch;
}

TWILL__DEFINE twill_status twill_pool_pause(twill_pool *public_pool)
{
    twill__pool *pool = twill__pool_of(public_pool);
    twill__turn turn;
    twill_status status = twill__pool_lock(public_pool, &turn);
    if (status != TWILL_OK)
        return status;
    if (pool->closed) {
        status = TWILL_CLOSED;
    } else {
        pool->paused = true;
        twill__todos_hold(&pool->todos);
    }
    twill__turn_end(pool, &turn);
    return status;
}

static inline void twill__pool_unpause(twill__pool *pool, twill__turn *turn)
{
    pool->paused = false;
    twill__pool_changed(pool, turn); /* there may be no worker: then who waits sees to it */
    if (!twill__todos_length(&pool->todos))
        return;
    twill__pool_wants(pool, turn);
    twill__pool_rouse(pool, turn);
}

TWILL__DEFINE twill_status twill_pool_resume(twill_pool *public_pool)
{
    twill__pool *pool = twill__pool_of(public_pool);
    twill__turn turn;
    twill_status status = twill__pool_lock(public_pool, &turn);
    if (status != TWILL_OK)
        return status;
    twill__pool_unpause(pool, &turn);
    twill__turn_end(pool, &turn);
    return TWILL_OK;
}

TWILL__DEFINE twill_status twill_pool_resize(twill_pool *public_pool, unsigned workers,
                                             unsigned max_workers)
{
    twill__pool *pool = twill__pool_of(public_pool);
    twill_until forever = {0, NULL};
    unsigned most = max_workers ? max_workers : workers;
    bool watched;
    twill__turn turn;
    twill_status status;
    if (!pool || !workers || most < workers)
        return TWILL_INVALID;
    if (most > TWILL__MAX_NUMBERS)
        return TWILL_TOO_BIG;
    status = twill__pool_lock(public_pool, &turn);
    if (status != TWILL_OK)
        return status;
    watched = pool->has_watch;
    if (pool->closed)
        status = TWILL_CLOSED;
    else if (!twill__pool_numbers(pool, most + pool->going))
        status = TWILL_NO_MEMORY;
    else if (most > workers && !pool->has_watch && !twill__watch_start(pool))
        status = TWILL_NO_THREAD;
    if (status == TWILL_OK) {
        twill__todos_hold(&pool->todos); /* for those who are too many now, and the watch */
        for (twill__hand *runner = pool->runners; runner; runner = runner->next)
            if (!watched) /* what runs was not timed: it counts from now on */
                runner->since = twill__clock_now();
        pool->least = workers;
        pool->most = most;
        twill__pool_tells(pool);
        pool->failed_at = 0;
        while (status == TWILL_OK && !pool->options.lazy && pool->live - pool->going < workers)
            if (!twill__worker_start(pool))
                status = TWILL_NO_THREAD;
        if (twill__todos_length(&pool->todos))
            twill__pool_wants(pool, &turn); /* lazy: one comes for what waits already */
        twill__pool_rouse(pool, &turn);     /* who is too many goes */
        if (!twill__pool_inside(pool))
            (void)twill__pool_await(pool, &turn, forever, twill__all_came, NULL);
    }
    twill__turn_end(pool, &turn);
    return status;
}

TWILL__DEFINE unsigned twill_pool_workers(const twill_pool *pool)
{
    return pool ? twill__team_threads(pool->team) : 0;
}

TWILL__DEFINE twill_pool *twill_pool_current(void)
{
    const twill__hand *runner = (const twill__hand *)twill__thread()->runner;
    return runner ? &runner->pool->head : NULL;
}

/* ---- waiting for the pool ---- */

/* Whether a wait until then, of this thread, cannot end well: it is a part of the pool; or in a
   callback, has still to do so much, and would wait for ever. */
static inline bool twill__pool_never(const twill__pool *pool, twill_until until, unsigned what)
{
    return twill__pool_inside(pool) || (twill__for_ever(until) && twill__duty_to(pool) >= what);
}

/* INVALID, FORKED, DEADLOCK; OK: who is here may wait until then. */
static inline twill_status twill__pool_may_wait(twill_pool *pool, twill_until until, unsigned what)
{
    if (!pool || pool->layout != TWILL__POOL_LAYOUT)
        return TWILL_INVALID;
    if (!twill__pool_here(twill__pool_of(pool)))
        return TWILL_FORKED;
    return twill__pool_never(twill__pool_of(pool), until, what) ? TWILL_DEADLOCK : TWILL_OK;
}

/* Something is left, and nobody to do it. */
static inline bool twill__pool_forlorn(const twill__pool *pool)
{
    return !pool->live && !pool->outside && (twill__todos_length(&pool->todos) || pool->later);
}

/* Whether there is nothing to wait for, or nobody. */
static inline bool twill__drained(twill__pool *pool, const void *data)
{
    (void)data;
    return !twill__pool_unfinished(pool) || twill__pool_forlorn(pool);
}

static inline bool twill__idle_or_bare(twill__pool *pool, const void *data)
{
    (void)data;
    return !twill__pool_unfinished(pool) || (!pool->paused && twill__pool_forlorn(pool));
}

static inline bool twill__is_idle(twill__pool *pool, const void *data)
{
    (void)data;
    return !twill__pool_unfinished(pool);
}

TWILL__DEFINE twill_status twill_pool_wait_idle_until(twill_pool *public_pool, twill_until until)
{
    twill__pool *pool = twill__pool_of(public_pool);
    twill__turn turn;
    twill_status status;
    status = twill__pool_may_wait(public_pool, until, TWILL__END_TASK);
    if (status != TWILL_OK)
        return status;
    twill__turn_begin(pool, &turn);
    for (;;) { /* exit: idle, or over; where no worker can be had, it is tried again and again */
        twill_until soon = until;
        status = twill__pool_await(pool, &turn, until, twill__idle_or_bare, NULL);
        if (status != TWILL_OK || !twill__pool_unfinished(pool))
            break;
        if (twill__worker_retry(pool))
            continue;
        soon.deadline = twill__nearer(until.deadline, twill__clock_now() + TWILL__GROW_AFTER);
        (void)twill__pool_await(pool, &turn, soon, twill__is_idle, NULL);
        status = twill__pool_unfinished(pool) ? twill__over(until) : TWILL_OK;
        if (status != TWILL_OK)
            break;
    }
    twill__turn_end(pool, &turn);
    return status;
}

TWILL__DEFINE twill_status twill_pool_wait_idle(twill_pool *pool)
{
    twill_until until = {0, NULL};
    return twill_pool_wait_idle_until(pool, until);
}

static inline bool twill__each_over(twill__pool *pool, const void *each_)
{
    (void)pool;
    return !((const twill__everyone *)each_)->left;
}

static inline bool twill__each_quiet(twill__pool *pool, const void *each_)
{
    (void)pool;
    return !((const twill__everyone *)each_)->inside;
}

static inline bool twill__none_comes(twill__pool *pool, const void *data)
{
    (void)data;
    return !pool->coming;
}

TWILL__DEFINE twill_status twill_pool_each_worker(twill_pool *public_pool, twill_task_fn *fn,
                                                  void *arg, twill_until until)
{
    twill__pool *pool = twill__pool_of(public_pool);
    twill__everyone each = {NULL, fn, arg, until, 0, 0, 0, 0}, **at;
    twill_until forever = {0, NULL};
    twill__turn turn;
    twill_status status;
    if (!fn)
        return TWILL_INVALID;
    status = twill__pool_may_wait(public_pool, until, TWILL__FREE_WORKER);
    if (status != TWILL_OK)
        return status;
    twill__turn_begin(pool, &turn);
    if (pool->closed) {
        twill__turn_end(pool, &turn);
        return TWILL_CLOSED;
    }
    status = twill__pool_await(pool, &turn, until, twill__none_comes, NULL);
    if (status != TWILL_OK) {
        twill__turn_end(pool, &turn);
        return status;
    }
    each.number = ++pool->each_number;
    each.left = pool->live;
    for (at = &pool->each; *at; at = &(*at)->next) {} /* in order */
    *at = &each;
    twill__todos_hold(&pool->todos);
    twill__pool_rouse(pool, &turn);
    status = twill__pool_await(pool, &turn, until, twill__each_over, &each);
    for (at = &pool->each; *at != &each; at = &(*at)->next) {} /* exit: it is in the list */
    *at = each.next;
    /* those who have begun are told, and waited for */
    (void)twill__pool_await(pool, &turn, forever, twill__each_quiet, &each);
    twill__turn_end(pool, &turn);
    return status == TWILL_OK && each.failed ? TWILL_FAILED : status;
}

/* ---- the end ---- */

/* Under the lock: no more from outside. */
static inline void twill__pool_shut(twill__pool *pool, twill__turn *turn)
{
    twill__todos_shut(&pool->todos); /* and it stays so */
    pool->closed = true;
    twill__stand_ins_shut(pool);
    twill__wakes_grant_all(&turn->wakes, &pool->senders, TWILL_CLOSED);
}

TWILL__DEFINE twill_status twill_pool_close(twill_pool *public_pool)
{
    twill__pool *pool = twill__pool_of(public_pool);
    twill__turn turn;
    twill_status status = twill__pool_lock(public_pool, &turn);
    if (status != TWILL_OK)
        return status;
    if (pool->closed)
        status = TWILL_CLOSED;
    else
        twill__pool_shut(pool, &turn);
    twill__turn_end(pool, &turn);
    return status;
}

/* What has ended so far: finished, and cancelled. */
static inline void twill__pool_sums(twill__pool *pool, uint64_t sums[TWILL__TALLIES])
{
    for (unsigned i = 0; i < TWILL__TALLIES; i++) { /* relaxed: counts */
        sums[i] = atomic_load_explicit(&pool->tally[i], memory_order_relaxed);
        for (const twill__hand *runner = pool->runners; runner; runner = runner->next)
            sums[i] += atomic_load_explicit(&runner->tally[i], memory_order_relaxed);
    }
}

/* Tasks that still run; under the lock, nothing queued any more, `now`: its sums. They are those
   that are in no other count, so all counts add up, though tasks end meanwhile. But one that ended
   for others, late or given up, may run on: then there may be as many as hands that have not said
   that they are through. */
static inline size_t twill__pool_stuck_of(twill__pool *pool, const uint64_t now[TWILL__TALLIES])
{
    uint64_t ended = now[TWILL__N_DONE] + now[TWILL__N_FAILED] + now[TWILL__N_TIMED_OUT] +
                     now[TWILL__N_CANCELLED] + now[TWILL__N_DROPPED] + now[TWILL__N_LOST];
    uint64_t begun = atomic_load_explicit(&pool->submitted, memory_order_relaxed) +
                     now[TWILL__N_INLINED]; /* relaxed: a count */
    size_t stuck = begun > ended ? (size_t)(begun - ended) : 0, busy = 0;
    for (const twill__hand *runner = pool->runners; runner; runner = runner->next)
        busy += twill__hand_is_busy(runner);
    return now[TWILL__N_TIMED_OUT] + now[TWILL__N_LOST] && busy > stuck ? busy : stuck;
}

static inline void twill__pool_stopped(twill__pool *pool, const uint64_t *before,
                                       twill_stopped *out)
{
    uint64_t now[TWILL__TALLIES];
    if (!out)
        return;
    memset(out, 0, sizeof *out);
    twill__pool_sums(pool, now);
    out->finished = (size_t)(now[TWILL__N_DONE] + now[TWILL__N_FAILED] + now[TWILL__N_TIMED_OUT] +
                             now[TWILL__N_LOST] - before[TWILL__N_DONE] - before[TWILL__N_FAILED] -
                             before[TWILL__N_TIMED_OUT] - before[TWILL__N_LOST]);
    out->cancelled = (size_t)(now[TWILL__N_CANCELLED] + now[TWILL__N_DROPPED] -
                              before[TWILL__N_CANCELLED] - before[TWILL__N_DROPPED]);
    out->stuck = twill__pool_stuck_of(pool, now);
}

/* Takes all that has not begun out, and ends it as CANCELLED; fires the tokens of what runs. Under
   the lock at both ends. */
static inline void twill__pool_cancel(twill__pool *pool, twill__turn *turn)
{
    pool->visitors++;
    twill__todos_hold(&pool->todos); /* and it stays so: sealed */
    /* exit: it only gets less */
    while (twill__todos_length(&pool->todos) || pool->later) {
        twill__todo todo = {NULL, NULL, NULL, 0, 0};
        twill__errand *work;
        if (twill__todos_length(&pool->todos)) {
            todo = twill__todos_drop(&pool->todos, false);
        } else { /* all that is left is delayed, and has timers */
            size_t i = 0;
            while (twill__errand_at(pool->todos.timers[i])->record.where != TWILL__LATER)
                i++; /* exit: `later` is above 0 */
            todo.arg = pool->todos.timers[i];
            pool->later--;
        }
        if ((work = twill__todo_work(&todo))) {
            work->record.where = TWILL__NOWHERE;
            twill__errand_untimed(pool, work);
        }
        twill__pool_level(pool, turn);
        twill__turn_end(pool, turn);
        twill__turn_settle_first(pool, turn, work);
        twill__todo_drop(pool, &todo, TWILL_CANCELLED);
        twill__turn_begin(pool, turn);
        pool->over++;
        twill__pool_changed(pool, turn);
    }
    for (twill__hand *runner = pool->runners; runner; runner = runner->next)
        runner->fired = false;
    for (twill__hand *runner = pool->runners; runner;) { /* exit: each is fired once */
        twill__errand *pinned = NULL;
        if (runner->fired || !twill__hand_is_busy(runner)) {
            runner = runner->next;
            continue;
        }
        runner->fired = true;
        /* what it took before we held the queue, it had named before; what has ended, or is another
           runner's, does not mind */
        for (twill__errand *work = twill__hand_work(runner); work; work = work->below)
            if (!work->record.stopped && twill__record_pin(&work->record)) {
                work->record.stopped = true;
                work->stop_chain = pinned;
                pinned = work;
            }
        twill__turn_end(pool, turn);
        twill__turn_settle(pool, turn);
        /* a worker's record stays, as a stand-in's; a guest's is on its stack */
        if (!runner->outside || runner->stands)
            twill__gate_fire(pool, &runner->gate, &runner->token, TWILL_CANCELLED);
        for (twill__errand *next; pinned; pinned = next) {
            next = pinned->stop_chain;
            twill__errand_fire(pinned, TWILL_CANCELLED);
            twill__record_unpin(&pinned->record);
        }
        twill__turn_begin(pool, turn);
        runner = pool->runners; /* the list has changed meanwhile */
    }
    twill__pool_left(pool, turn);
}

static inline bool twill__all_left(twill__pool *pool, const void *data)
{
    (void)data;
    return !pool->live && !pool->abandoned && !pool->outside && !twill__pool_unfinished(pool);
}

/* The thread that ends the pool has ended in a task that it ran: somebody else may end it then. */
static inline void twill__drainer_ended(void *pool_)
{
    twill__pool *pool = (twill__pool *)pool_;
    twill__turn turn;
    if (!twill__pool_here(pool)) /* it has forked */
        return;
    twill__turn_begin(pool, &turn);
    twill__pool_left(pool, &turn); /* as one who ends it */
    twill__turn_end(pool, &turn);
}

/* Under the lock, which it gives back. noinline: its locals must not stand in the frame of a
   guard */
static __attribute__((noinline)) void twill__drainer_runs(twill__pool *pool, twill__turn *turn,
                                                          const twill__todo *todo)
{
    TWILL__GUARD_PUSH(twill__drainer_ended, pool);
    if (todo->fn)
        twill__run_plain_here(pool, turn, todo);
    else
        twill__run_here(pool, turn, NULL, twill__errand_at((twill__todo_entry *)todo->arg));
    TWILL__GUARD_POP(0);
}

/* Drains; what nobody is left to run, since no thread can be had, is run here, if it may. */
static inline twill_status twill__pool_drain(twill__pool *pool, twill__turn *turn,
                                             twill_until drain)
{
    twill_ns failed = pool->failed_at;
    for (;;) { /* exit: drained, or over; each turn runs a task, or has a new worker */
        twill_status status = twill__pool_await(pool, turn, drain, twill__drained, NULL);
        twill__todo todo;
        if (status != TWILL_OK || !twill__pool_unfinished(pool))
            return status;
        /* a worker_start that has just failed would fail again */
        if ((!pool->options.run.worker_start || pool->failed_at == failed) &&
            twill__worker_start(pool))
            continue;
        twill__todos_hold(&pool->todos);
        /* not begun in time, as a worker would have found, too */
        if (twill__pool_tick(pool, turn, twill__clock_now())) {
            pool->visitors++;
            twill__turn_end(pool, turn);
            twill__turn_settle(pool, turn);
            twill__turn_begin(pool, turn);
            twill__pool_left(pool, turn);
            continue;
        }
        if (pool->options.run.worker_start || pool->options.run.worker_stop ||
            !twill__todos_length(&pool->todos))
            return TWILL_CANCELLED;
        todo = twill__todos_pop(&pool->todos);
        twill__pool_level(pool, turn);
        twill__drainer_runs(pool, turn, &todo); /* the pool stays: see twill__pool_end */
        twill__turn_begin(pool, turn);
    }
}

static inline bool twill__watch_gone(twill__pool *pool, const void *data)
{
    (void)data;
    return !pool->has_watch;
}

/* All workers have left: joins what is to be joined. Under the lock at both ends. */
static inline void twill__pool_bury(twill__pool *pool, twill__turn *turn)
{
    twill_until forever = {0, NULL};
    twill__thrd watch = pool->watch;
    bool had_watch = pool->has_watch && !pool->watch_ends;
    pool->visitors++;
    if (had_watch) {
        pool->watch_ends = true;
        turn->watch = true;
    }
    (void)twill__pool_await(pool, turn, forever, twill__watch_gone, NULL);
    for (unsigned i = 0; i < pool->numbers; i++)
        if (pool->worker[i] && pool->worker[i]->has_past) { /* none starts any more */
            twill__thrd past = pool->worker[i]->past;
            pool->worker[i]->has_past = false;
            twill__turn_end(pool, turn);
            twill__thread_join(&past);
            twill__turn_begin(pool, turn);
        }
    twill__turn_end(pool, turn);
    if (had_watch)
        twill__thread_join(&watch);
    twill__turn_begin(pool, turn);
    twill__pool_left(pool, turn);
}

static inline twill_status twill__pool_end(twill__pool *pool, twill_until drain, twill_until join,
                                           twill_stopped *out)
{
    uint64_t before[TWILL__TALLIES];
    twill_status status;
    twill__turn turn;
    twill__turn_begin(pool, &turn);
    pool->visitors++;
    twill__pool_sums(pool, before);
    twill__pool_shut(pool, &turn);
    pool->ending = true;
    twill__pool_changed(pool, &turn);
    twill__pool_unpause(pool, &turn);
    (void)twill__pool_drain(pool, &turn, drain);
    pool->sealed = true;
    twill__pool_cancel(pool, &turn);
    pool->leaving = true;
    twill__pool_rouse(pool, &turn);
    twill__turn_end(pool, &turn);
    twill__turn_settle(pool, &turn);
    status = twill__team_shut(&pool->team, join);
    twill__turn_begin(pool, &turn);
    if (status == TWILL_OK)
        status = twill__pool_await(pool, &turn, join, twill__all_left, NULL);
    if (status == TWILL_OK)
        twill__pool_bury(pool, &turn);
    twill__pool_stopped(pool, before, out);
    twill__pool_left(pool, &turn);
    twill__turn_end(pool, &turn);
    return status;
}

TWILL__DEFINE twill_status twill_pool_stop(twill_pool *pool, twill_until drain, twill_until join,
                                           twill_stopped *out)
{
    twill_status status = twill__pool_may_wait(pool, drain, TWILL__END_TASK);
    if (out)
        memset(out, 0, sizeof *out);
    if (status == TWILL_OK)
        status = twill__pool_may_wait(pool, join, TWILL__END_TASK);
    return status == TWILL_OK ? twill__pool_end(twill__pool_of(pool), drain, join, out) : status;
}

static inline bool twill__no_visitors(twill__pool *pool, const void *data)
{
    (void)data;
    return pool->visitors == 1 && !pool->lingering; /* ourselves; closed, so it is ours to read */
}

TWILL__DEFINE twill_status twill_pool_destroy(twill_pool *public_pool)
{
    twill__pool *pool = twill__pool_of(public_pool);
    twill_until forever = {0, NULL};
    twill_status status;
    twill__turn turn;
    if (!pool)
        return TWILL_OK;
    status = twill__pool_may_wait(public_pool, forever, TWILL__LEAVE);
    if (status == TWILL_FORKED) { /* nobody of those threads is here */
        twill__pool_free(pool);
        return TWILL_OK;
    }
    if (status != TWILL_OK)
        return status;
    (void)twill__pool_end(pool, forever, forever, NULL);
    twill__turn_begin(pool, &turn);
    (void)twill__pool_await(pool, &turn, forever, twill__no_visitors, NULL);
    twill__turn_end(pool, &turn);
    twill__pool_free(pool);
    return TWILL_OK;
}

TWILL__DEFINE twill_status twill_pool_abandon(twill_pool *public_pool, twill_stopped *out)
{
    twill__pool *pool = twill__pool_of(public_pool);
    uint64_t before[TWILL__TALLIES];
    twill__turn turn;
    if (out)
        memset(out, 0, sizeof *out);
    if (!public_pool || public_pool->layout != TWILL__POOL_LAYOUT)
        return TWILL_INVALID;
    if (!twill__pool_here(pool)) {
        twill__pool_free(pool);
        return TWILL_OK;
    }
    if (!twill__team_try_shut(&pool->team))
        return TWILL_BUSY;
    twill__turn_begin(pool, &turn);
    pool->visitors++;
    twill__pool_sums(pool, before);
    twill__pool_shut(pool, &turn);
    pool->paused = false;
    pool->sealed = true;
    twill__pool_cancel(pool, &turn);
    pool->leaving = pool->forsaken = true;
    twill__pool_changed(pool, &turn);
    for (unsigned i = 0; i < pool->numbers; i++) {
        twill__worker *worker = pool->worker[i];
        if (worker && worker->life != TWILL__NO_THREAD_YET)
            twill__thread_let_go(&worker->thread);
        if (worker && worker->has_past)
            twill__thread_let_go(&worker->past);
        if (worker)
            worker->has_past = false;
    }
    if (pool->has_watch && !pool->watch_ends) {
        twill__thread_let_go(&pool->watch);
        pool->watch_ends = true;
    }
    twill__pool_stopped(pool, before, out);
    twill__pool_rouse(pool, &turn);
    /* the last one to leave frees: not before these have been roused */
    twill__turn_end(pool, &turn);
    twill__turn_settle(pool, &turn);
    twill__turn_begin(pool, &turn);
    pool->visitors--;
    twill__turn_end(pool, &turn);
    return TWILL_OK;
}

/* ---- statistics ---- */

static inline void twill__stats_runner(const twill__pool *pool, const twill__hand *runner,
                                       twill_ns now, twill_pool_stats *out)
{
    if (!runner->busy || runner->outside)
        return;
    out->busy += !runner->given_up;
    if (pool->has_watch && now - runner->since > out->oldest_running)
        out->oldest_running = now - runner->since;
}

static inline void twill__stats_times(twill__pool *pool, twill_pool_stats *out)
{
    twill__histogram_sum *sum = (twill__histogram_sum *)TWILL_MALLOC(2 * sizeof *sum);
    uint64_t ticks = twill__ticks();
    if (!sum)
        return; /* no percentiles this time */
    memset(sum, 0, 2 * sizeof *sum);
    for (unsigned i = 0; i < pool->numbers; i++) {
        const twill__worker *worker = pool->worker[i];
        if (!worker)
            continue;
        twill__histogram_sum_up(&sum[0], &worker->waited);
        twill__histogram_sum_up(&sum[1], &worker->ran);
        if (worker->life == TWILL__LIVE) { /* relaxed: statistics */
            uint64_t idle = atomic_load_explicit(&worker->idle_ticks, memory_order_relaxed);
            uint64_t born = atomic_load_explicit(&worker->born, memory_order_relaxed);
            out->idle_total += (twill_ns)twill__ticks_ns(pool, idle);
            if (ticks - born > idle)
                out->busy_total += (twill_ns)twill__ticks_ns(pool, ticks - born - idle);
        }
    }
    out->wait_p50 = twill__percentile(&sum[0], 50);
    out->wait_p95 = twill__percentile(&sum[0], 95);
    out->wait_p99 = twill__percentile(&sum[0], 99);
    out->run_p50 = twill__percentile(&sum[1], 50);
    out->run_p95 = twill__percentile(&sum[1], 95);
    out->run_p99 = twill__percentile(&sum[1], 99);
    TWILL_FREE(sum);
}

TWILL__DEFINE void twill_pool_get_stats(twill_pool *public_pool, twill_pool_stats *out)
{
    twill__pool *pool = twill__pool_of(public_pool);
    uint64_t sums[TWILL__TALLIES];
    twill__turn turn;
    if (!out)
        return;
    memset(out, 0, sizeof *out);
    if (twill__pool_lock(public_pool, &turn) != TWILL_OK)
        return;
    twill__todos_shut(&pool->todos); /* else more would come in while we count */
    twill__pool_sums(pool, sums);
    out->submitted =
        atomic_load_explicit(&pool->submitted, memory_order_relaxed) + sums[TWILL__N_INLINED];
    out->refused = pool->refused;
    out->started = sums[TWILL__N_STARTED];
    out->done = sums[TWILL__N_DONE];
    out->failed = sums[TWILL__N_FAILED];
    out->timed_out = sums[TWILL__N_TIMED_OUT];
    out->cancelled = sums[TWILL__N_CANCELLED];
    out->dropped = sums[TWILL__N_DROPPED];
    out->lost = sums[TWILL__N_LOST];
    out->caller_ran = sums[TWILL__N_CALLER_RAN];
    out->queued = twill__todos_length(&pool->todos) + pool->later;
    out->queued_peak = pool->peak;
    out->capacity = pool->capacity;
    out->workers = pool->live;
    out->workers_peak = pool->live_peak;
    out->blocked = pool->blocked;
    out->abandoned = pool->abandoned;
    for (const twill__hand *runner = pool->runners; runner; runner = runner->next)
        twill__stats_runner(pool, runner, twill__clock_now(), out);
    out->idle = out->workers > out->busy ? out->workers - out->busy : 0;
    twill__stats_times(pool, out);
    twill__turn_end(pool, &turn);
}

#endif

/* ---- worker_pool/run_all.h ---- */
/* run_all.h: n tasks in one call, each with its own outcome. */
#ifndef TWILL__WORKER_POOL_RUN_ALL_H
#define TWILL__WORKER_POOL_RUN_ALL_H

/* ---- engine/map.h ---- */
/* map.h: the loop over items with one input and one output each; parallel_map and map_with_progress
   stand on it. */
#ifndef TWILL__ENGINE_MAP_H
#define TWILL__ENGINE_MAP_H

/* ---- engine/brief.h ---- */
/* brief.h: a loop without wishes, which may be over before it needs helpers: its first items run
   with the few fields of a call that callbacks can see. Is the rest worth helpers, it goes on as a
   whole call (engine/run.h); else it has cost little more than the serial loop. */
#ifndef TWILL__ENGINE_BRIEF_H
#define TWILL__ENGINE_BRIEF_H

/* ---- engine/run.h ---- */
/* run.h: a parallel call from its options to its report. Patterns call twill__run_call. */
#ifndef TWILL__ENGINE_RUN_H
#define TWILL__ENGINE_RUN_H

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

/* A loop that was cheap a moment ago may cost so many times a helper's price before its items are
   timed by themselves: a bound of their time is what it is judged by. */
#define TWILL__BRIEF_TRUST 2

/* Whether a thread keeps the record of its last such loop on a pool. In the explorer, where ticks
   are the clock, the threads' own memory stands at one address, and tokens in it would be one
   another. */
#define TWILL__BRIEF_KEPT TWILL__TICKS

typedef struct twill__brief {
    twill__job job; /* first: task->private_ points here */
    twill__slot slot;
    twill_task task;
    twill__self *self; /* of a record that is kept, NULL: it must be set anew */
    uintptr_t key;     /* the user's function */
    /* where the rest begins, if it is worth helpers: how many, and their first chunk */
    size_t at, chunk0;
    unsigned helpers;
} twill__brief;

/* Whether nobody asks how the call went, and nothing but its items can end it. */
static inline bool twill__has_no_wishes(const twill_run *run)
{
    bool starts = run->worker_start; /* without it worker_stop is for nobody */
    uintptr_t asked = (uintptr_t)run->errors | run->errors_capacity | (uintptr_t)run->statuses |
                      (uintptr_t)run->codes | (uintptr_t)run->report | (uintptr_t)run->cpus |
                      run->cpu_count | (uintptr_t)run->until.cancel | run->workers | run->strict;
    return !(asked | starts) && twill__no_deadline(run->until.deadline) &&
           (unsigned)run->on_error <= TWILL_ON_ERROR_LOWEST;
}

/* What callbacks, and calls nested in them, may look at. The rest is not set. */
static inline __attribute__((always_inline)) void
twill__brief_init(twill__brief *brief, const twill_run *run, size_t n, twill__body_fn *body,
                  void *data, const twill__plan *plan)
{
    twill__job *job = &brief->job;
    job->call.table = twill__job_table();
    job->n = n;
    job->first = 0;
    job->unit = 1;
    job->starts = NULL;
    job->detail = job->may_end = job->settled = false;
    job->data = data;
    job->body = body;
    job->crew = NULL;
    job->run = run;
    job->policy = TWILL_ON_ERROR_LOWEST;
    job->np = plan->np < 64 ? plan->np : 64; /* `ready` is one word here */
    job->generation = 0;
    job->slot = &brief->slot;
    job->ready = &job->bits[1];
    job->outer = plan->outer;
    job->from = NULL; /* nobody else comes in */
    job->parent = plan->parent;
    job->team = plan->team;
    job->seat = plan->seat;
    atomic_init(&job->limit, SIZE_MAX);
    atomic_init(&job->stop_at, SIZE_MAX);
    atomic_init(&job->stop, 0);
    atomic_init(&job->bits[1], 1);
    twill__slot_reset(&brief->slot, NULL);
    brief->task.index = SIZE_MAX;
    brief->task.context = run->context;
    brief->task.worker = 0;
    brief->task.workers = plan->np;
    brief->task.worker_state = NULL;
    brief->task.until.deadline = run->until.deadline;
    brief->task.until.cancel = &brief->slot.token;
    brief->task.private_ = job;
}

/* Runs the items begin..end-1. True: those were all, or the last that had to run. always_inline: a
   tiny call takes two steps. */
static inline __attribute__((always_inline)) bool twill__brief_step(twill__brief *brief,
                                                                    size_t begin, size_t end)
{
    twill__job *job = &brief->job;
    brief->slot.end = end; /* for a stop in a range; `begin` is for others, and nobody is here */
    job->body(job, &brief->task, begin, end);
    return end == job->n || !twill__may_run(job, end);
}

/* Notes that this loop is cheap: judged at `now`. The next one like it runs a quarter of a worker's
   share before it looks at the ticks. */
static inline void twill__brief_cheap(const twill__brief *brief, uint64_t rate, uint64_t now)
{
    const twill__job *job = &brief->job;
    twill__self *self = brief->self;
    size_t first = job->n / brief->task.workers / 4 & ~(size_t)7;
    uint64_t price = twill__judge_price(rate, job->team != NULL);
    if (first >= 8) { /* and no more than so cheap a loop has: nothing overflows */
        self->cheap = brief->key;
        self->cheap_team = job->team;
        self->cheap_n = job->n;
        self->cheap_first = first;
        self->cheap_most = TWILL__BRIEF_TRUST * price * first / (job->n - first);
        self->ticked = now;
    }
}

/* Is it the loop that was cheap a moment ago? Then one reading of the ticks will do: what has
   passed since the last one is more than its first items took. Should it have become dear, it is
   noticed here. True: cheap again, and all has run, or all that must; else *at items have. */
static inline bool twill__brief_again(twill__brief *brief, size_t *at, uint64_t *now)
{
    twill__job *job = &brief->job;
    twill__self *self = brief->self;
    uint64_t since = self->ticked, most = self->cheap_most;
    size_t first = self->cheap_first;
    if (!since || self->cheap != brief->key || self->cheap_n != job->n ||
        self->cheap_team != job->team)
        return false;
    if (twill__brief_step(brief, 0, first))
        return true;
    *now = twill__ticks();
    *at = first;
    if (*now - since > most)
        return false;
    self->ticked = *now;
    (void)twill__brief_step(brief, first, job->n);
    return true;
}

/* From item `at` on: until they have been judged. since: when the first of them began. */
static __attribute__((noinline)) bool twill__brief_probe(twill__brief *brief, size_t at,
                                                         uint64_t since)
{
    twill__job *job = &brief->job;
    twill__judge judge;
    size_t from = at, size;
    uint64_t now;
    judge.few = twill__is_few(job->n, brief->task.workers);
    judge.hired = job->team != NULL;
    judge.helpers = brief->task.workers - 1;
    judge.rate = job->team ? job->team->tick_rate : twill__ticks_per_us();
    size = twill__probe_size(job->n, judge.few);
    brief->self->ticked = 0;
    for (;;) { /* exit: all done, or the rest is worth threads */
        if (twill__brief_step(brief, at, at + size)) /* more is left: see twill__judge_rest */
            return true;
        at += size;
        now = twill__ticks();
        judge.spent = (now - since) | 1;
        judge.items = at - from;
        judge.left = job->n - at;
        switch (twill__judge_rest(&judge)) {
        case TWILL__ALONE:
            twill__brief_cheap(brief, judge.rate, now);
            (void)twill__brief_step(brief, at, job->n);
            return true;
        case TWILL__UNSURE:
            size *= 4;
            break;
        case TWILL__SHARED:
            brief->at = at;
            brief->chunk0 = judge.chunk0;
            brief->helpers = judge.helpers;
            return false;
        }
    }
}

/* The items that the caller runs alone. True: those were all; false: the rest is worth helpers.
   always_inline: in a frame of its own a tiny call would save the registers twice. */
static inline __attribute__((always_inline)) bool twill__brief_run(twill__brief *brief)
{
    size_t at = 0;
    uint64_t since = 0;
    if (twill__brief_again(brief, &at, &since))
        return true;
    return twill__brief_probe(brief, at, since ? since : twill__ticks());
}

static inline void twill__brief_end(twill__brief *brief)
{
    twill__token *token = twill__token_of(&brief->slot.token);
    brief->self->job = brief->job.outer;
    if (twill__token_used(token))
        twill_cancel_detach(&brief->slot.token);
}

/* A callback ends the thread. */
static inline void twill__brief_ended(void *brief)
{
    twill__brief_end((twill__brief *)brief);
    twill__release(((twill__brief *)brief)->job.seat);
    ((twill__brief *)brief)->self = NULL;
}

/* On a pool: its seat must not stay taken if a callback ends the thread. */
static __attribute__((noinline)) bool twill__brief_guarded(twill__brief *brief)
{
    bool over;
    TWILL__GUARD_PUSH(twill__brief_ended, brief);
    brief->self->job = &brief->job;
    over = twill__brief_run(brief);
    TWILL__GUARD_POP(0);
    return over;
}

static __attribute__((noinline)) bool twill__brief_unguarded(twill__brief *brief)
{
    return twill__brief_run(brief);
}

/* ---- as a whole call ---- */

/* Whether it is the loop that was worth its helpers a moment ago: then they are called before the
   first item. */
static inline bool twill__brief_dear(const twill__brief *brief, size_t n, twill__plan *plan)
{
    const twill__self *self = brief->self;
    /* a loop that is noted had a team */
    if (self->dear != brief->key || self->dear_n != n || self->dear_team != plan->team)
        return false;
    plan->chunk0 = self->dear_chunk;
    plan->kept = self->dear_kept;
    plan->helpers = plan->np - 1;
    return true;
}

/* Helpers have read the record of the last such loop, and it most likely stands in the same place
   again: fetches its lines, all at once and while the seat's is on its way. Somewhere else they are
   lines of this stack, and nothing is lost. */
static inline void twill__brief_fetch(const twill__self *self)
{
    const char *job = (const char *)self->dear_job;
    for (size_t at = 0; at <= offsetof(twill__job, next); at += TWILL__FETCHED)
        twill__prefetch(job + at);
    twill__prefetch(self->dear_slot);
}

static inline void twill__brief_steps(twill__job *job, void *pass)
{
    twill__run_pass(job, (const twill__pass *)pass);
}

/* The plan by value: its address would keep it in memory */
static __attribute__((noinline)) twill_status twill__run_at_length(twill__plan plan,
                                                                   const twill_run *run,
                                                                   twill__body_fn *body, void *data,
                                                                   bool whole)
{
    twill__pass pass = {.n = plan.total, .body = body, .data = data, .whole = whole};
    return twill__run_planned(&plan, run, twill__brief_steps, &pass);
}

/* The rest, which is worth helpers. */
static __attribute__((noinline)) twill_status twill__brief_whole(const twill__brief *brief)
{
    const twill__job *job = &brief->job;
    twill__plan plan = {.outer = job->outer,
                        .team = job->team,
                        .seat = job->seat,
                        .parent = job->parent,
                        .np = brief->task.workers,
                        .total = job->n,
                        .key = brief->key,
                        .at = brief->at,
                        .chunk0 = brief->chunk0,
                        .helpers = brief->helpers};
    return twill__run_at_length(plan, job->run, job->body, job->data, job->whole);
}

/* After twill__brief_end. over: all has run, or all that must; else the rest is worth helpers. */
static inline __attribute__((always_inline)) twill_status twill__brief_answer(twill__brief *brief,
                                                                              bool over)
{
    if (!over)
        return twill__brief_whole(brief);
    if (brief->job.seat)
        twill__release(brief->job.seat);
    /* in order, by one thread: what has failed stands in no way behind a stop */
    return brief->slot.failed ? TWILL_FAILED : TWILL_OK;
}

/* ---- the loop that was cheap a moment ago, on a pool ---- */

/* A tiny call waits for its own stores, at the seat's compare-exchange and where it reads the
   ticks: most of what a record costs is to write it. So each thread keeps one, as the last call has
   left it. Only the outermost call of a thread uses it. */
static inline twill__brief *twill__brief_here(void)
{
    static _Thread_local twill__brief brief;
    return &brief;
}

/* Is it the loop that was cheap, and would be a brief call again? */
static inline bool twill__brief_is_known(const twill__self *self, const twill_run *run, size_t n,
                                         uintptr_t key)
{
    return TWILL__BRIEF_KEPT && self->ticked && self->cheap == key && self->cheap_n == n &&
           !self->job && run->pool && self->cheap_team == run->pool->team &&
           !twill__is_few(n, twill__team_threads(self->cheap_team)) &&
           twill__team_threads(self->cheap_team) > 1;
}

/* Whether the record is that of this loop: then only what its options say must be set. */
static inline bool twill__brief_fits(const twill__brief *kept, const twill__self *self, size_t n,
                                     twill__body_fn *body)
{
    return kept->self == self && kept->key == self->cheap && kept->job.body == body &&
           kept->job.n == n && kept->job.team == self->cheap_team &&
           kept->task.workers == twill__team_threads(self->cheap_team);
}

/* Whether the call has left the record as it was: no item failed, stopped, or did anything to its
   token. */
static inline bool twill__brief_is_clean(const twill__brief *kept)
{
    const twill__slot *slot = &kept->slot;
    const twill__token *token = twill__token_of(&slot->token);
    /* relaxed: nobody else is here */
    return atomic_load_explicit(&kept->job.limit, memory_order_relaxed) == SIZE_MAX &&
           atomic_load_explicit(&kept->job.stop_at, memory_order_relaxed) == SIZE_MAX &&
           slot->fail_index == SIZE_MAX && !(slot->failed | slot->said) &&
           !twill__token_used(token) && !atomic_load_explicit(&token->state, memory_order_relaxed);
}

static __attribute__((noinline)) void twill__brief_renew(twill__brief *kept, twill__self *self,
                                                         const twill_run *run, size_t n,
                                                         twill__body_fn *body)
{
    twill__plan plan = {.team = self->cheap_team, .np = twill__team_threads(self->cheap_team)};
    twill__brief_init(kept, run, n, body, NULL, &plan);
    kept->self = self;
    kept->key = self->cheap;
}

/* With a seat. */
static inline __attribute__((always_inline)) twill_status
twill__run_known(twill__self *self, twill__seat *seat, const twill_run *run, size_t n,
                 twill__body_fn *body, void *data, bool whole)
{
    twill__brief *kept = twill__brief_here();
    bool over, clean;
    if (!twill__brief_fits(kept, self, n, body))
        twill__brief_renew(kept, self, run, n, body);
    kept->job.run = run;
    kept->job.data = data;
    kept->job.seat = seat;
    kept->job.whole = whole;
    kept->task.context = run->context;
    kept->task.until.deadline = run->until.deadline;
    over = twill__brief_guarded(kept);
    clean = twill__brief_is_clean(kept);
    twill__brief_end(kept);
    if (!clean)
        kept->self = NULL;
    return twill__brief_answer(kept, over);
}

/* Any other one. */
static __attribute__((noinline)) twill_status twill__run_anew(const twill_run *run, size_t n,
                                                              uintptr_t key, twill__body_fn *body,
                                                              void *data, bool whole)
{
    twill__self *self = twill__thread_here();
    twill__brief brief;
    twill__plan plan;
    bool over;
    brief.self = self;
    brief.key = key;
    if (self->dear == key)
        twill__brief_fetch(self);
    twill__make_plan(&plan, self, run, 0, n);
    if (run->pool && !twill__plan_seat(&plan))
        return TWILL_CLOSED;
    if (plan.np == 1 || (plan.team && twill__is_few(n, plan.np)) ||
        twill__brief_dear(&brief, n, &plan)) {
        plan.key = key;
        return twill__run_at_length(plan, run, body, data, whole);
    }
    twill__brief_init(&brief, run, n, body, data, &plan);
    brief.job.whole = whole;
    over = brief.job.seat ? twill__brief_guarded(&brief) : twill__brief_unguarded(&brief);
    twill__brief_end(&brief);
    return twill__brief_answer(&brief, over);
}

/* key: the user's function. */
static inline twill_status twill__run_brief(const twill_run *run, size_t n, uintptr_t key,
                                            twill__body_fn *body, void *data, bool whole)
{
    twill__self *self = twill__thread_here();
    twill__seat *seat;
    twill_status status = run->pool ? twill__check_pool(run->pool) : TWILL_OK;
    if (status != TWILL_OK)
        return status;
    if (twill__brief_is_known(self, run, n, key) && (seat = twill__take_seat(self->cheap_team)))
        return twill__run_known(self, seat, run, n, body, data, whole);
    return twill__run_anew(run, n, key, body, data, whole);
}

#endif

typedef struct twill__map { /* job->data of twill__map_body points to it */
    const char *in;
    char *out;
    size_t in_size, out_size;
    twill_map_fn *fn;
} twill__map;

static inline twill_status twill__map_check(const void *in, size_t in_size, const void *out,
                                            size_t out_size, size_t n, twill_map_fn *fn)
{
    if (!fn)
        return TWILL_INVALID;
    if (n == 0)
        return TWILL_OK;
    if (!in || !out || !in_size || !out_size || (in == out && in_size != out_size))
        return TWILL_INVALID;
    return n > SIZE_MAX / in_size || n > SIZE_MAX / out_size ? TWILL_TOO_BIG : TWILL_OK;
}

static inline void twill__map_body(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    const twill__map *map = (const twill__map *)job->data;
    twill__slot *me = &job->slot[task->worker];
    const char *in = map->in + begin * map->in_size;
    char *out = map->out + begin * map->out_size;
    twill_map_fn *fn = map->fn;
    size_t in_size = map->in_size, out_size = map->out_size, look;
    twill__loop loop;
    size_t i = twill__loop_begin(&loop, job, me, begin, end);
    while ((look = twill__loop_look(&loop, i, end)) > i) {
        int code;
        do { /* few values: what does not fit into registers is loaded for each item */
            task->index = i;
            code = fn(in, out, task);
            i++;
            in += in_size;
            out += out_size;
        } while (!twill__loop_odd(me, code) && i < look);
        if (!twill__loop_goes_on(&loop, i - 1, code))
            end = i;
    }
    twill__loop_end(me, i);
}

#endif

typedef struct twill__all { /* job->data */
    twill__map map;
    twill_ns timeout, begun;
    twill_outcome *outcomes;
    uint32_t stop; /* why it began no more; 0: it has begun them all */
} twill__all;

/* One task: its outcome says LOST until its callback has returned. */
static inline int twill__all_one(const twill__all *all, twill__job *job, twill_task *task, size_t i,
                                 bool *late)
{
    const twill__map *map = &all->map;
    twill_ns started = all->outcomes || all->timeout ? twill__clock_now() : 0, deadline = 0;
    twill_ns outer = task->until.deadline;
    twill_outcome *outcome = all->outcomes ? &all->outcomes[i] : NULL;
    int code;
    if (all->timeout) {
        deadline = all->timeout < TWILL_FOREVER - started ? started + all->timeout : 0;
        task->until.deadline = twill__nearer(deadline, outer);
    }
    if (outcome) {
        outcome->started = started;
        outcome->worker = task->worker;
        outcome->attempts = 1;
        outcome->status = TWILL_LOST;
    }
    code =
        map->fn(map->in + i * map->in_size, map->out ? map->out + i * map->out_size : NULL, task);
    task->until.deadline = outer;
    *late = deadline && twill__clock_now() >= deadline;
    if (outcome) {
        outcome->finished = twill__clock_now();
        outcome->status = *late                                             ? TWILL_TIMEOUT
                          : code                                            ? TWILL_FAILED
                          : job->slot[task->worker].said & TWILL__SAID_SKIP ? TWILL_CANCELLED
                                                                            : TWILL_OK;
        outcome->code = outcome->status == TWILL_FAILED ? code : 0;
    }
    return code;
}

static inline void twill__all_body(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    const twill__all *all = (const twill__all *)job->data;
    twill__slot *me = &job->slot[task->worker];
    twill__loop loop;
    size_t i = twill__loop_begin(&loop, job, me, begin, end), look;
    while ((look = twill__loop_look(&loop, i, end)) > i) {
        for (; i < look; i++) {
            bool late;
            int code;
            task->index = i;
            code = twill__all_one(all, job, task, i, &late);
            if (late) {
                me->odd++;
                twill__item_failed(job, me, i, i, TWILL_TIMEOUT, 0);
                if (!twill__may_run(job, i + 1))
                    end = look = i + 1;
            } else if (!twill__loop_goes_on(&loop, i, code)) {
                end = look = i + 1;
            }
        }
    }
    twill__loop_end(me, i);
}

static inline void twill__all_steps(twill__job *job, void *all)
{
    twill__pass pass = {0};
    pass.n = ((twill__call_record *)(void *)job)->total;
    pass.body = twill__all_body;
    pass.data = all;
    pass.chunk = 1;
    pass.schedule = TWILL__DYNAMIC;
    twill__run_pass(job, &pass);
    /* relaxed: all have left */
    ((twill__all *)all)->stop = atomic_load_explicit(&job->stop, memory_order_relaxed);
}

/* What never ran says why, also when the call says FAILED, since others had failed before. */
static inline void twill__all_end(const twill__all *all, size_t n, twill_status status)
{
    bool late = status == TWILL_TIMEOUT || all->stop == TWILL_TIMEOUT;
    twill_ns now = all->outcomes ? twill__clock_now() : 0;
    for (size_t i = 0; all->outcomes && i < n; i++) {
        if (late && !all->outcomes[i].attempts)
            all->outcomes[i].status = TWILL_TIMEOUT;
        if (!all->outcomes[i].finished) /* it never ran, or ended its thread */
            all->outcomes[i].finished = now;
    }
}

TWILL__DEFINE twill_status twill_run_all(const void *tasks, size_t task_size, void *results,
                                         size_t result_size, size_t n, twill_map_fn *fn,
                                         twill_outcome *outcomes,
                                         const twill_run_all_options *options)
{
    static const twill_run_all_options none;
    twill__all all;
    twill_status status;
    twill_run run;
    if (!options)
        options = &none;
    run = options->run;
    if (!run.on_error)
        run.on_error = TWILL_ON_ERROR_COLLECT;
    all.map.in = (const char *)tasks;
    all.map.out = (char *)results;
    all.map.in_size = task_size;
    all.map.out_size = result_size;
    all.map.fn = fn;
    all.timeout = options->timeout == TWILL_FOREVER ? 0 : options->timeout;
    all.outcomes = outcomes;
    all.stop = 0;
    all.begun = twill__clock_now();
    if (!fn || options->timeout < 0 || (n && (!tasks || !task_size)) ||
        (!results != !result_size && n))
        return twill__refuse(&run, n, TWILL_INVALID);
    if (n && (n > SIZE_MAX / task_size || (result_size && n > SIZE_MAX / result_size) ||
              n > SIZE_MAX / sizeof *outcomes))
        return twill__refuse(&run, n, TWILL_TOO_BIG);
    for (size_t i = 0; outcomes && i < n; i++) {
        memset(&outcomes[i], 0, sizeof outcomes[i]);
        outcomes[i].status = TWILL_CANCELLED; /* unless it runs */
        outcomes[i].index = i;
        outcomes[i].worker = UINT_MAX;
        outcomes[i].queued = all.begun;
    }
    status = twill__run_call(&run, n, false, twill__all_steps, &all);
    twill__all_end(&all, n, status);
    return status;
}

#endif

TWILL__DEFINE const char *twill_event_name(twill_event event)
{
    static const char *const names[] = {"TWILL_EVENT_QUEUED", "TWILL_EVENT_STARTED",
                                        "TWILL_EVENT_ENDED", "TWILL_EVENT_STUCK",
                                        "TWILL_EVENT_REFUSED"};
    return (unsigned)event < sizeof names / sizeof names[0] ? names[event] : "unknown";
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
