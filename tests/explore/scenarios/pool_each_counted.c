/* A worker is about to look round, and who submits counts on it: but it has a call of each_worker
   to do first, which waits for that very task. The other worker, which sleeps, is woken for it. */
#include "pool_common.h"

#include <limits.h>

static _Atomic uint32_t over;
static _Atomic unsigned calls;

static int second_waits(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    if (atomic_fetch_add(&calls, 1) == 0)
        return 0;
    while (!atomic_load(&over))
        (void)twill__park(&over, 0, 0);
    return 0;
}

static int be_it(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    atomic_store(&over, 1);
    twill__wake(&over, INT_MAX);
    return 0;
}

static void call_each(void *side_)
{
    struct side *side = side_;

    side->status = twill_pool_each_worker(side->pool, second_waits, NULL, (twill_until){0});
}

int main(void)
{
    struct side other = {0};

    other.pool = pool_of(&(twill_pool_options){.run.workers = 2});
    other.until = without_helping();
    assert(twill_pool_submit(other.pool, run_it, NULL, &other.future, NULL) == TWILL_OK);
    go(&other, call_each);
    assert(twill_future_wait_until(other.future, NULL, NULL, other.until) == TWILL_OK);
    assert(twill_pool_submit(other.pool, be_it, NULL, NULL, NULL) == TWILL_OK);
    end(&other);
    assert(other.status == TWILL_OK);
    twill_future_release(other.future);
    assert(twill_pool_destroy(other.pool) == TWILL_OK);
    return 0;
}
