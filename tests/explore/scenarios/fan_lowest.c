/* ALL_OK: tasks fail or succeed in every mixture: the lowest failure is reported, all below it have
   run, and aggregate sees all or nothing. */
#include "fan_common.h"

enum { ITEMS = 3 };
static int act[ITEMS];
static size_t seen, low = ITEMS;

static int process(const void *in, void *out, const twill_task *me)
{
    int i = *(const int *)in;

    (void)out;
    atomic_fetch_add(&ran[i], 1);
    if (twill_cancel_fired(me->until.cancel)) {
        assert((size_t)i > low);
        return twill_task_skip(me);
    }
    return act[i];
}

static int aggregate(const void *result, const twill_outcome *outcome, const twill_task *me)
{
    (void)result;
    (void)me;
    assert(outcome->status == TWILL_OK);
    seen++;
    return 0;
}

int main(void)
{
    int items[ITEMS] = {0, 1, 2};
    twill_report report;
    twill_status status;

    quiet();
    for (size_t i = ITEMS; i-- > 0;)
        if ((act[i] = choose(2)) != 0)
            low = i;
    status = twill_fan_out_fan_in(items, sizeof *items, ITEMS, process, 0, aggregate,
                                  &(twill_fan_options){.run = {.workers = 2, .report = &report},
                                                       .goal = TWILL_FAN_ALL_OK,
                                                       .ordered = choose(2)});
    counts_add_up(&report, ITEMS);
    if (low == ITEMS) {
        assert(status == TWILL_OK && seen == ITEMS);
    } else {
        assert(status == TWILL_FAILED && seen == 0 && report.first_error.index == low);
        for (size_t i = 0; i <= low; i++)
            assert(ran[i] == 1);
    }
    return 0;
}
