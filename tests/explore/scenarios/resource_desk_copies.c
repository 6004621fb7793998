/* EXPLORE-FLAGS: -DTWILL__NO_MEMBARRIER
   At the desk, a lease and its copy are given back at once, while another borrows and holds: one of
   the two is STALE, and the holder is not disturbed, whenever they come. He waits for the same pool
   again with it in his hands: no other deadlock is found than his own. */
#include "resource_common.h"

static void give_back(void *side_)
{
    struct side *side = side_;
    side->status = twill_resource_pool_release(side->pool, &side->lease);
}

static void hold(void *side_)
{
    struct side *side = side_;
    twill_lease none = {0};
    side->status = twill_resource_pool_try_acquire(side->pool, &side->lease);
    if (side->status != TWILL_OK)
        return;
    use(&side->lease);
    assert(twill_resource_pool_acquire(side->pool, &none) == TWILL_DEADLOCK);
    assert(twill_resource_pool_release(side->pool, &side->lease) == TWILL_OK);
}

int main(void)
{
    struct side copy = {.discard = false}, next = {.discard = false};
    twill_resource_pool *pool =
        pool_of((twill_resource_pool_options){.max = 1, .leases_stay = true});
    twill_lease lease = {0};
    twill_status status;

    for (int k = 0; k < 2; k++) { /* the second time at the desk, and by whom it was lent before */
        assert(twill_resource_pool_acquire(pool, &lease) == TWILL_OK);
        if (k == 0)
            assert(twill_resource_pool_release(pool, &lease) == TWILL_OK);
    }
    copy.lease = lease;
    if (!go(&copy, give_back, pool))
        return 0;
    if (go(&next, hold, pool)) {
        status = twill_resource_pool_release(pool, &lease);
        lease = (twill_lease){0};
        /* whoever has it: this thread has nothing, and it comes back */
        assert(twill_resource_pool_acquire(pool, &lease) == TWILL_OK);
        assert(twill_resource_pool_release(pool, &lease) == TWILL_OK);
        end(&next);
        assert(next.status == TWILL_OK || next.status == TWILL_EMPTY);
    } else {
        status = twill_resource_pool_release(pool, &lease);
    }
    end(&copy);
    assert((status == TWILL_OK && copy.status == TWILL_STALE) ||
           (status == TWILL_STALE && copy.status == TWILL_OK));
    finish(pool);
    return 0;
}
