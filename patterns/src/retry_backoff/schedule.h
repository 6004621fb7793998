/* schedule.h: which options of a retry make sense, and the delays they mean. */
#ifndef TWILL__RETRY_SCHEDULE_H
#define TWILL__RETRY_SCHEDULE_H

#include "engine/backoff.h"

#define TWILL__RETRY_CALLS 3                 /* the default of max_attempts */
#define TWILL__RETRY_HINT  TWILL_SEC(5 * 60) /* of max_hint */

/* Written so that NaN is refused, too. */
static inline bool twill__retry_number(double value, double least, double most)
{
    return value == 0 || (value >= least && value <= most);
}

static inline bool twill__retry_valid(const twill_retry_options *o)
{
    bool bounded = !twill__no_deadline(o->until.deadline) || o->until.cancel ||
                   !twill__no_deadline(o->max_elapsed);
    if (o->max_attempts > INT32_MAX || (o->unlimited && (o->max_attempts || !bounded)))
        return false;
    if (o->base < 0 || o->cap < 0 || o->jitter_add < 0 || o->max_elapsed < 0 ||
        o->attempt_timeout < 0 || o->max_hint < 0)
        return false;
    if (!twill__retry_number(o->multiplier, 1, 1e9) || !twill__retry_number(o->jitter_factor, 0, 1))
        return false;
    if ((unsigned)o->jitter > TWILL_JITTER_ADDITIVE)
        return false;
    return (o->history != NULL) == (o->history_count != 0);
}

static inline twill__backoff twill__retry_shape(const twill_retry_options *o)
{
    twill__backoff shape =
        twill__backoff_usual(o->base ? o->base : TWILL_MS(100), o->cap ? o->cap : TWILL_SEC(10));
    shape.jitter = (int)o->jitter;
    if (o->multiplier != 0)
        shape.growth = twill__fixed(o->multiplier);
    if (o->jitter_factor != 0)
        shape.spread = twill__fixed(o->jitter_factor);
    if (o->jitter_add)
        shape.add = (uint64_t)o->jitter_add;
    return shape;
}

#endif
