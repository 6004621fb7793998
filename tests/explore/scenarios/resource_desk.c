/* EXPLORE-FLAGS: -DTWILL__NO_MEMBARRIER
   A plain pool's desk: two come and go without the lock while a third stands in line, looks at the
   books, or shrinks the pool, which may have been used before. What a resource holds is plain
   memory: its last user comes before the next one; a lease that is kept as a copy gives nothing
   back a second time. */
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

/* The figure of those lent at once is the highest that anybody saw. */
static void raise_peak(void *side_)
{
    struct side *side = side_;
    twill__desk_peak(&side->pool->desk, side->discard ? 2 : 1);
}

static void two_raise(twill_resource_pool *pool, struct side *one, struct side *two)
{
    two->discard = true;
    if (!go(one, raise_peak, pool))
        exit(0);
    if (!go(two, raise_peak, pool))
        exit(0);
    end(one);
    end(two);
    assert(atomic_load(&pool->desk.peak) == 2);
    assert(twill_resource_pool_destroy(pool) == TWILL_OK);
}

/* Who has it, as far as that is known. */
static void look(twill_resource_pool *pool, size_t size)
{
    twill_resource_pool_stats s;
    twill_lease_info infos[2];
    size_t n;
    twill_resource_pool_get_stats(pool, &s);
    assert(s.acquires == s.releases + s.leased && s.acquires <= 6 && s.total <= size);
    assert(s.total >= s.idle + s.leased && s.leased_peak <= size);
    n = twill_resource_pool_leases(pool, infos, 2);
    assert(n <= size);
    for (size_t k = 0; k < n; k++)
        assert(infos[k].file ? strstr(infos[k].file, "resource_desk.c") && infos[k].line
                             : !infos[k].line);
}

int main(void)
{
    struct side one = {.discard = false}, two = {.discard = false};
    twill_resource_pool_stats s;
    twill_resource_pool *pool;
    int size = 1 + (int)explore_choice(2), other = (int)explore_choice(4);
    int before = explore_choice(2) ? size : 0;
    twill_lease leases[2] = {{0}};
    long sum = 0;

    most = size;
    pool = pool_of((twill_resource_pool_options){.max = (size_t)size, .fifo = other == 1});
    if (other == 3) {
        two_raise(pool, &one, &two);
        return 0;
    }
    if (before)
        assert(twill_resource_pool_acquire_many_until(pool, leases, (size_t)size,
                                                      (twill_until){0, NULL}) == TWILL_OK);
    for (int k = 0; k < before; k++)
        assert(twill_resource_pool_release(pool, &leases[k]) == TWILL_OK);
    if (!go(&one, twice, pool))
        return 0;
    if (!go(&two, twice, pool)) {
        end(&one);
        return 0;
    }
    if (other == 1) {
        for (int k = 0; k < 2; k++)
            look(pool, (size_t)size);
    } else if (other == 2) {
        assert(twill_resource_pool_evict(pool) <= (size_t)size);
        assert(twill_resource_pool_resize(pool, 1) == TWILL_OK);
    }
    end(&one);
    end(&two);
    for (int k = 0; k < THINGS; k++)
        sum += content[k];
    twill_resource_pool_get_stats(pool, &s);
    assert(sum == 4 && s.acquires == 4 + (uint64_t)before && s.releases == s.acquires);
    finish(pool);
    return 0;
}
