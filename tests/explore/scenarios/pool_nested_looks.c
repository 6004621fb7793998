/* A worker runs tasks that it waits for in what every worker is to do once, and goes on with that:
   who submits must not count on it as on one that is about to look round; nor afterwards. */
#include "explore.h"
#include "pool_common.h"

#include <limits.h>

static _Atomic uint32_t over, nested;
static _Atomic unsigned calls;
static bool goes_on; /* it waits for a task that comes then */

static void tell(_Atomic uint32_t *word)
{
    atomic_store(word, 1);
    twill__wake(word, INT_MAX);
}

static void wait_for(_Atomic uint32_t *word)
{
    while (!atomic_load(word))
        (void)twill__park(word, 0, 0);
}

static int be_it(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    tell(&over);
    return 0;
}

static int run_nested(void *pool, void *result, const twill_task *task)
{
    (void)result, (void)task;
    if (atomic_fetch_add(&calls, 1))
        return 0;
    for (int k = 0; k < 2; k++) {
        twill_future future;

        assert(twill_pool_submit(pool, run_it, NULL, &future, NULL) == TWILL_OK);
        assert(twill_future_wait(future, NULL, NULL) == TWILL_OK);
        twill_future_release(future);
    }
    tell(&nested);
    if (goes_on)
        wait_for(&over);
    return 0;
}

static void call_each(void *side_)
{
    struct side *side = side_;

    side->status = twill_pool_each_worker(side->pool, run_nested, side->pool, (twill_until){0});
}

int main(void)
{
    struct side other = {0};

    goes_on = EXPLORE_CHOICE(2, 0);
    other.pool = pool_of(&(twill_pool_options){.run.workers = goes_on ? 2 : 1});
    go(&other, call_each);
    wait_for(&nested);
    if (!goes_on)
        end(&other);
    assert(twill_pool_submit(other.pool, be_it, NULL, NULL, NULL) == TWILL_OK);
    wait_for(&over);
    if (goes_on)
        end(&other);
    assert(other.status == TWILL_OK);
    assert(twill_pool_destroy(other.pool) == TWILL_OK);
    return 0;
}
