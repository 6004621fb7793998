/* queue_state.h: the record of a queue, and the lists of those who wait. */
#ifndef TWILL__ENGINE_QUEUE_STATE_H
#define TWILL__ENGINE_QUEUE_STATE_H

#include "engine/light_lock.h"
#include "engine/queue_store.h"

/* The protocol of engine/cancel.h, with one bit more. A select waits in the lists of several
   queues, each with a lock of its own, on one word; a granter must own that wait before it copies
   an item. TAKEN is set by a compare-and-swap that fails once TAKEN or LEAVING is there, so exactly
   one queue gets the waiter, and a waiter that finds TAKEN beside its LEAVING knows that GRANTED
   follows. RETRY beside GRANTED: the waiter still stands in the list, and looks again by itself. */
enum { TWILL__TAKEN = 8, TWILL__RETRY = 16 };
/* beside the public statuses */
enum { TWILL__AGAIN = -1, TWILL__ELSEWHERE = -2, TWILL__ANEW = -3 };
enum {
    TWILL__AWAY = 200,
    TWILL__PATIENCE = 4000,
    TWILL__ROW = 1000,
    TWILL__ROW_MOST = 8000
}; /* ns */
/* ns: twice a parked round trip. Who parks makes a holder wake him, and many threads behind one
   lock would do nothing else. */
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

/* What a call has in the queue while it is out of the lock: if on_level ends its thread, that is
   taken out again. */
typedef struct twill__queue_left {
    twill__queue_list *list; /* NULL: it is in none */
    twill__waiter *waiter;
    unsigned *threads; /* it is counted there; may be NULL */
} twill__queue_left;

/* A callback of the queue that runs now, on its caller's stack. */
typedef struct twill__queue_calling {
    struct twill__queue_calling *next;
    struct twill_queue *queue;
    uint64_t thread;
    struct twill__dropped *dropped; /* NULL: it is on_level */
    const twill__queue_left *left;  /* by the call that tells a level; may be NULL */
} twill__queue_calling;

typedef struct twill__queue_counts {
    uint64_t dropped, expired, cleared, rejected, push_waits, pop_waits, wakes;
    twill_ns push_wait_total, push_wait_max, pop_wait_total, pop_wait_max, age_total, age_max;
} twill__queue_counts;

typedef struct twill_queue {
    /* here first what a brief push or pop touches: see twill__brief_put */
    twill__light_lock lock;
    /* read without the lock, written under it */
    _Atomic size_t length;
    _Atomic uint32_t closed; /* 0; CLOSED or FAILED: what a drained queue answers */
    /* under the lock */
    unsigned pushing, popping; /* threads that wait outside the lock for a moment */
    bool calm;                 /* there are only items to see to: see twill__queue_unlock */
    bool doomed, telling, is_high;
    size_t bytes, peak;
    twill__store store; /* of a heap: one line more */
    _Alignas(TWILL__LINE) twill__queue_list pushers;
    twill__queue_list poppers, watchers, joiners;
    twill__node *destroyer;
    twill__queue_calling *calls;
    /* task_done; dropped, expired or cleared, and their callback has returned */
    uint64_t finished, gone;
    /* how often the level changed; how often it was told */
    uint64_t level_turns, told;
    uint32_t push_patience, pop_patience; /* for how long: see twill__patience */
    unsigned producers, held;             /* held: by a call around it, which alone detaches them */
    twill__queue_counts counts;
    _Atomic int code; /* read without the lock, written under it */
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
       else will (0) or this thread cannot (-1; -2: it has an item in hand). Whoever makes *others 0
       tells the waiting pushers then, and those who join. From a rendezvous where there is none it
       takes the waiter's own item (waiter NULL: there is none) */
    int (*relief)(void *data, struct twill__waiter *waiter);
    uint64_t (*consumed)(const void *data); /* how many items the call is done with */
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
    return queue->ring.cells ? twill__ring_pushed(&queue->ring) : queue->store.next;
}

static inline uint64_t twill__queue_popped(const twill__queue *queue)
{
    const twill__queue_counts *counts = &queue->counts;
    uint64_t out = queue->ring.cells ? twill__ring_popped(&queue->ring)
                                     : queue->store.next - queue->store.length;
    return out - counts->dropped - counts->expired - counts->cleared;
}

/* Popped and finished. Under the lock. */
static inline uint64_t twill__queue_finished(const twill__queue *queue)
{
    return queue->finished + (queue->consumed ? queue->consumed(queue->relief_data) : 0);
}

/* Accepted, and neither finished nor gone. Under the lock. What has ended is counted first: pushes
   and consumers go on meanwhile, and the other order could miss what is still to be done. */
static inline bool twill__queue_unfinished(const twill__queue *queue)
{
    uint64_t ended = twill__queue_finished(queue) + queue->gone;
    return twill__queue_accepted(queue) > ended;
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
        atomic_fetch_add_explicit(gate, twill__queue_weight(waiter), memory_order_seq_cst);
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

#endif
