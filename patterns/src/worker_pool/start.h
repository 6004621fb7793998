/* start.h: the pool's threads come: as many as there is work for. */
#ifndef TWILL__WORKER_POOL_START_H
#define TWILL__WORKER_POOL_START_H

#include "worker_pool/asked.h"

#ifndef TWILL__GROW_AFTER /* the explorer wants less */
#define TWILL__GROW_AFTER TWILL_MS(10)
#endif
#define TWILL__MAX_NUMBERS 65536u

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
    /* seq_cst: the last one to leave then looks for seats (twill__pool_bare), and who takes one
       then looks here (twill__crew_open): one of both sees the other */
    atomic_store_explicit(&pool->team.threads, pool->live, memory_order_seq_cst);
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

/* Whether a call or an object has a seat, or is about to open it. */
static inline bool twill__pool_in_use(const twill__pool *pool)
{
    for (unsigned i = 0; i < TWILL__SEATS; i++)
        if (atomic_load_explicit(&pool->team.seat[i].word, memory_order_seq_cst) &
            TWILL__SEAT_OWNED)
            return true;
    return false;
}

/* Under the lock: there is none, and there should be: for tasks, or for an object that was given
   the pool when it had some. */
static inline bool twill__pool_bare(const twill__pool *pool)
{
    return pool->live == pool->going && !pool->ending && !pool->leaving &&
           (twill__todos_length(&pool->todos) || pool->later || pool->senders.first ||
            twill__pool_in_use(pool));
}

/* Under the lock, by who waits for a worker, or was the last one: if the pool is bare, tries to
   start one; paused, not for tasks. When to look again; 0: it is not. */
static inline twill_ns twill__pool_revives(twill__pool *pool)
{
    if (!twill__pool_bare(pool) ||
        ((!pool->paused || twill__pool_in_use(pool)) && twill__worker_retry(pool)))
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
    if (atomic_load_explicit(&pool->on_way, memory_order_seq_cst))
        return false;
    /* one that spins hears of it for a store; one that sleeps is not called while another is about
       to look. relaxed: a guess */
    if (atomic_load_explicit(&pool->looking, memory_order_seq_cst) &&
        idle <= atomic_load_explicit(&pool->team.parked, memory_order_relaxed))
        return false;
    /* somebody is at work on quick ones, and another one looks soon whether that has changed */
    if (atomic_load_explicit(&pool->napping, memory_order_seq_cst) && idle < live &&
        twill__pool_is_quick(pool))
        return false;
    /* and then the call, which moves the epoch on */
    atomic_store_explicit(&pool->on_way, true, memory_order_seq_cst);
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
    if (pool->has_watch && pool->live < pool->most && !pool->cpu_at)
        turn->watch = true; /* else it is at it */
}

#endif
