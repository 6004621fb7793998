/* An abandon meets a stop at any moment: of the seats each takes, both are in the other's way for a
   moment only. Who stops comes back before the memory goes. */
#include "pool_blocks.h"

#include "explore.h"

static void stop_beside(void *side_)
{
    struct side *side = side_;

    side->status =
        twill_pool_stop(side->pool, twill_within(TWILL_FOREVER), twill_within(TWILL_FOREVER), NULL);
}

static bool somebody_stops(twill__pool *pool)
{
    twill__turn turn;
    bool stops;

    twill__turn_begin(pool, &turn);
    stops = pool->ending;
    twill__turn_end(pool, &turn);
    return stops;
}

int main(void)
{
    struct side stopper = {0};
    int tasks = EXPLORE_CHOICE(2, 0);

    stopper.pool = pool_of(&(twill_pool_options){.run.workers = 1});
    for (int i = 0; i < tasks; i++)
        assert(twill_pool_submit(stopper.pool, run_it, NULL, NULL,
                                 &(twill_submit_options){.drop = drop_it}) == TWILL_OK);
    go(&stopper, stop_beside);
    while (!somebody_stops(twill__pool_of(stopper.pool))) /* exit: it comes to it */
        twill__yield();
    assert(twill_pool_abandon(stopper.pool, NULL) == TWILL_OK);
    end(&stopper);
    assert(stopper.status == TWILL_OK);
    until_freed();
    assert(ran + dropped == (unsigned)tasks);
    return 0;
}
