/* The head wants two tokens, the one behind it one, and one is there: when the head gives up, the
   other is served at once, and not when some timer ends. */
#include "rate_common.h"

int main(void)
{
    static twill_rate_limiter limiter;
    static twill_cancel token;
    struct caller big = {.limiter = &limiter, .n = 2, .until.cancel = &token};
    struct caller small = {.limiter = &limiter, .n = 1};
    EXPLORE_MUST_REACH("given up");
    slow(&limiter, 2, 1);
    go(&big, acquire);
    go(&small, acquire);
    twill_cancel_fire(&token, 1);
    end(&big);
    end(&small);
    assert(small.status == TWILL_OK);
    assert(big.status == TWILL_OK || big.status == TWILL_CANCELLED);
    if (big.status == TWILL_CANCELLED)
        EXPLORE_REACHED("given up");
    assert(books(&limiter).granted == (big.status == TWILL_OK ? 3 : 1));
    return 0;
}
