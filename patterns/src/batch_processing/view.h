/* view.h: what a batch shows to its callback, and what the callback says about its items. */
#ifndef TWILL__BATCH_VIEW_H
#define TWILL__BATCH_VIEW_H

#include "engine/backoff.h"
#include "engine/run.h"

#define TWILL__BATCH_ITEMS 100 /* max_items, if it is 0 */

/* Behind batch->private_. Item i is at a place that only the form knows: the array form has them in
   one piece or through indexes, the batcher through records. */
typedef struct twill__view {
    void *(*item)(const struct twill__view *view, size_t i);
    void *(*result)(const struct twill__view *view, size_t i);
    /* [count]: what twill_batch_set said. Bytes and ints of their own for each item, so that
       threads of a callback may set different items at once */
    int *codes;
    unsigned char *set;
} twill__view;

TWILL__DEFINE void *twill_batch_item(const twill_batch *batch, size_t i)
{
    const twill__view *view = (const twill__view *)batch->private_;
    return i < batch->count ? view->item(view, i) : NULL;
}

TWILL__DEFINE void *twill_batch_result(const twill_batch *batch, size_t i)
{
    const twill__view *view = (const twill__view *)batch->private_;
    return i < batch->count ? view->result(view, i) : NULL;
}

TWILL__DEFINE void twill_batch_set(twill_batch *batch, size_t i, int code)
{
    const twill__view *view = (const twill__view *)batch->private_;
    if (i >= batch->count)
        return;
    view->codes[i] = code;
    view->set[i] = 1;
}

/* How the call of a batch ended for one of its items. */
typedef enum twill__end {
    TWILL__END_DONE,
    TWILL__END_FAILED, /* the item, with its own code */
    TWILL__END_BAD,    /* the batch, and nobody said which item */
    TWILL__END_LOST    /* others were set, this one was forgotten */
} twill__end;

static inline twill__end twill__view_end(const twill__view *view, size_t i, int code, bool any,
                                         int *its)
{
    *its = 0;
    if (any && view->set[i])
        return (*its = view->codes[i]) == 0 ? TWILL__END_DONE : TWILL__END_FAILED;
    if (code) {
        *its = code;
        return TWILL__END_BAD;
    }
    return any ? TWILL__END_LOST : TWILL__END_DONE;
}

/* The delay before attempt 2, 3, ..: of the seed, a place and the attempt alone, so that a seed
   means the same delays whoever runs the batches. */
static inline twill_ns twill__batch_delay(const twill__backoff *shape, uint64_t seed,
                                          uint64_t place, unsigned attempt)
{
    uint64_t grown = twill__backoff_first(shape), random = seed + place;
    random = twill__random(&random) + attempt;
    while (--attempt > 1 && grown < shape->cap) /* exit: at the cap at the latest */
        grown = twill__backoff_grow(shape, grown);
    return (twill_ns)twill__backoff_jittered(shape, grown, 0, &random);
}

/* ---- options that both forms have ---- */

static inline bool twill__batch_common_valid(const twill_batch_options *options)
{
    return (!options->max_bytes || options->bytes_of) && options->backoff >= 0 &&
           options->backoff_max >= 0 && options->attempts <= INT_MAX &&
           (unsigned)options->on_bad_batch <= TWILL_BAD_BATCH_FAIL &&
           (options->max_bytes || !options->oversized_alone);
}

static inline twill__backoff twill__batch_shape(const twill_batch_options *options)
{
    twill_ns cap = options->backoff_max ? options->backoff_max : TWILL_SEC(10);
    return twill__backoff_usual(options->backoff, cap);
}

static inline uint64_t twill__batch_seed(const twill_batch_options *options, const void *object)
{
    return options->backoff ? twill__random_begin(options->seed, object) : 0;
}

#endif
