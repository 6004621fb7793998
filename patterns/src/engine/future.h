/* future.h: records of tasks, the handles to them, and waiting for their end. */
#ifndef TWILL__ENGINE_FUTURE_H
#define TWILL__ENGINE_FUTURE_H

#include "base/future.h"
#include "engine/call.h"
#include "engine/status.h"

/* An object that gives out futures (a pool, a batcher) makes a core, and takes its records from it.
   A record has up to three kinds of users: the object (from twill__record_get until
   twill__record_disown), the handle (until twill_future_release), and those who look at it this
   moment, the pins. Its memory is type-stable and the core outlives the object as long as a record
   of it is in use: so an old handle finds a record, and a generation in it that is not its own.

   `word` says who uses it, whether its task has ended, and in which generation: one CAS decides who
   is the last user, and by it the record is free again. It is in no list then: twill__record_get
   goes round and looks. So the end of a task for which nobody waits is one CAS, a wait that comes
   later one load, and the release one more CAS. Whatever else there is to do goes by the lock,
   whose holders change `word` by CAS, too.

   A record that was never used stands at the end of its slab, in memory that nobody has touched,
   and one that the object has put back in a list. Of these an object may reserve some, for what
   must not fail later.

   The life of a record:
       twill__record_get       by one thread at a time (the object's lock)
       twill__record_hold      gives the handle, before another thread can know the record
       twill__record_begin     the runner's thread, just before the callback
       twill__record_settle    true to exactly one: that one says how the task ended, in `outcome`
       twill__record_publish   once; wakes who waits
       twill__record_left      the runner's thread, after the callback
       twill__record_disown    the object will not touch it again */

#ifndef TWILL__FIRST_RECORDS /* the explorer wants fewer */
#define TWILL__FIRST_RECORDS 32
#endif
#define TWILL__RESULT_ROOM 48 /* bytes of a result that need no allocation */

enum { /* of record.word: the rest is the generation. None of them: it is free */
       TWILL__BY_OBJECT = 1,
       TWILL__BY_HANDLE = 2,
       TWILL__BY_PIN = 4, /* pins != 0; changes under the lock */
       TWILL__USERS = 7,
       TWILL__ORPHAN = 8, /* the object has gone: the last user tells the core */
       TWILL__ENDED = 16,
       TWILL__WELL = 32,     /* ended with TWILL_OK */
       TWILL__TOLD = 64,     /* the last user calls `forget`, if nobody took the result */
       TWILL__TOUCHED = 128, /* the object's: no simple end */
       TWILL__FLAGS = 255
};
#define TWILL__GENERATION 256 /* one more */

struct twill__record;

/* What an object does for its records. All may be NULL; none is called under a lock. The record
   stays while the function runs, but its task may have ended. */
typedef struct twill__record_table {
    /* Runs a task that nobody has begun, on this thread. `idle`: only if no thread that is there
       for it will. True: it has; the caller's pin was given back before the task ran, since it may
       end the thread. False: it has not. */
    bool (*help)(struct twill__record *record, bool idle);
    /* record->due has come. Both with a pin of the caller, which goes back also if a callback that
       they call ends the thread */
    void (*expire)(struct twill__record *record);
    void (*cancel)(struct twill__record *record);
    /* it ran, and nobody will take its result: the last call for this task */
    void (*forget)(struct twill__record *record);
    /* A guess without a pin, for a thread that is in no task: somebody is about to come to it, or
       has, so that it is better to stay away for so long than to help, or to look. *seen: how far he
       had come at the last look (first 0). 0 if he has not moved since. */
    twill_ns (*comes)(const struct twill__record *record, uint64_t *seen);
    /* Without a pin, by a thread that is in no task: runs the task of that handle, if it is the next
       one and nobody else begins it. False: it has not. */
    bool (*run_next)(twill_future future);
} twill__record_table;

typedef struct twill__future_wait { /* on the waiter's stack; guarded by its record's lock */
    struct twill__future_wait *next, *previous;
    twill__node *node;
    struct twill__record *record;
    bool listed;
} twill__future_wait;

typedef struct twill__record {
    /* One line: what the end of a task writes, and a wait reads. `outcome` is the object's, until
       it has published it. */
    _Atomic uint64_t word;
    twill_outcome outcome;
    /* Another one: what its runner reads. The object's, written before the record is known, or by
       the runner. */
    twill_task_fn *fn; /* of an object whose tasks have one each */
    void *arg, *context;
    void *result;
    struct twill__record *outer; /* what its runner is in the middle of; the next put back */
    size_t result_size;
    _Atomic uint32_t begun; /* somebody's: nobody helps any more; a hint */
    bool returned;          /* its callback came back before it was settled: there is a result */
    bool simple, clean, stopped; /* the object's */
    int where;
    /* under the lock, which lives on from task to task */
    _Atomic uint32_t lock;
    /* What most tasks do not need. */
    TWILL_ALIGNAS(16) char room[TWILL__RESULT_ROOM];
    twill__future_wait *waits;     /* under the lock */
    struct twill__record *roomier; /* with room for a large result, all in a circle */
    /* A third one, with the first words of an object's own: what a submit looks at beside. */
    uint32_t pins; /* under the lock, as the next two */
    bool settled;  /* somebody says, or has said, how it ended */
    bool taken;    /* by a wait */
    struct twill__core *core;
    _Atomic twill_ns due; /* somebody must `expire` it then; 0: never */
    size_t result_room;
} twill__record;
_Static_assert(offsetof(twill__record, fn) <= TWILL__LINE &&
                   offsetof(twill__record, room) <= 2 * TWILL__LINE,
               "what is used by every task stands in two lines");

typedef struct twill__slab {
    struct twill__slab *next;
    size_t count, room; /* records; memory for so many, of which the rest was never touched */
    void *memory;
    char *first; /* record */
} twill__slab;

typedef struct twill__core {
    /* of the thread that may call twill__record_get */
    twill__record *put;   /* back */
    twill__record *roomy; /* in the circle: the last that was taken */
    twill__slab *slabs;
    twill__slab *hand; /* where it looks next for a free one: */
    size_t at;         /* in that slab */
    size_t found;      /* since it began at the first one */
    size_t records;
    size_t sure, reserved; /* records: put back, or never touched; of them: twill__core_reserve */
    char other_line[TWILL__LINE]; /* what follows is read by all */
    size_t size;                  /* of a record, a multiple of TWILL__LINE */
    const twill__record_table *table;
    void *owner; /* memory that the records' functions need: freed with the core */
    const _Atomic uint32_t *mark;
    uint32_t generation;  /* of the process */
    _Atomic size_t users; /* set by twill__core_leave: records in use, and itself */
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
    return (twill__record *)(void *)(slab->first + i * core->size);
}

static inline bool twill__record_is_free(const twill__record *record)
{
    /* acquire: pairs with the CAS of its last user */
    return !(atomic_load_explicit(&record->word, memory_order_acquire) & TWILL__FLAGS);
}

/* Memory for `count` records more, and looks there next. Of the thread that may call
   twill__record_get. */
static inline bool twill__core_grow(twill__core *core, size_t count)
{
    twill__slab *slab;
    char *first;
    if (count > (SIZE_MAX - TWILL__LINE) / core->size ||
        !(slab = (twill__slab *)TWILL_MALLOC(sizeof *slab)))
        return false;
    slab->memory = TWILL_MALLOC(count * core->size + TWILL__LINE);
    if (!slab->memory) {
        TWILL_FREE(slab);
        return false;
    }
    first = (char *)slab->memory;
    slab->first = first + (TWILL__LINE - (uintptr_t)first % TWILL__LINE) % TWILL__LINE;
    slab->count = 0;
    slab->room = count;
    slab->next = core->slabs;
    core->slabs = core->hand = slab;
    core->at = core->found = 0;
    core->records += count;
    core->sure += count;
    return true;
}

/* The next of a slab's that were never touched. */
static inline twill__record *twill__core_unwrap(twill__core *core, twill__slab *slab)
{
    twill__record *record = twill__slab_at(core, slab, slab->count++);
    core->sure--;
    memset(record, 0, core->size);
    record->core = core;
    record->result = record->room;
    atomic_init(&record->word, TWILL__GENERATION);
    return record;
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

static inline void twill__core_gives_room(twill__core *core, twill__record *record)
{
    record->roomier = core->roomy ? core->roomy->roomier : record;
    if (core->roomy)
        core->roomy->roomier = record;
    core->roomy = record;
}

/* A free record with room for a large result, if one is near: else each would come to have some. */
static inline twill__record *twill__core_roomy(twill__core *core, size_t size)
{
    twill__record *record = core->roomy;
    for (unsigned looks = 0; record && looks < 8; looks++) {
        record = record->roomier;
        if (record->result_room >= size && twill__record_is_free(record))
            return core->roomy = record;
    }
    return NULL;
}

/* Room for a result. False: no memory. */
static inline bool twill__record_room(twill__record *record, size_t size)
{
    if (size > TWILL__RESULT_ROOM && record->result_room < size) {
        void *room = TWILL_MALLOC(size);
        if (!room)
            return false;
        if (record->result_room)
            TWILL_FREE(record->result);
        else
            twill__core_gives_room(record->core, record);
        record->result = room;
        record->result_room = size;
    }
    record->result_size = size;
    if (size)
        memset(record->result, 0, size);
    return true;
}

/* What is used by every task, to be written soon; it was another core's. */
static inline void twill__record_fetch(const twill__record *record)
{
    twill__prefetch(&record->word);
    twill__prefetch(&record->fn);
}

#define TWILL__RECORDS_AHEAD 4

/* The next free record on the way round, or a new one; those that were put back are reserved, or
   there are none. A round that has found less than a quarter of them free makes as many new ones:
   so a look finds one after four others at most, on an average. NULL: there is none, and no
   memory. */
static inline twill__record *twill__core_find(twill__core *core)
{
    for (;;) { /* exit: found; or a whole round has found none, and there is no memory */
        twill__slab *slab = core->hand;
        if (!slab) {
            size_t found = core->found + (core->sure - core->reserved);
            core->hand = core->slabs;
            core->at = core->found = 0;
            if (found <= (core->records - core->reserved) / 4 &&
                !twill__core_grow(core, core->records ? core->records : TWILL__FIRST_RECORDS) &&
                !found)
                return NULL;
        } else if (core->at == slab->count) {
            if (slab->count < slab->room && core->sure > core->reserved) {
                core->at++;
                core->found++;
                return twill__core_unwrap(core, slab);
            }
            core->hand = slab->next;
            core->at = 0;
        } else {
            twill__record *record = twill__slab_at(core, slab, core->at++);
            if (core->at + TWILL__RECORDS_AHEAD <= slab->count)
                twill__record_fetch(
                    twill__slab_at(core, slab, core->at - 1 + TWILL__RECORDS_AHEAD));
            if (twill__record_is_free(record)) {
                core->found++;
                return record;
            }
        }
    }
}

/* Its word, from whoever gives it out: there is no other user, and an old handle looks at nothing
   but the generation, which it will not find. */
static inline void twill__record_flags(twill__record *record, uint64_t flags)
{
    uint64_t word = atomic_load_explicit(&record->word, memory_order_relaxed);
    atomic_store_explicit(&record->word, (word & ~(uint64_t)TWILL__FLAGS) | flags,
                          memory_order_relaxed);
}

/* The object gives back a record that nobody else has known. By the thread that may call
   twill__record_get. */
static inline void twill__record_put(twill__record *record)
{
    twill__core *core = record->core;
    record->outer = core->put;
    core->put = record;
    core->sure++;
}

/* One of those that were put back or never touched. There is one. */
static inline twill__record *twill__core_sure(twill__core *core)
{
    twill__record *record = core->put;
    twill__slab *slab = core->slabs;
    if (record) {
        core->put = record->outer;
        core->sure--;
        return record;
    }
    while (slab->count == slab->room)
        slab = slab->next;
    return twill__core_unwrap(core, slab);
}

/* It is the object's. */
static inline void twill__record_ready(twill__record *record)
{
    twill__record_flags(record, TWILL__BY_OBJECT);
    /* relaxed: ours alone */
    atomic_store_explicit(&record->begun, 0, memory_order_relaxed);
    if (atomic_load_explicit(&record->due, memory_order_relaxed))
        atomic_store_explicit(&record->due, 0, memory_order_relaxed);
    record->returned = false;
    if (record->settled || record->taken)
        record->settled = record->taken = false;
}

/* A record for a task: the object's, its result zeroed. NULL: no memory. By one thread at a
   time. */
static inline twill__record *twill__record_get(twill__core *core, size_t result_size)
{
    twill__record *record = NULL;
    if (result_size > TWILL__RESULT_ROOM)
        record = twill__core_roomy(core, result_size);
    if (!record && core->put && core->sure > core->reserved)
        record = twill__core_sure(core);
    if (!record && !(record = twill__core_find(core)))
        return NULL;
    twill__record_ready(record);
    if (twill__record_room(record, result_size))
        return record;
    twill__record_put(record);
    return NULL;
}

/* One record more than are reserved: so many calls of twill__record_get_reserved cannot fail.
   Hardly one is touched before. False: no memory. By the thread that may call twill__record_get, as
   what follows. */
static inline bool twill__core_reserve(twill__core *core)
{
    if (core->sure == core->reserved) {
        twill__record *record = twill__core_find(core);
        if (!record)
            return false;
        twill__record_ready(record);
        twill__record_put(record);
    }
    core->reserved++;
    return true;
}

static inline void twill__core_unreserve(twill__core *core, size_t count)
{
    core->reserved -= count;
}

/* For a task without a result. */
static inline twill__record *twill__record_get_reserved(twill__core *core)
{
    twill__record *record = twill__core_sure(core);
    core->reserved--;
    twill__record_ready(record);
    record->result_size = 0;
    return record;
}

/* The last user tells the object (`forget`). Before another thread can know the record. */
static inline void twill__record_tells(twill__record *record)
{
    uint64_t word = atomic_load_explicit(&record->word, memory_order_relaxed);
    twill__record_flags(record, (word & TWILL__FLAGS) | TWILL__TOLD);
}

/* The handle; once a task, before another thread can know the record. */
static inline twill_future twill__record_hold(twill__record *record)
{
    uint64_t word = atomic_load_explicit(&record->word, memory_order_relaxed);
    twill_future future = {record, word / TWILL__GENERATION};
    atomic_store_explicit(&record->word, word | TWILL__BY_HANDLE, memory_order_relaxed);
    return future;
}

/* Of a record with a handle that stays, or is pinned. */
static inline uint64_t twill__record_generation(const twill__record *record)
{
    return atomic_load_explicit(&record->word, memory_order_relaxed) / TWILL__GENERATION;
}

/* ---- users ---- */

/* One user less. True: it was the last, and has to `forget` now, with a pin of its own. */
static inline bool twill__record_drop(twill__record *record, uint64_t user, bool *orphan)
{
    /* acquire: pairs with the release of the other users, whose last one reads what they wrote */
    uint64_t word = atomic_load_explicit(&record->word, memory_order_acquire), next;
    bool last, forget;
    do {
        next = (word & ~user) + (user == TWILL__BY_HANDLE ? TWILL__GENERATION : 0);
        last = !(next & TWILL__USERS);
        forget = last && word & TWILL__TOLD && record->returned && !record->taken;
        if (forget)
            next |= TWILL__BY_PIN;
        else if (last)
            next &= ~(uint64_t)TWILL__FLAGS;
        /* release: what this one did comes before the next use */
    } while (!atomic_compare_exchange_weak_explicit(&record->word, &word, next,
                                                    memory_order_acq_rel, memory_order_acquire));
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
                                                  memory_order_acq_rel, memory_order_relaxed));
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

static inline void twill__record_disown(twill__record *record)
{
    twill__lock(&record->lock);
    twill__record_let_go(record, TWILL__BY_OBJECT);
}

/* The object goes: it owns no record any more, or only such whose runners are still on their way
   (they disown them later). The core goes with the last record in use. */
static inline void twill__core_leave(twill__core *core)
{
    size_t users = 1;
    for (; core->put; core->put = core->put->outer)
        twill__record_flags(core->put, 0);
    if (!twill__core_here(core)) { /* no thread of the parent's is here, but handles may be */
        for (twill__slab *slab = core->slabs; slab; slab = slab->next)
            for (size_t i = 0; i < slab->count; i++)
                /* relaxed: there is no other thread that could know it */
                if (atomic_load_explicit(&twill__slab_at(core, slab, i)->word,
                                         memory_order_relaxed) &
                    TWILL__BY_HANDLE)
                    return;
        twill__core_free(core);
        return;
    }
    atomic_store(&core->users, SIZE_MAX / 2); /* nobody may come to 0 meanwhile */
    for (twill__slab *slab = core->slabs; slab; slab = slab->next)
        for (size_t i = 0; i < slab->count; i++) {
            twill__record *record = twill__slab_at(core, slab, i);
            uint64_t word;
            twill__lock(&record->lock); /* who was the last user, has left it */
            word = atomic_load(&record->word);
            while (word & TWILL__USERS &&
                   !atomic_compare_exchange_weak(&record->word, &word, word | TWILL__ORPHAN)) {}
            users += (word & TWILL__USERS) != 0;
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

/* Both in one, where nobody else can settle it yet. */
static inline void twill__record_begin(twill__record *record)
{
    twill__record_claim(record);
    twill__record_enter(record, twill__thread());
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

/* Under the record's lock: it has ended. */
static inline void twill__record_end(twill__record *record)
{
    /* release: publishes the outcome */
    atomic_fetch_or_explicit(&record->word, twill__record_end_flags(record), memory_order_release);
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
                                                   memory_order_acq_rel, memory_order_relaxed);
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
    /* acquire: as above */
    uint64_t word = atomic_load_explicit(&record->word, memory_order_acquire);
    if (!(word & TWILL__ENDED))
        return false;
    if (outcome)
        *outcome = record->outcome;
    if (result && record->returned) {
        record->taken = true;
        if (record->result_size)
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

/* Whether nobody has begun it. A hint, as above. */
static inline bool twill__record_waiting(const twill__record *record)
{
    return !atomic_load_explicit(&record->begun, memory_order_acquire) &&
           !twill__record_ended(record);
}

/* Of a record that is pinned: true: look again, and the pin is given back. `help`: this thread may
   run it; `idle`: from outside only if no thread that is there for it will. */
static inline bool twill__record_push_on(twill__record *record, bool help, bool idle)
{
    const twill__record_table *table = record->core->table;
    /* hints: `expire` and `help` look under their own locks */
    twill_ns due = atomic_load_explicit(&record->due, memory_order_acquire);
    if (due && table->expire && twill__clock_now() >= due) {
        twill__record_tell(record, table->expire);
        return true;
    }
    return help && table->help && twill__record_waiting(record) &&
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
    if (due || until.cancel || !twill__no_deadline(until.deadline))
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
    /* hints, as above */
    return atomic_load_explicit(&record->due, memory_order_acquire) ||
           (help && record->core->table->help && twill__record_waiting(record));
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
                                           twill_outcome *outcome, twill_until until,
                                           twill_status *status)
{
    twill__future_wait wait;
    twill__node node;
    twill_status answer = TWILL_OK;
    bool ended;
    twill__node_init(&node);
    twill__future_enlist(record, &wait, &node);
    twill__unlock(&record->lock);
    *status = twill__future_sleep(&node, record, until);
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
    uint64_t word;
    if (!until.cancel && twill__no_deadline(until.deadline) && !twill__future_moved(&future)) {
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
        help = !tried && twill__future_may_help(until);
        if (!tried && twill__record_waits_for_us(record, help)) {
            twill__record_pin_off(record);
            tried = !twill__future_push_on(future, help, false);
            continue;
        }
        if (twill__future_wait_long(record, result, outcome, until, &status))
            return status;
        if (status != TWILL_OK && status != TWILL_EMPTY)
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
        mine = mine && twill__on_stack(twill__record_current(), record);
        sooner = twill__nearer(sooner, atomic_load_explicit(&record->due, memory_order_acquire));
    }
    return mine ? TWILL_DEADLOCK : twill__wait_sooner(node, sooner, until);
}

/* The first that has ended, or n; brings them forward on the way, until one has. A thread from
   outside leaves them to idle workers: another one may end before the one that it would run. */
static inline size_t twill__any_push_on(const twill_future *futures, size_t n, twill_until until)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t word;
        if (twill__future_look(futures[i], &word) != TWILL_OK)
            return n; /* entering will say so */
        if (word & TWILL__ENDED)
            return i;
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

static void twill__any_free(void *waits)
{
    TWILL_FREE(waits);
}

/* With allocated `waits`, which go also if a task that it runs ends the thread. */
static __attribute__((noinline)) void twill__any_await_many(const twill_future *futures, size_t n,
                                                            size_t *which,
                                                            twill__future_wait *waits,
                                                            twill_until until, twill_status *status)
{
    TWILL__GUARD_PUSH(twill__any_free, waits);
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
            due = atomic_load_explicit(&record->due, memory_order_acquire); /* a hint */
            if (!due || !record->core->table->expire || twill__clock_now() < due)
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
    if (record->core->table->cancel)
        twill__record_tell(record, record->core->table->cancel);
    else
        twill__record_unpin(record);
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
        /* it is free: pairs with the acquire in twill__core_find */
        atomic_compare_exchange_strong_explicit(
            &record->word, &word, (word & ~(uint64_t)TWILL__FLAGS) + TWILL__GENERATION,
            memory_order_acq_rel, memory_order_relaxed))
        return;
    if (twill__future_pin(future) != TWILL_OK)
        return;
    /* pinned: it stays this generation's, and this is not the last user */
    (void)twill__record_drop(record, TWILL__BY_HANDLE, &orphan);
    twill__record_pin_off(record);
}

#endif
