/* run.h: how to run, and the report of what happened. */
#ifndef TWILL__BASE_RUN_H
#define TWILL__BASE_RUN_H

#include "base/task.h"

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
