/* twill_worker_pool.h - twill 0.1.0 - SPDX-License-Identifier: MIT OR Unlicense (text at the end)
   GENERATED from patterns/src/worker_pool.h and its parts. Do not edit it here: edit there, then `make headers`. */

/* twill_worker_pool.h - threads that outlive one call. SPDX-License-Identifier: MIT OR Unlicense

   Compile: cc -std=c11 -pthread. One .c file says `#define TWILL_IMPLEMENTATION` before it includes
   twill headers.

   WHAT IT IS FOR
   A program that runs many short parallel calls: starting and joining a thread costs about 30 us,
   calling a thread of a pool that is still warm a fraction of one. Every pattern takes a pool by
   `run.pool`. In this version a pool serves the parallel calls (twill_parallel_map and its kin,
   twill_map_with_progress); submitting single tasks to it follows.

   WHEN NOT
   One parallel call now and then: it starts its own threads when the work is worth them. Nested
   calls: they use the threads of the call around them by themselves.

   EXAMPLE:
   #define TWILL_IMPLEMENTATION
   #include "twill_worker_pool.h"
   #include <stdio.h>

   int main(void)
   {
       twill_pool *pool;
       twill_status status = twill_pool_create(&pool,
           &(twill_pool_options){ .run.workers = 2, .run.name = "crunch" });
       if (status != TWILL_OK) {
           puts(twill_status_text(status));
           return 1;
       }
       printf("%u threads\n", twill_pool_workers(pool));
       // each call with `.run.pool = pool` in its options runs on them, e.g. twill_parallel_map
       return twill_pool_destroy(pool) != TWILL_OK;
   }
   END OF EXAMPLE
   OUTPUT:
   2 threads
   END OF OUTPUT

   OPTIONS (twill_pool_options; NULL or zeroed: defaults)
     run.workers      threads; 0 = the CPUs this process may use
     run.strict       a thread that cannot be started: TWILL_NO_THREAD (else the pool runs on those
                      it has)
     run.stack_size, run.name, run.cpus, run.cpu_count   of the threads
     every other field of run must be zero: TWILL_INVALID

   ERRORS       create: INVALID, TOO_BIG (more than 65536 workers), NO_MEMORY, NO_THREAD.
                destroy: DEADLOCK. A call on a pool: CLOSED once its destroy has begun, FORKED.
   THREADS      All functions may be called by any thread; many calls may use a pool at once, up to
                16 of them with helpers: further ones run alone.
   BLOCKS       destroy waits for the calls that were given the pool.
   ALLOCATES    create: one block. Nothing later.
   OWNERSHIP    The creator destroys. A pool must outlive every call that is given it.
   IDLE         Threads look for work for 50 us after the last one (one CPU is left to others), then
                sleep: no CPU time.
   FORK         In the child the pool answers TWILL_FORKED; destroy there frees the memory and joins
                nobody.
   PITFALLS     `workers` of a call on a pool counts the caller: a pool of 4 and its caller run up
                to 5 at once when asked for 5, and 4 by default. */

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
#define TWILL_ALIGNAS(n) alignas(n)
#else
#define TWILL_ALIGNAS(n) _Alignas(n)
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
/* n: an integer */
#define TWILL_US(n)   ((twill_ns)(n)*1000)
#define TWILL_MS(n)   ((twill_ns)(n)*1000000)
#define TWILL_SEC(n)  ((twill_ns)(n)*1000000000)
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
   the system anew at each call (some system calls); the patterns ask when they start threads. */
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
    /* TWILL_OK: no error; FAILED; LOST (its callback ended the thread) */
    twill_status status;
    int code; /* the user's; 0 unless FAILED */
} twill_item_error;

typedef struct twill_outcome { /* how one item or task ended */
    twill_status status;
    int code;
    size_t index;
    void *key; /* the submitter's own tag */
    unsigned worker, attempts;
    twill_ns queued, started, finished;
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
    TWILL_REPORT_NESTED = 2,        /* ran on the threads of the call around it */
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
    /* NULL: threads of the call's own, or the threads of the call around it */
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
    /* optional, [n]: how each item ended; CANCELLED or TIMEOUT: it never ran */
    twill_status *statuses;
    int *codes;        /* optional, [n]: each item's code */
    size_t stack_size; /* of threads that are started, bytes; 0: the system's default */
    /* of threads that are started; the system may cut it (Linux: 15 bytes) */
    const char *name;
    /* of threads that are started: thread k runs on cpus[k % cpu_count] */
    const unsigned *cpus;
    size_t cpu_count;
    twill_report *report; /* optional, filled on every return */
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
/* Until all of n have ended: TWILL_OK, or TWILL_FAILED if any ended otherwise. */
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

typedef struct twill_pool_options {
    twill_run run;
} twill_pool_options;

/* Starts the threads. TWILL_OK: *out is the pool. Else *out is NULL: INVALID, NO_MEMORY, NO_THREAD
   (none could be started, or, with run.strict, not all). */
TWILL__DECL twill_status twill_pool_create(twill_pool **out, const twill_pool_options *options);

/* Waits for the calls that run on the pool, ends the threads, frees. NULL: TWILL_OK. From one of
   its own threads, or from a callback of a call on it: TWILL_DEADLOCK, and nothing changed. */
TWILL__DECL twill_status twill_pool_destroy(twill_pool *pool);

/* How many threads it has. */
TWILL__DECL unsigned twill_pool_workers(const twill_pool *pool);

#ifdef __cplusplus
}
#endif
#endif


#ifdef TWILL_IMPLEMENTATION
#ifndef TWILL__WORKER_POOL_IMPL
#define TWILL__WORKER_POOL_IMPL

/* ---- engine/future.h ---- */
/* future.h: records of tasks, the handles to them, and waiting for their end. */
#ifndef TWILL__ENGINE_FUTURE_H
#define TWILL__ENGINE_FUTURE_H

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

/* ---- back end ---- */
#if defined __SANITIZE_THREAD__
#define TWILL__UNDER_TSAN 1
#elif defined __has_feature
#if __has_feature(thread_sanitizer)
#define TWILL__UNDER_TSAN 1
#endif
#endif

#if defined __unix__ || defined __APPLE__ || defined __HAIKU__
#define TWILL__POSIX 1
#else
#error "twill: platform/ has no back end for this system"
#endif

/* pthreads: where asked, where <threads.h> is missing, under ThreadSanitizer, which crashes on
   glibc's thrd_create, and with musl, whose thrd_create blocks all signals in the new thread */
#if !defined TWILL_USE_PTHREAD
#if defined TWILL__UNDER_TSAN || defined __STDC_NO_THREADS__ || defined __APPLE__ || \
    (defined __linux__ && !defined __GLIBC__)
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

#ifdef TWILL__POSIX
#include <pthread.h>
#include <sched.h>
#include <unistd.h>
#endif
#ifndef TWILL_USE_PTHREAD
#include <threads.h>
#endif
#include <time.h>

/* ---- linking ---- */
/* TWILL__DEFINE: a public function of a pattern. TWILL__WEAK: one of a shared part, so that two
   libraries may both carry it. TWILL__ONE: the state that must exist once a process; default
   visibility, or each shared object would have its own. */
#ifdef TWILL_STATIC
#define TWILL__WEAK   static inline
#define TWILL__DEFINE static inline
#elif defined TWILL_API
#define TWILL__WEAK   __attribute__((weak)) TWILL_API
#define TWILL__DEFINE TWILL_API
#else
#define TWILL__WEAK __attribute__((weak))
#define TWILL__DEFINE
#endif
#define TWILL__ONE __attribute__((weak, visibility("default")))

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
#elif !defined __APPLE__
extern int clock_gettime(int, struct timespec *); /* clockid_t is int wherever we run */
#endif
#ifdef __linux__
#include <sys/syscall.h>
extern long syscall(long, ...);
#endif

#endif

/* ---- platform/clock.h ---- */
/* clock.h: the monotonic clock. */
#ifndef TWILL__PLATFORM_CLOCK_H
#define TWILL__PLATFORM_CLOCK_H

#ifdef TWILL__POSIX
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
#endif

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
#define twill__thread  twill__thread_layout2
#define twill__process twill__process_layout2

struct twill__job;
struct twill__team;

typedef struct twill__self {  /* of one thread; only that thread reads and writes it */
    uint64_t number;          /* never used again in this process; 0: not given yet */
    struct twill__job *job;   /* the innermost call whose callback runs here */
    struct twill__team *team; /* the team whose thread this is, or NULL */
    void *helper;             /* its record there */
    void *record;             /* the innermost task of engine/future.h whose callback runs here */
    void *reserved[3];        /* later parts */
} twill__self;

typedef struct twill__global { /* of the process */
    _Atomic uint64_t threads;  /* numbers given */
    /* 1, and one more in each forked child that uses the library */
    _Atomic uint32_t generation;
    _Atomic uint32_t own_mark;        /* the mark, where the kernel cannot wipe a page on fork */
    _Atomic(_Atomic uint32_t *) mark; /* holds the generation; a fork makes it 0 */
    _Atomic uint32_t cpus;            /* the last count, 0: none yet */
    _Atomic uint64_t tick_rate;       /* see platform/ticks.h; 0: not measured yet */
    /* waits for ever, of engine/future.h; made anew after a fork */
    _Atomic uint32_t waits_lock, waits_generation;
    void *waits;
    /* the process that owns the signals << 32 | threads that use its object just now; 0: nobody */
    _Atomic uint64_t signal_claim;
    _Atomic(void *) signal_owner; /* NULL while it comes and goes; see platform/signals.h */
    void *stragglers[16 / sizeof(void *) + 3]; /* twill__stragglers of timeout_fallback/books.h */
    void *reserved[3];                         /* later parts */
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

static inline uint64_t twill__thread_number(void)
{
    twill__self *self = twill__thread();
    if (!self->number) /* relaxed: only the value matters */
        self->number =
            atomic_fetch_add_explicit(&twill__process()->threads, 1, memory_order_relaxed) + 1;
    return self->number;
}

/* ---- fork ---- */

#define TWILL__MARK_BUSY 0xffffffffu

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
    if (!mark)
        mark = twill__arm_mark(global);
    for (;;) {
        /* pairs with the release below */
        uint32_t seen = atomic_load_explicit(mark, memory_order_acquire);
        if (seen && seen != TWILL__MARK_BUSY)
            return seen;
        if (!seen && atomic_compare_exchange_strong(mark, &seen, TWILL__MARK_BUSY)) {
            uint32_t next =
                atomic_fetch_add_explicit(&global->generation, 1, memory_order_relaxed) + 1;
            /* pairs with the load above */
            atomic_store_explicit(mark, next, memory_order_release);
            return next;
        }
    } /* ends: the thread that is BUSY does two more steps */
}

/* Whether this is still the process that was given `generation`. Async-signal-safe, and cheap: two
   loads. */
static inline bool twill__same_process(uint32_t generation)
{
    /* pairs with arm_mark: who has a generation has armed it */
    _Atomic uint32_t *mark = atomic_load_explicit(&twill__process()->mark, memory_order_acquire);
    /* relaxed: the number alone */
    return mark && atomic_load_explicit(mark, memory_order_relaxed) == generation;
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
#define TWILL__YIELD()              sched_yield()

static inline bool twill__condition_init(twill__condition *condition)
{
#ifdef __APPLE__
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
#ifdef __APPLE__
    twill_ns left = deadline - twill__clock_now(), day = TWILL_SEC(86400);
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
#define TWILL__YIELD()              thrd_yield()

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
    twill_ns left = deadline - twill__clock_now();
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
    uint32_t now = twill__generation(), busy = 0x80000000u | now;
    for (;;) {
        /* pairs with the release */
        uint32_t seen = atomic_load_explicit(&lot->generation, memory_order_acquire);
        if (seen == now)
            break;
        if (seen != busy && atomic_compare_exchange_strong(&lot->generation, &seen, busy)) {
            for (int i = 0; i < TWILL__BUCKETS; i++) {
                /* cannot fail for a plain mutex where we run */
                (void)TWILL__MUTEX_INIT(&lot->bucket[i].mutex);
                lot->bucket[i].first = NULL;
                lot->bucket[i].last = &lot->bucket[i].first;
            }
            /* pairs with the acquire above */
            atomic_store_explicit(&lot->generation, now, memory_order_release);
            break;
        }
        (void)TWILL__YIELD();
    } /* ends: the maker takes a bounded number of steps */
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
        (void)TWILL__YIELD();
        errno = saved;
        return twill__no_deadline(deadline) || twill__clock_now() < deadline;
    }
    TWILL__MUTEX_LOCK(&bucket->mutex);
    if (atomic_load(word) == expected) {
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
#ifdef TWILL__POSIX
    pthread_t pthread;
#endif
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

#ifdef TWILL__POSIX
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
#endif
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
#elif defined TWILL__POSIX
    thread->by_pthread = thread->stack_size != 0; /* C11 cannot ask for a stack size */
    started = thread->by_pthread
                  ? twill__pthread_start(thread)
                  : thrd_create(&thread->c11, twill__c11_main, thread) == thrd_success;
#else
    thread->by_pthread = false;
    if (thread->stack_size)
        /* relaxed: the thread is not started yet */
        atomic_fetch_or_explicit(&thread->flags, TWILL_REPORT_NO_STACK_SIZE, memory_order_relaxed);
    started = thrd_create(&thread->c11, twill__c11_main, thread) == thrd_success;
#endif
    errno = saved;
    return started;
}

static inline void twill__thread_join(twill__thrd *thread)
{
#if defined TWILL_USE_PTHREAD
    pthread_join(thread->pthread, NULL);
#elif defined TWILL__POSIX
    if (thread->by_pthread)
        pthread_join(thread->pthread, NULL);
    else
        thrd_join(thread->c11, NULL);
#else
    thrd_join(thread->c11, NULL);
#endif
}

/* In place of a join: nobody will wait. The record must stay until the thread has used it last. */
static inline void twill__thread_let_go(twill__thrd *thread)
{
#if defined TWILL_USE_PTHREAD
    pthread_detach(thread->pthread);
#elif defined TWILL__POSIX
    if (thread->by_pthread)
        pthread_detach(thread->pthread);
    else
        thrd_detach(thread->c11);
#else
    thrd_detach(thread->c11);
#endif
}

static inline void twill__yield(void)
{
#if defined TWILL__POSIX && defined TWILL_USE_PTHREAD
    sched_yield();
#else
    thrd_yield();
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

/* ---- a callback that ends its thread ---- */
/* TWILL__GUARD_PUSH(fn, arg) ... TWILL__GUARD_POP(run): fn(arg) runs when the thread ends in
   between (thrd_exit, pthread_exit), in this frame. The frames below it are gone by then: what
   others still use must stand in this one or above. A destructor of thread-specific storage would
   run when all are gone. Must stand in one block, and nothing may jump out of it. */
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
        slash = strrchr(folder, '/');
        if (!slash || (size_t)(slash - folder) < root)
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

/* Ticks in 1.024 us. Measured once a process, in the shadow of the first count of CPUs, which reads
   files. */
static inline uint64_t twill__ticks_per_us(void)
{
#if TWILL__TICKS
    twill__global *global = twill__process();
    /* a number, no data behind it */
    uint64_t rate = atomic_load_explicit(&global->tick_rate, memory_order_relaxed);
    if (!rate) {
        uint64_t ticks = twill__ticks();
        twill_ns since = twill__clock_now(), took;
        (void)twill__cpus_now();
        do
            took = twill__clock_now() - since;
        while (took < 20000); /* ends: the clock runs */
        rate = (twill__ticks() - ticks) * 1024 / (uint64_t)took;
        rate = rate ? rate : 1;
        /* as above */
        atomic_store_explicit(&global->tick_rate, rate, memory_order_relaxed);
    }
    return rate;
#else
    return 1024;
#endif
}

#endif

#ifndef TWILL__SPIN
#define TWILL__SPIN 1
#endif
#define TWILL__SPIN_WAIT \
    700 /* ns: below the 10 us of a parked round trip, above the 0.25 us of a quick answer */
#define TWILL__SPIN_YIELDS 4

/* Tries again for a moment: true once `done` says so. The limit is a time, not a count: a pause
   costs 6 ns on one machine and 45 on the next. Alone on one CPU nobody can change anything
   meanwhile. */
static inline bool twill__spin_for(bool (*done)(void *data), void *data, twill_ns limit,
                                   unsigned yields)
{
    twill_ns until = 0;
    /* 0: not known */
    if (!TWILL__SPIN || atomic_load_explicit(&twill__process()->cpus, memory_order_relaxed) == 1)
        return false;
    for (unsigned k = 1, pauses = 1;; k++) {
        for (unsigned pause = 0; pause < pauses; pause++)
            twill__pause();
        if (done(data))
            return true;
        if (pauses < 16)
            pauses *= 2;
        if (k % 4 != 0)
            continue;
        twill_ns now = twill__clock_now();
        if (!until)
            until = now + limit;
        else if (now >= until)
            break;
    }
    while (yields-- > 0) {
        twill__yield();
        if (done(data))
            return true;
    }
    return false;
}

/* Waits a moment for *word to differ from `value`; false: it did not. The limit is a time, not a
   count: a pause costs 6 ns on one machine and 45 on the next. Alone on one CPU nobody can change
   the word meanwhile. */
static inline bool twill__spin(const _Atomic uint32_t *word, uint32_t value, twill_ns limit,
                               unsigned yields)
{
    twill_ns until = 0;
    /* 0: not known */
    if (!TWILL__SPIN || atomic_load_explicit(&twill__process()->cpus, memory_order_relaxed) == 1)
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

/* Bit 0: held. The rest counts the threads that wait for it: unlock wakes nobody when nobody waits,
   and a destroyer can tell whether somebody is on his way in. A variant of U. Drepper's third
   mutex, with a count. */
static inline void twill__lock(_Atomic uint32_t *lock)
{
    uint32_t word = 0;
    /* acquire, here and below: pairs with the release in twill__unlock */
    if (atomic_compare_exchange_strong_explicit(lock, &word, 1, memory_order_acquire,
                                                memory_order_relaxed))
        return;
    if (word == 1 && twill__spin(lock, 1, TWILL__SPIN_WAIT, 0)) {
        word = 0;
        if (atomic_compare_exchange_strong_explicit(lock, &word, 1, memory_order_acquire,
                                                    memory_order_relaxed))
            return;
    }
    /* a count: the CAS below synchronises */
    word = atomic_fetch_add_explicit(lock, 2, memory_order_relaxed) + 2;
    for (;;) { /* exit: taken; each holder lets go, and wakes one of those counted */
        if (!(word & 1)) {
            if (atomic_compare_exchange_weak_explicit(lock, &word, (word - 2) | 1,
                                                      memory_order_acquire, memory_order_relaxed))
                return;
            continue;
        }
        twill__park(lock, word, 0);
        word = atomic_load_explicit(lock, memory_order_relaxed); /* a guess for the CAS */
    }
}

/* Its fetch_sub is the last access: the lock's memory may go right after it. */
static inline void twill__unlock(_Atomic uint32_t *lock)
{
    /* pairs with twill__lock */
    if (atomic_fetch_sub_explicit(lock, 1, memory_order_release) >> 1)
        twill__wake(lock, 1);
}

/* Under the lock: does anybody wait for it? */
static inline bool twill__lock_wanted(const _Atomic uint32_t *lock)
{
    /* who is not counted yet came too late */
    return atomic_load_explicit(lock, memory_order_relaxed) >> 1 != 0;
}

#endif

/* Reads and writes storage that the caller owns as plain words; hence may_alias. */
#define TWILL__VIEW __attribute__((may_alias))

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
    node->next = NULL;
    node->previous = list->last;
    if (list->last)
        list->last->next = node;
    else
        list->first = node;
    list->last = node;
}

static inline void twill__list_remove(twill__list *list, twill__node *node)
{
    if (node->previous)
        node->previous->next = node->next;
    else
        list->first = node->next;
    if (node->next)
        node->next->previous = node->previous;
    else
        list->last = node->previous;
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
    uint64_t thread;
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

static inline twill__token *twill__token_of(const twill_cancel *cancel)
{
    return (twill__token *)(uintptr_t)cancel;
}

/* Of a token of an older process nothing is left: its lists are of threads that are not here. */
static inline void twill__token_adopt(twill__token *token)
{
    uint32_t now = twill__generation(), busy = 0x80000000u | now;
    /* pairs with the release */
    uint32_t seen = atomic_load_explicit(&token->generation, memory_order_acquire);
    while (seen != now) { /* exit: whoever is busy takes a bounded number of steps */
        if (seen == 0) { /* never used: there is nothing to reset */
            atomic_compare_exchange_strong(&token->generation, &seen, now);
            seen = atomic_load_explicit(&token->generation, memory_order_acquire);
        } else if (seen == busy) {
            twill__yield();
            seen = atomic_load_explicit(&token->generation, memory_order_acquire);
        } else if (atomic_compare_exchange_weak(&token->generation, &seen, busy)) {
            /* published by the release */
            atomic_store_explicit(&token->lock, 0, memory_order_relaxed);
            atomic_store_explicit(&token->me.linked, 0, memory_order_relaxed);
            token->head.link = NULL;
            token->firing = NULL;
            /* pairs with the loads */
            atomic_store_explicit(&token->generation, now, memory_order_release);
            return;
        }
    }
}

/* Whether anybody ever locked it: only then can it be linked, or be firing. */
static inline bool twill__token_used(const twill__token *token)
{
    /* pairs with adopt's release */
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
    if (!atomic_compare_exchange_strong_explicit(&token->state, &none, reason, memory_order_acq_rel,
                                                 /* pairs with the acquire in poll */
                                                 memory_order_relaxed))
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
    twill__firing firing = {twill__thread_number(), false, false, {NULL, NULL}};
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
    while (token->firing && token->firing->thread != twill__thread_number())
        twill__wait_firing(token); /* exit: hooks end */
    if (token->firing)
        token->firing->token_gone = true;
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
        while (hook->firing) {            /* exit: the hook ends */
            if (hook->link.kind != now) { /* it runs in the parent process, not here */
                hook->firing = NULL;
                break;
            }
            if (hook->firing->thread == twill__thread_number()) {
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

static inline bool twill__expired(twill_ns deadline)
{
    return !twill__no_deadline(deadline) && twill__clock_now() >= deadline;
}

/* The node stands in its object's list already (or in none). TWILL_OK: granted, and the object is
   not touched again. TIMEOUT, CANCELLED: the caller locks the object and unlinks the node. */
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
        else if (word & TWILL__NUDGED)
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
    if (twill__no_deadline(until.deadline) && !until.cancel)
        return TWILL_DEADLOCK;
    if (twill__expired(until.deadline))
        return TWILL_OK;
    if (twill_cancel_fired(until.cancel))
        return TWILL_CANCELLED;
    twill__node_init(&me);
    status = twill__wait(&me, until);
    return status == TWILL_TIMEOUT ? TWILL_OK : status;
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
   A record has up to three kinds of users: the object ("owned", from twill__record_get until
   twill__record_disown), the handle ("held", until twill_future_release), and those who look at it
   this moment ("pins"). Without any it goes back into the core. The memory of records is
   type-stable and the core outlives the object as long as a record of it is in use: so an old
   handle finds a record, and a generation in it that is not its own.

   The life of a record:
       twill__record_get       by one thread at a time (the object's lock); PENDING, owned
       twill__record_hold      gives the handle, before another thread can know the record
       twill__record_begin     the runner's thread, just before the callback: ACTIVE
       twill__record_settle    true to exactly one: that one says how the task ended
       twill__record_publish   the outcome, once; wakes who waits
       twill__record_left      the runner's thread, after the callback
       twill__record_disown    the object will not touch it again */

#define TWILL__RESULT_ROOM 64 /* bytes of a result that need no allocation */

enum { TWILL__PENDING = 0, TWILL__ACTIVE, TWILL__ENDED };

struct twill__record;

/* What an object does for its records. All may be NULL; none is called under a lock. The record
   stays while the function runs, but its task may have ended. */
typedef struct twill__record_table {
    /* Runs a task that nobody has begun, on this thread. `idle`: only if no thread that is there
       for it will. True: something has happened, look again. */
    bool (*help)(struct twill__record *record, bool idle);
    /* record->due has come */
    void (*expire)(struct twill__record *record);
    void (*cancel)(struct twill__record *record);
    /* it ran, and nobody will take its result: the last call for this task */
    void (*forget)(struct twill__record *record);
} twill__record_table;

typedef struct twill__future_wait { /* on the waiter's stack; guarded by its record's lock */
    struct twill__future_wait *next, *previous;
    twill__node *node;
    struct twill__record *record;
    bool listed;
} twill__future_wait;

typedef struct twill__record {
    twill__call call;      /* first: task->private_ of a pool's task points here */
    _Atomic uint32_t lock; /* lives on from task to task */
    _Atomic uint32_t stage;
    /* under the lock */
    uint32_t pins;
    bool owned, held;
    bool orphan;   /* the object has gone: the last user tells the core */
    bool settled;  /* somebody says, or has said, how it ended */
    bool returned; /* its callback came back before that: there is a result */
    bool taken;    /* by a wait */
    uint64_t generation;
    twill__future_wait *waits;
    twill_outcome outcome;
    /* the object's: written before the record is known, or by the runner */
    struct twill__core *core;
    struct twill__record *next; /* free list; the object's while it is in use */
    void *result;
    size_t result_size, result_room;
    struct twill__record *outer; /* what its runner is in the middle of */
    _Atomic twill_ns due;        /* somebody must `expire` it then; 0: never */
    TWILL_ALIGNAS(16) char room[TWILL__RESULT_ROOM];
} twill__record;

typedef struct twill__slab {
    struct twill__slab *next;
    size_t count;
    void *memory;
} twill__slab;

typedef struct twill__core {
    _Atomic(twill__record *) returned; /* by their last users; taken all at once */
    twill__record *free;               /* the rest: of the thread that may call twill__record_get */
    size_t size;                       /* of a record, a multiple of TWILL__LINE */
    size_t records;
    twill__slab *slabs;
    const twill__record_table *table;
    _Atomic size_t users; /* set by twill__core_leave: records in use, and itself */
    uint32_t generation;  /* of the process */
    const _Atomic uint32_t *mark;
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
    core->generation = twill__generation();
    /* set: generation was asked */
    core->mark = atomic_load_explicit(&twill__process()->mark, memory_order_acquire);
    return core;
}

/* Whether this process made it. */
static inline bool twill__core_here(const twill__core *core)
{
    /* a number; set before */
    return atomic_load_explicit(core->mark, memory_order_relaxed) == core->generation;
}

static inline twill__record *twill__slab_at(const twill__core *core, const twill__slab *slab,
                                            size_t i)
{
    char *first = (char *)slab->memory;
    first += (TWILL__LINE - (uintptr_t)first % TWILL__LINE) % TWILL__LINE;
    return (twill__record *)(void *)(first + i * core->size);
}

/* Makes `count` records more. Of the thread that may call twill__record_get. */
static inline bool twill__core_grow(twill__core *core, size_t count)
{
    twill__slab *slab;
    if (count > (SIZE_MAX - TWILL__LINE) / core->size ||
        !(slab = (twill__slab *)TWILL_MALLOC(sizeof *slab)))
        return false;
    slab->memory = TWILL_MALLOC(count * core->size + TWILL__LINE);
    if (!slab->memory) {
        TWILL_FREE(slab);
        return false;
    }
    slab->count = count;
    slab->next = core->slabs;
    core->slabs = slab;
    core->records += count;
    for (size_t i = count; i-- > 0;) {
        twill__record *record = twill__slab_at(core, slab, i);
        memset(record, 0, core->size);
        record->core = core;
        record->generation = 1;
        record->next = core->free;
        core->free = record;
    }
    return true;
}

static inline void twill__core_free(twill__core *core)
{
    for (twill__slab *slab = core->slabs, *next; slab; slab = next) {
        next = slab->next;
        for (size_t i = 0; i < slab->count; i++) {
            twill__record *record = twill__slab_at(core, slab, i);
            if (record->result_room)
                TWILL_FREE(record->result);
        }
        TWILL_FREE(slab->memory);
        TWILL_FREE(slab);
    }
    TWILL_FREE(core);
}

static inline void twill__core_unuse(twill__core *core)
{
    /* acq_rel: what other users did to their records comes before the last one frees them */
    if (atomic_fetch_sub_explicit(&core->users, 1, memory_order_acq_rel) == 1)
        twill__core_free(core);
}

/* Room for a result. False: no memory. */
static inline bool twill__record_room(twill__record *record, size_t size)
{
    if (size <= TWILL__RESULT_ROOM) {
        if (!record->result_room)
            record->result = record->room;
    } else if (record->result_room < size) {
        void *room = TWILL_MALLOC(size);
        if (!room)
            return false;
        if (record->result_room)
            TWILL_FREE(record->result);
        record->result = room;
        record->result_room = size;
    }
    record->result_size = size;
    if (size)
        memset(record->result, 0, size);
    return true;
}

/* A record for a task: owned, PENDING, its result zeroed. NULL: no memory. By one thread at a
   time. */
static inline twill__record *twill__record_get(twill__core *core, size_t result_size)
{
    twill__record *record;
    if (!core->free) /* acquire: pairs with the push in twill__record_let_go */
        core->free = atomic_exchange_explicit(&core->returned, NULL, memory_order_acquire);
    if (!core->free && !twill__core_grow(core, core->records ? core->records : 32))
        return NULL;
    record = core->free;
    if (!twill__record_room(record, result_size))
        return NULL;
    core->free = record->next;
    /* an old handle looks at nothing but the generation: the rest is ours */
    atomic_store_explicit(&record->stage, TWILL__PENDING, memory_order_relaxed);
    atomic_store_explicit(&record->due, 0, memory_order_relaxed);
    record->owned = true;
    record->settled = record->returned = record->taken = false;
    record->outer = NULL;
    return record;
}

/* The object gives back a record that nobody else has known. By the thread that may call
   twill__record_get. */
static inline void twill__record_put(twill__record *record)
{
    record->owned = false;
    record->next = record->core->free;
    record->core->free = record;
}

/* The handle; once a task, before another thread can know the record. */
static inline twill_future twill__record_hold(twill__record *record)
{
    twill_future future = {record, record->generation};
    record->held = true;
    return future;
}

/* Called with the record locked, after one of its users has gone; unlocks. */
static inline void twill__record_let_go(twill__record *record)
{
    twill__core *core = record->core;
    const twill__record_table *table = core->table;
    bool orphan;
    if (record->owned || record->held || record->pins) {
        twill__unlock(&record->lock);
        return;
    }
    if (record->returned && !record->taken && table->forget) {
        record->taken = true;
        record->pins++; /* nobody but us */
        twill__unlock(&record->lock);
        table->forget(record);
        twill__lock(&record->lock);
        record->pins--;
    }
    orphan = record->orphan;
    if (!orphan) { /* under the lock: twill__core_leave takes it, and then the core may go */
        record->next = atomic_load_explicit(&core->returned, memory_order_relaxed);
        /* release: pairs with the exchange in twill__record_get; relaxed: a guess for the CAS */
        while (!atomic_compare_exchange_weak_explicit(&core->returned, &record->next, record,
                                                      memory_order_release, memory_order_relaxed)) {
        }
    }
    twill__unlock(&record->lock);
    if (orphan)
        twill__core_unuse(core);
}

/* The object goes: it owns no record any more, or only such whose runners are still on their way
   (they disown them later). The core goes with the last record in use. */
static inline void twill__core_leave(twill__core *core)
{
    size_t users = 1;
    if (!twill__core_here(core)) { /* no thread of the parent's is here, but handles may be */
        for (twill__slab *slab = core->slabs; slab; slab = slab->next)
            for (size_t i = 0; i < slab->count; i++)
                if (twill__slab_at(core, slab, i)->held)
                    return;
        twill__core_free(core);
        return;
    }
    atomic_store(&core->users, SIZE_MAX / 2); /* nobody may come to 0 meanwhile */
    for (twill__slab *slab = core->slabs; slab; slab = slab->next)
        for (size_t i = 0; i < slab->count; i++) {
            twill__record *record = twill__slab_at(core, slab, i);
            twill__lock(&record->lock);
            record->orphan = record->owned || record->held || record->pins;
            users += record->orphan;
            twill__unlock(&record->lock);
        }
    /* those who have gone meanwhile have counted themselves out already */
    if (atomic_fetch_sub(&core->users, SIZE_MAX / 2 - users) == SIZE_MAX / 2 - users)
        twill__core_free(core);
    else
        twill__core_unuse(core);
}

/* ---- the object's side ---- */

/* The innermost task whose callback runs on this thread; NULL: none. */
static inline twill__record *twill__record_current(void)
{
    return (twill__record *)twill__thread()->record;
}

/* The callback is about to run on this thread. */
static inline void twill__record_begin(twill__record *record)
{
    record->outer = twill__record_current();
    twill__thread()->record = record;
    /* seq_cst is not asked: who follows waits reads it under a lock that this thread takes before
       it waits */
    atomic_store_explicit(&record->stage, TWILL__ACTIVE, memory_order_relaxed);
}

/* It has returned, or ended its thread. */
static inline void twill__record_left(twill__record *record)
{
    twill__thread()->record = record->outer;
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

/* Under the record's lock. */
static inline void twill__record_wake(twill__record *record)
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

/* After twill__record_settle said true. The record may have new users, or none, right after it: the
   object still owns it, or does not touch it again. */
static inline void twill__record_publish(twill__record *record, const twill_outcome *outcome,
                                         bool disown)
{
    twill__lock(&record->lock);
    record->outcome = *outcome;
    /* release: pairs with the acquire of who polls */
    atomic_store_explicit(&record->stage, TWILL__ENDED, memory_order_release);
    twill__record_wake(record);
    if (disown)
        record->owned = false;
    twill__record_let_go(record);
}

static inline void twill__record_disown(twill__record *record)
{
    twill__lock(&record->lock);
    record->owned = false;
    twill__record_let_go(record);
}

/* Nobody has a handle, and nobody may wait: the object alone knows the record. */
static inline bool twill__record_private(twill__record *record)
{
    bool alone;
    twill__lock(&record->lock);
    alone = !record->held && !record->pins;
    twill__unlock(&record->lock);
    return alone;
}

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
    uint32_t now = twill__generation(), busy = 0x80000000u | now;
    /* pairs with the release */
    uint32_t seen = atomic_load_explicit(&process->waits_generation, memory_order_acquire);
    while (seen != now) { /* exit: whoever is busy does three more steps */
        if (seen != busy &&
            atomic_compare_exchange_strong(&process->waits_generation, &seen, busy)) {
            atomic_store_explicit(&process->waits_lock, 0, memory_order_relaxed);
            process->waits = NULL;
            /* pairs with the acquire */
            atomic_store_explicit(&process->waits_generation, now, memory_order_release);
        } else {
            twill__yield();
        }
        seen = atomic_load_explicit(&process->waits_generation, memory_order_acquire);
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

static inline bool twill__record_open(twill__record *record)
{
    bool open;
    twill__lock(&record->lock);
    /* under the lock */
    open = atomic_load_explicit(&record->stage, memory_order_relaxed) != TWILL__ENDED;
    twill__unlock(&record->lock);
    return open;
}

/* Whether `record` cannot end before a task of `stack` does. Under the list's lock: what the
   waits in it stand on does not move. */
static inline bool twill__leads_back(twill__blocked *list, const twill__record *stack,
                                     twill__record *record)
{
    if (!twill__record_open(record))
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

/* Locks the record of a handle. INVALID, FORKED, STALE: it is not locked. */
static inline twill_status twill__future_lock(twill_future future)
{
    twill__record *record = (twill__record *)future.slot;
    if (!record)
        return TWILL_INVALID;
    if (!twill__core_here(record->core))
        return TWILL_FORKED;
    twill__lock(&record->lock);
    if (record->generation == future.generation)
        return TWILL_OK;
    twill__unlock(&record->lock);
    return TWILL_STALE;
}

/* Under the lock: the answer of one who asks, if it has ended. */
static inline bool twill__record_answer(twill__record *record, void *result, twill_outcome *outcome,
                                        twill_status *status)
{
    /* under the lock */
    if (atomic_load_explicit(&record->stage, memory_order_relaxed) != TWILL__ENDED)
        return false;
    if (outcome)
        *outcome = record->outcome;
    if (result && record->returned) {
        record->taken = true;
        if (record->result_size)
            memcpy(result, record->result, record->result_size);
    }
    *status = record->outcome.status == TWILL_OK ? TWILL_OK : TWILL_FAILED;
    return true;
}

/* Under the record's lock. */
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
    record->pins++;
}

/* Under the record's lock. */
static inline void twill__future_delist(twill__record *record, twill__future_wait *wait)
{
    if (wait->listed) {
        if (wait->previous)
            wait->previous->next = wait->next;
        else
            record->waits = wait->next;
        if (wait->next)
            wait->next->previous = wait->previous;
        wait->listed = false;
    }
    record->pins--;
}

static inline twill_ns twill__nearer(twill_ns a, twill_ns b)
{
    return twill__no_deadline(a) ? b : twill__no_deadline(b) ? a : a < b ? a : b;
}

/* Before a wait sleeps on a record that has not ended, which it has pinned: true: look again. `help`:
   this thread may run it. */
static inline bool twill__record_push_on(twill__record *record, bool help)
{
    const twill__record_table *table = record->core->table;
    /* hints: `expire` and `help` look under their own locks */
    twill_ns due = atomic_load_explicit(&record->due, memory_order_acquire);
    if (due && table->expire && twill__clock_now() >= due) {
        table->expire(record);
        return true;
    }
    return help && table->help &&
           /* as above */
           atomic_load_explicit(&record->stage, memory_order_acquire) == TWILL__PENDING &&
           table->help(record, !twill__record_current());
}

/* Whether this thread may run a task that another one would have run. One that waits for a time or a
   token would overrun it; but a task that waits for another one must, or a pool of one stands
   still. */
static inline bool twill__future_may_help(twill_until until)
{
    if (twill__record_current())
        return !twill__expired(until.deadline) && !twill_cancel_fired(until.cancel);
    return !until.cancel && twill__no_deadline(until.deadline);
}

/* Sleeps until the node is granted or the wait is over; EMPTY: until the record is due. */
static inline twill_status twill__future_sleep(twill__node *node, twill__record *record,
                                               twill_until until)
{
    twill__blocked blocked = {NULL, NULL, twill__record_current(), record, false};
    twill_ns due = atomic_load_explicit(&record->due, memory_order_acquire); /* a hint, as above */
    twill_status status;
    if (twill__on_stack(blocked.stack, record))
        return TWILL_DEADLOCK;
    if (due || until.cancel || !twill__no_deadline(until.deadline)) {
        twill_until sooner = {twill__nearer(until.deadline, due), until.cancel};
        status = twill__wait(node, sooner);
        return status == TWILL_TIMEOUT && !twill__expired(until.deadline) ? TWILL_EMPTY : status;
    }
    if (twill__spin(&node->word, 0, TWILL__SPIN_WAIT, TWILL__SPIN_YIELDS))
        return TWILL_OK; /* no other bit comes without a token */
    if (!twill__blocked_enter(&blocked))
        return TWILL_DEADLOCK;
    status = twill__wait(node, until);
    twill__blocked_leave(&blocked);
    return status;
}

static inline twill_status twill__future_await(twill_future future, void *result,
                                               twill_outcome *outcome, twill_until until)
{
    twill__record *record = (twill__record *)future.slot;
    for (;;) { /* exit: ended, or the wait is over; each turn sleeps, or something has happened */
        twill__future_wait wait;
        twill__node node;
        twill_status status = twill__future_lock(future), answer = TWILL_OK;
        bool ended;
        if (status != TWILL_OK)
            return status;
        if (twill__record_answer(record, result, outcome, &answer)) {
            twill__unlock(&record->lock);
            return answer;
        }
        twill__node_init(&node);
        twill__future_enlist(record, &wait, &node);
        twill__unlock(&record->lock);
        if (twill__record_push_on(record, twill__future_may_help(until)))
            status = TWILL_EMPTY;
        else
            status = twill__future_sleep(&node, record, until);
        twill__lock(&record->lock);
        twill__future_delist(record, &wait);
        ended = twill__record_answer(record, result, outcome, &answer);
        twill__record_let_go(record);
        if (ended)
            return answer;
        if (status != TWILL_OK && status != TWILL_EMPTY)
            return status;
    }
}

/* ---- wait for any ---- */

/* Takes the node out of the lists of the first n; the place of the lowest that has ended, or n. */
static inline size_t twill__any_leave(twill__future_wait *waits, size_t n)
{
    size_t ended = n;
    for (size_t i = n; i-- > 0;) {
        twill__record *record = waits[i].record;
        twill__lock(&record->lock);
        /* under the lock */
        if (atomic_load_explicit(&record->stage, memory_order_relaxed) == TWILL__ENDED)
            ended = i;
        twill__future_delist(record, &waits[i]);
        twill__record_let_go(record);
    }
    return ended;
}

/* Puts the node into all n lists. Not OK: into none. */
static inline twill_status twill__any_enter(const twill_future *futures, size_t n,
                                            twill__future_wait *waits, twill__node *node)
{
    twill__node_init(node);
    for (size_t i = 0; i < n; i++) {
        twill_status status = twill__future_lock(futures[i]);
        if (status != TWILL_OK) {
            (void)twill__any_leave(waits, i);
            return status;
        }
        twill__future_enlist((twill__record *)futures[i].slot, &waits[i], node);
        twill__unlock(&waits[i].record->lock);
    }
    return TWILL_OK;
}

/* One turn. EMPTY: look again. */
static inline twill_status twill__any_sleep(twill__future_wait *waits, size_t n, twill__node *node,
                                            twill_until until)
{
    bool help = twill__future_may_help(until), mine = true;
    twill_until sooner = until;
    twill_status status;
    for (size_t i = 0; i < n; i++) {
        twill__record *record = waits[i].record;
        /* a hint; who has ended grants the node, or is found at the end */
        if (atomic_load_explicit(&record->stage, memory_order_acquire) == TWILL__ENDED ||
            twill__record_push_on(record, help))
            return TWILL_EMPTY;
        mine = mine && twill__on_stack(twill__record_current(), record);
        sooner.deadline = twill__nearer(sooner.deadline,
                                        atomic_load_explicit(&record->due, memory_order_acquire));
    }
    if (mine)
        return TWILL_DEADLOCK;
    status = twill__wait(node, sooner);
    return status == TWILL_TIMEOUT && !twill__expired(until.deadline) ? TWILL_EMPTY : status;
}

static inline twill_status twill__any_await(const twill_future *futures, size_t n, size_t *which,
                                            twill__future_wait *waits, twill_until until)
{
    for (;;) { /* exit: one has ended, or the wait is over */
        twill__node node;
        twill_status status = twill__any_enter(futures, n, waits, &node);
        size_t ended;
        if (status != TWILL_OK)
            return status;
        status = twill__any_sleep(waits, n, &node, until);
        ended = twill__any_leave(waits, n);
        if (ended < n) {
            if (which)
                *which = ended;
            return TWILL_OK;
        }
        if (status != TWILL_OK && status != TWILL_EMPTY)
            return status;
    }
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
        twill_status status = twill__future_lock(future);
        twill_ns due;
        if (status != TWILL_OK)
            return status;
        if (twill__record_answer(record, result, outcome, &status)) {
            twill__unlock(&record->lock);
            return status;
        }
        due = atomic_load_explicit(&record->due, memory_order_acquire); /* a hint */
        if (!due || !record->core->table->expire || twill__clock_now() < due) {
            twill__unlock(&record->lock);
            return TWILL_EMPTY;
        }
        record->pins++;
        twill__unlock(&record->lock);
        record->core->table->expire(record);
        twill__lock(&record->lock);
        record->pins--;
        twill__record_let_go(record);
    }
}

TWILL__WEAK twill_status twill_future_wait_any(const twill_future *futures, size_t n, size_t *which,
                                               twill_until until)
{
    twill__future_wait few[16], *waits = few;
    twill_status status;
    if (!futures || n == 0)
        return TWILL_INVALID;
    if (n > SIZE_MAX / sizeof *waits)
        return TWILL_TOO_BIG;
    if (n > 16 && !(waits = (twill__future_wait *)TWILL_MALLOC(n * sizeof *waits)))
        return TWILL_NO_MEMORY;
    status = twill__any_await(futures, n, which, waits, until);
    if (waits != few)
        TWILL_FREE(waits);
    return status;
}

TWILL__WEAK twill_status twill_future_wait_all(const twill_future *futures, size_t n,
                                               twill_until until)
{
    twill_status all = TWILL_OK;
    if (!futures && n)
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
    twill_status status = twill__future_lock(future);
    if (status != TWILL_OK)
        return status;
    record->pins++;
    twill__unlock(&record->lock);
    if (record->core->table->cancel)
        record->core->table->cancel(record);
    twill__lock(&record->lock);
    record->pins--;
    twill__record_let_go(record);
    return TWILL_OK;
}

TWILL__WEAK void twill_future_release(twill_future future)
{
    twill__record *record = (twill__record *)future.slot;
    if (twill__future_lock(future) != TWILL_OK)
        return;
    record->held = false;
    record->generation++;
    twill__record_let_go(record);
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
    size_t end; /* of the running chunk */
    /* of the running loop: its first item, SIZE_MAX: none; items that ended oddly */
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

/* twill_schedule's values; checked where the pattern takes them. */
typedef enum twill__schedule {
    TWILL__AUTO,
    TWILL__STATIC,
    TWILL__DYNAMIC,
    TWILL__GUIDED,
    TWILL__COST
} twill__schedule;

typedef struct twill__cut { /* COST: items of about equal cost together */
    size_t begin, end;
    uint64_t cost;
} twill__cut;

typedef struct twill__job {
    twill__call call; /* first: task->private_ points here */
    /* set before helpers can come in, then only read */
    size_t n;             /* of this pass */
    size_t first, unit;   /* place k of it: the user's items first + k * unit and on */
    const size_t *starts; /* or, where units differ: items from starts[k] on; [n + 1] */
    size_t start, block;  /* AUTO: the first item of the ranges, items a block */
    size_t chunk, chunk0; /* floor or size asked for; first chunk, in blocks */
    twill__schedule schedule;
    bool whole;   /* a chunk is one callback: never cut into steps */
    bool detail;  /* statuses, codes or errors are wanted */
    bool may_end; /* there is a token or a deadline */
    twill__body_fn *body;
    void *data; /* the pattern's */
    const twill__crew_table *crew; /* NULL: items; else all but the workers is the object's */
    const twill_run *run;
    twill_on_error policy;
    unsigned np;         /* worker numbers */
    uint32_t generation; /* of the process in which helpers were called; 0: none were */
    twill__slot *slot;
    /* a bit a number: in use; its slot is made; STATIC: its range is taken; the three arrays stand
       behind one another, in `bits` where that is enough */
    _Atomic uint64_t *taken, *ready, *ranges;
    twill__cut *cuts;
    size_t cut_count;
    struct twill__job *outer;  /* the call whose callback made this one, in the same thread */
    struct twill__job *parent; /* the same, if it is on the same team */
    void *record; /* the task of engine/future.h whose callback made it */
    struct twill__team *team;
    struct twill__seat *seat;
    uint32_t flags;
    uint64_t tick_rate; /* see platform/ticks.h; set with the team */
    /* shared while it runs */
    _Alignas(TWILL__LINE) _Atomic size_t limit; /* items from here on need not run */
    _Atomic size_t stop_at;                     /* the lowest twill_task_stop */
    _Atomic uint32_t stop;                      /* the status that ends it all, 0: none */
    _Atomic uint64_t bits[3];                   /* one line for all that a newcomer must know */
    _Atomic uint32_t degraded;                  /* a helper's worker_start failed */
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
    /* a guess for the CAS, which is seq_cst */
    size_t now = atomic_load_explicit(word, memory_order_relaxed);
    while (to < now && !atomic_compare_exchange_weak(word, &now, to)) {}
}

/* ---- internal stop ---- */

/* Fires the tokens of workers whose chunk begins at `least` or above. The seq_cst load of begin
   pairs with its store in twill__set_begin: either we see the chunk, or its worker sees the limit
   that was lowered before. */
static inline void twill__fire_from(twill__job *job, size_t least)
{
    for (unsigned word = 0; word < twill__words(job->np); word++) {
        uint64_t bits = atomic_load(&job->ready[word]);
        for (; bits; bits &= bits - 1) {
            twill__slot *slot = &job->slot[word * 64 + (unsigned)__builtin_ctzll(bits)];
            size_t begin = atomic_load(&slot->begin);
            if (begin != SIZE_MAX && begin >= least)
                twill__fire(twill__token_of(&slot->token), TWILL_FAILED, &slot->begin, least);
        }
    }
}

static inline void twill__stop_all(twill__job *job, twill_status why, bool tell)
{
    uint32_t none = 0;
    atomic_compare_exchange_strong(&job->stop, &none, (uint32_t)why);
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
    const twill_until *until = &job->run->until;
    /* a hint: data come by the join */
    if (atomic_load_explicit(&job->stop, memory_order_relaxed))
        return true;
    if (until->cancel && twill_cancel_fired(until->cancel))
        twill__stop_all(job, TWILL_CANCELLED, false);
    else if (!twill__no_deadline(until->deadline) && now >= until->deadline)
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

/* Keeps the `capacity` lowest errors: a heap whose top is the highest of those kept. */
static inline void twill__heap_keep(twill_item_error *heap, size_t capacity, size_t *count,
                                    twill_item_error error)
{
    size_t at;
    if (*count < capacity) {
        for (at = (*count)++; at > 0 && heap[(at - 1) / 2].index < error.index; at = (at - 1) / 2)
            heap[at] = heap[(at - 1) / 2];
        heap[at] = error;
    } else if (capacity && error.index < heap[0].index) {
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
    if (job->generation && job->generation != twill__generation())
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
    /* told to give up by a stop below: it counts, and no more */
    if (item >= atomic_load(&job->stop_at))
        return;
    before = atomic_fetch_add(&job->failures, 1);
    if (before == 0)
        job->earliest = error;
    if (before + 1 >= (job->policy == TWILL_ON_ERROR_FIRST ? 1 : most))
        twill__stop_all(job, TWILL_FAILED, true);
}

static inline void twill__item_end(twill__job *job, twill__slot *me, size_t item, int code)
{
    if (code) {
        twill__item_failed(job, me, item, item, TWILL_FAILED, code);
    } else if (me->said & TWILL__SAID_SKIP) { /* statuses[] says CANCELLED already */
        me->said = 0;
        me->skipped++;
    } else {
        me->said = 0;
        me->done++;
        if (job->detail)
            twill__item_note(job, item, TWILL_OK, 0);
    }
}

/* A loop over items, one callback each. It looks round before each item, or, while items are so
   quick that a look would cost more than they do, before each eighth; and it counts its items once,
   at the end:

       size_t i = twill__loop_begin(&loop, job, me, begin, end), look;
       while ((look = twill__loop_look(&loop, i, end)) > i)
           for (; i < look; i++)
               if (twill__loop_odd(&loop, code = callback...) && !twill__loop_note(&loop, i, code))
                   end = look = i + 1;
       twill__loop_end(me, i); */
typedef struct twill__loop {
    twill__job *job;
    twill__slot *me;
    size_t step;
    twill_ns at; /* the last look at the clock */
    bool detail;
} twill__loop;

static inline size_t twill__loop_begin(twill__loop *loop, twill__job *job, twill__slot *me,
                                       size_t begin, size_t end)
{
    const twill_until *until = &job->run->until;
    loop->job = job;
    loop->me = me;
    loop->detail = job->detail;
    loop->step = end - begin >= 64 && !until->cancel && twill__no_deadline(until->deadline) ? 8 : 1;
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
        if (!twill__no_deadline(job->run->until.deadline)) {
            now = twill__clock_now();
            loop->step = loop->at && now - loop->at < (twill_ns)loop->step * 200 ? 8 : 1;
            loop->at = now;
        }
        if (job->run->until.cancel)
            loop->step = 1;
        if (twill__stopped(job, now))
            return i;
    }
    return end - i < loop->step ? end : i + loop->step;
}

static inline bool twill__loop_odd(const twill__loop *loop, int code)
{
    return (code != 0) | (loop->me->said != 0) | loop->detail; /* one branch an item */
}

/* False: the item after this one must not run any more. */
static inline bool twill__loop_note(twill__loop *loop, size_t item, int code)
{
    loop->me->odd++;
    twill__item_end(loop->job, loop->me, item, code);
    return twill__may_run(loop->job, item + 1);
}

/* `to`: the first item that did not run. */
static inline void twill__loop_end(twill__slot *me, size_t to)
{
    me->done += to - me->from - me->odd;
    me->from = SIZE_MAX;
}

/* A callback for the items begin..end-1 together has returned `code`. `at`: its place in the pass,
   SIZE_MAX: the pass counts items too. */
static inline void twill__range_end(twill__job *job, twill__slot *me, size_t at, size_t begin,
                                    size_t end, int code)
{
    size_t failed = me->fail_index;
    me->fail_index = SIZE_MAX;
    if (code) {
        if (failed < begin || failed >= end)
            failed = begin;
        me->done += failed - begin;
        if (job->detail)
            for (size_t i = begin; i < failed; i++)
                twill__item_note(job, i, TWILL_OK, 0);
        twill__item_failed(job, me, at == SIZE_MAX ? failed : at, failed, TWILL_FAILED, code);
    } else if (me->said & TWILL__SAID_SKIP) {
        me->said = 0;
        me->skipped += end - begin;
    } else {
        me->said = 0;
        me->done += end - begin;
        if (job->detail)
            for (size_t i = begin; i < end; i++)
                twill__item_note(job, i, TWILL_OK, 0);
    }
}

/* ---- what callbacks say ---- */

static inline bool twill__job_cancelled(const twill_task *task)
{
    const twill__job *job = (const twill__job *)task->private_;
    /* relaxed: an answer a moment later is as good */
    return atomic_load_explicit(&job->stop, memory_order_relaxed) ||
           twill__place_of(job, task->index) >
               atomic_load_explicit(&job->limit, memory_order_relaxed);
}

static inline void twill__job_stop(const twill_task *task)
{
    twill__job *job = (twill__job *)task->private_;
    if (task->index == SIZE_MAX)
        return;
    if (task->worker < job->np)
        job->slot[task->worker].said |= TWILL__SAID_STOP;
    twill__lower(&job->stop_at, task->index);
    twill__lower(&job->limit, twill__place_of(job, task->index));
    twill__fire_from(job, twill__place_of(job, task->index) + 1);
}

static inline void twill__job_skip(const twill_task *task)
{
    twill__job *job = (twill__job *)task->private_;
    if (task->worker < job->np)
        job->slot[task->worker].said |= TWILL__SAID_SKIP;
}

static inline void twill__job_fail(const twill_task *task, size_t index)
{
    twill__job *job = (twill__job *)task->private_;
    if (task->worker < job->np)
        job->slot[task->worker].fail_index = index;
}

static inline const twill__call_table *twill__job_table(void)
{
    static const twill__call_table table = {twill__job_cancelled, twill__job_stop, twill__job_skip,
                                            twill__job_fail, NULL};
    return &table;
}

/* ---- worker numbers ---- */

/* Field by field: a memset of two lines costs more than a tiny call may. */
static inline void twill__slot_init(twill__job *job, unsigned worker)
{
    twill__slot *slot = &job->slot[worker];
    twill__token *token = twill__token_of(&slot->token);
    atomic_init(&slot->range, 0);
    atomic_init(&slot->begin, SIZE_MAX);
    token->parent = twill__token_of(job->run->until.cancel);
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
    atomic_store(&slot->begin, begin);
    /* under the lock that fire takes */
    atomic_store_explicit(&token->state, 0, memory_order_relaxed);
    twill__unlock(&token->lock);
}

static inline bool twill__take_bit(_Atomic uint64_t *words, unsigned worker)
{
    return !(atomic_fetch_or(&words[worker / 64], twill__bit(worker)) & twill__bit(worker));
}

static inline bool twill__number_free(const twill__job *job)
{
    for (unsigned worker = 0; worker < job->np; worker += 64) {
        uint64_t all = job->np - worker >= 64 ? UINT64_MAX : twill__bit(job->np) - 1;
        if (~atomic_load(&job->taken[worker / 64]) & all)
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
    if (atomic_load(&job->ready[worker / 64]) & twill__bit(worker)) {
        twill__renew(&job->slot[worker], SIZE_MAX); /* the number was another thread's */
    } else {
        twill__slot_init(job, worker);
        atomic_fetch_or(&job->ready[worker / 64], twill__bit(worker));
    }
    return worker;
}

static inline void twill__give_number(twill__job *job, unsigned worker)
{
    atomic_store(&job->slot[worker].begin, SIZE_MAX);
    atomic_fetch_and(&job->taken[worker / 64], ~twill__bit(worker));
}

#endif

/* AUTO keeps one contiguous range a worker, packed lo:hi in a 64-bit word, in blocks counted from
   job->start. The owner takes chunks from the front, whoever has nothing takes the back half of the
   largest range. The caller begins with all of it; helpers split it as they come in, so one that
   never comes costs nothing. Sources: lazy range splitting, after A. Tzannes et al., "Lazy
   Binary-Splitting" (PPoPP 2010); chunks sized by time. */

#define TWILL__CHUNK_NS 10000 /* of a chunk: a look at the ticks and a few RMWs vanish in it */
#define TWILL__CRUMBS   8     /* a chunk is worth so many of what is not worth halving */

typedef struct twill__pace { /* of one thread in one call */
    size_t chunk, least;     /* next chunk, smallest chunk; in blocks */
    uint64_t goal;           /* what a chunk should last, in ticks */
    uint64_t at, since;      /* the last look at the ticks; the first */
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
    return block > (job->n - job->start) / job->block ? job->n
                                                      : job->start + (size_t)block * job->block;
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
    if (atomic_load(&job->stop))
        return false;
    for (unsigned word = 0; word < twill__words(job->np); word++)
        for (uint64_t bits = atomic_load(&job->ready[word]); bits; bits &= bits - 1)
            if (twill__range_wanted(
                    job,
                    atomic_load(&job->slot[word * 64 + (unsigned)__builtin_ctzll(bits)].range)))
                return true;
    switch (job->schedule) {
    case TWILL__AUTO:
        return false;
    case TWILL__STATIC:
        for (unsigned worker = 0; worker < job->np; worker++)
            if (!(atomic_load(&job->ranges[worker / 64]) & twill__bit(worker)) &&
                twill__may_run(job, twill__share(job, worker)))
                return true;
        return false;
    case TWILL__DYNAMIC:
    case TWILL__GUIDED: {
        size_t next = atomic_load(&job->next);
        return next < job->n && twill__may_run(job, next);
    }
    case TWILL__COST:
        return atomic_load(&job->next) < job->cut_count;
    }
    return false;
}

/* ---- claims ---- */

/* AUTO, and what a thread that ended has left in any schedule: the next chunk of the own range. */
static inline bool twill__claim_own(twill__job *job, twill__slot *me, const twill__pace *pace,
                                    size_t *begin, size_t *end)
{
    /* a guess for the CAS */
    uint64_t range = atomic_load_explicit(&me->range, memory_order_relaxed);
    while (twill__lo(range) < twill__hi(range)) {
        uint64_t lo = twill__lo(range), hi = twill__hi(range), half = (hi - lo + 1) / 2;
        uint64_t chunk = pace->chunk < half ? pace->chunk : half;
        if (chunk < pace->least)
            chunk = pace->least < hi - lo ? pace->least : hi - lo;
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

static inline bool twill__claim_next(twill__job *job, size_t *begin, size_t *end)
{
    /* a guess for the CAS */
    size_t at = atomic_load_explicit(&job->next, memory_order_relaxed), size;
    do {
        /* in index order: all that follows lies above, too */
        if (at >= job->n || !twill__may_run(job, at))
            return false;
        size = job->chunk ? job->chunk : 1;
        if (job->schedule == TWILL__GUIDED && (job->n - at) / job->np / 2 > size)
            size = (job->n - at) / job->np / 2;
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

/* Where a thief cuts a range: in the middle; crumbs it takes whole. A newcomer takes what would be
   its own part of an even split, if that is still there: in call after call the same items meet the
   same cache. */
static inline uint64_t twill__split(const twill__job *job, unsigned worker, const twill__slot *me,
                                    const twill__pace *pace, uint64_t range)
{
    uint64_t size = twill__hi(range) - twill__lo(range), home;
    if (size <= 2 * pace->least)
        return twill__lo(range);
    if (!me->used && job->schedule == TWILL__AUTO) {
        size_t left = job->n - job->start;
        uint64_t blocks = left / job->block + (left % job->block != 0);
        home = blocks / job->np * worker;
        if (home > twill__lo(range) && home < twill__hi(range) && twill__hi(range) == blocks)
            return home;
    }
    return twill__lo(range) + size / 2;
}

/* Takes the back part of the largest range of all. */
static inline bool twill__steal(twill__job *job, unsigned worker, twill__slot *me,
                                const twill__pace *pace)
{
    for (;;) { /* exit: no range left that is wanted; each failed CAS is another's progress */
        twill__slot *victim = NULL;
        uint64_t range = 0, size = 0, mid;
        for (unsigned word = 0; word < twill__words(job->np); word++) {
            uint64_t bits = atomic_load(&job->ready[word]);
            for (; bits; bits &= bits - 1) {
                twill__slot *slot = &job->slot[word * 64 + (unsigned)__builtin_ctzll(bits)];
                /* a guess for the CAS */
                uint64_t seen = atomic_load_explicit(&slot->range, memory_order_relaxed);
                if (slot != me && twill__range_wanted(job, seen) &&
                    twill__hi(seen) - twill__lo(seen) > size) {
                    victim = slot;
                    range = seen;
                    size = twill__hi(seen) - twill__lo(seen);
                }
            }
        }
        if (!victim)
            return false;
        mid = twill__split(job, worker, me, pace, range);
        /* relaxed: as in twill__claim_own */
        if (!atomic_compare_exchange_strong_explicit(&victim->range, &range,
                                                     twill__pack(twill__lo(range), mid),
                                                     memory_order_relaxed, memory_order_relaxed))
            continue;
        /* seq_cst: the thief then looks for sleepers */
        atomic_exchange(&me->range, twill__pack(mid, twill__hi(range)));
        return true;
    }
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
        atomic_store(&me->begin, begin);
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
    pace->at = pace->since = twill__ticks();
}

/* After a chunk of `blocks`: the next one shall last TWILL__CHUNK_NS. */
static inline void twill__pace_on(const twill__job *job, twill__pace *pace, size_t blocks)
{
    uint64_t now = twill__ticks(), took = now > pace->at ? now - pace->at : 1;
    uint64_t fit = pace->goal / TWILL__CRUMBS * blocks / took;
    size_t floor = twill__pace_floor(job);
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
        return twill__claim_next(job, begin, end);
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
    twill__job *job; /* written by the owner before it opens */
} twill__seat;

typedef struct twill__helper {
    twill__thrd thread;
    struct twill__team *team;
    unsigned number;
    struct twill__helper *next; /* replacements */
} twill__helper;

typedef struct twill__team {
    /* one more for each call that opens, and at the close */
    _Alignas(TWILL__LINE) _Atomic uint32_t epoch;
    _Atomic uint32_t hint; /* the seat that opened last */
    /* threads with nothing to do: spinning or parked */
    _Alignas(TWILL__LINE) _Atomic uint32_t idle;
    _Atomic uint32_t parked;
    _Atomic uint32_t closed;
    _Atomic twill_ns alarm; /* idle threads look round then at the latest; TWILL_FOREVER: never */
    unsigned spinners;      /* so many of them may spin: one CPU is the caller's */
    unsigned threads;       /* started; set before others see the team */
    uint32_t generation;    /* of the process that started them */
    /* holds the generation of this process; see platform/process.h */
    const _Atomic uint32_t *mark;
    uint64_t tick_rate; /* see platform/ticks.h */
    twill__helper *helper;
    _Atomic(twill__helper *) replacements; /* for threads that ended in a callback of a crew */
    _Atomic uint32_t lost;                 /* of them, those that nobody replaces */
    twill__seat seat[TWILL__SEATS];
} twill__team;

/* ---- in and out of a seat ---- */

static inline twill__job *twill__enter(twill__seat *seat)
{
    uint32_t word = atomic_load(&seat->word);
    while (word & TWILL__SEAT_OPEN)
        if (atomic_compare_exchange_weak(&seat->word, &word, word + 1))
            return seat->job;
    return NULL;
}

/* The caller, asleep on the word, has something to do again. */
static inline void twill__rouse(twill__seat *seat)
{
    if (atomic_load(&seat->word) & TWILL__SEAT_WAIT) {
        atomic_fetch_and(&seat->word, ~TWILL__SEAT_WAIT);
        twill__wake(&seat->word, INT_MAX);
    }
}

/* After the fetch_sub the job may be gone; the seat stays. */
static inline void twill__leave(twill__seat *seat)
{
    uint32_t word = atomic_fetch_sub(&seat->word, 1) - 1;
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

/* Tells up to `need` idle threads to look round. */
static inline void twill__call_helpers(twill__team *team, unsigned need)
{
    uint32_t parked, idle;
    atomic_fetch_add(&team->epoch, 1);
    parked = atomic_load(&team->parked);
    if (!parked)
        return;
    idle = atomic_load(&team->idle);
    if (idle > parked) { /* those who spin see the epoch */
        if (idle - parked >= need)
            return;
        need -= idle - parked;
    }
    twill__wake(&team->epoch, need > INT_MAX ? INT_MAX : (int)need);
}

/* ---- taking part ---- */

/* The caller is the only worker, and has claimed all there is. */
static inline bool twill__all_mine(const twill__job *job, const twill__slot *me)
{
    uint64_t range =
        atomic_load_explicit(&me->range, memory_order_relaxed); /* ours until another is in */
    return twill__lo(range) >= twill__hi(range) && job->schedule == TWILL__AUTO && job->np <= 64 &&
           atomic_load(&job->ready[0]) == 1;
}

/* noinline: its locals must not stand in the frame of a guard, which may be a setjmp */
static __attribute__((noinline)) void twill__take_part(twill__job *job, unsigned worker,
                                                       twill_task *task)
{
    twill__slot *me = &job->slot[worker];
    twill__pace pace;
    size_t begin, end;
    if (job->crew) {
        me->used = true;
        job->crew->work(job->data, task);
        return;
    }
    twill__pace_init(job, &pace);
    /* exit: no work left to claim, or stopped; each turn claims, steals or returns */
    for (;;) {
        if (twill__stopped(job, job->may_end ? twill__clock_now() : 0))
            break;
        if (twill__claim(job, worker, me, &pace, &begin, &end)) {
            twill__set_begin(me, begin);
            if (begin >= atomic_load(&job->limit)) /* seq_cst: see twill__set_begin */
                continue;
            if (worker == 0 && twill__all_mine(job, me))
                /* nothing is left for helpers: who comes now would only be waited for */
                atomic_fetch_and(&job->seat->word, ~TWILL__SEAT_OPEN);
            twill__run_chunk(job, me, task, begin, end);
            twill__pace_on(job, &pace, (end - begin - 1) / job->block + 1);
            continue;
        }
        if (!twill__steal(job, worker, me, &pace))
            break;
        twill__rouse_callers(job);
        if (atomic_load(&job->team->idle) && twill__number_free(job))
            /* one who looked between the theft and its publishing saw nothing */
            twill__call_helpers(job->team, 1);
    }
    me->busy += pace.at - pace.since;
}

/* What is left of a chunk, from place `from` on, goes back into the worker's range, where others
   find it. */
static inline void twill__hand_back(twill__job *job, twill__slot *me, size_t from)
{
    uint64_t range, back;
    if (me->end <= from || job->whole || job->block != 1 || job->n - job->start > 0xffffffffu)
        return;
    /* a guess for the CAS */
    range = atomic_load_explicit(&me->range, memory_order_relaxed);
    do
        back = twill__pack(from - job->start, twill__lo(range) < twill__hi(range)
                                                  ? twill__hi(range)
                                                  : me->end - job->start);
    while (!atomic_compare_exchange_weak(&me->range, &range, back));
}

/* A thread ends inside a callback: its item is LOST, what is left of its chunk goes back. */
static inline void twill__thread_ended(twill__job *job, unsigned worker, const twill_task *task)
{
    twill__slot *me = &job->slot[worker];
    size_t begin = atomic_load(&me->begin), item = task->index, at = twill__place_of(job, item);
    me->said = 0;
    if (!me->inside || begin == SIZE_MAX || item == SIZE_MAX) {
        me->refused = true; /* it ended inside a hook, or in another call's callback */
        return;
    }
    me->inside = false;
    if (me->from != SIZE_MAX)
        twill__loop_end(me, item);
    twill__hand_back(job, me, at + 1);
    twill__item_failed(job, me, at, item, TWILL_LOST, 0);
    atomic_store(&me->begin, SIZE_MAX);
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

/* A thread of the team ends in a callback: another one takes its place, or, without memory or
   threads, nobody does. Whoever closes the team joins the dying thread first, and then finds what
   it has left. */
static inline void twill__replace(twill__team *team)
{
    twill__helper *dying = (twill__helper *)twill__thread()->helper, *fresh;
    if (!dying || twill__thread()->team != team)
        return;
    fresh = (twill__helper *)TWILL_MALLOC(sizeof *fresh);
    if (!fresh) {
        atomic_fetch_add(&team->lost, 1);
        return;
    }
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
        atomic_fetch_add(&team->lost, 1);
        return;
    }
    /* release: pairs with the exchange in twill__team_close; relaxed: a guess for the CAS */
    fresh->next = atomic_load_explicit(&team->replacements, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&team->replacements, &fresh->next, fresh,
                                                  memory_order_release, memory_order_relaxed)) {}
}

static inline void twill__visit_ended(void *visit_)
{
    twill__visit *visit = (twill__visit *)visit_;
    twill__thread()->job = visit->outer;
    twill__thread()->record = visit->record;
    if (visit->job->crew) {
        if (visit->job->crew->ended)
            visit->job->crew->ended(visit->job->data, &visit->task);
        twill__give_number(visit->job, visit->worker);
        twill__replace(visit->job->team);
        twill__leave(visit->seat);
        return;
    }
    twill__thread_ended(visit->job, visit->worker, &visit->task);
    /* the number stays taken: its slot holds the item's end */
    atomic_store(&visit->job->degraded, 1);
    twill__leave(visit->seat);
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

static inline bool twill__other_open(const twill__team *team, const twill__seat *seat)
{
    for (unsigned i = 0; i < TWILL__SEATS; i++)
        if (&team->seat[i] != seat && (atomic_load(&team->seat[i].word) & TWILL__SEAT_OPEN))
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
    if (atomic_load(&job->team->parked) &&
        ((twill__number_free(job) && twill__has_work(job)) || twill__other_open(job->team, seat)))
        /* the next one: two calls may have counted on the same idle thread */
        twill__wake(&job->team->epoch, 1);
    visit.seat = seat;
    visit.job = job;
    visit.outer = self->job;
    visit.record = self->record;
    self->job = job;
    if (!job->crew) /* the helper's items are a part of the task that made the call */
        self->record = job->record;
    TWILL__GUARD_PUSH(twill__visit_ended, &visit);
    if (twill__worker_ready(job, visit.worker, &visit.task, &code)) {
        twill__take_part(job, visit.worker, &visit.task);
        twill__give_number(job, visit.worker);
    } else {
        atomic_store(&job->degraded, 1); /* and the number stays taken */
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
    served = twill__serve(at, job, prefer);
    twill__leave(at);
    return served;
}

static inline bool twill__serve_team(twill__team *team, unsigned prefer)
{
    unsigned hint = atomic_load(&team->hint) % TWILL__SEATS;
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

/* Until the epoch changes, or an alarm is due. Whoever takes the alarm looks round; the crews that
   he asks set theirs anew. */
static inline void twill__nap(twill__team *team, uint32_t epoch)
{
    twill_ns alarm = atomic_load(&team->alarm);
    if (alarm == TWILL_FOREVER)
        twill__park(&team->epoch, epoch, 0);
    else if (twill__clock_now() >= alarm || !twill__park(&team->epoch, epoch, alarm))
        atomic_compare_exchange_strong(&team->alarm, &alarm, TWILL_FOREVER);
}

static inline void twill__helper_main(void *helper_)
{
    twill__helper *helper = (twill__helper *)helper_;
    twill__team *team = helper->team;
    twill__thread()->team = team;
    twill__thread()->helper = helper;
    for (;;) { /* exit: closed */
        uint32_t epoch = atomic_load(&team->epoch);
        if (twill__serve_team(team, helper->number))
            continue;
        if (atomic_load(&team->closed))
            break;
        /* then look again: a thief that saw no idle thread calls none */
        atomic_fetch_add(&team->idle, 1);
        if (!twill__call_waits(team) && atomic_load(&team->epoch) == epoch &&
            !(atomic_load(&team->idle) - atomic_load(&team->parked) <= team->spinners &&
              twill__spin(&team->epoch, epoch, TWILL__IDLE_SPIN, 0))) {
            atomic_fetch_add(&team->parked, 1);
            if (atomic_load(&team->epoch) == epoch)
                twill__nap(team, epoch);
            atomic_fetch_sub(&team->parked, 1);
        }
        atomic_fetch_sub(&team->idle, 1);
    }
    twill__thread()->team = NULL;
    twill__thread()->helper = NULL;
}

/* ---- a team's life ---- */

/* Whether this process made the team: a forked child has none of its threads. */
static inline bool twill__team_here(const twill__team *team)
{
    /* a number; set before */
    return atomic_load_explicit(team->mark, memory_order_relaxed) == team->generation;
}

static inline void twill__team_init(twill__team *team, twill__helper *helper)
{
    unsigned cpus = twill__cpus_hint();
    memset(team, 0, sizeof *team);
    atomic_init(&team->alarm, TWILL_FOREVER);
    team->spinners = cpus - 1;
    team->generation = twill__generation();
    /* set: generation was asked */
    team->mark = atomic_load_explicit(&twill__process()->mark, memory_order_acquire);
    team->tick_rate = twill__ticks_per_us();
    team->helper = helper;
}

/* Starts threads until there are `upto`. False: one could not be started; those that could,
   help. */
static inline bool twill__team_grow(twill__team *team, unsigned upto, const twill_run *run)
{
    while (team->threads < upto) {
        unsigned k = team->threads;
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
        team->threads++;
    }
    return true;
}

/* What its threads could not have: TWILL_REPORT_NO_... */
static inline uint32_t twill__team_flags(const twill__team *team)
{
    uint32_t flags = 0;
    for (unsigned k = 0; k < team->threads; k++) /* relaxed: set before a thread does anything */
        flags |= atomic_load_explicit(&team->helper[k].thread.flags, memory_order_relaxed);
    return flags;
}

/* Ends the threads, after the calls that are on it: those that come later find no seat. Returns the
   flags that its threads have raised. In a forked child there is nobody to join. */
static inline uint32_t twill__team_close(twill__team *team)
{
    uint32_t flags = 0;
    if (!twill__team_here(team))
        return 0;
    for (unsigned i = 0; i < TWILL__SEATS; i++) {
        _Atomic uint32_t *word = &team->seat[i].word;
        uint32_t seen = atomic_load(word);
        while (!(seen & TWILL__SEAT_SHUT)) { /* exit: free, once the call that has it is over */
            if (seen == 0)
                atomic_compare_exchange_weak(word, &seen, TWILL__SEAT_SHUT);
            else if (!(seen & TWILL__SEAT_BYE))
                atomic_compare_exchange_weak(word, &seen, seen | TWILL__SEAT_BYE);
            else /* a call that was never open does not wake us */
                (void)twill__park(word, seen, twill__clock_now() + TWILL_MS(1));
            seen = atomic_load(word);
        }
    }
    atomic_store(&team->closed, 1);
    twill__call_helpers(team, UINT_MAX);
    for (unsigned k = 0; k < team->threads; k++) {
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
            atomic_compare_exchange_strong(&team->seat[i].word, &none, TWILL__SEAT_OWNED))
            return &team->seat[i];
    }
    return NULL;
}

static inline void twill__release(twill__seat *seat, bool opened)
{
    /* A seat that was never open has no helper to wait for: a plain store spares a tiny call an
       RMW. It may wipe out the BYE of a closing thread, which looks again by itself. release: pairs
       with the CAS of the next owner */
    if (!opened)
        atomic_store_explicit(&seat->word, 0, memory_order_release);
    else if (atomic_exchange(&seat->word, 0) & TWILL__SEAT_BYE)
        twill__wake(&seat->word, INT_MAX);
}

/* Opens the job's seat to the team. */
static inline void twill__open(twill__job *job, unsigned need)
{
    twill__team *team = job->team;
    job->seat->job = job;
    /* epoch publishes */
    atomic_store_explicit(&team->hint, (unsigned)(job->seat - team->seat), memory_order_relaxed);
    atomic_fetch_or(&job->seat->word, TWILL__SEAT_OPEN);
    if (need)
        twill__call_helpers(team, need);
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
        if (&team->seat[i] == top->seat || !(atomic_load(&team->seat[i].word) & TWILL__SEAT_OPEN) ||
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
    atomic_fetch_or(&job->seat->word, TWILL__SEAT_OPEN);
    if (atomic_load(&job->team->idle) && twill__number_free(job))
        twill__call_helpers(job->team, 1);
    twill__take_part(job, 0, task);
    atomic_fetch_and(&job->seat->word, ~TWILL__SEAT_OPEN);
}

/* Waits for those who came in, and only for them. Meanwhile it runs what comes up. */
static inline void twill__meet(twill__job *job, twill_task *task, bool may_run)
{
    twill__seat *seat = job->seat;
    bool spun = false;
    uint32_t word = atomic_load(&seat->word);
    if (word & TWILL__SEAT_OPEN)
        word = atomic_fetch_and(&seat->word, ~TWILL__SEAT_OPEN) & ~TWILL__SEAT_OPEN;
    /* exit: helpers leave; what they wait for is strictly below. One that ended may have left
       work */
    while ((word & TWILL__SEAT_COUNT) || (may_run && twill__has_work(job))) {
        if (job->generation != twill__generation())
            break; /* a fork in a callback: here they do not exist */
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
            atomic_fetch_or(&seat->word, TWILL__SEAT_WAIT); /* then look once more */
        }
        word = atomic_load(&seat->word);
    }
}

/* ---- what a header with run.pool knows of a pool ---- */

#define TWILL__POOL_LAYOUT 1
struct twill_pool {
    unsigned layout;
    twill__team *team;
};

#endif

typedef struct twill__pool {
    twill_pool head; /* first: what others know of it */
    void *memory;    /* as allocated, not aligned */
    twill__team team;
} twill__pool;

static inline bool twill__pool_run_valid(const twill_run *run)
{
    return !run->pool && !run->until.deadline && !run->until.cancel && !run->context &&
           !run->worker_start && !run->worker_stop && !run->on_error && !run->max_errors &&
           !run->errors && !run->errors_capacity && !run->statuses && !run->codes && !run->report &&
           !run->cpus == !run->cpu_count;
}

TWILL__DEFINE twill_status twill_pool_create(twill_pool **out, const twill_pool_options *options)
{
    static const twill_run none;
    const twill_run *run = options ? &options->run : &none;
    unsigned workers = run->workers ? run->workers : twill__cpus_now();
    char *memory;
    twill__pool *pool;
    if (!out)
        return TWILL_INVALID;
    *out = NULL;
    if (!twill__pool_run_valid(run))
        return TWILL_INVALID;
    if (workers > 65536)
        return TWILL_TOO_BIG;
    memory = (char *)TWILL_MALLOC(sizeof *pool + workers * sizeof(twill__helper) + TWILL__LINE);
    if (!memory)
        return TWILL_NO_MEMORY;
    pool = (twill__pool *)(void *)(memory +
                                   (TWILL__LINE - (uintptr_t)memory % TWILL__LINE) % TWILL__LINE);
    pool->head.layout = TWILL__POOL_LAYOUT;
    pool->head.team = &pool->team;
    pool->memory = memory;
    twill__team_init(&pool->team, (twill__helper *)(void *)(pool + 1));
    if (!twill__team_grow(&pool->team, workers, run) && (run->strict || pool->team.threads == 0)) {
        (void)twill__team_close(&pool->team);
        TWILL_FREE(memory);
        return TWILL_NO_THREAD;
    }
    *out = &pool->head;
    return TWILL_OK;
}

TWILL__DEFINE twill_status twill_pool_destroy(twill_pool *pool)
{
    twill__self *self = twill__thread();
    twill__team *team;
    if (!pool)
        return TWILL_OK;
    team = pool->team;
    if (twill__team_here(team)) {
        if (self->team == team)
            return TWILL_DEADLOCK;
        for (const twill__job *job = self->job; job; job = job->outer)
            if (job->team == team)
                return TWILL_DEADLOCK;
    }
    (void)twill__team_close(team);
    TWILL_FREE(((twill__pool *)(void *)pool)->memory);
    return TWILL_OK;
}

TWILL__DEFINE unsigned twill_pool_workers(const twill_pool *pool)
{
    return pool ? pool->team->threads : 0;
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
