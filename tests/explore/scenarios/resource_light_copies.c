/* Returns are light. A lease and its copy are given back at once, by its borrower and by another
   thread, and the resource is lent again meanwhile: one of the two is STALE, whenever they come,
   and nothing is lost: neither what the next one has, nor what he gives back. From then on the
   borrower alone does not decide any more. */
#define TWILL__DESK_REST  1
#define TWILL__DESK_ALONE false
#include "explore.h"
#include "resource_common.h"

static void give_back(void *side_)
{
    struct side *side = side_;
    side->status = twill_resource_pool_release(side->pool, &side->lease);
}

static void again(void *side_)
{
    struct side *side = side_;
    twill_resource_pool_stats s;
    for (int k = 0; k < 3; k++) {
        twill_lease lease = {0}, copy;
        if (twill_resource_pool_try_acquire(side->pool, &lease) != TWILL_OK)
            continue;
        use(&lease);
        copy = lease;
        assert(twill_resource_pool_release(side->pool, &lease) == TWILL_OK);
        assert(twill_resource_pool_release(side->pool, &copy) == TWILL_STALE);
    }
    twill_resource_pool_get_stats(side->pool, &s);
    assert(s.leased <= 1 && s.acquires == s.releases + s.leased);
}

int main(void)
{
    struct side copy = {.discard = false}, next = {.discard = false};
    twill_resource_pool *pool;
    twill_lease lease = {0};
    twill_status status;

    pool = pool_of((twill_resource_pool_options){.max = 1});
    for (int k = (int)explore_choice(3); k > 0; k--) {
        assert(twill_resource_pool_acquire(pool, &lease) == TWILL_OK);
        assert(twill_resource_pool_release(pool, &lease) == TWILL_OK);
    }
    assert(twill_resource_pool_acquire(pool, &lease) == TWILL_OK);
    copy.lease = lease;
    if (!go(&copy, give_back, pool))
        return 0;
    if (go(&next, again, pool)) {
        status = twill_resource_pool_release(pool, &lease);
        end(&next);
    } else {
        status = twill_resource_pool_release(pool, &lease);
    }
    end(&copy);
    assert((status == TWILL_OK && copy.status == TWILL_STALE) ||
           (status == TWILL_STALE && copy.status == TWILL_OK));
    /* nothing is lost */
    lease = (twill_lease){0};
    assert(twill_resource_pool_try_acquire(pool, &lease) == TWILL_OK);
    assert(twill_resource_pool_release(pool, &lease) == TWILL_OK);
    finish(pool);
    return 0;
}
