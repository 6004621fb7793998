/* race.c: data races, by vector clocks over every plain and atomic access. Two accesses of which at
   least one writes and at least one is plain race unless one happens before the other. */
#include "explorer.h"

#include <stdio.h>

enum {
    WORDS = 1 << 16, /* of 8 bytes, touched in one run */
    PLACES = 2 * WORDS,
    RECORDS = 12 /* of earlier accesses to one word; the oldest are forgotten */
};

extern char *locals_address;
extern size_t locals_size;

typedef struct record {
    const void *pc;
    uint32_t time; /* of the thread's own clock */
    uint8_t thread, bytes, write, atomic;
} record;

typedef struct shadow {
    _Alignas(64) uint8_t count; /* by lines of the cache: most words need the first alone */
    uint8_t last, has_atomic;   /* last: the place of the newest record */
    record records[RECORDS];
} shadow;

/* Words are found by a small table of places, and stand one behind the other in the order of their
   first use: what a run touches stays in the cache. */
typedef struct place {
    uintptr_t word; /* address / 8 */
    uint32_t era, at;
} place;

static place *places;
static shadow *shadows;
static uint32_t shadow_count, shadow_era;
glance glances[MAX_THREADS][GLANCES];

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

void stay_alone(void)
{
    if (x.alone)
        return;
    for (int i = 0; i < x.thread_count; i++)
        if (i != x.current &&
            (x.threads[i].state != ENDED || x.threads[i].now.at[i] > self()->now.at[i]))
            return;
    x.alone = true;
    x.era++;
}

static shadow *new_shadow(place *p, uintptr_t word)
{
    shadow *s;

    if (shadow_era != x.era) {
        shadow_era = x.era;
        shadow_count = 0;
    }
    if (shadow_count == WORDS)
        limit("the program touches too much memory: 512 KiB are watched");
    p->era = x.era;
    p->word = word;
    p->at = shadow_count++;
    s = &shadows[p->at];
    s->count = s->last = s->has_atomic = 0;
    return s;
}

static shadow *find_shadow(uintptr_t word, bool create)
{
    uint32_t at = (uint32_t)(word + (word >> 13) * 0x9e3779b1u) & (PLACES - 1);

    if (!places) {
        places = big(PLACES * sizeof *places);
        shadows = big(WORDS * sizeof *shadows);
    }
    for (;; at = (at + 1) & (PLACES - 1)) { /* ends: half of the places are free */
        place *p = &places[at];
        if (p->era != x.era)
            return create ? new_shadow(p, word) : NULL;
        if (p->word == word)
            return &shadows[p->at];
    }
}

void mark_atomic(uintptr_t address)
{
    find_shadow(address >> 3, true)->has_atomic = 1;
    self()->now.at[x.current]++; /* past the glances: a plain write to it matters from now on */
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

/* Records that this access stands for from now on go. */
static void compare_word(shadow *s, uintptr_t word, uint8_t bytes, bool write, bool atomic,
                         const void *pc)
{
    const thread *t = self();

    for (int i = 0; i < s->count;) {
        record *r = &s->records[i];
        bool before, covered;
        before = r->thread == x.current || r->time <= t->now.at[r->thread];
        covered = (r->bytes & ~bytes) == 0 && (write || !r->write) && (!atomic || r->atomic);
        if (!before && (r->bytes & bytes) && (write || r->write) && !(atomic && r->atomic))
            report_race(r, word, bytes, write, atomic, pc);
        if (before && covered) /* whatever races with it races with this one */
            *r = s->records[--s->count];
        else
            i++;
    }
}

static void access_word(shadow *s, uintptr_t word, uint8_t bytes, bool write, bool atomic,
                        const void *pc)
{
    const thread *t = self();
    const record *r = &s->records[s->last];

    /* the same again, and nobody was here in between */
    if (s->count && r->thread == x.current && r->time == t->now.at[x.current] &&
        r->bytes == bytes && r->write == write && r->atomic == atomic)
        return;
    compare_word(s, word, bytes, write, atomic, pc);
    s->last = (uint8_t)(s->count < RECORDS ? s->count++ : (word + x.steps) % RECORDS);
    s->records[s->last] =
        (record){pc, t->now.at[x.current], (uint8_t)x.current, bytes, write, atomic};
}

/* A block is freed: that races with any use before. A use after it is seen by the heap. */
void touch_last(uintptr_t address, size_t size, const void *pc)
{
    shadow *s;

    for (uintptr_t word = address >> 3; !x.alone && word <= (address + size - 1) >> 3; word++)
        if ((s = find_shadow(word, false)) != NULL)
            compare_word(s, word, 0xff, true, false, pc);
    self()->now.at[x.current]++; /* past its glances: later uses are looked at */
}

static void remember_glance(uintptr_t word, uint8_t bytes, bool write)
{
    glance *g = &glances[x.current][word & (GLANCES - 1)];
    uint64_t now = glance_time();

    if (g->word != word || g->when != now)
        *g = (glance){word, now, 0, 0};
    if (write)
        g->written |= bytes;
    else
        g->read |= bytes;
}

void touch(uintptr_t address, size_t size, bool write, bool atomic, const void *pc)
{
    if (!x.active || !size || address - (uintptr_t)locals_address < locals_size)
        return; /* the program's thread-local block has one address for all threads */
    heap_check(address, size, pc);
    if (x.alone)
        return;
    while (size) {
        unsigned offset = address & 7;
        unsigned count = 8 - offset < size ? 8 - offset : (unsigned)size;
        uint8_t bytes = (uint8_t)(((1u << count) - 1) << offset);

        shadow *s = find_shadow(address >> 3, true);
        access_word(s, address >> 3, bytes, write, atomic, pc);
        if (write && !atomic && s->has_atomic)
            forget_stores(address, count);
        else if (!atomic)
            remember_glance(address >> 3, bytes, write);
        address += count;
        size -= count;
    }
}
