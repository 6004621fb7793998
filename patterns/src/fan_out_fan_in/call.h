/* call.h: one call: the calling thread collects what the workers have done. */
#ifndef TWILL__FAN_CALL_H
#define TWILL__FAN_CALL_H

#include "fan_out_fan_in/life.h"

enum { TWILL__FAN_SOME = 64 /* outcomes between two looks */, TWILL__FAN_BURST = 32 /* pulls */ };
#define TWILL__FAN_BURST_NS 5000 /* outcomes wait for no more pulls than these, and one */

typedef struct twill__fan_call {
    twill__call call; /* first: what aggregate and pull say */
    twill_fan *fan;
    const twill_fan_options *options;
    twill_aggregate_fn *aggregate;
    twill_pull_fn *pull;
    twill__fan_outcomes batch; /* taken, not yet aggregated */
    twill__fan_outcomes kept;  /* ALL_OK: until all are in */
    twill_ns pulled;           /* when the source gave an item */
    size_t given;              /* index of the outcome that aggregate has; SIZE_MAX: it is pull */
    size_t rest;               /* items from here on were never begun, and have no outcome yet */
    bool said_stop;            /* by the callback that runs */
    bool silent;               /* aggregate is not called any more */
    bool enough;               /* so it was decided */
    bool met;                  /* ALL_OK: all are */
    bool inside;               /* in aggregate, enough or pull */
    twill_item_error error;    /* of aggregate or pull */
    twill_status status;
    twill_report report;
} twill__fan_call;

static inline void twill__fan_call_stop(const twill_task *task)
{
    ((twill__fan_call *)task->private_)->said_stop = true;
}

static inline const twill__call_table *twill__fan_call_table(void)
{
    static const twill__call_table table = {NULL, twill__fan_call_stop, NULL, NULL, NULL};
    return &table;
}

static inline twill_task twill__fan_call_task(twill__fan_call *call, size_t index)
{
    twill_task task = twill__fan_outside(call->fan, index);
    task.until.deadline = call->fan->crew.run.until.deadline;
    task.until.cancel = &call->fan->root;
    task.private_ = call;
    return task;
}

/* ---- aggregate ---- */

/* Ends the call early, from the calling thread. met: the goal is reached; else aggregate wants no
   more. */
static inline void twill__fan_call_end(twill__fan_call *call, bool met)
{
    twill__fan_turn turn = {.visitor = false};
    twill__fan_lock(call->fan, &turn);
    call->fan->met |= met;
    call->fan->stopped |= !met;
    twill__fan_end(call->fan, &turn, TWILL_CANCELLED, TWILL_CLOSED);
    twill__fan_exit(call->fan, &turn);
}

/* One outcome for aggregate, then for `enough`. False: a fork; nothing is touched any more. */
static inline bool twill__fan_aggregate(twill__fan_call *call, const void *result,
                                        const twill_outcome *outcome)
{
    twill_task task = twill__fan_call_task(call, outcome->index);
    int code = 0;
    bool enough = false;
    call->said_stop = false;
    call->inside = true;
    call->given = outcome->index;
    if (call->aggregate)
        code = call->aggregate(result, outcome, &task);
    if (!code && !call->said_stop && call->options->enough && !call->enough)
        enough = call->options->enough(outcome, result, &task);
    call->inside = false;
    if (!twill__fan_here(call->fan))
        return false;
    if (code) {
        call->error.index = outcome->index;
        call->error.status = TWILL_FAILED;
        call->error.code = code;
    }
    call->enough |= enough;
    call->silent = code || call->said_stop;
    if (call->silent || enough)
        twill__fan_call_end(call, enough);
    return true;
}

static inline void twill__fan_call_discards(twill__fan_call *call, twill__fan_task *task)
{
    if (task->outcome.status == TWILL_OK && call->fan->discard)
        twill__fan_call_discard(call->fan, task);
}

/* An outcome that was taken. False: as above. */
static inline bool twill__fan_consume(twill__fan_call *call, twill__fan_task *task)
{
    bool good = task->outcome.status == TWILL_OK, goes_on = true;
    if (call->silent || (good && (task->late || call->enough)))
        twill__fan_call_discards(call, task);
    else
        goes_on = twill__fan_aggregate(call, good ? twill__fan_result(call->fan, task) : NULL,
                                       &task->outcome);
    return goes_on;
}

/* Works off the batch. The lock is held before and after; false: as above. */
static inline bool twill__fan_work_off(twill__fan_call *call, twill__fan_turn *turn)
{
    twill_fan *fan = call->fan;
    twill__fan_task *done = NULL, *task;
    twill__fan_exit(fan, turn);
    while ((task = twill__fan_pop(&call->batch)) != NULL) {
        if (fan->goal == TWILL_FAN_ALL_OK) {
            twill__fan_push(&call->kept, task);
            continue;
        }
        if (!twill__fan_consume(call, task))
            return false;
        task->after = done;
        done = task;
    }
    twill__fan_lock(fan, turn);
    while (done) {
        task = done;
        done = task->after;
        twill__fan_release(fan, task);
    }
    return true;
}

/* ---- pull ---- */

static inline void twill__fan_source_ended(twill_fan *fan, twill__fan_turn *turn)
{
    fan->pulled = false;
    twill__fan_judge(fan, turn);
}

/* Pulls one item. The lock is held before and after; false: as above. */
static inline bool twill__fan_pull(twill__fan_call *call, twill__fan_turn *turn)
{
    twill_fan *fan = call->fan;
    twill_task task = twill__fan_call_task(call, fan->next_index);
    twill__fan_task *record;
    twill_ns now;
    bool no_memory;
    int code;
    if ((record = twill__fan_record(fan, turn, &no_memory)) == NULL) {
        if (no_memory) /* it goes on with those that it has */
            fan->capacity = fan->used;
        return true;
    }
    twill__fan_fresh(record, NULL, NULL, NULL);
    twill__fan_exit(fan, turn);
    call->said_stop = false;
    call->inside = true;
    call->given = SIZE_MAX;
    code = call->pull((char *)record + fan->item_at, &task);
    call->inside = false;
    if (!twill__fan_here(fan))
        return false;
    now = twill__clock_now();
    twill__fan_lock(fan, turn);
    if (!code && !call->said_stop) {
        call->pulled = now;
        twill__fan_accept(fan, turn, record, now);
        return true;
    }
    if (code) {
        call->error.index = task.index;
        call->error.status = TWILL_FAILED;
        call->error.code = code;
    }
    record->holds = 1;
    twill__fan_release(fan, record);
    twill__fan_source_ended(fan, turn);
    return true;
}

/* Pulls some, while that is quick: each of them can be begun at once. How many; false: as above. */
static inline bool twill__fan_pull_some(twill__fan_call *call, twill__fan_turn *turn,
                                        unsigned *count)
{
    twill_fan *fan = call->fan;
    twill_ns began = call->pulled = 0;
    *count = 0;
    do { /* exit: a number, or time */
        if (!twill__fan_pull(call, turn))
            return false;
        if (!began)
            began = call->pulled;
        ++*count;
    } while (*count < TWILL__FAN_BURST && twill__fan_may_pull(fan) &&
             call->pulled - began < TWILL__FAN_BURST_NS);
    return true;
}

/* ---- collecting ---- */

/* Whether all that still runs was told to end, and may be left behind. */
static inline bool twill__fan_may_abandon(const twill_fan *fan)
{
    const twill__fan_list *lists[2] = {&fan->running, &fan->overdue};
    if (!fan->executing || fan->in_flight != fan->executing || fan->pulled ||
        twill__fan_source_left(fan) || fan->answered + fan->executing > fan->max_abandoned)
        return false;
    for (int k = 0; k < 2; k++)
        for (const twill__fan_task *task = lists[k]->first; task; task = task->next)
            if (!task->answered && !twill__fan_spared(fan, task->outcome.index))
                return false;
    return true;
}

/* Waits for an outcome. The lock is held before and after. spun: a moment was waited in vain. While
   quick tasks run, let them gather for a moment: to be woken for each costs more than they do. */
static inline void twill__fan_call_wait(twill__fan_call *call, twill__fan_turn *turn, bool *spun,
                                        bool *refused)
{
    static const twill_until forever = {0, NULL};
    twill_fan *fan = call->fan;
    twill__fan_wait me = {
        .helps = twill__fan_helps(fan, NULL), .strict = *spun, .refused = *refused};
    twill_status over;
    if (!*spun && !twill__fan_gathering(fan)) {
        *spun = true;
        twill__fan_moment(fan, turn);
        return;
    }
    *spun = !*spun;
    *refused = false;
    if (twill__fan_wait_in(fan, turn, &fan->readers, &me, forever, &over) &&
        me.node.answer == TWILL_OK)
        twill__fan_push(&call->batch, me.task);
}

/* Until all tasks have their outcome, and it was taken. False: as above. */
static inline bool twill__fan_collect(twill__fan_call *call)
{
    twill_fan *fan = call->fan;
    twill__fan_turn turn = {.lazy = true};
    twill__fan_task *task;
    bool spun = false, refused = false, helps = twill__crew_counts_on_us(&fan->crew);
    twill__fan_lock(fan, &turn);
    for (;;) { /* exit: all is over; each turn is an outcome, an item, or time */
        unsigned some = TWILL__FAN_SOME; /* at a time: workers wait for their records */
        int instead;
        twill__fan_clock(fan, &turn);
        twill__fan_sweep(fan, &turn);
        if (twill__fan_may_pull(fan) && (!fan->queue.count || !twill__fan_readable(fan))) {
            /* then as many outcomes: neither side waits long for the other */
            if (!twill__fan_pull_some(call, &turn, &some))
                return false;
        }
        if (fan->pulled && twill__fan_spared(fan, fan->next_index)) {
            fan->cut_off = true; /* the source had not said that this is all */
            twill__fan_source_ended(fan, &turn);
        }
        for (unsigned k = 0; k < some && (task = twill__fan_take(fan)) != NULL; k++)
            twill__fan_push(&call->batch, task);
        if (call->batch.first) {
            spun = false;
            if (!twill__fan_work_off(call, &turn))
                return false;
            continue;
        }
        if (twill__fan_drop_spared(fan, &turn) || twill__fan_may_pull(fan))
            continue;
        if (!fan->in_flight && !twill__fan_source_left(fan) && !fan->pulled)
            break;
        if (twill__fan_may_abandon(fan)) {
            twill__fan_abandon(fan, &turn);
            continue;
        }
        if ((instead = twill__fan_instead(fan, &turn, NULL, helps, &refused)) < 0)
            return false;
        if (!instead)
            twill__fan_call_wait(call, &turn, &spun, &refused);
    }
    twill__fan_exit(fan, &turn);
    return true;
}

/* Items of the array that were never begun. */
static inline bool twill__fan_call_rest(twill__fan_call *call)
{
    twill_fan *fan = call->fan;
    twill_outcome outcome = {TWILL_OK, 0, 0, NULL, UINT_MAX, 0, fan->since, 0, 0};
    outcome.finished = twill__clock_now();
    twill__lock(&fan->lock); /* the token or the deadline may still end what is at its end */
    outcome.status = fan->over ? fan->over : TWILL_CANCELLED;
    if (call->rest < fan->source_next)
        call->rest = fan->source_next;
    fan->cut_short |= fan->over && call->rest < fan->source_n;
    twill__unlock(&fan->lock);
    while (call->rest < fan->source_n) {
        outcome.index = call->rest++;
        fan->skipped++;
        if (fan->statuses)
            fan->statuses[outcome.index] = outcome.status;
        if (fan->codes)
            fan->codes[outcome.index] = 0;
        if (fan->drop)
            twill__fan_call_drop(fan,
                                 (void *)(uintptr_t)(fan->items + outcome.index * fan->item_size),
                                 outcome.index, outcome.status);
        if (!twill__fan_here(fan))
            return false;
        if (!call->silent && fan->goal != TWILL_FAN_ALL_OK && call->aggregate &&
            !twill__fan_aggregate(call, NULL, &outcome))
            return false;
    }
    return true;
}

/* ALL_OK: whether the first `most` have succeeded. */
static inline bool twill__fan_call_all_ok(const twill__fan_call *call, size_t most)
{
    size_t good = 0;
    for (const twill__fan_task *task = call->kept.first; task; task = task->after)
        good += task->outcome.status == TWILL_OK && task->outcome.index < most;
    return good == most;
}

/* ALL_OK: all are in. Where one said stop, it was the last of the serial loop. */
static inline bool twill__fan_call_kept(twill__fan_call *call)
{
    const twill_fan *fan = call->fan;
    size_t most = fan->stop_at < fan->source_n ? fan->stop_at + 1 : fan->source_n;
    twill__fan_task *task;
    if (fan->goal != TWILL_FAN_ALL_OK)
        return true;
    call->met = twill__fan_call_all_ok(call, most);
    call->silent = !call->met;
    while ((task = twill__fan_pop(&call->kept)) != NULL) {
        if (task->outcome.index >= most)
            twill__fan_call_discards(call, task);
        else if (!twill__fan_consume(call, task))
            return false;
    }
    return true;
}

/* ---- the end of the call ---- */

static inline void twill__fan_call_answer(twill__fan_call *call, twill_status verdict)
{
    twill_report *report = &call->report;
    if (call->met) /* run.until came later, or for what stands behind a stop */
        verdict = TWILL_OK;
    else if (call->fan->goal == TWILL_FAN_ALL_OK && verdict == TWILL_OK)
        verdict = TWILL_FAILED;
    if (call->error.status) {
        verdict = TWILL_FAILED;
        if (!call->pull || !report->first_error.status ||
            call->error.index < report->first_error.index)
            report->first_error = call->error;
    }
    call->status = report->status = verdict;
}

/* Also when a callback ends the calling thread: then something is left. */
static inline void twill__fan_call_finish(void *call_)
{
    twill__fan_call *call = (twill__fan_call *)call_;
    twill_fan *fan = call->fan;
    twill_report *out = fan->report;
    twill__fan_turn turn = {.visitor = false};
    twill__fan_task *task;
    if (call->inside) {
        call->error.index = call->given;
        call->error.status = TWILL_LOST;
    }
    twill__fan_lock(fan, &turn);
    fan->stopped |= call->inside; /* what is told now has not failed */
    call->inside = false;
    if (fan->in_flight || fan->pulled || fan->source_next < fan->source_n)
        twill__fan_end(fan, &turn, TWILL_CANCELLED, TWILL_CLOSED);
    fan->pulled = false;
    (void)twill__fan_settle_down(fan, &turn, (twill_until){0, NULL}, fan->max_abandoned);
    twill__fan_abandon(fan, &turn);
    while ((task = twill__fan_take(fan)) != NULL)
        twill__fan_push(&call->batch, task);
    twill__fan_exit(fan, &turn);
    while ((task = twill__fan_pop(&call->batch)) != NULL ||
           (task = twill__fan_pop(&call->kept)) != NULL)
        twill__fan_call_discards(call, task);
    call->silent = true;
    (void)twill__fan_call_rest(call);
    twill__fan_fill(fan, &call->report);
    twill__fan_call_answer(call, twill__fan_verdict(fan, &call->report));
    twill__fan_bury(fan, &call->report);
    if (out)
        *out = call->report;
}

static inline twill_status twill__fan_call_run(twill__fan_call *call)
{
    bool here;
    TWILL__GUARD_PUSH(twill__fan_call_finish, call);
    here = twill__fan_collect(call) &&
           (call->fan->goal != TWILL_FAN_ALL_OK || twill__fan_call_rest(call)) &&
           twill__fan_call_kept(call) && twill__fan_call_rest(call);
    TWILL__GUARD_POP(0);
    if (here) {
        twill__fan_call_finish(call);
        return call->status;
    }
    /* a callback has forked, and this is the child: the parent has the threads, and the work */
    (void)twill__refuse(call->fan->report ? &(twill_run){.report = call->fan->report} : NULL, 0,
                        TWILL_FORKED);
    twill__fan_free(call->fan);
    return TWILL_FORKED;
}

static inline twill_status twill__fan_one_call(twill__fan_plan *plan, const void *items,
                                               twill_pull_fn *pull, twill_map_fn *process,
                                               twill_aggregate_fn *aggregate)
{
    twill__fan_call call;
    twill_status status = twill__fan_check(plan);
    twill_fan *fan;
    if (status != TWILL_OK || (!plan->stream && plan->n == 0))
        return twill__refuse(&plan->options->run, plan->n, status);
    fan = twill__fan_allocate(plan);
    if (!fan)
        return twill__refuse(&plan->options->run, plan->n, TWILL_NO_MEMORY);
    fan->process = process;
    fan->items = (const char *)items;
    fan->source_n = plan->n;
    fan->pulled = plan->stream;
    fan->closed = true;
    memset(&call, 0, sizeof call);
    call.call.table = twill__fan_call_table();
    call.fan = fan;
    call.options = plan->options;
    call.aggregate = aggregate;
    call.pull = pull;
    {
        /* over before it began: no item is begun */
        twill__fan_turn turn = {.visitor = false};
        fan->crew.run.until = plan->options->run.until;
        twill__fan_look(fan, &turn, fan->since);
        if (turn.fire_all)
            twill_cancel_fire(&fan->root, 1);
    }
    status = twill__fan_open(fan, plan);
    if (status != TWILL_OK) {
        twill__fan_free(fan);
        return twill__refuse(&plan->options->run, plan->n, status);
    }
    return twill__fan_call_run(&call);
}
#endif
