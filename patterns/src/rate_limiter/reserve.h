/* reserve.h: tokens ahead of time and back again; changes of the rate. */
#ifndef TWILL__RATE_RESERVE_H
#define TWILL__RATE_RESERVE_H

#include "rate_limiter/asking.h"

/* A reservation's private words: where it ends (WINDOW: `written` after it), its cost, and the turn
   of the rate with two bits below. */
enum { TWILL__RESERVED_LIVE = 1, TWILL__RESERVED_DEBT = 2 };

/* A hole is a cancelled reservation with others behind it: it can be had again, at its own time, by
   an equal one; or it goes when all behind it are cancelled. Lowering the word by its cost instead
   would move what is behind it into one burst. */

/* It was due later than at once when it became one: so its end lies above a burst. */
static inline uint64_t twill__rate_hole_needs(const twill__rate_hole *hole,
                                              const twill__scale *scale)
{
    return hole->end - scale->burst;
}

static inline void twill__rate_hole_forget(twill__rate *me, uint32_t k)
{
    me->u.hole[k] = me->u.hole[--me->holes];
}

/* The holes whose time has passed are lost. */
static inline void twill__rate_holes_expire(twill__rate *me, const twill__scale *scale,
                                            twill_ns now)
{
    uint64_t v = twill__scale_at(scale, now);
    for (uint32_t k = 0; k < me->holes;) {
        if (twill__rate_hole_needs(&me->u.hole[k], scale) < v) {
            me->lost += me->u.hole[k].cost >> scale->shift;
            twill__rate_hole_forget(me, k);
        } else {
            k++;
        }
    }
}

/* The first hole of this cost, or -1. */
static inline int twill__rate_hole_find(const twill__rate *me, uint64_t cost)
{
    int found = -1;
    for (uint32_t k = 0; k < me->holes; k++)
        if (me->u.hole[k].cost == cost && (found < 0 || me->u.hole[k].end < me->u.hole[found].end))
            found = (int)k;
    return found;
}

static inline void twill__rate_reserved(twill_reservation *out, twill_ns due, uint64_t end,
                                        uint64_t cost, uint64_t tag)
{
    out->due = due;
    out->private_words[0] = end;
    out->private_words[1] = cost;
    out->private_words[2] = tag;
}

static inline void twill__rate_floor(twill__rate *me, uint64_t floor, uint64_t v)
{
    me->floor = twill__rate_most(me->floor, floor);
    me->floor_v = twill__rate_most(me->floor_v, v);
}

static inline void twill__rate_holes_lose(twill__rate *me, unsigned shift)
{
    while (me->holes)
        me->lost += me->u.hole[--me->holes].cost >> shift;
}

static inline twill_status twill__rate_reserve_window(twill__ask *ask, twill_ns max_wait,
                                                      twill_ns now, twill_reservation *out)
{
    twill__rate *me = ask->rate;
    twill_ns due = twill__rate_window_due(me, ask->n, now);
    if (twill__rate_between(now, due) > max_wait || due == TWILL_FOREVER)
        return TWILL_TIMEOUT;
    twill__ask_take(ask, now, due, 0);
    twill__rate_reserved(out, due, me->u.window.written, ask->n,
                         me->turn << 2 | TWILL__RESERVED_LIVE);
    return TWILL_OK;
}

static inline twill_status twill__rate_reserve_bucket(twill__ask *ask, twill_ns max_wait,
                                                      twill_ns now, twill_reservation *out)
{
    twill__rate *me = ask->rate;
    twill__scale scale = twill__rate_scale(me);
    uint64_t needs, end, tag = me->turn << 2 | TWILL__RESERVED_LIVE;
    twill_ns due;
    int hole;
    bool debt = ask->cost > scale.burst && me->oversize == TWILL_RATE_DEBT;
    twill__rate_holes_expire(me, &scale, now);
    hole = debt ? -1 : twill__rate_hole_find(me, ask->cost);
    if (hole >= 0) {
        end = me->u.hole[hole].end;
        needs = twill__rate_hole_needs(&me->u.hole[hole], &scale);
    } else {
        end = twill__ask_from(ask, &scale, 0, now, &needs) + ask->cost;
        if (end >= TWILL__RATE_HIGH)
            return TWILL_TOO_BIG;
    }
    due = twill__scale_when(&scale, needs);
    if (due == TWILL_FOREVER || twill__rate_between(now, due) > max_wait)
        return TWILL_TIMEOUT;
    if (hole >= 0)
        twill__rate_hole_forget(me, (uint32_t)hole);
    else
        ask->word = end;
    twill__rate_floor(me, end, needs);
    atomic_fetch_add_explicit(&me->granted, ask->n, memory_order_relaxed); /* a count */
    twill__rate_reserved(out, due > now ? due : now, end, ask->cost,
                         debt ? tag | TWILL__RESERVED_DEBT : tag);
    return TWILL_OK;
}

/* With the limiter to ourselves. */
static inline twill_status twill__rate_reserve_now(twill__ask *ask, twill_ns max_wait, twill_ns now,
                                                   twill_reservation *out)
{
    twill__rate *me = ask->rate;
    if (twill__rate_flags(me) & TWILL__RATE_CLOSED)
        return TWILL_CLOSED;
    if (twill__ask_cost(ask) != TWILL_OK)
        return TWILL_TOO_BIG;
    if (me->first)
        return TWILL_BUSY;
    return me->kind ? twill__rate_reserve_window(ask, max_wait, now, out)
                    : twill__rate_reserve_bucket(ask, max_wait, now, out);
}

/* V at the end of the penalty, or at `now` if that is later. */
static inline uint64_t twill__rate_penalty(const twill__rate *me, const twill__scale *scale,
                                           twill_ns now)
{
    twill_ns until = me->not_before > now ? me->not_before : now;
    uint64_t v = twill__scale_at(scale, until);
    /* V is rounded down: not a moment earlier */
    return until > now && twill__scale_when(scale, v) < until ? v + 1 : v;
}

/* Then there is one token. */
static inline uint64_t twill__rate_penalty_word(const twill__scale *scale, uint64_t v)
{
    return v + scale->burst - (UINT64_C(1) << scale->shift);
}

/* Lowers the word. Words that it had shall not come again under another rate. */
static inline uint64_t twill__rate_lower(twill__rate *me, uint64_t word, uint64_t by)
{
    /* under the lock */
    uint64_t base = atomic_load_explicit(&me->base, memory_order_relaxed);
    me->highest = twill__rate_most(me->highest, word);
    return word - base > by ? word - by : base;
}

/* True: the tokens are back. */
static inline bool twill__rate_unreserve_bucket(twill__rate *me, uint64_t *word,
                                                const twill_reservation *reservation,
                                                const twill__scale *scale, twill_ns now)
{
    uint64_t end = reservation->private_words[0], cost = reservation->private_words[1];
    uint64_t penalty = twill__rate_penalty(me, scale, now);
    if (*word != end) {
        if ((reservation->private_words[2] & TWILL__RESERVED_DEBT) ||
            me->holes == TWILL__RATE_HOLES || end - scale->burst < penalty)
            return false;
        me->u.hole[me->holes].end = end;
        me->u.hole[me->holes++].cost = cost;
        return true;
    }
    *word = twill__rate_lower(me, *word, cost);
    for (uint32_t k = 0; k < me->holes;) {
        if (me->u.hole[k].end != *word) {
            k++;
            continue;
        }
        *word = twill__rate_lower(me, *word, me->u.hole[k].cost);
        twill__rate_hole_forget(me, k);
        k = 0; /* another may end here now */
    }
    if (me->not_before > now)
        *word = twill__rate_most(*word, twill__rate_penalty_word(scale, penalty));
    me->floor = me->floor < *word ? me->floor : *word;
    return true;
}

static inline bool twill__rate_unreserve(twill__rate *me, uint64_t *word,
                                         twill_reservation *reservation)
{
    uint64_t tag = reservation->private_words[2], n = reservation->private_words[1];
    twill_ns now = twill__rate_now(me);
    bool back;
    if (!(tag & TWILL__RESERVED_LIVE) || tag >> 2 != me->turn || now >= reservation->due)
        return false;
    if (me->kind) {
        back = reservation->private_words[0] == me->u.window.written;
        if (back)
            twill__rate_window_untake(me, n);
    } else {
        twill__scale scale = twill__rate_scale(me);
        twill__rate_holes_expire(me, &scale, now);
        n >>= scale.shift;
        back = twill__rate_unreserve_bucket(me, word, reservation, &scale, now);
    }
    reservation->private_words[2] = 0; /* not again */
    if (back)
        me->given_back += n;
    else
        me->lost += n;
    return back;
}

/* ---- unused tokens ---- */

static inline void twill__rate_return(twill__rate *me, uint64_t *word, uint64_t n)
{
    twill_ns now = twill__rate_now(me);
    if (me->kind) {
        uint64_t written = me->u.window.written;
        if (written && *twill__rate_window_start(me, written - 1) > now)
            return; /* the newest are reservations, and not these */
        written -= me->u.window.kept;
        n = n < written ? n : written;
        n = n < me->u.window.tokens ? n : me->u.window.tokens;
        twill__rate_window_untake(me, n);
    } else {
        twill__scale scale = twill__rate_scale(me);
        uint64_t most = *word;
        if (me->floor_v > twill__scale_at(&scale, now))
            most = *word > me->floor ? *word - me->floor : 0;
        if (n <= most >> scale.shift)
            most = n << scale.shift;
        *word = twill__rate_lower(me, *word, most);
    }
    me->given_back += n;
}

static inline void twill__rate_penalise(twill__rate *me, uint64_t *word, twill_ns wait)
{
    twill_ns now = twill__rate_now(me), until = twill__instant_after(now, wait);
    if (until > me->not_before)
        me->not_before = until;
    if (!me->kind) {
        twill__scale scale = twill__rate_scale(me);
        uint64_t v = twill__rate_penalty(me, &scale, now);
        *word = twill__rate_most(*word, twill__rate_penalty_word(&scale, v));
        twill__rate_floor(me, *word, v);
        twill__rate_holes_lose(me, scale.shift);
    }
}

/* ---- another rate ---- */

/* `value`, in units of 2^-from tokens, in those of 2^-to; rounded up. */
static inline uint64_t twill__rate_units(uint64_t value, unsigned from, unsigned to)
{
    if (from >= to)
        return (value >> (from - to)) + ((value & ((UINT64_C(1) << (from - to)) - 1)) != 0);
    return value >> (64 - (to - from)) ? UINT64_MAX : value << (to - from);
}

/* Begins `next`, with the same credit in tokens, at most its burst; in a penalty, with that of its
   end. Returns the new word. */
static inline uint64_t twill__rate_replace(twill__rate *me, uint64_t word, twill__scale next,
                                           twill_ns now)
{
    twill__scale old = twill__rate_scale(me);
    uint64_t v = twill__rate_penalty(me, &old, now), gone = word > v ? word - v : 0, used;
    bool kept = me->floor_v > twill__scale_at(&old, now);
    twill__rate_holes_lose(me, old.shift);
    if (gone <= old.burst) {
        /* credit, rounded down */
        uint64_t credit = old.burst - gone, whole = credit >> old.shift << next.shift;
        uint64_t part = credit & ((UINT64_C(1) << old.shift) - 1);
        part = next.shift >= old.shift ? part << (next.shift - old.shift)
                                       : part >> (old.shift - next.shift);
        if (credit >> old.shift > next.burst >> next.shift)
            whole = next.burst, part = 0;
        used = whole + part >= next.burst ? 0 : next.burst - whole - part;
    } else {
        used = twill__saturated_sum(next.burst,
                                    twill__rate_units(gone - old.burst, old.shift, next.shift));
        used = used < TWILL__RATE_MOST + next.burst ? used : TWILL__RATE_MOST + next.burst;
    }
    next.origin = now;
    next.base = twill__rate_most(me->highest, word) + 1;
    if (next.base > TWILL__RATE_REBASE)
        /* After years, or soon where bursts are large: words come again, so an exchange would be
           mistaken that sleeps until there is the very same one. But not this base: who has read
           something of both rates finds that out. */
        next.base = me->highest = old.base < TWILL__RATE_REBASE / 2 ? old.base + 1 : 0;
    me->new_start = twill__rate_penalty(me, &next, now) + used;
    if (me->new_start >= TWILL__RATE_HIGH)
        me->new_start = TWILL__RATE_HIGH - 1;
    me->floor = kept ? me->new_start : 0; /* what was reserved comes, whatever the rate */
    me->floor_v = kept && me->new_start > next.burst ? me->new_start - next.burst : 0;
    me->new_origin = next.origin;
    me->new_base = next.base;
    me->new_factor = next.factor;
    me->new_burst = next.burst;
    me->new_shift = next.shift;
    me->new_drop = next.drop;
    /* release: only after what it is about; read by a child process, whose copy of the memory then
       has that, too */
    atomic_store_explicit(&me->changing, 1, memory_order_release);
    twill__rate_change(me);
    atomic_store_explicit(&me->word, me->new_start | TWILL__RATE_SLOW, memory_order_release);
    atomic_store_explicit(&me->changing, 0, memory_order_release);
    return me->new_start;
}

/* Those who wait: their costs in the new units, and they look again. */
static inline void twill__rate_retime(twill__rate *me)
{
    for (twill__ask *ask = me->first; ask; ask = ask->next) {
        twill__rate_queued_take(me, ask);
        (void)twill__ask_cost(ask);
        twill__rate_queued_add(me, ask, ask->cost);
    }
    twill__rate_tell_all(me);
}

#endif
