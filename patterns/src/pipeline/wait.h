/* wait.h: those outside: pushes, joins, destroy. */
#ifndef TWILL__PIPELINE_WAIT_H
#define TWILL__PIPELINE_WAIT_H

#include "pipeline/hand.h"

/* Waits in `list`, the lock held. True: answered, in node.answer, and the pipeline is not touched
   again. False: the lock is held again; *over: TIMEOUT, CANCELLED, or OK: look again. */
static inline bool twill__flow_wait(twill__flow *p, twill__flow_turn *turn, twill__list *list,
                                    twill__flow_waiter *waiter, twill_until until,
                                    twill_status *over)
{
    twill_until soon = until;
    bool early =
        waiter->helps && p->due && (twill__no_deadline(until.deadline) || p->due < until.deadline);
    twill_status status;
    if (early)
        soon.deadline = p->due;
    twill__node_init(&waiter->node);
    waiter->told = false;
    twill__list_append(list, &waiter->node);
    p->blocked_inside += waiter->inside;
    twill__flow_exit(p, turn, TWILL__FLOW_EXIT_CALLER);
    status = twill__wait(&waiter->node, soon);
    if (status == TWILL_OK && waiter->node.answer != TWILL__FLOW_AGAIN_WORK)
        return true;
    twill__flow_enter(p, turn);
    twill__list_remove(list, &waiter->node);
    p->blocked_inside -= waiter->inside;
    if (status == TWILL_TIMEOUT && early && !twill__expired(until.deadline))
        status = TWILL_OK;
    if (status == TWILL_TIMEOUT && until.cancel && twill_cancel_fired(until.cancel))
        status = TWILL_CANCELLED;
    *over = status;
    return false;
}

/* The calling thread works, the lock held on both sides, if there is work. False: it cannot. */
static inline bool twill__flow_help(twill__flow *p, twill__flow_turn *turn,
                                    twill__flow_waiter *waiter)
{
    if (!waiter->helps || p->ended || p->closing || !twill__flow_any(p) ||
        p->working + p->starting + p->refused >= p->np) /* no number is free for us */
        return false;
    p->helping++;
    twill__flow_exit(p, turn, TWILL__FLOW_EXIT_CALLER);
    if (!twill__crew_help(&p->crew))
        twill__yield(); /* somebody else has it, or has not given back his number yet */
    if (!twill__flow_here(p))
        return true;
    twill__flow_enter(p, turn);
    p->helping--;
    return true;
}

/* ---- push ---- */

static inline twill_status twill__flow_push(twill__flow *p, const void *item, twill_until until,
                                            bool wait)
{
    twill__flow_waiter waiter;
    twill__flow_turn turn;
    twill_status over = TWILL_OK;
    waiter.item = item;
    waiter.inside = twill__crew_inside(&p->crew);
    waiter.helps = !waiter.inside;
    twill__flow_enter(p, &turn);
    for (;;) { /* exit: an answer; each turn is work done or another's progress */
        twill__flow_poll(p);
        if (p->shut) {
            over = TWILL_CLOSED;
            break;
        }
        if (p->free_count) { /* no pusher waits then, but those who look again themselves */
            twill__flow_accept(p, item);
            over = TWILL_OK;
            break;
        }
        if (over == TWILL_OK && !wait)
            over = TWILL_FULL;
        if (over == TWILL_OK && waiter.inside && p->working == p->blocked_inside + 1 &&
            (p->working == p->np || !twill__flow_any(p)))
            over = TWILL_DEADLOCK;
        if (over == TWILL_OK)
            over = twill__over(until);
        if (over != TWILL_OK)
            break;
        if (twill__flow_help(p, &turn, &waiter)) {
            if (!twill__flow_here(p))
                return TWILL_FORKED;
            continue;
        }
        if (twill__flow_wait(p, &turn, &p->pushers, &waiter, until, &over))
            return (twill_status)waiter.node.answer;
    }
    twill__flow_exit(p, &turn, TWILL__FLOW_EXIT_CALLER);
    return over;
}

/* ---- the end ---- */

/* Sends the workers home; `closing` is ours. What nobody can run any more is dropped here. */
static inline void twill__flow_send_home(twill__flow *p)
{
    twill__flow_hand *spare = &p->hand[p->np];
    twill__flow_turn turn;
    twill_task task = twill__flow_task(p, SIZE_MAX, NULL);
    if (p->hooked)
        twill_cancel_remove_hook(p->run.until.cancel, &p->hook);
    twill__crew_close(&p->crew, &p->crew_report);
    twill__flow_hand_work(p, spare, &task); /* finds something only when it was halted */
    twill__flow_enter(p, &turn);
    if (p->run.errors_capacity)
        twill__heap_sort(p->run.errors, p->errors_count);
    p->hooked = false;
    p->crew_closed = true;
    twill__flow_exit(p, &turn, TWILL__FLOW_EXIT_WORKER);
}

/* Helps, and waits until all has ended. OK, FAILED, CANCELLED, TIMEOUT: how it ended; or, *early,
   CANCELLED or TIMEOUT: `until` was over first. */
static inline twill_status twill__flow_join(twill__flow *p, twill_until until, bool *early)
{
    twill__flow_waiter waiter;
    twill__flow_turn turn;
    twill_status over = TWILL_OK;
    waiter.item = NULL;
    waiter.inside = false;
    waiter.helps = true;
    *early = false;
    twill__flow_enter(p, &turn);
    for (;;) { /* exit: as above */
        twill__flow_poll(p);
        twill__flow_settle(p, &turn);
        if (p->crew_closed) {
            over = twill__flow_status(p);
            break;
        }
        if ((p->ended || p->dead) && !p->closing) {
            p->closing = true;
            p->helping++;
            twill__flow_exit(p, &turn, TWILL__FLOW_EXIT_CALLER);
            twill__flow_send_home(p);
            twill__flow_enter(p, &turn);
            p->helping--;
            continue;
        }
        if (over == TWILL_OK && !p->ended)
            over = twill__over(until);
        if (over != TWILL_OK) {
            *early = true;
            break;
        }
        if (twill__flow_help(p, &turn, &waiter)) {
            if (!twill__flow_here(p))
                return TWILL_FORKED;
            continue;
        }
        if (twill__flow_wait(p, &turn, &p->joiners, &waiter, until, &over))
            return (twill_status)waiter.node.answer;
    }
    twill__flow_exit(p, &turn, TWILL__FLOW_EXIT_CALLER);
    return over;
}

/* Nothing more is begun. */
static inline void twill__flow_cancel(twill__flow *p, bool tell)
{
    twill__flow_turn turn;
    twill__flow_enter(p, &turn);
    if (!p->ended)
        twill__flow_halt(p, TWILL_CANCELLED, tell);
    twill__flow_exit(p, &turn, TWILL__FLOW_EXIT_CALLER);
}

/* A hook at the token of the run. */
static inline void twill__flow_hook(int reason, const twill_task *task)
{
    (void)reason;
    twill__flow_cancel((twill__flow *)task->context, false);
}

/* Waits until those who wait inside have left; then the memory may go. */
static inline void twill__flow_desert(twill__flow *p)
{
    twill__flow_turn turn;
    twill__node node;
    twill__flow_enter(p, &turn);
    twill__flow_settle(p, &turn);
    if (!twill__flow_deserted(p)) {
        twill__node_init(&node);
        p->destroyer = &node;
        twill__unlock(&p->lock);
        for (unsigned k = 0; k < turn.count; k++)
            twill__wake(turn.word[k], 1);
        twill__await(&node);
        twill__flow_enter(p, &turn); /* whoever told us has left the section now */
    }
    twill__flow_exit(p, &turn, TWILL__FLOW_EXIT_WORKER);
    while (atomic_load(&p->leaving)) /* exit: they make a bounded number of steps */
        twill__yield();
}

/* A callback ends the calling thread of a one-call form, or a destroy: all that is left ends here,
   without it. */
static inline void twill__flow_end_now(twill__flow *p)
{
    twill__flow_turn turn;
    twill__flow_enter(p, &turn);
    if (!p->ended)
        twill__flow_halt(p, 0, true);
    p->closing = true;
    twill__flow_exit(p, &turn, TWILL__FLOW_EXIT_CALLER);
    if (!p->crew_closed)
        twill__flow_send_home(p);
}

#endif
