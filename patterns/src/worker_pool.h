/* twill_worker_pool.h - threads that outlive one call. SPDX-License-Identifier: MIT OR Unlicense

   Compile: cc -std=c11 -pthread. One .c file says `#define TWILL_IMPLEMENTATION` before it includes
   twill headers.

   WHAT IT IS FOR
   A program that runs many short parallel calls: starting and joining a thread costs about 30 us,
   calling a thread of a pool that is still warm a fraction of one. Every pattern takes a pool by
   `run.pool`. In this version a pool serves the parallel calls (twill_parallel_map and its kin,
   twill_map_with_progress); submitting single tasks to it follows.

   WHEN NOT
   One parallel call now and then: it starts its own threads when the work is worth them. Nested
   calls: they use the threads of the call around them by themselves.

   EXAMPLE:
   #define TWILL_IMPLEMENTATION
   #include "twill_worker_pool.h"
   #include <stdio.h>

   int main(void)
   {
       twill_pool *pool;
       twill_status status = twill_pool_create(&pool,
           &(twill_pool_options){ .run.workers = 2, .run.name = "crunch" });
       if (status != TWILL_OK) {
           puts(twill_status_text(status));
           return 1;
       }
       printf("%u threads\n", twill_pool_workers(pool));
       // each call with `.run.pool = pool` in its options runs on them, e.g. twill_parallel_map
       return twill_pool_destroy(pool) != TWILL_OK;
   }
   END OF EXAMPLE
   OUTPUT:
   2 threads
   END OF OUTPUT

   OPTIONS (twill_pool_options; NULL or zeroed: defaults)
     run.workers      threads; 0 = the CPUs this process may use
     run.strict       a thread that cannot be started: TWILL_NO_THREAD (else the pool runs on those
                      it has)
     run.stack_size, run.name, run.cpus, run.cpu_count   of the threads
     every other field of run must be zero: TWILL_INVALID

   ERRORS       create: INVALID, TOO_BIG (more than 65536 workers), NO_MEMORY, NO_THREAD.
                destroy: DEADLOCK. A call on a pool: CLOSED once its destroy has begun, FORKED.
   THREADS      All functions may be called by any thread; many calls may use a pool at once, up to
                16 of them with helpers: further ones run alone.
   BLOCKS       destroy waits for the calls that were given the pool.
   ALLOCATES    create: one block. Nothing later.
   OWNERSHIP    The creator destroys. A pool must outlive every call that is given it.
   IDLE         Threads look for work for 50 us after the last one (one CPU is left to others), then
                sleep: no CPU time.
   FORK         In the child the pool answers TWILL_FORKED; destroy there frees the memory and joins
                nobody.
   PITFALLS     `workers` of a call on a pool counts the caller: a pool of 4 and its caller run up
                to 5 at once when asked for 5, and 4 by default. */
#include "base/base.h"
#include "base/future.h"

#ifndef TWILL_WORKER_POOL_H
#define TWILL_WORKER_POOL_H

#ifdef __cplusplus
extern "C" {
#endif

typedef struct twill_pool_options {
    twill_run run;
} twill_pool_options;

/* Starts the threads. TWILL_OK: *out is the pool. Else *out is NULL: INVALID, NO_MEMORY, NO_THREAD
   (none could be started, or, with run.strict, not all). */
TWILL__DECL twill_status twill_pool_create(twill_pool **out, const twill_pool_options *options);

/* Waits for the calls that run on the pool, ends the threads, frees. NULL: TWILL_OK. From one of
   its own threads, or from a callback of a call on it: TWILL_DEADLOCK, and nothing changed. */
TWILL__DECL twill_status twill_pool_destroy(twill_pool *pool);

/* How many threads it has. */
TWILL__DECL unsigned twill_pool_workers(const twill_pool *pool);

#ifdef __cplusplus
}
#endif
#endif

#ifdef TWILL_IMPLEMENTATION
#ifndef TWILL__WORKER_POOL_IMPL
#define TWILL__WORKER_POOL_IMPL

#include "engine/future.h"
#include "engine/team.h"

typedef struct twill__pool {
    twill_pool head; /* first: what others know of it */
    void *memory;    /* as allocated, not aligned */
    twill__team team;
} twill__pool;

static inline bool twill__pool_run_valid(const twill_run *run)
{
    return !run->pool && !run->until.deadline && !run->until.cancel && !run->context &&
           !run->worker_start && !run->worker_stop && !run->on_error && !run->max_errors &&
           !run->errors && !run->errors_capacity && !run->statuses && !run->codes && !run->report &&
           !run->cpus == !run->cpu_count;
}

TWILL__DEFINE twill_status twill_pool_create(twill_pool **out, const twill_pool_options *options)
{
    static const twill_run none;
    const twill_run *run = options ? &options->run : &none;
    unsigned workers = run->workers ? run->workers : twill__cpus_now();
    char *memory;
    twill__pool *pool;
    if (!out)
        return TWILL_INVALID;
    *out = NULL;
    if (!twill__pool_run_valid(run))
        return TWILL_INVALID;
    if (workers > 65536)
        return TWILL_TOO_BIG;
    memory = (char *)TWILL_MALLOC(sizeof *pool + workers * sizeof(twill__helper) + TWILL__LINE);
    if (!memory)
        return TWILL_NO_MEMORY;
    pool = (twill__pool *)(void *)(memory +
                                   (TWILL__LINE - (uintptr_t)memory % TWILL__LINE) % TWILL__LINE);
    pool->head.layout = TWILL__POOL_LAYOUT;
    pool->head.team = &pool->team;
    pool->memory = memory;
    twill__team_init(&pool->team, (twill__helper *)(void *)(pool + 1));
    if (!twill__team_grow(&pool->team, workers, run) && (run->strict || pool->team.threads == 0)) {
        (void)twill__team_close(&pool->team);
        TWILL_FREE(memory);
        return TWILL_NO_THREAD;
    }
    *out = &pool->head;
    return TWILL_OK;
}

TWILL__DEFINE twill_status twill_pool_destroy(twill_pool *pool)
{
    twill__self *self = twill__thread();
    twill__team *team;
    if (!pool)
        return TWILL_OK;
    team = pool->team;
    if (twill__team_here(team)) {
        if (self->team == team)
            return TWILL_DEADLOCK;
        for (const twill__job *job = self->job; job; job = job->outer)
            if (job->team == team)
                return TWILL_DEADLOCK;
    }
    (void)twill__team_close(team);
    TWILL_FREE(((twill__pool *)(void *)pool)->memory);
    return TWILL_OK;
}

TWILL__DEFINE unsigned twill_pool_workers(const twill_pool *pool)
{
    return pool ? pool->team->threads : 0;
}

#endif
#endif
