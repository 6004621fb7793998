/* queue_wait.h: items in and out: what can be done now, and the wait for the rest. */
#ifndef TWILL__ENGINE_QUEUE_WAIT_H
#define TWILL__ENGINE_QUEUE_WAIT_H

#include "engine/queue_leave.h"

/* ---- what can be done now ---- */

/* The waiter's own word, when it stands in other lists already. False: another queue was first. */
static inline bool twill__still_ours(twill__waiter *waiter)
{
    return !waiter->shared || twill__own(waiter);
}

/* Rendezvous: hands over to, or from, somebody who waits. */
static inline int twill__queue_meet(twill__queue *queue, twill__queue_turn *turn, twill__waiter *me,
                                    bool push)
{
    twill__queue_list *list = push ? &queue->poppers : &queue->pushers;
    for (twill__waiter *other = list->first, *next; other; other = next) {
        next = other->next;
        /* a pusher of many and a popper that fills stay for the rest; their memory stays, too */
        bool last =
            push ? !(other->whole && other->done + 1 < other->n) : other->done + 1 == other->n;
        if (other->node == me->node || !(last ? twill__own(other) : twill__waits(other)))
            continue;
        if (!twill__still_ours(me)) {
            if (last)
                twill__queue_retry(queue, turn, other);
            return TWILL__ELSEWHERE;
        }
        twill__queue_hand_over(queue, push ? me : other, push ? other : me);
        if (last)
            twill__queue_answer(queue, turn, list, other, TWILL_OK);
        return TWILL_OK;
    }
    return push ? TWILL_FULL : TWILL_EMPTY;
}

static inline size_t twill__queue_need(const twill__waiter *waiter)
{
    return waiter->whole ? waiter->n - waiter->done : 1;
}

/* A ring: whether the positions promise what is not there yet. */
static inline bool twill__queue_on_its_way(const twill__queue *queue, const twill__waiter *waiter)
{
    if (!queue->ring.cells)
        return false;
    return waiter->from ? twill__ring_room(&queue->ring) >= twill__queue_need(waiter)
                        : twill__ring_length(&queue->ring) > 0;
}

/* Somebody outside the lock has a step or two to do. */
static inline void twill__queue_give_way(twill__queue *queue, twill__queue_turn *turn)
{
    twill__queue_exit(queue, turn);
    twill__yield();
    twill__queue_enter(queue, turn);
}

/* The positions of a ring that drops its oldest have been found full. */
static inline int twill__push_over(twill__queue *queue, twill__queue_turn *turn,
                                   twill__waiter *waiter, char *kept, twill__dropped *dropped)
{
    bool one = !waiter->whole || waiter->n == 1;
    if (one && twill__ring_replace(&queue->ring, waiter->from + waiter->done * queue->store.size,
                                   queue->drop ? kept : NULL, &dropped->number)) {
        *dropped = (twill__dropped){kept, 1, dropped->number, TWILL_DROPPED};
        queue->counts.dropped++;
        return ++waiter->done == waiter->n ? (int)TWILL_OK : TWILL__AGAIN;
    }
    if (!one && !twill__queue_on_its_way(queue, waiter)) /* all at once: one after the other goes */
        twill__queue_evict(queue, TWILL__OLDEST, TWILL_DROPPED, kept, dropped);
    if (!dropped->count)
        twill__queue_give_way(queue, turn);
    return TWILL__AGAIN;
}

/* OK; FULL; CLOSED; DROPPED; AGAIN: drop what is in `dropped`, and come again; ELSEWHERE; ANEW: it
   is ours alone, and got nothing: leave all lists, and begin anew. */
static inline int twill__push_now(twill__queue *queue, twill__queue_turn *turn,
                                  twill__waiter *waiter, char *kept, twill__dropped *dropped)
{
    size_t room;
    int answer = TWILL_FULL;
    if (twill__queue_closed(queue))
        return TWILL_CLOSED;
    if (!queue->store.capacity) {
        do /* exit: bounded by the items */
            answer = twill__queue_meet(queue, turn, waiter, true);
        while (answer == TWILL_OK && waiter->done < waiter->n);
        if (answer != TWILL_FULL)
            return answer;
    } else if (queue->ring.cells ? !twill__queue_behind(queue, waiter)
                                 : !twill__first(&queue->pushers)) {
        room = twill__queue_room(queue, waiter);
        if (room && !twill__still_ours(waiter))
            return TWILL__ELSEWHERE;
        if (room)
            twill__queue_accept(queue, waiter, room);
        if (waiter->done == waiter->n)
            return TWILL_OK;
        if (room && waiter->shared)
            return TWILL__ANEW;
    }
    /* also for who stands first: he may not look by himself */
    if (twill__queue_expire(queue, TWILL__OLDEST, kept, dropped))
        return TWILL__AGAIN;
    if (queue->ring.cells && queue->overflow == TWILL_OVERFLOW_DROP_OLDEST)
        return twill__push_over(queue, turn, waiter, kept, dropped);
    if (queue->overflow == TWILL_OVERFLOW_DROP_INCOMING) {
        dropped->from = waiter->from + waiter->done * queue->store.size;
        dropped->count = waiter->n - waiter->done;
        dropped->number = queue->store.next;
        dropped->why = TWILL_DROPPED;
        queue->store.next += dropped->count;
        queue->counts.dropped += dropped->count;
        return TWILL_DROPPED;
    }
    if (queue->store.length && (queue->overflow == TWILL_OVERFLOW_DROP_OLDEST ||
                                queue->overflow == TWILL_OVERFLOW_DROP_NEWEST)) {
        twill__queue_evict(
            queue, queue->overflow == TWILL_OVERFLOW_DROP_OLDEST ? TWILL__OLDEST : TWILL__NEWEST,
            TWILL_DROPPED, kept, dropped);
        room = twill__queue_room(queue, waiter);
        if (room)
            twill__queue_accept(queue, waiter, room);
        return waiter->done == waiter->n ? TWILL_OK : TWILL__AGAIN;
    }
    return TWILL_FULL;
}

/* OK; EMPTY; CLOSED; FAILED; AGAIN, ELSEWHERE, ANEW as above. */
static inline int twill__pop_now(twill__queue *queue, twill__queue_turn *turn,
                                 twill__waiter *waiter, char *kept, twill__dropped *dropped)
{
    size_t want = waiter->n - waiter->done, length = twill__queue_there(queue);
    if (length) {
        if (twill__queue_expire(queue, TWILL__NEXT, kept, dropped))
            return TWILL__AGAIN;
        if (!twill__still_ours(waiter))
            return TWILL__ELSEWHERE;
        twill__queue_deliver(queue, waiter, want < length ? want : length);
        if (!waiter->done) /* a ring, and somebody was quicker */
            return waiter->shared ? (int)TWILL__ANEW : (int)TWILL__AGAIN;
        if (!waiter->whole || waiter->done == waiter->n)
            return TWILL_OK;
        return queue->store.length ? (int)TWILL__AGAIN : (int)TWILL_EMPTY; /* the next is too old */
    }
    if (!queue->store.capacity && queue->pushers.first) {
        int answer;
        do /* exit: bounded by the room for items */
            answer = twill__queue_meet(queue, turn, waiter, false);
        while (answer == TWILL_OK && waiter->done < waiter->n);
        if (answer == TWILL_EMPTY && waiter->done && !waiter->whole)
            return TWILL_OK;
        if (answer != TWILL_EMPTY)
            return answer;
    }
    return twill__queue_closed(queue) && !twill__queue_length(queue)
               ? (int)twill__queue_closed(queue)
               : TWILL_EMPTY;
}

/* ---- waiting ---- */

typedef struct twill__queue_look {
    const _Atomic uint32_t *word;
    uint32_t seen;
} twill__queue_look;

static inline bool twill__queue_changed(void *look_)
{
    const twill__queue_look *look = (const twill__queue_look *)look_;
    /* relaxed: the caller looks again under the lock */
    return atomic_load_explicit(look->word, memory_order_relaxed) != look->seen;
}

/* How long (ns, and TWILL__AWAY beside) a side that found nothing stays away before it looks again.
   If it kept close behind the other side, they would take the lines of the items, and of the lock,
   from one another for a handful of items. So it stays away for longer as long as it finds a batch
   then; where items come one at a time, it looks soon, and where it found more than half of all
   that there is room for, the other side may soon have to wait. */
static inline uint32_t twill__patience(uint32_t had, bool batch, bool half)
{
    uint32_t now = batch && !half ? 2 * had + TWILL__AWAY : had / 2;
    return now < TWILL__PATIENCE ? now : TWILL__PATIENCE;
}

/* Before a node is put into a list: a moment outside the lock, since a parked round trip costs far
   more. Under the lock on both sides, or false: this is a forked child. */
static inline bool twill__queue_moment(twill__queue *queue, twill__queue_turn *turn, bool push)
{
    _Atomic uint32_t *word = push ? &queue->freed : &queue->filled;
    unsigned *threads = push ? &queue->pushing : &queue->popping;
    uint32_t *patience = push ? &queue->push_patience : &queue->pop_patience;
    twill__queue_look look = {word, atomic_load_explicit(word, memory_order_relaxed)};
    bool away = twill__spin_helps() && queue->store.capacity >= TWILL__RING_LARGE;
    twill_ns absence = TWILL__AWAY + *patience;
    twill__queue_left left = {NULL, NULL, threads};
    (*threads)++;
    twill__queue_leave(queue, turn, false, &left);
    if (!twill__queue_here(queue)) /* on_level has forked */
        return false;
    if (away)
        twill__spin_away(absence);
    if (!away || !twill__queue_changed(&look))
        (void)twill__spin_for(twill__queue_changed, &look, TWILL__SPIN_WAIT, TWILL__SPIN_YIELDS);
    twill__queue_enter(queue, turn);
    (*threads)--;
    if (away) {
        size_t there = push ? queue->store.capacity - queue->store.length : queue->store.length;
        *patience = twill__patience(*patience, there > TWILL__RING_BATCH,
                                    there > queue->store.capacity / 2);
    }
    return true;
}

/* Asked when one is listed: whether it has to look again by itself. A bulk must do so, too, while
   there is too little room and not all of that has been seen: who makes the rest of it may not see
   it either, and whoever made it may have been too early to see the bulk. */
static inline bool twill__queue_naps(const twill__queue *queue, const twill__waiter *waiter)
{
    size_t room, need = twill__queue_need(waiter);
    if (twill__queue_on_its_way(queue, waiter))
        return true;
    if (!queue->ring.cells || !waiter->from || need == 1)
        return false;
    room = twill__ring_room(&queue->ring);
    return room && !twill__ring_writable(&queue->ring, room < need ? room : need);
}

/* A call that must not wait has found nothing, but something is on its way: whoever brings it has
   two steps to do, as one who holds a lock. True: look again. */
static inline bool twill__queue_see(twill__queue *queue, twill__queue_turn *turn,
                                    const twill__waiter *waiter)
{
    if (!twill__queue_on_its_way(queue, waiter) ||
        (waiter->from && twill__queue_behind(queue, waiter)))
        return false;
    twill__queue_give_way(queue, turn);
    return true;
}

/* A sleep that ends by itself. */
static inline twill_until twill__queue_soon(twill_until until)
{
    twill_ns soon = twill__clock_now() + TWILL_US(50);
    if (twill__no_deadline(until.deadline) || soon < until.deadline)
        until.deadline = soon;
    return until;
}

/* Waits in `list`. True: answered, in node->answer, and the queue is not touched again. False: the
   lock is held; *status: TIMEOUT, CANCELLED, or OK: look again. */
static inline bool twill__queue_wait(twill__queue *queue, twill__queue_turn *turn,
                                     twill__queue_list *list, twill__waiter *waiter,
                                     twill__node *node, twill_until until, twill_status *status)
{
    twill__queue_left left = {list, waiter, NULL};
    twill__queue_home home = twill__queue_home_of(queue);
    uint32_t word;
    bool nap;
    twill__node_init(node);
    waiter->node = node;
    waiter->since = twill__clock_now();
    twill__enlist(queue, list, waiter, waiter->first);
    if (waiter->from)
        queue->counts.push_waits++;
    else if (waiter->to)
        queue->counts.pop_waits++;
    twill__queue_settle(queue, turn);
    nap = list != &queue->joiners && twill__queue_naps(queue, waiter);
    twill__queue_leave(queue, turn, false, &left);
    if (!twill__queue_is_home(home)) { /* on_level has forked: nobody will answer the child */
        node->answer = TWILL_FORKED;
        return true;
    }
    *status = twill__wait(node, nap ? twill__queue_soon(until) : until);
    if (nap && *status == TWILL_TIMEOUT && !twill__expired(until.deadline))
        *status = TWILL_OK; /* look again; or it is TAKEN */
    /* pairs with the CAS in twill__own */
    word = atomic_load_explicit(&node->word, memory_order_acquire);
    if ((*status != TWILL_OK || nap) && (word & TWILL__TAKEN)) {
        twill__await(node);
        *status = TWILL_OK;
        word = atomic_load_explicit(&node->word, memory_order_acquire);
    }
    if (*status == TWILL_OK && (word & TWILL__TAKEN) && !(word & TWILL__RETRY))
        return true;
    twill__queue_enter(queue, turn);
    twill__queue_waited(queue, waiter);
    waiter->first = !waiter->previous;
    waiter->counted = queue->ring.cells && twill__queue_weight(waiter) != 1; /* nobody slips by */
    twill__delist(queue, list, waiter);
    return false;
}

/* Whether a call that got nothing may wait: OK. Else what it answers; `now` if it must not wait. */
static inline twill_status twill__may_wait(const twill__queue *queue, twill_until until, bool wait,
                                           twill_status now)
{
    if (!wait)
        return now;
    return twill__queue_inside(queue) ? TWILL_DEADLOCK : twill__over(until);
}

/* Under the lock: who can help has asked, and others would do it; but they have gone since. */
static inline bool twill__queue_alone(const twill__queue *queue, bool able)
{
    return able && !atomic_load_explicit(queue->others, memory_order_seq_cst);
}

/* A pusher waits until there is room, or an item is old enough to go; `nap`: or for a moment. */
static inline bool twill__queue_wait_room(twill__queue *queue, twill__queue_turn *turn,
                                          twill__waiter *waiter, twill__node *node, bool nap,
                                          twill_until until, twill_status *over)
{
    twill_ns expiry = twill__queue_expiry(queue, TWILL__OLDEST);
    twill_until soon = nap ? twill__queue_soon(until) : until;
    if (expiry != TWILL_FOREVER && (twill__no_deadline(soon.deadline) || expiry < soon.deadline))
        soon.deadline = expiry;
    if (twill__queue_wait(queue, turn, &queue->pushers, waiter, node, soon, over))
        return true;
    if (*over == TWILL_TIMEOUT && soon.deadline != until.deadline)
        *over = TWILL_OK;
    return false;
}

/* Out of the lock and in again. False: this is a forked child. */
static inline bool twill__queue_relieve(twill__queue *queue, twill__queue_turn *turn,
                                        twill__waiter *waiter, int *relieved)
{
    twill__queue_exit(queue, turn);
    *relieved = queue->relief(queue->relief_data, waiter);
    if (!twill__queue_here(queue))
        return false;
    twill__queue_enter(queue, turn);
    return true;
}

/* Pushes. wait: a queue that blocks may do so. Answers OK, CLOSED, FULL, DROPPED, CANCELLED,
   TIMEOUT, DEADLOCK; waiter->done says how many went in. */
static inline twill_status twill__queue_put(twill__queue *queue, twill__waiter *waiter,
                                            twill_until until, bool wait, char *kept)
{
    twill__queue_turn turn;
    twill__node node;
    twill__dropped dropped = {NULL, 0, 0, TWILL_OK};
    bool spun = false, again = false, able = queue->relief, asked = !able;
    twill_status over = TWILL_OK;
    int answer;
    wait = wait && queue->overflow == TWILL_OVERFLOW_BLOCK;
    twill__queue_come(queue, &turn, waiter);
    for (;;) { /* exit: a final answer; each turn is an item dropped or another's progress */
        answer = twill__push_now(queue, &turn, waiter, kept, &dropped);
        if (dropped.count && !twill__queue_drop(queue, &turn, &dropped, kept))
            return TWILL_FORKED;
        if (answer == TWILL__AGAIN)
            continue;
        if (answer == TWILL_FULL && over == TWILL_OK)
            over = twill__may_wait(queue, until, wait, TWILL_FULL);
        if (answer == TWILL_FULL && over != TWILL_OK && twill__queue_see(queue, &turn, waiter))
            continue;
        if (answer != TWILL_FULL || over != TWILL_OK)
            break;
        if (!asked) {
            int relieved;
            if (!twill__queue_relieve(queue, &turn, waiter, &relieved))
                return TWILL_FORKED;
            answer = TWILL_OK;
            if (waiter->done == waiter->n) /* a rendezvous */
                break;
            able = relieved >= 0;
            asked = relieved <= 0;
        } else if (!again && twill__queue_alone(queue, able)) {
            asked = false; /* once: what is there may be for another's bulk, which comes first */
            again = true;
        } else if (!spun && !queue->pushers.first && !queue->ring.cells) {
            spun = true;
            if (!twill__queue_moment(queue, &turn, true))
                return TWILL_FORKED;
        } else {
            if (twill__queue_wait_room(queue, &turn, waiter, &node, twill__queue_alone(queue, able),
                                       until, &over))
                return (twill_status)node.answer;
            asked = !able;
            again = false;
        }
    }
    if (answer == TWILL_FULL)
        answer = (int)over;
    if (answer == TWILL_FULL)
        queue->counts.rejected++;
    if (waiter->counted) /* relaxed: as in twill__delist */
        atomic_fetch_sub_explicit(&queue->givers, twill__queue_weight(waiter),
                                  memory_order_relaxed);
    twill__queue_exit(queue, &turn);
    return (twill_status)answer;
}

/* Pops at least one item (waiter->whole: all n). Answers OK, CLOSED, FAILED, EMPTY, CANCELLED,
   TIMEOUT, DEADLOCK. */
static inline twill_status twill__queue_get(twill__queue *queue, twill__waiter *waiter,
                                            twill_until until, bool wait, char *kept)
{
    twill__queue_turn turn;
    twill__node node;
    twill__dropped dropped = {NULL, 0, 0, TWILL_OK};
    bool spun = false;
    twill_status over = TWILL_OK;
    int answer;
    twill__queue_come(queue, &turn, waiter);
    for (;;) { /* exit: as above */
        answer = twill__pop_now(queue, &turn, waiter, kept, &dropped);
        if (dropped.count && !twill__queue_drop(queue, &turn, &dropped, kept))
            return TWILL_FORKED;
        if (answer == TWILL__AGAIN)
            continue;
        if (answer == TWILL_EMPTY && over == TWILL_OK)
            over = twill__may_wait(queue, until, wait, TWILL_EMPTY);
        if (answer == TWILL_EMPTY && over != TWILL_OK && twill__queue_see(queue, &turn, waiter))
            continue;
        if (answer != TWILL_EMPTY || over != TWILL_OK)
            break;
        if (!spun && !queue->poppers.first && !queue->ring.cells) {
            spun = true;
            if (!twill__queue_moment(queue, &turn, false))
                return TWILL_FORKED;
        } else if (twill__queue_wait(queue, &turn, &queue->poppers, waiter, &node, until, &over)) {
            return (twill_status)node.answer;
        }
    }
    twill__queue_exit(queue, &turn);
    return answer == TWILL_EMPTY ? over : (twill_status)answer;
}

/* Waits without items: for something to pop, or (join) for everything to be done, which a call
   around it may have to do in this thread. */
static inline twill_status twill__queue_watch(twill__queue *queue, bool join, twill_until until)
{
    twill__queue_turn turn;
    twill__node node;
    twill__waiter waiter;
    twill_status over = TWILL_OK;
    bool nap, again = false, able = join && queue->relief, asked = !able;
    memset(&waiter, 0, sizeof waiter);
    twill__queue_enter(queue, &turn);
    for (;;) { /* exit: as above */
        uint32_t closed = join ? queue->doomed ? TWILL_CLOSED : 0 : twill__queue_closed(queue);
        if (closed && !join && twill__queue_length(queue))
            closed = 0; /* on its way */
        if (join ? !twill__queue_unfinished(queue) : twill__queue_readable(queue))
            over = TWILL_OK;
        else if (closed)
            over = (twill_status)closed;
        else {
            if (over == TWILL_OK)
                over = twill__may_wait(queue, until, true, TWILL_EMPTY);
            if (over != TWILL_OK && !join && twill__queue_see(queue, &turn, &waiter))
                continue;
            if (over == TWILL_OK && !asked) {
                int relieved;
                if (!twill__queue_relieve(queue, &turn, NULL, &relieved))
                    return TWILL_FORKED;
                able = relieved >= 0;
                asked = relieved <= 0;
                if (relieved == -2) /* it would wait for itself */
                    over = TWILL_DEADLOCK;
                continue;
            }
            nap = twill__queue_length(queue) && twill__queue_alone(queue, able);
            if (over == TWILL_OK && nap && !again) {
                asked = false; /* once: what is there may still be on its way */
                again = true;
                continue;
            }
            if (over == TWILL_OK) {
                twill_until soon = nap ? twill__queue_soon(until) : until;
                if (twill__queue_wait(queue, &turn, join ? &queue->joiners : &queue->watchers,
                                      &waiter, &node, soon, &over))
                    return (twill_status)node.answer;
                if (over == TWILL_TIMEOUT && soon.deadline != until.deadline)
                    over = TWILL_OK;
                asked = !able;
                again = false;
                continue;
            }
        }
        twill__queue_exit(queue, &turn);
        return over;
    }
}

#endif
