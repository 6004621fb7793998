/* stdatomic.h: for compilers that do not know -fsanitize=thread (explore-cc --plain): the generic
   functions of C11's <stdatomic.h> as calls of the explorer. GNU C is needed (statement
   expressions, __typeof__).

   Plain accesses are not seen then, and neither are operators on _Atomic objects (x++): no data
   races, no use after free but by atomics; all else is as ever. */
#ifndef EXPLORE_PLAIN_STDATOMIC_H
#define EXPLORE_PLAIN_STDATOMIC_H

#include <stddef.h>
#include <stdint.h>

typedef enum memory_order {
    memory_order_relaxed,
    memory_order_consume,
    memory_order_acquire,
    memory_order_release,
    memory_order_acq_rel,
    memory_order_seq_cst
} memory_order;

typedef _Atomic(_Bool) atomic_bool;
typedef _Atomic(char) atomic_char;
typedef _Atomic(signed char) atomic_schar;
typedef _Atomic(unsigned char) atomic_uchar;
typedef _Atomic(short) atomic_short;
typedef _Atomic(unsigned short) atomic_ushort;
typedef _Atomic(int) atomic_int;
typedef _Atomic(unsigned) atomic_uint;
typedef _Atomic(long) atomic_long;
typedef _Atomic(unsigned long) atomic_ulong;
typedef _Atomic(long long) atomic_llong;
typedef _Atomic(unsigned long long) atomic_ullong;
typedef _Atomic(size_t) atomic_size_t;
typedef _Atomic(ptrdiff_t) atomic_ptrdiff_t;
typedef _Atomic(intptr_t) atomic_intptr_t;
typedef _Atomic(uintptr_t) atomic_uintptr_t;
typedef _Atomic(intmax_t) atomic_intmax_t;
typedef _Atomic(uintmax_t) atomic_uintmax_t;
typedef _Atomic(uint_least32_t) atomic_uint_least32_t;
typedef _Atomic(uint_least64_t) atomic_uint_least64_t;

/* The explorer's: an object of `size` bytes (1, 2, 4, 8), values as bits. */
enum { EXPLORE_EXCHANGE, EXPLORE_ADD, EXPLORE_SUB, EXPLORE_AND, EXPLORE_OR, EXPLORE_XOR };
extern uint64_t explore_plain_load(const void *object, int size, int order);
extern void explore_plain_store(void *object, int size, uint64_t value, int order);
extern uint64_t explore_plain_modify(void *object, int size, int operation, uint64_t value,
                                     int order);
extern int explore_plain_exchange(void *object, int size, void *expected, uint64_t value, int weak,
                                  int order, int failure_order);
extern void explore_plain_fence(int order);
extern void explore_plain_signal_fence(int order);

#define EXPLORE_VALUE(p)  __typeof__((void)0, *(p))
#define EXPLORE_OBJECT(p) ((void *)(uintptr_t)(p))

/* A value of any type as bits, and back. */
#define EXPLORE_BITS(p, v)                                          \
    __extension__({                                                 \
        EXPLORE_VALUE(p) explore_v = (EXPLORE_VALUE(p))(v);         \
        uint64_t explore_b = 0;                                     \
        __builtin_memcpy(&explore_b, &explore_v, sizeof explore_v); \
        explore_b;                                                  \
    })
#define EXPLORE_BACK(p, bits)                                       \
    __extension__({                                                 \
        uint64_t explore_c = (bits);                                \
        EXPLORE_VALUE(p) explore_r;                                 \
        __builtin_memcpy(&explore_r, &explore_c, sizeof explore_r); \
        explore_r;                                                  \
    })

#define atomic_load_explicit(p, order) \
    EXPLORE_BACK(p, explore_plain_load(EXPLORE_OBJECT(p), sizeof *(p), order))
#define atomic_store_explicit(p, v, order) \
    explore_plain_store(EXPLORE_OBJECT(p), sizeof *(p), EXPLORE_BITS(p, v), order)
#define EXPLORE_MODIFY(p, operation, bits, order) \
    EXPLORE_BACK(p, explore_plain_modify(EXPLORE_OBJECT(p), sizeof *(p), operation, bits, order))
#define atomic_exchange_explicit(p, v, order) \
    EXPLORE_MODIFY(p, EXPLORE_EXCHANGE, EXPLORE_BITS(p, v), order)
/* (uint64_t)(v): as in <stdatomic.h>, bytes are added to a pointer */
#define atomic_fetch_add_explicit(p, v, order) EXPLORE_MODIFY(p, EXPLORE_ADD, (uint64_t)(v), order)
#define atomic_fetch_sub_explicit(p, v, order) EXPLORE_MODIFY(p, EXPLORE_SUB, (uint64_t)(v), order)
#define atomic_fetch_and_explicit(p, v, order) EXPLORE_MODIFY(p, EXPLORE_AND, (uint64_t)(v), order)
#define atomic_fetch_or_explicit(p, v, order)  EXPLORE_MODIFY(p, EXPLORE_OR, (uint64_t)(v), order)
#define atomic_fetch_xor_explicit(p, v, order) EXPLORE_MODIFY(p, EXPLORE_XOR, (uint64_t)(v), order)
#define EXPLORE_CAS(p, e, v, weak, order, failure)                                              \
    ((_Bool)explore_plain_exchange(EXPLORE_OBJECT(p), sizeof *(p), e, EXPLORE_BITS(p, v), weak, \
                                   order, failure))
#define atomic_compare_exchange_strong_explicit(p, e, v, order, failure) \
    EXPLORE_CAS(p, e, v, 0, order, failure)
#define atomic_compare_exchange_weak_explicit(p, e, v, order, failure) \
    EXPLORE_CAS(p, e, v, 1, order, failure)

#define atomic_load(p)         atomic_load_explicit(p, memory_order_seq_cst)
#define atomic_store(p, v)     atomic_store_explicit(p, v, memory_order_seq_cst)
#define atomic_exchange(p, v)  atomic_exchange_explicit(p, v, memory_order_seq_cst)
#define atomic_fetch_add(p, v) atomic_fetch_add_explicit(p, v, memory_order_seq_cst)
#define atomic_fetch_sub(p, v) atomic_fetch_sub_explicit(p, v, memory_order_seq_cst)
#define atomic_fetch_and(p, v) atomic_fetch_and_explicit(p, v, memory_order_seq_cst)
#define atomic_fetch_or(p, v)  atomic_fetch_or_explicit(p, v, memory_order_seq_cst)
#define atomic_fetch_xor(p, v) atomic_fetch_xor_explicit(p, v, memory_order_seq_cst)
#define atomic_compare_exchange_strong(p, e, v) \
    EXPLORE_CAS(p, e, v, 0, memory_order_seq_cst, memory_order_seq_cst)
#define atomic_compare_exchange_weak(p, e, v) \
    EXPLORE_CAS(p, e, v, 1, memory_order_seq_cst, memory_order_seq_cst)

#define atomic_thread_fence(order) explore_plain_fence(order)
#define atomic_signal_fence(order) explore_plain_signal_fence(order)
#define atomic_is_lock_free(p)     ((void)(p), 1)
#define kill_dependency(v)         (v)
#define ATOMIC_VAR_INIT(v)         (v)
#define atomic_init(p, v)          ((void)(*(p) = (v)))

typedef struct atomic_flag {
    _Atomic(unsigned char) set;
} atomic_flag;
/* clang-format off */
#define ATOMIC_FLAG_INIT {0}
#define atomic_flag_test_and_set_explicit(f, order) \
    (atomic_exchange_explicit(&(f)->set, 1, order) != 0)
#define atomic_flag_test_and_set(f) atomic_flag_test_and_set_explicit(f, memory_order_seq_cst)
#define atomic_flag_clear_explicit(f, order) atomic_store_explicit(&(f)->set, 0, order)
#define atomic_flag_clear(f) atomic_flag_clear_explicit(f, memory_order_seq_cst)
/* clang-format on */

#define ATOMIC_BOOL_LOCK_FREE    2
#define ATOMIC_CHAR_LOCK_FREE    2
#define ATOMIC_SHORT_LOCK_FREE   2
#define ATOMIC_INT_LOCK_FREE     2
#define ATOMIC_LONG_LOCK_FREE    2
#define ATOMIC_LLONG_LOCK_FREE   2
#define ATOMIC_POINTER_LOCK_FREE 2

#endif
