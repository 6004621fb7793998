/* The trees of a reduce's combines are shared, too. A helper's thread ends in one of its combines:
   then there is no result, one item is LOST, and no accumulator is forgotten. */
/* EXPLORE-FLAGS: -DTWILL__SPIN=0 -DTWILL__TICKS=0 */
#include "team_common.h"

#ifdef TWILL_USE_PTHREAD
#define END_THREAD() pthread_exit(NULL)
#else
#define END_THREAD() thrd_exit(0)
#endif

enum { BLOCKS = 48 }; /* a tree of 16, which the caller times, and two more */

static atomic_int made;
static bool ended;

static int empty(void *acc, const twill_task *task)
{
    (void)task;
    *(int *)acc = 0;
    atomic_fetch_add(&made, 1);
    return 0;
}

static int fold(void *acc, size_t begin, size_t end, const twill_task *task)
{
    (void)task;
    *(int *)acc += (int)(end - begin);
    return 0;
}

static int combine(void *left, void *right, const twill_task *task)
{
    assert(task->index == SIZE_MAX);
    if (task->worker) {
        ended = true;
        END_THREAD();
    }
    (void)twill_sleep(twill_within(TWILL_MS(1)));
    *(int *)left += *(int *)right;
    return 0;
}

static void dispose(void *acc, const twill_task *task)
{
    (void)acc, (void)task;
    atomic_fetch_sub(&made, 1);
}

int main(void)
{
    twill_report report;
    twill_parallel_options options = {.run = {.workers = 2, .report = &report}};
    twill_reducer reducer = {.size = sizeof(int),
                             .identity = empty,
                             .fold = fold,
                             .combine = combine,
                             .dispose = dispose,
                             .blocks = BLOCKS};
    int result = -1;
    twill_status status;

    quiet();
    status = twill_parallel_reduce(BLOCKS, &reducer, &result, &options);
    assert(status == (ended ? TWILL_FAILED : TWILL_OK));
    assert(result == (ended ? -1 : BLOCKS));
    assert(made == !ended);
    counts_add_up(&report, BLOCKS);
    assert(report.failed == ended && report.done == (size_t)(BLOCKS - ended));
    assert(!ended || report.first_error.status == TWILL_LOST);
    return 0;
}
