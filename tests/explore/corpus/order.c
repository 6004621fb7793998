/* order.c: known-bad programs that need weak memory, or the moment between two atomic steps. */
#include "corpus.h"

#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>

extern long syscall(long, ...);

static void park(atomic_uint *word, unsigned value)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void unpark(atomic_uint *word, int count)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

/* ---- an eventcount: a waiter announces itself, looks again, sleeps; a notifier publishes, then
   looks for waiters ---- */
static atomic_uint epoch, sleepers;
static atomic_int work;

typedef struct plan {
    bool recheck, key_first, fence_in_wait, fence_in_notify, bump;
} plan;
static plan now;

static void notify(void)
{
    if (now.fence_in_notify)
        atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&sleepers, memory_order_relaxed) == 0)
        return;
    if (now.bump)
        atomic_fetch_add_explicit(&epoch, 1, memory_order_acq_rel);
    unpark(&epoch, INT_MAX);
}

static bool take(void)
{
    int have = atomic_load_explicit(&work, memory_order_acquire);

    while (have > 0)
        if (atomic_compare_exchange_strong_explicit(&work, &have, have - 1, memory_order_acquire,
                                                    memory_order_relaxed))
            return true;
    return false;
}

BODY(take_work)
{
    (void)unused;
    while (!take()) {
        unsigned key = 0;
        atomic_fetch_add_explicit(&sleepers, 1, memory_order_relaxed);
        if (now.fence_in_wait)
            atomic_thread_fence(memory_order_seq_cst);
        if (now.key_first)
            key = atomic_load_explicit(&epoch, memory_order_acquire);
        if (now.recheck && take()) {
            atomic_fetch_sub_explicit(&sleepers, 1, memory_order_relaxed);
            return 0;
        }
        if (!now.key_first)
            key = atomic_load_explicit(&epoch, memory_order_acquire);
        while (atomic_load_explicit(&epoch, memory_order_acquire) == key)
            park(&epoch, key);
        atomic_fetch_sub_explicit(&sleepers, 1, memory_order_relaxed);
    }
    return 0;
}

BODY(give_work)
{
    (void)unused;
    atomic_fetch_add_explicit(&work, 1, memory_order_release);
    notify();
    return 0;
}

static int eventcount(plan p)
{
    now = p;
    TOGETHER(take_work, give_work);
    return 0;
}

static int eventcount_right(void)
{
    return eventcount((plan){true, true, true, true, true});
}

static int missing_recheck(void)
{
    return eventcount((plan){false, true, true, true, true});
}

static int key_after_recheck(void)
{
    return eventcount((plan){true, false, true, true, true});
}

static int no_fence_in_notify(void)
{
    return eventcount((plan){true, true, true, false, true});
}

static int no_fence_in_wait(void)
{
    return eventcount((plan){true, true, false, true, true});
}

static int wake_without_change(void)
{
    return eventcount((plan){true, true, true, true, false});
}

/* ---- Dekker's lock with acquire and release: both come in ---- */
static atomic_int inside[2], guests;

static void enter(int me)
{
    atomic_store_explicit(&inside[me], 1, memory_order_release);
    if (!atomic_load_explicit(&inside[!me], memory_order_acquire)) {
        assert(atomic_fetch_add(&guests, 1) == 0);
        atomic_fetch_sub(&guests, 1);
    }
    atomic_store_explicit(&inside[me], 0, memory_order_release);
}

BODY(enter_a)
{
    (void)unused;
    enter(0);
    return 0;
}

BODY(enter_b)
{
    (void)unused;
    enter(1);
    return 0;
}

static int dekker(void)
{
    TOGETHER(enter_a, enter_b);
    return 0;
}

/* ---- a spin lock that is let go without release ---- */
static atomic_flag spin = ATOMIC_FLAG_INIT;
static int guarded;

BODY(count_relaxed)
{
    (void)unused;
    while (atomic_flag_test_and_set_explicit(&spin, memory_order_acquire))
        thrd_yield();
    guarded++;
    atomic_flag_clear_explicit(&spin, memory_order_relaxed);
    return 0;
}

static int relaxed_unlock(void)
{
    TOGETHER(count_relaxed, count_relaxed);
    return 0;
}

/* ---- double-checked initialisation through a relaxed pointer ---- */
static _Atomic(int *) instance;

BODY(use_instance)
{
    int *mine = atomic_load_explicit(&instance, memory_order_relaxed), *none = NULL;

    (void)unused;
    if (!mine) {
        mine = malloc(sizeof *mine);
        *mine = 5;
        if (!atomic_compare_exchange_strong(&instance, &none, mine)) {
            free(mine);
            mine = none;
        }
    }
    return *mine != 5;
}

static int double_checked(void)
{
    TOGETHER(use_instance, use_instance);
    free(atomic_load(&instance));
    return 0;
}

/* ---- a weak compare-and-swap that is tried once ---- */
static int weak_cas_once(void)
{
    int zero = 0;

    atomic_store(&work, 0);
    return !atomic_compare_exchange_weak(&work, &zero, 1);
}

/* ---- a futex that "is only woken for a reason" ---- */
static atomic_uint gate;

BODY(pass_gate)
{
    (void)unused;
    if (atomic_load(&gate) == 0)
        park(&gate, 0);
    assert(atomic_load(&gate) == 1);
    return 0;
}

BODY(open_gate)
{
    (void)unused;
    atomic_store(&gate, 1);
    unpark(&gate, 1);
    return 0;
}

static int futex_without_loop(void)
{
    TOGETHER(pass_gate, open_gate);
    return 0;
}

const struct corpus_case order_cases[] = {
    {"eventcount_right", eventcount_right},
    {"missing_recheck", missing_recheck},
    {"key_after_recheck", key_after_recheck},
    {"no_fence_in_notify", no_fence_in_notify},
    {"no_fence_in_wait", no_fence_in_wait},
    {"wake_without_change", wake_without_change},
    {"dekker", dekker},
    {"relaxed_unlock", relaxed_unlock},
    {"double_checked", double_checked},
    {"weak_cas_once", weak_cas_once},
    {"futex_without_loop", futex_without_loop},
    {NULL, NULL},
};
