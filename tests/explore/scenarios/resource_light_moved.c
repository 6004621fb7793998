/* X had the resource, and gives back a copy of the lease of T, who has it next. U, who gives up
   waiting for it, signs for T and lets returns be light again meanwhile: whatever X sees of that,
   one of the two returns is STALE, and nothing is lost. */
#define TWILL__DESK_REST  1
#define TWILL__DESK_ALONE false
#include "resource_common.h"

static _Atomic uint32_t copied;

static void has_had_it(void *side_)
{
    struct side *x = side_;
    twill_lease lease = {0};
    assert(twill_resource_pool_acquire(x->pool, &lease) == TWILL_OK);
    assert(twill_resource_pool_release(x->pool, &lease) == TWILL_OK);
    while (!atomic_load(&copied))
        twill__park(&copied, 0, 0);
    x->status = twill_resource_pool_release(x->pool, &x->lease);
}

int main(void)
{
    struct side x = {.discard = false}, u = {.discard = false};
    twill_resource_pool *pool = pool_of((twill_resource_pool_options){.max = 1});
    twill_lease lease = {0};
    twill_status status;

    u.until = twill_within(TWILL_MS(1));
    if (!go(&x, has_had_it, pool))
        return 0;
    if (!go(&u, borrow, pool))
        exit(0);
    assert(twill_resource_pool_acquire(pool, &lease) == TWILL_OK);
    x.lease = lease;
    atomic_store(&copied, 1);
    twill__wake(&copied, 1);
    status = twill_resource_pool_release(pool, &lease);
    end(&u);
    end(&x);
    assert((status == TWILL_OK && x.status == TWILL_STALE) ||
           (status == TWILL_STALE && x.status == TWILL_OK));
    assert(u.status == TWILL_OK || u.status == TWILL_TIMEOUT);
    lease = (twill_lease){0};
    assert(twill_resource_pool_try_acquire(pool, &lease) == TWILL_OK);
    assert(twill_resource_pool_release(pool, &lease) == TWILL_OK);
    finish(pool);
    return 0;
}
