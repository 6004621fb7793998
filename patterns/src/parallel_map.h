/* twill_parallel_map.h - parallel loops and algorithms. SPDX-License-Identifier: MIT OR Unlicense

   Compile: cc -std=c11 -pthread. One .c file says `#define TWILL_IMPLEMENTATION` before it includes
   twill headers.

   WHAT IT IS FOR
   A loop whose items do not need one another: apply a function to n items, with the results where
   the serial loop would have put them; or reduce, filter, scan, search or sort n items. The caller
   takes part; threads come only when the work is worth them, so a small call costs the serial loop.

   WHEN NOT
   - Items that wait for one another: use a pipeline, or producer_consumer.
   - An input without an end, results as they come: fan_out_fan_in.
   - A loop over a few thousand additions: it stays serial here, too; write the plain loop.

   EXAMPLE:
   #define TWILL_IMPLEMENTATION
   #include "twill_parallel_map.h"
   #include <stdio.h>

   static int square(const void *in, void *out, const twill_task *task)
   {
       int number = *(const int *)in;
       (void)task;
       *(long *)out = (long)number * number;
       return 0;  // any other value fails the item, and with it the call
   }

   int main(void)
   {
       int numbers[100];
       long squares[100], sum = 0;
       for (int i = 0; i < 100; i++)
           numbers[i] = i;
       twill_status status = twill_parallel_map(numbers, sizeof *numbers, squares, sizeof *squares,
                                                100, square, NULL);
       for (int i = 0; i < 100; i++)
           sum += squares[i];
       printf("%s, sum %ld\n", twill_status_name(status), sum);
       return sum != 328350;
   }
   END OF EXAMPLE
   OUTPUT:
   TWILL_OK, sum 328350
   END OF OUTPUT

   WHICH FORM
     map        one input, one output an item        range    begin..end a call: the fastest
     for        an index                             tiles    rectangles of a grid
     invoke     a few different functions
     reduce     fold and combine                     scan     running sums
     filter     what a test wants, in order          find     the lowest match
     sort       stable
     TWILL_DEFINE_MAP, _REDUCE, _SCAN, _FILTER, _FIND, _SORT: with an expression compiled into the
                loop, no call an item: for cheap ones five to fifteen times as fast

   EXAMPLE:
   #define TWILL_IMPLEMENTATION
   #include "twill_parallel_map.h"
   #include <stdio.h>

   TWILL_DEFINE_REDUCE(sum_of_squares, int, long, x, (long)x * x, a, b, a + b, 0)
   TWILL_DEFINE_SCAN(running_sums, int, a, b, a + b)
   TWILL_DEFINE_FILTER(keep_odd, int, x, x % 2 == 1)
   TWILL_DEFINE_FIND(first_above, int, x, x > *(const int *)task->context)

   int main(void)
   {
       int numbers[100], sums[100], most = 1000;
       long squares = 0;
       size_t odd = 0, at = 0;
       twill_parallel_options options = {.run.context = &most};
       for (int i = 0; i < 100; i++)
           numbers[i] = i;
       if (sum_of_squares(numbers, 100, &squares, NULL) ||
           running_sums(numbers, sums, 100, NULL, NULL) ||
           first_above(sums, 100, &at, &options) || keep_odd(numbers, 100, numbers, &odd, NULL))
           return 1;
       printf("%ld; sums[%d] = %d; %d odd ones\n", squares, (int)at, sums[at], (int)odd);
       return 0;
   }
   END OF EXAMPLE
   OUTPUT:
   328350; sums[45] = 1035; 50 odd ones
   END OF OUTPUT

   HOW IT WORKS
   The caller runs the first items alone and times them, unless the loop was worth a pool's helpers
   a moment ago. Is the rest worth it, helpers come: of the pool in run.pool, else of the call
   around this one, else threads that the call starts and joins. Each works on a range of its own,
   in chunks that last about 10 us, and steals half of another's range when its own is done. Nobody
   waits for a thread that has not come in.

   OPTIONS (twill_parallel_options; NULL or zeroed: defaults)
     run          see twill_run: pool, workers, deadline and token, hooks, errors, report
     run.workers  0: as many as useful; set: all of them start before the first item (for items that
                  sleep or wait, and for few heavy items without a pool)
     schedule     AUTO; STATIC (same items on the same worker), DYNAMIC, GUIDED, COST
     chunk        items: AUTO, GUIDED never hand out fewer; DYNAMIC so many; 0: automatic;
                  STATIC and COST cut by themselves and ignore it
     cost_of      COST: the cost of an item in any unit; other schedules ignore it
     reduce       ordered: every schedule but COST; scan: AUTO or STATIC, sort: AUTO, both without
                  chunk and cost_of

   ERRORS
     TWILL_OK        every item has run; or a callback said twill_task_stop: all below it have
     TWILL_FAILED    an item failed. By default (LOWEST) report.first_error is what the serial loop
                     would have met first, for any number of threads, although the loop stops early
     TWILL_CANCELLED, TWILL_TIMEOUT   token or deadline ended it; running callbacks were waited for.
                 The deadline is looked at between items, after many of less than 0.2 us at every
                 eighth; in typed loops about every 10 us; in scan and sort between parts of a 64th
                 of the items, or of some 100. Once all has been tested or compared it comes too
                 late: filter's copies, and the last one of a sort, are made
     TWILL_INVALID   a NULL function, data, or size 0 with n > 0; in == out with other sizes; an
                     enum out of range; COST without cost_of; an option that the call cannot honour
     TWILL_TOO_BIG   n * size, or the number of tiles, does not fit size_t
     TWILL_NO_MEMORY no callback has run. TWILL_NO_THREAD: run.strict, nothing ran
     TWILL_FORKED    the pool was made before a fork. TWILL_CLOSED: its destroy has begun
   Not OK, and then: map and the loops have run some items (run.statuses says which); reduce, filter
   leave the result as it was; scan has written a part; find tells the lowest match that it saw;
   sort leaves the same items in some order.

   THREADS      Any thread may call, also inside callbacks. Callbacks run on several threads at
                once, at most one for an index. task->worker is 0..workers-1 and owned by the
                thread that runs: arrays by worker need no lock, but pad them to 128 bytes.
   ORDERING     What happened before the call is visible to every callback, and all that callbacks
                did after the return. With one worker: exactly the serial order (COST: by cost).
   BLOCKS       Until all callbacks have returned, also when it was cancelled.
   OWNERSHIP    All that is passed stays the caller's; nothing is kept.
   ALLOCATES    map, for, range, tiles, invoke, find: nothing up to 64 workers. reduce: nothing
                while the accumulators take 4 KiB; at most 1 MiB of them at once, or 16 a worker.
                filter: a bit an item, nothing up to 16384. scan: 256 elements. sort: n * size
                bytes, and two pointers an item above 64 bytes. All before the first callback.
   STACK        A call takes 6 KiB of the caller's stack, 25 KiB with more than 8 workers, 12 KiB
                more with COST; nested calls add up. stack_size should leave room for that.
   NESTING      A call inside a callback uses the threads of the outer call, or of the pool whose
                task that is; with run.workers set, threads of its own. It waits only for its own
                items, so locks held across it are safe, and a pool of one thread is enough.

   PITFALLS
   - A few heavy items without a pool: the first one runs alone, to be timed. Set run.workers.
   - A loop that was cheap a moment ago and is dear now (same function, same n): helpers come after
     a quarter of a worker's share. Set run.workers where single calls may be dear.
   - Neighbouring results of a few bytes share a cache line; large chunks make that rare, DYNAMIC
     with chunk 1 makes it common.
   - Floating-point sums: reduce gives the same bits for every number of threads, but not those of
     the plain loop. unordered gives neither.
   - A callback that never returns: the call does not, either. Poll twill_task_cancelled.
   - fork in a callback: the child is that thread alone. If it is the caller's, the call goes on
     there without the others' items (TWILL_FORKED). If it is a helper, it goes on with its own part
     of the items, and then the process ends: let the child exec or _exit.
   - thrd_exit in a callback: the item is LOST, the call carries on (with more than 2^32 items what
     was left of its chunk is skipped, and counted so). longjmp out of one: undefined.
   - twill_task_stop in compare ends the sort: TWILL_OK, the items in some order. In a range form,
     in fold and in a scan it takes effect at the end of the range. */
#include "base/base.h"

#ifndef TWILL_PARALLEL_MAP_H
#define TWILL_PARALLEL_MAP_H

#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum twill_schedule {
    /* the caller begins alone; then chunks sized by measured time, and idle workers steal */
    TWILL_SCHEDULE_AUTO = 0,
    TWILL_SCHEDULE_STATIC,  /* one part a worker; the first n % w parts are one item longer */
    TWILL_SCHEDULE_DYNAMIC, /* `chunk` items a claim, in index order; chunk 0 = 1 */
    TWILL_SCHEDULE_GUIDED,  /* remaining/(2w) items a claim, never below `chunk` */
    TWILL_SCHEDULE_COST     /* cuts of equal cost, the dearest first; needs `cost_of` */
} twill_schedule;

/* How to run it. NULL or zeroed: threads where the work is worth them, the serial loop's error. */
typedef struct twill_parallel_options {
    twill_run run;
    twill_schedule schedule;
    size_t chunk; /* items; AUTO, GUIDED: never fewer a claim; DYNAMIC: so many; 0: automatic */
    /* COST: called once an item, on the calling thread, before the first item runs; any unit; 0
       counts as 1, sums saturate */
    uint64_t (*cost_of)(size_t index, const twill_task *task);
} twill_parallel_options;

typedef int twill_for_fn(const twill_task *task); /* the index is task->index */
typedef int twill_range_fn(size_t begin, size_t end, const twill_task *task);
typedef int twill_tile_fn(size_t row, size_t row_end, size_t col, size_t col_end,
                          const twill_task *task);
typedef bool twill_test_fn(const void *item, const twill_task *task);
/* Below, equal or above 0, as for qsort. It must give the same answer every time. */
typedef int twill_compare_fn(const void *a, const void *b, const twill_task *task);
/* left <- left (+) right. Associative is enough. right may be moved out of: nobody reads it
   again. */
typedef int twill_combine_fn(void *left, void *right, const twill_task *task);

typedef struct twill_reducer {
    size_t size; /* bytes of one accumulator; it must survive a memcpy to another place */
    /* Makes an empty one. NULL: all bytes zero. */
    int (*identity)(void *acc, const twill_task *task);
    /* Adds the items begin..end-1. */
    int (*fold)(void *acc, size_t begin, size_t end, const twill_task *task);
    twill_combine_fn *combine;
    /* NULL, or called once for each accumulator but the result: after combine for its right one,
       and for all of them when the call does not succeed (in a forked child: for those that no
       helper was at). */
    void (*dispose)(void *acc, const twill_task *task);
    bool unordered; /* one accumulator a worker; combine must commute; bits differ between runs */
    size_t blocks;  /* ordered: fixed cuts; 0: 32, from 1024 items on 64, from 16384 on 256 */
} twill_reducer;

/* ---- loops ---- */

/* out[i] = fn(in[i]) for n items of in_size and out_size bytes; task->index is i. in may be out
   if the sizes are equal; else they must not overlap. Blocks until all is done; the caller takes
   part. Any thread, also inside callbacks. TWILL_OK; FAILED, CANCELLED, TIMEOUT: run.report says
   how far; refusals (nothing ran): INVALID, TOO_BIG, NO_THREAD, NO_MEMORY, FORKED, CLOSED. The
   same holds for all functions below. */
TWILL__DECL twill_status twill_parallel_map(const void *in, size_t in_size, void *out,
                                            size_t out_size, size_t n, twill_map_fn *fn,
                                            const twill_parallel_options *options);

/* fn for each index 0..n-1. Every n is valid, SIZE_MAX too. */
TWILL__DECL twill_status twill_parallel_for(size_t n, twill_for_fn *fn,
                                            const twill_parallel_options *options);

/* fn for ranges that make up 0..n-1: the fastest form, one call a chunk. task->index is `begin`. A
   range that returns a code fails as one item: the one of twill_task_fail, else its first; those
   below it count done, those above skipped. */
TWILL__DECL twill_status twill_parallel_range(size_t n, twill_range_fn *fn,
                                              const twill_parallel_options *options);

/* fn for the tiles of a grid; a tile counts as one item, and its index grows row by row. A tile
   size of 0 is chosen by rows and cols: 64 at most, and so that there are some 256 tiles. Tiles
   at the far edges may be smaller. */
TWILL__DECL twill_status twill_parallel_tiles(size_t rows, size_t cols, size_t tile_rows,
                                              size_t tile_cols, twill_tile_fn *fn,
                                              const twill_parallel_options *options);

/* Calls n different functions; task->index says which one it is. Helpers are called at once: each
   function should be worth a thread (60 us), or, on a pool, a wake (3 us). */
TWILL__DECL twill_status twill_parallel_invoke(twill_for_fn *const *fns, size_t n,
                                               const twill_parallel_options *options);

/* ---- algorithms ---- */

/* Folds n items into *result. Ordered (the default): the same cuts and the same tree of combines,
   so the same bits on 1 or 64 threads. *result is written only when the answer is TWILL_OK. n ==
   0: the identity. A combine that fails is told as the first item of its right operand. */
TWILL__DECL twill_status twill_parallel_reduce(size_t n, const twill_reducer *reducer, void *result,
                                               const twill_parallel_options *options);

/* out[i] = in[0] (+) ... (+) in[i]. With `start`: out[i] = start (+) in[0] (+) ... (+) in[i-1]. out
   may be in (but not overlap it otherwise). Not OK: out is written in part. AUTO combines an item
   once or twice, in cuts that depend on time: combine should be exactly associative, or last bits
   vary. STATIC: fixed cuts, the same bits for every number of threads, and each item twice. */
TWILL__DECL twill_status twill_parallel_scan(const void *in, void *out, size_t size, size_t n,
                                             const void *start, twill_combine_fn *combine,
                                             const twill_parallel_options *options);

/* Copies the items that `keep` wants, in order, to out, which needs room for those only and may
   be in (but not overlap it otherwise). out NULL: counts only. keep is called once an item. Not
   OK: out is unchanged, *out_n is 0. After twill_task_stop: what was kept up to that item. */
TWILL__DECL twill_status twill_parallel_filter(const void *in, size_t size, size_t n, void *out,
                                               size_t *out_n, twill_test_fn *keep,
                                               const twill_parallel_options *options);

/* *index: the LOWEST item that matches, n: none. Items above it need not run. Not OK: the lowest
   match that was seen. */
TWILL__DECL twill_status twill_parallel_find(const void *in, size_t size, size_t n, size_t *index,
                                             twill_test_fn *match,
                                             const twill_parallel_options *options);

/* Sorts, stable, with n * size bytes of memory, and 2 pointers an item above 64 bytes. Not OK: base
   holds the same items in some order (but if compare ends its thread, or forks). schedule, chunk
   and cost_of must be zero. */
TWILL__DECL twill_status twill_parallel_sort(void *base, size_t n, size_t size,
                                             twill_compare_fn *compare,
                                             const twill_parallel_options *options);

/* ---- typed forms ---- */

/* Each defines a function like one of those above, with an expression compiled into its loop: no
   call an item. Items that fail there are none; all else is as above. An expression may use `task`,
   that of the range: task->context, task->worker_state; task->index is its first item, and a
   twill_task_stop takes effect at its end. */
#include "parallel_map/merge.h"
#include "parallel_map/typed.h"

/* TWILL_DEFINE_MAP(squares, int, int64_t, x, (int64_t)x * x) defines
       static twill_status squares(const int *in, int64_t *out, size_t n,
                                   const twill_parallel_options *options); */
#define TWILL_DEFINE_MAP(NAME, IN, OUT, VAR, EXPR)                                                 \
    struct NAME##_call {                                                                           \
        IN const *in;                                                                              \
        OUT *out;                                                                                  \
    };                                                                                             \
    static int NAME##_range(const void *call_, size_t begin_, size_t end_, const twill_task *task) \
    {                                                                                              \
        IN const *in_ = TWILL__CAST(const struct NAME##_call *, call_)->in;                        \
        OUT *out_ = TWILL__CAST(const struct NAME##_call *, call_)->out;                           \
        (void)task;                                                                                \
        for (size_t i_ = begin_; i_ < end_; i_++) {                                                \
            IN const VAR = in_[i_];                                                                \
            out_[i_] = (EXPR);                                                                     \
        }                                                                                          \
        return 0;                                                                                  \
    }                                                                                              \
    static inline twill_status NAME(IN const *in_, OUT *out_, size_t n_,                           \
                                    const twill_parallel_options *options_)                        \
    {                                                                                              \
        struct NAME##_call call_;                                                                  \
        call_.in = in_;                                                                            \
        call_.out = out_;                                                                          \
        const void *from_ = in_, *to_ = out_;                                                      \
        const bool valid_ = from_ && to_ && (from_ != to_ || sizeof(IN) == sizeof(OUT));           \
        return twill__parallel_typed(n_, valid_ ? NAME##_range : NULL, &call_, options_);          \
    }

/* TWILL_DEFINE_REDUCE(sum_of_squares, int, int64_t, x, (int64_t)x * x, a, b, a + b, 0) defines
       static twill_status sum_of_squares(const int *in, size_t n, int64_t *result,
                                          const twill_parallel_options *options);
   VALUE is that of one item, EXPR combines two values (associative is enough: a stands before b),
   NONE is the result where n is 0. Ordered: the same bits on any number of threads. Inside a block
   eight parts are folded side by side, for speed: other bits than those of a plain loop. */
#define TWILL_DEFINE_REDUCE(NAME, IN, OUT, VAR, VALUE, A, B, EXPR, NONE)                       \
    TWILL__DEFINE_FOLD(NAME, IN, OUT, VAR, (VALUE), A, B, (EXPR))                              \
    static int NAME##_none(void *acc_, const twill_task *task)                                 \
    {                                                                                          \
        OUT *to_ = TWILL__CAST(OUT *, acc_);                                                   \
        (void)task;                                                                            \
        *to_ = (NONE);                                                                         \
        return 0;                                                                              \
    }                                                                                          \
    static inline twill_status NAME(IN const *in_, size_t n_, OUT *result_,                    \
                                    const twill_parallel_options *options_)                    \
    {                                                                                          \
        static const twill_reducer reducer_ = {sizeof(OUT), NAME##_none, NULL, NAME##_combine, \
                                               NULL,        false,       0};                   \
        return twill__parallel_reduced(n_, &reducer_, in_, sizeof(IN), NAME##_fold, result_,   \
                                       options_);                                              \
    }

/* TWILL_DEFINE_SCAN(running_sums, int, a, b, a + b) defines
       static twill_status running_sums(const int *in, int *out, size_t n, const int *start,
                                        const twill_parallel_options *options);
   EXPR combines two elements, a standing before b. */
#define TWILL_DEFINE_SCAN(NAME, TYPE, A, B, EXPR)                                               \
    TWILL__DEFINE_FOLD(NAME, TYPE, TYPE, item_, item_, A, B, (EXPR))                            \
    TWILL__DEFINE_WRITE(NAME, TYPE)                                                             \
    static inline twill_status NAME(TYPE const *in_, TYPE *out_, size_t n_, TYPE const *start_, \
                                    const twill_parallel_options *options_)                     \
    {                                                                                           \
        return twill__parallel_scanned(in_, out_, sizeof(TYPE), n_, start_, NAME##_combine,     \
                                       NAME##_fold, NAME##_write, options_);                    \
    }

/* TWILL_DEFINE_FILTER(keep_even, int, x, x % 2 == 0) defines
       static twill_status keep_even(const int *in, size_t n, int *out, size_t *out_n,
                                     const twill_parallel_options *options); */
#define TWILL_DEFINE_FILTER(NAME, TYPE, VAR, EXPR)                                              \
    TWILL__DEFINE_TEST(NAME, TYPE, VAR, (EXPR))                                                 \
    static void NAME##_mark(const void *items_, size_t n_, uint64_t *words_,                    \
                            const twill_task *task_)                                            \
    {                                                                                           \
        TYPE const *in_ = TWILL__CAST(TYPE const *, items_);                                    \
        unsigned char kept_[64];                                                                \
        for (; n_ >= 64; n_ -= 64, in_ += 64) {                                                 \
            for (unsigned k_ = 0; k_ < 64; k_++)                                                \
                kept_[k_] = NAME##_is(in_[k_], task_);                                          \
            *words_++ = twill__word_of(kept_);                                                  \
        }                                                                                       \
        if (n_) {                                                                               \
            uint64_t word_ = 0;                                                                 \
            for (size_t k_ = 0; k_ < n_; k_++)                                                  \
                word_ |= TWILL__CAST(uint64_t, NAME##_is(in_[k_], task_)) << k_;                \
            *words_ = word_;                                                                    \
        }                                                                                       \
    }                                                                                           \
    static inline twill_status NAME(TYPE const *in_, size_t n_, TYPE *out_, size_t *out_n_,     \
                                    const twill_parallel_options *options_)                     \
    {                                                                                           \
        return twill__parallel_filtered(in_, sizeof(TYPE), n_, out_, out_n_, NULL, NAME##_mark, \
                                        options_);                                              \
    }

/* TWILL_DEFINE_FIND(first_negative, int, x, x < 0) defines
       static twill_status first_negative(const int *in, size_t n, size_t *index,
                                          const twill_parallel_options *options);
   EXPR may be asked twice of an item, and of some above the match. */
#define TWILL_DEFINE_FIND(NAME, TYPE, VAR, EXPR)                                                   \
    TWILL__DEFINE_TEST(NAME, TYPE, VAR, (EXPR))                                                    \
    static size_t NAME##_first(const void *items_, size_t i_, size_t end_,                         \
                               const twill_task *task_)                                            \
    {                                                                                              \
        TYPE const *in_ = TWILL__CAST(TYPE const *, items_);                                       \
        for (; end_ - i_ >= TWILL__FIND_STRIDE; i_ += TWILL__FIND_STRIDE) {                        \
            unsigned any_ = 0;                                                                     \
            for (unsigned k_ = 0; k_ < TWILL__FIND_STRIDE; k_++)                                   \
                any_ |= NAME##_is(in_[i_ + k_], task_);                                            \
            if (any_)                                                                              \
                break;                                                                             \
        }                                                                                          \
        while (i_ < end_ && !NAME##_is(in_[i_], task_))                                            \
            i_++;                                                                                  \
        return i_;                                                                                 \
    }                                                                                              \
    static inline twill_status NAME(TYPE const *in_, size_t n_, size_t *index_,                    \
                                    const twill_parallel_options *options_)                        \
    {                                                                                              \
        return twill__parallel_found(in_, sizeof(TYPE), n_, index_, NULL, NAME##_first, options_); \
    }

/* TWILL_DEFINE_SORT(sort_by_age, person, a, b, a.age < b.age) defines
       static twill_status sort_by_age(person *base, size_t n,
                                       const twill_parallel_options *options);
   EXPR says whether a belongs before b. */
#define TWILL_DEFINE_SORT(NAME, TYPE, A, B, EXPR)                                                 \
    TWILL__INLINED bool NAME##_after(const twill__sorting *sort_, const void *a_, const void *b_, \
                                     const twill_task *task)                                      \
    {                                                                                             \
        const bool far_ = sizeof(TYPE) > TWILL__SORT_INDIRECT;                                    \
        TYPE const A =                                                                            \
            *TWILL__CAST(TYPE const *, far_ ? *TWILL__CAST(const void *const *, b_) : b_);        \
        TYPE const B =                                                                            \
            *TWILL__CAST(TYPE const *, far_ ? *TWILL__CAST(const void *const *, a_) : a_);        \
        (void)sort_;                                                                              \
        (void)task;                                                                               \
        return (EXPR);                                                                            \
    }                                                                                             \
    TWILL__DEFINE_SORTER(NAME, NAME##_after,                                                      \
                         sizeof(TYPE) > TWILL__SORT_INDIRECT ? sizeof(char *) : sizeof(TYPE))     \
    static inline twill_status NAME(TYPE *base_, size_t n_,                                       \
                                    const twill_parallel_options *options_)                       \
    {                                                                                             \
        static const twill__sorter sorter_ = {NAME##_run, NAME##_piece};                          \
        return twill__parallel_sorted(base_, n_, sizeof(TYPE), &sorter_, NULL, options_);         \
    }

/* For the macros above. */
TWILL__DECL twill_status twill__parallel_typed(size_t n, twill__typed_fn *fn, const void *call,
                                               const twill_parallel_options *options);
TWILL__DECL twill_status twill__parallel_reduced(size_t n, const twill_reducer *reducer,
                                                 const void *in, size_t size, twill__fold_fn *fold,
                                                 void *result,
                                                 const twill_parallel_options *options);
TWILL__DECL twill_status twill__parallel_scanned(const void *in, void *out, size_t size, size_t n,
                                                 const void *start, twill_combine_fn *combine,
                                                 twill__fold_fn *fold, twill__write_fn *write,
                                                 const twill_parallel_options *options);
TWILL__DECL twill_status twill__parallel_filtered(const void *in, size_t size, size_t n, void *out,
                                                  size_t *out_n, twill_test_fn *keep,
                                                  twill__mark_fn *mark,
                                                  const twill_parallel_options *options);
TWILL__DECL twill_status twill__parallel_found(const void *in, size_t size, size_t n, size_t *index,
                                               twill_test_fn *match, twill__first_fn *first,
                                               const twill_parallel_options *options);
TWILL__DECL twill_status twill__parallel_sorted(void *base, size_t n, size_t size,
                                                const twill__sorter *sorter,
                                                twill_compare_fn *compare,
                                                const twill_parallel_options *options);

#ifdef __cplusplus
}
#endif
#endif

#ifdef TWILL_IMPLEMENTATION
#ifndef TWILL__PARALLEL_MAP_IMPL
#define TWILL__PARALLEL_MAP_IMPL

#include "parallel_map/loops.h"
#include "parallel_map/reduce.h"
#include "parallel_map/filter.h"
#include "parallel_map/scan.h"
#include "parallel_map/sort.h"

#endif
#endif
