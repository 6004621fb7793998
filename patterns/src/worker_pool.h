/* twill_worker_pool.h - tasks on threads that outlive one call. SPDX-License-Identifier: MIT OR
   Unlicense

   Compile: cc -std=c11 -pthread. One .c file says `#define TWILL_IMPLEMENTATION` before it includes
   twill headers.

   WHAT IT IS FOR
   Work that comes in pieces, from anywhere: submit a task, ask for its result, its error or its
   end by a future, cancel it, delay it, limit its time. The queue is bounded; the end has two
   phases. twill_run_all is the one-call form for n tasks that are there already. Every pattern that
   has threads for its work takes a pool by `run.pool`, and the same threads serve its calls, too
   (but for timeout_fallback, whose stragglers would keep them).

   WHEN NOT
   A loop over items: twill_parallel_map hands out ranges, not tasks. One call now and then: it
   starts its own threads when the work is worth them. Work that flows through stages: pipeline.

   EXAMPLE:
   #define TWILL_IMPLEMENTATION
   #include "twill_worker_pool.h"
   #include <stdio.h>

   static int square(void *arg, void *result, const twill_task *task)
   {
       int x = *(int *)arg;
       *(int *)result = x * x;
       return task->index == 2 ? 42 : 0;  // any int but 0 is an error of yours
   }

   int main(void)
   {
       int numbers[4] = {1, 2, 3, 4};
       twill_future futures[4];
       twill_pool *pool;
       if (twill_pool_create(&pool, NULL) != TWILL_OK) return 1;
       for (int i = 0; i < 4; i++)
           if (twill_pool_submit(pool, square, &numbers[i], &futures[i],
                                 &(twill_submit_options){.result_size = sizeof(int)}) != TWILL_OK)
               return 1;
       for (int i = 0; i < 4; i++) {
           int result = 0;
           twill_outcome outcome;
           (void)twill_future_wait(futures[i], &result, &outcome);
           printf("%d: %s, code %d\n", result, twill_status_name(outcome.status), outcome.code);
           twill_future_release(futures[i]);
       }
       return twill_pool_destroy(pool) != TWILL_OK;
   }
   END OF EXAMPLE
   OUTPUT:
   1: TWILL_OK, code 0
   4: TWILL_OK, code 0
   9: TWILL_FAILED, code 42
   16: TWILL_OK, code 0
   END OF OUTPUT

   OPTIONS (twill_pool_options; NULL or zeroed: the defaults beside the fields below)
     run.workers      workers; 0 = the CPUs this process may use
     run.strict       a thread that cannot be started: TWILL_NO_THREAD (else the pool runs on those
                      it has)
     run.worker_start, run.worker_stop   once a worker, on its thread
     run.until.cancel parent of every task's token. A token tells tasks that run, and takes none out
                      of the queue: one that begins after it has fired is told at once
                      (twill_task_cancelled). Before it begins a task is cancelled by
                      twill_future_cancel, stop and abandon
     run.context, run.stack_size, run.name, run.cpus, run.cpu_count. Name and list are copied. A
                      size or CPU that could not be had: the reports of parallel calls on the pool
                      say so
     every other field of run must be zero: TWILL_INVALID
     overflow, when `capacity` tasks wait:
       BLOCK          submit waits, submit_until until then, try_submit says FULL. From a task of
                      the pool the new one runs at once, on top of it: never a wait for its own
                      queue (FULL if its start_at is still to come; so with CALLER_RUNS). Without
                      hooks so do the other threads of a call that a task makes
       REJECT         FULL
       CALLER_RUNS    it runs on the submitting thread (task->worker is UINT_MAX there, without a
                      worker_state); try_submit says FULL. While tasks take less than a microsecond
                      and workers are busy, those that follow at once go the same way without a
                      look whether there is room by now: capacity / 4 / workers, 7 to 127 of them
       DROP_OLDEST, DROP_NEWEST   one that waits ends DROPPED, by its `drop` (FULL, if all that wait
                      are delayed)
       DROP_INCOMING  the new one does; submit says DROPPED

   HOW A TASK ENDS, in exactly one of these ways
     OK, FAILED       by what it returned (FAILED: the code is in the outcome)
     CANCELLED        cancelled before it began; or it returned twill_task_skip
     TIMEOUT          past its `timeout`, whatever it returned; or not begun by `start_by`
     DROPPED          by the overflow policy
     LOST             it ended its thread (thrd_exit, pthread_exit), or was given up as stuck
   A running task that ignores its timeout ends TIMEOUT for those who wait, at that moment: whoever
   waits sees to it, else an idle worker, or the watch. (A task that waits for it, and so runs it
   itself, comes back when it does.) Its late result goes to `discard`.

   ERRORS       Each call says its own, below. INVALID: NULL or a nonsense option. FORKED: in a
                child process. CLOSED: after close. DEADLOCK: the wait would never end. NO_MEMORY:
                submit is refused, and the pool goes on.
   THREADS      All functions may be called by any thread, also from tasks, hooks and callbacks; but
                stop, destroy, wait_idle and each_worker from inside the pool (its tasks, calls that
                these make, hooks, and threads) say DEADLOCK. From callbacks on other threads (the
                submitter's, or of who cancels) so do those that could never end: destroy; stop and
                wait_idle without a deadline or token, while a task is in that thread's hands; and a
                wait for that task.
                Not seen: a hook on the token of a task, when a thread of yours fires the token
                above it (run.until.cancel): the task waits for the hook, so give a wait for the
                pool there a deadline.
                Hooks and callbacks (drop, discard, on_done, on_event, on_level) must return: only a
                task may end its thread, and not one that runs on top of a callback, which waits for
                it or has submitted it to a full queue. No lock is held while they run. The events
                of one task come in order, one after the other; but a STUCK that was found at the
                very end of its task may come after ENDED.
   ORDER        First in, first out within a priority. A task gains one step of priority for each
                `ageing` that it waits. Submit happens before the task, the task before its waiters
                and on_done. In outcomes of tasks that have no options but result, key and
                context, instants are right to 0.3 us.
   WAITING      A task that waits for another one that has not begun runs it itself, and never a
                third one: a pool of one worker and room for one is enough for any nesting. A thread
                outside does so, too, if its wait has neither deadline nor token, the task no
                timeout, and the pool no hooks (wait_any: if no worker is idle). Waits that close a
                circle say DEADLOCK in the last of them. Not seen is a circle through a wait_any, or
                through a task that has not begun, of a pool with hooks that the waiting thread is
                none of, whose workers all wait: a resize may begin it, a cancel or a stop may end
                it, so nobody can say that it is for ever. Give such waits a deadline.
   BLOCKS       submit while full (BLOCK); waits; stop and destroy. create and resize until
                worker_start is done.
   ALLOCATES    create; a worker when it starts; records and queue when there are more at once than
                ever before: a steady pool allocates nothing. Results of more than 48 bytes have a
                block of their own, used again.
   OWNERSHIP    The creator destroys, when no other call on the pool is under way but submits that
                wait for room, waits, and parallel calls: those it waits for. (But not for a fan,
                pipeline, batcher or producers that were given it when it had no thread, as a lazy
                one or one that is being stopped: they have threads of their own.) A pool must
                outlive the calls that are given it, not its futures. `arg` belongs to the task from
                acceptance until one of {fn, drop}.
   THREADS OF ITS OWN   the workers; with stuck_after or max_workers one more, which watches.
   IDLE         Workers look for work for 50 us after the last one (one CPU is left to others), then
                sleep: no CPU time. While tasks of less than a microsecond come one after another,
                and a worker is at work on them, nobody is called for each: one of the others looks
                every 0.1 ms whether it is needed; 0.2 ms is the longest that a task waits so. Of
                empty tasks one worker runs more alone than two that take turns.
   FORK         In the child the pool answers TWILL_FORKED; destroy, and abandon, free the memory
                there and join nobody. A task that forks, and returns in the child, too, ends its
                worker there: so the child, which has no other thread. Hooks and callbacks that fork
                must not return in the child: let it exec or _exit.
   PITFALLS     A task that another one waits for, and so runs, has that one's worker_state. A stuck
                worker is given up, not stopped: what it uses must stay. `workers` of a call
                on a pool counts the caller: a pool of 4 and its caller run up to 5 at once when
                asked for 5, and 4 by default. task->worker is below task->workers, which is
                max_workers + max_abandoned (more after a resize to fewer, as long as one of the old
                numbers is in use), and is used again after a worker has left. A hook that fails,
                like a thread, makes a pool smaller: see stats.workers. A pool that is left without
                any worker tries every 10 ms to have one, as long as somebody waits for room, for a
                task or for all of them, or a thread of its own is still there to try, as the last
                one is while there are tasks, or objects that were given the pool; else the next
                submit does. */
#include "base/base.h"
#include "base/future.h"

#ifndef TWILL_WORKER_POOL_H
#define TWILL_WORKER_POOL_H

#ifdef __cplusplus
extern "C" {
#endif

typedef enum twill_event {
    TWILL_EVENT_QUEUED,
    TWILL_EVENT_STARTED,
    TWILL_EVENT_ENDED,  /* `status` says how */
    TWILL_EVENT_STUCK,  /* it runs for longer than stuck_after */
    TWILL_EVENT_REFUSED /* not accepted; `status` says why */
} twill_event;

/* "TWILL_EVENT_STUCK" and so on, for logs; static. "unknown" for other values. */
TWILL__DECL const char *twill_event_name(twill_event event);

typedef struct twill_task_info { /* what on_event is told */
    twill_event event;
    twill_status status; /* ENDED: as in its outcome. REFUSED: what submit answers */
    size_t index;        /* the task's number; SIZE_MAX: refused, so it has none */
    void *key;
    unsigned worker; /* UINT_MAX: none */
    twill_ns when;
} twill_task_info;

typedef struct twill_pool_options {
    twill_run run; /* workers, hooks, names, context; run.until.cancel: every task's parent */
    unsigned max_workers; /* 0: run.workers, a fixed size; else the pool grows up to this */
    bool lazy;            /* threads start with the first tasks */
    twill_ns idle_after;  /* a worker more than run.workers leaves after so long; 0 = 10 s */
    twill_ns grow_after;  /* one is added when a task has waited for so long; 0 = 10 ms */
    size_t capacity;      /* tasks that wait, delayed ones included; 0 = 1024; exact */
    twill_overflow overflow;
    bool newest_first;    /* last in, first out */
    twill_ns ageing;      /* so long a wait is worth one step of priority; 0 = 1 s; FOREVER: none */
    twill_ns stuck_after; /* 0: no watch; else a task that runs for longer is told by on_event */
    unsigned max_abandoned; /* 0: told only; else so many such workers are given up and replaced */
    /* waiting tasks: on_level is told true at high_mark, false when down at low_mark; 0, 0: off */
    size_t high_mark, low_mark;
    void (*on_level)(bool high, size_t length, const twill_task *task);
    void (*on_event)(const twill_task_info *info, const twill_task *task);
} twill_pool_options;

typedef struct twill_submit_options {
    int priority;         /* larger goes first */
    size_t result_size;   /* > 0: `result` is a zeroed slot of this size */
    void *key;            /* the submitter's own tag, for outcome and events */
    void *context;        /* task->context; NULL: of the submitting task, else run.context */
    twill_ns start_at;    /* an instant: not before; 0: at once */
    twill_ns start_by;    /* an instant: not begun by then: TIMEOUT and drop; 0: no limit */
    twill_ns timeout;     /* of its run: then its token fires, and it ends TIMEOUT; 0: none */
    twill_cancel *cancel; /* parent of its token, beside run.until.cancel of the pool */
    /* how it ended, before its future wakes; on the thread that found out; short. result: NULL
       unless its callback returned */
    void (*on_done)(const twill_outcome *outcome, void *result, const twill_task *task);
    twill_drop_fn *drop;       /* it never ran: exactly one of {fn, drop} */
    twill_discard_fn *discard; /* it ran, and nobody will take its result */
} twill_submit_options;

/* Starts the threads. TWILL_OK: *out is the pool. Else *out is NULL: INVALID, TOO_BIG, NO_MEMORY,
   NO_THREAD (no worker could be started, or, with run.strict, not all, or not the one that watches;
   a worker_start that does not return 0 is a thread that could not). */
TWILL__DECL twill_status twill_pool_create(twill_pool **out, const twill_pool_options *options);

/* Hands a task over: OK: it is accepted, and will end in exactly one way; *future (NULL: nobody
   asks) is its handle, to be released. A full queue: see `overflow` in the manual. CLOSED, FULL,
   TIMEOUT, CANCELLED, NO_MEMORY, INVALID, FORKED: refused; `arg` is still yours, nothing will be
   called, and *future is {0}. DROPPED: accepted, and it has ended by `drop` already. options:
   copied; NULL: none. */
TWILL__DECL twill_status twill_pool_submit(twill_pool *pool, twill_task_fn *fn, void *arg,
                                           twill_future *future,
                                           const twill_submit_options *options);
/* Never waits, and never runs a task here: FULL instead. */
TWILL__DECL twill_status twill_pool_try_submit(twill_pool *pool, twill_task_fn *fn, void *arg,
                                               twill_future *future,
                                               const twill_submit_options *options);
TWILL__DECL twill_status twill_pool_submit_until(twill_pool *pool, twill_task_fn *fn, void *arg,
                                                 twill_future *future, twill_until until,
                                                 const twill_submit_options *options);
/* fn(args[i]) for each of n (args NULL: with NULL), in order, in one step while there is room;
   futures: [n] or NULL. *accepted (NULL ok): so many were; the status is that of the next one, and
   from it on futures are {0}. All accepted: OK, or DROPPED if any has ended so. */
TWILL__DECL twill_status twill_pool_submit_many(twill_pool *pool, twill_task_fn *fn,
                                                void *const *args, size_t n, twill_future *futures,
                                                size_t *accepted,
                                                const twill_submit_options *options);

/* From now on so many workers. Too many leave after their task; the missing are started: NO_THREAD:
   not all of them could be. Also NO_MEMORY, INVALID, TOO_BIG, CLOSED. */
TWILL__DECL twill_status twill_pool_resize(twill_pool *pool, unsigned workers,
                                           unsigned max_workers);
/* Running tasks go on, with what they wait for; none else is started, but by a submit to a full
   queue that runs its own. stop and destroy resume. */
TWILL__DECL twill_status twill_pool_pause(twill_pool *pool);
TWILL__DECL twill_status twill_pool_resume(twill_pool *pool);
/* Until every accepted task has ended, delayed ones included. From inside the pool: DEADLOCK. */
TWILL__DECL twill_status twill_pool_wait_idle(twill_pool *pool);
TWILL__DECL twill_status twill_pool_wait_idle_until(twill_pool *pool, twill_until until);
/* Calls fn(arg) once on each worker there is, between tasks, and waits for all. FAILED: one
   returned other than 0. TIMEOUT, CANCELLED: not on all of them. From inside the pool: DEADLOCK. */
TWILL__DECL twill_status twill_pool_each_worker(twill_pool *pool, twill_task_fn *fn, void *arg,
                                                twill_until until);

/* No more tasks from outside; accepted ones, and calls that they make, may still submit, until the
   pool has drained. A second
   one: CLOSED, and nothing changed. */
TWILL__DECL twill_status twill_pool_close(twill_pool *pool);
/* Closes; until `drain` (an instant) everything accepted runs; then what has not begun ends
   CANCELLED, and running tasks are told by their tokens; until `join` it waits for them and ends
   the threads. OK: all have ended. TIMEOUT, CANCELLED: out->stuck still run (0: no task does, but
   a thread has not left yet); the pool is valid, call again. From inside the pool: DEADLOCK, and
   nothing changed. End a batcher, fan or pipeline on the pool before: from `drain` on only its
   callers' own threads work for it, so nobody sees to a linger. */
TWILL__DECL twill_status twill_pool_stop(twill_pool *pool, twill_until drain, twill_until join,
                                         twill_stopped *out);
/* Closes, runs what is accepted, waits for calls on the pool, ends the threads, frees. NULL:
   TWILL_OK. From inside the pool: DEADLOCK, and nothing changed. */
TWILL__DECL twill_status twill_pool_destroy(twill_pool *pool);
/* Cancels as stop does, and waits for nobody: the last thread to leave frees. The pool must not be
   used any more. BUSY: a parallel call is on it, and nothing changed. */
TWILL__DECL twill_status twill_pool_abandon(twill_pool *pool, twill_stopped *out);

/* The pool whose task runs on this thread, or else whose worker it is; or NULL. */
TWILL__DECL twill_pool *twill_pool_current(void);
/* How many threads it has. */
TWILL__DECL unsigned twill_pool_workers(const twill_pool *pool);

typedef struct twill_pool_stats {
    /* when idle: submitted == done + failed + timed_out + cancelled + dropped + lost */
    uint64_t submitted, refused, started, done, failed, timed_out, cancelled, dropped, lost;
    uint64_t caller_ran; /* by the submitting thread */
    size_t queued, queued_peak, capacity;
    unsigned workers, idle, busy, blocked, abandoned, workers_peak;
    twill_ns wait_p50, wait_p95, wait_p99; /* from acceptance to start, of tasks that workers ran */
    twill_ns run_p50, run_p95, run_p99;    /* at most 1/16 too high; of tasks shorter than 1 us
                                              one of 16 is measured, than 64 ns one of 64 */
    twill_ns busy_total, idle_total;       /* of the workers there are */
    twill_ns oldest_running;               /* with a watch */
} twill_pool_stats;
/* Any thread. Zeros for a pool of a parent process. Allocates for a moment; without memory the
   percentiles are 0. */
TWILL__DECL void twill_pool_get_stats(twill_pool *pool, twill_pool_stats *out);

typedef struct twill_run_all_options {
    twill_run run;
    twill_ns timeout; /* of each task: its until ends then, and it counts TIMEOUT; 0: none */
} twill_run_all_options;
/* Runs n tasks: fn(task i, result i), the caller taking part, and waits for all of them. Every task
   runs whatever the others do (run.on_error: COLLECT by default); outcomes (NULL ok, else [n]) say
   how each ended, in task order. results and result_size: NULL and 0 for none. OK; FAILED: any
   failed; TIMEOUT, CANCELLED; INVALID, TOO_BIG, and what run.pool and run.strict say. */
TWILL__DECL twill_status twill_run_all(const void *tasks, size_t task_size, void *results,
                                       size_t result_size, size_t n, twill_map_fn *fn,
                                       twill_outcome *outcomes,
                                       const twill_run_all_options *options);

#ifdef __cplusplus
}
#endif
#endif

#ifdef TWILL_IMPLEMENTATION
#ifndef TWILL__WORKER_POOL_IMPL
#define TWILL__WORKER_POOL_IMPL

#include "worker_pool/control.h"
#include "worker_pool/run_all.h"

TWILL__DEFINE const char *twill_event_name(twill_event event)
{
    static const char *const names[] = {"TWILL_EVENT_QUEUED", "TWILL_EVENT_STARTED",
                                        "TWILL_EVENT_ENDED", "TWILL_EVENT_STUCK",
                                        "TWILL_EVENT_REFUSED"};
    return (unsigned)event < sizeof names / sizeof names[0] ? names[event] : "unknown";
}

#endif
#endif
