/* ends.h: how a task ends, by when it has to, and who gets its room. */
#ifndef TWILL__WORKER_POOL_ENDS_H
#define TWILL__WORKER_POOL_ENDS_H

#include "worker_pool/pool.h"

static inline twill__errand *twill__errand_of(twill__record *record)
{
    return (twill__errand *)(void *)record;
}

static inline twill__errand *twill__errand_at(const twill__todo_entry *entry)
{
    return (twill__errand *)(void *)((char *)(uintptr_t)entry - offsetof(twill__errand, entry));
}

/* The innermost record that a runner runs, or NULL; see there. */
static inline twill__errand *twill__hand_work(const twill__hand *runner)
{
    twill__todo_entry *entry = atomic_load_explicit(&runner->taker.claim, memory_order_relaxed);
    return entry ? twill__errand_at(entry) : NULL;
}

static inline void twill__hand_on(twill__hand *runner, twill__errand *work)
{
    atomic_store_explicit(&runner->taker.claim, work ? &work->entry : NULL, memory_order_relaxed);
}

/* ---- how it ended ---- */

/* By the one who says so. */
static inline void twill__errand_ends(twill__errand *work, twill_status status, int code,
                                      unsigned worker, twill_ns finished)
{
    twill_outcome *outcome = &work->record.outcome;
    outcome->status = status;
    outcome->code = status == TWILL_FAILED ? code : 0;
    outcome->worker = worker;
    outcome->attempts = outcome->started ? 1 : 0;
    outcome->finished = finished;
}

static inline void twill__errand_event(twill__pool *pool, const twill__errand *work,
                                       const twill_task *task)
{
    const twill_outcome *outcome = &work->record.outcome;
    twill__duty_begin(pool, &work->record, 0);
    twill__event(pool, TWILL_EVENT_ENDED, outcome->status, outcome->index, outcome->key,
                 outcome->worker, task);
    twill__duty_over();
}

static inline void twill__errand_done(twill__pool *pool, twill__hand *runner, twill__errand *work,
                                      bool returned, const twill_task *task)
{
    const twill_outcome *outcome = &work->record.outcome;
    twill__count(pool, runner, twill__counted_of(outcome->status));
    if (!work->record.simple && work->on_done) {
        twill__duty_begin(pool, &work->record, 0);
        work->on_done(outcome, returned ? work->record.result : NULL, task);
        twill__duty_over();
    }
}

/* What everybody is told before the future wakes: counts, on_done, the event. */
static inline void twill__errand_told(twill__pool *pool, twill__hand *runner, twill__errand *work,
                                      bool returned, const twill_task *task)
{
    twill__errand_done(pool, runner, work, returned, task);
    if (pool->options.on_event)
        twill__errand_event(pool, work, task);
}

/* Its token is of no use any more. */
static inline void twill__errand_quiet(twill__pool *pool, twill__errand *work)
{
    if (work->hooked)
        twill_cancel_remove_hook(pool->options.run.until.cancel, &work->hook);
    work->hooked = false;
    work->record.clean = false;
    twill__gate_shut(&work->gate);
    if (twill__token_used(twill__token_of(&work->token)))
        twill_cancel_detach(&work->token);
}

/* Fires the token of one that is pinned, and has not ended when it was looked under that pin. */
static inline void twill__errand_fire(twill__errand *work, twill_status reason)
{
    /* relaxed: whoever ends it in one step finds the pin, or this */
    atomic_fetch_or_explicit(&work->record.word, TWILL__TOUCHED, memory_order_relaxed);
    twill__gate_fire(work->pool, &work->gate, &work->token, (int)reason);
}

/* It never ran, and the caller took it out of the queue: exactly one of {fn, drop}. */
static inline void twill__errand_drop(twill__pool *pool, twill__errand *work, twill_status why)
{
    twill_task task = twill__task_about(pool, work->record.outcome.index, work->record.context);
    twill__errand_quiet(pool, work);
    twill__errand_ends(work, why, 0, UINT_MAX, twill__clock_now());
    twill__duty_begin(pool, &work->record, TWILL__END_TASK);
    if (work->drop)
        work->drop(work->record.arg, why, &task);
    twill__errand_told(pool, NULL, work, false, &task);
    twill__duty_over();
    twill__record_finish(&work->record, false);
}

static inline void twill__todo_drop(twill__pool *pool, const twill__todo *todo, twill_status why)
{
    if (!todo->fn) {
        twill__errand_drop(pool, twill__errand_at((twill__todo_entry *)todo->arg), why);
    } else {
        twill_task task = twill__task_about(pool, todo->index, todo->context);
        twill__count(pool, NULL, twill__counted_of(why));
        twill__duty_begin(pool, NULL, TWILL__END_TASK);
        twill__event(pool, TWILL_EVENT_ENDED, why, todo->index, NULL, UINT_MAX, &task);
        twill__duty_over();
    }
}

/* By its runner, who has told STARTED: tells ENDED, too, if that has come up meanwhile. */
static inline void twill__errand_begun(twill__pool *pool, twill__errand *work)
{
    twill_task task = twill__task_about(pool, work->record.outcome.index, work->record.context);
    /* acquire: pairs with twill__errand_tells: the outcome is there */
    if (atomic_exchange_explicit(&work->stage, TWILL__BEGUN, memory_order_acq_rel) ==
        TWILL__ENDED_UNTOLD)
        twill__errand_event(pool, work, &task);
}

/* Not by its runner, the outcome written. False: he tells. */
static inline bool twill__errand_tells(twill__errand *work)
{
    uint32_t untold = TWILL__UNTOLD;
    /* acq_rel: pairs with twill__errand_begun; one of the two tells ENDED */
    return !atomic_compare_exchange_strong_explicit(&work->stage, &untold, TWILL__ENDED_UNTOLD,
                                                    memory_order_acq_rel, memory_order_acquire);
}

/* It runs, and others shall not wait for its end any more. The caller has pinned it. */
static inline void twill__errand_overrule(twill__pool *pool, twill__errand *work,
                                          twill_status status)
{
    if (twill__record_settle(&work->record, false)) {
        twill_task task = twill__task_about(pool, work->record.outcome.index, work->record.context);
        twill__errand_ends(work, status, 0, UINT_MAX, twill__clock_now());
        twill__errand_done(pool, NULL, work, false, &task);
        if (pool->options.on_event && twill__errand_tells(work))
            twill__errand_event(pool, work, &task);
        twill__record_publish(&work->record, false);
    }
    twill__errand_fire(work, status);
}

/* ---- timers ---- */

/* Under the lock, when a work with timers has its last one behind it. */
static inline void twill__errand_untimed(twill__pool *pool, twill__errand *work)
{
    if (!work->timed)
        return;
    work->timed = false;
    pool->timed--;
    twill__timer_stop(&pool->todos, &work->entry);
    /* relaxed: see twill__record_due */
    atomic_store_explicit(&work->record.due, 0, memory_order_relaxed);
}

/* Somebody who sleeps must know of it: an idle worker, or the watch. */
static inline void twill__errand_timer(twill__pool *pool, twill__turn *turn, twill__errand *work,
                                       twill_ns when)
{
    twill_ns alarm = atomic_load_explicit(&pool->team.alarm, memory_order_seq_cst);
    twill__timer_set(&pool->todos, &work->entry, when);
    /* as above */
    atomic_store_explicit(&work->record.due, when, memory_order_relaxed);
    if (when < atomic_load_explicit(&pool->watch_until, memory_order_relaxed))
        turn->watch = true; /* relaxed: written under the lock */
    if (!atomic_load_explicit(&pool->team.idle, memory_order_relaxed))
        return;          /* whoever becomes idle looks under the lock */
    while (when < alarm) /* exit: set, or an earlier one is */
        if (atomic_compare_exchange_weak_explicit(&pool->team.alarm, &alarm, when,
                                                  memory_order_seq_cst, memory_order_seq_cst)) {
            turn->call++;
            return;
        }
}

static inline void twill__errand_push(twill__pool *pool, twill__turn *turn, twill__errand *work)
{
    twill__todo todo = {NULL, &work->entry, NULL, work->record.outcome.index, 0};
    if (twill__pool_measures(pool, todo.index))
        todo.stamp = twill__ticks();
    work->record.where = TWILL__READY;
    twill__todos_push(&pool->todos, &todo, work->priority, work->record.outcome.queued,
                      pool->team.tick_rate);
    if (work->start_by)
        twill__errand_timer(pool, turn, work, work->start_by);
}

/* Whether it has still to begin; under the lock, and from then on held, if it has not ended. */
static inline bool twill__errand_queued(twill__pool *pool, twill__errand *work)
{
    /* then the pool may be gone; else its end waits for this task, and so for our lock */
    if (twill__record_ended(&work->record))
        return false;
    twill__todos_hold(&pool->todos);
    return work->record.where == TWILL__LATER ||
           (work->record.where == TWILL__READY && twill__todos_have(&pool->todos, &work->entry));
}

/* Out of the queue, or of the delayed ones; under the lock. The caller answers for it now. */
static inline void twill__errand_take(twill__pool *pool, twill__errand *work)
{
    if (work->record.where == TWILL__READY)
        twill__todos_remove(&pool->todos, &work->entry);
    else
        pool->later--;
    work->record.where = TWILL__NOWHERE;
}

static inline void twill__pool_wants(twill__pool *pool, twill__turn *turn);
static inline void twill__pool_room(twill__pool *pool, twill__turn *turn);

/* Under the lock: what is due at `now`. True: one task is to be ended after the turn, and others
   may be due still. No more than one, nor beside one that is to be run: its callbacks may wait for
   the others, which are nobody's yet. */
static inline bool twill__pool_tick(twill__pool *pool, twill__turn *turn, twill_ns now)
{
    bool moved = false;
    /* exit: timers stop, or go on */
    while (!turn->late && !turn->stale && twill__timer_next(&pool->todos) <= now) {
        twill__errand *work = twill__errand_at(pool->todos.timers[0]);
        if (work->record.where == TWILL__LATER && !(work->start_by && work->start_by <= now)) {
            /* its room was taken with the order */
            pool->later--;
            twill__timer_stop(&pool->todos, &work->entry);
            atomic_store_explicit(&work->record.due, 0, memory_order_relaxed); /* as above */
            twill__errand_push(pool, turn, work);
            twill__pool_wants(pool, turn);
            moved = true;
        } else if (work->record.where == TWILL__RUNNING) {
            twill__errand_untimed(pool, work);
            if (twill__record_pin(&work->record))
                turn->stale = work;
        } else {
            twill__errand_untimed(pool, work);
            twill__errand_take(pool, work);
            turn->late = work;
            pool->visitors++; /* until it has ended: the pool stays */
            moved = true;
        }
    }
    if (moved) {
        twill__pool_level(pool, turn);
        twill__pool_room(pool, turn); /* of what is late: its callbacks may wait for some */
    }
    return turn->late || turn->stale;
}

static inline void twill__pool_ended(twill__pool *pool);

/* After the turn: ends what its tick has found, and tells the level. */
static inline void twill__turn_settle(twill__pool *pool, twill__turn *turn)
{
    twill__errand *late = turn->late, *stale = turn->stale;
    bool level = turn->level;
    turn->late = turn->stale = NULL;
    turn->level = false;
    if (late) {
        twill__errand_drop(pool, late, TWILL_TIMEOUT);
        twill__pool_ended(pool);
    }
    if (stale) {
        twill__errand_overrule(pool, stale, TWILL_TIMEOUT);
        twill__record_unpin(&stale->record);
    }
    if (level)
        twill__pool_tell_level(pool);
}

/* Its record; NULL: it is plain. */
static inline twill__errand *twill__todo_work(const twill__todo *todo)
{
    return todo->fn ? NULL : twill__errand_at((twill__todo_entry *)todo->arg);
}

/* The same by one who has taken a task out of the queue, and has still to run or to end it. `work`:
   its record, or NULL. */
static inline void twill__turn_settle_first(twill__pool *pool, twill__turn *turn,
                                            const twill__errand *work)
{
    twill__duty_begin(pool, work ? &work->record : NULL, TWILL__END_TASK);
    twill__turn_settle(pool, turn);
    twill__duty_over();
}

/* ---- room ---- */

/* Under the lock: whoever waits for room gets it, in order. */
static inline void twill__pool_room(twill__pool *pool, twill__turn *turn)
{
    for (twill__node *node = pool->senders.first, *next; node && !twill__pool_full(pool);
         node = next) {
        next = node->next;
        if (twill__wakes_grant(&turn->wakes, &pool->senders, node, TWILL_OK))
            pool->reserved++;
    }
}

/* A task is over, of one who was counted as a visitor for it. Not from a runner: it counts its
   own. */
static inline void twill__pool_ended(twill__pool *pool)
{
    twill__turn turn;
    twill__turn_begin(pool, &turn);
    pool->over++;
    twill__pool_left(pool, &turn);
    twill__turn_end(pool, &turn);
}

#endif
