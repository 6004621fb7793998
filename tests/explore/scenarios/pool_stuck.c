/* The watch gives a worker up while its task returns: LOST or OK, once; the result goes to the
   waiter or to discard, and the pool ends. */
#include "pool_common.h"

static int sleep_a_while(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)task;
    (void)twill_sleep(twill_within(TWILL_MS(2)));
    *(int *)result = 7;
    return 0;
}

int main(void)
{
    struct side other = {0};
    int result = 0;

    other.pool = pool_of(
        &(twill_pool_options){.run.workers = 1, .stuck_after = TWILL_MS(2), .max_abandoned = 1});
    assert(twill_pool_submit(other.pool, sleep_a_while, NULL, &other.future,
                             &(twill_submit_options){.result_size = sizeof result,
                                                     .discard = discard_it}) == TWILL_OK);
    (void)twill_future_wait_until(other.future, &result, &other.outcome, without_helping());
    assert(other.outcome.status == TWILL_OK || other.outcome.status == TWILL_LOST);
    assert((result == 7) == (other.outcome.status == TWILL_OK));
    twill_future_release(other.future);
    assert(twill_pool_destroy(other.pool) == TWILL_OK);
    assert(discarded == (result != 7));
    return 0;
}
