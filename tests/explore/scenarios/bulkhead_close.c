/* Close, a token and a leave meet one who waits: exactly one answer, and the count is exact. */
#include "rate_common.h"

static twill_cancel token;

static void fire(void *caller_)
{
    (void)caller_;
    twill_cancel_fire(&token, 1);
}

int main(void)
{
    static twill_bulkhead bulkhead;
    struct caller waiter = {.bulkhead = &bulkhead, .until.cancel = &token}, firer = {.n = 0};
    assert(twill_bulkhead_init(&bulkhead, 1, 1) == TWILL_OK);
    assert(twill_bulkhead_enter(&bulkhead) == TWILL_OK);
    go(&waiter, enter);
    go(&firer, fire);
    if (EXPLORE_CHOICE(2, 0))
        assert(twill_bulkhead_close(&bulkhead) == TWILL_OK);
    assert(twill_bulkhead_leave(&bulkhead) == TWILL_OK);
    end(&waiter);
    end(&firer);
    assert(waiter.status == TWILL_OK || waiter.status == TWILL_CLOSED ||
           waiter.status == TWILL_CANCELLED);
    assert(twill_bulkhead_leave(&bulkhead) ==
           (waiter.status == TWILL_OK ? TWILL_OK : TWILL_INVALID));
    return 0;
}
