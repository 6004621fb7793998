/* memory.c: atomic objects. Each remembers its last stores, and a load may read any of them that
   C11's happens-before, coherence and the order of sequentially consistent operations do not hide.

   The modification order is the order of execution, and a load never reads a store that has not
   been executed: load buffering and 2+2W, which C11 allows, are not reached. A store is hidden at
   the latest after three stale reads in a row, or after HISTORY newer stores. */
#include "explorer.h"

#include <errno.h>
#include <string.h>

enum { CELLS = 1 << 12, HISTORY = 6 };

typedef struct store {
    uint64_t value;
    uint64_t sc;                /* place in the order of sequentially consistent ones; 0: is none */
    uint32_t time;              /* of the storing thread's clock */
    uint32_t seen[MAX_THREADS]; /* when each thread read or wrote it; 0: never */
    int thread;
    vclock sync; /* what an acquiring load learns */
} store;

typedef struct cell {
    uintptr_t address;
    uint32_t era;
    int count, first;
    store ring[HISTORY];
} cell;

static cell *table;

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

static store *append(cell *c)
{
    store *s;

    if (c->count == HISTORY)
        c->first = (c->first + 1) % HISTORY;
    else
        c->count++;
    s = nth(c, c->count - 1);
    memset(s, 0, sizeof *s);
    return s;
}

/* What was there before the first atomic operation counts as stored before the program began: a
   plain initialisation that does not happen before is a data race, and reported as one. With --plain
   nobody tells of it (atomic_init, memset): what stands there now is not what was stored last. */
static cell *cell_of(const void *address, int size)
{
    cell *c = find((uintptr_t)address, true);

    if (!c->count || nth(c, c->count - 1)->value != peek(address, size)) {
        c->count = 0;
        c->first = 0;
        append(c)->value = peek(address, size);
    }
    return c;
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

    if (!s->seen[x.current])
        s->seen[x.current] = t->now.at[x.current];
    if (acquires(order))
        vclock_join(&t->now, &s->sync);
    vclock_join(&t->acquired, &s->sync);
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
    for (int i = 0; i < x.thread_count; i++) /* read by somebody we know to be before us */
        if (s->seen[i] && s->seen[i] <= t->now.at[i])
            return true;
    return false;
}

static store *choose_store(cell *c, const void *address, int order, bool *stale)
{
    thread *t = self();
    int newest = c->count - 1, oldest = newest, back = 0;

    *stale = false;
    if (!x.weak_memory)
        return nth(c, newest);
    while (oldest > 0 && !hides_older(nth(c, oldest), order))
        oldest--;
    if (oldest == newest)
        return nth(c, newest);
    if (t->stale_at == address && t->stale_in_row >= 3)
        t->stale_in_row = 0; /* stores become visible in finite time */
    else
        back = choose_stale(newest - oldest + 1);
    if (back) {
        t->stale_in_row = t->stale_at == address ? t->stale_in_row + 1 : 1;
        t->stale_at = address;
        *stale = true;
    }
    return nth(c, newest - back);
}

/* `chain`: what the store read by the same read-modify-write passes on (release sequences as of
   C++20: only read-modify-writes continue them). */
static void publish(cell *c, uint64_t value, int order, const vclock *chain)
{
    thread *t = self();
    store *s = append(c);

    s->value = value;
    s->thread = x.current;
    s->time = s->seen[x.current] = t->now.at[x.current];
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
    if (!s->seen[x.current])
        s->seen[x.current] = self()->now.at[x.current];
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
    store *s;
    bool stale;

    if (!x.active)
        return peek(address, size);
    point();
    touch_atomic((uintptr_t)address, (size_t)size, false, pc);
    if (x.alone) {
        trace("load", address, 0, peek(address, size), order, false, pc);
        return peek(address, size);
    }
    step_on_atomic(address, order, false);
    s = choose_store(cell_of(address, size), address, order, &stale);
    read_from(s, order);
    trace("load", address, 0, s->value, order, stale, pc);
    return s->value;
}

static void save(void *address, int size, uint64_t value, int order, const void *pc)
{
    cell *c;

    if (!x.active) {
        poke(address, size, value);
        return;
    }
    point();
    touch_atomic((uintptr_t)address, (size_t)size, true, pc);
    trace("store", address, peek(address, size), cut(value, size), order, false, pc);
    if (x.alone) {
        progress();
    } else {
        c = cell_of(address, size);
        step_on_atomic(address, order, true);
        publish(c, cut(value, size), order, NULL);
    }
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

/* The newest store is read, and another one takes its place. */
static void exchange(const void *address, int size, uint64_t new, int order)
{
    cell *c;
    store *s;

    if (x.alone) {
        progress();
        return;
    }
    c = cell_of(address, size);
    step_on_atomic(address, order, true);
    s = nth(c, c->count - 1);
    read_from(s, order);
    publish(c, new, order, &s->sync); /* the newest one: it is not the one that is forgotten */
}

static void read_newest(const void *address, int size, int order)
{
    cell *c;

    if (x.alone)
        return;
    c = cell_of(address, size);
    step_on_atomic(address, order, false);
    read_from(nth(c, c->count - 1), order);
}

static uint64_t modify(void *address, int size, rmw operation, uint64_t value, int order,
                       const void *pc)
{
    static const char *const names[] = {"exchange", "add", "sub", "and", "or", "xor", "nand"};
    uint64_t old, new;

    point();
    old = peek(address, size);
    new = cut(change(operation, old, value), size);
    if (x.active) {
        touch_atomic((uintptr_t)address, (size_t)size, true, pc);
        trace(names[operation], address, old, new, order, false, pc);
        exchange(address, size, new, order);
    }
    poke(address, size, new);
    return old;
}

static bool compare_exchange(void *address, int size, void *expected, uint64_t value, bool weak,
                             int order, int failure_order, const void *pc)
{
    uint64_t old, wanted = peek(expected, size);
    bool equal;

    point();
    old = peek(address, size);
    equal = old == wanted;
    if (x.active) {
        touch_atomic((uintptr_t)address, (size_t)size, equal, pc);
        if (equal && weak && fault(8))
            equal = false;
        if (equal) {
            trace("cas", address, old, cut(value, size), order, false, pc);
            exchange(address, size, cut(value, size), order);
        } else {
            read_newest(address, size, failure_order);
            trace(old == wanted ? "cas-spurious" : "cas-fails", address, wanted, old, failure_order,
                  false, pc);
        }
    }
    if (equal)
        poke(address, size, value);
    else
        poke(expected, size, old);
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
