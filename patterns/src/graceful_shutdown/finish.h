/* graceful_shutdown/finish.h: the end, step by step: work, hooks, report. */
#ifndef TWILL__GRACEFUL_SHUTDOWN_FINISH_H
#define TWILL__GRACEFUL_SHUTDOWN_FINISH_H

#include "graceful_shutdown/watcher.h"

/* A hook that obeys its limit needs a moment to come back; only then is it passed over. */
#define TWILL__HOOK_GRACE   TWILL_MS(10)
/* Runners that may hang, or end their threads, before the hooks: each takes with it an action that
   ran, or the news of one of three phases. */
#define TWILL__RUNNERS_LOST 4

/* ---- work ---- */

/* Through DRAINING and CANCELLING. The one who leaves last touches nothing of ours after his
   fetch_or on `pulse`, and we do not go on before that: the object may be freed soon. */
static inline void twill__shutdown_drain(twill_shutdown *shutdown)
{
    uint64_t work;
    bool armed;
    (void)twill__shutdown_asked(shutdown); /* shuts the door, if who asks has not come to it */
    work = atomic_fetch_or_explicit(&shutdown->work, TWILL__WORK_WAITED, memory_order_seq_cst);
    armed = twill__work_inside(work) > 0; /* and nobody comes in any more */
    for (;;) {                            /* exit: HOOKS, at the end of the windows at the latest */
        /* before the look at the work: who changes that later changes this, too */
        uint32_t pulse = atomic_load_explicit(&shutdown->pulse, memory_order_seq_cst);
        bool changed;
        twill_ns until;
        twill_shutdown_phase told;
        twill__lock(&shutdown->lock);
        changed = twill__shutdown_step(shutdown, twill__clock_now());
        told = shutdown->told;
        until = told == TWILL_SHUTDOWN_DRAINING ? shutdown->drain_end : shutdown->cancel_end;
        twill__shutdown_unlock(shutdown);
        if (changed)
            twill__shutdown_announce(shutdown);
        if (told >= TWILL_SHUTDOWN_HOOKS)
            break;
        if (!changed)
            twill__park(&shutdown->pulse, pulse, until);
    }
    work = atomic_fetch_and_explicit(&shutdown->work, ~TWILL__WORK_WAITED, memory_order_seq_cst);
    if (!armed || twill__work_inside(work) > 0)
        return;
    for (;;) { /* ends: the last one out is at the step between the two words */
        uint32_t pulse = atomic_load_explicit(&shutdown->pulse, memory_order_seq_cst);
        if (pulse & 1)
            return;
        twill__park(&shutdown->pulse, pulse, 0);
    }
}

/* ---- the runner, seen from finish ---- */

/* Waits until the runner has nothing left to do, its present hook included. False: the instant has
   come first. Without a runner: true. */
static inline bool twill__shutdown_settle(twill_shutdown *shutdown, twill_ns until)
{
    twill__node me;
    twill_status status;
    twill__lock(&shutdown->lock);
    for (;;) { /* exit: settled, or the deadline */
        const twill__runner *runner = shutdown->runner;
        const twill__shutdown_job *job = &shutdown->job;
        /* acquire: pairs with the CAS by which the runner comes back from user code */
        uint32_t state = runner ? atomic_load_explicit(&runner->state, memory_order_acquire)
                                : TWILL__RUNNER_GONE;
        bool open = job->hook && job->taken && !job->done && !job->lost; /* soon to be told */
        if (!shutdown->starting && !open &&
            (state == TWILL__RUNNER_GONE ||
             (state == TWILL__RUNNER_IDLE && !twill__shutdown_has_todo(shutdown))))
            break;
        twill__node_init(&me);
        twill__list_append(&shutdown->settlers, &me);
        twill__shutdown_unlock(shutdown);
        status = twill__wait(&me, (twill_until){until, NULL});
        twill__lock(&shutdown->lock);
        if (status != TWILL_OK) {
            twill__list_remove(&shutdown->settlers, &me);
            twill__shutdown_unlock(shutdown);
            return false;
        }
    }
    twill__shutdown_unlock(shutdown);
    return true;
}

/* How a hook ended: into the report. */
static inline void twill__shutdown_note(twill_shutdown *shutdown, const twill_shutdown_step *step)
{
    twill_shutdown_report *report = &shutdown->report;
    if (report->hooks < shutdown->options.steps_capacity)
        shutdown->options.steps[report->steps_stored++] = *step;
    report->hooks++;
    report->hooks_failed += step->status == TWILL_FAILED || step->status == TWILL_LOST;
    report->hooks_overran += step->status == TWILL_TIMEOUT;
}

/* User code in the thread of finish has ended that thread: another one may go on. */
static void twill__shutdown_finisher_gone(void *arg)
{
    twill_shutdown *shutdown = (twill_shutdown *)arg;
    twill_shutdown_step step = {NULL, TWILL_LOST, 0, 0};
    twill__lock(&shutdown->lock);
    shutdown->inline_thread = 0;
    shutdown->finishing = false;
    if (shutdown->job.hook) {
        step.name = shutdown->job.hook->name;
        step.wall = twill__clock_now() - shutdown->job.until;
        twill__shutdown_note(shutdown, &step);
    }
    shutdown->job.hook = NULL;
    twill__shutdown_unlock(shutdown);
}

/* What is to be done, in this thread: `hook`, or, NULL, what the phases bring. */
static inline void twill__shutdown_inline(twill_shutdown *shutdown, const twill_task *task,
                                          const twill__shutdown_hook *hook, int *code)
{
    TWILL__GUARD_PUSH(twill__shutdown_finisher_gone, shutdown);
    twill__lock(&shutdown->lock);
    shutdown->inline_thread = twill__thread_number();
    while (!hook && shutdown->news < shutdown->told)
        (void)twill__shutdown_do(shutdown, NULL);
    twill__shutdown_unlock(shutdown);
    if (hook)
        *code = hook->fn(task);
    twill__lock(&shutdown->lock);
    shutdown->inline_thread = 0;
    twill__shutdown_unlock(shutdown);
    TWILL__GUARD_POP(0);
}

/* An instant that leaves three quarters of what is left. */
static inline twill_ns twill__shutdown_share(const twill_shutdown *shutdown)
{
    twill_ns now = twill__clock_now(), left = shutdown->end - now;
    return shutdown->end == TWILL_FOREVER ? TWILL_FOREVER : now + (left > 0 ? left / 4 : 0);
}

/* A runner that is free, at the cost of those that do not come back in time: until then, or in a
   share of what is left. False: there is none to be had, and what the phases brought has been done
   here. */
static inline bool twill__shutdown_ready(twill_shutdown *shutdown, twill_ns until)
{
    bool there;
    for (int lost = 0; lost <= TWILL__RUNNERS_LOST; lost++) { /* or there is nothing to be done */
        twill__runner_renew(shutdown, true);
        if (twill__shutdown_settle(shutdown, until) || lost == TWILL__RUNNERS_LOST)
            continue;
        (void)twill__shutdown_abandon(shutdown);
        until = twill__shutdown_share(shutdown);
    }
    twill__lock(&shutdown->lock);
    there = shutdown->runner != NULL;
    twill__shutdown_unlock(shutdown);
    if (!there)
        twill__shutdown_inline(shutdown, NULL, NULL, NULL);
    return there;
}

/* ---- hooks ---- */

/* The present job is over, or out of our hands: how did it end? */
static inline twill_status twill__shutdown_job_end(twill_shutdown *shutdown, bool in_time,
                                                   int *code)
{
    twill__shutdown_job *job = &shutdown->job;
    twill_status status = TWILL_TIMEOUT;
    if (!in_time) {
        bool hangs;
        twill__lock(&shutdown->lock);
        hangs = job->taken; /* else its thread never came to it: nobody will run it */
        if (!hangs)
            job->hook = NULL;
        twill__shutdown_unlock(shutdown);
        if (hangs && !twill__shutdown_abandon(shutdown)) /* it is just coming back */
            in_time = twill__shutdown_settle(shutdown, TWILL_FOREVER);
    }
    twill__lock(&shutdown->lock);
    if (in_time && job->lost) {
        status = TWILL_LOST;
    } else if (in_time && job->done) { /* else its thread ended before it came to it */
        status = job->code ? TWILL_FAILED : TWILL_OK;
        *code = job->code;
    }
    job->hook = NULL;
    twill__shutdown_unlock(shutdown);
    return status;
}

static inline twill_status twill__shutdown_run_guarded(twill_shutdown *shutdown,
                                                       twill__shutdown_hook *hook, size_t index,
                                                       twill_ns until, twill_ns over, int *code)
{
    twill_cancel *token = &shutdown->runner->token; /* the runner is idle: the token is ours */
    bool in_time;
    twill_cancel_detach(token);
    twill_cancel_init(token, NULL);
    twill__lock(&shutdown->lock);
    shutdown->job = (twill__shutdown_job){hook, index, until, false, false, false, 0};
    twill__shutdown_rouse(shutdown);
    twill__shutdown_unlock(shutdown);
    in_time = twill__shutdown_settle(shutdown, until);
    if (!in_time) {
        twill_cancel_fire(token, twill_shutdown_reason(shutdown));
        in_time = twill__shutdown_settle(shutdown, over);
    }
    return twill__shutdown_job_end(shutdown, in_time, code);
}

static inline twill_status twill__shutdown_run_unguarded(twill_shutdown *shutdown,
                                                         twill__shutdown_hook *hook, size_t index,
                                                         twill_ns until, int *code)
{
    twill_cancel token;
    twill_task task = twill__shutdown_task(hook->context, index, until, &token);
    twill_cancel_init(&token, NULL);
    twill__lock(&shutdown->lock);
    /* for twill__shutdown_finisher_gone, as the instant of its start; taken: for no runner */
    shutdown->job = (twill__shutdown_job){hook, index, twill__clock_now(), true, false, false, 0};
    twill__shutdown_unlock(shutdown);
    twill__shutdown_inline(shutdown, &task, hook, code);
    twill__lock(&shutdown->lock);
    shutdown->job.hook = NULL;
    twill__shutdown_unlock(shutdown);
    twill_cancel_detach(&token);
    return *code ? TWILL_FAILED : TWILL_NO_THREAD;
}

static inline void twill__shutdown_run_hook(twill_shutdown *shutdown, twill__shutdown_hook *hook)
{
    twill_shutdown_report *report = &shutdown->report;
    twill_shutdown_step step = {hook->name, TWILL_TIMEOUT, 0, 0};
    twill_ns start = twill__clock_now(), until = shutdown->end, over;
    if (hook->limit && twill__instant_after(start, hook->limit) < until)
        until = twill__instant_after(start, hook->limit);
    over = twill__instant_after(until, TWILL__HOOK_GRACE);
    if (over > shutdown->end)
        over = shutdown->end;
    if (over != TWILL_FOREVER && over - until < TWILL__HOOK_GRACE &&
        over - start > 2 * TWILL__HOOK_GRACE)
        until = over - TWILL__HOOK_GRACE;
    if (start < shutdown->end) {
        if (twill__shutdown_ready(shutdown, over))
            step.status =
                twill__shutdown_run_guarded(shutdown, hook, report->hooks, until, over, &step.code);
        else
            step.status =
                twill__shutdown_run_unguarded(shutdown, hook, report->hooks, until, &step.code);
        step.wall = twill__clock_now() - start;
    } /* else the total is over: it does not run, and the report says so */
    twill__shutdown_note(shutdown, &step);
}

static inline void twill__shutdown_run_hooks(twill_shutdown *shutdown)
{
    /* on_phase and an action that runs have a quarter of what is left to come back */
    (void)twill__shutdown_ready(shutdown, twill__shutdown_share(shutdown));
    for (;;) { /* exit: none left, and none is added from HOOKS on */
        twill__shutdown_hook *hook;
        twill__lock(&shutdown->lock);
        hook = shutdown->hooks;
        if (hook) {
            shutdown->hooks = hook->earlier;
            hook->earlier = shutdown->ran; /* its name is in the user's steps */
            shutdown->ran = hook;
        }
        twill__shutdown_unlock(shutdown);
        if (!hook)
            return;
        twill__shutdown_run_hook(shutdown, hook);
    }
}

/* ---- the report ---- */

static inline void twill__shutdown_stopped(twill_shutdown *shutdown)
{
    twill_shutdown_report *report = &shutdown->report;
    uint64_t total = twill__work_total(shutdown);
    int64_t asked_at = atomic_load_explicit(&shutdown->asked_at, memory_order_relaxed);
    twill__lock(&shutdown->lock);
    report->reason = twill_shutdown_reason(shutdown);
    report->entered = (size_t)total;
    report->left_in_drain = (size_t)(total - shutdown->after_drain);
    report->left_in_cancel = (size_t)(shutdown->after_drain - shutdown->after_cancel);
    report->stuck = (size_t)shutdown->after_cancel;
    TWILL_ASSERT(report->entered == report->left_in_drain + report->left_in_cancel + report->stuck);
    report->status = report->hooks_failed                                       ? TWILL_FAILED
                     : report->stuck || report->hooks_overran || shutdown->hung ? TWILL_TIMEOUT
                                                                                : TWILL_OK;
    report->wall = twill__clock_now() - asked_at;
    shutdown->told = TWILL_SHUTDOWN_STOPPED;
    (void)twill__work_advance(shutdown, TWILL_SHUTDOWN_STOPPED);
    shutdown->finished = true;
    twill__shutdown_rouse(shutdown);
    twill__shutdown_unlock(shutdown);
}

/* on_phase(STOPPED) comes before finish returns, unless it hangs. */
static inline void twill__shutdown_last_word(twill_shutdown *shutdown)
{
    twill_ns until = twill__clock_now() + TWILL__HOOK_GRACE;
    if (until < shutdown->end)
        until = shutdown->end;
    if (shutdown->options.on_phase) {
        twill__runner_renew(shutdown, true);
        if (!shutdown->runner)
            twill__shutdown_inline(shutdown, NULL, NULL, NULL);
        else if (!twill__shutdown_settle(shutdown, until))
            (void)twill__shutdown_abandon(shutdown);
    }
}

#endif
