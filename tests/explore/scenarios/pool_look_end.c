/* A task with an on_done, whose end takes two steps: who waits for it and sees the first one,
   without the lock, sees also what it has written. */
#include "pool_common.h"

static int wrote, told;

static int write_it(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    wrote = 1;
    return 0;
}

static void tell_it(const twill_outcome *outcome, void *result, const twill_task *task)
{
    (void)outcome, (void)result, (void)task;
    told = 1;
}

int main(void)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1});
    twill_future future;

    assert(twill_pool_submit(pool, write_it, NULL, &future,
                             &(twill_submit_options){.on_done = tell_it}) == TWILL_OK);
    assert(twill_future_wait(future, NULL, NULL) == TWILL_OK);
    assert(wrote && told);
    twill_future_release(future);
    assert(twill_pool_destroy(pool) == TWILL_OK);
    return 0;
}
