/* A try by ticks while the rate changes, and V is anchored anew: what it has read of one rate and
   of one anchor goes with no other. There is no token, at no rate; time stands still meanwhile. */
#define TWILL__TEMPO 1
#include "rate_common.h"

static void change(void *caller_)
{
    struct caller *caller = caller_;
    assert(twill_rate_limiter_set_rate(caller->limiter, 1, TWILL_US(100), 2) == TWILL_OK);
    assert(twill_rate_limiter_try_acquire(caller->limiter, 0) == TWILL_OK); /* an anchor */
}

int main(void)
{
    static twill_rate_limiter limiter;
    struct caller one = {.limiter = &limiter, .n = 1}, other = {.limiter = &limiter};
    twill_ns anchored;
    slow(&limiter, 3, 1);
    assert(twill_rate_limiter_take_up_to(&limiter, 1) == 1); /* the clock is known */
    for (int k = 0; k < 2; k++) {                            /* and the pace, from two anchors */
        assert(twill_rate_limiter_try_acquire(&limiter, 0) == TWILL_OK);
        anchored = twill_now();
        assert(twill_sleep(twill_within(TWILL_US(200))) == TWILL_OK);
    }
    assert(twill_now() - anchored < TWILL__TEMPO_SPAN); /* it still counts */
    go(&one, try_one);
    go(&other, change);
    assert(twill_rate_limiter_try_acquire(&limiter, 1) == TWILL_EMPTY);
    end(&one);
    end(&other);
    assert(one.status == TWILL_EMPTY);
    assert(twill_rate_limiter_available(&limiter) == 0);
    assert(books(&limiter).granted == 1);
    return 0;
}
