/* The pool shrinks and grows, and is evicted, while two borrow; or two let it grow at once; or who
   lets it grow is ended by a `destroy`, and leaves nothing behind. */
#include "explore.h"
#include "resource_common.h"

static void grow(void *side_)
{
    struct side *side = side_;
    side->status = twill_resource_pool_resize(side->pool, 4);
}

static int two_grow(void)
{
    struct side one = {.discard = false};
    twill_resource_pool *pool = pool_of((twill_resource_pool_options){.max = 2});
    twill_resource_pool_stats s;
    twill_lease leases[3] = {{0}};

    most = 4;
    if (!go(&one, grow, pool))
        return 0;
    assert(twill_resource_pool_resize(pool, 3) == TWILL_OK);
    for (int k = 0; k < 3; k++)
        assert(twill_resource_pool_acquire(pool, &leases[k]) == TWILL_OK);
    end(&one);
    twill_resource_pool_get_stats(pool, &s);
    assert(one.status == TWILL_OK && (s.max == 3 || s.max == 4) && pool->room == 4);
    for (int k = 0; k < 3; k++)
        assert(twill_resource_pool_release(pool, &leases[k]) == TWILL_OK);
    finish(pool);
    return 0;
}

static void destroy_and_end(void *resource, twill_resource_end why, const twill_task *task)
{
    end_thing(resource, why, task);
#ifdef TWILL_USE_PTHREAD
    pthread_exit(NULL);
#else
    thrd_exit(0);
#endif
}

static int grow_and_end(void)
{
    struct side one = {.status = TWILL_OK};
    twill_resource_pool *pool;
    twill_lease lease;

    if (twill_resource_pool_create(
            &pool, &(twill_resource_pool_options){.max = 1,
                                                  .max_idle_time = TWILL_US(1),
                                                  .create = make,
                                                  .destroy = destroy_and_end}) != TWILL_OK)
        return 0;
    assert(twill_resource_pool_acquire(pool, &lease) == TWILL_OK);
    assert(twill_resource_pool_release(pool, &lease) == TWILL_OK);
    (void)twill_sleep(twill_within(TWILL_US(2)));
    one.status = TWILL_CLOSED;
    if (go(&one, grow, pool)) {
        end(&one);
        assert(one.status == TWILL_CLOSED && atomic_load(&existing) == 0); /* it did not return */
    }
    finish(pool);
    return 0;
}

int main(void)
{
    struct side one = {.discard = false}, two = {.discard = false};
    twill_resource_pool *pool;

    switch (explore_choice(3)) {
    case 0:
        break;
    case 1:
        return two_grow();
    default:
        return grow_and_end();
    }
    most = 2;
    pool = pool_of((twill_resource_pool_options){.max = 2});
    if (!go(&one, borrow, pool))
        return 0;
    if (!go(&two, borrow, pool)) {
        end(&one);
        return 0;
    }
    assert(twill_resource_pool_resize(pool, 1) == TWILL_OK);
    (void)twill_resource_pool_evict(pool);
    assert(twill_resource_pool_resize(pool, 2) == TWILL_OK);
    end(&one);
    end(&two);
    assert(one.status == TWILL_OK && two.status == TWILL_OK);
    finish(pool);
    return 0;
}
