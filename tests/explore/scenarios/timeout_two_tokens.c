/* A call under two tokens ends while its function looks whether it is cancelled: the function does
   not look at the token of both any more when that goes. */

#include "timeout_common.h"

static twill_cancel own, all;

static int looks(const void *in, void *out, const twill_task *task)
{
    atomic_fetch_add(&ran, 1);
    for (int k = 0; k < 3 && !twill_task_cancelled(task); k++)
        (void)twill_sleep(twill_within(TWILL_US(1)));
    *(int *)out = *(const int *)in + 100;
    return 0;
}

int main(void)
{
    twill_timeout *timeout;
    twill_status status;

    timeout = timeout_of((twill_timeout_options){.timeout = TWILL_US(2), .run.until.cancel = &all});
    status = call(timeout, 1, looks, twill_until_cancelled(&own));
    assert(status == TWILL_OK || status == TWILL_TIMEOUT);
    finish(timeout, 1);
    return 0;
}
