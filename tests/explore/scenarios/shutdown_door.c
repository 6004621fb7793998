/* One asks and has not shut the door yet, one comes in, finish has begun: whoever leaves last still
   touches nothing that is gone. */
#include "shutdown_common.h"

static _Atomic uint32_t came;

static void ask(void *side_)
{
    twill_shutdown_request(((struct side *)side_)->shutdown, 9);
}

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
    struct side one = {.count = 0}, two = {.count = 0};
    twill_shutdown *shutdown = make((twill_shutdown_options){0});
    twill_shutdown_report report;

    go(&one, ask, shutdown);
    go(&two, work, shutdown);
    assert(twill_shutdown_finish(shutdown, &report) == TWILL_OK);
    while (!atomic_load(&came))
        twill__park(&came, 0, 0);
    assert(report.entered == (two.status == TWILL_OK));
    assert(report.stuck == 0);
    end(&one);
    assert(twill_shutdown_destroy(shutdown) == TWILL_OK);
    end(&two);
    return 0;
}
