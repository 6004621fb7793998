/* The first of two items fails while the second one, on another worker, sleeps until it is told:
   then it is told, or has not begun. Whoever misses it sleeps for ever. Ranges, and not items:
   fewer looks at the limit, each of which would find it by itself. */
#include "team_common.h"

static int range(size_t begin, size_t end, const twill_task *task)
{
    assert(end == begin + 1);
    if (begin == 0)
        return 1;
    assert(twill_sleep(task->until) == TWILL_CANCELLED);
    return twill_task_skip(task);
}

int main(void)
{
    twill_report report;
    twill_parallel_options options = {.chunk = 1, .run = {.workers = 2, .report = &report}};

    quiet();
    options.schedule = choose(2) ? TWILL_SCHEDULE_AUTO : TWILL_SCHEDULE_DYNAMIC;
    assert(twill_parallel_range(2, range, &options) == TWILL_FAILED);
    assert(report.failed == 1 && report.skipped == 1 && report.first_error.index == 0);
    return 0;
}
