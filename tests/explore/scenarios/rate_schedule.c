/* Two threads share a rate: no start is early, and the nominal schedule never slips, however late
   somebody wakes. */
#include "rate_common.h"

static twill_ns begun;

static void three(void *caller_)
{
    struct caller *caller = caller_;
    for (int k = 0; k < 3; k++)
        assert(twill_rate_limiter_acquire(caller->limiter, 1) == TWILL_OK);
}

int main(void)
{
    static twill_rate_limiter limiter;
    struct caller one = {.limiter = &limiter}, other = {.limiter = &limiter};
    assert(twill_rate_limiter_init(
               &limiter, &(twill_rate_limiter_options){.tokens = 10, .counted = true}) == TWILL_OK);
    begun = twill_now();
    go(&one, three);
    go(&other, three);
    end(&one);
    end(&other);
    assert(twill_now() - begun >= TWILL_MS(500));
    assert(books(&limiter).granted == 6);
    /* never later than one interval after the start and after everything that is taken */
    assert(twill_rate_limiter_wait_time(&limiter, 1) <= TWILL_MS(100));
    return 0;
}
