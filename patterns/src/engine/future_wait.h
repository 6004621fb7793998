/* future_wait.h: the wait for the end of one task. */
#ifndef TWILL__ENGINE_FUTURE_WAIT_H
#define TWILL__ENGINE_FUTURE_WAIT_H

#include "engine/duty.h"
#include "engine/record_life.h"

/* ---- who waits for whom ---- */

/* One wait for ever, in the process's list. It ends when `record` ends, which cannot be before the
   callbacks on its runner's stack have returned. */
typedef struct twill__blocked {
    struct twill__blocked *next, *previous;
    twill__record *stack;  /* the tasks that this wait is a part of, innermost first */
    twill__record *record; /* pinned */
    bool seen;
} twill__blocked;

/* Locks the list. After a fork it is empty: the threads in it are not here. */
static inline void twill__blocked_lock(void)
{
    twill__global *process = twill__process();
    if (twill__adopt(&process->waits_generation)) {
        atomic_store_explicit(&process->waits_lock, 0, memory_order_relaxed);
        process->waits = NULL;
        twill__adopted(&process->waits_generation);
    }
    twill__lock(&process->waits_lock);
}

static inline void twill__blocked_unlock(void)
{
    twill__unlock(&twill__process()->waits_lock);
}

static inline bool twill__on_stack(const twill__record *stack, const twill__record *record)
{
    for (; stack; stack = stack->outer)
        if (stack == record)
            return true;
    return false;
}

/* Whether `record` cannot end before a task of `stack` does. Under the list's lock: what the
   waits in it stand on does not move. */
static inline bool twill__leads_back(twill__blocked *list, const twill__record *stack,
                                     twill__record *record)
{
    if (twill__record_ended(record))
        return false;
    if (twill__on_stack(stack, record))
        return true;
    for (twill__blocked *wait = list; wait; wait = wait->next)
        if (!wait->seen && twill__on_stack(wait->stack, record)) {
            wait->seen = true;
            if (twill__leads_back(list, stack, wait->record))
                return true;
        }
    return false;
}

/* Enters a wait for ever, unless it would close a circle: test and entry in one step, or two
   threads enter at once and neither sees the other. */
static inline bool twill__blocked_enter(twill__blocked *me)
{
    twill__blocked *first;
    bool circle;
    twill__blocked_lock();
    first = (twill__blocked *)twill__process()->waits;
    for (twill__blocked *wait = first; wait; wait = wait->next)
        wait->seen = false;
    circle = twill__leads_back(first, me->stack, me->record);
    if (!circle) {
        me->next = first;
        if (first)
            first->previous = me;
        twill__process()->waits = me;
    }
    twill__blocked_unlock();
    return !circle;
}

static inline void twill__blocked_leave(twill__blocked *me)
{
    twill__blocked_lock();
    if (me->previous)
        me->previous->next = me->next;
    else
        twill__process()->waits = me->next;
    if (me->next)
        me->next->previous = me->previous;
    twill__blocked_unlock();
}

/* ---- the waiter's side ---- */

/* One look without the lock: what the handle is good for, and the word. */
static inline twill_status twill__future_look(twill_future future, uint64_t *word)
{
    twill__record *record = (twill__record *)future.slot;
    if (!record)
        return TWILL_INVALID;
    if (!twill__core_here(record->core))
        return TWILL_FORKED;
    /* acquire: pairs with the end */
    *word = atomic_load_explicit(&record->word, memory_order_acquire);
    return *word / TWILL__GENERATION == future.generation ? TWILL_OK : TWILL_STALE;
}

/* Locks and pins the record of a handle. INVALID, FORKED, STALE: neither. */
static inline twill_status twill__future_pin(twill_future future)
{
    twill__record *record = (twill__record *)future.slot;
    uint64_t word;
    twill_status status = twill__future_look(future, &word);
    if (status != TWILL_OK)
        return status;
    twill__lock(&record->lock);
    if (twill__record_pin_if(record, ~(uint64_t)TWILL__FLAGS | TWILL__BY_HANDLE,
                             future.generation * TWILL__GENERATION | TWILL__BY_HANDLE))
        return TWILL_OK;
    twill__unlock(&record->lock);
    return TWILL_STALE;
}

static inline twill_status twill__word_status(uint64_t word)
{
    return word & TWILL__WELL ? TWILL_OK : TWILL_FAILED;
}

/* Under the lock, pinned: the answer of one who asks, if it has ended. */
static inline bool twill__record_answer(twill__record *record, void *result, twill_outcome *outcome,
                                        twill_status *status)
{
    /* relaxed: it has ended under the lock, or before the CAS that has pinned it */
    uint64_t word = atomic_load_explicit(&record->word, memory_order_relaxed);
    if (!(word & TWILL__ENDED))
        return false;
    if (outcome)
        *outcome = record->outcome;
    if (result && record->returned) {
        record->taken = true;
        memcpy(result, record->result, record->result_size);
    }
    *status = twill__word_status(word);
    return true;
}

/* Under the record's lock, pinned. */
static inline void twill__future_enlist(twill__record *record, twill__future_wait *wait,
                                        twill__node *node)
{
    wait->node = node;
    wait->record = record;
    wait->listed = true;
    wait->previous = NULL;
    wait->next = record->waits;
    if (wait->next)
        wait->next->previous = wait;
    record->waits = wait;
}

/* Under the record's lock. */
static inline void twill__future_delist(twill__record *record, twill__future_wait *wait)
{
    if (!wait->listed)
        return;
    if (wait->previous)
        wait->previous->next = wait->next;
    else
        record->waits = wait->next;
    if (wait->next)
        wait->next->previous = wait->previous;
    wait->listed = false;
}

/* Whether this thread is inside a task or a call, on which others may wait. */
static inline bool twill__inside(void)
{
    const twill__self *self = twill__thread();
    return self->record || self->runner || self->job;
}

/* Whether nobody has begun it. A hint: see twill__record_claim. */
static inline bool twill__record_waiting(const twill__record *record)
{
    return !atomic_load_explicit(&record->begun, memory_order_relaxed) &&
           !twill__record_ended(record);
}

static void twill__record_let_be(void *record_)
{
    twill__record *record = (twill__record *)record_;
    if (twill__core_here(record->core)) /* else a callback has forked, and it is the parent's */
        twill__record_unpin(record);
}

/* Calls `expire` or `cancel` with the caller's pin, and gives that back. noinline: its locals must
   not stand in the frame of a guard */
static __attribute__((noinline)) void twill__record_tell(twill__record *record,
                                                         void (*tell)(twill__record *record))
{
    TWILL__GUARD_PUSH(twill__record_let_be, record);
    tell(record);
    TWILL__GUARD_POP(1);
}

/* relaxed: a hint; expire and help look under their own locks, under which it is written */
static inline twill_ns twill__record_due(const twill__record *record)
{
    return atomic_load_explicit(&record->due, memory_order_relaxed);
}

/* For one that is about to sleep: when it has to look again at the latest, or 0. Pinned. */
static inline twill_ns twill__record_again(twill__record *record, twill_ns due)
{
    const twill__record_table *table = record->core->table;
    return table->again ? twill__nearer(due, table->again(record)) : due;
}

/* Of a record that is pinned: true: look again, and the pin is given back. `help`: this thread may
   run it; `idle`: from outside only if no thread that is there for it will. */
static inline bool twill__record_push_on(twill__record *record, bool help, bool idle)
{
    const twill__record_table *table = record->core->table;
    twill_ns due = twill__record_due(record);
    if (due && twill__clock_now() >= due) {
        twill__record_tell(record, table->expire);
        return true;
    }
    return help && twill__record_waiting(record) && table->help(record, idle && !twill__inside());
}

/* Whether this thread may run a task that another one would have run. One that waits for a time or
   a token would overrun it; but a task that waits for another one must, or a pool of one stands
   still. */
static inline bool twill__future_may_help(twill_until until)
{
    if (twill__inside())
        return !twill__expired(until.deadline) && !twill_cancel_fired(until.cancel);
    return twill__for_ever(until);
}

/* Sleeps until the node is granted or the wait is over; EMPTY: until the record is due, or since it
   was meanwhile: a task that could not be run then may have to be now. */
static inline twill_status twill__future_sleep(twill__future_wait *wait, twill_until until)
{
    twill__node *node = wait->node;
    twill__record *record = wait->record;
    twill__blocked blocked = {NULL, NULL, twill__record_current(), record, false};
    twill_ns due = twill__record_due(record);
    twill_status status;
    if (twill__on_stack(blocked.stack, record) || twill__duty_ends(record))
        return TWILL_DEADLOCK;
    if (due != wait->due)
        return TWILL_EMPTY;
    due = twill__record_again(record, due);
    if (due || !twill__for_ever(until))
        return twill__wait_sooner(node, twill__nearer(until.deadline, due), until);
    if (twill__spin(&node->word, 0, TWILL__SPIN_WAIT, TWILL__SPIN_YIELDS))
        return TWILL_OK; /* no other bit comes without a token */
    if (!twill__blocked_enter(&blocked))
        return TWILL_DEADLOCK;
    status = twill__wait(node, until);
    twill__blocked_leave(&blocked);
    return status;
}

/* Before a wait: brings the task forward if that is up to this thread. True: look again. The wait
   stands in no list meanwhile, and `help` gives the pin back: the task may end the thread. */
static inline bool twill__future_push_on(twill_future future, bool help, bool idle)
{
    twill__record *record = (twill__record *)future.slot;
    if (twill__future_pin(future) != TWILL_OK)
        return false;
    twill__unlock(&record->lock);
    if (twill__record_push_on(record, help, idle))
        return true;
    twill__record_unpin(record);
    return false;
}

/* Whether it is worth a try. */
static inline bool twill__record_waits_for_us(const twill__record *record, bool help)
{
    return twill__record_due(record) || (help && twill__record_waiting(record));
}

static inline bool twill__future_moved(void *future_)
{
    const twill_future *future = (const twill_future *)future_;
    uint64_t word;
    return twill__future_look(*future, &word) != TWILL_OK || word & TWILL__ENDED;
}

/* A moment, without a pin, which would cost the runner more than the look: for one who is at it, or
   about to be. So he gets ahead with the next ones, too. If nobody is, it may be run here. */
static inline void twill__future_bide(twill_future future)
{
    const twill__record *record = (const twill__record *)future.slot;
    const twill__record_table *table = record->core->table;
    bool outside = !twill__inside();
    uint64_t seen = 0;
    twill_ns stay;
    while (outside && table->comes && (stay = table->comes(record, &seen)) && twill__spin_helps()) {
        /* exit: ended, or whoever is about to come stands still */
        twill__spin_away(stay);
        if (twill__future_moved(&future))
            return;
    }
    if (outside && table->run_next && twill__record_waiting(record) && table->run_next(future))
        return;
    if (!twill__record_waiting(record))
        (void)twill__spin_for(twill__future_moved, &future, TWILL__SPIN_WAIT, 0);
}

/* Sleeps, pinned by this wait. True: it has ended. */
static inline bool twill__future_wait_long(twill__record *record, void *result,
                                           twill_outcome *outcome, twill_until until, twill_ns due,
                                           twill_status *status)
{
    twill__future_wait wait;
    twill__node node;
    twill_status answer = TWILL_OK;
    bool ended;
    twill__node_init(&node);
    twill__future_enlist(record, &wait, &node);
    twill__unlock(&record->lock);
    wait.due = due;
    *status = twill__future_sleep(&wait, until);
    twill__lock(&record->lock);
    twill__future_delist(record, &wait);
    ended = twill__record_answer(record, result, outcome, &answer);
    twill__record_pin_off(record);
    if (ended)
        *status = answer;
    return ended;
}

/* Not yet answered by one look. */
static __attribute__((noinline)) twill_status twill__future_await_long(twill_future future,
                                                                       void *result,
                                                                       twill_outcome *outcome,
                                                                       twill_until until)
{
    twill__record *record = (twill__record *)future.slot;
    bool tried = false;
    twill_ns due = 0;
    uint64_t word;
    if (twill__for_ever(until) && !twill__future_moved(&future)) {
        twill__future_bide(future);
        if (!result && !outcome && twill__future_look(future, &word) == TWILL_OK &&
            word & TWILL__ENDED)
            return twill__word_status(word);
    }
    for (;;) { /* exit: ended, or the wait is over; each turn sleeps, or something has happened */
        twill_status status = twill__future_pin(future);
        bool help;
        if (status != TWILL_OK)
            return status;
        if (twill__record_answer(record, result, outcome, &status)) {
            twill__record_pin_off(record);
            return status;
        }
        if (!tried)
            due = twill__record_due(record);
        help = !tried && twill__future_may_help(until);
        if (!tried && twill__record_waits_for_us(record, help)) {
            twill__record_pin_off(record);
            tried = !twill__future_push_on(future, help, false);
            continue;
        }
        if (twill__future_wait_long(record, result, outcome, until, due, &status))
            return status;
        if (status != TWILL_EMPTY && status != TWILL_OK) /* OK: roused */
            return status;
        tried = false;
    }
}

static inline twill_status twill__future_await(twill_future future, void *result,
                                               twill_outcome *outcome, twill_until until)
{
    uint64_t word = 0;
    twill_status status = twill__future_look(future, &word);
    if (status != TWILL_OK)
        return status;
    if (word & TWILL__ENDED && !result && !outcome)
        return twill__word_status(word);
    return twill__future_await_long(future, result, outcome, until);
}

#endif
