/* idle.h: what a worker does next, and when it sleeps. */
#ifndef TWILL__WORKER_POOL_IDLE_H
#define TWILL__WORKER_POOL_IDLE_H

#include "worker_pool/start.h"

#define TWILL__IDLE_AFTER TWILL_SEC(10)
#define TWILL__NAP        100000 /* ns: an idle worker looks again then, while quick tasks come */
#define TWILL__NO_CROWD   128    /* ns a task: so fast, those at work want no help */

/* ---- what a worker does next ---- */

typedef enum twill__next { TWILL__IDLE_NOW, TWILL__RUN_IT, TWILL__RUN_EACH, TWILL__GO } twill__next;

/* Under the lock: there are more workers than should be. */
static inline bool twill__worker_surplus(const twill__pool *pool)
{
    return pool->live - pool->going > pool->most;
}

/* Under the lock: it may leave, having been idle for long. */
static inline bool twill__worker_retires(const twill__pool *pool, const twill__worker *worker)
{
    twill_ns after = pool->options.idle_after;
    return pool->live - pool->coming - pool->going > pool->least && worker->idle_since &&
           twill__clock_now() - worker->idle_since >= (after ? after : TWILL__IDLE_AFTER);
}

static inline twill__everyone *twill__each_next(const twill__pool *pool,
                                                const twill__worker *worker)
{
    twill__everyone *each = pool->each; /* in order */
    while (each && each->number <= worker->each_seen)
        each = each->next;
    return each;
}

/* Under the lock. False: there is nothing to do. */
static inline bool twill__worker_takes(twill__pool *pool, twill__turn *turn, twill__worker *worker,
                                       twill__todo *todo)
{
    twill__hand *runner = &worker->runner;
    if (!pool->todos.held) {
        /* who is inside may count on us (twill__pool_calls): he is waited for, and seen here or
           below */
        if (twill__todos_are_empty(&pool->todos) ||
            !twill__todos_take(&pool->todos, todo, &runner->taker))
            return false;
    } else if (pool->paused || pool->sealed || !twill__todos_length(&pool->todos)) {
        return false; /* sealed: who ends the pool cancels them */
    } else {
        *todo = twill__todos_pop(&pool->todos);
    }
    runner->busy = true;
    runner->plain = todo->fn != NULL;
    runner->index = todo->index;
    runner->about = todo->context;
    worker->idle_since = 0;
    twill__pool_level(pool, turn);
    if (pool->senders.first)
        twill__pool_room(pool, turn);
    if (!todo->fn) {
        twill__errand *work = twill__errand_at((twill__todo_entry *)todo->arg);
        twill__hand_takes(pool, turn, runner, work);
        runner->index = work->record.outcome.index;
    }
    if (pool->has_watch) {
        bool untold = pool->options.on_event && pool->options.stuck_after; /* twill__hand_begun */
        runner->since = untold ? TWILL_FOREVER : runner->now ? runner->now : twill__clock_now();
        runner->told = false;
        if (pool->options.stuck_after && !untold && twill__watch_is_late(pool, runner))
            turn->watch = true;
    }
    /* the next one: whoever called for this task has called one worker only; and somebody idle
       must know the alarm */
    if (twill__todos_length(&pool->todos) || twill__team_unkept(&pool->team))
        twill__pool_wants(pool, turn);
    return true;
}

/* A clock costs more than a tiny task: then one of 64 is measured, of quick ones one of 16. */
static inline void twill__pool_sample(twill__pool *pool)
{
    size_t sample = !TWILL__TICKS || pool->has_watch || !twill__pool_is_quick(pool) ? 0
                    : twill__pool_is_tiny(pool)                                     ? 63
                                                                                    : 15;
    if (atomic_load_explicit(&pool->sample, memory_order_relaxed) != sample)
        atomic_store_explicit(&pool->sample, sample, memory_order_relaxed);
}

/* Under the lock: it has something else to do, and may have been called for what is there. */
static inline void twill__worker_passes(twill__pool *pool, twill__turn *turn)
{
    if (twill__todos_length(&pool->todos) || pool->todos.timer_count ||
        twill__team_unkept(&pool->team))
        twill__pool_wants(pool, turn);
}

static inline twill__next twill__worker_next(twill__worker *worker, twill__todo *todo,
                                             twill__everyone **each)
{
    twill__hand *runner = &worker->runner;
    twill__pool *pool = runner->pool;
    twill__next next = TWILL__IDLE_NOW;
    twill__turn turn;
    if (!twill__pool_here(pool))
        return TWILL__GO;
    twill__turn_begin(pool, &turn);
    twill__hand_report(pool, &turn, runner);
    runner->busy = false;
    twill__hand_off(runner);
    runner->workers = twill__pool_told(pool);
    if (worker->woke)
        /* this and the next two: see twill__pool_calls */
        atomic_store_explicit(&pool->on_way, false, memory_order_seq_cst);
    worker->woke = false;
    if (worker->naps)
        atomic_fetch_sub_explicit(&pool->napping, 1, memory_order_seq_cst);
    worker->naps = false;
    if (runner->looks)
        atomic_fetch_sub_explicit(&pool->looking, 1, memory_order_seq_cst);
    runner->looks = false;
    twill__pool_sample(pool);
    while (pool->todos.timer_count && twill__pool_tick(pool, &turn, twill__clock_now())) {
        /* exit: nothing is due any more. Callbacks may take their time */
        twill__worker_passes(pool, &turn);
        twill__turn_end(pool, &turn);
        twill__turn_settle(pool, &turn);
        twill__turn_begin(pool, &turn);
    }
    if (runner->given_up || twill__worker_surplus(pool)) {
        next = TWILL__GO;
    } else if ((*each = twill__each_next(pool, worker))) {
        worker->each_seen = (*each)->number;
        (*each)->inside++;
        next = TWILL__RUN_EACH;
    } else if (!worker->gives_way && twill__worker_takes(pool, &turn, worker, todo)) {
        next = TWILL__RUN_IT;
    } else if (pool->leaving || twill__worker_retires(pool, worker)) {
        next = TWILL__GO;
    }
    if (next == TWILL__GO && !runner->given_up) {
        worker->going = true;
        pool->going++;
    }
    if (next == TWILL__GO || next == TWILL__RUN_EACH)
        twill__worker_passes(pool, &turn);
    twill__turn_end(pool, &turn);
    if (turn.level) /* it has not ended any task since it took one */
        twill__turn_settle_first(pool, &turn,
                                 next == TWILL__RUN_IT ? twill__todo_work(todo) : NULL);
    return next;
}

static inline void twill__worker_each(twill__worker *worker, twill__everyone *each)
{
    twill__pool *pool = worker->runner.pool;
    twill__turn turn;
    twill_task task;
    int code;
    twill__hand_task(&worker->runner, SIZE_MAX, pool->options.run.context, &task);
    task.until = each->until;
    worker->each = each;
    code = each->fn(each->arg, NULL, &task);
    worker->each = NULL;
    if (!twill__pool_here(pool)) /* it has forked */
        return;
    twill__turn_begin(pool, &turn);
    each->inside--;
    each->left--;
    each->failed += code != 0;
    twill__pool_changed(pool, &turn);
    twill__turn_end(pool, &turn);
}

/* ---- idle ---- */

/* How many tasks have begun, or were taken out otherwise. A guess, without the lock. */
static inline uint64_t twill__pool_taken(const twill__pool *pool)
{
    uint64_t head = atomic_load_explicit(&pool->todos.head, memory_order_relaxed) & ~TWILL__HOLD;
    return atomic_load_explicit(&pool->submitted, memory_order_relaxed) -
           (twill__todos_tail(&pool->todos) - head);
}

/* Under the lock, counted as idle, while quick tasks come, or (`crowd`) are left to others: one
   looks again soon, unasked. */
static inline void twill__worker_naps(twill__pool *pool, twill__worker *worker, bool crowd)
{
    /* relaxed: a figure */
    uint64_t submitted = atomic_load_explicit(&pool->submitted, memory_order_relaxed);
    if (atomic_load_explicit(&pool->napping, memory_order_seq_cst) ||
        !(crowd || (twill__pool_is_quick(pool) && submitted != worker->naps_since)))
        return;
    worker->naps = true;
    worker->naps_since = submitted;
    worker->naps_at = twill__clock_now();
    worker->naps_taken = twill__pool_taken(pool);
    atomic_fetch_add_explicit(&pool->napping, 1, memory_order_seq_cst);
}

/* Under the lock, counted as idle: whether there is nothing to do, or others are at it. *until:
   when to look again. */
static inline bool twill__worker_may_sleep(twill__pool *pool, twill__worker *worker,
                                           twill_ns *until)
{
    twill_ns timer = twill__timer_next(&pool->todos),
             alarm = atomic_load_explicit(&pool->team.alarm, memory_order_seq_cst),
             after = pool->options.idle_after;
    bool crowd =
        worker->gives_way && !pool->todos.held &&
        atomic_load_explicit(&pool->team.idle, memory_order_seq_cst) < pool->live - pool->coming;
    *until = TWILL_FOREVER;
    /* see twill__pool_calls */
    if (atomic_load_explicit(&pool->on_way, memory_order_seq_cst))
        atomic_store_explicit(&pool->on_way, false, memory_order_seq_cst);
    if ((!crowd && !twill__todos_are_empty(&pool->todos) && !pool->paused && !pool->sealed) ||
        pool->leaving || twill__worker_surplus(pool) || twill__each_next(pool, worker))
        return false;
    if (!worker->idle_since)
        worker->idle_since = twill__clock_now();
    if (pool->live - pool->coming - pool->going > pool->least)
        *until = twill__instant_after(worker->idle_since, after ? after : TWILL__IDLE_AFTER);
    twill__worker_naps(pool, worker, crowd);
    while (timer < alarm &&
           !atomic_compare_exchange_weak_explicit(&pool->team.alarm, &alarm, timer,
                                                  memory_order_seq_cst, memory_order_seq_cst)) {}
    return true;
}

static inline bool twill__worker_looks(twill__pool *pool, twill__worker *worker, twill_ns *until)
{
    twill__turn turn;
    bool sleeps;
    twill__turn_begin(pool, &turn);
    sleeps = twill__worker_may_sleep(pool, worker, until);
    twill__turn_end(pool, &turn);
    return sleeps;
}

/* After a nap: whether those who are at work want no help, since they are faster alone. */
static inline bool twill__worker_naps_on(twill__worker *worker, twill_ns until)
{
    twill__pool *pool = worker->runner.pool;
    uint64_t taken = twill__pool_taken(pool), since = worker->naps_taken;
    twill_ns now = twill__clock_now(), took = now - worker->naps_at;
    worker->naps_at = now;
    worker->naps_taken = taken;
    return worker->naps && now < until && twill__pool_is_tiny(pool) &&
           !twill__todos_are_held(&pool->todos) &&
           atomic_load_explicit(&pool->team.idle, memory_order_seq_cst) <
               twill__team_threads(&pool->team) &&
           (int64_t)(taken - since) > took / TWILL__NO_CROWD;
}

/* Counted as parked. */
static inline void twill__worker_rests(twill__worker *worker, uint32_t epoch, twill_ns until)
{
    twill__team *team = &worker->runner.pool->team;
    twill_ns soon;
    do /* exit: it was called, or has to look */
        soon = worker->naps ? worker->naps_at + TWILL__NAP : until;
    while (atomic_load_explicit(&team->epoch, memory_order_seq_cst) == epoch &&
           twill__nap(team, epoch, soon < until ? soon : until) && /* false: an alarm was due */
           twill__worker_naps_on(worker, until));
}

/* ns without a look after a call of a few items: tiny ones would be over before a spinner is in,
   and who is in is waited for. While one tiny call follows the other it looks less and less often,
   since each look takes two lines that the next call needs. To wake a parked thread takes 10 us. */
#define TWILL__STAND_BACK       300
#define TWILL__STAND_BACK_TWICE 3 /* so many times it is doubled */

typedef struct twill__lull { /* what a worker that spins has seen */
    uint32_t epoch;          /* changes up to here do not concern it */
    const twill__seat *seat; /* the last of them was made here; NULL: there was none */
    uint64_t opened;         /* that seat's `opened`, and `little`, at that moment */
    bool little;
} twill__lull;

/* Whether nothing but openings of one seat has changed the epoch. */
static inline bool twill__only_calls(const twill__team *team, twill__lull *lull)
{
    /* relaxed, here and below: hints; `opened` is valid for the epoch that it names */
    const twill__seat *seat =
        &team->seat[atomic_load_explicit(&team->hint, memory_order_relaxed) % TWILL__SEATS];
    uint64_t opened = atomic_load_explicit(&seat->opened, memory_order_relaxed);
    uint32_t now = (uint32_t)(opened >> 32), calls = 1;
    if (seat == lull->seat)
        calls = (uint32_t)opened - (uint32_t)lull->opened;
    if (!calls || now - lull->epoch != calls)
        return false;
    lull->epoch = now;
    lull->seat = seat;
    lull->opened = opened;
    lull->little = atomic_load_explicit(&seat->little, memory_order_relaxed);
    return true;
}

/* Whether the call that opened there last is worth coming in. */
static inline bool twill__call_stays(const twill__lull *lull)
{
    const _Atomic uint32_t *word = &lull->seat->word;
    unsigned same;
    if (!(atomic_load_explicit(word, memory_order_seq_cst) & TWILL__SEAT_OPEN))
        return false;
    if (!lull->little || !TWILL__SPIN) {
        twill__fetch_ahead(lull->seat);
        return true;
    }
    twill__spin_away(TWILL__STAND_BACK / 2);
    /* still open, and by nobody else. relaxed: only compared */
    same = atomic_load_explicit(&lull->seat->opened, memory_order_relaxed) == lull->opened;
    return same & ((atomic_load_explicit(word, memory_order_seq_cst) & TWILL__SEAT_OPEN) != 0);
}

/* For TWILL__IDLE_SPIN at most, letting others run every now and then: whom the last task has woken
   may stand in the queue of this very CPU. A call that is over when it comes to it does not end the
   spin: a look round takes the lines that the next call needs. False: nothing has changed the
   epoch, and the worker may park; true: it has to look round. */
static inline bool twill__worker_spins(const twill__team *team, uint32_t epoch)
{
    twill_ns until = twill__clock_now() + TWILL__IDLE_SPIN;
    unsigned twice = 0;
    twill__lull lull = {epoch, NULL, 0, false};
    do {
        if (!twill__spin(&team->epoch, lull.epoch, TWILL__SPIN_WAIT, 1)) {
            twice = 0;
            continue;
        }
        if (lull.little) {
            twill__spin_away(TWILL__STAND_BACK << twice);
            twice += twice < TWILL__STAND_BACK_TWICE;
        }
        if (!twill__only_calls(team, &lull) || twill__call_stays(&lull))
            return true;
    } while (TWILL__SPIN && twill__clock_now() < until);
    return lull.seat != NULL;
}

/* Not while others are at work, if it looks again soon anyway. */
static inline bool twill__worker_may_spin(const twill__worker *worker)
{
    const twill__team *team = &worker->runner.pool->team;
    uint32_t idle = atomic_load_explicit(&team->idle, memory_order_seq_cst);
    return idle - atomic_load_explicit(&team->parked, memory_order_seq_cst) <= team->spinners &&
           (!worker->naps || idle >= twill__team_threads(team));
}

/* The team's protocol (twill__helper_main): counted first, then it looks at tasks and calls. */
static inline void twill__worker_idle(twill__worker *worker, uint32_t epoch)
{
    twill__pool *pool = worker->runner.pool;
    twill__team *team = &pool->team;
    uint64_t since = twill__ticks();
    twill_ns until;
    worker->runner.now = 0;
    worker->woke = true;
    atomic_fetch_add_explicit(&team->idle, 1, memory_order_seq_cst);
    if (twill__worker_looks(pool, worker, &until) && !twill__call_waits(team) &&
        atomic_load_explicit(&team->epoch, memory_order_seq_cst) == epoch &&
        !(twill__worker_may_spin(worker) && twill__worker_spins(team, epoch))) {
        atomic_fetch_add_explicit(&team->parked, 1, memory_order_seq_cst);
        twill__worker_rests(worker, epoch, until);
        atomic_fetch_sub_explicit(&team->parked, 1, memory_order_seq_cst);
    }
    atomic_fetch_sub_explicit(&team->idle, 1, memory_order_seq_cst);
    worker->gives_way = false;
    /* relaxed: statistics */
    atomic_store_explicit(&worker->idle_ticks,
                          atomic_load_explicit(&worker->idle_ticks, memory_order_relaxed) +
                              (twill__ticks() - since),
                          memory_order_relaxed);
}

#endif
