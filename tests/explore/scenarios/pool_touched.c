/* A task that was asked to end, and has not listened: who sees that it has ended, without its lock,
   sees what it wrote. */
#include "pool_common.h"

static int written;

static int write_it(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    written = 5;
    return 0;
}

static void cancel(void *side_)
{
    struct side *side = side_;
    assert(twill_future_cancel(side->future) == TWILL_OK);
}

int main(void)
{
    struct side other = {0};
    twill_status status;

    other.pool = pool_of(&(twill_pool_options){.run.workers = 1});
    assert(twill_pool_submit(other.pool, write_it, NULL, &other.future, NULL) == TWILL_OK);
    go(&other, cancel);
    status = twill_future_wait(other.future, NULL, NULL);
    assert(status != TWILL_OK || written == 5);
    end(&other);
    twill_future_release(other.future);
    assert(twill_pool_destroy(other.pool) == TWILL_OK);
    return 0;
}
