/* Two threads hold one each and want the other's: exactly one is told, and the other goes on. */
#include "resource_common.h"

static atomic_int holding;

static void hold_and_want(void *side_)
{
    struct side *side = side_;
    twill_lease second = {0};
    assert(twill_resource_pool_acquire(side->pool, &side->lease) == TWILL_OK);
    atomic_fetch_add(&holding, 1);
    while (atomic_load(&holding) < 2)
        twill__yield();
    side->status = twill_resource_pool_acquire(side->pool, &second);
    assert(twill_resource_pool_release(side->pool, &side->lease) == TWILL_OK);
    if (side->status == TWILL_OK)
        assert(twill_resource_pool_release(side->pool, &second) == TWILL_OK);
}

int main(void)
{
    struct side other = {.discard = false}, me = {.discard = false};
    twill_resource_pool *pool;

    most = 2;
    pool = pool_of((twill_resource_pool_options){.max = 2, .leases_stay = true});
    me.pool = pool;
    if (!go(&other, hold_and_want, pool))
        return 0;
    hold_and_want(&me);
    end(&other);
    assert((me.status == TWILL_DEADLOCK && other.status == TWILL_OK) ||
           (me.status == TWILL_OK && other.status == TWILL_DEADLOCK));
    finish(pool);
    return 0;
}
