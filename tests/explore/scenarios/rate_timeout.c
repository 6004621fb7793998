/* The deadline of a waiter meets the only token: it is with the one or in the bucket. */
#include "rate_common.h"

int main(void)
{
    static twill_rate_limiter limiter;
    struct caller who = {.limiter = &limiter, .n = 1};
    twill_rate_limiter_options options = {
        .tokens = 1, .per = TWILL_SEC(1), .burst = 2, .used = 2, .counted = true};
    EXPLORE_MUST_REACH("timed out");
    EXPLORE_MUST_REACH("in time");
    assert(twill_rate_limiter_init(&limiter, &options) == TWILL_OK);
    who.until = twill_within(TWILL_MS(1200)); /* it could be served then */
    go(&who, acquire);
    twill_rate_limiter_penalise(&limiter, TWILL_MS(1100));
    (void)twill_sleep(twill_within(TWILL_MS(900)));
    twill_rate_limiter_penalise(&limiter, TWILL_MS(400)); /* and now it cannot */
    end(&who);
    assert(who.status == TWILL_OK || who.status == TWILL_TIMEOUT);
    EXPLORE_REACHED(who.status == TWILL_OK ? "in time" : "timed out");
    assert(books(&limiter).granted == (who.status == TWILL_OK));
    return 0;
}
