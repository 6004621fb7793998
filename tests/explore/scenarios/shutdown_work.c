/* Two threads enter and leave around a request: nobody enters who could have seen it, and finish
   counts them all. */
#include "shutdown_common.h"

static void work(void *side_)
{
    struct side *side = side_;
    bool asked = twill_shutdown_requested(side->shutdown);
    side->status = twill_shutdown_enter(side->shutdown);
    assert(!asked || side->status == TWILL_CLOSED);
    if (side->status == TWILL_OK) {
        side->count++; /* seen by main after finish: a race otherwise */
        twill_shutdown_leave(side->shutdown);
    } else {
        assert(side->status == TWILL_CLOSED);
        assert(twill_shutdown_get_phase(side->shutdown) >= TWILL_SHUTDOWN_DRAINING);
    }
}

int main(void)
{
    struct side one = {.count = 0}, two = {.count = 0};
    twill_shutdown *shutdown = make((twill_shutdown_options){0});
    twill_shutdown_report report;

    go(&one, work, shutdown);
    go(&two, work, shutdown);
    assert(twill_shutdown_finish(shutdown, &report) == TWILL_OK);
    assert(report.stuck == 0 && report.entered == report.left_in_drain + report.left_in_cancel);
    end(&one);
    end(&two);
    assert(report.entered == one.count + two.count);
    assert(twill_shutdown_destroy(shutdown) == TWILL_OK);
    return 0;
}
