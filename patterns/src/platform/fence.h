/* fence.h: a fence between two sides of which one passes by all the time and the other one seldom:
   the seldom side pays for both. */
#ifndef TWILL__PLATFORM_FENCE_H
#define TWILL__PLATFORM_FENCE_H

#include "platform/park.h"

/* Two threads that each store one word and then look at the other's must not both miss the other's
   store. C11 wants a sequentially consistent fence in both. Here one has a light fence, which keeps
   the compiler from moving its accesses across and costs nothing, and the other one a heavy fence,
   in which the kernel makes every thread of the process that runs just now pass a fence of the
   processor, and who does not run has passed one (membarrier, Linux 4.14). So of what a thread does
   before and after its light fence, one lies on this side of the heavy one:
   - what it stored before its light fence is seen by who comes out of the heavy one, or
   - what was stored before the heavy one is seen by it after its light fence.
   C11 does not know this pair: what is assumed is that membarrier does as its manual says, and that
   the compiler orders atomic accesses around atomic_signal_fence as it would for a handler on the
   same thread. A light fence alone, or two, order nothing.

   Source: M. Desnoyers, membarrier(2); P. McKenney, "Is Parallel Programming Hard", memory barriers
   for read-mostly sides. */

enum { TWILL__FENCE_UNKNOWN = 0, TWILL__FENCE_HEAVY, TWILL__FENCE_NONE };
enum { TWILL__MEMBARRIER_PRIVATE = 8, TWILL__MEMBARRIER_REGISTER = 16 };

#ifndef TWILL__MEMBARRIER /* tests: a kernel that has none, or takes it away */
#define TWILL__MEMBARRIER(command) twill__membarrier(command)
#endif

/* 0: done. ThreadSanitizer does not know it. */
static inline long twill__membarrier(int command)
{
#if defined __linux__ && defined SYS_membarrier && !defined TWILL_NO_FUTEX && \
    !defined TWILL__UNDER_TSAN && !defined TWILL__NO_MEMBARRIER
    return syscall(SYS_membarrier, command, 0, 0);
#else
    (void)command;
    return -1;
#endif
}

/* Is there a heavy fence? Asks, and registers, at the first call in a process, which may then take
   some ms if it has threads already: not under a lock. */
static inline bool twill__fence_offered(void)
{
    _Atomic uintptr_t *word = &twill__process()->fence;
    /* relaxed: the kernel's answer alone, and the same for all */
    uintptr_t known = atomic_load_explicit(word, memory_order_relaxed);
    if (known == TWILL__FENCE_UNKNOWN) {
        int saved = errno;
        known = TWILL__MEMBARRIER(TWILL__MEMBARRIER_REGISTER) == 0 &&
                        TWILL__MEMBARRIER(TWILL__MEMBARRIER_PRIVATE) == 0
                    ? TWILL__FENCE_HEAVY
                    : TWILL__FENCE_NONE;
        errno = saved;
        atomic_store_explicit(word, known, memory_order_relaxed);
    }
    return known == TWILL__FENCE_HEAVY;
}

static inline void twill__fence_light(void)
{
    atomic_signal_fence(memory_order_seq_cst);
}

/* After twill__fence_offered has said yes. False: the kernel has none any more (a sandbox that was
   closed meanwhile): then it was a long sleep, in which every processor's stores have come out; and
   nobody is offered one again. */
static inline bool twill__fence_heavy(void)
{
    int saved = errno;
    bool done = TWILL__MEMBARRIER(TWILL__MEMBARRIER_PRIVATE) == 0 ||
                (TWILL__MEMBARRIER(TWILL__MEMBARRIER_REGISTER) == 0 && /* by a fork, perhaps */
                 TWILL__MEMBARRIER(TWILL__MEMBARRIER_PRIVATE) == 0);
    errno = saved;
    if (!done) {
        /* relaxed: as above */
        atomic_store_explicit(&twill__process()->fence, TWILL__FENCE_NONE, memory_order_relaxed);
        twill__doze(TWILL_MS(1));
    }
    return done;
}

#endif
