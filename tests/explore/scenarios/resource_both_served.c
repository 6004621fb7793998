/* A wants three and has two places in hand, B and C behind him want one each, and what one of them
   makes is ready when both are at it: what A gives back when his token fires serves the two at
   once. */
#include "resource_common.h"

static _Atomic uint32_t making;

static int make_both(void **resource, const twill_task *task)
{
    uint32_t seen;
    int code = make(resource, task);
    if ((uintptr_t)*resource == 1) /* main's */
        return code;
    atomic_fetch_add(&making, 1);
    twill__wake(&making, 2);
    while ((seen = atomic_load(&making)) < 2) /* exit: both are made */
        twill__park(&making, seen, 0);
    return code;
}

static void want_three(void *side_)
{
    struct side *side = side_;
    twill_lease three[3] = {{0}};
    side->status = twill_resource_pool_acquire_many_until(side->pool, three, 3, side->until);
}

int main(void)
{
    static twill_cancel token;
    struct side a = {.discard = false}, b = {.keep = true}, c = {.keep = true};
    twill_resource_pool *pool;
    twill_lease lease = {0};

    most = 3;
    if (twill_resource_pool_create(&pool, &(twill_resource_pool_options){
                                              .max = 3, .create = make_both, .destroy = end_thing}))
        return 0;
    a.until = twill_until_cancelled(&token);
    assert(twill_resource_pool_acquire(pool, &lease) == TWILL_OK);
    if (!go(&a, want_three, pool))
        return 0;
    if (!go(&b, borrow, pool) || !go(&c, borrow, pool))
        exit(0);
    twill_cancel_fire(&token, 1);
    end(&a);
    end(&b);
    end(&c);
    assert(a.status == TWILL_CANCELLED && b.status == TWILL_OK && c.status == TWILL_OK);
    assert(twill_resource_pool_release(pool, &lease) == TWILL_OK);
    assert(twill_resource_pool_release(pool, &b.lease) == TWILL_OK);
    assert(twill_resource_pool_release(pool, &c.lease) == TWILL_OK);
    finish(pool);
    return 0;
}
