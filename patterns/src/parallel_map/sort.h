/* sort.h: a stable merge sort. */
#ifndef TWILL__PARALLEL_MAP_SORT_H
#define TWILL__PARALLEL_MAP_SORT_H

#include "parallel_map/passes.h"

/* ---- sort ---- */

/* A stable merge sort. Runs are sorted in base, one by one worker; then neighbours are merged,
   level by level, from base to spare memory and back. A level is cut into pieces of equal output,
   and a binary search finds what each of them takes from its two runs, so all workers are busy in
   the last merge, too. (S. Odeh et al., "Merge Path", IPDPSW 2012.) A level only reads the one
   side, so that side always holds all items. Large items are sorted by pointers, and moved once
   at the end. */

#define TWILL__SORT_SMALL 1024 /* bytes on the caller's stack */

typedef struct twill__sort {
    twill__sorting items;
    const twill__sorter *sorter;
    char *base, *spare; /* spare: as large as base */
    char *pointers;     /* NULL, or two arrays of n; spare is then used at the end only */
    size_t size;        /* bytes of an item */
    size_t runs;        /* and pieces of a merge */
    const twill_parallel_options *options;
    _Atomic size_t ended; /* runs or pieces of the pass */
    char *memory;
} twill__sort;

TWILL__INLINED bool twill__compared(const twill__sorting *sort, const void *a, const void *b,
                                    const twill_task *task)
{
    return sort->compare(a, b, task) > 0;
}

TWILL__INLINED bool twill__compared_far(const twill__sorting *sort, const void *a, const void *b,
                                        const twill_task *task)
{
    return sort->compare(*(const void *const *)a, *(const void *const *)b, task) > 0;
}

/* For each size that is worth it, with the size as a constant. */
TWILL__DEFINE_SORTER(twill__sort_4, twill__compared, 4)
TWILL__DEFINE_SORTER(twill__sort_8, twill__compared, 8)
TWILL__DEFINE_SORTER(twill__sort_16, twill__compared, 16)
TWILL__DEFINE_SORTER(twill__sort_32, twill__compared, 32)
TWILL__DEFINE_SORTER(twill__sort_64, twill__compared, 64)
TWILL__DEFINE_SORTER(twill__sort_any, twill__compared, sort_->size)
TWILL__DEFINE_SORTER(twill__sort_far, twill__compared_far, sizeof(char *))

static inline const twill__sorter *twill__sort_choose(size_t size)
{
    static const twill__sorter of_4 = {twill__sort_4_run, twill__sort_4_piece},
                               of_8 = {twill__sort_8_run, twill__sort_8_piece},
                               of_16 = {twill__sort_16_run, twill__sort_16_piece},
                               of_32 = {twill__sort_32_run, twill__sort_32_piece},
                               of_64 = {twill__sort_64_run, twill__sort_64_piece},
                               of_any = {twill__sort_any_run, twill__sort_any_piece},
                               far = {twill__sort_far_run, twill__sort_far_piece};
    return size > TWILL__SORT_INDIRECT ? &far
           : size == 4                 ? &of_4
           : size == 8                 ? &of_8
           : size == 16                ? &of_16
           : size == 32                ? &of_32
           : size == 64                ? &of_64
                                       : &of_any;
}

static inline void twill__sort_runs(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    twill__sort *sort = (twill__sort *)job->data;
    size_t size = sort->items.size, k = begin;
    for (; k < end && twill__block_may_run(job, k); k++) {
        size_t first = k * sort->items.run, n = sort->items.n - first < sort->items.run
                                                    ? sort->items.n - first
                                                    : sort->items.run;
        char *x = sort->items.from + first * size;
        task->index = first;
        if (sort->pointers)
            for (size_t i = 0; i < n; i++) {
                const char *item = sort->base + (first + i) * sort->size;
                memcpy(x + i * sizeof item, &item, sizeof item);
            }
        sort->sorter->run(&sort->items, x, sort->items.to + first * size, n, false, task);
    }
    task->index = SIZE_MAX;
    job->slot[task->worker].said = 0;
    atomic_fetch_add_explicit(&sort->ended, k - begin,
                              memory_order_relaxed); /* read after the join */
}

static inline void twill__sort_pieces(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    twill__sort *sort = (twill__sort *)job->data;
    size_t k = begin;
    for (; k < end && twill__block_may_run(job, k); k++) {
        task->index = k * sort->items.run;
        sort->sorter->piece(&sort->items, task->index, task);
    }
    task->index = SIZE_MAX;
    job->slot[task->worker].said = 0;
    atomic_fetch_add_explicit(&sort->ended, k - begin,
                              memory_order_relaxed); /* read after the join */
}

/* Pointers are in order: the items follow them to spare, and then back. */
static inline void twill__sort_gather(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    twill__sort *sort = (twill__sort *)job->data;
    size_t k = begin;
    (void)task;
    for (; k < end && twill__block_may_run(job, k); k++) {
        size_t i = k * sort->items.run,
               last = sort->items.n - i < sort->items.run ? sort->items.n : i + sort->items.run;
        for (; i < last; i++) {
            const char *item;
            memcpy(&item, sort->items.from + i * sizeof item, sizeof item);
            memcpy(sort->spare + i * sort->size, item, sort->size);
        }
    }
    atomic_fetch_add_explicit(&sort->ended, k - begin,
                              memory_order_relaxed); /* read after the join */
}

static inline void twill__sort_return(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    const twill__sort *sort = (const twill__sort *)job->data;
    size_t first = begin * sort->items.run,
           last = end * sort->items.run < sort->items.n ? end * sort->items.run : sort->items.n;
    (void)task;
    memcpy(sort->base + first * sort->size, sort->spare + first * sort->size,
           (last - first) * sort->size);
}

/* Whether each pointer points to its own place: they were in order before. */
static inline bool twill__sort_in_place(const twill__sort *sort)
{
    for (size_t i = 0; i < sort->items.n; i++) {
        const char *item;
        memcpy(&item, sort->items.from + i * sizeof item, sizeof item);
        if (item != sort->base + i * sort->size)
            return false;
    }
    return true;
}

/* One pass over the runs or pieces. False: not all of it was done. */
static inline bool twill__sort_pass(twill__job *job, twill__sort *sort, twill__body_fn *body)
{
    twill__pass pass = {.n = sort->runs, .body = body, .data = sort, .parts = true};
    pass.unit = sort->items.run;
    pass.forced = sort->items.n >= 4096 && twill__was_shared(job);
    atomic_store_explicit(&sort->ended, 0,
                          memory_order_relaxed); /* nobody else is here; opening publishes */
    twill__run_pass(job, &pass);
    return atomic_load_explicit(&sort->ended, memory_order_relaxed) == sort->runs;
}

/* All items are in base again, in whatever order. */
static inline void twill__sort_put_back(twill__sort *sort)
{
    if (!sort->pointers && sort->items.from == sort->spare)
        memcpy(sort->base, sort->spare, sort->items.n * sort->size);
    sort->items.from = sort->base;
}

static inline bool twill__sort_all(twill__job *job, twill__sort *sort)
{
    twill__sorting *items = &sort->items;
    if (!twill__sort_pass(job, sort, twill__sort_runs))
        return false;
    for (items->width = items->run; items->width < items->n;) {
        char *to = items->to;
        if (!twill__sort_pass(job, sort, twill__sort_pieces))
            return false;
        items->to = items->from;
        items->from = to;
        items->width = items->width > SIZE_MAX / 4 ? items->n : items->width * 2;
    }
    return true;
}

static inline void twill__sort_steps(twill__job *job, void *data)
{
    twill__sort *sort = (twill__sort *)data;
    bool moved;
    if (!twill__sort_all(job, sort)) {
        twill__sort_put_back(sort);
        return;
    }
    moved = sort->pointers && !twill__sort_in_place(sort);
    if (moved && !twill__sort_pass(job, sort, twill__sort_gather))
        return; /* base has not changed */
    if (moved) {
        twill__pass pass = {
            .n = sort->runs, .body = twill__sort_return, .data = sort, .parts = true};
        pass.unit = sort->items.run;
        twill__run_deaf(job, &pass);
    }
    job->slot[0].said = 0;
    job->slot[0].fail_index = SIZE_MAX;
    twill__range_end(job, &job->slot[0], SIZE_MAX, 0, sort->items.n, 0);
}

/* How many runs: a power of 4, so that the last level ends in base. One where nobody could help
   and nothing end it. */
static inline void twill__sort_cut(twill__sort *sort)
{
    const twill_run *run = &sort->options->run;
    unsigned np = twill__workers_for(run, sort->items.n);
    size_t runs = np <= 8 ? 64 : np <= 32 ? 256 : 1024;
    if (np == 1 && !run->until.cancel && !run->until.deadline)
        runs = 1;
    while (runs > 1 && sort->items.n / runs < 32)
        runs /= 4;
    sort->items.run = (sort->items.n - 1) / runs + 1;
    sort->runs = (sort->items.n - 1) / sort->items.run + 1;
}

static inline bool twill__sort_memory(twill__sort *sort, char *small, size_t small_size)
{
    size_t bytes = sort->items.n * sort->size, pointers = 0;
    if (sort->size > TWILL__SORT_INDIRECT)
        pointers =
            2 * sort->items.n * sizeof(char *); /* fits: an item is larger than two pointers */
    if (bytes > SIZE_MAX - pointers - TWILL__LINE)
        return false;
    sort->memory = NULL;
    if (bytes + pointers > small_size) {
        sort->memory = (char *)TWILL_MALLOC(bytes + pointers + TWILL__LINE);
        if (!sort->memory)
            return false;
        small = twill__aligned(sort->memory);
    }
    sort->pointers = pointers ? small : NULL;
    sort->spare = small + pointers;
    sort->items.from = pointers ? small : sort->base;
    sort->items.to = pointers ? small + pointers / 2 : sort->spare;
    return true;
}

/* The calling thread has ended in compare: helpers are gone, the call is closed. */
static inline void twill__sort_ended(void *data)
{
    twill__sort *sort = (twill__sort *)data;
    twill__sort_put_back(sort);
    if (sort->memory)
        TWILL_FREE(sort->memory);
}

static __attribute__((noinline)) twill_status twill__sort_guarded(twill__sort *sort)
{
    twill_status status;
    TWILL__GUARD_PUSH(twill__sort_ended, sort);
    status = twill__run_call(&sort->options->run, sort->items.n, true, twill__sort_steps, sort);
    TWILL__GUARD_POP(0);
    if (sort->memory)
        TWILL_FREE(sort->memory);
    return status;
}

TWILL__DEFINE twill_status twill__parallel_sorted(void *base, size_t n, size_t size,
                                                  const twill__sorter *sorter,
                                                  twill_compare_fn *compare,
                                                  const twill_parallel_options *options)
{
    _Alignas(TWILL__LINE) char small[TWILL__SORT_SMALL];
    twill__sort sort;
    twill_status status = twill__items_check(base, size, n);
    options = sort.options = twill__parallel_options(options);
    sort.base = (char *)base;
    sort.size = size;
    sort.memory = NULL;
    sort.pointers = NULL;
    sort.sorter = sorter;
    sort.items.compare = compare;
    sort.items.size = size > TWILL__SORT_INDIRECT ? sizeof(char *) : size;
    sort.items.n = n;
    sort.items.from = sort.base;
    if (!sorter || options->schedule || options->chunk || options->cost_of)
        status = TWILL_INVALID;
    if (status == TWILL_OK)
        status = twill__check_run(&options->run);
    if (status == TWILL_OK && n) {
        if (twill__sort_memory(&sort, small, sizeof small))
            twill__sort_cut(&sort);
        else
            status = TWILL_NO_MEMORY;
    }
    if (status != TWILL_OK)
        return twill__refuse(&options->run, n, status);
    return twill__sort_guarded(&sort);
}

TWILL__DEFINE twill_status twill_parallel_sort(void *base, size_t n, size_t size,
                                               twill_compare_fn *compare,
                                               const twill_parallel_options *options)
{
    return twill__parallel_sorted(base, n, size, compare ? twill__sort_choose(size) : NULL, compare,
                                  options);
}

#endif
