/* The trees of a reduce's combines are shared, and the caller forks in one of them, when it may
   have folded all items itself. The child says OK for the whole result alone, and disposes of
   nothing that a helper had in hand.
   EXPLORE: --whole-copies
   EXPLORE-FLAGS: -DTWILL__SPIN=0 -DTWILL__TICKS=0 */
#include "explore.h"
#include "team_common.h"

extern int fork(void);

enum { BLOCKS = 48 }; /* a tree of 16, which the caller times, and two more */

typedef struct span {
    int first, end;
} span;

static _Atomic(void *) held[2]; /* by the helper */
static atomic_bool child;
static bool forked; /* by the caller, as is the next one */
static int combined;

static int fold(void *acc, size_t begin, size_t end, const twill_task *task)
{
    (void)task;
    *(span *)acc = (span){(int)begin, (int)end};
    return 0;
}

static int combine(void *left_, void *right_, const twill_task *task)
{
    span *left = left_, *right = right_;
    if (task->worker) {
        held[0] = left;
        held[1] = right;
        (void)twill_sleep(twill_within(TWILL_MS(1)));
    } else if (++combined <= 15) {
        (void)twill_sleep(twill_within(TWILL_MS(1)));
    } else if (!forked) {
        (void)twill_sleep(twill_within(TWILL_US(500)));
        forked = true;
        child = fork() == 0;
        EXPLORE_REACHED("forked");
    }
    assert(left->end == right->first);
    left->end = right->end;
    if (task->worker)
        held[0] = held[1] = NULL;
    return 0;
}

static void dispose(void *acc, const twill_task *task)
{
    (void)task;
    assert(!child || (acc != held[0] && acc != held[1]));
}

int main(void)
{
    twill_report report;
    twill_parallel_options options = {.run = {.workers = 2, .report = &report}};
    twill_reducer reducer = {.size = sizeof(span),
                             .fold = fold,
                             .combine = combine,
                             .dispose = dispose,
                             .blocks = BLOCKS};
    span result = {-1, -1};
    twill_status status;

    atomic_store(&twill__process()->cpus, 2); /* not quiet(): the fork must be noticed */
    status = twill_parallel_reduce(BLOCKS, &reducer, &result, &options);
    assert(status == TWILL_OK || (child && status == TWILL_FORKED));
    assert(status == TWILL_OK ? result.first == 0 && result.end == BLOCKS : result.end == -1);
    counts_add_up(&report, BLOCKS);
    return 0;
}
