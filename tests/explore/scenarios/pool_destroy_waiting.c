/* A destroy while a submit waits for room: accepted or refused, that call is waited for, and
   touches nothing of the pool once that is free. */
#include "pool_common.h"

static bool somebody_waits(twill_pool *pool)
{
    twill__turn turn;
    bool waits;

    twill__turn_begin(twill__pool_of(pool), &turn);
    waits = twill__pool_of(pool)->senders.first != NULL;
    twill__turn_end(twill__pool_of(pool), &turn);
    return waits;
}

static int until_somebody_waits(void *pool, void *result, const twill_task *task)
{
    (void)result, (void)task;
    while (!somebody_waits(pool)) /* exit: there is no room, so one comes to wait */
        twill__yield();
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
    assert(twill_pool_submit(other.pool, until_somebody_waits, other.pool, NULL, NULL) == TWILL_OK);
    do { /* exit: the worker takes it */
        twill__yield();
        twill_pool_get_stats(other.pool, &s);
    } while (s.queued);
    assert(twill_pool_submit(other.pool, run_it, NULL, NULL, NULL) == TWILL_OK);
    go(&other, submit_one);
    while (!atomic_load(&ran)) /* exit: as above; then it waits, or has room by now */
        twill__yield();
    assert(twill_pool_destroy(other.pool) == TWILL_OK);
    end(&other);
    assert(other.status == TWILL_OK || other.status == TWILL_CLOSED);
    assert(ran == 2u + (other.status == TWILL_OK));
    return 0;
}
