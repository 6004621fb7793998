/* The only worker's task waits for ever for a delayed one. Its time comes, told by the watch,
   between the look whether it may be run here and the sleep: it is run here all the same. */
#include "explore.h"
#include "pool_common.h"

static bool any;

static int wait_for_later(void *pool, void *result, const twill_task *task)
{
    twill_future future;

    (void)result, (void)task;
    assert(twill_pool_submit(pool, run_it, NULL, &future,
                             &(twill_submit_options){.start_at = twill_now() + TWILL_US(2)}) ==
           TWILL_OK);
    if (any)
        assert(twill_future_wait_any(&future, 1, NULL, (twill_until){0, NULL}) == TWILL_OK);
    else
        assert(twill_future_wait(future, NULL, NULL) == TWILL_OK);
    twill_future_release(future);
    return 0;
}

int main(void)
{
    twill_pool *pool =
        pool_of(&(twill_pool_options){.run.workers = 1, .stuck_after = TWILL_SEC(1)});

    any = EXPLORE_CHOICE(2, 0);
    assert(twill_pool_submit(pool, wait_for_later, pool, NULL, NULL) == TWILL_OK);
    assert(twill_pool_destroy(pool) == TWILL_OK);
    assert(ran == 1);
    return 0;
}
