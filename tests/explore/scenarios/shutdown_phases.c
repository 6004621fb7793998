/* on_phase and the tokens, while finish, the watcher and a late second press push the phases on:
   each once, in order, the drain token first. */
#include "shutdown_common.h"

#include <signal.h>

static int last; /* plain: the calls are ordered */

static void told(twill_shutdown_phase phase, int reason, const twill_task *task)
{
    twill_shutdown *const *shutdown = task->context;
    assert(reason == SIGTERM);
    assert((int)phase == ++last);
    assert(twill_shutdown_get_phase(*shutdown) >= phase);
    assert(twill_cancel_fired(twill_shutdown_drain_token(*shutdown)));
    if (phase >= TWILL_SHUTDOWN_CANCELLING)
        assert(twill_cancel_fired(twill_shutdown_cancel_token(*shutdown)));
}

static void sleep_in(void *side_)
{
    struct side *side = side_;
    side->status = twill_sleep(side->until);
    assert(twill_cancel_fired(twill_shutdown_drain_token(side->shutdown)));
    twill_shutdown_leave(side->shutdown);
}

int main(void)
{
    twill_shutdown *shutdown = NULL;
    struct side one = {.count = 0};
    twill_shutdown_report report;

    shutdown = make((twill_shutdown_options){
        .on_phase = told, .context = &shutdown, .second = TWILL_SECOND_HURRIES, .same_press = 1});
    shutdown->kind[SIGTERM] = TWILL__STOPS;
    one.until.cancel = twill_shutdown_cancel_token(shutdown);
    assert(twill_shutdown_enter(shutdown) == TWILL_OK);
    go(&one, sleep_in, shutdown);
    come(shutdown, SIGTERM);
    assert(twill_sleep(twill_within(TWILL_US(1))) == TWILL_OK);
    come(shutdown, SIGTERM); /* hurries: the drain window would be ten seconds */
    assert(twill_shutdown_finish(shutdown, &report) == TWILL_OK);
    end(&one);
    assert(one.status == TWILL_CANCELLED && last == 4);
    assert(report.left_in_cancel == 1 && report.entered == 1);
    assert(twill_shutdown_destroy(shutdown) == TWILL_OK);
    return 0;
}
