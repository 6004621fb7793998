/* EXPLORE-BACKENDS: futex pthread no-futex-pthread
   Not on C11's conditions: a sleep of 1000 s is 50 000 slices there.
   Two entries of one shard are full again. Who wants one for a new key while another thread has
   just swept both, and taken one, finds the other. */
#include "rate_common.h"

static twill_rate_keys *keys;

static void take(void *caller_)
{
    struct caller *caller = caller_;
    caller->status = twill_rate_keys_try_acquire(keys, caller->n, 1);
}

static uint32_t shard_of(uint64_t key)
{
    return twill__keys_shard_of(twill__keys_bucket(keys, key));
}

int main(void)
{
    struct caller one = {.n = 1}, two = {.n = 2};
    twill_rate_limiter_options options = {.tokens = 1, .per = TWILL_SEC(1000)};
    uint64_t twin = 101;
    assert(twill_rate_keys_create(&keys, 2, &options) == TWILL_OK);
    while (shard_of(twin) != shard_of(100))
        twin++;
    assert(twill_rate_keys_try_acquire(keys, 100, 1) == TWILL_OK);
    assert(twill_rate_keys_try_acquire(keys, twin, 1) == TWILL_OK);
    (void)twill_sleep(twill_within(TWILL_SEC(1000)));
    go(&one, take);
    take(&two);
    end(&one);
    assert(one.status == TWILL_OK && two.status == TWILL_OK);
    assert(twill_rate_keys_try_acquire(keys, 3, 1) == TWILL_FULL);
    assert(twill_rate_keys_destroy(keys) == TWILL_OK);
    return 0;
}
