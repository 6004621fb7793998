/* A callback of a resource pool forks, while another thread borrows: in the child the lock may be
   held for ever. Nothing is waited for there, no other callback is called, and the answer is
   FORKED. */
#include "explore.h"
#include "resource_common.h"

extern int fork(void);

static int forks_at, calls; /* the callback of that number forks */
static bool child;

static void may_fork(void)
{
    assert(!child);
    if (++calls != forks_at || fork() != 0)
        return;
    child = true;
    EXPLORE_REACHED("child");
}

static int forking_make(void **resource, const twill_task *task)
{
    int code = make(resource, task);
    may_fork();
    return code;
}

static int examine(void *resource, const twill_task *task)
{
    (void)resource, (void)task;
    may_fork();
    return explore_choice(2) ? 1 : 0;
}

static int renew(void *resource, const twill_task *task)
{
    (void)resource, (void)task;
    may_fork();
    return 0;
}

static void forking_end(void *resource, twill_resource_end why, const twill_task *task)
{
    end_thing(resource, why, task);
    may_fork();
}

static void look(void *side_)
{
    struct side *side = side_;
    twill_resource_pool_stats s;
    twill_resource_pool_get_stats(side->pool, &s);
    twill_resource_pool_get_stats(side->pool, &s);
}

/* Borrows, gives back, and keeps up. */
static twill_status life(twill_resource_pool *pool)
{
    twill_lease leases[2] = {{0}};
    twill_status status = twill_resource_pool_acquire_many_until(pool, leases, 2, (twill_until){0});
    if (status == TWILL_OK)
        status = twill_resource_pool_release(pool, &leases[0]);
    if (status == TWILL_OK)
        status = twill_resource_pool_release(pool, &leases[1]);
    if (status == TWILL_OK)
        status = twill_resource_pool_maintain(pool, NULL, (twill_until){0});
    if (status == TWILL_OK && explore_choice(2))
        (void)twill_resource_pool_evict(pool);
    return status;
}

int main(void)
{
    static struct side beside;
    twill_resource_pool *pool;
    twill_status status;

    most = 2;
    forks_at = 1 + (int)explore_choice(12);
    if (twill_resource_pool_create(
            &pool, &(twill_resource_pool_options){.max = 2,
                                                  .min_idle = 1,
                                                  .create = forking_make,
                                                  .destroy = forking_end,
                                                  .validate = examine,
                                                  .reset = renew,
                                                  .max_uses = 1 + explore_choice(2)}) != TWILL_OK)
        return 0;
    if (!go(&beside, look, pool))
        return 0;
    for (int k = 0; k < 2 && !child; k++) {
        status = life(pool);
        assert(status == TWILL_OK || (child && status == TWILL_FORKED));
    }
    if (!child) {
        end(&beside);
        status = twill_resource_pool_close(pool);
        assert(status == (child ? TWILL_FORKED : TWILL_OK));
    }
    if (!child) {
        assert(twill_resource_pool_destroy(pool) == TWILL_OK);
        return 0;
    }
    assert(twill_resource_pool_destroy(pool) == TWILL_FORKED);
    twill_resource_pool_abandon(pool);
    return 0;
}
