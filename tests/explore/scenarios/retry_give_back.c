/* One success gives tokens back while another caller takes: never above the capacity, none lost. */
#include "retry_common.h"

static void succeed(void *side_)
{
    struct side *side = side_;
    twill_retry retry;
    assert(twill_retry_init(&retry, &side->options) == TWILL_OK);
    while (twill_retry_next(&retry))
        twill_retry_result(&retry, side->calls++ == 0 ? 5 : 0);
    assert(twill_retry_finish(&retry, &side->report) == TWILL_OK);
}

int main(void)
{
    static twill_retry_budget budget;
    struct side one = {
        .options = {.base = TWILL_US(1), .jitter = TWILL_JITTER_NONE, .budget = &budget}};
    struct side two = one;
    assert(twill_retry_budget_init(&budget, &(twill_retry_budget_options){.capacity = 20}) ==
           TWILL_OK);
    go(&one, succeed);
    call(&two);
    end(&one);
    assert(one.report.attempts == 2 && two.report.attempts == 3);
    assert(twill_retry_budget_left(&budget) == 10);
    return 0;
}
