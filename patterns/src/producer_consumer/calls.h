/* calls.h: what can be done with one queue. */
#ifndef TWILL__QUEUE_CALLS_H
#define TWILL__QUEUE_CALLS_H

#include "producer_consumer/create.h"

/* Room for an item that a drop callback sees, on the stack of who needs it. */
typedef struct twill__kept {
    _Alignas(TWILL__LINE) char item[TWILL__KEPT];
} twill__kept;

static inline twill_status twill__queue_check(const twill_queue *queue, const void *item)
{
    if (!queue || !item)
        return TWILL_INVALID;
    return twill__queue_here(queue) ? TWILL_OK : TWILL_FORKED;
}

/* The place in the line that a priority means. */
static inline void twill__queue_key(const twill__queue *queue, int priority, twill__cell *cell)
{
    int64_t gain = 0;
    twill_ns now;
    /* the order of two items never changes while they wait: so a fixed key is enough */
    if (queue->ageing == TWILL_FOREVER) {
        cell->key = -(int64_t)priority;
        return;
    }
    now = twill__clock_now();
    if (__builtin_mul_overflow(priority, queue->ageing, &gain) ||
        __builtin_sub_overflow(now, gain, &cell->key))
        cell->key = priority > 0 ? INT64_MIN : INT64_MAX;
    else
        cell->at = now;
}

/* Asks the user's callbacks what they say of an item: OK, TOO_BIG, FORKED. */
static inline twill_status twill__queue_weigh(const twill_queue *queue, const void *item,
                                              twill__cell *cell)
{
    twill_task task = twill__queue_task(queue, SIZE_MAX);
    bool big = false;
    if (queue->bytes_of) {
        cell->bytes = queue->bytes_of(item, &task);
        big = queue->max_bytes && cell->bytes > queue->max_bytes;
    }
    if (queue->priority_of && !big)
        twill__queue_key(queue, queue->priority_of(item, &task), cell);
    if (!twill__queue_here(queue))
        return TWILL_FORKED;
    return big ? TWILL_TOO_BIG : TWILL_OK;
}

static __attribute__((noinline)) twill_status
twill__put_dropping(twill_queue *queue, twill__waiter *waiter, twill_until until, bool wait)
{
    twill__kept kept;
    return twill__queue_put(queue, waiter, until, wait, kept.item);
}

static __attribute__((noinline)) twill_status
twill__get_dropping(twill_queue *queue, twill__waiter *waiter, twill_until until, bool wait)
{
    twill__kept kept;
    return twill__queue_get(queue, waiter, until, wait, kept.item);
}

static inline twill_status twill__put(twill_queue *queue, twill__waiter *waiter, twill_until until,
                                      bool wait)
{
    return queue->drop ? twill__put_dropping(queue, waiter, until, wait)
                       : twill__queue_put(queue, waiter, until, wait, NULL);
}

static inline twill_status twill__get(twill_queue *queue, twill__waiter *waiter, twill_until until,
                                      bool wait)
{
    return queue->drop ? twill__get_dropping(queue, waiter, until, wait)
                       : twill__queue_get(queue, waiter, until, wait, NULL);
}

/* Of many, or after a moment. The record of who waits is made by who needs the lock: to clear it
   costs as much as to claim cells for a batch. */
static __attribute__((noinline)) twill_status twill__push(twill_queue *queue, const void *items,
                                                          size_t n, bool whole, size_t *count,
                                                          twill_until until, bool wait)
{
    twill__waiter waiter;
    twill_status status;
    size_t put = 0;
    if (queue->ring.cells) {
        put = twill__quick_put(queue, (const char *)items, n, whole ? n : 1, until, wait);
        if (count)
            *count += put;
        if (put == n)
            return TWILL_OK;
    }
    waiter = (twill__waiter){
        .from = (const char *)items + put * queue->store.size, .n = n - put, .whole = whole};
    status = twill__put(queue, &waiter, until, wait);
    if (count)
        *count += waiter.done;
    return status;
}

static __attribute__((noinline)) twill_status twill__pop(twill_queue *queue, void *items, size_t n,
                                                         bool whole, size_t *count,
                                                         twill_until until, bool wait)
{
    twill__waiter waiter;
    twill_status status;
    size_t taken = 0;
    if (queue->ring.cells) {
        taken = twill__quick_take(queue, (char *)items, NULL, n, until, wait);
        if (count)
            *count += taken;
        if (whole ? taken == n : taken > 0)
            return TWILL_OK;
    }
    waiter = (twill__waiter){
        .to = (char *)items + taken * queue->store.size, .n = n - taken, .whole = whole};
    status = twill__get(queue, &waiter, until, wait);
    if (count)
        *count += waiter.done;
    return status;
}

/* ---- one, with the lock ---- */

static __attribute__((noinline)) twill_status
twill__push_brief(twill_queue *queue, const void *item, twill_until until, bool wait)
{
    twill__waiter waiter;
    twill__cell cell = {0, 0, 0, 0};
    if (queue->bytes_of || queue->priority_of) {
        twill_status status = twill__queue_weigh(queue, item, &cell);
        if (status != TWILL_OK)
            return status;
    }
    if (twill__brief_put(queue, item, &cell))
        return TWILL_OK;
    waiter = (twill__waiter){.from = (const char *)item, .n = 1, .inside = true, .cell = cell};
    return twill__put(queue, &waiter, until, wait);
}

static __attribute__((noinline)) twill_status twill__pop_brief(twill_queue *queue, void *item,
                                                               twill_until until, bool wait)
{
    twill__waiter waiter;
    if (twill__brief_take(queue, item))
        return TWILL_OK;
    waiter = (twill__waiter){.to = (char *)item, .n = 1, .inside = true};
    return twill__get(queue, &waiter, until, wait);
}

/* ---- one, of any queue ---- */

static inline twill_status twill__push_one(twill_queue *queue, const void *item, twill_until until,
                                           bool wait)
{
    return queue->brief ? twill__push_brief(queue, item, until, wait)
                        : twill__push(queue, item, 1, false, NULL, until, wait);
}

static inline twill_status twill__pop_one(twill_queue *queue, void *item, twill_until until,
                                          bool wait)
{
    return queue->brief ? twill__pop_brief(queue, item, until, wait)
                        : twill__pop(queue, item, 1, false, NULL, until, wait);
}

TWILL__DEFINE twill_status twill_queue_push_until(twill_queue *queue, const void *item,
                                                  twill_until until)
{
    twill_status status = twill__queue_check(queue, item);
    if (status != TWILL_OK)
        return status;
    if (!queue->ring.cells)
        return twill__push_one(queue, item, until, true);
    return twill__quick_put_one(queue, item)
               ? TWILL_OK
               : twill__push(queue, item, 1, false, NULL, until, true);
}

TWILL__DEFINE twill_status twill_queue_push(twill_queue *queue, const void *item)
{
    return twill_queue_push_until(queue, item, (twill_until){0, NULL});
}

TWILL__DEFINE twill_status twill_queue_try_push(twill_queue *queue, const void *item)
{
    twill_status status = twill__queue_check(queue, item);
    return status ? status : twill__push_one(queue, item, (twill_until){0, NULL}, false);
}

TWILL__DEFINE twill_status twill_queue_pop_until(twill_queue *queue, void *item, twill_until until)
{
    twill_status status = twill__queue_check(queue, item);
    if (status != TWILL_OK)
        return status;
    if (!queue->ring.cells)
        return twill__pop_one(queue, item, until, true);
    return twill__quick_take_one(queue, item)
               ? TWILL_OK
               : twill__pop(queue, item, 1, false, NULL, until, true);
}

TWILL__DEFINE twill_status twill_queue_pop(twill_queue *queue, void *item)
{
    return twill_queue_pop_until(queue, item, (twill_until){0, NULL});
}

TWILL__DEFINE twill_status twill_queue_try_pop(twill_queue *queue, void *item)
{
    twill_status status = twill__queue_check(queue, item);
    return status ? status : twill__pop_one(queue, item, (twill_until){0, NULL}, false);
}

/* One of many, after the first was DROPPED: the caller has given up all of them, also one that is
   too big, or that comes after a close. False: this is a forked child. */
static __attribute__((noinline)) bool twill__push_or_drop(twill_queue *queue, const void *item,
                                                          size_t *pushed, twill_until until)
{
    twill_status status = twill__push_one(queue, item, until, true);
    twill__queue_turn turn;
    twill__dropped dropped = {(const char *)item, 1, 0, TWILL_DROPPED};
    twill__kept kept;
    *pushed += status == TWILL_OK;
    if (status == TWILL_OK || status == TWILL_DROPPED)
        return true;
    if (status == TWILL_FORKED)
        return false;
    twill__queue_enter(queue, &turn);
    dropped.number = queue->store.next++;
    queue->counts.dropped++;
    if (!twill__queue_drop(queue, &turn, &dropped, kept.item))
        return false;
    twill__queue_exit(queue, &turn);
    return true;
}

TWILL__DEFINE twill_status twill_queue_push_many_until(twill_queue *queue, const void *items,
                                                       size_t n, size_t *count, twill_until until)
{
    size_t pushed = 0;
    twill_status status = twill__queue_check(queue, n ? items : &n); /* none: NULL, too */
    if (status == TWILL_OK && n && (queue->bytes_of || queue->priority_of)) {
        /* each item has a key or a size of its own */
        for (; pushed < n && status == TWILL_OK; pushed += status == TWILL_OK)
            status = twill__push_one(queue, (const char *)items + pushed * queue->store.size, until,
                                     true);
        for (size_t k = pushed + 1; status == TWILL_DROPPED && k < n; k++) /* the rest, likewise */
            if (!twill__push_or_drop(queue, (const char *)items + k * queue->store.size, &pushed,
                                     until))
                status = TWILL_FORKED;
    } else if (status == TWILL_OK && n) {
        status = twill__push(queue, items, n, false, &pushed, until, true);
    }
    if (count)
        *count = pushed;
    return status;
}

TWILL__DEFINE twill_status twill_queue_push_bulk_until(twill_queue *queue, const void *items,
                                                       size_t n, twill_until until)
{
    twill_status status = twill__queue_check(queue, n ? items : &n);
    if (status != TWILL_OK || !n)
        return status;
    if (queue->bytes_of || queue->priority_of)
        return TWILL_INVALID;
    if (n > queue->store.capacity && n != 1) /* one is more than a rendezvous has room for */
        return TWILL_TOO_BIG;
    return twill__push(queue, items, n, true, NULL, until, true);
}

TWILL__DEFINE twill_status twill_queue_pop_many_until(twill_queue *queue, void *items, size_t max,
                                                      size_t *count, twill_until until)
{
    return twill_queue_pop_batch_until(queue, items, max, count, 0, until);
}

TWILL__DEFINE twill_status twill_queue_pop_batch_until(twill_queue *queue, void *items, size_t max,
                                                       size_t *count, twill_ns linger,
                                                       twill_until until)
{
    size_t popped = 0;
    twill_status status = max ? twill__queue_check(queue, items) : TWILL_INVALID;
    if (status == TWILL_OK)
        status = twill__pop(queue, items, max, false, &popped, until, true);
    if (status == TWILL_OK && popped < max && linger > 0) {
        twill_until fill = twill_within_or_cancelled(linger, until.cancel);
        if (twill__no_deadline(fill.deadline) ||
            (!twill__no_deadline(until.deadline) && until.deadline < fill.deadline))
            fill.deadline = until.deadline;
        /* its end says only that no more came */
        (void)twill__pop(queue, (char *)items + popped * queue->store.size, max - popped, true,
                         &popped, fill, true);
    }
    if (count)
        *count = popped;
    return status;
}

TWILL__DEFINE twill_status twill_queue_ready_until(twill_queue *queue, twill_until until)
{
    twill_status status = twill__queue_check(queue, queue);
    return status ? status : twill__queue_watch(queue, false, until);
}

TWILL__DEFINE twill_status twill_queue_close(twill_queue *queue)
{
    twill_status status = twill__queue_check(queue, queue);
    return status ? status : twill__queue_close(queue, TWILL_CLOSED, 0);
}

TWILL__DEFINE twill_status twill_queue_fail(twill_queue *queue, int code)
{
    twill_status status = twill__queue_check(queue, queue);
    return status ? status : twill__queue_close(queue, TWILL_FAILED, code);
}

TWILL__DEFINE int twill_queue_code(const twill_queue *queue)
{
    /* acquire: pairs with the release in twill__queue_close */
    if (!queue || atomic_load_explicit(&queue->closed, memory_order_acquire) != TWILL_FAILED)
        return 0;
    return atomic_load_explicit(&queue->code, memory_order_relaxed);
}

TWILL__DEFINE size_t twill_queue_clear(twill_queue *queue)
{
    twill__kept kept;
    if (twill__queue_check(queue, queue) != TWILL_OK)
        return 0;
    return twill__queue_clear(queue, kept.item);
}

TWILL__DEFINE twill_status twill_queue_attach(twill_queue *queue)
{
    twill__queue_turn turn;
    twill_status status = twill__queue_check(queue, queue);
    if (status != TWILL_OK)
        return status;
    twill__queue_enter(queue, &turn);
    if (twill__queue_closed(queue))
        status = TWILL_CLOSED;
    else if (queue->producers == UINT_MAX)
        status = TWILL_TOO_BIG;
    else
        queue->producers++;
    twill__queue_exit(queue, &turn);
    return status;
}

TWILL__DEFINE twill_status twill_queue_detach(twill_queue *queue)
{
    twill__queue_turn turn;
    twill_status status = twill__queue_check(queue, queue);
    if (status != TWILL_OK)
        return status;
    twill__queue_enter(queue, &turn);
    if (queue->producers == queue->held)
        status = TWILL_INVALID;
    else if (--queue->producers == 0)
        twill__queue_end(queue, TWILL_CLOSED, 0);
    twill__queue_exit(queue, &turn);
    return status;
}

TWILL__DEFINE twill_status twill_queue_task_done(twill_queue *queue)
{
    twill__queue_turn turn;
    twill_status status = twill__queue_check(queue, queue);
    if (status != TWILL_OK)
        return status;
    twill__queue_enter(queue, &turn);
    if (twill__queue_finished(queue) >= twill__queue_popped(queue))
        status = TWILL_INVALID;
    else
        queue->finished++;
    twill__queue_exit(queue, &turn);
    return status;
}

TWILL__DEFINE twill_status twill_queue_join_until(twill_queue *queue, twill_until until)
{
    twill_status status = twill__queue_check(queue, queue);
    return status ? status : twill__queue_watch(queue, true, until);
}

TWILL__DEFINE twill_status twill_queue_join(twill_queue *queue)
{
    return twill_queue_join_until(queue, (twill_until){0, NULL});
}

TWILL__DEFINE size_t twill_queue_length(const twill_queue *queue)
{
    if (!queue)
        return 0;
    if (queue->ring.cells)
        return twill__ring_length(&queue->ring);
    /* a hint */
    return atomic_load_explicit(&queue->length, memory_order_relaxed);
}

TWILL__DEFINE bool twill_queue_is_closed(const twill_queue *queue)
{
    /* pairs with the release in twill__queue_end */
    return queue && atomic_load_explicit(&queue->closed, memory_order_acquire) != 0;
}

static inline twill_status twill__queue_destroy(twill_queue *queue)
{
    twill_status status = twill__queue_desert(queue);
    if (status != TWILL_OK)
        return status;
    if (twill__queue_length(queue))
        (void)twill_queue_clear(queue);
    if (queue->memory)
        TWILL_FREE(queue->memory);
    return TWILL_OK;
}

TWILL__DEFINE twill_status twill_queue_destroy(twill_queue *queue)
{
    if (!queue)
        return TWILL_OK;
    if (!twill__queue_here(queue))
        return TWILL_FORKED;
    return queue->relief ? TWILL_DEADLOCK : twill__queue_destroy(queue); /* a call's ends with it */
}

TWILL__DEFINE void twill_queue_abandon(twill_queue *queue)
{
    if (queue && !twill__queue_here(queue) && queue->memory)
        TWILL_FREE(queue->memory);
}

#endif
