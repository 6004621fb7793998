/* A submit that waits for room, a close at any moment, and a destroy: what was accepted ran, what
   was refused did not. */
#include "pool_common.h"

static void submit_two(void *side_)
{
    struct side *side = side_;
    unsigned accepted = 0;

    for (int i = 0; i < 2; i++)
        accepted += twill_pool_submit(side->pool, run_it, NULL, NULL, NULL) == TWILL_OK;
    side->outcome.attempts = accepted;
}

int main(void)
{
    struct side other = {0};

    other.pool = pool_of(&(twill_pool_options){.run.workers = 1, .capacity = 1});
    go(&other, submit_two);
    assert(twill_pool_close(other.pool) == TWILL_OK);
    end(&other);
    assert(twill_pool_destroy(other.pool) == TWILL_OK);
    assert(ran == other.outcome.attempts);
    return 0;
}
