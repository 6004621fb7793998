/* twill_resource_pool.h - twill 0.1.0 - SPDX-License-Identifier: MIT OR Unlicense (text at the end)
   GENERATED from patterns/src/resource_pool.h and its parts. Do not edit it here: edit there, then `make headers`. */

/* twill: resource_pool - a bounded set of costly things that threads borrow one at a time.
   SPDX-License-Identifier: MIT OR Unlicense
   Build: cc -std=c11 -pthread. In one .c file: #define TWILL_IMPLEMENTATION before the include.

WHEN TO USE IT
    Connections, handles, buffers, contexts: things that are costly to make, or that there may only
    be few of, and that one thread uses at a time. The pool makes them when they are needed, never
    more than max, lends each to one borrower, checks what comes back, and tells a leak, a double
    release and a deadlock by name.
WHEN NOT
    Only the number of calls at once is to be bounded: bulkhead (rate_limiter). One per thread for
    ever: worker_start of the pattern that has the threads.

EXAMPLE:
#include <stdio.h>
#include <stdlib.h>

#define TWILL_IMPLEMENTATION
#include "twill_resource_pool.h"

static int open_one(void **resource, const twill_task *task)
{
    (void)task;
    *resource = calloc(1, sizeof(int));                 // stands for a connection
    return *resource ? 0 : 1;                           // not 0: acquire answers FAILED
}

static void close_one(void *resource, twill_resource_end why, const twill_task *task)
{
    (void)why;
    (void)task;
    free(resource);
}

static int query(void *resource, const twill_task *task)
{
    int *count = resource;
    printf("query %d\n", ++*count);
    return *(int *)task->context;                       // not 0: FAILED, and given back anyway
}

int main(void)
{
    twill_resource_pool *pool;
    int code = 0;
    if (twill_resource_pool_create(&pool, &(twill_resource_pool_options){
            .max = 5, .create = open_one, .destroy = close_one }) != TWILL_OK)
        return 1;
    for (int k = 0; k < 3; k++)
        if (twill_with_resource(pool, query, &code, NULL) != TWILL_OK)
            return 1;
    return twill_resource_pool_destroy(pool) != TWILL_OK;
}
END OF EXAMPLE
OUTPUT:
query 1
query 2
query 3
END OF OUTPUT

OPTIONS (twill_resource_pool_options; NULL or zeroed: a fixed set of up to 8, given with `add`)
    max             resources at any moment, exact: idle, lent, and in any callback; 0: 8
    create          makes one, when nobody has given one back. NULL: a fixed set, given with `add`
    destroy         once for each that was created or added, but those detached. May be NULL
    validate        when one is borrowed again: not 0: it is destroyed, another is taken or made
    validate_after  only when it was idle for so long; 0: always
    reset           when one comes back: not 0: it is destroyed (release answers OK all the same)
    min_idle        kept ready by maintain; expiry by age leaves so many. max_idle: kept at most;
                    0: max
    max_idle_time, max_lifetime, max_uses    0: no limit. A lent one is never touched
    jitter_percent  each lifetime is shortened by up to so much, drawn at creation; 0: 10;
                    UINT_MAX: none. seed: of that; 0: from the clock
    max_creating    creations at once; 0: max. create_pause: after a failed one nobody creates
                    for so long: who waits is served by what comes back; 0: none
    fifo            false: the most recently used first (few stay warm, the rest expires); true: the
                    least recently used (all stay warm)
    barging         false: waiters in order of arrival; true: a newcomer may overtake them
    leases_stay     a promise: who acquires releases. Then DEADLOCK is found for plain leases, too
    leak_after      a lease that is held for longer is reported once, to on_leak, by maintain or by
                    who is about to wait; 0: never
    maintain_every  0: upkeep on use and in maintain. Else a thread called `name` does it; another
                    one, if a callback has ended it (if none can be started, nobody does)
    context         task->context of the callbacks. task->index: the slot. task->until, for create
                    and validate: what is left of the acquirer's wait

ANSWERS
    acquire         OK (also late, and with an expired deadline when one is there or can be made);
                    FAILED: create failed, lease.code; CLOSED; CANCELLED; TIMEOUT; EMPTY (try);
                    TOO_BIG (many: more than max); DEADLOCK: without deadline and token, and every
                    resource is with a thread that waits likewise, or in this thread's own hands
    release, discard, detach    OK; INVALID: empty, or another pool's; STALE: given back already
    One absolute deadline covers waiting, validating any number of stale ones, and creating. A
    callback is told by its task, never interrupted.
    INVALID, TOO_BIG, NO_MEMORY, NO_THREAD: create. FORKED: a pool of the parent process

THREADS      All functions by any thread; a lease may move to another one (but see leases_stay).
PROGRESS     Whatever frees capacity (a release, a discard, a failed creation, an expiry, a resize)
             serves the oldest waiter in the same moment. Callbacks run under no lock, and never
             delay who can have an idle resource.
ORDERING     All that was done to a resource comes before what its next borrower does.
OWNERSHIP    The pool's, from create or add to destroy or detach.
ALLOCATES    create: two blocks; resize up: one. Nothing else.
BLOCKS       acquire as it says; close and evict run `destroy` for the idle ones.
COSTS        An uncontended acquire or release: one compare-and-swap in a plain pool (max at most
             16, max_idle unset, no validate, reset, max_uses, nor an option that asks for times);
             else one lock round, and one reading of the clock if an option asks for times. On Linux
             a release in a plain pool that one thread alone uses for long is a store, unless leases
             move; then a call that needs the lock while one is out (a wait, stats) may take some us
             and interrupt the process's other threads, after 1024 lendings at the soonest. The
             first such pool of a process tells the kernel: some ms if threads run already. A
             waiter spins a moment, then sleeps; one wake each. In a plain pool he spins before he
             stands in line, too: the order of arrival is that of the line.
FORK         In a forked child all answers are FORKED; abandon frees the pool there. A callback that
             forks: nothing more is called in the child, and the call around it is FORKED.
PITFALLS     A copy of a lease that is kept for 2^32 lendings of its slot is not noticed. Oldest
             first keeps idle expiry from shrinking the pool under light load. A callback may call
             other pools; a wait on its own pool that only its own slot could serve is DEADLOCK.
             longjmp out of `use` is not supported. Nothing here may be called in a signal
             handler. */
#ifndef TWILL_RESOURCE_POOL_H
#define TWILL_RESOURCE_POOL_H

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

typedef struct twill_resource_pool twill_resource_pool;

/* {0}: nothing held. A copy is the same lease, not a second one. */
typedef struct twill_lease {
    void *resource;
    twill_resource_pool *pool;
    uint32_t slot, generation; /* grows with every lending of the slot, and skips 0 */
    int code;                  /* create's own, when acquire answered FAILED */
} twill_lease;

typedef struct twill_lease_info {
    void *resource;
    const char *file; /* the borrower's place; NULL: not known */
    int line;
    twill_ns held; /* 0 when no option asks for times */
    size_t slot;
} twill_lease_info;

/* Why a resource is destroyed. */
typedef enum twill_resource_end {
    TWILL_RESOURCE_CLOSED = 1,
    TWILL_RESOURCE_IDLE,    /* max_idle_time */
    TWILL_RESOURCE_OLD,     /* max_lifetime */
    TWILL_RESOURCE_USED_UP, /* max_uses */
    TWILL_RESOURCE_INVALID, /* validate or reset said so */
    TWILL_RESOURCE_BROKEN,  /* discarded, or a callback ended its thread */
    TWILL_RESOURCE_EVICTED,
    TWILL_RESOURCE_SURPLUS, /* max_idle, or the pool has shrunk */
    TWILL_RESOURCE_END_COUNT
} twill_resource_end;

/* "TWILL_RESOURCE_BROKEN" and so on, for logs; static. "unknown" for other values. */
TWILL__DECL const char *twill_resource_end_name(twill_resource_end why);

typedef struct twill_resource_pool_options { /* see OPTIONS above */
    size_t max;
    size_t min_idle;
    size_t max_idle;
    int (*create)(void **resource, const twill_task *task);
    void (*destroy)(void *resource, twill_resource_end why, const twill_task *task);
    int (*validate)(void *resource, const twill_task *task);
    twill_ns validate_after;
    int (*reset)(void *resource, const twill_task *task);
    twill_ns max_idle_time, max_lifetime;
    unsigned jitter_percent;
    uint64_t seed;
    size_t max_uses;
    size_t max_creating;
    twill_ns create_pause;
    bool fifo;
    bool barging;
    bool leases_stay;
    twill_ns leak_after;
    void (*on_leak)(const twill_lease_info *info, const twill_task *task);
    twill_ns maintain_every;
    void *context;
    const char *name;
} twill_resource_pool_options;

/* TWILL_OK: *out is the pool, and no callback has run. Else *out is NULL: INVALID, TOO_BIG,
   NO_MEMORY, NO_THREAD (of maintain_every). */
TWILL__DECL twill_status twill_resource_pool_create(twill_resource_pool **out,
                                                    const twill_resource_pool_options *options);

/* Gives a resource to the pool, as of a fixed set. FULL: there are max already; CLOSED; the caller
   keeps it. */
TWILL__DECL twill_status twill_resource_pool_add(twill_resource_pool *pool, void *resource);

/* Borrows: for ever; without waiting for anybody (EMPTY); until. The macros note the borrower's
   place. OK: *lease is held. FAILED: create failed, lease->code. Else CLOSED, CANCELLED, TIMEOUT,
   DEADLOCK, and *lease is as before. *lease must be {0}, or given back. */
TWILL__DECL twill_status twill_resource_pool_acquire_at(twill_resource_pool *pool,
                                                        twill_lease *lease, twill_until until,
                                                        const char *file, int line);
TWILL__DECL twill_status twill_resource_pool_try_acquire_at(twill_resource_pool *pool,
                                                            twill_lease *lease, const char *file,
                                                            int line);
#define twill_resource_pool_acquire(pool, lease) \
    twill_resource_pool_acquire_at(pool, lease, twill_within(TWILL_FOREVER), __FILE__, __LINE__)
#define twill_resource_pool_try_acquire(pool, lease) \
    twill_resource_pool_try_acquire_at(pool, lease, __FILE__, __LINE__)
#define twill_resource_pool_acquire_until(pool, lease, until) \
    twill_resource_pool_acquire_at(pool, lease, until, __FILE__, __LINE__)

/* n at once, or none: no hold-and-wait, and nobody overtakes it. TOO_BIG: more than max. Not OK:
   all of leases are {0}, but for leases[0].code if create failed. */
TWILL__DECL twill_status twill_resource_pool_acquire_many_until(twill_resource_pool *pool,
                                                                twill_lease *leases, size_t n,
                                                                twill_until until);

/* Gives back; destroys (it is broken); takes it out of the pool for good. Empties *lease. INVALID:
   empty, or another pool's. STALE: given back already, by this lease or a copy. Refused: nothing
   changed, and whoever has the resource now is not disturbed. Also after close. */
TWILL__DECL twill_status twill_resource_pool_release(twill_resource_pool *pool, twill_lease *lease);
TWILL__DECL twill_status twill_resource_pool_discard(twill_resource_pool *pool, twill_lease *lease);
TWILL__DECL twill_status twill_resource_pool_detach(twill_resource_pool *pool, twill_lease *lease,
                                                    void **resource);

/* ---- one call ---- */

typedef int twill_resource_fn(void *resource, const twill_task *task);

typedef struct twill_with_resource_options {
    twill_until until;    /* over waiting, validating and creating; also task->until of `use` */
    twill_report *report; /* total 1 = done, failed (first_error.code) or skipped (none obtained) */
} twill_with_resource_options;

/* Borrows, calls `use`, gives back on every path. FAILED: `use` returned not 0, or create did (then
   the report says skipped). LOST in the report: `use` ended its thread; the resource is destroyed.
   task->index: the slot. */
TWILL__DECL twill_status twill_with_resource(twill_resource_pool *pool, twill_resource_fn *use,
                                             void *context,
                                             const twill_with_resource_options *options);

/* Inside `use`: destroy it afterwards instead of giving it back. Elsewhere: nothing. */
TWILL__DECL void twill_resource_pool_broken(const twill_task *task);

/* ---- upkeep and change ---- */

/* Ends what is expired, reports leaks, fills up to min_idle. FAILED: a creation failed, *code (may
   be NULL) is its code. TIMEOUT, CANCELLED: not filled up in time. CLOSED. Right after create: to
   prefill, and to fail at once. */
TWILL__DECL twill_status twill_resource_pool_maintain(twill_resource_pool *pool, int *code,
                                                      twill_until until);

/* Destroys the idle ones now, and when they come back the lent ones, and those whose creation has
   begun; returns how many now. */
TWILL__DECL size_t twill_resource_pool_evict(twill_resource_pool *pool);

/* Another max. Smaller: the surplus goes when it is idle, or comes back. INVALID: 0; TOO_BIG,
   NO_MEMORY, CLOSED: nothing changed. */
TWILL__DECL twill_status twill_resource_pool_resize(twill_resource_pool *pool, size_t max);

/* Who holds what: up to max infos; returns how many leases are out. */
TWILL__DECL size_t twill_resource_pool_leases(twill_resource_pool *pool, twill_lease_info *infos,
                                              size_t max);

/* ---- end ---- */

/* Who waits is told CLOSED, as later acquires are; idle resources are destroyed by this thread,
   lent ones when they come back. A second one: CLOSED, and nothing changed. */
TWILL__DECL twill_status twill_resource_pool_close(twill_resource_pool *pool);

/* After close: waits until nothing is out, and ends what is idle, since `destroy` has ended the
   thread that closed. INVALID before it; DEADLOCK inside a callback of the
   pool, or of twill_with_resource on it. */
TWILL__DECL twill_status twill_resource_pool_drain(twill_resource_pool *pool);
TWILL__DECL twill_status twill_resource_pool_drain_until(twill_resource_pool *pool,
                                                         twill_until until);

/* Closes, if nobody has, and frees. BUSY: leases are out, or callbacks run: nothing is freed, and
   the pool stays closed. Who waits inside is answered and waited for. NULL: TWILL_OK. */
TWILL__DECL twill_status twill_resource_pool_destroy(twill_resource_pool *pool);

/* In a forked child alone: frees the pool, and leaves the parent's resources alone. */
TWILL__DECL void twill_resource_pool_abandon(twill_resource_pool *pool);

/* total == idle + leased + (in callbacks, or held for a waiter) <= max (but after a resize);
   acquires == releases + discards + detached + leased. leased_peak: of a plain pool, while several
   come and go at once, as its borrowers saw it. use_...: only with an option that asks for
   times. */
typedef struct twill_resource_pool_stats {
    size_t total, idle, leased, creating, waiting, max, leased_peak, waiting_peak;
    uint64_t acquires, releases, discards, detached, waits, timeouts, cancelled;
    uint64_t created, create_failed, added, leaks, destroyed[TWILL_RESOURCE_END_COUNT];
    twill_ns wait_total, wait_max, use_total, use_max, create_total;
} twill_resource_pool_stats;
/* One moment's figures. NULL, or a parent process's pool: zeroes. */
TWILL__DECL void twill_resource_pool_get_stats(twill_resource_pool *pool,
                                               twill_resource_pool_stats *out);

#ifdef __cplusplus
}
#endif
#endif


#ifdef TWILL_IMPLEMENTATION
#ifndef TWILL__RESOURCE_POOL_IMPL
#define TWILL__RESOURCE_POOL_IMPL

/* ---- resource_pool/upkeep.h ---- */
/* upkeep.h: expiring, filling, shrinking, and the thread that may do it. */
#ifndef TWILL__RESOURCE_UPKEEP_H
#define TWILL__RESOURCE_UPKEEP_H

/* ---- resource_pool/borrow.h ---- */
/* borrow.h: how a slot is lent and comes back, with the callbacks on the way. No callback runs
   under the lock; the slot that it is about is TAKEN meanwhile. One may fork, and return in the
   child, too: another thread of the parent's may have had the lock, so nothing of the pool is
   touched there, nothing more is called, and the call around the callback says FORKED. */
#ifndef TWILL__RESOURCE_BORROW_H
#define TWILL__RESOURCE_BORROW_H

/* ---- resource_pool/slots.h ---- */
/* slots.h: the books of a resource pool: its slots, who waits, and the one function that hands
   capacity on. */
#ifndef TWILL__RESOURCE_SLOTS_H
#define TWILL__RESOURCE_SLOTS_H

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

/* ---- resource_pool/desk.h ---- */
/* desk.h: where the resources of a plain pool are lent and given back without its lock. */
#ifndef TWILL__RESOURCE_DESK_H
#define TWILL__RESOURCE_DESK_H

/* One word a slot, its cell, says all that a borrower has to know: how often the slot was lent (the
   lowest 32 bits are the lease's generation), whether it is lent now, and when it came back. A cell
   of 0: the slot is in the books, under the lock. A borrower makes IDLE into LENT by a
   compare-and-swap, a return makes LENT into IDLE, of that lending alone: so one of two returns
   wins, and the other one is stale. Whoever has the lock takes all cells away first: a return
   before that is seen, and one after it fails, and comes to the lock. So nobody has to look for who
   waits: while anybody does, there are no cells. Each cell is decided by itself: acquire and
   release are enough.

   Those two are nearly all that a pair of calls costs. So where nobody has come to the lock for a
   while, returns are LIGHT: the cells are SPLIT, and say how often a slot was lent; a second word,
   `done`, says how many of these lendings have come back: idle is what has them all. It is written
   without a compare-and-swap, since only one thread writes it: the one that has borrowed. It notes
   in its site that this lending goes back, passes a light fence, looks whether returns are LIGHT,
   then writes `done`; or takes the note back and comes to the lock. Whoever has the lock says first
   that returns are not LIGHT any more, takes the cells, passes a heavy fence (platform/fence.h)
   and looks at `done` and at the notes: a return of which he sees neither will see what he has
   said; for one of which he sees the note alone, he waits a few steps. So none is under way once
   the cells are gone. The note stays: a second return by the same thread finds it.

   Another thread's return comes to the lock. From then on leases are MOVING in this pool: never
   again LIGHT. For a thread that gives back what another one gives back at the same time, by a
   copy, may be about to write to `done` at any time later: it is not read any more.

   Stamps keep the idle order: a return gets the one after the highest idle one. They are compared
   as distances, which are short: either the highest or the lowest goes first. 44 bits of lendings:
   the figures lose count after 2^44 of one slot with no call in between that needs the lock. */
enum {
    TWILL__DESK_SLOTS = 16,
    TWILL__DESK_IDLE = 1,
    TWILL__DESK_LENT = 2,
    TWILL__DESK_SPLIT = 3,
    TWILL__DESK_STATE = 3,
    TWILL__DESK_STAMP_SHIFT = 2,
    TWILL__DESK_LENDING_SHIFT = 20
};
#define TWILL__DESK_STAMPS   ((UINT32_C(1) << 18) - 1)
#define TWILL__DESK_LENDINGS ((UINT64_C(1) << 44) - 1)

enum {                         /* how returns come: */
       TWILL__DESK_MOVING = 0, /* by anybody */
       TWILL__DESK_WARY,       /* by a compare-and-swap, of the borrower */
       TWILL__DESK_LIGHT
};

/* A heavy fence costs as much as some hundred light returns spare: they are LIGHT after so many
   lendings without a call that needs the lock, and every so often a return comes there to see. A
   power of 2. And only while one thread alone comes and goes: where several do, a line of memory
   changes hands for each call, and a store is seen later than a compare-and-swap. */
#ifndef TWILL__DESK_REST
#define TWILL__DESK_REST 1024
#endif
#ifndef TWILL__DESK_ALONE
#define TWILL__DESK_ALONE true
#endif

typedef struct twill__desk_site { /* who has it: written by the borrower, after the claim */
    _Atomic(void *) resource;     /* by who shows the cell */
    _Atomic uint64_t who;         /* 2 x the thread's number + only he can give it back */
    _Atomic(const char *) file;
    _Atomic int line;
    _Atomic uint64_t lending; /* that the rest is about; stored last */
    _Atomic uint64_t back;    /* the lending that its borrower has given back, or is about to */
    char apart[TWILL__LINE - 48];
} twill__desk_site;

typedef struct twill__desk_slot { /* side by side: who needs one mostly needs the other, too */
    _Atomic uint64_t cell;
    _Atomic uint64_t done; /* by who gives back; by who shows LIGHT cells */
} twill__desk_slot;

typedef struct twill__desk {
    char before[TWILL__LINE]; /* apart from the lock */
    twill__desk_slot slot[TWILL__DESK_SLOTS];
    char aside[TWILL__LINE];
    _Atomic uint32_t mode;   /* MOVING, WARY, LIGHT: by who has the lock */
    _Atomic uint32_t count;  /* cells to look at */
    _Atomic uint32_t beside; /* lent ones that have none: evicted */
    _Atomic uint32_t peak;   /* of those lent, as the borrowers saw it */
    _Atomic bool full;       /* nothing can be created: it may be worth while to wait a moment */
    _Atomic bool crowd;      /* several threads have come since the cells were shown */
    char between[TWILL__LINE];
    _Atomic uint64_t last; /* the only slot's cell, when it came back; else 0 */
    char after[TWILL__LINE];
    twill__desk_site site[TWILL__DESK_SLOTS];
} twill__desk;

static inline uint64_t twill__desk_cell(uint64_t lendings, uint32_t stamp, uint32_t state)
{
    return lendings << TWILL__DESK_LENDING_SHIFT |
           (uint64_t)(stamp & TWILL__DESK_STAMPS) << TWILL__DESK_STAMP_SHIFT | state;
}

static inline uint32_t twill__desk_state(uint64_t cell)
{
    return (uint32_t)cell & TWILL__DESK_STATE;
}

static inline uint32_t twill__desk_stamp(uint64_t cell)
{
    return (uint32_t)(cell >> TWILL__DESK_STAMP_SHIFT) & TWILL__DESK_STAMPS;
}

/* The number of the lending after so many; of more than 44 bits when they are used up: what a cell
   holds of it is right. */
static inline uint64_t twill__desk_after(uint64_t lendings)
{
    lendings++;
    return lendings + ((uint32_t)lendings == 0); /* no generation is 0 */
}

/* Did a come back after b? */
static inline bool twill__desk_later(uint64_t a, uint64_t b)
{
    uint32_t distance = (twill__desk_stamp(a) - twill__desk_stamp(b)) & TWILL__DESK_STAMPS;
    return distance != 0 && distance <= TWILL__DESK_STAMPS / 2;
}

static inline void twill__desk_peak(twill__desk *desk, uint32_t lent)
{
    /* relaxed: a figure */
    uint32_t peak = atomic_load_explicit(&desk->peak, memory_order_relaxed);
    while (lent > peak) /* exit: raised, by this one or by another */
        if (atomic_compare_exchange_weak_explicit(&desk->peak, &peak, lent, memory_order_relaxed,
                                                  memory_order_relaxed))
            return;
}

/* What a split cell says, with what `done` says: IDLE or LENT. */
static inline uint64_t twill__desk_joined(uint64_t cell, uint64_t done)
{
    uint64_t lendings = cell >> TWILL__DESK_LENDING_SHIFT;
    return done >> TWILL__DESK_LENDING_SHIFT == lendings
               ? done
               : twill__desk_cell(lendings, 0, TWILL__DESK_LENT);
}

/* What the slot's cell says; *cell: what is in it. A guess for the CAS; but once that has found the
   cell as it was, what it says was right. */
static inline uint64_t twill__desk_look(const twill__desk *desk, uint32_t slot, uint64_t *cell)
{
    *cell = atomic_load_explicit(&desk->slot[slot].cell, memory_order_relaxed);
    if (twill__desk_state(*cell) != TWILL__DESK_SPLIT)
        return *cell;
    /* acquire: pairs with the release in twill__desk_back_lightly */
    return twill__desk_joined(*cell,
                              atomic_load_explicit(&desk->slot[slot].done, memory_order_acquire));
}

/* Makes an idle cell a lent one, if it is still `old`. */
static inline bool twill__desk_claim(twill__desk *desk, uint32_t slot, uint64_t old,
                                     uint64_t *lending)
{
    uint32_t state =
        twill__desk_state(old) == TWILL__DESK_SPLIT ? TWILL__DESK_SPLIT : TWILL__DESK_LENT;
    *lending = twill__desk_after(old >> TWILL__DESK_LENDING_SHIFT);
    /* acquire: pairs with the release of who gave it back, or showed it */
    return atomic_compare_exchange_strong_explicit(&desk->slot[slot].cell, &old,
                                                   twill__desk_cell(*lending, 0, state),
                                                   memory_order_acquire, memory_order_relaxed);
}

/* The one that has to go next, TWILL__DESK_SLOTS: none; with its cell, and how many are lent. */
static inline uint32_t twill__desk_next(const twill__desk *desk, bool fifo, uint64_t *cell,
                                        uint32_t *lent)
{
    uint32_t found = TWILL__DESK_SLOTS;
    uint64_t next = 0;
    /* relaxed, all: guesses for the CAS */
    uint32_t count = atomic_load_explicit(&desk->count, memory_order_relaxed);
    *lent = atomic_load_explicit(&desk->beside, memory_order_relaxed);
    for (uint32_t k = 0; k < count; k++) {
        uint64_t now, said = twill__desk_look(desk, k, &now);
        *lent += twill__desk_state(said) == TWILL__DESK_LENT;
        if (twill__desk_state(said) != TWILL__DESK_IDLE ||
            (found != TWILL__DESK_SLOTS && twill__desk_later(said, next) == fifo))
            continue;
        found = k;
        next = said;
        *cell = now;
    }
    return found;
}

/* Claims the one that has to go next. False: none was seen; the lock knows for certain. */
static __attribute__((noinline)) bool twill__desk_search(twill__desk *desk, bool fifo,
                                                         uint32_t *slot, uint64_t *lending)
{
    uint64_t cell = 0;
    uint32_t lent;
    for (;;) { /* exit: claimed, or none; each turn is another's claim, or who has the lock */
        *slot = twill__desk_next(desk, fifo, &cell, &lent);
        if (*slot == TWILL__DESK_SLOTS)
            return false;
        if (twill__desk_claim(desk, *slot, cell, lending)) {
            twill__desk_peak(desk, lent + 1);
            return true;
        }
    }
}

/* Is there one slot, the first one? Relaxed: a hint. */
static inline bool twill__desk_single(const twill__desk *desk)
{
    return atomic_load_explicit(&desk->count, memory_order_relaxed) == 1;
}

/* Claims the only slot while returns are LIGHT. False: there are more, or it was not seen to be
   idle. What its cell should be, if it is idle, `done` says: a cell that was just written is slow
   to read. */
static inline bool twill__desk_take_single(twill__desk *desk, uint64_t *lending)
{
    uint64_t done;
    /* relaxed: a hint */
    if (!twill__desk_single(desk) ||
        atomic_load_explicit(&desk->mode, memory_order_relaxed) != TWILL__DESK_LIGHT)
        return false;
    /* acquire: as in twill__desk_look */
    done = atomic_load_explicit(&desk->slot[0].done, memory_order_acquire);
    return twill__desk_claim(
        desk, 0, twill__desk_cell(done >> TWILL__DESK_LENDING_SHIFT, 0, TWILL__DESK_SPLIT),
        lending);
}

/* Claims an idle slot. False: as above. */
static inline bool twill__desk_take(twill__desk *desk, bool fifo, uint32_t *slot, uint64_t *lending)
{
    /* relaxed: what came back last, for the same reason */
    uint64_t cell =
        twill__desk_single(desk) ? atomic_load_explicit(&desk->last, memory_order_relaxed) : 0;
    *slot = 0;
    return twill__desk_take_single(desk, lending) ||
           (cell && twill__desk_claim(desk, 0, cell, lending)) ||
           twill__desk_search(desk, fifo, slot, lending);
}

/* After a claim: who has it. Returns the resource. */
static inline void *twill__desk_sign(twill__desk *desk, uint32_t slot, uint64_t lending,
                                     uint64_t who, const char *file, int line)
{
    twill__desk_site *site = &desk->site[slot];
    atomic_store_explicit(&site->who, who, memory_order_relaxed);
    atomic_store_explicit(&site->file, file, memory_order_relaxed);
    atomic_store_explicit(&site->line, line, memory_order_relaxed);
    /* release: pairs with twill__desk_signed */
    atomic_store_explicit(&site->lending, lending, memory_order_release);
    /* relaxed: the claim synchronises */
    return atomic_load_explicit(&site->resource, memory_order_relaxed);
}

/* After a claim, before that: was it another thread's before? */
static inline void twill__desk_meet(twill__desk *desk, uint32_t slot, uint64_t who)
{
    /* Relaxed, all: a hint. Looked for no longer than needed: another's line is slow to read. */
    if (TWILL__DESK_ALONE && !atomic_load_explicit(&desk->crowd, memory_order_relaxed)) {
        uint64_t last = atomic_load_explicit(&desk->site[slot].who, memory_order_relaxed);
        if (last && last / 2 != who / 2)
            atomic_store_explicit(&desk->crowd, true, memory_order_relaxed);
    }
}

/* Has the borrower of this lending written who he is? Else he is about to. */
static inline bool twill__desk_signed(const twill__desk *desk, uint32_t slot, uint32_t generation)
{
    return (uint32_t)atomic_load_explicit(&desk->site[slot].lending, memory_order_acquire) ==
           generation;
}

/* Where that was; NULL: not known yet. */
static inline void twill__desk_place(const twill__desk *desk, uint32_t slot, uint32_t generation,
                                     twill_lease_info *info)
{
    bool known = twill__desk_signed(desk, slot, generation);
    const twill__desk_site *site = &desk->site[slot];
    /* relaxed: twill__desk_signed synchronises */
    info->file = known ? atomic_load_explicit(&site->file, memory_order_relaxed) : NULL;
    info->line = known ? atomic_load_explicit(&site->line, memory_order_relaxed) : 0;
}

/* The stamp of what comes back now, where it is not the only one: that has 1. */
static __attribute__((noinline)) uint32_t twill__desk_new_stamp(const twill__desk *desk)
{
    /* relaxed: a hint */
    uint32_t count = atomic_load_explicit(&desk->count, memory_order_relaxed);
    uint64_t top = 0;
    for (uint32_t k = 0; k < count; k++) {
        uint64_t raw, cell = twill__desk_look(desk, k, &raw); /* two at once have no order */
        if (twill__desk_state(cell) == TWILL__DESK_IDLE && (!top || twill__desk_later(cell, top)))
            top = cell;
    }
    return twill__desk_stamp(top) + 1;
}

/* Notes that the borrower gives this lending back; 0: not yet, after all. */
static inline void twill__desk_note(twill__desk *desk, uint32_t slot, uint64_t lending)
{
    /* release: pairs with twill__desk_own; and by the two fences with who takes the cells away */
    atomic_store_explicit(&desk->site[slot].back, lending, memory_order_release);
}

/* Is the lending of this generation one that this thread, number `me`, has borrowed and not given
   back? OK: *lending; STALE: it has given it back; EMPTY: the lock decides. */
static inline __attribute__((always_inline)) twill_status
twill__desk_own(const twill__desk *desk, uint32_t slot, uint32_t generation, uint64_t me,
                uint64_t *lending)
{
    /* acquire: pairs with the release in twill__desk_note. What another thread notes here comes
       after what it has signed: so who does not see his own note any more sees that it is not his
       lending any more. */
    uint64_t back = atomic_load_explicit(&desk->site[slot].back, memory_order_acquire);
    /* relaxed: this thread wrote it, or was shown it; or sees another's */
    *lending = atomic_load_explicit(&desk->site[slot].lending, memory_order_relaxed);
    if ((uint32_t)*lending != generation ||
        atomic_load_explicit(&desk->site[slot].who, memory_order_relaxed) / 2 != me)
        return TWILL_EMPTY;
    return back == *lending ? TWILL_STALE : TWILL_OK;
}

/* Gives a lending back, while returns are LIGHT; the last store is the last access. */
static inline __attribute__((always_inline)) twill_status
twill__desk_back_lightly(twill__desk *desk, uint32_t slot, uint32_t generation, uint64_t me,
                         bool single)
{
    uint64_t lending;
    uint32_t stamp = 1;
    twill_status status = twill__desk_own(desk, slot, generation, me, &lending);
    if (status != TWILL_OK)
        return status;
    /* relaxed: a hint */
    if (generation % TWILL__DESK_REST == 0 &&
        atomic_load_explicit(&desk->crowd, memory_order_relaxed))
        return TWILL_EMPTY;
    if (!single)
        stamp = twill__desk_new_stamp(desk);
    twill__desk_note(desk, slot, lending);
    twill__fence_light();
    /* acquire: pairs with the release in twill__resource_set_mode: what was stored to `done` before
       comes before this */
    if (atomic_load_explicit(&desk->mode, memory_order_acquire) != TWILL__DESK_LIGHT) {
        twill__desk_note(desk, slot, 0);
        return TWILL_EMPTY;
    }
    /* release: pairs with the acquire of who borrows it next, or takes the cells away */
    atomic_store_explicit(&desk->slot[slot].done,
                          twill__desk_cell(lending, stamp, TWILL__DESK_IDLE), memory_order_release);
    return TWILL_OK;
}

/* The same by a compare-and-swap, which is the last access. */
static inline twill_status twill__desk_back_warily(twill__desk *desk, uint32_t slot,
                                                   uint32_t generation)
{
    /* What its borrower has signed is what is in the cell, if it is this lending; else the cell, in
       which the borrower's own claim, or 0, comes before his return. Relaxed: guesses for the CAS
       below */
    uint64_t cell = atomic_load_explicit(&desk->site[slot].lending, memory_order_relaxed), idle;
    if ((uint32_t)cell == generation)
        cell = twill__desk_cell(cell, 0, TWILL__DESK_LENT);
    else
        cell = atomic_load_explicit(&desk->slot[slot].cell, memory_order_relaxed);
    for (;;) { /* exit: back, or not here; each turn is who has the lock */
        bool single = twill__desk_single(desk);
        if (!cell || twill__desk_state(cell) == TWILL__DESK_SPLIT)
            return TWILL_EMPTY;
        if (twill__desk_state(cell) != TWILL__DESK_LENT ||
            (uint32_t)(cell >> TWILL__DESK_LENDING_SHIFT) != generation)
            return TWILL_STALE;
        idle = twill__desk_cell(cell >> TWILL__DESK_LENDING_SHIFT,
                                single ? 1 : twill__desk_new_stamp(desk), TWILL__DESK_IDLE);
        if (single) /* relaxed: a guess for who comes next */
            atomic_store_explicit(&desk->last, idle, memory_order_relaxed);
        /* release: pairs with the acquire in twill__desk_claim, or of who takes the cells away */
        if (atomic_compare_exchange_strong_explicit(&desk->slot[slot].cell, &cell, idle,
                                                    memory_order_release, memory_order_relaxed))
            return TWILL_OK;
    }
}

/* The same where returns may be LIGHT later: by the borrower, who notes it; and every so often not
   here. */
static inline twill_status twill__desk_back_noted(twill__desk *desk, uint32_t slot,
                                                  uint32_t generation, uint64_t me)
{
    uint64_t lending;
    twill_status status = twill__desk_own(desk, slot, generation, me, &lending);
    if (status != TWILL_OK)
        return status;
    if (generation % TWILL__DESK_REST == 0)
        return TWILL_EMPTY;
    twill__desk_note(desk, slot, lending);
    status = twill__desk_back_warily(desk, slot, generation);
    if (status == TWILL_EMPTY)
        twill__desk_note(desk, slot, 0);
    return status;
}

/* Gives a lending back: OK; STALE; EMPTY: the lock decides. */
static inline twill_status twill__desk_back(twill__desk *desk, uint32_t slot, uint32_t generation)
{
    uint64_t me = twill__thread_number();
    uint32_t mode;
    if (slot >= TWILL__DESK_SLOTS)
        return TWILL_EMPTY;
    /* acquire: pairs with the release in twill__resource_set_mode: the site */
    mode = atomic_load_explicit(&desk->mode, memory_order_acquire);
    if (mode == TWILL__DESK_LIGHT)
        return twill__desk_back_lightly(desk, slot, generation, me, twill__desk_single(desk));
    if (mode == TWILL__DESK_WARY)
        return twill__desk_back_noted(desk, slot, generation, me);
    return twill__desk_back_warily(desk, slot, generation);
}

/* The same for the only slot, lightly, by a thread that has a number: without a call. False: not
   so. */
static inline bool twill__desk_back_single(twill__desk *desk, uint32_t slot, uint32_t generation)
{
    uint64_t me = twill__thread_number_known();
    /* acquire: as above */
    return me && slot == 0 && twill__desk_single(desk) &&
           atomic_load_explicit(&desk->mode, memory_order_acquire) == TWILL__DESK_LIGHT &&
           twill__desk_back_lightly(desk, 0, generation, me, true) == TWILL_OK;
}

/* ---- by who has the lock and has taken the cells ---- */

typedef struct twill__desk_wait {
    const twill__desk *desk;
    uint32_t slot;
    uint64_t cell; /* split; then what it says */
} twill__desk_wait;

/* Is it known whether it is back? */
static bool twill__desk_settled(void *wait_)
{
    twill__desk_wait *wait = (twill__desk_wait *)wait_;
    /* acquire: pairs with the release in twill__desk_back_lightly */
    uint64_t said = twill__desk_joined(
        wait->cell, atomic_load_explicit(&wait->desk->slot[wait->slot].done, memory_order_acquire));
    /* relaxed: pairs by the two fences */
    uint64_t back = atomic_load_explicit(&wait->desk->site[wait->slot].back, memory_order_relaxed);
    if (twill__desk_state(said) != TWILL__DESK_IDLE &&
        twill__desk_cell(back, 0, TWILL__DESK_LENT) == said)
        return false;
    wait->cell = said;
    return true;
}

/* After the heavy fence: what a split cell of this slot says; a return that is under way is waited
   for. */
static inline uint64_t twill__desk_settle(const twill__desk *desk, uint32_t slot, uint64_t cell)
{
    twill__desk_wait wait = {desk, slot, cell};
    if (!twill__desk_settled(&wait) &&
        !twill__spin_for(twill__desk_settled, &wait, TWILL__SPIN_WAIT, TWILL__SPIN_YIELDS))
        while (!twill__desk_settled(&wait)) /* exit: it has a few steps to go, once it runs */
            twill__doze(TWILL_US(50));
    return wait.cell;
}

/* Returns are not LIGHT any more, and these cells are taken: makes those that are split IDLE or
   LENT. False: the kernel has taken its fence away. */
static __attribute__((noinline)) bool twill__desk_join(twill__desk *desk,
                                                       uint64_t cell[TWILL__DESK_SLOTS])
{
    bool lent = false, fenced = true;
    for (uint32_t k = 0; k < TWILL__DESK_SLOTS; k++) {
        uint64_t said;
        if (twill__desk_state(cell[k]) != TWILL__DESK_SPLIT)
            continue;
        /* acquire: as above */
        said = twill__desk_joined(cell[k],
                                  atomic_load_explicit(&desk->slot[k].done, memory_order_acquire));
        if (twill__desk_state(said) == TWILL__DESK_IDLE)
            cell[k] = said; /* and so it stays: who has borrowed it is through */
        else
            lent = true;
    }
    if (lent)
        fenced = twill__fence_heavy();
    for (uint32_t k = 0; lent && k < TWILL__DESK_SLOTS; k++)
        if (twill__desk_state(cell[k]) == TWILL__DESK_SPLIT)
            cell[k] = twill__desk_settle(desk, k, cell[k]);
    return fenced;
}

/* Before LIGHT cells are shown: so many lendings of the slot have come back. */
static inline void twill__desk_prepare(twill__desk *desk, uint32_t slot, uint64_t lendings,
                                       uint32_t stamp)
{
    /* relaxed: published by the mode, and by the cell */
    atomic_store_explicit(&desk->slot[slot].done,
                          twill__desk_cell(lendings, stamp, TWILL__DESK_IDLE),
                          memory_order_relaxed);
}

#endif

/* Resources are costly and their use is long, so one small lock guards it all, and each promise is
   a sentence about one critical section:
   - a slot that is not FREE is capacity in use; there are never more of them than max;
   - a slot that is TAKEN belongs to one thread, which runs a callback for it, or to one waiter;
   - whatever frees a slot or gives one back ends in twill__resource_settle, which serves the
     oldest waiter that can be served; so while the lock is free, nobody waits beside what he could
     have.
   A plain pool shows its idle and lent slots at the desk (desk.h) while the lock is free and nobody
   waits; whoever enters takes them back into the books first. So under the lock none is SHOWN. */
enum {
    TWILL__RESOURCE_FREE = 0,
    TWILL__RESOURCE_IDLE,
    TWILL__RESOURCE_LENT,
    TWILL__RESOURCE_TAKEN,
    TWILL__RESOURCE_SHOWN
};
#define TWILL__RESOURCE_NONE UINT32_MAX

typedef struct twill__resource_slot {
    void *resource;
    uint64_t lendings; /* so far, of 44 bits; the lowest 32 are the lease's generation */
    uint32_t state;
    uint32_t hotter, colder; /* idle: its neighbours; FREE: hotter is the next free one */
    uint64_t holder;         /* the thread that has borrowed it, or runs a callback for it */
    uint64_t epoch;          /* of the pool, when it was created */
    uint64_t came;           /* as the how manieth it was made or came back; idle: in this order */
    size_t uses;
    twill_ns dies, idle_since, lent_at; /* 0: not measured, or never */
    const char *file;
    int line;
    bool there;      /* it has a resource */
    bool stays;      /* lent: only its holder can give it back */
    bool stuck;      /* its holder waits for ever in this pool, for others than this one's like */
    bool reported;   /* as leaked */
    bool signed_;    /* lent at the desk: its site says by whom, not `holder` */
    bool shown_lent; /* when it was shown */
} twill__resource_slot;

typedef struct twill__resource_borrower { /* an acquire that wants n slots, on its thread's stack */
    twill__node node;
    twill_lease *leases; /* the slots in hand, so far */
    size_t n, got;
    size_t empty; /* of those in hand: without a resource */
    uint64_t thread;
    twill_ns since;    /* it waits since then */
    twill_ns wakes_at; /* the end of a pause that it sleeps no longer than */
    bool right;        /* may create: counted in `creating` */
    bool retry;        /* told to look again; it still stands in the list */
    bool for_ever;     /* waits without deadline and token */
} twill__resource_borrower;

typedef struct twill__resource_turn { /* whom to wake after unlocking */
    twill__wakes wakes;
} twill__resource_turn;

struct twill_resource_pool {
    _Atomic uint32_t lock;
    twill__home home;
    /* under the lock */
    twill__resource_slot *slots;
    uint32_t room; /* slots there are; those from max on are used up when the pool has shrunk */
    uint32_t free, hot, cold;
    uint64_t came; /* how many were made or came back */
    size_t max, total, idle, leased, creating;
    twill__list waiters, drainers;
    twill__node *destroyer;
    unsigned busy; /* calls that take the lock more than once and hold no slot meanwhile */
    bool closed;
    uint64_t epoch;
    twill_ns not_before; /* nobody creates until then; 0: no pause */
    int last_code;       /* of the creation that began the pause */
    uint64_t random;
    twill_resource_pool_stats counts;
    /* set at creation */
    twill_resource_pool_options options;
    bool timed;    /* the clock is read on the fast path */
    bool checked;  /* a resource may be refused to a borrower */
    bool examined; /* or to the pool, when it comes back */
    bool plain;    /* none of these, and few: there is a desk */
    /* under the lock */
    bool shown;  /* slots are at the desk */
    bool rested; /* the last time for long, and for one thread: next time returns are light */
    /* the thread of maintain_every */
    twill__thrd keeper[2]; /* by turns: a callback may end one */
    unsigned keeper_turn;
    _Atomic uint64_t keeper_number;
    twill__list keeper_waits;
    bool kept, stop;  /* it is there; it is to end */
    bool keeper_left; /* the other one has ended, and nobody has joined it */
    twill__desk desk;
};

static inline bool twill__resource_here(const struct twill_resource_pool *pool)
{
    return twill__at_home(pool->home);
}

static inline twill_task twill__resource_task(const struct twill_resource_pool *pool, size_t slot,
                                              twill_until until)
{
    twill_task task = {slot, pool->options.context, UINT_MAX, 0, NULL, until, NULL};
    return task;
}

/* ---- idle slots, under the lock ---- */

static inline void twill__resource_idle_out(struct twill_resource_pool *pool, uint32_t index)
{
    twill__resource_slot *slot = &pool->slots[index];
    if (slot->hotter != TWILL__RESOURCE_NONE)
        pool->slots[slot->hotter].colder = slot->colder;
    else
        pool->hot = slot->colder;
    if (slot->colder != TWILL__RESOURCE_NONE)
        pool->slots[slot->colder].hotter = slot->hotter;
    else
        pool->cold = slot->hotter;
    pool->idle--;
}

/* In its place by `came`: the hottest one, or behind the few that came back since it was taken.
   (What is gathered from the desk counts as coming back: it is behind nothing that somebody has in
   hand, who takes all that is idle before he wants more.) */
static inline void twill__resource_idle_put(struct twill_resource_pool *pool, uint32_t index)
{
    twill__resource_slot *slot = &pool->slots[index];
    uint32_t hotter = TWILL__RESOURCE_NONE, colder = pool->hot;
    while (colder != TWILL__RESOURCE_NONE && pool->slots[colder].came > slot->came) {
        /* exit: each turn goes on to a colder one */
        hotter = colder;
        colder = pool->slots[colder].colder;
    }
    slot->state = TWILL__RESOURCE_IDLE;
    slot->stuck = false;
    slot->hotter = hotter;
    slot->colder = colder;
    if (hotter != TWILL__RESOURCE_NONE)
        pool->slots[hotter].colder = index;
    else
        pool->hot = index;
    if (colder != TWILL__RESOURCE_NONE)
        pool->slots[colder].hotter = index;
    else
        pool->cold = index;
    pool->idle++;
}

/* It comes back now. */
static inline void twill__resource_idle_in(struct twill_resource_pool *pool, uint32_t index)
{
    pool->slots[index].came = ++pool->came;
    twill__resource_idle_put(pool, index);
}

/* ---- the desk ---- */

/* Under the lock: returns come so from now on, unless leases are known to move. */
static inline void twill__resource_set_mode(struct twill_resource_pool *pool, uint32_t mode)
{
    /* relaxed: who has the lock writes it */
    if (atomic_load_explicit(&pool->desk.mode, memory_order_relaxed) != TWILL__DESK_MOVING)
        /* release: pairs with the acquire in twill__desk_back; that they are not LIGHT any more, by
           the fences with twill__desk_back_lightly */
        atomic_store_explicit(&pool->desk.mode, mode, memory_order_release);
}

/* Under the lock: takes all cells away; each of them is IDLE or LENT, or 0 (there was none). */
static inline void twill__resource_take_cells(struct twill_resource_pool *pool,
                                              uint64_t cell[TWILL__DESK_SLOTS])
{
    /* relaxed: who has the lock writes it */
    bool light = atomic_load_explicit(&pool->desk.mode, memory_order_relaxed) == TWILL__DESK_LIGHT;
    pool->shown = false;
    if (light)
        twill__resource_set_mode(pool, TWILL__DESK_WARY);
    for (uint32_t k = 0; k < TWILL__DESK_SLOTS; k++) {
        cell[k] = 0;
        if (k < pool->room && pool->slots[k].state == TWILL__RESOURCE_SHOWN)
            /* acquire: pairs with the release of who gave it back */
            cell[k] = atomic_exchange_explicit(&pool->desk.slot[k].cell, 0, memory_order_acquire);
    }
    if (light && !twill__desk_join(&pool->desk, cell))
        twill__resource_set_mode(pool, TWILL__DESK_MOVING);
}

/* Under the lock: writes into the books what has happened at the desk. */
static __attribute__((noinline)) void twill__resource_gather(struct twill_resource_pool *pool)
{
    uint64_t cell[TWILL__DESK_SLOTS], sum = 0, lendings, lent;
    uint32_t idle[TWILL__DESK_SLOTS], count = 0, place, peak;
    twill__resource_take_cells(pool, cell);
    for (uint32_t k = 0; k < TWILL__DESK_SLOTS && k < pool->room; k++) {
        twill__resource_slot *slot = &pool->slots[k];
        if (slot->state != TWILL__RESOURCE_SHOWN)
            continue;
        lendings = cell[k] >> TWILL__DESK_LENDING_SHIFT;
        lent = (lendings - slot->lendings) & TWILL__DESK_LENDINGS;
        /* less those that would have been 0 */
        lent -= ((lendings >> 32) - (slot->lendings >> 32)) & (TWILL__DESK_LENDINGS >> 32);
        sum += lent;
        pool->counts.acquires += lent;
        pool->counts.releases += lent + slot->shown_lent;
        if (lent) {
            slot->lendings = lendings;
            slot->signed_ = true;
            slot->stuck = slot->reported = false;
        }
        if (twill__desk_state(cell[k]) == TWILL__DESK_LENT) {
            slot->state = TWILL__RESOURCE_LENT;
            pool->counts.releases--;
            pool->leased++;
            continue;
        }
        for (place = count++; place && twill__desk_later(cell[idle[place - 1]], cell[k]); place--)
            idle[place] = idle[place - 1];
        idle[place] = k;
    }
    /* relaxed, both: a hint */
    pool->rested = sum + 1 >= TWILL__DESK_REST &&
                   !atomic_load_explicit(&pool->desk.crowd, memory_order_relaxed);
    atomic_store_explicit(&pool->desk.crowd, false, memory_order_relaxed);
    for (place = 0; place < count; place++)
        twill__resource_idle_in(pool, idle[place]);
    /* relaxed: a figure */
    peak = atomic_load_explicit(&pool->desk.peak, memory_order_relaxed);
    if (peak > pool->counts.leased_peak)
        pool->counts.leased_peak = peak;
}

/* Under the lock: may the next ones come and go at the desk? */
static inline bool twill__resource_calm(const struct twill_resource_pool *pool)
{
    return pool->plain && !pool->waiters.first && !pool->closed && pool->total <= pool->max &&
           pool->room <= TWILL__DESK_SLOTS && pool->max <= pool->options.max_idle;
}

static inline void twill__resource_show_slot(struct twill_resource_pool *pool, uint32_t index,
                                             uint32_t stamp, bool light)
{
    twill__resource_slot *slot = &pool->slots[index];
    uint32_t state = TWILL__DESK_IDLE;
    slot->shown_lent = slot->state == TWILL__RESOURCE_LENT;
    if (slot->shown_lent) {
        state = TWILL__DESK_LENT;
        pool->leased--;
    } else if (light) {
        twill__desk_prepare(&pool->desk, index, slot->lendings, stamp);
    }
    if (light)
        state = TWILL__DESK_SPLIT;
    slot->state = TWILL__RESOURCE_SHOWN;
    pool->shown = true;
    /* relaxed: the cell carries it */
    atomic_store_explicit(&pool->desk.site[index].resource, slot->resource, memory_order_relaxed);
    /* release: pairs with the acquire in twill__desk_take */
    atomic_store_explicit(&pool->desk.slot[index].cell,
                          twill__desk_cell(slot->lendings, light ? 0 : stamp, state),
                          memory_order_release);
}

/* Under the lock, before slots are shown: how their returns shall come. Who was lent one under the
   lock is signed for as at the desk; and once returns are LIGHT, `done` is the borrower's. */
static inline bool twill__resource_show_mode(struct twill_resource_pool *pool, bool light)
{
    /* relaxed: who has the lock writes it */
    light = light && pool->rested &&
            atomic_load_explicit(&pool->desk.mode, memory_order_relaxed) != TWILL__DESK_MOVING;
    for (uint32_t k = 0; k < pool->room; k++) {
        twill__resource_slot *slot = &pool->slots[k];
        if (slot->state != TWILL__RESOURCE_LENT)
            continue;
        if (!slot->signed_) {
            twill__desk_sign(&pool->desk, k, slot->lendings, slot->holder * 2 + slot->stays,
                             slot->file, slot->line);
            slot->signed_ = true;
        }
        if (light)
            twill__desk_prepare(&pool->desk, k, slot->lendings - 1, 0);
    }
    twill__resource_set_mode(pool, light ? TWILL__DESK_LIGHT : TWILL__DESK_WARY);
    return light;
}

/* Under the lock, right before it is given back, and calm: what is idle or lent goes to the desk,
   but what was evicted stays in the books, to end when it comes back. */
static __attribute__((noinline)) void twill__resource_show(struct twill_resource_pool *pool)
{
    uint32_t stamp = 1, count = 0, beside = 0;
    bool light;
    for (uint32_t k = pool->cold; k != TWILL__RESOURCE_NONE; k = pool->slots[k].hotter)
        if (pool->slots[k].epoch != pool->epoch)
            return;
    for (uint32_t k = 0; k < pool->room; k++) {
        if (pool->slots[k].state != TWILL__RESOURCE_FREE)
            count = k + 1;
        beside +=
            pool->slots[k].state == TWILL__RESOURCE_LENT && pool->slots[k].epoch != pool->epoch;
    }
    /* relaxed, all: a hint; a figure; and the cells say what is in them */
    atomic_store_explicit(&pool->desk.full, pool->total == pool->max, memory_order_relaxed);
    atomic_store_explicit(&pool->desk.beside, beside, memory_order_relaxed);
    atomic_store_explicit(&pool->desk.count, count, memory_order_relaxed);
    /* an evicted one comes to the lock, and so do they all until then */
    light = twill__resource_show_mode(pool, !beside && (pool->idle || pool->leased));
    for (uint32_t k = pool->cold; k != TWILL__RESOURCE_NONE; k = pool->slots[k].hotter)
        twill__resource_show_slot(pool, k, stamp++, light);
    pool->hot = pool->cold = TWILL__RESOURCE_NONE;
    pool->idle = 0;
    for (uint32_t k = 0; k < count; k++)
        if (pool->slots[k].state == TWILL__RESOURCE_LENT && pool->slots[k].epoch == pool->epoch)
            twill__resource_show_slot(pool, k, 0, light);
}

/* ---- in and out ---- */

static inline void twill__resource_enter(struct twill_resource_pool *pool,
                                         twill__resource_turn *turn)
{
    twill__lock(&pool->lock);
    turn->wakes.count = 0;
    if (pool->shown)
        twill__resource_gather(pool);
}

/* Under the lock of a closed pool that has nothing left: nobody is inside, or on his way in or
   out. */
static inline bool twill__resource_deserted(const struct twill_resource_pool *pool)
{
    TWILL_ASSERT(pool->closed && !pool->total);
    return !pool->waiters.first && !pool->drainers.first && !pool->busy &&
           !twill__lock_wanted(&pool->lock);
}

static inline void twill__resource_exit(struct twill_resource_pool *pool,
                                        twill__resource_turn *turn)
{
    twill__node *destroyer = pool->destroyer;
    if (destroyer && twill__resource_deserted(pool)) {
        pool->destroyer = NULL;
        /* relaxed: the destroyer takes the lock, which we hold, before it frees */
        atomic_fetch_or_explicit(&destroyer->word, TWILL__GRANTED, memory_order_relaxed);
        twill__wakes_add(&turn->wakes, &destroyer->word);
    }
    if (twill__resource_calm(pool))
        twill__resource_show(pool);
    twill__unlock(&pool->lock);
    twill__wakes_send(&turn->wakes);
}

/* ---- slots, under the lock ---- */

/* The idle slot to lend next. */
static inline uint32_t twill__resource_idle_next(const struct twill_resource_pool *pool)
{
    return pool->options.fifo ? pool->cold : pool->hot;
}

static inline void twill__resource_slot_take(struct twill_resource_pool *pool, uint32_t index,
                                             uint64_t thread)
{
    twill__resource_slot *slot = &pool->slots[index];
    if (slot->state == TWILL__RESOURCE_IDLE)
        twill__resource_idle_out(pool, index);
    slot->state = TWILL__RESOURCE_TAKEN;
    slot->holder = thread;
    slot->stuck = slot->signed_ = false;
}

/* Capacity without a resource; NO_SLOT: there is none. */
static inline uint32_t twill__resource_slot_new(struct twill_resource_pool *pool, uint64_t thread)
{
    uint32_t index = pool->free;
    if (pool->total >= pool->max)
        return TWILL__RESOURCE_NONE;
    TWILL_ASSERT(index != TWILL__RESOURCE_NONE);
    pool->free = pool->slots[index].hotter;
    pool->total++;
    twill__resource_slot_take(pool, index, thread);
    return index;
}

static inline void twill__resource_slot_free(struct twill_resource_pool *pool, uint32_t index)
{
    pool->slots[index].state = TWILL__RESOURCE_FREE;
    pool->slots[index].there = false;
    pool->slots[index].hotter = pool->free;
    pool->free = index;
    pool->total--;
}

/* A TAKEN slot goes back: idle with its resource, where it was in the order, else free. */
static inline void twill__resource_slot_back(struct twill_resource_pool *pool, uint32_t index)
{
    if (pool->slots[index].there)
        twill__resource_idle_put(pool, index);
    else
        twill__resource_slot_free(pool, index);
}

static inline void twill__resource_slot_lend(struct twill_resource_pool *pool, uint32_t index,
                                             twill_lease *lease, uint64_t thread, bool stays)
{
    twill__resource_slot *slot = &pool->slots[index];
    slot->state = TWILL__RESOURCE_LENT;
    slot->lendings = twill__desk_after(slot->lendings) & TWILL__DESK_LENDINGS;
    slot->holder = thread;
    slot->uses++;
    slot->stuck = slot->reported = slot->signed_ = false;
    slot->stays = stays || pool->options.leases_stay;
    slot->lent_at = pool->timed ? twill__clock_now() : 0;
    pool->counts.acquires++;
    if (++pool->leased > pool->counts.leased_peak)
        pool->counts.leased_peak = pool->leased;
    lease->resource = slot->resource;
    lease->pool = pool;
    lease->slot = index;
    lease->generation = (uint32_t)slot->lendings;
    lease->code = 0;
}

/* Why a resource may not be lent (again); 0: it may. (What comes back now is idle since now.) */
static inline int twill__resource_slot_verdict(const struct twill_resource_pool *pool,
                                               const twill__resource_slot *slot, twill_ns now)
{
    const twill_resource_pool_options *options = &pool->options;
    if (pool->closed)
        return TWILL_RESOURCE_CLOSED;
    if (slot->epoch != pool->epoch)
        return TWILL_RESOURCE_EVICTED;
    if (options->max_uses && slot->uses >= options->max_uses)
        return TWILL_RESOURCE_USED_UP;
    if (slot->dies && now >= slot->dies)
        return TWILL_RESOURCE_OLD;
    if (options->max_idle_time && now - slot->idle_since >= options->max_idle_time)
        return TWILL_RESOURCE_IDLE;
    return 0;
}

/* ---- a wait that could never end, under the lock ---- */

/* Does this thread hold it, and nobody else can give it back? */
static inline bool twill__resource_holds(const struct twill_resource_pool *pool, uint32_t index,
                                         uint64_t thread)
{
    const twill__resource_slot *slot = &pool->slots[index];
    const twill__desk_site *site = &pool->desk.site[index];
    if (slot->state == TWILL__RESOURCE_TAKEN)
        return slot->holder == thread;
    if (slot->state != TWILL__RESOURCE_LENT)
        return false;
    if (!slot->signed_)
        return slot->holder == thread && slot->stays;
    /* relaxed: twill__desk_signed synchronises. Not signed yet: it is another thread's */
    return twill__desk_signed(&pool->desk, index, (uint32_t)slot->lendings) &&
           atomic_load_explicit(&site->who, memory_order_relaxed) == thread * 2 + 1;
}

/* Marks what this thread holds as held by one who waits for ever, or not any more. Returns how much
   that is. */
static inline size_t twill__resource_mark(struct twill_resource_pool *pool, uint64_t thread,
                                          bool stuck)
{
    size_t held = 0;
    for (uint32_t k = 0; k < pool->room; k++) {
        if (twill__resource_holds(pool, k, thread)) {
            pool->slots[k].stuck = stuck;
            held++;
        }
    }
    return held;
}

/* Is every slot held by a thread that waits here for ever? Then nothing will come back. */
static inline bool twill__resource_stuck(const struct twill_resource_pool *pool)
{
    if (pool->total < pool->max)
        return false;
    for (uint32_t k = 0; k < pool->room; k++)
        if (pool->slots[k].state != TWILL__RESOURCE_FREE && !pool->slots[k].stuck)
            return false;
    return true;
}

/* ---- who waits, under the lock ---- */

static inline bool twill__resource_may_create(const struct twill_resource_pool *pool)
{
    return pool->creating < pool->options.max_creating &&
           (!pool->not_before || twill__clock_now() >= pool->not_before);
}

/* What is in hand is stuck while more is wanted. Who has his number goes on, if only when he may
   create. */
static inline void twill__resource_mark_hand(struct twill_resource_pool *pool,
                                             const twill__resource_borrower *borrower)
{
    bool stuck = borrower->for_ever && borrower->got < borrower->n;
    for (size_t k = 0; k < borrower->got; k++)
        pool->slots[borrower->leases[k].slot].stuck = stuck;
}

/* What is there, up to n; a resource in place of an empty slot. */
static inline void twill__resource_collect(struct twill_resource_pool *pool,
                                           twill__resource_borrower *borrower)
{
    uint32_t index;
    while (borrower->got < borrower->n) {
        index = twill__resource_idle_next(pool);
        if (index != TWILL__RESOURCE_NONE) {
            twill__resource_slot_take(pool, index, borrower->thread);
        } else if (pool->options.create && (index = twill__resource_slot_new(
                                                pool, borrower->thread)) != TWILL__RESOURCE_NONE) {
            borrower->empty++;
        } else {
            break;
        }
        borrower->leases[borrower->got++].slot = index;
    }
    for (size_t k = 0; borrower->empty; k++) { /* exit: so many of those in hand are empty */
        uint32_t mine = borrower->leases[k].slot;
        TWILL_ASSERT(k < borrower->got);
        index = twill__resource_idle_next(pool);
        if (index == TWILL__RESOURCE_NONE)
            break;
        if (pool->slots[mine].there)
            continue;
        twill__resource_slot_free(pool, mine);
        twill__resource_slot_take(pool, index, borrower->thread);
        borrower->leases[k].slot = index;
        borrower->empty--;
    }
    twill__resource_mark_hand(pool, borrower);
}

/* Has it all that it needs to go on by itself? A right to create is counted, if it needs one. */
static inline bool twill__resource_ready(struct twill_resource_pool *pool,
                                         twill__resource_borrower *borrower)
{
    twill__resource_collect(pool, borrower);
    if (borrower->got < borrower->n)
        return false;
    if (borrower->empty && !borrower->right) {
        if (!twill__resource_may_create(pool))
            return false;
        pool->creating++;
        borrower->right = true;
    }
    return true;
}

/* Gives back what is in hand. */
static inline void twill__resource_give_back(struct twill_resource_pool *pool,
                                             twill__resource_borrower *borrower)
{
    while (borrower->got)
        twill__resource_slot_back(pool, borrower->leases[--borrower->got].slot);
    borrower->empty = 0;
    if (borrower->right)
        pool->creating--;
    borrower->right = false;
}

static inline void twill__resource_waited(struct twill_resource_pool *pool, twill_ns since)
{
    twill_ns waited = twill__clock_now() - since;
    pool->counts.wait_total += waited;
    if (waited > pool->counts.wait_max)
        pool->counts.wait_max = waited;
    pool->counts.waiting--;
}

/* Answers a waiter, and counts its wait. False: it is leaving by itself. */
static inline bool twill__resource_answer(struct twill_resource_pool *pool,
                                          twill__resource_borrower *borrower, twill_status answer,
                                          twill__resource_turn *turn)
{
    twill_ns since = borrower->since; /* whoever is answered no may be gone from then on */
    if (!twill__wakes_grant(&turn->wakes, &pool->waiters, &borrower->node, (int)answer))
        return false;
    twill__resource_waited(pool, since);
    return true;
}

/* Tells the head to look again; it keeps its place. */
static inline void twill__resource_rouse(struct twill_resource_pool *pool,
                                         twill__resource_borrower *borrower,
                                         twill__resource_turn *turn)
{
    borrower->retry = true;
    /* acq_rel: pairs with twill__wait. LEAVING was there: it comes anyway */
    atomic_fetch_or_explicit(&borrower->node.word, TWILL__GRANTED, memory_order_acq_rel);
    twill__wakes_add(&turn->wakes, &borrower->node.word);
    (void)pool;
}

static inline bool twill__resource_leaves(const twill__resource_borrower *borrower)
{
    /* a hint; the grant decides */
    return atomic_load_explicit(&borrower->node.word, memory_order_relaxed) & TWILL__LEAVING;
}

/* One waiter: true: it is served, or answered otherwise, and the next one may be looked at. */
static inline bool twill__resource_serve(struct twill_resource_pool *pool,
                                         twill__resource_borrower *borrower,
                                         twill__resource_turn *turn)
{
    if (borrower->n > pool->max) { /* the pool has shrunk */
        twill__resource_give_back(pool, borrower);
        if (borrower->for_ever)
            (void)twill__resource_mark(pool, borrower->thread, false);
        (void)twill__resource_answer(pool, borrower, TWILL_TOO_BIG, turn);
        return true;
    }
    if (pool->options.barging && borrower->n == 1 && pool->idle) {
        /* not handed over: a newcomer may be faster, and no thread has to run for it meanwhile */
        twill__resource_rouse(pool, borrower, turn);
        return false;
    }
    if (!twill__resource_ready(pool, borrower)) {
        /* a pause has begun, or moved */
        if (borrower->got == borrower->n && pool->not_before &&
            borrower->wakes_at != pool->not_before && pool->creating < pool->options.max_creating)
            twill__resource_rouse(pool, borrower, turn);
        return false;
    }
    if (!twill__resource_answer(pool, borrower, TWILL_OK, turn))
        twill__resource_give_back(pool, borrower); /* it leaves: to the next */
    return true;
}

/* Nothing will come back to those who wait: the youngest of them who holds a lease is told, since
   he can give it back. (There is one, or he looks again: nobody's hand is all there is.) */
static inline void twill__resource_untie(struct twill_resource_pool *pool,
                                         twill__resource_turn *turn)
{
    twill__node *node = pool->waiters.last;
    while (node) { /* exit: each turn goes on to an older one */
        twill__resource_borrower *borrower = (twill__resource_borrower *)node->value;
        node = node->previous;
        if (!borrower->for_ever || borrower->retry ||
            twill__resource_mark(pool, borrower->thread, true) == borrower->got)
            continue; /* all is marked already */
        twill__resource_give_back(pool, borrower);
        (void)twill__resource_mark(pool, borrower->thread, false);
        (void)twill__resource_answer(pool, borrower, TWILL_DEADLOCK, turn);
        return;
    }
}

/* Serves the line, the oldest waiter first, and nobody overtakes it. */
static inline void twill__resource_serve_line(struct twill_resource_pool *pool,
                                              twill__resource_turn *turn)
{
    twill__node *node = pool->closed ? NULL : pool->waiters.first; /* close has answered them */
    while (node) { /* exit: each turn serves one, or passes one that leaves */
        twill__resource_borrower *borrower = (twill__resource_borrower *)node->value;
        twill__node *next = node->next;
        if (borrower->retry)
            break;
        if (!twill__resource_leaves(borrower) && !twill__resource_serve(pool, borrower, turn))
            break;
        node = next;
    }
}

/* Hands on what is free. Every path that frees anything, or makes less of it, ends here. */
static inline void twill__resource_settle(struct twill_resource_pool *pool,
                                          twill__resource_turn *turn)
{
    twill__resource_serve_line(pool, turn);
    if (pool->waiters.first && !pool->closed && twill__resource_stuck(pool)) {
        twill__resource_untie(pool, turn); /* what went into the first hand has closed a circle */
        twill__resource_serve_line(pool, turn);
    }
    if (!pool->total)
        twill__wakes_grant_all(&turn->wakes, &pool->drainers, TWILL_OK);
}

static inline void twill__resource_prepend(twill__list *list, twill__node *node)
{
    TWILL__CHAIN_IN(list->first, list->last, NULL, node, previous, next);
}

#endif

/* ---- the end of a resource ---- */

typedef struct twill__resource_ending {
    struct twill_resource_pool *pool;
    uint32_t slot;
    twill_resource_end why;
    bool keep; /* the slot stays TAKEN */
} twill__resource_ending;

/* After the callback, also after one that has ended its thread. */
static void twill__resource_ended(void *ending_)
{
    twill__resource_ending *ending = (twill__resource_ending *)ending_;
    struct twill_resource_pool *pool = ending->pool;
    twill__resource_turn turn;
    if (!twill__resource_here(pool))
        return;
    twill__resource_enter(pool, &turn);
    pool->counts.destroyed[ending->why]++;
    pool->slots[ending->slot].there = false;
    if (!ending->keep) {
        twill__resource_slot_free(pool, ending->slot);
        twill__resource_settle(pool, &turn);
    }
    twill__resource_exit(pool, &turn);
}

/* The answer of a call that may have run callbacks, and after which the pool may be gone. */
static inline twill_status twill__resource_answered(twill__home home, twill_status status)
{
    return twill__at_home(home) ? status : TWILL_FORKED;
}

/* Destroys the resource of a TAKEN slot, and frees the slot unless it is to be kept. If not, the
   pool may be gone after it. */
static inline void twill__resource_destroy_one(struct twill_resource_pool *pool, uint32_t slot,
                                               void *resource, int why, bool keep)
{
    twill__resource_ending ending = {pool, slot, (twill_resource_end)why, keep};
    twill_task task = twill__resource_task(pool, slot, (twill_until){0, NULL});
    TWILL__GUARD_PUSH(twill__resource_ended, &ending);
    if (pool->options.destroy)
        pool->options.destroy(resource, ending.why, &task);
    TWILL__GUARD_POP(1);
}

/* Under the lock: one who waits for the end goes on with it; the pool stays until he is there. */
static inline void twill__resource_tell_heir(struct twill_resource_pool *pool,
                                             twill__resource_turn *turn)
{
    twill__node *node = pool->drainers.first;
    while (node && !pool->busy) { /* exit: told; one that leaves is put at the end once */
        twill__node *next = node->next;
        pool->busy += twill__wakes_grant(&turn->wakes, &pool->drainers, node, TWILL_EMPTY);
        node = next;
    }
}

static void twill__resource_not_busy(void *pool_)
{
    struct twill_resource_pool *pool = (struct twill_resource_pool *)pool_;
    twill__resource_turn turn;
    if (!twill__resource_here(pool))
        return;
    twill__resource_enter(pool, &turn);
    pool->busy--;
    if (pool->closed && pool->idle && !pool->busy) /* `destroy` has ended its thread */
        twill__resource_tell_heir(pool, &turn);
    twill__resource_exit(pool, &turn);
}

/* Under the lock: an idle resource that is not to stay, TAKEN for this thread; NO_SLOT: none.
   `expired`: also for its age. */
static inline uint32_t twill__resource_pick(struct twill_resource_pool *pool, bool expired,
                                            int *why, void **resource)
{
    uint32_t index = pool->cold;
    *why = 0;
    if (index == TWILL__RESOURCE_NONE)
        return index;
    if (pool->closed)
        *why = TWILL_RESOURCE_CLOSED;
    else if (pool->total > pool->max || pool->idle > pool->options.max_idle)
        *why = TWILL_RESOURCE_SURPLUS;
    else if (expired && pool->checked && pool->idle > pool->options.min_idle)
        *why = twill__resource_slot_verdict(pool, &pool->slots[index],
                                            pool->timed ? twill__clock_now() : 0);
    if (!*why)
        return TWILL__RESOURCE_NONE;
    *resource = pool->slots[index].resource;
    twill__resource_slot_take(pool, index, twill__thread_number());
    return index;
}

typedef struct twill__resource_shed { /* an idle resource that is not to stay */
    uint32_t slot;
    int why;
    void *resource;
} twill__resource_shed;

/* With the lock, which it gives back: ends this one, and all others that are not to stay. */
static __attribute__((noinline)) void twill__resource_end_idle(struct twill_resource_pool *pool,
                                                               twill__resource_shed *shed,
                                                               twill__resource_turn *turn)
{
    pool->busy++; /* the pool stays */
    TWILL__GUARD_PUSH(twill__resource_not_busy, pool);
    while (shed->slot != TWILL__RESOURCE_NONE) { /* exit: each turn takes one; a fork */
        twill__resource_exit(pool, turn);
        twill__resource_destroy_one(pool, shed->slot, shed->resource, shed->why, false);
        if (!twill__resource_here(pool))
            break;
        twill__resource_enter(pool, turn);
        shed->slot = twill__resource_pick(pool, false, &shed->why, &shed->resource);
    }
    if (shed->slot == TWILL__RESOURCE_NONE)
        twill__resource_exit(pool, turn);
    TWILL__GUARD_POP(1);
}

/* With the lock, which it gives back: the way out of every call that may have freed something. Ends
   all that is not to stay; but of those that are only expired, one: upkeep on use stays cheap. */
static inline void twill__resource_leave(struct twill_resource_pool *pool,
                                         twill__resource_turn *turn)
{
    twill__resource_shed shed = {TWILL__RESOURCE_NONE, 0, NULL};
    shed.slot = twill__resource_pick(pool, true, &shed.why, &shed.resource);
    if (shed.slot == TWILL__RESOURCE_NONE)
        twill__resource_exit(pool, turn);
    else
        twill__resource_end_idle(pool, &shed, turn);
}

/* ---- leaks ---- */

/* Tells of each lease that is held for too long, once. Called without the lock, and `busy`. */
static inline void twill__resource_leaks(struct twill_resource_pool *pool)
{
    twill__resource_turn turn;
    twill_lease_info info = {NULL, NULL, 0, 0, 0};
    uint32_t k = 0;
    bool found = pool->options.leak_after != 0;
    while (found && twill__resource_here(pool)) { /* exit: every slot has been looked at; a fork */
        twill_ns now = twill__clock_now();
        found = false;
        twill__resource_enter(pool, &turn);
        for (; k < pool->room && !found; k++) {
            twill__resource_slot *slot = &pool->slots[k];
            if (slot->state != TWILL__RESOURCE_LENT || slot->reported ||
                now - slot->lent_at < pool->options.leak_after)
                continue;
            slot->reported = found = true;
            pool->counts.leaks++;
            info =
                (twill_lease_info){slot->resource, slot->file, slot->line, now - slot->lent_at, k};
        }
        twill__resource_exit(pool, &turn);
        if (found && pool->options.on_leak) {
            twill_task task = twill__resource_task(pool, info.slot, (twill_until){0, NULL});
            pool->options.on_leak(&info, &task);
        }
    }
}

/* The same by somebody who is about to wait, with the lock, which it gives back meanwhile. False:
   this is a child, and there is no lock to hold. */
static inline bool twill__resource_leaks_waiting(struct twill_resource_pool *pool,
                                                 const twill__resource_borrower *borrower,
                                                 twill__resource_turn *turn)
{
    if (!pool->options.leak_after)
        return true;
    for (size_t k = 0; k < borrower->got; k++)
        pool->slots[borrower->leases[k].slot].stuck = false; /* not yet */
    pool->busy++;
    twill__resource_exit(pool, turn);
    TWILL__GUARD_PUSH(twill__resource_not_busy, pool);
    twill__resource_leaks(pool);
    TWILL__GUARD_POP(0);
    if (!twill__resource_here(pool))
        return false;
    twill__resource_enter(pool, turn);
    pool->busy--;
    return true;
}

/* ---- to wait ---- */

/* Under the lock: may this borrower go on, or what is the answer? EMPTY: it has to wait. `front`:
   it comes before all who wait. Only who is first of all waits with something in his hands: else
   two that want several could wait for one another. */
static inline twill_status twill__resource_try(struct twill_resource_pool *pool,
                                               twill__resource_borrower *borrower, bool front,
                                               twill__resource_turn *turn)
{
    twill__node *head = pool->waiters.first;
    twill_status status = TWILL_EMPTY;
    if (pool->closed)
        return TWILL_CLOSED;
    if (borrower->n > pool->max)
        return TWILL_TOO_BIG;
    if (head && !front && !pool->options.barging) {
        if (borrower->got) { /* while this one told of leaks, another has come first */
            twill__resource_give_back(pool, borrower);
            twill__resource_settle(pool, turn);
        }
        return TWILL_EMPTY;
    }
    if (head && front)
        twill__resource_give_back(pool, (twill__resource_borrower *)head->value);
    if (twill__resource_ready(pool, borrower))
        status = TWILL_OK;
    else if (head && !front)
        twill__resource_give_back(pool, borrower);
    if (head && (status == TWILL_OK || !front))
        twill__resource_settle(pool, turn);
    return status;
}

/* Under the lock, about to wait for ever: would it be for ever? Else what it holds is marked. */
static inline bool twill__resource_circle(struct twill_resource_pool *pool,
                                          const twill__resource_borrower *borrower)
{
    size_t held = twill__resource_mark(pool, borrower->thread, true);
    twill__resource_mark_hand(pool, borrower);
    if (!held || (held - borrower->got + borrower->n <= pool->max && !twill__resource_stuck(pool)))
        return false;
    (void)twill__resource_mark(pool, borrower->thread, false);
    return true;
}

/* Under the lock: into the list, where it stands until it is answered or leaves. Returns how long
   it may sleep. */
static inline twill_ns twill__resource_enlist(struct twill_resource_pool *pool,
                                              twill__resource_borrower *borrower, twill_ns deadline,
                                              bool front)
{
    /* it lacks nothing but the right to create, and a pause is the reason */
    bool paused = borrower->got == borrower->n && pool->not_before &&
                  pool->creating < pool->options.max_creating;
    twill__node_init(&borrower->node);
    borrower->node.value = borrower;
    borrower->retry = false;
    borrower->wakes_at = paused ? pool->not_before : 0;
    if (front)
        twill__resource_prepend(&pool->waiters, &borrower->node);
    else
        twill__list_append(&pool->waiters, &borrower->node);
    return paused ? twill__nearer(deadline, pool->not_before) : deadline;
}

/* With the lock. OK: all that the borrower needs is in hand, and the lock is held. Else nothing is
   in hand, and the lock is not held. */
static inline twill_status twill__resource_wait(struct twill_resource_pool *pool,
                                                twill__resource_borrower *borrower,
                                                twill_until until, bool front,
                                                twill__resource_turn *turn)
{
    twill_status status;
    bool listed = false; /* counted among those who wait */
    for (;;) {           /* exit: served, answered, the deadline or the token */
        twill_ns deadline;
        status = twill__resource_try(pool, borrower, front, turn);
        if (status == TWILL_EMPTY && !listed) {
            if (!twill__resource_leaks_waiting(pool, borrower, turn))
                return TWILL_FORKED;
            status = twill__resource_try(pool, borrower, front, turn);
        }
        if (status == TWILL_EMPTY && borrower->for_ever && twill__resource_circle(pool, borrower))
            status = TWILL_DEADLOCK;
        if (status != TWILL_EMPTY)
            break;
        if (!listed) {
            listed = true;
            borrower->since = twill__clock_now();
            pool->counts.waits++;
            if (++pool->counts.waiting > pool->counts.waiting_peak)
                pool->counts.waiting_peak = pool->counts.waiting;
        }
        deadline = twill__resource_enlist(pool, borrower, until.deadline, front);
        twill__resource_exit(pool, turn);
        status = twill__wait_sooner(&borrower->node, deadline, until);
        if (status == TWILL_OK && !borrower->retry) {
            status = (twill_status)borrower->node.answer;
            if (status != TWILL_OK)
                return status; /* the pool may be gone */
            twill__resource_enter(pool, turn);
            listed = false; /* who served it has counted */
            break;
        }
        twill__resource_enter(pool, turn);
        twill__list_remove(&pool->waiters, &borrower->node);
        front = true; /* it keeps its place */
        if (!pool->closed && (status == TWILL_CANCELLED || status == TWILL_TIMEOUT))
            break;
    }
    if (borrower->for_ever)
        (void)twill__resource_mark(pool, borrower->thread, false);
    if (listed)
        twill__resource_waited(pool, borrower->since);
    if (status == TWILL_OK)
        return TWILL_OK;
    pool->counts.timeouts += status == TWILL_TIMEOUT;
    pool->counts.cancelled += status == TWILL_CANCELLED;
    twill__resource_give_back(pool, borrower);
    twill__resource_settle(pool, turn);
    twill__resource_leave(pool, turn);
    return status;
}

/* ---- to make what is in hand fit to be lent ---- */

typedef struct twill__resource_visit { /* an acquire, on its thread's stack */
    struct twill_resource_pool *pool;
    twill__resource_borrower borrower;
    twill_until until;
    bool try_only;
    int doing; /* which callback runs now */
    uint32_t slot;
    void *resource; /* that it is about */
} twill__resource_visit;
enum { TWILL__DOING_NOTHING = 0, TWILL__DOING_VALIDATE, TWILL__DOING_CREATE };

/* Under the lock: a creation has failed. */
static inline void twill__resource_failed(struct twill_resource_pool *pool, int code)
{
    pool->counts.create_failed++;
    if (pool->options.create_pause) {
        pool->not_before = twill__instant_after(twill__clock_now(), pool->options.create_pause);
        pool->last_code = code;
    }
}

/* A callback has ended the thread. */
static void twill__resource_quit(void *visit_)
{
    twill__resource_visit *visit = (twill__resource_visit *)visit_;
    struct twill_resource_pool *pool = visit->pool;
    twill__resource_turn turn;
    if (visit->doing == TWILL__DOING_NOTHING && !visit->borrower.got)
        return; /* with nothing in hand: the pool may be gone */
    if (!twill__resource_here(pool))
        return;
    if (visit->doing == TWILL__DOING_VALIDATE) {
        twill__resource_destroy_one(pool, visit->slot, visit->resource, TWILL_RESOURCE_BROKEN,
                                    true);
        if (!twill__resource_here(pool))
            return;
    }
    twill__resource_enter(pool, &turn);
    if (visit->doing == TWILL__DOING_CREATE)
        twill__resource_failed(pool, 0);
    twill__resource_give_back(pool, &visit->borrower);
    twill__resource_settle(pool, &turn);
    twill__resource_leave(pool, &turn);
}

/* Under the lock: a resource's life begins; its end is drawn now, once. */
static inline void twill__resource_live(struct twill_resource_pool *pool,
                                        twill__resource_slot *slot)
{
    twill_ns lifetime = pool->options.max_lifetime;
    slot->idle_since = twill__clock_now();
    slot->came = ++pool->came;
    slot->dies = 0;
    slot->uses = 0; /* also where it takes the place of one that was refused */
    if (lifetime && lifetime != TWILL_FOREVER) {
        uint64_t most = twill__wide_scaled((uint64_t)lifetime, pool->options.jitter_percent, 100);
        lifetime -= (twill_ns)twill__random_to(&pool->random, most);
        slot->dies = twill_within(lifetime).deadline;
    }
}

/* With the lock, which it gives back meanwhile: a resource for an empty slot in hand, by creation.
   OK; FAILED: *code is its own; FORKED: this is a child, without the lock. */
static inline twill_status twill__resource_create_one(twill__resource_visit *visit, uint32_t index,
                                                      int *code, twill__resource_turn *turn)
{
    struct twill_resource_pool *pool = visit->pool;
    twill_task task = twill__resource_task(pool, index, visit->until);
    twill_ns begun = twill__clock_now();
    uint64_t epoch = pool->epoch; /* one that began before an evict ends like those before it */
    twill__resource_slot *slot;
    visit->resource = NULL;
    visit->slot = index;
    twill__resource_exit(pool, turn);
    visit->doing = TWILL__DOING_CREATE;
    *code = pool->options.create(&visit->resource, &task);
    visit->doing = TWILL__DOING_NOTHING;
    if (!twill__resource_here(pool))
        return TWILL_FORKED;
    twill__resource_enter(pool, turn);
    if (*code != 0) {
        twill__resource_failed(pool, *code);
        return TWILL_FAILED;
    }
    slot = &pool->slots[index];
    pool->not_before = 0;
    pool->counts.created++;
    slot->resource = visit->resource;
    slot->there = true;
    slot->epoch = epoch;
    twill__resource_live(pool, slot);
    pool->counts.create_total += slot->idle_since - begun;
    return TWILL_OK;
}

/* With the lock, which it gives back meanwhile: is this resource fit? OK; EMPTY: no, and it is
   destroyed, its slot has none; FORKED: as above. */
static inline twill_status twill__resource_fit(twill__resource_visit *visit, uint32_t index,
                                               twill__resource_turn *turn)
{
    struct twill_resource_pool *pool = visit->pool;
    twill__resource_slot *slot = &pool->slots[index];
    twill_ns now = pool->timed ? twill__clock_now() : 0;
    int why = twill__resource_slot_verdict(pool, slot, now);
    bool asked = pool->options.validate && (!pool->options.validate_after ||
                                            now - slot->idle_since >= pool->options.validate_after);
    if (!why && !asked)
        return TWILL_OK;
    visit->resource = slot->resource;
    visit->slot = index;
    twill__resource_exit(pool, turn);
    if (!why) {
        twill_task task = twill__resource_task(pool, index, visit->until);
        visit->doing = TWILL__DOING_VALIDATE;
        if (pool->options.validate(visit->resource, &task) != 0)
            why = TWILL_RESOURCE_INVALID;
    }
    visit->doing = TWILL__DOING_NOTHING;
    if (why && twill__resource_here(pool))
        twill__resource_destroy_one(pool, index, visit->resource, why, true);
    if (!twill__resource_here(pool))
        return TWILL_FORKED;
    twill__resource_enter(pool, turn);
    if (!why)
        return TWILL_OK;
    visit->borrower.empty++;
    return TWILL_EMPTY;
}

/* Under the lock: slot k in hand is empty: is there something else for it, or a right to create? */
static inline bool twill__resource_refit(twill__resource_visit *visit, size_t k)
{
    twill__resource_borrower *borrower = &visit->borrower;
    if (!visit->pool->options.create) { /* a fixed set: another one, or none */
        twill__resource_slot_free(visit->pool, borrower->leases[k].slot);
        borrower->leases[k].slot = borrower->leases[--borrower->got].slot;
        borrower->empty--;
    }
    return twill__resource_ready(visit->pool, borrower);
}

/* With the lock. OK: all in hand can be lent, and the lock is held. Else nothing is in hand, and
   the lock is not held. */
static inline twill_status twill__resource_prepare(twill__resource_visit *visit, int *code,
                                                   twill__resource_turn *turn)
{
    struct twill_resource_pool *pool = visit->pool;
    twill__resource_borrower *borrower = &visit->borrower;
    twill_status status = TWILL_OK;
    for (size_t k = 0; k < borrower->n && status == TWILL_OK;) {
        uint32_t index = borrower->leases[k].slot;
        if (pool->closed) {
            status = TWILL_CLOSED;
        } else if (pool->slots[index].there) {
            status = twill__resource_fit(visit, index, turn);
            k += status == TWILL_OK;
            if (status == TWILL_EMPTY)
                status = TWILL_OK; /* it gets another one */
        } else if (!twill__resource_refit(visit, k)) {
            /* neither an idle one nor a right to create: it waits again, first of all */
            if (visit->try_only) {
                status = TWILL_EMPTY;
            } else {
                status = twill__resource_wait(pool, borrower, visit->until, true, turn);
                if (status != TWILL_OK)
                    return status;
                k = 0; /* what it had in hand may have gone to one in front, and be another now */
            }
        } else if (!pool->slots[borrower->leases[k].slot].there) {
            status = twill__resource_create_one(visit, borrower->leases[k].slot, code, turn);
            borrower->empty -= status == TWILL_OK;
            k += status == TWILL_OK;
        }
    }
    if (status == TWILL_FORKED)
        return status;
    if (borrower->right) {
        pool->creating--;
        borrower->right = false;
    }
    if (status == TWILL_OK && pool->closed) /* created too late */
        status = TWILL_CLOSED;
    if (status != TWILL_OK) {
        twill__resource_give_back(pool, borrower);
        twill__resource_settle(pool, turn);
        twill__resource_leave(pool, turn);
    }
    return status;
}

/* ---- at the desk ---- */

/* A borrower who looks for an idle one, and waits nowhere. */
typedef struct twill__resource_glance {
    struct twill_resource_pool *pool;
    uint32_t slot;
    uint64_t lending;
} twill__resource_glance;

static bool twill__resource_glance_again(void *glance_)
{
    twill__resource_glance *glance = (twill__resource_glance *)glance_;
    return twill__desk_take(&glance->pool->desk, glance->pool->options.fifo, &glance->slot,
                            &glance->lending);
}

/* Nothing is idle, nor can be made: one that comes back in a moment costs less than to stand in
   line, and makes no others stand there. Who stands there is not overtaken: then there are no
   cells. */
static __attribute__((noinline)) bool twill__resource_glance_for(twill__resource_glance *glance,
                                                                 twill_until until)
{
    /* relaxed: a hint */
    if (!glance->pool->plain ||
        !atomic_load_explicit(&glance->pool->desk.full, memory_order_relaxed) ||
        twill__over(until) != TWILL_OK)
        return false;
    return twill__spin_for(twill__resource_glance_again, glance, TWILL__SPIN_WAIT,
                           TWILL__SPIN_YIELDS);
}

/* This process's plain pool? */
static inline bool twill__resource_desk_open(const struct twill_resource_pool *pool)
{
    return pool->plain && twill__resource_here(pool);
}

/* What the thread of this number signs with. */
static inline uint64_t twill__resource_desk_who(const struct twill_resource_pool *pool,
                                                uint64_t thread, bool stays)
{
    return thread * 2 + (stays || pool->options.leases_stay);
}

static inline void twill__resource_desk_lend(struct twill_resource_pool *pool, twill_lease *lease,
                                             uint32_t slot, uint64_t lending, uint64_t who,
                                             const char *file, int line)
{
    lease->pool = pool;
    lease->slot = slot;
    lease->generation = (uint32_t)lending;
    lease->code = 0;
    twill__desk_meet(&pool->desk, slot, who);
    lease->resource = twill__desk_sign(&pool->desk, slot, lending, who, file, line);
}

/* One resource without the lock. False: *lease is as before. */
static inline bool twill__resource_desk_acquire(struct twill_resource_pool *pool,
                                                twill_lease *lease, bool stays, const char *file,
                                                int line)
{
    uint64_t lending, who;
    uint32_t slot;
    if (!pool || !lease || !twill__resource_desk_open(pool))
        return false;
    /* asked for before the claim, since a call right after it waits until that is through */
    who = twill__resource_desk_who(pool, twill__thread_number(), stays);
    if (!twill__desk_take(&pool->desk, pool->options.fifo, &slot, &lending))
        return false;
    twill__resource_desk_lend(pool, lease, slot, lending, who, file, line);
    return true;
}

/* The same for the only resource, by a thread that has a number: without a call, which would keep
   what this one does not need. */
static inline bool twill__resource_desk_acquire_single(struct twill_resource_pool *pool,
                                                       twill_lease *lease, const char *file,
                                                       int line)
{
    uint64_t me = twill__thread_number_known(), lending;
    if (!pool || !lease || !me || !twill__resource_desk_open(pool) ||
        !twill__desk_take_single(&pool->desk, &lending))
        return false;
    twill__resource_desk_lend(pool, lease, 0, lending, twill__resource_desk_who(pool, me, false),
                              file, line);
    return true;
}

/* A resource back without the lock: OK or STALE. EMPTY: not so. `single`: the simplest case
   alone. */
static inline twill_status twill__resource_desk_release(struct twill_resource_pool *pool,
                                                        twill_lease *lease, bool single)
{
    twill_status status = TWILL_EMPTY;
    if (!pool || !lease || lease->pool != pool || !twill__resource_desk_open(pool))
        return TWILL_EMPTY;
    if (!single)
        status = twill__desk_back(&pool->desk, lease->slot, lease->generation);
    else if (twill__desk_back_single(&pool->desk, lease->slot, lease->generation))
        status = TWILL_OK;
    if (status == TWILL_OK)
        memset(lease, 0, sizeof *lease);
    return status;
}

/* ---- acquire ---- */

typedef struct twill__resource_order { /* what an acquire asks for */
    twill_lease *leases;
    size_t n;
    twill_until until;
    bool try_only, stays;
    const char *file;
    int line;
} twill__resource_order;

static inline void twill__resource_hand_out(struct twill_resource_pool *pool,
                                            const twill__resource_order *order, uint64_t thread)
{
    for (size_t k = 0; k < order->n; k++) {
        uint32_t index = order->leases[k].slot;
        pool->slots[index].file = order->file;
        pool->slots[index].line = order->line;
        twill__resource_slot_lend(pool, index, &order->leases[k], thread, order->stays);
    }
}

/* With the lock, and all that is asked for in hand: ends what is not to stay, as
   twill__resource_leave, but before anything is lent: `destroy` may end this thread. False: this is
   a child, and there is no lock to hold. */
static inline bool twill__resource_shed_first(struct twill_resource_pool *pool,
                                              twill__resource_turn *turn)
{
    twill__resource_shed shed = {TWILL__RESOURCE_NONE, 0, NULL};
    twill__resource_settle(pool, turn); /* another one may create */
    shed.slot = twill__resource_pick(pool, true, &shed.why, &shed.resource);
    if (shed.slot == TWILL__RESOURCE_NONE)
        return true;
    twill__resource_end_idle(pool, &shed, turn);
    if (!twill__resource_here(pool))
        return false;
    twill__resource_enter(pool, turn);
    return true;
}

/* All but the simplest case; with the lock, which it gives back. */
static __attribute__((noinline)) twill_status
twill__resource_acquire_slowly(struct twill_resource_pool *pool, const twill__resource_order *order,
                               int *code, twill__resource_turn *turn)
{
    twill__resource_visit visit;
    twill__resource_borrower *borrower = &visit.borrower;
    twill_status status = TWILL_OK;
    twill__home home = pool->home;
    memset(&visit, 0, sizeof visit);
    visit.pool = pool;
    visit.until = order->until;
    visit.try_only = order->try_only;
    if (order->try_only)
        visit.until = (twill_until){1, NULL}; /* over: be quick */
    borrower->leases = order->leases;
    borrower->n = order->n;
    borrower->thread = twill__thread_number();
    borrower->for_ever = twill__for_ever(visit.until);
    TWILL__GUARD_PUSH(twill__resource_quit, &visit);
    if (!order->try_only) {
        status = twill__resource_wait(pool, borrower, visit.until, false, turn);
    } else {
        status = twill__resource_try(pool, borrower, false, turn);
        if (status != TWILL_OK) {
            twill__resource_give_back(pool, borrower); /* all that it took: nothing was freed */
            twill__resource_leave(pool, turn);
        }
    }
    if (status == TWILL_OK) {
        status = twill__resource_prepare(&visit, code, turn);
        if (status == TWILL_OK && twill__resource_shed_first(pool, turn)) {
            twill__resource_hand_out(pool, order, borrower->thread);
            borrower->got = 0; /* they are the caller's */
            twill__resource_exit(pool, turn);
        }
    }
    TWILL__GUARD_POP(0);
    return twill__resource_answered(home, status);
}

static inline twill_status twill__resource_acquire(struct twill_resource_pool *pool,
                                                   const twill__resource_order *order, int *code)
{
    twill__resource_turn turn;
    uint32_t index;
    twill__resource_enter(pool, &turn);
    index = twill__resource_idle_next(pool);
    if (order->n == 1 && index != TWILL__RESOURCE_NONE && !pool->checked && !pool->closed &&
        (!pool->waiters.first || pool->options.barging) &&
        pool->slots[index].epoch == pool->epoch) {
        twill__resource_idle_out(pool, index);
        order->leases->slot = index;
        twill__resource_hand_out(pool, order, twill__thread_number());
        twill__resource_exit(pool, &turn);
        return TWILL_OK;
    }
    return twill__resource_acquire_slowly(pool, order, code, &turn);
}

/* ---- release ---- */

enum { TWILL__RESOURCE_GIVE_RELEASE, TWILL__RESOURCE_GIVE_DISCARD, TWILL__RESOURCE_GIVE_DETACH };

typedef struct twill__resource_return {
    struct twill_resource_pool *pool;
    uint32_t slot;
    void *resource;
} twill__resource_return;

/* `reset` has ended its thread. */
static void twill__resource_not_reset(void *back_)
{
    twill__resource_return *back = (twill__resource_return *)back_;
    if (twill__resource_here(back->pool))
        twill__resource_destroy_one(back->pool, back->slot, back->resource, TWILL_RESOURCE_BROKEN,
                                    false);
}

/* Under the lock: is this lease one of ours, and the latest of its slot? */
static inline twill_status twill__resource_lease_check(const struct twill_resource_pool *pool,
                                                       const twill_lease *lease)
{
    const twill__resource_slot *slot = lease->slot < pool->room ? &pool->slots[lease->slot] : NULL;
    if (!slot || slot->state != TWILL__RESOURCE_LENT ||
        (uint32_t)slot->lendings != lease->generation)
        return TWILL_STALE;
    return TWILL_OK;
}

/* Under the lock: a lease comes back. By another thread than the borrower: returns cannot be light
   in this pool. */
static inline void twill__resource_note_return(struct twill_resource_pool *pool, uint32_t index)
{
    const twill__resource_slot *slot = &pool->slots[index];
    uint64_t me = twill__thread_number(), lending;
    bool mine = slot->holder == me;
    if (slot->signed_)
        mine =
            twill__desk_own(&pool->desk, index, (uint32_t)slot->lendings, me, &lending) == TWILL_OK;
    if (pool->plain && !mine)
        twill__resource_set_mode(pool, TWILL__DESK_MOVING);
    else if (slot->signed_)
        twill__desk_note(&pool->desk, index, slot->lendings);
}

/* With the lock, which it gives back: the slot is TAKEN, and its resource comes back or ends. */
static __attribute__((noinline)) void twill__resource_take_back(twill__resource_return *back,
                                                                int why, twill__resource_turn *turn)
{
    struct twill_resource_pool *pool = back->pool;
    twill_task task = twill__resource_task(pool, back->slot, (twill_until){0, NULL});
    if (!why && pool->options.reset) {
        int code = 0;
        twill__resource_exit(pool, turn);
        TWILL__GUARD_PUSH(twill__resource_not_reset, back);
        code = pool->options.reset(back->resource, &task);
        TWILL__GUARD_POP(0);
        if (!twill__resource_here(pool))
            return;
        twill__resource_enter(pool, turn);
        if (pool->timed)
            pool->slots[back->slot].idle_since = twill__clock_now();
        why = code ? TWILL_RESOURCE_INVALID
                   : twill__resource_slot_verdict(pool, &pool->slots[back->slot],
                                                  pool->timed ? twill__clock_now() : 0);
    }
    if (!why && pool->total > pool->max)
        why = TWILL_RESOURCE_SURPLUS;
    if (why) {
        twill__resource_exit(pool, turn);
        twill__resource_destroy_one(pool, back->slot, back->resource, why, false);
        return;
    }
    twill__resource_idle_in(pool, back->slot);
    twill__resource_settle(pool, turn);
    twill__resource_leave(pool, turn);
}

static inline twill_status twill__resource_give(struct twill_resource_pool *pool,
                                                twill_lease *lease, int how, void **resource)
{
    twill__resource_turn turn;
    twill__resource_return back = {pool, lease->slot, NULL};
    twill__resource_slot *slot;
    twill_status status;
    twill_ns now = pool->timed ? twill__clock_now() : 0;
    twill__home home = pool->home;
    int why;
    twill__resource_enter(pool, &turn);
    status = twill__resource_lease_check(pool, lease);
    if (status != TWILL_OK) {
        twill__resource_exit(pool, &turn);
        return status;
    }
    slot = &pool->slots[back.slot];
    twill__resource_note_return(pool, back.slot);
    pool->leased--;
    if (pool->timed) {
        pool->counts.use_total += now - slot->lent_at;
        if (now - slot->lent_at > pool->counts.use_max)
            pool->counts.use_max = now - slot->lent_at;
        slot->idle_since = now;
    }
    pool->counts.releases += how == TWILL__RESOURCE_GIVE_RELEASE;
    pool->counts.discards += how == TWILL__RESOURCE_GIVE_DISCARD;
    pool->counts.detached += how == TWILL__RESOURCE_GIVE_DETACH;
    back.resource = slot->resource;
    memset(lease, 0, sizeof *lease);
    if (how == TWILL__RESOURCE_GIVE_RELEASE && !pool->examined && !pool->waiters.first &&
        !pool->closed && slot->epoch == pool->epoch && pool->total <= pool->max &&
        pool->idle < pool->options.max_idle) {
        twill__resource_idle_in(pool, back.slot);
        twill__resource_exit(pool, &turn);
        return TWILL_OK;
    }
    why = how == TWILL__RESOURCE_GIVE_DISCARD ? (int)TWILL_RESOURCE_BROKEN
                                              : twill__resource_slot_verdict(pool, slot, now);
    twill__resource_slot_take(pool, back.slot, twill__thread_number());
    if (how == TWILL__RESOURCE_GIVE_DETACH) {
        *resource = back.resource;
        twill__resource_slot_free(pool, back.slot);
        twill__resource_settle(pool, &turn);
        twill__resource_exit(pool, &turn);
    } else {
        twill__resource_take_back(&back, why, &turn);
    }
    return twill__resource_answered(home, TWILL_OK);
}

#endif

/* With the lock, which it gives back meanwhile, and for good in a child: ends idle resources for
   which `verdict` has a reason, from the coldest on, while more than `least` are idle. Returns how
   many. `busy`. */
static inline size_t twill__resource_sweep(struct twill_resource_pool *pool, size_t least,
                                           twill__resource_turn *turn)
{
    size_t ended = 0;
    uint32_t index = pool->cold;
    while (index != TWILL__RESOURCE_NONE && pool->idle > least) {
        /* exit: each turn ends one, or goes on to a hotter one; a fork */
        twill__resource_slot *slot = &pool->slots[index];
        void *resource = slot->resource;
        int why = twill__resource_slot_verdict(pool, slot, pool->timed ? twill__clock_now() : 0);
        if (!why) {
            index = slot->hotter;
            continue;
        }
        twill__resource_slot_take(pool, index, twill__thread_number());
        twill__resource_exit(pool, turn);
        twill__resource_destroy_one(pool, index, resource, why, false);
        ended++;
        if (!twill__resource_here(pool))
            break;
        twill__resource_enter(pool, turn);
        index = pool->cold; /* the list may be another one now */
    }
    return ended;
}

/* Under the lock: is an idle resource's time over? */
static inline bool twill__resource_any_expired(const struct twill_resource_pool *pool)
{
    twill_ns now = pool->timed ? twill__clock_now() : 0;
    for (uint32_t k = pool->cold; k != TWILL__RESOURCE_NONE; k = pool->slots[k].hotter)
        if (twill__resource_slot_verdict(pool, &pool->slots[k], now))
            return true;
    return false;
}

/* With the lock, which it gives back meanwhile: one more idle resource. As
   twill__resource_create_one. */
static inline twill_status twill__resource_add_one(twill__resource_visit *visit, int *code,
                                                   twill__resource_turn *turn)
{
    struct twill_resource_pool *pool = visit->pool;
    twill__resource_borrower *borrower = &visit->borrower;
    twill_status status;
    borrower->leases[0].slot = twill__resource_slot_new(pool, borrower->thread);
    borrower->n = borrower->got = borrower->empty = 1;
    borrower->right = true;
    pool->creating++;
    status = twill__resource_create_one(visit, borrower->leases[0].slot, code, turn);
    if (status == TWILL_FORKED)
        return status;
    twill__resource_give_back(pool, borrower); /* idle, or free */
    twill__resource_settle(pool, turn);
    return status;
}

/* Under the lock: may there be one more, since too few are idle, or (`old`) one has expired? */
static inline bool twill__resource_may_fill(const struct twill_resource_pool *pool, bool old)
{
    size_t least = pool->options.min_idle;
    return !pool->closed && pool->total < pool->max && !pool->waiters.first &&
           (pool->idle < least ||
            (pool->idle == least && old && twill__resource_any_expired(pool)));
}

/* Fills up to min_idle; while an expired one is among those, one more, which takes its place. With
   the lock, which it gives back meanwhile, and for good in a child: FORKED. */
static inline twill_status twill__resource_fill(twill__resource_visit *visit, int *code,
                                                twill__resource_turn *turn)
{
    struct twill_resource_pool *pool = visit->pool;
    size_t least = pool->options.min_idle;
    size_t old = least; /* so many may be replaced: not those, too, that were made for them */
    while (twill__resource_may_fill(pool, old != 0)) {
        /* exit: each turn makes one, and replaces at most one that has expired */
        twill_status status = TWILL_OK;
        old -= pool->idle == least;
        if (pool->not_before && twill__clock_now() < pool->not_before) {
            *code = pool->last_code;
            return TWILL_FAILED;
        }
        if (!twill__resource_may_create(pool))
            return TWILL_OK; /* others are at it */
        if (twill_cancel_fired(visit->until.cancel))
            return TWILL_CANCELLED;
        if (twill__expired(visit->until.deadline))
            return TWILL_TIMEOUT;
        status = twill__resource_add_one(visit, code, turn);
        if (status != TWILL_OK)
            return status;
        (void)twill__resource_sweep(pool, least, turn);
        if (!twill__resource_here(pool))
            return TWILL_FORKED;
    }
    return TWILL_OK;
}

typedef struct twill__resource_keeping {
    twill__resource_visit visit;
    twill_lease lease;
    twill_status status;
} twill__resource_keeping;

static void twill__resource_kept(void *keeping_)
{
    twill__resource_keeping *keeping = (twill__resource_keeping *)keeping_;
    twill__resource_quit(&keeping->visit);
    twill__resource_not_busy(keeping->visit.pool);
}

/* noinline: its locals must not stand in the frame of a guard */
static __attribute__((noinline)) void twill__resource_upkeep(twill__resource_keeping *keeping,
                                                             int *code)
{
    struct twill_resource_pool *pool = keeping->visit.pool;
    twill__resource_turn turn;
    twill__resource_leaks(pool);
    if (!twill__resource_here(pool))
        return;
    twill__resource_enter(pool, &turn);
    if (keeping->status == TWILL_OK)
        (void)twill__resource_sweep(pool, pool->options.min_idle, &turn);
    if (keeping->status == TWILL_OK && twill__resource_here(pool))
        keeping->status = twill__resource_fill(&keeping->visit, code, &turn);
    if (twill__resource_here(pool))
        twill__resource_leave(pool, &turn);
}

static inline twill_status twill__resource_maintain(struct twill_resource_pool *pool, int *code,
                                                    twill_until until)
{
    twill__home home = pool->home;
    twill__resource_keeping keeping;
    twill__resource_turn turn;
    *code = 0;
    memset(&keeping, 0, sizeof keeping);
    keeping.visit.pool = pool;
    keeping.visit.until = until;
    keeping.visit.borrower.leases = &keeping.lease;
    keeping.visit.borrower.thread = twill__thread_number();
    twill__resource_enter(pool, &turn);
    pool->busy++;
    if (pool->closed)
        keeping.status = TWILL_CLOSED;
    twill__resource_exit(pool, &turn);
    TWILL__GUARD_PUSH(twill__resource_kept, &keeping);
    twill__resource_upkeep(&keeping, code);
    TWILL__GUARD_POP(0);
    twill__resource_not_busy(pool);
    return twill__resource_answered(home, keeping.status);
}

/* ---- the keeper ---- */

static void twill__resource_keep(void *pool);

/* Under the lock, so that whoever looks for the keeper's handle finds it. */
static inline bool twill__resource_start_keeper(struct twill_resource_pool *pool)
{
    twill__thrd *keeper = &pool->keeper[pool->keeper_turn];
    memset(keeper, 0, sizeof *keeper);
    keeper->fn = twill__resource_keep;
    keeper->arg = pool;
    keeper->cpu = UINT_MAX;
    twill__thread_name(keeper, pool->options.name);
    return twill__thread_start(keeper);
}

/* Under the lock: the keeper to join, since another one has come in its place; or NULL. */
static inline twill__thrd *twill__resource_keeper_left(struct twill_resource_pool *pool)
{
    bool left = pool->keeper_left;
    pool->keeper_left = false;
    return left ? &pool->keeper[!pool->keeper_turn] : NULL;
}

/* A callback has ended the keeper: another one goes on. */
static void twill__resource_keeper_ended(void *pool_)
{
    struct twill_resource_pool *pool = (struct twill_resource_pool *)pool_;
    twill__resource_turn turn;
    if (!twill__resource_here(pool))
        return;
    twill__resource_enter(pool, &turn);
    if (!pool->stop) {
        pool->keeper_turn = !pool->keeper_turn;
        pool->keeper_left = twill__resource_start_keeper(pool);
        if (!pool->keeper_left)
            pool->keeper_turn = !pool->keeper_turn;
    }
    twill__resource_exit(pool, &turn);
}

static __attribute__((noinline)) void twill__resource_keep_on(struct twill_resource_pool *pool)
{
    twill__resource_turn turn;
    twill__thrd *left;
    twill__resource_enter(pool, &turn);
    left = twill__resource_keeper_left(pool);
    twill__resource_exit(pool, &turn);
    if (left)
        twill__thread_join(left);
    twill__resource_enter(pool, &turn);
    while (!pool->stop) { /* exit: destroy says so; a callback has forked, and this is the child */
        twill__node node;
        twill_status status;
        int code;
        twill__node_init(&node);
        twill__list_append(&pool->keeper_waits, &node);
        twill__resource_exit(pool, &turn);
        status = twill__wait(&node, twill_within(pool->options.maintain_every));
        twill__resource_enter(pool, &turn);
        if (status != TWILL_OK)
            twill__list_remove(&pool->keeper_waits, &node);
        if (pool->stop)
            break;
        twill__resource_exit(pool, &turn);
        if (twill__resource_maintain(pool, &code, (twill_until){0, NULL}) == TWILL_FORKED)
            return;
        twill__resource_enter(pool, &turn);
    }
    twill__resource_exit(pool, &turn);
}

static void twill__resource_keep(void *pool_)
{
    struct twill_resource_pool *pool = (struct twill_resource_pool *)pool_;
    /* relaxed: only this thread asks for its own number */
    atomic_store_explicit(&pool->keeper_number, twill__thread_number(), memory_order_relaxed);
    TWILL__GUARD_PUSH(twill__resource_keeper_ended, pool);
    twill__resource_keep_on(pool);
    TWILL__GUARD_POP(0);
}

/* Ends the keeper and joins it. The first caller does, and nobody needs it twice. */
static inline void twill__resource_stop_keeper(struct twill_resource_pool *pool)
{
    twill__resource_turn turn;
    twill__thrd *left;
    bool mine;
    twill__resource_enter(pool, &turn);
    mine = pool->kept;
    pool->kept = false;
    pool->stop = true;
    while (pool->keeper_waits.first) {
        twill__node *node = pool->keeper_waits.first;
        if (!twill__wakes_grant(&turn.wakes, &pool->keeper_waits, node, TWILL_OK))
            break; /* it looks at `stop` by itself */
    }
    left = mine ? twill__resource_keeper_left(pool) : NULL;
    twill__resource_exit(pool, &turn);
    if (left)
        twill__thread_join(left);
    if (mine)
        twill__thread_join(&pool->keeper[pool->keeper_turn]);
}

#endif

TWILL__DEFINE const char *twill_resource_end_name(twill_resource_end why)
{
    static const char *const names[TWILL_RESOURCE_END_COUNT - 1] = {
        "TWILL_RESOURCE_CLOSED",  "TWILL_RESOURCE_IDLE",    "TWILL_RESOURCE_OLD",
        "TWILL_RESOURCE_USED_UP", "TWILL_RESOURCE_INVALID", "TWILL_RESOURCE_BROKEN",
        "TWILL_RESOURCE_EVICTED", "TWILL_RESOURCE_SURPLUS"};
    return (unsigned)why - 1 < sizeof names / sizeof names[0] ? names[why - 1] : "unknown";
}

/* ---- create ---- */

static inline bool twill__resource_options_valid(const twill_resource_pool_options *options,
                                                 size_t max)
{
    if (options->validate_after < 0 || options->max_idle_time < 0 || options->max_lifetime < 0 ||
        options->create_pause < 0 || options->leak_after < 0 || options->maintain_every < 0)
        return false;
    if (!options->create && (options->min_idle || options->max_creating || options->create_pause))
        return false;
    return (options->jitter_percent <= 100 || options->jitter_percent == UINT_MAX) &&
           (options->validate || !options->validate_after) &&
           (options->leak_after || !options->on_leak) && options->min_idle <= max &&
           (!options->max_idle || options->max_idle >= options->min_idle);
}

/* The slots from `from` on are free. */
static inline void twill__resource_free_slots(struct twill_resource_pool *pool, uint32_t from)
{
    for (uint32_t k = pool->room; k-- > from;) {
        memset(&pool->slots[k], 0, sizeof pool->slots[k]);
        pool->slots[k].hotter = pool->free;
        pool->free = k;
    }
}

static inline void twill__resource_init(struct twill_resource_pool *pool,
                                        const twill_resource_pool_options *options, size_t max)
{
    memset(pool, 0, sizeof *pool);
    pool->options = *options;
    pool->max = max;
    pool->home = twill__home_here();
    pool->hot = pool->cold = pool->free = TWILL__RESOURCE_NONE;
    pool->random = twill__random_begin(options->seed, pool);
    if (!options->max_idle)
        pool->options.max_idle = SIZE_MAX; /* never above max */
    if (!options->max_creating)
        pool->options.max_creating = SIZE_MAX;
    if (!options->jitter_percent)
        pool->options.jitter_percent = 10;
    if (options->jitter_percent == UINT_MAX)
        pool->options.jitter_percent = 0;
    pool->timed = options->validate_after || options->max_idle_time || options->max_lifetime ||
                  options->leak_after || options->maintain_every;
    pool->checked =
        options->validate || options->max_idle_time || options->max_lifetime || options->max_uses;
    pool->examined =
        options->reset || options->max_idle_time || options->max_lifetime || options->max_uses;
    pool->plain = !pool->timed && !pool->checked && !pool->examined && max <= TWILL__DESK_SLOTS;
    pool->rested = TWILL__DESK_REST == 1;
    /* relaxed: nobody else has the pool yet */
    if (pool->plain && twill__fence_offered())
        atomic_store_explicit(&pool->desk.mode, TWILL__DESK_WARY, memory_order_relaxed);
}

TWILL__DEFINE twill_status twill_resource_pool_create(twill_resource_pool **out,
                                                      const twill_resource_pool_options *options)
{
    static const twill_resource_pool_options none;
    size_t max;
    twill_resource_pool *pool;
    if (!out)
        return TWILL_INVALID;
    *out = NULL;
    if (!options)
        options = &none;
    max = options->max ? options->max : 8;
    if (!twill__resource_options_valid(options, max))
        return TWILL_INVALID;
    if (max >= UINT32_MAX || max > SIZE_MAX / 2 / sizeof(twill__resource_slot))
        return TWILL_TOO_BIG;
    pool = (twill_resource_pool *)TWILL_MALLOC(sizeof *pool);
    if (!pool)
        return TWILL_NO_MEMORY;
    twill__resource_init(pool, options, max);
    pool->slots = (twill__resource_slot *)TWILL_MALLOC(max * sizeof(twill__resource_slot));
    if (!pool->slots) {
        TWILL_FREE(pool);
        return TWILL_NO_MEMORY;
    }
    pool->room = (uint32_t)max;
    twill__resource_free_slots(pool, 0);
    if (options->maintain_every) {
        twill__lock(&pool->lock);
        pool->kept = twill__resource_start_keeper(pool);
        twill__unlock(&pool->lock);
    }
    if (pool->kept != (options->maintain_every != 0)) {
        TWILL_FREE(pool->slots);
        TWILL_FREE(pool);
        return TWILL_NO_THREAD;
    }
    *out = pool;
    return TWILL_OK;
}

/* Under the lock: as twill__resource_slot_new; also what who waits to create has in hand, and no
   resource is in yet: settle serves him. */
static inline uint32_t twill__resource_slot_to_add(struct twill_resource_pool *pool)
{
    if (pool->total == pool->max && pool->waiters.first)
        twill__resource_give_back(pool, (twill__resource_borrower *)pool->waiters.first->value);
    return twill__resource_slot_new(pool, twill__thread_number());
}

TWILL__DEFINE twill_status twill_resource_pool_add(twill_resource_pool *pool, void *resource)
{
    twill__resource_turn turn;
    twill_status status = TWILL_OK;
    twill__home home;
    uint32_t index;
    if (!pool)
        return TWILL_INVALID;
    if (!twill__resource_here(pool))
        return TWILL_FORKED;
    home = pool->home;
    twill__resource_enter(pool, &turn);
    if (pool->closed) {
        status = TWILL_CLOSED;
    } else if ((index = twill__resource_slot_to_add(pool)) == TWILL__RESOURCE_NONE) {
        status = TWILL_FULL;
        twill__resource_settle(pool, &turn);
    } else {
        twill__resource_slot *slot = &pool->slots[index];
        slot->resource = resource;
        slot->there = true;
        slot->epoch = pool->epoch;
        twill__resource_live(pool, slot);
        pool->counts.added++;
        twill__resource_idle_in(pool, index);
        twill__resource_settle(pool, &turn);
    }
    twill__resource_leave(pool, &turn);
    return twill__resource_answered(home, status);
}

/* ---- acquire, release ---- */

/* With nothing idle at the desk, or no desk. */
static __attribute__((noinline)) twill_status
twill__resource_acquire_one(twill_resource_pool *pool, twill_lease *lease,
                            twill__resource_order order)
{
    twill__resource_glance glance = {NULL, 0, 0};
    twill_lease mine = {NULL, NULL, 0, 0, 0};
    twill_status status;
    int code = 0;
    if (!pool || !lease)
        return TWILL_INVALID;
    if (!twill__resource_here(pool))
        return TWILL_FORKED;
    glance.pool = pool;
    if (!order.try_only && twill__resource_glance_for(&glance, order.until)) {
        twill__resource_desk_lend(
            pool, lease, glance.slot, glance.lending,
            twill__resource_desk_who(pool, twill__thread_number(), order.stays), order.file,
            order.line);
        return TWILL_OK;
    }
    order.leases = &mine;
    order.n = 1;
    status = twill__resource_acquire(pool, &order, &code);
    if (status == TWILL_OK)
        *lease = mine;
    else if (status == TWILL_FAILED)
        lease->code = code;
    return status;
}

static __attribute__((noinline)) twill_status
twill__resource_acquire_any(twill_resource_pool *pool, twill_lease *lease, twill_until until,
                            const char *file, int line)
{
    twill__resource_order order;
    if (twill__resource_desk_acquire(pool, lease, false, file, line))
        return TWILL_OK;
    order = (twill__resource_order){NULL, 1, until, false, false, file, line};
    return twill__resource_acquire_one(pool, lease, order);
}

TWILL__DEFINE twill_status twill_resource_pool_acquire_at(twill_resource_pool *pool,
                                                          twill_lease *lease, twill_until until,
                                                          const char *file, int line)
{
    if (twill__resource_desk_acquire_single(pool, lease, file, line))
        return TWILL_OK;
    return twill__resource_acquire_any(pool, lease, until, file, line);
}

TWILL__DEFINE twill_status twill_resource_pool_try_acquire_at(twill_resource_pool *pool,
                                                              twill_lease *lease, const char *file,
                                                              int line)
{
    twill__resource_order order;
    if (twill__resource_desk_acquire(pool, lease, false, file, line))
        return TWILL_OK;
    order = (twill__resource_order){NULL, 1, {0, NULL}, true, false, file, line};
    return twill__resource_acquire_one(pool, lease, order);
}

TWILL__DEFINE twill_status twill_resource_pool_acquire_many_until(twill_resource_pool *pool,
                                                                  twill_lease *leases, size_t n,
                                                                  twill_until until)
{
    twill__resource_order order = {leases, n, until, false, false, NULL, 0};
    twill_status status = TWILL_OK;
    int code = 0;
    if (!pool || (n && !leases))
        status = TWILL_INVALID;
    else if (!twill__resource_here(pool))
        status = TWILL_FORKED;
    else if (n)
        status = twill__resource_acquire(pool, &order, &code);
    if (status == TWILL_OK || !n || !leases)
        return status;
    memset(leases, 0, n * sizeof *leases);
    leases[0].code = code;
    return status;
}

static __attribute__((noinline)) twill_status
twill__resource_return_of(twill_resource_pool *pool, twill_lease *lease, int how, void **resource)
{
    if (!pool || !lease || lease->pool != pool)
        return TWILL_INVALID;
    if (!twill__resource_here(pool))
        return TWILL_FORKED;
    return twill__resource_give(pool, lease, how, resource);
}

static __attribute__((noinline)) twill_status twill__resource_release_any(twill_resource_pool *pool,
                                                                          twill_lease *lease)
{
    twill_status status = twill__resource_desk_release(pool, lease, false);
    if (status != TWILL_EMPTY)
        return status;
    return twill__resource_return_of(pool, lease, TWILL__RESOURCE_GIVE_RELEASE, NULL);
}

TWILL__DEFINE twill_status twill_resource_pool_release(twill_resource_pool *pool,
                                                       twill_lease *lease)
{
    if (twill__resource_desk_release(pool, lease, true) == TWILL_OK)
        return TWILL_OK;
    return twill__resource_release_any(pool, lease);
}

TWILL__DEFINE twill_status twill_resource_pool_discard(twill_resource_pool *pool,
                                                       twill_lease *lease)
{
    return twill__resource_return_of(pool, lease, TWILL__RESOURCE_GIVE_DISCARD, NULL);
}

TWILL__DEFINE twill_status twill_resource_pool_detach(twill_resource_pool *pool, twill_lease *lease,
                                                      void **resource)
{
    if (!resource)
        return TWILL_INVALID;
    return twill__resource_return_of(pool, lease, TWILL__RESOURCE_GIVE_DETACH, resource);
}

/* ---- one call ---- */

typedef struct twill__resource_use { /* behind task->private_ of `use` */
    twill__call head;
    bool broken;
    twill_resource_pool *pool;
    twill_lease lease;
    twill_report *report;
    twill_ns begun;
} twill__resource_use;

static const twill__call_table *twill__resource_use_table(void)
{
    static const twill__call_table table = {NULL, NULL, NULL, NULL, NULL};
    return &table;
}

static inline void twill__resource_report(twill__resource_use *use, twill_status status, int code,
                                          bool used)
{
    twill_report *report = use->report;
    if (!report)
        return;
    memset(report, 0, sizeof *report);
    report->status = status;
    report->total = 1;
    report->done = status == TWILL_OK;
    report->failed = used && status != TWILL_OK;
    report->skipped = !used;
    report->workers_started = report->workers_used = 1;
    report->wall = twill__clock_now() - use->begun;
    if (status == TWILL_FAILED || status == TWILL_LOST) {
        report->first_error.status = status;
        report->first_error.code = code;
    }
}

/* `use` has ended its thread. */
static void twill__resource_use_lost(void *use_)
{
    twill__resource_use *use = (twill__resource_use *)use_;
    if (!use->lease.pool) /* `use` was over: given back already, and the pool may be gone */
        return;
    if (!twill__resource_here(use->pool))
        return;
    twill__resource_report(use, TWILL_LOST, 0, true);
    (void)twill_resource_pool_discard(use->pool, &use->lease);
}

static __attribute__((noinline)) twill_status twill__resource_use_run(twill__resource_use *record,
                                                                      twill_resource_fn *use,
                                                                      void *context,
                                                                      twill_until until)
{
    twill_task task = {record->lease.slot, context, UINT_MAX, 0, NULL, until, record};
    twill_status status = TWILL_LOST;
    TWILL__GUARD_PUSH(twill__resource_use_lost, record);
    int code = use(record->lease.resource, &task);
    status = twill__resource_answered(record->pool->home, code ? TWILL_FAILED : TWILL_OK);
    twill__resource_report(record, status, code, true);
    if (record->broken)
        (void)twill_resource_pool_discard(record->pool, &record->lease);
    else
        (void)twill_resource_pool_release(record->pool, &record->lease);
    TWILL__GUARD_POP(0);
    return status;
}

TWILL__DEFINE twill_status twill_with_resource(twill_resource_pool *pool, twill_resource_fn *use,
                                               void *context,
                                               const twill_with_resource_options *options)
{
    twill__resource_use record;
    twill__resource_order order = {NULL, 1, {0, NULL}, false, true, NULL, 0};
    twill_status status = TWILL_INVALID;
    memset(&record, 0, sizeof record);
    record.head.table = twill__resource_use_table();
    record.pool = pool;
    record.report = options ? options->report : NULL;
    record.begun = record.report ? twill__clock_now() : 0;
    if (options)
        order.until = options->until;
    if (use && twill__resource_desk_acquire(pool, &record.lease, true, NULL, 0))
        status = TWILL_OK;
    else if (use)
        status = twill__resource_acquire_one(pool, &record.lease, order);
    if (status != TWILL_OK) {
        twill__resource_report(&record, status, record.lease.code, false);
        return status;
    }
    return twill__resource_use_run(&record, use, context, order.until);
}

TWILL__DEFINE void twill_resource_pool_broken(const twill_task *task)
{
    if (task && task->private_ && twill__table_of(task) == twill__resource_use_table())
        ((twill__resource_use *)task->private_)->broken = true;
}

/* ---- upkeep and change ---- */

TWILL__DEFINE twill_status twill_resource_pool_maintain(twill_resource_pool *pool, int *code,
                                                        twill_until until)
{
    twill_status status;
    int first = 0;
    if (code)
        *code = 0;
    if (!pool)
        return TWILL_INVALID;
    if (!twill__resource_here(pool))
        return TWILL_FORKED;
    status = twill__resource_maintain(pool, &first, until);
    if (code)
        *code = first;
    return status;
}

TWILL__DEFINE size_t twill_resource_pool_evict(twill_resource_pool *pool)
{
    twill__resource_turn turn;
    size_t ended = 0;
    if (!pool || !twill__resource_here(pool))
        return 0;
    twill__resource_enter(pool, &turn);
    pool->epoch++;
    pool->busy++;
    TWILL__GUARD_PUSH(twill__resource_not_busy, pool);
    ended = twill__resource_sweep(pool, 0, &turn);
    if (twill__resource_here(pool))
        twill__resource_exit(pool, &turn);
    TWILL__GUARD_POP(1);
    return ended;
}

/* `destroy` may end this thread; noinline: the caller's locals must not stand in the frame of a
   guard */
static __attribute__((noinline)) void
twill__resource_leave_behind(twill_resource_pool *pool, twill__resource_turn *turn, void *slots)
{
    TWILL__GUARD_PUSH(twill__guard_free, slots);
    twill__resource_leave(pool, turn);
    TWILL__GUARD_POP(1);
}

TWILL__DEFINE twill_status twill_resource_pool_resize(twill_resource_pool *pool, size_t max)
{
    twill__resource_turn turn;
    twill__resource_slot *slots = NULL, *old = NULL;
    twill__home home;
    uint32_t room = 0;
    twill_status status = TWILL_OK;
    if (!pool || !max)
        return TWILL_INVALID;
    if (!twill__resource_here(pool))
        return TWILL_FORKED;
    if (max >= UINT32_MAX || max > SIZE_MAX / 2 / sizeof(twill__resource_slot))
        return TWILL_TOO_BIG;
    home = pool->home;
    twill__resource_enter(pool, &turn);
    if (max > pool->room) {
        pool->busy++;
        twill__resource_exit(pool, &turn);
        slots = (twill__resource_slot *)TWILL_MALLOC(max * sizeof *slots);
        room = (uint32_t)max;
        status = slots ? TWILL_OK : TWILL_NO_MEMORY;
        twill__resource_enter(pool, &turn);
        pool->busy--;
    }
    if (status == TWILL_OK && pool->closed)
        status = TWILL_CLOSED;
    old = slots;
    if (status == TWILL_OK) {
        if (slots && room > pool->room) {
            uint32_t from = pool->room;
            memcpy(slots, pool->slots, from * sizeof *slots);
            old = pool->slots;
            pool->slots = slots;
            pool->room = room;
            twill__resource_free_slots(pool, from);
            if (room > TWILL__DESK_SLOTS) /* no desk from now on: nobody looks there again */
                atomic_store_explicit(&pool->desk.full, false, memory_order_relaxed);
        }
        pool->max = max;
        twill__resource_settle(pool, &turn);
    }
    twill__resource_leave_behind(pool, &turn, old);
    return twill__resource_answered(home, status);
}

TWILL__DEFINE size_t twill_resource_pool_leases(twill_resource_pool *pool, twill_lease_info *infos,
                                                size_t max)
{
    twill__resource_turn turn;
    size_t out = 0;
    twill_ns now;
    if (!pool || !twill__resource_here(pool))
        return 0;
    now = twill__clock_now();
    twill__resource_enter(pool, &turn);
    for (uint32_t k = 0; k < pool->room; k++) {
        const twill__resource_slot *slot = &pool->slots[k];
        if (slot->state != TWILL__RESOURCE_LENT)
            continue;
        if (infos && out < max) {
            twill_ns held = slot->lent_at && now > slot->lent_at ? now - slot->lent_at : 0;
            infos[out] = (twill_lease_info){slot->resource, slot->file, slot->line, held, k};
            if (slot->signed_)
                twill__desk_place(&pool->desk, k, (uint32_t)slot->lendings, &infos[out]);
        }
        out++;
    }
    twill__resource_exit(pool, &turn);
    return out;
}

/* ---- end ---- */

/* With the lock, which it gives back. */
static inline void twill__resource_shut(twill_resource_pool *pool, twill__resource_turn *turn)
{
    twill__node *node = pool->waiters.first;
    pool->closed = true;
    while (node) { /* exit: who leaves, or looks again, is passed; the others are answered */
        twill__resource_borrower *borrower = (twill__resource_borrower *)node->value;
        node = node->next;
        twill__resource_give_back(pool, borrower);
        if (!borrower->retry)
            (void)twill__resource_answer(pool, borrower, TWILL_CLOSED, turn);
    }
    twill__resource_leave(pool, turn);
}

TWILL__DEFINE twill_status twill_resource_pool_close(twill_resource_pool *pool)
{
    twill__resource_turn turn;
    twill__home home;
    if (!pool)
        return TWILL_INVALID;
    if (!twill__resource_here(pool))
        return TWILL_FORKED;
    home = pool->home;
    twill__resource_enter(pool, &turn);
    if (pool->closed) {
        twill__resource_exit(pool, &turn);
        return TWILL_CLOSED;
    }
    twill__resource_shut(pool, &turn);
    return twill__resource_answered(home, TWILL_OK);
}

/* With the lock of a closed pool, which it holds at the end: what is idle ends, since `destroy` has
   ended the thread that was to do it. False: this is a child, and there is no lock to hold. */
static inline bool twill__resource_end_rest(twill_resource_pool *pool, twill__resource_turn *turn)
{
    if (!pool->idle || pool->busy) /* busy: who is at it ends them, or tells who waits for it */
        return true;
    pool->busy++;
    TWILL__GUARD_PUSH(twill__resource_not_busy, pool);
    twill__resource_leave(pool, turn);
    TWILL__GUARD_POP(0);
    if (!twill__resource_here(pool))
        return false;
    twill__resource_enter(pool, turn);
    pool->busy--;
    return true;
}

/* Waits until nothing is left, or (EMPTY) until what is idle is left to this one, the heir. */
static inline twill_status twill__resource_drained(twill_resource_pool *pool, twill_until until,
                                                   bool heir)
{
    twill__resource_turn turn;
    twill_status status = TWILL_OK;
    twill__node node;
    twill__resource_enter(pool, &turn);
    pool->busy -= heir;
    if (pool->closed && !twill__resource_end_rest(pool, &turn))
        return TWILL_FORKED;
    if (!pool->closed) {
        status = TWILL_INVALID;
    } else if (pool->total) {
        size_t held = twill__resource_mark(pool, twill__thread_number(), false);
        status = held ? TWILL_DEADLOCK : TWILL_TIMEOUT;
    }
    if (status != TWILL_TIMEOUT) {
        twill__resource_exit(pool, &turn);
        return status;
    }
    twill__node_init(&node);
    twill__list_append(&pool->drainers, &node);
    twill__resource_exit(pool, &turn);
    status = twill__wait(&node, until);
    if (status == TWILL_OK && node.answer == TWILL_OK)
        return TWILL_OK; /* the pool may be gone */
    if (status == TWILL_OK)
        return TWILL_EMPTY;
    twill__resource_enter(pool, &turn);
    twill__list_remove(&pool->drainers, &node);
    twill__resource_exit(pool, &turn);
    return status;
}

TWILL__DEFINE twill_status twill_resource_pool_drain_until(twill_resource_pool *pool,
                                                           twill_until until)
{
    twill_status status;
    if (!pool)
        return TWILL_INVALID;
    if (!twill__resource_here(pool))
        return TWILL_FORKED;
    status = twill__resource_drained(pool, until, false);
    while (status == TWILL_EMPTY) /* exit: each turn ends what a close has left, or waits */
        status = twill__resource_drained(pool, until, true);
    return status;
}

TWILL__DEFINE twill_status twill_resource_pool_drain(twill_resource_pool *pool)
{
    return twill_resource_pool_drain_until(pool, (twill_until){0, NULL});
}

TWILL__DEFINE twill_status twill_resource_pool_destroy(twill_resource_pool *pool)
{
    twill__resource_turn turn;
    twill__node node;
    if (!pool)
        return TWILL_OK;
    if (!twill__resource_here(pool))
        return TWILL_FORKED;
    twill__resource_enter(pool, &turn);
    if (!pool->closed) {
        twill__resource_shut(pool, &turn);
        if (!twill__resource_here(pool))
            return TWILL_FORKED;
        twill__resource_enter(pool, &turn);
    } else if (!twill__resource_end_rest(pool, &turn)) {
        return TWILL_FORKED;
    }
    /* relaxed: only the keeper itself has this number */
    if (atomic_load_explicit(&pool->keeper_number, memory_order_relaxed) ==
        twill__thread_number()) {
        twill__resource_exit(pool, &turn);
        return TWILL_BUSY;
    }
    twill__resource_exit(pool, &turn);
    twill__resource_stop_keeper(pool);
    twill__resource_enter(pool, &turn);
    if (pool->total || pool->busy) {
        twill__resource_exit(pool, &turn);
        return TWILL_BUSY;
    }
    if (!twill__resource_deserted(pool)) {
        twill__node_init(&node);
        pool->destroyer = &node;
        twill__resource_exit(pool, &turn);
        twill__await(&node);
        twill__resource_enter(pool, &turn); /* whoever told us has left the section now */
    }
    twill__unlock(&pool->lock);
    TWILL_FREE(pool->slots);
    TWILL_FREE(pool);
    return TWILL_OK;
}

TWILL__DEFINE void twill_resource_pool_abandon(twill_resource_pool *pool)
{
    if (!pool || twill__resource_here(pool))
        return;
    TWILL_FREE(pool->slots);
    TWILL_FREE(pool);
}

TWILL__DEFINE void twill_resource_pool_get_stats(twill_resource_pool *pool,
                                                 twill_resource_pool_stats *out)
{
    twill__resource_turn turn;
    if (!out)
        return;
    memset(out, 0, sizeof *out);
    if (!pool || !twill__resource_here(pool))
        return;
    twill__resource_enter(pool, &turn);
    *out = pool->counts;
    out->total = pool->total;
    out->idle = pool->idle;
    out->leased = pool->leased;
    out->creating = pool->creating;
    out->max = pool->max;
    twill__resource_exit(pool, &turn);
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
