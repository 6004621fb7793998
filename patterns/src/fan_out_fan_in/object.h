/* object.h: go and next, and their waits. */
#ifndef TWILL__FAN_OBJECT_H
#define TWILL__FAN_OBJECT_H

#include "fan_out_fan_in/workers.h"

/* ---- waiting ---- */

/* Whether a worker is in a lane. */
static inline bool twill__fan_gathering(const twill_fan *fan)
{
    for (unsigned k = 0; fan->laned && k < fan->workers; k++)
        if (fan->slot[k].lane.open)
            return true;
    return false;
}

/* Under the lock before and after: waits in `list`. True: answered, in wait->node.answer. False:
   *over is TIMEOUT or CANCELLED by `until`, or OK: time has brought something else. */
static inline bool twill__fan_wait_in(twill_fan *fan, twill__fan_turn *turn, twill__list *list,
                                      twill__fan_wait *wait, twill_until until, twill_status *over)
{
    twill_until soon = {twill__fan_next_instant(fan, until.deadline), until.cancel};
    twill_status status;
    bool gather = twill__fan_gathering(fan) && list == &fan->readers && !wait->strict;
    bool lonely = twill__fan_lonely(fan);
    twill_ns look = 0;
    if (twill__fan_told(fan, turn)) {
        *over = TWILL_OK;
        return false;
    }
    wait->naps =
        (wait->helps || wait->refused || fan->deaths || lonely) && twill__fan_available(fan);
    wait->refused = false;
    if (wait->naps) {
        turn->naps = wait;
        /* no worker number was free a moment ago; or a thread may not be replaced in a moment, or
           none may come */
        look = twill__clock_now() + TWILL_MS(1);
        soon.deadline = twill__nearer(soon.deadline, look);
    }
    twill__node_init(&wait->node);
    twill__list_append(list, &wait->node);
    if (gather) { /* workers in lanes need not look whether somebody waits: they are quick */
        fan->gather = twill__clock_now() + TWILL__FAN_GATHER_NS;
        soon.deadline = twill__nearer(soon.deadline, fan->gather + TWILL__FAN_GATHER_NS);
    } else if (fan->laned) {
        twill__fan_hungers(fan, wait, true);
        twill__fan_sweep(fan, turn);
    }
    twill__fan_exit(fan, turn);
    status = twill__wait(&wait->node, soon);
    twill__fan_lock(fan, turn);
    fan->gather = 0;
    twill__fan_hungers(fan, wait, false);
    if (status == TWILL_OK)
        return true;
    twill__list_remove(list, &wait->node);
    fan->deserted |= lonely && twill__fan_lonely(fan) && twill__clock_now() >= look;
    *over = twill__over(until);
    return false;
}

typedef struct twill__fan_watch {
    const twill_fan *fan;
    uint32_t seen;
} twill__fan_watch;

/* Changes when there is something to look at. */
static inline uint32_t twill__fan_moves(const twill_fan *fan)
{
    /* relaxed: hints to look again under the lock */
    uint32_t moves = atomic_load_explicit(&fan->published, memory_order_relaxed);
    for (unsigned k = 0; fan->laned && k < fan->workers; k++)
        moves += atomic_load_explicit(&fan->slot[k].lane.ended, memory_order_relaxed);
    return moves;
}

static inline bool twill__fan_moved(void *watch_)
{
    twill__fan_watch *watch = (twill__fan_watch *)watch_;
    return twill__fan_moves(watch->fan) != watch->seen;
}

/* Before a node is put into a list: a moment outside the lock, since a parked round trip costs far
   more. */
static inline void twill__fan_moment(twill_fan *fan, twill__fan_turn *turn)
{
    twill__fan_watch watch = {fan, twill__fan_moves(fan)}; /* under the lock */
    fan->spinning++;
    twill__fan_exit(fan, turn);
    if (twill__spin_for(twill__fan_moved, &watch, TWILL__SPIN_WAIT, TWILL__SPIN_YIELDS) &&
        fan->laned)
        twill__yield(); /* more will gather */
    twill__fan_lock(fan, turn);
    fan->spinning--;
}

static inline unsigned twill__fan_helps(const twill_fan *fan, const twill__fan_slot *slot)
{
    return slot                                   ? TWILL__FAN_HELPS_ALWAYS
           : twill__crew_counts_on_us(&fan->crew) ? TWILL__FAN_HELPS_NUMBERED
                                                  : 0;
}

/* The end of a call. */
static inline twill_status twill__fan_return(twill_fan *fan, twill__fan_turn *turn,
                                             twill_status status)
{
    if (turn->visitor && !turn->counted) {
        twill__fan_settle(fan, turn);
        if (!turn->count && !turn->call && !turn->alarm && !turn->fire_all && !turn->fire_some &&
            !(turn->notify && fan->notify)) {
            twill__unlock(&fan->lock); /* the last access: destroy need not know of it */
            return status;
        }
    }
    twill__fan_exit(fan, turn);
    if (turn->visitor)
        twill__fan_leave(fan);
    return status;
}

/* A call begins. From inside a callback of the fan nobody needs to count it: destroy waits for the
   callback. */
static inline bool twill__fan_begin(twill_fan *fan, twill__fan_turn *turn)
{
    bool inside = twill__crew_inside(&fan->crew);
    if (inside) {
        turn->visitor = turn->lazy = false;
        twill__fan_lock(fan, turn);
    } else {
        twill__fan_enter(fan, turn);
    }
    return inside;
}

/* ---- next ---- */

/* ENOUGH: asks about an outcome that this thread has taken. */
static inline void twill__fan_ask(twill_fan *fan, twill__fan_turn *turn, twill__fan_task *task)
{
    twill_task outside = twill__fan_outside(fan, task->outcome.index);
    twill__fan_outcall outcall;
    bool enough;
    (void)twill__fan_told(fan, turn);
    twill__fan_outcall_begin(fan, turn, &outcall);
    twill__fan_exit(fan, turn);
    TWILL__GUARD_PUSH(twill__fan_outcall_ended, &outcall);
    enough = fan->enough(&task->outcome,
                         task->outcome.status == TWILL_OK ? twill__fan_result(fan, task) : NULL,
                         &outside);
    TWILL__GUARD_POP(0);
    twill__fan_outcall_end(&outcall);
    twill__fan_lock(fan, turn);
    if (enough) {
        fan->met = true;
        twill__fan_end(fan, turn, TWILL_CANCELLED, TWILL_CLOSED);
    }
}

/* Copies the outcome out, and gives the record back. */
static inline void twill__fan_deliver(twill_fan *fan, twill__fan_turn *turn, twill__fan_task *task,
                                      void *result, twill_outcome *outcome)
{
    if (fan->enough && !fan->met)
        twill__fan_ask(fan, turn, task);
    *outcome = task->outcome;
    if (result && outcome->status != TWILL_OK) {
        memset(result, 0, fan->result_size);       /* the task may still be writing its own */
    } else if (result && fan->result_size > 256) { /* too long to hold up the others */
        twill__fan_exit(fan, turn);
        memcpy(result, twill__fan_result(fan, task), fan->result_size);
        twill__fan_lock(fan, turn);
    } else if (result && fan->result_size) {
        memcpy(result, twill__fan_result(fan, task), fan->result_size);
    }
    twill__fan_release(fan, task);
}

/* How many tasks this thread has begun that have no outcome yet. */
static inline size_t twill__fan_depth(const twill__fan_slot *slot)
{
    size_t depth = 0;
    for (const twill__fan_task *task = slot->current; task; task = task->outer)
        depth += !task->answered;
    return depth;
}

/* These wait in next, or do not any more. */
static inline void twill__fan_block(twill_fan *fan, const twill__fan_slot *slot, bool waits)
{
    for (twill__fan_task *task = slot ? slot->current : NULL; task; task = task->outer)
        if (!task->answered) {
            task->waits = waits;
            fan->blocked += waits ? 1 : (size_t)-1;
        }
}

static inline twill_status twill__fan_get(twill_fan *fan, void *result, twill_outcome *outcome,
                                          twill_until until, bool wait)
{
    twill__fan_turn turn;
    twill__fan_wait me = {.helps = 0};
    twill_status over = TWILL_OK;
    bool spun = false, inside = twill__fan_begin(fan, &turn);
    twill__fan_slot *slot = inside ? twill__fan_my_slot(fan) : NULL;
    twill__fan_task *task;
    me.helps = wait ? twill__fan_helps(fan, slot) : 0;
    for (;;) { /* exit: an answer; each turn is another's progress, or time */
        int instead;
        twill__fan_clock(fan, &turn);
        if (!twill__fan_readable(fan))
            twill__fan_sweep(fan, &turn);
        if ((task = twill__fan_take(fan)) != NULL)
            break;
        if (twill__fan_finished(fan))
            return twill__fan_return(fan, &turn, TWILL_CLOSED);
        if (twill__fan_drop_spared(fan, &turn))
            continue;
        if (!wait)
            return twill__fan_return(fan, &turn, TWILL_EMPTY);
        if (over == TWILL_OK)
            over = twill__over(until);
        if (over != TWILL_OK)
            return twill__fan_return(fan, &turn, over);
        instead = twill__fan_instead(fan, &turn, slot, me.helps != 0, &me.refused);
        if (instead < 0)
            return TWILL_FORKED;
        if (instead)
            continue;
        if (slot && fan->closed && fan->in_flight == fan->blocked + twill__fan_depth(slot))
            return twill__fan_return(fan, &turn, TWILL_DEADLOCK);
        if (!spun && !fan->readers.first) {
            spun = true;
            twill__fan_moment(fan, &turn);
            continue;
        }
        twill__fan_block(fan, slot, true);
        if (!twill__fan_wait_in(fan, &turn, &fan->readers, &me, until, &over))
            me.node.answer = TWILL__FAN_AGAIN;
        twill__fan_block(fan, slot, false);
        me.strict = true; /* who gathers does it once */
        if (me.node.answer == TWILL_OK) {
            task = me.task;
            break;
        }
    }
    twill__fan_deliver(fan, &turn, task, result, outcome);
    return twill__fan_return(fan, &turn, TWILL_OK);
}

/* ---- go ---- */

typedef enum twill__fan_mode { TWILL__FAN_TRY, TWILL__FAN_GO, TWILL__FAN_UNTIL } twill__fan_mode;

/* Whether it takes no more tasks: OK if it does. */
static inline twill_status twill__fan_refusal(const twill_fan *fan, bool inside)
{
    if (fan->limit != SIZE_MAX)
        return TWILL_CLOSED;
    if (fan->over)
        return fan->refusal;
    return fan->closed && !(inside && fan->in_flight) ? TWILL_CLOSED : TWILL_OK;
}

/* A task of the fan goes at a full window: the new one takes its place, as a call would. */
static inline twill_status twill__fan_inline(twill_fan *fan, twill__fan_turn *turn,
                                             twill__fan_slot *slot, twill__fan_task *task)
{
    twill_ns now = twill__clock_now();
    task->outcome.index = fan->next_index++;
    task->outcome.queued = now;
    fan->in_flight++;
    if (!twill__fan_run(fan, turn, slot, task, &now))
        return TWILL_FORKED;
    return twill__fan_return(fan, turn, TWILL_OK);
}

/* What a go that may not be accepted at once does: OK: it may wait. */
static inline twill_status twill__fan_go_over(const twill_fan *fan, twill__fan_mode mode,
                                              bool inside, const twill__fan_slot *slot,
                                              twill_until until)
{
    if (mode == TWILL__FAN_TRY || (fan->unread >= fan->max_unread && mode != TWILL__FAN_UNTIL))
        return TWILL_FULL;
    if (inside && !slot && mode == TWILL__FAN_GO)
        return TWILL_FULL; /* on another thread of a task: it can run nothing inline */
    return twill__over(until);
}

static inline twill_status twill__fan_go(twill_fan *fan, twill_task_fn *fn, void *arg, void *key,
                                         twill_until until, twill__fan_mode mode)
{
    twill__fan_turn turn;
    twill__fan_wait me = {.helps = 0};
    twill_status status, over = TWILL_OK;
    twill_ns now = twill__clock_now(); /* not under the lock */
    twill__fan_slot *slot;
    bool inside, no_memory = false;
    if (!fan || !fn)
        return TWILL_INVALID;
    if (!twill__fan_here(fan))
        return TWILL_FORKED;
    inside = twill__fan_begin(fan, &turn);
    slot = inside ? twill__fan_my_slot(fan) : NULL;
    me.unread = mode == TWILL__FAN_UNTIL;
    me.helps = mode == TWILL__FAN_TRY ? 0 : twill__fan_helps(fan, slot);
    for (;;) { /* exit: as above */
        bool in_line, waits;
        int instead;
        if (fan->in_flight >= fan->window)
            twill__fan_sweep(fan, &turn);
        in_line = slot && fan->in_flight >= fan->window && fan->unread < fan->max_unread;
        twill__fan_clock(fan, &turn);
        if (in_line && twill__fan_told(fan, &turn))
            continue;
        if ((status = twill__fan_refusal(fan, inside)) != TWILL_OK)
            break;
        if (in_line && fan->ordered && fan->next_index - fan->emit >= fan->ring_size) {
            status = TWILL_FULL;
            break;
        }
        waits = !in_line && (!twill__fan_room(fan) || (fan->goers.first && !inside));
        if (waits) {
            if (over == TWILL_OK)
                over = twill__fan_go_over(fan, mode, inside, slot, until);
            if ((status = over) != TWILL_OK)
                break;
            instead = twill__fan_instead(fan, &turn, slot, me.helps != 0, &me.refused);
            if (instead < 0)
                return TWILL_FORKED;
            if (instead) {
                now = twill__clock_now();
                continue;
            }
        }
        if (!me.task) {
            if ((me.task = twill__fan_record(fan, &turn, &no_memory)) != NULL) {
                twill__fan_fresh(me.task, fn, arg, key);
            } else if (no_memory) {
                status = TWILL_NO_MEMORY;
                break;
            }
            continue;
        }
        if (in_line)
            return twill__fan_inline(fan, &turn, slot, me.task);
        if (!waits) {
            twill__fan_accept(fan, &turn, me.task, now);
            return twill__fan_return(fan, &turn, TWILL_OK);
        }
        if (!twill__fan_wait_in(fan, &turn, &fan->goers, &me, until, &over))
            me.node.answer = TWILL__FAN_AGAIN;
        if (me.node.answer == TWILL_OK)
            return twill__fan_return(fan, &turn, TWILL_OK);
        if (me.node.answer == TWILL_FULL) {
            status = TWILL_FULL;
            break;
        }
        now = twill__clock_now();
    }
    if (me.task) {
        me.task->holds = 1;
        twill__fan_release(fan, me.task);
    }
    return twill__fan_return(fan, &turn, status);
}
#endif
