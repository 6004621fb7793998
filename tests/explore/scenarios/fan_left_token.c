/* A call answers a deaf task at its time limit, and is over: nothing but that task is left. Its
   caller's token goes, and the task, when it ends, must not ask it. */
#include "fan_common.h"

static int deaf(const void *item, void *result, const twill_task *me)
{
    (void)item, (void)result, (void)me;
    (void)twill_sleep(twill_within(TWILL_US(5)));
    return 0;
}

int main(void)
{
    twill_cancel *token = malloc(sizeof *token);
    static const int item = 1;
    twill_status status;

    quiet();
    assert(token);
    twill_cancel_init(token, NULL);
    status = twill_fan_out_fan_in(&item, sizeof item, 1, deaf, 0, NULL,
                                  &(twill_fan_options){.run = {.workers = 1, .until.cancel = token},
                                                       .timeout = TWILL_US(1),
                                                       .max_abandoned = 1});
    assert(status == TWILL_FAILED);
    twill_cancel_detach(token);
    free(token);
    while (atomic_load(&live_blocks)) /* what was left behind frees it */
        (void)twill_sleep(twill_within(TWILL_US(100)));
    return 0;
}
