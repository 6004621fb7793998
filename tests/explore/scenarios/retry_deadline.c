/* A deadline, a pause and a token at the same instant: the order of answers, and never a pause that
   passes the deadline. */
#include "retry_common.h"

static twill_cancel token;

static void fire_then(void *side_)
{
    (void)side_;
    (void)twill_sleep(twill_within(TWILL_MS(1)));
    twill_cancel_fire(&token, 1);
}

int main(void)
{
    struct side side = {.options = {.max_attempts = 9,
                                    .base = TWILL_MS(1),
                                    .jitter = TWILL_JITTER_NONE,
                                    .max_elapsed = TWILL_MS(3),
                                    .until.cancel = &token}};
    struct side firer = {.calls = 0};
    EXPLORE_MUST_REACH("cancelled");
    go(&firer, fire_then);
    call(&side);
    end(&firer);
    assert(side.report.status == TWILL_CANCELLED || side.report.status == TWILL_TIMEOUT);
    if (side.report.status == TWILL_CANCELLED)
        EXPLORE_REACHED("cancelled");
    else /* or it woke too late */
        assert(side.report.next_delay > 0 || side.report.wall >= TWILL_MS(3));
    assert(side.calls <= 2); /* the second pause would end at 3 ms */
    return 0;
}
