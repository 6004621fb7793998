/* twill_pipeline.h - twill 0.1.0 - SPDX-License-Identifier: MIT OR Unlicense (text at the end)
   GENERATED from patterns/src/pipeline.h and its parts. Do not edit it here: edit there, then `make headers`. */

/* twill: pipeline - items stream through a chain of stages, each with its own workers and order.
   SPDX-License-Identifier: MIT OR Unlicense
   Build: cc -std=c11 -pthread. In one .c file: #define TWILL_IMPLEMENTATION before the include.

WHEN TO USE IT
    Each item goes through several steps that differ in what they need: ten threads that fetch, as
    many as there are CPUs that compute, one that saves in the order of the input. Item k may be in
    the last stage while item k+1 is in the first; memory stays bounded; the report says which stage
    holds up the rest. Results and errors are those of the serial loop.
WHEN NOT
    One step: parallel_map. Threads that you write yourself: producer_consumer. Stages far below a
    microsecond: put some steps into one stage, or group items with a batch stage.

EXAMPLE:
#include <stdio.h>

#define TWILL_IMPLEMENTATION
#include "twill_pipeline.h"

static int count(void *out, const twill_task *task)
{
    if (task->index == 100)
        return twill_task_stop(task);                   // the end
    *(int *)out = (int)task->index;
    return 0;
}

static int process(const void *in, void *out, const twill_task *task)
{
    int i = *(const int *)in;
    if (i % 2)
        return twill_pipeline_filter(task);             // no output
    *(long *)out = (long)i * i;
    return 0;                                           // not 0: this item has failed
}

static int save(const void *in, void *out, const twill_task *task)
{
    (void)out;                                          // the last stage: a sink
    *(long *)task->context += *(const long *)in;        // in order, so no lock
    return 0;
}

int main(void)
{
    long sum = 0;
    const twill_stage stages[] = {
        { .name = "process", .work = process, .out_size = sizeof(long), .workers = 4 },
        { .name = "save", .work = save, .kind = TWILL_STAGE_IN_ORDER, .context = &sum },
    };
    twill_status status = twill_pipeline_run(count, sizeof(int), stages, 2, NULL);
    printf("%s, sum %ld\n", twill_status_name(status), sum);
    return 0;
}
END OF EXAMPLE
OUTPUT:
TWILL_OK, sum 161700
END OF OUTPUT

STAGES (twill_stage; zeroed fields have the meaning said here)
    name            for your own reports; kept as a pointer
    work, batch     exactly one of them. work is a function of parallel_map's shape: one item in,
                    one output. batch gets n items side by side and makes its outputs by emit
    out_size        bytes of an output; 0: the stage consumes, and only the last one may. What the
                    last stage of a run writes, if its out_size is not 0, nobody takes
    kind            PARALLEL; IN_ORDER: one at a time, numbers rising; SERIAL: one at a time
    workers         PARALLEL: calls at once, 0: the CPUs. Other kinds: 0 or 1
    buffer          pieces that may wait before it: the stage before it is not started beyond that.
                    Raised to what one call brings, and to what a batch needs to be full. 0: only
                    the tokens limit it. Not applied before IN_ORDER stages
    outputs_max     outputs a call, by emit. 0: one (batch: one an item). The memory before a stage
                    is tokens x the product of all outputs_max before it. Not with map
    batch_max       the largest batch, 0: 16
    linger          how long a batch may wait for more, from its first item on. 0: it goes as it is;
                    TWILL_FOREVER: only when it is full, or nothing more can come
    keep_going      a failing item is counted and left out, whatever on_error says. It still makes
                    the answer FAILED
    drop            gets each input that this stage will never see: CANCELLED, or FAILED after an
                    error. task->index: its number, worker UINT_MAX
    context         task->context in this stage; NULL: run.context

OPTIONS (twill_pipeline_options; NULL: defaults)
    run             workers: threads for all stages, 0: the sum of the stages' workers, no more than
                    tokens. A call counts the caller, an object starts so many. on_error: LOWEST by
                    default. statuses and codes: with map. Stages of a nested call with workers 0
                    run on the threads of the call around it
    tokens          items inside at once; 0: three times the sum of the stages' workers. 1: the
                    serial loop
    dead_letter     sees each input whose call has failed, after it; context: run.context. Not what
                    is LOST
    report, stage_stats   filled at the end (object: by destroy). stage_stats: one a stage

WHAT A CALLBACK MAY SAY
    return code     not 0: the item has failed
    twill_pipeline_filter, twill_task_skip     no output; it counts as done, or as skipped
    twill_pipeline_emit                        one more output, up to outputs_max. A call that
                    emits and returns 0 does not also deliver `out`; one that fails or filters has
                    withdrawn what it emitted
    twill_task_stop the stream ends before this item: lower ones are finished, this one has no
                    output, higher ones are dropped. The answer is OK. In a source: the end
    An output that was begun before filter, failure or stop is the callback's own business.

ORDER AND NUMBERS
    Items are numbered from 0 by the source; outputs inherit the number, several of one item also a
    sub-number. An IN_ORDER stage sees (number, sub-number) rise, without waiting for what was
    filtered or has failed. Outputs of a batch: the k-th is of the k-th item; with outputs_max set
    all are of its lowest. With an IN_ORDER last stage exactly what the serial loop delivers is
    delivered, also when it ends early; without one, some above the end may be out already.

ERRORS
    By default like a stop at the failing item, and FAILED is the answer: lower items go on and may
    fail lower, so report.run.first_error is the serial loop's, with any number of threads.
    ON_ERROR_FIRST drops all at once; COLLECT and keep_going leave the item out; LIMIT begins to
    stop at failure max_errors. A failing source ends the stream. A batch that fails, fails all its
    items. A callback that ends its thread: its item is LOST.
    Answers: OK, FAILED, CANCELLED, TIMEOUT; refusals: INVALID, TOO_BIG, NO_MEMORY, NO_THREAD
    (strict), CLOSED (the pool), FORKED; DEADLOCK: join, stop, destroy from a callback, and a push
    from a stage when nobody is left who could make room. No worker_start succeeded: FAILED, index
    SIZE_MAX.
    total == done + failed + skipped, done includes filtered. Each input that was stored is seen
    by its stage, or by `drop`, exactly once.

FIGURES (twill_stage_stats)
    in, out, filtered, failed, dropped       inputs seen, outputs, ...
    busy            time in calls, summed; `longest` of them (calls below four microseconds are
                    timed several at once, and judged by what they usually take)
    starved, held   nothing ran: since nothing was there to run; since there was no room behind
    waiting, _peak  before it, now and at most; reorder_peak: of these, for an earlier number
    running, _peak  calls at once
    The bottleneck has the largest busy / workers. More workers there help, until another one is
    it, or busy / (wall x workers) of all is far below 1: then the source is.

THREADS      All functions by any thread; destroy last. A stage's calls may run on any thread;
             those of a SERIAL or IN_ORDER stage happen one after the other, so their context needs
             no lock. Workers share the stages: the latest one that can go is served first.
BLOCKS       run, map, join; push while no token is free. All of these work meanwhile, as long as
             they have to wait: a deadline ends the help, too, after the call that runs. No worker
             ever waits for room. A callback may block: others take over the rest.
ALLOCATES    One block at the beginning. Nothing later.
OWNERSHIP    Items are bytes in the pipeline's memory, as aligned as their type (up to 64 bytes):
             `in` is the callback's during the call; what it points to is what the stages make of
             it.
MEMORY       Stage k on an item happens before stage k+1, drop or dead_letter on it; every callback
             before run or join returns.
COSTS        One turn under a lock for a burst: up to 256 quick items, 50 us of them, and no more
             than tokens / (workers + 1); one atomic exchange an item and stage.
FORK         In a child all functions answer FORKED; abandon frees.
PITFALLS     A call that returns 0 and has emitted nothing delivers `out`: for no output, filter.
             Without `drop`, pointers in dropped items leak. The user's `linger` is watched by idle
             workers: when all are busy, the batch waits for the first of them. In a signal handler
             nothing here may be called but twill_cancel_request on the run's token. A pipeline of
             an object needs a join, or destroy drops what is inside. */
#ifndef TWILL_PIPELINE_H
#define TWILL_PIPELINE_H

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

/* Makes one item. task->index: its number. The end: return twill_task_stop(task). */
typedef int twill_source_fn(void *out, const twill_task *task);
/* n items side by side; outputs by twill_pipeline_emit. task->index: the first one's number. */
typedef int twill_stage_batch_fn(const void *items, size_t n, const twill_task *task);

typedef enum twill_stage_kind {
    TWILL_STAGE_PARALLEL = 0,
    TWILL_STAGE_IN_ORDER, /* one at a time, by number */
    TWILL_STAGE_SERIAL    /* one at a time, in any order */
} twill_stage_kind;

typedef struct twill_stage { /* see STAGES above */
    const char *name;
    twill_map_fn *work; /* exactly one of work and batch */
    twill_stage_batch_fn *batch;
    size_t out_size;
    twill_stage_kind kind;
    unsigned workers;
    size_t buffer;
    size_t outputs_max;
    size_t batch_max;
    twill_ns linger;
    bool keep_going;
    twill_drop_fn *drop;
    void *context;
} twill_stage;

typedef struct twill_stage_stats { /* see FIGURES above */
    uint64_t in, out, filtered, failed, dropped;
    twill_ns busy, starved, held, longest;
    size_t waiting, waiting_peak, reorder_peak;
    unsigned running, running_peak;
} twill_stage_stats;

typedef struct twill_pipeline_report {
    twill_report run;    /* total: items taken from the source, or pushed */
    uint64_t delivered;  /* outputs that left the last stage */
    uint64_t filtered;   /* items done that ended without one */
    size_t failed_stage; /* where first_error happened; SIZE_MAX: nowhere, or in the source */
    size_t bottleneck;   /* the stage whose busy time a worker is the largest */
    size_t in_flight_peak;
} twill_pipeline_report;

typedef struct twill_pipeline_options { /* see OPTIONS above */
    twill_run run;
    size_t tokens;
    void (*dead_letter)(size_t stage, void *in, int code, const twill_task *task);
    twill_pipeline_report *report;
    twill_stage_stats *stage_stats;
} twill_pipeline_options;

/* ---- one call ---- */

/* From a source. Returns when all that it has made has ended. */
TWILL__DECL twill_status twill_pipeline_run(twill_source_fn *source, size_t source_size,
                                            const twill_stage *stages, size_t n_stages,
                                            const twill_pipeline_options *options);

/* From an array to an array: results[i] is what became of items[i]; untouched, if nothing did.
   result_size: the last stage's out_size. Without stages: a copy. */
TWILL__DECL twill_status twill_pipeline_map(const void *items, size_t item_size, void *results,
                                            size_t result_size, size_t n, const twill_stage *stages,
                                            size_t n_stages, const twill_pipeline_options *options);

/* ---- inside callbacks ---- */

/* No output: `return twill_pipeline_filter(task);`. In a source: nothing for now, ask again. */
TWILL__DECL int twill_pipeline_filter(const twill_task *task);

/* One more output, copied; it travels on when the call has returned 0. TOO_BIG: beyond
   outputs_max, and nothing is taken. INVALID: not in a stage that has outputs. From the callback's
   own thread. */
TWILL__DECL twill_status twill_pipeline_emit(const twill_task *task, const void *out);

/* ---- the caller is the source ---- */

typedef struct twill_pipeline twill_pipeline;

/* TWILL_OK: *out is the pipeline. Else *out is NULL: INVALID, TOO_BIG, NO_MEMORY, NO_THREAD
   (strict), CLOSED (the pool), FORKED. */
TWILL__DECL twill_status twill_pipeline_create(twill_pipeline **out, size_t item_size,
                                               const twill_stage *stages, size_t n_stages,
                                               const twill_pipeline_options *options);

/* One item in: for ever, without waiting (FULL), or until. CLOSED: no more items, the caller keeps
   this one. */
TWILL__DECL twill_status twill_pipeline_push(twill_pipeline *pipeline, const void *item);
TWILL__DECL twill_status twill_pipeline_try_push(twill_pipeline *pipeline, const void *item);
TWILL__DECL twill_status twill_pipeline_push_until(twill_pipeline *pipeline, const void *item,
                                                   twill_until until);

/* No more items; what is inside is finished. A second one: CLOSED. */
TWILL__DECL twill_status twill_pipeline_close(twill_pipeline *pipeline);

/* Drops what has not started, tells what runs; does not wait. Again, or too late: TWILL_OK. */
TWILL__DECL twill_status twill_pipeline_cancel(twill_pipeline *pipeline);

/* Closes, helps, waits until all has ended: how it ended. From a callback: DEADLOCK. join_until may
   answer TIMEOUT or CANCELLED before that: nothing is lost, join again. */
TWILL__DECL twill_status twill_pipeline_join(twill_pipeline *pipeline);
TWILL__DECL twill_status twill_pipeline_join_until(twill_pipeline *pipeline, twill_until until);

/* Both phases: closes, waits until `drain`, cancels what is left, waits until `join`. OK: all has
   ended; TIMEOUT or CANCELLED: callbacks still run, out->stuck of them. `out` may be NULL. */
TWILL__DECL twill_status twill_pipeline_stop(twill_pipeline *pipeline, twill_until drain,
                                             twill_until join, twill_stopped *out);

/* Figures: live, or final after a join. Each of them may be NULL; stages: one a stage. NULL, or a
   parent process's pipeline: *out is empty, and stages stay as they were. */
TWILL__DECL void twill_pipeline_get_stats(twill_pipeline *pipeline, twill_pipeline_report *out,
                                          twill_stage_stats *stages);

/* Cancels, waits for the callbacks, frees. NULL: TWILL_OK. From a callback: DEADLOCK. */
TWILL__DECL twill_status twill_pipeline_destroy(twill_pipeline *pipeline);

/* In a forked child alone: frees, no callbacks. Elsewhere it does nothing. */
TWILL__DECL void twill_pipeline_abandon(twill_pipeline *pipeline);

#ifdef __cplusplus
}
#endif
#endif


#ifdef TWILL_IMPLEMENTATION
#ifndef TWILL__PIPELINE_IMPL
#define TWILL__PIPELINE_IMPL

/* ---- pipeline/create.h ---- */
/* create.h: checks, sizes, and the one block of memory. */
#ifndef TWILL__PIPELINE_CREATE_H
#define TWILL__PIPELINE_CREATE_H

/* ---- pipeline/report.h ---- */
/* report.h: the figures, at the end and while it runs. */
#ifndef TWILL__PIPELINE_REPORT_H
#define TWILL__PIPELINE_REPORT_H

/* ---- pipeline/wait.h ---- */
/* wait.h: those outside: pushes, joins, destroy. */
#ifndef TWILL__PIPELINE_WAIT_H
#define TWILL__PIPELINE_WAIT_H

/* ---- pipeline/hand.h ---- */
/* hand.h: a worker: takes a burst, runs it without the lock, publishes, until nothing is ready. */
#ifndef TWILL__PIPELINE_HAND_H
#define TWILL__PIPELINE_HAND_H

/* ---- pipeline/turn.h ---- */
/* turn.h: a turn under the pipeline's lock, who waits for it, and how the stream is cut. */
#ifndef TWILL__PIPELINE_TURN_H
#define TWILL__PIPELINE_TURN_H

/* ---- engine/wakes.h ---- */
/* wakes.h: whom to wake after a turn under a lock. */
#ifndef TWILL__ENGINE_WAKES_H
#define TWILL__ENGINE_WAKES_H

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

/* ---- pipeline/burst.h ---- */
/* burst.h: what a hand may take, taking it, and publishing what has come of it. All under the
   pipeline's lock. */
#ifndef TWILL__PIPELINE_BURST_H
#define TWILL__PIPELINE_BURST_H

/* ---- pipeline/order.h ---- */
/* order.h: where pieces wait, in any order or by number, and when a ticket comes back. All under
   the pipeline's lock. */
#ifndef TWILL__PIPELINE_ORDER_H
#define TWILL__PIPELINE_ORDER_H

/* ---- pipeline/state.h ---- */
/* state.h: the records of a pipeline: steps, tickets, hands, waiters. */
#ifndef TWILL__PIPELINE_STATE_H
#define TWILL__PIPELINE_STATE_H

/* ---- engine/crew.h ---- */
/* crew.h: the workers of an object: threads of its own, or those of a pool, who come when there is
   work and leave when there is none. */
#ifndef TWILL__ENGINE_CREW_H
#define TWILL__ENGINE_CREW_H

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

/* The words. A TICKET is one of the pipeline's tokens: it carries one source item, from the source
   until the last that came of it has gone. A PIECE is what travels: a ticket and a sub-number; a
   step with many outputs makes several pieces of one. A STEP is a stage and the edge before it. A
   HAND is a worker number at work: a burst of pieces (LOADS) that it has taken at one step.

   All is decided under one lock, taken once a burst; user code never runs under it. Memory has
   a fixed place for each piece before each step, so outputs are written where the next step
   reads them. */
enum { TWILL__FLOW_BURST = 256 };
/* calls between two looks at the time; with a deadline or a token: they may turn slow */
enum { TWILL__FLOW_LOOK_MOST = 64, TWILL__FLOW_LOOK_TIMED = 16 };
enum { TWILL__FLOW_HELP = 20 };    /* bursts' time that a push helps, although there is a ticket */
#define TWILL__FLOW_BURST_NS 50000 /* what a burst shall last: its turn under the lock vanishes */
#define TWILL__FLOW_SPIN     5000  /* ns: a burst of 256 is shown in a microsecond or two */
#define TWILL__FLOW_LOOK_NS  8000  /* what quick calls last together between two looks */

enum {
    TWILL__FLOW_AGAIN_WORK = -1
}; /* an answer beside the public ones: there is work, look again */

/* How a load ended. */
typedef enum twill__flow_end {
    TWILL__FLOW_END_NONE = 0, /* not begun, or running */
    TWILL__FLOW_END_DONE,
    TWILL__FLOW_END_FILTERED,
    TWILL__FLOW_END_FAILED,
    TWILL__FLOW_END_SKIPPED,
    TWILL__FLOW_END_DROPPED
} twill__flow_end;

typedef struct twill__flow_piece {
    uint32_t ticket, sub;
} twill__flow_piece;

typedef struct twill__flow_ticket { /* under the lock; `number` is also read by who has a piece */
    uint64_t number;
    /* its pieces, and one more until the last in-order step has let its number pass */
    uint32_t holds;
    bool failed, skipped, fruit; /* fruit: something of it left the last step */
} twill__flow_ticket;

typedef struct twill__flow_load {
    /* place in the serial loop: number, then sub-number; the cut compares it */
    size_t key;
    uint64_t number;
    twill__flow_piece piece;
    uint32_t outs;
    uint8_t end; /* twill__flow_end */
    bool plain;  /* done, one output, one piece a ticket */
} twill__flow_load;

typedef enum twill__flow_mood {                        /* what a step's time goes into */
                                TWILL__FLOW_MOOD_BUSY, /* it runs, or waits for a worker */
                                TWILL__FLOW_MOOD_STARVED,
                                TWILL__FLOW_MOOD_HELD
} twill__flow_mood;

typedef struct twill__flow_step {
    /* set at creation */
    twill_stage user;
    char *in; /* the pieces before it; of the one behind the last step: what nobody takes */
    size_t in_size;
    uint32_t spread; /* pieces before it that one ticket may have */
    uint32_t most;   /* outputs a piece */
    size_t scale;    /* of sub-numbers in keys */
    uint32_t limit;  /* calls at once */
    size_t room;     /* pieces that may wait before it; SIZE_MAX: tickets alone bound them */
    uint32_t order;  /* the first in-order step behind this one; n_steps: none */
    bool in_order;
    bool single; /* a batch whose outputs are counted by the call, not by the piece */
    /* any order: a ring of pieces, by arrival */
    twill__flow_piece *queue;
    uint32_t mask;
    /* in order: a ring by number; an entry is 0 until all pieces of its number have come or are
       known not to, then (ticket + 1) * 2, and 1 more while a piece is there. [next, front) are
       complete; `next` has a piece, or is front */
    uint32_t *ring;
    /* in order, many pieces a ticket: still to come; there; which */
    uint32_t *due, *left;
    uint64_t *bits;
    twill_ns *came; /* batches with a linger: when each piece arrived */
    /* under the lock; what each turn writes stands together */
    _Alignas(TWILL__LINE) uint32_t ready; /* pieces that it could take */
    uint32_t waiting;                     /* pieces before it that no hand has */
    uint32_t live;                        /* pieces before it and in its calls */
    uint32_t reserved;                    /* room promised to calls of the step before */
    uint32_t running;                     /* calls */
    uint32_t burst;                       /* pieces a burst: about TWILL__FLOW_BURST_NS */
    uint32_t head;                        /* of queue */
    twill__flow_mood mood;
    uint64_t next, front; /* of ring */
    uint64_t pace;        /* ticks a piece, lately */
    uint64_t count_in, count_out;
    uint64_t busy; /* figures, in ticks */
    uint64_t longest, starved, held, since;
    uint64_t filtered, failed, dropped;
    uint32_t waiting_peak, reorder_peak, running_peak;
} twill__flow_step;

enum { TWILL__FLOW_SAID_FILTER = 4 }; /* beside those of engine/job.h */

struct twill_pipeline;
typedef struct twill__flow_hand {
    _Alignas(TWILL__LINE) twill__call call; /* first: task->private_ points here */
    struct twill_pipeline *pipe;
    twill__slot *slot; /* the crew's, of this number; NULL: of nobody */
    twill__flow_load *load;
    char *scratch; /* a batch side by side, or an output that is not emitted yet */
    bool starting; /* in worker_start; left so: the hook has ended its thread */
    const struct twill__flow_waiter *helper; /* a caller, until its own wait is over; or NULL */
    /* the running call's: the owner's alone */
    uint32_t at;      /* its load */
    uint32_t emitted; /* outputs */
    unsigned said;
    uint32_t calls; /* loads that work, batch or source is running for; 0: none, or drop */
    /* whether slot->begin is of this burst yet */
    _Atomic uint32_t begun;
    /* under the lock; the owner may read what he alone writes */
    bool active, whole; /* whole: one call has all loads */
    bool used;
    uint32_t step; /* n_steps: the source */
    uint32_t n, published;
    uint64_t first;    /* source, in order: number of the first load */
    uint64_t pace;     /* of the step, when the burst began */
    uint32_t reserved; /* room at the step behind: a load, or */
    bool single;       /* for all of them */
    uint64_t busy;     /* ticks */
    size_t bursts;
} twill__flow_hand;

typedef struct twill__flow_error {
    size_t key;
    uint64_t number;
    uint32_t stage; /* n_steps: the source */
    twill_status status;
    int code;
} twill__flow_error;

typedef struct twill_pipeline {
    _Atomic uint32_t lock;
    /* under the lock */
    twill__list pushers, joiners;
    unsigned inside; /* calls that will take the lock again: destroy waits for them */
    twill__node *destroyer;
    bool opened;   /* the crew is there */
    bool shut;     /* no more items: closed, ended, cut */
    bool closed;   /* by the user */
    bool natural;  /* the stream came to its end by itself */
    bool sourcing; /* a hand is at the source */
    bool ended;    /* nothing is inside, and nothing will come */
    bool closing, crew_closed;
    bool sent;     /* the workers are at home: what is left is being dropped */
    bool tell_all; /* the hands' tokens are to be fired */
    bool dead;     /* no worker could start: nobody will run anything */
    uint32_t over; /* CANCELLED, TIMEOUT; 0: neither */
    uint32_t *free;
    uint32_t free_count;
    uint64_t issued, done, failed, skipped, filtered, delivered;
    size_t in_flight_peak;
    uint32_t working;        /* threads in twill__flow_work */
    uint32_t blocked_inside; /* of these, in a push */
    twill__list helpers;     /* callers that are at work for it, outside the lock */
    uint32_t starting;       /* threads in worker_start */
    uint32_t refused;        /* worker numbers whose worker_start failed */
    int start_code;
    twill_ns due, armed; /* the next linger, or the deadline; 0: none. The last alarm set */
    uint64_t failures;
    twill__flow_error lowest, earliest;
    size_t stop_key;
    size_t errors_count; /* of run.errors, a heap */
    uint32_t source_burst;
    uint64_t source_pace;
    twill_ns ended_at;
    uint64_t ended_ticks;
    twill_report crew_report;
    /* read by hands before each item, written seldom */
    _Alignas(TWILL__LINE) _Atomic size_t limit; /* keys from here on need not run */
    _Atomic uint32_t hungry;  /* somebody has looked for work since the last call, and found none */
    _Atomic uint32_t failing; /* an error is why */
    _Atomic uint32_t halted;  /* nothing more shall run at all */
    /* threads that have left the lock, and still call workers */
    _Atomic uint32_t leaving;
    /* set at creation */
    _Alignas(TWILL__LINE) uint32_t n_steps;
    twill__flow_step *step; /* n_steps, and one behind them */
    twill__flow_ticket *ticket;
    uint32_t tickets;
    uint32_t first_order; /* the first in-order step; n_steps: none */
    uint32_t ring_mask;
    uint32_t np;
    uint32_t burst_most;    /* pieces: tokens for a burst a worker, and one to spare */
    twill__flow_hand *hand; /* np, and one for who drops what is left */
    bool call;              /* one call: its caller is one of the workers */
    bool timed;
    bool thin; /* one piece a ticket, everywhere */
    int (*user_start)(void **worker_state, const twill_task *task);
    twill_source_fn *source; /* NULL: the caller pushes */
    const char *map_items;
    char *map_results;
    size_t map_n;
    twill_run run;
    twill_pipeline_options options;
    twill_cancel_hook hook;
    bool hooked;
    uint64_t goal;
    twill_ns began_at;
    uint64_t began_ticks;
    twill__home home;
    void *memory;
    twill__crew crew;
} twill__flow;

typedef struct twill__flow_waiter {
    twill__node node;
    const void *item; /* to push; NULL: joins */
    twill_until until;
    uint64_t thread; /* its number */
    bool helps;      /* may be called for work */
    bool stays;      /* counted in `inside` */
    bool told;       /* has been: it stays in the list, and looks again by itself */
    bool inside;     /* in a callback of this pipeline */
} twill__flow_waiter;

static inline bool twill__flow_here(const twill__flow *p)
{
    return twill__at_home(p->home);
}

static inline size_t twill__flow_limit(const twill__flow *p)
{
    return atomic_load_explicit(&p->limit, memory_order_seq_cst);
}

static inline char *twill__flow_step_at(const twill__flow_step *step, twill__flow_piece piece)
{
    return step->in + ((size_t)piece.ticket * step->spread + piece.sub) * step->in_size;
}

/* thin: its number is its place. */
static inline size_t twill__flow_step_key(const twill__flow *p, const twill__flow_step *step,
                                          uint64_t number, uint32_t sub)
{
    uint64_t key =
        p->thin ? number : number * p->step[p->n_steps].spread + (uint64_t)sub * step->scale;
    /* where size_t has 32 bits they end some day: then all that follow stand in one place, and only
       which of their errors is the lowest is not known */
    return key < SIZE_MAX ? (size_t)key : SIZE_MAX - 1;
}

static inline twill_task twill__flow_task(const twill__flow *p, uint64_t number, void *context)
{
    twill_task task = {(size_t)number, context, UINT_MAX, p->np, NULL, {0, NULL}, NULL};
    return task;
}

static inline void *twill__flow_step_context(const twill__flow *p, const twill__flow_step *step)
{
    return step->user.context ? step->user.context : p->run.context;
}

#endif

/* The oldest number always advances. An edge has room for all pieces of all tickets, so that to
   store never waits. Before an in-order step stands a ring by number, no smaller than the tickets:
   a ticket stays out until the last in-order step has let its number pass, so all numbers from
   `next` on are out, no more of them than tickets, and they never meet in the ring. */

static inline void twill__flow_ticket_over(twill__flow *p, uint32_t ticket);

static inline void twill__flow_ticket_back(twill__flow *p, uint32_t ticket)
{
    if (--p->ticket[ticket].holds == 0)
        twill__flow_ticket_over(p, ticket);
}

/* All that came of it has ended. */
static inline void twill__flow_ticket_over(twill__flow *p, uint32_t ticket)
{
    const twill__flow_ticket *t = &p->ticket[ticket];
    if (t->failed)
        p->failed++;
    else if (t->skipped)
        p->skipped++;
    else
        p->done++;
    p->filtered += !t->failed && !t->skipped && !t->fruit;
    if (p->run.statuses && !t->failed)
        p->run.statuses[t->number] =
            t->skipped ? p->over ? (twill_status)p->over : TWILL_CANCELLED : TWILL_OK;
    p->free[p->free_count++] = ticket;
}

/* ---- in order ---- */

static inline bool twill__flow_order_empty(const twill__flow_step *step, uint32_t entry)
{
    return step->left ? step->left[entry / 2 - 1] == 0 : !(entry & 1);
}

/* `next` moves over numbers of which nothing is left here. */
static inline void twill__flow_order_pass(twill__flow *p, twill__flow_step *step)
{
    while (step->next < step->front) {
        uint32_t *entry = &step->ring[step->next & p->ring_mask], ticket = *entry / 2 - 1;
        if (!twill__flow_order_empty(step, *entry))
            return;
        *entry = 0;
        step->next++;
        if (step->order == p->n_steps)
            twill__flow_ticket_back(p, ticket);
    }
}

/* `front` moves over complete numbers. */
static inline void twill__flow_order_front(const twill__flow *p, twill__flow_step *step)
{
    uint64_t front = step->front;
    uint32_t entry, mask = p->ring_mask, ready = step->ready;
    while ((entry = step->ring[front & mask]) != 0) {
        ready += step->left ? step->left[entry / 2 - 1] : entry & 1;
        if (++front - step->next > mask) /* all round: the next entry is an old one */
            break;
    }
    step->front = front;
    step->ready = ready;
}

/* All pieces of a number have come or are known not to. */
static inline void twill__flow_order_complete(twill__flow *p, twill__flow_step *step,
                                              uint32_t ticket, bool there)
{
    uint64_t number = p->ticket[ticket].number;
    step->ring[number & p->ring_mask] = (ticket + 1) * 2 + there;
    if (number != step->front)
        return;
    twill__flow_order_front(p, step);
    twill__flow_order_pass(p, step);
}

static inline void twill__flow_order_arrive(twill__flow *p, twill__flow_step *step,
                                            twill__flow_piece piece)
{
    if (!step->due) {
        twill__flow_order_complete(p, step, piece.ticket, true);
        return;
    }
    step->bits[(size_t)piece.ticket * ((step->spread + 63) / 64) + piece.sub / 64] |=
        (uint64_t)1 << piece.sub % 64;
    step->left[piece.ticket]++;
    if (--step->due[piece.ticket] == 0)
        twill__flow_order_complete(p, step, piece.ticket, true);
}

/* The next piece in the ring from (number, sub) on, of which there is one: moves them behind it. */
static inline twill__flow_piece twill__flow_order_look(const twill__flow *p,
                                                       const twill__flow_step *step,
                                                       uint64_t *number, uint32_t *sub)
{
    size_t words = (step->spread + 63) / 64;
    for (;; ++*number, *sub = 0) { /* exit: it is below front */
        uint32_t entry = step->ring[*number & p->ring_mask];
        twill__flow_piece piece = {entry / 2 - 1, 0};
        const uint64_t *bits;
        TWILL_ASSERT(*number < step->front);
        if (twill__flow_order_empty(step, entry))
            continue;
        if (!step->left) {
            ++*number;
            return piece;
        }
        bits = step->bits + (size_t)piece.ticket * words;
        for (size_t word = *sub / 64; word < words; word++) {
            uint64_t left = bits[word];
            if (word == *sub / 64)
                left &= UINT64_MAX << *sub % 64;
            if (!left)
                continue;
            piece.sub = (uint32_t)(word * 64) + (uint32_t)__builtin_ctzll(left);
            *sub = piece.sub + 1;
            if (*sub == step->spread) {
                ++*number;
                *sub = 0;
            }
            return piece;
        }
    }
}

/* The step is through with a piece that stood in its ring. */
static inline void twill__flow_order_take(twill__flow *p, twill__flow_step *step,
                                          twill__flow_piece piece)
{
    step->ready--;
    if (!step->left) {
        step->ring[p->ticket[piece.ticket].number & p->ring_mask] &= ~(uint32_t)1;
    } else {
        step->bits[(size_t)piece.ticket * ((step->spread + 63) / 64) + piece.sub / 64] &=
            ~((uint64_t)1 << piece.sub % 64);
        step->left[piece.ticket]--;
    }
    twill__flow_order_pass(p, step);
}

/* ---- pieces ---- */

/* A piece stands before step k. */
static inline void twill__flow_piece_put(twill__flow *p, uint32_t k, twill__flow_piece piece)
{
    twill__flow_step *step = &p->step[k];
    step->live++;
    step->waiting++;
    if (step->waiting > step->waiting_peak)
        step->waiting_peak = step->waiting;
    if (step->came)
        step->came[(size_t)piece.ticket * step->spread + piece.sub] = twill__clock_now();
    if (!step->in_order) {
        step->queue[(step->head + step->ready++) & step->mask] = piece;
        return;
    }
    twill__flow_order_arrive(p, step, piece);
    if (step->waiting > step->ready && step->waiting - step->ready > step->reorder_peak)
        step->reorder_peak = step->waiting - step->ready;
}

/* The same for n pieces, one a ticket. */
static inline void twill__flow_pieces_put(twill__flow *p, uint32_t k, const twill__flow_load *load,
                                          uint32_t n)
{
    twill__flow_step *step = &p->step[k];
    step->live += n;
    step->waiting += n;
    if (step->waiting > step->waiting_peak)
        step->waiting_peak = step->waiting;
    if (step->came) {
        twill_ns now = twill__clock_now();
        for (uint32_t i = 0; i < n; i++)
            step->came[load[i].piece.ticket] = now;
    }
    if (!step->in_order) {
        for (uint32_t i = 0; i < n; i++)
            step->queue[(step->head + step->ready + i) & step->mask] = load[i].piece;
        step->ready += n;
        return;
    }
    for (uint32_t i = 0; i < n; i++)
        step->ring[load[i].number & p->ring_mask] = (load[i].piece.ticket + 1) * 2 + 1;
    if (load->number == step->front && load[n - 1].number - load->number == n - 1) {
        step->front += n; /* they close up: no need to look */
        step->ready += n;
    }
    if (step->ring[step->front & p->ring_mask] && step->front - step->next <= p->ring_mask)
        twill__flow_order_front(p, step);
    if (step->waiting > step->ready && step->waiting - step->ready > step->reorder_peak)
        step->reorder_peak = step->waiting - step->ready;
}

/* The in-order step k is through with n pieces, one a ticket. over: their tickets are back
   already. */
static inline void twill__flow_orders_take(twill__flow *p, uint32_t k, const twill__flow_load *load,
                                           uint32_t n, bool over)
{
    twill__flow_step *step = &p->step[k];
    step->ready -= n;
    for (uint32_t i = 0; i < n; i++) {
        if (step->next != load[i].number) /* gone ones in between */
            twill__flow_order_pass(p, step);
        step->ring[load[i].number & p->ring_mask] = 0;
        step->next = load[i].number + 1;
        if (!over && step->order == p->n_steps)
            twill__flow_ticket_back(p, load[i].piece.ticket);
    }
    twill__flow_order_pass(p, step);
}

/* A piece is gone; `order`: the first in-order step that it would have come to. Those behind must
   not wait for it. */
static inline void twill__flow_piece_gone(twill__flow *p, uint32_t order, uint32_t ticket)
{
    for (uint32_t k = order; k < p->n_steps; k = p->step[k].order) {
        twill__flow_step *step = &p->step[k];
        if (!step->due || --step->due[ticket] == 0)
            twill__flow_order_complete(p, step, ticket, step->due && step->left[ticket]);
    }
    twill__flow_ticket_back(p, ticket);
}

/* A ticket that nobody else has gets a number. */
static inline void twill__flow_ticket_init(twill__flow *p, uint32_t ticket, uint64_t number)
{
    twill__flow_ticket *t = &p->ticket[ticket];
    t->number = number;
    t->holds = 1 + (p->first_order < p->n_steps);
    t->failed = t->skipped = t->fruit = false;
    for (uint32_t k = p->thin ? p->n_steps : p->first_order; k < p->n_steps; k = p->step[k].order)
        if (p->step[k].due)
            p->step[k].due[ticket] = 1;
}

/* The next n numbers are out. */
static inline void twill__flow_issue(twill__flow *p, uint32_t n)
{
    size_t in_flight;
    p->issued += n;
    in_flight = (size_t)(p->issued - p->done - p->failed - p->skipped);
    if (in_flight > p->in_flight_peak)
        p->in_flight_peak = in_flight;
}

/* A piece has become `outs` pieces before step k. */
static inline void twill__flow_piece_split(twill__flow *p, uint32_t k, twill__flow_piece piece,
                                           uint32_t most, uint32_t outs)
{
    p->ticket[piece.ticket].holds += outs - 1;
    for (uint32_t o = p->step[k].in_order ? k : p->step[k].order; o < p->n_steps;
         o = p->step[o].order)
        if (p->step[o].due)
            p->step[o].due[piece.ticket] += outs - 1;
    for (uint32_t j = 0; j < outs; j++)
        twill__flow_piece_put(p, k, (twill__flow_piece){piece.ticket, piece.sub * most + j});
}

#endif

/* ---- is there work? ---- */

/* Whether the source may be asked for items: who cuts the stream shuts it, too. */
static inline bool twill__flow_source_open(const twill__flow *p)
{
    return p->source && p->opened && !p->shut;
}

/* Whether nothing more can come before step k, as things are: the end of the stream, or no ticket
   is left for the source, and nothing is on its way. */
static inline bool twill__flow_nothing_comes(const twill__flow *p, uint32_t k)
{
    if (p->sourcing || (!p->shut && p->free_count))
        return false;
    for (uint32_t j = 0; j < k; j++)
        if (p->step[j].live)
            return false;
    return true;
}

/* A batch that is not full: may it go? When not, notes when it may. There is a piece, and no
   call. */
static inline bool twill__flow_batch_due(twill__flow *p, uint32_t k)
{
    const twill__flow_step *step = &p->step[k];
    twill__flow_piece first;
    uint64_t number = step->next;
    uint32_t sub = 0;
    twill_ns at;
    if (step->user.linger == 0 || twill__flow_limit(p) == 0 || twill__flow_nothing_comes(p, k))
        return true;
    if (!step->came)
        return false;
    if (!step->in_order)
        first = step->queue[step->head & step->mask];
    else
        first = twill__flow_order_look(p, step, &number, &sub);
    at = step->came[(size_t)first.ticket * step->spread + first.sub];
    at = at > TWILL_FOREVER - step->user.linger ? TWILL_FOREVER : at + step->user.linger;
    if (twill__clock_now() >= at)
        return true;
    if (!p->due || at < p->due)
        p->due = at;
    return false;
}

/* Room for what the next calls of step k bring, in pieces taken here. */
static inline uint32_t twill__flow_room_behind(const twill__flow *p, uint32_t k)
{
    const twill__flow_step *step = &p->step[k], *behind = &p->step[k + 1];
    size_t taken = (size_t)behind->waiting + behind->reserved, left;
    if (behind->room == SIZE_MAX)
        return UINT32_MAX;
    left = taken < behind->room ? (behind->room - taken) / step->most : 0;
    return left > UINT32_MAX ? UINT32_MAX : (uint32_t)left;
}

/* How many pieces step k could take now. */
static inline uint32_t twill__flow_step_can(twill__flow *p, uint32_t k)
{
    const twill__flow_step *step = &p->step[k];
    uint32_t ready = step->ready, room;
    if (!ready || step->running >= step->limit)
        return 0;
    room = twill__flow_room_behind(p, k);
    if (!step->user.batch)
        return ready < room ? ready : room;
    if (ready > step->user.batch_max)
        ready = (uint32_t)step->user.batch_max;
    if (room < (step->single ? 1 : ready)) /* it will be: what is behind can go */
        return 0;
    return ready == step->user.batch_max || twill__flow_batch_due(p, k) ? ready : 0;
}

static inline uint32_t twill__flow_source_can(const twill__flow *p)
{
    size_t room = p->step[0].room;
    if (!twill__flow_source_open(p) || p->sourcing || !p->free_count)
        return 0;
    if (room == SIZE_MAX)
        return p->free_count;
    if (p->step[0].waiting >= room)
        return 0;
    room -= p->step[0].waiting;
    return room < p->free_count ? (uint32_t)room : p->free_count;
}

/* For how many more workers there is something to do, `most` at most. */
static inline uint32_t twill__flow_surplus(twill__flow *p, uint32_t most)
{
    uint32_t places = 0;
    /* under the lock. Once it has halted the run, the deadline is nothing to wake for */
    p->due = p->timed && !atomic_load_explicit(&p->halted, memory_order_relaxed)
                 ? p->run.until.deadline
                 : 0;
    for (uint32_t k = p->n_steps; k-- > 0 && places < most;) {
        const twill__flow_step *step = &p->step[k];
        uint32_t can = twill__flow_step_can(p, k), calls;
        if (!can)
            continue;
        calls = step->user.batch ? step->ready / can : (step->ready - 1) / step->burst + 1;
        if (calls > step->limit - step->running)
            calls = step->limit - step->running;
        places += calls;
    }
    if (places < most && twill__flow_source_can(p))
        places++;
    return places < most ? places : most;
}

/* ---- figures ---- */

/* Where the time of a step went since its mood changed. */
static inline void twill__flow_mood_count(twill__flow_step *step, uint64_t now)
{
    uint64_t took = now > step->since ? now - step->since : 0;
    if (step->mood == TWILL__FLOW_MOOD_STARVED)
        step->starved += took;
    else if (step->mood == TWILL__FLOW_MOOD_HELD)
        step->held += took;
    step->since = now;
}

/* Looks at all steps: their lines are another core's, and are not written without need. */
static inline void twill__flow_moods(twill__flow *p, uint64_t now)
{
    for (uint32_t k = 0; k < p->n_steps; k++) {
        twill__flow_step *step = &p->step[k];
        twill__flow_mood mood = step->running                        ? TWILL__FLOW_MOOD_BUSY
                                : !step->ready                       ? TWILL__FLOW_MOOD_STARVED
                                : twill__flow_room_behind(p, k) == 0 ? TWILL__FLOW_MOOD_HELD
                                                                     : TWILL__FLOW_MOOD_BUSY;
        if (mood != step->mood) {
            twill__flow_mood_count(step, now);
            step->mood = mood;
        }
    }
}

/* starved and held are complete up to now. */
static inline void twill__flow_moods_read(twill__flow *p, uint64_t now)
{
    twill__flow_moods(p, now);
    for (uint32_t k = 0; k < p->n_steps; k++)
        twill__flow_mood_count(&p->step[k], now);
}

/* The next burst shall last TWILL__FLOW_BURST_NS. */
static inline uint32_t twill__flow_burst_next(const twill__flow *p, uint32_t burst, uint32_t n,
                                              uint64_t took)
{
    if (took > 2 * p->goal) {
        uint64_t fit = p->goal * n / took;
        return fit ? (uint32_t)fit : 1;
    }
    if (n >= burst && took < p->goal - p->goal / 4) {
        uint64_t fit = took ? p->goal * n / took : 2 * burst;
        burst = fit < 2 * burst ? (uint32_t)fit : 2 * burst;
    }
    return burst < p->burst_most ? burst : p->burst_most;
}

/* ---- taking ---- */

static inline void twill__flow_hand_begin(twill__flow *p, twill__flow_hand *hand, uint32_t k,
                                          uint32_t n)
{
    hand->active = hand->used = true;
    hand->whole = k < p->n_steps && p->step[k].user.batch;
    hand->step = k;
    hand->pace = k < p->n_steps ? p->step[k].pace : p->source_pace;
    hand->n = n;
    hand->published = 0;
    hand->reserved = 0;
    hand->single = false;
    hand->bursts++;
    /* under the lock; seq_cst where the owner sets it */
    atomic_store_explicit(&hand->begun, 0, memory_order_relaxed);
}

/* Room at the step behind for the outputs of n loads is given back; what is for all of them,
   once. */
static inline void twill__flow_unreserve(twill__flow *p, twill__flow_hand *hand, uint32_t n)
{
    p->step[hand->step < p->n_steps ? hand->step + 1 : 0].reserved -=
        hand->single ? hand->reserved : n * hand->reserved;
    if (hand->single)
        hand->reserved = 0;
}

static inline void twill__flow_take_source(twill__flow *p, twill__flow_hand *hand, uint32_t can)
{
    uint32_t n = can < p->source_burst ? can : p->source_burst;
    p->sourcing = true;
    twill__flow_hand_begin(p, hand, p->n_steps, n);
    if (p->step[0].room != SIZE_MAX) {
        hand->reserved = 1;
        p->step[0].reserved += n;
    }
    hand->first = p->issued;
    for (uint32_t i = 0; i < n; i++)
        hand->load[i].piece = (twill__flow_piece){p->free[--p->free_count], 0};
}

static inline void twill__flow_take_pieces(twill__flow *p, twill__flow_hand *hand, uint32_t k,
                                           uint32_t n)
{
    twill__flow_step *step = &p->step[k];
    twill__flow_hand_begin(p, hand, k, n);
    step->running++;
    step->waiting -= n;
    if (step->running > step->running_peak)
        step->running_peak = step->running;
    if (p->step[k + 1].room != SIZE_MAX) {
        hand->reserved = step->most;
        hand->single = step->single;
        p->step[k + 1].reserved += step->single ? step->most : n * step->most;
    }
    if (step->in_order) { /* they stay in the ring until they are published */
        uint64_t number = hand->first = step->next;
        uint32_t sub = 0;
        for (uint32_t i = 0; step->left && i < n; i++)
            hand->load[i].piece = twill__flow_order_look(p, step, &number, &sub);
        return;
    }
    step->ready -= n;
    for (uint32_t i = 0; i < n; i++)
        hand->load[i].piece = step->queue[step->head++ & step->mask];
}

/* The rest of the taking, a load at a time, by the hand and without the lock, no later than the
   load is begun: until then nobody else looks at it. What it reads is the hand's: the tickets, and
   of a ring by number the entries that stay. `number`: where the search for it begins; returns the
   next one's. */
static inline __attribute__((always_inline)) uint64_t
twill__flow_fill(twill__flow *p, const twill__flow_step *step, bool source, twill__flow_load *load,
                 uint64_t number)
{
    if (source) {
        twill__flow_ticket_init(p, load->piece.ticket, number);
    } else if (step->in_order && !step->left) {
        uint32_t entry = step->ring[number & p->ring_mask];
        for (; !(entry & 1); entry = step->ring[number & p->ring_mask])
            number++; /* exit: n are there */
        load->piece = (twill__flow_piece){entry / 2 - 1, 0};
    } else {
        number = p->ticket[load->piece.ticket].number;
    }
    load->number = number;
    load->key = twill__flow_step_key(p, step, number, load->piece.sub);
    load->outs = 0;
    load->end = TWILL__FLOW_END_NONE;
    load->plain = false;
    return number + 1;
}

/* How many of those that it can take a hand takes: a part, where others may come for the rest. */
static inline uint32_t twill__flow_share_of(const twill__flow *p, const twill__flow_step *step,
                                            uint32_t can)
{
    uint32_t places = step->limit - step->running, others = p->np - p->working, share;
    if (step->user.batch)
        return can;
    if (can > step->burst)
        can = step->burst;
    if (places > others + 1)
        places = others + 1;
    share = (step->ready + places - 1) / places;
    return share < can ? share : can;
}

/* The latest step that can go; the source comes last: memory drains before it fills. */
static inline bool twill__flow_take(twill__flow *p, twill__flow_hand *hand)
{
    uint32_t can;
    for (uint32_t k = p->n_steps; k-- > 0;) {
        can = twill__flow_step_can(p, k);
        if (can) {
            twill__flow_take_pieces(p, hand, k, twill__flow_share_of(p, &p->step[k], can));
            return true;
        }
    }
    can = twill__flow_source_can(p);
    if (can)
        twill__flow_take_source(p, hand, can);
    return can != 0;
}

/* ---- publishing ---- */

static inline void twill__flow_publish_piece(twill__flow *p, uint32_t k,
                                             const twill__flow_load *load)
{
    twill__flow_step *step = &p->step[k];
    twill__flow_ticket *ticket = &p->ticket[load->piece.ticket];
    step->live--;
    if (load->end == TWILL__FLOW_END_DROPPED)
        step->dropped++;
    else
        step->count_in++;
    step->count_out += load->outs;
    step->filtered += load->end == TWILL__FLOW_END_FILTERED;
    step->failed += load->end == TWILL__FLOW_END_FAILED;
    if (load->end == TWILL__FLOW_END_FAILED)
        ticket->failed = true;
    if (load->end == TWILL__FLOW_END_SKIPPED || load->end == TWILL__FLOW_END_DROPPED)
        ticket->skipped = true;
    if (k + 1 < p->n_steps && load->outs) {
        twill__flow_piece_split(p, k + 1, load->piece, step->most, load->outs);
    } else {
        if (load->end == TWILL__FLOW_END_DONE) {
            ticket->fruit = true;
            p->delivered += load->outs;
        }
        twill__flow_piece_gone(p, step->order, load->piece.ticket);
    }
    if (step->in_order)
        twill__flow_order_take(p, step, load->piece);
}

/* The source has failed. */
static inline void twill__flow_publish_source(twill__flow *p, const twill__flow_load *load)
{
    uint32_t ticket = load->piece.ticket;
    twill__flow_issue(p, 1);
    p->ticket[ticket].failed = true;
    twill__flow_piece_gone(p, p->first_order, ticket);
}

/* n loads that are done have left the last step, one piece a ticket, and nothing holds the tickets
   any more: they are not even looked at, since their lines are another core's. Not of a map, whose
   last step has results to keep. */
static inline void twill__flow_over_run(twill__flow *p, const twill__flow_load *load, uint32_t n)
{
    for (uint32_t i = n; i-- > 0;) /* they are taken again in the same order */
        p->free[p->free_count++] = load[i].piece.ticket;
    p->done += n;
}

/* n loads that are done, with one output each and one piece a ticket: the usual case. */
static inline void twill__flow_publish_run(twill__flow *p, uint32_t k, const twill__flow_load *load,
                                           uint32_t n)
{
    twill__flow_step *step = &p->step[k];
    bool over = k + 1 == p->n_steps && (step->in_order || p->first_order == p->n_steps);
    step->live -= n;
    step->count_in += n;
    step->count_out += n;
    if (k + 1 < p->n_steps)
        twill__flow_pieces_put(p, k + 1, load, n);
    else
        p->delivered += n;
    if (over)
        twill__flow_over_run(p, load, n);
    for (uint32_t i = 0; !over && k + 1 == p->n_steps && i < n; i++) {
        p->ticket[load[i].piece.ticket].fruit = true;
        twill__flow_ticket_back(p, load[i].piece.ticket);
    }
    if (step->in_order)
        twill__flow_orders_take(p, k, load, n, over);
}

static inline void twill__flow_publish_source_run(twill__flow *p, const twill__flow_load *load,
                                                  uint32_t n)
{
    TWILL_ASSERT(p->issued == load->number);
    twill__flow_issue(p, n);
    twill__flow_pieces_put(p, 0, load, n);
}

/* What has come of the loads below `to` becomes visible. */
static inline void twill__flow_publish(twill__flow *p, twill__flow_hand *hand, uint32_t to)
{
    uint32_t k = hand->step, n = to - hand->published;
    twill__flow_unreserve(p, hand, n);
    for (uint32_t i = hand->published, run; i < to; i = run) {
        const twill__flow_load *load = &hand->load[i];
        for (run = i; run < to && hand->load[run].plain;)
            run++;
        if (run > i && k < p->n_steps) {
            twill__flow_publish_run(p, k, load, run - i);
        } else if (run > i) {
            twill__flow_publish_source_run(p, load, run - i);
        } else {
            run++;
            if (k < p->n_steps)
                twill__flow_publish_piece(p, k, load);
            else
                twill__flow_publish_source(p, load);
        }
    }
    hand->published = to;
}

/* The burst is over; loads from `to` on go back where they came from. */
static inline void twill__flow_publish_all(twill__flow *p, twill__flow_hand *hand, uint32_t to)
{
    uint32_t k = hand->step, n = hand->n;
    twill__flow_publish(p, hand, to);
    twill__flow_unreserve(p, hand, n - to);
    if (k == p->n_steps) {
        p->sourcing = false;
        for (uint32_t i = n; i-- > to;)
            p->free[p->free_count++] = hand->load[i].piece.ticket;
    } else {
        twill__flow_step *step = &p->step[k];
        step->running--;
        step->waiting += n - to;
        if (!step->in_order) {
            step->ready += n - to;
            for (uint32_t i = n; i-- > to;)
                step->queue[--step->head & step->mask] = hand->load[i].piece;
        }
    }
    hand->active = false;
}

/* Publishes what other hands have done and not shown yet: one may be in a long call behind quick
   ones. The key that it is on says how far it is: seq_cst, after `hungry` was set; it moves
   the key on, seq_cst, and looks at `hungry` then. So one of both sees the other. */
static inline void twill__flow_sweep(twill__flow *p)
{
    for (uint32_t h = 0; h < p->np; h++) {
        twill__flow_hand *hand = &p->hand[h];
        size_t key;
        if (!hand->active || hand->whole ||
            !atomic_load_explicit(&hand->begun, memory_order_seq_cst))
            continue;
        key = atomic_load_explicit(&hand->slot->begin, memory_order_seq_cst);
        if (hand->published && hand->load[hand->published - 1].key == key)
            continue; /* what is behind it need not be filled yet */
        for (uint32_t i = hand->published; i < hand->n; i++)
            if (hand->load[i].key == key) {
                twill__flow_publish(p, hand, i);
                break;
            }
    }
}

/* Whether anybody finds something to do; if not, whoever shows something next shall call. */
static inline bool twill__flow_any(twill__flow *p)
{
    if (twill__flow_surplus(p, 1))
        return true;
    atomic_store_explicit(&p->hungry, 1, memory_order_seq_cst);
    twill__flow_sweep(p);
    return twill__flow_surplus(p, 1) != 0;
}

#endif

typedef struct twill__flow_turn { /* whom to wake after it */
    twill__wakes wakes;
} twill__flow_turn;

static inline void twill__flow_enter(twill__flow *p, twill__flow_turn *turn)
{
    turn->wakes.count = 0;
    twill__lock_after(&p->lock, TWILL__FLOW_SPIN);
}

/* ---- the cut ---- */

/* Nothing from this key on is begun any more. Lower ones go on. */
static inline void twill__flow_lower(twill__flow *p, size_t key)
{
    p->shut = true;
    twill__lower(&p->limit, key);
}

/* Nothing at all is begun any more; tell: and those that run are told. */
static inline void twill__flow_halt(twill__flow *p, uint32_t why, bool tell)
{
    if (!p->over)
        p->over = why;
    /* relaxed: read under the lock, or as a hint */
    atomic_store_explicit(&p->halted, 1, memory_order_relaxed);
    twill__flow_lower(p, 0);
    p->tell_all |= tell;
}

/* Token and deadline of the run: the tasks have both, so that nobody need be told. */
static inline void twill__flow_poll(twill__flow *p)
{
    /* under the lock; a flag */
    if (!p->timed || p->ended || atomic_load_explicit(&p->halted, memory_order_relaxed))
        return;
    if (twill_cancel_fired(p->run.until.cancel))
        twill__flow_halt(p, TWILL_CANCELLED, false);
    else if (twill__expired(p->run.until.deadline))
        twill__flow_halt(p, TWILL_TIMEOUT, false);
}

/* ---- who waits ---- */

static inline twill__flow_waiter *twill__flow_waiter_of(twill__node *node)
{
    return (twill__flow_waiter *)(void *)((char *)node - offsetof(twill__flow_waiter, node));
}

/* A final answer; the node is no longer ours then. False: it is leaving. */
static inline bool twill__flow_answer(twill__flow *p, twill__flow_turn *turn, twill__list *list,
                                      twill__node *node, int answer)
{
    bool inside = twill__flow_waiter_of(node)->inside;
    if (!twill__wakes_grant(&turn->wakes, list, node, answer))
        return false;
    p->blocked_inside -= inside;
    return true;
}

static inline void twill__flow_answer_all(twill__flow *p, twill__flow_turn *turn, twill__list *list,
                                          int answer)
{
    for (twill__node *node = list->first, *next; node; node = next) {
        next = node->next;
        if (!twill__flow_waiter_of(node)->told)
            (void)twill__flow_answer(p, turn, list, node, answer);
    }
}

/* Tells a waiter to look again: it stays in the list until it has the lock. */
static inline void twill__flow_tell(twill__flow_turn *turn, twill__flow_waiter *waiter)
{
    _Atomic uint32_t *word = &waiter->node.word;
    waiter->told = true;
    waiter->node.answer = TWILL__FLOW_AGAIN_WORK;
    /* acq_rel: pairs with the load in twill__wait; the waiter stays until it has had the lock */
    atomic_fetch_or_explicit(word, TWILL__GRANTED, memory_order_acq_rel);
    twill__wakes_add(&turn->wakes, word);
}

/* Tells up to `need` waiters that can work; returns how many it found. */
static inline unsigned twill__flow_tell_helpers(twill__flow_turn *turn, twill__list *list,
                                                unsigned need)
{
    unsigned told = 0;
    for (twill__node *node = list->first; node && told < need; node = node->next) {
        twill__flow_waiter *waiter = twill__flow_waiter_of(node);
        if (!waiter->helps || waiter->told)
            continue;
        twill__flow_tell(turn, waiter);
        told++;
    }
    return told;
}

/* Tells up to `need` callers, as far as there are numbers for them: without one they would only ask
   again. Returns how many. */
static inline unsigned twill__flow_tell_free(twill__flow *p, twill__flow_turn *turn, unsigned need)
{
    unsigned left = p->np - p->working - p->starting - p->refused, told;
    need = need < left ? need : left;
    told = twill__flow_tell_helpers(turn, &p->joiners, need);
    return told + twill__flow_tell_helpers(turn, &p->pushers, need - told);
}

/* ---- items that are pushed ---- */

/* The ticket's item, which is in its place, comes in. */
static inline void twill__flow_admit(twill__flow *p, uint32_t ticket)
{
    twill__flow_ticket_init(p, ticket, p->issued);
    twill__flow_issue(p, 1);
    twill__flow_piece_put(p, 0, (twill__flow_piece){ticket, 0});
}

static inline void twill__flow_accept(twill__flow *p, const void *item)
{
    twill__flow_piece piece = {p->free[--p->free_count], 0};
    memcpy(twill__flow_step_at(&p->step[0], piece), item, p->step[0].in_size);
    twill__flow_admit(p, piece.ticket);
}

/* Free tickets go to pushers, in order of arrival. */
static inline void twill__flow_settle_pushers(twill__flow *p, twill__flow_turn *turn)
{
    for (twill__node *node = p->pushers.first, *next; node && p->free_count; node = next) {
        twill__flow_waiter *waiter = twill__flow_waiter_of(node);
        uint32_t ticket = p->free[p->free_count - 1];
        next = node->next;
        if (waiter->told)
            continue;
        /* before the answer: its memory goes with it */
        memcpy(twill__flow_step_at(&p->step[0], (twill__flow_piece){ticket, 0}), waiter->item,
               p->step[0].in_size);
        if (!twill__flow_answer(p, turn, &p->pushers, node, TWILL_OK))
            continue;
        p->free_count--;
        twill__flow_admit(p, ticket);
    }
}

/* Whether more threads can come than those at work: there are numbers for them, and they exist.
   (Nobody joins before it is shut.) */
static inline bool twill__flow_more_threads(twill__flow *p)
{
    size_t threads = twill__team_threads(p->crew.job.team);
    if (p->working + p->refused == p->np)
        return false;
    for (twill__node *node = p->helpers.first; node; node = node->next)
        threads++;
    for (twill__node *node = p->pushers.first; node; node = node->next)
        threads += twill__flow_waiter_of(node)->helps;
    return p->working + atomic_load_explicit(&p->crew.job.team->lost, memory_order_seq_cst) <
           threads;
}

/* So many pushers inside callbacks wait for a ticket, and nobody is left who could bring one back:
   not even who looks at a batch when it is due. What they had done was shown when they came. */
static inline bool twill__flow_stuck(twill__flow *p, uint32_t blocked)
{
    if (p->working != blocked)
        return false;
    return !twill__flow_more_threads(p) ||
           (!twill__flow_any(p) && (!p->due || p->due == p->run.until.deadline));
}

/* ---- the end ---- */

static inline bool twill__flow_failed_at_last(const twill__flow *p)
{
    if (!p->lowest.status)
        return false;
    /* the serial loop never got to an error above a stop; one that says both has failed */
    return p->lowest.key <= p->stop_key || p->earliest.status;
}

static inline twill_status twill__flow_status(const twill__flow *p)
{
    if (p->dead || twill__flow_failed_at_last(p))
        return TWILL_FAILED;
    if (p->over && (p->skipped || !p->natural))
        return (twill_status)p->over;
    return TWILL_OK;
}

static inline void twill__flow_settle_end(twill__flow *p, twill__flow_turn *turn)
{
    if (!p->ended && p->shut && !p->sourcing && p->free_count == p->tickets) {
        p->ended = true;
        p->ended_at = twill__clock_now();
        p->ended_ticks = twill__ticks();
        twill__flow_moods_read(p, p->ended_ticks);
    }
    if (!p->joiners.first || !(p->ended || p->dead))
        return;
    if (p->crew_closed)
        twill__flow_answer_all(p, turn, &p->joiners, (int)twill__flow_status(p));
    else if (!p->closing) /* one of them sends the workers home */
        for (twill__node *node = p->joiners.first; node; node = node->next)
            if (!twill__flow_waiter_of(node)->told) {
                twill__flow_tell(turn, twill__flow_waiter_of(node));
                break;
            }
}

static inline bool twill__flow_deserted(const twill__flow *p)
{
    return !p->pushers.first && !p->joiners.first && !p->helpers.first && !p->inside &&
           !twill__lock_wanted(&p->lock);
}

/* Who waits gets what is there. */
static inline void twill__flow_settle(twill__flow *p, twill__flow_turn *turn)
{
    twill__flow_poll(p);
    if (p->pushers.first) {
        if (p->shut)
            twill__flow_answer_all(p, turn, &p->pushers, TWILL_CLOSED);
        else
            twill__flow_settle_pushers(p, turn);
    }
    if (p->blocked_inside && twill__flow_stuck(p, p->blocked_inside))
        for (twill__node *node = p->pushers.first, *next; node; node = next) {
            next = node->next;
            if (twill__flow_waiter_of(node)->inside) /* such a one is never told to help */
                (void)twill__flow_answer(p, turn, &p->pushers, node, TWILL_DEADLOCK);
        }
    twill__flow_settle_end(p, turn);
}

/* Those who are hungry are called, or there are none. Under the lock; the line is every hand's, and
   is not written without need. */
static inline void twill__flow_fed(twill__flow *p)
{
    if (atomic_load_explicit(&p->hungry, memory_order_relaxed))
        atomic_store_explicit(&p->hungry, 0, memory_order_relaxed);
}

typedef enum twill__flow_way {
    TWILL__FLOW_EXIT_READY,  /* one that asks whether there is work: calls nobody */
    TWILL__FLOW_EXIT_WORKER, /* whom twill__crew_close waits for */
    TWILL__FLOW_EXIT_CALLER  /* whom a destroy must wait for */
} twill__flow_way;

/* Out of the lock, and calls workers for what has come up. */
static inline void twill__flow_exit(twill__flow *p, twill__flow_turn *turn, twill__flow_way who)
{
    unsigned need = 0;
    twill_ns due = 0;
    bool tell_all, leaving;
    twill__flow_settle(p, turn);
    if (p->working == p->np) { /* nobody is left to be called */
        twill__flow_fed(p);
    } else if (who != TWILL__FLOW_EXIT_READY && !p->closing) {
        need = twill__flow_surplus(p, p->np - p->working);
        if (need) {
            twill__flow_fed(p);
            need -= twill__flow_tell_free(p, turn, need);
        }
        if (p->due && p->due != p->armed) { /* a batch waits: somebody must look at it then */
            p->armed = due = p->due;
            if (!twill__flow_tell_helpers(turn, &p->joiners, 1))
                (void)twill__flow_tell_helpers(turn, &p->pushers, 1);
        }
    }
    tell_all = p->tell_all;
    p->tell_all = false;
    if (p->destroyer && twill__flow_deserted(p)) {
        twill__node *node = p->destroyer;
        p->destroyer = NULL;
        /* relaxed: it takes the lock, which we hold, before it goes on */
        atomic_fetch_or_explicit(&node->word, TWILL__GRANTED, memory_order_relaxed);
        twill__wakes_add(&turn->wakes, &node->word);
    }
    leaving = who == TWILL__FLOW_EXIT_CALLER && (tell_all || need || due);
    if (leaving) /* relaxed: who destroys takes the lock before he looks */
        atomic_fetch_add_explicit(&p->leaving, 1, memory_order_relaxed);
    twill__unlock(&p->lock);
    twill__wakes_send(&turn->wakes);
    if (tell_all)
        twill__crew_fire_from(&p->crew, 0);
    if (need)
        twill__crew_call(&p->crew, need);
    if (due)
        twill__crew_alarm(&p->crew, due);
    if (leaving) /* release: the last access; pairs with the load in twill__flow_desert */
        atomic_fetch_sub_explicit(&p->leaving, 1, memory_order_release);
}

/* ---- failures ---- */

static inline void twill__flow_keep_error(twill__flow *p, const twill__flow_error *error)
{
    twill_item_error item = {(size_t)error->number, error->status, error->code};
    if (p->run.errors_capacity)
        twill__heap_keep(p->run.errors, p->run.errors_capacity, &p->errors_count, item);
    if (p->run.statuses) /* of map: one piece a number, and its source does not fail */
        p->run.statuses[error->number] = error->status;
    if (p->run.codes)
        p->run.codes[error->number] = error->code;
    if (!p->lowest.status || error->key < p->lowest.key)
        p->lowest = *error;
}

/* A load has failed: what need not run any more is cut off. By its own thread, without the lock. */
static inline void twill__flow_fail(twill__flow *p, uint32_t k, const twill__flow_load *load,
                                    twill_status status, int code)
{
    twill__flow_error error = {load->key, load->number, k, status, code};
    bool source = k == p->n_steps, keep, cut = false;
    twill_on_error policy = p->run.on_error ? p->run.on_error : TWILL_ON_ERROR_LOWEST;
    twill__flow_turn turn;
    twill__flow_enter(p, &turn);
    twill__flow_keep_error(p, &error);
    keep = !source && (policy == TWILL_ON_ERROR_COLLECT || p->step[k].user.keep_going);
    if (!keep && load->key <= p->stop_key) {
        p->failures++;
        if (policy == TWILL_ON_ERROR_FIRST) {
            if (!p->earliest.status)
                p->earliest = error;
            atomic_store_explicit(&p->failing, 1, memory_order_relaxed); /* before the limit */
            twill__flow_halt(p, 0, true);
        } else {
            cut = source || policy != TWILL_ON_ERROR_LIMIT ||
                  p->failures >= (p->run.max_errors ? p->run.max_errors : 1);
        }
    }
    if (cut) {
        p->natural |= source;
        atomic_store_explicit(&p->failing, 1, memory_order_relaxed); /* as above */
        twill__flow_lower(p, load->key);
    }
    twill__flow_exit(p, &turn, TWILL__FLOW_EXIT_WORKER);
    if (cut)
        twill__crew_fire_from(&p->crew, load->key + 1);
}

static inline void twill__flow_stop_at(twill__flow *p, size_t key)
{
    twill__flow_turn turn;
    twill__flow_enter(p, &turn);
    if (key < p->stop_key)
        p->stop_key = key;
    p->natural = true;
    twill__flow_lower(p, key);
    twill__flow_exit(p, &turn, TWILL__FLOW_EXIT_WORKER);
    twill__crew_fire_from(&p->crew, key + 1);
}

#endif

/* ---- what callbacks say ---- */

static inline bool twill__flow_cancelled(const twill_task *task)
{
    const twill__flow_hand *hand = (const twill__flow_hand *)task->private_;
    /* relaxed: an answer a moment later is as good. Who is above a cut hears of it by the token */
    return atomic_load_explicit(&hand->pipe->halted, memory_order_relaxed);
}

static inline void twill__flow_stop(const twill_task *task)
{
    twill__flow_hand *hand = (twill__flow_hand *)task->private_;
    hand->said |= TWILL__SAID_STOP;
    if (!twill__flow_here(hand->pipe))
        return;
    if (hand->step < hand->pipe->n_steps) /* a source's is an end, and no cut */
        twill__flow_stop_at(hand->pipe, hand->load[hand->at].key);
}

static inline void twill__flow_skip(const twill_task *task)
{
    ((twill__flow_hand *)task->private_)->said |= TWILL__SAID_SKIP;
}

static inline const twill__call_table *twill__flow_calls(void)
{
    static const twill__call_table table = {twill__flow_cancelled, twill__flow_stop,
                                            twill__flow_skip, NULL, NULL};
    return &table;
}

/* The hand that a stage's task belongs to, or NULL. */
static inline twill__flow_hand *twill__flow_hand_of(const twill_task *task)
{
    twill__flow_hand *hand = task ? (twill__flow_hand *)task->private_ : NULL;
    return hand && hand->call.table == twill__flow_calls() ? hand : NULL;
}

/* Where output `which` of the running call goes. */
static inline char *twill__flow_output(const twill__flow_hand *hand, uint32_t which)
{
    const twill__flow_step *step = &hand->pipe->step[hand->step], *behind = step + 1;
    twill__flow_piece piece = hand->load[hand->at].piece;
    if (hand->whole && !step->single) { /* output k is of item k */
        piece = hand->load[which].piece;
        which = 0;
    }
    piece.sub = piece.sub * step->most + which;
    return twill__flow_step_at(behind, piece);
}

/* ---- around a call ---- */

/* The load that the hand is on is begun: may it run? See twill__set_begin. */
static inline bool twill__flow_load_begin(twill__flow *p, twill__flow_hand *hand,
                                          const twill__flow_load *load)
{
    if (hand->slot)
        twill__set_begin(hand->slot, load->key);
    return load->key < twill__flow_limit(p);
}

/* Others want work, and loads below `to` are done. */
static inline void twill__flow_publish_some(twill__flow *p, twill__flow_hand *hand, uint32_t to)
{
    twill__flow_turn turn;
    twill__flow_enter(p, &turn);
    if (to > hand->published)
        twill__flow_publish(p, hand, to);
    twill__flow_exit(p, &turn, TWILL__FLOW_EXIT_WORKER);
}

/* Its input goes to the stage's drop. */
static inline void twill__flow_load_drop(twill__flow *p, twill__flow_hand *hand,
                                         twill__flow_load *load)
{
    twill__flow_step *step = &p->step[hand->step];
    load->end = TWILL__FLOW_END_DROPPED;
    if (step->user.drop) {
        twill_task task = twill__flow_task(p, load->number, twill__flow_step_context(p, step));
        /* written before the limit that brought us here, or a moment later: a hint */
        bool failed = atomic_load_explicit(&p->failing, memory_order_relaxed);
        step->user.drop(twill__flow_step_at(step, load->piece),
                        failed ? TWILL_FAILED : TWILL_CANCELLED, &task);
    }
}

static inline void twill__flow_load_failed(twill__flow *p, twill__flow_hand *hand,
                                           twill__flow_load *load, int code)
{
    load->end = TWILL__FLOW_END_FAILED;
    twill__flow_fail(p, hand->step, load, TWILL_FAILED, code);
}

/* The failed input, after work. */
static inline void twill__flow_load_bury(const twill__flow *p, const twill__flow_hand *hand,
                                         const twill__flow_load *load, int code)
{
    if (p->options.dead_letter) {
        const twill__flow_step *step = &p->step[hand->step];
        twill_task task = twill__flow_task(p, load->number, p->run.context);
        p->options.dead_letter(hand->step, twill__flow_step_at(step, load->piece), code, &task);
    }
}

/* How a call of `work` ended, when it was not with one output. */
static inline void twill__flow_load_end(twill__flow *p, twill__flow_hand *hand,
                                        twill__flow_load *load, int code)
{
    if (code) {
        twill__flow_load_failed(p, hand, load, code);
        twill__flow_load_bury(p, hand, load, code);
    } else if (hand->said & TWILL__SAID_SKIP) {
        load->end = TWILL__FLOW_END_SKIPPED;
    } else if (hand->said & (TWILL__FLOW_SAID_FILTER | TWILL__SAID_STOP)) {
        load->end = TWILL__FLOW_END_FILTERED;
    } else {
        const twill__flow_step *step = &p->step[hand->step];
        load->end = TWILL__FLOW_END_DONE;
        load->outs = hand->emitted ? hand->emitted : 1;
        if (!hand->emitted && step->most > 1)
            memcpy(twill__flow_output(hand, 0), hand->scratch, (step + 1)->in_size);
        if (p->map_results) /* of its last step: the others' one output is plain */
            memcpy(p->map_results + load->number * (step + 1)->in_size, twill__flow_output(hand, 0),
                   (step + 1)->in_size);
    }
}

/* ---- looking at the time ---- */

typedef struct twill__flow_watch {
    uint64_t since, looked, published; /* ticks */
    uint64_t pace, longest;            /* usual; seen */
    uint32_t every, count;             /* loads a look; since the last */
} twill__flow_watch;

static inline void twill__flow_watch_begin(const twill__flow *p, twill__flow_watch *watch,
                                           uint64_t pace)
{
    watch->since = watch->looked = watch->published = twill__ticks();
    watch->longest = 0;
    watch->pace = pace;
    watch->count = 0;
    watch->every = 1;
    if (pace) {
        uint64_t fit = p->goal * TWILL__FLOW_LOOK_NS / TWILL__FLOW_BURST_NS / pace,
                 most = p->timed ? TWILL__FLOW_LOOK_TIMED : TWILL__FLOW_LOOK_MOST;
        if (fit > 1)
            watch->every = (uint32_t)(fit < most ? fit : most);
    }
}

/* After a call. Calls that are timed together: the longest is what is left after the others' usual
   time. */
static inline void twill__flow_watch_look(twill__flow_watch *watch)
{
    uint64_t now = twill__ticks(), took = now > watch->looked ? now - watch->looked : 0;
    watch->looked = now;
    if (took > watch->longest) {
        uint64_t others = watch->pace * (watch->count - 1), mean = took / watch->count;
        uint64_t longest = took > others && took - others > mean ? took - others : mean;
        if (longest > watch->longest)
            watch->longest = longest;
    }
    watch->count = 0;
}

/* Between two calls, when it is time to look: token and deadline, and what is done is shown when
   it lasts. False: the rest of the burst had better go back. */
static inline bool twill__flow_look(twill__flow *p, twill__flow_hand *hand,
                                    twill__flow_watch *watch, uint32_t to)
{
    if (p->timed &&
        (twill_cancel_fired(p->run.until.cancel) || twill__expired(p->run.until.deadline))) {
        twill__flow_publish_some(p, hand, to);
        watch->published = watch->looked;
    }
    if (hand->helper && twill__over(hand->helper->until) != TWILL_OK)
        return false;
    if (watch->looked - watch->published > 2 * p->goal && to < hand->n) {
        if (hand->step < p->n_steps && p->step[hand->step].limit > 1)
            return false;
        twill__flow_publish_some(p, hand, to);
        watch->published = watch->looked;
    }
    return true;
}

/* ---- the three kinds of burst ---- */

/* A callback may fork. In the child nothing of the pipeline is touched from its return on: another
   thread of the parent may have had the lock, and the items are the parent's. */

/* Loads one by one; returns how many have ended. */
static inline uint32_t twill__flow_run_loads(twill__flow *p, twill__flow_hand *hand,
                                             twill_task *task, twill__flow_watch *watch)
{
    twill__flow_step *step = &p->step[hand->step], *behind = step + 1;
    const char *in = step->in;
    size_t in_size = step->in_size, out_size = behind->in_size;
    twill_map_fn *work = step->user.work;
    bool thin = p->thin,
         plain = step->most == 1 && !(p->map_results && behind == &p->step[p->n_steps]);
    uint64_t number = twill__flow_fill(p, step, false, hand->load, hand->first);
    for (uint32_t i = 0; i < hand->n; i++) {
        twill__flow_load *load = &hand->load[i];
        size_t place = (size_t)load->piece.ticket * step->spread + load->piece.sub;
        const void *from = in + place * in_size;
        void *out = hand->scratch;
        int code;
        bool may_run;
        hand->at = i;
        if (out_size == 0)
            out = NULL;
        else if (step->most == 1)
            out = behind->in +
                  ((size_t)load->piece.ticket * behind->spread + load->piece.sub) * out_size;
        if (i + 1 < hand->n) /* while the processor still waits for the call before */
            number = twill__flow_fill(p, step, false, load + 1, number);
        may_run = twill__flow_load_begin(p, hand, load);
        if (i == 0)
            /* see twill__flow_sweep */
            atomic_store_explicit(&hand->begun, 1, memory_order_seq_cst);
        if (!may_run) {
            twill__flow_load_drop(p, hand, load);
            if (!twill__flow_here(p))
                return i + 1;
            continue;
        }
        if (i && atomic_load_explicit(&p->hungry, memory_order_seq_cst))
            twill__flow_publish_some(p, hand, i);
        hand->said = 0;
        hand->emitted = 0;
        task->index = (size_t)load->number;
        hand->calls = 1;
        code = work(from, out, task);
        hand->calls = 0;
        if (!twill__flow_here(p))
            return i + 1;
        if (plain && !((unsigned)code | hand->said)) {
            load->outs = 1;
            load->end = TWILL__FLOW_END_DONE;
            load->plain = thin;
        } else {
            twill__flow_load_end(p, hand, load, code);
            if (code && !twill__flow_here(p))
                return i + 1;
        }
        if (++watch->count == watch->every) {
            twill__flow_watch_look(watch);
            if (!twill__flow_look(p, hand, watch, i + 1))
                return i + 1;
        }
    }
    return hand->n;
}

/* A batch: those that may run come first, the rest is dropped after the call. Returns how many
   may. */
static inline uint32_t twill__flow_batch_gather(twill__flow *p, twill__flow_hand *hand)
{
    const twill__flow_step *step = &p->step[hand->step];
    size_t limit = twill__flow_limit(p);
    uint64_t number = hand->first;
    uint32_t n = 0;
    for (uint32_t i = 0; i < hand->n; i++) {
        number = twill__flow_fill(p, step, false, &hand->load[i], number);
        if (hand->load[i].key < limit) {
            twill__flow_load load = hand->load[i];
            hand->load[i] = hand->load[n];
            hand->load[n] = load;
            memcpy(hand->scratch + n++ * step->in_size, twill__flow_step_at(step, load.piece),
                   step->in_size);
        }
    }
    hand->at = 0;
    for (uint32_t i = 1; i < n; i++)
        if (hand->load[i].key < hand->load[hand->at].key)
            hand->at = i;
    return n;
}

/* How the call of a batch of n ended. */
static inline void twill__flow_batch_end(twill__flow *p, twill__flow_hand *hand, uint32_t n,
                                         int code)
{
    const twill__flow_step *step = &p->step[hand->step], *behind = step + 1;
    uint8_t end =
        hand->said & TWILL__SAID_SKIP ? TWILL__FLOW_END_SKIPPED : TWILL__FLOW_END_FILTERED;
    uint32_t outs = hand->said ? 0 : hand->emitted;
    if (code)
        end = TWILL__FLOW_END_FAILED;
    else if (!hand->said && (behind->in_size == 0 || (step->single && outs)))
        end = TWILL__FLOW_END_DONE;
    for (uint32_t i = 0; i < n; i++) {
        twill__flow_load *load = &hand->load[i];
        load->end = end;
        load->outs = end == TWILL__FLOW_END_DONE && behind->in_size == 0;
        if (!code && !step->single && i < outs) {
            load->end = TWILL__FLOW_END_DONE;
            load->outs = 1;
            if (p->map_results && hand->step + 1 == p->n_steps)
                memcpy(p->map_results + load->number * behind->in_size,
                       twill__flow_step_at(behind, load->piece), behind->in_size);
        }
    }
    if (!code && step->single && outs)
        hand->load[hand->at].outs = outs;
    for (uint32_t i = 0; code && i < n; i++)
        twill__flow_fail(p, hand->step, &hand->load[i], TWILL_FAILED, code);
    for (uint32_t i = 0; code && i < n && twill__flow_here(p); i++)
        twill__flow_load_bury(p, hand, &hand->load[i], code);
}

static inline uint32_t twill__flow_run_batch(twill__flow *p, twill__flow_hand *hand,
                                             twill_task *task, twill__flow_watch *watch)
{
    twill__flow_step *step = &p->step[hand->step];
    uint32_t n = twill__flow_batch_gather(p, hand);
    if (n && twill__flow_load_begin(p, hand, &hand->load[hand->at])) {
        int code;
        hand->said = 0;
        hand->emitted = 0;
        hand->calls = n;
        task->index = (size_t)hand->load[0].number;
        code = step->user.batch(hand->scratch, n, task);
        hand->calls = 0;
        if (!twill__flow_here(p))
            return hand->n;
        twill__flow_batch_end(p, hand, n, code);
        watch->count = 1;
        twill__flow_watch_look(watch);
    } else {
        n = 0;
    }
    for (uint32_t i = n; i < hand->n && twill__flow_here(p); i++) {
        hand->at = i;
        twill__flow_load_drop(p, hand, &hand->load[i]);
    }
    return hand->n;
}

/* The source, until the burst is full or it has nothing more for now. */
static inline uint32_t twill__flow_run_source(twill__flow *p, twill__flow_hand *hand,
                                              twill_task *task, twill__flow_watch *watch, bool *end)
{
    uint64_t number = hand->first;
    uint32_t i = 0, filled = 0;
    for (uint32_t asked = 0; i < hand->n && asked < 2 * TWILL__FLOW_BURST; asked++) {
        twill__flow_load *load = &hand->load[i];
        int code;
        hand->at = i;
        if (i == filled)
            number = twill__flow_fill(p, &p->step[p->n_steps], true, &hand->load[filled++], number);
        if (!twill__flow_load_begin(p, hand, load))
            break;
        if (asked == 0)
            /* see twill__flow_sweep */
            atomic_store_explicit(&hand->begun, 1, memory_order_seq_cst);
        else if (i && atomic_load_explicit(&p->hungry, memory_order_seq_cst))
            twill__flow_publish_some(p, hand, i);
        hand->said = 0;
        task->index = (size_t)load->number;
        hand->calls = 1;
        code = p->source(twill__flow_step_at(&p->step[0], load->piece), task);
        hand->calls = 0;
        if (!twill__flow_here(p))
            break;
        *end = code || (hand->said & TWILL__SAID_STOP);
        if (code)
            twill__flow_load_failed(p, hand, load, code);
        else if (!hand->said)
            load->plain = true;
        i += code || !hand->said;
        if (*end)
            break;
        if (++watch->count == watch->every) {
            twill__flow_watch_look(watch);
            (void)twill__flow_look(p, hand, watch, i); /* a source is gone on with */
        }
    }
    return i;
}

/* ---- a burst ---- */

static inline uint32_t twill__flow_hand_run(twill__flow *p, twill__flow_hand *hand,
                                            twill_task *task, twill__flow_watch *watch, bool *end)
{
    if (hand->step == p->n_steps) {
        task->context = p->run.context;
        twill__flow_watch_begin(p, watch, hand->pace);
        return twill__flow_run_source(p, hand, task, watch, end);
    }
    task->context = twill__flow_step_context(p, &p->step[hand->step]);
    twill__flow_watch_begin(p, watch, hand->pace);
    if (hand->whole)
        return twill__flow_run_batch(p, hand, task, watch);
    return twill__flow_run_loads(p, hand, task, watch);
}

/* Under the lock again: loads below `to` have ended. */
static inline void twill__flow_hand_end(twill__flow *p, twill__flow_hand *hand,
                                        const twill__flow_watch *watch, uint32_t to, bool end)
{
    uint64_t took = watch->looked > watch->since ? watch->looked - watch->since : 0;
    uint32_t ran = to ? to : 1;
    hand->busy += took;
    if (hand->step == p->n_steps) {
        p->source_burst = twill__flow_burst_next(p, p->source_burst, ran, took);
        p->source_pace = took / ran;
        if (end) {
            p->natural = p->shut = true;
        }
    } else {
        twill__flow_step *step = &p->step[hand->step];
        step->busy += took;
        if (watch->longest > step->longest)
            step->longest = watch->longest;
        step->burst = twill__flow_burst_next(p, step->burst, ran, took);
        step->pace = took / ran;
    }
    twill__flow_publish_all(p, hand, to);
}

/* ---- what the crew calls ---- */

static inline bool twill__flow_ready(void *pipe)
{
    twill__flow *p = (twill__flow *)pipe;
    twill__flow_turn turn;
    twill_ns due = 0;
    bool any;
    if (!twill__flow_here(p))
        return false;
    twill__flow_enter(p, &turn);
    twill__flow_poll(p);
    any = twill__flow_any(p);
    if (!any && !p->ended)
        due = p->due;
    twill__flow_exit(p, &turn, TWILL__FLOW_EXIT_READY);
    if (due)
        twill__crew_alarm(&p->crew, due);
    return any;
}

/* The caller that this thread is, at work instead of waiting; NULL: it is one of the crew's. */
static inline const twill__flow_waiter *twill__flow_helper(const twill__flow *p)
{
    uint64_t me = p->helpers.first ? twill__thread_number() : 0;
    for (twill__node *node = p->helpers.first; node; node = node->next)
        if (twill__flow_waiter_of(node)->thread == me)
            return twill__flow_waiter_of(node);
    return NULL;
}

/* Whether it had better go back: its wait is over, or there has been enough of it, and there is a
   ticket. Not sooner: while nothing else is ready, many tickets come back at once. */
static inline bool twill__flow_helper_leaves(const twill__flow *p, const twill__flow_waiter *helper,
                                             uint64_t took)
{
    return (helper->item && (p->shut || (p->free_count && took / TWILL__FLOW_HELP > p->goal))) ||
           twill__over(helper->until) != TWILL_OK;
}

/* Bursts, until nothing is ready. */
static inline void twill__flow_hand_work(twill__flow *p, twill__flow_hand *hand, twill_task *task)
{
    twill__flow_turn turn;
    uint64_t now = twill__ticks(), since = now;
    twill__flow_enter(p, &turn);
    hand->helper = hand->slot ? twill__flow_helper(p) : NULL;
    p->working += hand->slot != NULL;
    for (;;) { /* exit: nothing to take */
        twill__flow_watch watch;
        bool end = false, taken;
        uint32_t to;
        twill__flow_poll(p);
        if (hand->helper && now != since && twill__flow_helper_leaves(p, hand->helper, now - since))
            break;
        taken = twill__flow_take(p, hand);
        twill__flow_moods(p, now);
        if (!taken && !twill__flow_any(p))
            break;
        if (!taken) {
            taken = twill__flow_take(p, hand);
            TWILL_ASSERT(taken); /* it asks what any has asked */
            (void)taken;
        }
        twill__flow_exit(p, &turn, TWILL__FLOW_EXIT_WORKER);
        to = twill__flow_hand_run(p, hand, task, &watch, &end);
        if (watch.count)
            twill__flow_watch_look(&watch);
        now = watch.looked;
        if (!twill__flow_here(p)) /* forked in a callback: the others are not here */
            return;
        twill__flow_enter(p, &turn);
        twill__flow_hand_end(p, hand, &watch, to, end);
    }
    p->working -= hand->slot != NULL;
    twill__flow_exit(p, &turn, TWILL__FLOW_EXIT_WORKER);
}

static inline void twill__flow_work(void *pipe, twill_task *task)
{
    twill__flow *p = (twill__flow *)pipe;
    twill__flow_hand *hand = &p->hand[task->worker];
    twill_task mine = *task;
    mine.private_ = &hand->call;
    twill__flow_hand_work(p, hand, &mine);
}

/* Loads of the hand that have ended, in the thread that has ended. Of a batch whose dead letters
   are under way all have. */
static inline uint32_t twill__flow_hand_ended(const twill__flow_hand *hand, uint32_t calls)
{
    uint32_t to = hand->whole && calls ? calls : hand->at + 1;
    while (hand->whole && to < hand->n && hand->load[to].end != TWILL__FLOW_END_NONE)
        to++;
    return to;
}

/* A callback has ended its thread: its piece is LOST, the rest goes back. */
static inline void twill__flow_thread_ended(void *pipe, twill_task *task)
{
    twill__flow *p = (twill__flow *)pipe;
    twill__flow_hand *hand = &p->hand[task->worker];
    twill__flow_turn turn;
    uint32_t to, calls = hand->calls;
    if (!twill__flow_here(p))
        return;
    twill__flow_enter(p, &turn);
    if (!hand->active) { /* in worker_start, not at work */
        p->starting -= hand->starting;
        twill__flow_exit(p, &turn, TWILL__FLOW_EXIT_WORKER);
        return;
    }
    twill__flow_exit(p, &turn, TWILL__FLOW_EXIT_READY);
    hand->calls = 0;
    to = twill__flow_hand_ended(hand, calls);
    for (uint32_t i = to - calls; i < to; i++) {
        hand->load[i].end = TWILL__FLOW_END_FAILED;
        hand->load[i].outs = 0;
        twill__flow_fail(p, hand->step, &hand->load[i], TWILL_LOST, 0);
    }
    twill__flow_enter(p, &turn);
    if (hand->step == p->n_steps)
        p->shut = true;
    twill__flow_publish_all(p, hand, to);
    p->working--;
    twill__flow_exit(p, &turn, TWILL__FLOW_EXIT_WORKER);
}

#endif

static inline void twill__flow_waiter_init(twill__flow_waiter *waiter, const void *item,
                                           twill_until until)
{
    waiter->item = item;
    waiter->until = until;
    waiter->thread = twill__thread_number();
    waiter->told = waiter->inside = waiter->stays = false;
    waiter->helps = true;
}

/* Waits in `list`, the lock held. True: answered, in node.answer, and the pipeline is not touched
   again. False: the lock is held again; *over: TIMEOUT, CANCELLED, or OK: look again. */
static inline bool twill__flow_wait(twill__flow *p, twill__flow_turn *turn, twill__list *list,
                                    twill__flow_waiter *waiter, twill_until until,
                                    twill_status *over)
{
    twill_ns sooner = waiter->helps ? twill__nearer(until.deadline, p->due) : until.deadline;
    twill_status status;
    twill__node_init(&waiter->node);
    waiter->told = false;
    twill__list_append(list, &waiter->node);
    p->blocked_inside += waiter->inside;
    twill__flow_exit(p, turn, TWILL__FLOW_EXIT_CALLER);
    status = twill__wait_sooner(&waiter->node, sooner, until);
    if (status == TWILL_OK && waiter->node.answer != TWILL__FLOW_AGAIN_WORK)
        return true;
    twill__flow_enter(p, turn);
    twill__list_remove(list, &waiter->node);
    p->blocked_inside -= waiter->inside;
    *over = status == TWILL_EMPTY ? TWILL_OK : status;
    return false;
}

/* ---- callers that work ---- */

/* Sends the workers home; `closing` is ours. What nobody can run any more is dropped here. */
static inline void twill__flow_send_home(twill__flow *p)
{
    twill__flow_hand *spare = &p->hand[p->np];
    twill__flow_turn turn;
    twill_task task = twill__flow_task(p, SIZE_MAX, NULL);
    if (p->hooked)
        twill_cancel_remove_hook(p->run.until.cancel, &p->hook);
    if (!p->sent) { /* else a callback has ended the thread of who did */
        twill_report report = {.status = TWILL_OK};
        twill__crew_close(&p->crew, &report);
        if (!twill__flow_here(p))
            return;
        twill__flow_enter(p, &turn); /* somebody may look at the figures */
        p->crew_report = report;
        p->sent = true;
        twill__flow_exit(p, &turn, TWILL__FLOW_EXIT_WORKER);
    }
    twill__flow_hand_work(p, spare, &task); /* finds something only when it was halted */
    if (!twill__flow_here(p))
        return;
    twill__flow_enter(p, &turn);
    if (p->run.errors_capacity)
        twill__heap_sort(p->run.errors, p->errors_count);
    p->hooked = false;
    p->crew_closed = true;
    twill__flow_exit(p, &turn, TWILL__FLOW_EXIT_WORKER);
}

typedef struct twill__flow_turnout { /* what the clean-up needs when a callback ends the thread */
    twill__flow *p;
    twill__flow_waiter *waiter;
    bool closes;
    bool served;
} twill__flow_turnout;

/* A callback has ended the thread: nobody shall wait for it, and another one may close. */
static inline void twill__flow_turnout_ended(void *turnout_)
{
    twill__flow_turnout *turnout = (twill__flow_turnout *)turnout_;
    twill__flow *p = turnout->p;
    twill__flow_turn turn;
    if (!twill__flow_here(p))
        return;
    twill__flow_enter(p, &turn);
    twill__list_remove(&p->helpers, &turnout->waiter->node);
    p->inside -= turnout->waiter->stays;
    if (turnout->closes) {
        twill__flow_hand *spare =
            &p->hand[p->np]; /* what it has dropped is gone, the rest goes back */
        if (spare->active)
            twill__flow_publish_all(p, spare, spare->at + 1);
        p->closing = p->crew_closed;
    }
    twill__flow_exit(p, &turn, TWILL__FLOW_EXIT_CALLER);
}

/* noinline: as twill__take_part */
static __attribute__((noinline)) void twill__flow_turnout_run(twill__flow_turnout *turnout)
{
    TWILL__GUARD_PUSH(twill__flow_turnout_ended, turnout);
    if (turnout->closes)
        twill__flow_send_home(turnout->p);
    else
        turnout->served = twill__crew_help(&turnout->p->crew);
    TWILL__GUARD_POP(0);
}

/* The caller is at work, the lock held on both sides. In a forked child the lock is nobody's. */
static inline void twill__flow_turn_out(twill__flow *p, twill__flow_turn *turn,
                                        twill__flow_waiter *waiter, bool closes)
{
    twill__flow_turnout turnout = {p, waiter, closes, true};
    twill__node_init(&waiter->node);
    twill__list_append(&p->helpers, &waiter->node);
    twill__flow_exit(p, turn, TWILL__FLOW_EXIT_CALLER);
    twill__flow_turnout_run(&turnout);
    if (!twill__flow_here(p))
        return;
    if (!turnout.served)
        twill__yield(); /* somebody else has it, or has not given back his number yet */
    twill__flow_enter(p, turn);
    twill__list_remove(&p->helpers, &waiter->node);
}

/* The calling thread works, the lock held on both sides, if there is work. False: it cannot. */
static inline bool twill__flow_help(twill__flow *p, twill__flow_turn *turn,
                                    twill__flow_waiter *waiter)
{
    if (!waiter->helps || p->closing || !twill__flow_any(p) ||
        p->working + p->starting + p->refused >= p->np) /* no number is free for us */
        return false;
    twill__flow_turn_out(p, turn, waiter, false);
    return true;
}

/* ---- push ---- */

static inline twill_status twill__flow_push(twill__flow *p, const void *item, twill_until until,
                                            bool wait)
{
    twill__flow_waiter waiter;
    twill__flow_turn turn;
    twill_status over = TWILL_OK;
    twill__flow_waiter_init(&waiter, item, until);
    waiter.inside = twill__crew_inside(&p->crew);
    waiter.helps = !waiter.inside;
    twill__flow_enter(p, &turn);
    for (;;) { /* exit: an answer; each turn is work done or another's progress */
        twill__flow_poll(p);
        if (!p->free_count && !p->shut) { /* what is done, and not shown yet */
            twill__flow_sweep(p);
            twill__flow_settle(p, &turn);
        }
        if (p->shut) {
            over = TWILL_CLOSED;
            break;
        }
        if (p->free_count) { /* no pusher waits then, but those who look again themselves */
            twill__flow_accept(p, item);
            over = TWILL_OK;
            break;
        }
        if (over == TWILL_OK && !wait)
            over = TWILL_FULL;
        if (over == TWILL_OK && waiter.inside && twill__flow_stuck(p, p->blocked_inside + 1))
            over = TWILL_DEADLOCK;
        if (over == TWILL_OK)
            over = twill__over(until);
        if (over != TWILL_OK)
            break;
        if (twill__flow_help(p, &turn, &waiter)) {
            if (!twill__flow_here(p))
                return TWILL_FORKED;
            continue;
        }
        if (twill__flow_wait(p, &turn, &p->pushers, &waiter, until, &over))
            return (twill_status)waiter.node.answer;
    }
    twill__flow_exit(p, &turn, TWILL__FLOW_EXIT_CALLER);
    return over;
}

/* ---- the end ---- */

typedef enum twill__flow_joiner {
    TWILL__FLOW_JOINS, /* comes from another turn, counted in `inside` */
    TWILL__FLOW_STOPS, /* goes on to other turns, and stays counted */
    TWILL__FLOW_OWNS   /* the destroyer, or the one call: nobody else frees it */
} twill__flow_joiner;

/* Helps, and waits until all has ended. OK, FAILED, CANCELLED, TIMEOUT: how it ended; or, *early,
   CANCELLED or TIMEOUT: `until` was over first. */
static inline twill_status twill__flow_join(twill__flow *p, twill_until until,
                                            twill__flow_joiner who, bool *early)
{
    twill__flow_waiter waiter;
    twill__flow_turn turn;
    twill_status over = TWILL_OK;
    twill__flow_waiter_init(&waiter, NULL, until);
    waiter.stays = who == TWILL__FLOW_STOPS;
    *early = false;
    twill__flow_enter(p, &turn);
    p->inside -= who == TWILL__FLOW_JOINS;
    for (;;) { /* exit: as above */
        twill__flow_poll(p);
        twill__flow_settle(p, &turn);
        if (p->crew_closed) {
            over = twill__flow_status(p);
            break;
        }
        if ((p->ended || p->dead) && !p->closing) {
            p->closing = true;
            twill__flow_turn_out(p, &turn, &waiter, true);
            if (!twill__flow_here(p))
                return TWILL_FORKED;
            continue;
        }
        if (over == TWILL_OK && !p->ended)
            over = twill__over(until);
        if (over != TWILL_OK) {
            *early = true;
            break;
        }
        if (twill__flow_help(p, &turn, &waiter)) {
            if (!twill__flow_here(p))
                return TWILL_FORKED;
            continue;
        }
        if (twill__flow_wait(p, &turn, &p->joiners, &waiter, until, &over))
            return (twill_status)waiter.node.answer;
    }
    twill__flow_exit(p, &turn, TWILL__FLOW_EXIT_CALLER);
    return over;
}

/* Nothing more is begun. */
static inline void twill__flow_cancel(twill__flow *p, bool tell)
{
    twill__flow_turn turn;
    twill__flow_enter(p, &turn);
    if (!p->ended)
        twill__flow_halt(p, TWILL_CANCELLED, tell);
    twill__flow_exit(p, &turn, TWILL__FLOW_EXIT_CALLER);
}

/* A hook at the token of the run. */
static inline void twill__flow_hook(int reason, const twill_task *task)
{
    (void)reason;
    twill__flow_cancel((twill__flow *)task->context, false);
}

/* Waits until those who wait inside have left; then the memory may go. */
static inline void twill__flow_desert(twill__flow *p)
{
    twill__flow_turn turn;
    twill__node node;
    twill__flow_enter(p, &turn);
    if (!twill__flow_deserted(p)) { /* all have their answers: whoever was here last saw to that */
        twill__node_init(&node);
        p->destroyer = &node;
        twill__unlock(&p->lock);
        twill__await(&node);
        twill__flow_enter(p, &turn); /* whoever told us has left the section now */
    }
    twill__flow_exit(p, &turn, TWILL__FLOW_EXIT_WORKER);
    /* acquire: pairs with the release in twill__flow_exit. exit: they make a few steps */
    while (atomic_load_explicit(&p->leaving, memory_order_acquire))
        twill__yield();
}

/* A callback ends the calling thread of a one-call form, or a destroy: all that is left ends here,
   without it. */
static inline void twill__flow_end_now(twill__flow *p)
{
    twill__flow_turn turn;
    twill__flow_enter(p, &turn);
    if (!p->ended)
        twill__flow_halt(p, 0, true);
    p->closing = true;
    twill__flow_exit(p, &turn, TWILL__FLOW_EXIT_CALLER);
    twill__flow_send_home(p);
}

#endif

static inline void twill__flow_first_error(const twill__flow *p, twill_pipeline_report *report)
{
    const twill__flow_error *error = p->earliest.status ? &p->earliest : &p->lowest;
    if (p->dead) {
        report->run.first_error = (twill_item_error){SIZE_MAX, TWILL_FAILED, p->start_code};
    } else if (twill__flow_failed_at_last(p)) {
        report->run.first_error =
            (twill_item_error){(size_t)error->number, error->status, error->code};
        if (error->stage < p->n_steps)
            report->failed_stage = error->stage;
    }
}

/* Under the lock. */
static inline void twill__flow_fill_report(const twill__flow *p, twill_pipeline_report *report)
{
    twill_report *run = &report->run;
    double most = -1;
    *report = (twill_pipeline_report){.failed_stage = SIZE_MAX};
    *run = p->crew_report; /* flags and workers, once the crew is closed */
    run->status = p->ended || p->dead ? twill__flow_status(p) : TWILL_OK;
    run->total = (size_t)p->issued;
    run->done = (size_t)p->done;
    run->failed = (size_t)p->failed;
    run->skipped = (size_t)p->skipped;
    if (p->map_n) { /* a report at the end: what that came before */
        run->skipped += p->map_n - run->total;
        run->total = p->map_n;
    }
    run->errors_stored = p->errors_count;
    run->wall = (p->ended ? p->ended_at : twill__clock_now()) - p->began_at;
    run->workers_used = 0;
    if (p->call && run->workers_started < p->np)
        run->workers_started++;
    for (uint32_t h = 0; h < p->np; h++) {
        twill_ns busy = twill__time_of_ticks(p->hand[h].busy);
        run->chunks += p->hand[h].bursts;
        run->workers_used += p->hand[h].used;
        run->busy += busy;
        if (busy > run->busiest)
            run->busiest = busy;
    }
    twill__flow_first_error(p, report);
    report->delivered = p->delivered;
    report->filtered = p->filtered;
    report->in_flight_peak = p->in_flight_peak;
    for (uint32_t k = 0; k < p->n_steps; k++) {
        double busy = (double)p->step[k].busy / p->step[k].limit;
        if (busy > most) {
            most = busy;
            report->bottleneck = k;
        }
    }
}

static inline void twill__flow_fill_stats(twill__flow *p, twill_stage_stats *stats)
{
    if (!p->ended)
        twill__flow_moods_read(p, twill__ticks());
    for (uint32_t k = 0; k < p->n_steps; k++) {
        const twill__flow_step *step = &p->step[k];
        stats[k] = (twill_stage_stats){
            .in = step->count_in,
            .out = step->count_out,
            .filtered = step->filtered,
            .failed = step->failed,
            .dropped = step->dropped,
            .busy = twill__time_of_ticks(step->busy),
            .starved = twill__time_of_ticks(step->starved),
            .held = twill__time_of_ticks(step->held),
            .longest = twill__time_of_ticks(step->longest),
            .waiting = step->waiting,
            .waiting_peak = step->waiting_peak,
            .reorder_peak = step->reorder_peak,
            .running = step->running,
            .running_peak = step->running_peak,
        };
    }
}

/* The options' reports, at the end. */
static inline void twill__flow_report(twill__flow *p)
{
    twill_pipeline_report report;
    for (uint64_t i = p->issued; p->run.statuses && p->over && i < p->map_n; i++)
        p->run.statuses[i] = (twill_status)p->over; /* what never came in says why */
    twill__flow_fill_report(p, &report);
    if (p->options.report)
        *p->options.report = report;
    if (p->run.report)
        *p->run.report = report.run;
    if (p->options.stage_stats)
        twill__flow_fill_stats(p, p->options.stage_stats);
}

#endif

/* What a pipeline is made of. */
typedef struct twill__flow_plan {
    const twill_stage *stages;
    size_t n_stages, item_size;
    const twill_pipeline_options *options;
    twill_source_fn *source; /* NULL: pushed */
    const void *map_items;
    void *map_results;
    size_t map_n;
    bool map;
    /* found */
    uint32_t tickets, np;
    size_t loads, scratch; /* of a hand */
} twill__flow_plan;

/* Of a call that runs nothing, or is the parent process's. */
static inline twill_status twill__flow_refuse(const twill__flow_plan *plan, size_t total,
                                              twill_status status)
{
    const twill_pipeline_options *options = plan->options;
    if (options->report) {
        *options->report = (twill_pipeline_report){.failed_stage = SIZE_MAX};
        options->report->run.status = status;
        options->report->run.total = options->report->run.skipped = total;
    }
    for (size_t k = 0; options->stage_stats && k < plan->n_stages && plan->n_stages <= 65536; k++)
        options->stage_stats[k] = (twill_stage_stats){0};
    return twill__refuse(&options->run, total, status);
}

static inline twill_status twill__flow_stage_check(const twill__flow_plan *plan, size_t k)
{
    const twill_stage *stage = &plan->stages[k];
    if (!stage->work == !stage->batch || (unsigned)stage->kind > TWILL_STAGE_SERIAL ||
        (!stage->out_size && (k + 1 < plan->n_stages || stage->outputs_max)) ||
        (stage->kind != TWILL_STAGE_PARALLEL && stage->workers > 1) || stage->linger < 0 ||
        (!stage->batch && (stage->batch_max || stage->linger)) || (plan->map && stage->outputs_max))
        return TWILL_INVALID;
    return stage->outputs_max > UINT32_MAX || stage->batch_max > UINT32_MAX ? TWILL_TOO_BIG
                                                                            : TWILL_OK;
}

static inline uint32_t twill__flow_stage_limit(const twill_stage *stage)
{
    return stage->kind != TWILL_STAGE_PARALLEL ? 1
           : stage->workers                    ? stage->workers
                                               : twill__cpus_hint();
}

/* Checks all, and finds how many tickets and workers there are. */
static inline twill_status twill__flow_plan_check(twill__flow_plan *plan)
{
    const twill_pipeline_options *options = plan->options;
    const twill_run *run = &options->run;
    uint64_t workers = 0, tokens = options->tokens;
    twill_status status = twill__check_run(run);
    if (status != TWILL_OK)
        return status;
    if (!plan->item_size || !plan->stages || !plan->n_stages ||
        (!plan->map && (run->statuses || run->codes)))
        return TWILL_INVALID;
    if (plan->n_stages > 65536)
        return TWILL_TOO_BIG;
    for (size_t k = 0; k < plan->n_stages; k++) {
        status = twill__flow_stage_check(plan, k);
        if (status != TWILL_OK)
            return status;
        workers += twill__flow_stage_limit(&plan->stages[k]);
    }
    if (!tokens)
        tokens = 3 * workers;
    if (run->workers)
        workers = run->workers;
    if (workers > tokens)
        workers = tokens;
    if (tokens > 1u << 30 || workers > TWILL__MAX_WORKERS)
        return TWILL_TOO_BIG;
    plan->tickets = (uint32_t)tokens;
    plan->np = (uint32_t)workers;
    return TWILL_OK;
}

/* ---- memory ---- */

typedef struct twill__flow_carver { /* base NULL: only counts; else aligned to a line */
    char *base;
    size_t at;
    bool too_big;
} twill__flow_carver;

/* On a line of its own: items may want that much. */
static inline void *twill__flow_carve(twill__flow_carver *carver, size_t n, size_t size)
{
    size_t at = (carver->at + TWILL__LINE - 1) / TWILL__LINE * TWILL__LINE;
    if (carver->too_big || (size && n > (SIZE_MAX / 2 - at) / size)) {
        carver->too_big = true;
        return NULL;
    }
    carver->at = at + n * size;
    return carver->base && size ? carver->base + at : NULL;
}

static inline uint32_t twill__flow_power_of_two(uint64_t least)
{
    uint32_t size = 1;
    while (size < least)
        size *= 2;
    return size;
}

/* Outputs of one call. */
static inline size_t twill__flow_stage_outputs(const twill_stage *stage)
{
    if (stage->outputs_max || !stage->batch)
        return stage->outputs_max ? stage->outputs_max : 1;
    return stage->batch_max ? stage->batch_max : 16;
}

/* What a step is, given what can come to it. */
static inline twill_status twill__flow_step_plan(twill__flow_step *step,
                                                 const twill__flow_plan *plan, size_t k,
                                                 uint32_t spread, size_t in_size)
{
    const twill_stage *stage = &plan->stages[k];
    uint64_t pieces = (uint64_t)spread * plan->tickets;
    memset(step, 0, sizeof *step);
    step->user = *stage;
    step->in_size = in_size;
    step->spread = spread;
    step->most = stage->outputs_max ? (uint32_t)stage->outputs_max : 1;
    step->limit = twill__flow_stage_limit(stage);
    step->in_order = stage->kind == TWILL_STAGE_IN_ORDER;
    step->single = stage->batch && stage->outputs_max;
    step->burst = 1;
    step->mood = TWILL__FLOW_MOOD_STARVED;
    if (step->most > 1u << 30)
        return TWILL_TOO_BIG;
    step->mask = twill__flow_power_of_two(pieces) - 1;
    if (stage->batch && !step->user.batch_max)
        step->user.batch_max = 16;
    if (step->user.batch_max > pieces)
        step->user.batch_max = (size_t)pieces;
    step->room = SIZE_MAX;
    if (stage->buffer && !step->in_order) {
        /* what a call before it brings must fit, also while a batch waits to be full */
        size_t call = k > 0 ? twill__flow_stage_outputs(&plan->stages[k - 1]) : 1;
        if (stage->batch)
            call += step->user.batch_max - 1;
        step->room = stage->buffer < call ? call : stage->buffer;
        if (step->room >= pieces)
            step->room = SIZE_MAX;
    }
    return TWILL_OK;
}

static inline void twill__flow_step_carve(twill__flow_step *step, twill__flow_carver *carver,
                                          const twill__flow_plan *plan, uint32_t ring)
{
    size_t tickets = plan->tickets, pieces = tickets * step->spread;
    step->in = (char *)twill__flow_carve(carver, pieces, step->in_size);
    if (!step->in_order) {
        step->queue = (twill__flow_piece *)twill__flow_carve(carver, (size_t)step->mask + 1,
                                                             sizeof *step->queue);
    } else {
        step->ring = (uint32_t *)twill__flow_carve(carver, ring, sizeof *step->ring);
        if (carver->base)
            memset(step->ring, 0, ring * sizeof *step->ring);
    }
    if (step->in_order && step->spread > 1) {
        size_t words = tickets * ((step->spread + 63) / 64);
        step->due = (uint32_t *)twill__flow_carve(carver, tickets, sizeof *step->due);
        step->left = (uint32_t *)twill__flow_carve(carver, tickets, sizeof *step->left);
        step->bits = (uint64_t *)twill__flow_carve(carver, words, sizeof *step->bits);
        if (carver->base) {
            memset(step->left, 0, tickets * sizeof *step->left);
            memset(step->bits, 0, words * sizeof *step->bits);
        }
    }
    if (step->user.linger && step->user.linger != TWILL_FOREVER)
        step->came = (twill_ns *)twill__flow_carve(carver, pieces, sizeof *step->came);
}

/* The steps, one behind the other; base NULL: only their bytes. */
static inline twill_status
twill__flow_plan_steps(twill__flow_plan *plan, twill__flow_carver *carver, twill__flow_step *steps)
{
    uint64_t spread = 1;
    size_t in_size = plan->item_size;
    uint32_t ring = twill__flow_power_of_two(plan->tickets);
    twill__flow_step one;
    plan->loads = TWILL__FLOW_BURST;
    plan->scratch = 0;
    for (size_t k = 0; k < plan->n_stages; k++) {
        twill__flow_step *step = steps ? &steps[k] : &one;
        twill_status status = twill__flow_step_plan(step, plan, k, (uint32_t)spread, in_size);
        size_t scratch = 0;
        if (status != TWILL_OK)
            return status;
        twill__flow_step_carve(step, carver, plan, ring);
        if (step->user.batch) {
            if (in_size > SIZE_MAX / 4 / step->user.batch_max)
                return TWILL_TOO_BIG;
            scratch = in_size * step->user.batch_max;
            if (step->user.batch_max > plan->loads)
                plan->loads = step->user.batch_max;
        } else if (step->most > 1) {
            scratch = step->user.out_size;
        }
        if (scratch > plan->scratch)
            plan->scratch = scratch;
        in_size = step->user.out_size;
        if (step->user.outputs_max)
            spread *= step->most;
        if (spread * plan->tickets > 1u << 30)
            return TWILL_TOO_BIG;
    }
    if (plan->loads > spread * plan->tickets) /* no burst has more than all pieces */
        plan->loads = (size_t)spread * plan->tickets;
    if (steps) {
        twill__flow_step *last = &steps[plan->n_stages];
        memset(last, 0, sizeof *last);
        last->spread = (uint32_t)spread;
        last->in_size = in_size;
        last->room = SIZE_MAX;
        last->scale = 1;
        last->in = (char *)twill__flow_carve(carver, (size_t)spread * plan->tickets, in_size);
    } else {
        (void)twill__flow_carve(carver, (size_t)spread * plan->tickets, in_size);
    }
    return TWILL_OK;
}

/* All but the pipeline's own record and the crew's block. p NULL: only the bytes. */
static inline twill_status twill__flow_plan_carve(twill__flow_plan *plan,
                                                  twill__flow_carver *carver, twill__flow *p)
{
    size_t hands = (size_t)plan->np + 1, tickets = plan->tickets;
    twill__flow_step *steps =
        (twill__flow_step *)twill__flow_carve(carver, plan->n_stages + 1, sizeof *steps);
    twill__flow_ticket *ticket =
        (twill__flow_ticket *)twill__flow_carve(carver, tickets, sizeof *ticket);
    uint32_t *free = (uint32_t *)twill__flow_carve(carver, tickets, sizeof *free);
    twill_status status = twill__flow_plan_steps(plan, carver, p ? steps : NULL);
    size_t scratch = (plan->scratch + TWILL__LINE - 1) / TWILL__LINE * TWILL__LINE;
    twill__flow_load *loads;
    char *room;
    if (status != TWILL_OK)
        return status;
    loads = (twill__flow_load *)twill__flow_carve(carver, hands * plan->loads, sizeof *loads);
    room = (char *)twill__flow_carve(carver, hands, scratch);
    if (carver->too_big)
        return TWILL_TOO_BIG;
    if (!p)
        return TWILL_OK;
    p->step = steps;
    p->ticket = ticket;
    p->free = free;
    for (size_t h = 0; h < hands; h++) {
        p->hand[h].load = loads + h * plan->loads;
        p->hand[h].scratch = room ? room + h * scratch : NULL;
    }
    return TWILL_OK;
}

/* ---- making it ---- */

static inline void twill__flow_init(twill__flow *p, const twill__flow_plan *plan)
{
    p->n_steps = (uint32_t)plan->n_stages;
    p->tickets = p->free_count = plan->tickets;
    for (uint32_t k = 0; k < p->tickets; k++)
        p->free[k] = p->tickets - 1 - k;
    p->ring_mask = twill__flow_power_of_two(plan->tickets) - 1;
    p->first_order = p->n_steps;
    for (uint32_t k = p->n_steps; k-- > 0;) {
        p->step[k].order = p->first_order;
        p->step[k].scale = p->step[k + 1].scale * p->step[k].most;
        if (p->step[k].in_order)
            p->first_order = k;
    }
    for (uint32_t h = 0; h <= p->np; h++) {
        p->hand[h].call.table = twill__flow_calls();
        p->hand[h].pipe = p;
        p->hand[h].slot = h < p->np ? &p->crew.job.slot[h] : NULL;
    }
    p->burst_most = p->tickets / (p->np + 1);
    if (p->burst_most < 1)
        p->burst_most = 1;
    if (p->burst_most > TWILL__FLOW_BURST)
        p->burst_most = TWILL__FLOW_BURST;
    p->thin = p->step[p->n_steps].spread == 1;
    p->source_burst = 1;
    p->stop_key = SIZE_MAX;
    atomic_init(&p->limit, SIZE_MAX);
    p->timed = !twill__for_ever(p->run.until);
    p->source = plan->source;
    p->map_items = (const char *)plan->map_items;
    p->map_results = (char *)plan->map_results;
    p->map_n = plan->map_n;
    p->home = twill__home_here();
    p->goal = twill__ticks_per_us() * TWILL__FLOW_BURST_NS / 1024;
    p->began_at = twill__clock_now();
    p->began_ticks = twill__ticks();
    for (uint32_t k = 0; k < p->n_steps; k++)
        p->step[k].since = p->began_ticks;
}

/* worker_start, counted: when no number is left that could start, nobody can run anything. One that
   has ended its thread is not called again under that number. */
static inline int twill__flow_worker_start(void **state, const twill_task *task)
{
    twill__flow *p = (twill__flow *)((twill__job *)task->private_)->data;
    twill__flow_hand *hand = &p->hand[task->worker];
    twill__flow_turn turn;
    int code = -1;
    if (!hand->starting) {
        hand->starting = true;
        twill__flow_enter(p, &turn);
        p->starting++;
        twill__flow_exit(p, &turn, TWILL__FLOW_EXIT_READY);
        code = p->user_start(state, task);
        hand->starting = false;
        if (!twill__flow_here(p))
            return -1;
        twill__flow_enter(p, &turn);
        p->starting--;
    } else {
        twill__flow_enter(p, &turn);
    }
    if (code && !p->refused++)
        p->start_code = code;
    if (p->refused == p->np) {
        p->dead = true;
        twill__flow_halt(p, 0, false);
    }
    twill__flow_exit(p, &turn, TWILL__FLOW_EXIT_WORKER);
    return code;
}

static inline const twill__crew_table *twill__flow_crew_table(void)
{
    static const twill__crew_table table = {
        .ready = twill__flow_ready, .work = twill__flow_work, .ended = twill__flow_thread_ended};
    return &table;
}

/* One allocation. own: threads of its own, where it has no others. nested: it ends before the
   callback around it does. */
static inline twill_status twill__flow_make(twill__flow **out, twill__flow_plan *plan, bool nested)
{
    twill__flow_carver count = {NULL, 0, false}, carver;
    size_t head = (sizeof(twill__flow) + TWILL__LINE - 1) / TWILL__LINE * TWILL__LINE, crew, hands;
    unsigned own;
    char *memory, *base;
    twill__flow *p;
    twill_run run;
    twill__flow_turn turn;
    twill_status status = twill__flow_plan_check(plan);
    *out = NULL;
    if (status == TWILL_OK)
        status = twill__flow_plan_carve(plan, &count, NULL);
    if (status != TWILL_OK)
        return status;
    own = nested ? plan->np - 1 : plan->np;
    crew = twill__crew_bytes(plan->np, own);
    hands = ((size_t)plan->np + 1) * sizeof(twill__flow_hand);
    if (count.at > SIZE_MAX / 2 - head - crew - hands - TWILL__LINE)
        return TWILL_TOO_BIG;
    memory = (char *)TWILL_MALLOC(head + crew + hands + count.at + TWILL__LINE);
    if (!memory)
        return TWILL_NO_MEMORY;
    base = memory + (TWILL__LINE - (uintptr_t)memory % TWILL__LINE) % TWILL__LINE;
    memset(base, 0, head);
    memset(base + head + crew, 0, hands);
    p = (twill__flow *)(void *)base;
    p->memory = memory;
    p->np = plan->np;
    p->call = nested;
    p->options = *plan->options;
    p->run = plan->options->run;
    p->hand = (twill__flow_hand *)(void *)(base + head + crew);
    carver = (twill__flow_carver){base + head + crew + hands, 0, false};
    (void)twill__flow_plan_carve(plan, &carver, p);
    run = p->run;
    if (run.worker_start) {
        p->user_start = run.worker_start;
        run.worker_start = twill__flow_worker_start;
    }
    p->crew.job.slot = (twill__slot *)(void *)(base + head);
    twill__flow_init(p, plan);
    status = twill__crew_open(&p->crew, &run, p->np, own, nested, twill__flow_crew_table(), p,
                              base + head);
    if (status != TWILL_OK) {
        TWILL_FREE(memory);
        return status;
    }
    if (p->run.until.cancel) {
        p->hook.fn = twill__flow_hook;
        p->hook.context = p;
        p->hooked = true;
        twill_cancel_add_hook(p->run.until.cancel, &p->hook);
    }
    twill__flow_enter(p, &turn);
    p->opened = true;
    twill__flow_exit(p, &turn, TWILL__FLOW_EXIT_CALLER);
    *out = p;
    return TWILL_OK;
}

#endif

static const twill_pipeline_options twill__flow_defaults;

/* ---- inside callbacks ---- */

TWILL__DEFINE int twill_pipeline_filter(const twill_task *task)
{
    twill__flow_hand *hand = twill__flow_hand_of(task);
    if (hand)
        hand->said |= TWILL__FLOW_SAID_FILTER;
    return 0;
}

TWILL__DEFINE twill_status twill_pipeline_emit(const twill_task *task, const void *out)
{
    twill__flow_hand *hand = twill__flow_hand_of(task);
    const twill__flow_step *step;
    char *to;
    if (!hand || !out || !hand->calls || hand->step == hand->pipe->n_steps)
        return TWILL_INVALID;
    step = &hand->pipe->step[hand->step];
    if (!step->user.out_size)
        return TWILL_INVALID;
    if (hand->emitted == (hand->whole && !step->single ? hand->calls : step->most))
        return TWILL_TOO_BIG;
    to = twill__flow_output(hand, hand->emitted);
    if (to != (const char *)out)
        memcpy(to, out, step->user.out_size);
    hand->emitted++;
    return TWILL_OK;
}

/* ---- one call ---- */

typedef struct twill__flow_one { /* one call */
    twill__flow *p;
    twill_status status;
} twill__flow_one;

/* Also runs when a callback ends the calling thread. */
static inline void twill__flow_finish(void *one_)
{
    twill__flow *p = ((twill__flow_one *)one_)->p;
    if (twill__flow_here(p)) {
        if (!p->crew_closed)
            twill__flow_end_now(p);
        twill__flow_report(p);
    }
    TWILL_FREE(p->memory);
}

static inline void twill__flow_all(twill__flow_one *one)
{
    twill_until until = {0, NULL};
    bool early;
    one->status = twill__flow_join(one->p, until, TWILL__FLOW_OWNS, &early);
}

static inline twill_status twill__flow_call(twill__flow_plan *plan, size_t total)
{
    twill__flow_one one;
    one.status = twill__flow_make(&one.p, plan, true);
    if (one.status != TWILL_OK)
        return twill__flow_refuse(plan, total, one.status);
    TWILL__GUARD_PUSH(twill__flow_finish, &one);
    twill__flow_all(&one);
    TWILL__GUARD_POP(1);
    if (one.status == TWILL_FORKED) /* in a callback: this is the child */
        return twill__flow_refuse(plan, total, TWILL_FORKED);
    return one.status;
}

TWILL__DEFINE twill_status twill_pipeline_run(twill_source_fn *source, size_t source_size,
                                              const twill_stage *stages, size_t n_stages,
                                              const twill_pipeline_options *options)
{
    twill__flow_plan plan = {.stages = stages,
                             .n_stages = n_stages,
                             .item_size = source_size,
                             .options = options ? options : &twill__flow_defaults,
                             .source = source};
    if (!source)
        return twill__flow_refuse(&plan, 0, TWILL_INVALID);
    return twill__flow_call(&plan, 0);
}

static inline int twill__flow_map_source(void *out, const twill_task *task)
{
    const twill__flow *p = twill__flow_hand_of(task)->pipe;
    if (task->index >= p->map_n)
        return twill_task_stop(task);
    memcpy(out, p->map_items + task->index * p->step[0].in_size, p->step[0].in_size);
    return 0;
}

/* Without stages: a copy. */
static inline twill_status twill__flow_copy(const twill__flow_plan *plan, size_t n)
{
    const twill_pipeline_options *options = plan->options;
    twill_pipeline_report report = {.failed_stage = SIZE_MAX};
    if (n)
        memmove(plan->map_results, plan->map_items, n * plan->item_size);
    for (size_t i = 0; options->run.statuses && i < n; i++)
        options->run.statuses[i] = TWILL_OK;
    if (options->run.codes && n)
        memset(options->run.codes, 0, n * sizeof *options->run.codes);
    report.run.total = report.run.done = n;
    report.run.workers_started = report.run.workers_used = 1;
    report.delivered = n;
    if (options->report)
        *options->report = report;
    if (options->run.report)
        *options->run.report = report.run;
    return TWILL_OK;
}

TWILL__DEFINE twill_status twill_pipeline_map(const void *items, size_t item_size, void *results,
                                              size_t result_size, size_t n,
                                              const twill_stage *stages, size_t n_stages,
                                              const twill_pipeline_options *options)
{
    twill__flow_plan plan = {.stages = stages,
                             .n_stages = n_stages,
                             .item_size = item_size,
                             .options = options ? options : &twill__flow_defaults,
                             .source = twill__flow_map_source,
                             .map = true,
                             .map_items = items,
                             .map_results = results,
                             .map_n = n};
    const twill_run *run = &plan.options->run;
    size_t last = n_stages && stages ? stages[n_stages - 1].out_size : item_size;
    if (!item_size || !result_size || last != result_size || (n_stages && !stages) ||
        (n && (!items || !results || (items == results && item_size != result_size))))
        return twill__flow_refuse(&plan, n, TWILL_INVALID);
    if (n > SIZE_MAX / item_size || n > SIZE_MAX / result_size)
        return twill__flow_refuse(&plan, n, TWILL_TOO_BIG);
    if (!n_stages)
        return twill__flow_copy(&plan, n);
    for (size_t i = 0; run->statuses && i < n; i++)
        run->statuses[i] = TWILL_CANCELLED;
    if (run->codes && n)
        memset(run->codes, 0, n * sizeof *run->codes);
    return twill__flow_call(&plan, n);
}

/* ---- the object ---- */

TWILL__DEFINE twill_status twill_pipeline_create(twill_pipeline **out, size_t item_size,
                                                 const twill_stage *stages, size_t n_stages,
                                                 const twill_pipeline_options *options)
{
    twill__flow_plan plan = {.stages = stages,
                             .n_stages = n_stages,
                             .item_size = item_size,
                             .options = options ? options : &twill__flow_defaults};
    if (!out)
        return TWILL_INVALID;
    return twill__flow_make(out, &plan, false);
}

static inline twill_status twill__flow_try(twill__flow *p, const void *item, twill_until until,
                                           bool wait)
{
    if (!p || !item)
        return TWILL_INVALID;
    return twill__flow_here(p) ? twill__flow_push(p, item, until, wait) : TWILL_FORKED;
}

TWILL__DEFINE twill_status twill_pipeline_push(twill_pipeline *pipeline, const void *item)
{
    return twill__flow_try(pipeline, item, (twill_until){0, NULL}, true);
}

TWILL__DEFINE twill_status twill_pipeline_try_push(twill_pipeline *pipeline, const void *item)
{
    return twill__flow_try(pipeline, item, (twill_until){0, NULL}, false);
}

TWILL__DEFINE twill_status twill_pipeline_push_until(twill_pipeline *pipeline, const void *item,
                                                     twill_until until)
{
    return twill__flow_try(pipeline, item, until, true);
}

/* `stays` (or NULL): whether the call will take the lock again, and a destroy waits for it; false
   if it may not, in a callback that the thread which ends all calls itself. */
static inline twill_status twill__flow_close(twill__flow *p, bool *stays)
{
    twill__flow_turn turn;
    twill_status status;
    twill__flow_enter(p, &turn);
    status = p->closed ? TWILL_CLOSED : TWILL_OK;
    if (!p->shut)
        p->natural = true;
    p->closed = p->shut = true;
    if (stays) {
        *stays = *stays && !twill__flow_helper(p);
        p->inside += *stays;
    }
    twill__flow_exit(p, &turn, TWILL__FLOW_EXIT_CALLER);
    return status;
}

TWILL__DEFINE twill_status twill_pipeline_close(twill_pipeline *pipeline)
{
    if (!pipeline)
        return TWILL_INVALID;
    return twill__flow_here(pipeline) ? twill__flow_close(pipeline, NULL) : TWILL_FORKED;
}

TWILL__DEFINE twill_status twill_pipeline_cancel(twill_pipeline *pipeline)
{
    if (!pipeline)
        return TWILL_INVALID;
    if (!twill__flow_here(pipeline))
        return TWILL_FORKED;
    twill__flow_cancel(pipeline, true);
    return TWILL_OK;
}

TWILL__DEFINE twill_status twill_pipeline_join_until(twill_pipeline *pipeline, twill_until until)
{
    bool stays, early;
    if (!pipeline)
        return TWILL_INVALID;
    if (!twill__flow_here(pipeline))
        return TWILL_FORKED;
    stays = !twill__crew_inside(&pipeline->crew);
    (void)twill__flow_close(pipeline, &stays);
    if (!stays)
        return TWILL_DEADLOCK;
    return twill__flow_join(pipeline, until, TWILL__FLOW_JOINS, &early);
}

TWILL__DEFINE twill_status twill_pipeline_join(twill_pipeline *pipeline)
{
    return twill_pipeline_join_until(pipeline, (twill_until){0, NULL});
}

/* The first turn of who will wait for the end. False, and the lock is not held: in a callback. */
static inline bool twill__flow_enter_outside(twill__flow *p, twill__flow_turn *turn)
{
    if (twill__crew_inside(&p->crew))
        return false;
    twill__flow_enter(p, turn);
    if (!twill__flow_helper(p))
        return true;
    twill__flow_exit(p, turn, TWILL__FLOW_EXIT_CALLER);
    return false;
}

TWILL__DEFINE twill_status twill_pipeline_stop(twill_pipeline *pipeline, twill_until drain,
                                               twill_until join, twill_stopped *out)
{
    twill__flow *p = pipeline;
    twill__flow_turn turn;
    uint64_t ended = 0, skipped = 0;
    bool early;
    twill_status status;
    if (out)
        memset(out, 0, sizeof *out);
    if (!p)
        return TWILL_INVALID;
    if (!twill__flow_here(p))
        return TWILL_FORKED;
    if (!twill__flow_enter_outside(p, &turn))
        return TWILL_DEADLOCK;
    ended = p->done + p->failed;
    skipped = p->skipped;
    p->inside++;
    twill__flow_exit(p, &turn, TWILL__FLOW_EXIT_CALLER);
    (void)twill__flow_close(p, NULL);
    status = twill__flow_join(p, drain, TWILL__FLOW_STOPS, &early);
    if (early) {
        twill__flow_cancel(p, true);
        status = twill__flow_join(p, join, TWILL__FLOW_STOPS, &early);
    }
    if (!twill__flow_here(p))
        return TWILL_FORKED;
    twill__flow_enter(p, &turn);
    if (out) {
        out->finished = (size_t)(p->done + p->failed - ended);
        out->cancelled = (size_t)(p->skipped - skipped);
        for (uint32_t k = 0; k < p->n_steps; k++)
            out->stuck += p->step[k].running;
    }
    p->inside--;
    twill__flow_exit(p, &turn, TWILL__FLOW_EXIT_CALLER);
    return early ? status : TWILL_OK;
}

TWILL__DEFINE void twill_pipeline_get_stats(twill_pipeline *pipeline, twill_pipeline_report *out,
                                            twill_stage_stats *stages)
{
    twill__flow *p = pipeline;
    twill__flow_turn turn;
    if (out)
        *out = (twill_pipeline_report){.failed_stage = SIZE_MAX};
    if (!p || !twill__flow_here(p))
        return;
    twill__flow_enter(p, &turn);
    if (out)
        twill__flow_fill_report(p, out);
    if (stages)
        twill__flow_fill_stats(p, stages);
    twill__flow_exit(p, &turn, TWILL__FLOW_EXIT_CALLER);
}

TWILL__DEFINE twill_status twill_pipeline_destroy(twill_pipeline *pipeline)
{
    twill__flow *p = pipeline;
    twill__flow_turn turn;
    bool early;
    if (!p)
        return TWILL_OK;
    if (!twill__flow_here(p))
        return TWILL_FORKED;
    if (!twill__flow_enter_outside(p, &turn))
        return TWILL_DEADLOCK;
    if (!p->ended)
        twill__flow_halt(p, TWILL_CANCELLED, true);
    twill__flow_exit(p, &turn, TWILL__FLOW_EXIT_CALLER);
    (void)twill__flow_join(p, (twill_until){0, NULL}, TWILL__FLOW_OWNS, &early);
    if (!twill__flow_here(p))
        return TWILL_FORKED;
    twill__flow_desert(p);
    twill__flow_report(p);
    TWILL_FREE(p->memory);
    return TWILL_OK;
}

TWILL__DEFINE void twill_pipeline_abandon(twill_pipeline *pipeline)
{
    if (pipeline && !twill__flow_here(pipeline))
        TWILL_FREE(pipeline->memory);
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
