/* Of two workers one is too many after a resize, and about to leave; the other one's task ends its
   thread meanwhile, and perhaps no thread can be had at that moment: the next task finds a worker
   all the same. */
#include "explore.h"

#include <stdatomic.h>

static _Atomic int failures;

static int no_thread(void)
{
    return atomic_exchange(&failures, 0);
}

#define TWILL__FAIL_THREAD() no_thread()
#include "pool_common.h"

static int end_it(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    pthread_exit(NULL);
}

int main(void)
{
    struct side other = {0};

    other.pool = pool_of(&(twill_pool_options){.run.workers = 2});
    other.until = without_helping();
    assert(twill_pool_submit(other.pool, end_it, NULL, NULL, NULL) == TWILL_OK);
    atomic_store(&failures, EXPLORE_CHOICE(2, 0));
    assert(twill_pool_resize(other.pool, 1, 0) == TWILL_OK);
    assert(twill_pool_submit(other.pool, run_it, NULL, &other.future, NULL) == TWILL_OK);
    wait_on(&other);
    assert(other.status == TWILL_OK && ran == 1);
    twill_future_release(other.future);
    assert(twill_pool_destroy(other.pool) == TWILL_OK);
    return 0;
}
