/* posix.c: what POSIX has beside mutexes and conditions: semaphores, barriers, read-write and spin
   locks; used well and used badly. */
#include "corpus.h"

#include <pthread.h>
#include <semaphore.h>

static sem_t first, second;
static pthread_barrier_t meeting;
static pthread_rwlock_t shelf = PTHREAD_RWLOCK_INITIALIZER;
static pthread_spinlock_t spin;
static int books, seen[2], data;

/* ---- semaphores ---- */

BODY(add_one)
{
    (void)unused;
    assert(sem_wait(&first) == 0);
    data++;
    sem_post(&first);
    return 0;
}

static int sem_as_mutex(void)
{
    sem_init(&first, 0, 1);
    TOGETHER(add_one, add_one, add_one);
    sem_destroy(&first);
    return data != 3;
}

BODY(hand_over)
{
    (void)unused;
    data = 42;
    sem_post(&first);
    return 0;
}

BODY(receive)
{
    (void)unused;
    while (sem_wait(&first) != 0)
        assert(errno == EINTR);
    assert(data == 42);
    return 0;
}

static int sem_hands_over(void)
{
    sem_init(&first, 0, 0);
    TOGETHER(hand_over, receive);
    sem_destroy(&first);
    return 0;
}

BODY(both_ways)
{
    (void)unused;
    sem_wait(&first);
    sem_wait(&second);
    sem_post(&second);
    sem_post(&first);
    return 0;
}

BODY(the_other_way)
{
    (void)unused;
    sem_wait(&second);
    sem_wait(&first);
    sem_post(&first);
    sem_post(&second);
    return 0;
}

static int sem_circle(void)
{
    sem_init(&first, 0, 1);
    sem_init(&second, 0, 1);
    TOGETHER(both_ways, the_other_way);
    return 0;
}

/* A value of two lets two in. */
static int sem_lets_two_in(void)
{
    sem_init(&first, 0, 2);
    TOGETHER(add_one, add_one);
    return 0;
}

static int sem_timed_wait(void)
{
    struct timespec at;
    int value = -1;

    sem_init(&first, 0, 0);
    clock_gettime(CLOCK_REALTIME, &at);
    at.tv_sec++;
    assert(sem_timedwait(&first, &at) == -1 && errno == ETIMEDOUT);
    assert(sem_trywait(&first) == -1 && errno == EAGAIN);
    sem_post(&first);
    assert(sem_getvalue(&first, &value) == 0 && value == 1);
    assert(sem_timedwait(&first, &at) == 0);
    sem_destroy(&first);
    return 0;
}

/* ---- barriers ---- */

static int meet(int me)
{
    seen[me] = me + 1;
    int served = pthread_barrier_wait(&meeting) == PTHREAD_BARRIER_SERIAL_THREAD;
    assert(seen[!me] == !me + 1);
    served += pthread_barrier_wait(&meeting) == PTHREAD_BARRIER_SERIAL_THREAD;
    seen[!me] = 7; /* what the other one has read before the second meeting */
    return served;
}

BODY(meet_0)
{
    (void)unused;
    return meet(0);
}

BODY(meet_1)
{
    (void)unused;
    return meet(1);
}

static int barrier_twice(void)
{
    pthread_barrier_init(&meeting, NULL, 2);
    TOGETHER(meet_0, meet_1);
    pthread_barrier_destroy(&meeting);
    return 0;
}

static int barrier_alone(void)
{
    pthread_barrier_init(&meeting, NULL, 3);
    TOGETHER(meet_0, meet_1);
    return 0;
}

/* The barrier orders what was before it, not what comes behind. */
BODY(write_behind)
{
    (void)unused;
    pthread_barrier_wait(&meeting);
    data++;
    return 0;
}

static int race_behind_barrier(void)
{
    pthread_barrier_init(&meeting, NULL, 2);
    TOGETHER(write_behind, write_behind);
    return 0;
}

/* ---- read-write locks ---- */

BODY(read_shelf)
{
    (void)unused;
    pthread_rwlock_rdlock(&shelf);
    assert(books % 2 == 0);
    pthread_rwlock_unlock(&shelf);
    return 0;
}

BODY(write_shelf)
{
    (void)unused;
    pthread_rwlock_wrlock(&shelf);
    books++;
    books++;
    pthread_rwlock_unlock(&shelf);
    return 0;
}

static int readers_and_writers(void)
{
    TOGETHER(read_shelf, write_shelf, read_shelf, write_shelf);
    assert(pthread_rwlock_tryrdlock(&shelf) == 0);
    assert(pthread_rwlock_trywrlock(&shelf) == EBUSY);
    pthread_rwlock_unlock(&shelf);
    pthread_rwlock_destroy(&shelf);
    return books != 4;
}

BODY(write_as_reader)
{
    (void)unused;
    pthread_rwlock_rdlock(&shelf);
    books++;
    pthread_rwlock_unlock(&shelf);
    return 0;
}

static int writing_reader(void)
{
    TOGETHER(write_as_reader, write_as_reader);
    return 0;
}

static int upgrade(void)
{
    pthread_rwlock_rdlock(&shelf);
    pthread_rwlock_wrlock(&shelf);
    return 0;
}

/* ---- spin locks ---- */

BODY(add_spinning)
{
    (void)unused;
    pthread_spin_lock(&spin);
    data++;
    pthread_spin_unlock(&spin);
    return 0;
}

static int spinning(void)
{
    pthread_spin_init(&spin, PTHREAD_PROCESS_PRIVATE);
    TOGETHER(add_spinning, add_spinning);
    pthread_spin_destroy(&spin);
    return data != 2;
}

/* A POSIX mutex is called by its name. */
static pthread_mutex_t fork_a = PTHREAD_MUTEX_INITIALIZER, fork_b = PTHREAD_MUTEX_INITIALIZER;

BODY(a_then_b)
{
    (void)unused;
    pthread_mutex_lock(&fork_a);
    pthread_mutex_lock(&fork_b);
    pthread_mutex_unlock(&fork_b);
    pthread_mutex_unlock(&fork_a);
    return 0;
}

BODY(b_then_a)
{
    (void)unused;
    pthread_mutex_lock(&fork_b);
    pthread_mutex_lock(&fork_a);
    pthread_mutex_unlock(&fork_a);
    pthread_mutex_unlock(&fork_b);
    return 0;
}

static int two_forks(void)
{
    TOGETHER(a_then_b, b_then_a);
    return 0;
}

const struct corpus_case posix_cases[] = {
    {"sem_as_mutex", sem_as_mutex},
    {"sem_hands_over", sem_hands_over},
    {"sem_circle", sem_circle},
    {"sem_lets_two_in", sem_lets_two_in},
    {"sem_timed_wait", sem_timed_wait},
    {"barrier_twice", barrier_twice},
    {"barrier_alone", barrier_alone},
    {"race_behind_barrier", race_behind_barrier},
    {"readers_and_writers", readers_and_writers},
    {"writing_reader", writing_reader},
    {"upgrade", upgrade},
    {"spinning", spinning},
    {"two_forks", two_forks},
    {NULL, NULL},
};
