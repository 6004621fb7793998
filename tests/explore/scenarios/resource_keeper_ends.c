/* A callback ends the thread that maintains the pool, once or twice: another one goes on, and
   fills the pool; destroyed at any moment, all of them are joined. Likewise `destroy` ends the
   thread that closes the pool, with others idle: who drains ends these, and does not wait for
   ever. */
#include "explore.h"
#include "resource_common.h"

static atomic_int ends; /* so many callbacks end their thread */
static _Thread_local bool is_main;

static void end_thread(void)
{
    if (is_main || atomic_fetch_sub(&ends, 1) <= 0)
        return;
#ifdef TWILL_USE_PTHREAD
    pthread_exit(NULL);
#else
    thrd_exit(0);
#endif
}

static int make_or_end(void **resource, const twill_task *task)
{
    end_thread();
    return make(resource, task);
}

static void destroy_or_end(void *resource, twill_resource_end why, const twill_task *task)
{
    end_thing(resource, why, task);
    end_thread();
}

static void close_it(void *side_)
{
    struct side *side = side_;
    (void)twill_resource_pool_close(side->pool);
}

static void close_and_drain(twill_resource_pool *pool)
{
    struct side closer = {.keep = false};
    twill_lease leases[2];

    assert(twill_resource_pool_acquire_many_until(pool, leases, 2, (twill_until){0, NULL}) ==
           TWILL_OK);
    for (int k = 0; k < 2; k++)
        assert(twill_resource_pool_release(pool, &leases[k]) == TWILL_OK);
    atomic_store(&ends, 1);
    if (!go(&closer, close_it, pool))
        return;
    if (EXPLORE_CHOICE(2, 0))
        end(&closer), closer.keep = true;
    else
        (void)twill_resource_pool_close(pool);
    if (EXPLORE_CHOICE(2, 0)) {
        assert(twill_resource_pool_drain(pool) == TWILL_OK);
        assert(atomic_load(&existing) == 0);
    }
    if (!closer.keep)
        end(&closer);
}

int main(void)
{
    bool keeps = EXPLORE_CHOICE(2, 0), waits = EXPLORE_CHOICE(2, 0);
    twill_resource_pool_options options = {
        .max = 2, .min_idle = keeps, .maintain_every = keeps ? TWILL_US(5) : 0};
    twill_resource_pool *pool;
    twill_resource_pool_stats s;

    EXPLORE_MUST_REACH("filled by the third");
    is_main = true;
    most = 2;
    options.create = make_or_end;
    options.destroy = destroy_or_end;
    if (keeps)
        atomic_store(&ends, 1 + EXPLORE_CHOICE(2, 0));
    if (twill_resource_pool_create(&pool, &options) != TWILL_OK)
        return 0; /* a sweep of failures */
    if (!keeps)
        close_and_drain(pool);
    while (keeps && waits) { /* exit: it is filled */
        (void)twill_sleep(twill_within(TWILL_US(5)));
        twill_resource_pool_get_stats(pool, &s);
        waits = !s.idle;
        if (!waits && s.create_failed == 2)
            EXPLORE_REACHED("filled by the third");
    }
    assert(twill_resource_pool_destroy(pool) == TWILL_OK);
    assert(atomic_load(&existing) == 0);
    for (int k = 1; k <= atomic_load(&made); k++)
        assert(atomic_load(&destroyed[k]) == 1);
    return 0;
}
