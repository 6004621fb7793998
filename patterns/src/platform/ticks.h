/* ticks.h: a counter cheaper than the clock, for guesses alone: how long a handful of items took. A
   wrong reading (a thread that moved between cores, a clock rate that changed) makes a guess worse,
   and nothing else. */
#ifndef TWILL__PLATFORM_TICKS_H
#define TWILL__PLATFORM_TICKS_H

#include "platform/cpus.h"

#ifndef TWILL__TICKS
#if defined __x86_64__ || defined __aarch64__
#define TWILL__TICKS 1
#else
#define TWILL__TICKS 0 /* the clock itself; the explorer sets it, too */
#endif
#endif

static inline uint64_t twill__ticks(void)
{
#if !TWILL__TICKS
    return (uint64_t)twill__clock_now();
#elif defined __x86_64__
    return __builtin_ia32_rdtsc();
#else
    uint64_t count;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(count));
    return count;
#endif
}

#if TWILL__TICKS
/* Both clocks at one moment: of a few readings the one that took least, so that neither a switch to
   another thread nor the first call of the clock comes between the two. */
static inline void twill__ticks_and_clock(uint64_t *ticks, twill_ns *now)
{
    uint64_t least = UINT64_MAX;
    *ticks = 0, *now = 0;
    for (int i = 0; i < 5; i++) {
        uint64_t before = twill__ticks();
        twill_ns read = twill__clock_now();
        uint64_t took = twill__ticks() - before;
        if (took < least) {
            least = took;
            *ticks = before + took / 2;
            *now = read;
        }
    }
}
#endif

/* Ticks in 2^20 ns: fine enough for counters of a few MHz. Measured once a process, in the shadow
   of the first count of CPUs, which reads files. */
static inline uint64_t twill__ticks_per_ms(void)
{
#if TWILL__TICKS
    twill__global *global = twill__process();
    /* a number, no data behind it */
    uint64_t rate = atomic_load_explicit(&global->tick_rate, memory_order_relaxed);
    if (!rate) {
        uint64_t first, last;
        twill_ns since, now;
        twill__ticks_and_clock(&first, &since);
        (void)twill__cpus_now();
        do
            twill__ticks_and_clock(&last, &now);
        while (now - since < 20000); /* ends: the clock runs */
        rate = ((last - first) << 20) / (uint64_t)(now - since);
        rate = rate ? rate : 1;
        /* as above */
        atomic_store_explicit(&global->tick_rate, rate, memory_order_relaxed);
    }
    return rate;
#else
    return 1 << 20;
#endif
}

/* Ticks in 1.024 us, for guesses: of a slow counter, to a few percent. */
static inline uint64_t twill__ticks_per_us(void)
{
    uint64_t rate = (twill__ticks_per_ms() + 512) >> 10;
    return rate ? rate : 1;
}

/* How long so many ticks last. */
static inline twill_ns twill__time_of_ticks(uint64_t ticks)
{
    return (twill_ns)((double)ticks * (1 << 20) / (double)twill__ticks_per_ms());
}

#endif
