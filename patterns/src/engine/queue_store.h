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

typedef struct twill__store {
    size_t size, capacity, length; /* size of an item; places; items inside */
    char *items;
    twill__cell *cells; /* by place; NULL: the entry, or the place of an item, says its number */
    twill__ranked
        *heap; /* [0, sorted) are a heap, [sorted, length) stand behind it as they came, the
                            places of the rest are free; NULL: a ring */
    size_t sorted;
    size_t head; /* ring: the place of the oldest */
    bool lifo;
    uint64_t next; /* the number of the next item */
} twill__store;

/* Ring: the place of the k-th item from the oldest. */
static inline size_t twill__place_at(const twill__store *store, size_t k)
{
    size_t left = store->capacity - store->head;
    return k < left ? store->head + k : k - left;
}

/* ---- heap ---- */
/* After J. W. J. Williams, "Algorithm 232: Heapsort", CACM 7 (1964): here of entries, so that items
   stay where they are. Who puts an item in leaves its entry behind the heap, and who looks for one
   lets all of those rise: so the lines of the heap stay with those who take. */

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
    for (size_t child; at < store->length / 2; at = child) {
        child = 2 * at + 1;
        if (child + 1 < store->length)
            child += twill__sooner(&heap[child + 1], &heap[child]);
        if (!twill__sooner(&heap[child], &entry))
            break;
        heap[at] = heap[child];
    }
    heap[at] = entry;
}

static __attribute__((noinline)) void twill__heap_remove(twill__store *store, size_t at)
{
    size_t gone = store->heap[at].place;
    twill__ranked last = store->heap[--store->length];
    if (at < store->length) {
        if (at > 0 && twill__sooner(&last, &store->heap[(at - 1) / 2]))
            twill__sift_up(store, at, last);
        else
            twill__sift_down(store, at, last);
    }
    store->heap[store->length].place = gone; /* free */
    store->sorted = store->length;
}

static inline void twill__store_rank(twill__store *store)
{
    for (; store->sorted < store->length; store->sorted++)
        twill__sift_up(store, store->sorted, store->heap[store->sorted]);
}

/* ---- in, out ---- */

/* Most places were the other side's last: those of the puts to come, and of the next takes, are
   asked for early. A heap's items stand anywhere. */
enum { TWILL__HEAP_AHEAD = 4, TWILL__STORE_AHEAD = 16 }; /* items */

static inline void twill__heap_fetch(const twill__store *store, size_t at)
{
    if (at < store->capacity)
        twill__prefetch(store->items + store->heap[at].place * store->size);
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
        store->heap[store->length] = (twill__ranked){cell->key, cell->number, place};
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
    for (size_t at = 1; which != TWILL__NEXT && at < store->length; at++) {
        uint64_t number = store->heap[at].number, best = store->heap[found].number;
        if (which == TWILL__OLDEST ? number < best : number > best)
            found = at;
    }
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
