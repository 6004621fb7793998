/* Another thread is the last to let go of a task's future; the task after it takes the same record:
   what that thread has read of it comes before what is written. */
#define TWILL__FIRST_RECORDS 1
#include "explore.h"
#include "pool_common.h"

static void wait_and_let_go(void *side_)
{
    struct side *side = side_;
    int result = 0;
    side->status = twill_future_wait(side->future, &result, &side->outcome);
    assert(side->status == TWILL_OK && result == 7);
    twill_future_release(side->future);
}

int main(void)
{
    struct side other = {0};
    twill_submit_options options = {.result_size = sizeof(int)};
    twill_future future;

    if (EXPLORE_CHOICE(2, 0)) /* then there is more to it than one step */
        options.discard = discard_it;
    quiet();
    other.pool = pool_of(&(twill_pool_options){.run.workers = 1});
    assert(twill_pool_submit(other.pool, run_it, NULL, &other.future, &options) == TWILL_OK);
    go(&other, wait_and_let_go);
    for (int k = 0; k < 3; k++) {
        assert(twill_pool_submit(other.pool, run_it, NULL, &future, &options) == TWILL_OK);
        twill_future_release(future);
    }
    end(&other);
    assert(twill_pool_destroy(other.pool) == TWILL_OK);
    assert(ran == 4);
    return 0;
}
