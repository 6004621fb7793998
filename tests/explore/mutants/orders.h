/* orders.h: atomic operations without an order in their name, weakened: mutate.awk writes these names. */
#ifndef MUTANT_ORDERS_H
#define MUTANT_ORDERS_H

#include <stdatomic.h>

#define mutant_load(p)        atomic_load_explicit(p, memory_order_acquire)
#define mutant_store(p, v)    atomic_store_explicit(p, v, memory_order_release)
#define mutant_exchange(p, v) atomic_exchange_explicit(p, v, memory_order_acq_rel)
#define mutant_fetch_add(p, v) atomic_fetch_add_explicit(p, v, memory_order_acq_rel)
#define mutant_fetch_sub(p, v) atomic_fetch_sub_explicit(p, v, memory_order_acq_rel)
#define mutant_fetch_or(p, v)  atomic_fetch_or_explicit(p, v, memory_order_acq_rel)
#define mutant_fetch_and(p, v) atomic_fetch_and_explicit(p, v, memory_order_acq_rel)
#define mutant_compare_exchange_strong(p, e, v) \
    atomic_compare_exchange_strong_explicit(p, e, v, memory_order_acq_rel, memory_order_acquire)
#define mutant_compare_exchange_weak(p, e, v) \
    atomic_compare_exchange_weak_explicit(p, e, v, memory_order_acq_rel, memory_order_acquire)

#endif
