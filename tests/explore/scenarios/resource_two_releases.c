/* A lease and its copy are given back at once, while somebody waits: one of them is STALE, and who
   has the resource then is not disturbed. */
#include "resource_common.h"

static void give_back(void *side_)
{
    struct side *side = side_;
    side->status = twill_resource_pool_release(side->pool, &side->lease);
}

int main(void)
{
    struct side copy = {.discard = false}, next = {.discard = false};
    twill_resource_pool *pool = pool_of((twill_resource_pool_options){.max = 1});
    twill_lease lease = {0};
    twill_status status;

    assert(twill_resource_pool_acquire(pool, &lease) == TWILL_OK);
    copy.lease = lease;
    if (!go(&copy, give_back, pool))
        return 0;
    if (go(&next, borrow, pool)) {
        status = twill_resource_pool_release(pool, &lease);
        end(&next);
        assert(next.status == TWILL_OK);
    } else {
        status = twill_resource_pool_release(pool, &lease);
    }
    end(&copy);
    assert((status == TWILL_OK && copy.status == TWILL_STALE) ||
           (status == TWILL_STALE && copy.status == TWILL_OK));
    finish(pool);
    return 0;
}
