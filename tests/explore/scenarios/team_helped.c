/* One of two items makes a call of its own, whose two items wait for one another: whoever is done
   with the outer call, helper or caller, must come and help, or it hangs. */
#include "team_common.h"

static _Atomic uint32_t inside;

static int inner(const twill_task *task)
{
    uint32_t now = atomic_fetch_add(&inside, 1) + 1;

    (void)task;
    if (now == 2)
        twill__wake(&inside, INT_MAX);
    while (atomic_load(&inside) < 2)
        twill__park(&inside, 1, 0);
    return 0;
}

static int outer(const twill_task *task)
{
    return task->index == 1 ? (int)twill_parallel_for(2, inner, NULL) : 0;
}

int main(void)
{
    twill_report report;
    twill_parallel_options options = {.run = {.workers = 2, .report = &report}};

    quiet();
    options.schedule = (twill_schedule)choose(3);
    options.run.strict = true;
    if (twill_parallel_for(2, outer, &options) == TWILL_NO_THREAD)
        return 0;
    assert(report.done == 2 && inside == 2);
    return 0;
}
