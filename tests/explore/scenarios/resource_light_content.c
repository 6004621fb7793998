/* Light returns: what a resource holds is plain memory, and its last user comes before the next
   one, whether that one finds it by `done` alone, among several, or through the hands of who has
   looked at the books. */
#define TWILL__DESK_REST  1
#define TWILL__DESK_ALONE false
#include "explore.h"
#include "resource_common.h"

static long content[THINGS];

static void once(void *side_)
{
    struct side *side = side_;
    twill_lease lease = {0};
    if (twill_resource_pool_try_acquire(side->pool, &lease) != TWILL_OK)
        return;
    content[(uintptr_t)lease.resource]++;
    assert(twill_resource_pool_release(side->pool, &lease) == TWILL_OK);
}

int main(void)
{
    struct side one = {.discard = false}, two = {.discard = false};
    twill_resource_pool_stats s;
    twill_resource_pool *pool;
    twill_lease lease = {0}, other = {0};

    most = 1 + (int)explore_choice(2);
    pool = pool_of((twill_resource_pool_options){.max = (unsigned)most});
    for (int k = 0; k < 2; k++) { /* then returns are light */
        assert(twill_resource_pool_acquire(pool, &lease) == TWILL_OK);
        if (most == 2)
            assert(twill_resource_pool_acquire(pool, &other) == TWILL_OK);
        assert(twill_resource_pool_release(pool, &lease) == TWILL_OK);
        if (most == 2)
            assert(twill_resource_pool_release(pool, &other) == TWILL_OK);
    }
    if (!go(&one, once, pool))
        return 0;
    if (!go(&two, once, pool))
        exit(0);
    if (explore_choice(2)) /* takes the cells, and shows them again */
        twill_resource_pool_get_stats(pool, &s);
    once(&one);
    end(&one);
    end(&two);
    finish(pool);
    return 0;
}
