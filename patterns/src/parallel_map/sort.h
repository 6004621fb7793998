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

#define TWILL__SORT_LEAF     6    /* items sorted by insertion */
#define TWILL__SORT_INDIRECT 32   /* bytes of an item above which pointers are sorted */
#define TWILL__SORT_SMALL    1024 /* bytes on the caller's stack */

typedef struct twill__sort {
    char *base, *spare; /* spare: as large as base */
    char *pointers;     /* NULL, or two arrays of n; spare is then used at the end only */
    size_t n, size;
    twill_compare_fn *compare;
    const twill_parallel_options *options;
    void (*sort_run)(const struct twill__sort *sort, char *x, char *y, size_t n, bool into_y,
                     const twill_task *task);
    void (*merge_piece)(const struct twill__sort *sort, size_t begin, const twill_task *task);
    size_t run, runs;     /* items a run, and a piece */
    size_t width;         /* items in each of the two runs of a merge */
    char *from, *to;      /* a merge's sides */
    _Atomic size_t ended; /* runs or pieces of the pass */
    char *memory;
    twill_run deaf;
} twill__sort;

/* An item of at most TWILL__SORT_INDIRECT bytes: a call of memcpy would cost more than the copy. */
static inline __attribute__((always_inline)) void twill__copy_item(char *out, const char *in,
                                                                   size_t size)
{
    if (size == 4 || size == 8 || size == 16) {
        memcpy(out, in, size == 4 ? 4 : size == 8 ? 8 : 16);
        return;
    }
    for (; size >= 8; size -= 8, in += 8, out += 8)
        memcpy(out, in, 8);
    if (size >= 4) {
        memcpy(out, in, 4);
        in += 4;
        out += 4;
        size -= 4;
    }
    for (; size > 0; size--)
        *out++ = *in++;
}

/* Whether a belongs behind b, which stands behind it. */
static inline __attribute__((always_inline)) bool twill__after(twill_compare_fn *compare,
                                                               const char *a, const char *b,
                                                               bool indirect,
                                                               const twill_task *task)
{
    if (indirect)
        return compare(*(const void *const *)(const void *)a, *(const void *const *)(const void *)b,
                       task) > 0;
    return compare(a, b, task) > 0;
}

static inline __attribute__((always_inline)) void twill__sort_leaf(twill_compare_fn *compare,
                                                                   char *x, size_t n, size_t size,
                                                                   bool indirect,
                                                                   const twill_task *task)
{
    _Alignas(64) char item[TWILL__SORT_INDIRECT];
    for (size_t i = 1; i < n; i++) {
        char *at = x + i * size;
        if (!twill__after(compare, at - size, at, indirect, task))
            continue;
        twill__copy_item(item, at, size);
        do {
            twill__copy_item(at, at - size, size);
            at -= size;
        } while (at > x && twill__after(compare, at - size, item, indirect, task));
        twill__copy_item(at, item, size);
    }
}

/* a .. a_end and b .. b_end become out. The choice is arithmetic, since no branch predictor can
   know it; but behind pointers a guess that is right half the time is worth more, as it has the
   next items fetched meanwhile. */
static inline __attribute__((always_inline)) void
twill__merge(twill_compare_fn *compare, const char *a, const char *a_end, const char *b,
             const char *b_end, char *out, size_t size, bool indirect, const twill_task *task)
{
    while (indirect && a < a_end && b < b_end) {
        if (twill__after(compare, a, b, true, task)) {
            twill__copy_item(out, b, size);
            b += size;
        } else {
            twill__copy_item(out, a, size);
            a += size;
        }
        out += size;
    }
    while (a < a_end && b < b_end) {
        size_t right = twill__after(compare, a, b, indirect, task);
        twill__copy_item(out, right ? b : a, size);
        b += right * size;
        a += size - right * size;
        out += size;
    }
    if (a < a_end)
        memcpy(out, a, (size_t)(a_end - a));
    else /* one of them is left: there was an item at least, and each took one */
        memcpy(out, b, (size_t)(b_end - b));
}

/* How many of the first d items of a merge come from a; lo and hi bound it, also where compare
   contradicts itself. */
static inline __attribute__((always_inline)) size_t
twill__merge_split(twill_compare_fn *compare, const char *a, const char *b, size_t d, size_t lo,
                   size_t hi, size_t size, bool indirect, const twill_task *task)
{
    while (lo < hi) {
        size_t middle = lo + (hi - lo) / 2;
        if (twill__after(compare, a + middle * size, b + (d - 1 - middle) * size, indirect, task))
            hi = middle;
        else
            lo = middle + 1;
    }
    return lo;
}

/* The items begin .. begin + run - 1 of a level's output. */
static inline __attribute__((always_inline)) void twill__merge_part(const twill__sort *sort,
                                                                    size_t begin, size_t size,
                                                                    bool indirect,
                                                                    const twill_task *task)
{
    twill_compare_fn *compare = sort->compare;
    size_t first = begin / sort->width / 2 * 2 * sort->width, left = sort->n - first;
    size_t a_n = left < sort->width ? left : sort->width,
           b_n = left - a_n < sort->width ? left - a_n : sort->width;
    const char *a = sort->from + first * size, *b = a + a_n * size;
    size_t d = begin - first, d_end = a_n + b_n - d < sort->run ? a_n + b_n : d + sort->run, lo, hi;
    lo = twill__merge_split(compare, a, b, d, d > b_n ? d - b_n : 0, d < a_n ? d : a_n, size,
                            indirect, task);
    hi = d_end - d < a_n - lo ? lo + (d_end - d) : a_n;
    hi =
        twill__merge_split(compare, a, b, d_end, d_end > b_n && d_end - b_n > lo ? d_end - b_n : lo,
                           hi, size, indirect, task);
    twill__merge(compare, a + lo * size, a + hi * size, b + (d - lo) * size,
                 b + (d_end - hi) * size, sort->to + begin * size, size, indirect, task);
}

/* For each size that is worth it, with the size as a constant. NAME_run sorts n items of x, with
   y as memory; the result is in y if into_y, else in x. */
#define TWILL__DEFINE_SORT(NAME, SIZE, INDIRECT)                                                \
    static void NAME##_run(const twill__sort *sort, char *x, char *y, size_t n, bool into_y,    \
                           const twill_task *task)                                              \
    {                                                                                           \
        size_t size = SIZE, half = n / 2;                                                       \
        char *from = into_y ? x : y, *to = into_y ? y : x;                                      \
        if (n <= TWILL__SORT_LEAF) {                                                            \
            twill__sort_leaf(sort->compare, x, n, size, INDIRECT, task);                        \
            if (into_y)                                                                         \
                memcpy(y, x, n *size);                                                          \
            return;                                                                             \
        }                                                                                       \
        NAME##_run(sort, x, y, half, !into_y, task);                                            \
        NAME##_run(sort, x + half * size, y + half * size, n - half, !into_y, task);            \
        if (twill__after(sort->compare, from + (half - 1) * size, from + half * size, INDIRECT, \
                         task))                                                                 \
            twill__merge(sort->compare, from, from + half * size, from + half * size,           \
                         from + n * size, to, size, INDIRECT, task);                            \
        else                                                                                    \
            memcpy(to, from, n *size);                                                          \
    }                                                                                           \
    static void NAME##_piece(const twill__sort *sort, size_t begin, const twill_task *task)     \
    {                                                                                           \
        twill__merge_part(sort, begin, SIZE, INDIRECT, task);                                   \
    }

TWILL__DEFINE_SORT(twill__sort_4, 4, false)
TWILL__DEFINE_SORT(twill__sort_8, 8, false)
TWILL__DEFINE_SORT(twill__sort_16, 16, false)
TWILL__DEFINE_SORT(twill__sort_any, sort->size, false)
TWILL__DEFINE_SORT(twill__sort_far, sizeof(char *), true)

static inline void twill__sort_choose(twill__sort *sort)
{
    switch (sort->size) {
    case 4:
        sort->sort_run = twill__sort_4_run;
        sort->merge_piece = twill__sort_4_piece;
        break;
    case 8:
        sort->sort_run = twill__sort_8_run;
        sort->merge_piece = twill__sort_8_piece;
        break;
    case 16:
        sort->sort_run = twill__sort_16_run;
        sort->merge_piece = twill__sort_16_piece;
        break;
    default:
        sort->sort_run = sort->pointers ? twill__sort_far_run : twill__sort_any_run;
        sort->merge_piece = sort->pointers ? twill__sort_far_piece : twill__sort_any_piece;
    }
}

static inline size_t twill__sort_item(const twill__sort *sort)
{
    return sort->pointers ? sizeof(char *) : sort->size;
}

static inline void twill__sort_runs(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    twill__sort *sort = (twill__sort *)job->data;
    size_t size = twill__sort_item(sort), k = begin;
    for (; k < end && twill__block_may_run(job, k); k++) {
        size_t first = k * sort->run, n = sort->n - first < sort->run ? sort->n - first : sort->run;
        char *x = sort->from + first * size;
        task->index = first;
        if (sort->pointers)
            for (size_t i = 0; i < n; i++) {
                const char *item = sort->base + (first + i) * sort->size;
                memcpy(x + i * sizeof item, &item, sizeof item);
            }
        sort->sort_run(sort, x, sort->to + first * size, n, false, task);
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
        task->index = k * sort->run;
        sort->merge_piece(sort, task->index, task);
    }
    task->index = SIZE_MAX;
    job->slot[task->worker].said = 0;
    atomic_fetch_add_explicit(&sort->ended, k - begin,
                              memory_order_relaxed); /* read after the join */
}

/* Pointers are in order: the items follow them to spare, and then back. */
static inline void twill__sort_gather(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    const twill__sort *sort = (const twill__sort *)job->data;
    size_t last = end * sort->run < sort->n ? end * sort->run : sort->n;
    (void)task;
    for (size_t i = begin * sort->run; i < last; i++) {
        const char *item;
        memcpy(&item, sort->from + i * sizeof item, sizeof item);
        memcpy(sort->spare + i * sort->size, item, sort->size);
    }
}

static inline void twill__sort_return(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    const twill__sort *sort = (const twill__sort *)job->data;
    size_t first = begin * sort->run, last = end * sort->run < sort->n ? end * sort->run : sort->n;
    (void)task;
    memcpy(sort->base + first * sort->size, sort->spare + first * sort->size,
           (last - first) * sort->size);
}

/* Whether each pointer points to its own place: they were in order before. */
static inline bool twill__sort_in_place(const twill__sort *sort)
{
    for (size_t i = 0; i < sort->n; i++) {
        const char *item;
        memcpy(&item, sort->from + i * sizeof item, sizeof item);
        if (item != sort->base + i * sort->size)
            return false;
    }
    return true;
}

/* One pass over the runs or pieces. False: not all of it was done. */
static inline bool twill__sort_pass(twill__job *job, twill__sort *sort, twill__body_fn *body)
{
    twill__pass pass = {.n = sort->runs, .body = body, .data = sort, .parts = true};
    pass.unit = sort->run;
    pass.forced = sort->n >= 4096 && twill__was_shared(job);
    atomic_store_explicit(&sort->ended, 0,
                          memory_order_relaxed); /* nobody else is here; opening publishes */
    twill__run_pass(job, &pass);
    return atomic_load_explicit(&sort->ended, memory_order_relaxed) == sort->runs;
}

/* All items are in base again, in whatever order. */
static inline void twill__sort_put_back(twill__sort *sort)
{
    if (!sort->pointers && sort->from == sort->spare)
        memcpy(sort->base, sort->spare, sort->n * sort->size);
    sort->from = sort->base;
}

static inline bool twill__sort_all(twill__job *job, twill__sort *sort)
{
    if (!twill__sort_pass(job, sort, twill__sort_runs))
        return false;
    for (sort->width = sort->run; sort->width < sort->n;) {
        char *to = sort->to;
        if (!twill__sort_pass(job, sort, twill__sort_pieces))
            return false;
        sort->to = sort->from;
        sort->from = to;
        sort->width = sort->width > SIZE_MAX / 4 ? sort->n : sort->width * 2;
    }
    return true;
}

static inline void twill__sort_steps(twill__job *job, void *data)
{
    twill__sort *sort = (twill__sort *)data;
    if (!twill__sort_all(job, sort)) {
        twill__sort_put_back(sort);
        return;
    }
    if (sort->pointers && !twill__sort_in_place(sort)) {
        twill__pass pass = {
            .n = sort->runs, .body = twill__sort_gather, .data = sort, .parts = true};
        pass.unit = sort->run;
        twill__run_deaf(job, &pass, &sort->deaf);
        pass.body = twill__sort_return;
        twill__run_deaf(job, &pass, &sort->deaf);
    }
    job->slot[0].said = 0;
    job->slot[0].fail_index = SIZE_MAX;
    twill__range_end(job, &job->slot[0], SIZE_MAX, 0, sort->n, 0);
}

/* How many runs: a power of 4, so that the last level ends in base. One where nobody could help
   and nothing end it. */
static inline void twill__sort_cut(twill__sort *sort)
{
    const twill_run *run = &sort->options->run;
    unsigned np = twill__workers_for(run, sort->n);
    size_t runs = np <= 8 ? 64 : np <= 32 ? 256 : 1024;
    if (np == 1 && !run->until.cancel && !run->until.deadline)
        runs = 1;
    while (runs > 1 && sort->n / runs < 32)
        runs /= 4;
    sort->run = (sort->n - 1) / runs + 1;
    sort->runs = (sort->n - 1) / sort->run + 1;
}

static inline bool twill__sort_memory(twill__sort *sort, char *small, size_t small_size)
{
    size_t bytes = sort->n * sort->size, pointers = 0;
    if (sort->size > TWILL__SORT_INDIRECT)
        pointers = 2 * sort->n * sizeof(char *); /* fits: an item is larger than two pointers */
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
    sort->from = pointers ? small : sort->base;
    sort->to = pointers ? small + pointers / 2 : sort->spare;
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
    status = twill__run_call(&sort->options->run, sort->n, true, twill__sort_steps, sort);
    TWILL__GUARD_POP(0);
    if (sort->memory)
        TWILL_FREE(sort->memory);
    return status;
}

TWILL__DEFINE twill_status twill_parallel_sort(void *base, size_t n, size_t size,
                                               twill_compare_fn *compare,
                                               const twill_parallel_options *options)
{
    _Alignas(TWILL__LINE) char small[TWILL__SORT_SMALL];
    twill__sort sort;
    twill_status status = twill__items_check(base, size, n);
    options = sort.options = twill__parallel_options(options);
    sort.base = (char *)base;
    sort.n = n;
    sort.size = size;
    sort.compare = compare;
    sort.memory = NULL;
    sort.pointers = NULL;
    sort.from = sort.base;
    if (!compare || options->schedule || options->chunk || options->cost_of)
        status = TWILL_INVALID;
    if (status == TWILL_OK)
        status = twill__check_run(&options->run);
    if (status == TWILL_OK && n) {
        if (twill__sort_memory(&sort, small, sizeof small)) {
            twill__sort_choose(&sort);
            twill__sort_cut(&sort);
        } else {
            status = TWILL_NO_MEMORY;
        }
    }
    if (status != TWILL_OK)
        return twill__refuse(&options->run, n, status);
    return twill__sort_guarded(&sort);
}

#endif
