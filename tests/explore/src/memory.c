/* memory.c: atomic objects. Each remembers its last stores, and a load, or a compare-and-swap that
   fails, may read any of them that C11's happens-before, coherence and the order of sequentially
   consistent operations do not hide.

   The modification order need not be the order of execution: a store may take its place behind
   one of another thread that was executed before it and is overtaken by nothing that orders the
   two. But a load never reads a store that has not been executed: load buffering, which C11 allows,
   is not reached. A store is hidden at the latest after three stale reads in a row, or after
   HISTORY newer stores. */
#include "explorer.h"

#include <errno.h>
#include <string.h>

enum { CELLS = 1 << 12, HISTORY = 6 };

typedef struct store {
    uint64_t value;
    uint64_t sc;      /* place in the order of sequentially consistent ones; 0: is none */
    uint64_t sc_read; /* where the first such load in that order read it; 0: none */
    uint32_t time;    /* of the storing thread's clock */
    int16_t thread;
    bool exchanged; /* by a read-modify-write: nothing comes between it and what that has read */
    vclock seen;    /* when each thread read or wrote it; 0: never */
    vclock sync;    /* what an acquiring load learns */
} store;

typedef struct cell {
    uintptr_t address;
    uint32_t era;
    int count, first, pid; /* pid: of the process whose memory this is */
    store ring[HISTORY];
} cell;

static cell *table;

typedef uint32_t lanes __attribute__((vector_size(16), aligned(4), may_alias));

static cell *find(uintptr_t address, bool create)
{
    uint32_t at = (uint32_t)(address * 0x9e3779b97f4a7c15u >> 52) & (CELLS - 1);

    if (!table)
        table = big(CELLS * sizeof *table);
    for (int tries = 0; tries < CELLS; tries++, at = (at + 1) & (CELLS - 1)) {
        cell *c = &table[at];
        if (c->era != x.era) {
            if (!create)
                return NULL;
            c->era = x.era;
            c->address = address;
            c->count = c->first = 0;
            c->pid = x.pid;
            mark_atomic(address);
            return c;
        }
        if (c->address == address)
            return c;
    }
    limit("too many atomic objects");
}

void forget_stores(uintptr_t address, unsigned bytes)
{
    for (; bytes; bytes &= bytes - 1) {
        cell *c = find(address + (unsigned)__builtin_ctz(bytes), false);
        if (c)
            c->count = 0;
    }
}

/* ---- raw memory ---- */

static uint64_t peek(const void *address, int size)
{
    switch (size) {
    case 1:
        return *(const volatile uint8_t *)address;
    case 2:
        return *(const volatile uint16_t *)address;
    case 4:
        return *(const volatile uint32_t *)address;
    default:
        return *(const volatile uint64_t *)address;
    }
}

static void poke(void *address, int size, uint64_t value)
{
    switch (size) {
    case 1:
        *(volatile uint8_t *)address = (uint8_t)value;
        break;
    case 2:
        *(volatile uint16_t *)address = (uint16_t)value;
        break;
    case 4:
        *(volatile uint32_t *)address = (uint32_t)value;
        break;
    default:
        *(volatile uint64_t *)address = value;
    }
}

static uint64_t cut(uint64_t value, int size)
{
    return size == 8 ? value : value & ((UINT64_C(1) << 8 * size) - 1);
}

/* ---- histories ---- */

static store *nth(cell *c, int i) /* 0: the oldest remembered */
{
    return &c->ring[(c->first + i) % HISTORY];
}

/* A new store, with so many others in front of it. Of the others none moves that is behind it, but
   the oldest may be forgotten. */
static store *insert(cell *c, int behind)
{
    int at;

    if (c->count == HISTORY)
        c->first = (c->first + 1) % HISTORY;
    else
        c->count++;
    for (at = c->count - 1; behind > 0; behind--, at--)
        *nth(c, at) = *nth(c, at - 1);
    return memset(nth(c, at), 0, sizeof(store));
}

static bool acquires(int order)
{
    return order == ACQUIRE || order == ACQ_REL || order == SEQ_CST || order == CONSUME;
}

static bool releases(int order)
{
    return order == RELEASE || order == ACQ_REL || order == SEQ_CST;
}

static void read_from(store *s, int order)
{
    thread *t = self();

    if (!s->seen.at[x.current])
        s->seen.at[x.current] = t->now.at[x.current];
    if (acquires(order))
        vclock_join(&t->now, &s->sync);
    vclock_join(&t->acquired, &s->sync);
    if (order == SEQ_CST && !s->sc_read)
        s->sc_read = x.sc_order + 1; /* before what comes next */
}

/* Has it been read or written by somebody of whom that is known? */
static bool was_met(const store *s, const vclock *known)
{
    lanes met = {0};

    for (int i = 0; i < x.thread_count; i += 4) {
        const lanes seen = *(const lanes *)&s->seen.at[i], there = *(const lanes *)&known->at[i];
        met |= (lanes)(seen - 1 < there); /* 0 - 1: never */
    }
    return (met[0] | met[1] | met[2] | met[3]) != 0;
}

/* Must whoever reads now see this store, or a newer one? */
static bool hides_older(const store *s, int order)
{
    const thread *t = self();
    uint32_t clock = t->now.at[s->thread], view = t->sc_view.at[s->thread];

    if (s->time <= clock || s->time <= view) /* happens before; before a fence before ours */
        return true;
    if (s->sc && s->sc <= t->sc_fence) /* a seq_cst store before our fence */
        return true;
    if (order == SEQ_CST && (s->sc || s->time <= x.sc_view.at[s->thread]))
        return true;
    return was_met(s, &t->now);
}

/* Mostly nothing is open: what was stored last happens before. */
static inline bool is_open(cell *c)
{
    const store *s = nth(c, c->count - 1);

    return s->time > self()->now.at[s->thread] && x.weak_memory;
}

/* The oldest store that a load may read. */
static int oldest_readable(cell *c, int order)
{
    int oldest = c->count - 1;

    while (oldest > 0 && !hides_older(nth(c, oldest), order))
        oldest--;
    return oldest;
}

/* One of `n`, of which the first is the dull one. */
static int choose_old(const void *address, int n)
{
    thread *t = self();
    int taken = 0;

    if (n == 1)
        return 0;
    if (t->stale_at == address && t->stale_in_row >= 3)
        t->stale_in_row = 0; /* stores become visible in finite time */
    else
        taken = choose_stale(n);
    if (taken) {
        t->stale_in_row = t->stale_at == address ? t->stale_in_row + 1 : 1;
        t->stale_at = address;
    }
    return taken;
}

/* ---- the memory of a forked child ----

   It is a copy, and has each store that happens before the fork. Those of other threads that do not
   may have been on their way; but if one is in the copy, so is all that it has released. Which it
   was turns out when the child looks there first. x.copied: what is known to be in the copy;
   x.missing: for each thread, the time of the first store that is not, or 0. */

static bool must_be_copied(const store *s)
{
    return s->time <= x.copied.at[s->thread] || (s->sc && s->sc <= x.copied_fence) ||
           was_met(s, &x.copied);
}

static bool may_be_copied(const store *s)
{
    for (int i = 0; i < x.thread_count; i++)
        if (x.missing.at[i] && s->sync.at[i] >= x.missing.at[i])
            return false;
    return true;
}

static void settle(cell *c, const void *address, int size)
{
    int candidates[HISTORY], n = 0, last;
    store *s;

    c->pid = x.pid;
    step_on(&x.copied, true, 11);
    for (int i = c->count - 1; i >= 0; i--) {
        bool must = i == 0 || !x.weak_memory || must_be_copied(nth(c, i));
        if (must || may_be_copied(nth(c, i)))
            candidates[n++] = i;
        if (must)
            break;
    }
    last = candidates[choose_old(address, n)];
    for (int i = last + 1; i < c->count; i++) {
        s = nth(c, i);
        if (!x.missing.at[s->thread] || s->time < x.missing.at[s->thread])
            x.missing.at[s->thread] = s->time;
    }
    s = nth(c, last);
    vclock_join(&x.copied, &s->sync);
    c->first = (c->first + last) % HISTORY;
    c->count = 1;
    if (peek(address, size) != s->value) /* a constant may stand in memory that nobody can write */
        poke((void *)(uintptr_t)address, size, s->value);
}

void forget_copied(const char *begin, size_t size)
{
    for (int i = 0; table && i < CELLS; i++)
        if (table[i].era == x.era && table[i].address - (uintptr_t)begin < size)
            table[i].count = 0;
}

/* What was there before the first atomic operation counts as stored before the program began: a
   plain initialisation that does not happen before is a data race, and reported as one. With
   --plain nobody tells of it (atomic_init, memset): what stands there now is not what was stored
   last. */
static cell *cell_of(const void *address, int size)
{
    cell *c = find((uintptr_t)address, true);

    if (!c->count || nth(c, c->count - 1)->value != peek(address, size)) {
        c->count = c->first = 0;
        c->pid = x.pid;
        insert(c, 0)->value = peek(address, size);
    } else if (c->pid != x.pid) {
        settle(c, address, size);
    }
    return c;
}

/* How many stores back a load reads. */
static int choose_read(cell *c, const void *address, int order)
{
    return choose_old(address, c->count - oldest_readable(c, order));
}

/* Must what is stored now come after this store, in the modification order? What a load must see it
   must come after. Besides, C++20 forbids that who was to come after has read something newer and
   passed a fence before ours (C11 forgot to); so do all processors. */
static bool comes_before(const store *s, int order)
{
    const thread *t = self();

    if (hides_older(s, order))
        return true;
    if (s->sc_read && (order == SEQ_CST || s->sc_read <= t->sc_fence))
        return true;
    return was_met(s, &t->sc_view) || (order == SEQ_CST && was_met(s, &x.sc_view));
}

/* How many stores a new one may leave in front of it: a number for each place, 0 first. */
static int possible_places(cell *c, int order, int places[HISTORY])
{
    int n = 1, last = c->count - 1, oldest = c->count == HISTORY;

    places[0] = 0;
    for (int i = last; i > oldest && !comes_before(nth(c, i), order); i--)
        if (!nth(c, i)->exchanged)
            places[n++] = last - i + 1;
    return n;
}

static int choose_place(cell *c, const void *address, int order)
{
    int places[HISTORY];

    return places[choose_old(address, possible_places(c, order, places))];
}

/* What a compare-and-swap meets that wants `wanted`: it succeeds where it may take its place behind
   this value, and fails by any other value that a load may read. */
static int choose_compared(cell *c, const void *address, uint64_t wanted, int order,
                           int failure_order)
{
    int newest = c->count - 1, oldest = oldest_readable(c, failure_order);
    int places[HISTORY], candidates[2 * HISTORY], n = 1;

    candidates[0] = 0;
    for (int i = possible_places(c, order, places) - 1; i > 0; i--)
        if (nth(c, newest - places[i])->value == wanted)
            candidates[n++] = places[i];
    for (int i = newest - 1; i >= oldest; i--)
        if (nth(c, i)->value != wanted)
            candidates[n++] = newest - i;
    return candidates[choose_old(address, n)];
}

/* `chain`: what the store read by the same read-modify-write passes on (release sequences as of
   C++20: only read-modify-writes continue them). */
static void publish(cell *c, int behind, uint64_t value, int order, const vclock *chain)
{
    thread *t = self();
    store *s = insert(c, behind);

    s->value = value;
    s->exchanged = chain != NULL;
    s->thread = (int16_t)x.current;
    s->time = s->seen.at[x.current] = t->now.at[x.current];
    s->sync = releases(order) ? t->now : t->released;
    if (chain)
        vclock_join(&s->sync, chain);
    if (order == SEQ_CST)
        s->sc = ++x.sc_order;
    if (releases(order)) /* else nobody learns how far this thread is */
        t->now.at[x.current]++;
    progress();
}

uint64_t newest_value(const void *address, int size)
{
    cell *c;
    store *s;

    if (x.alone)
        return peek(address, size);
    c = cell_of(address, size);
    s = nth(c, c->count - 1);
    if (!s->seen.at[x.current])
        s->seen.at[x.current] = self()->now.at[x.current];
    return peek(address, size);
}

/* ---- operations ---- */

/* Sequentially consistent operations meet each other only where there is a fence. */
static void step_on_atomic(const void *address, int order, bool changes)
{
    step_on(address, changes, 6);
    if (order == SEQ_CST)
        step_on(&x.sc_order, false, 7);
}

static uint64_t load(const void *address, int size, int order, const void *pc)
{
    cell *c;
    store *s;
    int back;

    if (!x.active)
        return peek(address, size);
    point();
    touch_atomic((uintptr_t)address, (size_t)size, false, pc);
    if (x.alone) {
        trace("load", address, 0, peek(address, size), order, false, pc);
        return peek(address, size);
    }
    step_on_atomic(address, order, false);
    c = cell_of(address, size);
    back = is_open(c) ? choose_read(c, address, order) : 0;
    s = nth(c, c->count - 1 - back);
    read_from(s, order);
    trace("load", address, 0, s->value, order, back > 0, pc);
    return s->value;
}

static void save(void *address, int size, uint64_t value, int order, const void *pc)
{
    cell *c = NULL;
    int behind = 0;

    if (!x.active) {
        poke(address, size, value);
        return;
    }
    point();
    touch_atomic((uintptr_t)address, (size_t)size, true, pc);
    if (!x.alone) {
        c = cell_of(address, size);
        step_on_atomic(address, order, true);
        behind = is_open(c) ? choose_place(c, address, order) : 0;
    }
    trace("store", address, peek(address, size), cut(value, size), order, behind > 0, pc);
    if (c)
        publish(c, behind, cut(value, size), order, NULL);
    else
        progress();
    if (!behind)
        poke(address, size, value);
}

typedef enum { EXCHANGE, ADD, SUB, AND, OR, XOR, NAND } rmw;

static uint64_t change(rmw operation, uint64_t old, uint64_t value)
{
    switch (operation) {
    case EXCHANGE:
        return value;
    case ADD:
        return old + value;
    case SUB:
        return old - value;
    case AND:
        return old & value;
    case OR:
        return old | value;
    case XOR:
        return old ^ value;
    default:
        return ~(old & value);
    }
}

/* A store is read, mostly the newest, and another one takes its place behind it. */
static void exchange(const void *address, cell *c, int behind, uint64_t new, int order)
{
    store *s = nth(c, c->count - 1 - behind);

    step_on_atomic(address, order, true);
    read_from(s, order);
    publish(c, behind, new, order, &s->sync); /* it is not the one that is forgotten */
}

static uint64_t modify(void *address, int size, rmw operation, uint64_t value, int order,
                       const void *pc)
{
    static const char *const names[] = {"exchange", "add", "sub", "and", "or", "xor", "nand"};
    uint64_t old, new;
    int behind = 0;
    cell *c = NULL;

    point();
    old = peek(address, size);
    if (x.active && !x.alone) {
        c = cell_of(address, size);
        if (is_open(c) && (behind = choose_place(c, address, order)) > 0)
            old = nth(c, c->count - 1 - behind)->value;
    }
    new = cut(change(operation, old, value), size);
    if (x.active) {
        touch_atomic((uintptr_t)address, (size_t)size, true, pc);
        trace(names[operation], address, old, new, order, behind > 0, pc);
        if (c)
            exchange(address, c, behind, new, order);
        else
            progress();
    }
    if (!behind)
        poke(address, size, new);
    return old;
}

static bool compare_exchange(void *address, int size, void *expected, uint64_t value, bool weak,
                             int order, int failure_order, const void *pc)
{
    uint64_t old, wanted = peek(expected, size);
    cell *c = NULL;
    int behind = 0;
    bool equal;

    point();
    old = peek(address, size);
    if (x.active && !x.alone) {
        c = cell_of(address, size);
        if (is_open(c) && (behind = choose_compared(c, address, wanted, order, failure_order)) > 0)
            old = nth(c, c->count - 1 - behind)->value;
    }
    equal = old == wanted;
    if (x.active) {
        if (equal && !behind && weak && fault(8))
            equal = false;
        touch_atomic((uintptr_t)address, (size_t)size, equal, pc);
        if (equal)
            trace("cas", address, old, cut(value, size), order, behind > 0, pc);
        else
            trace(old == wanted ? "cas-spurious" : "cas-fails", address, wanted, old, failure_order,
                  behind > 0, pc);
        if (!c && equal) {
            progress();
        } else if (equal) {
            exchange(address, c, behind, cut(value, size), order);
        } else if (c) {
            step_on_atomic(address, failure_order, false);
            read_from(nth(c, c->count - 1 - behind), failure_order);
        }
    }
    if (!equal)
        poke(expected, size, old);
    else if (!behind)
        poke(address, size, value);
    return equal;
}

/* A sequentially consistent fence orders loads against earlier such fences, by a clock of its own:
   it makes no happens-before edge, so it does not hide a race. */
static void fence(int order, const void *pc)
{
    thread *t = self();

    if (!x.active || order == RELAXED)
        return;
    point();
    trace("fence", NULL, 0, 0, order, false, pc);
    if (x.alone)
        return;
    step_alone((uint64_t)order);
    if (order == SEQ_CST)
        step_on(&x.sc_order, true, 8);
    if (acquires(order))
        vclock_join(&t->now, &t->acquired);
    if (order == SEQ_CST) {
        vclock_join(&t->sc_view, &t->now);
        vclock_join(&t->sc_view, &x.sc_view);
        x.sc_view = t->sc_view;
        t->sc_fence = ++x.sc_order;
    }
    if (releases(order)) {
        t->released = t->now;
        t->now.at[x.current]++;
    }
}

/* ---- fences that only one side pays for ----

   membarrier makes every other thread pass a full fence at some moment between its begin and its
   end. Where that falls in the other thread is known to the processor, but the compiler may have
   moved accesses across that place, unless a signal fence keeps them apart. So it counts for less
   here: what the other thread did before its last signal fence is seen by the caller, and what the
   caller did is seen by the other one from its next signal fence on. */

static const char heavy_object; /* where light and heavy ones meet: for the reduction */

static void light_fence(int order, const void *pc)
{
    thread *t = self();

    if (!x.active || order != SEQ_CST)
        return;
    point();
    trace("signal fence", NULL, 0, 0, order, false, pc);
    if (x.alone)
        return;
    step_on(&heavy_object, false, 9);
    vclock_join(&t->sc_view, &t->heavy_view);
    if (t->sc_fence < t->heavy_fence)
        t->sc_fence = t->heavy_fence;
    t->light_view = t->now;
    vclock_join(&t->light_view, &t->sc_view);
    t->now.at[x.current]++;
}

/* The others pass their fences one after the other, and whoever can run may do so in between. */
static void heavy_fence(const void *pc)
{
    fence(SEQ_CST, pc);
    for (int i = 0; i < x.thread_count && !x.alone; i++) {
        thread *t = self(), *other = &x.threads[i];
        if (other == t)
            continue;
        point();
        if (x.alone)
            return;
        step_on(&heavy_object, true, 10);
        vclock_join(&t->sc_view, other->state == ENDED ? &other->now : &other->light_view);
        vclock_join(&other->heavy_view, &t->now);
        vclock_join(&other->heavy_view, &t->sc_view);
        other->heavy_fence = ++x.sc_order;
    }
    fence(SEQ_CST, pc);
}

/* The system call: queries, registers, and does it. */
long membarrier(int command, const void *pc)
{
    enum { QUERY = 0, PRIVATE = 8, REGISTER = 16 };

    if (x.no_membarrier || (command != QUERY && command != PRIVATE && command != REGISTER)) {
        self()->error = x.no_membarrier ? ENOSYS : EINVAL;
        return -1;
    }
    if (command == QUERY)
        return PRIVATE | REGISTER;
    if (command == REGISTER) {
        x.registered = true; /* a child of fork is, too */
    } else if (!x.registered) {
        self()->error = EPERM;
        return -1;
    } else {
        heavy_fence(pc);
    }
    return 0;
}

/* ---- what the compilers call ---- */

EXPORT void __tsan_atomic_thread_fence(int order)
{
    fence(order, PC);
}

EXPORT void __tsan_atomic_signal_fence(int order)
{
    light_fence(order, PC);
}

#define MODIFY(bits, type, name, operation)                                           \
    EXPORT type __tsan_atomic##bits##_##name(volatile type *p, type v, int order)     \
    {                                                                                 \
        return (type)modify((void *)(uintptr_t)p, bits / 8, operation, v, order, PC); \
    }

#define ATOMICS(bits, type)                                                                        \
    EXPORT type __tsan_atomic##bits##_load(const volatile type *p, int order)                      \
    {                                                                                              \
        return (type)load((const void *)(uintptr_t)p, bits / 8, order, PC);                        \
    }                                                                                              \
    EXPORT void __tsan_atomic##bits##_store(volatile type *p, type v, int order)                   \
    {                                                                                              \
        save((void *)(uintptr_t)p, bits / 8, v, order, PC);                                        \
    }                                                                                              \
    MODIFY(bits, type, exchange, EXCHANGE)                                                         \
    MODIFY(bits, type, fetch_add, ADD)                                                             \
    MODIFY(bits, type, fetch_sub, SUB)                                                             \
    MODIFY(bits, type, fetch_and, AND)                                                             \
    MODIFY(bits, type, fetch_or, OR)                                                               \
    MODIFY(bits, type, fetch_xor, XOR)                                                             \
    MODIFY(bits, type, fetch_nand, NAND)                                                           \
    EXPORT int __tsan_atomic##bits##_compare_exchange_strong(volatile type *p, type *e, type v,    \
                                                             int order, int failure_order)         \
    {                                                                                              \
        return compare_exchange((void *)(uintptr_t)p, bits / 8, e, v, false, order, failure_order, \
                                PC);                                                               \
    }                                                                                              \
    EXPORT int __tsan_atomic##bits##_compare_exchange_weak(volatile type *p, type *e, type v,      \
                                                           int order, int failure_order)           \
    {                                                                                              \
        return compare_exchange((void *)(uintptr_t)p, bits / 8, e, v, true, order, failure_order,  \
                                PC);                                                               \
    }                                                                                              \
    EXPORT type __tsan_atomic##bits##_compare_exchange_val(volatile type *p, type e, type v,       \
                                                           int order, int failure_order)           \
    {                                                                                              \
        compare_exchange((void *)(uintptr_t)p, bits / 8, &e, v, false, order, failure_order, PC);  \
        return e;                                                                                  \
    }

ATOMICS(8, uint8_t)
ATOMICS(16, uint16_t)
ATOMICS(32, uint32_t)
ATOMICS(64, uint64_t)

/* ---- what plain/stdatomic.h calls ---- */

EXPORT uint64_t explore_plain_load(const void *object, int size, int order)
{
    return load(object, size, order, PC);
}

EXPORT void explore_plain_store(void *object, int size, uint64_t value, int order)
{
    save(object, size, value, order, PC);
}

EXPORT uint64_t explore_plain_modify(void *object, int size, int operation, uint64_t value,
                                     int order)
{
    return modify(object, size, (rmw)operation, value, order, PC);
}

EXPORT int explore_plain_exchange(void *object, int size, void *expected, uint64_t value, int weak,
                                  int order, int failure_order)
{
    return compare_exchange(object, size, expected, value, weak != 0, order, failure_order, PC);
}

EXPORT void explore_plain_signal_fence(int order)
{
    light_fence(order, PC);
}

EXPORT void explore_plain_fence(int order)
{
    fence(order, PC);
}
