/* EXPLORE-BACKENDS: futex pthread no-futex-pthread
   Not on C11's conditions: a sleep of 1000 s is 50 000 slices there.
   Two threads want the last entry for two new keys: one gets it, the other is told FULL, until time
   has made the entry's bucket full again. */
#include "rate_common.h"

static twill_rate_keys *keys;

static void take(void *caller_)
{
    struct caller *caller = caller_;
    caller->status = twill_rate_keys_try_acquire(keys, caller->n, 1);
}

int main(void)
{
    struct caller one = {.n = 1}, two = {.n = 2};
    twill_rate_limiter_options options = {.tokens = 1, .per = TWILL_SEC(1000)};
    assert(twill_rate_keys_create(&keys, 1, &options) == TWILL_OK);
    go(&one, take);
    take(&two);
    end(&one);
    assert((one.status == TWILL_OK) != (two.status == TWILL_OK));
    assert(one.status == TWILL_OK ? two.status == TWILL_FULL : one.status == TWILL_FULL);
    (void)twill_sleep(twill_within(TWILL_SEC(1000)));
    assert(twill_rate_keys_try_acquire(keys, 3, 1) == TWILL_OK);
    assert(twill_rate_keys_try_acquire(keys, 1, 1) == TWILL_FULL);
    assert(twill_rate_keys_destroy(keys) == TWILL_OK);
    return 0;
}
