/* A worker goes to sleep while two threads outside submit one task each: it sees them, or is
   called. */
#include "pool_common.h"

static _Atomic uint32_t told;

static int tell(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    atomic_fetch_add(&told, 1);
    twill__wake(&told, INT_MAX);
    return 0;
}

static void submit_one(void *side_)
{
    struct side *side = side_;

    side->status = twill_pool_submit(side->pool, tell, NULL, NULL, NULL);
}

int main(void)
{
    struct side one = {0}, two = {0};
    uint32_t seen;

    one.pool = two.pool = pool_of(&(twill_pool_options){.run.workers = 1});
    go(&one, submit_one);
    go(&two, submit_one);
    while ((seen = atomic_load(&told)) < 2) /* exit: both have run */
        twill__park(&told, seen, 0);
    end(&one);
    end(&two);
    assert(one.status == TWILL_OK && two.status == TWILL_OK);
    assert(twill_pool_destroy(one.pool) == TWILL_OK);
    return 0;
}
