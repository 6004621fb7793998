/* Calls one after the other: the place and the thread of the first are free before it returns, so
   that one place and one thread are enough, unless a straggler has them. */
#include "timeout_common.h"

int main(void)
{
    twill_timeout *timeout =
        timeout_of((twill_timeout_options){.timeout = TWILL_FOREVER, .max_running = 1});

    assert(call(timeout, 0, work, (twill_until){0, NULL}) == TWILL_OK);
    assert(call(timeout, -1, work, (twill_until){0, NULL}) == TWILL_FAILED);
    assert(call(timeout, 1, work, (twill_until){0, NULL}) == TWILL_OK);
    assert(timeout->hands && !timeout->hands->next); /* one thread */
    finish(timeout, 3);
    return 0;
}
