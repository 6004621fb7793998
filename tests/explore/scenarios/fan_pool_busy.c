/* A call on a pool whose only worker has other work for a while: the caller sleeps until the worker
   comes, and does not ask again and again whether all is done already.
   EXPLORE-BACKENDS: futex */
#include "fan_common.h"

#include "explore.h"
#include "twill_worker_pool.h"

static int other_work(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    return (int)twill_sleep(twill_within(TWILL_SEC(1)));
}

static int count(const void *in, void *out, const twill_task *task)
{
    (void)in, (void)out;
    atomic_fetch_add(&ran[task->index + 1], 1);
    return 0;
}

int main(void)
{
    static const int items[2];
    twill_pool *pool;
    twill_report report;

    quiet();
    assert(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 1}) == TWILL_OK);
    assert(twill_pool_submit(pool, other_work, NULL, NULL, NULL) == TWILL_OK);
    assert(twill_fan_out_fan_in(items, sizeof *items, 2, count, 0, NULL,
                                &(twill_fan_options){.run = {.pool = pool, .report = &report}}) ==
           TWILL_OK);
    assert(!explore_steps || explore_steps() < 700); /* of main: so many are few enough */
    counts_add_up(&report, 2);
    assert(ran[1] == 1 && ran[2] == 1);
    assert(twill_pool_destroy(pool) == TWILL_OK);
    return 0;
}
