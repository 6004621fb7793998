/* `destroy` ends the thread that closes the pool, with another resource idle, while somebody waits
   for the end: he goes on with it, and the pool stays until he is through, also for a destroy. */
#include "resource_common.h"

static twill_resource_pool *the_pool;
static atomic_int ends = 1;

static bool somebody_drains(void)
{
    bool drains;
    twill__lock(&the_pool->lock);
    drains = the_pool->drainers.first != NULL;
    twill__unlock(&the_pool->lock);
    return drains;
}

static void end_and_leave(void *resource, twill_resource_end why, const twill_task *task)
{
    end_thing(resource, why, task);
    if (atomic_fetch_sub(&ends, 1) != 1)
        return;
    while (!somebody_drains())
        twill__yield();
#ifdef TWILL_USE_PTHREAD
    pthread_exit(NULL);
#else
    thrd_exit(0);
#endif
}

static void close_it(void *side_)
{
    struct side *side = side_;
    (void)twill_resource_pool_close(side->pool);
}

static void drain_it(void *side_)
{
    struct side *side = side_;
    while ((side->status = twill_resource_pool_drain(side->pool)) == TWILL_INVALID)
        twill__yield();
}

int main(void)
{
    struct side closes = {.keep = false}, drains = {.keep = false};
    twill_resource_pool_options options = {.max = 2, .destroy = end_and_leave};

    if (twill_resource_pool_create(&the_pool, &options) != TWILL_OK)
        return 0;
    for (uintptr_t k = 1; k <= 2; k++) {
        atomic_fetch_add(&made, 1);
        atomic_fetch_add(&existing, 1);
        assert(twill_resource_pool_add(the_pool, (void *)k) == TWILL_OK);
    }
    if (!go(&drains, drain_it, the_pool))
        exit(0);
    if (!go(&closes, close_it, the_pool))
        exit(0);
    end(&closes);
    while (twill_resource_pool_destroy(the_pool) == TWILL_BUSY)
        twill__yield();
    end(&drains);
    assert(drains.status == TWILL_OK && atomic_load(&existing) == 0);
    return 0;
}
