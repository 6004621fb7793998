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
TWILL_FAILED, item 2: code 1; 3 others: 24228450
END OF OUTPUT

OPTIONS (twill_fan_options; NULL or zeroed: all outcomes, in the order in which tasks end)
    run             workers: tasks at once, on threads of the fan's own (started at create) or on
                    run.pool; 0: the pool's, those of the call around it, or the CPUs. For waiting
                    work (network, disk) more than the CPUs. The calling thread collects and is not
                    counted; it runs tasks itself only where nobody else may: no thread could be
                    started (DEGRADED), it is itself a thread of that pool, or none of these has
                    come for 1 ms (all may wait for it; not with max_abandoned).
                    until ends the fan as a whole. on_error 0: COLLECT; ALL_OK: LOWEST. statuses and
                    codes [n]: twill_fan_out_fan_in only, else INVALID
    goal            ALL        every outcome. FAILED if any failed, the lowest index first
                    ALL_OK     the first failure cancels those above it, those below still run, so
                               the error is the same in every run; aggregate is called only when all
                               are in, and not at all unless all succeeded (all up to the first
                               twill_task_stop, if one says it). Not with a stream
                    FIRST_OK   the first success cancels the rest; failures end no race
                    QUORUM     `quorum` successes; ends early also when they are out of reach: after
                               close with what is in flight, whatever tasks might still go
                    ENOUGH     `enough`, asked after each outcome by the thread that took it
                    A goal that is met: OK, failures stay in the report. Not met: FAILED
    quorum, enough  with those goals, and only with them
    ordered         index order: an outcome is kept back until the lower ones are out
    result_size     bytes of a task's result; the object only (the calls have a parameter)
    in_flight       tasks queued or running, exact, but for those that a task runs inside it (see
                    NESTED); 0: twice the workers. go waits for room
    max_unread      outcomes not yet taken; 0: 65536, in the calls 1024. With that many a go is
                    refused; in the calls nothing more is started. Bounds the memory: it does not
                    grow with n
    timeout         of each task, from its start. Its token fires, its outcome is TIMEOUT, a success
                    that comes later goes to `discard`. Seen at once by whoever waits in next, or by
                    an idle worker. 0: none
    max_abandoned   0: structured, all that run are waited for. Else up to so many may be left
                    behind: a task over its timeout is answered at once although it still runs; at
                    the end of the fan (deadline, goal met, destroy) those that still run are LOST.
                    More than so many are waited for until they are that few. Not 0: a
                    twill_cancel_request on run.until's token is seen by twill_task_cancelled alone
    drop            accepted, and never ran: CANCELLED or TIMEOUT. Exactly one of {task, drop}
    discard         a success that nobody will take: late, after the goal, or unread at destroy
    notify          the object only: "try_next would give something", an outcome or CLOSED, where
                    there was nothing. From the thread that made it so (also one that fires the
                    token of run.until: there it must return, as a hook; at a deadline an idle
                    worker); short; it may write to an eventfd. Read until EMPTY

ERRORS
    calls           OK; FAILED: a task, aggregate or pull failed (report.first_error: which), or the
                    goal was not met; CANCELLED, TIMEOUT: run.until was over before all had run.
                    FORKED: a callback forked, and this is the child. Refusals (nothing ran): as
                    those of create
    go              OK; CLOSED: after close (but from the fan's own tasks while any is in flight),
                    cancel, or the end by goal or error; CANCELLED, TIMEOUT: run.until is over, or
                    the wait; FULL: max_unread (but go_until), or the window (try; and in notify, or
                    on another thread of a task, where nothing can run inside); NO_MEMORY. Not OK:
                    arg stays the caller's
    next            OK: an outcome, whatever it is; CLOSED: no more will come; EMPTY (try);
                    CANCELLED, TIMEOUT: the wait, and nothing is lost. DEADLOCK: closed, and all
                    that is in flight waits in next
    outcome.status  OK; FAILED: outcome.code is what the task returned; TIMEOUT; CANCELLED: it never
                    ran, or said twill_task_skip; LOST: it ended its thread, or was left behind
    TWILL_INVALID   NULL where something is needed; an option that makes no sense. TOO_BIG: sizes
    stop, destroy   DEADLOCK from a callback of the fan; stop: TIMEOUT, CANCELLED: some are stuck
    In the report a task that had started and ended with TIMEOUT or LOST counts failed, one that
    never started skipped. done + failed + skipped == total, always.

THREADS      All functions by any thread, also by the fan's own tasks; destroy last.
NESTED       go and try_go from a task at a full window run the new task at once, inside it (FULL,
             if ordered has no place for its outcome). next inside a task runs queued tasks of this
             fan meanwhile, no others. A pool of one is enough. A call inside a call takes the
             threads of that, if run.workers is 0; with max_abandoned, since what it leaves behind
             may outlive that, threads of its own, or run.pool.
ORDERING     go, then the task, then next or aggregate: aggregate may use plain variables.
BLOCKS       next, go, the calls, stop, destroy. No user code runs under a lock.
ALLOCATES    One block at create or at the call; records of tasks later, 32 at first and then as
             many as there are, never more than in_flight + max_unread (+ max_abandoned), and one
             for each thread that is just giving one back. They are used again, and freed at the
             end. ALL_OK takes all n before the start.
OWNERSHIP    arg is the task's from OK of go on; the result is copied out by next, zeroes unless the
             outcome is OK. Items of an array stay where they are, but with max_abandoned the fan
             has copies, since a task may outlive the call. What is left behind keeps the fan's
             block, a worker each and one thread that waits for them, and on a pool the pool.
COSTS        One lock, taken twice a task, and once by each go and next; 256 bytes a record, with an
             item and a result of 8 bytes each, or a result of 16. A worker takes several tasks of
             less than 5 us at a time, and the lock once for all of them, if no outcome decides
             anything (ALL, COLLECT, no timeout, notify or max_abandoned, not ordered, 16 workers
             at most); who sleeps may see their outcomes up to 0.1 ms later, in the order of their
             ends. The larger in_flight is, the more it takes. A call over an array then has up to
             half of its records in its block (128 KB a worker at most).
FORK         In the child: FORKED; destroy frees. Calls made there work. Only a task may return in a
             child: drop, discard, notify and enough, if they fork, let it exec or _exit.
PITFALLS     A task left behind must not touch what its caller owns: give it an item, a result, and
             nothing else. Without `drop` and `discard` what arg and results own leaks. A straggler
             keeps its worker: leave room in run.workers. worker_stop of a worker that was left
             behind runs when it returns. */
#ifndef TWILL_FAN_OUT_FAN_IN_H
#define TWILL_FAN_OUT_FAN_IN_H

#include "base/base.h"

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

/* On the calling thread, one at a time. result: NULL unless the outcome is TWILL_OK. Not 0, or
   twill_task_stop: the rest is told, and not aggregated. */
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

/* Starts the threads. TWILL_OK: *out is the fan. Else *out is NULL: INVALID, TOO_BIG, NO_MEMORY,
   NO_THREAD (run.strict), CLOSED (the pool), FORKED. */
TWILL__DECL twill_status twill_fan_create(twill_fan **out, const twill_fan_options *options);

/* One task more: fn(arg, result, task) on a worker. key comes back in the outcome, beside the
   index, which counts accepted tasks. go waits for room in the window; try_go never waits; go_until
   waits for readers, too. */
TWILL__DECL twill_status twill_fan_go(twill_fan *fan, twill_task_fn *fn, void *arg, void *key);
TWILL__DECL twill_status twill_fan_try_go(twill_fan *fan, twill_task_fn *fn, void *arg, void *key);
TWILL__DECL twill_status twill_fan_go_until(twill_fan *fan, twill_task_fn *fn, void *arg, void *key,
                                            twill_until until);

/* No more go; after the last outcome next says CLOSED. A second one: CLOSED. */
TWILL__DECL twill_status twill_fan_close(twill_fan *fan);

/* The next outcome: each accepted task exactly once. result: result_size bytes, or NULL. */
TWILL__DECL twill_status twill_fan_next(twill_fan *fan, void *result, twill_outcome *outcome);
TWILL__DECL twill_status twill_fan_try_next(twill_fan *fan, void *result, twill_outcome *outcome);
TWILL__DECL twill_status twill_fan_next_until(twill_fan *fan, void *result, twill_outcome *outcome,
                                              twill_until until);

/* Closes, drops what is queued, tells what runs; all of it still comes out of next. A second one:
   CLOSED. */
TWILL__DECL twill_status twill_fan_cancel(twill_fan *fan);

/* In two phases: closes, waits for what is in flight until `drain`; then cancels, and waits until
   `join`. *out (may be NULL): what ended by itself, what was cancelled, what still runs. Outcomes
   stay to be read. */
TWILL__DECL twill_status twill_fan_stop(twill_fan *fan, twill_until drain, twill_until join,
                                        twill_stopped *out);

/* Cancels what is left, waits, gives unread successes to `discard`, fills run.report, frees. Calls
   that wait inside are answered first. NULL: TWILL_OK. */
TWILL__DECL twill_status twill_fan_destroy(twill_fan *fan);

/* accepted == done + failed + skipped + queued + running. abandoned: running, with their outcome
   given; records: as much memory as was needed at once. */
typedef struct twill_fan_stats {
    size_t accepted, done, failed, skipped;
    size_t queued, running, unread, abandoned;
    size_t records;
} twill_fan_stats;
/* One moment's figures. NULL or a parent process's fan: zeroes. */
TWILL__DECL void twill_fan_get_stats(twill_fan *fan, twill_fan_stats *out);

#ifdef __cplusplus
}
#endif
#endif

#ifdef TWILL_IMPLEMENTATION
#ifndef TWILL__FAN_OUT_FAN_IN_IMPL
#define TWILL__FAN_OUT_FAN_IN_IMPL

#include "fan_out_fan_in/call.h"

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
    plan.call = true;
    plan.nested = !plan.options->max_abandoned; /* what is left behind outlives the call around */
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
    plan.call = plan.stream = true;
    plan.nested = !plan.options->max_abandoned; /* as above */
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
    turn.notify = status == TWILL_OK;
    fan->closed = turn.again = true;
    twill__fan_judge(fan, &turn);
    turn.notify &= twill__fan_finished(fan);
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
    while (twill__fan_drop_spared(fan, &turn)) {} /* exit: nothing is queued any more */
    return twill__fan_return(fan, &turn, status);
}

TWILL__DEFINE twill_status twill_fan_stop(twill_fan *fan, twill_until drain, twill_until join,
                                          twill_stopped *out)
{
    twill__fan_turn turn;
    twill_status status;
    size_t ran, skipped;
    bool finished;
    if (out)
        memset(out, 0, sizeof *out);
    if (!fan)
        return TWILL_INVALID;
    if (!twill__fan_here(fan))
        return TWILL_FORKED;
    if (twill__fan_inside(fan))
        return TWILL_DEADLOCK;
    twill__fan_enter(fan, &turn);
    twill__fan_sweep(fan, &turn);
    ran = fan->succeeded + fan->failed;
    skipped = fan->skipped;
    finished = twill__fan_finished(fan);
    fan->closed = turn.again = true;
    twill__fan_judge(fan, &turn);
    turn.notify = !finished && twill__fan_finished(fan);
    status = twill__fan_settle_down(fan, &turn, drain, 0);
    if (status == TWILL_FORKED)
        return status;
    if (status != TWILL_OK) { /* what is queued is dropped, and none of it runs here */
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

static inline void twill__fan_unread_discard(twill_fan *fan, twill__fan_turn *turn,
                                             twill__fan_task *task)
{
    twill__fan_outcall outcall;
    twill__fan_outcall_begin(fan, turn, &outcall);
    twill__fan_exit(fan, turn);
    TWILL__GUARD_PUSH(twill__fan_outcall_ended, &outcall);
    twill__fan_call_discard(fan, task);
    TWILL__GUARD_POP(0);
    twill__fan_outcall_end(&outcall);
    twill__fan_lock(fan, turn);
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
    twill__fan_enter(fan, &turn); /* so a callback that it runs is known to be one */
    twill__fan_end(fan, &turn, TWILL_CANCELLED, TWILL_CLOSED);
    turn.again = true;
    turn.notify = false; /* nobody shall read here any more */
    (void)twill__fan_settle_down(fan, &turn, (twill_until){0, NULL}, fan->max_abandoned);
    twill__fan_abandon(fan, &turn);
    while ((task = twill__fan_take(fan)) != NULL) {
        if (task->outcome.status == TWILL_OK && fan->discard)
            twill__fan_unread_discard(fan, &turn, task);
        twill__fan_release(fan, task);
    }
    (void)twill__fan_return(fan, &turn, TWILL_OK);
    out = fan->report;
    twill__fan_fill(fan, &report);
    report.status = twill__fan_verdict(fan, &report);
    if (report.status == TWILL_OK && (fan->cut_short || report.failed) && !fan->met &&
        fan->stop_at == SIZE_MAX)
        report.status = TWILL_CANCELLED; /* by twill_fan_cancel, or here; failed: left behind */
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
    twill__fan_sweep(fan, &turn);
    out->accepted = fan->next_index;
    out->done = fan->succeeded;
    out->failed = fan->failed;
    out->skipped = fan->skipped;
    out->running = fan->executing;
    if (out->running > fan->in_flight) /* a worker is still in its lane, and all there has ended */
        out->running = fan->in_flight;
    out->queued = fan->in_flight - out->running;
    out->unread = fan->unread;
    out->abandoned = fan->answered;
    out->records = fan->records;
    (void)twill__fan_return(fan, &turn, TWILL_OK);
}
#endif
#endif
