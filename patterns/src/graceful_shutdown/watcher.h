/* graceful_shutdown/watcher.h: the phases, and the thread that keeps their times. It runs no user
   code, so nothing can hold it up. */
#ifndef TWILL__GRACEFUL_SHUTDOWN_WATCHER_H
#define TWILL__GRACEFUL_SHUTDOWN_WATCHER_H

#include "graceful_shutdown/runner.h"

/* ---- phases ---- */

/* Under the lock: no window ends after the system has ended the process, and half of what is left
   is for what comes after it. True: one has become shorter. */
static inline bool twill__shutdown_hasten(twill_shutdown *shutdown, twill_ns now)
{
#if TWILL__CONSOLE
    twill_ns over = atomic_load_explicit(&shutdown->over_at, memory_order_seq_cst), half;
    if (!over || shutdown->told >= TWILL_SHUTDOWN_HOOKS)
        return false;
    if (over < shutdown->end)
        shutdown->end = over;
    half = now < shutdown->end ? now + (shutdown->end - now) / 2 : now;
    if (shutdown->told == TWILL_SHUTDOWN_DRAINING && shutdown->drain_end > over) {
        shutdown->drain_end = half;
        return true;
    }
    if (shutdown->told == TWILL_SHUTDOWN_CANCELLING && shutdown->cancel_end >= over) {
        shutdown->cancel_end = half;
        return true;
    }
#else
    (void)shutdown, (void)now;
#endif
    return false;
}

/* Under the lock: goes to the phase that it is time for; true: that was a new one, or its end is
   another one, and twill__shutdown_announce follows. An empty house ends a phase only once finish
   has been called: before that, the program may have work that it does not count. */
static inline bool twill__shutdown_step(twill_shutdown *shutdown, twill_ns now)
{
    twill_shutdown_phase before = shutdown->told;
    twill_shutdown_options *options = &shutdown->options;
    bool changed;
    if (!twill__shutdown_asked(shutdown))
        return false;
    if (shutdown->told == TWILL_SHUTDOWN_RUNNING) {
        /* published by `asked` */
        twill_ns at = atomic_load_explicit(&shutdown->asked_at, memory_order_relaxed);
        shutdown->told = TWILL_SHUTDOWN_DRAINING;
        shutdown->end = twill__instant_after(at, options->total);
        shutdown->drain_end = twill__instant_after(at, options->drain);
        twill__answer_all(&shutdown->waiters, TWILL_OK);
    }
    changed = twill__shutdown_hasten(shutdown, now);
    if (shutdown->told == TWILL_SHUTDOWN_DRAINING) {
        uint64_t inside =
            twill__work_inside(atomic_load_explicit(&shutdown->work, memory_order_seq_cst));
        if (now >= shutdown->drain_end ||
            atomic_load_explicit(&shutdown->hurry, memory_order_seq_cst) ||
            (shutdown->finishing && inside == 0)) {
            shutdown->after_drain =
                twill__work_inside(twill__work_advance(shutdown, TWILL_SHUTDOWN_CANCELLING));
            shutdown->told = TWILL_SHUTDOWN_CANCELLING;
            shutdown->cancel_end = twill__instant_after(now, options->cancel);
            if (shutdown->cancel_end > shutdown->end)
                shutdown->cancel_end = shutdown->end;
            changed |= twill__shutdown_hasten(shutdown, now);
        }
    }
    if (shutdown->told == TWILL_SHUTDOWN_CANCELLING && shutdown->finishing) {
        uint64_t inside =
            twill__work_inside(atomic_load_explicit(&shutdown->work, memory_order_seq_cst));
        if (now >= shutdown->cancel_end || inside == 0) {
            shutdown->after_cancel =
                twill__work_inside(twill__work_advance(shutdown, TWILL_SHUTDOWN_HOOKS));
            shutdown->told = TWILL_SHUTDOWN_HOOKS;
        }
    }
    changed |= shutdown->told != before;
    return changed;
}

/* Ends every wait below the token now; its hooks, user code, are the runner's. */
static inline void twill__shutdown_tell(twill_cancel *cancel, int reason)
{
    twill__token *token = twill__token_of(cancel);
    twill__token_lock(token);
    twill__tell(token, reason);
    twill__unlock(&token->lock);
}

/* Without the lock; what is told twice is heard once. */
static inline void twill__shutdown_announce(twill_shutdown *shutdown)
{
    int32_t asked = twill__shutdown_asked(shutdown);
    int reason = asked < 0 ? -asked : asked;
    twill_shutdown_phase told;
    twill__lock(&shutdown->lock);
    told = shutdown->told;
    twill__shutdown_rouse(shutdown);
    twill__shutdown_unlock(shutdown);
    twill__shutdown_tell(&shutdown->drain_token, reason); /* first, whoever comes first */
    if (told >= TWILL_SHUTDOWN_CANCELLING)
        twill__shutdown_tell(&shutdown->cancel_token, reason);
    /* finish may be parked on it; an odd word stays odd */
    atomic_fetch_add_explicit(&shutdown->pulse, 2, memory_order_seq_cst);
    twill__wake(&shutdown->pulse, 1);
}

/* ---- the watcher ---- */

/* Under the lock: when to look again; 0: when the bell rings. */
static inline twill_ns twill__shutdown_next(const twill_shutdown *shutdown, bool hard)
{
    twill_ns next = TWILL_FOREVER;
    if (shutdown->told == TWILL_SHUTDOWN_DRAINING)
        next = shutdown->drain_end;
    if (hard && shutdown->end < next)
        next = shutdown->end;
    return next == TWILL_FOREVER ? 0 : next;
}

static void twill__shutdown_watch(void *arg)
{
    twill_shutdown *shutdown = (twill_shutdown *)arg;
#if TWILL__SIGNALS
    bool quit;
    twill__lock(&shutdown->lock); /* until create has installed the handler, or has failed */
    quit = shutdown->quit;
    twill__shutdown_unlock(shutdown);
    /* where the program holds them off in all its threads, this one takes them */
    for (int number = 1; number < TWILL__SIGNAL_COUNT && !quit; number++)
        if (shutdown->kind[number])
            twill__signal_unblock(number);
#endif
    for (;;) { /* exit: quit, which destroy sets */
        twill_ns now = twill__clock_now(), next;
        int32_t stopper;
        bool changed, hard;
        twill__lock(&shutdown->lock);
        if (shutdown->quit) /* what comes now, destroy sees */
            break;
        changed = twill__shutdown_step(shutdown, now);
        if (twill__shutdown_has_todo(shutdown))
            twill__shutdown_rouse(shutdown);
        stopper = atomic_load_explicit(&shutdown->stopper, memory_order_seq_cst);
        hard = stopper && shutdown->told && !shutdown->options.no_hard_stop;
        next = twill__shutdown_next(shutdown, hard);
        twill__shutdown_unlock(shutdown);
        if (changed)
            twill__shutdown_announce(shutdown);
        if (hard && now >= shutdown->end)
            twill__signal_die(stopper, shutdown->options.exit_code);
        twill__runner_renew(shutdown, false);
        twill__bell_wait(&shutdown->bell, next);
    }
    twill__shutdown_unlock(shutdown);
}

#endif
