/* The array form, two workers, batches of one: item 0 fails once and waits; item 1 fails for good
   while the other worker serves item 0 again and then goes on above: what has begun there is told,
   and waits for nothing else. */
#include "batch_common.h"

static int fails(twill_batch *batch, const twill_task *task)
{
    int item = (int)((int *)twill_batch_item(batch, 0) - items);
    if (item == 1 || (item == 0 && batch->attempt == 1))
        return 100 + item;
    if (item > 1)
        (void)twill_sleep(task->until);
    return 0;
}

static bool once_more(const void *item, int code, const twill_task *task)
{
    (void)item;
    (void)task;
    return code == 100;
}

int main(void)
{
    twill_report report;
    twill_status status =
        twill_batch_process(items, sizeof *items, NULL, 0, 4, fails,
                            &(twill_batch_options){.max_items = 1,
                                                   .attempts = 2,
                                                   .backoff = 1,
                                                   .seed = 3,
                                                   .retryable = once_more,
                                                   .run.workers = 2,
                                                   .run.on_error = TWILL_ON_ERROR_LOWEST,
                                                   .run.report = &report});
    assert(status == TWILL_FAILED);
    assert(report.first_error.index == 1 && report.first_error.code == 101);
    assert(report.total == report.done + report.failed + report.skipped);
    return 0;
}
