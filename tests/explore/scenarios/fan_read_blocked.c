/* A task waits in next for the last outcome but its own, and a reader outside, who came before it,
   gets that: it is told DEADLOCK, and does not wait for ever. */
#include "fan_common.h"

static twill_fan *fan;
static _Atomic uint32_t begun;

static void wait_for_readers(int n)
{
    int asleep;

    do { /* exit: so many sleep */
        (void)twill_sleep(twill_within(TWILL_MS(1)));
        twill__lock(&fan->lock);
        asleep = 0;
        for (const twill__node *node = fan->readers.first; node; node = node->next)
            asleep++;
        twill__unlock(&fan->lock);
    } while (asleep < n);
}

static void begin_both(void)
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
    begin_both();
    wait_for_readers(1);
    status = twill_fan_next(fan, NULL, &outcome);
    assert(status == TWILL_DEADLOCK || status == TWILL_OK); /* OK: it was the first after all */
    if (status == TWILL_OK)
        given[1]++;
    return 0;
}

static int is_read(void *arg, void *result, const twill_task *me)
{
    (void)arg, (void)result, (void)me;
    begin_both();
    wait_for_readers(2);
    return 0;
}

int main(void)
{
    twill_outcome outcome;
    twill_status status;

    quiet();
    assert(twill_fan_create(&fan, &(twill_fan_options){.run.workers = 2}) == TWILL_OK);
    assert(twill_fan_go(fan, reads, NULL, tag(0)) == TWILL_OK);
    assert(twill_fan_go(fan, is_read, NULL, tag(1)) == TWILL_OK);
    assert(twill_fan_close(fan) == TWILL_OK);
    while ((status = twill_fan_next(fan, NULL, &outcome)) == TWILL_OK)
        given[(intptr_t)outcome.key]++;
    assert(status == TWILL_CLOSED && given[0] == 1 && given[1] == 1);
    assert(twill_fan_destroy(fan) == TWILL_OK);
    assert(live_blocks == 0);
    return 0;
}
