/* EXPLORE: --polling
   A fork while another thread changes the rate and takes a token. The child finds the old rate or
   the new one, whole, and no token too many. */
#include "rate_common.h"

extern int fork(void);

static void change(void *caller_)
{
    struct caller *caller = caller_;
    assert(twill_rate_limiter_set_rate(caller->limiter, 1, TWILL_SEC(1000000), 3) == TWILL_OK);
    try_one(caller);
}

int main(void)
{
    static twill_rate_limiter limiter;
    struct caller other = {.limiter = &limiter, .n = 1};
    uint64_t left, granted;

    EXPLORE_MUST_REACH("parent");
    EXPLORE_MUST_REACH("child");
    slow(&limiter, 2, 2);
    assert(twill_rate_limiter_take_up_to(&limiter, 1) == 1);
    go(&other, change);
    if (fork() == 0) {
        EXPLORE_REACHED("child");
        left = twill_rate_limiter_available(&limiter);
        assert(left <= 1);
        granted = twill_rate_limiter_take_up_to(&limiter, 5);
        assert(granted == left && twill_rate_limiter_available(&limiter) == 0);
        assert(twill_rate_limiter_wait_time(&limiter, 1) > TWILL_SEC(900000));
        assert(twill_rate_limiter_wait_time(&limiter, 1) <= TWILL_SEC(1000000));
        return 0;
    }
    EXPLORE_REACHED("parent");
    end(&other);
    assert(other.status == TWILL_OK);
    return 0;
}
