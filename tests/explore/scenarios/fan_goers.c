/* Behind one who waits for room, and for readers if need be, waits one who would read: when as many
   outcomes as may be lie unread, he is told FULL, or both wait for him. */
#include "fan_common.h"

static void go_and_wait(void *side_)
{
    struct side *side = side_;

    side->status = twill_fan_go_until(side->fan, task, tag(2), tag(2), side->until);
}

int main(void)
{
    twill_fan *fan;
    struct side other = {.until = {0, NULL}};
    twill_outcome outcome;
    twill_status status;

    quiet();
    assert(twill_fan_create(
               &fan, &(twill_fan_options){.run.workers = 1, .in_flight = 1, .max_unread = 1}) ==
           TWILL_OK);
    assert(twill_fan_go(fan, task, tag(1), tag(1)) == TWILL_OK);
    begin(&other, fan, go_and_wait);
    status = twill_fan_go(fan, task, tag(3), tag(3));
    assert(status == TWILL_OK || status == TWILL_FULL);
    for (int n = 2 + (status == TWILL_OK); n; n--)
        assert(twill_fan_next(fan, NULL, &outcome) == TWILL_OK);
    end(&other);
    assert(other.status == TWILL_OK);
    assert(twill_fan_destroy(fan) == TWILL_OK);
    assert(live_blocks == 0);
    return 0;
}
