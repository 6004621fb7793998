/* scale.h: a rate as exact integers: how many units have come by an instant, and when a number of
   them will have. */
#ifndef TWILL__RATE_SCALE_H
#define TWILL__RATE_SCALE_H

#include "engine/wide.h"
#include "platform/platform.h"

/* Generic cell rate algorithm (ITU-T I.371), counted in tokens instead of time: then any rate is
   exact, where an interval of whole nanoseconds is wrong by 43 % at 7e8 a second. A unit is
   2^-shift tokens, as fine as 64 bits allow for 73 years. `base` is where this rate began on the
   axis of units; words of a limiter are points on that axis.

   V(e), the units that have come e ns after the origin, is floor(e * rate * 2^shift), where the
   rate is rounded up in its 63rd bit: so token k is due exactly at k / rate where that is a whole
   nanosecond, in the 70th year, too; rounded down it would come one later. */
typedef struct twill__scale {
    twill_ns origin;
    uint64_t base;
    uint64_t factor; /* rate * 2^(shift + 62 + drop), rounded up; its top bit is set */
    uint64_t burst;  /* in units */
    unsigned shift, drop;
} twill__scale;

#define TWILL__RATE_SPAN   (UINT64_C(1) << 61) /* ns after which V stands still */
#define TWILL__RATE_MOST   (UINT64_C(1) << 60) /* units of one cost */
#define TWILL__RATE_HIGH   (UINT64_C(7) << 60) /* words stay below: base, V of the span, burst */
#define TWILL__RATE_REBASE (UINT64_C(1) << 60) /* a base above it begins at 0 again */

static inline unsigned
twill__rate_bits(uint64_t value) /* position of the top bit, from 1; 0: none */
{
    return value ? 64 - (unsigned)__builtin_clzll(value) : 0;
}

static inline uint64_t twill__scale_at(const twill__scale *scale, twill_ns now)
{
    uint64_t elapsed = now > scale->origin ? (uint64_t)now - (uint64_t)scale->origin : 0;
    if (elapsed > TWILL__RATE_SPAN)
        elapsed = TWILL__RATE_SPAN;
    return scale->base + (twill__wide_product(elapsed << 2, scale->factor).high >> scale->drop);
}

/* ns from `from` to `to`; 0 if that is no later. Any two instants. */
static inline twill_ns twill__rate_between(twill_ns from, twill_ns to)
{
    uint64_t span = to > from ? (uint64_t)to - (uint64_t)from : 0;
    return span > (uint64_t)TWILL_FOREVER ? TWILL_FOREVER : (twill_ns)span;
}

/* The first instant at which V has reached `word`; TWILL_FOREVER: never. */
static inline twill_ns twill__scale_when(const twill__scale *scale, uint64_t word)
{
    uint64_t need, elapsed, rest;
    unsigned by = 62 + scale->drop;
    twill__wide wide;
    if (word <= scale->base)
        return scale->origin;
    need = word - scale->base;
    if (twill__rate_bits(need) + by > 126) /* beyond the span, since factor < 2^64 */
        return TWILL_FOREVER;
    wide.high = by < 64 ? need >> (64 - by) : need << (by - 64);
    wide.low = by < 64 ? need << by : 0;
    elapsed = twill__wide_quotient(wide, scale->factor, &rest);
    if (elapsed >= TWILL__RATE_SPAN)
        return TWILL_FOREVER;
    return twill__instant_after(scale->origin, (twill_ns)(elapsed + (rest != 0)));
}

/* A rate of tokens / per * 2^power a nanosecond. False: more than 2 a nanosecond, or the burst does
   not fit. tokens, per, burst > 0. */
static inline bool twill__scale_make(twill__scale *scale, uint64_t tokens, uint64_t per, int power,
                                     uint64_t burst)
{
    int up = (int)(64 - twill__rate_bits(tokens)), down = (int)(64 - twill__rate_bits(per));
    int point, shift, drop; /* rate = factor * 2^-point */
    uint64_t rest;
    twill__wide wide;
    tokens <<= up;
    per <<= down;
    wide.high = tokens < per ? tokens : tokens >> 1;
    wide.low = tokens < per ? 0 : tokens << 63;
    scale->factor = twill__wide_quotient(wide, per, &rest);
    point = (tokens < per ? 64 : 63) - (down - up + power);
    shift = point - 63; /* a unit comes in at most 1 ns */
    if (shift == -1 && scale->factor == UINT64_C(1) << 63 && !rest)
        shift = 0; /* 2 a nanosecond just fit */
    /* rounded up; with a rest it is not UINT64_MAX: that needs per = 2^63, which leaves none */
    scale->factor += rest != 0;
    if (shift > 40)
        shift = 40;
    if (shift > 61 - (int)twill__rate_bits(burst))
        shift = 61 - (int)twill__rate_bits(burst);
    if (shift < 0)
        return false;
    drop = point - shift - 62;
    if (drop > 63) { /* slower than a unit in 73 years: as good as never */
        scale->factor = drop - 63 < 63 ? scale->factor >> (drop - 63) : 1;
        drop = 63;
    }
    scale->shift = (unsigned)shift;
    scale->drop = (unsigned)drop;
    scale->burst = burst << shift;
    scale->base = 0;
    return true;
}

/* A positive double is an integer times a power of two: the rate is exact. False: NaN, zero,
   negative. (Infinite comes out as 2^1024, which is more than twill__scale_make takes.) */
static inline bool twill__scale_split(double rate, uint64_t *tokens, int *power)
{
    uint64_t bits;
    int exponent;
    if (!(rate > 0))
        return false;
    memcpy(&bits, &rate, sizeof bits);
    exponent = (int)(bits >> 52 & 0x7ff);
    *tokens = bits & ((UINT64_C(1) << 52) - 1);
    if (exponent)
        *tokens |= UINT64_C(1) << 52;
    *power = (exponent ? exponent : 1) - 1075;
    return true;
}

#endif
