/* submit.h: tasks on their way in. */
#ifndef TWILL__WORKER_POOL_SUBMIT_H
#define TWILL__WORKER_POOL_SUBMIT_H

#include "worker_pool/workers.h"

typedef struct twill__order { /* one submission */
    twill__pool *pool;
    twill__hand *runner; /* of this thread; NULL: it is none of the pool's */
    const twill_submit_options *options;
    twill__todo todo; /* as it goes into the queue, if it is plain */
    twill_future *future;
    twill__errand *work;       /* NULL: plain */
    bool plain, simple, waits; /* simple: the future alone is told of its end */
    const twill_until *until;
} twill__order;

/* No option but result, key and context. */
static inline bool twill__is_simple(const twill_submit_options *options)
{
    return !options->priority && !options->start_at && !options->start_by && !options->timeout &&
           !options->cancel && !options->on_done && !options->drop && !options->discard;
}

/* always_inline, here and below: most of it is known where it is called; 4 % of a plain submit */
static inline __attribute__((always_inline)) twill_status
twill__order_init(twill__order *order, twill_pool *pool, twill_task_fn *fn, twill_future *future,
                  const twill_submit_options *options, bool waits, const twill_until *until)
{
    static const twill_submit_options none;
    order->simple = !options || twill__is_simple(options);
    if (!options)
        options = &none;
    if (!pool || !fn || pool->layout != TWILL__POOL_LAYOUT ||
        (!order->simple &&
         (options->start_at < 0 || options->start_by < 0 || options->timeout < 0)))
        return TWILL_INVALID;
    order->pool = twill__pool_of(pool);
    if (!twill__pool_here(order->pool))
        return TWILL_FORKED;
    order->runner = twill__hand_here(order->pool);
    order->options = options;
    order->todo.fn = fn;
    order->future = future;
    order->work = NULL;
    order->plain = !future && order->simple && !options->result_size && !options->key;
    order->waits = waits;
    order->until = until;
    order->todo.context = options->context;
    if (!order->todo.context && order->runner && order->runner->depth)
        order->todo.context = order->runner->context; /* inherited */
    else if (!order->todo.context)
        order->todo.context = order->pool->options.run.context;
    return TWILL_OK;
}

/* ---- under the lock ---- */

static inline bool twill__order_timed(const twill__order *order)
{
    const twill_submit_options *options = order->options;
    return !order->simple && (options->start_at || options->start_by || options->timeout);
}

static inline void twill__hook_fires(int reason, const twill_task *task)
{
    twill_cancel_fire((twill_cancel *)task->context, reason);
}

/* What stands in lines of its own, which most tasks leave as they are. */
static inline void twill__errand_options(twill__errand *work, const twill_submit_options *options)
{
    work->priority = options->priority;
    work->start_at = options->start_at;
    work->start_by = options->start_by;
    work->timeout = options->timeout == TWILL_FOREVER ? 0 : options->timeout;
    work->on_done = options->on_done;
    work->drop = options->drop;
    work->discard = options->discard;
    work->timed = work->hooked = false;
    if (options->discard)
        twill__record_tells(&work->record);
}

/* Its token, if that is not as it should be. */
static inline void twill__errand_token(twill__pool *pool, twill__errand *work, twill_cancel *cancel)
{
    if (work->record.clean && !cancel)
        return;
    work->record.clean = !cancel;
    atomic_store_explicit(&work->gate, 0, memory_order_relaxed); /* nobody knows it yet */
    twill_cancel_init(&work->token, cancel ? cancel : pool->options.run.until.cancel);
}

/* The record of a task that is not plain. False: no memory. */
static inline bool twill__order_record(twill__order *order)
{
    const twill_submit_options *options = order->options;
    twill__pool *pool = order->pool;
    twill__record *record = twill__record_get(pool->core, options->result_size);
    twill__errand *work = twill__errand_of(record);
    if (!record)
        return false;
    if (!order->simple || !record->simple) /* none of them was set by the one before */
        twill__errand_options(work, options);
    record->simple = order->simple;
    if (work->pool != pool)
        work->pool = pool;
    if (work->below)
        work->below = NULL;
    record->fn = order->todo.fn;
    record->arg = order->todo.arg;
    record->context = order->todo.context;
    record->outcome.key = options->key;
    record->outcome.started = 0;
    twill__errand_token(pool, work, options->cancel);
    order->work = work;
    return true;
}

static inline bool twill__order_memory(twill__order *order)
{
    twill__pool *pool = order->pool;
    size_t promised = pool->later + pool->reserved;
    bool mixed = pool->todos.mixed || order->options->priority;
    /* all this anew when it has its record, and has waited for room: others have come meanwhile */
    if (!twill__todos_room(&pool->todos, mixed, promised) ||
        (twill__order_timed(order) && !twill__timer_space(&pool->todos, pool->timed + 1)))
        return false;
    if (!order->plain && !order->work && !twill__order_record(order))
        return false;
    pool->todos.mixed = mixed; /* only now: else plain ones would ask for that memory, too */
    return true;
}

/* It is accepted: it has a number, and ends in exactly one way. `ticks`: the counter when it came,
   just now; 0: not read. */
static inline __attribute__((always_inline)) void twill__order_number(twill__order *order,
                                                                      uint64_t ticks)
{
    twill__pool *pool = order->pool;
    twill__errand *work = order->work;
    order->todo.index = pool->next_index++;
    /* by one thread at a time */
    atomic_store_explicit(&pool->submitted,
                          atomic_load_explicit(&pool->submitted, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    if (!work)
        return;
    work->record.outcome.index = order->todo.index;
    work->record.outcome.queued =
        !work->record.simple
            ? twill__clock_now()
            : twill__ticker_at(&pool->ticker, ticks ? ticks : twill__ticker_read());
    if (order->future)
        *order->future = twill__record_hold(&work->record);
    if (twill__order_timed(order)) {
        work->timed = true;
        pool->timed++;
        twill__todos_hold(&pool->todos);
    }
}

/* What goes into the queue; `entry`: room for it. */
static inline const twill__todo *twill__order_todo(twill__order *order, twill__todo *entry,
                                                   uint64_t ticks)
{
    twill__todo *todo = &order->todo;
    if (order->work) {
        todo = entry;
        todo->fn = NULL;
        todo->arg = &order->work->entry;
        todo->context = NULL;
        todo->index = order->todo.index;
    }
    todo->stamp = !twill__pool_measures(order->pool, todo->index) ? 0
                  : ticks                                         ? ticks
                                                                  : twill__ticks();
    return todo;
}

static inline void twill__order_push(twill__order *order, twill__turn *turn)
{
    twill__pool *pool = order->pool;
    twill__errand *work = order->work;
    if (!work) {
        twill__todos_push(&pool->todos, twill__order_todo(order, NULL, 0), 0, 0,
                          pool->team.tick_rate);
    } else if (work->start_at > work->record.outcome.queued) {
        bool ends = work->start_by && work->start_by < work->start_at; /* before it may begin */
        work->record.where = TWILL__LATER;
        pool->later++;
        twill__errand_timer(pool, turn, work, ends ? work->start_by : work->start_at);
        if (!pool->live && !twill__worker_start(pool)) /* somebody must see the time */
            twill__pool_changed(pool, turn);
    } else {
        twill__errand_push(pool, turn, work);
    }
    twill__pool_level(pool, turn);
    if (!work || work->record.where == TWILL__READY)
        twill__pool_wants(pool, turn);
}

/* With events or a second token: what must be done without the lock before anybody can take the
   task. The room that it needs (0: none) is kept. */
static inline void twill__order_announce(twill__order *order, twill__turn *turn, size_t room)
{
    twill__pool *pool = order->pool;
    twill__errand *work = order->work;
    bool hooks = work && order->options->cancel && pool->options.run.until.cancel;
    if (!pool->options.on_event && !hooks)
        return;
    pool->reserved += room;
    if (work) /* relaxed: nobody knows it yet */
        atomic_store_explicit(&work->stage, TWILL__UNTOLD, memory_order_relaxed);
    twill__turn_end(pool, turn);
    twill__duty_begin(pool, work ? &work->record : NULL, TWILL__END_TASK);
    twill__turn_settle(pool, turn);
    if (hooks) {
        work->hook.fn = twill__hook_fires;
        work->hook.context = &work->token;
        work->hooked = true;
        twill_cancel_add_hook(pool->options.run.until.cancel, &work->hook);
    }
    if (pool->options.on_event) {
        twill_task task = twill__task_about(pool, order->todo.index, order->todo.context);
        twill__event(pool, TWILL_EVENT_QUEUED, TWILL_OK, order->todo.index,
                     work ? work->record.outcome.key : NULL, UINT_MAX, &task);
    }
    twill__duty_over();
    twill__turn_begin(pool, turn);
    pool->reserved -= room;
}

/* ---- what a full queue does ---- */

static inline twill_status twill__order_refuse(twill__order *order, twill__turn *turn,
                                               twill_status why)
{
    twill__pool *pool = order->pool;
    bool told = pool->options.on_event != NULL;
    if (order->future)
        *order->future = (twill_future){NULL, 0};
    if (order->work)
        twill__record_put(&order->work->record);
    pool->refused++;
    pool->visitors += told; /* else the pool may be gone after the turn */
    twill__turn_end(pool, turn);
    twill__turn_settle(pool, turn);
    if (told) {
        twill_task task = twill__task_about(pool, SIZE_MAX, order->todo.context);
        twill__duty_begin(pool, NULL, TWILL__LEAVE);
        twill__event(pool, TWILL_EVENT_REFUSED, why, SIZE_MAX, order->options->key, UINT_MAX,
                     &task);
        twill__duty_over();
        twill__turn_begin(pool, turn);
        twill__pool_left(pool, turn);
        twill__turn_end(pool, turn);
    }
    return why;
}

/* A plain task that will run on this thread as `runner`, at once: no lock, but for numbers. */
static inline void twill__order_inlined(twill__order *order, twill__hand *runner)
{
    twill__pool *pool = order->pool;
    if (runner->number == runner->numbers_end) {
        twill__turn turn;
        twill__turn_begin(pool, &turn);
        twill__todos_shut(&pool->todos);
        runner->number = pool->next_index;
        runner->numbers_end = pool->next_index += 64;
        if (runner->outside)
            runner->workers = twill__pool_told(pool);
        twill__turn_end(pool, &turn);
    }
    order->todo.index = runner->number++;
    order->todo.stamp = 0;
    twill__count(pool, runner, TWILL__N_CALLER_RAN);
    twill__count(pool, runner, TWILL__N_INLINED);
}

/* A plain task of a task, while the queue is full. */
static inline void twill__order_inline(twill__order *order)
{
    twill__order_inlined(order, order->runner);
    (void)twill__run_plain(order->pool, order->runner, &order->todo, true);
}

#define TWILL__RUNS_ON      7 /* tasks; as many as that even where a few wait at most */
#define TWILL__RUNS_ON_MOST 127

/* How many tasks run on the submitting thread without a look for room between. A queue that is
   nearly full all the time is the worst there is: each look, and each task that just fits, takes
   lines from the workers, who then go at half their speed. Meanwhile they take a quarter of what
   waits, at most. */
static inline uint32_t twill__order_run_length(const twill__pool *pool)
{
    size_t quarter = pool->capacity / (4 * (size_t)twill__pool_told(pool));
    return quarter < TWILL__RUNS_ON        ? TWILL__RUNS_ON
           : quarter < TWILL__RUNS_ON_MOST ? (uint32_t)quarter
                                           : TWILL__RUNS_ON_MOST;
}

/* This thread's, if it is one from outside whose plain tasks it runs itself while the queue is
   full; else NULL, as for those with events: see twill__order_is_inline. */
static inline twill__stand_in *twill__order_stand_in(const twill__order *order)
{
    if (order->pool->options.overflow != TWILL_OVERFLOW_CALLER_RUNS || !order->plain ||
        order->runner || !order->waits || order->pool->options.on_event)
        return NULL;
    return twill__stand_in_here(order->pool);
}

/* It runs as a plain task of this thread. False: somebody else is the stand-in just now, or the
   pool is closed. `more`: so many may follow without a look. */
static inline bool twill__order_stands_in(twill__order *order, twill__stand_in *stand_in,
                                          uint32_t more)
{
    if (!twill__stand_in_begins(stand_in))
        return false;
    /* relaxed: a guess */
    atomic_store_explicit(&stand_in->runs_on, more, memory_order_relaxed);
    twill__order_inlined(order, &stand_in->runner);
    twill__stand_in_runs(order->pool, &stand_in->runner, NULL, &order->todo);
    return true;
}

/* There was no room a moment ago, tasks are quick, and workers at it: not each of them looks again,
   since a look takes the workers' line from them. */
static inline bool twill__order_runs_on(twill__order *order, twill__stand_in *stand_in)
{
    twill__pool *pool = order->pool;
    /* relaxed, here and below: guesses */
    uint32_t more = atomic_load_explicit(&stand_in->runs_on, memory_order_relaxed);
    if (!more || !twill__pool_is_quick(pool) ||
        atomic_load_explicit(&pool->team.idle, memory_order_relaxed) >=
            twill__team_threads(&pool->team))
        return false;
    return twill__order_stands_in(order, stand_in, more - 1);
}

/* It has a number, and will not run. */
static inline void twill__order_drop(twill__order *order, twill__turn *turn, twill_status why)
{
    twill__pool *pool = order->pool;
    twill__todo entry;
    pool->visitors++;
    if (order->work)
        twill__errand_untimed(pool, order->work);
    twill__turn_end(pool, turn);
    twill__turn_settle_first(pool, turn, order->work);
    twill__todo_drop(pool, twill__order_todo(order, &entry, 0), why);
    twill__pool_ended(pool);
}

/* On this thread, now; unless its time is over, or, while it was announced, all that had not begun
   were cancelled. */
static inline twill_status twill__order_run(twill__order *order, twill__turn *turn)
{
    twill__pool *pool = order->pool;
    twill_ns by = order->options->start_by;
    if (order->options->start_at > twill__clock_now())
        return twill__order_refuse(order, turn, TWILL_FULL);
    if (!order->work && !twill__order_record(order))
        return twill__order_refuse(order, turn, TWILL_NO_MEMORY);
    twill__order_number(order, 0);
    twill__order_announce(order, turn, 0);
    if (pool->sealed || (by && by <= twill__clock_now())) {
        twill__order_drop(order, turn, pool->sealed ? TWILL_CANCELLED : TWILL_TIMEOUT);
        return TWILL_OK;
    }
    twill__count(pool, order->runner, TWILL__N_CALLER_RAN);
    twill__run_here(pool, turn, order->runner, order->work);
    return TWILL_OK;
}

static inline twill_status twill__order_accept(twill__order *order, twill__turn *turn)
{
    twill__order_number(order, 0);
    twill__order_announce(order, turn, 1);
    if (order->pool->sealed) { /* meanwhile: all that had not begun were cancelled */
        twill__order_drop(order, turn, TWILL_CANCELLED);
        return TWILL_OK;
    }
    twill__order_push(order, turn);
    twill__turn_end(order->pool, turn);
    twill__turn_settle(order->pool, turn);
    return TWILL_OK;
}

/* The new one is dropped. */
static inline twill_status twill__order_dropped(twill__order *order, twill__turn *turn)
{
    twill__order_number(order, 0);
    twill__order_announce(order, turn, 0);
    twill__order_drop(order, turn, TWILL_DROPPED);
    return TWILL_DROPPED;
}

/* One that is queued makes room. */
static inline twill_status twill__order_displaces(twill__order *order, twill__turn *turn,
                                                  bool newest)
{
    twill__pool *pool = order->pool;
    twill__errand *work;
    twill__todo victim;
    if (!twill__todos_length(&pool->todos)) /* all are delayed, or on their way in */
        return twill__order_refuse(order, turn, TWILL_FULL);
    victim = twill__todos_drop(&pool->todos, newest);
    if ((work = twill__todo_work(&victim))) {
        work->record.where = TWILL__NOWHERE;
        twill__errand_untimed(pool, work);
    }
    /* the new one takes its room; the victim is waited for without any */
    pool->visitors++;
    twill__duty_begin(pool, work ? &work->record : NULL, TWILL__END_TASK); /* the victim's */
    (void)twill__order_accept(order, turn);
    twill__duty_over();
    twill__todo_drop(pool, &victim, TWILL_DROPPED);
    twill__pool_ended(pool);
    return TWILL_OK;
}

/* A guess without the lock. */
static inline bool twill__pool_looks_roomy(const twill__pool *pool)
{
    uint64_t head = atomic_load_explicit(&pool->todos.head, memory_order_seq_cst);
    uint64_t tail = twill__todos_tail_now(&pool->todos);
    if (head & TWILL__HOLD)
        return atomic_load_explicit(&pool->used, memory_order_relaxed) < pool->capacity;
    /* or others have moved both meanwhile */
    return tail - head < pool->capacity ||
           atomic_load_explicit(&pool->todos.head, memory_order_seq_cst) != head;
}

static inline bool twill__pool_has_room(void *pool)
{
    return twill__pool_looks_roomy((const twill__pool *)pool);
}

/* Looks for room for a moment, outside the lock: workers that are quick make some before a sleeper
   could be woken. */
static inline void twill__order_spin(const twill__order *order, twill__turn *turn)
{
    twill__pool *pool = order->pool;
    if (!twill__spin_helps() || pool->senders.first)
        return;
    pool->visitors++; /* the end waits for us */
    twill__turn_end(pool, turn);
    twill__turn_settle(pool, turn);
    (void)twill__spin_for(twill__pool_has_room, pool, TWILL__SPIN_WAIT, TWILL__SPIN_YIELDS);
    twill__turn_begin(pool, turn);
    twill__pool_left(pool, turn);
}

/* Waits for room. OK: there is, and it is kept in `reserved`. Under the lock at both ends; a
   visitor from then on. */
static inline twill_status twill__order_wait(twill__order *order, twill__turn *turn)
{
    twill__pool *pool = order->pool;
    twill_status status;
    twill__node me;
    twill__node_init(&me);
    twill__list_append(&pool->senders, &me); /* held: workers give it room */
    pool->visitors++;
    do { /* exit: there is room, or the wait is over; without workers it looks again and again */
        twill_ns soon = twill__pool_revives(pool);
        twill__turn_end(pool, turn);
        twill__turn_settle(pool, turn);
        status =
            twill__wait_sooner(&me, twill__nearer(order->until->deadline, soon), *order->until);
        twill__turn_begin(pool, turn);
        if (status == TWILL_EMPTY && pool->closed)
            status = TWILL_CLOSED; /* who closed has passed it */
        if (status == TWILL_EMPTY) {
            /* relaxed: who gives room does so under the lock */
            atomic_store_explicit(&me.word, 0, memory_order_relaxed);
            twill__pool_room(pool, turn);
        }
    } while (status == TWILL_EMPTY);
    twill__todos_shut(&pool->todos);
    if (status == TWILL_OK)
        status = (twill_status)me.answer;
    else
        twill__list_remove(&pool->senders, &me);
    return status;
}

static inline twill_status twill__order_decides(twill__order *order, twill__turn *turn);

static inline twill_status twill__order_full(twill__order *order, twill__turn *turn)
{
    twill__pool *pool = order->pool;
    twill_status status;
    twill__todos_hold(&pool->todos); /* else a worker makes room meanwhile */
    if (!twill__pool_full(pool))
        return twill__order_accept(order, turn);
    switch (pool->options.overflow) {
    case TWILL_OVERFLOW_REJECT:
        return twill__order_refuse(order, turn, TWILL_FULL);
    case TWILL_OVERFLOW_DROP_INCOMING:
        return twill__order_dropped(order, turn);
    case TWILL_OVERFLOW_DROP_OLDEST:
        return twill__order_displaces(order, turn, false);
    case TWILL_OVERFLOW_DROP_NEWEST:
        return twill__order_displaces(order, turn, true);
    case TWILL_OVERFLOW_CALLER_RUNS:
        return order->waits ? twill__order_run(order, turn)
                            : twill__order_refuse(order, turn, TWILL_FULL);
    case TWILL_OVERFLOW_BLOCK:
        break;
    }
    if (!order->waits)
        return twill__order_refuse(order, turn, TWILL_FULL);
    if (order->runner || /* never a wait for its own queue */
        (!pool->options.run.worker_start && !pool->options.run.worker_stop &&
         twill__pool_counts_on_us(pool)))
        return twill__order_run(order, turn);
    twill__order_spin(order, turn);
    twill__todos_hold(&pool->todos);
    if (pool->closed || (!pool->senders.first && !twill__pool_full(pool)))
        return twill__order_decides(order, turn); /* not full again: it is held */
    status = twill__order_wait(order, turn);
    if (status == TWILL_OK) {
        pool->reserved--;
        if (pool->sealed || !twill__order_memory(order)) {
            status = pool->sealed ? TWILL_CLOSED : TWILL_NO_MEMORY;
            twill__pool_room(pool, turn);
        }
    }
    status = status == TWILL_OK ? twill__order_accept(order, turn)
                                : twill__order_refuse(order, turn, status);
    twill__turn_begin(pool, turn);
    twill__pool_left(pool, turn);
    twill__turn_end(pool, turn);
    return status;
}

/* ---- submitting ---- */

/* A guess that saves the lock: it is full, and then a task's own task runs at once anyway. With
   events it needs a record, which still says which one it was when it has ended the thread. */
static inline bool twill__order_is_inline(const twill__order *order)
{
    const twill__pool *pool = order->pool;
    return order->plain && order->runner && order->waits && !pool->options.on_event &&
           (pool->options.overflow == TWILL_OVERFLOW_BLOCK ||
            pool->options.overflow == TWILL_OVERFLOW_CALLER_RUNS) &&
           !twill__pool_looks_roomy(pool);
}

/* Whether nothing of it is out of the ordinary: it goes in behind the others, nobody is told. */
static inline bool twill__order_ordinary(const twill__order *order)
{
    const twill_submit_options *options = order->options;
    const twill_pool_options *pool = &order->pool->options;
    return !pool->on_event && (order->simple || (!options->priority && !twill__order_timed(order) &&
                                                 !(options->cancel && pool->run.until.cancel)));
}

/* Inside: the longest that the queue has been. */
static inline void twill__order_peak(twill__pool *pool, uint64_t tail)
{
    if (tail - pool->todos.seen <= pool->peak)
        return; /* not longer, even if nothing was taken since the last look */
    twill__todos_see(&pool->todos);
    if (tail - pool->todos.seen > pool->peak)
        pool->peak = (size_t)(tail - pool->todos.seen);
}

/* Whether it is better to look for room out there for a moment than to take the lock, and sleep. */
static inline bool twill__order_may_linger(const twill__order *order)
{
    const twill__pool *pool = order->pool;
    return pool->options.overflow == TWILL_OVERFLOW_BLOCK && order->waits && !order->runner &&
           !order->until->deadline && !order->until->cancel && twill__pool_is_quick(pool) &&
           twill__cpus_hint() != 1;
}

/* After that, outside. The looks are far apart, so that a few tasks may come in one after another:
   each takes the workers' line from them. False: there was no room for long. The end waits for who
   lingers. */
static inline bool twill__order_lingers(const twill__order *order)
{
    const twill__pool *pool = order->pool;
    uint64_t since = twill__ticks(), wait = pool->team.tick_rate * TWILL__SEARCH >> 10;
    for (unsigned look = 0; look < 3; look++, wait *= 2) {
        while (TWILL__SPIN && twill__ticks() - since < wait)
            for (unsigned pause = 0; pause < 16; pause++)
                twill__pause();
        if (twill__pool_looks_roomy(pool))
            return true;
    }
    return false;
}

#ifndef TWILL__LINGERS   /* the explorer wants fewer */
#define TWILL__LINGERS 4 /* rounds of 10 us, while others take the room: then it waits in turn */
#endif

typedef enum twill__joined { TWILL__NOT_IN, TWILL__NO_ROOM, TWILL__IN } twill__joined;

/* The short way for most tasks, without the lock and with the same result. NOT_IN: it is for the
   long one; NO_ROOM: there may be some in a moment. `lingers`: is counted among those who have to
   come back. Once it is in, it does not touch the pool again, which may be gone. */
static inline twill__joined twill__order_joins(twill__order *order, bool *lingers)
{
    twill__pool *pool = order->pool;
    twill__todos *todos = &pool->todos;
    _Atomic uint32_t *epoch = &pool->team.epoch;
    int sleepers = 0;
    uint64_t tail;
    uint32_t idle;
    bool fits;
    twill__todo entry;
    /* before the door, whose CAS waits for what was written last: so does the counter, meanwhile */
    uint64_t ticks = !order->plain && order->simple ? twill__ticker_read() : 0;
    if (!twill__todos_enter(todos, &tail))
        return TWILL__NOT_IN;
    pool->lingering -= *lingers;
    fits = twill__todos_fits(todos, tail, pool->capacity);
    *lingers = false;
    if (!fits || (!order->plain && !twill__order_record(order))) {
        /* else it is the ring that is too small */
        *lingers = !fits && tail - todos->seen >= pool->capacity && twill__order_may_linger(order);
        pool->lingering += *lingers;
        twill__todos_leave(todos, tail);
        return *lingers ? TWILL__NO_ROOM : TWILL__NOT_IN;
    }
    twill__order_number(order, ticks);
    if (order->work)
        order->work->record.where = TWILL__READY;
    twill__todos_fill(todos, tail, twill__order_todo(order, &entry, ticks));
    twill__order_peak(pool, tail + 1);
    /* seq_cst: see twill__todos_enter */
    idle = atomic_load_explicit(&pool->team.idle, memory_order_seq_cst);
    if (idle && twill__pool_calls(pool, idle, twill__team_threads(&pool->team)))
        sleepers = twill__call_round(&pool->team, 1);
    twill__todos_leave(todos, tail + 1);
    if (sleepers)
        twill__wake(epoch, sleepers);
    return TWILL__IN;
}

/* Without the lock. False: it is for the long way. */
static inline bool twill__order_is_short(twill__order *order, bool *lingers)
{
    twill__pool *pool = order->pool;
    twill__stand_in *stand_in = twill__order_stand_in(order);
    if (twill__order_is_inline(order)) {
        twill__order_inline(order);
        return true;
    }
    if (stand_in && twill__order_runs_on(order, stand_in))
        return true;
    if (twill__order_ordinary(order)) {
        twill__joined joined;
        unsigned rounds = 0;
        /* exit: it is in, or the door is shut, or there was no room for long, or others had it */
        do
            if ((joined = twill__order_joins(order, lingers)) == TWILL__IN)
                return true;
        while (joined == TWILL__NO_ROOM && rounds++ < TWILL__LINGERS &&
               twill__order_lingers(order));
    }
    return stand_in && !twill__pool_looks_roomy(pool) &&
           twill__order_stands_in(order, stand_in, twill__order_run_length(pool));
}

/* Whether it comes from an accepted task, or from a call that one has made: then it comes in after
   a close, too. */
static inline bool twill__order_is_inner(const twill__order *order)
{
    return order->runner || twill__pool_counts_on_us(order->pool);
}

/* Under the lock and shut, which it leaves. */
static inline twill_status twill__order_decides(twill__order *order, twill__turn *turn)
{
    twill__pool *pool = order->pool;
    if (pool->sealed || (pool->closed && !twill__order_is_inner(order)))
        return twill__order_refuse(order, turn, TWILL_CLOSED);
    if (!twill__order_memory(order))
        return twill__order_refuse(order, turn, TWILL_NO_MEMORY);
    if (twill__pool_full(pool))
        return twill__order_full(order, turn);
    return twill__order_accept(order, turn);
}

static inline twill_status twill__order_go(twill__order *order)
{
    twill__pool *pool = order->pool;
    bool lingers = false;
    twill__turn turn;
    twill_status status;
    if (twill__order_is_short(order, &lingers))
        return TWILL_OK;
    twill__turn_begin(pool, &turn);
    twill__todos_shut(&pool->todos);
    if (!lingers)
        return twill__order_decides(order, &turn);
    pool->lingering--;
    pool->visitors++; /* the end waits for it until it has left */
    status = twill__order_decides(order, &turn);
    twill__turn_begin(pool, &turn);
    twill__pool_left(pool, &turn);
    twill__turn_end(pool, &turn);
    return status;
}

static inline __attribute__((always_inline)) twill_status
twill__submit_one(twill_pool *pool, twill_task_fn *fn, void *arg, twill_future *future,
                  const twill_submit_options *options, bool waits, const twill_until *until)
{
    twill__order order;
    twill_status status = twill__order_init(&order, pool, fn, future, options, waits, until);
    if (status != TWILL_OK) {
        if (future)
            *future = (twill_future){NULL, 0};
        return status;
    }
    order.todo.arg = arg;
    return twill__order_go(&order);
}

TWILL__DEFINE twill_status twill_pool_submit(twill_pool *pool, twill_task_fn *fn, void *arg,
                                             twill_future *future,
                                             const twill_submit_options *options)
{
    static const twill_until forever = {0, NULL};
    return twill__submit_one(pool, fn, arg, future, options, true, &forever);
}

TWILL__DEFINE twill_status twill_pool_try_submit(twill_pool *pool, twill_task_fn *fn, void *arg,
                                                 twill_future *future,
                                                 const twill_submit_options *options)
{
    static const twill_until forever = {0, NULL};
    return twill__submit_one(pool, fn, arg, future, options, false, &forever);
}

TWILL__DEFINE twill_status twill_pool_submit_until(twill_pool *pool, twill_task_fn *fn, void *arg,
                                                   twill_future *future, twill_until until,
                                                   const twill_submit_options *options)
{
    return twill__submit_one(pool, fn, arg, future, options, true, &until);
}

/* As many of args[*at..n-1] as there is room for, under one lock. */
static inline void twill__submit_some(twill__order *order, void *const *args, size_t *at, size_t n,
                                      twill_future *futures)
{
    twill__pool *pool = order->pool;
    size_t from = *at;
    twill__turn turn;
    twill__turn_begin(pool, &turn);
    twill__todos_shut(&pool->todos);
    while (*at < n && !pool->sealed && !(pool->closed && !twill__order_is_inner(order)) &&
           !twill__pool_full(pool)) {
        order->work = NULL;
        order->todo.arg = args ? args[*at] : NULL;
        order->future = futures ? &futures[*at] : NULL;
        if (!twill__order_memory(order))
            break;
        twill__order_number(order, 0);
        twill__order_push(order, &turn);
        ++*at;
    }
    if (turn.call && *at - from > turn.call)
        turn.call = *at - from < UINT_MAX ? (unsigned)(*at - from) : UINT_MAX;
    twill__turn_end(pool, &turn);
    twill__turn_settle(pool, &turn);
}

TWILL__DEFINE twill_status twill_pool_submit_many(twill_pool *pool, twill_task_fn *fn,
                                                  void *const *args, size_t n,
                                                  twill_future *futures, size_t *accepted,
                                                  const twill_submit_options *options)
{
    static const twill_until forever = {0, NULL};
    twill__order order;
    twill_status status = twill__order_init(&order, pool, fn, futures, options, true, &forever);
    bool dropped = false;
    size_t at = 0;
    while (at < n && (status == TWILL_OK || status == TWILL_DROPPED)) { /* exit: all, or refused */
        bool quiet = !order.pool->options.on_event &&
                     !(order.options->cancel && order.pool->options.run.until.cancel);
        if (quiet)
            twill__submit_some(&order, args, &at, n, futures);
        if (at == n)
            break;
        order.work = NULL;
        order.todo.arg = args ? args[at] : NULL;
        order.future = futures ? &futures[at] : NULL;
        status = twill__order_go(&order);
        dropped = dropped || status == TWILL_DROPPED;
        at += status == TWILL_OK || status == TWILL_DROPPED;
    }
    if (accepted)
        *accepted = at;
    while (futures && at < n) /* exit: none is left that a wait could take for a task */
        futures[at++] = (twill_future){NULL, 0};
    return status == TWILL_OK && dropped ? TWILL_DROPPED : status;
}

#endif
