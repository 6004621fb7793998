/* roles.h: what the workers of the call do: consume, produce, help. */
#ifndef TWILL__PC_ROLES_H
#define TWILL__PC_ROLES_H

#include "producer_consumer/endings.h"

/* ---- items ---- */

static inline void twill__pc_spared(twill_queue *queue)
{
    twill__queue_turn turn;
    twill__queue_enter(queue, &turn);
    queue->gone++;
    twill__queue_exit(queue, &turn);
}

/* A popped item that nobody will consume: in the books it was cleared. */
static inline void twill__pc_spare(twill__pc *pc, twill__pc_worker *worker, void *item,
                                   uint64_t number)
{
    twill__queue_turn turn;
    twill_queue *queue = pc->queue;
    twill__queue_enter(queue, &turn);
    queue->counts.cleared++;
    queue->gone += !queue->drop;
    twill__queue_exit(queue, &turn);
    if (queue->drop) {
        twill_task task = twill__queue_task(queue, (size_t)number);
        worker->sparing = true;
        queue->drop(item, TWILL_CANCELLED, &task);
        worker->sparing = false;
        if (twill__queue_here(queue))
            twill__pc_spared(queue);
    }
}

static inline void twill__pc_item(twill__pc *pc, twill_task *task, void *item, uint64_t number)
{
    twill__job *job = pc->job;
    twill__slot *me = &job->slot[task->worker];
    twill__pc_worker *worker = &pc->workers[task->worker];
    size_t index = twill__pc_index(number, SIZE_MAX - 2);
    bool stopped;
    int code;
    twill__set_begin(me, index);
    stopped = twill__stopped(job, job->may_end ? twill__clock_now() : 0);
    if (stopped) /* or producers could go on, and each item be spared, for ever */
        twill__pc_end(pc);
    /* seq_cst: see twill__set_begin */
    if (stopped || index >= atomic_load_explicit(&job->limit, memory_order_seq_cst)) {
        twill__pc_spare(pc, worker, item, number);
        return;
    }
    task->index = index;
    me->used = true;
    me->said = 0;
    me->inside = true;
    worker->holding = true;
    code = pc->consume(item, task);
    me->inside = false;
    if (!twill__queue_here(pc->queue)) /* forked: in the child nothing more is run, nor touched */
        return;
    twill__item_end(job, me, index, code);
    if (code && pc->options->dead_letter)
        pc->options->dead_letter(item, code, task);
    me->said = 0;
    if (!twill__queue_here(pc->queue))
        return;
    twill__pc_done(worker);
    if (twill__pc_over(pc))
        twill__pc_end(pc);
}

static inline twill_status twill__pc_take(twill__pc *pc, twill__pc_worker *worker, size_t most,
                                          bool wait)
{
    twill__waiter *pop = &worker->pop;
    twill_status status;
    worker->at = worker->count = 0;
    if (pc->queue->ring.cells) {
        worker->count =
            twill__quick_take(pc->queue, worker->items, worker->numbers, most, pc->run.until, wait);
        if (worker->count)
            return TWILL_OK;
    }
    *pop = (twill__waiter){.to = worker->items, .numbers = worker->numbers, .n = most};
    worker->taking = true;
    status = twill__get(pc->queue, pop, pc->run.until, wait);
    worker->taking = false;
    worker->count = pop->done;
    return status;
}

/* A callback has ended the thread: what it had in hand has ended, too. */
static inline void twill__pc_let_go(twill__pc *pc, twill__pc_worker *worker)
{
    if (worker->holding)
        twill__pc_done(worker);
    if (worker->sparing)
        twill__pc_spared(pc->queue);
    if (worker->taking) /* it was one of the queue's, before the thread had what it took */
        worker->count = worker->pop.done;
    while (worker->at < worker->count) {
        size_t k = worker->at++;
        twill__pc_spare(pc, worker, worker->items + k * pc->queue->store.size, worker->numbers[k]);
    }
}

static inline void twill__pc_batch(twill__pc *pc, twill__pc_worker *worker, twill_task *task)
{
    while (worker->at < worker->count && twill__queue_here(pc->queue)) {
        size_t k = worker->at++;
        twill__pc_item(pc, task, worker->items + k * pc->queue->store.size, worker->numbers[k]);
    }
}

/* ---- consumers ---- */

/* A callback has ended the thread. The engine counts its item as LOST. */
static inline void twill__pc_consumer_ended(void *worker_)
{
    twill__pc_worker *worker = (twill__pc_worker *)worker_;
    twill__job *job = (twill__job *)worker->task->private_;
    twill__pc *pc = (twill__pc *)job->data;
    twill__queue_turn turn;
    if (worker->taking)
        twill__pc_role_failed(pc, TWILL_LOST, 0);
    if (job->policy != TWILL_ON_ERROR_COLLECT || worker->task->worker == 0)
        twill__pc_end(pc);
    twill__pc_let_go(pc, worker);
    worker->task = NULL;
    twill__queue_enter(pc->queue, &turn); /* for those who join: see twill__pc_done */
    twill__queue_exit(pc->queue, &turn);
    twill__pc_left(pc, 1);
    /* those who were to consume if nobody does may have looked while this thread did, and rest */
    twill__pc_gone(pc, atomic_exchange_explicit(&pc->promised, 0, memory_order_seq_cst));
}

/* noinline: as twill__queue_call_drop */
static __attribute__((noinline)) void twill__pc_consume_all(twill__pc *pc, twill__pc_worker *worker,
                                                            twill_task *task)
{
    while (twill__queue_here(pc->queue) && twill__pc_take(pc, worker, pc->batch, true) == TWILL_OK)
        twill__pc_batch(pc, worker, task);
}

/* Until the queue has ended, or run.until: the loop around this role then finds the call over, and
   says so by twill__pc_missed. */
static inline void twill__pc_consume(twill__pc *pc, twill__pc_worker *worker, twill_task *task)
{
    twill__slot *me = &pc->job->slot[task->worker];
    TWILL__GUARD_PUSH(twill__pc_consumer_ended, worker);
    me->inside = false; /* of no item; what is dropped meanwhile is none of this worker's */
    twill__pc_consume_all(pc, worker, task);
    TWILL__GUARD_POP(0);
    if (twill__queue_here(pc->queue))
        twill__pc_left(pc, 1);
}

/* A place among the consumers. If there is none because a producer has one for the moment, `wait`
   waits for that: else the place would stay empty when the producer goes. */
static inline bool twill__pc_may_consume(twill__pc *pc, bool wait)
{
    bool taken = false;
    atomic_fetch_add_explicit(&pc->waiting, 1, memory_order_seq_cst);
    for (;;) { /* exit: taken, or none; a producer in relief ends with its item */
        uint32_t now = atomic_load_explicit(&pc->consuming, memory_order_seq_cst);
        if ((now & ~TWILL__PC_RELIEF) < pc->consumers)
            taken = atomic_compare_exchange_weak_explicit(
                &pc->consuming, &now, now + 1, memory_order_seq_cst, memory_order_seq_cst);
        else if (wait && (now & TWILL__PC_RELIEF))
            twill__park(&pc->consuming, now, 0);
        else
            break;
        if (taken)
            break;
    }
    atomic_fetch_sub_explicit(&pc->waiting, 1, memory_order_seq_cst);
    if (taken)
        atomic_fetch_add_explicit(&pc->others, 1, memory_order_seq_cst);
    return taken;
}

/* A producer has consumed its item. With CALLER_RUNS that is no consumer's place. */
static inline void twill__pc_relieved(twill__pc *pc)
{
    if (pc->caller_runs)
        twill__pc_gone(pc, 1);
    else
        twill__pc_left(pc, 1 | TWILL__PC_RELIEF);
}

/* The item in the hand of who pushes it, when nobody else brings one: it comes in, and out
   again. */
static inline bool twill__pc_own(twill__pc *pc, twill__pc_worker *worker, twill__waiter *push)
{
    twill__waiter pop;
    twill__queue_turn turn;
    bool taken;
    memset(&pop, 0, sizeof pop);
    pop.to = worker->items;
    pop.numbers = worker->numbers;
    twill__queue_enter(pc->queue, &turn);
    taken = push && !pc->queue->store.capacity && !twill__queue_closed(pc->queue);
    if (taken)
        twill__queue_hand_over(pc->queue, push, &pop);
    twill__queue_exit(pc->queue, &turn);
    worker->count = taken;
    return taken;
}

/* A push has found the queue full, or a producer joins (push: NULL): with nobody to consume, the
   producer consumes one item. */
static inline int twill__pc_relief(void *pc_, twill__waiter *push)
{
    twill__pc *pc = (twill__pc *)pc_;
    uint64_t thread = twill__thread_number();
    for (unsigned k = 0; k < pc->job->np; k++) {
        twill__pc_worker *worker = &pc->workers[k];
        twill_task task;
        bool taken;
        uint32_t none = 0;
        /* its own entry is the only one that this thread can take for its own */
        if (atomic_load_explicit(&pc->workers[k].owner, memory_order_relaxed) != thread)
            continue;
        if (!worker->producing || worker->relieving) /* a consumer has its batch in hand */
            return -2;
        if (!pc->caller_runs &&
            (atomic_load_explicit(&pc->others, memory_order_seq_cst) ||
             !atomic_compare_exchange_strong_explicit(&pc->consuming, &none, 1 | TWILL__PC_RELIEF,
                                                      memory_order_seq_cst, memory_order_seq_cst)))
            return 0;
        atomic_fetch_add_explicit(&pc->others, 1, memory_order_seq_cst);
        task = *worker->task;
        worker->relieving = true;
        worker->bulk = push && push->counted ? twill__queue_weight(push) : 0;
        taken = twill__pc_take(pc, worker, 1, false) == TWILL_OK ||
                (twill__queue_here(pc->queue) && twill__pc_own(pc, worker, push));
        if (taken) {
            worker->relieved = twill__pc_index(worker->numbers[0], SIZE_MAX - 2);
            twill__pc_batch(pc, worker, &task);
        }
        if (!twill__queue_here(pc->queue))
            return -1;
        worker->relieving = false;
        if (taken) {
            pc->job->slot[k].inside = false;
            twill__set_begin(&pc->job->slot[k], SIZE_MAX - 1);
        }
        twill__pc_relieved(pc);
        return taken;
    }
    return -1;
}

/* ---- producers ---- */

/* The push of a thread that has ended: other items need not wait behind it any longer. */
static inline void twill__pc_bulk_ended(twill__pc *pc, uint32_t bulk)
{
    twill__queue_turn turn;
    if (!bulk)
        return;
    twill__queue_enter(pc->queue, &turn);
    /* relaxed: as in twill__delist */
    atomic_fetch_sub_explicit(&pc->queue->givers, bulk, memory_order_relaxed);
    twill__queue_exit(pc->queue, &turn);
}

static inline void twill__pc_producer_ended(void *worker_)
{
    twill__pc_worker *worker = (twill__pc_worker *)worker_;
    twill__job *job = (twill__job *)worker->task->private_;
    twill__pc *pc = (twill__pc *)job->data;
    twill__slot *me = &job->slot[worker->task->worker];
    me->inside = false; /* the engine would take the producer's index for an item's */
    twill__pc_let_go(pc, worker);
    if (worker->relieving) {
        twill__pc_bulk_ended(pc, worker->bulk);
        if (!worker->taking)
            twill__item_failed(job, me, worker->relieved, worker->relieved, TWILL_LOST, 0);
        if (job->policy != TWILL_ON_ERROR_COLLECT)
            twill__pc_end(pc);
        twill__pc_relieved(pc);
    }
    twill__pc_role_failed(pc, TWILL_LOST, 0);
    if (worker->task->worker == 0) /* the producers that wait for this thread will not come */
        twill__pc_end(pc);
    worker->task = NULL;
    worker->producing = false;
    twill__pc_detach(pc);
}

/* Runs the next producer; false: all have begun. */
static inline bool twill__pc_produce(twill__pc *pc, twill__pc_worker *worker, twill_task *task)
{
    /* relaxed: a guess for the CAS */
    uint32_t k = atomic_load_explicit(&pc->next_producer, memory_order_relaxed);
    twill__slot *me = &pc->job->slot[task->worker];
    int code;
    do
        if (k >= pc->producers)
            return false;
    while (!atomic_compare_exchange_weak_explicit(&pc->next_producer, &k, k + 1,
                                                  memory_order_seq_cst, memory_order_seq_cst));
    if (!atomic_load_explicit(&pc->ended, memory_order_seq_cst) && !twill__pc_over(pc)) {
        twill__set_begin(me, SIZE_MAX - 1); /* above all items */
        task->index = k;
        worker->producing = true;
        TWILL__GUARD_PUSH(twill__pc_producer_ended, worker);
        code = pc->produce(pc->queue, task);
        TWILL__GUARD_POP(0);
        if (!twill__queue_here(pc->queue))
            return false;
        me->said = 0;
        worker->producing = false;
        if (code && !atomic_load_explicit(&pc->ended, memory_order_seq_cst) &&
            !(code == (int)TWILL_CLOSED && twill_queue_is_closed(pc->queue)))
            twill__pc_role_failed(pc, TWILL_FAILED, code);
    }
    if (twill__pc_over(pc))
        twill__pc_end(pc);
    twill__pc_detach(pc);
    return true;
}

/* ---- roles ---- */

static inline void twill__pc_body(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    twill__pc *pc = (twill__pc *)job->data;
    twill__pc_worker *worker = &pc->workers[task->worker];
    bool caller = task->worker == 0;
    (void)begin;
    (void)end;
    job->slot[task->worker].from = SIZE_MAX;
    worker->task = task;
    /* read by this thread alone; other numbers differ */
    atomic_store_explicit(&worker->owner, twill__thread_number(), memory_order_relaxed);
    if (!caller && twill__pc_may_consume(pc, false)) /* in a forked child it consumes nothing */
        twill__pc_consume(pc, worker, task);
    while (twill__queue_here(pc->queue) && twill__pc_produce(pc, worker, task)) {}
    /* in vain only beside consumers, who drain */
    if (twill__queue_here(pc->queue) && twill__pc_may_consume(pc, true))
        twill__pc_consume(pc, worker, task);
    worker->task = NULL;
    atomic_store_explicit(&worker->owner, 0, memory_order_relaxed);
}

static inline void twill__pc_steps(twill__job *job, void *data)
{
    twill__pc *pc = (twill__pc *)data;
    twill__pass pass;
    twill_status cut;
    memset(&pass, 0, sizeof pass);
    pass.n = (size_t)pc->producers + pc->consumers;
    pass.body = twill__pc_body;
    pass.data = pc;
    pass.schedule = TWILL__DYNAMIC;
    pass.chunk = 1;
    pass.whole = pass.forced = true;
    pc->job = job;
    pc->table = *twill__job_table();
    pc->table.stop = twill__pc_stop;
    job->call.table = &pc->table;
    job->missed = twill__pc_missed;
    /* nobody else is here yet */
    atomic_init(&pc->numbers, job->np - 1);
    if (((twill__call_record *)(void *)job)->has_own) {
        atomic_init(&pc->promised, twill__team_threads(job->team));
        atomic_init(&pc->others, twill__team_threads(job->team));
    }
    twill__run_pass(job, &pass);
    cut = (twill_status)atomic_load_explicit(&job->stop, memory_order_relaxed); /* all have left */
    if (cut != TWILL_FAILED)
        pc->cut = cut;
}

#endif
