/* A deaf task against its own time limit, with one who waits and an idle worker who sees the time:
   one outcome, and a late result is discarded once. */
#include "pool_common.h"

static int sleep_a_while(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)task;
    (void)twill_sleep(twill_within(TWILL_MS(1)));
    atomic_fetch_add(&ran, 1);
    *(int *)result = 7;
    return 0;
}

int main(void)
{
    struct side other = {0};
    int result = 0;

    other.pool = pool_of(&(twill_pool_options){.run.workers = 2});
    assert(twill_pool_submit(other.pool, sleep_a_while, NULL, &other.future,
                             &(twill_submit_options){.result_size = sizeof result,
                                                     .timeout = TWILL_MS(1),
                                                     .discard = discard_it}) == TWILL_OK);
    go(&other, wait_on);
    assert(twill_future_wait(other.future, &result, NULL) == TWILL_FAILED);
    end(&other);
    assert(other.status == TWILL_FAILED && other.outcome.status == TWILL_TIMEOUT);
    assert(twill_pool_wait_idle(other.pool) == TWILL_OK);
    balanced(other.pool, 1);
    twill_future_release(other.future);
    assert(twill_pool_destroy(other.pool) == TWILL_OK);
    /* late: discarded; returned at the limit: a result like any other, that was taken */
    assert(ran == 1 && (discarded == 1) != (result == 7));
    return 0;
}
