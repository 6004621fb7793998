/* Two borrow and give back lightly, and each gives back once more by a copy, while the other one
   may have it: STALE, whatever he sees of what the other one has noted. */
#define TWILL__DESK_REST  1
#define TWILL__DESK_ALONE false
#include "resource_common.h"

static void twice(void *side_)
{
    struct side *side = side_;
    twill_lease lease = {0}, copy;
    if (twill_resource_pool_try_acquire(side->pool, &lease) != TWILL_OK)
        return;
    copy = lease;
    assert(twill_resource_pool_release(side->pool, &lease) == TWILL_OK);
    assert(twill_resource_pool_release(side->pool, &copy) == TWILL_STALE);
}

int main(void)
{
    struct side one = {.discard = false}, two = {.discard = false};
    twill_resource_pool *pool = pool_of((twill_resource_pool_options){.max = 1});
    twill_lease lease = {0};

    for (int k = 0; k < 2; k++) { /* then returns are light */
        assert(twill_resource_pool_acquire(pool, &lease) == TWILL_OK);
        assert(twill_resource_pool_release(pool, &lease) == TWILL_OK);
    }
    if (!go(&one, twice, pool))
        return 0;
    if (!go(&two, twice, pool))
        exit(0);
    end(&one);
    end(&two);
    finish(pool);
    return 0;
}
