/* twill_batch_processing.h - twill 0.1.0 - SPDX-License-Identifier: MIT OR Unlicense (text at the end)
   GENERATED from patterns/src/batch_processing.h and its parts. Do not edit it here: edit there, then `make headers`. */

/* twill: batch_processing - give a function many items at a time: an array cut into batches, or
   items that come one by one and leave together.
   SPDX-License-Identifier: MIT OR Unlicense
   Build: cc -std=c11 -pthread. In one .c file: #define TWILL_IMPLEMENTATION before the include.

WHEN TO USE IT
    A call has a price of its own, whatever it carries: a system call, a transaction, a round trip.
    Items that share a call share the price. twill_batch_process: the items are there, in an array.
    twill_batch_flat_map: likewise, and each batch gives any number of values. twill_batcher: items
    come one by one, from any threads, and leave by count, bytes, age or a gap in arrivals.
WHEN NOT
    Pure computation over an array: parallel_map needs no batches. Items that another thread takes
    one by one: producer_consumer.

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
END OF OUTPUT

WHAT BECOMES OF EACH ITEM
    fn returns 0, sets nothing        all of the batch are done
    fn returns 0, sets some           each as set (0: done); one that was forgotten is LOST
    fn returns c, sets some           those as set; the others have failed together, with c
    Items that failed by themselves go again while attempts are left and retryable says so: only
    they, in their order. Items that failed together go by on_bad_batch. BISECT calls for halves,
    left first, until what is bad is alone: one bad item of b costs 2 log2(b) more calls, b bad ones
    2b. Halving uses up no attempts; an item alone is then called alone while attempts last. If fn
    is all or nothing, good items take effect once.

OPTIONS OF BOTH (twill_batch_options; zeroed or NULL: 100 items a batch, one attempt)
    run             array: see twill_run; on_error 0: COLLECT, everything runs; others stop between
                    batches. Batcher: workers are batches at once, 0: 1; on threads of its own or of
                    run.pool; until ends the whole; errors, statuses, codes and on_error must be
                    zero; report is filled by destroy, first_error is the lowest number
    max_items       0: 100. The last batch may be shorter
    max_bytes       with bytes_of; no batch is above it. A larger item: TWILL_TOO_BIG (array: its
                    outcome, counted failed), or a batch by itself with oversized_alone
    attempts        calls for one item, the first included; 0: 1. Above INT_MAX: INVALID
    backoff         before the second attempt up to so long, then up to twice as long, at most
                    backoff_max (0: 10 s): "full jitter". 0: at once. Others go on meanwhile. seed:
                    not 0: the same delays in every run
    retryable       NULL: every code
    on_bad_batch    RETRY, BISECT, FAIL
OPTIONS OF THE BATCHER ALONE (the array forms refuse them)
    linger          an open batch leaves so long after its oldest item came; 0: 10 ms;
                    TWILL_FOREVER: by count, bytes, flush and close only. It is no rate limit: full
                    ones leave at once. An item that comes at the very instant opens the next
                    batch, but for one that nobody is told of, and that comes before an idle
                    worker has woken up
    idle            it leaves when nothing has come for so long; 0: off
    capacity        items accepted and not ended; 0: 10 max_items; exact. capacity_bytes; 0: no
                    limit. An item above that is TOO_BIG
    overflow        full: BLOCK; REJECT: FULL; CALLER_RUNS: the caller processes a batch, if a
                    worker number is free; DROP_OLDEST, DROP_NEWEST: the oldest or newest that was
                    in no call yet ends DROPPED (FULL if there is none); DROP_INCOMING: the new one
                    does
    key_of          equal keys are never in two calls at once, and keep the order of add, across
                    retries, too; other keys go in parallel. With BISECT an item that waits behind
                    one of its key uses up attempts with it
    coalesce        equal keys within one open batch are one item for fn; each gets that outcome and
                    a copy of that result. Limits count them once, capacity each
    item_timeout    from acceptance; must exceed linger. In no call: the item ends TIMEOUT. In one:
                    its future is told at once, on_item when the call has let go of the item; what
                    the call says of it is discarded
    result_size     of each item's result slot, which stands on a multiple of 16
    on_item         called once for each accepted item, then the item is yours again. On the worker,
                    or the thread that dropped or cancelled it (worker UINT_MAX); no lock is held;
                    it may add: there is room for one in place of the item it is told about.
                    `result` (NULL: it was in no call) dies with the call

ERRORS
    Array: TWILL_OK: all done. FAILED: run.report.first_error is the lowest index (FIRST: the first
    in time). CANCELLED, TIMEOUT: no further batch, no further attempt; a backoff ends at once;
    items that had failed before stay FAILED. INVALID, TOO_BIG, NO_MEMORY, NO_THREAD, FORKED, CLOSED
    (of the pool): nothing ran. flat_map alone may say NO_MEMORY later; then there are no values.
    report.total counts items, report.chunks calls. Batcher: see each function.
    Batcher, worker_start failed under every worker number: what is there ends CANCELLED, add is
    CLOSED, run.report FAILED at index SIZE_MAX.
    thrd_exit in fn: the items of that call are LOST, others of its batch that had failed stay so;
    a batcher's worker is replaced.

THREADS      All functions by any thread; destroy last (a call that waits inside is answered first).
             Futures outlive the batcher.
BLOCKS       process, flat_map: until all callbacks have returned. add: BLOCK and CALLER_RUNS only.
             From inside of a callback an add processes another batch instead of waiting, on top of
             its own; flush, stop and destroy answer DEADLOCK there. On a pool its threads, those of
             calls that its tasks make, and who waits for ever, process batches meanwhile.
ORDERING     What came before add comes before fn, that before on_item, and that before a wait for
             the future or a flush returns. Without keys and with one worker batches run in the
             order of add; with more they begin in order and may overlap.
OWNERSHIP    Array: all stays yours. A batcher's item is its own from OK (or DROPPED) to the return
             of on_item.
ALLOCATES    process: nothing for up to 128 items a batch and one attempt; else, before the first
             call, 5 to 30 bytes an item of a batch and worker, with a backoff 24 bytes an item; by
             bytes 8 bytes a batch. flat_map: while it runs, what is emitted, and once more at the
             end. Batcher: two blocks at create; some 700 bytes an item while the number of items
             grows. Of them an item without a future, in a batcher without key_of, item_timeout
             and result_size, uses 8 (with on_item, bytes_of: 16, 24) until it fails or is dropped.
             An add that processes a batch on top of its own (see BLOCKS): one block meanwhile.
COSTS        A batcher takes one small lock for an add and once a batch (twice, if somebody is told
             of an item), and no timer thread: an idle worker sleeps until the next thing is due.
FORK         In the child array forms work, a batcher is FORKED, destroy frees it. A callback of a
             batcher that forks: nothing more is called in the child. A callback of an array form:
             the child is that thread alone; if it is the caller's, the call goes on without what
             others had in hand, or waits for another attempt, and says FORKED.
PITFALLS     A wait inside of a callback for an item of the same batcher works on others meanwhile;
             but for one that waits for its next attempt another worker is needed.
             fn may see an item again (attempts, BISECT): it should be all or nothing, or
             idempotent. Setting one item of a batch and forgetting the others loses them: set all,
             or none. on_item that frees an item which a future's waiter still uses, or that adds
             again what was DROPPED: its place is taken, so that has no end. bytes_of and key_of
             run in add, before the lock. A tiny capacity caps max_items. twill_task_fail says
             nothing here: use twill_batch_set. */
#ifndef TWILL_BATCH_PROCESSING_H
#define TWILL_BATCH_PROCESSING_H

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

/* What becomes of items that have failed together, none of them by itself. */
typedef enum twill_bad_batch {
    TWILL_BAD_BATCH_RETRY = 0, /* again together, while attempts last */
    TWILL_BAD_BATCH_BISECT,    /* halves, until the bad items are alone */
    TWILL_BAD_BATCH_FAIL       /* that is it */
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
   max_items 0: 100. begin or end may be NULL. */
TWILL__DECL size_t twill_batch_count(size_t n, size_t max_items);
TWILL__DECL void twill_batch_bounds(size_t n, size_t max_items, size_t k, size_t *begin,
                                    size_t *end);

/* One batch, any number of values: by twill_batch_emit. */
typedef int twill_flat_fn(const twill_batch *batch, const twill_task *task);

/* Inside a twill_flat_fn, on its thread: one value more, copied. NO_MEMORY: return a code. INVALID:
   not inside of one. */
TWILL__DECL twill_status twill_batch_emit(const twill_task *task, const void *value);

/* The values of all batches, in the order of the items: *values has *values_n of value_size bytes
   (NULL and 0: none), as aligned as TWILL_MALLOC's memory; free it with twill_batch_free. A batch
   that failed gives none, the others' stay, whatever the status but NO_MEMORY and the refusals. */
TWILL__DECL twill_status twill_batch_flat_map(const void *items, size_t item_size, size_t n,
                                              twill_flat_fn *fn, size_t value_size, void **values,
                                              size_t *values_n, const twill_batch_options *options);
TWILL__DECL void twill_batch_free(void *values);

/* ---- items that come one by one ---- */

typedef struct twill_batcher twill_batcher;

/* Starts the workers. TWILL_OK: *out is the batcher. Else *out is NULL: INVALID, TOO_BIG,
   NO_MEMORY, NO_THREAD (none could be started, or, with run.strict, not all), FORKED, CLOSED (of
   the pool). */
TWILL__DECL twill_status twill_batcher_create(twill_batcher **out, twill_batch_fn *fn,
                                              const twill_batch_options *options);

/* Gives an item to the batcher, for ever, without waiting, or until. TWILL_OK: it will end exactly
   once, by on_item and by *future (NULL: nobody asks). DROPPED: likewise, it has ended already
   (DROP_INCOMING). All else: it is still the caller's, and *future is {0}: FULL, CLOSED, TOO_BIG,
   NO_MEMORY, TIMEOUT, CANCELLED, DEADLOCK (full, and from inside of a callback with nothing that
   could be processed), FORKED, INVALID. */
TWILL__DECL twill_status twill_batcher_add(twill_batcher *batcher, void *item,
                                           twill_future *future);
TWILL__DECL twill_status twill_batcher_try_add(twill_batcher *batcher, void *item,
                                               twill_future *future);
TWILL__DECL twill_status twill_batcher_add_until(twill_batcher *batcher, void *item,
                                                 twill_future *future, twill_until until);

/* What is open leaves now; waits until all that was accepted before the call has ended, and for
   nothing else. DEADLOCK: from inside of a callback. */
TWILL__DECL twill_status twill_batcher_flush(twill_batcher *batcher);
TWILL__DECL twill_status twill_batcher_flush_until(twill_batcher *batcher, twill_until until);

/* No more adds; what is open leaves now; waits for nothing. A second one: CLOSED. */
TWILL__DECL twill_status twill_batcher_close(twill_batcher *batcher);

/* Close; waits for the end of everything until `drain`; then ends what is in no call (CANCELLED, or
   FAILED if it was waiting to be tried again), fires the tokens of what is, and waits until `join`.
   *out (NULL ok): how much ended in either phase, and what is stuck. TIMEOUT, CANCELLED: some is;
   it may be called again. The batcher is still to be destroyed. */
TWILL__DECL twill_status twill_batcher_stop(twill_batcher *batcher, twill_until drain,
                                            twill_until join, twill_stopped *out);

/* Close, waits for the end of everything, joins the workers, fills run.report, frees. NULL: OK.
   From inside of a callback: DEADLOCK, and nothing changed. In a forked child it frees. */
TWILL__DECL twill_status twill_batcher_destroy(twill_batcher *batcher);

/* added == done + failed + timed_out + cancelled + dropped + lost + pending, always. refused:
   answers FULL. retried: items of calls with attempt > 1 (not those of halves). merged: items that
   joined another one. batches: that left, each for one of the six reasons; mean_fill: their items
   over max_items. calls: of fn. */
typedef struct twill_batcher_stats {
    uint64_t added, done, failed, timed_out, cancelled, dropped, lost, refused, retried, merged,
        batches, calls, by_count, by_bytes, by_linger, by_idle, by_flush, by_close;
    size_t pending, pending_bytes, pending_peak;
    double mean_fill;
} twill_batcher_stats;
/* One moment's figures. NULL, or a parent process's: zeroes. */
TWILL__DECL void twill_batcher_get_stats(twill_batcher *batcher, twill_batcher_stats *stats);

#ifdef __cplusplus
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

#define TWILL__BATCH_ITEMS 100 /* max_items, if it is 0 */

/* Behind batch->private_. Item i is at a place that only the form knows: the array form has them in
   one piece or through indexes, the batcher through records. */
typedef struct twill__view {
    void *(*item)(const struct twill__view *view, size_t i);
    void *(*result)(const struct twill__view *view, size_t i);
    /* [count]: what twill_batch_set said. Bytes and ints of their own for each item, so that
       threads of a callback may set different items at once */
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

/* ---- options that both forms have ---- */

static inline bool twill__batch_common_valid(const twill_batch_options *options)
{
    return (!options->max_bytes || options->bytes_of) && options->backoff >= 0 &&
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
   workers serve what is due between fresh batches, and a second pass serves the rest, sleeping,
   once nothing fresh is left. A batch is in at most one place: not begun, in a worker's hands, in
   the heap. */

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

static inline void twill__work_skipped(twill__work *work, size_t index)
{
    work->me->skipped++;
    if (work->job->detail)
        twill__item_note(work->job, index, TWILL_CANCELLED, 0);
}

static inline void twill__work_failed(twill__work *work, size_t index, twill_status status,
                                      int code)
{
    if (work->job->policy == TWILL_ON_ERROR_LOWEST)
        twill__lower(&work->calls->limit, work->place);
    twill__item_failed(work->job, work->me, work->place, index, status, code);
}

/* Whether nothing of this batch need run any more. Relaxed: a batch too many is harmless. */
static inline bool twill__work_over(const twill__work *work)
{
    twill__job *job = work->job;
    size_t stop_at = atomic_load_explicit(&job->stop_at, memory_order_relaxed);
    return twill__stopped(job, job->may_end ? twill__clock_now() : 0) ||
           work->place > atomic_load_explicit(&work->calls->limit, memory_order_relaxed) ||
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
            twill__work_skipped(work, twill__work_index(work, i));
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
    if (twill__left_alone(calls->job)) /* see twill__due_pop */
        return;
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
    if (twill__left_alone(calls->job)) /* what waits, and perhaps the lock, is the parent's */
        return false;
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
        until.deadline = twill__nearer(until.deadline, entry->due);
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
    twill__hand_back(job, work->me, work->next, work->me->end);
    atomic_store_explicit(&work->me->begin, SIZE_MAX, memory_order_seq_cst);
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
        if (looks && (k >= atomic_load_explicit(&job->limit, memory_order_seq_cst) ||
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
    /* relaxed: nobody else is here. One pass is enough: who puts a batch into the heap takes one
       out before anything else, so once the caller has found the heap empty it stays so, whatever
       threads end. What is left when he has not come to it (the call is stopped, or its lowest
       batch has failed meanwhile) would not be called any more */
    if (calls->waiting && !atomic_load_explicit(&job->stop, memory_order_relaxed))
        twill__run_pass(job, &pass);
    if (calls->waiting)
        twill__calls_left(calls, job);
}

static inline twill_status twill__calls_check(const twill_batch_options *options, const void *items,
                                              size_t item_size, size_t n, bool callable)
{
    if (!callable || !twill__batch_common_valid(options) ||
        (options->bytes_of && !options->max_bytes) || options->result_size || options->linger ||
        options->idle || options->capacity || options->capacity_bytes || options->overflow ||
        options->key_of || options->coalesce || options->item_timeout || options->on_item ||
        (n && (!items || !item_size)))
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
    size_t first;
    if (!max_items)
        max_items = TWILL__BATCH_ITEMS;
    first = k > n / max_items ? n : k * max_items;
    if (begin)
        *begin = first;
    if (end)
        *end = n - first < max_items ? n : first + max_items;
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
        /* relaxed: looked at after the join */
        atomic_store_explicit(&flat->no_memory, 1, memory_order_relaxed);
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
    /* relaxed, here and in finish: all have ended */
    if (!atomic_load_explicit(&flat->no_memory, memory_order_relaxed) && !twill__flat_gather(flat))
        atomic_store_explicit(&flat->no_memory, 1, memory_order_relaxed);
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
    if (atomic_load_explicit(&flat->no_memory, memory_order_relaxed))
        flat->calls.inner.status = TWILL_NO_MEMORY;
    twill__calls_finish(&flat->calls);
}

TWILL__DEFINE twill_status twill_batch_flat_map(const void *items, size_t item_size, size_t n,
                                                twill_flat_fn *fn, size_t value_size, void **values,
                                                size_t *values_n,
                                                const twill_batch_options *options)
{
    twill__flat flat = {.fn = fn, .value_size = value_size, .values = values, .values_n = values_n};
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
    twill__calls_init(&flat.calls, options, items, item_size, n);
    flat.calls.flat = &flat;
    atomic_init(&flat.no_memory, 0);
    return twill__calls_run(&flat.calls, twill__flat_steps, twill__flat_finish, &flat);
}

TWILL__DEFINE void twill_batch_free(void *values)
{
    TWILL_FREE(values);
}

#endif

/* ---- batch_processing/add.h ---- */
/* add.h: how an item comes in, and what a full batcher does about it. */
#ifndef TWILL__BATCH_ADD_H
#define TWILL__BATCH_ADD_H

/* ---- batch_processing/shift.h ---- */
/* shift.h: what a worker of a batcher does: takes a lot, calls, settles, tells. */
#ifndef TWILL__BATCH_SHIFT_H
#define TWILL__BATCH_SHIFT_H

/* ---- batch_processing/batcher.h ---- */
/* batcher.h: the batcher: its books under one small lock, and those who wait. */
#ifndef TWILL__BATCH_BATCHER_H
#define TWILL__BATCH_BATCHER_H

/* ---- batch_processing/packed.h ---- */
/* packed.h: lots of items that nobody asks for one by one: cells in a ring, until something happens
   to one of them. */
#ifndef TWILL__BATCH_PACKED_H
#define TWILL__BATCH_PACKED_H

/* ---- batch_processing/stock.h ---- */
/* stock.h: the batcher's items: where each of them is, and in which lot it will leave. */
#ifndef TWILL__BATCH_STOCK_H
#define TWILL__BATCH_STOCK_H

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

/* ---- engine/future.h ---- */
/* future.h: the handles to tasks: wait for any of them, and the public functions. */
#ifndef TWILL__ENGINE_FUTURE_H
#define TWILL__ENGINE_FUTURE_H

/* ---- engine/future_wait.h ---- */
/* future_wait.h: the wait for the end of one task. */
#ifndef TWILL__ENGINE_FUTURE_WAIT_H
#define TWILL__ENGINE_FUTURE_WAIT_H

/* ---- engine/duty.h ---- */
/* duty.h: what a thread has to do when the callback that it is in has returned: a wait for that,
   from the callback, would never end. */
#ifndef TWILL__ENGINE_DUTY_H
#define TWILL__ENGINE_DUTY_H

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

/* ---- engine/record_life.h ---- */
/* record_life.h: who uses a record, and what its object does with it. */
#ifndef TWILL__ENGINE_RECORD_LIFE_H
#define TWILL__ENGINE_RECORD_LIFE_H

/* ---- engine/record.h ---- */
/* record.h: the records of tasks that somebody may wait for, and their memory. */
#ifndef TWILL__ENGINE_RECORD_H
#define TWILL__ENGINE_RECORD_H

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

/* All of this is guarded by the batcher's lock, but for what a worker does to the items that are in
   its call.

   An accepted item has an entry, which is the record of its future, too. Entries that will leave
   together form a lot. The open lot takes what comes; closed, it stands in the line of those that
   are ready; taken by a worker, its entries stand in that worker's shift; what is to be tried again
   goes back into a lot, in the line of those that wait for an instant. An entry is in exactly one
   lot or shift, and leaves the books when its on_item has returned.

   Most items have no need of that: nobody asks for them by a future, a key or a time limit, and all
   goes well. Their lot is packed: cells in a ring, which a worker takes, and ends, as a whole. As
   soon as one of its items has a fate of its own, the lot is unpacked (packed.h), and from then on
   it is as if it had never been anything but entries. */

typedef enum twill__where {
    TWILL__PENDING_ITEM, /* in a lot */
    TWILL__MERGED_ITEM,  /* behind another entry with the same key, which is in a lot */
    TWILL__RUNNING_ITEM, /* in a worker's hands, or behind one that is */
    TWILL__ENDED_ITEM    /* how it ended is decided, and on_item is about to be told */
} twill__where;

enum twill__why { /* a lot has left */
                  TWILL__BY_COUNT,
                  TWILL__BY_BYTES,
                  TWILL__BY_LINGER,
                  TWILL__BY_IDLE,
                  TWILL__BY_FLUSH,
                  TWILL__BY_CLOSE,
                  TWILL__WHYS
};

struct twill__batch_lot;

typedef struct twill__entry {
    twill__record record; /* first: futures are made of it */
    /* with keys or a future alone */
    struct twill_batcher *batcher;
    uint64_t key;
    struct twill__entry *leader; /* of a merged one: it stands in a chain behind it */
    struct twill__entry *hashed; /* next in its bucket of keys in flight */
    struct twill__entry *same;   /* next in its bucket of the open lot */
    bool in_flight;              /* in a bucket of keys in flight */
    /* three lines go to the worker and come back: zeroed with each item */
    _Alignas(TWILL__LINE) void *item;
    uint64_t number; /* of acceptance, from 0 */
    struct twill__batch_lot *lot;
    struct twill__entry *next, *previous; /* in the lot */
    struct twill__entry *before, *after;  /* of those that are in no call: expiry, drops */
    struct twill__entry *older, *newer;   /* of all that have not left the books */
    struct twill__entry *ended;           /* next of those that a thread is about to tell */
    struct twill__entry *follower;        /* merged ones: a chain behind its leader */
    struct twill__entry *ahead;           /* a few places behind it in the lot: a hint */
    size_t bytes, weight;      /* weight: what it counts for in its lot, with those behind it */
    twill_ns added, started;   /* added: 0 where nobody asks */
    unsigned attempts, worker; /* of the last call */
    twill__where where;
    bool has_future, decided, promised; /* promised: the future has been told already */
    bool called;                        /* at least once */
    twill_status status;                /* once decided */
    int code;
    /* of the worker that has it */
    twill__slot_state state; /* between two calls */
    twill_status answer;     /* of the last call */
    int its;
} twill__entry;

enum { TWILL__LOT_AHEAD = 4 }; /* entries that a worker fetches while it looks at one */

/* What is known of an item of a packed lot. Arrays, so that what nobody asks for costs nothing. */
typedef struct twill__cells {
    void **item;
    twill_ns *added; /* NULL: nobody asks */
    size_t *bytes;   /* NULL: they do not count */
} twill__cells;

typedef struct twill__batch_lot {
    struct twill__batch_lot *next; /* in a line */
    twill__entry *first, *last;
    size_t count, bytes; /* merged ones once */
    twill_ns opened, arrival;
    twill_ns due; /* of one that is tried again */
    uint64_t serial;
    unsigned attempt; /* of its next call */
    enum twill__why why;
    uint64_t stuck; /* all its keys were in flight after so many releases */
    uint64_t opened_ticks;
    twill__entry *recent[TWILL__LOT_AHEAD]; /* of the open one: the last that came */
    unsigned came;
    /* of a packed one: it has no entries, and is in the list of all that are packed */
    bool packed, taken;                       /* taken: a worker has it, and its cells */
    uint64_t number;                          /* of its first item; the others follow */
    uint64_t place;                           /* of its first item, in the ring */
    struct twill__batch_lot *elder, *younger; /* by number */
} twill__batch_lot;

typedef struct twill__lot_block { /* of memory */
    struct twill__lot_block *next;
    size_t count, used; /* lots from `used` on were never touched */
    twill__batch_lot lot[];
} twill__lot_block;

typedef struct twill__line { /* of lots */
    twill__batch_lot *first, *last;
} twill__line;

typedef struct twill__key_bucket { /* of the open lot's keys */
    twill__entry *entry;
    uint64_t serial; /* of the lot that it is about */
} twill__key_bucket;

typedef struct twill__stock {
    twill__core *core;
    twill__entry *oldest, *newest; /* in the books */
    twill__entry *front, *back;    /* in no call */
    twill__batch_lot *open;
    twill__line ready, waiting; /* waiting: by instant */
    twill__batch_lot *spare;
    twill__lot_block *blocks;
    size_t lot_count;
    uint64_t numbers, serials, releases; /* releases: of keys, so far */
    size_t count, bytes;                 /* accepted and not decided */
    size_t leaving, leaving_bytes;       /* decided, and still in the books */
    size_t books;                        /* entries in the books */
    size_t idle;                         /* of them, in no call */
    twill__entry **flights;              /* [buckets]: keys in flight; NULL: no keys */
    twill__key_bucket *opens;            /* [buckets]: keys of the open lot; NULL: no merging */
    size_t buckets;                      /* a power of 2 */
    bool packs;                          /* items may be packed */
    twill__batch_lot *eldest, *youngest; /* packed lots */
    twill__cells cells;                  /* of packed lots that no worker has taken yet */
    size_t ring;                         /* so many; a power of 2, or 0 */
    uint64_t begin, end;                 /* places in use */
    void *ring_memory;
} twill__stock;

/* ---- lists ---- */

static inline void twill__lot_append(twill__batch_lot *lot, twill__entry *entry)
{
    entry->lot = lot;
    entry->next = NULL;
    entry->previous = lot->last;
    if (lot->last)
        lot->last->next = entry;
    else
        lot->first = entry;
    lot->last = entry;
    lot->count++;
    lot->bytes += entry->weight;
}

/* The one that came a few before it knows where it is: whoever walks through the lot on another
   core would wait for each in turn. The memory of entries stays, so that an old hint does no
   harm. */
static inline void twill__lot_ahead(twill__batch_lot *lot, twill__entry *entry)
{
    twill__entry **recent = &lot->recent[lot->came++ % TWILL__LOT_AHEAD];
    if (*recent)
        (*recent)->ahead = entry;
    *recent = entry;
}

static inline void twill__entry_fetch(const twill__entry *entry)
{
    if (entry) {
        __builtin_prefetch(&entry->item);
        __builtin_prefetch(&entry->newer);
        __builtin_prefetch(&entry->attempts);
    }
}

static inline void twill__lot_remove(twill__batch_lot *lot, twill__entry *entry)
{
    TWILL__CHAIN_OUT(lot->first, lot->last, entry, previous, next);
    lot->count--;
    lot->bytes -= entry->weight;
}

/* One of the lot's own, after a call. In the order of numbers: what is tried again keeps its order,
   whatever order the calls had. */
static inline void twill__lot_insert(twill__batch_lot *lot, twill__entry *entry)
{
    twill__entry *place = lot->last;
    while (place && place->number > entry->number)
        place = place->previous;
    TWILL__CHAIN_IN(lot->first, lot->last, place, entry, previous, next);
    lot->count++;
    lot->bytes += entry->weight;
}

static inline void twill__line_push(twill__line *line, twill__batch_lot *lot)
{
    lot->next = NULL;
    if (line->last)
        line->last->next = lot;
    else
        line->first = lot;
    line->last = lot;
}

/* Into the line of those that wait, by instant. */
static inline void twill__line_sort(twill__line *line, twill__batch_lot *lot)
{
    twill__batch_lot **link = &line->first;
    while (*link && (*link)->due <= lot->due)
        link = &(*link)->next;
    lot->next = *link;
    *link = lot;
    if (!lot->next)
        line->last = lot;
}

static inline void twill__line_remove(twill__line *line, twill__batch_lot *lot)
{
    twill__batch_lot **link = &line->first, *previous = NULL;
    while (*link != lot) {
        previous = *link;
        link = &previous->next;
    }
    *link = lot->next;
    if (line->last == lot)
        line->last = previous;
}

/* Into the list of those that are in no call, behind `place`; NULL: to its front. */
static inline void twill__idle_behind(twill__stock *stock, twill__entry *entry, twill__entry *place)
{
    stock->idle++;
    TWILL__CHAIN_IN(stock->front, stock->back, place, entry, before, after);
}

/* By number; one that comes back is near the front. */
static inline void twill__idle_in(twill__stock *stock, twill__entry *entry)
{
    twill__entry *after = stock->front;
    while (after && after->number < entry->number)
        after = after->after;
    twill__idle_behind(stock, entry, after ? after->before : stock->back);
}

static inline void twill__idle_out(twill__stock *stock, twill__entry *entry)
{
    stock->idle--;
    TWILL__CHAIN_OUT(stock->front, stock->back, entry, before, after);
}

/* Into the books, behind `place`; NULL: as the oldest. */
static inline void twill__books_behind(twill__stock *stock, twill__entry *entry,
                                       twill__entry *place)
{
    TWILL__CHAIN_IN(stock->oldest, stock->newest, place, entry, older, newer);
}

/* ---- lots ---- */

/* There is a lot for each entry in the books, and one more: a lot that is used has at least one. */
static inline bool twill__lots_for(twill__stock *stock, size_t entries)
{
    size_t more = stock->lot_count ? stock->lot_count : 4;
    twill__lot_block *block;
    if (stock->lot_count > entries)
        return true;
    block = (twill__lot_block *)TWILL_MALLOC(sizeof *block + more * sizeof block->lot[0]);
    if (!block)
        return false;
    block->next = stock->blocks;
    block->count = more;
    block->used = 0;
    stock->blocks = block;
    stock->lot_count += more;
    return true;
}

static inline twill__batch_lot *twill__lot_get(twill__stock *stock)
{
    twill__batch_lot *lot = stock->spare;
    twill__lot_block *block = stock->blocks;
    if (lot) {
        stock->spare = lot->next;
    } else {
        while (block->used == block->count)
            block = block->next;
        lot = &block->lot[block->used++];
    }
    memset(lot, 0, sizeof *lot);
    lot->attempt = 1;
    lot->serial = ++stock->serials;
    lot->stuck = UINT64_MAX;
    return lot;
}

static inline void twill__lot_put(twill__stock *stock, twill__batch_lot *lot)
{
    lot->next = stock->spare;
    stock->spare = lot;
}

static inline void twill__lot_close(twill__stock *stock, enum twill__why why)
{
    if (!stock->open)
        return;
    stock->open->why = why;
    twill__line_push(&stock->ready, stock->open);
    stock->open = NULL;
}

/* A lot that has lost its last entry is not sent. */
static inline void twill__lot_settle(twill__stock *stock, twill__batch_lot *lot)
{
    if (lot->first)
        return;
    if (lot == stock->open)
        stock->open = NULL;
    else
        twill__line_remove(lot->due ? &stock->waiting : &stock->ready, lot);
    twill__lot_put(stock, lot);
}

/* ---- keys ---- */

static inline size_t twill__key_bucket_of(const twill__stock *stock, uint64_t key)
{
    uint64_t mixed = key;
    return (size_t)twill__random(&mixed) & (stock->buckets - 1);
}

/* Whether an entry that holds no key must wait for the one that holds its. */
static inline bool twill__key_taken(const twill__stock *stock, const twill__entry *entry)
{
    const twill__entry *other;
    for (other = stock->flights[twill__key_bucket_of(stock, entry->key)]; other;
         other = other->hashed)
        if (other->key == entry->key)
            return true;
    return false;
}

static inline void twill__key_take(twill__stock *stock, twill__entry *entry)
{
    twill__entry **bucket;
    if (!stock->flights || entry->in_flight)
        return;
    bucket = &stock->flights[twill__key_bucket_of(stock, entry->key)];
    entry->hashed = *bucket;
    *bucket = entry;
    entry->in_flight = true;
}

static inline void twill__key_give(twill__stock *stock, twill__entry *entry)
{
    twill__entry **link;
    if (!stock->flights || !entry->in_flight)
        return;
    for (link = &stock->flights[twill__key_bucket_of(stock, entry->key)]; *link != entry;
         link = &(*link)->hashed) {}
    *link = entry->hashed;
    entry->in_flight = false;
    stock->releases++;
}

/* The entry of the open lot with this key; NULL: none. */
static inline twill__entry *twill__open_find(const twill__stock *stock, uint64_t key)
{
    const twill__key_bucket *bucket;
    twill__entry *entry;
    if (!stock->opens || !stock->open)
        return NULL;
    bucket = &stock->opens[twill__key_bucket_of(stock, key)];
    entry = bucket->serial == stock->open->serial ? bucket->entry : NULL;
    while (entry && entry->key != key)
        entry = entry->same;
    return entry;
}

static inline void twill__open_in(twill__stock *stock, twill__entry *entry)
{
    twill__key_bucket *bucket;
    if (!stock->opens)
        return;
    bucket = &stock->opens[twill__key_bucket_of(stock, entry->key)];
    if (bucket->serial != entry->lot->serial)
        bucket->entry = NULL;
    bucket->serial = entry->lot->serial;
    entry->same = bucket->entry;
    bucket->entry = entry;
}

/* `by`: who takes its place, or NULL. */
static inline void twill__open_out(twill__stock *stock, twill__entry *entry, twill__entry *by)
{
    twill__key_bucket *bucket;
    twill__entry **link;
    if (!stock->opens || entry->lot != stock->open)
        return;
    bucket = &stock->opens[twill__key_bucket_of(stock, entry->key)];
    for (link = &bucket->entry; *link != entry; link = &(*link)->same) {}
    if (by)
        by->same = entry->same;
    *link = by ? by : entry->same;
}

/* ---- in and out ---- */

/* The first of those behind an entry takes its place in the lot. */
static inline void twill__entry_promote(twill__stock *stock, twill__entry *entry)
{
    twill__entry *heir = entry->follower;
    twill__batch_lot *lot = entry->lot;
    heir->lot = lot;
    heir->where = TWILL__PENDING_ITEM;
    heir->leader = NULL;
    heir->state = entry->state;
    heir->its = entry->its;
    heir->next = entry->next;
    heir->previous = entry->previous;
    if (heir->previous)
        heir->previous->next = heir;
    else
        lot->first = heir;
    if (heir->next)
        heir->next->previous = heir;
    else
        lot->last = heir;
    heir->weight = entry->weight;
    for (twill__entry *other = heir->follower; other; other = other->follower)
        other->leader = heir;
    twill__open_out(stock, entry, heir);
    if (entry->in_flight)
        twill__key_take(stock, heir);
}

/* Takes an entry that is in no call out of its lot: it will be in none any more. */
static inline void twill__entry_out(twill__stock *stock, twill__entry *entry)
{
    twill__idle_out(stock, entry);
    if (entry->where == TWILL__MERGED_ITEM) {
        twill__entry *other = entry->leader;
        while (other->follower != entry)
            other = other->follower;
        other->follower = entry->follower;
    } else if (entry->follower) {
        twill__entry_promote(stock, entry);
    } else {
        twill__batch_lot *lot = entry->lot;
        twill__open_out(stock, entry, NULL);
        twill__lot_remove(lot, entry);
        twill__lot_settle(stock, lot);
    }
    entry->follower = NULL;
}

/* Decides how an entry ends, once. */
static inline void twill__entry_decide(twill__stock *stock, twill__entry *entry,
                                       twill_status status, int code)
{
    entry->decided = true;
    entry->status = status;
    entry->code = code;
    stock->count--;
    stock->bytes -= entry->bytes;
    stock->leaving++;
    stock->leaving_bytes += entry->bytes;
}

#endif

/* An item in a packed lot costs a cell and a few sums. The memory of an entry is reserved for it
   when it comes in, and not touched: so unpacking cannot fail, and what was accepted has an end. */

/* ---- cells ---- */

static inline size_t twill__cell_bytes(const twill_batch_options *options)
{
    return sizeof(void *) + (options->on_item ? sizeof(twill_ns) : 0) +
           (options->bytes_of ? sizeof(size_t) : 0);
}

/* `room`: aligned to 16, twill__cell_bytes for each of `count`. */
static inline twill__cells twill__cells_in(const twill_batch_options *options, void *room,
                                           size_t count)
{
    twill__cells cells = {NULL, NULL, NULL};
    if (options->on_item) {
        cells.added = (twill_ns *)room;
        room = cells.added + count;
    }
    cells.item = (void **)room;
    if (options->bytes_of)
        cells.bytes = (size_t *)(void *)(cells.item + count);
    return cells;
}

static inline void twill__cells_copy(const twill__cells *to, size_t at, const twill__cells *from,
                                     size_t first, size_t count)
{
    memcpy(to->item + at, from->item + first, count * sizeof *to->item);
    if (to->added)
        memcpy(to->added + at, from->added + first, count * sizeof *to->added);
    if (to->bytes)
        memcpy(to->bytes + at, from->bytes + first, count * sizeof *to->bytes);
}

/* `count` cells from a place of the ring on, which may go round its end. */
static inline void twill__ring_copy(const twill__stock *stock, uint64_t place, size_t count,
                                    const twill__cells *to)
{
    size_t first = (size_t)place & (stock->ring - 1), whole = stock->ring - first;
    if (whole > count)
        whole = count;
    twill__cells_copy(to, 0, &stock->cells, first, whole);
    if (whole < count)
        twill__cells_copy(to, whole, &stock->cells, 0, count - whole);
}

/* Twice as many cells. False: no memory. */
static inline bool twill__ring_grow(twill__stock *stock, const twill_batch_options *options)
{
    size_t ring = stock->ring ? 2 * stock->ring : 16, each = twill__cell_bytes(options);
    twill__cells cells;
    void *memory;
    if (!(memory = TWILL_MALLOC(ring * each))) /* half of it is there: no overflow */
        return false;
    cells = twill__cells_in(options, memory, ring);
    for (uint64_t place = stock->begin; place < stock->end; place++)
        twill__cells_copy(&cells, (size_t)place & (ring - 1), &stock->cells,
                          (size_t)place & (stock->ring - 1), 1);
    if (stock->ring_memory)
        TWILL_FREE(stock->ring_memory);
    stock->ring_memory = memory;
    stock->cells = cells;
    stock->ring = ring;
    return true;
}

/* ---- the list of packed lots ---- */

static inline void twill__packed_in(twill__stock *stock, twill__batch_lot *lot)
{
    TWILL__CHAIN_IN(stock->eldest, stock->youngest, stock->youngest, lot, elder, younger);
}

static inline void twill__packed_out(twill__stock *stock, twill__batch_lot *lot)
{
    TWILL__CHAIN_OUT(stock->eldest, stock->youngest, lot, elder, younger);
}

/* The eldest, or the youngest, that no worker has; NULL: there is none. */
static inline twill__batch_lot *twill__packed_idle(const twill__stock *stock, bool eldest)
{
    twill__batch_lot *lot = eldest ? stock->eldest : stock->youngest;
    while (lot && lot->taken)
        lot = eldest ? lot->younger : lot->elder;
    return lot;
}

/* Cells that are not needed any more are free. */
static inline void twill__ring_trim(twill__stock *stock)
{
    const twill__batch_lot *eldest = twill__packed_idle(stock, true);
    stock->begin = eldest ? eldest->place : stock->end;
}

/* ---- in ---- */

/* Whether the next item, if it can be packed, can join the open lot so. */
static inline bool twill__packed_may_join(const twill__stock *stock)
{
    const twill__batch_lot *open = stock->open;
    return !open || (open->packed && open->number + open->count == stock->numbers);
}

/* A cell, and an entry, should it be unpacked. False: no memory. */
static inline bool twill__packed_reserve(twill__stock *stock, const twill_batch_options *options)
{
    return (stock->end - stock->begin < stock->ring || twill__ring_grow(stock, options)) &&
           twill__core_reserve(stock->core);
}

/* The lot's last. After twill__packed_reserve. */
static inline void twill__packed_append(twill__stock *stock, twill__batch_lot *lot, void *item,
                                        size_t bytes, twill_ns added)
{
    size_t cell = (size_t)stock->end++ & (stock->ring - 1);
    stock->cells.item[cell] = item;
    if (stock->cells.added)
        stock->cells.added[cell] = added;
    if (stock->cells.bytes)
        stock->cells.bytes[cell] = bytes;
    lot->count++;
    lot->bytes += bytes;
}

/* ---- out ---- */

/* An entry for an item, in no list yet; all but what a book keeps of it is zero. */
static inline void twill__entry_fill(twill__entry *entry, void *item, size_t bytes, uint64_t number,
                                     twill_ns added)
{
    memset(&entry->item, 0, sizeof *entry - offsetof(twill__entry, item));
    entry->item = item;
    entry->bytes = entry->weight = bytes;
    entry->number = number;
    entry->worker = UINT_MAX;
    entry->added = added;
}

/* Item i of a lot that is being unpacked, from cell `at`; behind `older` in the books. */
static inline twill__entry *twill__packed_entry(twill__stock *stock, const twill__batch_lot *lot,
                                                size_t i, const twill__cells *cells, size_t at,
                                                twill__entry *older)
{
    twill__entry *entry = (twill__entry *)(void *)twill__record_get_reserved(stock->core);
    twill__entry_fill(entry, cells->item[at], cells->bytes ? cells->bytes[at] : 0, lot->number + i,
                      cells->added ? cells->added[at] : 0);
    twill__books_behind(stock, entry, older);
    return entry;
}

/* The last entry in the books that is older than a lot. */
static inline twill__entry *twill__packed_behind(const twill__stock *stock,
                                                 const twill__batch_lot *lot)
{
    twill__entry *older = stock->newest;
    while (older && older->number > lot->number)
        older = older->older;
    return older;
}

/* A lot that no worker has: it has entries now. */
static inline void twill__lot_unpack(twill__stock *stock, twill__batch_lot *lot)
{
    twill__entry *older = twill__packed_behind(stock, lot), *before = stock->back;
    size_t count = lot->count;
    while (before && before->number > lot->number)
        before = before->before;
    twill__packed_out(stock, lot);
    stock->idle -= count; /* each counts itself again */
    lot->packed = false;
    lot->count = lot->bytes = 0;
    for (size_t i = 0; i < count; i++) {
        size_t cell = (size_t)(lot->place + i) & (stock->ring - 1);
        older = twill__packed_entry(stock, lot, i, &stock->cells, cell, older);
        older->where = TWILL__PENDING_ITEM;
        twill__lot_append(lot, older);
        twill__idle_behind(stock, older, before);
        before = older;
    }
    twill__ring_trim(stock);
}

#endif

/* ---- engine/light_lock.h ---- */
/* light_lock.h: a lock that is let go by a plain store, for sections of a few steps that many calls
   go through. */
#ifndef TWILL__ENGINE_LIGHT_LOCK_H
#define TWILL__ENGINE_LIGHT_LOCK_H

/* A lock that is let go by a compare-and-swap (engine/lock.h) learns in that moment who waits. But
   this instruction waits for all stores of the section, and those to lines that another core wrote
   last take long. Here the holder looks who waits, and then stores. Whoever comes in between is not
   woken: so nobody sleeps for longer than a nap before he looks by himself. Nor does he begin one
   after a wake that was meant for him: each of them makes the word another one.
   ROUSED: as in engine/lock.h. The holder sets it, who waits clears it. */
typedef struct twill__light_lock { /* zeroed: free */
    _Atomic uint32_t word; /* HELD; and, from TWILL__LIGHT_WOKEN on, how often somebody was woken */
    _Atomic uint32_t waiters; /* ROUSED; and, from TWILL__WAITER on, how many */
} twill__light_lock;

enum { TWILL__LIGHT_WOKEN = 2, TWILL__LIGHT_NAP = 50000 /* ns */ };

static inline bool twill__light_try(void *lock_)
{
    twill__light_lock *lock = (twill__light_lock *)lock_;
    /* a look first, as in twill__try_lock. seq_cst: pairs with the release in twill__light_unlock,
       and see twill__light_wanted */
    uint32_t word = atomic_load_explicit(&lock->word, memory_order_relaxed);
    return !(word & TWILL__HELD) &&
           atomic_compare_exchange_strong_explicit(&lock->word, &word, word | TWILL__HELD,
                                                   memory_order_seq_cst, memory_order_relaxed);
}

static inline bool twill__light_spin(twill__light_lock *lock, twill_ns spin)
{
    return twill__spin_helps() &&
           twill__spin_looks(twill__light_try, lock, spin, TWILL__LOCK_FIRST, TWILL__LOCK_MOST);
}

static __attribute__((noinline)) void twill__light_wait(twill__light_lock *lock, twill_ns spin)
{
    /* seq_cst: see twill__light_wanted */
    atomic_fetch_add_explicit(&lock->waiters, TWILL__WAITER, memory_order_seq_cst);
    for (;;) { /* exit: taken; each holder lets go */
        uint32_t word = atomic_load_explicit(&lock->word, memory_order_seq_cst);
        if (!(word & TWILL__HELD)) {
            if (twill__light_try(lock))
                break;
            continue;
        }
        /* relaxed: a request. Behind the load: who is asked makes the word another one */
        atomic_fetch_and_explicit(&lock->waiters, ~(uint32_t)TWILL__ROUSED, memory_order_relaxed);
        twill__park(&lock->word, word, twill__clock_now() + TWILL__LIGHT_NAP);
        if (twill__light_spin(lock, spin))
            break;
    }
    /* it may have been us: then the next is woken by us. relaxed: under the lock */
    atomic_fetch_and_explicit(&lock->waiters, ~(uint32_t)TWILL__ROUSED, memory_order_relaxed);
    atomic_fetch_sub_explicit(&lock->waiters, TWILL__WAITER, memory_order_relaxed);
}

/* `spin`: how long a holder may have it at a time. */
static inline void twill__light_take(twill__light_lock *lock, twill_ns spin)
{
    if (!twill__light_try(lock) && !twill__light_spin(lock, spin))
        twill__light_wait(lock, spin);
}

static __attribute__((noinline)) void twill__light_rouse(twill__light_lock *lock, uint32_t word)
{
    /* relaxed: a request, as above */
    bool roused = atomic_fetch_or_explicit(&lock->waiters, TWILL__ROUSED, memory_order_relaxed) &
                  TWILL__ROUSED;
    /* pairs with twill__light_try */
    atomic_store_explicit(&lock->word, roused ? word : word + TWILL__LIGHT_WOKEN,
                          memory_order_release);
    if (!roused)
        twill__wake(&lock->word, 1);
}

/* The store is the last access: the lock's memory may go right after it. */
static inline void twill__light_unlock(twill__light_lock *lock)
{
    /* relaxed: its holder alone changes it */
    uint32_t word = atomic_load_explicit(&lock->word, memory_order_relaxed) - TWILL__HELD;
    /* relaxed: who is not seen looks again after a nap */
    if (atomic_load_explicit(&lock->waiters, memory_order_relaxed))
        twill__light_rouse(lock, word);
    else /* pairs with twill__light_try */
        atomic_store_explicit(&lock->word, word, memory_order_release);
}

/* Under the lock: does anybody wait for it? seq_cst: who waits has counted himself before he saw an
   earlier holder; who saw this one came too late. */
static inline bool twill__light_wanted(const twill__light_lock *lock)
{
    return atomic_load_explicit(&lock->waiters, memory_order_seq_cst) >= TWILL__WAITER;
}

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

typedef struct twill__batcher_waiter { /* on the waiter's stack */
    twill__node node;                  /* first */
    uint64_t target;                   /* a flush: the number after its last item */
    size_t bytes;                      /* an add: of its item */
    twill_ns tried;                    /* 0; when it would have helped, last */
} twill__batcher_waiter;

/* A callback that runs outside of the workers, on its caller's stack. */
typedef struct twill__batcher_calling {
    struct twill__batcher_calling *next;
    uint64_t thread;
} twill__batcher_calling;

/* A worker's hands: the entries of one lot, from taking them to their end. A callback that adds to
   its own full batcher works on another lot meanwhile, with a shift of its own. */
typedef struct twill__shift {
    twill__view view;
    struct twill_batcher *batcher;
    _Atomic uint64_t owner;     /* number of the thread that works; 0: none */
    bool starting;              /* in worker_start; left so: the hook has ended its thread */
    struct twill__shift *outer; /* of the same worker */
    twill_task task;
    twill__batch_lot *lot;
    bool busy;           /* counted in the batcher's */
    bool packed;         /* the lot is: its items are in `cells`, and `list` is empty */
    twill__cells cells;  /* [max] */
    twill__entry **list; /* [max] */
    size_t count, at;    /* of the lot's entries; the first that has no end yet */
    twill__entry **call; /* the part of `list` that is in the call */
    size_t called, settled, calls;
    twill__entry *ended, **ended_at; /* who is to be told */
    twill__entry *telling;           /* whose on_item runs */
    twill_ns started;                /* when the lot was taken */
    size_t packed_told;              /* of a packed lot: whose on_item runs, or has run */
    bool told;                       /* all are decided: they are being told */
    twill__record *around;           /* the thread's record outside the call */
} twill__shift;

typedef struct twill_batcher {
    twill__light_lock lock;
    /* nothing is to be done before; written under the lock, read without it, too */
    _Atomic twill_ns due;
    /* under the lock */
    bool closed, doomed;
    _Atomic uint32_t
        cut; /* TIMEOUT, CANCELLED: nothing is called any more; 0; read without it, too */
    twill__stock stock;
    size_t reserved, reserved_bytes; /* for adds that were granted and have not come yet */
    size_t inside;                   /* calls that wait, or come back from waiting */
    unsigned busy;                   /* shifts that have something to do */
    twill__list adders, flushers;
    twill__node *destroyer;
    twill__batcher_calling *callings;
    twill_batcher_stats counts;          /* what get_stats need not ask elsewhere */
    uint64_t left[TWILL__WHYS], carried; /* batches, by why they left; items in them */
    twill_item_error first;              /* the failure of the lowest number */
    unsigned refused; /* worker numbers whose worker_start failed; all: nobody calls anything */
    int start_code;
    /* set at creation */
    twill_batch_options options;
    twill_batch_fn *fn;
    int (*user_start)(void **worker_state, const twill_task *task);
    size_t max_items, max_bytes, capacity, capacity_bytes; /* none: SIZE_MAX */
    unsigned attempts;
    twill_ns linger, idle, item_timeout; /* none: TWILL_FOREVER */
    twill__backoff shape;
    uint64_t seed;
    twill__shift *shifts; /* [workers] */
    twill__shift **tops;  /* [workers]: the innermost one of each; its thread's alone */
    unsigned workers;
    twill_cancel_hook hook; /* in run.until.cancel */
    void *memory, *crew_memory;
    twill__crew crew;
} twill__batcher;

/* ns: to park, and to be woken by an adder, costs more than to let adders pass for so long */
#define TWILL__BATCHER_SPIN 20000
/* ns: who holds it is likely to add a row of items, and a look takes the line from him */
#define TWILL__BATCHER_ROW  1000

typedef struct twill__batcher_turn { /* what to do after a turn under the lock */
    twill__wakes wakes;
    unsigned call;  /* workers that are wanted */
    twill_ns alarm; /* 0: none */
} twill__batcher_turn;

/* Whether this process made it. A callback may fork: in the child nothing of the batcher is touched
   from its return on, since another thread of the parent may have had the lock, and the items are
   the parent's. */
static inline bool twill__batcher_here(const twill__batcher *batcher)
{
    return twill__crew_here(&batcher->crew);
}

/* ---- in and out of the lock ---- */

static inline void twill__batcher_enter(twill__batcher *batcher, twill__batcher_turn *turn)
{
    turn->wakes.count = 0;
    turn->call = 0;
    turn->alarm = 0;
    if (!twill__batcher_here(batcher) || twill__light_try(&batcher->lock))
        return;
    if (twill__spin_helps())
        twill__spin_away(TWILL__BATCHER_ROW);
    twill__light_take(&batcher->lock, TWILL__BATCHER_SPIN);
}

/* Whether there is room for one more. `all`: beside those whose on_item is still to return; one
   that on_item adds takes the place of the one that it is told about. */
static inline bool twill__batcher_room(const twill__batcher *batcher, size_t bytes, bool all)
{
    const twill__stock *stock = &batcher->stock;
    size_t used = stock->bytes + batcher->reserved_bytes + (all ? stock->leaving_bytes : 0);
    return stock->count + batcher->reserved + (all ? stock->leaving : 0) < batcher->capacity &&
           used <= batcher->capacity_bytes && bytes <= batcher->capacity_bytes - used;
}

/* The lowest number that is in the books; UINT64_MAX: none is. */
static inline uint64_t twill__batcher_oldest(const twill__batcher *batcher)
{
    const twill__stock *stock = &batcher->stock;
    uint64_t oldest = stock->oldest ? stock->oldest->number : UINT64_MAX;
    return stock->eldest && stock->eldest->number < oldest ? stock->eldest->number : oldest;
}

/* Nothing but the open lot holds the room, and it cannot grow. */
static inline bool twill__batcher_choked(const twill__batcher *batcher)
{
    const twill__stock *stock = &batcher->stock;
    return stock->open && !stock->ready.first && stock->idle == stock->count;
}

static inline void twill__batcher_unchoke(twill__batcher *batcher, twill__batcher_turn *turn)
{
    bool full = batcher->stock.count + batcher->reserved >= batcher->capacity;
    twill__lot_close(&batcher->stock, full ? TWILL__BY_COUNT : TWILL__BY_BYTES);
    turn->call = 1;
}

/* Whoever can go on is told. A granted add has its place reserved, so nobody overtakes it. */
static inline void twill__batcher_settle(twill__batcher *batcher, twill__batcher_turn *turn)
{
    twill__node *last = batcher->flushers.last;
    for (twill__node *node = batcher->flushers.first, *next; node; node = next) {
        bool end = node == last; /* one that is leaving is put behind it */
        next = node->next;
        if (((twill__batcher_waiter *)(void *)node)->target <= twill__batcher_oldest(batcher))
            (void)twill__wakes_grant(&turn->wakes, &batcher->flushers, node, TWILL_OK);
        if (end)
            break;
    }
    last = batcher->adders.last;
    for (twill__node *node = batcher->adders.first, *next; node; node = next) {
        size_t bytes = ((twill__batcher_waiter *)(void *)node)->bytes;
        bool end = node == last;
        next = node->next;
        if (batcher->closed) {
            (void)twill__wakes_grant(&turn->wakes, &batcher->adders, node, TWILL_CLOSED);
        } else if (!twill__batcher_room(batcher, bytes, true)) {
            if (twill__batcher_choked(batcher))
                twill__batcher_unchoke(batcher, turn);
            break;
        } else if (twill__wakes_grant(&turn->wakes, &batcher->adders, node, TWILL_OK)) {
            batcher->reserved++;
            batcher->reserved_bytes += bytes;
        }
        if (end)
            break;
    }
}

/* Why the run was cut, or TWILL_OK. Relaxed: it is written under the lock, and without it only a
   hint: a call too many is harmless. */
static inline twill_status twill__batcher_why_cut(const twill__batcher *batcher)
{
    return (twill_status)atomic_load_explicit(&batcher->cut, memory_order_relaxed);
}

/* After the last item has left the books: nobody tells, and whoever waits is inside. */
static inline bool twill__batcher_deserted(const twill__batcher *batcher)
{
    return !batcher->inside && !twill__light_wanted(&batcher->lock);
}

/* Workers that look without the lock must see it, before they are called. */
static inline void twill__batcher_due(twill__batcher *batcher, const twill__batcher_turn *turn)
{
    /* relaxed: written under the lock */
    twill_ns due = atomic_load_explicit(&batcher->due, memory_order_relaxed);
    twill_ns sooner = turn->call ? 0 : turn->alarm ? turn->alarm : due;
    if (sooner < due)
        atomic_store_explicit(&batcher->due, sooner, memory_order_seq_cst);
}

/* The only way out of the lock. */
static inline void twill__batcher_exit(twill__batcher *batcher, twill__batcher_turn *turn)
{
    if (!twill__batcher_here(batcher))
        return;
    if (batcher->adders.first || batcher->flushers.first)
        twill__batcher_settle(batcher, turn);
    if (batcher->destroyer && twill__batcher_deserted(batcher)) {
        _Atomic uint32_t *word = &batcher->destroyer->word;
        batcher->destroyer = NULL;
        /* pairs with twill__await; the destroyer takes the lock once more before it frees */
        atomic_fetch_or_explicit(word, TWILL__GRANTED, memory_order_acq_rel);
        twill__wake(word, 1);
    }
    twill__batcher_due(batcher, turn);
    if (turn->call)
        twill__crew_call(&batcher->crew, turn->call);
    if (turn->alarm)
        twill__crew_alarm(&batcher->crew, turn->alarm);
    twill__light_unlock(&batcher->lock);
    twill__wakes_send(&turn->wakes);
}

/* ---- who is inside ---- */

static inline void twill__batcher_calling_begin(twill__batcher *batcher,
                                                twill__batcher_calling *calling)
{
    calling->thread = twill__thread_number();
    calling->next = batcher->callings;
    batcher->callings = calling;
}

static inline void twill__batcher_calling_end(twill__batcher *batcher,
                                              const twill__batcher_calling *calling)
{
    twill__batcher_calling **link = &batcher->callings;
    while (*link != calling)
        link = &(*link)->next;
    *link = calling->next;
}

/* Under the lock: whether this thread runs a callback of this batcher. */
static inline bool twill__batcher_inside(const twill__batcher *batcher)
{
    const twill__batcher_calling *calling = batcher->callings;
    while (calling && calling->thread != twill__thread_number())
        calling = calling->next;
    return calling || twill__crew_inside(&batcher->crew);
}

/* ---- due instants ---- */

static inline twill_ns twill__entry_expires(const twill__batcher *batcher,
                                            const twill__entry *entry)
{
    return batcher->item_timeout == TWILL_FOREVER
               ? TWILL_FOREVER
               : twill__instant_after(entry->added, batcher->item_timeout);
}

/* When the open lot leaves by itself. */
static inline twill_ns twill__open_due(const twill__batcher *batcher, enum twill__why *why)
{
    const twill__batch_lot *open = batcher->stock.open;
    twill_ns by_age, by_gap;
    *why = TWILL__BY_LINGER;
    if (!open)
        return TWILL_FOREVER;
    by_age = batcher->linger == TWILL_FOREVER ? TWILL_FOREVER
                                              : twill__instant_after(open->opened, batcher->linger);
    by_gap = batcher->idle == TWILL_FOREVER ? TWILL_FOREVER
                                            : twill__instant_after(open->arrival, batcher->idle);
    if (by_gap >= by_age)
        return by_age;
    *why = TWILL__BY_IDLE;
    return by_gap;
}

/* Closes the open lot if its time has come. */
static inline void twill__open_look(twill__batcher *batcher, twill_ns now)
{
    enum twill__why why;
    if (batcher->stock.open && now >= twill__open_due(batcher, &why))
        twill__lot_close(&batcher->stock, why);
}

/* When the next thing is due that nobody tells; TWILL_FOREVER: nothing. */
static inline twill_ns twill__batcher_next_due(const twill__batcher *batcher)
{
    const twill__stock *stock = &batcher->stock;
    enum twill__why why;
    twill_ns next = twill__open_due(batcher, &why);
    if (stock->waiting.first)
        next = twill__nearer(next, stock->waiting.first->due);
    if (stock->front)
        next = twill__nearer(next, twill__entry_expires(batcher, stock->front));
    if (stock->idle && !twill__no_deadline(batcher->options.run.until.deadline))
        next = twill__nearer(next, batcher->options.run.until.deadline);
    return next;
}

/* ---- ends ---- */

static inline void twill__batcher_count(twill__batcher *batcher, twill_status status)
{
    twill_batcher_stats *counts = &batcher->counts;
    switch (status) {
    case TWILL_OK:
        counts->done++;
        break;
    case TWILL_TIMEOUT:
        counts->timed_out++;
        break;
    case TWILL_CANCELLED:
        counts->cancelled++;
        break;
    case TWILL_DROPPED:
        counts->dropped++;
        break;
    case TWILL_LOST:
        counts->lost++;
        break;
    default:
        counts->failed++;
    }
}

/* Under the lock: how an entry has ended. */
static inline void twill__batcher_decide(twill__batcher *batcher, twill__entry *entry,
                                         twill_status status, int code)
{
    twill_item_error *first = &batcher->first;
    twill__entry_decide(&batcher->stock, entry, status, code);
    twill__batcher_count(batcher, status);
    if ((status == TWILL_FAILED || status == TWILL_LOST) &&
        (!first->status || (size_t)entry->number < first->index))
        *first = (twill_item_error){(size_t)entry->number, status, code};
}

/* Under the lock: an entry has its end, and will be told by the thread that has the list. */
static inline void twill__batcher_end(twill__batcher *batcher, twill__entry *entry,
                                      twill_status status, int code, twill__entry ***at)
{
    if (!entry->decided)
        twill__batcher_decide(batcher, entry, status, code);
    entry->where = TWILL__ENDED_ITEM;
    entry->ended = NULL;
    **at = entry;
    *at = &entry->ended;
}

static inline twill_outcome twill__entry_outcome(const twill__entry *entry)
{
    twill_outcome outcome;
    memset(&outcome, 0, sizeof outcome);
    outcome.status = entry->status;
    outcome.code = entry->code;
    outcome.index = (size_t)entry->number;
    outcome.key = entry->item;
    outcome.worker = entry->worker;
    outcome.attempts = entry->attempts;
    outcome.queued = entry->added;
    outcome.started = entry->started;
    outcome.finished = twill__clock_now();
    return outcome;
}

/* Without the lock: tells of one ended entry. */
static inline void twill__entry_tell(twill__batcher *batcher, twill__entry *entry, twill_task *task)
{
    twill_outcome outcome;
    bool has = entry->called && batcher->options.result_size;
    if (!batcher->options.on_item)
        return;
    outcome = twill__entry_outcome(entry);
    task->index = (size_t)entry->number;
    batcher->options.on_item(entry->item, &outcome, has ? entry->record.result : NULL, task);
}

static inline void twill__entry_promise(twill__entry *entry)
{
    twill__record *record = &entry->record;
    if (!entry->has_future || entry->promised)
        return;
    entry->promised = true;
    record->outcome = twill__entry_outcome(entry);
    (void)twill__record_settle(record, record->outcome.status == TWILL_OK);
    twill__record_publish(record, false);
}

/* Under the lock: entries that have been told leave the books. */
static inline void twill__batcher_forget(twill__batcher *batcher, twill__entry *entry)
{
    twill__stock *stock = &batcher->stock;
    while (entry) {
        twill__entry *next = entry->ended;
        TWILL__CHAIN_OUT(stock->oldest, stock->newest, entry, older, newer);
        stock->books--;
        stock->leaving--;
        stock->leaving_bytes -= entry->bytes;
        twill__key_give(stock, entry);
        if (entry->has_future)
            twill__record_disown(&entry->record); /* may be another's from here on */
        else
            twill__record_put(&entry->record);
        entry = next;
    }
}

static inline twill_task twill__batcher_task(const twill__batcher *batcher)
{
    twill_task task = {SIZE_MAX, batcher->options.run.context, UINT_MAX, 0, NULL, {0, NULL}, NULL};
    return task;
}

typedef struct twill__teller { /* outside of the workers: whom this thread has to tell */
    twill__batcher *batcher;
    twill__entry *first, *at;
    twill__batcher_calling calling;
} twill__teller;

static inline void twill__teller_end(void *teller_)
{
    twill__teller *teller = (twill__teller *)teller_;
    twill__batcher *batcher = teller->batcher;
    twill_task task = twill__batcher_task(batcher);
    twill__batcher_turn turn;
    if (!twill__batcher_here(batcher))
        return;
    while (teller->at) { /* when a callback has ended the thread: that one has been told */
        twill__entry *entry = teller->at;
        teller->at = entry->ended;
        twill__entry_promise(entry);
        if (teller->at)
            twill__entry_tell(batcher, teller->at, &task);
    }
    twill__batcher_enter(batcher, &turn);
    twill__batcher_forget(batcher, teller->first);
    twill__batcher_calling_end(batcher, &teller->calling);
    turn.call = 1; /* a key may be free */
    twill__batcher_exit(batcher, &turn);
}

/* Under the lock, which it leaves and takes again: tells entries outside of the workers. */
static inline void twill__batcher_tell(twill__batcher *batcher, twill__batcher_turn *turn,
                                       twill__entry *ended)
{
    twill__teller teller = {batcher, ended, ended, {NULL, 0}};
    twill_task task = twill__batcher_task(batcher);
    if (!ended)
        return;
    twill__batcher_calling_begin(batcher, &teller.calling);
    twill__batcher_exit(batcher, turn);
    TWILL__GUARD_PUSH(twill__teller_end, &teller);
    while (teller.at) {
        twill__entry_tell(batcher, teller.at, &task);
        if (!twill__batcher_here(batcher))
            break;
        twill__entry_promise(teller.at);
        teller.at = teller.at->ended;
    }
    TWILL__GUARD_POP(1);
    twill__batcher_enter(batcher, turn);
}

#endif

/* ---- taking ---- */

/* A packed lot: its cells are copied, since others must not wait for this call to have them. */
static inline bool twill__shift_take_packed(twill__shift *shift, twill__batch_lot *lot)
{
    twill__stock *stock = &shift->batcher->stock;
    twill__line_remove(&stock->ready, lot);
    twill__ring_copy(stock, lot->place, lot->count, &shift->cells);
    lot->taken = true;
    twill__ring_trim(stock);
    stock->idle -= lot->count;
    shift->lot = lot;
    shift->packed = true;
    shift->count = lot->count;
    shift->at = 0;
    return true;
}

/* Takes the entries of a lot whose keys are free. False: there is none. */
static inline bool twill__shift_take(twill__shift *shift, twill__batch_lot *lot, bool waiting,
                                     twill_ns now)
{
    twill__stock *stock = &shift->batcher->stock;
    twill__batch_lot *mine = lot;
    if (lot->packed)
        return twill__shift_take_packed(shift, lot);
    if (stock->flights && !waiting && lot->stuck == stock->releases)
        return false;
    if (stock->flights && !waiting) { /* those that wait hold their keys */
        bool all = true, any = false;
        for (twill__entry *entry = lot->first; entry; entry = entry->next) {
            bool taken = twill__key_taken(stock, entry);
            entry->state = taken ? TWILL__SLOT_BAD : TWILL__SLOT_ENDED;
            all = all && !taken;
            any = any || !taken;
        }
        if (!any) {
            lot->stuck = stock->releases;
            return false;
        }
        if (!all)
            mine = twill__lot_get(stock);
    }
    shift->count = 0;
    for (twill__entry *entry = lot->first, *next; entry; entry = next) {
        next = entry->next;
        twill__entry_fetch(entry->ahead);
        if (mine != lot && entry->state == TWILL__SLOT_BAD)
            continue;
        twill__lot_remove(lot, entry);
        shift->list[shift->count++] = entry;
        for (twill__entry *one = entry; one; one = one->follower) {
            twill__idle_out(stock, one);
            one->where = TWILL__RUNNING_ITEM;
            one->lot = mine;
            one->attempts = lot->attempt;
            one->worker = shift->task.worker;
            if (!one->started)
                one->started = now;
        }
        twill__key_take(stock, entry);
    }
    if (mine == lot)
        twill__line_remove(waiting ? &stock->waiting : &stock->ready, lot);
    else
        lot->stuck = stock->releases;
    mine->attempt = lot->attempt;
    mine->why = lot->why;
    mine->due = 0;
    shift->lot = mine;
    shift->at = 0;
    return true;
}

/* The run is over: nothing is called any more, nothing more comes in. Under the lock. */
static inline void twill__batcher_cut(twill__batcher *batcher, twill_status why)
{
    batcher->closed = true;
    if (!twill__batcher_why_cut(batcher)) /* relaxed: see there */
        atomic_store_explicit(&batcher->cut, (uint32_t)why, memory_order_relaxed);
}

/* Under the lock: what is too old, or, once the run is over, everything that is in no call, ends
   uncalled. */
static inline bool twill__batcher_reap(twill__batcher *batcher, twill_ns now,
                                       twill__entry ***ended_at)
{
    twill__stock *stock = &batcher->stock;
    const twill_until *until = &batcher->options.run.until;
    bool any = false;
    twill_status cut;
    if (stock->books && twill_cancel_fired(until->cancel))
        twill__batcher_cut(batcher, TWILL_CANCELLED);
    else if (stock->books && twill__past(until->deadline, now))
        twill__batcher_cut(batcher, TWILL_TIMEOUT);
    cut = twill__batcher_why_cut(batcher);
    for (twill__batch_lot *lot; cut && (lot = twill__packed_idle(stock, true));)
        twill__lot_unpack(stock, lot); /* each ends by itself */
    while (stock->front && (cut || now >= twill__entry_expires(batcher, stock->front))) {
        twill__entry *entry = stock->front;
        twill_status status = cut;
        twill__entry_out(stock, entry);
        if (now >= twill__entry_expires(batcher, entry))
            status = TWILL_TIMEOUT;
        else if (entry->called)
            status = TWILL_FAILED; /* it has, and is not tried again */
        twill__batcher_end(batcher, entry, status, status == TWILL_FAILED ? entry->its : 0,
                           ended_at);
        any = true;
    }
    return any;
}

/* Counts a lot that leaves for the first time. */
static inline void twill__shift_left(twill__shift *shift)
{
    twill_batcher_stats *counts = &shift->batcher->counts;
    if (shift->lot->attempt > 1) {
        counts->retried += shift->count;
        return;
    }
    counts->batches++;
    shift->batcher->left[shift->lot->why]++;
    shift->batcher->carried += shift->count;
}

static inline void twill__shift_idle(twill__shift *shift)
{
    shift->batcher->busy -= shift->busy;
    shift->busy = false;
}

/* The next thing to do for a worker. False: nothing is. */
static inline bool twill__shift_pick(twill__shift *shift)
{
    twill__batcher *batcher = shift->batcher;
    twill__stock *stock = &batcher->stock;
    twill_ns now = twill__clock_now();
    shift->lot = NULL;
    shift->packed = false;
    shift->count = 0;
    shift->ended = NULL;
    shift->ended_at = &shift->ended;
    shift->told = false;
    shift->packed_told = 0;
    shift->started = now;
    shift->telling = NULL;
    batcher->busy += !shift->busy;
    shift->busy = true;
    if (twill__batcher_reap(batcher, now, &shift->ended_at))
        return true;
    twill__open_look(batcher, now);
    if (stock->waiting.first && stock->waiting.first->due <= now)
        (void)twill__shift_take(shift, stock->waiting.first, true, now);
    for (twill__batch_lot *lot = stock->ready.first; lot && !shift->lot; lot = lot->next)
        if (twill__shift_take(shift, lot, false, now))
            break;
    if (!shift->lot) {
        atomic_store_explicit(&batcher->due, twill__batcher_next_due(batcher),
                              memory_order_seq_cst);
        twill__shift_idle(shift);
        return false;
    }
    twill__shift_left(shift);
    return true;
}

/* ---- one call ---- */

static inline void *twill__shift_item(const twill__view *view, size_t i)
{
    const twill__shift *shift = (const twill__shift *)(const void *)view;
    return shift->packed ? shift->cells.item[i] : shift->call[i]->item;
}

static inline void *twill__shift_result(const twill__view *view, size_t i)
{
    const twill__shift *shift = (const twill__shift *)(const void *)view;
    return shift->batcher->options.result_size ? shift->call[i]->record.result : NULL;
}

/* A wait inside the callback for one of these items could never end: the futures know that the
   thread stands in all of them. */
static inline void twill__shift_stack(twill__shift *shift)
{
    for (size_t i = 0; i < shift->called; i++)
        for (twill__entry *one = shift->call[i]; one; one = one->follower)
            if (one->has_future) {
                one->record.outer = twill__record_current();
                twill__thread()->record = &one->record;
                twill__record_claim(&one->record);
            }
}

/* The entries from shift->at on; a packed lot is called as a whole. */
static inline int twill__shift_call(twill__shift *shift, size_t count)
{
    twill__batcher *batcher = shift->batcher;
    twill__entry **call = shift->list + shift->at;
    uint64_t first = shift->packed ? shift->lot->number : call[0]->number;
    twill_batch batch = {count, shift->lot->attempt, (size_t)first, NULL, NULL, &shift->view};
    int code;
    for (size_t i = 0; i < count && !shift->packed; i++)
        for (twill__entry *one = call[i]; one; one = one->follower) {
            one->called = true;
            if (batcher->options.result_size)
                memset(one->record.result, 0, batcher->options.result_size);
        }
    shift->call = call;
    shift->called = count;
    shift->settled = 0;
    shift->calls++;
    shift->task.index = batch.first;
    shift->around = twill__record_current();
    if (!shift->packed)
        twill__shift_stack(shift);
    code = batcher->fn(&batch, &shift->task);
    twill__thread()->record = shift->around;
    return code;
}

static inline bool twill__shift_retries(twill__shift *shift, size_t i, int code)
{
    twill__batcher *batcher = shift->batcher;
    bool (*retryable)(const void *, int, const twill_task *) = batcher->options.retryable;
    if (shift->lot->attempt >= batcher->attempts || !twill__batcher_here(batcher))
        return false; /* by `retryable` of another one */
    shift->task.index = (size_t)shift->call[i]->number;
    return !retryable || retryable(shift->call[i]->item, code, &shift->task);
}

/* How an entry of the call ended, and what follows from it. */
static inline twill__slot_state twill__shift_judge(twill__shift *shift, size_t i, int code,
                                                   bool any)
{
    twill__entry *entry = shift->call[i];
    twill_bad_batch bad = shift->batcher->options.on_bad_batch;
    twill__end end = twill__view_end(&shift->view, i, code, any, &entry->its);
    entry->answer = end == TWILL__END_DONE   ? TWILL_OK
                    : end == TWILL__END_LOST ? TWILL_LOST
                                             : TWILL_FAILED;
    if (entry->answer != TWILL_FAILED)
        return TWILL__SLOT_ENDED;
    if (end == TWILL__END_BAD && bad == TWILL_BAD_BATCH_BISECT && shift->called > 1)
        return TWILL__SLOT_BAD;
    if ((end == TWILL__END_BAD && bad == TWILL_BAD_BATCH_FAIL) ||
        !twill__shift_retries(shift, i, entry->its))
        return TWILL__SLOT_ENDED;
    return bad == TWILL_BAD_BATCH_BISECT && shift->called == 1 ? TWILL__SLOT_ALONE
                                                               : TWILL__SLOT_AGAIN;
}

/* An entry of the worker's, and those behind it, are to be told. */
static inline void twill__shift_end(twill__shift *shift, twill__entry *entry, twill_status answer)
{
    twill__entry *follower;
    size_t size = shift->batcher->options.result_size;
    const void *result = entry->record.result;
    for (twill__entry *one = entry; one; one = follower) {
        follower = one->follower;
        one->follower = NULL;
        one->answer = answer;
        if (one != entry) {
            one->its = entry->its;
            if (size)
                memcpy(one->record.result, result, size);
        }
        one->ended = NULL;
        *shift->ended_at = one;
        shift->ended_at = &one->ended;
    }
}

/* A packed lot in this worker's hands has entries from now on, as if it had taken them. Takes the
   lock for a moment. */
static inline void twill__shift_unpack(twill__shift *shift)
{
    twill__stock *stock = &shift->batcher->stock;
    twill__batch_lot *lot = shift->lot;
    twill__batcher_turn turn;
    twill__entry *older;
    if (!shift->packed)
        return;
    twill__batcher_enter(shift->batcher, &turn);
    older = twill__packed_behind(stock, lot);
    twill__packed_out(stock, lot);
    lot->packed = lot->taken = false;
    lot->count = lot->bytes = 0; /* what is tried again is put in */
    for (size_t i = 0; i < shift->count; i++) {
        older = twill__packed_entry(stock, lot, i, &shift->cells, i, older);
        older->lot = lot;
        older->where = TWILL__RUNNING_ITEM;
        older->attempts = lot->attempt;
        older->worker = shift->task.worker;
        older->started = shift->started;
        older->called = shift->called != 0;
        shift->list[i] = older;
    }
    twill__batcher_exit(shift->batcher, &turn);
    shift->packed = false;
}

/* After the call of a packed lot: true: all are done, and it stays packed. Else it is unpacked. */
static inline bool twill__shift_settled_packed(twill__shift *shift, int code)
{
    size_t count = shift->called;
    bool any, done;
    if (!shift->packed)
        return false;
    any = memchr(shift->view.set, 1, count) != NULL;
    done = any ? !memchr(shift->view.set, 0, count) : !code;
    for (size_t i = 0; i < count && any && done; i++)
        done = !shift->view.codes[i];
    if (!done) {
        twill__shift_unpack(shift);
        return false;
    }
    if (any)
        memset(shift->view.set, 0, count);
    shift->at += count;
    shift->called = 0;
    return true;
}

/* After a call: each entry has its end, or waits in the lot, or is BAD: how many are. Those stand
   at the end of the part then. */
static inline size_t twill__shift_settle(twill__shift *shift, int code)
{
    size_t count = shift->called, bad = 0, at = count;
    bool any = memchr(shift->view.set, 1, count) != NULL;
    for (; shift->settled < count; shift->settled++) {
        twill__entry *entry = shift->call[shift->settled];
        entry->state = twill__shift_judge(shift, shift->settled, code, any);
        if (entry->state == TWILL__SLOT_ENDED)
            twill__shift_end(shift, entry, entry->answer);
        else if (entry->state == TWILL__SLOT_BAD)
            bad++;
        else
            twill__lot_insert(shift->lot, entry);
        if (entry->state != TWILL__SLOT_BAD)
            shift->call[shift->settled] = NULL;
    }
    if (any)
        memset(shift->view.set, 0, count);
    for (size_t i = count; bad && i > 0; i--)
        if (shift->call[i - 1])
            shift->call[--at] = shift->call[i - 1];
    shift->called = shift->settled = 0;
    return bad;
}

/* ---- a lot ---- */

/* With keys: an entry waits behind one of its key that waits. Returns where the rest begins. */
static inline size_t twill__shift_hold_back(twill__shift *shift, size_t from, size_t to)
{
    size_t at = to;
    if (!shift->batcher->stock.flights || !shift->lot->first)
        return from;
    for (size_t i = to; i > from; i--) {
        twill__entry *entry = shift->list[i - 1];
        const twill__entry *other = shift->lot->first;
        while (other && (other->key != entry->key || other->number > entry->number))
            other = other->next;
        if (!other) {
            shift->list[--at] = entry;
            continue;
        }
        entry->state = TWILL__SLOT_AGAIN;
        twill__lot_insert(shift->lot, entry);
    }
    return at;
}

static inline void twill__shift_give_up(twill__shift *shift, size_t to)
{
    twill_status cut = twill__batcher_why_cut(shift->batcher);
    for (; shift->at < to; shift->at++) {
        twill__entry *entry = shift->list[shift->at];
        twill__shift_end(shift, entry, entry->called ? TWILL_FAILED : cut ? cut : TWILL_LOST);
    }
}

/* The entries from shift->at to `to` in one call; what is bad, in halves, as in the array form. */
static inline void twill__shift_divide(twill__shift *shift, size_t to)
{
    size_t ends[sizeof(size_t) * CHAR_BIT + 1], depth = 1;
    ends[0] = to;
    while (depth && twill__batcher_here(shift->batcher)) {
        /* exit: each turn ends entries, puts them off, or halves a range; a fork */
        size_t bad, end = ends[depth - 1];
        int code;
        shift->at = twill__shift_hold_back(shift, shift->at, end);
        if (shift->at == end) {
            depth--;
            continue;
        }
        if (twill__batcher_why_cut(shift->batcher)) {
            twill__shift_unpack(shift);
            twill__shift_give_up(shift, end);
            continue;
        }
        code = twill__shift_call(shift, end - shift->at);
        if (!twill__batcher_here(shift->batcher) || twill__shift_settled_packed(shift, code))
            return;
        bad = twill__shift_settle(shift, code);
        shift->at = end - bad;
        if (bad > 1)
            ends[depth++] = shift->at + (bad + 1) / 2;
    }
}

/* Those that failed alone are called alone; the others together, as far as they stand together. */
static inline void twill__shift_call_all(twill__shift *shift)
{
    if (shift->packed)
        twill__shift_divide(shift, shift->count);
    while (shift->at < shift->count && twill__batcher_here(shift->batcher)) {
        size_t to = shift->at + 1;
        if (shift->list[shift->at]->state != TWILL__SLOT_ALONE)
            while (to < shift->count && shift->list[to]->state != TWILL__SLOT_ALONE)
                to++;
        twill__shift_divide(shift, to);
    }
}

/* Under the lock: all of a packed lot are done. Whether anybody is to be told. */
static inline bool twill__shift_decide_packed(twill__shift *shift)
{
    twill__batcher *batcher = shift->batcher;
    twill__stock *stock = &batcher->stock;
    const twill__batch_lot *lot = shift->lot;
    batcher->counts.done += lot->count;
    stock->count -= lot->count;
    stock->bytes -= lot->bytes;
    stock->leaving += lot->count;
    stock->leaving_bytes += lot->bytes;
    return batcher->options.on_item != NULL;
}

/* Under the lock: all of it have been told. */
static inline void twill__shift_forget_packed(twill__shift *shift)
{
    twill__stock *stock = &shift->batcher->stock;
    twill__batch_lot *lot = shift->lot;
    twill__packed_out(stock, lot);
    twill__core_unreserve(stock->core, lot->count);
    stock->books -= lot->count;
    stock->leaving -= lot->count;
    stock->leaving_bytes -= lot->bytes;
    twill__lot_put(stock, lot);
    shift->lot = NULL;
    shift->packed = false;
}

/* Without the lock, as twill__shift_tell. */
static inline void twill__shift_tell_packed(twill__shift *shift)
{
    twill__batcher *batcher = shift->batcher;
    twill_outcome outcome;
    memset(&outcome, 0, sizeof outcome); /* OK, code 0 */
    outcome.worker = shift->task.worker;
    outcome.attempts = 1;
    outcome.started = shift->started;
    while (shift->packed_told < shift->count && twill__batcher_here(batcher)) {
        size_t i = shift->packed_told++;
        outcome.key = shift->cells.item[i];
        outcome.index = (size_t)(shift->lot->number + i);
        outcome.queued = shift->cells.added[i];
        outcome.finished = twill__clock_now();
        shift->task.index = outcome.index;
        batcher->options.on_item(shift->cells.item[i], &outcome, NULL, &shift->task);
    }
}

/* Under the lock: how all ended is decided; what waits stands in its line. Whether anybody is to be
   told. */
static inline bool twill__shift_decide(twill__shift *shift, twill__batcher_turn *turn)
{
    twill__batcher *batcher = shift->batcher;
    twill__stock *stock = &batcher->stock;
    twill__batch_lot *lot = shift->lot;
    twill_ns now = twill__clock_now();
    bool tells = batcher->options.on_item != NULL;
    shift->told = true;
    batcher->counts.calls += shift->calls;
    shift->calls = 0;
    if (shift->packed)
        return twill__shift_decide_packed(shift);
    for (twill__entry *entry = shift->ended; entry; entry = entry->ended) {
        bool late = now >= twill__entry_expires(batcher, entry);
        if (!entry->decided) {
            twill_status status = late ? TWILL_TIMEOUT : entry->answer;
            twill__batcher_decide(batcher, entry, status, status == TWILL_FAILED ? entry->its : 0);
        }
        if (!entry->called) { /* taken, and then the run was over */
            entry->attempts = 0;
            entry->started = 0;
        }
        entry->where = TWILL__ENDED_ITEM;
        tells = tells || entry->has_future;
    }
    if (!lot)
        return tells;
    shift->lot = NULL;
    if (!lot->first) {
        twill__lot_put(stock, lot);
        return tells;
    }
    for (twill__entry *entry = lot->first; entry; entry = entry->next)
        for (twill__entry *one = entry; one; one = one->follower) {
            one->where = one == entry ? TWILL__PENDING_ITEM : TWILL__MERGED_ITEM;
            twill__record_unclaim(&one->record);
            twill__idle_in(stock, one);
        }
    lot->attempt++;
    lot->due = now;
    if (batcher->options.backoff)
        lot->due =
            twill__instant_after(now, twill__batch_delay(&batcher->shape, batcher->seed,
                                                         (size_t)lot->first->number, lot->attempt));
    twill__line_sort(&stock->waiting, lot);
    turn->alarm = twill__batcher_next_due(batcher); /* they may be too old before the lot is due */
    if (twill__batcher_why_cut(batcher))
        turn->call = 1; /* to its end */
    return tells;
}

/* Without the lock: tells all; also when a callback has ended the thread in the middle of it. */
static inline void twill__shift_tell(twill__shift *shift)
{
    twill__entry *entry = shift->telling;
    if (shift->packed) {
        twill__shift_tell_packed(shift);
        return;
    }
    if (entry)
        twill__entry_promise(entry);
    entry = entry ? entry->ended : shift->ended;
    for (; entry; entry = entry->ended) {
        shift->telling = entry;
        twill__entry_tell(shift->batcher, entry, &shift->task);
        if (!twill__batcher_here(shift->batcher))
            return;
        twill__entry_promise(entry);
    }
}

/* How all ended is told, and forgotten. `on`: then the next lot is taken, in the same turn; true:
   there was one. */
static inline bool twill__shift_finish(twill__shift *shift, bool on)
{
    twill__batcher *batcher = shift->batcher;
    twill__batcher_turn turn;
    bool tells = true;
    if (!shift->told) {
        twill__batcher_enter(batcher, &turn);
        tells = twill__shift_decide(shift, &turn);
        if (tells)
            twill__batcher_exit(batcher, &turn);
    }
    if (tells) {
        twill__shift_tell(shift);
        if (!twill__batcher_here(batcher))
            return false;
        twill__batcher_enter(batcher, &turn);
    }
    if (shift->packed)
        twill__shift_forget_packed(shift);
    twill__batcher_forget(batcher, shift->ended);
    shift->ended = NULL;
    if (batcher->stock.flights && batcher->stock.ready.first)
        turn.call = batcher->workers; /* keys are free */
    if (on)
        on = twill__shift_pick(shift);
    else
        twill__shift_idle(shift);
    twill__batcher_exit(batcher, &turn);
    return on;
}

/* ---- a worker ---- */

static inline void twill__shift_begin(twill__shift *shift, twill__batcher *batcher,
                                      const twill_task *task)
{
    shift->batcher = batcher;
    shift->task = *task;
    shift->outer = batcher->tops[task->worker];
    batcher->tops[task->worker] = shift;
    shift->view.item = twill__shift_item;
    shift->view.result = twill__shift_result;
    shift->called = shift->settled = shift->count = shift->calls = 0;
    shift->lot = NULL;
    shift->ended = NULL;
    /* relaxed: read by this thread alone; other numbers differ */
    atomic_store_explicit(&shift->owner, twill__thread_number(), memory_order_relaxed);
}

static inline void twill__shift_over(twill__shift *shift)
{
    shift->batcher->tops[shift->task.worker] = shift->outer;
    atomic_store_explicit(&shift->owner, 0, memory_order_relaxed); /* as above */
}

/* Works on what twill__shift_pick has given. `on`, and the answer: as twill__shift_finish. */
static inline bool twill__shift_work(twill__shift *shift, bool on)
{
    if (shift->lot)
        twill__shift_call_all(shift);
    return twill__batcher_here(shift->batcher) && twill__shift_finish(shift, on);
}

static inline bool twill__batcher_pick(twill__batcher *batcher, twill__shift *shift)
{
    twill__batcher_turn turn;
    bool any;
    if (!twill__batcher_here(batcher))
        return false;
    twill__batcher_enter(batcher, &turn);
    any = twill__shift_pick(shift);
    twill__batcher_exit(batcher, &turn);
    return any;
}

static inline void twill__batcher_work(void *object, twill_task *task)
{
    twill__batcher *batcher = (twill__batcher *)object;
    twill__shift *shift = &batcher->shifts[task->worker];
    twill__shift_begin(shift, batcher, task);
    /* who stops the batcher fires the tokens after the lock: a pick before that has begun, one
       after it finds the run cut */
    twill__crew_begin(&batcher->crew, task->worker, 0);
    if (twill__batcher_pick(batcher, shift))
        while (twill__shift_work(shift, true)) {} /* exit: nothing is ready */
    twill__shift_over(shift);
}

/* A callback has ended the thread: what was in the call is LOST, what waited for its turn has
   failed, what was to be told is told. The shifts that this one was inside of are over, too. */
static inline void twill__shift_ended(twill__shift *shift)
{
    if (!shift->told) {
        size_t called = shift->called, settled = shift->settled;
        twill__shift_unpack(shift);
        for (size_t i = 0; i < called; i++)
            if (shift->call[i])
                twill__shift_end(shift, shift->call[i], i < settled ? TWILL_FAILED : TWILL_LOST);
        shift->at += called;
        shift->called = shift->settled = 0;
        twill__shift_give_up(shift, shift->count);
        memset(shift->view.set, 0, shift->count);
    }
    (void)twill__shift_finish(shift, false);
}

static inline void twill__batcher_worker_ended(void *object, twill_task *task)
{
    twill__batcher *batcher = (twill__batcher *)object;
    twill__job *around = twill__thread()->job;
    if (!twill__batcher_here(batcher))
        return;
    /* on_item still runs inside: it must not wait for us */
    twill__thread()->job = &batcher->crew.job;
    for (twill__shift *shift = batcher->tops[task->worker], *outer; shift; shift = outer) {
        outer = shift->outer;
        twill__shift_ended(shift);
        twill__shift_over(shift);
        if (shift != &batcher->shifts[task->worker])
            TWILL_FREE(shift);
    }
    twill__thread()->job = around;
}

/* Without the lock. A worker that comes in vain puts `due` right. */
static inline bool twill__batcher_ready(void *object)
{
    twill__batcher *batcher = (twill__batcher *)object;
    /* seq_cst: who makes work stores it, then raises the team's epoch; who will sleep on the epoch
       loads that first */
    twill_ns due = atomic_load_explicit(&batcher->due, memory_order_seq_cst);
    if (due == TWILL_FOREVER || !twill__batcher_here(batcher))
        return false;
    if (!due || twill__clock_now() >= due)
        return true;
    twill__crew_alarm(&batcher->crew, due);
    return false;
}

#endif

/* ---- waiting ---- */

/* On a pool this thread may be the only one that could work: it does, before it waits, and whenever
   something is due; but for one that would overrun its time, unless the pool counts on it. */
static inline bool twill__batcher_may_help(const twill__batcher *batcher, twill_until until)
{
    return !batcher->crew.has_own &&
           (twill__for_ever(until) || twill__crew_counts_on_us(&batcher->crew));
}

typedef struct twill__batcher_helper {
    twill__batcher *batcher;
    bool helped;
} twill__batcher_helper;

/* A callback has ended the thread: nobody waits for it to come back. */
static void twill__batcher_gone(void *batcher_)
{
    twill__batcher *batcher = (twill__batcher *)batcher_;
    twill__batcher_turn turn;
    if (!twill__batcher_here(batcher))
        return;
    twill__batcher_enter(batcher, &turn);
    batcher->inside--;
    twill__batcher_exit(batcher, &turn);
}

/* noinline: its locals must not stand in the frame of a guard, which may be a setjmp */
static __attribute__((noinline)) void twill__batcher_help_guarded(twill__batcher_helper *helper)
{
    TWILL__GUARD_PUSH(twill__batcher_gone, helper->batcher);
    helper->helped = twill__crew_help(&helper->batcher->crew);
    TWILL__GUARD_POP(0);
}

/* Leaves the lock and takes it again; true: look again (in a forked child, too). */
static inline bool twill__batcher_help(twill__batcher *batcher, twill__batcher_turn *turn)
{
    twill__batcher_helper helper = {batcher, false};
    batcher->inside++;
    twill__batcher_exit(batcher, turn);
    twill__batcher_help_guarded(&helper);
    twill__batcher_enter(batcher, turn);
    batcher->inside--;
    return helper.helped || !twill__batcher_here(batcher);
}

/* Under the lock, which it leaves and takes again. OK: granted, see node.answer; EMPTY: look again;
   TIMEOUT, CANCELLED. */
static inline twill_status twill__batcher_wait(twill__batcher *batcher, twill__batcher_turn *turn,
                                               twill__list *list, twill__batcher_waiter *wait,
                                               twill_until until)
{
    twill_ns sooner = until.deadline;
    twill_status status;
    if (wait->tried) {
        bool ours = twill__crew_counts_on_us(&batcher->crew);
        twill_ns due = twill__batcher_next_due(batcher);
        /* a worker number has to become free first; whoever had it may not come again, nor another
           thread, if the pool counts on us. From outside many may wait: they sleep */
        if (due <= wait->tried || (ours && batcher->stock.ready.first))
            due = twill__instant_after(wait->tried, TWILL_MS(1));
        sooner = twill__nearer(sooner, due);
    }
    twill__node_init(&wait->node);
    twill__list_append(list, &wait->node);
    batcher->inside++;
    twill__batcher_exit(batcher, turn);
    status = twill__wait_sooner(&wait->node, sooner, until);
    twill__batcher_enter(batcher, turn);
    batcher->inside--;
    if (status != TWILL_OK)
        twill__list_remove(list, &wait->node);
    return status;
}

/* ---- inside of a callback ---- */

/* The shift of the worker that this thread is; NULL: it is none. */
static inline twill__shift *twill__batcher_my_shift(twill__batcher *batcher)
{
    uint64_t me = twill__thread_number();
    for (unsigned worker = 0; worker < batcher->workers; worker++)
        /* its own entry is the only one that this thread can take for its own */
        if (atomic_load_explicit(&batcher->shifts[worker].owner, memory_order_relaxed) == me)
            return batcher->tops[worker];
    return NULL;
}

static inline size_t twill__shift_bytes(const twill__batcher *batcher)
{
    size_t each = twill__cell_bytes(&batcher->options) + sizeof(twill__entry *) + sizeof(int) + 1;
    return (batcher->max_items * each + 15) / 16 * 16;
}

/* `room`: aligned to 16. */
static inline void twill__shift_room(const twill__batcher *batcher, twill__shift *shift, char *room)
{
    size_t max = batcher->max_items;
    shift->cells = twill__cells_in(&batcher->options, room, max);
    room += max * twill__cell_bytes(&batcher->options);
    shift->list = (twill__entry **)(void *)room;
    shift->view.codes = (int *)(void *)(room + max * sizeof *shift->list);
    shift->view.set = (unsigned char *)(shift->view.codes + max);
    memset(shift->view.set, 0, max);
    atomic_init(&shift->owner, 0);
}

/* A callback processes another lot on top of its own. Under the lock, which it leaves and takes
   again. OK: something was done; EMPTY: nothing is there; NO_MEMORY; FORKED: this is the child. */
static inline twill_status twill__batcher_inline(twill__batcher *batcher, twill__batcher_turn *turn)
{
    twill__shift *outer = twill__batcher_my_shift(batcher), *shift;
    twill__record *around = twill__record_current();
    bool any;
    if (!outer)
        return TWILL_EMPTY;
    twill__batcher_exit(batcher, turn);
    shift = (twill__shift *)TWILL_MALLOC(sizeof *shift + twill__shift_bytes(batcher) + 16);
    if (!shift) {
        twill__batcher_enter(batcher, turn);
        return TWILL_NO_MEMORY;
    }
    memset(shift, 0, sizeof *shift);
    twill__shift_room(batcher, shift,
                      (char *)(shift + 1) + (16 - (uintptr_t)(shift + 1) % 16) % 16);
    twill__shift_begin(shift, batcher, &outer->task);
    any = twill__batcher_pick(batcher, shift);
    if (any)
        (void)twill__shift_work(shift, false);
    if (!twill__batcher_here(batcher))
        return TWILL_FORKED;
    twill__shift_over(shift);
    TWILL_FREE(shift);
    twill__thread()->record = around;
    twill__batcher_enter(batcher, turn);
    return any ? TWILL_OK : TWILL_EMPTY;
}

/* ---- in ---- */

typedef struct twill__arrival {
    void *item;
    size_t bytes;
    uint64_t key;
    twill_future *future;
} twill__arrival;

/* A thread of the batcher's own has nothing to do: it closes the open lot when its time comes. */
static inline bool twill__batcher_watched(const twill__batcher *batcher)
{
    const twill__crew *crew = &batcher->crew;
    return crew->has_own && !batcher->refused &&
           batcher->busy + (unsigned)atomic_load_explicit(&crew->own.lost, memory_order_seq_cst) <
               twill__team_threads(&crew->own);
}

/* The open lot is far from its time, or somebody looks after it. */
static inline bool twill__batcher_has_time(const twill__batcher *batcher)
{
    uint64_t half = (uint64_t)(batcher->linger / 2048) * batcher->crew.job.tick_rate;
    return batcher->linger == TWILL_FOREVER || twill__batcher_watched(batcher) ||
           twill__ticks() - batcher->stock.open->opened_ticks < half;
}

/* The instant of an arrival; 0: it makes no difference. A clock costs as much as all else here, so
   that it is not asked for an item that joins an open lot far from its time, and that nobody is
   told about. */
static inline twill_ns twill__batcher_arrived(const twill__batcher *batcher, bool future)
{
    if (future || !batcher->stock.open || batcher->options.on_item ||
        batcher->idle != TWILL_FOREVER || batcher->item_timeout != TWILL_FOREVER ||
        !twill__batcher_has_time(batcher))
        return twill__clock_now();
    return 0;
}

static inline void twill__batcher_enter_books(twill__batcher *batcher,
                                              const twill__arrival *arrival)
{
    batcher->stock.numbers++;
    batcher->stock.books++;
    batcher->stock.count++;
    batcher->stock.bytes += arrival->bytes;
    batcher->counts.added++;
}

/* What an item needs in memory, so that nothing fails, or has gone for it, once it comes in: an
   entry, or (NULL) one in reserve, and a cell. False: no memory. */
static inline bool twill__arrival_memory(twill__batcher *batcher, const twill__arrival *arrival,
                                         twill__entry **entry)
{
    twill__stock *stock = &batcher->stock;
    *entry = NULL;
    if (!twill__lots_for(stock, stock->books + 1))
        return false;
    if (stock->packs && !arrival->future && twill__packed_may_join(stock))
        return twill__packed_reserve(stock, &batcher->options);
    *entry = (twill__entry *)(void *)twill__record_get(stock->core, batcher->options.result_size);
    return *entry != NULL;
}

/* An entry in the books, and in no lot. `entry`: of twill__arrival_memory. */
static inline twill__entry *twill__batcher_book(twill__batcher *batcher,
                                                const twill__arrival *arrival, twill__entry *entry)
{
    twill__stock *stock = &batcher->stock;
    if (!entry)
        entry = (twill__entry *)(void *)twill__record_get_reserved(stock->core);
    twill__entry_fill(entry, arrival->item, arrival->bytes, stock->numbers,
                      twill__batcher_arrived(batcher, arrival->future != NULL));
    if (batcher->options.key_of) {
        entry->key = arrival->key;
        entry->leader = entry->hashed = entry->same = NULL;
        entry->in_flight = false;
    }
    twill__books_behind(stock, entry, stock->newest);
    twill__batcher_enter_books(batcher, arrival);
    if (arrival->future) {
        entry->has_future = true;
        entry->batcher = batcher;
        *arrival->future = twill__record_hold(&entry->record);
        if (batcher->item_timeout != TWILL_FOREVER) /* relaxed: nobody else knows it yet */
            atomic_store_explicit(&entry->record.due, twill__entry_expires(batcher, entry),
                                  memory_order_relaxed);
    }
    return entry;
}

/* Joins an entry of the open lot that has its key. False: there is none, or no room for it. */
static inline bool twill__batcher_merge(twill__batcher *batcher, twill__entry *entry)
{
    twill__stock *stock = &batcher->stock;
    twill__entry *leader = twill__open_find(stock, entry->key), *last = leader;
    size_t more;
    if (!leader)
        return false;
    more = entry->weight > leader->weight ? entry->weight - leader->weight : 0;
    if (more > batcher->max_bytes - stock->open->bytes)
        return false;
    leader->weight += more;
    stock->open->bytes += more;
    while (last->follower)
        last = last->follower;
    last->follower = entry;
    entry->leader = leader;
    entry->lot = leader->lot;
    entry->where = TWILL__MERGED_ITEM;
    batcher->counts.merged++;
    return true;
}

/* The open lot takes one of so many bytes; if it cannot, a new one does. True: it is a new one. */
static inline bool twill__batcher_open_for(twill__batcher *batcher, const twill__arrival *arrival,
                                           twill_ns added)
{
    twill__stock *stock = &batcher->stock;
    size_t used = stock->open ? stock->open->bytes : 0;
    if (arrival->bytes > batcher->max_bytes - used)
        twill__lot_close(stock, TWILL__BY_BYTES);
    if (stock->open)
        return false;
    stock->open = twill__lot_get(stock);
    stock->open->opened = added ? added : twill__clock_now();
    stock->open->opened_ticks = twill__ticks();
    return true;
}

static inline void twill__batcher_peak(twill__batcher *batcher)
{
    if (batcher->stock.count > batcher->counts.pending_peak)
        batcher->counts.pending_peak = batcher->stock.count;
}

/* The open lot leaves if it is full. `last`: the line's before the item came. */
static inline void twill__batcher_filed(twill__batcher *batcher, twill__batcher_turn *turn,
                                        const twill__batch_lot *last, bool opens)
{
    twill__stock *stock = &batcher->stock;
    twill_ns due = TWILL_FOREVER;
    if (stock->open->count >= batcher->max_items)
        twill__lot_close(stock, TWILL__BY_COUNT);
    else if (stock->open->bytes >= batcher->max_bytes) /* above it: one that is alone */
        twill__lot_close(stock, TWILL__BY_BYTES);
    else if (opens)
        due = twill__batcher_next_due(batcher);
    if (due != TWILL_FOREVER)
        turn->alarm = due;
    if (stock->ready.last != last)
        turn->call = 1;
    twill__batcher_peak(batcher);
}

/* An entry, into the open lot. */
static inline void twill__batcher_file(twill__batcher *batcher, twill__batcher_turn *turn,
                                       const twill__arrival *arrival, twill__entry *entry)
{
    twill__stock *stock = &batcher->stock;
    const twill__batch_lot *last = stock->ready.last;
    bool opens;
    twill__open_look(batcher, entry->added); /* one whose time has come takes nothing more */
    if (stock->open && stock->open->packed)
        twill__lot_unpack(stock, stock->open);
    twill__idle_behind(stock, entry, stock->back);
    if (twill__batcher_merge(batcher, entry)) {
        stock->open->arrival = entry->added;
        twill__batcher_peak(batcher);
        return;
    }
    opens = twill__batcher_open_for(batcher, arrival, entry->added);
    stock->open->arrival = entry->added;
    entry->where = TWILL__PENDING_ITEM;
    twill__lot_append(stock->open, entry);
    twill__lot_ahead(stock->open, entry);
    twill__open_in(stock, entry);
    twill__batcher_filed(batcher, turn, last, opens);
}

/* An item without an entry, likewise. After twill__arrival_memory. */
static inline void twill__batcher_pack(twill__batcher *batcher, twill__batcher_turn *turn,
                                       const twill__arrival *arrival)
{
    twill__stock *stock = &batcher->stock;
    const twill__batch_lot *last = stock->ready.last;
    twill_ns added = twill__batcher_arrived(batcher, false);
    bool opens;
    twill__open_look(batcher, added);
    opens = twill__batcher_open_for(batcher, arrival, added);
    if (opens) {
        stock->open->packed = true;
        stock->open->number = stock->numbers;
        stock->open->place = stock->end;
        twill__packed_in(stock, stock->open);
    }
    stock->open->arrival = added;
    twill__packed_append(stock, stock->open, arrival->item, arrival->bytes, added);
    stock->idle++;
    twill__batcher_enter_books(batcher, arrival);
    twill__batcher_filed(batcher, turn, last, opens);
}

/* There is room for it, and memory (of twill__arrival_memory, though what was dropped meanwhile may
   have unpacked the open lot): it comes in. */
static inline void twill__batcher_take_in(twill__batcher *batcher, twill__batcher_turn *turn,
                                          const twill__arrival *arrival, twill__entry *entry)
{
    if (!entry && twill__packed_may_join(&batcher->stock))
        twill__batcher_pack(batcher, turn, arrival);
    else
        twill__batcher_file(batcher, turn, arrival, twill__batcher_book(batcher, arrival, entry));
}

/* ---- full ---- */

/* The next one to go under DROP_OLDEST and DROP_NEWEST; NULL: all have been in a call. */
static inline twill__entry *twill__batcher_victim(twill__batcher *batcher)
{
    twill__stock *stock = &batcher->stock;
    bool oldest = batcher->options.overflow == TWILL_OVERFLOW_DROP_OLDEST;
    twill__batch_lot *lot = twill__packed_idle(stock, oldest);
    twill__entry *entry = oldest ? stock->front : stock->back;
    while (entry && entry->called)
        entry = oldest ? entry->after : entry->before;
    if (lot && (!entry || (lot->number < entry->number) == oldest)) {
        twill__lot_unpack(stock, lot);
        entry = oldest ? lot->first : lot->last;
    }
    return entry;
}

/* Whether room can be made, so that nothing is dropped in vain: an item, and enough of their
   bytes. */
static inline bool twill__batcher_may_evict(const twill__batcher *batcher, size_t bytes)
{
    const twill__stock *stock = &batcher->stock;
    size_t left = batcher->capacity_bytes - bytes, kept = stock->bytes;
    const twill__batch_lot *lot = twill__packed_idle(stock, true);
    bool any = lot != NULL;
    for (; lot && kept > left; lot = lot->younger)
        kept -= lot->taken ? 0 : lot->bytes;
    for (const twill__entry *entry = stock->front; entry && !(any && kept <= left);
         entry = entry->after)
        if (!entry->called) {
            any = true;
            kept -= entry->bytes;
        }
    return any && kept <= left;
}

/* Makes room, where it can be made; the dropped ones are to be told. */
static inline void twill__batcher_evict(twill__batcher *batcher, size_t bytes, twill__entry ***at)
{
    while (!twill__batcher_room(batcher, bytes, false)) { /* exit: twill__batcher_may_evict */
        twill__entry *entry = twill__batcher_victim(batcher);
        twill__entry_out(&batcher->stock, entry);
        twill__batcher_end(batcher, entry, TWILL_DROPPED, 0, at);
    }
}

/* No room for one who would wait for it. OK: look again. *granted: a place is reserved. */
static inline twill_status twill__batcher_wait_room(twill__batcher *batcher,
                                                    twill__batcher_turn *turn, size_t bytes,
                                                    twill_until until, bool wait, bool *granted)
{
    bool runs = batcher->options.overflow == TWILL_OVERFLOW_CALLER_RUNS;
    twill__batcher_waiter me;
    twill_status status;
    bool inside;
    if (!wait)
        return TWILL_FULL;
    inside = twill__batcher_inside(batcher);
    if ((inside || runs) && !batcher->stock.ready.first && batcher->stock.open)
        twill__batcher_unchoke(batcher, turn);
    if (inside) {
        status = twill__batcher_inline(batcher, turn);
        return status == TWILL_EMPTY ? TWILL_DEADLOCK : status;
    }
    status = twill__over(until);
    if (status != TWILL_OK)
        return status;
    me.tried = twill__batcher_may_help(batcher, until) ? twill__clock_now() : 0;
    if ((runs || me.tried) && twill__batcher_help(batcher, turn))
        return twill__batcher_here(batcher) ? TWILL_OK : TWILL_FORKED;
    me.bytes = bytes;
    status = twill__batcher_wait(batcher, turn, &batcher->adders, &me, until);
    *granted = status == TWILL_OK && me.node.answer == TWILL_OK;
    return status == TWILL_EMPTY ? TWILL_OK : status;
}

/* Whether an add goes in at once. */
static inline bool twill__batcher_may_enter(const twill__batcher *batcher, size_t bytes)
{
    twill_overflow overflow = batcher->options.overflow;
    bool waits = overflow == TWILL_OVERFLOW_BLOCK || overflow == TWILL_OVERFLOW_CALLER_RUNS;
    if (waits && !batcher->adders.first && twill__batcher_room(batcher, bytes, true))
        return true;
    /* a callback does not wait in the line */
    return twill__batcher_room(batcher, bytes, false) && (!waits || twill__batcher_inside(batcher));
}

/* Under the lock: the answer of an add, with those that it has dropped. */
static inline twill_status twill__batcher_admit(twill__batcher *batcher, twill__batcher_turn *turn,
                                                const twill__arrival *arrival, twill_until until,
                                                bool wait, twill__entry ***dropped)
{
    twill_overflow overflow = batcher->options.overflow;
    bool evicts = overflow == TWILL_OVERFLOW_DROP_OLDEST || overflow == TWILL_OVERFLOW_DROP_NEWEST;
    bool comes = true;
    twill__entry *entry;
    for (;;) { /* exit: a final answer; each turn is another's progress */
        bool granted = false;
        twill_status status = TWILL_OK;
        if (batcher->closed)
            return TWILL_CLOSED;
        if (twill__batcher_may_enter(batcher, arrival->bytes))
            break;
        if (!evicts && twill__batcher_choked(batcher))
            twill__batcher_unchoke(batcher, turn);
        if (overflow == TWILL_OVERFLOW_REJECT ||
            (evicts && !twill__batcher_may_evict(batcher, arrival->bytes)))
            return TWILL_FULL;
        comes = overflow != TWILL_OVERFLOW_DROP_INCOMING;
        if (evicts || !comes)
            break;
        status = twill__batcher_wait_room(batcher, turn, arrival->bytes, until, wait, &granted);
        if (granted) {
            batcher->reserved--;
            batcher->reserved_bytes -= arrival->bytes;
            if (batcher->closed)
                return TWILL_CLOSED;
            break;
        }
        if (status != TWILL_OK)
            return status;
    }
    if (!twill__arrival_memory(batcher, arrival, &entry))
        return TWILL_NO_MEMORY;
    if (!comes) {
        entry = twill__batcher_book(batcher, arrival, entry);
        twill__batcher_end(batcher, entry, TWILL_DROPPED, 0, dropped);
        return TWILL_DROPPED;
    }
    if (evicts)
        twill__batcher_evict(batcher, arrival->bytes, dropped);
    twill__batcher_take_in(batcher, turn, arrival, entry);
    return TWILL_OK;
}

static inline twill_status twill__batcher_put(twill__batcher *batcher, void *item,
                                              twill_future *future, twill_until until, bool wait)
{
    const twill_batch_options *options;
    twill__arrival arrival = {item, 0, 0, future};
    twill__entry *dropped = NULL, **at = &dropped;
    twill__batcher_turn turn;
    twill_task task;
    twill_status status;
    if (future)
        *future = (twill_future){NULL, 0};
    if (!batcher)
        return TWILL_INVALID;
    if (!twill__batcher_here(batcher))
        return TWILL_FORKED;
    options = &batcher->options;
    task = twill__batcher_task(batcher);
    if (options->bytes_of)
        arrival.bytes = options->bytes_of(item, &task);
    if (options->key_of)
        arrival.key = options->key_of(item, &task);
    if (!twill__batcher_here(batcher)) /* one of these has forked */
        return TWILL_FORKED;
    if ((arrival.bytes > batcher->max_bytes && !options->oversized_alone) ||
        arrival.bytes > batcher->capacity_bytes)
        return TWILL_TOO_BIG;
    twill__batcher_enter(batcher, &turn);
    status = twill__batcher_admit(batcher, &turn, &arrival, until, wait, &at);
    if (status == TWILL_FULL)
        batcher->counts.refused++;
    if (dropped)
        twill__batcher_tell(batcher, &turn, dropped);
    twill__batcher_exit(batcher, &turn);
    return status;
}

TWILL__DEFINE twill_status twill_batcher_add(twill_batcher *batcher, void *item,
                                             twill_future *future)
{
    return twill__batcher_put(batcher, item, future, (twill_until){0, NULL}, true);
}

TWILL__DEFINE twill_status twill_batcher_try_add(twill_batcher *batcher, void *item,
                                                 twill_future *future)
{
    return twill__batcher_put(batcher, item, future, (twill_until){0, NULL}, false);
}

TWILL__DEFINE twill_status twill_batcher_add_until(twill_batcher *batcher, void *item,
                                                   twill_future *future, twill_until until)
{
    return twill__batcher_put(batcher, item, future, until, true);
}

#endif

/* ---- batch_processing/life.h ---- */
/* life.h: a batcher's life: create, flush, close, stop, destroy; and what its futures ask of it. */
#ifndef TWILL__BATCH_LIFE_H
#define TWILL__BATCH_LIFE_H

/* ---- what futures ask ---- */

/* Pinned by the caller. A batcher that is being destroyed waits for pins, so it is there as long as
   the record has not ended. */
static inline bool twill__entry_open(twill__record *record)
{
    return !twill__record_ended(record);
}

/* An item that is in no call ends now. Under the lock, which it leaves and takes again. */
static inline void twill__batcher_end_one(twill__batcher *batcher, twill__batcher_turn *turn,
                                          twill__entry *entry, twill_status status)
{
    twill__entry *ended = NULL, **at = &ended;
    twill__entry_out(&batcher->stock, entry);
    twill__batcher_end(batcher, entry, status, 0, &at);
    twill__batcher_tell(batcher, turn, ended);
}

/* Its time is over: in no call, it ends; in one, the future is told now, and on_item when the
   callback has let go of the item. Has it ended already, on_item is told first: who waits for the
   future sleeps until it is over. */
static inline void twill__batcher_expire(twill__record *record)
{
    twill__entry *entry = (twill__entry *)(void *)record;
    twill__batcher *batcher = entry->batcher;
    twill__batcher_turn turn;
    bool promise = false;
    if (!twill__entry_open(record))
        return;
    twill__batcher_enter(batcher, &turn);
    if (entry->where == TWILL__PENDING_ITEM || entry->where == TWILL__MERGED_ITEM) {
        twill__batcher_end_one(batcher, &turn, entry, TWILL_TIMEOUT);
    } else if (entry->where == TWILL__RUNNING_ITEM && !entry->decided) {
        twill__batcher_decide(batcher, entry, TWILL_TIMEOUT, 0);
        promise = entry->promised = true;
    } else {
        /* relaxed: see twill__record_due */
        atomic_store_explicit(&record->due, 0, memory_order_relaxed);
    }
    if (promise) { /* under the lock: the worker forgets it under the same */
        (void)twill__record_settle(record, false);
        record->outcome = twill__entry_outcome(entry);
        twill__record_publish(record, false);
    }
    twill__batcher_exit(batcher, &turn);
}

static inline void twill__batcher_cancel(twill__record *record)
{
    twill__entry *entry = (twill__entry *)(void *)record;
    twill__batcher *batcher = entry->batcher;
    twill__batcher_turn turn;
    if (!twill__entry_open(record))
        return;
    twill__batcher_enter(batcher, &turn);
    if (entry->where == TWILL__PENDING_ITEM || entry->where == TWILL__MERGED_ITEM)
        twill__batcher_end_one(batcher, &turn, entry, TWILL_CANCELLED);
    twill__batcher_exit(batcher, &turn);
}

/* Gives the waiter's pin back before a callback runs, which may end the thread; takes it again if
   none did. The batcher stays: this thread is inside of it. Under the lock, which it leaves and
   takes again. */
static inline bool twill__batcher_help_unpinned(twill__batcher *batcher, twill__batcher_turn *turn,
                                                twill__record *record, bool inside)
{
    twill_future future = {record, twill__record_generation(record)};
    twill__record_unpin(record);
    if (inside ? twill__batcher_inline(batcher, turn) == TWILL_OK
               : twill__batcher_help(batcher, turn))
        return true;
    if (twill__future_pin(future) != TWILL_OK)
        return true; /* released meanwhile: the waiter will see it */
    twill__unlock(&record->lock);
    return false;
}

/* Who waits for an item inside of a callback of its batcher, or on a thread that the pool may be
   waiting for, works meanwhile. */
static inline bool twill__batcher_help_one(twill__record *record, bool idle)
{
    twill__entry *entry = (twill__entry *)(void *)record;
    twill__batcher *batcher = entry->batcher;
    twill__batcher_turn turn;
    bool helped = false, inside;
    (void)idle;
    if (!twill__entry_open(record))
        return false;
    twill__batcher_enter(batcher, &turn);
    inside = twill__batcher_inside(batcher);
    if ((entry->where == TWILL__PENDING_ITEM || entry->where == TWILL__MERGED_ITEM) &&
        (inside || (!batcher->crew.has_own && twill__crew_counts_on_us(&batcher->crew)))) {
        if (inside && entry->lot == batcher->stock.open) {
            twill__lot_close(&batcher->stock, TWILL__BY_FLUSH);
            turn.call = 1;
        }
        helped = twill__batcher_help_unpinned(batcher, &turn, record, inside);
    }
    twill__batcher_exit(batcher, &turn);
    return helped;
}

/* Who would work, and has found no worker number free, looks again, as one that waits for room. */
static inline twill_ns twill__batcher_again(twill__record *record)
{
    const twill__entry *entry = (const twill__entry *)(void *)record;
    if (!twill__record_waiting(record) || entry->batcher->crew.has_own ||
        !twill__crew_counts_on_us(&entry->batcher->crew))
        return 0;
    return twill__instant_after(twill__clock_now(), TWILL_MS(1));
}

static inline const twill__record_table *twill__batcher_records(void)
{
    static const twill__record_table table = {twill__batcher_help_one,
                                              twill__batcher_expire,
                                              twill__batcher_cancel,
                                              NULL,
                                              NULL,
                                              NULL,
                                              twill__batcher_again};
    return &table;
}

/* ---- create ---- */

static inline twill_status twill__batcher_check(twill_batch_fn *fn,
                                                const twill_batch_options *options)
{
    const twill_run *run = &options->run;
    twill_ns linger = options->linger ? options->linger : TWILL_MS(10);
    if (!fn || !twill__batch_common_valid(options) || run->on_error || run->max_errors ||
        run->errors || run->errors_capacity || run->statuses || run->codes || options->linger < 0 ||
        options->idle < 0 || options->item_timeout < 0 ||
        (unsigned)options->overflow > TWILL_OVERFLOW_CALLER_RUNS ||
        (options->capacity_bytes && !options->bytes_of) ||
        (options->bytes_of && !options->max_bytes && !options->capacity_bytes) ||
        (options->coalesce && !options->key_of) ||
        (options->item_timeout && options->item_timeout != TWILL_FOREVER &&
         linger >= options->item_timeout))
        return TWILL_INVALID;
    if (run->workers > TWILL__MAX_WORKERS)
        return TWILL_TOO_BIG;
    return twill__check_run(run);
}

static inline void twill__batcher_init(twill__batcher *batcher, twill_batch_fn *fn,
                                       const twill_batch_options *options)
{
    memset(batcher, 0, sizeof *batcher);
    batcher->options = *options;
    batcher->fn = fn;
    batcher->workers = options->run.workers ? options->run.workers : 1;
    batcher->max_items = options->max_items ? options->max_items : TWILL__BATCH_ITEMS;
    batcher->capacity = options->capacity                    ? options->capacity
                        : batcher->max_items > SIZE_MAX / 10 ? SIZE_MAX
                                                             : 10 * batcher->max_items;
    if (batcher->max_items > batcher->capacity)
        batcher->max_items = batcher->capacity; /* there are never more at once */
    batcher->max_bytes = options->max_bytes ? options->max_bytes : SIZE_MAX;
    batcher->capacity_bytes = options->capacity_bytes ? options->capacity_bytes : SIZE_MAX;
    batcher->attempts = options->attempts ? options->attempts : 1;
    batcher->linger = options->linger ? options->linger : TWILL_MS(10);
    batcher->idle = options->idle ? options->idle : TWILL_FOREVER;
    batcher->item_timeout = options->item_timeout ? options->item_timeout : TWILL_FOREVER;
    atomic_init(&batcher->due, TWILL_FOREVER);
    batcher->shape = twill__batch_shape(options);
    batcher->seed = twill__batch_seed(options, batcher);
    batcher->stock.packs =
        !options->key_of && !options->result_size && batcher->item_timeout == TWILL_FOREVER;
}

static inline size_t twill__batcher_buckets(const twill__batcher *batcher)
{
    size_t buckets = 64;
    if (!batcher->options.key_of)
        return 0;
    while (buckets < batcher->capacity && buckets < 65536)
        buckets *= 2;
    return buckets;
}

/* One block: the batcher, the crew's memory, shifts, keys. */
static inline twill_status twill__batcher_memory(twill__batcher **out, const twill__batcher *shape)
{
    size_t crew, shifts, rooms, tops, flights, opens, end;
    size_t buckets = twill__batcher_buckets(shape), workers = shape->workers, room;
    char *memory, *at;
    twill__batcher *batcher;
    if (shape->max_items > SIZE_MAX / 64)
        return TWILL_TOO_BIG;
    room = twill__shift_bytes(shape);
    if (room > SIZE_MAX / 2 / workers) /* workers, and all but the rooms, are bounded */
        return TWILL_TOO_BIG;
    crew = sizeof *shape; /* a multiple of a line, by its alignment */
    shifts = crew + twill__crew_bytes(shape->workers, shape->workers);
    rooms = shifts + workers * ((sizeof(twill__shift) + 15) / 16 * 16);
    tops = rooms + workers * room;
    flights = tops + workers * sizeof(twill__shift *);
    opens = flights + buckets * sizeof(twill__entry *);
    end = opens + (shape->options.coalesce ? buckets * sizeof(twill__key_bucket) : 0);
    memory = (char *)TWILL_MALLOC(TWILL__LINE + end);
    if (!memory)
        return TWILL_NO_MEMORY;
    at = memory + (TWILL__LINE - (uintptr_t)memory % TWILL__LINE) % TWILL__LINE;
    batcher = *out = (twill__batcher *)(void *)at;
    *batcher = *shape;
    batcher->memory = memory;
    batcher->crew_memory = at + crew;
    batcher->shifts = (twill__shift *)(void *)(at + shifts);
    batcher->tops = (twill__shift **)(void *)(at + tops);
    memset(batcher->shifts, 0, workers * sizeof *batcher->shifts);
    memset(batcher->tops, 0, workers * sizeof *batcher->tops);
    for (size_t k = 0; k < workers; k++)
        twill__shift_room(batcher, &batcher->shifts[k], at + rooms + k * room);
    batcher->stock.buckets = buckets;
    if (buckets) {
        batcher->stock.flights = (twill__entry **)(void *)(at + flights);
        memset(batcher->stock.flights, 0, buckets * sizeof *batcher->stock.flights);
    }
    if (shape->options.coalesce) {
        batcher->stock.opens = (twill__key_bucket *)(void *)(at + opens);
        memset(batcher->stock.opens, 0, buckets * sizeof *batcher->stock.opens);
    }
    return TWILL_OK;
}

static inline void twill__batcher_free(twill__batcher *batcher)
{
    for (twill__lot_block *block = batcher->stock.blocks, *next; block; block = next) {
        next = block->next;
        TWILL_FREE(block);
    }
    if (batcher->stock.ring_memory)
        TWILL_FREE(batcher->stock.ring_memory);
    if (batcher->stock.core)
        twill__core_leave(batcher->stock.core);
    TWILL_FREE(batcher->memory);
}

/* The token of the whole has fired: everybody is told at once. */
static inline void twill__batcher_fired(int reason, const twill_task *task)
{
    twill__batcher *batcher = (twill__batcher *)task->context;
    twill__batcher_turn turn;
    (void)reason;
    twill__batcher_enter(batcher, &turn);
    twill__batcher_cut(batcher, TWILL_CANCELLED);
    turn.call = 1;
    twill__batcher_exit(batcher, &turn);
}

/* worker_start, counted. When it has failed under every number nobody will call anything: what is
   there ends here, and nothing more comes in. */
static inline int twill__batcher_worker_start(void **state, const twill_task *task)
{
    twill__batcher *batcher = (twill__batcher *)((twill__job *)task->private_)->data;
    twill__shift *shift = &batcher->shifts[task->worker];
    twill__entry *ended = NULL, **at = &ended;
    twill__batcher_turn turn;
    int code = -1;
    if (!shift->starting) { /* else it has ended a thread already */
        shift->starting = true;
        code = batcher->user_start(state, task);
        shift->starting = false;
    }
    if (!code || !twill__batcher_here(batcher))
        return code;
    twill__batcher_enter(batcher, &turn);
    if (!batcher->refused++)
        batcher->start_code = code;
    if (batcher->refused == batcher->workers) {
        twill__batcher_cut(batcher, TWILL_CANCELLED);
        (void)twill__batcher_reap(batcher, twill__clock_now(), &at);
        twill__batcher_tell(batcher, &turn, ended);
    }
    twill__batcher_exit(batcher, &turn);
    return code;
}

static inline const twill__crew_table *twill__batcher_table(void)
{
    static const twill__crew_table table = {{NULL, NULL, NULL, NULL, NULL},
                                            twill__batcher_ready,
                                            twill__batcher_work,
                                            twill__batcher_worker_ended};
    return &table;
}

static inline twill_status twill__batcher_open(twill__batcher *batcher)
{
    twill_run run = batcher->options.run;
    twill_status status;
    if (run.worker_start) {
        batcher->user_start = run.worker_start;
        run.worker_start = twill__batcher_worker_start;
    }
    batcher->stock.core = twill__core_create(sizeof(twill__entry), twill__batcher_records());
    if (!batcher->stock.core)
        return TWILL_NO_MEMORY;
    status = twill__crew_open(&batcher->crew, &run, batcher->workers, batcher->workers, false,
                              twill__batcher_table(), batcher, batcher->crew_memory);
    if (status != TWILL_OK)
        return status;
    if (batcher->crew.has_own && batcher->crew.own.threads == 0) {
        twill__crew_close(&batcher->crew, NULL);
        return TWILL_NO_THREAD;
    }
    batcher->hook.fn = twill__batcher_fired;
    batcher->hook.context = batcher;
    twill_cancel_add_hook(run.until.cancel, &batcher->hook);
    return TWILL_OK;
}

TWILL__DEFINE twill_status twill_batcher_create(twill_batcher **out, twill_batch_fn *fn,
                                                const twill_batch_options *options)
{
    twill__batcher shape, *batcher = NULL;
    twill_status status;
    if (!out)
        return TWILL_INVALID;
    *out = NULL;
    options = twill__batch_options(options);
    status = twill__batcher_check(fn, options);
    if (status != TWILL_OK)
        return status;
    twill__batcher_init(&shape, fn, options);
    status = twill__batcher_memory(&batcher, &shape);
    if (status != TWILL_OK)
        return status;
    status = twill__batcher_open(batcher);
    if (status != TWILL_OK)
        twill__batcher_free(batcher);
    else
        *out = batcher;
    return status;
}

/* ---- flush ---- */

/* Under the lock: until no number below `target` is in the books. */
static inline twill_status twill__batcher_await(twill__batcher *batcher, twill__batcher_turn *turn,
                                                uint64_t target, twill_until until)
{
    while (twill__batcher_oldest(batcher) < target) { /* exit: ended, or over */
        twill__batcher_waiter me;
        twill_status status = twill__over(until);
        if (status != TWILL_OK)
            return status;
        me.tried = twill__batcher_may_help(batcher, until) ? twill__clock_now() : 0;
        if (me.tried && twill__batcher_help(batcher, turn)) {
            if (!twill__batcher_here(batcher))
                return TWILL_FORKED;
            continue;
        }
        me.target = target;
        status = twill__batcher_wait(batcher, turn, &batcher->flushers, &me, until);
        if (status != TWILL_OK && status != TWILL_EMPTY)
            return twill__batcher_oldest(batcher) < target ? status : TWILL_OK;
    }
    return TWILL_OK;
}

TWILL__DEFINE twill_status twill_batcher_flush_until(twill_batcher *batcher, twill_until until)
{
    twill__batcher_turn turn;
    twill_status status;
    if (!batcher)
        return TWILL_INVALID;
    if (!twill__batcher_here(batcher))
        return TWILL_FORKED;
    twill__batcher_enter(batcher, &turn);
    if (twill__batcher_inside(batcher)) {
        status = TWILL_DEADLOCK;
    } else {
        uint64_t target = batcher->stock.numbers;
        if (batcher->stock.open)
            turn.call = 1;
        twill__lot_close(&batcher->stock, TWILL__BY_FLUSH);
        status = twill__batcher_await(batcher, &turn, target, until);
    }
    twill__batcher_exit(batcher, &turn);
    return status;
}

TWILL__DEFINE twill_status twill_batcher_flush(twill_batcher *batcher)
{
    return twill_batcher_flush_until(batcher, (twill_until){0, NULL});
}

/* ---- the end ---- */

/* Under the lock. CLOSED: it was. */
static inline twill_status twill__batcher_shut(twill__batcher *batcher, twill__batcher_turn *turn)
{
    twill_status status = batcher->closed ? TWILL_CLOSED : TWILL_OK;
    batcher->closed = true;
    if (batcher->stock.open)
        turn->call = 1;
    twill__lot_close(&batcher->stock, TWILL__BY_CLOSE);
    return status;
}

TWILL__DEFINE twill_status twill_batcher_close(twill_batcher *batcher)
{
    twill__batcher_turn turn;
    twill_status status;
    if (!batcher)
        return TWILL_INVALID;
    if (!twill__batcher_here(batcher))
        return TWILL_FORKED;
    twill__batcher_enter(batcher, &turn);
    status = twill__batcher_shut(batcher, &turn);
    twill__batcher_exit(batcher, &turn);
    return status;
}

static inline uint64_t twill__batcher_ended(const twill__batcher *batcher)
{
    return batcher->counts.added - batcher->stock.count;
}

/* The second phase: what is in no call ends here, what is in one is told. */
static inline void twill__batcher_give_up(twill__batcher *batcher, twill__batcher_turn *turn)
{
    twill__entry *ended = NULL, **at = &ended;
    twill__batcher_cut(batcher, TWILL_CANCELLED);
    (void)twill__batcher_reap(batcher, twill__clock_now(), &at);
    batcher->inside++;
    TWILL__GUARD_PUSH(twill__batcher_gone, batcher);
    twill__batcher_tell(batcher, turn, ended);
    TWILL__GUARD_POP(0);
    if (!twill__batcher_here(batcher)) /* on_item has forked */
        return;
    twill__batcher_exit(batcher, turn);
    twill__crew_fire_from(&batcher->crew, 0);
    twill__batcher_enter(batcher, turn);
    batcher->inside--;
}

TWILL__DEFINE twill_status twill_batcher_stop(twill_batcher *batcher, twill_until drain,
                                              twill_until join, twill_stopped *out)
{
    twill__batcher_turn turn;
    twill_stopped stopped = {0, 0, 0};
    twill_status status;
    uint64_t before, cancelled;
    if (out)
        *out = stopped;
    if (!batcher)
        return TWILL_INVALID;
    if (!twill__batcher_here(batcher))
        return TWILL_FORKED;
    twill__batcher_enter(batcher, &turn);
    if (twill__batcher_inside(batcher)) {
        twill__batcher_exit(batcher, &turn);
        return TWILL_DEADLOCK;
    }
    (void)twill__batcher_shut(batcher, &turn);
    before = twill__batcher_ended(batcher);
    cancelled = batcher->counts.cancelled;
    status = twill__batcher_await(batcher, &turn, UINT64_MAX, drain);
    if (status != TWILL_OK && status != TWILL_FORKED) {
        twill__batcher_give_up(batcher, &turn);
        status = !twill__batcher_here(batcher)
                     ? TWILL_FORKED
                     : twill__batcher_await(batcher, &turn, UINT64_MAX, join);
    }
    stopped.cancelled = (size_t)(batcher->counts.cancelled - cancelled);
    stopped.finished = (size_t)(twill__batcher_ended(batcher) - before) - stopped.cancelled;
    stopped.stuck = batcher->stock.books;
    twill__batcher_exit(batcher, &turn);
    if (out)
        *out = stopped;
    return status;
}

/* Everybody who is inside leaves. */
static inline void twill__batcher_desert(twill__batcher *batcher, twill__batcher_turn *turn)
{
    twill__node node;
    if (twill__batcher_deserted(batcher))
        return;
    twill__node_init(&node);
    batcher->destroyer = &node;
    twill__batcher_exit(batcher, turn);
    twill__await(&node);
    twill__batcher_enter(batcher, turn); /* whoever told us has left the section now */
}

/* Handles outlive the batcher; who looks at a record this moment may be on the way to it. */
static inline void twill__batcher_unpinned(twill__batcher *batcher)
{
    const twill__core *core = batcher->stock.core;
    for (twill__slab *slab = twill__core_slabs(core); slab; slab = slab->next)
        for (size_t i = 0; i < twill__slab_count(slab); i++) {
            twill__record *record = twill__slab_at(core, slab, i);
            bool pinned;
            do { /* exit: all records have ended, so whoever looks at one leaves */
                twill__lock(&record->lock);
                pinned = record->pins != 0;
                twill__unlock(&record->lock);
                if (pinned)
                    twill__yield();
            } while (pinned);
        }
}

static inline void twill__batcher_report(twill__batcher *batcher)
{
    twill_report *report = batcher->options.run.report;
    const twill_batcher_stats *counts = &batcher->counts;
    twill_report mine;
    memset(&mine, 0, sizeof mine);
    twill__crew_close(&batcher->crew, &mine);
    if (!report)
        return;
    mine.total = (size_t)counts->added;
    mine.done = (size_t)counts->done;
    mine.failed = (size_t)(counts->failed + counts->lost);
    mine.skipped = mine.total - mine.done - mine.failed;
    mine.chunks = (size_t)counts->calls;
    mine.first_error = batcher->first;
    if (batcher->refused == batcher->workers)
        mine.first_error = (twill_item_error){SIZE_MAX, TWILL_FAILED, batcher->start_code};
    mine.status =
        mine.failed || mine.first_error.status ? TWILL_FAILED : twill__batcher_why_cut(batcher);
    *report = mine;
}

TWILL__DEFINE twill_status twill_batcher_destroy(twill_batcher *batcher)
{
    twill__batcher_calling calling;
    twill__batcher_turn turn;
    if (!batcher)
        return TWILL_OK;
    if (twill__batcher_here(batcher)) {
        twill__batcher_enter(batcher, &turn);
        if (twill__batcher_inside(batcher)) {
            twill__batcher_exit(batcher, &turn);
            return TWILL_DEADLOCK;
        }
        (void)twill__batcher_shut(batcher, &turn);
        (void)twill__batcher_await(batcher, &turn, UINT64_MAX, (twill_until){0, NULL});
        twill__batcher_exit(batcher, &turn);
    }
    if (twill__batcher_here(batcher)) { /* no callback that ran here has forked */
        twill_cancel_remove_hook(batcher->options.run.until.cancel, &batcher->hook);
        twill__batcher_unpinned(batcher);
        twill__batcher_enter(batcher, &turn);
        twill__batcher_desert(batcher, &turn);
        twill__batcher_calling_begin(batcher, &calling); /* worker_stop is one, too */
        twill__batcher_exit(batcher, &turn);
        twill__batcher_report(batcher);
    }
    twill__batcher_free(batcher);
    return TWILL_OK;
}

TWILL__DEFINE void twill_batcher_get_stats(twill_batcher *batcher, twill_batcher_stats *stats)
{
    twill__batcher_turn turn;
    if (!stats)
        return;
    memset(stats, 0, sizeof *stats);
    if (!batcher || !twill__batcher_here(batcher))
        return;
    twill__batcher_enter(batcher, &turn);
    *stats = batcher->counts;
    stats->by_count = batcher->left[TWILL__BY_COUNT];
    stats->by_bytes = batcher->left[TWILL__BY_BYTES];
    stats->by_linger = batcher->left[TWILL__BY_LINGER];
    stats->by_idle = batcher->left[TWILL__BY_IDLE];
    stats->by_flush = batcher->left[TWILL__BY_FLUSH];
    stats->by_close = batcher->left[TWILL__BY_CLOSE];
    stats->pending = batcher->stock.count;
    stats->pending_bytes = batcher->stock.bytes;
    if (stats->batches)
        stats->mean_fill =
            (double)batcher->carried / (double)stats->batches / (double)batcher->max_items;
    twill__batcher_exit(batcher, &turn);
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
