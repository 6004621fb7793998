/* twill: rate_limiter - at most so many starts in so much time, exactly, for as long as the program
   runs; and at most so many at once.
   SPDX-License-Identifier: MIT OR Unlicense
   Build: cc -std=c11 -pthread. In one .c file: #define TWILL_IMPLEMENTATION before the include.

WHEN TO USE IT
    A server allows ten calls a second, a disk so many bytes, a log so many lines. Ask before each
    start: try, wait, wait until, take what is there, reserve. Nobody sleeps under a lock, so
    everybody else can still ask, and be told no, at once.
    bulkhead: at most n calls at the same time, however long they take.
    rate_keys: a limit for each client, in bounded memory.
WHEN NOT
    To be on time once, or every second: twill_sleep. To hold back a producer that is faster than
    its consumer: producer_consumer, whose queue does that. Limits that several processes share: a
    limiter is one process's.

EXAMPLE:
#include <stdio.h>

#define TWILL_IMPLEMENTATION
#include "twill_rate_limiter.h"

static twill_rate_limiter api;

int main(void)
{
    twill_ns begun = twill_now();
    if (twill_rate_limiter_init_per_second(&api, 1000, 5) != TWILL_OK)  // a burst of 5
        return 1;
    for (int call = 0; call < 25; call++)
        if (twill_rate_limiter_acquire(&api, 1) != TWILL_OK)
            return 1;
    twill_ns took = twill_now() - begun;                    // 5 at once, then 20 at 1 ms
    printf("on time: %d\n", took >= TWILL_MS(20));
    printf("%s\n", twill_status_name(twill_rate_limiter_try_acquire(&api, 6)));
    return 0;
}
END OF EXAMPLE
OUTPUT:
on time: 1
TWILL_TOO_BIG
END OF OUTPUT

OPTIONS (twill_rate_limiter_options)
    tokens, per     the rate: tokens in `per`, exact for any two integers. tokens 0: INVALID. per 0:
                    1 s. More than 2 tokens a nanosecond: INVALID
    burst           how many may start at once after a pause. 0: 1; from 2^61 on: INVALID. WINDOW
                    has none: leave it 0
    used            of the burst (WINDOW: of tokens), at the beginning. 0: starts full
    kind            BUCKET: steady refill; in any time T at most burst + rate x T start. WINDOW: at
                    most `tokens` in ANY window of length per, half-open; needs `starts`
    oversize        what acquiring n > burst means. REFUSE: TWILL_TOO_BIG. SPLIT: waits as n single
                    ones would (try: EMPTY). DEBT: goes when the bucket is full, and those who
                    follow pay. WINDOW: REFUSE only
    barging         false: first come, first served, against try, too. true: whoever finds tokens
                    takes them
    strict_spacing  false: a late wake-up costs no rate: the next one comes as if it had been on
                    time, so two starts may be closer than 1/rate by that lateness. true: never
                    closer, and the rate falls short. BUCKET only
    max_waiters     0: as many as there are threads (a waiter lives on its own stack)
    counted         true: stats.granted counts each token, for one more atomic addition a grant.
                    WINDOW counts in any case
    starts, starts_count  WINDOW only: your array of at least `tokens` instants, kept while in use
    twill_rate_limiter_init_per_second(&limiter, 2.5, burst): any positive double, taken exactly.

ERRORS, in the order in which they are looked at
    TWILL_INVALID   NULL, an object that was never initialised, options
    TWILL_OK        n = 0, always
    TWILL_CLOSED    closed
    TWILL_TOO_BIG   no wait would help: n > burst (see oversize), or decades of it
    TWILL_OK        nobody waits (or barging), and tokens are there: also with an expired deadline
                    or a fired token
    TWILL_EMPTY     try: not there, or somebody waits before it
    TWILL_CANCELLED the token fired
    TWILL_TIMEOUT   the deadline cannot be met, reckoned with those who wait in front: AT ONCE. One
                    of them may give up after that; the answer stays
    TWILL_FULL      max_waiters
    TWILL_BUSY      reserve: somebody waits, whose turn it is first
    No call allocates or starts a thread, but for twill_rate_keys_create: TWILL_NO_MEMORY.

THREADS      All functions by any thread; init first. There is no destroy: when close has returned
             and all callers have left, the memory may go.
PROGRESS     Waiters take nothing in advance: they stand in a queue, and the head alone sleeps, for
             its own tokens. One that gives up leaves no debt.
ORDERING     Work before give_back or cancel comes before work after the grant that uses its tokens.
ALLOCATES    Nothing; the object may be static. rate_keys: one block, at create.
BLOCKS       acquire, enter. The others may meet a lock that is held for some instructions.
OWNERSHIP    The objects are the caller's, and never copied.
COSTS        BUCKET: a clock reading, one compare-and-swap; on x86-64, when calls come often, the
             tick counter in place of the clock (see CLOCK). WINDOW: a small lock.
FORK         A child goes on with a copy, without the waiters; the limit is a process's. rate_keys
             of a parent: TWILL_FORKED.
CLOCK        Monotonic. On x86-64 try and acquire first ask the tick counter, which is held to the
             clock every 0.1 ms: a grant may be early by up to 0.3 us, or count from so much before;
             what the counter does not grant, the clock decides. A jump forward fills to the burst
             and no more; an earlier instant never makes tokens. After 73 years of one rate it
             stands still; set_rate begins anew.
PITFALLS     A grant says when to START; a slow start is not the limiter's. A limiter of 10 a second
             lets 10 a second through, not 10 in each calendar second: WINDOW is the strict form. In
             a signal handler: twill_rate_limiter_try_acquire alone, where 64-bit atomics are lock-
             free, and there are futexes; it never waits for the lock, and answers EMPTY when
             somebody keeps it. */
#ifndef TWILL_RATE_LIMITER_H
#define TWILL_RATE_LIMITER_H

#include "base/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum twill_rate_kind { TWILL_RATE_BUCKET = 0, TWILL_RATE_WINDOW } twill_rate_kind;

typedef enum twill_rate_oversize {
    TWILL_RATE_REFUSE = 0,
    TWILL_RATE_SPLIT,
    TWILL_RATE_DEBT
} twill_rate_oversize;

typedef struct twill_rate_limiter_options { /* see OPTIONS above */
    uint64_t tokens;
    twill_ns per;
    uint64_t burst;
    uint64_t used;
    twill_rate_kind kind;
    twill_rate_oversize oversize;
    bool barging;
    bool strict_spacing;
    size_t max_waiters;
    bool counted;
    twill_ns *starts;
    size_t starts_count;
} twill_rate_limiter_options;

/* The caller's; may be static; zeroed: INVALID. */
typedef struct twill_rate_limiter {
    TWILL_PRIVATE(80);
} twill_rate_limiter;

/* INVALID: see OPTIONS. */
TWILL__DECL twill_status twill_rate_limiter_init(twill_rate_limiter *limiter,
                                                 const twill_rate_limiter_options *options);
/* A bucket. INVALID: NaN, infinite, zero, negative; above 2e9. burst 0: 1. */
TWILL__DECL twill_status twill_rate_limiter_init_per_second(twill_rate_limiter *limiter,
                                                            double rate, uint64_t burst);

/* n tokens: for ever, without waiting (OK or EMPTY), or until. */
TWILL__DECL twill_status twill_rate_limiter_acquire(twill_rate_limiter *limiter, uint64_t n);
TWILL__DECL twill_status twill_rate_limiter_try_acquire(twill_rate_limiter *limiter, uint64_t n);
TWILL__DECL twill_status twill_rate_limiter_acquire_until(twill_rate_limiter *limiter, uint64_t n,
                                                          twill_until until);
/* As many as there are, up to n, by the rule of try: 0..n. */
TWILL__DECL uint64_t twill_rate_limiter_take_up_to(twill_rate_limiter *limiter, uint64_t n);
/* n of each of `count` limiters, all at one instant, or none. One that stands in the array twice
   gives 2n. Whatever the order in which calls name them, they do not block one another for ever.
   count > 16: TOO_BIG. */
TWILL__DECL twill_status twill_rate_limiter_acquire_all_until(twill_rate_limiter *const *limiters,
                                                              size_t count, uint64_t n,
                                                              twill_until until);

/* A permit for later: for event loops, which do their own waiting. */
typedef struct twill_reservation {
    twill_ns due; /* when the permit may be used */
    uint64_t private_words[3];
} twill_reservation;

/* OK: taken; wait until out->due. TIMEOUT: that would be more than max_wait from now (<= 0: only
   now), and nothing is taken. Not OK: *out is {0}, of which cancel is false. */
TWILL__DECL twill_status twill_rate_limiter_reserve(twill_rate_limiter *limiter, uint64_t n,
                                                    twill_ns max_wait, twill_reservation *out);
/* True: the tokens are back, and the reservation is gone. Only before `due`, once, and before
   set_rate. False also for one of very many (more than 16 with others behind them), for one in DEBT
   with others behind it, in WINDOW for any but the latest, and in a bucket for one that is due
   before the end of a penalty. */
TWILL__DECL bool twill_rate_limiter_cancel(twill_rate_limiter *limiter,
                                           twill_reservation *reservation);
/* Tokens that were taken and not used; it does not become more than full. In WINDOW none from
   before a set_rate that made it longer, nor while a reservation is still to come. */
TWILL__DECL void twill_rate_limiter_give_back(twill_rate_limiter *limiter, uint64_t n);

/* How many try would get now. */
TWILL__DECL uint64_t twill_rate_limiter_available(const twill_rate_limiter *limiter);
/* How long acquire would wait, behind those who wait now. 0: not at all. TWILL_FOREVER: as things
   stand no wait would help (only another rate, or what is given back). For a Retry-After answer. */
TWILL__DECL twill_ns twill_rate_limiter_wait_time(const twill_rate_limiter *limiter, uint64_t n);

/* Another rate, at once: credit in tokens is kept, up to the new burst; waiters are re-timed (one
   that asks for more than the new burst: TOO_BIG). CLOSED; INVALID: as at init; TOO_BIG: WINDOW,
   beyond starts_count. */
TWILL__DECL twill_status twill_rate_limiter_set_rate(twill_rate_limiter *limiter, uint64_t tokens,
                                                     twill_ns per, uint64_t burst);
/* Nothing before now + wait ("Retry-After"), and then one token (WINDOW: what that has room for);
   later if it was later already.
   Another rate, and what is given back or cancelled, change nothing of that. */
TWILL__DECL void twill_rate_limiter_penalise(twill_rate_limiter *limiter, twill_ns wait);
/* No more tokens: waiters are told CLOSED. A second time: CLOSED. */
TWILL__DECL twill_status twill_rate_limiter_close(twill_rate_limiter *limiter);

typedef struct twill_rate_limiter_stats {
    uint64_t granted;              /* tokens, reserved ones included; 0 unless `counted` */
    uint64_t refused;              /* calls that were told EMPTY, or FULL */
    uint64_t timed_out, cancelled; /* calls */
    /* tokens, those of cancelled reservations included; in a bucket all that give_back was told of,
       also those for which it was too full */
    uint64_t given_back;
    uint64_t lost_in_cancel; /* tokens of cancelled reservations that nobody could use */
    size_t waiting, waiting_peak;
    twill_ns waited; /* by those who waited and have left, together */
} twill_rate_limiter_stats;
/* NULL or never initialised: zeroes. */
TWILL__DECL void twill_rate_limiter_get_stats(twill_rate_limiter *limiter,
                                              twill_rate_limiter_stats *out);

/* With the caller's clock: instants on any axis; the limiter's time begins with the first one. Not
   together with the functions that read the clock (asserted); cancel and give_back go by the latest
   instant that came to the lock (all given to reserve_at). */
TWILL__DECL twill_status twill_rate_limiter_try_acquire_at(twill_rate_limiter *limiter, uint64_t n,
                                                           twill_ns now);
TWILL__DECL twill_status twill_rate_limiter_reserve_at(twill_rate_limiter *limiter, uint64_t n,
                                                       twill_ns max_wait, twill_ns now,
                                                       twill_reservation *out);

/* ---- a limit for each key ---- */

/* One bucket for each key; never waits. A full bucket equals no entry: idle keys cost nothing. */
typedef struct twill_rate_keys twill_rate_keys;

/* max_keys: how many may be less than full at a time. 0: 65536. About 28 bytes each. Of the options
   tokens, per, burst and oversize (not SPLIT) count; the others must be 0. INVALID, TOO_BIG (more
   than 2^30 keys), NO_MEMORY. */
TWILL__DECL twill_status twill_rate_keys_create(twill_rate_keys **out, size_t max_keys,
                                                const twill_rate_limiter_options *options);
/* OK; EMPTY; FULL: max_keys others are in use; TOO_BIG; FORKED; INVALID. */
TWILL__DECL twill_status twill_rate_keys_try_acquire(twill_rate_keys *keys, uint64_t key,
                                                     uint64_t n);
/* 0: now; TWILL_FOREVER: never. Of one that would be told FULL: there is no room before that. */
TWILL__DECL twill_ns twill_rate_keys_wait_time(twill_rate_keys *keys, uint64_t key, uint64_t n);
/* When all calls have returned. NULL: OK. */
TWILL__DECL twill_status twill_rate_keys_destroy(twill_rate_keys *keys);

/* ---- how many at once ---- */

/* At most max_inside callers inside, max_waiting before the door, first come, first served. The
   caller's; zeroed: INVALID. No destroy: as the limiter. A forked child keeps the count. */
typedef struct twill_bulkhead {
    TWILL_PRIVATE(16);
} twill_bulkhead;

/* max_inside 0: INVALID. max_waiting 0: nobody waits; SIZE_MAX: as many as there are threads. */
TWILL__DECL twill_status twill_bulkhead_init(twill_bulkhead *bulkhead, size_t max_inside,
                                             size_t max_waiting);
/* OK: inside, and leave comes after it. CLOSED; CANCELLED; TIMEOUT; FULL: max_waiting, and always
   for try. */
TWILL__DECL twill_status twill_bulkhead_enter(twill_bulkhead *bulkhead);
TWILL__DECL twill_status twill_bulkhead_try_enter(twill_bulkhead *bulkhead);
TWILL__DECL twill_status twill_bulkhead_enter_until(twill_bulkhead *bulkhead, twill_until until);
/* By any thread. INVALID: nobody is inside. */
TWILL__DECL twill_status twill_bulkhead_leave(twill_bulkhead *bulkhead);
/* Nobody enters any more: waiters are told CLOSED; those inside go on. A second time: CLOSED. */
TWILL__DECL twill_status twill_bulkhead_close(twill_bulkhead *bulkhead);

#ifdef __cplusplus
}
#endif
#endif

#ifdef TWILL_IMPLEMENTATION
#ifndef TWILL__RATE_LIMITER_IMPLEMENTATION
#define TWILL__RATE_LIMITER_IMPLEMENTATION

#include "engine/call.h"
#include "engine/status.h"
#include "rate_limiter/asking.h"
#include "rate_limiter/bulkhead.h"
#include "rate_limiter/keys.h"
#include "rate_limiter/reserve.h"

_Static_assert(sizeof(twill__rate) <= sizeof(twill_rate_limiter),
               "twill_rate_limiter is too small");
_Static_assert(sizeof(twill__bulkhead) <= sizeof(twill_bulkhead), "twill_bulkhead is too small");

/* NULL: there is no such limiter. */
static inline twill__rate *twill__rate_of(const twill_rate_limiter *limiter)
{
    twill__rate *me = (twill__rate *)(uintptr_t)limiter;
    return me && me->magic == TWILL__RATE_MAGIC ? me : NULL;
}

/* ---- init ---- */

static inline bool twill__rate_valid(const twill_rate_limiter_options *o)
{
    if (!o || !o->tokens || o->per < 0 || (unsigned)o->kind > TWILL_RATE_WINDOW ||
        (unsigned)o->oversize > TWILL_RATE_DEBT)
        return false;
    if (o->kind == TWILL_RATE_BUCKET)
        return !o->starts && !o->starts_count && o->used <= (o->burst ? o->burst : 1);
    return o->starts && o->starts_count >= o->tokens && !o->burst && !o->oversize &&
           !o->strict_spacing && o->used <= o->tokens;
}

/* What both kinds have. `scale` is the rate of a bucket. */
static inline void twill__rate_begin(twill__rate *me, const twill_rate_limiter_options *o,
                                     const twill__scale *scale)
{
    memset(me, 0, sizeof *me);
    me->kind = (uint8_t)o->kind;
    me->oversize = (uint8_t)o->oversize;
    me->barging = o->barging;
    me->strict = o->strict_spacing;
    me->counted = o->counted || o->kind;
    me->max_waiters = o->max_waiters;
    me->begun = twill__clock_now();
    me->not_before = INT64_MIN;
    me->turn = 1;
    twill__rate_rescale(me, scale);
    atomic_store_explicit(&me->origin, me->begun, memory_order_relaxed);
    /* nobody else knows it yet; SLOW: until a first call says whose clock */
    atomic_store_explicit(&me->generation, twill__generation(), memory_order_relaxed);
    atomic_store_explicit(&me->word, TWILL__RATE_SLOW | o->used << scale->shift,
                          memory_order_relaxed);
    me->magic = TWILL__RATE_MAGIC;
}

TWILL__DEFINE twill_status twill_rate_limiter_init(twill_rate_limiter *limiter,
                                                   const twill_rate_limiter_options *options)
{
    twill__rate *me = (twill__rate *)limiter;
    twill__scale scale;
    twill_ns per;
    if (!limiter || !twill__rate_valid(options))
        return TWILL_INVALID;
    per = options->per ? options->per : TWILL_SEC(1);
    memset(&scale, 0, sizeof scale);
    if (options->kind == TWILL_RATE_BUCKET &&
        !twill__scale_make(&scale, options->tokens, (uint64_t)per, 0,
                           options->burst ? options->burst : 1))
        return TWILL_INVALID;
    twill__rate_begin(me, options, &scale);
    if (options->kind == TWILL_RATE_WINDOW) {
        me->u.window.starts = options->starts;
        me->u.window.room = options->starts_count;
        me->u.window.tokens = options->tokens;
        me->u.window.per = per;
        /* with the caller's clock they move to its first instant: see twill__rate_born */
        for (uint64_t k = 0; k < options->used; k++)
            options->starts[me->u.window.written++] = me->begun;
    }
    return TWILL_OK;
}

TWILL__DEFINE twill_status twill_rate_limiter_init_per_second(twill_rate_limiter *limiter,
                                                              double rate, uint64_t burst)
{
    twill_rate_limiter_options options = {.tokens = 1, .burst = burst ? burst : 1};
    twill__scale scale;
    uint64_t tokens;
    int power;
    if (!limiter || !twill__scale_split(rate, &tokens, &power) ||
        !twill__scale_make(&scale, tokens, (uint64_t)TWILL_SEC(1), power, options.burst))
        return TWILL_INVALID;
    twill__rate_begin((twill__rate *)limiter, &options, &scale);
    return TWILL_OK;
}

/* ---- without waiting ---- */

/* OK: the limiter is ours, ask->word its word. Else what try answers. */
static inline twill_status twill__rate_try_enter(twill__ask *ask, uint32_t clock, twill_ns now)
{
    twill__rate *me = ask->rate;
    uint32_t flags = twill__rate_flags(me);
    if (flags & TWILL__RATE_CLOSED)
        return TWILL_CLOSED;
    if ((flags & TWILL__RATE_WAITED) && !me->barging &&
        (me->kind || twill__ask_cost(ask) == TWILL_OK))
        return TWILL_EMPTY; /* TOO_BIG is certain under the lock alone, beside a change of rate */
    if (!twill__rate_try_lock(me, 64))
        return TWILL_EMPTY;
    ask->word = twill__rate_seize(me, clock, now);
    return TWILL_OK;
}

/* What the word alone does not decide. Apart, so that a try pays for no more than it does. */
__attribute__((cold)) static inline twill_status twill__rate_try_slow(twill__rate *me, uint64_t n,
                                                                      uint32_t clock, twill_ns now)
{
    twill__ask ask = {.rate = me, .n = n};
    twill__asking call = {.asks = &ask, .count = 1};
    twill_status status;
    if (n == 0)
        return TWILL_OK;
    status = twill__rate_try_enter(&ask, clock, now);
    if (status == TWILL_OK) {
        status = twill__asking_check(&call);
        if (status == TWILL_OK && !twill__asking_take(&call, now))
            status = TWILL_EMPTY;
        twill__rate_exit(me, ask.word);
    }
    return status;
}

static inline twill_status twill__rate_try(twill__rate *me, uint64_t n, uint32_t clock,
                                           twill_ns now)
{
    int status;
    /* a hint for an assertion */
    TWILL_ASSERT((atomic_load_explicit(&me->clock, memory_order_relaxed) & ~clock) == 0);
    status = twill__rate_fast(me, &n, now, false);
    if (status < 0)
        status = (int)twill__rate_try_slow(me, n, clock, now);
    if (status == (int)TWILL_EMPTY)
        atomic_fetch_add_explicit(&me->refused, 1, memory_order_relaxed); /* a count */
    return (twill_status)status;
}

TWILL__DEFINE twill_status twill_rate_limiter_try_acquire(twill_rate_limiter *limiter, uint64_t n)
{
    twill__rate *me = twill__rate_of(limiter);
    twill_ns now;
    if (!me)
        return TWILL_INVALID;
    return twill__rate_quick(me, n, &now) ? TWILL_OK
                                          : twill__rate_try(me, n, TWILL__RATE_REAL, now);
}

TWILL__DEFINE twill_status twill_rate_limiter_try_acquire_at(twill_rate_limiter *limiter,
                                                             uint64_t n, twill_ns now)
{
    twill__rate *me = twill__rate_of(limiter);
    return me ? twill__rate_try(me, n, TWILL__RATE_CALLERS, now) : TWILL_INVALID;
}

/* With the limiter to ourselves, or for a guess: tokens that a try would get. */
static inline uint64_t twill__rate_room(const twill__rate *me, uint64_t word, twill_ns now)
{
    twill__scale scale;
    uint64_t v, from;
    if (me->kind)
        return twill__rate_window_room(me, now);
    scale = twill__rate_scale(me);
    v = twill__scale_at(&scale, now);
    from = twill__rate_most(word, v);
    return from - v < scale.burst ? (scale.burst - (from - v)) >> scale.shift : 0;
}

TWILL__DEFINE uint64_t twill_rate_limiter_take_up_to(twill_rate_limiter *limiter, uint64_t n)
{
    twill__ask ask = {.rate = twill__rate_of(limiter)};
    twill__asking call = {.asks = &ask, .count = 1};
    twill_ns now;
    int fast;
    if (!ask.rate || n == 0)
        return 0;
    fast = twill__rate_fast(ask.rate, &n, twill__clock_now(), true);
    if (fast >= 0)
        return fast == TWILL_OK ? n : 0;
    if (twill__rate_try_enter(&ask, TWILL__RATE_REAL, twill__clock_now()) != TWILL_OK)
        return 0;
    now = twill__clock_now();
    ask.n = twill__rate_room(ask.rate, ask.word, now);
    ask.n = ask.n < n ? ask.n : n;
    if (!ask.n || twill__asking_check(&call) != TWILL_OK || !twill__asking_take(&call, now))
        ask.n = 0;
    twill__rate_exit(ask.rate, ask.word);
    return ask.n;
}

/* ---- waiting ---- */

static inline twill_status twill__rate_acquire(twill__rate *me, uint64_t n, twill_until until)
{
    twill__ask ask = {.rate = me, .n = n};
    twill__asking call = {.asks = &ask, .count = 1};
    twill_ns now;
    if (!me)
        return TWILL_INVALID;
    if (n == 0 || twill__rate_quick(me, n, &now) ||
        twill__rate_fast(me, &n, now, false) == TWILL_OK)
        return TWILL_OK;
    return twill__asking_run(&call, until);
}

TWILL__DEFINE twill_status twill_rate_limiter_acquire(twill_rate_limiter *limiter, uint64_t n)
{
    return twill__rate_acquire(twill__rate_of(limiter), n, (twill_until){0, NULL});
}

TWILL__DEFINE twill_status twill_rate_limiter_acquire_until(twill_rate_limiter *limiter, uint64_t n,
                                                            twill_until until)
{
    return twill__rate_acquire(twill__rate_of(limiter), n, until);
}

/* Puts a limiter in the order of addresses, which is the order of locking. */
static inline twill_status twill__asks_add(twill__ask *asks, size_t *count, twill__rate *me,
                                           uint64_t n)
{
    size_t at = *count;
    while (at > 0 && (uintptr_t)asks[at - 1].rate > (uintptr_t)me)
        at--;
    if (at > 0 && asks[at - 1].rate == me) {
        if (n > UINT64_MAX - asks[at - 1].n)
            return TWILL_TOO_BIG;
        asks[at - 1].n += n;
        return TWILL_OK;
    }
    memmove(asks + at + 1, asks + at, (*count - at) * sizeof *asks);
    memset(&asks[at], 0, sizeof asks[at]);
    asks[at].rate = me;
    asks[at].n = n;
    ++*count;
    return TWILL_OK;
}

TWILL__DEFINE twill_status twill_rate_limiter_acquire_all_until(twill_rate_limiter *const *limiters,
                                                                size_t count, uint64_t n,
                                                                twill_until until)
{
    twill__ask asks[TWILL__RATE_TOGETHER];
    twill__asking call = {.asks = asks, .count = 0};
    twill_status status = TWILL_OK;
    if (!limiters && count)
        return TWILL_INVALID;
    if (count > TWILL__RATE_TOGETHER)
        return TWILL_TOO_BIG;
    for (size_t k = 0; k < count; k++)
        if (!twill__rate_of(limiters[k]))
            return TWILL_INVALID;
    if (n == 0)
        return TWILL_OK;
    for (size_t k = 0; k < count && status == TWILL_OK; k++)
        status = twill__asks_add(asks, &call.count, twill__rate_of(limiters[k]), n);
    return status == TWILL_OK ? twill__asking_run(&call, until) : status;
}

/* ---- ahead of time, and back ---- */

static inline twill_status twill__rate_reserve(twill__rate *me, uint64_t n, twill_ns max_wait,
                                               uint32_t clock, twill_ns now, twill_reservation *out)
{
    twill__ask ask = {.rate = me, .n = n};
    twill_status status;
    if (out)
        memset(out, 0, sizeof *out);
    if (!me || !out)
        return TWILL_INVALID;
    if (n == 0) {
        out->due = now;
        return TWILL_OK;
    }
    ask.word = twill__rate_enter(me, clock, now);
    status = twill__rate_reserve_now(&ask, max_wait > 0 ? max_wait : 0, now, out);
    twill__rate_exit(me, ask.word);
    return status;
}

TWILL__DEFINE twill_status twill_rate_limiter_reserve(twill_rate_limiter *limiter, uint64_t n,
                                                      twill_ns max_wait, twill_reservation *out)
{
    return twill__rate_reserve(twill__rate_of(limiter), n, max_wait, TWILL__RATE_REAL,
                               twill__clock_now(), out);
}

TWILL__DEFINE twill_status twill_rate_limiter_reserve_at(twill_rate_limiter *limiter, uint64_t n,
                                                         twill_ns max_wait, twill_ns now,
                                                         twill_reservation *out)
{
    return twill__rate_reserve(twill__rate_of(limiter), n, max_wait, TWILL__RATE_CALLERS, now, out);
}

/* Leaves the limiter; the head looks again, since it may be served earlier or later now. */
static inline void twill__rate_changed(twill__rate *me, uint64_t word)
{
    _Atomic uint32_t *wake = twill__rate_tell(me->first);
    twill__rate_exit(me, word);
    twill__rate_wake(wake);
}

TWILL__DEFINE bool twill_rate_limiter_cancel(twill_rate_limiter *limiter,
                                             twill_reservation *reservation)
{
    twill__rate *me = twill__rate_of(limiter);
    uint64_t word;
    bool back;
    if (!me || !reservation)
        return false;
    word = twill__rate_enter(me, TWILL__RATE_UNBORN, 0);
    back = twill__rate_unreserve(me, &word, reservation);
    twill__rate_changed(me, word);
    return back;
}

TWILL__DEFINE void twill_rate_limiter_give_back(twill_rate_limiter *limiter, uint64_t n)
{
    twill__rate *me = twill__rate_of(limiter);
    uint64_t word;
    if (!me || n == 0)
        return;
    word = twill__rate_enter(me, TWILL__RATE_UNBORN, 0);
    twill__rate_return(me, &word, n);
    twill__rate_changed(me, word);
}

TWILL__DEFINE void twill_rate_limiter_penalise(twill_rate_limiter *limiter, twill_ns wait)
{
    twill__rate *me = twill__rate_of(limiter);
    uint64_t word;
    if (!me || wait <= 0)
        return;
    word = twill__rate_enter(me, TWILL__RATE_UNBORN, 0);
    twill__rate_penalise(me, &word, wait);
    twill__rate_changed(me, word);
}

/* ---- looking ---- */

TWILL__DEFINE uint64_t twill_rate_limiter_available(const twill_rate_limiter *limiter)
{
    twill__ask ask = {.rate = twill__rate_of(limiter)};
    uint64_t room = 0;
    if (!ask.rate)
        return 0;
    ask.word = twill__rate_enter(ask.rate, TWILL__RATE_UNBORN, 0);
    if (!(twill__rate_flags(ask.rate) & TWILL__RATE_CLOSED) && twill__ask_queue_open(&ask))
        room = twill__rate_room(ask.rate, ask.word, twill__rate_now(ask.rate));
    twill__rate_exit(ask.rate, ask.word);
    return room;
}

TWILL__DEFINE twill_ns twill_rate_limiter_wait_time(const twill_rate_limiter *limiter, uint64_t n)
{
    twill__ask ask = {.rate = twill__rate_of(limiter), .n = n};
    twill__asking call = {.asks = &ask, .count = 1};
    twill_ns now, due = TWILL_FOREVER;
    if (!ask.rate)
        return TWILL_FOREVER;
    if (n == 0)
        return 0;
    ask.word = twill__rate_enter(ask.rate, TWILL__RATE_UNBORN, 0);
    now = twill__rate_now(ask.rate);
    if (twill__asking_check(&call) == TWILL_OK)
        due = twill__ask_due(&ask, ask.rate->barging ? 0 : twill__ask_ahead(&ask), now, now);
    twill__rate_exit(ask.rate, ask.word);
    return due == TWILL_FOREVER ? due : twill__rate_between(now, due);
}

TWILL__DEFINE void twill_rate_limiter_get_stats(twill_rate_limiter *limiter,
                                                twill_rate_limiter_stats *out)
{
    twill__rate *me = twill__rate_of(limiter);
    uint64_t word;
    if (!out)
        return;
    memset(out, 0, sizeof *out);
    if (!me)
        return;
    word = twill__rate_enter(me, TWILL__RATE_UNBORN, 0);
    /* counts */
    out->granted = me->counted ? atomic_load_explicit(&me->granted, memory_order_relaxed) : 0;
    out->refused = atomic_load_explicit(&me->refused, memory_order_relaxed);
    out->timed_out = me->timed_out;
    out->cancelled = me->cancelled;
    out->given_back = me->given_back;
    out->lost_in_cancel = me->lost;
    out->waiting = (size_t)me->waiting;
    out->waiting_peak = (size_t)me->waiting_peak;
    out->waited = me->waited;
    twill__rate_exit(me, word);
}

/* ---- another rate, and the end ---- */

TWILL__DEFINE twill_status twill_rate_limiter_set_rate(twill_rate_limiter *limiter, uint64_t tokens,
                                                       twill_ns per, uint64_t burst)
{
    twill__rate *me = twill__rate_of(limiter);
    twill__scale scale;
    twill_status status = TWILL_OK;
    uint64_t word;
    memset(&scale, 0, sizeof scale);
    per = per ? per : TWILL_SEC(1);
    if (!me || !tokens || per < 0 || (me->kind && burst))
        return TWILL_INVALID;
    if (!me->kind && !twill__scale_make(&scale, tokens, (uint64_t)per, 0, burst ? burst : 1))
        return TWILL_INVALID;
    word = twill__rate_enter(me, TWILL__RATE_UNBORN, 0);
    if (twill__rate_flags(me) & TWILL__RATE_CLOSED) {
        status = TWILL_CLOSED;
    } else if (me->kind && tokens > me->u.window.room) {
        status = TWILL_TOO_BIG;
    } else {
        me->turn++;
        if (me->kind) {
            if (per > me->u.window.per) /* see twill__rate_window_untake */
                me->u.window.kept = me->u.window.written;
            me->u.window.tokens = tokens;
            me->u.window.per = per;
        } else {
            word = twill__rate_replace(me, word, scale, twill__rate_now(me));
        }
        twill__rate_retime(me);
    }
    twill__rate_exit(me, word);
    return status;
}

TWILL__DEFINE twill_status twill_rate_limiter_close(twill_rate_limiter *limiter)
{
    twill__rate *me = twill__rate_of(limiter);
    uint64_t word;
    uint32_t before;
    if (!me)
        return TWILL_INVALID;
    word = twill__rate_enter(me, TWILL__RATE_UNBORN, 0);
    /* under the lock; read without it as a hint */
    before = atomic_fetch_or_explicit(&me->flags, TWILL__RATE_CLOSED, memory_order_relaxed);
    twill__rate_tell_all(me);
    twill__rate_exit(me, word);
    return before & TWILL__RATE_CLOSED ? TWILL_CLOSED : TWILL_OK;
}

/* ---- keys ---- */

static inline twill_status twill__keys_scale(const twill_rate_limiter_options *o,
                                             twill__scale *scale)
{
    if (!twill__rate_valid(o) || o->kind || o->oversize == TWILL_RATE_SPLIT || o->used ||
        o->barging || o->strict_spacing || o->max_waiters || o->counted)
        return TWILL_INVALID;
    memset(scale, 0, sizeof *scale);
    return twill__scale_make(scale, o->tokens, (uint64_t)(o->per ? o->per : TWILL_SEC(1)), 0,
                             o->burst ? o->burst : 1)
               ? TWILL_OK
               : TWILL_INVALID;
}

/* One block: the object on its lines, the entries, the chains. */
static inline twill_rate_keys *twill__keys_memory(uint32_t max, uint32_t buckets)
{
    uint64_t bytes = sizeof(twill_rate_keys) + TWILL__LINE +
                     UINT64_C(1) * max * sizeof(twill__key) +
                     UINT64_C(1) * buckets * sizeof(uint32_t);
    twill_rate_keys *keys;
    char *memory;
    if (bytes > SIZE_MAX / 2)
        return NULL;
    memory = (char *)TWILL_MALLOC((size_t)bytes);
    if (!memory)
        return NULL;
    keys = (twill_rate_keys *)(void *)(memory + (TWILL__LINE - (uintptr_t)memory % TWILL__LINE));
    memset(keys, 0, sizeof *keys);
    keys->memory = memory;
    keys->entries = (twill__key *)(void *)(keys + 1);
    keys->chains = (uint32_t *)(void *)(keys->entries + max);
    return keys;
}

TWILL__DEFINE twill_status twill_rate_keys_create(twill_rate_keys **out, size_t max_keys,
                                                  const twill_rate_limiter_options *options)
{
    twill__scale scale;
    twill_rate_keys *keys;
    uint32_t max, buckets = TWILL__KEYS_SHARDS;
    if (!out)
        return TWILL_INVALID;
    *out = NULL;
    if (twill__keys_scale(options, &scale) != TWILL_OK)
        return TWILL_INVALID;
    if (max_keys > UINT32_C(1) << 30)
        return TWILL_TOO_BIG;
    max = max_keys ? (uint32_t)max_keys : 65536;
    while (buckets < max)
        buckets *= 2;
    keys = twill__keys_memory(max, buckets);
    if (!keys)
        return TWILL_NO_MEMORY;
    keys->scale = scale;
    keys->scale.origin = twill__clock_now();
    keys->seed = twill__random_begin(0, keys);
    keys->debt = options->oversize == TWILL_RATE_DEBT;
    keys->home = twill__home_here();
    keys->buckets = buckets;
    for (uint32_t k = 0; k < max; k++)
        keys->entries[k] = (twill__key){0, 0, k + 1 < max ? k + 1 : TWILL__KEYS_NONE};
    for (uint32_t k = 0; k < buckets; k++)
        keys->chains[k] = TWILL__KEYS_NONE;
    for (uint32_t k = 0; k < TWILL__KEYS_SHARDS; k++)
        keys->shard[k].soonest = UINT64_MAX;
    *out = keys;
    return TWILL_OK;
}

/* OK, or why this call cannot be. */
static inline twill_status twill__keys_cost(const twill_rate_keys *keys, uint64_t n, uint64_t *cost)
{
    uint64_t burst;
    if (!keys)
        return TWILL_INVALID;
    if (!twill__at_home(keys->home))
        return TWILL_FORKED;
    burst = keys->scale.burst >> keys->scale.shift;
    *cost = 0;
    if (n > burst && (!keys->debt || n > TWILL__RATE_MOST >> keys->scale.shift))
        return TWILL_TOO_BIG;
    *cost = n << keys->scale.shift;
    return TWILL_OK;
}

TWILL__DEFINE twill_status twill_rate_keys_try_acquire(twill_rate_keys *keys, uint64_t key,
                                                       uint64_t n)
{
    uint64_t cost = 0, v;
    uint32_t bucket, s;
    twill_status status = twill__keys_cost(keys, n, &cost);
    int answer;
    bool more = true;
    if (status != TWILL_OK || n == 0)
        return status;
    bucket = twill__keys_bucket(keys, key);
    s = twill__keys_shard_of(bucket);
    do { /* exit: an answer; after each sweep that found some, others may have taken them */
        v = twill__scale_at(&keys->scale, twill__clock_now());
        twill__lock(&keys->shard[s].lock);
        answer = twill__keys_take(keys, bucket, key, cost, v);
        if (answer < 0 && twill__keys_sweep(keys, s, v))
            answer = twill__keys_take(keys, bucket, key, cost, v);
        twill__unlock(&keys->shard[s].lock);
        if (answer < 0) /* what others have swept, and not taken, is spare */
            more = twill__keys_sweep_all(keys, v) || twill__keys_any_spare(keys);
    } while (answer < 0 && more);
    return answer < 0 ? TWILL_FULL : (twill_status)answer;
}

TWILL__DEFINE twill_ns twill_rate_keys_wait_time(twill_rate_keys *keys, uint64_t key, uint64_t n)
{
    uint64_t cost = 0, from = 0, needs;
    uint32_t bucket, s;
    twill_ns now, due;
    const twill__key *entry;
    if (twill__keys_cost(keys, n, &cost) != TWILL_OK)
        return TWILL_FOREVER;
    if (n == 0)
        return 0;
    bucket = twill__keys_bucket(keys, key);
    s = twill__keys_shard_of(bucket);
    now = twill__clock_now();
    twill__lock(&keys->shard[s].lock);
    entry = twill__keys_find(keys, bucket, key);
    if (entry)
        from = entry->word;
    twill__unlock(&keys->shard[s].lock);
    from = twill__rate_most(from, twill__scale_at(&keys->scale, now));
    needs = cost > keys->scale.burst          ? from
            : from + cost > keys->scale.burst ? from + cost - keys->scale.burst
                                              : 0;
    if (!entry && !twill__keys_room(keys, from))
        needs = twill__keys_soonest(keys);
    due = twill__scale_when(&keys->scale, needs);
    return due == TWILL_FOREVER ? due : twill__rate_between(now, due);
}

TWILL__DEFINE twill_status twill_rate_keys_destroy(twill_rate_keys *keys)
{
    if (keys)
        TWILL_FREE(keys->memory);
    return TWILL_OK;
}

/* ---- bulkhead ---- */

TWILL__DEFINE twill_status twill_bulkhead_init(twill_bulkhead *bulkhead, size_t max_inside,
                                               size_t max_waiting)
{
    twill__bulkhead *me = twill__bulkhead_of(bulkhead);
    if (!bulkhead || !max_inside)
        return TWILL_INVALID;
    memset(bulkhead, 0, sizeof *bulkhead);
    me->max_inside = max_inside;
    me->max_waiting = max_waiting;
    /* nobody else knows it yet */
    atomic_store_explicit(&me->generation, twill__generation(), memory_order_relaxed);
    return TWILL_OK;
}

TWILL__DEFINE twill_status twill_bulkhead_enter_until(twill_bulkhead *bulkhead, twill_until until)
{
    twill__bulkhead *me = twill__bulkhead_of(bulkhead);
    return me && me->max_inside ? twill__bulkhead_enter(me, until, true) : TWILL_INVALID;
}

TWILL__DEFINE twill_status twill_bulkhead_enter(twill_bulkhead *bulkhead)
{
    return twill_bulkhead_enter_until(bulkhead, (twill_until){0, NULL});
}

TWILL__DEFINE twill_status twill_bulkhead_try_enter(twill_bulkhead *bulkhead)
{
    twill__bulkhead *me = twill__bulkhead_of(bulkhead);
    return me && me->max_inside ? twill__bulkhead_enter(me, (twill_until){0, NULL}, false)
                                : TWILL_INVALID;
}

TWILL__DEFINE twill_status twill_bulkhead_leave(twill_bulkhead *bulkhead)
{
    twill__bulkhead *me = twill__bulkhead_of(bulkhead);
    _Atomic uint32_t *wake = NULL;
    twill_status status = TWILL_OK;
    if (!me || !me->max_inside)
        return TWILL_INVALID;
    twill__bulkhead_lock(me);
    if (!me->inside) {
        status = TWILL_INVALID;
    } else { /* the place goes to a waiter, or is free */
        wake = twill__bulkhead_admit(me, TWILL_OK);
        me->inside -= !wake;
    }
    twill__unlock(&me->lock);
    if (wake)
        twill__wake(wake, 1);
    return status;
}

TWILL__DEFINE twill_status twill_bulkhead_close(twill_bulkhead *bulkhead)
{
    twill__bulkhead *me = twill__bulkhead_of(bulkhead);
    _Atomic uint32_t *wake;
    twill_status status;
    if (!me || !me->max_inside)
        return TWILL_INVALID;
    twill__bulkhead_lock(me);
    status = me->closed ? TWILL_CLOSED : TWILL_OK;
    me->closed = true;
    while ((wake = twill__bulkhead_admit(me, TWILL_CLOSED)) != NULL)
        twill__wake(wake, 1);
    twill__unlock(&me->lock);
    return status;
}
#endif
#endif
