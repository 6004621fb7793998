/* One of two borrowers fails to create; the other one, who stands in line, is told to look again,
   since a pause has begun. What comes back in that moment is his, not a newcomer's. */
#include "resource_common.h"

int main(void)
{
    struct side one = {.keep = true}, two = {.keep = true}, *served;
    twill_resource_pool *pool;
    twill_resource_pool_stats s;
    twill_lease mine = {0};
    twill_status status;

    most = 3;
    pool = pool_of((twill_resource_pool_options){
        .max = 3, .max_creating = 1, .create_pause = TWILL_SEC(1000)});
    assert(twill_resource_pool_acquire(pool, &mine) == TWILL_OK);
    atomic_store(&refuse, 1);
    if (!go(&one, borrow, pool))
        return 0;
    if (!go(&two, borrow, pool)) {
        end(&one);
        return 0;
    }
    do { /* the second one waits for the right to create, or for the end of the pause */
        twill__yield();
        twill_resource_pool_get_stats(pool, &s);
    } while (s.waits == 0);
    assert(twill_resource_pool_release(pool, &mine) == TWILL_OK);
    status = twill_resource_pool_try_acquire(pool, &mine);
    twill_resource_pool_get_stats(pool, &s);
    assert(status == TWILL_EMPTY || (status == TWILL_OK && s.waiting == 0));
    end(&one);
    end(&two);
    assert((one.status == TWILL_OK) != (two.status == TWILL_OK));
    served = one.status == TWILL_OK ? &one : &two;
    assert(twill_resource_pool_release(pool, &served->lease) == TWILL_OK);
    if (status == TWILL_OK)
        assert(twill_resource_pool_release(pool, &mine) == TWILL_OK);
    finish(pool);
    return 0;
}
