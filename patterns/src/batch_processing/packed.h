/* packed.h: lots of items that nobody asks for one by one: cells in a ring, until something happens
   to one of them. */
#ifndef TWILL__BATCH_PACKED_H
#define TWILL__BATCH_PACKED_H

#include "batch_processing/stock.h"

/* An item in a packed lot costs a cell and a few sums. The memory of an entry is reserved for it
   when it comes in, and not touched: so unpacking cannot fail, and what was accepted has an end. */

/* ---- cells ---- */

static inline size_t twill__cell_bytes(const twill_batch_options *options)
{
    return sizeof(void *) + (options->on_item ? sizeof(twill_ns) : 0) +
           (options->bytes_of ? sizeof(size_t) : 0);
}

/* `room`: aligned to 16, twill__cell_bytes for each of `count`. */
static inline twill__cells twill__cells_in(const twill_batch_options *options, void *room,
                                           size_t count)
{
    twill__cells cells = {NULL, NULL, NULL};
    if (options->on_item) {
        cells.added = (twill_ns *)room;
        room = cells.added + count;
    }
    cells.item = (void **)room;
    if (options->bytes_of)
        cells.bytes = (size_t *)(void *)(cells.item + count);
    return cells;
}

static inline void twill__cells_copy(const twill__cells *to, size_t at, const twill__cells *from,
                                     size_t first, size_t count)
{
    memcpy(to->item + at, from->item + first, count * sizeof *to->item);
    if (to->added)
        memcpy(to->added + at, from->added + first, count * sizeof *to->added);
    if (to->bytes)
        memcpy(to->bytes + at, from->bytes + first, count * sizeof *to->bytes);
}

/* `count` cells from a place of the ring on, which may go round its end. */
static inline void twill__ring_copy(const twill__stock *stock, uint64_t place, size_t count,
                                    const twill__cells *to)
{
    size_t first = (size_t)place & (stock->ring - 1), whole = stock->ring - first;
    if (whole > count)
        whole = count;
    twill__cells_copy(to, 0, &stock->cells, first, whole);
    if (whole < count)
        twill__cells_copy(to, whole, &stock->cells, 0, count - whole);
}

/* Twice as many cells. False: no memory. */
static inline bool twill__ring_grow(twill__stock *stock, const twill_batch_options *options)
{
    size_t ring = stock->ring ? 2 * stock->ring : 16, each = twill__cell_bytes(options);
    twill__cells cells;
    void *memory;
    if (!(memory = TWILL_MALLOC(ring * each))) /* half of it is there: no overflow */
        return false;
    cells = twill__cells_in(options, memory, ring);
    for (uint64_t place = stock->begin; place < stock->end; place++)
        twill__cells_copy(&cells, (size_t)place & (ring - 1), &stock->cells,
                          (size_t)place & (stock->ring - 1), 1);
    if (stock->ring_memory)
        TWILL_FREE(stock->ring_memory);
    stock->ring_memory = memory;
    stock->cells = cells;
    stock->ring = ring;
    return true;
}

/* ---- the list of packed lots ---- */

static inline void twill__packed_in(twill__stock *stock, twill__batch_lot *lot)
{
    TWILL__CHAIN_IN(stock->eldest, stock->youngest, stock->youngest, lot, elder, younger);
}

static inline void twill__packed_out(twill__stock *stock, twill__batch_lot *lot)
{
    TWILL__CHAIN_OUT(stock->eldest, stock->youngest, lot, elder, younger);
}

/* The eldest, or the youngest, that no worker has; NULL: there is none. */
static inline twill__batch_lot *twill__packed_idle(const twill__stock *stock, bool eldest)
{
    twill__batch_lot *lot = eldest ? stock->eldest : stock->youngest;
    while (lot && lot->taken)
        lot = eldest ? lot->younger : lot->elder;
    return lot;
}

/* Cells that are not needed any more are free. */
static inline void twill__ring_trim(twill__stock *stock)
{
    const twill__batch_lot *eldest = twill__packed_idle(stock, true);
    stock->begin = eldest ? eldest->place : stock->end;
}

/* ---- in ---- */

/* Whether the next item, if it can be packed, can join the open lot so. */
static inline bool twill__packed_may_join(const twill__stock *stock)
{
    const twill__batch_lot *open = stock->open;
    return !open || (open->packed && open->number + open->count == stock->numbers);
}

/* A cell, and an entry, should it be unpacked. False: no memory. */
static inline bool twill__packed_reserve(twill__stock *stock, const twill_batch_options *options)
{
    return (stock->end - stock->begin < stock->ring || twill__ring_grow(stock, options)) &&
           twill__core_reserve(stock->core);
}

/* The lot's last. After twill__packed_reserve. */
static inline void twill__packed_append(twill__stock *stock, twill__batch_lot *lot, void *item,
                                        size_t bytes, twill_ns added)
{
    size_t cell = (size_t)stock->end++ & (stock->ring - 1);
    stock->cells.item[cell] = item;
    if (stock->cells.added)
        stock->cells.added[cell] = added;
    if (stock->cells.bytes)
        stock->cells.bytes[cell] = bytes;
    lot->count++;
    lot->bytes += bytes;
}

/* ---- out ---- */

/* An entry for an item, in no list yet; all but what a book keeps of it is zero. */
static inline void twill__entry_fill(twill__entry *entry, void *item, size_t bytes, uint64_t number,
                                     twill_ns added)
{
    memset(&entry->item, 0, sizeof *entry - offsetof(twill__entry, item));
    entry->item = item;
    entry->bytes = entry->weight = bytes;
    entry->number = number;
    entry->worker = UINT_MAX;
    entry->added = added;
}

/* Item i of a lot that is being unpacked, from cell `at`; behind `older` in the books. */
static inline twill__entry *twill__packed_entry(twill__stock *stock, const twill__batch_lot *lot,
                                                size_t i, const twill__cells *cells, size_t at,
                                                twill__entry *older)
{
    twill__entry *entry = (twill__entry *)(void *)twill__record_get_reserved(stock->core);
    twill__entry_fill(entry, cells->item[at], cells->bytes ? cells->bytes[at] : 0, lot->number + i,
                      cells->added ? cells->added[at] : 0);
    twill__books_behind(stock, entry, older);
    return entry;
}

/* The last entry in the books that is older than a lot. */
static inline twill__entry *twill__packed_behind(const twill__stock *stock,
                                                 const twill__batch_lot *lot)
{
    twill__entry *older = stock->newest;
    while (older && older->number > lot->number)
        older = older->older;
    return older;
}

/* A lot that no worker has: it has entries now. */
static inline void twill__lot_unpack(twill__stock *stock, twill__batch_lot *lot)
{
    twill__entry *older = twill__packed_behind(stock, lot), *before = stock->back;
    size_t count = lot->count;
    while (before && before->number > lot->number)
        before = before->before;
    twill__packed_out(stock, lot);
    stock->idle -= count; /* each counts itself again */
    lot->packed = false;
    lot->count = lot->bytes = 0;
    for (size_t i = 0; i < count; i++) {
        size_t cell = (size_t)(lot->place + i) & (stock->ring - 1);
        older = twill__packed_entry(stock, lot, i, &stock->cells, cell, older);
        older->where = TWILL__PENDING_ITEM;
        twill__lot_append(lot, older);
        twill__idle_behind(stock, older, before);
        before = older;
    }
    twill__ring_trim(stock);
}

#endif
