/* A task ends its thread: it is LOST, the worker is replaced, what is queued runs. */
#include "pool_common.h"

static int end_thread(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    pthread_exit(NULL);
}

int main(void)
{
    struct side other = {0}, next = {0};

    other.pool = pool_of(&(twill_pool_options){.run.workers = 1});
    other.until = without_helping();
    assert(twill_pool_submit(other.pool, end_thread, NULL, &other.future, NULL) == TWILL_OK);
    go(&other, wait_on);
    assert(twill_pool_submit(other.pool, run_it, NULL, &next.future, NULL) == TWILL_OK);
    next.until = without_helping(); /* nor starting a worker, as wait_idle would */
    wait_on(&next);
    assert(next.status == TWILL_OK);
    twill_future_release(next.future);
    assert(twill_pool_wait_idle(other.pool) == TWILL_OK);
    balanced(other.pool, 2);
    assert(ran == 1);
    end(&other);
    assert(other.status == TWILL_FAILED && other.outcome.status == TWILL_LOST);
    twill_future_release(other.future);
    assert(twill_pool_destroy(other.pool) == TWILL_OK);
    return 0;
}
