/* Two or three workers reduce, in order or not: each item once, each accumulator combined or
   disposed of once, and of a failure in between nothing is left but the lowest error. */
/* EXPLORE-FLAGS: -DTWILL__SPIN=0 -DTWILL__TICKS=0 */
#include "team_common.h"

#define ITEMS 5

typedef struct acc {
    long sum, *live; /* a block of its own: who forgets it leaks */
    size_t first, end;
} acc;

static int fails = -1;
static bool in_order;
static _Atomic unsigned seen[ITEMS];

static int empty(void *acc_, const twill_task *task)
{
    acc *a = acc_;

    (void)task;
    memset(a, 0, sizeof *a);
    a->live = malloc(sizeof *a->live);
    assert(a->live);
    *a->live = 1;
    a->first = SIZE_MAX;
    return 0;
}

static int fold(void *acc_, size_t begin, size_t end, const twill_task *task)
{
    acc *a = acc_;

    assert(*a->live == 1);
    for (size_t i = begin; i < end; i++) {
        if (fails == (int)i)
            return twill_task_fail(task, i, 7);
        atomic_fetch_add(&seen[i], 1);
        a->sum += 1l << i;
    }
    if (a->first == SIZE_MAX)
        a->first = begin;
    else
        assert(!in_order || a->end == begin);
    a->end = end;
    return 0;
}

static int combine(void *left_, void *right_, const twill_task *task)
{
    acc *left = left_, *right = right_;

    (void)task;
    assert(*left->live == 1 && *right->live == 1);
    left->sum += right->sum;
    if (in_order)
        assert(right->first == SIZE_MAX || left->end == right->first);
    if (right->first != SIZE_MAX)
        left->end = right->end;
    return 0;
}

static void dispose(void *acc_, const twill_task *task)
{
    (void)task;
    free(((acc *)acc_)->live);
}

int main(void)
{
    twill_report report;
    twill_parallel_options options = {.run = {.report = &report}};
    twill_reducer reducer = {.size = sizeof(acc),
                             .identity = empty,
                             .fold = fold,
                             .combine = combine,
                             .dispose = dispose};
    acc result = {0};
    twill_status status;

    quiet();
    options.run.workers = 2 + (unsigned)choose(2);
    options.schedule = (twill_schedule)choose(3);
    reducer.unordered = choose(2);
    reducer.blocks = reducer.unordered ? 0 : 3 + (size_t)choose(3);
    in_order = !reducer.unordered;
    fails = choose(3) ? -1 : 1 + choose(3);
    status = twill_parallel_reduce(ITEMS, &reducer, &result, &options);
    assert(status == (fails < 0 ? TWILL_OK : TWILL_FAILED));
    counts_add_up(&report, ITEMS);
    if (fails >= 0) {
        assert(report.first_error.index == (size_t)fails && report.first_error.code == 7);
        assert(!result.live);
        return 0;
    }
    assert(result.sum == (1l << ITEMS) - 1 && *result.live == 1);
    for (int i = 0; i < ITEMS; i++)
        assert(seen[i] == 1);
    free(result.live);
    return 0;
}
