/* A library with one twill header: worker_pool. */
#define TWILL_IMPLEMENTATION
#include "twill_worker_pool.h"
#undef TWILL_IMPLEMENTATION
#include "linking.h"

const void *pool_thread(void)
{
    return twill__thread();
}

const void *pool_process(void)
{
    return twill__process();
}

twill_status pool_wait(twill_ns ns, twill_cancel *cancel)
{
    return twill_sleep(twill_within_or_cancelled(ns, cancel));
}

void pool_fire(twill_cancel *cancel, int reason)
{
    twill_cancel_fire(cancel, reason);
}

twill_status pool_create(twill_pool **out, unsigned workers)
{
    twill_pool_options options = {.run.workers = workers};

    return twill_pool_create(out, &options);
}

#ifdef POOL_SUBMITS
twill_status pool_run(twill_pool *pool, twill_task_fn *fn, void *arg)
{
    twill_future future;
    twill_status status = twill_pool_submit(pool, fn, arg, &future, NULL);

    if (status == TWILL_OK) {
        status = twill_future_wait(future, NULL, NULL);
        twill_future_release(future);
    }
    return status;
}
#endif

twill_status pool_destroy(twill_pool *pool)
{
    return twill_pool_destroy(pool);
}
