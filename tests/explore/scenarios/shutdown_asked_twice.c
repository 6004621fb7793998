/* A request and two presses at once, in three threads: one reason for ever, on the tokens too. */
#include "shutdown_common.h"

#include <signal.h>

static void press(void *side_)
{
    struct side *side = side_;
    come(side->shutdown, side->number);
    assert(twill_shutdown_requested(side->shutdown));
    side->count = (unsigned)twill_shutdown_reason(side->shutdown);
}

int main(void)
{
    struct side one = {.number = SIGINT}, two = {.number = SIGTERM};
    twill_shutdown *shutdown = make((twill_shutdown_options){.no_hard_stop = true});
    twill_shutdown_report report;

    shutdown->kind[SIGINT] = shutdown->kind[SIGTERM] = TWILL__STOPS;
    go(&one, press, shutdown);
    go(&two, press, shutdown);
    twill_shutdown_request(shutdown, 9);
    assert(twill_cancel_fired(twill_shutdown_drain_token(shutdown)) ||
           twill_shutdown_requested(shutdown));
    assert(twill_shutdown_finish(shutdown, &report) == TWILL_OK);
    end(&one);
    end(&two);
    assert(report.reason == 9 || report.reason == SIGINT || report.reason == SIGTERM);
    assert((int)one.count == report.reason && (int)two.count == report.reason);
    assert(twill_cancel_reason(twill_shutdown_drain_token(shutdown)) == report.reason);
    assert(twill_cancel_reason(twill_shutdown_cancel_token(shutdown)) == report.reason);
    assert(atomic_load(&shutdown->presses) == 1); /* one press, seen twice */
    assert(twill_shutdown_destroy(shutdown) == TWILL_OK);
    return 0;
}
