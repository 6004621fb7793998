/* queue.h: a bounded queue under a small lock: the store, those who wait, and the books. */
#ifndef TWILL__ENGINE_QUEUE_H
#define TWILL__ENGINE_QUEUE_H

#include "engine/queue_store.h"

/* Everything is decided under one lock by one function, twill__queue_settle: it moves items of
   waiting pushers into the store and items of the store to waiting poppers until nothing moves any
   more. So while the lock is free, no popper waits beside an item that it could have, and no
   pusher at the head of its list beside room that it could use.

   A plain queue (first in, first out; blocking, rejecting or dropping its oldest; nothing to ask of
   an item) keeps its items in a ring (engine/ring.h), and takes the lock only where somebody has to
   wait, or waits: twill__quick_put and twill__quick_take. `takers` and `givers` count those who are
   listed. Who has moved an item loads the count (seq_cst, after its seq_cst claim) and settles if
   it is not 0; who waits raises the count (seq_cst), and settles. One of the two sees the other;
   but an item that was claimed before the count was raised, and is not there yet, may come without
   a word: while the positions say so (twill__queue_naps) the waiting thread looks again by itself.
   With a ring, a newcomer may overtake a thread that waits, but not a bulk.

   The protocol of engine/cancel.h, with one bit more. A select waits in the lists of several
   queues, each with a lock of its own, on one word; a granter must own that wait before it copies
   an item. TAKEN is set by a compare-and-swap that fails once TAKEN or LEAVING is there, so exactly
   one queue gets the waiter, and a waiter that finds TAKEN beside its LEAVING knows that GRANTED
   follows. RETRY beside GRANTED: the waiter still stands in the list, and looks again by itself. */
enum { TWILL__TAKEN = 8, TWILL__RETRY = 16 };
/* beside the public statuses */
enum { TWILL__AGAIN = -1, TWILL__ELSEWHERE = -2, TWILL__ANEW = -3 };
enum {
    TWILL__AWAY = 200,
    TWILL__PATIENCE = 1500,
    TWILL__ROW = 1000,
    TWILL__ROW_MOST = 8000
}; /* ns */
/* ns: twice a parked round trip. Who parks makes a holder wake him, and many threads behind one lock
   would do nothing else. */
enum { TWILL__QUEUE_SPIN = 20000 };
enum { TWILL__KEPT = 4096 }; /* bytes of the largest item that a drop callback can be given */

typedef struct twill__waiter { /* one thread's place in one list */
    struct twill__waiter *next, *previous;
    twill__node *node;
    const char *from;  /* items to push */
    char *to;          /* room for items to pop */
    uint64_t *numbers; /* of the items popped; may be NULL */
    size_t n, done;
    bool whole;         /* push: all of them at once; pop: not before all n are there */
    bool shared;        /* the node waits elsewhere, too */
    bool listed, first; /* first: it was, when it left the list */
    bool counted;       /* it is not listed, but counted: a bulk that looks again */
    bool inside;        /* its thread has the lock already */
    twill__cell cell;   /* key and bytes of an item to push */
    twill_ns since;
} twill__waiter;

typedef struct twill__queue_list { /* in order of arrival */
    twill__waiter *first, *last;
} twill__queue_list;

/* A callback of the queue that runs now, on its caller's stack. */
typedef struct twill__queue_calling {
    struct twill__queue_calling *next;
    struct twill_queue *queue;
    uint64_t thread;
    struct twill__dropped *dropped; /* NULL: it is on_level */
} twill__queue_calling;

typedef struct twill__queue_counts {
    uint64_t accepted, popped, dropped, expired, cleared, rejected, push_waits, pop_waits, wakes;
    size_t peak;
    twill_ns push_wait_total, push_wait_max, pop_wait_total, pop_wait_max, age_total, age_max;
} twill__queue_counts;

typedef struct twill_queue {
    _Atomic uint32_t lock;
    /* under the lock */
    bool doomed, telling, is_high;
    twill__store store;
    size_t bytes;
    twill__queue_list pushers, poppers, watchers, joiners;
    twill__node *destroyer;
    twill__queue_calling *calls;
    /* task_done; dropped, expired or cleared, and their callback has returned */
    uint64_t finished, gone;
    /* how often the level changed; how often it was told */
    uint64_t level_turns, told;
    unsigned pushing, popping;            /* threads that wait outside the lock for a moment */
    uint32_t push_patience, pop_patience; /* for how long: see twill__patience */
    unsigned producers;
    twill__queue_counts counts;
    /* read without the lock, written under it */
    _Atomic size_t length;
    _Atomic uint32_t closed; /* 0; CLOSED or FAILED: what a drained queue answers */
    _Atomic int code;
    _Alignas(TWILL__LINE) _Atomic uint32_t filled, freed; /* change for those who wait outside */
    /* listed: poppers and watchers; pushers, and bulks among them in the high half */
    _Alignas(TWILL__LINE) _Atomic uint32_t takers, givers;
    /* set at creation */
    _Alignas(TWILL__LINE) uint32_t generation;
    const _Atomic uint32_t *mark; /* holds the generation of this process */
    twill_overflow overflow;
    bool times;       /* cells keep them */
    bool brief;       /* neither a ring nor a rendezvous: see twill__brief_put */
    twill_ns max_age; /* TWILL_FOREVER: none */
    size_t max_bytes, high_mark, low_mark;
    twill_ns ageing;
    int (*priority_of)(const void *item, const twill_task *task);
    size_t (*bytes_of)(const void *item, const twill_task *task);
    twill_drop_fn *drop;
    void (*on_level)(bool high, size_t length, const twill_task *task);
    void *context, *memory;
    /* a call around it: instead of waiting for room, do something about it (1), unless somebody
       else will (0) or this thread cannot (-1). Whoever makes *others 0 tells the waiting pushers
       then */
    int (*relief)(void *data);
    void *relief_data;
    const _Atomic uint32_t *others;
    twill__ring ring; /* the items of a plain queue */
} twill__queue;

/* ---- figures ---- */

static inline size_t twill__queue_length(const twill__queue *queue)
{
    return queue->ring.cells ? twill__ring_length(&queue->ring) : queue->store.length;
}

static inline uint64_t twill__queue_accepted(const twill__queue *queue)
{
    return queue->ring.cells ? twill__ring_pushed(&queue->ring) : queue->counts.accepted;
}

static inline uint64_t twill__queue_popped(const twill__queue *queue)
{
    return queue->ring.cells
               ? twill__ring_popped(&queue->ring) - queue->counts.cleared - queue->counts.dropped
               : queue->counts.popped;
}

/* Accepted, and neither finished nor gone. Under the lock. */
static inline bool twill__queue_unfinished(const twill__queue *queue)
{
    return twill__queue_accepted(queue) != queue->finished + queue->gone;
}

/* ---- lists ---- */

enum { TWILL__BULK = 0x10000 };

static inline uint32_t twill__queue_weight(const twill__waiter *waiter)
{
    return waiter->from && waiter->whole ? TWILL__BULK + 1 : 1;
}

static inline _Atomic uint32_t *twill__queue_gate(twill__queue *queue,
                                                  const twill__queue_list *list)
{
    return list == &queue->joiners   ? NULL
           : list == &queue->pushers ? &queue->givers
                                     : &queue->takers;
}

static inline void twill__enlist(twill__queue *queue, twill__queue_list *list,
                                 twill__waiter *waiter, bool front)
{
    _Atomic uint32_t *gate = twill__queue_gate(queue, list);
    if (gate && !waiter->counted) /* seq_cst: pairs with the loads in twill__quick_put and _take */
        atomic_fetch_add(gate, twill__queue_weight(waiter));
    waiter->counted = false;
    waiter->listed = true;
    waiter->next = front ? list->first : NULL;
    waiter->previous = front ? NULL : list->last;
    if (waiter->next)
        waiter->next->previous = waiter;
    else
        list->last = waiter;
    if (waiter->previous)
        waiter->previous->next = waiter;
    else
        list->first = waiter;
}

static inline void twill__delist(twill__queue *queue, twill__queue_list *list,
                                 twill__waiter *waiter)
{
    _Atomic uint32_t *gate = twill__queue_gate(queue, list);
    if (gate && !waiter->counted) /* relaxed: one too many costs a look */
        atomic_fetch_sub_explicit(gate, twill__queue_weight(waiter), memory_order_relaxed);
    waiter->listed = false;
    if (waiter->previous)
        waiter->previous->next = waiter->next;
    else
        list->first = waiter->next;
    if (waiter->next)
        waiter->next->previous = waiter->previous;
    else
        list->last = waiter->previous;
}

/* Ring: whether a bulk waits that this one must not overtake. Under the lock, which alone changes
   the count: relaxed. */
static inline bool twill__queue_behind(const twill__queue *queue, const twill__waiter *waiter)
{
    return atomic_load_explicit(&queue->givers, memory_order_relaxed) -
               (waiter->counted ? twill__queue_weight(waiter) : 0) >=
           TWILL__BULK;
}

static inline bool twill__waits(const twill__waiter *waiter)
{
    /* a guess; the CAS in twill__own decides */
    return !(atomic_load_explicit(&waiter->node->word, memory_order_relaxed) &
             (TWILL__TAKEN | TWILL__LEAVING));
}

/* The first that still waits. */
static inline twill__waiter *twill__first(const twill__queue_list *list)
{
    twill__waiter *waiter = list->first;
    while (waiter && !twill__waits(waiter))
        waiter = waiter->next;
    return waiter;
}

/* False: it is leaving, or another queue has it. */
static inline bool twill__own(twill__waiter *waiter)
{
    _Atomic uint32_t *word = &waiter->node->word;
    uint32_t seen = atomic_load_explicit(word, memory_order_relaxed);
    do
        if (seen & (TWILL__TAKEN | TWILL__LEAVING))
            return false;
    /* acq_rel: pairs with the same CAS of other queues and with the waiter's fetch_or(LEAVING) */
    while (!atomic_compare_exchange_weak_explicit(word, &seen, seen | TWILL__TAKEN,
                                                  memory_order_acq_rel, memory_order_relaxed));
    return true;
}

/* ---- a turn under the lock ---- */

typedef struct twill__queue_turn { /* whom to wake after it */
    unsigned count;
    _Atomic uint32_t *word[16];
} twill__queue_turn;

static inline bool twill__queue_here(const twill__queue *queue)
{
    /* a number, set before */
    return atomic_load_explicit(queue->mark, memory_order_relaxed) == queue->generation;
}

/* Whoever has the lock is likely to push, or to pop, a row of items: worth a wait without a look,
   and a longer one if he still has it. Where there are more threads than CPUs, it may be this one's
   CPU that he waits for. */
static __attribute__((noinline)) void twill__queue_lock_late(twill__queue *queue)
{
    for (twill_ns row = TWILL__ROW; row <= TWILL__ROW_MOST && twill__spin_helps(); row *= 2) {
        twill__spin_away(row);
        if (twill__try_lock(&queue->lock))
            return;
        twill__yield();
        if (twill__try_lock(&queue->lock))
            return;
    }
    twill__lock_after(&queue->lock, TWILL__QUEUE_SPIN);
}

static inline void twill__queue_lock(twill__queue *queue)
{
    if (!twill__try_lock(&queue->lock))
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
    if (queue->times)
        cell.at = twill__clock_now();
    for (size_t k = 0; k < count; k++) {
        cell.number = queue->store.next++;
        twill__store_put(&queue->store, waiter->from + waiter->done * queue->store.size, &cell);
        waiter->done++;
        queue->bytes += cell.bytes;
    }
    queue->counts.accepted += count;
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

/* Gives `count` items to the waiter; of a ring, what is there by now: see waiter->done. */
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
        twill__cell cell =
            twill__queue_take(queue, TWILL__NEXT, waiter->to + waiter->done * queue->store.size);
        if (waiter->numbers)
            waiter->numbers[waiter->done] = cell.number;
        if (queue->times)
            twill__queue_aged(queue, cell.at, now);
        waiter->done++;
    }
    queue->counts.popped += count;
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
    queue->counts.accepted++;
    queue->counts.popped++;
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
    if (queue->joiners.first && (!twill__queue_unfinished(queue) || queue->doomed))
        twill__queue_answer_all(queue, turn, &queue->joiners,
                                twill__queue_unfinished(queue) ? TWILL_CLOSED : TWILL_OK);
}

/* ---- leaving the lock ---- */

static inline void twill__queue_tell(twill__queue *queue);

static inline bool twill__queue_deserted(const twill__queue *queue)
{
    return !queue->pushers.first && !queue->poppers.first && !queue->watchers.first &&
           !queue->joiners.first && !queue->calls && !queue->pushing && !queue->popping &&
           !twill__lock_wanted(&queue->lock);
}

/* Whether this length is one to tell. */
static inline bool twill__queue_turns(const twill__queue *queue, size_t length)
{
    return queue->on_level &&
           (queue->is_high ? length <= queue->low_mark : length >= queue->high_mark);
}

/* Notes what a change of length means. True: the caller has to tell the level. */
static inline bool twill__queue_level(twill__queue *queue)
{
    size_t length = queue->store.length;
    if (queue->ring.cells)
        return false;
    if (length > queue->counts.peak)
        queue->counts.peak = length;
    atomic_store_explicit(&queue->length, length, memory_order_relaxed); /* a hint */
    if (!queue->on_level || queue->doomed)
        return false;
    if (twill__queue_turns(queue, length)) {
        queue->is_high = !queue->is_high;
        queue->level_turns++;
    }
    return queue->level_turns != queue->told && !queue->telling;
}

/* The only way out of the lock. quiet: a change of level is told by the next one who comes. */
static inline void twill__queue_leave(twill__queue *queue, twill__queue_turn *turn, bool quiet)
{
    bool tell;
    twill__queue_settle(queue, turn);
    tell = twill__queue_level(queue) && !quiet;
    if (tell)
        queue->telling = true;
    if (queue->destroyer && !tell && !queue->telling && twill__queue_deserted(queue)) {
        twill__node *node = queue->destroyer;
        queue->destroyer = NULL;
        twill__granted(queue, turn, node, TWILL__GRANTED);
    }
    twill__unlock(&queue->lock);
    for (unsigned k = 0; k < turn->count; k++)
        twill__wake(turn->word[k], 1);
    if (tell)
        twill__queue_tell(queue);
}

static inline void twill__queue_exit(twill__queue *queue, twill__queue_turn *turn)
{
    twill__queue_leave(queue, turn, false);
}

static inline void twill__calling_begin(twill__queue *queue, twill__queue_calling *calling)
{
    calling->queue = queue;
    calling->thread = twill__thread_number();
    calling->dropped = NULL;
    calling->next = queue->calls;
    queue->calls = calling;
}

static inline void twill__calling_end(twill__queue *queue, const twill__queue_calling *calling)
{
    twill__queue_calling **link = &queue->calls;
    while (*link != calling)
        link = &(*link)->next;
    *link = calling->next;
}

/* Whether this thread runs a callback of this queue. */
static inline bool twill__queue_inside(const twill__queue *queue)
{
    const twill__queue_calling *calling = queue->calls;
    while (calling && calling->thread != twill__thread_number())
        calling = calling->next;
    return calling != NULL;
}

static inline twill_task twill__queue_task(const twill__queue *queue, size_t index)
{
    twill_task task = {index, queue->context, UINT_MAX, 0, NULL, {0, NULL}, NULL};
    return task;
}

typedef struct twill__dropped { /* items that the drop callback has to see, once unlocked */
    const char *from;
    size_t count;
    uint64_t number;
    twill_status why;
} twill__dropped;

/* A callback has ended the thread: what it had to tell or to drop beside counts as told and gone. */
static inline void twill__calling_ended(void *calling_)
{
    twill__queue_calling *calling = (twill__queue_calling *)calling_;
    twill__queue *queue = calling->queue;
    twill__queue_turn turn;
    if (!twill__queue_here(queue))
        return;
    twill__queue_enter(queue, &turn);
    if (calling->dropped)
        queue->gone += calling->dropped->count;
    else
        queue->telling = false;
    twill__calling_end(queue, calling);
    twill__queue_leave(queue, &turn, true);
}

/* noinline: its locals must not stand in the frame of a guard, which may be a setjmp */
static __attribute__((noinline)) void twill__queue_call_drop(twill__queue_calling *calling,
                                                             char *item, const twill_task *task)
{
    TWILL__GUARD_PUSH(twill__calling_ended, calling);
    calling->queue->drop(item, calling->dropped->why, task);
    TWILL__GUARD_POP(0);
}

static __attribute__((noinline)) void twill__queue_call_level(twill__queue_calling *calling,
                                                              bool high, size_t length,
                                                              const twill_task *task)
{
    TWILL__GUARD_PUSH(twill__calling_ended, calling);
    calling->queue->on_level(high, length, task);
    TWILL__GUARD_POP(0);
}

/* A callback may fork. In the child nothing of the queue is touched from its return on: another
   thread of the parent may have had the lock. */

/* Whoever set `telling` tells all changes of level, in order. */
static inline void twill__queue_tell(twill__queue *queue)
{
    twill__queue_calling calling;
    twill__queue_turn turn;
    twill_task task = twill__queue_task(queue, SIZE_MAX);
    twill__queue_enter(queue, &turn);
    twill__calling_begin(queue, &calling);
    while (queue->told != queue->level_turns) { /* exit: no change since */
        bool high = queue->told++ % 2 == 0;
        size_t length = queue->store.length;
        twill__queue_exit(queue, &turn);
        twill__queue_call_level(&calling, high, length, &task);
        if (!twill__queue_here(queue))
            return;
        twill__queue_enter(queue, &turn);
    }
    queue->telling = false;
    twill__calling_end(queue, &calling);
    twill__queue_exit(queue, &turn);
}

/* ---- drops ---- */

/* Under the lock, which it leaves for each callback. `kept`: room for an item. False: this is a
   forked child, where nobody has the lock. */
static inline bool twill__queue_drop(twill__queue *queue, twill__queue_turn *turn,
                                     twill__dropped *dropped, char *kept)
{
    twill__queue_calling calling;
    if (!queue->drop) {
        queue->gone += dropped->count;
        dropped->count = 0;
        return true;
    }
    twill__calling_begin(queue, &calling);
    calling.dropped = dropped;
    for (; dropped->count; dropped->count--) {
        twill_task task = twill__queue_task(queue, (size_t)dropped->number++);
        twill__queue_exit(queue, turn);
        if (dropped->from != kept) {
            memcpy(kept, dropped->from, queue->store.size);
            dropped->from += queue->store.size;
        }
        twill__queue_call_drop(&calling, kept, &task);
        if (!twill__queue_here(queue))
            return false;
        twill__queue_enter(queue, turn);
        queue->gone++;
    }
    twill__calling_end(queue, &calling);
    return true;
}

/* Takes one item out to be dropped. */
static inline void twill__queue_evict(twill__queue *queue, twill__which which, twill_status why,
                                      char *kept, twill__dropped *dropped)
{
    dropped->from = kept;
    dropped->count = 1;
    dropped->why = why;
    if (!queue->ring.cells)
        dropped->number = twill__queue_take(queue, which, queue->drop ? kept : NULL).number;
    else if (!twill__ring_take_one(&queue->ring, queue->drop ? kept : NULL, &dropped->number)) {
        dropped->count = 0; /* somebody was quicker */
        return;
    }
    if (why == TWILL_TIMEOUT)
        queue->counts.expired++;
    else if (why == TWILL_CANCELLED)
        queue->counts.cleared++;
    else
        queue->counts.dropped++;
}

/* When the first item to look at expires; TWILL_FOREVER: never. A push in need of room looks at the
   oldest, a pop at the one that it would get. */
static inline twill_ns twill__queue_expiry(twill__queue *queue, twill__which which)
{
    twill_ns at;
    if (queue->max_age == TWILL_FOREVER || !queue->store.length)
        return TWILL_FOREVER;
    at = twill__store_cell(&queue->store, twill__store_find(&queue->store, which)).at;
    return at > TWILL_FOREVER - queue->max_age ? TWILL_FOREVER : at + queue->max_age;
}

static inline bool twill__queue_expire(twill__queue *queue, twill__which which, char *kept,
                                       twill__dropped *dropped)
{
    twill_ns at = twill__queue_expiry(queue, which);
    if (at == TWILL_FOREVER || twill__clock_now() < at)
        return false;
    twill__queue_evict(queue, which, TWILL_TIMEOUT, kept, dropped);
    return true;
}

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
        if (twill__queue_expire(queue, TWILL__OLDEST, kept, dropped))
            return TWILL__AGAIN;
    }
    if (queue->ring.cells && queue->overflow == TWILL_OVERFLOW_DROP_OLDEST)
        return twill__push_over(queue, turn, waiter, kept, dropped);
    if (queue->overflow == TWILL_OVERFLOW_DROP_INCOMING) {
        dropped->from = waiter->from + waiter->done * queue->store.size;
        dropped->count = waiter->n - waiter->done;
        dropped->number = queue->store.next;
        dropped->why = TWILL_DROPPED;
        queue->store.next += dropped->count;
        queue->counts.accepted += dropped->count;
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
        return waiter->whole && waiter->done < waiter->n ? TWILL_EMPTY : TWILL_OK;
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
   then; where items come one at a time, it looks soon. */
static inline uint32_t twill__patience(uint32_t had, bool batch)
{
    uint32_t now = batch ? 2 * had + TWILL__AWAY : had / 2;
    return now < TWILL__PATIENCE ? now : TWILL__PATIENCE;
}

/* Before a node is put into a list: a moment outside the lock, since a parked round trip costs far
   more. Under the lock on both sides. */
static inline void twill__queue_moment(twill__queue *queue, twill__queue_turn *turn, bool push)
{
    _Atomic uint32_t *word = push ? &queue->freed : &queue->filled;
    unsigned *threads = push ? &queue->pushing : &queue->popping;
    uint32_t *patience = push ? &queue->push_patience : &queue->pop_patience;
    twill__queue_look look = {word, atomic_load_explicit(word, memory_order_relaxed)};
    bool away = twill__spin_helps() && queue->store.capacity >= TWILL__RING_LARGE;
    twill_ns absence = TWILL__AWAY + *patience;
    (*threads)++;
    twill__queue_exit(queue, turn);
    if (away)
        twill__spin_away(absence);
    if (!away || !twill__queue_changed(&look))
        (void)twill__spin_for(twill__queue_changed, &look, TWILL__SPIN_WAIT, TWILL__SPIN_YIELDS);
    twill__queue_enter(queue, turn);
    (*threads)--;
    if (away)
        *patience = twill__patience(*patience, (push ? queue->store.capacity - queue->store.length
                                                     : queue->store.length) >= TWILL__RING_BATCH);
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
    twill__queue_exit(queue, turn);
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

/* A pusher waits until there is room, or an item is old enough to go. */
static inline bool twill__queue_wait_room(twill__queue *queue, twill__queue_turn *turn,
                                          twill__waiter *waiter, twill__node *node,
                                          twill_until until, twill_status *over)
{
    twill_ns expiry = twill__queue_expiry(queue, TWILL__OLDEST);
    twill_until soon = until;
    bool early =
        expiry != TWILL_FOREVER && (twill__no_deadline(until.deadline) || expiry < until.deadline);
    if (early)
        soon.deadline = expiry;
    if (twill__queue_wait(queue, turn, &queue->pushers, waiter, node, soon, over))
        return true;
    if (*over == TWILL_TIMEOUT && early)
        *over = TWILL_OK;
    return false;
}

/* Pushes. wait: a queue that blocks may do so. Answers OK, CLOSED, FULL, DROPPED, CANCELLED,
   TIMEOUT, DEADLOCK; waiter->done says how many went in. */
static inline twill_status twill__queue_put(twill__queue *queue, twill__waiter *waiter,
                                            twill_until until, bool wait, char *kept)
{
    twill__queue_turn turn;
    twill__node node;
    twill__dropped dropped = {NULL, 0, 0, TWILL_OK};
    bool spun = false, able = queue->relief, asked = !able;
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
            twill__queue_exit(queue, &turn);
            relieved = queue->relief(queue->relief_data);
            if (!twill__queue_here(queue))
                return TWILL_FORKED;
            twill__queue_enter(queue, &turn);
            able = relieved >= 0;
            asked = relieved <= 0;
        } else if (able && !atomic_load(queue->others)) {
            asked = false; /* under the lock: they have gone since we asked */
        } else if (!spun && !queue->pushers.first && !queue->ring.cells) {
            spun = true;
            twill__queue_moment(queue, &turn, true);
        } else {
            if (twill__queue_wait_room(queue, &turn, waiter, &node, until, &over))
                return (twill_status)node.answer;
            asked = !able;
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
            twill__queue_moment(queue, &turn, false);
        } else if (twill__queue_wait(queue, &turn, &queue->poppers, waiter, &node, until, &over)) {
            return (twill_status)node.answer;
        }
    }
    twill__queue_exit(queue, &turn);
    return answer == TWILL_EMPTY ? over : (twill_status)answer;
}

/* Waits without items: for something to pop, or (join) for everything to be done. */
static inline twill_status twill__queue_watch(twill__queue *queue, bool join, twill_until until)
{
    twill__queue_turn turn;
    twill__node node;
    twill__waiter waiter;
    twill_status over = TWILL_OK;
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
            if (over == TWILL_OK) {
                if (twill__queue_wait(queue, &turn, join ? &queue->joiners : &queue->watchers,
                                      &waiter, &node, until, &over))
                    return (twill_status)node.answer;
                continue;
            }
        }
        twill__queue_exit(queue, &turn);
        return over;
    }
}

/* ---- one item, in the fewest steps under the lock ---- */
/* While nobody is in a list whom the item, or its room, could concern, and there is no level to tell:
   then there is nothing to settle. False: the lock is held, for a call that has reached it must be
   served before the queue may go. Clocks are read before it is taken. */

static inline bool twill__brief_levels(const twill__queue *queue, size_t length)
{
    return !twill__queue_turns(queue, length) && queue->level_turns == queue->told;
}

static inline bool twill__brief_put(twill__queue *queue, const void *item, twill__cell cell)
{
    twill__store *store = &queue->store;
    bool put;
    cell.at = queue->times ? twill__clock_now() : 0;
    twill__queue_lock(queue);
    put = store->length < store->capacity && !twill__queue_closed(queue) && !queue->pushers.first &&
          !queue->poppers.first && !queue->watchers.first &&
          (!queue->max_bytes || cell.bytes <= queue->max_bytes - queue->bytes) &&
          twill__brief_levels(queue, store->length + 1);
    if (put) {
        cell.number = store->next++;
        twill__store_put(store, item, &cell);
        queue->bytes += cell.bytes;
        queue->counts.accepted++;
        if (store->length > queue->counts.peak)
            queue->counts.peak = store->length;
        atomic_store_explicit(&queue->length, store->length, memory_order_relaxed); /* a hint */
        if (queue->popping)
            twill__queue_hint(&queue->filled);
        twill__unlock(&queue->lock);
    }
    return put;
}

/* Not of a closed one: those who wait for its end would have to be told. Nor one that has expired. */
static inline bool twill__brief_take(twill__queue *queue, void *item)
{
    twill__store *store = &queue->store;
    twill_ns now = queue->times ? twill__clock_now() : 0;
    bool taken;
    twill__queue_lock(queue);
    taken = store->length && !twill__queue_closed(queue) && !queue->pushers.first &&
            twill__brief_levels(queue, store->length - 1) &&
            (!queue->times || now < twill__queue_expiry(queue, TWILL__NEXT));
    if (taken) {
        if (queue->times || queue->bytes_of) {
            twill__cell cell = twill__queue_take(queue, TWILL__NEXT, item);
            if (queue->times)
                twill__queue_aged(queue, cell.at, now);
        } else { /* what is known of it is on a line of its own */
            twill__store_take(store, twill__store_find(store, TWILL__NEXT), item);
            if (queue->pushing)
                twill__queue_hint(&queue->freed);
        }
        queue->counts.popped++;
        atomic_store_explicit(&queue->length, store->length, memory_order_relaxed); /* a hint */
        twill__unlock(&queue->lock);
    }
    return taken;
}

/* ---- the ring, without the lock ---- */

/* Somebody waits for what has just been done. */
static __attribute__((noinline)) void twill__queue_serve(twill__queue *queue)
{
    twill__queue_turn turn;
    twill__queue_enter(queue, &turn);
    twill__queue_exit(queue, &turn);
}

typedef struct twill__quick { /* what a call tries for a moment */
    twill__queue *queue;
    const char *from;
    char *to;
    uint64_t *numbers;
    size_t most, least, done;
} twill__quick;

/* Who stands behind a bulk does so for fairness alone: relaxed. */
static inline bool twill__queue_bulk(const twill__queue *queue)
{
    return atomic_load_explicit(&queue->givers, memory_order_relaxed) >= TWILL__BULK;
}

static inline __attribute__((always_inline)) bool twill__quick_put_one(twill__queue *queue,
                                                                       const void *item)
{
    if (twill__queue_bulk(queue) || !twill__ring_put_one(&queue->ring, item))
        return false;
    if (atomic_load(&queue->takers)) /* seq_cst: pairs with twill__enlist */
        twill__queue_serve(queue);
    return true;
}

static inline __attribute__((always_inline)) bool twill__quick_take_one(twill__queue *queue,
                                                                        void *item)
{
    if (!twill__ring_take_one(&queue->ring, item, NULL))
        return false;
    if (atomic_load(&queue->givers)) /* seq_cst: pairs with twill__enlist */
        twill__queue_serve(queue);
    return true;
}

static inline bool twill__quick_try_put(void *quick_)
{
    twill__quick *quick = (twill__quick *)quick_;
    twill__queue *queue = quick->queue;
    if (quick->most == 1)
        return twill__quick_put_one(queue, quick->from) && ++quick->done;
    if (twill__queue_bulk(queue))
        return false;
    quick->done = twill__ring_put_many(&queue->ring, quick->from, quick->most, quick->least);
    if (!quick->done)
        return false;
    if (atomic_load(&queue->takers)) /* seq_cst: pairs with twill__enlist */
        twill__queue_serve(queue);
    return true;
}

static inline bool twill__quick_try_take(void *quick_)
{
    twill__quick *quick = (twill__quick *)quick_;
    twill__queue *queue = quick->queue;
    if (quick->most == 1 && !quick->numbers)
        return twill__quick_take_one(queue, quick->to) && ++quick->done;
    quick->done = twill__ring_take_many(&queue->ring, quick->to, quick->numbers, quick->most);
    if (!quick->done)
        return false;
    if (atomic_load(&queue->givers)) /* seq_cst: pairs with twill__enlist */
        twill__queue_serve(queue);
    return true;
}

/* Whether a moment outside the lock may help. */
static inline bool twill__quick_may_wait(const twill__queue *queue, twill_until until, bool wait)
{
    return wait && !twill__queue_closed(queue) && twill__over(until) == TWILL_OK;
}

/* What a call does that got nothing, before it waits under the lock: it stays away (twill__patience),
   looks, yields. Where staying and looking was in vain four times, as it is for two threads on one
   CPU, it yields at once, and tries it again every 16th time. */
static inline bool twill__quick_wait(twill__quick *quick, bool (*done)(void *quick), bool push)
{
    const twill__ring *ring = &quick->queue->ring;
    twill__ring_end *end = push ? &quick->queue->ring.tail : &quick->queue->ring.head;
    /* relaxed, all: figures of no consequence but speed */
    uint32_t had, now, futile = atomic_load_explicit(&end->futile, memory_order_relaxed);
    if (!twill__spin_helps())
        return false;
    if (futile < 4 || futile % 16 == 0) {
        if (ring->capacity >= TWILL__RING_LARGE) {
            had = atomic_load_explicit(&end->patience, memory_order_relaxed);
            twill__spin_away(TWILL__AWAY + had);
            now = twill__patience(had, twill__ring_far(ring, push));
            if (now != had)
                atomic_store_explicit(&end->patience, now, memory_order_relaxed);
        }
        if (done(quick) ||
            twill__spin_looks(done, quick, TWILL__SPIN_WAIT, TWILL__SPIN_FIRST, TWILL__SPIN_MOST)) {
            if (futile)
                atomic_store_explicit(&end->futile, 0, memory_order_relaxed);
            return true;
        }
    }
    atomic_store_explicit(&end->futile, futile + 1, memory_order_relaxed);
    return twill__spin_yields(done, quick, TWILL__SPIN_YIELDS);
}

/* How many of up to `most` items went in, without the lock and after a moment at the most; all that
   cannot be done so is left to twill__queue_put. */
static inline size_t twill__quick_put(twill__queue *queue, const char *items, size_t most,
                                      size_t least, twill_until until, bool wait)
{
    twill__quick quick = {queue, items, NULL, NULL, most, least, 0};
    if (!twill__quick_try_put(&quick) && (!queue->relief || atomic_load(queue->others)) &&
        twill__quick_may_wait(queue, until, wait && queue->overflow == TWILL_OVERFLOW_BLOCK))
        (void)twill__quick_wait(&quick, twill__quick_try_put, true);
    return quick.done;
}

static inline size_t twill__quick_take(twill__queue *queue, char *items, uint64_t *numbers,
                                       size_t most, twill_until until, bool wait)
{
    twill__quick quick = {queue, NULL, items, numbers, most, 1, 0};
    if (!twill__quick_try_take(&quick) && twill__quick_may_wait(queue, until, wait))
        (void)twill__quick_wait(&quick, twill__quick_try_take, false);
    return quick.done;
}

/* ---- the end ---- */

/* Under the lock, once: those outside it for a moment shall look again. */
static inline void twill__queue_end(twill__queue *queue, uint32_t how, int code)
{
    if (twill__queue_closed(queue))
        return;
    atomic_store_explicit(&queue->code, code, memory_order_relaxed); /* before closed */
    /* release: pairs with the acquire in twill_queue_is_closed */
    atomic_store_explicit(&queue->closed, how, memory_order_release);
    if (queue->ring.cells) /* from here on no push can claim */
        atomic_fetch_or(&queue->ring.tail.at, queue->ring.mark);
    if (queue->popping)
        twill__queue_hint(&queue->filled);
    if (queue->pushing)
        twill__queue_hint(&queue->freed);
}

static inline twill_status twill__queue_close(twill__queue *queue, uint32_t how, int code)
{
    twill__queue_turn turn;
    twill_status status;
    twill__queue_enter(queue, &turn);
    status = twill__queue_closed(queue) ? TWILL_CLOSED : TWILL_OK;
    twill__queue_end(queue, how, code);
    twill__queue_exit(queue, &turn);
    return status;
}

/* What is inside at the beginning goes to the drop callback. */
static inline size_t twill__queue_clear(twill__queue *queue, char *kept)
{
    static const twill__waiter taker;
    twill__queue_turn turn;
    twill__dropped dropped = {NULL, 0, 0, TWILL_OK};
    size_t cleared = 0, most;
    twill__queue_enter(queue, &turn);
    most = twill__queue_length(queue);
    while (cleared < most && twill__queue_length(queue)) { /* exit: one less, or on its way */
        /* the oldest of a heap would have to be looked for */
        twill__queue_evict(queue, queue->store.heap ? TWILL__NEXT : TWILL__OLDEST, TWILL_CANCELLED,
                           kept, &dropped);
        cleared += dropped.count;
        if (dropped.count) {
            if (!twill__queue_drop(queue, &turn, &dropped, kept))
                return cleared;
        } else if (!twill__queue_see(queue, &turn, &taker))
            break;
    }
    twill__queue_exit(queue, &turn);
    return cleared;
}

/* Everybody is told; waits until all have left. */
static inline twill_status twill__queue_desert(twill__queue *queue)
{
    twill__queue_turn turn;
    twill__node node;
    twill__queue_enter(queue, &turn);
    if (twill__queue_inside(queue)) {
        twill__queue_exit(queue, &turn);
        return TWILL_DEADLOCK;
    }
    twill__queue_end(queue, TWILL_CLOSED, 0);
    queue->doomed = true;
    twill__queue_settle(queue, &turn);
    if (!twill__queue_deserted(queue) || queue->telling) {
        twill__node_init(&node);
        queue->destroyer = &node;
        twill__unlock(&queue->lock);
        for (unsigned k = 0; k < turn.count; k++)
            twill__wake(turn.word[k], 1);
        twill__await(&node);
        twill__queue_enter(queue, &turn); /* whoever told us has left the section now */
    }
    twill__queue_exit(queue, &turn);
    return TWILL_OK;
}

#endif
