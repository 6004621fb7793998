/* running.h: a task from its start to its end, however it ends. */
#ifndef TWILL__WORKER_POOL_RUNNING_H
#define TWILL__WORKER_POOL_RUNNING_H

#include "worker_pool/ends.h"

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

/* Under the lock: the watch sleeps for longer than that runner's task may take. */
static inline bool twill__watch_is_late(const twill__pool *pool, const twill__hand *runner)
{
    /* relaxed: written under the lock */
    return atomic_load_explicit(&pool->watch_until, memory_order_relaxed) >
           twill__instant_after(runner->since, pool->options.stuck_after);
}

/* It has told that its task has begun: a worker's outermost one may be stuck from now on. */
static inline void twill__hand_begun(twill__pool *pool, twill__hand *runner)
{
    twill__turn turn;
    if (!pool->options.stuck_after || runner->outside || runner->depth != 1)
        return;
    twill__turn_begin(pool, &turn);
    runner->since = twill__clock_now();
    turn.watch = twill__watch_is_late(pool, runner);
    twill__turn_end(pool, &turn);
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
    if (pool->options.on_event) {
        twill__event(pool, TWILL_EVENT_STARTED, TWILL_OK, todo->index, NULL, runner->worker, &task);
        twill__hand_begun(pool, runner);
    }
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
    bool outermost = runner->depth <= 1;
    twill__errand_quiet(pool, work);
    if (work->timeout || outermost) { /* the others had their last timer before they began */
        twill__turn turn;
        twill__turn_begin(pool, &turn);
        twill__errand_untimed(pool, work);
        if (outermost) /* for the watch: it cannot be stuck any more */
            runner->busy = false;
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
    /* it began with the end of the one before: a guess how long it took without that */
    uint64_t own = runner->now == work->record.outcome.started ? TWILL__TURN : 0;
    twill__record_left(&work->record, runner->self);
    runner->now = now;
    if (!work->record.simple)
        work->code = code;
    if (twill__pool_measures(pool, work->record.outcome.index)) {
        twill__pool_took(pool, took > own ? took - own : 0);
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
    if (pool->options.on_event) {
        twill__event(pool, TWILL_EVENT_STARTED, TWILL_OK, outcome->index, outcome->key,
                     runner->worker, &task);
        twill__errand_begun(pool, work);
        twill__hand_begun(pool, runner);
    }
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
    bool simple = work->record.simple;
    /* the last one ended before this one was due, perhaps, and its time limit counts from now */
    work->record.outcome.started = runner->now && (simple || !work->timed) ? runner->now
                                   : runner->stands && simple ? twill__ticker_now(&runner->ticker)
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
    if (!work->timeout) {
        twill__errand_untimed(pool, work);
        return;
    }
    twill__errand_timer(pool, turn, work,
                        twill__instant_after(work->record.outcome.started, work->timeout));
    twill__record_stir(&work->record); /* who waits already sleeps no longer than that */
}

#endif
