/* The pool is destroyed while a thread waits for one of its futures, helps if it can, and then
   cancels what has ended. */
#include "pool_common.h"

static void wait_and_cancel(void *side_)
{
    struct side *side = side_;

    wait_on(side);
    assert(twill_future_cancel(side->future) == TWILL_OK);
}

int main(void)
{
    struct side other = {0};

    other.pool = pool_of(&(twill_pool_options){.run.workers = 1});
    assert(twill_pool_submit(other.pool, run_it, NULL, NULL, NULL) == TWILL_OK);
    assert(twill_pool_submit(other.pool, run_it, NULL, &other.future, NULL) == TWILL_OK);
    go(&other, wait_and_cancel);
    assert(twill_pool_destroy(other.pool) == TWILL_OK);
    end(&other);
    assert(other.status == TWILL_OK && ran == 2);
    twill_future_release(other.future);
    return 0;
}
