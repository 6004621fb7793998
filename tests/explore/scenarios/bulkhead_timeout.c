/* The deadline of the first who waits meets the only place that becomes free; the second behind it
   must not be forgotten. */
#include "rate_common.h"

int main(void)
{
    static twill_bulkhead bulkhead;
    struct caller first = {.bulkhead = &bulkhead}, second = {.bulkhead = &bulkhead};
    EXPLORE_MUST_REACH("handed over");
    EXPLORE_MUST_REACH("timed out");
    assert(twill_bulkhead_init(&bulkhead, 1, 2) == TWILL_OK);
    assert(twill_bulkhead_enter(&bulkhead) == TWILL_OK);
    first.until = twill_within(TWILL_US(1));
    go(&first, enter);
    go(&second, enter);
    assert(twill_bulkhead_leave(&bulkhead) == TWILL_OK);
    end(&first);
    assert(first.status == TWILL_OK || first.status == TWILL_TIMEOUT);
    EXPLORE_REACHED(first.status == TWILL_OK ? "handed over" : "timed out");
    if (first.status == TWILL_OK)
        assert(twill_bulkhead_leave(&bulkhead) == TWILL_OK);
    end(&second);
    assert(second.status == TWILL_OK);
    assert(twill_bulkhead_try_enter(&bulkhead) == TWILL_FULL);
    assert(twill_bulkhead_leave(&bulkhead) == TWILL_OK);
    assert(twill_bulkhead_leave(&bulkhead) == TWILL_INVALID);
    return 0;
}
