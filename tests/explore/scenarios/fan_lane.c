/* Quick items go through lanes, without the lock. One of them says stop, or none does: what is
   above it is told, or not begun, and nothing below is told; each item has one outcome, and nobody
   waits for one that is there. */
#include "fan_common.h"

enum { ITEMS = 16, STOP = 3 };
static _Atomic unsigned begun[ITEMS], stopped;
static unsigned seen[ITEMS];
static bool stops;

static int process(const void *in, void *out, const twill_task *me)
{
    int i = *(const int *)in;

    (void)out;
    assert(atomic_fetch_add(&begun[i], 1) == 0);
    if (i == STOP && stops) {
        (void)twill_task_stop(me);
        atomic_store(&stopped, 1);
    } else if (i > STOP) {
        if (atomic_load(&stopped))
            assert(twill_cancel_fired(me->until.cancel));
    } else {
        assert(!twill_cancel_fired(me->until.cancel));
    }
    return 0;
}

static int aggregate(const void *result, const twill_outcome *outcome, const twill_task *me)
{
    (void)result;
    (void)me;
    assert(seen[outcome->index]++ == 0);
    assert((outcome->status == TWILL_OK) == (begun[outcome->index] == 1));
    assert(outcome->status == TWILL_OK || outcome->index > STOP);
    return 0;
}

int main(void)
{
    int items[ITEMS];
    twill_report report;

    quiet();
    stops = choose(2);
    for (int i = 0; i < ITEMS; i++)
        items[i] = i;
    assert(twill_fan_out_fan_in(items, sizeof *items, ITEMS, process, 0, aggregate,
                                &(twill_fan_options){.run = {.workers = 2, .report = &report}}) ==
           TWILL_OK);
    counts_add_up(&report, ITEMS);
    for (int i = 0; i < ITEMS; i++)
        assert(seen[i] == 1);
    assert(report.failed == 0 && (stops || report.done == ITEMS));
    assert(live_blocks == 0);
    return 0;
}
