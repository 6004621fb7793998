/* A borrower is about to give back, lightly. Meanwhile another thread looks at the books, until
   returns are wary, gives a copy of the lease back, and borrows and gives back until they would be
   light again: one of the two returns is STALE, and nothing is lost. */
#define TWILL__DESK_REST  2
#define TWILL__DESK_ALONE false
#include "resource_common.h"

static void pairs(twill_resource_pool *pool, int n)
{
    for (twill_lease lease = {0}; n > 0; n--)
        if (twill_resource_pool_try_acquire(pool, &lease) == TWILL_OK)
            assert(twill_resource_pool_release(pool, &lease) == TWILL_OK);
}

static void all_the_rest(void *side_)
{
    struct side *side = side_;
    twill_resource_pool_stats s;
    twill_resource_pool_get_stats(side->pool, &s);
    twill_resource_pool_get_stats(side->pool, &s);
    side->status = twill_resource_pool_release(side->pool, &side->lease);
    pairs(side->pool, 2);
}

int main(void)
{
    struct side other = {.discard = false};
    twill_resource_pool *pool = pool_of((twill_resource_pool_options){.max = 1});
    twill_lease lease = {0};
    twill_status status;

    pairs(pool, 2); /* now they are light */
    assert(twill_resource_pool_acquire(pool, &lease) == TWILL_OK);
    other.lease = lease;
    if (!go(&other, all_the_rest, pool))
        return 0;
    status = twill_resource_pool_release(pool, &lease);
    end(&other);
    assert((status == TWILL_OK && other.status == TWILL_STALE) ||
           (status == TWILL_STALE && other.status == TWILL_OK));
    lease = (twill_lease){0};
    assert(twill_resource_pool_try_acquire(pool, &lease) == TWILL_OK);
    assert(twill_resource_pool_release(pool, &lease) == TWILL_OK);
    finish(pool);
    return 0;
}
