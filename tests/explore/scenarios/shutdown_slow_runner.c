/* The total may be over at any moment: runners are abandoned that have not come to their call, and
   touch nothing of the object then. */
#include "shutdown_common.h"

static _Atomic int ran;

static void told(twill_shutdown_phase phase, int reason, const twill_task *task)
{
    (void)task;
    assert(reason == 5 && phase != TWILL_SHUTDOWN_RUNNING);
}

static int hook(const twill_task *task)
{
    (void)task;
    atomic_fetch_add(&ran, 1);
    return 0;
}

int main(void)
{
    twill_shutdown *shutdown =
        make((twill_shutdown_options){.total = TWILL_MS(50), .on_phase = told});
    twill_shutdown_report report;
    twill_status status;

    assert(twill_shutdown_add(shutdown, "", hook, NULL, 0) == TWILL_OK);
    twill_shutdown_request(shutdown, 5);
    status = twill_shutdown_finish(shutdown, &report);
    assert(status == TWILL_OK || status == TWILL_TIMEOUT);
    assert(report.hooks == 1 && report.hooks_overran <= 1 && report.hooks_failed == 0);
    assert(twill_shutdown_destroy(shutdown) == TWILL_OK);
    (void)twill_sleep(twill_within(TWILL_SEC(1)));
    for (int k = 0; k < 300; k++) /* abandoned threads end */
        twill__yield();
    assert(report.hooks_overran || atomic_load(&ran) == 1);
    return 0;
}
