/* A task waits in next when its time is over: its outcome is given, to another reader, and it waits
   for the one of a task that still runs. Nothing is in its way: it is not told DEADLOCK. */
#include "fan_common.h"

static twill_fan *fan;
static _Atomic uint32_t begun;

static void both(void)
{
    uint32_t seen;

    atomic_fetch_add(&begun, 1);
    twill__wake(&begun, INT_MAX);
    while ((seen = atomic_load(&begun)) < 2) /* exit: the other one runs, too */
        twill__park(&begun, seen, 0);
}

static int reads(void *arg, void *result, const twill_task *me)
{
    twill_outcome outcome;
    twill_status status;

    (void)arg, (void)result, (void)me;
    both();
    status = twill_fan_next(fan, NULL, &outcome);
    assert(status == TWILL_OK || status == TWILL_CLOSED);
    if (status == TWILL_OK)
        given[(intptr_t)outcome.key]++;
    return 0;
}

/* Until the other one was left behind, and for a while after. */
static int runs(void *arg, void *result, const twill_task *me)
{
    twill_fan_stats stats;

    (void)arg, (void)result, (void)me;
    both();
    do {
        (void)twill_sleep(twill_within(TWILL_US(50)));
        twill_fan_get_stats(fan, &stats);
    } while (!stats.abandoned);
    (void)twill_sleep(twill_within(TWILL_US(100)));
    return 0;
}

int main(void)
{
    quiet();
    assert(twill_fan_create(&fan, &(twill_fan_options){.run.workers = 2,
                                                       .timeout = TWILL_US(200),
                                                       .max_abandoned = 1}) == TWILL_OK);
    assert(twill_fan_go(fan, reads, NULL, tag(0)) == TWILL_OK);
    assert(twill_fan_go(fan, runs, NULL, tag(1)) == TWILL_OK);
    assert(twill_fan_close(fan) == TWILL_OK);
    (void)read_all(fan);
    assert(twill_fan_destroy(fan) == TWILL_OK);
    while (atomic_load(&live_blocks))
        (void)twill_sleep(twill_within(TWILL_US(100)));
    assert(given[0] == 1 && given[1] == 1);
    return 0;
}
