/* An abandon while a submit looks for room without the lock, or has gone on to wait for it: that
   call comes back, accepted or refused, before the memory goes. */
#include "pool_blocks.h"

static bool somebody_looks(twill_pool *public_pool)
{
    twill__pool *pool = twill__pool_of(public_pool);
    twill__turn turn;
    bool looks;

    twill__turn_begin(pool, &turn);
    twill__todos_shut(&pool->todos);
    looks = pool->lingering || pool->senders.first;
    twill__turn_end(pool, &turn);
    return looks;
}

static int until_told(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result;
    (void)twill_sleep(twill_until_cancelled(task->until.cancel));
    atomic_fetch_add(&ran, 1);
    return 0;
}

static void submit_one(void *side_)
{
    struct side *side = side_;

    side->status = twill_pool_submit(side->pool, run_it, NULL, NULL, NULL);
}

int main(void)
{
    struct side other = {0};
    twill_pool_stats s;

    other.pool = pool_of(&(twill_pool_options){.run.workers = 1, .capacity = 1});
    atomic_store(&twill__pool_of(other.pool)->quick, true); /* as if one was measured */
    assert(twill_pool_submit(other.pool, until_told, NULL, NULL, NULL) == TWILL_OK);
    do { /* exit: the worker takes it */
        twill__yield();
        twill_pool_get_stats(other.pool, &s);
    } while (s.queued);
    assert(twill_pool_submit(other.pool, run_it, NULL, NULL, NULL) == TWILL_OK);
    go(&other, submit_one);
    while (!somebody_looks(other.pool)) /* exit: there is no room, so one comes to look */
        twill__yield();
    assert(twill_pool_abandon(other.pool, NULL) == TWILL_OK);
    end(&other);
    assert(other.status == TWILL_CLOSED);
    until_freed();
    assert(ran == 1);
    return 0;
}
