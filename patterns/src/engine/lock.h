/* lock.h: a lock of 32 bits that knows how many threads wait for it. Zeroed: free. */
#ifndef TWILL__ENGINE_LOCK_H
#define TWILL__ENGINE_LOCK_H

#include "engine/spin.h"

/* The count says how many threads wait: unlock wakes nobody when nobody waits, and a destroyer can
   tell whether somebody is on his way in. ROUSED: one of them has been woken, and has not parked
   again yet nor taken the lock. Meanwhile others may take it and let it go, and need not wake a
   second one each time. A variant of U. Drepper's third mutex, with a count, and with the second
   bit of D. Vyukov's mutex of Go. */
enum { TWILL__HELD = 1, TWILL__ROUSED = 2, TWILL__WAITER = 4 };

/* Pauses before a look: more and more, so that a holder who comes again and again is left alone. */
enum { TWILL__LOCK_FIRST = 16, TWILL__LOCK_MOST = 256 };

/* Spinning: only while nobody sleeps there. */
static inline bool twill__try_lock(void *lock_)
{
    _Atomic uint32_t *lock = (_Atomic uint32_t *)lock_;
    uint32_t word = 0;
    /* a look first: a CAS that fails would take the line from the holder, too. acquire: pairs with
       the release in twill__unlock */
    return atomic_load_explicit(lock, memory_order_relaxed) == 0 &&
           atomic_compare_exchange_strong_explicit(lock, &word, TWILL__HELD, memory_order_acquire,
                                                   memory_order_relaxed);
}

static inline bool twill__lock_is_free(void *lock)
{
    /* a guess for the CAS in twill__lock_wait */
    return !(atomic_load_explicit((_Atomic uint32_t *)lock, memory_order_relaxed) & TWILL__HELD);
}

static inline bool twill__lock_spin(bool (*done)(void *lock), _Atomic uint32_t *lock, twill_ns spin)
{
    return twill__spin_helps() &&
           twill__spin_looks(done, lock, spin, TWILL__LOCK_FIRST, TWILL__LOCK_MOST);
}

/* Whoever parks sees the lock held and nobody roused, and the kernel sees the same: so the unlock
   that comes wakes somebody. While ROUSED is set, somebody who is counted is awake, or about to be
   woken by the one who set it. */
static __attribute__((noinline)) void twill__lock_wait(_Atomic uint32_t *lock, twill_ns spin)
{
    bool parked = false;
    /* a count: the CAS below synchronises */
    uint32_t next, word = atomic_fetch_add_explicit(lock, TWILL__WAITER, memory_order_relaxed);
    word += TWILL__WAITER;
    for (;;) { /* exit: taken; each holder lets go, and sees to it that one of us looks */
        if (!(word & TWILL__HELD)) {
            next = (word - TWILL__WAITER) | TWILL__HELD;
            if (parked || next < TWILL__WAITER)
                next &= ~(uint32_t)TWILL__ROUSED;
            /* acquire: pairs with the release in twill__unlock */
            if (atomic_compare_exchange_weak_explicit(lock, &word, next, memory_order_acquire,
                                                      memory_order_relaxed))
                return;
            continue;
        }
        next = word & ~(uint32_t)TWILL__ROUSED;
        if (next != word && !atomic_compare_exchange_weak_explicit(
                                lock, &word, next, memory_order_relaxed, memory_order_relaxed))
            continue; /* it may have been us: then the next holder has to wake somebody */
        twill__park(lock, next, 0);
        parked = true;
        (void)twill__lock_spin(twill__lock_is_free, lock, spin);
        word = atomic_load_explicit(lock, memory_order_relaxed); /* a guess for the CAS */
    }
}

/* `spin`: how long its holders may have it at a time. To park costs 10 us. */
static inline void twill__lock_after(_Atomic uint32_t *lock, twill_ns spin)
{
    uint32_t word = 0;
    /* acquire: as in twill__try_lock */
    if (atomic_compare_exchange_strong_explicit(lock, &word, TWILL__HELD, memory_order_acquire,
                                                memory_order_relaxed) ||
        (word == TWILL__HELD && twill__lock_spin(twill__try_lock, lock, spin)))
        return;
    twill__lock_wait(lock, spin);
}

static inline void twill__lock(_Atomic uint32_t *lock)
{
    twill__lock_after(lock, TWILL__SPIN_WAIT);
}

static __attribute__((noinline)) void twill__unlock_wanted(_Atomic uint32_t *lock, uint32_t word)
{
    uint32_t next;
    do
        next = (word - TWILL__HELD) | TWILL__ROUSED;
    /* pairs with twill__lock */
    while (!atomic_compare_exchange_weak_explicit(lock, &word, next, memory_order_release,
                                                  memory_order_relaxed));
    if (!(word & TWILL__ROUSED))
        twill__wake(lock, 1);
}

/* Its CAS is the last access: the lock's memory may go right after it. */
static inline void twill__unlock(_Atomic uint32_t *lock)
{
    uint32_t word = TWILL__HELD;
    /* release: pairs with twill__lock */
    if (!atomic_compare_exchange_strong_explicit(lock, &word, 0, memory_order_release,
                                                 memory_order_relaxed))
        twill__unlock_wanted(lock, word);
}

/* Under the lock: does anybody wait for it? */
static inline bool twill__lock_wanted(const _Atomic uint32_t *lock)
{
    /* who is not counted yet came too late */
    return atomic_load_explicit(lock, memory_order_relaxed) >= TWILL__WAITER;
}

#endif
