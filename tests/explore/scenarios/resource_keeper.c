/* A pool with a thread that maintains it, once an hour: destroyed at any moment it ends, and, in
   some schedule, at once; a destroy that found a lease out comes again, and one by the thread
   itself, in a callback, is refused: it cannot wait for its own end. */
#include "explore.h"
#include "resource_common.h"

enum { LEASE_IS_OUT = 1, AFTER_AN_HOUR = 2, FROM_INSIDE = 4 };

static twill_resource_pool *_Atomic inside; /* the keeper destroys it */
static _Thread_local bool is_main;

static int make_or_destroy(void **resource, const twill_task *task)
{
    if (atomic_load(&inside) && !is_main)
        assert(twill_resource_pool_destroy(atomic_load(&inside)) == TWILL_BUSY);
    return make(resource, task);
}

int main(void)
{
    twill_resource_pool_options options = {
        .max = 2, .min_idle = 1, .maintain_every = TWILL_SEC(3600)};
    twill_resource_pool *pool;
    twill_resource_pool_stats s;
    twill_lease lease = {0};
    twill_ns begun = twill_now();
    unsigned how = (unsigned)explore_choice(8);

    EXPLORE_MUST_REACH("filled");
    EXPLORE_MUST_REACH("at once");
    is_main = true;
    most = 2;
    options.create = make_or_destroy;
    options.destroy = end_thing;
    if (twill_resource_pool_create(&pool, &options) != TWILL_OK)
        return 0; /* a sweep of failures */
    if (how & LEASE_IS_OUT)
        assert(twill_resource_pool_acquire(pool, &lease) == TWILL_OK);
    if (how & FROM_INSIDE)
        atomic_store(&inside, pool);
    if (how & AFTER_AN_HOUR) {
        assert(twill_sleep(twill_within(TWILL_SEC(5000))) == TWILL_OK);
        begun += TWILL_SEC(5000);
        twill_resource_pool_get_stats(pool, &s);
        if (s.idle == 1 && s.created == 1 + (how & LEASE_IS_OUT))
            EXPLORE_REACHED("filled");
    }
    if (how & LEASE_IS_OUT) {
        assert(twill_resource_pool_destroy(pool) == TWILL_BUSY);
        assert(twill_resource_pool_release(pool, &lease) == TWILL_OK);
    }
    assert(twill_resource_pool_destroy(pool) == TWILL_OK);
    if (twill_now() == begun)
        EXPLORE_REACHED("at once");
    assert(atomic_load(&existing) == 0);
    for (int k = 1; k <= atomic_load(&made); k++)
        assert(atomic_load(&destroyed[k]) == 1);
    return 0;
}
