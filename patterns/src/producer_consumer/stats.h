/* stats.h: the figures of a queue. */
#ifndef TWILL__QUEUE_STATS_H
#define TWILL__QUEUE_STATS_H

#include "producer_consumer/calls.h"

static inline size_t twill__queue_waiting(const twill__queue_list *list)
{
    size_t count = 0;
    for (const twill__waiter *waiter = list->first; waiter; waiter = waiter->next)
        count++;
    return count;
}

TWILL__DEFINE void twill_queue_get_stats(twill_queue *queue, twill_queue_stats *out)
{
    twill__queue_turn turn;
    const twill__queue_counts *counts;
    if (!out)
        return;
    memset(out, 0, sizeof *out);
    if (twill__queue_check(queue, queue) != TWILL_OK)
        return;
    twill__queue_enter(queue, &turn);
    counts = &queue->counts;
    out->accepted = queue->store.next;
    out->length = queue->store.length;
    out->popped = out->accepted - out->length;
    out->peak = queue->peak;
    if (queue->ring.cells) {
        do { /* exit: nobody has taken a whole ring of items between the two */
            out->popped = twill__ring_popped(&queue->ring);
            out->accepted = twill__ring_pushed(&queue->ring);
        } while (out->accepted - out->popped > queue->ring.capacity);
        out->length = (size_t)(out->accepted - out->popped);
        /* relaxed: a figure */
        out->peak = (size_t)atomic_load_explicit(&queue->ring.peak, memory_order_relaxed);
    }
    out->popped -= counts->dropped + counts->expired + counts->cleared;
    out->dropped = counts->dropped;
    out->expired = counts->expired;
    out->cleared = counts->cleared;
    out->rejected = counts->rejected;
    out->push_waits = counts->push_waits;
    out->pop_waits = counts->pop_waits;
    out->wakes = counts->wakes;
    out->capacity = queue->store.capacity;
    out->bytes = queue->bytes;
    out->waiting_push = twill__queue_waiting(&queue->pushers);
    out->waiting_pop = twill__queue_waiting(&queue->poppers);
    out->push_wait_total = counts->push_wait_total;
    out->push_wait_max = counts->push_wait_max;
    out->pop_wait_total = counts->pop_wait_total;
    out->pop_wait_max = counts->pop_wait_max;
    out->age_total = counts->age_total;
    out->age_max = counts->age_max;
    twill__queue_exit(queue, &turn);
}

#endif
