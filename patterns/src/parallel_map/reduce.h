/* reduce.h: reduce: fixed cuts, combined in a fixed tree. */
#ifndef TWILL__PARALLEL_MAP_REDUCE_H
#define TWILL__PARALLEL_MAP_REDUCE_H

#include "parallel_map/passes.h"

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
/* typed: items that are folded at once. No multiple of 512: the eight places where that reads
   must not fall into one set of a cache */
#define TWILL__REDUCE_PIECE  4000
#define TWILL__REDUCE_SERIAL 20 /* us of combining that nobody is called for */

enum { TWILL__ACC_NONE, TWILL__ACC_MADE, TWILL__ACC_FULL };

typedef struct twill__reduce {
    const twill_reducer *reducer;
    const twill_parallel_options *options;
    const void *in; /* typed: the items, and what folds them instead of reducer->fold */
    twill__fold_fn *fold;
    void *result;
    size_t n, blocks, each; /* items a block */
    size_t group, levels;   /* blocks at once, a power of 2; accumulators on the counter */
    size_t at, count;       /* first block and size of the group that runs */
    size_t stride;
    char *acc;            /* [group + levels] */
    unsigned char *state; /* [group + levels] */
    char *memory;         /* what was allocated, or NULL */
    twill__cut *cuts;
    twill__home home; /* the process that began it, if there is `dispose` */
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

/* In a forked child a helper is in the middle of its own for ever: those are left alone. */
static inline void twill__acc_drop_all(twill__reduce *reduce, const twill_task *task)
{
    const twill_reducer *reducer = reduce->reducer;
    bool child = reducer->dispose && !twill__at_home(reduce->home);
    for (size_t k = 0; reducer->dispose && k < reduce->group + reduce->levels; k++)
        if (!child || (reducer->unordered ? k == 0 : reduce->state[k] == TWILL__ACC_FULL))
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

/* False: the call ended meanwhile. */
static inline bool twill__reduce_pieces(twill__job *job, const twill__reduce *reduce, size_t from,
                                        size_t to, void *acc, const twill_task *task)
{
    for (size_t at = from, next; at < to; at = next) {
        next = to - at < TWILL__REDUCE_PIECE ? to : at + TWILL__REDUCE_PIECE;
        reduce->fold(reduce->in, at, next, acc, at != from, task);
        if (next < to && job->may_end && twill__stopped(job, twill__clock_now()))
            return false;
    }
    return true;
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
            if (!reduce->fold)
                code = reducer->fold(acc, from, to, task);
            else if (!twill__reduce_pieces(job, reduce, from, to, acc, task))
                break;
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
    int code;
    /* a child forked meanwhile leaves both alone */
    reduce->state[left] = reduce->state[right] = TWILL__ACC_MADE;
    code = reduce->reducer->combine(twill__acc(reduce, left), twill__acc(reduce, right), task);
    twill__acc_drop(reduce, right, task);
    reduce->state[left] = TWILL__ACC_FULL;
    me->said = 0;
    if (!code)
        return true;
    me->done--; /* may go below 0: only the sum over the workers counts */
    twill__item_failed(job, me, at, item, TWILL_FAILED, code);
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
    twill__slot *me = &job->slot[task->worker];
    twill_task outside = *task; /* a combine is in no item */
    for (size_t k = begin; k < end && twill__may_run(job, k); k++) {
        size_t from = (k + 1) * TWILL__REDUCE_TREE, to = from + TWILL__REDUCE_TREE;
        /* should a combine end the thread, this one, counted as done, is LOST */
        task->index = twill__reduce_item(reduce, from);
        me->done--;
        (void)twill__reduce_tree(job, reduce, from, to < reduce->count ? to : reduce->count, 1, k,
                                 &outside);
        me->done++;
    }
    task->index = SIZE_MAX;
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
        bool alone = twill__left_alone(job);
        twill__pass pass = {
            .n = (count - 1) / tree, .body = twill__reduce_trees, .data = reduce, .forced = true};
        pass.first = twill__reduce_item(reduce, tree);
        pass.unit = reduce->each > SIZE_MAX / tree ? SIZE_MAX : reduce->each * tree;
        twill__run_deaf(job, &pass);
        if (!alone && twill__left_alone(job))
            /* a child, forked here: trees are missing, even if it has folded all items itself */
            job->slot[0].done--;
        if (!twill__all_well(job, reduce->n)) /* also if a combine has failed */
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
        if (!twill__all_well(job, reduce->n))
            return false;
        twill__go_on_below(job);
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

/* The two last digits of the counter become one. right: so many groups are in the last one, of all
   `groups` that have come. */
static inline bool twill__reduce_carry(twill__job *job, twill__reduce *reduce, size_t top,
                                       size_t groups, size_t right, twill_task *task)
{
    return twill__acc_combine(job, reduce, top - 2, top - 1, 0,
                              (groups - right) * reduce->group * reduce->each, task);
}

static inline size_t twill__low_bit(size_t word)
{
    return word & (~word + 1);
}

/* A group that has failed is gone. Whether those that follow are folded all the same, so that all
   errors are seen. */
static inline bool twill__reduce_goes_on(twill__job *job, twill__reduce *reduce,
                                         const twill_task *task)
{
    if (job->policy != TWILL_ON_ERROR_COLLECT || twill__left_alone(job))
        return false;
    for (size_t k = 0; k < reduce->count; k++)
        twill__acc_drop(reduce, k, task);
    return true;
}

static inline bool twill__reduce_run(twill__job *job, twill__reduce *reduce, twill_task *task)
{
    size_t top = reduce->group, groups = 0; /* the counter's digits lie behind the group */
    bool last = false, failed = false;
    if (reduce->group == 1)
        twill__run_alone(job);
    for (reduce->at = 0; reduce->at < reduce->blocks && !last; reduce->at += reduce->group) {
        size_t left = reduce->blocks - reduce->at;
        reduce->count = left < reduce->group ? left : reduce->group;
        if (!twill__reduce_fold(job, reduce, task, &last) || failed ||
            !twill__reduce_group(job, reduce, task)) {
            if (!twill__reduce_goes_on(job, reduce, task))
                return false;
            failed = true;
            continue;
        }
        if (reduce->levels == 0)
            break;
        twill__acc_move(reduce, 0, top++);
        groups++;
        for (size_t bit = 1; !(groups & bit); bit *= 2, top--) /* exit: groups > 0 */
            if (!twill__reduce_carry(job, reduce, top, groups, bit, task))
                return false;
    }
    if (failed)
        return false;
    for (size_t right = twill__low_bit(groups); top > reduce->group + 1; top--) {
        if (!twill__reduce_carry(job, reduce, top, groups, right, task))
            return false;
        right += twill__low_bit(groups - right);
    }
    if (reduce->levels)
        twill__acc_move(reduce, reduce->group, 0);
    if (!twill__ends_well(job, reduce->n))
        return false;
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
    if (!twill__ends_well(job, reduce->n))
        return false;
    twill__go_on_below(job);
    while (reduce->state[first] == TWILL__ACC_NONE)
        first++; /* exit: the items that it ended well with are in some of them */
    for (size_t k = first + 1; k < reduce->group; k++)
        if (reduce->state[k] != TWILL__ACC_NONE &&
            !twill__acc_combine(job, reduce, first, k, 0, 0, task))
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
    status = twill__start(reduce->options, reduce->n, true, steps, reduce, &reduce->cuts);
    TWILL__GUARD_POP(0);
    if (reduce->memory)
        TWILL_FREE(reduce->memory);
    return status;
}

static inline unsigned twill__workers_for(const twill_run *run, size_t n)
{
    twill__plan plan;
    twill__make_plan(&plan, twill__thread(), run, run->workers, n);
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
    return reducer && result && reducer->combine && (reducer->size || !n) &&
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

TWILL__DEFINE twill_status twill__parallel_reduced(size_t n, const twill_reducer *reducer,
                                                   const void *in, size_t size,
                                                   twill__fold_fn *fold, void *result,
                                                   const twill_parallel_options *options)
{
    _Alignas(TWILL__LINE) char small[TWILL__REDUCE_SMALL];
    twill__reduce reduce;
    twill__steps_fn *steps;
    twill_status status;
    options = twill__parallel_options(options);
    status = fold ? twill__items_check(in, size, n) : TWILL_OK;
    if (!twill__reduce_valid(n, reducer, result, options) || (!fold && !reducer->fold))
        status = TWILL_INVALID;
    if (status == TWILL_OK)
        status = twill__check_run(&options->run);
    if (status != TWILL_OK)
        return twill__refuse(&options->run, n, status);
    if (n == 0)
        return twill__reduce_nothing(reducer, result, &options->run);
    steps = reducer->unordered ? twill__unordered_steps : twill__reduce_steps;
    reduce.reducer = reducer;
    reduce.options = options;
    reduce.in = in;
    reduce.fold = fold;
    reduce.result = result;
    reduce.n = n;
    twill__reduce_cut(&reduce);
    if (reducer->dispose)
        reduce.home = twill__home_here();
    if (!twill__reduce_memory(&reduce, small, sizeof small))
        return twill__refuse(&options->run, n, TWILL_NO_MEMORY);
    if (reduce.memory || reducer->dispose)
        return twill__reduce_guarded(&reduce, steps);
    return twill__start(options, n, true, steps, &reduce, &reduce.cuts);
}

TWILL__DEFINE twill_status twill_parallel_reduce(size_t n, const twill_reducer *reducer,
                                                 void *result,
                                                 const twill_parallel_options *options)
{
    return twill__parallel_reduced(n, reducer, NULL, 0, NULL, result, options);
}

#endif
