/* A reader parks before the task starts whose time limit it must notice: TIMEOUT at once, although
   the only worker is held by a deaf task. */
#include "fan_common.h"

static _Atomic int gate;

static int deaf(void *arg, void *result, const twill_task *me)
{
    (void)arg;
    (void)result;
    (void)me;
    while (!atomic_load(&gate))
        (void)twill_sleep(twill_within(TWILL_US(50)));
    return 0;
}

int main(void)
{
    struct side reader = {.until = {0, NULL}};
    twill_fan *fan;
    twill_report report;

    quiet();
    assert(twill_fan_create(&fan, &(twill_fan_options){.run = {.workers = 1, .report = &report},
                                                       .timeout = TWILL_US(2),
                                                       .max_abandoned = 1}) == TWILL_OK);
    begin(&reader, fan, next_one);
    assert(twill_fan_go(fan, deaf, tag(1), tag(1)) == TWILL_OK);
    end(&reader); /* else it would wait for ever: the gate is closed */
    assert(reader.status == TWILL_OK && reader.outcome.status == TWILL_TIMEOUT);
    atomic_store(&gate, 1);
    assert(twill_fan_destroy(fan) == TWILL_OK);
    counts_add_up(&report, 1);
    while (atomic_load(&live_blocks))
        (void)twill_sleep(twill_within(TWILL_US(100)));
    return 0;
}
