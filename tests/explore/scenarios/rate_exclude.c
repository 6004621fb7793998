/* The only token of a limiter as a lock: what was done before it was given back comes before what
   is done by who takes it next, by the word alone. */
#include "rate_common.h"

static int inside;

static void once(void *caller_)
{
    struct caller *caller = caller_;
    caller->status = twill_rate_limiter_try_acquire(caller->limiter, 1);
    if (caller->status != TWILL_OK)
        return;
    inside++; /* a race, if it does not */
    twill_rate_limiter_give_back(caller->limiter, 1);
}

int main(void)
{
    static twill_rate_limiter limiter;
    struct caller one = {.limiter = &limiter}, other = {.limiter = &limiter};
    int times;
    slow(&limiter, 3, 2);
    assert(twill_rate_limiter_take_up_to(&limiter, 1) == 1);
    for (int k = 0; TWILL__TEMPO && k < 2; k++) { /* by ticks: the pace, from two anchors */
        assert(twill_rate_limiter_try_acquire(&limiter, 0) == TWILL_OK);
        assert(twill_sleep(twill_within(TWILL_US(200))) == TWILL_OK);
    }
    go(&one, once);
    go(&other, once);
    end(&one);
    end(&other);
    times = (one.status == TWILL_OK) + (other.status == TWILL_OK);
    assert(inside == times && times > 0);
    return 0;
}
