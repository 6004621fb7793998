/* Two tries by the word alone, while the rate changes twice: each token is granted or still there,
   whatever units it was counted in. */
#include "rate_common.h"

static void change(void *caller_)
{
    struct caller *caller = caller_;
    assert(twill_rate_limiter_set_rate(caller->limiter, 1, TWILL_SEC(3), 3) == TWILL_OK);
    assert(twill_rate_limiter_set_rate(caller->limiter, 1, TWILL_SEC(1000000), 2) == TWILL_OK);
}

int main(void)
{
    static twill_rate_limiter limiter;
    struct caller one = {.limiter = &limiter, .n = 1}, other = {.limiter = &limiter};
    uint64_t granted;
    slow(&limiter, 2, 2);
    assert(twill_rate_limiter_take_up_to(&limiter, 1) ==
           1); /* the clock is known: the word alone */
    go(&one, try_one);
    go(&other, change);
    granted = twill_rate_limiter_try_acquire(&limiter, 1) == TWILL_OK;
    end(&one);
    end(&other);
    granted += one.status == TWILL_OK;
    assert(granted == 1);
    assert(twill_rate_limiter_available(&limiter) == 0);
    assert(twill_rate_limiter_wait_time(&limiter, 1) <= TWILL_SEC(1000000));
    assert(twill_rate_limiter_wait_time(&limiter, 1) > TWILL_SEC(900000));
    assert(books(&limiter).granted == 2);
    return 0;
}
