/* A race: the deciding success meets another one, and a failure. One success is aggregated, others
   go to discard, and the counts add up. */
#include "fan_common.h"

enum { ITEMS = 3 };
static int act[ITEMS]; /* 0: success; 1: failure; 2: until told */
static size_t seen[ITEMS], good;

static int process(const void *in, void *out, const twill_task *me)
{
    int i = *(const int *)in;

    atomic_fetch_add(&ran[i], 1);
    *(int *)out = i;
    if (act[i] == 2)
        return polite(tag(ITEMS), NULL, me);
    return act[i];
}

static int aggregate(const void *result, const twill_outcome *outcome, const twill_task *me)
{
    (void)me;
    seen[outcome->index]++;
    if (outcome->status == TWILL_OK) {
        assert(*(const int *)result == (int)outcome->index);
        good++;
    }
    return 0;
}

static void count_discard(void *item, void *result, int code, const twill_task *me)
{
    (void)me;
    assert(code == 0 && *(int *)item == *(int *)result);
    atomic_fetch_add(&discarded[*(int *)item], 1);
}

int main(void)
{
    int items[ITEMS] = {0, 1, 2};
    twill_report report;

    quiet();
    act[0] = choose(2);
    act[1] = choose(3);
    act[2] = act[0] == 0 || act[1] == 0 ? choose(3) : 0; /* somebody can win */
    assert(twill_fan_out_fan_in(items, sizeof *items, ITEMS, process, sizeof(int), aggregate,
                                &(twill_fan_options){.run = {.workers = 2, .report = &report},
                                                     .goal = TWILL_FAN_FIRST_OK,
                                                     .discard = count_discard}) == TWILL_OK);
    assert(good == 1);
    counts_add_up(&report, ITEMS);
    for (int i = 0; i < ITEMS; i++)
        assert(seen[i] + discarded[i] == 1);
    assert(report.done >= 1 && report.status == TWILL_OK);
    return 0;
}
