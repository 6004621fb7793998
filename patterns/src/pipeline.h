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

#include "base/base.h"

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

#include "pipeline/create.h"

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
