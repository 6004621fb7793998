/* Two workers take from one queue without the lock, and a third thread helps with the last task:
   each runs once, or is cancelled by the stop. That finds a task that was just taken: its token
   fires. */
#include "pool_common.h"

static int until_told(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result;
    (void)twill_sleep(twill_until_cancelled(task->until.cancel));
    atomic_fetch_add(&ran, 1);
    return 0;
}

int main(void)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 2, .capacity = 3});
    twill_future helped, told;

    assert(twill_pool_submit(pool, run_it, NULL, NULL, NULL) == TWILL_OK);
    assert(twill_pool_submit(pool, run_it, NULL, NULL, NULL) == TWILL_OK);
    assert(twill_pool_submit(pool, run_it, NULL, &helped, NULL) == TWILL_OK);
    assert(twill_future_wait(helped, NULL, NULL) == TWILL_OK);
    twill_future_release(helped);
    assert(twill_pool_submit(pool, until_told, NULL, &told, NULL) == TWILL_OK);
    assert(twill_pool_stop(pool, twill_within(0), twill_within(TWILL_FOREVER), NULL) == TWILL_OK);
    twill_future_release(told);
    assert(ran >= 1);
    balanced(pool, 4);
    assert(twill_pool_destroy(pool) == TWILL_OK);
    return 0;
}
