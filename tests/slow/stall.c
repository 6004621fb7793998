/* stall.c - preloaded into a test program: any thread may stand still for a while where it calls
 * the system: before and after it reads the clock, sleeps, wakes, takes or gives back a lock,
 * reads, writes, starts a thread, and as a new thread begins. On a loaded machine it may do so
 * anywhere; here it costs no processor. A test that fails has counted on a thread's being somewhere
 * by some time.
 *
 *     cc -shared -fPIC -o stall.so stall.c
 *     STALL_SEED=1 LD_PRELOAD=$PWD/stall.so program
 *
 * STALL_ONE_IN=50: so often. STALL_MS=60: so long at most, and mostly far less. A thread stands
 * still for three seconds altogether and then no more.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

enum { MOST_US = 3000000 };

static uint64_t one_in, seed, longest_us;
static atomic_ulong threads;
static _Thread_local uint64_t state, spent_us;

/* `real`: the function that the one of this name stands before. */
#define REAL(name)                                                                    \
    static __typeof__(name) *_Atomic found;                                           \
    __typeof__(name) *real = atomic_load_explicit(&found, memory_order_relaxed);      \
    if (!real)                                                                        \
    atomic_store_explicit(&found, real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name), \
                          memory_order_relaxed)

static uint64_t number_of(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text && *text ? strtoull(text, NULL, 10) : otherwise;
}

__attribute__((constructor)) static void begin(void)
{
    seed = number_of("STALL_SEED", 1);
    longest_us = number_of("STALL_MS", 60) * 1000;
    one_in = number_of("STALL_ONE_IN", 50);
}

static uint64_t next_random(void)
{
    if (!state) {
        state = (seed + 1) * UINT64_C(0x9e3779b97f4a7c15);
        state ^= (atomic_fetch_add(&threads, 1) + 1) * UINT64_C(0xbf58476d1ce4e5b9);
    }
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state * UINT64_C(0x2545f4914f6cdd1d) >> 16;
}

static void stall(void)
{
    REAL(syscall);
    int error = errno;
    if (!one_in || spent_us > MOST_US || next_random() % one_in)
        return;
    uint64_t us = longest_us >> next_random() % 12; /* of each length as often */
    struct timespec t = {(time_t)(us / 1000000), (long)(us % 1000000 * 1000)};
    spent_us += us;
    real(SYS_nanosleep, &t, NULL); /* no place where a thread is cancelled */
    errno = error;
}

#define STALLS(result, name, declared, passed) \
    result name declared                       \
    {                                          \
        REAL(name);                            \
        stall();                               \
        result got = real passed;              \
        stall();                               \
        return got;                            \
    }

STALLS(int, clock_gettime, (clockid_t clock, struct timespec *at), (clock, at))
STALLS(int, nanosleep, (const struct timespec *t, struct timespec *left), (t, left))
STALLS(int, sched_yield, (void), ())
STALLS(int, poll, (struct pollfd * fds, nfds_t n, int ms), (fds, n, ms))
STALLS(ssize_t, read, (int fd, void *to, size_t size), (fd, to, size))
STALLS(ssize_t, write, (int fd, const void *from, size_t size), (fd, from, size))
STALLS(int, pthread_mutex_lock, (pthread_mutex_t * mutex), (mutex))
STALLS(int, pthread_mutex_unlock, (pthread_mutex_t * mutex), (mutex))
STALLS(int, mtx_lock, (mtx_t * mutex), (mutex))
STALLS(int, mtx_unlock, (mtx_t * mutex), (mutex))

long syscall(long number, ...)
{
    REAL(syscall);
    va_list args;
    long a[6];
    va_start(args, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(args, long);
    va_end(args);
    stall();
    long got = real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    stall();
    return got;
}

/* ---- new threads ---- */

struct start {
    void *(*posix)(void *);
    thrd_start_t c11;
    void *argument;
};

static struct start *start_of(void *(*posix)(void *), thrd_start_t c11, void *argument)
{
    struct start *start = malloc(sizeof *start);
    if (start)
        *start = (struct start){posix, c11, argument};
    return start;
}

static struct start take(void *start_)
{
    struct start start = *(struct start *)start_;
    free(start_);
    stall();
    return start;
}

static void *posix_main(void *start_)
{
    struct start start = take(start_);
    return start.posix(start.argument);
}

static int c11_main(void *start_)
{
    struct start start = take(start_);
    return start.c11(start.argument);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *how, void *(*fn)(void *),
                   void *argument)
{
    REAL(pthread_create);
    struct start *start = start_of(fn, NULL, argument);
    int error = start ? real(thread, how, posix_main, start) : EAGAIN;
    if (error)
        free(start);
    stall();
    return error;
}

int thrd_create(thrd_t *thread, thrd_start_t fn, void *argument)
{
    REAL(thrd_create);
    struct start *start = start_of(NULL, fn, argument);
    int error = start ? real(thread, c11_main, start) : thrd_nomem;
    if (error != thrd_success)
        free(start);
    stall();
    return error;
}
