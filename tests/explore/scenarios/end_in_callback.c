/* A callback ends its thread. A helper's: its item is LOST, and every other item runs once. The
   caller's: the helpers who came in finish what they have, and what nobody has is skipped. In both
   cases the call comes to its end, its report adds up, and nothing of it stays behind. */
#include "team_common.h"

enum { ITEMS = 4 };

#ifdef TWILL_USE_PTHREAD
#define END_THREAD() pthread_exit(NULL)
#else
#define END_THREAD() thrd_exit(0)
#endif

static _Atomic unsigned ran[ITEMS];
static size_t deadly;
static bool by_caller;
static twill_report report;

static int item(const twill_task *task)
{
    atomic_fetch_add(&ran[task->index], 1);
    if (task->index == deadly) {
        by_caller = task->worker == 0;
        END_THREAD();
    }
    return 0;
}

static void call(void *unused)
{
    twill_parallel_options options = {.run = {.workers = 3, .report = &report}};

    (void)unused;
    options.run.on_error = TWILL_ON_ERROR_COLLECT;
    assert(twill_parallel_for(ITEMS, item, &options) == TWILL_FAILED);
    assert(!by_caller);
}

int main(void)
{
    twill__thrd caller;
    size_t done = 0;

    quiet();
    deadly = (size_t)choose(ITEMS);
    memset(&caller, 0, sizeof caller);
    caller.fn = call;
    caller.cpu = UINT_MAX;
    if (!twill__thread_start(&caller))
        return 0;
    twill__thread_join(&caller);
    for (size_t i = 0; i < ITEMS; i++)
        done += ran[i] == 1;
    assert(by_caller || done == ITEMS);
    assert(report.failed == 1 && report.done == done - 1);
    assert(report.first_error.index == deadly && report.first_error.status == TWILL_LOST);
    counts_add_up(&report, ITEMS);
    return 0;
}
