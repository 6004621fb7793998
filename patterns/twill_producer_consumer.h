/* twill_producer_consumer.h - twill 0.1.0 - SPDX-License-Identifier: MIT OR Unlicense (text at the end)
   GENERATED from patterns/src/producer_consumer.h and its parts. Do not edit it here: edit there, then `make headers`. */

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
    memory          NULL: one allocation at create. Else memory_bytes of yours, at least
                    twill_queue_bytes
    engine          RING: items in a ring without a lock, on 64-bit machines, for FIFO queues that
                    BLOCK, REJECT or DROP_OLDEST and have no bytes_of, max_age or on_level (else
                    INVALID). LOCK: for all. 0: the ring where it serves. They answer alike; see
                    PROGRESS, THREADS, peak
    context         task->context of all these callbacks
    Whatever makes no sense is refused: TWILL_INVALID; sizes beyond size_t: TWILL_TOO_BIG.

OPTIONS OF THE CALL (twill_produce_consume_options)
    run             workers: consumers at once, 0: the pool's, those of the call around it, or the
                    CPUs. statuses and codes must be NULL. The call runs on threads of its own or on
                    run.pool
    producers       0: 1. Each index is called once; an error or a stop spares those not yet begun.
                    One that returns TWILL_CLOSED, as push has told it, has not failed if the queue
                    is closed
    queue           as above, with producers 0. context 0: run.context. CALLER_RUNS: a
                    producer's push that finds the queue full consumes the next item itself
    batch           a consumer takes up to so many a visit; 0: 1
    dead_letter     sees an item whose consume has failed, after that
    queue_stats     filled at the end
    The queue is the call's: an item is finished when its consume and dead_letter have returned, so
    a producer may wait for all that was accepted (twill_queue_join); each producer is attached, and
    detached at its return. task_done is for items that a producer popped itself (skipped in the
    report).

ERRORS
    push            OK; CLOSED; FULL, DROPPED (see overflow); FULL (try); CANCELLED, TIMEOUT
    pop             OK; then CLOSED, or FAILED after twill_queue_fail; EMPTY (try); CANCELLED,
                    TIMEOUT
    TWILL_DEADLOCK  a call that would have to wait, from inside `drop` or `on_level` of the same
                    queue; destroy from there; join in a consume, destroy of a call's queue
    TWILL_INVALID   NULL where something is needed; an option; task_done more often than popped
    TWILL_TOO_BIG   an item beyond max_bytes, a bulk beyond the capacity, sizes
    TWILL_FORKED    a queue of the parent process; also the answer of a call whose callback has
                    forked, in the child: nothing more is run there. twill_queue_abandon frees it
    An item comes before all other answers: an expired deadline or a fired token still gets what is
    there. A blocked push that is told CLOSED has not given its item away.
    twill_produce_consume answers FAILED when an item or a producer failed; report.first_error says
    which: the lowest accept number, code as returned; index SIZE_MAX: a producer, the code of
    twill_queue_fail, or LOST: `drop` or on_level has ended the thread of a consumer.

HOW THE CALL ENDS
    By itself: the last producer has returned, the consumers have taken everything.
    By an error (default policy): items with a lower accept number are run to their end, the token
    of every other callback fires, the queue closes (blocked producers are told CLOSED; what they
    return then does not count), and what is left goes to `drop` (CANCELLED). With one producer and
    FIFO it is the same error in every run; with more, the accept order itself is a race. LIFO and
    PRIORITY: the lowest of those that ran. A producer's error ranks after all that was accepted
    until then. ON_ERROR_COLLECT runs everything.
    By run.until; OK if all was produced and consumed by then. By twill_task_stop: in consume, no
    item above it; in a producer, nothing more is accepted and what is inside is still consumed.
    report.total is the number of accepted items: done + failed + skipped (dropped, expired,
    cleared, or given up). Nothing is lost: `consume` or `drop` is called for each, never both.
    Threads that cannot be started: fewer consumers and TWILL_REPORT_DEGRADED; with none, a push
    that finds the queue full runs one item itself. strict: NO_THREAD, and nothing ran.

THREADS      All functions by any thread; destroy last. A call that waits inside, or has reached the
             queue's lock, when destroy comes is answered and waited for; so is one in a callback.
             With a ring every other call must have returned: join the threads first.
PROGRESS     First come, first served on each side, but for those who find what they want at once.
             With a ring a newcomer may be quicker than a thread that has just been woken, but never
             than a bulk. A thread that stops between two steps of a push or pop holds up the others
             until it goes on, as one that holds a lock would.
ORDERING     What came before a push comes before the return of the pop (or the drop) of that item;
             what came before the pop that made room, before the return of the push that used it;
             close before every answer CLOSED; task_done before the join it completes.
ALLOCATES    create: one block, or none. select of more than 16 cases: one. The call: two before
             anything runs (with queue.memory one; above 64 threads one more). Else nothing.
BLOCKS       Only what the name says; no user code runs under a lock.
OWNERSHIP    Items are bytes, copied in and out. What callbacks are given is as aligned as its type,
             up to 64 bytes.
COSTS        Ring: one compare-and-swap and the copy. Lock: one lock, held for the copy. A waiter
             spins a moment, then sleeps; one wake for each who slept. No thread.
PITFALLS     Without `drop` an evicted pointer leaks. A `drop` that pushes into its own evicting
             queue has no end. Consumers that push into their own queue can all wait for room:
             try_push, or a worker_pool. length and ready_until may be wrong a moment later.
             The items of a select that were not chosen are untouched. In a signal handler nothing
             here may be called. priority_of and bytes_of run before the lock and must not depend on
             the queue. With PRIORITY, DROP_NEWEST looks at every item, DROP_OLDEST at the first of
             each priority. */
#ifndef TWILL_PRODUCER_CONSUMER_H
#define TWILL_PRODUCER_CONSUMER_H

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

typedef struct twill_queue twill_queue;

typedef enum twill_queue_order {
    TWILL_ORDER_FIFO = 0,
    TWILL_ORDER_LIFO,
    TWILL_ORDER_PRIORITY
} twill_queue_order;

/* How it is built. A ring serves a queue that is FIFO, blocks, rejects or drops its oldest, and
   has no bytes_of, max_age, on_level or rendezvous; elsewhere RING is refused. For tests and
   comparisons. */
typedef enum twill_queue_engine {
    TWILL_ENGINE_DEFAULT = 0, /* a ring where it serves */
    TWILL_ENGINE_LOCK,
    TWILL_ENGINE_RING
} twill_queue_engine;

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
    twill_queue_engine engine;
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
   (CANCELLED), frees. NULL: TWILL_OK. If `drop` ends the thread, another one may destroy the
   rest. */
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

/* All n side by side, or none. While it waits, later pushes wait behind it; where it evicts, one
   item after the other, they may take that room. Not with PRIORITY or bytes_of (INVALID). */
TWILL__DECL twill_status twill_queue_push_bulk_until(twill_queue *queue, const void *items,
                                                     size_t n, twill_until until);

/* Waits for the first item, takes up to max (0: INVALID). OK: *count >= 1. */
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

/* What is inside now goes to `drop` (CANCELLED); returns how many. Blocked pushes go on then. */
TWILL__DECL size_t twill_queue_clear(twill_queue *queue);

/* One producer more; CLOSED when it is too late. The last detach closes; INVALID: none attached but
   those of a call. Each attach wants one detach, by any thread: until then the queue stays open,
   and the call goes on, although its producers have returned. */
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

/* accepted == popped + dropped + expired + cleared + length, always. peak: of a ring, seen by
   pushes: too small by a 16th of the capacity at most. rejected: answers FULL, of try_select
   by each queue that had no room.
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
    void *item; /* to push, or where to pop to */
    /* out: OK: the chosen one; CLOSED, FAILED: out; FULL, EMPTY: not ready, or not asked */
    twill_status status;
} twill_queue_case;

typedef enum twill_select_order {
    TWILL_SELECT_FAIR = 0, /* begins anywhere */
    TWILL_SELECT_IN_ORDER  /* of several that are ready, the first */
} twill_select_order;

/* Exactly one of the cases: TWILL_OK (or, with DROP_INCOMING, DROPPED), and *chosen is its index.
   CLOSED or FAILED when all are out. Nothing ready: FULL or EMPTY of the first case (try), else
   waits. TOO_BIG: the item of *chosen. NO_MEMORY: more than 16 cases. The same queue may stand in
   it twice. */
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
#define TWILL__TYPED __attribute__((unused)) static inline twill_status
#define TWILL_QUEUE(NAME, T)                                                          \
    TWILL__TYPED NAME##_create(twill_queue **out, const twill_queue_options *options) \
    {                                                                                 \
        return twill_queue_create(out, sizeof(T), options);                           \
    }                                                                                 \
    TWILL__TYPED NAME##_push(twill_queue *queue, T item)                              \
    {                                                                                 \
        return twill_queue_push(queue, &item);                                        \
    }                                                                                 \
    TWILL__TYPED NAME##_try_push(twill_queue *queue, T item)                          \
    {                                                                                 \
        return twill_queue_try_push(queue, &item);                                    \
    }                                                                                 \
    TWILL__TYPED NAME##_push_until(twill_queue *queue, T item, twill_until until)     \
    {                                                                                 \
        return twill_queue_push_until(queue, &item, until);                           \
    }                                                                                 \
    TWILL__TYPED NAME##_pop(twill_queue *queue, T *item)                              \
    {                                                                                 \
        return twill_queue_pop(queue, item);                                          \
    }                                                                                 \
    TWILL__TYPED NAME##_try_pop(twill_queue *queue, T *item)                          \
    {                                                                                 \
        return twill_queue_try_pop(queue, item);                                      \
    }                                                                                 \
    TWILL__TYPED NAME##_pop_until(twill_queue *queue, T *item, twill_until until)     \
    {                                                                                 \
        return twill_queue_pop_until(queue, item, until);                             \
    }

#ifdef __cplusplus
}
#endif
#endif


#ifdef TWILL_IMPLEMENTATION
#ifndef TWILL__PRODUCER_CONSUMER_IMPL
#define TWILL__PRODUCER_CONSUMER_IMPL

/* ---- producer_consumer/select.h ---- */
/* select.h: one of several pushes and pops. */
#ifndef TWILL__QUEUE_SELECT_H
#define TWILL__QUEUE_SELECT_H

/* ---- producer_consumer/calls.h ---- */
/* calls.h: what can be done with one queue. */
#ifndef TWILL__QUEUE_CALLS_H
#define TWILL__QUEUE_CALLS_H

/* ---- producer_consumer/create.h ---- */
/* create.h: a queue from its options. */
#ifndef TWILL__QUEUE_CREATE_H
#define TWILL__QUEUE_CREATE_H

/* ---- engine/queue.h ---- */
/* queue.h: a bounded queue under a small lock: how it works, and how it ends. */
#ifndef TWILL__ENGINE_QUEUE_H
#define TWILL__ENGINE_QUEUE_H

/* Everything is decided under one lock by one function, twill__queue_settle: it moves items of
   waiting pushers into the store and items of the store to waiting poppers until nothing moves any
   more. So while the lock is free, no popper waits beside an item that it could have, and no
   pusher at the head of its list beside room that it could use.

   A plain queue (first in, first out; blocking, rejecting or dropping its oldest; nothing to ask of
   an item) keeps its items in a ring (engine/ring.h), and takes the lock only where somebody has to
   wait, or waits: twill__quick_put and twill__quick_take. `takers` and `givers` count those who are
   listed. Who has moved an item loads the count (seq_cst, after its seq_cst claim) and settles if
   it is not 0; who waits raises the count (seq_cst), and settles. One of the two sees the other;
   but an item that was claimed before the count was raised, and is not there yet, may come without
   a word: while the positions say so (twill__queue_naps) the waiting thread looks again by itself.
   With a ring, a newcomer may overtake a thread that waits, but not a bulk. */

/* ---- engine/queue_quick.h ---- */
/* queue_quick.h: the short ways in and out, where nobody waits. */
#ifndef TWILL__ENGINE_QUEUE_QUICK_H
#define TWILL__ENGINE_QUEUE_QUICK_H

/* ---- engine/queue_wait.h ---- */
/* queue_wait.h: items in and out: what can be done now, and the wait for the rest. */
#ifndef TWILL__ENGINE_QUEUE_WAIT_H
#define TWILL__ENGINE_QUEUE_WAIT_H

/* ---- engine/queue_leave.h ---- */
/* queue_leave.h: the way out of the lock: who is woken, what is told, what is dropped. */
#ifndef TWILL__ENGINE_QUEUE_LEAVE_H
#define TWILL__ENGINE_QUEUE_LEAVE_H

/* ---- engine/queue_turn.h ---- */
/* queue_turn.h: a turn under the lock: items in and out, and answers to those who wait for them. */
#ifndef TWILL__ENGINE_QUEUE_TURN_H
#define TWILL__ENGINE_QUEUE_TURN_H

/* ---- engine/queue_state.h ---- */
/* queue_state.h: the record of a queue, and the lists of those who wait. */
#ifndef TWILL__ENGINE_QUEUE_STATE_H
#define TWILL__ENGINE_QUEUE_STATE_H

/* ---- engine/light_lock.h ---- */
/* light_lock.h: a lock that is let go by a plain store, for sections of a few steps that many calls
   go through. */
#ifndef TWILL__ENGINE_LIGHT_LOCK_H
#define TWILL__ENGINE_LIGHT_LOCK_H

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

/* ---- engine/queue_store.h ---- */
/* queue_store.h: places for items of any size: a ring, or a heap for priorities. No lock, no
   wait. */
#ifndef TWILL__ENGINE_QUEUE_STORE_H
#define TWILL__ENGINE_QUEUE_STORE_H

/* ---- engine/ring.h ---- */
/* ring.h: a bounded ring of items for many producers and consumers, without locks and without
   waiting. */
#ifndef TWILL__ENGINE_RING_H
#define TWILL__ENGINE_RING_H

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

/* Each cell has a stamp that says whose turn it is: the position of the push that may fill it, or
   that position + 1 once it is filled, for the pop. A position is lap | mark | index; the mark is
   the power of two above the capacity, so any capacity is exact and nothing is divided. One
   compare-and-swap on tail or head claims a cell; the stamp, stored last with release and loaded
   first with acquire, carries the item. Closing sets the mark in tail: each later claim fails.
   After D. Vyukov's bounded MPMC queue and the positions of crossbeam's ArrayQueue.

   Between its claim and its stamp a cell is on its way: then there may be nothing to take although
   the positions say so. The claims are seq_cst, and whoever goes to sleep counts himself (seq_cst)
   and then looks at the positions: so either he sees the claim, or its maker sees the count. */
typedef struct twill__ring_end { /* where claims are made */
    _Atomic uint64_t at;
    _Atomic uint64_t guess;            /* what `at` was lately: see twill__ring_claim */
    _Atomic uint32_t patience, futile; /* see twill__quick_wait */
} twill__ring_end;

typedef struct twill__ring {
    _Alignas(TWILL__LINE) twill__ring_end tail;
    _Atomic uint64_t higher, peak; /* see twill__ring_peak */
    _Alignas(TWILL__LINE) twill__ring_end head;
    /* set at creation */
    _Alignas(TWILL__LINE) uint64_t capacity;
    uint64_t mark, lap;
    unsigned shift;
    size_t size, stride;
    char *cells; /* NULL: there is no ring */
    size_t span; /* of the cells; 0: a small ring, of which none is fetched ahead */
} twill__ring;

typedef _Atomic uint64_t twill__stamp;
enum {
    TWILL__RING_LARGE = 64,  /* cells: room enough for two sides to keep apart */
    TWILL__RING_BATCH = 8,   /* cells: worth a wait; see twill__patience */
    TWILL__RING_AHEAD = 512, /* bytes: how far before its use a batch asks for a line */
    TWILL__RING_NEXT = 128   /* ... and single items */
};

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

/* Stamp and item of a cell, in multiples of 8. */
static inline size_t twill__ring_stride(size_t item_size)
{
    return sizeof(twill__stamp) + (item_size + 7) / 8 * 8;
}

static inline twill__stamp *twill__ring_cell(const twill__ring *ring, uint64_t position)
{
    return (twill__stamp *)(void *)(ring->cells +
                                    (size_t)(position & (ring->mark - 1)) * ring->stride);
}

static inline uint64_t twill__ring_next(const twill__ring *ring, uint64_t position)
{
    uint64_t index = position & (ring->mark - 1);
    return index + 1 < ring->capacity ? position + 1 : position - index + ring->lap;
}

/* How many came before a position. */
static inline uint64_t twill__ring_count(const twill__ring *ring, uint64_t position)
{
    return (position >> ring->shift) * ring->capacity + (position & (ring->mark - 1));
}

static inline void twill__ring_init(twill__ring *ring, size_t item_size, size_t capacity,
                                    char *cells)
{
    uint64_t mark = 2;
    memset(ring, 0, sizeof *ring);
    for (ring->shift = 2; mark <= capacity; mark *= 2)
        ring->shift++;
    ring->capacity = capacity;
    ring->mark = mark;
    ring->lap = 2 * mark;
    ring->size = item_size;
    ring->stride = twill__ring_stride(item_size);
    ring->cells = cells;
    ring->span = capacity >= TWILL__RING_LARGE ? capacity * ring->stride : 0;
    for (size_t k = 0; k < capacity; k++)
        atomic_init(twill__ring_cell(ring, k), k);
}

/* ---- what the positions say ---- */

static inline uint64_t twill__ring_tail(const twill__ring *ring)
{
    return atomic_load_explicit(&ring->tail.at, memory_order_seq_cst) & ~ring->mark;
}

static inline uint64_t twill__ring_pushed(const twill__ring *ring)
{
    return twill__ring_count(ring, twill__ring_tail(ring));
}

static inline uint64_t twill__ring_popped(const twill__ring *ring)
{
    return twill__ring_count(ring, atomic_load_explicit(&ring->head.at, memory_order_seq_cst));
}

/* Items inside, those on their way in included and those on their way out not. 0 is exact at the
   moment of the second load. */
static inline size_t twill__ring_length(const twill__ring *ring)
{
    uint64_t out = twill__ring_popped(ring), in = twill__ring_pushed(ring);
    /* pops may have gone on in between */
    return in - out < ring->capacity ? (size_t)(in - out) : (size_t)ring->capacity;
}

/* Room, that which is on its way included. 0 is exact, likewise: hence the other order. */
static inline size_t twill__ring_room(const twill__ring *ring)
{
    uint64_t in = twill__ring_pushed(ring), out = twill__ring_popped(ring);
    return in > out ? (size_t)(ring->capacity - (in - out)) : (size_t)ring->capacity;
}

/* Whether a pop, or a push of `count` items (at most the capacity), could claim now. A cell whose
   turn has gone by, since a claim has come between both looks, says nothing of the next one: who
   saw it would leave a thread asleep beside an item, or room. So it looks again where the position
   has moved. */
static inline bool twill__ring_readable(const twill__ring *ring)
{
    uint64_t head = atomic_load_explicit(&ring->head.at, memory_order_seq_cst), now;
    for (;; head = now) { /* exit: an answer; each turn is another's pop */
        /* acquire: pairs with the release of who filled it */
        if (atomic_load_explicit(twill__ring_cell(ring, head), memory_order_acquire) == head + 1)
            return true;
        now = atomic_load_explicit(&ring->head.at, memory_order_seq_cst);
        if (now == head)
            return false;
    }
}

static inline bool twill__ring_writable(const twill__ring *ring, size_t count)
{
    /* closed: no stamp has the mark */
    uint64_t tail = atomic_load_explicit(&ring->tail.at, memory_order_seq_cst), now;
    for (;; tail = now) { /* exit: an answer; each turn is another's push */
        uint64_t at = tail;
        size_t left = count;
        /* acquire: pairs with the release of who emptied it */
        while (atomic_load_explicit(twill__ring_cell(ring, at), memory_order_acquire) == at) {
            if (--left == 0)
                return true;
            at = twill__ring_next(ring, at);
        }
        now = atomic_load_explicit(&ring->tail.at, memory_order_seq_cst);
        if (now == tail)
            return false;
    }
}

/* A position so many items (at most the capacity) after another one. */
static inline uint64_t twill__ring_after(const twill__ring *ring, uint64_t position, uint64_t items)
{
    uint64_t index = position & (ring->mark - 1);
    return index + items < ring->capacity ? position + items
                                          : position + ring->lap + items - ring->capacity;
}

/* Whether more than so many could go in, or come out. A hint: one cell is looked at. */
static inline bool twill__ring_far(const twill__ring *ring, bool push, uint64_t items)
{
    /* relaxed: a hint */
    uint64_t at =
        atomic_load_explicit(push ? &ring->tail.at : &ring->head.at, memory_order_relaxed);
    at = twill__ring_after(ring, at & ~ring->mark, items);
    return atomic_load_explicit(twill__ring_cell(ring, at), memory_order_relaxed) == at + !push;
}

/* The longest that a push has seen it. The head is another line, which pops write: it is looked at
   only by a push whose end lies behind `higher`, where a new peak may be, and not more often than
   16 times in as many items as there is room for: so a peak may be seen too short by a 16th. All
   relaxed: figures. */
static __attribute__((noinline)) void twill__ring_new_peak(twill__ring *ring, uint64_t end)
{
    uint64_t count = twill__ring_count(ring, end), length;
    uint64_t out =
        twill__ring_count(ring, atomic_load_explicit(&ring->head.at, memory_order_relaxed));
    uint64_t peak = atomic_load_explicit(&ring->peak, memory_order_relaxed);
    length = count - out <= ring->capacity ? count - out : 0; /* pops have gone on meanwhile */
    while (length > peak &&
           !atomic_compare_exchange_weak_explicit(&ring->peak, &peak, length, memory_order_relaxed,
                                                  memory_order_relaxed)) {}
    if (length > peak)
        peak = length;
    length = peak - length > ring->capacity / 16 ? peak - length : ring->capacity / 16;
    atomic_store_explicit(&ring->higher,
                          peak < ring->capacity ? twill__ring_after(ring, end, length) : UINT64_MAX,
                          memory_order_relaxed);
}

static inline __attribute__((always_inline)) void twill__ring_peak(twill__ring *ring, uint64_t end)
{
    if (end > atomic_load_explicit(&ring->higher, memory_order_relaxed))
        twill__ring_new_peak(ring, end);
}

/* After a lost claim: the longer, the more often. */
static inline void twill__ring_yield(unsigned *lost)
{
    for (unsigned k = 0; TWILL__SPIN && k < 1u << *lost; k++)
        twill__pause();
    if (*lost < 6)
        ++*lost;
}

/* ---- in, out ---- */

typedef struct twill__ring_place { /* a position, its cell, and how many stand from there on */
    uint64_t position;
    char *cell;
    size_t left;
} twill__ring_place;

static inline __attribute__((always_inline)) twill__ring_place
twill__ring_place_of(const twill__ring *ring, uint64_t position)
{
    size_t index = (size_t)(position & (ring->mark - 1));
    return (twill__ring_place){position, ring->cells + index * ring->stride,
                               (size_t)ring->capacity - index};
}

static inline __attribute__((always_inline)) twill__ring_place
twill__ring_step(const twill__ring *ring, twill__ring_place place)
{
    if (place.left > 1)
        return (twill__ring_place){place.position + 1, place.cell + ring->stride, place.left - 1};
    /* the first of the next lap */
    return (twill__ring_place){place.position + ring->lap - ring->capacity + 1, ring->cells,
                               (size_t)ring->capacity};
}

static inline twill__stamp *twill__ring_stamp(twill__ring_place place)
{
    return (twill__stamp *)(void *)place.cell;
}

/* How many of `count` stand before the end of the memory. */
static inline size_t twill__ring_straight(twill__ring_place place, size_t count)
{
    return count < place.left ? count : place.left;
}

/* How many of `most` cells that stand behind one another in memory have the stamps from `stamp`
   on. */
static inline __attribute__((always_inline)) size_t
twill__ring_stamped(const char *cell, size_t stride, uint64_t stamp, size_t most)
{
    size_t count = 0;
    /* acquire: pairs with the release of who had the cell before */
    while (count < most && atomic_load_explicit((const twill__stamp *)(const void *)cell,
                                                memory_order_acquire) == stamp + count) {
        cell += stride;
        count++;
    }
    return count;
}

/* Single items: with the first cell of a line comes the one that is soon to be needed. The next
   claim is a locked instruction, which would wait until the stamp before it has got its line. */
static inline __attribute__((always_inline)) void twill__ring_fetch_next(const twill__ring *ring,
                                                                         const char *cell)
{
    size_t ahead = (size_t)(cell - ring->cells) + TWILL__RING_NEXT;
    if (!ring->span || (uintptr_t)cell % TWILL__FETCHED >= ring->stride)
        return;
    twill__prefetch(ring->cells + (ahead < ring->span ? ahead : ahead - ring->span));
}

/* Claims up to `most` cells that stand behind one another at tail or head, each with the stamp
   `position + turn`; fewer than `least` (not 0): none. Returns how many; *first is the first. At a
   tail with the mark no cell has that stamp.

   It begins at a guess, which the last one who claimed has stored behind his claim, and not at the
   word itself: a load of a word that this core has claimed last would wait for that claim to end,
   and cost as much as the rest of a push. A wrong guess fails, by the stamp or by the CAS. */
static inline __attribute__((always_inline)) size_t
twill__ring_claim(const twill__ring *ring, twill__ring_end *end, uint64_t turn, size_t most,
                  size_t least, twill__ring_place *first)
{
    unsigned lost = 0;
    /* relaxed, here and where it is stored: the CAS decides */
    uint64_t from = atomic_load_explicit(&end->guess, memory_order_relaxed), now;
    for (;;) { /* exit: claimed, or nothing to claim; each turn is another's claim */
        twill__ring_place place = *first = twill__ring_place_of(ring, from);
        size_t run = most == 1 ? 1 : twill__ring_straight(place, most), count;
        if (most == 1 && !ring->span) /* a load alone would bring it for reading, and the store ask
                                         once more; where there is room, it has come already */
            twill__prefetch(place.cell);
        count = twill__ring_stamped(place.cell, ring->stride, from + turn, run);
        if (count == run && run < most) { /* and those of the next lap that stand before it */
            size_t before = (size_t)ring->capacity - place.left;
            count += twill__ring_stamped(ring->cells, ring->stride,
                                         twill__ring_after(ring, from, run) + turn,
                                         most - run < before ? most - run : before);
        }
        if (count >= least) {
            uint64_t to = most == 1 ? twill__ring_step(ring, place).position
                                    : twill__ring_after(ring, from, count);
            /* seq_cst: see above */
            if (atomic_compare_exchange_weak_explicit(&end->at, &from, to, memory_order_seq_cst,
                                                      memory_order_relaxed)) {
                atomic_store_explicit(&end->guess, to, memory_order_relaxed);
                if (most == 1)
                    twill__ring_fetch_next(ring, place.cell);
                return count;
            }
            twill__ring_yield(&lost);
            continue;
        }
        now = atomic_load_explicit(&end->at, memory_order_relaxed);
        if (now == from)
            return 0;
        from = now;
    }
}

/* ---- one in, one out ---- */

static inline __attribute__((always_inline)) bool twill__ring_put_one(twill__ring *ring,
                                                                      const void *item)
{
    twill__ring_place place;
    twill__stamp *stamp;
    if (!twill__ring_claim(ring, &ring->tail, 0, 1, 1, &place))
        return false;
    stamp = twill__ring_stamp(place);
    twill__copy(stamp + 1, item, ring->size);
    /* pairs with the acquire in twill__ring_claim, of a pop */
    atomic_store_explicit(stamp, place.position + 1, memory_order_release);
    twill__ring_peak(ring, twill__ring_step(ring, place).position);
    return true;
}

/* `item` and `number` (of its acceptance) may be NULL. */
static inline __attribute__((always_inline)) bool twill__ring_take_one(twill__ring *ring,
                                                                       void *item, uint64_t *number)
{
    twill__ring_place place;
    twill__stamp *stamp;
    if (!twill__ring_claim(ring, &ring->head, 1, 1, 1, &place))
        return false;
    stamp = twill__ring_stamp(place);
    if (item)
        twill__copy(item, stamp + 1, ring->size);
    if (number)
        *number = twill__ring_count(ring, place.position);
    /* pairs with the acquire in twill__ring_claim, of a push */
    atomic_store_explicit(stamp, place.position + ring->lap, memory_order_release);
    return true;
}

/* Of a full ring: takes the oldest item out (`old`, or NULL) and puts another one in, as one step
   for all others: no push can claim the cell, which its stamp says is filled, and so nobody but a
   close moves the tail. By one thread at a time, and none that closes. False: it is not full, or is
   closed, or the oldest is not there yet. */
static inline bool twill__ring_replace(twill__ring *ring, const void *item, void *old,
                                       uint64_t *number)
{
    uint64_t tail = atomic_load_explicit(&ring->tail.at, memory_order_seq_cst),
             head = atomic_load_explicit(&ring->head.at, memory_order_seq_cst);
    twill__stamp *stamp = twill__ring_cell(ring, head);
    /* acquire: pairs with the release of who filled it; seq_cst: as in twill__ring_claim */
    if (tail - head != ring->lap || atomic_load_explicit(stamp, memory_order_acquire) != head + 1 ||
        !atomic_compare_exchange_strong_explicit(&ring->head.at, &head,
                                                 twill__ring_next(ring, head), memory_order_seq_cst,
                                                 memory_order_relaxed))
        return false;
    if (old)
        twill__copy(old, stamp + 1, ring->size);
    *number = twill__ring_count(ring, head);
    twill__copy(stamp + 1, item, ring->size);
    atomic_store_explicit(&ring->tail.at, twill__ring_next(ring, tail), memory_order_seq_cst);
    /* pairs with the acquire in twill__ring_claim, of a pop */
    atomic_store_explicit(stamp, tail + 1, memory_order_release);
    twill__ring_peak(ring, twill__ring_next(ring, tail));
    return true;
}

/* ---- many in, many out ---- */

/* A batch would wait for lines that the other side wrote last: it asks for those that the next ones
   will need. */
static inline void twill__ring_fetch(const twill__ring *ring, const char *cell, size_t bytes)
{
    size_t ahead = (size_t)(cell - ring->cells) + TWILL__RING_AHEAD, end = ahead + bytes;
    if (end > ring->span)
        end = ring->span;
    for (; ahead < end; ahead += TWILL__FETCHED)
        twill__prefetch(ring->cells + ahead);
}

/* Fills `count` claimed cells that stand behind one another in memory. */
static inline __attribute__((always_inline)) void twill__ring_fill(const twill__ring *ring,
                                                                   char *first, uint64_t position,
                                                                   const char *items, size_t count,
                                                                   size_t size)
{
    size_t stride = twill__ring_stride(size);
    twill__ring_fetch(ring, first, count * stride);
    for (size_t k = 0; k < count; k++) {
        twill__stamp *stamp = (twill__stamp *)(void *)(first + k * stride);
        twill__copy(stamp + 1, items + k * size, size);
        /* pairs with the acquire in twill__ring_claim, of a pop */
        atomic_store_explicit(stamp, position + k + 1, memory_order_release);
    }
}

/* Empties them likewise. */
static inline __attribute__((always_inline)) void twill__ring_drain(const twill__ring *ring,
                                                                    char *first, uint64_t position,
                                                                    char *items, size_t count,
                                                                    size_t size)
{
    size_t stride = twill__ring_stride(size);
    twill__ring_fetch(ring, first, count * stride);
    for (size_t k = 0; k < count; k++) {
        twill__stamp *stamp = (twill__stamp *)(void *)(first + k * stride);
        twill__copy(items + k * size, stamp + 1, size);
        /* pairs with the acquire in twill__ring_claim, of a push */
        atomic_store_explicit(stamp, position + k + ring->lap, memory_order_release);
    }
}

static inline __attribute__((always_inline)) void twill__ring_fill_all(const twill__ring *ring,
                                                                       twill__ring_place place,
                                                                       const char *items,
                                                                       size_t count, size_t size)
{
    size_t run = twill__ring_straight(place, count);
    twill__ring_fill(ring, place.cell, place.position, items, run, size);
    if (run < count)
        twill__ring_fill(ring, ring->cells, twill__ring_after(ring, place.position, run),
                         items + run * size, count - run, size);
}

static inline __attribute__((always_inline)) void twill__ring_drain_all(const twill__ring *ring,
                                                                        twill__ring_place place,
                                                                        char *items, size_t count,
                                                                        size_t size)
{
    size_t run = twill__ring_straight(place, count);
    twill__ring_drain(ring, place.cell, place.position, items, run, size);
    if (run < count)
        twill__ring_drain(ring, ring->cells, twill__ring_after(ring, place.position, run),
                          items + run * size, count - run, size);
}

/* Puts up to `most` items in, fewer than `least`: none. Returns how many. Items of 8 bytes have
   code of their own: two thirds of the instructions. */
static inline size_t twill__ring_put_many(twill__ring *ring, const char *items, size_t most,
                                          size_t least)
{
    twill__ring_place place;
    size_t count = twill__ring_claim(ring, &ring->tail, 0, most, least, &place);
    if (!count)
        return 0;
    if (ring->size == 8)
        twill__ring_fill_all(ring, place, items, count, 8);
    else
        twill__ring_fill_all(ring, place, items, count, ring->size);
    twill__ring_peak(ring, twill__ring_after(ring, place.position, count));
    return count;
}

/* Takes up to `most` items; `numbers` (of their acceptance) may be NULL. */
static inline size_t twill__ring_take_many(twill__ring *ring, char *items, uint64_t *numbers,
                                           size_t most)
{
    twill__ring_place place;
    size_t count = twill__ring_claim(ring, &ring->head, 1, most, 1, &place);
    for (size_t k = 0; numbers && k < count; k++)
        numbers[k] = twill__ring_count(ring, place.position) + k;
    if (!count)
        return 0;
    if (ring->size == 8)
        twill__ring_drain_all(ring, place, items, count, 8);
    else
        twill__ring_drain_all(ring, place, items, count, ring->size);
    return count;
}

#endif

typedef struct twill__cell { /* what is known of an item */
    uint64_t number;         /* of its acceptance */
    twill_ns at;             /* when it was accepted, if times are kept; before: see queue_rank */
    int64_t key;             /* heap: the smaller leaves sooner; equal: the smaller number */
    size_t bytes;
} twill__cell;

/* In a heap: all that its order asks for, so that a step touches one line. */
typedef struct twill__ranked {
    int64_t key;
    uint64_t number;
    size_t place;
} twill__ranked;

/* Instead of a place, in a link: nothing follows, and the rest is the item's own; there is no
   item. */
#define TWILL__CHAIN_END  SIZE_MAX
#define TWILL__CHAIN_FREE (SIZE_MAX - 1)
enum { TWILL__CHAIN_BITS = 6 };

typedef struct twill__store {
    size_t size, capacity, length; /* size of an item; places; items inside */
    char *items;
    twill__cell *cells; /* by place; NULL: the entry, or the place of an item, says its number */
    /* the first of each chain: [0, sorted) are a heap, [sorted, chains) stand behind it as they
       came; the places of [length, capacity) are free. NULL: a ring */
    twill__ranked *heap;
    size_t head; /* ring: the place of the oldest */
    bool lifo;
    uint64_t next; /* the number of the next item */
    /* heap */
    size_t chains, sorted;
    twill__ranked *links; /* by place: what follows in the chain */
    size_t *ends;         /* by what an item's key was reckoned with: where the last such went */
    twill_ns latest;      /* what the key of the last item was reckoned from */
} twill__store;

/* Ring: the place of the k-th item from the oldest. */
static inline size_t twill__place_at(const twill__store *store, size_t k)
{
    size_t left = store->capacity - store->head;
    return k < left ? store->head + k : k - left;
}

/* ---- heap ---- */
/* After J. W. J. Williams, "Algorithm 232: Heapsort", CACM 7 (1964): here of chains, by the first
   of each, so that items stay where they are. A chain's items leave in its order. So those of one
   priority can make one, and an item goes behind the last of its kind, if that is still the end of
   a chain and does not leave later; else it begins another. Who begins one leaves it behind the
   heap, and who looks for an item lets all of those rise: so the lines of the heap stay with those
   who take. */

/* Without a branch: which of two is the sooner is anybody's guess. */
static inline bool twill__sooner(const twill__ranked *a, const twill__ranked *b)
{
    return (a->key < b->key) | ((a->key == b->key) & (a->number < b->number));
}

static inline void twill__sift_up(twill__store *store, size_t at, twill__ranked entry)
{
    twill__ranked *heap = store->heap;
    while (at > 0 && twill__sooner(&entry, &heap[(at - 1) / 2])) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = entry;
}

static inline void twill__sift_down(twill__store *store, size_t at, twill__ranked entry)
{
    twill__ranked *heap = store->heap;
    for (size_t child; at < store->chains / 2; at = child) {
        child = 2 * at + 1;
        if (child + 1 < store->chains)
            child += twill__sooner(&heap[child + 1], &heap[child]);
        if (!twill__sooner(&heap[child], &entry))
            break;
        heap[at] = heap[child];
    }
    heap[at] = entry;
}

/* `ranked`: two for each place. */
static inline void twill__heap_init(twill__store *store, twill__ranked *ranked, size_t *ends)
{
    store->heap = ranked;
    store->links = ranked + store->capacity;
    store->ends = ends;
    memset(ends, 0, sizeof *ends << TWILL__CHAIN_BITS);
    for (size_t k = 0; k < store->capacity; k++) {
        store->heap[k].place = k;
        store->links[k].place = TWILL__CHAIN_FREE;
    }
}

static inline void twill__heap_put(twill__store *store, const twill__cell *cell, size_t place)
{
    twill__ranked entry = {cell->key, cell->number, place};
    uint64_t kind = ((uint64_t)cell->key - (uint64_t)store->latest) * 0x9e3779b97f4a7c15u;
    size_t *end = &store->ends[kind >> (64 - TWILL__CHAIN_BITS)];
    twill__ranked *link = &store->links[*end];
    if (link->place == TWILL__CHAIN_END && link->key <= entry.key)
        *link = entry;
    else
        store->heap[store->chains++] = entry;
    *end = place;
    entry.place = TWILL__CHAIN_END;
    store->links[place] = entry;
}

static __attribute__((noinline)) void twill__heap_remove(twill__store *store, size_t at)
{
    size_t gone = store->heap[at].place;
    twill__ranked next = store->links[gone];
    store->links[gone].place = TWILL__CHAIN_FREE;
    if (next.place != TWILL__CHAIN_END) {
        twill__sift_down(store, at, next);
    } else {
        next = store->heap[--store->chains];
        if (at < store->chains) {
            if (at > 0 && twill__sooner(&next, &store->heap[(at - 1) / 2]))
                twill__sift_up(store, at, next);
            else
                twill__sift_down(store, at, next);
        }
        store->sorted = store->chains;
    }
    store->heap[--store->length].place = gone; /* free */
}

static inline void twill__store_rank(twill__store *store)
{
    for (; store->sorted < store->chains; store->sorted++)
        twill__sift_up(store, store->sorted, store->heap[store->sorted]);
}

/* Where the newest stands: the last of its chain, it becomes a chain of its own, behind the
   heap. */
static inline size_t twill__heap_newest(twill__store *store)
{
    twill__ranked newest = store->heap[0], before = newest;
    size_t found = 0;
    for (size_t at = 0; at < store->chains; at++) {
        twill__ranked last = store->heap[at], ahead = last, next;
        while ((next = store->links[last.place]).place != TWILL__CHAIN_END) {
            ahead = last;
            last = next;
        }
        if (last.number >= newest.number) {
            newest = last;
            before = ahead;
            found = at;
        }
    }
    if (newest.place == before.place)
        return found;
    store->links[before.place] = (twill__ranked){before.key, before.number, TWILL__CHAIN_END};
    store->heap[store->chains] = newest;
    return store->chains++;
}

/* ---- in, out ---- */

/* Most places were the other side's last: those of the puts to come, and of the next takes, are
   asked for early. A heap's items stand anywhere. */
enum { TWILL__HEAP_AHEAD = 4, TWILL__STORE_AHEAD = 16 }; /* items */

static inline void twill__heap_fetch(const twill__store *store, size_t at)
{
    if (at < store->capacity) {
        twill__prefetch(store->items + store->heap[at].place * store->size);
        twill__prefetch(&store->links[store->heap[at].place]);
    }
}

/* Ring: the place of the `at`-th from the oldest, if it is below `to`. */
static inline void twill__store_fetch(const twill__store *store, size_t at, size_t to)
{
    if (at < to)
        twill__prefetch(store->items + twill__place_at(store, at) * store->size);
}

/* There is room. */
static inline void twill__store_put(twill__store *store, const void *item, const twill__cell *cell)
{
    size_t place =
        store->heap ? store->heap[store->length].place : twill__place_at(store, store->length);
    twill__copy(store->items + place * store->size, item, store->size);
    if (store->cells)
        store->cells[place] = *cell;
    if (store->heap) {
        twill__heap_put(store, cell, place);
        twill__heap_fetch(store, store->length + TWILL__HEAP_AHEAD);
    } else {
        twill__store_fetch(store, store->length + TWILL__STORE_AHEAD, store->capacity);
    }
    store->length++;
}

typedef enum twill__which { TWILL__NEXT, TWILL__OLDEST, TWILL__NEWEST } twill__which;

/* Where in the heap (or, in a ring, how far from the oldest) an item stands. There is one. */
static inline size_t twill__store_find(twill__store *store, twill__which which)
{
    size_t found = 0;
    if (!store->heap) {
        bool last = which == TWILL__NEWEST || (which == TWILL__NEXT && store->lifo);
        return last ? store->length - 1 : 0;
    }
    twill__store_rank(store);
    if (which == TWILL__NEWEST)
        return twill__heap_newest(store);
    for (size_t at = 1; which == TWILL__OLDEST && at < store->chains; at++)
        if (store->heap[at].number < store->heap[found].number)
            found = at;
    return found;
}

/* What is known of the item at `at`, as twill__store_find said it. */
static inline twill__cell twill__store_cell(const twill__store *store, size_t at)
{
    twill__cell cell = {store->next - store->length + at, 0, 0, 0};
    if (store->cells)
        return store->cells[store->heap ? store->heap[at].place : twill__place_at(store, at)];
    if (store->heap)
        cell.number = store->heap[at].number;
    return cell;
}

/* Takes the item at `at` (in a ring: the first or the last); `to` may be NULL. */
static inline __attribute__((always_inline)) void twill__store_take(twill__store *store, size_t at,
                                                                    void *to)
{
    size_t place = store->heap ? store->heap[at].place : twill__place_at(store, at);
    if (to)
        twill__copy(to, store->items + place * store->size, store->size);
    if (store->heap) {
        twill__heap_remove(store, at);
        twill__heap_fetch(store, 0);
        return;
    }
    if (at == 0) {
        twill__store_fetch(store, TWILL__STORE_AHEAD, store->length);
        store->head = twill__place_at(store, 1);
    }
    store->length--;
}

#endif

/* The protocol of engine/cancel.h, with one bit more. A select waits in the lists of several
   queues, each with a lock of its own, on one word; a granter must own that wait before it copies
   an item. TAKEN is set by a compare-and-swap that fails once TAKEN or LEAVING is there, so exactly
   one queue gets the waiter, and a waiter that finds TAKEN beside its LEAVING knows that GRANTED
   follows. RETRY beside GRANTED: the waiter still stands in the list, and looks again by itself. */
enum { TWILL__TAKEN = 8, TWILL__RETRY = 16 };
/* beside the public statuses */
enum { TWILL__AGAIN = -1, TWILL__ELSEWHERE = -2, TWILL__ANEW = -3 };
enum {
    TWILL__AWAY = 200,
    TWILL__PATIENCE = 4000,
    TWILL__ROW = 1000,
    TWILL__ROW_MOST = 8000
}; /* ns */
/* ns: twice a parked round trip. Who parks makes a holder wake him, and many threads behind one
   lock would do nothing else. */
enum { TWILL__QUEUE_SPIN = 20000 };
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
    bool counted;       /* it is not listed, but counted: a bulk that looks again */
    bool inside;        /* its thread has the lock already */
    twill__cell cell;   /* key and bytes of an item to push */
    twill_ns since;
} twill__waiter;

typedef struct twill__queue_list { /* in order of arrival */
    twill__waiter *first, *last;
} twill__queue_list;

/* What a call has in the queue while it is out of the lock: if on_level ends its thread, that is
   taken out again. */
typedef struct twill__queue_left {
    twill__queue_list *list; /* NULL: it is in none */
    twill__waiter *waiter;
    unsigned *threads; /* it is counted there; may be NULL */
} twill__queue_left;

/* A callback of the queue that runs now, on its caller's stack. */
typedef struct twill__queue_calling {
    struct twill__queue_calling *next;
    struct twill_queue *queue;
    uint64_t thread;
    struct twill__dropped *dropped; /* NULL: it is on_level */
    const twill__queue_left *left;  /* by the call that tells a level; may be NULL */
} twill__queue_calling;

typedef struct twill__queue_counts {
    uint64_t dropped, expired, cleared, rejected, push_waits, pop_waits, wakes;
    twill_ns push_wait_total, push_wait_max, pop_wait_total, pop_wait_max, age_total, age_max;
} twill__queue_counts;

typedef struct twill_queue {
    /* here first what a brief push or pop touches: see twill__brief_put */
    twill__light_lock lock;
    /* read without the lock, written under it */
    _Atomic size_t length;
    _Atomic uint32_t closed; /* 0; CLOSED or FAILED: what a drained queue answers */
    /* under the lock */
    unsigned pushing, popping; /* threads that wait outside the lock for a moment */
    bool calm;                 /* there are only items to see to: see twill__queue_unlock */
    bool doomed, telling, is_high;
    size_t bytes, peak;
    twill__store store; /* of a heap: one line more */
    _Alignas(TWILL__LINE) twill__queue_list pushers;
    twill__queue_list poppers, watchers, joiners;
    twill__node *destroyer;
    twill__queue_calling *calls;
    /* task_done; dropped, expired or cleared, and their callback has returned */
    uint64_t finished, gone;
    /* how often the level changed; how often it was told */
    uint64_t level_turns, told;
    uint32_t push_patience, pop_patience; /* for how long: see twill__patience */
    unsigned producers, held;             /* held: by a call around it, which alone detaches them */
    twill__queue_counts counts;
    _Atomic int code; /* read without the lock, written under it */
    _Alignas(TWILL__LINE) _Atomic uint32_t filled, freed; /* change for those who wait outside */
    /* listed: poppers and watchers; pushers, and bulks among them in the high half */
    _Alignas(TWILL__LINE) _Atomic uint32_t takers, givers;
    /* set at creation */
    _Alignas(TWILL__LINE) uint32_t generation;
    const _Atomic uint32_t *mark; /* holds the generation of this process */
    twill_overflow overflow;
    bool times;       /* cells keep them */
    bool brief;       /* neither a ring nor a rendezvous: see twill__brief_put */
    twill_ns max_age; /* TWILL_FOREVER: none */
    size_t max_bytes, high_mark, low_mark;
    twill_ns ageing;
    int (*priority_of)(const void *item, const twill_task *task);
    size_t (*bytes_of)(const void *item, const twill_task *task);
    twill_drop_fn *drop;
    void (*on_level)(bool high, size_t length, const twill_task *task);
    void *context, *memory;
    /* a call around it: instead of waiting for room, do something about it (1), unless somebody
       else will (0) or this thread cannot (-1; -2: it has an item in hand). Whoever makes *others 0
       tells the waiting pushers then, and those who join. From a rendezvous where there is none it
       takes the waiter's own item (waiter NULL: there is none) */
    int (*relief)(void *data, struct twill__waiter *waiter);
    uint64_t (*consumed)(const void *data); /* how many items the call is done with */
    void *relief_data;
    const _Atomic uint32_t *others;
    twill__ring ring; /* the items of a plain queue */
} twill__queue;

/* ---- figures ---- */

static inline size_t twill__queue_length(const twill__queue *queue)
{
    return queue->ring.cells ? twill__ring_length(&queue->ring) : queue->store.length;
}

static inline uint64_t twill__queue_accepted(const twill__queue *queue)
{
    return queue->ring.cells ? twill__ring_pushed(&queue->ring) : queue->store.next;
}

static inline uint64_t twill__queue_popped(const twill__queue *queue)
{
    const twill__queue_counts *counts = &queue->counts;
    uint64_t out = queue->ring.cells ? twill__ring_popped(&queue->ring)
                                     : queue->store.next - queue->store.length;
    return out - counts->dropped - counts->expired - counts->cleared;
}

/* Popped and finished. Under the lock. */
static inline uint64_t twill__queue_finished(const twill__queue *queue)
{
    return queue->finished + (queue->consumed ? queue->consumed(queue->relief_data) : 0);
}

/* Accepted, and neither finished nor gone. Under the lock. What has ended is counted first: pushes
   and consumers go on meanwhile, and the other order could miss what is still to be done. */
static inline bool twill__queue_unfinished(const twill__queue *queue)
{
    uint64_t ended = twill__queue_finished(queue) + queue->gone;
    return twill__queue_accepted(queue) > ended;
}

/* ---- lists ---- */

enum { TWILL__BULK = 0x10000 };

static inline uint32_t twill__queue_weight(const twill__waiter *waiter)
{
    return waiter->from && waiter->whole ? TWILL__BULK + 1 : 1;
}

static inline _Atomic uint32_t *twill__queue_gate(twill__queue *queue,
                                                  const twill__queue_list *list)
{
    return list == &queue->joiners   ? NULL
           : list == &queue->pushers ? &queue->givers
                                     : &queue->takers;
}

static inline void twill__enlist(twill__queue *queue, twill__queue_list *list,
                                 twill__waiter *waiter, bool front)
{
    _Atomic uint32_t *gate = twill__queue_gate(queue, list);
    if (gate && !waiter->counted) /* seq_cst: pairs with the loads in twill__quick_put and _take */
        atomic_fetch_add_explicit(gate, twill__queue_weight(waiter), memory_order_seq_cst);
    waiter->counted = false;
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

static inline void twill__delist(twill__queue *queue, twill__queue_list *list,
                                 twill__waiter *waiter)
{
    _Atomic uint32_t *gate = twill__queue_gate(queue, list);
    if (gate && !waiter->counted) /* relaxed: one too many costs a look */
        atomic_fetch_sub_explicit(gate, twill__queue_weight(waiter), memory_order_relaxed);
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

/* Ring: whether a bulk waits that this one must not overtake. Under the lock, which alone changes
   the count: relaxed. */
static inline bool twill__queue_behind(const twill__queue *queue, const twill__waiter *waiter)
{
    return atomic_load_explicit(&queue->givers, memory_order_relaxed) -
               (waiter->counted ? twill__queue_weight(waiter) : 0) >=
           TWILL__BULK;
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

#endif

/* ---- a turn under the lock ---- */

typedef struct twill__queue_turn { /* whom to wake after it */
    unsigned count;
    _Atomic uint32_t *word[16];
} twill__queue_turn;

/* The process that a queue was made in. A call that lets go of the lock, after which on_level may
   fork and, in the parent, the queue may be gone, takes it along. */
typedef struct twill__queue_home {
    const _Atomic uint32_t *mark;
    uint32_t generation;
} twill__queue_home;

static inline twill__queue_home twill__queue_home_of(const twill__queue *queue)
{
    twill__queue_home home = {queue->mark, queue->generation};
    return home;
}

static inline bool twill__queue_is_home(twill__queue_home home)
{
    /* a number, set before */
    return atomic_load_explicit(home.mark, memory_order_relaxed) == home.generation;
}

static inline bool twill__queue_here(const twill__queue *queue)
{
    return twill__queue_is_home(twill__queue_home_of(queue));
}

/* Whoever has the lock is likely to push, or to pop, a row of items: worth a wait without a look,
   and a longer one if he still has it. Then, where there are more threads than CPUs, it may be this
   one's CPU that he waits for. */
static __attribute__((noinline)) void twill__queue_lock_late(twill__queue *queue)
{
    for (twill_ns row = TWILL__ROW; row <= TWILL__ROW_MOST && twill__spin_helps(); row *= 2) {
        twill__spin_away(row);
        if (twill__light_try(&queue->lock))
            return;
        if (row == TWILL__ROW)
            continue;
        twill__yield();
        if (twill__light_try(&queue->lock))
            return;
    }
    twill__light_take(&queue->lock, TWILL__QUEUE_SPIN);
}

static inline void twill__queue_lock(twill__queue *queue)
{
    if (!twill__light_try(&queue->lock))
        twill__queue_lock_late(queue);
}

static inline void twill__queue_enter(twill__queue *queue, twill__queue_turn *turn)
{
    turn->count = 0;
    twill__queue_lock(queue);
}

static inline void twill__queue_come(twill__queue *queue, twill__queue_turn *turn,
                                     twill__waiter *waiter)
{
    turn->count = 0;
    if (!waiter->inside)
        twill__queue_lock(queue);
    waiter->inside = false;
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
    twill__delist(queue, list, waiter);
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

/* Under the lock: those who wait outside it for a moment shall look. */
static inline void twill__queue_hint(_Atomic uint32_t *word)
{
    /* relaxed: they look again under the lock, which alone changes it */
    uint32_t seen = atomic_load_explicit(word, memory_order_relaxed);
    atomic_store_explicit(word, seen + 1, memory_order_relaxed);
}

/* Under the lock: of two items of one priority the one that is accepted later must not be the
   sooner, whichever push has read the clock first. cell->at: what its key was reckoned from; 0: the
   key knows no time. */
static inline void twill__queue_rank(twill__queue *queue, twill__cell *cell)
{
    if (!cell->at)
        return;
    if (cell->at >= queue->store.latest)
        queue->store.latest = cell->at;
    else if (__builtin_add_overflow(cell->key, queue->store.latest - cell->at, &cell->key))
        cell->key = INT64_MAX;
}

/* Takes in `count` of the waiter's items. A ring may have less room by now: what came in is added
   to waiter->done. */
static inline void twill__queue_accept(twill__queue *queue, twill__waiter *waiter, size_t count)
{
    twill__cell cell = waiter->cell;
    if (queue->ring.cells) {
        waiter->done +=
            twill__ring_put_many(&queue->ring, waiter->from + waiter->done * queue->store.size,
                                 count, waiter->whole ? waiter->n - waiter->done : 1);
        return;
    }
    twill__queue_rank(queue, &cell);
    if (queue->times)
        cell.at = twill__clock_now();
    for (size_t k = 0; k < count; k++) {
        cell.number = queue->store.next++;
        twill__store_put(&queue->store, waiter->from + waiter->done * queue->store.size, &cell);
        waiter->done++;
        queue->bytes += cell.bytes;
    }
    if (queue->popping)
        twill__queue_hint(&queue->filled);
}

static inline void twill__queue_aged(twill__queue *queue, twill_ns at, twill_ns now)
{
    twill_ns age = now > at ? now - at : 0;
    queue->counts.age_total += age;
    if (age > queue->counts.age_max)
        queue->counts.age_max = age;
}

/* Takes one item out of the store; `to` may be NULL. */
static inline twill__cell twill__queue_take(twill__queue *queue, twill__which which, void *to)
{
    size_t at = twill__store_find(&queue->store, which);
    twill__cell cell = twill__store_cell(&queue->store, at);
    twill__store_take(&queue->store, at, to);
    queue->bytes -= cell.bytes;
    if (queue->pushing)
        twill__queue_hint(&queue->freed);
    return cell;
}

/* When the first item to look at expires; TWILL_FOREVER: never. A push in need of room looks at the
   oldest, a pop at the one that it would get. */
static inline twill_ns twill__queue_expiry(twill__queue *queue, twill__which which)
{
    twill_ns at;
    if (queue->max_age == TWILL_FOREVER)
        return TWILL_FOREVER;
    TWILL_ASSERT(queue->store.length); /* who finds no room, or something to pop, asks */
    at = twill__store_cell(&queue->store, twill__store_find(&queue->store, which)).at;
    return at > TWILL_FOREVER - queue->max_age ? TWILL_FOREVER : at + queue->max_age;
}

/* Gives `count` items to the waiter; of a ring, what is there by now, and of aged items those
   before the next that has expired: see waiter->done. */
static inline void twill__queue_deliver(twill__queue *queue, twill__waiter *waiter, size_t count)
{
    twill_ns now;
    if (queue->ring.cells) {
        waiter->done +=
            twill__ring_take_many(&queue->ring, waiter->to + waiter->done * queue->store.size,
                                  waiter->numbers ? waiter->numbers + waiter->done : NULL, count);
        return;
    }
    now = queue->times ? twill__clock_now() : 0;
    for (size_t k = 0; k < count; k++) {
        if (k && queue->times && now >= twill__queue_expiry(queue, TWILL__NEXT))
            break;
        twill__cell cell =
            twill__queue_take(queue, TWILL__NEXT, waiter->to + waiter->done * queue->store.size);
        if (waiter->numbers)
            waiter->numbers[waiter->done] = cell.number;
        if (queue->times)
            twill__queue_aged(queue, cell.at, now);
        waiter->done++;
    }
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
}

/* How many of the pusher's items may come in now. */
static inline size_t twill__queue_room(const twill__queue *queue, const twill__waiter *waiter)
{
    size_t room, want = waiter->n - waiter->done;
    if (queue->ring.cells && !twill__ring_writable(&queue->ring, waiter->whole ? want : 1))
        return 0;
    room = queue->ring.cells ? twill__ring_room(&queue->ring)
                             : queue->store.capacity - queue->store.length;
    if (queue->max_bytes && waiter->cell.bytes > queue->max_bytes - queue->bytes)
        return 0;
    if (waiter->whole && room < want)
        return 0;
    return room < want ? room : want;
}

/* How many items a pop may find now; those on their way do not count. */
static inline size_t twill__queue_there(const twill__queue *queue)
{
    if (queue->ring.cells && !twill__ring_readable(&queue->ring))
        return 0;
    return twill__queue_length(queue);
}

/* ---- settle ---- */

static inline bool twill__settle_pushers(twill__queue *queue, twill__queue_turn *turn)
{
    bool moved = false;
    for (twill__waiter *waiter = queue->pushers.first, *next; waiter; waiter = next) {
        size_t room;
        /* a bulk in a ring that does not wait now may look again: it will have the lock soon */
        bool stays = queue->ring.cells && twill__queue_weight(waiter) != 1;
        next = waiter->next;
        if (!twill__waits(waiter)) {
            if (stays)
                break;
            continue;
        }
        room = twill__queue_room(queue, waiter);
        if (room == 0)
            break; /* those behind it wait their turn */
        moved = true;
        if (room < waiter->n - waiter->done) {
            /* a part; its memory stays until it has had the lock again */
            twill__queue_accept(queue, waiter, room);
            break;
        }
        if (!twill__own(waiter)) {
            if (stays)
                break;
            continue;
        }
        twill__queue_accept(queue, waiter, room);
        if (waiter->done < waiter->n) { /* a ring, and somebody was quicker */
            twill__queue_retry(queue, turn, waiter);
            break;
        }
        twill__queue_answer(queue, turn, &queue->pushers, waiter, TWILL_OK);
    }
    return moved;
}

static inline bool twill__settle_poppers(twill__queue *queue, twill__queue_turn *turn)
{
    bool moved = false;
    for (twill__waiter *waiter = queue->poppers.first, *next; waiter; waiter = next) {
        size_t want = waiter->n - waiter->done, length = twill__queue_there(queue);
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
        if (waiter->whole ? waiter->done < waiter->n : !waiter->done) { /* as above */
            twill__queue_retry(queue, turn, waiter);
            break;
        }
        twill__queue_answer(queue, turn, &queue->poppers, waiter, TWILL_OK);
    }
    return moved;
}

static inline bool twill__queue_readable(const twill__queue *queue)
{
    return twill__queue_there(queue) || (!queue->store.capacity && twill__first(&queue->pushers));
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
            moved = twill__settle_poppers(queue, turn) || moved;
    }
    if (closed) {
        twill__queue_answer_all(queue, turn, &queue->pushers, TWILL_CLOSED);
        if (!twill__queue_length(queue))
            twill__queue_answer_all(queue, turn, &queue->poppers, (int)closed);
    }
    if (queue->watchers.first) {
        if (twill__queue_readable(queue))
            twill__queue_answer_all(queue, turn, &queue->watchers, TWILL_OK);
        else if (closed && !twill__queue_length(queue))
            twill__queue_answer_all(queue, turn, &queue->watchers, (int)closed);
    }
    if (queue->joiners.first) {
        bool unfinished = twill__queue_unfinished(queue); /* once: pushes go on meanwhile */
        if (!unfinished || queue->doomed)
            twill__queue_answer_all(queue, turn, &queue->joiners,
                                    unfinished ? TWILL_CLOSED : TWILL_OK);
    }
}

#endif

/* ---- leaving the lock ---- */

static inline void twill__queue_tell(twill__queue *queue, const twill__queue_left *left);

static inline bool twill__queue_deserted(const twill__queue *queue)
{
    return !queue->pushers.first && !queue->poppers.first && !queue->watchers.first &&
           !queue->joiners.first && !queue->calls && !queue->pushing && !queue->popping &&
           !twill__light_wanted(&queue->lock);
}

/* Whether this length is one to tell. */
static inline bool twill__queue_turns(const twill__queue *queue, size_t length)
{
    return queue->on_level &&
           (queue->is_high ? length <= queue->low_mark : length >= queue->high_mark);
}

/* Notes what a change of length means. True: the caller has to tell the level. */
static inline bool twill__queue_level(twill__queue *queue)
{
    size_t length = queue->store.length;
    if (queue->ring.cells)
        return false;
    if (length > queue->peak)
        queue->peak = length;
    atomic_store_explicit(&queue->length, length, memory_order_relaxed); /* a hint */
    if (!queue->on_level || queue->doomed)
        return false;
    if (twill__queue_turns(queue, length)) {
        queue->is_high = !queue->is_high;
        queue->level_turns++;
    }
    return queue->level_turns != queue->told && !queue->telling;
}

/* The lock is let go here, and by brief calls, to which none of this means anything. */
static inline void twill__queue_unlock(twill__queue *queue)
{
    queue->calm = !queue->pushers.first && !queue->poppers.first && !queue->watchers.first &&
                  !twill__queue_closed(queue) && queue->level_turns == queue->told;
    twill__light_unlock(&queue->lock);
}

/* The only way out of the lock. quiet: a change of level is told by the next one who comes. left:
   what the call has in the queue; may be NULL. */
static inline void twill__queue_leave(twill__queue *queue, twill__queue_turn *turn, bool quiet,
                                      const twill__queue_left *left)
{
    bool tell;
    twill__queue_settle(queue, turn);
    tell = twill__queue_level(queue) && !quiet;
    if (tell)
        queue->telling = true;
    if (queue->destroyer && !queue->telling && twill__queue_deserted(queue)) {
        twill__node *node = queue->destroyer;
        queue->destroyer = NULL;
        twill__granted(queue, turn, node, TWILL__GRANTED);
    }
    twill__queue_unlock(queue);
    for (unsigned k = 0; k < turn->count; k++)
        twill__wake(turn->word[k], 1);
    if (tell)
        twill__queue_tell(queue, left);
}

static inline void twill__queue_exit(twill__queue *queue, twill__queue_turn *turn)
{
    twill__queue_leave(queue, turn, false, NULL);
}

static inline void twill__calling_begin(twill__queue *queue, twill__queue_calling *calling)
{
    calling->queue = queue;
    calling->thread = twill__thread_number();
    calling->dropped = NULL;
    calling->left = NULL;
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

typedef struct twill__dropped { /* items that the drop callback has to see, once unlocked */
    const char *from;
    size_t count;
    uint64_t number;
    twill_status why;
} twill__dropped;

/* A callback has ended the thread: what it had to tell or to drop beside counts as told and gone,
   and a call that was to wait does not. */
static inline void twill__calling_ended(void *calling_)
{
    twill__queue_calling *calling = (twill__queue_calling *)calling_;
    const twill__queue_left *left = calling->left;
    twill__queue *queue = calling->queue;
    twill__queue_turn turn;
    if (!twill__queue_here(queue))
        return;
    twill__queue_enter(queue, &turn);
    if (calling->dropped)
        queue->gone += calling->dropped->count;
    else
        queue->telling = false;
    if (left && left->list && left->waiter->listed) { /* else it has been answered */
        twill__queue_waited(queue, left->waiter);
        twill__delist(queue, left->list, left->waiter);
    }
    if (left && left->threads)
        --*left->threads;
    twill__calling_end(queue, calling);
    twill__queue_leave(queue, &turn, true, NULL);
}

/* noinline: its locals must not stand in the frame of a guard, which may be a setjmp */
static __attribute__((noinline)) void twill__queue_call_drop(twill__queue_calling *calling,
                                                             char *item, const twill_task *task)
{
    TWILL__GUARD_PUSH(twill__calling_ended, calling);
    calling->queue->drop(item, calling->dropped->why, task);
    TWILL__GUARD_POP(0);
}

static __attribute__((noinline)) void twill__queue_call_level(twill__queue_calling *calling,
                                                              bool high, size_t length,
                                                              const twill_task *task)
{
    TWILL__GUARD_PUSH(twill__calling_ended, calling);
    calling->queue->on_level(high, length, task);
    TWILL__GUARD_POP(0);
}

/* A callback may fork. In the child nothing of the queue is touched from its return on: another
   thread of the parent may have had the lock. */

/* Whoever set `telling` tells all changes of level, in order. */
static inline void twill__queue_tell(twill__queue *queue, const twill__queue_left *left)
{
    twill__queue_calling calling;
    twill__queue_turn turn;
    twill_task task = twill__queue_task(queue, SIZE_MAX);
    twill__queue_enter(queue, &turn);
    twill__calling_begin(queue, &calling);
    calling.left = left;
    while (queue->told != queue->level_turns) { /* exit: no change since */
        bool high = queue->told++ % 2 == 0;
        size_t length = queue->store.length;
        twill__queue_exit(queue, &turn);
        twill__queue_call_level(&calling, high, length, &task);
        if (!twill__queue_here(queue))
            return;
        twill__queue_enter(queue, &turn);
    }
    queue->telling = false;
    twill__calling_end(queue, &calling);
    twill__queue_exit(queue, &turn);
}

/* ---- drops ---- */

/* Under the lock, which it leaves for each callback. `kept`: room for an item. False: this is a
   forked child, where nobody has the lock. */
static inline bool twill__queue_drop(twill__queue *queue, twill__queue_turn *turn,
                                     twill__dropped *dropped, char *kept)
{
    twill__queue_calling calling;
    if (!queue->drop) {
        queue->gone += dropped->count;
        dropped->count = 0;
        twill__queue_settle(queue, turn); /* its place is for who stands first: as below */
        return true;
    }
    twill__calling_begin(queue, &calling);
    calling.dropped = dropped;
    for (; dropped->count; dropped->count--) {
        twill_task task = twill__queue_task(queue, (size_t)dropped->number++);
        twill__queue_leave(queue, turn, true, NULL); /* on_level could end the thread: drop first */
        if (dropped->from != kept) {
            memcpy(kept, dropped->from, queue->store.size);
            dropped->from += queue->store.size;
        }
        twill__queue_call_drop(&calling, kept, &task);
        if (!twill__queue_here(queue))
            return false;
        twill__queue_enter(queue, turn);
        queue->gone++;
    }
    twill__calling_end(queue, &calling);
    return true;
}

/* Takes one item out to be dropped. */
static inline void twill__queue_evict(twill__queue *queue, twill__which which, twill_status why,
                                      char *kept, twill__dropped *dropped)
{
    dropped->from = kept;
    dropped->count = 1;
    dropped->why = why;
    if (!queue->ring.cells)
        dropped->number = twill__queue_take(queue, which, queue->drop ? kept : NULL).number;
    else if (!twill__ring_take_one(&queue->ring, queue->drop ? kept : NULL, &dropped->number)) {
        dropped->count = 0; /* somebody was quicker */
        return;
    }
    if (why == TWILL_TIMEOUT)
        queue->counts.expired++;
    else if (why == TWILL_CANCELLED)
        queue->counts.cleared++;
    else
        queue->counts.dropped++;
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

#endif

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

static inline size_t twill__queue_need(const twill__waiter *waiter)
{
    return waiter->whole ? waiter->n - waiter->done : 1;
}

/* A ring: whether the positions promise what is not there yet. */
static inline bool twill__queue_on_its_way(const twill__queue *queue, const twill__waiter *waiter)
{
    if (!queue->ring.cells)
        return false;
    return waiter->from ? twill__ring_room(&queue->ring) >= twill__queue_need(waiter)
                        : twill__ring_length(&queue->ring) > 0;
}

/* Somebody outside the lock has a step or two to do. */
static inline void twill__queue_give_way(twill__queue *queue, twill__queue_turn *turn)
{
    twill__queue_exit(queue, turn);
    twill__yield();
    twill__queue_enter(queue, turn);
}

/* The positions of a ring that drops its oldest have been found full. */
static inline int twill__push_over(twill__queue *queue, twill__queue_turn *turn,
                                   twill__waiter *waiter, char *kept, twill__dropped *dropped)
{
    bool one = !waiter->whole || waiter->n == 1;
    if (one && twill__ring_replace(&queue->ring, waiter->from + waiter->done * queue->store.size,
                                   queue->drop ? kept : NULL, &dropped->number)) {
        *dropped = (twill__dropped){kept, 1, dropped->number, TWILL_DROPPED};
        queue->counts.dropped++;
        return ++waiter->done == waiter->n ? (int)TWILL_OK : TWILL__AGAIN;
    }
    if (!one && !twill__queue_on_its_way(queue, waiter)) /* all at once: one after the other goes */
        twill__queue_evict(queue, TWILL__OLDEST, TWILL_DROPPED, kept, dropped);
    if (!dropped->count)
        twill__queue_give_way(queue, turn);
    return TWILL__AGAIN;
}

/* OK; FULL; CLOSED; DROPPED; AGAIN: drop what is in `dropped`, and come again; ELSEWHERE; ANEW: it
   is ours alone, and got nothing: leave all lists, and begin anew. */
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
    } else if (queue->ring.cells ? !twill__queue_behind(queue, waiter)
                                 : !twill__first(&queue->pushers)) {
        room = twill__queue_room(queue, waiter);
        if (room && !twill__still_ours(waiter))
            return TWILL__ELSEWHERE;
        if (room)
            twill__queue_accept(queue, waiter, room);
        if (waiter->done == waiter->n)
            return TWILL_OK;
        if (room && waiter->shared)
            return TWILL__ANEW;
    }
    /* also for who stands first: he may not look by himself */
    if (twill__queue_expire(queue, TWILL__OLDEST, kept, dropped))
        return TWILL__AGAIN;
    if (queue->ring.cells && queue->overflow == TWILL_OVERFLOW_DROP_OLDEST)
        return twill__push_over(queue, turn, waiter, kept, dropped);
    if (queue->overflow == TWILL_OVERFLOW_DROP_INCOMING) {
        dropped->from = waiter->from + waiter->done * queue->store.size;
        dropped->count = waiter->n - waiter->done;
        dropped->number = queue->store.next;
        dropped->why = TWILL_DROPPED;
        queue->store.next += dropped->count;
        queue->counts.dropped += dropped->count;
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

/* OK; EMPTY; CLOSED; FAILED; AGAIN, ELSEWHERE, ANEW as above. */
static inline int twill__pop_now(twill__queue *queue, twill__queue_turn *turn,
                                 twill__waiter *waiter, char *kept, twill__dropped *dropped)
{
    size_t want = waiter->n - waiter->done, length = twill__queue_there(queue);
    if (length) {
        if (twill__queue_expire(queue, TWILL__NEXT, kept, dropped))
            return TWILL__AGAIN;
        if (!twill__still_ours(waiter))
            return TWILL__ELSEWHERE;
        twill__queue_deliver(queue, waiter, want < length ? want : length);
        if (!waiter->done) /* a ring, and somebody was quicker */
            return waiter->shared ? (int)TWILL__ANEW : (int)TWILL__AGAIN;
        if (!waiter->whole || waiter->done == waiter->n)
            return TWILL_OK;
        return queue->store.length ? (int)TWILL__AGAIN : (int)TWILL_EMPTY; /* the next is too old */
    }
    if (!queue->store.capacity && queue->pushers.first) {
        int answer;
        do /* exit: bounded by the room for items */
            answer = twill__queue_meet(queue, turn, waiter, false);
        while (answer == TWILL_OK && waiter->done < waiter->n);
        if (answer == TWILL_EMPTY && waiter->done && !waiter->whole)
            return TWILL_OK;
        if (answer != TWILL_EMPTY)
            return answer;
    }
    return twill__queue_closed(queue) && !twill__queue_length(queue)
               ? (int)twill__queue_closed(queue)
               : TWILL_EMPTY;
}

/* ---- waiting ---- */

typedef struct twill__queue_look {
    const _Atomic uint32_t *word;
    uint32_t seen;
} twill__queue_look;

static inline bool twill__queue_changed(void *look_)
{
    const twill__queue_look *look = (const twill__queue_look *)look_;
    /* relaxed: the caller looks again under the lock */
    return atomic_load_explicit(look->word, memory_order_relaxed) != look->seen;
}

/* How long (ns, and TWILL__AWAY beside) a side that found nothing stays away before it looks again.
   If it kept close behind the other side, they would take the lines of the items, and of the lock,
   from one another for a handful of items. So it stays away for longer as long as it finds a batch
   then; where items come one at a time, it looks soon, and where it found more than half of all
   that there is room for, the other side may soon have to wait. */
static inline uint32_t twill__patience(uint32_t had, bool batch, bool half)
{
    uint32_t now = batch && !half ? 2 * had + TWILL__AWAY : had / 2;
    return now < TWILL__PATIENCE ? now : TWILL__PATIENCE;
}

/* Before a node is put into a list: a moment outside the lock, since a parked round trip costs far
   more. Under the lock on both sides, or false: this is a forked child. */
static inline bool twill__queue_moment(twill__queue *queue, twill__queue_turn *turn, bool push)
{
    _Atomic uint32_t *word = push ? &queue->freed : &queue->filled;
    unsigned *threads = push ? &queue->pushing : &queue->popping;
    uint32_t *patience = push ? &queue->push_patience : &queue->pop_patience;
    twill__queue_look look = {word, atomic_load_explicit(word, memory_order_relaxed)};
    bool away = twill__spin_helps() && queue->store.capacity >= TWILL__RING_LARGE;
    twill_ns absence = TWILL__AWAY + *patience;
    twill__queue_left left = {NULL, NULL, threads};
    (*threads)++;
    twill__queue_leave(queue, turn, false, &left);
    if (!twill__queue_here(queue)) /* on_level has forked */
        return false;
    if (away)
        twill__spin_away(absence);
    if (!away || !twill__queue_changed(&look))
        (void)twill__spin_for(twill__queue_changed, &look, TWILL__SPIN_WAIT, TWILL__SPIN_YIELDS);
    twill__queue_enter(queue, turn);
    (*threads)--;
    if (away) {
        size_t there = push ? queue->store.capacity - queue->store.length : queue->store.length;
        *patience = twill__patience(*patience, there > TWILL__RING_BATCH,
                                    there > queue->store.capacity / 2);
    }
    return true;
}

/* Asked when one is listed: whether it has to look again by itself. A bulk must do so, too, while
   there is too little room and not all of that has been seen: who makes the rest of it may not see
   it either, and whoever made it may have been too early to see the bulk. */
static inline bool twill__queue_naps(const twill__queue *queue, const twill__waiter *waiter)
{
    size_t room, need = twill__queue_need(waiter);
    if (twill__queue_on_its_way(queue, waiter))
        return true;
    if (!queue->ring.cells || !waiter->from || need == 1)
        return false;
    room = twill__ring_room(&queue->ring);
    return room && !twill__ring_writable(&queue->ring, room < need ? room : need);
}

/* A call that must not wait has found nothing, but something is on its way: whoever brings it has
   two steps to do, as one who holds a lock. True: look again. */
static inline bool twill__queue_see(twill__queue *queue, twill__queue_turn *turn,
                                    const twill__waiter *waiter)
{
    if (!twill__queue_on_its_way(queue, waiter) ||
        (waiter->from && twill__queue_behind(queue, waiter)))
        return false;
    twill__queue_give_way(queue, turn);
    return true;
}

/* A sleep that ends by itself. */
static inline twill_until twill__queue_soon(twill_until until)
{
    twill_ns soon = twill__clock_now() + TWILL_US(50);
    if (twill__no_deadline(until.deadline) || soon < until.deadline)
        until.deadline = soon;
    return until;
}

/* Waits in `list`. True: answered, in node->answer, and the queue is not touched again. False: the
   lock is held; *status: TIMEOUT, CANCELLED, or OK: look again. */
static inline bool twill__queue_wait(twill__queue *queue, twill__queue_turn *turn,
                                     twill__queue_list *list, twill__waiter *waiter,
                                     twill__node *node, twill_until until, twill_status *status)
{
    twill__queue_left left = {list, waiter, NULL};
    twill__queue_home home = twill__queue_home_of(queue);
    uint32_t word;
    bool nap;
    twill__node_init(node);
    waiter->node = node;
    waiter->since = twill__clock_now();
    twill__enlist(queue, list, waiter, waiter->first);
    if (waiter->from)
        queue->counts.push_waits++;
    else if (waiter->to)
        queue->counts.pop_waits++;
    twill__queue_settle(queue, turn);
    nap = list != &queue->joiners && twill__queue_naps(queue, waiter);
    twill__queue_leave(queue, turn, false, &left);
    if (!twill__queue_is_home(home)) { /* on_level has forked: nobody will answer the child */
        node->answer = TWILL_FORKED;
        return true;
    }
    *status = twill__wait(node, nap ? twill__queue_soon(until) : until);
    if (nap && *status == TWILL_TIMEOUT && !twill__expired(until.deadline))
        *status = TWILL_OK; /* look again; or it is TAKEN */
    /* pairs with the CAS in twill__own */
    word = atomic_load_explicit(&node->word, memory_order_acquire);
    if ((*status != TWILL_OK || nap) && (word & TWILL__TAKEN)) {
        twill__await(node);
        *status = TWILL_OK;
        word = atomic_load_explicit(&node->word, memory_order_acquire);
    }
    if (*status == TWILL_OK && (word & TWILL__TAKEN) && !(word & TWILL__RETRY))
        return true;
    twill__queue_enter(queue, turn);
    twill__queue_waited(queue, waiter);
    waiter->first = !waiter->previous;
    waiter->counted = queue->ring.cells && twill__queue_weight(waiter) != 1; /* nobody slips by */
    twill__delist(queue, list, waiter);
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

/* Under the lock: who can help has asked, and others would do it; but they have gone since. */
static inline bool twill__queue_alone(const twill__queue *queue, bool able)
{
    return able && !atomic_load_explicit(queue->others, memory_order_seq_cst);
}

/* A pusher waits until there is room, or an item is old enough to go; `nap`: or for a moment. */
static inline bool twill__queue_wait_room(twill__queue *queue, twill__queue_turn *turn,
                                          twill__waiter *waiter, twill__node *node, bool nap,
                                          twill_until until, twill_status *over)
{
    twill_ns expiry = twill__queue_expiry(queue, TWILL__OLDEST);
    twill_until soon = nap ? twill__queue_soon(until) : until;
    if (expiry != TWILL_FOREVER && (twill__no_deadline(soon.deadline) || expiry < soon.deadline))
        soon.deadline = expiry;
    if (twill__queue_wait(queue, turn, &queue->pushers, waiter, node, soon, over))
        return true;
    if (*over == TWILL_TIMEOUT && soon.deadline != until.deadline)
        *over = TWILL_OK;
    return false;
}

/* Out of the lock and in again. False: this is a forked child. */
static inline bool twill__queue_relieve(twill__queue *queue, twill__queue_turn *turn,
                                        twill__waiter *waiter, int *relieved)
{
    twill__queue_exit(queue, turn);
    *relieved = queue->relief(queue->relief_data, waiter);
    if (!twill__queue_here(queue))
        return false;
    twill__queue_enter(queue, turn);
    return true;
}

/* Pushes. wait: a queue that blocks may do so. Answers OK, CLOSED, FULL, DROPPED, CANCELLED,
   TIMEOUT, DEADLOCK; waiter->done says how many went in. */
static inline twill_status twill__queue_put(twill__queue *queue, twill__waiter *waiter,
                                            twill_until until, bool wait, char *kept)
{
    twill__queue_turn turn;
    twill__node node;
    twill__dropped dropped = {NULL, 0, 0, TWILL_OK};
    bool spun = false, again = false, able = queue->relief, asked = !able;
    twill_status over = TWILL_OK;
    int answer;
    wait = wait && queue->overflow == TWILL_OVERFLOW_BLOCK;
    twill__queue_come(queue, &turn, waiter);
    for (;;) { /* exit: a final answer; each turn is an item dropped or another's progress */
        answer = twill__push_now(queue, &turn, waiter, kept, &dropped);
        if (dropped.count && !twill__queue_drop(queue, &turn, &dropped, kept))
            return TWILL_FORKED;
        if (answer == TWILL__AGAIN)
            continue;
        if (answer == TWILL_FULL && over == TWILL_OK)
            over = twill__may_wait(queue, until, wait, TWILL_FULL);
        if (answer == TWILL_FULL && over != TWILL_OK && twill__queue_see(queue, &turn, waiter))
            continue;
        if (answer != TWILL_FULL || over != TWILL_OK)
            break;
        if (!asked) {
            int relieved;
            if (!twill__queue_relieve(queue, &turn, waiter, &relieved))
                return TWILL_FORKED;
            answer = TWILL_OK;
            if (waiter->done == waiter->n) /* a rendezvous */
                break;
            able = relieved >= 0;
            asked = relieved <= 0;
        } else if (!again && twill__queue_alone(queue, able)) {
            asked = false; /* once: what is there may be for another's bulk, which comes first */
            again = true;
        } else if (!spun && !queue->pushers.first && !queue->ring.cells) {
            spun = true;
            if (!twill__queue_moment(queue, &turn, true))
                return TWILL_FORKED;
        } else {
            if (twill__queue_wait_room(queue, &turn, waiter, &node, twill__queue_alone(queue, able),
                                       until, &over))
                return (twill_status)node.answer;
            asked = !able;
            again = false;
        }
    }
    if (answer == TWILL_FULL)
        answer = (int)over;
    if (answer == TWILL_FULL)
        queue->counts.rejected++;
    if (waiter->counted) /* relaxed: as in twill__delist */
        atomic_fetch_sub_explicit(&queue->givers, twill__queue_weight(waiter),
                                  memory_order_relaxed);
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
    twill__queue_come(queue, &turn, waiter);
    for (;;) { /* exit: as above */
        answer = twill__pop_now(queue, &turn, waiter, kept, &dropped);
        if (dropped.count && !twill__queue_drop(queue, &turn, &dropped, kept))
            return TWILL_FORKED;
        if (answer == TWILL__AGAIN)
            continue;
        if (answer == TWILL_EMPTY && over == TWILL_OK)
            over = twill__may_wait(queue, until, wait, TWILL_EMPTY);
        if (answer == TWILL_EMPTY && over != TWILL_OK && twill__queue_see(queue, &turn, waiter))
            continue;
        if (answer != TWILL_EMPTY || over != TWILL_OK)
            break;
        if (!spun && !queue->poppers.first && !queue->ring.cells) {
            spun = true;
            if (!twill__queue_moment(queue, &turn, false))
                return TWILL_FORKED;
        } else if (twill__queue_wait(queue, &turn, &queue->poppers, waiter, &node, until, &over)) {
            return (twill_status)node.answer;
        }
    }
    twill__queue_exit(queue, &turn);
    return answer == TWILL_EMPTY ? over : (twill_status)answer;
}

/* Waits without items: for something to pop, or (join) for everything to be done, which a call
   around it may have to do in this thread. */
static inline twill_status twill__queue_watch(twill__queue *queue, bool join, twill_until until)
{
    twill__queue_turn turn;
    twill__node node;
    twill__waiter waiter;
    twill_status over = TWILL_OK;
    bool nap, again = false, able = join && queue->relief, asked = !able;
    memset(&waiter, 0, sizeof waiter);
    twill__queue_enter(queue, &turn);
    for (;;) { /* exit: as above */
        uint32_t closed = join ? queue->doomed ? TWILL_CLOSED : 0 : twill__queue_closed(queue);
        if (closed && !join && twill__queue_length(queue))
            closed = 0; /* on its way */
        if (join ? !twill__queue_unfinished(queue) : twill__queue_readable(queue))
            over = TWILL_OK;
        else if (closed)
            over = (twill_status)closed;
        else {
            if (over == TWILL_OK)
                over = twill__may_wait(queue, until, true, TWILL_EMPTY);
            if (over != TWILL_OK && !join && twill__queue_see(queue, &turn, &waiter))
                continue;
            if (over == TWILL_OK && !asked) {
                int relieved;
                if (!twill__queue_relieve(queue, &turn, NULL, &relieved))
                    return TWILL_FORKED;
                able = relieved >= 0;
                asked = relieved <= 0;
                if (relieved == -2) /* it would wait for itself */
                    over = TWILL_DEADLOCK;
                continue;
            }
            nap = twill__queue_length(queue) && twill__queue_alone(queue, able);
            if (over == TWILL_OK && nap && !again) {
                asked = false; /* once: what is there may still be on its way */
                again = true;
                continue;
            }
            if (over == TWILL_OK) {
                twill_until soon = nap ? twill__queue_soon(until) : until;
                if (twill__queue_wait(queue, &turn, join ? &queue->joiners : &queue->watchers,
                                      &waiter, &node, soon, &over))
                    return (twill_status)node.answer;
                if (over == TWILL_TIMEOUT && soon.deadline != until.deadline)
                    over = TWILL_OK;
                asked = !able;
                again = false;
                continue;
            }
        }
        twill__queue_exit(queue, &turn);
        return over;
    }
}

#endif

/* ---- one item, in the fewest steps under the lock ---- */
/* While the queue is calm: it is open, nobody is in a list whom the item, or its room, could
   concern, and there is no level to tell: so there is nothing to settle. False: the lock is held,
   for a call that has reached it must be served before the queue may go. Clocks are read before it
   is taken, but where an item is dropped by its age: that must not count the wait for the lock. */

static inline bool twill__brief_put(twill__queue *queue, const void *item, twill__cell *cell)
{
    twill__store *store = &queue->store;
    twill_ns at = queue->times ? twill__clock_now() : 0;
    bool put;
    twill__queue_lock(queue);
    put = queue->calm && store->length < store->capacity &&
          (!queue->max_bytes || cell->bytes <= queue->max_bytes - queue->bytes) &&
          !twill__queue_turns(queue, store->length + 1);
    if (put) {
        twill__queue_rank(queue, cell);
        cell->at = queue->max_age != TWILL_FOREVER ? twill__clock_now() : at;
        cell->number = store->next++;
        twill__store_put(store, item, cell);
        queue->bytes += cell->bytes;
        if (store->length > queue->peak)
            queue->peak = store->length;
        atomic_store_explicit(&queue->length, store->length, memory_order_relaxed); /* a hint */
        if (queue->popping)
            twill__queue_hint(&queue->filled);
        twill__light_unlock(&queue->lock);
    }
    return put;
}

/* Not of a closed one: those who wait for its end would have to be told. Nor one that has
   expired. */
static inline bool twill__brief_take(twill__queue *queue, void *item)
{
    twill__store *store = &queue->store;
    twill_ns now = queue->times ? twill__clock_now() : 0;
    bool taken;
    twill__queue_lock(queue);
    taken = queue->calm && store->length && !twill__queue_turns(queue, store->length - 1) &&
            (!queue->times || now < twill__queue_expiry(queue, TWILL__NEXT));
    if (taken) {
        if (queue->times || queue->bytes_of) {
            twill__cell cell = twill__queue_take(queue, TWILL__NEXT, item);
            if (queue->times)
                twill__queue_aged(queue, cell.at, now);
        } else { /* what is known of it is on a line of its own */
            twill__store_take(store, twill__store_find(store, TWILL__NEXT), item);
            if (queue->pushing)
                twill__queue_hint(&queue->freed);
        }
        atomic_store_explicit(&queue->length, store->length, memory_order_relaxed); /* a hint */
        twill__light_unlock(&queue->lock);
    }
    return taken;
}

/* ---- the ring, without the lock ---- */

/* Somebody waits for what has just been done. */
static __attribute__((noinline)) void twill__queue_serve(twill__queue *queue)
{
    twill__queue_turn turn;
    twill__queue_enter(queue, &turn);
    twill__queue_exit(queue, &turn);
}

typedef struct twill__quick { /* what a call tries for a moment */
    twill__queue *queue;
    const char *from;
    char *to;
    uint64_t *numbers;
    size_t most, least, done;
} twill__quick;

/* Who stands behind a bulk does so for fairness alone: relaxed. */
static inline bool twill__queue_bulk(const twill__queue *queue)
{
    return atomic_load_explicit(&queue->givers, memory_order_relaxed) >= TWILL__BULK;
}

static inline __attribute__((always_inline)) bool twill__quick_put_one(twill__queue *queue,
                                                                       const void *item)
{
    if (twill__queue_bulk(queue) || !twill__ring_put_one(&queue->ring, item))
        return false;
    /* seq_cst: pairs with twill__enlist */
    if (atomic_load_explicit(&queue->takers, memory_order_seq_cst))
        twill__queue_serve(queue);
    return true;
}

static inline __attribute__((always_inline)) bool twill__quick_take_one(twill__queue *queue,
                                                                        void *item)
{
    if (!twill__ring_take_one(&queue->ring, item, NULL))
        return false;
    /* seq_cst: pairs with twill__enlist */
    if (atomic_load_explicit(&queue->givers, memory_order_seq_cst))
        twill__queue_serve(queue);
    return true;
}

static inline bool twill__quick_try_put(void *quick_)
{
    twill__quick *quick = (twill__quick *)quick_;
    twill__queue *queue = quick->queue;
    if (quick->most == 1) {
        quick->done = twill__quick_put_one(queue, quick->from);
        return quick->done;
    }
    if (twill__queue_bulk(queue))
        return false;
    quick->done = twill__ring_put_many(&queue->ring, quick->from, quick->most, quick->least);
    if (!quick->done)
        return false;
    /* seq_cst: pairs with twill__enlist */
    if (atomic_load_explicit(&queue->takers, memory_order_seq_cst))
        twill__queue_serve(queue);
    return true;
}

static inline bool twill__quick_try_take(void *quick_)
{
    twill__quick *quick = (twill__quick *)quick_;
    twill__queue *queue = quick->queue;
    if (quick->most == 1 && !quick->numbers) {
        quick->done = twill__quick_take_one(queue, quick->to);
        return quick->done;
    }
    quick->done = twill__ring_take_many(&queue->ring, quick->to, quick->numbers, quick->most);
    if (!quick->done)
        return false;
    /* seq_cst: pairs with twill__enlist */
    if (atomic_load_explicit(&queue->givers, memory_order_seq_cst))
        twill__queue_serve(queue);
    return true;
}

/* Whether a moment outside the lock may help. */
static inline bool twill__quick_may_wait(const twill__queue *queue, twill_until until, bool wait)
{
    return wait && !twill__queue_closed(queue) && twill__over(until) == TWILL_OK;
}

/* What a call does that got nothing, before it waits under the lock: it stays away
   (twill__patience), looks, yields. Where staying and looking was in vain four times, as it is for
   two threads on one CPU, it yields at once, and tries it again every 16th time. */
static inline bool twill__quick_wait(twill__quick *quick, bool (*done)(void *quick), bool push)
{
    const twill__ring *ring = &quick->queue->ring;
    twill__ring_end *end = push ? &quick->queue->ring.tail : &quick->queue->ring.head;
    /* relaxed, all: figures of no consequence but speed */
    uint32_t had, now, futile = atomic_load_explicit(&end->futile, memory_order_relaxed);
    if (!twill__spin_helps())
        return false;
    if (futile < 4 || futile % 16 == 0) {
        if (ring->capacity >= TWILL__RING_LARGE) {
            had = atomic_load_explicit(&end->patience, memory_order_relaxed);
            twill__spin_away(TWILL__AWAY + had);
            now = twill__patience(had, twill__ring_far(ring, push, TWILL__RING_BATCH),
                                  twill__ring_far(ring, push, ring->capacity / 2));
            if (now != had)
                atomic_store_explicit(&end->patience, now, memory_order_relaxed);
        }
        if (done(quick) ||
            twill__spin_looks(done, quick, TWILL__SPIN_WAIT, TWILL__SPIN_FIRST, TWILL__SPIN_MOST)) {
            if (futile)
                atomic_store_explicit(&end->futile, 0, memory_order_relaxed);
            return true;
        }
    }
    atomic_store_explicit(&end->futile, futile + 1, memory_order_relaxed);
    return twill__spin_yields(done, quick, TWILL__SPIN_YIELDS);
}

/* How many of up to `most` items went in, without the lock and after a moment at the most; all that
   cannot be done so is left to twill__queue_put. */
static inline size_t twill__quick_put(twill__queue *queue, const char *items, size_t most,
                                      size_t least, twill_until until, bool wait)
{
    twill__quick quick = {queue, items, NULL, NULL, most, least, 0};
    size_t put = 0;
    (void)twill__quick_try_put(&quick);
    for (;;) { /* exit: all are in, or a moment brought no room; each turn is another's pop */
        put += quick.done;
        if (put == most ||
            (queue->relief && !atomic_load_explicit(queue->others, memory_order_seq_cst)) ||
            !twill__quick_may_wait(queue, until, wait && queue->overflow == TWILL_OVERFLOW_BLOCK))
            return put;
        quick.from += quick.done * queue->store.size;
        quick.most -= quick.done;
        if (!twill__quick_wait(&quick, twill__quick_try_put, true))
            return put;
    }
}

static inline size_t twill__quick_take(twill__queue *queue, char *items, uint64_t *numbers,
                                       size_t most, twill_until until, bool wait)
{
    twill__quick quick = {queue, NULL, items, numbers, most, 1, 0};
    if (!twill__quick_try_take(&quick) && twill__quick_may_wait(queue, until, wait))
        (void)twill__quick_wait(&quick, twill__quick_try_take, false);
    return quick.done;
}

#endif

/* ---- the end ---- */

/* Under the lock, once: those outside it for a moment shall look again. */
static inline void twill__queue_end(twill__queue *queue, uint32_t how, int code)
{
    if (twill__queue_closed(queue))
        return;
    atomic_store_explicit(&queue->code, code, memory_order_relaxed); /* before closed */
    /* release: pairs with the acquire in twill_queue_is_closed */
    atomic_store_explicit(&queue->closed, how, memory_order_release);
    if (queue->ring.cells) /* from here on no push can claim */
        atomic_fetch_or_explicit(&queue->ring.tail.at, queue->ring.mark, memory_order_seq_cst);
    if (queue->popping)
        twill__queue_hint(&queue->filled);
    if (queue->pushing)
        twill__queue_hint(&queue->freed);
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

/* Whether an item with a number below `end` is inside; *which: one to take. */
static inline bool twill__queue_older(twill__queue *queue, uint64_t end, twill__which *which)
{
    twill__store *store = &queue->store;
    *which = TWILL__OLDEST;
    if (!twill__queue_length(queue))
        return false;
    if (queue->ring.cells)
        return twill__ring_popped(&queue->ring) < end;
    if (store->heap) { /* the oldest of a heap would have to be looked for */
        *which = TWILL__NEXT;
        if (twill__store_cell(store, twill__store_find(store, TWILL__NEXT)).number < end)
            return true;
        *which = TWILL__OLDEST;
    }
    return twill__store_cell(store, twill__store_find(store, TWILL__OLDEST)).number < end;
}

/* What is inside at the beginning goes to the drop callback. */
static inline size_t twill__queue_clear(twill__queue *queue, char *kept)
{
    static const twill__waiter taker;
    twill__queue_turn turn;
    twill__dropped dropped = {NULL, 0, 0, TWILL_OK};
    size_t cleared = 0;
    uint64_t end;
    twill__which which;
    twill__queue_enter(queue, &turn);
    end = queue->ring.cells ? twill__ring_pushed(&queue->ring) : queue->store.next;
    while (twill__queue_older(queue, end, &which)) { /* exit: one less, or on its way */
        twill__queue_evict(queue, which, TWILL_CANCELLED, kept, &dropped);
        cleared += dropped.count;
        if (dropped.count) {
            if (!twill__queue_drop(queue, &turn, &dropped, kept))
                return cleared;
        } else if (!twill__queue_see(queue, &turn, &taker))
            break;
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
        twill__queue_unlock(queue);
        for (unsigned k = 0; k < turn.count; k++)
            twill__wake(turn.word[k], 1);
        twill__await(&node);
        twill__queue_enter(queue, &turn); /* whoever told us has left the section now */
    }
    twill__queue_exit(queue, &turn);
    return TWILL_OK;
}

#endif

typedef struct twill__queue_plan {                    /* what the options come to */
    size_t capacity, cells, heap, ends, items, bytes; /* offsets behind the queue; 0: none */
    bool ring;
} twill__queue_plan;

/* Whether a ring can do it. Its positions need 64 bits that are swapped in one step. */
static inline bool twill__queue_plain(const twill_queue_options *options)
{
    return UINTPTR_MAX > 0xffffffffu && options->capacity != TWILL_RENDEZVOUS &&
           options->order == TWILL_ORDER_FIFO &&
           (options->overflow == TWILL_OVERFLOW_BLOCK ||
            options->overflow == TWILL_OVERFLOW_REJECT ||
            options->overflow == TWILL_OVERFLOW_DROP_OLDEST) &&
           !options->bytes_of && !options->max_age && !options->on_level;
}

static inline bool twill__queue_options_valid(const twill_queue_options *options)
{
    bool priority = options->order == TWILL_ORDER_PRIORITY;
    bool evicts = options->overflow == TWILL_OVERFLOW_DROP_OLDEST ||
                  options->overflow == TWILL_OVERFLOW_DROP_NEWEST;
    size_t capacity = options->capacity ? options->capacity : 1024;
    if ((unsigned)options->overflow > TWILL_OVERFLOW_DROP_NEWEST ||
        (unsigned)options->order > TWILL_ORDER_PRIORITY ||
        (unsigned)options->engine > TWILL_ENGINE_RING ||
        (options->engine == TWILL_ENGINE_RING && !twill__queue_plain(options)) ||
        priority != !!options->priority_of || (options->ageing && !priority) ||
        options->ageing < 0 || options->max_age < 0 || (options->max_bytes && !options->bytes_of) ||
        (options->memory_bytes && !options->memory))
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
    bool unordered = options->order == TWILL_ORDER_LIFO ||
                     options->overflow == TWILL_OVERFLOW_DROP_INCOMING ||
                     options->overflow == TWILL_OVERFLOW_DROP_NEWEST;
    bool cells = options->bytes_of || options->max_age || (unordered && !priority);
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
        plan->ends = plan->bytes;
        plan->bytes += sizeof(size_t) << TWILL__CHAIN_BITS; /* twill__queue_add sees to it */
        plan->heap = plan->bytes;
        if (!twill__queue_add(&plan->bytes, plan->capacity, 2 * sizeof(twill__ranked)))
            return TWILL_TOO_BIG;
    }
    plan->ring = options->engine != TWILL_ENGINE_LOCK && twill__queue_plain(options);
    plan->items = plan->bytes;
    if (item_size > SIZE_MAX / 2 ||
        !twill__queue_add(&plan->bytes, plan->capacity,
                          plan->ring ? twill__ring_stride(item_size) : item_size))
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
    if (plan->ring)
        twill__ring_init(&queue->ring, item_size, plan->capacity, base + plan->items);
    if (plan->heap)
        twill__heap_init(&queue->store, (twill__ranked *)(void *)(base + plan->heap),
                         (size_t *)(void *)(base + plan->ends));
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
    queue->brief = plan->capacity && !plan->ring;
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

#endif

/* Room for an item that a drop callback sees, on the stack of who needs it. */
typedef struct twill__kept {
    _Alignas(TWILL__LINE) char item[TWILL__KEPT];
} twill__kept;

static inline twill_status twill__queue_check(const twill_queue *queue, const void *item)
{
    if (!queue || !item)
        return TWILL_INVALID;
    return twill__queue_here(queue) ? TWILL_OK : TWILL_FORKED;
}

/* The place in the line that a priority means. */
static inline void twill__queue_key(const twill__queue *queue, int priority, twill__cell *cell)
{
    int64_t gain = 0;
    twill_ns now;
    /* the order of two items never changes while they wait: so a fixed key is enough */
    if (queue->ageing == TWILL_FOREVER) {
        cell->key = -(int64_t)priority;
        return;
    }
    now = twill__clock_now();
    if (__builtin_mul_overflow(priority, queue->ageing, &gain) ||
        __builtin_sub_overflow(now, gain, &cell->key))
        cell->key = priority > 0 ? INT64_MIN : INT64_MAX;
    else
        cell->at = now;
}

/* Asks the user's callbacks what they say of an item: OK, TOO_BIG, FORKED. */
static inline twill_status twill__queue_weigh(const twill_queue *queue, const void *item,
                                              twill__cell *cell)
{
    twill_task task = twill__queue_task(queue, SIZE_MAX);
    bool big = false;
    if (queue->bytes_of) {
        cell->bytes = queue->bytes_of(item, &task);
        big = queue->max_bytes && cell->bytes > queue->max_bytes;
    }
    if (queue->priority_of && !big)
        twill__queue_key(queue, queue->priority_of(item, &task), cell);
    if (!twill__queue_here(queue))
        return TWILL_FORKED;
    return big ? TWILL_TOO_BIG : TWILL_OK;
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

static inline twill_status twill__put(twill_queue *queue, twill__waiter *waiter, twill_until until,
                                      bool wait)
{
    return queue->drop ? twill__put_dropping(queue, waiter, until, wait)
                       : twill__queue_put(queue, waiter, until, wait, NULL);
}

static inline twill_status twill__get(twill_queue *queue, twill__waiter *waiter, twill_until until,
                                      bool wait)
{
    return queue->drop ? twill__get_dropping(queue, waiter, until, wait)
                       : twill__queue_get(queue, waiter, until, wait, NULL);
}

/* Of many, or after a moment. The record of who waits is made by who needs the lock: to clear it
   costs as much as to claim cells for a batch. */
static __attribute__((noinline)) twill_status twill__push(twill_queue *queue, const void *items,
                                                          size_t n, bool whole, size_t *count,
                                                          twill_until until, bool wait)
{
    twill__waiter waiter;
    twill_status status;
    size_t put = 0;
    if (queue->ring.cells) {
        put = twill__quick_put(queue, (const char *)items, n, whole ? n : 1, until, wait);
        if (count)
            *count += put;
        if (put == n)
            return TWILL_OK;
    }
    waiter = (twill__waiter){
        .from = (const char *)items + put * queue->store.size, .n = n - put, .whole = whole};
    status = twill__put(queue, &waiter, until, wait);
    if (count)
        *count += waiter.done;
    return status;
}

static __attribute__((noinline)) twill_status twill__pop(twill_queue *queue, void *items, size_t n,
                                                         bool whole, size_t *count,
                                                         twill_until until, bool wait)
{
    twill__waiter waiter;
    twill_status status;
    size_t taken = 0;
    if (queue->ring.cells) {
        taken = twill__quick_take(queue, (char *)items, NULL, n, until, wait);
        if (count)
            *count += taken;
        if (whole ? taken == n : taken > 0)
            return TWILL_OK;
    }
    waiter = (twill__waiter){
        .to = (char *)items + taken * queue->store.size, .n = n - taken, .whole = whole};
    status = twill__get(queue, &waiter, until, wait);
    if (count)
        *count += waiter.done;
    return status;
}

/* ---- one, with the lock ---- */

static __attribute__((noinline)) twill_status
twill__push_brief(twill_queue *queue, const void *item, twill_until until, bool wait)
{
    twill__waiter waiter;
    twill__cell cell = {0, 0, 0, 0};
    if (queue->bytes_of || queue->priority_of) {
        twill_status status = twill__queue_weigh(queue, item, &cell);
        if (status != TWILL_OK)
            return status;
    }
    if (twill__brief_put(queue, item, &cell))
        return TWILL_OK;
    waiter = (twill__waiter){.from = (const char *)item, .n = 1, .inside = true, .cell = cell};
    return twill__put(queue, &waiter, until, wait);
}

static __attribute__((noinline)) twill_status twill__pop_brief(twill_queue *queue, void *item,
                                                               twill_until until, bool wait)
{
    twill__waiter waiter;
    if (twill__brief_take(queue, item))
        return TWILL_OK;
    waiter = (twill__waiter){.to = (char *)item, .n = 1, .inside = true};
    return twill__get(queue, &waiter, until, wait);
}

/* ---- one, of any queue ---- */

static inline twill_status twill__push_one(twill_queue *queue, const void *item, twill_until until,
                                           bool wait)
{
    return queue->brief ? twill__push_brief(queue, item, until, wait)
                        : twill__push(queue, item, 1, false, NULL, until, wait);
}

static inline twill_status twill__pop_one(twill_queue *queue, void *item, twill_until until,
                                          bool wait)
{
    return queue->brief ? twill__pop_brief(queue, item, until, wait)
                        : twill__pop(queue, item, 1, false, NULL, until, wait);
}

TWILL__DEFINE twill_status twill_queue_push_until(twill_queue *queue, const void *item,
                                                  twill_until until)
{
    twill_status status = twill__queue_check(queue, item);
    if (status != TWILL_OK)
        return status;
    if (!queue->ring.cells)
        return twill__push_one(queue, item, until, true);
    return twill__quick_put_one(queue, item)
               ? TWILL_OK
               : twill__push(queue, item, 1, false, NULL, until, true);
}

TWILL__DEFINE twill_status twill_queue_push(twill_queue *queue, const void *item)
{
    return twill_queue_push_until(queue, item, (twill_until){0, NULL});
}

TWILL__DEFINE twill_status twill_queue_try_push(twill_queue *queue, const void *item)
{
    twill_status status = twill__queue_check(queue, item);
    return status ? status : twill__push_one(queue, item, (twill_until){0, NULL}, false);
}

TWILL__DEFINE twill_status twill_queue_pop_until(twill_queue *queue, void *item, twill_until until)
{
    twill_status status = twill__queue_check(queue, item);
    if (status != TWILL_OK)
        return status;
    if (!queue->ring.cells)
        return twill__pop_one(queue, item, until, true);
    return twill__quick_take_one(queue, item)
               ? TWILL_OK
               : twill__pop(queue, item, 1, false, NULL, until, true);
}

TWILL__DEFINE twill_status twill_queue_pop(twill_queue *queue, void *item)
{
    return twill_queue_pop_until(queue, item, (twill_until){0, NULL});
}

TWILL__DEFINE twill_status twill_queue_try_pop(twill_queue *queue, void *item)
{
    twill_status status = twill__queue_check(queue, item);
    return status ? status : twill__pop_one(queue, item, (twill_until){0, NULL}, false);
}

/* One of many, after the first was DROPPED: the caller has given up all of them, also one that is
   too big, or that comes after a close. False: this is a forked child. */
static __attribute__((noinline)) bool twill__push_or_drop(twill_queue *queue, const void *item,
                                                          size_t *pushed, twill_until until)
{
    twill_status status = twill__push_one(queue, item, until, true);
    twill__queue_turn turn;
    twill__dropped dropped = {(const char *)item, 1, 0, TWILL_DROPPED};
    twill__kept kept;
    *pushed += status == TWILL_OK;
    if (status == TWILL_OK || status == TWILL_DROPPED)
        return true;
    if (status == TWILL_FORKED)
        return false;
    twill__queue_enter(queue, &turn);
    dropped.number = queue->store.next++;
    queue->counts.dropped++;
    if (!twill__queue_drop(queue, &turn, &dropped, kept.item))
        return false;
    twill__queue_exit(queue, &turn);
    return true;
}

TWILL__DEFINE twill_status twill_queue_push_many_until(twill_queue *queue, const void *items,
                                                       size_t n, size_t *count, twill_until until)
{
    size_t pushed = 0;
    twill_status status = twill__queue_check(queue, n ? items : &n); /* none: NULL, too */
    if (status == TWILL_OK && n && (queue->bytes_of || queue->priority_of)) {
        /* each item has a key or a size of its own */
        for (; pushed < n && status == TWILL_OK; pushed += status == TWILL_OK)
            status = twill__push_one(queue, (const char *)items + pushed * queue->store.size, until,
                                     true);
        for (size_t k = pushed + 1; status == TWILL_DROPPED && k < n; k++) /* the rest, likewise */
            if (!twill__push_or_drop(queue, (const char *)items + k * queue->store.size, &pushed,
                                     until))
                status = TWILL_FORKED;
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
    twill_status status = twill__queue_check(queue, n ? items : &n);
    if (status != TWILL_OK || !n)
        return status;
    if (queue->bytes_of || queue->priority_of)
        return TWILL_INVALID;
    if (n > queue->store.capacity && n != 1) /* one is more than a rendezvous has room for */
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
    if (queue->producers == queue->held)
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
    if (twill__queue_finished(queue) >= twill__queue_popped(queue))
        status = TWILL_INVALID;
    else
        queue->finished++;
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
    if (!queue)
        return 0;
    if (queue->ring.cells)
        return twill__ring_length(&queue->ring);
    /* a hint */
    return atomic_load_explicit(&queue->length, memory_order_relaxed);
}

TWILL__DEFINE bool twill_queue_is_closed(const twill_queue *queue)
{
    /* pairs with the release in twill__queue_end */
    return queue && atomic_load_explicit(&queue->closed, memory_order_acquire) != 0;
}

static inline twill_status twill__queue_destroy(twill_queue *queue)
{
    twill_status status = twill__queue_desert(queue);
    if (status != TWILL_OK)
        return status;
    if (twill__queue_length(queue))
        (void)twill_queue_clear(queue);
    if (queue->memory)
        TWILL_FREE(queue->memory);
    return TWILL_OK;
}

TWILL__DEFINE twill_status twill_queue_destroy(twill_queue *queue)
{
    if (!queue)
        return TWILL_OK;
    if (!twill__queue_here(queue))
        return TWILL_FORKED;
    return queue->relief ? TWILL_DEADLOCK : twill__queue_destroy(queue); /* a call's ends with it */
}

TWILL__DEFINE void twill_queue_abandon(twill_queue *queue)
{
    if (queue && !twill__queue_here(queue) && queue->memory)
        TWILL_FREE(queue->memory);
}

#endif

enum { TWILL__SELECT_SMALL = 16 };

typedef struct twill__select {
    twill_queue_case *cases;
    twill__waiter *waiters; /* n == 0: the case is out */
    size_t n, start, chosen, live;
    bool inside, nap; /* nap: see twill__queue_naps */
    bool ours;        /* this thread has taken its own word: no queue will grant it */
    bool unable;      /* this thread cannot relieve a queue */
    bool many;        /* the waiters are to be freed */
    twill_ns alarm;   /* when an item expires that is in the way; TWILL_FOREVER: never */
    twill_status status;
    twill__node node;
    char *kept;
} twill__select;

static inline int twill__select_case(twill__select *select, size_t i, bool listing)
{
    twill_queue *queue = select->cases[i].queue;
    bool push = select->cases[i].push;
    twill__waiter *waiter = &select->waiters[i];
    twill__queue_home home = twill__queue_home_of(queue);
    twill__queue_turn turn;
    twill__dropped dropped = {NULL, 0, 0, TWILL_OK};
    int answer;
    waiter->shared = listing;
    twill__queue_enter(queue, &turn);
    do { /* exit: each turn drops an item */
        answer = push ? twill__push_now(queue, &turn, waiter, select->kept, &dropped)
                      : twill__pop_now(queue, &turn, waiter, select->kept, &dropped);
        select->ours = listing && (answer == TWILL_OK || answer == TWILL__ANEW);
        if (dropped.count && !twill__queue_drop(queue, &turn, &dropped, select->kept))
            return TWILL_FORKED;
    } while (answer == TWILL__AGAIN ||
             (!listing && (answer == TWILL_FULL || answer == TWILL_EMPTY) &&
              twill__queue_see(queue, &turn, waiter)));
    if (listing && (answer == TWILL_FULL || answer == TWILL_EMPTY)) {
        waiter->since = twill__clock_now();
        select->inside = select->inside || twill__queue_inside(queue);
        twill__enlist(queue, push ? &queue->pushers : &queue->poppers, waiter, false);
        if (push)
            queue->counts.push_waits++;
        else
            queue->counts.pop_waits++;
        twill__queue_settle(queue, &turn);
        if (push && twill__queue_expiry(queue, TWILL__OLDEST) < select->alarm)
            select->alarm = twill__queue_expiry(queue, TWILL__OLDEST);
        select->nap = select->nap || twill__queue_on_its_way(queue, waiter) ||
                      /* the others have gone since we asked */
                      (push && queue->relief && !select->unable &&
                       !atomic_load_explicit(queue->others, memory_order_seq_cst));
    }
    twill__queue_exit(queue, &turn);
    return twill__queue_is_home(home) ? answer : (int)TWILL_FORKED; /* by on_level */
}

/* Before a wait: where nobody else makes room, this thread does. AGAIN: look again. OK: it has
   taken the item of the case that is chosen now, from a rendezvous. EMPTY: neither. FORKED: its
   callback has. */
static inline int twill__select_relieve(twill__select *select)
{
    for (size_t i = 0; i < select->n && !select->unable; i++) {
        twill_queue *queue = select->cases[i].queue;
        twill__queue_turn turn;
        bool inside;
        int relieved;
        if (!select->waiters[i].n || !select->cases[i].push || !queue->relief)
            continue;
        twill__queue_enter(queue, &turn);
        inside = twill__queue_inside(queue);
        twill__queue_leave(queue, &turn, true, NULL); /* nothing has changed: calls nobody */
        if (inside)
            return TWILL_EMPTY;
        relieved = queue->relief(queue->relief_data, &select->waiters[i]);
        if (!twill__queue_here(queue))
            return TWILL_FORKED;
        if (relieved > 0 && select->waiters[i].done) {
            select->chosen = i;
            select->cases[i].status = TWILL_OK;
            twill__queue_enter(queue, &turn); /* for those who join: see twill__pc_done */
            twill__queue_exit(queue, &turn);
            return TWILL_OK;
        }
        if (relieved > 0)
            return TWILL__AGAIN;
        select->unable = relieved < 0;
    }
    return TWILL_EMPTY;
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
        if (now == TWILL__ELSEWHERE || now == TWILL__ANEW || now == TWILL_FORKED)
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

/* Out of all lines; who has been granted is out of his already. False: this is a forked child. */
static inline bool twill__select_leave(twill__select *select)
{
    for (size_t i = 0; i < select->n; i++) {
        twill_queue *queue = select->cases[i].queue;
        twill__waiter *waiter = &select->waiters[i];
        twill__queue_home home;
        twill__queue_turn turn;
        if (!waiter->listed)
            continue;
        home = twill__queue_home_of(queue);
        if (twill__queue_is_home(home)) {
            twill__queue_enter(queue, &turn);
            twill__queue_waited(queue, waiter);
            twill__delist(queue, select->cases[i].push ? &queue->pushers : &queue->poppers, waiter);
            twill__queue_exit(queue, &turn);
        }
        if (!twill__queue_is_home(home)) /* by on_level */
            return false;
    }
    return true;
}

/* In line everywhere, and waits. OK: chosen. AGAIN: look again. (A case that could be DROPPED never
   waits.) */
static inline int twill__select_wait(twill__select *select, twill_until until)
{
    twill_status status = TWILL_OK;
    twill_until soon;
    int answer;
    twill__node_init(&select->node);
    select->nap = false;
    select->alarm = TWILL_FOREVER;
    answer = twill__select_round(select, true);
    if (answer == TWILL_FORKED)
        return answer;
    if ((answer == TWILL_FULL || answer == TWILL_EMPTY) && select->inside) {
        /* nobody may answer from here on. The exchange is won, or lost to a queue that answers */
        answer =
            atomic_fetch_or_explicit(&select->node.word, TWILL__LEAVING, memory_order_acq_rel) &
                    TWILL__TAKEN
                ? TWILL__ELSEWHERE
                : (int)TWILL_DEADLOCK;
    } else if (answer == TWILL_FULL || answer == TWILL_EMPTY) {
        soon = select->nap ? twill__queue_soon(until) : until;
        if (select->alarm != TWILL_FOREVER &&
            (twill__no_deadline(soon.deadline) || select->alarm < soon.deadline))
            soon.deadline = select->alarm;
        status = twill__wait(&select->node, soon);
        answer = TWILL__ELSEWHERE;
        /* relaxed: twill__wait has said LEAVING, so TAKEN was there before, or never comes */
        if (status != TWILL_OK &&
            !(atomic_load_explicit(&select->node.word, memory_order_relaxed) & TWILL__TAKEN))
            answer = status == TWILL_TIMEOUT && !twill__expired(until.deadline) ? (int)TWILL__AGAIN
                                                                                : (int)status;
    }
    if (answer == TWILL__ELSEWHERE)
        twill__await(&select->node);
    if (!twill__select_leave(select))
        return TWILL_FORKED;
    if (answer != TWILL__ELSEWHERE) /* ANEW: ours, no queue has answered */
        return answer == TWILL__ANEW ? TWILL__AGAIN : answer;
    /* relaxed: RETRY came with the GRANTED that twill__await has seen */
    if (atomic_load_explicit(&select->node.word, memory_order_relaxed) & TWILL__RETRY)
        return TWILL__AGAIN;
    select->chosen = (size_t)((twill__waiter *)select->node.value - select->waiters);
    select->cases[select->chosen].status = (twill_status)select->node.answer;
    if (select->node.answer == TWILL_OK)
        return TWILL_OK;
    select->waiters[select->chosen].n = 0; /* closed; the queue may be gone */
    return TWILL__AGAIN;
}

/* Nothing was ready, and nobody waits: each queue that had no room has said so. */
static inline void twill__select_refused(const twill__select *select)
{
    for (size_t i = 0; i < select->n; i++) {
        const twill_queue_case *at = &select->cases[i];
        twill__queue_turn turn;
        if (!select->waiters[i].n || at->status != TWILL_FULL)
            continue;
        twill__queue_enter(at->queue, &turn);
        at->queue->counts.rejected++;
        twill__queue_leave(at->queue, &turn, true, NULL); /* as above */
    }
}

static inline twill_status twill__select_run(twill__select *select, twill_until until, bool wait)
{
    for (;;) { /* exit: chosen, all out, or over; else an item consumed, or another's progress */
        int answer = twill__select_round(select, false);
        twill_status over;
        if (answer == TWILL_OK || answer == TWILL_DROPPED || answer == TWILL_FORKED ||
            !select->live)
            return (twill_status)answer;
        if (!wait) {
            twill__select_refused(select);
            return (twill_status)answer;
        }
        over = twill__over(until);
        if (over != TWILL_OK)
            return over;
        answer = twill__select_relieve(select);
        if (answer == TWILL_OK || answer == TWILL_FORKED)
            return (twill_status)answer;
        if (answer == TWILL__AGAIN)
            continue;
        answer = twill__select_wait(select, until);
        if (answer == TWILL_TIMEOUT || answer == TWILL_CANCELLED) {
            over = (twill_status)answer;
            answer = twill__select_round(select, false); /* what came while we left */
            if (answer != TWILL_OK && answer != TWILL_FORKED && select->live)
                return twill_cancel_fired(until.cancel) ? TWILL_CANCELLED : over;
        }
        if (answer != TWILL__AGAIN)
            return (twill_status)answer;
    }
}

/* A callback has ended the thread: it leaves all lines; what a queue has given it meanwhile is
   in its case, where a thread that goes on would find it. */
static inline void twill__select_ended(void *select_)
{
    twill__select *select = (twill__select *)select_;
    if ((atomic_fetch_or_explicit(&select->node.word, TWILL__LEAVING, memory_order_acq_rel) &
         TWILL__TAKEN) &&
        !select->ours)
        twill__await(&select->node);
    (void)twill__select_leave(select);
    if (select->many)
        TWILL_FREE(select->waiters);
}

/* noinline: as twill__queue_call_drop */
static __attribute__((noinline)) void twill__select_guarded(twill__select *select,
                                                            twill_until until, bool wait)
{
    TWILL__GUARD_PUSH(twill__select_ended, select);
    select->status = twill__select_run(select, until, wait);
    TWILL__GUARD_POP(0);
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
    select.many = n > TWILL__SELECT_SMALL;
    if (select.many)
        select.waiters =
            n > SIZE_MAX / sizeof few[0] ? NULL : (twill__waiter *)TWILL_MALLOC(n * sizeof few[0]);
    if (!select.waiters)
        return TWILL_NO_MEMORY;
    if (order == TWILL_SELECT_FAIR)
        select.start = (size_t)(twill__ticks() * 0x9e3779b97f4a7c15u >> 33) % n;
    memset(select.waiters, 0, n * sizeof few[0]);
    /* a case before which another one is chosen stays so: it has not been asked, and is not out */
    for (size_t i = 0; i < n; i++)
        cases[i].status = !cases[i].queue ? TWILL_CLOSED : cases[i].push ? TWILL_FULL : TWILL_EMPTY;
    for (size_t i = 0; i < n && status == TWILL_OK; i++) {
        twill__waiter *waiter = &select.waiters[i];
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
    if (status == TWILL_OK) {
        twill__select_guarded(&select, until, wait);
        status = select.status;
    }
    if (chosen && (status == TWILL_OK || status == TWILL_DROPPED || status == TWILL_TOO_BIG))
        *chosen = select.chosen;
    if (select.many)
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

#endif

/* ---- producer_consumer/call.h ---- */
/* call.h: one call of producers and consumers, from its options to its report. */
#ifndef TWILL__PC_CALL_H
#define TWILL__PC_CALL_H

/* ---- producer_consumer/roles.h ---- */
/* roles.h: what the workers of the call do: consume, produce, help. */
#ifndef TWILL__PC_ROLES_H
#define TWILL__PC_ROLES_H

/* ---- producer_consumer/endings.h ---- */
/* endings.h: the record of one call of producers and consumers, and what ends it. */
#ifndef TWILL__PC_ENDINGS_H
#define TWILL__PC_ENDINGS_H

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

/* Producers and consumers are the workers of one call of the team (engine/run.h). Its unit is a
   role; an item is accounted for in the worker's slot under its accept number, so that limits,
   tokens and errors follow that number. */

typedef struct twill__pc_worker {
    _Atomic uint64_t owner; /* number of the thread that runs this worker's body, 0: none */
    twill_task *task;       /* of the body that runs; NULL: none */
    char *items;            /* batch of them */
    uint64_t *numbers;
    size_t at, count; /* in the batch */
    bool producing, relieving, taking;
    bool holding, sparing; /* an item: to consume it, to drop it */
    twill__waiter pop;     /* what it has taken so far, while it is taking */
    size_t relieved;       /* number of the item that a producer consumes */
    uint32_t bulk; /* what its push counts for meanwhile among those that stand before others */
    _Atomic uint64_t done; /* items that it has consumed; its own thread alone writes */
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
    _Atomic uint32_t next_producer;
    _Atomic uint32_t consuming; /* how many; TWILL__PC_RELIEF: one is a producer, for one item */
    _Atomic uint32_t waiting;   /* for a place among them */
    /* who consumes, and threads of the call's own that are `promised`: they will, if nobody does.
       0: a producer that finds the queue full has to consume */
    _Atomic uint32_t others;
    _Atomic uint32_t promised;
    _Atomic uint32_t numbers; /* of helpers, not lost yet */
    /* by an error, a stop or run.until: what producers return is moot. TWILL__PC_EARLY: some of
       them might have pushed more */
    _Atomic uint32_t ended;
    _Atomic uint32_t failed; /* a producer has: twill_status; who sets it writes the code */
    int code;
    twill_status cut; /* CANCELLED, TIMEOUT: run.until ended it */
} twill__pc;

#define TWILL__PC_RELIEF 0x80000000u
enum { TWILL__PC_EARLY = 2 };

/* A number as an index, `most` at most: those above are a producer's, and none. Where size_t has 32
   bits they end some day: then all that follow stand in one place, and only which of their errors
   is the lowest is not known. */
static inline size_t twill__pc_index(uint64_t number, size_t most)
{
    return number < most ? (size_t)number : most;
}

/* ---- endings ---- */

/* Early, unless nobody would have pushed any more: then only what is left can be lost by it. */
static inline void twill__pc_end(twill__pc *pc)
{
    atomic_fetch_or_explicit(&pc->ended, twill_queue_is_closed(pc->queue) ? 1 : 1 | TWILL__PC_EARLY,
                             memory_order_seq_cst);
    (void)twill__queue_close(pc->queue, TWILL_CLOSED, 0);
}

/* Nothing is accepted any more; what was, may run, and everybody above is told. */
static inline void twill__pc_end_here(twill__pc *pc, bool stop)
{
    twill__queue_turn turn;
    size_t next;
    twill__pc_end(pc);
    twill__queue_enter(pc->queue, &turn);
    next = twill__pc_index(twill__queue_accepted(pc->queue), SIZE_MAX - 1);
    twill__queue_exit(pc->queue, &turn);
    if (stop)
        twill__lower(&pc->job->stop_at, next);
    twill__lower(&pc->job->limit, next);
    twill__fire_from(pc->job, next);
}

/* A producer has, or a consumer that had no item in hand. */
static inline void twill__pc_role_failed(twill__pc *pc, twill_status status, int code)
{
    twill__job *job = pc->job;
    uint32_t none = 0;
    size_t before, most = job->run->max_errors ? job->run->max_errors : 1;
    if (atomic_compare_exchange_strong_explicit(&pc->failed, &none, (uint32_t)status,
                                                memory_order_seq_cst, memory_order_seq_cst))
        pc->code = code; /* read after the join */
    if (job->policy == TWILL_ON_ERROR_COLLECT)
        return;
    if (job->policy == TWILL_ON_ERROR_LOWEST) {
        twill__pc_end_here(pc, false);
        return;
    }
    before = atomic_fetch_add_explicit(&job->failures, 1, memory_order_seq_cst);
    if (before == 0)
        job->earliest = (twill_item_error){SIZE_MAX, status, code};
    if (before + 1 >= (job->policy == TWILL_ON_ERROR_FIRST ? 1 : most)) {
        twill__stop_all(job, TWILL_FAILED, true);
        twill__pc_end(pc);
    }
}

static inline void twill__pc_stop(const twill_task *task)
{
    twill__job *job = (twill__job *)task->private_;
    twill__pc *pc = (twill__pc *)job->data;
    TWILL_ASSERT(task->worker < job->np); /* see twill__task_init */
    if (pc->workers[task->worker].producing && !pc->workers[task->worker].relieving)
        twill__pc_end_here(pc, true);
    else if (task->index != SIZE_MAX)
        twill__job_stop_at(task, task->index);
}

static inline bool twill__pc_over(twill__pc *pc)
{
    return twill__stopped(pc->job, pc->job->may_end ? twill__clock_now() : 0) ||
           atomic_load_explicit(&pc->job->limit, memory_order_seq_cst) != SIZE_MAX;
}

static inline void twill__pc_retry(twill_queue *queue, twill__queue_turn *turn,
                                   const twill__queue_list *list)
{
    for (twill__waiter *waiter = list->first; waiter; waiter = waiter->next)
        if (twill__own(waiter))
            twill__queue_retry(queue, turn, waiter);
}

/* So many of the others are gone. Whoever was blocked because of them looks again. */
static inline void twill__pc_gone(twill__pc *pc, uint32_t count)
{
    twill__queue_turn turn;
    if (!count || atomic_fetch_sub_explicit(&pc->others, count, memory_order_seq_cst) != count)
        return;
    twill__queue_enter(pc->queue, &turn);
    twill__pc_retry(pc->queue, &turn, &pc->queue->pushers);
    twill__pc_retry(pc->queue, &turn, &pc->queue->joiners);
    twill__queue_exit(pc->queue, &turn);
}

/* The item in the worker's hand has ended. Who joins is told by the next turn under the queue's
   lock, which every consumer takes before he sleeps or leaves, and every producer after relief. */
static inline void twill__pc_done(twill__pc_worker *worker)
{
    /* relaxed: only this thread writes it */
    uint64_t done = atomic_load_explicit(&worker->done, memory_order_relaxed);
    worker->holding = false;
    /* release: pairs with the load in twill__pc_consumed */
    atomic_store_explicit(&worker->done, done + 1, memory_order_release);
}

static inline uint64_t twill__pc_consumed(const void *pc_)
{
    const twill__pc *pc = (const twill__pc *)pc_;
    uint64_t sum = 0;
    for (unsigned k = 0; k < pc->run.workers; k++)
        /* acquire: pairs with the store in twill__pc_done */
        sum += atomic_load_explicit(&pc->workers[k].done, memory_order_acquire);
    return sum;
}

/* A producer of the call has returned, or never will. */
static inline void twill__pc_detach(twill__pc *pc)
{
    twill__queue_turn turn;
    twill__queue_enter(pc->queue, &turn);
    pc->queue->held--;
    if (--pc->queue->producers == 0)
        twill__queue_end(pc->queue, TWILL_CLOSED, 0);
    twill__queue_exit(pc->queue, &turn);
}

/* A helper consumes nothing: perhaps nobody else would notice that the call is over, or that no
   helper is left. */
static inline void twill__pc_missed(twill__job *job, twill__missed why)
{
    twill__pc *pc = (twill__pc *)job->data;
    /* relaxed: a guess for the CAS */
    uint32_t promised = atomic_load_explicit(&pc->promised, memory_order_relaxed);
    if (why == TWILL__MISSED_OVER) { /* nor will those that are still to come: who joins does */
        twill__pc_end(pc);
        promised = atomic_exchange_explicit(&pc->promised, 0, memory_order_seq_cst);
        twill__pc_gone(pc, promised);
        return;
    }
    if (why == TWILL__MISSED_ENDED) {
        while (promised &&
               !atomic_compare_exchange_weak_explicit(&pc->promised, &promised, promised - 1,
                                                      memory_order_seq_cst, memory_order_seq_cst)) {
        }
        twill__pc_gone(pc, promised > 0);
    }
    if (atomic_fetch_sub_explicit(&pc->numbers, 1, memory_order_seq_cst) == 1)
        twill__pc_gone(pc, atomic_exchange_explicit(&pc->promised, 0, memory_order_seq_cst));
}

/* A place among the consumers is free: 1, or 1 with TWILL__PC_RELIEF. seq_cst on both sides: who
   waits for it counts himself before he looks. */
static inline void twill__pc_left(twill__pc *pc, uint32_t place)
{
    atomic_fetch_sub_explicit(&pc->consuming, place, memory_order_seq_cst);
    if (atomic_load_explicit(&pc->waiting, memory_order_seq_cst))
        twill__wake(&pc->consuming, INT_MAX);
    twill__pc_gone(pc, 1);
}

#endif

/* ---- items ---- */

static inline void twill__pc_spared(twill_queue *queue)
{
    twill__queue_turn turn;
    twill__queue_enter(queue, &turn);
    queue->gone++;
    twill__queue_exit(queue, &turn);
}

/* A popped item that nobody will consume: in the books it was cleared. */
static inline void twill__pc_spare(twill__pc *pc, twill__pc_worker *worker, void *item,
                                   uint64_t number)
{
    twill__queue_turn turn;
    twill_queue *queue = pc->queue;
    twill__queue_enter(queue, &turn);
    queue->counts.cleared++;
    queue->gone += !queue->drop;
    twill__queue_exit(queue, &turn);
    if (queue->drop) {
        twill_task task = twill__queue_task(queue, (size_t)number);
        worker->sparing = true;
        queue->drop(item, TWILL_CANCELLED, &task);
        worker->sparing = false;
        if (twill__queue_here(queue))
            twill__pc_spared(queue);
    }
}

static inline void twill__pc_item(twill__pc *pc, twill_task *task, void *item, uint64_t number)
{
    twill__job *job = pc->job;
    twill__slot *me = &job->slot[task->worker];
    twill__pc_worker *worker = &pc->workers[task->worker];
    size_t index = twill__pc_index(number, SIZE_MAX - 2);
    bool stopped;
    int code;
    twill__set_begin(me, index);
    stopped = twill__stopped(job, job->may_end ? twill__clock_now() : 0);
    if (stopped) /* or producers could go on, and each item be spared, for ever */
        twill__pc_end(pc);
    /* seq_cst: see twill__set_begin */
    if (stopped || index >= atomic_load_explicit(&job->limit, memory_order_seq_cst)) {
        twill__pc_spare(pc, worker, item, number);
        return;
    }
    task->index = index;
    me->used = true;
    me->said = 0;
    me->inside = true;
    worker->holding = true;
    code = pc->consume(item, task);
    me->inside = false;
    if (!twill__queue_here(pc->queue)) /* forked: in the child nothing more is run, nor touched */
        return;
    twill__item_end(job, me, index, code);
    if (code && pc->options->dead_letter)
        pc->options->dead_letter(item, code, task);
    me->said = 0;
    if (!twill__queue_here(pc->queue))
        return;
    twill__pc_done(worker);
    if (twill__pc_over(pc))
        twill__pc_end(pc);
}

static inline twill_status twill__pc_take(twill__pc *pc, twill__pc_worker *worker, size_t most,
                                          bool wait)
{
    twill__waiter *pop = &worker->pop;
    twill_status status;
    worker->at = worker->count = 0;
    if (pc->queue->ring.cells) {
        worker->count =
            twill__quick_take(pc->queue, worker->items, worker->numbers, most, pc->run.until, wait);
        if (worker->count)
            return TWILL_OK;
    }
    *pop = (twill__waiter){.to = worker->items, .numbers = worker->numbers, .n = most};
    worker->taking = true;
    status = twill__get(pc->queue, pop, pc->run.until, wait);
    worker->taking = false;
    worker->count = pop->done;
    return status;
}

/* A callback has ended the thread: what it had in hand has ended, too. */
static inline void twill__pc_let_go(twill__pc *pc, twill__pc_worker *worker)
{
    if (worker->holding)
        twill__pc_done(worker);
    if (worker->sparing)
        twill__pc_spared(pc->queue);
    if (worker->taking) /* it was one of the queue's, before the thread had what it took */
        worker->count = worker->pop.done;
    while (worker->at < worker->count) {
        size_t k = worker->at++;
        twill__pc_spare(pc, worker, worker->items + k * pc->queue->store.size, worker->numbers[k]);
    }
}

static inline void twill__pc_batch(twill__pc *pc, twill__pc_worker *worker, twill_task *task)
{
    while (worker->at < worker->count && twill__queue_here(pc->queue)) {
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
    twill__queue_turn turn;
    if (worker->taking)
        twill__pc_role_failed(pc, TWILL_LOST, 0);
    if (job->policy != TWILL_ON_ERROR_COLLECT || worker->task->worker == 0)
        twill__pc_end(pc);
    twill__pc_let_go(pc, worker);
    worker->task = NULL;
    twill__queue_enter(pc->queue, &turn); /* for those who join: see twill__pc_done */
    twill__queue_exit(pc->queue, &turn);
    twill__pc_left(pc, 1);
    /* those who were to consume if nobody does may have looked while this thread did, and rest */
    twill__pc_gone(pc, atomic_exchange_explicit(&pc->promised, 0, memory_order_seq_cst));
}

/* noinline: as twill__queue_call_drop */
static __attribute__((noinline)) void twill__pc_consume_all(twill__pc *pc, twill__pc_worker *worker,
                                                            twill_task *task)
{
    while (twill__queue_here(pc->queue) && twill__pc_take(pc, worker, pc->batch, true) == TWILL_OK)
        twill__pc_batch(pc, worker, task);
}

/* Until the queue has ended, or run.until: the loop around this role then finds the call over, and
   says so by twill__pc_missed. */
static inline void twill__pc_consume(twill__pc *pc, twill__pc_worker *worker, twill_task *task)
{
    twill__slot *me = &pc->job->slot[task->worker];
    TWILL__GUARD_PUSH(twill__pc_consumer_ended, worker);
    me->inside = false; /* of no item; what is dropped meanwhile is none of this worker's */
    twill__pc_consume_all(pc, worker, task);
    TWILL__GUARD_POP(0);
    if (twill__queue_here(pc->queue))
        twill__pc_left(pc, 1);
}

/* A place among the consumers. If there is none because a producer has one for the moment, `wait`
   waits for that: else the place would stay empty when the producer goes. */
static inline bool twill__pc_may_consume(twill__pc *pc, bool wait)
{
    bool taken = false;
    atomic_fetch_add_explicit(&pc->waiting, 1, memory_order_seq_cst);
    for (;;) { /* exit: taken, or none; a producer in relief ends with its item */
        uint32_t now = atomic_load_explicit(&pc->consuming, memory_order_seq_cst);
        if ((now & ~TWILL__PC_RELIEF) < pc->consumers)
            taken = atomic_compare_exchange_weak_explicit(
                &pc->consuming, &now, now + 1, memory_order_seq_cst, memory_order_seq_cst);
        else if (wait && (now & TWILL__PC_RELIEF))
            twill__park(&pc->consuming, now, 0);
        else
            break;
        if (taken)
            break;
    }
    atomic_fetch_sub_explicit(&pc->waiting, 1, memory_order_seq_cst);
    if (taken)
        atomic_fetch_add_explicit(&pc->others, 1, memory_order_seq_cst);
    return taken;
}

/* A producer has consumed its item. With CALLER_RUNS that is no consumer's place. */
static inline void twill__pc_relieved(twill__pc *pc)
{
    if (pc->caller_runs)
        twill__pc_gone(pc, 1);
    else
        twill__pc_left(pc, 1 | TWILL__PC_RELIEF);
}

/* The item in the hand of who pushes it, when nobody else brings one: it comes in, and out
   again. */
static inline bool twill__pc_own(twill__pc *pc, twill__pc_worker *worker, twill__waiter *push)
{
    twill__waiter pop;
    twill__queue_turn turn;
    bool taken;
    memset(&pop, 0, sizeof pop);
    pop.to = worker->items;
    pop.numbers = worker->numbers;
    twill__queue_enter(pc->queue, &turn);
    taken = push && !pc->queue->store.capacity && !twill__queue_closed(pc->queue);
    if (taken)
        twill__queue_hand_over(pc->queue, push, &pop);
    twill__queue_exit(pc->queue, &turn);
    worker->count = taken;
    return taken;
}

/* A push has found the queue full, or a producer joins (push: NULL): with nobody to consume, the
   producer consumes one item. */
static inline int twill__pc_relief(void *pc_, twill__waiter *push)
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
        if (!worker->producing || worker->relieving) /* a consumer has its batch in hand */
            return -2;
        if (!pc->caller_runs &&
            (atomic_load_explicit(&pc->others, memory_order_seq_cst) ||
             !atomic_compare_exchange_strong_explicit(&pc->consuming, &none, 1 | TWILL__PC_RELIEF,
                                                      memory_order_seq_cst, memory_order_seq_cst)))
            return 0;
        atomic_fetch_add_explicit(&pc->others, 1, memory_order_seq_cst);
        task = *worker->task;
        worker->relieving = true;
        worker->bulk = push && push->counted ? twill__queue_weight(push) : 0;
        taken = twill__pc_take(pc, worker, 1, false) == TWILL_OK ||
                (twill__queue_here(pc->queue) && twill__pc_own(pc, worker, push));
        if (taken) {
            worker->relieved = twill__pc_index(worker->numbers[0], SIZE_MAX - 2);
            twill__pc_batch(pc, worker, &task);
        }
        if (!twill__queue_here(pc->queue))
            return -1;
        worker->relieving = false;
        if (taken) {
            pc->job->slot[k].inside = false;
            twill__set_begin(&pc->job->slot[k], SIZE_MAX - 1);
        }
        twill__pc_relieved(pc);
        return taken;
    }
    return -1;
}

/* ---- producers ---- */

/* The push of a thread that has ended: other items need not wait behind it any longer. */
static inline void twill__pc_bulk_ended(twill__pc *pc, uint32_t bulk)
{
    twill__queue_turn turn;
    if (!bulk)
        return;
    twill__queue_enter(pc->queue, &turn);
    /* relaxed: as in twill__delist */
    atomic_fetch_sub_explicit(&pc->queue->givers, bulk, memory_order_relaxed);
    twill__queue_exit(pc->queue, &turn);
}

static inline void twill__pc_producer_ended(void *worker_)
{
    twill__pc_worker *worker = (twill__pc_worker *)worker_;
    twill__job *job = (twill__job *)worker->task->private_;
    twill__pc *pc = (twill__pc *)job->data;
    twill__slot *me = &job->slot[worker->task->worker];
    me->inside = false; /* the engine would take the producer's index for an item's */
    twill__pc_let_go(pc, worker);
    if (worker->relieving) {
        twill__pc_bulk_ended(pc, worker->bulk);
        if (!worker->taking)
            twill__item_failed(job, me, worker->relieved, worker->relieved, TWILL_LOST, 0);
        if (job->policy != TWILL_ON_ERROR_COLLECT)
            twill__pc_end(pc);
        twill__pc_relieved(pc);
    }
    twill__pc_role_failed(pc, TWILL_LOST, 0);
    if (worker->task->worker == 0) /* the producers that wait for this thread will not come */
        twill__pc_end(pc);
    worker->task = NULL;
    worker->producing = false;
    twill__pc_detach(pc);
}

/* Runs the next producer; false: all have begun. */
static inline bool twill__pc_produce(twill__pc *pc, twill__pc_worker *worker, twill_task *task)
{
    /* relaxed: a guess for the CAS */
    uint32_t k = atomic_load_explicit(&pc->next_producer, memory_order_relaxed);
    twill__slot *me = &pc->job->slot[task->worker];
    int code;
    do
        if (k >= pc->producers)
            return false;
    while (!atomic_compare_exchange_weak_explicit(&pc->next_producer, &k, k + 1,
                                                  memory_order_seq_cst, memory_order_seq_cst));
    if (!atomic_load_explicit(&pc->ended, memory_order_seq_cst) && !twill__pc_over(pc)) {
        twill__set_begin(me, SIZE_MAX - 1); /* above all items */
        task->index = k;
        worker->producing = true;
        TWILL__GUARD_PUSH(twill__pc_producer_ended, worker);
        code = pc->produce(pc->queue, task);
        TWILL__GUARD_POP(0);
        if (!twill__queue_here(pc->queue))
            return false;
        me->said = 0;
        worker->producing = false;
        if (code && !atomic_load_explicit(&pc->ended, memory_order_seq_cst) &&
            !(code == (int)TWILL_CLOSED && twill_queue_is_closed(pc->queue)))
            twill__pc_role_failed(pc, TWILL_FAILED, code);
    }
    if (twill__pc_over(pc))
        twill__pc_end(pc);
    twill__pc_detach(pc);
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
    if (!caller && twill__pc_may_consume(pc, false)) /* in a forked child it consumes nothing */
        twill__pc_consume(pc, worker, task);
    while (twill__queue_here(pc->queue) && twill__pc_produce(pc, worker, task)) {}
    /* in vain only beside consumers, who drain */
    if (twill__queue_here(pc->queue) && twill__pc_may_consume(pc, true))
        twill__pc_consume(pc, worker, task);
    worker->task = NULL;
    atomic_store_explicit(&worker->owner, 0, memory_order_relaxed);
}

static inline void twill__pc_steps(twill__job *job, void *data)
{
    twill__pc *pc = (twill__pc *)data;
    twill__pass pass;
    twill_status cut;
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
    job->missed = twill__pc_missed;
    /* nobody else is here yet */
    atomic_init(&pc->numbers, job->np - 1);
    if (((twill__call_record *)(void *)job)->has_own) {
        atomic_init(&pc->promised, twill__team_threads(job->team));
        atomic_init(&pc->others, twill__team_threads(job->team));
    }
    twill__run_pass(job, &pass);
    cut = (twill_status)atomic_load_explicit(&job->stop, memory_order_relaxed); /* all have left */
    if (cut != TWILL_FAILED)
        pc->cut = cut;
}

#endif

/* ---- producer_consumer/stats.h ---- */
/* stats.h: the figures of a queue. */
#ifndef TWILL__QUEUE_STATS_H
#define TWILL__QUEUE_STATS_H

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
    out->accepted = queue->store.next;
    out->length = queue->store.length;
    out->popped = out->accepted - out->length;
    out->peak = queue->peak;
    if (queue->ring.cells) {
        do { /* exit: nobody has taken a whole ring of items between the two */
            out->popped = twill__ring_popped(&queue->ring);
            out->accepted = twill__ring_pushed(&queue->ring);
        } while (out->accepted - out->popped > queue->ring.capacity);
        out->length = (size_t)(out->accepted - out->popped);
        /* relaxed: a figure */
        out->peak = (size_t)atomic_load_explicit(&queue->ring.peak, memory_order_relaxed);
    }
    out->popped -= counts->dropped + counts->expired + counts->cleared;
    out->dropped = counts->dropped;
    out->expired = counts->expired;
    out->cleared = counts->cleared;
    out->rejected = counts->rejected;
    out->push_waits = counts->push_waits;
    out->pop_waits = counts->pop_waits;
    out->wakes = counts->wakes;
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

#endif

static inline twill_status twill__pc_answer(const twill__pc *pc, const twill_queue_stats *stats,
                                            twill_report *report)
{
    /* relaxed: all have left */
    uint32_t failed = atomic_load_explicit(&pc->failed, memory_order_relaxed);
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
    /* relaxed: as above */
    if (pc->cut && (report->skipped ||
                    atomic_load_explicit(&pc->ended, memory_order_relaxed) & TWILL__PC_EARLY))
        return pc->cut;
    return TWILL_OK;
}

/* Of a call that runs nothing, or is the parent process's. */
static inline twill_status twill__pc_refuse(const twill_produce_consume_options *options,
                                            twill_status status)
{
    if (options->queue_stats)
        memset(options->queue_stats, 0, sizeof *options->queue_stats);
    return twill__refuse(&options->run, 0, status);
}

/* Also runs when a callback ends the calling thread. */
static inline void twill__pc_finish(void *pc_)
{
    twill__pc *pc = (twill__pc *)pc_;
    const twill_produce_consume_options *options = pc->options;
    twill_queue_stats stats;
    twill_report report = pc->inner;
    if (!twill__queue_here(pc->queue)) { /* forked in a callback: the call is the parent's */
        pc->status = twill__pc_refuse(options, TWILL_FORKED);
        twill_queue_abandon(pc->queue);
        TWILL_FREE(pc->memory);
        return;
    }
    (void)twill__queue_close(pc->queue, TWILL_CLOSED, 0);
    (void)twill_queue_clear(pc->queue);
    twill_queue_get_stats(pc->queue, &stats);
    pc->status = report.status = twill__pc_answer(pc, &stats, &report);
    (void)twill__queue_destroy(pc->queue);
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
                    : options->run.pool  ? twill__team_threads(options->run.pool->team)
                    : outer              ? outer->np
                                         : twill__cpus_hint();
    if (!pc->consumers) /* a lazy pool has no thread yet */
        pc->consumers = 1;
    if (pc->producers > TWILL__MAX_WORKERS - 1 ||
        pc->consumers > TWILL__MAX_WORKERS - pc->producers)
        return TWILL_TOO_BIG;
    pc->run.workers = pc->producers + pc->consumers;
    return TWILL_OK;
}

/* One block: the workers' records, numbers and items, these on lines of their own. */
static inline twill_status twill__pc_memory(twill__pc *pc, size_t item_size)
{
    size_t count = pc->run.workers, bytes = 0, numbers, items, each;
    char *at;
    (void)twill__queue_add(&bytes, count, sizeof(twill__pc_worker)); /* see TWILL__MAX_WORKERS */
    numbers = bytes;
    if (pc->batch > SIZE_MAX / 4 / count || pc->batch > SIZE_MAX / 4 / item_size ||
        !twill__queue_add(&bytes, count * pc->batch, sizeof(uint64_t)))
        return TWILL_TOO_BIG;
    items = bytes;
    each = (pc->batch * item_size + TWILL__LINE - 1) / TWILL__LINE * TWILL__LINE;
    if (!twill__queue_add(&bytes, count, each))
        return TWILL_TOO_BIG;
    at = (char *)TWILL_MALLOC(bytes + TWILL__LINE);
    if (!at)
        return TWILL_NO_MEMORY;
    pc->memory = at;
    pc->workers = (twill__pc_worker *)(void *)at;
    memset(pc->workers, 0, count * sizeof *pc->workers);
    items += (TWILL__LINE - (uintptr_t)(at + items) % TWILL__LINE) % TWILL__LINE;
    for (size_t k = 0; k < count; k++) {
        pc->workers[k].numbers = (uint64_t *)(void *)(at + numbers) + k * pc->batch;
        pc->workers[k].items = at + items + k * each;
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
    pc->queue->others = &pc->others;
    pc->queue->held = pc->producers;
    status = twill__pc_memory(pc, item_size);
    if (status == TWILL_OK)
        pc->queue->consumed = twill__pc_consumed;
    else
        (void)twill__queue_destroy(pc->queue);
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
        return twill__pc_refuse(pc.options, status);
    TWILL__GUARD_PUSH(twill__pc_finish, &pc);
    (void)twill__run_call(&pc.run, (size_t)pc.run.workers, true, twill__pc_steps, &pc);
    TWILL__GUARD_POP(1);
    return pc.status;
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
