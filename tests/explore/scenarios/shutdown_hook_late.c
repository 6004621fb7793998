/* A hook that comes back just at its limit: in time or passed over, never both; what it leaves is
   freed once. */
#include "shutdown_common.h"

static _Atomic int ran;

static int late(const twill_task *task)
{
    atomic_fetch_add(&ran, 1);
    (void)twill_sleep((twill_until){task->until.deadline + TWILL_MS(10), NULL});
    return 0;
}

static int next(const twill_task *task)
{
    (void)task;
    atomic_fetch_add(&ran, 10);
    return 0;
}

int main(void)
{
    twill_shutdown_step steps[2];
    twill_shutdown *shutdown = make((twill_shutdown_options){.steps = steps, .steps_capacity = 2});
    twill_shutdown_report report;
    twill_status status;

    assert(twill_shutdown_add(shutdown, "next", next, NULL, 0) == TWILL_OK);
    assert(twill_shutdown_add(shutdown, "late", late, NULL, TWILL_US(1)) == TWILL_OK);
    status = twill_shutdown_finish(shutdown, &report);
    assert(report.hooks == 2 && report.hooks_failed == 0);
    assert(steps[0].status == TWILL_OK || steps[0].status == TWILL_TIMEOUT);
    assert(steps[1].status == TWILL_OK);
    assert(report.hooks_overran == (steps[0].status == TWILL_TIMEOUT));
    assert(status == (report.hooks_overran ? TWILL_TIMEOUT : TWILL_OK));
    assert(twill_shutdown_destroy(shutdown) == TWILL_OK);
    (void)twill_sleep(twill_within(TWILL_SEC(1)));
    for (int k = 0; k < 300; k++) /* the late one ends */
        twill__yield();
    /* passed over before it began: then it never runs */
    assert(atomic_load(&ran) == 11 || (atomic_load(&ran) == 10 && report.hooks_overran));
    return 0;
}
