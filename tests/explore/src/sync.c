/* sync.c: mutexes, conditions, once flags, futexes. What the system would keep inside the object is
   kept here, by address, so that static initialisers and copies do no harm. (Semaphores and the
   rest of POSIX: posix.c.) */
#include "sync.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <threads.h>

enum { OBJECTS = 1 << 10 };

static object table[OBJECTS];

/* What a report calls the wait: as the program does. */
static const char *lock_of(family f)
{
    return f == POSIX ? "pthread_mutex_lock" : "mtx_lock";
}

static const char *wait_of(family f)
{
    return f == POSIX ? "pthread_cond_wait" : "cnd_wait";
}

static object *object_at(const void *address)
{
    uint32_t at = (uint32_t)((uintptr_t)address * 0x9e3779b97f4a7c15u >> 54) & (OBJECTS - 1);

    for (int tries = 0; tries < OBJECTS; tries++, at = (at + 1) & (OBJECTS - 1)) {
        object *o = &table[at];
        if (o->run != x.run) {
            memset(o, 0, sizeof *o);
            o->run = x.run;
            o->address = address;
            o->owner = -1;
            return o;
        }
        if (o->address == address)
            return o;
    }
    limit("too many mutexes and conditions");
}

/* POSIX objects may be initialised statically; C11's may not. Such a one of glibc's begins with
   zeros, and a mutex says of which kind it is. */
static void initialised_statically(object *o, kind wanted)
{
    uint32_t first;
    int type = PTHREAD_MUTEX_NORMAL;

    memcpy(&first, o->address, sizeof first);
    if (first)
        return;
#ifdef __GLIBC__
    if (wanted == MUTEX)
        type = ((const pthread_mutex_t *)o->address)->__data.__kind & 3;
#endif
    o->kind = wanted;
    o->recursive = type == PTHREAD_MUTEX_RECURSIVE;
    o->error_check = type == PTHREAD_MUTEX_ERRORCHECK;
}

object *sync_use(const char *call, const void *address, kind wanted, family f)
{
    object *o;
    char name[80];

    heap_check((uintptr_t)address, 4, PC);
    o = object_at(address);
    step_on(address, true, 14);
    if (o->kind == NONE && (f == POSIX || wanted == ONCE))
        initialised_statically(o, wanted);
    if (o->destroyed || o->kind != wanted) {
        name_of(address, name, sizeof name);
        fail("%s: %s %s", call, name,
             o->destroyed ? "is destroyed"
             : o->kind    ? "is something else"
                          : "was never initialised");
    }
    return o;
}

object *sync_init(const char *call, const void *address, kind new_kind)
{
    object *o;
    int list[MAX_THREADS];

    heap_check((uintptr_t)address, 4, PC);
    o = object_at(address);
    step_on(address, true, 15);
    if (o->kind == MUTEX && !o->destroyed && o->owner >= 0 && !x.threads[o->owner].vanished)
        fail("%s of a mutex that T%d holds", call, o->owner);
    if (o->kind == CONDITION && !o->destroyed &&
        (waiters(address, wait_of(C11), list) || waiters(address, wait_of(POSIX), list)))
        fail("%s of a condition that threads wait for", call);
    if (o->kind == new_kind && !o->destroyed && !x.in_child)
        fail("%s of what is initialised already, and was not destroyed", call);
    o->kind = new_kind;
    o->destroyed = o->recursive = o->error_check = o->wall_clock = false;
    o->owner = -1;
    o->count = o->wanted = o->round = 0;
    memset(o->readers, 0, sizeof o->readers);
    memset(&o->clock, 0, sizeof o->clock);
    memset(&o->read_clock, 0, sizeof o->read_clock);
    return o;
}

void describe_wait(const thread *t, char *text, size_t size)
{
    char name[80];
    const object *o;

    if (strcmp(t->waits_in, "thrd_join") == 0 || strcmp(t->waits_in, "pthread_join") == 0) {
        snprintf(text, size, "in %s for T%d", t->waits_in,
                 (int)((const thread *)t->waits_on - x.threads));
        return;
    }
    if (!t->waits_on || strcmp(t->waits_in, "sigwait") == 0 || strcmp(t->waits_in, "pause") == 0 ||
        strcmp(t->waits_in, "read") == 0 || strcmp(t->waits_in, "write") == 0 ||
        strcmp(t->waits_in, "poll") == 0 || strcmp(t->waits_in, "sigsuspend") == 0) {
        snprintf(text, size, "in %s", t->waits_in);
        return;
    }
    name_of(t->waits_on, name, sizeof name);
    if (strcmp(name, "memory of no object") == 0) { /* a sleep */
        snprintf(text, size, "in %s", t->waits_in);
        return;
    }
    if (strcmp(t->waits_in, "futex") == 0) {
        snprintf(text, size, "in futex on %s", name);
        return;
    }
    o = object_at(t->waits_on);
    if ((o->kind == MUTEX || o->kind == READ_WRITE) && o->owner >= 0)
        snprintf(text, size, "in %s for %s, held by T%d", t->waits_in, name, o->owner);
    else if (o->kind == BARRIER)
        snprintf(text, size, "in %s on %s, %d of %d are there", t->waits_in, name, o->count,
                 o->wanted);
    else
        snprintf(text, size, "in %s on %s", t->waits_in, name);
}

/* ---- mutexes ---- */

bool passed(const patience *p)
{
    return p->deadline <= (p->wall_clock ? x.now + x.wall : x.now);
}

patience until(const struct timespec *t, bool wall_clock)
{
    return (patience){.timed = true, .wall_clock = wall_clock, .deadline = nanoseconds(t)};
}

static int lock(const void *m, family f, patience p, const void *pc)
{
    object *o;

    not_in_handler("locking a mutex");
    point();
    o = sync_use("lock", m, MUTEX, f);
    if (o->owner == x.current) {
        if (o->recursive) {
            o->count++;
            return 0;
        }
        if (p.try || o->error_check)
            return p.try ? EBUSY : EDEADLK;
        fail("T%d locks a mutex that it holds already", x.current);
    }
    while (o->owner >= 0) {
        if (p.try)
            return EBUSY;
        if (p.timed && passed(&p))
            return ETIMEDOUT;
        trace("lock-waits", m, 0, 0, NO_ORDER, false, pc);
        block(lock_of(f), m, p.timed ? p.deadline : 0, p.wall_clock, pc);
        o = sync_use("lock", m, MUTEX, f);
    }
    o->owner = x.current;
    o->count = 1;
    vclock_join(&self()->now, &o->clock);
    progress();
    trace("lock", m, 0, 0, NO_ORDER, false, pc);
    return 0;
}

static int let_go(const char *call, const void *m, family f)
{
    object *o = sync_use(call, m, MUTEX, f);
    int list[MAX_THREADS], count;

    if (o->owner != x.current) {
        if (o->error_check)
            return EPERM;
        if (o->owner < 0)
            fail("%s of a mutex that nobody holds, by T%d", call, x.current);
        fail("%s by T%d of a mutex that T%d holds", call, x.current, o->owner);
    }
    if (--o->count)
        return 0;
    o->owner = -1;
    release_to(&o->clock);
    progress();
    count = waiters(m, lock_of(f), list);
    for (int i = 0; i < count; i++) /* who comes first gets it */
        wake(&x.threads[list[i]], false);
    return 0;
}

static int unlock(const void *m, family f, const void *pc)
{
    not_in_handler("unlocking a mutex");
    point();
    trace("unlock", m, 0, 0, NO_ORDER, false, pc);
    return let_go("unlock", m, f);
}

static void destroy_mutex(const void *m, family f)
{
    object *o;

    point();
    o = sync_use("destroy", m, MUTEX, f);
    if (o->owner >= 0)
        fail("destroy of a mutex that T%d holds", o->owner);
    o->destroyed = true;
}

/* ---- conditions ---- */

static int cond_wait(const void *c, const void *m, family f, patience p, const void *pc)
{
    bool late = false;

    point();
    sync_use(wait_of(f), c, CONDITION, f);
    if (sync_use(wait_of(f), m, MUTEX, f)->owner != x.current)
        fail("%s by T%d, which does not hold the mutex", wait_of(f), x.current);
    trace("cond-wait", c, 0, 0, NO_ORDER, false, pc);
    let_go(wait_of(f), m, f);
    if (fault(12)) {
        self()->idle_steps = 0; /* it would have slept: that is no polling */
        trace("cond-spurious", c, 0, 0, NO_ORDER, false, pc);
    } else if (p.timed && passed(&p))
        late = true;
    else
        late = block(wait_of(f), c, p.timed ? p.deadline : 0, p.wall_clock, pc);
    trace(late ? "cond-timeout" : "cond-woken", c, 0, 0, NO_ORDER, false, pc);
    lock(m, f, (patience){0}, pc);
    return late ? ETIMEDOUT : 0;
}

static void cond_signal(const void *c, family f, bool all, const void *pc)
{
    int list[MAX_THREADS], count;

    not_in_handler(all ? "a broadcast" : "signalling a condition");
    point();
    sync_use(all ? "broadcast" : "signal", c, CONDITION, f);
    count = waiters(c, wait_of(f), list);
    trace(all ? "broadcast" : "signal", c, 0, (uint64_t)count, NO_ORDER, false, pc);
    if (count && !all)
        wake(&x.threads[list[choose(count)]], false);
    else
        for (int i = 0; i < count; i++)
            wake(&x.threads[list[i]], false);
}

static void destroy_condition(const void *c, family f)
{
    int list[MAX_THREADS];
    object *o;

    point();
    o = sync_use("destroy", c, CONDITION, f);
    if (waiters(c, wait_of(f), list))
        fail("destroy of a condition that T%d waits for", list[0]);
    o->destroyed = true;
}

/* ---- once ---- */

static void once(const void *flag, void (*fn)(void), const void *pc)
{
    object *o;
    int list[MAX_THREADS], count;

    not_in_handler("call_once");
    point();
    o = sync_use("call_once", flag, ONCE, C11);
    while (o->count == 1) {
        block("call_once", flag, 0, false, pc);
        step_on(flag, true, 14);
    }
    if (o->count == 2) {
        vclock_join(&self()->now, &o->clock);
        return;
    }
    o->count = 1;
    o->owner = x.current;
    trace("once", flag, 0, 0, NO_ORDER, false, pc);
    fn();
    o->count = 2;
    step_on(flag, true, 14);
    release_to(&o->clock);
    count = waiters(flag, "call_once", list);
    for (int i = 0; i < count; i++)
        wake(&x.threads[list[i]], false);
}

/* ---- C11 ---- */

static int c11_status(int error)
{
    return error == 0           ? thrd_success
           : error == EBUSY     ? thrd_busy
           : error == ETIMEDOUT ? thrd_timedout
                                : thrd_error;
}

EXPORT int explore_mtx_init(mtx_t *m, int type)
{
    sync_init("mtx_init", m, MUTEX)->recursive = type & mtx_recursive;
    return thrd_success;
}

EXPORT void explore_mtx_destroy(mtx_t *m)
{
    destroy_mutex(m, C11);
}

EXPORT int explore_mtx_lock(mtx_t *m)
{
    return c11_status(lock(m, C11, (patience){0}, PC));
}

EXPORT int explore_mtx_trylock(mtx_t *m)
{
    return c11_status(lock(m, C11, (patience){.try = true}, PC));
}

EXPORT int explore_mtx_timedlock(mtx_t *m, const struct timespec *t)
{
    return c11_status(lock(m, C11, until(t, true), PC));
}

EXPORT int explore_mtx_unlock(mtx_t *m)
{
    return c11_status(unlock(m, C11, PC));
}

static bool condition_fails(const void *c, const void *pc)
{
    if (!x.random_condition || !hard_fault(8))
        return false;
    trace("condition-fails", c, 0, 0, NO_ORDER, false, pc);
    return true;
}

EXPORT int explore_cnd_init(cnd_t *c)
{
    if (condition_fails(c, PC))
        return thrd_nomem;
    sync_init("cnd_init", c, CONDITION);
    return thrd_success;
}

EXPORT void explore_cnd_destroy(cnd_t *c)
{
    destroy_condition(c, C11);
}

EXPORT int explore_cnd_wait(cnd_t *c, mtx_t *m)
{
    return c11_status(cond_wait(c, m, C11, (patience){0}, PC));
}

EXPORT int explore_cnd_timedwait(cnd_t *c, mtx_t *m, const struct timespec *t)
{
    return c11_status(cond_wait(c, m, C11, until(t, true), PC));
}

EXPORT int explore_cnd_signal(cnd_t *c)
{
    cond_signal(c, C11, false, PC);
    return thrd_success;
}

EXPORT int explore_cnd_broadcast(cnd_t *c)
{
    cond_signal(c, C11, true, PC);
    return thrd_success;
}

EXPORT void explore_call_once(once_flag *flag, void (*fn)(void))
{
    once(flag, fn, PC);
}

/* ---- POSIX ---- */

EXPORT int explore_pthread_mutex_init(pthread_mutex_t *m, const pthread_mutexattr_t *attributes)
{
    object *o = sync_init("pthread_mutex_init", m, MUTEX);
    int type = PTHREAD_MUTEX_NORMAL;

    if (attributes)
        pthread_mutexattr_gettype(attributes, &type);
    o->recursive = type == PTHREAD_MUTEX_RECURSIVE;
    o->error_check = type == PTHREAD_MUTEX_ERRORCHECK;
    return 0;
}

EXPORT int explore_pthread_mutex_destroy(pthread_mutex_t *m)
{
    destroy_mutex(m, POSIX);
    return 0;
}

EXPORT int explore_pthread_mutex_lock(pthread_mutex_t *m)
{
    return lock(m, POSIX, (patience){0}, PC);
}

EXPORT int explore_pthread_mutex_trylock(pthread_mutex_t *m)
{
    return lock(m, POSIX, (patience){.try = true}, PC);
}

EXPORT int explore_pthread_mutex_timedlock(pthread_mutex_t *m, const struct timespec *t)
{
    return lock(m, POSIX, until(t, true), PC);
}

EXPORT int explore_pthread_mutex_unlock(pthread_mutex_t *m)
{
    return unlock(m, POSIX, PC);
}

EXPORT int explore_pthread_cond_init(pthread_cond_t *c, const pthread_condattr_t *attributes)
{
    clockid_t clock = CLOCK_REALTIME;

    if (condition_fails(c, PC))
        return ENOMEM;
    if (attributes)
        pthread_condattr_getclock(attributes, &clock);
    sync_init("pthread_cond_init", c, CONDITION)->wall_clock = clock == CLOCK_REALTIME;
    return 0;
}

EXPORT int explore_pthread_cond_destroy(pthread_cond_t *c)
{
    destroy_condition(c, POSIX);
    return 0;
}

EXPORT int explore_pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *m)
{
    return cond_wait(c, m, POSIX, (patience){0}, PC);
}

EXPORT int explore_pthread_cond_timedwait(pthread_cond_t *c, pthread_mutex_t *m,
                                          const struct timespec *t)
{
    bool wall_clock = sync_use("pthread_cond_timedwait", c, CONDITION, POSIX)->wall_clock;

    return cond_wait(c, m, POSIX, until(t, wall_clock), PC);
}

EXPORT int explore_pthread_cond_clockwait(pthread_cond_t *c, pthread_mutex_t *m, clockid_t clock,
                                          const struct timespec *t)
{
    return cond_wait(c, m, POSIX, until(t, clock == CLOCK_REALTIME), PC);
}

EXPORT int explore_pthread_cond_signal(pthread_cond_t *c)
{
    cond_signal(c, POSIX, false, PC);
    return 0;
}

EXPORT int explore_pthread_cond_broadcast(pthread_cond_t *c)
{
    cond_signal(c, POSIX, true, PC);
    return 0;
}

EXPORT int explore_pthread_once(pthread_once_t *flag, void (*fn)(void))
{
    once(flag, fn, PC);
    return 0;
}

/* A spin lock is a mutex here: how its waiters pass the time is no matter of the schedule. */
EXPORT int explore_pthread_spin_init(pthread_spinlock_t *s, int shared)
{
    (void)shared;
    sync_init("pthread_spin_init", (const void *)s, MUTEX);
    return 0;
}

EXPORT int explore_pthread_spin_destroy(pthread_spinlock_t *s)
{
    destroy_mutex((const void *)s, C11);
    return 0;
}

EXPORT int explore_pthread_spin_lock(pthread_spinlock_t *s)
{
    return lock((const void *)s, C11, (patience){0}, PC);
}

EXPORT int explore_pthread_spin_trylock(pthread_spinlock_t *s)
{
    return lock((const void *)s, C11, (patience){.try = true}, PC);
}

EXPORT int explore_pthread_spin_unlock(pthread_spinlock_t *s)
{
    return unlock((const void *)s, C11, PC);
}

/* ---- futex ---- */

static long error(int number)
{
    self()->error = number;
    return -1;
}

/* Compare and sleep are one step, as in the kernel. No happens-before comes with it. */
static long futex_wait(uint32_t *word, uint32_t value, const struct timespec *limit_, bool absolute,
                       bool wall_clock, const void *pc)
{
    uint64_t deadline = 0, start = wall_clock ? x.now + x.wall : x.now;
    uint32_t is;

    heap_check((uintptr_t)word, 4, pc);
    step_on(word, false, 4);
    step_on((const char *)word + 1, true, 4); /* those that sleep there */
    is = (uint32_t)newest_value(word, 4);
    if (is != value) {
        trace("futex-differs", word, value, is, NO_ORDER, false, pc);
        return error(EAGAIN);
    }
    if (fault(12)) {
        bool interrupted = choose(2);
        self()->idle_steps = 0; /* as above */
        trace(interrupted ? "futex-EINTR" : "futex-spurious", word, 0, is, NO_ORDER, false, pc);
        return interrupted ? error(EINTR) : 0;
    }
    if (limit_) {
        deadline = nanoseconds(limit_) + (absolute ? 0 : start);
        if (deadline <= start) {
            trace("futex-timeout", word, 0, is, NO_ORDER, false, pc);
            return error(ETIMEDOUT);
        }
    }
    trace("futex-waits", word, 0, is, NO_ORDER, false, pc);
    if (block("futex", word, deadline, wall_clock, pc)) {
        trace("futex-timeout", word, 0, 0, NO_ORDER, false, pc);
        return error(ETIMEDOUT);
    }
    if (self()->interrupted) {
        trace("futex-EINTR", word, 0, 0, NO_ORDER, false, pc);
        return error(EINTR);
    }
    trace("futex-woken", word, 0, 0, NO_ORDER, false, pc);
    return 0;
}

static long futex_wake(const uint32_t *word, uint32_t most, const void *pc)
{
    int list[MAX_THREADS], count;
    uint32_t woken = 0;

    step_on((const char *)word + 1, waiters(word, "futex", list) > 0, 4);
    /* The word may be gone: an unlock may be followed by a free before its wake. */
    for (; woken < most && (count = waiters(word, "futex", list)) > 0; woken++)
        wake(&x.threads[list[choose(count)]], false);
    trace("futex-wakes", word, 0, woken, NO_ORDER, false, pc);
    return (long)woken;
}

long futex(uint32_t *word, int operation, uint32_t value, const struct timespec *limit_,
           const void *pc)
{
    int command = operation & FUTEX_CMD_MASK;

    point();
    if (x.no_futex)
        return error(ENOSYS);
    if (command == FUTEX_WAIT || command == FUTEX_WAIT_BITSET)
        return futex_wait(word, value, limit_, command == FUTEX_WAIT_BITSET,
                          (operation & FUTEX_CLOCK_REALTIME) != 0, pc);
    if (command == FUTEX_WAKE || command == FUTEX_WAKE_BITSET)
        return futex_wake(word, value, pc);
    limit("this futex operation is not known to the explorer");
}
