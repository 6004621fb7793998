/* A token fires on a borrower of two, who has one in hand already: it is passed on. */
#include "resource_common.h"

static twill_cancel token;

static void borrow_two(void *side_)
{
    struct side *side = side_;
    twill_lease two[2] = {{0}};
    side->status = twill_resource_pool_acquire_many_until(side->pool, two, 2, side->until);
    for (int k = 0; side->status == TWILL_OK && k < 2; k++)
        assert(twill_resource_pool_release(side->pool, &two[k]) == TWILL_OK);
}

int main(void)
{
    struct side both = {.discard = false}, one = {.discard = false};
    twill_resource_pool *pool;
    twill_lease lease = {0};

    most = 2;
    pool = pool_of((twill_resource_pool_options){.max = 2});
    twill_cancel_init(&token, NULL);
    both.until = twill_until_cancelled(&token);
    assert(twill_resource_pool_acquire(pool, &lease) == TWILL_OK);
    if (!go(&both, borrow_two, pool))
        return 0;
    if (go(&one, borrow, pool)) {
        twill_cancel_fire(&token, 1);
        end(&one); /* behind it, and served when it has left */
        assert(one.status == TWILL_OK);
    }
    assert(twill_resource_pool_release(pool, &lease) == TWILL_OK);
    end(&both);
    assert(both.status == TWILL_OK || both.status == TWILL_CANCELLED);
    finish(pool);
    return 0;
}
