/* call.h: one call, from its checks to its report. */
#ifndef TWILL__TIMEOUT_CALL_H
#define TWILL__TIMEOUT_CALL_H

#include "timeout_fallback/runner.h"

typedef struct twill__timeout_call { /* on the caller's stack */
    twill__call head;                /* first: private_ of a fallback's task points here */
    twill__timeout_visit visit;
    twill__stragglers *books;
    struct twill_timeout *owner; /* NULL: the one-call form */
    const twill_timeout_options *options;
    twill__timeout_block *block;
    const void *in;
    size_t in_size;
    void *out;
    size_t out_size;
    twill_map_fn *fn;
    const void *value; /* the last resort; NULL: none */
    unsigned runners;
    twill_until until; /* of the whole call; its token is the caller's, or `both` */
    twill_ns deadline; /* of the primary */
    twill_ns begun;
    twill_cancel both; /* fires when one of two tokens does */
    twill_cancel_hook on_run, on_cancel;
    twill_cancel *run_token; /* on_run hangs there; NULL: there are not two */
    int step;
    twill_timeout_report *report, own_report;
    twill_task task; /* of callbacks in the caller's thread */
} twill__timeout_call;
enum { TWILL__CALL_OPEN, TWILL__CALL_FREE, TWILL__CALL_OVER };

/* ---- the caller's token ---- */

/* The call ends now: by a hook of the caller's token, or by a look at it. */
static inline void twill__timeout_cancel(twill__timeout_block *block, int reason)
{
    const void *sleeper = NULL;
    twill__lock(&block->books->lock);
    if (!block->gone) {
        block->cancelled = block->told = true;
        sleeper = twill__timeout_tell(block);
    }
    twill__timeout_unlock(block->books, sleeper);
    twill_cancel_fire(&block->token, reason);
}

static void twill__timeout_on_cancel(int reason, const twill_task *task)
{
    twill__timeout_cancel((twill__timeout_block *)task->context, reason);
}

static void twill__timeout_on_run(int reason, const twill_task *task)
{
    twill_cancel_fire((twill_cancel *)task->context, reason);
}

/* A function looks at its token, which no request (of a signal handler, say) has reached: asks the
   caller's and the run's, while the caller is there, and passes on what they say. */
static bool twill__timeout_looks(const twill_task *task)
{
    twill__timeout_block *block = ((twill__timeout_runner *)task->private_)->block;
    int reason = 0;
    if (!block->watched)
        return false;
    twill__lock(&block->books->lock);
    for (unsigned k = 0; k < 2 && !reason; k++)
        reason = twill_cancel_reason(block->asked[k]);
    twill__unlock(&block->books->lock);
    if (reason)
        twill__timeout_cancel(block, reason);
    return reason != 0;
}

/* In the caller's thread: is the call cancelled? A request on the run's token has not reached the
   token of both. */
static inline bool twill__timeout_cancelled(twill__timeout_call *call)
{
    int reason = twill_cancel_reason(call->run_token);
    if (reason)
        twill_cancel_fire(&call->both, reason);
    return twill_cancel_fired(call->until.cancel);
}

/* So does a fallback look. */
static bool twill__timeout_step_looks(const twill_task *task)
{
    return twill__timeout_cancelled((twill__timeout_call *)task->private_);
}

static inline void twill__timeout_hook(twill__timeout_call *call)
{
    twill_cancel *run = call->options->run.until.cancel, *own = call->until.cancel;
    if (run && own && run != own) {
        twill_cancel_init(&call->both, own);
        call->on_run.fn = twill__timeout_on_run;
        call->on_run.context = &call->both;
        call->run_token = run;
        call->until.cancel = &call->both;
        twill_cancel_add_hook(run, &call->on_run);
    } else if (!own) {
        call->until.cancel = run;
    }
    if (call->block && call->until.cancel) {
        call->block->watched = true;
        call->block->asked[0] = call->until.cancel;
        call->block->asked[1] = call->run_token;
        call->on_cancel.fn = twill__timeout_on_cancel;
        call->on_cancel.context = call->block;
        twill_cancel_add_hook(call->until.cancel, &call->on_cancel);
    }
}

static inline void twill__timeout_unhook(twill__timeout_call *call)
{
    if (call->block && call->block->watched) {
        twill_cancel_remove_hook(call->until.cancel, &call->on_cancel);
        twill__lock(&call->books->lock);
        for (unsigned k = 0; k < 2; k++) /* a function may be looking at them */
            call->block->asked[k] = NULL;
        twill__unlock(&call->books->lock);
    }
    if (call->run_token) {
        twill_cancel_remove_hook(call->run_token, &call->on_run);
        twill_cancel_detach(&call->both);
    }
}

/* ---- the block ---- */

static inline bool twill__timeout_add(size_t *total, size_t count, size_t size)
{
    if (size && count > (SIZE_MAX / 2 - 16) / size)
        return false;
    size = (count * size + 15) / 16 * 16;
    if (*total > SIZE_MAX / 2 - size)
        return false;
    *total += size;
    return true;
}

/* Its bytes; 0: more than there can be. */
static inline size_t twill__timeout_bytes(const twill__timeout_call *call)
{
    size_t bytes = 0, slot = 0, areas = call->runners + (call->options->fallback_count != 0);
    size_t heads = offsetof(twill__timeout_block, runner);
    if (!twill__timeout_add(&slot, 1, call->out_size) ||
        call->runners > (SIZE_MAX / 2 - heads) / sizeof(twill__timeout_runner) ||
        !twill__timeout_add(&bytes, 1, heads + call->runners * sizeof(twill__timeout_runner)) ||
        !twill__timeout_add(&bytes, 1, call->in_size) || !twill__timeout_add(&bytes, areas, slot))
        return 0;
    return bytes;
}

static inline void twill__timeout_block_make(twill__timeout_call *call, size_t bytes)
{
    static const twill__call_table table = {twill__timeout_looks, NULL, NULL, NULL, NULL};
    twill__timeout_block *block = (twill__timeout_block *)TWILL_MALLOC(bytes);
    size_t slot = (call->out_size + 15) / 16 * 16;
    char *at;
    call->block = block;
    if (!block)
        return;
    memset(block, 0, bytes);
    at = (char *)block + (offsetof(twill__timeout_block, runner) +
                          call->runners * sizeof(twill__timeout_runner) + 15) /
                             16 * 16;
    block->books = call->books;
    block->owner = call->owner;
    block->fn = call->fn;
    block->in = call->in;
    if (call->in_size)
        block->in = memcpy(at, call->in, call->in_size);
    at += (call->in_size + 15) / 16 * 16;
    twill_cancel_init(&block->token, NULL);
    block->until.deadline = call->deadline;
    block->until.cancel = &block->token;
    block->runners = call->runners;
    block->references = 1;
    for (unsigned k = 0; k < call->runners; k++, at += slot) {
        twill__timeout_runner *runner = &block->runner[k];
        runner->head.table = &table;
        runner->block = block;
        runner->result = at;
        runner->task = (twill_task){
            k, call->options->run.context, k, call->runners, NULL, block->until, runner};
    }
    block->scratch = call->options->fallback_count ? at : NULL;
}

/* ---- in and out of the books ---- */

/* Under the lock: is there no place for one function more? */
static inline bool twill__timeout_full(const twill__timeout_call *call)
{
    const twill_timeout_options *options = call->options;
    size_t running = call->books->running;
    return (options->mode == TWILL_TIMEOUT_ABANDON && running >= options->max_abandoned) ||
           (options->max_running && running >= options->max_running);
}

/* Under the lock. Also when a copy gives back what it took: others have saved meanwhile. */
static inline void twill__timeout_save_hedges(struct twill_timeout *owner, double copies)
{
    owner->hedges_left += copies;
    if (owner->hedges_left > TWILL__HEDGES_SAVED)
        owner->hedges_left = TWILL__HEDGES_SAVED;
}

/* Takes a place, or says why not. */
static inline twill_status twill__timeout_admit(twill__timeout_call *call)
{
    twill__timeout_block *block = call->block;
    struct twill_timeout *owner = call->owner;
    bool over = twill__expired(call->deadline), cancelled;
    twill_status status = TWILL_OK;
    cancelled = !block && twill__timeout_cancelled(call);
    if (owner) {
        call->visit.owner = owner;
        call->visit.outer = (twill__timeout_visit *)twill__thread()->visit;
        twill__thread()->visit = &call->visit;
    }
    twill__lock(&call->books->lock);
    if (owner) {
        owner->counts.calls++;
        if (owner->options.hedge_after)
            twill__timeout_save_hedges(owner, owner->options.hedge_budget);
    }
    if (owner && owner->closed)
        status = TWILL_CLOSED;
    else if (cancelled || (block && block->cancelled))
        status = TWILL_CANCELLED;
    else if (over)
        status = TWILL_TIMEOUT;
    else if (twill__timeout_full(call))
        status = TWILL_BUSY;
    else if (!block)
        status = TWILL_NO_MEMORY;
    else
        call->books->running++;
    if (block) {
        block->next = call->books->blocks;
        if (block->next)
            block->next->previous = block;
        call->books->blocks = block;
        if (owner)
            owner->references++;
    }
    twill__unlock(&call->books->lock);
    return status;
}

static inline void twill__timeout_count(struct twill_timeout *owner,
                                        const twill_timeout_report *report)
{
    twill_timeout_stats *counts = &owner->counts;
    switch ((int)report->primary) {
    case TWILL_OK:
        counts->ok++;
        break;
    case TWILL_FAILED:
    case TWILL_LOST:
        counts->failed++;
        break;
    case TWILL_TIMEOUT:
        counts->timeouts++;
        break;
    case TWILL_CANCELLED:
        counts->cancelled++;
        break;
    default:
        counts->refused++;
        break;
    }
    counts->fallbacks += report->source == TWILL_FROM_FALLBACK;
    counts->values += report->source == TWILL_FROM_VALUE;
}

/* The end of a call, also of one whose thread a callback has ended. */
static void twill__timeout_end(void *call_)
{
    twill__timeout_call *call = (twill__timeout_call *)call_;
    twill__timeout_block *block = call->block;
    struct twill_timeout *owner = call->owner;
    bool mine = true; /* the input is this thread's to free */
    if (call->step == TWILL__CALL_OPEN && twill__books_here(call->books)) {
        call->step = TWILL__CALL_FREE;
        twill__timeout_unhook(call);
        twill__lock(&call->books->lock);
        if (owner)
            twill__timeout_count(owner, call->report);
        if (block) {
            mine = --block->references == 0;
            if (mine)
                twill__timeout_unlink(block);
            if (mine && owner)
                owner->references--; /* whoever calls has another */
        }
        twill__unlock(&call->books->lock);
        if (mine)
            twill__timeout_free_input(owner, block ? block->in : call->in, &call->task);
        else
            call->step = TWILL__CALL_OVER;
    }
    if (call->visit.owner) /* free_input has returned; also in a child, which may destroy now */
        twill__thread()->visit = call->visit.outer;
    if (call->step == TWILL__CALL_FREE && block)
        TWILL_FREE(block);
    call->step = TWILL__CALL_OVER;
}

/* ---- waiting for the function ---- */

/* Under the lock, which it gives back meanwhile: until somebody tells, or the instant `until`. */
static inline bool twill__timeout_told(twill__timeout_block *block, twill_ns until)
{
    twill__node node;
    twill_status status;
    twill__node_init(&node);
    twill__list_append(&block->waiter, &node);
    twill__unlock(&block->books->lock);
    status = twill__wait(&node, (twill_until){until, NULL});
    twill__lock(&block->books->lock);
    if (status != TWILL_OK)
        twill__list_remove(&block->waiter, &node);
    return status == TWILL_OK;
}

/* Under the lock, which it gives back meanwhile. */
static inline void twill__timeout_fire(twill__timeout_block *block, int reason)
{
    block->told = true;
    twill__unlock(&block->books->lock);
    twill_cancel_fire(&block->token, reason);
    twill__lock(&block->books->lock);
}

/* Under the lock, which it gives back meanwhile: copy k of the function, if there may be one. */
static inline void twill__timeout_hedge(twill__timeout_call *call, unsigned k)
{
    struct twill_timeout *owner = call->owner;
    bool start = owner->hedges_left >= 1 && !twill__timeout_full(call);
    if (start) {
        owner->hedges_left -= 1;
        call->books->running++;
        twill__unlock(&call->books->lock);
        start = twill__timeout_start(call->block, k) == TWILL_OK;
        twill__lock(&call->books->lock);
        if (!start)
            twill__timeout_save_hedges(owner, 1);
    }
    if (start)
        owner->counts.hedges++;
    else
        owner->counts.hedges_skipped++;
}

/* Under the lock, which it gives back while it waits. Returns when the call is decided: a result,
   every function ended, the token, the deadline with its grace; in mode JOIN, every function
   ended. */
static inline void twill__timeout_attend(twill__timeout_call *call)
{
    const twill_timeout_options *options = call->options;
    twill__timeout_block *block = call->block;
    bool join = options->mode == TWILL_TIMEOUT_JOIN, late = false;
    unsigned next = 1;
    twill_ns hedge_at = options->hedge_after ? twill_within(options->hedge_after).deadline : 0;
    for (;;) { /* exit: every function ends, or the deadline passes */
        bool decided = block->winner || block->cancelled;
        twill_ns until;
        if (block->ended == block->started || (!join && (decided || (late && !options->grace))))
            return;
        if (join && decided && !block->told) {
            twill__timeout_fire(block, TWILL_CANCELLED);
            continue;
        }
        if (next == block->runners || block->finished || decided || late)
            hedge_at = 0;
        until = late ? (join ? 0 : twill__instant_after(call->deadline, options->grace))
                     : twill__nearer(decided ? 0 : call->deadline, hedge_at);
        if (twill__timeout_told(block, until))
            continue;
        if (late)
            return;
        if (hedge_at && !twill__expired(call->deadline)) {
            if (!block->finished && !block->cancelled)
                twill__timeout_hedge(call, next++);
            hedge_at = twill_within(options->hedge_after).deadline;
        } else {
            late = true;
            if (!block->winner && !block->cancelled)
                twill__timeout_fire(block, TWILL_TIMEOUT);
        }
    }
}

/* ---- the primary ---- */

/* Under the lock: the call takes no result after this; what still runs is abandoned. Returns
   whether anything is. */
static inline bool twill__timeout_go(twill__timeout_call *call)
{
    twill__timeout_block *block = call->block;
    twill__stragglers *books = call->books;
    block->gone = true;
    for (unsigned k = 0; k < block->runners; k++) {
        twill__timeout_runner *runner = &block->runner[k];
        if (runner->started && !runner->ended) {
            runner->late = true;
            books->abandoned++;
        }
    }
    if (call->owner && books->abandoned > call->owner->counts.abandoned_peak)
        call->owner->counts.abandoned_peak = books->abandoned;
    return block->ended < block->started;
}

/* Under the lock, and a function was started: how it did, and who won. */
static inline twill_status twill__timeout_verdict(const twill__timeout_call *call)
{
    const twill__timeout_block *block = call->block;
    if (block->winner)
        return TWILL_OK;
    if (block->finished == block->started)
        return block->verdict;
    return block->cancelled ? TWILL_CANCELLED : TWILL_TIMEOUT;
}

/* Runs the function, whose place is taken, and takes its result. */
static inline twill_status twill__timeout_primary(twill__timeout_call *call)
{
    twill__timeout_block *block = call->block;
    twill_timeout_report *report = call->report;
    twill__timeout_runner *winner;
    twill_status status;
    bool alone; /* a thread of this call alone, to be joined */
    if (call->options->mode == TWILL_TIMEOUT_COOPERATE) {
        twill__timeout_life life;
        twill__lock(&call->books->lock);
        block->references++;
        block->started++;
        block->runner->started = true;
        twill__unlock(&call->books->lock);
        report->primary = TWILL_LOST; /* unless it returns */
        twill__life_of(&life, block->runner, NULL);
        twill__life_go(&life);
        if (!twill__books_here(call->books))
            return TWILL_FORKED;
    } else {
        status = twill__timeout_start(block, 0);
        if (status != TWILL_OK)
            return status;
    }
    twill__lock(&call->books->lock);
    twill__timeout_attend(call);
    report->abandoned = twill__timeout_go(call);
    winner = block->winner;
    status = twill__timeout_verdict(call);
    if (status == TWILL_FAILED || status == TWILL_NO_THREAD)
        report->code = block->code;
    if (report->abandoned && !block->told)
        twill__timeout_fire(block, TWILL_CANCELLED);
    twill__unlock(&call->books->lock);
    alone = !call->owner;
    if (alone && report->abandoned)
        twill__thread_let_go(&block->thread);
    else if (alone)
        twill__thread_join(&block->thread);
    if (status == TWILL_OK) {
        unsigned k = (unsigned)(winner - block->runner);
        if (call->out_size)
            memcpy(call->out, winner->result, call->out_size);
        report->source = k ? TWILL_FROM_HEDGE : TWILL_FROM_PRIMARY;
        report->level = k;
    }
    return status;
}

/* ---- what serves instead ---- */

/* One fallback: true: its result is in out. */
static inline bool twill__timeout_step(twill__timeout_call *call, size_t k)
{
    const twill_fallback *step = &call->options->fallbacks[k];
    const void *in = call->block ? call->block->in : call->in;
    void *result = call->block ? (void *)call->block->scratch : call->out;
    twill_task task = call->task;
    twill_ns own = step->timeout ? twill_within(step->timeout).deadline : 0;
    int code;
    task.index = k + 1;
    task.private_ = call;
    task.until.deadline = twill__nearer(call->until.deadline, own);
    task.until.cancel = call->until.cancel;
    if (call->out_size)
        memset(result, 0, call->out_size);
    code = step->fn(in, result, &task);
    if (!twill__books_here(call->books)) /* it has forked, and this is the child */
        return false;
    if (code != 0 || twill__expired(own)) {
        if (call->options->discard)
            call->options->discard((void *)(uintptr_t)in, result, code, &task);
        return false;
    }
    if (call->out_size && result != call->out)
        memcpy(call->out, result, call->out_size);
    return true;
}

/* The chain, then the constant. Returns the call's status. */
static inline twill_status twill__timeout_fall_back(twill__timeout_call *call, twill_status status)
{
    twill_timeout_report *report = call->report;
    for (size_t k = 0; k < call->options->fallback_count; k++) {
        if (twill__timeout_cancelled(call) || twill__expired(call->until.deadline))
            break;
        if (twill__timeout_step(call, k)) {
            report->source = TWILL_FROM_FALLBACK;
            report->level = (unsigned)(k + 1);
            report->code = 0;
            return TWILL_OK;
        }
        if (!twill__books_here(call->books))
            return TWILL_FORKED;
    }
    if (twill__timeout_cancelled(call))
        return TWILL_CANCELLED; /* nobody wants the value */
    if (call->value) {
        if (call->out_size)
            memcpy(call->out, call->value, call->out_size);
        report->source = TWILL_FROM_VALUE;
    }
    return status;
}

/* ---- all of it ---- */

static inline bool twill__timeout_falls_back(const twill__timeout_call *call, twill_status status)
{
    return status != TWILL_OK && status != TWILL_CANCELLED && status != TWILL_CLOSED &&
           status != TWILL_FORKED && (status != TWILL_FAILED || call->options->fallback_on_failure);
}

static inline twill_status twill__timeout_do(twill__timeout_call *call)
{
    twill_status status;
    twill__timeout_hook(call);
    status = twill__timeout_admit(call);
    if (status == TWILL_OK)
        status = twill__timeout_primary(call);
    call->report->primary = status;
    if (twill__timeout_falls_back(call, status))
        status = twill__timeout_fall_back(call, status);
    return status;
}

/* The call is set up but for what follows from it; `timeout` bounds the primary. */
static inline twill_status twill__timeout_run(twill__timeout_call *call, twill_ns timeout)
{
    static const twill__call_table table = {twill__timeout_step_looks, NULL, NULL, NULL, NULL};
    const twill_run *run = &call->options->run;
    twill_status status = TWILL_INVALID;
    size_t bytes;
    call->head.table = &table;
    if (!call->fn || (call->in_size && !call->in) || (call->out_size && !call->out))
        return TWILL_INVALID;
    call->runners = 1 + (call->options->hedge_after ? (unsigned)call->options->max_hedges : 0);
    bytes = twill__timeout_bytes(call);
    if (!bytes)
        return TWILL_TOO_BIG;
    call->until.deadline = twill__nearer(call->until.deadline, run->until.deadline);
    call->deadline = twill__nearer(call->until.deadline, twill_within(timeout).deadline);
    call->task = (twill_task){SIZE_MAX, run->context, UINT_MAX, 0, NULL, {0, NULL}, NULL};
    twill__timeout_block_make(call, bytes);
    TWILL__GUARD_PUSH(twill__timeout_end, call);
    status = twill__timeout_do(call);
    twill__timeout_end(call);
    TWILL__GUARD_POP(0);
    return status;
}

#endif
