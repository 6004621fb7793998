/* stock.h: the batcher's items: where each of them is, and in which lot it will leave. */
#ifndef TWILL__BATCH_STOCK_H
#define TWILL__BATCH_STOCK_H

#include "batch_processing/calls.h"
#include "engine/crew.h"
#include "engine/future.h"

/* All of this is guarded by the batcher's lock, but for what a worker does to the items that are in
   its call.

   An accepted item has an entry, which is the record of its future, too. Entries that will leave
   together form a lot. The open lot takes what comes; closed, it stands in the line of those that
   are ready; taken by a worker, its entries stand in that worker's shift; what is to be tried again
   goes back into a lot, in the line of those that wait for an instant. An entry is in exactly one
   lot or shift, and leaves the books when its on_item has returned.

   Most items have no need of that: nobody asks for them by a future, a key or a time limit, and all
   goes well. Their lot is packed: cells in a ring, which a worker takes, and ends, as a whole. As
   soon as one of its items has a fate of its own, the lot is unpacked (packed.h), and from then on
   it is as if it had never been anything but entries. */

typedef enum twill__where {
    TWILL__PENDING_ITEM, /* in a lot */
    TWILL__MERGED_ITEM,  /* behind another entry with the same key, which is in a lot */
    TWILL__RUNNING_ITEM, /* in a worker's hands, or behind one that is */
    TWILL__ENDED_ITEM    /* how it ended is decided, and on_item is about to be told */
} twill__where;

enum twill__why { /* a lot has left */
                  TWILL__BY_COUNT,
                  TWILL__BY_BYTES,
                  TWILL__BY_LINGER,
                  TWILL__BY_IDLE,
                  TWILL__BY_FLUSH,
                  TWILL__BY_CLOSE,
                  TWILL__WHYS
};

struct twill__batch_lot;

typedef struct twill__entry {
    twill__record record; /* first: futures are made of it */
    /* with keys or a future alone */
    struct twill_batcher *batcher;
    uint64_t key;
    struct twill__entry *leader; /* of a merged one: it stands in a chain behind it */
    struct twill__entry *hashed; /* next in its bucket of keys in flight */
    struct twill__entry *same;   /* next in its bucket of the open lot */
    bool in_flight;              /* in a bucket of keys in flight */
    /* three lines go to the worker and come back: zeroed with each item */
    _Alignas(TWILL__LINE) void *item;
    uint64_t number; /* of acceptance, from 0 */
    struct twill__batch_lot *lot;
    struct twill__entry *next, *previous; /* in the lot */
    struct twill__entry *before, *after;  /* of those that are in no call: expiry, drops */
    struct twill__entry *older, *newer;   /* of all that have not left the books */
    struct twill__entry *ended;           /* next of those that a thread is about to tell */
    struct twill__entry *follower;        /* merged ones: a chain behind its leader */
    struct twill__entry *ahead;           /* a few places behind it in the lot: a hint */
    size_t bytes, weight;      /* weight: what it counts for in its lot, with those behind it */
    twill_ns added, started;   /* added: 0 where nobody asks */
    unsigned attempts, worker; /* of the last call */
    twill__where where;
    bool has_future, decided, promised; /* promised: the future has been told already */
    bool called;                        /* at least once */
    twill_status status;                /* once decided */
    int code;
    /* of the worker that has it */
    twill__slot_state state; /* between two calls */
    twill_status answer;     /* of the last call */
    int its;
} twill__entry;

enum { TWILL__LOT_AHEAD = 4 }; /* entries that a worker fetches while it looks at one */

/* What is known of an item of a packed lot. Arrays, so that what nobody asks for costs nothing. */
typedef struct twill__cells {
    void **item;
    twill_ns *added; /* NULL: nobody asks */
    size_t *bytes;   /* NULL: they do not count */
} twill__cells;

typedef struct twill__batch_lot {
    struct twill__batch_lot *next; /* in a line */
    twill__entry *first, *last;
    size_t count, bytes; /* merged ones once */
    twill_ns opened, arrival;
    twill_ns due; /* of one that is tried again */
    uint64_t serial;
    unsigned attempt; /* of its next call */
    enum twill__why why;
    uint64_t stuck; /* all its keys were in flight after so many releases */
    uint64_t opened_ticks;
    twill__entry *recent[TWILL__LOT_AHEAD]; /* of the open one: the last that came */
    unsigned came;
    /* of a packed one: it has no entries, and is in the list of all that are packed */
    bool packed, taken;                       /* taken: a worker has it, and its cells */
    uint64_t number;                          /* of its first item; the others follow */
    uint64_t place;                           /* of its first item, in the ring */
    struct twill__batch_lot *elder, *younger; /* by number */
} twill__batch_lot;

typedef struct twill__lot_block { /* of memory */
    struct twill__lot_block *next;
    size_t count, used; /* lots from `used` on were never touched */
    twill__batch_lot lot[];
} twill__lot_block;

typedef struct twill__line { /* of lots */
    twill__batch_lot *first, *last;
} twill__line;

typedef struct twill__key_bucket { /* of the open lot's keys */
    twill__entry *entry;
    uint64_t serial; /* of the lot that it is about */
} twill__key_bucket;

typedef struct twill__stock {
    twill__core *core;
    twill__entry *oldest, *newest; /* in the books */
    twill__entry *front, *back;    /* in no call */
    twill__batch_lot *open;
    twill__line ready, waiting; /* waiting: by instant */
    twill__batch_lot *spare;
    twill__lot_block *blocks;
    size_t lot_count;
    uint64_t numbers, serials, releases; /* releases: of keys, so far */
    size_t count, bytes;                 /* accepted and not decided */
    size_t leaving, leaving_bytes;       /* decided, and still in the books */
    size_t books;                        /* entries in the books */
    size_t idle;                         /* of them, in no call */
    twill__entry **flights;              /* [buckets]: keys in flight; NULL: no keys */
    twill__key_bucket *opens;            /* [buckets]: keys of the open lot; NULL: no merging */
    size_t buckets;                      /* a power of 2 */
    bool packs;                          /* items may be packed */
    twill__batch_lot *eldest, *youngest; /* packed lots */
    twill__cells cells;                  /* of packed lots that no worker has taken yet */
    size_t ring;                         /* so many; a power of 2, or 0 */
    uint64_t begin, end;                 /* places in use */
    void *ring_memory;
} twill__stock;

/* ---- lists ---- */

static inline void twill__lot_append(twill__batch_lot *lot, twill__entry *entry)
{
    entry->lot = lot;
    entry->next = NULL;
    entry->previous = lot->last;
    if (lot->last)
        lot->last->next = entry;
    else
        lot->first = entry;
    lot->last = entry;
    lot->count++;
    lot->bytes += entry->weight;
}

/* The one that came a few before it knows where it is: whoever walks through the lot on another
   core would wait for each in turn. The memory of entries stays, so that an old hint does no
   harm. */
static inline void twill__lot_ahead(twill__batch_lot *lot, twill__entry *entry)
{
    twill__entry **recent = &lot->recent[lot->came++ % TWILL__LOT_AHEAD];
    if (*recent)
        (*recent)->ahead = entry;
    *recent = entry;
}

static inline void twill__entry_fetch(const twill__entry *entry)
{
    if (entry) {
        __builtin_prefetch(&entry->item);
        __builtin_prefetch(&entry->newer);
        __builtin_prefetch(&entry->attempts);
    }
}

static inline void twill__lot_remove(twill__batch_lot *lot, twill__entry *entry)
{
    TWILL__CHAIN_OUT(lot->first, lot->last, entry, previous, next);
    lot->count--;
    lot->bytes -= entry->weight;
}

/* One of the lot's own, after a call. In the order of numbers: what is tried again keeps its order,
   whatever order the calls had. */
static inline void twill__lot_insert(twill__batch_lot *lot, twill__entry *entry)
{
    twill__entry *place = lot->last;
    while (place && place->number > entry->number)
        place = place->previous;
    TWILL__CHAIN_IN(lot->first, lot->last, place, entry, previous, next);
    lot->count++;
    lot->bytes += entry->weight;
}

static inline void twill__line_push(twill__line *line, twill__batch_lot *lot)
{
    lot->next = NULL;
    if (line->last)
        line->last->next = lot;
    else
        line->first = lot;
    line->last = lot;
}

/* Into the line of those that wait, by instant. */
static inline void twill__line_sort(twill__line *line, twill__batch_lot *lot)
{
    twill__batch_lot **link = &line->first;
    while (*link && (*link)->due <= lot->due)
        link = &(*link)->next;
    lot->next = *link;
    *link = lot;
    if (!lot->next)
        line->last = lot;
}

static inline void twill__line_remove(twill__line *line, twill__batch_lot *lot)
{
    twill__batch_lot **link = &line->first, *previous = NULL;
    while (*link != lot) {
        previous = *link;
        link = &previous->next;
    }
    *link = lot->next;
    if (line->last == lot)
        line->last = previous;
}

/* Into the list of those that are in no call, behind `place`; NULL: to its front. */
static inline void twill__idle_behind(twill__stock *stock, twill__entry *entry, twill__entry *place)
{
    stock->idle++;
    TWILL__CHAIN_IN(stock->front, stock->back, place, entry, before, after);
}

/* By number; one that comes back is near the front. */
static inline void twill__idle_in(twill__stock *stock, twill__entry *entry)
{
    twill__entry *after = stock->front;
    while (after && after->number < entry->number)
        after = after->after;
    twill__idle_behind(stock, entry, after ? after->before : stock->back);
}

static inline void twill__idle_out(twill__stock *stock, twill__entry *entry)
{
    stock->idle--;
    TWILL__CHAIN_OUT(stock->front, stock->back, entry, before, after);
}

/* Into the books, behind `place`; NULL: as the oldest. */
static inline void twill__books_behind(twill__stock *stock, twill__entry *entry,
                                       twill__entry *place)
{
    TWILL__CHAIN_IN(stock->oldest, stock->newest, place, entry, older, newer);
}

/* ---- lots ---- */

/* There is a lot for each entry in the books, and one more: a lot that is used has at least one. */
static inline bool twill__lots_for(twill__stock *stock, size_t entries)
{
    size_t more = stock->lot_count ? stock->lot_count : 4;
    twill__lot_block *block;
    if (stock->lot_count > entries)
        return true;
    block = (twill__lot_block *)TWILL_MALLOC(sizeof *block + more * sizeof block->lot[0]);
    if (!block)
        return false;
    block->next = stock->blocks;
    block->count = more;
    block->used = 0;
    stock->blocks = block;
    stock->lot_count += more;
    return true;
}

static inline twill__batch_lot *twill__lot_get(twill__stock *stock)
{
    twill__batch_lot *lot = stock->spare;
    twill__lot_block *block = stock->blocks;
    if (lot) {
        stock->spare = lot->next;
    } else {
        while (block->used == block->count)
            block = block->next;
        lot = &block->lot[block->used++];
    }
    memset(lot, 0, sizeof *lot);
    lot->attempt = 1;
    lot->serial = ++stock->serials;
    lot->stuck = UINT64_MAX;
    return lot;
}

static inline void twill__lot_put(twill__stock *stock, twill__batch_lot *lot)
{
    lot->next = stock->spare;
    stock->spare = lot;
}

static inline void twill__lot_close(twill__stock *stock, enum twill__why why)
{
    if (!stock->open)
        return;
    stock->open->why = why;
    twill__line_push(&stock->ready, stock->open);
    stock->open = NULL;
}

/* A lot that has lost its last entry is not sent. */
static inline void twill__lot_settle(twill__stock *stock, twill__batch_lot *lot)
{
    if (lot->first)
        return;
    if (lot == stock->open)
        stock->open = NULL;
    else
        twill__line_remove(lot->due ? &stock->waiting : &stock->ready, lot);
    twill__lot_put(stock, lot);
}

/* ---- keys ---- */

static inline size_t twill__key_bucket_of(const twill__stock *stock, uint64_t key)
{
    uint64_t mixed = key;
    return (size_t)twill__random(&mixed) & (stock->buckets - 1);
}

/* Whether an entry that holds no key must wait for the one that holds its. */
static inline bool twill__key_taken(const twill__stock *stock, const twill__entry *entry)
{
    const twill__entry *other;
    for (other = stock->flights[twill__key_bucket_of(stock, entry->key)]; other;
         other = other->hashed)
        if (other->key == entry->key)
            return true;
    return false;
}

static inline void twill__key_take(twill__stock *stock, twill__entry *entry)
{
    twill__entry **bucket;
    if (!stock->flights || entry->in_flight)
        return;
    bucket = &stock->flights[twill__key_bucket_of(stock, entry->key)];
    entry->hashed = *bucket;
    *bucket = entry;
    entry->in_flight = true;
}

static inline void twill__key_give(twill__stock *stock, twill__entry *entry)
{
    twill__entry **link;
    if (!stock->flights || !entry->in_flight)
        return;
    for (link = &stock->flights[twill__key_bucket_of(stock, entry->key)]; *link != entry;
         link = &(*link)->hashed) {}
    *link = entry->hashed;
    entry->in_flight = false;
    stock->releases++;
}

/* The entry of the open lot with this key; NULL: none. */
static inline twill__entry *twill__open_find(const twill__stock *stock, uint64_t key)
{
    const twill__key_bucket *bucket;
    twill__entry *entry;
    if (!stock->opens || !stock->open)
        return NULL;
    bucket = &stock->opens[twill__key_bucket_of(stock, key)];
    entry = bucket->serial == stock->open->serial ? bucket->entry : NULL;
    while (entry && entry->key != key)
        entry = entry->same;
    return entry;
}

static inline void twill__open_in(twill__stock *stock, twill__entry *entry)
{
    twill__key_bucket *bucket;
    if (!stock->opens)
        return;
    bucket = &stock->opens[twill__key_bucket_of(stock, entry->key)];
    if (bucket->serial != entry->lot->serial)
        bucket->entry = NULL;
    bucket->serial = entry->lot->serial;
    entry->same = bucket->entry;
    bucket->entry = entry;
}

/* `by`: who takes its place, or NULL. */
static inline void twill__open_out(twill__stock *stock, twill__entry *entry, twill__entry *by)
{
    twill__key_bucket *bucket;
    twill__entry **link;
    if (!stock->opens || entry->lot != stock->open)
        return;
    bucket = &stock->opens[twill__key_bucket_of(stock, entry->key)];
    for (link = &bucket->entry; *link != entry; link = &(*link)->same) {}
    if (by)
        by->same = entry->same;
    *link = by ? by : entry->same;
}

/* ---- in and out ---- */

/* The first of those behind an entry takes its place in the lot. */
static inline void twill__entry_promote(twill__stock *stock, twill__entry *entry)
{
    twill__entry *heir = entry->follower;
    twill__batch_lot *lot = entry->lot;
    heir->lot = lot;
    heir->where = TWILL__PENDING_ITEM;
    heir->leader = NULL;
    heir->state = entry->state;
    heir->its = entry->its;
    heir->next = entry->next;
    heir->previous = entry->previous;
    if (heir->previous)
        heir->previous->next = heir;
    else
        lot->first = heir;
    if (heir->next)
        heir->next->previous = heir;
    else
        lot->last = heir;
    heir->weight = entry->weight;
    for (twill__entry *other = heir->follower; other; other = other->follower)
        other->leader = heir;
    twill__open_out(stock, entry, heir);
    if (entry->in_flight)
        twill__key_take(stock, heir);
}

/* Takes an entry that is in no call out of its lot: it will be in none any more. */
static inline void twill__entry_out(twill__stock *stock, twill__entry *entry)
{
    twill__idle_out(stock, entry);
    if (entry->where == TWILL__MERGED_ITEM) {
        twill__entry *other = entry->leader;
        while (other->follower != entry)
            other = other->follower;
        other->follower = entry->follower;
    } else if (entry->follower) {
        twill__entry_promote(stock, entry);
    } else {
        twill__batch_lot *lot = entry->lot;
        twill__open_out(stock, entry, NULL);
        twill__lot_remove(lot, entry);
        twill__lot_settle(stock, lot);
    }
    entry->follower = NULL;
}

/* Decides how an entry ends, once. */
static inline void twill__entry_decide(twill__stock *stock, twill__entry *entry,
                                       twill_status status, int code)
{
    entry->decided = true;
    entry->status = status;
    entry->code = code;
    stock->count--;
    stock->bytes -= entry->bytes;
    stock->leaving++;
    stock->leaving_bytes += entry->bytes;
}

#endif
