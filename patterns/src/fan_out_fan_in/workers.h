/* workers.h: who runs a fan's tasks. */
#ifndef TWILL__FAN_WORKERS_H
#define TWILL__FAN_WORKERS_H

#include "fan_out_fan_in/state.h"

/* ---- what a task says ---- */

static inline void twill__fan_task_stop(const twill_task *task)
{
    twill__fan_task *mine = (twill__fan_task *)task->private_;
    twill_fan *fan = mine->fan;
    twill__fan_turn turn;
    if (!twill__fan_here(fan)) /* it has forked */
        return;
    turn.visitor = false;
    twill__fan_lock(fan, &turn);
    if (!mine->answered) {
        if (mine->outcome.index < fan->stop_at)
            fan->stop_at = mine->outcome.index;
        twill__fan_lower(fan, &turn, mine->outcome.index);
    }
    twill__fan_exit(fan, &turn);
}

static inline void twill__fan_task_skip(const twill_task *task)
{
    ((twill__fan_task *)task->private_)->skip = true; /* read by its own thread alone */
}

static inline const twill__call_table *twill__fan_task_table(void)
{
    static const twill__call_table table = {NULL, twill__fan_task_stop, twill__fan_task_skip, NULL,
                                            NULL};
    return &table;
}

/* ---- tasks that do not run ---- */

typedef struct twill__fan_dropping { /* what its guard needs */
    twill__fan_calling calling;
    twill_fan *fan;
    twill__fan_task *task;
    twill_status why;
    bool visitor;
} twill__fan_dropping;

static inline void *twill__fan_item(const twill_fan *fan, twill__fan_task *task)
{
    return fan->copies ? (char *)task + fan->item_at : task->arg;
}

static inline void twill__fan_dropped(void *dropping_)
{
    twill__fan_dropping *dropping = (twill__fan_dropping *)dropping_;
    twill_fan *fan = dropping->fan;
    twill__fan_turn turn;
    turn.visitor = dropping->visitor;
    twill__fan_lock(fan, &turn);
    if (dropping->visitor)
        twill__fan_call_out(fan, &dropping->calling);
    twill__fan_publish(fan, &turn, dropping->task, dropping->why, 0, twill__clock_now());
    twill__fan_release(fan, dropping->task);
    twill__fan_exit(fan, &turn);
    if (dropping->visitor)
        twill__fan_leave(fan);
}

static inline void twill__fan_call_drop(twill_fan *fan, void *item, size_t index, twill_status why)
{
    twill_task task = twill__fan_outside(fan, index);
    fan->drop(item, why, &task);
}

/* The task was taken out of the queue; the lock is held before and after. */
static inline void twill__fan_drop(twill_fan *fan, twill__fan_turn *turn, twill__fan_task *task)
{
    twill__fan_dropping dropping = {
        {NULL, 0}, fan, task, fan->over ? fan->over : TWILL_CANCELLED, turn->visitor};
    if (fan->drop) {
        if (dropping.visitor)
            twill__fan_call_in(fan, &dropping.calling);
        twill__fan_exit(fan, turn);
        TWILL__GUARD_PUSH(twill__fan_dropped, &dropping);
        twill__fan_call_drop(fan, twill__fan_item(fan, task), task->outcome.index, dropping.why);
        TWILL__GUARD_POP(0);
        twill__fan_lock(fan, turn);
        if (dropping.visitor)
            twill__fan_call_out(fan, &dropping.calling);
    }
    twill__fan_publish(fan, turn, task, dropping.why, 0, twill__clock_now());
    twill__fan_release(fan, task);
}

static inline twill__fan_task *twill__fan_unqueue(twill_fan *fan)
{
    twill__fan_task *task = fan->queue.first;
    twill__fan_remove(&fan->queue, task);
    return task;
}

/* Drops what need not run any more, without waiting for a worker. False: there was nothing. */
static inline bool twill__fan_drop_spared(twill_fan *fan, twill__fan_turn *turn)
{
    twill__fan_task *task = fan->queue.first;
    if (!task || !twill__fan_spared(fan, task->outcome.index))
        return false;
    twill__fan_drop(fan, turn, twill__fan_unqueue(fan));
    return true;
}

/* ---- tasks that run ---- */

/* The next item of a call's source becomes a task. NULL: no memory for one more now. */
static inline twill__fan_task *twill__fan_from_source(twill_fan *fan, twill__fan_turn *turn)
{
    twill__fan_task *task;
    if (!fan->free) {
        size_t more = twill__fan_growth(fan);
        twill__fan_chunk *chunk;
        twill__fan_exit(fan, turn);
        chunk = twill__fan_new_chunk(fan, more);
        twill__fan_lock(fan, turn);
        if (chunk && !twill__fan_add_chunk(fan, chunk, more)) {
            twill__fan_exit(fan, turn);
            TWILL_FREE(chunk);
            twill__fan_lock(fan, turn);
        } else if (!chunk && !fan->free)
            fan->capacity = fan->used; /* it goes on with those that it has */
        if (!twill__fan_available(fan) || fan->queue.first)
            return NULL;
    }
    task = twill__fan_take_free(fan);
    if (!task)
        return NULL;
    twill__fan_fresh(fan, task, twill__fan_task_table());
    task->outcome.index = fan->source_next++;
    task->outcome.queued = fan->since;
    task->arg = (void *)(uintptr_t)(fan->items + task->outcome.index * fan->item_size);
    if (fan->copies) /* the caller may be gone before the task */
        memcpy((char *)task + fan->item_at, task->arg, fan->item_size);
    fan->in_flight++;
    return task;
}

/* Runs the user's function. The record is in `running`; no lock is held. */
static inline int twill__fan_invoke(twill_fan *fan, const twill_task *base, twill__fan_task *task)
{
    twill_task mine = *base;
    void *result = twill__fan_result(fan, task);
    mine.index = task->outcome.index;
    mine.until.cancel = &task->token;
    if (task->due && (twill__no_deadline(mine.until.deadline) || task->due < mine.until.deadline))
        mine.until.deadline = task->due;
    mine.private_ = task;
    if (result)
        memset(result, 0, fan->result_size);
    return task->fn ? task->fn(task->arg, result, &mine)
                    : fan->process(twill__fan_item(fan, task), result, &mine);
}

static inline void twill__fan_call_discard(twill_fan *fan, twill__fan_task *task)
{
    twill_task outside = twill__fan_outside(fan, task->outcome.index);
    fan->discard(twill__fan_item(fan, task), twill__fan_result(fan, task), 0, &outside);
}

/* Runs a task to its end. The lock is held before and after; false: it is another process now, and
   nothing of the fan is touched any more. */
static inline bool twill__fan_run(twill_fan *fan, twill__fan_turn *turn, twill__fan_slot *slot,
                                  twill__fan_task *task, twill_ns *now)
{
    int code;
    /* before others can see it run, and fire it */
    twill_cancel_init(&task->token, slot->task->until.cancel);
    if (*now < task->outcome.queued) /* the end of the task before it */
        *now = task->outcome.queued;
    twill__fan_start(fan, turn, task, slot->task->worker, *now);
    task->outer = slot->current;
    slot->current = task;
    twill__fan_exit(fan, turn);
    code = twill__fan_invoke(fan, slot->task, task);
    if (!twill__fan_here(fan))
        return false;
    twill__token_leave(twill__token_of(&task->token)); /* no hook of a fire is running now */
    *now = twill__clock_now();
    twill__fan_lock(fan, turn);
    if (!code && !task->skip && fan->discard &&
        (task->answered || task->expired || (task->due && *now >= task->due))) {
        twill__fan_exit(fan, turn); /* nobody will take this success */
        twill__fan_call_discard(fan, task);
        twill__fan_lock(fan, turn);
    }
    slot->chunks++;
    if (!task->outer)
        slot->busy += *now - task->outcome.started;
    slot->current = task->outer;
    twill__fan_ended(fan, turn, task, code ? TWILL_FAILED : TWILL_OK, code, *now);
    return true;
}

/* Runs or drops the next one. The lock is held before and after; false: as above. */
static inline bool twill__fan_step(twill_fan *fan, twill__fan_turn *turn, twill__fan_slot *slot,
                                   twill_ns *now)
{
    twill__fan_task *task;
    if (twill__fan_drop_spared(fan, turn)) {
        *now = twill__clock_now();
        return true;
    }
    task = fan->queue.first ? twill__fan_unqueue(fan) : twill__fan_from_source(fan, turn);
    if (!task)
        return true;
    if (!twill__fan_run(fan, turn, slot, task, now))
        return false;
    twill__fan_look(fan, turn, *now);
    if (fan->timeout)
        twill__fan_expire(fan, turn, *now);
    return true;
}

/* ---- the crew's functions ---- */

static inline bool twill__fan_ready(void *fan_)
{
    twill_fan *fan = (twill_fan *)fan_;
    twill_ns due = 0;
    if (!twill__fan_here(fan)) /* a task has forked: the others are the parent's */
        return false;
    if (atomic_load(&fan->ready)) /* seq_cst: see twill__fan_settle */
        return true;
    if (!fan->timeout)
        return false;
    twill__lock(&fan->lock);
    if (fan->running.first)
        due = fan->running.first->due;
    twill__unlock(&fan->lock);
    if (due && twill__clock_now() >= due)
        return true;
    if (due)
        twill__crew_alarm(&fan->crew, due);
    return false;
}

/* The entry of this thread among those that help, or NULL. */
static inline twill__fan_helping **twill__fan_find_helping(twill_fan *fan)
{
    uint64_t me = fan->helping ? twill__thread_number() : 0;
    for (twill__fan_helping **at = &fan->helping; *at; at = &(*at)->next)
        if ((*at)->thread == me)
            return at;
    return NULL;
}

static inline void twill__fan_work(void *fan_, twill_task *task)
{
    twill_fan *fan = (twill_fan *)fan_;
    twill__fan_slot *slot = &fan->slot[task->worker];
    twill__fan_turn turn;
    twill_ns now;
    bool once;
    turn.visitor = false;
    slot->task = task;
    /* relaxed: only the own thread finds its number here */
    atomic_store_explicit(&slot->thread, twill__thread_number(), memory_order_relaxed);
    twill__fan_lock(fan, &turn);
    once = twill__fan_find_helping(fan) != NULL;
    now = twill__clock_now();
    twill__fan_clock(fan, &turn);
    while (twill__fan_available(fan)) { /* exit: each turn takes a task; helpers one */
        if (!twill__fan_step(fan, &turn, slot, &now))
            return;
        if (once)
            break;
    }
    atomic_store_explicit(&slot->thread, 0, memory_order_relaxed);
    twill__fan_exit(fan, &turn);
}

/* A callback has ended the thread: what it ran is LOST. */
static inline void twill__fan_died(void *fan_, twill_task *task)
{
    twill_fan *fan = (twill_fan *)fan_;
    twill__fan_slot *slot = &fan->slot[task->worker];
    twill__fan_helping **helping;
    twill__fan_turn turn;
    twill_ns now = twill__clock_now();
    bool visits = false;
    if (!twill__fan_here(fan))
        return;
    for (twill__fan_task *lost = slot->current; lost; lost = lost->outer)
        twill__token_leave(twill__token_of(&lost->token));
    turn.visitor = false;
    twill__fan_lock(fan, &turn);
    for (twill__fan_task *lost = slot->current, *outer; lost; lost = outer) {
        outer = lost->outer;
        twill__fan_ended(fan, &turn, lost, TWILL_LOST, 0, now);
    }
    slot->current = NULL;
    atomic_store_explicit(&slot->thread, 0, memory_order_relaxed); /* as above */
    fan->deaths++;
    helping = twill__fan_find_helping(fan);
    if (helping) {
        visits = (*helping)->visits;
        *helping = (*helping)->next;
    }
    twill__fan_exit(fan, &turn);
    if (visits)
        twill__fan_leave(fan);
}

/* The user's worker_start, and what follows when every number refuses: nobody will run a task. */
static inline int twill__fan_worker_start(void **state, const twill_task *task)
{
    twill_fan *fan = (twill_fan *)((twill__job *)task->private_)->data;
    twill__fan_slot *slot = &fan->slot[task->worker];
    twill__fan_turn turn;
    int code = -1;
    if (!slot->starting) { /* else it has ended a thread already */
        slot->starting = true;
        code = fan->worker_start(state, task);
        slot->starting = false;
    }
    if (!code || !twill__fan_here(fan))
        return code;
    turn.visitor = false;
    twill__fan_lock(fan, &turn);
    fan->start_code = code;
    if (++fan->refused == fan->workers)
        twill__fan_end(fan, &turn, TWILL_CANCELLED, TWILL_CLOSED);
    twill__fan_exit(fan, &turn);
    return code;
}

/* ---- callers that run tasks ---- */

/* Where this thread runs a task of the fan, or NULL. */
static inline twill__fan_slot *twill__fan_my_slot(const twill_fan *fan)
{
    uint64_t me = twill__thread_number();
    for (unsigned k = 0; k < fan->workers; k++) /* relaxed: the own number is the own store */
        if (atomic_load_explicit(&fan->slot[k].thread, memory_order_relaxed) == me)
            return fan->slot[k].current ? &fan->slot[k] : NULL;
    return NULL;
}

/* Whether a thread that waits should run tasks: it is itself one of those that the fan could wait
   for. */
static inline bool twill__fan_may_help(const twill_fan *fan)
{
    const twill__team *team = fan->crew.job.team;
    if (twill__thread()->team == team)
        return true;
    for (const twill__job *job = twill__thread()->job; job; job = job->outer)
        if (job->team == team)
            return true;
    return false;
}

/* Runs one task, if a worker number is free. Answers as twill__fan_instead. */
static inline int twill__fan_help(twill_fan *fan, twill__fan_turn *turn)
{
    twill__fan_helping me = {fan->helping, twill__thread_number(), turn->visitor}, **at;
    bool served;
    fan->helping = &me;
    twill__fan_exit(fan, turn);
    served = twill__crew_help(&fan->crew);
    if (!twill__fan_here(fan))
        return -1;
    twill__fan_lock(fan, turn);
    at = twill__fan_find_helping(fan);
    *at = (*at)->next;
    return served;
}

/* While a call waits: runs a task instead, if this thread should. 1: it did, the caller looks
   again. 0: it did not. -1: this is another process now. */
static inline int twill__fan_instead(twill_fan *fan, twill__fan_turn *turn, twill__fan_slot *slot,
                                     bool helps)
{
    if (!twill__fan_available(fan))
        return 0;
    if (slot) {
        twill_ns now = twill__clock_now();
        return twill__fan_step(fan, turn, slot, &now) ? 1 : -1;
    }
    if (fan->executing < fan->workers - fan->refused && (helps || twill__fan_orphaned(fan)))
        return twill__fan_help(fan, turn);
    return 0;
}
#endif
