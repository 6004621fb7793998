/* A wait with a deadline, a request and a destroy: one answer, and the object outlives the wait. */
#include "shutdown_common.h"

static _Atomic int inside;

static void wait_for(void *side_)
{
    struct side *side = side_;
    side->status = twill_shutdown_wait(side->shutdown, side->until);
}

static void ask(void *side_)
{
    struct side *side = side_;
    twill_shutdown_request(side->shutdown, 3);
    atomic_store(&inside, 1);
}

int main(void)
{
    struct side one = {.until = twill_within(TWILL_US(1))}, two = {.count = 0};
    twill_shutdown *shutdown = make((twill_shutdown_options){0});
    bool there = false;

    go(&one, wait_for, shutdown);
    while (!there) { /* it has begun: in the list, or gone again */
        twill__lock(&shutdown->lock);
        there = shutdown->waiters.first || twill__clock_now() > one.until.deadline;
        twill__shutdown_unlock(shutdown);
        twill__yield();
    }
    if (twill__clock_now() > one.until.deadline) { /* too late to be sure */
        end(&one);
        assert(twill_shutdown_destroy(shutdown) == TWILL_OK);
        return one.status != TWILL_TIMEOUT;
    }
    go(&two, ask, shutdown);
    while (!atomic_load(&inside))
        twill__yield();
    end(&two);
    assert(twill_shutdown_destroy(shutdown) == TWILL_OK);
    end(&one);
    assert(one.status == TWILL_OK || one.status == TWILL_CLOSED || one.status == TWILL_TIMEOUT);
    return 0;
}
