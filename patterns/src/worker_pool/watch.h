/* watch.h: the thread that looks after a pool with `stuck_after`, or one that may grow. */
#ifndef TWILL__WORKER_POOL_WATCH_H
#define TWILL__WORKER_POOL_WATCH_H

#include "worker_pool/submit.h"

#ifndef TWILL__CPU_SECONDS /* of the process so far; the explorer sets it */
#define TWILL__CPU_SECONDS() ((double)clock() / CLOCKS_PER_SEC)
#endif

/* ---- growth ---- */

static inline unsigned twill__pool_busy(const twill__pool *pool)
{
    unsigned busy = 0;
    for (const twill__hand *runner = pool->runners; runner; runner = runner->next)
        busy += runner->busy && !runner->outside && !runner->given_up;
    return busy;
}

/* Whether another worker would find a CPU to run on: somebody says that he blocks, or the process
   used less than 0.8 CPU a busy worker since the last look. */
static inline bool twill__pool_has_cpu(twill__pool *pool, twill_ns now)
{
    double seconds = TWILL__CPU_SECONDS(), then = (double)pool->cpu_then / 1e9;
    double span = (double)(now - pool->cpu_at) / 1e9;
    bool first = pool->cpu_at == 0;
    pool->cpu_at = now;
    pool->cpu_then = (twill_ns)(seconds * 1e9);
    if (pool->blocked)
        return true;
    return !first && span > 0 && (seconds - then) / span < 0.8 * (double)twill__pool_busy(pool);
}

/* Under the lock. When to look again. */
static inline twill_ns twill__pool_grow(twill__pool *pool, twill_ns now)
{
    twill_ns after = pool->options.grow_after ? pool->options.grow_after : TWILL__GROW_AFTER;
    twill_ns queued, due;
    uint64_t oldest;
    if (pool->live >= pool->most || !twill__todos_length(&pool->todos) || pool->paused ||
        atomic_load_explicit(&pool->team.idle, memory_order_seq_cst)) {
        pool->cpu_at = 0;
        return TWILL_FOREVER;
    }
    oldest = twill__todos_oldest(&pool->todos);
    /* one that nobody measured came before there was a watch */
    queued = oldest ? twill__stamp_ns(oldest, pool->team.tick_rate, twill__ticks(), now) : 0;
    due = twill__instant_after(queued > pool->grown_at ? queued : pool->grown_at, after);
    if (!pool->cpu_at) /* the span that is measured begins */
        (void)twill__pool_has_cpu(pool, now);
    else if (now >= due) {
        pool->grown_at = now;
        if (twill__pool_has_cpu(pool, now))
            (void)twill__worker_start(pool);
        return twill__instant_after(now, after);
    }
    return due > now ? due : twill__instant_after(now, after);
}

/* ---- stuck ---- */

typedef struct twill__stuck { /* what the watch has found under the lock */
    bool found, plain;        /* plain: one is given up in a task without a record */
    size_t index;
    void *key, *context;
    unsigned worker;
    twill__errand *works; /* pinned, by `stuck_chain` */
} twill__stuck;

/* A worker is not counted on any more; another one takes its place. */
static inline void twill__worker_give_up(twill__pool *pool, twill__worker *worker,
                                         twill__stuck *stuck)
{
    twill__hand *runner = &worker->runner;
    size_t count = runner->plain;
    stuck->plain = runner->plain;
    for (twill__errand *work = twill__hand_work(runner); work; work = work->below) {
        count++;
        if (twill__record_pin(&work->record)) {
            work->stuck_chain = stuck->works;
            stuck->works = work;
        }
    }
    runner->given_up = true;
    runner->forgiven = count;
    pool->over += count;
    worker->life = TWILL__GIVEN_UP;
    pool->live--;
    pool->abandoned++;
    if (runner->blocked)
        pool->blocked--;
    for (twill__everyone *each = twill__each_next(pool, worker); each; each = each->next)
        each->left--;
    twill__pool_threads(pool);
    if (pool->live - pool->going < pool->least)
        (void)twill__worker_start(pool);
}

/* Under the lock: the first worker whose task has run for too long, not yet told. When to look
   again. */
static inline twill_ns twill__pool_stuck(twill__pool *pool, twill__turn *turn, twill_ns now,
                                         twill__stuck *stuck)
{
    twill_ns after = pool->options.stuck_after, next = TWILL_FOREVER;
    for (twill__hand *runner = pool->runners; runner; runner = runner->next) {
        twill__worker *worker = (twill__worker *)(void *)runner;
        const twill__errand *base = twill__hand_work(runner);
        if (runner->outside || !runner->busy || runner->told)
            continue;
        if (now - runner->since < after || stuck->found) {
            twill_ns due = twill__instant_after(runner->since, after);
            next = due < next ? due : next;
            continue;
        }
        while (base && base->below)
            base = base->below;
        stuck->found = runner->told = true;
        stuck->index = runner->index;
        stuck->worker = runner->worker;
        stuck->key = base && !runner->plain ? base->record.outcome.key : NULL;
        stuck->context = base && !runner->plain ? base->record.context : runner->about;
        if (pool->abandoned < pool->options.max_abandoned)
            twill__worker_give_up(pool, worker, stuck);
    }
    twill__pool_changed(pool, turn);
    return next;
}

static inline void twill__watch_tells(twill__pool *pool, const twill__stuck *stuck)
{
    twill_task task = twill__task_about(pool, stuck->index, stuck->context);
    twill__event(pool, TWILL_EVENT_STUCK, TWILL_LOST, stuck->index, stuck->key, stuck->worker,
                 &task);
    if (stuck->plain) {
        twill__count(pool, NULL, TWILL__N_LOST);
        twill__event(pool, TWILL_EVENT_ENDED, TWILL_LOST, stuck->index, NULL, stuck->worker, &task);
    }
    for (twill__errand *work = stuck->works, *next; work; work = next) {
        next = work->stuck_chain;
        twill__errand_overrule(pool, work, TWILL_LOST);
        twill__record_unpin(&work->record);
    }
}

/* ---- the thread ---- */

/* One look. *word: for the park; false: it is to end. */
static inline bool twill__watch_looks(twill__pool *pool, twill__stuck *stuck, uint32_t *word,
                                      twill_ns *until)
{
    twill__turn turn;
    twill_ns now, next;
    bool goes_on;
    memset(stuck, 0, sizeof *stuck);
    twill__turn_begin(pool, &turn);
    now = twill__clock_now();
    goes_on = !pool->watch_ends;
    (void)twill__pool_tick(pool, &turn, now); /* it looks again at once if more is due */
    *until = twill__timer_next(&pool->todos);
    if (pool->options.stuck_after) {
        next = twill__pool_stuck(pool, &turn, now, stuck);
        *until = next < *until ? next : *until;
    }
    next = twill__pool_grow(pool, now);
    *until = next < *until ? next : *until;
    next = twill__pool_revives(pool);
    *until = next && next < *until ? next : *until;
    /* raised under the lock or after it, by whoever wants us to look. relaxed: who has had the lock
       after us raises it after this, and then we do not sleep by what we read here */
    *word = atomic_load_explicit(&pool->watch_word, memory_order_relaxed);
    /* read under the lock */
    atomic_store_explicit(&pool->watch_until, *until, memory_order_relaxed);
    twill__turn_end(pool, &turn);
    twill__turn_settle(pool, &turn);
    return goes_on;
}

static inline void twill__watch_main(void *pool_)
{
    twill__pool *pool = (twill__pool *)pool_;
    twill__stuck stuck;
    twill__turn turn;
    uint32_t word;
    twill_ns until;
    twill__duty_begin(pool, NULL, TWILL__BE_WORKER);
    while (twill__watch_looks(pool, &stuck, &word, &until)) {
        if (stuck.found)
            twill__watch_tells(pool, &stuck);
        else
            (void)twill__park(&pool->watch_word, word, until);
    }
    if (stuck.found)
        twill__watch_tells(pool, &stuck);
    twill__turn_begin(pool, &turn);
    pool->has_watch = false;
    twill__pool_changed(pool, &turn);
    twill__turn_end(pool, &turn);
}

/* Under the lock, before the pool is known. */
static inline bool twill__watch_start(twill__pool *pool)
{
    memset(&pool->watch, 0, sizeof pool->watch);
    pool->watch.fn = twill__watch_main;
    pool->watch.arg = pool;
    pool->watch.cpu = UINT_MAX;
    twill__thread_name(&pool->watch, pool->name);
    pool->has_watch = true;
    if (twill__thread_start(&pool->watch))
        return true;
    pool->has_watch = false;
    return false;
}

#endif
