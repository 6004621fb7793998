/* race.c: data races, by vector clocks over every plain and atomic access. Two accesses of which at
   least one writes and at least one is plain race unless one happens before the other. */
#include "explorer.h"

#include <stdio.h>

enum {
    WORDS = 1 << 16, /* of 8 bytes, touched in one run and found by their hash */
    PLACES = 2 * WORDS,
    RECORDS = 12,     /* of earlier accesses to one word; beyond, one of them is forgotten */
    CROWDED = 1 << 14 /* words with more than four */
};

extern char *locals_address;
extern size_t locals_size;

/* What an access is, in 32 bits: the bytes, then the kind, then the thread. 0: none. */
enum {
    BYTES = 0xff,
    A_WRITE = 1 << 8,
    ATOMIC = 1 << 9,
    ACCESS = 1 << 10,
    A_FREE = 1 << 11,
    BY = 24
};

/* Earlier accesses, four side by side, so that all are compared at once; in no order. */
typedef uint32_t lanes __attribute__((vector_size(16)));
typedef uint64_t halves __attribute__((vector_size(16)));
typedef struct group {
    lanes what;
    uint32_t time[4]; /* of that thread's own clock */
    uint32_t pc[4];   /* half of it: the program is linked below 4 GiB */
} group;

/* What is known of a word: a line of the cache, and a second one where it is crowded. */
typedef struct shadow {
    _Alignas(64) group here;
    uint32_t era;
    uint16_t more;   /* 0: none; else where the second one is */
    uint8_t atomics; /* bytes at which atomic objects begin */
} shadow;

/* Memory that is found at once. */
typedef struct window {
    uintptr_t first, count; /* words */
    shadow *shadows;
} window;

/* Other words are found by a small table of places, and stand one behind the other in the order of
   their first use. */
typedef struct place {
    uintptr_t word; /* address / 8 */
    uint32_t era, at;
} place;

static window memory, variables;
static place *places;
static shadow *shadows;
static group (*behind)[2];
static uint32_t shadow_count, crowded_count, shadow_era;

typedef int32_t times __attribute__((vector_size(16), aligned(4), may_alias));

void vclock_join(vclock *into, const vclock *from)
{
    for (int i = 0; i < x.thread_count; i += 4) {
        const times there = *(const times *)&from->at[i];
        times *here = (times *)&into->at[i];
        times later = there > *here;
        *here = (there & later) | (*here & ~later);
    }
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

/* ---- words ---- */

static void watch(window *w, const char *begin, size_t size)
{
    w->first = (uintptr_t)begin >> 3;
    w->count = ((uintptr_t)begin + size + 7) / 8 - w->first;
    w->shadows = big(w->count * sizeof *w->shadows);
}

void watch_memory(const char *begin, size_t size)
{
    watch(&memory, begin, size);
}

void watch_data(const char *begin, size_t size)
{
    watch(&variables, begin, size);
}

static void begin_era(void)
{
    if (shadow_era != x.era)
        shadow_count = crowded_count = 0;
    shadow_era = x.era;
}

static shadow *new_shadow(place *p, uintptr_t word)
{
    if (shadow_count == WORDS)
        limit("the program touches too much memory of its own making: 512 KiB are watched");
    p->era = x.era;
    p->word = word;
    p->at = shadow_count++;
    return &shadows[p->at];
}

/* A word that is neither of the heap, nor of a stack, nor of a variable. */
static shadow *far_shadow(uintptr_t word, bool create)
{
    uint32_t at = (uint32_t)(word + (word >> 13) * 0x9e3779b1u) & (PLACES - 1);

    if (!places) {
        places = big(PLACES * sizeof *places);
        shadows = big(WORDS * sizeof *shadows);
    }
    begin_era();
    for (;; at = (at + 1) & (PLACES - 1)) { /* ends: half of the places are free */
        place *p = &places[at];
        if (p->era != x.era)
            return create ? new_shadow(p, word) : NULL;
        if (p->word == word)
            return &shadows[p->at];
    }
}

static inline shadow *near_shadow(uintptr_t word)
{
    uintptr_t at = word - memory.first;

    if (at < memory.count)
        return &memory.shadows[at];
    at = word - variables.first;
    return at < variables.count ? &variables.shadows[at] : NULL;
}

static shadow *begin_shadow(shadow *s)
{
    s->here.what = (lanes){0};
    s->more = s->atomics = 0;
    s->era = x.era;
    return s;
}

static inline shadow *shadow_of(uintptr_t word)
{
    shadow *s = near_shadow(word);

    return __builtin_expect(s != NULL, 1) ? s : far_shadow(word, true);
}

void mark_atomic(uintptr_t address)
{
    shadow *s = shadow_of(address >> 3);

    if (s->era != x.era)
        begin_shadow(s);
    s->atomics |= (uint8_t)(1u << (address & 7));
}

/* ---- races ---- */

static const char *kind_of(uint32_t what)
{
    return what & A_FREE    ? "free"
           : what & ATOMIC  ? what & A_WRITE ? "atomic write" : "atomic read"
           : what & A_WRITE ? "write"
                            : "read";
}

static group *group_of(shadow *s, int i)
{
    return i < 4 ? &s->here : &behind[s->more][i / 4 - 1];
}

/* In a run for a report: the last plain accesses, so that it can show the one that another races
   with. */
enum { GLIMPSES = 1 << 14 };

static struct glimpse {
    uintptr_t address;
    size_t size;
    uint32_t pc, run, place, number;
    int thread;
    bool write;
} glimpses[GLIMPSES];
static uint32_t glimpse_count;

static void glimpse_at(uintptr_t address, size_t size, bool write, const void *pc)
{
    glimpses[glimpse_count++ % GLIMPSES] = (struct glimpse){
        address, size, (uint32_t)(uintptr_t)pc, x.run, trace_place(), x.steps, x.current, write};
}

static void show_earlier(const void *common, uint32_t earlier, uint32_t pc)
{
    for (uint32_t i = glimpse_count; i-- > 0 && glimpse_count - i <= GLIMPSES;) {
        const struct glimpse *g = &glimpses[i % GLIMPSES];
        if (g->run == x.run && g->thread == (int)(earlier >> BY) && g->pc == pc &&
            g->write == ((earlier & A_WRITE) != 0) && (uintptr_t)common - g->address < g->size) {
            trace_earlier(g->place, g->number, g->thread, kind_of(earlier), common,
                          (const void *)(uintptr_t)pc);
            return;
        }
    }
}

static void report_race(shadow *s, int i, uintptr_t word, uint32_t what, const void *pc)
{
    const group *g = group_of(s, i);
    uint32_t earlier = g->what[i % 4];
    const void *common = (const void *)(word * 8 + (unsigned)__builtin_ctz(what & earlier & BYTES));
    char name[80], here[80], there[80];

    name_of(common, name, sizeof name);
    source_of(pc, here, sizeof here);
    source_of((const void *)(uintptr_t)g->pc[i % 4], there, sizeof there);
    if (!(earlier & ATOMIC)) /* atomic ones are there already */
        show_earlier(common, earlier, g->pc[i % 4]);
    if (!(what & ATOMIC)) /* the report's last line */
        trace(kind_of(what), common, 0, 0, NO_ORDER, false, pc);
    fail("data race on %s: T%d %s at %s, earlier T%d %s at %s", name, x.current, kind_of(what),
         here, (int)(earlier >> BY), kind_of(earlier), there);
}

#define BITS(test, shift) \
    ((lanes)(test) & (lanes){1u << (shift), 2u << (shift), 4u << (shift), 8u << (shift)})

/* A bit for each record `is` of which the test is true. */
#define EACH(s, test)                                     \
    __extension__({                                       \
        lanes is = (s)->here.what, bits_ = BITS(test, 0); \
        if ((s)->more) {                                  \
            is = behind[(s)->more][0].what;               \
            bits_ |= BITS(test, 4);                       \
            is = behind[(s)->more][1].what;               \
            bits_ |= BITS(test, 8);                       \
        }                                                 \
        const halves half_ = (halves)bits_;               \
        const uint64_t both_ = half_[0] | half_[1];       \
        (unsigned)(both_ | both_ >> 32);                  \
    })

/* Those that overlap, by other threads; one of the two writes, and one is plain: all but those that
   do not. */
static inline __attribute__((always_inline)) unsigned conflicts(shadow *s, uint32_t what)
{
    uint32_t bytes = what & BYTES, none;

    if (!(what & ATOMIC) && (what & A_WRITE))
        none = EACH(s, ((is & bytes) == 0) | (is >> BY == what >> BY));
    else if (!(what & ATOMIC))
        none = EACH(s, ((is & bytes) == 0) | ((is & A_WRITE) == 0) | (is >> BY == what >> BY));
    else if (what & A_WRITE)
        none = EACH(s, ((is & bytes) == 0) | ((is & ATOMIC) == ATOMIC) | (is >> BY == what >> BY));
    else
        none = EACH(s, ((is & bytes) == 0) | ((is & (A_WRITE | ATOMIC)) != A_WRITE) |
                           (is >> BY == what >> BY));
    return none ^ (s->more ? 0xfffu : 0xfu);
}

/* In a forked child: of what a thread did that is not there, only its stores are in the memory, and
   they do no harm to what is overwritten or freed. */
static bool is_harmless(uint32_t earlier, uint32_t by, uint32_t time, uint32_t what)
{
    return (x.left_behind >> by & 1) &&
           (!(earlier & A_WRITE) || (what & A_WRITE) || time <= x.copied.at[by]);
}

static inline bool is_before(shadow *s, int i, uint32_t what)
{
    const group *g = group_of(s, i);
    uint32_t earlier = g->what[i % 4], by = earlier >> BY, time = g->time[i % 4];

    return (int)by == x.current || time <= self()->now.at[by] ||
           (x.in_child && is_harmless(earlier, by, time, what));
}

/* Full: what this access stands for goes; else any of them is forgotten. */
static int forget_one(shadow *s, uintptr_t word, uint32_t what)
{
    unsigned room;

    for (int i = 0; i < RECORDS; i++) {
        uint32_t is = group_of(s, i)->what[i % 4];
        bool less = (what & A_WRITE || !(is & A_WRITE)) && (!(what & ATOMIC) || (is & ATOMIC));
        if (less && (is & ~what & BYTES) == 0 && is_before(s, i, what))
            group_of(s, i)->what[i % 4] = 0;
    }
    room = EACH(s, is == 0);
    return room ? __builtin_ctz(room) : (int)((word + x.steps) % RECORDS);
}

static __attribute__((noinline)) int make_room(shadow *s, uintptr_t word, uint32_t what)
{
    if (s->more)
        return forget_one(s, word, what);
    if (!behind)
        behind = big(CROWDED * sizeof *behind);
    begin_era();
    if (++crowded_count == CROWDED)
        limit("too many words that many threads share");
    s->more = (uint16_t)crowded_count;
    behind[s->more][0].what = behind[s->more][1].what = (lanes){0};
    return 4;
}

/* What a plain write stands for from now on goes: whatever races with it races with this one. What
   the thread itself does with these very bytes it will do again. */
static inline lanes uncovered(lanes is, uint32_t what)
{
    uint32_t bytes = what & BYTES;

    return is & (lanes)(((is & BYTES & ~bytes) != 0) |
                        ((is >> BY == what >> BY) & ((is & BYTES) == bytes)));
}

static void cover(shadow *s, uint32_t what)
{
    s->here.what = uncovered(s->here.what, what);
    for (int i = 0; s->more && i < 2; i++)
        behind[s->more][i].what = uncovered(behind[s->more][i].what, what);
}

static inline void note(shadow *s, int at, const void *pc)
{
    group *g = group_of(s, at);

    g->time[at % 4] = self()->now.at[x.current];
    g->pc[at % 4] = (uint32_t)(uintptr_t)pc;
}

/* The first one in this run. */
static __attribute__((noinline)) void touch_first(shadow *s, uintptr_t word, uint32_t what,
                                                  const void *pc)
{
    heap_check_word(word, what & BYTES, pc);
    begin_shadow(s)->here.what[0] = what;
    note(s, 0, pc);
}

/* It was not made before, or somebody was there, or it overwrites an atomic object. */
static __attribute__((noinline)) void look_closely(shadow *s, uintptr_t word, uint32_t what,
                                                   unsigned same, unsigned others, const void *pc)
{
    bool write = (what & (A_WRITE | ATOMIC)) == A_WRITE;
    int at;

    for (; others; others &= others - 1)
        if (!is_before(s, __builtin_ctz(others), what))
            report_race(s, __builtin_ctz(others), word, what, pc);
    if (write)
        cover(s, what);
    if (!same) {
        heap_check_word(word, what & BYTES, pc);
        same = EACH(s, is == 0);
        at = same ? __builtin_ctz(same) : make_room(s, word, what);
        group_of(s, at)->what[at % 4] = what;
    } else {
        at = __builtin_ctz(same);
    }
    note(s, at, pc);
    if (write && (s->atomics & what))
        forget_stores(word * 8, s->atomics & what);
}

static inline uint32_t access_of(unsigned bytes, bool write, bool atomic)
{
    return bytes | (write ? A_WRITE : 0u) | (atomic ? ATOMIC : 0u) | ACCESS |
           (uint32_t)x.current << BY;
}

/* `write` and `atomic` are constants where this is called. Mostly the thread has done the same
   before, and there is nothing to do but to note when. */
static inline __attribute__((always_inline)) void
touch_word(uintptr_t address, unsigned bytes, bool write, bool atomic, const void *pc)
{
    shadow *s = shadow_of(address >> 3);
    uint32_t what = access_of(bytes, write, atomic);
    unsigned same, others;

    if (s->era != x.era) {
        touch_first(s, address >> 3, what, pc);
        return;
    }
    same = EACH(s, is == what);
    others = conflicts(s, what);
    if (same && !others && !(write && !atomic && (s->atomics & bytes)))
        note(s, __builtin_ctz(same), pc);
    else
        look_closely(s, address >> 3, what, same, others, pc);
}

/* A block is freed: that races with any use before. The heap is asked about a use after it, as the
   use is in no record any more. */
void touch_last(uintptr_t address, size_t size, const void *pc)
{
    uint32_t what = access_of(BYTES, true, false);

    for (uintptr_t word = address >> 3; !x.alone && word <= (address + size - 1) >> 3; word++) {
        shadow *s = near_shadow(word);
        if (!s || s->era != x.era)
            continue;
        for (unsigned rest = conflicts(s, what); rest; rest &= rest - 1)
            if (!is_before(s, __builtin_ctz(rest), what))
                report_race(s, __builtin_ctz(rest), word, what | A_FREE, pc);
        begin_shadow(s);
    }
}

/* What most accesses are: within a word, by a thread that is not alone. */
static inline bool is_simple(uintptr_t address, unsigned mask)
{
    return mask << (address & 7) <= BYTES && near_shadow(address >> 3) && x.active && !x.alone &&
           !x.callers;
}

static size_t width(unsigned mask)
{
    return 32 - (size_t)__builtin_clz(mask);
}

void touch_read(uintptr_t address, unsigned mask, const void *pc)
{
    if (is_simple(address, mask))
        touch_word(address, mask << (address & 7), false, false, pc);
    else
        touch(address, width(mask), false, pc);
}

void touch_write(uintptr_t address, unsigned mask, const void *pc)
{
    if (is_simple(address, mask))
        touch_word(address, mask << (address & 7), true, false, pc);
    else
        touch(address, width(mask), true, pc);
}

/* Atomic objects are aligned: within a word. */
void touch_atomic(uintptr_t address, size_t size, bool write, const void *pc)
{
    unsigned bytes = ((1u << size) - 1) << (address & 7) & BYTES;

    if (address - (uintptr_t)locals_address < locals_size)
        return;
    if (x.alone)
        heap_check(address, size, pc);
    else if (write)
        touch_word(address, bytes, true, true, pc);
    else
        touch_word(address, bytes, false, true, pc);
}

void touch(uintptr_t address, size_t size, bool write, const void *pc)
{
    if (!x.active || !size || address - (uintptr_t)locals_address < locals_size)
        return; /* the program's thread-local block has one address for all threads */
    if (x.callers)
        glimpse_at(address, size, write, pc);
    if (x.alone || size > 8)
        heap_check(address, size, pc);
    while (size && !x.alone) {
        unsigned offset = address & 7;
        unsigned count = 8 - offset < size ? 8 - offset : (unsigned)size;
        unsigned bytes = ((1u << count) - 1) << offset;

        if (write)
            touch_word(address, bytes, true, false, pc);
        else
            touch_word(address, bytes, false, false, pc);
        address += count;
        size -= count;
    }
}
