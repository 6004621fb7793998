/* good.c: right programs that an explorer could wrongly accuse, or not know. */
#include "corpus.h"

#include <pthread.h>
#include <time.h>

/* ---- yield lets the others run ---- */
static atomic_int turn;

static void wait_turn(int mine)
{
    while (atomic_load(&turn) != mine)
        thrd_yield();
    atomic_store(&turn, mine + 1);
}

BODY(third)
{
    (void)unused;
    wait_turn(2);
    return 0;
}

BODY(second)
{
    (void)unused;
    wait_turn(1);
    return 0;
}

BODY(first)
{
    (void)unused;
    for (int i = 0; i < 40; i++)
        (void)atomic_load(&turn);
    wait_turn(0);
    return 0;
}

static int fair_yield(void)
{
    TOGETHER(third, second, first);
    return atomic_load(&turn) != 3;
}

/* A loop of yields until a sleeper comes back: time must pass. */
BODY(sleep_an_hour)
{
    (void)unused;
    thrd_sleep(&(struct timespec){.tv_sec = 3600}, NULL);
    atomic_store(&turn, 1);
    return 0;
}

BODY(poll_turn)
{
    (void)unused;
    while (!atomic_load(&turn))
        thrd_yield();
    return 0;
}

static int yield_for_sleeper(void)
{
    TOGETHER(sleep_an_hour, poll_turn, poll_turn);
    return 0;
}

/* ---- 20 sleeps of 0.1 s on five threads are 0.4 s ---- */
static atomic_int sleeps;

BODY(sleep_some)
{
    (void)unused;
    while (atomic_fetch_add(&sleeps, 1) < 20)
        thrd_sleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    return 0;
}

static int exact_time(void)
{
    long long start = explore_now();

    TOGETHER(sleep_some, sleep_some, sleep_some, sleep_some, sleep_some);
    return explore_now() - start < 400000000;
}

extern int clock_gettime(int, struct timespec *); /* hidden by -std=c11 */

static int exact_time_alone(void)
{
    struct timespec before, after;

    clock_gettime(1 /* monotonic */, &before);
    sleep_some(NULL);
    clock_gettime(1 /* monotonic */, &after);
    return before.tv_sec == 0 || after.tv_sec - before.tv_sec != 2 ||
           after.tv_nsec != before.tv_nsec;
}

/* ---- each thread has its own ---- */
static _Thread_local int mine = 5;
static pthread_key_t key;
static atomic_int destroyed;

static void destroy(void *value)
{
    free(value);
    atomic_fetch_add(&destroyed, 1);
}

BODY(use_own)
{
    (void)unused;
    errno = 0;
    for (int i = 0; i < 3; i++) {
        mine++;
        errno++;
        thrd_yield();
    }
    assert(mine == 8 && errno == 3);
    pthread_setspecific(key, malloc(4));
    thrd_yield();
    assert(pthread_getspecific(key));
    return 0;
}

static int own_things(void)
{
    pthread_key_create(&key, destroy);
    TOGETHER(use_own, use_own);
    assert(mine == 5);
    return atomic_load(&destroyed) != 2;
}

/* ---- clean-up handlers run when a thread ends inside ---- */
static int handled;

static void handle(void *amount)
{
    handled += *(int *)amount;
}

static void leave_inside(int *amount)
{
    pthread_cleanup_push(handle, amount);
    pthread_exit((void *)(intptr_t)7);
    pthread_cleanup_pop(0);
}

static void *leave_twice_inside(void *unused)
{
    int one = 1, two = 2;

    (void)unused;
    pthread_cleanup_push(handle, &two);
    leave_inside(&one);
    pthread_cleanup_pop(0);
    return NULL;
}

static int cleanup(void)
{
    pthread_t thread;
    void *result = NULL;

    assert(pthread_create(&thread, NULL, leave_twice_inside, NULL) == 0);
    pthread_join(thread, &result);
    return handled != 3 || (intptr_t)result != 7;
}

/* ---- once ---- */
static once_flag once = ONCE_FLAG_INIT;
static int made;

static void make(void)
{
    made++;
}

BODY(use_made)
{
    (void)unused;
    call_once(&once, make);
    return made != 1;
}

static int call_once_works(void)
{
    TOGETHER(use_made, use_made, use_made);
    return made != 1;
}

/* ---- the main thread ends first ---- */
static thrd_t to_join;

BODY(last_one)
{
    (void)unused;
    thrd_detach(thrd_current());
    thrd_yield();
    return 0;
}

static int main_ends_first(void)
{
    assert(thrd_create(&to_join, last_one, NULL) == thrd_success);
    thrd_exit(0);
}

/* ---- a spin lock, used rightly, with a plain spin ---- */
static atomic_flag spin = ATOMIC_FLAG_INIT;
static int guarded;

BODY(count_under_spin)
{
    (void)unused;
    while (atomic_flag_test_and_set_explicit(&spin, memory_order_acquire))
        continue;
    guarded++;
    atomic_flag_clear_explicit(&spin, memory_order_release);
    return 0;
}

static int spin_lock(void)
{
    TOGETHER(count_under_spin, count_under_spin);
    return guarded != 2;
}

/* ---- some schedule must show that they meet ---- */
static atomic_int within;

BODY(go_within)
{
    (void)unused;
    if (atomic_fetch_add(&within, 1) == 1)
        EXPLORE_REACHED("two at once");
    atomic_fetch_sub(&within, 1);
    return 0;
}

static int meeting(void)
{
    EXPLORE_MUST_REACH("two at once");
    TOGETHER(go_within, go_within);
    return 0;
}

static mtx_t around;

BODY(go_within_locked)
{
    (void)unused;
    mtx_lock(&around);
    go_within(NULL);
    mtx_unlock(&around);
    return 0;
}

static int no_meeting(void) /* locks too much */
{
    mtx_init(&around, mtx_plain);
    EXPLORE_MUST_REACH("two at once");
    TOGETHER(go_within_locked, go_within_locked);
    return 0;
}

const struct corpus_case good_cases[] = {
    {"fair_yield", fair_yield},
    {"yield_for_sleeper", yield_for_sleeper},
    {"exact_time", exact_time},
    {"exact_time_alone", exact_time_alone},
    {"own_things", own_things},
    {"cleanup", cleanup},
    {"call_once_works", call_once_works},
    {"main_ends_first", main_ends_first},
    {"spin_lock", spin_lock},
    {"meeting", meeting},
    {"no_meeting", no_meeting},
    {NULL, NULL},
};
