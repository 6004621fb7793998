/* Somebody has asked and not shut the door yet; one comes in; finish has begun. Whoever leaves last
   still touches nothing that is gone. */
#include "shutdown_common.h"

static _Atomic uint32_t came;

static void work(void *side_)
{
    struct side *side = side_;
    side->status = twill_shutdown_enter(side->shutdown);
    atomic_store(&came, 1); /* from here on it may be destroyed */
    twill__wake(&came, 1);
    if (side->status == TWILL_OK)
        twill_shutdown_leave(side->shutdown);
}

int main(void)
{
    struct side one = {.count = 0};
    twill_shutdown *shutdown = make((twill_shutdown_options){0});
    twill_shutdown_report report;

    /* so far has come who asks: see twill__shutdown_ask */
    atomic_store(&shutdown->asked_at, twill__clock_now());
    atomic_store(&shutdown->asked, 9);
    go(&one, work, shutdown);
    assert(twill_shutdown_finish(shutdown, &report) == TWILL_OK);
    while (!atomic_load(&came))
        twill__park(&came, 0, 0);
    assert(report.reason == 9);
    assert(report.entered == (one.status == TWILL_OK));
    assert(report.stuck == 0);
    assert(twill_shutdown_destroy(shutdown) == TWILL_OK);
    end(&one);
    return 0;
}
