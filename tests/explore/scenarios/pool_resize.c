/* Two of three workers are too many, and all of them see it at once: exactly two leave, and a task
   that comes meanwhile runs. */
#include "pool_common.h"

int main(void)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 3});
    twill_pool_stats stats;

    assert(twill_pool_resize(pool, 1, 0) == TWILL_OK);
    assert(twill_pool_submit(pool, run_it, NULL, NULL, NULL) == TWILL_OK);
    assert(twill_pool_wait_idle(pool) == TWILL_OK);
    twill_pool_get_stats(pool, &stats);
    assert(ran == 1 && stats.workers >= 1);
    assert(twill_pool_destroy(pool) == TWILL_OK);
    return 0;
}
