/* park.h: the one blocking primitive: wait on a 32-bit word until it changes, a wake, or a
   deadline. */
#ifndef TWILL__PLATFORM_PARK_H
#define TWILL__PLATFORM_PARK_H

#include "platform/process.h"

/* twill__park(word, expected, deadline): sleeps while *word == expected. Returns false when the
   deadline (an instant; 0 or TWILL_FOREVER: none) has passed. May return true for no reason: all
   callers loop. Leaves errno alone. twill__wake(address, n): wakes up to n sleepers (INT_MAX: all).
   It uses the address as a key and never reads it, so the word may be gone already. */

static inline bool twill__no_deadline(twill_ns deadline)
{
    return deadline == 0 || deadline == TWILL_FOREVER;
}

#ifndef TWILL_NO_FUTEX
/* ---- Linux futex; source: "Futexes Are Tricky", U. Drepper ---- */

/* 32-bit systems with a 64-bit time_t must not hand it to the old system call */
#if defined SYS_futex_time64 && defined SYS_futex
#define TWILL__FUTEX      (sizeof(time_t) > sizeof(long) ? SYS_futex_time64 : SYS_futex)
#define TWILL__FUTEX_WAKE SYS_futex
#elif defined SYS_futex_time64
#define TWILL__FUTEX      SYS_futex_time64
#define TWILL__FUTEX_WAKE SYS_futex_time64
#else
#define TWILL__FUTEX      SYS_futex
#define TWILL__FUTEX_WAKE SYS_futex
#endif

static inline bool twill__park(const _Atomic uint32_t *word, uint32_t expected, twill_ns deadline)
{
    struct timespec at, *limit = NULL;
    int saved = errno;
    bool in_time = true;
    if (!twill__no_deadline(deadline)) {
        at = twill__timespec(deadline > 0 ? deadline : 1);
        limit = &at;
    }
    /* FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG: absolute, monotonic */
    if (syscall(TWILL__FUTEX, word, 9 | 128, expected, limit, NULL, 0xffffffffu) == -1 &&
        errno != EAGAIN && errno != EINTR) {
        if (errno == ETIMEDOUT) {
            in_time = false;
        } else { /* ENOSYS, EPERM in a sandbox: waiting without sleeping stays correct */
            sched_yield();
            in_time = twill__no_deadline(deadline) || twill__clock_now() < deadline;
        }
    }
    errno = saved;
    return in_time;
}

static inline void twill__wake(const void *address, int n)
{
    int saved = errno;
    /* FUTEX_WAKE | FUTEX_PRIVATE_FLAG */
    syscall(TWILL__FUTEX_WAKE, address, 1 | 128, n, NULL, NULL, 0);
    errno = saved;
}

#else
/* ---- a process-wide table of sleepers by address; source: WTF::ParkingLot ---- */

#define TWILL__BUCKETS 64

#ifdef TWILL_USE_PTHREAD
#define twill__parking twill__parking_pthread_layout1
typedef pthread_mutex_t twill__mutex;
typedef pthread_cond_t twill__condition;
#else
#define twill__parking twill__parking_c11_layout1
typedef mtx_t twill__mutex;
typedef cnd_t twill__condition;
#endif

typedef struct twill__sleeper { /* on the sleeper's stack, guarded by its bucket's mutex */
    const void *address;
    struct twill__sleeper *next;
    bool woken;
    twill__condition condition;
} twill__sleeper;

typedef struct twill__bucket {
    twill__mutex mutex;
    twill__sleeper *first, **last; /* in order of arrival */
} twill__bucket;

typedef struct twill__lot {
    /* that made the buckets; another one: made anew, nobody of old sleeps here */
    _Atomic uint32_t generation;
    twill__bucket bucket[TWILL__BUCKETS];
} twill__lot;

TWILL__ONE twill__lot *twill__parking(void);
TWILL__ONE twill__lot *twill__parking(void)
{
    static twill__lot lot;
    return &lot;
}

#ifdef TWILL_USE_PTHREAD
#define TWILL__MUTEX_INIT(m)        pthread_mutex_init(m, NULL)
#define TWILL__MUTEX_LOCK(m)        pthread_mutex_lock(m)
#define TWILL__MUTEX_UNLOCK(m)      pthread_mutex_unlock(m)
#define TWILL__CONDITION_SIGNAL(c)  pthread_cond_signal(c)
#define TWILL__CONDITION_WAIT(c, m) pthread_cond_wait(c, m)
#define TWILL__CONDITION_DESTROY(c) pthread_cond_destroy(c)

/* they cannot be told of the monotonic clock, but wait for a time */
#if defined __APPLE__ || defined __MINGW32__
#define TWILL__RELATIVE_WAITS 1
#endif

static inline bool twill__condition_init(twill__condition *condition)
{
#ifdef TWILL__RELATIVE_WAITS
    return pthread_cond_init(condition, NULL) == 0;
#else
    extern int pthread_condattr_setclock(pthread_condattr_t *, int);
    pthread_condattr_t attributes;
    bool made;
    if (pthread_condattr_init(&attributes) != 0)
        return false;
    made = pthread_condattr_setclock(&attributes, TWILL__MONOTONIC) == 0 &&
           pthread_cond_init(condition, &attributes) == 0;
    pthread_condattr_destroy(&attributes);
    return made;
#endif
}

/* one wait; the caller loops */
static inline void twill__condition_wait_until(twill__condition *condition, twill__mutex *mutex,
                                               twill_ns deadline)
{
#ifdef TWILL__RELATIVE_WAITS
    twill_ns left = deadline > 0 ? deadline - twill__clock_now() : 0, day = TWILL_SEC(86400);
    struct timespec t = twill__timespec(left <= 0 ? 1 : left < day ? left : day);
    pthread_cond_timedwait_relative_np(condition, mutex, &t);
#else
    struct timespec t = twill__timespec(deadline);
    pthread_cond_timedwait(condition, mutex, &t);
#endif
}
#else
#define TWILL__MUTEX_INIT(m)        mtx_init(m, mtx_plain)
#define TWILL__MUTEX_LOCK(m)        mtx_lock(m)
#define TWILL__MUTEX_UNLOCK(m)      mtx_unlock(m)
#define TWILL__CONDITION_SIGNAL(c)  cnd_signal(c)
#define TWILL__CONDITION_WAIT(c, m) cnd_wait(c, m)
#define TWILL__CONDITION_DESTROY(c) cnd_destroy(c)

static inline bool twill__condition_init(twill__condition *condition)
{
    return cnd_init(condition) == thrd_success;
}

/* C11 waits on the wall clock alone: short slices, looked at by the monotonic clock. A step forward
   ends a slice early, which is harmless; a step back of s makes the running slice, and so a
   deadline, late by up to s: where that matters, TWILL_USE_PTHREAD. */
static inline void twill__condition_wait_until(twill__condition *condition, twill__mutex *mutex,
                                               twill_ns deadline)
{
    twill_ns left = deadline > 0 ? deadline - twill__clock_now() : -1;
    struct timespec t;
    if (left > TWILL_MS(20))
        left = TWILL_MS(20);
    if (left < 0 || timespec_get(&t, TIME_UTC) != TIME_UTC)
        return;
    left += t.tv_nsec;
    t.tv_sec += (time_t)(left / 1000000000);
    t.tv_nsec = (long)(left % 1000000000);
    cnd_timedwait(condition, mutex, &t);
}
#endif

static inline twill__bucket *twill__bucket_of(const void *address)
{
    twill__lot *lot = twill__parking();
    if (twill__adopt(&lot->generation)) {
        for (int i = 0; i < TWILL__BUCKETS; i++) {
            /* cannot fail for a plain mutex where we run */
            (void)TWILL__MUTEX_INIT(&lot->bucket[i].mutex);
            lot->bucket[i].first = NULL;
            lot->bucket[i].last = &lot->bucket[i].first;
        }
        twill__adopted(&lot->generation);
    }
    return &lot->bucket[((uintptr_t)address >> 4) * 0x9e3779b1u >> 8 & (TWILL__BUCKETS - 1)];
}

static inline void twill__bucket_remove(twill__bucket *bucket, twill__sleeper **link)
{
    twill__sleeper *sleeper = *link;
    *link = sleeper->next;
    if (bucket->last == &sleeper->next)
        bucket->last = link;
}

static inline bool twill__park(const _Atomic uint32_t *word, uint32_t expected, twill_ns deadline)
{
    int saved = errno;
    twill__bucket *bucket = twill__bucket_of(word);
    twill__sleeper me;
    bool in_time = true;
    me.address = word;
    me.next = NULL;
    me.woken = false;
    /* no resources: waiting without sleeping stays correct */
    if (!twill__condition_init(&me.condition)) {
        twill__yield();
        errno = saved;
        return twill__no_deadline(deadline) || twill__clock_now() < deadline;
    }
    TWILL__MUTEX_LOCK(&bucket->mutex);
    if (atomic_load_explicit(word, memory_order_seq_cst) == expected) {
        *bucket->last = &me;
        bucket->last = &me.next;
        while (!me.woken && in_time) {
            if (twill__no_deadline(deadline)) {
                TWILL__CONDITION_WAIT(&me.condition, &bucket->mutex);
            } else {
                twill__condition_wait_until(&me.condition, &bucket->mutex, deadline);
                in_time = twill__clock_now() < deadline;
            }
        }
        if (me.woken) {
            in_time = true;
        } else {
            twill__sleeper **link = &bucket->first;
            while (*link != &me)
                link = &(*link)->next;
            twill__bucket_remove(bucket, link);
        }
    }
    TWILL__MUTEX_UNLOCK(&bucket->mutex);
    TWILL__CONDITION_DESTROY(&me.condition);
    errno = saved;
    return in_time;
}

static inline void twill__wake(const void *address, int n)
{
    int saved = errno;
    twill__bucket *bucket = twill__bucket_of(address);
    twill__sleeper **link = &bucket->first;
    TWILL__MUTEX_LOCK(&bucket->mutex);
    while (*link && n > 0) {
        twill__sleeper *sleeper = *link;
        if (sleeper->address != address) {
            link = &sleeper->next;
            continue;
        }
        twill__bucket_remove(bucket, link);
        sleeper->woken = true;
        /* under the mutex: the sleeper's frame is still there */
        TWILL__CONDITION_SIGNAL(&sleeper->condition);
        n--;
    }
    TWILL__MUTEX_UNLOCK(&bucket->mutex);
    errno = saved;
}
#endif

/* Sleeps for so long. */
static inline void twill__doze(twill_ns time)
{
    _Atomic uint32_t nobody = 0;
    twill_ns deadline = twill__clock_now() + time;
    while (twill__park(&nobody, 0, deadline)) {} /* exit: the deadline */
}

#endif
