/* A try by ticks while V is anchored for the first time at another rate: no token is there, but
   much has come at the rate before. */
#define TWILL__TEMPO 1
#include "rate_common.h"

static void anchor(void *caller_)
{
    struct caller *caller = caller_;
    assert(twill_rate_limiter_try_acquire(caller->limiter, 0) == TWILL_OK);
}

int main(void)
{
    static twill_rate_limiter limiter;
    twill_rate_limiter_options options = {.tokens = 1, .per = TWILL_SEC(5000), .burst = 1};
    struct caller one = {.limiter = &limiter, .n = 1}, other = {.limiter = &limiter};
    assert(twill_rate_limiter_init(&limiter, &options) == TWILL_OK);
    assert(twill_rate_limiter_take_up_to(&limiter, 1) == 1); /* the clock is known */
    assert(twill_sleep(twill_within(TWILL_SEC(1000000))) == TWILL_OK);
    for (int k = 0; k < 3; k++) { /* and the pace, from two anchors */
        assert(twill_rate_limiter_try_acquire(&limiter, 0) == TWILL_OK);
        assert(twill_sleep(twill_within(TWILL_US(200))) == TWILL_OK);
    }
    assert(twill_rate_limiter_set_rate(&limiter, 1, TWILL_SEC(1000000), 1) == TWILL_OK);
    assert(twill_rate_limiter_take_up_to(&limiter, 1) == 1);
    go(&one, try_one);
    go(&other, anchor);
    end(&one);
    end(&other);
    assert(one.status == TWILL_EMPTY);
    return 0;
}
