/* EXPLORE-BACKENDS: futex pthread no-futex-pthread
   A reservation is cancelled while a try takes by the word alone: no token twice, none lost. C11's
   wall clock is waited for in slices of 20 ms: a million seconds have too many. */
#include "rate_common.h"

int main(void)
{
    static twill_rate_limiter limiter;
    struct caller who = {.limiter = &limiter, .n = 1};
    twill_reservation first, second;
    bool back;
    EXPLORE_MUST_REACH("back");
    slow(&limiter, 1, 1);
    assert(twill_rate_limiter_reserve(&limiter, 1, 0, &first) == TWILL_OK);
    assert(twill_rate_limiter_reserve(&limiter, 1, TWILL_FOREVER, &second) == TWILL_OK);
    go(&who, acquire);
    back = twill_rate_limiter_cancel(&limiter, &second);
    assert(back || twill_now() >= second.due); /* time may have passed */
    assert(!twill_rate_limiter_cancel(&limiter, &second));
    if (back)
        EXPLORE_REACHED("back");
    end(&who);
    assert(who.status == TWILL_OK);
    /* the waiter came a million seconds after the start, or (it had been behind) after two */
    assert(twill_now() - first.due >= TWILL_SEC(1000000));
    assert(books(&limiter).given_back == back);
    assert(back || twill_now() - first.due >= TWILL_SEC(2000000));
    return 0;
}
