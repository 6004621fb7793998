/* An abandon meets a parallel call at any moment, or a call and a stop. BUSY: nothing has changed:
   the pool is as it was, also for the next call, and seats that the stop has seen shut stay so.
   Else the call was refused, or was over before. A future that nobody has given back keeps the
   pool's memory. */
#include "pool_blocks.h"

#include "explore.h"

static int nothing(const void *in, void *out, const twill_task *task)
{
    (void)in, (void)out, (void)task;
    return 0;
}

static twill_status call(twill_pool *pool)
{
    char items[2] = {0};

    return twill_run_all(items, 1, NULL, 0, 2, nothing, NULL,
                         &(twill_run_all_options){.run.pool = pool, .run.workers = 2});
}

static void call_beside(void *side_)
{
    struct side *side = side_;

    side->status = call(side->pool);
}

static void stop_beside(void *side_)
{
    struct side *side = side_;

    side->status =
        twill_pool_stop(side->pool, twill_within(TWILL_FOREVER), twill_within(TWILL_FOREVER), NULL);
}

/* A call has the second seat. After a BUSY and a stop that has come back, no call gets in. */
static void beside_a_stop(twill_pool *pool)
{
    struct side stopper = {.pool = pool};
    twill__team *team = &twill__pool_of(pool)->team;
    twill__seat *first = twill__take_seat(team), *second = twill__take_seat(team);

    twill__release(first);
    go(&stopper, stop_beside);
    assert(twill_pool_abandon(pool, NULL) == TWILL_BUSY);
    twill__release(second);
    end(&stopper);
    assert(stopper.status == TWILL_OK);
    for (unsigned i = 0; i < TWILL__SEATS; i++)
        assert(atomic_load(&team->seat[i].word) == TWILL__SEAT_SHUT);
    assert(twill_pool_destroy(pool) == TWILL_OK);
}

int main(void)
{
    struct side other = {0};
    twill_status status;
    bool stops = EXPLORE_CHOICE(2, 0);

    EXPLORE_MUST_REACH("busy");
    EXPLORE_MUST_REACH("abandoned");
    other.pool = pool_of(&(twill_pool_options){.run.workers = 1});
    assert(twill_pool_submit(other.pool, run_it, NULL, &other.future, NULL) == TWILL_OK);
    assert(twill_future_wait_until(other.future, NULL, NULL, without_helping()) == TWILL_OK);
    if (stops) {
        beside_a_stop(other.pool);
        twill_future_release(other.future);
        until_freed();
        return 0;
    }
    go(&other, call_beside);
    status = twill_pool_abandon(other.pool, NULL);
    if (status == TWILL_OK) {
        EXPLORE_REACHED("abandoned");
        end(&other);
        assert(other.status == TWILL_OK || other.status == TWILL_CLOSED);
    } else {
        EXPLORE_REACHED("busy");
        assert(status == TWILL_BUSY);
        end(&other);
        assert(other.status == TWILL_OK);
        for (unsigned i = 0; i < TWILL__SEATS; i++)
            assert(!atomic_load(&twill__pool_of(other.pool)->team.seat[i].word));
        assert(call(other.pool) == TWILL_OK);
        assert(twill_pool_destroy(other.pool) == TWILL_OK);
    }
    twill_future_release(other.future);
    until_freed();
    return 0;
}
