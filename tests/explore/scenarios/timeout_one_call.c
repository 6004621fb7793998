/* The one-call form: its thread is joined, or let go; the process's account comes back to 0. */
#include "timeout_common.h"

static void call_one(void *side_)
{
    struct side *side = side_;
    int fallback = 9;
    side->out = 0;
    side->status = twill_call_with_timeout(&side->in, sizeof side->in, &side->out, sizeof side->out,
                                           work, TWILL_US(2), &fallback);
    assert(side->status == TWILL_OK ? side->out == side->in + 100
                                    : side->status == TWILL_TIMEOUT && side->out == 9);
}

int main(void)
{
    struct side one = {.in = 2}, two = {.in = 1};

    if (!go(&one, call_one, NULL))
        return 0;
    call_one(&two);
    end(&one);
    assert(twill_timeout_drain(NULL, (twill_until){0, NULL}, NULL) == TWILL_OK);
    assert(twill_timeout_abandoned(NULL) == 0 && twill__process_books()->running == 0);
    twill_sleep(twill_within(TWILL_US(5))); /* a thread that was let go ends */
    return 0;
}
