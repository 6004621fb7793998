/* twill: batch_processing - give a function many items at a time: an array cut into batches, or
   items that come one by one and leave together.
   SPDX-License-Identifier: MIT OR Unlicense
   Build: cc -std=c11 -pthread. In one .c file: #define TWILL_IMPLEMENTATION before the include.

WHEN TO USE IT
    A call has a price of its own, whatever it carries: a system call, a transaction, a round trip.
    Items that share a call share the price. twill_batch_process: the items are there, in an array.
    twill_batch_flat_map: likewise, and each batch gives any number of values. twill_batcher: items
    come one by one, from any threads, and leave by count, bytes, age or a gap in arrivals.
WHEN NOT
    Pure computation over an array: parallel_map needs no batches. Items that another thread takes
    one by one: producer_consumer.

EXAMPLE:
#include <stdio.h>

#define TWILL_IMPLEMENTATION
#include "twill_batch_processing.h"

static int insert_rows(twill_batch *batch, const twill_task *task)
{
    (void)task;
    for (size_t i = 0; i < batch->count; i++)               // one transaction for all of them
        if (*(const int *)twill_batch_item(batch, i) == 77)
            twill_batch_set(batch, i, 5);                   // this row is no good
        else
            twill_batch_set(batch, i, 0);                   // this one is done
    return 0;
}

int main(void)
{
    int rows[250];
    twill_report report;
    for (int i = 0; i < 250; i++)
        rows[i] = i;
    twill_status status = twill_batch_process(rows, sizeof *rows, NULL, 0, 250, insert_rows,
        &(twill_batch_options){ .run.report = &report });   // 100 a batch: 3 batches
    printf("%s: %zu done in %zu calls; row %zu failed with %d\n", twill_status_name(status),
           report.done, report.chunks, report.first_error.index, report.first_error.code);
    return 0;
}
END OF EXAMPLE
OUTPUT:
TWILL_FAILED: 249 done in 3 calls; row 77 failed with 5
END OF OUTPUT

WHAT BECOMES OF EACH ITEM
    fn returns 0, sets nothing        all of the batch are done
    fn returns 0, sets some           each as set (0: done); one that was forgotten is LOST
    fn returns c, sets some           those as set; the others have failed together, with c
    Items that failed by themselves go again while attempts are left and retryable says so: only
    they, in their order. Items that failed together go by on_bad_batch. BISECT calls for halves,
    left first, until what is bad is alone: one bad item of b costs 2 log2(b) more calls, b bad ones
    2b. Halving uses up no attempts; an item alone is then called alone while attempts last. If fn
    is all or nothing, good items take effect once.

OPTIONS OF BOTH (twill_batch_options; zeroed or NULL: 100 items a batch, one attempt)
    run             array: see twill_run; on_error 0: COLLECT, everything runs; others stop between
                    batches. Batcher: workers are batches at once, 0: 1; on threads of its own or of
                    run.pool; until ends the whole; errors, statuses, codes and on_error must be
                    zero; report is filled by destroy, first_error is the lowest number
    max_items       0: 100. The last batch may be shorter
    max_bytes       with bytes_of; no batch is above it. A larger item: TWILL_TOO_BIG (array: its
                    outcome, counted failed), or a batch by itself with oversized_alone
    attempts        calls for one item, the first included; 0: 1. Above INT_MAX: INVALID
    backoff         before the second attempt up to so long, then up to twice as long, at most
                    backoff_max (0: 10 s): "full jitter". 0: at once. Others go on meanwhile. seed:
                    not 0: the same delays in every run
    retryable       NULL: every code
    on_bad_batch    RETRY, BISECT, FAIL
OPTIONS OF THE BATCHER ALONE (the array forms refuse them)
    linger          an open batch leaves so long after its oldest item came; 0: 10 ms;
                    TWILL_FOREVER: by count, bytes, flush and close only. It is no rate limit: full
                    ones leave at once. An item that comes at the very instant opens the next
                    batch, but for one that nobody is told of, and that comes before an idle
                    worker has woken up
    idle            it leaves when nothing has come for so long; 0: off
    capacity        items accepted and not ended; 0: 10 max_items; exact. capacity_bytes; 0: no
                    limit. An item above that is TOO_BIG
    overflow        full: BLOCK; REJECT: FULL; CALLER_RUNS: the caller processes a batch, if a
                    worker number is free; DROP_OLDEST, DROP_NEWEST: the oldest or newest that was
                    in no call yet ends DROPPED (FULL if there is none); DROP_INCOMING: the new one
                    does
    key_of          equal keys are never in two calls at once, and keep the order of add, across
                    retries, too; other keys go in parallel. With BISECT an item that waits behind
                    one of its key uses up attempts with it
    coalesce        equal keys within one open batch are one item for fn; each gets that outcome and
                    a copy of that result. Limits count them once, capacity each
    item_timeout    from acceptance; must exceed linger. In no call: the item ends TIMEOUT. In one:
                    its future is told at once, on_item when the call has let go of the item; what
                    the call says of it is discarded
    result_size     of each item's result slot, which stands on a multiple of 16
    on_item         called once for each accepted item, then the item is yours again. On the worker,
                    or the thread that dropped or cancelled it (worker UINT_MAX); no lock is held;
                    it may add: there is room for one in place of the item it is told about.
                    `result` (NULL: it was in no call) dies with the call

ERRORS
    Array: TWILL_OK: all done. FAILED: run.report.first_error is the lowest index (FIRST: the first
    in time). CANCELLED, TIMEOUT: no further batch, no further attempt; a backoff ends at once;
    items that had failed before stay FAILED. INVALID, TOO_BIG, NO_MEMORY, NO_THREAD, FORKED, CLOSED
    (of the pool): nothing ran. flat_map alone may say NO_MEMORY later; then there are no values.
    report.total counts items, report.chunks calls. Batcher: see each function.
    Batcher, worker_start failed under every worker number: what is there ends CANCELLED, add is
    CLOSED, run.report FAILED at index SIZE_MAX.
    thrd_exit in fn: the items of that call are LOST, others of its batch that had failed stay so;
    a batcher's worker is replaced.

THREADS      All functions by any thread; destroy last (a call that waits inside is answered first).
             Futures outlive the batcher.
BLOCKS       process, flat_map: until all callbacks have returned. add: BLOCK and CALLER_RUNS only.
             From inside of a callback an add processes another batch instead of waiting, on top of
             its own; flush, stop and destroy answer DEADLOCK there. On a pool its threads, those of
             calls that its tasks make, and who waits for ever, process batches meanwhile.
ORDERING     What came before add comes before fn, that before on_item, and that before a wait for
             the future or a flush returns. Without keys and with one worker batches run in the
             order of add; with more they begin in order and may overlap.
OWNERSHIP    Array: all stays yours. A batcher's item is its own from OK (or DROPPED) to the return
             of on_item.
ALLOCATES    process: nothing for up to 128 items a batch and one attempt; else, before the first
             call, 5 to 30 bytes an item of a batch and worker, with a backoff 24 bytes an item; by
             bytes 8 bytes a batch. flat_map: while it runs, what is emitted, and once more at the
             end. Batcher: two blocks at create; some 700 bytes an item while the number of items
             grows. Of them an item without a future, in a batcher without key_of, item_timeout
             and result_size, uses 8 (with on_item, bytes_of: 16, 24) until it fails or is dropped.
             An add that processes a batch on top of its own (see BLOCKS): one block meanwhile.
COSTS        A batcher takes one small lock for an add and once a batch (twice, if somebody is told
             of an item), and no timer thread: an idle worker sleeps until the next thing is due.
FORK         In the child array forms work, a batcher is FORKED, destroy frees it. A callback of a
             batcher that forks: nothing more is called in the child. A callback of an array form:
             the child is that thread alone; if it is the caller's, the call goes on without what
             others had in hand, or waits for another attempt, and says FORKED.
PITFALLS     A wait inside of a callback for an item of the same batcher works on others meanwhile;
             but for one that waits for its next attempt another worker is needed.
             fn may see an item again (attempts, BISECT): it should be all or nothing, or
             idempotent. Setting one item of a batch and forgetting the others loses them: set all,
             or none. on_item that frees an item which a future's waiter still uses, or that adds
             again what was DROPPED: its place is taken, so that has no end. bytes_of and key_of
             run in add, before the lock. A tiny capacity caps max_items. twill_task_fail says
             nothing here: use twill_batch_set. */
#ifndef TWILL_BATCH_PROCESSING_H
#define TWILL_BATCH_PROCESSING_H

#include "base/base.h"
#include "base/future.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What the callback sees; valid during the call. */
typedef struct twill_batch {
    size_t count;
    unsigned attempt; /* 1 the first time; halving a batch does not raise it */
    size_t first;     /* array forms: index of the first item; batcher: its number since create */
    /* items and results in one piece, or NULL (retries, batcher): use the functions below */
    const void *array;
    void *results;
    void *private_;
} twill_batch;

/* Item i of the batch: its address in the array, or the pointer that was added. NULL: no such. */
TWILL__DECL void *twill_batch_item(const twill_batch *batch, size_t i);
/* Its slot of result_size bytes, zeroed before every call; NULL: no results, or no such item. */
TWILL__DECL void *twill_batch_result(const twill_batch *batch, size_t i);
/* How item i ended; 0: done; the last call for an item counts. Threads that the callback starts
   may set different items at once. */
TWILL__DECL void twill_batch_set(twill_batch *batch, size_t i, int code);

/* Processes the items of one batch. 0 and nothing set: all are done. 0 and some set: each as set,
   the others are LOST. Not 0: those not set have failed together, with that code. */
typedef int twill_batch_fn(twill_batch *batch, const twill_task *task);

/* What becomes of items that have failed together, none of them by itself. */
typedef enum twill_bad_batch {
    TWILL_BAD_BATCH_RETRY = 0, /* again together, while attempts last */
    TWILL_BAD_BATCH_BISECT,    /* halves, until the bad items are alone */
    TWILL_BAD_BATCH_FAIL       /* that is it */
} twill_bad_batch;

typedef struct twill_batch_options { /* see OPTIONS above */
    twill_run run;
    size_t max_items;
    size_t max_bytes;
    size_t (*bytes_of)(const void *item, const twill_task *task);
    bool oversized_alone;
    unsigned attempts;
    twill_ns backoff, backoff_max;
    uint64_t seed;
    bool (*retryable)(const void *item, int code, const twill_task *task);
    twill_bad_batch on_bad_batch;
    /* batcher only */
    size_t result_size;
    twill_ns linger, idle;
    size_t capacity, capacity_bytes;
    twill_overflow overflow;
    uint64_t (*key_of)(const void *item, const twill_task *task);
    bool coalesce;
    twill_ns item_timeout;
    void (*on_item)(void *item, const twill_outcome *outcome, void *result, const twill_task *task);
} twill_batch_options;

/* ---- an array ---- */

/* Calls fn for batches that make up the n items, in parallel; the caller takes part. results: NULL,
   or room for n of result_size bytes, zeroed by the call. TWILL_OK: every item is done. FAILED,
   CANCELLED, TIMEOUT: run.report, run.statuses and run.codes say which. Refusals (nothing ran):
   INVALID, TOO_BIG, NO_MEMORY, NO_THREAD, FORKED, CLOSED. */
TWILL__DECL twill_status twill_batch_process(const void *items, size_t item_size, void *results,
                                             size_t result_size, size_t n, twill_batch_fn *fn,
                                             const twill_batch_options *options);

/* How many batches n items make, and which items are batch k: begin..end-1 (k too large: n..n).
   max_items 0: 100. begin or end may be NULL. */
TWILL__DECL size_t twill_batch_count(size_t n, size_t max_items);
TWILL__DECL void twill_batch_bounds(size_t n, size_t max_items, size_t k, size_t *begin,
                                    size_t *end);

/* One batch, any number of values: by twill_batch_emit. */
typedef int twill_flat_fn(const twill_batch *batch, const twill_task *task);

/* Inside a twill_flat_fn, on its thread: one value more, copied. NO_MEMORY: return a code. INVALID:
   not inside of one. */
TWILL__DECL twill_status twill_batch_emit(const twill_task *task, const void *value);

/* The values of all batches, in the order of the items: *values has *values_n of value_size bytes
   (NULL and 0: none), as aligned as TWILL_MALLOC's memory; free it with twill_batch_free. A batch
   that failed gives none, the others' stay, whatever the status but NO_MEMORY and the refusals. */
TWILL__DECL twill_status twill_batch_flat_map(const void *items, size_t item_size, size_t n,
                                              twill_flat_fn *fn, size_t value_size, void **values,
                                              size_t *values_n, const twill_batch_options *options);
TWILL__DECL void twill_batch_free(void *values);

/* ---- items that come one by one ---- */

typedef struct twill_batcher twill_batcher;

/* Starts the workers. TWILL_OK: *out is the batcher. Else *out is NULL: INVALID, TOO_BIG,
   NO_MEMORY, NO_THREAD (none could be started, or, with run.strict, not all), FORKED, CLOSED (of
   the pool). */
TWILL__DECL twill_status twill_batcher_create(twill_batcher **out, twill_batch_fn *fn,
                                              const twill_batch_options *options);

/* Gives an item to the batcher, for ever, without waiting, or until. TWILL_OK: it will end exactly
   once, by on_item and by *future (NULL: nobody asks). DROPPED: likewise, it has ended already
   (DROP_INCOMING). All else: it is still the caller's, and *future is {0}: FULL, CLOSED, TOO_BIG,
   NO_MEMORY, TIMEOUT, CANCELLED, DEADLOCK (full, and from inside of a callback with nothing that
   could be processed), FORKED, INVALID. */
TWILL__DECL twill_status twill_batcher_add(twill_batcher *batcher, void *item,
                                           twill_future *future);
TWILL__DECL twill_status twill_batcher_try_add(twill_batcher *batcher, void *item,
                                               twill_future *future);
TWILL__DECL twill_status twill_batcher_add_until(twill_batcher *batcher, void *item,
                                                 twill_future *future, twill_until until);

/* What is open leaves now; waits until all that was accepted before the call has ended, and for
   nothing else. DEADLOCK: from inside of a callback. */
TWILL__DECL twill_status twill_batcher_flush(twill_batcher *batcher);
TWILL__DECL twill_status twill_batcher_flush_until(twill_batcher *batcher, twill_until until);

/* No more adds; what is open leaves now; waits for nothing. A second one: CLOSED. */
TWILL__DECL twill_status twill_batcher_close(twill_batcher *batcher);

/* Close; waits for the end of everything until `drain`; then ends what is in no call (CANCELLED, or
   FAILED if it was waiting to be tried again), fires the tokens of what is, and waits until `join`.
   *out (NULL ok): how much ended in either phase, and what is stuck. TIMEOUT, CANCELLED: some is;
   it may be called again. The batcher is still to be destroyed. */
TWILL__DECL twill_status twill_batcher_stop(twill_batcher *batcher, twill_until drain,
                                            twill_until join, twill_stopped *out);

/* Close, waits for the end of everything, joins the workers, fills run.report, frees. NULL: OK.
   From inside of a callback: DEADLOCK, and nothing changed. In a forked child it frees. */
TWILL__DECL twill_status twill_batcher_destroy(twill_batcher *batcher);

/* added == done + failed + timed_out + cancelled + dropped + lost + pending, always. refused:
   answers FULL. retried: items of calls with attempt > 1 (not those of halves). merged: items that
   joined another one. batches: that left, each for one of the six reasons; mean_fill: their items
   over max_items. calls: of fn. */
typedef struct twill_batcher_stats {
    uint64_t added, done, failed, timed_out, cancelled, dropped, lost, refused, retried, merged,
        batches, calls, by_count, by_bytes, by_linger, by_idle, by_flush, by_close;
    size_t pending, pending_bytes, pending_peak;
    double mean_fill;
} twill_batcher_stats;
/* One moment's figures. NULL, or a parent process's: zeroes. */
TWILL__DECL void twill_batcher_get_stats(twill_batcher *batcher, twill_batcher_stats *stats);

#ifdef __cplusplus
}
#endif
#endif

#ifdef TWILL_IMPLEMENTATION
#ifndef TWILL__BATCH_PROCESSING_IMPL
#define TWILL__BATCH_PROCESSING_IMPL

#include "batch_processing/flat.h"
#include "batch_processing/add.h"
#include "batch_processing/life.h"

#endif
#endif
