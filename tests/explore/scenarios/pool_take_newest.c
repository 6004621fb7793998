/* Room for one, and the newest makes room: what stands at the worker's place changes while it is
   about to take it without the lock. Each task runs or is dropped, once. */
#include "pool_common.h"

static unsigned runs[4], drops[4];

static int count_run(void *arg, void *result, const twill_task *task)
{
    (void)result, (void)task;
    runs[*(unsigned *)arg]++;
    return 0;
}

static void count_drop(void *arg, twill_status why, const twill_task *task)
{
    (void)task;
    assert(why == TWILL_DROPPED);
    drops[*(unsigned *)arg]++;
}

int main(void)
{
    unsigned number[4] = {0, 1, 2, 3};
    twill_pool *pool = pool_of(&(twill_pool_options){
        .run.workers = 1, .capacity = 1, .overflow = TWILL_OVERFLOW_DROP_NEWEST});

    for (unsigned i = 0; i < 4; i++)
        assert(twill_pool_submit(pool, count_run, &number[i], NULL,
                                 &(twill_submit_options){.drop = count_drop}) == TWILL_OK);
    assert(twill_pool_wait_idle(pool) == TWILL_OK);
    for (unsigned i = 0; i < 4; i++)
        assert(runs[i] + drops[i] == 1);
    balanced(pool, 4);
    assert(twill_pool_destroy(pool) == TWILL_OK);
    return 0;
}
