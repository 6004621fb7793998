/* future.h: the handles to tasks: wait for any of them, and the public functions. */
#ifndef TWILL__ENGINE_FUTURE_H
#define TWILL__ENGINE_FUTURE_H

#include "engine/future_wait.h"

/* ---- wait for any ---- */

/* Takes the node out of the lists of the first n; the place of the lowest that has ended, or n. */
static inline size_t twill__any_leave(twill__future_wait *waits, size_t n)
{
    size_t ended = n;
    for (size_t i = n; i-- > 0;) {
        twill__record *record = waits[i].record;
        twill__lock(&record->lock);
        if (twill__record_ended(record))
            ended = i;
        twill__future_delist(record, &waits[i]);
        twill__record_pin_off(record);
    }
    return ended;
}

/* Puts the node into all n lists. Not OK: into none. */
static inline twill_status twill__any_enter(const twill_future *futures, size_t n,
                                            twill__future_wait *waits, twill__node *node)
{
    twill__node_init(node);
    for (size_t i = 0; i < n; i++) {
        twill_status status = twill__future_pin(futures[i]);
        if (status != TWILL_OK) {
            (void)twill__any_leave(waits, i);
            return status;
        }
        twill__future_enlist((twill__record *)futures[i].slot, &waits[i], node);
        twill__unlock(&waits[i].record->lock);
    }
    return TWILL_OK;
}

/* One sleep. EMPTY: look again. */
static inline twill_status twill__any_sleep(twill__future_wait *waits, size_t n, twill__node *node,
                                            twill_until until)
{
    twill_ns sooner = until.deadline;
    bool mine = true;
    for (size_t i = 0; i < n; i++) {
        twill__record *record = waits[i].record;
        /* hints; who has ended grants the node, or is found at the end */
        if (twill__record_ended(record))
            return TWILL_EMPTY;
        mine =
            mine && (twill__on_stack(twill__record_current(), record) || twill__duty_ends(record));
        if (twill__record_due(record) != waits[i].due) /* as in twill__future_sleep */
            return TWILL_EMPTY;
        sooner = twill__nearer(sooner, twill__record_again(record, waits[i].due));
    }
    return mine ? TWILL_DEADLOCK : twill__wait_sooner(node, sooner, until);
}

/* The first that has ended, or n; brings them forward on the way, until one has. A thread from
   outside leaves them to idle workers: another one may end before the one that it would run. */
static inline size_t twill__any_push_on(const twill_future *futures, size_t n,
                                        twill__future_wait *waits, twill_until until)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t word;
        if (twill__future_look(futures[i], &word) != TWILL_OK)
            return n; /* entering will say so */
        if (word & TWILL__ENDED)
            return i;
        waits[i].due = twill__record_due((const twill__record *)futures[i].slot);
    }
    for (size_t i = 0; i < n; i++)
        if (twill__future_push_on(futures[i], twill__future_may_help(until), true))
            return n;
    return n;
}

/* noinline: its locals must not stand in the frame of a guard */
static __attribute__((noinline)) twill_status twill__any_await(const twill_future *futures,
                                                               size_t n, size_t *which,
                                                               twill__future_wait *waits,
                                                               twill_until until)
{
    for (;;) { /* exit: one has ended, or the wait is over */
        size_t ended = twill__any_push_on(futures, n, waits, until);
        twill__node node;
        twill_status status = TWILL_OK;
        if (ended == n) {
            status = twill__any_enter(futures, n, waits, &node);
            if (status != TWILL_OK)
                return status;
            status = twill__any_sleep(waits, n, &node, until);
            ended = twill__any_leave(waits, n);
        }
        if (ended < n) {
            if (which)
                *which = ended;
            return TWILL_OK;
        }
        if (status != TWILL_EMPTY && status != TWILL_OK) /* OK: roused by one of them */
            return status;
    }
}

/* With allocated `waits`, which go also if a task that it runs ends the thread. */
static __attribute__((noinline)) void twill__any_await_many(const twill_future *futures, size_t n,
                                                            size_t *which,
                                                            twill__future_wait *waits,
                                                            twill_until until, twill_status *status)
{
    TWILL__GUARD_PUSH(twill__guard_free, waits);
    *status = twill__any_await(futures, n, which, waits, until);
    TWILL__GUARD_POP(1);
}

/* ---- the public functions ---- */

TWILL__WEAK twill_status twill_future_wait_until(twill_future future, void *result,
                                                 twill_outcome *outcome, twill_until until)
{
    return twill__future_await(future, result, outcome, until);
}

TWILL__WEAK twill_status twill_future_wait(twill_future future, void *result,
                                           twill_outcome *outcome)
{
    twill_until until = {0, NULL};
    return twill__future_await(future, result, outcome, until);
}

TWILL__WEAK twill_status twill_future_try_wait(twill_future future, void *result,
                                               twill_outcome *outcome)
{
    twill__record *record = (twill__record *)future.slot;
    for (;;) { /* exit: answered; what is due is expired once */
        uint64_t word = 0;
        twill_status status = twill__future_look(future, &word);
        twill_ns due;
        if (status == TWILL_OK && !(word & TWILL__ENDED)) {
            due = twill__record_due(record);
            if (!due || twill__clock_now() < due)
                return TWILL_EMPTY;
        }
        if (status == TWILL_OK)
            status = twill__future_pin(future);
        if (status != TWILL_OK)
            return status;
        if (twill__record_answer(record, result, outcome, &status)) {
            twill__record_pin_off(record);
            return status;
        }
        twill__unlock(&record->lock);
        twill__record_tell(record, record->core->table->expire);
    }
}

TWILL__WEAK twill_status twill_future_wait_any(const twill_future *futures, size_t n, size_t *which,
                                               twill_until until)
{
    twill__future_wait few[16], *waits;
    twill_status status;
    if (!futures || n == 0)
        return TWILL_INVALID;
    if (n <= 16)
        return twill__any_await(futures, n, which, few, until);
    if (n > SIZE_MAX / sizeof *waits)
        return TWILL_TOO_BIG;
    if (!(waits = (twill__future_wait *)TWILL_MALLOC(n * sizeof *waits)))
        return TWILL_NO_MEMORY;
    twill__any_await_many(futures, n, which, waits, until, &status);
    return status;
}

TWILL__WEAK twill_status twill_future_wait_all(const twill_future *futures, size_t n,
                                               twill_until until)
{
    twill_status all = TWILL_OK;
    if (!futures && n)
        return TWILL_INVALID;
    for (size_t i = 0; i < n; i++)
        if (!futures[i].slot) /* of a refused task, say: nobody is waited for, nor helped */
            return TWILL_INVALID;
    for (size_t i = 0; i < n; i++) {
        twill_status status = twill__future_await(futures[i], NULL, NULL, until);
        if (status != TWILL_OK && status != TWILL_FAILED)
            return status;
        if (status == TWILL_FAILED)
            all = TWILL_FAILED;
    }
    return all;
}

TWILL__WEAK twill_status twill_future_cancel(twill_future future)
{
    twill__record *record = (twill__record *)future.slot;
    twill_status status = twill__future_pin(future);
    if (status != TWILL_OK)
        return status;
    twill__unlock(&record->lock);
    twill__record_tell(record, record->core->table->cancel);
    return TWILL_OK;
}

TWILL__WEAK void twill_future_release(twill_future future)
{
    twill__record *record = (twill__record *)future.slot;
    uint64_t word = 0;
    bool orphan;
    if (twill__future_look(future, &word) != TWILL_OK)
        return;
    if ((word & TWILL__FLAGS & ~(uint64_t)TWILL__WELL) == (TWILL__BY_HANDLE | TWILL__ENDED) &&
        /* release: it is free; pairs with the acquire in twill__core_find, which by the chain of
           read-modify-writes takes what all users before have released, too */
        atomic_compare_exchange_strong_explicit(
            &record->word, &word, (word & ~(uint64_t)TWILL__FLAGS) + TWILL__GENERATION,
            memory_order_release, memory_order_relaxed))
        return;
    if (twill__future_pin(future) != TWILL_OK)
        return;
    /* pinned: it stays this generation's, and this is not the last user */
    (void)twill__record_drop(record, TWILL__BY_HANDLE, &orphan);
    twill__record_pin_off(record);
}

#endif
