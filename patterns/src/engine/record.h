/* record.h: the records of tasks that somebody may wait for, and their memory. */
#ifndef TWILL__ENGINE_RECORD_H
#define TWILL__ENGINE_RECORD_H

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
       twill__record_claim     it is somebody's, and nobody helps any more
       twill__record_enter     the runner's thread, just before the callback
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

/* What an object does for its records: the first three are there, the others may be NULL. None is
   called under a lock. The record stays while the function runs, but its task may have ended. */
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
       has, so that it is better to stay away for so long than to help, or to look. *seen: how far
       he had come at the last look (first 0). 0 if he has not moved since. */
    twill_ns (*comes)(const struct twill__record *record, uint64_t *seen);
    /* Without a pin, by a thread that is in no task: runs the task of that handle, if it is the
       next one and nobody else begins it. False: it has not. */
    bool (*run_next)(twill_future future);
    /* With a pin, before a sleep: nobody may be there who would begin it. When to look again; 0:
       not before it has ended. */
    twill_ns (*again)(struct twill__record *record);
} twill__record_table;

typedef struct twill__future_wait { /* on the waiter's stack; guarded by its record's lock */
    struct twill__future_wait *next, *previous;
    twill__node *node;
    struct twill__record *record;
    twill_ns due; /* the record's, before this thread looked whether it may run the task */
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
    /* release, after the result's address: a forked child frees it */
    _Atomic size_t result_room;
} twill__record;
_Static_assert(offsetof(twill__record, fn) <= TWILL__LINE &&
                   offsetof(twill__record, room) <= 2 * TWILL__LINE,
               "what is used by every task stands in two lines");

typedef struct twill__slab {
    struct twill__slab *next;
    _Atomic size_t count; /* records; release, when one is made: a forked child looks at them */
    size_t room;          /* memory for so many, of which the rest was never touched */
    void *memory;
    char *first; /* record */
} twill__slab;

typedef struct twill__core {
    /* of the thread that may call twill__record_get */
    twill__record *put;           /* back */
    twill__record *roomy;         /* in the circle: the last that was taken */
    _Atomic(twill__slab *) slabs; /* release, as a slab's count */
    twill__slab *hand;            /* where it looks next for a free one: */
    size_t at;                    /* in that slab */
    size_t found;                 /* since it began at the first one */
    size_t records;
    size_t sure, reserved; /* records: put back, or never touched; of them: twill__core_reserve */
    char other_line[TWILL__LINE]; /* what follows is read by all */
    size_t size;                  /* of a record, a multiple of TWILL__LINE */
    const twill__record_table *table;
    void *owner; /* memory that the records' functions need: freed with the core */
    twill__home home;
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
    core->home = twill__home_here();
    return core;
}

/* Whether this process made it. */
static inline bool twill__core_here(const twill__core *core)
{
    return twill__at_home(core->home);
}

/* acquire, here and in the next one: of a forked child, what another thread had made of them before
   the fork */
static inline twill__slab *twill__core_slabs(const twill__core *core)
{
    return atomic_load_explicit(&core->slabs, memory_order_acquire);
}

static inline size_t twill__slab_count(const twill__slab *slab)
{
    return atomic_load_explicit(&slab->count, memory_order_acquire);
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
    if (count > (SIZE_MAX - TWILL__LINE) / core->size)
        return false;
    slab = (twill__slab *)TWILL_MALLOC(sizeof *slab);
    if (!slab)
        return false;
    slab->memory = TWILL_MALLOC(count * core->size + TWILL__LINE);
    if (!slab->memory) {
        TWILL_FREE(slab);
        return false;
    }
    first = (char *)slab->memory;
    slab->first = first + (TWILL__LINE - (uintptr_t)first % TWILL__LINE) % TWILL__LINE;
    atomic_init(&slab->count, 0);
    slab->room = count;
    slab->next = twill__core_slabs(core);
    atomic_store_explicit(&core->slabs, slab, memory_order_release);
    core->hand = slab;
    core->at = core->found = 0;
    core->records += count;
    core->sure += count;
    return true;
}

/* The next of a slab's that were never touched. */
static inline twill__record *twill__core_unwrap(twill__core *core, twill__slab *slab)
{
    size_t at = twill__slab_count(slab);
    twill__record *record = twill__slab_at(core, slab, at);
    core->sure--;
    memset(record, 0, core->size);
    record->core = core;
    record->result = record->room;
    atomic_init(&record->word, TWILL__GENERATION);
    atomic_store_explicit(&slab->count, at + 1, memory_order_release);
    return record;
}

static inline void twill__core_free(twill__core *core)
{
    for (twill__slab *slab = twill__core_slabs(core), *next; slab; slab = next) {
        size_t count = twill__slab_count(slab);
        next = slab->next;
        for (size_t i = 0; i < count; i++) {
            twill__record *record = twill__slab_at(core, slab, i);
            if (atomic_load_explicit(&record->result_room, memory_order_acquire))
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
        /* relaxed, here and below: this thread has written it */
        if (atomic_load_explicit(&record->result_room, memory_order_relaxed) >= size &&
            twill__record_is_free(record))
            return core->roomy = record;
    }
    return NULL;
}

/* Room for a result. False: no memory. */
static inline bool twill__record_room(twill__record *record, size_t size)
{
    size_t has = atomic_load_explicit(&record->result_room, memory_order_relaxed);
    if (size > TWILL__RESULT_ROOM && has < size) {
        void *room = TWILL_MALLOC(size);
        if (!room)
            return false;
        if (has) { /* 0 before it goes: a child that was forked here does not free it again */
            atomic_store_explicit(&record->result_room, 0, memory_order_relaxed);
            TWILL_FREE(record->result);
        } else {
            twill__core_gives_room(record->core, record);
        }
        record->result = room;
        atomic_store_explicit(&record->result_room, size, memory_order_release);
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
            core->hand = twill__core_slabs(core);
            core->at = core->found = 0;
            if (found <= (core->records - core->reserved) / 4 &&
                !twill__core_grow(core, core->records ? core->records : TWILL__FIRST_RECORDS) &&
                !found)
                return NULL;
        } else if (core->at == twill__slab_count(slab)) {
            if (twill__slab_count(slab) < slab->room && core->sure > core->reserved) {
                core->at++;
                core->found++;
                return twill__core_unwrap(core, slab);
            }
            core->hand = slab->next;
            core->at = 0;
        } else {
            twill__record *record = twill__slab_at(core, slab, core->at++);
            if (core->at + TWILL__RECORDS_AHEAD <= twill__slab_count(slab))
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
    twill__slab *slab = twill__core_slabs(core);
    if (record) {
        core->put = record->outer;
        core->sure--;
        return record;
    }
    while (twill__slab_count(slab) == slab->room)
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

#endif
