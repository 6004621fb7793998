/* Two pools whose tasks submit to the other one and wait there, two deep and both ways at once;
   drawn: how many workers, lazy or not, room, what a full queue does, a watch, times, forms of the
   wait, threads that cannot be had. All of it ends, and no wait is taken for a circle. */
#include "explore.h"

#include <stdatomic.h>
#include <stdbool.h>

static int no_thread(void);
#define TWILL__FAIL_THREAD() no_thread()
#define TWILL__GROW_AFTER    TWILL_US(10)
#include "pool_common.h"

static twill_pool *pools[2];
static _Atomic int failures, asked[2], refused[2];

static int no_thread(void)
{
    if (atomic_load(&failures) <= 0 || EXPLORE_CHOICE(2, 0))
        return 0;
    return atomic_fetch_sub(&failures, 1) > 0;
}

static int cross(void *arg, void *result, const twill_task *task);

/* Which of the two, and how deep it is: 2 * depth + which. */
static void submit_to(int what)
{
    twill_pool *pool = pools[what % 2];
    twill_submit_options options = {.priority = EXPLORE_CHOICE(4, 1) ? 0 : 1};
    twill_future future;
    twill_status status;
    size_t which = 9;

    if (EXPLORE_CHOICE(4, 1) == 0)
        options.start_at = twill_now() + TWILL_US(2);
    if (EXPLORE_CHOICE(2, 0)) /* without a wait for room: the other pool may wait for this one's */
        status = twill_pool_try_submit(pool, cross, (void *)(intptr_t)what, &future, &options);
    else
        status = twill_pool_submit_until(pool, cross, (void *)(intptr_t)what, &future,
                                         twill_within(TWILL_US(3)), &options);
    if (status != TWILL_OK) {
        assert(status == TWILL_FULL || status == TWILL_TIMEOUT);
        atomic_fetch_add(&refused[what % 2], 1);
        return;
    }
    atomic_fetch_add(&asked[what % 2], 1);
    switch (EXPLORE_CHOICE(3, 0)) {
    case 0:
        status = twill_future_wait(future, NULL, NULL);
        break;
    case 1:
        status = twill_future_wait_any(&future, 1, &which, (twill_until){0, NULL});
        break;
    case 2:
        status = twill_future_wait_until(future, NULL, NULL, without_helping());
        break;
    }
    assert(status == TWILL_OK);
    twill_future_release(future);
}

static int cross(void *arg, void *result, const twill_task *task)
{
    int what = (int)(intptr_t)arg;

    (void)result, (void)task;
    if (what >= 2)
        submit_to((what - 2) ^ 1);
    atomic_fetch_add(&ran, 1);
    return 0;
}

static void from_beside(void *side)
{
    (void)side;
    submit_to(5);
}

int main(void)
{
    struct side other = {0};

    quiet();
    for (int i = 0; i < 2; i++) {
        twill_pool_options options = {.run.workers = 1,
                                      .max_workers = EXPLORE_CHOICE(4, 1) ? 0 : 2,
                                      .lazy = EXPLORE_CHOICE(3, 1) == 0,
                                      .capacity = EXPLORE_CHOICE(2, 0) ? 1 : 0,
                                      .overflow = EXPLORE_CHOICE(3, 0) ? TWILL_OVERFLOW_BLOCK
                                                                       : TWILL_OVERFLOW_CALLER_RUNS,
                                      .stuck_after = EXPLORE_CHOICE(4, 1) ? 0 : TWILL_SEC(1)};
        assert(twill_pool_create(&pools[i], &options) == TWILL_OK);
    }
    go(&other, from_beside);
    atomic_store(&failures, EXPLORE_CHOICE(3, 0));
    submit_to(4);
    end(&other);
    for (int i = 0; i < 2; i++) {
        twill_pool_stats s;
        assert(twill_pool_wait_idle(pools[i]) == TWILL_OK);
        twill_pool_get_stats(pools[i], &s);
        assert(s.submitted == (uint64_t)asked[i] && s.refused == (uint64_t)refused[i]);
        assert(s.done == s.submitted);
    }
    for (int i = 0; i < 2; i++)
        assert(twill_pool_destroy(pools[i]) == TWILL_OK);
    assert(ran == (unsigned)(asked[0] + asked[1]));
    return 0;
}
