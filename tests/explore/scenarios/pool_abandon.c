/* A pool is abandoned while its task runs: the last thread frees it, and the future tells. */
#include "pool_blocks.h"

static int until_told(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result;
    (void)twill_sleep(twill_until_cancelled(task->until.cancel));
    atomic_fetch_add(&ran, 1);
    return twill_task_skip(task);
}

int main(void)
{
    struct side other = {0};
    twill_stopped stopped;

    other.pool = pool_of(&(twill_pool_options){.run.workers = 1});
    other.until = without_helping();
    assert(twill_pool_submit(other.pool, until_told, NULL, &other.future,
                             &(twill_submit_options){.drop = drop_it}) == TWILL_OK);
    go(&other, wait_on);
    assert(twill_pool_abandon(other.pool, &stopped) == TWILL_OK);
    end(&other);
    assert(other.status == TWILL_FAILED && other.outcome.status == TWILL_CANCELLED);
    assert(ran + dropped == 1);
    twill_future_release(other.future);
    until_freed();
    return 0;
}
