/* A try by ticks while the rate becomes a faster one, whose units are coarser: before and after
   there is a token, so there is one in between, and it costs one. */
#define TWILL__TEMPO 1
#include "rate_common.h"
#include <threads.h>

static void change(void *caller_)
{
    struct caller *caller = caller_;
    assert(twill_rate_limiter_set_rate(caller->limiter, 1, TWILL_SEC(1), 3) == TWILL_OK);
}

int main(void)
{
    twill_rate_limiter_options options = {
        .tokens = 1, .per = TWILL_SEC(139), .burst = 3, .used = 3, .counted = true};
    static twill_rate_limiter limiter;
    struct caller one = {.limiter = &limiter, .n = 1}, other = {.limiter = &limiter};
    assert(twill_rate_limiter_init(&limiter, &options) == TWILL_OK);
    /* not twill_sleep, which on plain C11 looks up every 20 ms */
    for (struct timespec left = {.tv_sec = 10000}; thrd_sleep(&left, &left) != 0;) {}
    assert(twill_rate_limiter_take_up_to(&limiter, 1) == 1); /* the clock is known */
    for (int k = 0; k < 2; k++) {                            /* and the pace, from two anchors */
        assert(twill_rate_limiter_try_acquire(&limiter, 0) == TWILL_OK);
        assert(twill_sleep(twill_within(TWILL_US(200))) == TWILL_OK);
    }
    go(&one, try_one);
    go(&other, change);
    end(&one);
    end(&other);
    assert(one.status == TWILL_OK);
    assert(twill_rate_limiter_try_acquire(&limiter, 1) == TWILL_OK);
    assert(books(&limiter).granted == 3);
    return 0;
}
