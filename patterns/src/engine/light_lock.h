/* light_lock.h: a lock that is let go by a plain store, for sections of a few steps that many calls
   go through. */
#ifndef TWILL__ENGINE_LIGHT_LOCK_H
#define TWILL__ENGINE_LIGHT_LOCK_H

#include "engine/lock.h"

/* A lock that is let go by a compare-and-swap (engine/lock.h) learns in that moment who waits. But
   this instruction waits for all stores of the section, and those to lines that another core wrote
   last take long. Here the holder looks who waits, and then stores. Whoever comes in between is not
   woken: so nobody sleeps for longer than a nap before he looks by himself. Nor does he begin one
   after a wake that was meant for him: each of them makes the word another one.
   ROUSED: as in engine/lock.h. The holder sets it, who waits clears it. */
typedef struct twill__light_lock { /* zeroed: free */
    _Atomic uint32_t word; /* HELD; and, from TWILL__LIGHT_WOKEN on, how often somebody was woken */
    _Atomic uint32_t waiters; /* ROUSED; and, from TWILL__WAITER on, how many */
} twill__light_lock;

enum { TWILL__LIGHT_WOKEN = 2, TWILL__LIGHT_NAP = 50000 /* ns */ };

static inline bool twill__light_try(void *lock_)
{
    twill__light_lock *lock = (twill__light_lock *)lock_;
    /* a look first, as in twill__try_lock. seq_cst: pairs with the release in twill__light_unlock,
       and see twill__light_wanted */
    uint32_t word = atomic_load_explicit(&lock->word, memory_order_relaxed);
    return !(word & TWILL__HELD) &&
           atomic_compare_exchange_strong_explicit(&lock->word, &word, word | TWILL__HELD,
                                                   memory_order_seq_cst, memory_order_relaxed);
}

static inline bool twill__light_spin(twill__light_lock *lock, twill_ns spin)
{
    return twill__spin_helps() &&
           twill__spin_looks(twill__light_try, lock, spin, TWILL__LOCK_FIRST, TWILL__LOCK_MOST);
}

static __attribute__((noinline)) void twill__light_wait(twill__light_lock *lock, twill_ns spin)
{
    /* seq_cst: see twill__light_wanted */
    atomic_fetch_add_explicit(&lock->waiters, TWILL__WAITER, memory_order_seq_cst);
    for (;;) { /* exit: taken; each holder lets go */
        uint32_t word = atomic_load_explicit(&lock->word, memory_order_seq_cst);
        if (!(word & TWILL__HELD)) {
            if (twill__light_try(lock))
                break;
            continue;
        }
        /* relaxed: a request. Behind the load: who is asked makes the word another one */
        atomic_fetch_and_explicit(&lock->waiters, ~(uint32_t)TWILL__ROUSED, memory_order_relaxed);
        twill__park(&lock->word, word, twill__clock_now() + TWILL__LIGHT_NAP);
        if (twill__light_spin(lock, spin))
            break;
    }
    /* it may have been us: then the next is woken by us. relaxed: under the lock */
    atomic_fetch_and_explicit(&lock->waiters, ~(uint32_t)TWILL__ROUSED, memory_order_relaxed);
    atomic_fetch_sub_explicit(&lock->waiters, TWILL__WAITER, memory_order_relaxed);
}

/* `spin`: how long a holder may have it at a time. */
static inline void twill__light_take(twill__light_lock *lock, twill_ns spin)
{
    if (!twill__light_try(lock) && !twill__light_spin(lock, spin))
        twill__light_wait(lock, spin);
}

static __attribute__((noinline)) void twill__light_rouse(twill__light_lock *lock, uint32_t word)
{
    /* relaxed: a request, as above */
    bool roused = atomic_fetch_or_explicit(&lock->waiters, TWILL__ROUSED, memory_order_relaxed) &
                  TWILL__ROUSED;
    /* pairs with twill__light_try */
    atomic_store_explicit(&lock->word, roused ? word : word + TWILL__LIGHT_WOKEN,
                          memory_order_release);
    if (!roused)
        twill__wake(&lock->word, 1);
}

/* The store is the last access: the lock's memory may go right after it. */
static inline void twill__light_unlock(twill__light_lock *lock)
{
    /* relaxed: its holder alone changes it */
    uint32_t word = atomic_load_explicit(&lock->word, memory_order_relaxed) - TWILL__HELD;
    /* relaxed: who is not seen looks again after a nap */
    if (atomic_load_explicit(&lock->waiters, memory_order_relaxed))
        twill__light_rouse(lock, word);
    else /* pairs with twill__light_try */
        atomic_store_explicit(&lock->word, word, memory_order_release);
}

/* Under the lock: does anybody wait for it? seq_cst: who waits has counted himself before he saw an
   earlier holder; who saw this one came too late. */
static inline bool twill__light_wanted(const twill__light_lock *lock)
{
    return atomic_load_explicit(&lock->waiters, memory_order_seq_cst) >= TWILL__WAITER;
}

#endif
