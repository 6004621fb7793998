/* Quick items of a stream go through lanes, taken from the queue. One of them says stop, or none
   does: what is above it is told, or not begun, and nothing below is told; each item that was
   pulled has one outcome, and nobody waits for one that is there. */
#include "fan_common.h"

enum { ITEMS = 12, STOP = 4 };
static _Atomic unsigned begun[ITEMS], stopped;
static unsigned seen[ITEMS];
static int pulled;
static bool stops;

static int pull(void *item, const twill_task *me)
{
    if (pulled == ITEMS)
        return twill_task_stop(me);
    *(int *)item = pulled++;
    return 0;
}

static int process(const void *in, void *out, const twill_task *me)
{
    int i = *(const int *)in;

    assert(me->index == (size_t)i && atomic_fetch_add(&begun[i], 1) == 0);
    *(int *)out = 100 + i;
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

static int emit(const void *result, const twill_outcome *outcome, const twill_task *me)
{
    (void)me;
    assert(seen[outcome->index]++ == 0);
    assert((outcome->status == TWILL_OK) == (begun[outcome->index] == 1));
    assert(outcome->status == TWILL_OK || outcome->index > STOP);
    assert(!result || *(const int *)result == 100 + (int)outcome->index);
    return 0;
}

int main(void)
{
    twill_report report;

    quiet();
    stops = choose(2);
    assert(twill_fan_stream(pull, sizeof(int), process, sizeof(int), emit,
                            &(twill_fan_options){.run = {.workers = 2, .report = &report},
                                                 .in_flight = choose(2) ? 8 : 3}) == TWILL_OK);
    counts_add_up(&report, (size_t)pulled);
    for (int i = 0; i < pulled; i++)
        assert(seen[i] == 1);
    assert(report.failed == 0 && (stops || (report.done == ITEMS && pulled == ITEMS)));
    assert(live_blocks == 0);
    return 0;
}
