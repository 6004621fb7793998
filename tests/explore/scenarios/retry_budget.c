/* Two callers, a budget for one retry: exactly one of them makes it. */
#include "retry_common.h"

int main(void)
{
    static twill_retry_budget budget;
    struct side one = {.options = {.max_attempts = 2,
                                   .base = TWILL_US(1),
                                   .jitter = TWILL_JITTER_NONE,
                                   .budget = &budget}};
    struct side two = one;
    assert(twill_retry_budget_init(&budget, &(twill_retry_budget_options){
                                                .capacity = 10, .retry_cost = 7}) == TWILL_OK);
    go(&one, call);
    call(&two);
    end(&one);
    assert(one.calls + two.calls == 3);
    assert((one.report.end == TWILL_RETRY_NO_BUDGET) != (two.report.end == TWILL_RETRY_NO_BUDGET));
    assert(twill_retry_budget_left(&budget) == 3);
    return 0;
}
