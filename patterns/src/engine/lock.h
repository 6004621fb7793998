/* lock.h: a lock of 32 bits that knows how many threads wait for it. Zeroed: free. */
#ifndef TWILL__ENGINE_LOCK_H
#define TWILL__ENGINE_LOCK_H

#include "engine/spin.h"

/* Bit 0: held. The rest counts the threads that wait for it: unlock wakes nobody when nobody waits,
   and a destroyer can tell whether somebody is on his way in. A variant of U. Drepper's third
   mutex, with a count. */
/* Spinning: only while nobody sleeps there. */
static inline bool twill__try_lock(void *lock_)
{
    _Atomic uint32_t *lock = (_Atomic uint32_t *)lock_;
    uint32_t word = 0;
    /* a look first: a CAS that fails would take the line from the holder, too. acquire: pairs with
       the release in twill__unlock */
    return atomic_load_explicit(lock, memory_order_relaxed) == 0 &&
           atomic_compare_exchange_strong_explicit(lock, &word, 1, memory_order_acquire,
                                                   memory_order_relaxed);
}

/* `spin`: how long its holders may have it at a time. To park costs 10 us. */
static inline void twill__lock_after(_Atomic uint32_t *lock, twill_ns spin)
{
    uint32_t word = 0;
    /* acquire, here and below: pairs with the release in twill__unlock */
    if (atomic_compare_exchange_strong_explicit(lock, &word, 1, memory_order_acquire,
                                                memory_order_relaxed) ||
        (word == 1 && twill__spin_for(twill__try_lock, lock, spin, 0)))
        return;
    /* a count: the CAS below synchronises */
    word = atomic_fetch_add_explicit(lock, 2, memory_order_relaxed) + 2;
    for (;;) { /* exit: taken; each holder lets go, and wakes one of those counted */
        if (!(word & 1)) {
            if (atomic_compare_exchange_weak_explicit(lock, &word, (word - 2) | 1,
                                                      memory_order_acquire, memory_order_relaxed))
                return;
            continue;
        }
        twill__park(lock, word, 0);
        word = atomic_load_explicit(lock, memory_order_relaxed); /* a guess for the CAS */
    }
}

static inline void twill__lock(_Atomic uint32_t *lock)
{
    twill__lock_after(lock, TWILL__SPIN_WAIT);
}

/* Its fetch_sub is the last access: the lock's memory may go right after it. */
static inline void twill__unlock(_Atomic uint32_t *lock)
{
    /* pairs with twill__lock */
    if (atomic_fetch_sub_explicit(lock, 1, memory_order_release) >> 1)
        twill__wake(lock, 1);
}

/* Under the lock: does anybody wait for it? */
static inline bool twill__lock_wanted(const _Atomic uint32_t *lock)
{
    /* who is not counted yet came too late */
    return atomic_load_explicit(lock, memory_order_relaxed) >> 1 != 0;
}

#endif
