/* Who asks fires the token of one who waits, too: that one hears that it has been asked to stop. */
#include "shutdown_common.h"

static twill_cancel token;

static void wait_for(void *side_)
{
    struct side *side = side_;
    side->status = twill_shutdown_wait(side->shutdown, twill_until_cancelled(&token));
}

static void ask(void *side_)
{
    struct side *side = side_;
    twill_shutdown_request(side->shutdown, 3);
    twill_cancel_fire(&token, 1);
}

int main(void)
{
    struct side one = {.status = TWILL_FAILED}, two = {.count = 0};
    twill_shutdown *shutdown = make((twill_shutdown_options){0});
    go(&one, wait_for, shutdown);
    go(&two, ask, shutdown);
    end(&one);
    end(&two);
    assert(one.status == TWILL_OK);
    assert(twill_shutdown_destroy(shutdown) == TWILL_OK);
    return 0;
}
