/* workers.h: who runs a fan's tasks. */
#ifndef TWILL__FAN_WORKERS_H
#define TWILL__FAN_WORKERS_H

#include "fan_out_fan_in/state.h"

/* ---- what a task says ---- */

static inline void twill__fan_task_stop(const twill_task *task)
{
    twill__fan_task *mine = (twill__fan_task *)task->private_;
    twill_fan *fan = mine->fan;
    twill__fan_turn turn = {.visitor = false};
    if (!twill__fan_here(fan)) /* it has forked */
        return;
    twill__fan_lock(fan, &turn);
    if (!mine->answered) {
        if (mine->outcome.index < fan->stop_at)
            twill__fan_stop_at(fan, mine->outcome.index);
        twill__fan_lower(fan, &turn, mine->outcome.index);
    }
    twill__fan_exit(fan, &turn);
}

static inline void twill__fan_task_skip(const twill_task *task)
{
    ((twill__fan_task *)task->private_)->skip = true; /* read by its own thread alone */
}

/* With max_abandoned the user's token is not above the task's, and a request (of a signal handler,
   say) has not reached that: asks the user's, while it is there, and passes on what it says. */
static inline bool twill__fan_task_looks(const twill_task *task)
{
    twill_fan *fan = ((twill__fan_task *)task->private_)->fan;
    twill__fan_turn turn = {.visitor = false};
    if (!twill__fan_here(fan))
        return false;
    twill__fan_lock(fan, &turn);
    twill__fan_look(fan, &turn, 0);
    if (turn.fire_all)
        twill__fan_exit(fan, &turn);
    else
        twill__unlock(&fan->lock);
    return turn.fire_all;
}

/* Who has no token of the user's looks without the lock. `cancel` is read with max_abandoned alone,
   and then under the lock: see twill__fan_bury. */
static inline const twill__call_table *twill__fan_task_table(const twill_fan *fan)
{
    static const twill__call_table table[2] = {
        {NULL, twill__fan_task_stop, twill__fan_task_skip, NULL, NULL},
        {twill__fan_task_looks, twill__fan_task_stop, twill__fan_task_skip, NULL, NULL}};
    return &table[fan->max_abandoned && fan->cancel];
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
    twill__fan_turn turn = {.visitor = dropping->visitor, .counted = dropping->visitor};
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

/* A record becomes that of the source's item. */
static inline void twill__fan_item_record(twill_fan *fan, twill__fan_task *task, size_t index)
{
    twill__fan_fresh(task, NULL, NULL, NULL);
    task->outcome.index = index;
    task->outcome.queued = fan->since;
    task->arg = (void *)(uintptr_t)(fan->items + index * fan->item_size);
}

/* Under the lock: the last one of a lane that nobody has begun, as a task of its own. NULL: there
   is none any more. An item needs a free record. */
static inline twill__fan_task *twill__fan_lane_last(twill_fan *fan, twill__fan_lane *lane)
{
    twill__fan_task *task;
    size_t at;
    if (!twill__fan_lane_take(lane, true, &at))
        return NULL;
    if (fan->streams) {
        task = twill__fan_lane_at(lane, (uint32_t)at);
        task->holds = 2;
    } else {
        task = twill__fan_take_free(fan);
        twill__fan_item_record(fan, task, at);
    }
    return task;
}

/* The highest one in a lane, if it need not run: becomes a task of its own, or NULL. */
static inline twill__fan_task *twill__fan_lane_spared(twill_fan *fan)
{
    for (unsigned k = 0; fan->laned && (fan->streams || fan->free) && k < fan->workers; k++) {
        twill__fan_lane *lane = &fan->slot[k].lane;
        size_t last = lane->base +
                      (size_t)twill__hi(atomic_load_explicit(&lane->range, memory_order_seq_cst)) -
                      1;
        twill__fan_task *task;
        if (!twill__fan_lane_any(lane))
            continue;
        if (fan->streams)
            last = twill__fan_lane_at(lane, (uint32_t)last)->outcome.index;
        if (twill__fan_spared(fan, last) && (task = twill__fan_lane_last(fan, lane)) != NULL)
            return task;
    }
    return NULL;
}

/* Drops what need not run any more, without waiting for a worker. False: there was nothing. */
static inline bool twill__fan_drop_spared(twill_fan *fan, twill__fan_turn *turn)
{
    twill__fan_task *task;
    if (!fan->over && fan->limit == SIZE_MAX)
        return false;
    if (twill__fan_told(fan, turn))
        return true;
    task = twill__fan_queue_first(&fan->queue);
    if (!task)
        task = twill__fan_lane_spared(fan);
    else if (twill__fan_spared(fan, task->outcome.index))
        (void)twill__fan_dequeue(&fan->queue);
    else
        return false;
    if (task)
        twill__fan_drop(fan, turn, task);
    return task != NULL;
}

/* ---- tasks that run ---- */

/* A record for a task, or NULL: there is no memory, or (look again) there was none under the
   lock. */
static inline twill__fan_task *twill__fan_record(twill_fan *fan, twill__fan_turn *turn,
                                                 bool *no_memory)
{
    size_t more, ring;
    twill__fan_chunk *chunk;
    *no_memory = false;
    if (fan->free)
        return twill__fan_take_free(fan);
    more = twill__fan_growth(fan);
    ring = twill__fan_next_ring(fan, more);
    twill__fan_exit(fan, turn);
    chunk = twill__fan_new_chunk(fan, more, ring);
    twill__fan_lock(fan, turn);
    *no_memory = !chunk && !fan->free;
    if (chunk && !twill__fan_add_chunk(fan, chunk, more)) {
        twill__fan_exit(fan, turn);
        TWILL_FREE(chunk);
        twill__fan_lock(fan, turn);
    }
    return NULL;
}

/* The next one to run. NULL: none, or the lock was given back: look again. */
static inline twill__fan_task *twill__fan_next_task(twill_fan *fan, twill__fan_turn *turn)
{
    twill__fan_lane *lane;
    twill__fan_task *task;
    if (fan->queue.count)
        return twill__fan_dequeue(&fan->queue);
    if (!fan->streams && !fan->free) {
        bool no_memory;
        (void)twill__fan_record(fan, turn, &no_memory);
        if (no_memory)
            fan->capacity = fan->used; /* it goes on with those that it has */
        return NULL;                   /* the lock was given back: items may be spared by now */
    }
    if (!twill__fan_source_left(fan)) { /* what a lane has not begun, since its worker is slow */
        lane = twill__fan_lane_left(fan);
        return lane ? twill__fan_lane_last(fan, lane) : NULL;
    }
    task = twill__fan_take_free(fan);
    twill__fan_item_record(fan, task, fan->source_next++);
    fan->in_flight++;
    if (fan->copies) /* the caller may be gone before the task */
        memcpy((char *)task + fan->item_at, task->arg, fan->item_size);
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
    twill_ns end;
    int code;
    /* before others can see it run, and fire it */
    twill__fan_prepare(fan, task, slot, twill__fan_task_table(fan));
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
    *now = end = twill__clock_now();
    twill__fan_lock(fan, turn);
    if (!code && !task->skip && fan->discard &&
        (task->answered || task->expired || (task->due && end >= task->due))) {
        twill__fan_exit(fan, turn); /* nobody will take this success */
        twill__fan_call_discard(fan, task);
        *now = twill__clock_now(); /* the next one begins now */
        twill__fan_lock(fan, turn);
    }
    slot->chunks++;
    if (!task->outer) {
        slot->pace = end - task->outcome.started + 1;
        slot->busy += slot->pace - 1;
    }
    slot->current = task->outer;
    twill__fan_ended(fan, turn, task, code ? TWILL_FAILED : TWILL_OK, code, end);
    return true;
}

/* Runs or drops the next one. The lock is held before and after; false: as above. */
static inline bool twill__fan_step(twill_fan *fan, twill__fan_turn *turn, twill__fan_slot *slot,
                                   twill_ns *now)
{
    twill__fan_task *task;
    if (twill__fan_told(fan, turn) || twill__fan_drop_spared(fan, turn)) {
        *now = twill__clock_now(); /* callbacks take their time */
        twill__fan_look(fan, turn, *now);
        return true;
    }
    task = twill__fan_next_task(fan, turn);
    if (!task)
        return true;
    if (!twill__fan_run(fan, turn, slot, task, now))
        return false;
    twill__fan_look(fan, turn, *now);
    if (fan->timeout)
        twill__fan_expire(fan, turn, *now);
    return true;
}

/* ---- lanes ---- */

/* Under the lock: takes a run of items into the worker's lane; how many, 0: none. */
static inline uint32_t twill__fan_lane_fill(twill_fan *fan, twill__fan_slot *slot)
{
    twill__fan_lane *lane = &slot->lane;
    /* relaxed: the own store */
    uint32_t ended = atomic_load_explicit(&lane->ended, memory_order_relaxed);
    size_t left = fan->streams ? fan->queue.count : fan->source_n - fan->source_next, most,
           n = slot->run ? 2 * (size_t)slot->run : 2;
    if (!lane->places || !slot->pace || slot->pace > TWILL__FAN_QUICK_NS || !left ||
        (!fan->streams && !twill__fan_source_left(fan)) || twill__fan_lane_any(lane))
        return 0;
    most = (left - 1) / (2 * (size_t)fan->workers) + 1; /* the end is for all */
    if (most > (size_t)(TWILL__FAN_RUN_NS / slot->pace))
        most = (size_t)(TWILL__FAN_RUN_NS / slot->pace);
    if (most > lane->places / 2)
        most = lane->places / 2;
    if (most > n)
        most = n;
    n = lane->places - (ended - lane->returned);
    if (n > most)
        n = most;
    if (!n)
        return 0;
    if (fan->streams) {
        lane->base = ended;
        for (uint32_t at = 0; at < n; at++) {
            twill__fan_task *task = twill__fan_dequeue(&fan->queue);
            lane->ring[(ended + at) & (lane->places - 1)] = task;
            __builtin_prefetch(&task->fn, 1);
            __builtin_prefetch(&task->holds, 1);
        }
    } else {
        lane->base = fan->source_next;
        fan->source_next += n;
        fan->in_flight += n;
    }
    lane->open = true;
    fan->executing++;
    slot->run = (uint32_t)n;
    atomic_store_explicit(&lane->range, twill__pack(0, n), memory_order_seq_cst);
    return slot->run;
}

/* Under the lock: whether quick tasks could go through the lane, if its outcomes were read. */
static inline bool twill__fan_lane_is_full(const twill_fan *fan, const twill__fan_slot *slot)
{
    const twill__fan_lane *lane = &slot->lane;
    /* relaxed: the own store */
    uint32_t kept = atomic_load_explicit(&lane->ended, memory_order_relaxed) - lane->returned;
    /* something is kept: so there is a lane, and its pace is known */
    return lane->places - kept < lane->places / 4 && slot->pace <= TWILL__FAN_QUICK_NS &&
           !twill__fan_lane_any(lane) && twill__fan_source_left(fan);
}

/* Lets the reader have the CPU for a moment, if he is all that is waited for: to go on without the
   lane costs three times as much, and takes the lock from him, too. Not again and again, if he is
   slow. True: the lock was given back meanwhile. */
static inline bool twill__fan_lane_waits(twill_fan *fan, twill__fan_turn *turn,
                                         twill__fan_slot *slot, twill_ns *now)
{
    unsigned yields = TWILL__SPIN ? TWILL__FAN_YIELDS : 1;
    if (!twill__fan_lane_is_full(fan, slot))
        return false;
    if (slot->hurries) {
        slot->hurries--;
        return false;
    }
    twill__fan_sweep(fan, turn);
    while (yields-- && twill__fan_lane_is_full(fan, slot)) {
        twill__fan_exit(fan, turn);
        twill__yield();
        twill__fan_lock(fan, turn);
    }
    slot->hurries = twill__fan_lane_is_full(fan, slot) ? TWILL__FAN_HURRIES : 0;
    *now = twill__clock_now();
    return true;
}

/* Under the lock: its worker leaves it; what is left in it is for others. */
static inline void twill__fan_lane_close(twill_fan *fan, twill__fan_lane *lane)
{
    lane->open = false;
    fan->executing--;
}

/* Takes the next one; NULL: none is left. */
static inline twill__fan_task *twill__fan_lane_next(twill_fan *fan, twill__fan_slot *slot)
{
    twill__fan_lane *lane = &slot->lane;
    /* relaxed: the own store */
    uint32_t ended = atomic_load_explicit(&lane->ended, memory_order_relaxed);
    twill__fan_task *task;
    size_t at;
    if (!twill__fan_lane_take(lane, false, &at))
        return NULL;
    task = twill__fan_lane_at(lane, ended);
    if (!fan->streams) {
        twill__fan_item_record(fan, task, at);
        task->lane = lane;
    }
    task->holds = 1; /* of the outcome: nobody touches it here after its end */
    twill__fan_prepare(fan, task, slot, twill__fan_task_table(fan));
    /* seq_cst: then `cut` is looked at; see twill__fan_lanes_tell */
    atomic_store_explicit(&lane->current, task, memory_order_seq_cst);
    return task;
}

/* Runs it, and gathers its outcome. False: it is another process now. */
static inline bool twill__fan_lane_run(twill_fan *fan, twill__fan_slot *slot, twill__fan_task *task,
                                       twill_ns *now)
{
    twill__fan_lane *lane = &slot->lane;
    uint32_t ended = atomic_load_explicit(&lane->ended, memory_order_relaxed); /* the own store */
    int code;
    if (*now < task->outcome.queued) /* the end of the task before it */
        *now = task->outcome.queued;
    task->outcome.started = *now;
    task->outcome.worker = slot->task->worker;
    task->outcome.attempts = 1;
    slot->current = task;
    code = twill__fan_invoke(fan, slot->task, task);
    if (!twill__fan_here(fan))
        return false;
    twill__token_leave(twill__token_of(&task->token)); /* no hook of a fire is running now */
    slot->current = NULL;
    *now = twill__clock_now();
    slot->chunks++;
    slot->busy += *now - task->outcome.started;
    task->outcome.finished = *now;
    task->outcome.code = code;
    task->outcome.status = code ? TWILL_FAILED : task->skip ? TWILL_CANCELLED : TWILL_OK;
    /* relaxed: before `ended`, so that who has published it does not find it here */
    atomic_store_explicit(&lane->current, NULL, memory_order_relaxed);
    /* seq_cst: then `hungry` is looked at */
    atomic_store_explicit(&lane->ended, ended + 1, memory_order_seq_cst);
    return true;
}

/* Whether the worker in a lane must have the lock: somebody waits for outcomes, or the run is
   over. */
static inline bool twill__fan_lane_calls(const twill_fan *fan, twill_ns now)
{
    twill_ns deadline = fan->crew.run.until.deadline;
    return atomic_load_explicit(&fan->hungry, memory_order_seq_cst) ||
           (!twill__no_deadline(deadline) && now >= deadline) ||
           (fan->cancel && twill_cancel_fired(fan->cancel));
}

/* A run of items, if tasks are quick. The lock is held before and after. 0: none was taken; 1; -1:
   this is another process now. */
static inline int twill__fan_lane_work(twill_fan *fan, twill__fan_turn *turn, twill__fan_slot *slot,
                                       twill_ns *now)
{
    twill__fan_lane *lane = &slot->lane;
    twill__fan_task *task;
    twill_ns began = *now;
    uint32_t at, n = twill__fan_lane_fill(fan, slot);
    if (!n)
        return 0;
    twill__fan_exit(fan, turn);
    while ((task = twill__fan_lane_next(fan, slot)) != NULL) { /* exit: each turn takes one */
        bool spared = task->outcome.index >= atomic_load_explicit(&fan->cut, memory_order_seq_cst);
        if (!spared && !twill__fan_lane_run(fan, slot, task, now))
            return -1;
        if (!spared && !twill__fan_lane_calls(fan, *now))
            continue;
        twill__fan_lock(fan, turn);
        twill__fan_look(fan, turn, *now);
        if (spared) {
            twill__fan_lane_pass(fan, turn, lane);
            task->holds++;
            twill__fan_drop(fan, turn, task);
        } else {
            twill__fan_sweep(fan, turn);
        }
        twill__fan_exit(fan, turn);
    }
    twill__fan_lock(fan, turn);
    twill__fan_lane_close(fan, lane);
    /* relaxed: the own store */
    at = atomic_load_explicit(&lane->ended, memory_order_relaxed);
    if (fan->gather && (*now >= fan->gather || at - lane->taken >= lane->places / 2))
        twill__fan_sweep(fan, turn);
    slot->pace = (*now - began) / n + 1;
    twill__fan_look(fan, turn, *now);
    return 1;
}

/* ---- the crew's functions ---- */

static inline bool twill__fan_ready(void *fan_)
{
    twill_fan *fan = (twill_fan *)fan_;
    twill_ns due = 0, run = 0;
    if (!twill__fan_here(fan)) /* a task has forked: the others are the parent's */
        return false;
    /* seq_cst: see twill__fan_settle */
    if (atomic_load_explicit(&fan->ready, memory_order_seq_cst))
        return true;
    if (fan->notify)
        run = fan->crew.run.until.deadline;
    if (!fan->timeout && twill__no_deadline(run))
        return false;
    twill__lock(&fan->lock);
    if (fan->running.first)
        due = fan->running.first->due;
    if (!fan->over)
        due = twill__nearer(due, run);
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

static inline bool twill__fan_is_ready(void *fan_)
{
    /* relaxed: a hint to look under the lock */
    return atomic_load_explicit(&((twill_fan *)fan_)->ready, memory_order_relaxed) != 0;
}

/* Tasks were quick, and there are none just now: more will come. A moment here, where go need not
   wake anybody. True: there are some. */
static inline bool twill__fan_lingers(twill_fan *fan, twill__fan_turn *turn,
                                      const twill__fan_slot *slot, twill_ns *now)
{
    if (!fan->streams || !fan->laned || !slot->pace || slot->pace > TWILL__FAN_QUICK_NS ||
        (fan->closed && !fan->pulled))
        return false;
    if (fan->readers.first || fan->goers.first || fan->watchers.first)
        twill__fan_sweep(fan, turn);
    fan->lingering++;
    twill__fan_exit(fan, turn);
    (void)twill__spin_for(twill__fan_is_ready, fan, TWILL__SPIN_WAIT, TWILL__SPIN_YIELDS);
    *now = twill__clock_now();
    twill__fan_lock(fan, turn);
    fan->lingering--;
    return twill__fan_available(fan);
}

static inline void twill__fan_work(void *fan_, twill_task *task)
{
    twill_fan *fan = (twill_fan *)fan_;
    twill__fan_slot *slot = &fan->slot[task->worker];
    twill__fan_turn turn = {.visitor = false};
    twill_ns now;
    bool once, full;
    slot->task = task;
    /* relaxed: only the own thread finds its number here */
    atomic_store_explicit(&slot->thread, twill__thread_number(), memory_order_relaxed);
    twill__fan_lock(fan, &turn);
    once = twill__fan_find_helping(fan) != NULL;
    if (!once)
        fan->deserted = false;
    now = twill__clock_now();
    twill__fan_clock(fan, &turn);
    /* exit: each turn takes a task; helpers one; lingers once after each */
    while (twill__fan_available(fan) || (!once && twill__fan_lingers(fan, &turn, slot, &now))) {
        int lane;
        if (!once && twill__fan_lane_waits(fan, &turn, slot, &now))
            continue;
        lane = once ? 0 : twill__fan_lane_work(fan, &turn, slot, &now);
        if (lane < 0 || (!lane && !twill__fan_step(fan, &turn, slot, &now)))
            return;
        if (once)
            break;
    }
    atomic_store_explicit(&slot->thread, 0, memory_order_relaxed);
    full = fan->laned && twill__fan_source_left(fan);
    if (fan->readers.first || fan->goers.first || fan->watchers.first)
        twill__fan_sweep(fan, &turn); /* nobody else may do that for them */
    twill__fan_exit(fan, &turn);
    if (full && !once) /* of outcomes: who reads them may want this CPU */
        twill__yield();
}

/* A callback has ended the thread: what it ran is LOST. */
static inline void twill__fan_died(void *fan_, twill_task *task)
{
    twill_fan *fan = (twill_fan *)fan_;
    twill__fan_slot *slot = &fan->slot[task->worker];
    twill__fan_helping **helping;
    twill__fan_turn turn = {.visitor = false};
    twill_ns now = twill__clock_now();
    bool visits = false;
    if (!twill__fan_here(fan))
        return;
    for (twill__fan_task *lost = slot->current; lost; lost = lost->outer)
        twill__token_leave(twill__token_of(&lost->token));
    twill__fan_lock(fan, &turn);
    for (twill__fan_task *lost = slot->current, *outer; lost; lost = outer) {
        outer = lost->outer;
        if (outer || !slot->lane.open) {
            twill__fan_ended(fan, &turn, lost, TWILL_LOST, 0, now);
        } else { /* the lane's */
            twill__fan_lane_pass(fan, &turn, &slot->lane);
            twill__fan_publish(fan, &turn, lost, TWILL_LOST, 0, now);
        }
    }
    slot->current = NULL;
    if (slot->lane.open)
        twill__fan_lane_close(fan, &slot->lane);
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
    twill__fan_turn turn = {.visitor = false};
    int code = -1;
    if (!slot->starting) { /* else it has ended a thread already */
        slot->starting = true;
        code = fan->worker_start(state, task);
        slot->starting = false;
    }
    if (!code || !twill__fan_here(fan))
        return code;
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
    /* relaxed: the own number is the own store. One that helps in a callback has two */
    for (unsigned k = 0; k < fan->workers; k++)
        if (atomic_load_explicit(&fan->slot[k].thread, memory_order_relaxed) == me &&
            fan->slot[k].current)
            return &fan->slot[k];
    return NULL;
}

/* Runs one task, if a worker number is free. 1: it did. 0: it did not. -1: this is another process
   now. */
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

/* While a call waits: runs a task instead, if this thread should. 1: the lock was given back, the
   caller looks again. 0: it did not; *refused: it would have. -1: this is another process now. */
static inline int twill__fan_instead(twill_fan *fan, twill__fan_turn *turn, twill__fan_slot *slot,
                                     bool helps, bool *refused)
{
    bool before = *refused;
    int served;
    *refused = false;
    if (!twill__fan_available(fan))
        return 0;
    if (twill__fan_told(fan, turn))
        return 1;
    if (slot) {
        twill_ns now = twill__clock_now();
        return twill__fan_step(fan, turn, slot, &now) ? 1 : -1;
    }
    if (fan->executing >= fan->workers - fan->refused || !(helps || twill__fan_orphaned(fan)))
        return 0;
    if (before) { /* and all has been looked at since */
        *refused = true;
        return 0;
    }
    served = twill__fan_help(fan, turn);
    *refused = served == 0;
    return served < 0 ? -1 : 1;
}
#endif
