/* Two wait for the stragglers, one of them not for ever; the last straggler answers them. */
#include "timeout_common.h"

static void drain(void *side_)
{
    struct side *side = side_;
    size_t left = 9;
    side->status = twill_timeout_drain(side->timeout, side->until, &left);
    assert(side->status == TWILL_OK ? left == 0 : side->status == TWILL_TIMEOUT && left <= 1);
}

int main(void)
{
    struct side one = {.in = 0}, two = {.in = 0};
    twill_timeout *timeout = timeout_of((twill_timeout_options){.timeout = TWILL_US(1)});

    (void)call(timeout, 3, work, (twill_until){0, NULL});
    two.until = twill_within(TWILL_US(2));
    if (go(&one, drain, timeout)) {
        if (go(&two, drain, timeout))
            end(&two);
        end(&one);
        assert(one.status == TWILL_OK);
    }
    finish(timeout, 1);
    return 0;
}
