/* defects.c: the defects of the programs that twill replaces, as far as schedules can show them:
   each in C, as it was in the original. The names tell what went wrong. */
#include "corpus.h"

#define MS(n) ((struct timespec){.tv_nsec = (n)*1000000L})

/* ---- a bounded queue of one lock and two conditions, with nothing but push and pop ---- */

enum { ROOM = 2, END = -1 };

static mtx_t lock;
static cnd_t not_full, not_empty;
static int items[ROOM], count;

static void queue_init(void)
{
    mtx_init(&lock, mtx_plain);
    cnd_init(&not_full);
    cnd_init(&not_empty);
}

static void push(int item)
{
    mtx_lock(&lock);
    while (count == ROOM)
        cnd_wait(&not_full, &lock);
    items[count++] = item;
    cnd_signal(&not_empty);
    mtx_unlock(&lock);
}

static int pop(void)
{
    int item;

    mtx_lock(&lock);
    while (!count)
        cnd_wait(&not_empty, &lock);
    item = items[0];
    items[0] = items[1];
    count--;
    cnd_signal(&not_full);
    mtx_unlock(&lock);
    return item;
}

BODY(produce_four)
{
    (void)unused;
    for (int i = 1; i <= 4; i++)
        push(i);
    push(END);
    return 0;
}

BODY(consume_to_end)
{
    (void)unused;
    while (pop() != END) {}
    return 0;
}

/* One mark for the end, two that wait for it. */
static int d1_one_sentinel(void)
{
    queue_init();
    TOGETHER(produce_four, consume_to_end, consume_to_end);
    return 0;
}

BODY(consumer_fails)
{
    (void)unused;
    return pop() == 1 ? 1 : 0; /* at the first item, and nobody tells the producer */
}

static int d2_consumer_fails(void)
{
    queue_init();
    TOGETHER(produce_four, consumer_fails);
    return 0;
}

BODY(producer_fails)
{
    (void)unused;
    push(1);
    return 1; /* before the mark of the end */
}

static int d3_producer_fails(void)
{
    queue_init();
    TOGETHER(producer_fails, consume_to_end);
    return 0;
}

/* ---- a call with a deadline that joins what it has given up ---- */
BODY(take_a_second)
{
    (void)unused;
    thrd_sleep(&(struct timespec){.tv_sec = 1}, NULL);
    return 0;
}

static int d12_late_return(void)
{
    long long start = explore_now();
    thrd_t task;

    assert(thrd_create(&task, take_a_second, NULL) == thrd_success);
    thrd_sleep(&MS(100), NULL); /* the deadline */
    thrd_join(task, NULL);      /* "with executor": its end waits for the task */
    assert(explore_now() - start <= 200000000);
    return 0;
}

/* ---- a limiter that sleeps with the lock held: nobody can give up in time ---- */
static long long next_at;

static void limiter_acquire(void)
{
    long long wait;

    mtx_lock(&lock);
    wait = next_at - explore_now();
    if (wait > 0)
        thrd_sleep(&(struct timespec){.tv_sec = wait / 1000000000, .tv_nsec = wait % 1000000000},
                   NULL);
    next_at = explore_now() + 1000000000;
    mtx_unlock(&lock);
}

BODY(use_limiter)
{
    long long start = explore_now();

    (void)unused;
    limiter_acquire();
    return explore_now() - start > 1000000000; /* one per second, and two of us */
}

BODY(try_limiter)
{
    long long start = explore_now();

    (void)unused;
    if (mtx_trylock(&lock) == thrd_success)
        mtx_unlock(&lock);
    else
        mtx_lock(&lock), mtx_unlock(&lock); /* all it can do: "try" has no other way in */
    assert(explore_now() - start < 100000000);
    return 0;
}

static int d14_sleep_under_lock(void)
{
    queue_init();
    limiter_acquire();
    TOGETHER(use_limiter, try_limiter);
    return 0;
}

/* ---- retries that sleep in the workers: the jobs behind them wait, too ---- */
static atomic_int good_done;

BODY(work_with_retries)
{
    int job;

    (void)unused;
    while ((job = pop()) != END) {
        if (job > 0)
            thrd_sleep(&(struct timespec){.tv_sec = 10}, NULL); /* backoff of a failing job */
        else
            atomic_fetch_add(&good_done, 1);
    }
    return 0;
}

BODY(two_bad_one_good)
{
    long long start = explore_now();

    (void)unused;
    push(1);
    push(2);
    push(0);
    push(END);
    push(END);
    while (!atomic_load(&good_done))
        thrd_yield();
    assert(explore_now() - start < 1000000000);
    return 0;
}

static int d18_backoff_in_worker(void)
{
    queue_init();
    TOGETHER(work_with_retries, work_with_retries, two_bad_one_good);
    return 0;
}

/* ---- check, then submit: what comes between is lost ---- */
static atomic_int closed, accepted, executed;

static bool submit_checked(int item)
{
    if (atomic_load(&closed))
        return false;
    push(item); /* the workers may have left meanwhile */
    atomic_fetch_add(&accepted, 1);
    return true;
}

BODY(submit_two)
{
    (void)unused;
    submit_checked(1);
    submit_checked(2);
    return 0;
}

BODY(close_and_drain)
{
    (void)unused;
    atomic_store(&closed, 1);
    mtx_lock(&lock);
    while (count) {
        count--;
        atomic_fetch_add(&executed, 1);
    }
    mtx_unlock(&lock);
    return 0;
}

static int d25_check_then_submit(void)
{
    queue_init();
    TOGETHER(submit_two, close_and_drain);
    assert(atomic_load(&accepted) == atomic_load(&executed));
    return 0;
}

/* ---- futures ---- */
enum { PENDING, DONE, CANCELLED };

static struct future {
    int state;
    cnd_t changed;
} futures[3];
static bool stop;

static void futures_init(void)
{
    queue_init();
    for (int i = 0; i < 3; i++)
        cnd_init(&futures[i].changed);
}

static void resolve(int i)
{
    mtx_lock(&lock);
    futures[i].state = DONE;
    cnd_broadcast(&futures[i].changed);
    mtx_unlock(&lock);
}

static void await(int i)
{
    mtx_lock(&lock);
    while (futures[i].state == PENDING)
        cnd_wait(&futures[i].changed, &lock);
    mtx_unlock(&lock);
}

static bool stopped(void)
{
    bool result;

    mtx_lock(&lock);
    result = stop;
    mtx_unlock(&lock);
    return result;
}

/* The worker looks at the flag before it looks at the queue. */
BODY(work_until_stopped)
{
    int job;

    (void)unused;
    while (!stopped() && (job = pop()) != END)
        resolve(job);
    return 0;
}

BODY(submit_then_stop)
{
    (void)unused;
    push(0);
    push(1);
    mtx_lock(&lock);
    stop = true;
    mtx_unlock(&lock);
    await(0);
    await(1);
    push(END);
    return 0;
}

static int d32_queued_work_abandoned(void)
{
    futures_init();
    TOGETHER(work_until_stopped, submit_then_stop);
    return 0;
}

/* The end goes through the queue, which is full, and the worker has left. */
BODY(stop_by_push)
{
    (void)unused;
    mtx_lock(&lock);
    stop = true;
    mtx_unlock(&lock);
    push(END);
    push(END);
    push(END);
    return 0;
}

static int d33_stop_through_full_queue(void)
{
    futures_init();
    TOGETHER(work_until_stopped, stop_by_push);
    return 0;
}

/* A future that was cancelled cannot be resolved, and the error ends the worker. */
BODY(work_or_die)
{
    int job;

    (void)unused;
    while ((job = pop()) != END) {
        mtx_lock(&lock);
        if (futures[job].state != PENDING) {
            mtx_unlock(&lock);
            return 1;
        }
        futures[job].state = DONE;
        cnd_broadcast(&futures[job].changed);
        mtx_unlock(&lock);
    }
    return 0;
}

BODY(cancel_the_first)
{
    (void)unused;
    push(0);
    mtx_lock(&lock);
    if (futures[0].state == PENDING)
        futures[0].state = CANCELLED;
    mtx_unlock(&lock);
    push(1);
    await(1);
    push(END);
    return 0;
}

static int d34_cancel_kills_worker(void)
{
    futures_init();
    TOGETHER(work_or_die, cancel_the_first);
    return 0;
}

/* Submitted after the shutdown: accepted, and never resolved. */
BODY(work_to_end)
{
    int job;

    (void)unused;
    while ((job = pop()) != END)
        resolve(job);
    return 0;
}

BODY(submit_late)
{
    (void)unused;
    push(1);
    await(1);
    return 0;
}

BODY(shut_down)
{
    (void)unused;
    push(END);
    return 0;
}

static int d35_submit_after_shutdown(void)
{
    futures_init();
    TOGETHER(work_to_end, shut_down, submit_late);
    return 0;
}

/* ---- the context is taken where the task runs, not where it was submitted ---- */
static _Thread_local int request;

BODY(run_in_context)
{
    (void)unused;
    assert(request == 7);
    return 0;
}

static int d40_context_of_worker(void)
{
    request = 7;
    TOGETHER(run_in_context);
    return 0;
}

const struct corpus_case defect_cases[] = {
    {"d1_one_sentinel", d1_one_sentinel},
    {"d2_consumer_fails", d2_consumer_fails},
    {"d3_producer_fails", d3_producer_fails},
    {"d12_late_return", d12_late_return},
    {"d14_sleep_under_lock", d14_sleep_under_lock},
    {"d18_backoff_in_worker", d18_backoff_in_worker},
    {"d25_check_then_submit", d25_check_then_submit},
    {"d32_queued_work_abandoned", d32_queued_work_abandoned},
    {"d33_stop_through_full_queue", d33_stop_through_full_queue},
    {"d34_cancel_kills_worker", d34_cancel_kills_worker},
    {"d35_submit_after_shutdown", d35_submit_after_shutdown},
    {"d40_context_of_worker", d40_context_of_worker},
    {NULL, NULL},
};
