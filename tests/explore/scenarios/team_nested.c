/* Two items of three make a call of their own on the threads of the outer call: each index runs
   once in each, and a caller that waits for its last helper helps it. */
#include "team_common.h"

enum { INNER = 3 };

static _Atomic unsigned ran[INNER];

static int inner(const twill_task *task)
{
    atomic_fetch_add(&ran[task->index], 1);
    return 0;
}

static int outer(const twill_task *task)
{
    if (task->index != 1) {
        twill_report report;
        twill_parallel_options options = {.run.report = &report};

        assert(twill_parallel_for(INNER, inner, &options) == TWILL_OK);
        assert(report.done == INNER);
    }
    return 0;
}

int main(void)
{
    twill_report report;
    twill_parallel_options options = {.run = {.workers = 3, .report = &report}};

    quiet();
    assert(twill_parallel_for(3, outer, &options) == TWILL_OK);
    assert(report.done == 3);
    for (int i = 0; i < INNER; i++)
        assert(ran[i] == 2);
    return 0;
}
