/* The time limit of a task meets its end; what is left behind meets destroy: one outcome, and a
   success that nobody took goes to discard once. */
#include "fan_common.h"

static int slow(void *arg, void *result, const twill_task *me)
{
    (void)me;
    atomic_fetch_add(&ran[(intptr_t)arg], 1);
    *(int *)result = 1;
    (void)twill_sleep(twill_within(TWILL_US(2))); /* deaf */
    return 0;
}

int main(void)
{
    twill_fan *fan;
    twill_report report;
    twill_outcome outcome;
    int result = 0;

    quiet();
    assert(twill_fan_create(&fan, &(twill_fan_options){.run = {.workers = 1, .report = &report},
                                                       .result_size = sizeof(int),
                                                       .timeout = TWILL_US(2),
                                                       .max_abandoned = (size_t)choose(2),
                                                       .drop = drop,
                                                       .discard = discard}) == TWILL_OK);
    assert(twill_fan_go(fan, slow, tag(1), tag(1)) == TWILL_OK);
    if (choose(2)) {
        assert(twill_fan_next(fan, &result, &outcome) == TWILL_OK);
        assert(outcome.status == TWILL_OK || outcome.status == TWILL_TIMEOUT);
        assert(outcome.status != TWILL_OK || result == 1);
        given[1] = outcome.status == TWILL_OK;
    }
    assert(twill_fan_destroy(fan) == TWILL_OK);
    counts_add_up(&report, 1);
    while (atomic_load(&live_blocks)) /* what was left behind frees it */
        (void)twill_sleep(twill_within(TWILL_US(100)));
    assert(!ran[1] || given[1] + discarded[1] == 1);
    return 0;
}
