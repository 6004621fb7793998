/* cuts.h: where batches begin: by count, index arithmetic; by bytes, one pass over the items. */
#ifndef TWILL__BATCH_CUTS_H
#define TWILL__BATCH_CUTS_H

#include "batch_processing/view.h"

typedef struct twill__index_list { /* grows */
    size_t *at, count, room;
} twill__index_list;

typedef struct twill__cuts {
    size_t n, batches;
    size_t max;                  /* items of the largest batch that there can be */
    size_t *starts;              /* [batches + 1], if bytes count */
    twill__index_list list, big; /* starts; items larger than max_bytes, each a batch by itself */
} twill__cuts;

static inline size_t twill__cut_begin(const twill__cuts *cuts, size_t k)
{
    return cuts->starts ? cuts->starts[k] : k * cuts->max;
}

static inline size_t twill__cut_end(const twill__cuts *cuts, size_t k)
{
    if (cuts->starts)
        return cuts->starts[k + 1];
    return cuts->n - k * cuts->max < cuts->max ? cuts->n : (k + 1) * cuts->max;
}

static inline bool twill__cut_too_big(const twill__cuts *cuts, size_t k)
{
    const twill__index_list *big = &cuts->big;
    return big->count &&
           big->at[twill__place_among(big->at, big->count, cuts->starts[k])] == cuts->starts[k];
}

static inline bool twill__index_add(twill__index_list *list, size_t index)
{
    if (list->count == list->room) {
        size_t room = list->room ? 2 * list->room : 64;
        size_t *at =
            room > SIZE_MAX / sizeof *at ? NULL : (size_t *)TWILL_MALLOC(room * sizeof *at);
        if (!at)
            return false;
        if (list->count)
            memcpy(at, list->at, list->count * sizeof *at);
        TWILL_FREE(list->at);
        list->at = at;
        list->room = room;
    }
    list->at[list->count++] = index;
    return true;
}

static inline void twill__cuts_free(twill__cuts *cuts)
{
    TWILL_FREE(cuts->list.at);
    TWILL_FREE(cuts->big.at);
    cuts->list.at = cuts->big.at = NULL;
}

/* Greedy, in the order of the items: a batch ends before the item that would be too much. */
static inline bool twill__cuts_by_bytes(twill__cuts *cuts, const char *items, size_t item_size,
                                        const twill_batch_options *options)
{
    twill_task task = {0, options->run.context, UINT_MAX, 0, NULL, {0, NULL}, NULL};
    size_t sum = 0, most = options->max_bytes, begin = 0, max = 1;
    bool closed = true; /* nothing may join the batch */
    for (size_t i = 0; i < cuts->n; i++) {
        size_t bytes;
        task.index = i;
        bytes = options->bytes_of(items + i * item_size, &task);
        if (bytes > most && !options->oversized_alone && !twill__index_add(&cuts->big, i))
            return false;
        if (closed || bytes > most || bytes > most - sum || i - begin == cuts->max) {
            if (!twill__index_add(&cuts->list, i))
                return false;
            begin = i;
            sum = 0;
        }
        closed = bytes > most;
        sum += closed ? 0 : bytes;
        max = i - begin + 1 > max ? i - begin + 1 : max;
    }
    if (!twill__index_add(&cuts->list, cuts->n))
        return false;
    cuts->starts = cuts->list.at;
    cuts->batches = cuts->list.count - 1;
    cuts->max = max;
    return true;
}

static inline twill_status twill__cuts_make(twill__cuts *cuts, const char *items, size_t item_size,
                                            const twill_batch_options *options)
{
    cuts->max = options->max_items ? options->max_items : TWILL__BATCH_ITEMS;
    if (cuts->max > cuts->n)
        cuts->max = cuts->n ? cuts->n : 1;
    cuts->batches = cuts->n / cuts->max + (cuts->n % cuts->max != 0);
    if (options->max_bytes && cuts->n && !twill__cuts_by_bytes(cuts, items, item_size, options))
        return TWILL_NO_MEMORY;
    return TWILL_OK;
}

#endif
