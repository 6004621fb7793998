/* Two calls ask for the same two limiters in opposite order, a third takes from one: nobody blocks
   another for ever. */
#include "rate_common.h"

static twill_rate_limiter pair[2];

static void both(void *caller_)
{
    struct caller *caller = caller_;
    twill_rate_limiter *order[2] = {&pair[caller->n], &pair[1 - caller->n]};
    caller->status = twill_rate_limiter_acquire_all_until(order, 2, 1, caller->until);
}

int main(void)
{
    struct caller a = {.n = 0}, b = {.n = 1};
    twill_rate_limiter_options options = {
        .tokens = 1, .per = TWILL_SEC(1), .burst = 1, .counted = true};
    assert(twill_rate_limiter_init(&pair[0], &options) == TWILL_OK);
    options.used = 1;
    assert(twill_rate_limiter_init(&pair[1], &options) == TWILL_OK);
    go(&a, both);
    go(&b, both);
    assert(twill_rate_limiter_acquire(&pair[0], 1) == TWILL_OK);
    end(&a);
    end(&b);
    assert(a.status == TWILL_OK && b.status == TWILL_OK);
    assert(books(&pair[0]).granted == 3 && books(&pair[1]).granted == 2);
    return 0;
}
