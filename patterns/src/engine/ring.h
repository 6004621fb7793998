/* ring.h: a bounded ring of items for many producers and consumers, without locks and without
   waiting. */
#ifndef TWILL__ENGINE_RING_H
#define TWILL__ENGINE_RING_H

#include "engine/cancel.h"

/* Each cell has a stamp that says whose turn it is: the position of the push that may fill it, or
   that position + 1 once it is filled, for the pop. A position is lap | mark | index; the mark is
   the power of two above the capacity, so any capacity is exact and nothing is divided. One
   compare-and-swap on tail or head claims a cell; the stamp, stored last with release and loaded
   first with acquire, carries the item. Closing sets the mark in tail: each later claim fails.
   After D. Vyukov's bounded MPMC queue and the positions of crossbeam's ArrayQueue.

   Between its claim and its stamp a cell is on its way: then there may be nothing to take although
   the positions say so. The claims are seq_cst, and whoever goes to sleep counts himself (seq_cst)
   and then looks at the positions: so either he sees the claim, or its maker sees the count. */
typedef struct twill__ring {
    _Alignas(TWILL__LINE) _Atomic uint64_t tail;
    _Atomic uint64_t higher, peak; /* see twill__ring_peak */
    _Alignas(TWILL__LINE) _Atomic uint64_t head;
    /* set at creation */
    _Alignas(TWILL__LINE) uint64_t capacity;
    uint64_t mark, lap;
    unsigned shift;
    size_t size, stride;
    char *cells; /* NULL: there is no ring */
} twill__ring;

typedef _Atomic uint64_t twill__stamp;

/* Small sizes without a call. */
static inline void twill__copy(void *to, const void *from, size_t size)
{
    if (size == 8)
        memcpy(to, from, 8);
    else if (size == 4)
        memcpy(to, from, 4);
    else
        memcpy(to, from, size);
}

/* Stamp and item of a cell, in multiples of 8. */
static inline size_t twill__ring_stride(size_t item_size)
{
    return sizeof(twill__stamp) + (item_size + 7) / 8 * 8;
}

static inline twill__stamp *twill__ring_cell(const twill__ring *ring, uint64_t position)
{
    return (twill__stamp *)(void *)(ring->cells +
                                    (size_t)(position & (ring->mark - 1)) * ring->stride);
}

static inline uint64_t twill__ring_next(const twill__ring *ring, uint64_t position)
{
    uint64_t index = position & (ring->mark - 1);
    return index + 1 < ring->capacity ? position + 1 : position - index + ring->lap;
}

/* How many came before a position. */
static inline uint64_t twill__ring_count(const twill__ring *ring, uint64_t position)
{
    return (position >> ring->shift) * ring->capacity + (position & (ring->mark - 1));
}

static inline void twill__ring_init(twill__ring *ring, size_t item_size, size_t capacity,
                                    char *cells)
{
    uint64_t mark = 2;
    memset(ring, 0, sizeof *ring);
    for (ring->shift = 2; mark <= capacity; mark *= 2)
        ring->shift++;
    ring->capacity = capacity;
    ring->mark = mark;
    ring->lap = 2 * mark;
    ring->size = item_size;
    ring->stride = twill__ring_stride(item_size);
    ring->cells = cells;
    for (size_t k = 0; k < capacity; k++)
        atomic_init(twill__ring_cell(ring, k), k);
}

/* ---- what the positions say ---- */

static inline uint64_t twill__ring_tail(const twill__ring *ring)
{
    return atomic_load(&ring->tail) & ~ring->mark;
}

static inline uint64_t twill__ring_pushed(const twill__ring *ring)
{
    return twill__ring_count(ring, twill__ring_tail(ring));
}

static inline uint64_t twill__ring_popped(const twill__ring *ring)
{
    return twill__ring_count(ring, atomic_load(&ring->head));
}

/* Items inside, those on their way in included and those on their way out not. 0 is exact at the
   moment of the second load. */
static inline size_t twill__ring_length(const twill__ring *ring)
{
    uint64_t out = twill__ring_popped(ring), in = twill__ring_pushed(ring);
    /* pops may have gone on in between */
    return in - out < ring->capacity ? (size_t)(in - out) : (size_t)ring->capacity;
}

/* Room, that which is on its way included. 0 is exact, likewise: hence the other order. */
static inline size_t twill__ring_room(const twill__ring *ring)
{
    uint64_t in = twill__ring_pushed(ring), out = twill__ring_popped(ring);
    return in > out ? (size_t)(ring->capacity - (in - out)) : (size_t)ring->capacity;
}

/* Whether a pop, or a push of `count` items (at most the capacity), could claim now. */
static inline bool twill__ring_readable(const twill__ring *ring)
{
    uint64_t head = atomic_load(&ring->head);
    /* acquire: pairs with the release of who filled it */
    return atomic_load_explicit(twill__ring_cell(ring, head), memory_order_acquire) == head + 1;
}

static inline bool twill__ring_writable(const twill__ring *ring, size_t count)
{
    uint64_t at = atomic_load(&ring->tail);
    if (at & ring->mark)
        return false;
    /* acquire: pairs with the release of who emptied it */
    while (atomic_load_explicit(twill__ring_cell(ring, at), memory_order_acquire) == at) {
        if (--count == 0)
            return true;
        at = twill__ring_next(ring, at);
    }
    return false;
}

/* ---- in, out ---- */

/* A position so many items (at most the capacity) after another one. */
static inline uint64_t twill__ring_after(const twill__ring *ring, uint64_t position, uint64_t items)
{
    uint64_t index = position & (ring->mark - 1);
    return index + items < ring->capacity ? position + items
                                          : position + ring->lap + items - ring->capacity;
}

/* The longest that a push has seen it. The head is another line, which pops write: it is looked at
   only by a push whose end lies behind `higher`, where a new peak may be, and not more often than
   16 times in as many items as there is room for: so a peak may be seen too short by a 16th. All
   relaxed: figures. */
static __attribute__((noinline)) void twill__ring_new_peak(twill__ring *ring, uint64_t end)
{
    uint64_t count = twill__ring_count(ring, end), length;
    uint64_t out = twill__ring_count(ring, atomic_load_explicit(&ring->head, memory_order_relaxed));
    uint64_t peak = atomic_load_explicit(&ring->peak, memory_order_relaxed);
    length = count - out <= ring->capacity ? count - out : 0; /* pops have gone on meanwhile */
    while (length > peak &&
           !atomic_compare_exchange_weak_explicit(&ring->peak, &peak, length, memory_order_relaxed,
                                                  memory_order_relaxed)) {}
    if (length > peak)
        peak = length;
    length = peak - length > ring->capacity / 16 ? peak - length : ring->capacity / 16;
    atomic_store_explicit(&ring->higher,
                          peak < ring->capacity ? twill__ring_after(ring, end, length) : UINT64_MAX,
                          memory_order_relaxed);
}

static inline void twill__ring_peak(twill__ring *ring, uint64_t end)
{
    if (end > atomic_load_explicit(&ring->higher, memory_order_relaxed))
        twill__ring_new_peak(ring, end);
}

/* After a lost claim: the longer, the more often. */
static inline void twill__ring_yield(unsigned *lost)
{
    for (unsigned k = 0; TWILL__SPIN && k < 1u << *lost; k++)
        twill__pause();
    if (*lost < 6)
        ++*lost;
}

/* Claims up to `most` cells that stand behind one another at *word (tail or head), each with the
   stamp `position + turn`; fewer than `least`: none. Returns how many; *at is the first. */
static inline size_t twill__ring_claim(const twill__ring *ring, _Atomic uint64_t *word,
                                       uint64_t turn, size_t most, size_t least, uint64_t *at)
{
    unsigned lost = 0;
    /* a guess for the CAS */
    uint64_t from = atomic_load_explicit(word, memory_order_relaxed);
    for (;;) { /* exit: claimed, or nothing to claim; each turn is another's claim */
        uint64_t to = from;
        size_t count = 0;
        if (from & ring->mark)
            return 0;
        /* acquire: pairs with the release of who had the cell before */
        while (count < most && atomic_load_explicit(twill__ring_cell(ring, to),
                                                    memory_order_acquire) == to + turn) {
            to = twill__ring_next(ring, to);
            count++;
        }
        if (count >= least && count > 0) {
            /* seq_cst: see above */
            if (atomic_compare_exchange_weak_explicit(word, &from, to, memory_order_seq_cst,
                                                      memory_order_relaxed)) {
                *at = from;
                return count;
            }
            twill__ring_yield(&lost);
            continue;
        }
        to = atomic_load_explicit(word, memory_order_relaxed);
        if (to == from)
            return 0;
        from = to;
    }
}

/* Puts up to `most` items in, fewer than `least`: none. Returns how many. */
static inline size_t twill__ring_put(twill__ring *ring, const char *items, size_t most,
                                     size_t least)
{
    uint64_t at;
    size_t count = twill__ring_claim(ring, &ring->tail, 0, most, least, &at);
    for (size_t k = 0; k < count; k++) {
        twill__stamp *cell = twill__ring_cell(ring, at);
        twill__copy(cell + 1, items + k * ring->size, ring->size);
        /* pairs with the acquire in twill__ring_claim, of a pop */
        atomic_store_explicit(cell, at + 1, memory_order_release);
        at = twill__ring_next(ring, at);
    }
    if (count)
        twill__ring_peak(ring, at);
    return count;
}

/* Takes up to `most` items; `items` and `numbers` (of their acceptance) may be NULL. */
static inline size_t twill__ring_take(twill__ring *ring, char *items, uint64_t *numbers,
                                      size_t most)
{
    uint64_t at;
    size_t count = twill__ring_claim(ring, &ring->head, 1, most, 1, &at);
    for (size_t k = 0; k < count; k++) {
        twill__stamp *cell = twill__ring_cell(ring, at);
        if (items)
            twill__copy(items + k * ring->size, cell + 1, ring->size);
        if (numbers)
            numbers[k] = twill__ring_count(ring, at);
        /* pairs with the acquire in twill__ring_claim, of a push */
        atomic_store_explicit(cell, at + ring->lap, memory_order_release);
        at = twill__ring_next(ring, at);
    }
    return count;
}

/* ---- one item ---- */
/* The same for a single one, in the fewest steps. */

static inline __attribute__((always_inline)) bool twill__ring_put_one(twill__ring *ring,
                                                                      const void *item)
{
    unsigned lost = 0;
    /* orders: as in twill__ring_claim and twill__ring_put */
    uint64_t at = atomic_load_explicit(&ring->tail, memory_order_relaxed), now;
    for (;;) { /* exit: claimed, or no room; each turn is another's claim */
        twill__stamp *cell = twill__ring_cell(ring, at);
        if (atomic_load_explicit(cell, memory_order_acquire) == at && !(at & ring->mark)) {
            now = twill__ring_next(ring, at);
            if (atomic_compare_exchange_weak_explicit(&ring->tail, &at, now, memory_order_seq_cst,
                                                      memory_order_relaxed)) {
                twill__copy(cell + 1, item, ring->size);
                atomic_store_explicit(cell, at + 1, memory_order_release);
                twill__ring_peak(ring, now);
                return true;
            }
            twill__ring_yield(&lost);
        } else {
            now = atomic_load_explicit(&ring->tail, memory_order_relaxed);
            if (now == at)
                return false;
            at = now;
        }
    }
}

static inline __attribute__((always_inline)) bool twill__ring_take_one(twill__ring *ring,
                                                                       void *item)
{
    unsigned lost = 0;
    uint64_t at = atomic_load_explicit(&ring->head, memory_order_relaxed), now;
    for (;;) { /* exit: as above */
        twill__stamp *cell = twill__ring_cell(ring, at);
        if (atomic_load_explicit(cell, memory_order_acquire) == at + 1) {
            if (atomic_compare_exchange_weak_explicit(&ring->head, &at, twill__ring_next(ring, at),
                                                      memory_order_seq_cst, memory_order_relaxed)) {
                twill__copy(item, cell + 1, ring->size);
                atomic_store_explicit(cell, at + ring->lap, memory_order_release);
                return true;
            }
            twill__ring_yield(&lost);
        } else {
            now = atomic_load_explicit(&ring->head, memory_order_relaxed);
            if (now == at)
                return false;
            at = now;
        }
    }
}

#endif
