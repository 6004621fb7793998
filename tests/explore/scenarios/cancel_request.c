/* A request wakes nobody; a fire after it does. Request and fire at once: one reason, the same
   for all. */
#include "cancel_common.h"

static twill_cancel parent, child;
static int reason[2];
static twill_status answer;

static void sleeper(void *arg)
{
    (void)arg;
    answer = sleep_on_heap(twill_until_cancelled(&child));
    reason[0] = twill_cancel_reason(&child);
}

static void requester(void *arg)
{
    (void)arg;
    twill_cancel_request(&parent, 2);
    reason[1] = twill_cancel_reason(&parent);
}

int main(void)
{
    twill__thrd threads[2];

    twill_cancel_init(&child, &parent);
    go(&threads[0], sleeper, NULL);
    go(&threads[1], requester, NULL);
    twill_cancel_fire(&parent, 1);
    end(threads, 2);
    assert(answer == TWILL_CANCELLED);
    assert(reason[0] == 1 || reason[0] == 2);
    assert(reason[1] == reason[0] && twill_cancel_reason(&parent) == reason[0]);
    twill_cancel_detach(&child);
    assert(bare(&parent) && bare(&child));
    return 0;
}
