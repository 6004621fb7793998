/* A reason that a poll has found above and stored below: what was written before it is there for
   who finds it below, and so it is with the reason that the poll finds there instead. */
#include "cancel_common.h"

static twill_cancel parent, child;
static int above, below;

static void request_above(void *arg)
{
    (void)arg;
    above = 5;
    twill_cancel_request(&parent, 1);
}

static void request_below(void *arg)
{
    (void)arg;
    below = 6;
    twill_cancel_request(&child, 7);
}

static void poll(void *arg)
{
    int reason = twill_cancel_reason(&child);

    (void)arg;
    assert(reason != 1 || above == 5);
    assert(reason != 7 || below == 6);
}

int main(void)
{
    twill__thrd threads[3];

    twill_cancel_init(&child, &parent);
    go(&threads[0], request_above, NULL);
    go(&threads[1], request_below, NULL);
    go(&threads[2], poll, NULL);
    poll(NULL);
    end(threads, 3);
    return 0;
}
