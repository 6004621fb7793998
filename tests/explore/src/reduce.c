/* reduce.c: the exhaustive search does not come to the same state twice.

   Two schedules that differ only in the order of steps which do not touch each other lead to the
   same state. Each thread has a digest of its past: of its own steps, of what they met (which store
   a load read, whom a lock was taken from), and so of all that this depended on. All digests
   together stand for the partial order of the run so far, and for the state. If that state was
   there before, with as many preemptions, stale reads and misfortunes left or more, all that can
   follow has been tried, and the run is cut short. This is sound with bounds, as sleep sets are
   not: M. Musuvathi and S. Qadeer, "Partial-order reduction for context-bounded state exploration",
   MSR-TR-2007-12.

   Two steps depend on each other if they touch the same object and one changes it. Plain accesses
   need not be told: if two of them depend on each other and no such step orders them, that is a
   data race, and the run has failed. What is not exact: a digest has 64 bits, and the table
   forgets. */
#include "explorer.h"

#include <string.h>

enum { OBJECTS = 1 << 13, STATES = 1 << 22, WAYS = 4 };

typedef struct object {
    const void *address;
    uint32_t run;
    uint64_t changed, looked_at; /* digests: of the last change, of all looks since */
} object;

static object *objects;
static uint64_t *states; /* hash without its last byte; in it, the preemptions that were spent */
static uint64_t clock_digest, salt;

static uint64_t mix(uint64_t a, uint64_t b)
{
    a = (a ^ b) * 0x9e3779b97f4a7c15u;
    a ^= a >> 32;
    a *= 0xd6e8feb86659fd93u;
    return a ^ a >> 29;
}

static object *find(const void *address)
{
    uint32_t at = (uint32_t)((uintptr_t)address * 0x9e3779b97f4a7c15u >> 48) & (OBJECTS - 1);

    for (int tries = 0; tries < OBJECTS; tries++, at = (at + 1) & (OBJECTS - 1)) {
        object *o = &objects[at];
        if (o->run != x.run) {
            *o = (object){address, x.run, 0, 0};
            return o;
        }
        if (o->address == address)
            return o;
    }
    limit("too many objects");
}

/* From here on another tree: its states are not those of the last one. */
void reduce_begin(void)
{
    if (!objects) {
        objects = big(OBJECTS * sizeof *objects);
        states = big(STATES * sizeof *states);
    }
    salt = mix(salt, 1);
}

void reduce_begin_run(void)
{
    clock_digest = 0;
    x.pruned = false;
}

static void meet(uint64_t *digest, const void *address, bool changes, uint64_t what)
{
    object *o = find(address);

    *digest = mix(mix(*digest, (uintptr_t)address + what), o->changed);
    if (changes) {
        *digest = mix(*digest, o->looked_at);
        o->changed = *digest;
        o->looked_at = 0;
    } else {
        o->looked_at += mix(*digest, 2);
    }
}

void step_on(const void *address, bool changes, uint64_t what)
{
    if (x.reducing)
        meet(&self()->digest, address, changes, what);
}

/* A step of the clock, or of somebody outside. */
void step_of_clock(const void *address)
{
    if (x.reducing)
        meet(&clock_digest, address, true, x.now);
}

/* A choice of the search, or something else that only this thread knows. */
void step_alone(uint64_t what)
{
    if (x.reducing)
        self()->digest = mix(self()->digest, what);
}

/* `t` is woken, interrupted or begun: by the current thread, or by the clock. */
void step_reaches(thread *t, bool by_clock)
{
    if (x.reducing)
        t->digest = mix(mix(t->digest, 3), by_clock ? clock_digest : self()->digest);
}

/* A step that meets all others: a fork. */
void step_on_all(void)
{
    if (x.reducing)
        for (int i = 0; i < x.thread_count; i++)
            self()->digest = mix(self()->digest, x.threads[i].digest);
}

/* `current`: who goes on without a preemption, or -1. True: been here, with as much left. */
bool state_seen(int current, int preemptions, int stale_reads, int faults)
{
    uint64_t hash = mix(salt, (uint64_t)current + 1), *set;

    hash = mix(hash, (uint64_t)stale_reads << 32 | (uint64_t)faults);
    hash = mix(mix(hash, (uint64_t)x.coming << 32 | x.idle_yields), clock_digest);
    hash = mix(hash, x.polite_yields);
    for (int i = 0; i < x.thread_count; i++)
        hash = mix(mix(hash, x.threads[i].digest),
                   (uint64_t)x.threads[i].polite_to << 8 | (uint64_t)x.threads[i].state);
    set = &states[(hash >> 8) % (STATES / WAYS) * WAYS];
    hash |= 0xff;
    for (int i = 0; i < WAYS; i++)
        if ((set[i] | 0xff) == hash) {
            if ((int)(set[i] & 0xff) <= preemptions)
                return true;
            set[i] = (hash & ~UINT64_C(0xff)) | (uint64_t)preemptions;
            return false;
        }
    memmove(set + 1, set, (WAYS - 1) * sizeof *set);
    set[0] = (hash & ~UINT64_C(0xff)) | (uint64_t)preemptions;
    return false;
}
