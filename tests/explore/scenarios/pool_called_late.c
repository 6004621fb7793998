/* A worker that has slept gets up by itself just as it is called for a task: it takes that one,
   and nobody takes the call off. When it goes to sleep again it is called for the next task all
   the same. */
#include "pool_common.h"

static _Atomic uint32_t told;

static int tell(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    (void)twill_sleep(twill_within(TWILL_US(2))); /* after quick ones it would nap */
    atomic_fetch_add(&told, 1);
    twill__wake(&told, INT_MAX);
    return 0;
}

int main(void)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1});
    uint32_t seen;

    (void)twill_sleep(twill_within(TWILL_US(1)));      /* it sleeps by then, */
    twill__wake(&twill__pool_of(pool)->team.epoch, 1); /* and gets up for nothing */
    assert(twill_pool_submit(pool, tell, NULL, NULL, NULL) == TWILL_OK);
    (void)twill_sleep(twill_within(TWILL_US(99)));
    assert(twill_pool_submit(pool, tell, NULL, NULL, NULL) == TWILL_OK);
    while ((seen = atomic_load(&told)) < 2) /* exit: both have run */
        twill__park(&told, seen, 0);
    assert(twill_pool_destroy(pool) == TWILL_OK);
    return 0;
}
