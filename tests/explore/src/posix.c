/* posix.c: semaphores, barriers and read-write locks. A semaphore's post makes known what came
   before it to every later wait, as its value is one atomic word; readers learn of writers, writers
   of all. */
#include "sync.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <semaphore.h>

static int error(int number)
{
    self()->error = number;
    return -1;
}

static void wake_all(const void *on, const char *call)
{
    int list[MAX_THREADS], count = waiters(on, call, list);

    for (int i = 0; i < count; i++) /* who comes first gets it */
        wake(&x.threads[list[i]], false);
}

static void destroy(const char *call, const void *on, kind wanted, family f, const char *wait)
{
    int list[MAX_THREADS];
    object *o;

    point();
    o = sync_use(call, on, wanted, f);
    if (waiters(on, wait, list))
        fail("%s while T%d waits", call, list[0]);
    o->destroyed = true;
}

/* ---- semaphores ---- */

static int sem_take(const sem_t *s, patience p, const void *pc)
{
    object *o;

    not_in_handler("waiting for a semaphore");
    point();
    o = sync_use("sem_wait", s, SEMAPHORE, C11);
    while (o->count == 0) {
        if (p.try)
            return error(EAGAIN);
        if (p.timed && passed(&p))
            return error(ETIMEDOUT);
        if (fault(12))
            return error(EINTR);
        trace("sem-waits", s, 0, 0, NO_ORDER, false, pc);
        block("sem_wait", s, p.timed ? p.deadline : 0, p.wall_clock, pc);
        o = sync_use("sem_wait", s, SEMAPHORE, C11);
        if (self()->interrupted && o->count == 0)
            return error(EINTR);
    }
    o->count--;
    vclock_join(&self()->now, &o->clock);
    progress();
    trace("sem-take", s, 0, (uint64_t)o->count, NO_ORDER, false, pc);
    return 0;
}

EXPORT int explore_sem_init(sem_t *s, int shared, unsigned value)
{
    (void)shared;
    if (value > SEM_VALUE_MAX)
        return error(EINVAL);
    sync_init("sem_init", s, SEMAPHORE)->count = (int)value;
    return 0;
}

EXPORT int explore_sem_destroy(sem_t *s)
{
    destroy("sem_destroy", s, SEMAPHORE, C11, "sem_wait");
    return 0;
}

EXPORT int explore_sem_wait(sem_t *s)
{
    return sem_take(s, (patience){0}, PC);
}

EXPORT int explore_sem_trywait(sem_t *s)
{
    return sem_take(s, (patience){.try = true}, PC);
}

EXPORT int explore_sem_timedwait(sem_t *s, const struct timespec *t)
{
    return sem_take(s, until(t, true), PC);
}

EXPORT int explore_sem_clockwait(sem_t *s, clockid_t clock, const struct timespec *t)
{
    return sem_take(s, until(t, clock == CLOCK_REALTIME), PC);
}

EXPORT int explore_sem_post(sem_t *s)
{
    object *o;

    point();
    o = sync_use("sem_post", s, SEMAPHORE, C11);
    if (o->count == SEM_VALUE_MAX)
        return error(EOVERFLOW);
    o->count++;
    release_to(&o->clock);
    progress();
    trace("sem-post", s, 0, (uint64_t)o->count, NO_ORDER, false, PC);
    wake_all(s, "sem_wait");
    return 0;
}

EXPORT int explore_sem_getvalue(sem_t *s, int *value)
{
    point();
    *value = sync_use("sem_getvalue", s, SEMAPHORE, C11)->count;
    touch((uintptr_t)value, sizeof *value, true, PC);
    return 0;
}

/* ---- barriers ---- */

EXPORT int explore_pthread_barrier_init(pthread_barrier_t *b,
                                        const pthread_barrierattr_t *attributes, unsigned count)
{
    (void)attributes;
    if (count == 0 || count > INT_MAX)
        return EINVAL;
    sync_init("pthread_barrier_init", b, BARRIER)->wanted = (int)count;
    return 0;
}

EXPORT int explore_pthread_barrier_destroy(pthread_barrier_t *b)
{
    destroy("pthread_barrier_destroy", b, BARRIER, C11, "pthread_barrier_wait");
    return 0;
}

/* The last one to come tells those who wait what all have done, and opens. */
EXPORT int explore_pthread_barrier_wait(pthread_barrier_t *b)
{
    const char *call = "pthread_barrier_wait";
    int list[MAX_THREADS], count, round;
    object *o;

    not_in_handler("waiting at a barrier");
    point();
    o = sync_use(call, b, BARRIER, C11);
    release_to(&o->clock);
    round = o->round;
    if (++o->count < o->wanted) {
        trace("barrier-waits", b, 0, (uint64_t)o->count, NO_ORDER, false, PC);
        do
            block(call, b, 0, false, PC);
        while (o->round == round); /* a signal's handler has run meanwhile */
        trace("barrier-passed", b, 0, 0, NO_ORDER, false, PC);
        return 0;
    }
    o->count = 0;
    o->round++;
    vclock_join(&self()->now, &o->clock);
    trace("barrier-opens", b, 0, 0, NO_ORDER, false, PC);
    count = waiters(b, call, list);
    for (int i = 0; i < count; i++)
        vclock_join(&x.threads[list[i]].now, &o->clock);
    progress();
    wake_all(b, call);
    return PTHREAD_BARRIER_SERIAL_THREAD;
}

/* ---- read-write locks: readers are let in while no writer is inside, whoever waits ---- */

static int read_lock(const void *l, patience p, const void *pc)
{
    const char *call = "pthread_rwlock_rdlock";
    object *o;

    not_in_handler("locking a read-write lock");
    point();
    o = sync_use(call, l, READ_WRITE, POSIX);
    if (o->owner == x.current && !p.try)
        fail("T%d locks for reading what it holds for writing", x.current);
    while (o->owner >= 0) {
        if (p.try)
            return EBUSY;
        if (p.timed && passed(&p))
            return ETIMEDOUT;
        trace("read-lock-waits", l, 0, 0, NO_ORDER, false, pc);
        block(call, l, p.timed ? p.deadline : 0, p.wall_clock, pc);
        o = sync_use(call, l, READ_WRITE, POSIX);
    }
    o->count++;
    o->readers[x.current]++;
    vclock_join(&self()->now, &o->clock);
    progress();
    trace("read-lock", l, 0, 0, NO_ORDER, false, pc);
    return 0;
}

static int write_lock(const void *l, patience p, const void *pc)
{
    const char *call = "pthread_rwlock_wrlock";
    object *o;

    not_in_handler("locking a read-write lock");
    point();
    o = sync_use(call, l, READ_WRITE, POSIX);
    if ((o->owner == x.current || o->readers[x.current]) && !p.try)
        fail("T%d locks for writing what it holds already", x.current);
    while (o->owner >= 0 || o->count > 0) {
        if (p.try)
            return EBUSY;
        if (p.timed && passed(&p))
            return ETIMEDOUT;
        trace("write-lock-waits", l, 0, 0, NO_ORDER, false, pc);
        block(call, l, p.timed ? p.deadline : 0, p.wall_clock, pc);
        o = sync_use(call, l, READ_WRITE, POSIX);
    }
    o->owner = x.current;
    vclock_join(&self()->now, &o->clock);
    vclock_join(&self()->now, &o->read_clock);
    progress();
    trace("write-lock", l, 0, 0, NO_ORDER, false, pc);
    return 0;
}

EXPORT int explore_pthread_rwlock_init(pthread_rwlock_t *l, const pthread_rwlockattr_t *attributes)
{
    (void)attributes;
    sync_init("pthread_rwlock_init", l, READ_WRITE);
    return 0;
}

EXPORT int explore_pthread_rwlock_destroy(pthread_rwlock_t *l)
{
    object *o;

    point();
    o = sync_use("pthread_rwlock_destroy", l, READ_WRITE, POSIX);
    if (o->owner >= 0)
        fail("destroy of a read-write lock that T%d holds", o->owner);
    if (o->count > 0)
        fail("destroy of a read-write lock that %d readers hold", o->count);
    o->destroyed = true;
    return 0;
}

EXPORT int explore_pthread_rwlock_rdlock(pthread_rwlock_t *l)
{
    return read_lock(l, (patience){0}, PC);
}

EXPORT int explore_pthread_rwlock_tryrdlock(pthread_rwlock_t *l)
{
    return read_lock(l, (patience){.try = true}, PC);
}

EXPORT int explore_pthread_rwlock_timedrdlock(pthread_rwlock_t *l, const struct timespec *t)
{
    return read_lock(l, until(t, true), PC);
}

EXPORT int explore_pthread_rwlock_wrlock(pthread_rwlock_t *l)
{
    return write_lock(l, (patience){0}, PC);
}

EXPORT int explore_pthread_rwlock_trywrlock(pthread_rwlock_t *l)
{
    return write_lock(l, (patience){.try = true}, PC);
}

EXPORT int explore_pthread_rwlock_timedwrlock(pthread_rwlock_t *l, const struct timespec *t)
{
    return write_lock(l, until(t, true), PC);
}

EXPORT int explore_pthread_rwlock_unlock(pthread_rwlock_t *l)
{
    object *o;

    not_in_handler("unlocking a read-write lock");
    point();
    trace("unlock", l, 0, 0, NO_ORDER, false, PC);
    o = sync_use("unlock", l, READ_WRITE, POSIX);
    if (o->owner == x.current) {
        o->owner = -1;
        release_to(&o->clock);
    } else if (o->readers[x.current]) {
        o->readers[x.current]--;
        o->count--;
        release_to(&o->read_clock);
    } else {
        fail("unlock by T%d of a read-write lock that it does not hold", x.current);
    }
    progress();
    wake_all(l, "pthread_rwlock_rdlock");
    wake_all(l, "pthread_rwlock_wrlock");
    return 0;
}
