/* locks.c: known-bad programs with mutexes, conditions, joins and time. */
#include "corpus.h"

#include <pthread.h>

static mtx_t lock, other_lock;
static cnd_t changed, room;
static int items, taken;
static bool ready, closed;

static void begin(void)
{
    mtx_init(&lock, mtx_plain);
    mtx_init(&other_lock, mtx_plain);
    cnd_init(&changed);
    cnd_init(&room);
}

/* ---- the flag is looked at outside the lock: its signal may come in between ---- */
static atomic_bool flag;

BODY(sleep_unless_flag)
{
    (void)unused;
    if (!atomic_load(&flag)) {
        mtx_lock(&lock);
        cnd_wait(&changed, &lock);
        mtx_unlock(&lock);
    }
    return 0;
}

BODY(set_flag)
{
    (void)unused;
    atomic_store(&flag, true);
    mtx_lock(&lock);
    cnd_signal(&changed);
    mtx_unlock(&lock);
    return 0;
}

static int lost_wakeup(void)
{
    begin();
    TOGETHER(sleep_unless_flag, set_flag);
    return 0;
}

/* ---- if in place of while ---- */
BODY(take_if)
{
    (void)unused;
    mtx_lock(&lock);
    if (items == 0)
        cnd_wait(&changed, &lock);
    assert(items > 0);
    items--;
    mtx_unlock(&lock);
    return 0;
}

BODY(put_one)
{
    (void)unused;
    mtx_lock(&lock);
    items++;
    cnd_signal(&changed);
    mtx_unlock(&lock);
    return 0;
}

static int if_for_while(void)
{
    begin();
    TOGETHER(take_if, put_one);
    return 0;
}

/* The same, without a spurious wake: somebody else is faster. */
static int if_for_while_stolen(void)
{
    begin();
    TOGETHER(take_if, take_if, put_one, put_one);
    return 0;
}

/* ---- close wakes one of two ---- */
BODY(take_or_closed)
{
    (void)unused;
    mtx_lock(&lock);
    while (items == 0 && !closed)
        cnd_wait(&changed, &lock);
    mtx_unlock(&lock);
    return 0;
}

BODY(close_with_signal)
{
    (void)unused;
    mtx_lock(&lock);
    closed = true;
    cnd_signal(&changed);
    mtx_unlock(&lock);
    return 0;
}

static int signal_for_broadcast(void)
{
    begin();
    TOGETHER(take_or_closed, take_or_closed, close_with_signal);
    return 0;
}

/* ---- one condition for two directions, and signal: the wrong side is woken ---- */
BODY(produce_two)
{
    (void)unused;
    for (int i = 0; i < 2; i++) {
        mtx_lock(&lock);
        while (items == 1)
            cnd_wait(&changed, &lock);
        items++;
        cnd_signal(&changed);
        mtx_unlock(&lock);
    }
    return 0;
}

BODY(consume_two)
{
    (void)unused;
    for (int i = 0; i < 2; i++) {
        mtx_lock(&lock);
        while (items == 0)
            cnd_wait(&changed, &lock);
        items--;
        cnd_signal(&changed);
        mtx_unlock(&lock);
    }
    return 0;
}

static int one_condition(void)
{
    begin();
    TOGETHER(produce_two, produce_two, consume_two, consume_two);
    return 0;
}

/* ---- two locks in two orders ---- */
BODY(lock_first_second)
{
    (void)unused;
    mtx_lock(&lock);
    mtx_lock(&other_lock);
    mtx_unlock(&other_lock);
    mtx_unlock(&lock);
    return 0;
}

BODY(lock_second_first)
{
    (void)unused;
    mtx_lock(&other_lock);
    mtx_lock(&lock);
    mtx_unlock(&lock);
    mtx_unlock(&other_lock);
    return 0;
}

static int deadlock_cycle(void)
{
    begin();
    TOGETHER(lock_first_second, lock_second_first);
    return 0;
}

/* ---- misuse ---- */
BODY(lock_for_other)
{
    (void)unused;
    mtx_lock(&lock);
    atomic_store(&flag, true);
    return 0;
}

BODY(unlock_for_other)
{
    (void)unused;
    while (!atomic_load(&flag))
        thrd_yield();
    mtx_unlock(&lock);
    return 0;
}

static int unlock_by_other(void)
{
    begin();
    TOGETHER(lock_for_other, unlock_for_other);
    return 0;
}

static int double_lock(void)
{
    begin();
    mtx_lock(&lock);
    mtx_lock(&lock);
    return 0;
}

static int not_initialised(void)
{
    mtx_lock(&lock);
    return 0;
}

BODY(wait_ready)
{
    (void)unused;
    mtx_lock(&lock);
    while (!ready)
        cnd_wait(&changed, &lock);
    mtx_unlock(&lock);
    return 0;
}

static int destroy_while_waited(void)
{
    thrd_t thread;

    begin();
    assert(thrd_create(&thread, wait_ready, NULL) == thrd_success);
    mtx_lock(&lock);
    mtx_unlock(&lock);
    cnd_destroy(&changed);
    thrd_join(thread, NULL);
    return 0;
}

static int not_joined(void)
{
    thrd_t thread;

    begin();
    assert(thrd_create(&thread, put_one, NULL) == thrd_success);
    return 0;
}

static int joined_twice(void)
{
    thrd_t thread;

    begin();
    assert(thrd_create(&thread, put_one, NULL) == thrd_success);
    thrd_join(thread, NULL);
    thrd_join(thread, NULL);
    return 0;
}

/* ---- waiting for what nobody does ---- */
BODY(poll_for_ever)
{
    (void)unused;
    while (!atomic_load(&flag))
        thrd_yield();
    return 0;
}

static int livelock_yield(void)
{
    TOGETHER(poll_for_ever, poll_for_ever);
    return 0;
}

/* Each gives way to the other, at the same pace. */
static atomic_int wants[2];

static void give_way(int me)
{
    for (;;) {
        atomic_store(&wants[me], 1);
        if (!atomic_load(&wants[!me]))
            return; /* and never withdraws */
        atomic_store(&wants[me], 0);
        while (!atomic_load(&wants[!me]))
            thrd_yield();
    }
}

BODY(give_way_a)
{
    (void)unused;
    give_way(0);
    return 0;
}

BODY(give_way_b)
{
    (void)unused;
    give_way(1);
    return 0;
}

static int livelock_polite(void)
{
    TOGETHER(give_way_a, give_way_b);
    return 0;
}

/* ---- time ---- */
BODY(answer_at_once)
{
    (void)unused;
    thrd_sleep(&(struct timespec){.tv_sec = 3600}, NULL);
    mtx_lock(&lock);
    ready = true;
    cnd_signal(&changed);
    mtx_unlock(&lock);
    return 0;
}

/* "A timeout means that there is no answer": not when both come at once. */
static int timeout_or_answer(void)
{
    struct timespec until;
    thrd_t thread;
    int status = thrd_success;

    begin();
    assert(thrd_create(&thread, answer_at_once, NULL) == thrd_success);
    timespec_get(&until, TIME_UTC);
    until.tv_sec += 3600;
    mtx_lock(&lock);
    while (!ready && status == thrd_success)
        status = cnd_timedwait(&changed, &lock, &until);
    assert(status != thrd_timedout || !ready);
    mtx_unlock(&lock);
    thrd_join(thread, NULL);
    return 0;
}

/* A signal ends the sleep early, and nobody looks. */
static int sleep_cut_short(void)
{
    long long start = explore_now();

    thrd_sleep(&(struct timespec){.tv_sec = 1}, NULL);
    assert(explore_now() - start >= 1000000000);
    return 0;
}

/* ---- a wait of a second: on the wall clock it may take an hour more ---- */
extern int pthread_condattr_setclock(pthread_condattr_t *, int); /* hidden by -std=c11 */
extern int clock_gettime(int, struct timespec *);

static int wait_a_second(int clock)
{
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_condattr_t attributes;
    pthread_cond_t condition;
    struct timespec until;
    long long start = explore_now();
    int status = 0;

    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, clock);
    pthread_cond_init(&condition, &attributes);
    clock_gettime(clock, &until);
    until.tv_sec++;
    pthread_mutex_lock(&mutex);
    while (status == 0)
        status = pthread_cond_timedwait(&condition, &mutex, &until);
    pthread_mutex_unlock(&mutex);
    assert(status == ETIMEDOUT && explore_now() - start >= 1000000000);
    assert(explore_now() - start < 2000000000);
    return 0;
}

static int wall_deadline(void)
{
    return wait_a_second(0);
}

static int monotonic_deadline(void)
{
    return wait_a_second(1);
}

/* ---- a late fire: decided for the first job, it hits the second ---- */
static struct {
    atomic_int job, cancelled;
} slot;

BODY(cancel_first)
{
    (void)unused;
    if (atomic_load(&slot.job) == 1)
        atomic_store(&slot.cancelled, 1);
    return 0;
}

BODY(work_on_two)
{
    (void)unused;
    for (int job = 1; job <= 2; job++) {
        atomic_store(&slot.cancelled, 0);
        atomic_store(&slot.job, job);
        assert(job == 1 || !atomic_load(&slot.cancelled));
    }
    return 0;
}

static int late_fire(void)
{
    TOGETHER(work_on_two, cancel_first);
    return 0;
}

/* ---- a thread that cannot be made ---- */
static int thread_missing(void)
{
    thrd_t threads[2];
    int made = 0;

    begin();
    for (int i = 0; i < 2; i++)
        made += thrd_create(&threads[i], put_one, NULL) == thrd_success;
    mtx_lock(&lock);
    while (items < 2) /* should be: made */
        cnd_wait(&changed, &lock);
    mtx_unlock(&lock);
    for (int i = 0; i < made; i++)
        thrd_join(threads[i], NULL);
    return 0;
}

/* ---- test and set in two steps ---- */
static pthread_mutex_t fixed = PTHREAD_MUTEX_INITIALIZER;
static bool begun;

BODY(begin_once)
{
    bool mine;

    (void)unused;
    pthread_mutex_lock(&fixed);
    mine = !begun;
    pthread_mutex_unlock(&fixed);
    if (mine) {
        pthread_mutex_lock(&fixed);
        begun = true;
        taken++;
        pthread_mutex_unlock(&fixed);
    }
    return 0;
}

static int check_then_act(void)
{
    TOGETHER(begin_once, begin_once);
    return taken != 1;
}

/* A condition on the stack, and the frame comes again. */
static void wait_on_own(void)
{
    cnd_t own;

    cnd_init(&own);
}

static int never_destroyed(void)
{
    wait_on_own();
    wait_on_own();
    return 0;
}

const struct corpus_case lock_cases[] = {
    {"never_destroyed", never_destroyed},
    {"lost_wakeup", lost_wakeup},
    {"if_for_while", if_for_while},
    {"if_for_while_stolen", if_for_while_stolen},
    {"signal_for_broadcast", signal_for_broadcast},
    {"one_condition", one_condition},
    {"deadlock_cycle", deadlock_cycle},
    {"unlock_by_other", unlock_by_other},
    {"double_lock", double_lock},
    {"not_initialised", not_initialised},
    {"destroy_while_waited", destroy_while_waited},
    {"not_joined", not_joined},
    {"joined_twice", joined_twice},
    {"livelock_yield", livelock_yield},
    {"livelock_polite", livelock_polite},
    {"timeout_or_answer", timeout_or_answer},
    {"sleep_cut_short", sleep_cut_short},
    {"wall_deadline", wall_deadline},
    {"monotonic_deadline", monotonic_deadline},
    {"late_fire", late_fire},
    {"thread_missing", thread_missing},
    {"check_then_act", check_then_act},
    {NULL, NULL},
};
