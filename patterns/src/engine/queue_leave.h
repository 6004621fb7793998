/* queue_leave.h: the way out of the lock: who is woken, what is told, what is dropped. */
#ifndef TWILL__ENGINE_QUEUE_LEAVE_H
#define TWILL__ENGINE_QUEUE_LEAVE_H

#include "engine/queue_turn.h"

/* ---- leaving the lock ---- */

static inline void twill__queue_tell(twill__queue *queue, const twill__queue_left *left);

static inline bool twill__queue_deserted(const twill__queue *queue)
{
    return !queue->pushers.first && !queue->poppers.first && !queue->watchers.first &&
           !queue->joiners.first && !queue->calls && !queue->pushing && !queue->popping &&
           !twill__light_wanted(&queue->lock);
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
    if (length > queue->peak)
        queue->peak = length;
    atomic_store_explicit(&queue->length, length, memory_order_relaxed); /* a hint */
    if (!queue->on_level || queue->doomed)
        return false;
    if (twill__queue_turns(queue, length)) {
        queue->is_high = !queue->is_high;
        queue->level_turns++;
    }
    return queue->level_turns != queue->told && !queue->telling;
}

/* The lock is let go here, and by brief calls, to which none of this means anything. */
static inline void twill__queue_unlock(twill__queue *queue)
{
    queue->calm = !queue->pushers.first && !queue->poppers.first && !queue->watchers.first &&
                  !twill__queue_closed(queue) && queue->level_turns == queue->told;
    twill__light_unlock(&queue->lock);
}

/* The only way out of the lock. quiet: a change of level is told by the next one who comes. left:
   what the call has in the queue; may be NULL. */
static inline void twill__queue_leave(twill__queue *queue, twill__queue_turn *turn, bool quiet,
                                      const twill__queue_left *left)
{
    bool tell;
    twill__queue_settle(queue, turn);
    tell = twill__queue_level(queue) && !quiet;
    if (tell)
        queue->telling = true;
    if (queue->destroyer && !queue->telling && twill__queue_deserted(queue)) {
        twill__node *node = queue->destroyer;
        queue->destroyer = NULL;
        twill__granted(queue, turn, node, TWILL__GRANTED);
    }
    twill__queue_unlock(queue);
    for (unsigned k = 0; k < turn->count; k++)
        twill__wake(turn->word[k], 1);
    if (tell)
        twill__queue_tell(queue, left);
}

static inline void twill__queue_exit(twill__queue *queue, twill__queue_turn *turn)
{
    twill__queue_leave(queue, turn, false, NULL);
}

static inline void twill__calling_begin(twill__queue *queue, twill__queue_calling *calling)
{
    calling->queue = queue;
    calling->thread = twill__thread_number();
    calling->dropped = NULL;
    calling->left = NULL;
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

/* A callback has ended the thread: what it had to tell or to drop beside counts as told and gone,
   and a call that was to wait does not. */
static inline void twill__calling_ended(void *calling_)
{
    twill__queue_calling *calling = (twill__queue_calling *)calling_;
    const twill__queue_left *left = calling->left;
    twill__queue *queue = calling->queue;
    twill__queue_turn turn;
    if (!twill__queue_here(queue))
        return;
    twill__queue_enter(queue, &turn);
    if (calling->dropped)
        queue->gone += calling->dropped->count;
    else
        queue->telling = false;
    if (left && left->list && left->waiter->listed) { /* else it has been answered */
        twill__queue_waited(queue, left->waiter);
        twill__delist(queue, left->list, left->waiter);
    }
    if (left && left->threads)
        --*left->threads;
    twill__calling_end(queue, calling);
    twill__queue_leave(queue, &turn, true, NULL);
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
static inline void twill__queue_tell(twill__queue *queue, const twill__queue_left *left)
{
    twill__queue_calling calling;
    twill__queue_turn turn;
    twill_task task = twill__queue_task(queue, SIZE_MAX);
    twill__queue_enter(queue, &turn);
    twill__calling_begin(queue, &calling);
    calling.left = left;
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
        twill__queue_settle(queue, turn); /* its place is for who stands first: as below */
        return true;
    }
    twill__calling_begin(queue, &calling);
    calling.dropped = dropped;
    for (; dropped->count; dropped->count--) {
        twill_task task = twill__queue_task(queue, (size_t)dropped->number++);
        twill__queue_leave(queue, turn, true, NULL); /* on_level could end the thread: drop first */
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

static inline bool twill__queue_expire(twill__queue *queue, twill__which which, char *kept,
                                       twill__dropped *dropped)
{
    twill_ns at = twill__queue_expiry(queue, which);
    if (at == TWILL_FOREVER || twill__clock_now() < at)
        return false;
    twill__queue_evict(queue, which, TWILL_TIMEOUT, kept, dropped);
    return true;
}

#endif
