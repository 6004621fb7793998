/* queue.h: a bounded queue under a small lock: how it works, and how it ends. */
#ifndef TWILL__ENGINE_QUEUE_H
#define TWILL__ENGINE_QUEUE_H

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
   With a ring, a newcomer may overtake a thread that waits, but not a bulk. */

#include "engine/queue_quick.h"

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
        atomic_fetch_or_explicit(&queue->ring.tail.at, queue->ring.mark, memory_order_seq_cst);
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

/* Whether an item with a number below `end` is inside; *which: one to take. */
static inline bool twill__queue_older(twill__queue *queue, uint64_t end, twill__which *which)
{
    twill__store *store = &queue->store;
    *which = TWILL__OLDEST;
    if (!twill__queue_length(queue))
        return false;
    if (queue->ring.cells)
        return twill__ring_popped(&queue->ring) < end;
    if (store->heap) { /* the oldest of a heap would have to be looked for */
        *which = TWILL__NEXT;
        if (twill__store_cell(store, twill__store_find(store, TWILL__NEXT)).number < end)
            return true;
        *which = TWILL__OLDEST;
    }
    return twill__store_cell(store, twill__store_find(store, TWILL__OLDEST)).number < end;
}

/* What is inside at the beginning goes to the drop callback. */
static inline size_t twill__queue_clear(twill__queue *queue, char *kept)
{
    static const twill__waiter taker;
    twill__queue_turn turn;
    twill__dropped dropped = {NULL, 0, 0, TWILL_OK};
    size_t cleared = 0;
    uint64_t end;
    twill__which which;
    twill__queue_enter(queue, &turn);
    end = queue->ring.cells ? twill__ring_pushed(&queue->ring) : queue->store.next;
    while (twill__queue_older(queue, end, &which)) { /* exit: one less, or on its way */
        twill__queue_evict(queue, which, TWILL_CANCELLED, kept, &dropped);
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
        twill__queue_unlock(queue);
        for (unsigned k = 0; k < turn.count; k++)
            twill__wake(turn.word[k], 1);
        twill__await(&node);
        twill__queue_enter(queue, &turn); /* whoever told us has left the section now */
    }
    twill__queue_exit(queue, &turn);
    return TWILL_OK;
}

#endif
