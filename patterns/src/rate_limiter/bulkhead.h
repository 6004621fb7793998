/* bulkhead.h: how many may be inside at once. */
#ifndef TWILL__BULKHEAD_H
#define TWILL__BULKHEAD_H

#include "engine/cancel.h"

/* An exact count under a small lock. A place that becomes free is handed to the one who has waited
   longest, in the same step: so while the lock is free, nobody waits beside a free place, but for
   those whose wait is over already. */
typedef struct TWILL__VIEW twill__bulkhead {
    _Atomic uint32_t lock;
    _Atomic uint32_t generation;
    uint64_t max_inside, max_waiting; /* set at init */
    /* under the lock */
    uint64_t inside, waiting;
    twill__node *first, *last;
    bool closed;
} twill__bulkhead;

static inline twill__bulkhead *twill__bulkhead_of(const twill_bulkhead *bulkhead)
{
    return (twill__bulkhead *)(uintptr_t)bulkhead;
}

/* In a forked child nobody waits; the count stays. */
static inline void twill__bulkhead_lock(twill__bulkhead *me)
{
    if (twill__adopt(&me->generation)) {
        me->first = me->last = NULL;
        me->waiting = 0;
        atomic_store_explicit(&me->lock, 0, memory_order_relaxed);
        twill__adopted(&me->generation);
    }
    twill__lock(&me->lock);
}

/* The queue is a twill__list in words of the caller's. */
static inline twill__list twill__bulkhead_queue(const twill__bulkhead *me)
{
    return (twill__list){me->first, me->last};
}

static inline void twill__bulkhead_requeue(twill__bulkhead *me, twill__list list)
{
    me->first = list.first;
    me->last = list.last;
}

/* Under the lock: the first who still waits gets `answer`. Returns what to wake; NULL: nobody. */
static inline _Atomic uint32_t *twill__bulkhead_admit(twill__bulkhead *me, twill_status answer)
{
    twill__list list = twill__bulkhead_queue(me);
    twill__node *node = list.first, *next;
    _Atomic uint32_t *word = NULL;
    for (; node; node = next) { /* exit: one that leaves is put at the end once */
        next = node->next;
        node->answer = (int)answer;
        word = &node->word;
        if (twill__grant(&list, node)) {
            me->waiting--;
            twill__bulkhead_requeue(me, list);
            return word;
        }
    }
    twill__bulkhead_requeue(me, list);
    return NULL;
}

static inline twill_status twill__bulkhead_wait(twill__bulkhead *me, twill_until until)
{
    twill__node node;
    twill__list list = twill__bulkhead_queue(me);
    twill_status status;
    twill__node_init(&node);
    twill__list_append(&list, &node);
    twill__bulkhead_requeue(me, list);
    me->waiting++;
    twill__unlock(&me->lock);
    status = twill__wait(&node, until);
    if (status == TWILL_OK)
        return (twill_status)node.answer;
    twill__lock(&me->lock);
    list = twill__bulkhead_queue(me);
    twill__list_remove(&list, &node);
    twill__bulkhead_requeue(me, list);
    me->waiting--;
    if (me->closed)
        status = TWILL_CLOSED;
    twill__unlock(&me->lock);
    return status;
}

static inline twill_status twill__bulkhead_enter(twill__bulkhead *me, twill_until until, bool wait)
{
    twill_status status = TWILL_OK;
    twill__bulkhead_lock(me);
    if (me->closed)
        status = TWILL_CLOSED;
    else if (me->inside < me->max_inside)
        me->inside++;
    else if (!wait)
        status = TWILL_FULL;
    else if (twill_cancel_fired(until.cancel))
        status = TWILL_CANCELLED;
    else if (twill__expired(until.deadline))
        status = TWILL_TIMEOUT;
    else if (me->waiting >= me->max_waiting)
        status = TWILL_FULL;
    else
        return twill__bulkhead_wait(me, until);
    twill__unlock(&me->lock);
    return status;
}

#endif
