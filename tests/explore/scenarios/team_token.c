/* The user's token fires at any moment of a call whose items wait for it: the call ends, as
   CANCELLED or, when all had ended before, as OK. */
#include "team_common.h"

enum { ITEMS = 3 };

static twill_cancel token;

static int item(const twill_task *task)
{
    if (task->index == 1)
        (void)twill_sleep(task->until);
    return twill_task_cancelled(task) ? twill_task_skip(task) : 0;
}

static void fire(void *arg)
{
    (void)arg;
    twill_cancel_fire(&token, 3);
}

int main(void)
{
    twill_report report;
    twill_parallel_options options = {.run = {.workers = 2, .report = &report}};
    twill__thrd other;
    twill_status status;

    quiet();
    memset(&other, 0, sizeof other);
    other.fn = fire;
    other.cpu = UINT_MAX;
    if (!twill__thread_start(&other))
        return 0;
    options.run.until = twill_until_cancelled(&token);
    status = twill_parallel_for(ITEMS, item, &options);
    assert(status == (report.skipped ? TWILL_CANCELLED : TWILL_OK));
    counts_add_up(&report, ITEMS);
    twill__thread_join(&other);
    twill_cancel_detach(&token);
    return 0;
}
