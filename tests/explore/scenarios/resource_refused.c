/* One that wants two has found one of them fit, and waits for the right to make the other; another
   one, in front, takes the first out of its hands. What it gets for it is looked at again: nobody
   is lent what is destroyed. */
#include "explore.h"
#include "resource_common.h"

static int picky(void *resource, const twill_task *task)
{
    (void)resource, (void)task;
    return explore_choice(2);
}

static void two_at_once(void *side_)
{
    struct side *side = side_;
    twill_lease both[2] = {{0}};
    assert(twill_resource_pool_acquire_many_until(side->pool, both, 2, side->until) == TWILL_OK);
    for (int k = 0; k < 2; k++) {
        use(&both[k]);
        assert(atomic_load(&destroyed[(uintptr_t)both[k].resource]) == 0);
    }
    for (int k = 0; k < 2; k++)
        assert(twill_resource_pool_release(side->pool, &both[k]) == TWILL_OK);
}

int main(void)
{
    struct side one = {.discard = false}, two = {.discard = false}, me = {.discard = false};
    twill_resource_pool *pool;
    twill_lease all[4] = {{0}};

    most = 4;
    pool = pool_of((twill_resource_pool_options){.max = 4, .max_creating = 1, .validate = picky});
    assert(twill_resource_pool_acquire_many_until(pool, all, 4, me.until) == TWILL_OK);
    for (int k = 0; k < 4; k++)
        assert(twill_resource_pool_release(pool, &all[k]) == TWILL_OK);
    if (!go(&one, borrow, pool))
        return 0;
    if (go(&two, two_at_once, pool)) {
        me.pool = pool;
        borrow(&me);
        assert(me.status == TWILL_OK);
        end(&two);
    }
    end(&one);
    assert(one.status == TWILL_OK);
    finish(pool);
    return 0;
}
