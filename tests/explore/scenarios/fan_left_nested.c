/* A call inside another one's task, on the same pool, leaves a task behind. The call around it
   ends, and its memory goes: the task that was left, which goes on, must not look for it. */
#include "fan_common.h"

#include "twill_worker_pool.h"

static twill_pool *pool;
static twill_fan *other;
static _Atomic uint32_t over;
static twill_cancel token;
static _Atomic uint64_t caller;

static int item_of_inner(const void *item, void *result, const twill_task *me)
{
    uint64_t own = twill__thread_number();

    (void)item, (void)result, (void)me;
    if (own == atomic_load(&caller)) /* its caller runs it: nothing is left behind */
        return 0;
    twill_cancel_fire(&token, 1);
    while (!atomic_load(&over)) /* exit: the call around is over */
        twill__park(&over, 0, 0);
    (void)twill_fan_try_go(other, task, tag(1), tag(1));
    return 0;
}

static int item_of_outer(const void *item, void *result, const twill_task *me)
{
    static const int one = 1;

    (void)item, (void)result, (void)me;
    atomic_store(&caller, twill__thread_number());
    (void)twill_fan_out_fan_in(
        &one, sizeof one, 1, item_of_inner, 0, NULL,
        &(twill_fan_options){.run = {.pool = pool, .workers = 1, .until.cancel = &token},
                             .max_abandoned = 1});
    return 0;
}

int main(void)
{
    static const int one = 1;

    quiet();
    twill_cancel_init(&token, NULL);
    assert(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 2}) == TWILL_OK);
    assert(twill_fan_create(&other, &(twill_fan_options){.run.workers = 1, .drop = drop}) ==
           TWILL_OK);
    assert(twill_fan_out_fan_in(&one, sizeof one, 1, item_of_outer, 0, NULL,
                                &(twill_fan_options){.run = {.pool = pool, .workers = 1}}) ==
           TWILL_OK);
    atomic_store(&over, 1);
    twill__wake(&over, INT_MAX);
    assert(twill_pool_destroy(pool) == TWILL_OK);
    assert(twill_fan_destroy(other) == TWILL_OK);
    while (atomic_load(&live_blocks))
        (void)twill_sleep(twill_within(TWILL_US(100)));
    return 0;
}
