/* loops.h: map, for, range, tiles, invoke, find: one pass over the items. */
#ifndef TWILL__PARALLEL_MAP_LOOPS_H
#define TWILL__PARALLEL_MAP_LOOPS_H

#include "parallel_map/cost.h"

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

/* Runs steps that may use twill__sweep_pass. cuts: where it finds its table. guard: user code runs
   between passes, or something must be undone if a callback ends the thread. */
static inline twill_status twill__start(const twill_parallel_options *options, size_t n, bool guard,
                                        twill__steps_fn *steps, void *data, twill__cut **cuts)
{
    if (options->schedule == TWILL_SCHEDULE_COST)
        return twill__start_by_cost(&options->run, n, steps, data, cuts);
    return twill__run_call(&options->run, n, guard, steps, data);
}

/* Apart: a tiny call needs no such frame. */
static __attribute__((noinline)) twill_status
twill__run_sweep(size_t n, twill__body_fn *body, void *data, bool whole,
                 const twill_parallel_options *options)
{
    twill__sweep loop;
    twill__sweep_init(&loop, n, body, data, options);
    loop.pass.whole = whole;
    return twill__start(options, n, false, twill__sweep_steps, &loop, &loop.cuts);
}

/* key: the user's function */
static inline twill_status twill__run_loop(size_t n, uintptr_t key, twill__body_fn *body,
                                           void *data, bool whole,
                                           const twill_parallel_options *options)
{
    if (n && options->schedule == TWILL_SCHEDULE_AUTO && !options->chunk &&
        twill__has_no_wishes(&options->run))
        return twill__run_brief(&options->run, n, key, body, data, whole);
    return twill__run_sweep(n, body, data, whole, options);
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
        int code;
        do {
            task->index = i;
            code = one(data, task);
            i++;
        } while (!twill__loop_odd(me, code) && i < look);
        if (!twill__loop_goes_on(&loop, i - 1, code))
            end = i;
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
    return twill__run_loop(n, (uintptr_t)fn, twill__map_body, &map, false, options);
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
    return twill__run_loop(n, (uintptr_t)fn, twill__for_body, &loop, false, options);
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
    return twill__start(options, n, false, twill__sweep_steps, &loop, &loop.cuts);
}

/* ---- ranges ---- */

#ifndef TWILL__PIECE /* the explorer wants less */
#define TWILL__PIECE 16
#endif

/* A chunk of a loop that is compiled in, in pieces, each of them one range for its callback. AUTO's
   chunks last 10 us as they are; others are cut here, by the clock, from TWILL__PIECE items on. */
typedef struct twill__pieces {
    twill__job *job;
    twill__slot *me;
    twill_task *task;
    size_t size; /* items of the next one; 0: all */
    twill_ns since;
} twill__pieces;

static inline twill__pieces twill__pieces_of(twill__job *job, twill_task *task, size_t begin,
                                             size_t end)
{
    bool whole = (twill__is_timed(job->schedule) && !job->chunk) || end - begin <= TWILL__PIECE;
    twill__pieces pieces = {job, &job->slot[task->worker], task, whole ? 0 : TWILL__PIECE, 0};
    pieces.me->from = end; /* see twill__thread_ended */
    return pieces;
}

/* How long the next one is to be. False: the call is over. */
static inline bool twill__piece_size(twill__pieces *pieces)
{
    twill_ns now = twill__clock_now(), took = now - pieces->since;
    if (twill__stopped(pieces->job, now))
        return false;
    if (pieces->since && took < TWILL__CHUNK_NS / 2 && pieces->size <= SIZE_MAX / 2)
        pieces->size *= 2;
    else if (pieces->since && took > 2 * TWILL__CHUNK_NS && pieces->size > 1)
        pieces->size /= 2;
    pieces->since = now;
    return true;
}

/* To where the piece goes that begins at item `at`; `at`: none is wanted any more. */
static inline size_t twill__piece(twill__pieces *pieces, size_t at, size_t end)
{
    size_t to = end;
    if (at >= end || !twill__may_run(pieces->job, at) ||
        (pieces->size && !twill__piece_size(pieces))) {
        pieces->me->from = SIZE_MAX;
        return at;
    }
    if (pieces->size && pieces->size < end - at)
        to = at + pieces->size;
    pieces->task->index = at;
    pieces->me->end = to; /* a stop takes effect there, and what follows can be handed back */
    return to;
}

static inline void twill__piece_ended(twill__pieces *pieces, size_t at, size_t to)
{
    twill__range_end(pieces->job, pieces->me, SIZE_MAX, at, to, 0);
}

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
    twill__ranges ranges;
    ranges.fn = fn; /* all that twill__range_body reads */
    options = twill__parallel_options(options);
    if (!fn || !twill__parallel_valid(options))
        return twill__refuse(&options->run, n, TWILL_INVALID);
    return twill__run_loop(n, (uintptr_t)fn, twill__range_body, &ranges, true, options);
}

TWILL__DEFINE twill_status twill__parallel_typed(size_t n, twill__typed_fn *fn, const void *call,
                                                 const twill_parallel_options *options)
{
    twill__ranges ranges;
    ranges.typed = fn; /* and `call`: all that twill__typed_body reads */
    ranges.call = call;
    options = twill__parallel_options(options);
    if ((!fn && n) || !twill__parallel_valid(options))
        return twill__refuse(&options->run, n, TWILL_INVALID);
    return twill__run_loop(n, (uintptr_t)fn, twill__typed_body, &ranges, true, options);
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
    return twill__run_loop(n, (uintptr_t)tiles.fn, twill__tile_body, &tiles, false, options);
}

/* ---- find ---- */

typedef struct twill__find {
    const char *in;
    size_t size;
    twill_test_fn *match;
    twill__first_fn *first; /* typed: instead of match */
    _Atomic size_t found;   /* the lowest match so far */
    size_t stop_at;         /* the lowest twill_task_stop: the serial loop got no further */
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
            if (!twill__loop_goes_on(&loop, i, 0) || found)
                end = look = i + 1;
            i++;
        }
    }
    twill__loop_end(me, i);
}

static inline void twill__first_body(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    twill__find *find = (twill__find *)job->data;
    twill__pieces pieces = twill__pieces_of(job, task, begin, end);
    for (size_t at = begin, to; (to = twill__piece(&pieces, at, end)) > at; at = to) {
        size_t first = find->first(find->in, at, to, task);
        if (first < to) {
            twill__found(find, job, first);
            end = to = first + 1;
        }
        twill__piece_ended(&pieces, at, to);
    }
}

/* Whether there is a match, all items below it have run, and none of them gave up. */
static inline bool twill__find_is_sure(twill__job *job, const twill__find *find, size_t n)
{
    size_t skipped = 0;
    /* relaxed: after the join */
    if (atomic_load_explicit(&find->found, memory_order_relaxed) == n ||
        atomic_load_explicit(&job->stop, memory_order_relaxed) || twill__left_alone(job))
        return false;
    for (unsigned worker = 0; worker < job->np; worker++)
        if (atomic_load_explicit(&job->ready[worker / 64], memory_order_relaxed) &
            twill__bit(worker))
            skipped += job->slot[worker].skipped;
    return skipped == 0;
}

static inline void twill__find_steps(twill__job *job, void *data)
{
    twill__sweep *loop = (twill__sweep *)data;
    twill__sweep_pass(job, loop);
    ((twill__find *)loop->pass.data)->stop_at =
        atomic_load_explicit(&job->stop_at, memory_order_seq_cst);
    if (twill__find_is_sure(job, (const twill__find *)loop->pass.data, loop->pass.n))
        job->may_end = false; /* token and deadline come too late: twill__answer does not look */
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

TWILL__DEFINE twill_status twill__parallel_found(const void *in, size_t size, size_t n,
                                                 size_t *index, twill_test_fn *match,
                                                 twill__first_fn *first,
                                                 const twill_parallel_options *options)
{
    twill__find find = {(const char *)in, size, match, first, n, SIZE_MAX};
    twill__sweep loop;
    twill_status status = twill__items_check(in, size, n);
    options = twill__parallel_options(options);
    if ((!match && !first) || !index || !twill__parallel_valid(options))
        status = TWILL_INVALID;
    if (index)
        *index = n;
    if (status != TWILL_OK)
        return twill__refuse(&options->run, n, status);
    twill__sweep_init(&loop, n, first ? twill__first_body : twill__find_body, &find, options);
    loop.pass.whole = first != NULL;
    if (options->schedule == TWILL_SCHEDULE_AUTO && !options->chunk)
        loop.pass.schedule = TWILL__FRONT;
    status = twill__start(options, n, false, twill__find_steps, &loop, &loop.cuts);
    /* relaxed: all have left, the join ordered it */
    *index = atomic_load_explicit(&find.found, memory_order_relaxed);
    if (*index > find.stop_at)
        *index = n;
    return status;
}

TWILL__DEFINE twill_status twill_parallel_find(const void *in, size_t size, size_t n, size_t *index,
                                               twill_test_fn *match,
                                               const twill_parallel_options *options)
{
    return twill__parallel_found(in, size, n, index, match, NULL, options);
}

#endif
