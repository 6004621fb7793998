/* histogram.h: durations by logarithmic classes, for percentiles. */
#ifndef TWILL__ENGINE_HISTOGRAM_H
#define TWILL__ENGINE_HISTOGRAM_H

#include "platform/platform.h"

/* 16 classes an octave: a percentile is at most 1/16 too high. After G. Tene's HdrHistogram. One
   thread adds; any may sum, and sees what it has seen of it. */
#ifndef TWILL__CLASSES           /* the explorer wants fewer */
#define TWILL__CLASSES (16 * 45) /* up to 2^48 ns, three days; all above is in the last */
#endif

typedef struct twill__histogram {
    _Atomic uint64_t longest;
    _Atomic uint32_t count[TWILL__CLASSES];
} twill__histogram;

typedef struct twill__histogram_sum {
    uint64_t total, longest;
    uint64_t count[TWILL__CLASSES];
} twill__histogram_sum;

static inline unsigned twill__class_of(uint64_t ns)
{
    unsigned octave, at;
    if (ns < 16)
        return (unsigned)ns;
    octave = 63 - (unsigned)__builtin_clzll(ns);
    at = (octave - 3) * 16 + (unsigned)(ns >> (octave - 4) & 15);
    return at < TWILL__CLASSES ? at : TWILL__CLASSES - 1;
}

/* The longest duration of a class. */
static inline uint64_t twill__class_end(unsigned at)
{
    unsigned octave = at / 16 + 3;
    if (at < 16)
        return at;
    return ((uint64_t)(16 + at % 16 + 1) << (octave - 4)) - 1;
}

/* By the owner, before a count would begin at 0 again: all are halved, so that percentiles stay. */
static __attribute__((noinline, cold)) void twill__histogram_halve(twill__histogram *histogram)
{
    for (unsigned i = 0; i < TWILL__CLASSES; i++) { /* relaxed: as below */
        uint32_t count = atomic_load_explicit(&histogram->count[i], memory_order_relaxed);
        atomic_store_explicit(&histogram->count[i], count - count / 2, memory_order_relaxed);
    }
}

/* By the owner. Relaxed: statistics, with nothing behind them. */
static inline void twill__histogram_add(twill__histogram *histogram, uint64_t ns)
{
    _Atomic uint32_t *count = &histogram->count[twill__class_of(ns)];
    if (atomic_load_explicit(count, memory_order_relaxed) == UINT32_MAX)
        twill__histogram_halve(histogram);
    atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    if (ns > atomic_load_explicit(&histogram->longest, memory_order_relaxed))
        atomic_store_explicit(&histogram->longest, ns, memory_order_relaxed);
}

/* Relaxed: as above. */
static inline void twill__histogram_sum_up(twill__histogram_sum *sum,
                                           const twill__histogram *histogram)
{
    uint64_t longest = atomic_load_explicit(&histogram->longest, memory_order_relaxed);
    if (longest > sum->longest)
        sum->longest = longest;
    for (unsigned i = 0; i < TWILL__CLASSES; i++) {
        uint32_t count = atomic_load_explicit(&histogram->count[i], memory_order_relaxed);
        sum->count[i] += count;
        sum->total += count;
    }
}

/* The least duration that `percent` of all do not exceed, up to a class. 0: there are none. */
static inline twill_ns twill__percentile(const twill__histogram_sum *sum, unsigned percent)
{
    uint64_t rank = (sum->total * percent + 99) / 100, seen = 0;
    for (unsigned i = 0; i < TWILL__CLASSES; i++) {
        seen += sum->count[i];
        if (seen && seen >= rank) {
            uint64_t end = twill__class_end(i);
            return (twill_ns)(end < sum->longest && i < TWILL__CLASSES - 1 ? end : sum->longest);
        }
    }
    return 0;
}

#endif
