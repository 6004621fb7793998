/* A try while somebody waits, and the rate changes to one whose units are coarser: it may be
   refused for now, never for good, whatever it reads of both rates. */
#include "rate_common.h"

static void change(void *caller_)
{
    struct caller *caller = caller_;
    assert(twill_rate_limiter_set_rate(caller->limiter, 1, TWILL_SEC(1), 2) == TWILL_OK);
}

int main(void)
{
    static twill_rate_limiter limiter;
    struct caller waits = {.limiter = &limiter, .n = 1}, other = {.limiter = &limiter};
    twill_status status;
    slow(&limiter, 2, 0);
    go(&waits, acquire);
    go(&other, change);
    status = twill_rate_limiter_try_acquire(&limiter, 2);
    assert(status == TWILL_OK || status == TWILL_EMPTY);
    end(&waits);
    end(&other);
    assert(waits.status == TWILL_OK);
    return 0;
}
