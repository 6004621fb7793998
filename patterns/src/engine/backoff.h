/* backoff.h: how long to wait before trying again: growing pauses, made uneven. Integers only, so
   that a seed means the same delays everywhere. */
#ifndef TWILL__ENGINE_BACKOFF_H
#define TWILL__ENGINE_BACKOFF_H

#include "engine/random.h"

/* The values of twill_jitter, for patterns that do not show it. */
enum {
    TWILL__JITTER_FULL,
    TWILL__JITTER_NONE,
    TWILL__JITTER_EQUAL,
    TWILL__JITTER_DECORRELATED,
    TWILL__JITTER_PROPORTIONAL,
    TWILL__JITTER_ADDITIVE
};

/* Both may lie in storage that the caller owns as plain words. */
typedef struct __attribute__((may_alias))
twill__backoff {             /* the shape of a schedule; fixed once made */
    uint64_t base, cap, add; /* ns, <= INT64_MAX; cap: of every delay, jitter included */
    uint64_t growth;         /* multiplier * 2^32, >= 2^32 */
    uint64_t spread;         /* PROPORTIONAL: factor * 2^32, <= 2^32 */
    int jitter;
} twill__backoff;

typedef struct __attribute__((may_alias))
twill__delays {      /* where one sequence of delays stands; all zero but `random` */
    uint64_t random; /* the generator: see twill__random_begin */
    uint64_t grown;  /* the last delay before jitter; 0: none yet */
    uint64_t last;   /* the last delay; 0: none yet. DECORRELATED grows from it */
} twill__delays;

/* value * 2^32, rounded; for 0 <= value < 2^31. Every step is exact, so excess precision of the
   machine changes nothing. */
static inline uint64_t twill__fixed(double value)
{
    double scaled = value * 4294967296.0;
    uint64_t whole = (uint64_t)scaled;
    return scaled - (double)whole >= 0.5 ? whole + 1 : whole;
}

/* The usual one: doubling from `base` to `cap`, FULL jitter. */
static inline twill__backoff twill__backoff_usual(twill_ns base, twill_ns cap)
{
    twill__backoff shape = {(uint64_t)base,    (uint64_t)cap,     (uint64_t)base,
                            UINT64_C(2) << 32, UINT64_C(1) << 31, TWILL__JITTER_FULL};
    return shape;
}

/* One step of growth. It stops at the cap, so no count of retries can make it overflow. */
static inline uint64_t twill__backoff_grow(const twill__backoff *shape, uint64_t grown)
{
    uint64_t next = twill__wide_shifted(twill__wide_product(grown, shape->growth), 32);
    return next < shape->cap ? next : shape->cap;
}

static inline uint64_t twill__backoff_first(const twill__backoff *shape)
{
    return shape->base < shape->cap ? shape->base : shape->cap;
}

/* The delay that belongs to `grown`; `last` is the delay before it, 0 at first. Never above the
   cap. */
static inline uint64_t twill__backoff_jittered(const twill__backoff *shape, uint64_t grown,
                                               uint64_t last, uint64_t *random)
{
    uint64_t delay = grown, part;
    switch (shape->jitter) {
    case TWILL__JITTER_FULL:
        delay = twill__random_to(random, grown);
        break;
    case TWILL__JITTER_EQUAL:
        delay = grown / 2 + twill__random_to(random, grown - grown / 2);
        break;
    case TWILL__JITTER_DECORRELATED:
        last = last ? last : shape->base;
        part = last > UINT64_MAX / 3 ? UINT64_MAX : 3 * last;
        part = part > shape->base ? part - shape->base : 0;
        delay = twill__saturated_sum(shape->base, twill__random_to(random, part));
        break;
    case TWILL__JITTER_PROPORTIONAL: /* spread <= 1: part <= grown, so no delay is negative */
        part = twill__wide_shifted(twill__wide_product(grown, shape->spread), 32);
        delay = grown - part + twill__random_to(random, 2 * part);
        break;
    case TWILL__JITTER_ADDITIVE:
        delay = twill__saturated_sum(grown, twill__random_to(random, shape->add));
        break;
    default: /* NONE */
        break;
    }
    return delay < shape->cap ? delay : shape->cap;
}

/* The next delay of a sequence. */
static inline twill_ns twill__backoff_next(const twill__backoff *shape, twill__delays *delays)
{
    delays->grown =
        delays->grown ? twill__backoff_grow(shape, delays->grown) : twill__backoff_first(shape);
    delays->last = twill__backoff_jittered(shape, delays->grown, delays->last, &delays->random);
    return (twill_ns)delays->last;
}

#endif
