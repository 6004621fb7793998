/* Returns are light, and change to wary ones and back: one borrows and gives back without pause,
   while another one stands in line for the same resource, or looks at the books. His wait ends,
   whenever he comes: the return that he does not see sees him. */
#define TWILL__DESK_REST  2
#define TWILL__DESK_ALONE false
#include "explore.h"
#include "resource_common.h"

static void look(twill_resource_pool *pool)
{
    twill_resource_pool_stats s;
    twill_resource_pool_get_stats(pool, &s);
    assert(s.acquires == s.releases + s.leased && s.leased <= 1);
}

static void over_and_over(void *side_)
{
    struct side *side = side_;
    for (int k = 0; k < 4; k++) {
        twill_lease lease = {0};
        assert(twill_resource_pool_acquire(side->pool, &lease) == TWILL_OK);
        twill_lease copy = lease;
        use(&lease);
        assert(twill_resource_pool_release(side->pool, &lease) == TWILL_OK);
        assert(twill_resource_pool_release(side->pool, &copy) == TWILL_STALE);
    }
}

int main(void)
{
    struct side one = {.discard = false};
    twill_resource_pool *pool = pool_of((twill_resource_pool_options){.max = 1});
    twill_lease lease = {0};

    for (int k = 1 + (int)explore_choice(3); k > 0; k--) { /* at the end of 3 they are light */
        assert(twill_resource_pool_acquire(pool, &lease) == TWILL_OK);
        assert(twill_resource_pool_release(pool, &lease) == TWILL_OK);
    }
    if (!go(&one, over_and_over, pool))
        return 0;
    for (int k = 0, looks = (int)explore_choice(2); k < 2; k++) {
        if (looks) {
            look(pool);
            continue;
        }
        assert(twill_resource_pool_acquire(pool, &lease) == TWILL_OK);
        use(&lease);
        assert(twill_resource_pool_release(pool, &lease) == TWILL_OK);
    }
    end(&one);
    finish(pool);
    return 0;
}
