/* With `workers` set, as many items run at once: each waits until all are in, so a helper that is
   not called, or does not come, hangs. */
#include "team_common.h"

static _Atomic uint32_t inside;
static unsigned workers;

static int item(const twill_task *task)
{
    uint32_t now = atomic_fetch_add(&inside, 1) + 1;

    (void)task;
    if (now == workers)
        twill__wake(&inside, INT_MAX);
    while ((now = atomic_load(&inside)) < workers)
        twill__park(&inside, now, 0);
    return 0;
}

int main(void)
{
    twill_report report;
    twill_parallel_options options = {.run = {.report = &report}};

    quiet();
    options.run.workers = workers = 2 + (unsigned)choose(2);
    options.schedule = (twill_schedule)choose(3);
    options.run.strict = true;
    if (twill_parallel_for(workers, item, &options) == TWILL_NO_THREAD)
        return 0; /* when the explorer says so */
    assert(report.done == workers && report.workers_used == workers);
    return 0;
}
