/* The token fires at any moment of calls and pauses: never a call after a pause that it ended, and
   the budget has what was not used. */
#include "retry_common.h"

static twill_cancel token;

int main(void)
{
    static twill_retry_budget budget;
    struct side side = {.options = {.max_attempts = 3,
                                    .base = TWILL_MS(1),
                                    .jitter = TWILL_JITTER_NONE,
                                    .budget = &budget,
                                    .until.cancel = &token}};
    EXPLORE_MUST_REACH("before");
    EXPLORE_MUST_REACH("between");
    EXPLORE_MUST_REACH("after");
    go(&side, call);
    (void)twill_sleep(twill_within(TWILL_MS(2 * EXPLORE_CHOICE(3, 0))));
    twill_cancel_fire(&token, 1);
    end(&side);
    EXPLORE_REACHED(side.calls == 0 ? "before" : side.calls == 3 ? "after" : "between");
    assert(side.report.status ==
           (side.report.end == TWILL_RETRY_ATTEMPTS ? TWILL_FAILED : TWILL_CANCELLED));
    assert(side.calls == 3 || side.report.end == TWILL_RETRY_CANCELLED);
    assert(twill_retry_budget_left(&budget) ==
           500 - (side.calls ? 5 * ((uint64_t)side.calls - 1) : 0));
    return 0;
}
