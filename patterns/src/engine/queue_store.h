/* queue_store.h: places for items of any size: a ring, or a heap for priorities. No lock, no
   wait. */
#ifndef TWILL__ENGINE_QUEUE_STORE_H
#define TWILL__ENGINE_QUEUE_STORE_H

#include "engine/ring.h"

typedef struct twill__cell { /* what is known of an item */
    uint64_t number;         /* of its acceptance */
    twill_ns at;             /* when it was accepted, if times are kept; before: see queue_rank */
    int64_t key;             /* heap: the smaller leaves sooner; equal: the smaller number */
    size_t bytes;
} twill__cell;

/* In a heap: all that its order asks for, so that a step touches one line. */
typedef struct twill__ranked {
    int64_t key;
    uint64_t number;
    size_t place;
} twill__ranked;

/* Instead of a place, in a link: nothing follows, and the rest is the item's own; there is no
   item. */
#define TWILL__CHAIN_END  SIZE_MAX
#define TWILL__CHAIN_FREE (SIZE_MAX - 1)
enum { TWILL__CHAIN_BITS = 6 };

typedef struct twill__store {
    size_t size, capacity, length; /* size of an item; places; items inside */
    char *items;
    twill__cell *cells; /* by place; NULL: the entry, or the place of an item, says its number */
    /* the first of each chain: [0, sorted) are a heap, [sorted, chains) stand behind it as they
       came; the places of [length, capacity) are free. NULL: a ring */
    twill__ranked *heap;
    size_t head; /* ring: the place of the oldest */
    bool lifo;
    uint64_t next; /* the number of the next item */
    /* heap */
    size_t chains, sorted;
    twill__ranked *links; /* by place: what follows in the chain */
    size_t *ends;         /* by what an item's key was reckoned with: where the last such went */
    twill_ns latest;      /* what the key of the last item was reckoned from */
} twill__store;

/* Ring: the place of the k-th item from the oldest. */
static inline size_t twill__place_at(const twill__store *store, size_t k)
{
    size_t left = store->capacity - store->head;
    return k < left ? store->head + k : k - left;
}

/* ---- heap ---- */
/* After J. W. J. Williams, "Algorithm 232: Heapsort", CACM 7 (1964): here of chains, by the first
   of each, so that items stay where they are. A chain's items leave in its order. So those of one
   priority can make one, and an item goes behind the last of its kind, if that is still the end of
   a chain and does not leave later; else it begins another. Who begins one leaves it behind the
   heap, and who looks for an item lets all of those rise: so the lines of the heap stay with those
   who take. */

/* Without a branch: which of two is the sooner is anybody's guess. */
static inline bool twill__sooner(const twill__ranked *a, const twill__ranked *b)
{
    return (a->key < b->key) | ((a->key == b->key) & (a->number < b->number));
}

static inline void twill__sift_up(twill__store *store, size_t at, twill__ranked entry)
{
    twill__ranked *heap = store->heap;
    while (at > 0 && twill__sooner(&entry, &heap[(at - 1) / 2])) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = entry;
}

static inline void twill__sift_down(twill__store *store, size_t at, twill__ranked entry)
{
    twill__ranked *heap = store->heap;
    for (size_t child; at < store->chains / 2; at = child) {
        child = 2 * at + 1;
        if (child + 1 < store->chains)
            child += twill__sooner(&heap[child + 1], &heap[child]);
        if (!twill__sooner(&heap[child], &entry))
            break;
        heap[at] = heap[child];
    }
    heap[at] = entry;
}

/* `ranked`: two for each place. */
static inline void twill__heap_init(twill__store *store, twill__ranked *ranked, size_t *ends)
{
    store->heap = ranked;
    store->links = ranked + store->capacity;
    store->ends = ends;
    memset(ends, 0, sizeof *ends << TWILL__CHAIN_BITS);
    for (size_t k = 0; k < store->capacity; k++) {
        store->heap[k].place = k;
        store->links[k].place = TWILL__CHAIN_FREE;
    }
}

static inline void twill__heap_put(twill__store *store, const twill__cell *cell, size_t place)
{
    twill__ranked entry = {cell->key, cell->number, place};
    uint64_t kind = ((uint64_t)cell->key - (uint64_t)store->latest) * 0x9e3779b97f4a7c15u;
    size_t *end = &store->ends[kind >> (64 - TWILL__CHAIN_BITS)];
    twill__ranked *link = &store->links[*end];
    if (link->place == TWILL__CHAIN_END && link->key <= entry.key)
        *link = entry;
    else
        store->heap[store->chains++] = entry;
    *end = place;
    entry.place = TWILL__CHAIN_END;
    store->links[place] = entry;
}

static __attribute__((noinline)) void twill__heap_remove(twill__store *store, size_t at)
{
    size_t gone = store->heap[at].place;
    twill__ranked next = store->links[gone];
    store->links[gone].place = TWILL__CHAIN_FREE;
    if (next.place != TWILL__CHAIN_END) {
        twill__sift_down(store, at, next);
    } else {
        next = store->heap[--store->chains];
        if (at < store->chains) {
            if (at > 0 && twill__sooner(&next, &store->heap[(at - 1) / 2]))
                twill__sift_up(store, at, next);
            else
                twill__sift_down(store, at, next);
        }
        store->sorted = store->chains;
    }
    store->heap[--store->length].place = gone; /* free */
}

static inline void twill__store_rank(twill__store *store)
{
    for (; store->sorted < store->chains; store->sorted++)
        twill__sift_up(store, store->sorted, store->heap[store->sorted]);
}

/* Where the newest stands: the last of its chain, it becomes a chain of its own, behind the
   heap. */
static inline size_t twill__heap_newest(twill__store *store)
{
    twill__ranked newest = store->heap[0], before = newest;
    size_t found = 0;
    for (size_t at = 0; at < store->chains; at++) {
        twill__ranked last = store->heap[at], ahead = last, next;
        while ((next = store->links[last.place]).place != TWILL__CHAIN_END) {
            ahead = last;
            last = next;
        }
        if (last.number >= newest.number) {
            newest = last;
            before = ahead;
            found = at;
        }
    }
    if (newest.place == before.place)
        return found;
    store->links[before.place] = (twill__ranked){before.key, before.number, TWILL__CHAIN_END};
    store->heap[store->chains] = newest;
    return store->chains++;
}

/* ---- in, out ---- */

/* Most places were the other side's last: those of the puts to come, and of the next takes, are
   asked for early. A heap's items stand anywhere. */
enum { TWILL__HEAP_AHEAD = 4, TWILL__STORE_AHEAD = 16 }; /* items */

static inline void twill__heap_fetch(const twill__store *store, size_t at)
{
    if (at < store->capacity) {
        twill__prefetch(store->items + store->heap[at].place * store->size);
        twill__prefetch(&store->links[store->heap[at].place]);
    }
}

/* Ring: the place of the `at`-th from the oldest, if it is below `to`. */
static inline void twill__store_fetch(const twill__store *store, size_t at, size_t to)
{
    if (at < to)
        twill__prefetch(store->items + twill__place_at(store, at) * store->size);
}

/* There is room. */
static inline void twill__store_put(twill__store *store, const void *item, const twill__cell *cell)
{
    size_t place =
        store->heap ? store->heap[store->length].place : twill__place_at(store, store->length);
    twill__copy(store->items + place * store->size, item, store->size);
    if (store->cells)
        store->cells[place] = *cell;
    if (store->heap) {
        twill__heap_put(store, cell, place);
        twill__heap_fetch(store, store->length + TWILL__HEAP_AHEAD);
    } else {
        twill__store_fetch(store, store->length + TWILL__STORE_AHEAD, store->capacity);
    }
    store->length++;
}

typedef enum twill__which { TWILL__NEXT, TWILL__OLDEST, TWILL__NEWEST } twill__which;

/* Where in the heap (or, in a ring, how far from the oldest) an item stands. There is one. */
static inline size_t twill__store_find(twill__store *store, twill__which which)
{
    size_t found = 0;
    if (!store->heap) {
        bool last = which == TWILL__NEWEST || (which == TWILL__NEXT && store->lifo);
        return last ? store->length - 1 : 0;
    }
    twill__store_rank(store);
    if (which == TWILL__NEWEST)
        return twill__heap_newest(store);
    for (size_t at = 1; which == TWILL__OLDEST && at < store->chains; at++)
        if (store->heap[at].number < store->heap[found].number)
            found = at;
    return found;
}

/* What is known of the item at `at`, as twill__store_find said it. */
static inline twill__cell twill__store_cell(const twill__store *store, size_t at)
{
    twill__cell cell = {store->next - store->length + at, 0, 0, 0};
    if (store->cells)
        return store->cells[store->heap ? store->heap[at].place : twill__place_at(store, at)];
    if (store->heap)
        cell.number = store->heap[at].number;
    return cell;
}

/* Takes the item at `at` (in a ring: the first or the last); `to` may be NULL. */
static inline __attribute__((always_inline)) void twill__store_take(twill__store *store, size_t at,
                                                                    void *to)
{
    size_t place = store->heap ? store->heap[at].place : twill__place_at(store, at);
    if (to)
        twill__copy(to, store->items + place * store->size, store->size);
    if (store->heap) {
        twill__heap_remove(store, at);
        twill__heap_fetch(store, 0);
        return;
    }
    if (at == 0) {
        twill__store_fetch(store, TWILL__STORE_AHEAD, store->length);
        store->head = twill__place_at(store, 1);
    }
    store->length--;
}

#endif
