/* A try while the rate changes, where words are so high that they begin at the bottom again:
   nothing is there before or after, whatever it reads of both rates. */
#include "rate_common.h"

static void change(void *caller_)
{
    struct caller *caller = caller_;
    assert(twill_rate_limiter_set_rate(caller->limiter, 1, TWILL_SEC(1000000), 1) == TWILL_OK);
}

int main(void)
{
    static twill_rate_limiter limiter;
    struct caller other = {.limiter = &limiter};
    slow(&limiter, (UINT64_C(1) << 35) - 1, 0);
    assert(twill_rate_limiter_try_acquire(&limiter, 1) == TWILL_EMPTY); /* the clock is known */
    go(&other, change);
    assert(twill_rate_limiter_try_acquire(&limiter, 1) == TWILL_EMPTY);
    end(&other);
    return 0;
}
