/* A call waits for two limiters, as the first at one whose bucket is full, until the other one can
   give, or until it gives up; behind it stand two more. What came meanwhile beyond the burst is
   lost: they do not start all at once. EXPLORE: --punctual */
#include "rate_common.h"

static twill_rate_limiter pair[2];
static twill_cancel token;

static void both(void *caller_)
{
    struct caller *caller = caller_;
    twill_rate_limiter *all[] = {&pair[0], &pair[1]};
    caller->status = twill_rate_limiter_acquire_all_until(all, 2, caller->n, caller->until);
}

static void behind(void *caller_)
{
    struct caller *caller = caller_;
    assert(twill_sleep(caller->until) == TWILL_OK);
    assert(twill_rate_limiter_acquire(&pair[0], 1) == TWILL_OK);
    caller->until.deadline = twill_now();
}

int main(void)
{
    int kind = EXPLORE_CHOICE(3, 0), leaves = EXPLORE_CHOICE(2, 0);
    twill_ns begun = twill_now(), first = TWILL_SEC(leaves                     ? 50
                                                    : kind == TWILL_RATE_SPLIT ? 301
                                                    : kind == TWILL_RATE_DEBT  ? 103
                                                                               : 101);
    twill_rate_limiter_options options = {.tokens = 1, .oversize = (twill_rate_oversize)kind};
    struct caller all = {.n = kind == TWILL_RATE_REFUSE ? 1 : 3, .until.cancel = &token};
    struct caller one = {.until.deadline = begun + TWILL_SEC(1)};
    struct caller two = {.until.deadline = begun + TWILL_SEC(2)};
    assert(twill_rate_limiter_init(&pair[0], &options) == TWILL_OK);
    options.per = TWILL_SEC(100);
    options.used = 1;
    assert(twill_rate_limiter_init(&pair[1], &options) == TWILL_OK);
    go(&all, both);
    go(&one, behind);
    go(&two, behind);
    if (leaves) {
        (void)twill_sleep((twill_until){begun + TWILL_SEC(50), NULL});
        twill_cancel_fire(&token, 1);
    }
    end(&all);
    end(&one);
    end(&two);
    assert(all.status == (leaves ? TWILL_CANCELLED : TWILL_OK));
    assert(one.until.deadline >= begun + first);
    assert(one.until.deadline < begun + first + TWILL_MS(1));
    assert(two.until.deadline >= begun + first + TWILL_SEC(1));
    assert(two.until.deadline < begun + first + TWILL_SEC(1) + TWILL_MS(1));
    return 0;
}
