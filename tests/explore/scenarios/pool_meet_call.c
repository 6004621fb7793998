/* A task has ended, whoever has seen it submits another one and counts on the worker that is about to
   look; but that one goes to a parallel call, and stays there until the new task has run: the other
   worker is called for it. */
#include "pool_common.h"

static _Atomic uint32_t met;

static int takes_long(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    (void)twill_sleep(twill_within(TWILL_US(2))); /* longer than a quick one */
    return 0;
}

static int meet(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    atomic_store(&met, 1);
    twill__wake(&met, INT_MAX);
    return 0;
}

static int until_met(const void *in, void *out, const twill_task *task)
{
    (void)in, (void)out, (void)task;
    while (!atomic_load(&met)) /* exit: the task runs */
        twill__park(&met, 0, 0);
    return 0;
}

static void call(void *side_)
{
    struct side *side = side_;
    char items[2] = {0};

    side->status =
        twill_run_all(items, 1, NULL, 0, 2, until_met, NULL,
                      &(twill_run_all_options){.run.pool = side->pool, .run.workers = 2});
}

int main(void)
{
    struct side side = {0};

    side.pool = pool_of(&(twill_pool_options){.run.workers = 2});
    assert(twill_pool_submit(side.pool, takes_long, NULL, &side.future, NULL) == TWILL_OK);
    go(&side, call);
    assert(twill_future_wait_until(side.future, NULL, NULL, without_helping()) == TWILL_OK);
    twill_future_release(side.future);
    assert(twill_pool_submit(side.pool, meet, NULL, NULL, NULL) == TWILL_OK);
    end(&side);
    assert(side.status == TWILL_OK);
    assert(twill_pool_destroy(side.pool) == TWILL_OK);
    return 0;
}
