/* graceful_shutdown/runner.h: the thread that runs the user's code: on_phase, actions, hooks. */
#ifndef TWILL__GRACEFUL_SHUTDOWN_RUNNER_H
#define TWILL__GRACEFUL_SHUTDOWN_RUNNER_H

#include "graceful_shutdown/state.h"

/* ---- the lock ---- */

/* A destroyer waits until nobody is inside or on the way in: whoever sees that tells him. */
static inline void twill__shutdown_unlock(twill_shutdown *shutdown)
{
    twill__node *node = shutdown->destroyer;
    if (node && !shutdown->waiters.first && !shutdown->firing &&
        !twill__lock_wanted(&shutdown->lock)) {
        _Atomic uint32_t *word = &node->word;
        shutdown->destroyer = NULL;
        /* pairs with twill__await */
        atomic_fetch_or_explicit(word, TWILL__GRANTED, memory_order_acq_rel);
        twill__unlock(&shutdown->lock);
        twill__wake(word, 1);
        return;
    }
    twill__unlock(&shutdown->lock);
}

/* ---- user code ---- */

/* Whether the calling thread is in user code of ours: then a wait for us would never end. */
static inline bool twill__shutdown_inside(twill_shutdown *shutdown)
{
    uint64_t me = twill__thread_number();
    bool inside;
    twill__lock(&shutdown->lock);
    /* relaxed: only a thread's own number can match */
    inside = shutdown->inline_thread == me ||
             (shutdown->runner &&
              atomic_load_explicit(&shutdown->runner->number, memory_order_relaxed) == me);
    twill__shutdown_unlock(shutdown);
    return inside;
}

static inline twill_task twill__shutdown_task(void *context, size_t index, twill_ns deadline,
                                              twill_cancel *token)
{
    twill_task task = {index, context, UINT_MAX, 0, NULL, {deadline, token}, NULL};
    if (deadline == TWILL_FOREVER)
        task.until.deadline = 0;
    return task;
}

/* Under the lock: the action to call next, or action_count. Actions end where the hooks begin. */
static inline size_t twill__shutdown_due_action(const twill_shutdown *shutdown)
{
    size_t i = 0, count = shutdown->options.action_count;
    while (i < count && (shutdown->told >= TWILL_SHUTDOWN_HOOKS ||
                         !atomic_load_explicit(&shutdown->raised[shutdown->actions[i].signal],
                                               memory_order_seq_cst)))
        i++;
    return i;
}

static inline bool twill__shutdown_has_todo(const twill_shutdown *shutdown)
{
    return shutdown->news < shutdown->told ||
           twill__shutdown_due_action(shutdown) < shutdown->options.action_count ||
           (shutdown->job.hook && !shutdown->job.taken);
}

/* What a phase brings: its token's hooks, then on_phase. The waits were told long before. Called
   with the lock held, left without. Hooks of tokens must return, and destroy waits for them; from
   on_phase on the object may be gone. */
static inline void twill__shutdown_enter_phase(twill_shutdown *shutdown, twill__runner *runner,
                                               twill_shutdown_phase phase)
{
    int32_t asked = twill__shutdown_asked(shutdown);
    int reason = asked < 0 ? -asked : asked;
    void (*on_phase)(twill_shutdown_phase, int, const twill_task *) = shutdown->options.on_phase;
    twill_task task =
        twill__shutdown_task(shutdown->options.context, SIZE_MAX, shutdown->end, NULL);
    shutdown->firing++;
    twill__unlock(&shutdown->lock);
    if (phase == TWILL_SHUTDOWN_DRAINING)
        twill_cancel_fire(&shutdown->drain_token, reason);
    else if (phase == TWILL_SHUTDOWN_CANCELLING)
        twill_cancel_fire(&shutdown->cancel_token, reason);
    twill__lock(&shutdown->lock);
    shutdown->firing--;
    /* relaxed: abandoned a moment later is as if in on_phase */
    if (runner && atomic_load_explicit(&runner->state, memory_order_relaxed) != TWILL__RUNNER_BUSY)
        on_phase = NULL;
    twill__shutdown_unlock(shutdown);
    if (on_phase)
        on_phase(phase, reason, &task);
}

/* Called and left with the lock held; false: the runner was abandoned meanwhile, and neither lock
   nor object is his any more: nothing of it is read once the lock is gone. `runner` NULL: in the
   caller's thread, and there is no job. */
static inline bool twill__shutdown_do(twill_shutdown *shutdown, twill__runner *runner)
{
    size_t i = twill__shutdown_due_action(shutdown);
    uint32_t busy = TWILL__RUNNER_BUSY;
    int code = 0;
    bool hook = false;
    if (runner) /* under the lock; who abandons sees it by his CAS */
        atomic_store_explicit(&runner->state, TWILL__RUNNER_BUSY, memory_order_relaxed);
    if (shutdown->news < shutdown->told) {
        shutdown->news = (twill_shutdown_phase)(shutdown->news + 1);
        twill__shutdown_enter_phase(shutdown, runner, shutdown->news);
    } else if (i < shutdown->options.action_count) {
        twill_signal_action action = shutdown->actions[i];
        twill_task task = twill__shutdown_task(action.context, i, 0, &shutdown->cancel_token);
        /* before the call: a signal during it brings another one. An exchange, since it takes off
           what came after the look, too: what was before that signal, the call is to see */
        (void)atomic_exchange_explicit(&shutdown->raised[action.signal], 0, memory_order_seq_cst);
        twill__unlock(&shutdown->lock);
        action.fn(action.signal, &task);
    } else {
        const twill__shutdown_job *job = &shutdown->job;
        twill_task task =
            twill__shutdown_task(job->hook->context, job->index, job->until, &runner->token);
        twill_shutdown_fn *fn = job->hook->fn;
        shutdown->job.taken = hook = true;
        twill__unlock(&shutdown->lock);
        code = fn(&task);
    }
    /* acq_rel: pairs with the CAS of who abandons; the first decides */
    if (runner &&
        !atomic_compare_exchange_strong_explicit(&runner->state, &busy, TWILL__RUNNER_IDLE,
                                                 memory_order_acq_rel, memory_order_acquire))
        return false;
    twill__lock(&shutdown->lock);
    if (hook) {
        shutdown->job.code = code;
        shutdown->job.done = true;
    }
    return true;
}

/* ---- the thread ---- */

/* Under the lock. */
static inline void twill__shutdown_rouse(twill_shutdown *shutdown)
{
    twill__grant_all(&shutdown->idle);
}

/* Under the lock: finish waits until the runner has nothing to do, or is gone. */
static inline void twill__shutdown_settled(twill_shutdown *shutdown)
{
    twill__node *node = shutdown->settlers.first;
    if (node) {
        _Atomic uint32_t *word = &node->word;
        if (twill__grant(&shutdown->settlers, node))
            twill__wake(word, 1);
    }
}

/* The record is the abandoned thread's own, once he who abandons has let go of it. */
static inline void twill__runner_part(twill__runner *runner)
{
    /* acquire: pairs with the release in twill__shutdown_abandon */
    while (atomic_load_explicit(&runner->state, memory_order_acquire) != TWILL__RUNNER_ABANDONED)
        twill__yield(); /* ends: he has one step to do */
    TWILL_FREE(runner);
}

static void twill__runner_gone(void *arg) /* user code ends this thread */
{
    twill__runner *runner = (twill__runner *)arg;
    twill_shutdown *shutdown = runner->shutdown;
    uint32_t busy = TWILL__RUNNER_BUSY;
    /* as in twill__shutdown_do */
    if (!atomic_compare_exchange_strong_explicit(&runner->state, &busy, TWILL__RUNNER_GONE,
                                                 memory_order_acq_rel, memory_order_acquire)) {
        twill__runner_part(runner);
        return;
    }
    twill__lock(&shutdown->lock);
    if (shutdown->job.hook && shutdown->job.taken)
        shutdown->job.lost = true;
    twill__shutdown_settled(shutdown);
    twill__bell_ring(&shutdown->bell); /* the watcher starts another */
    twill__shutdown_unlock(shutdown);
}

/* False: abandoned. */
static inline bool twill__runner_loop(twill__runner *runner)
{
    twill_shutdown *shutdown = runner->shutdown;
    twill__lock(&shutdown->lock);
    for (;;) { /* exit: quit, which destroy sets */
        twill__node me;
        if (twill__shutdown_has_todo(shutdown)) { /* also at the end: what came in time is served */
            if (!twill__shutdown_do(shutdown, runner))
                return false;
            continue;
        }
        twill__shutdown_settled(shutdown);
        if (shutdown->quit)
            break;
        twill__node_init(&me);
        twill__list_append(&shutdown->idle, &me);
        twill__shutdown_unlock(shutdown);
        twill__await(&me);
        twill__lock(&shutdown->lock);
    }
    twill__shutdown_unlock(shutdown);
    return true;
}

static void twill__runner_main(void *arg)
{
    twill__runner *runner = (twill__runner *)arg;
    bool ours = true;
    /* relaxed: see twill__shutdown_inside */
    atomic_store_explicit(&runner->number, twill__thread_number(), memory_order_relaxed);
    TWILL__GUARD_PUSH(twill__runner_gone, runner);
    ours = twill__runner_loop(runner);
    TWILL__GUARD_POP(0);
    if (!ours)
        twill__runner_part(runner);
}

/* A thread of ours takes no signals, but those that it asks for. */
static inline bool twill__shutdown_thread(twill__thrd *thread, void (*fn)(void *), void *arg,
                                          const char *name)
{
    twill__signal_mask mask;
    bool started;
    memset(thread, 0, sizeof *thread);
    thread->fn = fn;
    thread->arg = arg;
    thread->cpu = UINT_MAX;
    twill__thread_name(thread, name);
    twill__signals_hold(&mask);
    started = twill__thread_start(thread);
    twill__signals_restore(&mask);
    return started;
}

static inline twill_status twill__runner_start(twill_shutdown *shutdown)
{
    twill__runner *runner = (twill__runner *)TWILL_MALLOC(sizeof *runner);
    if (!runner)
        return TWILL_NO_MEMORY;
    memset(runner, 0, sizeof *runner);
    runner->shutdown = shutdown;
    twill__lock(&shutdown->lock);
    shutdown->runner = runner; /* before it runs user code, which may ask who it is */
    twill__shutdown_unlock(shutdown);
    if (twill__shutdown_thread(&runner->thread, twill__runner_main, runner, "twill-hooks"))
        return TWILL_OK;
    twill__lock(&shutdown->lock);
    shutdown->runner = NULL;
    twill__shutdown_unlock(shutdown);
    TWILL_FREE(runner);
    return TWILL_NO_THREAD;
}

/* Another runner in place of one whose thread has ended, or of none, if there is something to do,
   or for finish. Nothing to do, or the other one does it already: returns at once. During finish
   only finish takes runners away. */
static inline void twill__runner_renew(twill_shutdown *shutdown, bool finish)
{
    twill__runner *runner;
    bool wanted;
    twill__lock(&shutdown->lock);
    runner = shutdown->runner;
    /* relaxed: it is joined before anything of it is read */
    wanted =
        !shutdown->starting && shutdown->finishing == finish &&
        (runner ? atomic_load_explicit(&runner->state, memory_order_relaxed) == TWILL__RUNNER_GONE
                : finish || twill__shutdown_has_todo(shutdown));
    if (wanted) {
        shutdown->starting = true;
        shutdown->runner = NULL;
    }
    twill__shutdown_unlock(shutdown);
    if (!wanted)
        return;
    if (runner) {
        twill__thread_join(&runner->thread);
        TWILL_FREE(runner);
    }
    (void)twill__runner_start(shutdown);
    twill__lock(&shutdown->lock);
    shutdown->starting = false;
    twill__shutdown_settled(shutdown);
    twill__shutdown_unlock(shutdown);
}

/* False: it has come back in the meantime. */
static inline bool twill__shutdown_abandon(twill_shutdown *shutdown)
{
    twill__runner *runner;
    uint32_t busy = TWILL__RUNNER_BUSY;
    twill__lock(&shutdown->lock);
    while (shutdown->starting) { /* ends: the watcher has a few steps to do */
        twill__shutdown_unlock(shutdown);
        twill__yield();
        twill__lock(&shutdown->lock);
    }
    runner = shutdown->runner; /* only finish changes it now */
    twill__shutdown_unlock(shutdown);
    /* acq_rel: pairs with the CAS in twill__shutdown_do */
    if (!runner ||
        !atomic_compare_exchange_strong_explicit(&runner->state, &busy, TWILL__RUNNER_PARTING,
                                                 memory_order_acq_rel, memory_order_relaxed))
        return false;
    twill__lock(&shutdown->lock);
    shutdown->runner = NULL;
    shutdown->hung++;
    twill__shutdown_unlock(shutdown);
    twill__thread_let_go(&runner->thread);
    /* release: the last access; pairs with twill__runner_part */
    atomic_store_explicit(&runner->state, TWILL__RUNNER_ABANDONED, memory_order_release);
    return true;
}

#endif
