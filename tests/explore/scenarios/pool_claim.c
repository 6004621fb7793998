/* A worker that goes on to its second task without the lock, and a stop with no time: the stop
   finds the task by the claim, and fires its token. */
#include "pool_common.h"

static int until_told(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result;
    (void)twill_sleep(twill_until_cancelled(task->until.cancel));
    return twill_task_skip(task);
}

int main(void)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1});
    twill_future future;

    assert(twill_pool_submit(pool, run_it, NULL, NULL, NULL) == TWILL_OK);
    assert(twill_pool_submit(pool, until_told, NULL, &future, NULL) == TWILL_OK);
    twill_future_release(future);
    assert(twill_pool_stop(pool, twill_within(0), twill_within(TWILL_FOREVER), NULL) == TWILL_OK);
    balanced(pool, 2);
    assert(twill_pool_destroy(pool) == TWILL_OK);
    return 0;
}
