/* destroy with a reader inside, a reader whose deadline passes, and a task that runs: all are
   answered, nothing is touched afterwards. */
#include "fan_common.h"

int main(void)
{
    struct side one = {.until = {0, NULL}}, two = {.until = {0, NULL}};
    twill_fan *fan;
    twill_report report;

    quiet();
    assert(twill_fan_create(&fan, &(twill_fan_options){.run = {.workers = 1, .report = &report},
                                                       .result_size = sizeof(int),
                                                       .drop = drop,
                                                       .discard = discard}) == TWILL_OK);
    two.until = twill_within(TWILL_US(1));
    begin(&one, fan, next_one);
    begin(&two, fan, next_one);
    wait_inside(fan, 2);
    assert(twill_fan_go(fan, task, tag(1), tag(1)) == TWILL_OK);
    if (choose(2))
        assert(twill_fan_close(fan) == TWILL_OK);
    assert(twill_fan_destroy(fan) == TWILL_OK);
    end(&one);
    end(&two);
    assert(one.status == TWILL_OK || one.status == TWILL_CLOSED);
    assert(two.status == TWILL_OK || two.status == TWILL_CLOSED || two.status == TWILL_TIMEOUT);
    counts_add_up(&report, 1);
    assert(ran[1] + dropped[1] == 1);
    if (report.done)
        assert((one.status == TWILL_OK) + (two.status == TWILL_OK) + discarded[1] == 1);
    return 0;
}
