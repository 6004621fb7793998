/* life.h: a batcher's life: create, flush, close, stop, destroy; and what its futures ask of it. */
#ifndef TWILL__BATCH_LIFE_H
#define TWILL__BATCH_LIFE_H

#include "batch_processing/add.h"

/* ---- what futures ask ---- */

/* Pinned by the caller. A batcher that is being destroyed waits for pins, so it is there as long as
   the record has not ended. */
static inline bool twill__entry_open(twill__record *record)
{
    return !twill__record_ended(record);
}

/* An item that is in no call ends now. Under the lock, which it leaves and takes again. */
static inline void twill__batcher_end_one(twill__batcher *batcher, twill__batcher_turn *turn,
                                          twill__entry *entry, twill_status status)
{
    twill__entry *ended = NULL, **at = &ended;
    twill__entry_out(&batcher->stock, entry);
    twill__batcher_end(batcher, entry, status, 0, &at);
    twill__batcher_tell(batcher, turn, ended);
}

/* Its time is over: in no call, it ends; in one, the future is told now, and on_item when the
   callback has let go of the item. Has it ended already, on_item is told first: who waits for the
   future sleeps until it is over. */
static inline void twill__batcher_expire(twill__record *record)
{
    twill__entry *entry = (twill__entry *)(void *)record;
    twill__batcher *batcher = entry->batcher;
    twill__batcher_turn turn;
    bool promise = false;
    if (!twill__entry_open(record))
        return;
    twill__batcher_enter(batcher, &turn);
    if (entry->where == TWILL__PENDING_ITEM || entry->where == TWILL__MERGED_ITEM) {
        twill__batcher_end_one(batcher, &turn, entry, TWILL_TIMEOUT);
    } else if (entry->where == TWILL__RUNNING_ITEM && !entry->decided) {
        twill__batcher_decide(batcher, entry, TWILL_TIMEOUT, 0);
        promise = entry->promised = true;
    } else {
        /* relaxed: see twill__record_due */
        atomic_store_explicit(&record->due, 0, memory_order_relaxed);
    }
    if (promise) { /* under the lock: the worker forgets it under the same */
        (void)twill__record_settle(record, false);
        record->outcome = twill__entry_outcome(entry);
        twill__record_publish(record, false);
    }
    twill__batcher_exit(batcher, &turn);
}

static inline void twill__batcher_cancel(twill__record *record)
{
    twill__entry *entry = (twill__entry *)(void *)record;
    twill__batcher *batcher = entry->batcher;
    twill__batcher_turn turn;
    if (!twill__entry_open(record))
        return;
    twill__batcher_enter(batcher, &turn);
    if (entry->where == TWILL__PENDING_ITEM || entry->where == TWILL__MERGED_ITEM)
        twill__batcher_end_one(batcher, &turn, entry, TWILL_CANCELLED);
    twill__batcher_exit(batcher, &turn);
}

/* Gives the waiter's pin back before a callback runs, which may end the thread; takes it again if
   none did. The batcher stays: this thread is inside of it. Under the lock, which it leaves and
   takes again. */
static inline bool twill__batcher_help_unpinned(twill__batcher *batcher, twill__batcher_turn *turn,
                                                twill__record *record, bool inside)
{
    twill_future future = {record, twill__record_generation(record)};
    twill__record_unpin(record);
    if (inside ? twill__batcher_inline(batcher, turn) == TWILL_OK
               : twill__batcher_help(batcher, turn))
        return true;
    if (twill__future_pin(future) != TWILL_OK)
        return true; /* released meanwhile: the waiter will see it */
    twill__unlock(&record->lock);
    return false;
}

/* Who waits for an item inside of a callback of its batcher, or on a thread that the pool may be
   waiting for, works meanwhile. */
static inline bool twill__batcher_help_one(twill__record *record, bool idle)
{
    twill__entry *entry = (twill__entry *)(void *)record;
    twill__batcher *batcher = entry->batcher;
    twill__batcher_turn turn;
    bool helped = false, inside;
    (void)idle;
    if (!twill__entry_open(record))
        return false;
    twill__batcher_enter(batcher, &turn);
    inside = twill__batcher_inside(batcher);
    if ((entry->where == TWILL__PENDING_ITEM || entry->where == TWILL__MERGED_ITEM) &&
        (inside || (!batcher->crew.has_own && twill__crew_counts_on_us(&batcher->crew)))) {
        if (inside && entry->lot == batcher->stock.open) {
            twill__lot_close(&batcher->stock, TWILL__BY_FLUSH);
            turn.call = 1;
        }
        helped = twill__batcher_help_unpinned(batcher, &turn, record, inside);
    }
    twill__batcher_exit(batcher, &turn);
    return helped;
}

/* Who would work, and has found no worker number free, looks again, as one that waits for room. */
static inline twill_ns twill__batcher_again(twill__record *record)
{
    const twill__entry *entry = (const twill__entry *)(void *)record;
    if (!twill__record_waiting(record) || entry->batcher->crew.has_own ||
        !twill__crew_counts_on_us(&entry->batcher->crew))
        return 0;
    return twill__instant_after(twill__clock_now(), TWILL_MS(1));
}

static inline const twill__record_table *twill__batcher_records(void)
{
    static const twill__record_table table = {twill__batcher_help_one,
                                              twill__batcher_expire,
                                              twill__batcher_cancel,
                                              NULL,
                                              NULL,
                                              NULL,
                                              twill__batcher_again};
    return &table;
}

/* ---- create ---- */

static inline twill_status twill__batcher_check(twill_batch_fn *fn,
                                                const twill_batch_options *options)
{
    const twill_run *run = &options->run;
    twill_ns linger = options->linger ? options->linger : TWILL_MS(10);
    if (!fn || !twill__batch_common_valid(options) || run->on_error || run->max_errors ||
        run->errors || run->errors_capacity || run->statuses || run->codes || options->linger < 0 ||
        options->idle < 0 || options->item_timeout < 0 ||
        (unsigned)options->overflow > TWILL_OVERFLOW_CALLER_RUNS ||
        (options->capacity_bytes && !options->bytes_of) ||
        (options->bytes_of && !options->max_bytes && !options->capacity_bytes) ||
        (options->coalesce && !options->key_of) ||
        (options->item_timeout && options->item_timeout != TWILL_FOREVER &&
         linger >= options->item_timeout))
        return TWILL_INVALID;
    if (run->workers > TWILL__MAX_WORKERS)
        return TWILL_TOO_BIG;
    return twill__check_run(run);
}

static inline void twill__batcher_init(twill__batcher *batcher, twill_batch_fn *fn,
                                       const twill_batch_options *options)
{
    memset(batcher, 0, sizeof *batcher);
    batcher->options = *options;
    batcher->fn = fn;
    batcher->workers = options->run.workers ? options->run.workers : 1;
    batcher->max_items = options->max_items ? options->max_items : TWILL__BATCH_ITEMS;
    batcher->capacity = options->capacity                    ? options->capacity
                        : batcher->max_items > SIZE_MAX / 10 ? SIZE_MAX
                                                             : 10 * batcher->max_items;
    if (batcher->max_items > batcher->capacity)
        batcher->max_items = batcher->capacity; /* there are never more at once */
    batcher->max_bytes = options->max_bytes ? options->max_bytes : SIZE_MAX;
    batcher->capacity_bytes = options->capacity_bytes ? options->capacity_bytes : SIZE_MAX;
    batcher->attempts = options->attempts ? options->attempts : 1;
    batcher->linger = options->linger ? options->linger : TWILL_MS(10);
    batcher->idle = options->idle ? options->idle : TWILL_FOREVER;
    batcher->item_timeout = options->item_timeout ? options->item_timeout : TWILL_FOREVER;
    atomic_init(&batcher->due, TWILL_FOREVER);
    batcher->shape = twill__batch_shape(options);
    batcher->seed = twill__batch_seed(options, batcher);
    batcher->stock.packs =
        !options->key_of && !options->result_size && batcher->item_timeout == TWILL_FOREVER;
}

static inline size_t twill__batcher_buckets(const twill__batcher *batcher)
{
    size_t buckets = 64;
    if (!batcher->options.key_of)
        return 0;
    while (buckets < batcher->capacity && buckets < 65536)
        buckets *= 2;
    return buckets;
}

/* One block: the batcher, the crew's memory, shifts, keys. */
static inline twill_status twill__batcher_memory(twill__batcher **out, const twill__batcher *shape)
{
    size_t crew, shifts, rooms, tops, flights, opens, end;
    size_t buckets = twill__batcher_buckets(shape), workers = shape->workers, room;
    char *memory, *at;
    twill__batcher *batcher;
    if (shape->max_items > SIZE_MAX / 64)
        return TWILL_TOO_BIG;
    room = twill__shift_bytes(shape);
    if (room > SIZE_MAX / 2 / workers) /* workers, and all but the rooms, are bounded */
        return TWILL_TOO_BIG;
    crew = sizeof *shape; /* a multiple of a line, by its alignment */
    shifts = crew + twill__crew_bytes(shape->workers, shape->workers);
    rooms = shifts + workers * ((sizeof(twill__shift) + 15) / 16 * 16);
    tops = rooms + workers * room;
    flights = tops + workers * sizeof(twill__shift *);
    opens = flights + buckets * sizeof(twill__entry *);
    end = opens + (shape->options.coalesce ? buckets * sizeof(twill__key_bucket) : 0);
    memory = (char *)TWILL_MALLOC(TWILL__LINE + end);
    if (!memory)
        return TWILL_NO_MEMORY;
    at = memory + (TWILL__LINE - (uintptr_t)memory % TWILL__LINE) % TWILL__LINE;
    batcher = *out = (twill__batcher *)(void *)at;
    *batcher = *shape;
    batcher->memory = memory;
    batcher->crew_memory = at + crew;
    batcher->shifts = (twill__shift *)(void *)(at + shifts);
    batcher->tops = (twill__shift **)(void *)(at + tops);
    memset(batcher->shifts, 0, workers * sizeof *batcher->shifts);
    memset(batcher->tops, 0, workers * sizeof *batcher->tops);
    for (size_t k = 0; k < workers; k++)
        twill__shift_room(batcher, &batcher->shifts[k], at + rooms + k * room);
    batcher->stock.buckets = buckets;
    if (buckets) {
        batcher->stock.flights = (twill__entry **)(void *)(at + flights);
        memset(batcher->stock.flights, 0, buckets * sizeof *batcher->stock.flights);
    }
    if (shape->options.coalesce) {
        batcher->stock.opens = (twill__key_bucket *)(void *)(at + opens);
        memset(batcher->stock.opens, 0, buckets * sizeof *batcher->stock.opens);
    }
    return TWILL_OK;
}

static inline void twill__batcher_free(twill__batcher *batcher)
{
    for (twill__lot_block *block = batcher->stock.blocks, *next; block; block = next) {
        next = block->next;
        TWILL_FREE(block);
    }
    if (batcher->stock.ring_memory)
        TWILL_FREE(batcher->stock.ring_memory);
    if (batcher->stock.core)
        twill__core_leave(batcher->stock.core);
    TWILL_FREE(batcher->memory);
}

/* The token of the whole has fired: everybody is told at once. */
static inline void twill__batcher_fired(int reason, const twill_task *task)
{
    twill__batcher *batcher = (twill__batcher *)task->context;
    twill__batcher_turn turn;
    (void)reason;
    twill__batcher_enter(batcher, &turn);
    twill__batcher_cut(batcher, TWILL_CANCELLED);
    turn.call = 1;
    twill__batcher_exit(batcher, &turn);
}

/* worker_start, counted. When it has failed under every number nobody will call anything: what is
   there ends here, and nothing more comes in. */
static inline int twill__batcher_worker_start(void **state, const twill_task *task)
{
    twill__batcher *batcher = (twill__batcher *)((twill__job *)task->private_)->data;
    twill__shift *shift = &batcher->shifts[task->worker];
    twill__entry *ended = NULL, **at = &ended;
    twill__batcher_turn turn;
    int code = -1;
    if (!shift->starting) { /* else it has ended a thread already */
        shift->starting = true;
        code = batcher->user_start(state, task);
        shift->starting = false;
    }
    if (!code || !twill__batcher_here(batcher))
        return code;
    twill__batcher_enter(batcher, &turn);
    if (!batcher->refused++)
        batcher->start_code = code;
    if (batcher->refused == batcher->workers) {
        twill__batcher_cut(batcher, TWILL_CANCELLED);
        (void)twill__batcher_reap(batcher, twill__clock_now(), &at);
        twill__batcher_tell(batcher, &turn, ended);
    }
    twill__batcher_exit(batcher, &turn);
    return code;
}

static inline const twill__crew_table *twill__batcher_table(void)
{
    static const twill__crew_table table = {{NULL, NULL, NULL, NULL, NULL},
                                            twill__batcher_ready,
                                            twill__batcher_work,
                                            twill__batcher_worker_ended};
    return &table;
}

static inline twill_status twill__batcher_open(twill__batcher *batcher)
{
    twill_run run = batcher->options.run;
    twill_status status;
    if (run.worker_start) {
        batcher->user_start = run.worker_start;
        run.worker_start = twill__batcher_worker_start;
    }
    batcher->stock.core = twill__core_create(sizeof(twill__entry), twill__batcher_records());
    if (!batcher->stock.core)
        return TWILL_NO_MEMORY;
    status = twill__crew_open(&batcher->crew, &run, batcher->workers, batcher->workers, false,
                              twill__batcher_table(), batcher, batcher->crew_memory);
    if (status != TWILL_OK)
        return status;
    if (batcher->crew.has_own && batcher->crew.own.threads == 0) {
        twill__crew_close(&batcher->crew, NULL);
        return TWILL_NO_THREAD;
    }
    batcher->hook.fn = twill__batcher_fired;
    batcher->hook.context = batcher;
    twill_cancel_add_hook(run.until.cancel, &batcher->hook);
    return TWILL_OK;
}

TWILL__DEFINE twill_status twill_batcher_create(twill_batcher **out, twill_batch_fn *fn,
                                                const twill_batch_options *options)
{
    twill__batcher shape, *batcher = NULL;
    twill_status status;
    if (!out)
        return TWILL_INVALID;
    *out = NULL;
    options = twill__batch_options(options);
    status = twill__batcher_check(fn, options);
    if (status != TWILL_OK)
        return status;
    twill__batcher_init(&shape, fn, options);
    status = twill__batcher_memory(&batcher, &shape);
    if (status != TWILL_OK)
        return status;
    status = twill__batcher_open(batcher);
    if (status != TWILL_OK)
        twill__batcher_free(batcher);
    else
        *out = batcher;
    return status;
}

/* ---- flush ---- */

/* Under the lock: until no number below `target` is in the books. */
static inline twill_status twill__batcher_await(twill__batcher *batcher, twill__batcher_turn *turn,
                                                uint64_t target, twill_until until)
{
    while (twill__batcher_oldest(batcher) < target) { /* exit: ended, or over */
        twill__batcher_waiter me;
        twill_status status = twill__over(until);
        if (status != TWILL_OK)
            return status;
        me.tried = twill__batcher_may_help(batcher, until) ? twill__clock_now() : 0;
        if (me.tried && twill__batcher_help(batcher, turn)) {
            if (!twill__batcher_here(batcher))
                return TWILL_FORKED;
            continue;
        }
        me.target = target;
        status = twill__batcher_wait(batcher, turn, &batcher->flushers, &me, until);
        if (status != TWILL_OK && status != TWILL_EMPTY)
            return twill__batcher_oldest(batcher) < target ? status : TWILL_OK;
    }
    return TWILL_OK;
}

TWILL__DEFINE twill_status twill_batcher_flush_until(twill_batcher *batcher, twill_until until)
{
    twill__batcher_turn turn;
    twill_status status;
    if (!batcher)
        return TWILL_INVALID;
    if (!twill__batcher_here(batcher))
        return TWILL_FORKED;
    twill__batcher_enter(batcher, &turn);
    if (twill__batcher_inside(batcher)) {
        status = TWILL_DEADLOCK;
    } else {
        uint64_t target = batcher->stock.numbers;
        if (batcher->stock.open)
            turn.call = 1;
        twill__lot_close(&batcher->stock, TWILL__BY_FLUSH);
        status = twill__batcher_await(batcher, &turn, target, until);
    }
    twill__batcher_exit(batcher, &turn);
    return status;
}

TWILL__DEFINE twill_status twill_batcher_flush(twill_batcher *batcher)
{
    return twill_batcher_flush_until(batcher, (twill_until){0, NULL});
}

/* ---- the end ---- */

/* Under the lock. CLOSED: it was. */
static inline twill_status twill__batcher_shut(twill__batcher *batcher, twill__batcher_turn *turn)
{
    twill_status status = batcher->closed ? TWILL_CLOSED : TWILL_OK;
    batcher->closed = true;
    if (batcher->stock.open)
        turn->call = 1;
    twill__lot_close(&batcher->stock, TWILL__BY_CLOSE);
    return status;
}

TWILL__DEFINE twill_status twill_batcher_close(twill_batcher *batcher)
{
    twill__batcher_turn turn;
    twill_status status;
    if (!batcher)
        return TWILL_INVALID;
    if (!twill__batcher_here(batcher))
        return TWILL_FORKED;
    twill__batcher_enter(batcher, &turn);
    status = twill__batcher_shut(batcher, &turn);
    twill__batcher_exit(batcher, &turn);
    return status;
}

static inline uint64_t twill__batcher_ended(const twill__batcher *batcher)
{
    return batcher->counts.added - batcher->stock.count;
}

/* The second phase: what is in no call ends here, what is in one is told. */
static inline void twill__batcher_give_up(twill__batcher *batcher, twill__batcher_turn *turn)
{
    twill__entry *ended = NULL, **at = &ended;
    twill__batcher_cut(batcher, TWILL_CANCELLED);
    (void)twill__batcher_reap(batcher, twill__clock_now(), &at);
    batcher->inside++;
    TWILL__GUARD_PUSH(twill__batcher_gone, batcher);
    twill__batcher_tell(batcher, turn, ended);
    TWILL__GUARD_POP(0);
    if (!twill__batcher_here(batcher)) /* on_item has forked */
        return;
    twill__batcher_exit(batcher, turn);
    twill__crew_fire_from(&batcher->crew, 0);
    twill__batcher_enter(batcher, turn);
    batcher->inside--;
}

TWILL__DEFINE twill_status twill_batcher_stop(twill_batcher *batcher, twill_until drain,
                                              twill_until join, twill_stopped *out)
{
    twill__batcher_turn turn;
    twill_stopped stopped = {0, 0, 0};
    twill_status status;
    uint64_t before, cancelled;
    if (out)
        *out = stopped;
    if (!batcher)
        return TWILL_INVALID;
    if (!twill__batcher_here(batcher))
        return TWILL_FORKED;
    twill__batcher_enter(batcher, &turn);
    if (twill__batcher_inside(batcher)) {
        twill__batcher_exit(batcher, &turn);
        return TWILL_DEADLOCK;
    }
    (void)twill__batcher_shut(batcher, &turn);
    before = twill__batcher_ended(batcher);
    cancelled = batcher->counts.cancelled;
    status = twill__batcher_await(batcher, &turn, UINT64_MAX, drain);
    if (status != TWILL_OK && status != TWILL_FORKED) {
        twill__batcher_give_up(batcher, &turn);
        status = !twill__batcher_here(batcher)
                     ? TWILL_FORKED
                     : twill__batcher_await(batcher, &turn, UINT64_MAX, join);
    }
    stopped.cancelled = (size_t)(batcher->counts.cancelled - cancelled);
    stopped.finished = (size_t)(twill__batcher_ended(batcher) - before) - stopped.cancelled;
    stopped.stuck = batcher->stock.books;
    twill__batcher_exit(batcher, &turn);
    if (out)
        *out = stopped;
    return status;
}

/* Everybody who is inside leaves. */
static inline void twill__batcher_desert(twill__batcher *batcher, twill__batcher_turn *turn)
{
    twill__node node;
    if (twill__batcher_deserted(batcher))
        return;
    twill__node_init(&node);
    batcher->destroyer = &node;
    twill__batcher_exit(batcher, turn);
    twill__await(&node);
    twill__batcher_enter(batcher, turn); /* whoever told us has left the section now */
}

/* Handles outlive the batcher; who looks at a record this moment may be on the way to it. */
static inline void twill__batcher_unpinned(twill__batcher *batcher)
{
    const twill__core *core = batcher->stock.core;
    for (twill__slab *slab = twill__core_slabs(core); slab; slab = slab->next)
        for (size_t i = 0; i < twill__slab_count(slab); i++) {
            twill__record *record = twill__slab_at(core, slab, i);
            bool pinned;
            do { /* exit: all records have ended, so whoever looks at one leaves */
                twill__lock(&record->lock);
                pinned = record->pins != 0;
                twill__unlock(&record->lock);
                if (pinned)
                    twill__yield();
            } while (pinned);
        }
}

static inline void twill__batcher_report(twill__batcher *batcher)
{
    twill_report *report = batcher->options.run.report;
    const twill_batcher_stats *counts = &batcher->counts;
    twill_report mine;
    memset(&mine, 0, sizeof mine);
    twill__crew_close(&batcher->crew, &mine);
    if (!report)
        return;
    mine.total = (size_t)counts->added;
    mine.done = (size_t)counts->done;
    mine.failed = (size_t)(counts->failed + counts->lost);
    mine.skipped = mine.total - mine.done - mine.failed;
    mine.chunks = (size_t)counts->calls;
    mine.first_error = batcher->first;
    if (batcher->refused == batcher->workers)
        mine.first_error = (twill_item_error){SIZE_MAX, TWILL_FAILED, batcher->start_code};
    mine.status =
        mine.failed || mine.first_error.status ? TWILL_FAILED : twill__batcher_why_cut(batcher);
    *report = mine;
}

TWILL__DEFINE twill_status twill_batcher_destroy(twill_batcher *batcher)
{
    twill__batcher_calling calling;
    twill__batcher_turn turn;
    if (!batcher)
        return TWILL_OK;
    if (twill__batcher_here(batcher)) {
        twill__batcher_enter(batcher, &turn);
        if (twill__batcher_inside(batcher)) {
            twill__batcher_exit(batcher, &turn);
            return TWILL_DEADLOCK;
        }
        (void)twill__batcher_shut(batcher, &turn);
        (void)twill__batcher_await(batcher, &turn, UINT64_MAX, (twill_until){0, NULL});
        twill__batcher_exit(batcher, &turn);
    }
    if (twill__batcher_here(batcher)) { /* no callback that ran here has forked */
        twill_cancel_remove_hook(batcher->options.run.until.cancel, &batcher->hook);
        twill__batcher_unpinned(batcher);
        twill__batcher_enter(batcher, &turn);
        twill__batcher_desert(batcher, &turn);
        twill__batcher_calling_begin(batcher, &calling); /* worker_stop is one, too */
        twill__batcher_exit(batcher, &turn);
        twill__batcher_report(batcher);
    }
    twill__batcher_free(batcher);
    return TWILL_OK;
}

TWILL__DEFINE void twill_batcher_get_stats(twill_batcher *batcher, twill_batcher_stats *stats)
{
    twill__batcher_turn turn;
    if (!stats)
        return;
    memset(stats, 0, sizeof *stats);
    if (!batcher || !twill__batcher_here(batcher))
        return;
    twill__batcher_enter(batcher, &turn);
    *stats = batcher->counts;
    stats->by_count = batcher->left[TWILL__BY_COUNT];
    stats->by_bytes = batcher->left[TWILL__BY_BYTES];
    stats->by_linger = batcher->left[TWILL__BY_LINGER];
    stats->by_idle = batcher->left[TWILL__BY_IDLE];
    stats->by_flush = batcher->left[TWILL__BY_FLUSH];
    stats->by_close = batcher->left[TWILL__BY_CLOSE];
    stats->pending = batcher->stock.count;
    stats->pending_bytes = batcher->stock.bytes;
    if (stats->batches)
        stats->mean_fill =
            (double)batcher->carried / (double)stats->batches / (double)batcher->max_items;
    twill__batcher_exit(batcher, &turn);
}

#endif
