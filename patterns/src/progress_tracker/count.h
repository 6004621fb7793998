/* count.h: counters that many threads raise at once, and exact arithmetic on what they
   say. */
#ifndef TWILL__PROGRESS_COUNT_H
#define TWILL__PROGRESS_COUNT_H

#include "platform/own.h"
#include "platform/platform.h"

/* ---- counters ---- */

/* A thread adds to the cell of its number: threads that update at once do not pull one line back
   and forth. The first one that comes to a cell owns it for ever: it alone writes `own`, which
   costs a third of a word that others may write, too. Those that come later, beyond 16 threads,
   share the other words, and all stays exact. The reader sums. */
#ifndef TWILL__TALLY_CELLS
#define TWILL__TALLY_CELLS 16
#endif
enum { TWILL__TALLY_DONE, TWILL__TALLY_FAILED, TWILL__TALLY_SKIPPED, TWILL__TALLY_KINDS };

typedef struct twill__tally_cell {
    /* a thread's number, which no other one ever gets; 0: nobody's yet */
    _Alignas(TWILL__LINE) _Atomic uint64_t owner;
    _Atomic uint64_t own[TWILL__TALLY_KINDS];
    _Atomic uint64_t shared[TWILL__TALLY_KINDS];
} twill__tally_cell;

typedef struct twill__tally {
    twill__tally_cell cell[TWILL__TALLY_CELLS];
    _Alignas(TWILL__LINE) _Atomic uint64_t
        base; /* what `set` adds to the sum of the done, modulo 2^64 */
    _Atomic uint32_t
        anchors; /* one more for each `set` that is no progress: the rate starts anew */
} twill__tally;

/* True: the cell is this thread's, and was nobody's, or has become so in a signal handler just
   now. */
static __attribute__((noinline)) bool twill__tally_take(twill__tally_cell *cell, uint64_t me)
{
    uint64_t nobody = 0; /* relaxed: the winner's number alone */
    return atomic_compare_exchange_strong_explicit(&cell->owner, &nobody, me, memory_order_relaxed,
                                                   memory_order_relaxed) ||
           nobody == me;
}

static inline void twill__tally_add(twill__tally *counter, unsigned kind, uint64_t n)
{
    uint64_t me = twill__thread_number();
    twill__tally_cell *cell = &counter->cell[me % TWILL__TALLY_CELLS];
    /* relaxed, here and below: numbers, no data behind them; who joins the updaters sees all of
       it */
    uint64_t owner = atomic_load_explicit(&cell->owner, memory_order_relaxed);
    if (owner == me || (!owner && twill__tally_take(cell, me)))
        twill__own_add(&cell->own[kind], n);
    else
        atomic_fetch_add_explicit(&cell->shared[kind], n, memory_order_relaxed);
}

static inline uint64_t twill__tally_sum(const twill__tally *counter, unsigned kind)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < TWILL__TALLY_CELLS; i++) { /* relaxed: as above; each only grows */
        sum += atomic_load_explicit(&counter->cell[i].own[kind], memory_order_relaxed);
        sum += atomic_load_explicit(&counter->cell[i].shared[kind], memory_order_relaxed);
    }
    return sum;
}

static inline uint64_t twill__tally_read(const twill__tally *counter, unsigned kind)
{
    uint64_t base = 0;
    /* acquire: who sees a base sees the cells that were summed for it, so the sum is no less */
    if (kind == TWILL__TALLY_DONE)
        base = atomic_load_explicit(&counter->base, memory_order_acquire);
    return base + twill__tally_sum(counter, kind);
}

/* Makes the count of the done `value`. Cells only grow and each addition goes to one of them, so
   each is either in the sum taken here, and the new value stands for it, or it comes on top: none
   is lost, none counts twice. Of two calls at once either may be the later one. Going back, and a
   first value (where an earlier run left off), are no progress: they start the rate anew. */
static inline void twill__tally_set(twill__tally *counter, uint64_t value)
{
    /* relaxed: a call that came before is seen, and what it stood for; one beside us may be the
       later one, with all that came to it */
    uint64_t base = atomic_load_explicit(&counter->base, memory_order_relaxed);
    uint64_t sum = twill__tally_sum(counter, TWILL__TALLY_DONE);
    bool anew = value < base + sum || base + sum == 0;
    atomic_store_explicit(&counter->base, value - sum,
                          memory_order_release); /* pairs with the acquire */
    if (anew)                                    /* release: who sees the number sees the base */
        atomic_fetch_add_explicit(&counter->anchors, 1, memory_order_release);
}

/* ---- arithmetic ---- */

static inline uint64_t twill__tally_plus(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

/* floor(a * b / c) and what remains, for a <= c, c > 0: no product, so no overflow. Source: long
   division in binary. */
static inline uint64_t twill__tally_share(uint64_t a, uint64_t b, uint64_t c, uint64_t *rest)
{
    uint64_t quotient = 0, remainder = 0;
    if (a == c) {
        *rest = 0;
        return b;
    }
    for (int bit = 63; bit >= 0; bit--) { /* remainder < c before and after each step */
        quotient <<= 1;
        if (remainder >= c - remainder) {
            remainder -= c - remainder;
            quotient++;
        } else {
            remainder += remainder;
        }
        if (b >> bit & 1) {
            if (remainder >= c - a) {
                remainder -= c - a;
                quotient++;
            } else {
                remainder += a;
            }
        }
    }
    *rest = remainder;
    return quotient;
}

/* Rounded down: 100 means that all is processed. */
static inline int twill__tally_percent(uint64_t processed, uint64_t total)
{
    uint64_t rest;
    return processed >= total ? 100 : (int)twill__tally_share(processed, 100, total, &rest);
}

#endif
