/* budget.h: a store of tokens that many retries share. */
#ifndef TWILL__RETRY_BUDGET_H
#define TWILL__RETRY_BUDGET_H

#include "engine/cancel.h"

/* One word counts what is gone, in thousandths of a token, so that a zeroed budget is full. It only
   counts: every access is relaxed, and the compare-and-swap keeps it within 0..capacity. */
typedef struct TWILL__VIEW twill__budget {
    _Atomic uint64_t gone;
    uint32_t capacity, retry_cost, timeout_cost, success_milli; /* set at init; 0: the default */
    uint32_t half;
} twill__budget;
_Static_assert(sizeof(twill__budget) <= sizeof(twill_retry_budget),
               "twill_retry_budget is too small");

static inline twill__budget *twill__budget_of(const twill_retry_budget *budget)
{
    return (twill__budget *)(uintptr_t)budget;
}

static inline uint64_t twill__budget_capacity(const twill__budget *me) /* thousandths */
{
    return UINT64_C(1000) * (me->capacity ? me->capacity : me->half ? 10 : 500);
}

static inline uint32_t twill__budget_cost(const twill__budget *me, bool timed_out)
{
    return timed_out        ? me->timeout_cost ? me->timeout_cost : 10
           : me->retry_cost ? me->retry_cost
                            : 5;
}

/* Takes `amount`, or as much as there is if `partly`; false: nothing taken. */
static inline bool twill__budget_spend(twill__budget *me, uint64_t amount, bool partly)
{
    uint64_t capacity = twill__budget_capacity(me), take;
    uint64_t gone = atomic_load_explicit(&me->gone, memory_order_relaxed);
    do {
        take = amount <= capacity - gone ? amount : capacity - gone;
        if (take < amount && !partly)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&me->gone, &gone, gone + take,
                                                    memory_order_relaxed, memory_order_relaxed));
    return true;
}

static inline void twill__budget_return(twill__budget *me, uint64_t amount)
{
    uint64_t gone = atomic_load_explicit(&me->gone, memory_order_relaxed), give;
    do
        give = amount < gone ? amount : gone; /* full at most */
    while (give && !atomic_compare_exchange_weak_explicit(
                       &me->gone, &gone, gone - give, memory_order_relaxed, memory_order_relaxed));
}

/* A failure that is not permanent. */
static inline void twill__budget_failure(twill_retry_budget *budget)
{
    twill__budget *me = twill__budget_of(budget);
    if (me->half)
        (void)twill__budget_spend(me, 1000, true);
}

/* May there be a retry? *paid: what it took, in tokens. */
static inline bool twill__budget_take(twill_retry_budget *budget, bool timed_out, uint32_t *paid)
{
    twill__budget *me = twill__budget_of(budget);
    uint32_t cost;
    *paid = 0;
    if (me->half)
        return 2 * atomic_load_explicit(&me->gone, memory_order_relaxed) <
               twill__budget_capacity(me);
    cost = twill__budget_cost(me, timed_out);
    if (!twill__budget_spend(me, UINT64_C(1000) * cost, false))
        return false;
    *paid = cost;
    return true;
}

static inline void twill__budget_give(twill_retry_budget *budget, uint32_t paid)
{
    twill__budget_return(twill__budget_of(budget), UINT64_C(1000) * paid);
}

static inline void twill__budget_success(twill_retry_budget *budget, uint32_t paid, bool at_once)
{
    twill__budget *me = twill__budget_of(budget);
    if (at_once || me->half)
        twill__budget_return(me, me->success_milli ? me->success_milli : me->half ? 100 : 1000);
    else
        twill__budget_give(budget, paid);
}

TWILL__DEFINE twill_status twill_retry_budget_init(twill_retry_budget *budget,
                                                   const twill_retry_budget_options *options)
{
    static const twill_retry_budget_options none;
    twill__budget made;
    options = options ? options : &none;
    if (!budget || (options->half_rule && (options->retry_cost || options->timeout_cost)))
        return TWILL_INVALID;
    memset(&made, 0, sizeof made);
    made.capacity = options->capacity;
    made.retry_cost = options->retry_cost;
    made.timeout_cost = options->timeout_cost;
    made.success_milli = options->success_milli;
    made.half = options->half_rule;
    for (int k = 0; k < 2 && !made.half; k++)
        if (UINT64_C(1000) * twill__budget_cost(&made, k) > twill__budget_capacity(&made))
            return TWILL_INVALID;
    memset(budget, 0, sizeof *budget);
    memcpy(budget, &made, sizeof made);
    return TWILL_OK;
}

TWILL__DEFINE uint64_t twill_retry_budget_left(const twill_retry_budget *budget)
{
    const twill__budget *me = twill__budget_of(budget);
    if (!budget)
        return 0;
    return (twill__budget_capacity(me) - atomic_load_explicit(&me->gone, memory_order_relaxed)) /
           1000;
}

#endif
