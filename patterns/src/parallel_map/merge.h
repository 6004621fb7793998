/* merge.h: what a sort does with its items, compiled anew for each kind of them, in C++ too. */
#ifndef TWILL__PARALLEL_MAP_MERGE_H
#define TWILL__PARALLEL_MAP_MERGE_H

#include "parallel_map/typed.h"

#define TWILL__SORT_LEAF     16 /* items sorted by merges of known length */
#define TWILL__SORT_STRIDE   16 /* items that are moved at once where the other side has none */
#define TWILL__SORT_INDIRECT 64 /* bytes of an item above which pointers are sorted */

typedef struct twill__sorting {
    twill_compare_fn *compare; /* NULL: it is compiled in */
    size_t size;               /* bytes of what is moved: an item, or a pointer to one */
    size_t n, run;             /* items; items a run, and a piece of a merge */
    size_t width;              /* items in each of the two runs of a merge */
    char *from, *to;           /* a merge's sides */
} twill__sorting;

/* Whether b, which stands behind a, belongs before it. */
typedef bool twill__after_fn(const twill__sorting *sort, const void *a, const void *b,
                             const twill_task *task);

/* What a sort needs of its items. run: sorts n items of x, with y as memory; the result is in y if
   into_y, else in x, and x holds all of them in any case. piece: the items begin .. begin + run - 1
   of a level's output. */
typedef struct twill__sorter {
    void (*run)(const twill__sorting *sort, char *x, char *y, size_t n, bool into_y,
                const twill_task *task);
    void (*piece)(const twill__sorting *sort, size_t begin, const twill_task *task);
} twill__sorter;

/* A call of memcpy would cost more than the copy. */
TWILL__INLINED void twill__copy_item(char *out, const char *in, size_t size)
{
    if (__builtin_constant_p(size)) {
        memcpy(out, in, size);
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

/* All bits if b belongs before a, else none. If a compiler knew that it is one of two, it might
   branch. */
TWILL__INLINED ptrdiff_t twill__after_mask(twill__after_fn *after, const twill__sorting *sort,
                                           const void *a, const void *b, const twill_task *task)
{
    ptrdiff_t right = -TWILL__CAST(ptrdiff_t, after(sort, a, b, task));
    __asm__("" : "+r"(right));
    return right;
}

/* The lower of *a and *b, which goes on behind it, becomes out. */
TWILL__INLINED void twill__take_low(twill__after_fn *after, const twill__sorting *sort,
                                    const char **a, const char **b, char *out, size_t size,
                                    const twill_task *task)
{
    ptrdiff_t right = twill__after_mask(after, sort, *a, *b, task);
    twill__copy_item(out, *a + ((*b - *a) & right), size);
    *b += TWILL__CAST(ptrdiff_t, size) & right;
    *a += TWILL__CAST(ptrdiff_t, size) & ~right;
}

/* The higher of what ends at *a and *b likewise. */
TWILL__INLINED void twill__take_high(twill__after_fn *after, const twill__sorting *sort,
                                     const char **a, const char **b, char *out, size_t size,
                                     const twill_task *task)
{
    ptrdiff_t left = twill__after_mask(after, sort, *a - size, *b - size, task);
    twill__copy_item(out, *b + ((*a - *b) & left) - size, size);
    *a -= TWILL__CAST(ptrdiff_t, size) & left;
    *b -= TWILL__CAST(ptrdiff_t, size) & ~left;
}

/* a .. a_end and b .. b_end become out. Both ends of it are written at once: two chains of loads
   and comparisons that do not wait for each other. The choice is arithmetic, since no branch
   predictor can know it. Items of one side that follow each other are moved many at a time. */
TWILL__INLINED void twill__merge(twill__after_fn *after, const twill__sorting *sort, const char *a,
                                 const char *a_end, const char *b, const char *b_end, char *out,
                                 size_t size, const twill_task *task)
{
    const size_t stride = TWILL__SORT_STRIDE * size;
    char *end = out + (a_end - a) + (b_end - b);
    while (a < a_end && b < b_end) {
        size_t a_left = TWILL__CAST(size_t, a_end - a), b_left = TWILL__CAST(size_t, b_end - b),
               steps;
        if (a_left >= stride && !after(sort, a + stride - size, b, task)) {
            memcpy(out, a, stride);
            a += stride;
            out += stride;
            continue;
        }
        if (b_left >= stride && after(sort, a, b + stride - size, task)) {
            memcpy(out, b, stride);
            b += stride;
            out += stride;
            continue;
        }
        /* each takes one at either end: the two never meet, whatever the comparison says */
        steps = (a_left < b_left ? a_left : b_left) / size / 2;
        if (steps > TWILL__SORT_STRIDE)
            steps = TWILL__SORT_STRIDE;
        for (size_t step = steps; step > 0; step--) {
            twill__take_low(after, sort, &a, &b, out, size, task);
            out += size;
            end -= size;
            twill__take_high(after, sort, &a_end, &b_end, end, size, task);
        }
        if (steps == 0) {
            twill__take_low(after, sort, &a, &b, out, size, task);
            out += size;
        }
    }
    if (a < a_end)
        memcpy(out, a, TWILL__CAST(size_t, a_end - a));
    else if (b < b_end)
        memcpy(out, b, TWILL__CAST(size_t, b_end - b));
}

/* Two sorted halves of a known length, from both ends: no step asks whether one of them is over. */
TWILL__INLINED void twill__merge_halves(twill__after_fn *after, const twill__sorting *sort,
                                        const char *in, char *out, size_t half, size_t size,
                                        const twill_task *task)
{
    const char *a = in, *b = in + half * size, *a_end = b, *b_end = b + half * size;
    char *to = out, *end = out + 2 * half * size;
    for (size_t step = 0; step < half; step++) {
        twill__take_low(after, sort, &a, &b, to, size, task);
        to += size;
        end -= size;
        twill__take_high(after, sort, &a_end, &b_end, end, size, task);
    }
    if (a != a_end) /* the comparison contradicts itself: yet no item may be lost */
        memcpy(out, in, 2 * half * size);
}

/* Fewer than a leaf. item: memory for one, as aligned as they are. */
TWILL__INLINED void twill__sort_few(twill__after_fn *after, const twill__sorting *sort, char *x,
                                    char *item, size_t n, size_t size, const twill_task *task)
{
    for (size_t i = 1; i < n; i++) {
        size_t at = i;
        if (!after(sort, x + (at - 1) * size, x + at * size, task))
            continue;
        twill__copy_item(item, x + at * size, size);
        do {
            twill__copy_item(x + at * size, x + (at - 1) * size, size);
            at--;
        } while (at > 0 && after(sort, x + (at - 1) * size, item, task));
        twill__copy_item(x + at * size, item, size);
    }
}

/* At most a leaf of x, with as many of y as memory; sorted in x. */
TWILL__INLINED void twill__sort_leaf(twill__after_fn *after, const twill__sorting *sort, char *x,
                                     char *y, size_t n, size_t size, const twill_task *task)
{
    size_t i = 1;
    if (n < TWILL__SORT_LEAF) {
        twill__sort_few(after, sort, x, y, n, size, task);
        return;
    }
    while (i < n && !after(sort, x + (i - 1) * size, x + i * size, task))
        i++;
    if (i == n)
        return;
    for (i = 0; i < n; i += 2) {
        const char *low = x + i * size, *high = low + size;
        ptrdiff_t swap =
            TWILL__CAST(ptrdiff_t, size) & twill__after_mask(after, sort, low, high, task);
        twill__copy_item(y + i * size, low + swap, size);
        twill__copy_item(y + (i + 1) * size, high - swap, size);
    }
    for (i = 0; i < n; i += 4)
        twill__merge_halves(after, sort, y + i * size, x + i * size, 2, size, task);
    for (i = 0; i < n; i += 8)
        twill__merge_halves(after, sort, x + i * size, y + i * size, 4, size, task);
    twill__merge_halves(after, sort, y, x, 8, size, task);
}

/* How many of the first d items of a merge come from a; lo and hi bound it, also where compare
   contradicts itself. */
TWILL__INLINED size_t twill__merge_split(twill__after_fn *after, const twill__sorting *sort,
                                         const char *a, const char *b, size_t d, size_t lo,
                                         size_t hi, size_t size, const twill_task *task)
{
    while (lo < hi) {
        size_t middle = lo + (hi - lo) / 2;
        if (after(sort, a + middle * size, b + (d - 1 - middle) * size, task))
            hi = middle;
        else
            lo = middle + 1;
    }
    return lo;
}

TWILL__INLINED void twill__merge_part(twill__after_fn *after, const twill__sorting *sort,
                                      size_t begin, size_t size, const twill_task *task)
{
    size_t first = begin / sort->width / 2 * 2 * sort->width, left = sort->n - first;
    size_t a_n = left < sort->width ? left : sort->width,
           b_n = left - a_n < sort->width ? left - a_n : sort->width;
    const char *a = sort->from + first * size, *b = a + a_n * size;
    size_t d = begin - first, d_end = a_n + b_n - d < sort->run ? a_n + b_n : d + sort->run, lo, hi;
    lo = twill__merge_split(after, sort, a, b, d, d > b_n ? d - b_n : 0, d < a_n ? d : a_n, size,
                            task);
    hi = d_end - d < a_n - lo ? lo + (d_end - d) : a_n;
    hi = twill__merge_split(after, sort, a, b, d_end,
                            d_end > b_n && d_end - b_n > lo ? d_end - b_n : lo, hi, size, task);
    twill__merge(after, sort, a + lo * size, a + hi * size, b + (d - lo) * size,
                 b + (d_end - hi) * size, sort->to + begin * size, size, task);
}

/* NAME_run and NAME_piece of a twill__sorter. */
#define TWILL__DEFINE_SORTER(NAME, AFTER, SIZE)                                                   \
    static void NAME##_run(const twill__sorting *sort_, char *x_, char *y_, size_t n_,            \
                           bool into_y_, const twill_task *task_)                                 \
    {                                                                                             \
        size_t size_ = (SIZE),                                                                    \
               half_ = (n_ / 2 + TWILL__SORT_LEAF - 1) / TWILL__SORT_LEAF * TWILL__SORT_LEAF;     \
        char *from_ = into_y_ ? x_ : y_, *to_ = into_y_ ? y_ : x_,                                \
             *middle_ = from_ + half_ * size_;                                                    \
        if (n_ <= TWILL__SORT_LEAF) {                                                             \
            twill__sort_leaf(AFTER, sort_, x_, y_, n_, size_, task_);                             \
            if (into_y_)                                                                          \
                memcpy(y_, x_, n_ *size_);                                                        \
            return;                                                                               \
        }                                                                                         \
        NAME##_run(sort_, x_, y_, half_, !into_y_, task_);                                        \
        NAME##_run(sort_, x_ + half_ * size_, y_ + half_ * size_, n_ - half_, !into_y_, task_);   \
        if (AFTER(sort_, middle_ - size_, middle_, task_))                                        \
            twill__merge(AFTER, sort_, from_, middle_, middle_, from_ + n_ * size_, to_, size_,   \
                         task_);                                                                  \
        else                                                                                      \
            memcpy(to_, from_, n_ *size_);                                                        \
    }                                                                                             \
    static void NAME##_piece(const twill__sorting *sort_, size_t begin_, const twill_task *task_) \
    {                                                                                             \
        twill__merge_part(AFTER, sort_, begin_, (SIZE), task_);                                   \
    }

#endif
