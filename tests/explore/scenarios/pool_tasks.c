/* Normal life: two submitters, one worker, a plain task and one with a future; destroy runs what is
   queued. */
#include "pool_common.h"

static void submit_plain(void *side_)
{
    struct side *side = side_;

    side->status = twill_pool_submit(side->pool, run_it, NULL, NULL, NULL);
}

int main(void)
{
    struct side other = {0};
    twill_future future;
    int result = 0;

    other.pool = pool_of(&(twill_pool_options){.run.workers = 1});
    go(&other, submit_plain);
    assert(twill_pool_submit(other.pool, run_it, NULL, &future,
                             &(twill_submit_options){.result_size = sizeof result}) == TWILL_OK);
    assert(twill_future_wait(future, &result, NULL) == TWILL_OK && result == 7);
    end(&other);
    assert(other.status == TWILL_OK);
    assert(twill_pool_destroy(other.pool) == TWILL_OK);
    assert(ran == 2);
    twill_future_release(future);
    return 0;
}
