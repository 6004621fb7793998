/* rate.h: how fast it goes and how long it will take, from samples of a count. */
#ifndef TWILL__PROGRESS_RATE_H
#define TWILL__PROGRESS_RATE_H

#include "platform/platform.h"

/* Two estimates are blended: the mean over all the time, which is steady, and a recent one, which
   follows changes. The recent one is an exponential average, taken twice so that bursts do not
   shake it, weighted by time so that the length of a tick does not matter, and divided by the
   weight that it has had so far, so that it does not start from 0. The part that is done decides
   the blend: early on the recent past is all noise, towards the end it is what is left. The first
   unusually long gap is taken for an accident and left out of the time; a second one is a pattern,
   and both count. Sources: tqdm and indicatif for what goes wrong; the blend was chosen by
   measurement. */
#define TWILL__SPEED_STALL  TWILL_SEC(2)       /* shorter gaps are never a stall */
#define TWILL__SPEED_MEMORY TWILL_SEC(1000000) /* of a longer one a step of 1 ns would be nothing */

typedef struct twill__speed {
    twill_ns memory;      /* after so long a sample keeps a tenth of its weight */
    twill_ns at;          /* the last sample */
    twill_ns moved;       /* the last one that saw progress; at first the start */
    twill_ns active;      /* time that counts */
    twill_ns longest;     /* gap that counted */
    twill_ns left_out;    /* the gap that did not, 0: none */
    uint64_t start, seen; /* counts: where this estimate began, at `moved` */
    double once, twice;   /* the two averages, not yet divided by their weight */
    double weight;
    uint32_t anchors; /* of the counter, when this estimate began */
} twill__speed;

/* 0.1 to the power x >= 0, without a maths library: 2^-whole by doubling, the rest by its series.
   */
static inline double twill__speed_tenth_power(double x)
{
    double y = x * 3.3219280948873623, whole_part = 1, term = 1, sum = 1, z;
    int whole;
    if (!(y < 1000))
        return 0;
    whole = (int)y;
    z = -(y - whole) * 0.69314718055994531;
    for (int k = 1; k <= 14; k++) { /* |z| < 0.7: the next term is below 1e-14 */
        term *= z / k;
        sum += term;
    }
    while (whole-- > 0)
        whole_part *= 0.5;
    return sum * whole_part;
}

static inline void twill__speed_start(twill__speed *rate, twill_ns memory, twill_ns now,
                                      uint64_t count)
{
    memset(rate, 0, sizeof *rate);
    rate->memory = memory < TWILL__SPEED_MEMORY ? memory : TWILL__SPEED_MEMORY;
    rate->at = rate->moved = now;
    rate->start = rate->seen = count;
}

static inline twill_ns twill__speed_patience(const twill__speed *rate)
{
    return rate->longest > TWILL__SPEED_STALL / 3 ? 3 * rate->longest : TWILL__SPEED_STALL;
}

/* A sample. Without progress only time passes, and whether it counts is decided when progress is
   back. */
static inline void twill__speed_tick(twill__speed *rate, twill_ns now, uint64_t count)
{
    twill_ns gap = rate->at - rate->moved, step;
    double keep, x;
    if (count < rate->seen) {
        uint32_t anchors = rate->anchors;
        twill__speed_start(rate, rate->memory, now, count);
        rate->anchors = anchors;
        return;
    }
    if (now <= rate->at)
        return;
    step = now - rate->at;
    rate->at = now;
    if (count == rate->seen)
        return;
    if (rate->seen == rate->start ||
        gap <= twill__speed_patience(rate)) { /* the first wait is never a stall */
        step += gap;
        if (gap > rate->longest)
            rate->longest = gap;
    } else if (!rate->left_out) {
        rate->left_out = gap;
    } else {
        step += gap + rate->left_out;
        rate->longest = gap > rate->left_out ? gap : rate->left_out;
        rate->left_out = 0;
    }
    rate->active += step;
    x = (double)(count - rate->seen) / (double)step * 1e9;
    keep = twill__speed_tenth_power((double)step / (double)rate->memory);
    rate->weight = rate->weight * keep + (1 - keep);
    rate->once = rate->once * keep + x * (1 - keep);
    rate->twice = rate->twice * keep + rate->once / rate->weight * (1 - keep);
    rate->seen = count;
    rate->moved = now;
}

/* Items a second; 0: nothing is known yet. `total` 0: unknown, then the recent past alone speaks.
   */
static inline double twill__speed_now(const twill__speed *rate, uint64_t total)
{
    double mean, recent, part;
    if (rate->active <= 0 || !(rate->weight > 0))
        return 0;
    mean = (double)(rate->seen - rate->start) / (double)rate->active * 1e9;
    recent = rate->twice / rate->weight;
    part = total == 0 ? 1 : rate->seen >= total ? 1 : (double)rate->seen / (double)total;
    return (1 - part) * mean + part * recent;
}

/* Time until `total`; -1: unknown. It stands still while nothing moves. */
static inline twill_ns twill__speed_left(const twill__speed *rate, uint64_t total)
{
    double speed = twill__speed_now(rate, total), left;
    if (rate->seen >= total)
        return 0;
    if (!(speed > 0))
        return -1;
    left = (double)(total - rate->seen) / speed * 1e9;
    return left < 9e18 ? (twill_ns)left : INT64_MAX;
}

/* How long nothing has moved, if that is unusual; else 0. */
static inline twill_ns twill__speed_stalled(const twill__speed *rate, twill_ns now)
{
    twill_ns gap = now - rate->moved;
    return rate->seen != rate->start && gap > twill__speed_patience(rate) ? gap : 0;
}

#endif
