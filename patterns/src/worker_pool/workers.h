/* workers.h: the pool's threads: what they do next, when they sleep, come, leave and are given
   up. */
#ifndef TWILL__WORKER_POOL_WORKERS_H
#define TWILL__WORKER_POOL_WORKERS_H

#include "worker_pool/asked.h"

#define TWILL__IDLE_AFTER TWILL_SEC(10)
#ifndef TWILL__GROW_AFTER /* the explorer wants less */
#define TWILL__GROW_AFTER TWILL_MS(10)
#endif
#define TWILL__MAX_NUMBERS 65536u
#define TWILL__NAP         100000 /* ns: an idle worker looks again then, while quick tasks come */
#define TWILL__NO_CROWD    128    /* ns a task: so fast, those at work want no help */
#define TWILL__SEARCH      1500   /* ns a busy worker lets the next quick tasks come together */

/* ---- starting ---- */

static void twill__worker_main(void *worker);

static inline twill__worker *twill__worker_make(twill__pool *pool, unsigned number)
{
    char *memory = (char *)TWILL_MALLOC(sizeof(twill__worker) + TWILL__LINE), *at;
    twill__worker *worker;
    if (!memory)
        return NULL;
    at = memory + (TWILL__LINE - (uintptr_t)memory % TWILL__LINE) % TWILL__LINE;
    worker = (twill__worker *)(void *)at;
    memset(worker, 0, sizeof *worker);
    worker->memory = memory;
    worker->runner.call.table = twill__hand_table();
    worker->runner.pool = pool;
    worker->runner.worker = number;
    worker->runner.waited = &worker->waited;
    worker->runner.ran = &worker->ran;
    return worker;
}

static inline void twill__pool_threads(twill__pool *pool)
{
    /* a number */
    atomic_store_explicit(&pool->team.threads, pool->live, memory_order_relaxed);
    if (pool->live > pool->live_peak)
        pool->live_peak = pool->live;
}

/* Under the lock, or before the pool is known. Who stays when the pool is made smaller keeps a
   number that is too large for it. */
static inline void twill__pool_tells(twill__pool *pool)
{
    unsigned told = pool->most + pool->options.max_abandoned, last = pool->numbers;
    while (last > told &&
           !(pool->worker[last - 1] && pool->worker[last - 1]->life != TWILL__NO_THREAD_YET))
        last--;
    atomic_store_explicit(&pool->told, last > told ? last : told, memory_order_relaxed);
}

/* Under the lock, which the new thread takes first: so its handle is there when anybody looks.
   False: it could not be started. */
static inline bool twill__worker_create(twill__pool *pool)
{
    const twill_run *run = &pool->options.run;
    twill__worker *worker;
    unsigned number = 0;
    while (number < pool->numbers && pool->worker[number] &&
           pool->worker[number]->life != TWILL__NO_THREAD_YET)
        number++;
    if (number == pool->numbers)
        return false;
    worker = pool->worker[number];
    if (!worker)
        worker = pool->worker[number] = twill__worker_make(pool, number);
    if (!worker)
        return false;
    memset(&worker->thread, 0, sizeof worker->thread);
    worker->thread.fn = twill__worker_main;
    worker->thread.arg = worker;
    worker->thread.stack_size = run->stack_size;
    worker->thread.cpu = run->cpu_count ? run->cpus[number % run->cpu_count] : UINT_MAX;
    twill__thread_name(&worker->thread, pool->name);
    worker->life = TWILL__COMING;
    pool->live++;
    pool->coming++;
    if (!twill__thread_start(&worker->thread)) {
        worker->life = TWILL__NO_THREAD_YET;
        pool->live--;
        pool->coming--;
        return false;
    }
    if (number >= twill__pool_told(pool)) /* lower ones are just going */
        twill__pool_tells(pool);
    twill__pool_threads(pool);
    return true;
}

/* The same, if there may be something to do. */
static inline bool twill__worker_start(twill__pool *pool)
{
    if (pool->sealed && !twill__todos_length(&pool->todos)) /* nothing is left, now or later */
        return false;
    if (twill__worker_create(pool))
        return true;
    pool->failed_at = twill__clock_now();
    return false;
}

/* Not again and again what has just failed. */
static inline bool twill__worker_retry(twill__pool *pool)
{
    return !(pool->failed_at && twill__clock_now() - pool->failed_at <= TWILL__GROW_AFTER) &&
           twill__worker_start(pool);
}

/* ---- a pool that is left without workers ---- */

/* Under the lock: there is none, and there should be. */
static inline bool twill__pool_bare(const twill__pool *pool)
{
    return pool->live == pool->going && !pool->ending && !pool->leaving &&
           (twill__todos_length(&pool->todos) || pool->later || pool->senders.first);
}

/* Under the lock, by who waits for a worker, or was the last one: if the pool is bare, tries to
   start one. When to look again; 0: it is not. */
static inline twill_ns twill__pool_revives(twill__pool *pool)
{
    if (!twill__pool_bare(pool) || (!pool->paused && twill__worker_retry(pool)))
        return 0;
    return twill__instant_after(twill__clock_now(), TWILL__GROW_AFTER);
}

static inline bool twill__pool_is_clad(twill__pool *pool, const void *data)
{
    (void)data;
    return !twill__pool_bare(pool);
}

/* Under the lock, by a thread that is about to end, and is no worker any more: it stays as long as
   the pool is bare, since there may be nobody else who would start one. */
static inline void twill__pool_bequeath(twill__pool *pool, twill__turn *turn)
{
    twill_ns look;
    while ((look = twill__pool_revives(pool)) != 0) /* exit: not bare any more, or ending */
        (void)twill__pool_await(pool, turn, (twill_until){look, NULL}, twill__pool_is_clad, NULL);
}

/* Work has come up, and so many of so many workers are idle: whether to call one. Whoever asks is
   inside or has the lock. A worker takes himself off these counts first, and then looks at the
   queue; so, all seq_cst: if one of them is set after somebody has come in, there is a worker who
   will see it. `on_way` is taken off also by each who goes to sleep, before his last look: so it
   says that all who are idle were called, or will be at once. */
static inline bool twill__pool_calls(twill__pool *pool, uint32_t idle, unsigned live)
{
    if (atomic_load(&pool->on_way))
        return false;
    /* one that spins hears of it for a store; one that sleeps is not called while another is about
       to look. relaxed: a guess */
    if (atomic_load(&pool->looking) &&
        idle <= atomic_load_explicit(&pool->team.parked, memory_order_relaxed))
        return false;
    /* somebody is at work on quick ones, and another one looks soon whether that has changed */
    if (atomic_load(&pool->napping) && idle < live && twill__pool_is_quick(pool))
        return false;
    atomic_store(&pool->on_way, true); /* and then the call, which moves the epoch on */
    return true;
}

/* Under the lock, work has come up: one wake, none when a worker is on its way; or a thread more,
   if there are fewer than there should be; or the watch looks after it. */
static inline void twill__pool_wants(twill__pool *pool, twill__turn *turn)
{
    /* under the lock: who is idle has counted himself before he looked under it */
    uint32_t idle = atomic_load_explicit(&pool->team.idle, memory_order_relaxed);
    if (pool->paused)
        return;
    if (idle) {
        turn->call += twill__pool_calls(pool, idle, pool->live - pool->coming);
        return;
    }
    if (twill__pool_active(pool) < pool->least && pool->live < pool->most && !pool->coming) {
        if (twill__worker_retry(pool))
            return;
        if (!pool->live) /* who waits for the pool sees to it */
            twill__pool_changed(pool, turn);
    }
    if (pool->has_watch && pool->live < pool->most &&
        /* relaxed: written under the lock */
        atomic_load_explicit(&pool->watch_until, memory_order_relaxed) == TWILL_FOREVER)
        turn->watch = true;
}

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
    } else if (pool->paused || !twill__todos_length(&pool->todos)) {
        return false;
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
        if (pool->options.stuck_after && !untold &&
            /* relaxed: written under the lock */
            atomic_load_explicit(&pool->watch_until, memory_order_relaxed) == TWILL_FOREVER)
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
    twill__hand_on(runner, NULL);
    runner->workers = twill__pool_told(pool);
    if (worker->woke)
        atomic_store(&pool->on_way, false); /* this and the next two: see twill__pool_calls */
    worker->woke = false;
    if (worker->naps)
        atomic_fetch_sub(&pool->napping, 1);
    worker->naps = false;
    if (runner->looks)
        atomic_fetch_sub(&pool->looking, 1);
    runner->looks = false;
    twill__pool_sample(pool);
    if (pool->todos.timer_count)
        twill__pool_tick(pool, &turn, twill__clock_now());
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
    if (next == TWILL__GO && (twill__todos_length(&pool->todos) || pool->todos.timer_count ||
                              twill__team_unkept(&pool->team)))
        twill__pool_wants(pool, &turn); /* it may have been called for them */
    twill__turn_end(pool, &turn);
    twill__turn_settle(pool, &turn);
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
    if (atomic_load(&pool->napping) ||
        !(crowd || (twill__pool_is_quick(pool) && submitted != worker->naps_since)))
        return;
    worker->naps = true;
    worker->naps_since = submitted;
    worker->naps_at = twill__clock_now();
    worker->naps_taken = twill__pool_taken(pool);
    atomic_fetch_add(&pool->napping, 1);
}

/* Under the lock, counted as idle: whether there is nothing to do, or others are at it. *until:
   when to look again. */
static inline bool twill__worker_may_sleep(twill__pool *pool, twill__worker *worker,
                                           twill_ns *until)
{
    twill_ns timer = twill__timer_next(&pool->todos), alarm = atomic_load(&pool->team.alarm),
             after = pool->options.idle_after;
    bool crowd = worker->gives_way && !pool->todos.held &&
                 atomic_load(&pool->team.idle) < pool->live - pool->coming;
    *until = TWILL_FOREVER;
    if (atomic_load(&pool->on_way))
        atomic_store(&pool->on_way, false); /* see twill__pool_calls */
    if ((!crowd && !twill__todos_are_empty(&pool->todos) && !pool->paused) || pool->leaving ||
        twill__worker_surplus(pool) || twill__each_next(pool, worker))
        return false;
    if (!worker->idle_since)
        worker->idle_since = twill__clock_now();
    if (pool->live - pool->coming - pool->going > pool->least)
        *until = twill__instant_after(worker->idle_since, after ? after : TWILL__IDLE_AFTER);
    twill__worker_naps(pool, worker, crowd);
    while (timer < alarm && !atomic_compare_exchange_weak(&pool->team.alarm, &alarm, timer)) {}
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
           atomic_load(&pool->team.idle) < twill__team_threads(&pool->team) &&
           (int64_t)(taken - since) > took / TWILL__NO_CROWD;
}

/* Counted as parked. */
static inline void twill__worker_rests(twill__worker *worker, uint32_t epoch, twill_ns until)
{
    twill__team *team = &worker->runner.pool->team;
    twill_ns soon;
    do /* exit: it was called, or has to look */
        soon = worker->naps ? worker->naps_at + TWILL__NAP : until;
    while (atomic_load(&team->epoch) == epoch &&
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
    if (!(atomic_load(word) & TWILL__SEAT_OPEN))
        return false;
    if (!lull->little || !TWILL__SPIN) {
        twill__fetch_ahead(lull->seat);
        return true;
    }
    twill__spin_away(TWILL__STAND_BACK / 2);
    /* still open, and by nobody else. relaxed: only compared */
    same = atomic_load_explicit(&lull->seat->opened, memory_order_relaxed) == lull->opened;
    return same & ((atomic_load(word) & TWILL__SEAT_OPEN) != 0);
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
    uint32_t idle = atomic_load(&team->idle);
    return idle - atomic_load(&team->parked) <= team->spinners &&
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
    atomic_fetch_add(&team->idle, 1);
    if (twill__worker_looks(pool, worker, &until) && !twill__call_waits(team) &&
        atomic_load(&team->epoch) == epoch &&
        !(twill__worker_may_spin(worker) && twill__worker_spins(team, epoch))) {
        atomic_fetch_add(&team->parked, 1);
        twill__worker_rests(worker, epoch, until);
        atomic_fetch_sub(&team->parked, 1);
    }
    atomic_fetch_sub(&team->idle, 1);
    worker->gives_way = false;
    /* relaxed: statistics */
    atomic_store_explicit(&worker->idle_ticks,
                          atomic_load_explicit(&worker->idle_ticks, memory_order_relaxed) +
                              (twill__ticks() - since),
                          memory_order_relaxed);
}

/* ---- a worker's life ---- */

static inline bool twill__worker_run(twill__worker *worker, const twill__todo *todo)
{
    twill__hand *runner = &worker->runner;
    return todo->fn ? twill__run_plain(runner->pool, runner, todo, false)
                    : twill__run_work(runner->pool, runner,
                                      twill__errand_at((twill__todo_entry *)todo->arg));
}

/* A call may take it for long: whoever submits must not count on it. */
static inline void twill__worker_looks_away(twill__worker *worker)
{
    twill__pool *pool = worker->runner.pool;
    twill__turn turn;
    if (!worker->runner.looks)
        return;
    worker->runner.looks = false;
    twill__turn_begin(pool, &turn);
    atomic_fetch_sub(&pool->looking, 1); /* see twill__pool_calls */
    if (!twill__todos_are_empty(&pool->todos))
        twill__pool_wants(pool, &turn);
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

/* noinline: its locals must not stand in the frame of a guard */
static __attribute__((noinline)) void twill__worker_loop(twill__worker *worker)
{
    twill__pool *pool = worker->runner.pool;
    twill__team *team = &pool->team;
    uint32_t served = 0;
    for (;;) { /* exit: it is to go, or a callback has forked, and this is the child */
        uint32_t epoch = atomic_load(&team->epoch);
        twill__everyone *each = NULL;
        twill__todo todo;
        switch (twill__worker_goes_on(worker, &todo) ? TWILL__RUN_IT
                                                     : twill__worker_next(worker, &todo, &each)) {
        case TWILL__GO:
            return;
        case TWILL__RUN_EACH:
            twill__worker_each(worker, each);
            worker->runner.now = 0;
            break;
        case TWILL__RUN_IT:
            if (!twill__worker_run(worker, &todo))
                return;
            if (epoch == served) /* no call was opened since it looked */
                break;
            served = epoch;
            twill__worker_looks_away(worker);
            if (twill__serve_team(team, worker->runner.worker + 1)) {
                worker->runner.now = 0;
                if (!twill__pool_here(pool))
                    return;
            }
            break;
        case TWILL__IDLE_NOW:
            worker->runner.now = 0;
            if (twill__serve_team(team, worker->runner.worker + 1))
                worker->idle_since = 0, worker->gives_way = false;
            else
                twill__worker_idle(worker, epoch);
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
    if (runner->blocked)
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
    twill__pool_bequeath(pool, &turn);
    twill__turn_end(pool, &turn);
}

/* A callback has ended the thread: what it ran is LOST. */
static inline void twill__worker_ended(void *worker_)
{
    twill__worker *worker = (twill__worker *)worker_;
    twill__thread()->duties = 0;
    twill__hand_lost(worker->runner.pool, &worker->runner);
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
    atomic_fetch_and(&runner->gate, ~TWILL__GATE_SHUT);
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
