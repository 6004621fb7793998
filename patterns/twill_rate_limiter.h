/* twill_rate_limiter.h - twill 0.1.0 - SPDX-License-Identifier: MIT OR Unlicense (text at the end)
   GENERATED from patterns/src/rate_limiter.h and its parts. Do not edit it here: edit there, then `make headers`. */

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
    burst           how many may start at once after a pause. 0: 1; from 2^61 on: INVALID. WINDOW
                    has none: leave it 0
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
    counted         true: stats.granted counts each token, for one more atomic addition a grant.
                    WINDOW counts in any case
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
COSTS        BUCKET: a clock reading, one compare-and-swap; on x86-64, when calls come often, the
             tick counter in place of the clock (see CLOCK). WINDOW: a small lock.
FORK         A child goes on with a copy, without the waiters; the limit is a process's. rate_keys
             of a parent: TWILL_FORKED.
CLOCK        Monotonic. On x86-64 try and acquire first ask the tick counter, which is held to the
             clock every 0.1 ms: a grant may be early by up to 0.3 us, or count from so much before;
             what the counter does not grant, the clock decides. A jump forward fills to the burst
             and no more; an earlier instant never makes tokens. After 73 years of one rate it
             stands still; set_rate begins anew.
PITFALLS     A grant says when to START; a slow start is not the limiter's. A limiter of 10 a second
             lets 10 a second through, not 10 in each calendar second: WINDOW is the strict form. In
             a signal handler: twill_rate_limiter_try_acquire alone, where 64-bit atomics are lock-
             free, and there are futexes; it never waits for the lock, and answers EMPTY when
             somebody keeps it. */
#ifndef TWILL_RATE_LIMITER_H
#define TWILL_RATE_LIMITER_H

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
    bool counted;
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
   now), and nothing is taken. Not OK: *out is {0}, of which cancel is false. */
TWILL__DECL twill_status twill_rate_limiter_reserve(twill_rate_limiter *limiter, uint64_t n,
                                                    twill_ns max_wait, twill_reservation *out);
/* True: the tokens are back, and the reservation is gone. Only before `due`, once, and before
   set_rate. False also for one of very many (more than 16 with others behind them), for one in DEBT
   with others behind it, in WINDOW for any but the latest, and in a bucket for one that is due
   before the end of a penalty. */
TWILL__DECL bool twill_rate_limiter_cancel(twill_rate_limiter *limiter,
                                           twill_reservation *reservation);
/* Tokens that were taken and not used; it does not become more than full. In WINDOW none from
   before a set_rate that made it longer, nor while a reservation is still to come. */
TWILL__DECL void twill_rate_limiter_give_back(twill_rate_limiter *limiter, uint64_t n);

/* How many try would get now. */
TWILL__DECL uint64_t twill_rate_limiter_available(const twill_rate_limiter *limiter);
/* How long acquire would wait, behind those who wait now. 0: not at all. TWILL_FOREVER: as things
   stand no wait would help (only another rate, or what is given back). For a Retry-After answer. */
TWILL__DECL twill_ns twill_rate_limiter_wait_time(const twill_rate_limiter *limiter, uint64_t n);

/* Another rate, at once: credit in tokens is kept, up to the new burst; waiters are re-timed (one
   that asks for more than the new burst: TOO_BIG). CLOSED; INVALID: as at init; TOO_BIG: WINDOW,
   beyond starts_count. */
TWILL__DECL twill_status twill_rate_limiter_set_rate(twill_rate_limiter *limiter, uint64_t tokens,
                                                     twill_ns per, uint64_t burst);
/* Nothing before now + wait ("Retry-After"), and then one token (WINDOW: what that has room for);
   later if it was later already.
   Another rate, and what is given back or cancelled, change nothing of that. */
TWILL__DECL void twill_rate_limiter_penalise(twill_rate_limiter *limiter, twill_ns wait);
/* No more tokens: waiters are told CLOSED. A second time: CLOSED. */
TWILL__DECL twill_status twill_rate_limiter_close(twill_rate_limiter *limiter);

typedef struct twill_rate_limiter_stats {
    uint64_t granted;              /* tokens, reserved ones included; 0 unless `counted` */
    uint64_t refused;              /* calls that were told EMPTY, or FULL */
    uint64_t timed_out, cancelled; /* calls */
    /* tokens, those of cancelled reservations included; in a bucket all that give_back was told of,
       also those for which it was too full */
    uint64_t given_back;
    uint64_t lost_in_cancel; /* tokens of cancelled reservations that nobody could use */
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
/* 0: now; TWILL_FOREVER: never. Of one that would be told FULL: there is no room before that. */
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


#ifdef TWILL_IMPLEMENTATION
#ifndef TWILL__RATE_LIMITER_IMPLEMENTATION
#define TWILL__RATE_LIMITER_IMPLEMENTATION

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

/* ---- rate_limiter/asking.h ---- */
/* asking.h: how a call gets its tokens, of one limiter or of several at once. */
#ifndef TWILL__RATE_ASKING_H
#define TWILL__RATE_ASKING_H

/* ---- rate_limiter/limiter.h ---- */
/* limiter.h: a limiter's word, its lock, and the queue of those who wait for tokens. */
#ifndef TWILL__RATE_LIMITER_H
#define TWILL__RATE_LIMITER_H

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

/* ---- rate_limiter/scale.h ---- */
/* scale.h: a rate as exact integers: how many units have come by an instant, and when a number of
   them will have. */
#ifndef TWILL__RATE_SCALE_H
#define TWILL__RATE_SCALE_H

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
#define TWILL__RATE_HIGH   (UINT64_C(7) << 60) /* words stay below: base, V of the span, burst */
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
    return twill__instant_after(scale->origin, (twill_ns)(elapsed + (rest != 0)));
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
    /* rounded up; with a rest it is not UINT64_MAX: that needs per = 2^63, which leaves none */
    scale->factor += rest != 0;
    if (shift > 40)
        shift = 40;
    if (shift > 61 - (int)twill__rate_bits(burst))
        shift = 61 - (int)twill__rate_bits(burst);
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

/* A positive double is an integer times a power of two: the rate is exact. False: NaN, zero,
   negative. (Infinite comes out as 2^1024, which is more than twill__scale_make takes.) */
static inline bool twill__scale_split(double rate, uint64_t *tokens, int *power)
{
    uint64_t bits;
    int exponent;
    if (!(rate > 0))
        return false;
    memcpy(&bits, &rate, sizeof bits);
    exponent = (int)(bits >> 52 & 0x7ff);
    *tokens = bits & ((UINT64_C(1) << 52) - 1);
    if (exponent)
        *tokens |= UINT64_C(1) << 52;
    *power = (exponent ? exponent : 1) - 1075;
    return true;
}

#endif

/* The word is a point on the axis of units: tokens up to it are taken. Where V has passed it, the
   bucket is full. Bit 63, SLOW, sends everybody to the lock: while somebody works under it, or
   waits, or for good (closed, WINDOW). So one compare-and-swap on the word takes tokens, and
   whoever has the lock and has set SLOW has the limiter for himself.

   Why a compare-and-swap cannot succeed with the scale of another rate. Whoever changes the rate
   sets SLOW, then stores the scale, `base` last (release). A reader loads `base` first, the rest,
   the word, and `base` again (acquire). What it has of an older scale than the first `base` is
   nothing, since that was stored last. If it has something of a newer one, then it comes after
   SLOW, so the word is SLOW, or of the newer rate, and then the second `base` is another. From the
   word on the exchange guards: no word of a rate is a word of an older one, since each begins above
   all of them (`highest`). */
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
    /* what the fast paths read: the scale of the rate, which changes under SLOW only, and where V
       was at a tick, and how it goes on: gain units a tick, times 2^44. No tick: not known */
    _Atomic uint64_t tick, v, gain;
    _Atomic uint64_t burst;
    _Atomic uint32_t shift, drop;
    _Atomic uint64_t base, factor;
    _Atomic int64_t origin;
    /* set at init */
    uint32_t magic;
    uint8_t kind, oversize;
    bool barging, strict, counted;
    twill_ns begun;
    uint64_t max_waiters;
    /* under the lock; they keep what is read and what is written without it a line apart */
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
    twill_ns not_before;     /* the end of the penalty; INT64_MIN: none */
    twill_ns held;           /* until then a head that wanted others, too, stood before the rest */
    /* A change of rate is written here first, then carried out: a child process that was forked in
       the middle carries it out again. */
    uint64_t new_start, new_base, new_factor, new_burst;
    twill_ns new_origin;
    uint32_t new_shift, new_drop;
    _Atomic uint32_t changing;
    uint32_t holes;
    twill__tempo tempo;
    /* what the fast path writes */
    _Atomic uint64_t word;
    _Atomic uint64_t granted, refused; /* counters */
    _Atomic uint32_t lock;
    _Atomic uint32_t generation; /* of the process */
    _Atomic uint32_t flags;      /* written under the lock */
    _Atomic uint32_t clock;
    /* under the lock */
    union {
        twill__rate_hole hole[TWILL__RATE_HOLES]; /* BUCKET */
        struct {                                  /* WINDOW: a ring of starts */
            twill_ns *starts;
            uint64_t room, tokens, written; /* written: starts ever, those given back apart */
            uint64_t kept;                  /* of them, those that stay */
            twill_ns per;
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
    scale.base = atomic_load_explicit(&me->base, memory_order_acquire);
    scale.origin = atomic_load_explicit(&me->origin, memory_order_acquire);
    scale.factor = atomic_load_explicit(&me->factor, memory_order_acquire);
    scale.burst = atomic_load_explicit(&me->burst, memory_order_acquire);
    scale.shift = atomic_load_explicit(&me->shift, memory_order_acquire);
    scale.drop = atomic_load_explicit(&me->drop, memory_order_acquire);
    return scale;
}

static inline void twill__rate_rescale(twill__rate *me, const twill__scale *scale)
{
    /* release: pairs with the acquire in twill__rate_scale, and in twill__rate_quick, which ends
       when there is another tick than when it began */
    atomic_store_explicit(&me->tick, 0, memory_order_relaxed);
    atomic_store_explicit(&me->origin, scale->origin, memory_order_release);
    atomic_store_explicit(&me->factor, scale->factor, memory_order_release);
    atomic_store_explicit(&me->burst, scale->burst, memory_order_release);
    atomic_store_explicit(&me->shift, scale->shift, memory_order_release);
    atomic_store_explicit(&me->drop, scale->drop, memory_order_release);
    atomic_store_explicit(&me->base, scale->base, memory_order_release);
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
   -1: look under the lock. What happens but once in a while goes there, too, and the word is read
   last: little stands between it and the exchange. */
static inline int twill__rate_fast(twill__rate *me, uint64_t *n, twill_ns now, bool some)
{
    twill__scale scale = twill__rate_scale(me);
    uint64_t elapsed = (uint64_t)now - (uint64_t)scale.origin, burst = scale.burst >> scale.shift;
    uint64_t v, word, from, next, take = *n;
    if ((some ? !burst : take - 1 >= burst) || now < scale.origin || elapsed > TWILL__RATE_SPAN)
        return -1;
    v = scale.base + (twill__wide_product(elapsed << 2, scale.factor).high >> scale.drop);
    /* acquire, here and below: pairs with the release of whoever had the limiter */
    word = atomic_load_explicit(&me->word, memory_order_acquire);
    for (;;) { /* exit: an answer; a failed exchange is another call's success */
        if ((word & TWILL__RATE_SLOW) ||
            atomic_load_explicit(&me->base, memory_order_acquire) != scale.base)
            return -1;
        from = word > v ? word : v;
        if (some) {
            burst = from - v < scale.burst ? (scale.burst - (from - v)) >> scale.shift : 0;
            take = take < burst ? take : burst;
        }
        next = from + (take << scale.shift);
        if (!take || next - v > scale.burst)
            return TWILL_EMPTY;
        /* acq_rel: what came before tokens were given back comes before what they are used for */
        if (atomic_compare_exchange_weak_explicit(&me->word, &word, next, memory_order_acq_rel,
                                                  memory_order_acquire))
            break;
        take = *n;
    }
    if (me->counted)
        atomic_fetch_add_explicit(&me->granted, take, memory_order_relaxed);
    *n = take;
    return TWILL_OK;
}

/* ---- the lock ---- */

static inline void twill__rate_keep(twill__rate *me, uint64_t word, memory_order order)
{
    bool slow = me->first || (twill__rate_flags(me) & TWILL__RATE_CLOSED) || me->kind ||
                /* under the lock */
                atomic_load_explicit(&me->clock, memory_order_relaxed) == TWILL__RATE_UNBORN;
    atomic_store_explicit(&me->word, slow ? word | TWILL__RATE_SLOW : word, order);
}

/* In a forked child nobody waits, and nobody holds the lock. False: somebody is about to put it
   right, perhaps the thread that this signal handler has interrupted. */
static inline bool twill__rate_adopt(twill__rate *me)
{
    int turn = twill__adopt_turn(&me->generation);
    uint64_t word;
    if (turn <= 0)
        return turn == 0;
    me->first = me->last = NULL;
    me->waiting = 0;
    me->queued.high = me->queued.low = 0;
    /* relaxed: twill__adopted publishes all of it */
    atomic_fetch_and_explicit(&me->flags, TWILL__RATE_CLOSED, memory_order_relaxed);
    word = atomic_load_explicit(&me->word, memory_order_relaxed) & ~TWILL__RATE_SLOW;
    if (atomic_load_explicit(&me->changing, memory_order_relaxed)) {
        twill__rate_change(me);
        word = me->new_start;
        atomic_store_explicit(&me->changing, 0, memory_order_relaxed);
    }
    twill__rate_keep(me, word, memory_order_relaxed);
    atomic_store_explicit(&me->lock, 0, memory_order_relaxed);
    twill__adopted(&me->generation);
    return true;
}

/* The first call that asks for tokens says whose clock it is. The caller's: time begins now. */
static inline void twill__rate_born(twill__rate *me, uint32_t clock, twill_ns now)
{
    twill_ns begun = atomic_load_explicit(&me->origin, memory_order_relaxed); /* under the lock */
    atomic_store_explicit(&me->clock, clock, memory_order_relaxed);
    if (clock != TWILL__RATE_CALLERS)
        return;
    me->latest = now;
    if (me->not_before > begun) /* a penalty lasts as long as it would have */
        me->not_before = twill__instant_after(now, twill__rate_between(begun, me->not_before));
    /* as in twill__rate_rescale; a new base, since the scale is a new one. Nobody but us changes a
       word that is SLOW */
    atomic_store_explicit(&me->origin, now, memory_order_release);
    atomic_fetch_add_explicit(&me->word, 1, memory_order_relaxed);
    /* under the lock */
    atomic_store_explicit(&me->base, atomic_load_explicit(&me->base, memory_order_relaxed) + 1,
                          memory_order_release);
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
    while (!twill__rate_adopt(me)) /* exit: as in twill__adopt */
        twill__yield();
    twill__lock(&me->lock);
    return twill__rate_seize(me, clock, now);
}

/* Without waiting for the lock, but for some yields: so a try may stand in a signal handler, even
   one that has interrupted the holder. */
static inline bool twill__rate_try_lock(twill__rate *me, int tries)
{
    for (;;) { /* exit: locked, or not within so many tries */
        bool ours = twill__rate_adopt(me);
        /* acquire: pairs with the release in twill__unlock */
        uint32_t word = atomic_load_explicit(&me->lock, memory_order_relaxed);
        if (ours && !(word & 1) &&
            atomic_compare_exchange_strong_explicit(&me->lock, &word, word | 1,
                                                    memory_order_acquire, memory_order_relaxed))
            return true;
        if (--tries <= 0)
            return false;
        twill__yield();
    }
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

/* ---- by ticks ---- */

#if TWILL__TEMPO
enum { TWILL__RATE_GAIN = 44 }; /* fraction bits of `gain`: a span of ticks still fits */

/* With the lock: the clock was read between two ticks, so that is where V is. */
static inline void twill__rate_anchor(twill__rate *me, twill_ns now, uint64_t before,
                                      uint64_t after)
{
    twill__scale scale = twill__rate_scale(me);
    uint64_t gain;
    /* under the lock */
    if (atomic_load_explicit(&me->clock, memory_order_relaxed) != TWILL__RATE_REAL)
        return;
    /* release: pairs with the acquire in twill__rate_quick, as in twill__rate_rescale */
    atomic_store_explicit(&me->tick, 0, memory_order_relaxed);
    if (!twill__tempo_anchor(&me->tempo, now, before, after))
        return;
    gain = twill__wide_shifted(twill__wide_product(scale.factor, me->tempo.factor),
                               62 + 32 - TWILL__RATE_GAIN + scale.drop);
    atomic_store_explicit(&me->v, twill__scale_at(&scale, now), memory_order_release);
    atomic_store_explicit(&me->gain, gain, memory_order_release);
    atomic_store_explicit(&me->tick, after, memory_order_release);
}

/* The clock; on the way an anchor, if the lock is free: nobody waits, nor does a signal handler. */
static __attribute__((noinline, cold)) twill_ns twill__rate_clock(twill__rate *me, uint64_t before)
{
    twill_ns now = twill__clock_now();
    uint64_t after = twill__ticks();
    if (!me->kind && twill__rate_try_lock(me, 1)) {
        twill__rate_anchor(me, now, before, after);
        twill__unlock(&me->lock);
    }
    return now;
}

/* As twill__rate_fast, for n tokens, with the time of the counter (platform/tempo.h): between the
   reading and the exchange there is one product. False: they are not there, by a hair or at all, or
   there is no anchor; *now is the clock, to look closer. All that was read belongs together, and to
   the word, if the tick is still the same after the word was read: whoever changes any of it takes
   the tick away first. */
static inline bool twill__rate_quick(twill__rate *me, uint64_t n, twill_ns *now)
{
    /* acquire, all: pairs with the releases in twill__rate_anchor and twill__rate_rescale */
    uint64_t tick = atomic_load_explicit(&me->tick, memory_order_acquire);
    uint64_t v = atomic_load_explicit(&me->v, memory_order_acquire);
    uint64_t gain = atomic_load_explicit(&me->gain, memory_order_acquire);
    uint64_t burst = atomic_load_explicit(&me->burst, memory_order_acquire);
    uint32_t shift = atomic_load_explicit(&me->shift, memory_order_acquire);
    uint64_t ticks = twill__ticks(), word, next;
    if (!tick || ticks - tick >= TWILL__TEMPO_SPAN) {
        *now = twill__rate_clock(me, ticks);
        return false;
    }
    v += (ticks - tick) * gain >> TWILL__RATE_GAIN;
    /* acquire, here and below: pairs with the release of whoever had the limiter */
    word = atomic_load_explicit(&me->word, memory_order_acquire);
    do { /* exit: an answer; a failed exchange is another call's success */
        next = (word > v ? word : v) + (n << shift);
        if (n - 1 >= burst >> shift || (word & TWILL__RATE_SLOW) || next - v > burst ||
            atomic_load_explicit(&me->tick, memory_order_acquire) != tick) {
            *now = twill__clock_now();
            return false;
        }
        /* acq_rel: as in twill__rate_fast */
    } while (!atomic_compare_exchange_weak_explicit(&me->word, &word, next, memory_order_acq_rel,
                                                    memory_order_acquire));
    if (me->counted)
        atomic_fetch_add_explicit(&me->granted, n, memory_order_relaxed);
    return true;
}
#else
static inline bool twill__rate_quick(twill__rate *me, uint64_t n, twill_ns *now)
{
    (void)me;
    (void)n;
    *now = twill__clock_now();
    return false;
}
#endif

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
    TWILL__CHAIN_IN(me->first, me->last, me->last, ask, previous, next);
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
    TWILL__CHAIN_OUT(me->first, me->last, ask, previous, next);
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
    twill_ns per = me->u.window.per, due = now;
    if (index >= tokens) {
        due = twill__instant_after(*twill__rate_window_start(me, index - tokens), per);
        due = due > now ? due : now;
    }
    if (rounds)
        due = twill__instant_after(
            due, rounds > (uint64_t)(TWILL_FOREVER / per) ? TWILL_FOREVER : (twill_ns)rounds * per);
    return due > me->not_before ? due : me->not_before;
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
   window before it; not one that has become longer since: `kept` are those of before. */
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

#endif

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
   came, so that a late wake-up costs no rate; strict: from now. While the head waited for another
   limiter nothing was possible, and what came then beyond the burst is lost. */
static inline twill_ns twill__ask_since(const twill__ask *ask, const twill__asking *call,
                                        twill_ns now)
{
    if (!call->since || (ask->rate->strict && ask->rate->oversize != TWILL_RATE_SPLIT))
        return now;
    return ask->rate->held > call->since ? ask->rate->held : call->since;
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

/* `held`: see the field; the instant at which it became possible for a call that wants others, too;
   else 0. */
static inline void twill__ask_take(twill__ask *ask, twill_ns from, twill_ns at, twill_ns held)
{
    twill__rate *me = ask->rate;
    if (me->kind) {
        twill__rate_window_take(me, ask->n, at);
    } else {
        twill__scale scale = twill__rate_scale(me);
        uint64_t needs, word = twill__ask_from(ask, &scale, 0, from, &needs) + ask->cost;
        bool split = me->oversize == TWILL_RATE_SPLIT && ask->cost > scale.burst;
        /* more than a burst did not lie there by then */
        uint64_t least = twill__scale_at(&scale, held) + (split ? scale.burst : ask->cost);
        ask->word = held ? twill__rate_most(word, least) : word;
    }
    if (held)
        me->held = held;
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

/* The instant at which a waiter of several limiters, ready now, could first have been served; 0: it
   has one, or did not wait. */
static inline twill_ns twill__asking_held(const twill__asking *call, twill_ns now)
{
    twill_ns at = call->since;
    if (!at || call->count == 1)
        return 0;
    for (size_t k = 0; k < call->count; k++) {
        const twill__ask *ask = &call->asks[k];
        twill_ns one = twill__ask_due(ask, 0, twill__ask_since(ask, call, now), call->since);
        at = one > at ? one : at;
    }
    return at;
}

/* Takes all, or nothing. */
static inline bool twill__asking_take(twill__asking *call, twill_ns now)
{
    twill_ns held;
    for (size_t k = 0; k < call->count; k++) {
        twill__ask *ask = &call->asks[k];
        bool turn = call->since ? ask->rate->first == ask : twill__ask_queue_open(ask);
        if (!turn || !twill__ask_ready(ask, twill__ask_since(ask, call, now), now))
            return false;
    }
    held = twill__asking_held(call, now);
    for (size_t k = 0; k < call->count; k++)
        twill__ask_take(&call->asks[k], twill__ask_since(&call->asks[k], call, now), now, held);
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
    return twill__past(until.deadline, now) ? (int)TWILL_TIMEOUT : -1;
}

/* Returns whom to wake. */
static inline _Atomic uint32_t *twill__asking_leave(const twill__asking *call, twill__ask *ask,
                                                    int status, twill_ns now)
{
    if (status != TWILL_OK && call->count > 1 && ask->rate->first == ask)
        ask->rate->held = now;
    return twill__rate_remove(ask);
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
            now = twill__clock_now();
            for (size_t k = 0; k < call->count; k++)
                wake[k] = twill__asking_leave(call, &call->asks[k], status, now);
        }
    }
    twill__asking_count(call, (twill_status)status, now);
    twill__asking_exit(call);
    for (size_t k = 0; k < call->count; k++)
        twill__rate_wake(wake[k]);
    return (twill_status)status;
}

#endif

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
    if (twill__adopt(&me->generation)) {
        me->first = me->last = NULL;
        me->waiting = 0;
        atomic_store_explicit(&me->lock, 0, memory_order_relaxed);
        twill__adopted(&me->generation);
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
    for (; node; node = next) { /* exit: one that leaves is put at the end once */
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
    twill__home home;
    uint32_t buckets; /* a power of two, and the number of chains */
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

static inline bool twill__keys_any_spare(struct twill_rate_keys *keys)
{
    bool any;
    twill__lock(&keys->lock);
    any = keys->spare != TWILL__KEYS_NONE;
    twill__unlock(&keys->lock);
    return any;
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

/* Is there an entry for one more key? What others sweep meanwhile, and do not take, is spare. */
static inline bool twill__keys_room(struct twill_rate_keys *keys, uint64_t v)
{
    return twill__keys_any_spare(keys) || twill__keys_sweep_all(keys, v) ||
           twill__keys_any_spare(keys);
}

/* When V has reached that, a full table may have room; not before. */
static inline uint64_t twill__keys_soonest(struct twill_rate_keys *keys)
{
    uint64_t soonest = UINT64_MAX;
    for (uint32_t s = 0; s < TWILL__KEYS_SHARDS; s++) {
        twill__lock(&keys->shard[s].lock);
        soonest = keys->shard[s].soonest < soonest ? keys->shard[s].soonest : soonest;
        twill__unlock(&keys->shard[s].lock);
    }
    return soonest == UINT64_MAX ? 0 : soonest; /* others have swept all: now */
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

/* It was due later than at once when it became one: so its end lies above a burst. */
static inline uint64_t twill__rate_hole_needs(const twill__rate_hole *hole,
                                              const twill__scale *scale)
{
    return hole->end - scale->burst;
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
    twill__ask_take(ask, now, due, 0);
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

/* V at the end of the penalty, or at `now` if that is later. */
static inline uint64_t twill__rate_penalty(const twill__rate *me, const twill__scale *scale,
                                           twill_ns now)
{
    twill_ns until = me->not_before > now ? me->not_before : now;
    uint64_t v = twill__scale_at(scale, until);
    /* V is rounded down: not a moment earlier */
    return until > now && twill__scale_when(scale, v) < until ? v + 1 : v;
}

/* Then there is one token. */
static inline uint64_t twill__rate_penalty_word(const twill__scale *scale, uint64_t v)
{
    return v + scale->burst - (UINT64_C(1) << scale->shift);
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
                                                const twill_reservation *reservation,
                                                const twill__scale *scale, twill_ns now)
{
    uint64_t end = reservation->private_words[0], cost = reservation->private_words[1];
    uint64_t penalty = twill__rate_penalty(me, scale, now);
    if (*word != end) {
        if ((reservation->private_words[2] & TWILL__RESERVED_DEBT) ||
            me->holes == TWILL__RATE_HOLES || end - scale->burst < penalty)
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
    if (me->not_before > now)
        *word = twill__rate_most(*word, twill__rate_penalty_word(scale, penalty));
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
    if (me->kind) {
        back = reservation->private_words[0] == me->u.window.written;
        if (back)
            twill__rate_window_untake(me, n);
    } else {
        twill__scale scale = twill__rate_scale(me);
        twill__rate_holes_expire(me, &scale, now);
        n >>= scale.shift;
        back = twill__rate_unreserve_bucket(me, word, reservation, &scale, now);
    }
    reservation->private_words[2] = 0; /* not again */
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
        written -= me->u.window.kept;
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
    twill_ns now = twill__rate_now(me), until = twill__instant_after(now, wait);
    if (until > me->not_before)
        me->not_before = until;
    if (!me->kind) {
        twill__scale scale = twill__rate_scale(me);
        uint64_t v = twill__rate_penalty(me, &scale, now);
        *word = twill__rate_most(*word, twill__rate_penalty_word(&scale, v));
        twill__rate_floor(me, *word, v);
        twill__rate_holes_lose(me, scale.shift);
    }
}

/* ---- another rate ---- */

/* `value`, in units of 2^-from tokens, in those of 2^-to; rounded up. */
static inline uint64_t twill__rate_units(uint64_t value, unsigned from, unsigned to)
{
    if (from >= to)
        return (value >> (from - to)) + ((value & ((UINT64_C(1) << (from - to)) - 1)) != 0);
    return value >> (64 - (to - from)) ? UINT64_MAX : value << (to - from);
}

/* Begins `next`, with the same credit in tokens, at most its burst; in a penalty, with that of its
   end. Returns the new word. */
static inline uint64_t twill__rate_replace(twill__rate *me, uint64_t word, twill__scale next,
                                           twill_ns now)
{
    twill__scale old = twill__rate_scale(me);
    uint64_t v = twill__rate_penalty(me, &old, now), gone = word > v ? word - v : 0, used;
    bool kept = me->floor_v > twill__scale_at(&old, now);
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
        /* After years, or soon where bursts are large: words come again, so an exchange would be
           mistaken that sleeps until there is the very same one. But not this base: who has read
           something of both rates finds that out. */
        next.base = me->highest = old.base < TWILL__RATE_REBASE / 2 ? old.base + 1 : 0;
    me->new_start = twill__rate_penalty(me, &next, now) + used;
    if (me->new_start >= TWILL__RATE_HIGH)
        me->new_start = TWILL__RATE_HIGH - 1;
    me->floor = kept ? me->new_start : 0; /* what was reserved comes, whatever the rate */
    me->floor_v = kept && me->new_start > next.burst ? me->new_start - next.burst : 0;
    me->new_origin = next.origin;
    me->new_base = next.base;
    me->new_factor = next.factor;
    me->new_burst = next.burst;
    me->new_shift = next.shift;
    me->new_drop = next.drop;
    /* release: only after what it is about; read by a child process, whose copy of the memory then
       has that, too */
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
    me->counted = o->counted || o->kind;
    me->max_waiters = o->max_waiters;
    me->begun = twill__clock_now();
    me->not_before = INT64_MIN;
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
    if ((flags & TWILL__RATE_WAITED) && !me->barging &&
        (me->kind || twill__ask_cost(ask) == TWILL_OK))
        return TWILL_EMPTY; /* TOO_BIG is certain under the lock alone, beside a change of rate */
    if (!twill__rate_try_lock(me, 64))
        return TWILL_EMPTY;
    ask->word = twill__rate_seize(me, clock, now);
    return TWILL_OK;
}

/* What the word alone does not decide. Apart, so that a try pays for no more than it does. */
__attribute__((cold)) static inline twill_status twill__rate_try_slow(twill__rate *me, uint64_t n,
                                                                      uint32_t clock, twill_ns now)
{
    twill__ask ask = {.rate = me, .n = n};
    twill__asking call = {.asks = &ask, .count = 1};
    twill_status status;
    if (n == 0)
        return TWILL_OK;
    status = twill__rate_try_enter(&ask, clock, now);
    if (status == TWILL_OK) {
        status = twill__asking_check(&call);
        if (status == TWILL_OK && !twill__asking_take(&call, now))
            status = TWILL_EMPTY;
        twill__rate_exit(me, ask.word);
    }
    return status;
}

static inline twill_status twill__rate_try(twill__rate *me, uint64_t n, uint32_t clock,
                                           twill_ns now)
{
    int status;
    /* a hint for an assertion */
    TWILL_ASSERT((atomic_load_explicit(&me->clock, memory_order_relaxed) & ~clock) == 0);
    status = twill__rate_fast(me, &n, now, false);
    if (status < 0)
        status = (int)twill__rate_try_slow(me, n, clock, now);
    if (status == (int)TWILL_EMPTY)
        atomic_fetch_add_explicit(&me->refused, 1, memory_order_relaxed); /* a count */
    return (twill_status)status;
}

TWILL__DEFINE twill_status twill_rate_limiter_try_acquire(twill_rate_limiter *limiter, uint64_t n)
{
    twill__rate *me = twill__rate_of(limiter);
    twill_ns now;
    if (!me)
        return TWILL_INVALID;
    return twill__rate_quick(me, n, &now) ? TWILL_OK
                                          : twill__rate_try(me, n, TWILL__RATE_REAL, now);
}

TWILL__DEFINE twill_status twill_rate_limiter_try_acquire_at(twill_rate_limiter *limiter,
                                                             uint64_t n, twill_ns now)
{
    twill__rate *me = twill__rate_of(limiter);
    return me ? twill__rate_try(me, n, TWILL__RATE_CALLERS, now) : TWILL_INVALID;
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
    twill_ns now;
    if (!me)
        return TWILL_INVALID;
    if (n == 0 || twill__rate_quick(me, n, &now) ||
        twill__rate_fast(me, &n, now, false) == TWILL_OK)
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
    if (out)
        memset(out, 0, sizeof *out);
    if (!me || !out)
        return TWILL_INVALID;
    if (n == 0) {
        out->due = now;
        return TWILL_OK;
    }
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
    out->granted = me->counted ? atomic_load_explicit(&me->granted, memory_order_relaxed) : 0;
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
            if (per > me->u.window.per) /* see twill__rate_window_untake */
                me->u.window.kept = me->u.window.written;
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
        o->barging || o->strict_spacing || o->max_waiters || o->counted)
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
    keys->home = twill__home_here();
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
    if (!twill__at_home(keys->home))
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
        if (answer < 0) /* what others have swept, and not taken, is spare */
            more = twill__keys_sweep_all(keys, v) || twill__keys_any_spare(keys);
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
    if (!entry && !twill__keys_room(keys, from))
        needs = twill__keys_soonest(keys);
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
