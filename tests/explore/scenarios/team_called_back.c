/* The caller has run its item while its only helper takes the other two, of which one waits for the
   other: the caller, who may sleep by then, must come back, or they hang. */
#include "team_common.h"

static _Atomic uint32_t begun; /* the last item */

static int item(const twill_task *task)
{
    if (task->index == 2) {
        atomic_store(&begun, 1);
        twill__wake(&begun, INT_MAX);
    }
    while (task->index == 1 && task->worker != 0 && atomic_load(&begun) == 0)
        twill__park(&begun, 0, 0);
    return 0;
}

int main(void)
{
    twill_report report;
    twill_parallel_options options = {.run = {.workers = 2, .strict = true, .report = &report}};

    quiet();
    if (twill_parallel_for(3, item, &options) == TWILL_NO_THREAD)
        return 0; /* when the explorer says so */
    assert(report.done == 3);
    return 0;
}
