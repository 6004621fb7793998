/* Two or three workers scan: a block that finds what lies before it done writes at once, the others
   leave their sums; the result is the serial loop's, and the carry is handed on without a race. */
/* EXPLORE-FLAGS: -DTWILL__SPIN=0 -DTWILL__TICKS=0 */
#include "team_common.h"

#define ITEMS 40 /* three blocks */

static int plus(void *left, void *right, const twill_task *task)
{
    (void)task;
    *(int *)left += *(const int *)right;
    return 0;
}

int main(void)
{
    int in[ITEMS], out[ITEMS], start = 100, sum;
    twill_report report;
    twill_parallel_options options = {.run = {.report = &report}};
    bool before;

    quiet();
    for (int i = 0; i < ITEMS; i++)
        in[i] = i * i + 1;
    options.run.workers = 2 + (unsigned)choose(2);
    options.schedule = choose(2) ? TWILL_SCHEDULE_STATIC : TWILL_SCHEDULE_AUTO;
    before = choose(2);
    sum = before ? start : 0;
    assert(twill_parallel_scan(in, out, sizeof(int), ITEMS, before ? &start : NULL, plus,
                               &options) == TWILL_OK);
    for (int i = 0; i < ITEMS; i++) {
        if (!before)
            sum += in[i];
        assert(out[i] == sum);
        if (before)
            sum += in[i];
    }
    counts_add_up(&report, ITEMS);
    assert(report.done == ITEMS && report.status == TWILL_OK);
    return 0;
}
