/* A creation fails with somebody waiting, with a pause or without: the capacity goes on to him. */
#include "explore.h"
#include "resource_common.h"

int main(void)
{
    struct side one = {.discard = false}, two = {.discard = false};
    twill_resource_pool *pool = pool_of((twill_resource_pool_options){
        .max = 1, .create_pause = EXPLORE_CHOICE(2, 0) ? TWILL_US(2) : 0});

    atomic_store(&refuse, 1);
    if (!go(&one, borrow, pool))
        return 0;
    if (go(&two, borrow, pool)) {
        end(&two);
        assert(two.status == TWILL_OK || two.status == TWILL_FAILED);
    }
    end(&one);
    assert(one.status == TWILL_OK || one.status == TWILL_FAILED);
    finish(pool);
    return 0;
}
