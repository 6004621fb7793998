/* Two tasks with an instant wait for room side by side: each was seen to have a place among the
   timers when it came, and there is one for both when they are in. */
#include "explore.h"
#include "pool_common.h"

enum { DELAYED = 15 }; /* one place is left */

static void submit_delayed(twill_pool *pool)
{
    assert(twill_pool_submit(pool, run_it, NULL, NULL,
                             &(twill_submit_options){.start_at = TWILL_FOREVER}) == TWILL_OK);
}

static void send(void *side_)
{
    submit_delayed(((struct side *)side_)->pool);
}

int main(void)
{
    struct side side[2];
    twill_stopped stopped;
    twill_pool *pool =
        pool_of(&(twill_pool_options){.run.workers = 1, .lazy = true, .capacity = DELAYED + 2});

    assert(twill_pool_pause(pool) == TWILL_OK);
    for (int i = 0; i < DELAYED; i++)
        submit_delayed(pool);
    for (int i = 0; i < 2; i++)
        assert(twill_pool_submit(pool, run_it, NULL, NULL, NULL) == TWILL_OK);
    for (int i = 0; i < 2; i++) {
        side[i].pool = pool;
        go(&side[i], send);
    }
    assert(twill_pool_resume(pool) == TWILL_OK);
    for (int i = 0; i < 2; i++)
        end(&side[i]);
    assert(twill_pool_stop(pool, twill_within(0), (twill_until){0, NULL}, &stopped) == TWILL_OK);
    assert(ran == 2 && stopped.cancelled == DELAYED + 2);
    assert(twill_pool_destroy(pool) == TWILL_OK);
    return 0;
}
