/* go meets cancel, a task runs meanwhile: each accepted task is run or dropped, and read once. */
#include "fan_common.h"

static void cancel_it(void *side_)
{
    struct side *side = side_;
    side->status = twill_fan_cancel(side->fan);
}

int main(void)
{
    struct side canceller = {.until = {0, NULL}};
    twill_fan *fan;
    twill_report report;
    int accepted = 0;

    quiet();
    assert(twill_fan_create(&fan, &(twill_fan_options){.run = {.workers = 1, .report = &report},
                                                       .in_flight = 2,
                                                       .drop = drop}) == TWILL_OK);
    begin(&canceller, fan, cancel_it);
    for (int i = 0; i < 3; i++) {
        twill_status status =
            twill_fan_try_go(fan, i ? task : polite, tag(accepted), tag(accepted));
        assert(status == TWILL_OK || status == TWILL_CLOSED || status == TWILL_FULL);
        accepted += status == TWILL_OK;
    }
    end(&canceller);
    assert(canceller.status == TWILL_OK);
    assert(twill_fan_go(fan, task, NULL, NULL) == TWILL_CLOSED);
    assert(read_all(fan) == accepted);
    check_books(accepted);
    assert(twill_fan_destroy(fan) == TWILL_OK);
    counts_add_up(&report, (size_t)accepted);
    return 0;
}
