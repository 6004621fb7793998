/* turn.h: a turn under the pipeline's lock, who waits for it, and how the stream is cut. */
#ifndef TWILL__PIPELINE_TURN_H
#define TWILL__PIPELINE_TURN_H

#include "engine/wakes.h"
#include "pipeline/burst.h"

typedef struct twill__flow_turn { /* whom to wake after it */
    twill__wakes wakes;
} twill__flow_turn;

static inline void twill__flow_enter(twill__flow *p, twill__flow_turn *turn)
{
    turn->wakes.count = 0;
    twill__lock_after(&p->lock, TWILL__FLOW_SPIN);
}

/* ---- the cut ---- */

/* Nothing from this key on is begun any more. Lower ones go on. */
static inline void twill__flow_lower(twill__flow *p, size_t key)
{
    p->shut = true;
    twill__lower(&p->limit, key);
}

/* Nothing at all is begun any more; tell: and those that run are told. */
static inline void twill__flow_halt(twill__flow *p, uint32_t why, bool tell)
{
    if (!p->over)
        p->over = why;
    /* relaxed: read under the lock, or as a hint */
    atomic_store_explicit(&p->halted, 1, memory_order_relaxed);
    twill__flow_lower(p, 0);
    p->tell_all |= tell;
}

/* Token and deadline of the run: the tasks have both, so that nobody need be told. */
static inline void twill__flow_poll(twill__flow *p)
{
    /* under the lock; a flag */
    if (!p->timed || p->ended || atomic_load_explicit(&p->halted, memory_order_relaxed))
        return;
    if (twill_cancel_fired(p->run.until.cancel))
        twill__flow_halt(p, TWILL_CANCELLED, false);
    else if (twill__expired(p->run.until.deadline))
        twill__flow_halt(p, TWILL_TIMEOUT, false);
}

/* ---- who waits ---- */

static inline twill__flow_waiter *twill__flow_waiter_of(twill__node *node)
{
    return (twill__flow_waiter *)(void *)((char *)node - offsetof(twill__flow_waiter, node));
}

/* A final answer; the node is no longer ours then. False: it is leaving. */
static inline bool twill__flow_answer(twill__flow *p, twill__flow_turn *turn, twill__list *list,
                                      twill__node *node, int answer)
{
    bool inside = twill__flow_waiter_of(node)->inside;
    if (!twill__wakes_grant(&turn->wakes, list, node, answer))
        return false;
    p->blocked_inside -= inside;
    return true;
}

static inline void twill__flow_answer_all(twill__flow *p, twill__flow_turn *turn, twill__list *list,
                                          int answer)
{
    for (twill__node *node = list->first, *next; node; node = next) {
        next = node->next;
        if (!twill__flow_waiter_of(node)->told)
            (void)twill__flow_answer(p, turn, list, node, answer);
    }
}

/* Tells a waiter to look again: it stays in the list until it has the lock. */
static inline void twill__flow_tell(twill__flow_turn *turn, twill__flow_waiter *waiter)
{
    _Atomic uint32_t *word = &waiter->node.word;
    waiter->told = true;
    waiter->node.answer = TWILL__FLOW_AGAIN_WORK;
    /* acq_rel: pairs with the load in twill__wait; the waiter stays until it has had the lock */
    atomic_fetch_or_explicit(word, TWILL__GRANTED, memory_order_acq_rel);
    twill__wakes_add(&turn->wakes, word);
}

/* Tells up to `need` waiters that can work; returns how many it found. */
static inline unsigned twill__flow_tell_helpers(twill__flow_turn *turn, twill__list *list,
                                                unsigned need)
{
    unsigned told = 0;
    for (twill__node *node = list->first; node && told < need; node = node->next) {
        twill__flow_waiter *waiter = twill__flow_waiter_of(node);
        if (!waiter->helps || waiter->told)
            continue;
        twill__flow_tell(turn, waiter);
        told++;
    }
    return told;
}

/* Tells up to `need` callers, as far as there are numbers for them: without one they would only ask
   again. Returns how many. */
static inline unsigned twill__flow_tell_free(twill__flow *p, twill__flow_turn *turn, unsigned need)
{
    unsigned left = p->np - p->working - p->starting - p->refused, told;
    need = need < left ? need : left;
    told = twill__flow_tell_helpers(turn, &p->joiners, need);
    return told + twill__flow_tell_helpers(turn, &p->pushers, need - told);
}

/* ---- items that are pushed ---- */

/* The ticket's item, which is in its place, comes in. */
static inline void twill__flow_admit(twill__flow *p, uint32_t ticket)
{
    twill__flow_ticket_init(p, ticket, p->issued);
    twill__flow_issue(p, 1);
    twill__flow_piece_put(p, 0, (twill__flow_piece){ticket, 0});
}

static inline void twill__flow_accept(twill__flow *p, const void *item)
{
    twill__flow_piece piece = {p->free[--p->free_count], 0};
    memcpy(twill__flow_step_at(&p->step[0], piece), item, p->step[0].in_size);
    twill__flow_admit(p, piece.ticket);
}

/* Free tickets go to pushers, in order of arrival. */
static inline void twill__flow_settle_pushers(twill__flow *p, twill__flow_turn *turn)
{
    for (twill__node *node = p->pushers.first, *next; node && p->free_count; node = next) {
        twill__flow_waiter *waiter = twill__flow_waiter_of(node);
        uint32_t ticket = p->free[p->free_count - 1];
        next = node->next;
        if (waiter->told)
            continue;
        /* before the answer: its memory goes with it */
        memcpy(twill__flow_step_at(&p->step[0], (twill__flow_piece){ticket, 0}), waiter->item,
               p->step[0].in_size);
        if (!twill__flow_answer(p, turn, &p->pushers, node, TWILL_OK))
            continue;
        p->free_count--;
        twill__flow_admit(p, ticket);
    }
}

/* Whether more threads can come than those at work: there are numbers for them, and they exist.
   (Nobody joins before it is shut.) */
static inline bool twill__flow_more_threads(twill__flow *p)
{
    size_t threads = twill__team_threads(p->crew.job.team);
    if (p->working + p->refused == p->np)
        return false;
    for (twill__node *node = p->helpers.first; node; node = node->next)
        threads++;
    for (twill__node *node = p->pushers.first; node; node = node->next)
        threads += twill__flow_waiter_of(node)->helps;
    return p->working + atomic_load_explicit(&p->crew.job.team->lost, memory_order_seq_cst) <
           threads;
}

/* So many pushers inside callbacks wait for a ticket, and nobody is left who could bring one back:
   not even who looks at a batch when it is due. What they had done was shown when they came. */
static inline bool twill__flow_stuck(twill__flow *p, uint32_t blocked)
{
    if (p->working != blocked)
        return false;
    return !twill__flow_more_threads(p) ||
           (!twill__flow_any(p) && (!p->due || p->due == p->run.until.deadline));
}

/* ---- the end ---- */

static inline bool twill__flow_failed_at_last(const twill__flow *p)
{
    if (!p->lowest.status)
        return false;
    /* the serial loop never got to an error above a stop; one that says both has failed */
    return p->lowest.key <= p->stop_key || p->earliest.status;
}

static inline twill_status twill__flow_status(const twill__flow *p)
{
    if (p->dead || twill__flow_failed_at_last(p))
        return TWILL_FAILED;
    if (p->over && (p->skipped || !p->natural))
        return (twill_status)p->over;
    return TWILL_OK;
}

static inline void twill__flow_settle_end(twill__flow *p, twill__flow_turn *turn)
{
    if (!p->ended && p->shut && !p->sourcing && p->free_count == p->tickets) {
        p->ended = true;
        p->ended_at = twill__clock_now();
        p->ended_ticks = twill__ticks();
        twill__flow_moods_read(p, p->ended_ticks);
    }
    if (!p->joiners.first || !(p->ended || p->dead))
        return;
    if (p->crew_closed)
        twill__flow_answer_all(p, turn, &p->joiners, (int)twill__flow_status(p));
    else if (!p->closing) /* one of them sends the workers home */
        for (twill__node *node = p->joiners.first; node; node = node->next)
            if (!twill__flow_waiter_of(node)->told) {
                twill__flow_tell(turn, twill__flow_waiter_of(node));
                break;
            }
}

static inline bool twill__flow_deserted(const twill__flow *p)
{
    return !p->pushers.first && !p->joiners.first && !p->helpers.first && !p->inside &&
           !twill__lock_wanted(&p->lock);
}

/* Who waits gets what is there. */
static inline void twill__flow_settle(twill__flow *p, twill__flow_turn *turn)
{
    twill__flow_poll(p);
    if (p->pushers.first) {
        if (p->shut)
            twill__flow_answer_all(p, turn, &p->pushers, TWILL_CLOSED);
        else
            twill__flow_settle_pushers(p, turn);
    }
    if (p->blocked_inside && twill__flow_stuck(p, p->blocked_inside))
        for (twill__node *node = p->pushers.first, *next; node; node = next) {
            next = node->next;
            if (twill__flow_waiter_of(node)->inside) /* such a one is never told to help */
                (void)twill__flow_answer(p, turn, &p->pushers, node, TWILL_DEADLOCK);
        }
    twill__flow_settle_end(p, turn);
}

/* Those who are hungry are called, or there are none. Under the lock; the line is every hand's, and
   is not written without need. */
static inline void twill__flow_fed(twill__flow *p)
{
    if (atomic_load_explicit(&p->hungry, memory_order_relaxed))
        atomic_store_explicit(&p->hungry, 0, memory_order_relaxed);
}

typedef enum twill__flow_way {
    TWILL__FLOW_EXIT_READY,  /* one that asks whether there is work: calls nobody */
    TWILL__FLOW_EXIT_WORKER, /* whom twill__crew_close waits for */
    TWILL__FLOW_EXIT_CALLER  /* whom a destroy must wait for */
} twill__flow_way;

/* Out of the lock, and calls workers for what has come up. */
static inline void twill__flow_exit(twill__flow *p, twill__flow_turn *turn, twill__flow_way who)
{
    unsigned need = 0;
    twill_ns due = 0;
    bool tell_all, leaving;
    twill__flow_settle(p, turn);
    if (p->working == p->np) { /* nobody is left to be called */
        twill__flow_fed(p);
    } else if (who != TWILL__FLOW_EXIT_READY && !p->closing) {
        need = twill__flow_surplus(p, p->np - p->working);
        if (need) {
            twill__flow_fed(p);
            need -= twill__flow_tell_free(p, turn, need);
        }
        if (p->due && p->due != p->armed) { /* a batch waits: somebody must look at it then */
            p->armed = due = p->due;
            if (!twill__flow_tell_helpers(turn, &p->joiners, 1))
                (void)twill__flow_tell_helpers(turn, &p->pushers, 1);
        }
    }
    tell_all = p->tell_all;
    p->tell_all = false;
    if (p->destroyer && twill__flow_deserted(p)) {
        twill__node *node = p->destroyer;
        p->destroyer = NULL;
        /* relaxed: it takes the lock, which we hold, before it goes on */
        atomic_fetch_or_explicit(&node->word, TWILL__GRANTED, memory_order_relaxed);
        twill__wakes_add(&turn->wakes, &node->word);
    }
    leaving = who == TWILL__FLOW_EXIT_CALLER && (tell_all || need || due);
    if (leaving) /* relaxed: who destroys takes the lock before he looks */
        atomic_fetch_add_explicit(&p->leaving, 1, memory_order_relaxed);
    twill__unlock(&p->lock);
    twill__wakes_send(&turn->wakes);
    if (tell_all)
        twill__crew_fire_from(&p->crew, 0);
    if (need)
        twill__crew_call(&p->crew, need);
    if (due)
        twill__crew_alarm(&p->crew, due);
    if (leaving) /* release: the last access; pairs with the load in twill__flow_desert */
        atomic_fetch_sub_explicit(&p->leaving, 1, memory_order_release);
}

/* ---- failures ---- */

static inline void twill__flow_keep_error(twill__flow *p, const twill__flow_error *error)
{
    twill_item_error item = {(size_t)error->number, error->status, error->code};
    if (p->run.errors_capacity)
        twill__heap_keep(p->run.errors, p->run.errors_capacity, &p->errors_count, item);
    if (p->run.statuses) /* of map: one piece a number, and its source does not fail */
        p->run.statuses[error->number] = error->status;
    if (p->run.codes)
        p->run.codes[error->number] = error->code;
    if (!p->lowest.status || error->key < p->lowest.key)
        p->lowest = *error;
}

/* A load has failed: what need not run any more is cut off. By its own thread, without the lock. */
static inline void twill__flow_fail(twill__flow *p, uint32_t k, const twill__flow_load *load,
                                    twill_status status, int code)
{
    twill__flow_error error = {load->key, load->number, k, status, code};
    bool source = k == p->n_steps, keep, cut = false;
    twill_on_error policy = p->run.on_error ? p->run.on_error : TWILL_ON_ERROR_LOWEST;
    twill__flow_turn turn;
    twill__flow_enter(p, &turn);
    twill__flow_keep_error(p, &error);
    keep = !source && (policy == TWILL_ON_ERROR_COLLECT || p->step[k].user.keep_going);
    if (!keep && load->key <= p->stop_key) {
        p->failures++;
        if (policy == TWILL_ON_ERROR_FIRST) {
            if (!p->earliest.status)
                p->earliest = error;
            atomic_store_explicit(&p->failing, 1, memory_order_relaxed); /* before the limit */
            twill__flow_halt(p, 0, true);
        } else {
            cut = source || policy != TWILL_ON_ERROR_LIMIT ||
                  p->failures >= (p->run.max_errors ? p->run.max_errors : 1);
        }
    }
    if (cut) {
        p->natural |= source;
        atomic_store_explicit(&p->failing, 1, memory_order_relaxed); /* as above */
        twill__flow_lower(p, load->key);
    }
    twill__flow_exit(p, &turn, TWILL__FLOW_EXIT_WORKER);
    if (cut)
        twill__crew_fire_from(&p->crew, load->key + 1);
}

static inline void twill__flow_stop_at(twill__flow *p, size_t key)
{
    twill__flow_turn turn;
    twill__flow_enter(p, &turn);
    if (key < p->stop_key)
        p->stop_key = key;
    p->natural = true;
    twill__flow_lower(p, key);
    twill__flow_exit(p, &turn, TWILL__FLOW_EXIT_WORKER);
    twill__crew_fire_from(&p->crew, key + 1);
}

#endif
