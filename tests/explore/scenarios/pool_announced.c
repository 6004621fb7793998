/* A queue of one; a task's own task runs on top of it, and is announced before. Who comes
   meanwhile, and waits for room, gets it when the queue is empty. */
#include "pool_common.h"

static void on_event(const twill_task_info *info, const twill_task *task)
{
    (void)info, (void)task;
}

static int submit_inside(void *pool, void *result, const twill_task *task)
{
    (void)result, (void)task;
    assert(twill_pool_submit(pool, run_it, NULL, NULL, NULL) == TWILL_OK);
    return 0;
}

static void submit_one(void *side_)
{
    struct side *side = side_;

    assert(twill_pool_submit(side->pool, run_it, NULL, NULL, NULL) == TWILL_OK);
}

int main(void)
{
    struct side other = {0};

    other.pool =
        pool_of(&(twill_pool_options){.run.workers = 2, .capacity = 1, .on_event = on_event});
    assert(twill_pool_submit(other.pool, submit_inside, other.pool, NULL, NULL) == TWILL_OK);
    go(&other, submit_one);
    submit_one(&other);
    end(&other);
    assert(twill_pool_destroy(other.pool) == TWILL_OK);
    assert(ran == 3);
    return 0;
}
