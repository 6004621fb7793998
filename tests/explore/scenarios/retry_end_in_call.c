/* fn ends its thread in the second call, while a token fires: the report is written all the
   same. */
#include "retry_common.h"

static twill_cancel token;

static int end_here(const void *in, void *out, const twill_task *task)
{
    (void)in;
    (void)out;
    if (task->index == 1)
        END_THREAD();
    return 5;
}

static void call_and_end(void *side_)
{
    struct side *side = side_;
    (void)twill_retry_call(NULL, NULL, end_here, &side->options, &side->report);
    assert(side->report.end == TWILL_RETRY_CANCELLED);
}

int main(void)
{
    struct side side = {.options = {.base = TWILL_US(1), .until.cancel = &token}};
    side.report.end = TWILL_RETRY_REFUSED;
    go(&side, call_and_end);
    twill_cancel_fire(&token, 1);
    end(&side);
    assert(side.report.end == TWILL_RETRY_LEFT || side.report.end == TWILL_RETRY_CANCELLED);
    assert(side.report.end != TWILL_RETRY_LEFT || side.report.attempts == 2);
    return 0;
}
