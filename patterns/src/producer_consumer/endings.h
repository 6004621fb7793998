/* endings.h: the record of one call of producers and consumers, and what ends it. */
#ifndef TWILL__PC_ENDINGS_H
#define TWILL__PC_ENDINGS_H

#include "producer_consumer/calls.h"
#include "engine/run.h"

/* Producers and consumers are the workers of one call of the team (engine/run.h). Its unit is a
   role; an item is accounted for in the worker's slot under its accept number, so that limits,
   tokens and errors follow that number. */

typedef struct twill__pc_worker {
    _Atomic uint64_t owner; /* number of the thread that runs this worker's body, 0: none */
    twill_task *task;       /* of the body that runs; NULL: none */
    char *items;            /* batch of them */
    uint64_t *numbers;
    size_t at, count; /* in the batch */
    bool producing, relieving, taking;
    bool holding, sparing; /* an item: to consume it, to drop it */
    twill__waiter pop;     /* what it has taken so far, while it is taking */
    size_t relieved;       /* number of the item that a producer consumes */
    uint32_t bulk; /* what its push counts for meanwhile among those that stand before others */
    _Atomic uint64_t done; /* items that it has consumed; its own thread alone writes */
} twill__pc_worker;

typedef struct twill__pc {
    const twill_produce_consume_options *options;
    twill_produce_fn *produce;
    twill_consume_fn *consume;
    twill_run run;
    twill_report inner;
    twill_queue *queue;
    twill__job *job;
    twill__call_table table;
    twill__pc_worker *workers;
    void *memory;
    unsigned producers, consumers;
    size_t batch;
    bool caller_runs;
    twill_status status;
    _Atomic uint32_t next_producer;
    _Atomic uint32_t consuming; /* how many; TWILL__PC_RELIEF: one is a producer, for one item */
    _Atomic uint32_t waiting;   /* for a place among them */
    /* who consumes, and threads of the call's own that are `promised`: they will, if nobody does.
       0: a producer that finds the queue full has to consume */
    _Atomic uint32_t others;
    _Atomic uint32_t promised;
    _Atomic uint32_t numbers; /* of helpers, not lost yet */
    /* by an error, a stop or run.until: what producers return is moot. TWILL__PC_EARLY: some of
       them might have pushed more */
    _Atomic uint32_t ended;
    _Atomic uint32_t failed; /* a producer has: twill_status; who sets it writes the code */
    int code;
    twill_status cut; /* CANCELLED, TIMEOUT: run.until ended it */
} twill__pc;

#define TWILL__PC_RELIEF 0x80000000u
enum { TWILL__PC_EARLY = 2 };

/* A number as an index, `most` at most: those above are a producer's, and none. Where size_t has 32
   bits they end some day: then all that follow stand in one place, and only which of their errors
   is the lowest is not known. */
static inline size_t twill__pc_index(uint64_t number, size_t most)
{
    return number < most ? (size_t)number : most;
}

/* ---- endings ---- */

/* Early, unless nobody would have pushed any more: then only what is left can be lost by it. */
static inline void twill__pc_end(twill__pc *pc)
{
    atomic_fetch_or_explicit(&pc->ended, twill_queue_is_closed(pc->queue) ? 1 : 1 | TWILL__PC_EARLY,
                             memory_order_seq_cst);
    (void)twill__queue_close(pc->queue, TWILL_CLOSED, 0);
}

/* Nothing is accepted any more; what was, may run, and everybody above is told. */
static inline void twill__pc_end_here(twill__pc *pc, bool stop)
{
    twill__queue_turn turn;
    size_t next;
    twill__pc_end(pc);
    twill__queue_enter(pc->queue, &turn);
    next = twill__pc_index(twill__queue_accepted(pc->queue), SIZE_MAX - 1);
    twill__queue_exit(pc->queue, &turn);
    if (stop)
        twill__lower(&pc->job->stop_at, next);
    twill__lower(&pc->job->limit, next);
    twill__fire_from(pc->job, next);
}

/* A producer has, or a consumer that had no item in hand. */
static inline void twill__pc_role_failed(twill__pc *pc, twill_status status, int code)
{
    twill__job *job = pc->job;
    uint32_t none = 0;
    size_t before, most = job->run->max_errors ? job->run->max_errors : 1;
    if (atomic_compare_exchange_strong_explicit(&pc->failed, &none, (uint32_t)status,
                                                memory_order_seq_cst, memory_order_seq_cst))
        pc->code = code; /* read after the join */
    if (job->policy == TWILL_ON_ERROR_COLLECT)
        return;
    if (job->policy == TWILL_ON_ERROR_LOWEST) {
        twill__pc_end_here(pc, false);
        return;
    }
    before = atomic_fetch_add_explicit(&job->failures, 1, memory_order_seq_cst);
    if (before == 0)
        job->earliest = (twill_item_error){SIZE_MAX, status, code};
    if (before + 1 >= (job->policy == TWILL_ON_ERROR_FIRST ? 1 : most)) {
        twill__stop_all(job, TWILL_FAILED, true);
        twill__pc_end(pc);
    }
}

static inline void twill__pc_stop(const twill_task *task)
{
    twill__job *job = (twill__job *)task->private_;
    twill__pc *pc = (twill__pc *)job->data;
    TWILL_ASSERT(task->worker < job->np); /* see twill__task_init */
    if (pc->workers[task->worker].producing && !pc->workers[task->worker].relieving)
        twill__pc_end_here(pc, true);
    else if (task->index != SIZE_MAX)
        twill__job_stop_at(task, task->index);
}

static inline bool twill__pc_over(twill__pc *pc)
{
    return twill__stopped(pc->job, pc->job->may_end ? twill__clock_now() : 0) ||
           atomic_load_explicit(&pc->job->limit, memory_order_seq_cst) != SIZE_MAX;
}

static inline void twill__pc_retry(twill_queue *queue, twill__queue_turn *turn,
                                   const twill__queue_list *list)
{
    for (twill__waiter *waiter = list->first; waiter; waiter = waiter->next)
        if (twill__own(waiter))
            twill__queue_retry(queue, turn, waiter);
}

/* So many of the others are gone. Whoever was blocked because of them looks again. */
static inline void twill__pc_gone(twill__pc *pc, uint32_t count)
{
    twill__queue_turn turn;
    if (!count || atomic_fetch_sub_explicit(&pc->others, count, memory_order_seq_cst) != count)
        return;
    twill__queue_enter(pc->queue, &turn);
    twill__pc_retry(pc->queue, &turn, &pc->queue->pushers);
    twill__pc_retry(pc->queue, &turn, &pc->queue->joiners);
    twill__queue_exit(pc->queue, &turn);
}

/* The item in the worker's hand has ended. Who joins is told by the next turn under the queue's
   lock, which every consumer takes before he sleeps or leaves, and every producer after relief. */
static inline void twill__pc_done(twill__pc_worker *worker)
{
    /* relaxed: only this thread writes it */
    uint64_t done = atomic_load_explicit(&worker->done, memory_order_relaxed);
    worker->holding = false;
    /* release: pairs with the load in twill__pc_consumed */
    atomic_store_explicit(&worker->done, done + 1, memory_order_release);
}

static inline uint64_t twill__pc_consumed(const void *pc_)
{
    const twill__pc *pc = (const twill__pc *)pc_;
    uint64_t sum = 0;
    for (unsigned k = 0; k < pc->run.workers; k++)
        /* acquire: pairs with the store in twill__pc_done */
        sum += atomic_load_explicit(&pc->workers[k].done, memory_order_acquire);
    return sum;
}

/* A producer of the call has returned, or never will. */
static inline void twill__pc_detach(twill__pc *pc)
{
    twill__queue_turn turn;
    twill__queue_enter(pc->queue, &turn);
    pc->queue->held--;
    if (--pc->queue->producers == 0)
        twill__queue_end(pc->queue, TWILL_CLOSED, 0);
    twill__queue_exit(pc->queue, &turn);
}

/* A helper consumes nothing: perhaps nobody else would notice that the call is over, or that no
   helper is left. */
static inline void twill__pc_missed(twill__job *job, twill__missed why)
{
    twill__pc *pc = (twill__pc *)job->data;
    /* relaxed: a guess for the CAS */
    uint32_t promised = atomic_load_explicit(&pc->promised, memory_order_relaxed);
    if (why == TWILL__MISSED_OVER) { /* nor will those that are still to come: who joins does */
        twill__pc_end(pc);
        promised = atomic_exchange_explicit(&pc->promised, 0, memory_order_seq_cst);
        twill__pc_gone(pc, promised);
        return;
    }
    if (why == TWILL__MISSED_ENDED) {
        while (promised &&
               !atomic_compare_exchange_weak_explicit(&pc->promised, &promised, promised - 1,
                                                      memory_order_seq_cst, memory_order_seq_cst)) {
        }
        twill__pc_gone(pc, promised > 0);
    }
    if (atomic_fetch_sub_explicit(&pc->numbers, 1, memory_order_seq_cst) == 1)
        twill__pc_gone(pc, atomic_exchange_explicit(&pc->promised, 0, memory_order_seq_cst));
}

/* A place among the consumers is free: 1, or 1 with TWILL__PC_RELIEF. seq_cst on both sides: who
   waits for it counts himself before he looks. */
static inline void twill__pc_left(twill__pc *pc, uint32_t place)
{
    atomic_fetch_sub_explicit(&pc->consuming, place, memory_order_seq_cst);
    if (atomic_load_explicit(&pc->waiting, memory_order_seq_cst))
        twill__wake(&pc->consuming, INT_MAX);
    twill__pc_gone(pc, 1);
}

#endif
