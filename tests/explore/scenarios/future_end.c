/* A task ends while one thread waits for it, and another comes late. Then both release the same
   handle: it is released once, and the record is used again once, for a handle of its own. */
#include "future_common.h"

static void wait_and_release(void *side_)
{
    struct side *side = side_;

    side->status = twill_future_wait(side->future, NULL, NULL);
    twill_future_release(side->future);
}

int main(void)
{
    twill__core *core = core_of();
    struct side runner = {0}, other = {0};
    twill_outcome outcome = {0};
    twill_status status;
    twill_future next;

    runner.future = other.future = twill__record_hold(twill__record_get(core, 0));
    go(&runner, end_well);
    go(&other, wait_and_release);
    status = twill_future_wait(runner.future, NULL, &outcome);
    assert(status == TWILL_STALE || (status == TWILL_OK && outcome.code == 7));
    twill_future_release(runner.future);
    next = twill__record_hold(twill__record_get(core, 0));
    end(&other);
    assert(other.status == TWILL_OK || other.status == TWILL_STALE);
    assert(twill_future_try_wait(next, NULL, NULL) == TWILL_EMPTY);
    assert(twill_future_try_wait(runner.future, NULL, NULL) == TWILL_STALE);
    end(&runner);
    other.future = next;
    end_well(&other);
    assert(twill_future_wait(next, NULL, NULL) == TWILL_OK);
    twill_future_release(next);
    twill__core_leave(core);
    return 0;
}
