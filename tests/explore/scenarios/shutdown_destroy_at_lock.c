/* A destroy that begins while two stand before the lock, to wait for a request: they are served,
   however late, and told that none will come; the memory goes after they have left. */
#include "shutdown_common.h"

static void waits(void *side_)
{
    struct side *side = side_;
    side->status = twill_shutdown_wait(side->shutdown, side->until);
}

int main(void)
{
    struct side one = {.until = {0, NULL}}, two = {.until = twill_within(TWILL_US(100))};
    twill_shutdown *shutdown = make((twill_shutdown_options){.drain = 0});

    twill__lock(&shutdown->lock);
    go(&one, waits, shutdown);
    go(&two, waits, shutdown);
    twill__bell_ring(&shutdown->bell);
    twill__shutdown_rouse(shutdown);
    /* until they stand there, and the object's own two threads */
    while (atomic_load(&shutdown->lock) / TWILL__WAITER < 4)
        twill__yield();
    twill__unlock(&shutdown->lock);
    assert(twill_shutdown_destroy(shutdown) == TWILL_OK);
    end(&one);
    end(&two);
    assert(one.status == TWILL_CLOSED);
    assert(two.status == TWILL_CLOSED || two.status == TWILL_TIMEOUT);
    return 0;
}
