/* The pool is destroyed while a thread waits for one of its futures, and helps if it can. */
#include "pool_common.h"

int main(void)
{
    struct side other = {0};

    other.pool = pool_of(&(twill_pool_options){.run.workers = 1});
    assert(twill_pool_submit(other.pool, run_it, NULL, &other.future, NULL) == TWILL_OK);
    go(&other, wait_on);
    assert(twill_pool_destroy(other.pool) == TWILL_OK);
    end(&other);
    assert(other.status == TWILL_OK && ran == 1);
    twill_future_release(other.future);
    return 0;
}
