/* A try by ticks while V is anchored twice, by two threads that both found the last anchor too old,
   the second one a tenth of a millisecond late: V and tick are of one anchor, or a token is granted
   early by what lies between the two. */
#define TWILL__TEMPO 1
#include "rate_common.h"

static twill_ns due;

static void try_early(void *caller_)
{
    struct caller *caller = caller_;
    try_one(caller);
    assert(caller->status == TWILL_EMPTY || twill_now() >= due);
}

int main(void)
{
    static twill_rate_limiter limiter;
    twill_rate_limiter_options options = {.tokens = 1, .per = TWILL_MS(1), .burst = 1};
    struct caller one = {.limiter = &limiter, .n = 1}, other = {.limiter = &limiter};
    assert(twill_rate_limiter_init(&limiter, &options) == TWILL_OK);
    assert(twill_rate_limiter_take_up_to(&limiter, 1) == 1); /* the clock is known */
    due = twill_now() + TWILL_MS(1);
    for (int k = 0; k < 2; k++) { /* and the pace, from two anchors */
        assert(twill_rate_limiter_try_acquire(&limiter, 0) == TWILL_OK);
        assert(twill_sleep(twill_within(TWILL_US(200))) == TWILL_OK);
    }
    assert(twill_sleep((twill_until){due - TWILL_US(150), NULL}) == TWILL_OK);
    go(&one, try_early);
    go(&other, try_one);
    assert(twill_rate_limiter_try_acquire(&limiter, 0) == TWILL_OK); /* an anchor */
    assert(twill_sleep(twill_within(TWILL_US(100))) == TWILL_OK);
    end(&one);
    end(&other);
    return 0;
}
