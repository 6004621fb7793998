/* linear.h: specifications for explore_linearizable: what a queue and a pool of objects do when
   they are used by one thread. */
#ifndef LINEAR_H
#define LINEAR_H

#include "explore.h"

#include <string.h>

/* What a call returns besides an item or an object, which are 0 or more. */
enum { LINEAR_OK = -1, LINEAR_CLOSED = -2, LINEAR_LATE = -3, LINEAR_FULL = -4, LINEAR_EMPTY = -5 };

/* ---- a bounded queue, first in, first out ----
   "push" (argument: the item): OK when there is room; CLOSED when it is closed; FULL when it is
   full. "pop": the oldest item; CLOSED when it is closed and empty; EMPTY when it is empty.
   "force" (argument: the item): a push that, when it is full, drops the oldest item first.
   "close": OK. LATE (of a push or a pop that waited in vain) is always possible and changes
   nothing. The first call may be "capacity" (argument), made before all others; without it there is
   no bound. */

enum { LINEAR_ITEMS = 24 };

struct linear_queue {
    long long items[LINEAR_ITEMS];
    int count, capacity, closed, unused;
};

static inline bool linear_push(struct linear_queue *q, const explore_call_record *call)
{
    int room = q->capacity ? q->capacity : LINEAR_ITEMS;

    if (call->result == LINEAR_CLOSED)
        return q->closed;
    if (call->result == LINEAR_FULL)
        return q->count == room;
    if (q->closed || q->count == room)
        return false;
    q->items[q->count++] = call->argument;
    return call->result == LINEAR_OK;
}

static inline bool linear_force(struct linear_queue *q, const explore_call_record *call)
{
    if (!q->closed && q->count == q->capacity) {
        memmove(q->items, q->items + 1, sizeof q->items - sizeof q->items[0]);
        q->items[--q->count] = 0;
    }
    return linear_push(q, call);
}

static inline bool linear_pop(struct linear_queue *q, const explore_call_record *call)
{
    if (call->result == LINEAR_CLOSED)
        return q->closed && !q->count;
    if (call->result == LINEAR_EMPTY)
        return !q->count;
    if (!q->count || call->result != q->items[0])
        return false;
    memmove(q->items, q->items + 1, sizeof q->items - sizeof q->items[0]);
    q->items[--q->count] = 0;
    return true;
}

static inline bool linear_queue_step(void *state, const explore_call_record *call)
{
    struct linear_queue *q = state;

    if (call->result == LINEAR_LATE)
        return true;
    if (strcmp(call->operation, "push") == 0)
        return linear_push(q, call);
    if (strcmp(call->operation, "force") == 0)
        return linear_force(q, call);
    if (strcmp(call->operation, "pop") == 0)
        return linear_pop(q, call);
    if (strcmp(call->operation, "capacity") == 0)
        q->capacity = (int)call->argument;
    else
        q->closed = 1;
    return true;
}

static const explore_spec linear_queue = {sizeof(struct linear_queue), NULL, linear_queue_step};

/* ---- a pool of objects 0 .. n-1 (n: at most 31) ----
   "objects" (argument: n): the first call. "take": an object that nobody has; EMPTY when there is
   none; CLOSED when it is closed; LATE. "give" (argument: the object): OK if it is out, else
   anything but OK. "close": OK. */

struct linear_pool {
    unsigned free, all, closed, unused;
};

static inline bool linear_pool_step(void *state, const explore_call_record *call)
{
    struct linear_pool *p = state;
    unsigned bit;

    if (strcmp(call->operation, "objects") == 0) {
        p->free = p->all = (1u << call->argument) - 1;
        return true;
    }
    if (strcmp(call->operation, "close") == 0) {
        p->closed = 1;
        return true;
    }
    if (strcmp(call->operation, "give") == 0) {
        bit = 1u << call->argument;
        if (!(p->all & bit) || (p->free & bit))
            return call->result != LINEAR_OK;
        p->free |= bit;
        return call->result == LINEAR_OK;
    }
    if (call->result < 0)
        return call->result == LINEAR_LATE || (call->result == LINEAR_CLOSED && p->closed) ||
               (call->result == LINEAR_EMPTY && !p->free);
    bit = 1u << call->result;
    if (p->closed || !(p->free & bit))
        return false;
    p->free &= ~bit;
    return true;
}

static const explore_spec linear_pool = {sizeof(struct linear_pool), NULL, linear_pool_step};

#endif
