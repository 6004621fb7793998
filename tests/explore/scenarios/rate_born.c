/* The first two tries with the caller's own clock: it begins at the first instant, for both. */
#include "rate_common.h"

static void try_late(void *caller_)
{
    struct caller *caller = caller_;
    caller->status =
        twill_rate_limiter_try_acquire_at(caller->limiter, 1, TWILL_SEC(1000000) * 1000);
}

int main(void)
{
    static twill_rate_limiter limiter;
    struct caller one = {.limiter = &limiter}, other = {.limiter = &limiter};
    slow(&limiter, 2, 1);
    go(&one, try_late);
    go(&other, try_late);
    end(&one);
    end(&other);
    assert((one.status == TWILL_OK) + (other.status == TWILL_OK) == 1);
    return 0;
}
