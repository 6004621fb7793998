/* batch_common.h: what the scenarios of batch_processing share. Each is a program of one run;
   compile with -DTWILL__SPIN=0. */
#ifndef BATCH_COMMON_H
#define BATCH_COMMON_H

#undef NDEBUG
#include <assert.h>
#include <string.h>

#define TWILL_IMPLEMENTATION
#include "twill_batch_processing.h"

enum { ITEMS = 8 };
static int items[ITEMS];
static _Atomic int seen[ITEMS], told[ITEMS];
static _Atomic int how[ITEMS]; /* the status that on_item was told */
static twill_ns telling;       /* how long on_item takes */

struct side {
    twill__thrd thread;
    twill_batcher *batcher;
    twill_until until;
    twill_future future;
    int item;
    twill_status status;
};

static inline void go(struct side *side, void (*fn)(void *side), twill_batcher *batcher)
{
    memset(&side->thread, 0, sizeof side->thread);
    side->thread.fn = fn;
    side->thread.arg = side;
    side->thread.cpu = UINT_MAX;
    side->batcher = batcher;
    assert(twill__thread_start(&side->thread));
}

static inline void end(struct side *side)
{
    twill__thread_join(&side->thread);
}

static inline void add_one(void *side_)
{
    struct side *side = side_;
    side->status = twill_batcher_add_until(side->batcher, &items[side->item], NULL, side->until);
}

static inline void flush(void *side_)
{
    struct side *side = side_;
    side->status = twill_batcher_flush_until(side->batcher, side->until);
}

static inline int see(twill_batch *batch, const twill_task *task)
{
    (void)task;
    for (size_t i = 0; i < batch->count; i++)
        atomic_fetch_add(&seen[(int *)twill_batch_item(batch, i) - items], 1);
    return 0;
}

static inline void tell(void *item, const twill_outcome *outcome, void *result,
                        const twill_task *task)
{
    (void)result;
    (void)task;
    if (telling)
        (void)twill_sleep(twill_within(telling));
    atomic_store(&how[(int *)item - items], (int)outcome->status);
    assert(atomic_fetch_add(&told[(int *)item - items], 1) == 0);
}

static inline twill_batcher *batcher_of(twill_batch_fn *fn, twill_batch_options options)
{
    twill_batcher *batcher;
    options.on_item = tell;
    assert(twill_batcher_create(&batcher, fn, &options) == TWILL_OK);
    return batcher;
}

static inline void check_books(twill_batcher *batcher)
{
    twill_batcher_stats s;
    twill_batcher_get_stats(batcher, &s);
    assert(s.added ==
           s.done + s.failed + s.timed_out + s.cancelled + s.dropped + s.lost + s.pending);
}

/* Each of the first n was told once, and was in a call only if that is how it ended. */
static inline void check_told(int n)
{
    for (int i = 0; i < n; i++)
        assert(atomic_load(&told[i]) == 1 &&
               (atomic_load(&how[i]) != TWILL_OK || atomic_load(&seen[i]) == 1));
}
#endif
