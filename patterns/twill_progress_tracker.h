/* twill_progress_tracker.h - twill 0.1.0 - SPDX-License-Identifier: MIT OR Unlicense (text at the end)
   GENERATED from patterns/src/progress_tracker.h and its parts. Do not edit it here: edit there, then `make headers`. */

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

OPTIONS (twill_progress_options; zeroed: a bar on standard error, or lines if it is no terminal)
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
                    time (who ends a bar waits a second for another one's) and with no lock of ours
                    held. It may do anything but finish and destroy (TWILL_DEADLOCK). It may end its
                    thread: if that is the tracker's own, draw, finish and log draw from then on
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
    TWILL_CLOSED    create: the parent is finished, or its root
    TWILL_DEADLOCK  finish and destroy, called by on_view
    TWILL_FORKED    set_label, finish, or create of a child, in a forked child
    A thread that cannot be started is no error: updaters draw (BY_UPDATER). Nor is a descriptor
    that fails: EPIPE, EIO, ENOSPC, EBADF and the like end the drawing, and counting goes on. No
    SIGPIPE reaches the program.

THREADS
    Everything may be called by any thread at any time, but destroy, which must be the last call;
    create of a child and destroy of its parent must not run at once. In a signal handler: the three
    add functions, where 64-bit atomics are lock-free, unless draw_by is BY_UPDATER or EACH. Updates
    are relaxed: the last frame and view show all updates that happened before finish, so join the
    workers (or wait for their futures) first.
    set and add at once: each addition counts either before the set, which replaces it, or on top of
    it; none is lost and none counts twice. Of two sets at once either wins.
    The drawn number never goes down, except after set, and in the parent of a weighted child that
    gets more to do.

OWNERSHIP
    Texts are copied. The descriptor stays the caller's; it must stay open until finish. Children
    are destroyed before their parent.

COSTS
    add: an addition to a word of the thread's own, beyond 16 threads a relaxed one to a word that
    some share: see docs/progress_tracker.md for figures.
    BY_UPDATER reads the clock on top of it, EACH writes. About 3 KB a tracker and 21 KB a root,
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

/* Writes a line above the bars, as printf would, and a line feed behind it if it has none; in JSON
   style as {"log": "..."}. Returns the number of bytes of the text, negative if it could not be
   written. May block on the terminal. */
#if defined __GNUC__
__attribute__((format(printf, 2, 3)))
#endif
TWILL__DECL int
twill_progress_log(twill_progress *progress, const char *format, ...);

/* Clears the bars for foreign output, and draws nothing until as many calls of resume. The last
   lines of children that end meanwhile come then, as far as 4 KB hold them. */
TWILL__DECL void twill_progress_suspend(twill_progress *progress);
TWILL__DECL void twill_progress_resume(twill_progress *progress);

/* Draws the last frame and ends the thread. An outcome other than TWILL_OK is written behind the
   true numbers. A child's line moves above the bars that still run. Later updates count and are not
   drawn. A second call waits for the first and does nothing else. */
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
   memory for a display, or its parent is finished, the map runs without one. `options` NULL: all
   defaults.
   TWILL_INVALID, before anything has run: wrong arguments or options. */
TWILL__DECL twill_status twill_map_with_progress(const void *items, size_t item_size, void *results,
                                                 size_t result_size, size_t n, twill_map_fn *fn,
                                                 const twill_map_with_progress_options *options);

#ifdef __cplusplus
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
   TWILL__NO_SIGNALS. TWILL__BELLS 1: a bell has a descriptor, `out`, to be polled. TWILL__CONSOLE
   1: the system ends the process some seconds after its console has been closed. */

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
#if defined SA_ONSTACK
enum { TWILL__ACTION_RESTART = SA_RESTART, TWILL__ACTION_ONSTACK = SA_ONSTACK };
#elif defined __linux__ /* hidden by _POSIX_C_SOURCE */
enum { TWILL__ACTION_RESTART = SA_RESTART, TWILL__ACTION_ONSTACK = 0x08000000 };
#else
enum { TWILL__ACTION_RESTART = SA_RESTART, TWILL__ACTION_ONSTACK = 0 };
#endif
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
#define TWILL__BELLS   TWILL__SIGNALS
#define TWILL__CONSOLE 0

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

/* Async-signal-safe: whether it has the system's own action. */
static inline bool twill__signal_is_plain(int number)
{
    twill__action now;
    return twill__sigaction(number, NULL, &now) == 0 && now.TWILL__ACTION_HANDLER == SIG_DFL;
}

/* In a handler: it stays installed. */
static inline void twill__signal_again(int number, void (*handler)(int))
{
    (void)number;
    (void)handler;
}
#endif

static inline uint32_t twill__pid(void)
{
    return (uint32_t)getpid();
}

#else

/* ---- platform/signals_windows.h ---- */
/* signals_windows.h: what signals.h needs, by Windows' C library: Ctrl-C is SIGINT, Ctrl-Break and
   a window that is closed are SIGBREAK, each told on a thread of its own; SIGTERM comes from raise
   alone. There are no masks. */
#ifndef TWILL__PLATFORM_SIGNALS_WINDOWS_H
#define TWILL__PLATFORM_SIGNALS_WINDOWS_H

#include <io.h>
#include <process.h>
#include <signal.h>

#ifdef TWILL__NO_SIGNALS
#define TWILL__SIGNALS 0
#else
#define TWILL__SIGNALS 1
#endif
#define TWILL__BELLS        0
#define TWILL__SIGNAL_COUNT 23 /* numbers below it */

typedef int twill__signal_mask;

static inline void twill__signals_hold(twill__signal_mask *old)
{
    *old = 0;
}

static inline void twill__signals_restore(const twill__signal_mask *old)
{
    (void)old;
}

static inline void twill__signal_unblock(int number)
{
    (void)number;
}

static inline bool twill__signal_is_fault(int number)
{
    return number == SIGSEGV || number == SIGILL || number == SIGFPE || number == SIGABRT;
}

#define TWILL__ACTION_HANDLER handler
typedef struct twill__action {
    void (*handler)(int);
} twill__action;

static inline void twill__action_make(twill__action *action, void (*handler)(int),
                                      const int *numbers, size_t count)
{
    (void)numbers, (void)count; /* nothing is held off */
    action->handler = handler;
}

/* A handler serves once, and is put back by itself: twill__signal_again. */
static inline int twill__sigaction(int number, const twill__action *action, twill__action *old)
{
    /* 2: SIG_GET, what is there */
    void (*handler)(int) = action ? action->handler : (void (*)(int))(uintptr_t)2;
    handler = signal(number, handler);
    if (handler == SIG_ERR)
        return -1;
    if (old)
        old->handler = handler;
    return 0;
}

static inline bool twill__signal_is_plain(int number)
{
    (void)number; /* a handler has just put itself back */
    return false;
}

static inline void twill__signal_again(int number, void (*handler)(int))
{
    (void)signal(number, handler);
}

/* A console that is closed, and a user who logs off or shuts down, are told to a handler on a
   thread of its own; when that returns, and after 5 s at the latest, the process is over. Ctrl-C
   and Ctrl-Break stay with the C library. */
#define TWILL__CONSOLE               1
#define TWILL__CONSOLE_SIGNAL        SIGBREAK /* what it counts as */
#define TWILL__CONSOLE_GRACE         TWILL_MS(4500)
#define TWILL__CONSOLE_HANDLER(NAME) static int __stdcall NAME(unsigned long event)
typedef int(__stdcall *twill__console_fn)(unsigned long event);
extern __declspec(dllimport) int __stdcall SetConsoleCtrlHandler(twill__console_fn, int);

static inline bool twill__console_goes(unsigned long event)
{
    return event == 2 || event == 5 || event == 6; /* CTRL_CLOSE_EVENT, _LOGOFF_, _SHUTDOWN_ */
}

/* Without a console nobody is told. */
static inline void twill__console_tells(twill__console_fn handler, bool on)
{
    (void)SetConsoleCtrlHandler(handler, on);
}

static inline uint32_t twill__pid(void)
{
    return (uint32_t)_getpid();
}

static inline void twill__say(const char *text, size_t length)
{
    int wrote = _write(2, text, (unsigned)length);
    (void)wrote;
}

#endif
#endif

/* Async-signal-safe: gives this process an end that its parent sees as death by `number` (a shell
   shows 128 + number, and stops its script); with `code`, or where the default action does not kill
   (process 1), an exit with 128 + number. Runs no exit functions. */
_Noreturn static inline void twill__signal_die(int number, bool code)
{
#if TWILL__SIGNALS
    if (!code) {
        twill__action plain;
        twill__action_make(&plain, SIG_DFL, NULL, 0);
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
/* Whether `action` is that of `handler`. */
static inline bool twill__action_is(const twill__action *action, void (*handler)(int))
{
    return action->TWILL__ACTION_HANDLER == handler;
}
#endif

/* ---- who owns the signals ---- */

/* The claim names the owner by its process id, so that a handler that runs in a forked child knows
   that it is not meant, and counts who uses the owner's object just now, so that it outlives
   them. All but claim and disclaim are async-signal-safe, as _Atomic uint64_t has no lock. */
#if TWILL__SIGNALS
/* on i386 clang says "sometimes": of a long long, which may be aligned to 4 there */
#ifdef __GCC_HAVE_SYNC_COMPARE_AND_SWAP_8
_Static_assert(ATOMIC_LLONG_LOCK_FREE &&ATOMIC_POINTER_LOCK_FREE == 2,
               "signal handlers need atomics without a lock");
#else
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_POINTER_LOCK_FREE == 2,
               "signal handlers need atomics without a lock");
#endif
#endif

static inline uint64_t twill__process_id(void)
{
    return (uint64_t)twill__pid() << 32;
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
    while (!atomic_compare_exchange_weak_explicit(&global->signal_claim, &seen, seen + 1,
                                                  memory_order_seq_cst, memory_order_seq_cst));
    owner = atomic_load_explicit(&global->signal_owner, memory_order_seq_cst);
    if (!owner)
        atomic_fetch_sub_explicit(&global->signal_claim, 1, memory_order_seq_cst);
    return owner;
}

static inline void twill__owner_release(void)
{
    /* pairs with the CAS in twill__owner_leave: what was done comes before the object's end */
    atomic_fetch_sub_explicit(&twill__process()->signal_claim, 1, memory_order_seq_cst);
}

/* False: somebody in this process owns them. A parent's claim is void in its child: then *parent is
   the parent's object, a copy of it; else NULL. */
static inline bool twill__owner_claim(void **parent)
{
    twill__global *global = twill__process();
    uint64_t mine = twill__process_id();
    uint64_t seen = atomic_load_explicit(&global->signal_claim, memory_order_relaxed);
    do
        if (seen >> 32 == mine >> 32)
            return false;
    while (!atomic_compare_exchange_weak_explicit(&global->signal_claim, &seen, mine,
                                                  memory_order_seq_cst, memory_order_seq_cst));
    /* after the claim: nobody else here makes an object and ends it meanwhile */
    *parent = seen ? atomic_load_explicit(&global->signal_owner, memory_order_seq_cst) : NULL;
    return true;
}

/* In a forked child: this copy goes. False: the child has an owner of its own. */
static inline bool twill__owner_forget(const void *object)
{
    twill__global *global = twill__process();
    if (atomic_load_explicit(&global->signal_owner, memory_order_seq_cst) == object)
        atomic_store_explicit(&global->signal_owner, NULL, memory_order_seq_cst);
    return atomic_load_explicit(&global->signal_claim, memory_order_seq_cst) >> 32 !=
           twill__process_id() >> 32;
}

static inline void twill__owner_publish(void *object)
{
    /* pairs with the load in twill__owner_pin */
    atomic_store_explicit(&twill__process()->signal_owner, object, memory_order_seq_cst);
}

/* The object goes: nobody finds it any more, and who had found it has let go. */
static inline void twill__owner_leave(void)
{
    twill__global *global = twill__process();
    uint64_t mine = twill__process_id();
    atomic_store_explicit(&global->signal_owner, NULL, memory_order_seq_cst);
    /* seq_cst here and in pin: whoever counts himself after this load finds no owner */
    for (;;) { /* ends: a handler takes a bounded number of steps */
        uint64_t alone = mine;
        if (atomic_compare_exchange_weak_explicit(&global->signal_claim, &alone, 0,
                                                  memory_order_seq_cst, memory_order_seq_cst))
            return;
        twill__yield();
    }
}

/* ---- a bell: rung in a handler, heard by one thread ---- */

#if TWILL__BELLS
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

#else
/* nothing to poll: a word to park on */
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
    if (!atomic_exchange_explicit(&bell->rung, 1, memory_order_seq_cst))
        twill__wake(&bell->rung, 1);
}

static inline void twill__bell_wait(twill__bell *bell, twill_ns deadline)
{
    /* exit: a ring, or the deadline */
    while (!atomic_exchange_explicit(&bell->rung, 0, memory_order_seq_cst))
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

#ifndef TWILL__TERMINAL_PATIENCE
#define TWILL__TERMINAL_PATIENCE 1000 /* ms; a test has less */
#endif

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
        } else if (errno != EINTR) { /* -1: of more than no bytes, 0 is no answer */
            if (errno != EAGAIN && errno != EWOULDBLOCK)
                return TWILL__WROTE_BROKEN;
            if (must)
                (void)twill__terminal_writable(fd, TWILL__TERMINAL_PATIENCE);
            else if (at == 0 || !twill__terminal_writable(fd, TWILL__TERMINAL_PATIENCE))
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

/* ---- progress_tracker/count.h ---- */
/* count.h: counters that many threads raise at once, and exact arithmetic on what they
   say. */
#ifndef TWILL__PROGRESS_COUNT_H
#define TWILL__PROGRESS_COUNT_H

/* ---- platform/own.h ---- */
/* own.h: an atomic word that one thread writes, and others read. */
#ifndef TWILL__PLATFORM_OWN_H
#define TWILL__PLATFORM_OWN_H

#ifndef TWILL__OWN_ADD /* the explorer and tests choose it */
#if defined __x86_64__ && !defined TWILL__UNDER_TSAN
#define TWILL__OWN_ADD 2 /* one instruction that the processor does not lock */
#else
#define TWILL__OWN_ADD 0 /* as if others wrote, too */
#endif
#endif

/* Adds to a word that only this thread writes. For its signal handlers, which may add as well, this
   is one step; for other threads it is a relaxed load and, later, a relaxed store of 8 bytes at
   once (TWILL__OWN_ADD 1 is just that: handlers would not bear it). */
static inline void twill__own_add(_Atomic uint64_t *word, uint64_t n)
{
#if TWILL__OWN_ADD == 2
    __asm__ volatile("addq %1, %0" : "+m"(*(volatile uint64_t *)(void *)word) : "re"(n) : "cc");
#elif TWILL__OWN_ADD == 1
    atomic_store_explicit(word, atomic_load_explicit(word, memory_order_relaxed) + n,
                          memory_order_relaxed);
#else
    atomic_fetch_add_explicit(word, n, memory_order_relaxed);
#endif
}

#endif

/* ---- counters ---- */

/* A thread adds to the cell of its number: threads that update at once do not pull one line back
   and forth. The first one that comes to a cell owns it for ever: it alone writes `own`, which
   costs a third of a word that others may write, too. Those that come later, beyond 16 threads,
   share the other words, and all stays exact. The reader sums. */
#ifndef TWILL__TALLY_CELLS
#define TWILL__TALLY_CELLS 16
#endif
enum { TWILL__TALLY_DONE, TWILL__TALLY_FAILED, TWILL__TALLY_SKIPPED, TWILL__TALLY_KINDS };

typedef struct twill__tally_cell {
    /* a thread's number, which no other one ever gets; 0: nobody's yet */
    _Alignas(TWILL__LINE) _Atomic uint64_t owner;
    _Atomic uint64_t own[TWILL__TALLY_KINDS];
    _Atomic uint64_t shared[TWILL__TALLY_KINDS];
} twill__tally_cell;

typedef struct twill__tally {
    twill__tally_cell cell[TWILL__TALLY_CELLS];
    _Alignas(TWILL__LINE) _Atomic uint64_t
        base; /* what `set` adds to the sum of the done, modulo 2^64 */
    _Atomic uint32_t
        anchors; /* one more for each `set` that is no progress: the rate starts anew */
} twill__tally;

/* True: the cell is this thread's, and was nobody's, or has become so in a signal handler just
   now. */
static __attribute__((noinline)) bool twill__tally_take(twill__tally_cell *cell, uint64_t me)
{
    uint64_t nobody = 0; /* relaxed: the winner's number alone */
    return atomic_compare_exchange_strong_explicit(&cell->owner, &nobody, me, memory_order_relaxed,
                                                   memory_order_relaxed) ||
           nobody == me;
}

static inline void twill__tally_add(twill__tally *counter, unsigned kind, uint64_t n)
{
    uint64_t me = twill__thread_number();
    twill__tally_cell *cell = &counter->cell[me % TWILL__TALLY_CELLS];
    /* relaxed, here and below: numbers, no data behind them; who joins the updaters sees all of
       it */
    uint64_t owner = atomic_load_explicit(&cell->owner, memory_order_relaxed);
    if (owner == me || (!owner && twill__tally_take(cell, me)))
        twill__own_add(&cell->own[kind], n);
    else
        atomic_fetch_add_explicit(&cell->shared[kind], n, memory_order_relaxed);
}

static inline uint64_t twill__tally_sum(const twill__tally *counter, unsigned kind)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < TWILL__TALLY_CELLS; i++) { /* relaxed: as above; each only grows */
        sum += atomic_load_explicit(&counter->cell[i].own[kind], memory_order_relaxed);
        sum += atomic_load_explicit(&counter->cell[i].shared[kind], memory_order_relaxed);
    }
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
    /* relaxed: a call that came before is seen, and what it stood for; one beside us may be the
       later one, with all that came to it */
    uint64_t base = atomic_load_explicit(&counter->base, memory_order_relaxed);
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
#define TWILL__SPEED_STALL  TWILL_SEC(2)       /* shorter gaps are never a stall */
#define TWILL__SPEED_MEMORY TWILL_SEC(1000000) /* of a longer one a step of 1 ns would be nothing */

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
    rate->memory = memory < TWILL__SPEED_MEMORY ? memory : TWILL__SPEED_MEMORY;
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
    while (n / one >= step) { /* ends: 1000 to the 7th is beyond 64 bits */
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
    TWILL__SCREEN_KEPT = 4096,   /* bytes of lines of children that end while suspended */
    TWILL__PROGRESS_LABEL = 256,
    TWILL__PROGRESS_UNIT = 32,
    TWILL__PROGRESS_CELLS = 40
};
#ifndef TWILL__SCREEN_STUCK
#define TWILL__SCREEN_STUCK TWILL_SEC(1) /* how long finish waits for a blocked terminal */
#endif
#ifndef TWILL__SCREEN_PERIOD              /* the explorer wants more */
#define TWILL__SCREEN_PERIOD TWILL_SEC(1) /* the renderer looks round so often at least */
#endif
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
    twill__home home; /* the process that draws */
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
    size_t kept_length;
    char frame[TWILL__SCREEN_FRAME];
    char kept[TWILL__SCREEN_KEPT]; /* for the first frame after a resume */
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
    uint32_t anchors;                   /* of the counter, from before that count */
    uint64_t live, live_rest;           /* of children that run, the rest in 2^-32 */
    _Atomic uint64_t teller;            /* the thread in on_view out of turn, 0: none */
    int decile;                         /* accessible: the last one said */
    twill_ns next_line;                 /* accessible, total unknown */
    unsigned steps;                     /* unknown total: where the marker stands */
    uint64_t stepped;
    char label[TWILL__PROGRESS_LABEL];
};

/* ---- gates: locks that may be held for long ---- */

/* Whoever waits until then takes the terminal for stuck. */
static inline twill_ns twill__screen_stuck_at(void)
{
    return twill__instant_after(twill__clock_now(), TWILL__SCREEN_STUCK);
}

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
    return !twill__at_home(screen->home);
}

/* ---- counting, under the lock ---- */

/* The own counters. The number of anchors first: who sees one sees its base, and one that comes in
   between is seen the next time, which starts the rate anew. */
static inline void twill__progress_look(twill_progress *progress)
{
    /* acquire: pairs with twill__tally_set */
    progress->anchors = atomic_load_explicit(&progress->counter.anchors, memory_order_acquire);
    for (unsigned kind = 0; kind < TWILL__TALLY_KINDS; kind++)
        progress->seen[kind] =
            twill__tally_plus(twill__tally_read(&progress->counter, kind), progress->given[kind]);
}

/* Loads all counters, then adds each child's part to its parent, the innermost first. */
static inline void twill__screen_count(twill__screen *screen)
{
    for (twill_progress *p = screen->first; p; p = p->next) {
        twill__progress_look(p);
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
    twill__progress_look(progress);
}

static inline uint64_t twill__progress_processed(const twill_progress *progress)
{
    return twill__tally_plus(progress->seen[TWILL__TALLY_DONE],
                             twill__tally_plus(progress->seen[TWILL__TALLY_FAILED],
                                               progress->seen[TWILL__TALLY_SKIPPED]));
}

/* Of the last count. */
static inline void twill__progress_sample(twill_progress *progress, twill_ns now)
{
    if (progress->rate.anchors != progress->anchors) {
        twill__speed_start(&progress->rate, progress->rate.memory, now,
                           twill__progress_processed(progress));
        progress->rate.anchors = progress->anchors;
    } else {
        twill__speed_tick(&progress->rate, now, twill__progress_processed(progress));
    }
}

static inline void twill__progress_total(const twill_progress *progress, uint64_t processed,
                                         twill_progress_view *view)
{
    /* acquire: who sees that it is known sees what it is (add_total); relaxed: a number that
       grows */
    view->total_known = atomic_load_explicit(&progress->total_known, memory_order_acquire) != 0;
    view->total = atomic_load_explicit(&progress->total, memory_order_relaxed);
    view->percent = view->total_known ? twill__tally_percent(processed, view->total) : -1;
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
    twill__progress_total(progress, processed, view);
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
    bool held;   /* suspended: the last lines of what ends are kept */
    bool kept;   /* the text has those that were kept */
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

/* A bar that ends here is drawn with this frame, or needs no line. It is the frame's to take back
   (see settle): a log line that comes between the two must not forget it. */
static inline bool twill__draft_includes(const twill__draft *draft, twill_progress *progress)
{
    bool closes = twill__draft_closes(draft, progress);
    if (closes)
        progress->included = true;
    return closes;
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

/* What the text has from `start` on is kept while the bars are suspended, if there is room. */
static inline void twill__draft_keep(twill__draft *draft, twill__screen *screen, size_t start)
{
    size_t length = draft->text.length - start;
    if (!draft->held)
        return;
    draft->text.length = start;
    if (length > sizeof screen->kept - screen->kept_length)
        return;
    memcpy(screen->kept + screen->kept_length, draft->text.data + start, length);
    screen->kept_length += length;
}

static inline void twill__draft_kept(twill__draft *draft, const twill__screen *screen)
{
    if (!draft->visible)
        return;
    twill__print_raw(&draft->text, screen->kept, screen->kept_length);
    draft->kept = true;
}

/* The lines of children that end stay, above the others. */
static inline void twill__draft_bars_ended(twill__draft *draft, twill__screen *screen, twill_ns now)
{
    for (twill_progress *p = screen->first; p; p = p->next) {
        size_t start = draft->text.length;
        if (p == screen->root || !twill__draft_has_room(draft) || !twill__draft_includes(draft, p))
            continue;
        if (p->clear_at_end || twill__progress_quiet(p, now) || !(draft->visible || draft->held))
            continue;
        twill__draft_bar(draft, screen, p, now);
        twill__print_code(&draft->text, "\n\r");
        twill__draft_keep(draft, screen, start);
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
        if ((p != screen->root && twill__draft_closes(draft, p)) || twill__progress_quiet(p, now))
            continue; /* what ends stands above, or in the next frame */
        if (draft->lines >= draft->rows || !twill__draft_has_room(draft))
            break;
        twill__print_code(&draft->text, draft->lines ? "\n\r" : "\r");
        twill__draft_bar(draft, screen, p, now);
        draft->lines++;
    }
}

static inline void twill__draft_bars(twill__draft *draft, twill__screen *screen, twill_ns now)
{
    bool final = twill__draft_includes(draft, screen->root),
         vanishes = final && screen->root->clear_at_end,
         anew = vanishes || draft->log_length || (draft->visible && screen->kept_length) ||
                twill__draft_child_ends(draft, screen);
    size_t start;
    if (anew) {
        twill__draft_clear(draft, screen);
        twill__draft_kept(draft, screen);
        twill__print_raw(&draft->text, draft->log, draft->log_length);
        twill__draft_bars_ended(draft, screen, now);
    } else if (screen->shown_lines > 1) {
        twill__print_code(&draft->text, "\x1b[");
        twill__print_number(&draft->text, screen->shown_lines - 1);
        twill__print_code(&draft->text, "A");
    }
    start = draft->text.length;
    draft->lines = 0;
    if (draft->visible && (draft->due || screen->shown_lines) && !vanishes)
        twill__draft_bars_live(draft, screen, now);
    draft->hash = twill__draft_hash(draft->text.data + start, draft->text.length - start);
    if (!anew && !final && draft->hash == screen->shown_hash)
        draft->text.length = 0; /* nothing has changed */
    else if (!anew && draft->lines < screen->shown_lines)
        twill__print_code(&draft->text, "\x1b[J"); /* the terminal has become lower */
    if (final && draft->lines) {
        twill__print_code(&draft->text, "\n");
        draft->lines = 0;
    }
}

static inline void twill__draft_counter(twill__draft *draft, twill__screen *screen, twill_ns now)
{
    bool final = twill__draft_closes(draft, screen->root), due = draft->due || screen->shown_cells;
    twill_progress_view view;
    twill__print *text = &draft->text;
    size_t start;
    unsigned before = screen->shown_cells;
    if (draft->log_length) {
        twill__draft_clear(draft, screen);
        twill__print_raw(text, draft->log, draft->log_length);
        before = 0;
    }
    for (twill_progress *p = screen->first; p; p = p->next)
        twill__draft_includes(draft, p);
    if (!draft->visible || !due || twill__progress_quiet(screen->root, now))
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

static inline void twill__draft_line(twill__draft *draft, const twill__screen *screen,
                                     twill_progress *progress, bool ending, twill_ns now)
{
    twill_progress_view view;
    twill__progress_view_of(progress, now, &view);
    if (screen->style == TWILL_PROGRESS_JSON)
        twill__progress_line_json(&draft->text, progress, &view);
    else if (!screen->accessible || ending || twill__progress_tenth(progress, &view, now))
        twill__progress_line_plain(&draft->text, screen, progress, &view);
    else
        return;
    twill__print_code(&draft->text, "\n");
}

/* What ends comes first: those that go on have another frame, if there is no room for all. */
static inline void twill__draft_lines(twill__draft *draft, twill__screen *screen, twill_ns now)
{
    twill__draft_kept(draft, screen);
    twill__print_raw(&draft->text, draft->log, draft->log_length);
    for (twill_progress *p = screen->first; p && twill__draft_has_room(draft); p = p->next)
        if (twill__draft_includes(draft, p) && (draft->visible || draft->held)) {
            size_t start = draft->text.length;
            twill__draft_line(draft, screen, p, true, now);
            twill__draft_keep(draft, screen, start);
        }
    if (!draft->due || !draft->visible)
        return;
    for (twill_progress *p = screen->first; p && twill__draft_has_room(draft); p = p->next)
        if (!twill__draft_closes(draft, p) && !twill__progress_quiet(p, now))
            twill__draft_line(draft, screen, p, false, now);
}

static inline void twill__draft_all(twill__draft *draft, twill__screen *screen, twill_ns now)
{
    draft->lines = screen->shown_lines;
    draft->shown_cells = screen->shown_cells;
    draft->hash = screen->shown_hash;
    /* relaxed: a stop, not a message */
    if (screen->style == TWILL_PROGRESS_SILENT ||
        atomic_load_explicit(&screen->over, memory_order_relaxed)) {
        if (draft->log_length && (draft->lines || draft->shown_cells)) {
            twill__print_code(&draft->text, "\n"); /* the last frame was given up */
            draft->lines = draft->shown_cells = 0;
        }
        twill__print_raw(&draft->text, draft->log, draft->log_length);
        for (twill_progress *p = screen->first; p; p = p->next)
            twill__draft_includes(draft, p);
    } else if (screen->style == TWILL_PROGRESS_BAR) {
        twill__draft_bars(draft, screen, now);
    } else if (screen->style == TWILL_PROGRESS_COUNTER) {
        twill__draft_counter(draft, screen, now);
    } else {
        twill__draft_lines(draft, screen, now);
    }
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
        if (draft->kept)
            screen->kept_length = 0;
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
    TWILL__CHAIN_OUT(screen->first, screen->last, progress, previous, next);
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
        atomic_store_explicit(&screen->blocked, TWILL__RENDERER_BLOCKED, memory_order_seq_cst);
}

static inline bool twill__screen_hung(twill__screen *screen, twill__screen_patience patience)
{
    uint32_t expected = TWILL__RENDERER_BLOCKED;
    return patience == TWILL__SCREEN_RENDERER &&
           !atomic_compare_exchange_strong_explicit(&screen->blocked, &expected,
                                                    TWILL__RENDERER_FREE, memory_order_seq_cst,
                                                    memory_order_seq_cst);
}

static inline bool twill__screen_enter(twill__screen *screen, _Atomic uint32_t *gate,
                                       twill__screen_patience patience)
{
    bool entered;
    if (patience == TWILL__SCREEN_NO_WAIT)
        return twill__screen_gate_try(gate);
    twill__screen_may_hang(screen, patience);
    entered = twill__screen_gate_enter(
        gate, patience == TWILL__SCREEN_A_SECOND ? twill__screen_stuck_at() : 0);
    if (entered && twill__screen_hung(screen, patience)) {
        twill__screen_gate_leave(gate);
        return false;
    }
    return entered;
}

/* Under the lock: a callback has returned, or ended its thread. */
static inline void twill__screen_view_over(twill__screen *screen)
{
    atomic_fetch_add_explicit(&screen->called, 1, memory_order_relaxed); /* under the lock */
    twill__wake(&screen->called, INT_MAX);
}

/* Under the lock: afterwards no callback of this bar runs. Not from inside it. */
static inline void twill__screen_await_view(twill__screen *screen, const twill_progress *progress)
{
    /* relaxed, both: under the lock */
    while (screen->calling == progress ||
           atomic_load_explicit(&progress->teller, memory_order_relaxed)) {
        uint32_t called = atomic_load_explicit(&screen->called, memory_order_relaxed);
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

/* Who joins the renderer, or would ask it for a frame, sees it. */
static inline void twill__renderer_over(twill__screen *screen)
{
    atomic_store_explicit(&screen->ended, 1,
                          memory_order_release); /* pairs with the acquire in twill__renderer_end */
    twill__wake(&screen->ended, INT_MAX);
}

/* What was not written is drawn by the next frame, or given up by who waits for it. */
static inline void twill__screen_forget(twill__screen *screen)
{
    twill__lock(&screen->lock);
    for (twill_progress *p = screen->first; p; p = p->next)
        p->included = false;
    twill__unlock(&screen->lock);
}

/* False: left behind; touch nothing but the screen. */
static inline bool twill__screen_show(twill__screen *screen, twill_ns now, bool due,
                                      twill__screen_patience patience)
{
    twill__draft draft;
    twill__wrote wrote;
    bool hung;
    if (twill__progress_forked(screen) || !twill__screen_enter(screen, &screen->io, patience))
        return patience != TWILL__SCREEN_RENDERER;
    twill__draft_prepare(&draft, screen, screen->frame, sizeof screen->frame);
    draft.due = due;
    draft.closes = true;
    twill__lock(&screen->lock);
    draft.held = screen->suspended && !twill__progress_ending(screen->root);
    if (draft.held)
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
    if (wrote == TWILL__WROTE_NOT)
        twill__screen_forget(screen);
    else
        twill__screen_settle(screen);
    return true;
}

/* One look of whoever has the turn; in the frame of its guard. */
typedef struct twill__screen_look {
    twill__screen *screen;
    twill_ns now;
    bool due;
    twill__screen_patience patience;
} twill__screen_look;

/* on_view has ended the thread that has the turn: it draws the frame all the same, and ends. A
   renderer is gone then (first, so that a bar that ends now is drawn here, or by
   who ends it); draw and finish go on without one. */
static void twill__screen_viewer_gone(void *look_)
{
    const twill__screen_look *look = (const twill__screen_look *)look_;
    twill__screen *screen = look->screen;
    if (twill__progress_forked(screen)) /* see twill__screen_tell */
        return;
    twill__lock(&screen->lock);
    screen->calling = NULL;
    twill__screen_view_over(screen);
    twill__unlock(&screen->lock);
    if (look->patience == TWILL__SCREEN_RENDERER)
        twill__renderer_over(screen);
    (void)twill__screen_show(screen, look->now, look->due,
                             look->patience == TWILL__SCREEN_RENDERER ? TWILL__SCREEN_A_SECOND
                                                                      : look->patience);
    twill__screen_turn_leave(screen);
}

static __attribute__((noinline)) void twill__screen_call(twill__screen_look *look,
                                                         const twill_progress *progress,
                                                         const twill_progress_view *view)
{
    twill_task task = {SIZE_MAX, progress->context, UINT_MAX, 0, NULL, {0, NULL}, NULL};
    TWILL__GUARD_PUSH(twill__screen_viewer_gone, look);
    progress->on_view(view, &task);
    TWILL__GUARD_POP(0);
}

/* Calls on_view of each bar that has one, without a lock. */
static inline void twill__screen_tell(twill__screen_look *look)
{
    twill__screen *screen = look->screen;
    twill_progress *progress;
    twill__lock(&screen->lock);
    screen->pass++;
    for (;;) { /* exit: each has been told in this pass */
        twill_progress_view view;
        char label[TWILL__PROGRESS_LABEL];
        for (progress = screen->first; progress; progress = progress->next)
            if (progress->on_view && progress->pass != screen->pass && !progress->told &&
                (look->due || twill__progress_ending(progress)))
                break;
        if (!progress)
            break;
        progress->pass = screen->pass;
        /* under the lock. A frame may have ended it already, before its on_view was told */
        progress->told =
            atomic_load_explicit(&progress->state, memory_order_relaxed) != TWILL__PROGRESS_RUNNING;
        twill__progress_count(progress);
        twill__progress_view_of(progress, look->now, &view);
        memcpy(label, progress->label, sizeof label);
        view.label = label;
        screen->calling = progress;
        twill__unlock(&screen->lock);
        twill__screen_call(look, progress, &view);
        if (twill__progress_forked(screen))
            return; /* it has forked: in the child the lock may be held by nobody, for ever */
        twill__lock(&screen->lock);
        screen->calling = NULL;
        twill__screen_view_over(screen);
    }
    twill__unlock(&screen->lock);
}

static inline bool twill__screen_pass(twill__screen *screen, bool due,
                                      twill__screen_patience patience)
{
    twill__screen_look look = {screen, twill__clock_now(), due, patience};
    twill__lock(&screen->lock);
    twill__screen_count(screen);
    for (twill_progress *p = screen->first; p; p = p->next)
        if (atomic_load_explicit(&p->state, memory_order_relaxed) ==
            TWILL__PROGRESS_RUNNING) /* under the lock */
            twill__progress_sample(p, look.now);
    twill__unlock(&screen->lock);
    if (due) /* relaxed: a hint to updaters */
        atomic_store_explicit(&screen->next_draw,
                              screen->interval < INT64_MAX - look.now ? look.now + screen->interval
                                                                      : INT64_MAX,
                              memory_order_relaxed);
    twill__screen_tell(&look);
    return twill__screen_show(screen, look.now, due, patience);
}

/* ---- the renderer ---- */

/* `nobody`: references that nobody holds. */
static inline void twill__screen_drop(twill__screen *screen, uint32_t nobody)
{
    /* acq_rel: whoever frees it sees what the others did */
    if (atomic_fetch_sub_explicit(&screen->refs, 1, memory_order_acq_rel) - 1 == nobody)
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
    const twill_ns period =
        screen->interval < TWILL__SCREEN_PERIOD ? screen->interval : TWILL__SCREEN_PERIOD;
    for (;;) { /* exit: stopped, or left behind */
        /* acquire: pairs with the release of twill__screen_request; the order of the two loads
           makes a stop wake us */
        uint32_t requests = atomic_load_explicit(&screen->requests, memory_order_acquire);
        bool stop = atomic_load_explicit(&screen->stop, memory_order_acquire) != 0;
        twill_ns next;
        if (!twill__renderer_turn(screen, stop)) {
            twill__screen_drop(screen, 0);
            return;
        }
        if (stop)
            break;
        next = twill__instant_after(twill__clock_now(), period);
        while (atomic_load_explicit(&screen->requests, memory_order_acquire) == requests &&
               twill__park(&screen->requests, requests, next))
            continue;
        if (twill__clock_now() - TWILL_SEC(1) > next && twill__screen_gate_try(&screen->io)) {
            screen->lost = true; /* we were stopped, and the shell has written: do not move up */
            twill__screen_gate_leave(&screen->io);
        }
    }
    twill__renderer_over(screen);
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

/* Lets the renderer draw the last frame. A callback is waited for, a terminal for a second. False:
   left behind. */
static inline bool twill__renderer_end(twill__screen *screen)
{
    atomic_store_explicit(&screen->stop, 1,
                          memory_order_release); /* pairs with the renderer's load */
    twill__screen_request(screen);
    for (;;) { /* exit: it has ended, or hangs */
        twill_ns limit = twill__screen_stuck_at();
        uint32_t blocked = TWILL__RENDERER_BLOCKED, ended;
        while (!(ended = atomic_load_explicit(&screen->ended,
                                              memory_order_acquire))) /* pairs with its release */
            if (!twill__park(&screen->ended, 0, limit))
                break;
        if (ended) {
            twill__thread_join(&screen->thread);
            twill__screen_drop(screen, 0);
            return true;
        }
        if (atomic_compare_exchange_strong_explicit(&screen->blocked, &blocked,
                                                    TWILL__RENDERER_ABANDONED, memory_order_seq_cst,
                                                    memory_order_seq_cst)) {
            twill__thread_let_go(&screen->thread);
            return false;
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
                          memory_order_release); /* pairs with twill__progress_total */
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
    screen->home = twill__home_here();
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
    TWILL__CHAIN_IN(screen->first, screen->last, after, progress, previous, next);
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

/* After a fork the lock may be held by a thread that does not exist here: the own counters and what
   children that have ended stand for, without it. */
static inline void twill__progress_view_forked(const twill_progress *progress,
                                               twill_progress_view *view)
{
    uint64_t processed;
    uint64_t counted[TWILL__TALLY_KINDS];
    for (unsigned kind = 0; kind < TWILL__TALLY_KINDS; kind++)
        counted[kind] =
            twill__tally_plus(twill__tally_read(&progress->counter, kind), progress->given[kind]);
    view->done = counted[TWILL__TALLY_DONE];
    view->failed = counted[TWILL__TALLY_FAILED];
    view->skipped = counted[TWILL__TALLY_SKIPPED];
    processed = twill__tally_plus(view->done, twill__tally_plus(view->failed, view->skipped));
    twill__progress_total(progress, processed, view);
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
    char line[TWILL__SCREEN_SHORT], *block = NULL, *text;
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
        if ((size_t)length <= SIZE_MAX / 16 - TWILL__SCREEN_FRAME)
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
    text = block ? block : line;
    if (length && text[length - 1] == '\n') /* as for printf: it is the one that would follow */
        text[length - 1] = '\0';
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

static inline bool twill__progress_still_ends(const twill_progress *progress)
{
    /* acquire: pairs with twill__progress_settle */
    return atomic_load_explicit(&progress->state, memory_order_acquire) == TWILL__PROGRESS_ENDING;
}

/* With a renderer: it draws. Else, and if its last frame was not taken, we do. Either gives up a
   terminal that blocks. */
static inline void twill__progress_draw_last(twill_progress *progress, bool root, bool threaded)
{
    twill__screen *screen = progress->screen;
    bool left_behind = false;
    if (threaded && root) {
        left_behind = !twill__renderer_end(screen);
    } else if (threaded && /* acquire: pairs with twill__renderer_over */
               !atomic_load_explicit(&screen->ended, memory_order_acquire)) {
        twill_ns limit = twill__screen_stuck_at();
        twill__screen_request(screen);
        while (twill__progress_still_ends(progress) &&
               twill__park(&progress->state, TWILL__PROGRESS_ENDING, limit))
            continue;
        left_behind = true;
    }
    if (!left_behind && twill__progress_still_ends(progress) &&
        twill__screen_enter(screen, &screen->turn, TWILL__SCREEN_A_SECOND)) {
        twill__screen_turn_taken(screen);
        twill__screen_pass(screen, root, TWILL__SCREEN_A_SECOND);
        twill__screen_turn_leave(screen);
    }
}

/* on_view of a bar that has ended, out of turn or in it. */
typedef struct twill__progress_last_view {
    twill_progress *progress;
    bool turn;
} twill__progress_last_view;

static void twill__progress_last_told(void *last_)
{
    const twill__progress_last_view *last = (const twill__progress_last_view *)last_;
    twill__screen *screen = last->progress->screen;
    if (last->turn)
        twill__screen_turn_leave(screen);
    if (twill__progress_forked(screen)) /* as in twill__screen_tell */
        return;
    twill__lock(&screen->lock);
    /* relaxed: under the lock, or compared with one's own number */
    atomic_store_explicit(&last->progress->teller, 0, memory_order_relaxed);
    twill__screen_view_over(screen);
    twill__unlock(&screen->lock); /* the bar may be gone from here on */
}

/* In turn, so that on_view runs once at a time; who is stuck cannot stop us. */
static __attribute__((noinline)) void twill__progress_tell_last(twill_progress *progress,
                                                                const twill_progress_view *view)
{
    twill__screen *screen = progress->screen;
    twill_task task = {SIZE_MAX, progress->context, UINT_MAX, 0, NULL, {0, NULL}, NULL};
    twill__progress_last_view last = {progress, false};
    last.turn = twill__screen_enter(screen, &screen->turn, TWILL__SCREEN_A_SECOND);
    if (last.turn)
        twill__screen_turn_taken(screen);
    TWILL__GUARD_PUSH(twill__progress_last_told, &last);
    progress->on_view(view, &task);
    TWILL__GUARD_POP(1);
}

/* What nobody has done by now: the bar ends, and its on_view is told. True: over the total. */
static inline bool twill__progress_end_surely(twill_progress *progress)
{
    twill__screen *screen = progress->screen;
    twill_progress_view view;
    char label[TWILL__PROGRESS_LABEL];
    bool tell, over;
    twill__lock(&screen->lock);
    if (twill__progress_ending(progress))
        twill__progress_settle(progress);
    twill__screen_await_view(screen, progress);
    tell = progress->on_view && !progress->told;
    progress->told = true;
    if (tell) /* relaxed: under the lock */
        atomic_store_explicit(&progress->teller, twill__thread_number(), memory_order_relaxed);
    twill__progress_count(progress);
    twill__progress_view_of(progress, progress->ended, &view);
    memcpy(label, progress->label, sizeof label);
    over = view.total_known && twill__progress_processed(progress) > view.total;
    twill__unlock(&screen->lock);
    view.label = label;
    if (tell)
        twill__progress_tell_last(progress, &view);
    return over;
}

/* on_view of another bar has ended the thread that finishes this one. */
static void twill__progress_finisher_gone(void *progress_)
{
    twill_progress *progress = (twill_progress *)progress_;
    twill__screen *screen = progress->screen;
    if (twill__progress_forked(screen)) /* as in twill__screen_tell */
        return;
    twill__lock(&screen->lock);
    if (twill__progress_ending(progress))
        twill__progress_settle(progress);
    twill__unlock(&screen->lock);
}

static __attribute__((noinline)) bool twill__progress_end(twill_progress *progress, bool drawn,
                                                          bool root, bool threaded)
{
    bool over;
    TWILL__GUARD_PUSH(twill__progress_finisher_gone, progress);
    if (drawn)
        twill__progress_draw_last(progress, root, threaded);
    over = !twill__progress_forked(progress->screen) && twill__progress_end_surely(progress);
    TWILL__GUARD_POP(0);
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
        while (twill__progress_still_ends(progress)) /* exit: the first caller ends it */
            twill__park(&progress->state, TWILL__PROGRESS_ENDING, 0);
        (void)twill__progress_end_surely(progress); /* whoever comes first tells its on_view */
        return TWILL_OK;
    }
    progress->outcome = outcome;
    progress->ended = twill__clock_now();
    twill__progress_count(progress);
    twill__progress_sample(progress, progress->ended); /* a `set` that no frame has seen */
    atomic_store_explicit(&progress->state, TWILL__PROGRESS_ENDING,
                          memory_order_relaxed); /* under the lock */
    root = progress == screen->root;
    threaded = screen->threaded;
    drawn = progress->listed &&
            !atomic_load_explicit(&screen->over, memory_order_relaxed); /* under the lock */
    twill__unlock(&screen->lock);
    return twill__progress_end(progress, drawn, root, threaded) ? TWILL_INVALID : TWILL_OK;
}

/* One thread was here at the fork; the renderer's reference is nobody's. */
static inline void twill__progress_destroy_forked(twill_progress *progress)
{
    twill__screen *screen = progress->screen;
    uint32_t nobody =
        screen->threaded && !atomic_load_explicit(&screen->ended, memory_order_relaxed);
    TWILL_FREE(progress->block);
    twill__screen_drop(screen, nobody);
}

TWILL__DEFINE twill_status twill_progress_destroy(twill_progress *progress)
{
    twill__screen *screen;
    twill_status status = TWILL_OK;
    unsigned children = 0;
    if (!progress)
        return TWILL_OK;
    screen = progress->screen;
    if (!twill__progress_forked(screen))
        status = twill_progress_finish(progress, TWILL_OK);
    if (status == TWILL_DEADLOCK)
        return status;
    if (twill__progress_forked(screen)) { /* or now, by on_view */
        twill__progress_destroy_forked(progress);
        return TWILL_OK;
    }
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
    twill__screen_drop(screen, 0);
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
    twill_status status; /* of the map; LOST: it has not returned */
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

/* What no callback could count: items that never ran, and those that ended their thread (but in an
   on_view, which has counted them). */
static inline void twill__progress_rest(twill_progress *progress, const twill_report *report)
{
    uint64_t counted[TWILL__TALLY_KINDS] = {0}, rest;
    for (unsigned kind = 0; progress && kind < TWILL__TALLY_KINDS; kind++)
        counted[kind] = twill__tally_sum(&progress->counter, kind);
    rest = report->total - counted[TWILL__TALLY_DONE] - counted[TWILL__TALLY_FAILED] -
           counted[TWILL__TALLY_SKIPPED];
    if (report->skipped > counted[TWILL__TALLY_SKIPPED]) {
        twill_progress_add_skipped(progress, report->skipped - counted[TWILL__TALLY_SKIPPED]);
        rest -= report->skipped - counted[TWILL__TALLY_SKIPPED];
    }
    if (rest)
        twill_progress_add_failed(progress, rest);
}

/* The map is over, or a callback has ended the calling thread: in it, or now. */
static inline void twill__progress_map_over(void *data_)
{
    twill__progress_map *data = (twill__progress_map *)data_;
    twill__progress_rest(data->progress, data->report);
    (void)twill_progress_finish(data->progress, data->status);
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
    data.status = TWILL_LOST;
    TWILL__GUARD_PUSH(twill__progress_map_over, &data);
    data.status = twill__run_call(&run, n, false, twill__progress_steps, &data);
    twill__progress_rest(data.progress, run.report);
    (void)twill_progress_finish(data.progress, data.status); /* here it may end the thread */
    TWILL__GUARD_POP(1);
    return data.status;
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
