/* queue_turn.h: a turn under the lock: items in and out, and answers to those who wait for them. */
#ifndef TWILL__ENGINE_QUEUE_TURN_H
#define TWILL__ENGINE_QUEUE_TURN_H

#include "engine/queue_state.h"

/* ---- a turn under the lock ---- */

typedef struct twill__queue_turn { /* whom to wake after it */
    unsigned count;
    _Atomic uint32_t *word[16];
} twill__queue_turn;

/* The process that a queue was made in. A call that lets go of the lock, after which on_level may
   fork and, in the parent, the queue may be gone, takes it along. */
typedef struct twill__queue_home {
    const _Atomic uint32_t *mark;
    uint32_t generation;
} twill__queue_home;

static inline twill__queue_home twill__queue_home_of(const twill__queue *queue)
{
    twill__queue_home home = {queue->mark, queue->generation};
    return home;
}

static inline bool twill__queue_is_home(twill__queue_home home)
{
    /* a number, set before */
    return atomic_load_explicit(home.mark, memory_order_relaxed) == home.generation;
}

static inline bool twill__queue_here(const twill__queue *queue)
{
    return twill__queue_is_home(twill__queue_home_of(queue));
}

/* Whoever has the lock is likely to push, or to pop, a row of items: worth a wait without a look,
   and a longer one if he still has it. Then, where there are more threads than CPUs, it may be this
   one's CPU that he waits for. */
static __attribute__((noinline)) void twill__queue_lock_late(twill__queue *queue)
{
    for (twill_ns row = TWILL__ROW; row <= TWILL__ROW_MOST && twill__spin_helps(); row *= 2) {
        twill__spin_away(row);
        if (twill__light_try(&queue->lock))
            return;
        if (row == TWILL__ROW)
            continue;
        twill__yield();
        if (twill__light_try(&queue->lock))
            return;
    }
    twill__light_take(&queue->lock, TWILL__QUEUE_SPIN);
}

static inline void twill__queue_lock(twill__queue *queue)
{
    if (!twill__light_try(&queue->lock))
        twill__queue_lock_late(queue);
}

static inline void twill__queue_enter(twill__queue *queue, twill__queue_turn *turn)
{
    turn->count = 0;
    twill__queue_lock(queue);
}

static inline void twill__queue_come(twill__queue *queue, twill__queue_turn *turn,
                                     twill__waiter *waiter)
{
    turn->count = 0;
    if (!waiter->inside)
        twill__queue_lock(queue);
    waiter->inside = false;
}

static inline void twill__granted(twill__queue *queue, twill__queue_turn *turn, twill__node *node,
                                  uint32_t bits)
{
    _Atomic uint32_t *word = &node->word;
    /* acq_rel: pairs with the load in twill__wait; after it the node may be gone */
    atomic_fetch_or_explicit(word, bits, memory_order_acq_rel);
    queue->counts.wakes++;
    if (turn->count < sizeof turn->word / sizeof turn->word[0])
        turn->word[turn->count++] = word;
    else
        twill__wake(word, 1);
}

static inline void twill__queue_waited(twill__queue *queue, const twill__waiter *waiter)
{
    twill__queue_counts *counts = &queue->counts;
    twill_ns took = twill__clock_now() - waiter->since;
    if (waiter->from) {
        counts->push_wait_total += took;
        if (took > counts->push_wait_max)
            counts->push_wait_max = took;
    } else if (waiter->to) {
        counts->pop_wait_total += took;
        if (took > counts->pop_wait_max)
            counts->pop_wait_max = took;
    }
}

/* A waiter that is owned gets its answer, and is no longer ours. */
static inline void twill__queue_answer(twill__queue *queue, twill__queue_turn *turn,
                                       twill__queue_list *list, twill__waiter *waiter, int answer)
{
    twill__queue_waited(queue, waiter);
    twill__delist(queue, list, waiter);
    waiter->node->answer = answer;
    waiter->node->value = waiter;
    twill__granted(queue, turn, waiter->node, TWILL__GRANTED);
}

static inline void twill__queue_answer_all(twill__queue *queue, twill__queue_turn *turn,
                                           twill__queue_list *list, int answer)
{
    for (twill__waiter *waiter = list->first, *next; waiter; waiter = next) {
        next = waiter->next;
        if (twill__own(waiter))
            twill__queue_answer(queue, turn, list, waiter, answer);
    }
}

/* An owned waiter that gets nothing after all: it looks again. */
static inline void twill__queue_retry(twill__queue *queue, twill__queue_turn *turn,
                                      twill__waiter *waiter)
{
    twill__granted(queue, turn, waiter->node, TWILL__GRANTED | TWILL__RETRY);
}

/* ---- items ---- */

/* Under the lock: those who wait outside it for a moment shall look. */
static inline void twill__queue_hint(_Atomic uint32_t *word)
{
    /* relaxed: they look again under the lock, which alone changes it */
    uint32_t seen = atomic_load_explicit(word, memory_order_relaxed);
    atomic_store_explicit(word, seen + 1, memory_order_relaxed);
}

/* Under the lock: of two items of one priority the one that is accepted later must not be the
   sooner, whichever push has read the clock first. cell->at: what its key was reckoned from; 0: the
   key knows no time. */
static inline void twill__queue_rank(twill__queue *queue, twill__cell *cell)
{
    if (!cell->at)
        return;
    if (cell->at >= queue->store.latest)
        queue->store.latest = cell->at;
    else if (__builtin_add_overflow(cell->key, queue->store.latest - cell->at, &cell->key))
        cell->key = INT64_MAX;
}

/* Takes in `count` of the waiter's items. A ring may have less room by now: what came in is added
   to waiter->done. */
static inline void twill__queue_accept(twill__queue *queue, twill__waiter *waiter, size_t count)
{
    twill__cell cell = waiter->cell;
    if (queue->ring.cells) {
        waiter->done +=
            twill__ring_put_many(&queue->ring, waiter->from + waiter->done * queue->store.size,
                                 count, waiter->whole ? waiter->n - waiter->done : 1);
        return;
    }
    twill__queue_rank(queue, &cell);
    if (queue->times)
        cell.at = twill__clock_now();
    for (size_t k = 0; k < count; k++) {
        cell.number = queue->store.next++;
        twill__store_put(&queue->store, waiter->from + waiter->done * queue->store.size, &cell);
        waiter->done++;
        queue->bytes += cell.bytes;
    }
    if (queue->popping)
        twill__queue_hint(&queue->filled);
}

static inline void twill__queue_aged(twill__queue *queue, twill_ns at, twill_ns now)
{
    twill_ns age = now > at ? now - at : 0;
    queue->counts.age_total += age;
    if (age > queue->counts.age_max)
        queue->counts.age_max = age;
}

/* Takes one item out of the store; `to` may be NULL. */
static inline twill__cell twill__queue_take(twill__queue *queue, twill__which which, void *to)
{
    size_t at = twill__store_find(&queue->store, which);
    twill__cell cell = twill__store_cell(&queue->store, at);
    twill__store_take(&queue->store, at, to);
    queue->bytes -= cell.bytes;
    if (queue->pushing)
        twill__queue_hint(&queue->freed);
    return cell;
}

/* When the first item to look at expires; TWILL_FOREVER: never. A push in need of room looks at the
   oldest, a pop at the one that it would get. */
static inline twill_ns twill__queue_expiry(twill__queue *queue, twill__which which)
{
    twill_ns at;
    if (queue->max_age == TWILL_FOREVER)
        return TWILL_FOREVER;
    TWILL_ASSERT(queue->store.length); /* who finds no room, or something to pop, asks */
    at = twill__store_cell(&queue->store, twill__store_find(&queue->store, which)).at;
    return at > TWILL_FOREVER - queue->max_age ? TWILL_FOREVER : at + queue->max_age;
}

/* Gives `count` items to the waiter; of a ring, what is there by now, and of aged items those
   before the next that has expired: see waiter->done. */
static inline void twill__queue_deliver(twill__queue *queue, twill__waiter *waiter, size_t count)
{
    twill_ns now;
    if (queue->ring.cells) {
        waiter->done +=
            twill__ring_take_many(&queue->ring, waiter->to + waiter->done * queue->store.size,
                                  waiter->numbers ? waiter->numbers + waiter->done : NULL, count);
        return;
    }
    now = queue->times ? twill__clock_now() : 0;
    for (size_t k = 0; k < count; k++) {
        if (k && queue->times && now >= twill__queue_expiry(queue, TWILL__NEXT))
            break;
        twill__cell cell =
            twill__queue_take(queue, TWILL__NEXT, waiter->to + waiter->done * queue->store.size);
        if (waiter->numbers)
            waiter->numbers[waiter->done] = cell.number;
        if (queue->times)
            twill__queue_aged(queue, cell.at, now);
        waiter->done++;
    }
}

/* From a pusher's hand to a popper's: rendezvous. */
static inline void twill__queue_hand_over(twill__queue *queue, twill__waiter *push,
                                          twill__waiter *pop)
{
    uint64_t number = queue->store.next++;
    size_t size = queue->store.size;
    twill__copy(pop->to + pop->done * size, push->from + push->done * size, size);
    if (pop->numbers)
        pop->numbers[pop->done] = number;
    push->done++;
    pop->done++;
}

/* How many of the pusher's items may come in now. */
static inline size_t twill__queue_room(const twill__queue *queue, const twill__waiter *waiter)
{
    size_t room, want = waiter->n - waiter->done;
    if (queue->ring.cells && !twill__ring_writable(&queue->ring, waiter->whole ? want : 1))
        return 0;
    room = queue->ring.cells ? twill__ring_room(&queue->ring)
                             : queue->store.capacity - queue->store.length;
    if (queue->max_bytes && waiter->cell.bytes > queue->max_bytes - queue->bytes)
        return 0;
    if (waiter->whole && room < want)
        return 0;
    return room < want ? room : want;
}

/* How many items a pop may find now; those on their way do not count. */
static inline size_t twill__queue_there(const twill__queue *queue)
{
    if (queue->ring.cells && !twill__ring_readable(&queue->ring))
        return 0;
    return twill__queue_length(queue);
}

/* ---- settle ---- */

static inline bool twill__settle_pushers(twill__queue *queue, twill__queue_turn *turn)
{
    bool moved = false;
    for (twill__waiter *waiter = queue->pushers.first, *next; waiter; waiter = next) {
        size_t room;
        /* a bulk in a ring that does not wait now may look again: it will have the lock soon */
        bool stays = queue->ring.cells && twill__queue_weight(waiter) != 1;
        next = waiter->next;
        if (!twill__waits(waiter)) {
            if (stays)
                break;
            continue;
        }
        room = twill__queue_room(queue, waiter);
        if (room == 0)
            break; /* those behind it wait their turn */
        moved = true;
        if (room < waiter->n - waiter->done) {
            /* a part; its memory stays until it has had the lock again */
            twill__queue_accept(queue, waiter, room);
            break;
        }
        if (!twill__own(waiter)) {
            if (stays)
                break;
            continue;
        }
        twill__queue_accept(queue, waiter, room);
        if (waiter->done < waiter->n) { /* a ring, and somebody was quicker */
            twill__queue_retry(queue, turn, waiter);
            break;
        }
        twill__queue_answer(queue, turn, &queue->pushers, waiter, TWILL_OK);
    }
    return moved;
}

static inline bool twill__settle_poppers(twill__queue *queue, twill__queue_turn *turn)
{
    bool moved = false;
    for (twill__waiter *waiter = queue->poppers.first, *next; waiter; waiter = next) {
        size_t want = waiter->n - waiter->done, length = twill__queue_there(queue);
        next = waiter->next;
        if (length == 0)
            break;
        if (!twill__waits(waiter))
            continue;
        moved = true;
        if (waiter->whole && length < want) {
            twill__queue_deliver(queue, waiter, length);
            break;
        }
        if (!twill__own(waiter))
            continue;
        twill__queue_deliver(queue, waiter, want < length ? want : length);
        if (waiter->whole ? waiter->done < waiter->n : !waiter->done) { /* as above */
            twill__queue_retry(queue, turn, waiter);
            break;
        }
        twill__queue_answer(queue, turn, &queue->poppers, waiter, TWILL_OK);
    }
    return moved;
}

static inline bool twill__queue_readable(const twill__queue *queue)
{
    return twill__queue_there(queue) || (!queue->store.capacity && twill__first(&queue->pushers));
}

static inline uint32_t twill__queue_closed(const twill__queue *queue)
{
    /* under the lock, or as a hint */
    return atomic_load_explicit(&queue->closed, memory_order_relaxed);
}

static inline void twill__queue_settle(twill__queue *queue, twill__queue_turn *turn)
{
    bool moved = true;
    uint32_t closed = twill__queue_closed(queue);
    while (moved && (queue->pushers.first || queue->poppers.first)) {
        /* exit: items and waiters are finite; each turn moves one */
        moved = queue->pushers.first && !closed && queue->store.capacity &&
                twill__settle_pushers(queue, turn);
        if (queue->poppers.first)
            moved = twill__settle_poppers(queue, turn) || moved;
    }
    if (closed) {
        twill__queue_answer_all(queue, turn, &queue->pushers, TWILL_CLOSED);
        if (!twill__queue_length(queue))
            twill__queue_answer_all(queue, turn, &queue->poppers, (int)closed);
    }
    if (queue->watchers.first) {
        if (twill__queue_readable(queue))
            twill__queue_answer_all(queue, turn, &queue->watchers, TWILL_OK);
        else if (closed && !twill__queue_length(queue))
            twill__queue_answer_all(queue, turn, &queue->watchers, (int)closed);
    }
    if (queue->joiners.first) {
        bool unfinished = twill__queue_unfinished(queue); /* once: pushes go on meanwhile */
        if (!unfinished || queue->doomed)
            twill__queue_answer_all(queue, turn, &queue->joiners,
                                    unfinished ? TWILL_CLOSED : TWILL_OK);
    }
}

#endif
