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
     invoke     a few different functions            TWILL_DEFINE_MAP   the body inside the loop
     reduce     fold and combine                     scan     running sums
     filter     what a test wants, in order          find     the lowest match
     sort       stable

   HOW IT WORKS
   The caller runs the first items alone and times them. Is the rest worth it, helpers come: of the
   pool in run.pool, else of the call around this one, else threads that the call starts and joins.
   Each works on a range of its own, in chunks that last about 10 us, and steals half of another's
   range when its own is done. Nobody waits for a thread that has not come in.

   OPTIONS (twill_parallel_options; NULL or zeroed: defaults)
     run          see twill_run: pool, workers, deadline and token, hooks, errors, report
     run.workers  0: as many as useful; set: all of them start before the first item (for items that
                  sleep or wait, and for few heavy items without a pool)
     schedule     AUTO; STATIC (same items on the same worker), DYNAMIC, GUIDED, COST
     chunk        items: AUTO, GUIDED never hand out fewer; DYNAMIC so many; 0: automatic
     cost_of      COST: the cost of an item in any unit
     reduce       ordered: every schedule but COST; scan: AUTO or STATIC, sort: AUTO, without chunk

   ERRORS
     TWILL_OK        every item has run; or a callback said twill_task_stop: all below it have
     TWILL_FAILED    an item failed. By default (LOWEST) report.first_error is what the serial loop
                     would have met first, for any number of threads, although the loop stops early
     TWILL_CANCELLED, TWILL_TIMEOUT   token or deadline ended it; running callbacks were waited for
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
                bytes, and two pointers an item above 32 bytes. All before the first callback.
   NESTING      A call inside a callback uses the threads of the outer call. It waits only for its
                own items, so locks held across it are safe, and a pool of one thread is enough.

   PITFALLS
   - A few heavy items without a pool: the first one runs alone, to be timed. Set run.workers.
   - Neighbouring results of a few bytes share a cache line; large chunks make that rare, DYNAMIC
     with chunk 1 makes it common.
   - Floating-point sums: reduce gives the same bits for every number of threads, but not those of
     the plain loop. unordered gives neither.
   - A callback that never returns: the call does not, either. Poll twill_task_cancelled.
   - thrd_exit in a callback: the item is LOST, the call carries on. longjmp out of one: undefined.
   - twill_task_stop in compare ends the sort: TWILL_OK, the items in some order. In a range form,
     in fold and in a scan it takes effect at the end of the range. */
#include "base/base.h"

#ifndef TWILL_PARALLEL_MAP_H
#define TWILL_PARALLEL_MAP_H

#ifdef __cplusplus
extern "C" {
#endif

typedef enum twill_schedule {
    /* the caller begins alone; then chunks sized by measured time, and idle workers steal */
    TWILL_SCHEDULE_AUTO = 0,
    TWILL_SCHEDULE_STATIC,  /* worker k of w gets [k*n/w, (k+1)*n/w): sizes differ by at most 1 */
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
       and for all of them when the call does not succeed. */
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
   may be in. Not OK: out is written in part. AUTO combines an item once or twice, in cuts that
   depend on time: combine should be exactly associative, or last bits vary. STATIC: fixed cuts, the
   same bits for every number of threads, and each item twice. */
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

/* Sorts, stable, with n * size bytes of memory, and 2 pointers an item above 32 bytes. Not OK: base
   holds the same items in some order (but if compare ends its thread). schedule, chunk and cost_of
   must be zero. */
TWILL__DECL twill_status twill_parallel_sort(void *base, size_t n, size_t size,
                                             twill_compare_fn *compare,
                                             const twill_parallel_options *options);

/* ---- typed map ---- */

/* TWILL_DEFINE_MAP(squares, int, int64_t, x, (int64_t)x * x) defines
       static twill_status squares(const int *in, int64_t *out, size_t n,
                                   const twill_parallel_options *options);
   whose body is compiled into the loop: no call an item. EXPR may use `task`, that of the chunk:
   task->context, task->worker_state; task->index is the chunk's first item. */
#define TWILL_DEFINE_MAP(NAME, IN, OUT, VAR, EXPR)                                                 \
    struct NAME##_call {                                                                           \
        const IN *in;                                                                              \
        OUT *out;                                                                                  \
    };                                                                                             \
    static int NAME##_range(const void *call_, size_t begin_, size_t end_, const twill_task *task) \
    {                                                                                              \
        const IN *in_ = ((const struct NAME##_call *)call_)->in;                                   \
        OUT *out_ = ((const struct NAME##_call *)call_)->out;                                      \
        (void)task;                                                                                \
        for (size_t i_ = begin_; i_ < end_; i_++) {                                                \
            const IN VAR = in_[i_];                                                                \
            out_[i_] = (EXPR);                                                                     \
        }                                                                                          \
        return 0;                                                                                  \
    }                                                                                              \
    static inline twill_status NAME(const IN *in_, OUT *out_, size_t n_,                           \
                                    const twill_parallel_options *options_)                        \
    {                                                                                              \
        struct NAME##_call call_;                                                                  \
        call_.in = in_;                                                                            \
        call_.out = out_;                                                                          \
        return twill__parallel_typed(n_, in_ && out_ ? NAME##_range : NULL, &call_, options_);     \
    }

/* For the macro above: the range form with a pointer of its own, so that task->context stays the
   user's. */
typedef int twill__typed_fn(const void *call, size_t begin, size_t end, const twill_task *task);
TWILL__DECL twill_status twill__parallel_typed(size_t n, twill__typed_fn *fn, const void *call,
                                               const twill_parallel_options *options);

#ifdef __cplusplus
}
#endif
#endif

#ifdef TWILL_IMPLEMENTATION
#ifndef TWILL__PARALLEL_MAP_IMPL
#define TWILL__PARALLEL_MAP_IMPL

#include "engine/map.h"

_Static_assert((int)TWILL_SCHEDULE_AUTO == (int)TWILL__AUTO &&
                   (int)TWILL_SCHEDULE_STATIC == (int)TWILL__STATIC &&
                   (int)TWILL_SCHEDULE_DYNAMIC == (int)TWILL__DYNAMIC &&
                   (int)TWILL_SCHEDULE_GUIDED == (int)TWILL__GUIDED &&
                   (int)TWILL_SCHEDULE_COST == (int)TWILL__COST,
               "the engine takes the schedule as it is");

static inline const twill_parallel_options *
twill__parallel_options(const twill_parallel_options *options)
{
    static const twill_parallel_options none;
    return options ? options : &none;
}

static inline bool twill__parallel_valid(const twill_parallel_options *options)
{
    return (unsigned)options->schedule <= TWILL_SCHEDULE_COST &&
           (options->schedule != TWILL_SCHEDULE_COST || options->cost_of);
}

/* ---- cuts of equal cost ---- */

/* A table of bounded size, filled as the costs come: when it is full the target doubles and
   neighbours that fit under it together become one. An item above the target keeps a cut of its
   own. */
typedef struct twill__cutter {
    twill__cut *cuts;
    size_t count, capacity;
    uint64_t target;
} twill__cutter;

#define TWILL__CUTS 512 /* on the caller's stack: 12 KiB */

static inline uint64_t twill__add_costs(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

/* At least half of the table is free afterwards. */
static inline void twill__cuts_merge(twill__cutter *cutter)
{
    /* exit: at UINT64_MAX everything fits into one cut */
    while (cutter->count > cutter->capacity / 2) {
        size_t kept = 0;
        cutter->target = twill__add_costs(cutter->target, cutter->target);
        for (size_t i = 1; i < cutter->count; i++) {
            twill__cut *last = &cutter->cuts[kept];
            uint64_t sum = twill__add_costs(last->cost, cutter->cuts[i].cost);
            if (sum <= cutter->target) {
                last->end = cutter->cuts[i].end;
                last->cost = sum;
            } else {
                cutter->cuts[++kept] = cutter->cuts[i];
            }
        }
        cutter->count = kept + 1;
    }
}

static inline void twill__cuts_add(twill__cutter *cutter, size_t item, uint64_t cost)
{
    twill__cut *last = cutter->count ? &cutter->cuts[cutter->count - 1] : NULL;
    if (cost == 0)
        cost = 1;
    if (last && twill__add_costs(last->cost, cost) <= cutter->target) {
        last->end = item + 1;
        last->cost += cost;
        return;
    }
    if (cutter->count == cutter->capacity)
        twill__cuts_merge(cutter);
    last = &cutter->cuts[cutter->count++];
    last->begin = item;
    last->end = item + 1;
    last->cost = cost;
}

/* Which of two runs first: the dearer, else the lower. */
static inline bool twill__cut_before(const twill__cut *a, const twill__cut *b)
{
    return a->cost != b->cost ? a->cost > b->cost : a->begin < b->begin;
}

/* A heap sort: no memory, no bad case. */
static inline void twill__cuts_sift(twill__cut *cuts, size_t count, size_t at)
{
    twill__cut moved = cuts[at];
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && twill__cut_before(&cuts[child], &cuts[child + 1]))
            child++;
        if (!twill__cut_before(&moved, &cuts[child]))
            break;
        cuts[at] = cuts[child];
    }
    cuts[at] = moved;
}

static inline void twill__cuts_sort(twill__cut *cuts, size_t count)
{
    for (size_t i = count / 2; i-- > 0;)
        twill__cuts_sift(cuts, count, i);
    for (size_t left = count; left-- > 1;) {
        twill__cut last = cuts[left];
        cuts[left] = cuts[0];
        cuts[0] = last;
        twill__cuts_sift(cuts, left, 0);
    }
}

/* table: TWILL__CUTS of them, in a frame that stays if a callback ends the calling thread: helpers
   still read it then. */
static inline void twill__run_by_cost(twill__job *job, twill__pass *pass, twill__cut *table,
                                      const twill_parallel_options *options)
{
    twill__cutter cutter = {table, 0, TWILL__CUTS, 1};
    twill_task task;
    if (job->np > TWILL__CUTS / 8) { /* some for each worker; without memory, fewer */
        twill__cut *more = (twill__cut *)twill__scratch_get(job, job->np * 8 * sizeof *more);
        if (more) {
            cutter.cuts = more;
            cutter.capacity = (size_t)job->np * 8;
        }
    }
    twill__task_init(job, 0, &task);
    for (size_t i = 0; i < pass->n; i++) {
        if (i % 256 == 0 && twill__stopped(job, twill__clock_now()))
            return;
        twill__cuts_add(&cutter, i, options->cost_of(i, &task));
    }
    twill__cuts_sort(cutter.cuts, cutter.count);
    pass->cuts = cutter.cuts;
    pass->cut_count = cutter.count;
    twill__run_pass(job, pass);
}

/* ---- one loop over items ---- */

typedef struct twill__sweep {
    const twill_parallel_options *options;
    twill__cut *cuts; /* COST: from twill__start */
    twill__pass pass;
} twill__sweep;

static inline void twill__sweep_pass(twill__job *job, twill__sweep *loop)
{
    if (loop->pass.schedule == TWILL__COST)
        twill__run_by_cost(job, &loop->pass, loop->cuts, loop->options);
    else
        twill__run_pass(job, &loop->pass);
}

static inline void twill__sweep_steps(twill__job *job, void *loop)
{
    twill__sweep_pass(job, (twill__sweep *)loop);
}

static inline void twill__sweep_init(twill__sweep *loop, size_t n, twill__body_fn *body, void *data,
                                     const twill_parallel_options *options)
{
    memset(&loop->pass, 0, sizeof loop->pass);
    loop->options = options;
    loop->cuts = NULL;
    loop->pass.n = n;
    loop->pass.body = body;
    loop->pass.data = data;
    loop->pass.schedule = (twill__schedule)options->schedule;
    loop->pass.chunk = options->chunk;
}

/* Apart, so that only calls with COST carry the table on their stack. */
static __attribute__((noinline)) twill_status twill__start_by_cost(const twill_run *run, size_t n,
                                                                   twill__steps_fn *steps,
                                                                   void *data, twill__cut **cuts)
{
    twill__cut table[TWILL__CUTS];
    *cuts = table;
    return twill__run_call(run, n, true, steps, data);
}

/* Runs steps that may use twill__sweep_pass. cuts: where it finds its table. */
static inline twill_status twill__start(const twill_parallel_options *options, size_t n,
                                        twill__steps_fn *steps, void *data, twill__cut **cuts)
{
    if (options->schedule == TWILL_SCHEDULE_COST)
        return twill__start_by_cost(&options->run, n, steps, data, cuts);
    return twill__run_call(&options->run, n, false, steps, data);
}

static inline twill_status twill__run_loop(size_t n, twill__body_fn *body, void *data, bool whole,
                                           const twill_parallel_options *options)
{
    twill__sweep loop;
    twill__sweep_init(&loop, n, body, data, options);
    loop.pass.whole = whole;
    return twill__start(options, n, twill__sweep_steps, &loop, &loop.cuts);
}

/* The body of a loop over single items; each of them is one(job->data, task) with task->index
   set. */
static inline __attribute__((always_inline)) void
twill__each(twill__job *job, twill_task *task, size_t begin, size_t end,
            int (*one)(void *data, twill_task *task))
{
    twill__slot *me = &job->slot[task->worker];
    void *data = job->data;
    twill__loop loop;
    size_t i = twill__loop_begin(&loop, job, me, begin, end), look;
    while ((look = twill__loop_look(&loop, i, end)) > i) {
        while (i < look) {
            int code;
            task->index = i;
            code = one(data, task);
            if (twill__loop_odd(&loop, code) && !twill__loop_note(&loop, i, code))
                end = look = i + 1;
            i++;
        }
    }
    twill__loop_end(me, i);
}

TWILL__DEFINE twill_status twill_parallel_map(const void *in, size_t in_size, void *out,
                                              size_t out_size, size_t n, twill_map_fn *fn,
                                              const twill_parallel_options *options)
{
    twill__map map = {(const char *)in, (char *)out, in_size, out_size, fn};
    twill_status status = twill__map_check(in, in_size, out, out_size, n, fn);
    options = twill__parallel_options(options);
    if (status != TWILL_OK || !twill__parallel_valid(options))
        return twill__refuse(&options->run, n, status != TWILL_OK ? status : TWILL_INVALID);
    return twill__run_loop(n, twill__map_body, &map, false, options);
}

typedef struct twill__for {
    twill_for_fn *fn;
    twill_for_fn *const *fns;
} twill__for;

static inline int twill__for_one(void *data, twill_task *task)
{
    return ((const twill__for *)data)->fn(task);
}

static inline void twill__for_body(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    twill__each(job, task, begin, end, twill__for_one);
}

TWILL__DEFINE twill_status twill_parallel_for(size_t n, twill_for_fn *fn,
                                              const twill_parallel_options *options)
{
    twill__for loop = {fn, NULL};
    options = twill__parallel_options(options);
    if (!fn || !twill__parallel_valid(options))
        return twill__refuse(&options->run, n, TWILL_INVALID);
    return twill__run_loop(n, twill__for_body, &loop, false, options);
}

static inline int twill__invoke_one(void *data, twill_task *task)
{
    return ((const twill__for *)data)->fns[task->index](task);
}

static inline void twill__invoke_body(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    twill__each(job, task, begin, end, twill__invoke_one);
}

TWILL__DEFINE twill_status twill_parallel_invoke(twill_for_fn *const *fns, size_t n,
                                                 const twill_parallel_options *options)
{
    twill__for invoke = {NULL, fns};
    twill__sweep loop;
    bool valid = fns || !n;
    options = twill__parallel_options(options);
    for (size_t i = 0; valid && i < n; i++)
        valid = fns[i] != NULL;
    if (!valid || !twill__parallel_valid(options))
        return twill__refuse(&options->run, n, TWILL_INVALID);
    twill__sweep_init(&loop, n, twill__invoke_body, &invoke, options);
    loop.pass.forced = true;
    return twill__start(options, n, twill__sweep_steps, &loop, &loop.cuts);
}

/* ---- ranges ---- */

typedef struct twill__ranges {
    twill_range_fn *fn;
    twill__typed_fn *typed;
    const void *call;
} twill__ranges;

static inline void twill__range_body(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    const twill__ranges *ranges = (const twill__ranges *)job->data;
    int code;
    task->index = begin;
    code = ranges->fn(begin, end, task);
    twill__range_end(job, &job->slot[task->worker], SIZE_MAX, begin, end, code);
}

static inline void twill__typed_body(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    const twill__ranges *ranges = (const twill__ranges *)job->data;
    int code;
    task->index = begin;
    code = ranges->typed(ranges->call, begin, end, task);
    twill__range_end(job, &job->slot[task->worker], SIZE_MAX, begin, end, code);
}

TWILL__DEFINE twill_status twill_parallel_range(size_t n, twill_range_fn *fn,
                                                const twill_parallel_options *options)
{
    twill__ranges ranges = {fn, NULL, NULL};
    options = twill__parallel_options(options);
    if (!fn || !twill__parallel_valid(options))
        return twill__refuse(&options->run, n, TWILL_INVALID);
    return twill__run_loop(n, twill__range_body, &ranges, true, options);
}

TWILL__DEFINE twill_status twill__parallel_typed(size_t n, twill__typed_fn *fn, const void *call,
                                                 const twill_parallel_options *options)
{
    twill__ranges ranges = {NULL, fn, call};
    options = twill__parallel_options(options);
    if ((!fn && n) || !twill__parallel_valid(options))
        return twill__refuse(&options->run, n, TWILL_INVALID);
    return twill__run_loop(n, twill__typed_body, &ranges, true, options);
}

/* ---- tiles ---- */

typedef struct twill__tiles {
    twill_tile_fn *fn;
    size_t rows, cols, tile_rows, tile_cols, across; /* tiles in a row of tiles */
} twill__tiles;

static inline size_t twill__parts_of(size_t n, size_t part)
{
    return n / part + (n % part != 0);
}

/* Chooses the sizes that are 0. False: more tiles than a size_t can count. */
static inline bool twill__tiles_init(twill__tiles *tiles, size_t *n)
{
    size_t auto_rows = tiles->tile_rows ? 0 : 64, auto_cols = tiles->tile_cols ? 0 : 64, down;
    for (;; auto_rows /= 2, auto_cols /= 2) { /* exit: at 1 at the latest */
        tiles->tile_rows = auto_rows ? auto_rows : tiles->tile_rows;
        tiles->tile_cols = auto_cols ? auto_cols : tiles->tile_cols;
        down = twill__parts_of(tiles->rows, tiles->tile_rows);
        tiles->across = twill__parts_of(tiles->cols, tiles->tile_cols);
        if (down > SIZE_MAX / tiles->across)
            return false;
        *n = down * tiles->across;
        if (*n >= 256 || (auto_rows <= 1 && auto_cols <= 1))
            return true;
    }
}

static inline int twill__tile_one(void *data, twill_task *task)
{
    const twill__tiles *tiles = (const twill__tiles *)data;
    size_t row = task->index / tiles->across * tiles->tile_rows;
    size_t col = task->index % tiles->across * tiles->tile_cols;
    size_t row_end = tiles->rows - row < tiles->tile_rows ? tiles->rows : row + tiles->tile_rows;
    size_t col_end = tiles->cols - col < tiles->tile_cols ? tiles->cols : col + tiles->tile_cols;
    return tiles->fn(row, row_end, col, col_end, task);
}

static inline void twill__tile_body(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    twill__each(job, task, begin, end, twill__tile_one);
}

TWILL__DEFINE twill_status twill_parallel_tiles(size_t rows, size_t cols, size_t tile_rows,
                                                size_t tile_cols, twill_tile_fn *fn,
                                                const twill_parallel_options *options)
{
    twill__tiles tiles = {fn, rows, cols, tile_rows, tile_cols, 0};
    size_t n = 0;
    options = twill__parallel_options(options);
    if (!fn || !twill__parallel_valid(options))
        return twill__refuse(&options->run, 0, TWILL_INVALID);
    if (rows && cols && !twill__tiles_init(&tiles, &n))
        return twill__refuse(&options->run, SIZE_MAX, TWILL_TOO_BIG);
    return twill__run_loop(n, twill__tile_body, &tiles, false, options);
}

/* ---- find ---- */

typedef struct twill__find {
    const char *in;
    size_t size;
    twill_test_fn *match;
    _Atomic size_t found; /* the lowest match so far */
} twill__find;

/* Like twill_task_stop: what lies below still runs. */
static __attribute__((noinline)) void twill__found(twill__find *find, twill__job *job, size_t i)
{
    twill__lower(&find->found, i);
    twill__lower(&job->limit, i);
    twill__fire_from(job, i + 1);
}

static inline void twill__find_body(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    twill__find *find = (twill__find *)job->data;
    twill__slot *me = &job->slot[task->worker];
    const char *item = find->in + begin * find->size;
    size_t size = find->size, look;
    twill_test_fn *match = find->match;
    twill__loop loop;
    size_t i = twill__loop_begin(&loop, job, me, begin, end);
    while ((look = twill__loop_look(&loop, i, end)) > i) {
        for (; i < look; item += size) {
            bool found;
            task->index = i;
            found = match(item, task);
            if (found)
                twill__found(find, job, i);
            if ((twill__loop_odd(&loop, 0) && !twill__loop_note(&loop, i, 0)) || found)
                end = look = i + 1;
            i++;
        }
    }
    twill__loop_end(me, i);
}

/* Whether items of `size` bytes are valid data of a call. */
static inline twill_status twill__items_check(const void *items, size_t size, size_t n)
{
    if (n == 0)
        return TWILL_OK;
    if (!items || !size)
        return TWILL_INVALID;
    return n > SIZE_MAX / size ? TWILL_TOO_BIG : TWILL_OK;
}

TWILL__DEFINE twill_status twill_parallel_find(const void *in, size_t size, size_t n, size_t *index,
                                               twill_test_fn *match,
                                               const twill_parallel_options *options)
{
    twill__find find = {(const char *)in, size, match, n};
    twill_status status = twill__items_check(in, size, n);
    options = twill__parallel_options(options);
    if (!match || !index || !twill__parallel_valid(options))
        status = TWILL_INVALID;
    if (index)
        *index = n;
    if (status != TWILL_OK)
        return twill__refuse(&options->run, n, status);
    status = twill__run_loop(n, twill__find_body, &find, false, options);
    /* relaxed: all have left, the join ordered it */
    *index = atomic_load_explicit(&find.found, memory_order_relaxed);
    return status;
}

/* ---- calls of several passes ---- */

/* Whether the call will answer TWILL_OK, once its passes over the items are over. */
static inline bool twill__all_well(twill__job *job, size_t total)
{
    /* relaxed: after the join */
    size_t stop_at = atomic_load_explicit(&job->stop_at, memory_order_relaxed);
    uint32_t stop = atomic_load_explicit(&job->stop, memory_order_relaxed);
    size_t ended = 0;
    for (unsigned worker = 0; worker < job->np; worker++) {
        const twill__slot *slot = &job->slot[worker];
        if (!(atomic_load(&job->ready[worker / 64]) & twill__bit(worker)))
            continue;
        if (slot->failed && slot->low <= stop_at)
            return false;
        ended += slot->done + slot->failed;
    }
    return !stop || ended == total;
}

/* A pass after the last item is done, when token and deadline come too late: it runs to its end.
   deaf: memory that stays if a callback ends the calling thread. */
static __attribute__((noinline)) void twill__run_deaf(twill__job *job, twill__pass *pass,
                                                      twill_run *deaf)
{
    const twill_run *run = job->run;
    *deaf = *run;
    memset(&deaf->until, 0, sizeof deaf->until);
    /* relaxed: nobody else is here; opening publishes */
    atomic_store_explicit(&job->stop, 0, memory_order_relaxed);
    job->run = deaf;
    twill__run_pass(job, pass);
    job->run = run;
}

/* Whether block k of a pass over blocks is to be run. */
static inline bool twill__block_may_run(twill__job *job, size_t k)
{
    bool dated = job->may_end && !twill__no_deadline(job->run->until.deadline);
    return twill__may_run(job, k) &&
           !(job->may_end && twill__stopped(job, dated ? twill__clock_now() : 0));
}

/* Whether helpers have come in before: the work is known to be worth them. */
static inline bool twill__was_shared(const twill__job *job)
{
    return !(job->flags & TWILL_REPORT_SERIAL);
}

/* Keeps the calling thread as the only one from here on. */
static inline void twill__run_alone(twill__job *job)
{
    ((twill__call_record *)(void *)job)->want = 0;
}

static inline size_t twill__round_up(size_t size, size_t to)
{
    return size > SIZE_MAX - to ? SIZE_MAX / to * to : (size + to - 1) / to * to;
}

static inline char *twill__aligned(char *memory)
{
    return memory + (TWILL__LINE - (uintptr_t)memory % TWILL__LINE) % TWILL__LINE;
}

/* A task for callbacks outside of the call's workers. */
static inline twill_task twill__task_outside(const twill_run *run)
{
    twill_task task = {SIZE_MAX, run->context, UINT_MAX, 0, NULL, {0, NULL}, NULL};
    return task;
}

/* ---- reduce ---- */

/* Ordered: fixed cuts into blocks, an accumulator a block, and over them one binary tree in which
   the block numbers say who meets whom: node [k * 2^l, (k+1) * 2^l) is its left half (+) its
   right half, a missing right half changes nothing. So the result does not depend on who computed
   what. Blocks are run in groups of 2^g: a group's tree ends in one accumulator, and those meet
   like the digits of a binary counter, which is the same tree. One group where 1 MiB holds the
   accumulators of all blocks; few large ones are alive at once otherwise. */

#define TWILL__REDUCE_SMALL  4608    /* bytes of accumulators on the caller's stack: 256 of 16 */
#define TWILL__REDUCE_LARGE  1048576 /* bytes of one group */
#define TWILL__REDUCE_LOCAL  64      /* bytes that are folded on the worker's own stack */
#define TWILL__REDUCE_TREE   16      /* blocks whose tree is one piece of work */
#define TWILL__REDUCE_SERIAL 20      /* us of combining that nobody is called for */

enum { TWILL__ACC_NONE, TWILL__ACC_MADE, TWILL__ACC_FULL };

typedef struct twill__reduce {
    const twill_reducer *reducer;
    const twill_parallel_options *options;
    void *result;
    size_t n, blocks, each; /* items a block */
    size_t group, levels;   /* blocks at once, a power of 2; accumulators on the counter */
    size_t at, count;       /* first block and size of the group that runs */
    size_t stride;
    char *acc;               /* [group + levels] */
    unsigned char *state;    /* [group + levels] */
    char *memory;            /* what was allocated, or NULL */
    _Atomic uint32_t failed; /* a combine */
    twill__cut *cuts;
    twill_run deaf;
} twill__reduce;

static inline char *twill__acc(const twill__reduce *reduce, size_t k)
{
    return reduce->acc + k * reduce->stride;
}

static inline size_t twill__reduce_item(const twill__reduce *reduce, size_t k)
{
    return (reduce->at + k) * reduce->each;
}

static inline void twill__acc_drop(twill__reduce *reduce, size_t k, const twill_task *task)
{
    if (reduce->state[k] != TWILL__ACC_NONE) {
        reduce->state[k] = TWILL__ACC_NONE;
        if (reduce->reducer->dispose)
            reduce->reducer->dispose(twill__acc(reduce, k), task);
    }
}

static inline void twill__acc_drop_all(twill__reduce *reduce, const twill_task *task)
{
    for (size_t k = 0; reduce->reducer->dispose && k < reduce->group + reduce->levels; k++)
        twill__acc_drop(reduce, k, task);
}

static inline int twill__acc_make(const twill_reducer *reducer, void *acc, const twill_task *task)
{
    if (reducer->identity)
        return reducer->identity(acc, task);
    if (reducer->size == 8)
        memset(acc, 0, 8); /* a store instead of a call */
    else
        memset(acc, 0, reducer->size);
    return 0;
}

static inline void twill__reduce_body(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    twill__reduce *reduce = (twill__reduce *)job->data;
    const twill_reducer *reducer = reduce->reducer;
    twill__slot *me = &job->slot[task->worker];
    _Alignas(64) char local[TWILL__REDUCE_LOCAL];
    /* no line shared between workers */
    bool is_local = !reducer->dispose && reducer->size <= sizeof local;
    for (size_t k = begin; k < end && twill__block_may_run(job, k); k++) {
        size_t from = twill__reduce_item(reduce, k);
        size_t to = reduce->n - from < reduce->each ? reduce->n : from + reduce->each;
        char *place = twill__acc(reduce, k);
        void *acc = is_local ? local : place;
        int code;
        task->index = from;
        code = twill__acc_make(reducer, acc, task);
        if (!code) {
            reduce->state[k] = TWILL__ACC_MADE;
            code = reducer->fold(acc, from, to, task);
            if (!code) {
                reduce->state[k] = TWILL__ACC_FULL;
                if (is_local && reducer->size == 8)
                    memcpy(place, local, 8);
                else if (is_local)
                    memcpy(place, local, reducer->size);
            }
        }
        twill__range_end(job, me, k, from, to, code);
    }
    task->index = SIZE_MAX;
}

/* left <- left (+) right, and right is gone. False: it failed, which is told as the error of the
   right one's first item; that had been counted as done. */
static inline bool twill__acc_combine(twill__job *job, twill__reduce *reduce, size_t left,
                                      size_t right, size_t at, size_t item, twill_task *task)
{
    twill__slot *me = &job->slot[task->worker];
    int code = reduce->reducer->combine(twill__acc(reduce, left), twill__acc(reduce, right), task);
    twill__acc_drop(reduce, right, task);
    me->said = 0;
    if (!code)
        return true;
    me->done--; /* may go below 0: only the sum over the workers counts */
    twill__item_failed(job, me, at, item, TWILL_FAILED, code);
    atomic_store_explicit(&reduce->failed, 1, memory_order_relaxed); /* read after the join */
    return false;
}

/* The tree over the accumulators begin..end-1, whose distances are multiples of `least`. */
static inline bool twill__reduce_tree(twill__job *job, twill__reduce *reduce, size_t begin,
                                      size_t end, size_t least, size_t at, twill_task *task)
{
    for (size_t step = least; step < end - begin; step *= 2)
        for (size_t k = begin; end - k > step; k += 2 * step) {
            if (!twill__acc_combine(job, reduce, k, k + step, at,
                                    twill__reduce_item(reduce, k + step), task))
                return false;
            if (end - k <= 2 * step)
                break;
        }
    return true;
}

static inline void twill__reduce_trees(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    twill__reduce *reduce = (twill__reduce *)job->data;
    for (size_t k = begin; k < end && twill__may_run(job, k); k++) {
        size_t from = (k + 1) * TWILL__REDUCE_TREE, to = from + TWILL__REDUCE_TREE;
        (void)twill__reduce_tree(job, reduce, from, to < reduce->count ? to : reduce->count, 1, k,
                                 task);
    }
}

/* Leaves the group's value in its first accumulator. The first piece is timed: it says whether to
   call others. */
static inline bool twill__reduce_group(twill__job *job, twill__reduce *reduce, twill_task *task)
{
    size_t count = reduce->count, tree = TWILL__REDUCE_TREE;
    uint64_t since;
    if (count <= tree)
        return twill__reduce_tree(job, reduce, 0, count, 1, 0, task);
    since = twill__ticks();
    if (!twill__reduce_tree(job, reduce, 0, tree, 1, 0, task))
        return false;
    if (job->np > 1 &&
        (twill__ticks() - since) * (count / tree) / TWILL__REDUCE_SERIAL > twill__ticks_per_us()) {
        twill__pass pass = {
            .n = (count - 1) / tree, .body = twill__reduce_trees, .data = reduce, .forced = true};
        pass.first = twill__reduce_item(reduce, tree);
        pass.unit = reduce->each > SIZE_MAX / tree ? SIZE_MAX : reduce->each * tree;
        twill__run_deaf(job, &pass, &reduce->deaf);
        if (atomic_load_explicit(&reduce->failed, memory_order_relaxed) ||
            !twill__all_well(job, reduce->n))
            return false;
    } else {
        for (size_t k = tree; k < count; k += tree)
            if (!twill__reduce_tree(job, reduce, k, count - k < tree ? count : k + tree, 1, 0,
                                    task))
                return false;
    }
    return twill__reduce_tree(job, reduce, 0, count, tree, 0, task);
}

/* Folds the blocks of a group. False: some are missing. *last: a callback has said stop, nothing
   above it counts. */
static inline bool twill__reduce_fold(twill__job *job, twill__reduce *reduce, twill_task *task,
                                      bool *last)
{
    const twill_parallel_options *options = reduce->options;
    twill__pass pass = {
        .n = reduce->count, .body = twill__reduce_body, .data = reduce, .parts = true};
    size_t stop_at;
    pass.schedule = (twill__schedule)options->schedule;
    pass.chunk = options->chunk / reduce->each;
    pass.first = twill__reduce_item(reduce, 0);
    pass.unit = reduce->each;
    pass.forced = twill__was_shared(job);
    memset(reduce->state, TWILL__ACC_NONE, reduce->count);
    twill__run_pass(job, &pass);
    stop_at = atomic_load_explicit(&job->stop_at, memory_order_relaxed); /* after the join */
    if (stop_at != SIZE_MAX) {
        size_t need = twill__place_of(job, stop_at) + 1;
        for (size_t k = need; k < reduce->count; k++)
            twill__acc_drop(reduce, k, task);
        reduce->count = need < reduce->count ? need : reduce->count;
        *last = true;
        if (atomic_load_explicit(&job->stop, memory_order_relaxed))
            return false;
    }
    for (size_t k = 0; k < reduce->count; k++)
        if (reduce->state[k] != TWILL__ACC_FULL)
            return false;
    return true;
}

static inline void twill__acc_move(twill__reduce *reduce, size_t from, size_t to)
{
    memcpy(twill__acc(reduce, to), twill__acc(reduce, from), reduce->reducer->size);
    reduce->state[to] = reduce->state[from];
    reduce->state[from] = TWILL__ACC_NONE;
}

static inline bool twill__reduce_run(twill__job *job, twill__reduce *reduce, twill_task *task)
{
    size_t top = reduce->group, groups = 0; /* the counter's digits lie behind the group */
    size_t item = 0;                        /* that a failed combine is told of */
    bool last = false;
    if (reduce->group == 1)
        twill__run_alone(job);
    for (reduce->at = 0; reduce->at < reduce->blocks && !last; reduce->at += reduce->group) {
        size_t left = reduce->blocks - reduce->at;
        reduce->count = left < reduce->group ? left : reduce->group;
        if (!twill__reduce_fold(job, reduce, task, &last) ||
            !twill__reduce_group(job, reduce, task))
            return false;
        if (reduce->levels == 0)
            break;
        item = twill__reduce_item(reduce, 0);
        twill__acc_move(reduce, 0, top++);
        groups++;
        for (size_t bit = 1; !(groups & bit); bit *= 2, top--) /* exit: groups > 0 */
            if (!twill__acc_combine(job, reduce, top - 2, top - 1, 0, item, task))
                return false;
    }
    for (; top > reduce->group + 1; top--)
        if (!twill__acc_combine(job, reduce, top - 2, top - 1, 0, item, task))
            return false;
    if (reduce->levels)
        twill__acc_move(reduce, reduce->group, 0);
    memcpy(reduce->result, twill__acc(reduce, 0), reduce->reducer->size);
    reduce->state[0] = TWILL__ACC_NONE;
    return true;
}

static inline void twill__reduce_steps(twill__job *job, void *data)
{
    twill__reduce *reduce = (twill__reduce *)data;
    twill_task task;
    twill__task_init(job, 0, &task);
    if (!twill__reduce_run(job, reduce, &task))
        twill__acc_drop_all(reduce, &task);
}

/* unordered: what a worker folds goes into its own accumulator. */
static inline void twill__unordered_body(twill__job *job, twill_task *task, size_t begin,
                                         size_t end)
{
    twill__reduce *reduce = (twill__reduce *)job->data;
    unsigned char *state = &reduce->state[task->worker];
    void *acc = twill__acc(reduce, task->worker);
    int code = 0;
    task->index = begin;
    if (*state == TWILL__ACC_NONE) {
        code = twill__acc_make(reduce->reducer, acc, task);
        if (!code)
            *state = TWILL__ACC_MADE;
    }
    if (!code)
        code = reduce->reducer->fold(acc, begin, end, task);
    twill__range_end(job, &job->slot[task->worker], SIZE_MAX, begin, end, code);
    task->index = SIZE_MAX;
}

static inline bool twill__unordered_join(twill__job *job, twill__reduce *reduce, twill_task *task)
{
    size_t first = 0;
    if (!twill__all_well(job, reduce->n))
        return false;
    while (first < reduce->group && reduce->state[first] == TWILL__ACC_NONE)
        first++;
    for (size_t k = first + 1; k < reduce->group; k++)
        if (reduce->state[k] != TWILL__ACC_NONE &&
            !twill__acc_combine(job, reduce, first, k, 0, 0, task))
            return false;
    if (first == reduce->group)
        return false;
    memcpy(reduce->result, twill__acc(reduce, first), reduce->reducer->size);
    reduce->state[first] = TWILL__ACC_NONE;
    return true;
}

static inline void twill__unordered_steps(twill__job *job, void *data)
{
    twill__reduce *reduce = (twill__reduce *)data;
    twill__sweep loop;
    twill_task task;
    if (reduce->group < job->np) /* memory for one */
        twill__run_alone(job);
    memset(reduce->state, TWILL__ACC_NONE, reduce->group);
    twill__sweep_init(&loop, reduce->n, twill__unordered_body, reduce, reduce->options);
    loop.cuts = reduce->cuts;
    loop.pass.whole = true;
    twill__sweep_pass(job, &loop);
    twill__task_init(job, 0, &task);
    if (!twill__unordered_join(job, reduce, &task))
        twill__acc_drop_all(reduce, &task);
}

/* The calling thread has ended in a callback: helpers are gone, the call is closed. */
static inline void twill__reduce_ended(void *data)
{
    twill__reduce *reduce = (twill__reduce *)data;
    twill_task task = twill__task_outside(&reduce->options->run);
    twill__acc_drop_all(reduce, &task);
    if (reduce->memory)
        TWILL_FREE(reduce->memory);
}

static __attribute__((noinline)) twill_status twill__reduce_guarded(twill__reduce *reduce,
                                                                    twill__steps_fn *steps)
{
    twill_status status;
    TWILL__GUARD_PUSH(twill__reduce_ended, reduce);
    status = twill__start(reduce->options, reduce->n, steps, reduce, &reduce->cuts);
    TWILL__GUARD_POP(0);
    if (reduce->memory)
        TWILL_FREE(reduce->memory);
    return status;
}

static inline unsigned twill__workers_for(const twill_run *run, size_t n)
{
    twill__plan plan;
    twill__make_plan(&plan, run, n);
    return plan.np;
}

/* Sizes for `group` accumulators at once; false: no memory for so many. */
static inline bool twill__reduce_place(twill__reduce *reduce, size_t group, char *small,
                                       size_t small_size)
{
    size_t count, bytes;
    reduce->group = group;
    reduce->levels = 0;
    if (!reduce->reducer->unordered && group < reduce->blocks)
        /* one digit more than the number of groups has: before it carries */
        for (size_t left = 2 * ((reduce->blocks - 1) / group + 1); left; left /= 2)
            reduce->levels++;
    count = group + reduce->levels;
    if (reduce->stride > (SIZE_MAX - TWILL__LINE - count) / count)
        return false;
    bytes = count * reduce->stride;
    reduce->memory = NULL;
    if (bytes + count > small_size) {
        reduce->memory = (char *)TWILL_MALLOC(bytes + count + TWILL__LINE);
        if (!reduce->memory)
            return false;
        small = twill__aligned(reduce->memory);
    }
    reduce->acc = small;
    reduce->state = (unsigned char *)small + bytes;
    if (reduce->memory || reduce->reducer->dispose || reduce->levels)
        memset(reduce->state, TWILL__ACC_NONE, count);
    return true;
}

static inline bool twill__reduce_memory(twill__reduce *reduce, char *small, size_t small_size)
{
    const twill_reducer *reducer = reduce->reducer;
    unsigned np = twill__workers_for(&reduce->options->run, reduce->n);
    size_t group = 1;
    if (reducer->unordered) {
        reduce->stride = twill__round_up(reducer->size, TWILL__LINE);
        return twill__reduce_place(reduce, np, small, small_size) ||
               (np > 1 && twill__reduce_place(reduce, 1, small, small_size));
    }
    reduce->stride = reducer->dispose || reducer->size > TWILL__REDUCE_LOCAL
                         ? twill__round_up(reducer->size, TWILL__LINE)
                         : reducer->size;
    while (group < reduce->blocks &&
           (group < (size_t)np * 8 || group <= TWILL__REDUCE_LARGE / 2 / reduce->stride))
        group *= 2;
    while (!twill__reduce_place(reduce, group, small, small_size)) {
        if (group == 1)
            return false;
        group /= 2;
    }
    return true;
}

static inline void twill__reduce_cut(twill__reduce *reduce)
{
    size_t blocks = reduce->reducer->blocks;
    if (!blocks)
        blocks = reduce->n < 1024 ? 32 : reduce->n < 16384 ? 64 : 256;
    if (blocks > reduce->n)
        blocks = reduce->n;
    reduce->each = (reduce->n - 1) / blocks + 1;
    reduce->blocks = (reduce->n - 1) / reduce->each + 1;
}

static inline bool twill__reduce_valid(size_t n, const twill_reducer *reducer, const void *result,
                                       const twill_parallel_options *options)
{
    return reducer && result && reducer->fold && reducer->combine && (reducer->size || !n) &&
           twill__parallel_valid(options) &&
           (reducer->unordered || options->schedule != TWILL_SCHEDULE_COST);
}

static inline twill_status twill__reduce_nothing(const twill_reducer *reducer, void *result,
                                                 const twill_run *run)
{
    twill_task task = twill__task_outside(run);
    int code = twill__acc_make(reducer, result, &task);
    (void)twill__refuse(run, 0, code ? TWILL_FAILED : TWILL_OK);
    if (code && run->report) {
        run->report->first_error.index = SIZE_MAX;
        run->report->first_error.status = TWILL_FAILED;
        run->report->first_error.code = code;
    }
    return code ? TWILL_FAILED : TWILL_OK;
}

TWILL__DEFINE twill_status twill_parallel_reduce(size_t n, const twill_reducer *reducer,
                                                 void *result,
                                                 const twill_parallel_options *options)
{
    _Alignas(TWILL__LINE) char small[TWILL__REDUCE_SMALL];
    twill__reduce reduce;
    twill__steps_fn *steps;
    twill_status status;
    options = twill__parallel_options(options);
    status = twill__reduce_valid(n, reducer, result, options) ? twill__check_run(&options->run)
                                                              : TWILL_INVALID;
    if (status != TWILL_OK)
        return twill__refuse(&options->run, n, status);
    if (n == 0)
        return twill__reduce_nothing(reducer, result, &options->run);
    steps = reducer->unordered ? twill__unordered_steps : twill__reduce_steps;
    reduce.reducer = reducer;
    reduce.options = options;
    reduce.result = result;
    reduce.n = n;
    atomic_init(&reduce.failed, 0);
    twill__reduce_cut(&reduce);
    if (!twill__reduce_memory(&reduce, small, sizeof small))
        return twill__refuse(&options->run, n, TWILL_NO_MEMORY);
    if (reduce.memory || reducer->dispose)
        return twill__reduce_guarded(&reduce, steps);
    return twill__start(options, n, steps, &reduce, &reduce.cuts);
}

/* ---- filter ---- */

/* First a loop over the items: a bit an item says whether it is kept, a counter a block how many
   are. Then, with no callback any more, each block writes its items where they belong. So keep
   runs once an item, and a call that ends early has changed nothing. */

#define TWILL__FILTER_BLOCK 4096 /* items: 64 words of bits */
#define TWILL__FILTER_SMALL \
    (4 * TWILL__FILTER_BLOCK) /* items whose bits fit the caller's stack: 2 KiB */

typedef struct twill__filter {
    const char *in;
    char *out;
    size_t size, n, kept;
    twill_test_fn *keep;
    const twill_parallel_options *options;
    _Atomic uint64_t *bits; /* [(n + 63) / 64] */
    size_t *counts;         /* [blocks]: items that are kept; then the place of the first */
    size_t at;              /* first block of the wave that runs */
    char *memory;
    twill__cut *cuts;
    twill_run deaf;
} twill__filter;

static inline size_t twill__filter_blocks(size_t n)
{
    return n / TWILL__FILTER_BLOCK + (n % TWILL__FILTER_BLOCK != 0);
}

/* Bits of the items begin..end-1, all of one word. Two chunks may share a word. */
static inline void twill__filter_put(twill__filter *filter, size_t begin, size_t end, uint64_t bits)
{
    _Atomic uint64_t *word = &filter->bits[begin / 64];
    /* relaxed: the join makes them visible */
    if (end - begin == 64)
        atomic_store_explicit(word, bits, memory_order_relaxed);
    else if (bits)
        atomic_fetch_or_explicit(word, bits, memory_order_relaxed);
}

static inline void twill__filter_body(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    twill__filter *filter = (twill__filter *)job->data;
    twill__slot *me = &job->slot[task->worker];
    const char *item = filter->in + begin * filter->size;
    size_t size = filter->size, look, from = begin;
    twill_test_fn *keep = filter->keep;
    uint64_t bits = 0; /* of the items from..i-1 */
    twill__loop loop;
    size_t i = twill__loop_begin(&loop, job, me, begin, end);
    while ((look = twill__loop_look(&loop, i, end)) > i) {
        for (; i < look; item += size) {
            bool kept;
            task->index = i;
            kept = keep(item, task);
            bits |= (uint64_t)kept << i % 64;
            if (twill__loop_odd(&loop, 0) && !twill__loop_note(&loop, i, 0))
                end = look = i + 1;
            i++;
            if (i % 64 == 0) {
                twill__filter_put(filter, from, i, bits);
                from = i;
                bits = 0;
            }
        }
    }
    if (i > from)
        twill__filter_put(filter, from, i, bits);
    twill__loop_end(me, i);
}

static inline unsigned twill__popcount(uint64_t x)
{
    x -= x >> 1 & 0x5555555555555555u;
    x = (x & 0x3333333333333333u) + (x >> 2 & 0x3333333333333333u);
    return (unsigned)(((x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu) * 0x0101010101010101u >> 56);
}

static inline uint64_t twill__filter_bits(const twill__filter *filter, size_t word)
{
    return atomic_load_explicit(&filter->bits[word], memory_order_relaxed); /* after the join */
}

/* counts[]: the place of each block's first item. What lies above a stop is not kept. */
static inline void twill__filter_count(twill__filter *filter, size_t stop_at)
{
    size_t words = filter->n / 64 + (filter->n % 64 != 0);
    if (stop_at < filter->n - 1) {
        words = stop_at / 64 + 1;
        if (stop_at % 64 != 63)
            atomic_fetch_and_explicit(&filter->bits[words - 1], ((uint64_t)2 << stop_at % 64) - 1,
                                      memory_order_relaxed); /* nobody else is here */
        for (size_t word = words; word < filter->n / 64 + (filter->n % 64 != 0); word++)
            atomic_store_explicit(&filter->bits[word], 0, memory_order_relaxed);
    }
    filter->kept = 0;
    for (size_t block = 0, word = 0; block < twill__filter_blocks(filter->n); block++) {
        size_t end =
            words - word < TWILL__FILTER_BLOCK / 64 ? words : word + TWILL__FILTER_BLOCK / 64;
        filter->counts[block] = filter->kept;
        for (; word < end; word++)
            filter->kept += twill__popcount(twill__filter_bits(filter, word));
    }
}

static inline __attribute__((always_inline)) void twill__filter_copy(const twill__filter *filter,
                                                                     size_t block, size_t size)
{
    const char *in = filter->in + block * TWILL__FILTER_BLOCK * size;
    char *out = filter->out + filter->counts[block] * size;
    size_t words = filter->n / 64 + (filter->n % 64 != 0),
           word = block * (TWILL__FILTER_BLOCK / 64);
    size_t end = words - word < TWILL__FILTER_BLOCK / 64 ? words : word + TWILL__FILTER_BLOCK / 64;
    for (; word < end; word++, in += 64 * size) {
        uint64_t bits = twill__filter_bits(filter, word);
        if (bits == UINT64_MAX) { /* all of them: they may overlap their place */
            memmove(out, in, 64 * size);
            out += 64 * size;
            continue;
        }
        for (; bits; bits &= bits - 1, out += size) {
            const char *item = in + (size_t)__builtin_ctzll(bits) * size;
            if (item != out) /* whole items: never overlapping otherwise */
                memcpy(out, item, size);
        }
    }
}

static inline void twill__filter_block(const twill__filter *filter, size_t block)
{
    switch (filter->size) {
    case 4:
        twill__filter_copy(filter, block, 4);
        break;
    case 8:
        twill__filter_copy(filter, block, 8);
        break;
    case 16:
        twill__filter_copy(filter, block, 16);
        break;
    default:
        twill__filter_copy(filter, block, filter->size);
    }
}

static inline void twill__filter_write(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    const twill__filter *filter = (const twill__filter *)job->data;
    (void)task;
    for (size_t block = begin; block < end; block++)
        twill__filter_block(filter, filter->at + block);
}

/* In place, a block may be written once the lower ones that lie where it goes have moved. The
   lowest can always move; a wave are those that go below its old place, so they touch nobody
   else's. */
static inline size_t twill__filter_wave(const twill__filter *filter)
{
    size_t blocks = twill__filter_blocks(filter->n), end = filter->at + 1;
    if (filter->out != filter->in)
        return blocks;
    while (end < blocks && (end + 1 < blocks ? filter->counts[end + 1] : filter->kept) <=
                               filter->at * TWILL__FILTER_BLOCK)
        end++;
    return end;
}

static inline void twill__filter_steps(twill__job *job, void *data)
{
    twill__filter *filter = (twill__filter *)data;
    twill__sweep loop;
    size_t blocks = twill__filter_blocks(filter->n);
    twill__sweep_init(&loop, filter->n, twill__filter_body, filter, filter->options);
    loop.cuts = filter->cuts;
    twill__sweep_pass(job, &loop);
    if (!twill__all_well(job, filter->n)) {
        filter->kept = 0;
        return;
    }
    twill__filter_count(
        filter, atomic_load_explicit(&job->stop_at, memory_order_relaxed)); /* after the join */
    if (!filter->out)
        return;
    for (size_t end; filter->at < blocks; filter->at = end) {
        twill__pass pass = {.body = twill__filter_write, .data = filter, .parts = true};
        end = twill__filter_wave(filter);
        pass.n = end - filter->at;
        pass.forced = pass.n > 64 && twill__was_shared(job);
        if (pass.n == 1)
            twill__filter_block(filter, filter->at);
        else
            twill__run_deaf(job, &pass, &filter->deaf);
    }
}

static inline void twill__free_ended(void *memory)
{
    TWILL_FREE(memory);
}

/* The memory goes also if a callback ends the thread. */
static __attribute__((noinline)) twill_status twill__filter_guarded(twill__filter *filter)
{
    twill_status status;
    TWILL__GUARD_PUSH(twill__free_ended, filter->memory);
    status = twill__start(filter->options, filter->n, twill__filter_steps, filter, &filter->cuts);
    TWILL__GUARD_POP(0);
    TWILL_FREE(filter->memory);
    return status;
}

static inline bool twill__filter_memory(twill__filter *filter, uint64_t *small, size_t small_words)
{
    size_t words = filter->n / 64 + (filter->n % 64 != 0), blocks = twill__filter_blocks(filter->n);
    filter->memory = NULL;
    if (words + blocks > small_words) {
        filter->memory = (char *)TWILL_MALLOC(words * 8 + blocks * sizeof(size_t));
        if (!filter->memory)
            return false;
        small = (uint64_t *)(void *)filter->memory;
    }
    filter->bits = (_Atomic uint64_t *)(void *)small;
    filter->counts = (size_t *)(void *)(small + words);
    for (size_t word = 0; word < words; word++)
        atomic_init(&filter->bits[word], 0);
    return true;
}

TWILL__DEFINE twill_status twill_parallel_filter(const void *in, size_t size, size_t n, void *out,
                                                 size_t *out_n, twill_test_fn *keep,
                                                 const twill_parallel_options *options)
{
    uint64_t small[TWILL__FILTER_SMALL / 64 + 8];
    twill__filter filter;
    twill_status status = twill__items_check(in, size, n);
    options = filter.options = twill__parallel_options(options);
    filter.in = (const char *)in;
    filter.out = (char *)out;
    filter.size = size;
    filter.n = n;
    filter.keep = keep;
    filter.kept = filter.at = 0;
    if (!keep || !out_n || !twill__parallel_valid(options))
        status = TWILL_INVALID;
    if (out_n)
        *out_n = 0;
    if (status == TWILL_OK)
        status = twill__check_run(&options->run);
    if (status == TWILL_OK && !twill__filter_memory(&filter, small, sizeof small / sizeof *small))
        status = TWILL_NO_MEMORY;
    if (status != TWILL_OK)
        return twill__refuse(&options->run, n, status);
    status = filter.memory ? twill__filter_guarded(&filter)
                           : twill__start(options, n, twill__filter_steps, &filter, &filter.cuts);
    if (status == TWILL_OK)
        *out_n = filter.kept;
    return status;
}

/* ---- scan ---- */

/* Who comes to the first block that is not summed up yet writes its results at once; blocks
   further on are only summed. Then the sums are carried from block to block, and a second pass
   writes what is missing. The caller begins at the front: alone, it combines each item once, as
   the serial loop does; two threads take 3/4 of that time, w threads (2 - 1/w) / w. STATIC writes
   nothing but block 0 in the first pass: each item meets the same partners always. */

#define TWILL__SCAN_SMALL 4608 /* bytes on the caller's stack: the sums of 256 blocks of 16 bytes */
#define TWILL__SCAN_LOCAL 256 /* elements up to this size are worked on on the worker's own stack */

enum { TWILL__SCAN_NONE, TWILL__SCAN_SUMMED, TWILL__SCAN_WRITTEN };

typedef struct twill__scan {
    const char *in;
    char *out;
    size_t size, n;
    const void *start; /* NULL: inclusive */
    twill_combine_fn *combine;
    const twill_parallel_options *options;
    size_t blocks, each;  /* items a block */
    size_t at;            /* first block of the pass */
    _Atomic size_t front; /* blocks summed up in `carry`, without a gap */
    char *carry;
    char *sum;            /* [blocks]: of the block; in the second pass, of all in front of it */
    char *work;           /* two elements a worker, where they are large */
    unsigned char *state; /* [blocks] */
    char *memory;
} twill__scan;

/* Writes a block. acc: the sum of all in front of it (unless it is the first of an inclusive
   scan), then that of all up to its end. spare: for the right operand. Returns the code of a
   combine, *i: of which item. */
static inline __attribute__((always_inline)) int twill__scan_write(const twill__scan *scan,
                                                                   size_t *at, size_t to, char *acc,
                                                                   char *spare, size_t size,
                                                                   const twill_task *task)
{
    const char *in = scan->in + *at * size;
    char *out = scan->out + *at * size;
    size_t i = *at, last = scan->n - 1;
    twill_combine_fn *combine = scan->combine;
    bool inclusive = !scan->start;
    int code = 0;
    if (inclusive && i == 0) {
        memcpy(acc, in, size);
        if (out != in)
            memcpy(out, in, size);
        i++;
        in += size;
        out += size;
    }
    for (; i < to; i++, in += size, out += size) {
        memcpy(spare, in, size);
        if (!inclusive)
            memcpy(out, acc, size);
        if (inclusive || i != last)
            code = combine(acc, spare, task);
        if (code)
            break;
        if (inclusive)
            memcpy(out, acc, size);
    }
    *at = i;
    return code;
}

static inline __attribute__((always_inline)) int twill__scan_sum(const twill__scan *scan,
                                                                 size_t *at, size_t to, char *acc,
                                                                 char *spare, size_t size,
                                                                 const twill_task *task)
{
    const char *in = scan->in + *at * size;
    size_t i = *at;
    int code = 0;
    memcpy(acc, in, size);
    for (i++, in += size; i < to; i++, in += size) {
        memcpy(spare, in, size);
        code = scan->combine(acc, spare, task);
        if (code)
            break;
    }
    *at = i;
    return code;
}

static inline int twill__scan_block(const twill__scan *scan, bool write, size_t *at, size_t to,
                                    char *acc, char *spare, const twill_task *task)
{
    switch (scan->size) {
    case 4:
        return write ? twill__scan_write(scan, at, to, acc, spare, 4, task)
                     : twill__scan_sum(scan, at, to, acc, spare, 4, task);
    case 8:
        return write ? twill__scan_write(scan, at, to, acc, spare, 8, task)
                     : twill__scan_sum(scan, at, to, acc, spare, 8, task);
    case 16:
        return write ? twill__scan_write(scan, at, to, acc, spare, 16, task)
                     : twill__scan_sum(scan, at, to, acc, spare, 16, task);
    default:
        return write ? twill__scan_write(scan, at, to, acc, spare, scan->size, task)
                     : twill__scan_sum(scan, at, to, acc, spare, scan->size, task);
    }
}

/* One block. carry: what precedes it, where it is written. */
static inline void twill__scan_one(twill__job *job, twill__scan *scan, twill_task *task, size_t k,
                                   bool write, const char *carry, char *acc, char *spare)
{
    twill__slot *me = &job->slot[task->worker];
    size_t block = scan->at + k, from = block * scan->each, at = from;
    size_t to = scan->n - from < scan->each ? scan->n : from + scan->each;
    int code;
    task->index = from;
    if (write && (from || scan->start))
        memcpy(acc, carry, scan->size);
    code = twill__scan_block(scan, write, &at, to, acc, spare, task);
    me->said = 0;
    me->fail_index = SIZE_MAX;
    if (write) {
        me->fail_index = at;
        twill__range_end(job, me, k, from, to, code);
    } else if (code) {
        twill__item_failed(job, me, k, at, TWILL_FAILED, code);
    }
    if (!code)
        scan->state[block] = write ? TWILL__SCAN_WRITTEN : TWILL__SCAN_SUMMED;
}

static inline void twill__scan_first(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    twill__scan *scan = (twill__scan *)job->data;
    _Alignas(64) char local[2 * TWILL__SCAN_LOCAL];
    char *acc = scan->work ? scan->work + 2 * task->worker * scan->size : local;
    char *spare = acc + scan->size;
    bool fixed = scan->options->schedule == TWILL_SCHEDULE_STATIC;
    if (!scan->work)
        spare = local + TWILL__SCAN_LOCAL;
    for (size_t k = begin; k < end && twill__block_may_run(job, k); k++) {
        /* acquire, release: who finds its block in front finds the carry, too */
        bool write =
            (!fixed || k == 0) && atomic_load_explicit(&scan->front, memory_order_acquire) == k;
        if (!write && k == scan->blocks - 1)
            break; /* its sum is of no use */
        twill__scan_one(job, scan, task, k, write, scan->carry, acc, spare);
        if (scan->state[k] == TWILL__SCAN_WRITTEN) {
            memcpy(scan->carry, acc, scan->size);
            atomic_store_explicit(&scan->front, k + 1, memory_order_release);
        } else if (scan->state[k] == TWILL__SCAN_SUMMED) {
            memcpy(scan->sum + k * scan->size, acc, scan->size);
        }
    }
    task->index = SIZE_MAX;
}

static inline void twill__scan_second(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    twill__scan *scan = (twill__scan *)job->data;
    _Alignas(64) char local[2 * TWILL__SCAN_LOCAL];
    char *acc = scan->work ? scan->work + 2 * task->worker * scan->size : local;
    char *spare = scan->work ? acc + scan->size : local + TWILL__SCAN_LOCAL;
    for (size_t k = begin; k < end && twill__block_may_run(job, k); k++)
        twill__scan_one(job, scan, task, k, true, scan->sum + (scan->at + k) * scan->size, acc,
                        spare);
    task->index = SIZE_MAX;
}

/* From what blocks hold to what precedes them; `need` blocks. False: a combine has failed. */
static inline bool twill__scan_carry(twill__job *job, twill__scan *scan, size_t need)
{
    _Alignas(64) char local[TWILL__SCAN_LOCAL];
    char *spare = scan->work ? scan->work : local;
    twill_task task;
    twill__task_init(job, 0, &task);
    for (size_t block = scan->at; block < need; block++) {
        char *sum = scan->sum + block * scan->size;
        int code = 0;
        memcpy(spare, sum, scan->size);
        memcpy(sum, scan->carry, scan->size);
        if (block + 1 < need)
            code = scan->combine(scan->carry, spare, &task);
        job->slot[0].said = 0;
        if (code) {
            twill__item_failed(job, &job->slot[0], block, block * scan->each, TWILL_FAILED, code);
            return false;
        }
    }
    return true;
}

static inline void twill__scan_steps(twill__job *job, void *data)
{
    twill__scan *scan = (twill__scan *)data;
    twill__pass pass = {.n = scan->blocks, .body = twill__scan_first, .data = scan, .parts = true};
    size_t need = scan->blocks, stop_at;
    pass.unit = scan->each;
    twill__run_pass(job, &pass);
    stop_at = atomic_load_explicit(&job->stop_at, memory_order_relaxed); /* after the join */
    if (stop_at != SIZE_MAX)
        need = twill__place_of(job, stop_at) + 1;
    scan->at = atomic_load_explicit(&scan->front, memory_order_relaxed);
    for (size_t block = 0; block < need; block++)
        if (scan->state[block] == TWILL__SCAN_NONE && block != scan->blocks - 1)
            return;
    if (scan->at >= need || atomic_load_explicit(&job->stop, memory_order_relaxed) ||
        !twill__scan_carry(job, scan, need))
        return;
    pass.n = need - scan->at;
    pass.body = twill__scan_second;
    pass.first = scan->at * scan->each;
    pass.forced = twill__was_shared(job);
    twill__run_pass(job, &pass);
}

static inline bool twill__scan_memory(twill__scan *scan, char *small, size_t small_size)
{
    unsigned np = twill__workers_for(&scan->options->run, scan->n);
    size_t elements, works = scan->size > TWILL__SCAN_LOCAL ? (size_t)np * 2 : 0;
    size_t blocks = np == 1 && scan->options->schedule == TWILL_SCHEDULE_AUTO ? 1
                    : scan->n < 16384                                         ? 64
                                                                              : 256;
    scan->each = (scan->n - 1) / blocks + 1;
    if (scan->each < 16)
        scan->each = 16;
    scan->blocks = (scan->n - 1) / scan->each + 1;
    scan->memory = NULL;
    elements = scan->blocks + works + 1;
    if (scan->size > (SIZE_MAX - TWILL__LINE - scan->blocks) / elements)
        return false;
    if (elements * scan->size + scan->blocks > small_size) {
        scan->memory = (char *)TWILL_MALLOC(elements * scan->size + scan->blocks + TWILL__LINE);
        if (!scan->memory)
            return false;
        small = twill__aligned(scan->memory);
    }
    scan->sum = small;
    scan->carry = small + scan->blocks * scan->size;
    scan->work = works ? scan->carry + scan->size : NULL;
    scan->state = (unsigned char *)small + elements * scan->size;
    memset(scan->state, TWILL__SCAN_NONE, scan->blocks);
    if (scan->start)
        memcpy(scan->carry, scan->start, scan->size);
    return true;
}

static __attribute__((noinline)) twill_status twill__scan_guarded(twill__scan *scan)
{
    twill_status status;
    TWILL__GUARD_PUSH(twill__free_ended, scan->memory);
    status = twill__run_call(&scan->options->run, scan->n, false, twill__scan_steps, scan);
    TWILL__GUARD_POP(0);
    TWILL_FREE(scan->memory);
    return status;
}

TWILL__DEFINE twill_status twill_parallel_scan(const void *in, void *out, size_t size, size_t n,
                                               const void *start, twill_combine_fn *combine,
                                               const twill_parallel_options *options)
{
    _Alignas(TWILL__LINE) char small[TWILL__SCAN_SMALL];
    twill__scan scan = {
        .in = (const char *)in, .out = (char *)out, .size = size, .n = n, .start = start};
    twill_status status = twill__items_check(in, size, n);
    scan.combine = combine;
    options = scan.options = twill__parallel_options(options);
    if (!combine || (n && !out) || (unsigned)options->schedule > TWILL_SCHEDULE_STATIC ||
        options->chunk || options->cost_of)
        status = TWILL_INVALID;
    if (status == TWILL_OK)
        status = twill__check_run(&options->run);
    if (status == TWILL_OK && n && !twill__scan_memory(&scan, small, sizeof small))
        status = TWILL_NO_MEMORY;
    if (status != TWILL_OK)
        return twill__refuse(&options->run, n, status);
    if (n && scan.memory)
        return twill__scan_guarded(&scan);
    return twill__run_call(&options->run, n, false, twill__scan_steps, &scan);
}

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
    else if (b < b_end)
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
    status = twill__run_call(&sort->options->run, sort->n, false, twill__sort_steps, sort);
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
#endif
