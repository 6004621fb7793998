/* typed.h: what the typed forms give to the library: loops with the user's expression compiled in,
   in C++ too. */
#ifndef TWILL__PARALLEL_MAP_TYPED_H
#define TWILL__PARALLEL_MAP_TYPED_H

#include "base/base.h"

/* Where nothing else is inlined (-fno-inline) gcc may learn too late which function one of these is
   given, and then refuses the call. */
#ifdef __NO_INLINE__
#define TWILL__INLINED static inline
#else
#define TWILL__INLINED static inline __attribute__((always_inline))
#endif

/* map: the items begin..end-1. call: the macro's, so that task->context stays the user's. */
typedef int twill__typed_fn(const void *call, size_t begin, size_t end, const twill_task *task);

/* find: the first match of begin..end-1, or end. */
typedef size_t twill__first_fn(const void *items, size_t begin, size_t end, const twill_task *task);

/* filter: a bit an item, 64 a word, the first one's lowest; n > 0. */
typedef void twill__mark_fn(const void *items, size_t n, uint64_t *words, const twill_task *task);

/* reduce, scan: *acc becomes the items begin..end-1, of which there is one at least; or, more: what
   it was (+) the items. */
typedef void twill__fold_fn(const void *items, size_t begin, size_t end, void *acc, bool more,
                            const twill_task *task);

/* scan: writes begin..end-1. acc: all in front of them (nothing is, if an inclusive scan begins at
   0), then with them. */
typedef void twill__write_fn(const void *in, void *out, size_t begin, size_t end, void *acc,
                             bool inclusive, const twill_task *task);

/* find looks at so many items before it branches: a compiler makes one comparison of several. A
   call's first items, which are timed, are fewer. */
#define TWILL__FIND_STRIDE 32

/* VALUE, EXPR: in parentheses, here and below, since they are arguments twice and may hold commas.
   NAME_value, of an item; NAME_both, of two values; and a twill_combine_fn and a twill__fold_fn of
   them. Eight parts of the range are folded at once, so that an addition need not wait for the
   one before it, and then combined in their order. */
#define TWILL__DEFINE_FOLD(NAME, IN, OUT, VAR, VALUE, A, B, EXPR)                               \
    TWILL__INLINED OUT NAME##_value(IN const VAR, const twill_task *task)                       \
    {                                                                                           \
        (void)VAR;                                                                              \
        (void)task;                                                                             \
        return VALUE;                                                                           \
    }                                                                                           \
    TWILL__INLINED OUT NAME##_both(OUT const A, OUT const B, const twill_task *task)            \
    {                                                                                           \
        (void)A;                                                                                \
        (void)B;                                                                                \
        (void)task;                                                                             \
        return EXPR;                                                                            \
    }                                                                                           \
    static int NAME##_combine(void *left_, void *right_, const twill_task *task_)               \
    {                                                                                           \
        OUT *acc_ = TWILL__CAST(OUT *, left_);                                                  \
        *acc_ = NAME##_both(*acc_, *TWILL__CAST(OUT const *, right_), task_);                   \
        return 0;                                                                               \
    }                                                                                           \
    TWILL__INLINED OUT NAME##_more(OUT const acc_, IN const *in_, const twill_task *task_)      \
    {                                                                                           \
        return NAME##_both(acc_, NAME##_value(*in_, task_), task_);                             \
    }                                                                                           \
    TWILL__INLINED OUT NAME##_folded(IN const *in_, size_t n_, const twill_task *task_)         \
    {                                                                                           \
        size_t part_ = n_ / 8, i_ = 1;                                                          \
        IN const *b_ = in_ + part_;                                                             \
        IN const *c_ = b_ + part_;                                                              \
        IN const *d_ = c_ + part_;                                                              \
        IN const *e_ = d_ + part_;                                                              \
        IN const *f_ = e_ + part_;                                                              \
        IN const *g_ = f_ + part_;                                                              \
        IN const *h_ = g_ + part_;                                                              \
        OUT of_a_ = NAME##_value(*in_, task_);                                                  \
        if (part_ < 2) {                                                                        \
            for (; i_ < n_; i_++)                                                               \
                of_a_ = NAME##_more(of_a_, in_ + i_, task_);                                    \
            return of_a_;                                                                       \
        }                                                                                       \
        OUT of_b_ = NAME##_value(*b_, task_);                                                   \
        OUT of_c_ = NAME##_value(*c_, task_);                                                   \
        OUT of_d_ = NAME##_value(*d_, task_);                                                   \
        OUT of_e_ = NAME##_value(*e_, task_);                                                   \
        OUT of_f_ = NAME##_value(*f_, task_);                                                   \
        OUT of_g_ = NAME##_value(*g_, task_);                                                   \
        OUT of_h_ = NAME##_value(*h_, task_);                                                   \
        for (; i_ < part_; i_++) {                                                              \
            of_a_ = NAME##_more(of_a_, in_ + i_, task_);                                        \
            of_b_ = NAME##_more(of_b_, b_ + i_, task_);                                         \
            of_c_ = NAME##_more(of_c_, c_ + i_, task_);                                         \
            of_d_ = NAME##_more(of_d_, d_ + i_, task_);                                         \
            of_e_ = NAME##_more(of_e_, e_ + i_, task_);                                         \
            of_f_ = NAME##_more(of_f_, f_ + i_, task_);                                         \
            of_g_ = NAME##_more(of_g_, g_ + i_, task_);                                         \
            of_h_ = NAME##_more(of_h_, h_ + i_, task_);                                         \
        }                                                                                       \
        for (i_ = 8 * part_; i_ < n_; i_++)                                                     \
            of_h_ = NAME##_more(of_h_, in_ + i_, task_);                                        \
        of_a_ = NAME##_both(NAME##_both(of_a_, of_b_, task_), NAME##_both(of_c_, of_d_, task_), \
                            task_);                                                             \
        of_e_ = NAME##_both(NAME##_both(of_e_, of_f_, task_), NAME##_both(of_g_, of_h_, task_), \
                            task_);                                                             \
        return NAME##_both(of_a_, of_e_, task_);                                                \
    }                                                                                           \
    static void NAME##_fold(const void *items_, size_t begin_, size_t end_, void *acc_,         \
                            bool more_, const twill_task *task_)                                \
    {                                                                                           \
        OUT *to_ = TWILL__CAST(OUT *, acc_);                                                    \
        OUT const sum_ =                                                                        \
            NAME##_folded(TWILL__CAST(IN const *, items_) + begin_, end_ - begin_, task_);      \
        *to_ = more_ ? NAME##_both(*to_, sum_, task_) : sum_;                                   \
    }

/* A twill__write_fn. */
#define TWILL__DEFINE_WRITE(NAME, TYPE)                                                  \
    static void NAME##_write(const void *items_, void *results_, size_t i_, size_t end_, \
                             void *acc_, bool inclusive_, const twill_task *task_)       \
    {                                                                                    \
        TYPE const *in_ = TWILL__CAST(TYPE const *, items_);                             \
        TYPE *out_ = TWILL__CAST(TYPE *, results_);                                      \
        TYPE sum_ = inclusive_ && i_ == 0 ? in_[0] : *TWILL__CAST(TYPE const *, acc_);   \
        if (inclusive_ && i_ == 0)                                                       \
            out_[i_++] = sum_;                                                           \
        if (inclusive_) {                                                                \
            for (; i_ < end_; i_++)                                                      \
                out_[i_] = sum_ = NAME##_both(sum_, in_[i_], task_);                     \
        } else {                                                                         \
            for (; i_ < end_; i_++) {                                                    \
                TYPE const item_ = in_[i_];                                              \
                out_[i_] = sum_;                                                         \
                sum_ = NAME##_both(sum_, item_, task_);                                  \
            }                                                                            \
        }                                                                                \
        *TWILL__CAST(TYPE *, acc_) = sum_;                                               \
    }

/* NAME_is, of an item: 1 or 0. No bool: gcc makes no vectors of those. */
#define TWILL__DEFINE_TEST(NAME, TYPE, VAR, EXPR)                                  \
    TWILL__INLINED unsigned char NAME##_is(TYPE const VAR, const twill_task *task) \
    {                                                                              \
        (void)VAR;                                                                 \
        (void)task;                                                                \
        return TWILL__CAST(unsigned char, EXPR ? 1 : 0);                           \
    }

/* 64 bytes, each 0 or 1, as one word: the multiplication gathers eight of them in its top byte. */
TWILL__INLINED uint64_t twill__word_of(const unsigned char *bytes)
{
#if defined __BYTE_ORDER__ && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    const uint64_t gather = 0x8040201008040201u;
#else
    const uint64_t gather = 0x0102040810204080u;
#endif
    uint64_t word = 0;
    for (unsigned k = 0; k < 64; k += 8) {
        uint64_t eight;
        memcpy(&eight, bytes + k, 8);
        word |= eight * gather >> 56 << k;
    }
    return word;
}

#endif
