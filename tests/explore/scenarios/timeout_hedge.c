/* Two copies of the function: the first result wins, the other one is discarded, also when both end
   at once, or at the deadline. */
#include "timeout_common.h"

int main(void)
{
    twill_timeout *timeout = timeout_of((twill_timeout_options){
        .timeout = TWILL_US(4), .hedge_after = TWILL_US(1), .hedge_budget = 1});
    twill_status status = call(timeout, 2, work, (twill_until){0, NULL});

    assert(status == TWILL_OK || status == TWILL_TIMEOUT || status == TWILL_NO_MEMORY ||
           status == TWILL_NO_THREAD);
    finish(timeout, 1);
    return 0;
}
