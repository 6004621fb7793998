/* The only worker goes to sleep as another task comes in without the lock: he finds it, or is
   called. EXPLORE-TREE: --preemptions=1 --stale=3 --faults=0 */
#include "pool_common.h"

static _Atomic uint32_t told;

static int tell(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    atomic_fetch_add(&told, 1);
    twill__wake(&told, 1);
    return 0;
}

int main(void)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1});

    for (uint32_t k = 0; k < 2; k++) {
        assert(twill_pool_submit(pool, tell, NULL, NULL, NULL) == TWILL_OK);
        while (atomic_load(&told) == k) /* exit: it has run */
            twill__park(&told, k, 0);
    }
    assert(twill_pool_destroy(pool) == TWILL_OK);
    return 0;
}
