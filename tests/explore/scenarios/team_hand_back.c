/* A helper ends inside an item, and two items of its chunk come back: 4 and 5. An item of somebody
   else waits for one of them; or one for the other, and they are for the caller, who may sleep by
   then, and for the other helper, who may sleep, too. */
#include "team_common.h"

#ifdef TWILL_USE_PTHREAD
#define END_THREAD() pthread_exit(NULL)
#else
#define END_THREAD() thrd_exit(0)
#endif

static _Atomic uint32_t begun; /* the item that another one waits for */
static _Atomic int ended;
static int waits; /* item 0 or 6 for item 4; 1: item 4 for item 5 */

/* Nothing stands behind the item in its chunk. */
static bool is_last(const twill_task *task)
{
    return ((const twill__job *)task->private_)->slot[task->worker].end == task->index + 1;
}

static int item(const twill_task *task)
{
    if (task->index == 3 && task->worker != 0) {
        atomic_store(&ended, 1);
        END_THREAD();
    }
    if (task->index == (waits == 1 ? 5 : 4)) {
        atomic_store(&begun, 1);
        twill__wake(&begun, INT_MAX);
    }
    if (waits == 1 ? task->index == 4 && is_last(task) : (int)task->index == 3 * waits)
        while (atomic_load(&begun) == 0)
            twill__park(&begun, 0, 0);
    return 0;
}

int main(void)
{
    twill_report report;
    twill_parallel_options options = {
        .schedule = TWILL_SCHEDULE_STATIC, /* three items for each */
        .run = {
            .workers = 3, .strict = true, .on_error = TWILL_ON_ERROR_COLLECT, .report = &report}};

    quiet();
    waits = choose(3);
    if (twill_parallel_for(9, item, &options) == TWILL_NO_THREAD)
        return 0; /* when the explorer says so */
    assert(report.done + report.failed == 9 && report.failed == (size_t)atomic_load(&ended));
    return 0;
}
