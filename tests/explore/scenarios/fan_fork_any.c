/* EXPLORE: --polling --whole-copies
   A fork in a callback of a fan that is filled by hand. Each schedule draws its goal, window,
   reserve, limits, threads or a pool; who fills it, reads it, and cancels or stops it while tasks
   are queued; and the callback that forks: a task, `drop`, `discard`, `notify` or `enough`.

   The parent notices nothing: each task that was accepted runs or is dropped, once, and each
   result is taken or given away. In the child the fan says FORKED to every call, also inside of
   that callback, another fan can be made and works, and destroy frees.
   EXPLORE-FLAGS: -DTWILL__SPIN=0 -DTWILL__TICKS=0 */
#undef NDEBUG
#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "explore.h"

#define TWILL_IMPLEMENTATION
#include "twill_fan_out_fan_in.h"
#include "twill_worker_pool.h"

extern int fork(void);
extern void _exit(int) __attribute__((noreturn));

enum { MOST = 5, CODE = 7 };
enum { IN_TASK, IN_DROP, IN_DISCARD, IN_NOTIFY, IN_ENOUGH, PLACES };

static twill_fan *fan;
static twill_pool *pool;
static twill_fan_options options;
static twill_cancel token;
static int place;
static atomic_int to_fork, accepted, begun, over, dropped, good, taken, discarded, outcomes;
static atomic_int ran[MOST], lost[MOST];
static bool child;

static int choose(int n)
{
    return EXPLORE_CHOICE(n, 0);
}

static bool one_in(int n)
{
    return choose(n) == 0;
}

/* ---- the child ---- */

static int quick(void *arg, void *result, const twill_task *task)
{
    (void)result, (void)task;
    *(atomic_int *)arg += 1;
    return 0;
}

/* Another fan, made in the child. */
static void works_anew(void)
{
    atomic_int count = 0;
    twill_fan *own;
    twill_outcome outcome;
    assert(twill_fan_create(&own, &(twill_fan_options){.run.workers = 2}) == TWILL_OK);
    for (int k = 0; k < 2; k++)
        assert(twill_fan_go(own, quick, &count, NULL) == TWILL_OK);
    assert(twill_fan_close(own) == TWILL_OK);
    for (int k = 0; k < 2; k++)
        assert(twill_fan_next(own, NULL, &outcome) == TWILL_OK && outcome.status == TWILL_OK);
    assert(twill_fan_next(own, NULL, &outcome) == TWILL_CLOSED && count == 2);
    assert(twill_fan_destroy(own) == TWILL_OK);
}

static void is_of_the_parent(void)
{
    twill_outcome outcome;
    twill_stopped stopped;
    twill_until forever = {0, NULL};
    twill_fan_stats s;
    assert(twill_fan_go(fan, quick, NULL, NULL) == TWILL_FORKED);
    assert(twill_fan_try_go(fan, quick, NULL, NULL) == TWILL_FORKED);
    assert(twill_fan_next(fan, NULL, &outcome) == TWILL_FORKED);
    assert(twill_fan_try_next(fan, NULL, &outcome) == TWILL_FORKED);
    assert(twill_fan_close(fan) == TWILL_FORKED && twill_fan_cancel(fan) == TWILL_FORKED);
    assert(twill_fan_stop(fan, forever, forever, &stopped) == TWILL_FORKED);
    twill_fan_get_stats(fan, &s);
    assert(s.accepted == 0 && s.records == 0);
}

static void come_in(int here)
{
    assert(!child);
    if (here != place || atomic_fetch_sub(&to_fork, 1) != 1)
        return;
    if (fork() != 0) {
        EXPLORE_REACHED("parent");
        return;
    }
    EXPLORE_REACHED("child");
    child = true;
    if (one_in(2))
        is_of_the_parent();
    if (one_in(2))
        works_anew();
    if (here == IN_TASK)
        return; /* alone a task may */
    if (one_in(2))
        assert(twill_fan_destroy(fan) == TWILL_OK);
    _exit(0);
}

/* ---- callbacks ---- */

static int task_fn(void *arg, void *result, const twill_task *task)
{
    int i = *(const int *)arg;
    assert(atomic_fetch_add(&ran[i], 1) == 0 && !atomic_load(&lost[i]));
    atomic_fetch_add(&begun, 1);
    come_in(IN_TASK);
    if (one_in(4))
        (void)twill_sleep((twill_until){twill_now() + TWILL_US(3), task->until.cancel});
    if (one_in(4)) {
        atomic_fetch_add(&over, 1);
        return CODE;
    }
    *(int *)result = 1 + i;
    atomic_fetch_add(&good, 1);
    atomic_fetch_add(&over, 1);
    return 0;
}

static void drop(void *arg, twill_status why, const twill_task *task)
{
    int i = *(const int *)arg;
    (void)task;
    assert(why == TWILL_CANCELLED || why == TWILL_TIMEOUT);
    assert(atomic_fetch_add(&lost[i], 1) == 0 && !atomic_load(&ran[i]));
    atomic_fetch_add(&dropped, 1);
    come_in(IN_DROP);
}

static void discard(void *arg, void *result, int code, const twill_task *task)
{
    (void)code, (void)task;
    assert(*(const int *)result == 1 + *(const int *)arg);
    atomic_fetch_add(&discarded, 1);
    come_in(IN_DISCARD);
}

static void notify(const twill_task *task)
{
    (void)task;
    come_in(IN_NOTIFY);
}

static bool enough(const twill_outcome *outcome, const void *result, const twill_task *task)
{
    (void)outcome, (void)result, (void)task;
    come_in(IN_ENOUGH);
    return one_in(4);
}

/* ---- who uses it ---- */

static void read_some(int most, twill_until until)
{
    twill_outcome outcome;
    int result = 0;
    while (most-- > 0) { /* exit: counted */
        twill_status status = twill_fan_next_until(fan, &result, &outcome, until);
        if (status == TWILL_FORKED)
            assert(child);
        if (status != TWILL_OK)
            break;
        atomic_fetch_add(&outcomes, 1);
        if (outcome.status == TWILL_OK) {
            assert(result == 1 + *(const int *)outcome.key);
            atomic_fetch_add(&taken, 1);
        }
    }
}

static void fill_side(void *unused)
{
    static const int numbers[MOST] = {0, 1, 2, 3, 4};
    int n = 1 + choose(MOST);
    (void)unused;
    for (int k = 0; k < n && !child; k++) {
        twill_status status = twill_fan_go_until(fan, task_fn, (void *)&numbers[k],
                                                 (void *)&numbers[k], twill_within(TWILL_US(9)));
        atomic_fetch_add(&accepted, status == TWILL_OK);
        if (status == TWILL_FULL && !child)
            read_some(1, twill_within(TWILL_US(3)));
    }
    if (one_in(3) && !child)
        twill_cancel_fire(&token, 1);
}

static void end_it(void)
{
    twill_stopped stopped;
    switch (choose(4)) {
    case 0:
        (void)twill_fan_cancel(fan);
        break;
    case 1:
        (void)twill_fan_stop(fan, twill_within(TWILL_US(choose(3))), twill_within(TWILL_US(3)),
                             &stopped);
        break;
    case 2:
        (void)twill_fan_close(fan);
        break;
    default:
        break;
    }
    if (one_in(2))
        read_some(MOST, twill_within(TWILL_US(6)));
}

static void draw(void)
{
    options.run.workers = 1 + (unsigned)choose(2);
    if (one_in(3)) {
        assert(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 1}) == TWILL_OK);
        options.run.pool = pool;
    }
    options.run.until.cancel = one_in(2) ? &token : NULL;
    place = choose(PLACES);
    atomic_store(&to_fork, 1 + choose(2));
    if (place == IN_ENOUGH || one_in(4)) {
        options.goal = TWILL_FAN_ENOUGH;
        options.enough = enough;
    } else if (one_in(3)) {
        options.goal = TWILL_FAN_FIRST_OK;
    }
    options.ordered = one_in(3);
    options.result_size = sizeof(int);
    options.in_flight = (size_t)choose(4);
    options.max_unread = (size_t)choose(3);
    options.timeout = one_in(4) ? TWILL_US(2) : 0;
    options.drop = drop;
    options.discard = discard;
    options.notify = notify;
}

int main(void)
{
    static twill__thrd other = {.fn = fill_side, .cpu = UINT_MAX};
    bool two = one_in(2);
    draw();
    assert(twill_fan_create(&fan, &options) == TWILL_OK);
    if (two)
        assert(twill__thread_start(&other));
    else
        fill_side(NULL);
    if (!child)
        end_it();
    if (child) {
        is_of_the_parent();
        works_anew();
        assert(twill_fan_destroy(fan) == TWILL_OK && twill_pool_destroy(pool) == TWILL_OK);
        return 0;
    }
    if (two)
        twill__thread_join(&other);
    assert(twill_fan_destroy(fan) == TWILL_OK);
    assert(child || atomic_load(&accepted) == atomic_load(&begun) + atomic_load(&dropped));
    assert(child || atomic_load(&good) == atomic_load(&taken) + atomic_load(&discarded));
    assert(twill_pool_destroy(pool) == TWILL_OK);
    twill_cancel_detach(&token);
    return 0;
}
