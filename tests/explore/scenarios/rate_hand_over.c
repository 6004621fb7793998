/* The head gives up at the moment in which its token comes: the one behind it gets it, or
   nobody. */
#include "rate_common.h"

int main(void)
{
    static twill_rate_limiter limiter;
    static twill_cancel token;
    struct caller first = {.limiter = &limiter, .n = 1, .until.cancel = &token};
    struct caller second = {.limiter = &limiter, .n = 1};
    EXPLORE_MUST_REACH("first");
    EXPLORE_MUST_REACH("second");
    slow(&limiter, 2, 0);
    go(&first, acquire);
    go(&second, acquire);
    twill_cancel_fire(&token, 1);
    twill_rate_limiter_give_back(&limiter, 1);
    end(&first);
    if (first.status == TWILL_OK) /* or the second waits for a million seconds */
        twill_rate_limiter_give_back(&limiter, 1);
    end(&second);
    assert(first.status == TWILL_OK || first.status == TWILL_CANCELLED);
    assert(second.status == TWILL_OK);
    EXPLORE_REACHED(first.status == TWILL_OK ? "first" : "second");
    assert(books(&limiter).granted == (first.status == TWILL_OK) + 1u);
    return 0;
}
