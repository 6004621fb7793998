/* stop waits for a task that could be left behind, but only by destroy: it sleeps until the task
   has ended, and does not ask again and again.
   EXPLORE-BACKENDS: futex */
#include "explore.h"
#include "fan_common.h"

static int slow(void *arg, void *result, const twill_task *me)
{
    (void)result, (void)me;
    atomic_fetch_add(&ran[(intptr_t)arg], 1);
    return (int)twill_sleep(twill_within(TWILL_SEC(1)));
}

int main(void)
{
    static const twill_until for_ever = {0, NULL};
    twill_fan *fan;
    twill_stopped out;

    quiet();
    assert(twill_fan_create(&fan, &(twill_fan_options){.run.workers = 1, .max_abandoned = 1}) ==
           TWILL_OK);
    assert(twill_fan_go(fan, slow, tag(1), NULL) == TWILL_OK);
    assert(twill_fan_stop(fan, for_ever, for_ever, &out) == TWILL_OK);
    assert(!explore_steps || explore_steps() < 400); /* of main: so many are few enough */
    assert(out.stuck == 0 && atomic_load(&ran[1]) == 1);
    assert(twill_fan_destroy(fan) == TWILL_OK);
    return 0;
}
