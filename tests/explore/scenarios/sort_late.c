/* A worker that comes in for the last pass of a sort of large items, when all has been compared and
   neither token nor deadline can end it any more: it sees the call's deadline like the others. */
/* EXPLORE-FLAGS: -DTWILL__SPIN=0 -DTWILL__TICKS=0 */
#include "team_common.h"

#define ITEMS 128 /* four runs */

typedef struct item {
    int key;
    char rest[68];
} item;

static twill_ns deadline;

static int see(void **state, const twill_task *task)
{
    (void)state;
    assert(task->until.deadline == deadline && task->until.cancel);
    return 0;
}

static int by_key(const void *a, const void *b, const twill_task *task)
{
    (void)task;
    return ((const item *)a)->key - ((const item *)b)->key;
}

int main(void)
{
    static item items[ITEMS];
    twill_report report;
    twill_parallel_options options = {
        .run = {.workers = 2, .worker_start = see, .report = &report}};

    quiet();
    deadline = twill_now() + TWILL_SEC(1000);
    options.run.until.deadline = deadline;
    for (int i = 0; i < ITEMS; i++)
        items[i].key = ITEMS - i;
    assert(twill_parallel_sort(items, ITEMS, sizeof *items, by_key, &options) == TWILL_OK);
    for (int i = 0; i < ITEMS; i++)
        assert(items[i].key == i + 1);
    counts_add_up(&report, ITEMS);
    return 0;
}
