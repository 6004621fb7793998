/* Two who look for room without the lock take it from each other: who has looked often enough in
   vain waits in turn, and all come in. */
#define TWILL__LINGERS 1
#include "pool_common.h"

static void submit_two(void *side_)
{
    struct side *side = side_;

    for (int i = 0; i < 2; i++)
        assert(twill_pool_submit(side->pool, run_it, NULL, NULL, NULL) == TWILL_OK);
}

int main(void)
{
    struct side sides[2] = {{.status = TWILL_OK}, {.status = TWILL_OK}};
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1, .capacity = 1});

    atomic_store(&twill__pool_of(pool)->quick, true); /* as if one was measured */
    for (int i = 0; i < 2; i++) {
        sides[i].pool = pool;
        go(&sides[i], submit_two);
    }
    for (int i = 0; i < 2; i++)
        end(&sides[i]);
    assert(twill_pool_wait_idle(pool) == TWILL_OK);
    assert(ran == 4);
    balanced(pool, 4);
    assert(twill_pool_destroy(pool) == TWILL_OK);
    return 0;
}
