/* mutants.h: what mutate.awk writes into the sources. All mutants of all parts are compiled at
   once; MUTANT in the environment says which of them is alive, and the file MUTANT_HITS gets a byte
   for each number that was asked. With -DMUTANT=number there is that one alone, known to the
   compiler: does it change an instruction? */
#ifndef MUTANTS_H
#define MUTANTS_H

#include <stdatomic.h>

#ifdef MUTANT
#define mutant(n) ((n) == MUTANT)
#else
int mutant_asked(int n); /* mutants.c; the numbers in a program stand in a section of it, too */
#define mutant(n)                                                                      \
    __extension__({                                                                    \
        __asm__ volatile(                                                              \
            ".pushsection .mutants, \"\", @progbits\n.int %c0\n.popsection" ::"i"(n)); \
        mutant_asked(n);                                                               \
    })
#endif

/* && and || become each other: a && b = !(!a || !b). Each operand stands here once. */
#define MUTANT_AND(n, a, b) (mutant(n) ^ ((mutant(n) ^ !!(a)) && (mutant(n) ^ !!(b))))
#define MUTANT_OR(n, a, b)  (mutant(n) ^ ((mutant(n) ^ !!(a)) || (mutant(n) ^ !!(b))))

#define MUTANT_LESS(n, a, b)     MUTANT_RELATION(n, a, b, <=, <)
#define MUTANT_AT_MOST(n, a, b)  MUTANT_RELATION(n, a, b, <, <=)
#define MUTANT_MORE(n, a, b)     MUTANT_RELATION(n, a, b, >=, >)
#define MUTANT_AT_LEAST(n, a, b) MUTANT_RELATION(n, a, b, >, >=)
#define MUTANT_RELATION(n, a, b, other, one)                                     \
    __extension__({                                                              \
        __auto_type mutant_a##n = (a);                                           \
        __auto_type mutant_b##n = (b);                                           \
        mutant(n) ? mutant_a##n other mutant_b##n : mutant_a##n one mutant_b##n; \
    })

/* the condition is evaluated, and then never or always true */
#define MUTANT_IF(never, always, ...)                              \
    __extension__({                                                \
        int mutant_if##never = !!(__VA_ARGS__);                    \
        mutant(never) ? 0 : mutant(always) ? 1 : mutant_if##never; \
    })

/* the condition of a loop that goes round once */
#define MUTANT_AGAIN(n, turns) ((turns) == 0 || !mutant(n))

/* atomic operations that name no order */
#define MUTANT_ORDER(n, weak)     (mutant(n) ? memory_order_##weak : memory_order_seq_cst)
#define mutant_load(n, p)         atomic_load_explicit(p, MUTANT_ORDER(n, acquire))
#define mutant_store(n, p, v)     atomic_store_explicit(p, v, MUTANT_ORDER(n, release))
#define mutant_exchange(n, p, v)  atomic_exchange_explicit(p, v, MUTANT_ORDER(n, acq_rel))
#define mutant_fetch_add(n, p, v) atomic_fetch_add_explicit(p, v, MUTANT_ORDER(n, acq_rel))
#define mutant_fetch_sub(n, p, v) atomic_fetch_sub_explicit(p, v, MUTANT_ORDER(n, acq_rel))
#define mutant_fetch_or(n, p, v)  atomic_fetch_or_explicit(p, v, MUTANT_ORDER(n, acq_rel))
#define mutant_fetch_and(n, p, v) atomic_fetch_and_explicit(p, v, MUTANT_ORDER(n, acq_rel))
#define mutant_compare_exchange_strong(n, p, e, v)                             \
    atomic_compare_exchange_strong_explicit(p, e, v, MUTANT_ORDER(n, acq_rel), \
                                            MUTANT_ORDER(n, acquire))
#define mutant_compare_exchange_weak(n, p, e, v)                             \
    atomic_compare_exchange_weak_explicit(p, e, v, MUTANT_ORDER(n, acq_rel), \
                                          MUTANT_ORDER(n, acquire))

#endif
