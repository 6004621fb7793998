/* Items that fail, stop or do neither, in every mixture: the lower of stop and failure decides. */
#include "team_common.h"

enum { ITEMS = 4, WORKERS = 3 };

static _Atomic unsigned ran[ITEMS];
static int act[ITEMS]; /* 1 fails, 2 stops */
static size_t low = ITEMS;

static int item(const twill_task *task)
{
    size_t i = task->index;

    atomic_fetch_add(&ran[i], 1);
    if (twill_cancel_fired(task->until.cancel)) {
        assert(i > low);
        return twill_task_skip(task);
    }
    return act[i] == 2 ? twill_task_stop(task) : act[i] * 5;
}

int main(void)
{
    twill_report report;
    twill_parallel_options options = {.run = {.workers = WORKERS, .report = &report}};
    twill_status status;

    quiet();
    options.schedule = choose(2) ? TWILL_SCHEDULE_AUTO : TWILL_SCHEDULE_DYNAMIC;
    for (size_t i = ITEMS; i-- > 0;)
        if ((act[i] = choose(3)) != 0)
            low = i;
    status = twill_parallel_for(ITEMS, item, &options);
    if (low < ITEMS && act[low] == 1)
        assert(status == TWILL_FAILED && report.first_error.index == low);
    else
        assert(status == TWILL_OK && report.first_error.status == TWILL_OK);
    for (size_t i = 0; i < ITEMS; i++)
        assert(i <= low ? ran[i] == 1 : ran[i] <= 1);
    counts_add_up(&report, ITEMS);
    return 0;
}
