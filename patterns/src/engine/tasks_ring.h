/* tasks_ring.h: what a pool has still to do: the record of it, and the ring, from which tasks are
   taken without the lock. */
#ifndef TWILL__ENGINE_TASKS_RING_H
#define TWILL__ENGINE_TASKS_RING_H

#include "engine/spin.h"

/* All of it under the owner's lock, but for two things. While it is not held (twill__todos_hold),
   any thread may take the oldest task with one compare-and-swap on `head`. Everything else that a
   task can be taken by holds first: one bit in `head`, and those without the lock find nothing.
   Letting go moves all positions on by a whole turn of the ring, so that whoever has read a cell
   before cannot take what stands there now.

   And while it is not shut (twill__todos_shut), any thread may come in at the door: one
   compare-and-swap sets a bit in `tail`, and until a plain store moves the tail on, it alone pushes
   and writes what else is guarded by the door. One read-modify-write a push: for the holder of the
   lock, who shuts the door first, the two together are one lock. Whoever finds the door taken or
   shut waits at the lock instead. To hold is to shut, too.

   While all priorities are 0 the tasks stand in a ring in order of arrival. One taken out of the
   middle leaves a hole, which is passed over; a ring that is full of holes is pushed together, so
   that holes cost a constant time each. The first task of another priority turns the ring into a
   heap, keyed by `queued - priority * ageing`: the key never changes while time passes, so ageing
   needs no sorting, and equal keys go by number. An empty heap is a ring again. */

/* Places of a ring: of the smallest, and, where no more than that may wait, of the first; beyond,
   it grows with what does wait. */
#ifndef TWILL__FIRST_PLACES /* the explorer wants fewer; powers of 2 */
#define TWILL__FIRST_PLACES 64
#define TWILL__EARLY_PLACES 4096
#endif

typedef struct
    twill__todo_entry { /* of a task that can be taken out of the middle, or has a timer */
    /* in the ring or the heap, + 1; 0: it has not been there. Relaxed: under the lock, or a
       guess */
    _Atomic uint64_t place;
    size_t timer; /* its place in the timer heap + 1; 0: none */
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

/* A place of the ring. Who takes without the lock reads it before he knows that it is his: all
   relaxed. */
typedef struct twill__todo_cell {
    _Atomic(twill_task_fn *) fn;
    _Atomic(void *) arg;
    _Atomic(void *) context;
    _Atomic uint64_t number; /* 2 * index; + 1: it was measured */
} twill__todo_cell;

typedef struct twill__todo_ring {
    struct twill__todo_ring *older; /* too small by now; who is late may still read there */
    size_t size;                    /* a power of 2 */
    twill__todo_cell *cell;
    _Atomic uint64_t *stamp; /* of those that were measured */
} twill__todo_ring;

#define TWILL__HOLD   ((uint64_t)1 << 63) /* in `head`: nobody takes without the lock */
#define TWILL__SHUT   ((uint64_t)1 << 63) /* in `tail`: nobody comes in without the lock */
#define TWILL__INSIDE ((uint64_t)1 << 62) /* in `tail`: somebody has come in, and is at it */

typedef struct twill__todos {
    /* by who is inside, or, while shut, under the lock */
    _Alignas(TWILL__LINE) _Atomic uint64_t tail;
    uint64_t seen; /* the head as it was some time ago, or is, while held */
    /* by who takes */
    _Alignas(TWILL__LINE) _Atomic uint64_t head; /* held: TWILL__HOLD, and `seen` says where */
    /* by nobody, for long: read by both */
    _Alignas(TWILL__LINE) _Atomic(twill__todo_ring *) ring;
    _Atomic size_t size; /* the ring's, for those who may come after its end */
    _Atomic bool shut;   /* or to be shut as soon as who is inside has left; under the lock */
    bool held;           /* under the lock, as all that follows */
    bool keyed, mixed;   /* now by keys; there were priorities at some time */
    bool newest_first;
    size_t holes;
    twill__keyed *heap;
    size_t heap_length, heap_room;
    twill_ns ageing; /* TWILL_FOREVER: never */
    twill__todo_entry **timers;
    size_t timer_count, timer_room;
    _Alignas(TWILL__LINE) char other_line; /* what follows is written by others */
} twill__todos;

/* NULL: no memory. */
static inline twill__todo_ring *twill__todo_ring_make(size_t size)
{
    size_t cell = sizeof(twill__todo_cell) + sizeof(uint64_t);
    twill__todo_ring *ring;
    if (size > (SIZE_MAX - sizeof *ring - TWILL__LINE) / cell)
        return NULL;
    ring = (twill__todo_ring *)TWILL_MALLOC(sizeof *ring + TWILL__LINE + size * cell);
    if (!ring)
        return NULL;
    ring->older = NULL;
    ring->size = size;
    ring->cell = (twill__todo_cell *)(void *)((char *)(ring + 1) +
                                              (TWILL__LINE - (uintptr_t)(ring + 1) % TWILL__LINE) %
                                                  TWILL__LINE);
    ring->stamp = (_Atomic uint64_t *)(void *)(ring->cell + size);
    return ring;
}

static inline bool twill__todos_init(twill__todos *todos, size_t capacity, bool newest_first,
                                     twill_ns ageing)
{
    twill__todo_ring *ring;
    size_t size = TWILL__FIRST_PLACES;
    memset(todos, 0, sizeof *todos);
    while (size < capacity && size < TWILL__EARLY_PLACES)
        size *= 2;
    ring = twill__todo_ring_make(size);
    atomic_init(&todos->ring, ring);
    atomic_init(&todos->size, size);
    atomic_init(&todos->head, TWILL__HOLD);
    atomic_init(&todos->tail, TWILL__SHUT);
    atomic_init(&todos->shut, true);
    todos->held = true;
    todos->newest_first = newest_first;
    todos->ageing = ageing ? ageing : TWILL_SEC(1);
    return ring != NULL;
}

static inline void twill__todos_free(twill__todos *todos)
{
    /* relaxed, here and below: written under the lock */
    twill__todo_ring *ring = atomic_load_explicit(&todos->ring, memory_order_relaxed), *older;
    for (; ring; ring = older) {
        older = ring->older;
        TWILL_FREE(ring);
    }
    TWILL_FREE(todos->heap);
    TWILL_FREE(todos->timers);
    atomic_store_explicit(&todos->ring, NULL, memory_order_relaxed);
    todos->heap = NULL;
    todos->timers = NULL;
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
        atomic_store_explicit(&((twill__todo_entry *)todo->arg)->place, place,
                              memory_order_relaxed);
}

static inline uint64_t twill__todo_place(const twill__todo_entry *entry)
{
    return atomic_load_explicit(&entry->place, memory_order_relaxed);
}

static inline bool twill__is_hole(const twill__todo *todo)
{
    return !todo->fn && !todo->arg;
}

/* ---- the ring ---- */

#define TWILL__CELLS_AHEAD  8  /* cells */
#define TWILL__STAMPS_AHEAD 16 /* stamps: two lines */

static inline twill__todo_ring *twill__todos_ring(const twill__todos *todos)
{
    return atomic_load_explicit(&todos->ring, memory_order_relaxed); /* under the lock */
}

/* For those who write it; else a guess. */
static inline uint64_t twill__todos_tail(const twill__todos *todos)
{
    return atomic_load_explicit(&todos->tail, memory_order_relaxed) &
           ~(TWILL__SHUT | TWILL__INSIDE);
}

/* For all others. */
static inline uint64_t twill__todos_tail_now(const twill__todos *todos)
{
    /* acquire: pairs with the release in twill__todos_tail_to */
    return atomic_load_explicit(&todos->tail, memory_order_acquire) &
           ~(TWILL__SHUT | TWILL__INSIDE);
}

/* Under the lock and shut. */
static inline void twill__todos_tail_to(twill__todos *todos, uint64_t position)
{
    /* release: pairs with the acquire of who takes */
    atomic_store_explicit(&todos->tail, position | TWILL__SHUT, memory_order_release);
}

static inline void twill__todo_put(twill__todo_ring *ring, uint64_t position,
                                   const twill__todo *todo)
{
    size_t at = (size_t)(position & (ring->size - 1));
    twill__todo_cell *cell = &ring->cell[at];
    uint64_t number = 2 * (uint64_t)todo->index;
    if (todo->stamp) {
        number++;
        atomic_store_explicit(&ring->stamp[at], todo->stamp, memory_order_relaxed);
    }
    atomic_store_explicit(&cell->fn, todo->fn, memory_order_relaxed);
    atomic_store_explicit(&cell->arg, todo->arg, memory_order_relaxed);
    atomic_store_explicit(&cell->context, todo->context, memory_order_relaxed);
    atomic_store_explicit(&cell->number, number, memory_order_relaxed);
}

static inline __attribute__((always_inline)) void
twill__todo_read(twill__todo_ring *ring, uint64_t position, twill__todo *todo)
{
    size_t at = (size_t)(position & (ring->size - 1));
    twill__todo_cell *cell = &ring->cell[at];
    uint64_t number = atomic_load_explicit(&cell->number, memory_order_relaxed);
    todo->fn = atomic_load_explicit(&cell->fn, memory_order_relaxed);
    todo->arg = atomic_load_explicit(&cell->arg, memory_order_relaxed);
    todo->context = atomic_load_explicit(&cell->context, memory_order_relaxed);
    todo->index = (size_t)(number / 2);
    todo->stamp = number & 1 ? atomic_load_explicit(&ring->stamp[at], memory_order_relaxed) : 0;
}

/* ---- the door ---- */

#define TWILL__DOOR_NAP 50000 /* ns: who is inside has lost his CPU, and may need ours */

static inline bool twill__todos_are_shut(const twill__todos *todos)
{
    /* written under the lock; without it, a guess */
    return atomic_load_explicit(&todos->shut, memory_order_relaxed);
}

/* Without the lock: from now on this thread alone pushes, until twill__todos_leave. False: another
   one does, or the door is shut. Its CAS is what somebody who goes to sleep is compared with: he is
   counted, then looks at the tail; we set the tail, then look for who is counted. */
static inline bool twill__todos_enter(twill__todos *todos, uint64_t *tail)
{
    /* a guess for the CAS */
    *tail = atomic_load_explicit(&todos->tail, memory_order_relaxed);
    return !twill__todos_are_shut(todos) && !(*tail & (TWILL__SHUT | TWILL__INSIDE)) &&
           atomic_compare_exchange_strong_explicit(&todos->tail, tail, *tail | TWILL__INSIDE,
                                                   memory_order_seq_cst, memory_order_relaxed);
}

/* The tail is there now; the last access. */
static inline void twill__todos_leave(twill__todos *todos, uint64_t tail)
{
    /* release: pairs with the acquire of who takes, comes in next, or shuts */
    atomic_store_explicit(&todos->tail, tail, memory_order_release);
}

/* Under the lock: from now on its holder alone pushes, until the door is opened. Who is inside is
   waited for: he is about to leave, unless he has lost his CPU. */
static inline void twill__todos_shut(twill__todos *todos)
{
    static const _Atomic uint32_t never;
    unsigned yields = 0;
    uint64_t tail;
    if (twill__todos_are_shut(todos))
        return;
    atomic_store_explicit(&todos->shut, true, memory_order_relaxed); /* seen soon enough */
    tail = atomic_load_explicit(&todos->tail, memory_order_relaxed); /* a guess for the CAS */
    for (unsigned looks = 1;; looks++) { /* exit: who is inside leaves, and few come after him */
        tail &= ~TWILL__INSIDE;
        /* acquire: what those who were inside have written */
        if (atomic_compare_exchange_weak_explicit(&todos->tail, &tail, tail | TWILL__SHUT,
                                                  memory_order_acquire, memory_order_relaxed))
            return;
        if (TWILL__SPIN && looks % 64 != 0)
            twill__pause();
        else if (yields++ < 16)
            twill__yield();
        else
            (void)twill__park(&never, 0, twill__clock_now() + TWILL__DOOR_NAP);
    }
}

/* Under the lock, not held: others may push again. */
static inline void twill__todos_open(twill__todos *todos)
{
    atomic_store_explicit(&todos->shut, false, memory_order_relaxed); /* a guess for others */
    /* release: pairs with twill__todos_enter */
    atomic_store_explicit(&todos->tail, twill__todos_tail(todos), memory_order_release);
}

/* From now on the lock's holder alone takes tasks, until it lets go. */
static inline void twill__todos_hold(twill__todos *todos)
{
    if (todos->held)
        return;
    twill__todos_shut(todos);
    todos->held = true;
    /* acquire: what those who took before have written (twill__todos_take) comes before this */
    todos->seen = atomic_fetch_or_explicit(&todos->head, TWILL__HOLD, memory_order_acquire);
}

/* Whether there are places enough for that: each letting go takes a whole turn, which for a large
   ring is 2^61 places after months. Then it stays held, and all goes by the lock. */
static inline bool twill__todos_may_let_go(const twill__todos *todos)
{
    return twill__todos_tail(todos) < TWILL__INSIDE / 2;
}

static inline void twill__todos_let_go(twill__todos *todos)
{
    uint64_t turn = twill__todos_ring(todos)->size;
    todos->held = false;
    todos->seen += turn;
    twill__todos_tail_to(todos, twill__todos_tail(todos) + turn);
    /* release: pairs with the acquire of who takes: it sees both, or none */
    atomic_store_explicit(&todos->head, todos->seen, memory_order_release);
}

/* Inside, or under the lock and shut: looks how far those who take without the lock have come. */
static inline void twill__todos_see(twill__todos *todos)
{
    if (!todos->held) /* acquire: a cell is filled again only after it was read */
        todos->seen = atomic_load_explicit(&todos->head, memory_order_acquire);
}

/* Likewise: places of the ring that are taken, at most; exact while held, or after a look just
   now. */
static inline size_t twill__todos_span(const twill__todos *todos)
{
    return (size_t)(twill__todos_tail(todos) - todos->seen);
}

/* Inside: whether there is room for one more, where `most` may wait. */
static inline bool twill__todos_fits(twill__todos *todos, uint64_t tail, size_t most)
{
    size_t room = twill__todos_ring(todos)->size;
    if (most < room)
        room = most;
    if (tail - todos->seen >= room)
        twill__todos_see(todos);
    return tail - todos->seen < room;
}

/* Under the lock and shut: how many wait at most; exactly so many while held. */
static inline size_t twill__todos_at_most(const twill__todos *todos)
{
    return todos->keyed ? todos->heap_length : twill__todos_span(todos) - todos->holes;
}

/* Under the lock: how many wait; if it is not held, at the moment of the call, and who is just
   inside has not come yet. */
static inline size_t twill__todos_length(const twill__todos *todos)
{
    uint64_t head;
    if (todos->held)
        return twill__todos_at_most(todos);
    head = atomic_load_explicit(&todos->head, memory_order_acquire); /* first: it only follows */
    return (size_t)(twill__todos_tail_now(todos) - head);
}

/* Under the lock, by who has just counted himself among the idle, or off what others count on:
   whether there is nothing. Whoever is inside just now is waited for: he may not have seen it. */
static inline bool twill__todos_are_empty(twill__todos *todos)
{
    /* seq_cst: see twill__todos_enter */
    if (atomic_load_explicit(&todos->tail, memory_order_seq_cst) & TWILL__INSIDE)
        twill__todos_shut(todos);
    return twill__todos_length(todos) == 0;
}

typedef struct twill__taker { /* a thread that takes without the lock */
    /* as they were some time ago: their line is the pushers' */
    uint64_t tail;
    twill__todo_ring *ring; /* while head is in these TWILL__FIRST_PLACES: */
    uint64_t page;          /* + 1; 0: not known */
    /* the record that may be this thread's, before it is: who holds, sees it */
    _Atomic(twill__todo_entry *) claim;
    const twill__todo_entry *ahead; /* a guess: a record whose turn it will be soon, or NULL */
    uint64_t next;                  /* its last place, + 1 */
    bool beside;                    /* a guess: others have taken some since */
} twill__taker;

#define TWILL__TAKES_AHEAD 3

/* The lines of a record were another core's: it is named early enough to fetch them. */
static inline void twill__todo_look_ahead(twill__todo_ring *ring, uint64_t head,
                                          twill__taker *taker)
{
    const twill__todo_cell *cell = &ring->cell[(head + TWILL__TAKES_AHEAD) & (ring->size - 1)];
    taker->ahead = NULL;
    if ((int64_t)(taker->tail - head) > TWILL__CELLS_AHEAD)
        __builtin_prefetch(&ring->cell[(head + TWILL__CELLS_AHEAD) & (ring->size - 1)]);
    if ((int64_t)(taker->tail - head) > TWILL__TAKES_AHEAD &&
        !atomic_load_explicit(&cell->fn, memory_order_relaxed))
        taker->ahead =
            (const twill__todo_entry *)atomic_load_explicit(&cell->arg, memory_order_relaxed);
}

/* A guess, without the lock, and also after the end: how many stood before it, when so many had
   been taken; of those that have been taken, it is about the size of the ring. */
static inline size_t twill__todos_before(const twill__todos *todos, const twill__todo_entry *entry,
                                         uint64_t head)
{
    size_t size = atomic_load_explicit(&todos->size, memory_order_relaxed);
    return (size_t)(twill__todo_place(entry) - 1 - head) & (size - 1);
}

/* Letting go moves the head on by a whole turn: so within as many places as the smallest ring has
   it is the same ring. acquire: what it points to. One that is too old or too new is found out by
   the CAS. */
static inline twill__todo_ring *twill__taker_ring(const twill__todos *todos, twill__taker *taker,
                                                  uint64_t head)
{
    uint64_t page = head / TWILL__FIRST_PLACES + 1;
    if (taker->page != page) {
        taker->ring = atomic_load_explicit(&todos->ring, memory_order_acquire);
        taker->page = page;
    }
    return taker->ring;
}

/* A guess, without the pushers' line: whether it knows of more. */
static inline bool twill__todos_known(const twill__todos *todos, const twill__taker *taker)
{
    uint64_t head = atomic_load_explicit(&todos->head, memory_order_relaxed);
    return !(head & TWILL__HOLD) && (int64_t)(taker->tail - head) > 0;
}

/* A guess, as below: as long as the taker knows of more, the pushers' line is left alone. */
static inline bool twill__todos_wait(const twill__todos *todos, twill__taker *taker)
{
    if (!twill__todos_known(todos, taker))
        taker->tail = twill__todos_tail_now(todos);
    return twill__todos_known(todos, taker);
}

/* Whether something stands at the head, or came after that. The tail goes back only while held, and
   then the head passes what it was. */
static inline bool twill__todos_reach(const twill__todos *todos, twill__taker *taker, uint64_t head)
{
    if ((int64_t)(taker->tail - head) <= 0)
        taker->tail = twill__todos_tail_now(todos);
    return (int64_t)(taker->tail - head) > 0;
}

/* Without the lock: the oldest. False: there is none, or it is held. */
static inline bool twill__todos_take(twill__todos *todos, twill__todo *todo, twill__taker *taker)
{
    /* acquire, here and in the CAS: pairs with twill__todos_let_go */
    uint64_t head = atomic_load_explicit(&todos->head, memory_order_acquire);
    for (;;) { /* exit: taken, or nothing there; each turn is another's take */
        twill__todo_ring *ring;
        if (head & TWILL__HOLD || !twill__todos_reach(todos, taker, head))
            return false;
        ring = twill__taker_ring(todos, taker, head);
        twill__todo_read(ring, head, todo);
        /* relaxed: the CAS publishes it, to twill__todos_hold */
        atomic_store_explicit(&taker->claim, todo->fn ? NULL : (twill__todo_entry *)todo->arg,
                              memory_order_relaxed);
        /* release: the cell was read before it is filled again (twill__todos_see) */
        if (atomic_compare_exchange_weak_explicit(&todos->head, &head, head + 1,
                                                  memory_order_acq_rel, memory_order_acquire)) {
            taker->beside = head != taker->next;
            taker->next = head + 1;
            twill__todo_look_ahead(ring, head, taker);
            return true;
        }
    }
}

/* Without the lock: whether the oldest is that entry's. Then what was known of its record before
   the call that put it there, is known here; and as long as *head stays, it stands there. False
   also: it is held. */
static inline bool twill__todos_next_is(const twill__todos *todos, const twill__todo_entry *entry,
                                        twill__taker *taker, uint64_t *head)
{
    const twill__todo_cell *cell;
    twill__todo_ring *ring;
    *head = atomic_load_explicit(&todos->head, memory_order_acquire); /* as in twill__todos_take */
    if (*head & TWILL__HOLD || !twill__todos_reach(todos, taker, *head))
        return false;
    ring = twill__taker_ring(todos, taker, *head);
    cell = &ring->cell[*head & (ring->size - 1)];
    return !atomic_load_explicit(&cell->fn, memory_order_relaxed) &&
           atomic_load_explicit(&cell->arg, memory_order_relaxed) == entry;
}

/* After that: takes it, if it still stands there. */
static inline bool twill__todos_take_it(twill__todos *todos, twill__todo_entry *entry,
                                        twill__taker *taker, uint64_t head)
{
    /* as in twill__todos_take */
    atomic_store_explicit(&taker->claim, entry, memory_order_relaxed);
    return atomic_compare_exchange_strong_explicit(&todos->head, &head, head + 1,
                                                   memory_order_acq_rel, memory_order_relaxed);
}

/* A guess, without the lock. */
static inline bool twill__todos_are_held(const twill__todos *todos)
{
    return atomic_load_explicit(&todos->head, memory_order_relaxed) & TWILL__HOLD;
}

/* Pushes the ring together; into a larger one if `fresh` is not NULL. */
static inline void twill__todos_ring_pack(twill__todos *todos, twill__todo_ring *fresh)
{
    twill__todo_ring *ring = twill__todos_ring(todos), *into = fresh ? fresh : ring;
    uint64_t to, tail = twill__todos_tail(todos);
    twill__todos_hold(todos);
    to = todos->seen;
    for (uint64_t from = todos->seen; from != tail; from++) {
        twill__todo todo;
        twill__todo_read(ring, from, &todo);
        if (twill__is_hole(&todo))
            continue;
        twill__todo_put(into, to, &todo);
        twill__todo_placed(&todo, (to & (into->size - 1)) + 1);
        to++;
    }
    todos->holes = 0;
    twill__todos_tail_to(todos, to);
    if (fresh) {
        fresh->older = ring;
        /* release: pairs with the acquire in twill__todos_take */
        atomic_store_explicit(&todos->ring, fresh, memory_order_release);
        atomic_store_explicit(&todos->size, fresh->size, memory_order_relaxed); /* a figure */
    }
}

/* Under the lock and shut: room for `count` more. */
static inline bool twill__todos_ring_room(twill__todos *todos, size_t count)
{
    size_t size = twill__todos_ring(todos)->size, used;
    twill__todo_ring *fresh;
    if (count <= size && twill__todos_span(todos) <= size - count)
        return true;
    twill__todos_see(todos);
    if (count <= size && twill__todos_span(todos) <= size - count)
        return true;
    used = twill__todos_span(todos) - todos->holes;
    if (todos->holes && count <= size / 2 && used <= size / 2) {
        twill__todos_ring_pack(todos, NULL);
        return true;
    }
    /* twice as large: if it was only pushed together, it would soon have to be again, and the old
       one stays. Enough: each who comes asks for one more than there was room for */
    if (size > SIZE_MAX / 2)
        return false;
    TWILL_ASSERT(2 * size - used >= count);
    fresh = twill__todo_ring_make(2 * size);
    if (!fresh)
        return false;
    twill__todos_ring_pack(todos, fresh);
    return true;
}

/* Held: no hole at either end. */
static inline void twill__todos_ring_trim(twill__todos *todos)
{
    twill__todo_ring *ring = twill__todos_ring(todos);
    uint64_t head = todos->seen, tail = twill__todos_tail(todos);
    twill__todo todo;
    for (; todos->holes; head++, todos->holes--) { /* no more of them than places */
        twill__todo_read(ring, head, &todo);
        if (!twill__is_hole(&todo))
            break;
    }
    for (; todos->holes; tail--, todos->holes--) {
        twill__todo_read(ring, tail - 1, &todo);
        if (!twill__is_hole(&todo))
            break;
    }
    todos->seen = head;
    twill__todos_tail_to(todos, tail);
}

#endif
