/* Somebody submits a task and counts on a worker: on one that was called for the task before,
   which he has run himself; on one that has just ended that task, and is about to look, if he
   has waited for it; on one that naps, if he goes on. But that worker has looked, goes to a
   parallel call, and stays there until the new task has run: the other one is called for it. */
#include "explore.h"
#include "pool_common.h"

enum { RUNS_IT, WAITS, GOES_ON, ALL };

static _Atomic uint32_t met;

static int takes_long(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    (void)twill_sleep(twill_within(TWILL_US(2))); /* longer than a quick one */
    return 0;
}

static int meet(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    atomic_store(&met, 1);
    twill__wake(&met, INT_MAX);
    return 0;
}

static int until_met(const void *in, void *out, const twill_task *task)
{
    (void)in, (void)out, (void)task;
    while (!atomic_load(&met)) /* exit: the task runs */
        twill__park(&met, 0, 0);
    return 0;
}

static void call(void *side_)
{
    struct side *side = side_;
    char items[2] = {0};

    side->status =
        twill_run_all(items, 1, NULL, 0, 2, until_met, NULL,
                      &(twill_run_all_options){.run.pool = side->pool, .run.workers = 2});
}

int main(void)
{
    struct side side = {0};
    int choice = EXPLORE_CHOICE(ALL, WAITS);

    side.pool = pool_of(&(twill_pool_options){.run.workers = 2});
    assert(twill_pool_submit(side.pool, choice == GOES_ON ? run_it : takes_long, NULL,
                             choice == GOES_ON ? NULL : &side.future, NULL) == TWILL_OK);
    go(&side, call);
    if (choice == RUNS_IT) {
        assert(twill_future_wait(side.future, NULL, NULL) == TWILL_OK);
    } else if (choice == WAITS) {
        assert(twill_future_wait_until(side.future, NULL, NULL, without_helping()) == TWILL_OK);
    }
    twill_future_release(side.future);
    assert(twill_pool_submit(side.pool, meet, NULL, NULL, NULL) == TWILL_OK);
    end(&side);
    assert(side.status == TWILL_OK);
    assert(twill_pool_destroy(side.pool) == TWILL_OK);
    return 0;
}
