/* twill_parallel_map.h - twill 0.1.0 - SPDX-License-Identifier: MIT OR Unlicense (text at the end)
   GENERATED from patterns/src/parallel_map.h and its parts. Do not edit it here: edit there, then `make headers`. */

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
     invoke     a few different functions
     reduce     fold and combine                     scan     running sums
     filter     what a test wants, in order          find     the lowest match
     sort       stable
     TWILL_DEFINE_MAP, _REDUCE, _SCAN, _FILTER, _FIND, _SORT: with an expression compiled into the
                loop, no call an item: for cheap ones five to fifteen times as fast

   EXAMPLE:
   #define TWILL_IMPLEMENTATION
   #include "twill_parallel_map.h"
   #include <stdio.h>

   TWILL_DEFINE_REDUCE(sum_of_squares, int, long, x, (long)x * x, a, b, a + b, 0)
   TWILL_DEFINE_SCAN(running_sums, int, a, b, a + b)
   TWILL_DEFINE_FILTER(keep_odd, int, x, x % 2 == 1)
   TWILL_DEFINE_FIND(first_above, int, x, x > *(const int *)task->context)

   int main(void)
   {
       int numbers[100], sums[100], most = 1000;
       long squares = 0;
       size_t odd = 0, at = 0;
       twill_parallel_options options = {.run.context = &most};
       for (int i = 0; i < 100; i++)
           numbers[i] = i;
       if (sum_of_squares(numbers, 100, &squares, NULL) ||
           running_sums(numbers, sums, 100, NULL, NULL) ||
           first_above(sums, 100, &at, &options) || keep_odd(numbers, 100, numbers, &odd, NULL))
           return 1;
       printf("%ld; sums[%d] = %d; %d odd ones\n", squares, (int)at, sums[at], (int)odd);
       return 0;
   }
   END OF EXAMPLE
   OUTPUT:
   328350; sums[45] = 1035; 50 odd ones
   END OF OUTPUT

   HOW IT WORKS
   The caller runs the first items alone and times them, unless the loop was worth a pool's helpers
   a moment ago. Is the rest worth it, helpers come: of the pool in run.pool, else of the call
   around this one, else threads that the call starts and joins. Each works on a range of its own,
   in chunks that last about 10 us, and steals half of another's range when its own is done. Nobody
   waits for a thread that has not come in.

   OPTIONS (twill_parallel_options; NULL or zeroed: defaults)
     run          see twill_run: pool, workers, deadline and token, hooks, errors, report
     run.workers  0: as many as useful; set: all of them start before the first item (for items that
                  sleep or wait, and for few heavy items without a pool)
     schedule     AUTO; STATIC (same items on the same worker), DYNAMIC, GUIDED, COST
     chunk        items: AUTO, GUIDED never hand out fewer; DYNAMIC so many; 0: automatic;
                  STATIC and COST cut by themselves and ignore it
     cost_of      COST: the cost of an item in any unit; other schedules ignore it
     reduce       ordered: every schedule but COST; scan: AUTO or STATIC, sort: AUTO, both without
                  chunk and cost_of

   ERRORS
     TWILL_OK        every item has run; or a callback said twill_task_stop: all below it have
     TWILL_FAILED    an item failed. By default (LOWEST) report.first_error is what the serial loop
                     would have met first, for any number of threads, although the loop stops early
     TWILL_CANCELLED, TWILL_TIMEOUT   token or deadline ended it; running callbacks were waited for.
                 The deadline is looked at between items, after many of less than 0.2 us at every
                 eighth; in typed loops about every 10 us; in scan and sort between parts of a 64th
                 of the items, or of some 100. Once all has been tested or compared it comes too
                 late: filter's copies, and the last one of a sort, are made
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
                bytes, and two pointers an item above 64 bytes. All before the first callback.
   STACK        A call takes 6 KiB of the caller's stack, 25 KiB with more than 8 workers, 12 KiB
                more with COST; nested calls add up. stack_size should leave room for that.
   NESTING      A call inside a callback uses the threads of the outer call, or of the pool whose
                task that is; with run.workers set, threads of its own. It waits only for its own
                items, so locks held across it are safe, and a pool of one thread is enough.

   PITFALLS
   - A few heavy items without a pool: the first one runs alone, to be timed. Set run.workers.
   - A loop that was cheap a moment ago and is dear now (same function, same n): helpers come after
     a quarter of a worker's share. Set run.workers where single calls may be dear.
   - Neighbouring results of a few bytes share a cache line; large chunks make that rare, DYNAMIC
     with chunk 1 makes it common.
   - Floating-point sums: reduce gives the same bits for every number of threads, but not those of
     the plain loop. unordered gives neither.
   - A callback that never returns: the call does not, either. Poll twill_task_cancelled.
   - fork in a callback: the child is that thread alone. If it is the caller's, the call goes on
     there without the others' items (TWILL_FORKED). If it is a helper, it goes on with its own part
     of the items, and then the process ends: let the child exec or _exit.
   - thrd_exit in a callback: the item is LOST, the call carries on (with more than 2^32 items what
     was left of its chunk is skipped, and counted so). longjmp out of one: undefined.
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

#ifndef TWILL_PARALLEL_MAP_H
#define TWILL_PARALLEL_MAP_H

#include <string.h>

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
       and for all of them when the call does not succeed (in a forked child: for those that no
       helper was at). */
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
   may be in (but not overlap it otherwise). Not OK: out is written in part. AUTO combines an item
   once or twice, in cuts that depend on time: combine should be exactly associative, or last bits
   vary. STATIC: fixed cuts, the same bits for every number of threads, and each item twice. */
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

/* Sorts, stable, with n * size bytes of memory, and 2 pointers an item above 64 bytes. Not OK: base
   holds the same items in some order (but if compare ends its thread, or forks). schedule, chunk
   and cost_of must be zero. */
TWILL__DECL twill_status twill_parallel_sort(void *base, size_t n, size_t size,
                                             twill_compare_fn *compare,
                                             const twill_parallel_options *options);

/* ---- typed forms ---- */

/* Each defines a function like one of those above, with an expression compiled into its loop: no
   call an item. Items that fail there are none; all else is as above. An expression may use `task`,
   that of the range: task->context, task->worker_state; task->index is its first item, and a
   twill_task_stop takes effect at its end. */

/* ---- parallel_map/merge.h ---- */
/* merge.h: what a sort does with its items, compiled anew for each kind of them, in C++ too. */
#ifndef TWILL__PARALLEL_MAP_MERGE_H
#define TWILL__PARALLEL_MAP_MERGE_H

/* ---- parallel_map/typed.h ---- */
/* typed.h: what the typed forms give to the library: loops with the user's expression compiled in,
   in C++ too. */
#ifndef TWILL__PARALLEL_MAP_TYPED_H
#define TWILL__PARALLEL_MAP_TYPED_H

/* Where nothing else is inlined (-fno-inline) gcc may learn too late which function one of these is
   given, and then refuses the call. */
#ifdef __NO_INLINE__
#define TWILL__INLINED static inline
#else
#define TWILL__INLINED static inline __attribute__((always_inline))
#endif

/* map: the items begin..end-1. call: the macro's, so that task->context stays the user's. */
typedef int twill__typed_fn(const void *call, size_t begin, size_t end, const twill_task *task);

/* find: the first match of begin..end-1, or end. */
typedef size_t twill__first_fn(const void *items, size_t begin, size_t end, const twill_task *task);

/* filter: a bit an item, 64 a word, the first one's lowest; n > 0. */
typedef void twill__mark_fn(const void *items, size_t n, uint64_t *words, const twill_task *task);

/* reduce, scan: *acc becomes the items begin..end-1, of which there is one at least; or, more: what
   it was (+) the items. */
typedef void twill__fold_fn(const void *items, size_t begin, size_t end, void *acc, bool more,
                            const twill_task *task);

/* scan: writes begin..end-1. acc: all in front of them (nothing is, if an inclusive scan begins at
   0), then with them. */
typedef void twill__write_fn(const void *in, void *out, size_t begin, size_t end, void *acc,
                             bool inclusive, const twill_task *task);

/* find looks at so many items before it branches: a compiler makes one comparison of several. A
   call's first items, which are timed, are fewer. */
#define TWILL__FIND_STRIDE 32

/* VALUE, EXPR: in parentheses, here and below, since they are arguments twice and may hold commas.
   NAME_value, of an item; NAME_both, of two values; and a twill_combine_fn and a twill__fold_fn of
   them. Eight parts of the range are folded at once, so that an addition need not wait for the
   one before it, and then combined in their order. */
#define TWILL__DEFINE_FOLD(NAME, IN, OUT, VAR, VALUE, A, B, EXPR)                               \
    TWILL__INLINED OUT NAME##_value(IN const VAR, const twill_task *task)                       \
    {                                                                                           \
        (void)VAR;                                                                              \
        (void)task;                                                                             \
        return VALUE;                                                                           \
    }                                                                                           \
    TWILL__INLINED OUT NAME##_both(OUT const A, OUT const B, const twill_task *task)            \
    {                                                                                           \
        (void)A;                                                                                \
        (void)B;                                                                                \
        (void)task;                                                                             \
        return EXPR;                                                                            \
    }                                                                                           \
    static int NAME##_combine(void *left_, void *right_, const twill_task *task_)               \
    {                                                                                           \
        OUT *acc_ = TWILL__CAST(OUT *, left_);                                                  \
        *acc_ = NAME##_both(*acc_, *TWILL__CAST(OUT const *, right_), task_);                   \
        return 0;                                                                               \
    }                                                                                           \
    TWILL__INLINED OUT NAME##_more(OUT const acc_, IN const *in_, const twill_task *task_)      \
    {                                                                                           \
        return NAME##_both(acc_, NAME##_value(*in_, task_), task_);                             \
    }                                                                                           \
    TWILL__INLINED OUT NAME##_folded(IN const *in_, size_t n_, const twill_task *task_)         \
    {                                                                                           \
        size_t part_ = n_ / 8, i_ = 1;                                                          \
        IN const *b_ = in_ + part_;                                                             \
        IN const *c_ = b_ + part_;                                                              \
        IN const *d_ = c_ + part_;                                                              \
        IN const *e_ = d_ + part_;                                                              \
        IN const *f_ = e_ + part_;                                                              \
        IN const *g_ = f_ + part_;                                                              \
        IN const *h_ = g_ + part_;                                                              \
        OUT of_a_ = NAME##_value(*in_, task_);                                                  \
        if (part_ < 2) {                                                                        \
            for (; i_ < n_; i_++)                                                               \
                of_a_ = NAME##_more(of_a_, in_ + i_, task_);                                    \
            return of_a_;                                                                       \
        }                                                                                       \
        OUT of_b_ = NAME##_value(*b_, task_);                                                   \
        OUT of_c_ = NAME##_value(*c_, task_);                                                   \
        OUT of_d_ = NAME##_value(*d_, task_);                                                   \
        OUT of_e_ = NAME##_value(*e_, task_);                                                   \
        OUT of_f_ = NAME##_value(*f_, task_);                                                   \
        OUT of_g_ = NAME##_value(*g_, task_);                                                   \
        OUT of_h_ = NAME##_value(*h_, task_);                                                   \
        for (; i_ < part_; i_++) {                                                              \
            of_a_ = NAME##_more(of_a_, in_ + i_, task_);                                        \
            of_b_ = NAME##_more(of_b_, b_ + i_, task_);                                         \
            of_c_ = NAME##_more(of_c_, c_ + i_, task_);                                         \
            of_d_ = NAME##_more(of_d_, d_ + i_, task_);                                         \
            of_e_ = NAME##_more(of_e_, e_ + i_, task_);                                         \
            of_f_ = NAME##_more(of_f_, f_ + i_, task_);                                         \
            of_g_ = NAME##_more(of_g_, g_ + i_, task_);                                         \
            of_h_ = NAME##_more(of_h_, h_ + i_, task_);                                         \
        }                                                                                       \
        for (i_ = 8 * part_; i_ < n_; i_++)                                                     \
            of_h_ = NAME##_more(of_h_, in_ + i_, task_);                                        \
        of_a_ = NAME##_both(NAME##_both(of_a_, of_b_, task_), NAME##_both(of_c_, of_d_, task_), \
                            task_);                                                             \
        of_e_ = NAME##_both(NAME##_both(of_e_, of_f_, task_), NAME##_both(of_g_, of_h_, task_), \
                            task_);                                                             \
        return NAME##_both(of_a_, of_e_, task_);                                                \
    }                                                                                           \
    static void NAME##_fold(const void *items_, size_t begin_, size_t end_, void *acc_,         \
                            bool more_, const twill_task *task_)                                \
    {                                                                                           \
        OUT *to_ = TWILL__CAST(OUT *, acc_);                                                    \
        OUT const sum_ =                                                                        \
            NAME##_folded(TWILL__CAST(IN const *, items_) + begin_, end_ - begin_, task_);      \
        *to_ = more_ ? NAME##_both(*to_, sum_, task_) : sum_;                                   \
    }

/* A twill__write_fn. */
#define TWILL__DEFINE_WRITE(NAME, TYPE)                                                  \
    static void NAME##_write(const void *items_, void *results_, size_t i_, size_t end_, \
                             void *acc_, bool inclusive_, const twill_task *task_)       \
    {                                                                                    \
        TYPE const *in_ = TWILL__CAST(TYPE const *, items_);                             \
        TYPE *out_ = TWILL__CAST(TYPE *, results_);                                      \
        TYPE sum_ = inclusive_ && i_ == 0 ? in_[0] : *TWILL__CAST(TYPE const *, acc_);   \
        if (inclusive_ && i_ == 0)                                                       \
            out_[i_++] = sum_;                                                           \
        if (inclusive_) {                                                                \
            for (; i_ < end_; i_++)                                                      \
                out_[i_] = sum_ = NAME##_both(sum_, in_[i_], task_);                     \
        } else {                                                                         \
            for (; i_ < end_; i_++) {                                                    \
                TYPE const item_ = in_[i_];                                              \
                out_[i_] = sum_;                                                         \
                sum_ = NAME##_both(sum_, item_, task_);                                  \
            }                                                                            \
        }                                                                                \
        *TWILL__CAST(TYPE *, acc_) = sum_;                                               \
    }

/* NAME_is, of an item: 1 or 0. No bool: gcc makes no vectors of those. */
#define TWILL__DEFINE_TEST(NAME, TYPE, VAR, EXPR)                                  \
    TWILL__INLINED unsigned char NAME##_is(TYPE const VAR, const twill_task *task) \
    {                                                                              \
        (void)VAR;                                                                 \
        (void)task;                                                                \
        return TWILL__CAST(unsigned char, EXPR ? 1 : 0);                           \
    }

/* 64 bytes, each 0 or 1, as one word: the multiplication gathers eight of them in its top byte. */
TWILL__INLINED uint64_t twill__word_of(const unsigned char *bytes)
{
#if defined __BYTE_ORDER__ && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    const uint64_t gather = 0x8040201008040201u;
#else
    const uint64_t gather = 0x0102040810204080u;
#endif
    uint64_t word = 0;
    for (unsigned k = 0; k < 64; k += 8) {
        uint64_t eight;
        memcpy(&eight, bytes + k, 8);
        word |= eight * gather >> 56 << k;
    }
    return word;
}

#endif

#define TWILL__SORT_LEAF     16 /* items sorted by merges of known length */
#define TWILL__SORT_STRIDE   16 /* items that are moved at once where the other side has none */
#define TWILL__SORT_INDIRECT 64 /* bytes of an item above which pointers are sorted */

typedef struct twill__sorting {
    twill_compare_fn *compare; /* NULL: it is compiled in */
    size_t size;               /* bytes of what is moved: an item, or a pointer to one */
    size_t n, run;             /* items; items a run, and a piece of a merge */
    size_t width;              /* items in each of the two runs of a merge */
    char *from, *to;           /* a merge's sides */
} twill__sorting;

/* Whether b, which stands behind a, belongs before it. */
typedef bool twill__after_fn(const twill__sorting *sort, const void *a, const void *b,
                             const twill_task *task);

/* What a sort needs of its items. run: sorts n items of x, with y as memory; the result is in y if
   into_y, else in x, and x holds all of them in any case. piece: the items begin .. begin + run - 1
   of a level's output. */
typedef struct twill__sorter {
    void (*run)(const twill__sorting *sort, char *x, char *y, size_t n, bool into_y,
                const twill_task *task);
    void (*piece)(const twill__sorting *sort, size_t begin, const twill_task *task);
} twill__sorter;

/* A call of memcpy would cost more than the copy. */
TWILL__INLINED void twill__copy_item(char *out, const char *in, size_t size)
{
    if (__builtin_constant_p(size)) {
        memcpy(out, in, size);
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

/* All bits if b belongs before a, else none. If a compiler knew that it is one of two, it might
   branch. */
TWILL__INLINED ptrdiff_t twill__after_mask(twill__after_fn *after, const twill__sorting *sort,
                                           const void *a, const void *b, const twill_task *task)
{
    ptrdiff_t right = -TWILL__CAST(ptrdiff_t, after(sort, a, b, task));
    __asm__("" : "+r"(right));
    return right;
}

/* The lower of *a and *b, which goes on behind it, becomes out. */
TWILL__INLINED void twill__take_low(twill__after_fn *after, const twill__sorting *sort,
                                    const char **a, const char **b, char *out, size_t size,
                                    const twill_task *task)
{
    ptrdiff_t right = twill__after_mask(after, sort, *a, *b, task);
    twill__copy_item(out, *a + ((*b - *a) & right), size);
    *b += TWILL__CAST(ptrdiff_t, size) & right;
    *a += TWILL__CAST(ptrdiff_t, size) & ~right;
}

/* The higher of what ends at *a and *b likewise. */
TWILL__INLINED void twill__take_high(twill__after_fn *after, const twill__sorting *sort,
                                     const char **a, const char **b, char *out, size_t size,
                                     const twill_task *task)
{
    ptrdiff_t left = twill__after_mask(after, sort, *a - size, *b - size, task);
    twill__copy_item(out, *b + ((*a - *b) & left) - size, size);
    *a -= TWILL__CAST(ptrdiff_t, size) & left;
    *b -= TWILL__CAST(ptrdiff_t, size) & ~left;
}

/* a .. a_end and b .. b_end become out. Both ends of it are written at once: two chains of loads
   and comparisons that do not wait for each other. The choice is arithmetic, since no branch
   predictor can know it. Items of one side that follow each other are moved many at a time. */
TWILL__INLINED void twill__merge(twill__after_fn *after, const twill__sorting *sort, const char *a,
                                 const char *a_end, const char *b, const char *b_end, char *out,
                                 size_t size, const twill_task *task)
{
    const size_t stride = TWILL__SORT_STRIDE * size;
    char *end = out + (a_end - a) + (b_end - b);
    while (a < a_end && b < b_end) {
        size_t a_left = TWILL__CAST(size_t, a_end - a), b_left = TWILL__CAST(size_t, b_end - b),
               steps;
        if (a_left >= stride && !after(sort, a + stride - size, b, task)) {
            memcpy(out, a, stride);
            a += stride;
            out += stride;
            continue;
        }
        if (b_left >= stride && after(sort, a, b + stride - size, task)) {
            memcpy(out, b, stride);
            b += stride;
            out += stride;
            continue;
        }
        /* each takes one at either end: the two never meet, whatever the comparison says */
        steps = (a_left < b_left ? a_left : b_left) / size / 2;
        if (steps > TWILL__SORT_STRIDE)
            steps = TWILL__SORT_STRIDE;
        for (size_t step = steps; step > 0; step--) {
            twill__take_low(after, sort, &a, &b, out, size, task);
            out += size;
            end -= size;
            twill__take_high(after, sort, &a_end, &b_end, end, size, task);
        }
        if (steps == 0) {
            twill__take_low(after, sort, &a, &b, out, size, task);
            out += size;
        }
    }
    if (a < a_end)
        memcpy(out, a, TWILL__CAST(size_t, a_end - a));
    else if (b < b_end)
        memcpy(out, b, TWILL__CAST(size_t, b_end - b));
}

/* Two sorted halves of a known length, from both ends: no step asks whether one of them is over. */
TWILL__INLINED void twill__merge_halves(twill__after_fn *after, const twill__sorting *sort,
                                        const char *in, char *out, size_t half, size_t size,
                                        const twill_task *task)
{
    const char *a = in, *b = in + half * size, *a_end = b, *b_end = b + half * size;
    char *to = out, *end = out + 2 * half * size;
    for (size_t step = 0; step < half; step++) {
        twill__take_low(after, sort, &a, &b, to, size, task);
        to += size;
        end -= size;
        twill__take_high(after, sort, &a_end, &b_end, end, size, task);
    }
    if (a != a_end) /* the comparison contradicts itself: yet no item may be lost */
        memcpy(out, in, 2 * half * size);
}

/* Fewer than a leaf. item: memory for one, as aligned as they are. */
TWILL__INLINED void twill__sort_few(twill__after_fn *after, const twill__sorting *sort, char *x,
                                    char *item, size_t n, size_t size, const twill_task *task)
{
    for (size_t i = 1; i < n; i++) {
        size_t at = i;
        if (!after(sort, x + (at - 1) * size, x + at * size, task))
            continue;
        twill__copy_item(item, x + at * size, size);
        do {
            twill__copy_item(x + at * size, x + (at - 1) * size, size);
            at--;
        } while (at > 0 && after(sort, x + (at - 1) * size, item, task));
        twill__copy_item(x + at * size, item, size);
    }
}

/* At most a leaf of x, with as many of y as memory; sorted in x. */
TWILL__INLINED void twill__sort_leaf(twill__after_fn *after, const twill__sorting *sort, char *x,
                                     char *y, size_t n, size_t size, const twill_task *task)
{
    size_t i = 1;
    if (n < TWILL__SORT_LEAF) {
        twill__sort_few(after, sort, x, y, n, size, task);
        return;
    }
    while (i < n && !after(sort, x + (i - 1) * size, x + i * size, task))
        i++;
    if (i == n)
        return;
    for (i = 0; i < n; i += 2) {
        const char *low = x + i * size, *high = low + size;
        ptrdiff_t swap =
            TWILL__CAST(ptrdiff_t, size) & twill__after_mask(after, sort, low, high, task);
        twill__copy_item(y + i * size, low + swap, size);
        twill__copy_item(y + (i + 1) * size, high - swap, size);
    }
    for (i = 0; i < n; i += 4)
        twill__merge_halves(after, sort, y + i * size, x + i * size, 2, size, task);
    for (i = 0; i < n; i += 8)
        twill__merge_halves(after, sort, x + i * size, y + i * size, 4, size, task);
    twill__merge_halves(after, sort, y, x, 8, size, task);
}

/* How many of the first d items of a merge come from a; lo and hi bound it, also where compare
   contradicts itself. */
TWILL__INLINED size_t twill__merge_split(twill__after_fn *after, const twill__sorting *sort,
                                         const char *a, const char *b, size_t d, size_t lo,
                                         size_t hi, size_t size, const twill_task *task)
{
    while (lo < hi) {
        size_t middle = lo + (hi - lo) / 2;
        if (after(sort, a + middle * size, b + (d - 1 - middle) * size, task))
            hi = middle;
        else
            lo = middle + 1;
    }
    return lo;
}

TWILL__INLINED void twill__merge_part(twill__after_fn *after, const twill__sorting *sort,
                                      size_t begin, size_t size, const twill_task *task)
{
    size_t first = begin / sort->width / 2 * 2 * sort->width, left = sort->n - first;
    size_t a_n = left < sort->width ? left : sort->width,
           b_n = left - a_n < sort->width ? left - a_n : sort->width;
    const char *a = sort->from + first * size, *b = a + a_n * size;
    size_t d = begin - first, d_end = a_n + b_n - d < sort->run ? a_n + b_n : d + sort->run, lo, hi;
    lo = twill__merge_split(after, sort, a, b, d, d > b_n ? d - b_n : 0, d < a_n ? d : a_n, size,
                            task);
    hi = d_end - d < a_n - lo ? lo + (d_end - d) : a_n;
    hi = twill__merge_split(after, sort, a, b, d_end,
                            d_end > b_n && d_end - b_n > lo ? d_end - b_n : lo, hi, size, task);
    twill__merge(after, sort, a + lo * size, a + hi * size, b + (d - lo) * size,
                 b + (d_end - hi) * size, sort->to + begin * size, size, task);
}

/* NAME_run and NAME_piece of a twill__sorter. */
#define TWILL__DEFINE_SORTER(NAME, AFTER, SIZE)                                                   \
    static void NAME##_run(const twill__sorting *sort_, char *x_, char *y_, size_t n_,            \
                           bool into_y_, const twill_task *task_)                                 \
    {                                                                                             \
        size_t size_ = (SIZE),                                                                    \
               half_ = (n_ / 2 + TWILL__SORT_LEAF - 1) / TWILL__SORT_LEAF * TWILL__SORT_LEAF;     \
        char *from_ = into_y_ ? x_ : y_, *to_ = into_y_ ? y_ : x_,                                \
             *middle_ = from_ + half_ * size_;                                                    \
        if (n_ <= TWILL__SORT_LEAF) {                                                             \
            twill__sort_leaf(AFTER, sort_, x_, y_, n_, size_, task_);                             \
            if (into_y_)                                                                          \
                memcpy(y_, x_, n_ *size_);                                                        \
            return;                                                                               \
        }                                                                                         \
        NAME##_run(sort_, x_, y_, half_, !into_y_, task_);                                        \
        NAME##_run(sort_, x_ + half_ * size_, y_ + half_ * size_, n_ - half_, !into_y_, task_);   \
        if (AFTER(sort_, middle_ - size_, middle_, task_))                                        \
            twill__merge(AFTER, sort_, from_, middle_, middle_, from_ + n_ * size_, to_, size_,   \
                         task_);                                                                  \
        else                                                                                      \
            memcpy(to_, from_, n_ *size_);                                                        \
    }                                                                                             \
    static void NAME##_piece(const twill__sorting *sort_, size_t begin_, const twill_task *task_) \
    {                                                                                             \
        twill__merge_part(AFTER, sort_, begin_, (SIZE), task_);                                   \
    }

#endif

/* TWILL_DEFINE_MAP(squares, int, int64_t, x, (int64_t)x * x) defines
       static twill_status squares(const int *in, int64_t *out, size_t n,
                                   const twill_parallel_options *options); */
#define TWILL_DEFINE_MAP(NAME, IN, OUT, VAR, EXPR)                                                 \
    struct NAME##_call {                                                                           \
        IN const *in;                                                                              \
        OUT *out;                                                                                  \
    };                                                                                             \
    static int NAME##_range(const void *call_, size_t begin_, size_t end_, const twill_task *task) \
    {                                                                                              \
        IN const *in_ = TWILL__CAST(const struct NAME##_call *, call_)->in;                        \
        OUT *out_ = TWILL__CAST(const struct NAME##_call *, call_)->out;                           \
        (void)task;                                                                                \
        for (size_t i_ = begin_; i_ < end_; i_++) {                                                \
            IN const VAR = in_[i_];                                                                \
            out_[i_] = (EXPR);                                                                     \
        }                                                                                          \
        return 0;                                                                                  \
    }                                                                                              \
    static inline twill_status NAME(IN const *in_, OUT *out_, size_t n_,                           \
                                    const twill_parallel_options *options_)                        \
    {                                                                                              \
        struct NAME##_call call_;                                                                  \
        call_.in = in_;                                                                            \
        call_.out = out_;                                                                          \
        const void *from_ = in_, *to_ = out_;                                                      \
        const bool valid_ = from_ && to_ && (from_ != to_ || sizeof(IN) == sizeof(OUT));           \
        return twill__parallel_typed(n_, valid_ ? NAME##_range : NULL, &call_, options_);          \
    }

/* TWILL_DEFINE_REDUCE(sum_of_squares, int, int64_t, x, (int64_t)x * x, a, b, a + b, 0) defines
       static twill_status sum_of_squares(const int *in, size_t n, int64_t *result,
                                          const twill_parallel_options *options);
   VALUE is that of one item, EXPR combines two values (associative is enough: a stands before b),
   NONE is the result where n is 0. Ordered: the same bits on any number of threads. Inside a block
   eight parts are folded side by side, for speed: other bits than those of a plain loop. */
#define TWILL_DEFINE_REDUCE(NAME, IN, OUT, VAR, VALUE, A, B, EXPR, NONE)                       \
    TWILL__DEFINE_FOLD(NAME, IN, OUT, VAR, (VALUE), A, B, (EXPR))                              \
    static int NAME##_none(void *acc_, const twill_task *task)                                 \
    {                                                                                          \
        OUT *to_ = TWILL__CAST(OUT *, acc_);                                                   \
        (void)task;                                                                            \
        *to_ = (NONE);                                                                         \
        return 0;                                                                              \
    }                                                                                          \
    static inline twill_status NAME(IN const *in_, size_t n_, OUT *result_,                    \
                                    const twill_parallel_options *options_)                    \
    {                                                                                          \
        static const twill_reducer reducer_ = {sizeof(OUT), NAME##_none, NULL, NAME##_combine, \
                                               NULL,        false,       0};                   \
        return twill__parallel_reduced(n_, &reducer_, in_, sizeof(IN), NAME##_fold, result_,   \
                                       options_);                                              \
    }

/* TWILL_DEFINE_SCAN(running_sums, int, a, b, a + b) defines
       static twill_status running_sums(const int *in, int *out, size_t n, const int *start,
                                        const twill_parallel_options *options);
   EXPR combines two elements, a standing before b. */
#define TWILL_DEFINE_SCAN(NAME, TYPE, A, B, EXPR)                                               \
    TWILL__DEFINE_FOLD(NAME, TYPE, TYPE, item_, item_, A, B, (EXPR))                            \
    TWILL__DEFINE_WRITE(NAME, TYPE)                                                             \
    static inline twill_status NAME(TYPE const *in_, TYPE *out_, size_t n_, TYPE const *start_, \
                                    const twill_parallel_options *options_)                     \
    {                                                                                           \
        return twill__parallel_scanned(in_, out_, sizeof(TYPE), n_, start_, NAME##_combine,     \
                                       NAME##_fold, NAME##_write, options_);                    \
    }

/* TWILL_DEFINE_FILTER(keep_even, int, x, x % 2 == 0) defines
       static twill_status keep_even(const int *in, size_t n, int *out, size_t *out_n,
                                     const twill_parallel_options *options); */
#define TWILL_DEFINE_FILTER(NAME, TYPE, VAR, EXPR)                                              \
    TWILL__DEFINE_TEST(NAME, TYPE, VAR, (EXPR))                                                 \
    static void NAME##_mark(const void *items_, size_t n_, uint64_t *words_,                    \
                            const twill_task *task_)                                            \
    {                                                                                           \
        TYPE const *in_ = TWILL__CAST(TYPE const *, items_);                                    \
        unsigned char kept_[64];                                                                \
        for (; n_ >= 64; n_ -= 64, in_ += 64) {                                                 \
            for (unsigned k_ = 0; k_ < 64; k_++)                                                \
                kept_[k_] = NAME##_is(in_[k_], task_);                                          \
            *words_++ = twill__word_of(kept_);                                                  \
        }                                                                                       \
        if (n_) {                                                                               \
            uint64_t word_ = 0;                                                                 \
            for (size_t k_ = 0; k_ < n_; k_++)                                                  \
                word_ |= TWILL__CAST(uint64_t, NAME##_is(in_[k_], task_)) << k_;                \
            *words_ = word_;                                                                    \
        }                                                                                       \
    }                                                                                           \
    static inline twill_status NAME(TYPE const *in_, size_t n_, TYPE *out_, size_t *out_n_,     \
                                    const twill_parallel_options *options_)                     \
    {                                                                                           \
        return twill__parallel_filtered(in_, sizeof(TYPE), n_, out_, out_n_, NULL, NAME##_mark, \
                                        options_);                                              \
    }

/* TWILL_DEFINE_FIND(first_negative, int, x, x < 0) defines
       static twill_status first_negative(const int *in, size_t n, size_t *index,
                                          const twill_parallel_options *options);
   EXPR may be asked twice of an item, and of some above the match. */
#define TWILL_DEFINE_FIND(NAME, TYPE, VAR, EXPR)                                                   \
    TWILL__DEFINE_TEST(NAME, TYPE, VAR, (EXPR))                                                    \
    static size_t NAME##_first(const void *items_, size_t i_, size_t end_,                         \
                               const twill_task *task_)                                            \
    {                                                                                              \
        TYPE const *in_ = TWILL__CAST(TYPE const *, items_);                                       \
        for (; end_ - i_ >= TWILL__FIND_STRIDE; i_ += TWILL__FIND_STRIDE) {                        \
            unsigned any_ = 0;                                                                     \
            for (unsigned k_ = 0; k_ < TWILL__FIND_STRIDE; k_++)                                   \
                any_ |= NAME##_is(in_[i_ + k_], task_);                                            \
            if (any_)                                                                              \
                break;                                                                             \
        }                                                                                          \
        while (i_ < end_ && !NAME##_is(in_[i_], task_))                                            \
            i_++;                                                                                  \
        return i_;                                                                                 \
    }                                                                                              \
    static inline twill_status NAME(TYPE const *in_, size_t n_, size_t *index_,                    \
                                    const twill_parallel_options *options_)                        \
    {                                                                                              \
        return twill__parallel_found(in_, sizeof(TYPE), n_, index_, NULL, NAME##_first, options_); \
    }

/* TWILL_DEFINE_SORT(sort_by_age, person, a, b, a.age < b.age) defines
       static twill_status sort_by_age(person *base, size_t n,
                                       const twill_parallel_options *options);
   EXPR says whether a belongs before b. */
#define TWILL_DEFINE_SORT(NAME, TYPE, A, B, EXPR)                                                 \
    TWILL__INLINED bool NAME##_after(const twill__sorting *sort_, const void *a_, const void *b_, \
                                     const twill_task *task)                                      \
    {                                                                                             \
        const bool far_ = sizeof(TYPE) > TWILL__SORT_INDIRECT;                                    \
        TYPE const A =                                                                            \
            *TWILL__CAST(TYPE const *, far_ ? *TWILL__CAST(const void *const *, b_) : b_);        \
        TYPE const B =                                                                            \
            *TWILL__CAST(TYPE const *, far_ ? *TWILL__CAST(const void *const *, a_) : a_);        \
        (void)sort_;                                                                              \
        (void)task;                                                                               \
        return (EXPR);                                                                            \
    }                                                                                             \
    TWILL__DEFINE_SORTER(NAME, NAME##_after,                                                      \
                         sizeof(TYPE) > TWILL__SORT_INDIRECT ? sizeof(char *) : sizeof(TYPE))     \
    static inline twill_status NAME(TYPE *base_, size_t n_,                                       \
                                    const twill_parallel_options *options_)                       \
    {                                                                                             \
        static const twill__sorter sorter_ = {NAME##_run, NAME##_piece};                          \
        return twill__parallel_sorted(base_, n_, sizeof(TYPE), &sorter_, NULL, options_);         \
    }

/* For the macros above. */
TWILL__DECL twill_status twill__parallel_typed(size_t n, twill__typed_fn *fn, const void *call,
                                               const twill_parallel_options *options);
TWILL__DECL twill_status twill__parallel_reduced(size_t n, const twill_reducer *reducer,
                                                 const void *in, size_t size, twill__fold_fn *fold,
                                                 void *result,
                                                 const twill_parallel_options *options);
TWILL__DECL twill_status twill__parallel_scanned(const void *in, void *out, size_t size, size_t n,
                                                 const void *start, twill_combine_fn *combine,
                                                 twill__fold_fn *fold, twill__write_fn *write,
                                                 const twill_parallel_options *options);
TWILL__DECL twill_status twill__parallel_filtered(const void *in, size_t size, size_t n, void *out,
                                                  size_t *out_n, twill_test_fn *keep,
                                                  twill__mark_fn *mark,
                                                  const twill_parallel_options *options);
TWILL__DECL twill_status twill__parallel_found(const void *in, size_t size, size_t n, size_t *index,
                                               twill_test_fn *match, twill__first_fn *first,
                                               const twill_parallel_options *options);
TWILL__DECL twill_status twill__parallel_sorted(void *base, size_t n, size_t size,
                                                const twill__sorter *sorter,
                                                twill_compare_fn *compare,
                                                const twill_parallel_options *options);

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

/* Apart: a tiny call needs no such frame. */
static __attribute__((noinline)) twill_status
twill__run_sweep(size_t n, twill__body_fn *body, void *data, bool whole,
                 const twill_parallel_options *options)
{
    twill__sweep loop;
    twill__sweep_init(&loop, n, body, data, options);
    loop.pass.whole = whole;
    return twill__start(options, n, false, twill__sweep_steps, &loop, &loop.cuts);
}

/* key: the user's function */
static inline twill_status twill__run_loop(size_t n, uintptr_t key, twill__body_fn *body,
                                           void *data, bool whole,
                                           const twill_parallel_options *options)
{
    if (n && options->schedule == TWILL_SCHEDULE_AUTO && !options->chunk &&
        twill__has_no_wishes(&options->run))
        return twill__run_brief(&options->run, n, key, body, data, whole);
    return twill__run_sweep(n, body, data, whole, options);
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
        int code;
        do {
            task->index = i;
            code = one(data, task);
            i++;
        } while (!twill__loop_odd(me, code) && i < look);
        if (!twill__loop_goes_on(&loop, i - 1, code))
            end = i;
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
    return twill__run_loop(n, (uintptr_t)fn, twill__map_body, &map, false, options);
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
    return twill__run_loop(n, (uintptr_t)fn, twill__for_body, &loop, false, options);
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

#ifndef TWILL__PIECE /* the explorer wants less */
#define TWILL__PIECE 16
#endif

/* A chunk of a loop that is compiled in, in pieces, each of them one range for its callback. AUTO's
   chunks last 10 us as they are; others are cut here, by the clock, from TWILL__PIECE items on. */
typedef struct twill__pieces {
    twill__job *job;
    twill__slot *me;
    twill_task *task;
    size_t size; /* items of the next one; 0: all */
    twill_ns since;
} twill__pieces;

static inline twill__pieces twill__pieces_of(twill__job *job, twill_task *task, size_t begin,
                                             size_t end)
{
    bool whole = (twill__is_timed(job->schedule) && !job->chunk) || end - begin <= TWILL__PIECE;
    twill__pieces pieces = {job, &job->slot[task->worker], task, whole ? 0 : TWILL__PIECE, 0};
    pieces.me->from = end; /* see twill__thread_ended */
    return pieces;
}

/* How long the next one is to be. False: the call is over. */
static inline bool twill__piece_size(twill__pieces *pieces)
{
    twill_ns now = twill__clock_now(), took = now - pieces->since;
    if (twill__stopped(pieces->job, now))
        return false;
    if (pieces->since && took < TWILL__CHUNK_NS / 2 && pieces->size <= SIZE_MAX / 2)
        pieces->size *= 2;
    else if (pieces->since && took > 2 * TWILL__CHUNK_NS && pieces->size > 1)
        pieces->size /= 2;
    pieces->since = now;
    return true;
}

/* To where the piece goes that begins at item `at`; `at`: none is wanted any more. */
static inline size_t twill__piece(twill__pieces *pieces, size_t at, size_t end)
{
    size_t to = end;
    if (at >= end || !twill__may_run(pieces->job, at) ||
        (pieces->size && !twill__piece_size(pieces))) {
        pieces->me->from = SIZE_MAX;
        return at;
    }
    if (pieces->size && pieces->size < end - at)
        to = at + pieces->size;
    pieces->task->index = at;
    pieces->me->end = to; /* a stop takes effect there, and what follows can be handed back */
    return to;
}

static inline void twill__piece_ended(twill__pieces *pieces, size_t at, size_t to)
{
    twill__range_end(pieces->job, pieces->me, SIZE_MAX, at, to, 0);
}

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
    twill__ranges ranges;
    ranges.fn = fn; /* all that twill__range_body reads */
    options = twill__parallel_options(options);
    if (!fn || !twill__parallel_valid(options))
        return twill__refuse(&options->run, n, TWILL_INVALID);
    return twill__run_loop(n, (uintptr_t)fn, twill__range_body, &ranges, true, options);
}

TWILL__DEFINE twill_status twill__parallel_typed(size_t n, twill__typed_fn *fn, const void *call,
                                                 const twill_parallel_options *options)
{
    twill__ranges ranges;
    ranges.typed = fn; /* and `call`: all that twill__typed_body reads */
    ranges.call = call;
    options = twill__parallel_options(options);
    if ((!fn && n) || !twill__parallel_valid(options))
        return twill__refuse(&options->run, n, TWILL_INVALID);
    return twill__run_loop(n, (uintptr_t)fn, twill__typed_body, &ranges, true, options);
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
    return twill__run_loop(n, (uintptr_t)tiles.fn, twill__tile_body, &tiles, false, options);
}

/* ---- find ---- */

typedef struct twill__find {
    const char *in;
    size_t size;
    twill_test_fn *match;
    twill__first_fn *first; /* typed: instead of match */
    _Atomic size_t found;   /* the lowest match so far */
    size_t stop_at;         /* the lowest twill_task_stop: the serial loop got no further */
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
            if (!twill__loop_goes_on(&loop, i, 0) || found)
                end = look = i + 1;
            i++;
        }
    }
    twill__loop_end(me, i);
}

static inline void twill__first_body(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    twill__find *find = (twill__find *)job->data;
    twill__pieces pieces = twill__pieces_of(job, task, begin, end);
    for (size_t at = begin, to; (to = twill__piece(&pieces, at, end)) > at; at = to) {
        size_t first = find->first(find->in, at, to, task);
        if (first < to) {
            twill__found(find, job, first);
            end = to = first + 1;
        }
        twill__piece_ended(&pieces, at, to);
    }
}

/* Whether there is a match, all items below it have run, and none of them gave up. */
static inline bool twill__find_is_sure(twill__job *job, const twill__find *find, size_t n)
{
    size_t skipped = 0;
    /* relaxed: after the join */
    if (atomic_load_explicit(&find->found, memory_order_relaxed) == n ||
        atomic_load_explicit(&job->stop, memory_order_relaxed) || twill__left_alone(job))
        return false;
    for (unsigned worker = 0; worker < job->np; worker++)
        if (atomic_load_explicit(&job->ready[worker / 64], memory_order_relaxed) &
            twill__bit(worker))
            skipped += job->slot[worker].skipped;
    return skipped == 0;
}

static inline void twill__find_steps(twill__job *job, void *data)
{
    twill__sweep *loop = (twill__sweep *)data;
    twill__sweep_pass(job, loop);
    ((twill__find *)loop->pass.data)->stop_at =
        atomic_load_explicit(&job->stop_at, memory_order_seq_cst);
    if (twill__find_is_sure(job, (const twill__find *)loop->pass.data, loop->pass.n))
        job->may_end = false; /* token and deadline come too late: twill__answer does not look */
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

TWILL__DEFINE twill_status twill__parallel_found(const void *in, size_t size, size_t n,
                                                 size_t *index, twill_test_fn *match,
                                                 twill__first_fn *first,
                                                 const twill_parallel_options *options)
{
    twill__find find = {(const char *)in, size, match, first, n, SIZE_MAX};
    twill__sweep loop;
    twill_status status = twill__items_check(in, size, n);
    options = twill__parallel_options(options);
    if ((!match && !first) || !index || !twill__parallel_valid(options))
        status = TWILL_INVALID;
    if (index)
        *index = n;
    if (status != TWILL_OK)
        return twill__refuse(&options->run, n, status);
    twill__sweep_init(&loop, n, first ? twill__first_body : twill__find_body, &find, options);
    loop.pass.whole = first != NULL;
    if (options->schedule == TWILL_SCHEDULE_AUTO && !options->chunk)
        loop.pass.schedule = TWILL__FRONT;
    status = twill__start(options, n, false, twill__find_steps, &loop, &loop.cuts);
    /* relaxed: all have left, the join ordered it */
    *index = atomic_load_explicit(&find.found, memory_order_relaxed);
    if (*index > find.stop_at)
        *index = n;
    return status;
}

TWILL__DEFINE twill_status twill_parallel_find(const void *in, size_t size, size_t n, size_t *index,
                                               twill_test_fn *match,
                                               const twill_parallel_options *options)
{
    return twill__parallel_found(in, size, n, index, match, NULL, options);
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
    size_t ended = 0, own = job->slot[0].done + job->slot[0].failed;
    for (unsigned worker = 0; worker < job->np; worker++) {
        const twill__slot *slot = &job->slot[worker];
        if (!(atomic_load_explicit(&job->ready[worker / 64], memory_order_seq_cst) &
              twill__bit(worker)))
            continue;
        if (slot->failed && slot->low <= stop_at)
            return false;
        ended += slot->done + slot->failed;
    }
    if (own != total && twill__left_alone(job)) /* as in twill__answer */
        return false;
    return ended == total ? stop != TWILL_FAILED /* FIRST, LIMIT: FAILED in any case */
                          : !stop;
}

/* After the last pass over the items, before a result is given: likewise. If items were skipped,
   and the token has fired or the deadline passed by now, they may have given up because of it; if
   not by now, it comes too late. */
static inline bool twill__ends_well(twill__job *job, size_t total)
{
    /* relaxed: after the join */
    if (job->may_end && atomic_load_explicit(&job->stop_at, memory_order_relaxed) == SIZE_MAX)
        (void)twill__stopped(job, twill__clock_now());
    if (!twill__all_well(job, total))
        return false;
    job->may_end = false; /* twill__answer does not look again */
    job->settled = true;
    return true;
}

/* Between passes, if a callback has said stop: what lies below goes on, and a combine that looks
   must not find itself told to give up. */
static inline void twill__go_on_below(twill__job *job)
{
    /* relaxed: nobody else is here */
    if (atomic_load_explicit(&job->stop_at, memory_order_relaxed) == SIZE_MAX)
        return;
    atomic_store_explicit(&job->limit, SIZE_MAX, memory_order_relaxed);
    twill__renew(&job->slot[0], SIZE_MAX);
}

/* A pass after the last item is done, when token and deadline come too late: it runs to its end. */
static inline void twill__run_deaf(twill__job *job, const twill__pass *pass)
{
    /* nobody else is here; opening publishes */
    memset(&job->until, 0, sizeof job->until);
    atomic_store_explicit(&job->stop, 0, memory_order_relaxed);
    twill__run_pass(job, pass);
    job->until = job->run->until;
}

/* Whether block k of a pass over blocks is to be run. */
static inline bool twill__block_may_run(twill__job *job, size_t k)
{
    bool dated = job->may_end && !twill__no_deadline(job->until.deadline);
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
/* typed: items that are folded at once. No multiple of 512: the eight places where that reads
   must not fall into one set of a cache */
#define TWILL__REDUCE_PIECE  4000
#define TWILL__REDUCE_SERIAL 20 /* us of combining that nobody is called for */

enum { TWILL__ACC_NONE, TWILL__ACC_MADE, TWILL__ACC_FULL };

typedef struct twill__reduce {
    const twill_reducer *reducer;
    const twill_parallel_options *options;
    const void *in; /* typed: the items, and what folds them instead of reducer->fold */
    twill__fold_fn *fold;
    void *result;
    size_t n, blocks, each; /* items a block */
    size_t group, levels;   /* blocks at once, a power of 2; accumulators on the counter */
    size_t at, count;       /* first block and size of the group that runs */
    size_t stride;
    char *acc;            /* [group + levels] */
    unsigned char *state; /* [group + levels] */
    char *memory;         /* what was allocated, or NULL */
    twill__cut *cuts;
    twill__home home; /* the process that began it, if there is `dispose` */
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

/* In a forked child a helper is in the middle of its own for ever: those are left alone. */
static inline void twill__acc_drop_all(twill__reduce *reduce, const twill_task *task)
{
    const twill_reducer *reducer = reduce->reducer;
    bool child = reducer->dispose && !twill__at_home(reduce->home);
    for (size_t k = 0; reducer->dispose && k < reduce->group + reduce->levels; k++)
        if (!child || (reducer->unordered ? k == 0 : reduce->state[k] == TWILL__ACC_FULL))
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

/* False: the call ended meanwhile. */
static inline bool twill__reduce_pieces(twill__job *job, const twill__reduce *reduce, size_t from,
                                        size_t to, void *acc, const twill_task *task)
{
    for (size_t at = from, next; at < to; at = next) {
        next = to - at < TWILL__REDUCE_PIECE ? to : at + TWILL__REDUCE_PIECE;
        reduce->fold(reduce->in, at, next, acc, at != from, task);
        if (next < to && job->may_end && twill__stopped(job, twill__clock_now()))
            return false;
    }
    return true;
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
            if (!reduce->fold)
                code = reducer->fold(acc, from, to, task);
            else if (!twill__reduce_pieces(job, reduce, from, to, acc, task))
                break;
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
    int code;
    /* a child forked meanwhile leaves both alone */
    reduce->state[left] = reduce->state[right] = TWILL__ACC_MADE;
    code = reduce->reducer->combine(twill__acc(reduce, left), twill__acc(reduce, right), task);
    twill__acc_drop(reduce, right, task);
    reduce->state[left] = TWILL__ACC_FULL;
    me->said = 0;
    if (!code)
        return true;
    me->done--; /* may go below 0: only the sum over the workers counts */
    twill__item_failed(job, me, at, item, TWILL_FAILED, code);
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
    twill__slot *me = &job->slot[task->worker];
    twill_task outside = *task; /* a combine is in no item */
    for (size_t k = begin; k < end && twill__may_run(job, k); k++) {
        size_t from = (k + 1) * TWILL__REDUCE_TREE, to = from + TWILL__REDUCE_TREE;
        /* should a combine end the thread, this one, counted as done, is LOST */
        task->index = twill__reduce_item(reduce, from);
        me->done--;
        (void)twill__reduce_tree(job, reduce, from, to < reduce->count ? to : reduce->count, 1, k,
                                 &outside);
        me->done++;
    }
    task->index = SIZE_MAX;
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
        bool alone = twill__left_alone(job);
        twill__pass pass = {
            .n = (count - 1) / tree, .body = twill__reduce_trees, .data = reduce, .forced = true};
        pass.first = twill__reduce_item(reduce, tree);
        pass.unit = reduce->each > SIZE_MAX / tree ? SIZE_MAX : reduce->each * tree;
        twill__run_deaf(job, &pass);
        if (!alone && twill__left_alone(job))
            /* a child, forked here: trees are missing, even if it has folded all items itself */
            job->slot[0].done--;
        if (!twill__all_well(job, reduce->n)) /* also if a combine has failed */
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
        if (!twill__all_well(job, reduce->n))
            return false;
        twill__go_on_below(job);
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

/* The two last digits of the counter become one. right: so many groups are in the last one, of all
   `groups` that have come. */
static inline bool twill__reduce_carry(twill__job *job, twill__reduce *reduce, size_t top,
                                       size_t groups, size_t right, twill_task *task)
{
    return twill__acc_combine(job, reduce, top - 2, top - 1, 0,
                              (groups - right) * reduce->group * reduce->each, task);
}

static inline size_t twill__low_bit(size_t word)
{
    return word & (~word + 1);
}

/* A group that has failed is gone. Whether those that follow are folded all the same, so that all
   errors are seen. */
static inline bool twill__reduce_goes_on(twill__job *job, twill__reduce *reduce,
                                         const twill_task *task)
{
    if (job->policy != TWILL_ON_ERROR_COLLECT || twill__left_alone(job))
        return false;
    for (size_t k = 0; k < reduce->count; k++)
        twill__acc_drop(reduce, k, task);
    return true;
}

static inline bool twill__reduce_run(twill__job *job, twill__reduce *reduce, twill_task *task)
{
    size_t top = reduce->group, groups = 0; /* the counter's digits lie behind the group */
    bool last = false, failed = false;
    if (reduce->group == 1)
        twill__run_alone(job);
    for (reduce->at = 0; reduce->at < reduce->blocks && !last; reduce->at += reduce->group) {
        size_t left = reduce->blocks - reduce->at;
        reduce->count = left < reduce->group ? left : reduce->group;
        if (!twill__reduce_fold(job, reduce, task, &last) || failed ||
            !twill__reduce_group(job, reduce, task)) {
            if (!twill__reduce_goes_on(job, reduce, task))
                return false;
            failed = true;
            continue;
        }
        if (reduce->levels == 0)
            break;
        twill__acc_move(reduce, 0, top++);
        groups++;
        for (size_t bit = 1; !(groups & bit); bit *= 2, top--) /* exit: groups > 0 */
            if (!twill__reduce_carry(job, reduce, top, groups, bit, task))
                return false;
    }
    if (failed)
        return false;
    for (size_t right = twill__low_bit(groups); top > reduce->group + 1; top--) {
        if (!twill__reduce_carry(job, reduce, top, groups, right, task))
            return false;
        right += twill__low_bit(groups - right);
    }
    if (reduce->levels)
        twill__acc_move(reduce, reduce->group, 0);
    if (!twill__ends_well(job, reduce->n))
        return false;
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
    if (!twill__ends_well(job, reduce->n))
        return false;
    twill__go_on_below(job);
    while (reduce->state[first] == TWILL__ACC_NONE)
        first++; /* exit: the items that it ended well with are in some of them */
    for (size_t k = first + 1; k < reduce->group; k++)
        if (reduce->state[k] != TWILL__ACC_NONE &&
            !twill__acc_combine(job, reduce, first, k, 0, 0, task))
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
    twill__make_plan(&plan, twill__thread(), run, run->workers, n);
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
    return reducer && result && reducer->combine && (reducer->size || !n) &&
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

TWILL__DEFINE twill_status twill__parallel_reduced(size_t n, const twill_reducer *reducer,
                                                   const void *in, size_t size,
                                                   twill__fold_fn *fold, void *result,
                                                   const twill_parallel_options *options)
{
    _Alignas(TWILL__LINE) char small[TWILL__REDUCE_SMALL];
    twill__reduce reduce;
    twill__steps_fn *steps;
    twill_status status;
    options = twill__parallel_options(options);
    status = fold ? twill__items_check(in, size, n) : TWILL_OK;
    if (!twill__reduce_valid(n, reducer, result, options) || (!fold && !reducer->fold))
        status = TWILL_INVALID;
    if (status == TWILL_OK)
        status = twill__check_run(&options->run);
    if (status != TWILL_OK)
        return twill__refuse(&options->run, n, status);
    if (n == 0)
        return twill__reduce_nothing(reducer, result, &options->run);
    steps = reducer->unordered ? twill__unordered_steps : twill__reduce_steps;
    reduce.reducer = reducer;
    reduce.options = options;
    reduce.in = in;
    reduce.fold = fold;
    reduce.result = result;
    reduce.n = n;
    twill__reduce_cut(&reduce);
    if (reducer->dispose)
        reduce.home = twill__home_here();
    if (!twill__reduce_memory(&reduce, small, sizeof small))
        return twill__refuse(&options->run, n, TWILL_NO_MEMORY);
    if (reduce.memory || reducer->dispose)
        return twill__reduce_guarded(&reduce, steps);
    return twill__start(options, n, true, steps, &reduce, &reduce.cuts);
}

TWILL__DEFINE twill_status twill_parallel_reduce(size_t n, const twill_reducer *reducer,
                                                 void *result,
                                                 const twill_parallel_options *options)
{
    return twill__parallel_reduced(n, reducer, NULL, 0, NULL, result, options);
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
    twill__mark_fn *mark; /* typed: instead of keep */
    const twill_parallel_options *options;
    _Atomic uint64_t *bits; /* [(n + 63) / 64] */
    size_t *counts;         /* [blocks]: items that are kept; then the place of the first */
    size_t at;              /* first block of the wave that runs */
    char *memory;
    twill__cut *cuts;
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
            if (!twill__loop_goes_on(&loop, i, 0))
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

static inline void twill__filter_mark(twill__filter *filter, size_t at, size_t end,
                                      const twill_task *task)
{
    uint64_t words[8];
    while (at < end) {
        size_t to = at % 64 ? at + (64 - at % 64) : end - at > 512 ? at + 512 : end, word = 0;
        if (to > end)
            to = end;
        filter->mark(filter->in + at * filter->size, to - at, words, task);
        for (size_t next; at < to; at = next) {
            next = to - at < 64 - at % 64 ? to : at + (64 - at % 64);
            twill__filter_put(filter, at, next, words[word++] << at % 64);
        }
    }
}

static inline void twill__filter_marks(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    twill__pieces pieces = twill__pieces_of(job, task, begin, end);
    for (size_t at = begin, to; (to = twill__piece(&pieces, at, end)) > at; at = to) {
        twill__filter_mark((twill__filter *)job->data, at, to, task);
        twill__piece_ended(&pieces, at, to);
    }
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
    twill__sweep_init(&loop, filter->n, filter->mark ? twill__filter_marks : twill__filter_body,
                      filter, filter->options);
    loop.pass.whole = filter->mark != NULL;
    loop.cuts = filter->cuts;
    twill__sweep_pass(job, &loop);
    if (!twill__ends_well(job, filter->n)) {
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
            twill__run_deaf(job, &pass);
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

TWILL__DEFINE twill_status twill__parallel_filtered(const void *in, size_t size, size_t n,
                                                    void *out, size_t *out_n, twill_test_fn *keep,
                                                    twill__mark_fn *mark,
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
    filter.mark = mark;
    filter.kept = filter.at = 0;
    if ((!keep && !mark) || !out_n || !twill__parallel_valid(options))
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

TWILL__DEFINE twill_status twill_parallel_filter(const void *in, size_t size, size_t n, void *out,
                                                 size_t *out_n, twill_test_fn *keep,
                                                 const twill_parallel_options *options)
{
    return twill__parallel_filtered(in, size, n, out, out_n, keep, NULL, options);
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
    twill__fold_fn *fold; /* typed: instead of combine inside of blocks */
    twill__write_fn *write;
    const twill_parallel_options *options;
    size_t blocks, each;  /* items a block */
    size_t at;            /* first block of the pass */
    unsigned workers;     /* that there is memory for */
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

/* The same of a typed scan. Nothing can fail. */
static inline int twill__scan_typed(const twill__scan *scan, bool write, size_t *at, size_t to,
                                    char *acc, const twill_task *task)
{
    size_t size = scan->size, last = scan->n - 1;
    if (!write) {
        scan->fold(scan->in, *at, to, acc, false, task);
    } else if (!scan->start || to != scan->n) {
        scan->write(scan->in, scan->out, *at, to, acc, !scan->start, task);
    } else { /* exclusive: nobody asks for the sum of all, and it may overflow */
        scan->write(scan->in, scan->out, *at, last, acc, false, task);
        memcpy(scan->out + last * size, acc, size);
    }
    *at = to;
    return 0;
}

static inline int twill__scan_block(const twill__scan *scan, bool write, size_t *at, size_t to,
                                    char *acc, char *spare, const twill_task *task)
{
    if (scan->fold)
        return twill__scan_typed(scan, write, at, to, acc, task);
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
    _Alignas(TWILL__LINE) char local[2 * TWILL__SCAN_LOCAL];
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
    _Alignas(TWILL__LINE) char local[2 * TWILL__SCAN_LOCAL];
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
    _Alignas(TWILL__LINE) char local[TWILL__SCAN_LOCAL];
    char *spare = scan->work ? scan->work : local;
    twill_task task;
    twill__task_init(job, 0, &task);
    for (size_t block = scan->at; block < need; block++) {
        char *sum = scan->sum + block * scan->size;
        int code = 0;
        /* all is well: they ran */
        TWILL_ASSERT(scan->state[block] == TWILL__SCAN_SUMMED || block == scan->blocks - 1);
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
    if (scan->work && scan->workers < job->np) /* the pool has grown meanwhile */
        twill__run_alone(job);
    twill__run_pass(job, &pass);
    if (!twill__all_well(job, scan->n)) /* also if the last block is missing because of it */
        return;
    stop_at = atomic_load_explicit(&job->stop_at, memory_order_relaxed); /* after the join */
    if (stop_at != SIZE_MAX)
        need = twill__place_of(job, stop_at) + 1;
    twill__go_on_below(job);
    scan->at = atomic_load_explicit(&scan->front, memory_order_relaxed);
    if (scan->at >= need || !twill__scan_carry(job, scan, need))
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
    const twill_until *until = &scan->options->run.until;
    /* one where nobody could help and nothing end it */
    bool whole = np == 1 && !until->cancel && !until->deadline &&
                 scan->options->schedule == TWILL_SCHEDULE_AUTO;
    size_t blocks = whole ? 1 : scan->n < 16384 ? 64 : 256;
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
    scan->workers = np;
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

TWILL__DEFINE twill_status twill__parallel_scanned(const void *in, void *out, size_t size, size_t n,
                                                   const void *start, twill_combine_fn *combine,
                                                   twill__fold_fn *fold, twill__write_fn *write,
                                                   const twill_parallel_options *options)
{
    _Alignas(TWILL__LINE) char small[TWILL__SCAN_SMALL];
    twill__scan scan = {
        .in = (const char *)in, .out = (char *)out, .size = size, .n = n, .start = start};
    twill_status status = twill__items_check(in, size, n);
    scan.combine = combine;
    scan.fold = fold;
    scan.write = write;
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

TWILL__DEFINE twill_status twill_parallel_scan(const void *in, void *out, size_t size, size_t n,
                                               const void *start, twill_combine_fn *combine,
                                               const twill_parallel_options *options)
{
    return twill__parallel_scanned(in, out, size, n, start, combine, NULL, NULL, options);
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

#define TWILL__SORT_SMALL 1024 /* bytes on the caller's stack */

typedef struct twill__sort {
    twill__sorting items;
    const twill__sorter *sorter;
    char *base, *spare; /* spare: as large as base */
    char *pointers;     /* NULL, or two arrays of n; spare is then used at the end only */
    size_t size;        /* bytes of an item */
    size_t runs;        /* and pieces of a merge */
    const twill_parallel_options *options;
    _Atomic size_t ended; /* runs or pieces of the pass */
    char *memory;
} twill__sort;

TWILL__INLINED bool twill__compared(const twill__sorting *sort, const void *a, const void *b,
                                    const twill_task *task)
{
    return sort->compare(a, b, task) > 0;
}

TWILL__INLINED bool twill__compared_far(const twill__sorting *sort, const void *a, const void *b,
                                        const twill_task *task)
{
    return sort->compare(*(const void *const *)a, *(const void *const *)b, task) > 0;
}

/* For each size that is worth it, with the size as a constant. */
TWILL__DEFINE_SORTER(twill__sort_4, twill__compared, 4)
TWILL__DEFINE_SORTER(twill__sort_8, twill__compared, 8)
TWILL__DEFINE_SORTER(twill__sort_16, twill__compared, 16)
TWILL__DEFINE_SORTER(twill__sort_32, twill__compared, 32)
TWILL__DEFINE_SORTER(twill__sort_64, twill__compared, 64)
TWILL__DEFINE_SORTER(twill__sort_any, twill__compared, sort_->size)
TWILL__DEFINE_SORTER(twill__sort_far, twill__compared_far, sizeof(char *))

static inline const twill__sorter *twill__sort_choose(size_t size)
{
    static const twill__sorter of_4 = {twill__sort_4_run, twill__sort_4_piece},
                               of_8 = {twill__sort_8_run, twill__sort_8_piece},
                               of_16 = {twill__sort_16_run, twill__sort_16_piece},
                               of_32 = {twill__sort_32_run, twill__sort_32_piece},
                               of_64 = {twill__sort_64_run, twill__sort_64_piece},
                               of_any = {twill__sort_any_run, twill__sort_any_piece},
                               far = {twill__sort_far_run, twill__sort_far_piece};
    return size > TWILL__SORT_INDIRECT ? &far
           : size == 4                 ? &of_4
           : size == 8                 ? &of_8
           : size == 16                ? &of_16
           : size == 32                ? &of_32
           : size == 64                ? &of_64
                                       : &of_any;
}

static inline void twill__sort_runs(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    twill__sort *sort = (twill__sort *)job->data;
    size_t size = sort->items.size, k = begin;
    for (; k < end && twill__block_may_run(job, k); k++) {
        size_t first = k * sort->items.run, n = sort->items.n - first < sort->items.run
                                                    ? sort->items.n - first
                                                    : sort->items.run;
        char *x = sort->items.from + first * size;
        task->index = first;
        if (sort->pointers)
            for (size_t i = 0; i < n; i++) {
                const char *item = sort->base + (first + i) * sort->size;
                memcpy(x + i * sizeof item, &item, sizeof item);
            }
        sort->sorter->run(&sort->items, x, sort->items.to + first * size, n, false, task);
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
        task->index = k * sort->items.run;
        sort->sorter->piece(&sort->items, task->index, task);
    }
    task->index = SIZE_MAX;
    job->slot[task->worker].said = 0;
    atomic_fetch_add_explicit(&sort->ended, k - begin,
                              memory_order_relaxed); /* read after the join */
}

/* Pointers are in order: the items follow them to spare, and then back. */
static inline void twill__sort_gather(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    twill__sort *sort = (twill__sort *)job->data;
    size_t k = begin;
    (void)task;
    for (; k < end && twill__block_may_run(job, k); k++) {
        size_t i = k * sort->items.run,
               last = sort->items.n - i < sort->items.run ? sort->items.n : i + sort->items.run;
        for (; i < last; i++) {
            const char *item;
            memcpy(&item, sort->items.from + i * sizeof item, sizeof item);
            memcpy(sort->spare + i * sort->size, item, sort->size);
        }
    }
    atomic_fetch_add_explicit(&sort->ended, k - begin,
                              memory_order_relaxed); /* read after the join */
}

static inline void twill__sort_return(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    const twill__sort *sort = (const twill__sort *)job->data;
    size_t first = begin * sort->items.run,
           last = end * sort->items.run < sort->items.n ? end * sort->items.run : sort->items.n;
    (void)task;
    memcpy(sort->base + first * sort->size, sort->spare + first * sort->size,
           (last - first) * sort->size);
}

/* Whether each pointer points to its own place: they were in order before. */
static inline bool twill__sort_in_place(const twill__sort *sort)
{
    for (size_t i = 0; i < sort->items.n; i++) {
        const char *item;
        memcpy(&item, sort->items.from + i * sizeof item, sizeof item);
        if (item != sort->base + i * sort->size)
            return false;
    }
    return true;
}

/* One pass over the runs or pieces. False: not all of it was done. */
static inline bool twill__sort_pass(twill__job *job, twill__sort *sort, twill__body_fn *body)
{
    twill__pass pass = {.n = sort->runs, .body = body, .data = sort, .parts = true};
    pass.unit = sort->items.run;
    pass.forced = sort->items.n >= 4096 && twill__was_shared(job);
    atomic_store_explicit(&sort->ended, 0,
                          memory_order_relaxed); /* nobody else is here; opening publishes */
    twill__run_pass(job, &pass);
    return atomic_load_explicit(&sort->ended, memory_order_relaxed) == sort->runs;
}

/* All items are in base again, in whatever order. */
static inline void twill__sort_put_back(twill__sort *sort)
{
    if (!sort->pointers && sort->items.from == sort->spare)
        memcpy(sort->base, sort->spare, sort->items.n * sort->size);
    sort->items.from = sort->base;
}

static inline bool twill__sort_all(twill__job *job, twill__sort *sort)
{
    twill__sorting *items = &sort->items;
    if (!twill__sort_pass(job, sort, twill__sort_runs))
        return false;
    for (items->width = items->run; items->width < items->n;) {
        char *to = items->to;
        if (!twill__sort_pass(job, sort, twill__sort_pieces))
            return false;
        items->to = items->from;
        items->from = to;
        items->width = items->width > SIZE_MAX / 4 ? items->n : items->width * 2;
    }
    return true;
}

static inline void twill__sort_steps(twill__job *job, void *data)
{
    twill__sort *sort = (twill__sort *)data;
    bool moved;
    if (!twill__sort_all(job, sort)) {
        twill__sort_put_back(sort);
        return;
    }
    moved = sort->pointers && !twill__sort_in_place(sort);
    if (moved && !twill__sort_pass(job, sort, twill__sort_gather))
        return; /* base has not changed */
    if (moved) {
        twill__pass pass = {
            .n = sort->runs, .body = twill__sort_return, .data = sort, .parts = true};
        pass.unit = sort->items.run;
        twill__run_deaf(job, &pass);
    }
    job->slot[0].said = 0;
    job->slot[0].fail_index = SIZE_MAX;
    twill__range_end(job, &job->slot[0], SIZE_MAX, 0, sort->items.n, 0);
}

/* How many runs: a power of 4, so that the last level ends in base. One where nobody could help
   and nothing end it. */
static inline void twill__sort_cut(twill__sort *sort)
{
    const twill_run *run = &sort->options->run;
    unsigned np = twill__workers_for(run, sort->items.n);
    size_t runs = np <= 8 ? 64 : np <= 32 ? 256 : 1024;
    if (np == 1 && !run->until.cancel && !run->until.deadline)
        runs = 1;
    while (runs > 1 && sort->items.n / runs < 32)
        runs /= 4;
    sort->items.run = (sort->items.n - 1) / runs + 1;
    sort->runs = (sort->items.n - 1) / sort->items.run + 1;
}

static inline bool twill__sort_memory(twill__sort *sort, char *small, size_t small_size)
{
    size_t bytes = sort->items.n * sort->size, pointers = 0;
    if (sort->size > TWILL__SORT_INDIRECT)
        pointers =
            2 * sort->items.n * sizeof(char *); /* fits: an item is larger than two pointers */
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
    sort->items.from = pointers ? small : sort->base;
    sort->items.to = pointers ? small + pointers / 2 : sort->spare;
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
    status = twill__run_call(&sort->options->run, sort->items.n, true, twill__sort_steps, sort);
    TWILL__GUARD_POP(0);
    if (sort->memory)
        TWILL_FREE(sort->memory);
    return status;
}

TWILL__DEFINE twill_status twill__parallel_sorted(void *base, size_t n, size_t size,
                                                  const twill__sorter *sorter,
                                                  twill_compare_fn *compare,
                                                  const twill_parallel_options *options)
{
    _Alignas(TWILL__LINE) char small[TWILL__SORT_SMALL];
    twill__sort sort;
    twill_status status = twill__items_check(base, size, n);
    options = sort.options = twill__parallel_options(options);
    sort.base = (char *)base;
    sort.size = size;
    sort.memory = NULL;
    sort.pointers = NULL;
    sort.sorter = sorter;
    sort.items.compare = compare;
    sort.items.size = size > TWILL__SORT_INDIRECT ? sizeof(char *) : size;
    sort.items.n = n;
    sort.items.from = sort.base;
    if (!sorter || options->schedule || options->chunk || options->cost_of)
        status = TWILL_INVALID;
    if (status == TWILL_OK)
        status = twill__check_run(&options->run);
    if (status == TWILL_OK && n) {
        if (twill__sort_memory(&sort, small, sizeof small))
            twill__sort_cut(&sort);
        else
            status = TWILL_NO_MEMORY;
    }
    if (status != TWILL_OK)
        return twill__refuse(&options->run, n, status);
    return twill__sort_guarded(&sort);
}

TWILL__DEFINE twill_status twill_parallel_sort(void *base, size_t n, size_t size,
                                               twill_compare_fn *compare,
                                               const twill_parallel_options *options)
{
    return twill__parallel_sorted(base, n, size, compare ? twill__sort_choose(size) : NULL, compare,
                                  options);
}

#endif

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
