/* Close and destroy with borrowers inside, on their way in, or on their way out. */
#include "resource_common.h"

int main(void)
{
    struct side one = {.discard = false}, two = {.discard = false};
    twill_resource_pool *pool = pool_of((twill_resource_pool_options){.max = 1});
    twill_resource_pool_stats s;
    twill_lease lease = {0};

    assert(twill_resource_pool_acquire(pool, &lease) == TWILL_OK);
    two.until = twill_within(TWILL_US(1));
    if (!go(&one, borrow, pool))
        return 0;
    if (!go(&two, borrow, pool)) {
        assert(twill_resource_pool_release(pool, &lease) == TWILL_OK);
        end(&one);
        return 0;
    }
    do { /* both inside, or the second gone again */
        twill__yield();
        twill_resource_pool_get_stats(pool, &s);
    } while (s.waits < 2);
    assert(twill_resource_pool_close(pool) == TWILL_OK);
    assert(twill_resource_pool_destroy(pool) == TWILL_BUSY);
    assert(twill_resource_pool_release(pool, &lease) == TWILL_OK);
    assert(twill_resource_pool_destroy(pool) == TWILL_OK);
    end(&one);
    end(&two);
    assert(one.status == TWILL_CLOSED);
    assert(two.status == TWILL_CLOSED || two.status == TWILL_TIMEOUT);
    assert(atomic_load(&existing) == 0);
    return 0;
}
