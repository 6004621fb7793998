/* record_life.h: who uses a record, and what its object does with it. */
#ifndef TWILL__ENGINE_RECORD_LIFE_H
#define TWILL__ENGINE_RECORD_LIFE_H

#include "engine/record.h"

/* ---- users ---- */

/* One user less. True: it was the last, and has to `forget` now, with a pin of its own. */
static inline bool twill__record_drop(twill__record *record, uint64_t user, bool *orphan)
{
    /* relaxed: a guess for the CAS */
    uint64_t word = atomic_load_explicit(&record->word, memory_order_relaxed), next;
    bool last, forget;
    do {
        next = (word & ~user) + (user == TWILL__BY_HANDLE ? TWILL__GENERATION : 0);
        last = !(next & TWILL__USERS);
        forget = last && word & TWILL__TOLD && record->returned && !record->taken;
        if (forget)
            next |= TWILL__BY_PIN;
        else if (last)
            next &= ~(uint64_t)TWILL__FLAGS;
        /* release: what this one did comes before the next use. acquire: pairs with the release of
           the other users */
    } while (!atomic_compare_exchange_weak_explicit(&record->word, &word, next,
                                                    memory_order_acq_rel, memory_order_relaxed));
    *orphan = last && !forget && word & TWILL__ORPHAN;
    return forget;
}

/* Called with the record locked, for one of its users that goes; unlocks. */
static inline void twill__record_let_go(twill__record *record, uint64_t user)
{
    twill__core *core = record->core;
    bool orphan;
    if (twill__record_drop(record, user, &orphan)) {
        record->taken = true;
        record->pins++; /* nobody but us */
        twill__unlock(&record->lock);
        core->table->forget(record);
        twill__lock(&record->lock);
        record->pins--;
        (void)twill__record_drop(record, TWILL__BY_PIN, &orphan); /* it is taken */
    }
    twill__unlock(&record->lock); /* for which twill__core_leave waits */
    if (orphan)
        twill__core_unuse(core);
}

/* Under the lock, which it leaves: a pin less. */
static inline void twill__record_pin_off(twill__record *record)
{
    if (--record->pins)
        twill__unlock(&record->lock);
    else
        twill__record_let_go(record, TWILL__BY_PIN);
}

/* Under the lock: a pin more, if these bits of the word are such. */
static inline bool twill__record_pin_if(twill__record *record, uint64_t mask, uint64_t bits)
{
    /* relaxed: the CAS decides; the lock orders all but what the last user left behind, which is
       not looked at */
    uint64_t word = atomic_load_explicit(&record->word, memory_order_relaxed);
    do
        if ((word & mask) != bits)
            return false;
    /* acquire: pairs with the end. It is an RMW also for the second pin: what others do by one CAS,
       comes before it or fails */
    while (!atomic_compare_exchange_weak_explicit(&record->word, &word, word | TWILL__BY_PIN,
                                                  memory_order_acquire, memory_order_relaxed));
    record->pins++;
    return true;
}

/* Pins a record that may have come back already. False: its object has done with it. */
static inline bool twill__record_pin(twill__record *record)
{
    bool there;
    twill__lock(&record->lock);
    there = twill__record_pin_if(record, TWILL__BY_OBJECT, TWILL__BY_OBJECT);
    twill__unlock(&record->lock);
    return there;
}

static inline void twill__record_unpin(twill__record *record)
{
    twill__lock(&record->lock);
    twill__record_pin_off(record);
}

static inline void twill__record_disown(twill__record *record)
{
    twill__lock(&record->lock);
    twill__record_let_go(record, TWILL__BY_OBJECT);
}

/* In a forked child: whether somebody has a handle of it. */
static inline bool twill__core_handled(const twill__core *core)
{
    for (twill__slab *slab = twill__core_slabs(core); slab; slab = slab->next)
        for (size_t i = 0; i < twill__slab_count(slab); i++)
            /* relaxed: there is no other thread that could know it */
            if (atomic_load_explicit(&twill__slab_at(core, slab, i)->word, memory_order_relaxed) &
                TWILL__BY_HANDLE)
                return true;
    return false;
}

/* Whether somebody still uses it; then its last user counts itself out. */
static inline bool twill__record_orphan(twill__record *record)
{
    uint64_t word;
    twill__lock(&record->lock); /* who was the last user, has left it */
    word = atomic_load_explicit(&record->word, memory_order_seq_cst);
    while (word & TWILL__USERS &&
           !atomic_compare_exchange_weak_explicit(&record->word, &word, word | TWILL__ORPHAN,
                                                  memory_order_seq_cst, memory_order_seq_cst)) {}
    twill__unlock(&record->lock);
    return word & TWILL__USERS;
}

/* The object goes: it owns no record any more, or only such whose runners are still on their way
   (they disown them later). The core goes with the last record in use. */
static inline void twill__core_leave(twill__core *core)
{
    size_t users = 1;
    if (!twill__core_here(core)) { /* no thread of the parent's is here, but handles may be */
        if (!twill__core_handled(core))
            twill__core_free(core);
        return;
    }
    for (; core->put; core->put = core->put->outer)
        twill__record_flags(core->put, 0);
    /* nobody may come to 0 meanwhile. relaxed: who counts himself out has found ORPHAN, which is
       set after this, under the record's lock */
    atomic_store_explicit(&core->users, SIZE_MAX / 2, memory_order_relaxed);
    for (twill__slab *slab = twill__core_slabs(core); slab; slab = slab->next)
        for (size_t i = 0; i < twill__slab_count(slab); i++)
            users += twill__record_orphan(twill__slab_at(core, slab, i));
    /* those who have gone meanwhile have counted themselves out already; we are still here.
       relaxed: a count; twill__core_unuse orders */
    atomic_fetch_sub_explicit(&core->users, SIZE_MAX / 2 - users, memory_order_relaxed);
    twill__core_unuse(core);
}

/* ---- the object's side ---- */

/* The innermost task whose callback runs on this thread; NULL: none. */
static inline twill__record *twill__record_current(void)
{
    return (twill__record *)twill__thread()->record;
}

/* It is somebody's: nobody will `help` any more. Before another thread can settle it. */
static inline void twill__record_claim(twill__record *record)
{
    /* relaxed: a hint for those who would help; they look again under the object's lock */
    atomic_store_explicit(&record->begun, 1, memory_order_relaxed);
}

/* The callback did not keep it. */
static inline void twill__record_unclaim(twill__record *record)
{
    atomic_store_explicit(&record->begun, 0, memory_order_relaxed); /* as above */
}

/* The callback is about to run on this thread. */
static inline void twill__record_enter(twill__record *record, twill__self *self)
{
    record->outer = (twill__record *)self->record;
    self->record = record;
}

/* It has returned, or ended its thread. */
static inline void twill__record_left(twill__record *record, twill__self *self)
{
    self->record = record->outer;
}

static inline bool twill__record_ended(const twill__record *record)
{
    /* acquire: pairs with the end */
    return atomic_load_explicit(&record->word, memory_order_acquire) & TWILL__ENDED;
}

/* True: the caller decides how the task ended, and must publish it. */
static inline bool twill__record_settle(twill__record *record, bool returned)
{
    bool first;
    twill__lock(&record->lock);
    first = !record->settled;
    record->settled = true;
    if (first)
        record->returned = returned;
    twill__unlock(&record->lock);
    return first;
}

static inline uint64_t twill__record_end_flags(const twill__record *record)
{
    return TWILL__ENDED | (record->outcome.status == TWILL_OK ? TWILL__WELL : 0u);
}

/* Under the record's lock: who waits looks again. */
static inline void twill__record_rouse(twill__record *record)
{
    for (twill__future_wait *wait; (wait = record->waits);) {
        _Atomic uint32_t *word = &wait->node->word;
        record->waits = wait->next;
        wait->listed = false;
        /* acq_rel: pairs with twill__wait. A node that waits for several records is granted by any
           of them; it stays until it has had each one's lock */
        atomic_fetch_or_explicit(word, TWILL__GRANTED, memory_order_acq_rel);
        twill__wake(word, 1);
    }
}

/* Under the record's lock: it has ended. */
static inline void twill__record_end(twill__record *record)
{
    /* release: publishes the outcome */
    atomic_fetch_or_explicit(&record->word, twill__record_end_flags(record), memory_order_release);
    twill__record_rouse(record);
}

/* It is due at another time than who waits already has seen. */
static inline void twill__record_stir(twill__record *record)
{
    twill__lock(&record->lock);
    twill__record_rouse(record);
    twill__unlock(&record->lock);
}

/* After twill__record_settle said true, the outcome written. The record may have new users, or
   none, right after it: the object still owns it, or does not touch it again. */
static inline void twill__record_publish(twill__record *record, bool disown)
{
    twill__lock(&record->lock);
    twill__record_end(record);
    if (disown)
        twill__record_let_go(record, TWILL__BY_OBJECT);
    else
        twill__unlock(&record->lock);
}

/* twill__record_settle and twill__record_publish in one, where nobody else can settle it. */
static inline void twill__record_finish(twill__record *record, bool returned)
{
    twill__lock(&record->lock);
    record->settled = true;
    record->returned = returned;
    twill__record_end(record);
    twill__record_let_go(record, TWILL__BY_OBJECT);
}

/* The same in one step, if nobody but the handle uses it, and nobody has touched it. */
static inline bool twill__record_finish_alone(twill__record *record)
{
    /* relaxed: the CAS decides */
    uint64_t word = atomic_load_explicit(&record->word, memory_order_relaxed);
    record->returned = true; /* nobody looks yet */
    return (word & TWILL__FLAGS & ~(uint64_t)TWILL__TOLD) ==
               (TWILL__BY_OBJECT | TWILL__BY_HANDLE) &&
           /* release: publishes the outcome, and all that the task did */
           atomic_compare_exchange_strong_explicit(&record->word, &word,
                                                   (word & ~(uint64_t)TWILL__BY_OBJECT) |
                                                       twill__record_end_flags(record),
                                                   memory_order_release, memory_order_relaxed);
}

#endif
