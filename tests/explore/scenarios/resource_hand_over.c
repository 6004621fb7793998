/* One resource, three borrowers: handed over, discarded, never lent twice. */
#include "resource_common.h"

int main(void)
{
    struct side one = {.discard = true}, two = {.discard = false};
    twill_resource_pool *pool = pool_of((twill_resource_pool_options){.max = 1});

    if (!go(&one, borrow, pool))
        return 0;
    if (go(&two, borrow, pool)) {
        struct side me = {.pool = pool};
        borrow(&me);
        assert(me.status == TWILL_OK);
        end(&two);
        assert(two.status == TWILL_OK);
    }
    end(&one);
    assert(one.status == TWILL_OK);
    finish(pool);
    return 0;
}
