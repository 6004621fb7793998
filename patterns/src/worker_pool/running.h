/* running.h: a task from its start to its end, however it ends. */
#ifndef TWILL__WORKER_POOL_RUNNING_H
#define TWILL__WORKER_POOL_RUNNING_H

#include "worker_pool/pool.h"

static inline twill__errand *twill__errand_of(twill__record *record)
{
    return (twill__errand *)(void *)record;
}

static inline twill__errand *twill__errand_at(const twill__todo_entry *entry)
{
    return (twill__errand *)(void *)((char *)(uintptr_t)entry - offsetof(twill__errand, entry));
}

/* The innermost record that a runner runs, or NULL; see there. */
static inline twill__errand *twill__hand_work(const twill__hand *runner)
{
    twill__todo_entry *entry = atomic_load_explicit(&runner->taker.claim, memory_order_relaxed);
    return entry ? twill__errand_at(entry) : NULL;
}

static inline void twill__hand_on(twill__hand *runner, twill__errand *work)
{
    atomic_store_explicit(&runner->taker.claim, work ? &work->entry : NULL, memory_order_relaxed);
}

/* ---- how it ended ---- */

/* By the one who says so. */
static inline void twill__errand_ends(twill__errand *work, twill_status status, int code,
                                      unsigned worker, twill_ns finished)
{
    twill_outcome *outcome = &work->record.outcome;
    outcome->status = status;
    outcome->code = status == TWILL_FAILED ? code : 0;
    outcome->worker = worker;
    outcome->attempts = outcome->started ? 1 : 0;
    outcome->finished = finished;
}

/* What everybody is told before the future wakes: counts, on_done, the event. */
static inline void twill__errand_told(twill__pool *pool, twill__hand *runner, twill__errand *work,
                                      bool returned, const twill_task *task)
{
    const twill_outcome *outcome = &work->record.outcome;
    twill__count(pool, runner, twill__counted_of(outcome->status));
    if (!work->record.simple && work->on_done)
        work->on_done(outcome, returned ? work->record.result : NULL, task);
    if (pool->options.on_event)
        twill__event(pool, TWILL_EVENT_ENDED, outcome->status, outcome->index, outcome->key,
                     outcome->worker, task);
}

/* Its token is of no use any more. */
static inline void twill__errand_quiet(twill__pool *pool, twill__errand *work)
{
    if (work->hooked)
        twill_cancel_remove_hook(pool->options.run.until.cancel, &work->hook);
    work->hooked = false;
    work->record.clean = false;
    twill__gate_shut(&work->gate);
    if (twill__token_used(twill__token_of(&work->token)))
        twill_cancel_detach(&work->token);
}

/* Fires the token of one that is pinned, and has not ended when it was looked under that pin. */
static inline void twill__errand_fire(twill__errand *work, twill_status reason)
{
    /* relaxed: whoever ends it in one step finds the pin, or this */
    atomic_fetch_or_explicit(&work->record.word, TWILL__TOUCHED, memory_order_relaxed);
    twill__gate_fire(&work->gate, &work->token, (int)reason);
}

/* It never ran, and the caller took it out of the queue: exactly one of {fn, drop}. */
static inline void twill__errand_drop(twill__pool *pool, twill__errand *work, twill_status why)
{
    twill_task task = twill__task_about(pool, work->record.outcome.index, work->record.context);
    twill__errand_quiet(pool, work);
    twill__errand_ends(work, why, 0, UINT_MAX, twill__clock_now());
    if (work->drop)
        work->drop(work->record.arg, why, &task);
    twill__errand_told(pool, NULL, work, false, &task);
    twill__record_finish(&work->record, false);
}

static inline void twill__todo_drop(twill__pool *pool, const twill__todo *todo, twill_status why)
{
    if (!todo->fn) {
        twill__errand_drop(pool, twill__errand_at((twill__todo_entry *)todo->arg), why);
    } else {
        twill_task task = twill__task_about(pool, todo->index, todo->context);
        twill__count(pool, NULL, twill__counted_of(why));
        twill__event(pool, TWILL_EVENT_ENDED, why, todo->index, NULL, UINT_MAX, &task);
    }
}

/* It runs, and others shall not wait for its end any more. The caller has pinned it. */
static inline void twill__errand_overrule(twill__pool *pool, twill__errand *work,
                                          twill_status status)
{
    if (twill__record_settle(&work->record, false)) {
        twill_task task = twill__task_about(pool, work->record.outcome.index, work->record.context);
        twill__errand_ends(work, status, 0, UINT_MAX, twill__clock_now());
        twill__errand_told(pool, NULL, work, false, &task);
        twill__record_publish(&work->record, false);
    }
    twill__errand_fire(work, status);
}

/* ---- timers ---- */

/* Under the lock, when a work with timers has its last one behind it. */
static inline void twill__errand_untimed(twill__pool *pool, twill__errand *work)
{
    if (!work->timed)
        return;
    work->timed = false;
    pool->timed--;
    twill__timer_stop(&pool->todos, &work->entry);
    /* release: pairs with the waiter's acquire; a hint */
    atomic_store_explicit(&work->record.due, 0, memory_order_release);
}

/* Somebody who sleeps must know of it: an idle worker, or the watch. */
static inline void twill__errand_timer(twill__pool *pool, twill__turn *turn, twill__errand *work,
                                       twill_ns when)
{
    twill_ns alarm = atomic_load(&pool->team.alarm);
    twill__timer_set(&pool->todos, &work->entry, when);
    /* as above */
    atomic_store_explicit(&work->record.due, when, memory_order_release);
    if (when < atomic_load_explicit(&pool->watch_until, memory_order_relaxed))
        turn->watch = true; /* relaxed: written under the lock */
    if (!atomic_load_explicit(&pool->team.idle, memory_order_relaxed))
        return;          /* whoever becomes idle looks under the lock */
    while (when < alarm) /* exit: set, or an earlier one is */
        if (atomic_compare_exchange_weak(&pool->team.alarm, &alarm, when)) {
            turn->call++;
            return;
        }
}

static inline void twill__errand_push(twill__pool *pool, twill__turn *turn, twill__errand *work)
{
    twill__todo todo = {NULL, &work->entry, NULL, work->record.outcome.index, 0};
    if (twill__pool_measures(pool, todo.index))
        todo.stamp = twill__ticks();
    work->record.where = TWILL__READY;
    twill__todos_push(&pool->todos, &todo, work->priority, work->record.outcome.queued,
                      pool->team.tick_rate);
    if (work->start_by)
        twill__errand_timer(pool, turn, work, work->start_by);
}

/* Whether it has still to begin; under the lock, and from then on held, if it has not ended. */
static inline bool twill__errand_queued(twill__pool *pool, twill__errand *work)
{
    /* then the pool may be gone; else its end waits for this task, and so for our lock */
    if (twill__record_ended(&work->record))
        return false;
    twill__todos_hold(&pool->todos);
    return work->record.where == TWILL__LATER ||
           (work->record.where == TWILL__READY && twill__todos_have(&pool->todos, &work->entry));
}

/* Out of the queue, or of the delayed ones; under the lock. The caller answers for it now. */
static inline void twill__errand_take(twill__pool *pool, twill__errand *work)
{
    if (work->record.where == TWILL__READY)
        twill__todos_remove(&pool->todos, &work->entry);
    else
        pool->later--;
    work->record.where = TWILL__NOWHERE;
}

static inline void twill__pool_room(twill__pool *pool, twill__turn *turn);
static inline void twill__pool_wants(twill__pool *pool, twill__turn *turn);

/* Under the lock: what is due at `now`. */
static inline void twill__pool_tick(twill__pool *pool, twill__turn *turn, twill_ns now)
{
    bool moved = false;
    while (twill__timer_next(&pool->todos) <= now) { /* exit: timers stop, or go on */
        twill__errand *work = twill__errand_at(pool->todos.timers[0]);
        if (work->record.where == TWILL__LATER && !(work->start_by && work->start_by <= now)) {
            /* its room was taken with the order */
            pool->later--;
            twill__timer_stop(&pool->todos, &work->entry);
            atomic_store_explicit(&work->record.due, 0, memory_order_release); /* as above */
            twill__errand_push(pool, turn, work);
            twill__pool_wants(pool, turn);
            moved = true;
        } else if (work->record.where == TWILL__RUNNING) {
            twill__errand_untimed(pool, work);
            if (twill__record_pin(&work->record)) {
                work->chain = turn->stale;
                turn->stale = work;
            }
        } else {
            twill__errand_untimed(pool, work);
            twill__errand_take(pool, work);
            work->chain = turn->late;
            turn->late = work;
            pool->reserved++; /* until it has ended: the pool stays */
            moved = true;
        }
    }
    if (moved) {
        twill__pool_level(pool, turn);
        twill__pool_room(pool, turn);
    }
}

static inline void twill__pool_ended(twill__pool *pool, size_t count);

/* After the turn: ends what its tick has found, and tells the level. */
static inline void twill__turn_settle(twill__pool *pool, twill__turn *turn)
{
    twill__errand *late = turn->late, *stale = turn->stale, *next;
    bool level = turn->level;
    turn->late = turn->stale = NULL;
    turn->level = false;
    for (; late; late = next) {
        next = late->chain;
        twill__errand_drop(pool, late, TWILL_TIMEOUT);
        twill__pool_ended(pool, 1);
    }
    for (; stale; stale = next) {
        next = stale->chain;
        twill__errand_overrule(pool, stale, TWILL_TIMEOUT);
        twill__record_unpin(&stale->record);
    }
    if (level)
        twill__pool_tell_level(pool);
}

/* ---- room ---- */

/* Under the lock: whoever waits for room gets it, in order. */
static inline void twill__pool_room(twill__pool *pool, twill__turn *turn)
{
    for (twill__node *node = pool->senders.first, *next; node && !twill__pool_full(pool);
         node = next) {
        _Atomic uint32_t *word = &node->word;
        next = node->next;
        node->answer = TWILL_OK;
        if (twill__grant(&pool->senders, node)) {
            pool->reserved++;
            twill__turn_wake(turn, word);
        }
    }
}

/* `count` tasks are over. Not from a runner: it counts its own. */
static inline void twill__pool_ended(twill__pool *pool, size_t count)
{
    twill__turn turn;
    twill__turn_begin(pool, &turn);
    pool->over += count;
    pool->reserved -= count;
    twill__pool_level(pool, &turn);
    twill__pool_room(pool, &turn);
    twill__pool_changed(pool, &turn);
    twill__turn_end(pool, &turn);
}

/* ---- running ---- */

static inline void twill__hand_task(const twill__hand *runner, size_t index, void *context,
                                    twill_task *task)
{
    task->index = index;
    task->context = context;
    task->worker = runner->worker;
    task->workers = runner->workers;
    task->worker_state = runner->state;
    task->until.deadline = 0;
    task->until.cancel = NULL;
    task->private_ = (void *)(uintptr_t)runner;
}

/* A task took so long. relaxed: a guess */
static inline bool twill__pool_is_quick(const twill__pool *pool)
{
    return atomic_load_explicit(&pool->quick, memory_order_relaxed);
}

static inline bool twill__pool_is_tiny(const twill__pool *pool)
{
    return atomic_load_explicit(&pool->tiny, memory_order_relaxed);
}

static inline void twill__pool_took(twill__pool *pool, uint64_t ns)
{
    if (twill__pool_is_quick(pool) != (ns < TWILL__QUICK))
        atomic_store_explicit(&pool->quick, ns < TWILL__QUICK, memory_order_relaxed);
    if (twill__pool_is_tiny(pool) != (ns < TWILL__TINY))
        atomic_store_explicit(&pool->tiny, ns < TWILL__TINY, memory_order_relaxed);
}

/* The outermost task of a worker, a plain one, is over: false: the watch has counted it as LOST.
   After this it leaves it alone. */
static inline bool twill__plain_counts(twill__pool *pool, twill__hand *runner)
{
    twill__turn turn;
    bool counts;
    if (!pool->options.stuck_after)
        return true;
    twill__turn_begin(pool, &turn);
    counts = !runner->given_up;
    runner->busy = false;
    twill__turn_end(pool, &turn);
    return counts;
}

/* It has returned `code`; `since`: 0, or its start in ticks. */
static inline void twill__plain_over(twill__pool *pool, twill__hand *runner, const twill_task *task,
                                     uint64_t since, int code, bool inlined)
{
    twill_status status = code                              ? TWILL_FAILED
                          : runner->said & TWILL__SAID_SKIP ? TWILL_CANCELLED
                                                            : TWILL_OK;
    bool counts;
    if (since && runner->ran) {
        uint64_t ns = twill__ticks_ns(pool, twill__ticks() - since);
        twill__histogram_add(runner->ran, ns);
        twill__pool_took(pool, ns);
    }
    counts = inlined || twill__plain_counts(pool, runner);
    if (counts)
        twill__count(pool, runner, twill__counted_of(status));
    if (pool->options.on_event && counts)
        twill__event(pool, TWILL_EVENT_ENDED, status, task->index, NULL, runner->worker, task);
}

/* A plain task; `inlined`: on top of another one, and never queued. False: it has forked, and this
   is the child: the parent has the pool, and nothing of it is touched any more. */
static inline bool twill__run_plain(twill__pool *pool, twill__hand *runner, const twill__todo *todo,
                                    bool inlined)
{
    void *context = runner->context;
    unsigned said = runner->said;
    uint64_t since = 0;
    twill_task task;
    bool here;
    int code;
    twill__hand_task(runner, todo->index, todo->context, &task);
    task.until.cancel = &runner->token;
    if (todo->stamp) {
        since = twill__ticks();
        if (runner->waited)
            twill__histogram_add(
                runner->waited,
                twill__ticks_ns(pool, since > todo->stamp ? since - todo->stamp : 0));
    }
    runner->said = 0;
    runner->context = todo->context;
    runner->depth++;
    twill__count(pool, runner, TWILL__N_STARTED);
    if (pool->options.on_event)
        twill__event(pool, TWILL_EVENT_STARTED, TWILL_OK, todo->index, NULL, runner->worker, &task);
    code = todo->fn(todo->arg, NULL, &task);
    if ((here = twill__pool_here(pool)))
        twill__plain_over(pool, runner, &task, since, code, inlined);
    runner->depth--;
    runner->ended += !inlined;
    runner->now = 0;
    runner->said = said;
    runner->context = context;
    return here;
}

/* How long it may run; 0: as long as it likes. */
static inline twill_ns twill__errand_limit(const twill__errand *work)
{
    return work->record.simple ? 0 : work->timeout;
}

/* What it said, by the rules of the manual. */
static inline twill_status twill__errand_status(const twill__errand *work,
                                                const twill__hand *runner, int code, twill_ns now)
{
    twill_ns limit = twill__errand_limit(work);
    if (limit && now >= twill__instant_after(work->record.outcome.started, limit))
        return TWILL_TIMEOUT;
    if (code)
        return TWILL_FAILED;
    return runner->said & TWILL__SAID_SKIP ? TWILL_CANCELLED : TWILL_OK;
}

/* Whether nobody but its handle has come near it: then one step ends it. */
static inline bool twill__errand_is_calm(const twill__errand *work)
{
    const twill__token *token = twill__token_of(&work->token);
    return work->record.simple && !twill__token_used(token) &&
           /* relaxed: a reason from above was found by the task itself, or is another's, who leaves
              TWILL__TOUCHED */
           !atomic_load_explicit(&token->state, memory_order_relaxed);
}

/* It counts as about to look for more, unless there is more: whoever hears of the end, and submits,
   need call nobody. */
static inline void twill__hand_looks(twill__pool *pool, twill__hand *runner)
{
    if (runner->depth != 1 || runner->outside || twill__pool_is_quick(pool) ||
        twill__todos_wait(&pool->todos, &runner->taker))
        return; /* quick ones are looked for without the lock (twill__worker_searches) */
    runner->looks = true;
    /* relaxed: the end publishes it, and the pool's lock orders its own end */
    atomic_fetch_add_explicit(&pool->looking, 1, memory_order_relaxed);
}

/* Others may say that it is over, too. */
static inline void twill__errand_over_raced(twill__pool *pool, twill__hand *runner,
                                            twill__errand *work, twill_status status, int code,
                                            bool returned, const twill_task *task, twill_ns now)
{
    twill__errand_quiet(pool, work);
    if (work->timeout) { /* the others had their last timer before they began */
        twill__turn turn;
        twill__turn_begin(pool, &turn);
        twill__errand_untimed(pool, work);
        twill__turn_end(pool, &turn);
    }
    if (twill__record_settle(&work->record, returned)) {
        twill__errand_ends(work, status, code, runner->worker, now);
        twill__errand_told(pool, runner, work, returned, task);
        twill__record_publish(&work->record, true);
    } else {
        if (returned && work->discard) /* late: nobody can take it */
            work->discard(work->record.arg, work->record.result, code, task);
        twill__record_disown(&work->record);
    }
}

/* When the task that runs there ends: by ticks, if nothing but an outcome depends on it. No sooner
   than it began: that may be the clock's, or of an older anchor, or of whoever handed it over. */
static inline twill_ns twill__hand_now(const twill__pool *pool, twill__hand *runner,
                                       const twill__errand *work)
{
    twill_ns now, started = work->record.outcome.started;
    if (!work->record.simple || (runner->outside && !runner->stands) || pool->options.stuck_after)
        now = twill__clock_now();
    else
        now = twill__ticker_now(&runner->ticker);
    return now > started ? now : started;
}

/* The callback is over: it returned, or (LOST) ended its thread. On its runner's thread. */
static inline void twill__errand_over(twill__pool *pool, twill__hand *runner, twill__errand *work,
                                      int code, bool returned, const twill_task *task)
{
    twill_ns now = twill__hand_now(pool, runner, work);
    uint64_t took = (uint64_t)(now - work->record.outcome.started);
    twill_status status = returned ? twill__errand_status(work, runner, code, now) : TWILL_LOST;
    bool calm = returned && twill__errand_is_calm(work);
    twill__record_left(&work->record, runner->self);
    runner->now = now;
    if (twill__pool_measures(pool, work->record.outcome.index)) {
        twill__pool_took(pool, took);
        if (returned && runner->ran)
            twill__histogram_add(runner->ran, took);
    }
    if (twill__errand_limit(work) || pool->options.stuck_after) {
        twill__errand_over_raced(pool, runner, work, status, code, returned, task, now);
    } else {
        if (!calm)
            twill__errand_quiet(pool, work);
        twill__errand_ends(work, status, code, runner->worker, now);
        twill__errand_told(pool, runner, work, returned, task);
        if (returned && (work->record.simple || !work->discard))
            twill__hand_looks(pool, runner);
        if (!calm || !twill__record_finish_alone(&work->record)) {
            if (calm) /* who has come meanwhile may have fired it */
                twill__errand_quiet(pool, work);
            twill__record_finish(&work->record, returned);
        }
    }
    runner->ended++;
}

/* The work was taken out of the queue for this runner (twill__hand_takes). False: as
   twill__run_plain. */
static inline bool twill__run_work(twill__pool *pool, twill__hand *runner, twill__errand *work)
{
    const twill_outcome *outcome = &work->record.outcome;
    twill_ns limit = twill__errand_limit(work);
    void *context = runner->context;
    unsigned said = runner->said;
    twill_task task;
    bool here;
    int code;
    twill__hand_task(runner, outcome->index, work->record.context, &task);
    task.until.cancel = &work->token;
    if (limit)
        task.until.deadline = twill__instant_after(outcome->started, limit);
    if (runner->waited && twill__pool_measures(pool, outcome->index))
        twill__histogram_add(runner->waited, (uint64_t)(outcome->started - outcome->queued));
    runner->said = 0;
    runner->context = work->record.context;
    runner->depth++;
    twill__count(pool, runner, TWILL__N_STARTED);
    twill__record_enter(&work->record, runner->self);
    twill__event(pool, TWILL_EVENT_STARTED, TWILL_OK, outcome->index, outcome->key, runner->worker,
                 &task);
    code = work->record.fn(work->record.arg, work->record.result_size ? work->record.result : NULL,
                           &task);
    if ((here = twill__pool_here(pool)))
        twill__errand_over(pool, runner, work, code, true, &task);
    else
        twill__record_left(&work->record, runner->self);
    runner->depth--;
    runner->said = said;
    runner->context = context;
    return here;
}

/* Taken out of the queue, it is this runner's now. */
static inline void twill__errand_begins(twill__hand *runner, twill__errand *work)
{
    work->record.outcome.started = runner->now ? runner->now
                                   : runner->stands && work->record.simple
                                       ? twill__ticker_now(&runner->ticker)
                                       : twill__clock_now();
    if (work->record.outcome.started < work->record.outcome.queued)
        work->record.outcome.started = work->record.outcome.queued;
    twill__record_claim(&work->record);
}

/* The same under the lock. */
static inline void twill__hand_takes(twill__pool *pool, twill__turn *turn, twill__hand *runner,
                                     twill__errand *work)
{
    twill__errand_begins(runner, work);
    work->record.where = TWILL__RUNNING;
    work->below = runner->depth ? twill__hand_work(runner) : NULL;
    twill__hand_on(runner, work);
    if (!work->timed)
        return;
    if (work->timeout)
        twill__errand_timer(pool, turn, work,
                            twill__instant_after(work->record.outcome.started, work->timeout));
    else
        twill__errand_untimed(pool, work);
}

/* ---- a thread that is no worker, or a task on top of another ---- */

typedef struct twill__guest { /* what the clean-up needs */
    twill__pool *pool;
    twill__hand *runner;
    twill__errand *work;
    twill__team *team; /* of the thread itself: a call inside the task is this pool's meanwhile */
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

/* Under the lock. */
static inline void twill__hand_out(twill__pool *pool, twill__hand *runner)
{
    if (runner->previous)
        runner->previous->next = runner->next;
    else
        pool->runners = runner->next;
    if (runner->next)
        runner->next->previous = runner->previous;
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
    twill__hand_task(runner, runner->index, runner->context, &task);
    twill__count(pool, runner, TWILL__N_LOST);
    twill__event(pool, TWILL_EVENT_ENDED, TWILL_LOST, runner->index, NULL, runner->worker, &task);
}

/* What runs on a runner ends with its thread: all of it is LOST. */
static inline void twill__hand_lost(twill__pool *pool, twill__hand *runner)
{
    while (runner->depth && twill__pool_here(pool)) { /* exit: one less each time; or a fork */
        twill__errand *work = twill__hand_work(runner), *below;
        twill_task task;
        runner->depth--;
        if (work) {
            below = work->below;
            twill__hand_task(runner, work->record.outcome.index, work->record.context, &task);
            twill__errand_over(pool, runner, work, 0, false, &task);
            twill__hand_on(runner, below);
        } else if (runner->depth || !runner->plain) { /* inlined */
            twill__plain_lost(pool, runner);
        } else {
            if (twill__plain_counts(pool, runner))
                twill__plain_lost(pool, runner);
            runner->ended++;
        }
    }
}

static inline void twill__guest_ended(void *guest_)
{
    twill__guest *guest = (twill__guest *)guest_;
    twill__hand_lost(guest->pool, guest->runner);
    twill__guest_out(guest);
}

/* Runs what was taken for this guest. */
static inline void twill__guest_runs(twill__guest *guest)
{
    twill__self *self = twill__thread();
    guest->runner->self = self;
    self->runner = guest->runner;
    guest->team = self->team;
    self->team = &guest->pool->team;
    TWILL__GUARD_PUSH(twill__guest_ended, guest);
    (void)(guest->work ? twill__run_work(guest->pool, guest->runner, guest->work)
                       : twill__run_plain(guest->pool, guest->runner, guest->todo, false));
    TWILL__GUARD_POP(0);
    twill__guest_out(guest);
}

/* A worker runs a work on top of what it is doing: the guard of its main loop covers it. */
static inline void twill__run_nested(twill__pool *pool, twill__hand *runner, twill__errand *work)
{
    twill__errand *below = work->below; /* the work may be another task's when it is over */
    twill__turn turn;
    if (!twill__run_work(pool, runner, work))
        return;
    twill__turn_begin(pool, &turn);
    twill__hand_on(runner, below);
    twill__hand_report(pool, &turn, runner);
    twill__turn_end(pool, &turn);
}

/* Under the lock, the work taken out of the queue, and after it unlocked: runs it on this thread,
   which is `runner`, or (NULL) none of the pool's. */
static inline void twill__run_here(twill__pool *pool, twill__turn *turn, twill__hand *runner,
                                   twill__errand *work)
{
    twill__hand guest_runner;
    twill__guest guest = {pool, &guest_runner, work, NULL, NULL};
    if (!runner)
        twill__guest_in(pool, &guest_runner);
    else
        runner->now = 0;
    twill__hand_takes(pool, turn, runner ? runner : &guest_runner, work);
    twill__turn_end(pool, turn);
    twill__turn_settle(pool, turn);
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
    twill__guest guest = {pool, &runner, NULL, NULL, todo};
    twill__guest_in(pool, &runner);
    runner.plain = true;
    runner.index = todo->index;
    twill__turn_end(pool, turn);
    twill__turn_settle(pool, turn);
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
        atomic_fetch_or(&pool->stand_in[i].word, TWILL__WATCHED);
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
    if (!atomic_load(&pool->waited) &&
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
    if (twill__pool_here(guest->pool)) {
        twill__hand_lost(guest->pool, runner);
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
    twill__guest guest = {pool, runner, work, self->team, todo};
    runner->outer = (twill__hand *)self->runner;
    runner->workers = twill__pool_told(pool);
    runner->self = self;
    self->runner = runner;
    self->team = &pool->team;
    TWILL__GUARD_PUSH(twill__stand_in_ended, &guest);
    if (work) {
        (void)twill__run_work(pool, runner, work);
    } else {
        runner->index = todo->index;
        (void)twill__run_plain(pool, runner, todo, true);
    }
    TWILL__GUARD_POP(0);
    twill__stand_in_out(&guest);
}

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

static inline bool twill__errand_help(twill__record *record, bool idle)
{
    twill__errand *work = twill__errand_of(record);
    twill__pool *pool = work->pool;
    twill__hand *runner = twill__hand_here(pool);
    const twill_run *run = &pool->options.run;
    twill__turn turn;
    if (!runner && (run->worker_start || run->worker_stop)) /* the task may need a worker's state */
        return false;
    twill__turn_begin(pool, &turn);
    if ((runner && runner->given_up) || work->record.where != TWILL__READY ||
        !twill__errand_queued(pool, work) ||
        (!runner && (pool->paused || (idle && atomic_load(&pool->team.idle))))) {
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
    twill__pool_tick(pool, &turn, twill__clock_now());
    twill__turn_end(pool, &turn);
    twill__turn_settle(pool, &turn);
    twill__turn_begin(pool, &turn);
    twill__pool_left(pool, &turn);
    twill__turn_end(pool, &turn);
}

static inline void twill__errand_cancel(twill__record *record)
{
    twill__errand *work = twill__errand_of(record);
    twill__pool *pool = work->pool;
    twill__turn turn;
    bool queued;
    twill__turn_begin(pool, &turn);
    queued = twill__errand_queued(pool, work);
    if (queued) {
        twill__errand_take(pool, work);
        twill__errand_untimed(pool, work);
        twill__pool_level(pool, &turn);
        pool->reserved++; /* its room is free when it has ended: the pool stays */
    }
    twill__turn_end(pool, &turn);
    twill__turn_settle(pool, &turn);
    if (queued) {
        twill__errand_drop(pool, work, TWILL_CANCELLED);
        twill__pool_ended(pool, 1);
    } else if (!twill__record_ended(record)) {
        twill__errand_fire(work, TWILL_CANCELLED);
    }
}

static inline void twill__errand_forget(twill__record *record)
{
    twill__errand *work = twill__errand_of(record);
    if (work->discard) {
        twill_task task = {
            work->record.outcome.index, work->record.context, UINT_MAX, 0, NULL, {0, NULL}, NULL};
        work->discard(work->record.arg, record->result, record->outcome.code, &task);
    }
}

static inline const twill__record_table *twill__errand_table(void)
{
    static const twill__record_table table = {twill__errand_help,   twill__errand_expire,
                                              twill__errand_cancel, twill__errand_forget,
                                              twill__errand_comes,  twill__errand_run_next};
    return &table;
}

#endif
