/* shift.h: what a worker of a batcher does: takes a lot, calls, settles, tells. */
#ifndef TWILL__BATCH_SHIFT_H
#define TWILL__BATCH_SHIFT_H

#include "batch_processing/batcher.h"

/* ---- taking ---- */

/* A packed lot: its cells are copied, since others must not wait for this call to have them. */
static inline bool twill__shift_take_packed(twill__shift *shift, twill__batch_lot *lot)
{
    twill__stock *stock = &shift->batcher->stock;
    twill__line_remove(&stock->ready, lot);
    twill__ring_copy(stock, lot->place, lot->count, &shift->cells);
    lot->taken = true;
    twill__ring_trim(stock);
    stock->idle -= lot->count;
    shift->lot = lot;
    shift->packed = true;
    shift->count = lot->count;
    shift->at = 0;
    return true;
}

/* Takes the entries of a lot whose keys are free. False: there is none. */
static inline bool twill__shift_take(twill__shift *shift, twill__batch_lot *lot, bool waiting,
                                     twill_ns now)
{
    twill__stock *stock = &shift->batcher->stock;
    twill__batch_lot *mine = lot;
    if (lot->packed)
        return twill__shift_take_packed(shift, lot);
    if (stock->flights && !waiting && lot->stuck == stock->releases)
        return false;
    if (stock->flights && !waiting) { /* those that wait hold their keys */
        bool all = true, any = false;
        for (twill__entry *entry = lot->first; entry; entry = entry->next) {
            bool taken = twill__key_taken(stock, entry);
            entry->state = taken ? TWILL__SLOT_BAD : TWILL__SLOT_ENDED;
            all = all && !taken;
            any = any || !taken;
        }
        if (!any) {
            lot->stuck = stock->releases;
            return false;
        }
        if (!all)
            mine = twill__lot_get(stock);
    }
    shift->count = 0;
    for (twill__entry *entry = lot->first, *next; entry; entry = next) {
        next = entry->next;
        twill__entry_fetch(entry->ahead);
        if (mine != lot && entry->state == TWILL__SLOT_BAD)
            continue;
        twill__lot_remove(lot, entry);
        shift->list[shift->count++] = entry;
        for (twill__entry *one = entry; one; one = one->follower) {
            twill__idle_out(stock, one);
            one->where = TWILL__RUNNING_ITEM;
            one->lot = mine;
            one->attempts = lot->attempt;
            one->worker = shift->task.worker;
            if (!one->started)
                one->started = now;
        }
        twill__key_take(stock, entry);
    }
    if (mine == lot)
        twill__line_remove(waiting ? &stock->waiting : &stock->ready, lot);
    else
        lot->stuck = stock->releases;
    mine->attempt = lot->attempt;
    mine->why = lot->why;
    mine->due = 0;
    shift->lot = mine;
    shift->at = 0;
    return true;
}

/* The run is over: nothing is called any more, nothing more comes in. Under the lock. */
static inline void twill__batcher_cut(twill__batcher *batcher, twill_status why)
{
    batcher->closed = true;
    if (!twill__batcher_why_cut(batcher)) /* relaxed: see there */
        atomic_store_explicit(&batcher->cut, (uint32_t)why, memory_order_relaxed);
}

/* Under the lock: what is too old, or, once the run is over, everything that is in no call, ends
   uncalled. */
static inline bool twill__batcher_reap(twill__batcher *batcher, twill_ns now,
                                       twill__entry ***ended_at)
{
    twill__stock *stock = &batcher->stock;
    const twill_until *until = &batcher->options.run.until;
    bool any = false;
    twill_status cut;
    if (stock->books && twill_cancel_fired(until->cancel))
        twill__batcher_cut(batcher, TWILL_CANCELLED);
    else if (stock->books && twill__past(until->deadline, now))
        twill__batcher_cut(batcher, TWILL_TIMEOUT);
    cut = twill__batcher_why_cut(batcher);
    for (twill__batch_lot *lot; cut && (lot = twill__packed_idle(stock, true));)
        twill__lot_unpack(stock, lot); /* each ends by itself */
    while (stock->front && (cut || now >= twill__entry_expires(batcher, stock->front))) {
        twill__entry *entry = stock->front;
        twill_status status = cut;
        twill__entry_out(stock, entry);
        if (now >= twill__entry_expires(batcher, entry))
            status = TWILL_TIMEOUT;
        else if (entry->called)
            status = TWILL_FAILED; /* it has, and is not tried again */
        twill__batcher_end(batcher, entry, status, status == TWILL_FAILED ? entry->its : 0,
                           ended_at);
        any = true;
    }
    return any;
}

/* Counts a lot that leaves for the first time. */
static inline void twill__shift_left(twill__shift *shift)
{
    twill_batcher_stats *counts = &shift->batcher->counts;
    if (shift->lot->attempt > 1) {
        counts->retried += shift->count;
        return;
    }
    counts->batches++;
    shift->batcher->left[shift->lot->why]++;
    shift->batcher->carried += shift->count;
}

static inline void twill__shift_idle(twill__shift *shift)
{
    shift->batcher->busy -= shift->busy;
    shift->busy = false;
}

/* The next thing to do for a worker. False: nothing is. */
static inline bool twill__shift_pick(twill__shift *shift)
{
    twill__batcher *batcher = shift->batcher;
    twill__stock *stock = &batcher->stock;
    twill_ns now = twill__clock_now();
    shift->lot = NULL;
    shift->packed = false;
    shift->count = 0;
    shift->ended = NULL;
    shift->ended_at = &shift->ended;
    shift->told = false;
    shift->packed_told = 0;
    shift->started = now;
    shift->telling = NULL;
    batcher->busy += !shift->busy;
    shift->busy = true;
    if (twill__batcher_reap(batcher, now, &shift->ended_at))
        return true;
    twill__open_look(batcher, now);
    if (stock->waiting.first && stock->waiting.first->due <= now)
        (void)twill__shift_take(shift, stock->waiting.first, true, now);
    for (twill__batch_lot *lot = stock->ready.first; lot && !shift->lot; lot = lot->next)
        if (twill__shift_take(shift, lot, false, now))
            break;
    if (!shift->lot) {
        atomic_store_explicit(&batcher->due, twill__batcher_next_due(batcher),
                              memory_order_seq_cst);
        twill__shift_idle(shift);
        return false;
    }
    twill__shift_left(shift);
    return true;
}

/* ---- one call ---- */

static inline void *twill__shift_item(const twill__view *view, size_t i)
{
    const twill__shift *shift = (const twill__shift *)(const void *)view;
    return shift->packed ? shift->cells.item[i] : shift->call[i]->item;
}

static inline void *twill__shift_result(const twill__view *view, size_t i)
{
    const twill__shift *shift = (const twill__shift *)(const void *)view;
    return shift->batcher->options.result_size ? shift->call[i]->record.result : NULL;
}

/* A wait inside the callback for one of these items could never end: the futures know that the
   thread stands in all of them. */
static inline void twill__shift_stack(twill__shift *shift)
{
    for (size_t i = 0; i < shift->called; i++)
        for (twill__entry *one = shift->call[i]; one; one = one->follower)
            if (one->has_future) {
                one->record.outer = twill__record_current();
                twill__thread()->record = &one->record;
                twill__record_claim(&one->record);
            }
}

/* The entries from shift->at on; a packed lot is called as a whole. */
static inline int twill__shift_call(twill__shift *shift, size_t count)
{
    twill__batcher *batcher = shift->batcher;
    twill__entry **call = shift->list + shift->at;
    uint64_t first = shift->packed ? shift->lot->number : call[0]->number;
    twill_batch batch = {count, shift->lot->attempt, (size_t)first, NULL, NULL, &shift->view};
    int code;
    for (size_t i = 0; i < count && !shift->packed; i++)
        for (twill__entry *one = call[i]; one; one = one->follower) {
            one->called = true;
            if (batcher->options.result_size)
                memset(one->record.result, 0, batcher->options.result_size);
        }
    shift->call = call;
    shift->called = count;
    shift->settled = 0;
    shift->calls++;
    shift->task.index = batch.first;
    shift->around = twill__record_current();
    if (!shift->packed)
        twill__shift_stack(shift);
    code = batcher->fn(&batch, &shift->task);
    twill__thread()->record = shift->around;
    return code;
}

static inline bool twill__shift_retries(twill__shift *shift, size_t i, int code)
{
    twill__batcher *batcher = shift->batcher;
    bool (*retryable)(const void *, int, const twill_task *) = batcher->options.retryable;
    if (shift->lot->attempt >= batcher->attempts || !twill__batcher_here(batcher))
        return false; /* by `retryable` of another one */
    shift->task.index = (size_t)shift->call[i]->number;
    return !retryable || retryable(shift->call[i]->item, code, &shift->task);
}

/* How an entry of the call ended, and what follows from it. */
static inline twill__slot_state twill__shift_judge(twill__shift *shift, size_t i, int code,
                                                   bool any)
{
    twill__entry *entry = shift->call[i];
    twill_bad_batch bad = shift->batcher->options.on_bad_batch;
    twill__end end = twill__view_end(&shift->view, i, code, any, &entry->its);
    entry->answer = end == TWILL__END_DONE   ? TWILL_OK
                    : end == TWILL__END_LOST ? TWILL_LOST
                                             : TWILL_FAILED;
    if (entry->answer != TWILL_FAILED)
        return TWILL__SLOT_ENDED;
    if (end == TWILL__END_BAD && bad == TWILL_BAD_BATCH_BISECT && shift->called > 1)
        return TWILL__SLOT_BAD;
    if ((end == TWILL__END_BAD && bad == TWILL_BAD_BATCH_FAIL) ||
        !twill__shift_retries(shift, i, entry->its))
        return TWILL__SLOT_ENDED;
    return bad == TWILL_BAD_BATCH_BISECT && shift->called == 1 ? TWILL__SLOT_ALONE
                                                               : TWILL__SLOT_AGAIN;
}

/* An entry of the worker's, and those behind it, are to be told. */
static inline void twill__shift_end(twill__shift *shift, twill__entry *entry, twill_status answer)
{
    twill__entry *follower;
    size_t size = shift->batcher->options.result_size;
    const void *result = entry->record.result;
    for (twill__entry *one = entry; one; one = follower) {
        follower = one->follower;
        one->follower = NULL;
        one->answer = answer;
        if (one != entry) {
            one->its = entry->its;
            if (size)
                memcpy(one->record.result, result, size);
        }
        one->ended = NULL;
        *shift->ended_at = one;
        shift->ended_at = &one->ended;
    }
}

/* A packed lot in this worker's hands has entries from now on, as if it had taken them. Takes the
   lock for a moment. */
static inline void twill__shift_unpack(twill__shift *shift)
{
    twill__stock *stock = &shift->batcher->stock;
    twill__batch_lot *lot = shift->lot;
    twill__batcher_turn turn;
    twill__entry *older;
    if (!shift->packed)
        return;
    twill__batcher_enter(shift->batcher, &turn);
    older = twill__packed_behind(stock, lot);
    twill__packed_out(stock, lot);
    lot->packed = lot->taken = false;
    lot->count = lot->bytes = 0; /* what is tried again is put in */
    for (size_t i = 0; i < shift->count; i++) {
        older = twill__packed_entry(stock, lot, i, &shift->cells, i, older);
        older->lot = lot;
        older->where = TWILL__RUNNING_ITEM;
        older->attempts = lot->attempt;
        older->worker = shift->task.worker;
        older->started = shift->started;
        older->called = shift->called != 0;
        shift->list[i] = older;
    }
    twill__batcher_exit(shift->batcher, &turn);
    shift->packed = false;
}

/* After the call of a packed lot: true: all are done, and it stays packed. Else it is unpacked. */
static inline bool twill__shift_settled_packed(twill__shift *shift, int code)
{
    size_t count = shift->called;
    bool any, done;
    if (!shift->packed)
        return false;
    any = memchr(shift->view.set, 1, count) != NULL;
    done = any ? !memchr(shift->view.set, 0, count) : !code;
    for (size_t i = 0; i < count && any && done; i++)
        done = !shift->view.codes[i];
    if (!done) {
        twill__shift_unpack(shift);
        return false;
    }
    if (any)
        memset(shift->view.set, 0, count);
    shift->at += count;
    shift->called = 0;
    return true;
}

/* After a call: each entry has its end, or waits in the lot, or is BAD: how many are. Those stand
   at the end of the part then. */
static inline size_t twill__shift_settle(twill__shift *shift, int code)
{
    size_t count = shift->called, bad = 0, at = count;
    bool any = memchr(shift->view.set, 1, count) != NULL;
    for (; shift->settled < count; shift->settled++) {
        twill__entry *entry = shift->call[shift->settled];
        entry->state = twill__shift_judge(shift, shift->settled, code, any);
        if (entry->state == TWILL__SLOT_ENDED)
            twill__shift_end(shift, entry, entry->answer);
        else if (entry->state == TWILL__SLOT_BAD)
            bad++;
        else
            twill__lot_insert(shift->lot, entry);
        if (entry->state != TWILL__SLOT_BAD)
            shift->call[shift->settled] = NULL;
    }
    if (any)
        memset(shift->view.set, 0, count);
    for (size_t i = count; bad && i > 0; i--)
        if (shift->call[i - 1])
            shift->call[--at] = shift->call[i - 1];
    shift->called = shift->settled = 0;
    return bad;
}

/* ---- a lot ---- */

/* With keys: an entry waits behind one of its key that waits. Returns where the rest begins. */
static inline size_t twill__shift_hold_back(twill__shift *shift, size_t from, size_t to)
{
    size_t at = to;
    if (!shift->batcher->stock.flights || !shift->lot->first)
        return from;
    for (size_t i = to; i > from; i--) {
        twill__entry *entry = shift->list[i - 1];
        const twill__entry *other = shift->lot->first;
        while (other && (other->key != entry->key || other->number > entry->number))
            other = other->next;
        if (!other) {
            shift->list[--at] = entry;
            continue;
        }
        entry->state = TWILL__SLOT_AGAIN;
        twill__lot_insert(shift->lot, entry);
    }
    return at;
}

static inline void twill__shift_give_up(twill__shift *shift, size_t to)
{
    twill_status cut = twill__batcher_why_cut(shift->batcher);
    for (; shift->at < to; shift->at++) {
        twill__entry *entry = shift->list[shift->at];
        twill__shift_end(shift, entry, entry->called ? TWILL_FAILED : cut ? cut : TWILL_LOST);
    }
}

/* The entries from shift->at to `to` in one call; what is bad, in halves, as in the array form. */
static inline void twill__shift_divide(twill__shift *shift, size_t to)
{
    size_t ends[sizeof(size_t) * CHAR_BIT + 1], depth = 1;
    ends[0] = to;
    while (depth && twill__batcher_here(shift->batcher)) {
        /* exit: each turn ends entries, puts them off, or halves a range; a fork */
        size_t bad, end = ends[depth - 1];
        int code;
        shift->at = twill__shift_hold_back(shift, shift->at, end);
        if (shift->at == end) {
            depth--;
            continue;
        }
        if (twill__batcher_why_cut(shift->batcher)) {
            twill__shift_unpack(shift);
            twill__shift_give_up(shift, end);
            continue;
        }
        code = twill__shift_call(shift, end - shift->at);
        if (!twill__batcher_here(shift->batcher) || twill__shift_settled_packed(shift, code))
            return;
        bad = twill__shift_settle(shift, code);
        shift->at = end - bad;
        if (bad > 1)
            ends[depth++] = shift->at + (bad + 1) / 2;
    }
}

/* Those that failed alone are called alone; the others together, as far as they stand together. */
static inline void twill__shift_call_all(twill__shift *shift)
{
    if (shift->packed)
        twill__shift_divide(shift, shift->count);
    while (shift->at < shift->count && twill__batcher_here(shift->batcher)) {
        size_t to = shift->at + 1;
        if (shift->list[shift->at]->state != TWILL__SLOT_ALONE)
            while (to < shift->count && shift->list[to]->state != TWILL__SLOT_ALONE)
                to++;
        twill__shift_divide(shift, to);
    }
}

/* Under the lock: all of a packed lot are done. Whether anybody is to be told. */
static inline bool twill__shift_decide_packed(twill__shift *shift)
{
    twill__batcher *batcher = shift->batcher;
    twill__stock *stock = &batcher->stock;
    const twill__batch_lot *lot = shift->lot;
    batcher->counts.done += lot->count;
    stock->count -= lot->count;
    stock->bytes -= lot->bytes;
    stock->leaving += lot->count;
    stock->leaving_bytes += lot->bytes;
    return batcher->options.on_item != NULL;
}

/* Under the lock: all of it have been told. */
static inline void twill__shift_forget_packed(twill__shift *shift)
{
    twill__stock *stock = &shift->batcher->stock;
    twill__batch_lot *lot = shift->lot;
    twill__packed_out(stock, lot);
    twill__core_unreserve(stock->core, lot->count);
    stock->books -= lot->count;
    stock->leaving -= lot->count;
    stock->leaving_bytes -= lot->bytes;
    twill__lot_put(stock, lot);
    shift->lot = NULL;
    shift->packed = false;
}

/* Without the lock, as twill__shift_tell. */
static inline void twill__shift_tell_packed(twill__shift *shift)
{
    twill__batcher *batcher = shift->batcher;
    twill_outcome outcome;
    memset(&outcome, 0, sizeof outcome); /* OK, code 0 */
    outcome.worker = shift->task.worker;
    outcome.attempts = 1;
    outcome.started = shift->started;
    while (shift->packed_told < shift->count && twill__batcher_here(batcher)) {
        size_t i = shift->packed_told++;
        outcome.key = shift->cells.item[i];
        outcome.index = (size_t)(shift->lot->number + i);
        outcome.queued = shift->cells.added[i];
        outcome.finished = twill__clock_now();
        shift->task.index = outcome.index;
        batcher->options.on_item(shift->cells.item[i], &outcome, NULL, &shift->task);
    }
}

/* Under the lock: how all ended is decided; what waits stands in its line. Whether anybody is to be
   told. */
static inline bool twill__shift_decide(twill__shift *shift, twill__batcher_turn *turn)
{
    twill__batcher *batcher = shift->batcher;
    twill__stock *stock = &batcher->stock;
    twill__batch_lot *lot = shift->lot;
    twill_ns now = twill__clock_now();
    bool tells = batcher->options.on_item != NULL;
    shift->told = true;
    batcher->counts.calls += shift->calls;
    shift->calls = 0;
    if (shift->packed)
        return twill__shift_decide_packed(shift);
    for (twill__entry *entry = shift->ended; entry; entry = entry->ended) {
        bool late = now >= twill__entry_expires(batcher, entry);
        if (!entry->decided) {
            twill_status status = late ? TWILL_TIMEOUT : entry->answer;
            twill__batcher_decide(batcher, entry, status, status == TWILL_FAILED ? entry->its : 0);
        }
        if (!entry->called) { /* taken, and then the run was over */
            entry->attempts = 0;
            entry->started = 0;
        }
        entry->where = TWILL__ENDED_ITEM;
        tells = tells || entry->has_future;
    }
    if (!lot)
        return tells;
    shift->lot = NULL;
    if (!lot->first) {
        twill__lot_put(stock, lot);
        return tells;
    }
    for (twill__entry *entry = lot->first; entry; entry = entry->next)
        for (twill__entry *one = entry; one; one = one->follower) {
            one->where = one == entry ? TWILL__PENDING_ITEM : TWILL__MERGED_ITEM;
            twill__record_unclaim(&one->record);
            twill__idle_in(stock, one);
        }
    lot->attempt++;
    lot->due = now;
    if (batcher->options.backoff)
        lot->due =
            twill__instant_after(now, twill__batch_delay(&batcher->shape, batcher->seed,
                                                         (size_t)lot->first->number, lot->attempt));
    twill__line_sort(&stock->waiting, lot);
    turn->alarm = twill__batcher_next_due(batcher); /* they may be too old before the lot is due */
    if (twill__batcher_why_cut(batcher))
        turn->call = 1; /* to its end */
    return tells;
}

/* Without the lock: tells all; also when a callback has ended the thread in the middle of it. */
static inline void twill__shift_tell(twill__shift *shift)
{
    twill__entry *entry = shift->telling;
    if (shift->packed) {
        twill__shift_tell_packed(shift);
        return;
    }
    if (entry)
        twill__entry_promise(entry);
    entry = entry ? entry->ended : shift->ended;
    for (; entry; entry = entry->ended) {
        shift->telling = entry;
        twill__entry_tell(shift->batcher, entry, &shift->task);
        if (!twill__batcher_here(shift->batcher))
            return;
        twill__entry_promise(entry);
    }
}

/* How all ended is told, and forgotten. `on`: then the next lot is taken, in the same turn; true:
   there was one. */
static inline bool twill__shift_finish(twill__shift *shift, bool on)
{
    twill__batcher *batcher = shift->batcher;
    twill__batcher_turn turn;
    bool tells = true;
    if (!shift->told) {
        twill__batcher_enter(batcher, &turn);
        tells = twill__shift_decide(shift, &turn);
        if (tells)
            twill__batcher_exit(batcher, &turn);
    }
    if (tells) {
        twill__shift_tell(shift);
        if (!twill__batcher_here(batcher))
            return false;
        twill__batcher_enter(batcher, &turn);
    }
    if (shift->packed)
        twill__shift_forget_packed(shift);
    twill__batcher_forget(batcher, shift->ended);
    shift->ended = NULL;
    if (batcher->stock.flights && batcher->stock.ready.first)
        turn.call = batcher->workers; /* keys are free */
    if (on)
        on = twill__shift_pick(shift);
    else
        twill__shift_idle(shift);
    twill__batcher_exit(batcher, &turn);
    return on;
}

/* ---- a worker ---- */

static inline void twill__shift_begin(twill__shift *shift, twill__batcher *batcher,
                                      const twill_task *task)
{
    shift->batcher = batcher;
    shift->task = *task;
    shift->outer = batcher->tops[task->worker];
    batcher->tops[task->worker] = shift;
    shift->view.item = twill__shift_item;
    shift->view.result = twill__shift_result;
    shift->called = shift->settled = shift->count = shift->calls = 0;
    shift->lot = NULL;
    shift->ended = NULL;
    /* relaxed: read by this thread alone; other numbers differ */
    atomic_store_explicit(&shift->owner, twill__thread_number(), memory_order_relaxed);
}

static inline void twill__shift_over(twill__shift *shift)
{
    shift->batcher->tops[shift->task.worker] = shift->outer;
    atomic_store_explicit(&shift->owner, 0, memory_order_relaxed); /* as above */
}

/* Works on what twill__shift_pick has given. `on`, and the answer: as twill__shift_finish. */
static inline bool twill__shift_work(twill__shift *shift, bool on)
{
    if (shift->lot)
        twill__shift_call_all(shift);
    return twill__batcher_here(shift->batcher) && twill__shift_finish(shift, on);
}

static inline bool twill__batcher_pick(twill__batcher *batcher, twill__shift *shift)
{
    twill__batcher_turn turn;
    bool any;
    if (!twill__batcher_here(batcher))
        return false;
    twill__batcher_enter(batcher, &turn);
    any = twill__shift_pick(shift);
    twill__batcher_exit(batcher, &turn);
    return any;
}

static inline void twill__batcher_work(void *object, twill_task *task)
{
    twill__batcher *batcher = (twill__batcher *)object;
    twill__shift *shift = &batcher->shifts[task->worker];
    twill__shift_begin(shift, batcher, task);
    /* who stops the batcher fires the tokens after the lock: a pick before that has begun, one
       after it finds the run cut */
    twill__crew_begin(&batcher->crew, task->worker, 0);
    if (twill__batcher_pick(batcher, shift))
        while (twill__shift_work(shift, true)) {} /* exit: nothing is ready */
    twill__shift_over(shift);
}

/* A callback has ended the thread: what was in the call is LOST, what waited for its turn has
   failed, what was to be told is told. The shifts that this one was inside of are over, too. */
static inline void twill__shift_ended(twill__shift *shift)
{
    if (!shift->told) {
        size_t called = shift->called, settled = shift->settled;
        twill__shift_unpack(shift);
        for (size_t i = 0; i < called; i++)
            if (shift->call[i])
                twill__shift_end(shift, shift->call[i], i < settled ? TWILL_FAILED : TWILL_LOST);
        shift->at += called;
        shift->called = shift->settled = 0;
        twill__shift_give_up(shift, shift->count);
        memset(shift->view.set, 0, shift->count);
    }
    (void)twill__shift_finish(shift, false);
}

static inline void twill__batcher_worker_ended(void *object, twill_task *task)
{
    twill__batcher *batcher = (twill__batcher *)object;
    twill__job *around = twill__thread()->job;
    if (!twill__batcher_here(batcher))
        return;
    /* on_item still runs inside: it must not wait for us */
    twill__thread()->job = &batcher->crew.job;
    for (twill__shift *shift = batcher->tops[task->worker], *outer; shift; shift = outer) {
        outer = shift->outer;
        twill__shift_ended(shift);
        twill__shift_over(shift);
        if (shift != &batcher->shifts[task->worker])
            TWILL_FREE(shift);
    }
    twill__thread()->job = around;
}

/* Without the lock. A worker that comes in vain puts `due` right. */
static inline bool twill__batcher_ready(void *object)
{
    twill__batcher *batcher = (twill__batcher *)object;
    /* seq_cst: who makes work stores it, then raises the team's epoch; who will sleep on the epoch
       loads that first */
    twill_ns due = atomic_load_explicit(&batcher->due, memory_order_seq_cst);
    if (due == TWILL_FOREVER || !twill__batcher_here(batcher))
        return false;
    if (!due || twill__clock_now() >= due)
        return true;
    twill__crew_alarm(&batcher->crew, due);
    return false;
}

#endif
