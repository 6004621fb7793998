/* Release meets the end of the task, while another thread waits or comes to wait, and the record is
   used again: an old handle is stale, and never another task's. */
#include "pool_common.h"

int main(void)
{
    struct side other = {0};

    other.pool = pool_of(&(twill_pool_options){.run.workers = 1});
    assert(twill_pool_submit(other.pool, run_it, NULL, &other.future,
                             &(twill_submit_options){.result_size = sizeof(int),
                                                     .discard = discard_it}) == TWILL_OK);
    go(&other, wait_on);
    twill_future_release(other.future);
    assert(twill_pool_submit(other.pool, run_it, NULL, NULL,
                             &(twill_submit_options){.result_size = sizeof(int),
                                                     .discard = discard_it}) == TWILL_OK);
    end(&other); /* a released handle needs the pool */
    assert(twill_pool_destroy(other.pool) == TWILL_OK);
    assert(other.status == TWILL_OK || other.status == TWILL_STALE);
    assert(ran == 2 && discarded == 2);
    return 0;
}
