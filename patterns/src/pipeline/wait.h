/* wait.h: those outside: pushes, joins, destroy. */
#ifndef TWILL__PIPELINE_WAIT_H
#define TWILL__PIPELINE_WAIT_H

#include "pipeline/hand.h"

static inline void twill__flow_waiter_init(twill__flow_waiter *waiter, const void *item,
                                           twill_until until)
{
    waiter->item = item;
    waiter->until = until;
    waiter->thread = twill__thread_number();
    waiter->told = waiter->inside = waiter->stays = false;
    waiter->helps = true;
}

/* Waits in `list`, the lock held. True: answered, in node.answer, and the pipeline is not touched
   again. False: the lock is held again; *over: TIMEOUT, CANCELLED, or OK: look again. */
static inline bool twill__flow_wait(twill__flow *p, twill__flow_turn *turn, twill__list *list,
                                    twill__flow_waiter *waiter, twill_until until,
                                    twill_status *over)
{
    twill_ns sooner = waiter->helps ? twill__nearer(until.deadline, p->due) : until.deadline;
    twill_status status;
    twill__node_init(&waiter->node);
    waiter->told = false;
    twill__list_append(list, &waiter->node);
    p->blocked_inside += waiter->inside;
    twill__flow_exit(p, turn, TWILL__FLOW_EXIT_CALLER);
    status = twill__wait_sooner(&waiter->node, sooner, until);
    if (status == TWILL_OK && waiter->node.answer != TWILL__FLOW_AGAIN_WORK)
        return true;
    twill__flow_enter(p, turn);
    twill__list_remove(list, &waiter->node);
    p->blocked_inside -= waiter->inside;
    *over = status == TWILL_EMPTY ? TWILL_OK : status;
    return false;
}

/* ---- callers that work ---- */

/* Sends the workers home; `closing` is ours. What nobody can run any more is dropped here. */
static inline void twill__flow_send_home(twill__flow *p)
{
    twill__flow_hand *spare = &p->hand[p->np];
    twill__flow_turn turn;
    twill_task task = twill__flow_task(p, SIZE_MAX, NULL);
    if (p->hooked)
        twill_cancel_remove_hook(p->run.until.cancel, &p->hook);
    if (!p->sent) { /* else a callback has ended the thread of who did */
        twill_report report = {.status = TWILL_OK};
        twill__crew_close(&p->crew, &report);
        if (!twill__flow_here(p))
            return;
        twill__flow_enter(p, &turn); /* somebody may look at the figures */
        p->crew_report = report;
        p->sent = true;
        twill__flow_exit(p, &turn, TWILL__FLOW_EXIT_WORKER);
    }
    twill__flow_hand_work(p, spare, &task); /* finds something only when it was halted */
    if (!twill__flow_here(p))
        return;
    twill__flow_enter(p, &turn);
    if (p->run.errors_capacity)
        twill__heap_sort(p->run.errors, p->errors_count);
    p->hooked = false;
    p->crew_closed = true;
    twill__flow_exit(p, &turn, TWILL__FLOW_EXIT_WORKER);
}

typedef struct twill__flow_turnout { /* what the clean-up needs when a callback ends the thread */
    twill__flow *p;
    twill__flow_waiter *waiter;
    bool closes;
    bool served;
} twill__flow_turnout;

/* A callback has ended the thread: nobody shall wait for it, and another one may close. */
static inline void twill__flow_turnout_ended(void *turnout_)
{
    twill__flow_turnout *turnout = (twill__flow_turnout *)turnout_;
    twill__flow *p = turnout->p;
    twill__flow_turn turn;
    if (!twill__flow_here(p))
        return;
    twill__flow_enter(p, &turn);
    twill__list_remove(&p->helpers, &turnout->waiter->node);
    p->inside -= turnout->waiter->stays;
    if (turnout->closes) {
        twill__flow_hand *spare =
            &p->hand[p->np]; /* what it has dropped is gone, the rest goes back */
        if (spare->active)
            twill__flow_publish_all(p, spare, spare->at + 1);
        p->closing = p->crew_closed;
    }
    twill__flow_exit(p, &turn, TWILL__FLOW_EXIT_CALLER);
}

/* noinline: as twill__take_part */
static __attribute__((noinline)) void twill__flow_turnout_run(twill__flow_turnout *turnout)
{
    TWILL__GUARD_PUSH(twill__flow_turnout_ended, turnout);
    if (turnout->closes)
        twill__flow_send_home(turnout->p);
    else
        turnout->served = twill__crew_help(&turnout->p->crew);
    TWILL__GUARD_POP(0);
}

/* The caller is at work, the lock held on both sides. In a forked child the lock is nobody's. */
static inline void twill__flow_turn_out(twill__flow *p, twill__flow_turn *turn,
                                        twill__flow_waiter *waiter, bool closes)
{
    twill__flow_turnout turnout = {p, waiter, closes, true};
    twill__node_init(&waiter->node);
    twill__list_append(&p->helpers, &waiter->node);
    twill__flow_exit(p, turn, TWILL__FLOW_EXIT_CALLER);
    twill__flow_turnout_run(&turnout);
    if (!twill__flow_here(p))
        return;
    if (!turnout.served)
        twill__yield(); /* somebody else has it, or has not given back his number yet */
    twill__flow_enter(p, turn);
    twill__list_remove(&p->helpers, &waiter->node);
}

/* The calling thread works, the lock held on both sides, if there is work. False: it cannot. */
static inline bool twill__flow_help(twill__flow *p, twill__flow_turn *turn,
                                    twill__flow_waiter *waiter)
{
    if (!waiter->helps || p->closing || !twill__flow_any(p) ||
        p->working + p->starting + p->refused >= p->np) /* no number is free for us */
        return false;
    twill__flow_turn_out(p, turn, waiter, false);
    return true;
}

/* ---- push ---- */

static inline twill_status twill__flow_push(twill__flow *p, const void *item, twill_until until,
                                            bool wait)
{
    twill__flow_waiter waiter;
    twill__flow_turn turn;
    twill_status over = TWILL_OK;
    twill__flow_waiter_init(&waiter, item, until);
    waiter.inside = twill__crew_inside(&p->crew);
    waiter.helps = !waiter.inside;
    twill__flow_enter(p, &turn);
    for (;;) { /* exit: an answer; each turn is work done or another's progress */
        twill__flow_poll(p);
        if (!p->free_count && !p->shut) { /* what is done, and not shown yet */
            twill__flow_sweep(p);
            twill__flow_settle(p, &turn);
        }
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
        if (over == TWILL_OK && waiter.inside && twill__flow_stuck(p, p->blocked_inside + 1))
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

typedef enum twill__flow_joiner {
    TWILL__FLOW_JOINS, /* comes from another turn, counted in `inside` */
    TWILL__FLOW_STOPS, /* goes on to other turns, and stays counted */
    TWILL__FLOW_OWNS   /* the destroyer, or the one call: nobody else frees it */
} twill__flow_joiner;

/* Helps, and waits until all has ended. OK, FAILED, CANCELLED, TIMEOUT: how it ended; or, *early,
   CANCELLED or TIMEOUT: `until` was over first. */
static inline twill_status twill__flow_join(twill__flow *p, twill_until until,
                                            twill__flow_joiner who, bool *early)
{
    twill__flow_waiter waiter;
    twill__flow_turn turn;
    twill_status over = TWILL_OK;
    twill__flow_waiter_init(&waiter, NULL, until);
    waiter.stays = who == TWILL__FLOW_STOPS;
    *early = false;
    twill__flow_enter(p, &turn);
    p->inside -= who == TWILL__FLOW_JOINS;
    for (;;) { /* exit: as above */
        twill__flow_poll(p);
        twill__flow_settle(p, &turn);
        if (p->crew_closed) {
            over = twill__flow_status(p);
            break;
        }
        if ((p->ended || p->dead) && !p->closing) {
            p->closing = true;
            twill__flow_turn_out(p, &turn, &waiter, true);
            if (!twill__flow_here(p))
                return TWILL_FORKED;
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
    if (!twill__flow_deserted(p)) { /* all have their answers: whoever was here last saw to that */
        twill__node_init(&node);
        p->destroyer = &node;
        twill__unlock(&p->lock);
        twill__await(&node);
        twill__flow_enter(p, &turn); /* whoever told us has left the section now */
    }
    twill__flow_exit(p, &turn, TWILL__FLOW_EXIT_WORKER);
    /* acquire: pairs with the release in twill__flow_exit. exit: they make a few steps */
    while (atomic_load_explicit(&p->leaving, memory_order_acquire))
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
    twill__flow_send_home(p);
}

#endif
