/* A destroy that begins while another call stands before the lock, or waits for the pool's end and
   leaves in that moment: the call is served, and the memory goes after it has left. */
#include "explore.h"
#include "resource_common.h"

static void maintain(void *side_)
{
    struct side *side = side_;
    side->status = twill_resource_pool_maintain(side->pool, NULL, side->until);
}

static void drain(void *side_)
{
    struct side *side = side_;
    side->status = twill_resource_pool_drain_until(side->pool, side->until);
}

/* Until as many as this stand before the lock, which this thread has. */
static void until_wanted(twill_resource_pool *pool, uint32_t n)
{
    while (atomic_load(&pool->lock) / TWILL__WAITER < n)
        twill__yield();
}

static void destroy_at_lock(twill_resource_pool *pool, struct side *one, struct side *two)
{
    twill_status status;
    twill__lock(&pool->lock);
    if (!go(one, borrow, pool))
        exit(0);
    until_wanted(pool, 1);
    if (!go(two, maintain, pool))
        exit(0);
    until_wanted(pool, 2);
    twill__unlock(&pool->lock);
    status = twill_resource_pool_destroy(pool);
    end(one);
    end(two);
    if (status == TWILL_BUSY) /* it has met the upkeep */
        status = twill_resource_pool_destroy(pool);
    assert(status == TWILL_OK);
    assert(one->status == TWILL_CLOSED);
    assert(two->status == TWILL_OK || two->status == TWILL_CLOSED);
}

/* The last lease comes back as the time of who drains is over. */
static void destroy_drained(twill_resource_pool *pool, struct side *one)
{
    twill_lease lease = {0};
    assert(twill_resource_pool_add(pool, (void *)(uintptr_t)1) == TWILL_OK);
    assert(twill_resource_pool_acquire(pool, &lease) == TWILL_OK);
    assert(twill_resource_pool_close(pool) == TWILL_OK);
    one->until = twill_within(TWILL_US(5));
    twill__lock(&pool->lock);
    if (!go(one, drain, pool))
        exit(0);
    until_wanted(pool, 1);
    twill__unlock(&pool->lock);
    if (explore_choice(2))
        (void)twill_sleep(one->until);
    assert(twill_resource_pool_release(pool, &lease) == TWILL_OK);
    assert(twill_resource_pool_destroy(pool) == TWILL_OK);
    end(one);
    assert(one->status == TWILL_OK || one->status == TWILL_TIMEOUT);
}

int main(void)
{
    static struct side one, two;
    twill_resource_pool *pool;
    if (twill_resource_pool_create(&pool, &(twill_resource_pool_options){.max = 1}) != TWILL_OK)
        return 0; /* a sweep of failures */
    if (explore_choice(2))
        destroy_at_lock(pool, &one, &two);
    else
        destroy_drained(pool, &one);
    return 0;
}
