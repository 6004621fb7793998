/* Close meets a waiter, and a try: each gets an answer, and nothing is granted after it. */
#include "rate_common.h"

int main(void)
{
    static twill_rate_limiter limiter;
    struct caller waiter = {.limiter = &limiter, .n = 1}, trier = {.limiter = &limiter, .n = 1};
    twill_rate_limiter_stats stats;
    twill_ns begun = twill_now();
    slow(&limiter, 2, 1);
    go(&waiter, acquire);
    go(&trier, try_one);
    assert(twill_rate_limiter_close(&limiter) == TWILL_OK);
    assert(twill_rate_limiter_try_acquire(&limiter, 1) == TWILL_CLOSED);
    end(&waiter);
    end(&trier);
    assert(waiter.status == TWILL_OK || waiter.status == TWILL_CLOSED);
    assert(trier.status == TWILL_OK || trier.status == TWILL_CLOSED || trier.status == TWILL_EMPTY);
    stats = books(&limiter);
    assert(stats.granted == (waiter.status == TWILL_OK) + (uint64_t)(trier.status == TWILL_OK));
    assert(stats.granted <= 1 + (uint64_t)((twill_now() - begun) / TWILL_SEC(1000000)));
    return 0;
}
