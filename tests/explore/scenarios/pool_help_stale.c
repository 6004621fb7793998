/* A thread waits for a task whose handle another one gives back; the next task has the same record.
   Who waits for the first one does not run the second: it is a stranger. */
#define TWILL__FIRST_RECORDS 1
#include "pool_common.h"

#include "explore.h"

static uint64_t waiter;

static int of_the_other(void *arg, void *result, const twill_task *task)
{
    assert(twill__thread_number() != waiter);
    return run_it(arg, result, task);
}

static void give_back(void *side_)
{
    struct side *side = side_;
    twill_future next;

    assert(twill_future_wait_until(side->future, NULL, NULL, without_helping()) == TWILL_OK);
    twill_future_release(side->future);
    assert(twill_pool_submit(side->pool, of_the_other, NULL, &next, NULL) == TWILL_OK);
    if (next.slot == side->future.slot)
        EXPLORE_REACHED("the same record");
    assert(twill_future_wait_until(next, NULL, NULL, without_helping()) == TWILL_OK);
    side->future = next;
}

int main(void)
{
    struct side other = {0};
    twill_future first;
    twill_status status;

    EXPLORE_MUST_REACH("the same record");
    waiter = twill__thread_number();
    other.pool = pool_of(&(twill_pool_options){.run.workers = 1});
    assert(twill_pool_submit(other.pool, run_it, NULL, &other.future, NULL) == TWILL_OK);
    first = other.future;
    go(&other, give_back);
    status = twill_future_wait(first, NULL, NULL);
    assert(status == TWILL_OK || status == TWILL_STALE);
    end(&other);
    assert(ran == 2);
    balanced(other.pool, 2);
    assert(twill_pool_destroy(other.pool) == TWILL_OK);
    twill_future_release(other.future);
    return 0;
}
