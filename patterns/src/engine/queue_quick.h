/* queue_quick.h: the short ways in and out, where nobody waits. */
#ifndef TWILL__ENGINE_QUEUE_QUICK_H
#define TWILL__ENGINE_QUEUE_QUICK_H

#include "engine/queue_wait.h"

/* ---- one item, in the fewest steps under the lock ---- */
/* While the queue is calm: it is open, nobody is in a list whom the item, or its room, could
   concern, and there is no level to tell: so there is nothing to settle. False: the lock is held,
   for a call that has reached it must be served before the queue may go. Clocks are read before it
   is taken, but where an item is dropped by its age: that must not count the wait for the lock. */

static inline bool twill__brief_put(twill__queue *queue, const void *item, twill__cell *cell)
{
    twill__store *store = &queue->store;
    twill_ns at = queue->times ? twill__clock_now() : 0;
    bool put;
    twill__queue_lock(queue);
    put = queue->calm && store->length < store->capacity &&
          (!queue->max_bytes || cell->bytes <= queue->max_bytes - queue->bytes) &&
          !twill__queue_turns(queue, store->length + 1);
    if (put) {
        twill__queue_rank(queue, cell);
        cell->at = queue->max_age != TWILL_FOREVER ? twill__clock_now() : at;
        cell->number = store->next++;
        twill__store_put(store, item, cell);
        queue->bytes += cell->bytes;
        if (store->length > queue->peak)
            queue->peak = store->length;
        atomic_store_explicit(&queue->length, store->length, memory_order_relaxed); /* a hint */
        if (queue->popping)
            twill__queue_hint(&queue->filled);
        twill__light_unlock(&queue->lock);
    }
    return put;
}

/* Not of a closed one: those who wait for its end would have to be told. Nor one that has
   expired. */
static inline bool twill__brief_take(twill__queue *queue, void *item)
{
    twill__store *store = &queue->store;
    twill_ns now = queue->times ? twill__clock_now() : 0;
    bool taken;
    twill__queue_lock(queue);
    taken = queue->calm && store->length && !twill__queue_turns(queue, store->length - 1) &&
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
        atomic_store_explicit(&queue->length, store->length, memory_order_relaxed); /* a hint */
        twill__light_unlock(&queue->lock);
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
    /* seq_cst: pairs with twill__enlist */
    if (atomic_load_explicit(&queue->takers, memory_order_seq_cst))
        twill__queue_serve(queue);
    return true;
}

static inline __attribute__((always_inline)) bool twill__quick_take_one(twill__queue *queue,
                                                                        void *item)
{
    if (!twill__ring_take_one(&queue->ring, item, NULL))
        return false;
    /* seq_cst: pairs with twill__enlist */
    if (atomic_load_explicit(&queue->givers, memory_order_seq_cst))
        twill__queue_serve(queue);
    return true;
}

static inline bool twill__quick_try_put(void *quick_)
{
    twill__quick *quick = (twill__quick *)quick_;
    twill__queue *queue = quick->queue;
    if (quick->most == 1) {
        quick->done = twill__quick_put_one(queue, quick->from);
        return quick->done;
    }
    if (twill__queue_bulk(queue))
        return false;
    quick->done = twill__ring_put_many(&queue->ring, quick->from, quick->most, quick->least);
    if (!quick->done)
        return false;
    /* seq_cst: pairs with twill__enlist */
    if (atomic_load_explicit(&queue->takers, memory_order_seq_cst))
        twill__queue_serve(queue);
    return true;
}

static inline bool twill__quick_try_take(void *quick_)
{
    twill__quick *quick = (twill__quick *)quick_;
    twill__queue *queue = quick->queue;
    if (quick->most == 1 && !quick->numbers) {
        quick->done = twill__quick_take_one(queue, quick->to);
        return quick->done;
    }
    quick->done = twill__ring_take_many(&queue->ring, quick->to, quick->numbers, quick->most);
    if (!quick->done)
        return false;
    /* seq_cst: pairs with twill__enlist */
    if (atomic_load_explicit(&queue->givers, memory_order_seq_cst))
        twill__queue_serve(queue);
    return true;
}

/* Whether a moment outside the lock may help. */
static inline bool twill__quick_may_wait(const twill__queue *queue, twill_until until, bool wait)
{
    return wait && !twill__queue_closed(queue) && twill__over(until) == TWILL_OK;
}

/* What a call does that got nothing, before it waits under the lock: it stays away
   (twill__patience), looks, yields. Where staying and looking was in vain four times, as it is for
   two threads on one CPU, it yields at once, and tries it again every 16th time. */
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
            now = twill__patience(had, twill__ring_far(ring, push, TWILL__RING_BATCH),
                                  twill__ring_far(ring, push, ring->capacity / 2));
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
    size_t put = 0;
    (void)twill__quick_try_put(&quick);
    for (;;) { /* exit: all are in, or a moment brought no room; each turn is another's pop */
        put += quick.done;
        if (put == most ||
            (queue->relief && !atomic_load_explicit(queue->others, memory_order_seq_cst)) ||
            !twill__quick_may_wait(queue, until, wait && queue->overflow == TWILL_OVERFLOW_BLOCK))
            return put;
        quick.from += quick.done * queue->store.size;
        quick.most -= quick.done;
        if (!twill__quick_wait(&quick, twill__quick_try_put, true))
            return put;
    }
}

static inline size_t twill__quick_take(twill__queue *queue, char *items, uint64_t *numbers,
                                       size_t most, twill_until until, bool wait)
{
    twill__quick quick = {queue, NULL, items, numbers, most, 1, 0};
    if (!twill__quick_try_take(&quick) && twill__quick_may_wait(queue, until, wait))
        (void)twill__quick_wait(&quick, twill__quick_try_take, false);
    return quick.done;
}

#endif
