/* asking.h: how a call gets its tokens, of one limiter or of several at once. */
#ifndef TWILL__RATE_ASKING_H
#define TWILL__RATE_ASKING_H

#include "rate_limiter/limiter.h"

/* ---- one limiter of a call ---- */

/* TWILL_OK, or TWILL_TOO_BIG: no wait would help. */
static inline twill_status twill__ask_cost(twill__ask *ask)
{
    const twill__rate *me = ask->rate;
    twill__scale scale;
    if (me->kind) {
        ask->cost = ask->n;
        return ask->n > me->u.window.tokens ? TWILL_TOO_BIG : TWILL_OK;
    }
    scale = twill__rate_scale(me);
    ask->cost = 0;
    if (ask->n > scale.burst >> scale.shift &&
        (!me->oversize || ask->n > TWILL__RATE_MOST >> scale.shift))
        return TWILL_TOO_BIG;
    ask->cost = ask->n << scale.shift;
    return TWILL_OK;
}

static inline uint64_t twill__rate_most(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* From where a grant counts, and the V that it takes, *needs. `from`: the instant whose idle credit
   it may use. */
static inline uint64_t twill__ask_from(const twill__ask *ask, const twill__scale *scale,
                                       uint64_t ahead, twill_ns from, uint64_t *needs)
{
    uint64_t at =
        twill__saturated_sum(twill__rate_most(ask->word, twill__scale_at(scale, from)), ahead);
    if (ask->cost > scale->burst && ask->rate->oversize == TWILL_RATE_DEBT) {
        *needs = at; /* a full bucket */
    } else {
        uint64_t next = twill__saturated_sum(at, ask->cost);
        *needs = next > scale->burst ? next - scale->burst : 0;
    }
    return at;
}

/* Where a waiter's grant counts from: as if it had been served when it became possible after it
   came, so that a late wake-up costs no rate; strict: from now. While the head waited for another
   limiter nothing was possible, and what came then beyond the burst is lost. */
static inline twill_ns twill__ask_since(const twill__ask *ask, const twill__asking *call,
                                        twill_ns now)
{
    if (!call->since || (ask->rate->strict && ask->rate->oversize != TWILL_RATE_SPLIT))
        return now;
    return ask->rate->held > call->since ? ask->rate->held : call->since;
}

/* When it can be had, if `ahead` units go to others first. */
static inline twill_ns twill__ask_due(const twill__ask *ask, uint64_t ahead, twill_ns from,
                                      twill_ns now)
{
    const twill__rate *me = ask->rate;
    twill__scale scale;
    uint64_t needs;
    if (me->kind)
        return twill__rate_window_due(me, twill__saturated_sum(ahead, ask->n), now);
    scale = twill__rate_scale(me);
    (void)twill__ask_from(ask, &scale, ahead, from, &needs);
    return twill__scale_when(&scale, needs);
}

static inline bool twill__ask_ready(const twill__ask *ask, twill_ns from, twill_ns now)
{
    const twill__rate *me = ask->rate;
    twill__scale scale;
    uint64_t needs;
    if (me->kind)
        return twill__rate_window_ready(me, ask->n, now);
    scale = twill__rate_scale(me);
    (void)twill__ask_from(ask, &scale, 0, from, &needs);
    return twill__scale_at(&scale, now) >= needs;
}

/* `held`: see the field; the instant at which it became possible for a call that wants others, too;
   else 0. */
static inline void twill__ask_take(twill__ask *ask, twill_ns from, twill_ns at, twill_ns held)
{
    twill__rate *me = ask->rate;
    if (me->kind) {
        twill__rate_window_take(me, ask->n, at);
    } else {
        twill__scale scale = twill__rate_scale(me);
        uint64_t needs, word = twill__ask_from(ask, &scale, 0, from, &needs) + ask->cost;
        bool split = me->oversize == TWILL_RATE_SPLIT && ask->cost > scale.burst;
        /* more than a burst did not lie there by then */
        uint64_t least = twill__scale_at(&scale, held) + (split ? scale.burst : ask->cost);
        ask->word = held ? twill__rate_most(word, least) : word;
    }
    if (held)
        me->held = held;
    atomic_fetch_add_explicit(&me->granted, ask->n, memory_order_relaxed); /* a count */
}

static inline bool twill__ask_queue_open(const twill__ask *ask)
{
    return !ask->rate->first || ask->rate->barging;
}

static inline uint64_t twill__ask_ahead(const twill__ask *ask)
{
    return ask->rate->queued.high ? UINT64_MAX : ask->rate->queued.low;
}

/* ---- a call ---- */

static inline void twill__asking_enter(twill__asking *call)
{
    for (size_t k = 0; k < call->count; k++)
        call->asks[k].word = twill__rate_enter(call->asks[k].rate, TWILL__RATE_REAL, 0);
}

static inline void twill__asking_exit(twill__asking *call)
{
    for (size_t k = 0; k < call->count; k++)
        twill__rate_exit(call->asks[k].rate, call->asks[k].word);
}

/* OK; CLOSED; TOO_BIG. */
static inline twill_status twill__asking_check(twill__asking *call)
{
    twill_status status = TWILL_OK;
    for (size_t k = 0; k < call->count; k++) {
        if (twill__rate_flags(call->asks[k].rate) & TWILL__RATE_CLOSED)
            return TWILL_CLOSED;
        if (twill__ask_cost(&call->asks[k]) != TWILL_OK)
            status = TWILL_TOO_BIG;
    }
    return status;
}

/* The instant at which a waiter of several limiters, ready now, could first have been served; 0: it
   has one, or did not wait. */
static inline twill_ns twill__asking_held(const twill__asking *call, twill_ns now)
{
    twill_ns at = call->since;
    if (!at || call->count == 1)
        return 0;
    for (size_t k = 0; k < call->count; k++) {
        const twill__ask *ask = &call->asks[k];
        twill_ns one = twill__ask_due(ask, 0, twill__ask_since(ask, call, now), call->since);
        at = one > at ? one : at;
    }
    return at;
}

/* Takes all, or nothing. */
static inline bool twill__asking_take(twill__asking *call, twill_ns now)
{
    twill_ns held;
    for (size_t k = 0; k < call->count; k++) {
        twill__ask *ask = &call->asks[k];
        bool turn = call->since ? ask->rate->first == ask : twill__ask_queue_open(ask);
        if (!turn || !twill__ask_ready(ask, twill__ask_since(ask, call, now), now))
            return false;
    }
    held = twill__asking_held(call, now);
    for (size_t k = 0; k < call->count; k++)
        twill__ask_take(&call->asks[k], twill__ask_since(&call->asks[k], call, now), now, held);
    return true;
}

/* When it would be served behind all who wait now. */
static inline twill_ns twill__asking_reckon(const twill__asking *call, twill_ns now)
{
    twill_ns due = now;
    for (size_t k = 0; k < call->count; k++) {
        const twill__ask *ask = &call->asks[k];
        twill_ns one = twill__ask_due(ask, twill__ask_ahead(ask), now, now);
        due = one > due ? one : due;
    }
    return due;
}

/* When a waiter shall look: TWILL_FOREVER: when it is told, which a new head is. */
static inline twill_ns twill__asking_due(const twill__asking *call, twill_ns now)
{
    twill_ns due = 1;
    for (size_t k = 0; k < call->count; k++) {
        const twill__ask *ask = &call->asks[k];
        twill_ns one;
        if (ask->rate->first != ask)
            return TWILL_FOREVER;
        one = twill__ask_due(ask, 0, twill__ask_since(ask, call, now), now);
        due = one > due ? one : due;
    }
    return due;
}

static inline void twill__asking_count(twill__asking *call, twill_status status, twill_ns now)
{
    for (size_t k = 0; k < call->count; k++) {
        twill__rate *me = call->asks[k].rate;
        if (status == TWILL_FULL) /* a count */
            atomic_fetch_add_explicit(&me->refused, 1, memory_order_relaxed);
        me->timed_out += status == TWILL_TIMEOUT;
        me->cancelled += status == TWILL_CANCELLED;
        if (call->since)
            me->waited += now - call->since;
    }
}

/* Why it must not wait, or OK: it may. */
static inline twill_status twill__asking_refused(const twill__asking *call, twill_until until,
                                                 twill_ns now)
{
    if (twill_cancel_fired(until.cancel))
        return TWILL_CANCELLED;
    if (!twill__no_deadline(until.deadline) &&
        (now >= until.deadline || twill__asking_reckon(call, now) > until.deadline))
        return TWILL_TIMEOUT;
    for (size_t k = 0; k < call->count; k++)
        if (call->asks[k].rate->max_waiters &&
            call->asks[k].rate->waiting >= call->asks[k].rate->max_waiters)
            return TWILL_FULL;
    return TWILL_OK;
}

/* A moment of waiting; entered before and after. OK: taken. -1: not yet. */
static inline int twill__asking_wait(twill__asking *call, twill_until until)
{
    twill_until soon = until;
    twill_status status;
    twill_ns now = twill__clock_now(), due = twill__asking_due(call, now);
    if (twill__no_deadline(until.deadline) || due < until.deadline)
        soon.deadline = due;
    /* under the lock; whoever tells it does so after */
    atomic_store_explicit(&call->node.word, 0, memory_order_relaxed);
    twill__asking_exit(call);
    status = twill__wait(&call->node, soon);
    twill__asking_enter(call);
    now = twill__clock_now();
    switch (twill__asking_check(call)) {
    case TWILL_CLOSED:
        return TWILL_CLOSED;
    case TWILL_TOO_BIG: /* since the rate has changed */
        return TWILL_TOO_BIG;
    default:
        break;
    }
    if (twill__asking_take(call, now))
        return TWILL_OK;
    if (status == TWILL_CANCELLED || twill_cancel_fired(until.cancel))
        return TWILL_CANCELLED;
    return twill__past(until.deadline, now) ? (int)TWILL_TIMEOUT : -1;
}

/* Returns whom to wake. */
static inline _Atomic uint32_t *twill__asking_leave(const twill__asking *call, twill__ask *ask,
                                                    int status, twill_ns now)
{
    if (status != TWILL_OK && call->count > 1 && ask->rate->first == ask)
        ask->rate->held = now;
    return twill__rate_remove(ask);
}

/* Takes n from each, at one instant, or waits. */
static inline twill_status twill__asking_run(twill__asking *call, twill_until until)
{
    _Atomic uint32_t *wake[TWILL__RATE_TOGETHER] = {NULL};
    twill_ns now;
    int status;
    call->since = 0;
    twill__asking_enter(call);
    now = twill__clock_now();
    status = (int)twill__asking_check(call);
    if (status == TWILL_OK && !twill__asking_take(call, now)) {
        status = (int)twill__asking_refused(call, until, now);
        if (status == TWILL_OK) {
            twill__node_init(&call->node);
            call->since = now;
            for (size_t k = 0; k < call->count; k++) {
                call->asks[k].call = call;
                twill__rate_append(&call->asks[k]);
            }
            do /* exit: taken, the deadline, the token, or closed */
                status = twill__asking_wait(call, until);
            while (status < 0);
            now = twill__clock_now();
            for (size_t k = 0; k < call->count; k++)
                wake[k] = twill__asking_leave(call, &call->asks[k], status, now);
        }
    }
    twill__asking_count(call, (twill_status)status, now);
    twill__asking_exit(call);
    for (size_t k = 0; k < call->count; k++)
        twill__rate_wake(wake[k]);
    return (twill_status)status;
}

#endif
