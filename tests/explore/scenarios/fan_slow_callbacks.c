/* A task's time counts from its own start, not from that of a discard, a drop or a notify before it
   in the same worker, which takes longer than the whole limit.
   EXPLORE: --punctual */
#include "fan_common.h"

static _Atomic int notified;

static int late(void *arg, void *result, const twill_task *me)
{
    (void)arg, (void)result, (void)me;
    (void)twill_sleep(twill_within(TWILL_MS(20))); /* deaf */
    return 0;
}

static void slow_discard(void *arg, void *result, int code, const twill_task *me)
{
    (void)arg, (void)result, (void)code, (void)me;
    (void)twill_sleep(twill_within(TWILL_MS(50)));
}

static void slow_notify(const twill_task *me)
{
    (void)me;
    if (atomic_fetch_add(&notified, 1) == 0)
        (void)twill_sleep(twill_within(TWILL_MS(50)));
}

int main(void)
{
    bool discards = choose(2);
    twill_fan *fan;
    twill_outcome outcome;

    quiet();
    assert(twill_fan_create(&fan, &(twill_fan_options){.run.workers = 1,
                                                       .timeout = TWILL_MS(10),
                                                       .discard = discards ? slow_discard : NULL,
                                                       .notify = discards ? NULL : slow_notify}) ==
           TWILL_OK);
    assert(twill_fan_go(fan, discards ? late : task, tag(1), tag(1)) == TWILL_OK);
    assert(twill_fan_go(fan, task, tag(2), tag(2)) == TWILL_OK);
    assert(twill_fan_next(fan, NULL, &outcome) == TWILL_OK);
    assert(outcome.status == (discards ? TWILL_TIMEOUT : TWILL_OK));
    assert(twill_fan_next(fan, NULL, &outcome) == TWILL_OK);
    assert(outcome.key == tag(2) && outcome.status == TWILL_OK);
    assert(twill_fan_destroy(fan) == TWILL_OK);
    assert(live_blocks == 0);
    return 0;
}
