/* Two calls on four limiters, named in other orders, and one of them twice: each is locked once, in
   the order of addresses. */
#include "rate_common.h"

static twill_rate_limiter limiter[3];

static void all(void *caller_)
{
    struct caller *caller = caller_;
    twill_rate_limiter *up[] = {&limiter[0], &limiter[1], &limiter[2], &limiter[0]};
    twill_rate_limiter *down[] = {&limiter[2], &limiter[1], &limiter[0], &limiter[2]};
    caller->status =
        twill_rate_limiter_acquire_all_until(caller->n ? up : down, 4, 1, caller->until);
}

int main(void)
{
    struct caller one = {.n = 0}, other = {.n = 1};
    for (int k = 0; k < 3; k++)
        slow(&limiter[k], 3, 3);
    go(&one, all);
    go(&other, all);
    end(&one);
    end(&other);
    assert(one.status == TWILL_OK && other.status == TWILL_OK);
    for (int k = 0; k < 3; k++)
        assert(twill_rate_limiter_available(&limiter[k]) == (k == 1));
    return 0;
}
