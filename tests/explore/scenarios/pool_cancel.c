/* Cancel meets start: exactly one of {fn, drop}, and the worker goes on. */
#include "pool_common.h"

static void cancel_it(void *side_)
{
    struct side *side = side_;

    side->status = twill_future_cancel(side->future);
}

int main(void)
{
    struct side other = {0};
    twill_future next;

    other.pool = pool_of(&(twill_pool_options){.run.workers = 1});
    assert(twill_pool_submit(other.pool, run_it, NULL, &other.future,
                             &(twill_submit_options){.drop = drop_it}) == TWILL_OK);
    go(&other, cancel_it);
    assert(twill_pool_submit(other.pool, run_it, NULL, &next, NULL) == TWILL_OK);
    assert(twill_future_wait(next, NULL, NULL) == TWILL_OK);
    end(&other);
    assert(other.status == TWILL_OK);
    (void)twill_future_wait(other.future, NULL, &other.outcome);
    assert(other.outcome.status == (dropped ? TWILL_CANCELLED : TWILL_OK));
    assert(ran + dropped == 2 && dropped <= 1);
    assert(twill_pool_wait_idle(other.pool) == TWILL_OK);
    balanced(other.pool, 2);
    twill_future_release(other.future);
    assert(twill_pool_destroy(other.pool) == TWILL_OK);
    twill_future_release(next);
    return 0;
}
