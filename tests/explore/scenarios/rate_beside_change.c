/* A try by the word alone while the rate changes: before and after there is a token, so there is
   one in between, and it costs one. What of the scale is of another rate than the rest would refuse
   it, or take too much. */
#include "rate_common.h"
#include <threads.h>

struct rate {
    uint64_t tokens;
    twill_ns per;
    uint64_t burst;
};

static struct rate next;

static void change(void *caller_)
{
    struct caller *caller = caller_;
    assert(twill_rate_limiter_set_rate(caller->limiter, next.tokens, next.per, next.burst) ==
           TWILL_OK);
}

int main(void)
{
    static const struct rate to[] = {
        {1, TWILL_SEC(278), 3},  /* another shift */
        {1, TWILL_SEC(4448), 3}, /* slower, beyond the finest unit */
        {1, TWILL_SEC(250), 3},  /* a smaller factor */
        {1, TWILL_SEC(139), 1},  /* less burst */
        {1, TWILL_SEC(1), 3},    /* coarser units */
    };
    twill_rate_limiter_options options = {
        .tokens = 1, .per = TWILL_SEC(139), .burst = 3, .used = 3, .counted = true};
    static twill_rate_limiter limiter;
    struct caller one = {.limiter = &limiter, .n = 1}, other = {.limiter = &limiter};
    uint64_t left = 1 + (uint64_t)EXPLORE_CHOICE(2, 1);
    next = to[EXPLORE_CHOICE(sizeof to / sizeof *to, 0)];
    assert(twill_rate_limiter_init(&limiter, &options) == TWILL_OK);
    /* not twill_sleep, which on plain C11 looks up every 20 ms */
    for (struct timespec left = {.tv_sec = 10000}; thrd_sleep(&left, &left) != 0;) {}
    assert(twill_rate_limiter_take_up_to(&limiter, 3 - left) == 3 - left);
    go(&one, try_one);
    go(&other, change);
    end(&one);
    end(&other);
    assert(one.status == TWILL_OK);
    assert((twill_rate_limiter_try_acquire(&limiter, 1) == TWILL_OK) == (left == 2) ||
           next.burst == 1);
    return 0;
}
