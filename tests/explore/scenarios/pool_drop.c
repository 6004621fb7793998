/* Two submitters and a queue of one that drops its oldest: each task ends in one way. */
#include "pool_common.h"

static void submit_two(void *side_)
{
    struct side *side = side_;

    for (int i = 0; i < 2; i++)
        assert(twill_pool_submit(side->pool, run_it, NULL, NULL,
                                 &(twill_submit_options){.drop = drop_it}) == TWILL_OK);
}

int main(void)
{
    struct side other = {0};

    other.pool = pool_of(&(twill_pool_options){
        .run.workers = 1, .capacity = 1, .overflow = TWILL_OVERFLOW_DROP_OLDEST});
    go(&other, submit_two);
    assert(twill_pool_submit(other.pool, run_it, NULL, &other.future,
                             &(twill_submit_options){.drop = drop_it}) == TWILL_OK);
    end(&other);
    assert(twill_pool_wait_idle(other.pool) == TWILL_OK);
    balanced(other.pool, 3);
    assert(ran + dropped == 3);
    (void)twill_future_try_wait(other.future, NULL, &other.outcome);
    assert(other.outcome.status == TWILL_OK || other.outcome.status == TWILL_DROPPED);
    twill_future_release(other.future);
    assert(twill_pool_destroy(other.pool) == TWILL_OK);
    return 0;
}
