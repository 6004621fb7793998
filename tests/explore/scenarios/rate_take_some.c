/* "As many as there are" meets one who begins to wait: it gets what it says, or nothing because the
   other one is first. */
#include "rate_common.h"

int main(void)
{
    static twill_rate_limiter limiter;
    struct caller other = {.limiter = &limiter, .n = 4};
    uint64_t got;

    slow(&limiter, 8, 3);
    go(&other, acquire);
    got = twill_rate_limiter_take_up_to(&limiter, 2);
    assert(got <= 2);
    twill_rate_limiter_give_back(&limiter, got + 1);
    end(&other);
    assert(other.status == TWILL_OK);
    assert(books(&limiter).granted == got + 4);
    return 0;
}
