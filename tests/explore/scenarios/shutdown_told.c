/* Who is told CLOSED has seen the request. */
#include "shutdown_common.h"

static void asks(void *side_)
{
    struct side *side = side_;
    twill_shutdown_request(side->shutdown, 9);
}

int main(void)
{
    struct side one = {.count = 0};
    twill_shutdown *shutdown = make((twill_shutdown_options){0});
    go(&one, asks, shutdown);
    if (twill_shutdown_enter(shutdown) == TWILL_OK)
        twill_shutdown_leave(shutdown);
    else
        assert(twill_shutdown_reason(shutdown) == 9);
    end(&one);
    assert(twill_shutdown_destroy(shutdown) == TWILL_OK);
    return 0;
}
