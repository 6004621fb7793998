/* limiter.h: a limiter's word, its lock, and the queue of those who wait for tokens. */
#ifndef TWILL__RATE_LIMITER_H
#define TWILL__RATE_LIMITER_H

#include "engine/cancel.h"
#include "platform/tempo.h"
#include "rate_limiter/scale.h"

/* The word is a point on the axis of units: tokens up to it are taken. Where V has passed it, the
   bucket is full. Bit 63, SLOW, sends everybody to the lock: while somebody works under it, or
   waits, or for good (closed, WINDOW). So one compare-and-swap on the word takes tokens, and
   whoever has the lock and has set SLOW has the limiter for himself.

   Why a compare-and-swap cannot succeed with the scale of another rate. Whoever changes the rate
   sets SLOW, then stores the scale, `base` last (release). A reader loads `base` first, the rest,
   the word, and `base` again (acquire). What it has of an older scale than the first `base` is
   nothing, since that was stored last. If it has something of a newer one, then it comes after
   SLOW, so the word is SLOW, or of the newer rate, and then the second `base` is another. From the
   word on the exchange guards: no word of a rate is a word of an older one, since each begins above
   all of them (`highest`). */
#define TWILL__RATE_SLOW (UINT64_C(1) << 63)
enum { TWILL__RATE_MAGIC = 0x72617465, TWILL__RATE_HOLES = 16, TWILL__RATE_TOGETHER = 16 };
enum { TWILL__RATE_CLOSED = 1, TWILL__RATE_WAITED = 2 };            /* flags */
enum { TWILL__RATE_UNBORN, TWILL__RATE_REAL, TWILL__RATE_CALLERS }; /* whose clock */
enum { TWILL__LOOK = 8 }; /* beside GRANTED in a node: not granted, look again by yourself */

struct twill__ask;

typedef struct TWILL__VIEW twill__rate_hole { /* a cancelled reservation in the middle */
    uint64_t end, cost;
} twill__rate_hole;

typedef struct TWILL__VIEW twill__rate {
    /* what the fast paths read: the scale of the rate, which changes under SLOW only, and where V
       was at a tick, and how it goes on: gain units a tick, times 2^44. No tick: not known */
    _Atomic uint64_t tick, v, gain;
    _Atomic uint64_t burst;
    _Atomic uint32_t shift, drop;
    _Atomic uint64_t base, factor;
    _Atomic int64_t origin;
    /* set at init */
    uint32_t magic;
    uint8_t kind, oversize;
    bool barging, strict, counted;
    twill_ns begun;
    uint64_t max_waiters;
    /* under the lock; they keep what is read and what is written without it a line apart */
    struct twill__ask *first, *last;
    uint64_t waiting, waiting_peak;
    twill__wide queued; /* the costs of those who wait */
    uint64_t turn;      /* of the rate: set_rate begins a new one */
    uint64_t highest;   /* of the words that were lowered again */
    /* Below `floor` nothing is given back while V is below floor_v: there are reservations to come,
       or a penalty. */
    uint64_t floor, floor_v;
    uint64_t timed_out, cancelled, given_back, lost;
    twill_ns waited, latest; /* latest: of the caller's instants */
    twill_ns not_before;     /* the end of the penalty; INT64_MIN: none */
    twill_ns held;           /* until then a head that wanted others, too, stood before the rest */
    /* A change of rate is written here first, then carried out: a child process that was forked in
       the middle carries it out again. */
    uint64_t new_start, new_base, new_factor, new_burst;
    twill_ns new_origin;
    uint32_t new_shift, new_drop;
    _Atomic uint32_t changing;
    uint32_t holes;
    twill__tempo tempo;
    /* what the fast path writes */
    _Atomic uint64_t word;
    _Atomic uint64_t granted, refused; /* counters */
    _Atomic uint32_t lock;
    _Atomic uint32_t generation; /* of the process */
    _Atomic uint32_t flags;      /* written under the lock */
    _Atomic uint32_t clock;
    /* under the lock */
    union {
        twill__rate_hole hole[TWILL__RATE_HOLES]; /* BUCKET */
        struct {                                  /* WINDOW: a ring of starts */
            twill_ns *starts;
            uint64_t room, tokens, written; /* written: starts ever, those given back apart */
            uint64_t kept;                  /* of them, those that stay */
            twill_ns per;
        } window;
    } u;
} twill__rate;

typedef struct twill__ask { /* one limiter's part in a call */
    twill__rate *rate;
    uint64_t n, cost; /* in tokens; in units */
    uint64_t word;    /* while the call has the limiter for itself */
    uint64_t queued;  /* its part of rate->queued */
    struct twill__ask *next, *previous;
    struct twill__asking *call;
} twill__ask;

typedef struct twill__asking { /* a call that may wait, on its own stack */
    twill__node node;
    twill__ask *asks; /* in the order of their addresses */
    size_t count;
    twill_ns since; /* when it began to wait; 0: it does not */
} twill__asking;

/* ---- the scale ---- */

static inline twill__scale twill__rate_scale(const twill__rate *me)
{
    twill__scale scale;
    /* acquire: pairs with the release in twill__rate_rescale; see above */
    scale.base = atomic_load_explicit(&me->base, memory_order_acquire);
    scale.origin = atomic_load_explicit(&me->origin, memory_order_acquire);
    scale.factor = atomic_load_explicit(&me->factor, memory_order_acquire);
    scale.burst = atomic_load_explicit(&me->burst, memory_order_acquire);
    scale.shift = atomic_load_explicit(&me->shift, memory_order_acquire);
    scale.drop = atomic_load_explicit(&me->drop, memory_order_acquire);
    return scale;
}

static inline void twill__rate_rescale(twill__rate *me, const twill__scale *scale)
{
    /* release: pairs with the acquire in twill__rate_scale, and in twill__rate_quick, which ends
       when there is another tick than when it began */
    atomic_store_explicit(&me->tick, 0, memory_order_relaxed);
    atomic_store_explicit(&me->origin, scale->origin, memory_order_release);
    atomic_store_explicit(&me->factor, scale->factor, memory_order_release);
    atomic_store_explicit(&me->burst, scale->burst, memory_order_release);
    atomic_store_explicit(&me->shift, scale->shift, memory_order_release);
    atomic_store_explicit(&me->drop, scale->drop, memory_order_release);
    atomic_store_explicit(&me->base, scale->base, memory_order_release);
}

/* Carries out what new_... says. */
static inline void twill__rate_change(twill__rate *me)
{
    twill__scale scale = {me->new_origin, me->new_base,  me->new_factor,
                          me->new_burst,  me->new_shift, me->new_drop};
    twill__rate_rescale(me, &scale);
}

static inline uint32_t twill__rate_flags(const twill__rate *me)
{
    /* written under the lock; without it a hint */
    return atomic_load_explicit(&me->flags, memory_order_relaxed);
}

/* ---- the fast path ---- */

/* TWILL_OK: *n taken; if `some`, perhaps fewer, which *n says then. TWILL_EMPTY: not there.
   -1: look under the lock. What happens but once in a while goes there, too, and the word is read
   last: little stands between it and the exchange. */
static inline int twill__rate_fast(twill__rate *me, uint64_t *n, twill_ns now, bool some)
{
    twill__scale scale = twill__rate_scale(me);
    uint64_t elapsed = (uint64_t)now - (uint64_t)scale.origin, burst = scale.burst >> scale.shift;
    uint64_t v, word, from, next, take = *n;
    if ((some ? !burst : take - 1 >= burst) || now < scale.origin || elapsed > TWILL__RATE_SPAN)
        return -1;
    v = scale.base + (twill__wide_product(elapsed << 2, scale.factor).high >> scale.drop);
    /* acquire, here and below: pairs with the release of whoever had the limiter */
    word = atomic_load_explicit(&me->word, memory_order_acquire);
    for (;;) { /* exit: an answer; a failed exchange is another call's success */
        if ((word & TWILL__RATE_SLOW) ||
            atomic_load_explicit(&me->base, memory_order_acquire) != scale.base)
            return -1;
        from = word > v ? word : v;
        if (some) {
            burst = from - v < scale.burst ? (scale.burst - (from - v)) >> scale.shift : 0;
            take = take < burst ? take : burst;
        }
        next = from + (take << scale.shift);
        if (!take || next - v > scale.burst)
            return TWILL_EMPTY;
        /* acq_rel: what came before tokens were given back comes before what they are used for */
        if (atomic_compare_exchange_weak_explicit(&me->word, &word, next, memory_order_acq_rel,
                                                  memory_order_acquire))
            break;
        take = *n;
    }
    if (me->counted)
        atomic_fetch_add_explicit(&me->granted, take, memory_order_relaxed);
    *n = take;
    return TWILL_OK;
}

/* ---- the lock ---- */

static inline void twill__rate_keep(twill__rate *me, uint64_t word, memory_order order)
{
    bool slow = me->first || (twill__rate_flags(me) & TWILL__RATE_CLOSED) || me->kind ||
                /* under the lock */
                atomic_load_explicit(&me->clock, memory_order_relaxed) == TWILL__RATE_UNBORN;
    atomic_store_explicit(&me->word, slow ? word | TWILL__RATE_SLOW : word, order);
}

/* In a forked child nobody waits, and nobody holds the lock. False: somebody is about to put it
   right, perhaps the thread that this signal handler has interrupted. */
static inline bool twill__rate_adopt(twill__rate *me)
{
    int turn = twill__adopt_turn(&me->generation);
    uint64_t word;
    if (turn <= 0)
        return turn == 0;
    me->first = me->last = NULL;
    me->waiting = 0;
    me->queued.high = me->queued.low = 0;
    /* relaxed: twill__adopted publishes all of it */
    atomic_fetch_and_explicit(&me->flags, TWILL__RATE_CLOSED, memory_order_relaxed);
    word = atomic_load_explicit(&me->word, memory_order_relaxed) & ~TWILL__RATE_SLOW;
    if (atomic_load_explicit(&me->changing, memory_order_relaxed)) {
        twill__rate_change(me);
        word = me->new_start;
        atomic_store_explicit(&me->changing, 0, memory_order_relaxed);
    }
    twill__rate_keep(me, word, memory_order_relaxed);
    atomic_store_explicit(&me->lock, 0, memory_order_relaxed);
    twill__adopted(&me->generation);
    return true;
}

/* The first call that asks for tokens says whose clock it is. The caller's: time begins now. */
static inline void twill__rate_born(twill__rate *me, uint32_t clock, twill_ns now)
{
    twill_ns begun = atomic_load_explicit(&me->origin, memory_order_relaxed); /* under the lock */
    atomic_store_explicit(&me->clock, clock, memory_order_relaxed);
    if (clock != TWILL__RATE_CALLERS)
        return;
    me->latest = now;
    if (me->not_before > begun) /* a penalty lasts as long as it would have */
        me->not_before = twill__instant_after(now, twill__rate_between(begun, me->not_before));
    /* as in twill__rate_rescale; a new base, since the scale is a new one. Nobody but us changes a
       word that is SLOW */
    atomic_store_explicit(&me->origin, now, memory_order_release);
    atomic_fetch_add_explicit(&me->word, 1, memory_order_relaxed);
    /* under the lock */
    atomic_store_explicit(&me->base, atomic_load_explicit(&me->base, memory_order_relaxed) + 1,
                          memory_order_release);
    for (uint64_t k = 0; me->kind && k < me->u.window.written; k++)
        me->u.window.starts[k] = now; /* those of `used` */
}

/* With the lock: nobody takes tokens beside us any more. UNBORN: any clock will do. `now`: of the
   caller's. Returns the word. */
static inline uint64_t twill__rate_seize(twill__rate *me, uint32_t clock, twill_ns now)
{
    uint32_t was = atomic_load_explicit(&me->clock, memory_order_relaxed); /* under the lock */
    if (!was && clock)
        twill__rate_born(me, clock, now);
    TWILL_ASSERT(!was || !clock || was == clock); /* _at and the others do not mix */
    if (clock == TWILL__RATE_CALLERS && now > me->latest)
        me->latest = now;
    /* acq_rel: pairs with the exchange in twill__rate_fast; comes before what we store */
    return atomic_fetch_or_explicit(&me->word, TWILL__RATE_SLOW, memory_order_acq_rel) &
           ~TWILL__RATE_SLOW;
}

static inline uint64_t twill__rate_enter(twill__rate *me, uint32_t clock, twill_ns now)
{
    while (!twill__rate_adopt(me)) /* exit: as in twill__adopt */
        twill__yield();
    twill__lock(&me->lock);
    return twill__rate_seize(me, clock, now);
}

/* Without waiting for the lock, but for some yields: so a try may stand in a signal handler, even
   one that has interrupted the holder. */
static inline bool twill__rate_try_lock(twill__rate *me, int tries)
{
    for (;;) { /* exit: locked, or not within so many tries */
        bool ours = twill__rate_adopt(me);
        /* acquire: pairs with the release in twill__unlock */
        uint32_t word = atomic_load_explicit(&me->lock, memory_order_relaxed);
        if (ours && !(word & 1) &&
            atomic_compare_exchange_strong_explicit(&me->lock, &word, word | 1,
                                                    memory_order_acquire, memory_order_relaxed))
            return true;
        if (--tries <= 0)
            return false;
        twill__yield();
    }
}

static inline void twill__rate_exit(twill__rate *me, uint64_t word)
{
    /* release: pairs with the acquire in twill__rate_fast */
    twill__rate_keep(me, word, memory_order_release);
    twill__unlock(&me->lock);
}

/* Now, on the limiter's clock. Under the lock. */
static inline twill_ns twill__rate_now(const twill__rate *me)
{
    /* under the lock */
    return atomic_load_explicit(&me->clock, memory_order_relaxed) == TWILL__RATE_CALLERS
               ? me->latest
               : twill__clock_now();
}

/* ---- by ticks ---- */

#if TWILL__TEMPO
enum { TWILL__RATE_GAIN = 44 }; /* fraction bits of `gain`: a span of ticks still fits */

/* With the lock: the clock was read between two ticks, so that is where V is. */
static inline void twill__rate_anchor(twill__rate *me, twill_ns now, uint64_t before,
                                      uint64_t after)
{
    twill__scale scale = twill__rate_scale(me);
    uint64_t gain;
    /* under the lock */
    if (atomic_load_explicit(&me->clock, memory_order_relaxed) != TWILL__RATE_REAL)
        return;
    /* release: pairs with the acquire in twill__rate_quick, as in twill__rate_rescale */
    atomic_store_explicit(&me->tick, 0, memory_order_relaxed);
    if (!twill__tempo_anchor(&me->tempo, now, before, after))
        return;
    gain = twill__wide_shifted(twill__wide_product(scale.factor, me->tempo.factor),
                               62 + 32 - TWILL__RATE_GAIN + scale.drop);
    atomic_store_explicit(&me->v, twill__scale_at(&scale, now), memory_order_release);
    atomic_store_explicit(&me->gain, gain, memory_order_release);
    atomic_store_explicit(&me->tick, after, memory_order_release);
}

/* The clock; on the way an anchor, if the lock is free: nobody waits, nor does a signal handler. */
static __attribute__((noinline, cold)) twill_ns twill__rate_clock(twill__rate *me, uint64_t before)
{
    twill_ns now = twill__clock_now();
    uint64_t after = twill__ticks();
    if (!me->kind && twill__rate_try_lock(me, 1)) {
        twill__rate_anchor(me, now, before, after);
        twill__unlock(&me->lock);
    }
    return now;
}

/* As twill__rate_fast, for n tokens, with the time of the counter (platform/tempo.h): between the
   reading and the exchange there is one product. False: they are not there, by a hair or at all, or
   there is no anchor; *now is the clock, to look closer. All that was read belongs together, and to
   the word, if the tick is still the same after the word was read: whoever changes any of it takes
   the tick away first. */
static inline bool twill__rate_quick(twill__rate *me, uint64_t n, twill_ns *now)
{
    /* acquire, all: pairs with the releases in twill__rate_anchor and twill__rate_rescale */
    uint64_t tick = atomic_load_explicit(&me->tick, memory_order_acquire);
    uint64_t v = atomic_load_explicit(&me->v, memory_order_acquire);
    uint64_t gain = atomic_load_explicit(&me->gain, memory_order_acquire);
    uint64_t burst = atomic_load_explicit(&me->burst, memory_order_acquire);
    uint32_t shift = atomic_load_explicit(&me->shift, memory_order_acquire);
    uint64_t ticks = twill__ticks(), word, next;
    if (!tick || ticks - tick >= TWILL__TEMPO_SPAN) {
        *now = twill__rate_clock(me, ticks);
        return false;
    }
    v += (ticks - tick) * gain >> TWILL__RATE_GAIN;
    /* acquire, here and below: pairs with the release of whoever had the limiter */
    word = atomic_load_explicit(&me->word, memory_order_acquire);
    do { /* exit: an answer; a failed exchange is another call's success */
        next = (word > v ? word : v) + (n << shift);
        if (n - 1 >= burst >> shift || (word & TWILL__RATE_SLOW) || next - v > burst ||
            atomic_load_explicit(&me->tick, memory_order_acquire) != tick) {
            *now = twill__clock_now();
            return false;
        }
        /* acq_rel: as in twill__rate_fast */
    } while (!atomic_compare_exchange_weak_explicit(&me->word, &word, next, memory_order_acq_rel,
                                                    memory_order_acquire));
    if (me->counted)
        atomic_fetch_add_explicit(&me->granted, n, memory_order_relaxed);
    return true;
}
#else
static inline bool twill__rate_quick(twill__rate *me, uint64_t n, twill_ns *now)
{
    (void)me;
    (void)n;
    *now = twill__clock_now();
    return false;
}
#endif

/* ---- the queue ---- */

/* Under the lock: the head looks again. Returns what to wake after unlocking, or NULL. */
static inline _Atomic uint32_t *twill__rate_tell(twill__ask *ask)
{
    _Atomic uint32_t *word;
    if (!ask)
        return NULL;
    word = &ask->call->node.word;
    /* acq_rel: pairs with the load in twill__wait. The node stays until its owner has had the
       lock */
    return atomic_fetch_or_explicit(word, TWILL__GRANTED | TWILL__LOOK, memory_order_acq_rel) &
                   TWILL__GRANTED
               ? NULL
               : word;
}

static inline void twill__rate_wake(_Atomic uint32_t *word)
{
    if (word)
        twill__wake(word, 1);
}

/* Everybody looks again: the rate has changed, or there is no more. */
static inline void twill__rate_tell_all(twill__rate *me)
{
    for (twill__ask *ask = me->first; ask; ask = ask->next)
        twill__rate_wake(twill__rate_tell(ask));
}

static inline void twill__rate_queued_add(twill__rate *me, twill__ask *ask, uint64_t cost)
{
    ask->queued = cost;
    me->queued.low += cost;
    me->queued.high += me->queued.low < cost;
}

static inline void twill__rate_queued_take(twill__rate *me, twill__ask *ask)
{
    me->queued.high -= me->queued.low < ask->queued;
    me->queued.low -= ask->queued;
    ask->queued = 0;
}

static inline void twill__rate_append(twill__ask *ask)
{
    twill__rate *me = ask->rate;
    TWILL__CHAIN_IN(me->first, me->last, me->last, ask, previous, next);
    twill__rate_queued_add(me, ask, ask->cost);
    if (++me->waiting > me->waiting_peak)
        me->waiting_peak = me->waiting;
    atomic_fetch_or_explicit(&me->flags, TWILL__RATE_WAITED, memory_order_relaxed);
}

/* Returns whom to wake: a new head. */
static inline _Atomic uint32_t *twill__rate_remove(twill__ask *ask)
{
    twill__rate *me = ask->rate;
    bool head = me->first == ask;
    TWILL__CHAIN_OUT(me->first, me->last, ask, previous, next);
    twill__rate_queued_take(me, ask);
    me->waiting--;
    if (!me->first)
        atomic_fetch_and_explicit(&me->flags, ~(uint32_t)TWILL__RATE_WAITED, memory_order_relaxed);
    return head ? twill__rate_tell(me->first) : NULL;
}

/* ---- WINDOW ---- */

/* The start of index k; those of the last `room` are kept. */
static inline twill_ns *twill__rate_window_start(const twill__rate *me, uint64_t k)
{
    return &me->u.window.starts[k % me->u.window.room];
}

/* When the k-th start from now may be, k > 0: one window after the one `tokens` before it. The
   starts are in order, or later than they were. */
static inline twill_ns twill__rate_window_due(const twill__rate *me, uint64_t k, twill_ns now)
{
    uint64_t tokens = me->u.window.tokens, rounds = (k - 1) / tokens;
    uint64_t index = me->u.window.written + (k - 1) % tokens;
    twill_ns per = me->u.window.per, due = now;
    if (index >= tokens) {
        due = twill__instant_after(*twill__rate_window_start(me, index - tokens), per);
        due = due > now ? due : now;
    }
    if (rounds)
        due = twill__instant_after(
            due, rounds > (uint64_t)(TWILL_FOREVER / per) ? TWILL_FOREVER : (twill_ns)rounds * per);
    return due > me->not_before ? due : me->not_before;
}

static inline bool twill__rate_window_ready(const twill__rate *me, uint64_t k, twill_ns now)
{
    twill_ns due = twill__rate_window_due(me, k, now);
    return due <= now && due < TWILL_FOREVER;
}

static inline void twill__rate_window_take(twill__rate *me, uint64_t n, twill_ns at)
{
    uint64_t written = me->u.window.written;
    if (written && *twill__rate_window_start(me, written - 1) > at)
        at = *twill__rate_window_start(me, written - 1); /* behind what is reserved */
    for (; n > 0; n--)
        *twill__rate_window_start(me, me->u.window.written++) = at;
}

/* The newest n were not used. Where a start has overwritten an older one, that one was at least a
   window before it; not one that has become longer since: `kept` are those of before. */
static inline void twill__rate_window_untake(twill__rate *me, uint64_t n)
{
    for (; n > 0; n--) {
        twill_ns *start = twill__rate_window_start(me, --me->u.window.written);
        twill_ns per = me->u.window.per;
        *start = *start < INT64_MIN + per ? INT64_MIN : *start - per;
    }
}

/* How many may start now. */
static inline uint64_t twill__rate_window_room(const twill__rate *me, twill_ns now)
{
    uint64_t low = 0, high = me->u.window.tokens; /* low may; above high, none may */
    while (low < high) {
        uint64_t middle = low + (high - low + 1) / 2;
        if (twill__rate_window_ready(me, middle, now))
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

#endif
