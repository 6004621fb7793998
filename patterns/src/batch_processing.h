/* twill: batch_processing - give a function many items at a time.
   SPDX-License-Identifier: MIT OR Unlicense
   Build: cc -std=c11 -pthread. In one .c file: #define TWILL_IMPLEMENTATION before the include.

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
END OF OUTPUT */
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

typedef enum twill_bad_batch { /* items that have failed together, none of them by itself */
                               TWILL_BAD_BATCH_RETRY = 0, /* again together, while attempts last */
                               TWILL_BAD_BATCH_BISECT, /* halves, until the bad items are alone */
                               TWILL_BAD_BATCH_FAIL    /* that is it */
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
   max_items 0: 100. */
TWILL__DECL size_t twill_batch_count(size_t n, size_t max_items);
TWILL__DECL void twill_batch_bounds(size_t n, size_t max_items, size_t k, size_t *begin,
                                    size_t *end);

/* One batch, any number of values: by twill_batch_emit. */
typedef int twill_flat_fn(const twill_batch *batch, const twill_task *task);

/* Inside a twill_flat_fn, on its thread: one value more, copied. NO_MEMORY: return a code. INVALID:
   not inside of one. */
TWILL__DECL twill_status twill_batch_emit(const twill_task *task, const void *value);

/* The values of all batches, in the order of the items: *values has *values_n of value_size bytes
   (NULL and 0: none); free it with twill_batch_free. A batch that failed gives none, the others'
   stay, whatever the status but NO_MEMORY and the refusals. */
TWILL__DECL twill_status twill_batch_flat_map(const void *items, size_t item_size, size_t n,
                                              twill_flat_fn *fn, size_t value_size, void **values,
                                              size_t *values_n, const twill_batch_options *options);
TWILL__DECL void twill_batch_free(void *values);

/* ---- items that come one by one ---- */

typedef struct twill_batcher twill_batcher;

/* Starts the workers. TWILL_OK: *out is the batcher. Else *out is NULL: INVALID, TOO_BIG, NO_MEMORY,
   NO_THREAD (none could be started, or, with run.strict, not all), FORKED, CLOSED (of the pool). */
TWILL__DECL twill_status twill_batcher_create(twill_batcher **out, twill_batch_fn *fn,
                                              const twill_batch_options *options);

/* Gives an item to the batcher, for ever, without waiting, or until. TWILL_OK: it will end exactly
   once, by on_item and by *future (NULL: nobody asks). DROPPED: likewise, it has ended already
   (DROP_INCOMING). All else: it is still the caller's: FULL, CLOSED, TOO_BIG, NO_MEMORY, TIMEOUT,
   CANCELLED, DEADLOCK (full, and from inside of a callback with nothing that could be processed),
   FORKED, INVALID. */
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
   *out (NULL ok): how much ended in either phase, and what is stuck. TIMEOUT: some is; it may be
   called again. The batcher is still to be destroyed. */
TWILL__DECL twill_status twill_batcher_stop(twill_batcher *batcher, twill_until drain,
                                            twill_until join, twill_stopped *out);

/* Close, waits for the end of everything, joins the workers, fills run.report, frees. NULL: OK. From
   inside of a callback: DEADLOCK, and nothing changed. In a forked child it frees. */
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
