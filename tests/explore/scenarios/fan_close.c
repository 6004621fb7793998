/* The last outcome, close, and a parked reader: the outcome is read, and then CLOSED. */
#include "fan_common.h"

static void close_it(void *side_)
{
    struct side *side = side_;
    side->status = twill_fan_close(side->fan);
}

int main(void)
{
    struct side closer = {.until = {0, NULL}};
    twill_fan *fan;
    twill_report report;

    quiet();
    assert(twill_fan_create(&fan, &(twill_fan_options){.run = {.workers = 1, .report = &report},
                                                       .ordered = choose(2)}) == TWILL_OK);
    assert(twill_fan_go(fan, task, tag(1), tag(1)) == TWILL_OK);
    begin(&closer, fan, close_it);
    assert(read_all(fan) == 1 && given[1] == 1);
    end(&closer);
    assert(closer.status == TWILL_OK);
    assert(twill_fan_destroy(fan) == TWILL_OK);
    counts_add_up(&report, 1);
    assert(report.done == 1);
    return 0;
}
