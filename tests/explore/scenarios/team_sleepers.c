/* Item 0 fails; the others wait for nothing but their token: a fire that is missed hangs. */
#include "team_common.h"

#ifndef WORKERS
#define WORKERS 3
#endif

static int item(const twill_task *task)
{
    if (task->index == 0)
        return 5;
    return twill_sleep(task->until) == TWILL_CANCELLED ? 0 : 6;
}

int main(void)
{
    twill_report report;
    twill_parallel_options options = {.run = {.workers = WORKERS, .report = &report}};

    quiet();
    options.schedule = (twill_schedule)choose(3);
    assert(twill_parallel_for(WORKERS, item, &options) == TWILL_FAILED);
    assert(report.first_error.index == 0 && report.first_error.code == 5);
    counts_add_up(&report, WORKERS);
    return 0;
}
