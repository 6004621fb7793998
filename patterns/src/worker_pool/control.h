/* control.h: a pool's beginning, changes and end. */
#ifndef TWILL__WORKER_POOL_CONTROL_H
#define TWILL__WORKER_POOL_CONTROL_H

#include "worker_pool/watch.h"

/* ---- create ---- */

static inline bool twill__pool_run_valid(const twill_run *run)
{
    return !run->pool && !run->until.deadline && !run->on_error && !run->max_errors &&
           !run->errors && !run->errors_capacity && !run->statuses && !run->codes && !run->report &&
           !run->cpus == !run->cpu_count;
}

static inline bool twill__pool_valid(const twill_pool_options *options, unsigned workers)
{
    return twill__pool_run_valid(&options->run) &&
           (!options->max_workers || options->max_workers >= workers) && options->idle_after >= 0 &&
           options->grow_after >= 0 && options->ageing >= 0 && options->stuck_after >= 0 &&
           (unsigned)options->overflow <= TWILL_OVERFLOW_CALLER_RUNS &&
           (options->stuck_after || !options->max_abandoned) &&
           !options->on_level == !(options->high_mark || options->low_mark) &&
           (!options->on_level || (options->high_mark > options->low_mark));
}

static inline void twill__pool_free(twill__pool *pool)
{
    twill__core *core = pool->core;
    for (unsigned i = 0; i < pool->numbers; i++)
        if (pool->worker[i])
            TWILL_FREE(pool->worker[i]->memory);
    TWILL_FREE(pool->worker);
    twill__stand_ins_end(pool);
    pool->worker = NULL;
    pool->numbers = 0;
    twill__todos_free(&pool->todos);
    twill__core_leave(core); /* and then, with the last future, the pool's own memory */
}

/* The table of numbers; under the lock, or before the pool is known. */
static inline bool twill__pool_numbers(twill__pool *pool, unsigned most)
{
    size_t numbers = (size_t)most + pool->options.max_abandoned;
    void *fresh;
    if (numbers <= pool->numbers)
        return true;
    if (numbers > UINT_MAX)
        return false;
    fresh = twill__larger(pool->worker, pool->numbers * sizeof *pool->worker,
                          numbers * sizeof *pool->worker);
    if (!fresh)
        return false;
    pool->worker = (twill__worker **)fresh;
    for (size_t i = pool->numbers; i < numbers; i++)
        pool->worker[i] = NULL;
    pool->numbers = (unsigned)numbers;
    return true;
}

/* Memory, nothing started. NULL: there is none. */
static inline twill__pool *twill__pool_make(const twill_pool_options *options, unsigned workers)
{
    const twill_run *run = &options->run;
    size_t size = sizeof(twill__pool) + TWILL__LINE, cpus = run->cpu_count;
    char *memory = cpus > (SIZE_MAX - size) / sizeof *run->cpus
                       ? NULL
                       : (char *)TWILL_MALLOC(size + cpus * sizeof *run->cpus);
    twill__pool *pool;
    if (!memory)
        return NULL;
    pool = (twill__pool *)(void *)(memory +
                                   (TWILL__LINE - (uintptr_t)memory % TWILL__LINE) % TWILL__LINE);
    memset(pool, 0, sizeof *pool);
    twill__team_init(&pool->team, NULL);
    pool->head.layout = TWILL__POOL_LAYOUT;
    pool->head.team = &pool->team;
    pool->options = *options;
    pool->capacity = options->capacity ? options->capacity : 1024;
    for (size_t i = 0; run->name && run->name[i] && i < sizeof pool->name - 1; i++)
        pool->name[i] = run->name[i];
    pool->options.run.name = NULL; /* the user's string may go, and the list of CPUs */
    if (cpus)
        pool->options.run.cpus =
            (const unsigned *)memcpy(pool + 1, run->cpus, cpus * sizeof *run->cpus);
    pool->tick_scale = ((uint64_t)1 << 40) / twill__ticks_per_ms();
    pool->least = workers;
    pool->most = options->max_workers ? options->max_workers : workers;
    pool->core = twill__core_create(sizeof(twill__errand), twill__errand_table());
    if (!pool->core) {
        TWILL_FREE(memory);
        return NULL;
    }
    pool->core->owner = memory;
    if (!twill__todos_init(&pool->todos, pool->capacity, options->newest_first, options->ageing) ||
        !twill__pool_numbers(pool, pool->most)) {
        twill__pool_free(pool);
        return NULL;
    }
    twill__pool_tells(pool);
    twill__stand_ins_make(pool);
    return pool;
}

static inline bool twill__all_came(twill__pool *pool, const void *data)
{
    (void)data;
    return !pool->coming;
}

static inline twill_status twill__pool_end(twill__pool *pool, twill_until drain, twill_until join,
                                           twill_stopped *out);

/* Starts what is to start, and waits for worker_start. */
static inline twill_status twill__pool_begin(twill__pool *pool)
{
    const twill_pool_options *options = &pool->options;
    twill_until forever = {0, NULL};
    bool watched = options->stuck_after || pool->most > pool->least, well = true, few;
    unsigned live;
    twill__turn turn;
    twill__turn_begin(pool, &turn);
    if (watched)
        well = twill__watch_start(pool);
    while (well && !options->lazy && pool->live < pool->least)
        well = twill__worker_start(pool);
    (void)twill__pool_await(pool, &turn, forever, twill__all_came, NULL);
    live = pool->live;
    few = !options->lazy && live < pool->least;
    if (few && live)
        pool->least = live; /* it does not try again by itself; twill_pool_resize does */
    twill__turn_end(pool, &turn);
    if ((watched && !pool->has_watch) || (few && (!live || options->run.strict))) {
        (void)twill__pool_end(pool, forever, forever, NULL);
        twill__pool_free(pool);
        return TWILL_NO_THREAD;
    }
    return TWILL_OK;
}

TWILL__DEFINE twill_status twill_pool_create(twill_pool **out, const twill_pool_options *options)
{
    static const twill_pool_options none;
    unsigned workers;
    twill__pool *pool;
    twill_status status;
    if (!out)
        return TWILL_INVALID;
    *out = NULL;
    if (!options)
        options = &none;
    workers = options->run.workers ? options->run.workers : twill__cpus_now();
    if (!options->run.workers && options->max_workers && options->max_workers < workers)
        workers = options->max_workers;
    if (!twill__pool_valid(options, workers))
        return TWILL_INVALID;
    if (workers > TWILL__MAX_NUMBERS || options->max_workers > TWILL__MAX_NUMBERS ||
        options->max_abandoned > TWILL__MAX_NUMBERS ||
        options->capacity > SIZE_MAX / 4 / sizeof(twill__todo))
        return TWILL_TOO_BIG;
    pool = twill__pool_make(options, workers);
    if (!pool)
        return TWILL_NO_MEMORY;
    status = twill__pool_begin(pool);
    if (status == TWILL_OK)
        *out = &pool->head;
    return status;
}

/* ---- small changes ---- */

/* INVALID, FORKED; else the lock is held. */
static inline twill_status twill__pool_lock(twill_pool *pool, twill__turn *turn)
{
    if (!pool || pool->layout != TWILL__POOL_LAYOUT)
        return TWILL_INVALID;
    if (!twill__pool_here(twill__pool_of(pool)))
        return TWILL_FORKED;
    twill__turn_begin(twill__pool_of(pool), turn);
    return TWILL_OK;
}

/* All idle workers look round. */
static inline void twill__pool_rouse(twill__pool *pool, twill__turn *turn)
{
    turn->call = UINT_MAX;
    turn->watch = pool->has_watch;
}

TWILL__DEFINE twill_status twill_pool_pause(twill_pool *public_pool)
{
    twill__pool *pool = twill__pool_of(public_pool);
    twill__turn turn;
    twill_status status = twill__pool_lock(public_pool, &turn);
    if (status != TWILL_OK)
        return status;
    if (pool->closed) {
        status = TWILL_CLOSED;
    } else {
        pool->paused = true;
        twill__todos_hold(&pool->todos);
    }
    twill__turn_end(pool, &turn);
    return status;
}

static inline void twill__pool_unpause(twill__pool *pool, twill__turn *turn)
{
    pool->paused = false;
    twill__pool_changed(pool, turn); /* there may be no worker: then who waits sees to it */
    if (!twill__todos_length(&pool->todos))
        return;
    twill__pool_wants(pool, turn);
    twill__pool_rouse(pool, turn);
}

TWILL__DEFINE twill_status twill_pool_resume(twill_pool *public_pool)
{
    twill__pool *pool = twill__pool_of(public_pool);
    twill__turn turn;
    twill_status status = twill__pool_lock(public_pool, &turn);
    if (status != TWILL_OK)
        return status;
    twill__pool_unpause(pool, &turn);
    twill__turn_end(pool, &turn);
    return TWILL_OK;
}

TWILL__DEFINE twill_status twill_pool_resize(twill_pool *public_pool, unsigned workers,
                                             unsigned max_workers)
{
    twill__pool *pool = twill__pool_of(public_pool);
    twill_until forever = {0, NULL};
    unsigned most = max_workers ? max_workers : workers;
    bool watched;
    twill__turn turn;
    twill_status status;
    if (!pool || !workers || most < workers)
        return TWILL_INVALID;
    if (most > TWILL__MAX_NUMBERS)
        return TWILL_TOO_BIG;
    status = twill__pool_lock(public_pool, &turn);
    if (status != TWILL_OK)
        return status;
    watched = pool->has_watch;
    if (pool->closed)
        status = TWILL_CLOSED;
    else if (!twill__pool_numbers(pool, most + pool->going))
        status = TWILL_NO_MEMORY;
    else if (most > workers && !pool->has_watch && !twill__watch_start(pool))
        status = TWILL_NO_THREAD;
    if (status == TWILL_OK) {
        twill__todos_hold(&pool->todos); /* for those who are too many now, and the watch */
        for (twill__hand *runner = pool->runners; runner; runner = runner->next)
            if (!watched) /* what runs was not timed: it counts from now on */
                runner->since = twill__clock_now();
        pool->least = workers;
        pool->most = most;
        twill__pool_tells(pool);
        pool->failed_at = 0;
        while (status == TWILL_OK && !pool->options.lazy && pool->live - pool->going < workers)
            if (!twill__worker_start(pool))
                status = TWILL_NO_THREAD;
        if (twill__todos_length(&pool->todos))
            twill__pool_wants(pool, &turn); /* lazy: one comes for what waits already */
        twill__pool_rouse(pool, &turn);     /* who is too many goes */
        if (!twill__pool_inside(pool))
            (void)twill__pool_await(pool, &turn, forever, twill__all_came, NULL);
    }
    twill__turn_end(pool, &turn);
    return status;
}

TWILL__DEFINE unsigned twill_pool_workers(const twill_pool *pool)
{
    return pool ? twill__team_threads(pool->team) : 0;
}

TWILL__DEFINE twill_pool *twill_pool_current(void)
{
    const twill__hand *runner = (const twill__hand *)twill__thread()->runner;
    return runner ? &runner->pool->head : NULL;
}

/* ---- waiting for the pool ---- */

/* Whether a wait until then, of this thread, cannot end well: it is a part of the pool; or in a
   callback, has still to do so much, and would wait for ever. */
static inline bool twill__pool_never(const twill__pool *pool, twill_until until, unsigned what)
{
    return twill__pool_inside(pool) || (twill__for_ever(until) && twill__duty_to(pool) >= what);
}

/* INVALID, FORKED, DEADLOCK; OK: who is here may wait until then. */
static inline twill_status twill__pool_may_wait(twill_pool *pool, twill_until until, unsigned what)
{
    if (!pool || pool->layout != TWILL__POOL_LAYOUT)
        return TWILL_INVALID;
    if (!twill__pool_here(twill__pool_of(pool)))
        return TWILL_FORKED;
    return twill__pool_never(twill__pool_of(pool), until, what) ? TWILL_DEADLOCK : TWILL_OK;
}

/* Something is left, and nobody to do it. */
static inline bool twill__pool_forlorn(const twill__pool *pool)
{
    return !pool->live && !pool->outside && (twill__todos_length(&pool->todos) || pool->later);
}

/* Whether there is nothing to wait for, or nobody. */
static inline bool twill__drained(twill__pool *pool, const void *data)
{
    (void)data;
    return !twill__pool_unfinished(pool) || twill__pool_forlorn(pool);
}

static inline bool twill__idle_or_bare(twill__pool *pool, const void *data)
{
    (void)data;
    return !twill__pool_unfinished(pool) || (!pool->paused && twill__pool_forlorn(pool));
}

static inline bool twill__is_idle(twill__pool *pool, const void *data)
{
    (void)data;
    return !twill__pool_unfinished(pool);
}

TWILL__DEFINE twill_status twill_pool_wait_idle_until(twill_pool *public_pool, twill_until until)
{
    twill__pool *pool = twill__pool_of(public_pool);
    twill__turn turn;
    twill_status status;
    status = twill__pool_may_wait(public_pool, until, TWILL__END_TASK);
    if (status != TWILL_OK)
        return status;
    twill__turn_begin(pool, &turn);
    for (;;) { /* exit: idle, or over; where no worker can be had, it is tried again and again */
        twill_until soon = until;
        status = twill__pool_await(pool, &turn, until, twill__idle_or_bare, NULL);
        if (status != TWILL_OK || !twill__pool_unfinished(pool))
            break;
        if (twill__worker_retry(pool))
            continue;
        soon.deadline = twill__nearer(until.deadline, twill__clock_now() + TWILL__GROW_AFTER);
        (void)twill__pool_await(pool, &turn, soon, twill__is_idle, NULL);
        status = twill__pool_unfinished(pool) ? twill__over(until) : TWILL_OK;
        if (status != TWILL_OK)
            break;
    }
    twill__turn_end(pool, &turn);
    return status;
}

TWILL__DEFINE twill_status twill_pool_wait_idle(twill_pool *pool)
{
    twill_until until = {0, NULL};
    return twill_pool_wait_idle_until(pool, until);
}

static inline bool twill__each_over(twill__pool *pool, const void *each_)
{
    (void)pool;
    return !((const twill__everyone *)each_)->left;
}

static inline bool twill__each_quiet(twill__pool *pool, const void *each_)
{
    (void)pool;
    return !((const twill__everyone *)each_)->inside;
}

static inline bool twill__none_comes(twill__pool *pool, const void *data)
{
    (void)data;
    return !pool->coming;
}

TWILL__DEFINE twill_status twill_pool_each_worker(twill_pool *public_pool, twill_task_fn *fn,
                                                  void *arg, twill_until until)
{
    twill__pool *pool = twill__pool_of(public_pool);
    twill__everyone each = {NULL, fn, arg, until, 0, 0, 0, 0}, **at;
    twill_until forever = {0, NULL};
    twill__turn turn;
    twill_status status;
    if (!fn)
        return TWILL_INVALID;
    status = twill__pool_may_wait(public_pool, until, TWILL__FREE_WORKER);
    if (status != TWILL_OK)
        return status;
    twill__turn_begin(pool, &turn);
    if (pool->closed) {
        twill__turn_end(pool, &turn);
        return TWILL_CLOSED;
    }
    status = twill__pool_await(pool, &turn, until, twill__none_comes, NULL);
    if (status != TWILL_OK) {
        twill__turn_end(pool, &turn);
        return status;
    }
    each.number = ++pool->each_number;
    each.left = pool->live;
    for (at = &pool->each; *at; at = &(*at)->next) {} /* in order */
    *at = &each;
    twill__todos_hold(&pool->todos);
    twill__pool_rouse(pool, &turn);
    status = twill__pool_await(pool, &turn, until, twill__each_over, &each);
    for (at = &pool->each; *at != &each; at = &(*at)->next) {} /* exit: it is in the list */
    *at = each.next;
    /* those who have begun are told, and waited for */
    (void)twill__pool_await(pool, &turn, forever, twill__each_quiet, &each);
    twill__turn_end(pool, &turn);
    return status == TWILL_OK && each.failed ? TWILL_FAILED : status;
}

/* ---- the end ---- */

/* Under the lock: no more from outside. */
static inline void twill__pool_shut(twill__pool *pool, twill__turn *turn)
{
    twill__todos_shut(&pool->todos); /* and it stays so */
    pool->closed = true;
    twill__stand_ins_shut(pool);
    twill__wakes_grant_all(&turn->wakes, &pool->senders, TWILL_CLOSED);
}

TWILL__DEFINE twill_status twill_pool_close(twill_pool *public_pool)
{
    twill__pool *pool = twill__pool_of(public_pool);
    twill__turn turn;
    twill_status status = twill__pool_lock(public_pool, &turn);
    if (status != TWILL_OK)
        return status;
    if (pool->closed)
        status = TWILL_CLOSED;
    else
        twill__pool_shut(pool, &turn);
    twill__turn_end(pool, &turn);
    return status;
}

/* What has ended so far: finished, and cancelled. */
static inline void twill__pool_sums(twill__pool *pool, uint64_t sums[TWILL__TALLIES])
{
    for (unsigned i = 0; i < TWILL__TALLIES; i++) { /* relaxed: counts */
        sums[i] = atomic_load_explicit(&pool->tally[i], memory_order_relaxed);
        for (const twill__hand *runner = pool->runners; runner; runner = runner->next)
            sums[i] += atomic_load_explicit(&runner->tally[i], memory_order_relaxed);
    }
}

/* Tasks that still run; under the lock, nothing queued any more, `now`: its sums. They are those
   that are in no other count, so all counts add up, though tasks end meanwhile. But one that ended
   for others, late or given up, may run on: then there may be as many as hands that have not said
   that they are through. */
static inline size_t twill__pool_stuck_of(twill__pool *pool, const uint64_t now[TWILL__TALLIES])
{
    uint64_t ended = now[TWILL__N_DONE] + now[TWILL__N_FAILED] + now[TWILL__N_TIMED_OUT] +
                     now[TWILL__N_CANCELLED] + now[TWILL__N_DROPPED] + now[TWILL__N_LOST];
    uint64_t begun = atomic_load_explicit(&pool->submitted, memory_order_relaxed) +
                     now[TWILL__N_INLINED]; /* relaxed: a count */
    size_t stuck = begun > ended ? (size_t)(begun - ended) : 0, busy = 0;
    for (const twill__hand *runner = pool->runners; runner; runner = runner->next)
        busy += twill__hand_is_busy(runner);
    return now[TWILL__N_TIMED_OUT] + now[TWILL__N_LOST] && busy > stuck ? busy : stuck;
}

static inline void twill__pool_stopped(twill__pool *pool, const uint64_t *before,
                                       twill_stopped *out)
{
    uint64_t now[TWILL__TALLIES];
    if (!out)
        return;
    memset(out, 0, sizeof *out);
    twill__pool_sums(pool, now);
    out->finished = (size_t)(now[TWILL__N_DONE] + now[TWILL__N_FAILED] + now[TWILL__N_TIMED_OUT] +
                             now[TWILL__N_LOST] - before[TWILL__N_DONE] - before[TWILL__N_FAILED] -
                             before[TWILL__N_TIMED_OUT] - before[TWILL__N_LOST]);
    out->cancelled = (size_t)(now[TWILL__N_CANCELLED] + now[TWILL__N_DROPPED] -
                              before[TWILL__N_CANCELLED] - before[TWILL__N_DROPPED]);
    out->stuck = twill__pool_stuck_of(pool, now);
}

/* Takes all that has not begun out, and ends it as CANCELLED; fires the tokens of what runs. Under
   the lock at both ends. */
static inline void twill__pool_cancel(twill__pool *pool, twill__turn *turn)
{
    pool->visitors++;
    twill__todos_hold(&pool->todos); /* and it stays so: sealed */
    /* exit: it only gets less */
    while (twill__todos_length(&pool->todos) || pool->later) {
        twill__todo todo = {NULL, NULL, NULL, 0, 0};
        twill__errand *work;
        if (twill__todos_length(&pool->todos)) {
            todo = twill__todos_drop(&pool->todos, false);
        } else { /* all that is left is delayed, and has timers */
            size_t i = 0;
            while (twill__errand_at(pool->todos.timers[i])->record.where != TWILL__LATER)
                i++; /* exit: `later` is above 0 */
            todo.arg = pool->todos.timers[i];
            pool->later--;
        }
        if ((work = twill__todo_work(&todo))) {
            work->record.where = TWILL__NOWHERE;
            twill__errand_untimed(pool, work);
        }
        twill__pool_level(pool, turn);
        twill__turn_end(pool, turn);
        twill__turn_settle_first(pool, turn, work);
        twill__todo_drop(pool, &todo, TWILL_CANCELLED);
        twill__turn_begin(pool, turn);
        pool->over++;
        twill__pool_changed(pool, turn);
    }
    for (twill__hand *runner = pool->runners; runner; runner = runner->next)
        runner->fired = false;
    for (twill__hand *runner = pool->runners; runner;) { /* exit: each is fired once */
        twill__errand *pinned = NULL;
        if (runner->fired || !twill__hand_is_busy(runner)) {
            runner = runner->next;
            continue;
        }
        runner->fired = true;
        /* what it took before we held the queue, it had named before; what has ended, or is another
           runner's, does not mind */
        for (twill__errand *work = twill__hand_work(runner); work; work = work->below)
            if (!work->record.stopped && twill__record_pin(&work->record)) {
                work->record.stopped = true;
                work->stop_chain = pinned;
                pinned = work;
            }
        twill__turn_end(pool, turn);
        twill__turn_settle(pool, turn);
        /* a worker's record stays, as a stand-in's; a guest's is on its stack */
        if (!runner->outside || runner->stands)
            twill__gate_fire(pool, &runner->gate, &runner->token, TWILL_CANCELLED);
        for (twill__errand *next; pinned; pinned = next) {
            next = pinned->stop_chain;
            twill__errand_fire(pinned, TWILL_CANCELLED);
            twill__record_unpin(&pinned->record);
        }
        twill__turn_begin(pool, turn);
        runner = pool->runners; /* the list has changed meanwhile */
    }
    twill__pool_left(pool, turn);
}

static inline bool twill__all_left(twill__pool *pool, const void *data)
{
    (void)data;
    return !pool->live && !pool->abandoned && !pool->outside && !twill__pool_unfinished(pool);
}

/* The thread that ends the pool has ended in a task that it ran: somebody else may end it then. */
static inline void twill__drainer_ended(void *pool_)
{
    twill__pool *pool = (twill__pool *)pool_;
    twill__turn turn;
    if (!twill__pool_here(pool)) /* it has forked */
        return;
    twill__turn_begin(pool, &turn);
    twill__pool_left(pool, &turn); /* as one who ends it */
    twill__turn_end(pool, &turn);
}

/* Under the lock, which it gives back. noinline: its locals must not stand in the frame of a
   guard */
static __attribute__((noinline)) void twill__drainer_runs(twill__pool *pool, twill__turn *turn,
                                                          const twill__todo *todo)
{
    TWILL__GUARD_PUSH(twill__drainer_ended, pool);
    if (todo->fn)
        twill__run_plain_here(pool, turn, todo);
    else
        twill__run_here(pool, turn, NULL, twill__errand_at((twill__todo_entry *)todo->arg));
    TWILL__GUARD_POP(0);
}

/* Drains; what nobody is left to run, since no thread can be had, is run here, if it may. */
static inline twill_status twill__pool_drain(twill__pool *pool, twill__turn *turn,
                                             twill_until drain)
{
    twill_ns failed = pool->failed_at;
    for (;;) { /* exit: drained, or over; each turn runs a task, or has a new worker */
        twill_status status = twill__pool_await(pool, turn, drain, twill__drained, NULL);
        twill__todo todo;
        if (status != TWILL_OK || !twill__pool_unfinished(pool))
            return status;
        /* a worker_start that has just failed would fail again */
        if ((!pool->options.run.worker_start || pool->failed_at == failed) &&
            twill__worker_start(pool))
            continue;
        twill__todos_hold(&pool->todos);
        /* not begun in time, as a worker would have found, too */
        if (twill__pool_tick(pool, turn, twill__clock_now())) {
            pool->visitors++;
            twill__turn_end(pool, turn);
            twill__turn_settle(pool, turn);
            twill__turn_begin(pool, turn);
            twill__pool_left(pool, turn);
            continue;
        }
        if (pool->options.run.worker_start || pool->options.run.worker_stop ||
            !twill__todos_length(&pool->todos))
            return TWILL_CANCELLED;
        todo = twill__todos_pop(&pool->todos);
        twill__pool_level(pool, turn);
        twill__drainer_runs(pool, turn, &todo); /* the pool stays: see twill__pool_end */
        twill__turn_begin(pool, turn);
    }
}

static inline bool twill__watch_gone(twill__pool *pool, const void *data)
{
    (void)data;
    return !pool->has_watch;
}

/* All workers have left: joins what is to be joined. Under the lock at both ends. */
static inline void twill__pool_bury(twill__pool *pool, twill__turn *turn)
{
    twill_until forever = {0, NULL};
    twill__thrd watch = pool->watch;
    bool had_watch = pool->has_watch && !pool->watch_ends;
    pool->visitors++;
    if (had_watch) {
        pool->watch_ends = true;
        turn->watch = true;
    }
    (void)twill__pool_await(pool, turn, forever, twill__watch_gone, NULL);
    for (unsigned i = 0; i < pool->numbers; i++)
        if (pool->worker[i] && pool->worker[i]->has_past) { /* none starts any more */
            twill__thrd past = pool->worker[i]->past;
            pool->worker[i]->has_past = false;
            twill__turn_end(pool, turn);
            twill__thread_join(&past);
            twill__turn_begin(pool, turn);
        }
    twill__turn_end(pool, turn);
    if (had_watch)
        twill__thread_join(&watch);
    twill__turn_begin(pool, turn);
    twill__pool_left(pool, turn);
}

static inline twill_status twill__pool_end(twill__pool *pool, twill_until drain, twill_until join,
                                           twill_stopped *out)
{
    uint64_t before[TWILL__TALLIES];
    twill_status status;
    twill__turn turn;
    twill__turn_begin(pool, &turn);
    pool->visitors++;
    twill__pool_sums(pool, before);
    twill__pool_shut(pool, &turn);
    pool->ending = true;
    twill__pool_changed(pool, &turn);
    twill__pool_unpause(pool, &turn);
    (void)twill__pool_drain(pool, &turn, drain);
    pool->sealed = true;
    twill__pool_cancel(pool, &turn);
    pool->leaving = true;
    twill__pool_rouse(pool, &turn);
    twill__turn_end(pool, &turn);
    twill__turn_settle(pool, &turn);
    status = twill__team_shut(&pool->team, join);
    twill__turn_begin(pool, &turn);
    if (status == TWILL_OK)
        status = twill__pool_await(pool, &turn, join, twill__all_left, NULL);
    if (status == TWILL_OK)
        twill__pool_bury(pool, &turn);
    twill__pool_stopped(pool, before, out);
    twill__pool_left(pool, &turn);
    twill__turn_end(pool, &turn);
    return status;
}

TWILL__DEFINE twill_status twill_pool_stop(twill_pool *pool, twill_until drain, twill_until join,
                                           twill_stopped *out)
{
    twill_status status = twill__pool_may_wait(pool, drain, TWILL__END_TASK);
    if (out)
        memset(out, 0, sizeof *out);
    if (status == TWILL_OK)
        status = twill__pool_may_wait(pool, join, TWILL__END_TASK);
    return status == TWILL_OK ? twill__pool_end(twill__pool_of(pool), drain, join, out) : status;
}

static inline bool twill__no_visitors(twill__pool *pool, const void *data)
{
    (void)data;
    return pool->visitors == 1 && !pool->lingering; /* ourselves; closed, so it is ours to read */
}

TWILL__DEFINE twill_status twill_pool_destroy(twill_pool *public_pool)
{
    twill__pool *pool = twill__pool_of(public_pool);
    twill_until forever = {0, NULL};
    twill_status status;
    twill__turn turn;
    if (!pool)
        return TWILL_OK;
    status = twill__pool_may_wait(public_pool, forever, TWILL__LEAVE);
    if (status == TWILL_FORKED) { /* nobody of those threads is here */
        twill__pool_free(pool);
        return TWILL_OK;
    }
    if (status != TWILL_OK)
        return status;
    (void)twill__pool_end(pool, forever, forever, NULL);
    twill__turn_begin(pool, &turn);
    (void)twill__pool_await(pool, &turn, forever, twill__no_visitors, NULL);
    twill__turn_end(pool, &turn);
    twill__pool_free(pool);
    return TWILL_OK;
}

TWILL__DEFINE twill_status twill_pool_abandon(twill_pool *public_pool, twill_stopped *out)
{
    twill__pool *pool = twill__pool_of(public_pool);
    uint64_t before[TWILL__TALLIES];
    twill__turn turn;
    if (out)
        memset(out, 0, sizeof *out);
    if (!public_pool || public_pool->layout != TWILL__POOL_LAYOUT)
        return TWILL_INVALID;
    if (!twill__pool_here(pool)) {
        twill__pool_free(pool);
        return TWILL_OK;
    }
    if (!twill__team_try_shut(&pool->team))
        return TWILL_BUSY;
    twill__turn_begin(pool, &turn);
    pool->visitors++;
    twill__pool_sums(pool, before);
    twill__pool_shut(pool, &turn);
    pool->paused = false;
    pool->sealed = true;
    twill__pool_cancel(pool, &turn);
    pool->leaving = pool->forsaken = true;
    twill__pool_changed(pool, &turn);
    for (unsigned i = 0; i < pool->numbers; i++) {
        twill__worker *worker = pool->worker[i];
        if (worker && worker->life != TWILL__NO_THREAD_YET)
            twill__thread_let_go(&worker->thread);
        if (worker && worker->has_past)
            twill__thread_let_go(&worker->past);
        if (worker)
            worker->has_past = false;
    }
    if (pool->has_watch && !pool->watch_ends) {
        twill__thread_let_go(&pool->watch);
        pool->watch_ends = true;
    }
    twill__pool_stopped(pool, before, out);
    twill__pool_rouse(pool, &turn);
    /* the last one to leave frees: not before these have been roused */
    twill__turn_end(pool, &turn);
    twill__turn_settle(pool, &turn);
    twill__turn_begin(pool, &turn);
    pool->visitors--;
    twill__turn_end(pool, &turn);
    return TWILL_OK;
}

/* ---- statistics ---- */

static inline void twill__stats_runner(const twill__pool *pool, const twill__hand *runner,
                                       twill_ns now, twill_pool_stats *out)
{
    if (!runner->busy || runner->outside)
        return;
    out->busy += !runner->given_up;
    if (pool->has_watch && now - runner->since > out->oldest_running)
        out->oldest_running = now - runner->since;
}

static inline void twill__stats_times(twill__pool *pool, twill_pool_stats *out)
{
    twill__histogram_sum *sum = (twill__histogram_sum *)TWILL_MALLOC(2 * sizeof *sum);
    uint64_t ticks = twill__ticks();
    if (!sum)
        return; /* no percentiles this time */
    memset(sum, 0, 2 * sizeof *sum);
    for (unsigned i = 0; i < pool->numbers; i++) {
        const twill__worker *worker = pool->worker[i];
        if (!worker)
            continue;
        twill__histogram_sum_up(&sum[0], &worker->waited);
        twill__histogram_sum_up(&sum[1], &worker->ran);
        if (worker->life == TWILL__LIVE) { /* relaxed: statistics */
            uint64_t idle = atomic_load_explicit(&worker->idle_ticks, memory_order_relaxed);
            uint64_t born = atomic_load_explicit(&worker->born, memory_order_relaxed);
            out->idle_total += (twill_ns)twill__ticks_ns(pool, idle);
            if (ticks - born > idle)
                out->busy_total += (twill_ns)twill__ticks_ns(pool, ticks - born - idle);
        }
    }
    out->wait_p50 = twill__percentile(&sum[0], 50);
    out->wait_p95 = twill__percentile(&sum[0], 95);
    out->wait_p99 = twill__percentile(&sum[0], 99);
    out->run_p50 = twill__percentile(&sum[1], 50);
    out->run_p95 = twill__percentile(&sum[1], 95);
    out->run_p99 = twill__percentile(&sum[1], 99);
    TWILL_FREE(sum);
}

TWILL__DEFINE void twill_pool_get_stats(twill_pool *public_pool, twill_pool_stats *out)
{
    twill__pool *pool = twill__pool_of(public_pool);
    uint64_t sums[TWILL__TALLIES];
    twill__turn turn;
    if (!out)
        return;
    memset(out, 0, sizeof *out);
    if (twill__pool_lock(public_pool, &turn) != TWILL_OK)
        return;
    twill__todos_shut(&pool->todos); /* else more would come in while we count */
    twill__pool_sums(pool, sums);
    out->submitted =
        atomic_load_explicit(&pool->submitted, memory_order_relaxed) + sums[TWILL__N_INLINED];
    out->refused = pool->refused;
    out->started = sums[TWILL__N_STARTED];
    out->done = sums[TWILL__N_DONE];
    out->failed = sums[TWILL__N_FAILED];
    out->timed_out = sums[TWILL__N_TIMED_OUT];
    out->cancelled = sums[TWILL__N_CANCELLED];
    out->dropped = sums[TWILL__N_DROPPED];
    out->lost = sums[TWILL__N_LOST];
    out->caller_ran = sums[TWILL__N_CALLER_RAN];
    out->queued = twill__todos_length(&pool->todos) + pool->later;
    out->queued_peak = pool->peak;
    out->capacity = pool->capacity;
    out->workers = pool->live;
    out->workers_peak = pool->live_peak;
    out->blocked = pool->blocked;
    out->abandoned = pool->abandoned;
    for (const twill__hand *runner = pool->runners; runner; runner = runner->next)
        twill__stats_runner(pool, runner, twill__clock_now(), out);
    out->idle = out->workers > out->busy ? out->workers - out->busy : 0;
    twill__stats_times(pool, out);
    twill__turn_end(pool, &turn);
}

#endif
