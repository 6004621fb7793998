/* The array form, two workers, batches of one: item 1 fails once and waits, item 2 for ever. The
   lowest error is the serial loop's. */
#include "batch_common.h"

static int fails(twill_batch *batch, const twill_task *task)
{
    int item = (int)((int *)twill_batch_item(batch, 0) - items);
    (void)task;
    if ((item == 1 && batch->attempt == 1) || item == 2)
        return 100 + item;
    atomic_fetch_add(&seen[item], 1);
    return 0;
}

int main(void)
{
    twill_report report;
    twill_status status =
        twill_batch_process(items, sizeof *items, NULL, 0, 4, fails,
                            &(twill_batch_options){.max_items = 1,
                                                   .attempts = 2,
                                                   .backoff = TWILL_US(2),
                                                   .seed = 3,
                                                   .run.workers = 2,
                                                   .run.on_error = TWILL_ON_ERROR_LOWEST,
                                                   .run.report = &report});
    assert(status == TWILL_FAILED);
    assert(report.first_error.index == 2 && report.first_error.code == 102);
    assert(report.total == report.done + report.failed + report.skipped);
    assert(atomic_load(&seen[0]) == 1 && atomic_load(&seen[1]) == 1 && atomic_load(&seen[3]) <= 1);
    return 0;
}
