/* A pool that never gets a thread, and one who waits for room there: he looks again by himself now
   and then. A close meets him at any moment, also when he does not wait just then: he is told. */
#include "explore.h"

static int no_thread(void);
#define TWILL__FAIL_THREAD() no_thread()
#include "pool_common.h"

static _Atomic bool fails;

static int no_thread(void)
{
    return atomic_load(&fails);
}

static void close_it(void *side_)
{
    struct side *side = side_;

    side->status = twill_pool_close(side->pool);
}

int main(void)
{
    struct side other = {0};
    unsigned accepted = 0;

    EXPLORE_MUST_REACH("one accepted");
    other.pool = pool_of(&(twill_pool_options){.run.workers = 1, .lazy = true, .capacity = 1});
    go(&other, close_it);
    atomic_store(&fails, true);
    while (twill_pool_submit(other.pool, run_it, NULL, NULL, NULL) == TWILL_OK)
        accepted++;
    end(&other);
    assert(other.status == TWILL_OK && accepted < 2);
    if (accepted)
        EXPLORE_REACHED("one accepted");
    assert(twill_pool_destroy(other.pool) == TWILL_OK); /* runs it here */
    assert(ran == accepted);
    return 0;
}
