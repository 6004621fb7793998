/* Two tasks wait for each other: exactly one of the waits is a DEADLOCK. Test and entry in two
   steps would let both sleep. */
#include "pool_common.h"

static twill_future futures[2];
static _Atomic unsigned ready, deadlocks;

static int wait_for_the_other(void *which, void *result, const twill_task *task)
{
    (void)result, (void)task;
    atomic_fetch_add(&ready, 1);
    while (atomic_load(&ready) < 3) /* both run, and both handles are there */
        (void)twill_sleep(twill_within(TWILL_US(1)));
    if (twill_future_wait(futures[(intptr_t)which], NULL, NULL) == TWILL_DEADLOCK)
        atomic_fetch_add(&deadlocks, 1);
    return 0;
}

int main(void)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 2});

    for (intptr_t i = 0; i < 2; i++)
        assert(twill_pool_submit(pool, wait_for_the_other, (void *)(1 - i), &futures[i], NULL) ==
               TWILL_OK);
    atomic_fetch_add(&ready, 1);
    assert(twill_pool_destroy(pool) == TWILL_OK);
    assert(deadlocks == 1);
    for (int i = 0; i < 2; i++) {
        assert(twill_future_wait(futures[i], NULL, NULL) == TWILL_OK);
        twill_future_release(futures[i]);
    }
    return 0;
}
