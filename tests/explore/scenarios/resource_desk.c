/* EXPLORE-FLAGS: -DTWILL__NO_MEMBARRIER
   A plain pool's desk: two come and go without the lock while a third stands in line, looks at the
   books, or shrinks the pool. What a resource holds is plain memory: its last user comes before the
   next one; a lease that is kept as a copy gives nothing back a second time. */
#include "explore.h"
#include "resource_common.h"

static long content[THINGS]; /* by the resource's number; whoever has it may write */

static void twice(void *side_)
{
    struct side *side = side_;
    for (int k = 0; k < 2; k++) {
        twill_lease copy;
        assert(twill_resource_pool_acquire(side->pool, &side->lease) == TWILL_OK);
        copy = side->lease;
        use(&copy);
        content[(uintptr_t)copy.resource]++;
        assert(twill_resource_pool_release(side->pool, &side->lease) == TWILL_OK);
        assert(twill_resource_pool_release(side->pool, &copy) == TWILL_STALE);
    }
}

int main(void)
{
    struct side one = {.discard = false}, two = {.discard = false};
    twill_resource_pool_stats s;
    twill_resource_pool *pool;
    int size = 1 + (int)explore_choice(2), other = (int)explore_choice(3);
    long sum = 0;

    most = size;
    pool = pool_of((twill_resource_pool_options){.max = (size_t)size, .fifo = other == 1});
    if (!go(&one, twice, pool))
        return 0;
    if (!go(&two, twice, pool)) {
        end(&one);
        return 0;
    }
    if (other == 1) {
        twill_resource_pool_get_stats(pool, &s);
        assert(s.acquires == s.releases + s.leased && s.acquires <= 4 && s.total <= (size_t)size);
        assert(s.total >= s.idle + s.leased && s.leased_peak <= (size_t)size);
    } else if (other == 2) {
        assert(twill_resource_pool_evict(pool) <= (size_t)size);
        assert(twill_resource_pool_resize(pool, 1) == TWILL_OK);
    }
    end(&one);
    end(&two);
    for (int k = 0; k < THINGS; k++)
        sum += content[k];
    twill_resource_pool_get_stats(pool, &s);
    assert(sum == 4 && s.acquires == 4 && s.releases == 4);
    finish(pool);
    return 0;
}
