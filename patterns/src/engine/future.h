/* future.h: records of tasks, the handles to them, and waiting for their end. */
#ifndef TWILL__ENGINE_FUTURE_H
#define TWILL__ENGINE_FUTURE_H

#include "base/future.h"
#include "engine/call.h"
#include "engine/status.h"

/* An object that gives out futures (a pool, a batcher) makes a core, and takes its records from it.
   A record has up to three kinds of users: the object ("owned", from twill__record_get until
   twill__record_disown), the handle ("held", until twill_future_release), and those who look at it
   this moment ("pins"). Without any it goes back into the core. The memory of records is
   type-stable and the core outlives the object as long as a record of it is in use: so an old
   handle finds a record, and a generation in it that is not its own.

   The life of a record:
       twill__record_get       by one thread at a time (the object's lock); PENDING, owned
       twill__record_hold      gives the handle, before another thread can know the record
       twill__record_begin     the runner's thread, just before the callback: ACTIVE
       twill__record_settle    true to exactly one: that one says how the task ended
       twill__record_publish   the outcome, once; wakes who waits
       twill__record_left      the runner's thread, after the callback
       twill__record_disown    the object will not touch it again */

#define TWILL__RESULT_ROOM 48 /* bytes of a result that need no allocation */

enum { TWILL__PENDING = 0, TWILL__ACTIVE, TWILL__ENDED };

struct twill__record;

/* What an object does for its records. All may be NULL; none is called under a lock. The record
   stays while the function runs, but its task may have ended. */
typedef struct twill__record_table {
    /* Runs a task that nobody has begun, on this thread. `idle`: only if no thread that is there
       for it will. True: it has; the caller's pin was given back before the task ran, since it may
       end the thread. False: it has not. */
    bool (*help)(struct twill__record *record, bool idle);
    /* record->due has come */
    void (*expire)(struct twill__record *record);
    void (*cancel)(struct twill__record *record);
    /* it ran, and nobody will take its result: the last call for this task */
    void (*forget)(struct twill__record *record);
} twill__record_table;

typedef struct twill__future_wait { /* on the waiter's stack; guarded by its record's lock */
    struct twill__future_wait *next, *previous;
    twill__node *node;
    struct twill__record *record;
    bool listed;
} twill__future_wait;

typedef struct twill__record {
    twill__call call; /* first: task->private_ of a pool's task points here */
    /* what twill__record_get writes stands in the first line: another core had it last */
    _Atomic uint32_t lock; /* lives on from task to task */
    _Atomic uint32_t stage;
    /* under the lock */
    uint32_t pins;
    bool owned, held;
    bool orphan;   /* the object has gone: the last user tells the core */
    bool settled;  /* somebody says, or has said, how it ended */
    bool returned; /* its callback came back before that: there is a result */
    bool taken;    /* by a wait */
    /* the object's: written before the record is known, or by the runner */
    struct twill__record *next; /* free list; the object's while it is in use */
    void *result;
    struct twill__record *outer; /* what its runner is in the middle of */
    _Atomic twill_ns due;        /* somebody must `expire` it then; 0: never */
    size_t result_size, result_room;
    struct twill__core *core;
    /* under the lock */
    uint64_t generation;
    twill__future_wait *waits;
    twill_outcome outcome;
    TWILL_ALIGNAS(16) char room[TWILL__RESULT_ROOM];
} twill__record;

typedef struct twill__slab {
    struct twill__slab *next;
    size_t count;
    void *memory;
} twill__slab;

typedef struct twill__core {
    _Atomic(twill__record *) returned; /* by their last users; taken all at once */
    twill__record *free;               /* the rest: of the thread that may call twill__record_get */
    size_t size;                       /* of a record, a multiple of TWILL__LINE */
    size_t records;
    twill__slab *slabs;
    const twill__record_table *table;
    void *owner;          /* memory that the records' functions need: freed with the core */
    _Atomic size_t users; /* set by twill__core_leave: records in use, and itself */
    uint32_t generation;  /* of the process */
    const _Atomic uint32_t *mark;
} twill__core;

/* ---- memory ---- */

static inline twill__core *twill__core_create(size_t record_size, const twill__record_table *table)
{
    twill__core *core = (twill__core *)TWILL_MALLOC(sizeof *core);
    if (!core)
        return NULL;
    memset(core, 0, sizeof *core);
    core->size = (record_size + TWILL__LINE - 1) / TWILL__LINE * TWILL__LINE;
    core->table = table;
    core->generation = twill__generation();
    /* set: generation was asked */
    core->mark = atomic_load_explicit(&twill__process()->mark, memory_order_acquire);
    return core;
}

/* Whether this process made it. */
static inline bool twill__core_here(const twill__core *core)
{
    /* a number; set before */
    return atomic_load_explicit(core->mark, memory_order_relaxed) == core->generation;
}

static inline twill__record *twill__slab_at(const twill__core *core, const twill__slab *slab,
                                            size_t i)
{
    char *first = (char *)slab->memory;
    first += (TWILL__LINE - (uintptr_t)first % TWILL__LINE) % TWILL__LINE;
    return (twill__record *)(void *)(first + i * core->size);
}

/* Makes `count` records more. Of the thread that may call twill__record_get. */
static inline bool twill__core_grow(twill__core *core, size_t count)
{
    twill__slab *slab;
    if (count > (SIZE_MAX - TWILL__LINE) / core->size ||
        !(slab = (twill__slab *)TWILL_MALLOC(sizeof *slab)))
        return false;
    slab->memory = TWILL_MALLOC(count * core->size + TWILL__LINE);
    if (!slab->memory) {
        TWILL_FREE(slab);
        return false;
    }
    slab->count = count;
    slab->next = core->slabs;
    core->slabs = slab;
    core->records += count;
    for (size_t i = count; i-- > 0;) {
        twill__record *record = twill__slab_at(core, slab, i);
        memset(record, 0, core->size);
        record->core = core;
        record->generation = 1;
        record->next = core->free;
        core->free = record;
    }
    return true;
}

static inline void twill__core_free(twill__core *core)
{
    for (twill__slab *slab = core->slabs, *next; slab; slab = next) {
        next = slab->next;
        for (size_t i = 0; i < slab->count; i++) {
            twill__record *record = twill__slab_at(core, slab, i);
            if (record->result_room)
                TWILL_FREE(record->result);
        }
        TWILL_FREE(slab->memory);
        TWILL_FREE(slab);
    }
    if (core->owner)
        TWILL_FREE(core->owner);
    TWILL_FREE(core);
}

static inline void twill__core_unuse(twill__core *core)
{
    /* acq_rel: what other users did to their records comes before the last one frees them */
    if (atomic_fetch_sub_explicit(&core->users, 1, memory_order_acq_rel) == 1)
        twill__core_free(core);
}

/* Room for a result. False: no memory. */
static inline bool twill__record_room(twill__record *record, size_t size)
{
    if (size <= TWILL__RESULT_ROOM) {
        if (!record->result_room && record->result != record->room)
            record->result = record->room;
    } else if (record->result_room < size) {
        void *room = TWILL_MALLOC(size);
        if (!room)
            return false;
        if (record->result_room)
            TWILL_FREE(record->result);
        record->result = room;
        record->result_room = size;
    }
    if (record->result_size != size)
        record->result_size = size;
    if (size)
        memset(record->result, 0, size);
    return true;
}

/* A record for a task: owned, PENDING, its result zeroed. NULL: no memory. By one thread at a
   time. */
static inline twill__record *twill__record_get(twill__core *core, size_t result_size)
{
    twill__record *record;
    if (!core->free) /* acquire: pairs with the push in twill__record_let_go */
        core->free = atomic_exchange_explicit(&core->returned, NULL, memory_order_acquire);
    if (!core->free && !twill__core_grow(core, core->records ? core->records : 32))
        return NULL;
    record = core->free;
    if (!twill__record_room(record, result_size))
        return NULL;
    core->free = record->next;
    /* an old handle looks at nothing but the generation: the rest is ours */
    atomic_store_explicit(&record->stage, TWILL__PENDING, memory_order_relaxed);
    atomic_store_explicit(&record->due, 0, memory_order_relaxed);
    record->owned = true;
    record->settled = record->returned = record->taken = false;
    record->outer = NULL;
    return record;
}

/* The object gives back a record that nobody else has known. By the thread that may call
   twill__record_get. */
static inline void twill__record_put(twill__record *record)
{
    record->owned = false;
    record->next = record->core->free;
    record->core->free = record;
}

/* The handle; once a task, before another thread can know the record. */
static inline twill_future twill__record_hold(twill__record *record)
{
    twill_future future = {record, record->generation};
    record->held = true;
    return future;
}

/* Called with the record locked, after one of its users has gone; unlocks. */
static inline void twill__record_let_go(twill__record *record)
{
    twill__core *core = record->core;
    const twill__record_table *table = core->table;
    bool orphan;
    if (record->owned || record->held || record->pins) {
        twill__unlock(&record->lock);
        return;
    }
    if (record->returned && !record->taken && table->forget) {
        record->taken = true;
        record->pins++; /* nobody but us */
        twill__unlock(&record->lock);
        table->forget(record);
        twill__lock(&record->lock);
        record->pins--;
    }
    orphan = record->orphan;
    if (!orphan) { /* under the lock: twill__core_leave takes it, and then the core may go */
        record->next = atomic_load_explicit(&core->returned, memory_order_relaxed);
        /* release: pairs with the exchange in twill__record_get; relaxed: a guess for the CAS */
        while (!atomic_compare_exchange_weak_explicit(&core->returned, &record->next, record,
                                                      memory_order_release, memory_order_relaxed)) {
        }
    }
    twill__unlock(&record->lock);
    if (orphan)
        twill__core_unuse(core);
}

/* The object goes: it owns no record any more, or only such whose runners are still on their way
   (they disown them later). The core goes with the last record in use. */
static inline void twill__core_leave(twill__core *core)
{
    size_t users = 1;
    if (!twill__core_here(core)) { /* no thread of the parent's is here, but handles may be */
        for (twill__slab *slab = core->slabs; slab; slab = slab->next)
            for (size_t i = 0; i < slab->count; i++)
                if (twill__slab_at(core, slab, i)->held)
                    return;
        twill__core_free(core);
        return;
    }
    atomic_store(&core->users, SIZE_MAX / 2); /* nobody may come to 0 meanwhile */
    for (twill__slab *slab = core->slabs; slab; slab = slab->next)
        for (size_t i = 0; i < slab->count; i++) {
            twill__record *record = twill__slab_at(core, slab, i);
            twill__lock(&record->lock);
            record->orphan = record->owned || record->held || record->pins;
            users += record->orphan;
            twill__unlock(&record->lock);
        }
    /* those who have gone meanwhile have counted themselves out already */
    if (atomic_fetch_sub(&core->users, SIZE_MAX / 2 - users) == SIZE_MAX / 2 - users)
        twill__core_free(core);
    else
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
    atomic_store_explicit(&record->stage, TWILL__ACTIVE, memory_order_relaxed);
}

/* The callback is about to run on this thread. */
static inline void twill__record_enter(twill__record *record)
{
    record->outer = twill__record_current();
    twill__thread()->record = record;
}

/* Both in one, where nobody else can settle it yet. */
static inline void twill__record_begin(twill__record *record)
{
    twill__record_claim(record);
    twill__record_enter(record);
}

/* It has returned, or ended its thread. */
static inline void twill__record_left(twill__record *record)
{
    twill__thread()->record = record->outer;
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

/* Under the record's lock. */
static inline void twill__record_wake(twill__record *record)
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

/* After twill__record_settle said true. The record may have new users, or none, right after it: the
   object still owns it, or does not touch it again. */
static inline void twill__record_publish(twill__record *record, const twill_outcome *outcome,
                                         bool disown)
{
    twill__lock(&record->lock);
    record->outcome = *outcome;
    /* release: pairs with the acquire of who polls */
    atomic_store_explicit(&record->stage, TWILL__ENDED, memory_order_release);
    twill__record_wake(record);
    if (disown)
        record->owned = false;
    twill__record_let_go(record);
}

/* twill__record_settle and twill__record_publish in one, where nobody else can settle it. */
static inline void twill__record_finish(twill__record *record, const twill_outcome *outcome,
                                        bool returned)
{
    twill__lock(&record->lock);
    record->settled = true;
    record->returned = returned;
    record->outcome = *outcome;
    /* release: as above */
    atomic_store_explicit(&record->stage, TWILL__ENDED, memory_order_release);
    if (record->waits)
        twill__record_wake(record);
    record->owned = false;
    twill__record_let_go(record);
}

/* Pins a record that may have come back already. False: its object has done with it. */
static inline bool twill__record_pin(twill__record *record)
{
    bool there;
    twill__lock(&record->lock);
    there = record->owned;
    record->pins += there;
    twill__unlock(&record->lock);
    return there;
}

static inline void twill__record_unpin(twill__record *record)
{
    twill__lock(&record->lock);
    record->pins--;
    twill__record_let_go(record);
}

static inline void twill__record_disown(twill__record *record)
{
    twill__lock(&record->lock);
    record->owned = false;
    twill__record_let_go(record);
}

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
    uint32_t now = twill__generation(), busy = 0x80000000u | now;
    /* pairs with the release */
    uint32_t seen = atomic_load_explicit(&process->waits_generation, memory_order_acquire);
    while (seen != now) { /* exit: whoever is busy does three more steps */
        if (seen != busy &&
            atomic_compare_exchange_strong(&process->waits_generation, &seen, busy)) {
            atomic_store_explicit(&process->waits_lock, 0, memory_order_relaxed);
            process->waits = NULL;
            /* pairs with the acquire */
            atomic_store_explicit(&process->waits_generation, now, memory_order_release);
        } else {
            twill__yield();
        }
        seen = atomic_load_explicit(&process->waits_generation, memory_order_acquire);
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

static inline bool twill__record_open(twill__record *record)
{
    bool open;
    twill__lock(&record->lock);
    /* under the lock */
    open = atomic_load_explicit(&record->stage, memory_order_relaxed) != TWILL__ENDED;
    twill__unlock(&record->lock);
    return open;
}

/* Whether `record` cannot end before a task of `stack` does. Under the list's lock: what the
   waits in it stand on does not move. */
static inline bool twill__leads_back(twill__blocked *list, const twill__record *stack,
                                     twill__record *record)
{
    if (!twill__record_open(record))
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

/* Locks the record of a handle. INVALID, FORKED, STALE: it is not locked. */
static inline twill_status twill__future_lock(twill_future future)
{
    twill__record *record = (twill__record *)future.slot;
    if (!record)
        return TWILL_INVALID;
    if (!twill__core_here(record->core))
        return TWILL_FORKED;
    twill__lock(&record->lock);
    if (record->generation == future.generation)
        return TWILL_OK;
    twill__unlock(&record->lock);
    return TWILL_STALE;
}

/* Under the lock: the answer of one who asks, if it has ended. */
static inline bool twill__record_answer(twill__record *record, void *result, twill_outcome *outcome,
                                        twill_status *status)
{
    /* under the lock */
    if (atomic_load_explicit(&record->stage, memory_order_relaxed) != TWILL__ENDED)
        return false;
    if (outcome)
        *outcome = record->outcome;
    if (result && record->returned) {
        record->taken = true;
        if (record->result_size)
            memcpy(result, record->result, record->result_size);
    }
    *status = record->outcome.status == TWILL_OK ? TWILL_OK : TWILL_FAILED;
    return true;
}

/* Under the record's lock. */
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
    record->pins++;
}

/* Under the record's lock. */
static inline void twill__future_delist(twill__record *record, twill__future_wait *wait)
{
    if (wait->listed) {
        if (wait->previous)
            wait->previous->next = wait->next;
        else
            record->waits = wait->next;
        if (wait->next)
            wait->next->previous = wait->previous;
        wait->listed = false;
    }
    record->pins--;
}

static inline twill_ns twill__nearer(twill_ns a, twill_ns b)
{
    return twill__no_deadline(a) ? b : twill__no_deadline(b) ? a : a < b ? a : b;
}

/* Whether this thread is inside a task or a call, on which others may wait. */
static inline bool twill__inside(void)
{
    const twill__self *self = twill__thread();
    return self->record || self->runner || self->job;
}

/* Of a record that is pinned: true: look again, and the pin is given back. `help`: this thread may
   run it; `idle`: from outside only if no thread that is there for it will. */
static inline bool twill__record_push_on(twill__record *record, bool help, bool idle)
{
    const twill__record_table *table = record->core->table;
    /* hints: `expire` and `help` look under their own locks */
    twill_ns due = atomic_load_explicit(&record->due, memory_order_acquire);
    if (due && table->expire && twill__clock_now() >= due) {
        table->expire(record);
        twill__record_unpin(record);
        return true;
    }
    return help && table->help &&
           /* as above */
           atomic_load_explicit(&record->stage, memory_order_acquire) == TWILL__PENDING &&
           table->help(record, idle && !twill__inside());
}

/* Whether this thread may run a task that another one would have run. One that waits for a time or
   a token would overrun it; but a task that waits for another one must, or a pool of one stands
   still. */
static inline bool twill__future_may_help(twill_until until)
{
    if (twill__inside())
        return !twill__expired(until.deadline) && !twill_cancel_fired(until.cancel);
    return !until.cancel && twill__no_deadline(until.deadline);
}

/* Sleeps until the node is granted or the wait is over; EMPTY: until the record is due. */
static inline twill_status twill__future_sleep(twill__node *node, twill__record *record,
                                               twill_until until)
{
    twill__blocked blocked = {NULL, NULL, twill__record_current(), record, false};
    twill_ns due = atomic_load_explicit(&record->due, memory_order_acquire); /* a hint, as above */
    twill_status status;
    if (twill__on_stack(blocked.stack, record))
        return TWILL_DEADLOCK;
    if (due || until.cancel || !twill__no_deadline(until.deadline)) {
        twill_until sooner = {twill__nearer(until.deadline, due), until.cancel};
        status = twill__wait(node, sooner);
        return status == TWILL_TIMEOUT && !twill__expired(until.deadline) ? TWILL_EMPTY : status;
    }
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
    if (twill__future_lock(future) != TWILL_OK)
        return false;
    record->pins++;
    twill__unlock(&record->lock);
    if (twill__record_push_on(record, help, idle))
        return true;
    twill__record_unpin(record);
    return false;
}

/* Whether it is worth a try; under the record's lock. */
static inline bool twill__record_waits_for_us(const twill__record *record, bool help)
{
    /* under the lock, or hints */
    return atomic_load_explicit(&record->due, memory_order_acquire) ||
           (help && record->core->table->help &&
            atomic_load_explicit(&record->stage, memory_order_relaxed) == TWILL__PENDING);
}

static inline twill_status twill__future_await(twill_future future, void *result,
                                               twill_outcome *outcome, twill_until until)
{
    twill__record *record = (twill__record *)future.slot;
    bool tried = false;
    for (;;) { /* exit: ended, or the wait is over; each turn sleeps, or something has happened */
        twill__future_wait wait;
        twill__node node;
        twill_status status = twill__future_lock(future), answer = TWILL_OK;
        bool ended, help;
        if (status != TWILL_OK)
            return status;
        if (twill__record_answer(record, result, outcome, &answer)) {
            twill__unlock(&record->lock);
            return answer;
        }
        help = !tried && twill__future_may_help(until);
        if (!tried && twill__record_waits_for_us(record, help)) {
            twill__unlock(&record->lock);
            tried = !twill__future_push_on(future, help, false);
            continue;
        }
        twill__node_init(&node);
        twill__future_enlist(record, &wait, &node);
        twill__unlock(&record->lock);
        status = twill__future_sleep(&node, record, until);
        twill__lock(&record->lock);
        twill__future_delist(record, &wait);
        ended = twill__record_answer(record, result, outcome, &answer);
        twill__record_let_go(record);
        if (ended)
            return answer;
        if (status != TWILL_OK && status != TWILL_EMPTY)
            return status;
        tried = false;
    }
}

/* ---- wait for any ---- */

/* Takes the node out of the lists of the first n; the place of the lowest that has ended, or n. */
static inline size_t twill__any_leave(twill__future_wait *waits, size_t n)
{
    size_t ended = n;
    for (size_t i = n; i-- > 0;) {
        twill__record *record = waits[i].record;
        twill__lock(&record->lock);
        /* under the lock */
        if (atomic_load_explicit(&record->stage, memory_order_relaxed) == TWILL__ENDED)
            ended = i;
        twill__future_delist(record, &waits[i]);
        twill__record_let_go(record);
    }
    return ended;
}

/* Puts the node into all n lists. Not OK: into none. */
static inline twill_status twill__any_enter(const twill_future *futures, size_t n,
                                            twill__future_wait *waits, twill__node *node)
{
    twill__node_init(node);
    for (size_t i = 0; i < n; i++) {
        twill_status status = twill__future_lock(futures[i]);
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
    twill_until sooner = until;
    twill_status status;
    bool mine = true;
    for (size_t i = 0; i < n; i++) {
        twill__record *record = waits[i].record;
        /* hints; who has ended grants the node, or is found at the end */
        if (atomic_load_explicit(&record->stage, memory_order_acquire) == TWILL__ENDED)
            return TWILL_EMPTY;
        mine = mine && twill__on_stack(twill__record_current(), record);
        sooner.deadline = twill__nearer(sooner.deadline,
                                        atomic_load_explicit(&record->due, memory_order_acquire));
    }
    if (mine)
        return TWILL_DEADLOCK;
    status = twill__wait(node, sooner);
    return status == TWILL_TIMEOUT && !twill__expired(until.deadline) ? TWILL_EMPTY : status;
}

/* The first that has ended, or n; brings them forward on the way, until one has. A thread from
   outside leaves them to idle workers: another one may end before the one that it would run. */
static inline size_t twill__any_push_on(const twill_future *futures, size_t n, twill_until until)
{
    for (size_t i = 0; i < n; i++) {
        twill__record *record = (twill__record *)futures[i].slot;
        bool ended;
        if (twill__future_lock(futures[i]) != TWILL_OK)
            return n; /* entering will say so */
        /* under the lock */
        ended = atomic_load_explicit(&record->stage, memory_order_relaxed) == TWILL__ENDED;
        twill__unlock(&record->lock);
        if (ended)
            return i;
    }
    for (size_t i = 0; i < n; i++)
        if (twill__future_push_on(futures[i], twill__future_may_help(until), true))
            return n;
    return n;
}

static inline twill_status twill__any_await(const twill_future *futures, size_t n, size_t *which,
                                            twill__future_wait *waits, twill_until until)
{
    for (;;) { /* exit: one has ended, or the wait is over */
        size_t ended = twill__any_push_on(futures, n, until);
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
        if (status != TWILL_OK && status != TWILL_EMPTY)
            return status;
    }
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
        twill_status status = twill__future_lock(future);
        twill_ns due;
        if (status != TWILL_OK)
            return status;
        if (twill__record_answer(record, result, outcome, &status)) {
            twill__unlock(&record->lock);
            return status;
        }
        due = atomic_load_explicit(&record->due, memory_order_acquire); /* a hint */
        if (!due || !record->core->table->expire || twill__clock_now() < due) {
            twill__unlock(&record->lock);
            return TWILL_EMPTY;
        }
        record->pins++;
        twill__unlock(&record->lock);
        record->core->table->expire(record);
        twill__lock(&record->lock);
        record->pins--;
        twill__record_let_go(record);
    }
}

TWILL__WEAK twill_status twill_future_wait_any(const twill_future *futures, size_t n, size_t *which,
                                               twill_until until)
{
    twill__future_wait few[16], *waits = few;
    twill_status status;
    if (!futures || n == 0)
        return TWILL_INVALID;
    if (n > SIZE_MAX / sizeof *waits)
        return TWILL_TOO_BIG;
    if (n > 16 && !(waits = (twill__future_wait *)TWILL_MALLOC(n * sizeof *waits)))
        return TWILL_NO_MEMORY;
    status = twill__any_await(futures, n, which, waits, until);
    if (waits != few)
        TWILL_FREE(waits);
    return status;
}

TWILL__WEAK twill_status twill_future_wait_all(const twill_future *futures, size_t n,
                                               twill_until until)
{
    twill_status all = TWILL_OK;
    if (!futures && n)
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
    twill_status status = twill__future_lock(future);
    if (status != TWILL_OK)
        return status;
    record->pins++;
    twill__unlock(&record->lock);
    if (record->core->table->cancel)
        record->core->table->cancel(record);
    twill__lock(&record->lock);
    record->pins--;
    twill__record_let_go(record);
    return TWILL_OK;
}

TWILL__WEAK void twill_future_release(twill_future future)
{
    twill__record *record = (twill__record *)future.slot;
    if (twill__future_lock(future) != TWILL_OK)
        return;
    record->held = false;
    record->generation++;
    twill__record_let_go(record);
}

#endif
