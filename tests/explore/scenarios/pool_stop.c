/* stop from two threads, one with no time at all, and a task that gives up when told: both come
   back, and the books balance. */
#include "pool_common.h"

static int until_told(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result;
    (void)twill_sleep(twill_until_cancelled(task->until.cancel));
    atomic_fetch_add(&ran, 1);
    return twill_task_skip(task);
}

static void stop_now(void *side_)
{
    struct side *side = side_;

    side->status = twill_pool_stop(side->pool, twill_within(0), twill_within(TWILL_FOREVER), NULL);
}

int main(void)
{
    struct side other = {0};

    other.pool = pool_of(&(twill_pool_options){.run.workers = 1});
    assert(twill_pool_submit(other.pool, until_told, NULL, NULL,
                             &(twill_submit_options){.drop = drop_it}) == TWILL_OK);
    go(&other, stop_now);
    assert(twill_pool_stop(other.pool, twill_within(TWILL_MS(1)), twill_within(TWILL_FOREVER),
                           NULL) == TWILL_OK);
    end(&other);
    assert(other.status == TWILL_OK);
    assert(ran + dropped == 1);
    balanced(other.pool, 1);
    assert(twill_pool_destroy(other.pool) == TWILL_OK);
    return 0;
}
