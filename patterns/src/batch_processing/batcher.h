/* batcher.h: the batcher: its books under one small lock, and those who wait. */
#ifndef TWILL__BATCH_BATCHER_H
#define TWILL__BATCH_BATCHER_H

#include "batch_processing/packed.h"
#include "engine/light_lock.h"
#include "engine/wakes.h"

typedef struct twill__batcher_waiter { /* on the waiter's stack */
    twill__node node;                  /* first */
    uint64_t target;                   /* a flush: the number after its last item */
    size_t bytes;                      /* an add: of its item */
    twill_ns tried;                    /* 0; when it would have helped, last */
} twill__batcher_waiter;

/* A callback that runs outside of the workers, on its caller's stack. */
typedef struct twill__batcher_calling {
    struct twill__batcher_calling *next;
    uint64_t thread;
} twill__batcher_calling;

/* A worker's hands: the entries of one lot, from taking them to their end. A callback that adds to
   its own full batcher works on another lot meanwhile, with a shift of its own. */
typedef struct twill__shift {
    twill__view view;
    struct twill_batcher *batcher;
    _Atomic uint64_t owner;     /* number of the thread that works; 0: none */
    bool starting;              /* in worker_start; left so: the hook has ended its thread */
    struct twill__shift *outer; /* of the same worker */
    twill_task task;
    twill__batch_lot *lot;
    bool busy;           /* counted in the batcher's */
    bool packed;         /* the lot is: its items are in `cells`, and `list` is empty */
    twill__cells cells;  /* [max] */
    twill__entry **list; /* [max] */
    size_t count, at;    /* of the lot's entries; the first that has no end yet */
    twill__entry **call; /* the part of `list` that is in the call */
    size_t called, settled, calls;
    twill__entry *ended, **ended_at; /* who is to be told */
    twill__entry *telling;           /* whose on_item runs */
    twill_ns started;                /* when the lot was taken */
    size_t packed_told;              /* of a packed lot: whose on_item runs, or has run */
    bool told;                       /* all are decided: they are being told */
    twill__record *around;           /* the thread's record outside the call */
} twill__shift;

typedef struct twill_batcher {
    twill__light_lock lock;
    /* nothing is to be done before; written under the lock, read without it, too */
    _Atomic twill_ns due;
    /* under the lock */
    bool closed, doomed;
    _Atomic uint32_t
        cut; /* TIMEOUT, CANCELLED: nothing is called any more; 0; read without it, too */
    twill__stock stock;
    size_t reserved, reserved_bytes; /* for adds that were granted and have not come yet */
    size_t inside;                   /* calls that wait, or come back from waiting */
    unsigned busy;                   /* shifts that have something to do */
    twill__list adders, flushers;
    twill__node *destroyer;
    twill__batcher_calling *callings;
    twill_batcher_stats counts;          /* what get_stats need not ask elsewhere */
    uint64_t left[TWILL__WHYS], carried; /* batches, by why they left; items in them */
    twill_item_error first;              /* the failure of the lowest number */
    unsigned refused; /* worker numbers whose worker_start failed; all: nobody calls anything */
    int start_code;
    /* set at creation */
    twill_batch_options options;
    twill_batch_fn *fn;
    int (*user_start)(void **worker_state, const twill_task *task);
    size_t max_items, max_bytes, capacity, capacity_bytes; /* none: SIZE_MAX */
    unsigned attempts;
    twill_ns linger, idle, item_timeout; /* none: TWILL_FOREVER */
    twill__backoff shape;
    uint64_t seed;
    twill__shift *shifts; /* [workers] */
    twill__shift **tops;  /* [workers]: the innermost one of each; its thread's alone */
    unsigned workers;
    twill_cancel_hook hook; /* in run.until.cancel */
    void *memory, *crew_memory;
    twill__crew crew;
} twill__batcher;

/* ns: to park, and to be woken by an adder, costs more than to let adders pass for so long */
#define TWILL__BATCHER_SPIN 20000
/* ns: who holds it is likely to add a row of items, and a look takes the line from him */
#define TWILL__BATCHER_ROW  1000

typedef struct twill__batcher_turn { /* what to do after a turn under the lock */
    twill__wakes wakes;
    unsigned call;  /* workers that are wanted */
    twill_ns alarm; /* 0: none */
} twill__batcher_turn;

/* Whether this process made it. A callback may fork: in the child nothing of the batcher is touched
   from its return on, since another thread of the parent may have had the lock, and the items are
   the parent's. */
static inline bool twill__batcher_here(const twill__batcher *batcher)
{
    return twill__crew_here(&batcher->crew);
}

/* ---- in and out of the lock ---- */

static inline void twill__batcher_enter(twill__batcher *batcher, twill__batcher_turn *turn)
{
    turn->wakes.count = 0;
    turn->call = 0;
    turn->alarm = 0;
    if (!twill__batcher_here(batcher) || twill__light_try(&batcher->lock))
        return;
    if (twill__spin_helps())
        twill__spin_away(TWILL__BATCHER_ROW);
    twill__light_take(&batcher->lock, TWILL__BATCHER_SPIN);
}

/* Whether there is room for one more. `all`: beside those whose on_item is still to return; one
   that on_item adds takes the place of the one that it is told about. */
static inline bool twill__batcher_room(const twill__batcher *batcher, size_t bytes, bool all)
{
    const twill__stock *stock = &batcher->stock;
    size_t used = stock->bytes + batcher->reserved_bytes + (all ? stock->leaving_bytes : 0);
    return stock->count + batcher->reserved + (all ? stock->leaving : 0) < batcher->capacity &&
           used <= batcher->capacity_bytes && bytes <= batcher->capacity_bytes - used;
}

/* The lowest number that is in the books; UINT64_MAX: none is. */
static inline uint64_t twill__batcher_oldest(const twill__batcher *batcher)
{
    const twill__stock *stock = &batcher->stock;
    uint64_t oldest = stock->oldest ? stock->oldest->number : UINT64_MAX;
    return stock->eldest && stock->eldest->number < oldest ? stock->eldest->number : oldest;
}

/* Nothing but the open lot holds the room, and it cannot grow. */
static inline bool twill__batcher_choked(const twill__batcher *batcher)
{
    const twill__stock *stock = &batcher->stock;
    return stock->open && !stock->ready.first && stock->idle == stock->count;
}

static inline void twill__batcher_unchoke(twill__batcher *batcher, twill__batcher_turn *turn)
{
    bool full = batcher->stock.count + batcher->reserved >= batcher->capacity;
    twill__lot_close(&batcher->stock, full ? TWILL__BY_COUNT : TWILL__BY_BYTES);
    turn->call = 1;
}

/* Whoever can go on is told. A granted add has its place reserved, so nobody overtakes it. */
static inline void twill__batcher_settle(twill__batcher *batcher, twill__batcher_turn *turn)
{
    twill__node *last = batcher->flushers.last;
    for (twill__node *node = batcher->flushers.first, *next; node; node = next) {
        bool end = node == last; /* one that is leaving is put behind it */
        next = node->next;
        if (((twill__batcher_waiter *)(void *)node)->target <= twill__batcher_oldest(batcher))
            (void)twill__wakes_grant(&turn->wakes, &batcher->flushers, node, TWILL_OK);
        if (end)
            break;
    }
    last = batcher->adders.last;
    for (twill__node *node = batcher->adders.first, *next; node; node = next) {
        size_t bytes = ((twill__batcher_waiter *)(void *)node)->bytes;
        bool end = node == last;
        next = node->next;
        if (batcher->closed) {
            (void)twill__wakes_grant(&turn->wakes, &batcher->adders, node, TWILL_CLOSED);
        } else if (!twill__batcher_room(batcher, bytes, true)) {
            if (twill__batcher_choked(batcher))
                twill__batcher_unchoke(batcher, turn);
            break;
        } else if (twill__wakes_grant(&turn->wakes, &batcher->adders, node, TWILL_OK)) {
            batcher->reserved++;
            batcher->reserved_bytes += bytes;
        }
        if (end)
            break;
    }
}

/* Why the run was cut, or TWILL_OK. Relaxed: it is written under the lock, and without it only a
   hint: a call too many is harmless. */
static inline twill_status twill__batcher_why_cut(const twill__batcher *batcher)
{
    return (twill_status)atomic_load_explicit(&batcher->cut, memory_order_relaxed);
}

/* After the last item has left the books: nobody tells, and whoever waits is inside. */
static inline bool twill__batcher_deserted(const twill__batcher *batcher)
{
    return !batcher->inside && !twill__light_wanted(&batcher->lock);
}

/* Workers that look without the lock must see it, before they are called. */
static inline void twill__batcher_due(twill__batcher *batcher, const twill__batcher_turn *turn)
{
    /* relaxed: written under the lock */
    twill_ns due = atomic_load_explicit(&batcher->due, memory_order_relaxed);
    twill_ns sooner = turn->call ? 0 : turn->alarm ? turn->alarm : due;
    if (sooner < due)
        atomic_store_explicit(&batcher->due, sooner, memory_order_seq_cst);
}

/* The only way out of the lock. */
static inline void twill__batcher_exit(twill__batcher *batcher, twill__batcher_turn *turn)
{
    if (!twill__batcher_here(batcher))
        return;
    if (batcher->adders.first || batcher->flushers.first)
        twill__batcher_settle(batcher, turn);
    if (batcher->destroyer && twill__batcher_deserted(batcher)) {
        _Atomic uint32_t *word = &batcher->destroyer->word;
        batcher->destroyer = NULL;
        /* pairs with twill__await; the destroyer takes the lock once more before it frees */
        atomic_fetch_or_explicit(word, TWILL__GRANTED, memory_order_acq_rel);
        twill__wake(word, 1);
    }
    twill__batcher_due(batcher, turn);
    if (turn->call)
        twill__crew_call(&batcher->crew, turn->call);
    if (turn->alarm)
        twill__crew_alarm(&batcher->crew, turn->alarm);
    twill__light_unlock(&batcher->lock);
    twill__wakes_send(&turn->wakes);
}

/* ---- who is inside ---- */

static inline void twill__batcher_calling_begin(twill__batcher *batcher,
                                                twill__batcher_calling *calling)
{
    calling->thread = twill__thread_number();
    calling->next = batcher->callings;
    batcher->callings = calling;
}

static inline void twill__batcher_calling_end(twill__batcher *batcher,
                                              const twill__batcher_calling *calling)
{
    twill__batcher_calling **link = &batcher->callings;
    while (*link != calling)
        link = &(*link)->next;
    *link = calling->next;
}

/* Under the lock: whether this thread runs a callback of this batcher. */
static inline bool twill__batcher_inside(const twill__batcher *batcher)
{
    const twill__batcher_calling *calling = batcher->callings;
    while (calling && calling->thread != twill__thread_number())
        calling = calling->next;
    return calling || twill__crew_inside(&batcher->crew);
}

/* ---- due instants ---- */

static inline twill_ns twill__entry_expires(const twill__batcher *batcher,
                                            const twill__entry *entry)
{
    return batcher->item_timeout == TWILL_FOREVER
               ? TWILL_FOREVER
               : twill__instant_after(entry->added, batcher->item_timeout);
}

/* When the open lot leaves by itself. */
static inline twill_ns twill__open_due(const twill__batcher *batcher, enum twill__why *why)
{
    const twill__batch_lot *open = batcher->stock.open;
    twill_ns by_age, by_gap;
    *why = TWILL__BY_LINGER;
    if (!open)
        return TWILL_FOREVER;
    by_age = batcher->linger == TWILL_FOREVER ? TWILL_FOREVER
                                              : twill__instant_after(open->opened, batcher->linger);
    by_gap = batcher->idle == TWILL_FOREVER ? TWILL_FOREVER
                                            : twill__instant_after(open->arrival, batcher->idle);
    if (by_gap >= by_age)
        return by_age;
    *why = TWILL__BY_IDLE;
    return by_gap;
}

/* Closes the open lot if its time has come. */
static inline void twill__open_look(twill__batcher *batcher, twill_ns now)
{
    enum twill__why why;
    if (batcher->stock.open && now >= twill__open_due(batcher, &why))
        twill__lot_close(&batcher->stock, why);
}

/* When the next thing is due that nobody tells; TWILL_FOREVER: nothing. */
static inline twill_ns twill__batcher_next_due(const twill__batcher *batcher)
{
    const twill__stock *stock = &batcher->stock;
    enum twill__why why;
    twill_ns next = twill__open_due(batcher, &why);
    if (stock->waiting.first)
        next = twill__nearer(next, stock->waiting.first->due);
    if (stock->front)
        next = twill__nearer(next, twill__entry_expires(batcher, stock->front));
    if (stock->idle && !twill__no_deadline(batcher->options.run.until.deadline))
        next = twill__nearer(next, batcher->options.run.until.deadline);
    return next;
}

/* ---- ends ---- */

static inline void twill__batcher_count(twill__batcher *batcher, twill_status status)
{
    twill_batcher_stats *counts = &batcher->counts;
    switch (status) {
    case TWILL_OK:
        counts->done++;
        break;
    case TWILL_TIMEOUT:
        counts->timed_out++;
        break;
    case TWILL_CANCELLED:
        counts->cancelled++;
        break;
    case TWILL_DROPPED:
        counts->dropped++;
        break;
    case TWILL_LOST:
        counts->lost++;
        break;
    default:
        counts->failed++;
    }
}

/* Under the lock: how an entry has ended. */
static inline void twill__batcher_decide(twill__batcher *batcher, twill__entry *entry,
                                         twill_status status, int code)
{
    twill_item_error *first = &batcher->first;
    twill__entry_decide(&batcher->stock, entry, status, code);
    twill__batcher_count(batcher, status);
    if ((status == TWILL_FAILED || status == TWILL_LOST) &&
        (!first->status || (size_t)entry->number < first->index))
        *first = (twill_item_error){(size_t)entry->number, status, code};
}

/* Under the lock: an entry has its end, and will be told by the thread that has the list. */
static inline void twill__batcher_end(twill__batcher *batcher, twill__entry *entry,
                                      twill_status status, int code, twill__entry ***at)
{
    if (!entry->decided)
        twill__batcher_decide(batcher, entry, status, code);
    entry->where = TWILL__ENDED_ITEM;
    entry->ended = NULL;
    **at = entry;
    *at = &entry->ended;
}

static inline twill_outcome twill__entry_outcome(const twill__entry *entry)
{
    twill_outcome outcome;
    memset(&outcome, 0, sizeof outcome);
    outcome.status = entry->status;
    outcome.code = entry->code;
    outcome.index = (size_t)entry->number;
    outcome.key = entry->item;
    outcome.worker = entry->worker;
    outcome.attempts = entry->attempts;
    outcome.queued = entry->added;
    outcome.started = entry->started;
    outcome.finished = twill__clock_now();
    return outcome;
}

/* Without the lock: tells of one ended entry. */
static inline void twill__entry_tell(twill__batcher *batcher, twill__entry *entry, twill_task *task)
{
    twill_outcome outcome;
    bool has = entry->called && batcher->options.result_size;
    if (!batcher->options.on_item)
        return;
    outcome = twill__entry_outcome(entry);
    task->index = (size_t)entry->number;
    batcher->options.on_item(entry->item, &outcome, has ? entry->record.result : NULL, task);
}

static inline void twill__entry_promise(twill__entry *entry)
{
    twill__record *record = &entry->record;
    if (!entry->has_future || entry->promised)
        return;
    entry->promised = true;
    record->outcome = twill__entry_outcome(entry);
    (void)twill__record_settle(record, record->outcome.status == TWILL_OK);
    twill__record_publish(record, false);
}

/* Under the lock: entries that have been told leave the books. */
static inline void twill__batcher_forget(twill__batcher *batcher, twill__entry *entry)
{
    twill__stock *stock = &batcher->stock;
    while (entry) {
        twill__entry *next = entry->ended;
        TWILL__CHAIN_OUT(stock->oldest, stock->newest, entry, older, newer);
        stock->books--;
        stock->leaving--;
        stock->leaving_bytes -= entry->bytes;
        twill__key_give(stock, entry);
        if (entry->has_future)
            twill__record_disown(&entry->record); /* may be another's from here on */
        else
            twill__record_put(&entry->record);
        entry = next;
    }
}

static inline twill_task twill__batcher_task(const twill__batcher *batcher)
{
    twill_task task = {SIZE_MAX, batcher->options.run.context, UINT_MAX, 0, NULL, {0, NULL}, NULL};
    return task;
}

typedef struct twill__teller { /* outside of the workers: whom this thread has to tell */
    twill__batcher *batcher;
    twill__entry *first, *at;
    twill__batcher_calling calling;
} twill__teller;

static inline void twill__teller_end(void *teller_)
{
    twill__teller *teller = (twill__teller *)teller_;
    twill__batcher *batcher = teller->batcher;
    twill_task task = twill__batcher_task(batcher);
    twill__batcher_turn turn;
    if (!twill__batcher_here(batcher))
        return;
    while (teller->at) { /* when a callback has ended the thread: that one has been told */
        twill__entry *entry = teller->at;
        teller->at = entry->ended;
        twill__entry_promise(entry);
        if (teller->at)
            twill__entry_tell(batcher, teller->at, &task);
    }
    twill__batcher_enter(batcher, &turn);
    twill__batcher_forget(batcher, teller->first);
    twill__batcher_calling_end(batcher, &teller->calling);
    turn.call = 1; /* a key may be free */
    twill__batcher_exit(batcher, &turn);
}

/* Under the lock, which it leaves and takes again: tells entries outside of the workers. */
static inline void twill__batcher_tell(twill__batcher *batcher, twill__batcher_turn *turn,
                                       twill__entry *ended)
{
    twill__teller teller = {batcher, ended, ended, {NULL, 0}};
    twill_task task = twill__batcher_task(batcher);
    if (!ended)
        return;
    twill__batcher_calling_begin(batcher, &teller.calling);
    twill__batcher_exit(batcher, turn);
    TWILL__GUARD_PUSH(twill__teller_end, &teller);
    while (teller.at) {
        twill__entry_tell(batcher, teller.at, &task);
        if (!twill__batcher_here(batcher))
            break;
        twill__entry_promise(teller.at);
        teller.at = teller.at->ended;
    }
    TWILL__GUARD_POP(1);
    twill__batcher_enter(batcher, turn);
}

#endif
