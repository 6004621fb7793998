/* A task is cancelled while it runs or ends; the next one has the same record, and a token of its
   own that nobody has fired. */
#define TWILL__FIRST_RECORDS 1
#include "pool_common.h"

static _Atomic unsigned told;

static int poll_it(void *number, void *result, const twill_task *task)
{
    (void)result;
    ran++;
    if (twill_task_cancelled(task)) {
        assert(!number);
        told++;
    }
    return 0;
}

static void cancel_it(void *side_)
{
    struct side *side = side_;

    side->status = twill_future_cancel(side->future);
}

int main(void)
{
    struct side other = {0};
    twill_status status;
    twill_future next;

    other.pool = pool_of(&(twill_pool_options){.run.workers = 1});
    assert(twill_pool_submit(other.pool, poll_it, NULL, &other.future, NULL) == TWILL_OK);
    go(&other, cancel_it);
    status = twill_future_wait_until(other.future, NULL, NULL, without_helping());
    assert(status == TWILL_OK || status == TWILL_FAILED);
    end(&other);
    twill_future_release(other.future);
    assert(twill_pool_submit(other.pool, poll_it, &other, &next, NULL) == TWILL_OK);
    assert(next.slot == other.future.slot);
    assert(twill_future_wait_until(next, NULL, NULL, without_helping()) == TWILL_OK);
    assert(ran == (status == TWILL_OK) + 1u);
    assert(twill_pool_destroy(other.pool) == TWILL_OK);
    twill_future_release(next);
    return 0;
}
