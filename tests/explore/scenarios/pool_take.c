/* A worker takes its tasks without the lock, while main cancels one of them, pushes another behind
   them, and pauses the pool for a moment: each ends in one way, in order, and none is lost. */
#include "pool_common.h"

static _Atomic unsigned order;
static unsigned place[3];

static int in_turn(void *arg, void *result, const twill_task *task)
{
    (void)result, (void)task;
    *(unsigned *)arg = atomic_fetch_add(&order, 1) + 1;
    return 0;
}

int main(void)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1});
    twill_future future;
    twill_outcome outcome;

    assert(twill_pool_submit(pool, in_turn, &place[0], NULL, NULL) == TWILL_OK);
    assert(twill_pool_submit(pool, in_turn, &place[1], &future,
                             &(twill_submit_options){.drop = drop_it}) == TWILL_OK);
    assert(twill_pool_submit(pool, in_turn, &place[2], NULL, NULL) == TWILL_OK);
    assert(twill_future_cancel(future) == TWILL_OK);
    assert(twill_pool_pause(pool) == TWILL_OK);
    assert(twill_pool_resume(pool) == TWILL_OK);
    (void)twill_future_wait_until(future, NULL, &outcome, without_helping());
    assert(outcome.status == (dropped ? TWILL_CANCELLED : TWILL_OK));
    twill_future_release(future);
    assert(twill_pool_wait_idle(pool) == TWILL_OK);
    assert(order + dropped == 3);
    assert(place[0] == 1 && place[2] == order && place[1] == (dropped ? 0 : 2));
    balanced(pool, 3);
    assert(twill_pool_destroy(pool) == TWILL_OK);
    return 0;
}
