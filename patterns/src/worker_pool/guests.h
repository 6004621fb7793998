/* guests.h: tasks run by a thread that is no worker, or on top of another one. */
#ifndef TWILL__WORKER_POOL_GUESTS_H
#define TWILL__WORKER_POOL_GUESTS_H

#include "worker_pool/running.h"

/* ---- a thread that is no worker, or a task on top of another ---- */

typedef struct twill__guest { /* what the clean-up needs */
    twill__pool *pool;
    twill__hand *runner;
    twill__errand *work;
    twill__team *team; /* of the thread itself: a call inside the task is this pool's meanwhile */
    unsigned duties;   /* likewise, before the task */
    const twill__todo *todo; /* work NULL: a plain one */
} twill__guest;

/* Under the lock: this thread may run tasks now. */
static inline void twill__hand_in(twill__pool *pool, twill__hand *runner)
{
    runner->pool = pool;
    runner->workers = twill__pool_told(pool);
    runner->previous = NULL;
    runner->next = pool->runners;
    if (runner->next)
        runner->next->previous = runner;
    pool->runners = runner;
}

/* Under the lock. Never the last one: the stand-ins, which came first, stay. */
static inline void twill__hand_out(twill__pool *pool, twill__hand *runner)
{
    if (runner->previous)
        runner->previous->next = runner->next;
    else
        pool->runners = runner->next;
    runner->next->previous = runner->previous;
}

/* Under the lock: it is in no task of the queue. Should its thread end now, that is no end of the
   last one. */
static inline void twill__hand_off(twill__hand *runner)
{
    runner->plain = false;
    twill__hand_on(runner, NULL);
}

/* Under the lock: what a runner has finished. */
static inline void twill__hand_report(twill__pool *pool, twill__turn *turn, twill__hand *runner)
{
    size_t ended = runner->ended;
    if (!ended)
        return;
    runner->ended = 0;
    if (runner->forgiven) { /* those were taken off when it was given up */
        size_t less = ended < runner->forgiven ? ended : runner->forgiven;
        runner->forgiven -= less;
        ended -= less;
    }
    pool->over += ended;
    if (pool->watchers.first)
        twill__pool_changed(pool, turn);
}

/* Under the lock: it has something else to do first, perhaps for long: whoever submits must not
   count on it. */
static inline void twill__hand_looks_away(twill__pool *pool, twill__turn *turn, twill__hand *runner)
{
    if (!runner->looks)
        return;
    runner->looks = false;
    atomic_fetch_sub_explicit(&pool->looking, 1, memory_order_seq_cst); /* see twill__pool_calls */
    if (!twill__todos_are_empty(&pool->todos))
        twill__pool_wants(pool, turn);
}

static inline const twill__call_table *twill__hand_table(void);

static inline void twill__guest_in(twill__pool *pool, twill__hand *runner)
{
    memset(runner, 0, sizeof *runner);
    runner->call.table = twill__hand_table();
    runner->worker = UINT_MAX;
    runner->outside = runner->busy = true;
    runner->outer = (twill__hand *)twill__thread()->runner;
    twill_cancel_init(&runner->token, pool->options.run.until.cancel);
    twill__hand_in(pool, runner);
    pool->outside++;
}

/* Its task is over, or its thread ends. */
static inline void twill__guest_out(twill__guest *guest)
{
    twill__pool *pool = guest->pool;
    twill__hand *runner = guest->runner;
    twill__turn turn;
    twill__thread()->runner = runner->outer;
    twill__thread()->team = guest->team;
    if (!twill__pool_here(pool)) /* it has forked */
        return;
    if (twill__token_used(twill__token_of(&runner->token)))
        twill_cancel_detach(&runner->token);
    twill__turn_begin(pool, &turn);
    twill__hand_report(pool, &turn, runner);
    twill__hand_out(pool, runner);
    for (unsigned i = 0; i < TWILL__TALLIES; i++) { /* relaxed: counts */
        uint64_t count = atomic_load_explicit(&runner->tally[i], memory_order_relaxed);
        if (count)
            atomic_fetch_add_explicit(&pool->tally[i], count, memory_order_relaxed);
    }
    pool->outside--;
    twill__pool_changed(pool, &turn);
    twill__turn_end(pool, &turn);
}

/* A plain task that was `lost` has no record to ask. */
static inline void twill__plain_lost(twill__pool *pool, twill__hand *runner)
{
    twill_task task;
    twill__hand_task(runner, runner->index, runner->about, &task);
    twill__count(pool, runner, TWILL__N_LOST);
    twill__event(pool, TWILL_EVENT_ENDED, TWILL_LOST, runner->index, NULL, runner->worker, &task);
}

/* What runs on a runner, down to that depth, ends with its thread: all of it is LOST. `rest`: the
   innermost record below. */
static inline void twill__hand_lost(twill__pool *pool, twill__hand *runner, unsigned depth,
                                    const twill__errand *rest)
{
    while (runner->depth > depth && twill__pool_here(pool)) { /* exit: one less each time; a fork */
        twill__errand *work = twill__hand_work(runner), *below;
        twill_task task;
        if (work != rest) {
            below = work->below;
            twill__hand_task(runner, work->record.outcome.index, work->record.context, &task);
            twill__errand_over(pool, runner, work, 0, false, &task);
            twill__hand_on(runner, below);
        } else if (runner->depth > 1 || !runner->plain) { /* inlined: nobody is told of those */
            twill__count(pool, runner, TWILL__N_LOST);
        } else {
            if (twill__plain_counts(pool, runner))
                twill__plain_lost(pool, runner);
            runner->ended++;
        }
        runner->depth--;
    }
}

static inline void twill__guest_ended(void *guest_)
{
    twill__guest *guest = (twill__guest *)guest_;
    guest->runner->self->duties = guest->duties;
    twill__hand_lost(guest->pool, guest->runner, 0, NULL);
    twill__guest_out(guest);
}

/* Runs what was taken for this guest. */
static inline void twill__guest_runs(twill__guest *guest)
{
    twill__self *self = twill__thread();
    guest->runner->self = self;
    self->runner = guest->runner;
    guest->team = self->team;
    guest->duties = self->duties;
    self->team = &guest->pool->team;
    TWILL__GUARD_PUSH(twill__guest_ended, guest);
    (void)(guest->work ? twill__run_work(guest->pool, guest->runner, guest->work)
                       : twill__run_plain(guest->pool, guest->runner, guest->todo, false));
    TWILL__GUARD_POP(0);
    twill__guest_out(guest);
}

typedef struct twill__on_top { /* what the clean-up needs */
    twill__pool *pool;
    twill__hand *runner;
    twill__errand *work, *below; /* the work may be another task's when it is over */
    unsigned depth, duties;      /* before it */
    bool here;
} twill__on_top;

/* Its end is told before those of what is below: a call down there waits for its other threads, and
   these may wait for it. */
static inline void twill__on_top_ended(void *top_)
{
    twill__on_top *top = (twill__on_top *)top_;
    top->runner->self->duties = top->duties;
    twill__hand_lost(top->pool, top->runner, top->depth, top->below);
}

/* noinline: its locals must not stand in the frame of a guard */
static __attribute__((noinline)) void twill__on_top_runs(twill__on_top *top)
{
    TWILL__GUARD_PUSH(twill__on_top_ended, top);
    top->here = twill__run_work(top->pool, top->runner, top->work);
    TWILL__GUARD_POP(0);
}

/* A runner runs a work on top of what it is doing. */
static inline void twill__run_nested(twill__pool *pool, twill__hand *runner, twill__errand *work)
{
    twill__on_top top = {pool, runner, work, work->below, runner->depth, runner->self->duties,
                         true};
    twill__turn turn;
    twill__on_top_runs(&top);
    if (!top.here)
        return;
    twill__turn_begin(pool, &turn);
    twill__hand_on(runner, top.below);
    twill__hand_report(pool, &turn, runner);
    twill__hand_looks_away(pool, &turn, runner); /* in a call it goes on with that */
    twill__turn_end(pool, &turn);
}

/* Under the lock, the work taken out of the queue, and after it unlocked: runs it on this thread,
   which is `runner`, or (NULL) none of the pool's. */
static inline void twill__run_here(twill__pool *pool, twill__turn *turn, twill__hand *runner,
                                   twill__errand *work)
{
    twill__hand guest_runner;
    twill__guest guest = {pool, &guest_runner, work, NULL, 0, NULL};
    if (!runner)
        twill__guest_in(pool, &guest_runner);
    else
        runner->now = 0;
    twill__hand_takes(pool, turn, runner ? runner : &guest_runner, work);
    twill__turn_end(pool, turn);
    twill__turn_settle_first(pool, turn, work);
    if (runner)
        twill__run_nested(pool, runner, work);
    else
        twill__guest_runs(&guest);
}

/* The same with a plain task, on a thread that is none of the pool's. */
static inline void twill__run_plain_here(twill__pool *pool, twill__turn *turn,
                                         const twill__todo *todo)
{
    twill__hand runner;
    twill__guest guest = {pool, &runner, NULL, NULL, 0, todo};
    twill__guest_in(pool, &runner);
    runner.plain = true;
    runner.index = todo->index;
    runner.about = todo->context;
    twill__turn_end(pool, turn);
    twill__turn_settle_first(pool, turn, NULL);
    twill__guest_runs(&guest);
}

/* ---- a stand-in ---- */

/* At the pool's beginning. */
static inline void twill__stand_ins_make(twill__pool *pool)
{
    for (unsigned i = 0; i < TWILL__STAND_INS; i++) {
        twill__hand *runner = &pool->stand_in[i].runner;
        runner->call.table = twill__hand_table();
        runner->worker = UINT_MAX;
        runner->outside = true;
        runner->stands = &pool->stand_in[i];
        twill_cancel_init(&runner->token, pool->options.run.until.cancel);
        twill__hand_in(pool, runner);
    }
}

/* The pool goes, and nobody is in it. */
static inline void twill__stand_ins_end(twill__pool *pool)
{
    /* in a child of a fork others of the parent's may stand in their tokens' lists */
    for (unsigned i = 0; i < TWILL__STAND_INS && twill__pool_here(pool); i++) {
        twill_cancel *token = &pool->stand_in[i].runner.token;
        if (twill__token_used(twill__token_of(token)))
            twill_cancel_detach(token);
    }
}

/* Under the lock, at a close: nobody stands in any more, but for those who do. */
static inline void twill__stand_ins_shut(twill__pool *pool)
{
    for (unsigned i = 0; i < TWILL__STAND_INS; i++)
        atomic_fetch_or_explicit(&pool->stand_in[i].word, TWILL__WATCHED, memory_order_seq_cst);
}

/* This thread's. */
static inline twill__stand_in *twill__stand_in_here(twill__pool *pool)
{
    return &pool->stand_in[twill__thread_number() % TWILL__STAND_INS];
}

/* From now on the pool stays. False: somebody else does, or the pool is closed. */
static inline bool twill__stand_in_begins(twill__stand_in *stand_in)
{
    uint32_t word = 0;
    /* seq_cst: see twill__stand_in_ends; acquire: pairs with the end of the one before */
    return atomic_compare_exchange_strong_explicit(&stand_in->word, &word, TWILL__STANDING,
                                                   memory_order_seq_cst, memory_order_relaxed);
}

/* The last access to the pool, which may be gone then. Who waits for the pool is counted in
   `waited` before he looks at us. So, all seq_cst: if we have not seen him, he has seen us begin,
   and then either leaves WATCHED here, or sees that it is over. */
static inline void twill__stand_in_ends(twill__pool *pool, twill__stand_in *stand_in)
{
    twill__hand *runner = &stand_in->runner;
    uint32_t word = TWILL__STANDING;
    twill__turn turn;
    twill__hand_on(runner, NULL);
    if (runner->ended) { /* by this thread alone; release: pairs with twill__pool_unfinished */
        uint64_t over = atomic_load_explicit(&stand_in->over, memory_order_relaxed);
        atomic_store_explicit(&stand_in->over, over + runner->ended, memory_order_release);
        runner->ended = 0;
    }
    /* release: pairs with the next one's beginning, and with twill__pool_stood_in */
    if (!atomic_load_explicit(&pool->waited, memory_order_seq_cst) &&
        atomic_compare_exchange_strong_explicit(&stand_in->word, &word, 0, memory_order_release,
                                                memory_order_relaxed))
        return;
    twill__turn_begin(pool, &turn);
    /* release: as above. Nobody else writes it now */
    atomic_store_explicit(&stand_in->word, pool->closed ? TWILL__WATCHED : 0, memory_order_release);
    twill__pool_changed(pool, &turn);
    twill__turn_end(pool, &turn);
}

/* Its task is over, or its thread ends. */
static inline void twill__stand_in_out(const twill__guest *guest)
{
    twill__thread()->runner = guest->runner->outer;
    twill__thread()->team = guest->team;
    if (twill__pool_here(guest->pool)) /* else it has forked */
        twill__stand_in_ends(guest->pool, guest->runner->stands);
}

static inline void twill__stand_in_ended(void *guest_)
{
    twill__guest *guest = (twill__guest *)guest_;
    twill__hand *runner = guest->runner;
    runner->self->duties = guest->duties;
    if (twill__pool_here(guest->pool)) {
        twill__hand_lost(guest->pool, runner, 0, NULL);
        runner->said = 0;
        runner->context = NULL;
    }
    twill__stand_in_out(guest);
}

/* After twill__stand_in_begins: a task of the queue, or (work NULL) one that never was there.
   noinline: its locals must not stand in the frame of a guard */
static __attribute__((noinline)) void twill__stand_in_runs(twill__pool *pool, twill__hand *runner,
                                                           twill__errand *work,
                                                           const twill__todo *todo)
{
    twill__self *self = twill__thread();
    twill__guest guest = {pool, runner, work, self->team, self->duties, todo};
    runner->outer = (twill__hand *)self->runner;
    if (runner->workers != twill__pool_told(pool)) /* read in one with `worker`: costs 6 ns else */
        runner->workers = twill__pool_told(pool);
    runner->self = self;
    self->runner = runner;
    self->team = &pool->team;
    TWILL__GUARD_PUSH(twill__stand_in_ended, &guest);
    if (work) {
        (void)twill__run_work(pool, runner, work);
    } else {
        (void)twill__run_plain(pool, runner, todo, true);
    }
    TWILL__GUARD_POP(0);
    twill__stand_in_out(&guest);
}

#endif
