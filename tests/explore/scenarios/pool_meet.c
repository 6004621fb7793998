/* Two idle workers, and two threads outside that submit one task each; each task waits until the
   other one has begun. Whoever submits while a worker is about to look counts on him: and he,
   whatever he takes, calls the other one for what has come meanwhile. */
#include "pool_common.h"

static _Atomic uint32_t begun;

static int meet(void *arg, void *result, const twill_task *task)
{
    uint32_t seen;

    (void)arg, (void)result, (void)task;
    atomic_fetch_add(&begun, 1);
    twill__wake(&begun, INT_MAX);
    while ((seen = atomic_load(&begun)) < 2) /* exit: both run */
        twill__park(&begun, seen, 0);
    return 0;
}

static void submit_one(void *side_)
{
    struct side *side = side_;

    side->status = twill_pool_submit(side->pool, meet, NULL, NULL, NULL);
}

int main(void)
{
    struct side one = {0};
    uint32_t seen;

    one.pool = pool_of(&(twill_pool_options){.run.workers = 2});
    go(&one, submit_one);
    assert(twill_pool_submit(one.pool, meet, NULL, NULL, NULL) == TWILL_OK);
    while ((seen = atomic_load(&begun)) < 2) /* exit: both have begun */
        twill__park(&begun, seen, 0);
    end(&one);
    assert(one.status == TWILL_OK);
    assert(twill_pool_destroy(one.pool) == TWILL_OK);
    return 0;
}
