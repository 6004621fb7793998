/* A delayed task, two idle workers of whom one keeps its time and is called away: another one takes
   over. */
#include "pool_common.h"

static int take_long(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    (void)twill_sleep(twill_within(TWILL_SEC(50)));
    return 0;
}

int main(void)
{
    struct side other = {0};
    twill_ns at = twill_now() + TWILL_SEC(1);

    other.pool = pool_of(&(twill_pool_options){.run.workers = 2});
    assert(twill_pool_submit(other.pool, run_it, NULL, &other.future,
                             &(twill_submit_options){.start_at = at}) == TWILL_OK);
    assert(twill_pool_submit(other.pool, take_long, NULL, NULL, NULL) == TWILL_OK);
    assert(twill_pool_wait_idle(other.pool) == TWILL_OK);
    assert(twill_future_wait(other.future, NULL, &other.outcome) == TWILL_OK);
    assert(other.outcome.started >= at);
    twill_future_release(other.future);
    assert(twill_pool_destroy(other.pool) == TWILL_OK);
    return 0;
}
