/* asked.h: what tasks say to their pool, and what futures ask of it. */
#ifndef TWILL__WORKER_POOL_ASKED_H
#define TWILL__WORKER_POOL_ASKED_H

#include "worker_pool/guests.h"

/* ---- what tasks say ---- */

static inline void twill__hand_skip(const twill_task *task)
{
    ((twill__hand *)task->private_)->said |= TWILL__SAID_SKIP;
}

static inline void twill__hand_block(const twill_task *task, bool begin);

static inline const twill__call_table *twill__hand_table(void)
{
    static const twill__call_table table = {NULL, NULL, twill__hand_skip, NULL, twill__hand_block};
    return &table;
}

/* ---- what futures ask ---- */

/* Under the lock, which it gives back: it has still to begin, and never will. The pool stays until
   it has ended. */
static inline void twill__errand_never(twill__pool *pool, twill__turn *turn, twill__errand *work)
{
    twill__errand_take(pool, work);
    twill__errand_untimed(pool, work);
    twill__pool_level(pool, turn);
    twill__pool_room(pool, turn);
    pool->visitors++;
    twill__turn_end(pool, turn);
    twill__turn_settle_first(pool, turn, work);
    twill__errand_drop(pool, work, TWILL_CANCELLED);
    twill__pool_ended(pool);
}

static inline bool twill__errand_help(twill__record *record, bool idle)
{
    twill__errand *work = twill__errand_of(record);
    twill__pool *pool = work->pool;
    twill__hand *runner = twill__hand_here(pool);
    const twill_run *run = &pool->options.run;
    /* the task may need a worker's state; whoever runs it would not come back at its limit, and
       outside workers may as well */
    bool may = (runner || !(run->worker_start || run->worker_stop)) &&
               !(twill__errand_limit(work) && !twill__inside() && twill__team_threads(&pool->team));
    twill__turn turn;
    if (!may && !twill__duty_to(pool))
        return false;
    twill__turn_begin(pool, &turn);
    if (pool->sealed && twill__errand_queued(pool, work)) {
        /* as who ends the pool would do, but perhaps it is he who waits, in a callback */
        twill__record_unpin(record);
        twill__errand_never(pool, &turn, work);
        return true;
    }
    if (!may) {
        twill__turn_end(pool, &turn);
        return false;
    }
    if ((runner && runner->given_up) || work->record.where != TWILL__READY ||
        !twill__errand_queued(pool, work) ||
        (!runner && (pool->paused ||
                     (idle && atomic_load_explicit(&pool->team.idle, memory_order_seq_cst))))) {
        twill__turn_end(pool, &turn);
        return false;
    }
    twill__errand_take(pool, work);
    twill__pool_level(pool, &turn);
    twill__pool_room(pool, &turn);
    twill__record_unpin(record); /* the task may end the thread, and then nobody could */
    twill__run_here(pool, &turn, runner, work);
    return true;
}

/* By a thread that is in no task: the next one of the queue, for which it waits, without the lock.
   The pool stays from the first step on, and a record that stands in the queue is in use: so the
   generation that is read between the look and the take is that of the task which is taken. */
static inline bool twill__errand_run_next(twill_future future)
{
    twill__record *record = (twill__record *)future.slot;
    twill__errand *work = twill__errand_of(record);
    twill__pool *pool = work->pool;
    twill__stand_in *stand_in = twill__stand_in_here(pool);
    twill__hand *runner = &stand_in->runner;
    uint64_t head;
    if (pool->options.run.worker_start || pool->options.run.worker_stop ||
        !twill__stand_in_begins(stand_in))
        return false;
    if (!twill__todos_next_is(&pool->todos, &work->entry, &runner->taker, &head) ||
        twill__record_generation(record) != future.generation ||
        !twill__todos_take_it(&pool->todos, &work->entry, &runner->taker, head)) {
        twill__stand_in_ends(pool, stand_in);
        return false;
    }
    runner->now = 0;
    twill__errand_begins(runner, work);
    twill__stand_in_runs(pool, runner, work, NULL);
    return true;
}

#define TWILL__NEAR   64   /* tasks before it */
#define TWILL__BEHIND 16   /* tasks: as many were taken after it at most, and are left at least, */
#define TWILL__BESIDE 1500 /* ns: if he who is at them is left alone for so long */
#define TWILL__EACH   100  /* ns: a quick task, more or less */

/* Somebody is busy with quick tasks, and near this one, or has just begun it. Each look takes lines
   that he writes: while there are many, he is left alone as long as he comes on. If it is the next
   one of a few, he may as well have lost his CPU. */
static inline twill_ns twill__errand_comes(const twill__record *record, uint64_t *seen)
{
    const twill__errand *work = (const twill__errand *)(const void *)record;
    const twill__pool *pool = work->pool;
    const twill__team *team = &pool->team;
    /* guesses, all of them */
    uint64_t head = atomic_load_explicit(&pool->todos.head, memory_order_relaxed);
    size_t before = twill__todos_before(&pool->todos, &work->entry, head), size;
    if (!twill__pool_is_quick(pool) || head & TWILL__HOLD || head == *seen ||
        atomic_load_explicit(&team->idle, memory_order_relaxed) >= twill__team_threads(team))
        return 0;
    *seen = head;
    size = atomic_load_explicit(&pool->todos.size, memory_order_relaxed);
    if (twill__todos_tail(&pool->todos) - head >= TWILL__BEHIND)
        return ((before + TWILL__BEHIND) & (size - 1)) <= TWILL__BEHIND + TWILL__NEAR
                   ? TWILL__BESIDE
                   : 0;
    return before < TWILL__BEHIND ? (twill_ns)before * TWILL__EACH : 0;
}

static inline void twill__errand_expire(twill__record *record)
{
    twill__pool *pool = twill__errand_of(record)->pool;
    twill__turn turn;
    twill__turn_begin(pool, &turn);
    pool->visitors++;
    (void)twill__pool_tick(pool, &turn, twill__clock_now()); /* who waits asks again */
    twill__turn_end(pool, &turn);
    twill__duty_begin(pool, NULL, TWILL__LEAVE);
    twill__turn_settle(pool, &turn);
    twill__duty_over();
    twill__turn_begin(pool, &turn);
    twill__pool_left(pool, &turn);
    twill__turn_end(pool, &turn);
}

static inline void twill__errand_cancel(twill__record *record)
{
    twill__errand *work = twill__errand_of(record);
    twill__pool *pool = work->pool;
    twill__turn turn;
    twill__turn_begin(pool, &turn);
    if (twill__errand_queued(pool, work)) {
        twill__errand_never(pool, &turn, work);
        return;
    }
    twill__turn_end(pool, &turn);
    if (!twill__record_ended(record))
        twill__errand_fire(work, TWILL_CANCELLED);
}

static inline void twill__errand_forget(twill__record *record)
{
    twill__errand *work = twill__errand_of(record); /* with a discard: see twill__errand_options */
    twill_task task = {
        work->record.outcome.index, work->record.context, UINT_MAX, 0, NULL, {0, NULL}, NULL};
    work->discard(work->record.arg, record->result, work->code, &task);
}

static inline twill_ns twill__pool_revives(twill__pool *pool);

/* A thread may have failed to start, and nobody was left to try again. */
static inline twill_ns twill__errand_again(twill__record *record)
{
    twill__pool *pool = twill__errand_of(record)->pool;
    twill__turn turn;
    twill_ns soon;
    /* whoever left the pool without workers before this task came, did so before us; later ones see
       to it themselves */
    if (twill__team_threads(&pool->team))
        return 0;
    twill__turn_begin(pool, &turn);
    soon = twill__pool_revives(pool);
    twill__turn_end(pool, &turn);
    return soon;
}

static inline const twill__record_table *twill__errand_table(void)
{
    static const twill__record_table table = {
        twill__errand_help,  twill__errand_expire,   twill__errand_cancel, twill__errand_forget,
        twill__errand_comes, twill__errand_run_next, twill__errand_again};
    return &table;
}

#endif
