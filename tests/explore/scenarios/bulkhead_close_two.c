/* Close meets two who wait, while one leaves at his deadline perhaps: each has an answer. */
#include "rate_common.h"

int main(void)
{
    static twill_bulkhead bulkhead;
    struct caller one = {.bulkhead = &bulkhead}, other = {.bulkhead = &bulkhead};
    assert(twill_bulkhead_init(&bulkhead, 1, 2) == TWILL_OK);
    assert(twill_bulkhead_enter(&bulkhead) == TWILL_OK);
    if (EXPLORE_CHOICE(2, 0))
        one.until = twill_within(TWILL_MS(1));
    go(&one, enter);
    go(&other, enter);
    assert(twill_bulkhead_close(&bulkhead) == TWILL_OK);
    end(&one);
    end(&other);
    assert(one.status == TWILL_CLOSED || (one.status == TWILL_TIMEOUT && one.until.deadline));
    assert(other.status == TWILL_CLOSED);
    return 0;
}
