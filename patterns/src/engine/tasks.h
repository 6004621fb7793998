/* tasks.h: what a pool has still to do: in order of arrival, by priorities that age, and later. */
#ifndef TWILL__ENGINE_TASKS_H
#define TWILL__ENGINE_TASKS_H

#include "platform/platform.h"

/* All of it under the owner's lock.

   While all priorities are 0 the tasks stand in a ring in order of arrival. One taken out of the
   middle leaves a hole, which is passed over; a ring that is full of holes is pushed together, so
   that holes cost a constant time each. The first task of another priority turns the ring into a
   heap, keyed by `queued - priority * ageing`: the key never changes while time passes, so ageing
   needs no sorting, and equal keys go by number. An empty heap is a ring again. */

typedef struct
    twill__todo_entry { /* of a task that can be taken out of the middle, or has a timer */
    uint64_t place;     /* its position + 1; 0: not queued */
    size_t timer;       /* its place in the timer heap + 1; 0: none */
    twill_ns when;
} twill__todo_entry;

typedef struct twill__todo {
    twill_task_fn *fn; /* NULL: `arg` is the entry of a record */
    void *arg, *context;
    size_t index;   /* its number */
    uint64_t stamp; /* ticks at its acceptance; 0: not measured */
} twill__todo;

typedef struct twill__keyed {
    int64_t key;
    twill__todo todo;
} twill__keyed;

typedef struct twill__todos {
    twill__todo *ring;
    size_t size; /* of the ring, a power of 2 */
    uint64_t head, tail;
    size_t length; /* tasks in the ring, or in the heap */
    twill__keyed *heap;
    size_t heap_room;
    bool keyed, mixed; /* now by keys; there were priorities at some time */
    bool newest_first;
    twill_ns ageing; /* TWILL_FOREVER: never */
    twill__todo_entry **timers;
    size_t timer_count, timer_room;
} twill__todos;

static inline bool twill__todos_init(twill__todos *todos, size_t capacity, bool newest_first,
                                     twill_ns ageing)
{
    memset(todos, 0, sizeof *todos);
    todos->size = 64;
    while (todos->size < capacity && todos->size < 4096)
        todos->size *= 2;
    todos->ring = (twill__todo *)TWILL_MALLOC(todos->size * sizeof *todos->ring);
    todos->newest_first = newest_first;
    todos->ageing = ageing ? ageing : TWILL_SEC(1);
    return todos->ring != NULL;
}

static inline void twill__todos_free(twill__todos *todos)
{
    TWILL_FREE(todos->ring);
    TWILL_FREE(todos->heap);
    TWILL_FREE(todos->timers);
    todos->ring = NULL;
    todos->heap = NULL;
    todos->timers = NULL;
    todos->length = todos->timer_count = 0;
}

static inline void *twill__larger(void *old, size_t used, size_t bytes)
{
    void *fresh = TWILL_MALLOC(bytes);
    if (fresh && used)
        memcpy(fresh, old, used);
    if (fresh)
        TWILL_FREE(old);
    return fresh;
}

static inline void twill__todo_placed(const twill__todo *todo, uint64_t place)
{
    if (!todo->fn)
        ((twill__todo_entry *)todo->arg)->place = place;
}

static inline twill__todo *twill__todos_ring_at(twill__todos *todos, uint64_t position)
{
    return &todos->ring[position & (todos->size - 1)];
}

static inline bool twill__is_hole(const twill__todo *todo)
{
    return !todo->fn && !todo->arg;
}

/* ---- the ring ---- */

/* Pushes the ring together; into a larger one if `fresh` is not NULL. */
static inline void twill__todos_ring_pack(twill__todos *todos, twill__todo *fresh, size_t size)
{
    uint64_t to = todos->head;
    for (uint64_t from = todos->head; from != todos->tail; from++) {
        twill__todo todo = *twill__todos_ring_at(todos, from);
        if (twill__is_hole(&todo))
            continue;
        *(fresh ? &fresh[to & (size - 1)] : twill__todos_ring_at(todos, to)) = todo;
        to++;
        twill__todo_placed(&todo, to);
    }
    todos->tail = to;
    if (fresh) {
        TWILL_FREE(todos->ring);
        todos->ring = fresh;
        todos->size = size;
    }
}

/* Room for `count` more. */
static inline bool twill__todos_ring_room(twill__todos *todos, size_t count)
{
    size_t size = todos->size, used = todos->keyed ? 0 : todos->length;
    twill__todo *fresh;
    if (count <= size && todos->tail - todos->head <= size - count)
        return true;
    if (count <= size / 2 && used <= size / 2) {
        twill__todos_ring_pack(todos, NULL, 0);
        return true;
    }
    while (size - used < count) { /* exit: it doubles */
        if (size > SIZE_MAX / 2 / sizeof *fresh)
            return false;
        size *= 2;
    }
    if (!(fresh = (twill__todo *)TWILL_MALLOC(size * sizeof *fresh)))
        return false;
    twill__todos_ring_pack(todos, fresh, size);
    return true;
}

/* No hole at either end. */
static inline void twill__todos_ring_trim(twill__todos *todos)
{
    while (todos->head != todos->tail && twill__is_hole(twill__todos_ring_at(todos, todos->head)))
        todos->head++;
    while (todos->head != todos->tail &&
           twill__is_hole(twill__todos_ring_at(todos, todos->tail - 1)))
        todos->tail--;
}

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
    for (size_t child; (child = 2 * at + 1) < todos->length; at = child) {
        if (child + 1 < todos->length &&
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
    todos->length--;
    if (at < todos->length) {
        twill__keyed last = todos->heap[todos->length];
        twill__heap_settle(todos, at, &last);
    }
    if (!todos->length)
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
        !(fresh = twill__larger(todos->heap, todos->keyed ? todos->length * sizeof *todos->heap : 0,
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
    if (key >= 9e18 || key <= -9e18) /* saturated: the priority alone decides */
        return key > 0 ? INT64_MAX : INT64_MIN;
    return queued - (int64_t)priority * todos->ageing;
}

/* When a stamp was taken. */
static inline twill_ns twill__stamp_ns(uint64_t stamp, uint64_t rate, uint64_t ticks, twill_ns now)
{
    return now - (twill_ns)((double)(ticks - stamp) * 1024 / (double)rate);
}

/* From the ring into the heap. Those that were not measured count as queued with the one before. */
static inline void twill__todos_sort(twill__todos *todos, uint64_t rate)
{
    uint64_t ticks = twill__ticks(), from = todos->head, tail = todos->tail;
    twill_ns now = twill__clock_now(), last = 1;
    todos->keyed = true;
    todos->length = 0;
    for (; from != tail; from++) {
        twill__keyed keyed;
        keyed.todo = *twill__todos_ring_at(todos, from);
        if (twill__is_hole(&keyed.todo))
            continue;
        if (keyed.todo.stamp) {
            twill_ns at = twill__stamp_ns(keyed.todo.stamp, rate, ticks, now);
            if (at > last)
                last = at;
        }
        keyed.key = twill__key_of(todos, last, 0);
        todos->length++;
        twill__heap_settle(todos, todos->length - 1, &keyed);
    }
    todos->head = todos->tail = 0;
}

/* ---- both ---- */

/* Room for one more of that priority, beside `promised` others that may come. False: no memory. */
static inline bool twill__todos_room(twill__todos *todos, int priority, size_t promised)
{
    if (priority != 0)
        todos->mixed = true;
    return twill__todos_ring_room(todos, promised + 1) &&
           (!todos->mixed || twill__heap_room(todos, todos->length + promised + 1));
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
        todos->length++;
        twill__heap_settle(todos, todos->length - 1, &keyed);
    } else {
        *twill__todos_ring_at(todos, todos->tail++) = *todo;
        todos->length++;
        twill__todo_placed(todo, todos->tail);
    }
}

static inline twill__todo twill__todos_ring_take(twill__todos *todos, bool last)
{
    twill__todo todo = *twill__todos_ring_at(todos, last ? todos->tail - 1 : todos->head);
    if (last)
        todos->tail--;
    else
        todos->head++;
    todos->length--;
    twill__todo_placed(&todo, 0);
    twill__todos_ring_trim(todos);
    return todo;
}

/* The next one to run; length > 0. */
static inline twill__todo twill__todos_pop(twill__todos *todos)
{
    return todos->keyed ? twill__heap_take(todos, 0)
                        : twill__todos_ring_take(todos, todos->newest_first);
}

/* The oldest, or the newest; length > 0. In a heap it is looked for. */
static inline twill__todo twill__todos_drop(twill__todos *todos, bool newest)
{
    size_t at = 0;
    if (!todos->keyed)
        return twill__todos_ring_take(todos, newest);
    for (size_t i = 1; i < todos->length; i++)
        if ((todos->heap[i].todo.index > todos->heap[at].todo.index) == newest)
            at = i;
    return twill__heap_take(todos, at);
}

/* Out of the middle. */
static inline twill__todo twill__todos_remove(twill__todos *todos, twill__todo_entry *entry)
{
    uint64_t at = entry->place - 1;
    twill__todo todo, *stands;
    if (todos->keyed)
        return twill__heap_take(todos, (size_t)at);
    stands = twill__todos_ring_at(todos, at);
    todo = *stands;
    stands->fn = NULL;
    stands->arg = NULL;
    todos->length--;
    entry->place = 0;
    twill__todos_ring_trim(todos);
    return todo;
}

/* The stamp of the task that has waited longest, as far as it was measured; 0: not known. */
static inline uint64_t twill__todos_oldest(twill__todos *todos)
{
    uint64_t oldest = 0;
    if (!todos->length)
        return 0;
    if (!todos->keyed)
        return twill__todos_ring_at(todos, todos->head)->stamp;
    for (size_t i = 0; i < todos->length; i++)
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
