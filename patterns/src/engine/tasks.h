/* tasks.h: what a pool has still to do: in order of arrival, by priorities that age, and later. */
#ifndef TWILL__ENGINE_TASKS_H
#define TWILL__ENGINE_TASKS_H

#include "engine/tasks_ring.h"

/* ---- the heap ---- */

static inline bool twill__before(const twill__todos *todos, const twill__keyed *a,
                                 const twill__keyed *b)
{
    if (a->key != b->key)
        return a->key < b->key;
    return todos->newest_first ? a->todo.index > b->todo.index : a->todo.index < b->todo.index;
}

static inline void twill__heap_set(twill__todos *todos, size_t at, const twill__keyed *keyed)
{
    todos->heap[at] = *keyed;
    twill__todo_placed(&keyed->todo, at + 1);
}

/* Puts `keyed` in at `at` or where it belongs above or below. */
static inline void twill__heap_settle(twill__todos *todos, size_t at, const twill__keyed *keyed)
{
    for (; at > 0 && twill__before(todos, keyed, &todos->heap[(at - 1) / 2]); at = (at - 1) / 2)
        twill__heap_set(todos, at, &todos->heap[(at - 1) / 2]);
    for (size_t child; (child = 2 * at + 1) < todos->heap_length; at = child) {
        if (child + 1 < todos->heap_length &&
            twill__before(todos, &todos->heap[child + 1], &todos->heap[child]))
            child++;
        if (!twill__before(todos, &todos->heap[child], keyed))
            break;
        twill__heap_set(todos, at, &todos->heap[child]);
    }
    twill__heap_set(todos, at, keyed);
}

static inline twill__todo twill__heap_take(twill__todos *todos, size_t at)
{
    twill__todo todo = todos->heap[at].todo;
    todos->heap_length--;
    if (at < todos->heap_length) {
        twill__keyed last = todos->heap[todos->heap_length];
        twill__heap_settle(todos, at, &last);
    }
    if (!todos->heap_length)
        todos->keyed = false;
    twill__todo_placed(&todo, 0);
    return todo;
}

static inline bool twill__heap_room(twill__todos *todos, size_t count)
{
    size_t room = todos->heap_room ? todos->heap_room : 64;
    void *fresh;
    if (count <= todos->heap_room)
        return true;
    while (room < count)
        room *= 2;
    if (room > SIZE_MAX / sizeof *todos->heap ||
        !(fresh = twill__larger(todos->heap, todos->heap_length * sizeof *todos->heap,
                                room * sizeof *todos->heap)))
        return false;
    todos->heap = (twill__keyed *)fresh;
    todos->heap_room = room;
    return true;
}

static inline int64_t twill__key_of(const twill__todos *todos, twill_ns queued, int priority)
{
    double key;
    if (todos->newest_first || todos->ageing == TWILL_FOREVER)
        return -(int64_t)priority;
    key = (double)queued - (double)priority * (double)todos->ageing;
    if (key >= 9e18 || key <= -9e18) /* too far away for a number: the priority alone decides */
        return (key > 0 ? INT64_C(9000000000000000000) : -INT64_C(9000000000000000000)) - priority;
    return queued - (int64_t)priority * todos->ageing;
}

/* When a stamp was taken. */
static inline twill_ns twill__stamp_ns(uint64_t stamp, uint64_t rate, uint64_t ticks, twill_ns now)
{
    uint64_t age = ticks > stamp ? ticks - stamp : 0; /* counters may differ by a little */
    return now - (twill_ns)((double)age * 1024 / (double)rate);
}

/* From the ring into the heap. Those that were not measured count as queued with the one before. */
static inline void twill__todos_sort(twill__todos *todos, uint64_t rate)
{
    uint64_t ticks = twill__ticks(), tail = twill__todos_tail(todos);
    twill_ns now = twill__clock_now(), last = 1;
    twill__todos_hold(todos);
    todos->keyed = true;
    for (uint64_t from = todos->seen; from != tail; from++) {
        twill__keyed keyed;
        twill__todo_read(twill__todos_ring(todos), from, &keyed.todo);
        if (twill__is_hole(&keyed.todo))
            continue;
        if (keyed.todo.stamp) {
            twill_ns at = twill__stamp_ns(keyed.todo.stamp, rate, ticks, now);
            if (at > last)
                last = at;
        }
        keyed.key = twill__key_of(todos, last, 0);
        todos->heap_length++;
        twill__heap_settle(todos, todos->heap_length - 1, &keyed);
    }
    todos->holes = 0;
    todos->seen = tail;
}

/* ---- both ---- */

/* Room for one more, in a heap, too, if it has a priority or others had one; beside `promised`
   others that may come. False: no memory. */
static inline bool twill__todos_room(twill__todos *todos, bool mixed, size_t promised)
{
    return twill__todos_ring_room(todos, promised + 1) &&
           (!mixed || twill__heap_room(todos, twill__todos_length(todos) + promised + 1));
}

/* Room for so many timers. False: no memory. */
static inline bool twill__timer_space(twill__todos *todos, size_t count)
{
    size_t room = todos->timer_room ? 2 * todos->timer_room : 16;
    void *fresh;
    if (count <= todos->timer_room)
        return true;
    if (room > SIZE_MAX / sizeof *todos->timers ||
        !(fresh = twill__larger(todos->timers, todos->timer_count * sizeof *todos->timers,
                                room * sizeof *todos->timers)))
        return false;
    todos->timers = (twill__todo_entry **)fresh;
    todos->timer_room = room;
    return true;
}

/* By who is inside, or under the lock and shut; there is room in the ring. */
static inline void twill__todos_fill(twill__todos *todos, uint64_t tail, const twill__todo *todo)
{
    twill__todo_ring *ring = twill__todos_ring(todos);
    twill__todo_placed(todo, (tail & (ring->size - 1)) + 1);
    twill__todo_put(ring, tail, todo);
    twill__prefetch(&ring->cell[(tail + TWILL__CELLS_AHEAD) & (ring->size - 1)]);
    if (todo->stamp)
        twill__prefetch(&ring->stamp[(tail + TWILL__STAMPS_AHEAD) & (ring->size - 1)]);
}

/* After twill__todos_room. queued: matters with priorities alone; 0: now. */
static inline void twill__todos_push(twill__todos *todos, const twill__todo *todo, int priority,
                                     twill_ns queued, uint64_t rate)
{
    if (priority != 0 && !todos->keyed)
        twill__todos_sort(todos, rate);
    if (todos->keyed) {
        twill__keyed keyed;
        keyed.todo = *todo;
        keyed.key = twill__key_of(todos, queued ? queued : twill__clock_now(), priority);
        todos->heap_length++;
        twill__heap_settle(todos, todos->heap_length - 1, &keyed);
    } else {
        uint64_t tail = twill__todos_tail(todos);
        twill__todos_fill(todos, tail, todo);
        twill__todos_tail_to(todos, tail + 1);
    }
}

static inline twill__todo twill__todos_ring_pop(twill__todos *todos, bool last)
{
    twill__todo_ring *ring = twill__todos_ring(todos);
    uint64_t tail = twill__todos_tail(todos);
    twill__todo todo;
    if (last) {
        twill__todo_read(ring, tail - 1, &todo);
        twill__todos_tail_to(todos, tail - 1);
    } else {
        twill__todo_read(ring, todos->seen, &todo);
        todos->seen++;
    }
    twill__todos_ring_trim(todos);
    return todo;
}

/* Held: the next one to run; length > 0. */
static inline twill__todo twill__todos_pop(twill__todos *todos)
{
    return todos->keyed ? twill__heap_take(todos, 0)
                        : twill__todos_ring_pop(todos, todos->newest_first);
}

/* Held: the oldest, or the newest; length > 0. In a heap it is looked for. */
static inline twill__todo twill__todos_drop(twill__todos *todos, bool newest)
{
    size_t at = 0;
    if (!todos->keyed)
        return twill__todos_ring_pop(todos, newest);
    for (size_t i = 1; i < todos->heap_length; i++)
        if ((todos->heap[i].todo.index > todos->heap[at].todo.index) == newest)
            at = i;
    return twill__heap_take(todos, at);
}

/* Held: whether it waits: one that was pushed may have been taken. */
static inline bool twill__todos_have(const twill__todos *todos, const twill__todo_entry *entry)
{
    twill__todo_ring *ring = twill__todos_ring(todos);
    size_t at =
        (size_t)twill__todo_place(entry) - 1; /* of an old place: then another stands there */
    twill__todo todo;
    if (todos->keyed)
        return at < todos->heap_length && !todos->heap[at].todo.fn &&
               todos->heap[at].todo.arg == entry;
    if (((at - todos->seen) & (ring->size - 1)) >= twill__todos_span(todos))
        return false;
    twill__todo_read(ring, at, &todo);
    return !todo.fn && todo.arg == entry;
}

/* Held: out of the middle. */
static inline void twill__todos_remove(twill__todos *todos, twill__todo_entry *entry)
{
    static const twill__todo hole;
    uint64_t at = twill__todo_place(entry) - 1;
    if (todos->keyed) {
        (void)twill__heap_take(todos, (size_t)at);
        return;
    }
    twill__todo_put(twill__todos_ring(todos), at, &hole);
    todos->holes++;
    twill__todos_ring_trim(todos);
}

/* The stamp of the task that has waited longest, as far as it was measured; 0: not known. There
   is one. */
static inline uint64_t twill__todos_oldest(twill__todos *todos)
{
    uint64_t oldest = 0;
    if (!todos->keyed) {
        twill__todo todo;
        twill__todo_read(twill__todos_ring(todos), todos->seen, &todo);
        return todo.stamp;
    }
    for (size_t i = 0; i < todos->heap_length; i++)
        if (todos->heap[i].todo.stamp && (!oldest || todos->heap[i].todo.stamp < oldest))
            oldest = todos->heap[i].todo.stamp;
    return oldest;
}

/* ---- timers ---- */

static inline void twill__timer_settle(twill__todos *todos, size_t at, twill__todo_entry *entry)
{
    twill__todo_entry **heap = todos->timers;
    for (; at > 0 && entry->when < heap[(at - 1) / 2]->when; at = (at - 1) / 2) {
        heap[at] = heap[(at - 1) / 2];
        heap[at]->timer = at + 1;
    }
    for (size_t child; (child = 2 * at + 1) < todos->timer_count; at = child) {
        if (child + 1 < todos->timer_count && heap[child + 1]->when < heap[child]->when)
            child++;
        if (heap[child]->when >= entry->when)
            break;
        heap[at] = heap[child];
        heap[at]->timer = at + 1;
    }
    heap[at] = entry;
    entry->timer = at + 1;
}

/* After twill__timer_space. */
static inline void twill__timer_set(twill__todos *todos, twill__todo_entry *entry, twill_ns when)
{
    size_t at = entry->timer ? entry->timer - 1 : todos->timer_count++;
    entry->when = when;
    twill__timer_settle(todos, at, entry);
}

static inline void twill__timer_stop(twill__todos *todos, twill__todo_entry *entry)
{
    size_t at = entry->timer - 1;
    if (!entry->timer)
        return;
    entry->timer = 0;
    todos->timer_count--;
    if (at < todos->timer_count)
        twill__timer_settle(todos, at, todos->timers[todos->timer_count]);
}

/* The earliest instant; TWILL_FOREVER: none. */
static inline twill_ns twill__timer_next(const twill__todos *todos)
{
    return todos->timer_count ? todos->timers[0]->when : TWILL_FOREVER;
}

#endif
