/* Two of three workers are too many, and all of them see it at once: exactly two leave, and a task
   that comes meanwhile runs. */
#include "pool_common.h"

int main(void)
{
    struct side one = {0};
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 3});
    twill_pool_stats stats;

    assert(twill_pool_resize(pool, 1, 0) == TWILL_OK);
    assert(twill_pool_submit(pool, run_it, NULL, &one.future, NULL) == TWILL_OK);
    one.until = without_helping(); /* nor starting a worker, as wait_idle would */
    wait_on(&one);
    assert(one.status == TWILL_OK);
    twill_future_release(one.future);
    assert(twill_pool_wait_idle(pool) == TWILL_OK);
    twill_pool_get_stats(pool, &stats);
    assert(ran == 1 && stats.workers >= 1);
    assert(twill_pool_destroy(pool) == TWILL_OK);
    return 0;
}
