/* race.c: data races, by vector clocks over every plain and atomic access. Two accesses of which at
   least one writes and at least one is plain race unless one happens before the other. */
#include "explorer.h"

#include <stdio.h>

enum {
    WORDS = 1 << 16, /* of 8 bytes, touched in one run */
    RECORDS = 12     /* of earlier accesses to one word; the oldest are forgotten */
};

typedef struct record {
    const void *pc;
    uint32_t time; /* of the thread's own clock */
    uint8_t thread, bytes, write, atomic;
} record;

typedef struct shadow {
    uintptr_t word; /* address / 8 */
    uint32_t run;
    uint8_t count, has_atomic;
    record records[RECORDS];
} shadow;

static shadow *table;
extern char *locals_address;
extern size_t locals_size;

void vclock_join(vclock *into, const vclock *from)
{
    for (int i = 0; i < x.thread_count; i++)
        if (from->at[i] > into->at[i])
            into->at[i] = from->at[i];
}

/* First publish, then advance: what the thread does from now on is not covered. */
void release_to(vclock *clock)
{
    thread *t = self();

    vclock_join(clock, &t->now);
    t->now.at[x.current]++;
}

static shadow *shadow_of(uintptr_t word)
{
    uint32_t at = (uint32_t)(word * 0x9e3779b97f4a7c15u >> 48) & (WORDS - 1);

    if (!table)
        table = big(WORDS * sizeof *table);
    for (int tries = 0; tries < WORDS; tries++, at = (at + 1) & (WORDS - 1)) {
        shadow *s = &table[at];
        if (s->run != x.run) {
            s->run = x.run;
            s->word = word;
            s->count = s->has_atomic = 0;
            return s;
        }
        if (s->word == word)
            return s;
    }
    limit("the program touches too much memory: 512 KiB are watched");
}

void mark_atomic(uintptr_t address)
{
    shadow_of(address >> 3)->has_atomic = 1;
}

static const char *kind_of(bool write, bool atomic)
{
    return atomic ? write ? "atomic write" : "atomic read" : write ? "write" : "read";
}

static void report_race(const record *earlier, uintptr_t word, uint8_t bytes, bool write,
                        bool atomic, const void *pc)
{
    char name[80], here[80], there[80];
    unsigned first = 0;

    while (!(bytes & earlier->bytes & 1u << first))
        first++;
    name_of((const void *)(word * 8 + first), name, sizeof name);
    source_of(pc, here, sizeof here);
    source_of(earlier->pc, there, sizeof there);
    fail("data race on %s: T%d %s at %s, earlier T%d %s at %s", name, x.current,
         kind_of(write, atomic), here, earlier->thread, kind_of(earlier->write, earlier->atomic),
         there);
}

static void access_word(uintptr_t word, uint8_t bytes, bool write, bool atomic, const void *pc)
{
    shadow *s = shadow_of(word);
    thread *t = self();
    record *same = NULL, *victim = NULL, *r;

    for (int i = 0; i < s->count; i++) {
        r = &s->records[i];
        if (r->thread == x.current) {
            if (r->write == write && r->atomic == atomic && r->bytes == bytes)
                same = r;
            else if ((r->bytes & ~bytes) == 0 && (write || !r->write) && (!atomic || r->atomic))
                victim = r; /* whatever races with it races with this one */
        } else if (r->time <= t->now.at[r->thread]) {
            if ((r->bytes & ~bytes) == 0 && (write || !r->write) && (!atomic || r->atomic))
                victim = r;
        } else if ((r->bytes & bytes) && (write || r->write) && !(atomic && r->atomic)) {
            report_race(r, word, bytes, write, atomic, pc);
        }
    }
    if (same)
        r = same;
    else if (victim)
        r = victim;
    else if (s->count < RECORDS)
        r = &s->records[s->count++];
    else
        r = &s->records[(word + x.steps) % RECORDS];
    *r = (record){pc, t->now.at[x.current], (uint8_t)x.current, bytes, write, atomic};
}

void touch(uintptr_t address, size_t size, bool write, bool atomic, const void *pc)
{
    if (!x.active || !size || address - (uintptr_t)locals_address < locals_size)
        return; /* the program's thread-local block has one address for all threads */
    heap_check(address, size, pc);
    while (size) {
        unsigned offset = address & 7;
        unsigned count = 8 - offset < size ? 8 - offset : (unsigned)size;
        uint8_t bytes = (uint8_t)(((1u << count) - 1) << offset);

        access_word(address >> 3, bytes, write, atomic, pc);
        if (write && !atomic && shadow_of(address >> 3)->has_atomic)
            forget_stores(address, count);
        address += count;
        size -= count;
    }
}
