/* state.h: what happens to a fan under its lock: acceptance, outcomes, goals, ends. */
#ifndef TWILL__FAN_STATE_H
#define TWILL__FAN_STATE_H

#include "fan_out_fan_in/tasks.h"

/* Everything is decided under one lock. Whoever changes something ends with twill__fan_exit, which
   settles: hands outcomes to those who wait for them, accepts tasks that wait for room, and then,
   outside the lock, wakes, fires and notifies. So while the lock is free nobody waits for what is
   there. */
typedef struct twill__fan_turn { /* what to do after the lock */
    bool visitor;                /* a call from outside */
    bool counted;                /* in fan->visits: it will touch the fan without the lock */
    bool lazy;                   /* `ready` may stay set: a worker who finds nothing clears it */
    bool again;                  /* all who wait shall look again */
    const twill__fan_wait *naps; /* this one has just looked */
    bool fire_all, fire_some, notify;
    unsigned call; /* workers */
    twill_ns alarm;
    unsigned count; /* whom to wake */
    _Atomic uint32_t *word[16];
} twill__fan_turn;

static inline void twill__fan_lock(twill_fan *fan, twill__fan_turn *turn)
{
    turn->again = turn->fire_all = turn->fire_some = turn->notify = false;
    turn->naps = NULL;
    turn->call = turn->count = 0;
    turn->alarm = 0;
    twill__lock_after(&fan->lock, TWILL__FAN_LOCK_NS);
}

/* A call from outside comes in. */
static inline void twill__fan_enter(twill_fan *fan, twill__fan_turn *turn)
{
    turn->visitor = turn->lazy = true;
    turn->counted = false;
    twill__fan_lock(fan, turn);
}

/* Under the lock: destroy waits for it from now on. */
static inline void twill__fan_count_in(twill_fan *fan, twill__fan_turn *turn)
{
    if (!turn->visitor || turn->counted)
        return;
    turn->counted = true;
    /* relaxed: the lock orders it before the destroyer's look */
    atomic_fetch_add_explicit(&fan->visits, 1, memory_order_relaxed);
}

/* Its last access to the fan. */
static inline void twill__fan_leave(twill_fan *fan)
{
    /* release: pairs with the destroyer's load */
    if (atomic_fetch_sub_explicit(&fan->visits, 1, memory_order_release) ==
        (TWILL__FAN_VISITS_WAIT | 1))
        twill__wake(&fan->visits, 1);
}

static inline bool twill__fan_here(const twill_fan *fan)
{
    return twill__crew_here(&fan->crew);
}

static inline twill_task twill__fan_outside(const twill_fan *fan, size_t index)
{
    twill_task task = {index, fan->context, UINT_MAX, fan->workers, NULL, {0, NULL}, NULL};
    return task;
}

/* ---- what there is ---- */

static inline bool twill__fan_spared(const twill_fan *fan, size_t index)
{
    return fan->over || index > fan->limit;
}

/* Items of the source that must still be started. */
static inline bool twill__fan_source_left(const twill_fan *fan)
{
    return fan->source_next < fan->source_n && !twill__fan_spared(fan, fan->source_next);
}

static inline bool twill__fan_available(const twill_fan *fan)
{
    return fan->queue.count || ((fan->streams || fan->used < fan->capacity) &&
                                (twill__fan_source_left(fan) || twill__fan_lane_left(fan)));
}

/* ordered: where the outcome of an index is kept. `capacity` may get less, the ring does not. */
static inline twill__fan_task **twill__fan_place(const twill_fan *fan, size_t index)
{
    return &fan->ring[index % fan->ring_size];
}

static inline bool twill__fan_readable(const twill_fan *fan)
{
    return fan->ordered ? *twill__fan_place(fan, fan->emit) != NULL : fan->done.first != NULL;
}

/* No outcome is left, and none will come. A call is closed from the start: its source has the
   rest. */
static inline bool twill__fan_finished(const twill_fan *fan)
{
    return fan->closed && !fan->in_flight && !fan->pulled && !twill__fan_source_left(fan) &&
           !twill__fan_readable(fan);
}

/* The next outcome, or NULL. */
static inline twill__fan_task *twill__fan_take(twill_fan *fan)
{
    twill__fan_task *task;
    if (fan->ordered) {
        twill__fan_task **place = twill__fan_place(fan, fan->emit);
        task = *place;
        *place = NULL;
        fan->emit += task != NULL;
    } else {
        task = twill__fan_pop(&fan->done);
    }
    fan->unread -= task != NULL;
    return task;
}

/* ---- how it ends early ---- */

/* Those in lanes that are above `index` are told. `cut` was lowered before: seq_cst, as a worker
   shows `current` and then looks at `cut`. Nothing in a lane is used again while we have the lock.
 */
static inline void twill__fan_lanes_tell(twill_fan *fan, twill__fan_turn *turn, size_t index)
{
    for (unsigned k = 0; fan->laned && k < fan->workers; k++) {
        twill__fan_task *task =
            atomic_load_explicit(&fan->slot[k].lane.current, memory_order_seq_cst);
        if (task && task->outcome.index > index)
            task->tell = turn->fire_some = true;
    }
}

/* Tasks above `index` need not run. */
static inline void twill__fan_lower(twill_fan *fan, twill__fan_turn *turn, size_t index)
{
    twill__fan_list *lists[2] = {&fan->running, &fan->overdue};
    if (index >= fan->limit)
        return;
    fan->limit = index;
    fan->closed = turn->again = true;
    if (!fan->over)
        atomic_store_explicit(&fan->cut, index + 1, memory_order_seq_cst);
    twill__fan_lanes_tell(fan, turn, index);
    for (int k = 0; k < 2; k++)
        for (twill__fan_task *task = lists[k]->first; task; task = task->next)
            if (task->outcome.index > index)
                task->tell = turn->fire_some = true;
}

/* Nothing more is started; those that run are told. go answers `refusal`. */
static inline void twill__fan_end(twill_fan *fan, twill__fan_turn *turn, twill_status why,
                                  twill_status refusal)
{
    bool finished;
    if (fan->over)
        return;
    finished = twill__fan_finished(fan);
    fan->over = why;
    fan->refusal = refusal;
    fan->closed = turn->again = turn->fire_all = true;
    turn->notify |= !finished && twill__fan_finished(fan); /* it is CLOSED that can be read now */
    atomic_store_explicit(&fan->cut, 0, memory_order_seq_cst);
}

/* The user's token has fired, or is asked to: what runs hears the same reason. */
static inline void twill__fan_cancelled(twill_fan *fan, twill__fan_turn *turn, int reason)
{
    if (!fan->over)
        twill_cancel_request(&fan->root, reason);
    twill__fan_end(fan, turn, TWILL_CANCELLED, TWILL_CANCELLED);
}

/* The run's own end: looked at before each task and each wait. */
static inline void twill__fan_look(twill_fan *fan, twill__fan_turn *turn, twill_ns now)
{
    twill_ns deadline = fan->crew.run.until.deadline;
    int reason;
    if (fan->over)
        return;
    reason = twill_cancel_reason(fan->cancel);
    if (reason)
        twill__fan_cancelled(fan, turn, reason);
    else if (!twill__no_deadline(deadline) && now >= deadline)
        twill__fan_end(fan, turn, TWILL_TIMEOUT, TWILL_TIMEOUT);
}

/* ---- outcomes ---- */

/* Nothing above `index` counts: the serial loop never came there. So what has failed there before
   is forgotten, too, or the answer were one of time; but not if it has ended the run. */
static inline void twill__fan_stop_at(twill_fan *fan, size_t index)
{
    static const twill_item_error none;
    fan->stop_at = index;
    if ((fan->over && fan->refusal == TWILL_CLOSED) || fan->lowest.index <= index)
        return;
    fan->failures = 0;
    fan->lowest = fan->earliest = none;
}

static inline void twill__fan_failure(twill_fan *fan, twill__fan_turn *turn,
                                      const twill__fan_task *task)
{
    twill_item_error error = {task->outcome.index, task->outcome.status, task->outcome.code};
    fan->failed++;
    if (error.index > fan->stop_at || fan->stopped) /* told to give up */
        return;
    if (!fan->lowest.status || error.index < fan->lowest.index)
        fan->lowest = error;
    if (fan->crew.run.errors_capacity)
        twill__heap_keep(fan->crew.run.errors, fan->crew.run.errors_capacity, &fan->errors_count,
                         error);
    if (task->answered && !task->expired) /* left behind, because the run is over */
        return;
    if (fan->failures++ == 0)
        fan->earliest = error;
    if (fan->policy == TWILL_ON_ERROR_LOWEST)
        twill__fan_lower(fan, turn, error.index);
    else if (fan->policy != TWILL_ON_ERROR_COLLECT && fan->failures >= fan->most_errors)
        twill__fan_end(fan, turn, TWILL_CANCELLED, TWILL_CLOSED);
}

/* Whether `quorum` successes, which were not had yet, still can be. */
static inline bool twill__fan_in_reach(const twill_fan *fan)
{
    size_t left = fan->in_flight;
    if (!fan->closed || fan->pulled)
        return true; /* nobody knows how many more will come */
    if (twill__fan_source_left(fan))
        left += fan->source_n - fan->source_next;
    return left >= fan->quorum - fan->successes;
}

/* After an outcome, or a close: is the goal met, or out of reach? */
static inline void twill__fan_judge(twill_fan *fan, twill__fan_turn *turn)
{
    if (fan->met || fan->unmet || !fan->quorum)
        return;
    fan->met = fan->successes >= fan->quorum;
    fan->unmet = !fan->met && !twill__fan_in_reach(fan);
    if (fan->met || fan->unmet)
        twill__fan_end(fan, turn, TWILL_CANCELLED, TWILL_CLOSED);
}

static inline void twill__fan_count(twill_fan *fan, twill__fan_turn *turn, twill__fan_task *task)
{
    twill_outcome *outcome = &task->outcome;
    if (fan->statuses)
        fan->statuses[outcome->index] = outcome->status;
    if (fan->codes)
        fan->codes[outcome->index] = outcome->code;
    if (outcome->status == TWILL_OK) {
        fan->succeeded++;
        fan->successes++;
        task->late = fan->met;
    } else if (outcome->status == TWILL_CANCELLED || !outcome->started) {
        fan->skipped++;
        twill__fan_look(fan, turn, outcome->finished); /* it may have heard of the end before us */
        fan->cut_short |= fan->over != 0;              /* else it gave up by itself */
    } else {
        twill__fan_failure(fan, turn, task);
    }
    twill__fan_judge(fan, turn);
}

/* The task has its outcome: from now on it can be read. */
static inline void twill__fan_publish(twill_fan *fan, twill__fan_turn *turn, twill__fan_task *task,
                                      twill_status status, int code, twill_ns now)
{
    task->outcome.status = status;
    task->outcome.code = code;
    task->outcome.finished = now;
    fan->in_flight--;
    fan->unread++;
    twill__fan_count(fan, turn, task);
    if (fan->ordered) {
        *twill__fan_place(fan, task->outcome.index) = task;
        turn->notify |= task->outcome.index == fan->emit;
    } else {
        turn->notify |= !fan->done.first;
        twill__fan_push(&fan->done, task);
    }
    if (fan->spinning) /* relaxed: a hint to look again under the lock */
        atomic_fetch_add_explicit(&fan->published, 1, memory_order_relaxed);
}

/* Publishes what the lanes have gathered, in the order of the ends. */
static inline void twill__fan_sweep(twill_fan *fan, twill__fan_turn *turn)
{
    uint32_t ended[TWILL__FAN_LANES];
    if (!fan->laned)
        return;
    for (unsigned k = 0; k < fan->workers; k++) {
        twill__fan_lane *lane = &fan->slot[k].lane;
        /* seq_cst: see twill__fan_wait_in */
        ended[k] = atomic_load_explicit(&lane->ended, memory_order_seq_cst);
        for (uint32_t at = lane->taken; at != ended[k]; at++) {
            const twill__fan_task *task = twill__fan_lane_at(lane, at);
            __builtin_prefetch(&task->fn);
            __builtin_prefetch(&task->holds);
        }
    }
    for (;;) { /* exit: all that had ended */
        twill__fan_task *first = NULL;
        twill__fan_lane *from = NULL;
        for (unsigned k = 0; k < fan->workers; k++) {
            twill__fan_lane *lane = &fan->slot[k].lane;
            twill__fan_task *task = twill__fan_lane_at(lane, lane->taken);
            if (lane->taken == ended[k] ||
                (first && first->outcome.finished <= task->outcome.finished))
                continue;
            first = task;
            from = lane;
        }
        if (!first)
            return;
        from->taken++;
        if (fan->streams) /* the place is free, whoever has the record */
            from->returned = from->taken;
        twill__fan_publish(fan, turn, first, first->outcome.status, first->outcome.code,
                           first->outcome.finished);
    }
}

/* The lane's next record is passed over, by its owner: it has another end. */
static inline void twill__fan_lane_pass(twill_fan *fan, twill__fan_turn *turn,
                                        twill__fan_lane *lane)
{
    twill__fan_sweep(fan, turn);
    lane->taken++;
    if (fan->streams)
        lane->returned = lane->taken;
    atomic_store_explicit(&lane->ended, lane->taken, memory_order_seq_cst);
    /* relaxed: under the lock, as all who look */
    atomic_store_explicit(&lane->current, NULL, memory_order_relaxed);
}

/* It gets its outcome although it still runs. */
static inline void twill__fan_answer(twill_fan *fan, twill__fan_turn *turn, twill__fan_task *task,
                                     twill_status status)
{
    task->answered = true;
    fan->answered++;
    fan->executing--;
    fan->blocked -= task->waits;
    task->waits = false;
    twill__fan_publish(fan, turn, task, status, 0, twill__clock_now());
}

static inline void twill__fan_answer_overdue(twill_fan *fan, twill__fan_turn *turn)
{
    for (twill__fan_task *task = fan->overdue.first; task && fan->answered < fan->max_abandoned;
         task = task->next)
        if (!task->answered)
            twill__fan_answer(fan, turn, task, TWILL_TIMEOUT);
}

/* Tasks have a time of their own, and it is over. They stand in the order of their start, so of
   their ends. */
static inline void twill__fan_expire(twill_fan *fan, twill__fan_turn *turn, twill_ns now)
{
    for (twill__fan_task *task; (task = fan->running.first) && now >= task->due;) {
        twill__fan_remove(&fan->running, task);
        twill__fan_append(&fan->overdue, task);
        task->expired = task->tell = turn->fire_some = true;
    }
    if (fan->overdue.first)
        twill__fan_answer_overdue(fan, turn);
}

/* What time has brought. The clock is read only where it can say something. */
static inline void twill__fan_clock(twill_fan *fan, twill__fan_turn *turn)
{
    bool timed = fan->timeout || !twill__no_deadline(fan->crew.run.until.deadline);
    twill_ns now = timed ? twill__clock_now() : 0;
    twill__fan_look(fan, turn, now);
    if (fan->timeout)
        twill__fan_expire(fan, turn, now);
}

/* When time will bring something, at the earliest; `deadline` otherwise. */
static inline twill_ns twill__fan_next_instant(const twill_fan *fan, twill_ns deadline)
{
    twill_ns run = fan->crew.run.until.deadline;
    if (twill__no_deadline(deadline))
        deadline = TWILL_FOREVER;
    if (!fan->over && !twill__no_deadline(run) && run < deadline)
        deadline = run;
    if (fan->timeout) { /* what starts later is due later than what would start now */
        twill_ns due = fan->running.first ? fan->running.first->due
                                          : twill__instant_after(twill__clock_now(), fan->timeout);
        if (due < deadline)
            deadline = due;
    }
    return deadline;
}

/* ---- tasks ---- */

/* A record is taken: what all see of it. */
static inline void twill__fan_fresh(twill__fan_task *task, twill_task_fn *fn, void *arg, void *key)
{
    static const twill_outcome none = {TWILL_OK, 0, 0, NULL, UINT_MAX, 0, 0, 0, 0};
    task->fn = fn;
    task->arg = arg;
    task->lane = NULL;
    task->after = NULL;
    task->outcome = none;
    task->outcome.key = key;
    task->holds = 2;
    task->tell = task->told = task->expired = task->answered = task->skip = false;
    task->waits = task->late = false;
}

/* It is about to run here: the rest of it. */
static inline void twill__fan_prepare(twill_fan *fan, twill__fan_task *task,
                                      const twill__fan_slot *slot, const twill__call_table *table)
{
    task->call.table = table;
    task->next = task->previous = task->outer = NULL;
    task->fan = fan;
    task->due = 0;
    twill_cancel_init(&task->token, slot->task->until.cancel);
}

static inline void twill__fan_accept(twill_fan *fan, twill__fan_turn *turn, twill__fan_task *task,
                                     twill_ns now)
{
    task->outcome.index = fan->next_index++;
    task->outcome.queued = now;
    /* with as many before it all workers are at work, or called; and some look by themselves */
    turn->call += fan->queue.count < fan->workers && fan->queue.count >= fan->lingering;
    fan->in_flight++;
    twill__fan_enqueue(&fan->queue, task);
}

static inline void twill__fan_start(twill_fan *fan, twill__fan_turn *turn, twill__fan_task *task,
                                    unsigned worker, twill_ns now)
{
    task->outcome.started = now;
    task->outcome.worker = worker;
    task->outcome.attempts = 1;
    fan->executing++;
    twill__fan_append(&fan->running, task);
    if (fan->timeout) {
        task->due = twill__instant_after(now, fan->timeout);
        turn->alarm = task->due;
    }
}

/* It has come to its end, in its thread. */
static inline void twill__fan_ended(twill_fan *fan, twill__fan_turn *turn, twill__fan_task *task,
                                    twill_status status, int code, twill_ns now)
{
    twill__fan_sweep(fan, turn); /* what has ended before */
    twill__fan_remove(task->expired ? &fan->overdue : &fan->running, task);
    if (task->answered) {
        fan->answered--;
        twill__fan_answer_overdue(fan, turn);
    } else {
        fan->executing--;
        if (status != TWILL_LOST && (task->expired || (task->due && now >= task->due)))
            twill__fan_publish(fan, turn, task, TWILL_TIMEOUT, 0, now);
        else
            twill__fan_publish(fan, turn, task,
                               status == TWILL_OK && task->skip ? TWILL_CANCELLED : status, code,
                               now);
    }
    twill__fan_release(fan, task);
}

/* ---- settling ---- */

/* One who waits wants to see what ends in a lane at once, or not any more. */
static inline void twill__fan_hungers(twill_fan *fan, twill__fan_wait *wait, bool hungry)
{
    if (wait->hungry == hungry)
        return;
    wait->hungry = hungry;
    /* seq_cst: a worker in a lane raises `ended`, then looks at this; who waits sweeps then */
    if (hungry)
        atomic_fetch_add_explicit(&fan->hungry, 1, memory_order_seq_cst);
    else
        atomic_fetch_sub_explicit(&fan->hungry, 1, memory_order_seq_cst);
}

static inline bool twill__fan_grant(twill_fan *fan, twill__fan_turn *turn, twill__list *list,
                                    twill__fan_wait *wait, int answer)
{
    _Atomic uint32_t *word = &wait->node.word;
    bool hungry = wait->hungry;
    wait->node.answer = answer;
    twill__fan_hungers(fan, wait, false); /* it will sweep the rest itself */
    if (!twill__grant(list, &wait->node)) {
        twill__fan_hungers(fan, wait, hungry);
        return false;
    }
    if (turn->count < sizeof turn->word / sizeof turn->word[0])
        turn->word[turn->count++] = word;
    else
        twill__wake(word, 1);
    return true;
}

static inline void twill__fan_grant_all(twill_fan *fan, twill__fan_turn *turn, twill__list *list,
                                        int answer)
{
    for (twill__node *node = list->first, *next; node; node = next) {
        next = node->next;
        (void)twill__fan_grant(fan, turn, list, (twill__fan_wait *)(void *)node, answer);
    }
}

static inline bool twill__fan_room(const twill_fan *fan)
{
    return fan->in_flight < fan->window && fan->unread < fan->max_unread;
}

/* A stream: whether the thread that calls may take one more item. */
static inline bool twill__fan_may_pull(const twill_fan *fan)
{
    return fan->pulled && !twill__fan_spared(fan, fan->next_index) &&
           fan->in_flight < fan->window && fan->used < fan->capacity;
}

/* First come, first served. A plain go does not wait for readers. */
static inline void twill__fan_settle_goers(twill_fan *fan, twill__fan_turn *turn)
{
    for (twill__node *node = fan->goers.first, *next; node; node = next) {
        twill__fan_wait *wait = (twill__fan_wait *)(void *)node;
        next = node->next;
        if (fan->unread >= fan->max_unread) {
            if (!wait->unread) /* also behind one who does wait for readers */
                (void)twill__fan_grant(fan, turn, &fan->goers, wait, TWILL_FULL);
            continue;
        }
        if (!twill__fan_room(fan))
            return;
        /* its frame stays until it has had the lock again */
        if (twill__fan_grant(fan, turn, &fan->goers, wait, TWILL_OK))
            twill__fan_accept(fan, turn, wait->task, twill__clock_now());
    }
}

/* All that is in flight waits in next: another one has read what the last of them waits for. It
   looks again, and answers DEADLOCK. */
static inline void twill__fan_settle_blocked(twill_fan *fan, twill__fan_turn *turn)
{
    for (twill__node *node = fan->readers.first, *next; node; node = next) {
        twill__fan_wait *wait = (twill__fan_wait *)(void *)node;
        next = node->next;
        if (wait->helps == TWILL__FAN_HELPS_ALWAYS &&
            twill__fan_grant(fan, turn, &fan->readers, wait, TWILL__FAN_AGAIN))
            return;
    }
}

static inline void twill__fan_settle_readers(twill_fan *fan, twill__fan_turn *turn)
{
    for (twill__node *node = fan->readers.first, *next; node && twill__fan_readable(fan);
         node = next) {
        twill__fan_wait *wait = (twill__fan_wait *)(void *)node;
        next = node->next;
        wait->task = fan->ordered ? *twill__fan_place(fan, fan->emit) : fan->done.first;
        if (!twill__fan_grant(fan, turn, &fan->readers, wait, TWILL_OK))
            continue;
        (void)twill__fan_take(fan);
        fan->gather = 0;
    }
    /* what ends behind one that is not over yet gives nothing to read, but room to pull */
    if (twill__fan_finished(fan) || twill__fan_may_pull(fan))
        twill__fan_grant_all(fan, turn, &fan->readers, TWILL__FAN_AGAIN);
    else if (fan->closed && fan->blocked && fan->in_flight == fan->blocked)
        twill__fan_settle_blocked(fan, turn);
}

/* Nothing is in flight any more, but tasks that may be left behind, when `most` may be. */
static inline bool twill__fan_calm(const twill_fan *fan, size_t most)
{
    size_t room = most > fan->answered ? most - fan->answered : 0;
    return !fan->in_flight || (fan->in_flight == fan->executing && fan->in_flight <= room);
}

static inline void twill__fan_settle_watchers(twill_fan *fan, twill__fan_turn *turn)
{
    for (twill__node *node = fan->watchers.first, *next; node; node = next) {
        twill__fan_wait *wait = (twill__fan_wait *)(void *)node;
        next = node->next;
        if (turn->again || twill__fan_calm(fan, wait->most))
            (void)twill__fan_grant(fan, turn, &fan->watchers, wait, TWILL__FAN_AGAIN);
    }
}

/* Tasks wait, nobody is at one, and the threads are a pool's: all of them may be in tasks that wait
   for this fan. With max_abandoned a caller stays out: it must be able to leave what runs. */
static inline bool twill__fan_lonely(const twill_fan *fan)
{
    return !fan->executing && !fan->crew.has_own && !fan->max_abandoned &&
           twill__fan_available(fan);
}

/* There are no threads: they could not be started, or a callback has ended them and they could not
   be replaced; or none has come while one could. */
static inline bool twill__fan_orphaned(const twill_fan *fan)
{
    const twill__team *team = fan->crew.job.team;
    return fan->deserted ||
           atomic_load_explicit(&team->lost, memory_order_seq_cst) >= team->threads;
}

/* Somebody who waits could run a task, and perhaps nobody else will. */
static inline bool twill__fan_settle_helper(twill_fan *fan, twill__fan_turn *turn,
                                            twill__list *list)
{
    bool numbered = fan->executing < fan->workers - fan->refused;
    bool orphaned = numbered && twill__fan_orphaned(fan);
    for (twill__node *node = list->first, *next; node; node = next) {
        twill__fan_wait *wait = (twill__fan_wait *)(void *)node;
        next = node->next;
        if (wait != turn->naps &&
            (orphaned || wait->helps == TWILL__FAN_HELPS_ALWAYS || (wait->helps && numbered)) &&
            twill__fan_grant(fan, turn, list, wait, TWILL__FAN_AGAIN))
            return true;
    }
    return false;
}

/* Perhaps nobody comes for what waits: somebody who waits shall look round by himself. */
static inline bool twill__fan_settle_lonely(twill_fan *fan, twill__fan_turn *turn,
                                            twill__list *list)
{
    for (twill__node *node = list->first, *next; node; node = next) {
        twill__fan_wait *wait = (twill__fan_wait *)(void *)node;
        next = node->next;
        if (wait->naps || twill__fan_grant(fan, turn, list, wait, TWILL__FAN_AGAIN))
            return true;
    }
    return false;
}

static inline void twill__fan_settle(twill_fan *fan, twill__fan_turn *turn)
{
    bool available;
    if (fan->goers.first && !turn->again)
        twill__fan_settle_goers(fan, turn);
    if (fan->readers.first)
        twill__fan_settle_readers(fan, turn);
    if (turn->again) {
        twill__fan_grant_all(fan, turn, &fan->goers, TWILL__FAN_AGAIN);
        twill__fan_grant_all(fan, turn, &fan->readers, TWILL__FAN_AGAIN);
    }
    if (fan->watchers.first)
        twill__fan_settle_watchers(fan, turn);
    /* relaxed: written under the lock alone, so the own load is exact */
    if (turn->lazy && atomic_load_explicit(&fan->ready, memory_order_relaxed) &&
        !fan->readers.first && !fan->goers.first && !fan->watchers.first)
        return;
    available = twill__fan_available(fan);
    if (available && (fan->readers.first || fan->goers.first || fan->watchers.first) &&
        !twill__fan_settle_helper(fan, turn, &fan->readers) &&
        !twill__fan_settle_helper(fan, turn, &fan->goers) &&
        !twill__fan_settle_helper(fan, turn, &fan->watchers) && twill__fan_lonely(fan) &&
        !twill__fan_settle_lonely(fan, turn, &fan->readers) &&
        !twill__fan_settle_lonely(fan, turn, &fan->goers))
        (void)twill__fan_settle_lonely(fan, turn, &fan->watchers);
    /* relaxed: as above */
    if (available != (bool)atomic_load_explicit(&fan->ready, memory_order_relaxed)) {
        /* seq_cst: a worker looks at it after the epoch, which twill__crew_call raises after it */
        atomic_store_explicit(&fan->ready, available, memory_order_seq_cst);
        if (available && !turn->call && !fan->lingering)
            turn->call = fan->workers;
    }
}

/* ---- leaving the lock ---- */

static inline void twill__fan_exit(twill_fan *fan, twill__fan_turn *turn);

/* One that is to be told, and was not yet, or NULL. */
static inline twill__fan_task *twill__fan_to_tell(const twill_fan *fan)
{
    const twill__fan_list *lists[2] = {&fan->running, &fan->overdue};
    twill__fan_task *task;
    for (int k = 0; k < 2; k++)
        for (task = lists[k]->first; task; task = task->next)
            if (task->tell && !task->told)
                return task;
    for (unsigned k = 0; fan->laned && k < fan->workers; k++)
        if ((task = atomic_load_explicit(&fan->slot[k].lane.current, memory_order_seq_cst)) &&
            task->tell && !task->told)
            return task;
    return NULL;
}

/* Fires the tokens of the tasks that are to be told. */
static inline void twill__fan_fire_some(twill_fan *fan)
{
    for (;;) { /* exit: each task is told once */
        twill__fan_task *task;
        twill__fan_turn turn = {.visitor = false};
        int why = (int)TWILL_CANCELLED;
        twill__lock(&fan->lock);
        task = twill__fan_to_tell(fan);
        if (task) {
            why = task->expired ? (int)TWILL_TIMEOUT : why; /* it may expire while we fire */
            task->told = true;
            task->holds++; /* not used again before we are back */
        }
        twill__unlock(&fan->lock);
        if (!task)
            return;
        twill_cancel_fire(&task->token, why);
        twill__fan_lock(fan, &turn);
        twill__fan_release(fan, task);
        twill__fan_exit(fan, &turn); /* a record more may be what a worker waits for */
    }
}

/* ---- callbacks of calls from outside ---- */

static inline void twill__fan_call_in(twill_fan *fan, twill__fan_calling *calling)
{
    calling->next = fan->calling;
    calling->thread = twill__thread_number();
    fan->calling = calling;
}

static inline void twill__fan_call_out(twill_fan *fan, const twill__fan_calling *calling)
{
    twill__fan_calling **at = &fan->calling;
    while (*at != calling)
        at = &(*at)->next;
    *at = calling->next;
}

/* Whether this thread is inside a callback of the fan: then it must not wait for the fan's end. */
static inline bool twill__fan_inside(twill_fan *fan)
{
    uint64_t me = twill__thread_number();
    bool inside = twill__crew_inside(&fan->crew);
    twill__lock(&fan->lock);
    for (const twill__fan_calling *calling = fan->calling; calling; calling = calling->next)
        inside |= calling->thread == me;
    twill__unlock(&fan->lock);
    return inside;
}

typedef struct twill__fan_outcall {
    twill__fan_calling calling;
    twill_fan *fan;
    bool visitor; /* a worker needs neither: the crew's guard sees it end */
} twill__fan_outcall;

static inline void twill__fan_outcall_begin(twill_fan *fan, const twill__fan_turn *turn,
                                            twill__fan_outcall *outcall)
{
    outcall->fan = fan;
    outcall->visitor = turn->visitor;
    if (outcall->visitor)
        twill__fan_call_in(fan, &outcall->calling);
}

static inline void twill__fan_outcall_end(twill__fan_outcall *outcall)
{
    if (!outcall->visitor)
        return;
    twill__lock(&outcall->fan->lock);
    twill__fan_call_out(outcall->fan, &outcall->calling);
    twill__unlock(&outcall->fan->lock);
}

/* The callback has ended the thread. */
static inline void twill__fan_outcall_ended(void *outcall_)
{
    twill__fan_outcall *outcall = (twill__fan_outcall *)outcall_;
    twill__fan_outcall_end(outcall);
    if (outcall->visitor)
        twill__fan_leave(outcall->fan);
}

static inline void twill__fan_notify(twill_fan *fan, twill__fan_outcall *outcall)
{
    twill_task task = twill__fan_outside(fan, SIZE_MAX);
    TWILL__GUARD_PUSH(twill__fan_outcall_ended, outcall);
    fan->notify(&task);
    TWILL__GUARD_POP(0);
    twill__fan_outcall_end(outcall);
}

static inline void twill__fan_exit(twill_fan *fan, twill__fan_turn *turn)
{
    twill__fan_outcall outcall;
    bool notify = turn->notify && fan->notify;
    twill__fan_settle(fan, turn);
    twill__fan_count_in(fan, turn);
    if (notify)
        twill__fan_outcall_begin(fan, turn, &outcall);
    twill__unlock(&fan->lock);
    for (unsigned k = 0; k < turn->count; k++)
        twill__wake(turn->word[k], 1);
    if (turn->call)
        twill__crew_call(&fan->crew, turn->call);
    if (turn->alarm)
        twill__crew_alarm(&fan->crew, turn->alarm);
    if (turn->fire_all)
        twill_cancel_fire(&fan->root, (int)TWILL_CANCELLED);
    if (turn->fire_some)
        twill__fan_fire_some(fan);
    if (notify)
        twill__fan_notify(fan, &outcall);
}

/* Under the lock before and after: calls notify, if it is to be called. It may end the thread: so
   not with a task in hand, nor while something on this stack stands in a list. True: the lock was
   given back: look again. */
static inline bool twill__fan_told(twill_fan *fan, twill__fan_turn *turn)
{
    if (!turn->notify || !fan->notify)
        return false;
    twill__fan_exit(fan, turn);
    twill__fan_lock(fan, turn);
    return true;
}
#endif
