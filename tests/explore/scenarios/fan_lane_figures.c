/* Quick tasks of an object go through a lane while another thread looks at the figures: also when
   the last one of a lane has ended and its worker has not left it. */
#include "fan_common.h"

enum { TASKS = 6 };
static twill_fan *fan;

static int quick(void *arg, void *result, const twill_task *me)
{
    (void)arg, (void)result, (void)me;
    return 0;
}

static void look(void)
{
    twill_fan_stats s;

    twill_fan_get_stats(fan, &s);
    assert(s.accepted == s.done + s.failed + s.skipped + s.queued + s.running);
    assert(s.queued <= s.accepted && s.running <= 1);
    assert(s.unread == s.done);
}

int main(void)
{
    quiet();
    assert(twill_fan_create(&fan, &(twill_fan_options){.run.workers = 1, .in_flight = 8}) ==
           TWILL_OK);
    for (int i = 0; i < TASKS; i++) {
        assert(twill_fan_go(fan, quick, NULL, tag(i)) == TWILL_OK);
        look();
    }
    for (int i = 0; i < 3; i++)
        look();
    assert(twill_fan_destroy(fan) == TWILL_OK);
    assert(live_blocks == 0);
    return 0;
}
