/* The last to leave, finish and destroy meet: who leaves touches nothing that is gone. */
#include "shutdown_common.h"

static void leave(void *side_)
{
    struct side *side = side_;
    side->count = 7; /* work before leave: seen after finish */
    twill_shutdown_leave(side->shutdown);
}

int main(void)
{
    struct side one = {.count = 0}, two = {.count = 0};
    twill_shutdown *shutdown = make((twill_shutdown_options){0});
    twill_shutdown_report report;

    assert(twill_shutdown_enter(shutdown) == TWILL_OK);
    assert(twill_shutdown_enter(shutdown) == TWILL_OK);
    go(&one, leave, shutdown);
    go(&two, leave, shutdown);
    assert(twill_shutdown_finish(shutdown, &report) == TWILL_OK);
    assert(one.count == 7 && two.count == 7);
    assert(report.entered == 2);
    assert(report.left_in_drain + report.left_in_cancel + report.stuck == 2);
    assert(report.stuck == 0);
    assert(twill_shutdown_destroy(shutdown) == TWILL_OK);
    end(&one);
    end(&two);
    return 0;
}
