/* Three workers, five items, every set of failing items, every schedule: the error is the serial
   loop's, all that lies below it has run once, and none of that was told to give up. */
#include "team_common.h"

#ifndef ITEMS
#define ITEMS 5
#endif
#ifndef WORKERS
#define WORKERS 3
#endif

static _Atomic unsigned ran[ITEMS];
static int fails;
static size_t low = SIZE_MAX;

static int item(const twill_task *task)
{
    size_t i = task->index;

    atomic_fetch_add(&ran[i], 1);
    for (int k = 0; k < 2; k++)
        if (twill_cancel_fired(task->until.cancel)) {
            assert(i > low);
            return -77;
        }
    return fails >> i & 1 ? (int)i + 1 : 0;
}

int main(void)
{
    twill_report report;
    twill_parallel_options options = {.run = {.workers = WORKERS, .report = &report}};
    twill_status status;

    quiet();
    fails = choose(1 << ITEMS);
    options.schedule = (twill_schedule)choose(3);
    for (size_t i = ITEMS; i-- > 0;)
        if (fails >> i & 1)
            low = i;
    status = twill_parallel_for(ITEMS, item, &options);
    assert((report.flags & TWILL_REPORT_DEGRADED) || report.workers_started == WORKERS);
    assert(status == (fails ? TWILL_FAILED : TWILL_OK));
    if (fails)
        assert(report.first_error.index == low && report.first_error.code == (int)low + 1);
    for (size_t i = 0; i < ITEMS; i++)
        assert(i <= low ? ran[i] == 1 : ran[i] <= 1);
    counts_add_up(&report, ITEMS);
    return 0;
}
