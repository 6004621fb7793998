/* With `workers` set, as many items run at once: each waits until all are in, so a helper that is
   not called, or does not come, hangs. */
#include "team_common.h"

#ifndef WORKERS
#define WORKERS 3
#endif

static _Atomic uint32_t inside;

static int item(const twill_task *task)
{
    uint32_t now = atomic_fetch_add(&inside, 1) + 1;

    (void)task;
    if (now == WORKERS)
        twill__wake(&inside, INT_MAX);
    while ((now = atomic_load(&inside)) < WORKERS)
        twill__park(&inside, now, 0);
    return 0;
}

int main(void)
{
    twill_report report;
    twill_parallel_options options = {.run = {.workers = WORKERS, .report = &report}};

    quiet();
    options.schedule = (twill_schedule)choose(3);
    options.run.strict = true;
    if (twill_parallel_for(WORKERS, item, &options) == TWILL_NO_THREAD)
        return 0; /* when the explorer says so */
    assert(report.done == WORKERS && report.workers_used == WORKERS);
    return 0;
}
