/* test_platform.c: the clock, parking, the lock, threads, forks and the number of CPUs; with
   signals that interrupt every wait, a wall clock that jumps, and system files of our own. */
#define _GNU_SOURCE
#define HARNESS_FAULTS
#include "harness.h"

#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef TWILL_NO_FUTEX
#include <pthread.h>
#ifndef TWILL_USE_PTHREAD
#include <threads.h>
#endif
/* A condition that cannot be made, if a test says so. */
static _Atomic int conditions_fail;
#define cnd_init(c) (atomic_load(&conditions_fail) ? (int)thrd_nomem : cnd_init(c))
#define pthread_cond_init(c, a) \
    (atomic_load(&conditions_fail) == 1 ? ENOMEM : pthread_cond_init(c, a))
#define pthread_condattr_init(a) \
    (atomic_load(&conditions_fail) == 2 ? ENOMEM : pthread_condattr_init(a))
#endif

#define TWILL__SYSTEM_ROOT "." /* a test goes to a folder of its own, with a proc/ and a sys/ */
#define TWILL_IMPLEMENTATION
#include "platform/tempo.h"
#define TWILL__TERMINAL_PATIENCE 20
#include "platform/terminal.h"
#include "twill_parallel_map.h"
#include "engine/light_lock.h"

#if defined __SANITIZE_ADDRESS__ || defined TWILL__UNDER_TSAN
#define SANITIZED 1
#elif defined __has_feature
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif
#define LOOSE TWILL_SEC(50) /* "soon" on a loaded machine; a hang is longer */

typedef void body(void *arg);

static void prepare(twill__thrd *thread, body *fn, void *arg)
{
    memset(thread, 0, sizeof *thread);
    thread->fn = fn;
    thread->arg = arg;
    thread->cpu = UINT_MAX;
}

static void go(twill__thrd *thread, body *fn, void *arg)
{
    prepare(thread, fn, arg);
    if (!CHECK(twill__thread_start(thread)))
        abort();
}

static void set(_Atomic uint32_t *step, uint32_t value)
{
    atomic_store(step, value);
    twill__wake(step, INT_MAX);
}

/* ---- a wall clock that the test moves ---- */

/* These take the place of the C library's for calls from this program; the library calls its
   own. */
#if defined __GLIBC__ && !(defined _TIME_BITS && _TIME_BITS == 64)
#if __GLIBC_PREREQ(2, 30)
#define WALL_MOVES 1
#endif
#endif
#ifdef WALL_MOVES

static _Atomic int64_t wall_offset;
static _Atomic int wall_reads, wall_moved;

static int64_t wall_now(void)
{
    struct timespec now;

    syscall(SYS_clock_gettime, CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec + atomic_load(&wall_offset);
}

static void wall_read(struct timespec *at)
{
    int64_t now = wall_now();

    atomic_fetch_add(&wall_reads, 1);
    at->tv_sec = (time_t)(now / 1000000000);
    at->tv_nsec = (long)(now % 1000000000);
}

int clock_gettime(clockid_t id, struct timespec *at)
{
    if (id != CLOCK_REALTIME)
        return (int)syscall(SYS_clock_gettime, id, at);
    wall_read(at);
    return 0;
}

int timespec_get(struct timespec *at, int base)
{
    wall_read(at);
    return base;
}

#ifndef TWILL_USE_PTHREAD
static _Atomic int64_t longest_slice; /* asked of C11's wait while the wall moves */
/* As the system does it: the wait is over once the wall clock, steps and all, has come to `at`. */
int cnd_timedwait(cnd_t *restrict condition, mtx_t *restrict mutex,
                  const struct timespec *restrict at)
{
    pthread_cond_t *c = (pthread_cond_t *)(void *)condition; /* in glibc they are the same */
    pthread_mutex_t *m = (pthread_mutex_t *)(void *)mutex;
    struct timespec end;
    int64_t slice;
    int result = 0;

    if (!atomic_load(&wall_moved))
        return pthread_cond_timedwait(c, m, at) == ETIMEDOUT ? thrd_timedout : thrd_success;
    slice = (int64_t)at->tv_sec * 1000000000 + at->tv_nsec - wall_now();
    if (slice > atomic_load(&longest_slice))
        atomic_store(&longest_slice, slice);
    while (wall_now() < (int64_t)at->tv_sec * 1000000000 + at->tv_nsec) {
        syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &end);
        end.tv_nsec += 1000000;
        end.tv_sec += end.tv_nsec / 1000000000;
        end.tv_nsec %= 1000000000;
        result = pthread_cond_clockwait(c, m, CLOCK_MONOTONIC, &end);
        if (result != ETIMEDOUT)
            return thrd_success;
    }
    return thrd_timedout;
}
#endif

static _Atomic uint32_t stepping;

/* C11 knows no other timed wait than one on the wall clock: there a step back makes it late
   (park.h says so). */
static void step_the_wall_clock(void *arg)
{
    bool forward_only = false;

    (void)arg;
#if defined TWILL_NO_FUTEX && !defined TWILL_USE_PTHREAD
    forward_only = true;
#endif
    for (int i = 0; atomic_load(&stepping); i++) {
        atomic_fetch_add(&wall_offset, (forward_only || i % 2 ? 1 : -1) * (int64_t)TWILL_SEC(3600));
        twill_sleep(twill_within(TWILL_MS(3)));
    }
}

TEST(clock_steps_change_nothing)
{
    static const twill_ns durations[] = {TWILL_MS(1), TWILL_MS(10), TWILL_MS(50)};
    twill_cancel token = {{0}};
    twill__thrd stepper;

    atomic_store(&wall_moved, 1);
    atomic_store(&wall_reads, 0);
    atomic_store(&stepping, 1);
    go(&stepper, step_the_wall_clock, NULL);
    for (size_t i = 0; i < sizeof durations / sizeof durations[0]; i++) {
        _Atomic uint32_t word = 0;
        twill_ns end = twill_now() + durations[i];

        while (twill__park(&word, 0, end))
            continue;
        CHECK(twill_now() >= end);
        CHECK(twill_now() < end + LOOSE);
        end = twill_now() + durations[i];
        CHECK_EQ(twill_sleep((twill_until){end, &token}), TWILL_OK);
        CHECK(twill_now() >= end);
        CHECK(twill_now() < end + LOOSE);
    }
    atomic_store(&stepping, 0);
    twill__thread_join(&stepper);
#if defined TWILL_NO_FUTEX && !defined TWILL_USE_PTHREAD
    CHECK(atomic_load(&wall_reads) > 0); /* or this test has not tested anything */
    /* a step back makes one slice late, and nothing else */
    CHECK(atomic_load(&longest_slice) > 0 && atomic_load(&longest_slice) <= TWILL_MS(20));
#else
    CHECK_EQ(atomic_load(&wall_reads), 0);
#endif
    atomic_store(&wall_offset, 0);
    atomic_store(&wall_moved, 0);
}
#endif

/* ---- park and wake ---- */

TEST(park_looks_first)
{
    _Atomic uint32_t word = 5;
    twill_ns start = twill_now();

    CHECK(twill__park(&word, 4, 0));
    CHECK(twill__park(&word, 6, TWILL_FOREVER));
    CHECK(twill__park(&word, 6, start + TWILL_SEC(100)));
    CHECK(twill_now() - start < LOOSE);
}

TEST(park_until)
{
    static const twill_ns over[] = {1, -1, INT64_MIN, TWILL_SEC(1)};
    _Atomic uint32_t word = 0;

    for (size_t i = 0; i < sizeof over / sizeof over[0]; i++) {
        twill_ns start = twill_now();
        CHECK(!twill__park(&word, 0, over[i] < start ? over[i] : 1));
        CHECK(twill_now() - start < LOOSE);
    }
    for (int i = 0; i < 20; i++) {
        twill_ns end = twill_now() + (twill_ns)test_random_below(TWILL_MS(3));
        CHECK(!twill__park(&word, 0, end));
        CHECK(twill_now() >= end);
        CHECK(twill_now() < end + LOOSE);
    }
}

#ifdef TWILL_NO_FUTEX
/* Without a condition to wait on it comes back at once, and says whether there is time left. */
TEST(park_without_a_condition)
{
    _Atomic uint32_t word = 0;

    for (int how = 1; how <= 2; how++) {
        atomic_store(&conditions_fail, how);
        errno = 77;
        CHECK(twill__park(&word, 0, 0));
        CHECK(twill__park(&word, 0, TWILL_FOREVER));
        CHECK(twill__park(&word, 0, twill_now() + TWILL_SEC(100)));
        CHECK(!twill__park(&word, 0, 1));
        CHECK_EQ(errno, 77);
        atomic_store(&conditions_fail, 0);
    }
}
#endif

TEST(park_leaves_errno_alone)
{
    _Atomic uint32_t word = 0;

    errno = 77;
    twill__park(&word, 0, 1);
    CHECK_EQ(errno, 77);
    twill__park(&word, 1, 0);
    CHECK_EQ(errno, 77);
    twill__park(&word, 0, twill_now() + TWILL_US(100));
    CHECK_EQ(errno, 77);
    twill__wake(&word, INT_MAX);
    CHECK_EQ(errno, 77);
    (void)twill__generation();
    CHECK_EQ(errno, 77);
    (void)twill_cpus();
    CHECK_EQ(errno, 77);
}

struct gate {
    _Atomic uint32_t word, asleep, awake, open;
};

static void sleep_at_gate(void *arg)
{
    struct gate *gate = arg;

    atomic_fetch_add(&gate->asleep, 1);
    while (!atomic_load(&gate->open)) {
        twill__park(&gate->word, 0, 0);
        if (!atomic_load(&gate->open))
            atomic_fetch_add(&gate->awake, 1);
    }
}

static uint32_t awake_after(struct gate *gate, uint32_t least)
{
    twill_ns end = twill_now() + LOOSE;

    while (atomic_load(&gate->awake) < least && twill_now() < end)
        twill__yield();
    twill_sleep(twill_within(TWILL_MS(5))); /* would more of them wake? */
    return atomic_load(&gate->awake);
}

/* The value does not change here: who comes back has been woken. */
TEST(wake_wakes_as_many_as_asked)
{
    struct gate gate = {0, 0, 0, 0};
    twill__thrd threads[5];

    for (int i = 0; i < 5; i++)
        go(&threads[i], sleep_at_gate, &gate);
    while (atomic_load(&gate.asleep) < 5)
        twill__yield();
    twill_sleep(twill_within(TWILL_MS(20)));
    twill__wake(&gate.open, INT_MAX); /* another address */
    CHECK_EQ(awake_after(&gate, 0), 0);
    twill__wake(&gate.word, 1);
    CHECK_EQ(awake_after(&gate, 1), 1);
    twill__wake(&gate.word, 2);
    CHECK_EQ(awake_after(&gate, 3), 3);
    twill__wake(&gate.word, INT_MAX);
    CHECK_EQ(awake_after(&gate, 8), 8);
    atomic_store(&gate.open, 1);
    set(&gate.word, 1);
    for (int i = 0; i < 5; i++)
        twill__thread_join(&threads[i]);
}

/* A wake may come after its word's memory has gone: the address is a key, and is never read. */
TEST(wake_on_memory_that_is_gone)
{
    _Atomic uint32_t *page =
        mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (!CHECK(page != MAP_FAILED))
        return;
    twill__wake(page, 1);
    CHECK_EQ(munmap(page, 65536), 0);
    errno = 5;
    twill__wake(page, 1);
    twill__wake(page, INT_MAX);
    CHECK_EQ(errno, 5);
}

struct pair {
    _Atomic uint32_t word;
    uint32_t rounds, turns[2];
};

/* One takes the even numbers, one the odd ones. */
static void play(struct pair *pair, uint32_t side)
{
    for (uint32_t seen; (seen = atomic_load(&pair->word)) < pair->rounds;) {
        if (seen % 2 != side) {
            twill__park(&pair->word, seen, 0);
            continue;
        }
        pair->turns[side]++;
        atomic_store(&pair->word, seen + 1);
        twill__wake(&pair->word, 1);
    }
}

static void play_even(void *arg)
{
    play(arg, 0);
}

static void play_odd(void *arg)
{
    play(arg, 1);
}

TEST(ping_pong)
{
    enum { PAIRS = 4 };
    struct pair pairs[PAIRS];
    twill__thrd threads[PAIRS][2];

    for (int i = 0; i < PAIRS; i++) {
        pairs[i] = (struct pair){0, SANITIZED ? 1000 : 4000, {0, 0}};
        go(&threads[i][0], play_even, &pairs[i]);
        go(&threads[i][1], play_odd, &pairs[i]);
    }
    for (int i = 0; i < PAIRS; i++) {
        for (int side = 0; side < 2; side++) {
            twill__thread_join(&threads[i][side]);
            CHECK_EQ(pairs[i].turns[side], pairs[i].rounds / 2);
        }
    }
}

/* Many words at once, more of them than buckets: nobody is woken for another's sake, nobody is
   forgotten. */
TEST(many_words)
{
    enum { MANY = 70 };
    static struct gate gates[MANY];
    twill__thrd threads[MANY];

    for (int i = 0; i < MANY; i++)
        go(&threads[i], sleep_at_gate, &gates[i]);
    for (int i = 0; i < MANY; i++)
        while (!atomic_load(&gates[i].asleep))
            twill__yield();
    for (int i = MANY - 1; i >= 0; i--) {
        CHECK_EQ(atomic_load(&gates[i].awake), 0);
        atomic_store(&gates[i].open, 1);
        set(&gates[i].word, 1);
        twill__thread_join(&threads[i]);
    }
}

static twill_ns cpu_time(void)
{
    struct timespec used;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return (twill_ns)used.tv_sec * 1000000000 + used.tv_nsec;
}

struct idler {
    _Atomic uint32_t word, lock;
    twill_cancel token;
    int how;
    twill_ns used;
};

static void idle(void *arg)
{
    struct idler *idler = arg;
    twill_ns before = cpu_time();

    if (idler->how == 0) {
        while (!atomic_load(&idler->word))
            twill__park(&idler->word, 0, 0);
    } else if (idler->how == 1) {
        twill_sleep(twill_within_or_cancelled(TWILL_SEC(100), &idler->token));
    } else {
        twill__lock(&idler->lock);
        twill__unlock(&idler->lock);
    }
    idler->used = cpu_time() - before;
}

/* A thread that waits costs nothing: what it used is its way in and out, however long it waits. A
   virtual machine may bill a thread for time in which it was given no processor. */
static bool what_waits_costs_little(twill_ns ns)
{
    enum { KINDS = 3 };
    struct idler idlers[KINDS];
    twill__thrd threads[KINDS];
    bool little = true;

    for (int i = 0; i < KINDS; i++) {
        memset(&idlers[i], 0, sizeof idlers[i]);
        idlers[i].how = i;
        twill__lock(&idlers[i].lock);
        go(&threads[i], idle, &idlers[i]);
    }
    twill_sleep(twill_within(ns));
    for (int i = 0; i < KINDS; i++) {
        set(&idlers[i].word, 1);
        twill_cancel_fire(&idlers[i].token, 1);
        twill__unlock(&idlers[i].lock);
        twill__thread_join(&threads[i]);
        little = little && idlers[i].used < ns / 20;
    }
    return little;
}

TEST(waiting_costs_nothing)
{
    CHECK(test_in_time(TWILL_MS(200), what_waits_costs_little));
}

TEST(spin_ends)
{
    _Atomic uint32_t word = 3;
    twill_ns start = twill_now();

    CHECK(!twill__spin(&word, 3, TWILL__SPIN_WAIT, TWILL__SPIN_YIELDS));
    CHECK(twill__spin(&word, 4, TWILL__SPIN_WAIT, TWILL__SPIN_YIELDS));
    CHECK(!twill__spin(&word, 3, 0, 0));
    CHECK(twill_now() - start < LOOSE);
}

/* ---- signals ---- */

static _Atomic int signals;

static void on_signal(int number)
{
    (void)number;
    atomic_fetch_add(&signals, 1);
}

struct pestered {
    pthread_t thread;
    int number;
    _Atomic uint32_t *ready, *lock, *stop;
    struct pair *pair;
    unsigned *counter;
};

static void be_pestered(void *arg)
{
    struct pestered *me = arg;

    me->thread = pthread_self();
    atomic_fetch_add(me->ready, 1);
    if (me->number < 2) {
        play(me->pair, (uint32_t)me->number);
    } else if (me->number < 4) {
        for (int i = 0; i < 10; i++) {
            twill_until until = twill_within(TWILL_MS(3));
            CHECK_EQ(twill_sleep(until), TWILL_OK);
            CHECK(twill_now() >= until.deadline);
        }
        while (atomic_load(&signals) < 50) /* or this test has not tested anything */
            twill_sleep(twill_within(TWILL_MS(1)));
    } else {
        for (int i = 0; i < 2000; i++) {
            twill__lock(me->lock);
            *me->counter += 1;
            if (i % 16 == 0)
                twill__yield();
            twill__unlock(me->lock);
        }
    }
    atomic_fetch_add(me->stop, 1);
    while (atomic_load(me->stop) < 1000) /* stays, for pthread_kill, until all have ended */
        twill__park(me->stop, atomic_load(me->stop), 0);
}

/* Every wait is interrupted all the time (no SA_RESTART): nothing is lost, and nobody comes back
   too early. */
TEST(interrupted_waits)
{
    enum { THREADS = 7 };
    struct sigaction action, old;
    struct pestered pestered[THREADS];
    struct pair pair = {0, 400, {0, 0}};
    twill__thrd threads[THREADS];
    _Atomic uint32_t ready = 0, lock = 0, stop = 0;
    struct timespec pause = {0, 200000};
    unsigned counter = 0;

    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    sigaction(SIGUSR1, &action, &old);
    atomic_store(&signals, 0);
    for (int i = 0; i < THREADS; i++) {
        pestered[i] = (struct pestered){0, i, &ready, &lock, &stop, &pair, &counter};
        go(&threads[i], be_pestered, &pestered[i]);
    }
    while (atomic_load(&ready) < THREADS)
        twill__yield();
    while (atomic_load(&stop) < THREADS) {
        for (int i = 0; i < THREADS; i++)
            pthread_kill(pestered[i].thread, SIGUSR1);
        nanosleep(&pause, NULL);
    }
    set(&stop, 1000);
    for (int i = 0; i < THREADS; i++)
        twill__thread_join(&threads[i]);
    sigaction(SIGUSR1, &old, NULL);
    CHECK_EQ(pair.turns[0] + pair.turns[1], 400);
    CHECK_EQ(counter, 3 * 2000);
    CHECK_EQ(atomic_load(&lock), 0);
}

/* ---- the lock ---- */

struct counted {
    _Atomic uint32_t lock;
    int rounds;
    unsigned long plain, inside;
    bool yields;
};

static void count_up(void *arg)
{
    struct counted *counted = arg;

    for (int i = 0; i < counted->rounds; i++) {
        bool alone;

        twill__lock(&counted->lock);
        alone = counted->inside++ == 0;
        if (!alone)
            CHECK(alone);
        counted->plain++;
        if (counted->yields && i % 8 == 0)
            twill__yield();
        counted->inside--;
        twill__unlock(&counted->lock);
    }
}

static void count_with(unsigned threads, int rounds, bool yields)
{
    struct counted counted = {0, rounds, 0, 0, yields};
    twill__thrd thread[16];

    for (unsigned i = 0; i < threads; i++)
        go(&thread[i], count_up, &counted);
    for (unsigned i = 0; i < threads; i++)
        twill__thread_join(&thread[i]);
    CHECK_EQ(counted.plain, (unsigned long)rounds * threads);
    CHECK_EQ(atomic_load(&counted.lock), 0);
}

TEST(lock_excludes)
{
    count_with(4, SANITIZED ? 5000 : 40000, false);
}

TEST(lock_oversubscribed)
{
    count_with(16, SANITIZED ? 300 : 2000, true);
}

TEST(lock_counts_who_waits)
{
    struct counted counted = {0, 1, 0, 0, false};
    twill__thrd threads[3];

    twill__lock(&counted.lock);
    CHECK(!twill__lock_wanted(&counted.lock));
    CHECK_EQ(atomic_load(&counted.lock), 1);
    for (int i = 0; i < 3; i++) {
        go(&threads[i], count_up, &counted);
        while (atomic_load(&counted.lock) / TWILL__WAITER <= (uint32_t)i)
            twill__yield();
        CHECK(twill__lock_wanted(&counted.lock));
        CHECK_EQ(atomic_load(&counted.lock), TWILL__WAITER * (i + 1) + TWILL__HELD);
    }
    CHECK_EQ(counted.plain, 0);
    twill__unlock(&counted.lock);
    for (int i = 0; i < 3; i++)
        twill__thread_join(&threads[i]);
    CHECK_EQ(counted.plain, 3);
    CHECK_EQ(atomic_load(&counted.lock), 0);
}

/* The last one to hold the lock frees it: an unlock must not touch the word after it has let go. */
struct shared {
    _Atomic uint32_t lock;
    int users;
};

static void leave_shared(void *arg)
{
    struct shared *shared = arg;
    bool last;

    twill__lock(&shared->lock);
    last = --shared->users == 0;
    twill__unlock(&shared->lock);
    if (last)
        free(shared);
}

TEST(lock_goes_with_its_memory)
{
    for (int round = 0; round < (SANITIZED ? 60 : 150); round++) {
        struct shared *shared = calloc(1, sizeof *shared);
        twill__thrd threads[3];

        if (!CHECK(shared != NULL))
            return;
        shared->users = 3;
        for (int i = 0; i < 3; i++)
            go(&threads[i], leave_shared, shared);
        for (int i = 0; i < 3; i++)
            twill__thread_join(&threads[i]);
    }
}

/* The same of the one that a store lets go. */
struct lightly {
    twill__light_lock lock;
    int users, rounds;
    unsigned long plain;
};

static void count_lightly(void *arg)
{
    struct lightly *lightly = arg;
    int rounds = lightly->rounds; /* behind the last unlock another one may free it */
    bool last = false;

    for (int i = 0; i < rounds; i++) {
        twill__light_take(&lightly->lock, 0);
        lightly->plain++;
        last = i == rounds - 1 && --lightly->users == 0;
        twill__light_unlock(&lightly->lock);
    }
    if (last) {
        CHECK_EQ(lightly->plain, 4ul * (unsigned long)rounds);
        free(lightly);
    }
}

TEST(light_lock_excludes_and_goes_with_its_memory)
{
    for (int rounds = 1; rounds <= (SANITIZED ? 1000 : 10000); rounds *= 10) {
        struct lightly *lightly = calloc(1, sizeof *lightly);
        twill__thrd threads[4];

        if (!CHECK(lightly != NULL))
            return;
        lightly->users = 4;
        lightly->rounds = rounds;
        for (int i = 0; i < 4; i++)
            go(&threads[i], count_lightly, lightly);
        for (int i = 0; i < 4; i++)
            twill__thread_join(&threads[i]);
    }
}

TEST(light_lock_counts_who_waits)
{
    struct lightly lightly = {.users = 9, .rounds = 1};
    twill__thrd threads[3];

    CHECK(twill__light_try(&lightly.lock));
    CHECK(!twill__light_try(&lightly.lock));
    CHECK(!twill__light_wanted(&lightly.lock));
    for (int i = 0; i < 3; i++) {
        go(&threads[i], count_lightly, &lightly);
        while (atomic_load(&lightly.lock.waiters) / TWILL__WAITER <= (uint32_t)i)
            twill__yield();
        CHECK(twill__light_wanted(&lightly.lock));
    }
    CHECK_EQ(lightly.plain, 0);
    CHECK_EQ(atomic_load(&lightly.lock.word), TWILL__HELD);
    twill__light_unlock(&lightly.lock);
    for (int i = 0; i < 3; i++)
        twill__thread_join(&threads[i]);
    CHECK_EQ(lightly.plain, 3);
    CHECK_EQ(lightly.users, 6);
    CHECK_EQ(atomic_load(&lightly.lock.waiters), 0);
    /* each who let go while somebody waited has woken one of them, or one was awake already */
    CHECK(atomic_load(&lightly.lock.word) >= TWILL__LIGHT_WOKEN);
    CHECK(atomic_load(&lightly.lock.word) <= 3 * TWILL__LIGHT_WOKEN);
}

/* ---- threads ---- */

struct facts {
    char name[32];
    size_t stack;
    cpu_set_t cpus;
    uint64_t number;
};

static void tell_facts(void *arg)
{
    struct facts *facts = arg;
    pthread_attr_t attributes;
    void *base;

    prctl(PR_GET_NAME, (unsigned long)(uintptr_t)facts->name, 0ul, 0ul, 0ul);
    CPU_ZERO(&facts->cpus);
    CHECK_EQ(sched_getaffinity(0, sizeof facts->cpus, &facts->cpus), 0);
    if (CHECK_EQ(pthread_getattr_np(pthread_self(), &attributes), 0)) {
        pthread_attr_getstack(&attributes, &base, &facts->stack);
        pthread_attr_destroy(&attributes);
    }
    facts->number = twill__thread_number();
    CHECK_EQ(twill__thread_number(), facts->number);
}

TEST(thread_name)
{
    twill__thrd thread;
    struct facts facts;

    prepare(&thread, tell_facts, &facts);
    twill__thread_name(&thread, "short");
    CHECK(twill__thread_start(&thread));
    twill__thread_join(&thread);
    CHECK_STR(facts.name, "short");
    prepare(&thread, tell_facts, &facts);
    twill__thread_name(&thread, "a name that is too long for Linux");
    CHECK(twill__thread_start(&thread));
    twill__thread_join(&thread);
    CHECK_STR(facts.name, "a name that is ");
    CHECK_EQ(atomic_load(&thread.flags), 0);
}

TEST(thread_stack_size)
{
    /* glibc may hand out a larger stack that it has kept; one beyond the default of 8 MB tells. */
    static const size_t sizes[] = {256 * 1024, 1024 * 1024, 24 * 1024 * 1024};
    twill__thrd thread;
    struct facts facts;

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        prepare(&thread, tell_facts, &facts);
        thread.stack_size = sizes[i];
        CHECK(twill__thread_start(&thread));
        twill__thread_join(&thread);
        CHECK(facts.stack >= sizes[i]);
        CHECK_EQ(atomic_load(&thread.flags), 0);
    }
    prepare(&thread, tell_facts, &facts);
    thread.stack_size = 1; /* impossible: it runs on the default, and says so */
    CHECK(twill__thread_start(&thread));
    twill__thread_join(&thread);
    CHECK_EQ(atomic_load(&thread.flags), TWILL_REPORT_NO_STACK_SIZE);
}

TEST(thread_affinity)
{
    twill__thrd thread;
    struct facts facts;
    cpu_set_t mine;
    unsigned cpu = 0;

    CPU_ZERO(&mine);
    CHECK_EQ(sched_getaffinity(0, sizeof mine, &mine), 0);
    for (; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &mine))
            continue;
        prepare(&thread, tell_facts, &facts);
        thread.cpu = cpu;
        CHECK(twill__thread_start(&thread));
        twill__thread_join(&thread);
        CHECK_EQ(CPU_COUNT(&facts.cpus), 1);
        CHECK(CPU_ISSET(cpu, &facts.cpus));
        CHECK_EQ(atomic_load(&thread.flags), 0);
    }
    for (size_t i = 0; i < 2; i++) {
        prepare(&thread, tell_facts, &facts);
        thread.cpu = i ? 8191 : 200000; /* no such CPU; beyond any mask */
        CHECK(twill__thread_start(&thread));
        twill__thread_join(&thread);
        CHECK_EQ(atomic_load(&thread.flags), TWILL_REPORT_NO_AFFINITY);
        CHECK(CPU_EQUAL(&facts.cpus, &mine));
    }
}

#if TWILL__TICKS
TEST(ticks_are_told_as_time)
{
    uint64_t first, last, rate = twill__ticks_per_ms();
    twill_ns since, now, told;

    twill__ticks_and_clock(&first, &since);
    (void)twill_sleep(twill_within(TWILL_MS(20)));
    twill__ticks_and_clock(&last, &now);
    told = twill__time_of_ticks(last - first);
    /* loose: the rate is measured in 20 us, where a reading of the clock may take 1 */
    CHECK(told > (now - since) / 100 * 85 && told < (now - since) / 100 * 115);
    /* a counter of 24 MHz: not rounded to whole ticks a microsecond */
    atomic_store(&twill__process()->tick_rate, 25166);
    told = twill__time_of_ticks(24000000);
    CHECK(told > TWILL_US(999900) && told < TWILL_US(1000100));
    CHECK_EQ(twill__ticks_per_us(), 25);
    atomic_store(&twill__process()->tick_rate, rate);
}
#endif

/* Anchors are taken from outside: here is a counter of 2 ticks a nanosecond. */
TEST(a_tempo_is_known_from_anchors_far_apart)
{
    const twill_ns at = TWILL_SEC(1000), far = TWILL_MS(100);
    const uint64_t tick = UINT64_C(1) << 40;
    twill__tempo tempo = {0};

    CHECK(!twill__tempo_anchor(&tempo, at, tick - 40, tick)); /* the first one */
    /* so near that the widths of the readings are an error of a fifth */
    CHECK(!twill__tempo_anchor(&tempo, at + 120, tick + 160, tick + 200));
    CHECK_EQ(tempo.factor, 0);
    CHECK(twill__tempo_anchor(&tempo, at + far, tick + 2 * (uint64_t)far - 40,
                              tick + 2 * (uint64_t)far));
    CHECK_EQ(tempo.factor, TWILL__TEMPO_ONE / 2);
    /* near the last one again, and by an interrupted reading: the tempo stays, but is not good
       enough with that one */
    CHECK(twill__tempo_anchor(&tempo, at + far + 50, tick + 2 * (uint64_t)far + 60,
                              tick + 2 * (uint64_t)far + 100));
    CHECK(!twill__tempo_anchor(&tempo, at + far + 50, tick + 2 * (uint64_t)far,
                               tick + 2 * (uint64_t)far + 2000));
    CHECK(tempo.factor >= TWILL__TEMPO_ONE / 2 - TWILL__TEMPO_ONE / TWILL__TEMPO_APART &&
          tempo.factor <= TWILL__TEMPO_ONE / 2 + TWILL__TEMPO_ONE / TWILL__TEMPO_APART);
    /* the counter has jumped: nothing is known then, and anew from the anchor after it on */
    CHECK(!twill__tempo_anchor(&tempo, at + far + 100, tick + (UINT64_C(1) << 36) - 40,
                               tick + (UINT64_C(1) << 36)));
    CHECK_EQ(tempo.factor, 0);
    CHECK(twill__tempo_anchor(&tempo, at + 2 * far + 100,
                              tick + (UINT64_C(1) << 36) + 2 * (uint64_t)far - 40,
                              tick + (UINT64_C(1) << 36) + 2 * (uint64_t)far));
    CHECK_EQ(tempo.factor, TWILL__TEMPO_ONE / 2);
    /* the clock has jumped */
    CHECK(!twill__tempo_anchor(&tempo, at + TWILL_SEC(100), tick + (UINT64_C(1) << 36) + 600,
                               tick + (UINT64_C(1) << 36) + 640));
    CHECK_EQ(tempo.factor, 0);
    /* a reading that took a tenth of a second is none */
    tempo = (twill__tempo){.factor = 5, .tick = 6, .width = 7, .clock = 8};
    CHECK(!twill__tempo_anchor(&tempo, at, tick - TWILL__TEMPO_LONG, tick));
    CHECK(tempo.factor == 5 && tempo.tick == 6 && tempo.width == 7 && tempo.clock == 8);
    /* a counter that ticks once in 2 ns is too slow */
    tempo = (twill__tempo){0};
    CHECK(!twill__tempo_anchor(&tempo, at, tick - 4, tick));
    CHECK(!twill__tempo_anchor(&tempo, at + far, tick + (uint64_t)far / 2 - 4,
                               tick + (uint64_t)far / 2));
    CHECK_EQ(tempo.factor, 2 * TWILL__TEMPO_ONE);
}

TEST(thread_creation_fails)
{
    twill__thrd thread;
    struct facts facts;

    prepare(&thread, tell_facts, &facts);
    errno = 33;
    faults_fail_thread(1);
    CHECK(!twill__thread_start(&thread));
    faults_fail_thread(0);
    CHECK_EQ(errno, 33);
    CHECK_EQ(faults_threads(), 1);
    /* Some sanitizers end the program where the system only says no; 32 bits may have the room. */
    if (SANITIZED || SIZE_MAX <= UINT32_MAX)
        return;
    prepare(&thread, tell_facts, &facts);
    thread.stack_size = SIZE_MAX / 4 / 65536 * 65536; /* the system itself refuses */
    CHECK(!twill__thread_start(&thread));
    CHECK_EQ(errno, 33);
}

TEST(thread_numbers)
{
    enum { THREADS = 8 };
    twill__thrd threads[THREADS];
    struct facts facts[THREADS];
    uint64_t mine = twill__thread_number();

    CHECK(mine > 0);
    /* begins where the state of the process stands, which no other copy of the library does */
    CHECK(mine - twill__thread_number_of((uintptr_t)twill__process(), 0) < 65536);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < THREADS; i++)
            go(&threads[i], tell_facts, &facts[i]);
        for (int i = 0; i < THREADS; i++) {
            twill__thread_join(&threads[i]);
            CHECK(facts[i].number > mine); /* never one that was given before */
            for (int k = 0; k < i; k++)
                CHECK(facts[i].number != facts[k].number);
        }
        for (int i = 0; i < THREADS; i++)
            mine = facts[i].number > mine ? facts[i].number : mine;
    }
    CHECK(twill__thread_number() < mine);
    mine = twill__thread_number();
    *twill__thread_number_copy() =
        0; /* that of another file of the program, which has not asked yet */
    CHECK_EQ(twill__thread_number(), mine);
}

/* Of two copies of the library, wherever they stand: on arm64 a program does at 0xaaaa..., and its
   libraries at 0xffff... */
TEST(thread_numbers_of_two_copies)
{
    static const uint64_t places[] = {0x1000, 0x8049000, 0xf7ff8000, 0x555555554000, 0xaaaaaaaaa000,
                                      0xffffffff6000, 0xfffffffffffff000};
    enum { PLACES = sizeof places / sizeof places[0] };

    for (int i = 0; i < PLACES; i++) {
        uintptr_t place = (uintptr_t)places[i];
        uint64_t last = twill__thread_number_of(place, 100000000);
        CHECK_EQ(last * 2 / 2, last); /* as resource_pool signs with it */
        CHECK(last - twill__thread_number_of(place + 4096, 1) > 100000000);
        for (int k = 0; k < i; k++)
            CHECK(place == (uintptr_t)places[k] ||
                  last - twill__thread_number_of((uintptr_t)places[k], 100000000) > 100000000);
    }
}

/* ---- a fence that one side pays for ---- */

enum { ROUNDS = 400 };
static _Atomic uint32_t light_word, heavy_word, light_round, heavy_round;
static uint32_t light_saw[ROUNDS + 1];

static void pass_lightly(void *unused)
{
    (void)unused;
    for (uint32_t round = 1; round <= ROUNDS; round++) {
        while (atomic_load_explicit(&heavy_round, memory_order_acquire) != round)
            twill__yield();
        atomic_store_explicit(&light_word, round, memory_order_relaxed);
        twill__fence_light();
        light_saw[round] = atomic_load_explicit(&heavy_word, memory_order_relaxed);
        atomic_store_explicit(&light_round, round, memory_order_release);
    }
}

/* Of two that store and then look, one sees the other. */
TEST(fences_light_and_heavy)
{
    twill__thrd thread;
    if (!twill__fence_offered()) {
        CHECK(twill__membarrier(TWILL__MEMBARRIER_REGISTER) != 0);
        return;
    }
    go(&thread, pass_lightly, NULL);
    for (uint32_t round = 1; round <= ROUNDS; round++) {
        uint32_t saw;
        atomic_store_explicit(&heavy_round, round, memory_order_release);
        atomic_store_explicit(&heavy_word, round, memory_order_relaxed);
        errno = 33;
        CHECK(twill__fence_heavy());
        CHECK_EQ(errno, 33);
        saw = atomic_load_explicit(&light_word, memory_order_relaxed);
        while (atomic_load_explicit(&light_round, memory_order_acquire) != round)
            twill__yield();
        CHECK(saw == round || light_saw[round] == round);
    }
    twill__thread_join(&thread);
    CHECK(twill__fence_offered());
}

TEST(doze_lasts)
{
    twill_ns begun = twill_now();
    twill__doze(TWILL_MS(2));
    CHECK(twill_now() - begun >= TWILL_MS(2));
}

/* ---- a callback that ends its thread ---- */

struct frame {
    unsigned char canary[4000];
    _Atomic uint32_t ended;
    int normal, by_pthread;
    bool intact;
    twill__thrd helper;
};

static void overwrite_stack(void)
{
    volatile unsigned char pad[6000];

    for (size_t i = 0; i < sizeof pad; i++)
        pad[i] = 0x77;
}

/* Somebody who uses the caller's frame while it ends, as the helpers of a call do. */
static void use_frame(void *arg)
{
    struct frame *frame = arg;

    twill_sleep(twill_within(TWILL_MS(3)));
    memset(frame->canary, 0x22, sizeof frame->canary / 2);
}

static void on_end(void *arg)
{
    struct frame *frame = arg;

    overwrite_stack();
    twill__thread_join(&frame->helper);
    frame->intact = true;
    for (size_t i = 0; i < sizeof frame->canary; i++)
        if (frame->canary[i] != (i < sizeof frame->canary / 2 ? 0x22 : 0x11))
            frame->intact = false;
    atomic_fetch_add(&frame->ended, 1);
}

static void end_deep_inside(int depth, const struct frame *frame)
{
    volatile unsigned char pad[300];

    memset((void *)(uintptr_t)pad, depth, sizeof pad);
    if (depth > 0) {
        end_deep_inside(depth - 1, frame);
        return;
    }
    if (frame->normal)
        return;
#ifndef TWILL_USE_PTHREAD
    if (!frame->by_pthread)
        thrd_exit(3);
#endif
    pthread_exit(NULL);
}

static struct {
    bool intact;
    uint32_t ended;
    int after;
} guard_seen;

static void report_end(void *arg)
{
    struct frame *frame = arg;

    on_end(frame);
    guard_seen.intact = frame->intact;
    guard_seen.ended = atomic_load(&frame->ended);
}

static void guarded(void *arg)
{
    const struct frame *how = arg;
    struct frame frame;

    memset(&frame, 0, sizeof frame);
    memset(frame.canary, 0x11, sizeof frame.canary);
    frame.normal = how->normal;
    frame.by_pthread = how->by_pthread;
    go(&frame.helper, use_frame, &frame);
    TWILL__GUARD_PUSH(report_end, &frame);
    end_deep_inside(3, &frame);
    TWILL__GUARD_POP(0);
    twill__thread_join(&frame.helper);
    guard_seen.after = 1;
}

TEST(guard_catches_the_end_of_a_thread)
{
    for (int by_pthread = 0; by_pthread < 2; by_pthread++) {
        static struct frame how;
        twill__thrd thread;

        how.by_pthread = by_pthread;
        how.normal = 0;
        memset(&guard_seen, 0, sizeof guard_seen);
        prepare(&thread, guarded, &how);
        CHECK(twill__thread_start(&thread));
        twill__thread_join(&thread);
        CHECK_EQ(guard_seen.ended, 1);
        CHECK(guard_seen.intact);
        CHECK_EQ(guard_seen.after, 0);
    }
}

TEST(guard_is_silent_on_a_normal_end)
{
    static struct frame how;
    twill__thrd thread;

    how.normal = 1;
    memset(&guard_seen, 0, sizeof guard_seen);
    go(&thread, guarded, &how);
    twill__thread_join(&thread);
    CHECK_EQ(guard_seen.ended, 0);
    CHECK_EQ(guard_seen.after, 1);
}

static void guard_twice(void *arg)
{
    TWILL__GUARD_PUSH(report_end, arg);
    overwrite_stack();
    TWILL__GUARD_POP(1);
}

TEST(guard_runs_when_asked)
{
    static struct frame frame;

    go(&frame.helper, use_frame, &frame);
    atomic_store(&frame.ended, 0);
    memset(&guard_seen, 0, sizeof guard_seen);
    guard_twice(&frame);
    CHECK_EQ(guard_seen.ended, 1);
}

/* ---- fork ---- */

static int in_child(body *fn, void *arg, bool by_clone)
{
    int status = -1;
    pid_t child = by_clone ? (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) : fork();

    if (child == 0) {
        alarm(20);
        fn(arg);
        _exit(0);
    }
    if (!CHECK(child > 0))
        return -1;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    CHECK_EQ(status, 0);
    return status;
}

struct line {
    uint32_t generation;
    int depth;
};

static void check_generation(void *arg)
{
    struct line *line = arg, next;

    CHECK_EQ(twill__generation(), line->generation + 1);
    CHECK_EQ(twill__generation(), line->generation + 1);
    next = (struct line){twill__generation(), line->depth - 1};
    if (next.depth > 0)
        in_child(check_generation, &next, false);
    CHECK_EQ(twill__generation(), next.generation);
}

TEST(generation_counts_forks)
{
    struct line line = {twill__generation(), 3};

    CHECK(line.generation > 0);
    in_child(check_generation, &line, false);
    in_child(check_generation, &line, false); /* its sister has the same number */
    CHECK_EQ(twill__generation(), line.generation);
}

static void fork_again_unused(void *arg)
{
    in_child(check_generation, arg, false);
}

/* A child that never asked: its own child is only one generation on, and that is enough to tell. */
TEST(generation_of_a_grandchild)
{
    struct line line = {twill__generation(), 1};

    in_child(fork_again_unused, &line, false);
}

TEST(generation_sees_a_bare_clone)
{
    struct line line = {twill__generation(), 1};

    if (atomic_load(&twill__process()->mark) == &twill__process()->own_mark)
        SKIP("no page that the kernel wipes: a bare clone goes unseen");
#ifdef TWILL__UNDER_TSAN
    SKIP("ThreadSanitizer must see a fork");
#endif
    in_child(check_generation, &line, true);
}

struct busy {
    _Atomic uint32_t word, lock, stop, ready;
};

static void keep_busy(void *arg)
{
    struct busy *busy = arg;

    atomic_fetch_add(&busy->ready, 1);
    while (!atomic_load(&busy->stop)) {
        twill__park(&busy->word, 0, twill_now() + TWILL_US(50));
        twill__wake(&busy->word, 1);
    }
}

static void park_in_child(void *arg)
{
    struct busy *busy = arg;
    twill_ns end = twill_now() + TWILL_MS(1);

    CHECK(!twill__park(&busy->word, 0, end));
    CHECK(twill_now() >= end);
    twill__wake(&busy->word, INT_MAX);
    CHECK_EQ(twill_sleep(twill_within(TWILL_US(100))), TWILL_OK);
    twill__lock(&busy->lock);
    twill__unlock(&busy->lock);
}

#ifndef TWILL__UNDER_TSAN /* starts no thread in the child of a program with threads */
static void thread_in_child(void *arg)
{
    twill__thrd thread;
    struct gate gate = {0, 0, 0, 0};

    park_in_child(arg);
    go(&thread, sleep_at_gate, &gate);
    twill_sleep(twill_within(TWILL_MS(1)));
    atomic_store(&gate.open, 1);
    set(&gate.word, 1);
    twill__thread_join(&thread);
}
#else
#define thread_in_child park_in_child
#endif

/* Forked while other threads park and wake all the time: whatever they held does not exist in
   the child. */
TEST(forked_child_parks)
{
    for (int round = 0; round < 10; round++) {
        struct busy busy = {0, 0, 0, 0};
        twill__thrd threads[3];

        for (int i = 0; i < 3; i++)
            go(&threads[i], keep_busy, &busy);
        while (atomic_load(&busy.ready) < 3)
            twill__yield();
        in_child(round % 2 ? park_in_child : thread_in_child, &busy, false);
        atomic_store(&busy.stop, 1);
        for (int i = 0; i < 3; i++)
            twill__thread_join(&threads[i]);
    }
}

#ifdef TWILL_NO_FUTEX
static void hold_bucket(void *arg)
{
    struct busy *busy = arg;
    twill__bucket *bucket = twill__bucket_of(&busy->word);

    TWILL__MUTEX_LOCK(&bucket->mutex);
    atomic_store(&busy->ready, 1);
    while (!atomic_load(&busy->stop))
        twill__yield();
    TWILL__MUTEX_UNLOCK(&bucket->mutex);
}

/* The same, made sure: at the fork a thread holds the very mutex that the child will need. */
TEST(forked_child_makes_the_table_anew)
{
    struct busy busy = {0, 0, 0, 0};
    twill__thrd thread;

    go(&thread, hold_bucket, &busy);
    while (!atomic_load(&busy.ready))
        twill__yield();
    in_child(park_in_child, &busy, false);
    atomic_store(&busy.stop, 1);
    twill__thread_join(&thread);
}
#endif

/* ---- how many CPUs ---- */

/* A folder of our own in place of the system's root; paths made in it, to be removed in reverse
   order. */
static char made[40][256], root[256], home[4096];
static int made_count;

static bool enter_root(void)
{
    snprintf(root, sizeof root, "%s/twill_XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : P_tmpdir);
    made_count = 0;
    return CHECK(getcwd(home, sizeof home) != NULL) && CHECK(mkdtemp(root) != NULL) &&
           CHECK_EQ(chdir(root), 0);
}

static void clear_root(void)
{
    while (made_count > 0)
        CHECK_EQ(remove(made[--made_count]), 0);
}

static void leave_root(void)
{
    clear_root();
    CHECK_EQ(chdir(home), 0);
    CHECK_EQ(rmdir(root), 0);
    (void)twill_cpus(); /* what spins ask is the real number again */
}

/* Writes a file below the root, with its folders. */
static void put(const char *path, const char *text)
{
    char part[256];
    FILE *file;

    for (size_t i = 0; path[i]; i++) {
        memcpy(part, path, i);
        part[i] = '\0';
        if (i > 0 && path[i] == '/' && mkdir(part, 0777) == 0)
            strcpy(made[made_count++], part);
    }
    file = fopen(path, "w");
    if (!CHECK(file != NULL))
        return;
    if (access(path, F_OK) == 0)
        strcpy(made[made_count++], path);
    fputs(text, file);
    fclose(file);
}

#define CGROUP "proc/self/cgroup"
#define V2     "sys/fs/cgroup"
#define V1     "sys/fs/cgroup/cpu,cpuacct"

TEST(cgroup_absent)
{
    if (!enter_root())
        return;
    CHECK_EQ(twill__cgroup_cpus(), 0);
    put(CGROUP, "");
    CHECK_EQ(twill__cgroup_cpus(), 0);
    clear_root();
    put(CGROUP, "no colon at all\n:\n::\n1:cpu\n\n0::\n");
    CHECK_EQ(twill__cgroup_cpus(), 0);
    clear_root();
    put(CGROUP, "0::/user.slice/session\n4:cpu,cpuacct:/x\n"); /* and no file that says more */
    CHECK_EQ(twill__cgroup_cpus(), 0);
    CHECK(twill_cpus() >= 1);
    leave_root();
}

/* What a cpu.max says of the root group. */
static unsigned cpus_of_max(const char *text)
{
    unsigned cpus;

    put(CGROUP, "0::/\n");
    put(V2 "/cpu.max", text);
    cpus = twill__cgroup_cpus();
    clear_root();
    return cpus;
}

TEST(cgroup_v2_values)
{
    if (!enter_root())
        return;
    CHECK_EQ(cpus_of_max("max 100000\n"), 0);
    CHECK_EQ(cpus_of_max("200000 100000\n"), 2);
    CHECK_EQ(cpus_of_max("299999 100000\n"), 2); /* rounded down */
    CHECK_EQ(cpus_of_max("400000 100000"), 4);
    CHECK_EQ(cpus_of_max("50000 100000\n"), 1); /* below one CPU: one */
    CHECK_EQ(cpus_of_max("1 1000000\n"), 1);
    CHECK_EQ(cpus_of_max("30000 10000\n"), 3);
    CHECK_EQ(cpus_of_max("0 100000\n"), 0);
    CHECK_EQ(cpus_of_max("-1 100000\n"), 0);
    CHECK_EQ(cpus_of_max("100000 0\n"), 0);
    CHECK_EQ(cpus_of_max("100000 -5\n"), 0);
    CHECK_EQ(cpus_of_max("100000\n"), 0);
    CHECK_EQ(cpus_of_max(""), 0);
    CHECK_EQ(cpus_of_max("\n"), 0);
    CHECK_EQ(cpus_of_max("rubbish and more\n"), 0);
    CHECK_EQ(cpus_of_max("9223372036854775807 1\n"), INT_MAX);
    leave_root();
}

TEST(cgroup_v2_nested)
{
    if (!enter_root())
        return;
    put(CGROUP, "0::/a/b/c\n");
    put(V2 "/a/b/c/cpu.max", "800000 100000\n");
    CHECK_EQ(twill__cgroup_cpus(), 8);
    put(V2 "/a/b/cpu.max", "max 100000\n");
    CHECK_EQ(twill__cgroup_cpus(), 8);
    put(V2 "/a/cpu.max", "300000 100000\n"); /* a limit above binds, too */
    CHECK_EQ(twill__cgroup_cpus(), 3);
    put(V2 "/cpu.max", "500000 100000\n");
    CHECK_EQ(twill__cgroup_cpus(), 3);
    clear_root();
    put(CGROUP, "0::/of/the/host\n"); /* in a container: the path is the host's, the root is ours */
    put(V2 "/cpu.max", "200000 100000\n");
    CHECK_EQ(twill__cgroup_cpus(), 2);
    leave_root();
}

TEST(cgroup_v1)
{
    if (!enter_root())
        return;
    put(CGROUP, "12:cpuset:/z\n4:cpu,cpuacct:/a/b\n1:name=systemd:/cpu\n");
    put(V1 "/a/b/cpu.cfs_quota_us", "250000\n");
    CHECK_EQ(twill__cgroup_cpus(), 0); /* no period: no limit */
    put(V1 "/a/b/cpu.cfs_period_us", "50000\n");
    CHECK_EQ(twill__cgroup_cpus(), 5);
    put(V1 "/a/cpu.cfs_quota_us", "-1\n");
    put(V1 "/a/cpu.cfs_period_us", "100000\n");
    CHECK_EQ(twill__cgroup_cpus(), 5);
    put(V1 "/cpu.cfs_quota_us", "20000\n");
    put(V1 "/cpu.cfs_period_us", "100000\n");
    CHECK_EQ(twill__cgroup_cpus(), 1);
    clear_root();
    put(CGROUP, "4:cpuacct,cpu:/a\n"); /* the other order, and the link that most systems have */
    put(V2 "/cpu/a/cpu.cfs_quota_us", "700000\n");
    put(V2 "/cpu/a/cpu.cfs_period_us", "100000\n");
    CHECK_EQ(twill__cgroup_cpus(), 7);
    clear_root();
    put(CGROUP, "4:cpuset,cpuacct,net:/a\n"); /* none of them is "cpu" */
    put(V1 "/a/cpu.cfs_quota_us", "100000\n");
    put(V1 "/a/cpu.cfs_period_us", "100000\n");
    CHECK_EQ(twill__cgroup_cpus(), 0);
    clear_root();
    put(CGROUP, "4:cpu,cpuacct:/a\n0::/u\n"); /* both kinds: the tighter one */
    put(V1 "/a/cpu.cfs_quota_us", "600000\n");
    put(V1 "/a/cpu.cfs_period_us", "100000\n");
    put(V2 "/u/cpu.max", "200000 100000\n");
    CHECK_EQ(twill__cgroup_cpus(), 2);
    leave_root();
}

TEST(cgroup_long_path)
{
    static char text[3000] = "0::/";

    if (!enter_root())
        return;
    memset(text + 4, 'x', sizeof text - 5);
    put(CGROUP, text);
    put(V2 "/cpu.max", "100000 100000\n");
    CHECK(twill__cgroup_cpus() <= 1); /* cut or refused, but no harm */
    leave_root();
}

/* Affinity first, then the quota, at least 1; and the answer is the hint that spins ask for. */
TEST(cpus_of_affinity_and_quota)
{
    cpu_set_t all, one;
    unsigned many;

    CPU_ZERO(&all);
    CHECK_EQ(sched_getaffinity(0, sizeof all, &all), 0);
    if (!enter_root())
        return;
    many = (unsigned)CPU_COUNT(&all);
    CHECK_EQ(twill_cpus(), many);
    CHECK_EQ(twill__cpus_hint(), many);
    put(CGROUP, "0::/\n");
    put(V2 "/cpu.max", "100000000 1000\n"); /* 100000 CPUs */
    CHECK_EQ(twill_cpus(), many);
    clear_root();
    put(CGROUP, "0::/\n");
    put(V2 "/cpu.max", "10000 100000\n");
    CHECK_EQ(twill_cpus(), 1);
    CHECK_EQ(twill__cpus_hint(), 1);
    clear_root();
    CPU_ZERO(&one);
    for (size_t cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; cpu++)
        if (CPU_ISSET(cpu, &all))
            CPU_SET(cpu, &one);
    CHECK_EQ(sched_setaffinity(0, sizeof one, &one), 0);
    CHECK_EQ(twill_cpus(), 1);
    CHECK_EQ(sched_setaffinity(0, sizeof all, &all), 0);
    CHECK_EQ(twill_cpus(), many);
    leave_root();
}

/* ---- a terminal that is slow, or gone ---- */

#if TWILL__TERMINALS
static int slow_in, slow_out;   /* a pipe that does not block */
static atomic_int alarm_drains; /* at this alarm and later ones; 0: never */
static atomic_int alarm_count;
static twill_ns alarm_lasts;

static void on_slow_alarm(int number)
{
    twill_ns end = twill__clock_now() + alarm_lasts;
    int saved = errno;
    char block[4096];

    (void)number;
    if (atomic_fetch_add(&alarm_count, 1) + 1 >= atomic_load(&alarm_drains) &&
        atomic_load(&alarm_drains))
        while (read(slow_out, block, sizeof block) > 0)
            continue;
    while (twill__clock_now() < end)
        continue;
    errno = saved;
}

/* A full pipe, and an alarm in a millisecond; if its handler is quick, then each millisecond. */
static void slow_begin(int drains, twill_ns lasts, struct sigaction *old)
{
    const struct itimerval often = {{0, lasts ? 0 : 1000}, {0, 1000}};
    struct sigaction action = {.sa_handler = on_slow_alarm};
    char block[4096] = {0};
    int ends[2] = {0};

    CHECK(twill__pipe(ends));
    slow_out = ends[0];
    slow_in = ends[1];
    while (write(slow_in, block, sizeof block) > 0)
        continue;
    atomic_store(&alarm_count, 0);
    atomic_store(&alarm_drains, drains);
    alarm_lasts = lasts;
    sigaction(SIGALRM, &action, old);
    setitimer(ITIMER_REAL, &often, NULL);
}

static void slow_end(const struct sigaction *old)
{
    const struct itimerval never = {{0, 0}, {0, 0}};

    setitimer(ITIMER_REAL, &never, NULL);
    sigaction(SIGALRM, old, NULL);
    close(slow_in);
    close(slow_out);
}

/* Alarms that come while it is waited for make the wait no longer; not even those whose handler
   takes longer than that. */
TEST(alarms_do_not_lengthen_the_wait_for_a_terminal)
{
    struct sigaction old;
    twill_ns since;

    for (int slow = 0; slow < 2; slow++) {
        slow_begin(0, slow ? TWILL_MS(8) : 0, &old);
        since = twill__clock_now();
        CHECK(!twill__terminal_writable(slow_in, 5));
        CHECK(twill__clock_now() - since >= TWILL_MS(4));
        CHECK(twill__clock_now() - since < LOOSE);
        CHECK(atomic_load(&alarm_count) > 0);
        slow_end(&old);
    }
}

/* It waits where it must; else it writes nothing, or all, or stops if that is too slow. */
TEST(a_terminal_that_would_block_gets_all_or_little)
{
    struct sigaction old;
    static char much[300000];

    slow_begin(2, 0, &old);
    CHECK_EQ(twill__write_calmly(slow_in, much, sizeof much, true, false), TWILL__WROTE);
    slow_end(&old);
    slow_begin(1, 0, &old);
    while (atomic_load(&alarm_count) < 1)
        continue;
    CHECK_EQ(twill__write_calmly(slow_in, much, sizeof much, false, true), TWILL__WROTE);
    slow_end(&old);
    slow_begin(0, 0, &old);
    CHECK_EQ(twill__write_calmly(slow_in, "x", 1, false, false), TWILL__WROTE_NOT);
    CHECK_EQ(read(slow_out, much, 8192), 8192);
    CHECK_EQ(twill__write_calmly(slow_in, much, sizeof much, false, false), TWILL__WROTE_NOT);
    slow_end(&old);
}

/* A write that blocks, and is interrupted, goes on. */
TEST(a_write_goes_on_after_an_alarm)
{
    struct sigaction old;
    static char much[300000];

    slow_begin(3, 0, &old);
    CHECK_EQ(fcntl(slow_in, F_SETFL, 0), 0);
    CHECK_EQ(twill__write_calmly(slow_in, much, sizeof much, true, false), TWILL__WROTE);
    CHECK(atomic_load(&alarm_count) >= 3);
    slow_end(&old);
}

/* Nobody reads any more: with the signal, and where that is ignored. */
TEST(a_terminal_that_is_gone_is_told_by_its_answer)
{
    for (int ignored = 0; ignored < 2; ignored++) {
        void (*was)(int) = signal(SIGPIPE, ignored ? SIG_IGN : SIG_DFL);
        sigset_t pending;
        int ends[2] = {0};

        CHECK(twill__pipe(ends));
        close(ends[0]);
        CHECK_EQ(twill__write_calmly(ends[1], "x", 1, true, false), TWILL__WROTE_BROKEN);
        CHECK_EQ(sigpending(&pending), 0);
        CHECK(!sigismember(&pending, SIGPIPE));
        close(ends[1]);
        signal(SIGPIPE, was);
    }
}
#endif

HARNESS_MAIN
