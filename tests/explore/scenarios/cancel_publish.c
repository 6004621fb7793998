/* What was written before a fire or a request is there for whoever sees the token fired, by a
   poll or by a wait. */
#include "cancel_common.h"

static twill_cancel fired, asked, child;
static int before_fire, before_request;

static void poll_fired(void *arg)
{
    (void)arg;
    if (twill_cancel_fired(&child))
        assert(before_fire == 5);
    if (twill_cancel_fired(&asked))
        assert(before_request == 6);
}

static void wait_fired(void *arg)
{
    (void)arg;
    assert(sleep_on_heap(twill_until_cancelled(&fired)) == TWILL_CANCELLED);
    assert(before_fire == 5);
}

int main(void)
{
    twill__thrd threads[2];

    twill_cancel_init(&child, &fired);
    go(&threads[0], poll_fired, NULL);
    go(&threads[1], wait_fired, NULL);
    before_request = 6;
    twill_cancel_request(&asked, 1);
    before_fire = 5;
    twill_cancel_fire(&fired, 1);
    end(threads, 2);
    twill_cancel_detach(&child);
    return 0;
}
