/* A worker takes tasks without the lock while the ring grows: it finds the larger one whole, or the
   old one and that it came too late. */
#define TWILL__FIRST_PLACES 1
#define TWILL__EARLY_PLACES 1
#include "pool_common.h"

int main(void)
{
    enum { TASKS = 4 };
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1});

    for (int k = 0; k < TASKS; k++)
        assert(twill_pool_submit(pool, run_it, NULL, NULL, NULL) == TWILL_OK);
    assert(twill_pool_destroy(pool) == TWILL_OK);
    assert(ran == TASKS);
    return 0;
}
