/* Two who wait for the pool, each for something else: who resizes it, for the new worker, and
   main, until it is idle. Every change wakes both, or the one would hide it from the other: the
   new worker begins only when main is back. */
#include "pool_common.h"

static _Atomic uint32_t back;

static int begins(void **state, const twill_task *task)
{
    (void)state;
    while (task->worker == 1 && !atomic_load(&back)) /* exit: main is back */
        twill__park(&back, 0, 0);
    return 0;
}

static void resize(void *side_)
{
    struct side *side = side_;

    side->status = twill_pool_resize(side->pool, 2, 0);
}

int main(void)
{
    struct side side = {0};

    side.pool = pool_of(&(twill_pool_options){.run.workers = 1, .run.worker_start = begins});
    assert(twill_pool_submit(side.pool, run_it, NULL, NULL, NULL) == TWILL_OK);
    go(&side, resize);
    assert(twill_pool_wait_idle(side.pool) == TWILL_OK);
    assert(ran == 1);
    atomic_store(&back, 1);
    twill__wake(&back, 1);
    end(&side);
    assert(side.status == TWILL_OK);
    assert(twill_pool_destroy(side.pool) == TWILL_OK);
    return 0;
}
