/* The windows are as long as the budget says, whoever looks first: the watcher, finish, or the one
   who works until the end of both. Nobody is told before the instant. */
#include "shutdown_common.h"

static twill_ns asked;

static void told(twill_shutdown_phase phase, int reason, const twill_task *task)
{
    twill_ns since = twill_now() - asked;
    (void)reason;
    (void)task;
    if (phase == TWILL_SHUTDOWN_CANCELLING)
        assert(since >= TWILL_US(30));
    if (phase >= TWILL_SHUTDOWN_HOOKS)
        assert(since >= TWILL_US(50));
}

static void work_on(void *side_) /* stuck until after the hooks */
{
    struct side *side = side_;
    assert(twill_sleep(side->until) == TWILL_CANCELLED);
    assert(twill_now() - asked >= TWILL_US(30));
    assert(twill_sleep(twill_within(TWILL_US(100))) == TWILL_OK);
    twill_shutdown_leave(side->shutdown);
}

int main(void)
{
    twill_shutdown *shutdown = make((twill_shutdown_options){
        .on_phase = told, .drain = TWILL_US(30), .cancel = TWILL_US(20)});
    struct side one = {.count = 0};
    twill_shutdown_report report;
    one.until.cancel = twill_shutdown_cancel_token(shutdown);
    assert(twill_shutdown_enter(shutdown) == TWILL_OK);
    asked = twill_now();
    go(&one, work_on, shutdown);
    twill_shutdown_request(shutdown, 1);
    assert(twill_shutdown_finish(shutdown, &report) == (report.stuck ? TWILL_TIMEOUT : TWILL_OK));
    assert(twill_now() - asked >= TWILL_US(50));
    assert(report.left_in_drain == 0 && report.left_in_cancel + report.stuck == 1);
    end(&one);
    assert(twill_shutdown_destroy(shutdown) == TWILL_OK);
    return 0;
}
