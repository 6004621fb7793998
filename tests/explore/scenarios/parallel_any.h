/* parallel_any.h: what parallel_any and algorithms_any share: a call drawn at random, what its
   items do, its books, and what they and the report must say. Compile with -DTWILL__SPIN=0
   -DTWILL__TICKS=0. */
#ifndef PARALLEL_ANY_H
#define PARALLEL_ANY_H

#undef NDEBUG
#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "explore.h"

extern int fork(void);

static bool no_threads, no_memory; /* some creations, some allocations fail */

static inline int choose(int n)
{
    return EXPLORE_CHOICE(n, 0);
}

static inline bool one_in(int n)
{
    return choose(n) == 0;
}

static inline int thread_fails(void)
{
    return no_threads && one_in(3);
}

static inline void *maybe_malloc(size_t size)
{
    return no_memory && one_in(3) ? NULL : malloc(size);
}

#define TWILL__FAIL_THREAD() thread_fails()
#define TWILL_MALLOC(size)   maybe_malloc(size)
#define TWILL_FREE(block)    free(block)
#define TWILL_IMPLEMENTATION
#include "twill_parallel_map.h"
#include "twill_worker_pool.h"

#ifndef MOST
#define MOST 8 /* items */
#endif

enum { CALLS = 12, NUMBERS = 8, DEEPEST = 2 };

/* What an item does. ENDS: its thread, unless that must not end. */
enum { WELL, FAILS, STOPS, SKIPS, STOPS_AND_FAILS, NAPS, WAITS, ENDS, NESTS, BLOCKS, KINDS };

/* What an item has done. CUT_OFF: one below it has failed, in the same range. */
enum { NOTHING, INSIDE, GOOD, FAILED, GAVE_UP, LOST, CUT_OFF };

typedef struct call {
    int form, n, depth, least; /* least: what find looks for */
    int act[MOST];
    bool with_until, with_start, checked; /* its books are those of single items */
    unsigned refuses;                     /* the numbers whose worker_start fails */
    twill_parallel_options options;
    twill_report report;
    twill_status statuses[MOST], status;
    int codes[MOST];
    twill_item_error errors[3];
    /* plain: items are ordered with what comes after the call, and one number's with each other */
    int ran[MOST], how[MOST];
    bool stops[MOST]; /* it has said so */
    int end[MOST];    /* of the items that are one callback with it; 0: it is alone */
    int busy[NUMBERS], started[NUMBERS], stopped[NUMBERS], state[NUMBERS], used[NUMBERS];
    atomic_int visits;
    atomic_int decisive, lowest; /* items that fail, stop or are lost, from before they do */
    int last_stopped;
    const void *caller; /* its thread */
    atomic_bool returned;
    bool over; /* plain: who comes after it is a data race */
} call;

static call calls[CALLS];
static atomic_int call_count;
static twill_cancel token;
static twill_pool *pool;
static bool ends;           /* threads may end */
static atomic_int to_fork;  /* the item that brings it to 0 forks */
static bool child;          /* the new process: other threads' items and calls stay as they are */
static atomic_int odd_ends; /* callbacks that are no item's have failed, or ended their thread */
static _Thread_local bool stays;

static void any_call(call *c, int depth);

static inline void leave_thread(void)
{
    stays = true;
#ifdef TWILL_USE_PTHREAD
    pthread_exit(NULL);
#else
    thrd_exit(0);
#endif
}

/* A place in the books of a call that may never return. */
static inline call *new_call(void)
{
    int k = atomic_fetch_add(&call_count, 1);
    return k < CALLS ? &calls[k] : NULL;
}

/* ---- a callback ---- */

static inline void check_number(call *c, const twill_task *task)
{
    const twill_run *run = &c->options.run;
    assert(task->context == c && !c->over);
    assert(task->worker < task->workers && task->workers <= NUMBERS);
    assert(!run->workers || task->workers <= run->workers || c->n <= 1);
    assert(task->until.deadline == run->until.deadline);
    assert(task->until.cancel);
}

/* The first thing in an item, or in one callback for several. */
static inline void come_in(call *c, const twill_task *task)
{
    check_number(c, task);
    atomic_fetch_add(&c->visits, 1); /* it does something: who loops over items does not poll */
    assert(c->busy[task->worker]++ == 0); /* one thread a number */
    c->used[task->worker] = 1;
    if (c->with_start)
        assert(task->worker_state == &c->state[task->worker] && c->started[task->worker] == 1);
    else
        assert(!task->worker_state);
}

static inline void go_out(call *c, const twill_task *task)
{
    assert(!c->over);
    c->busy[task->worker]--;
}

/* Will this item fail, stop or perhaps be lost? */
static inline bool decides(const call *c, int i)
{
    return c->act[i] == FAILS || c->act[i] == STOPS || c->act[i] == STOPS_AND_FAILS ||
           ((c->act[i] == ENDS || c->act[i] == NESTS) && ends && !stays);
}

/* It does, in a moment. */
static inline void decide(call *c, int i)
{
    int lowest = atomic_load(&c->lowest);
    atomic_fetch_add(&c->decisive, 1);
    while (i < lowest && !atomic_compare_exchange_strong(&c->lowest, &lowest, i)) {}
}

/* Told to give up: somebody lower has failed or stopped, or the whole call is over. */
static inline void check_told(call *c, int i)
{
    twill_on_error policy = c->options.run.on_error;
    bool lower = atomic_load(&c->lowest) < i;
    bool others = atomic_load(&c->decisive) > decides(c, i);
    if (policy == TWILL_ON_ERROR_FIRST || policy == TWILL_ON_ERROR_LIMIT)
        lower = others;
    /* else a lower item was told to give up */
    assert(lower || c->with_until || atomic_load(&odd_ends));
}

/* Unless its range is lost already, in its first item's name. */
static inline void lose(call *c, int i)
{
    c->how[i] = c->how[i] == CUT_OFF ? CUT_OFF : LOST;
}

/* Goes on as the parent, or as the child, which is this thread alone. */
static inline void fork_here(void)
{
    if (fork() != 0) {
        EXPLORE_REACHED("parent");
        return;
    }
    EXPLORE_REACHED("child");
    child = true;
}

/* One item; 0 or its code. */
static inline int act(call *c, int i, const twill_task *task)
{
    call *inner;
    assert(i < c->n && c->ran[i]++ == 0);
    if (c->how[i] == NOTHING)
        c->how[i] = INSIDE;
    if (atomic_fetch_sub(&to_fork, 1) == 1)
        fork_here();
    if (decides(c, i))
        decide(c, i);
    if (twill_task_cancelled(task))
        check_told(c, i);
    switch (c->act[i]) {
    case FAILS:
        c->how[i] = FAILED;
        return 100 + i;
    case STOPS:
        c->stops[i] = true;
        c->how[i] = GOOD;
        return twill_task_stop(task);
    case STOPS_AND_FAILS:
        (void)twill_task_stop(task);
        c->stops[i] = true;
        c->how[i] = FAILED;
        return 100 + i;
    case SKIPS:
        c->how[i] = GAVE_UP;
        return twill_task_skip(task);
    case NAPS: /* until it is told, or a moment */
        if (twill_sleep(twill_within_or_cancelled(TWILL_US(3), task->until.cancel)) != TWILL_OK) {
            check_told(c, i);
            c->how[i] = GAVE_UP;
            return twill_task_skip(task);
        }
        break;
    case WAITS:
        (void)twill_sleep(twill_within(TWILL_US(2)));
        break;
    case ENDS:
        if (ends && !stays) {
            lose(c, i);
            c->busy[task->worker]--;
            leave_thread();
        }
        break;
    case NESTS:
        inner = c->depth + 1 < DEEPEST ? new_call() : NULL;
        if (inner) {
            lose(c, i); /* unless it comes back */
            c->busy[task->worker]--;
            any_call(inner, c->depth + 1);
            c->busy[task->worker]++;
        }
        break;
    case BLOCKS:
        twill_task_block_begin(task);
        (void)twill_sleep(twill_within(TWILL_US(1)));
        twill_task_block_end(task);
        break;
    default:
        break;
    }
    c->how[i] = GOOD;
    return 0;
}

/* An item of a range: if it ends the thread, the range is lost as its first one. */
static inline int act_in(call *c, size_t begin, size_t i, size_t end, const twill_task *task)
{
    bool may_end = ends && !stays && (c->act[i] == ENDS || c->act[i] == NESTS);
    int code, was[MOST];
    c->end[i] = (int)end;
    for (size_t k = begin; k < end; k++) { /* others write theirs meanwhile */
        was[k] = c->how[k];
        if (may_end)
            c->how[k] = k == begin ? LOST : CUT_OFF;
    }
    code = act(c, (int)i, task);
    if (may_end) {
        for (size_t k = begin; k < end; k++)
            c->how[k] = k == i ? GOOD : was[k];
    }
    return code;
}

/* One callback for the items begin..end-1; add: what each that does well adds to acc. */
static void add(void *acc, int i);
static inline int act_range(call *c, size_t begin, size_t end, void *acc, const twill_task *task)
{
    int code = 0;
    bool gives_up = false;
    come_in(c, task);
    assert(task->index == begin && begin < end && end <= (size_t)c->n);
    for (size_t i = begin; i < end; i++) {
        if (code)
            c->how[i] = CUT_OFF;
        else if ((code = act_in(c, begin, i, end, task)) != 0)
            (void)twill_task_fail(task, i, code);
        else
            gives_up = gives_up || c->how[i] == GAVE_UP;
        if (!code && acc)
            add(acc, (int)i);
    }
    for (size_t i = begin; i < end && gives_up; i++)
        if (!code || c->how[i] == GAVE_UP)
            c->how[i] = code ? GOOD : GAVE_UP;
    go_out(c, task);
    return code;
}

/* ---- hooks ---- */

static inline int start_worker(void **state, const twill_task *task)
{
    call *c = task->context;
    check_number(c, task);
    assert(task->index == SIZE_MAX && c->started[task->worker]++ == 0);
    if (c->refuses & 1u << task->worker) {
        if (ends && !stays && one_in(2))
            leave_thread();
        return 50;
    }
    c->state[task->worker] = 1;
    *state = &c->state[task->worker];
    return 0;
}

static inline void stop_worker(void *state, const twill_task *task)
{
    call *c = task->context;
    check_number(c, task);
    assert((c->caller == &stays || child) && !c->over);
    assert(c->with_start ? state == &c->state[task->worker] : !state);
    assert(c->last_stopped < (int)task->worker);
    c->last_stopped = (int)task->worker;
    assert(c->state[task->worker]-- == 1);
    assert(c->stopped[task->worker]++ == 0);
}

static inline uint64_t cost_of(size_t index, const twill_task *task)
{
    call *c = task->context;
    check_number(c, task);
    if (ends && !stays && one_in(30))
        leave_thread();
    return index * 7 % 5;
}

/* ---- what is drawn ---- */

static inline void draw_until(call *c)
{
    twill_run *run = &c->options.run;
    if (one_in(6))
        run->until.cancel = &token;
    if (one_in(6))
        run->until.deadline = twill_now() + (twill_ns)choose(3) * TWILL_US(2) + 1;
    c->with_until = run->until.cancel || run->until.deadline;
}

static inline void draw_run(call *c)
{
    twill_run *run = &c->options.run;
    run->context = c;
    run->report = &c->report;
    run->workers = (unsigned)choose(5);
    run->strict = one_in(5);
    run->on_error = one_in(2) ? TWILL_ON_ERROR_DEFAULT : (twill_on_error)choose(5);
    run->max_errors = (size_t)choose(3);
    if (one_in(3))
        run->statuses = c->statuses;
    if (one_in(3))
        run->codes = c->codes;
    if (one_in(3)) {
        run->errors = c->errors;
        run->errors_capacity = 1 + (size_t)choose(3);
    }
    if (one_in(3)) {
        run->worker_start = start_worker;
        run->worker_stop = stop_worker;
        c->with_start = true;
        if (one_in(3))
            c->refuses = (unsigned)choose(16);
    }
    if (pool && one_in(2))
        run->pool = pool;
    draw_until(c);
}

static inline void draw_items(call *c)
{
    static const int mostly[] = {WELL, FAILS, STOPS, ENDS, NESTS, NAPS};
    int often = mostly[choose(6)], odd = 1 + choose(4);
    for (int i = 0; i < c->n; i++)
        c->act[i] = !one_in(odd) ? WELL : one_in(2) ? often : choose(KINDS);
}

/* ---- what must hold ---- */

static inline bool failed(call *c, int i)
{
    int how = c->how[i];
    return how == FAILED || how == LOST;
}

/* The lowest item that has failed, been lost or stopped the loop; c->n: none. */
static inline int lowest(call *c)
{
    int i = 0;
    while (i < c->n && !failed(c, i) && !c->stops[i])
        i++;
    return i;
}

/* The last item that a stop lets through: it takes effect at the end of a callback. c->n: none. */
static inline int lowest_stop(call *c)
{
    int i = 0;
    while (i < c->n && !c->stops[i])
        i++;
    return i < c->n && c->end[i] ? c->end[i] - 1 : i;
}

static inline bool refused(twill_status status)
{
    return status == TWILL_NO_THREAD || status == TWILL_NO_MEMORY || status == TWILL_CLOSED;
}

static inline void check_hooks(call *c)
{
    for (int k = 0; k < NUMBERS; k++) {
        assert(c->busy[k] == 0 && c->state[k] == 0);
        if (c->with_start && !(c->refuses & 1u << k))
            assert(c->started[k] == c->stopped[k]);
        assert(!(c->refuses & 1u << k) || !c->used[k]);
    }
}

static inline void check_details(call *c)
{
    const twill_run *run = &c->options.run;
    size_t stored = 0;
    for (int i = 0; i < c->n; i++) {
        int how = c->how[i];
        twill_status said = how == GOOD     ? TWILL_OK
                            : how == FAILED ? TWILL_FAILED
                            : how == LOST   ? TWILL_LOST
                                            : TWILL_CANCELLED;
        if (run->statuses && (said != TWILL_CANCELLED || how == GAVE_UP))
            assert(c->statuses[i] == said);
        else if (run->statuses)
            assert(c->statuses[i] == TWILL_CANCELLED ||
                   (c->statuses[i] == TWILL_TIMEOUT && run->until.deadline &&
                    twill_now() >= run->until.deadline));
        if (run->codes)
            assert(c->codes[i] == (how == FAILED ? 100 + i : 0));
        if (failed(c, i) && stored < run->errors_capacity) {
            assert(stored < c->report.errors_stored);
            assert(c->errors[stored].index == (size_t)i && c->errors[stored].status == said &&
                   c->errors[stored].code == (how == FAILED ? 100 + i : 0));
            stored++;
        }
    }
    assert(c->report.errors_stored == stored);
}

/* Which items must have run: all, or, below the one that decides, all. */
static inline void check_ran(call *c, bool caller_left)
{
    twill_on_error policy = c->options.run.on_error;
    int low = policy <= TWILL_ON_ERROR_LOWEST ? lowest(c) : lowest_stop(c);
    size_t failures = 0, most = policy == TWILL_ON_ERROR_FIRST || !c->options.run.max_errors
                                    ? 1
                                    : c->options.run.max_errors;
    for (int i = 0; i < c->n; i++)
        failures += failed(c, i);
    if (c->with_until || caller_left || c->report.first_error.index == SIZE_MAX)
        return;
    if ((policy == TWILL_ON_ERROR_FIRST || policy == TWILL_ON_ERROR_LIMIT) && failures >= most)
        return;
    for (int i = 0; i < c->n; i++)
        assert(c->ran[i] == 1 || i > low || c->how[i] == CUT_OFF);
}

static inline void check_error(call *c)
{
    const twill_report *report = &c->report;
    const twill_item_error *error = &report->first_error;
    twill_on_error policy = c->options.run.on_error;
    int stop = lowest_stop(c), first = 0, i = (int)error->index;
    while (first < c->n && !(failed(c, first) && first <= stop))
        first++;
    if (error->status == TWILL_OK) {
        assert(error->index == 0 && error->code == 0 && report->status != TWILL_FAILED);
        assert(first == c->n);
        return;
    }
    assert(report->status == TWILL_FAILED);
    if (error->index == SIZE_MAX) { /* the caller's worker_start */
        assert(c->refuses & 1u && error->status == TWILL_FAILED && error->code == 50);
        assert(report->skipped == report->total);
        return;
    }
    assert(i < c->n && failed(c, i));
    assert(error->status == (c->how[i] == LOST ? TWILL_LOST : TWILL_FAILED));
    assert(error->code == (c->how[i] == LOST ? 0 : 100 + i));
    if (policy == TWILL_ON_ERROR_LIMIT &&
        first == c->n) /* enough had failed, before a stop below */
        assert(i > stop);
    else if (policy != TWILL_ON_ERROR_FIRST)
        assert(i == first);
}

static inline void check_status(call *c)
{
    const twill_report *report = &c->report;
    const twill_run *run = &c->options.run;
    bool gave_up = false;
    int stop = lowest_stop(c);
    for (int i = 0; i < c->n; i++)
        gave_up = gave_up || c->how[i] == GAVE_UP;
    switch (report->status) {
    case TWILL_OK:
        assert(report->skipped == 0 || gave_up || stop < c->n);
        break;
    case TWILL_FAILED:
        break;
    case TWILL_CANCELLED:
        assert(run->until.cancel && twill_cancel_fired(run->until.cancel) && report->skipped);
        break;
    case TWILL_TIMEOUT:
        assert(run->until.deadline && twill_now() >= run->until.deadline && report->skipped);
        break;
    default:
        assert(!"a status of a call");
    }
    check_error(c);
}

static inline void check_figures(call *c)
{
    const twill_report *report = &c->report;
    size_t done = 0, lost = 0;
    unsigned count = 0;
    assert(report->total == (size_t)c->n);
    assert(report->done + report->failed + report->skipped == report->total);
    for (int i = 0; i < c->n; i++) {
        int how = c->how[i];
        assert(how != INSIDE && c->ran[i] <= 1);
        done += how == GOOD;
        lost += failed(c, i);
    }
    assert(report->done == done && report->failed == lost);
    for (int k = 0; k < NUMBERS; k++)
        count += (unsigned)c->used[k];
    assert(report->workers_used >= count && report->workers_started >= count);
}

/* The caller has ended: an item is lost, or has failed elsewhere, or else it is the call. */
static inline void check_left(call *c)
{
    const twill_item_error *error = &c->report.first_error;
    assert(c->report.status == TWILL_FAILED || lowest_stop(c) < c->n);
    for (int i = 0; i < c->n; i++)
        if (failed(c, i))
            return;
    assert(c->report.status == TWILL_FAILED);
    assert(error->index == SIZE_MAX && error->status == TWILL_LOST && error->code == 0);
}

/* A call that has returned in a forked child: FORKED, unless nothing of it was another's. */
static inline void check_child(call *c)
{
    const twill_report *report = &c->report;
    size_t good = 0;
    bool all = true;
    for (int i = 0; i < c->n; i++) {
        good += c->how[i] == GOOD;
        all = all && c->how[i] != NOTHING && c->how[i] != INSIDE;
    }
    assert(report->total == (size_t)c->n && report->done <= good);
    assert(report->done + report->failed + report->skipped == report->total);
    assert(report->status != TWILL_OK || all || lowest_stop(c) < c->n);
}

/* The books of a call that is over. caller_left: it has ended in a callback. */
static inline void check_call(call *c, bool caller_left)
{
    if (child) {
        check_child(c);
        return;
    }
    if (refused(c->report.status)) {
        assert(c->report.status != TWILL_NO_THREAD || c->options.run.strict);
        assert(c->report.skipped == (size_t)c->n && c->report.total == (size_t)c->n);
        for (int i = 0; i < c->n; i++)
            assert(c->ran[i] == 0);
        return;
    }
    check_hooks(c);
    check_figures(c);
    check_ran(c, caller_left);
    if (caller_left)
        check_left(c);
    else
        check_status(c);
    check_details(c);
}

/* ---- the whole ---- */

static inline void quiet(void)
{
    twill__global *global = twill__process();
    atomic_store(&global->cpus, 2);
    if (atomic_load(&to_fork)) /* then the process is asked for, as ever */
        return;
    atomic_store(&global->generation, 1);
    atomic_store(&global->own_mark, 1);
    atomic_store(&global->mark, &global->own_mark);
}

static void caller(void *nothing)
{
    call *c = new_call();
    (void)nothing;
    if (c)
        any_call(c, 0);
}

static int task_calls(void *nothing, void *result, const twill_task *task)
{
    (void)result, (void)task;
    caller(nothing);
    return 0;
}

static bool begin(twill__thrd *thread, void (*fn)(void *))
{
    memset(thread, 0, sizeof *thread);
    thread->fn = fn;
    thread->cpu = UINT_MAX;
    return twill__thread_start(thread);
}

/* One or two callers, in main, threads or tasks of the pool; somebody fires the token. */
static inline void any_program(void)
{
    twill__thrd other;
    bool with_other, failing = one_in(6);
    stays = true;
    quiet();
    ends = one_in(3);
    if (one_in(2)) {
        twill_pool_options options = {.run.workers = 1 + (unsigned)choose(2)};
        assert(twill_pool_create(&pool, &options) == TWILL_OK);
    }
    no_threads = failing && one_in(2);
    no_memory = failing && !no_threads;
    if (pool && one_in(2))
        (void)twill_pool_submit(pool, task_calls, NULL, NULL, NULL);
    with_other = one_in(2) && begin(&other, caller);
    if (one_in(2))
        caller(NULL);
    twill_cancel_fire(&token, 1);
    if (with_other && !child)
        twill__thread_join(&other);
    assert(twill_pool_destroy(pool) == TWILL_OK);
    twill_cancel_detach(&token);
    for (int k = 0; k < atomic_load(&call_count) && k < CALLS; k++) {
        call *c = &calls[k];
        assert(atomic_load(&c->returned) || ends || child);
        if (!atomic_load(&c->returned) && c->checked && !child)
            check_call(c, true);
    }
}
#endif
