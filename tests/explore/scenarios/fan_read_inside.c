/* A task reads in its own fan, with a deadline, and meanwhile runs what comes, for there is no
   other worker: what comes as its time is over is run by the worker after it, and nothing is
   lost. */
#include "fan_common.h"

#include "explore.h"

static twill_fan *fan;
static _Atomic int answer;

static int reads(void *arg, void *result, const twill_task *me)
{
    twill_outcome outcome;
    twill_status status;
    (void)result, (void)me;
    atomic_fetch_add(&ran[(intptr_t)arg], 1);
    status = twill_fan_next_until(fan, NULL, &outcome, twill_within(TWILL_US(2)));
    assert(status == TWILL_OK || status == TWILL_TIMEOUT ||
           status == TWILL_DEADLOCK); /* closed, and another has read all but its own */
    if (status == TWILL_OK)
        given[(intptr_t)outcome.key]++;
    atomic_store(&answer, (int)status);
    return 0;
}

int main(void)
{
    twill_report report;
    int read;

    quiet();
    EXPLORE_MUST_REACH("in time");
    EXPLORE_MUST_REACH("too late");
    if (twill_fan_create(&fan, &(twill_fan_options){.run = {.workers = 1, .report = &report},
                                                    .in_flight = 2}) != TWILL_OK)
        return 0;
    assert(twill_fan_go(fan, reads, tag(0), tag(0)) == TWILL_OK);
    if (choose(2))
        (void)twill_sleep(twill_within(TWILL_US(2)));
    assert(twill_fan_go(fan, task, tag(1), tag(1)) == TWILL_OK);
    assert(twill_fan_close(fan) == TWILL_OK);
    read = read_all(fan);
    if (atomic_load(&answer) == TWILL_OK)
        EXPLORE_REACHED("in time");
    else
        EXPLORE_REACHED("too late");
    assert(read == (atomic_load(&answer) == TWILL_OK ? 1 : 2));
    check_books(2);
    assert(twill_fan_destroy(fan) == TWILL_OK);
    counts_add_up(&report, 2);
    return 0;
}
