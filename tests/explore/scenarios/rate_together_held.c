/* A call waits for two limiters, as the first at one whose bucket is full, until the other one can
   give, or until it gives up; behind it stand two more. What came meanwhile beyond the burst is
   lost: they do not start all at once. EXPLORE: --punctual */
#include "rate_common.h"

/* not seconds: C11 can wait on the wall clock alone, and so looks at the other one now and then */
#define UNIT TWILL_MS(1)

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
    twill_ns begun = twill_now(), first = UNIT * (leaves                     ? 50
                                                  : kind == TWILL_RATE_SPLIT ? 301
                                                  : kind == TWILL_RATE_DEBT  ? 103
                                                                             : 101);
    twill_rate_limiter_options options = {
        .tokens = 1, .per = UNIT, .oversize = (twill_rate_oversize)kind};
    struct caller all = {.n = kind == TWILL_RATE_REFUSE ? 1 : 3, .until.cancel = &token};
    struct caller one = {.until.deadline = begun + UNIT};
    struct caller two = {.until.deadline = begun + UNIT * 2};
    assert(twill_rate_limiter_init(&pair[0], &options) == TWILL_OK);
    options.per = UNIT * 100;
    options.used = 1;
    assert(twill_rate_limiter_init(&pair[1], &options) == TWILL_OK);
    go(&all, both);
    go(&one, behind);
    go(&two, behind);
    if (leaves) {
        (void)twill_sleep((twill_until){begun + UNIT * 50, NULL});
        twill_cancel_fire(&token, 1);
    }
    end(&all);
    end(&one);
    end(&two);
    assert(all.status == (leaves ? TWILL_CANCELLED : TWILL_OK));
    assert(one.until.deadline >= begun + first);
    assert(one.until.deadline < begun + first + UNIT / 10);
    assert(two.until.deadline >= begun + first + UNIT);
    assert(two.until.deadline < begun + first + UNIT + UNIT / 10);
    return 0;
}
