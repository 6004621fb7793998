/* workers.h: the life of a pool's thread, from worker_start to its end. */
#ifndef TWILL__WORKER_POOL_WORKERS_H
#define TWILL__WORKER_POOL_WORKERS_H

#include "worker_pool/idle.h"

#define TWILL__SEARCH 1500 /* ns a busy worker lets the next quick tasks come together */

/* ---- a worker's life ---- */

static inline bool twill__worker_run(twill__worker *worker, const twill__todo *todo)
{
    twill__hand *runner = &worker->runner;
    return todo->fn ? twill__run_plain(runner->pool, runner, todo, false)
                    : twill__run_work(runner->pool, runner,
                                      twill__errand_at((twill__todo_entry *)todo->arg));
}

/* A call may take it for long: so it tells what it has done, for which others may wait. */
static inline void twill__worker_looks_away(twill__worker *worker)
{
    twill__pool *pool = worker->runner.pool;
    twill__turn turn;
    twill__turn_begin(pool, &turn);
    twill__hand_report(pool, &turn, &worker->runner);
    twill__hand_off(&worker->runner);
    twill__hand_looks_away(pool, &turn, &worker->runner);
    twill__turn_end(pool, &turn);
}

/* While tasks are quick and come one after another: lets a few come together, since each look takes
   the line that they are written to. */
static inline bool twill__worker_searches(twill__worker *worker, twill__todo *todo)
{
    twill__hand *runner = &worker->runner;
    twill__pool *pool = runner->pool;
    uint64_t since = twill__ticks(), wait = pool->team.tick_rate * TWILL__SEARCH >> 10;
    if (!TWILL__SPIN || twill__cpus_hint() == 1 || !twill__pool_is_quick(pool))
        return false;
    /* exit: something has come, or it was looked often enough; no more than one look while held */
    for (unsigned look = 0; look < 3 && !twill__todos_are_held(&pool->todos); look++, wait *= 2) {
        while (twill__ticks() - since < wait)
            for (unsigned pause = 0; pause < 16; pause++)
                twill__pause();
        if (twill__todos_take(&pool->todos, todo, &runner->taker)) {
            runner->now = 0; /* it begins now, not with the end of the one before */
            return true;
        }
    }
    return false;
}

/* Two who take tiny tasks side by side are slower than one, since each take fetches the line that
   the other has written: one of them naps. */
static inline bool twill__worker_gives_way(twill__worker *worker)
{
    const twill__pool *pool = worker->runner.pool;
    worker->gives_way =
        worker->runner.taker.beside && twill__pool_is_tiny(pool) &&
        /* a guess; whether others are at it is looked at when it is counted as idle */
        atomic_load_explicit(&pool->team.idle, memory_order_relaxed) + 1 <
            twill__team_threads(&pool->team);
    return worker->gives_way;
}

/* The next task without the lock, for one that is busy: then it counts as such, and has told that
   it is awake. */
static inline bool twill__worker_goes_on(twill__worker *worker, twill__todo *todo)
{
    twill__hand *runner = &worker->runner;
    twill__todos *todos = &runner->pool->todos;
    if (!runner->busy || runner->looks || twill__worker_gives_way(worker))
        return false;
    /* quick ones: does not look for every single one what has come */
    if ((twill__todos_known(todos, &runner->taker) || !twill__worker_searches(worker, todo)) &&
        !twill__todos_take(todos, todo, &runner->taker))
        return false;
    runner->plain = todo->fn != NULL;
    runner->index = todo->index;
    runner->about = todo->context;
    if (runner->taker.ahead)
        twill__record_fetch(&twill__errand_at(runner->taker.ahead)->record);
    if (!todo->fn)
        twill__errand_begins(runner, twill__errand_at((twill__todo_entry *)todo->arg));
    return true;
}

/* It was idle, and does not look at calls now: whoever has counted on it for one
   (twill__sleepers_of) has woken nobody, and another one shall look. seq_cst: its count among the
   idle went first, and the work of a call comes before the look at that count */
static inline void twill__worker_passes_on(twill__team *team)
{
    if (atomic_load_explicit(&team->parked, memory_order_seq_cst) && twill__call_waits(team))
        twill__wake(&team->epoch, 1);
}

/* noinline: its locals must not stand in the frame of a guard */
static __attribute__((noinline)) void twill__worker_loop(twill__worker *worker)
{
    twill__pool *pool = worker->runner.pool;
    twill__team *team = &pool->team;
    uint32_t served = 0;
    bool idled = false;
    for (;;) { /* exit: it is to go, or a callback has forked, and this is the child */
        uint32_t epoch = atomic_load_explicit(&team->epoch, memory_order_seq_cst);
        twill__everyone *each = NULL;
        twill__todo todo;
        twill__next next = twill__worker_goes_on(worker, &todo)
                               ? TWILL__RUN_IT
                               : twill__worker_next(worker, &todo, &each);
        if (idled && next != TWILL__IDLE_NOW)
            twill__worker_passes_on(team);
        idled = false;
        switch (next) {
        case TWILL__GO:
            return;
        case TWILL__RUN_EACH:
            twill__worker_each(worker, each);
            worker->runner.now = 0;
            break;
        case TWILL__RUN_IT:
            if (!twill__worker_run(worker, &todo))
                return;
            if (epoch == served && !twill__team_due(team)) /* no call has come up since it looked */
                break;
            served = epoch;
            if (!twill__other_open(team, NULL))
                break;
            twill__worker_looks_away(worker);
            if (twill__serve_team(team, worker->runner.worker + 1)) {
                served--; /* another one may wait, too */
                worker->runner.now = 0;
                if (!twill__pool_here(pool))
                    return;
            }
            break;
        case TWILL__IDLE_NOW:
            worker->runner.now = 0;
            if (twill__serve_team(team, worker->runner.worker + 1)) {
                worker->idle_since = 0, worker->gives_way = false;
            } else {
                twill__worker_idle(worker, epoch);
                idled = true;
            }
            break;
        }
    }
}

/* Under the lock, the last thing a thread does but for the unlock. */
static inline void twill__worker_left(twill__pool *pool, twill__turn *turn, twill__worker *worker)
{
    twill__hand *runner = &worker->runner;
    twill__todos_shut(&pool->todos); /* whoever comes may have to start a thread */
    if (worker->life == TWILL__GIVEN_UP)
        pool->abandoned--;
    else
        pool->live--;
    if (worker->going)
        pool->going--;
    worker->going = false;
    if (worker->life == TWILL__LIVE || worker->life == TWILL__GIVEN_UP)
        twill__hand_out(pool, runner);
    for (unsigned i = 0; i < TWILL__TALLIES; i++) /* relaxed: counts */
        atomic_fetch_add_explicit(
            &pool->tally[i], atomic_exchange_explicit(&runner->tally[i], 0, memory_order_relaxed),
            memory_order_relaxed);
    worker->life = TWILL__NO_THREAD_YET;
    if (runner->worker == twill__pool_told(pool) - 1)
        twill__pool_tells(pool);
    worker->has_past = !pool->forsaken;
    worker->past = worker->thread;
    if (runner->blocked && !runner->given_up)
        pool->blocked--;
    for (twill__everyone *each = twill__each_next(pool, worker); each; each = each->next)
        each->left -= !runner->given_up;
    runner->blocked = 0;
    runner->given_up = runner->told = runner->busy = false;
    twill__hand_on(runner, NULL);
    runner->forgiven = 0;
    twill__pool_threads(pool);
    twill__pool_changed(pool, turn);
}

/* Under the lock, it has left: there may be one more in its place, which who came with work while
   there were as many as may be has not asked for. The pool stays no longer than the lock. */
static inline void twill__worker_makes_room(twill__pool *pool, twill__turn *turn)
{
    if (twill__todos_length(&pool->todos))
        twill__pool_wants(pool, turn);
    twill__turn_call(pool, turn);
}

/* Joins the thread that had this number before: it has left already, or is about to. */
static inline void twill__worker_bury(twill__pool *pool, twill__worker *worker)
{
    twill__turn turn;
    twill__thrd past;
    bool has_past;
    twill__turn_begin(pool, &turn); /* so that whoever started us has written our handle */
    worker->runner.workers = twill__pool_told(pool);
    has_past = worker->has_past;
    if (has_past) {
        past = worker->past;
        twill__pool_changed(pool, &turn); /* it may be waiting for us (twill__pool_bequeath) */
    }
    worker->has_past = false;
    twill__turn_end(pool, &turn);
    if (has_past)
        twill__thread_join(&past);
}

static inline void twill__worker_stop_hook(twill__worker *worker)
{
    twill__pool *pool = worker->runner.pool;
    twill_task task;
    twill__hand_task(&worker->runner, SIZE_MAX, pool->options.run.context, &task);
    twill__duty_begin(pool, NULL, TWILL__BE_WORKER);
    if (pool->options.run.worker_stop)
        pool->options.run.worker_stop(worker->runner.state, &task);
    twill__duty_over();
}

/* The thread's last steps. `lost`: a callback has ended it, and another one takes its place. */
static inline void twill__worker_leaves(twill__worker *worker, bool lost)
{
    twill__pool *pool = worker->runner.pool;
    twill__turn turn;
    twill__thread()->team = NULL;
    twill__thread()->runner = NULL;
    if (!twill__pool_here(pool)) /* a callback has forked: the pool is the parent's */
        return;
    twill__worker_stop_hook(worker);
    twill__gate_shut(&worker->runner.gate);
    if (twill__token_used(twill__token_of(&worker->runner.token)))
        twill_cancel_detach(&worker->runner.token);
    twill__turn_begin(pool, &turn);
    twill__hand_report(pool, &turn, &worker->runner);
    if (worker->each) {
        worker->each->inside--;
        worker->each->left--;
        worker->each->failed++;
        worker->each = NULL;
    }
    twill__worker_left(pool, &turn, worker);
    if (lost && pool->live - pool->going < pool->least)
        (void)twill__worker_start(pool);
    twill__worker_makes_room(pool, &turn);
    twill__pool_bequeath(pool, &turn);
    twill__turn_end(pool, &turn);
}

/* A callback has ended the thread: what it ran is LOST. */
static inline void twill__worker_ended(void *worker_)
{
    twill__worker *worker = (twill__worker *)worker_;
    twill__thread()->duties = 0;
    twill__hand_lost(worker->runner.pool, &worker->runner, 0, NULL);
    twill__worker_leaves(worker, true);
}

/* worker_start. False: this thread will run nothing. */
static inline bool twill__worker_begins(twill__worker *worker)
{
    twill__pool *pool = worker->runner.pool;
    twill__hand *runner = &worker->runner;
    twill__turn turn;
    twill_task task;
    bool well = true;
    runner->state = NULL;
    runner->context = NULL;
    runner->said = runner->depth = 0;
    runner->ended = 0;
    runner->now = 0;
    twill_cancel_init(&runner->token, pool->options.run.until.cancel);
    atomic_fetch_and_explicit(&runner->gate, ~TWILL__GATE_SHUT, memory_order_seq_cst);
    twill__hand_task(runner, SIZE_MAX, pool->options.run.context, &task);
    twill__duty_begin(pool, NULL, TWILL__BE_WORKER);
    if (pool->options.run.worker_start)
        well = pool->options.run.worker_start(&runner->state, &task) == 0;
    twill__duty_over();
    twill__turn_begin(pool, &turn);
    pool->coming--;
    /* relaxed: set by this thread */
    atomic_fetch_or_explicit(&pool->team.flags,
                             atomic_load_explicit(&worker->thread.flags, memory_order_relaxed),
                             memory_order_relaxed);
    atomic_store_explicit(&worker->born, twill__ticks(), memory_order_relaxed); /* statistics */
    atomic_store_explicit(&worker->idle_ticks, 0, memory_order_relaxed);
    worker->idle_since = 0;
    worker->each_seen = pool->each_number;
    if (well) {
        worker->life = TWILL__LIVE;
        twill__hand_in(pool, runner);
        twill__pool_changed(pool, &turn);
    } else {
        pool->failed_at = twill__clock_now();
        twill__worker_left(pool, &turn, worker);
        twill__worker_makes_room(pool, &turn);
        twill__pool_bequeath(pool, &turn);
    }
    twill__turn_end(pool, &turn);
    return well;
}

static void twill__worker_main(void *worker_)
{
    twill__worker *worker = (twill__worker *)worker_;
    twill__pool *pool = worker->runner.pool;
    twill__self *self = twill__thread();
    twill__worker_bury(pool, worker);
    if (!twill__worker_begins(worker))
        return;
    self->team = &pool->team;
    self->runner = &worker->runner;
    worker->runner.self = self;
    TWILL__GUARD_PUSH(twill__worker_ended, worker);
    twill__worker_loop(worker);
    TWILL__GUARD_POP(0);
    twill__worker_leaves(worker, false);
}

/* ---- regions that block ---- */

static inline void twill__hand_block(const twill_task *task, bool begin)
{
    twill__hand *runner = (twill__hand *)task->private_;
    twill__pool *pool = runner->pool;
    twill__turn turn;
    if (runner->outside)
        return;
    twill__turn_begin(pool, &turn);
    if (begin) {
        if (pool->live < pool->most)
            twill__todos_shut(&pool->todos); /* as in twill__worker_left */
        if (!runner->blocked++ && !runner->given_up)
            pool->blocked++;
        if (twill__todos_length(&pool->todos))
            twill__pool_wants(pool, &turn);
    } else if (runner->blocked && !--runner->blocked && !runner->given_up) {
        pool->blocked--;
    }
    twill__turn_end(pool, &turn);
}

#endif
