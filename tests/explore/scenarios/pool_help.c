/* A waiter that helps against the worker, in a pool of one whose task waits for its own child: the
   child runs once, and nothing stands still. */
#include "pool_common.h"

static int parent(void *pool, void *result, const twill_task *task)
{
    twill_future child;

    (void)result;
    assert(twill_pool_submit(pool, run_it, NULL, &child, NULL) == TWILL_OK);
    assert(twill_future_wait_until(child, NULL, NULL, task->until) == TWILL_OK);
    twill_future_release(child);
    return 0;
}

int main(void)
{
    struct side other = {0};

    other.pool = pool_of(&(twill_pool_options){.run.workers = 1, .capacity = 1});
    assert(twill_pool_submit(other.pool, parent, other.pool, &other.future, NULL) == TWILL_OK);
    go(&other, wait_on);
    assert(twill_future_wait(other.future, NULL, NULL) == TWILL_OK);
    end(&other);
    assert(other.status == TWILL_OK && ran == 1);
    assert(twill_pool_wait_idle(other.pool) == TWILL_OK);
    balanced(other.pool, 2);
    twill_future_release(other.future);
    assert(twill_pool_destroy(other.pool) == TWILL_OK);
    return 0;
}
