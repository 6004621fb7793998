/* The first of two items stops the call; the second one asks, and gives up with a code of its own
   because of that: it counts as failed, and the call has not. */
#include "team_common.h"

static int item(const twill_task *task)
{
    if (task->index == 0)
        return twill_task_stop(task);
    return twill_task_cancelled(task) ? 7 : 0;
}

int main(void)
{
    twill_report report;
    twill_parallel_options options = {.run = {.workers = 2, .report = &report}};

    quiet();
    options.run.on_error = TWILL_ON_ERROR_FIRST;
    options.schedule = choose(2) ? TWILL_SCHEDULE_AUTO : TWILL_SCHEDULE_DYNAMIC;
    assert(twill_parallel_for(2, item, &options) == TWILL_OK);
    assert(report.first_error.status == TWILL_OK);
    counts_add_up(&report, 2);
    return 0;
}
