/* The pool shrinks and grows, and is evicted, while two borrow. */
#include "resource_common.h"

int main(void)
{
    struct side one = {.discard = false}, two = {.discard = false};
    twill_resource_pool *pool;

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
