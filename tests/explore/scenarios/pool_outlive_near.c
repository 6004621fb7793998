/* As pool_outlive, while tasks are quick: the thread that waits looks, without a pin, whether a
   worker is about to come to its task, and the pool may be gone by then. */
#include "pool_common.h"

int main(void)
{
    struct side other = {0};

    other.pool = pool_of(&(twill_pool_options){.run.workers = 1});
    atomic_store(&twill__pool_of(other.pool)->quick, true);
    for (int k = 0; k < 2; k++) /* the next one of all would be run by who waits for it */
        assert(twill_pool_submit(other.pool, run_it, NULL, NULL, NULL) == TWILL_OK);
    assert(twill_pool_submit(other.pool, run_it, NULL, &other.future, NULL) == TWILL_OK);
    go(&other, wait_on);
    assert(twill_pool_destroy(other.pool) == TWILL_OK);
    end(&other);
    assert(other.status == TWILL_OK && ran == 3);
    twill_future_release(other.future);
    return 0;
}
