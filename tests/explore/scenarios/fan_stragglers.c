/* Two deaf tasks outlive their time limit, and one of them may be left behind: destroy waits until
   the other one has ended, and hears of that, though its outcome was given long before. */
#include "fan_common.h"

static _Atomic uint32_t ended;

static int deaf(void *arg, void *result, const twill_task *me)
{
    (void)result;
    (void)me;
    atomic_fetch_add(&ran[(intptr_t)arg], 1);
    (void)twill_sleep(twill_within(TWILL_US(arg == tag(1) ? 5 : 9)));
    atomic_fetch_add(&ended, 1);
    return 0;
}

int main(void)
{
    twill_fan *fan;
    twill_report report;

    quiet();
    assert(twill_fan_create(&fan, &(twill_fan_options){.run = {.workers = 2, .report = &report},
                                                       .timeout = TWILL_US(1),
                                                       .max_abandoned = 1,
                                                       .drop = drop}) == TWILL_OK);
    for (int k = 1; k <= 2; k++)
        assert(twill_fan_go(fan, deaf, tag(k), tag(k)) == TWILL_OK);
    assert(twill_fan_destroy(fan) == TWILL_OK);
    counts_add_up(&report, 2);
    assert(atomic_load(&ended) + 1 >= ran[1] + ran[2]);
    while (atomic_load(&live_blocks)) /* what was left behind frees it */
        (void)twill_sleep(twill_within(TWILL_US(100)));
    assert(ran[1] + dropped[1] == 1 && ran[2] + dropped[2] == 1);
    return 0;
}
