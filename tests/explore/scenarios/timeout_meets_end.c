/* The deadline meets the end of the function: the call takes the result, or discard does. */
#include "explore.h"
#include "timeout_common.h"

int main(void)
{
    twill_timeout *timeout = timeout_of((twill_timeout_options){.timeout = TWILL_US(2)});
    twill_status status;

    EXPLORE_MUST_REACH("in time");
    EXPLORE_MUST_REACH("too late");
    status = call(timeout, EXPLORE_CHOICE(2, 0) ? 2 : -3, work, (twill_until){0, NULL});
    assert(status == TWILL_OK || status == TWILL_TIMEOUT || status == TWILL_FAILED);
    if (status == TWILL_OK)
        EXPLORE_REACHED("in time");
    if (status == TWILL_TIMEOUT)
        EXPLORE_REACHED("too late");
    finish(timeout, 1);
    return 0;
}
