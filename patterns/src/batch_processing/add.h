/* add.h: how an item comes in, and what a full batcher does about it. */
#ifndef TWILL__BATCH_ADD_H
#define TWILL__BATCH_ADD_H

#include "batch_processing/shift.h"

/* ---- waiting ---- */

/* On a pool this thread may be the only one that could work: it does, before it waits, and whenever
   something is due; but for one that would overrun its time, unless the pool counts on it. */
static inline bool twill__batcher_may_help(const twill__batcher *batcher, twill_until until)
{
    return !batcher->crew.has_own &&
           (twill__for_ever(until) || twill__crew_counts_on_us(&batcher->crew));
}

typedef struct twill__batcher_helper {
    twill__batcher *batcher;
    bool helped;
} twill__batcher_helper;

/* A callback has ended the thread: nobody waits for it to come back. */
static void twill__batcher_gone(void *batcher_)
{
    twill__batcher *batcher = (twill__batcher *)batcher_;
    twill__batcher_turn turn;
    if (!twill__batcher_here(batcher))
        return;
    twill__batcher_enter(batcher, &turn);
    batcher->inside--;
    twill__batcher_exit(batcher, &turn);
}

/* noinline: its locals must not stand in the frame of a guard, which may be a setjmp */
static __attribute__((noinline)) void twill__batcher_help_guarded(twill__batcher_helper *helper)
{
    TWILL__GUARD_PUSH(twill__batcher_gone, helper->batcher);
    helper->helped = twill__crew_help(&helper->batcher->crew);
    TWILL__GUARD_POP(0);
}

/* Leaves the lock and takes it again; true: look again (in a forked child, too). */
static inline bool twill__batcher_help(twill__batcher *batcher, twill__batcher_turn *turn)
{
    twill__batcher_helper helper = {batcher, false};
    batcher->inside++;
    twill__batcher_exit(batcher, turn);
    twill__batcher_help_guarded(&helper);
    twill__batcher_enter(batcher, turn);
    batcher->inside--;
    return helper.helped || !twill__batcher_here(batcher);
}

/* Under the lock, which it leaves and takes again. OK: granted, see node.answer; EMPTY: look again;
   TIMEOUT, CANCELLED. */
static inline twill_status twill__batcher_wait(twill__batcher *batcher, twill__batcher_turn *turn,
                                               twill__list *list, twill__batcher_waiter *wait,
                                               twill_until until)
{
    twill_ns sooner = until.deadline;
    twill_status status;
    if (wait->tried) {
        bool ours = twill__crew_counts_on_us(&batcher->crew);
        twill_ns due = twill__batcher_next_due(batcher);
        /* a worker number has to become free first; whoever had it may not come again, nor another
           thread, if the pool counts on us. From outside many may wait: they sleep */
        if (due <= wait->tried || (ours && batcher->stock.ready.first))
            due = twill__instant_after(wait->tried, TWILL_MS(1));
        sooner = twill__nearer(sooner, due);
    }
    twill__node_init(&wait->node);
    twill__list_append(list, &wait->node);
    batcher->inside++;
    twill__batcher_exit(batcher, turn);
    status = twill__wait_sooner(&wait->node, sooner, until);
    twill__batcher_enter(batcher, turn);
    batcher->inside--;
    if (status != TWILL_OK)
        twill__list_remove(list, &wait->node);
    return status;
}

/* ---- inside of a callback ---- */

/* The shift of the worker that this thread is; NULL: it is none. */
static inline twill__shift *twill__batcher_my_shift(twill__batcher *batcher)
{
    uint64_t me = twill__thread_number();
    for (unsigned worker = 0; worker < batcher->workers; worker++)
        /* its own entry is the only one that this thread can take for its own */
        if (atomic_load_explicit(&batcher->shifts[worker].owner, memory_order_relaxed) == me)
            return batcher->tops[worker];
    return NULL;
}

static inline size_t twill__shift_bytes(const twill__batcher *batcher)
{
    size_t each = twill__cell_bytes(&batcher->options) + sizeof(twill__entry *) + sizeof(int) + 1;
    return (batcher->max_items * each + 15) / 16 * 16;
}

/* `room`: aligned to 16. */
static inline void twill__shift_room(const twill__batcher *batcher, twill__shift *shift, char *room)
{
    size_t max = batcher->max_items;
    shift->cells = twill__cells_in(&batcher->options, room, max);
    room += max * twill__cell_bytes(&batcher->options);
    shift->list = (twill__entry **)(void *)room;
    shift->view.codes = (int *)(void *)(room + max * sizeof *shift->list);
    shift->view.set = (unsigned char *)(shift->view.codes + max);
    memset(shift->view.set, 0, max);
    atomic_init(&shift->owner, 0);
}

/* A callback processes another lot on top of its own. Under the lock, which it leaves and takes
   again. OK: something was done; EMPTY: nothing is there; NO_MEMORY; FORKED: this is the child. */
static inline twill_status twill__batcher_inline(twill__batcher *batcher, twill__batcher_turn *turn)
{
    twill__shift *outer = twill__batcher_my_shift(batcher), *shift;
    twill__record *around = twill__record_current();
    bool any;
    if (!outer)
        return TWILL_EMPTY;
    twill__batcher_exit(batcher, turn);
    shift = (twill__shift *)TWILL_MALLOC(sizeof *shift + twill__shift_bytes(batcher) + 16);
    if (!shift) {
        twill__batcher_enter(batcher, turn);
        return TWILL_NO_MEMORY;
    }
    memset(shift, 0, sizeof *shift);
    twill__shift_room(batcher, shift,
                      (char *)(shift + 1) + (16 - (uintptr_t)(shift + 1) % 16) % 16);
    twill__shift_begin(shift, batcher, &outer->task);
    any = twill__batcher_pick(batcher, shift);
    if (any)
        (void)twill__shift_work(shift, false);
    if (!twill__batcher_here(batcher))
        return TWILL_FORKED;
    twill__shift_over(shift);
    TWILL_FREE(shift);
    twill__thread()->record = around;
    twill__batcher_enter(batcher, turn);
    return any ? TWILL_OK : TWILL_EMPTY;
}

/* ---- in ---- */

typedef struct twill__arrival {
    void *item;
    size_t bytes;
    uint64_t key;
    twill_future *future;
} twill__arrival;

/* A thread of the batcher's own has nothing to do: it closes the open lot when its time comes. */
static inline bool twill__batcher_watched(const twill__batcher *batcher)
{
    const twill__crew *crew = &batcher->crew;
    return crew->has_own && !batcher->refused &&
           batcher->busy + (unsigned)atomic_load_explicit(&crew->own.lost, memory_order_seq_cst) <
               twill__team_threads(&crew->own);
}

/* The open lot is far from its time, or somebody looks after it. */
static inline bool twill__batcher_has_time(const twill__batcher *batcher)
{
    uint64_t half = (uint64_t)(batcher->linger / 2048) * batcher->crew.job.tick_rate;
    return batcher->linger == TWILL_FOREVER || twill__batcher_watched(batcher) ||
           twill__ticks() - batcher->stock.open->opened_ticks < half;
}

/* The instant of an arrival; 0: it makes no difference. A clock costs as much as all else here, so
   that it is not asked for an item that joins an open lot far from its time, and that nobody is
   told about. */
static inline twill_ns twill__batcher_arrived(const twill__batcher *batcher, bool future)
{
    if (future || !batcher->stock.open || batcher->options.on_item ||
        batcher->idle != TWILL_FOREVER || batcher->item_timeout != TWILL_FOREVER ||
        !twill__batcher_has_time(batcher))
        return twill__clock_now();
    return 0;
}

static inline void twill__batcher_enter_books(twill__batcher *batcher,
                                              const twill__arrival *arrival)
{
    batcher->stock.numbers++;
    batcher->stock.books++;
    batcher->stock.count++;
    batcher->stock.bytes += arrival->bytes;
    batcher->counts.added++;
}

/* What an item needs in memory, so that nothing fails, or has gone for it, once it comes in: an
   entry, or (NULL) one in reserve, and a cell. False: no memory. */
static inline bool twill__arrival_memory(twill__batcher *batcher, const twill__arrival *arrival,
                                         twill__entry **entry)
{
    twill__stock *stock = &batcher->stock;
    *entry = NULL;
    if (!twill__lots_for(stock, stock->books + 1))
        return false;
    if (stock->packs && !arrival->future && twill__packed_may_join(stock))
        return twill__packed_reserve(stock, &batcher->options);
    *entry = (twill__entry *)(void *)twill__record_get(stock->core, batcher->options.result_size);
    return *entry != NULL;
}

/* An entry in the books, and in no lot. `entry`: of twill__arrival_memory. */
static inline twill__entry *twill__batcher_book(twill__batcher *batcher,
                                                const twill__arrival *arrival, twill__entry *entry)
{
    twill__stock *stock = &batcher->stock;
    if (!entry)
        entry = (twill__entry *)(void *)twill__record_get_reserved(stock->core);
    twill__entry_fill(entry, arrival->item, arrival->bytes, stock->numbers,
                      twill__batcher_arrived(batcher, arrival->future != NULL));
    if (batcher->options.key_of) {
        entry->key = arrival->key;
        entry->leader = entry->hashed = entry->same = NULL;
        entry->in_flight = false;
    }
    twill__books_behind(stock, entry, stock->newest);
    twill__batcher_enter_books(batcher, arrival);
    if (arrival->future) {
        entry->has_future = true;
        entry->batcher = batcher;
        *arrival->future = twill__record_hold(&entry->record);
        if (batcher->item_timeout != TWILL_FOREVER) /* relaxed: nobody else knows it yet */
            atomic_store_explicit(&entry->record.due, twill__entry_expires(batcher, entry),
                                  memory_order_relaxed);
    }
    return entry;
}

/* Joins an entry of the open lot that has its key. False: there is none, or no room for it. */
static inline bool twill__batcher_merge(twill__batcher *batcher, twill__entry *entry)
{
    twill__stock *stock = &batcher->stock;
    twill__entry *leader = twill__open_find(stock, entry->key), *last = leader;
    size_t more;
    if (!leader)
        return false;
    more = entry->weight > leader->weight ? entry->weight - leader->weight : 0;
    if (more > batcher->max_bytes - stock->open->bytes)
        return false;
    leader->weight += more;
    stock->open->bytes += more;
    while (last->follower)
        last = last->follower;
    last->follower = entry;
    entry->leader = leader;
    entry->lot = leader->lot;
    entry->where = TWILL__MERGED_ITEM;
    batcher->counts.merged++;
    return true;
}

/* The open lot takes one of so many bytes; if it cannot, a new one does. True: it is a new one. */
static inline bool twill__batcher_open_for(twill__batcher *batcher, const twill__arrival *arrival,
                                           twill_ns added)
{
    twill__stock *stock = &batcher->stock;
    size_t used = stock->open ? stock->open->bytes : 0;
    if (arrival->bytes > batcher->max_bytes - used)
        twill__lot_close(stock, TWILL__BY_BYTES);
    if (stock->open)
        return false;
    stock->open = twill__lot_get(stock);
    stock->open->opened = added ? added : twill__clock_now();
    stock->open->opened_ticks = twill__ticks();
    return true;
}

static inline void twill__batcher_peak(twill__batcher *batcher)
{
    if (batcher->stock.count > batcher->counts.pending_peak)
        batcher->counts.pending_peak = batcher->stock.count;
}

/* The open lot leaves if it is full. `last`: the line's before the item came. */
static inline void twill__batcher_filed(twill__batcher *batcher, twill__batcher_turn *turn,
                                        const twill__batch_lot *last, bool opens)
{
    twill__stock *stock = &batcher->stock;
    twill_ns due = TWILL_FOREVER;
    if (stock->open->count >= batcher->max_items)
        twill__lot_close(stock, TWILL__BY_COUNT);
    else if (stock->open->bytes >= batcher->max_bytes) /* above it: one that is alone */
        twill__lot_close(stock, TWILL__BY_BYTES);
    else if (opens)
        due = twill__batcher_next_due(batcher);
    if (due != TWILL_FOREVER)
        turn->alarm = due;
    if (stock->ready.last != last)
        turn->call = 1;
    twill__batcher_peak(batcher);
}

/* An entry, into the open lot. */
static inline void twill__batcher_file(twill__batcher *batcher, twill__batcher_turn *turn,
                                       const twill__arrival *arrival, twill__entry *entry)
{
    twill__stock *stock = &batcher->stock;
    const twill__batch_lot *last = stock->ready.last;
    bool opens;
    twill__open_look(batcher, entry->added); /* one whose time has come takes nothing more */
    if (stock->open && stock->open->packed)
        twill__lot_unpack(stock, stock->open);
    twill__idle_behind(stock, entry, stock->back);
    if (twill__batcher_merge(batcher, entry)) {
        stock->open->arrival = entry->added;
        twill__batcher_peak(batcher);
        return;
    }
    opens = twill__batcher_open_for(batcher, arrival, entry->added);
    stock->open->arrival = entry->added;
    entry->where = TWILL__PENDING_ITEM;
    twill__lot_append(stock->open, entry);
    twill__lot_ahead(stock->open, entry);
    twill__open_in(stock, entry);
    twill__batcher_filed(batcher, turn, last, opens);
}

/* An item without an entry, likewise. After twill__arrival_memory. */
static inline void twill__batcher_pack(twill__batcher *batcher, twill__batcher_turn *turn,
                                       const twill__arrival *arrival)
{
    twill__stock *stock = &batcher->stock;
    const twill__batch_lot *last = stock->ready.last;
    twill_ns added = twill__batcher_arrived(batcher, false);
    bool opens;
    twill__open_look(batcher, added);
    opens = twill__batcher_open_for(batcher, arrival, added);
    if (opens) {
        stock->open->packed = true;
        stock->open->number = stock->numbers;
        stock->open->place = stock->end;
        twill__packed_in(stock, stock->open);
    }
    stock->open->arrival = added;
    twill__packed_append(stock, stock->open, arrival->item, arrival->bytes, added);
    stock->idle++;
    twill__batcher_enter_books(batcher, arrival);
    twill__batcher_filed(batcher, turn, last, opens);
}

/* There is room for it, and memory (of twill__arrival_memory, though what was dropped meanwhile may
   have unpacked the open lot): it comes in. */
static inline void twill__batcher_take_in(twill__batcher *batcher, twill__batcher_turn *turn,
                                          const twill__arrival *arrival, twill__entry *entry)
{
    if (!entry && twill__packed_may_join(&batcher->stock))
        twill__batcher_pack(batcher, turn, arrival);
    else
        twill__batcher_file(batcher, turn, arrival, twill__batcher_book(batcher, arrival, entry));
}

/* ---- full ---- */

/* The next one to go under DROP_OLDEST and DROP_NEWEST; NULL: all have been in a call. */
static inline twill__entry *twill__batcher_victim(twill__batcher *batcher)
{
    twill__stock *stock = &batcher->stock;
    bool oldest = batcher->options.overflow == TWILL_OVERFLOW_DROP_OLDEST;
    twill__batch_lot *lot = twill__packed_idle(stock, oldest);
    twill__entry *entry = oldest ? stock->front : stock->back;
    while (entry && entry->called)
        entry = oldest ? entry->after : entry->before;
    if (lot && (!entry || (lot->number < entry->number) == oldest)) {
        twill__lot_unpack(stock, lot);
        entry = oldest ? lot->first : lot->last;
    }
    return entry;
}

/* Whether room can be made, so that nothing is dropped in vain: an item, and enough of their
   bytes. */
static inline bool twill__batcher_may_evict(const twill__batcher *batcher, size_t bytes)
{
    const twill__stock *stock = &batcher->stock;
    size_t left = batcher->capacity_bytes - bytes, kept = stock->bytes;
    const twill__batch_lot *lot = twill__packed_idle(stock, true);
    bool any = lot != NULL;
    for (; lot && kept > left; lot = lot->younger)
        kept -= lot->taken ? 0 : lot->bytes;
    for (const twill__entry *entry = stock->front; entry && !(any && kept <= left);
         entry = entry->after)
        if (!entry->called) {
            any = true;
            kept -= entry->bytes;
        }
    return any && kept <= left;
}

/* Makes room, where it can be made; the dropped ones are to be told. */
static inline void twill__batcher_evict(twill__batcher *batcher, size_t bytes, twill__entry ***at)
{
    while (!twill__batcher_room(batcher, bytes, false)) { /* exit: twill__batcher_may_evict */
        twill__entry *entry = twill__batcher_victim(batcher);
        twill__entry_out(&batcher->stock, entry);
        twill__batcher_end(batcher, entry, TWILL_DROPPED, 0, at);
    }
}

/* No room for one who would wait for it. OK: look again. *granted: a place is reserved. */
static inline twill_status twill__batcher_wait_room(twill__batcher *batcher,
                                                    twill__batcher_turn *turn, size_t bytes,
                                                    twill_until until, bool wait, bool *granted)
{
    bool runs = batcher->options.overflow == TWILL_OVERFLOW_CALLER_RUNS;
    twill__batcher_waiter me;
    twill_status status;
    bool inside;
    if (!wait)
        return TWILL_FULL;
    inside = twill__batcher_inside(batcher);
    if ((inside || runs) && !batcher->stock.ready.first && batcher->stock.open)
        twill__batcher_unchoke(batcher, turn);
    if (inside) {
        status = twill__batcher_inline(batcher, turn);
        return status == TWILL_EMPTY ? TWILL_DEADLOCK : status;
    }
    status = twill__over(until);
    if (status != TWILL_OK)
        return status;
    me.tried = twill__batcher_may_help(batcher, until) ? twill__clock_now() : 0;
    if ((runs || me.tried) && twill__batcher_help(batcher, turn))
        return twill__batcher_here(batcher) ? TWILL_OK : TWILL_FORKED;
    me.bytes = bytes;
    status = twill__batcher_wait(batcher, turn, &batcher->adders, &me, until);
    *granted = status == TWILL_OK && me.node.answer == TWILL_OK;
    return status == TWILL_EMPTY ? TWILL_OK : status;
}

/* Whether an add goes in at once. */
static inline bool twill__batcher_may_enter(const twill__batcher *batcher, size_t bytes)
{
    twill_overflow overflow = batcher->options.overflow;
    bool waits = overflow == TWILL_OVERFLOW_BLOCK || overflow == TWILL_OVERFLOW_CALLER_RUNS;
    if (waits && !batcher->adders.first && twill__batcher_room(batcher, bytes, true))
        return true;
    /* a callback does not wait in the line */
    return twill__batcher_room(batcher, bytes, false) && (!waits || twill__batcher_inside(batcher));
}

/* Under the lock: the answer of an add, with those that it has dropped. */
static inline twill_status twill__batcher_admit(twill__batcher *batcher, twill__batcher_turn *turn,
                                                const twill__arrival *arrival, twill_until until,
                                                bool wait, twill__entry ***dropped)
{
    twill_overflow overflow = batcher->options.overflow;
    bool evicts = overflow == TWILL_OVERFLOW_DROP_OLDEST || overflow == TWILL_OVERFLOW_DROP_NEWEST;
    bool comes = true;
    twill__entry *entry;
    for (;;) { /* exit: a final answer; each turn is another's progress */
        bool granted = false;
        twill_status status = TWILL_OK;
        if (batcher->closed)
            return TWILL_CLOSED;
        if (twill__batcher_may_enter(batcher, arrival->bytes))
            break;
        if (!evicts && twill__batcher_choked(batcher))
            twill__batcher_unchoke(batcher, turn);
        if (overflow == TWILL_OVERFLOW_REJECT ||
            (evicts && !twill__batcher_may_evict(batcher, arrival->bytes)))
            return TWILL_FULL;
        comes = overflow != TWILL_OVERFLOW_DROP_INCOMING;
        if (evicts || !comes)
            break;
        status = twill__batcher_wait_room(batcher, turn, arrival->bytes, until, wait, &granted);
        if (granted) {
            batcher->reserved--;
            batcher->reserved_bytes -= arrival->bytes;
            if (batcher->closed)
                return TWILL_CLOSED;
            break;
        }
        if (status != TWILL_OK)
            return status;
    }
    if (!twill__arrival_memory(batcher, arrival, &entry))
        return TWILL_NO_MEMORY;
    if (!comes) {
        entry = twill__batcher_book(batcher, arrival, entry);
        twill__batcher_end(batcher, entry, TWILL_DROPPED, 0, dropped);
        return TWILL_DROPPED;
    }
    if (evicts)
        twill__batcher_evict(batcher, arrival->bytes, dropped);
    twill__batcher_take_in(batcher, turn, arrival, entry);
    return TWILL_OK;
}

static inline twill_status twill__batcher_put(twill__batcher *batcher, void *item,
                                              twill_future *future, twill_until until, bool wait)
{
    const twill_batch_options *options;
    twill__arrival arrival = {item, 0, 0, future};
    twill__entry *dropped = NULL, **at = &dropped;
    twill__batcher_turn turn;
    twill_task task;
    twill_status status;
    if (future)
        *future = (twill_future){NULL, 0};
    if (!batcher)
        return TWILL_INVALID;
    if (!twill__batcher_here(batcher))
        return TWILL_FORKED;
    options = &batcher->options;
    task = twill__batcher_task(batcher);
    if (options->bytes_of)
        arrival.bytes = options->bytes_of(item, &task);
    if (options->key_of)
        arrival.key = options->key_of(item, &task);
    if (!twill__batcher_here(batcher)) /* one of these has forked */
        return TWILL_FORKED;
    if ((arrival.bytes > batcher->max_bytes && !options->oversized_alone) ||
        arrival.bytes > batcher->capacity_bytes)
        return TWILL_TOO_BIG;
    twill__batcher_enter(batcher, &turn);
    status = twill__batcher_admit(batcher, &turn, &arrival, until, wait, &at);
    if (status == TWILL_FULL)
        batcher->counts.refused++;
    if (dropped)
        twill__batcher_tell(batcher, &turn, dropped);
    twill__batcher_exit(batcher, &turn);
    return status;
}

TWILL__DEFINE twill_status twill_batcher_add(twill_batcher *batcher, void *item,
                                             twill_future *future)
{
    return twill__batcher_put(batcher, item, future, (twill_until){0, NULL}, true);
}

TWILL__DEFINE twill_status twill_batcher_try_add(twill_batcher *batcher, void *item,
                                                 twill_future *future)
{
    return twill__batcher_put(batcher, item, future, (twill_until){0, NULL}, false);
}

TWILL__DEFINE twill_status twill_batcher_add_until(twill_batcher *batcher, void *item,
                                                   twill_future *future, twill_until until)
{
    return twill__batcher_put(batcher, item, future, until, true);
}

#endif
