/* own.h: an atomic word that one thread writes, and others read. */
#ifndef TWILL__PLATFORM_OWN_H
#define TWILL__PLATFORM_OWN_H

#include "platform/process.h"

#ifndef TWILL__OWN_ADD /* the explorer and tests choose it */
#if defined __x86_64__ && !defined TWILL__UNDER_TSAN
#define TWILL__OWN_ADD 2 /* one instruction that the processor does not lock */
#else
#define TWILL__OWN_ADD 0 /* as if others wrote, too */
#endif
#endif

/* Adds to a word that only this thread writes. For its signal handlers, which may add as well, this
   is one step; for other threads it is a relaxed load and, later, a relaxed store of 8 bytes at
   once (TWILL__OWN_ADD 1 is just that: handlers would not bear it). */
static inline void twill__own_add(_Atomic uint64_t *word, uint64_t n)
{
#if TWILL__OWN_ADD == 2
    __asm__ volatile("addq %1, %0" : "+m"(*(volatile uint64_t *)(void *)word) : "re"(n) : "cc");
#elif TWILL__OWN_ADD == 1
    atomic_store_explicit(word, atomic_load_explicit(word, memory_order_relaxed) + n,
                          memory_order_relaxed);
#else
    atomic_fetch_add_explicit(word, n, memory_order_relaxed);
#endif
}

#endif
