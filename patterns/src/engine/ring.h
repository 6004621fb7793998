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
typedef struct twill__ring_end { /* where claims are made */
    _Atomic uint64_t at;
    _Atomic uint64_t guess;            /* what `at` was lately: see twill__ring_claim */
    _Atomic uint32_t patience, futile; /* see twill__quick_wait */
} twill__ring_end;

typedef struct twill__ring {
    _Alignas(TWILL__LINE) twill__ring_end tail;
    _Atomic uint64_t higher, peak; /* see twill__ring_peak */
    _Alignas(TWILL__LINE) twill__ring_end head;
    /* set at creation */
    _Alignas(TWILL__LINE) uint64_t capacity;
    uint64_t mark, lap;
    unsigned shift;
    size_t size, stride;
    char *cells; /* NULL: there is no ring */
    size_t span; /* of the cells; 0: a small ring, of which none is fetched ahead */
} twill__ring;

typedef _Atomic uint64_t twill__stamp;
enum {
    TWILL__RING_LARGE = 64,  /* cells: room enough for two sides to keep apart */
    TWILL__RING_BATCH = 8,   /* cells: worth a wait; see twill__patience */
    TWILL__RING_AHEAD = 512, /* bytes: how far before its use a batch asks for a line */
    TWILL__RING_NEXT = 128   /* ... and single items */
};

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
    ring->span = capacity >= TWILL__RING_LARGE ? capacity * ring->stride : 0;
    for (size_t k = 0; k < capacity; k++)
        atomic_init(twill__ring_cell(ring, k), k);
}

/* ---- what the positions say ---- */

static inline uint64_t twill__ring_tail(const twill__ring *ring)
{
    return atomic_load_explicit(&ring->tail.at, memory_order_seq_cst) & ~ring->mark;
}

static inline uint64_t twill__ring_pushed(const twill__ring *ring)
{
    return twill__ring_count(ring, twill__ring_tail(ring));
}

static inline uint64_t twill__ring_popped(const twill__ring *ring)
{
    return twill__ring_count(ring, atomic_load_explicit(&ring->head.at, memory_order_seq_cst));
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

/* Whether a pop, or a push of `count` items (at most the capacity), could claim now. A cell whose
   turn has gone by, since a claim has come between both looks, says nothing of the next one: who
   saw it would leave a thread asleep beside an item, or room. So it looks again where the position
   has moved. */
static inline bool twill__ring_readable(const twill__ring *ring)
{
    uint64_t head = atomic_load_explicit(&ring->head.at, memory_order_seq_cst), now;
    for (;; head = now) { /* exit: an answer; each turn is another's pop */
        /* acquire: pairs with the release of who filled it */
        if (atomic_load_explicit(twill__ring_cell(ring, head), memory_order_acquire) == head + 1)
            return true;
        now = atomic_load_explicit(&ring->head.at, memory_order_seq_cst);
        if (now == head)
            return false;
    }
}

static inline bool twill__ring_writable(const twill__ring *ring, size_t count)
{
    /* closed: no stamp has the mark */
    uint64_t tail = atomic_load_explicit(&ring->tail.at, memory_order_seq_cst), now;
    for (;; tail = now) { /* exit: an answer; each turn is another's push */
        uint64_t at = tail;
        size_t left = count;
        /* acquire: pairs with the release of who emptied it */
        while (atomic_load_explicit(twill__ring_cell(ring, at), memory_order_acquire) == at) {
            if (--left == 0)
                return true;
            at = twill__ring_next(ring, at);
        }
        now = atomic_load_explicit(&ring->tail.at, memory_order_seq_cst);
        if (now == tail)
            return false;
    }
}

/* A position so many items (at most the capacity) after another one. */
static inline uint64_t twill__ring_after(const twill__ring *ring, uint64_t position, uint64_t items)
{
    uint64_t index = position & (ring->mark - 1);
    return index + items < ring->capacity ? position + items
                                          : position + ring->lap + items - ring->capacity;
}

/* Whether more than so many could go in, or come out. A hint: one cell is looked at. */
static inline bool twill__ring_far(const twill__ring *ring, bool push, uint64_t items)
{
    /* relaxed: a hint */
    uint64_t at =
        atomic_load_explicit(push ? &ring->tail.at : &ring->head.at, memory_order_relaxed);
    at = twill__ring_after(ring, at & ~ring->mark, items);
    return atomic_load_explicit(twill__ring_cell(ring, at), memory_order_relaxed) == at + !push;
}

/* The longest that a push has seen it. The head is another line, which pops write: it is looked at
   only by a push whose end lies behind `higher`, where a new peak may be, and not more often than
   16 times in as many items as there is room for: so a peak may be seen too short by a 16th. All
   relaxed: figures. */
static __attribute__((noinline)) void twill__ring_new_peak(twill__ring *ring, uint64_t end)
{
    uint64_t count = twill__ring_count(ring, end), length;
    uint64_t out =
        twill__ring_count(ring, atomic_load_explicit(&ring->head.at, memory_order_relaxed));
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

static inline __attribute__((always_inline)) void twill__ring_peak(twill__ring *ring, uint64_t end)
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

/* ---- in, out ---- */

typedef struct twill__ring_place { /* a position, its cell, and how many stand from there on */
    uint64_t position;
    char *cell;
    size_t left;
} twill__ring_place;

static inline __attribute__((always_inline)) twill__ring_place
twill__ring_place_of(const twill__ring *ring, uint64_t position)
{
    size_t index = (size_t)(position & (ring->mark - 1));
    return (twill__ring_place){position, ring->cells + index * ring->stride,
                               (size_t)ring->capacity - index};
}

static inline __attribute__((always_inline)) twill__ring_place
twill__ring_step(const twill__ring *ring, twill__ring_place place)
{
    if (place.left > 1)
        return (twill__ring_place){place.position + 1, place.cell + ring->stride, place.left - 1};
    /* the first of the next lap */
    return (twill__ring_place){place.position + ring->lap - ring->capacity + 1, ring->cells,
                               (size_t)ring->capacity};
}

static inline twill__stamp *twill__ring_stamp(twill__ring_place place)
{
    return (twill__stamp *)(void *)place.cell;
}

/* How many of `count` stand before the end of the memory. */
static inline size_t twill__ring_straight(twill__ring_place place, size_t count)
{
    return count < place.left ? count : place.left;
}

/* How many of `most` cells that stand behind one another in memory have the stamps from `stamp`
   on. */
static inline __attribute__((always_inline)) size_t
twill__ring_stamped(const char *cell, size_t stride, uint64_t stamp, size_t most)
{
    size_t count = 0;
    /* acquire: pairs with the release of who had the cell before */
    while (count < most && atomic_load_explicit((const twill__stamp *)(const void *)cell,
                                                memory_order_acquire) == stamp + count) {
        cell += stride;
        count++;
    }
    return count;
}

/* Single items: with the first cell of a line comes the one that is soon to be needed. The next
   claim is a locked instruction, which would wait until the stamp before it has got its line. */
static inline __attribute__((always_inline)) void twill__ring_fetch_next(const twill__ring *ring,
                                                                         const char *cell)
{
    size_t ahead = (size_t)(cell - ring->cells) + TWILL__RING_NEXT;
    if (!ring->span || (uintptr_t)cell % TWILL__FETCHED >= ring->stride)
        return;
    twill__prefetch(ring->cells + (ahead < ring->span ? ahead : ahead - ring->span));
}

/* Claims up to `most` cells that stand behind one another at tail or head, each with the stamp
   `position + turn`; fewer than `least` (not 0): none. Returns how many; *first is the first. At a
   tail with the mark no cell has that stamp.

   It begins at a guess, which the last one who claimed has stored behind his claim, and not at the
   word itself: a load of a word that this core has claimed last would wait for that claim to end,
   and cost as much as the rest of a push. A wrong guess fails, by the stamp or by the CAS. */
static inline __attribute__((always_inline)) size_t
twill__ring_claim(const twill__ring *ring, twill__ring_end *end, uint64_t turn, size_t most,
                  size_t least, twill__ring_place *first)
{
    unsigned lost = 0;
    /* relaxed, here and where it is stored: the CAS decides */
    uint64_t from = atomic_load_explicit(&end->guess, memory_order_relaxed), now;
    for (;;) { /* exit: claimed, or nothing to claim; each turn is another's claim */
        twill__ring_place place = *first = twill__ring_place_of(ring, from);
        size_t run = most == 1 ? 1 : twill__ring_straight(place, most), count;
        if (most == 1 && !ring->span) /* a load alone would bring it for reading, and the store ask
                                         once more; where there is room, it has come already */
            twill__prefetch(place.cell);
        count = twill__ring_stamped(place.cell, ring->stride, from + turn, run);
        if (count == run && run < most) { /* and those of the next lap that stand before it */
            size_t before = (size_t)ring->capacity - place.left;
            count += twill__ring_stamped(ring->cells, ring->stride,
                                         twill__ring_after(ring, from, run) + turn,
                                         most - run < before ? most - run : before);
        }
        if (count >= least) {
            uint64_t to = most == 1 ? twill__ring_step(ring, place).position
                                    : twill__ring_after(ring, from, count);
            /* seq_cst: see above */
            if (atomic_compare_exchange_weak_explicit(&end->at, &from, to, memory_order_seq_cst,
                                                      memory_order_relaxed)) {
                atomic_store_explicit(&end->guess, to, memory_order_relaxed);
                if (most == 1)
                    twill__ring_fetch_next(ring, place.cell);
                return count;
            }
            twill__ring_yield(&lost);
            continue;
        }
        now = atomic_load_explicit(&end->at, memory_order_relaxed);
        if (now == from)
            return 0;
        from = now;
    }
}

/* ---- one in, one out ---- */

static inline __attribute__((always_inline)) bool twill__ring_put_one(twill__ring *ring,
                                                                      const void *item)
{
    twill__ring_place place;
    twill__stamp *stamp;
    if (!twill__ring_claim(ring, &ring->tail, 0, 1, 1, &place))
        return false;
    stamp = twill__ring_stamp(place);
    twill__copy(stamp + 1, item, ring->size);
    /* pairs with the acquire in twill__ring_claim, of a pop */
    atomic_store_explicit(stamp, place.position + 1, memory_order_release);
    twill__ring_peak(ring, twill__ring_step(ring, place).position);
    return true;
}

/* `item` and `number` (of its acceptance) may be NULL. */
static inline __attribute__((always_inline)) bool twill__ring_take_one(twill__ring *ring,
                                                                       void *item, uint64_t *number)
{
    twill__ring_place place;
    twill__stamp *stamp;
    if (!twill__ring_claim(ring, &ring->head, 1, 1, 1, &place))
        return false;
    stamp = twill__ring_stamp(place);
    if (item)
        twill__copy(item, stamp + 1, ring->size);
    if (number)
        *number = twill__ring_count(ring, place.position);
    /* pairs with the acquire in twill__ring_claim, of a push */
    atomic_store_explicit(stamp, place.position + ring->lap, memory_order_release);
    return true;
}

/* Of a full ring: takes the oldest item out (`old`, or NULL) and puts another one in, as one step
   for all others: no push can claim the cell, which its stamp says is filled, and so nobody but a
   close moves the tail. By one thread at a time, and none that closes. False: it is not full, or is
   closed, or the oldest is not there yet. */
static inline bool twill__ring_replace(twill__ring *ring, const void *item, void *old,
                                       uint64_t *number)
{
    uint64_t tail = atomic_load_explicit(&ring->tail.at, memory_order_seq_cst),
             head = atomic_load_explicit(&ring->head.at, memory_order_seq_cst);
    twill__stamp *stamp = twill__ring_cell(ring, head);
    /* acquire: pairs with the release of who filled it; seq_cst: as in twill__ring_claim */
    if (tail - head != ring->lap || atomic_load_explicit(stamp, memory_order_acquire) != head + 1 ||
        !atomic_compare_exchange_strong_explicit(&ring->head.at, &head,
                                                 twill__ring_next(ring, head), memory_order_seq_cst,
                                                 memory_order_relaxed))
        return false;
    if (old)
        twill__copy(old, stamp + 1, ring->size);
    *number = twill__ring_count(ring, head);
    twill__copy(stamp + 1, item, ring->size);
    atomic_store_explicit(&ring->tail.at, twill__ring_next(ring, tail), memory_order_seq_cst);
    /* pairs with the acquire in twill__ring_claim, of a pop */
    atomic_store_explicit(stamp, tail + 1, memory_order_release);
    twill__ring_peak(ring, twill__ring_next(ring, tail));
    return true;
}

/* ---- many in, many out ---- */

/* A batch would wait for lines that the other side wrote last: it asks for those that the next ones
   will need. */
static inline void twill__ring_fetch(const twill__ring *ring, const char *cell, size_t bytes)
{
    size_t ahead = (size_t)(cell - ring->cells) + TWILL__RING_AHEAD, end = ahead + bytes;
    if (end > ring->span)
        end = ring->span;
    for (; ahead < end; ahead += TWILL__FETCHED)
        twill__prefetch(ring->cells + ahead);
}

/* Fills `count` claimed cells that stand behind one another in memory. */
static inline __attribute__((always_inline)) void twill__ring_fill(const twill__ring *ring,
                                                                   char *first, uint64_t position,
                                                                   const char *items, size_t count,
                                                                   size_t size)
{
    size_t stride = twill__ring_stride(size);
    twill__ring_fetch(ring, first, count * stride);
    for (size_t k = 0; k < count; k++) {
        twill__stamp *stamp = (twill__stamp *)(void *)(first + k * stride);
        twill__copy(stamp + 1, items + k * size, size);
        /* pairs with the acquire in twill__ring_claim, of a pop */
        atomic_store_explicit(stamp, position + k + 1, memory_order_release);
    }
}

/* Empties them likewise. */
static inline __attribute__((always_inline)) void twill__ring_drain(const twill__ring *ring,
                                                                    char *first, uint64_t position,
                                                                    char *items, size_t count,
                                                                    size_t size)
{
    size_t stride = twill__ring_stride(size);
    twill__ring_fetch(ring, first, count * stride);
    for (size_t k = 0; k < count; k++) {
        twill__stamp *stamp = (twill__stamp *)(void *)(first + k * stride);
        twill__copy(items + k * size, stamp + 1, size);
        /* pairs with the acquire in twill__ring_claim, of a push */
        atomic_store_explicit(stamp, position + k + ring->lap, memory_order_release);
    }
}

static inline __attribute__((always_inline)) void twill__ring_fill_all(const twill__ring *ring,
                                                                       twill__ring_place place,
                                                                       const char *items,
                                                                       size_t count, size_t size)
{
    size_t run = twill__ring_straight(place, count);
    twill__ring_fill(ring, place.cell, place.position, items, run, size);
    if (run < count)
        twill__ring_fill(ring, ring->cells, twill__ring_after(ring, place.position, run),
                         items + run * size, count - run, size);
}

static inline __attribute__((always_inline)) void twill__ring_drain_all(const twill__ring *ring,
                                                                        twill__ring_place place,
                                                                        char *items, size_t count,
                                                                        size_t size)
{
    size_t run = twill__ring_straight(place, count);
    twill__ring_drain(ring, place.cell, place.position, items, run, size);
    if (run < count)
        twill__ring_drain(ring, ring->cells, twill__ring_after(ring, place.position, run),
                          items + run * size, count - run, size);
}

/* Puts up to `most` items in, fewer than `least`: none. Returns how many. Items of 8 bytes have
   code of their own: two thirds of the instructions. */
static inline size_t twill__ring_put_many(twill__ring *ring, const char *items, size_t most,
                                          size_t least)
{
    twill__ring_place place;
    size_t count = twill__ring_claim(ring, &ring->tail, 0, most, least, &place);
    if (!count)
        return 0;
    if (ring->size == 8)
        twill__ring_fill_all(ring, place, items, count, 8);
    else
        twill__ring_fill_all(ring, place, items, count, ring->size);
    twill__ring_peak(ring, twill__ring_after(ring, place.position, count));
    return count;
}

/* Takes up to `most` items; `numbers` (of their acceptance) may be NULL. */
static inline size_t twill__ring_take_many(twill__ring *ring, char *items, uint64_t *numbers,
                                           size_t most)
{
    twill__ring_place place;
    size_t count = twill__ring_claim(ring, &ring->head, 1, most, 1, &place);
    for (size_t k = 0; numbers && k < count; k++)
        numbers[k] = twill__ring_count(ring, place.position) + k;
    if (!count)
        return 0;
    if (ring->size == 8)
        twill__ring_drain_all(ring, place, items, count, 8);
    else
        twill__ring_drain_all(ring, place, items, count, ring->size);
    return count;
}

#endif
