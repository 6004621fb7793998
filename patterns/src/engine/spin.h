/* spin.h: what every wait does before it parks. The explorer sets TWILL__SPIN to 0: a spin only
   multiplies schedules. */
#ifndef TWILL__ENGINE_SPIN_H
#define TWILL__ENGINE_SPIN_H

#include "platform/platform.h"

#ifndef TWILL__SPIN
#define TWILL__SPIN 1
#endif
#define TWILL__SPIN_WAIT \
    700 /* ns: below the 10 us of a parked round trip, above the 0.25 us of a quick answer */
#define TWILL__SPIN_YIELDS 4

/* Tries again for a moment: true once `done` says so. The limit is a time, not a count: a pause
   costs 6 ns on one machine and 45 on the next. Alone on one CPU nobody can change anything
   meanwhile. */
static inline bool twill__spin_for(bool (*done)(void *data), void *data, twill_ns limit,
                                   unsigned yields)
{
    twill_ns until = 0;
    /* 0: not known */
    if (!TWILL__SPIN || atomic_load_explicit(&twill__process()->cpus, memory_order_relaxed) == 1)
        return false;
    for (unsigned pauses = 16;;) { /* more and more: a look takes the line from who works on it */
        for (unsigned pause = 0; pause < pauses; pause++)
            twill__pause();
        if (done(data))
            return true;
        if (pauses < 64)
            pauses *= 2;
        twill_ns now = twill__clock_now();
        if (!until)
            until = now + limit;
        else if (now >= until)
            break;
    }
    while (yields-- > 0) {
        twill__yield();
        if (done(data))
            return true;
    }
    return false;
}

/* Waits a moment for *word to differ from `value`; false: it did not. The limit is a time, not a
   count: a pause costs 6 ns on one machine and 45 on the next. Alone on one CPU nobody can change
   the word meanwhile. */
static inline bool twill__spin(const _Atomic uint32_t *word, uint32_t value, twill_ns limit,
                               unsigned yields)
{
    twill_ns until = 0;
    /* 0: not known */
    if (!TWILL__SPIN || atomic_load_explicit(&twill__process()->cpus, memory_order_relaxed) == 1)
        return atomic_load_explicit(word, memory_order_acquire) != value;
    for (unsigned k = 1;; k++) {
        /* acquire: pairs with the release of whoever changed the word; most callers look again with
           their own order */
        if (atomic_load_explicit(word, memory_order_acquire) != value)
            return true;
        twill__pause();
        if (k % 16 != 0)
            continue;
        twill_ns now = twill__clock_now();
        if (!until)
            until = now + limit;
        else if (now >= until)
            break;
    }
    while (yields-- > 0) {
        twill__yield();
        if (atomic_load_explicit(word, memory_order_acquire) != value)
            return true;
    }
    return false;
}

#endif
