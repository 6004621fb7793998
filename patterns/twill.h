/* twill.h - twill 0.1.0 - SPDX-License-Identifier: MIT OR Unlicense (text at the end)
   GENERATED from patterns/src/twill.h and its parts. Do not edit it here: edit there, then `make headers`. */

/* twill.h - all patterns of twill in one file. SPDX-License-Identifier: MIT OR Unlicense

   The same as including each twill_<pattern>.h; every manual stands before its declarations. */

/* ---- parallel_map.h ---- */
/* twill_parallel_map.h - parallel loops and algorithms. SPDX-License-Identifier: MIT OR Unlicense

   Compile: cc -std=c11 -pthread. One .c file says `#define TWILL_IMPLEMENTATION` before it includes
   twill headers.

   WHAT IT IS FOR
   A loop whose items do not need one another: apply a function to n items, with the results where
   the serial loop would have put them; or reduce, filter, scan, search or sort n items. The caller
   takes part; threads come only when the work is worth them, so a small call costs the serial loop.

   WHEN NOT
   - Items that wait for one another: use a pipeline, or producer_consumer.
   - An input without an end, results as they come: fan_out_fan_in.
   - A loop over a few thousand additions: it stays serial here, too; write the plain loop.

   EXAMPLE:
   #define TWILL_IMPLEMENTATION
   #include "twill_parallel_map.h"
   #include <stdio.h>

   static int square(const void *in, void *out, const twill_task *task)
   {
       int number = *(const int *)in;
       (void)task;
       *(long *)out = (long)number * number;
       return 0;  // any other value fails the item, and with it the call
   }

   int main(void)
   {
       int numbers[100];
       long squares[100], sum = 0;
       for (int i = 0; i < 100; i++)
           numbers[i] = i;
       twill_status status = twill_parallel_map(numbers, sizeof *numbers, squares, sizeof *squares,
                                                100, square, NULL);
       for (int i = 0; i < 100; i++)
           sum += squares[i];
       printf("%s, sum %ld\n", twill_status_name(status), sum);
       return sum != 328350;
   }
   END OF EXAMPLE
   OUTPUT:
   TWILL_OK, sum 328350
   END OF OUTPUT

   WHICH FORM
     map        one input, one output an item        range    begin..end a call: the fastest
     for        an index                             tiles    rectangles of a grid
     invoke     a few different functions            TWILL_DEFINE_MAP   the body inside the loop
     reduce     fold and combine                     scan     running sums
     filter     what a test wants, in order          find     the lowest match
     sort       stable

   HOW IT WORKS
   The caller runs the first items alone and times them. Is the rest worth it, helpers come: of the
   pool in run.pool, else of the call around this one, else threads that the call starts and joins.
   Each works on a range of its own, in chunks that last about 10 us, and steals half of another's
   range when its own is done. Nobody waits for a thread that has not come in.

   OPTIONS (twill_parallel_options; NULL or zeroed: defaults)
     run          see twill_run: pool, workers, deadline and token, hooks, errors, report
     run.workers  0: as many as useful; set: all of them start before the first item (for items that
                  sleep or wait, and for few heavy items without a pool)
     schedule     AUTO; STATIC (same items on the same worker), DYNAMIC, GUIDED, COST
     chunk        items: AUTO, GUIDED never hand out fewer; DYNAMIC so many; 0: automatic;
                  STATIC and COST cut by themselves and ignore it
     cost_of      COST: the cost of an item in any unit; other schedules ignore it
     reduce       ordered: every schedule but COST; scan: AUTO or STATIC, sort: AUTO, without chunk

   ERRORS
     TWILL_OK        every item has run; or a callback said twill_task_stop: all below it have
     TWILL_FAILED    an item failed. By default (LOWEST) report.first_error is what the serial loop
                     would have met first, for any number of threads, although the loop stops early
     TWILL_CANCELLED, TWILL_TIMEOUT   token or deadline ended it; running callbacks were waited for
     TWILL_INVALID   a NULL function, data, or size 0 with n > 0; in == out with other sizes; an
                     enum out of range; COST without cost_of; an option that the call cannot honour
     TWILL_TOO_BIG   n * size, or the number of tiles, does not fit size_t
     TWILL_NO_MEMORY no callback has run. TWILL_NO_THREAD: run.strict, nothing ran
     TWILL_FORKED    the pool was made before a fork. TWILL_CLOSED: its destroy has begun
   Not OK, and then: map and the loops have run some items (run.statuses says which); reduce, filter
   leave the result as it was; scan has written a part; find tells the lowest match that it saw;
   sort leaves the same items in some order.

   THREADS      Any thread may call, also inside callbacks. Callbacks run on several threads at
                once, at most one for an index. task->worker is 0..workers-1 and owned by the
                thread that runs: arrays by worker need no lock, but pad them to 128 bytes.
   ORDERING     What happened before the call is visible to every callback, and all that callbacks
                did after the return. With one worker: exactly the serial order (COST: by cost).
   BLOCKS       Until all callbacks have returned, also when it was cancelled.
   OWNERSHIP    All that is passed stays the caller's; nothing is kept.
   ALLOCATES    map, for, range, tiles, invoke, find: nothing up to 64 workers. reduce: nothing
                while the accumulators take 4 KiB; at most 1 MiB of them at once, or 16 a worker.
                filter: a bit an item, nothing up to 16384. scan: 256 elements. sort: n * size
                bytes, and two pointers an item above 32 bytes. All before the first callback.
   STACK        A call takes 6 KiB of the caller's stack, 25 KiB with more than 8 workers, 12 KiB
                more with COST; nested calls add up. stack_size should leave room for that.
   NESTING      A call inside a callback uses the threads of the outer call. It waits only for its
                own items, so locks held across it are safe, and a pool of one thread is enough.

   PITFALLS
   - A few heavy items without a pool: the first one runs alone, to be timed. Set run.workers.
   - Neighbouring results of a few bytes share a cache line; large chunks make that rare, DYNAMIC
     with chunk 1 makes it common.
   - Floating-point sums: reduce gives the same bits for every number of threads, but not those of
     the plain loop. unordered gives neither.
   - A callback that never returns: the call does not, either. Poll twill_task_cancelled.
   - thrd_exit in a callback: the item is LOST, the call carries on. longjmp out of one: undefined.
   - twill_task_stop in compare ends the sort: TWILL_OK, the items in some order. In a range form,
     in fold and in a scan it takes effect at the end of the range. */

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

#ifndef TWILL_PARALLEL_MAP_H
#define TWILL_PARALLEL_MAP_H

#ifdef __cplusplus
extern "C" {
#endif

typedef enum twill_schedule {
    /* the caller begins alone; then chunks sized by measured time, and idle workers steal */
    TWILL_SCHEDULE_AUTO = 0,
    TWILL_SCHEDULE_STATIC,  /* one part a worker; the first n % w parts are one item longer */
    TWILL_SCHEDULE_DYNAMIC, /* `chunk` items a claim, in index order; chunk 0 = 1 */
    TWILL_SCHEDULE_GUIDED,  /* remaining/(2w) items a claim, never below `chunk` */
    TWILL_SCHEDULE_COST     /* cuts of equal cost, the dearest first; needs `cost_of` */
} twill_schedule;

/* How to run it. NULL or zeroed: threads where the work is worth them, the serial loop's error. */
typedef struct twill_parallel_options {
    twill_run run;
    twill_schedule schedule;
    size_t chunk; /* items; AUTO, GUIDED: never fewer a claim; DYNAMIC: so many; 0: automatic */
    /* COST: called once an item, on the calling thread, before the first item runs; any unit; 0
       counts as 1, sums saturate */
    uint64_t (*cost_of)(size_t index, const twill_task *task);
} twill_parallel_options;

typedef int twill_for_fn(const twill_task *task); /* the index is task->index */
typedef int twill_range_fn(size_t begin, size_t end, const twill_task *task);
typedef int twill_tile_fn(size_t row, size_t row_end, size_t col, size_t col_end,
                          const twill_task *task);
typedef bool twill_test_fn(const void *item, const twill_task *task);
/* Below, equal or above 0, as for qsort. It must give the same answer every time. */
typedef int twill_compare_fn(const void *a, const void *b, const twill_task *task);
/* left <- left (+) right. Associative is enough. right may be moved out of: nobody reads it
   again. */
typedef int twill_combine_fn(void *left, void *right, const twill_task *task);

typedef struct twill_reducer {
    size_t size; /* bytes of one accumulator; it must survive a memcpy to another place */
    /* Makes an empty one. NULL: all bytes zero. */
    int (*identity)(void *acc, const twill_task *task);
    /* Adds the items begin..end-1. */
    int (*fold)(void *acc, size_t begin, size_t end, const twill_task *task);
    twill_combine_fn *combine;
    /* NULL, or called once for each accumulator but the result: after combine for its right one,
       and for all of them when the call does not succeed. */
    void (*dispose)(void *acc, const twill_task *task);
    bool unordered; /* one accumulator a worker; combine must commute; bits differ between runs */
    size_t blocks;  /* ordered: fixed cuts; 0: 32, from 1024 items on 64, from 16384 on 256 */
} twill_reducer;

/* ---- loops ---- */

/* out[i] = fn(in[i]) for n items of in_size and out_size bytes; task->index is i. in may be out
   if the sizes are equal; else they must not overlap. Blocks until all is done; the caller takes
   part. Any thread, also inside callbacks. TWILL_OK; FAILED, CANCELLED, TIMEOUT: run.report says
   how far; refusals (nothing ran): INVALID, TOO_BIG, NO_THREAD, NO_MEMORY, FORKED, CLOSED. The
   same holds for all functions below. */
TWILL__DECL twill_status twill_parallel_map(const void *in, size_t in_size, void *out,
                                            size_t out_size, size_t n, twill_map_fn *fn,
                                            const twill_parallel_options *options);

/* fn for each index 0..n-1. Every n is valid, SIZE_MAX too. */
TWILL__DECL twill_status twill_parallel_for(size_t n, twill_for_fn *fn,
                                            const twill_parallel_options *options);

/* fn for ranges that make up 0..n-1: the fastest form, one call a chunk. task->index is `begin`. A
   range that returns a code fails as one item: the one of twill_task_fail, else its first; those
   below it count done, those above skipped. */
TWILL__DECL twill_status twill_parallel_range(size_t n, twill_range_fn *fn,
                                              const twill_parallel_options *options);

/* fn for the tiles of a grid; a tile counts as one item, and its index grows row by row. A tile
   size of 0 is chosen by rows and cols: 64 at most, and so that there are some 256 tiles. Tiles
   at the far edges may be smaller. */
TWILL__DECL twill_status twill_parallel_tiles(size_t rows, size_t cols, size_t tile_rows,
                                              size_t tile_cols, twill_tile_fn *fn,
                                              const twill_parallel_options *options);

/* Calls n different functions; task->index says which one it is. Helpers are called at once: each
   function should be worth a thread (60 us), or, on a pool, a wake (3 us). */
TWILL__DECL twill_status twill_parallel_invoke(twill_for_fn *const *fns, size_t n,
                                               const twill_parallel_options *options);

/* ---- algorithms ---- */

/* Folds n items into *result. Ordered (the default): the same cuts and the same tree of combines,
   so the same bits on 1 or 64 threads. *result is written only when the answer is TWILL_OK. n ==
   0: the identity. A combine that fails is told as the first item of its right operand. */
TWILL__DECL twill_status twill_parallel_reduce(size_t n, const twill_reducer *reducer, void *result,
                                               const twill_parallel_options *options);

/* out[i] = in[0] (+) ... (+) in[i]. With `start`: out[i] = start (+) in[0] (+) ... (+) in[i-1]. out
   may be in. Not OK: out is written in part. AUTO combines an item once or twice, in cuts that
   depend on time: combine should be exactly associative, or last bits vary. STATIC: fixed cuts, the
   same bits for every number of threads, and each item twice. */
TWILL__DECL twill_status twill_parallel_scan(const void *in, void *out, size_t size, size_t n,
                                             const void *start, twill_combine_fn *combine,
                                             const twill_parallel_options *options);

/* Copies the items that `keep` wants, in order, to out, which needs room for those only and may
   be in (but not overlap it otherwise). out NULL: counts only. keep is called once an item. Not
   OK: out is unchanged, *out_n is 0. After twill_task_stop: what was kept up to that item. */
TWILL__DECL twill_status twill_parallel_filter(const void *in, size_t size, size_t n, void *out,
                                               size_t *out_n, twill_test_fn *keep,
                                               const twill_parallel_options *options);

/* *index: the LOWEST item that matches, n: none. Items above it need not run. Not OK: the lowest
   match that was seen. */
TWILL__DECL twill_status twill_parallel_find(const void *in, size_t size, size_t n, size_t *index,
                                             twill_test_fn *match,
                                             const twill_parallel_options *options);

/* Sorts, stable, with n * size bytes of memory, and 2 pointers an item above 32 bytes. Not OK: base
   holds the same items in some order (but if compare ends its thread). schedule, chunk and cost_of
   must be zero. */
TWILL__DECL twill_status twill_parallel_sort(void *base, size_t n, size_t size,
                                             twill_compare_fn *compare,
                                             const twill_parallel_options *options);

/* ---- typed map ---- */

/* TWILL_DEFINE_MAP(squares, int, int64_t, x, (int64_t)x * x) defines
       static twill_status squares(const int *in, int64_t *out, size_t n,
                                   const twill_parallel_options *options);
   whose body is compiled into the loop: no call an item. EXPR may use `task`, that of the chunk:
   task->context, task->worker_state; task->index is the chunk's first item. */
#define TWILL_DEFINE_MAP(NAME, IN, OUT, VAR, EXPR)                                                 \
    struct NAME##_call {                                                                           \
        const IN *in;                                                                              \
        OUT *out;                                                                                  \
    };                                                                                             \
    static int NAME##_range(const void *call_, size_t begin_, size_t end_, const twill_task *task) \
    {                                                                                              \
        const IN *in_ = ((const struct NAME##_call *)call_)->in;                                   \
        OUT *out_ = ((const struct NAME##_call *)call_)->out;                                      \
        (void)task;                                                                                \
        for (size_t i_ = begin_; i_ < end_; i_++) {                                                \
            const IN VAR = in_[i_];                                                                \
            out_[i_] = (EXPR);                                                                     \
        }                                                                                          \
        return 0;                                                                                  \
    }                                                                                              \
    static inline twill_status NAME(const IN *in_, OUT *out_, size_t n_,                           \
                                    const twill_parallel_options *options_)                        \
    {                                                                                              \
        struct NAME##_call call_;                                                                  \
        call_.in = in_;                                                                            \
        call_.out = out_;                                                                          \
        return twill__parallel_typed(n_, in_ && out_ ? NAME##_range : NULL, &call_, options_);     \
    }

/* For the macro above: the range form with a pointer of its own, so that task->context stays the
   user's. */
typedef int twill__typed_fn(const void *call, size_t begin, size_t end, const twill_task *task);
TWILL__DECL twill_status twill__parallel_typed(size_t n, twill__typed_fn *fn, const void *call,
                                               const twill_parallel_options *options);

#ifdef __cplusplus
}
#endif
#endif

/* ---- producer_consumer.h ---- */
/* twill: producer_consumer - a bounded queue between threads that make items and threads that take
   them.
   SPDX-License-Identifier: MIT OR Unlicense
   Build: cc -std=c11 -pthread. In one .c file: #define TWILL_IMPLEMENTATION before the include.

WHEN TO USE IT
    Some threads make work, others do it, and neither side may run away from the other: a full
    queue holds the producers back, an empty one lets the consumers sleep. The end is a state
    (close), not an item: no sentinels, no magic values, every consumer learns of it.
WHEN NOT
    All items are there already: parallel_map. A tree of tasks: worker_pool.

EXAMPLE:
#include <stdio.h>

#define TWILL_IMPLEMENTATION
#include "twill_producer_consumer.h"

static int produce(twill_queue *queue, const twill_task *task)
{
    (void)task;
    for (int i = 0; i < 20; i++)
        if (twill_queue_push(queue, &i) != TWILL_OK)        // closed: somebody has failed
            break;
    return 0;
}

static int consume(void *item, const twill_task *task)
{
    int i = *(int *)item, *results = task->context;
    results[task->index] = i * i;                           // index: the item's accept number
    return 0;                                               // not 0: this item has failed
}

int main(void)
{
    int results[20], sum = 0;
    twill_status status = twill_produce_consume(sizeof(int), produce, consume,
        &(twill_produce_consume_options){ .run.workers = 2, .run.context = results,
                                          .queue.capacity = 5 });
    for (int i = 0; i < 20; i++)
        sum += results[i];
    printf("%s, sum %d\n", twill_status_name(status), sum);
    return 0;
}
END OF EXAMPLE
OUTPUT:
TWILL_OK, sum 2470
END OF OUTPUT

OPTIONS OF A QUEUE (twill_queue_options; zeroed or NULL: 1024 items, first in first out, full: wait)
    capacity        exact; 0: 1024. TWILL_RENDEZVOUS: nothing is stored, push returns once a pop has
                    taken the item; then no LIFO, PRIORITY, evicting policy, bytes, age or level
    overflow        what a full queue does. BLOCK: push waits. REJECT: TWILL_FULL, the caller keeps
                    the item. DROP_INCOMING: TWILL_DROPPED, the item goes to `drop`. DROP_OLDEST,
                    DROP_NEWEST (of those inside): TWILL_OK, that one goes to `drop`. Only BLOCK
                    ever waits; with the others the forms _until ignore how long they might
    order           FIFO, LIFO or PRIORITY (larger priority_of leaves sooner, equal ones FIFO)
    ageing          PRIORITY: what one step of priority is worth in waiting time; 0: 1 s;
                    TWILL_FOREVER: none. Nothing that enters later than ageing x (difference of
                    priorities) after an item can overtake it. Costs no thread and no scan
    max_bytes       a second limit, on the sum of bytes_of; a larger item: TWILL_TOO_BIG
    max_age         older items go to `drop` (TWILL_TIMEOUT), found when they are next, or the
                    oldest while a push needs room (where several pushers wait, expiry may change
                    their order). TWILL_FOREVER: none expires, but ages are measured. 0: neither
    drop            called for each accepted item that will never be popped: DROPPED, TIMEOUT,
                    CANCELLED (clear, destroy). task->index: its accept number. With it items have
                    at most 4096 bytes (TWILL_TOO_BIG): send a pointer
    on_level        told true when length reaches high_mark, false when it has fallen to low_mark
                    after that; in order, one call at a time, perhaps late. high > low, <= capacity
    producers       attached from the start; the last detach closes. 0: close it yourself
    memory          NULL: one allocation at create. Else at least twill_queue_bytes of yours
    context         task->context of all these callbacks
    Whatever makes no sense is refused: TWILL_INVALID; sizes beyond size_t: TWILL_TOO_BIG.

OPTIONS OF THE CALL (twill_produce_consume_options)
    run             workers: consumers at once, 0: the CPUs. statuses and codes must be NULL. The
                    call runs on threads of its own or on run.pool
    producers       0: 1. Each index is called once; an error or a stop spares those not yet begun
    queue           as above, with producers 0. context 0: run.context. CALLER_RUNS: a push that
                    finds the queue full consumes the next item itself
    batch           a consumer takes up to so many a visit; 0: 1
    dead_letter     sees an item whose consume has failed, after that
    queue_stats     filled at the end

ERRORS
    push            OK; CLOSED; FULL, DROPPED (see overflow); FULL (try); CANCELLED, TIMEOUT
    pop             OK; then CLOSED, or FAILED after twill_queue_fail; EMPTY (try); CANCELLED,
                    TIMEOUT
    TWILL_DEADLOCK  a call that would have to wait, from inside `drop` or `on_level` of the same
                    queue; destroy from there
    TWILL_INVALID   NULL where something is needed; an option; task_done more often than popped
    TWILL_TOO_BIG   an item beyond max_bytes, a bulk beyond the capacity, sizes
    TWILL_FORKED    a queue of the parent process. twill_queue_abandon frees it
    An item comes before all other answers: an expired deadline or a fired token still gets what is
    there. A blocked push that is told CLOSED has not given its item away.
    twill_produce_consume answers FAILED when an item or a producer failed; report.first_error says
    which: the lowest accept number, code as returned; index SIZE_MAX: a producer, or the code of
    twill_queue_fail.

HOW THE CALL ENDS
    By itself: the last producer has returned, the consumers have taken everything.
    By an error (default policy): items with a lower accept number are run to their end, the token
    of every other callback fires, the queue closes (blocked producers are told CLOSED; what they
    return then does not count), and what is left goes to `drop` (CANCELLED). With one producer and
    FIFO it is the same error in every run; with more, the accept order itself is a race. LIFO and
    PRIORITY: the lowest of those that ran. A producer's error ranks after all that was accepted
    until then. ON_ERROR_COLLECT runs everything.
    By run.until. By twill_task_stop: in consume, no item above it; in a producer, nothing more is
    accepted and what is inside is still consumed.
    report.total is the number of accepted items: done + failed + skipped (dropped, expired,
    cleared, or given up). Nothing is lost: `consume` or `drop` is called for each, never both.
    Threads that cannot be started: fewer consumers and TWILL_REPORT_DEGRADED; with none, a push
    that finds the queue full runs one item itself. strict: NO_THREAD, and nothing ran.

THREADS      All functions by any thread; destroy last. A call that waits inside, or has reached the
             queue's lock, when destroy comes is answered and waited for; so is one in a callback.
PROGRESS     First come, first served on each side, but for those who find what they want at once.
ORDERING     What came before a push comes before the return of the pop (or the drop) of that item;
             what came before the pop that made room, before the return of the push that used it;
             close before every answer CLOSED; task_done before the join it completes.
ALLOCATES    create: one block, or none. select of more than 16 cases: one. Else nothing.
BLOCKS       Only what the name says; no user code runs under a lock.
OWNERSHIP    Items are bytes, copied in and out.
COSTS        One lock, held for the copy; a waiter spins a moment, then sleeps; one wake for each
             who slept. No thread.
PITFALLS     Without `drop` an evicted pointer leaks. A hint stays a hint: length and ready_until
             may be wrong a moment later. The items of a select that were not chosen are untouched. In a
             signal handler nothing here may be called. priority_of and bytes_of run before the lock
             and must not depend on the queue. DROP_OLDEST and DROP_NEWEST with PRIORITY scan. */
#ifndef TWILL_PRODUCER_CONSUMER_H
#define TWILL_PRODUCER_CONSUMER_H

#ifdef __cplusplus
extern "C" {
#endif

typedef struct twill_queue twill_queue;

typedef enum twill_queue_order {
    TWILL_ORDER_FIFO = 0,
    TWILL_ORDER_LIFO,
    TWILL_ORDER_PRIORITY
} twill_queue_order;

#define TWILL_RENDEZVOUS ((size_t)-1)

typedef struct twill_queue_options { /* see OPTIONS above */
    size_t capacity;
    twill_overflow overflow;
    twill_queue_order order;
    int (*priority_of)(const void *item, const twill_task *task);
    twill_ns ageing;
    size_t max_bytes;
    size_t (*bytes_of)(const void *item, const twill_task *task);
    twill_ns max_age;
    twill_drop_fn *drop;
    void (*on_level)(bool high, size_t length, const twill_task *task);
    size_t high_mark, low_mark;
    unsigned producers;
    void *context;
    void *memory;
    size_t memory_bytes;
} twill_queue_options;

/* Bytes that `memory` must have, whatever its alignment; 0: the options are refused. */
TWILL__DECL size_t twill_queue_bytes(size_t item_size, const twill_queue_options *options);

/* TWILL_OK: *out is the queue. Else *out is NULL: INVALID, TOO_BIG, NO_MEMORY. */
TWILL__DECL twill_status twill_queue_create(twill_queue **out, size_t item_size,
                                            const twill_queue_options *options);

/* Closes, answers everybody who waits, waits until they have left, gives what is inside to `drop`
   (CANCELLED), frees. NULL: TWILL_OK. */
TWILL__DECL twill_status twill_queue_destroy(twill_queue *queue);

/* One item in: for ever, without waiting, or until. */
TWILL__DECL twill_status twill_queue_push(twill_queue *queue, const void *item);
TWILL__DECL twill_status twill_queue_try_push(twill_queue *queue, const void *item);
TWILL__DECL twill_status twill_queue_push_until(twill_queue *queue, const void *item,
                                                twill_until until);

/* One item out. */
TWILL__DECL twill_status twill_queue_pop(twill_queue *queue, void *item);
TWILL__DECL twill_status twill_queue_try_pop(twill_queue *queue, void *item);
TWILL__DECL twill_status twill_queue_pop_until(twill_queue *queue, void *item, twill_until until);

/* n items, in pieces as room appears. *count (may be NULL) says how many went in, whatever the
   status; the rest is the caller's, but under DROP_INCOMING. */
TWILL__DECL twill_status twill_queue_push_many_until(twill_queue *queue, const void *items,
                                                     size_t n, size_t *count, twill_until until);

/* All n side by side, or none. While it waits, later pushes wait behind it. Not with PRIORITY or
   bytes_of (INVALID). */
TWILL__DECL twill_status twill_queue_push_bulk_until(twill_queue *queue, const void *items,
                                                     size_t n, twill_until until);

/* Waits for the first item, takes up to max. OK: *count >= 1. */
TWILL__DECL twill_status twill_queue_pop_many_until(twill_queue *queue, void *items, size_t max,
                                                    size_t *count, twill_until until);

/* Likewise, and then waits for up to `linger` (and never beyond `until`) for max to be full. */
TWILL__DECL twill_status twill_queue_pop_batch_until(twill_queue *queue, void *items, size_t max,
                                                     size_t *count, twill_ns linger,
                                                     twill_until until);

/* Waits until there is something to pop, and takes nothing: others may. CLOSED or FAILED once there
   never will be. */
TWILL__DECL twill_status twill_queue_ready_until(twill_queue *queue, twill_until until);

/* No more pushes; what is inside still comes out. Blocked pushes answer CLOSED. A second one:
   CLOSED, and nothing changed. */
TWILL__DECL twill_status twill_queue_close(twill_queue *queue);

/* Close, and after the drain pops answer FAILED. */
TWILL__DECL twill_status twill_queue_fail(twill_queue *queue, int code);

/* The code given to fail, else 0. */
TWILL__DECL int twill_queue_code(const twill_queue *queue);

/* What is inside now goes to `drop` (CANCELLED); returns how many. Frees blocked pushes. */
TWILL__DECL size_t twill_queue_clear(twill_queue *queue);

/* One producer more; CLOSED when it is too late. The last detach closes; INVALID: none attached. */
TWILL__DECL twill_status twill_queue_attach(twill_queue *queue);
TWILL__DECL twill_status twill_queue_detach(twill_queue *queue);

/* A popped item is finished. */
TWILL__DECL twill_status twill_queue_task_done(twill_queue *queue);

/* Waits until each accepted item is finished, or dropped (its callback has returned). Goes on after
   close; a destroy answers CLOSED. */
TWILL__DECL twill_status twill_queue_join(twill_queue *queue);
TWILL__DECL twill_status twill_queue_join_until(twill_queue *queue, twill_until until);

/* Hints; never block. */
TWILL__DECL size_t twill_queue_length(const twill_queue *queue);
TWILL__DECL bool twill_queue_is_closed(const twill_queue *queue);

/* In a forked child alone: frees, no callbacks. Elsewhere it does nothing. */
TWILL__DECL void twill_queue_abandon(twill_queue *queue);

/* accepted == popped + dropped + expired + cleared + length, always. rejected: answers FULL.
   push_waits, pop_waits: calls that slept, or were about to; the times are theirs. age_...: of
   popped items, measured with max_age only. */
typedef struct twill_queue_stats {
    uint64_t accepted, popped, dropped, expired, cleared, rejected;
    uint64_t push_waits, pop_waits, wakes;
    size_t length, peak, capacity, bytes, waiting_push, waiting_pop;
    twill_ns push_wait_total, push_wait_max, pop_wait_total, pop_wait_max, age_total, age_max;
} twill_queue_stats;
/* One moment's figures. NULL or a parent process's queue: zeroes. */
TWILL__DECL void twill_queue_get_stats(twill_queue *queue, twill_queue_stats *out);

/* ---- select ---- */

typedef struct twill_queue_case {
    twill_queue *queue; /* NULL: left out */
    bool push;
    void *item;          /* to push, or where to pop to */
    twill_status status; /* out: OK: the chosen one; CLOSED, FAILED: out; FULL, EMPTY: not ready */
} twill_queue_case;

typedef enum twill_select_order {
    TWILL_SELECT_FAIR = 0, /* begins anywhere */
    TWILL_SELECT_IN_ORDER  /* of several that are ready, the first */
} twill_select_order;

/* Exactly one of the cases: TWILL_OK (or, with DROP_INCOMING, DROPPED), and *chosen is its index.
   CLOSED or FAILED when all are out. Nothing ready: FULL or EMPTY of the first case (try), else
   waits. The same queue may stand in it twice. */
TWILL__DECL twill_status twill_queue_try_select(twill_queue_case *cases, size_t n,
                                                twill_select_order order, size_t *chosen);
TWILL__DECL twill_status twill_queue_select_until(twill_queue_case *cases, size_t n,
                                                  twill_select_order order, size_t *chosen,
                                                  twill_until until);

/* ---- one call ---- */

/* task->index: which producer. */
typedef int twill_produce_fn(twill_queue *queue, const twill_task *task);
/* task->index: the accept number of the item, which it may change. */
typedef int twill_consume_fn(void *item, const twill_task *task);

typedef struct twill_produce_consume_options { /* see OPTIONS above */
    twill_run run;
    unsigned producers;
    twill_queue_options queue;
    size_t batch;
    void (*dead_letter)(void *item, int code, const twill_task *task);
    twill_queue_stats *queue_stats;
} twill_produce_consume_options;

/* Runs producers and consumers, and returns when all have. The caller runs producers, then helps to
   consume. TWILL_OK, FAILED, CANCELLED, TIMEOUT; refusals: INVALID, TOO_BIG, NO_MEMORY, NO_THREAD,
   CLOSED (the pool), FORKED. */
TWILL__DECL twill_status twill_produce_consume(size_t item_size, twill_produce_fn *produce,
                                               twill_consume_fn *consume,
                                               const twill_produce_consume_options *options);

/* ---- a typed layer ---- */
/* TWILL_QUEUE(jobs, struct job) defines jobs_create, jobs_push, jobs_pop ...: no sizeof, no wrong
   type. */
#define TWILL_QUEUE(NAME, T)                                                                    \
    static inline twill_status NAME##_create(twill_queue **out,                                 \
                                             const twill_queue_options *options)                \
    {                                                                                           \
        return twill_queue_create(out, sizeof(T), options);                                     \
    }                                                                                           \
    static inline twill_status NAME##_push(twill_queue *queue, T item)                          \
    {                                                                                           \
        return twill_queue_push(queue, &item);                                                  \
    }                                                                                           \
    static inline twill_status NAME##_try_push(twill_queue *queue, T item)                      \
    {                                                                                           \
        return twill_queue_try_push(queue, &item);                                              \
    }                                                                                           \
    static inline twill_status NAME##_push_until(twill_queue *queue, T item, twill_until until) \
    {                                                                                           \
        return twill_queue_push_until(queue, &item, until);                                     \
    }                                                                                           \
    static inline twill_status NAME##_pop(twill_queue *queue, T *item)                          \
    {                                                                                           \
        return twill_queue_pop(queue, item);                                                    \
    }                                                                                           \
    static inline twill_status NAME##_try_pop(twill_queue *queue, T *item)                      \
    {                                                                                           \
        return twill_queue_try_pop(queue, item);                                                \
    }                                                                                           \
    static inline twill_status NAME##_pop_until(twill_queue *queue, T *item, twill_until until) \
    {                                                                                           \
        return twill_queue_pop_until(queue, item, until);                                       \
    }

#ifdef __cplusplus
}
#endif
#endif

/* ---- fan_out_fan_in.h ---- */
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
TWILL_FAILED, item 2: code 1; 3 others: 24235450
END OF OUTPUT
*/
#ifndef TWILL_FAN_OUT_FAN_IN_H
#define TWILL_FAN_OUT_FAN_IN_H

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

/* On the calling thread, one at a time. result: NULL unless the outcome is TWILL_OK. */
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

TWILL__DECL twill_status twill_fan_create(twill_fan **out, const twill_fan_options *options);

TWILL__DECL twill_status twill_fan_go(twill_fan *fan, twill_task_fn *fn, void *arg, void *key);
TWILL__DECL twill_status twill_fan_try_go(twill_fan *fan, twill_task_fn *fn, void *arg, void *key);
TWILL__DECL twill_status twill_fan_go_until(twill_fan *fan, twill_task_fn *fn, void *arg, void *key,
                                            twill_until until);
TWILL__DECL twill_status twill_fan_close(twill_fan *fan);
TWILL__DECL twill_status twill_fan_next(twill_fan *fan, void *result, twill_outcome *outcome);
TWILL__DECL twill_status twill_fan_try_next(twill_fan *fan, void *result, twill_outcome *outcome);
TWILL__DECL twill_status twill_fan_next_until(twill_fan *fan, void *result, twill_outcome *outcome,
                                              twill_until until);
TWILL__DECL twill_status twill_fan_cancel(twill_fan *fan);
TWILL__DECL twill_status twill_fan_stop(twill_fan *fan, twill_until drain, twill_until join,
                                        twill_stopped *out);
TWILL__DECL twill_status twill_fan_destroy(twill_fan *fan);

typedef struct twill_fan_stats {
    size_t accepted, done, failed, skipped;
    size_t queued, running, unread, abandoned;
    size_t records;
} twill_fan_stats;
TWILL__DECL void twill_fan_get_stats(twill_fan *fan, twill_fan_stats *out);

#ifdef __cplusplus
}
#endif
#endif

/* ---- progress_tracker.h ---- */
/* twill: progress_tracker - counts work that many threads finish, and shows it without making any
   of them wait.
   SPDX-License-Identifier: MIT OR Unlicense
   Build: cc -std=c11 -pthread. In one .c file: #define TWILL_IMPLEMENTATION before the include.

WHEN TO USE IT
    Work that lasts longer than a second or two and whose end somebody waits for: a person at a
    terminal, a log, a program that reads JSON lines. An update is one atomic addition; a thread of
    the tracker's own draws.
WHEN NOT
    For a single number that only the program reads: an atomic counter does. For several programs on
    one terminal.

EXAMPLE:
#include <stdio.h>

#define TWILL_IMPLEMENTATION
#include "twill_progress_tracker.h"

int main(void)
{
    twill_progress *progress;
    twill_progress_create(&progress, &(twill_progress_options){ .total = 20, .label = "Hashing" });
    for (int file = 0; file < 20; file++) {                 // any number of threads may do this
        twill_sleep(twill_within(TWILL_MS(10)));            // the work
        if (file == 13)
            twill_progress_log(progress, "file %d is empty", file);     // above the bar
        if (file == 17)
            twill_progress_add_failed(progress, 1);
        else
            twill_progress_add(progress, 1);
    }
    twill_progress_finish(progress, TWILL_OK);              // the last frame, always
    return twill_progress_destroy(progress) == TWILL_OK ? 0 : 1;
}
END OF EXAMPLE

WHICH FORM
    twill_map_with_progress     a parallel map in one call; it counts its items itself
    twill_progress              any work: create, add from any thread, finish, destroy

OPTIONS (twill_progress_options; zeroed or NULL: a bar, or lines where there is no terminal, on
   standard error)
    total           0: unknown, unless total_is_zero says that there is nothing to do (100 % at
                    once)
    label           NULL: "Progress". Copied, up to 255 bytes; cut to fit the line
    style           AUTO: BAR if the descriptor is a terminal in whose foreground we are, and TERM
                    is set and not "dumb"; else LINES. The variable TWILL_PROGRESS (bar, counter,
                    lines, json, silent) overrides AUTO. COUNTER writes `\rLabel: c/t (p%)` to any
                    descriptor. JSON: one object a line
    draw_by         who draws; see the enumeration. EACH is for lessons and tests: it makes every
                    update a write
    fd              0: standard error. Never standard input
    interval        0: 100 ms; 10 s for LINES and JSON. With EACH it must be 0
    quiet_for       shows nothing before; work that ends sooner shows nothing at all, but for the
                    last line of LINES and JSON
    unit, unit_name plain numbers with a name behind them ("450/1000 files"), or bytes with binary
                    or decimal prefixes; there a name takes the place of "B". Copied, up to 31 bytes
    ascii           no character beyond ASCII; the default where LC_ALL, LC_CTYPE, LANG do not say
                    UTF-8
    no_color        as does the variable NO_COLOR, if not empty. Colour is used in BAR alone
    clear_at_end    BAR: the bar vanishes at the end instead of staying
    accessible      instead of BAR and COUNTER, and of the interval of LINES: a plain line at each
                    10 %, or each 10 s while the total is unknown. For screen readers
    width           columns. 0: asks the terminal at each frame, then COLUMNS, then 80
    memory          0: 15 s. The recent rate forgets nine tenths of a sample in that time
    on_view         called by whoever draws, at each interval and at the end, by one thread at a
                    time and with no lock of ours held. It may do anything but finish and destroy
                    (TWILL_DEADLOCK)
    parent, weight  drawn below the parent, by whoever draws that. The child stands for `weight`
                    items of the parent: while it runs, its finished part of them, rounded down,
                    counts as done; at its end all of them do, as done, failed (TWILL_FAILED) or
                    skipped (any other outcome). 0: only drawn together. The fields style, draw_by,
                    fd, interval, ascii, no_color, accessible and width are the root's: zero in a
                    child

ERRORS
    TWILL_INVALID   create: an option that is out of range or makes no sense. finish, once: more was
                    processed than the total said. (The bar stays at 100 %, the numbers are the true
                    ones.)
    TWILL_NO_MEMORY create. *out is then NULL, and all functions take NULL as "no progress wanted"
    TWILL_CLOSED    create: the parent's root is finished
    TWILL_DEADLOCK  finish and destroy, called by on_view
    TWILL_FORKED    set_label, finish, or create of a child, in a forked child
    A thread that cannot be started is no error: updaters draw (BY_UPDATER). Nor is a descriptor
    that fails: EPIPE, EIO, ENOSPC, EBADF and the like end the drawing, and counting goes on. No
    SIGPIPE reaches the program.

THREADS
    Everything may be called by any thread at any time, but destroy, which must be the last call;
    create of a child and destroy of its parent must not run at once. In a signal handler: the three
    add functions, unless draw_by is BY_UPDATER or EACH. Updates are relaxed: the last frame and
    view show all updates that happened before finish, so join the workers (or wait for their
    futures) first.
    set and add at once: each addition counts either before the set, which replaces it, or on top of
    it; none is lost and none counts twice. Of two sets at once either wins.
    The drawn number never goes down, except after set.

OWNERSHIP
    Texts are copied. The descriptor stays the caller's; it must stay open until finish. Children
    are destroyed before their parent.

COSTS
    add: one relaxed addition to one of 16 cells: see docs/progress_tracker.md for figures.
    BY_UPDATER reads the clock on top of it, EACH writes. About 3 KB a tracker and 17 KB a root,
    allocated by create; nothing is allocated later, but for log lines of more than 500 bytes. One
    thread a root, which wakes at each interval (each second, if that is longer). A frame is one
    write; one that equals the last is not written.

BLOCKS
    add, set, views: never for a terminal, but with EACH. finish waits for a blocked terminal for
    one second at most, then leaves the thread behind (it ends when the write does) and gives up the
    last frame. log and suspend wait as long as the terminal does: a log line is never dropped.

PITFALLS
    Two roots on one terminal overwrite each other: give them one parent. Output of the program
    itself on the same terminal: through log, or between suspend and resume.
    A background job writes no frame to its terminal; drawing resumes when it is in the foreground.
    Memory and counts survive a fork, the thread does not: the child's updates count, and nothing is
    drawn there. A bar that is asked for on a pipe gets a bar, control sequences and all. */
#ifndef TWILL_PROGRESS_TRACKER_H
#define TWILL_PROGRESS_TRACKER_H

#ifdef __cplusplus
extern "C" {
#endif

typedef struct twill_progress twill_progress;

typedef enum twill_progress_style {
    TWILL_PROGRESS_AUTO = 0, /* BAR on a foreground terminal, else LINES; see OPTIONS */
    TWILL_PROGRESS_BAR,
    TWILL_PROGRESS_COUNTER, /* \rLabel: c/t (p%), on any descriptor */
    TWILL_PROGRESS_LINES,
    TWILL_PROGRESS_JSON,
    TWILL_PROGRESS_SILENT /* counts, views and callback only; log still writes */
} twill_progress_style;

typedef enum twill_progress_draw_by {
    TWILL_PROGRESS_BY_THREAD = 0, /* a thread of the tracker's own */
    TWILL_PROGRESS_BY_UPDATER,    /* the updater that crosses the interval, if nobody else draws */
    TWILL_PROGRESS_BY_CALL,       /* only twill_progress_draw draws */
    TWILL_PROGRESS_EACH           /* every update draws, in order, under a lock */
} twill_progress_draw_by;

typedef enum twill_progress_unit {
    TWILL_UNIT_ITEMS = 0,
    TWILL_UNIT_BYTES_IEC, /* 1 KiB = 1024 B */
    TWILL_UNIT_BYTES_SI   /* 1 kB = 1000 B */
} twill_progress_unit;

typedef struct twill_progress_view {
    uint64_t done, failed,
        skipped;    /* processed = done + failed + skipped; weighted children included */
    uint64_t total; /* 0: unknown or empty */
    bool total_known, finished;
    int percent;          /* rounded down; 100 only when all is processed; -1 unknown */
    double rate;          /* processed a second; 0 while unknown; at the end over all the time */
    twill_ns elapsed;     /* since create; stands still from finish on */
    twill_ns stalled;     /* since the last update, while that is unusually long, else 0 */
    twill_ns left;        /* an estimate; -1 unknown */
    const char *label;    /* in on_view, valid during the call; else NULL */
    twill_status outcome; /* as given to finish */
} twill_progress_view;

typedef struct twill_progress_options { /* see OPTIONS above */
    uint64_t total;
    bool total_is_zero;
    const char *label;
    twill_progress_style style;
    twill_progress_draw_by draw_by;
    int fd;
    twill_ns interval;
    twill_ns quiet_for;
    twill_progress_unit unit;
    const char *unit_name;
    bool ascii, no_color, clear_at_end, accessible;
    unsigned width;
    twill_ns memory;
    void (*on_view)(const twill_progress_view *view, const twill_task *task);
    void *context; /* of on_view: task->context */
    twill_progress *parent;
    uint64_t weight;
} twill_progress_options;

/* Makes a tracker and begins to draw. Never blocks. */
TWILL__DECL twill_status twill_progress_create(twill_progress **out,
                                               const twill_progress_options *options);

/* n more are done, failed, skipped. */
TWILL__DECL void twill_progress_add(twill_progress *progress, uint64_t n);
TWILL__DECL void twill_progress_add_failed(twill_progress *progress, uint64_t n);
TWILL__DECL void twill_progress_add_skipped(twill_progress *progress, uint64_t n);

/* `done` are done by now, e.g. bytes of a file. Going back, and a first value (where an earlier run
   left off), start the rate anew; going forward is progress. */
TWILL__DECL void twill_progress_set(twill_progress *progress, uint64_t done);

/* n more are to do. An unknown total becomes known, an empty one is no longer empty. */
TWILL__DECL void twill_progress_add_total(twill_progress *progress, uint64_t n);

/* Copied; NULL: the default. TWILL_OK, TWILL_FORKED. */
TWILL__DECL twill_status twill_progress_set_label(twill_progress *progress, const char *label);

/* The state now. `progress` NULL: all zero, but percent and left -1. */
TWILL__DECL void twill_progress_get_view(const twill_progress *progress, twill_progress_view *view);

/* Draws now, all bars of the root. With BY_CALL only once the interval has passed, so a loop may
   call it at each turn. Does nothing while another thread is drawing, and drops a frame that a
   terminal cannot take at once. */
TWILL__DECL void twill_progress_draw(twill_progress *progress);

/* Writes a line above the bars, as printf would, and a line feed behind it; in JSON style as
   {"log": "..."}. Returns the number of bytes of the text, negative if it could not be written. May
   block on the terminal. */
#if defined __GNUC__
__attribute__((format(printf, 2, 3)))
#endif
TWILL__DECL int
twill_progress_log(twill_progress *progress, const char *format, ...);

/* Clears the bars for foreign output, and draws nothing until as many calls of resume. */
TWILL__DECL void twill_progress_suspend(twill_progress *progress);
TWILL__DECL void twill_progress_resume(twill_progress *progress);

/* Draws the last frame and ends the thread. An outcome other than TWILL_OK is written behind the
   true numbers. A child's line moves above the bars that still run. Later updates count and are not
   drawn. A second call does nothing. */
TWILL__DECL twill_status twill_progress_finish(twill_progress *progress, twill_status outcome);

/* Finishes (with TWILL_OK) what is not finished, and frees it; returns what finish said. NULL:
   TWILL_OK. With children: an assertion; without assertions they go on silently. */
TWILL__DECL twill_status twill_progress_destroy(twill_progress *progress);

/* ---- a parallel map that shows how far it is ---- */

typedef struct twill_map_with_progress_options {
    twill_run run;                   /* as in parallel_map; run.context goes to fn */
    twill_progress_options progress; /* total and total_is_zero must be zero: the call sets them */
} twill_map_with_progress_options;

/* results[i] = fn(items[i]) on threads, each item counted in the state that it ended in: done,
   failed, skipped (gave up, or never ran), so the total is reached on every path. Returns what the
   map says, and run.report holds it; that becomes the outcome of the display. Where there is no
   memory for a display the map runs without one. `options` NULL: all defaults.
   TWILL_INVALID, before anything has run: wrong arguments or options. */
TWILL__DECL twill_status twill_map_with_progress(const void *items, size_t item_size, void *results,
                                                 size_t result_size, size_t n, twill_map_fn *fn,
                                                 const twill_map_with_progress_options *options);

#ifdef __cplusplus
}
#endif
#endif

/* ---- rate_limiter.h ---- */
/* twill: rate_limiter - at most so many starts in so much time, exactly, for as long as the program
   runs; and at most so many at once.
   SPDX-License-Identifier: MIT OR Unlicense
   Build: cc -std=c11 -pthread. In one .c file: #define TWILL_IMPLEMENTATION before the include.

WHEN TO USE IT
    A server allows ten calls a second, a disk so many bytes, a log so many lines. Ask before each
    start: try, wait, wait until, take what is there, reserve. Nobody sleeps under a lock, so
    everybody else can still ask, and be told no, at once.
    bulkhead: at most n calls at the same time, however long they take.
    rate_keys: a limit for each client, in bounded memory.
WHEN NOT
    To be on time once, or every second: twill_sleep. To hold back a producer that is faster than
    its consumer: producer_consumer, whose queue does that. Limits that several processes share: a
    limiter is one process's.

EXAMPLE:
#include <stdio.h>

#define TWILL_IMPLEMENTATION
#include "twill_rate_limiter.h"

static twill_rate_limiter api;

int main(void)
{
    twill_ns begun = twill_now();
    if (twill_rate_limiter_init_per_second(&api, 1000, 5) != TWILL_OK)  // a burst of 5
        return 1;
    for (int call = 0; call < 25; call++)
        if (twill_rate_limiter_acquire(&api, 1) != TWILL_OK)
            return 1;
    twill_ns took = twill_now() - begun;                    // 5 at once, then 20 at 1 ms
    printf("on time: %d\n", took >= TWILL_MS(20));
    printf("%s\n", twill_status_name(twill_rate_limiter_try_acquire(&api, 6)));
    return 0;
}
END OF EXAMPLE
OUTPUT:
on time: 1
TWILL_TOO_BIG
END OF OUTPUT

OPTIONS (twill_rate_limiter_options)
    tokens, per     the rate: tokens in `per`, exact for any two integers. tokens 0: INVALID. per 0:
                    1 s. More than 2 tokens a nanosecond: INVALID
    burst           how many may start at once after a pause. 0: 1. WINDOW has none: leave it 0
    used            of the burst (WINDOW: of tokens), at the beginning. 0: starts full
    kind            BUCKET: steady refill; in any time T at most burst + rate x T start. WINDOW: at
                    most `tokens` in ANY window of length per, half-open; needs `starts`
    oversize        what acquiring n > burst means. REFUSE: TWILL_TOO_BIG. SPLIT: waits as n single
                    ones would (try: EMPTY). DEBT: goes when the bucket is full, and those who
                    follow pay. WINDOW: REFUSE only
    barging         false: first come, first served, against try, too. true: whoever finds tokens
                    takes them
    strict_spacing  false: a late wake-up costs no rate: the next one comes as if it had been on
                    time, so two starts may be closer than 1/rate by that lateness. true: never
                    closer, and the rate falls short. BUCKET only
    max_waiters     0: as many as there are threads (a waiter lives on its own stack)
    starts, starts_count  WINDOW only: your array of at least `tokens` instants, kept while in use
    twill_rate_limiter_init_per_second(&limiter, 2.5, burst): any positive double, taken exactly.

ERRORS, in the order in which they are looked at
    TWILL_INVALID   NULL, an object that was never initialised, options
    TWILL_OK        n = 0, always
    TWILL_CLOSED    closed
    TWILL_TOO_BIG   no wait would help: n > burst (see oversize), or decades of it
    TWILL_OK        nobody waits (or barging), and tokens are there: also with an expired deadline
                    or a fired token
    TWILL_EMPTY     try: not there, or somebody waits before it
    TWILL_CANCELLED the token fired
    TWILL_TIMEOUT   the deadline cannot be met, reckoned with those who wait in front: AT ONCE. One
                    of them may give up after that; the answer stays
    TWILL_FULL      max_waiters
    TWILL_BUSY      reserve: somebody waits, whose turn it is first
    No call allocates or starts a thread, but for twill_rate_keys_create: TWILL_NO_MEMORY.

THREADS      All functions by any thread; init first. There is no destroy: when close has returned
             and all callers have left, the memory may go.
PROGRESS     Waiters take nothing in advance: they stand in a queue, and the head alone sleeps, for
             its own tokens. One that gives up leaves no debt.
ORDERING     Work before give_back or cancel comes before work after the grant that uses its tokens.
ALLOCATES    Nothing; the object may be static. rate_keys: one block, at create.
BLOCKS       acquire, enter. The others may meet a lock that is held for some instructions.
OWNERSHIP    The objects are the caller's, and never copied.
COSTS        BUCKET: a clock reading, one compare-and-swap, one count. WINDOW: a small lock.
FORK         A child goes on with a copy, without the waiters; the limit is a process's. rate_keys
             of a parent: TWILL_FORKED.
CLOCK        Monotonic. A jump forward fills to the burst and no more; an earlier instant never
             makes tokens. After 73 years of one rate it stands still; set_rate begins anew.
PITFALLS     A grant says when to START; a slow start is not the limiter's. A limiter of 10 a second
             lets 10 a second through, not 10 in each calendar second: WINDOW is the strict form. In
             a signal handler: twill_rate_limiter_try_acquire alone, where 64-bit atomics are lock-
             free; it never waits for the lock, and answers EMPTY when somebody keeps it. */
#ifndef TWILL_RATE_LIMITER_H
#define TWILL_RATE_LIMITER_H

#ifdef __cplusplus
extern "C" {
#endif

typedef enum twill_rate_kind { TWILL_RATE_BUCKET = 0, TWILL_RATE_WINDOW } twill_rate_kind;

typedef enum twill_rate_oversize {
    TWILL_RATE_REFUSE = 0,
    TWILL_RATE_SPLIT,
    TWILL_RATE_DEBT
} twill_rate_oversize;

typedef struct twill_rate_limiter_options { /* see OPTIONS above */
    uint64_t tokens;
    twill_ns per;
    uint64_t burst;
    uint64_t used;
    twill_rate_kind kind;
    twill_rate_oversize oversize;
    bool barging;
    bool strict_spacing;
    size_t max_waiters;
    twill_ns *starts;
    size_t starts_count;
} twill_rate_limiter_options;

/* The caller's; may be static; zeroed: INVALID. */
typedef struct twill_rate_limiter {
    TWILL_PRIVATE(80);
} twill_rate_limiter;

/* INVALID: see OPTIONS. */
TWILL__DECL twill_status twill_rate_limiter_init(twill_rate_limiter *limiter,
                                                 const twill_rate_limiter_options *options);
/* A bucket. INVALID: NaN, infinite, zero, negative; above 2e9. burst 0: 1. */
TWILL__DECL twill_status twill_rate_limiter_init_per_second(twill_rate_limiter *limiter,
                                                            double rate, uint64_t burst);

/* n tokens: for ever, without waiting (OK or EMPTY), or until. */
TWILL__DECL twill_status twill_rate_limiter_acquire(twill_rate_limiter *limiter, uint64_t n);
TWILL__DECL twill_status twill_rate_limiter_try_acquire(twill_rate_limiter *limiter, uint64_t n);
TWILL__DECL twill_status twill_rate_limiter_acquire_until(twill_rate_limiter *limiter, uint64_t n,
                                                          twill_until until);
/* As many as there are, up to n, by the rule of try: 0..n. */
TWILL__DECL uint64_t twill_rate_limiter_take_up_to(twill_rate_limiter *limiter, uint64_t n);
/* n of each of `count` limiters, all at one instant, or none. One that stands in the array twice
   gives 2n. Whatever the order in which calls name them, they do not block one another for ever.
   count > 16: TOO_BIG. */
TWILL__DECL twill_status twill_rate_limiter_acquire_all_until(twill_rate_limiter *const *limiters,
                                                              size_t count, uint64_t n,
                                                              twill_until until);

/* A permit for later: for event loops, which do their own waiting. */
typedef struct twill_reservation {
    twill_ns due; /* when the permit may be used */
    uint64_t private_words[3];
} twill_reservation;

/* OK: taken; wait until out->due. TIMEOUT: that would be more than max_wait from now (<= 0: only
   now), and nothing is taken. */
TWILL__DECL twill_status twill_rate_limiter_reserve(twill_rate_limiter *limiter, uint64_t n,
                                                    twill_ns max_wait, twill_reservation *out);
/* True: the tokens are back, and the reservation is gone. Only before `due`, once, and before
   set_rate. False also for one of very many (more than 16 with others behind them), and in WINDOW
   for any but the latest. */
TWILL__DECL bool twill_rate_limiter_cancel(twill_rate_limiter *limiter,
                                           twill_reservation *reservation);
/* Tokens that were taken and not used; it does not become more than full. */
TWILL__DECL void twill_rate_limiter_give_back(twill_rate_limiter *limiter, uint64_t n);

/* How many try would get now. */
TWILL__DECL uint64_t twill_rate_limiter_available(const twill_rate_limiter *limiter);
/* How long acquire would wait, behind those who wait now. 0: not at all. TWILL_FOREVER: no wait
   would help. For a Retry-After answer. */
TWILL__DECL twill_ns twill_rate_limiter_wait_time(const twill_rate_limiter *limiter, uint64_t n);

/* Another rate, at once: credit in tokens is kept, up to the new burst; waiters are re-timed (one
   that asks for more than the new burst: TOO_BIG). CLOSED; INVALID: as at init; TOO_BIG: WINDOW,
   beyond starts_count. */
TWILL__DECL twill_status twill_rate_limiter_set_rate(twill_rate_limiter *limiter, uint64_t tokens,
                                                     twill_ns per, uint64_t burst);
/* Nothing before now + wait ("Retry-After"), and then one token; later if it was later already. */
TWILL__DECL void twill_rate_limiter_penalise(twill_rate_limiter *limiter, twill_ns wait);
/* No more tokens: waiters are told CLOSED. A second time: CLOSED. */
TWILL__DECL twill_status twill_rate_limiter_close(twill_rate_limiter *limiter);

typedef struct twill_rate_limiter_stats {
    uint64_t granted;              /* tokens, reserved ones included */
    uint64_t refused;              /* calls that were told EMPTY, or FULL */
    uint64_t timed_out, cancelled; /* calls */
    uint64_t given_back;           /* tokens, those of cancelled reservations included */
    uint64_t lost_in_cancel;       /* tokens of cancelled reservations that nobody could use */
    size_t waiting, waiting_peak;
    twill_ns waited; /* by those who waited and have left, together */
} twill_rate_limiter_stats;
/* NULL or never initialised: zeroes. */
TWILL__DECL void twill_rate_limiter_get_stats(twill_rate_limiter *limiter,
                                              twill_rate_limiter_stats *out);

/* With the caller's clock: instants on any axis; the limiter's time begins with the first one. Not
   together with the functions that read the clock (asserted); cancel and give_back go by the latest
   instant that came to the lock (all given to reserve_at). */
TWILL__DECL twill_status twill_rate_limiter_try_acquire_at(twill_rate_limiter *limiter, uint64_t n,
                                                           twill_ns now);
TWILL__DECL twill_status twill_rate_limiter_reserve_at(twill_rate_limiter *limiter, uint64_t n,
                                                       twill_ns max_wait, twill_ns now,
                                                       twill_reservation *out);

/* ---- a limit for each key ---- */

/* One bucket for each key; never waits. A full bucket equals no entry: idle keys cost nothing. */
typedef struct twill_rate_keys twill_rate_keys;

/* max_keys: how many may be less than full at a time. 0: 65536. About 28 bytes each. Of the options
   tokens, per, burst and oversize (not SPLIT) count; the others must be 0. INVALID, TOO_BIG (more
   than 2^30 keys), NO_MEMORY. */
TWILL__DECL twill_status twill_rate_keys_create(twill_rate_keys **out, size_t max_keys,
                                                const twill_rate_limiter_options *options);
/* OK; EMPTY; FULL: max_keys others are in use; TOO_BIG; FORKED; INVALID. */
TWILL__DECL twill_status twill_rate_keys_try_acquire(twill_rate_keys *keys, uint64_t key,
                                                     uint64_t n);
/* 0: now; TWILL_FOREVER: never. */
TWILL__DECL twill_ns twill_rate_keys_wait_time(twill_rate_keys *keys, uint64_t key, uint64_t n);
/* When all calls have returned. NULL: OK. */
TWILL__DECL twill_status twill_rate_keys_destroy(twill_rate_keys *keys);

/* ---- how many at once ---- */

/* At most max_inside callers inside, max_waiting before the door, first come, first served. The
   caller's; zeroed: INVALID. No destroy: as the limiter. A forked child keeps the count. */
typedef struct twill_bulkhead {
    TWILL_PRIVATE(16);
} twill_bulkhead;

/* max_inside 0: INVALID. max_waiting 0: nobody waits; SIZE_MAX: as many as there are threads. */
TWILL__DECL twill_status twill_bulkhead_init(twill_bulkhead *bulkhead, size_t max_inside,
                                             size_t max_waiting);
/* OK: inside, and leave comes after it. CLOSED; CANCELLED; TIMEOUT; FULL: max_waiting, and always
   for try. */
TWILL__DECL twill_status twill_bulkhead_enter(twill_bulkhead *bulkhead);
TWILL__DECL twill_status twill_bulkhead_try_enter(twill_bulkhead *bulkhead);
TWILL__DECL twill_status twill_bulkhead_enter_until(twill_bulkhead *bulkhead, twill_until until);
/* By any thread. INVALID: nobody is inside. */
TWILL__DECL twill_status twill_bulkhead_leave(twill_bulkhead *bulkhead);
/* Nobody enters any more: waiters are told CLOSED; those inside go on. A second time: CLOSED. */
TWILL__DECL twill_status twill_bulkhead_close(twill_bulkhead *bulkhead);

#ifdef __cplusplus
}
#endif
#endif

/* ---- retry_backoff.h ---- */
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
    TWILL_TIMEOUT   DEADLINE: over, or the next pause would pass it (report.next_delay: that pause)
    TWILL_CANCELLED CANCELLED: the token fired. It is asked before the code: a cancelled call is
                    never retried as a failure
    TWILL_INVALID   REFUSED: an option, or NULL where something is needed. Nothing was called
    TWILL_LOST      LEFT: the loop ended before any call had a result, or fn ended its thread
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

/* ---- batch_processing.h ---- */
/* twill: batch_processing - give a function many items at a time.
   SPDX-License-Identifier: MIT OR Unlicense
   Build: cc -std=c11 -pthread. In one .c file: #define TWILL_IMPLEMENTATION before the include.

EXAMPLE:
#include <stdio.h>

#define TWILL_IMPLEMENTATION
#include "twill_batch_processing.h"

static int insert_rows(twill_batch *batch, const twill_task *task)
{
    (void)task;
    for (size_t i = 0; i < batch->count; i++)               // one transaction for all of them
        if (*(const int *)twill_batch_item(batch, i) == 77)
            twill_batch_set(batch, i, 5);                   // this row is no good
        else
            twill_batch_set(batch, i, 0);                   // this one is done
    return 0;
}

int main(void)
{
    int rows[250];
    twill_report report;
    for (int i = 0; i < 250; i++)
        rows[i] = i;
    twill_status status = twill_batch_process(rows, sizeof *rows, NULL, 0, 250, insert_rows,
        &(twill_batch_options){ .run.report = &report });   // 100 a batch: 3 batches
    printf("%s: %zu done in %zu calls; row %zu failed with %d\n", twill_status_name(status),
           report.done, report.chunks, report.first_error.index, report.first_error.code);
    return 0;
}
END OF EXAMPLE
OUTPUT:
TWILL_FAILED: 249 done in 3 calls; row 77 failed with 5
END OF OUTPUT */
#ifndef TWILL_BATCH_PROCESSING_H
#define TWILL_BATCH_PROCESSING_H

#ifdef __cplusplus
extern "C" {
#endif

/* What the callback sees; valid during the call. */
typedef struct twill_batch {
    size_t count;
    unsigned attempt; /* 1 the first time; halving a batch does not raise it */
    size_t first;     /* array forms: index of the first item; batcher: its number since create */
    /* items and results in one piece, or NULL (retries, batcher): use the functions below */
    const void *array;
    void *results;
    void *private_;
} twill_batch;

/* Item i of the batch: its address in the array, or the pointer that was added. NULL: no such. */
TWILL__DECL void *twill_batch_item(const twill_batch *batch, size_t i);
/* Its slot of result_size bytes, zeroed before every call; NULL: no results, or no such item. */
TWILL__DECL void *twill_batch_result(const twill_batch *batch, size_t i);
/* How item i ended; 0: done; the last call for an item counts. Threads that the callback starts
   may set different items at once. */
TWILL__DECL void twill_batch_set(twill_batch *batch, size_t i, int code);

/* Processes the items of one batch. 0 and nothing set: all are done. 0 and some set: each as set,
   the others are LOST. Not 0: those not set have failed together, with that code. */
typedef int twill_batch_fn(twill_batch *batch, const twill_task *task);

typedef enum twill_bad_batch { /* items that have failed together, none of them by itself */
                               TWILL_BAD_BATCH_RETRY = 0, /* again together, while attempts last */
                               TWILL_BAD_BATCH_BISECT, /* halves, until the bad items are alone */
                               TWILL_BAD_BATCH_FAIL    /* that is it */
} twill_bad_batch;

typedef struct twill_batch_options { /* see OPTIONS above */
    twill_run run;
    size_t max_items;
    size_t max_bytes;
    size_t (*bytes_of)(const void *item, const twill_task *task);
    bool oversized_alone;
    unsigned attempts;
    twill_ns backoff, backoff_max;
    uint64_t seed;
    bool (*retryable)(const void *item, int code, const twill_task *task);
    twill_bad_batch on_bad_batch;
    /* batcher only */
    size_t result_size;
    twill_ns linger, idle;
    size_t capacity, capacity_bytes;
    twill_overflow overflow;
    uint64_t (*key_of)(const void *item, const twill_task *task);
    bool coalesce;
    twill_ns item_timeout;
    void (*on_item)(void *item, const twill_outcome *outcome, void *result, const twill_task *task);
} twill_batch_options;

/* ---- an array ---- */

/* Calls fn for batches that make up the n items, in parallel; the caller takes part. results: NULL,
   or room for n of result_size bytes, zeroed by the call. TWILL_OK: every item is done. FAILED,
   CANCELLED, TIMEOUT: run.report, run.statuses and run.codes say which. Refusals (nothing ran):
   INVALID, TOO_BIG, NO_MEMORY, NO_THREAD, FORKED, CLOSED. */
TWILL__DECL twill_status twill_batch_process(const void *items, size_t item_size, void *results,
                                             size_t result_size, size_t n, twill_batch_fn *fn,
                                             const twill_batch_options *options);

/* How many batches n items make, and which items are batch k: begin..end-1 (k too large: n..n).
   max_items 0: 100. */
TWILL__DECL size_t twill_batch_count(size_t n, size_t max_items);
TWILL__DECL void twill_batch_bounds(size_t n, size_t max_items, size_t k, size_t *begin,
                                    size_t *end);

/* One batch, any number of values: by twill_batch_emit. */
typedef int twill_flat_fn(const twill_batch *batch, const twill_task *task);

/* Inside a twill_flat_fn, on its thread: one value more, copied. NO_MEMORY: return a code. INVALID:
   not inside of one. */
TWILL__DECL twill_status twill_batch_emit(const twill_task *task, const void *value);

/* The values of all batches, in the order of the items: *values has *values_n of value_size bytes
   (NULL and 0: none); free it with twill_batch_free. A batch that failed gives none, the others'
   stay, whatever the status but NO_MEMORY and the refusals. */
TWILL__DECL twill_status twill_batch_flat_map(const void *items, size_t item_size, size_t n,
                                              twill_flat_fn *fn, size_t value_size, void **values,
                                              size_t *values_n, const twill_batch_options *options);
TWILL__DECL void twill_batch_free(void *values);

#ifdef __cplusplus
}
#endif
#endif

/* ---- graceful_shutdown.h ---- */
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
    twill_shutdown_destroy(stop);                       // or, as usual: twill_shutdown_exit(stop, 0)
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
    total           from the request to the end; 0: 20 s. A duration below 0: INVALID, here and below
    drain           0: half of total
    cancel          0: a quarter of total. drain + cancel > total, both given: INVALID. The hooks
                    have all that is left of total
    same_press      a repeat within it is the same Ctrl-C, seen again; 0: 200 ms
    second          KILLS: the second press ends the process at once, from the handler, whatever
                    hangs. HURRIES: it goes to CANCELLING, a third kills. IGNORED
    exit_code       false: the process dies by the signal, as shells and supervisors want it. true:
                    it exits with 128 + signal
    take_ignored    false: SIGINT, SIGQUIT and SIGHUP stay ignored where they were (nohup, `cmd &`)
    no_hard_stop    false: after a signal the process is ended at the end of total, whatever hangs,
                    and even when finish is never called
    message         written to standard error by the handler at the first press, if that can be
                    done at once; copied; at most 4096 bytes count
    on_phase        each phase but RUNNING once, in order, in a thread of the object
    context         task->context of on_phase
    steps           filled by finish: how each hook ended, in the order they ran

HOOKS
    A hook gets task->until: its limit, and a token that fires then. It has 10 ms more to come back;
    then it is passed over: TIMEOUT, its thread is abandoned, the next hook gets another. Its context
    must outlive that. A pool or a queue is closed by a hook that calls its close or drain with
    task->until. FAILED: it returned a code. LOST: it ended its thread. NO_THREAD: it returned 0, and
    ran in the thread of finish, unguarded, as no other was to be had. When total is over it does
    not run: TIMEOUT.

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
    that stops and comes so late that nobody could have been told of it before destroy is raised
    again, for whoever is there then. Masks of your threads are not changed, so exec'd children are not born deaf. A forked
    child that does not exec should destroy its copy: until then it ignores the signals.

THREADS      All functions by any thread; destroy last: what has not begun by then comes too late.
             requested, reason and request also in signal handlers.
             Threads of the object: the watcher (times and tokens; runs no user code) and the runner
             (user code: on_phase, actions, hooks of the tokens, hooks).
ORDERING     What came before a request comes before what sees it. Work before leave comes before
             the hooks.
ALLOCATES    create: two blocks; add: one; a runner in place of an abandoned one: one.
BLOCKS       wait, finish (at most what is left of total), destroy (for an action that runs), exit.
COSTS        enter, leave: one read-modify-write on a shared line. requested: three loads. Two
             pipes. No system call while nobody asks.
PITFALLS     Nothing ends a phase early for work that does not enter and leave. A budget counts from
             the request: finish, called after its end, runs no hook. exit does not run finish. A
             process that dies by a signal runs no atexit functions. Do not read from
             twill_shutdown_fd. An object is no parent for tokens that outlive it. */
#ifndef TWILL_GRACEFUL_SHUTDOWN_H
#define TWILL_GRACEFUL_SHUTDOWN_H

#ifdef __cplusplus
extern "C" {
#endif

typedef struct twill_shutdown twill_shutdown;

typedef enum twill_shutdown_phase { /* see PHASES above */
                                    TWILL_SHUTDOWN_RUNNING = 0,
                                    TWILL_SHUTDOWN_DRAINING,
                                    TWILL_SHUTDOWN_CANCELLING,
                                    TWILL_SHUTDOWN_HOOKS,
                                    TWILL_SHUTDOWN_STOPPED
} twill_shutdown_phase;

typedef enum twill_second_signal { /* what the second press does */
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
    /* work: entered, ever; left before CANCELLING; in it; not yet: entered is the sum of the rest */
    size_t entered, left_in_drain, left_in_cancel, stuck;
    size_t hooks, hooks_failed, hooks_overran, steps_stored;
    twill_ns wall; /* from the request */
} twill_shutdown_report;

/* TWILL_OK: *out is the object. Else *out is NULL, and nothing is installed. */
TWILL__DECL twill_status twill_shutdown_create(twill_shutdown **out,
                                               const twill_shutdown_options *options);

/* Restores the handlers, answers CLOSED to who waits, joins the threads, frees. NULL: OK. */
TWILL__DECL twill_status twill_shutdown_destroy(twill_shutdown *shutdown);

/* ---- asking; in signal handlers, too. NULL: the object that owns the signals, if there is one
   ---- */

TWILL__DECL bool twill_shutdown_requested(const twill_shutdown *shutdown);
/* The signal, or what request was given; INT_MAX: finish was called unasked. 0: not requested. */
TWILL__DECL int twill_shutdown_reason(const twill_shutdown *shutdown);
/* reason > 0 (else it counts as 1). The first one stays. */
TWILL__DECL void twill_shutdown_request(twill_shutdown *shutdown, int reason);

/* ---- for the work ---- */

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

/* Asks, if nobody has; goes through the phases; fills *report (may be NULL). */
TWILL__DECL twill_status twill_shutdown_finish(twill_shutdown *shutdown,
                                               twill_shutdown_report *report);

/* Ends the process; does not return. Stopped by a signal: restores the handlers, flushes stdio, and
   dies by it (or exits with 128 + signal). Else destroys the object and calls exit(code); with
   threads that are stuck: flushes for up to 100 ms and _exit(code), since exit would destroy what
   they use. Does not run finish. */
TWILL__DECL void twill_shutdown_exit(twill_shutdown *shutdown, int code);

#ifdef __cplusplus
}
#endif
#endif

/* ---- timeout_fallback.h ---- */
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
                                                      fetch, TWILL_MS(200), &last_price);
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
                    The function must bear being run twice. 0: none. Not with COOPERATE
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
             not a hang); destroy when the calls have returned. The threads are the object's own,
             never a pool's: a straggler would take a worker of it.
NESTING      Give task->until to what the function calls: it carries the deadline and a token that
             fires with the caller's, so 5 s inside 1 s is 1 s. The token outlives the call, the
             caller's own need not. A twill_cancel_request on the caller's is seen when the function
             looks with twill_task_cancelled.
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
FORK         In the child an object answers FORKED and destroy frees its memory; the one-call form
             begins anew. Signal handlers: nothing of this header.
PITFALLS     exit() while stragglers run destroys what they use (statics, stdio): drain first, and
             if something is left, _Exit. dlclose of their code: the same, and drain sees a function
             off its books, not out of its last instructions. in_size 0 with a pointer to the stack.
             After NO_MEMORY a fallback writes into out itself, since there is nothing else. */
#ifndef TWILL_TIMEOUT_FALLBACK_H
#define TWILL_TIMEOUT_FALLBACK_H

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
   must have returned. NULL: TWILL_OK. From a callback of its own: TWILL_DEADLOCK, and nothing
   changed. */
TWILL__DECL twill_status twill_timeout_destroy(twill_timeout *timeout);

#ifdef __cplusplus
}
#endif
#endif

/* ---- worker_pool.h ---- */
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
#ifndef TWILL__PARALLEL_MAP_IMPL
#define TWILL__PARALLEL_MAP_IMPL

/* ---- parallel_map/loops.h ---- */
/* loops.h: map, for, range, tiles, invoke, find: one pass over the items. */
#ifndef TWILL__PARALLEL_MAP_LOOPS_H
#define TWILL__PARALLEL_MAP_LOOPS_H

/* ---- parallel_map/cost.h ---- */
/* cost.h: cuts of equal cost, built in one walk over the items. */
#ifndef TWILL__PARALLEL_MAP_COST_H
#define TWILL__PARALLEL_MAP_COST_H

/* ---- parallel_map/options.h ---- */
/* options.h: what all forms check. */
#ifndef TWILL__PARALLEL_MAP_OPTIONS_H
#define TWILL__PARALLEL_MAP_OPTIONS_H

/* ---- engine/map.h ---- */
/* map.h: the loop over items with one input and one output each; parallel_map and map_with_progress
   stand on it. */
#ifndef TWILL__ENGINE_MAP_H
#define TWILL__ENGINE_MAP_H

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
    bool start_failed;
    int start_code;
    size_t total;
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

static inline twill_status twill__check_run(const twill_run *run)
{
    if ((unsigned)run->on_error > TWILL_ON_ERROR_LIMIT || (run->errors_capacity && !run->errors) ||
        !run->cpu_count != !run->cpus)
        return TWILL_INVALID;
    if (run->pool) {
        if (run->pool->layout != TWILL__POOL_LAYOUT)
            return TWILL_INVALID;
        if (!twill__team_here(run->pool->team))
            return TWILL_FORKED;
    }
    return TWILL_OK;
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
} twill__plan;

static inline void twill__make_plan(twill__plan *plan, const twill_run *run, size_t total)
{
    twill__job *outer = twill__thread()->job;
    unsigned workers = run->workers;
    plan->outer = outer;
    plan->team = NULL;
    plan->seat = NULL;
    plan->parent = NULL;
    plan->flags = 0;
    plan->total = total;
    if (workers > total) /* first: what is too many for the items is not too many for the pool */
        workers = total > 1 ? (unsigned)total : 1;
    if (run->pool) {
        unsigned most = run->pool->team->threads;
        plan->team = run->pool->team;
        if (!workers)
            workers = most;
        if (workers > plan->team->threads + 1) { /* threads of the pool and the caller */
            workers = plan->team->threads + 1;
            plan->flags |= TWILL_REPORT_DEGRADED;
        }
    } else if (outer && outer->team && !workers) { /* nested: the threads of the call around it */
        plan->team = outer->team;
        workers = outer->np;
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
        for (uint64_t bits = atomic_load(&job->ready[word]); bits; bits &= bits - 1)
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
    size_t size = by_time ? 1 : job->n;
    twill_ns since = by_time ? twill__clock_now() : 0;
    if (job->schedule == TWILL__DYNAMIC && job->whole)
        size = job->chunk ? job->chunk : 1;
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
            else if (took > 2 * TWILL__CHUNK_NS && size > 1)
                size /= 2;
        }
    }
}

/* The caller begins alone and times its first items: returns where the others would begin,
   job->n if nothing is left that is worth them. *helpers: how many are worth calling. Times are
   in ticks. */
static inline size_t twill__probe(twill__job *job, twill_task *task, bool few, unsigned *helpers)
{
    size_t at = 0, size = few ? 1 : job->n / 64 > 16 ? 16 : job->n / 64 + 1;
    if (size < job->chunk)
        size = job->chunk < job->n ? job->chunk : job->n;
    uint64_t rate = job->team ? job->team->tick_rate : twill__ticks_per_us(),
             since = twill__ticks();
    double sure = (double)(rate * 200 / 1024),
           price = (double)(rate * (job->team ? TWILL__WAKE_NS : TWILL__CREATE_NS) / 1024);
    for (;;) {              /* exit: all done, stopped, or the rest is worth threads */
        double spent, left; /* times `at`: a division spared */
        twill__serial_chunk(job, task, at, at + size);
        at += size;
        if (at >= job->n || !twill__may_run(job, at) ||
            (job->may_end && twill__stopped(job, twill__clock_now())))
            return job->n;
        spent = (double)(twill__ticks() - since) + 1;
        left = spent * (double)(job->n - at);
        if (left <= price * (double)at) {
            /* the rest is cheaper than its helpers */
            size = job->may_end && job->whole && job->n - at > at ? at : job->n - at;
        } else if (few || spent > sure || left > 8 * price * (double)at) {
            double chunk = (double)(rate * (TWILL__CHUNK_NS / 4) / 1024) / spent * (double)at;
            job->chunk0 = chunk < 1 ? 1 : chunk > 4096 ? 4096 : (size_t)chunk;
            if (!job->team && left / (double)at / price < *helpers)
                *helpers = (unsigned)(left / (double)at / price);
            return at;
        } else {
            size *= 4; /* too short to judge */
        }
        if (size > job->n - at)
            size = job->n - at;
    }
}

/* A team and a seat on it. False: all its seats are taken, and the caller runs alone. */
static inline bool twill__seated(twill__call_record *call)
{
    twill__job *job = &call->job;
    if (!job->team) {
        if (!call->has_own)
            twill__team_init(&call->own, call->helper);
        call->has_own = true;
        job->team = &call->own;
    }
    if (!job->seat)
        job->seat = twill__take_seat(job->team);
    return job->seat != NULL;
}

static inline void twill__share_out(twill__call_record *call, size_t at, unsigned helpers)
{
    twill__job *job = &call->job;
    size_t blocks = job->n - at;
    if (!twill__seated(call)) { /* all seats are taken: the caller alone */
        twill__run_serial(job, &call->task, at);
        return;
    }
    if (job->schedule == TWILL__AUTO) {
        job->start = at;
        job->block = blocks / 0xfffffffeu + 1;
        blocks = blocks / job->block + (blocks % job->block != 0);
        job->chunk0 = (job->chunk0 - 1) / job->block + 1;
        /* opening publishes */
        atomic_store_explicit(&job->slot[0].range, twill__pack(0, blocks), memory_order_relaxed);
    }
    job->generation = twill__generation();
    job->tick_rate = job->team->tick_rate;
    call->opened = true;
    job->flags &= ~(uint32_t)TWILL_REPORT_SERIAL;
    twill__open(job, helpers);
    if (job->team == &call->own && call->own.threads < helpers)
        /* the first to come works while the others are started */
        (void)twill__hire(call, helpers);
    twill__take_part(job, 0, &call->task);
    twill__meet(job, &call->task, true);
}

/* ---- open, close ---- */

static inline void twill__stop_workers(twill__job *job)
{
    if (!job->run->worker_stop)
        return;
    for (unsigned worker = 0; worker < job->np; worker++) {
        twill_task task;
        if (!(atomic_load(&job->ready[worker / 64]) & twill__bit(worker)) ||
            !job->slot[worker].started)
            continue;
        twill__task_init(job, worker, &task);
        job->slot[worker].started = false;
        job->run->worker_stop(job->slot[worker].state, &task);
    }
}

/* Statuses of items that never ran say why. */
static inline void twill__finish_statuses(twill__job *job, size_t total)
{
    if (atomic_load_explicit(&job->stop, memory_order_relaxed) == TWILL_TIMEOUT &&
        job->run->statuses)
        for (size_t i = 0; i < total; i++)
            if (job->run->statuses[i] == TWILL_CANCELLED)
                job->run->statuses[i] = TWILL_TIMEOUT;
}

static inline twill_status twill__answer(twill__call_record *call, twill_report *report)
{
    twill__job *job = &call->job;
    /* all have left: the join ordered it */
    size_t stop_at = atomic_load_explicit(&job->stop_at, memory_order_relaxed);
    uint32_t stop = atomic_load_explicit(&job->stop, memory_order_relaxed);
    for (unsigned word = 0; word < twill__words(job->np); word++)
        for (uint64_t bits = atomic_load(&job->ready[word]); bits; bits &= bits - 1) {
            twill__slot *slot = &job->slot[word * 64 + (unsigned)__builtin_ctzll(bits)];
            report->done += slot->done;
            report->failed += slot->failed;
            report->chunks += slot->chunks;
            report->workers_used += slot->used;
            if (slot->busy) {
                twill_ns busy = (twill_ns)((double)slot->busy * 1024 / (double)job->tick_rate);
                report->busy += busy;
                if (busy > report->busiest)
                    report->busiest = busy;
            }
            if (slot->failed &&
                (!report->first_error.status || slot->low < report->first_error.index)) {
                report->first_error.index = slot->low;
                report->first_error.status = slot->low_status;
                report->first_error.code = slot->low_code;
            }
            if (twill__token_used(twill__token_of(&slot->token)))
                twill_cancel_detach(&slot->token);
        }
    report->skipped = call->total - report->done - report->failed;
    if (report->skipped && !stop && stop_at == SIZE_MAX && job->may_end &&
        twill__stopped(job, twill__clock_now()))
        /* items gave up because of it */
        stop = atomic_load_explicit(&job->stop, memory_order_relaxed);
    if (atomic_load(&job->failures) && job->policy == TWILL_ON_ERROR_FIRST)
        report->first_error = job->earliest;
    else if (report->first_error.index > stop_at && stop != TWILL_FAILED)
        /* the serial loop never got there */
        memset(&report->first_error, 0, sizeof report->first_error);
    if (call->start_failed) {
        report->first_error.index = SIZE_MAX;
        report->first_error.status = TWILL_FAILED;
        report->first_error.code = call->start_code;
    }
    if (report->first_error.status)
        return TWILL_FAILED;
    if (stop && report->skipped)
        return (twill_status)stop;
    if (report->skipped && job->generation && job->generation != twill__generation())
        return TWILL_FORKED; /* helpers' items stayed with the parent */
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
    if (!call->opened && !call->has_own && !run->report && !job->detail &&
        job->slot[0].done == call->total) {
        /* the short way of a tiny call: all is done, and nobody asks how */
        if (job->seat)
            twill__release(job->seat, false);
        if (twill__token_used(twill__token_of(&job->slot[0].token)))
            twill_cancel_detach(&job->slot[0].token);
        return TWILL_OK;
    }
    memset(&report, 0, sizeof report);
    report.workers_started = call->opened ? job->np : 1;
    if (run->pool && run->report && call->opened)
        job->flags |= twill__team_flags(run->pool->team);
    if (job->seat) /* the pool may go now */
        twill__release(job->seat, call->opened);
    if (call->has_own) {
        report.workers_started = call->own.threads + 1;
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

/* A callback ends the calling thread: its item is LOST, the helpers are waited for, hooks and
   report are as ever. */
static inline void twill__caller_ended(void *call_)
{
    twill__call_record *call = (twill__call_record *)call_;
    twill__thread_ended(&call->job, 0, &call->task);
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
    /* relaxed: between passes nobody else is here */
    if (pass->n == 0 || call->start_failed ||
        atomic_load_explicit(&job->stop, memory_order_relaxed))
        return;
    twill__pass_init(call, pass);
    if (helpers >= pass->n)
        helpers = pass->n > 1 ? (unsigned)(pass->n - 1) : 0;
    if (helpers == 0) {
        twill__run_serial(job, &call->task, 0);
        return;
    }
    few = !pass->parts && pass->n / 32 < job->np;
    if (!call->eager && pass->schedule == TWILL__AUTO && !pass->forced && !(few && job->team))
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
    job->may_end = run->until.cancel || !twill__no_deadline(run->until.deadline);
    job->errors_count = 0;
    atomic_init(&job->limit, SIZE_MAX);
    atomic_init(&job->stop_at, SIZE_MAX);
    atomic_init(&job->stop, 0);
    atomic_init(&job->degraded, 0);
    atomic_init(&job->failures, 0);
    atomic_init(&job->errors_lock, 0);
    atomic_init(&job->next, 0);
    twill__slot_init(job, 0);
    call->has_own = call->opened = call->start_failed = call->guarded = false;
    call->scratch = NULL;
    call->start_code = 0;
    call->want = np - 1;
    call->eager = run->workers != 0;
}

static inline void twill__prefill(const twill_run *run, size_t total)
{
    for (size_t i = 0; run->statuses && i < total; i++)
        run->statuses[i] = TWILL_CANCELLED;
    if (run->codes && total)
        memset(run->codes, 0, total * sizeof *run->codes);
}

static inline twill_status twill__run_in(twill__call_record *call, const twill__plan *plan,
                                         const twill_run *run, twill__slot *slots,
                                         _Atomic uint64_t *bits, twill__steps_fn *steps, void *data)
{
    twill__job *job = &call->job;
    unsigned np = plan->np;
    twill__init_job(call, run, np, slots, bits);
    job->outer = plan->outer;
    job->record = twill__thread()->record;
    job->team = plan->team;
    job->seat = plan->seat;
    job->parent = plan->parent;
    job->flags = plan->flags;
    call->total = plan->total;
    call->since = run->report ? twill__clock_now() : 0;
    if (job->detail)
        twill__prefill(run, call->total);
    if (call->total == 0 || (job->may_end && twill__stopped(job, twill__clock_now())))
        return twill__close_call(call);
    if (np > 1 && !job->team && (call->eager || run->strict) && !twill__hire(call, np - 1) &&
        run->strict) {
        (void)twill__team_close(&call->own);
        return twill__refuse(run, call->total, TWILL_NO_THREAD);
    }
    if (call->has_own)
        job->team = &call->own;
    job->flags |= TWILL_REPORT_SERIAL;
    if (plan->guard || run->pool || run->worker_start || run->worker_stop || run->workers ||
        run->until.cancel || run->report || job->detail) {
        twill__run_guarded(call, steps, data);
    } else {
        /* nothing to clean up, should a callback end the thread before helpers come in */
        twill__task_init(job, 0, &call->task);
        steps(job, data);
    }
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
            twill__release(plan->seat, false);
        return twill__refuse(run, plan->total, TWILL_NO_MEMORY);
    }
    if (!memory) {
        plan->np = TWILL__LARGE_FRAME;
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

/* Runs `steps` as one call over `total` items of the user's. guard: there is something to free if a
   callback ends the thread (twill__scratch_get). */
static inline twill_status twill__run_call(const twill_run *run, size_t total, bool guard,
                                           twill__steps_fn *steps, void *data)
{
    twill__plan plan;
    twill_status status = twill__check_run(run);
    if (status != TWILL_OK)
        return twill__refuse(run, total, status);
    twill__make_plan(&plan, run, total);
    plan.guard = guard;
    if (run->strict && (plan.flags & TWILL_REPORT_DEGRADED))
        return twill__refuse(run, total, TWILL_NO_THREAD);
    if (run->pool && total) {
        plan.seat = twill__take_seat(plan.team);
        if (!plan.seat && (atomic_load(&plan.team->seat[0].word) & TWILL__SEAT_SHUT))
            return twill__refuse(run, total, TWILL_CLOSED);
        if (!plan.seat)
            plan.np = 1; /* so many calls are on it that the caller runs alone */
    }
    if (plan.np <= TWILL__SMALL_FRAME)
        return twill__run_small(&plan, run, steps, data);
    if (plan.np <= TWILL__LARGE_FRAME)
        return twill__run_large(&plan, run, steps, data);
    return twill__run_huge(&plan, run, steps, data);
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
        for (; i < look; in += in_size, out += out_size) {
            task->index = i;
            int code = fn(in, out, task);
            if (twill__loop_odd(&loop, code) && !twill__loop_note(&loop, i, code))
                end = look = i + 1;
            i++;
        }
    }
    twill__loop_end(me, i);
}

#endif

_Static_assert((int)TWILL_SCHEDULE_AUTO == (int)TWILL__AUTO &&
                   (int)TWILL_SCHEDULE_STATIC == (int)TWILL__STATIC &&
                   (int)TWILL_SCHEDULE_DYNAMIC == (int)TWILL__DYNAMIC &&
                   (int)TWILL_SCHEDULE_GUIDED == (int)TWILL__GUIDED &&
                   (int)TWILL_SCHEDULE_COST == (int)TWILL__COST,
               "the engine takes the schedule as it is");

static inline const twill_parallel_options *
twill__parallel_options(const twill_parallel_options *options)
{
    static const twill_parallel_options none;
    return options ? options : &none;
}

static inline bool twill__parallel_valid(const twill_parallel_options *options)
{
    return (unsigned)options->schedule <= TWILL_SCHEDULE_COST &&
           (options->schedule != TWILL_SCHEDULE_COST || options->cost_of);
}

#endif

/* ---- cuts of equal cost ---- */

/* A table of bounded size, filled as the costs come: when it is full the target doubles and
   neighbours that fit under it together become one. An item above the target keeps a cut of its
   own. */
typedef struct twill__cutter {
    twill__cut *cuts;
    size_t count, capacity;
    uint64_t target;
} twill__cutter;

#define TWILL__CUTS 512 /* on the caller's stack: 12 KiB */

static inline uint64_t twill__add_costs(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

/* At least half of the table is free afterwards. */
static inline void twill__cuts_merge(twill__cutter *cutter)
{
    /* exit: at UINT64_MAX everything fits into one cut */
    while (cutter->count > cutter->capacity / 2) {
        size_t kept = 0;
        cutter->target = twill__add_costs(cutter->target, cutter->target);
        for (size_t i = 1; i < cutter->count; i++) {
            twill__cut *last = &cutter->cuts[kept];
            uint64_t sum = twill__add_costs(last->cost, cutter->cuts[i].cost);
            if (sum <= cutter->target) {
                last->end = cutter->cuts[i].end;
                last->cost = sum;
            } else {
                cutter->cuts[++kept] = cutter->cuts[i];
            }
        }
        cutter->count = kept + 1;
    }
}

static inline void twill__cuts_add(twill__cutter *cutter, size_t item, uint64_t cost)
{
    twill__cut *last = cutter->count ? &cutter->cuts[cutter->count - 1] : NULL;
    if (cost == 0)
        cost = 1;
    if (last && twill__add_costs(last->cost, cost) <= cutter->target) {
        last->end = item + 1;
        last->cost += cost;
        return;
    }
    if (cutter->count == cutter->capacity)
        twill__cuts_merge(cutter);
    last = &cutter->cuts[cutter->count++];
    last->begin = item;
    last->end = item + 1;
    last->cost = cost;
}

/* Which of two runs first: the dearer, else the lower. */
static inline bool twill__cut_before(const twill__cut *a, const twill__cut *b)
{
    return a->cost != b->cost ? a->cost > b->cost : a->begin < b->begin;
}

/* A heap sort: no memory, no bad case. */
static inline void twill__cuts_sift(twill__cut *cuts, size_t count, size_t at)
{
    twill__cut moved = cuts[at];
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && twill__cut_before(&cuts[child], &cuts[child + 1]))
            child++;
        if (!twill__cut_before(&moved, &cuts[child]))
            break;
        cuts[at] = cuts[child];
    }
    cuts[at] = moved;
}

static inline void twill__cuts_sort(twill__cut *cuts, size_t count)
{
    for (size_t i = count / 2; i-- > 0;)
        twill__cuts_sift(cuts, count, i);
    for (size_t left = count; left-- > 1;) {
        twill__cut last = cuts[left];
        cuts[left] = cuts[0];
        cuts[0] = last;
        twill__cuts_sift(cuts, left, 0);
    }
}

/* table: TWILL__CUTS of them, in a frame that stays if a callback ends the calling thread: helpers
   still read it then. */
static inline void twill__run_by_cost(twill__job *job, twill__pass *pass, twill__cut *table,
                                      const twill_parallel_options *options)
{
    twill__cutter cutter = {table, 0, TWILL__CUTS, 1};
    twill_task task;
    if (job->np > TWILL__CUTS / 8) { /* some for each worker; without memory, fewer */
        twill__cut *more = (twill__cut *)twill__scratch_get(job, job->np * 8 * sizeof *more);
        if (more) {
            cutter.cuts = more;
            cutter.capacity = (size_t)job->np * 8;
        }
    }
    twill__task_init(job, 0, &task);
    for (size_t i = 0; i < pass->n; i++) {
        if (i % 256 == 0 && twill__stopped(job, twill__clock_now()))
            return;
        twill__cuts_add(&cutter, i, options->cost_of(i, &task));
    }
    twill__cuts_sort(cutter.cuts, cutter.count);
    pass->cuts = cutter.cuts;
    pass->cut_count = cutter.count;
    twill__run_pass(job, pass);
}

#endif

/* ---- one loop over items ---- */

typedef struct twill__sweep {
    const twill_parallel_options *options;
    twill__cut *cuts; /* COST: from twill__start */
    twill__pass pass;
} twill__sweep;

static inline void twill__sweep_pass(twill__job *job, twill__sweep *loop)
{
    if (loop->pass.schedule == TWILL__COST)
        twill__run_by_cost(job, &loop->pass, loop->cuts, loop->options);
    else
        twill__run_pass(job, &loop->pass);
}

static inline void twill__sweep_steps(twill__job *job, void *loop)
{
    twill__sweep_pass(job, (twill__sweep *)loop);
}

static inline void twill__sweep_init(twill__sweep *loop, size_t n, twill__body_fn *body, void *data,
                                     const twill_parallel_options *options)
{
    memset(&loop->pass, 0, sizeof loop->pass);
    loop->options = options;
    loop->cuts = NULL;
    loop->pass.n = n;
    loop->pass.body = body;
    loop->pass.data = data;
    loop->pass.schedule = (twill__schedule)options->schedule;
    loop->pass.chunk = options->chunk;
}

/* Apart, so that only calls with COST carry the table on their stack. */
static __attribute__((noinline)) twill_status twill__start_by_cost(const twill_run *run, size_t n,
                                                                   twill__steps_fn *steps,
                                                                   void *data, twill__cut **cuts)
{
    twill__cut table[TWILL__CUTS];
    *cuts = table;
    return twill__run_call(run, n, true, steps, data);
}

/* Runs steps that may use twill__sweep_pass. cuts: where it finds its table. guard: user code runs
   between passes, or something must be undone if a callback ends the thread. */
static inline twill_status twill__start(const twill_parallel_options *options, size_t n, bool guard,
                                        twill__steps_fn *steps, void *data, twill__cut **cuts)
{
    if (options->schedule == TWILL_SCHEDULE_COST)
        return twill__start_by_cost(&options->run, n, steps, data, cuts);
    return twill__run_call(&options->run, n, guard, steps, data);
}

static inline twill_status twill__run_loop(size_t n, twill__body_fn *body, void *data, bool whole,
                                           const twill_parallel_options *options)
{
    twill__sweep loop;
    twill__sweep_init(&loop, n, body, data, options);
    loop.pass.whole = whole;
    return twill__start(options, n, false, twill__sweep_steps, &loop, &loop.cuts);
}

/* The body of a loop over single items; each of them is one(job->data, task) with task->index
   set. */
static inline __attribute__((always_inline)) void
twill__each(twill__job *job, twill_task *task, size_t begin, size_t end,
            int (*one)(void *data, twill_task *task))
{
    twill__slot *me = &job->slot[task->worker];
    void *data = job->data;
    twill__loop loop;
    size_t i = twill__loop_begin(&loop, job, me, begin, end), look;
    while ((look = twill__loop_look(&loop, i, end)) > i) {
        while (i < look) {
            int code;
            task->index = i;
            code = one(data, task);
            if (twill__loop_odd(&loop, code) && !twill__loop_note(&loop, i, code))
                end = look = i + 1;
            i++;
        }
    }
    twill__loop_end(me, i);
}

TWILL__DEFINE twill_status twill_parallel_map(const void *in, size_t in_size, void *out,
                                              size_t out_size, size_t n, twill_map_fn *fn,
                                              const twill_parallel_options *options)
{
    twill__map map = {(const char *)in, (char *)out, in_size, out_size, fn};
    twill_status status = twill__map_check(in, in_size, out, out_size, n, fn);
    options = twill__parallel_options(options);
    if (status != TWILL_OK || !twill__parallel_valid(options))
        return twill__refuse(&options->run, n, status != TWILL_OK ? status : TWILL_INVALID);
    return twill__run_loop(n, twill__map_body, &map, false, options);
}

typedef struct twill__for {
    twill_for_fn *fn;
    twill_for_fn *const *fns;
} twill__for;

static inline int twill__for_one(void *data, twill_task *task)
{
    return ((const twill__for *)data)->fn(task);
}

static inline void twill__for_body(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    twill__each(job, task, begin, end, twill__for_one);
}

TWILL__DEFINE twill_status twill_parallel_for(size_t n, twill_for_fn *fn,
                                              const twill_parallel_options *options)
{
    twill__for loop = {fn, NULL};
    options = twill__parallel_options(options);
    if (!fn || !twill__parallel_valid(options))
        return twill__refuse(&options->run, n, TWILL_INVALID);
    return twill__run_loop(n, twill__for_body, &loop, false, options);
}

static inline int twill__invoke_one(void *data, twill_task *task)
{
    return ((const twill__for *)data)->fns[task->index](task);
}

static inline void twill__invoke_body(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    twill__each(job, task, begin, end, twill__invoke_one);
}

TWILL__DEFINE twill_status twill_parallel_invoke(twill_for_fn *const *fns, size_t n,
                                                 const twill_parallel_options *options)
{
    twill__for invoke = {NULL, fns};
    twill__sweep loop;
    bool valid = fns || !n;
    options = twill__parallel_options(options);
    for (size_t i = 0; valid && i < n; i++)
        valid = fns[i] != NULL;
    if (!valid || !twill__parallel_valid(options))
        return twill__refuse(&options->run, n, TWILL_INVALID);
    twill__sweep_init(&loop, n, twill__invoke_body, &invoke, options);
    loop.pass.forced = true;
    return twill__start(options, n, false, twill__sweep_steps, &loop, &loop.cuts);
}

/* ---- ranges ---- */

typedef struct twill__ranges {
    twill_range_fn *fn;
    twill__typed_fn *typed;
    const void *call;
} twill__ranges;

static inline void twill__range_body(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    const twill__ranges *ranges = (const twill__ranges *)job->data;
    int code;
    task->index = begin;
    code = ranges->fn(begin, end, task);
    twill__range_end(job, &job->slot[task->worker], SIZE_MAX, begin, end, code);
}

static inline void twill__typed_body(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    const twill__ranges *ranges = (const twill__ranges *)job->data;
    int code;
    task->index = begin;
    code = ranges->typed(ranges->call, begin, end, task);
    twill__range_end(job, &job->slot[task->worker], SIZE_MAX, begin, end, code);
}

TWILL__DEFINE twill_status twill_parallel_range(size_t n, twill_range_fn *fn,
                                                const twill_parallel_options *options)
{
    twill__ranges ranges = {fn, NULL, NULL};
    options = twill__parallel_options(options);
    if (!fn || !twill__parallel_valid(options))
        return twill__refuse(&options->run, n, TWILL_INVALID);
    return twill__run_loop(n, twill__range_body, &ranges, true, options);
}

TWILL__DEFINE twill_status twill__parallel_typed(size_t n, twill__typed_fn *fn, const void *call,
                                                 const twill_parallel_options *options)
{
    twill__ranges ranges = {NULL, fn, call};
    options = twill__parallel_options(options);
    if ((!fn && n) || !twill__parallel_valid(options))
        return twill__refuse(&options->run, n, TWILL_INVALID);
    return twill__run_loop(n, twill__typed_body, &ranges, true, options);
}

/* ---- tiles ---- */

typedef struct twill__tiles {
    twill_tile_fn *fn;
    size_t rows, cols, tile_rows, tile_cols, across; /* tiles in a row of tiles */
} twill__tiles;

static inline size_t twill__parts_of(size_t n, size_t part)
{
    return n / part + (n % part != 0);
}

/* Chooses the sizes that are 0. False: more tiles than a size_t can count. */
static inline bool twill__tiles_init(twill__tiles *tiles, size_t *n)
{
    size_t auto_rows = tiles->tile_rows ? 0 : 64, auto_cols = tiles->tile_cols ? 0 : 64, down;
    for (;; auto_rows /= 2, auto_cols /= 2) { /* exit: at 1 at the latest */
        tiles->tile_rows = auto_rows ? auto_rows : tiles->tile_rows;
        tiles->tile_cols = auto_cols ? auto_cols : tiles->tile_cols;
        down = twill__parts_of(tiles->rows, tiles->tile_rows);
        tiles->across = twill__parts_of(tiles->cols, tiles->tile_cols);
        if (down > SIZE_MAX / tiles->across)
            return false;
        *n = down * tiles->across;
        if (*n >= 256 || (auto_rows <= 1 && auto_cols <= 1))
            return true;
    }
}

static inline int twill__tile_one(void *data, twill_task *task)
{
    const twill__tiles *tiles = (const twill__tiles *)data;
    size_t row = task->index / tiles->across * tiles->tile_rows;
    size_t col = task->index % tiles->across * tiles->tile_cols;
    size_t row_end = tiles->rows - row < tiles->tile_rows ? tiles->rows : row + tiles->tile_rows;
    size_t col_end = tiles->cols - col < tiles->tile_cols ? tiles->cols : col + tiles->tile_cols;
    return tiles->fn(row, row_end, col, col_end, task);
}

static inline void twill__tile_body(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    twill__each(job, task, begin, end, twill__tile_one);
}

TWILL__DEFINE twill_status twill_parallel_tiles(size_t rows, size_t cols, size_t tile_rows,
                                                size_t tile_cols, twill_tile_fn *fn,
                                                const twill_parallel_options *options)
{
    twill__tiles tiles = {fn, rows, cols, tile_rows, tile_cols, 0};
    size_t n = 0;
    options = twill__parallel_options(options);
    if (!fn || !twill__parallel_valid(options))
        return twill__refuse(&options->run, 0, TWILL_INVALID);
    if (rows && cols && !twill__tiles_init(&tiles, &n))
        return twill__refuse(&options->run, SIZE_MAX, TWILL_TOO_BIG);
    return twill__run_loop(n, twill__tile_body, &tiles, false, options);
}

/* ---- find ---- */

typedef struct twill__find {
    const char *in;
    size_t size;
    twill_test_fn *match;
    _Atomic size_t found; /* the lowest match so far */
    size_t stop_at;       /* the lowest twill_task_stop: the serial loop got no further */
} twill__find;

/* Like twill_task_stop: what lies below still runs. */
static __attribute__((noinline)) void twill__found(twill__find *find, twill__job *job, size_t i)
{
    twill__lower(&find->found, i);
    twill__lower(&job->limit, i);
    twill__fire_from(job, i + 1);
}

static inline void twill__find_body(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    twill__find *find = (twill__find *)job->data;
    twill__slot *me = &job->slot[task->worker];
    const char *item = find->in + begin * find->size;
    size_t size = find->size, look;
    twill_test_fn *match = find->match;
    twill__loop loop;
    size_t i = twill__loop_begin(&loop, job, me, begin, end);
    while ((look = twill__loop_look(&loop, i, end)) > i) {
        for (; i < look; item += size) {
            bool found;
            task->index = i;
            found = match(item, task);
            if (found)
                twill__found(find, job, i);
            if ((twill__loop_odd(&loop, 0) && !twill__loop_note(&loop, i, 0)) || found)
                end = look = i + 1;
            i++;
        }
    }
    twill__loop_end(me, i);
}

static inline void twill__find_steps(twill__job *job, void *data)
{
    twill__sweep *loop = (twill__sweep *)data;
    twill__sweep_pass(job, loop);
    ((twill__find *)loop->pass.data)->stop_at = atomic_load(&job->stop_at);
}

/* Whether items of `size` bytes are valid data of a call. */
static inline twill_status twill__items_check(const void *items, size_t size, size_t n)
{
    if (n == 0)
        return TWILL_OK;
    if (!items || !size)
        return TWILL_INVALID;
    return n > SIZE_MAX / size ? TWILL_TOO_BIG : TWILL_OK;
}

TWILL__DEFINE twill_status twill_parallel_find(const void *in, size_t size, size_t n, size_t *index,
                                               twill_test_fn *match,
                                               const twill_parallel_options *options)
{
    twill__find find = {(const char *)in, size, match, n, SIZE_MAX};
    twill__sweep loop;
    twill_status status = twill__items_check(in, size, n);
    options = twill__parallel_options(options);
    if (!match || !index || !twill__parallel_valid(options))
        status = TWILL_INVALID;
    if (index)
        *index = n;
    if (status != TWILL_OK)
        return twill__refuse(&options->run, n, status);
    twill__sweep_init(&loop, n, twill__find_body, &find, options);
    status = twill__start(options, n, false, twill__find_steps, &loop, &loop.cuts);
    /* relaxed: all have left, the join ordered it */
    *index = atomic_load_explicit(&find.found, memory_order_relaxed);
    if (*index > find.stop_at)
        *index = n;
    return status;
}

#endif

/* ---- parallel_map/reduce.h ---- */
/* reduce.h: reduce: fixed cuts, combined in a fixed tree. */
#ifndef TWILL__PARALLEL_MAP_REDUCE_H
#define TWILL__PARALLEL_MAP_REDUCE_H

/* ---- parallel_map/passes.h ---- */
/* passes.h: what calls of several passes share. */
#ifndef TWILL__PARALLEL_MAP_PASSES_H
#define TWILL__PARALLEL_MAP_PASSES_H

/* ---- calls of several passes ---- */

/* Whether the call will answer TWILL_OK, once its passes over the items are over. */
static inline bool twill__all_well(twill__job *job, size_t total)
{
    /* relaxed: after the join */
    size_t stop_at = atomic_load_explicit(&job->stop_at, memory_order_relaxed);
    uint32_t stop = atomic_load_explicit(&job->stop, memory_order_relaxed);
    size_t ended = 0;
    for (unsigned worker = 0; worker < job->np; worker++) {
        const twill__slot *slot = &job->slot[worker];
        if (!(atomic_load(&job->ready[worker / 64]) & twill__bit(worker)))
            continue;
        if (slot->failed && slot->low <= stop_at)
            return false;
        ended += slot->done + slot->failed;
    }
    return !stop || ended == total;
}

/* A pass after the last item is done, when token and deadline come too late: it runs to its end.
   deaf: memory that stays if a callback ends the calling thread. */
static __attribute__((noinline)) void twill__run_deaf(twill__job *job, twill__pass *pass,
                                                      twill_run *deaf)
{
    const twill_run *run = job->run;
    *deaf = *run;
    memset(&deaf->until, 0, sizeof deaf->until);
    /* relaxed: nobody else is here; opening publishes */
    atomic_store_explicit(&job->stop, 0, memory_order_relaxed);
    job->run = deaf;
    twill__run_pass(job, pass);
    job->run = run;
}

/* Whether block k of a pass over blocks is to be run. */
static inline bool twill__block_may_run(twill__job *job, size_t k)
{
    bool dated = job->may_end && !twill__no_deadline(job->run->until.deadline);
    return twill__may_run(job, k) &&
           !(job->may_end && twill__stopped(job, dated ? twill__clock_now() : 0));
}

/* Whether helpers have come in before: the work is known to be worth them. */
static inline bool twill__was_shared(const twill__job *job)
{
    return !(job->flags & TWILL_REPORT_SERIAL);
}

/* Keeps the calling thread as the only one from here on. */
static inline void twill__run_alone(twill__job *job)
{
    ((twill__call_record *)(void *)job)->want = 0;
}

static inline size_t twill__round_up(size_t size, size_t to)
{
    return size > SIZE_MAX - to ? SIZE_MAX / to * to : (size + to - 1) / to * to;
}

static inline char *twill__aligned(char *memory)
{
    return memory + (TWILL__LINE - (uintptr_t)memory % TWILL__LINE) % TWILL__LINE;
}

/* A task for callbacks outside of the call's workers. */
static inline twill_task twill__task_outside(const twill_run *run)
{
    twill_task task = {SIZE_MAX, run->context, UINT_MAX, 0, NULL, {0, NULL}, NULL};
    return task;
}

#endif

/* ---- reduce ---- */

/* Ordered: fixed cuts into blocks, an accumulator a block, and over them one binary tree in which
   the block numbers say who meets whom: node [k * 2^l, (k+1) * 2^l) is its left half (+) its
   right half, a missing right half changes nothing. So the result does not depend on who computed
   what. Blocks are run in groups of 2^g: a group's tree ends in one accumulator, and those meet
   like the digits of a binary counter, which is the same tree. One group where 1 MiB holds the
   accumulators of all blocks; few large ones are alive at once otherwise. */

#define TWILL__REDUCE_SMALL  4608    /* bytes of accumulators on the caller's stack: 256 of 16 */
#define TWILL__REDUCE_LARGE  1048576 /* bytes of one group */
#define TWILL__REDUCE_LOCAL  64      /* bytes that are folded on the worker's own stack */
#define TWILL__REDUCE_TREE   16      /* blocks whose tree is one piece of work */
#define TWILL__REDUCE_SERIAL 20      /* us of combining that nobody is called for */

enum { TWILL__ACC_NONE, TWILL__ACC_MADE, TWILL__ACC_FULL };

typedef struct twill__reduce {
    const twill_reducer *reducer;
    const twill_parallel_options *options;
    void *result;
    size_t n, blocks, each; /* items a block */
    size_t group, levels;   /* blocks at once, a power of 2; accumulators on the counter */
    size_t at, count;       /* first block and size of the group that runs */
    size_t stride;
    char *acc;               /* [group + levels] */
    unsigned char *state;    /* [group + levels] */
    char *memory;            /* what was allocated, or NULL */
    _Atomic uint32_t failed; /* a combine */
    twill__cut *cuts;
    twill_run deaf;
} twill__reduce;

static inline char *twill__acc(const twill__reduce *reduce, size_t k)
{
    return reduce->acc + k * reduce->stride;
}

static inline size_t twill__reduce_item(const twill__reduce *reduce, size_t k)
{
    return (reduce->at + k) * reduce->each;
}

static inline void twill__acc_drop(twill__reduce *reduce, size_t k, const twill_task *task)
{
    if (reduce->state[k] != TWILL__ACC_NONE) {
        reduce->state[k] = TWILL__ACC_NONE;
        if (reduce->reducer->dispose)
            reduce->reducer->dispose(twill__acc(reduce, k), task);
    }
}

static inline void twill__acc_drop_all(twill__reduce *reduce, const twill_task *task)
{
    for (size_t k = 0; reduce->reducer->dispose && k < reduce->group + reduce->levels; k++)
        twill__acc_drop(reduce, k, task);
}

static inline int twill__acc_make(const twill_reducer *reducer, void *acc, const twill_task *task)
{
    if (reducer->identity)
        return reducer->identity(acc, task);
    if (reducer->size == 8)
        memset(acc, 0, 8); /* a store instead of a call */
    else
        memset(acc, 0, reducer->size);
    return 0;
}

static inline void twill__reduce_body(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    twill__reduce *reduce = (twill__reduce *)job->data;
    const twill_reducer *reducer = reduce->reducer;
    twill__slot *me = &job->slot[task->worker];
    _Alignas(64) char local[TWILL__REDUCE_LOCAL];
    /* no line shared between workers */
    bool is_local = !reducer->dispose && reducer->size <= sizeof local;
    for (size_t k = begin; k < end && twill__block_may_run(job, k); k++) {
        size_t from = twill__reduce_item(reduce, k);
        size_t to = reduce->n - from < reduce->each ? reduce->n : from + reduce->each;
        char *place = twill__acc(reduce, k);
        void *acc = is_local ? local : place;
        int code;
        task->index = from;
        code = twill__acc_make(reducer, acc, task);
        if (!code) {
            reduce->state[k] = TWILL__ACC_MADE;
            code = reducer->fold(acc, from, to, task);
            if (!code) {
                reduce->state[k] = TWILL__ACC_FULL;
                if (is_local && reducer->size == 8)
                    memcpy(place, local, 8);
                else if (is_local)
                    memcpy(place, local, reducer->size);
            }
        }
        twill__range_end(job, me, k, from, to, code);
    }
    task->index = SIZE_MAX;
}

/* left <- left (+) right, and right is gone. False: it failed, which is told as the error of the
   right one's first item; that had been counted as done. */
static inline bool twill__acc_combine(twill__job *job, twill__reduce *reduce, size_t left,
                                      size_t right, size_t at, size_t item, twill_task *task)
{
    twill__slot *me = &job->slot[task->worker];
    int code = reduce->reducer->combine(twill__acc(reduce, left), twill__acc(reduce, right), task);
    twill__acc_drop(reduce, right, task);
    me->said = 0;
    if (!code)
        return true;
    me->done--; /* may go below 0: only the sum over the workers counts */
    twill__item_failed(job, me, at, item, TWILL_FAILED, code);
    atomic_store_explicit(&reduce->failed, 1, memory_order_relaxed); /* read after the join */
    return false;
}

/* The tree over the accumulators begin..end-1, whose distances are multiples of `least`. */
static inline bool twill__reduce_tree(twill__job *job, twill__reduce *reduce, size_t begin,
                                      size_t end, size_t least, size_t at, twill_task *task)
{
    for (size_t step = least; step < end - begin; step *= 2)
        for (size_t k = begin; end - k > step; k += 2 * step) {
            if (!twill__acc_combine(job, reduce, k, k + step, at,
                                    twill__reduce_item(reduce, k + step), task))
                return false;
            if (end - k <= 2 * step)
                break;
        }
    return true;
}

static inline void twill__reduce_trees(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    twill__reduce *reduce = (twill__reduce *)job->data;
    for (size_t k = begin; k < end && twill__may_run(job, k); k++) {
        size_t from = (k + 1) * TWILL__REDUCE_TREE, to = from + TWILL__REDUCE_TREE;
        (void)twill__reduce_tree(job, reduce, from, to < reduce->count ? to : reduce->count, 1, k,
                                 task);
    }
}

/* Leaves the group's value in its first accumulator. The first piece is timed: it says whether to
   call others. */
static inline bool twill__reduce_group(twill__job *job, twill__reduce *reduce, twill_task *task)
{
    size_t count = reduce->count, tree = TWILL__REDUCE_TREE;
    uint64_t since;
    if (count <= tree)
        return twill__reduce_tree(job, reduce, 0, count, 1, 0, task);
    since = twill__ticks();
    if (!twill__reduce_tree(job, reduce, 0, tree, 1, 0, task))
        return false;
    if (job->np > 1 &&
        (twill__ticks() - since) * (count / tree) / TWILL__REDUCE_SERIAL > twill__ticks_per_us()) {
        twill__pass pass = {
            .n = (count - 1) / tree, .body = twill__reduce_trees, .data = reduce, .forced = true};
        pass.first = twill__reduce_item(reduce, tree);
        pass.unit = reduce->each > SIZE_MAX / tree ? SIZE_MAX : reduce->each * tree;
        twill__run_deaf(job, &pass, &reduce->deaf);
        /* relaxed: the pass is over, its join ordered it */
        if (atomic_load_explicit(&reduce->failed, memory_order_relaxed) ||
            !twill__all_well(job, reduce->n))
            return false;
    } else {
        for (size_t k = tree; k < count; k += tree)
            if (!twill__reduce_tree(job, reduce, k, count - k < tree ? count : k + tree, 1, 0,
                                    task))
                return false;
    }
    return twill__reduce_tree(job, reduce, 0, count, tree, 0, task);
}

/* Folds the blocks of a group. False: some are missing. *last: a callback has said stop, nothing
   above it counts. */
static inline bool twill__reduce_fold(twill__job *job, twill__reduce *reduce, twill_task *task,
                                      bool *last)
{
    const twill_parallel_options *options = reduce->options;
    twill__pass pass = {
        .n = reduce->count, .body = twill__reduce_body, .data = reduce, .parts = true};
    size_t stop_at;
    pass.schedule = (twill__schedule)options->schedule;
    pass.chunk = options->chunk / reduce->each;
    pass.first = twill__reduce_item(reduce, 0);
    pass.unit = reduce->each;
    pass.forced = twill__was_shared(job);
    memset(reduce->state, TWILL__ACC_NONE, reduce->count);
    twill__run_pass(job, &pass);
    stop_at = atomic_load_explicit(&job->stop_at, memory_order_relaxed); /* after the join */
    if (stop_at != SIZE_MAX) {
        size_t need = twill__place_of(job, stop_at) + 1;
        for (size_t k = need; k < reduce->count; k++)
            twill__acc_drop(reduce, k, task);
        reduce->count = need < reduce->count ? need : reduce->count;
        *last = true;
        /* relaxed: between passes nobody else is here */
        if (atomic_load_explicit(&job->stop, memory_order_relaxed))
            return false;
    }
    for (size_t k = 0; k < reduce->count; k++)
        if (reduce->state[k] != TWILL__ACC_FULL)
            return false;
    return true;
}

static inline void twill__acc_move(twill__reduce *reduce, size_t from, size_t to)
{
    memcpy(twill__acc(reduce, to), twill__acc(reduce, from), reduce->reducer->size);
    reduce->state[to] = reduce->state[from];
    reduce->state[from] = TWILL__ACC_NONE;
}

static inline bool twill__reduce_run(twill__job *job, twill__reduce *reduce, twill_task *task)
{
    size_t top = reduce->group, groups = 0; /* the counter's digits lie behind the group */
    size_t item = 0;                        /* that a failed combine is told of */
    bool last = false;
    if (reduce->group == 1)
        twill__run_alone(job);
    for (reduce->at = 0; reduce->at < reduce->blocks && !last; reduce->at += reduce->group) {
        size_t left = reduce->blocks - reduce->at;
        reduce->count = left < reduce->group ? left : reduce->group;
        if (!twill__reduce_fold(job, reduce, task, &last) ||
            !twill__reduce_group(job, reduce, task))
            return false;
        if (reduce->levels == 0)
            break;
        item = twill__reduce_item(reduce, 0);
        twill__acc_move(reduce, 0, top++);
        groups++;
        for (size_t bit = 1; !(groups & bit); bit *= 2, top--) /* exit: groups > 0 */
            if (!twill__acc_combine(job, reduce, top - 2, top - 1, 0, item, task))
                return false;
    }
    for (; top > reduce->group + 1; top--)
        if (!twill__acc_combine(job, reduce, top - 2, top - 1, 0, item, task))
            return false;
    if (reduce->levels)
        twill__acc_move(reduce, reduce->group, 0);
    memcpy(reduce->result, twill__acc(reduce, 0), reduce->reducer->size);
    reduce->state[0] = TWILL__ACC_NONE;
    return true;
}

static inline void twill__reduce_steps(twill__job *job, void *data)
{
    twill__reduce *reduce = (twill__reduce *)data;
    twill_task task;
    twill__task_init(job, 0, &task);
    if (!twill__reduce_run(job, reduce, &task))
        twill__acc_drop_all(reduce, &task);
}

/* unordered: what a worker folds goes into its own accumulator. */
static inline void twill__unordered_body(twill__job *job, twill_task *task, size_t begin,
                                         size_t end)
{
    twill__reduce *reduce = (twill__reduce *)job->data;
    unsigned char *state = &reduce->state[task->worker];
    void *acc = twill__acc(reduce, task->worker);
    int code = 0;
    task->index = begin;
    if (*state == TWILL__ACC_NONE) {
        code = twill__acc_make(reduce->reducer, acc, task);
        if (!code)
            *state = TWILL__ACC_MADE;
    }
    if (!code)
        code = reduce->reducer->fold(acc, begin, end, task);
    twill__range_end(job, &job->slot[task->worker], SIZE_MAX, begin, end, code);
    task->index = SIZE_MAX;
}

static inline bool twill__unordered_join(twill__job *job, twill__reduce *reduce, twill_task *task)
{
    size_t first = 0;
    if (!twill__all_well(job, reduce->n))
        return false;
    while (first < reduce->group && reduce->state[first] == TWILL__ACC_NONE)
        first++;
    for (size_t k = first + 1; k < reduce->group; k++)
        if (reduce->state[k] != TWILL__ACC_NONE &&
            !twill__acc_combine(job, reduce, first, k, 0, 0, task))
            return false;
    if (first == reduce->group)
        return false;
    memcpy(reduce->result, twill__acc(reduce, first), reduce->reducer->size);
    reduce->state[first] = TWILL__ACC_NONE;
    return true;
}

static inline void twill__unordered_steps(twill__job *job, void *data)
{
    twill__reduce *reduce = (twill__reduce *)data;
    twill__sweep loop;
    twill_task task;
    if (reduce->group < job->np) /* memory for one */
        twill__run_alone(job);
    memset(reduce->state, TWILL__ACC_NONE, reduce->group);
    twill__sweep_init(&loop, reduce->n, twill__unordered_body, reduce, reduce->options);
    loop.cuts = reduce->cuts;
    loop.pass.whole = true;
    twill__sweep_pass(job, &loop);
    twill__task_init(job, 0, &task);
    if (!twill__unordered_join(job, reduce, &task))
        twill__acc_drop_all(reduce, &task);
}

/* The calling thread has ended in a callback: helpers are gone, the call is closed. */
static inline void twill__reduce_ended(void *data)
{
    twill__reduce *reduce = (twill__reduce *)data;
    twill_task task = twill__task_outside(&reduce->options->run);
    twill__acc_drop_all(reduce, &task);
    if (reduce->memory)
        TWILL_FREE(reduce->memory);
}

static __attribute__((noinline)) twill_status twill__reduce_guarded(twill__reduce *reduce,
                                                                    twill__steps_fn *steps)
{
    twill_status status;
    TWILL__GUARD_PUSH(twill__reduce_ended, reduce);
    status = twill__start(reduce->options, reduce->n, true, steps, reduce, &reduce->cuts);
    TWILL__GUARD_POP(0);
    if (reduce->memory)
        TWILL_FREE(reduce->memory);
    return status;
}

static inline unsigned twill__workers_for(const twill_run *run, size_t n)
{
    twill__plan plan;
    twill__make_plan(&plan, run, n);
    return plan.np;
}

/* Sizes for `group` accumulators at once; false: no memory for so many. */
static inline bool twill__reduce_place(twill__reduce *reduce, size_t group, char *small,
                                       size_t small_size)
{
    size_t count, bytes;
    reduce->group = group;
    reduce->levels = 0;
    if (!reduce->reducer->unordered && group < reduce->blocks)
        /* one digit more than the number of groups has: before it carries */
        for (size_t left = 2 * ((reduce->blocks - 1) / group + 1); left; left /= 2)
            reduce->levels++;
    count = group + reduce->levels;
    if (reduce->stride > (SIZE_MAX - TWILL__LINE - count) / count)
        return false;
    bytes = count * reduce->stride;
    reduce->memory = NULL;
    if (bytes + count > small_size) {
        reduce->memory = (char *)TWILL_MALLOC(bytes + count + TWILL__LINE);
        if (!reduce->memory)
            return false;
        small = twill__aligned(reduce->memory);
    }
    reduce->acc = small;
    reduce->state = (unsigned char *)small + bytes;
    if (reduce->memory || reduce->reducer->dispose || reduce->levels)
        memset(reduce->state, TWILL__ACC_NONE, count);
    return true;
}

static inline bool twill__reduce_memory(twill__reduce *reduce, char *small, size_t small_size)
{
    const twill_reducer *reducer = reduce->reducer;
    unsigned np = twill__workers_for(&reduce->options->run, reduce->n);
    size_t group = 1;
    if (reducer->unordered) {
        reduce->stride = twill__round_up(reducer->size, TWILL__LINE);
        return twill__reduce_place(reduce, np, small, small_size) ||
               (np > 1 && twill__reduce_place(reduce, 1, small, small_size));
    }
    reduce->stride = reducer->dispose || reducer->size > TWILL__REDUCE_LOCAL
                         ? twill__round_up(reducer->size, TWILL__LINE)
                         : reducer->size;
    while (group < reduce->blocks &&
           (group < (size_t)np * 8 || group <= TWILL__REDUCE_LARGE / 2 / reduce->stride))
        group *= 2;
    while (!twill__reduce_place(reduce, group, small, small_size)) {
        if (group == 1)
            return false;
        group /= 2;
    }
    return true;
}

static inline void twill__reduce_cut(twill__reduce *reduce)
{
    size_t blocks = reduce->reducer->blocks;
    if (!blocks)
        blocks = reduce->n < 1024 ? 32 : reduce->n < 16384 ? 64 : 256;
    if (blocks > reduce->n)
        blocks = reduce->n;
    reduce->each = (reduce->n - 1) / blocks + 1;
    reduce->blocks = (reduce->n - 1) / reduce->each + 1;
}

static inline bool twill__reduce_valid(size_t n, const twill_reducer *reducer, const void *result,
                                       const twill_parallel_options *options)
{
    return reducer && result && reducer->fold && reducer->combine && (reducer->size || !n) &&
           twill__parallel_valid(options) &&
           (reducer->unordered || options->schedule != TWILL_SCHEDULE_COST);
}

static inline twill_status twill__reduce_nothing(const twill_reducer *reducer, void *result,
                                                 const twill_run *run)
{
    twill_task task = twill__task_outside(run);
    int code = twill__acc_make(reducer, result, &task);
    (void)twill__refuse(run, 0, code ? TWILL_FAILED : TWILL_OK);
    if (code && run->report) {
        run->report->first_error.index = SIZE_MAX;
        run->report->first_error.status = TWILL_FAILED;
        run->report->first_error.code = code;
    }
    return code ? TWILL_FAILED : TWILL_OK;
}

TWILL__DEFINE twill_status twill_parallel_reduce(size_t n, const twill_reducer *reducer,
                                                 void *result,
                                                 const twill_parallel_options *options)
{
    _Alignas(TWILL__LINE) char small[TWILL__REDUCE_SMALL];
    twill__reduce reduce;
    twill__steps_fn *steps;
    twill_status status;
    options = twill__parallel_options(options);
    status = twill__reduce_valid(n, reducer, result, options) ? twill__check_run(&options->run)
                                                              : TWILL_INVALID;
    if (status != TWILL_OK)
        return twill__refuse(&options->run, n, status);
    if (n == 0)
        return twill__reduce_nothing(reducer, result, &options->run);
    steps = reducer->unordered ? twill__unordered_steps : twill__reduce_steps;
    reduce.reducer = reducer;
    reduce.options = options;
    reduce.result = result;
    reduce.n = n;
    atomic_init(&reduce.failed, 0);
    twill__reduce_cut(&reduce);
    if (!twill__reduce_memory(&reduce, small, sizeof small))
        return twill__refuse(&options->run, n, TWILL_NO_MEMORY);
    if (reduce.memory || reducer->dispose)
        return twill__reduce_guarded(&reduce, steps);
    return twill__start(options, n, true, steps, &reduce, &reduce.cuts);
}

#endif

/* ---- parallel_map/filter.h ---- */
/* filter.h: filter: test all, then move what stays. */
#ifndef TWILL__PARALLEL_MAP_FILTER_H
#define TWILL__PARALLEL_MAP_FILTER_H

/* ---- filter ---- */

/* First a loop over the items: a bit an item says whether it is kept, a counter a block how many
   are. Then, with no callback any more, each block writes its items where they belong. So keep
   runs once an item, and a call that ends early has changed nothing. */

#define TWILL__FILTER_BLOCK 4096 /* items: 64 words of bits */
#define TWILL__FILTER_SMALL \
    (4 * TWILL__FILTER_BLOCK) /* items whose bits fit the caller's stack: 2 KiB */

typedef struct twill__filter {
    const char *in;
    char *out;
    size_t size, n, kept;
    twill_test_fn *keep;
    const twill_parallel_options *options;
    _Atomic uint64_t *bits; /* [(n + 63) / 64] */
    size_t *counts;         /* [blocks]: items that are kept; then the place of the first */
    size_t at;              /* first block of the wave that runs */
    char *memory;
    twill__cut *cuts;
    twill_run deaf;
} twill__filter;

static inline size_t twill__filter_blocks(size_t n)
{
    return n / TWILL__FILTER_BLOCK + (n % TWILL__FILTER_BLOCK != 0);
}

/* Bits of the items begin..end-1, all of one word. Two chunks may share a word. */
static inline void twill__filter_put(twill__filter *filter, size_t begin, size_t end, uint64_t bits)
{
    _Atomic uint64_t *word = &filter->bits[begin / 64];
    /* relaxed: the join makes them visible */
    if (end - begin == 64)
        atomic_store_explicit(word, bits, memory_order_relaxed);
    else if (bits)
        atomic_fetch_or_explicit(word, bits, memory_order_relaxed);
}

static inline void twill__filter_body(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    twill__filter *filter = (twill__filter *)job->data;
    twill__slot *me = &job->slot[task->worker];
    const char *item = filter->in + begin * filter->size;
    size_t size = filter->size, look, from = begin;
    twill_test_fn *keep = filter->keep;
    uint64_t bits = 0; /* of the items from..i-1 */
    twill__loop loop;
    size_t i = twill__loop_begin(&loop, job, me, begin, end);
    while ((look = twill__loop_look(&loop, i, end)) > i) {
        for (; i < look; item += size) {
            bool kept;
            task->index = i;
            kept = keep(item, task);
            bits |= (uint64_t)kept << i % 64;
            if (twill__loop_odd(&loop, 0) && !twill__loop_note(&loop, i, 0))
                end = look = i + 1;
            i++;
            if (i % 64 == 0) {
                twill__filter_put(filter, from, i, bits);
                from = i;
                bits = 0;
            }
        }
    }
    if (i > from)
        twill__filter_put(filter, from, i, bits);
    twill__loop_end(me, i);
}

static inline unsigned twill__popcount(uint64_t x)
{
    x -= x >> 1 & 0x5555555555555555u;
    x = (x & 0x3333333333333333u) + (x >> 2 & 0x3333333333333333u);
    return (unsigned)(((x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu) * 0x0101010101010101u >> 56);
}

static inline uint64_t twill__filter_bits(const twill__filter *filter, size_t word)
{
    return atomic_load_explicit(&filter->bits[word], memory_order_relaxed); /* after the join */
}

/* counts[]: the place of each block's first item. What lies above a stop is not kept. */
static inline void twill__filter_count(twill__filter *filter, size_t stop_at)
{
    size_t words = filter->n / 64 + (filter->n % 64 != 0);
    if (stop_at < filter->n - 1) {
        words = stop_at / 64 + 1;
        if (stop_at % 64 != 63)
            atomic_fetch_and_explicit(&filter->bits[words - 1], ((uint64_t)2 << stop_at % 64) - 1,
                                      memory_order_relaxed); /* nobody else is here */
        for (size_t word = words; word < filter->n / 64 + (filter->n % 64 != 0); word++)
            atomic_store_explicit(&filter->bits[word], 0, memory_order_relaxed);
    }
    filter->kept = 0;
    for (size_t block = 0, word = 0; block < twill__filter_blocks(filter->n); block++) {
        size_t end =
            words - word < TWILL__FILTER_BLOCK / 64 ? words : word + TWILL__FILTER_BLOCK / 64;
        filter->counts[block] = filter->kept;
        for (; word < end; word++)
            filter->kept += twill__popcount(twill__filter_bits(filter, word));
    }
}

static inline __attribute__((always_inline)) void twill__filter_copy(const twill__filter *filter,
                                                                     size_t block, size_t size)
{
    const char *in = filter->in + block * TWILL__FILTER_BLOCK * size;
    char *out = filter->out + filter->counts[block] * size;
    size_t words = filter->n / 64 + (filter->n % 64 != 0),
           word = block * (TWILL__FILTER_BLOCK / 64);
    size_t end = words - word < TWILL__FILTER_BLOCK / 64 ? words : word + TWILL__FILTER_BLOCK / 64;
    for (; word < end; word++, in += 64 * size) {
        uint64_t bits = twill__filter_bits(filter, word);
        if (bits == UINT64_MAX) { /* all of them: they may overlap their place */
            memmove(out, in, 64 * size);
            out += 64 * size;
            continue;
        }
        for (; bits; bits &= bits - 1, out += size) {
            const char *item = in + (size_t)__builtin_ctzll(bits) * size;
            if (item != out) /* whole items: never overlapping otherwise */
                memcpy(out, item, size);
        }
    }
}

static inline void twill__filter_block(const twill__filter *filter, size_t block)
{
    switch (filter->size) {
    case 4:
        twill__filter_copy(filter, block, 4);
        break;
    case 8:
        twill__filter_copy(filter, block, 8);
        break;
    case 16:
        twill__filter_copy(filter, block, 16);
        break;
    default:
        twill__filter_copy(filter, block, filter->size);
    }
}

static inline void twill__filter_write(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    const twill__filter *filter = (const twill__filter *)job->data;
    (void)task;
    for (size_t block = begin; block < end; block++)
        twill__filter_block(filter, filter->at + block);
}

/* In place, a block may be written once the lower ones that lie where it goes have moved. The
   lowest can always move; a wave are those that go below its old place, so they touch nobody
   else's. */
static inline size_t twill__filter_wave(const twill__filter *filter)
{
    size_t blocks = twill__filter_blocks(filter->n), end = filter->at + 1;
    if (filter->out != filter->in)
        return blocks;
    while (end < blocks && (end + 1 < blocks ? filter->counts[end + 1] : filter->kept) <=
                               filter->at * TWILL__FILTER_BLOCK)
        end++;
    return end;
}

static inline void twill__filter_steps(twill__job *job, void *data)
{
    twill__filter *filter = (twill__filter *)data;
    twill__sweep loop;
    size_t blocks = twill__filter_blocks(filter->n);
    twill__sweep_init(&loop, filter->n, twill__filter_body, filter, filter->options);
    loop.cuts = filter->cuts;
    twill__sweep_pass(job, &loop);
    if (!twill__all_well(job, filter->n)) {
        filter->kept = 0;
        return;
    }
    twill__filter_count(
        filter, atomic_load_explicit(&job->stop_at, memory_order_relaxed)); /* after the join */
    if (!filter->out)
        return;
    for (size_t end; filter->at < blocks; filter->at = end) {
        twill__pass pass = {.body = twill__filter_write, .data = filter, .parts = true};
        end = twill__filter_wave(filter);
        pass.n = end - filter->at;
        pass.forced = pass.n > 64 && twill__was_shared(job);
        if (pass.n == 1)
            twill__filter_block(filter, filter->at);
        else
            twill__run_deaf(job, &pass, &filter->deaf);
    }
}

static inline void twill__free_ended(void *memory)
{
    TWILL_FREE(memory);
}

/* The memory goes also if a callback ends the thread. */
static __attribute__((noinline)) twill_status twill__filter_guarded(twill__filter *filter)
{
    twill_status status;
    TWILL__GUARD_PUSH(twill__free_ended, filter->memory);
    status =
        twill__start(filter->options, filter->n, true, twill__filter_steps, filter, &filter->cuts);
    TWILL__GUARD_POP(0);
    TWILL_FREE(filter->memory);
    return status;
}

static inline bool twill__filter_memory(twill__filter *filter, uint64_t *small, size_t small_words)
{
    size_t words = filter->n / 64 + (filter->n % 64 != 0), blocks = twill__filter_blocks(filter->n);
    filter->memory = NULL;
    if (words + blocks > small_words) {
        filter->memory = (char *)TWILL_MALLOC(words * 8 + blocks * sizeof(size_t));
        if (!filter->memory)
            return false;
        small = (uint64_t *)(void *)filter->memory;
    }
    filter->bits = (_Atomic uint64_t *)(void *)small;
    filter->counts = (size_t *)(void *)(small + words);
    for (size_t word = 0; word < words; word++)
        atomic_init(&filter->bits[word], 0);
    return true;
}

TWILL__DEFINE twill_status twill_parallel_filter(const void *in, size_t size, size_t n, void *out,
                                                 size_t *out_n, twill_test_fn *keep,
                                                 const twill_parallel_options *options)
{
    uint64_t small[TWILL__FILTER_SMALL / 64 + 8];
    twill__filter filter;
    twill_status status = twill__items_check(in, size, n);
    options = filter.options = twill__parallel_options(options);
    filter.in = (const char *)in;
    filter.out = (char *)out;
    filter.size = size;
    filter.n = n;
    filter.keep = keep;
    filter.kept = filter.at = 0;
    if (!keep || !out_n || !twill__parallel_valid(options))
        status = TWILL_INVALID;
    if (out_n)
        *out_n = 0;
    if (status == TWILL_OK)
        status = twill__check_run(&options->run);
    if (status == TWILL_OK && !twill__filter_memory(&filter, small, sizeof small / sizeof *small))
        status = TWILL_NO_MEMORY;
    if (status != TWILL_OK)
        return twill__refuse(&options->run, n, status);
    status = filter.memory
                 ? twill__filter_guarded(&filter)
                 : twill__start(options, n, false, twill__filter_steps, &filter, &filter.cuts);
    if (status == TWILL_OK)
        *out_n = filter.kept;
    return status;
}

#endif

/* ---- parallel_map/scan.h ---- */
/* scan.h: scan: running combinations. */
#ifndef TWILL__PARALLEL_MAP_SCAN_H
#define TWILL__PARALLEL_MAP_SCAN_H

/* ---- scan ---- */

/* Who comes to the first block that is not summed up yet writes its results at once; blocks
   further on are only summed. Then the sums are carried from block to block, and a second pass
   writes what is missing. The caller begins at the front: alone, it combines each item once, as
   the serial loop does; two threads take 3/4 of that time, w threads (2 - 1/w) / w. STATIC writes
   nothing but block 0 in the first pass: each item meets the same partners always. */

#define TWILL__SCAN_SMALL 4608 /* bytes on the caller's stack: the sums of 256 blocks of 16 bytes */
#define TWILL__SCAN_LOCAL 256 /* elements up to this size are worked on on the worker's own stack */

enum { TWILL__SCAN_NONE, TWILL__SCAN_SUMMED, TWILL__SCAN_WRITTEN };

typedef struct twill__scan {
    const char *in;
    char *out;
    size_t size, n;
    const void *start; /* NULL: inclusive */
    twill_combine_fn *combine;
    const twill_parallel_options *options;
    size_t blocks, each;  /* items a block */
    size_t at;            /* first block of the pass */
    _Atomic size_t front; /* blocks summed up in `carry`, without a gap */
    char *carry;
    char *sum;            /* [blocks]: of the block; in the second pass, of all in front of it */
    char *work;           /* two elements a worker, where they are large */
    unsigned char *state; /* [blocks] */
    char *memory;
} twill__scan;

/* Writes a block. acc: the sum of all in front of it (unless it is the first of an inclusive
   scan), then that of all up to its end. spare: for the right operand. Returns the code of a
   combine, *i: of which item. */
static inline __attribute__((always_inline)) int twill__scan_write(const twill__scan *scan,
                                                                   size_t *at, size_t to, char *acc,
                                                                   char *spare, size_t size,
                                                                   const twill_task *task)
{
    const char *in = scan->in + *at * size;
    char *out = scan->out + *at * size;
    size_t i = *at, last = scan->n - 1;
    twill_combine_fn *combine = scan->combine;
    bool inclusive = !scan->start;
    int code = 0;
    if (inclusive && i == 0) {
        memcpy(acc, in, size);
        if (out != in)
            memcpy(out, in, size);
        i++;
        in += size;
        out += size;
    }
    for (; i < to; i++, in += size, out += size) {
        memcpy(spare, in, size);
        if (!inclusive)
            memcpy(out, acc, size);
        if (inclusive || i != last)
            code = combine(acc, spare, task);
        if (code)
            break;
        if (inclusive)
            memcpy(out, acc, size);
    }
    *at = i;
    return code;
}

static inline __attribute__((always_inline)) int twill__scan_sum(const twill__scan *scan,
                                                                 size_t *at, size_t to, char *acc,
                                                                 char *spare, size_t size,
                                                                 const twill_task *task)
{
    const char *in = scan->in + *at * size;
    size_t i = *at;
    int code = 0;
    memcpy(acc, in, size);
    for (i++, in += size; i < to; i++, in += size) {
        memcpy(spare, in, size);
        code = scan->combine(acc, spare, task);
        if (code)
            break;
    }
    *at = i;
    return code;
}

static inline int twill__scan_block(const twill__scan *scan, bool write, size_t *at, size_t to,
                                    char *acc, char *spare, const twill_task *task)
{
    switch (scan->size) {
    case 4:
        return write ? twill__scan_write(scan, at, to, acc, spare, 4, task)
                     : twill__scan_sum(scan, at, to, acc, spare, 4, task);
    case 8:
        return write ? twill__scan_write(scan, at, to, acc, spare, 8, task)
                     : twill__scan_sum(scan, at, to, acc, spare, 8, task);
    case 16:
        return write ? twill__scan_write(scan, at, to, acc, spare, 16, task)
                     : twill__scan_sum(scan, at, to, acc, spare, 16, task);
    default:
        return write ? twill__scan_write(scan, at, to, acc, spare, scan->size, task)
                     : twill__scan_sum(scan, at, to, acc, spare, scan->size, task);
    }
}

/* One block. carry: what precedes it, where it is written. */
static inline void twill__scan_one(twill__job *job, twill__scan *scan, twill_task *task, size_t k,
                                   bool write, const char *carry, char *acc, char *spare)
{
    twill__slot *me = &job->slot[task->worker];
    size_t block = scan->at + k, from = block * scan->each, at = from;
    size_t to = scan->n - from < scan->each ? scan->n : from + scan->each;
    int code;
    task->index = from;
    if (write && (from || scan->start))
        memcpy(acc, carry, scan->size);
    code = twill__scan_block(scan, write, &at, to, acc, spare, task);
    me->said = 0;
    me->fail_index = SIZE_MAX;
    if (write) {
        me->fail_index = at;
        twill__range_end(job, me, k, from, to, code);
    } else if (code) {
        twill__item_failed(job, me, k, at, TWILL_FAILED, code);
    }
    if (!code)
        scan->state[block] = write ? TWILL__SCAN_WRITTEN : TWILL__SCAN_SUMMED;
}

static inline void twill__scan_first(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    twill__scan *scan = (twill__scan *)job->data;
    _Alignas(64) char local[2 * TWILL__SCAN_LOCAL];
    char *acc = scan->work ? scan->work + 2 * task->worker * scan->size : local;
    char *spare = acc + scan->size;
    bool fixed = scan->options->schedule == TWILL_SCHEDULE_STATIC;
    if (!scan->work)
        spare = local + TWILL__SCAN_LOCAL;
    for (size_t k = begin; k < end && twill__block_may_run(job, k); k++) {
        /* acquire, release: who finds its block in front finds the carry, too */
        bool write =
            (!fixed || k == 0) && atomic_load_explicit(&scan->front, memory_order_acquire) == k;
        if (!write && k == scan->blocks - 1)
            break; /* its sum is of no use */
        twill__scan_one(job, scan, task, k, write, scan->carry, acc, spare);
        if (scan->state[k] == TWILL__SCAN_WRITTEN) {
            memcpy(scan->carry, acc, scan->size);
            atomic_store_explicit(&scan->front, k + 1, memory_order_release);
        } else if (scan->state[k] == TWILL__SCAN_SUMMED) {
            memcpy(scan->sum + k * scan->size, acc, scan->size);
        }
    }
    task->index = SIZE_MAX;
}

static inline void twill__scan_second(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    twill__scan *scan = (twill__scan *)job->data;
    _Alignas(64) char local[2 * TWILL__SCAN_LOCAL];
    char *acc = scan->work ? scan->work + 2 * task->worker * scan->size : local;
    char *spare = scan->work ? acc + scan->size : local + TWILL__SCAN_LOCAL;
    for (size_t k = begin; k < end && twill__block_may_run(job, k); k++)
        twill__scan_one(job, scan, task, k, true, scan->sum + (scan->at + k) * scan->size, acc,
                        spare);
    task->index = SIZE_MAX;
}

/* From what blocks hold to what precedes them; `need` blocks. False: a combine has failed. */
static inline bool twill__scan_carry(twill__job *job, twill__scan *scan, size_t need)
{
    _Alignas(64) char local[TWILL__SCAN_LOCAL];
    char *spare = scan->work ? scan->work : local;
    twill_task task;
    twill__task_init(job, 0, &task);
    for (size_t block = scan->at; block < need; block++) {
        char *sum = scan->sum + block * scan->size;
        int code = 0;
        memcpy(spare, sum, scan->size);
        memcpy(sum, scan->carry, scan->size);
        if (block + 1 < need)
            code = scan->combine(scan->carry, spare, &task);
        job->slot[0].said = 0;
        if (code) {
            twill__item_failed(job, &job->slot[0], block, block * scan->each, TWILL_FAILED, code);
            return false;
        }
    }
    return true;
}

static inline void twill__scan_steps(twill__job *job, void *data)
{
    twill__scan *scan = (twill__scan *)data;
    twill__pass pass = {.n = scan->blocks, .body = twill__scan_first, .data = scan, .parts = true};
    size_t need = scan->blocks, stop_at;
    pass.unit = scan->each;
    twill__run_pass(job, &pass);
    stop_at = atomic_load_explicit(&job->stop_at, memory_order_relaxed); /* after the join */
    if (stop_at != SIZE_MAX)
        need = twill__place_of(job, stop_at) + 1;
    scan->at = atomic_load_explicit(&scan->front, memory_order_relaxed);
    for (size_t block = 0; block < need; block++)
        if (scan->state[block] == TWILL__SCAN_NONE && block != scan->blocks - 1)
            return;
    /* relaxed: between passes nobody else is here */
    if (scan->at >= need || atomic_load_explicit(&job->stop, memory_order_relaxed) ||
        !twill__scan_carry(job, scan, need))
        return;
    pass.n = need - scan->at;
    pass.body = twill__scan_second;
    pass.first = scan->at * scan->each;
    pass.forced = twill__was_shared(job);
    twill__run_pass(job, &pass);
}

static inline bool twill__scan_memory(twill__scan *scan, char *small, size_t small_size)
{
    unsigned np = twill__workers_for(&scan->options->run, scan->n);
    size_t elements, works = scan->size > TWILL__SCAN_LOCAL ? (size_t)np * 2 : 0;
    size_t blocks = np == 1 && scan->options->schedule == TWILL_SCHEDULE_AUTO ? 1
                    : scan->n < 16384                                         ? 64
                                                                              : 256;
    scan->each = (scan->n - 1) / blocks + 1;
    if (scan->each < 16)
        scan->each = 16;
    scan->blocks = (scan->n - 1) / scan->each + 1;
    scan->memory = NULL;
    elements = scan->blocks + works + 1;
    if (scan->size > (SIZE_MAX - TWILL__LINE - scan->blocks) / elements)
        return false;
    if (elements * scan->size + scan->blocks > small_size) {
        scan->memory = (char *)TWILL_MALLOC(elements * scan->size + scan->blocks + TWILL__LINE);
        if (!scan->memory)
            return false;
        small = twill__aligned(scan->memory);
    }
    scan->sum = small;
    scan->carry = small + scan->blocks * scan->size;
    scan->work = works ? scan->carry + scan->size : NULL;
    scan->state = (unsigned char *)small + elements * scan->size;
    memset(scan->state, TWILL__SCAN_NONE, scan->blocks);
    if (scan->start)
        memcpy(scan->carry, scan->start, scan->size);
    return true;
}

static __attribute__((noinline)) twill_status twill__scan_guarded(twill__scan *scan)
{
    twill_status status;
    TWILL__GUARD_PUSH(twill__free_ended, scan->memory);
    status = twill__run_call(&scan->options->run, scan->n, true, twill__scan_steps, scan);
    TWILL__GUARD_POP(0);
    TWILL_FREE(scan->memory);
    return status;
}

TWILL__DEFINE twill_status twill_parallel_scan(const void *in, void *out, size_t size, size_t n,
                                               const void *start, twill_combine_fn *combine,
                                               const twill_parallel_options *options)
{
    _Alignas(TWILL__LINE) char small[TWILL__SCAN_SMALL];
    twill__scan scan = {
        .in = (const char *)in, .out = (char *)out, .size = size, .n = n, .start = start};
    twill_status status = twill__items_check(in, size, n);
    scan.combine = combine;
    options = scan.options = twill__parallel_options(options);
    if (!combine || (n && !out) || (unsigned)options->schedule > TWILL_SCHEDULE_STATIC ||
        options->chunk || options->cost_of)
        status = TWILL_INVALID;
    if (status == TWILL_OK)
        status = twill__check_run(&options->run);
    if (status == TWILL_OK && n && !twill__scan_memory(&scan, small, sizeof small))
        status = TWILL_NO_MEMORY;
    if (status != TWILL_OK)
        return twill__refuse(&options->run, n, status);
    if (n && scan.memory)
        return twill__scan_guarded(&scan);
    return twill__run_call(&options->run, n, true, twill__scan_steps, &scan);
}

#endif

/* ---- parallel_map/sort.h ---- */
/* sort.h: a stable merge sort. */
#ifndef TWILL__PARALLEL_MAP_SORT_H
#define TWILL__PARALLEL_MAP_SORT_H

/* ---- sort ---- */

/* A stable merge sort. Runs are sorted in base, one by one worker; then neighbours are merged,
   level by level, from base to spare memory and back. A level is cut into pieces of equal output,
   and a binary search finds what each of them takes from its two runs, so all workers are busy in
   the last merge, too. (S. Odeh et al., "Merge Path", IPDPSW 2012.) A level only reads the one
   side, so that side always holds all items. Large items are sorted by pointers, and moved once
   at the end. */

#define TWILL__SORT_LEAF     6    /* items sorted by insertion */
#define TWILL__SORT_INDIRECT 32   /* bytes of an item above which pointers are sorted */
#define TWILL__SORT_SMALL    1024 /* bytes on the caller's stack */

typedef struct twill__sort {
    char *base, *spare; /* spare: as large as base */
    char *pointers;     /* NULL, or two arrays of n; spare is then used at the end only */
    size_t n, size;
    twill_compare_fn *compare;
    const twill_parallel_options *options;
    void (*sort_run)(const struct twill__sort *sort, char *x, char *y, size_t n, bool into_y,
                     const twill_task *task);
    void (*merge_piece)(const struct twill__sort *sort, size_t begin, const twill_task *task);
    size_t run, runs;     /* items a run, and a piece */
    size_t width;         /* items in each of the two runs of a merge */
    char *from, *to;      /* a merge's sides */
    _Atomic size_t ended; /* runs or pieces of the pass */
    char *memory;
    twill_run deaf;
} twill__sort;

/* An item of at most TWILL__SORT_INDIRECT bytes: a call of memcpy would cost more than the copy. */
static inline __attribute__((always_inline)) void twill__copy_item(char *out, const char *in,
                                                                   size_t size)
{
    if (size == 4 || size == 8 || size == 16) {
        memcpy(out, in, size == 4 ? 4 : size == 8 ? 8 : 16);
        return;
    }
    for (; size >= 8; size -= 8, in += 8, out += 8)
        memcpy(out, in, 8);
    if (size >= 4) {
        memcpy(out, in, 4);
        in += 4;
        out += 4;
        size -= 4;
    }
    for (; size > 0; size--)
        *out++ = *in++;
}

/* Whether a belongs behind b, which stands behind it. */
static inline __attribute__((always_inline)) bool twill__after(twill_compare_fn *compare,
                                                               const char *a, const char *b,
                                                               bool indirect,
                                                               const twill_task *task)
{
    if (indirect)
        return compare(*(const void *const *)(const void *)a, *(const void *const *)(const void *)b,
                       task) > 0;
    return compare(a, b, task) > 0;
}

static inline __attribute__((always_inline)) void twill__sort_leaf(twill_compare_fn *compare,
                                                                   char *x, size_t n, size_t size,
                                                                   bool indirect,
                                                                   const twill_task *task)
{
    _Alignas(64) char item[TWILL__SORT_INDIRECT];
    for (size_t i = 1; i < n; i++) {
        char *at = x + i * size;
        if (!twill__after(compare, at - size, at, indirect, task))
            continue;
        twill__copy_item(item, at, size);
        do {
            twill__copy_item(at, at - size, size);
            at -= size;
        } while (at > x && twill__after(compare, at - size, item, indirect, task));
        twill__copy_item(at, item, size);
    }
}

/* a .. a_end and b .. b_end become out. The choice is arithmetic, since no branch predictor can
   know it; but behind pointers a guess that is right half the time is worth more, as it has the
   next items fetched meanwhile. */
static inline __attribute__((always_inline)) void
twill__merge(twill_compare_fn *compare, const char *a, const char *a_end, const char *b,
             const char *b_end, char *out, size_t size, bool indirect, const twill_task *task)
{
    while (indirect && a < a_end && b < b_end) {
        if (twill__after(compare, a, b, true, task)) {
            twill__copy_item(out, b, size);
            b += size;
        } else {
            twill__copy_item(out, a, size);
            a += size;
        }
        out += size;
    }
    while (a < a_end && b < b_end) {
        size_t right = twill__after(compare, a, b, indirect, task);
        twill__copy_item(out, right ? b : a, size);
        b += right * size;
        a += size - right * size;
        out += size;
    }
    if (a < a_end)
        memcpy(out, a, (size_t)(a_end - a));
    else if (b < b_end)
        memcpy(out, b, (size_t)(b_end - b));
}

/* How many of the first d items of a merge come from a; lo and hi bound it, also where compare
   contradicts itself. */
static inline __attribute__((always_inline)) size_t
twill__merge_split(twill_compare_fn *compare, const char *a, const char *b, size_t d, size_t lo,
                   size_t hi, size_t size, bool indirect, const twill_task *task)
{
    while (lo < hi) {
        size_t middle = lo + (hi - lo) / 2;
        if (twill__after(compare, a + middle * size, b + (d - 1 - middle) * size, indirect, task))
            hi = middle;
        else
            lo = middle + 1;
    }
    return lo;
}

/* The items begin .. begin + run - 1 of a level's output. */
static inline __attribute__((always_inline)) void twill__merge_part(const twill__sort *sort,
                                                                    size_t begin, size_t size,
                                                                    bool indirect,
                                                                    const twill_task *task)
{
    twill_compare_fn *compare = sort->compare;
    size_t first = begin / sort->width / 2 * 2 * sort->width, left = sort->n - first;
    size_t a_n = left < sort->width ? left : sort->width,
           b_n = left - a_n < sort->width ? left - a_n : sort->width;
    const char *a = sort->from + first * size, *b = a + a_n * size;
    size_t d = begin - first, d_end = a_n + b_n - d < sort->run ? a_n + b_n : d + sort->run, lo, hi;
    lo = twill__merge_split(compare, a, b, d, d > b_n ? d - b_n : 0, d < a_n ? d : a_n, size,
                            indirect, task);
    hi = d_end - d < a_n - lo ? lo + (d_end - d) : a_n;
    hi =
        twill__merge_split(compare, a, b, d_end, d_end > b_n && d_end - b_n > lo ? d_end - b_n : lo,
                           hi, size, indirect, task);
    twill__merge(compare, a + lo * size, a + hi * size, b + (d - lo) * size,
                 b + (d_end - hi) * size, sort->to + begin * size, size, indirect, task);
}

/* For each size that is worth it, with the size as a constant. NAME_run sorts n items of x, with
   y as memory; the result is in y if into_y, else in x. */
#define TWILL__DEFINE_SORT(NAME, SIZE, INDIRECT)                                                \
    static void NAME##_run(const twill__sort *sort, char *x, char *y, size_t n, bool into_y,    \
                           const twill_task *task)                                              \
    {                                                                                           \
        size_t size = SIZE, half = n / 2;                                                       \
        char *from = into_y ? x : y, *to = into_y ? y : x;                                      \
        if (n <= TWILL__SORT_LEAF) {                                                            \
            twill__sort_leaf(sort->compare, x, n, size, INDIRECT, task);                        \
            if (into_y)                                                                         \
                memcpy(y, x, n *size);                                                          \
            return;                                                                             \
        }                                                                                       \
        NAME##_run(sort, x, y, half, !into_y, task);                                            \
        NAME##_run(sort, x + half * size, y + half * size, n - half, !into_y, task);            \
        if (twill__after(sort->compare, from + (half - 1) * size, from + half * size, INDIRECT, \
                         task))                                                                 \
            twill__merge(sort->compare, from, from + half * size, from + half * size,           \
                         from + n * size, to, size, INDIRECT, task);                            \
        else                                                                                    \
            memcpy(to, from, n *size);                                                          \
    }                                                                                           \
    static void NAME##_piece(const twill__sort *sort, size_t begin, const twill_task *task)     \
    {                                                                                           \
        twill__merge_part(sort, begin, SIZE, INDIRECT, task);                                   \
    }

TWILL__DEFINE_SORT(twill__sort_4, 4, false)
TWILL__DEFINE_SORT(twill__sort_8, 8, false)
TWILL__DEFINE_SORT(twill__sort_16, 16, false)
TWILL__DEFINE_SORT(twill__sort_any, sort->size, false)
TWILL__DEFINE_SORT(twill__sort_far, sizeof(char *), true)

static inline void twill__sort_choose(twill__sort *sort)
{
    switch (sort->size) {
    case 4:
        sort->sort_run = twill__sort_4_run;
        sort->merge_piece = twill__sort_4_piece;
        break;
    case 8:
        sort->sort_run = twill__sort_8_run;
        sort->merge_piece = twill__sort_8_piece;
        break;
    case 16:
        sort->sort_run = twill__sort_16_run;
        sort->merge_piece = twill__sort_16_piece;
        break;
    default:
        sort->sort_run = sort->pointers ? twill__sort_far_run : twill__sort_any_run;
        sort->merge_piece = sort->pointers ? twill__sort_far_piece : twill__sort_any_piece;
    }
}

static inline size_t twill__sort_item(const twill__sort *sort)
{
    return sort->pointers ? sizeof(char *) : sort->size;
}

static inline void twill__sort_runs(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    twill__sort *sort = (twill__sort *)job->data;
    size_t size = twill__sort_item(sort), k = begin;
    for (; k < end && twill__block_may_run(job, k); k++) {
        size_t first = k * sort->run, n = sort->n - first < sort->run ? sort->n - first : sort->run;
        char *x = sort->from + first * size;
        task->index = first;
        if (sort->pointers)
            for (size_t i = 0; i < n; i++) {
                const char *item = sort->base + (first + i) * sort->size;
                memcpy(x + i * sizeof item, &item, sizeof item);
            }
        sort->sort_run(sort, x, sort->to + first * size, n, false, task);
    }
    task->index = SIZE_MAX;
    job->slot[task->worker].said = 0;
    atomic_fetch_add_explicit(&sort->ended, k - begin,
                              memory_order_relaxed); /* read after the join */
}

static inline void twill__sort_pieces(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    twill__sort *sort = (twill__sort *)job->data;
    size_t k = begin;
    for (; k < end && twill__block_may_run(job, k); k++) {
        task->index = k * sort->run;
        sort->merge_piece(sort, task->index, task);
    }
    task->index = SIZE_MAX;
    job->slot[task->worker].said = 0;
    atomic_fetch_add_explicit(&sort->ended, k - begin,
                              memory_order_relaxed); /* read after the join */
}

/* Pointers are in order: the items follow them to spare, and then back. */
static inline void twill__sort_gather(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    const twill__sort *sort = (const twill__sort *)job->data;
    size_t last = end * sort->run < sort->n ? end * sort->run : sort->n;
    (void)task;
    for (size_t i = begin * sort->run; i < last; i++) {
        const char *item;
        memcpy(&item, sort->from + i * sizeof item, sizeof item);
        memcpy(sort->spare + i * sort->size, item, sort->size);
    }
}

static inline void twill__sort_return(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    const twill__sort *sort = (const twill__sort *)job->data;
    size_t first = begin * sort->run, last = end * sort->run < sort->n ? end * sort->run : sort->n;
    (void)task;
    memcpy(sort->base + first * sort->size, sort->spare + first * sort->size,
           (last - first) * sort->size);
}

/* Whether each pointer points to its own place: they were in order before. */
static inline bool twill__sort_in_place(const twill__sort *sort)
{
    for (size_t i = 0; i < sort->n; i++) {
        const char *item;
        memcpy(&item, sort->from + i * sizeof item, sizeof item);
        if (item != sort->base + i * sort->size)
            return false;
    }
    return true;
}

/* One pass over the runs or pieces. False: not all of it was done. */
static inline bool twill__sort_pass(twill__job *job, twill__sort *sort, twill__body_fn *body)
{
    twill__pass pass = {.n = sort->runs, .body = body, .data = sort, .parts = true};
    pass.unit = sort->run;
    pass.forced = sort->n >= 4096 && twill__was_shared(job);
    atomic_store_explicit(&sort->ended, 0,
                          memory_order_relaxed); /* nobody else is here; opening publishes */
    twill__run_pass(job, &pass);
    return atomic_load_explicit(&sort->ended, memory_order_relaxed) == sort->runs;
}

/* All items are in base again, in whatever order. */
static inline void twill__sort_put_back(twill__sort *sort)
{
    if (!sort->pointers && sort->from == sort->spare)
        memcpy(sort->base, sort->spare, sort->n * sort->size);
    sort->from = sort->base;
}

static inline bool twill__sort_all(twill__job *job, twill__sort *sort)
{
    if (!twill__sort_pass(job, sort, twill__sort_runs))
        return false;
    for (sort->width = sort->run; sort->width < sort->n;) {
        char *to = sort->to;
        if (!twill__sort_pass(job, sort, twill__sort_pieces))
            return false;
        sort->to = sort->from;
        sort->from = to;
        sort->width = sort->width > SIZE_MAX / 4 ? sort->n : sort->width * 2;
    }
    return true;
}

static inline void twill__sort_steps(twill__job *job, void *data)
{
    twill__sort *sort = (twill__sort *)data;
    if (!twill__sort_all(job, sort)) {
        twill__sort_put_back(sort);
        return;
    }
    if (sort->pointers && !twill__sort_in_place(sort)) {
        twill__pass pass = {
            .n = sort->runs, .body = twill__sort_gather, .data = sort, .parts = true};
        pass.unit = sort->run;
        twill__run_deaf(job, &pass, &sort->deaf);
        pass.body = twill__sort_return;
        twill__run_deaf(job, &pass, &sort->deaf);
    }
    job->slot[0].said = 0;
    job->slot[0].fail_index = SIZE_MAX;
    twill__range_end(job, &job->slot[0], SIZE_MAX, 0, sort->n, 0);
}

/* How many runs: a power of 4, so that the last level ends in base. One where nobody could help
   and nothing end it. */
static inline void twill__sort_cut(twill__sort *sort)
{
    const twill_run *run = &sort->options->run;
    unsigned np = twill__workers_for(run, sort->n);
    size_t runs = np <= 8 ? 64 : np <= 32 ? 256 : 1024;
    if (np == 1 && !run->until.cancel && !run->until.deadline)
        runs = 1;
    while (runs > 1 && sort->n / runs < 32)
        runs /= 4;
    sort->run = (sort->n - 1) / runs + 1;
    sort->runs = (sort->n - 1) / sort->run + 1;
}

static inline bool twill__sort_memory(twill__sort *sort, char *small, size_t small_size)
{
    size_t bytes = sort->n * sort->size, pointers = 0;
    if (sort->size > TWILL__SORT_INDIRECT)
        pointers = 2 * sort->n * sizeof(char *); /* fits: an item is larger than two pointers */
    if (bytes > SIZE_MAX - pointers - TWILL__LINE)
        return false;
    sort->memory = NULL;
    if (bytes + pointers > small_size) {
        sort->memory = (char *)TWILL_MALLOC(bytes + pointers + TWILL__LINE);
        if (!sort->memory)
            return false;
        small = twill__aligned(sort->memory);
    }
    sort->pointers = pointers ? small : NULL;
    sort->spare = small + pointers;
    sort->from = pointers ? small : sort->base;
    sort->to = pointers ? small + pointers / 2 : sort->spare;
    return true;
}

/* The calling thread has ended in compare: helpers are gone, the call is closed. */
static inline void twill__sort_ended(void *data)
{
    twill__sort *sort = (twill__sort *)data;
    twill__sort_put_back(sort);
    if (sort->memory)
        TWILL_FREE(sort->memory);
}

static __attribute__((noinline)) twill_status twill__sort_guarded(twill__sort *sort)
{
    twill_status status;
    TWILL__GUARD_PUSH(twill__sort_ended, sort);
    status = twill__run_call(&sort->options->run, sort->n, true, twill__sort_steps, sort);
    TWILL__GUARD_POP(0);
    if (sort->memory)
        TWILL_FREE(sort->memory);
    return status;
}

TWILL__DEFINE twill_status twill_parallel_sort(void *base, size_t n, size_t size,
                                               twill_compare_fn *compare,
                                               const twill_parallel_options *options)
{
    _Alignas(TWILL__LINE) char small[TWILL__SORT_SMALL];
    twill__sort sort;
    twill_status status = twill__items_check(base, size, n);
    options = sort.options = twill__parallel_options(options);
    sort.base = (char *)base;
    sort.n = n;
    sort.size = size;
    sort.compare = compare;
    sort.memory = NULL;
    sort.pointers = NULL;
    sort.from = sort.base;
    if (!compare || options->schedule || options->chunk || options->cost_of)
        status = TWILL_INVALID;
    if (status == TWILL_OK)
        status = twill__check_run(&options->run);
    if (status == TWILL_OK && n) {
        if (twill__sort_memory(&sort, small, sizeof small)) {
            twill__sort_choose(&sort);
            twill__sort_cut(&sort);
        } else {
            status = TWILL_NO_MEMORY;
        }
    }
    if (status != TWILL_OK)
        return twill__refuse(&options->run, n, status);
    return twill__sort_guarded(&sort);
}

#endif

#endif
#endif
#ifdef TWILL_IMPLEMENTATION
#ifndef TWILL__PRODUCER_CONSUMER_IMPL
#define TWILL__PRODUCER_CONSUMER_IMPL

/* ---- engine/queue.h ---- */
/* queue.h: a bounded queue under a small lock: the store, those who wait, and the books. */
#ifndef TWILL__ENGINE_QUEUE_H
#define TWILL__ENGINE_QUEUE_H

/* ---- engine/queue_store.h ---- */
/* queue_store.h: places for items of any size: a ring, or a heap for priorities. No lock, no
   wait. */
#ifndef TWILL__ENGINE_QUEUE_STORE_H
#define TWILL__ENGINE_QUEUE_STORE_H

typedef struct twill__cell { /* what is known of an item */
    uint64_t number;         /* of its acceptance */
    twill_ns at;             /* when it was accepted; 0: times are not kept */
    int64_t key;             /* heap: the smaller leaves sooner; equal: the smaller number */
    size_t bytes;
} twill__cell;

typedef struct twill__store {
    size_t size, capacity, length; /* size of an item; places; items inside */
    char *items;
    twill__cell *cells; /* NULL: the place of an item says its number */
    size_t *heap;       /* places: [0, length) are a heap, the rest are free; NULL: a ring */
    size_t head;        /* ring: the place of the oldest */
    bool lifo;
    uint64_t next; /* the number of the next item */
} twill__store;

/* Small sizes without a call. */
static inline void twill__copy(void *to, const void *from, size_t size)
{
    if (size == 8)
        memcpy(to, from, 8);
    else if (size == 4)
        memcpy(to, from, 4);
    else
        memcpy(to, from, size);
}

/* Ring: the place of the k-th item from the oldest. */
static inline size_t twill__place_at(const twill__store *store, size_t k)
{
    size_t left = store->capacity - store->head;
    return k < left ? store->head + k : k - left;
}

/* ---- heap ---- */
/* After J. W. J. Williams, "Algorithm 232: Heapsort", CACM 7 (1964): here of places, so that items
   stay where they are. */

static inline bool twill__sooner(const twill__store *store, size_t place, size_t other)
{
    const twill__cell *a = &store->cells[place], *b = &store->cells[other];
    return a->key != b->key ? a->key < b->key : a->number < b->number;
}

static inline void twill__sift_up(twill__store *store, size_t at, size_t place)
{
    while (at > 0 && twill__sooner(store, place, store->heap[(at - 1) / 2])) {
        store->heap[at] = store->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    store->heap[at] = place;
}

static inline void twill__sift_down(twill__store *store, size_t at, size_t place)
{
    for (size_t child; at < store->length / 2; at = child) {
        child = 2 * at + 1;
        if (child + 1 < store->length &&
            twill__sooner(store, store->heap[child + 1], store->heap[child]))
            child++;
        if (!twill__sooner(store, store->heap[child], place))
            break;
        store->heap[at] = store->heap[child];
    }
    store->heap[at] = place;
}

static inline void twill__heap_remove(twill__store *store, size_t at)
{
    size_t gone = store->heap[at], last = store->heap[--store->length];
    if (at < store->length) {
        if (at > 0 && twill__sooner(store, last, store->heap[(at - 1) / 2]))
            twill__sift_up(store, at, last);
        else
            twill__sift_down(store, at, last);
    }
    store->heap[store->length] = gone; /* free */
}

/* ---- in, out ---- */

/* There is room. */
static inline void twill__store_put(twill__store *store, const void *item, const twill__cell *cell)
{
    size_t place = store->heap ? store->heap[store->length] : twill__place_at(store, store->length);
    twill__copy(store->items + place * store->size, item, store->size);
    if (store->cells)
        store->cells[place] = *cell;
    store->length++;
    if (store->heap)
        twill__sift_up(store, store->length - 1, place);
}

typedef enum twill__which { TWILL__NEXT, TWILL__OLDEST, TWILL__NEWEST } twill__which;

/* Where in the heap (or, in a ring, how far from the oldest) an item stands. There is one. */
static inline size_t twill__store_find(const twill__store *store, twill__which which)
{
    size_t found = 0;
    if (!store->heap) {
        bool last = which == TWILL__NEWEST || (which == TWILL__NEXT && store->lifo);
        return last ? store->length - 1 : 0;
    }
    for (size_t at = 1; which != TWILL__NEXT && at < store->length; at++) {
        uint64_t number = store->cells[store->heap[at]].number;
        uint64_t best = store->cells[store->heap[found]].number;
        if (which == TWILL__OLDEST ? number < best : number > best)
            found = at;
    }
    return found;
}

/* What is known of the item at `at`, as twill__store_find said it. */
static inline twill__cell twill__store_cell(const twill__store *store, size_t at)
{
    twill__cell cell = {store->next - store->length + at, 0, 0, 0};
    if (store->cells)
        cell = store->cells[store->heap ? store->heap[at] : twill__place_at(store, at)];
    return cell;
}

/* Takes the item at `at` (in a ring: the first or the last); `to` may be NULL. */
static inline void twill__store_take(twill__store *store, size_t at, void *to)
{
    size_t place = store->heap ? store->heap[at] : twill__place_at(store, at);
    if (to)
        twill__copy(to, store->items + place * store->size, store->size);
    if (store->heap) {
        twill__heap_remove(store, at);
        return;
    }
    if (at == 0)
        store->head = twill__place_at(store, 1);
    store->length--;
}

#endif

/* Everything is decided under one lock by one function, twill__queue_settle: it moves items of
   waiting pushers into the store and items of the store to waiting poppers until nothing moves any
   more. So while the lock is free, no popper waits beside an item that it could have, and no
   pusher at the head of its list beside room that it could use.

   The protocol of engine/cancel.h, with one bit more. A select waits in the lists of several
   queues, each with a lock of its own, on one word; a granter must own that wait before it copies
   an item. TAKEN is set by a compare-and-swap that fails once TAKEN or LEAVING is there, so exactly
   one queue gets the waiter, and a waiter that finds TAKEN beside its LEAVING knows that GRANTED
   follows. RETRY beside GRANTED: the waiter still stands in the list, and looks again by itself. */
enum { TWILL__TAKEN = 8, TWILL__RETRY = 16 };
enum { TWILL__AGAIN = -1, TWILL__ELSEWHERE = -2 }; /* beside the public statuses */
enum { TWILL__KEPT = 4096 }; /* bytes of the largest item that a drop callback can be given */

typedef struct twill__waiter { /* one thread's place in one list */
    struct twill__waiter *next, *previous;
    twill__node *node;
    const char *from;  /* items to push */
    char *to;          /* room for items to pop */
    uint64_t *numbers; /* of the items popped; may be NULL */
    size_t n, done;
    bool whole;         /* push: all of them at once; pop: not before all n are there */
    bool shared;        /* the node waits elsewhere, too */
    bool listed, first; /* first: it was, when it left the list */
    twill__cell cell;   /* key and bytes of an item to push */
    twill_ns since;
} twill__waiter;

typedef struct twill__queue_list { /* in order of arrival */
    twill__waiter *first, *last;
} twill__queue_list;

/* A callback of the queue that runs now, on its caller's stack. */
typedef struct twill__queue_calling {
    struct twill__queue_calling *next;
    uint64_t thread;
} twill__queue_calling;

typedef struct twill__queue_counts {
    uint64_t accepted, popped, dropped, expired, cleared, rejected, push_waits, pop_waits, wakes;
    size_t peak;
    twill_ns push_wait_total, push_wait_max, pop_wait_total, pop_wait_max, age_total, age_max;
} twill__queue_counts;

typedef struct twill_queue {
    _Atomic uint32_t lock;
    /* under the lock */
    bool doomed, telling, is_high;
    twill__store store;
    size_t bytes;
    twill__queue_list pushers, poppers, watchers, joiners;
    twill__node *destroyer;
    twill__queue_calling *calls;
    /* accepted, and neither task_done nor dropped; task_done */
    uint64_t unfinished, finished;
    /* how often the level changed; how often it was told */
    uint64_t level_turns, told;
    unsigned pushing, popping; /* threads that wait outside the lock for a moment */
    unsigned producers;
    twill__queue_counts counts;
    /* read without the lock, written under it */
    _Atomic size_t length;
    _Atomic uint32_t closed; /* 0; CLOSED or FAILED: what a drained queue answers */
    _Atomic int code;
    _Alignas(TWILL__LINE) _Atomic uint32_t filled, freed; /* change for those who wait outside */
    /* set at creation */
    _Alignas(TWILL__LINE) uint32_t generation;
    const _Atomic uint32_t *mark; /* holds the generation of this process */
    twill_overflow overflow;
    bool times;       /* cells keep them */
    twill_ns max_age; /* TWILL_FOREVER: none */
    size_t max_bytes, high_mark, low_mark;
    twill_ns ageing;
    int (*priority_of)(const void *item, const twill_task *task);
    size_t (*bytes_of)(const void *item, const twill_task *task);
    twill_drop_fn *drop;
    void (*on_level)(bool high, size_t length, const twill_task *task);
    void *context, *memory;
    /* a call around it: instead of waiting for room, do something about it (1), unless somebody
       else will (0) or this thread cannot (-1). Whoever makes *others 0 tells the waiting pushers
       then */
    int (*relief)(void *data);
    void *relief_data;
    const _Atomic uint32_t *others;
} twill__queue;

/* ---- lists ---- */

static inline void twill__enlist(twill__queue_list *list, twill__waiter *waiter, bool front)
{
    waiter->listed = true;
    waiter->next = front ? list->first : NULL;
    waiter->previous = front ? NULL : list->last;
    if (waiter->next)
        waiter->next->previous = waiter;
    else
        list->last = waiter;
    if (waiter->previous)
        waiter->previous->next = waiter;
    else
        list->first = waiter;
}

static inline void twill__delist(twill__queue_list *list, twill__waiter *waiter)
{
    waiter->listed = false;
    if (waiter->previous)
        waiter->previous->next = waiter->next;
    else
        list->first = waiter->next;
    if (waiter->next)
        waiter->next->previous = waiter->previous;
    else
        list->last = waiter->previous;
}

static inline bool twill__waits(const twill__waiter *waiter)
{
    /* a guess; the CAS in twill__own decides */
    return !(atomic_load_explicit(&waiter->node->word, memory_order_relaxed) &
             (TWILL__TAKEN | TWILL__LEAVING));
}

/* The first that still waits. */
static inline twill__waiter *twill__first(const twill__queue_list *list)
{
    twill__waiter *waiter = list->first;
    while (waiter && !twill__waits(waiter))
        waiter = waiter->next;
    return waiter;
}

/* False: it is leaving, or another queue has it. */
static inline bool twill__own(twill__waiter *waiter)
{
    _Atomic uint32_t *word = &waiter->node->word;
    uint32_t seen = atomic_load_explicit(word, memory_order_relaxed);
    do
        if (seen & (TWILL__TAKEN | TWILL__LEAVING))
            return false;
    /* acq_rel: pairs with the same CAS of other queues and with the waiter's fetch_or(LEAVING) */
    while (!atomic_compare_exchange_weak_explicit(word, &seen, seen | TWILL__TAKEN,
                                                  memory_order_acq_rel, memory_order_relaxed));
    return true;
}

/* ---- a turn under the lock ---- */

typedef struct twill__queue_turn { /* whom to wake after it */
    unsigned count;
    _Atomic uint32_t *word[16];
} twill__queue_turn;

static inline bool twill__queue_here(const twill__queue *queue)
{
    /* a number, set before */
    return atomic_load_explicit(queue->mark, memory_order_relaxed) == queue->generation;
}

static inline void twill__queue_enter(twill__queue *queue, twill__queue_turn *turn)
{
    turn->count = 0;
    twill__lock(&queue->lock);
}

static inline void twill__granted(twill__queue *queue, twill__queue_turn *turn, twill__node *node,
                                  uint32_t bits)
{
    _Atomic uint32_t *word = &node->word;
    /* acq_rel: pairs with the load in twill__wait; after it the node may be gone */
    atomic_fetch_or_explicit(word, bits, memory_order_acq_rel);
    queue->counts.wakes++;
    if (turn->count < sizeof turn->word / sizeof turn->word[0])
        turn->word[turn->count++] = word;
    else
        twill__wake(word, 1);
}

static inline void twill__queue_waited(twill__queue *queue, const twill__waiter *waiter)
{
    twill__queue_counts *counts = &queue->counts;
    twill_ns took = twill__clock_now() - waiter->since;
    if (waiter->from) {
        counts->push_wait_total += took;
        if (took > counts->push_wait_max)
            counts->push_wait_max = took;
    } else if (waiter->to) {
        counts->pop_wait_total += took;
        if (took > counts->pop_wait_max)
            counts->pop_wait_max = took;
    }
}

/* A waiter that is owned gets its answer, and is no longer ours. */
static inline void twill__queue_answer(twill__queue *queue, twill__queue_turn *turn,
                                       twill__queue_list *list, twill__waiter *waiter, int answer)
{
    twill__queue_waited(queue, waiter);
    twill__delist(list, waiter);
    waiter->node->answer = answer;
    waiter->node->value = waiter;
    twill__granted(queue, turn, waiter->node, TWILL__GRANTED);
}

static inline void twill__queue_answer_all(twill__queue *queue, twill__queue_turn *turn,
                                           twill__queue_list *list, int answer)
{
    for (twill__waiter *waiter = list->first, *next; waiter; waiter = next) {
        next = waiter->next;
        if (twill__own(waiter))
            twill__queue_answer(queue, turn, list, waiter, answer);
    }
}

/* An owned waiter that gets nothing after all: it looks again. */
static inline void twill__queue_retry(twill__queue *queue, twill__queue_turn *turn,
                                      twill__waiter *waiter)
{
    twill__granted(queue, turn, waiter->node, TWILL__GRANTED | TWILL__RETRY);
}

/* ---- items ---- */

static inline void twill__queue_accept(twill__queue *queue, twill__waiter *waiter, size_t count)
{
    twill__cell cell = waiter->cell;
    if (queue->times)
        cell.at = twill__clock_now();
    for (size_t k = 0; k < count; k++) {
        cell.number = queue->store.next++;
        twill__store_put(&queue->store, waiter->from + waiter->done * queue->store.size, &cell);
        waiter->done++;
        queue->bytes += cell.bytes;
    }
    queue->counts.accepted += count;
    queue->unfinished += count;
    if (queue->popping) /* relaxed: a hint to look again under the lock */
        atomic_fetch_add_explicit(&queue->filled, 1, memory_order_relaxed);
}

static inline void twill__queue_aged(twill__queue *queue, twill_ns at)
{
    twill_ns age = twill__clock_now() - at;
    queue->counts.age_total += age;
    if (age > queue->counts.age_max)
        queue->counts.age_max = age;
}

/* Takes one item out; `to` may be NULL. */
static inline twill__cell twill__queue_take(twill__queue *queue, twill__which which, void *to)
{
    size_t at = twill__store_find(&queue->store, which);
    twill__cell cell = twill__store_cell(&queue->store, at);
    twill__store_take(&queue->store, at, to);
    queue->bytes -= cell.bytes;
    if (queue->pushing)
        atomic_fetch_add_explicit(&queue->freed, 1, memory_order_relaxed); /* as above */
    return cell;
}

static inline void twill__queue_deliver(twill__queue *queue, twill__waiter *waiter, size_t count)
{
    for (size_t k = 0; k < count; k++) {
        twill__cell cell =
            twill__queue_take(queue, TWILL__NEXT, waiter->to + waiter->done * queue->store.size);
        if (waiter->numbers)
            waiter->numbers[waiter->done] = cell.number;
        if (queue->times)
            twill__queue_aged(queue, cell.at);
        waiter->done++;
    }
    queue->counts.popped += count;
}

/* From a pusher's hand to a popper's: rendezvous. */
static inline void twill__queue_hand_over(twill__queue *queue, twill__waiter *push,
                                          twill__waiter *pop)
{
    uint64_t number = queue->store.next++;
    size_t size = queue->store.size;
    twill__copy(pop->to + pop->done * size, push->from + push->done * size, size);
    if (pop->numbers)
        pop->numbers[pop->done] = number;
    push->done++;
    pop->done++;
    queue->counts.accepted++;
    queue->counts.popped++;
    queue->unfinished++;
}

/* How many of the pusher's items may come in now. */
static inline size_t twill__queue_room(const twill__queue *queue, const twill__waiter *waiter)
{
    size_t room = queue->store.capacity - queue->store.length, want = waiter->n - waiter->done;
    if (queue->max_bytes && waiter->cell.bytes > queue->max_bytes - queue->bytes)
        return 0;
    if (waiter->whole && room < want)
        return 0;
    return room < want ? room : want;
}

/* ---- settle ---- */

static inline bool twill__settle_pushers(twill__queue *queue, twill__queue_turn *turn)
{
    bool moved = false;
    for (twill__waiter *waiter = queue->pushers.first, *next; waiter; waiter = next) {
        size_t room;
        next = waiter->next;
        if (!twill__waits(waiter))
            continue;
        room = twill__queue_room(queue, waiter);
        if (room == 0)
            break; /* those behind it wait their turn */
        moved = true;
        if (room < waiter->n - waiter->done) {
            /* a part; its memory stays until it has had the lock again */
            twill__queue_accept(queue, waiter, room);
            break;
        }
        if (!twill__own(waiter))
            continue;
        twill__queue_accept(queue, waiter, room);
        twill__queue_answer(queue, turn, &queue->pushers, waiter, TWILL_OK);
    }
    return moved;
}

static inline bool twill__settle_poppers(twill__queue *queue, twill__queue_turn *turn)
{
    bool moved = false;
    for (twill__waiter *waiter = queue->poppers.first, *next; waiter; waiter = next) {
        size_t want = waiter->n - waiter->done, length = queue->store.length;
        next = waiter->next;
        if (length == 0)
            break;
        if (!twill__waits(waiter))
            continue;
        moved = true;
        if (waiter->whole && length < want) {
            twill__queue_deliver(queue, waiter, length);
            break;
        }
        if (!twill__own(waiter))
            continue;
        twill__queue_deliver(queue, waiter, want < length ? want : length);
        twill__queue_answer(queue, turn, &queue->poppers, waiter, TWILL_OK);
    }
    return moved;
}

static inline bool twill__queue_readable(const twill__queue *queue)
{
    return queue->store.length || (!queue->store.capacity && twill__first(&queue->pushers));
}

static inline uint32_t twill__queue_closed(const twill__queue *queue)
{
    /* under the lock, or as a hint */
    return atomic_load_explicit(&queue->closed, memory_order_relaxed);
}

static inline void twill__queue_settle(twill__queue *queue, twill__queue_turn *turn)
{
    bool moved = true;
    uint32_t closed = twill__queue_closed(queue);
    while (moved && (queue->pushers.first || queue->poppers.first)) {
        /* exit: items and waiters are finite; each turn moves one */
        moved = queue->pushers.first && !closed && queue->store.capacity &&
                twill__settle_pushers(queue, turn);
        if (queue->poppers.first)
            moved = twill__settle_poppers(queue, turn) && moved;
    }
    if (closed) {
        twill__queue_answer_all(queue, turn, &queue->pushers, TWILL_CLOSED);
        if (!queue->store.length)
            twill__queue_answer_all(queue, turn, &queue->poppers, (int)closed);
    }
    if (queue->watchers.first) {
        if (twill__queue_readable(queue))
            twill__queue_answer_all(queue, turn, &queue->watchers, TWILL_OK);
        else if (closed)
            twill__queue_answer_all(queue, turn, &queue->watchers, (int)closed);
    }
    if (queue->joiners.first && (!queue->unfinished || queue->doomed))
        twill__queue_answer_all(queue, turn, &queue->joiners,
                                queue->unfinished ? TWILL_CLOSED : TWILL_OK);
}

/* ---- leaving the lock ---- */

static inline void twill__queue_tell(twill__queue *queue);

static inline bool twill__queue_deserted(const twill__queue *queue)
{
    return !queue->pushers.first && !queue->poppers.first && !queue->watchers.first &&
           !queue->joiners.first && !queue->calls && !queue->pushing && !queue->popping &&
           !twill__lock_wanted(&queue->lock);
}

/* Notes what a change of length means. True: the caller has to tell the level. */
static inline bool twill__queue_level(twill__queue *queue)
{
    size_t length = queue->store.length;
    if (length > queue->counts.peak)
        queue->counts.peak = length;
    atomic_store_explicit(&queue->length, length, memory_order_relaxed); /* a hint */
    if (!queue->on_level || queue->doomed)
        return false;
    if (queue->is_high ? length <= queue->low_mark : length >= queue->high_mark) {
        queue->is_high = !queue->is_high;
        queue->level_turns++;
    }
    return queue->level_turns != queue->told && !queue->telling;
}

/* The only way out of the lock. */
static inline void twill__queue_exit(twill__queue *queue, twill__queue_turn *turn)
{
    bool tell;
    twill__queue_settle(queue, turn);
    tell = twill__queue_level(queue);
    if (tell)
        queue->telling = true;
    if (queue->destroyer && !tell && !queue->telling && twill__queue_deserted(queue)) {
        twill__node *node = queue->destroyer;
        queue->destroyer = NULL;
        twill__granted(queue, turn, node, TWILL__GRANTED);
    }
    twill__unlock(&queue->lock);
    for (unsigned k = 0; k < turn->count; k++)
        twill__wake(turn->word[k], 1);
    if (tell)
        twill__queue_tell(queue);
}

static inline void twill__calling_begin(twill__queue *queue, twill__queue_calling *calling)
{
    calling->thread = twill__thread_number();
    calling->next = queue->calls;
    queue->calls = calling;
}

static inline void twill__calling_end(twill__queue *queue, const twill__queue_calling *calling)
{
    twill__queue_calling **link = &queue->calls;
    while (*link != calling)
        link = &(*link)->next;
    *link = calling->next;
}

/* Whether this thread runs a callback of this queue. */
static inline bool twill__queue_inside(const twill__queue *queue)
{
    const twill__queue_calling *calling = queue->calls;
    while (calling && calling->thread != twill__thread_number())
        calling = calling->next;
    return calling != NULL;
}

static inline twill_task twill__queue_task(const twill__queue *queue, size_t index)
{
    twill_task task = {index, queue->context, UINT_MAX, 0, NULL, {0, NULL}, NULL};
    return task;
}

/* Whoever set `telling` tells all changes of level, in order. */
static inline void twill__queue_tell(twill__queue *queue)
{
    twill__queue_calling calling;
    twill__queue_turn turn;
    twill_task task = twill__queue_task(queue, SIZE_MAX);
    twill__queue_enter(queue, &turn);
    twill__calling_begin(queue, &calling);
    while (queue->told != queue->level_turns) { /* exit: no change since */
        bool high = queue->told++ % 2 == 0;
        size_t length = queue->store.length;
        twill__queue_exit(queue, &turn);
        queue->on_level(high, length, &task);
        twill__queue_enter(queue, &turn);
    }
    queue->telling = false;
    twill__calling_end(queue, &calling);
    twill__queue_exit(queue, &turn);
}

/* ---- drops ---- */

typedef struct twill__dropped { /* items that the drop callback has to see, once unlocked */
    const char *from;
    size_t count;
    uint64_t number;
    twill_status why;
} twill__dropped;

/* Under the lock, which it leaves for each callback. `kept`: room for an item. */
static inline void twill__queue_drop(twill__queue *queue, twill__queue_turn *turn,
                                     twill__dropped *dropped, char *kept)
{
    twill__queue_calling calling;
    if (!queue->drop) {
        queue->unfinished -= dropped->count;
        dropped->count = 0;
        return;
    }
    twill__calling_begin(queue, &calling);
    for (; dropped->count; dropped->count--) {
        twill_task task = twill__queue_task(queue, (size_t)dropped->number++);
        twill__queue_exit(queue, turn);
        if (dropped->from != kept) {
            memcpy(kept, dropped->from, queue->store.size);
            dropped->from += queue->store.size;
        }
        queue->drop(kept, dropped->why, &task);
        twill__queue_enter(queue, turn);
        queue->unfinished--;
    }
    twill__calling_end(queue, &calling);
}

/* Takes one item out to be dropped. */
static inline void twill__queue_evict(twill__queue *queue, twill__which which, twill_status why,
                                      char *kept, twill__dropped *dropped)
{
    dropped->number = twill__queue_take(queue, which, queue->drop ? kept : NULL).number;
    dropped->from = kept;
    dropped->count = 1;
    dropped->why = why;
    if (why == TWILL_TIMEOUT)
        queue->counts.expired++;
    else if (why == TWILL_CANCELLED)
        queue->counts.cleared++;
    else
        queue->counts.dropped++;
}

/* When the first item to look at expires; TWILL_FOREVER: never. A push in need of room looks at the
   oldest, a pop at the one that it would get. */
static inline twill_ns twill__queue_expiry(const twill__queue *queue, twill__which which)
{
    twill_ns at;
    if (queue->max_age == TWILL_FOREVER || !queue->store.length)
        return TWILL_FOREVER;
    at = twill__store_cell(&queue->store, twill__store_find(&queue->store, which)).at;
    return at > TWILL_FOREVER - queue->max_age ? TWILL_FOREVER : at + queue->max_age;
}

static inline bool twill__queue_expire(twill__queue *queue, twill__which which, char *kept,
                                       twill__dropped *dropped)
{
    twill_ns at = twill__queue_expiry(queue, which);
    if (at == TWILL_FOREVER || twill__clock_now() < at)
        return false;
    twill__queue_evict(queue, which, TWILL_TIMEOUT, kept, dropped);
    return true;
}

/* ---- what can be done now ---- */

/* The waiter's own word, when it stands in other lists already. False: another queue was first. */
static inline bool twill__still_ours(twill__waiter *waiter)
{
    return !waiter->shared || twill__own(waiter);
}

/* Rendezvous: hands over to, or from, somebody who waits. */
static inline int twill__queue_meet(twill__queue *queue, twill__queue_turn *turn, twill__waiter *me,
                                    bool push)
{
    twill__queue_list *list = push ? &queue->poppers : &queue->pushers;
    for (twill__waiter *other = list->first, *next; other; other = next) {
        next = other->next;
        /* a pusher of many and a popper that fills stay for the rest; their memory stays, too */
        bool last =
            push ? !(other->whole && other->done + 1 < other->n) : other->done + 1 == other->n;
        if (other->node == me->node || !(last ? twill__own(other) : twill__waits(other)))
            continue;
        if (!twill__still_ours(me)) {
            if (last)
                twill__queue_retry(queue, turn, other);
            return TWILL__ELSEWHERE;
        }
        twill__queue_hand_over(queue, push ? me : other, push ? other : me);
        if (last)
            twill__queue_answer(queue, turn, list, other, TWILL_OK);
        return TWILL_OK;
    }
    return push ? TWILL_FULL : TWILL_EMPTY;
}

/* OK; FULL; CLOSED; DROPPED; AGAIN: drop what is in `dropped`, and come again; ELSEWHERE. */
static inline int twill__push_now(twill__queue *queue, twill__queue_turn *turn,
                                  twill__waiter *waiter, char *kept, twill__dropped *dropped)
{
    size_t room;
    int answer = TWILL_FULL;
    if (twill__queue_closed(queue))
        return TWILL_CLOSED;
    if (!queue->store.capacity) {
        do /* exit: bounded by the items */
            answer = twill__queue_meet(queue, turn, waiter, true);
        while (answer == TWILL_OK && waiter->done < waiter->n);
        if (answer != TWILL_FULL)
            return answer;
    } else if (!twill__first(&queue->pushers)) {
        room = twill__queue_room(queue, waiter);
        if (room && !twill__still_ours(waiter))
            return TWILL__ELSEWHERE;
        if (room)
            twill__queue_accept(queue, waiter, room);
        if (waiter->done == waiter->n)
            return TWILL_OK;
        if (twill__queue_expire(queue, TWILL__OLDEST, kept, dropped))
            return TWILL__AGAIN;
    }
    if (queue->overflow == TWILL_OVERFLOW_DROP_INCOMING) {
        dropped->from = waiter->from + waiter->done * queue->store.size;
        dropped->count = waiter->n - waiter->done;
        dropped->number = queue->store.next;
        dropped->why = TWILL_DROPPED;
        queue->store.next += dropped->count;
        queue->counts.accepted += dropped->count;
        queue->counts.dropped += dropped->count;
        queue->unfinished += dropped->count;
        return TWILL_DROPPED;
    }
    if (queue->store.length && (queue->overflow == TWILL_OVERFLOW_DROP_OLDEST ||
                                queue->overflow == TWILL_OVERFLOW_DROP_NEWEST)) {
        twill__queue_evict(
            queue, queue->overflow == TWILL_OVERFLOW_DROP_OLDEST ? TWILL__OLDEST : TWILL__NEWEST,
            TWILL_DROPPED, kept, dropped);
        room = twill__queue_room(queue, waiter);
        if (room)
            twill__queue_accept(queue, waiter, room);
        return waiter->done == waiter->n ? TWILL_OK : TWILL__AGAIN;
    }
    return TWILL_FULL;
}

/* OK; EMPTY; CLOSED; FAILED; AGAIN, ELSEWHERE as above. */
static inline int twill__pop_now(twill__queue *queue, twill__queue_turn *turn,
                                 twill__waiter *waiter, char *kept, twill__dropped *dropped)
{
    size_t want = waiter->n - waiter->done;
    if (queue->store.length) {
        if (twill__queue_expire(queue, TWILL__NEXT, kept, dropped))
            return TWILL__AGAIN;
        if (!twill__still_ours(waiter))
            return TWILL__ELSEWHERE;
        twill__queue_deliver(queue, waiter,
                             want < queue->store.length ? want : queue->store.length);
        return waiter->whole && waiter->done < waiter->n ? TWILL_EMPTY : TWILL_OK;
    }
    if (!queue->store.capacity && queue->pushers.first) {
        int answer;
        do /* exit: bounded by the room for items */
            answer = twill__queue_meet(queue, turn, waiter, false);
        while (answer == TWILL_OK && waiter->done < waiter->n && !waiter->shared);
        if (answer == TWILL_EMPTY && waiter->done && !waiter->whole)
            return TWILL_OK;
        if (answer != TWILL_EMPTY)
            return answer;
    }
    return twill__queue_closed(queue) ? (int)twill__queue_closed(queue) : TWILL_EMPTY;
}

/* ---- waiting ---- */

/* Before a node is put into a list: a moment outside the lock, since a parked round trip costs far
   more. Under the lock on both sides. */
static inline void twill__queue_moment(twill__queue *queue, twill__queue_turn *turn, bool push)
{
    _Atomic uint32_t *word = push ? &queue->freed : &queue->filled;
    unsigned *threads = push ? &queue->pushing : &queue->popping;
    uint32_t seen = atomic_load_explicit(word, memory_order_relaxed); /* under the lock */
    (*threads)++;
    twill__queue_exit(queue, turn);
    twill__spin(word, seen, TWILL__SPIN_WAIT, TWILL__SPIN_YIELDS);
    twill__queue_enter(queue, turn);
    (*threads)--;
}

/* Until now: over already? The token comes first. */
static inline twill_status twill__over(twill_until until)
{
    if (until.cancel && twill_cancel_fired(until.cancel))
        return TWILL_CANCELLED;
    return twill__expired(until.deadline) ? TWILL_TIMEOUT : TWILL_OK;
}

/* Waits in `list`. True: answered, in node->answer, and the queue is not touched again. False: the
   lock is held; *status: TIMEOUT, CANCELLED, or OK: look again. */
static inline bool twill__queue_wait(twill__queue *queue, twill__queue_turn *turn,
                                     twill__queue_list *list, twill__waiter *waiter,
                                     twill__node *node, twill_until until, twill_status *status)
{
    uint32_t word;
    twill__node_init(node);
    waiter->node = node;
    waiter->since = twill__clock_now();
    twill__enlist(list, waiter, waiter->first);
    if (waiter->from)
        queue->counts.push_waits++;
    else if (waiter->to)
        queue->counts.pop_waits++;
    twill__queue_exit(queue, turn);
    *status = twill__wait(node, until);
    /* pairs with the CAS in twill__own */
    word = atomic_load_explicit(&node->word, memory_order_acquire);
    if (*status != TWILL_OK && (word & TWILL__TAKEN)) {
        twill__await(node);
        *status = TWILL_OK;
        word = atomic_load_explicit(&node->word, memory_order_acquire);
    }
    if (*status == TWILL_OK && !(word & TWILL__RETRY))
        return true;
    twill__queue_enter(queue, turn);
    twill__queue_waited(queue, waiter);
    waiter->first = !waiter->previous;
    twill__delist(list, waiter);
    if (*status == TWILL_TIMEOUT && until.cancel && twill_cancel_fired(until.cancel))
        *status = TWILL_CANCELLED;
    return false;
}

/* Whether a call that got nothing may wait: OK. Else what it answers; `now` if it must not wait. */
static inline twill_status twill__may_wait(const twill__queue *queue, twill_until until, bool wait,
                                           twill_status now)
{
    if (!wait)
        return now;
    return twill__queue_inside(queue) ? TWILL_DEADLOCK : twill__over(until);
}

/* A pusher waits until there is room, or an item is old enough to go. */
static inline bool twill__queue_wait_room(twill__queue *queue, twill__queue_turn *turn,
                                          twill__waiter *waiter, twill__node *node,
                                          twill_until until, twill_status *over)
{
    twill_ns expiry = twill__queue_expiry(queue, TWILL__OLDEST);
    twill_until soon = until;
    bool early =
        expiry != TWILL_FOREVER && (twill__no_deadline(until.deadline) || expiry < until.deadline);
    if (early)
        soon.deadline = expiry;
    if (twill__queue_wait(queue, turn, &queue->pushers, waiter, node, soon, over))
        return true;
    if (*over == TWILL_TIMEOUT && early)
        *over = TWILL_OK;
    return false;
}

/* Pushes. wait: a queue that blocks may do so. Answers OK, CLOSED, FULL, DROPPED, CANCELLED,
   TIMEOUT, DEADLOCK; waiter->done says how many went in. */
static inline twill_status twill__queue_put(twill__queue *queue, twill__waiter *waiter,
                                            twill_until until, bool wait, char *kept)
{
    twill__queue_turn turn;
    twill__node node;
    twill__dropped dropped = {NULL, 0, 0, TWILL_OK};
    bool spun = false, able = queue->relief, asked = !able;
    twill_status over = TWILL_OK;
    int answer;
    wait = wait && queue->overflow == TWILL_OVERFLOW_BLOCK;
    twill__queue_enter(queue, &turn);
    for (;;) { /* exit: a final answer; each turn is an item dropped or another's progress */
        answer = twill__push_now(queue, &turn, waiter, kept, &dropped);
        if (dropped.count)
            twill__queue_drop(queue, &turn, &dropped, kept);
        if (answer == TWILL__AGAIN)
            continue;
        if (answer == TWILL_FULL && over == TWILL_OK)
            over = twill__may_wait(queue, until, wait, TWILL_FULL);
        if (answer != TWILL_FULL || over != TWILL_OK)
            break;
        if (!asked) {
            int relieved;
            twill__queue_exit(queue, &turn);
            relieved = queue->relief(queue->relief_data);
            twill__queue_enter(queue, &turn);
            able = relieved >= 0;
            asked = relieved <= 0;
        } else if (able && !atomic_load(queue->others)) {
            asked = false; /* under the lock: they have gone since we asked */
        } else if (!spun && !queue->pushers.first) {
            spun = true;
            twill__queue_moment(queue, &turn, true);
        } else {
            if (twill__queue_wait_room(queue, &turn, waiter, &node, until, &over))
                return (twill_status)node.answer;
            asked = !able;
        }
    }
    if (answer == TWILL_FULL)
        answer = (int)over;
    if (answer == TWILL_FULL)
        queue->counts.rejected++;
    twill__queue_exit(queue, &turn);
    return (twill_status)answer;
}

/* Pops at least one item (waiter->whole: all n). Answers OK, CLOSED, FAILED, EMPTY, CANCELLED,
   TIMEOUT, DEADLOCK. */
static inline twill_status twill__queue_get(twill__queue *queue, twill__waiter *waiter,
                                            twill_until until, bool wait, char *kept)
{
    twill__queue_turn turn;
    twill__node node;
    twill__dropped dropped = {NULL, 0, 0, TWILL_OK};
    bool spun = false;
    twill_status over = TWILL_OK;
    int answer;
    twill__queue_enter(queue, &turn);
    for (;;) { /* exit: as above */
        answer = twill__pop_now(queue, &turn, waiter, kept, &dropped);
        if (dropped.count)
            twill__queue_drop(queue, &turn, &dropped, kept);
        if (answer == TWILL__AGAIN)
            continue;
        if (answer == TWILL_EMPTY && over == TWILL_OK)
            over = twill__may_wait(queue, until, wait, TWILL_EMPTY);
        if (answer != TWILL_EMPTY || over != TWILL_OK)
            break;
        if (!spun && !queue->poppers.first) {
            spun = true;
            twill__queue_moment(queue, &turn, false);
        } else if (twill__queue_wait(queue, &turn, &queue->poppers, waiter, &node, until, &over)) {
            return (twill_status)node.answer;
        }
    }
    twill__queue_exit(queue, &turn);
    return answer == TWILL_EMPTY ? over : (twill_status)answer;
}

/* Waits without items: for something to pop, or (join) for everything to be done. */
static inline twill_status twill__queue_watch(twill__queue *queue, bool join, twill_until until)
{
    twill__queue_turn turn;
    twill__node node;
    twill__waiter waiter;
    twill_status over = TWILL_OK;
    memset(&waiter, 0, sizeof waiter);
    twill__queue_enter(queue, &turn);
    for (;;) { /* exit: as above */
        uint32_t closed = join ? queue->doomed ? TWILL_CLOSED : 0 : twill__queue_closed(queue);
        if (join ? !queue->unfinished : twill__queue_readable(queue))
            over = TWILL_OK;
        else if (closed)
            over = (twill_status)closed;
        else {
            if (over == TWILL_OK)
                over = twill__may_wait(queue, until, true, TWILL_EMPTY);
            if (over == TWILL_OK) {
                if (twill__queue_wait(queue, &turn, join ? &queue->joiners : &queue->watchers,
                                      &waiter, &node, until, &over))
                    return (twill_status)node.answer;
                continue;
            }
        }
        twill__queue_exit(queue, &turn);
        return over;
    }
}

/* ---- the end ---- */

/* Under the lock, once: those outside it for a moment shall look again. */
static inline void twill__queue_end(twill__queue *queue, uint32_t how, int code)
{
    if (twill__queue_closed(queue))
        return;
    atomic_store_explicit(&queue->code, code, memory_order_relaxed); /* before closed */
    /* release: pairs with the acquire in twill_queue_is_closed */
    atomic_store_explicit(&queue->closed, how, memory_order_release);
    if (queue->popping)
        atomic_fetch_add_explicit(&queue->filled, 1, memory_order_relaxed);
    if (queue->pushing)
        atomic_fetch_add_explicit(&queue->freed, 1, memory_order_relaxed);
}

static inline twill_status twill__queue_close(twill__queue *queue, uint32_t how, int code)
{
    twill__queue_turn turn;
    twill_status status;
    twill__queue_enter(queue, &turn);
    status = twill__queue_closed(queue) ? TWILL_CLOSED : TWILL_OK;
    twill__queue_end(queue, how, code);
    twill__queue_exit(queue, &turn);
    return status;
}

/* What is inside at the beginning goes to the drop callback. */
static inline size_t twill__queue_clear(twill__queue *queue, char *kept)
{
    twill__queue_turn turn;
    twill__dropped dropped = {NULL, 0, 0, TWILL_OK};
    size_t cleared = 0, most;
    twill__queue_enter(queue, &turn);
    most = queue->store.length;
    for (; cleared < most && queue->store.length; cleared++) {
        /* the oldest of a heap would have to be looked for */
        twill__queue_evict(queue, queue->store.heap ? TWILL__NEXT : TWILL__OLDEST, TWILL_CANCELLED,
                           kept, &dropped);
        twill__queue_drop(queue, &turn, &dropped, kept);
    }
    twill__queue_exit(queue, &turn);
    return cleared;
}

/* Everybody is told; waits until all have left. */
static inline twill_status twill__queue_desert(twill__queue *queue)
{
    twill__queue_turn turn;
    twill__node node;
    twill__queue_enter(queue, &turn);
    if (twill__queue_inside(queue)) {
        twill__queue_exit(queue, &turn);
        return TWILL_DEADLOCK;
    }
    twill__queue_end(queue, TWILL_CLOSED, 0);
    queue->doomed = true;
    twill__queue_settle(queue, &turn);
    if (!twill__queue_deserted(queue) || queue->telling) {
        twill__node_init(&node);
        queue->destroyer = &node;
        twill__unlock(&queue->lock);
        for (unsigned k = 0; k < turn.count; k++)
            twill__wake(turn.word[k], 1);
        twill__await(&node);
        twill__queue_enter(queue, &turn); /* whoever told us has left the section now */
    }
    twill__queue_exit(queue, &turn);
    return TWILL_OK;
}

#endif

/* ---- create ---- */

typedef struct twill__queue_plan {              /* what the options come to */
    size_t capacity, cells, heap, items, bytes; /* offsets behind the queue; 0: none */
} twill__queue_plan;

static inline bool twill__queue_options_valid(const twill_queue_options *options)
{
    bool priority = options->order == TWILL_ORDER_PRIORITY;
    bool evicts = options->overflow == TWILL_OVERFLOW_DROP_OLDEST ||
                  options->overflow == TWILL_OVERFLOW_DROP_NEWEST;
    size_t capacity = options->capacity ? options->capacity : 1024;
    if ((unsigned)options->overflow > TWILL_OVERFLOW_DROP_NEWEST ||
        (unsigned)options->order > TWILL_ORDER_PRIORITY || priority != !!options->priority_of ||
        (options->ageing && !priority) || options->ageing < 0 || options->max_age < 0 ||
        (options->max_bytes && !options->bytes_of) || (options->memory_bytes && !options->memory))
        return false;
    if (options->on_level ? options->high_mark <= options->low_mark || options->high_mark > capacity
                          : options->high_mark || options->low_mark)
        return false;
    return options->capacity != TWILL_RENDEZVOUS ||
           !(options->order || evicts || options->bytes_of || options->max_age ||
             options->on_level);
}

/* Adds count * size to *total, in multiples of 16; false: too big. */
static inline bool twill__queue_add(size_t *total, size_t count, size_t size)
{
    if (count > (SIZE_MAX / 2 - 16) / size || *total > SIZE_MAX / 2 - 16 - count * size)
        return false;
    *total += (count * size + 15) / 16 * 16;
    return true;
}

static inline twill_status twill__queue_plan_of(twill__queue_plan *plan, size_t item_size,
                                                const twill_queue_options *options)
{
    bool priority = options->order == TWILL_ORDER_PRIORITY;
    bool cells = priority || options->order == TWILL_ORDER_LIFO || options->bytes_of ||
                 options->max_age || options->overflow == TWILL_OVERFLOW_DROP_INCOMING ||
                 options->overflow == TWILL_OVERFLOW_DROP_NEWEST;
    memset(plan, 0, sizeof *plan);
    if (!item_size || !twill__queue_options_valid(options))
        return TWILL_INVALID;
    if (options->drop && item_size > TWILL__KEPT)
        return TWILL_TOO_BIG;
    plan->capacity = options->capacity == TWILL_RENDEZVOUS ? 0
                     : options->capacity                   ? options->capacity
                                                           : 1024;
    plan->bytes = (sizeof(twill__queue) + 15) / 16 * 16;
    if (cells) {
        plan->cells = plan->bytes;
        if (!twill__queue_add(&plan->bytes, plan->capacity, sizeof(twill__cell)))
            return TWILL_TOO_BIG;
    }
    if (priority) {
        plan->heap = plan->bytes;
        if (!twill__queue_add(&plan->bytes, plan->capacity, sizeof(size_t)))
            return TWILL_TOO_BIG;
    }
    plan->items = plan->bytes;
    if (!twill__queue_add(&plan->bytes, plan->capacity, item_size))
        return TWILL_TOO_BIG;
    plan->bytes += TWILL__LINE; /* to align the first */
    return TWILL_OK;
}

static inline const twill_queue_options *twill__queue_defaults(const twill_queue_options *options)
{
    static const twill_queue_options none;
    return options ? options : &none;
}

static inline void twill__queue_init(twill__queue *queue, size_t item_size,
                                     const twill__queue_plan *plan,
                                     const twill_queue_options *options)
{
    char *base = (char *)queue;
    memset(queue, 0, sizeof *queue);
    queue->store.size = item_size;
    queue->store.capacity = plan->capacity;
    queue->store.items = base + plan->items;
    queue->store.lifo = options->order == TWILL_ORDER_LIFO;
    if (plan->cells)
        queue->store.cells = (twill__cell *)(void *)(base + plan->cells);
    if (plan->heap)
        queue->store.heap = (size_t *)(void *)(base + plan->heap);
    for (size_t k = 0; plan->heap && k < plan->capacity; k++)
        queue->store.heap[k] = k;
    queue->generation = twill__generation();
    /* set: generation was asked */
    queue->mark = atomic_load_explicit(&twill__process()->mark, memory_order_acquire);
    queue->overflow = options->overflow;
    queue->times = options->max_age != 0;
    queue->max_age = options->max_age ? options->max_age : TWILL_FOREVER;
    queue->max_bytes = options->max_bytes;
    queue->high_mark = options->high_mark;
    queue->low_mark = options->low_mark;
    queue->ageing = options->ageing ? options->ageing : TWILL_SEC(1);
    queue->priority_of = options->priority_of;
    queue->bytes_of = options->bytes_of;
    queue->drop = options->drop;
    queue->on_level = options->on_level;
    queue->context = options->context;
    queue->producers = options->producers;
}

TWILL__DEFINE size_t twill_queue_bytes(size_t item_size, const twill_queue_options *options)
{
    twill__queue_plan plan;
    options = twill__queue_defaults(options);
    return twill__queue_plan_of(&plan, item_size, options) == TWILL_OK ? plan.bytes : 0;
}

TWILL__DEFINE twill_status twill_queue_create(twill_queue **out, size_t item_size,
                                              const twill_queue_options *options)
{
    twill__queue_plan plan;
    twill_status status;
    char *memory;
    twill_queue *queue;
    if (!out)
        return TWILL_INVALID;
    *out = NULL;
    options = twill__queue_defaults(options);
    status = twill__queue_plan_of(&plan, item_size, options);
    if (status != TWILL_OK)
        return status;
    if (options->memory && options->memory_bytes < plan.bytes)
        return TWILL_INVALID;
    memory = (char *)options->memory;
    if (!memory)
        memory = (char *)TWILL_MALLOC(plan.bytes);
    if (!memory)
        return TWILL_NO_MEMORY;
    queue = (twill_queue *)(void *)(memory +
                                    (TWILL__LINE - (uintptr_t)memory % TWILL__LINE) % TWILL__LINE);
    twill__queue_init(queue, item_size, &plan, options);
    queue->memory = options->memory ? NULL : memory;
    *out = queue;
    return TWILL_OK;
}

/* ---- calls ---- */

/* Room for an item that a drop callback sees, on the stack of who needs it. */
typedef struct twill__kept {
    _Alignas(16) char item[TWILL__KEPT];
} twill__kept;

static inline twill_status twill__queue_check(const twill_queue *queue, const void *item)
{
    if (!queue || !item)
        return TWILL_INVALID;
    return twill__queue_here(queue) ? TWILL_OK : TWILL_FORKED;
}

/* Asks the user's callbacks what they say of an item. */
static inline twill_status twill__queue_weigh(const twill_queue *queue, const void *item,
                                              twill__cell *cell)
{
    if (queue->bytes_of) {
        twill_task task = twill__queue_task(queue, SIZE_MAX);
        cell->bytes = queue->bytes_of(item, &task);
        if (queue->max_bytes && cell->bytes > queue->max_bytes)
            return TWILL_TOO_BIG;
    }
    if (queue->priority_of) {
        twill_task task = twill__queue_task(queue, SIZE_MAX);
        int64_t priority = queue->priority_of(item, &task), gain = 0;
        /* the order of two items never changes while they wait: so a fixed key is enough */
        if (queue->ageing == TWILL_FOREVER)
            cell->key = -priority;
        else if (__builtin_mul_overflow(priority, queue->ageing, &gain) ||
                 __builtin_sub_overflow(twill__clock_now(), gain, &cell->key))
            cell->key = priority > 0 ? INT64_MIN : INT64_MAX;
    }
    return TWILL_OK;
}

static __attribute__((noinline)) twill_status
twill__put_dropping(twill_queue *queue, twill__waiter *waiter, twill_until until, bool wait)
{
    twill__kept kept;
    return twill__queue_put(queue, waiter, until, wait, kept.item);
}

static __attribute__((noinline)) twill_status
twill__get_dropping(twill_queue *queue, twill__waiter *waiter, twill_until until, bool wait)
{
    twill__kept kept;
    return twill__queue_get(queue, waiter, until, wait, kept.item);
}

static inline twill_status twill__push(twill_queue *queue, const void *items, size_t n, bool whole,
                                       size_t *count, twill_until until, bool wait)
{
    twill__waiter waiter;
    twill_status status;
    memset(&waiter, 0, sizeof waiter);
    waiter.from = (const char *)items;
    waiter.n = n;
    waiter.whole = whole;
    if (queue->bytes_of || queue->priority_of) {
        status = twill__queue_weigh(queue, items, &waiter.cell);
        if (status != TWILL_OK)
            return status;
    }
    status = queue->drop ? twill__put_dropping(queue, &waiter, until, wait)
                         : twill__queue_put(queue, &waiter, until, wait, NULL);
    if (count)
        *count += waiter.done;
    return status;
}

static inline twill_status twill__pop(twill_queue *queue, void *items, size_t n, bool whole,
                                      size_t *count, twill_until until, bool wait)
{
    twill__waiter waiter;
    twill_status status;
    memset(&waiter, 0, sizeof waiter);
    waiter.to = (char *)items;
    waiter.n = n;
    waiter.whole = whole;
    status = queue->drop ? twill__get_dropping(queue, &waiter, until, wait)
                         : twill__queue_get(queue, &waiter, until, wait, NULL);
    if (count)
        *count += waiter.done;
    return status;
}

TWILL__DEFINE twill_status twill_queue_push_until(twill_queue *queue, const void *item,
                                                  twill_until until)
{
    twill_status status = twill__queue_check(queue, item);
    return status ? status : twill__push(queue, item, 1, false, NULL, until, true);
}

TWILL__DEFINE twill_status twill_queue_push(twill_queue *queue, const void *item)
{
    return twill_queue_push_until(queue, item, (twill_until){0, NULL});
}

TWILL__DEFINE twill_status twill_queue_try_push(twill_queue *queue, const void *item)
{
    twill_status status = twill__queue_check(queue, item);
    return status ? status
                  : twill__push(queue, item, 1, false, NULL, (twill_until){0, NULL}, false);
}

TWILL__DEFINE twill_status twill_queue_pop_until(twill_queue *queue, void *item, twill_until until)
{
    twill_status status = twill__queue_check(queue, item);
    return status ? status : twill__pop(queue, item, 1, false, NULL, until, true);
}

TWILL__DEFINE twill_status twill_queue_pop(twill_queue *queue, void *item)
{
    return twill_queue_pop_until(queue, item, (twill_until){0, NULL});
}

TWILL__DEFINE twill_status twill_queue_try_pop(twill_queue *queue, void *item)
{
    twill_status status = twill__queue_check(queue, item);
    return status ? status : twill__pop(queue, item, 1, false, NULL, (twill_until){0, NULL}, false);
}

TWILL__DEFINE twill_status twill_queue_push_many_until(twill_queue *queue, const void *items,
                                                       size_t n, size_t *count, twill_until until)
{
    size_t pushed = 0;
    twill_status status = twill__queue_check(queue, items);
    if (status == TWILL_OK && n && (queue->bytes_of || queue->priority_of)) {
        /* each item has a key or a size of its own */
        for (size_t k = 0; k < n && status == TWILL_OK; k++)
            status = twill__push(queue, (const char *)items + k * queue->store.size, 1, false,
                                 &pushed, until, true);
        if (status == TWILL_DROPPED) /* the rest, likewise */
            for (size_t k = pushed + 1; k < n; k++)
                twill__push(queue, (const char *)items + k * queue->store.size, 1, false, &pushed,
                            until, true);
    } else if (status == TWILL_OK && n) {
        status = twill__push(queue, items, n, false, &pushed, until, true);
    }
    if (count)
        *count = pushed;
    return status;
}

TWILL__DEFINE twill_status twill_queue_push_bulk_until(twill_queue *queue, const void *items,
                                                       size_t n, twill_until until)
{
    twill_status status = twill__queue_check(queue, items);
    if (status != TWILL_OK || !n)
        return status;
    if (queue->bytes_of || queue->priority_of)
        return TWILL_INVALID;
    if (n > queue->store.capacity && !(n == 1 && !queue->store.capacity))
        return TWILL_TOO_BIG;
    return twill__push(queue, items, n, true, NULL, until, true);
}

TWILL__DEFINE twill_status twill_queue_pop_many_until(twill_queue *queue, void *items, size_t max,
                                                      size_t *count, twill_until until)
{
    return twill_queue_pop_batch_until(queue, items, max, count, 0, until);
}

TWILL__DEFINE twill_status twill_queue_pop_batch_until(twill_queue *queue, void *items, size_t max,
                                                       size_t *count, twill_ns linger,
                                                       twill_until until)
{
    size_t popped = 0;
    twill_status status = max ? twill__queue_check(queue, items) : TWILL_INVALID;
    if (status == TWILL_OK)
        status = twill__pop(queue, items, max, false, &popped, until, true);
    if (status == TWILL_OK && popped < max && linger > 0) {
        twill_until fill = twill_within_or_cancelled(linger, until.cancel);
        if (twill__no_deadline(fill.deadline) ||
            (!twill__no_deadline(until.deadline) && until.deadline < fill.deadline))
            fill.deadline = until.deadline;
        /* its end says only that no more came */
        (void)twill__pop(queue, (char *)items + popped * queue->store.size, max - popped, true,
                         &popped, fill, true);
    }
    if (count)
        *count = popped;
    return status;
}

TWILL__DEFINE twill_status twill_queue_ready_until(twill_queue *queue, twill_until until)
{
    twill_status status = twill__queue_check(queue, queue);
    return status ? status : twill__queue_watch(queue, false, until);
}

TWILL__DEFINE twill_status twill_queue_close(twill_queue *queue)
{
    twill_status status = twill__queue_check(queue, queue);
    return status ? status : twill__queue_close(queue, TWILL_CLOSED, 0);
}

TWILL__DEFINE twill_status twill_queue_fail(twill_queue *queue, int code)
{
    twill_status status = twill__queue_check(queue, queue);
    return status ? status : twill__queue_close(queue, TWILL_FAILED, code);
}

TWILL__DEFINE int twill_queue_code(const twill_queue *queue)
{
    /* acquire: pairs with the release in twill__queue_close */
    if (!queue || atomic_load_explicit(&queue->closed, memory_order_acquire) != TWILL_FAILED)
        return 0;
    return atomic_load_explicit(&queue->code, memory_order_relaxed);
}

TWILL__DEFINE size_t twill_queue_clear(twill_queue *queue)
{
    twill__kept kept;
    if (twill__queue_check(queue, queue) != TWILL_OK)
        return 0;
    return twill__queue_clear(queue, kept.item);
}

TWILL__DEFINE twill_status twill_queue_attach(twill_queue *queue)
{
    twill__queue_turn turn;
    twill_status status = twill__queue_check(queue, queue);
    if (status != TWILL_OK)
        return status;
    twill__queue_enter(queue, &turn);
    if (twill__queue_closed(queue))
        status = TWILL_CLOSED;
    else if (queue->producers == UINT_MAX)
        status = TWILL_TOO_BIG;
    else
        queue->producers++;
    twill__queue_exit(queue, &turn);
    return status;
}

TWILL__DEFINE twill_status twill_queue_detach(twill_queue *queue)
{
    twill__queue_turn turn;
    twill_status status = twill__queue_check(queue, queue);
    if (status != TWILL_OK)
        return status;
    twill__queue_enter(queue, &turn);
    if (!queue->producers)
        status = TWILL_INVALID;
    else if (--queue->producers == 0)
        twill__queue_end(queue, TWILL_CLOSED, 0);
    twill__queue_exit(queue, &turn);
    return status;
}

TWILL__DEFINE twill_status twill_queue_task_done(twill_queue *queue)
{
    twill__queue_turn turn;
    twill_status status = twill__queue_check(queue, queue);
    if (status != TWILL_OK)
        return status;
    twill__queue_enter(queue, &turn);
    if (queue->finished == queue->counts.popped) {
        status = TWILL_INVALID;
    } else {
        queue->finished++;
        queue->unfinished--;
    }
    twill__queue_exit(queue, &turn);
    return status;
}

TWILL__DEFINE twill_status twill_queue_join_until(twill_queue *queue, twill_until until)
{
    twill_status status = twill__queue_check(queue, queue);
    return status ? status : twill__queue_watch(queue, true, until);
}

TWILL__DEFINE twill_status twill_queue_join(twill_queue *queue)
{
    return twill_queue_join_until(queue, (twill_until){0, NULL});
}

TWILL__DEFINE size_t twill_queue_length(const twill_queue *queue)
{
    /* a hint */
    return queue ? atomic_load_explicit(&queue->length, memory_order_relaxed) : 0;
}

TWILL__DEFINE bool twill_queue_is_closed(const twill_queue *queue)
{
    /* pairs with the release in twill__queue_end */
    return queue && atomic_load_explicit(&queue->closed, memory_order_acquire) != 0;
}

TWILL__DEFINE twill_status twill_queue_destroy(twill_queue *queue)
{
    twill_status status;
    if (!queue)
        return TWILL_OK;
    if (!twill__queue_here(queue))
        return TWILL_FORKED;
    status = twill__queue_desert(queue);
    if (status != TWILL_OK)
        return status;
    if (queue->store.length)
        (void)twill_queue_clear(queue);
    if (queue->memory)
        TWILL_FREE(queue->memory);
    return TWILL_OK;
}

TWILL__DEFINE void twill_queue_abandon(twill_queue *queue)
{
    if (queue && !twill__queue_here(queue) && queue->memory)
        TWILL_FREE(queue->memory);
}

static inline size_t twill__queue_waiting(const twill__queue_list *list)
{
    size_t count = 0;
    for (const twill__waiter *waiter = list->first; waiter; waiter = waiter->next)
        count++;
    return count;
}

TWILL__DEFINE void twill_queue_get_stats(twill_queue *queue, twill_queue_stats *out)
{
    twill__queue_turn turn;
    const twill__queue_counts *counts;
    if (!out)
        return;
    memset(out, 0, sizeof *out);
    if (twill__queue_check(queue, queue) != TWILL_OK)
        return;
    twill__queue_enter(queue, &turn);
    counts = &queue->counts;
    out->accepted = counts->accepted;
    out->popped = counts->popped;
    out->dropped = counts->dropped;
    out->expired = counts->expired;
    out->cleared = counts->cleared;
    out->rejected = counts->rejected;
    out->push_waits = counts->push_waits;
    out->pop_waits = counts->pop_waits;
    out->wakes = counts->wakes;
    out->length = queue->store.length;
    out->peak = counts->peak;
    out->capacity = queue->store.capacity;
    out->bytes = queue->bytes;
    out->waiting_push = twill__queue_waiting(&queue->pushers);
    out->waiting_pop = twill__queue_waiting(&queue->poppers);
    out->push_wait_total = counts->push_wait_total;
    out->push_wait_max = counts->push_wait_max;
    out->pop_wait_total = counts->pop_wait_total;
    out->pop_wait_max = counts->pop_wait_max;
    out->age_total = counts->age_total;
    out->age_max = counts->age_max;
    twill__queue_exit(queue, &turn);
}

/* ---- select ---- */

enum { TWILL__SELECT_SMALL = 16 };

typedef struct twill__select {
    twill_queue_case *cases;
    twill__waiter *waiters; /* n == 0: the case is out */
    size_t n, start, chosen, live;
    bool inside;
    twill__node node;
    char *kept;
} twill__select;

static inline int twill__select_case(twill__select *select, size_t i, bool listing)
{
    twill_queue *queue = select->cases[i].queue;
    bool push = select->cases[i].push;
    twill__waiter *waiter = &select->waiters[i];
    twill__queue_turn turn;
    twill__dropped dropped = {NULL, 0, 0, TWILL_OK};
    int answer;
    waiter->shared = listing;
    twill__queue_enter(queue, &turn);
    do { /* exit: each turn drops an item */
        answer = push ? twill__push_now(queue, &turn, waiter, select->kept, &dropped)
                      : twill__pop_now(queue, &turn, waiter, select->kept, &dropped);
        if (dropped.count)
            twill__queue_drop(queue, &turn, &dropped, select->kept);
    } while (answer == TWILL__AGAIN);
    if (listing && (answer == TWILL_FULL || answer == TWILL_EMPTY)) {
        waiter->since = twill__clock_now();
        select->inside = select->inside || twill__queue_inside(queue);
        twill__enlist(push ? &queue->pushers : &queue->poppers, waiter, false);
        if (push)
            queue->counts.push_waits++;
        else
            queue->counts.pop_waits++;
    }
    twill__queue_exit(queue, &turn);
    return answer;
}

/* Tries each case, and (listing) gets in line where it fails. OK, DROPPED: *chosen; ELSEWHERE: a
   queue has answered meanwhile; else the answer when nothing is ready. */
static inline int twill__select_round(twill__select *select, bool listing)
{
    int answer = TWILL_CLOSED, first = -1;
    select->live = 0;
    for (size_t k = 0; k < select->n; k++) {
        size_t left = select->n - select->start, i = k < left ? select->start + k : k - left;
        twill_queue_case *at = &select->cases[i];
        if (!select->waiters[i].n) {
            if (at->status == TWILL_FAILED)
                answer = TWILL_FAILED;
            continue;
        }
        int now = twill__select_case(select, i, listing);
        if (now == TWILL__ELSEWHERE)
            return now;
        at->status = (twill_status)now;
        if (now == TWILL_OK || now == TWILL_DROPPED) {
            select->chosen = i;
            return now;
        }
        if (now == TWILL_CLOSED || now == TWILL_FAILED) {
            select->waiters[i].n = 0;
            if (now == TWILL_FAILED)
                answer = TWILL_FAILED;
            continue;
        }
        select->live++;
        if (first < 0)
            first = now;
    }
    return first < 0 ? answer : first;
}

/* Out of all lines; who has been granted is out of his already. */
static inline void twill__select_leave(twill__select *select)
{
    for (size_t i = 0; i < select->n; i++) {
        twill_queue *queue = select->cases[i].queue;
        twill__waiter *waiter = &select->waiters[i];
        twill__queue_turn turn;
        if (!waiter->listed)
            continue;
        twill__queue_enter(queue, &turn);
        twill__queue_waited(queue, waiter);
        twill__delist(select->cases[i].push ? &queue->pushers : &queue->poppers, waiter);
        twill__queue_exit(queue, &turn);
    }
}

/* In line everywhere, and waits. OK, DROPPED: chosen. AGAIN: look again. */
static inline int twill__select_wait(twill__select *select, twill_until until)
{
    twill_status status = TWILL_OK;
    uint32_t word;
    int answer;
    twill__node_init(&select->node);
    answer = twill__select_round(select, true);
    if (answer != TWILL__ELSEWHERE &&
        (!select->live || select->inside || answer == TWILL_OK || answer == TWILL_DROPPED)) {
        /* nobody may answer from here on. The exchange is won, or lost to a queue that answers */
        if (answer != TWILL_OK && answer != TWILL_DROPPED && select->live &&
            (atomic_fetch_or_explicit(&select->node.word, TWILL__LEAVING, memory_order_acq_rel) &
             TWILL__TAKEN))
            answer = TWILL__ELSEWHERE;
        else
            answer = answer == TWILL_OK || answer == TWILL_DROPPED || !select->live
                         ? answer
                         : (int)TWILL_DEADLOCK;
    } else if (answer != TWILL__ELSEWHERE) {
        status = twill__wait(&select->node, until);
        answer = TWILL__ELSEWHERE;
        /* pairs with the CAS in twill__own */
        if (status != TWILL_OK &&
            !(atomic_load_explicit(&select->node.word, memory_order_acquire) & TWILL__TAKEN))
            answer = (int)status;
    }
    if (answer != TWILL__ELSEWHERE) {
        twill__select_leave(select);
        return answer;
    }
    twill__await(&select->node);
    word = atomic_load_explicit(&select->node.word, memory_order_acquire);
    twill__select_leave(select);
    if (word & TWILL__RETRY)
        return TWILL__AGAIN;
    select->chosen = (size_t)((twill__waiter *)select->node.value - select->waiters);
    select->cases[select->chosen].status = (twill_status)select->node.answer;
    if (select->node.answer == TWILL_OK)
        return TWILL_OK;
    select->waiters[select->chosen].n = 0; /* closed; the queue may be gone */
    return TWILL__AGAIN;
}

static inline twill_status twill__select_run(twill__select *select, twill_until until, bool wait)
{
    for (;;) { /* exit: chosen, all out, or over; AGAIN is another's progress */
        int answer = twill__select_round(select, false);
        twill_status over;
        if (answer == TWILL_OK || answer == TWILL_DROPPED || !select->live || !wait)
            return (twill_status)answer;
        over = twill__over(until);
        if (over != TWILL_OK)
            return over;
        answer = twill__select_wait(select, until);
        if (answer == TWILL_TIMEOUT || answer == TWILL_CANCELLED) {
            over = (twill_status)answer;
            answer = twill__select_round(select, false); /* what came while we left */
            if (answer != TWILL_OK && answer != TWILL_DROPPED && select->live)
                return twill_cancel_fired(until.cancel) ? TWILL_CANCELLED : over;
        }
        if (answer != TWILL__AGAIN)
            return (twill_status)answer;
    }
}

static inline twill_status twill__select_check(const twill_queue_case *cases, size_t n,
                                               twill_select_order order)
{
    if (!cases || !n || (unsigned)order > TWILL_SELECT_IN_ORDER)
        return TWILL_INVALID;
    for (size_t i = 0; i < n; i++) {
        if (cases[i].queue && !cases[i].item)
            return TWILL_INVALID;
        if (cases[i].queue && !twill__queue_here(cases[i].queue))
            return TWILL_FORKED;
    }
    return TWILL_OK;
}

static inline twill_status twill__select_call(twill_queue_case *cases, size_t n,
                                              twill_select_order order, size_t *chosen,
                                              twill_until until, bool wait)
{
    twill__waiter few[TWILL__SELECT_SMALL];
    twill__kept kept;
    twill__select select;
    twill_status status = twill__select_check(cases, n, order);
    if (status != TWILL_OK)
        return status;
    memset(&select, 0, sizeof select);
    select.cases = cases;
    select.n = n;
    select.kept = kept.item;
    select.waiters = few;
    if (n > TWILL__SELECT_SMALL)
        select.waiters =
            n > SIZE_MAX / sizeof few[0] ? NULL : (twill__waiter *)TWILL_MALLOC(n * sizeof few[0]);
    if (!select.waiters)
        return TWILL_NO_MEMORY;
    if (order == TWILL_SELECT_FAIR)
        select.start = (size_t)(twill__ticks() * 0x9e3779b97f4a7c15u >> 33) % n;
    memset(select.waiters, 0, n * sizeof few[0]);
    for (size_t i = 0; i < n && status == TWILL_OK; i++) {
        twill__waiter *waiter = &select.waiters[i];
        cases[i].status = TWILL_CLOSED;
        if (!cases[i].queue)
            continue;
        waiter->node = &select.node;
        waiter->n = 1;
        if (cases[i].push) {
            waiter->from = (const char *)cases[i].item;
            status = twill__queue_weigh(cases[i].queue, cases[i].item, &waiter->cell);
        } else {
            waiter->to = (char *)cases[i].item;
        }
        select.chosen = i;
    }
    if (status == TWILL_OK)
        status = twill__select_run(&select, until, wait);
    if (chosen && (status == TWILL_OK || status == TWILL_DROPPED || status == TWILL_TOO_BIG))
        *chosen = select.chosen;
    if (select.waiters != few)
        TWILL_FREE(select.waiters);
    return status;
}

TWILL__DEFINE twill_status twill_queue_try_select(twill_queue_case *cases, size_t n,
                                                  twill_select_order order, size_t *chosen)
{
    return twill__select_call(cases, n, order, chosen, (twill_until){0, NULL}, false);
}

TWILL__DEFINE twill_status twill_queue_select_until(twill_queue_case *cases, size_t n,
                                                    twill_select_order order, size_t *chosen,
                                                    twill_until until)
{
    return twill__select_call(cases, n, order, chosen, until, true);
}
/* ---- one call ---- */
/* Producers and consumers are the workers of one call of the team (engine/run.h). Its unit is a
   role; an item is accounted for in the worker's slot under its accept number, so that limits,
   tokens and errors follow that number. */

typedef struct twill__pc_worker {
    _Atomic uint64_t owner; /* number of the thread that runs this worker's body, 0: none */
    twill_task *task;       /* of the body that runs; NULL: none */
    char *items;            /* batch of them */
    uint64_t *numbers;
    size_t at, count; /* in the batch */
    bool producing, relieving;
    size_t relieved; /* number of the item that a producer consumes */
} twill__pc_worker;

typedef struct twill__pc {
    const twill_produce_consume_options *options;
    twill_produce_fn *produce;
    twill_consume_fn *consume;
    twill_run run;
    twill_report inner;
    twill_queue *queue;
    twill__job *job;
    twill__call_table table;
    twill__pc_worker *workers;
    void *memory;
    unsigned producers, consumers;
    size_t batch;
    bool caller_runs;
    twill_status status;
    _Atomic uint32_t next_producer, consuming;
    _Atomic uint32_t ended;  /* by an error, a stop or run.until: what producers return is moot */
    _Atomic uint32_t failed; /* a producer has: twill_status; who sets it writes the code */
    int code;
    twill_status cut; /* CANCELLED, TIMEOUT: run.until ended it */
} twill__pc;

/* ---- endings ---- */

static inline void twill__pc_end(twill__pc *pc)
{
    atomic_store(&pc->ended, 1);
    (void)twill__queue_close(pc->queue, TWILL_CLOSED, 0);
}

/* Nothing is accepted any more; what was, may run, and everybody above is told. */
static inline void twill__pc_end_here(twill__pc *pc, bool stop)
{
    twill__queue_turn turn;
    size_t next;
    twill__pc_end(pc);
    twill__queue_enter(pc->queue, &turn);
    next = (size_t)pc->queue->store.next;
    twill__queue_exit(pc->queue, &turn);
    if (stop)
        twill__lower(&pc->job->stop_at, next);
    twill__lower(&pc->job->limit, next);
    twill__fire_from(pc->job, next);
}

static inline void twill__pc_producer_failed(twill__pc *pc, twill_status status, int code)
{
    twill__job *job = pc->job;
    uint32_t none = 0;
    size_t most = job->run->max_errors ? job->run->max_errors : 1;
    if (atomic_compare_exchange_strong(&pc->failed, &none, (uint32_t)status))
        pc->code = code; /* read after the join */
    if (job->policy == TWILL_ON_ERROR_COLLECT)
        return;
    if (job->policy == TWILL_ON_ERROR_LOWEST) {
        twill__pc_end_here(pc, false);
    } else if (atomic_fetch_add(&job->failures, 1) + 1 >=
               (job->policy == TWILL_ON_ERROR_FIRST ? 1 : most)) {
        twill__stop_all(job, TWILL_FAILED, true);
        twill__pc_end(pc);
    }
}

static inline void twill__pc_stop(const twill_task *task)
{
    twill__job *job = (twill__job *)task->private_;
    twill__pc *pc = (twill__pc *)job->data;
    if (task->worker < job->np && pc->workers[task->worker].producing &&
        !pc->workers[task->worker].relieving)
        twill__pc_end_here(pc, true);
    else
        twill__job_stop(task);
}

static inline bool twill__pc_over(twill__pc *pc)
{
    return twill__stopped(pc->job, pc->job->may_end ? twill__clock_now() : 0) ||
           atomic_load(&pc->job->limit) != SIZE_MAX;
}

/* Whoever was blocked because somebody else consumed looks again. */
static inline void twill__pc_left(twill__pc *pc)
{
    twill__queue_turn turn;
    if (atomic_fetch_sub(&pc->consuming, 1) != 1)
        return;
    twill__queue_enter(pc->queue, &turn);
    for (twill__waiter *waiter = pc->queue->pushers.first; waiter; waiter = waiter->next)
        if (twill__own(waiter))
            twill__queue_retry(pc->queue, &turn, waiter);
    twill__queue_exit(pc->queue, &turn);
}

/* ---- items ---- */

/* A popped item that nobody will consume: in the books it was cleared. */
static inline void twill__pc_spare(twill__pc *pc, void *item, uint64_t number)
{
    twill__queue_turn turn;
    twill_queue *queue = pc->queue;
    twill__queue_enter(queue, &turn);
    queue->counts.popped--;
    queue->counts.cleared++;
    queue->unfinished--;
    twill__queue_exit(queue, &turn);
    if (queue->drop) {
        twill_task task = twill__queue_task(queue, (size_t)number);
        queue->drop(item, TWILL_CANCELLED, &task);
    }
}

static inline void twill__pc_item(twill__pc *pc, twill_task *task, void *item, uint64_t number)
{
    twill__job *job = pc->job;
    twill__slot *me = &job->slot[task->worker];
    size_t index = (size_t)number;
    int code;
    twill__set_begin(me, index);
    /* seq_cst: see twill__set_begin */
    if (twill__stopped(job, job->may_end ? twill__clock_now() : 0) ||
        index >= atomic_load(&job->limit)) {
        twill__pc_spare(pc, item, number);
        return;
    }
    task->index = index;
    me->used = true;
    me->said = 0;
    me->inside = true;
    code = pc->consume(item, task);
    me->inside = false;
    twill__item_end(job, me, index, code);
    if (code && pc->options->dead_letter)
        pc->options->dead_letter(item, code, task);
    me->said = 0;
    if (twill__pc_over(pc))
        twill__pc_end(pc);
}

static inline twill_status twill__pc_take(twill__pc *pc, twill__pc_worker *worker, size_t most,
                                          bool wait)
{
    twill__waiter waiter;
    twill_status status;
    memset(&waiter, 0, sizeof waiter);
    waiter.to = worker->items;
    waiter.numbers = worker->numbers;
    waiter.n = most;
    status = pc->queue->drop ? twill__get_dropping(pc->queue, &waiter, pc->run.until, wait)
                             : twill__queue_get(pc->queue, &waiter, pc->run.until, wait, NULL);
    worker->at = 0;
    worker->count = waiter.done;
    return status;
}

static inline void twill__pc_batch(twill__pc *pc, twill__pc_worker *worker, twill_task *task)
{
    while (worker->at < worker->count) {
        size_t k = worker->at++;
        twill__pc_item(pc, task, worker->items + k * pc->queue->store.size, worker->numbers[k]);
    }
}

/* ---- consumers ---- */

/* A callback has ended the thread. The engine counts its item as LOST. */
static inline void twill__pc_consumer_ended(void *worker_)
{
    twill__pc_worker *worker = (twill__pc_worker *)worker_;
    twill__job *job = (twill__job *)worker->task->private_;
    twill__pc *pc = (twill__pc *)job->data;
    if (job->policy != TWILL_ON_ERROR_COLLECT || worker->task->worker == 0)
        twill__pc_end(pc);
    while (worker->at < worker->count) {
        size_t k = worker->at++;
        twill__pc_spare(pc, worker->items + k * pc->queue->store.size, worker->numbers[k]);
    }
    worker->task = NULL;
    twill__pc_left(pc);
}

static inline void twill__pc_consume(twill__pc *pc, twill__pc_worker *worker, twill_task *task)
{
    twill_status status;
    twill__slot *me = &pc->job->slot[task->worker];
    TWILL__GUARD_PUSH(twill__pc_consumer_ended, worker);
    me->inside = false;
    while ((status = twill__pc_take(pc, worker, pc->batch, true)) == TWILL_OK)
        twill__pc_batch(pc, worker, task);
    if (status == TWILL_CANCELLED || status == TWILL_TIMEOUT) {
        twill__stop_all(pc->job, status, true);
        twill__pc_end(pc);
    }
    TWILL__GUARD_POP(0);
    twill__pc_left(pc);
}

/* A place among the consumers. */
static inline bool twill__pc_may_consume(twill__pc *pc)
{
    uint32_t now = atomic_load(&pc->consuming);
    while (now < pc->consumers)
        if (atomic_compare_exchange_weak(&pc->consuming, &now, now + 1))
            return true;
    return false;
}

/* A push has found the queue full: with nobody to consume, the producer consumes one item. */
static inline int twill__pc_relief(void *pc_)
{
    twill__pc *pc = (twill__pc *)pc_;
    uint64_t thread = twill__thread_number();
    for (unsigned k = 0; k < pc->job->np; k++) {
        twill__pc_worker *worker = &pc->workers[k];
        twill_task task;
        bool taken;
        uint32_t none = 0;
        /* its own entry is the only one that this thread can take for its own */
        if (atomic_load_explicit(&pc->workers[k].owner, memory_order_relaxed) != thread)
            continue;
        if (worker->relieving)
            return -1;
        if (pc->caller_runs)
            atomic_fetch_add(&pc->consuming, 1);
        else if (!atomic_compare_exchange_strong(&pc->consuming, &none, 1))
            return 0;
        task = *worker->task;
        taken = twill__pc_take(pc, worker, 1, false) == TWILL_OK;
        if (taken) {
            worker->relieving = true;
            worker->relieved = (size_t)worker->numbers[0];
            twill__pc_batch(pc, worker, &task);
            worker->relieving = false;
            pc->job->slot[k].inside = false;
            twill__set_begin(&pc->job->slot[k], SIZE_MAX - 1);
        }
        twill__pc_left(pc);
        return taken;
    }
    return -1;
}

/* ---- producers ---- */

static inline void twill__pc_producer_ended(void *worker_)
{
    twill__pc_worker *worker = (twill__pc_worker *)worker_;
    twill__job *job = (twill__job *)worker->task->private_;
    twill__pc *pc = (twill__pc *)job->data;
    twill__slot *me = &job->slot[worker->task->worker];
    me->inside = false; /* the engine would take the producer's index for an item's */
    if (worker->relieving) {
        twill__item_failed(job, me, worker->relieved, worker->relieved, TWILL_LOST, 0);
        if (job->policy != TWILL_ON_ERROR_COLLECT)
            twill__pc_end(pc);
        twill__pc_left(pc);
    }
    twill__pc_producer_failed(pc, TWILL_LOST, 0);
    if (worker->task->worker == 0) /* the producers that wait for this thread will not come */
        twill__pc_end(pc);
    worker->task = NULL;
    worker->producing = false;
    (void)twill_queue_detach(pc->queue);
}

/* Runs the next producer; false: all have begun. */
static inline bool twill__pc_produce(twill__pc *pc, twill__pc_worker *worker, twill_task *task)
{
    uint32_t k = atomic_load(&pc->next_producer);
    twill__slot *me = &pc->job->slot[task->worker];
    int code;
    do
        if (k >= pc->producers)
            return false;
    while (!atomic_compare_exchange_weak(&pc->next_producer, &k, k + 1));
    if (!atomic_load(&pc->ended) && !twill__pc_over(pc)) {
        twill__set_begin(me, SIZE_MAX - 1); /* above all items */
        task->index = k;
        worker->producing = true;
        TWILL__GUARD_PUSH(twill__pc_producer_ended, worker);
        me->inside = false;
        code = pc->produce(pc->queue, task);
        TWILL__GUARD_POP(0);
        me->said = 0;
        worker->producing = false;
        if (code && !atomic_load(&pc->ended) &&
            !(code == (int)TWILL_CLOSED && twill_queue_is_closed(pc->queue)))
            twill__pc_producer_failed(pc, TWILL_FAILED, code);
    }
    if (twill__pc_over(pc))
        twill__pc_end(pc);
    (void)twill_queue_detach(pc->queue);
    return true;
}

/* ---- roles ---- */

static inline void twill__pc_body(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    twill__pc *pc = (twill__pc *)job->data;
    twill__pc_worker *worker = &pc->workers[task->worker];
    bool caller = task->worker == 0;
    (void)begin;
    (void)end;
    job->slot[task->worker].from = SIZE_MAX;
    worker->task = task;
    /* read by this thread alone; other numbers differ */
    atomic_store_explicit(&worker->owner, twill__thread_number(), memory_order_relaxed);
    if (!caller && twill__pc_may_consume(pc))
        twill__pc_consume(pc, worker, task);
    while (twill__pc_produce(pc, worker, task)) {}
    /* in vain only beside a consumer, who drains, or one in relief, who comes here after it */
    if (twill__pc_may_consume(pc))
        twill__pc_consume(pc, worker, task);
    worker->task = NULL;
    atomic_store_explicit(&worker->owner, 0, memory_order_relaxed);
}

static inline void twill__pc_steps(twill__job *job, void *data)
{
    twill__pc *pc = (twill__pc *)data;
    twill__pass pass;
    memset(&pass, 0, sizeof pass);
    pass.n = (size_t)pc->producers + pc->consumers;
    pass.body = twill__pc_body;
    pass.data = pc;
    pass.schedule = TWILL__DYNAMIC;
    pass.chunk = 1;
    pass.whole = pass.forced = true;
    pc->job = job;
    pc->table = *twill__job_table();
    pc->table.stop = twill__pc_stop;
    job->call.table = &pc->table;
    twill__run_pass(job, &pass);
    /* all have left */
    if (atomic_load(&job->stop) != TWILL_FAILED)
        pc->cut = (twill_status)atomic_load(&job->stop);
}

/* ---- the call ---- */

static inline twill_status twill__pc_answer(const twill__pc *pc, const twill_queue_stats *stats,
                                            twill_report *report)
{
    uint32_t failed = atomic_load(&pc->failed);
    size_t bad = report->done + report->failed;
    twill_status inner = report->status;
    report->total = (size_t)stats->accepted;
    report->skipped = report->total - bad;
    if (inner >= TWILL_INVALID)
        return inner;
    if (report->first_error.status)
        return TWILL_FAILED;
    if (failed || twill__queue_closed(pc->queue) == TWILL_FAILED) {
        report->first_error.index = SIZE_MAX;
        report->first_error.status = failed ? (twill_status)failed : TWILL_FAILED;
        report->first_error.code = failed ? pc->code : twill_queue_code(pc->queue);
        return TWILL_FAILED;
    }
    if (!pc->job) /* over before it began */
        return inner;
    if (pc->cut && (report->skipped || atomic_load(&pc->ended) ||
                    atomic_load(&pc->next_producer) < pc->producers))
        return pc->cut;
    return TWILL_OK;
}

/* Also runs when a callback ends the calling thread. */
static inline void twill__pc_finish(void *pc_)
{
    twill__pc *pc = (twill__pc *)pc_;
    const twill_produce_consume_options *options = pc->options;
    twill_queue_stats stats;
    twill_report report = pc->inner;
    (void)twill__queue_close(pc->queue, TWILL_CLOSED, 0);
    (void)twill_queue_clear(pc->queue);
    twill_queue_get_stats(pc->queue, &stats);
    pc->status = report.status = twill__pc_answer(pc, &stats, &report);
    (void)twill_queue_destroy(pc->queue);
    TWILL_FREE(pc->memory);
    if (options->queue_stats)
        *options->queue_stats = stats;
    if (options->run.report)
        *options->run.report = report;
}

static inline twill_status twill__pc_check(twill__pc *pc, size_t item_size)
{
    const twill_produce_consume_options *options = pc->options;
    const twill__job *outer = twill__thread()->job;
    pc->run = options->run;
    pc->run.report = &pc->inner;
    pc->producers = options->producers ? options->producers : 1;
    pc->batch = options->batch ? options->batch : 1;
    pc->caller_runs = options->queue.overflow == TWILL_OVERFLOW_CALLER_RUNS;
    if (!pc->produce || !pc->consume || !item_size || options->queue.producers ||
        options->run.statuses || options->run.codes)
        return TWILL_INVALID;
    if (twill__check_run(&pc->run) != TWILL_OK)
        return twill__check_run(&pc->run);
    pc->consumers = options->run.workers ? options->run.workers
                    : options->run.pool  ? options->run.pool->team->threads
                    : outer              ? outer->np
                                         : twill__cpus_hint();
    if (pc->producers > TWILL__MAX_WORKERS - 1 ||
        pc->consumers > TWILL__MAX_WORKERS - pc->producers)
        return TWILL_TOO_BIG;
    pc->run.workers = pc->producers + pc->consumers;
    return TWILL_OK;
}

/* One block: the workers' records, numbers and items. */
static inline twill_status twill__pc_memory(twill__pc *pc, size_t item_size)
{
    size_t count = pc->run.workers, bytes = 0, numbers, items;
    char *at;
    if (!twill__queue_add(&bytes, count, sizeof(twill__pc_worker)))
        return TWILL_TOO_BIG;
    numbers = bytes;
    if (pc->batch > SIZE_MAX / 4 / count || pc->batch > SIZE_MAX / 4 / item_size ||
        !twill__queue_add(&bytes, count * pc->batch, sizeof(uint64_t)))
        return TWILL_TOO_BIG;
    items = bytes;
    if (!twill__queue_add(&bytes, count, (pc->batch * item_size + 15) / 16 * 16))
        return TWILL_TOO_BIG;
    at = (char *)TWILL_MALLOC(bytes);
    if (!at)
        return TWILL_NO_MEMORY;
    pc->memory = at;
    pc->workers = (twill__pc_worker *)(void *)at;
    memset(pc->workers, 0, count * sizeof *pc->workers);
    for (size_t k = 0; k < count; k++) {
        pc->workers[k].numbers = (uint64_t *)(void *)(at + numbers) + k * pc->batch;
        pc->workers[k].items = at + items + k * ((pc->batch * item_size + 15) / 16 * 16);
    }
    return TWILL_OK;
}

static inline twill_status twill__pc_queue(twill__pc *pc, size_t item_size)
{
    twill_queue_options options = pc->options->queue;
    twill_status status;
    if (pc->caller_runs)
        options.overflow = TWILL_OVERFLOW_BLOCK;
    if (!options.context)
        options.context = pc->run.context;
    options.producers = pc->producers;
    status = twill_queue_create(&pc->queue, item_size, &options);
    if (status != TWILL_OK)
        return status;
    pc->queue->relief = twill__pc_relief;
    pc->queue->relief_data = pc;
    pc->queue->others = &pc->consuming;
    status = twill__pc_memory(pc, item_size);
    if (status != TWILL_OK)
        (void)twill_queue_destroy(pc->queue);
    return status;
}

TWILL__DEFINE twill_status twill_produce_consume(size_t item_size, twill_produce_fn *produce,
                                                 twill_consume_fn *consume,
                                                 const twill_produce_consume_options *options)
{
    static const twill_produce_consume_options none;
    twill__pc pc;
    twill_status status;
    memset(&pc, 0, sizeof pc);
    pc.options = options ? options : &none;
    pc.produce = produce;
    pc.consume = consume;
    status = twill__pc_check(&pc, item_size);
    if (status == TWILL_OK)
        status = twill__pc_queue(&pc, item_size);
    if (status != TWILL_OK)
        return twill__refuse(&pc.options->run, 0, status);
    TWILL__GUARD_PUSH(twill__pc_finish, &pc);
    (void)twill__run_call(&pc.run, (size_t)pc.run.workers, true, twill__pc_steps, &pc);
    TWILL__GUARD_POP(1);
    return pc.status;
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
    const _Atomic uint32_t *mark; /* holds the generation of this process */
    bool has_own;
} twill__crew;

/* Of the block that a crew of so many workers needs behind it, in multiples of a line. */
static inline size_t twill__crew_bytes(unsigned workers, unsigned own_threads)
{
    size_t bytes = (size_t)workers * sizeof(twill__slot) +
                   (size_t)own_threads * sizeof(twill__helper) +
                   3 * sizeof(uint64_t) * twill__words(workers);
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
    job->ranges = job->ready + twill__words(workers);
    for (unsigned word = 0; word < 3 * twill__words(workers); word++)
        atomic_init(&bits[word], 0);
    atomic_init(&job->limit, SIZE_MAX);
    atomic_init(&job->stop_at, SIZE_MAX);
    job->may_end = run->until.cancel || !twill__no_deadline(run->until.deadline);
    job->generation = twill__generation();
    /* set: generation was asked */
    crew->mark = atomic_load_explicit(&twill__process()->mark, memory_order_acquire);
    crew->helper = (twill__helper *)(void *)(bits + 3 * twill__words(workers));
}

/* Whether this process opened it. */
static inline bool twill__crew_here(const twill__crew *crew)
{
    /* a number; set before */
    return atomic_load_explicit(crew->mark, memory_order_relaxed) == crew->job.generation;
}

/* Opens a crew of `workers` numbers. `memory`: twill__crew_bytes, aligned to TWILL__LINE. Threads:
   those of run->pool; or, for a call that ends before the callback around it does (`nested`), those
   of the call around it; else `own_threads` are started. Fewer than that, even none, is no failure
   (flag DEGRADED, and callers help), but with run->strict. The object must be ready to be asked.
   OK; INVALID, FORKED, CLOSED (pool), NO_THREAD: nothing is open. */
static inline twill_status twill__crew_open(twill__crew *crew, const twill_run *run,
                                            unsigned workers, unsigned own_threads, bool nested,
                                            const twill__crew_table *table, void *object,
                                            void *memory)
{
    twill__job *job = &crew->job, *outer = twill__thread()->job;
    twill_status status = twill__check_run(run);
    bool all = true;
    if (status != TWILL_OK)
        return status;
    twill__crew_init(crew, run, workers, table, object, memory);
    if (run->pool)
        job->team = run->pool->team;
    else if (nested && outer && outer->team && !run->workers)
        job->team = outer->team;
    if (nested)
        job->outer = outer;
    if (job->team) {
        job->seat = twill__take_seat(job->team);
        if (!job->seat && run->pool && (atomic_load(&job->team->seat[0].word) & TWILL__SEAT_SHUT))
            return TWILL_CLOSED;
        if (job->seat && nested && outer && outer->team == job->team) {
            job->parent = outer;
            job->flags |= TWILL_REPORT_NESTED;
        }
    }
    if (!job->seat) { /* none asked for, or so many calls are on it that none is left */
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
    else if (run->pool && job->team->threads < own_threads)
        all = false;
    twill__open(job, 0);
    if (!all)
        job->flags |= TWILL_REPORT_DEGRADED;
    if (!all && run->strict) {
        atomic_fetch_and(&job->seat->word, ~TWILL__SEAT_OPEN);
        twill__meet(job, NULL, false);
        twill__release(job->seat, true);
        if (crew->has_own)
            (void)twill__team_close(&crew->own);
        return TWILL_NO_THREAD;
    }
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
    twill_ns alarm = atomic_load(&team->alarm);
    while (instant < alarm) /* exit: set, or an earlier one is */
        if (atomic_compare_exchange_weak(&team->alarm, &alarm, instant)) {
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
    unsigned threads = job->team->threads;
    if (twill__crew_here(crew)) {
        twill__meet(job, NULL, false);
        twill__stop_workers(job);
        if (!crew->has_own)
            job->flags |= twill__team_flags(job->team);
        twill__release(job->seat, true);
        if (crew->has_own)
            job->flags |= twill__team_close(&crew->own);
        for (unsigned worker = 0; worker < job->np; worker++)
            if ((atomic_load(&job->ready[worker / 64]) & twill__bit(worker)) &&
                twill__token_used(twill__token_of(&job->slot[worker].token)))
                twill_cancel_detach(&job->slot[worker].token);
    }
    if (!report)
        return;
    report->workers_started = threads < job->np ? threads : job->np;
    for (unsigned worker = 0; worker < job->np; worker++)
        if (atomic_load(&job->ready[worker / 64]) & twill__bit(worker))
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
    twill__call call; /* first: task->private_ points here */
    /* its place in one of the fan's lists */
    struct twill__fan_task *next, *previous;
    struct twill__fan_task *after; /* its place among the outcomes: it may still run */
    struct twill__fan_task *outer; /* it runs inside that one, in the same thread */
    struct twill_fan *fan;
    twill_task_fn *fn; /* NULL: the call's process */
    void *arg;
    twill_outcome outcome;
    twill_ns due;       /* its own time is over then; 0: it has no limit */
    twill_cancel token; /* task->until.cancel */
    unsigned holds;
    bool tell, told; /* its token is to fire; somebody does that */
    bool expired;    /* its time is over */
    bool answered;   /* its outcome is given, and it still runs */
    bool skip;       /* it said twill_task_skip */
    bool late;       /* a success after the goal was met */
    /* the item (stream; max_abandoned) and the result stand behind it */
} twill__fan_task;

typedef struct twill__fan_list {
    twill__fan_task *first, *last;
} twill__fan_list;

typedef struct twill__fan_outcomes { /* in the order in which they came */
    twill__fan_task *first, *last;
} twill__fan_outcomes;

typedef struct twill__fan_chunk { /* of records */
    struct twill__fan_chunk *next;
} twill__fan_chunk;

typedef struct twill__fan_slot { /* of one worker number; the thread that has it writes */
    /* its number: only the own thread finds itself here */
    _Atomic uint64_t thread;
    twill_task *task;
    twill__fan_task *current; /* the innermost that runs */
    bool starting;            /* inside worker_start; left so: the hook has ended its thread */
    size_t chunks;
    twill_ns busy;
} twill__fan_slot;

/* A thread that waits in a call of the fan. What it is told stands in node.answer. */
typedef struct twill__fan_wait {
    twill__node node;
    unsigned helps;        /* it could run a task itself: TWILL__FAN_HELPS_... */
    bool unread;           /* a go that waits for readers, too */
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
    bool doomed;          /* destroy has begun */
    bool met, unmet;      /* the goal is; it cannot be any more */
    twill_status over;    /* not OK: tasks that have not started end with it */
    twill_status refusal; /* and go answers this */
    size_t limit;         /* the highest index that must still run */
    size_t stop_at;       /* the lowest index that said stop */
    size_t next_index;    /* of the next task */
    size_t emit;          /* ordered: the index that is given next */
    twill__fan_list queue, running, overdue;
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
    size_t deaths;     /* threads that ended in a callback */
    unsigned spinning; /* readers that wait outside the lock for a moment */
    /* a call's items: taken by index; SIZE_MAX as source_n: nobody knows */
    const char *items;
    size_t source_next, source_n;
    bool pulled; /* stream: the source may give more */
    /* ---- shared without the lock ---- */
    _Alignas(TWILL__LINE) _Atomic uint32_t ready; /* is there something to run? */
    _Atomic uint32_t published;                   /* changes for those who wait outside */
    _Atomic uint32_t visits; /* calls inside, and VISITS_WAIT: the destroyer sleeps on it */
    /* ---- set at creation ---- */
    _Alignas(TWILL__LINE) twill_fan_goal goal;
    twill_on_error policy;
    size_t quorum, most_errors;
    bool ordered, copies; /* copies: items are the record's */
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
    twill__fan_task **ring; /* ordered: the outcomes by index % capacity */
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
        task->next = fan->free;
        fan->free = task;
    }
    fan->records += count;
}

/* Without the lock: a chunk of `count` records; NULL: no memory. */
static inline twill__fan_chunk *twill__fan_new_chunk(const twill_fan *fan, size_t count)
{
    if (count > (SIZE_MAX / 2 - 64) / fan->task_size)
        return NULL;
    return (twill__fan_chunk *)TWILL_MALLOC(count * fan->task_size + 64);
}

static inline void twill__fan_add_chunk(twill_fan *fan, twill__fan_chunk *chunk, size_t count)
{
    uintptr_t at = ((uintptr_t)(chunk + 1) + 15) / 16 * 16;
    chunk->next = fan->chunks;
    fan->chunks = chunk;
    twill__fan_add_records(fan, (char *)chunk + (at - (uintptr_t)chunk), count);
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

static inline twill__fan_task *twill__fan_take_free(twill_fan *fan)
{
    twill__fan_task *task = fan->free;
    if (!task)
        return NULL;
    fan->free = task->next;
    fan->used++;
    return task;
}

static inline void twill__fan_release(twill_fan *fan, twill__fan_task *task)
{
    if (--task->holds)
        return;
    task->next = fan->free;
    fan->free = task;
    fan->used--;
}
#endif

/* Everything is decided under one lock. Whoever changes something ends with twill__fan_exit, which
   settles: hands outcomes to those who wait for them, accepts tasks that wait for room, and then,
   outside the lock, wakes, fires and notifies. So while the lock is free nobody waits for what is
   there. */
typedef struct twill__fan_turn { /* what to do after the lock */
    bool visitor;                /* a call from outside, counted in fan->visits */
    bool again;                  /* all who wait shall look again */
    bool watch;                  /* only those who wait for the end */
    bool fire_all, fire_some, notify;
    unsigned call; /* workers */
    twill_ns alarm;
    unsigned count; /* whom to wake */
    _Atomic uint32_t *word[16];
} twill__fan_turn;

static inline void twill__fan_lock(twill_fan *fan, twill__fan_turn *turn)
{
    turn->again = turn->watch = turn->fire_all = turn->fire_some = turn->notify = false;
    turn->call = turn->count = 0;
    turn->alarm = 0;
    twill__lock(&fan->lock);
}

/* A call from outside comes in: destroy waits for it. */
static inline void twill__fan_enter(twill_fan *fan, twill__fan_turn *turn)
{
    turn->visitor = true;
    twill__fan_lock(fan, turn);
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
    return fan->queue.first || (twill__fan_source_left(fan) && fan->used < fan->capacity);
}

static inline bool twill__fan_readable(const twill_fan *fan)
{
    return fan->ordered ? fan->ring[fan->emit % fan->capacity] != NULL : fan->done.first != NULL;
}

/* No outcome is left, and none will come. */
static inline bool twill__fan_finished(const twill_fan *fan)
{
    return fan->closed && !fan->in_flight && !twill__fan_readable(fan);
}

/* The next outcome, or NULL. */
static inline twill__fan_task *twill__fan_take(twill_fan *fan)
{
    twill__fan_task *task;
    if (fan->ordered) {
        twill__fan_task **place = &fan->ring[fan->emit % fan->capacity];
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

/* Tasks above `index` need not run. */
static inline void twill__fan_lower(twill_fan *fan, twill__fan_turn *turn, size_t index)
{
    twill__fan_list *lists[2] = {&fan->running, &fan->overdue};
    if (index >= fan->limit)
        return;
    fan->limit = index;
    fan->closed = turn->again = true;
    for (int k = 0; k < 2; k++)
        for (twill__fan_task *task = lists[k]->first; task; task = task->next)
            if (task->outcome.index > index)
                task->tell = turn->fire_some = true;
}

/* Nothing more is started; those that run are told. go answers `refusal`. */
static inline void twill__fan_end(twill_fan *fan, twill__fan_turn *turn, twill_status why,
                                  twill_status refusal)
{
    if (fan->over)
        return;
    fan->over = why;
    fan->refusal = refusal;
    fan->closed = turn->again = turn->fire_all = true;
}

/* The run's own end: looked at before each task and each wait. */
static inline void twill__fan_look(twill_fan *fan, twill__fan_turn *turn, twill_ns now)
{
    twill_ns deadline = fan->crew.run.until.deadline;
    if (fan->over)
        return;
    if (fan->cancel && twill_cancel_fired(fan->cancel))
        twill__fan_end(fan, turn, TWILL_CANCELLED, TWILL_CANCELLED);
    else if (!twill__no_deadline(deadline) && now >= deadline)
        twill__fan_end(fan, turn, TWILL_TIMEOUT, TWILL_TIMEOUT);
}

/* ---- outcomes ---- */

static inline void twill__fan_failure(twill_fan *fan, twill__fan_turn *turn,
                                      const twill__fan_task *task)
{
    twill_item_error error = {task->outcome.index, task->outcome.status, task->outcome.code};
    fan->failed++;
    if (error.index > fan->stop_at) /* told to give up; the serial loop never came here */
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

/* Whether `quorum` successes can still be had. */
static inline bool twill__fan_in_reach(const twill_fan *fan)
{
    size_t left = fan->in_flight;
    if (!fan->closed || fan->pulled)
        return true; /* nobody knows how many more will come */
    if (twill__fan_source_left(fan))
        left += fan->source_n - fan->source_next;
    return fan->successes >= fan->quorum || left >= fan->quorum - fan->successes;
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
        fan->ring[task->outcome.index % fan->capacity] = task;
        turn->notify |= task->outcome.index == fan->emit;
    } else {
        turn->notify |= !fan->done.first;
        twill__fan_push(&fan->done, task);
    }
    if (fan->spinning) /* relaxed: a hint to look again under the lock */
        atomic_fetch_add_explicit(&fan->published, 1, memory_order_relaxed);
}

/* It gets its outcome although it still runs. */
static inline void twill__fan_answer(twill_fan *fan, twill__fan_turn *turn, twill__fan_task *task,
                                     twill_status status)
{
    task->answered = true;
    fan->answered++;
    fan->executing--;
    twill__fan_publish(fan, turn, task, status, 0, twill__clock_now());
}

static inline void twill__fan_answer_overdue(twill_fan *fan, twill__fan_turn *turn)
{
    for (twill__fan_task *task = fan->overdue.first; task && fan->answered < fan->max_abandoned;
         task = task->next)
        if (!task->answered)
            twill__fan_answer(fan, turn, task, TWILL_TIMEOUT);
}

/* Tasks whose own time is over. They stand in the order of their start, so of their ends. */
static inline void twill__fan_expire(twill_fan *fan, twill__fan_turn *turn, twill_ns now)
{
    for (twill__fan_task *task; (task = fan->running.first) && task->due && now >= task->due;) {
        twill__fan_remove(&fan->running, task);
        twill__fan_append(&fan->overdue, task);
        task->expired = task->tell = turn->fire_some = true;
    }
    if (fan->overdue.first)
        twill__fan_answer_overdue(fan, turn);
}

/* What time has brought. */
static inline twill_ns twill__fan_clock(twill_fan *fan, twill__fan_turn *turn)
{
    twill_ns now = twill__clock_now();
    twill__fan_look(fan, turn, now);
    if (fan->timeout)
        twill__fan_expire(fan, turn, now);
    return now;
}

/* When time will bring something, at the earliest; `deadline` otherwise. */
static inline twill_ns twill__fan_next_instant(const twill_fan *fan, twill_ns deadline)
{
    twill_ns run = fan->crew.run.until.deadline;
    if (twill__no_deadline(deadline))
        deadline = TWILL_FOREVER;
    if (!fan->over && !twill__no_deadline(run) && run < deadline)
        deadline = run;
    if (fan->running.first && fan->running.first->due && fan->running.first->due < deadline)
        deadline = fan->running.first->due;
    return deadline;
}

/* ---- tasks ---- */

static inline void twill__fan_fresh(twill_fan *fan, twill__fan_task *task,
                                    const twill__call_table *table)
{
    memset(task, 0, sizeof *task);
    task->call.table = table;
    task->fan = fan;
    task->outcome.worker = UINT_MAX;
    task->holds = 2;
}

static inline void twill__fan_accept(twill_fan *fan, twill__fan_turn *turn, twill__fan_task *task,
                                     twill_ns now)
{
    task->outcome.index = fan->next_index++;
    task->outcome.queued = now;
    fan->in_flight++;
    twill__fan_append(&fan->queue, task);
    turn->call++;
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
        task->due = fan->timeout < TWILL_FOREVER - now ? now + fan->timeout : TWILL_FOREVER;
        turn->alarm = task->due;
    }
}

/* It has come to its end, in its thread. */
static inline void twill__fan_ended(twill_fan *fan, twill__fan_turn *turn, twill__fan_task *task,
                                    twill_status status, int code, twill_ns now)
{
    twill__fan_remove(task->expired ? &fan->overdue : &fan->running, task);
    if (task->answered) {
        fan->answered--;
        twill__fan_answer_overdue(fan, turn);
        turn->watch = true; /* destroy may wait for room among those left behind */
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

static inline bool twill__fan_grant(twill__fan_turn *turn, twill__list *list, twill__fan_wait *wait,
                                    int answer)
{
    _Atomic uint32_t *word = &wait->node.word;
    wait->node.answer = answer;
    if (!twill__grant(list, &wait->node))
        return false;
    if (turn->count < sizeof turn->word / sizeof turn->word[0])
        turn->word[turn->count++] = word;
    else
        twill__wake(word, 1);
    return true;
}

static inline void twill__fan_grant_all(twill__fan_turn *turn, twill__list *list, int answer)
{
    for (twill__node *node = list->first, *next; node; node = next) {
        next = node->next;
        (void)twill__fan_grant(turn, list, (twill__fan_wait *)(void *)node, answer);
    }
}

static inline bool twill__fan_room(const twill_fan *fan)
{
    return fan->in_flight < fan->window && fan->unread < fan->max_unread;
}

/* First come, first served. A plain go does not wait for readers. */
static inline void twill__fan_settle_goers(twill_fan *fan, twill__fan_turn *turn)
{
    for (twill__node *node = fan->goers.first, *next; node; node = next) {
        twill__fan_wait *wait = (twill__fan_wait *)(void *)node;
        next = node->next;
        if (fan->unread >= fan->max_unread && !wait->unread) {
            (void)twill__fan_grant(turn, &fan->goers, wait, TWILL_FULL);
            continue;
        }
        if (!twill__fan_room(fan))
            return;
        /* its frame stays until it has had the lock again */
        if (twill__fan_grant(turn, &fan->goers, wait, TWILL_OK))
            twill__fan_accept(fan, turn, wait->task, twill__clock_now());
    }
}

static inline void twill__fan_settle_readers(twill_fan *fan, twill__fan_turn *turn)
{
    for (twill__node *node = fan->readers.first, *next; node && twill__fan_readable(fan);
         node = next) {
        twill__fan_wait *wait = (twill__fan_wait *)(void *)node;
        next = node->next;
        wait->task = fan->ordered ? fan->ring[fan->emit % fan->capacity] : fan->done.first;
        if (twill__fan_grant(turn, &fan->readers, wait, TWILL_OK))
            (void)twill__fan_take(fan);
    }
    if (twill__fan_finished(fan))
        twill__fan_grant_all(turn, &fan->readers, TWILL__FAN_AGAIN);
}

/* There are no threads: they could not be started, or a callback has ended them and they could not
   be replaced. */
static inline bool twill__fan_orphaned(const twill_fan *fan)
{
    const twill__team *team = fan->crew.job.team;
    return atomic_load(&team->lost) >= team->threads;
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
        if ((orphaned || wait->helps == TWILL__FAN_HELPS_ALWAYS || (wait->helps && numbered)) &&
            twill__fan_grant(turn, list, wait, TWILL__FAN_AGAIN))
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
        twill__fan_grant_all(turn, &fan->goers, TWILL__FAN_AGAIN);
        twill__fan_grant_all(turn, &fan->readers, TWILL__FAN_AGAIN);
    }
    if (fan->watchers.first && (turn->again || turn->watch || fan->in_flight <= fan->max_abandoned))
        twill__fan_grant_all(turn, &fan->watchers, TWILL__FAN_AGAIN);
    available = twill__fan_available(fan);
    if (available && (fan->readers.first || fan->goers.first || fan->watchers.first))
        (void)(twill__fan_settle_helper(fan, turn, &fan->readers) ||
               twill__fan_settle_helper(fan, turn, &fan->goers) ||
               twill__fan_settle_helper(fan, turn, &fan->watchers));
    /* written under the lock alone, so the own load is exact */
    if (available != (bool)atomic_load_explicit(&fan->ready, memory_order_relaxed)) {
        /* seq_cst: a worker looks at it after the epoch, which twill__crew_call raises after it */
        atomic_store(&fan->ready, available);
        if (available && !turn->call)
            turn->call = fan->workers;
    }
}

/* ---- leaving the lock ---- */

static inline void twill__fan_exit(twill_fan *fan, twill__fan_turn *turn);

/* Fires the tokens of the tasks that are to be told. */
static inline void twill__fan_fire_some(twill_fan *fan)
{
    for (;;) { /* exit: each task is told once */
        twill__fan_task *task = NULL;
        twill__fan_list *lists[2] = {&fan->running, &fan->overdue};
        twill__fan_turn turn;
        turn.visitor = false;
        twill__lock(&fan->lock);
        for (int k = 0; k < 2 && !task; k++)
            for (task = lists[k]->first; task && !(task->tell && !task->told);)
                task = task->next;
        if (task) {
            task->told = true;
            task->holds++; /* not used again before we are back */
        }
        twill__unlock(&fan->lock);
        if (!task)
            return;
        twill_cancel_fire(&task->token, task->expired ? TWILL_TIMEOUT : TWILL_CANCELLED);
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
#endif

/* ---- what a task says ---- */

static inline void twill__fan_task_stop(const twill_task *task)
{
    twill__fan_task *mine = (twill__fan_task *)task->private_;
    twill_fan *fan = mine->fan;
    twill__fan_turn turn;
    turn.visitor = false;
    twill__fan_lock(fan, &turn);
    if (!mine->answered) {
        if (mine->outcome.index < fan->stop_at)
            fan->stop_at = mine->outcome.index;
        twill__fan_lower(fan, &turn, mine->outcome.index);
    }
    twill__fan_exit(fan, &turn);
}

static inline void twill__fan_task_skip(const twill_task *task)
{
    ((twill__fan_task *)task->private_)->skip = true; /* read by its own thread alone */
}

static inline const twill__call_table *twill__fan_task_table(void)
{
    static const twill__call_table table = {NULL, twill__fan_task_stop, twill__fan_task_skip, NULL,
                                            NULL};
    return &table;
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
    twill__fan_turn turn;
    turn.visitor = dropping->visitor;
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

static inline twill__fan_task *twill__fan_unqueue(twill_fan *fan)
{
    twill__fan_task *task = fan->queue.first;
    twill__fan_remove(&fan->queue, task);
    return task;
}

/* Drops what need not run any more, without waiting for a worker. False: there was nothing. */
static inline bool twill__fan_drop_spared(twill_fan *fan, twill__fan_turn *turn)
{
    twill__fan_task *task = fan->queue.first;
    if (!task || !twill__fan_spared(fan, task->outcome.index))
        return false;
    twill__fan_drop(fan, turn, twill__fan_unqueue(fan));
    return true;
}

/* ---- tasks that run ---- */

/* The next item of a call's source becomes a task. NULL: no memory for one more now. */
static inline twill__fan_task *twill__fan_from_source(twill_fan *fan, twill__fan_turn *turn)
{
    twill__fan_task *task;
    if (!fan->free) {
        size_t more = twill__fan_growth(fan);
        twill__fan_chunk *chunk;
        twill__fan_exit(fan, turn);
        chunk = twill__fan_new_chunk(fan, more);
        twill__fan_lock(fan, turn);
        if (chunk)
            twill__fan_add_chunk(fan, chunk, more);
        else if (!fan->free)
            fan->capacity = fan->used; /* it goes on with those that it has */
        if (!twill__fan_available(fan) || !fan->free || fan->queue.first)
            return NULL;
    }
    task = twill__fan_take_free(fan);
    twill__fan_fresh(fan, task, twill__fan_task_table());
    task->outcome.index = fan->source_next++;
    task->outcome.queued = fan->since;
    task->arg = (void *)(uintptr_t)(fan->items + task->outcome.index * fan->item_size);
    if (fan->copies) /* the caller may be gone before the task */
        memcpy((char *)task + fan->item_at, task->arg, fan->item_size);
    fan->in_flight++;
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
    int code;
    /* before others can see it run, and fire it */
    twill_cancel_init(&task->token, slot->task->until.cancel);
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
    *now = twill__clock_now();
    twill__fan_lock(fan, turn);
    if (!code && !task->skip && fan->discard &&
        (task->answered || task->expired || (task->due && *now >= task->due))) {
        twill__fan_exit(fan, turn); /* nobody will take this success */
        twill__fan_call_discard(fan, task);
        twill__fan_lock(fan, turn);
    }
    slot->chunks++;
    if (!task->outer)
        slot->busy += *now - task->outcome.started;
    slot->current = task->outer;
    twill__fan_ended(fan, turn, task, code ? TWILL_FAILED : TWILL_OK, code, *now);
    return true;
}

/* Runs or drops the next one. The lock is held before and after; false: as above. */
static inline bool twill__fan_step(twill_fan *fan, twill__fan_turn *turn, twill__fan_slot *slot,
                                   twill_ns *now)
{
    twill__fan_task *task;
    if (twill__fan_drop_spared(fan, turn)) {
        *now = twill__fan_clock(fan, turn);
        return true;
    }
    task = fan->queue.first ? twill__fan_unqueue(fan) : twill__fan_from_source(fan, turn);
    if (!task)
        return true;
    if (!twill__fan_run(fan, turn, slot, task, now))
        return false;
    twill__fan_look(fan, turn, *now);
    if (fan->timeout)
        twill__fan_expire(fan, turn, *now);
    return true;
}

/* ---- the crew's functions ---- */

static inline bool twill__fan_ready(void *fan_)
{
    twill_fan *fan = (twill_fan *)fan_;
    twill_ns due = 0;
    if (atomic_load(&fan->ready)) /* seq_cst: see twill__fan_settle */
        return true;
    if (!fan->timeout || !twill__fan_here(fan))
        return false;
    twill__lock(&fan->lock);
    if (fan->running.first)
        due = fan->running.first->due;
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

static inline void twill__fan_work(void *fan_, twill_task *task)
{
    twill_fan *fan = (twill_fan *)fan_;
    twill__fan_slot *slot = &fan->slot[task->worker];
    twill__fan_turn turn;
    twill_ns now;
    bool once;
    turn.visitor = false;
    slot->task = task;
    /* relaxed: only the own thread finds its number here */
    atomic_store_explicit(&slot->thread, twill__thread_number(), memory_order_relaxed);
    twill__fan_lock(fan, &turn);
    once = twill__fan_find_helping(fan) != NULL;
    now = twill__fan_clock(fan, &turn);
    while (twill__fan_available(fan)) { /* exit: each turn takes a task; helpers one */
        if (!twill__fan_step(fan, &turn, slot, &now))
            return;
        if (once)
            break;
    }
    atomic_store_explicit(&slot->thread, 0, memory_order_relaxed);
    twill__fan_exit(fan, &turn);
}

/* A callback has ended the thread: what it ran is LOST. */
static inline void twill__fan_died(void *fan_, twill_task *task)
{
    twill_fan *fan = (twill_fan *)fan_;
    twill__fan_slot *slot = &fan->slot[task->worker];
    twill__fan_helping **helping;
    twill__fan_turn turn;
    twill_ns now = twill__clock_now();
    bool visits = false;
    if (!twill__fan_here(fan))
        return;
    for (twill__fan_task *lost = slot->current; lost; lost = lost->outer)
        twill__token_leave(twill__token_of(&lost->token));
    turn.visitor = false;
    twill__fan_lock(fan, &turn);
    for (twill__fan_task *lost = slot->current, *outer; lost; lost = outer) {
        outer = lost->outer;
        twill__fan_ended(fan, &turn, lost, TWILL_LOST, 0, now);
    }
    slot->current = NULL;
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
    twill__fan_turn turn;
    int code = -1;
    if (!slot->starting) { /* else it has ended a thread already */
        slot->starting = true;
        code = fan->worker_start(state, task);
        slot->starting = false;
    }
    if (!code || !twill__fan_here(fan))
        return code;
    turn.visitor = false;
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
    for (unsigned k = 0; k < fan->workers; k++) /* relaxed: the own number is the own store */
        if (atomic_load_explicit(&fan->slot[k].thread, memory_order_relaxed) == me)
            return fan->slot[k].current ? &fan->slot[k] : NULL;
    return NULL;
}

/* Whether a thread that waits should run tasks: it is itself one of those that the fan could wait
   for. */
static inline bool twill__fan_may_help(const twill_fan *fan)
{
    const twill__team *team = fan->crew.job.team;
    if (twill__thread()->team == team)
        return true;
    for (const twill__job *job = twill__thread()->job; job; job = job->outer)
        if (job->team == team)
            return true;
    return false;
}

/* Runs one task, if a worker number is free. Answers as twill__fan_instead. */
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

/* While a call waits: runs a task instead, if this thread should. 1: it did, the caller looks
   again. 0: it did not. -1: this is another process now. */
static inline int twill__fan_instead(twill_fan *fan, twill__fan_turn *turn, twill__fan_slot *slot,
                                     bool helps)
{
    if (!twill__fan_available(fan))
        return 0;
    if (slot) {
        twill_ns now = twill__fan_clock(fan, turn);
        return twill__fan_step(fan, turn, slot, &now) ? 1 : -1;
    }
    if (fan->executing < fan->workers - fan->refused && (helps || twill__fan_orphaned(fan)))
        return twill__fan_help(fan, turn);
    return 0;
}
#endif

/* ---- waiting ---- */

static inline twill_status twill__fan_expired_until(twill_until until)
{
    if (until.cancel && twill_cancel_fired(until.cancel))
        return TWILL_CANCELLED;
    return twill__expired(until.deadline) ? TWILL_TIMEOUT : TWILL_OK;
}

/* Under the lock before and after: waits in `list`. True: answered, in wait->node.answer. False:
   *over is TIMEOUT or CANCELLED by `until`, or OK: time has brought something else. */
static inline bool twill__fan_wait_in(twill_fan *fan, twill__fan_turn *turn, twill__list *list,
                                      twill__fan_wait *wait, twill_until until, twill_status *over)
{
    twill_until soon = {twill__fan_next_instant(fan, until.deadline), until.cancel};
    twill_status status;
    if ((wait->helps || fan->deaths) && twill__fan_available(fan)) {
        /* no worker number was free a moment ago, or a thread may not be replaced in a moment */
        twill_ns next = twill__clock_now() + TWILL_MS(1);
        if (next < soon.deadline)
            soon.deadline = next;
    }
    twill__node_init(&wait->node);
    twill__list_append(list, &wait->node);
    twill__fan_exit(fan, turn);
    status = twill__wait(&wait->node, soon);
    twill__fan_lock(fan, turn);
    if (status == TWILL_OK)
        return true;
    twill__list_remove(list, &wait->node);
    *over = twill__fan_expired_until(until);
    return false;
}

/* Before a node is put into a list: a moment outside the lock, since a parked round trip costs far
   more. */
static inline void twill__fan_moment(twill_fan *fan, twill__fan_turn *turn)
{
    uint32_t seen =
        atomic_load_explicit(&fan->published, memory_order_relaxed); /* under the lock */
    fan->spinning++;
    twill__fan_exit(fan, turn);
    twill__spin(&fan->published, seen, TWILL__SPIN_WAIT, TWILL__SPIN_YIELDS);
    twill__fan_lock(fan, turn);
    fan->spinning--;
}

static inline unsigned twill__fan_helps(const twill_fan *fan, const twill__fan_slot *slot)
{
    return slot                       ? TWILL__FAN_HELPS_ALWAYS
           : twill__fan_may_help(fan) ? TWILL__FAN_HELPS_NUMBERED
                                      : 0;
}

/* The end of a call. */
static inline twill_status twill__fan_return(twill_fan *fan, twill__fan_turn *turn,
                                             twill_status status)
{
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
        turn->visitor = false;
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
    if (result && fan->result_size > 256) { /* too long to hold up the others */
        twill__fan_exit(fan, turn);
        memcpy(result, twill__fan_result(fan, task), fan->result_size);
        twill__fan_lock(fan, turn);
    } else if (result && fan->result_size) {
        memcpy(result, twill__fan_result(fan, task), fan->result_size);
    }
    twill__fan_release(fan, task);
}

/* How many tasks this thread has begun and not ended. */
static inline size_t twill__fan_depth(const twill__fan_slot *slot)
{
    size_t depth = 0;
    for (const twill__fan_task *task = slot ? slot->current : NULL; task; task = task->outer)
        depth += !task->answered;
    return depth;
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
    size_t depth = twill__fan_depth(slot);
    me.helps = wait ? twill__fan_helps(fan, slot) : 0;
    for (;;) { /* exit: an answer; each turn is another's progress, or time */
        int instead;
        (void)twill__fan_clock(fan, &turn);
        if ((task = twill__fan_take(fan)) != NULL)
            break;
        if (twill__fan_finished(fan))
            return twill__fan_return(fan, &turn, TWILL_CLOSED);
        if (twill__fan_drop_spared(fan, &turn))
            continue;
        if (!wait)
            return twill__fan_return(fan, &turn, TWILL_EMPTY);
        if (over == TWILL_OK)
            over = twill__fan_expired_until(until);
        if (over != TWILL_OK)
            return twill__fan_return(fan, &turn, over);
        if ((instead = twill__fan_instead(fan, &turn, slot, me.helps != 0)) < 0)
            return TWILL_FORKED;
        if (instead)
            continue;
        if (slot && fan->closed && fan->in_flight == fan->blocked + depth)
            return twill__fan_return(fan, &turn, TWILL_DEADLOCK);
        if (!spun && !fan->readers.first) {
            spun = true;
            twill__fan_moment(fan, &turn);
            continue;
        }
        fan->blocked += depth;
        if (!twill__fan_wait_in(fan, &turn, &fan->readers, &me, until, &over))
            me.node.answer = TWILL__FAN_AGAIN;
        fan->blocked -= depth;
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
    if (fan->doomed || fan->limit != SIZE_MAX)
        return TWILL_CLOSED;
    if (fan->over)
        return fan->refusal;
    return fan->closed && !(inside && fan->in_flight) ? TWILL_CLOSED : TWILL_OK;
}

/* A record for a task, or NULL: there is no memory, or (look again) there was none under the
   lock. */
static inline twill__fan_task *twill__fan_record(twill_fan *fan, twill__fan_turn *turn,
                                                 bool *no_memory)
{
    size_t more;
    twill__fan_chunk *chunk;
    *no_memory = false;
    if (fan->free)
        return twill__fan_take_free(fan);
    more = twill__fan_growth(fan);
    twill__fan_exit(fan, turn);
    chunk = twill__fan_new_chunk(fan, more);
    twill__fan_lock(fan, turn);
    if (chunk)
        twill__fan_add_chunk(fan, chunk, more);
    *no_memory = !chunk && !fan->free;
    return NULL;
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
    return twill__fan_expired_until(until);
}

static inline twill_status twill__fan_put(twill_fan *fan, const twill__fan_task *what,
                                          twill_until until, twill__fan_mode mode)
{
    twill__fan_turn turn;
    twill__fan_wait me = {.helps = 0};
    twill_status status, over = TWILL_OK;
    bool inside = twill__fan_begin(fan, &turn), no_memory = false;
    twill__fan_slot *slot = inside ? twill__fan_my_slot(fan) : NULL;
    me.unread = mode == TWILL__FAN_UNTIL;
    me.helps = mode == TWILL__FAN_TRY ? 0 : twill__fan_helps(fan, slot);
    for (;;) { /* exit: as above */
        bool in_line = slot && fan->in_flight >= fan->window && fan->unread < fan->max_unread;
        int instead;
        if (fan->in_flight || fan->cancel)
            (void)twill__fan_clock(fan, &turn);
        if ((status = twill__fan_refusal(fan, inside)) != TWILL_OK)
            break;
        if (in_line && fan->next_index - fan->emit >= fan->capacity && fan->ordered) {
            status = TWILL_FULL;
            break;
        }
        if (!in_line && (!twill__fan_room(fan) || (fan->goers.first && !inside))) {
            if (over == TWILL_OK)
                over = twill__fan_go_over(fan, mode, inside, slot, until);
            if ((status = over) != TWILL_OK)
                break;
            instead = twill__fan_instead(fan, &turn, slot, me.helps != 0);
            if (instead < 0)
                return TWILL_FORKED;
            if (instead)
                continue;
        }
        if (!me.task) {
            if ((me.task = twill__fan_record(fan, &turn, &no_memory)) != NULL) {
                *me.task = *what;
            } else if (no_memory) {
                status = TWILL_NO_MEMORY;
                break;
            }
            continue;
        }
        if (in_line)
            return twill__fan_inline(fan, &turn, slot, me.task);
        if (twill__fan_room(fan) && (!fan->goers.first || inside)) {
            twill__fan_accept(fan, &turn, me.task, twill__clock_now());
            return twill__fan_return(fan, &turn, TWILL_OK);
        }
        if (!twill__fan_wait_in(fan, &turn, &fan->goers, &me, until, &over))
            continue;
        if (me.node.answer == TWILL_OK)
            return twill__fan_return(fan, &turn, TWILL_OK);
        if (me.node.answer == TWILL_FULL) {
            status = TWILL_FULL;
            break;
        }
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
   TWILL__NO_SIGNALS. */

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
enum { TWILL__ACTION_RESTART = SA_RESTART, TWILL__ACTION_ONSTACK = SA_ONSTACK };
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

/* Async-signal-safe: gives this process an end that its parent sees as death by `number` (a shell
   shows 128 + number, and stops its script); with `code`, or where the default action does not kill
   (process 1), an exit with 128 + number. Runs no exit functions. */
_Noreturn static inline void twill__signal_die(int number, bool code)
{
#if TWILL__SIGNALS
    if (!code) {
        twill__action plain;
        memset(&plain, 0, sizeof plain);
        plain.TWILL__ACTION_HANDLER = SIG_DFL;
        sigemptyset(&plain.TWILL__ACTION_MASK);
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

/* Whether `action` is that of `handler`. */
static inline bool twill__action_is(const twill__action *action, void (*handler)(int))
{
    return action->TWILL__ACTION_HANDLER == handler;
}
#endif

/* ---- who owns the signals ---- */

/* The claim names the owner by its process id, so that a handler that runs in a forked child knows
   that it is not meant, and counts who uses the owner's object just now, so that the object outlives
   them. All but claim and disclaim are async-signal-safe, as _Atomic uint64_t has no lock. */
#if TWILL__SIGNALS
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_POINTER_LOCK_FREE == 2,
               "signal handlers need atomics without a lock");
#endif

static inline uint64_t twill__process_id(void)
{
    return (uint64_t)(uint32_t)getpid() << 32;
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
    while (!atomic_compare_exchange_weak(&global->signal_claim, &seen, seen + 1));
    owner = atomic_load(&global->signal_owner);
    if (!owner)
        atomic_fetch_sub(&global->signal_claim, 1);
    return owner;
}

static inline void twill__owner_release(void)
{
    /* pairs with the load in twill__owner_leave: what was done with the object comes before its end */
    atomic_fetch_sub(&twill__process()->signal_claim, 1);
}

/* False: somebody in this process owns them. A parent's claim is void in its child. */
static inline bool twill__owner_claim(void)
{
    twill__global *global = twill__process();
    uint64_t mine = twill__process_id();
    uint64_t seen = atomic_load_explicit(&global->signal_claim, memory_order_relaxed);
    do
        if (seen >> 32 == mine >> 32)
            return false;
    while (!atomic_compare_exchange_weak(&global->signal_claim, &seen, mine));
    return true;
}

/* In a forked child that has claimed nothing yet: the parent's object, a copy of it. */
static inline void *twill__owner_of_parent(void)
{
    twill__global *global = twill__process();
    uint64_t claim = atomic_load(&global->signal_claim);
    return claim && claim >> 32 != twill__process_id() >> 32 ? atomic_load(&global->signal_owner)
                                                             : NULL;
}

/* In a forked child: this copy goes. False: the child has an owner of its own. */
static inline bool twill__owner_forget(const void *object)
{
    twill__global *global = twill__process();
    if (atomic_load(&global->signal_owner) == object)
        atomic_store(&global->signal_owner, NULL);
    return atomic_load(&global->signal_claim) >> 32 != twill__process_id() >> 32;
}

static inline void twill__owner_publish(void *object)
{
    /* pairs with the load in twill__owner_pin */
    atomic_store(&twill__process()->signal_owner, object);
}

/* The object goes: nobody finds it any more, and who had found it has let go. */
static inline void twill__owner_leave(void)
{
    twill__global *global = twill__process();
    uint64_t mine = twill__process_id();
    atomic_store(&global->signal_owner, NULL);
    /* seq_cst here and in pin: whoever counts himself after this load finds no owner */
    for (;;) { /* ends: a handler takes a bounded number of steps */
        uint64_t alone = mine;
        if (atomic_compare_exchange_weak(&global->signal_claim, &alone, 0))
            return;
        twill__yield();
    }
}

/* ---- a bell: rung in a handler, heard by one thread ---- */

#if TWILL__SIGNALS
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
#endif

#else
/* ---- no masks ---- */
#define TWILL__SIGNALS 0
typedef int twill__signal_mask;

static inline void twill__signals_hold(twill__signal_mask *old)
{
    *old = 0;
}

static inline void twill__signals_restore(const twill__signal_mask *old)
{
    (void)old;
}
#endif

#if !TWILL__SIGNALS
/* no handlers: a word to park on */
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
    if (!atomic_exchange(&bell->rung, 1))
        twill__wake(&bell->rung, 1);
}

static inline void twill__bell_wait(twill__bell *bell, twill_ns deadline)
{
    while (!atomic_exchange(&bell->rung, 0)) /* exit: a ring, or the deadline */
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
        } else if (got == -1 && errno != EINTR) {
            if (errno != EAGAIN && errno != EWOULDBLOCK)
                return TWILL__WROTE_BROKEN;
            if (must)
                (void)twill__terminal_writable(fd, 1000);
            else if (at == 0 || !twill__terminal_writable(fd, 1000))
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
    size_t slots, crew, ring, records, first, bytes;
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
        workers = run->pool                              ? run->pool->team->threads
                  : plan->nested && outer && outer->team ? outer->np
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

/* Sizes and places; OK or TOO_BIG. */
static inline twill_status twill__fan_plan_memory(twill__fan_plan *plan)
{
    const twill_fan_options *options = plan->options;
    bool copies = plan->stream || (plan->call && options->max_abandoned);
    size_t item = copies ? plan->item_size : 0;
    if (item > SIZE_MAX / 8 || plan->result_size > SIZE_MAX / 8)
        return TWILL_TOO_BIG;
    plan->item_at = (sizeof(twill__fan_task) + 15) / 16 * 16;
    plan->result_at = plan->item_at + (item + 15) / 16 * 16;
    plan->task_size = plan->result_at + (plan->result_size + 15) / 16 * 16;
    plan->max_unread = options->max_unread ? options->max_unread : 65536;
    if (plan->window > SIZE_MAX / 8 || plan->max_unread > SIZE_MAX / 8)
        return TWILL_TOO_BIG;
    plan->capacity = plan->window + plan->max_unread;
    if (plan->call && !plan->stream &&
        (plan->capacity > plan->n || options->goal == TWILL_FAN_ALL_OK))
        plan->capacity = plan->n;
    plan->first = plan->call && options->goal == TWILL_FAN_ALL_OK ? plan->n
                  : plan->window < 32                             ? plan->window
                                                                  : 32;
    if (plan->first > plan->capacity)
        plan->first = plan->capacity;
    plan->bytes = TWILL__LINE;
    if (!twill__fan_add(&plan->bytes, 1, sizeof(twill_fan)))
        return TWILL_TOO_BIG;
    plan->slots = plan->bytes;
    (void)twill__fan_add(&plan->bytes, plan->workers, sizeof(twill__fan_slot));
    plan->crew = plan->bytes;
    (void)twill__fan_add(&plan->bytes, 1, twill__crew_bytes(plan->workers, plan->own));
    plan->ring = plan->bytes;
    if (options->ordered &&
        !twill__fan_add(&plan->bytes, plan->capacity, sizeof(twill__fan_task *)))
        return TWILL_TOO_BIG;
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
        memset(fan->ring, 0, plan->capacity * sizeof *fan->ring);
    }
    twill__fan_add_records(fan, base + plan->records, plan->first);
    /* of what is left behind the fan alone is above: the user's token may go */
    twill_cancel_init(&fan->root, fan->max_abandoned ? NULL : fan->cancel);
}

/* The user's token has fired: in the thread that fires it. */
static inline void twill__fan_token_fired(int reason, const twill_task *task)
{
    twill_fan *fan = (twill_fan *)task->context;
    twill__fan_turn turn;
    (void)reason;
    turn.visitor = true; /* for the guard; the hook itself is waited for */
    twill__fan_enter(fan, &turn);
    twill__fan_end(fan, &turn, TWILL_CANCELLED, TWILL_CANCELLED);
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
    atomic_store(&fan->ready, twill__fan_available(fan));
    status = twill__crew_open(&fan->crew, &run, plan->workers, plan->own, plan->nested, &table, fan,
                              base + plan->crew);
    if (status != TWILL_OK)
        return status;
    if (atomic_load(&fan->ready))
        twill__crew_call(&fan->crew, plan->workers);
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
   behind. OK, or what `until` says. */
static inline twill_status twill__fan_settle_down(twill_fan *fan, twill__fan_turn *turn,
                                                  twill_until until, size_t most)
{
    twill__fan_wait me = {.helps = twill__fan_helps(fan, NULL)};
    twill_status over = TWILL_OK;
    for (;;) { /* exit: tasks end, or `until` */
        size_t room = most > fan->answered ? most - fan->answered : 0;
        (void)twill__fan_clock(fan, turn);
        if (!fan->in_flight || (fan->in_flight == fan->executing && fan->in_flight <= room))
            return TWILL_OK;
        if (twill__fan_drop_spared(fan, turn))
            continue;
        if (over == TWILL_OK)
            over = twill__fan_expired_until(until);
        if (over != TWILL_OK)
            return over;
        if (twill__fan_instead(fan, turn, NULL, me.helps != 0) > 0)
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
        /* acquire: pairs with twill__fan_leave */
        uint32_t visits = atomic_load_explicit(&fan->visits, memory_order_acquire);
        if (!(visits & ~TWILL__FAN_VISITS_WAIT)) {
            bool wanted;
            twill__lock(&fan->lock);
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
    }
    if (fan->crew.run.errors_capacity) {
        twill__heap_sort(fan->crew.run.errors, fan->errors_count);
        report->errors_stored = fan->errors_count;
    }
    report->wall = twill__clock_now() - fan->since;
}

/* How the run as a whole ended. */
static inline twill_status twill__fan_verdict(const twill_fan *fan, const twill_report *report)
{
    if (fan->met)
        return TWILL_OK;
    if (fan->failures || fan->refused == fan->workers)
        return TWILL_FAILED;
    if ((report->skipped || report->failed) &&
        (fan->refusal == TWILL_TIMEOUT || fan->refusal == TWILL_CANCELLED))
        return fan->refusal;
    if (report->total && (fan->quorum || fan->goal == TWILL_FAN_ENOUGH) && fan->stop_at == SIZE_MAX)
        return TWILL_FAILED; /* the goal was not met */
    return TWILL_OK;
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
    twill__unlock(&fan->lock);
    if (left) {
        twill__team *team = fan->crew.job.team;
        report->workers_started = team->threads < fan->workers ? team->threads : fan->workers;
        report->flags = fan->crew.job.flags;
        for (unsigned k = 0; k < fan->workers; k++)
            report->workers_used += fan->slot[k].chunks != 0 || fan->slot[k].current;
        memset(&fan->reaper, 0, sizeof fan->reaper);
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

typedef struct twill__fan_call {
    twill__call call; /* first: what aggregate and pull say */
    twill_fan *fan;
    const twill_fan_options *options;
    twill_aggregate_fn *aggregate;
    twill_pull_fn *pull;
    twill__fan_task *at;       /* given to a callback now */
    twill__fan_outcomes batch; /* taken, not yet aggregated */
    twill__fan_outcomes kept;  /* ALL_OK: until all are in */
    size_t rest;               /* items from here on were never begun, and have no outcome yet */
    bool said_stop;            /* by the callback that runs */
    bool silent;               /* aggregate is not called any more */
    bool enough;               /* so it was decided */
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

/* Ends the call early, from the calling thread. met: the goal is reached. */
static inline void twill__fan_call_end(twill__fan_call *call, bool met)
{
    twill__fan_turn turn;
    turn.visitor = false;
    twill__fan_lock(call->fan, &turn);
    call->fan->met |= met;
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
    call->at = task;
    if (call->silent || (good && (task->late || call->enough)))
        twill__fan_call_discards(call, task);
    else
        goes_on = twill__fan_aggregate(call, good ? twill__fan_result(call->fan, task) : NULL,
                                       &task->outcome);
    call->at = NULL;
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

static inline bool twill__fan_may_pull(const twill_fan *fan)
{
    return fan->pulled && !twill__fan_spared(fan, fan->next_index) &&
           fan->in_flight < fan->window && fan->used < fan->capacity;
}

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
    bool no_memory;
    int code;
    if ((record = twill__fan_record(fan, turn, &no_memory)) == NULL) {
        if (no_memory) /* it goes on with those that it has */
            fan->capacity = fan->used;
        return true;
    }
    twill__fan_fresh(fan, record, twill__fan_task_table());
    twill__fan_exit(fan, turn);
    call->said_stop = false;
    call->inside = true;
    code = call->pull((char *)record + fan->item_at, &task);
    call->inside = false;
    if (!twill__fan_here(fan))
        return false;
    twill__fan_lock(fan, turn);
    if (!code && !call->said_stop) {
        twill__fan_accept(fan, turn, record, twill__clock_now());
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

/* Waits for an outcome. The lock is held before and after. */
static inline void twill__fan_call_wait(twill__fan_call *call, twill__fan_turn *turn, bool *spun)
{
    static const twill_until forever = {0, NULL};
    twill_fan *fan = call->fan;
    twill__fan_wait me = {.helps = twill__fan_helps(fan, NULL)};
    twill_status over;
    if (!*spun) {
        *spun = true;
        twill__fan_moment(fan, turn);
        return;
    }
    *spun = false;
    if (twill__fan_wait_in(fan, turn, &fan->readers, &me, forever, &over) &&
        me.node.answer == TWILL_OK)
        twill__fan_push(&call->batch, me.task);
}

/* Until all tasks have their outcome, and it was taken. False: as above. */
static inline bool twill__fan_collect(twill__fan_call *call)
{
    twill_fan *fan = call->fan;
    twill__fan_turn turn;
    twill__fan_task *task;
    bool spun = false, helps = twill__fan_may_help(fan);
    turn.visitor = false;
    twill__fan_lock(fan, &turn);
    for (;;) { /* exit: all is over; each turn is an outcome, an item, or time */
        int instead;
        (void)twill__fan_clock(fan, &turn);
        if (fan->pulled && twill__fan_spared(fan, fan->next_index))
            twill__fan_source_ended(fan, &turn);
        if (twill__fan_may_pull(fan) && (!fan->queue.first || !twill__fan_readable(fan))) {
            if (!twill__fan_pull(call, &turn))
                return false;
            /* one outcome after one item: neither side waits long for the other */
            if ((task = twill__fan_take(fan)) != NULL)
                twill__fan_push(&call->batch, task);
        } else {
            while ((task = twill__fan_take(fan)) != NULL)
                twill__fan_push(&call->batch, task);
        }
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
        if ((instead = twill__fan_instead(fan, &turn, NULL, helps)) < 0)
            return false;
        if (!instead)
            twill__fan_call_wait(call, &turn, &spun);
    }
    twill__fan_exit(fan, &turn);
    return true;
}

/* Items of the array that were never begun. */
static inline bool twill__fan_call_rest(twill__fan_call *call)
{
    twill_fan *fan = call->fan;
    twill_outcome outcome = {TWILL_OK, 0, 0, NULL, UINT_MAX, 0, fan->since, 0, 0};
    outcome.status = fan->over ? fan->over : TWILL_CANCELLED;
    outcome.finished = twill__clock_now();
    if (call->rest < fan->source_next)
        call->rest = fan->source_next;
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
        if (!call->silent && fan->goal != TWILL_FAN_ALL_OK && call->aggregate &&
            !twill__fan_aggregate(call, NULL, &outcome))
            return false;
    }
    return true;
}

/* ALL_OK: all are in. */
static inline bool twill__fan_call_kept(twill__fan_call *call)
{
    twill__fan_task *task;
    if (call->fan->goal != TWILL_FAN_ALL_OK)
        return true;
    if (call->fan->failed || call->fan->skipped)
        call->silent = true;
    while ((task = twill__fan_pop(&call->kept)) != NULL) {
        if (!twill__fan_consume(call, task))
            return false;
    }
    return true;
}

/* ---- the end of the call ---- */

static inline void twill__fan_call_answer(twill__fan_call *call, twill_status verdict)
{
    twill_report *report = &call->report;
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
    twill__fan_turn turn;
    twill__fan_task *task;
    turn.visitor = false;
    if (call->inside) {
        call->inside = false;
        call->error.index = call->at ? call->at->outcome.index : SIZE_MAX;
        call->error.status = TWILL_LOST;
    }
    twill__fan_lock(fan, &turn);
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
        twill__fan_turn turn;
        memset(&turn, 0, sizeof turn);
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
    plan.call = plan.nested = true;
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
    plan.call = plan.nested = plan.stream = true;
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

static inline twill_status twill__fan_go(twill_fan *fan, twill_task_fn *fn, void *arg, void *key,
                                         twill_until until, twill__fan_mode mode)
{
    twill__fan_task task;
    if (!fan || !fn)
        return TWILL_INVALID;
    if (!twill__fan_here(fan))
        return TWILL_FORKED;
    twill__fan_fresh(fan, &task, twill__fan_task_table());
    task.fn = fn;
    task.arg = arg;
    task.outcome.key = key;
    return twill__fan_put(fan, &task, until, mode);
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
    fan->closed = turn.again = true;
    twill__fan_judge(fan, &turn);
    turn.notify = status == TWILL_OK && twill__fan_finished(fan);
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
    turn.notify = status == TWILL_OK && twill__fan_finished(fan);
    while (twill__fan_drop_spared(fan, &turn)) {} /* exit: nothing is queued any more */
    return twill__fan_return(fan, &turn, status);
}

TWILL__DEFINE twill_status twill_fan_stop(twill_fan *fan, twill_until drain, twill_until join,
                                          twill_stopped *out)
{
    twill__fan_turn turn;
    twill_status status;
    size_t ran, skipped;
    if (out)
        memset(out, 0, sizeof *out);
    if (!fan)
        return TWILL_INVALID;
    if (!twill__fan_here(fan))
        return TWILL_FORKED;
    if (twill__fan_inside(fan))
        return TWILL_DEADLOCK;
    twill__fan_enter(fan, &turn);
    ran = fan->succeeded + fan->failed;
    skipped = fan->skipped;
    fan->closed = turn.again = true;
    twill__fan_judge(fan, &turn);
    turn.notify = twill__fan_finished(fan);
    status = twill__fan_settle_down(fan, &turn, drain, 0);
    if (status != TWILL_OK) {
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
    turn.visitor = false;
    twill__fan_lock(fan, &turn);
    fan->doomed = true;
    twill__fan_end(fan, &turn, TWILL_CANCELLED, TWILL_CLOSED);
    turn.again = true;
    (void)twill__fan_settle_down(fan, &turn, (twill_until){0, NULL}, fan->max_abandoned);
    twill__fan_abandon(fan, &turn);
    while ((task = twill__fan_take(fan)) != NULL) {
        if (task->outcome.status == TWILL_OK && fan->discard) {
            twill__fan_exit(fan, &turn);
            twill__fan_call_discard(fan, task);
            twill__fan_lock(fan, &turn);
        }
        twill__fan_release(fan, task);
    }
    twill__fan_exit(fan, &turn);
    out = fan->report;
    twill__fan_fill(fan, &report);
    report.status = twill__fan_verdict(fan, &report);
    if (report.status == TWILL_OK && report.skipped && !fan->met && fan->stop_at == SIZE_MAX)
        report.status = TWILL_CANCELLED; /* by twill_fan_cancel, or here */
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
    out->accepted = fan->next_index;
    out->done = fan->succeeded;
    out->failed = fan->failed;
    out->skipped = fan->skipped;
    out->running = fan->executing;
    out->queued = fan->in_flight - fan->executing;
    out->unread = fan->unread;
    out->abandoned = fan->answered;
    out->records = fan->records;
    (void)twill__fan_return(fan, &turn, TWILL_OK);
}
#endif
#endif
#ifdef TWILL_IMPLEMENTATION
#ifndef TWILL__PROGRESS_TRACKER_IMPL
#define TWILL__PROGRESS_TRACKER_IMPL

/* ---- progress_tracker/map.h ---- */
/* map.h: a parallel map that shows how far it is. */
#ifndef TWILL__PROGRESS_MAP_H
#define TWILL__PROGRESS_MAP_H

/* ---- progress_tracker/updates.h ---- */
/* updates.h: the public functions of a bar. */
#ifndef TWILL__PROGRESS_UPDATES_H
#define TWILL__PROGRESS_UPDATES_H

/* ---- progress_tracker/frames.h ---- */
/* frames.h: who draws, when, and how a frame reaches the descriptor. */
#ifndef TWILL__PROGRESS_FRAMES_H
#define TWILL__PROGRESS_FRAMES_H

/* ---- progress_tracker/lines.h ---- */
/* lines.h: what a bar looks like: one line of text in each style. */
#ifndef TWILL__PROGRESS_LINES_H
#define TWILL__PROGRESS_LINES_H

/* ---- progress_tracker/tracker.h ---- */
/* tracker.h: one bar: its state, its locks, its counts. */
#ifndef TWILL__PROGRESS_TRACKER_H
#define TWILL__PROGRESS_TRACKER_H

/* ---- progress_tracker/count.h ---- */
/* count.h: counters that many threads raise at once, and exact arithmetic on what they
   say. */
#ifndef TWILL__PROGRESS_COUNT_H
#define TWILL__PROGRESS_COUNT_H

/* ---- counters ---- */

/* A thread adds to the cell of its number: threads that update at once do not pull one line back
   and forth. The reader sums. 16 cells: beyond that many threads some share one, and all stays
   exact. */
#define TWILL__TALLY_CELLS 16
enum { TWILL__TALLY_DONE, TWILL__TALLY_FAILED, TWILL__TALLY_SKIPPED, TWILL__TALLY_KINDS };

typedef struct twill__tally_cell {
    _Alignas(TWILL__LINE) _Atomic uint64_t n[TWILL__TALLY_KINDS];
} twill__tally_cell;

typedef struct twill__tally {
    twill__tally_cell cell[TWILL__TALLY_CELLS];
    _Alignas(TWILL__LINE) _Atomic uint64_t
        base; /* what `set` adds to the sum of the done, modulo 2^64 */
    _Atomic uint32_t
        anchors; /* one more for each `set` that is no progress: the rate starts anew */
} twill__tally;

static inline void twill__tally_add(twill__tally *counter, unsigned kind, uint64_t n)
{
    /* relaxed: a number, no data behind it; who joins the updaters sees all of it */
    atomic_fetch_add_explicit(&counter->cell[twill__thread_number() % TWILL__TALLY_CELLS].n[kind],
                              n, memory_order_relaxed);
}

static inline uint64_t twill__tally_sum(const twill__tally *counter, unsigned kind)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < TWILL__TALLY_CELLS; i++) /* relaxed: as above; each cell only grows */
        sum += atomic_load_explicit(&counter->cell[i].n[kind], memory_order_relaxed);
    return sum;
}

static inline uint64_t twill__tally_read(const twill__tally *counter, unsigned kind)
{
    uint64_t base = 0;
    /* acquire: who sees a base sees the cells that were summed for it, so the sum is no less */
    if (kind == TWILL__TALLY_DONE)
        base = atomic_load_explicit(&counter->base, memory_order_acquire);
    return base + twill__tally_sum(counter, kind);
}

/* Makes the count of the done `value`. Cells only grow and each addition goes to one of them, so
   each is either in the sum taken here, and the new value stands for it, or it comes on top: none
   is lost, none counts twice. Of two calls at once either may be the later one. Going back, and a
   first value (where an earlier run left off), are no progress: they start the rate anew. */
static inline void twill__tally_set(twill__tally *counter, uint64_t value)
{
    uint64_t base =
        atomic_load_explicit(&counter->base, memory_order_acquire); /* as in twill__tally_read */
    uint64_t sum = twill__tally_sum(counter, TWILL__TALLY_DONE);
    bool anew = value < base + sum || base + sum == 0;
    atomic_store_explicit(&counter->base, value - sum,
                          memory_order_release); /* pairs with the acquire */
    if (anew)                                    /* release: who sees the number sees the base */
        atomic_fetch_add_explicit(&counter->anchors, 1, memory_order_release);
}

/* ---- arithmetic ---- */

static inline uint64_t twill__tally_plus(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

/* floor(a * b / c) and what remains, for a <= c, c > 0: no product, so no overflow. Source: long
   division in binary. */
static inline uint64_t twill__tally_share(uint64_t a, uint64_t b, uint64_t c, uint64_t *rest)
{
    uint64_t quotient = 0, remainder = 0;
    if (a == c) {
        *rest = 0;
        return b;
    }
    for (int bit = 63; bit >= 0; bit--) { /* remainder < c before and after each step */
        quotient <<= 1;
        if (remainder >= c - remainder) {
            remainder -= c - remainder;
            quotient++;
        } else {
            remainder += remainder;
        }
        if (b >> bit & 1) {
            if (remainder >= c - a) {
                remainder -= c - a;
                quotient++;
            } else {
                remainder += a;
            }
        }
    }
    *rest = remainder;
    return quotient;
}

/* Rounded down: 100 means that all is processed. */
static inline int twill__tally_percent(uint64_t processed, uint64_t total)
{
    uint64_t rest;
    return processed >= total ? 100 : (int)twill__tally_share(processed, 100, total, &rest);
}

#endif

/* ---- progress_tracker/rate.h ---- */
/* rate.h: how fast it goes and how long it will take, from samples of a count. */
#ifndef TWILL__PROGRESS_RATE_H
#define TWILL__PROGRESS_RATE_H

/* Two estimates are blended: the mean over all the time, which is steady, and a recent one, which
   follows changes. The recent one is an exponential average, taken twice so that bursts do not
   shake it, weighted by time so that the length of a tick does not matter, and divided by the
   weight that it has had so far, so that it does not start from 0. The part that is done decides
   the blend: early on the recent past is all noise, towards the end it is what is left. The first
   unusually long gap is taken for an accident and left out of the time; a second one is a pattern,
   and both count. Sources: tqdm and indicatif for what goes wrong; the blend was chosen by
   measurement. */
#define TWILL__SPEED_STALL TWILL_SEC(2) /* shorter gaps are never a stall */

typedef struct twill__speed {
    twill_ns memory;      /* after so long a sample keeps a tenth of its weight */
    twill_ns at;          /* the last sample */
    twill_ns moved;       /* the last one that saw progress; at first the start */
    twill_ns active;      /* time that counts */
    twill_ns longest;     /* gap that counted */
    twill_ns left_out;    /* the gap that did not, 0: none */
    uint64_t start, seen; /* counts: where this estimate began, at `moved` */
    double once, twice;   /* the two averages, not yet divided by their weight */
    double weight;
    uint32_t anchors; /* of the counter, when this estimate began */
} twill__speed;

/* 0.1 to the power x >= 0, without a maths library: 2^-whole by doubling, the rest by its series.
   */
static inline double twill__speed_tenth_power(double x)
{
    double y = x * 3.3219280948873623, whole_part = 1, term = 1, sum = 1, z;
    int whole;
    if (!(y < 1000))
        return 0;
    whole = (int)y;
    z = -(y - whole) * 0.69314718055994531;
    for (int k = 1; k <= 14; k++) { /* |z| < 0.7: the next term is below 1e-14 */
        term *= z / k;
        sum += term;
    }
    while (whole-- > 0)
        whole_part *= 0.5;
    return sum * whole_part;
}

static inline void twill__speed_start(twill__speed *rate, twill_ns memory, twill_ns now,
                                      uint64_t count)
{
    memset(rate, 0, sizeof *rate);
    rate->memory = memory;
    rate->at = rate->moved = now;
    rate->start = rate->seen = count;
}

static inline twill_ns twill__speed_patience(const twill__speed *rate)
{
    return rate->longest > TWILL__SPEED_STALL / 3 ? 3 * rate->longest : TWILL__SPEED_STALL;
}

/* A sample. Without progress only time passes, and whether it counts is decided when progress is
   back. */
static inline void twill__speed_tick(twill__speed *rate, twill_ns now, uint64_t count)
{
    twill_ns gap = rate->at - rate->moved, step;
    double keep, x;
    if (count < rate->seen) {
        uint32_t anchors = rate->anchors;
        twill__speed_start(rate, rate->memory, now, count);
        rate->anchors = anchors;
        return;
    }
    if (now <= rate->at)
        return;
    step = now - rate->at;
    rate->at = now;
    if (count == rate->seen)
        return;
    if (rate->seen == rate->start ||
        gap <= twill__speed_patience(rate)) { /* the first wait is never a stall */
        step += gap;
        if (gap > rate->longest)
            rate->longest = gap;
    } else if (!rate->left_out) {
        rate->left_out = gap;
    } else {
        step += gap + rate->left_out;
        rate->longest = gap > rate->left_out ? gap : rate->left_out;
        rate->left_out = 0;
    }
    rate->active += step;
    x = (double)(count - rate->seen) / (double)step * 1e9;
    keep = twill__speed_tenth_power((double)step / (double)rate->memory);
    rate->weight = rate->weight * keep + (1 - keep);
    rate->once = rate->once * keep + x * (1 - keep);
    rate->twice = rate->twice * keep + rate->once / rate->weight * (1 - keep);
    rate->seen = count;
    rate->moved = now;
}

/* Items a second; 0: nothing is known yet. `total` 0: unknown, then the recent past alone speaks.
   */
static inline double twill__speed_now(const twill__speed *rate, uint64_t total)
{
    double mean, recent, part;
    if (rate->active <= 0 || !(rate->weight > 0))
        return 0;
    mean = (double)(rate->seen - rate->start) / (double)rate->active * 1e9;
    recent = rate->twice / rate->weight;
    part = total == 0 ? 1 : rate->seen >= total ? 1 : (double)rate->seen / (double)total;
    return (1 - part) * mean + part * recent;
}

/* Time until `total`; -1: unknown. It stands still while nothing moves. */
static inline twill_ns twill__speed_left(const twill__speed *rate, uint64_t total)
{
    double speed = twill__speed_now(rate, total), left;
    if (rate->seen >= total)
        return 0;
    if (!(speed > 0))
        return -1;
    left = (double)(total - rate->seen) / speed * 1e9;
    return left < 9e18 ? (twill_ns)left : INT64_MAX;
}

/* How long nothing has moved, if that is unusual; else 0. */
static inline twill_ns twill__speed_stalled(const twill__speed *rate, twill_ns now)
{
    twill_ns gap = now - rate->moved;
    return rate->seen != rate->start && gap > twill__speed_patience(rate) ? gap : 0;
}

#endif

/* ---- progress_tracker/text.h ---- */
/* text.h: text of a bounded length and width: numbers, units, times, labels. No printf:
   the locale changes nothing, and a frame needs no memory. */
#ifndef TWILL__PROGRESS_TEXT_H
#define TWILL__PROGRESS_TEXT_H

typedef struct twill__print {
    char *data;
    size_t capacity, length;
    unsigned cells; /* of the screen; not kept by twill__print_raw */
} twill__print;

/* What does not fit is left away; the writer makes the buffer large enough where that matters. */
static inline void twill__print_raw(twill__print *text, const char *data, size_t length)
{
    if (length > text->capacity - text->length)
        length = text->capacity - text->length;
    if (length)
        memcpy(text->data + text->length, data, length);
    text->length += length;
}

static inline void twill__print_code(twill__print *text, const char *code)
{
    twill__print_raw(text, code, strlen(code));
}

static inline void twill__print_ascii(twill__print *text, const char *ascii)
{
    size_t length = strlen(ascii);
    twill__print_raw(text, ascii, length);
    text->cells += (unsigned)length;
}

static inline void twill__print_text(twill__print *text, const twill__print *piece)
{
    twill__print_raw(text, piece->data, piece->length);
    text->cells += piece->cells;
}

static inline void twill__print_number(twill__print *text, uint64_t n)
{
    char digits[21];
    unsigned at = sizeof digits - 1;
    digits[at] = '\0';
    do
        digits[--at] = (char)('0' + n % 10);
    while ((n /= 10) != 0);
    twill__print_ascii(text, digits + at);
}

/* ---- characters ---- */

/* The next character of UTF-8, and its length. Bytes that are no UTF-8 (overlong, surrogates, cut):
   U+FFFD, one byte. */
static inline uint32_t twill__print_utf8(const char *from, size_t *length)
{
    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    const unsigned char *s = (const unsigned char *)from;
    unsigned more = s[0] < 0x80   ? 0
                    : s[0] < 0xc2 ? 4
                    : s[0] < 0xe0 ? 1
                    : s[0] < 0xf0 ? 2
                    : s[0] < 0xf5 ? 3
                                  : 4;
    uint32_t c;
    *length = 1;
    if (more == 0)
        return s[0];
    if (more == 4)
        return 0xfffd;
    c = s[0] & (0x3fu >> more);
    for (unsigned i = 1; i <= more; i++) { /* the terminating zero ends it too */
        if ((s[i] & 0xc0) != 0x80)
            return 0xfffd;
        c = c << 6 | (s[i] & 0x3f);
    }
    if (c < least[more] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
        return 0xfffd;
    *length = more + 1;
    return c;
}

/* Cells on the screen; where terminals differ, the larger number, since a line that is too long
   breaks the display. */
static inline unsigned twill__print_cells(uint32_t c)
{
    static const uint32_t none[][2] = {
        {0x300, 0x36f}, {0x1ab0, 0x1aff}, {0x1dc0, 0x1dff}, {0x20d0, 0x20ff}, {0xfe20, 0xfe2f}};
    static const uint32_t two[][2] = {{0x1100, 0x115f},   {0x2300, 0x27bf},   {0x2b00, 0x2bff},
                                      {0x2e80, 0x303e},   {0x3041, 0xa4cf},   {0xa960, 0xa97f},
                                      {0xac00, 0xd7a3},   {0xf900, 0xfaff},   {0xfe10, 0xfe19},
                                      {0xfe30, 0xfe6f},   {0xff00, 0xff60},   {0xffe0, 0xffe6},
                                      {0x16fe0, 0x1b2ff}, {0x1f000, 0x1ffff}, {0x20000, 0x3fffd}};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
        if (c >= none[i][0] && c <= none[i][1])
            return 0;
    for (size_t i = 0; i < sizeof two / sizeof two[0]; i++)
        if (c >= two[i][0] && c <= two[i][1])
            return 2;
    return 1;
}

/* What could move the cursor, turn the direction of writing, or cannot be seen. */
static inline bool twill__print_control(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0xad || (c >= 0x200b && c <= 0x200f) ||
           (c >= 0x2028 && c <= 0x202e) || (c >= 0x2060 && c <= 0x206f) || c == 0xfeff ||
           c == 0xfffd || (c >= 0xfff0 && c <= 0xfffb);
}

/* Copies whole characters, as many as `size` - 1 bytes hold. */
static inline void twill__print_cut(char *to, size_t size, const char *from)
{
    size_t at = 0, length;
    while (from[at]) {
        (void)twill__print_utf8(from + at, &length);
        if (at + length >= size)
            break;
        at += length;
    }
    memcpy(to, from, at);
    to[at] = '\0';
}

/* A label in at most `limit` cells. A cut one ends in an ellipsis. */
static inline void twill__print_label(twill__print *text, const char *label, unsigned limit,
                                      bool ascii)
{
    size_t length, at = 0, fits_length = text->length;
    unsigned cells = 0, fits_cells = 0;
    while (label[at]) {
        uint32_t c = twill__print_utf8(label + at, &length);
        bool strange = twill__print_control(c) || (ascii && c > 0x7e);
        unsigned width = strange ? 1 : twill__print_cells(c);
        if (cells + width > limit)
            break;
        if (strange)
            twill__print_raw(text, "?", 1);
        else
            twill__print_raw(text, label + at, length);
        cells += width;
        at += length;
        if (cells + 1 <= limit) { /* the ellipsis would still fit behind it */
            fits_length = text->length;
            fits_cells = cells;
        }
    }
    if (label[at] && limit > 0) {
        text->length = fits_length;
        twill__print_raw(text, ascii ? "~" : "\xe2\x80\xa6", ascii ? 1 : 3);
        cells = fits_cells + 1;
    }
    text->cells += cells;
}

/* A string of JSON, quotes included. Not UTF-8: U+FFFD. */
static inline void twill__print_json(twill__print *text, const char *string)
{
    static const char hex[] = "0123456789abcdef";
    size_t length;
    twill__print_raw(text, "\"", 1);
    for (; *string; string += length) {
        uint32_t c = twill__print_utf8(string, &length);
        if (c == '"' || c == '\\') {
            twill__print_raw(text, "\\", 1);
            twill__print_raw(text, string, 1);
        } else if (c < 0x20) {
            char code[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
            twill__print_raw(text, code, 6);
        } else if (c == 0xfffd) {
            twill__print_raw(text, "\\ufffd", 6);
        } else {
            twill__print_raw(text, string, length);
        }
    }
    twill__print_raw(text, "\"", 1);
}

/* ---- amounts ---- */

typedef struct twill__print_unit {
    unsigned step;    /* 0: plain numbers; 1024, 1000 */
    const char *name; /* "" */
} twill__print_unit;

/* value / 10^digits, rounded down already, with `digits` behind the point. */
static inline void twill__print_fixed(twill__print *text, uint64_t value, unsigned digits)
{
    uint64_t scale = digits == 0 ? 1 : digits == 1 ? 10 : digits == 2 ? 100 : 1000;
    twill__print_number(text, value / scale);
    if (digits) {
        twill__print_ascii(text, ".");
        for (uint64_t rest = value % scale; scale > 1; rest %= scale) {
            char digit[2] = {0, 0};
            scale /= 10;
            digit[0] = (char)('0' + rest / scale);
            twill__print_ascii(text, digit);
        }
    }
}

/* Three digits and a prefix, rounded down: no number looks larger than it is. */
static inline void twill__print_prefixed(twill__print *text, uint64_t n, unsigned step)
{
    static const char prefixes[] = "kMGTPE";
    uint64_t one = 1, whole, thousandths;
    unsigned power = 0, digits;
    char prefix[3] = "k";
    while (n / one >= step && power < 6) {
        one *= step;
        power++;
    }
    whole = n / one;
    if (power == 0) {
        twill__print_number(text, whole);
        twill__print_ascii(text, " ");
        return;
    }
    thousandths = step == 1000 ? n % one / (one / 1000) : (n % one / (one / 1024)) * 1000 / 1024;
    digits = whole < 10 ? 2 : whole < 100 ? 1 : 0;
    twill__print_fixed(text,
                       (whole * 1000 + thousandths) / (digits == 2   ? 10
                                                       : digits == 1 ? 100
                                                                     : 1000),
                       digits);
    prefix[0] = prefixes[power - 1];
    if (step == 1024) {
        prefix[0] = power == 1 ? 'K' : prefix[0];
        prefix[1] = 'i';
        prefix[2] = '\0';
    }
    twill__print_ascii(text, " ");
    twill__print_ascii(text, prefix);
}

/* `behind`: with a plain unit's name. */
static inline void twill__print_amount(twill__print *text, uint64_t n,
                                       const twill__print_unit *unit, bool behind, bool ascii)
{
    if (unit->step) {
        twill__print_prefixed(text, n, unit->step);
        twill__print_label(text, unit->name, UINT_MAX, ascii);
    } else {
        twill__print_number(text, n);
        if (behind && unit->name[0]) {
            twill__print_ascii(text, " ");
            twill__print_label(text, unit->name, UINT_MAX, ascii);
        }
    }
}

/* A number that is not whole: three digits from 1 to 999, then plain. For JSON: three behind the
   point. */
static inline uint64_t twill__print_whole(double x)
{
    return x >= 18446744073709549568.0 ? UINT64_MAX : x > 0 ? (uint64_t)x : 0;
}

static inline void twill__print_rate(twill__print *text, double rate, const twill__print_unit *unit,
                                     bool ascii)
{
    if (unit->step) {
        twill__print_amount(text, twill__print_whole(rate), unit, false, ascii);
    } else {
        if (rate < 10)
            twill__print_fixed(text, twill__print_whole(rate * 100 + 0.5), 2);
        else if (rate < 100)
            twill__print_fixed(text, twill__print_whole(rate * 10 + 0.5), 1);
        else
            twill__print_number(text, twill__print_whole(rate + 0.5));
        if (unit->name[0]) {
            twill__print_ascii(text, " ");
            twill__print_label(text, unit->name, UINT_MAX, ascii);
        }
    }
    twill__print_ascii(text, "/s");
}

/* To the minute from an hour on, to 5 seconds from a minute on, else to the second. `tenths`: below
   10 s, in tenths. */
static inline void twill__print_time(twill__print *text, twill_ns time, bool tenths)
{
    uint64_t seconds = time > 0 ? (uint64_t)time / 1000000000 : 0;
    if (tenths && seconds < 10 && time >= 0) {
        twill__print_fixed(text, (uint64_t)time / 100000000, 1);
        twill__print_ascii(text, " s");
    } else if (seconds < 60) {
        twill__print_number(text, seconds);
        twill__print_ascii(text, " s");
    } else if (seconds < 3600) {
        twill__print_number(text, seconds / 60);
        twill__print_ascii(text, seconds % 60 / 5 * 5 < 10 ? " min 0" : " min ");
        twill__print_number(text, seconds % 60 / 5 * 5);
        twill__print_ascii(text, " s");
    } else {
        twill__print_number(text, seconds / 3600);
        twill__print_ascii(text, seconds / 60 % 60 < 10 ? " h 0" : " h ");
        twill__print_number(text, seconds / 60 % 60);
        twill__print_ascii(text, " min");
    }
}

static inline void twill__print_seconds(twill__print *text, twill_ns time)
{
    twill__print_fixed(text, time > 0 ? (uint64_t)time / 1000000 : 0, 3);
}

#endif

#include <stdarg.h>
#include <stdio.h>

/* A family of bars shares a screen: the descriptor, who draws, what stands on the terminal. Three
   things are guarded apart, and taken in this order:
     turn  held by whoever samples, calls on_view and draws: one at a time
     io    held around a write, which may block; guards what the screen shows
     lock  short, never held around a callback or a system call that may block; guards the bars and
           their list
   The renderer thread may hang in a write for ever; whoever finishes then leaves it behind, and it
   must not touch a bar after that: `blocked` decides. */

enum {
    TWILL__SCREEN_FRAME = 16384, /* bytes of a frame; bars beyond it are not drawn */
    TWILL__SCREEN_LINE = 2304,   /* one line at most: JSON, every byte of the label escaped */
    TWILL__PROGRESS_LABEL = 256,
    TWILL__PROGRESS_UNIT = 32,
    TWILL__PROGRESS_CELLS = 40
};
#define TWILL__SCREEN_STUCK    TWILL_SEC(1) /* how long finish waits for a blocked terminal */
#define TWILL__PROGRESS_SAMPLE TWILL_MS(10) /* views closer together share a sample */

enum { TWILL__PROGRESS_RUNNING, TWILL__PROGRESS_ENDING, TWILL__PROGRESS_ENDED }; /* a bar */
enum {
    TWILL__RENDERER_FREE,
    TWILL__RENDERER_BLOCKED,
    TWILL__RENDERER_ABANDONED
}; /* the renderer */

typedef struct twill__screen {
    _Atomic uint32_t refs; /* one a bar, one for the renderer */
    /* set at creation */
    uint32_t generation; /* of the process that draws */
    int fd;
    unsigned width, columns; /* as asked for; of the environment */
    bool terminal, ascii, color, accessible;
    twill_progress_style style;
    twill_ns interval;
    twill_progress *root;
    /* who draws */
    _Atomic uint32_t draw_by;
    _Atomic uint32_t over;   /* the root is finished: nothing is drawn any more */
    _Atomic uint32_t broken; /* a write failed: as if SILENT */
    _Atomic uint32_t turn, io, lock;
    _Atomic uint64_t turn_owner; /* thread number, 0: nobody */
    _Atomic int64_t next_draw;
    /* the renderer */
    bool threaded; /* lock: it was started */
    _Atomic uint32_t requests, stop, ended, blocked;
    twill__thrd thread;
    /* lock */
    twill_progress *first, *last; /* each bar before its children */
    twill_progress *calling;      /* whose on_view runs */
    _Atomic uint32_t called;      /* callbacks that have returned */
    uint32_t pass;
    /* io */
    unsigned suspended;
    unsigned shown_lines; /* on the terminal; the cursor stands in the last one */
    unsigned shown_cells; /* COUNTER: of the text */
    uint64_t shown_hash;
    bool lost; /* nobody knows what is on the terminal */
    char frame[TWILL__SCREEN_FRAME];
} twill__screen;

struct twill_progress {
    twill__tally counter;
    /* set at creation */
    _Alignas(TWILL__LINE) twill__screen *screen;
    void *block; /* as allocated */
    uint64_t weight;
    twill_ns created, quiet_for;
    bool slow, clear_at_end; /* slow: an update has to look who draws */
    void (*on_view)(const twill_progress_view *view, const twill_task *task);
    void *context;
    twill__print_unit unit;
    char unit_name[TWILL__PROGRESS_UNIT];
    _Atomic uint64_t total;
    _Atomic uint32_t total_known;
    _Atomic uint32_t state; /* changes under the lock; finish parks on it */
    /* under the screen's lock */
    twill_progress *parent, *next, *previous;
    unsigned depth;
    bool listed, included /* its last line is in the frame being written */,
        told /* on_view has seen the end */;
    uint32_t pass;
    twill_status outcome;
    twill_ns ended;
    twill__speed rate;
    uint64_t given[TWILL__TALLY_KINDS]; /* by children that have ended */
    uint64_t seen[TWILL__TALLY_KINDS];  /* the last count */
    uint64_t live, live_rest;           /* of children that run, the rest in 2^-32 */
    _Atomic uint64_t teller;            /* the thread in on_view out of turn, 0: none */
    int decile;                         /* accessible: the last one said */
    twill_ns next_line;                 /* accessible, total unknown */
    unsigned steps;                     /* unknown total: where the marker stands */
    uint64_t stepped;
    char label[TWILL__PROGRESS_LABEL];
};

/* ---- gates: locks that may be held for long ---- */

static inline bool twill__screen_gate_try(_Atomic uint32_t *gate)
{
    uint32_t none = 0; /* acquire: pairs with the release in twill__screen_gate_leave */
    return atomic_compare_exchange_strong_explicit(gate, &none, 1, memory_order_acquire,
                                                   memory_order_relaxed);
}

/* 0: for ever. A wake that reaches a waiter makes twill__park true, so none is lost to a deadline.
   */
static inline bool twill__screen_gate_enter(_Atomic uint32_t *gate, twill_ns deadline)
{
    if (twill__screen_gate_try(gate))
        return true;
    while (atomic_exchange_explicit(gate, 2, memory_order_acquire) !=
           0) /* 2: somebody sleeps. Pairs as above */
        if (!twill__park(gate, 2, deadline))
            return false;
    return true;
}

static inline void twill__screen_gate_leave(_Atomic uint32_t *gate)
{
    if (atomic_exchange_explicit(gate, 0, memory_order_release) ==
        2) /* pairs with the acquires above */
        twill__wake(gate, 1);
}

static inline void twill__screen_turn_taken(twill__screen *screen)
{
    /* relaxed: only compared with one's own number */
    atomic_store_explicit(&screen->turn_owner, twill__thread_number(), memory_order_relaxed);
}

static inline void twill__screen_turn_leave(twill__screen *screen)
{
    atomic_store_explicit(&screen->turn_owner, 0, memory_order_relaxed);
    twill__screen_gate_leave(&screen->turn);
}

static inline bool twill__screen_turn_mine(twill__screen *screen)
{
    return atomic_load_explicit(&screen->turn_owner, memory_order_relaxed) ==
           twill__thread_number();
}

static inline bool twill__progress_forked(const twill__screen *screen)
{
    return screen->generation != twill__generation();
}

/* ---- counting, under the lock ---- */

/* Loads all counters, then adds each child's part to its parent, the innermost first. */
static inline void twill__screen_count(twill__screen *screen)
{
    for (twill_progress *p = screen->first; p; p = p->next) {
        for (unsigned kind = 0; kind < TWILL__TALLY_KINDS; kind++)
            p->seen[kind] = twill__tally_plus(twill__tally_read(&p->counter, kind), p->given[kind]);
        p->live = p->live_rest = 0;
    }
    for (twill_progress *p = screen->last; p; p = p->previous) {
        uint64_t total = atomic_load_explicit(&p->total, memory_order_relaxed), processed, rest,
                 more;
        p->seen[TWILL__TALLY_DONE] = twill__tally_plus(
            p->seen[TWILL__TALLY_DONE], twill__tally_plus(p->live, p->live_rest >> 32));
        if (!p->parent || !p->weight || total == 0)
            continue;
        processed = twill__tally_plus(
            p->seen[TWILL__TALLY_DONE],
            twill__tally_plus(p->seen[TWILL__TALLY_FAILED], p->seen[TWILL__TALLY_SKIPPED]));
        if (processed > total)
            processed = total;
        p->parent->live = twill__tally_plus(p->parent->live,
                                            twill__tally_share(processed, p->weight, total, &rest));
        p->parent->live_rest += twill__tally_share(rest, UINT64_C(1) << 32, total, &more);
    }
}

/* A bar that is in no list counts for itself alone. */
static inline void twill__progress_count(twill_progress *progress)
{
    if (progress->listed) {
        twill__screen_count(progress->screen);
        return;
    }
    for (unsigned kind = 0; kind < TWILL__TALLY_KINDS; kind++)
        progress->seen[kind] =
            twill__tally_plus(twill__tally_read(&progress->counter, kind), progress->given[kind]);
}

static inline uint64_t twill__progress_processed(const twill_progress *progress)
{
    return twill__tally_plus(progress->seen[TWILL__TALLY_DONE],
                             twill__tally_plus(progress->seen[TWILL__TALLY_FAILED],
                                               progress->seen[TWILL__TALLY_SKIPPED]));
}

static inline void twill__progress_sample(twill_progress *progress, twill_ns now)
{
    /* acquire: pairs with twill__tally_set */
    uint32_t anchors = atomic_load_explicit(&progress->counter.anchors, memory_order_acquire);
    if (progress->rate.anchors != anchors) {
        twill__speed_start(&progress->rate, progress->rate.memory, now,
                           twill__progress_processed(progress));
        progress->rate.anchors = anchors;
    } else {
        twill__speed_tick(&progress->rate, now, twill__progress_processed(progress));
    }
}

static inline void twill__progress_view_of(twill_progress *progress, twill_ns now,
                                           twill_progress_view *view)
{
    uint64_t processed = twill__progress_processed(progress);
    bool running = atomic_load_explicit(&progress->state, memory_order_relaxed) ==
                   TWILL__PROGRESS_RUNNING; /* under the lock */
    memset(view, 0, sizeof *view);
    view->done = progress->seen[TWILL__TALLY_DONE];
    view->failed = progress->seen[TWILL__TALLY_FAILED];
    view->skipped = progress->seen[TWILL__TALLY_SKIPPED];
    /* relaxed: a number that grows; acquire: who sees that it is known sees what it is (add_total)
       */
    view->total_known = atomic_load_explicit(&progress->total_known, memory_order_acquire) != 0;
    view->total = atomic_load_explicit(&progress->total, memory_order_relaxed);
    view->percent = view->total_known ? twill__tally_percent(processed, view->total) : -1;
    view->elapsed = (running ? now : progress->ended) - progress->created;
    view->left = -1;
    if (!running) {
        view->finished = true;
        view->outcome = progress->outcome;
        view->left = 0;
        if (view->elapsed > 0 && processed > progress->rate.start)
            view->rate = (double)(processed - progress->rate.start) / (double)view->elapsed * 1e9;
        return;
    }
    view->rate = twill__speed_now(&progress->rate, view->total);
    view->stalled = twill__speed_stalled(&progress->rate, now);
    if (view->total_known)
        view->left = twill__speed_left(&progress->rate, view->total);
}

#endif

/* ---- lines ---- */

/* A piece of a line in a buffer of its own, so that it can be left away. */
typedef struct twill__print_piece {
    twill__print text;
    char data[512];
} twill__print_piece;

static inline twill__print *twill__print_piece_init(twill__print_piece *piece)
{
    piece->text.data = piece->data;
    piece->text.capacity = sizeof piece->data;
    piece->text.length = 0;
    piece->text.cells = 0;
    return &piece->text;
}

static inline const char *twill__progress_outcome(twill_status outcome)
{
    return outcome == TWILL_FAILED      ? "failed"
           : outcome == TWILL_CANCELLED ? "cancelled"
           : outcome == TWILL_TIMEOUT   ? "timed out"
                                        : twill_status_text(outcome);
}

static inline void twill__print_count(twill__print *text, const twill_progress *progress,
                                      const twill_progress_view *view, bool ascii)
{
    twill__print_amount(text, twill__progress_processed(progress), &progress->unit,
                        !view->total_known, ascii);
    if (view->total_known) {
        twill__print_ascii(text, "/");
        twill__print_amount(text, view->total, &progress->unit, true, ascii);
    }
}

/* What the time says: how long it took, that nothing moves, or what is left (not while that is a
   guess). */
static inline void twill__print_tail(twill__print *text, const twill_progress *progress,
                                     const twill_progress_view *view)
{
    uint64_t processed = twill__progress_processed(progress), rest;
    if (view->finished) {
        twill__print_time(text, view->elapsed, true);
        if (view->outcome != TWILL_OK) {
            twill__print_ascii(text, ", ");
            twill__print_ascii(text, twill__progress_outcome(view->outcome));
        }
    } else if (view->stalled) {
        twill__print_ascii(text, "stalled ");
        twill__print_time(text, view->stalled, false);
    } else if (view->left >= 0 && view->elapsed >= TWILL_SEC(2) && view->total > 0 &&
               (processed >= 10 || (processed <= view->total &&
                                    twill__tally_share(processed, 50, view->total, &rest) >= 1))) {
        twill__print_time(text,
                          view->left < INT64_MAX - TWILL_SEC(1) ? view->left + TWILL_SEC(1) - 1
                                                                : view->left,
                          false);
        twill__print_ascii(text, " left"); /* rounded up: nothing takes 0 s */
    }
}

static inline void twill__print_trouble(twill__print *text, const twill_progress_view *view)
{
    if (view->failed) {
        twill__print_number(text, view->failed);
        twill__print_ascii(text, " failed");
    }
    if (view->skipped) {
        twill__print_ascii(text, view->failed ? ", " : "");
        twill__print_number(text, view->skipped);
        twill__print_ascii(text, " skipped");
    }
}

static inline void twill__print_json_time(twill__print *text, const char *key, twill_ns time)
{
    twill__print_ascii(text, key);
    if (time < 0)
        twill__print_ascii(text, "null");
    else
        twill__print_seconds(text, time);
}

static inline void twill__progress_line_json(twill__print *text, const twill_progress *progress,
                                             const twill_progress_view *view)
{
    static const char *const keys[] = {", \"done\": ", ", \"failed\": ", ", \"skipped\": "};
    double rate = view->rate < 1e15 ? view->rate : 1e15;
    twill__print_ascii(text, "{\"label\": ");
    twill__print_json(text, progress->label);
    for (unsigned kind = 0; kind < TWILL__TALLY_KINDS; kind++) {
        twill__print_ascii(text, keys[kind]);
        twill__print_number(text, progress->seen[kind]);
    }
    twill__print_ascii(text, ", \"total\": ");
    if (view->total_known)
        twill__print_number(text, view->total);
    else
        twill__print_ascii(text, "null");
    twill__print_ascii(text, ", \"percent\": ");
    if (view->percent >= 0)
        twill__print_number(text, (uint64_t)view->percent);
    else
        twill__print_ascii(text, "null");
    twill__print_ascii(text, ", \"rate\": ");
    twill__print_fixed(text, twill__print_whole(rate * 1000), 3);
    twill__print_json_time(text, ", \"elapsed\": ", view->elapsed);
    twill__print_json_time(text, ", \"stalled\": ", view->stalled);
    twill__print_json_time(text, ", \"left\": ", view->left);
    if (progress->unit.step || progress->unit.name[0]) {
        twill__print_ascii(text, ", \"unit\": ");
        twill__print_json(text, progress->unit.name);
    }
    if (view->finished) {
        twill__print_ascii(text, ", \"outcome\": ");
        twill__print_json(text, twill_status_name(view->outcome));
    }
    twill__print_ascii(text, view->finished ? ", \"finished\": true}" : ", \"finished\": false}");
}

/* "Label: c/t (p%)", which is all of COUNTER */
static inline void twill__print_plain(twill__print *text, const twill__screen *screen,
                                      const twill_progress *progress,
                                      const twill_progress_view *view, unsigned label_cells)
{
    twill__print_label(text, progress->label, label_cells, screen->ascii);
    twill__print_ascii(text, ": ");
    twill__print_count(text, progress, view, screen->ascii);
    if (view->percent >= 0) {
        twill__print_ascii(text, " (");
        twill__print_number(text, (uint64_t)view->percent);
        twill__print_ascii(text, "%)");
    }
}

static inline void twill__progress_line_plain(twill__print *text, const twill__screen *screen,
                                              const twill_progress *progress,
                                              const twill_progress_view *view)
{
    twill__print_piece tail, trouble;
    twill__print_plain(text, screen, progress, view, UINT_MAX);
    if (view->rate > 0) {
        twill__print_ascii(text, ", ");
        twill__print_rate(text, view->rate, &progress->unit, screen->ascii);
    }
    twill__print_trouble(twill__print_piece_init(&trouble), view);
    if (trouble.text.length) {
        twill__print_ascii(text, ", ");
        twill__print_text(text, &trouble.text);
    }
    twill__print_tail(twill__print_piece_init(&tail), progress, view);
    if (tail.text.length) {
        twill__print_ascii(text, ", ");
        twill__print_text(text, &tail.text);
    }
}

static inline void twill__progress_line_counter(twill__print *text, const twill__screen *screen,
                                                const twill_progress *progress,
                                                const twill_progress_view *view, unsigned cells)
{
    twill__print_piece numbers;
    unsigned room = UINT_MAX;
    if (screen->terminal) { /* a line that wraps could not be overwritten */
        twill__print_plain(twill__print_piece_init(&numbers), screen, progress, view, 0);
        room = cells > numbers.text.cells ? cells - numbers.text.cells : 0;
    }
    twill__print_plain(text, screen, progress, view, room);
    if (view->finished && view->outcome != TWILL_OK) {
        twill__print_ascii(text, " ");
        twill__print_ascii(text, twill__progress_outcome(view->outcome));
    }
}

/* `cells` of bar between brackets. */
static inline void twill__print_bar(twill__print *text, const twill__screen *screen,
                                    twill_progress *progress, const twill_progress_view *view,
                                    unsigned cells)
{
    static const char *const eighths[] = {" ",
                                          "\xe2\x96\x8f",
                                          "\xe2\x96\x8e",
                                          "\xe2\x96\x8d",
                                          "\xe2\x96\x8c",
                                          "\xe2\x96\x8b",
                                          "\xe2\x96\x8a",
                                          "\xe2\x96\x89",
                                          "\xe2\x96\x88"};
    uint64_t processed = twill__progress_processed(progress), rest, filled = 0;
    unsigned parts = screen->ascii ? 1 : 8, from = 0;
    if (view->total_known) {
        filled = view->percent == 100
                     ? (uint64_t)cells * parts
                     : twill__tally_share(processed, (uint64_t)cells * parts, view->total, &rest);
    } else if (
        !view->finished) { /* the marker walks when something has moved, so a stall can be seen */
        unsigned way = 2 * (cells - 3);
        if (progress->stepped != processed)
            progress->steps++;
        progress->stepped = processed;
        from = progress->steps % way;
        from = from > way / 2 ? way - from : from;
    }
    twill__print_ascii(text, "[");
    if (screen->color)
        twill__print_code(text, "\x1b[32m");
    for (unsigned i = 0; i < cells; i++) {
        uint64_t here = filled > (uint64_t)i * parts ? filled - (uint64_t)i * parts : 0;
        if (!view->total_known) {
            char mark[2] = {view->finished              ? (view->outcome ? ' ' : '=')
                            : i >= from && i < from + 3 ? "<=>"[i - from]
                                                        : ' ',
                            '\0'};
            twill__print_ascii(text, mark);
        } else if (screen->ascii) {
            twill__print_ascii(text, here > 1 || (here && view->percent == 100) ? "="
                                     : here                                     ? ">"
                                                                                : " ");
        } else {
            const char *block = eighths[here >= 8 ? 8 : here];
            twill__print_raw(text, block, strlen(block));
            text->cells++;
        }
    }
    if (screen->color)
        twill__print_code(text, "\x1b[0m");
    twill__print_ascii(text, "]");
}

/* Adds a piece to the list behind the bar if there is room: a space or a comma before it. */
static inline void twill__print_take(twill__print *rest, const twill__print *piece,
                                     const char *color, unsigned *room)
{
    unsigned gap = rest->length ? 2 : 1;
    if (piece->length == 0 || piece->cells + gap > *room)
        return;
    *room -= piece->cells + gap;
    twill__print_ascii(rest, gap == 2 ? ", " : " ");
    if (color)
        twill__print_code(rest, color);
    twill__print_text(rest, piece);
    if (color)
        twill__print_code(rest, "\x1b[0m");
}

/* "Label  45% [=====>     ] 450/1000 files, 36.8/s, 15 s left" in at most `cells`. What matters
   less goes first: the rate, the bar, the time, the label, the numbers. */
static inline void twill__progress_line_bar(twill__print *text, const twill__screen *screen,
                                            twill_progress *progress,
                                            const twill_progress_view *view, unsigned cells)
{
    twill__print_piece rest, count, tail, trouble, rate;
    unsigned percent = view->percent >= 0 ? 4 : 0, limit = cells / 3 > 6 ? cells / 3 : 6, room;
    if (limit + percent + 1 > cells)
        limit = cells > percent + 1 + 3 ? cells - percent - 1 : 0;
    twill__print_label(text, progress->label, limit, screen->ascii);
    if (percent && text->cells + percent <= cells) {
        twill__print_ascii(text, text->cells ? " " : "");
        twill__print_ascii(text, view->percent < 10 ? "  " : view->percent < 100 ? " " : "");
        twill__print_number(text, (uint64_t)view->percent);
        twill__print_ascii(text, "%");
    }
    room = cells > text->cells ? cells - text->cells : 0;
    twill__print_count(twill__print_piece_init(&count), progress, view, screen->ascii);
    twill__print_tail(twill__print_piece_init(&tail), progress, view);
    twill__print_trouble(twill__print_piece_init(&trouble), view);
    twill__print_piece_init(&rate);
    if (view->rate > 0)
        twill__print_rate(&rate.text, view->rate, &progress->unit, screen->ascii);
    twill__print_piece_init(&rest);
    twill__print_take(&rest.text, &count.text, NULL, &room);
    twill__print_take(&rest.text, &trouble.text,
                      !screen->color ? NULL
                      : view->failed ? "\x1b[31m"
                                     : "\x1b[33m",
                      &room);
    if (room >= rate.text.cells + 2 + tail.text.cells + 2 + 11)
        twill__print_take(&rest.text, &rate.text, NULL, &room);
    twill__print_take(&rest.text, &tail.text, NULL, &room);
    if (room >= 9) {
        twill__print_ascii(text, " ");
        twill__print_bar(text, screen, progress, view,
                         room - 3 < TWILL__PROGRESS_CELLS ? room - 3 : TWILL__PROGRESS_CELLS);
    }
    twill__print_text(text, &rest.text);
}

#endif

/* ---- frames, under io and lock ---- */

/* What to write, and what will then stand on the terminal. */
typedef struct twill__draft {
    twill__print text;
    const char *log; /* NULL, or lines to put above, "\n" included */
    size_t log_length;
    unsigned cells, rows; /* that may be used */
    bool due,
        visible; /* not: only what ends, and logs; suspended or in the background: only logs */
    bool closes; /* what ends is drawn for the last time */
    unsigned lines, shown_cells;
    uint64_t hash;
} twill__draft;

static inline uint64_t twill__draft_hash(const char *data, size_t length)
{
    uint64_t hash = UINT64_C(14695981039346656037); /* FNV-1a */
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)data[i]) * UINT64_C(1099511628211);
    return hash;
}

static inline bool twill__progress_ending(const twill_progress *progress)
{
    /* under the lock, which orders it; the root may be gone */
    return progress &&
           atomic_load_explicit(&progress->state, memory_order_relaxed) == TWILL__PROGRESS_ENDING;
}

static inline bool twill__draft_closes(const twill__draft *draft, const twill_progress *progress)
{
    return draft->closes && twill__progress_ending(progress);
}

static inline bool twill__draft_has_room(const twill__draft *draft)
{
    return draft->text.capacity - draft->text.length >= TWILL__SCREEN_LINE + 64;
}

static inline bool twill__progress_quiet(const twill_progress *progress, twill_ns now)
{
    twill_ns end = atomic_load_explicit(&progress->state, memory_order_relaxed) ==
                           TWILL__PROGRESS_RUNNING /* under the lock */
                       ? now
                       : progress->ended;
    return end - progress->created < progress->quiet_for;
}

/* Takes the bars off the terminal; the cursor is then where the first began. */
static inline void twill__draft_clear(twill__draft *draft, const twill__screen *screen)
{
    if (screen->style == TWILL_PROGRESS_COUNTER) {
        if (screen->shown_cells && screen->terminal) {
            twill__print_code(&draft->text, "\r");
            for (unsigned i = 0; i < screen->shown_cells; i++)
                twill__print_code(&draft->text, " ");
            twill__print_code(&draft->text, "\r");
        } else if (screen->shown_cells) {
            twill__print_code(&draft->text, "\n");
        }
    } else if (screen->shown_lines) {
        if (screen->shown_lines > 1) {
            twill__print_code(&draft->text, "\x1b[");
            twill__print_number(&draft->text, screen->shown_lines - 1);
            twill__print_code(&draft->text, "A");
        }
        twill__print_code(&draft->text, "\r\x1b[J");
    }
    draft->lines = draft->shown_cells = 0;
    draft->hash = 0;
}

static inline void twill__draft_bar(twill__draft *draft, const twill__screen *screen,
                                    twill_progress *progress, twill_ns now)
{
    twill_progress_view view;
    twill__print line = {draft->text.data + draft->text.length, TWILL__SCREEN_LINE, 0, 0};
    twill__progress_view_of(progress, now, &view);
    twill__progress_line_bar(&line, screen, progress, &view, draft->cells);
    draft->text.length += line.length;
    twill__print_code(&draft->text, "\x1b[K");
}

/* The lines of children that end stay, above the others. */
static inline void twill__draft_bars_ended(twill__draft *draft, twill__screen *screen, twill_ns now)
{
    for (twill_progress *p = screen->first; p; p = p->next) {
        if (p == screen->root || !twill__draft_closes(draft, p) || !twill__draft_has_room(draft))
            continue;
        p->included = true;
        if (p->clear_at_end || twill__progress_quiet(p, now) || !draft->visible)
            continue;
        twill__draft_bar(draft, screen, p, now);
        twill__print_code(&draft->text, "\n\r");
    }
}

static inline bool twill__draft_child_ends(const twill__draft *draft, const twill__screen *screen)
{
    for (twill_progress *p = screen->first; p; p = p->next)
        if (p != screen->root && twill__draft_closes(draft, p))
            return true;
    return false;
}

static inline void twill__draft_bars_live(twill__draft *draft, twill__screen *screen, twill_ns now)
{
    for (twill_progress *p = screen->first; p; p = p->next) {
        if ((p != screen->root && twill__draft_closes(draft, p) && p->included) ||
            twill__progress_quiet(p, now))
            continue;
        if (draft->lines >= draft->rows || !twill__draft_has_room(draft))
            break;
        twill__print_code(&draft->text, draft->lines ? "\n\r" : "\r");
        twill__draft_bar(draft, screen, p, now);
        draft->lines++;
    }
}

static inline void twill__draft_bars(twill__draft *draft, twill__screen *screen, twill_ns now)
{
    bool final = twill__draft_closes(draft, screen->root),
         changes = draft->log_length || twill__draft_child_ends(draft, screen);
    size_t start;
    if (changes || (final && screen->root->clear_at_end)) {
        twill__draft_clear(draft, screen);
        twill__print_raw(&draft->text, draft->log, draft->log_length);
        twill__draft_bars_ended(draft, screen, now);
    } else if (screen->shown_lines > 1) {
        twill__print_code(&draft->text, "\x1b[");
        twill__print_number(&draft->text, screen->shown_lines - 1);
        twill__print_code(&draft->text, "A");
    }
    start = draft->text.length;
    draft->lines = 0;
    if (draft->visible && (draft->due || screen->shown_lines) &&
        !(final && screen->root->clear_at_end))
        twill__draft_bars_live(draft, screen, now);
    draft->hash = twill__draft_hash(draft->text.data + start, draft->text.length - start);
    if (!changes && !final && draft->hash == screen->shown_hash &&
        draft->lines == screen->shown_lines)
        draft->text.length = 0; /* nothing has changed */
    else if (!changes && draft->lines < screen->shown_lines &&
             !(final && screen->root->clear_at_end))
        twill__print_code(&draft->text, draft->lines ? "\x1b[J" : "\r\x1b[J");
    if (final && draft->lines) {
        twill__print_code(&draft->text, "\n");
        draft->lines = 0;
    }
}

static inline void twill__draft_counter(twill__draft *draft, twill__screen *screen, twill_ns now)
{
    bool final = twill__draft_closes(draft, screen->root), redraw = false;
    twill_progress_view view;
    twill__print *text = &draft->text;
    size_t start;
    unsigned before = screen->shown_cells;
    if (draft->log_length) {
        twill__draft_clear(draft, screen);
        twill__print_raw(text, draft->log, draft->log_length);
        redraw = before != 0;
        before = 0;
    }
    for (twill_progress *p = screen->first; p; p = p->next)
        p->included = p != screen->root && twill__draft_closes(draft, p);
    if (!draft->visible || !(draft->due || before || redraw) ||
        twill__progress_quiet(screen->root, now))
        return;
    start = text->length;
    text->cells = 0;
    twill__progress_view_of(screen->root, now, &view);
    twill__print_code(text, "\r");
    twill__progress_line_counter(text, screen, screen->root, &view, draft->cells);
    draft->shown_cells = text->cells;
    draft->hash = twill__draft_hash(text->data + start, text->length - start);
    if (before && draft->hash == screen->shown_hash) {
        text->length = start;
    } else {
        for (unsigned cells = draft->shown_cells; cells < before; cells++)
            twill__print_code(text, " ");
    }
    if (final) {
        twill__print_code(text, "\n");
        draft->shown_cells = 0;
        draft->hash = 0;
    }
}

/* accessible: at each 10 %; 100 is left to the last line. */
static inline bool twill__progress_tenth(twill_progress *progress, const twill_progress_view *view,
                                         twill_ns now)
{
    int decile = view->percent / 10;
    if (view->percent < 0) {
        if (now < progress->next_line)
            return false;
        progress->next_line = now + TWILL_SEC(10);
        return true;
    }
    if (decile == progress->decile || decile == 10)
        return false;
    progress->decile = decile;
    return true;
}

static inline void twill__draft_lines(twill__draft *draft, twill__screen *screen, twill_ns now)
{
    twill__print_raw(&draft->text, draft->log, draft->log_length);
    for (twill_progress *p = screen->first; p; p = p->next) {
        bool ending = twill__draft_closes(draft, p);
        twill_progress_view view;
        if (!twill__draft_has_room(draft))
            break;
        p->included = ending;
        if (!draft->visible || !(ending || (draft->due && !twill__progress_quiet(p, now))) ||
            atomic_load_explicit(&p->state, memory_order_relaxed) ==
                TWILL__PROGRESS_ENDED) /* under the lock */
            continue;
        twill__progress_view_of(p, now, &view);
        if (screen->style == TWILL_PROGRESS_JSON)
            twill__progress_line_json(&draft->text, p, &view);
        else if (!screen->accessible || ending || twill__progress_tenth(p, &view, now))
            twill__progress_line_plain(&draft->text, screen, p, &view);
        else
            continue;
        twill__print_code(&draft->text, "\n");
    }
}

static inline void twill__draft_all(twill__draft *draft, twill__screen *screen, twill_ns now)
{
    draft->lines = screen->shown_lines;
    draft->shown_cells = screen->shown_cells;
    draft->hash = screen->shown_hash;
    /* relaxed: a stop, not a message */
    if (screen->style == TWILL_PROGRESS_SILENT ||
        atomic_load_explicit(&screen->over, memory_order_relaxed)) {
        twill__print_raw(&draft->text, draft->log, draft->log_length);
        for (twill_progress *p = screen->first; p; p = p->next)
            p->included = twill__draft_closes(draft, p);
    } else if (screen->style == TWILL_PROGRESS_BAR) {
        twill__draft_bars(draft, screen, now);
    } else if (screen->style == TWILL_PROGRESS_COUNTER) {
        twill__draft_counter(draft, screen, now);
    } else {
        twill__draft_lines(draft, screen, now);
    }
    if (twill__draft_closes(draft, screen->root))
        screen->root->included = true;
}

/* What is asked of the system for a frame. In the background the bars are taken for gone: others
   write there. */
static inline void twill__draft_prepare(twill__draft *draft, twill__screen *screen, char *buffer,
                                        size_t size)
{
    unsigned columns, rows;
    memset(draft, 0, sizeof *draft);
    draft->text.data = buffer;
    draft->text.capacity = size;
    draft->visible = screen->terminal ? twill__terminal_foreground(screen->fd) : true;
    if (!draft->visible || screen->lost) {
        screen->shown_lines = screen->shown_cells = 0;
        screen->shown_hash = 0;
        screen->lost = false;
    }
    twill__terminal_size(screen->fd, &columns, &rows);
    if (screen->width)
        columns = screen->width;
    else if (!columns)
        columns = screen->columns;
    draft->cells = columns - 1;
    draft->rows = rows > 1 ? rows - 1 : rows ? 1 : UINT_MAX;
}

static inline void twill__draft_written(const twill__draft *draft, twill__screen *screen,
                                        twill__wrote wrote)
{
    if (wrote == TWILL__WROTE) {
        screen->shown_lines = draft->lines;
        screen->shown_cells = draft->shown_cells;
        screen->shown_hash = draft->hash;
    } else if (wrote == TWILL__WROTE_NOT) {
        screen->shown_hash = 0;
    } else { /* relaxed: whoever misses it fails at his own write */
        atomic_store_explicit(&screen->broken, 1, memory_order_relaxed);
    }
}

/* ---- the end of a bar, under the lock ---- */

static inline void twill__progress_unlist(twill_progress *progress)
{
    twill__screen *screen = progress->screen;
    if (!progress->listed)
        return;
    if (progress->previous)
        progress->previous->next = progress->next;
    else
        screen->first = progress->next;
    if (progress->next)
        progress->next->previous = progress->previous;
    else
        screen->last = progress->previous;
    progress->listed = false;
}

/* It stands for its whole weight now. The root stays in its list, for views. */
static inline void twill__progress_settle(twill_progress *progress)
{
    twill__screen *screen = progress->screen;
    unsigned kind = progress->outcome == TWILL_OK       ? TWILL__TALLY_DONE
                    : progress->outcome == TWILL_FAILED ? TWILL__TALLY_FAILED
                                                        : TWILL__TALLY_SKIPPED;
    if (progress->parent) {
        progress->parent->given[kind] =
            twill__tally_plus(progress->parent->given[kind], progress->weight);
        twill__progress_count(progress);
        progress->parent = NULL;
    }
    progress->included = false;
    if (progress == screen->root)
        atomic_store_explicit(&screen->over, 1, memory_order_relaxed); /* a stop, not a message */
    else
        twill__progress_unlist(progress);
    /* release: pairs with the acquire of a second finish */
    atomic_store_explicit(&progress->state, TWILL__PROGRESS_ENDED, memory_order_release);
    twill__wake(&progress->state, INT_MAX);
}

static inline void twill__screen_settle(twill__screen *screen)
{
    bool final;
    twill__lock(&screen->lock);
    final = twill__progress_ending(screen->root) && screen->root->included;
    for (twill_progress *p = screen->first, *next; p; p = next) {
        next = p->next;
        if (p != screen->root && twill__progress_ending(p) && (p->included || final))
            twill__progress_settle(p);
    }
    if (final)
        twill__progress_settle(screen->root);
    twill__unlock(&screen->lock);
}

/* ---- a pass: sample, tell, draw; whoever has the turn ---- */

/* How long a pass may wait: the renderer for ever, being the only one that nobody waits for
   (finish: see `blocked`). */
typedef enum twill__screen_patience {
    TWILL__SCREEN_NO_WAIT,
    TWILL__SCREEN_A_SECOND,
    TWILL__SCREEN_ANY_TIME,
    TWILL__SCREEN_RENDERER
} twill__screen_patience;

/* The renderer says that it may hang now, and asks after it whether it was left behind: then the
   bars may be gone. */
static inline void twill__screen_may_hang(twill__screen *screen, twill__screen_patience patience)
{
    if (patience ==
        TWILL__SCREEN_RENDERER) /* seq_cst: rare, and the CAS below and that of finish decide */
        atomic_store(&screen->blocked, TWILL__RENDERER_BLOCKED);
}

static inline bool twill__screen_hung(twill__screen *screen, twill__screen_patience patience)
{
    uint32_t expected = TWILL__RENDERER_BLOCKED;
    return patience == TWILL__SCREEN_RENDERER &&
           !atomic_compare_exchange_strong(&screen->blocked, &expected, TWILL__RENDERER_FREE);
}

static inline bool twill__screen_enter(twill__screen *screen, _Atomic uint32_t *gate,
                                       twill__screen_patience patience)
{
    bool entered;
    if (patience == TWILL__SCREEN_NO_WAIT)
        return twill__screen_gate_try(gate);
    twill__screen_may_hang(screen, patience);
    entered = twill__screen_gate_enter(
        gate, patience == TWILL__SCREEN_A_SECOND ? twill__clock_now() + TWILL__SCREEN_STUCK : 0);
    if (entered && twill__screen_hung(screen, patience)) {
        twill__screen_gate_leave(gate);
        return false;
    }
    return entered;
}

/* Calls on_view of each bar that has one, without a lock. */
static inline void twill__screen_tell(twill__screen *screen, twill_ns now, bool due)
{
    twill_progress *progress;
    twill__lock(&screen->lock);
    screen->pass++;
    do {
        twill_task task = {SIZE_MAX, NULL, UINT_MAX, 0, NULL, {0, NULL}, NULL};
        twill_progress_view view;
        char label[TWILL__PROGRESS_LABEL];
        for (progress = screen->first; progress; progress = progress->next)
            if (progress->on_view && progress->pass != screen->pass && !progress->told &&
                (due || twill__progress_ending(progress)))
                break;
        if (!progress)
            break;
        progress->pass = screen->pass;
        /* under the lock. A frame may have ended it already, before its on_view was told */
        progress->told =
            atomic_load_explicit(&progress->state, memory_order_relaxed) != TWILL__PROGRESS_RUNNING;
        twill__progress_count(progress);
        twill__progress_view_of(progress, now, &view);
        memcpy(label, progress->label, sizeof label);
        view.label = label;
        task.context = progress->context;
        screen->calling = progress;
        twill__unlock(&screen->lock);
        progress->on_view(&view, &task);
        twill__lock(&screen->lock);
        screen->calling = NULL;
        atomic_fetch_add_explicit(&screen->called, 1, memory_order_relaxed); /* under the lock */
        twill__wake(&screen->called, INT_MAX);
    } while (progress);
    twill__unlock(&screen->lock);
}

/* Under the lock: afterwards no callback of this bar runs. Not from inside it. */
static inline void twill__screen_await_view(twill__screen *screen, const twill_progress *progress)
{
    while (screen->calling == progress) {
        uint32_t called =
            atomic_load_explicit(&screen->called, memory_order_relaxed); /* under the lock */
        twill__unlock(&screen->lock);
        twill__park(&screen->called, called, 0);
        twill__lock(&screen->lock);
    }
}

static inline twill__wrote twill__draft_write(const twill__draft *draft, twill__screen *screen,
                                              twill__screen_patience patience)
{
    bool plain = patience == TWILL__SCREEN_RENDERER || patience == TWILL__SCREEN_ANY_TIME;
    if (draft->text.length == 0 ||
        atomic_load_explicit(&screen->broken, memory_order_relaxed)) /* a stop */
        return TWILL__WROTE;
    if (!plain &&
        !twill__terminal_writable(screen->fd, patience == TWILL__SCREEN_NO_WAIT ? 0 : 1000))
        return TWILL__WROTE_NOT;
    return twill__write_calmly(screen->fd, draft->text.data, draft->text.length, false, true);
}

/* False: left behind; touch nothing but the screen. */
static inline bool twill__screen_show(twill__screen *screen, twill_ns now, bool due,
                                      twill__screen_patience patience)
{
    twill__draft draft;
    twill__wrote wrote;
    bool hung;
    if (!twill__screen_enter(screen, &screen->io, patience))
        return patience != TWILL__SCREEN_RENDERER;
    twill__draft_prepare(&draft, screen, screen->frame, sizeof screen->frame);
    draft.due = due;
    draft.closes = true;
    twill__lock(&screen->lock);
    if (screen->suspended && !twill__progress_ending(screen->root))
        draft.visible = false;
    twill__screen_count(screen);
    twill__draft_all(&draft, screen, now);
    twill__unlock(&screen->lock);
    twill__screen_may_hang(screen, patience);
    wrote = twill__draft_write(&draft, screen, patience);
    hung = twill__screen_hung(screen, patience);
    twill__draft_written(&draft, screen, wrote);
    twill__screen_gate_leave(&screen->io);
    if (hung)
        return false;
    twill__screen_settle(screen);
    return true;
}

static inline bool twill__screen_pass(twill__screen *screen, bool due,
                                      twill__screen_patience patience)
{
    twill_ns now = twill__clock_now();
    twill__lock(&screen->lock);
    twill__screen_count(screen);
    for (twill_progress *p = screen->first; p; p = p->next)
        if (atomic_load_explicit(&p->state, memory_order_relaxed) ==
            TWILL__PROGRESS_RUNNING) /* under the lock */
            twill__progress_sample(p, now);
    twill__unlock(&screen->lock);
    if (due) /* relaxed: a hint to updaters */
        atomic_store_explicit(&screen->next_draw,
                              screen->interval < INT64_MAX - now ? now + screen->interval
                                                                 : INT64_MAX,
                              memory_order_relaxed);
    twill__screen_tell(screen, now, due);
    return twill__screen_show(screen, now, due, patience);
}

/* ---- the renderer ---- */

static inline void twill__screen_drop(twill__screen *screen)
{
    /* acq_rel: whoever frees it sees what the others did */
    if (atomic_fetch_sub_explicit(&screen->refs, 1, memory_order_acq_rel) == 1)
        TWILL_FREE(screen);
}

/* False: left behind. */
static inline bool twill__renderer_turn(twill__screen *screen, bool stop)
{
    bool alive, due = stop || twill__clock_now() >=
                                  atomic_load_explicit(&screen->next_draw, memory_order_relaxed);
    if (!twill__screen_enter(screen, &screen->turn, TWILL__SCREEN_RENDERER))
        return false;
    twill__screen_turn_taken(screen);
    alive = twill__screen_pass(screen, due, TWILL__SCREEN_RENDERER);
    twill__screen_turn_leave(screen);
    return alive;
}

static inline void twill__renderer_main(void *screen_)
{
    twill__screen *screen = (twill__screen *)screen_;
    const twill_ns period = screen->interval < TWILL_SEC(1) ? screen->interval : TWILL_SEC(1);
    for (;;) { /* exit: stopped, or left behind */
        /* acquire: pairs with the release of twill__screen_request; the order of the two loads
           makes a stop wake us */
        uint32_t requests = atomic_load_explicit(&screen->requests, memory_order_acquire);
        bool stop = atomic_load_explicit(&screen->stop, memory_order_acquire) != 0;
        twill_ns next;
        if (!twill__renderer_turn(screen, stop)) {
            twill__screen_drop(screen);
            return;
        }
        if (stop)
            break;
        next = twill__clock_now() + period;
        while (atomic_load_explicit(&screen->requests, memory_order_acquire) == requests &&
               twill__park(&screen->requests, requests, next))
            continue;
        if (twill__clock_now() > next + TWILL_SEC(1) && twill__screen_gate_try(&screen->io)) {
            screen->lost = true; /* we were stopped, and the shell has written: do not move up */
            twill__screen_gate_leave(&screen->io);
        }
    }
    atomic_store_explicit(&screen->ended, 1,
                          memory_order_release); /* pairs with the acquire in twill__renderer_end */
    twill__wake(&screen->ended, INT_MAX);
}

static inline void twill__screen_request(twill__screen *screen)
{
    atomic_fetch_add_explicit(&screen->requests, 1,
                              memory_order_release); /* pairs with the renderer's loads */
    twill__wake(&screen->requests, 1);
}

/* Under the lock. Signals stay with the program's threads, SIGTTOU above all: the renderer inherits
   a full mask. */
static inline void twill__renderer_start(twill__screen *screen)
{
    twill__signal_mask old;
    memset(&screen->thread, 0, sizeof screen->thread);
    screen->thread.fn = twill__renderer_main;
    screen->thread.arg = screen;
    memcpy(screen->thread.name, "twill progress", sizeof "twill progress");
    screen->thread.cpu = UINT_MAX;
    atomic_fetch_add_explicit(&screen->refs, 1, memory_order_relaxed); /* we hold one ourselves */
    twill__signals_hold(&old);
    screen->threaded = twill__thread_start(&screen->thread);
    twill__signals_restore(&old);
    if (!screen->threaded) {
        atomic_fetch_sub_explicit(&screen->refs, 1, memory_order_relaxed);
        atomic_store_explicit(&screen->draw_by, TWILL_PROGRESS_BY_UPDATER,
                              memory_order_relaxed); /* before others look */
    }
}

/* Lets the renderer draw the last frame. A callback is waited for, a terminal for a second. */
static inline void twill__renderer_end(twill__screen *screen)
{
    atomic_store_explicit(&screen->stop, 1,
                          memory_order_release); /* pairs with the renderer's load */
    twill__screen_request(screen);
    for (;;) { /* exit: it has ended, or hangs */
        twill_ns limit = twill__clock_now() + TWILL__SCREEN_STUCK;
        uint32_t blocked = TWILL__RENDERER_BLOCKED, ended;
        while (!(ended = atomic_load_explicit(&screen->ended,
                                              memory_order_acquire))) /* pairs with its release */
            if (!twill__park(&screen->ended, 0, limit))
                break;
        if (ended) {
            twill__thread_join(&screen->thread);
            twill__screen_drop(screen);
            return;
        }
        if (atomic_compare_exchange_strong(&screen->blocked, &blocked, TWILL__RENDERER_ABANDONED)) {
            twill__thread_let_go(&screen->thread);
            return;
        }
    }
}

#endif

/* ---- updates ---- */

static inline bool twill__screen_undrawn(twill__screen *screen)
{
    /* relaxed: what comes a moment too late is not drawn either */
    return atomic_load_explicit(&screen->over, memory_order_relaxed) ||
           twill__progress_forked(screen);
}

/* BY_UPDATER, after an update. */
static inline void twill__progress_updated(twill__screen *screen)
{
    if (atomic_load_explicit(&screen->draw_by, memory_order_relaxed) != TWILL_PROGRESS_BY_UPDATER ||
        twill__clock_now() < atomic_load_explicit(&screen->next_draw, memory_order_relaxed) ||
        twill__screen_undrawn(screen) || !twill__screen_gate_try(&screen->turn))
        return;
    twill__screen_turn_taken(screen);
    twill__screen_pass(screen, true, TWILL__SCREEN_NO_WAIT);
    twill__screen_turn_leave(screen);
}

/* EACH: the update and its frame are one step. False: no frame, the caller just counts. */
static inline bool twill__screen_each_begin(twill__screen *screen)
{
    if (atomic_load_explicit(&screen->draw_by, memory_order_relaxed) != TWILL_PROGRESS_EACH ||
        twill__screen_undrawn(screen) || twill__screen_turn_mine(screen))
        return false;
    twill__screen_gate_enter(&screen->turn, 0);
    twill__screen_turn_taken(screen);
    return true;
}

static inline void twill__screen_each_end(twill__screen *screen)
{
    twill__screen_pass(screen, true, TWILL__SCREEN_ANY_TIME);
    twill__screen_turn_leave(screen);
}

static inline void twill__progress_update(twill_progress *progress, unsigned kind, uint64_t n)
{
    bool each;
    if (!progress)
        return;
    if (!progress->slow) {
        twill__tally_add(&progress->counter, kind, n);
        return;
    }
    each = twill__screen_each_begin(progress->screen);
    twill__tally_add(&progress->counter, kind, n);
    if (each)
        twill__screen_each_end(progress->screen);
    else
        twill__progress_updated(progress->screen);
}

TWILL__DEFINE void twill_progress_add(twill_progress *progress, uint64_t n)
{
    twill__progress_update(progress, TWILL__TALLY_DONE, n);
}

TWILL__DEFINE void twill_progress_add_failed(twill_progress *progress, uint64_t n)
{
    twill__progress_update(progress, TWILL__TALLY_FAILED, n);
}

TWILL__DEFINE void twill_progress_add_skipped(twill_progress *progress, uint64_t n)
{
    twill__progress_update(progress, TWILL__TALLY_SKIPPED, n);
}

TWILL__DEFINE void twill_progress_set(twill_progress *progress, uint64_t done)
{
    bool each;
    if (!progress)
        return;
    each = progress->slow && twill__screen_each_begin(progress->screen);
    twill__tally_set(&progress->counter, done);
    if (each)
        twill__screen_each_end(progress->screen);
    else if (progress->slow)
        twill__progress_updated(progress->screen);
}

TWILL__DEFINE void twill_progress_add_total(twill_progress *progress, uint64_t n)
{
    uint64_t total;
    if (!progress)
        return;
    total = atomic_load_explicit(&progress->total, memory_order_relaxed); /* a guess for the CAS */
    while (!atomic_compare_exchange_weak_explicit(&progress->total, &total,
                                                  twill__tally_plus(total, n), memory_order_relaxed,
                                                  memory_order_relaxed))
        continue;
    atomic_store_explicit(&progress->total_known, 1,
                          memory_order_release); /* pairs with twill__progress_view_of */
}

/* ---- create ---- */

static inline bool twill__screen_says(const char *value, const char *word)
{
    for (; *word; word++, value++)
        if ((*value | 0x20) != *word)
            return false;
    return true;
}

static inline bool twill__screen_utf8(void)
{
    static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *value = getenv(names[i]);
        if (!value || !*value)
            continue;
        for (; *value; value++)
            if (twill__screen_says(value, "utf-8") || twill__screen_says(value, "utf8"))
                return true;
        return false;
    }
    return false;
}

static inline twill_progress_style twill__screen_style(const twill_progress_options *options,
                                                       int fd, bool terminal)
{
    static const char *const names[] = {"bar", "counter", "lines", "json", "silent"};
    const char *wanted = getenv("TWILL_PROGRESS"), *term = getenv("TERM");
    twill_progress_style style = options->style;
    if (style == TWILL_PROGRESS_AUTO) {
        bool able = terminal && term && *term && strcmp(term, "dumb") != 0;
        style = able && twill__terminal_foreground(fd) ? TWILL_PROGRESS_BAR : TWILL_PROGRESS_LINES;
        for (unsigned i = 0; wanted && i < sizeof names / sizeof names[0]; i++)
            if (strcmp(wanted, names[i]) == 0)
                style = (twill_progress_style)(TWILL_PROGRESS_BAR + i);
    }
    if (style == TWILL_PROGRESS_BAR && !TWILL__TERMINALS)
        style = TWILL_PROGRESS_LINES;
    if (options->accessible && (style == TWILL_PROGRESS_BAR || style == TWILL_PROGRESS_COUNTER))
        style = TWILL_PROGRESS_LINES;
    return style;
}

static inline bool twill__progress_valid(const twill_progress_options *options)
{
    if ((unsigned)options->style > TWILL_PROGRESS_SILENT ||
        (unsigned)options->draw_by > TWILL_PROGRESS_EACH ||
        (unsigned)options->unit > TWILL_UNIT_BYTES_SI || options->fd < 0 || options->interval < 0 ||
        options->quiet_for < 0 || options->memory < 0 ||
        (options->total_is_zero && options->total) ||
        (options->draw_by == TWILL_PROGRESS_EACH && options->interval) ||
        (options->context && !options->on_view))
        return false;
    if (!options->parent)
        return options->weight == 0;
    return !options->style && !options->draw_by && !options->fd && !options->interval &&
           !options->ascii && !options->no_color && !options->accessible && !options->width;
}

static inline twill__screen *twill__screen_create(const twill_progress_options *options)
{
    twill__screen *screen = (twill__screen *)TWILL_MALLOC(sizeof *screen);
    const char *columns = getenv("COLUMNS"), *no_color = getenv("NO_COLOR"), *term = getenv("TERM");
    if (!screen)
        return NULL;
    memset(screen, 0, offsetof(twill__screen, frame));
    screen->generation = twill__generation();
    screen->fd = options->fd ? options->fd : 2;
    screen->terminal = twill__terminal_is(screen->fd);
    screen->style = twill__screen_style(options, screen->fd, screen->terminal);
    screen->accessible = options->accessible && screen->style == TWILL_PROGRESS_LINES;
    screen->ascii = options->ascii || !twill__screen_utf8();
    screen->color =
        !options->no_color && !(no_color && *no_color) && !(term && strcmp(term, "dumb") == 0);
    screen->width = options->width;
    for (; columns && *columns >= '0' && *columns <= '9' && screen->columns < 10000; columns++)
        screen->columns = screen->columns * 10 + (unsigned)(*columns - '0');
    if (!screen->columns)
        screen->columns = 80;
    screen->interval = options->interval ? options->interval
                       : screen->accessible || (screen->style != TWILL_PROGRESS_LINES &&
                                                screen->style != TWILL_PROGRESS_JSON)
                           ? TWILL_MS(100)
                           : TWILL_SEC(10);
    atomic_init(&screen->draw_by, options->draw_by);
    return screen;
}

static inline twill_progress *twill__progress_new(const twill_progress_options *options)
{
    static const char *const bytes = "B";
    const char *name = options->unit_name ? options->unit_name : options->unit ? bytes : "";
    void *block = TWILL_MALLOC(sizeof(twill_progress) + TWILL__LINE - 1);
    twill_progress *progress;
    if (!block)
        return NULL;
    progress = (twill_progress *)(((uintptr_t)block + TWILL__LINE - 1) / TWILL__LINE * TWILL__LINE);
    memset(progress, 0, sizeof *progress);
    progress->block = block;
    progress->weight = options->weight;
    progress->created = twill__clock_now();
    progress->quiet_for = options->quiet_for;
    progress->clear_at_end = options->clear_at_end;
    progress->on_view = options->on_view;
    progress->context = options->context;
    progress->unit.step = options->unit == TWILL_UNIT_BYTES_IEC  ? 1024
                          : options->unit == TWILL_UNIT_BYTES_SI ? 1000
                                                                 : 0;
    twill__print_cut(progress->unit_name, sizeof progress->unit_name, name);
    progress->unit.name = progress->unit_name;
    twill__print_cut(progress->label, sizeof progress->label,
                     options->label ? options->label : "Progress");
    atomic_init(&progress->total, options->total);
    atomic_init(&progress->total_known, options->total || options->total_is_zero);
    progress->decile = -1;
    twill__speed_start(&progress->rate, options->memory ? options->memory : TWILL_SEC(15),
                       progress->created, 0);
    return progress;
}

/* Behind the parent and its descendants, and starts the renderer if there is something for it to
   do. */
static inline void twill__progress_list(twill_progress *progress, twill_progress *parent)
{
    twill__screen *screen = progress->screen;
    twill_progress *after = parent;
    progress->parent = parent;
    progress->depth = parent ? parent->depth + 1 : 0;
    while (after && after->next && after->next->depth > parent->depth)
        after = after->next;
    progress->previous = after;
    progress->next = after ? after->next : screen->first;
    if (after)
        after->next = progress;
    else
        screen->first = progress;
    if (progress->next)
        progress->next->previous = progress;
    else
        screen->last = progress;
    progress->listed = true;
    if (!screen->threaded &&
        atomic_load_explicit(&screen->draw_by, memory_order_relaxed) == TWILL_PROGRESS_BY_THREAD &&
        (screen->style != TWILL_PROGRESS_SILENT || progress->on_view))
        twill__renderer_start(screen); /* relaxed: it is written here alone, under the lock */
    progress->slow =
        atomic_load_explicit(&screen->draw_by, memory_order_relaxed) == TWILL_PROGRESS_BY_UPDATER ||
        atomic_load_explicit(&screen->draw_by, memory_order_relaxed) == TWILL_PROGRESS_EACH;
}

static inline twill_status twill__progress_join_family(twill_progress *progress,
                                                       twill_progress *parent)
{
    twill__screen *screen = parent->screen;
    bool over;
    twill__lock(&screen->lock);
    over = atomic_load_explicit(&screen->over, memory_order_relaxed) || /* under the lock */
           atomic_load_explicit(&parent->state, memory_order_relaxed) != TWILL__PROGRESS_RUNNING ||
           !parent->listed;
    if (!over) {
        atomic_fetch_add_explicit(&screen->refs, 1,
                                  memory_order_relaxed); /* the parent holds one */
        progress->screen = screen;
        twill__progress_list(progress, parent);
    }
    twill__unlock(&screen->lock);
    return over ? TWILL_CLOSED : TWILL_OK;
}

TWILL__DEFINE twill_status twill_progress_create(twill_progress **out,
                                                 const twill_progress_options *options)
{
    static const twill_progress_options defaults;
    twill_progress *progress;
    twill_status status = TWILL_OK;
    if (!out)
        return TWILL_INVALID;
    *out = NULL;
    options = options ? options : &defaults;
    if (!twill__progress_valid(options))
        return TWILL_INVALID;
    if (options->parent && twill__progress_forked(options->parent->screen))
        return TWILL_FORKED;
    progress = twill__progress_new(options);
    if (!progress)
        return TWILL_NO_MEMORY;
    *out = progress; /* before anybody may call on_view, which may look there */
    if (options->parent) {
        status = twill__progress_join_family(progress, options->parent);
    } else if ((progress->screen = twill__screen_create(options)) == NULL) {
        status = TWILL_NO_MEMORY;
    } else {
        twill__screen *screen = progress->screen;
        atomic_init(&screen->refs, 1);
        screen->root = progress;
        twill__lock(&screen->lock);
        twill__progress_list(progress, NULL);
        twill__unlock(&screen->lock);
    }
    if (status != TWILL_OK) {
        *out = NULL;
        TWILL_FREE(progress->block);
    }
    return status;
}

/* ---- views, labels, drawing on request ---- */

TWILL__DEFINE twill_status twill_progress_set_label(twill_progress *progress, const char *label)
{
    if (!progress)
        return TWILL_OK;
    if (twill__progress_forked(progress->screen))
        return TWILL_FORKED;
    twill__lock(&progress->screen->lock);
    twill__print_cut(progress->label, sizeof progress->label, label ? label : "Progress");
    twill__unlock(&progress->screen->lock);
    return TWILL_OK;
}

/* After a fork the lock may be held by a thread that does not exist here: the own counters, without
   it. */
static inline void twill__progress_view_forked(const twill_progress *progress,
                                               twill_progress_view *view)
{
    uint64_t processed;
    view->done = twill__tally_read(&progress->counter, TWILL__TALLY_DONE);
    view->failed = twill__tally_read(&progress->counter, TWILL__TALLY_FAILED);
    view->skipped = twill__tally_read(&progress->counter, TWILL__TALLY_SKIPPED);
    processed = twill__tally_plus(view->done, twill__tally_plus(view->failed, view->skipped));
    view->total_known =
        atomic_load_explicit(&progress->total_known, memory_order_acquire) != 0; /* see add_total */
    view->total = atomic_load_explicit(&progress->total, memory_order_relaxed);
    if (view->total_known)
        view->percent = twill__tally_percent(processed, view->total);
    view->elapsed = twill__clock_now() - progress->created;
}

TWILL__DEFINE void twill_progress_get_view(const twill_progress *progress,
                                           twill_progress_view *view)
{
    twill_progress *p = (twill_progress *)(uintptr_t)progress;
    twill_ns now;
    if (!view)
        return;
    memset(view, 0, sizeof *view);
    view->percent = -1;
    view->left = -1;
    if (!p)
        return;
    if (twill__progress_forked(p->screen)) {
        twill__progress_view_forked(p, view);
        return;
    }
    twill__lock(&p->screen->lock);
    now = twill__clock_now();
    twill__progress_count(p);
    if (atomic_load_explicit(&p->state, memory_order_relaxed) ==
            TWILL__PROGRESS_RUNNING && /* under the lock */
        now - p->rate.at >= TWILL__PROGRESS_SAMPLE)
        twill__progress_sample(p, now);
    twill__progress_view_of(p, now, view);
    twill__unlock(&p->screen->lock);
}

TWILL__DEFINE void twill_progress_draw(twill_progress *progress)
{
    twill__screen *screen;
    if (!progress)
        return;
    screen = progress->screen;
    if (twill__screen_undrawn(screen) || /* relaxed: written before the object was ours; a hint */
        (atomic_load_explicit(&screen->draw_by, memory_order_relaxed) == TWILL_PROGRESS_BY_CALL &&
         twill__clock_now() < atomic_load_explicit(&screen->next_draw, memory_order_relaxed)) ||
        !twill__screen_gate_try(&screen->turn))
        return;
    twill__screen_turn_taken(screen);
    twill__screen_pass(screen, true, TWILL__SCREEN_NO_WAIT);
    twill__screen_turn_leave(screen);
}

/* ---- log, suspend ---- */

/* Composes and writes; `line` ends in \n. */
static inline bool twill__screen_log_write(twill__screen *screen, const char *line, size_t length,
                                           char *buffer, size_t size)
{
    twill__draft draft;
    twill__wrote wrote;
    twill__draft_prepare(&draft, screen, buffer, size);
    draft.log = line;
    draft.log_length = length;
    twill__lock(&screen->lock);
    if (screen->suspended)
        draft.visible = false;
    twill__screen_count(screen);
    twill__draft_all(&draft, screen, twill__clock_now());
    twill__unlock(&screen->lock);
    wrote = twill__write_calmly(screen->fd, draft.text.data, draft.text.length, true, false);
    twill__draft_written(&draft, screen, wrote);
    return wrote == TWILL__WROTE;
}

/* A line of text becomes what is written: with its \n, or an object of JSON. */
static inline size_t twill__screen_log_line(const twill__screen *screen, char *to, size_t size,
                                            const char *line)
{
    twill__print text = {to, size, 0, 0};
    if (screen->style == TWILL_PROGRESS_JSON) {
        twill__print_ascii(&text, "{\"log\": ");
        twill__print_json(&text, line);
        twill__print_ascii(&text, "}\n");
    } else {
        twill__print_ascii(&text, line);
        twill__print_ascii(&text, "\n");
    }
    return text.length;
}

enum { TWILL__SCREEN_SHORT = 512 }; /* a line that needs no memory */

static inline bool twill__screen_log_short(twill__screen *screen, const char *line)
{
    char to[6 * TWILL__SCREEN_SHORT + 16];
    size_t length = twill__screen_log_line(screen, to, sizeof to, line);
    return twill__screen_log_write(screen, to, length, screen->frame, sizeof screen->frame);
}

/* `block` holds the line, then what is written (size: at most), then the frame. */
static inline bool twill__screen_log_long(twill__screen *screen, char *block, size_t line_size,
                                          size_t size)
{
    size_t length = twill__screen_log_line(screen, block + line_size, size, block);
    return twill__screen_log_write(screen, block + line_size, length, block + line_size + size,
                                   size + TWILL__SCREEN_FRAME);
}

TWILL__DEFINE int twill_progress_log(twill_progress *progress, const char *format, ...)
{
    char line[TWILL__SCREEN_SHORT], *block = NULL;
    twill__screen *screen;
    size_t size = 0;
    va_list arguments;
    int length;
    bool written = false;
    if (!progress || !format)
        return progress ? -1 : 0;
    screen = progress->screen;
    if (twill__progress_forked(screen))
        return -1;
    va_start(arguments, format);
    length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (length >= TWILL__SCREEN_SHORT) {
        size = (size_t)length * (screen->style == TWILL_PROGRESS_JSON ? 6 : 1) + 16;
        block = (char *)TWILL_MALLOC((size_t)length + 1 + 2 * size + TWILL__SCREEN_FRAME);
        if (block) {
            va_start(arguments, format);
            length = vsnprintf(block, (size_t)length + 1, format, arguments);
            va_end(arguments);
        } else {
            length = TWILL__SCREEN_SHORT - 1; /* no memory: its front part is better than nothing */
        }
    }
    if (length < 0) {
        TWILL_FREE(block);
        return -1;
    }
    twill__screen_gate_enter(&screen->io, 0);
    if (!atomic_load_explicit(&screen->broken, memory_order_relaxed)) /* a stop, not a message */
        written = block ? twill__screen_log_long(screen, block, (size_t)length + 1, size)
                        : twill__screen_log_short(screen, line);
    twill__screen_gate_leave(&screen->io);
    TWILL_FREE(block);
    return written ? length : -1;
}

TWILL__DEFINE void twill_progress_suspend(twill_progress *progress)
{
    twill__screen *screen = progress ? progress->screen : NULL;
    twill__draft draft;
    if (!screen || twill__progress_forked(screen))
        return;
    twill__screen_gate_enter(&screen->io, 0);
    if (screen->suspended++ == 0 &&
        !atomic_load_explicit(&screen->broken, memory_order_relaxed)) { /* a stop */
        twill__draft_prepare(&draft, screen, screen->frame, sizeof screen->frame);
        twill__draft_clear(&draft, screen);
        twill__draft_written(
            &draft, screen,
            twill__write_calmly(screen->fd, draft.text.data, draft.text.length, true, true));
    }
    twill__screen_gate_leave(&screen->io);
}

TWILL__DEFINE void twill_progress_resume(twill_progress *progress)
{
    twill__screen *screen = progress ? progress->screen : NULL;
    bool again = false;
    if (!screen || twill__progress_forked(screen))
        return;
    twill__screen_gate_enter(&screen->io, 0);
    if (screen->suspended)
        again = --screen->suspended == 0;
    twill__screen_gate_leave(&screen->io);
    if (!again || (screen->style != TWILL_PROGRESS_BAR && screen->style != TWILL_PROGRESS_COUNTER))
        return;
    atomic_store_explicit(&screen->next_draw, 0, memory_order_relaxed); /* a hint */
    twill__screen_request(screen);
}

/* ---- the end ---- */

/* With a renderer: it draws. Else we do. Either gives up a terminal that blocks. */
static inline void twill__progress_draw_last(twill_progress *progress, bool root, bool threaded)
{
    twill__screen *screen = progress->screen;
    if (threaded && root) {
        twill__renderer_end(screen);
    } else if (threaded) {
        twill_ns limit = twill__clock_now() + TWILL__SCREEN_STUCK;
        twill__screen_request(screen);
        /* acquire: pairs with twill__progress_settle */
        while (atomic_load_explicit(&progress->state, memory_order_acquire) ==
                   TWILL__PROGRESS_ENDING &&
               twill__park(&progress->state, TWILL__PROGRESS_ENDING, limit))
            continue;
    } else if (twill__screen_enter(screen, &screen->turn, TWILL__SCREEN_A_SECOND)) {
        twill__screen_turn_taken(screen);
        twill__screen_pass(screen, root, TWILL__SCREEN_A_SECOND);
        twill__screen_turn_leave(screen);
    }
}

/* What nobody has done by now: the bar ends, and its on_view is told. */
static inline bool twill__progress_end_surely(twill_progress *progress)
{
    twill__screen *screen = progress->screen;
    twill_task task = {SIZE_MAX, progress->context, UINT_MAX, 0, NULL, {0, NULL}, NULL};
    twill_progress_view view;
    char label[TWILL__PROGRESS_LABEL];
    bool tell, over;
    twill__lock(&screen->lock);
    if (twill__progress_ending(progress))
        twill__progress_settle(progress);
    twill__screen_await_view(screen, progress);
    tell = progress->on_view && !progress->told;
    progress->told = true;
    twill__progress_count(progress);
    twill__progress_view_of(progress, progress->ended, &view);
    memcpy(label, progress->label, sizeof label);
    over = view.total_known && twill__progress_processed(progress) > view.total;
    twill__unlock(&screen->lock);
    view.label = label;
    if (tell) { /* in turn, so that on_view runs once at a time; who is stuck cannot stop us */
        bool turn = twill__screen_enter(screen, &screen->turn, TWILL__SCREEN_A_SECOND);
        if (turn)
            twill__screen_turn_taken(screen);
        /* relaxed: only compared with one's own number */
        atomic_store_explicit(&progress->teller, twill__thread_number(), memory_order_relaxed);
        progress->on_view(&view, &task);
        atomic_store_explicit(&progress->teller, 0, memory_order_relaxed);
        if (turn)
            twill__screen_turn_leave(screen);
    }
    return over;
}

TWILL__DEFINE twill_status twill_progress_finish(twill_progress *progress, twill_status outcome)
{
    twill__screen *screen;
    bool root, threaded, drawn;
    if (!progress)
        return TWILL_OK;
    screen = progress->screen;
    if (twill__progress_forked(screen))
        return TWILL_FORKED;
    if (twill__screen_turn_mine(screen) ||
        atomic_load_explicit(&progress->teller, memory_order_relaxed) == twill__thread_number())
        return TWILL_DEADLOCK;
    twill__lock(&screen->lock);
    if (atomic_load_explicit(&progress->state, memory_order_relaxed) !=
        TWILL__PROGRESS_RUNNING) { /* under the lock */
        twill__unlock(&screen->lock);
        /* acquire: pairs with twill__progress_settle */
        while (atomic_load_explicit(&progress->state, memory_order_acquire) ==
               TWILL__PROGRESS_ENDING)
            twill__park(&progress->state, TWILL__PROGRESS_ENDING,
                        0); /* exit: the first caller ends it */
        return TWILL_OK;
    }
    progress->outcome = outcome;
    progress->ended = twill__clock_now();
    atomic_store_explicit(&progress->state, TWILL__PROGRESS_ENDING,
                          memory_order_relaxed); /* under the lock */
    root = progress == screen->root;
    threaded = screen->threaded;
    drawn = progress->listed &&
            !atomic_load_explicit(&screen->over, memory_order_relaxed); /* under the lock */
    twill__unlock(&screen->lock);
    if (drawn)
        twill__progress_draw_last(progress, root, threaded);
    return twill__progress_end_surely(progress) ? TWILL_INVALID : TWILL_OK;
}

TWILL__DEFINE twill_status twill_progress_destroy(twill_progress *progress)
{
    twill__screen *screen;
    twill_status status;
    unsigned children = 0;
    if (!progress)
        return TWILL_OK;
    screen = progress->screen;
    if (twill__progress_forked(
            screen)) { /* one thread was here at the fork; the renderer's reference is nobody's */
        uint32_t nobody =
            screen->threaded && !atomic_load_explicit(&screen->ended, memory_order_relaxed);
        TWILL_FREE(progress->block);
        if (atomic_fetch_sub_explicit(&screen->refs, 1, memory_order_acq_rel) - 1 ==
            nobody) /* as in screen_drop */
            TWILL_FREE(screen);
        return TWILL_OK;
    }
    status = twill_progress_finish(progress, TWILL_OK);
    if (status == TWILL_DEADLOCK)
        return status;
    twill__lock(&screen->lock);
    for (twill_progress *p = screen->first, *next; p; p = next) {
        next = p->next;
        if (p->parent == progress) {
            p->parent = NULL;
            twill__progress_unlist(p);
            children++;
        }
    }
    twill__progress_unlist(progress);
    if (progress == screen->root)
        screen->root = NULL;
    twill__unlock(&screen->lock);
    TWILL_ASSERT(children == 0); /* destroy children before their parent */
    (void)children;
    TWILL_FREE(progress->block);
    twill__screen_drop(screen);
    return status;
}

#endif

/* ---- map with progress ---- */

typedef struct twill__progress_map {
    twill__map map; /* first: twill__map_body reads job->data as this */
    twill_map_fn *fn;
    twill_progress *progress;
    const twill_report *report;
    size_t n;
} twill__progress_map;

/* Stands in for the user's function and counts how the item ended. */
static inline int twill__progress_item(const void *in, void *out, const twill_task *task)
{
    const twill__job *job = (const twill__job *)task->private_;
    const twill__progress_map *data = (const twill__progress_map *)job->data;
    int code = data->fn(in, out, task);
    if (code)
        twill_progress_add_failed(data->progress, 1);
    else if (job->slot[task->worker].said & TWILL__SAID_SKIP)
        twill_progress_add_skipped(data->progress, 1);
    else
        twill_progress_add(data->progress, 1);
    return code;
}

static inline void twill__progress_steps(twill__job *job, void *data)
{
    twill__pass pass;
    memset(&pass, 0, sizeof pass);
    pass.n = ((const twill__progress_map *)data)->n;
    pass.body = twill__map_body;
    pass.data = data;
    pass.schedule = TWILL__AUTO;
    twill__run_pass(job, &pass);
}

/* What no callback could count: items that never ran, and those that ended their thread. */
static inline void twill__progress_rest(twill_progress *progress, const twill_report *report)
{
    uint64_t failed = progress ? twill__tally_sum(&progress->counter, TWILL__TALLY_FAILED) : 0;
    uint64_t skipped = progress ? twill__tally_sum(&progress->counter, TWILL__TALLY_SKIPPED) : 0;
    if (report->failed > failed)
        twill_progress_add_failed(progress, report->failed - failed);
    if (report->skipped > skipped)
        twill_progress_add_skipped(progress, report->skipped - skipped);
}

/* A callback has ended the calling thread, and the map is over. */
static inline void twill__progress_map_ended(void *data_)
{
    twill__progress_map *data = (twill__progress_map *)data_;
    twill__progress_rest(data->progress, data->report);
    (void)twill_progress_finish(data->progress, TWILL_LOST);
    (void)twill_progress_destroy(data->progress);
}

TWILL__DEFINE twill_status twill_map_with_progress(const void *items, size_t item_size,
                                                   void *results, size_t result_size, size_t n,
                                                   twill_map_fn *fn,
                                                   const twill_map_with_progress_options *options)
{
    static const twill_map_with_progress_options defaults;
    twill__progress_map data;
    twill_progress_options look;
    twill_report report;
    twill_run run;
    twill_status status = twill__map_check(items, item_size, results, result_size, n, fn);
    options = options ? options : &defaults;
    look = options->progress;
    run = options->run;
    if (status == TWILL_OK && (look.total || look.total_is_zero || !twill__progress_valid(&look)))
        status = TWILL_INVALID;
    if (status == TWILL_OK)
        status = twill__check_run(&run);
    if (status != TWILL_OK)
        return twill__refuse(&options->run, n, status);
    look.total = n;
    look.total_is_zero = n == 0;
    run.report = run.report ? run.report : &report;
    data.report = run.report;
    data.map.in = (const char *)items;
    data.map.out = (char *)results;
    data.map.in_size = item_size;
    data.map.out_size = result_size;
    data.map.fn = twill__progress_item;
    data.fn = fn;
    data.n = n;
    (void)twill_progress_create(&data.progress, &look); /* without one the map runs all the same */
    TWILL__GUARD_PUSH(twill__progress_map_ended, &data);
    status = twill__run_call(&run, n, false, twill__progress_steps, &data);
    TWILL__GUARD_POP(0);
    twill__progress_rest(data.progress, run.report);
    (void)twill_progress_finish(data.progress, status);
    (void)twill_progress_destroy(data.progress);
    return status;
}

#endif

#endif
#endif
#ifdef TWILL_IMPLEMENTATION
#ifndef TWILL__RATE_LIMITER_IMPLEMENTATION
#define TWILL__RATE_LIMITER_IMPLEMENTATION

/* ---- rate_limiter/bulkhead.h ---- */
/* bulkhead.h: how many may be inside at once. */
#ifndef TWILL__BULKHEAD_H
#define TWILL__BULKHEAD_H

/* An exact count under a small lock. A place that becomes free is handed to the one who has waited
   longest, in the same step: so while the lock is free, nobody waits beside a free place, but for
   those whose wait is over already. */
typedef struct TWILL__VIEW twill__bulkhead {
    _Atomic uint32_t lock;
    _Atomic uint32_t generation;
    uint64_t max_inside, max_waiting; /* set at init */
    /* under the lock */
    uint64_t inside, waiting;
    twill__node *first, *last;
    bool closed;
} twill__bulkhead;

static inline twill__bulkhead *twill__bulkhead_of(const twill_bulkhead *bulkhead)
{
    return (twill__bulkhead *)(uintptr_t)bulkhead;
}

/* In a forked child nobody waits; the count stays. */
static inline void twill__bulkhead_lock(twill__bulkhead *me)
{
    uint32_t now = twill__generation(), busy = 0x80000000u | now;
    /* pairs with the release */
    uint32_t seen = atomic_load_explicit(&me->generation, memory_order_acquire);
    while (seen != now) { /* exit: whoever is busy takes a bounded number of steps */
        if (seen == busy) {
            twill__yield();
            seen = atomic_load_explicit(&me->generation, memory_order_acquire);
        } else if (atomic_compare_exchange_weak(&me->generation, &seen, busy)) {
            me->first = me->last = NULL;
            me->waiting = 0;
            atomic_store_explicit(&me->lock, 0, memory_order_relaxed); /* published below */
            atomic_store_explicit(&me->generation, now, memory_order_release);
            break;
        }
    }
    twill__lock(&me->lock);
}

/* The queue is a twill__list in words of the caller's. */
static inline twill__list twill__bulkhead_queue(const twill__bulkhead *me)
{
    return (twill__list){me->first, me->last};
}

static inline void twill__bulkhead_requeue(twill__bulkhead *me, twill__list list)
{
    me->first = list.first;
    me->last = list.last;
}

/* Under the lock: the first who still waits gets `answer`. Returns what to wake; NULL: nobody. */
static inline _Atomic uint32_t *twill__bulkhead_admit(twill__bulkhead *me, twill_status answer)
{
    twill__list list = twill__bulkhead_queue(me);
    twill__node *node = list.first, *next;
    _Atomic uint32_t *word = NULL;
    for (uint64_t k = me->waiting; node && k > 0; node = next, k--) {
        next = node->next;
        node->answer = (int)answer;
        word = &node->word;
        if (twill__grant(&list, node)) {
            me->waiting--;
            twill__bulkhead_requeue(me, list);
            return word;
        }
    }
    twill__bulkhead_requeue(me, list);
    return NULL;
}

static inline twill_status twill__bulkhead_wait(twill__bulkhead *me, twill_until until)
{
    twill__node node;
    twill__list list = twill__bulkhead_queue(me);
    twill_status status;
    twill__node_init(&node);
    twill__list_append(&list, &node);
    twill__bulkhead_requeue(me, list);
    me->waiting++;
    twill__unlock(&me->lock);
    status = twill__wait(&node, until);
    if (status == TWILL_OK)
        return (twill_status)node.answer;
    twill__lock(&me->lock);
    list = twill__bulkhead_queue(me);
    twill__list_remove(&list, &node);
    twill__bulkhead_requeue(me, list);
    me->waiting--;
    if (me->closed)
        status = TWILL_CLOSED;
    else if (status == TWILL_TIMEOUT && twill_cancel_fired(until.cancel))
        status = TWILL_CANCELLED;
    twill__unlock(&me->lock);
    return status;
}

static inline twill_status twill__bulkhead_enter(twill__bulkhead *me, twill_until until, bool wait)
{
    twill_status status = TWILL_OK;
    twill__bulkhead_lock(me);
    if (me->closed)
        status = TWILL_CLOSED;
    else if (me->inside < me->max_inside)
        me->inside++;
    else if (!wait)
        status = TWILL_FULL;
    else if (twill_cancel_fired(until.cancel))
        status = TWILL_CANCELLED;
    else if (twill__expired(until.deadline))
        status = TWILL_TIMEOUT;
    else if (me->waiting >= me->max_waiting)
        status = TWILL_FULL;
    else
        return twill__bulkhead_wait(me, until);
    twill__unlock(&me->lock);
    return status;
}

#endif

/* ---- rate_limiter/keys.h ---- */
/* keys.h: a limit for each key, in bounded memory. */
#ifndef TWILL__RATE_KEYS_H
#define TWILL__RATE_KEYS_H

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

/* value << shift, for a shift below 64; false: bits would be lost. */
static inline bool twill__wide_raise(twill__wide *value, unsigned shift)
{
    if (shift && value->high >> (64 - shift))
        return false;
    if (shift) {
        value->high = value->high << shift | value->low >> (64 - shift);
        value->low <<= shift;
    }
    return true;
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

/* ---- rate_limiter/scale.h ---- */
/* scale.h: a rate as exact integers: how many units have come by an instant, and when a number of
   them will have. */
#ifndef TWILL__RATE_SCALE_H
#define TWILL__RATE_SCALE_H

/* Generic cell rate algorithm (ITU-T I.371), counted in tokens instead of time: then any rate is
   exact, where an interval of whole nanoseconds is wrong by 43 % at 7e8 a second. A unit is
   2^-shift tokens, as fine as 64 bits allow for 73 years. `base` is where this rate began on the
   axis of units; words of a limiter are points on that axis.

   V(e), the units that have come e ns after the origin, is floor(e * rate * 2^shift), where the
   rate is rounded up in its 63rd bit: so token k is due exactly at k / rate where that is a whole
   nanosecond, in the 70th year, too; rounded down it would come one later. */
typedef struct twill__scale {
    twill_ns origin;
    uint64_t base;
    uint64_t factor; /* rate * 2^(shift + 62 + drop), rounded up; its top bit is set */
    uint64_t burst;  /* in units */
    unsigned shift, drop;
} twill__scale;

#define TWILL__RATE_SPAN   (UINT64_C(1) << 61) /* ns after which V stands still */
#define TWILL__RATE_MOST   (UINT64_C(1) << 60) /* units of one cost */
#define TWILL__RATE_HIGH   (UINT64_C(7) << 60) /* words stay below: 2 bursts, span, cost */
#define TWILL__RATE_REBASE (UINT64_C(1) << 60) /* a base above it begins at 0 again */

static inline unsigned
twill__rate_bits(uint64_t value) /* position of the top bit, from 1; 0: none */
{
    return value ? 64 - (unsigned)__builtin_clzll(value) : 0;
}

static inline uint64_t twill__scale_at(const twill__scale *scale, twill_ns now)
{
    uint64_t elapsed = now > scale->origin ? (uint64_t)now - (uint64_t)scale->origin : 0;
    if (elapsed > TWILL__RATE_SPAN)
        elapsed = TWILL__RATE_SPAN;
    return scale->base + (twill__wide_product(elapsed << 2, scale->factor).high >> scale->drop);
}

/* ns from `from` to `to`; 0 if that is no later. Any two instants. */
static inline twill_ns twill__rate_between(twill_ns from, twill_ns to)
{
    uint64_t span = to > from ? (uint64_t)to - (uint64_t)from : 0;
    return span > (uint64_t)TWILL_FOREVER ? TWILL_FOREVER : (twill_ns)span;
}

static inline twill_ns twill__rate_after(twill_ns at, uint64_t by)
{
    return by >= (uint64_t)TWILL_FOREVER - (uint64_t)at ? TWILL_FOREVER
                                                        : (twill_ns)((uint64_t)at + by);
}

/* The first instant at which V has reached `word`; TWILL_FOREVER: never. */
static inline twill_ns twill__scale_when(const twill__scale *scale, uint64_t word)
{
    uint64_t need, elapsed, rest;
    unsigned by = 62 + scale->drop;
    twill__wide wide;
    if (word <= scale->base)
        return scale->origin;
    need = word - scale->base;
    if (twill__rate_bits(need) + by > 126) /* beyond the span, since factor < 2^64 */
        return TWILL_FOREVER;
    wide.high = by < 64 ? need >> (64 - by) : need << (by - 64);
    wide.low = by < 64 ? need << by : 0;
    elapsed = twill__wide_quotient(wide, scale->factor, &rest);
    if (elapsed >= TWILL__RATE_SPAN)
        return TWILL_FOREVER;
    return twill__rate_after(scale->origin, elapsed + (rest != 0));
}

/* A rate of tokens / per * 2^power a nanosecond. False: more than 2 a nanosecond, or the burst does
   not fit. tokens, per, burst > 0. */
static inline bool twill__scale_make(twill__scale *scale, uint64_t tokens, uint64_t per, int power,
                                     uint64_t burst)
{
    int up = (int)(64 - twill__rate_bits(tokens)), down = (int)(64 - twill__rate_bits(per));
    int point, shift, drop; /* rate = factor * 2^-point */
    uint64_t rest;
    twill__wide wide;
    tokens <<= up;
    per <<= down;
    wide.high = tokens < per ? tokens : tokens >> 1;
    wide.low = tokens < per ? 0 : tokens << 63;
    scale->factor = twill__wide_quotient(wide, per, &rest);
    point = (tokens < per ? 64 : 63) - (down - up + power);
    shift = point - 63; /* a unit comes in at most 1 ns */
    if (shift == -1 && scale->factor == UINT64_C(1) << 63 && !rest)
        shift = 0; /* 2 a nanosecond just fit */
    scale->factor += rest && scale->factor != UINT64_MAX;
    if (shift > 40)
        shift = 40;
    if (shift > 62 - (int)twill__rate_bits(burst))
        shift = 62 - (int)twill__rate_bits(burst);
    if (shift < 0)
        return false;
    drop = point - shift - 62;
    if (drop > 63) { /* slower than a unit in 73 years: as good as never */
        scale->factor = drop - 63 < 63 ? scale->factor >> (drop - 63) : 1;
        drop = 63;
    }
    scale->shift = (unsigned)shift;
    scale->drop = (unsigned)drop;
    scale->burst = burst << shift;
    scale->base = 0;
    return true;
}

/* A positive double is an integer times a power of two: the rate is exact. False: NaN, infinite,
   zero, negative. */
static inline bool twill__scale_split(double rate, uint64_t *tokens, int *power)
{
    uint64_t bits;
    int exponent;
    if (!(rate > 0))
        return false;
    memcpy(&bits, &rate, sizeof bits);
    exponent = (int)(bits >> 52 & 0x7ff);
    *tokens = bits & ((UINT64_C(1) << 52) - 1);
    if (exponent == 0x7ff)
        return false;
    if (exponent)
        *tokens |= UINT64_C(1) << 52;
    *power = (exponent ? exponent : 1) - 1075;
    return true;
}

#endif

/* An entry is a key and the word of its bucket; all share one scale. A bucket that is full again is
   no different from none, so forgetting it changes no answer: only such entries are evicted. Each
   shard has its own lock, chains and spare entries; the store of fresh ones is shared, so that
   exactly max_keys can be in use however the keys spread. Locks: a shard's, then the store's. */
enum { TWILL__KEYS_SHARDS = 16 };
#define TWILL__KEYS_NONE UINT32_MAX

typedef struct twill__key {
    uint64_t key, word;
    uint32_t next;
} twill__key;

typedef struct twill__keys_shard {
    _Alignas(TWILL__LINE) _Atomic uint32_t lock;
    uint64_t soonest; /* no bucket of this shard is full before V has reached it */
} twill__keys_shard;

struct twill_rate_keys {
    twill__keys_shard shard[TWILL__KEYS_SHARDS];
    /* set at creation */
    _Alignas(TWILL__LINE) twill__scale scale;
    uint64_t seed;
    bool debt;
    uint32_t generation, buckets; /* a power of two, and the number of chains */
    twill__key *entries;
    uint32_t *chains;
    void *memory;
    /* under the store's lock */
    _Alignas(TWILL__LINE) _Atomic uint32_t lock;
    uint32_t spare; /* entries without a key */
};

static inline uint32_t twill__keys_bucket(const struct twill_rate_keys *keys, uint64_t key)
{
    uint64_t state = keys->seed ^ key; /* seeded, so that nobody can choose keys that collide */
    return (uint32_t)twill__random(&state) & (keys->buckets - 1);
}

static inline uint32_t twill__keys_shard_of(uint32_t bucket)
{
    return bucket % TWILL__KEYS_SHARDS;
}

static inline uint32_t twill__keys_take_spare(struct twill_rate_keys *keys)
{
    uint32_t at;
    twill__lock(&keys->lock);
    at = keys->spare;
    if (at != TWILL__KEYS_NONE)
        keys->spare = keys->entries[at].next;
    twill__unlock(&keys->lock);
    return at;
}

/* Under the shard's lock: lets go of full buckets. False: there was none. */
static inline bool twill__keys_sweep(struct twill_rate_keys *keys, uint32_t s, uint64_t v)
{
    twill__keys_shard *shard = &keys->shard[s];
    uint64_t soonest = UINT64_MAX;
    uint32_t freed = TWILL__KEYS_NONE, last = TWILL__KEYS_NONE;
    if (shard->soonest > v)
        return false;
    for (uint32_t b = s; b < keys->buckets; b += TWILL__KEYS_SHARDS) {
        uint32_t *link = &keys->chains[b];
        while (*link != TWILL__KEYS_NONE) { /* exit: the chain ends */
            uint32_t at = *link;
            twill__key *entry = &keys->entries[at];
            if (entry->word > v) {
                soonest = entry->word < soonest ? entry->word : soonest;
                link = &entry->next;
                continue;
            }
            *link = entry->next;
            entry->next = freed;
            if (freed == TWILL__KEYS_NONE)
                last = at;
            freed = at;
        }
    }
    shard->soonest = soonest;
    if (freed == TWILL__KEYS_NONE)
        return false;
    twill__lock(&keys->lock);
    keys->entries[last].next = keys->spare;
    keys->spare = freed;
    twill__unlock(&keys->lock);
    return true;
}

/* Under the shard's lock. */
static inline twill__key *twill__keys_find(struct twill_rate_keys *keys, uint32_t bucket,
                                           uint64_t key)
{
    uint32_t at = keys->chains[bucket];
    while (at != TWILL__KEYS_NONE && keys->entries[at].key != key)
        at = keys->entries[at].next;
    return at == TWILL__KEYS_NONE ? NULL : &keys->entries[at];
}

/* Full buckets of any shard, without a lock held. */
static inline bool twill__keys_sweep_all(struct twill_rate_keys *keys, uint64_t v)
{
    bool found = false;
    for (uint32_t s = 0; s < TWILL__KEYS_SHARDS && !found; s++) {
        twill__lock(&keys->shard[s].lock);
        found = twill__keys_sweep(keys, s, v);
        twill__unlock(&keys->shard[s].lock);
    }
    return found;
}

/* Under the shard's lock: OK, EMPTY, or -1: no entry is spare. */
static inline int twill__keys_take(struct twill_rate_keys *keys, uint32_t bucket, uint64_t key,
                                   uint64_t cost, uint64_t v)
{
    twill__key *entry = twill__keys_find(keys, bucket, key);
    twill__keys_shard *shard = &keys->shard[twill__keys_shard_of(bucket)];
    uint64_t from = entry && entry->word > v ? entry->word : v;
    uint32_t at;
    if (cost > keys->scale.burst ? from > v : from + cost - v > keys->scale.burst)
        return TWILL_EMPTY;
    if (!entry) {
        at = twill__keys_take_spare(keys);
        if (at == TWILL__KEYS_NONE)
            return -1;
        entry = &keys->entries[at];
        entry->key = key;
        entry->next = keys->chains[bucket];
        keys->chains[bucket] = at;
    }
    entry->word = from + cost;
    /* an entry that was evictable no longer is: then `soonest` is too low, which costs a sweep */
    if (entry->word < shard->soonest)
        shard->soonest = entry->word;
    return TWILL_OK;
}

#endif

/* ---- rate_limiter/limiter.h ---- */
/* limiter.h: a limiter's word, its lock, its queue, and how a call gets its tokens. */
#ifndef TWILL__RATE_LIMITER_H
#define TWILL__RATE_LIMITER_H

/* The word is a point on the axis of units: tokens up to it are taken. Where V has passed it, the
   bucket is full. Bit 63, SLOW, sends everybody to the lock: while somebody works under it, or
   waits, or for good (closed, WINDOW). So one compare-and-swap on the word takes tokens, and
   whoever has the lock and has set SLOW has the limiter for himself.

   Why a compare-and-swap cannot succeed with the scale of another rate: whoever changes the rate
   sets SLOW, then stores the scale (release). A reader that sees one of these stores (acquire)
   therefore sees SLOW or a later word when it comes back to the word. And no word of a new rate is
   a word of an older one: it begins above all of them (`highest`). */
#define TWILL__RATE_SLOW (UINT64_C(1) << 63)
enum { TWILL__RATE_MAGIC = 0x72617465, TWILL__RATE_HOLES = 16, TWILL__RATE_TOGETHER = 16 };
enum { TWILL__RATE_CLOSED = 1, TWILL__RATE_WAITED = 2 };            /* flags */
enum { TWILL__RATE_UNBORN, TWILL__RATE_REAL, TWILL__RATE_CALLERS }; /* whose clock */
enum { TWILL__LOOK = 8 }; /* beside GRANTED in a node: not granted, look again by yourself */

struct twill__ask;

typedef struct TWILL__VIEW twill__rate_hole { /* a cancelled reservation in the middle */
    uint64_t end, cost;
} twill__rate_hole;

typedef struct TWILL__VIEW twill__rate {
    /* the fast path: the word, and the scale of the rate, which changes under SLOW only */
    _Atomic uint64_t word;
    _Atomic int64_t origin;
    _Atomic uint64_t base, factor, burst;
    _Atomic uint32_t shift, drop;
    _Atomic uint64_t granted, refused; /* counters */
    _Atomic uint32_t lock;
    _Atomic uint32_t generation; /* of the process */
    _Atomic uint32_t flags;      /* written under the lock */
    _Atomic uint32_t clock;
    /* set at init */
    uint32_t magic;
    uint8_t kind, oversize;
    bool barging, strict;
    twill_ns begun;
    uint64_t max_waiters;
    /* under the lock */
    struct twill__ask *first, *last;
    uint64_t waiting, waiting_peak;
    twill__wide queued; /* the costs of those who wait */
    uint64_t turn;      /* of the rate: set_rate begins a new one */
    uint64_t highest;   /* of the words that were lowered again */
    /* Below `floor` nothing is given back while V is below floor_v: there are reservations to come,
       or a penalty. */
    uint64_t floor, floor_v;
    uint64_t timed_out, cancelled, given_back, lost;
    twill_ns waited, latest; /* latest: of the caller's instants */
    /* A change of rate is written here first, then carried out: a child process that was forked in
       the middle carries it out again. */
    uint64_t new_start, new_base, new_factor, new_burst;
    twill_ns new_origin;
    uint32_t new_shift, new_drop;
    _Atomic uint32_t changing;
    uint32_t holes;
    union {
        twill__rate_hole hole[TWILL__RATE_HOLES]; /* BUCKET */
        struct {                                  /* WINDOW: a ring of starts */
            twill_ns *starts;
            uint64_t room, tokens, written; /* written: starts ever, those given back apart */
            twill_ns per, not_before;
        } window;
    } u;
} twill__rate;

typedef struct twill__ask { /* one limiter's part in a call */
    twill__rate *rate;
    uint64_t n, cost; /* in tokens; in units */
    uint64_t word;    /* while the call has the limiter for itself */
    uint64_t queued;  /* its part of rate->queued */
    struct twill__ask *next, *previous;
    struct twill__asking *call;
} twill__ask;

typedef struct twill__asking { /* a call that may wait, on its own stack */
    twill__node node;
    twill__ask *asks; /* in the order of their addresses */
    size_t count;
    twill_ns since; /* when it began to wait; 0: it does not */
} twill__asking;

/* ---- the scale ---- */

static inline twill__scale twill__rate_scale(const twill__rate *me)
{
    twill__scale scale;
    /* acquire: pairs with the release in twill__rate_rescale; see above */
    scale.origin = atomic_load_explicit(&me->origin, memory_order_acquire);
    scale.base = atomic_load_explicit(&me->base, memory_order_acquire);
    scale.factor = atomic_load_explicit(&me->factor, memory_order_acquire);
    scale.burst = atomic_load_explicit(&me->burst, memory_order_acquire);
    scale.shift = atomic_load_explicit(&me->shift, memory_order_acquire);
    scale.drop = atomic_load_explicit(&me->drop, memory_order_acquire);
    return scale;
}

static inline void twill__rate_rescale(twill__rate *me, const twill__scale *scale)
{
    /* release: pairs with the acquire in twill__rate_scale */
    atomic_store_explicit(&me->origin, scale->origin, memory_order_release);
    atomic_store_explicit(&me->base, scale->base, memory_order_release);
    atomic_store_explicit(&me->factor, scale->factor, memory_order_release);
    atomic_store_explicit(&me->burst, scale->burst, memory_order_release);
    atomic_store_explicit(&me->shift, scale->shift, memory_order_release);
    atomic_store_explicit(&me->drop, scale->drop, memory_order_release);
}

/* Carries out what new_... says. */
static inline void twill__rate_change(twill__rate *me)
{
    twill__scale scale = {me->new_origin, me->new_base,  me->new_factor,
                          me->new_burst,  me->new_shift, me->new_drop};
    twill__rate_rescale(me, &scale);
}

static inline uint32_t twill__rate_flags(const twill__rate *me)
{
    /* written under the lock; without it a hint */
    return atomic_load_explicit(&me->flags, memory_order_relaxed);
}

/* ---- the fast path ---- */

/* TWILL_OK: *n taken; if `some`, perhaps fewer, which *n says then. TWILL_EMPTY: not there.
   -1: look under the lock. */
static inline int twill__rate_fast(twill__rate *me, uint64_t *n, twill_ns now, bool some)
{
    /* acquire: pairs with the release of whoever had the limiter */
    uint64_t word = atomic_load_explicit(&me->word, memory_order_acquire);
    for (;;) { /* exit: an answer; a failed exchange is another call's success */
        twill__scale scale = twill__rate_scale(me);
        uint64_t v, from, next, seen, take = *n, burst = scale.burst >> scale.shift;
        if ((word & TWILL__RATE_SLOW) || (some ? !burst : take - 1 >= burst))
            return -1;
        v = twill__scale_at(&scale, now);
        from = word > v ? word : v;
        if (some) {
            burst = from - v < scale.burst ? (scale.burst - (from - v)) >> scale.shift : 0;
            take = take < burst ? take : burst;
        }
        next = from + (take << scale.shift);
        if (take && next - v <= scale.burst) {
            /* acq_rel: what came before tokens were given back comes before what they are used
               for */
            if (atomic_compare_exchange_weak_explicit(&me->word, &word, next, memory_order_acq_rel,
                                                      memory_order_acquire)) {
                /* a count */
                atomic_fetch_add_explicit(&me->granted, take, memory_order_relaxed);
                *n = take;
                return TWILL_OK;
            }
            continue;
        }
        /* acquire, as above: the scale was this word's only if the word still stands */
        seen = atomic_load_explicit(&me->word, memory_order_acquire);
        if (seen == word)
            return TWILL_EMPTY;
        word = seen;
    }
}

/* ---- the lock ---- */

static inline void twill__rate_keep(twill__rate *me, uint64_t word, memory_order order)
{
    bool slow = me->first || (twill__rate_flags(me) & TWILL__RATE_CLOSED) || me->kind ||
                /* under the lock */
                atomic_load_explicit(&me->clock, memory_order_relaxed) == TWILL__RATE_UNBORN;
    atomic_store_explicit(&me->word, slow ? word | TWILL__RATE_SLOW : word, order);
}

/* In a forked child nobody waits, and nobody holds the lock. */
static inline void twill__rate_adopt(twill__rate *me)
{
    uint32_t now = twill__generation(), busy = 0x80000000u | now;
    /* pairs with the release */
    uint32_t seen = atomic_load_explicit(&me->generation, memory_order_acquire);
    while (seen != now) { /* exit: whoever is busy takes a bounded number of steps */
        uint64_t word;
        if (seen == busy) {
            twill__yield();
            seen = atomic_load_explicit(&me->generation, memory_order_acquire);
            continue;
        }
        if (!atomic_compare_exchange_weak(&me->generation, &seen, busy))
            continue;
        me->first = me->last = NULL;
        me->waiting = 0;
        me->queued.high = me->queued.low = 0;
        /* all published by the release below */
        atomic_fetch_and_explicit(&me->flags, TWILL__RATE_CLOSED, memory_order_relaxed);
        word = atomic_load_explicit(&me->word, memory_order_relaxed) & ~TWILL__RATE_SLOW;
        if (atomic_load_explicit(&me->changing, memory_order_relaxed)) {
            twill__rate_change(me);
            word = me->new_start;
            atomic_store_explicit(&me->changing, 0, memory_order_relaxed);
        }
        twill__rate_keep(me, word, memory_order_relaxed);
        atomic_store_explicit(&me->lock, 0, memory_order_relaxed);
        atomic_store_explicit(&me->generation, now, memory_order_release);
        return;
    }
}

/* The first call that asks for tokens says whose clock it is. The caller's: time begins now. */
static inline void twill__rate_born(twill__rate *me, uint32_t clock, twill_ns now)
{
    atomic_store_explicit(&me->clock, clock, memory_order_relaxed); /* under the lock */
    if (clock != TWILL__RATE_CALLERS)
        return;
    me->latest = now;
    /* release: as in twill__rate_rescale */
    atomic_store_explicit(&me->origin, now, memory_order_release);
    for (uint64_t k = 0; me->kind && k < me->u.window.written; k++)
        me->u.window.starts[k] = now; /* those of `used` */
}

/* With the lock: nobody takes tokens beside us any more. UNBORN: any clock will do. `now`: of the
   caller's. Returns the word. */
static inline uint64_t twill__rate_seize(twill__rate *me, uint32_t clock, twill_ns now)
{
    uint32_t was = atomic_load_explicit(&me->clock, memory_order_relaxed); /* under the lock */
    if (!was && clock)
        twill__rate_born(me, clock, now);
    TWILL_ASSERT(!was || !clock || was == clock); /* _at and the others do not mix */
    if (clock == TWILL__RATE_CALLERS && now > me->latest)
        me->latest = now;
    /* acq_rel: pairs with the exchange in twill__rate_fast; comes before what we store */
    return atomic_fetch_or_explicit(&me->word, TWILL__RATE_SLOW, memory_order_acq_rel) &
           ~TWILL__RATE_SLOW;
}

static inline uint64_t twill__rate_enter(twill__rate *me, uint32_t clock, twill_ns now)
{
    twill__rate_adopt(me);
    twill__lock(&me->lock);
    return twill__rate_seize(me, clock, now);
}

/* Without waiting for the lock, but for some yields: so a try may stand in a signal handler, even
   one that has interrupted the holder. */
static inline bool twill__rate_try_lock(twill__rate *me)
{
    twill__rate_adopt(me);
    for (int k = 0; k < 64; k++) {
        /* acquire: pairs with the release in twill__unlock */
        uint32_t word = atomic_load_explicit(&me->lock, memory_order_relaxed);
        if (!(word & 1) &&
            atomic_compare_exchange_strong_explicit(&me->lock, &word, word | 1,
                                                    memory_order_acquire, memory_order_relaxed))
            return true;
        twill__yield();
    }
    return false;
}

static inline void twill__rate_exit(twill__rate *me, uint64_t word)
{
    /* release: pairs with the acquire in twill__rate_fast */
    twill__rate_keep(me, word, memory_order_release);
    twill__unlock(&me->lock);
}

/* Now, on the limiter's clock. Under the lock. */
static inline twill_ns twill__rate_now(const twill__rate *me)
{
    /* under the lock */
    return atomic_load_explicit(&me->clock, memory_order_relaxed) == TWILL__RATE_CALLERS
               ? me->latest
               : twill__clock_now();
}

/* ---- the queue ---- */

/* Under the lock: the head looks again. Returns what to wake after unlocking, or NULL. */
static inline _Atomic uint32_t *twill__rate_tell(twill__ask *ask)
{
    _Atomic uint32_t *word;
    if (!ask)
        return NULL;
    word = &ask->call->node.word;
    /* acq_rel: pairs with the load in twill__wait. The node stays until its owner has had the
       lock */
    return atomic_fetch_or_explicit(word, TWILL__GRANTED | TWILL__LOOK, memory_order_acq_rel) &
                   TWILL__GRANTED
               ? NULL
               : word;
}

static inline void twill__rate_wake(_Atomic uint32_t *word)
{
    if (word)
        twill__wake(word, 1);
}

/* Everybody looks again: the rate has changed, or there is no more. */
static inline void twill__rate_tell_all(twill__rate *me)
{
    for (twill__ask *ask = me->first; ask; ask = ask->next)
        twill__rate_wake(twill__rate_tell(ask));
}

static inline void twill__rate_queued_add(twill__rate *me, twill__ask *ask, uint64_t cost)
{
    ask->queued = cost;
    me->queued.low += cost;
    me->queued.high += me->queued.low < cost;
}

static inline void twill__rate_queued_take(twill__rate *me, twill__ask *ask)
{
    me->queued.high -= me->queued.low < ask->queued;
    me->queued.low -= ask->queued;
    ask->queued = 0;
}

static inline void twill__rate_append(twill__ask *ask)
{
    twill__rate *me = ask->rate;
    ask->next = NULL;
    ask->previous = me->last;
    if (me->last)
        me->last->next = ask;
    else
        me->first = ask;
    me->last = ask;
    twill__rate_queued_add(me, ask, ask->cost);
    if (++me->waiting > me->waiting_peak)
        me->waiting_peak = me->waiting;
    atomic_fetch_or_explicit(&me->flags, TWILL__RATE_WAITED, memory_order_relaxed);
}

/* Returns whom to wake: a new head. */
static inline _Atomic uint32_t *twill__rate_remove(twill__ask *ask)
{
    twill__rate *me = ask->rate;
    bool head = me->first == ask;
    if (ask->previous)
        ask->previous->next = ask->next;
    else
        me->first = ask->next;
    if (ask->next)
        ask->next->previous = ask->previous;
    else
        me->last = ask->previous;
    twill__rate_queued_take(me, ask);
    me->waiting--;
    if (!me->first)
        atomic_fetch_and_explicit(&me->flags, ~(uint32_t)TWILL__RATE_WAITED, memory_order_relaxed);
    return head ? twill__rate_tell(me->first) : NULL;
}

/* ---- WINDOW ---- */

/* The start of index k; those of the last `room` are kept. */
static inline twill_ns *twill__rate_window_start(const twill__rate *me, uint64_t k)
{
    return &me->u.window.starts[k % me->u.window.room];
}

/* When the k-th start from now may be, k > 0: one window after the one `tokens` before it. The
   starts are in order, or later than they were. */
static inline twill_ns twill__rate_window_due(const twill__rate *me, uint64_t k, twill_ns now)
{
    uint64_t tokens = me->u.window.tokens, rounds = (k - 1) / tokens;
    uint64_t index = me->u.window.written + (k - 1) % tokens;
    uint64_t per = (uint64_t)me->u.window.per;
    twill_ns due = now;
    if (index >= tokens) {
        due = twill__rate_after(*twill__rate_window_start(me, index - tokens), per);
        due = due > now ? due : now;
    }
    if (rounds)
        due = twill__rate_after(due, rounds > UINT64_MAX / per ? UINT64_MAX : rounds * per);
    return due > me->u.window.not_before ? due : me->u.window.not_before;
}

static inline bool twill__rate_window_ready(const twill__rate *me, uint64_t k, twill_ns now)
{
    twill_ns due = twill__rate_window_due(me, k, now);
    return due <= now && due < TWILL_FOREVER;
}

static inline void twill__rate_window_take(twill__rate *me, uint64_t n, twill_ns at)
{
    uint64_t written = me->u.window.written;
    if (written && *twill__rate_window_start(me, written - 1) > at)
        at = *twill__rate_window_start(me, written - 1); /* behind what is reserved */
    for (; n > 0; n--)
        *twill__rate_window_start(me, me->u.window.written++) = at;
}

/* The newest n were not used. Where a start has overwritten an older one, that one was at least a
   window before it. */
static inline void twill__rate_window_untake(twill__rate *me, uint64_t n)
{
    for (; n > 0; n--) {
        twill_ns *start = twill__rate_window_start(me, --me->u.window.written);
        twill_ns per = me->u.window.per;
        *start = *start < INT64_MIN + per ? INT64_MIN : *start - per;
    }
}

/* How many may start now. */
static inline uint64_t twill__rate_window_room(const twill__rate *me, twill_ns now)
{
    uint64_t low = 0, high = me->u.window.tokens; /* low may; above high, none may */
    while (low < high) {
        uint64_t middle = low + (high - low + 1) / 2;
        if (twill__rate_window_ready(me, middle, now))
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

/* ---- one limiter of a call ---- */

/* TWILL_OK, or TWILL_TOO_BIG: no wait would help. */
static inline twill_status twill__ask_cost(twill__ask *ask)
{
    const twill__rate *me = ask->rate;
    twill__scale scale;
    if (me->kind) {
        ask->cost = ask->n;
        return ask->n > me->u.window.tokens ? TWILL_TOO_BIG : TWILL_OK;
    }
    scale = twill__rate_scale(me);
    ask->cost = 0;
    if (ask->n > scale.burst >> scale.shift &&
        (!me->oversize || ask->n > TWILL__RATE_MOST >> scale.shift))
        return TWILL_TOO_BIG;
    ask->cost = ask->n << scale.shift;
    return TWILL_OK;
}

static inline uint64_t twill__rate_most(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* From where a grant counts, and the V that it takes, *needs. `from`: the instant whose idle credit
   it may use. */
static inline uint64_t twill__ask_from(const twill__ask *ask, const twill__scale *scale,
                                       uint64_t ahead, twill_ns from, uint64_t *needs)
{
    uint64_t at =
        twill__saturated_sum(twill__rate_most(ask->word, twill__scale_at(scale, from)), ahead);
    if (ask->cost > scale->burst && ask->rate->oversize == TWILL_RATE_DEBT) {
        *needs = at; /* a full bucket */
    } else {
        uint64_t next = twill__saturated_sum(at, ask->cost);
        *needs = next > scale->burst ? next - scale->burst : 0;
    }
    return at;
}

/* Where a waiter's grant counts from: as if it had been served when it became possible after it
   came, so that a late wake-up costs no rate; strict: from now. */
static inline twill_ns twill__ask_since(const twill__ask *ask, const twill__asking *call,
                                        twill_ns now)
{
    if (!call->since)
        return now;
    return ask->rate->strict && ask->rate->oversize != TWILL_RATE_SPLIT ? now : call->since;
}

/* When it can be had, if `ahead` units go to others first. */
static inline twill_ns twill__ask_due(const twill__ask *ask, uint64_t ahead, twill_ns from,
                                      twill_ns now)
{
    const twill__rate *me = ask->rate;
    twill__scale scale;
    uint64_t needs;
    if (me->kind)
        return twill__rate_window_due(me, twill__saturated_sum(ahead, ask->n), now);
    scale = twill__rate_scale(me);
    (void)twill__ask_from(ask, &scale, ahead, from, &needs);
    return twill__scale_when(&scale, needs);
}

static inline bool twill__ask_ready(const twill__ask *ask, twill_ns from, twill_ns now)
{
    const twill__rate *me = ask->rate;
    twill__scale scale;
    uint64_t needs;
    if (me->kind)
        return twill__rate_window_ready(me, ask->n, now);
    scale = twill__rate_scale(me);
    (void)twill__ask_from(ask, &scale, 0, from, &needs);
    return twill__scale_at(&scale, now) >= needs;
}

static inline void twill__ask_take(twill__ask *ask, twill_ns from, twill_ns at)
{
    twill__rate *me = ask->rate;
    if (me->kind) {
        twill__rate_window_take(me, ask->n, at);
    } else {
        twill__scale scale = twill__rate_scale(me);
        uint64_t needs;
        ask->word = twill__ask_from(ask, &scale, 0, from, &needs) + ask->cost;
    }
    atomic_fetch_add_explicit(&me->granted, ask->n, memory_order_relaxed); /* a count */
}

static inline bool twill__ask_queue_open(const twill__ask *ask)
{
    return !ask->rate->first || ask->rate->barging;
}

static inline uint64_t twill__ask_ahead(const twill__ask *ask)
{
    return ask->rate->queued.high ? UINT64_MAX : ask->rate->queued.low;
}

/* ---- a call ---- */

static inline void twill__asking_enter(twill__asking *call)
{
    for (size_t k = 0; k < call->count; k++)
        call->asks[k].word = twill__rate_enter(call->asks[k].rate, TWILL__RATE_REAL, 0);
}

static inline void twill__asking_exit(twill__asking *call)
{
    for (size_t k = 0; k < call->count; k++)
        twill__rate_exit(call->asks[k].rate, call->asks[k].word);
}

/* OK; CLOSED; TOO_BIG. */
static inline twill_status twill__asking_check(twill__asking *call)
{
    twill_status status = TWILL_OK;
    for (size_t k = 0; k < call->count; k++) {
        if (twill__rate_flags(call->asks[k].rate) & TWILL__RATE_CLOSED)
            return TWILL_CLOSED;
        if (twill__ask_cost(&call->asks[k]) != TWILL_OK)
            status = TWILL_TOO_BIG;
    }
    return status;
}

/* Takes all, or nothing. */
static inline bool twill__asking_take(twill__asking *call, twill_ns now)
{
    for (size_t k = 0; k < call->count; k++) {
        twill__ask *ask = &call->asks[k];
        bool turn = call->since ? ask->rate->first == ask : twill__ask_queue_open(ask);
        if (!turn || !twill__ask_ready(ask, twill__ask_since(ask, call, now), now))
            return false;
    }
    for (size_t k = 0; k < call->count; k++)
        twill__ask_take(&call->asks[k], twill__ask_since(&call->asks[k], call, now), now);
    return true;
}

/* When it would be served behind all who wait now. */
static inline twill_ns twill__asking_reckon(const twill__asking *call, twill_ns now)
{
    twill_ns due = now;
    for (size_t k = 0; k < call->count; k++) {
        const twill__ask *ask = &call->asks[k];
        twill_ns one = twill__ask_due(ask, twill__ask_ahead(ask), now, now);
        due = one > due ? one : due;
    }
    return due;
}

/* When a waiter shall look: TWILL_FOREVER: when it is told, which a new head is. */
static inline twill_ns twill__asking_due(const twill__asking *call, twill_ns now)
{
    twill_ns due = 1;
    for (size_t k = 0; k < call->count; k++) {
        const twill__ask *ask = &call->asks[k];
        twill_ns one;
        if (ask->rate->first != ask)
            return TWILL_FOREVER;
        one = twill__ask_due(ask, 0, twill__ask_since(ask, call, now), now);
        due = one > due ? one : due;
    }
    return due;
}

static inline void twill__asking_count(twill__asking *call, twill_status status, twill_ns now)
{
    for (size_t k = 0; k < call->count; k++) {
        twill__rate *me = call->asks[k].rate;
        if (status == TWILL_FULL) /* a count */
            atomic_fetch_add_explicit(&me->refused, 1, memory_order_relaxed);
        me->timed_out += status == TWILL_TIMEOUT;
        me->cancelled += status == TWILL_CANCELLED;
        if (call->since)
            me->waited += now - call->since;
    }
}

/* Why it must not wait, or OK: it may. */
static inline twill_status twill__asking_refused(const twill__asking *call, twill_until until,
                                                 twill_ns now)
{
    if (twill_cancel_fired(until.cancel))
        return TWILL_CANCELLED;
    if (!twill__no_deadline(until.deadline) &&
        (now >= until.deadline || twill__asking_reckon(call, now) > until.deadline))
        return TWILL_TIMEOUT;
    for (size_t k = 0; k < call->count; k++)
        if (call->asks[k].rate->max_waiters &&
            call->asks[k].rate->waiting >= call->asks[k].rate->max_waiters)
            return TWILL_FULL;
    return TWILL_OK;
}

/* A moment of waiting; entered before and after. OK: taken. -1: not yet. */
static inline int twill__asking_wait(twill__asking *call, twill_until until)
{
    twill_until soon = until;
    twill_status status;
    twill_ns now = twill__clock_now(), due = twill__asking_due(call, now);
    if (twill__no_deadline(until.deadline) || due < until.deadline)
        soon.deadline = due;
    /* under the lock; whoever tells it does so after */
    atomic_store_explicit(&call->node.word, 0, memory_order_relaxed);
    twill__asking_exit(call);
    status = twill__wait(&call->node, soon);
    twill__asking_enter(call);
    now = twill__clock_now();
    switch (twill__asking_check(call)) {
    case TWILL_CLOSED:
        return TWILL_CLOSED;
    case TWILL_TOO_BIG: /* since the rate has changed */
        return TWILL_TOO_BIG;
    default:
        break;
    }
    if (twill__asking_take(call, now))
        return TWILL_OK;
    if (status == TWILL_CANCELLED || twill_cancel_fired(until.cancel))
        return TWILL_CANCELLED;
    return !twill__no_deadline(until.deadline) && now >= until.deadline ? (int)TWILL_TIMEOUT : -1;
}

/* Takes n from each, at one instant, or waits. */
static inline twill_status twill__asking_run(twill__asking *call, twill_until until)
{
    _Atomic uint32_t *wake[TWILL__RATE_TOGETHER] = {NULL};
    twill_ns now;
    int status;
    call->since = 0;
    twill__asking_enter(call);
    now = twill__clock_now();
    status = (int)twill__asking_check(call);
    if (status == TWILL_OK && !twill__asking_take(call, now)) {
        status = (int)twill__asking_refused(call, until, now);
        if (status == TWILL_OK) {
            twill__node_init(&call->node);
            call->since = now;
            for (size_t k = 0; k < call->count; k++) {
                call->asks[k].call = call;
                twill__rate_append(&call->asks[k]);
            }
            do /* exit: taken, the deadline, the token, or closed */
                status = twill__asking_wait(call, until);
            while (status < 0);
            for (size_t k = 0; k < call->count; k++)
                wake[k] = twill__rate_remove(&call->asks[k]);
            now = twill__clock_now();
        }
    }
    twill__asking_count(call, (twill_status)status, now);
    twill__asking_exit(call);
    for (size_t k = 0; k < call->count; k++)
        twill__rate_wake(wake[k]);
    return (twill_status)status;
}

#endif

/* ---- rate_limiter/reserve.h ---- */
/* reserve.h: tokens ahead of time and back again; changes of the rate. */
#ifndef TWILL__RATE_RESERVE_H
#define TWILL__RATE_RESERVE_H

/* A reservation's private words: where it ends (WINDOW: `written` after it), its cost, and the turn
   of the rate with two bits below. */
enum { TWILL__RESERVED_LIVE = 1, TWILL__RESERVED_DEBT = 2 };

/* A hole is a cancelled reservation with others behind it: it can be had again, at its own time, by
   an equal one; or it goes when all behind it are cancelled. Lowering the word by its cost instead
   would move what is behind it into one burst. */

static inline uint64_t twill__rate_hole_needs(const twill__rate_hole *hole,
                                              const twill__scale *scale)
{
    return hole->end > scale->burst ? hole->end - scale->burst : 0;
}

static inline void twill__rate_hole_forget(twill__rate *me, uint32_t k)
{
    me->u.hole[k] = me->u.hole[--me->holes];
}

/* The holes whose time has passed are lost. */
static inline void twill__rate_holes_expire(twill__rate *me, const twill__scale *scale,
                                            twill_ns now)
{
    uint64_t v = twill__scale_at(scale, now);
    for (uint32_t k = 0; k < me->holes;) {
        if (twill__rate_hole_needs(&me->u.hole[k], scale) < v) {
            me->lost += me->u.hole[k].cost >> scale->shift;
            twill__rate_hole_forget(me, k);
        } else {
            k++;
        }
    }
}

/* The first hole of this cost, or -1. */
static inline int twill__rate_hole_find(const twill__rate *me, uint64_t cost)
{
    int found = -1;
    for (uint32_t k = 0; k < me->holes; k++)
        if (me->u.hole[k].cost == cost && (found < 0 || me->u.hole[k].end < me->u.hole[found].end))
            found = (int)k;
    return found;
}

static inline void twill__rate_reserved(twill_reservation *out, twill_ns due, uint64_t end,
                                        uint64_t cost, uint64_t tag)
{
    out->due = due;
    out->private_words[0] = end;
    out->private_words[1] = cost;
    out->private_words[2] = tag;
}

static inline void twill__rate_floor(twill__rate *me, uint64_t floor, uint64_t v)
{
    me->floor = twill__rate_most(me->floor, floor);
    me->floor_v = twill__rate_most(me->floor_v, v);
}

static inline void twill__rate_holes_lose(twill__rate *me, unsigned shift)
{
    while (me->holes)
        me->lost += me->u.hole[--me->holes].cost >> shift;
}

static inline twill_status twill__rate_reserve_window(twill__ask *ask, twill_ns max_wait,
                                                      twill_ns now, twill_reservation *out)
{
    twill__rate *me = ask->rate;
    twill_ns due = twill__rate_window_due(me, ask->n, now);
    if (twill__rate_between(now, due) > max_wait || due == TWILL_FOREVER)
        return TWILL_TIMEOUT;
    twill__ask_take(ask, now, due);
    twill__rate_reserved(out, due, me->u.window.written, ask->n,
                         me->turn << 2 | TWILL__RESERVED_LIVE);
    return TWILL_OK;
}

static inline twill_status twill__rate_reserve_bucket(twill__ask *ask, twill_ns max_wait,
                                                      twill_ns now, twill_reservation *out)
{
    twill__rate *me = ask->rate;
    twill__scale scale = twill__rate_scale(me);
    uint64_t needs, end, tag = me->turn << 2 | TWILL__RESERVED_LIVE;
    twill_ns due;
    int hole;
    bool debt = ask->cost > scale.burst && me->oversize == TWILL_RATE_DEBT;
    twill__rate_holes_expire(me, &scale, now);
    hole = debt ? -1 : twill__rate_hole_find(me, ask->cost);
    if (hole >= 0) {
        end = me->u.hole[hole].end;
        needs = twill__rate_hole_needs(&me->u.hole[hole], &scale);
    } else {
        end = twill__ask_from(ask, &scale, 0, now, &needs) + ask->cost;
        if (end >= TWILL__RATE_HIGH)
            return TWILL_TOO_BIG;
    }
    due = twill__scale_when(&scale, needs);
    if (due == TWILL_FOREVER || twill__rate_between(now, due) > max_wait)
        return TWILL_TIMEOUT;
    if (hole >= 0)
        twill__rate_hole_forget(me, (uint32_t)hole);
    else
        ask->word = end;
    twill__rate_floor(me, end, needs);
    atomic_fetch_add_explicit(&me->granted, ask->n, memory_order_relaxed); /* a count */
    twill__rate_reserved(out, due > now ? due : now, end, ask->cost,
                         debt ? tag | TWILL__RESERVED_DEBT : tag);
    return TWILL_OK;
}

/* With the limiter to ourselves. */
static inline twill_status twill__rate_reserve_now(twill__ask *ask, twill_ns max_wait, twill_ns now,
                                                   twill_reservation *out)
{
    twill__rate *me = ask->rate;
    if (twill__rate_flags(me) & TWILL__RATE_CLOSED)
        return TWILL_CLOSED;
    if (twill__ask_cost(ask) != TWILL_OK)
        return TWILL_TOO_BIG;
    if (me->first)
        return TWILL_BUSY;
    return me->kind ? twill__rate_reserve_window(ask, max_wait, now, out)
                    : twill__rate_reserve_bucket(ask, max_wait, now, out);
}

/* Lowers the word. Words that it had shall not come again under another rate. */
static inline uint64_t twill__rate_lower(twill__rate *me, uint64_t word, uint64_t by)
{
    /* under the lock */
    uint64_t base = atomic_load_explicit(&me->base, memory_order_relaxed);
    me->highest = twill__rate_most(me->highest, word);
    return word - base > by ? word - by : base;
}

/* True: the tokens are back. */
static inline bool twill__rate_unreserve_bucket(twill__rate *me, uint64_t *word,
                                                const twill_reservation *reservation)
{
    uint64_t end = reservation->private_words[0], cost = reservation->private_words[1];
    if (*word != end) {
        if ((reservation->private_words[2] & TWILL__RESERVED_DEBT) ||
            me->holes == TWILL__RATE_HOLES)
            return false;
        me->u.hole[me->holes].end = end;
        me->u.hole[me->holes++].cost = cost;
        return true;
    }
    *word = twill__rate_lower(me, *word, cost);
    for (uint32_t k = 0; k < me->holes;) {
        if (me->u.hole[k].end != *word) {
            k++;
            continue;
        }
        *word = twill__rate_lower(me, *word, me->u.hole[k].cost);
        twill__rate_hole_forget(me, k);
        k = 0; /* another may end here now */
    }
    me->floor = me->floor < *word ? me->floor : *word;
    return true;
}

static inline bool twill__rate_unreserve(twill__rate *me, uint64_t *word,
                                         twill_reservation *reservation)
{
    uint64_t tag = reservation->private_words[2], n = reservation->private_words[1];
    twill_ns now = twill__rate_now(me);
    bool back;
    if (!(tag & TWILL__RESERVED_LIVE) || tag >> 2 != me->turn || now >= reservation->due)
        return false;
    reservation->private_words[2] = 0;
    if (me->kind) {
        back = reservation->private_words[0] == me->u.window.written;
        if (back)
            twill__rate_window_untake(me, n);
    } else {
        twill__scale scale = twill__rate_scale(me);
        twill__rate_holes_expire(me, &scale, now);
        n >>= scale.shift;
        back = twill__rate_unreserve_bucket(me, word, reservation);
    }
    if (back)
        me->given_back += n;
    else
        me->lost += n;
    return back;
}

/* ---- unused tokens ---- */

static inline void twill__rate_return(twill__rate *me, uint64_t *word, uint64_t n)
{
    twill_ns now = twill__rate_now(me);
    if (me->kind) {
        uint64_t written = me->u.window.written;
        if (written && *twill__rate_window_start(me, written - 1) > now)
            return; /* the newest are reservations, and not these */
        n = n < written ? n : written;
        n = n < me->u.window.tokens ? n : me->u.window.tokens;
        twill__rate_window_untake(me, n);
    } else {
        twill__scale scale = twill__rate_scale(me);
        uint64_t most = *word;
        if (me->floor_v > twill__scale_at(&scale, now))
            most = *word > me->floor ? *word - me->floor : 0;
        if (n <= most >> scale.shift)
            most = n << scale.shift;
        *word = twill__rate_lower(me, *word, most);
    }
    me->given_back += n;
}

static inline void twill__rate_penalise(twill__rate *me, uint64_t *word, twill_ns wait)
{
    twill_ns until = twill__rate_after(twill__rate_now(me), (uint64_t)wait);
    if (me->kind) {
        if (until > me->u.window.not_before)
            me->u.window.not_before = until;
    } else {
        twill__scale scale = twill__rate_scale(me);
        uint64_t v = twill__scale_at(&scale, until);
        if (twill__scale_when(&scale, v) < until) /* V is rounded down: not a moment earlier */
            v++;
        *word = twill__rate_most(*word, v + scale.burst - (UINT64_C(1) << scale.shift));
        twill__rate_floor(me, *word, v);
        twill__rate_holes_lose(me, scale.shift);
    }
}

/* ---- another rate ---- */

/* `value`, in units of 2^-from tokens, in those of 2^-to; rounded up. */
static inline uint64_t twill__rate_units(uint64_t value, unsigned from, unsigned to)
{
    twill__wide wide = {0, value};
    if (from >= to)
        return from > to
                   ? (value >> (from - to)) + ((value & ((UINT64_C(1) << (from - to)) - 1)) != 0)
                   : value;
    (void)twill__wide_raise(&wide, to - from);
    return wide.high ? UINT64_MAX : wide.low;
}

/* Begins `next`, with the same credit in tokens, at most its burst. Returns the new word. */
static inline uint64_t twill__rate_replace(twill__rate *me, uint64_t word, twill__scale next,
                                           twill_ns now)
{
    twill__scale old = twill__rate_scale(me);
    uint64_t v = twill__scale_at(&old, now), gone = word > v ? word - v : 0, used;
    bool kept = me->floor_v > v;
    twill__rate_holes_lose(me, old.shift);
    if (gone <= old.burst) {
        /* credit, rounded down */
        uint64_t credit = old.burst - gone, whole = credit >> old.shift << next.shift;
        uint64_t part = credit & ((UINT64_C(1) << old.shift) - 1);
        part = next.shift >= old.shift ? part << (next.shift - old.shift)
                                       : part >> (old.shift - next.shift);
        if (credit >> old.shift > next.burst >> next.shift)
            whole = next.burst, part = 0;
        used = whole + part >= next.burst ? 0 : next.burst - whole - part;
    } else {
        used = twill__saturated_sum(next.burst,
                                    twill__rate_units(gone - old.burst, old.shift, next.shift));
        used = used < TWILL__RATE_MOST + next.burst ? used : TWILL__RATE_MOST + next.burst;
    }
    next.origin = now;
    next.base = twill__rate_most(me->highest, word) + 1;
    if (next.base > TWILL__RATE_REBASE)
        next.base = me->highest = 0; /* after years; an exchange that slept through them all
                                        would be mistaken */
    me->new_start = next.base + used;
    me->floor = kept ? me->new_start : 0; /* what was reserved comes, whatever the rate */
    me->floor_v = kept && me->new_start > next.burst ? me->new_start - next.burst : 0;
    me->new_origin = next.origin;
    me->new_base = next.base;
    me->new_factor = next.factor;
    me->new_burst = next.burst;
    me->new_shift = next.shift;
    me->new_drop = next.drop;
    /* release: only after what it is about; read by a child process, which sees memory as it was */
    atomic_store_explicit(&me->changing, 1, memory_order_release);
    twill__rate_change(me);
    atomic_store_explicit(&me->word, me->new_start | TWILL__RATE_SLOW, memory_order_release);
    atomic_store_explicit(&me->changing, 0, memory_order_release);
    return me->new_start;
}

/* Those who wait: their costs in the new units, and they look again. */
static inline void twill__rate_retime(twill__rate *me)
{
    for (twill__ask *ask = me->first; ask; ask = ask->next) {
        twill__rate_queued_take(me, ask);
        (void)twill__ask_cost(ask);
        twill__rate_queued_add(me, ask, ask->cost);
    }
    twill__rate_tell_all(me);
}

#endif

_Static_assert(sizeof(twill__rate) <= sizeof(twill_rate_limiter),
               "twill_rate_limiter is too small");
_Static_assert(sizeof(twill__bulkhead) <= sizeof(twill_bulkhead), "twill_bulkhead is too small");

/* NULL: there is no such limiter. */
static inline twill__rate *twill__rate_of(const twill_rate_limiter *limiter)
{
    twill__rate *me = (twill__rate *)(uintptr_t)limiter;
    return me && me->magic == TWILL__RATE_MAGIC ? me : NULL;
}

/* ---- init ---- */

static inline bool twill__rate_valid(const twill_rate_limiter_options *o)
{
    if (!o || !o->tokens || o->per < 0 || (unsigned)o->kind > TWILL_RATE_WINDOW ||
        (unsigned)o->oversize > TWILL_RATE_DEBT)
        return false;
    if (o->kind == TWILL_RATE_BUCKET)
        return !o->starts && !o->starts_count && o->used <= (o->burst ? o->burst : 1);
    return o->starts && o->starts_count >= o->tokens && !o->burst && !o->oversize &&
           !o->strict_spacing && o->used <= o->tokens;
}

/* What both kinds have. `scale` is the rate of a bucket. */
static inline void twill__rate_begin(twill__rate *me, const twill_rate_limiter_options *o,
                                     const twill__scale *scale)
{
    memset(me, 0, sizeof *me);
    me->kind = (uint8_t)o->kind;
    me->oversize = (uint8_t)o->oversize;
    me->barging = o->barging;
    me->strict = o->strict_spacing;
    me->max_waiters = o->max_waiters;
    me->begun = twill__clock_now();
    me->turn = 1;
    twill__rate_rescale(me, scale);
    atomic_store_explicit(&me->origin, me->begun, memory_order_relaxed);
    /* nobody else knows it yet; SLOW: until a first call says whose clock */
    atomic_store_explicit(&me->generation, twill__generation(), memory_order_relaxed);
    atomic_store_explicit(&me->word, TWILL__RATE_SLOW | o->used << scale->shift,
                          memory_order_relaxed);
    me->magic = TWILL__RATE_MAGIC;
}

TWILL__DEFINE twill_status twill_rate_limiter_init(twill_rate_limiter *limiter,
                                                   const twill_rate_limiter_options *options)
{
    twill__rate *me = (twill__rate *)limiter;
    twill__scale scale;
    twill_ns per;
    if (!limiter || !twill__rate_valid(options))
        return TWILL_INVALID;
    per = options->per ? options->per : TWILL_SEC(1);
    memset(&scale, 0, sizeof scale);
    if (options->kind == TWILL_RATE_BUCKET &&
        !twill__scale_make(&scale, options->tokens, (uint64_t)per, 0,
                           options->burst ? options->burst : 1))
        return TWILL_INVALID;
    twill__rate_begin(me, options, &scale);
    if (options->kind == TWILL_RATE_WINDOW) {
        me->u.window.starts = options->starts;
        me->u.window.room = options->starts_count;
        me->u.window.tokens = options->tokens;
        me->u.window.per = per;
        me->u.window.not_before = INT64_MIN;
        /* with the caller's clock they move to its first instant: see twill__rate_born */
        for (uint64_t k = 0; k < options->used; k++)
            options->starts[me->u.window.written++] = me->begun;
    }
    return TWILL_OK;
}

TWILL__DEFINE twill_status twill_rate_limiter_init_per_second(twill_rate_limiter *limiter,
                                                              double rate, uint64_t burst)
{
    twill_rate_limiter_options options = {.tokens = 1, .burst = burst ? burst : 1};
    twill__scale scale;
    uint64_t tokens;
    int power;
    memset(&scale, 0, sizeof scale);
    if (!limiter || !twill__scale_split(rate, &tokens, &power) ||
        !twill__scale_make(&scale, tokens, (uint64_t)TWILL_SEC(1), power, options.burst))
        return TWILL_INVALID;
    twill__rate_begin((twill__rate *)limiter, &options, &scale);
    return TWILL_OK;
}

/* ---- without waiting ---- */

/* OK: the limiter is ours, ask->word its word. Else what try answers. */
static inline twill_status twill__rate_try_enter(twill__ask *ask, uint32_t clock, twill_ns now)
{
    twill__rate *me = ask->rate;
    uint32_t flags = twill__rate_flags(me);
    if (flags & TWILL__RATE_CLOSED)
        return TWILL_CLOSED;
    if (((flags & TWILL__RATE_WAITED) && !me->barging) || !twill__rate_try_lock(me))
        return TWILL_EMPTY;
    ask->word = twill__rate_seize(me, clock, now);
    return TWILL_OK;
}

static inline twill_status twill__rate_try(twill__rate *me, uint64_t n, uint32_t clock,
                                           twill_ns now)
{
    twill__ask ask = {.rate = me, .n = n};
    twill__asking call = {.asks = &ask, .count = 1};
    int fast;
    twill_status status;
    if (!me)
        return TWILL_INVALID;
    /* a hint for an assertion */
    TWILL_ASSERT(atomic_load_explicit(&me->clock, memory_order_relaxed) == TWILL__RATE_UNBORN ||
                 atomic_load_explicit(&me->clock, memory_order_relaxed) == clock);
    fast = twill__rate_fast(me, &n, now, false);
    if (fast == TWILL_OK || n == 0)
        return TWILL_OK;
    status = (twill_status)fast;
    if (fast < 0) {
        status = twill__rate_try_enter(&ask, clock, now);
        if (status == TWILL_OK) {
            status = twill__asking_check(&call);
            if (status == TWILL_OK && !twill__asking_take(&call, now))
                status = TWILL_EMPTY;
            twill__rate_exit(me, ask.word);
        }
    }
    if (status == TWILL_EMPTY)
        atomic_fetch_add_explicit(&me->refused, 1, memory_order_relaxed); /* a count */
    return status;
}

TWILL__DEFINE twill_status twill_rate_limiter_try_acquire(twill_rate_limiter *limiter, uint64_t n)
{
    return twill__rate_try(twill__rate_of(limiter), n, TWILL__RATE_REAL, twill__clock_now());
}

TWILL__DEFINE twill_status twill_rate_limiter_try_acquire_at(twill_rate_limiter *limiter,
                                                             uint64_t n, twill_ns now)
{
    return twill__rate_try(twill__rate_of(limiter), n, TWILL__RATE_CALLERS, now);
}

/* With the limiter to ourselves, or for a guess: tokens that a try would get. */
static inline uint64_t twill__rate_room(const twill__rate *me, uint64_t word, twill_ns now)
{
    twill__scale scale;
    uint64_t v, from;
    if (me->kind)
        return twill__rate_window_room(me, now);
    scale = twill__rate_scale(me);
    v = twill__scale_at(&scale, now);
    from = twill__rate_most(word, v);
    return from - v < scale.burst ? (scale.burst - (from - v)) >> scale.shift : 0;
}

TWILL__DEFINE uint64_t twill_rate_limiter_take_up_to(twill_rate_limiter *limiter, uint64_t n)
{
    twill__ask ask = {.rate = twill__rate_of(limiter)};
    twill__asking call = {.asks = &ask, .count = 1};
    twill_ns now;
    int fast;
    if (!ask.rate || n == 0)
        return 0;
    fast = twill__rate_fast(ask.rate, &n, twill__clock_now(), true);
    if (fast >= 0)
        return fast == TWILL_OK ? n : 0;
    if (twill__rate_try_enter(&ask, TWILL__RATE_REAL, twill__clock_now()) != TWILL_OK)
        return 0;
    now = twill__clock_now();
    ask.n = twill__rate_room(ask.rate, ask.word, now);
    ask.n = ask.n < n ? ask.n : n;
    if (!ask.n || twill__asking_check(&call) != TWILL_OK || !twill__asking_take(&call, now))
        ask.n = 0;
    twill__rate_exit(ask.rate, ask.word);
    return ask.n;
}

/* ---- waiting ---- */

static inline twill_status twill__rate_acquire(twill__rate *me, uint64_t n, twill_until until)
{
    twill__ask ask = {.rate = me, .n = n};
    twill__asking call = {.asks = &ask, .count = 1};
    if (!me)
        return TWILL_INVALID;
    if (n == 0 || twill__rate_fast(me, &n, twill__clock_now(), false) == TWILL_OK)
        return TWILL_OK;
    return twill__asking_run(&call, until);
}

TWILL__DEFINE twill_status twill_rate_limiter_acquire(twill_rate_limiter *limiter, uint64_t n)
{
    return twill__rate_acquire(twill__rate_of(limiter), n, (twill_until){0, NULL});
}

TWILL__DEFINE twill_status twill_rate_limiter_acquire_until(twill_rate_limiter *limiter, uint64_t n,
                                                            twill_until until)
{
    return twill__rate_acquire(twill__rate_of(limiter), n, until);
}

/* Puts a limiter in the order of addresses, which is the order of locking. */
static inline twill_status twill__asks_add(twill__ask *asks, size_t *count, twill__rate *me,
                                           uint64_t n)
{
    size_t at = *count;
    while (at > 0 && (uintptr_t)asks[at - 1].rate > (uintptr_t)me)
        at--;
    if (at > 0 && asks[at - 1].rate == me) {
        if (n > UINT64_MAX - asks[at - 1].n)
            return TWILL_TOO_BIG;
        asks[at - 1].n += n;
        return TWILL_OK;
    }
    memmove(asks + at + 1, asks + at, (*count - at) * sizeof *asks);
    memset(&asks[at], 0, sizeof asks[at]);
    asks[at].rate = me;
    asks[at].n = n;
    ++*count;
    return TWILL_OK;
}

TWILL__DEFINE twill_status twill_rate_limiter_acquire_all_until(twill_rate_limiter *const *limiters,
                                                                size_t count, uint64_t n,
                                                                twill_until until)
{
    twill__ask asks[TWILL__RATE_TOGETHER];
    twill__asking call = {.asks = asks, .count = 0};
    twill_status status = TWILL_OK;
    if (!limiters && count)
        return TWILL_INVALID;
    if (count > TWILL__RATE_TOGETHER)
        return TWILL_TOO_BIG;
    for (size_t k = 0; k < count; k++)
        if (!twill__rate_of(limiters[k]))
            return TWILL_INVALID;
    if (n == 0)
        return TWILL_OK;
    for (size_t k = 0; k < count && status == TWILL_OK; k++)
        status = twill__asks_add(asks, &call.count, twill__rate_of(limiters[k]), n);
    return status == TWILL_OK ? twill__asking_run(&call, until) : status;
}

/* ---- ahead of time, and back ---- */

static inline twill_status twill__rate_reserve(twill__rate *me, uint64_t n, twill_ns max_wait,
                                               uint32_t clock, twill_ns now, twill_reservation *out)
{
    twill__ask ask = {.rate = me, .n = n};
    twill_status status;
    if (!me || !out)
        return TWILL_INVALID;
    twill__rate_reserved(out, now, 0, 0, 0);
    if (n == 0)
        return TWILL_OK;
    ask.word = twill__rate_enter(me, clock, now);
    status = twill__rate_reserve_now(&ask, max_wait > 0 ? max_wait : 0, now, out);
    twill__rate_exit(me, ask.word);
    return status;
}

TWILL__DEFINE twill_status twill_rate_limiter_reserve(twill_rate_limiter *limiter, uint64_t n,
                                                      twill_ns max_wait, twill_reservation *out)
{
    return twill__rate_reserve(twill__rate_of(limiter), n, max_wait, TWILL__RATE_REAL,
                               twill__clock_now(), out);
}

TWILL__DEFINE twill_status twill_rate_limiter_reserve_at(twill_rate_limiter *limiter, uint64_t n,
                                                         twill_ns max_wait, twill_ns now,
                                                         twill_reservation *out)
{
    return twill__rate_reserve(twill__rate_of(limiter), n, max_wait, TWILL__RATE_CALLERS, now, out);
}

/* Leaves the limiter; the head looks again, since it may be served earlier or later now. */
static inline void twill__rate_changed(twill__rate *me, uint64_t word)
{
    _Atomic uint32_t *wake = twill__rate_tell(me->first);
    twill__rate_exit(me, word);
    twill__rate_wake(wake);
}

TWILL__DEFINE bool twill_rate_limiter_cancel(twill_rate_limiter *limiter,
                                             twill_reservation *reservation)
{
    twill__rate *me = twill__rate_of(limiter);
    uint64_t word;
    bool back;
    if (!me || !reservation)
        return false;
    word = twill__rate_enter(me, TWILL__RATE_UNBORN, 0);
    back = twill__rate_unreserve(me, &word, reservation);
    twill__rate_changed(me, word);
    return back;
}

TWILL__DEFINE void twill_rate_limiter_give_back(twill_rate_limiter *limiter, uint64_t n)
{
    twill__rate *me = twill__rate_of(limiter);
    uint64_t word;
    if (!me || n == 0)
        return;
    word = twill__rate_enter(me, TWILL__RATE_UNBORN, 0);
    twill__rate_return(me, &word, n);
    twill__rate_changed(me, word);
}

TWILL__DEFINE void twill_rate_limiter_penalise(twill_rate_limiter *limiter, twill_ns wait)
{
    twill__rate *me = twill__rate_of(limiter);
    uint64_t word;
    if (!me || wait <= 0)
        return;
    word = twill__rate_enter(me, TWILL__RATE_UNBORN, 0);
    twill__rate_penalise(me, &word, wait);
    twill__rate_changed(me, word);
}

/* ---- looking ---- */

TWILL__DEFINE uint64_t twill_rate_limiter_available(const twill_rate_limiter *limiter)
{
    twill__ask ask = {.rate = twill__rate_of(limiter)};
    uint64_t room = 0;
    if (!ask.rate)
        return 0;
    ask.word = twill__rate_enter(ask.rate, TWILL__RATE_UNBORN, 0);
    if (!(twill__rate_flags(ask.rate) & TWILL__RATE_CLOSED) && twill__ask_queue_open(&ask))
        room = twill__rate_room(ask.rate, ask.word, twill__rate_now(ask.rate));
    twill__rate_exit(ask.rate, ask.word);
    return room;
}

TWILL__DEFINE twill_ns twill_rate_limiter_wait_time(const twill_rate_limiter *limiter, uint64_t n)
{
    twill__ask ask = {.rate = twill__rate_of(limiter), .n = n};
    twill__asking call = {.asks = &ask, .count = 1};
    twill_ns now, due = TWILL_FOREVER;
    if (!ask.rate)
        return TWILL_FOREVER;
    if (n == 0)
        return 0;
    ask.word = twill__rate_enter(ask.rate, TWILL__RATE_UNBORN, 0);
    now = twill__rate_now(ask.rate);
    if (twill__asking_check(&call) == TWILL_OK)
        due = twill__ask_due(&ask, ask.rate->barging ? 0 : twill__ask_ahead(&ask), now, now);
    twill__rate_exit(ask.rate, ask.word);
    return due == TWILL_FOREVER ? due : twill__rate_between(now, due);
}

TWILL__DEFINE void twill_rate_limiter_get_stats(twill_rate_limiter *limiter,
                                                twill_rate_limiter_stats *out)
{
    twill__rate *me = twill__rate_of(limiter);
    uint64_t word;
    if (!out)
        return;
    memset(out, 0, sizeof *out);
    if (!me)
        return;
    word = twill__rate_enter(me, TWILL__RATE_UNBORN, 0);
    /* counts */
    out->granted = atomic_load_explicit(&me->granted, memory_order_relaxed);
    out->refused = atomic_load_explicit(&me->refused, memory_order_relaxed);
    out->timed_out = me->timed_out;
    out->cancelled = me->cancelled;
    out->given_back = me->given_back;
    out->lost_in_cancel = me->lost;
    out->waiting = (size_t)me->waiting;
    out->waiting_peak = (size_t)me->waiting_peak;
    out->waited = me->waited;
    twill__rate_exit(me, word);
}

/* ---- another rate, and the end ---- */

TWILL__DEFINE twill_status twill_rate_limiter_set_rate(twill_rate_limiter *limiter, uint64_t tokens,
                                                       twill_ns per, uint64_t burst)
{
    twill__rate *me = twill__rate_of(limiter);
    twill__scale scale;
    twill_status status = TWILL_OK;
    uint64_t word;
    memset(&scale, 0, sizeof scale);
    per = per ? per : TWILL_SEC(1);
    if (!me || !tokens || per < 0 || (me->kind && burst))
        return TWILL_INVALID;
    if (!me->kind && !twill__scale_make(&scale, tokens, (uint64_t)per, 0, burst ? burst : 1))
        return TWILL_INVALID;
    word = twill__rate_enter(me, TWILL__RATE_UNBORN, 0);
    if (twill__rate_flags(me) & TWILL__RATE_CLOSED) {
        status = TWILL_CLOSED;
    } else if (me->kind && tokens > me->u.window.room) {
        status = TWILL_TOO_BIG;
    } else {
        me->turn++;
        if (me->kind) {
            me->u.window.tokens = tokens;
            me->u.window.per = per;
        } else {
            word = twill__rate_replace(me, word, scale, twill__rate_now(me));
        }
        twill__rate_retime(me);
    }
    twill__rate_exit(me, word);
    return status;
}

TWILL__DEFINE twill_status twill_rate_limiter_close(twill_rate_limiter *limiter)
{
    twill__rate *me = twill__rate_of(limiter);
    uint64_t word;
    uint32_t before;
    if (!me)
        return TWILL_INVALID;
    word = twill__rate_enter(me, TWILL__RATE_UNBORN, 0);
    /* under the lock; read without it as a hint */
    before = atomic_fetch_or_explicit(&me->flags, TWILL__RATE_CLOSED, memory_order_relaxed);
    twill__rate_tell_all(me);
    twill__rate_exit(me, word);
    return before & TWILL__RATE_CLOSED ? TWILL_CLOSED : TWILL_OK;
}

/* ---- keys ---- */

static inline twill_status twill__keys_scale(const twill_rate_limiter_options *o,
                                             twill__scale *scale)
{
    if (!twill__rate_valid(o) || o->kind || o->oversize == TWILL_RATE_SPLIT || o->used ||
        o->barging || o->strict_spacing || o->max_waiters)
        return TWILL_INVALID;
    memset(scale, 0, sizeof *scale);
    return twill__scale_make(scale, o->tokens, (uint64_t)(o->per ? o->per : TWILL_SEC(1)), 0,
                             o->burst ? o->burst : 1)
               ? TWILL_OK
               : TWILL_INVALID;
}

/* One block: the object on its lines, the entries, the chains. */
static inline twill_rate_keys *twill__keys_memory(uint32_t max, uint32_t buckets)
{
    uint64_t bytes = sizeof(twill_rate_keys) + TWILL__LINE +
                     UINT64_C(1) * max * sizeof(twill__key) +
                     UINT64_C(1) * buckets * sizeof(uint32_t);
    twill_rate_keys *keys;
    char *memory;
    if (bytes > SIZE_MAX / 2)
        return NULL;
    memory = (char *)TWILL_MALLOC((size_t)bytes);
    if (!memory)
        return NULL;
    keys = (twill_rate_keys *)(void *)(memory + (TWILL__LINE - (uintptr_t)memory % TWILL__LINE));
    memset(keys, 0, sizeof *keys);
    keys->memory = memory;
    keys->entries = (twill__key *)(void *)(keys + 1);
    keys->chains = (uint32_t *)(void *)(keys->entries + max);
    return keys;
}

TWILL__DEFINE twill_status twill_rate_keys_create(twill_rate_keys **out, size_t max_keys,
                                                  const twill_rate_limiter_options *options)
{
    twill__scale scale;
    twill_rate_keys *keys;
    uint32_t max, buckets = TWILL__KEYS_SHARDS;
    if (!out)
        return TWILL_INVALID;
    *out = NULL;
    if (twill__keys_scale(options, &scale) != TWILL_OK)
        return TWILL_INVALID;
    if (max_keys > UINT32_C(1) << 30)
        return TWILL_TOO_BIG;
    max = max_keys ? (uint32_t)max_keys : 65536;
    while (buckets < max)
        buckets *= 2;
    keys = twill__keys_memory(max, buckets);
    if (!keys)
        return TWILL_NO_MEMORY;
    keys->scale = scale;
    keys->scale.origin = twill__clock_now();
    keys->seed = twill__random_begin(0, keys);
    keys->debt = options->oversize == TWILL_RATE_DEBT;
    keys->generation = twill__generation();
    keys->buckets = buckets;
    for (uint32_t k = 0; k < max; k++)
        keys->entries[k] = (twill__key){0, 0, k + 1 < max ? k + 1 : TWILL__KEYS_NONE};
    for (uint32_t k = 0; k < buckets; k++)
        keys->chains[k] = TWILL__KEYS_NONE;
    for (uint32_t k = 0; k < TWILL__KEYS_SHARDS; k++)
        keys->shard[k].soonest = UINT64_MAX;
    *out = keys;
    return TWILL_OK;
}

/* OK, or why this call cannot be. */
static inline twill_status twill__keys_cost(const twill_rate_keys *keys, uint64_t n, uint64_t *cost)
{
    uint64_t burst;
    if (!keys)
        return TWILL_INVALID;
    if (keys->generation != twill__generation())
        return TWILL_FORKED;
    burst = keys->scale.burst >> keys->scale.shift;
    *cost = 0;
    if (n > burst && (!keys->debt || n > TWILL__RATE_MOST >> keys->scale.shift))
        return TWILL_TOO_BIG;
    *cost = n << keys->scale.shift;
    return TWILL_OK;
}

TWILL__DEFINE twill_status twill_rate_keys_try_acquire(twill_rate_keys *keys, uint64_t key,
                                                       uint64_t n)
{
    uint64_t cost = 0, v;
    uint32_t bucket, s;
    twill_status status = twill__keys_cost(keys, n, &cost);
    int answer;
    bool more = true;
    if (status != TWILL_OK || n == 0)
        return status;
    bucket = twill__keys_bucket(keys, key);
    s = twill__keys_shard_of(bucket);
    do { /* exit: an answer; after each sweep that found some, others may have taken them */
        v = twill__scale_at(&keys->scale, twill__clock_now());
        twill__lock(&keys->shard[s].lock);
        answer = twill__keys_take(keys, bucket, key, cost, v);
        if (answer < 0 && twill__keys_sweep(keys, s, v))
            answer = twill__keys_take(keys, bucket, key, cost, v);
        twill__unlock(&keys->shard[s].lock);
        if (answer < 0)
            more = twill__keys_sweep_all(keys, v);
    } while (answer < 0 && more);
    return answer < 0 ? TWILL_FULL : (twill_status)answer;
}

TWILL__DEFINE twill_ns twill_rate_keys_wait_time(twill_rate_keys *keys, uint64_t key, uint64_t n)
{
    uint64_t cost = 0, from = 0, needs;
    uint32_t bucket, s;
    twill_ns now, due;
    const twill__key *entry;
    if (twill__keys_cost(keys, n, &cost) != TWILL_OK)
        return TWILL_FOREVER;
    if (n == 0)
        return 0;
    bucket = twill__keys_bucket(keys, key);
    s = twill__keys_shard_of(bucket);
    now = twill__clock_now();
    twill__lock(&keys->shard[s].lock);
    entry = twill__keys_find(keys, bucket, key);
    if (entry)
        from = entry->word;
    twill__unlock(&keys->shard[s].lock);
    from = twill__rate_most(from, twill__scale_at(&keys->scale, now));
    needs = cost > keys->scale.burst          ? from
            : from + cost > keys->scale.burst ? from + cost - keys->scale.burst
                                              : 0;
    due = twill__scale_when(&keys->scale, needs);
    return due == TWILL_FOREVER ? due : twill__rate_between(now, due);
}

TWILL__DEFINE twill_status twill_rate_keys_destroy(twill_rate_keys *keys)
{
    if (keys)
        TWILL_FREE(keys->memory);
    return TWILL_OK;
}

/* ---- bulkhead ---- */

TWILL__DEFINE twill_status twill_bulkhead_init(twill_bulkhead *bulkhead, size_t max_inside,
                                               size_t max_waiting)
{
    twill__bulkhead *me = twill__bulkhead_of(bulkhead);
    if (!bulkhead || !max_inside)
        return TWILL_INVALID;
    memset(bulkhead, 0, sizeof *bulkhead);
    me->max_inside = max_inside;
    me->max_waiting = max_waiting;
    /* nobody else knows it yet */
    atomic_store_explicit(&me->generation, twill__generation(), memory_order_relaxed);
    return TWILL_OK;
}

TWILL__DEFINE twill_status twill_bulkhead_enter_until(twill_bulkhead *bulkhead, twill_until until)
{
    twill__bulkhead *me = twill__bulkhead_of(bulkhead);
    return me && me->max_inside ? twill__bulkhead_enter(me, until, true) : TWILL_INVALID;
}

TWILL__DEFINE twill_status twill_bulkhead_enter(twill_bulkhead *bulkhead)
{
    return twill_bulkhead_enter_until(bulkhead, (twill_until){0, NULL});
}

TWILL__DEFINE twill_status twill_bulkhead_try_enter(twill_bulkhead *bulkhead)
{
    twill__bulkhead *me = twill__bulkhead_of(bulkhead);
    return me && me->max_inside ? twill__bulkhead_enter(me, (twill_until){0, NULL}, false)
                                : TWILL_INVALID;
}

TWILL__DEFINE twill_status twill_bulkhead_leave(twill_bulkhead *bulkhead)
{
    twill__bulkhead *me = twill__bulkhead_of(bulkhead);
    _Atomic uint32_t *wake = NULL;
    twill_status status = TWILL_OK;
    if (!me || !me->max_inside)
        return TWILL_INVALID;
    twill__bulkhead_lock(me);
    if (!me->inside) {
        status = TWILL_INVALID;
    } else { /* the place goes to a waiter, or is free */
        wake = twill__bulkhead_admit(me, TWILL_OK);
        me->inside -= !wake;
    }
    twill__unlock(&me->lock);
    if (wake)
        twill__wake(wake, 1);
    return status;
}

TWILL__DEFINE twill_status twill_bulkhead_close(twill_bulkhead *bulkhead)
{
    twill__bulkhead *me = twill__bulkhead_of(bulkhead);
    _Atomic uint32_t *wake;
    twill_status status;
    if (!me || !me->max_inside)
        return TWILL_INVALID;
    twill__bulkhead_lock(me);
    status = me->closed ? TWILL_CLOSED : TWILL_OK;
    me->closed = true;
    while ((wake = twill__bulkhead_admit(me, TWILL_CLOSED)) != NULL)
        twill__wake(wake, 1);
    twill__unlock(&me->lock);
    return status;
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
    cost = timed_out        ? me->timeout_cost ? me->timeout_cost : 10
           : me->retry_cost ? me->retry_cost
                            : 5;
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
    twill__budget *me = twill__budget_of(budget);
    uint64_t most;
    options = options ? options : &none;
    most =
        options->retry_cost > options->timeout_cost ? options->retry_cost : options->timeout_cost;
    if (!budget || (options->half_rule && most))
        return TWILL_INVALID;
    memset(budget, 0, sizeof *budget);
    me->capacity = options->capacity;
    me->retry_cost = options->retry_cost;
    me->timeout_cost = options->timeout_cost;
    me->success_milli = options->success_milli;
    me->half = options->half_rule;
    if (!me->half && !options->timeout_cost && most < 10)
        most = 10; /* the default */
    if (!me->half && UINT64_C(1000) * most > twill__budget_capacity(me))
        return TWILL_INVALID;
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
    if (options->on_retry) {
        twill_retry_attempt failed;
        twill_task task = twill__retry_task(retry, false);
        twill__retry_attempt_of(me, &failed);
        options->on_retry(&failed, *at - now, &task);
    }
    return true;
}

static inline void twill__retry_refund(twill_retry *retry)
{
    twill__retry *me = twill__retry_of(retry);
    if (retry->options.budget)
        twill__budget_give(retry->options.budget, me->paid);
    me->paid = 0;
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
        twill_cancel_fired(retry->options.until.cancel)) {
        twill__retry_refund(retry);
        me->slept += twill__clock_now() - me->ended;
        return twill__retry_stop(me, TWILL_RETRY_CANCELLED);
    }
    twill__retry_again(me, twill__clock_now());
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
        /* next_at has promised a call whose time has not come: it was not made */
        if (me->phase == TWILL__RETRY_RUNNING && twill__clock_now() < me->started)
            twill__retry_refund(retry);
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
    twill__retry *me = twill__retry_of(&calling.retry);
    (void)twill_retry_init(&calling.retry, options);
    calling.report = report;
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
#ifdef TWILL_IMPLEMENTATION
#ifndef TWILL__BATCH_PROCESSING_IMPL
#define TWILL__BATCH_PROCESSING_IMPL

/* ---- batch_processing/flat.h ---- */
/* flat.h: flat map: each call of the callback writes values of its own; in the end they are put
   behind one another. */
#ifndef TWILL__BATCH_FLAT_H
#define TWILL__BATCH_FLAT_H

/* ---- batch_processing/calls.h ---- */
/* calls.h: the array form: batches by index arithmetic, retries, halving. */
#ifndef TWILL__BATCH_CALLS_H
#define TWILL__BATCH_CALLS_H

/* ---- batch_processing/cuts.h ---- */
/* cuts.h: where batches begin: by count, index arithmetic; by bytes, one pass over the items. */
#ifndef TWILL__BATCH_CUTS_H
#define TWILL__BATCH_CUTS_H

/* ---- batch_processing/view.h ---- */
/* view.h: what a batch shows to its callback, and what the callback says about its items. */
#ifndef TWILL__BATCH_VIEW_H
#define TWILL__BATCH_VIEW_H

#define TWILL__BATCH_ITEMS 100 /* max_items, if it is 0 */

/* Behind batch->private_. Item i is at a place that only the form knows: the array form has them in
   one piece or through indexes, the batcher through records. */
typedef struct twill__view {
    void *(*item)(const struct twill__view *view, size_t i);
    void *(*result)(const struct twill__view *view, size_t i);
    /* [count]: what twill_batch_set said. Bytes and ints of their own for each item, so that threads
       of a callback may set different items at once */
    int *codes;
    unsigned char *set;
} twill__view;

TWILL__DEFINE void *twill_batch_item(const twill_batch *batch, size_t i)
{
    const twill__view *view = (const twill__view *)batch->private_;
    return i < batch->count ? view->item(view, i) : NULL;
}

TWILL__DEFINE void *twill_batch_result(const twill_batch *batch, size_t i)
{
    const twill__view *view = (const twill__view *)batch->private_;
    return i < batch->count ? view->result(view, i) : NULL;
}

TWILL__DEFINE void twill_batch_set(twill_batch *batch, size_t i, int code)
{
    const twill__view *view = (const twill__view *)batch->private_;
    if (i >= batch->count)
        return;
    view->codes[i] = code;
    view->set[i] = 1;
}

/* How the call of a batch ended for one of its items. */
typedef enum twill__end {
    TWILL__END_DONE,
    TWILL__END_FAILED, /* the item, with its own code */
    TWILL__END_BAD,    /* the batch, and nobody said which item */
    TWILL__END_LOST    /* others were set, this one was forgotten */
} twill__end;

static inline twill__end twill__view_end(const twill__view *view, size_t i, int code, bool any,
                                         int *its)
{
    *its = 0;
    if (any && view->set[i])
        return (*its = view->codes[i]) == 0 ? TWILL__END_DONE : TWILL__END_FAILED;
    if (code) {
        *its = code;
        return TWILL__END_BAD;
    }
    return any ? TWILL__END_LOST : TWILL__END_DONE;
}

/* The delay before attempt 2, 3, ..: of the seed, a place and the attempt alone, so that a seed
   means the same delays whoever runs the batches. */
static inline twill_ns twill__batch_delay(const twill__backoff *shape, uint64_t seed,
                                          uint64_t place, unsigned attempt)
{
    uint64_t grown = twill__backoff_first(shape), random = seed + place;
    random = twill__random(&random) + attempt;
    while (--attempt > 1 && grown < shape->cap) /* exit: at the cap at the latest */
        grown = twill__backoff_grow(shape, grown);
    return (twill_ns)twill__backoff_jittered(shape, grown, 0, &random);
}

static inline twill_ns twill__instant_after(twill_ns now, twill_ns ns)
{
    return ns >= TWILL_FOREVER - now ? TWILL_FOREVER - 1 : now + ns;
}

/* ---- options that both forms have ---- */

static inline bool twill__batch_common_valid(const twill_batch_options *options)
{
    return !options->max_bytes == !options->bytes_of && options->backoff >= 0 &&
           options->backoff_max >= 0 && options->attempts <= INT_MAX &&
           (unsigned)options->on_bad_batch <= TWILL_BAD_BATCH_FAIL &&
           (options->max_bytes || !options->oversized_alone);
}

static inline twill__backoff twill__batch_shape(const twill_batch_options *options)
{
    twill_ns cap = options->backoff_max ? options->backoff_max : TWILL_SEC(10);
    return twill__backoff_usual(options->backoff, cap);
}

static inline uint64_t twill__batch_seed(const twill_batch_options *options, const void *object)
{
    return options->backoff ? twill__random_begin(options->seed, object) : 0;
}

#endif

typedef struct twill__index_list { /* grows */
    size_t *at, count, room;
} twill__index_list;

typedef struct twill__cuts {
    size_t n, batches;
    size_t max;                  /* items of the largest batch that there can be */
    size_t *starts;              /* [batches + 1], if bytes count */
    twill__index_list list, big; /* starts; items larger than max_bytes, each a batch by itself */
} twill__cuts;

static inline size_t twill__cut_begin(const twill__cuts *cuts, size_t k)
{
    return cuts->starts ? cuts->starts[k] : k * cuts->max;
}

static inline size_t twill__cut_end(const twill__cuts *cuts, size_t k)
{
    if (cuts->starts)
        return cuts->starts[k + 1];
    return cuts->n - k * cuts->max < cuts->max ? cuts->n : (k + 1) * cuts->max;
}

static inline bool twill__cut_too_big(const twill__cuts *cuts, size_t k)
{
    const twill__index_list *big = &cuts->big;
    return big->count &&
           big->at[twill__place_among(big->at, big->count, cuts->starts[k])] == cuts->starts[k];
}

static inline bool twill__index_add(twill__index_list *list, size_t index)
{
    if (list->count == list->room) {
        size_t room = list->room ? 2 * list->room : 64;
        size_t *at =
            room > SIZE_MAX / sizeof *at ? NULL : (size_t *)TWILL_MALLOC(room * sizeof *at);
        if (!at)
            return false;
        if (list->count)
            memcpy(at, list->at, list->count * sizeof *at);
        TWILL_FREE(list->at);
        list->at = at;
        list->room = room;
    }
    list->at[list->count++] = index;
    return true;
}

static inline void twill__cuts_free(twill__cuts *cuts)
{
    TWILL_FREE(cuts->list.at);
    TWILL_FREE(cuts->big.at);
    cuts->list.at = cuts->big.at = NULL;
}

/* Greedy, in the order of the items: a batch ends before the item that would be too much. */
static inline bool twill__cuts_by_bytes(twill__cuts *cuts, const char *items, size_t item_size,
                                        const twill_batch_options *options)
{
    twill_task task = {0, options->run.context, UINT_MAX, 0, NULL, {0, NULL}, NULL};
    size_t sum = 0, most = options->max_bytes, begin = 0, max = 1;
    bool closed = true; /* nothing may join the batch */
    for (size_t i = 0; i < cuts->n; i++) {
        size_t bytes;
        task.index = i;
        bytes = options->bytes_of(items + i * item_size, &task);
        if (bytes > most && !options->oversized_alone && !twill__index_add(&cuts->big, i))
            return false;
        if (closed || bytes > most || bytes > most - sum || i - begin == cuts->max) {
            if (!twill__index_add(&cuts->list, i))
                return false;
            begin = i;
            sum = 0;
        }
        closed = bytes > most;
        sum += closed ? 0 : bytes;
        max = i - begin + 1 > max ? i - begin + 1 : max;
    }
    if (!twill__index_add(&cuts->list, cuts->n))
        return false;
    cuts->starts = cuts->list.at;
    cuts->batches = cuts->list.count - 1;
    cuts->max = max;
    return true;
}

static inline twill_status twill__cuts_make(twill__cuts *cuts, const char *items, size_t item_size,
                                            const twill_batch_options *options)
{
    cuts->max = options->max_items ? options->max_items : TWILL__BATCH_ITEMS;
    if (cuts->max > cuts->n)
        cuts->max = cuts->n ? cuts->n : 1;
    cuts->batches = cuts->n / cuts->max + (cuts->n % cuts->max != 0);
    if (options->max_bytes && cuts->n && !twill__cuts_by_bytes(cuts, items, item_size, options))
        return TWILL_NO_MEMORY;
    return TWILL_OK;
}

#endif

/* A pass of the team over the batches (engine/run.h); place k of it is batch k. An item that fails
   and may be tried again gets a slot. Without a backoff the worker goes on with its slots at once,
   and they stand on its desk. With one, the batch waits in a heap by the instant when it is due:
   workers serve what is due between fresh batches, and a second pass serves the rest, sleeping, once
   nothing fresh is left. A batch is in at most one of: not begun, one worker's hands, the heap. */

typedef enum twill__slot_state {
    TWILL__SLOT_ENDED = 0,
    TWILL__SLOT_AGAIN, /* in the next round, together with the others */
    TWILL__SLOT_ALONE, /* in the next round, by itself */
    TWILL__SLOT_BAD    /* in this round, in a smaller call */
} twill__slot_state;

typedef struct twill__batch_slot { /* an item that has failed, and has not ended yet */
    size_t index;
    int code; /* of its last failure */
    twill__slot_state state;
} twill__batch_slot;

typedef struct twill__batch_due { /* in the heap */
    twill_ns due;
    size_t place;
    unsigned attempt;
} twill__batch_due;

struct twill__flat;
struct twill__work;

typedef struct twill__calls { /* one call of the array form */
    const twill_batch_options *options;
    twill_run run; /* a copy, that reports to `inner` */
    twill_report inner;
    const char *items;
    char *results;
    size_t item_size, result_size;
    twill_batch_fn *fn;
    struct twill__flat *flat; /* NULL: fn */
    twill__cuts cuts;
    unsigned attempts;
    bool slotted, delayed; /* there are slots; retries wait in the heap */
    twill__backoff shape;
    uint64_t seed;
    twill__job *job;
    /* until the call is over */
    char *desks; /* NULL: they fit the workers' stacks */
    size_t desk_bytes;
    twill__batch_slot *slots; /* [n], if delayed */
    twill__batch_due *heap;   /* [batches], if delayed */
    bool no_memory;
    /* shared while it runs */
    _Alignas(TWILL__LINE) _Atomic uint32_t lock;
    size_t waiting;             /* in the heap */
    _Atomic twill_ns first_due; /* of the heap; a hint */
    _Atomic size_t limit;       /* the lowest batch with an item that has failed for good */
    _Atomic size_t made;        /* calls of fn */
} twill__calls;

enum { TWILL__DESK_SMALL = 128 }; /* items whose codes stand on the worker's stack */

typedef struct twill__work { /* a worker inside a chunk */
    twill__view view;
    twill__calls *calls;
    twill__job *job;
    twill__slot *me;
    twill_task *task;
    twill__batch_slot **list; /* [max] */
    twill__batch_slot *desk;  /* [max], if not delayed */
    /* the batch at hand */
    size_t place;
    twill__batch_slot *segment; /* its slots, begin on */
    size_t segment_count, again;
    /* the call that runs, or is being settled */
    twill__batch_slot **running; /* NULL: first, first + 1, ... */
    size_t first, count, settled;
    size_t next; /* the first place of the chunk that is not begun */
    size_t made;
} twill__work;

static inline int twill__flat_call(twill__work *work, twill_batch *batch);
static inline void twill__flat_drop(twill__work *work);

/* ---- items ---- */

static inline size_t twill__work_index(const twill__work *work, size_t i)
{
    return work->running ? work->running[i]->index : work->first + i;
}

static inline void *twill__work_item(const twill__view *view, size_t i)
{
    const twill__work *work = (const twill__work *)(const void *)view;
    const char *items = work->calls->items;
    return (void *)(uintptr_t)(items + twill__work_index(work, i) * work->calls->item_size);
}

static inline void *twill__work_result(const twill__view *view, size_t i)
{
    const twill__work *work = (const twill__work *)(const void *)view;
    const twill__calls *calls = work->calls;
    return calls->results ? calls->results + twill__work_index(work, i) * calls->result_size : NULL;
}

static inline void twill__work_done(twill__work *work, size_t index)
{
    work->me->done++;
    if (work->job->detail)
        twill__item_note(work->job, index, TWILL_OK, 0);
}

static inline void twill__work_failed(twill__work *work, size_t index, twill_status status,
                                      int code)
{
    if (work->job->policy == TWILL_ON_ERROR_LOWEST)
        twill__lower(&work->calls->limit, work->place);
    twill__item_failed(work->job, work->me, work->place, index, status, code);
}

/* Whether nothing of this batch need run any more. */
static inline bool twill__work_over(const twill__work *work)
{
    twill__job *job = work->job;
    size_t stop_at = atomic_load(&job->stop_at);
    return twill__stopped(job, job->may_end ? twill__clock_now() : 0) ||
           work->place > atomic_load(&work->calls->limit) ||
           twill__cut_begin(&work->calls->cuts, work->place) > stop_at;
}

/* An item has failed. True: it is tried again. */
static inline bool twill__work_retries(twill__work *work, size_t i, int code, unsigned attempt)
{
    const twill_batch_options *options = work->calls->options;
    if (attempt >= work->calls->attempts)
        return false;
    work->task->index = twill__work_index(work, i);
    return !options->retryable ||
           options->retryable(twill__work_item(&work->view, i), code, work->task);
}

/* ---- one call ---- */

/* Calls fn for items in one piece, or for those of `list`. */
static inline int twill__work_call(twill__work *work, twill__batch_slot **list, size_t first,
                                   size_t count, unsigned attempt)
{
    twill__calls *calls = work->calls;
    twill_batch batch = {count, attempt, list ? list[0]->index : first, NULL, NULL, &work->view};
    int code;
    work->running = list;
    work->first = first;
    work->count = count;
    work->settled = 0;
    work->me->said = 0;
    if (!list) {
        batch.array = calls->items + first * calls->item_size;
        if (calls->results)
            batch.results = calls->results + first * calls->result_size;
    } else if (calls->results) {
        for (size_t i = 0; i < count; i++)
            memset(calls->results + list[i]->index * calls->result_size, 0, calls->result_size);
    }
    work->task->index = batch.first;
    work->made++;
    code = calls->flat ? twill__flat_call(work, &batch) : calls->fn(&batch, work->task);
    return code;
}

/* How one item of the call ended; the state of its slot, if it has one. */
static inline twill__slot_state twill__settle_item(twill__work *work, size_t i, int code, bool any,
                                                   unsigned attempt, int *its)
{
    size_t index = twill__work_index(work, i);
    twill_bad_batch bad = work->calls->options->on_bad_batch;
    bool alone = bad == TWILL_BAD_BATCH_BISECT && work->count == 1;
    switch (twill__view_end(&work->view, i, code, any, its)) {
    case TWILL__END_DONE:
        twill__work_done(work, index);
        return TWILL__SLOT_ENDED;
    case TWILL__END_LOST:
        twill__work_failed(work, index, TWILL_LOST, 0);
        return TWILL__SLOT_ENDED;
    case TWILL__END_BAD:
        if (bad == TWILL_BAD_BATCH_BISECT && work->count > 1)
            return TWILL__SLOT_BAD;
        if (bad == TWILL_BAD_BATCH_FAIL)
            break;
        /* fall through */
    case TWILL__END_FAILED:
        if (twill__work_retries(work, i, *its, attempt))
            return alone ? TWILL__SLOT_ALONE : TWILL__SLOT_AGAIN;
    }
    twill__work_failed(work, index, TWILL_FAILED, *its);
    return TWILL__SLOT_ENDED;
}

/* After a call: each item is done, failed for good, waits for the next round, or is BAD: the slots
   of those stand at the end of `list` then, and their number is returned. */
static inline size_t twill__work_settle(twill__work *work, int code, unsigned attempt,
                                        twill__batch_slot **list)
{
    size_t count = work->count, bad = 0;
    bool any = memchr(work->view.set, 1, count) != NULL;
    bool skips = !code && (work->me->said & TWILL__SAID_SKIP);
    work->me->said = 0;
    if (!code && !any && !skips && !work->job->detail && !work->running) {
        work->me->done += count;
        work->count = 0;
        return 0;
    }
    for (; work->settled < count; work->settled++) {
        size_t i = work->settled;
        twill__slot_state state = TWILL__SLOT_ENDED;
        int its = 0;
        if (skips && !(any && work->view.set[i]))
            work->me->skipped++;
        else
            state = twill__settle_item(work, i, code, any, attempt, &its);
        if (!work->calls->slotted)
            continue;
        if (!work->running) {
            work->segment[i].index = work->first + i;
            work->segment_count = i + 1;
            list[i] = &work->segment[i];
        }
        list[i]->code = its;
        list[i]->state = state;
        bad += state == TWILL__SLOT_BAD;
        work->again += state == TWILL__SLOT_AGAIN || state == TWILL__SLOT_ALONE;
    }
    if (any)
        memset(work->view.set, 0, count);
    work->count = 0;
    for (size_t i = count, at = count; bad && at > count - bad; i--)
        if (list[i - 1]->state == TWILL__SLOT_BAD)
            list[--at] = list[i - 1];
    return bad;
}

/* ---- rounds ---- */

static inline void twill__work_give_up(twill__work *work, twill__batch_slot **list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        list[i]->state = TWILL__SLOT_ENDED;
        twill__work_failed(work, list[i]->index, TWILL_FAILED, list[i]->code);
    }
}

/* Calls fn for the items of `list` (called: it was called for all of them just now, and they are
   bad); what is bad, in halves: the left one first, until it is alone. Of the ranges that are to
   come only the ends are kept: each begins where the last one ended. */
static inline void twill__work_divide(twill__work *work, twill__batch_slot **list, size_t count,
                                      unsigned attempt, bool called)
{
    size_t ends[sizeof(size_t) * CHAR_BIT + 1], depth = 1, at = 0;
    ends[0] = count;
    if (called && count > 1)
        ends[depth++] = (count + 1) / 2;
    while (depth) { /* exit: each turn ends items, or halves a range */
        size_t to = ends[depth - 1], bad = 0;
        if (at == to) {
            depth--;
            continue;
        }
        if (twill__work_over(work)) {
            twill__work_give_up(work, list + at, to - at);
        } else {
            int code = twill__work_call(work, list + at, 0, to - at, attempt);
            bad = twill__work_settle(work, code, attempt, list + at);
        }
        at = to - bad;
        if (bad > 1)
            ends[depth++] = at + (bad + 1) / 2;
    }
}

/* Those that wait: first together, then the ones that are called alone. */
static inline void twill__work_round(twill__work *work, unsigned attempt)
{
    size_t count = 0, together;
    for (size_t i = 0; i < work->segment_count; i++)
        if (work->segment[i].state == TWILL__SLOT_AGAIN)
            work->list[count++] = &work->segment[i];
    together = count;
    for (size_t i = 0; i < work->segment_count; i++)
        if (work->segment[i].state == TWILL__SLOT_ALONE)
            work->list[count++] = &work->segment[i];
    work->again = 0;
    twill__work_divide(work, work->list, together, attempt, false);
    for (size_t i = together; i < count; i++)
        twill__work_divide(work, work->list + i, 1, attempt, false);
}

/* ---- the heap of batches that wait ---- */

static inline bool twill__due_before(const twill__batch_due *a, const twill__batch_due *b)
{
    return a->due < b->due || (a->due == b->due && a->place < b->place);
}

static inline void twill__due_push(twill__calls *calls, size_t place, unsigned attempt)
{
    twill_ns delay = twill__batch_delay(&calls->shape, calls->seed, place, attempt);
    twill__batch_due entry = {twill__instant_after(twill__clock_now(), delay), place, attempt};
    size_t at;
    twill__lock(&calls->lock);
    for (at = calls->waiting++; at && twill__due_before(&entry, &calls->heap[(at - 1) / 2]);
         at = (at - 1) / 2)
        calls->heap[at] = calls->heap[(at - 1) / 2];
    calls->heap[at] = entry;
    /* relaxed: a hint */
    atomic_store_explicit(&calls->first_due, calls->heap[0].due, memory_order_relaxed);
    twill__unlock(&calls->lock);
}

/* The batch that is due first, if it is before `until`. */
static inline bool twill__due_pop(twill__calls *calls, twill_ns until, twill__batch_due *entry)
{
    size_t at = 0, child;
    bool found;
    twill__lock(&calls->lock);
    found = calls->waiting && calls->heap[0].due <= until;
    if (found) {
        twill__batch_due last = calls->heap[--calls->waiting];
        *entry = calls->heap[0];
        while ((child = 2 * at + 1) < calls->waiting) {
            if (child + 1 < calls->waiting &&
                twill__due_before(&calls->heap[child + 1], &calls->heap[child]))
                child++;
            if (!twill__due_before(&calls->heap[child], &last))
                break;
            calls->heap[at] = calls->heap[child];
            at = child;
        }
        calls->heap[at] = last;
        atomic_store_explicit(&calls->first_due,
                              calls->waiting ? calls->heap[0].due : TWILL_FOREVER,
                              memory_order_relaxed); /* as above */
    }
    twill__unlock(&calls->lock);
    return found;
}

/* ---- one batch ---- */

static inline void twill__work_enter(twill__work *work, size_t place)
{
    size_t begin = twill__cut_begin(&work->calls->cuts, place);
    work->place = place;
    work->segment = work->calls->delayed ? work->calls->slots + begin : work->desk;
    work->segment_count = work->again = 0;
}

/* What waits goes again at once, or into the heap. */
static inline void twill__work_go_on(twill__work *work, unsigned attempt)
{
    if (work->again && work->calls->delayed) {
        work->segment_count = 0; /* no longer ours */
        twill__due_push(work->calls, work->place, attempt + 1);
        return;
    }
    while (work->again) /* exit: attempts are used up */
        twill__work_round(work, ++attempt);
    work->segment_count = 0;
}

static inline void twill__work_fresh(twill__work *work, size_t place)
{
    const twill__cuts *cuts = &work->calls->cuts;
    size_t begin = twill__cut_begin(cuts, place), count = twill__cut_end(cuts, place) - begin, bad;
    int code;
    twill__work_enter(work, place);
    if (twill__cut_too_big(cuts, place)) {
        twill__work_failed(work, begin, TWILL_TOO_BIG, 0);
        return;
    }
    code = twill__work_call(work, NULL, begin, count, 1);
    bad = twill__work_settle(work, code, 1, work->list);
    if (bad)
        twill__work_divide(work, work->list + (count - bad), bad, 1, true);
    twill__work_go_on(work, 1);
}

static inline void twill__work_due(twill__work *work, const twill__batch_due *entry)
{
    size_t begin = twill__cut_begin(&work->calls->cuts, entry->place);
    twill__work_enter(work, entry->place);
    work->segment_count = twill__cut_end(&work->calls->cuts, entry->place) - begin;
    twill__set_begin(work->me, entry->place);
    if (!twill__work_over(work)) {
        twill_until until = work->task->until;
        if (twill__no_deadline(until.deadline) || entry->due < until.deadline)
            until.deadline = entry->due;
        (void)twill_sleep(until);
    }
    twill__work_round(work, entry->attempt);
    twill__work_go_on(work, entry->attempt);
}

/* ---- chunks ---- */

static inline void twill__work_leave(twill__work *work)
{
    /* read after the join */
    atomic_fetch_add_explicit(&work->calls->made, work->made, memory_order_relaxed);
}

/* A callback ends the thread: the items of its call are LOST, others of its batch stay failed, the
   rest of the chunk goes back. */
static inline void twill__work_ended(void *work_)
{
    twill__work *work = (twill__work *)work_;
    twill__job *job = work->job;
    work->me->inside = false; /* the engine has nothing more to account for */
    for (size_t i = work->settled; i < work->count; i++) {
        if (work->running)
            work->running[i]->state = TWILL__SLOT_ENDED;
        twill__work_failed(work, twill__work_index(work, i), TWILL_LOST, 0);
    }
    for (size_t i = 0; i < work->segment_count; i++) {
        twill__batch_slot *slot = &work->segment[i];
        if (slot->state != TWILL__SLOT_ENDED)
            twill__work_give_up(work, &slot, 1);
    }
    if (work->calls->flat)
        twill__flat_drop(work);
    twill__work_leave(work);
    twill__hand_back(job, work->me, work->next);
    atomic_store(&work->me->begin, SIZE_MAX);
    twill__rouse_callers(job);
}

typedef struct twill__desk_small {
    int codes[TWILL__DESK_SMALL];
    unsigned char set[TWILL__DESK_SMALL];
} twill__desk_small;

static inline void twill__work_init(twill__work *work, twill__job *job, twill_task *task,
                                    twill__desk_small *small)
{
    twill__calls *calls = (twill__calls *)job->data;
    size_t max = calls->cuts.max;
    memset(work, 0, sizeof *work);
    work->view.item = twill__work_item;
    work->view.result = twill__work_result;
    work->calls = calls;
    work->job = job;
    work->me = &job->slot[task->worker];
    work->task = task;
    work->next = SIZE_MAX;
    if (!calls->desks) {
        work->view.codes = small->codes;
        work->view.set = small->set;
    } else {
        char *desk = calls->desks + task->worker * calls->desk_bytes;
        if (calls->slotted) {
            work->list = (twill__batch_slot **)(void *)desk;
            desk += max * sizeof *work->list;
        }
        if (calls->slotted && !calls->delayed) {
            work->desk = (twill__batch_slot *)(void *)desk;
            desk += max * sizeof *work->desk;
        }
        work->view.codes = (int *)(void *)desk;
        work->view.set = (unsigned char *)(desk + max * sizeof(int));
    }
    memset(work->view.set, 0, max);
}

/* Serves what is due; true: something was, and the place is another one now. */
static inline bool twill__work_serve_due(twill__work *work)
{
    twill__calls *calls = work->calls;
    twill__batch_due entry;
    bool served = false;
    /* relaxed: a hint */
    while (atomic_load_explicit(&calls->first_due, memory_order_relaxed) != TWILL_FOREVER &&
           twill__due_pop(calls, twill__clock_now(), &entry)) { /* exit: attempts are finite */
        twill__work_due(work, &entry);
        served = true;
    }
    return served;
}

static inline void twill__calls_body(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    twill__desk_small small;
    twill__work work;
    twill__work_init(&work, job, task, &small);
    TWILL__GUARD_PUSH(twill__work_ended, &work);
    for (size_t k = begin; k < end; k++) {
        bool looks = k > begin;
        work.next = k;
        if (work.calls->delayed && twill__work_serve_due(&work)) {
            twill__set_begin(work.me, k);
            looks = true;
        }
        /* seq_cst: see twill__set_begin */
        if (looks && (k >= atomic_load(&job->limit) ||
                      twill__stopped(job, job->may_end ? twill__clock_now() : 0)))
            break;
        work.next = k + 1;
        twill__work_fresh(&work, k);
    }
    TWILL__GUARD_POP(0);
    twill__work_leave(&work);
}

/* The second pass: nothing fresh is left, so workers sleep until the next batch is due. */
static inline void twill__calls_later(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    twill__desk_small small;
    twill__work work;
    twill__batch_due entry;
    (void)begin;
    (void)end;
    twill__work_init(&work, job, task, &small);
    TWILL__GUARD_PUSH(twill__work_ended, &work);
    while (twill__due_pop(work.calls, TWILL_FOREVER, &entry)) /* exit: attempts are finite */
        twill__work_due(&work, &entry);
    TWILL__GUARD_POP(0);
    twill__work_leave(&work);
}

/* ---- the call ---- */

static inline bool twill__calls_memory(twill__calls *calls, twill__job *job)
{
    size_t max = calls->cuts.max, each = sizeof(int) + 1, n = calls->cuts.n;
    if (calls->slotted)
        each += sizeof(twill__batch_slot *);
    if (calls->slotted && !calls->delayed)
        each += sizeof(twill__batch_slot);
    if (calls->slotted || max > TWILL__DESK_SMALL) {
        if (max > (SIZE_MAX - TWILL__LINE) / each / job->np - TWILL__LINE)
            return false;
        calls->desk_bytes = (max * each + TWILL__LINE - 1) / TWILL__LINE * TWILL__LINE;
        calls->desks = (char *)twill__scratch_get(job, calls->desk_bytes * job->np);
        if (!calls->desks)
            return false;
    }
    if (!calls->delayed)
        return true;
    if (n > SIZE_MAX / sizeof *calls->slots || calls->cuts.batches > SIZE_MAX / sizeof *calls->heap)
        return false;
    calls->slots = (twill__batch_slot *)twill__scratch_get(job, n * sizeof *calls->slots);
    calls->heap =
        (twill__batch_due *)twill__scratch_get(job, calls->cuts.batches * sizeof *calls->heap);
    return calls->slots && calls->heap;
}

/* Stopped before their turn came: what waits has failed. */
static inline void twill__calls_left(twill__calls *calls, twill__job *job)
{
    twill_task task;
    twill__desk_small small;
    twill__work work;
    twill__batch_due entry;
    twill__task_init(job, 0, &task);
    twill__work_init(&work, job, &task, &small);
    while (twill__due_pop(calls, TWILL_FOREVER, &entry)) { /* exit: the heap is finite */
        twill__work_enter(&work, entry.place);
        work.segment_count =
            twill__cut_end(&calls->cuts, entry.place) - twill__cut_begin(&calls->cuts, entry.place);
        for (size_t i = 0; i < work.segment_count; i++) {
            twill__batch_slot *slot = &work.segment[i];
            if (slot->state != TWILL__SLOT_ENDED)
                twill__work_give_up(&work, &slot, 1);
        }
    }
}

static inline void twill__calls_steps(twill__job *job, void *data)
{
    twill__calls *calls = (twill__calls *)data;
    twill__pass pass = {.n = calls->cuts.batches,
                        .body = twill__calls_body,
                        .data = calls,
                        .unit = calls->cuts.max,
                        .starts = calls->cuts.starts};
    unsigned tries = 0;
    calls->job = job;
    if (!twill__calls_memory(calls, job)) {
        calls->no_memory = true;
        return;
    }
    if (calls->results)
        memset(calls->results, 0, calls->cuts.n * calls->result_size);
    twill__run_pass(job, &pass);
    pass.body = twill__calls_later;
    pass.forced = true;
    /* relaxed: nobody else is here. More than once only if a thread has ended in it */
    while (calls->waiting && !atomic_load_explicit(&job->stop, memory_order_relaxed) &&
           tries++ <= job->np)
        twill__run_pass(job, &pass);
    if (calls->waiting)
        twill__calls_left(calls, job);
}

static inline twill_status twill__calls_check(const twill_batch_options *options, const void *items,
                                              size_t item_size, size_t n, bool callable)
{
    if (!callable || !twill__batch_common_valid(options) || options->result_size ||
        options->linger || options->idle || options->capacity || options->capacity_bytes ||
        options->overflow || options->key_of || options->coalesce || options->item_timeout ||
        options->on_item || (n && (!items || !item_size)))
        return TWILL_INVALID;
    if (n && n > SIZE_MAX / item_size)
        return TWILL_TOO_BIG;
    return twill__check_run(&options->run);
}

static inline void twill__calls_init(twill__calls *calls, const twill_batch_options *options,
                                     const void *items, size_t item_size, size_t n)
{
    memset(calls, 0, sizeof *calls);
    calls->options = options;
    calls->run = options->run;
    if (!calls->run.on_error)
        calls->run.on_error = TWILL_ON_ERROR_COLLECT;
    calls->run.report = &calls->inner;
    calls->items = (const char *)items;
    calls->item_size = item_size;
    calls->cuts.n = n;
    calls->attempts = options->attempts ? options->attempts : 1;
    calls->delayed = calls->attempts > 1 && options->backoff;
    calls->slotted = calls->attempts > 1 || options->on_bad_batch == TWILL_BAD_BATCH_BISECT;
    calls->shape = twill__batch_shape(options);
    calls->seed = twill__batch_seed(options, calls);
    atomic_init(&calls->lock, 0);
    atomic_init(&calls->first_due, TWILL_FOREVER);
    atomic_init(&calls->limit, SIZE_MAX);
    atomic_init(&calls->made, 0);
}

/* Fills the user's report; also runs when a callback has ended the calling thread. */
static inline void twill__calls_finish(void *calls_)
{
    twill__calls *calls = (twill__calls *)calls_;
    twill_report *report = calls->options->run.report;
    twill__cuts_free(&calls->cuts);
    calls->inner.chunks = atomic_load_explicit(&calls->made, memory_order_relaxed); /* the join */
    if (calls->no_memory)
        (void)twill__refuse(&calls->run, calls->cuts.n, TWILL_NO_MEMORY);
    if (report)
        *report = calls->inner;
}

/* Cuts the items and runs the call. */
static inline twill_status twill__calls_run(twill__calls *calls, twill__steps_fn *steps,
                                            void (*finish)(void *), void *whole)
{
    twill_status status;
    TWILL__GUARD_PUSH(finish, whole);
    status = twill__cuts_make(&calls->cuts, calls->items, calls->item_size, calls->options);
    if (status != TWILL_OK) {
        (void)twill__refuse(&calls->run, calls->cuts.n, status);
    } else {
        if (calls->run.workers > calls->cuts.batches)
            calls->run.workers = calls->cuts.batches > 1 ? (unsigned)calls->cuts.batches : 1;
        (void)twill__run_call(&calls->run, calls->cuts.n, true, steps, whole);
    }
    TWILL__GUARD_POP(1);
    return calls->inner.status;
}

static inline const twill_batch_options *twill__batch_options(const twill_batch_options *options)
{
    static const twill_batch_options none;
    return options ? options : &none;
}

TWILL__DEFINE twill_status twill_batch_process(const void *items, size_t item_size, void *results,
                                               size_t result_size, size_t n, twill_batch_fn *fn,
                                               const twill_batch_options *options)
{
    twill__calls calls;
    twill_status status;
    options = twill__batch_options(options);
    status = twill__calls_check(options, items, item_size, n, fn != NULL);
    if (status == TWILL_OK && results && !result_size)
        status = TWILL_INVALID;
    if (status == TWILL_OK && results && n > SIZE_MAX / result_size)
        status = TWILL_TOO_BIG;
    if (status != TWILL_OK)
        return twill__refuse(&options->run, n, status);
    twill__calls_init(&calls, options, items, item_size, n);
    calls.fn = fn;
    calls.results = (char *)results;
    calls.result_size = result_size;
    return twill__calls_run(&calls, twill__calls_steps, twill__calls_finish, &calls);
}

TWILL__DEFINE size_t twill_batch_count(size_t n, size_t max_items)
{
    if (!max_items)
        max_items = TWILL__BATCH_ITEMS;
    return n / max_items + (n % max_items != 0);
}

TWILL__DEFINE void twill_batch_bounds(size_t n, size_t max_items, size_t k, size_t *begin,
                                      size_t *end)
{
    if (!max_items)
        max_items = TWILL__BATCH_ITEMS;
    *begin = k > n / max_items ? n : k * max_items;
    *end = n - *begin < max_items ? n : *begin + max_items;
}

#endif

/* The values of one call stand in blocks that double in size: no value moves before the end. A call
   that succeeds leaves them in the list of its batch, sorted by the first item; one that fails
   throws them away. */

typedef struct twill__flat_block {
    _Alignas(16) struct twill__flat_block *next;
    size_t used, room; /* bytes */
} twill__flat_block;

typedef struct twill__flat_piece { /* of one call */
    struct twill__flat_piece *next;
    size_t first;                    /* item */
    size_t bytes;                    /* of all blocks */
    twill__flat_block *blocks, **at; /* at: where the last one hangs */
} twill__flat_piece;

typedef struct twill__flat_worker {
    _Alignas(TWILL__LINE) twill__flat_piece *piece; /* of the call that runs; NULL: none */
    bool running, failed;                           /* failed: a value found no memory */
    size_t expected;                                /* bytes of the call before */
} twill__flat_worker;

typedef struct twill__flat {
    twill__calls calls;
    twill_flat_fn *fn;
    size_t value_size;
    void **values;
    size_t *values_n;
    twill__flat_worker *workers;
    twill__flat_piece **pieces; /* [batches] */
    _Atomic uint32_t no_memory;
} twill__flat;

static inline void twill__flat_free_piece(twill__flat_piece *piece)
{
    for (twill__flat_block *block = piece ? piece->blocks : NULL, *next; block; block = next) {
        next = block->next;
        TWILL_FREE(block);
    }
    TWILL_FREE(piece);
}

/* ---- emit ---- */

static inline bool twill__flat_cancelled(const twill_task *task)
{
    return twill__job_cancelled(task);
}

/* The table of a flat call: its address says that a task belongs to one. */
static inline const twill__call_table *twill__flat_table(void)
{
    static const twill__call_table table = {twill__flat_cancelled, twill__job_stop, twill__job_skip,
                                            twill__job_fail, NULL};
    return &table;
}

/* Room for one value more; NULL: no memory. */
static inline char *twill__flat_room(twill__flat *flat, twill__flat_worker *worker)
{
    twill__flat_piece *piece = worker->piece;
    twill__flat_block *block;
    size_t size = flat->value_size, room;
    if (!piece) {
        piece = (twill__flat_piece *)TWILL_MALLOC(sizeof *piece);
        if (!piece)
            return NULL;
        memset(piece, 0, sizeof *piece);
        piece->at = &piece->blocks;
        worker->piece = piece;
    }
    block = *piece->at;
    if (block && block->room - block->used >= size)
        return (char *)(block + 1) + block->used;
    room = piece->bytes ? piece->bytes : worker->expected > 240 ? worker->expected : 240;
    if (room < size)
        room = size;
    if (room > SIZE_MAX - sizeof *block)
        return NULL;
    block = (twill__flat_block *)TWILL_MALLOC(sizeof *block + room);
    if (!block)
        return NULL;
    block->next = NULL;
    block->used = 0;
    block->room = room;
    if (*piece->at)
        piece->at = &(*piece->at)->next;
    *piece->at = block;
    return (char *)(block + 1);
}

TWILL__DEFINE twill_status twill_batch_emit(const twill_task *task, const void *value)
{
    twill__flat *flat;
    twill__flat_worker *worker;
    char *room;
    if (!task || !value || twill__table_of(task) != twill__flat_table())
        return TWILL_INVALID;
    flat = ((twill__calls *)((twill__job *)task->private_)->data)->flat;
    worker = &flat->workers[task->worker];
    if (!worker->running)
        return TWILL_INVALID; /* in a hook, or in retryable */
    room = twill__flat_room(flat, worker);
    if (!room) {
        worker->failed = true;
        return TWILL_NO_MEMORY;
    }
    memcpy(room, value, flat->value_size);
    (*worker->piece->at)->used += flat->value_size;
    worker->piece->bytes += flat->value_size;
    return TWILL_OK;
}

/* ---- calls ---- */

static inline void twill__flat_keep(twill__flat *flat, size_t place, twill__flat_piece *piece)
{
    twill__flat_piece **link = &flat->pieces[place];
    while (*link && (*link)->first < piece->first)
        link = &(*link)->next;
    piece->next = *link;
    *link = piece;
}

static inline void twill__flat_drop(twill__work *work)
{
    twill__flat_worker *worker = &work->calls->flat->workers[work->task->worker];
    worker->running = false;
    twill__flat_free_piece(worker->piece);
    worker->piece = NULL;
}

static inline int twill__flat_call(twill__work *work, twill_batch *batch)
{
    twill__flat *flat = work->calls->flat;
    twill__flat_worker *worker = &flat->workers[work->task->worker];
    int code;
    worker->running = true;
    worker->failed = false;
    code = flat->fn(batch, work->task);
    worker->running = false;
    if (worker->failed) { /* nothing of the whole will be delivered */
        atomic_store(&flat->no_memory, 1);
        twill__stop_all(work->job, TWILL_NO_MEMORY, true);
        code = code ? code : (int)TWILL_NO_MEMORY;
    }
    if (code) {
        twill__flat_drop(work);
    } else if (worker->piece) {
        worker->expected = worker->piece->bytes;
        worker->piece->first = batch->first;
        twill__flat_keep(flat, work->place, worker->piece);
        worker->piece = NULL;
    }
    return code;
}

/* ---- the end ---- */

static inline void twill__flat_copy(const twill__flat_piece *piece, char **to)
{
    for (const twill__flat_block *block = piece->blocks; block; block = block->next) {
        memcpy(*to, block + 1, block->used);
        *to += block->used;
    }
}

/* One block for all values; false: no memory. */
static inline bool twill__flat_gather(twill__flat *flat)
{
    size_t bytes = 0, batches = flat->calls.cuts.batches;
    char *to;
    for (size_t k = 0; k < batches; k++)
        for (twill__flat_piece *piece = flat->pieces[k]; piece; piece = piece->next)
            bytes += piece->bytes; /* cannot wrap: they are in memory */
    if (!bytes)
        return true;
    to = (char *)TWILL_MALLOC(bytes);
    if (!to)
        return false;
    *flat->values = to;
    *flat->values_n = bytes / flat->value_size;
    for (size_t k = 0; k < batches; k++)
        for (twill__flat_piece *piece = flat->pieces[k]; piece; piece = piece->next)
            twill__flat_copy(piece, &to);
    return true;
}

static inline void twill__flat_steps(twill__job *job, void *data)
{
    twill__flat *flat = (twill__flat *)data;
    size_t batches = flat->calls.cuts.batches;
    char *workers = (char *)twill__scratch_get(job, job->np * sizeof *flat->workers + TWILL__LINE);
    if (batches <= SIZE_MAX / sizeof *flat->pieces)
        flat->pieces = (twill__flat_piece **)TWILL_MALLOC(batches * sizeof *flat->pieces);
    if (flat->pieces)
        memset(flat->pieces, 0, batches * sizeof *flat->pieces);
    if (!workers || !flat->pieces) {
        flat->calls.no_memory = true;
        return;
    }
    workers += (TWILL__LINE - (uintptr_t)workers % TWILL__LINE) % TWILL__LINE;
    flat->workers = (twill__flat_worker *)(void *)workers;
    memset(flat->workers, 0, job->np * sizeof *flat->workers);
    job->call.table = twill__flat_table();
    twill__calls_steps(job, &flat->calls);
    if (!atomic_load(&flat->no_memory) && !twill__flat_gather(flat))
        atomic_store(&flat->no_memory, 1);
}

/* Also runs when a callback has ended the calling thread: then nobody takes the values. */
static inline void twill__flat_finish(void *flat_)
{
    twill__flat *flat = (twill__flat *)flat_;
    for (size_t k = 0; flat->pieces && k < flat->calls.cuts.batches; k++)
        for (twill__flat_piece *piece = flat->pieces[k], *next; piece; piece = next) {
            next = piece->next;
            twill__flat_free_piece(piece);
        }
    TWILL_FREE(flat->pieces);
    if (atomic_load(&flat->no_memory))
        flat->calls.inner.status = TWILL_NO_MEMORY;
    twill__calls_finish(&flat->calls);
}

TWILL__DEFINE twill_status twill_batch_flat_map(const void *items, size_t item_size, size_t n,
                                                twill_flat_fn *fn, size_t value_size, void **values,
                                                size_t *values_n,
                                                const twill_batch_options *options)
{
    twill__flat flat;
    twill_status status;
    options = twill__batch_options(options);
    if (values)
        *values = NULL;
    if (values_n)
        *values_n = 0;
    status = twill__calls_check(options, items, item_size, n,
                                fn != NULL && value_size && values && values_n);
    if (status != TWILL_OK)
        return twill__refuse(&options->run, n, status);
    memset(&flat, 0, sizeof flat);
    twill__calls_init(&flat.calls, options, items, item_size, n);
    flat.calls.flat = &flat;
    flat.fn = fn;
    flat.value_size = value_size;
    flat.values = values;
    flat.values_n = values_n;
    atomic_init(&flat.no_memory, 0);
    return twill__calls_run(&flat.calls, twill__flat_steps, twill__flat_finish, &flat);
}

TWILL__DEFINE void twill_batch_free(void *values)
{
    TWILL_FREE(values);
}

#endif

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
    uint32_t generation;
    bool owner; /* of the process's signals */
    uint8_t kind[TWILL__SIGNAL_COUNT];
#if TWILL__SIGNALS
    bool installed[TWILL__SIGNAL_COUNT];
    twill__action old[TWILL__SIGNAL_COUNT];
    twill__bell flag; /* its out end is what poll loops get; written once, never read */
#endif
    twill__bell bell; /* wakes the watcher */
    /* written in handlers and by whoever asks */
    _Atomic int64_t asked_at;
    _Atomic int32_t asked; /* 0; the reason; a signal that came: minus its number */
    _Atomic uint32_t presses, hurry;
    _Atomic uint32_t seen;    /* the program has been told by a function's answer */
    _Atomic int64_t press_at; /* the last one that counted */
    _Atomic uint32_t raised[TWILL__SIGNAL_COUNT];
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
    uint64_t inline_thread; /* runs user code in place of a runner */
    size_t hung;            /* runners abandoned outside hooks */
    bool finishing, finished, closed, quit;
    twill_shutdown_report report;
    twill_cancel drain_token, cancel_token;
    twill__thrd watcher;
};

static inline bool twill__shutdown_here(const twill_shutdown *shutdown)
{
    return twill__same_process(shutdown->generation);
}

static inline twill_ns twill__shutdown_after(twill_ns start, twill_ns ns)
{
    return ns >= TWILL_FOREVER - start ? TWILL_FOREVER : start + ns;
}

/* ---- the word of work ---- */

/* Phase and count are one word, so entering is one with looking at the phase. The total has 36 bits;
   `halves` counts how often its top bit has turned. */
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
    while (!atomic_compare_exchange_weak(&shutdown->work, &seen,
                                         (seen & ~TWILL__WORK_PHASE) | (uint64_t)phase));
    return seen;
}

/* All who ever entered; nobody enters any more. */
static inline uint64_t twill__work_total(const twill_shutdown *shutdown)
{
    uint64_t total = atomic_load(&shutdown->work) >> 28;
    uint64_t halves = atomic_load(&shutdown->halves);
    if ((halves & 1) != total >> 35) /* the one who turned the bit has not come to count it */
        halves++;
    return (halves << 35) + (total & ((UINT64_C(1) << 35) - 1));
}

/* ---- asking: async-signal-safe, like all up to the end of this file ---- */

/* The first one wins. `asked`: see the field. */
static inline void twill__shutdown_ask(twill_shutdown *shutdown, int32_t asked)
{
    int64_t never = 0;
    int32_t none = 0;
    /* before `asked`, which publishes it */
    atomic_compare_exchange_strong_explicit(&shutdown->asked_at, &never, twill__clock_now(),
                                            memory_order_relaxed, memory_order_relaxed);
    /* acq_rel: pairs with the acquire in twill__shutdown_asked */
    if (!atomic_compare_exchange_strong_explicit(&shutdown->asked, &none, asked,
                                                 memory_order_acq_rel, memory_order_relaxed))
        return;
    twill__work_advance(shutdown, TWILL_SHUTDOWN_DRAINING);
    twill_cancel_request(&shutdown->drain_token, asked < 0 ? -asked : asked);
#if TWILL__SIGNALS
    twill__bell_ring(&shutdown->flag);
#endif
    twill__bell_ring(&shutdown->bell); /* the flags are set: whoever hears it finds them */
}

/* 0, or `asked`. Who has seen it here is not let in by enter. */
static inline int32_t twill__shutdown_asked(const twill_shutdown *shutdown)
{
    /* acquire: pairs with the CAS in ask */
    int32_t asked = atomic_load_explicit(&shutdown->asked, memory_order_acquire);
    if (asked && !(atomic_load(&shutdown->work) & TWILL__WORK_PHASE)) /* ask is about to do it */
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
    int64_t at = atomic_load(&shutdown->press_at);
    if (at && now - at <= shutdown->options.same_press)
        return 0;
    if (!atomic_compare_exchange_strong(&shutdown->press_at, &at, now))
        return 0; /* another thread has just taken one */
    return atomic_fetch_add(&shutdown->presses, 1) + 1;
}

/* What the handler does. True: this press ends the process, at once. */
static inline bool twill__shutdown_signal(twill_shutdown *shutdown, int number, twill_ns now)
{
    twill_second_signal second = shutdown->options.second;
    uint32_t press;
    if (shutdown->kind[number] != TWILL__STOPS) {
        atomic_store(&shutdown->raised[number], 1);
        twill__bell_ring(&shutdown->bell);
        return false;
    }
    press = twill__shutdown_press(shutdown, now);
    if (press >= 2 && second != TWILL_SECOND_IGNORED) {
        if (second == TWILL_SECOND_KILLS || press >= 3)
            return true;
        atomic_store(&shutdown->hurry, 1);
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
    if (shutdown) { /* else: a forked child, or the object is just coming or going */
        if (number > 0 && number < TWILL__SIGNAL_COUNT && shutdown->kind[number] &&
            twill__shutdown_signal(shutdown, number, twill__clock_now()))
            twill__signal_die(number, shutdown->options.exit_code);
        twill__owner_release();
    }
    errno = saved;
}
#endif

#endif

/* ---- the lock ---- */

/* A destroyer waits until nobody is inside or on the way in: whoever sees that tells him. */
static inline void twill__shutdown_unlock(twill_shutdown *shutdown)
{
    twill__node *node = shutdown->destroyer;
    if (node && !shutdown->waiters.first && !twill__lock_wanted(&shutdown->lock)) {
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

/* What a phase brings: its token's hooks, and on_phase. The waits were told long before. When it
   hangs and is abandoned the object may go: a hook's return is waited for by the token's detach,
   and nothing of the object is touched from there on. */
static inline void twill__shutdown_enter_phase(twill_shutdown *shutdown,
                                               const twill__runner *runner,
                                               twill_shutdown_phase phase)
{
    int32_t asked = twill__shutdown_asked(shutdown);
    int reason = asked < 0 ? -asked : asked;
    void (*on_phase)(twill_shutdown_phase, int, const twill_task *) = shutdown->options.on_phase;
    twill_task task =
        twill__shutdown_task(shutdown->options.context, SIZE_MAX, shutdown->end, NULL);
    if (phase == TWILL_SHUTDOWN_DRAINING)
        twill_cancel_fire(&shutdown->drain_token, reason);
    else if (phase == TWILL_SHUTDOWN_CANCELLING)
        twill_cancel_fire(&shutdown->cancel_token, reason);
    /* relaxed: a hint; abandoned a moment later is as if in on_phase */
    if (on_phase && (!runner || atomic_load_explicit(&runner->state, memory_order_relaxed) ==
                                    TWILL__RUNNER_BUSY))
        on_phase(phase, reason, &task);
}

/* Under the lock: the action to call next, or action_count. Actions end where the hooks begin. */
static inline size_t twill__shutdown_due_action(const twill_shutdown *shutdown)
{
    size_t i = 0, count = shutdown->options.action_count;
    while (i < count && (shutdown->told >= TWILL_SHUTDOWN_HOOKS ||
                         !atomic_load(&shutdown->raised[shutdown->actions[i].signal])))
        i++;
    return i;
}

static inline bool twill__shutdown_has_todo(const twill_shutdown *shutdown)
{
    return shutdown->news < shutdown->told ||
           twill__shutdown_due_action(shutdown) < shutdown->options.action_count ||
           (shutdown->job.hook && !shutdown->job.taken);
}

/* Called and left with the lock held; false: the runner was abandoned meanwhile, and neither lock
   nor object is his any more. `runner` NULL: in the caller's thread, and there is no job. */
static inline bool twill__shutdown_do(twill_shutdown *shutdown, twill__runner *runner)
{
    twill_shutdown_phase news = shutdown->news;
    size_t i = twill__shutdown_due_action(shutdown);
    uint32_t busy = TWILL__RUNNER_BUSY;
    int code = 0;
    bool hook = false;
    if (runner) /* under the lock; who abandons sees it by his CAS */
        atomic_store_explicit(&runner->state, TWILL__RUNNER_BUSY, memory_order_relaxed);
    if (news < shutdown->told) {
        shutdown->news = news = (twill_shutdown_phase)(news + 1);
        twill__unlock(&shutdown->lock);
        twill__shutdown_enter_phase(shutdown, runner, news);
    } else if (i < shutdown->options.action_count) {
        const twill_signal_action *action = &shutdown->actions[i];
        twill_task task = twill__shutdown_task(action->context, i, 0, &shutdown->cancel_token);
        /* before the call: a signal during it brings another one */
        atomic_store(&shutdown->raised[action->signal], 0);
        twill__unlock(&shutdown->lock);
        action->fn(action->signal, &task);
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

/* Another runner in place of one whose thread has ended, or, for finish, of none. Nothing to do, or
   the other one does it already: returns at once. During finish only finish takes runners away. */
static inline void twill__runner_renew(twill_shutdown *shutdown, bool finish)
{
    twill__runner *runner;
    bool wanted;
    twill__lock(&shutdown->lock);
    runner = shutdown->runner;
    /* acquire: pairs with the CAS in twill__runner_gone */
    wanted =
        !shutdown->starting && shutdown->finishing == finish &&
        (runner ? atomic_load_explicit(&runner->state, memory_order_acquire) == TWILL__RUNNER_GONE
                : finish);
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
    twill__runner *runner = shutdown->runner; /* only finish changes it now */
    uint32_t busy = TWILL__RUNNER_BUSY;
    /* acq_rel: pairs with the CAS in twill__shutdown_do */
    if (!atomic_compare_exchange_strong_explicit(&runner->state, &busy, TWILL__RUNNER_PARTING,
                                                 memory_order_acq_rel, memory_order_relaxed))
        return false;
    twill__lock(&shutdown->lock);
    shutdown->runner = NULL;
    twill__shutdown_unlock(shutdown);
    twill__thread_let_go(&runner->thread);
    /* release: the last access; pairs with twill__runner_part */
    atomic_store_explicit(&runner->state, TWILL__RUNNER_ABANDONED, memory_order_release);
    return true;
}

#endif

/* ---- phases ---- */

/* Under the lock: goes to the phase that it is time for; true: that was a new one, and
   twill__shutdown_announce follows. An empty house ends a phase only once finish has been called:
   before that, the program may have work that it does not count. */
static inline bool twill__shutdown_step(twill_shutdown *shutdown, twill_ns now)
{
    twill_shutdown_phase before = shutdown->told;
    twill_shutdown_options *options = &shutdown->options;
    if (!twill__shutdown_asked(shutdown))
        return false;
    if (shutdown->told == TWILL_SHUTDOWN_RUNNING) {
        /* published by `asked` */
        twill_ns at = atomic_load_explicit(&shutdown->asked_at, memory_order_relaxed);
        shutdown->told = TWILL_SHUTDOWN_DRAINING;
        shutdown->end = twill__shutdown_after(at, options->total);
        shutdown->drain_end = twill__shutdown_after(at, options->drain);
        for (twill__node *node = shutdown->waiters.first, *next; node; node = next) {
            _Atomic uint32_t *word = &node->word;
            next = node->next;
            node->answer = TWILL_OK;
            if (twill__grant(&shutdown->waiters, node)) /* else it leaves, and unlinks itself */
                twill__wake(word, 1);
        }
    }
    if (shutdown->told == TWILL_SHUTDOWN_DRAINING) {
        uint64_t inside = twill__work_inside(atomic_load(&shutdown->work));
        if (now >= shutdown->drain_end || atomic_load(&shutdown->hurry) ||
            (shutdown->finishing && inside == 0)) {
            shutdown->after_drain =
                twill__work_inside(twill__work_advance(shutdown, TWILL_SHUTDOWN_CANCELLING));
            shutdown->told = TWILL_SHUTDOWN_CANCELLING;
            shutdown->cancel_end = twill__shutdown_after(now, options->cancel);
            if (shutdown->cancel_end > shutdown->end)
                shutdown->cancel_end = shutdown->end;
        }
    }
    if (shutdown->told == TWILL_SHUTDOWN_CANCELLING && shutdown->finishing) {
        uint64_t inside = twill__work_inside(atomic_load(&shutdown->work));
        if (now >= shutdown->cancel_end || inside == 0) {
            shutdown->after_cancel =
                twill__work_inside(twill__work_advance(shutdown, TWILL_SHUTDOWN_HOOKS));
            shutdown->told = TWILL_SHUTDOWN_HOOKS;
        }
    }
    return shutdown->told != before;
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
    atomic_fetch_add(&shutdown->pulse, 2);
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
    /* where the program holds them off in all its threads, this one takes them */
    for (int number = 1; number < TWILL__SIGNAL_COUNT; number++)
        if (shutdown->kind[number])
            twill__signal_unblock(number);
#endif
    for (;;) { /* exit: quit, which destroy sets */
        twill_ns now = twill__clock_now(), next;
        int32_t asked;
        bool changed, hard;
        twill__lock(&shutdown->lock);
        if (shutdown->quit) /* what comes now, destroy sees */
            break;
        changed = twill__shutdown_step(shutdown, now);
        if (twill__shutdown_has_todo(shutdown))
            twill__shutdown_rouse(shutdown);
        asked = twill__shutdown_asked(shutdown);
        hard = asked < 0 && shutdown->told && !shutdown->options.no_hard_stop;
        next = twill__shutdown_next(shutdown, hard);
        twill__shutdown_unlock(shutdown);
        if (changed)
            twill__shutdown_announce(shutdown);
        if (hard && now >= shutdown->end)
            twill__signal_die(-asked, shutdown->options.exit_code);
        twill__runner_renew(shutdown, false);
        twill__bell_wait(&shutdown->bell, next);
    }
    twill__shutdown_unlock(shutdown);
}

#endif

/* A hook that obeys its limit needs a moment to come back; only then is it passed over. */
#define TWILL__HOOK_GRACE TWILL_MS(10)

/* ---- work ---- */

/* Through DRAINING and CANCELLING. The one who leaves last touches nothing of ours after his
   fetch_or on `pulse`, and we do not go on before that: the object may be freed soon. */
static inline void twill__shutdown_drain(twill_shutdown *shutdown)
{
    uint64_t work = atomic_fetch_or(&shutdown->work, TWILL__WORK_WAITED);
    bool armed = twill__work_inside(work) > 0;
    for (;;) { /* exit: HOOKS, at the end of the windows at the latest */
        /* before the look at the work: who changes that later changes this, too */
        uint32_t pulse = atomic_load(&shutdown->pulse);
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
    work = atomic_fetch_and(&shutdown->work, ~TWILL__WORK_WAITED);
    if (!armed || twill__work_inside(work) > 0)
        return;
    for (;;) { /* ends: the last one out is at the step between the two words */
        uint32_t pulse = atomic_load(&shutdown->pulse);
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
        /* relaxed: what the runner has done is read under the lock */
        uint32_t state = runner ? atomic_load_explicit(&runner->state, memory_order_relaxed)
                                : TWILL__RUNNER_GONE;
        if (!shutdown->starting &&
            (state == TWILL__RUNNER_GONE ||
             (state == TWILL__RUNNER_IDLE && !twill__shutdown_has_todo(shutdown) &&
              (!job->hook || job->done))))
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

/* User code in the thread of finish has ended that thread: another one may go on. */
static void twill__shutdown_finisher_gone(void *arg)
{
    twill_shutdown *shutdown = (twill_shutdown *)arg;
    twill__lock(&shutdown->lock);
    shutdown->inline_thread = 0;
    shutdown->finishing = false;
    shutdown->report.hooks_failed += shutdown->job.hook != NULL;
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

/* A runner that is free, at the cost of one that does not come back until then. False: there is
   none to be had, and what the phases brought has been done here. */
static inline bool twill__shutdown_ready(twill_shutdown *shutdown, twill_ns until)
{
    bool there;
    /* each runner that is abandoned has taken a phase's news, or an action, with it */
    for (int k = 0; k < 4 && !twill__shutdown_settle(shutdown, until); k++) {
        twill_ns now = twill__clock_now(), left = shutdown->end - now;
        if (twill__shutdown_abandon(shutdown))
            shutdown->hung++;
        twill__runner_renew(shutdown, true);
        until = now + (left > 0 ? left / 4 : 0);
    }
    twill__runner_renew(shutdown, true);
    (void)twill__shutdown_settle(shutdown, until); /* the watcher may be making one */
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
    bool hangs = false;
    if (!in_time) {
        twill__lock(&shutdown->lock);
        hangs = job->taken; /* else its thread never came to it: nobody will run it */
        if (!hangs)
            job->hook = NULL;
        twill__shutdown_unlock(shutdown);
        if (hangs && !twill__shutdown_abandon(shutdown)) { /* it is just coming back */
            in_time = twill__shutdown_settle(shutdown, TWILL_FOREVER);
            hangs = false;
        }
    }
    twill__lock(&shutdown->lock);
    if (in_time && job->lost) {
        status = TWILL_LOST;
    } else if (in_time) {
        status = job->code ? TWILL_FAILED : TWILL_OK;
        *code = job->code;
    }
    job->hook = NULL;
    shutdown->hung += hangs;
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
    shutdown->job.hook = hook; /* for twill__shutdown_finisher_gone */
    twill__shutdown_inline(shutdown, &task, hook, code);
    shutdown->job.hook = NULL;
    twill_cancel_detach(&token);
    return *code ? TWILL_FAILED : TWILL_NO_THREAD;
}

static inline void twill__shutdown_run_hook(twill_shutdown *shutdown, twill__shutdown_hook *hook)
{
    twill_shutdown_report *report = &shutdown->report;
    twill_shutdown_step step = {hook->name, TWILL_TIMEOUT, 0, 0};
    twill_ns start = twill__clock_now(), until = shutdown->end, over;
    if (hook->limit && twill__shutdown_after(start, hook->limit) < until)
        until = twill__shutdown_after(start, hook->limit);
    over = twill__shutdown_after(until, TWILL__HOOK_GRACE);
    if (over > shutdown->end)
        over = shutdown->end;
    if (over - until < TWILL__HOOK_GRACE && over - start > 2 * TWILL__HOOK_GRACE)
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
    if (report->hooks < shutdown->options.steps_capacity)
        shutdown->options.steps[report->steps_stored++] = step;
    report->hooks++;
    report->hooks_failed += step.status == TWILL_FAILED || step.status == TWILL_LOST;
    report->hooks_overran += step.status == TWILL_TIMEOUT;
}

static inline void twill__shutdown_run_hooks(twill_shutdown *shutdown)
{
    twill_ns now = twill__clock_now(), share = (shutdown->end - now) / 4;
    /* on_phase and an action that runs have a quarter of what is left to come back */
    (void)twill__shutdown_ready(shutdown, share > 0 ? now + share : now);
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
        else if (!twill__shutdown_settle(shutdown, until) && twill__shutdown_abandon(shutdown))
            shutdown->hung++;
    }
}

#endif

/* ---- create ---- */

static inline bool twill__shutdown_take(uint8_t *kind, int number, uint8_t as)
{
    if (number <= 0 || number >= TWILL__SIGNAL_COUNT || kind[number])
        return false;
#if TWILL__SIGNALS
    if (number == SIGKILL || number == SIGSTOP || twill__signal_is_fault(number))
        return false;
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
        options->drain = options->total / 2 ? options->total / 2 : 1;
    if (options->drain > options->total)
        options->drain = options->total;
    if (!options->cancel)
        options->cancel = options->total / 4 ? options->total / 4 : 1;
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
        bool keeps = number == SIGINT || number == SIGQUIT || number == SIGHUP;
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
    return true;
}
#endif

static inline bool twill__shutdown_bells(twill_shutdown *shutdown)
{
    if (!twill__bell_make(&shutdown->bell))
        return false;
#if TWILL__SIGNALS
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
#if TWILL__SIGNALS
    twill__bell_end(&shutdown->flag);
#endif
}

/* One block: the object, the actions, the message. */
static inline twill_shutdown *twill__shutdown_make(const twill_shutdown_options *options)
{
    size_t head = (sizeof(twill_shutdown) + 15) / 16 * 16, length = 0, bytes;
    size_t actions = options->action_count * sizeof(twill_signal_action);
    void *memory;
    twill_shutdown *shutdown;
    while (options->message && options->message[length] && length < 4096)
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
    shutdown->generation = twill__generation();
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

static inline twill_status twill__shutdown_start(twill_shutdown *shutdown,
                                                 const twill_shutdown *parent)
{
    twill_status status = twill__runner_start(shutdown);
    if (status != TWILL_OK)
        return status;
    if (!twill__shutdown_thread(&shutdown->watcher, twill__shutdown_watch, shutdown,
                                "twill-shutdown")) {
        (void)twill__shutdown_join(shutdown, false);
        return TWILL_NO_THREAD;
    }
#if TWILL__SIGNALS
    if (shutdown->owner) {
        twill__owner_publish(shutdown); /* before the handler: it finds all it needs */
        if (!twill__shutdown_install(shutdown, parent)) {
            twill__owner_publish(NULL);
            (void)twill__shutdown_join(shutdown, true);
            return TWILL_INVALID; /* a number that the system does not let us have */
        }
    }
#else
    (void)parent;
#endif
    return TWILL_OK;
}

TWILL__DEFINE twill_status twill_shutdown_create(twill_shutdown **out,
                                                 const twill_shutdown_options *given)
{
    static const twill_shutdown_options none;
    twill_shutdown_options options = given ? *given : none;
    uint8_t kind[TWILL__SIGNAL_COUNT] = {0};
    twill_shutdown *shutdown, *parent = NULL;
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
        parent = (twill_shutdown *)twill__owner_of_parent();
        if (!twill__owner_claim())
            return TWILL_BUSY;
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
    if (shutdown && status != TWILL_FAILED)
        twill__shutdown_bells_end(shutdown);
    if (shutdown)
        TWILL_FREE(((void **)(void *)shutdown)[-1]);
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
        for (twill__node *node = shutdown->waiters.first, *next; node; node = next) {
            _Atomic uint32_t *word = &node->word;
            next = node->next;
            node->answer = TWILL_CLOSED;
            if (twill__grant(&shutdown->waiters, node))
                twill__wake(word, 1);
        }
    }
    twill__shutdown_unlock(shutdown);
    if (busy)
        return TWILL_BUSY;
#if TWILL__SIGNALS
    if (shutdown->owner) {
        twill__shutdown_restore(shutdown);
        twill__owner_leave();
    }
#endif
    told = twill__shutdown_join(shutdown, true);
    /* relaxed: see twill__shutdown_answer */
    told |= atomic_load_explicit(&shutdown->seen, memory_order_relaxed) != 0;
    asked = twill__shutdown_asked(shutdown);
    twill_cancel_detach(&shutdown->cancel_token);
    twill_cancel_detach(&shutdown->drain_token);
    twill__lock(&shutdown->lock);
    if (shutdown->waiters.first || twill__lock_wanted(&shutdown->lock)) {
        twill__node me;
        twill__node_init(&me);
        shutdown->destroyer = &me;
        twill__unlock(&shutdown->lock);
        twill__await(&me);
        twill__lock(&shutdown->lock); /* whoever told us has left the section now */
    }
    twill__unlock(&shutdown->lock);
    twill__shutdown_free(shutdown);
#if TWILL__SIGNALS
    if (asked < 0 && !told)
        raise(-asked); /* for whoever is there now */
#else
    (void)(told && asked);
#endif
    return TWILL_OK;
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
    return (twill_shutdown_phase)(atomic_load(&shutdown->work) & TWILL__WORK_PHASE);
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
#if TWILL__SIGNALS
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
    /* relaxed: a guess for the CAS */
    seen = atomic_load_explicit(&shutdown->work, memory_order_relaxed);
    do {
        if (seen & TWILL__WORK_PHASE) {
            (void)twill__shutdown_answer(shutdown);
            return TWILL_CLOSED;
        }
        if ((seen & TWILL__WORK_INSIDE) == TWILL__WORK_INSIDE)
            return TWILL_TOO_BIG;
        next = seen + TWILL__WORK_ONE + TWILL__WORK_TOTAL;
    } while (!atomic_compare_exchange_weak(&shutdown->work, &seen, next));
    if ((seen ^ next) >> 63) /* once in 2^35 */
        atomic_fetch_add(&shutdown->halves, 1);
    return TWILL_OK;
}

TWILL__DEFINE void twill_shutdown_leave(twill_shutdown *shutdown)
{
    uint64_t before;
    if (!shutdown || !twill__shutdown_here(shutdown))
        return;
    /* release, among others: pairs with the RMW by which finish goes on to the hooks */
    before = atomic_fetch_sub(&shutdown->work, TWILL__WORK_ONE);
    TWILL_ASSERT(twill__work_inside(before) > 0); /* a leave without an enter */
    if (twill__work_inside(before) != 1 || !(before & TWILL__WORK_WAITED))
        return;
    /* the last out: finish waits for this, our last access; the address is but a key then */
    atomic_fetch_or(&shutdown->pulse, 1);
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
    /* a hint, so that the answer is CLOSED even without memory; the phase never goes back */
    if ((atomic_load(&shutdown->work) & TWILL__WORK_PHASE) >= TWILL_SHUTDOWN_HOOKS)
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
    twill__shutdown_unlock(shutdown);
    return status;
}

TWILL__DEFINE twill_status twill_shutdown_finish(twill_shutdown *shutdown,
                                                 twill_shutdown_report *report)
{
    twill_shutdown_report result;
    bool busy, finished;
    if (!shutdown)
        return TWILL_INVALID;
    if (!twill__shutdown_here(shutdown))
        return TWILL_FORKED;
    if (twill__shutdown_inside(shutdown))
        return TWILL_DEADLOCK;
    twill__lock(&shutdown->lock);
    finished = shutdown->finished;
    busy = shutdown->finishing;
    if (!finished && !busy)
        shutdown->finishing = true;
    twill__shutdown_unlock(shutdown);
    if (!finished && busy)
        return TWILL_BUSY;
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
    twill_ns until = twill__clock_now() + TWILL_MS(100);
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

struct twill__timeout_block;

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
    uint32_t now = twill__generation(), busy = 0x80000000u | now;
    for (;;) {
        /* pairs with the release */
        uint32_t seen = atomic_load_explicit(&books->generation, memory_order_acquire);
        if (seen == now)
            return books;
        if (seen != busy && atomic_compare_exchange_strong(&books->generation, &seen, busy)) {
            /* published by the release */
            atomic_store_explicit(&books->lock, 0, memory_order_relaxed);
            books->running = books->abandoned = 0;
            books->blocks = NULL;
            books->waiters.first = books->waiters.last = NULL;
            /* pairs with the acquire above */
            atomic_store_explicit(&books->generation, now, memory_order_release);
            return books;
        }
        twill__yield();
    } /* ends: the thread that is busy takes a bounded number of steps */
}

static inline bool twill__books_here(const twill__stragglers *books)
{
    /* relaxed: written before the owner was known to others, or by this very thread */
    return atomic_load_explicit(&books->generation, memory_order_relaxed) == twill__generation();
}

/* Under the lock: answers those who wait for the last straggler. */
static inline void twill__books_answer(twill__stragglers *books, twill_status answer)
{
    for (twill__node *node = books->waiters.first, *next; node; node = next) {
        /* ends: one that leaves is not moved twice */
        _Atomic uint32_t *word = &node->word;
        next = node->next;
        node->answer = (int)answer;
        if (twill__grant(&books->waiters,
                         node)) /* false: it leaves, and may stand at the end now */
            twill__wake(word, 1);
    }
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
    const twill_cancel *asked; /* the caller's token; NULL once the call is over */
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

typedef struct twill__timeout_visit { /* a call of an object, on its caller's stack */
    struct twill__timeout_visit *next, *previous;
    uint64_t thread;
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
    twill__timeout_visit *visits;
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
            twill__books_answer(books, TWILL_OK);
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
    if (!value) {
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
    hand->next = owner->hands;
    if (hand->next)
        hand->next->previous = hand;
    owner->hands = hand;
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
    if (started && hand->let_go) { /* destroyed meanwhile */
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
   caller's, while the caller is there, and passes on what it says. */
static bool twill__timeout_looks(const twill_task *task)
{
    twill__timeout_block *block = ((twill__timeout_runner *)task->private_)->block;
    int reason = 0;
    if (!block->watched)
        return false;
    twill__lock(&block->books->lock);
    if (block->asked)
        reason = twill_cancel_reason(block->asked);
    twill__unlock(&block->books->lock);
    if (reason)
        twill__timeout_cancel(block, reason);
    return reason != 0;
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
        call->block->asked = call->until.cancel;
        call->on_cancel.fn = twill__timeout_on_cancel;
        call->on_cancel.context = call->block;
        twill_cancel_add_hook(call->until.cancel, &call->on_cancel);
    }
}

static inline void twill__timeout_unhook(twill__timeout_call *call)
{
    if (call->block && call->block->watched)
        twill_cancel_remove_hook(call->until.cancel, &call->on_cancel);
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

/* Takes a place, or says why not. */
static inline twill_status twill__timeout_admit(twill__timeout_call *call)
{
    twill__timeout_block *block = call->block;
    struct twill_timeout *owner = call->owner;
    bool over = twill__expired(call->deadline), cancelled;
    twill_status status = TWILL_OK;
    cancelled = !block && twill_cancel_fired(call->until.cancel);
    call->visit.thread = twill__thread_number();
    twill__lock(&call->books->lock);
    if (owner) {
        owner->counts.calls++;
        call->visit.next = owner->visits;
        if (call->visit.next)
            call->visit.next->previous = &call->visit;
        owner->visits = &call->visit;
        if (owner->options.hedge_after) {
            owner->hedges_left += owner->options.hedge_budget;
            if (owner->hedges_left > 10)
                owner->hedges_left = 10;
        }
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
        if (owner) {
            twill__timeout_count(owner, call->report);
            if (call->visit.next)
                call->visit.next->previous = call->visit.previous;
            if (call->visit.previous)
                call->visit.previous->next = call->visit.next;
            else
                owner->visits = call->visit.next;
        }
        if (block) {
            block->asked = NULL;
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
    if (call->step == TWILL__CALL_FREE && block)
        TWILL_FREE(block);
    call->step = TWILL__CALL_OVER;
}

/* ---- waiting for the function ---- */

/* The earlier of two instants, of which 0 is none. */
static inline twill_ns twill__earlier(twill_ns a, twill_ns b)
{
    if (twill__no_deadline(a))
        return b;
    return twill__no_deadline(b) || a < b ? a : b;
}

static inline twill_ns twill__later(twill_ns at, twill_ns by)
{
    return by >= TWILL_FOREVER - at ? TWILL_FOREVER : at + by;
}

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
            owner->hedges_left += 1;
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
    twill_ns hedge_at = options->hedge_after && block->runners > 1
                            ? twill_within(options->hedge_after).deadline
                            : 0;
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
        until = late ? (join ? 0 : twill__later(call->deadline, options->grace))
                     : twill__earlier(decided ? 0 : call->deadline, hedge_at);
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

/* Under the lock: how the function did, and who won. */
static inline twill_status twill__timeout_verdict(const twill__timeout_call *call)
{
    const twill__timeout_block *block = call->block;
    if (block->winner)
        return TWILL_OK;
    if (block->started && block->finished == block->started)
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
    task.until.deadline = twill__earlier(call->until.deadline, own);
    task.until.cancel = call->until.cancel;
    if (call->out_size)
        memset(result, 0, call->out_size);
    code = step->fn(in, result, &task);
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
        if (twill_cancel_fired(call->until.cancel) || twill__expired(call->until.deadline))
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
    if (twill_cancel_fired(call->until.cancel))
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
    const twill_run *run = &call->options->run;
    bool hedges = call->options->hedge_after && call->options->mode != TWILL_TIMEOUT_COOPERATE;
    twill_status status = TWILL_INVALID;
    size_t bytes;
    if (!call->fn || (call->in_size && !call->in) || (call->out_size && !call->out))
        return TWILL_INVALID;
    call->runners = 1 + (hedges ? (unsigned)call->options->max_hedges : 0);
    bytes = twill__timeout_bytes(call);
    if (!bytes)
        return TWILL_TOO_BIG;
    call->until.deadline = twill__earlier(call->until.deadline, run->until.deadline);
    call->deadline = twill__earlier(call->until.deadline, twill_within(timeout).deadline);
    call->task = (twill_task){SIZE_MAX, run->context, UINT_MAX, 0, NULL, {0, NULL}, NULL};
    twill__timeout_block_make(call, bytes);
    TWILL__GUARD_PUSH(twill__timeout_end, call);
    status = twill__timeout_do(call);
    twill__timeout_end(call);
    TWILL__GUARD_POP(0);
    return status;
}

#endif

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
        options->max_abandoned = 64;
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
    if (options->max_hedges > UINT_MAX - 1 || !twill__timeout_add(&bytes, 1, sizeof *made) ||
        !twill__timeout_add(&chain, options->fallback_count, sizeof(twill_fallback)) ||
        !twill__timeout_add(&bytes, 1, chain) ||
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
    static const twill_timeout_options options = {.max_abandoned = 64};
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

/* Under the lock: does this thread run a function, or a callback, of these books? */
static inline bool twill__timeout_inside(const twill__stragglers *books,
                                         const struct twill_timeout *owner, bool visits)
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
    for (const twill__timeout_visit *visit = owner && visits ? owner->visits : NULL; visit;
         visit = visit->next)
        if (visit->thread == me)
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
    if (books->abandoned && twill__timeout_inside(books, timeout, false)) {
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
    /* relaxed: one thread */
    if (!(atomic_load_explicit(&timeout->books.lock, memory_order_relaxed) & 1)) {
        if (twill__timeout_inside(&timeout->books, timeout, true))
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

/* Under the lock: busy threads are let go; the others, as a list by `next`, are to be joined. */
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
        if (hand->busy) {
            hand->let_go = true;
            if (hand->published)
                twill__thread_let_go(&hand->thread);
        } else {
            hand->next = join;
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
    if (twill__timeout_inside(&timeout->books, timeout, true)) {
        twill__unlock(&timeout->books.lock);
        return TWILL_DEADLOCK;
    }
    timeout->closed = timeout->destroyed = true;
    join = twill__timeout_dismiss(timeout);
    twill__books_answer(&timeout->books, TWILL_CLOSED);
    twill__unlock(&timeout->books.lock);
    while (join) {
        twill__timeout_hand *hand = join;
        join = hand->next;
        twill__thread_join(&hand->thread);
        TWILL_FREE(hand);
    }
    twill__lock(&timeout->books.lock);
    last = twill__timeout_unref(timeout);
    twill__unlock(&timeout->books.lock);
    if (last)
        TWILL_FREE(timeout);
    return TWILL_OK;
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
