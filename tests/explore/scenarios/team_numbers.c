/* More threads in the pool than worker numbers in the call, so that numbers, with their tokens,
   pass from thread to thread: a token that fired for the last owner is not the next one's. */
#include "team_common.h"

enum { ITEMS = 6, WORKERS = 3 };

static _Atomic unsigned ran[ITEMS], in_number[WORKERS];
static int fails;
static size_t low = SIZE_MAX;

static int item(const twill_task *task)
{
    size_t i = task->index;

    atomic_fetch_add(&ran[i], 1);
    assert(atomic_fetch_add(&in_number[task->worker], 1) == 0);
    assert(i > low || !twill_cancel_fired(task->until.cancel));
    atomic_fetch_sub(&in_number[task->worker], 1);
    return fails >> i & 1 ? 1 : 0;
}

int main(void)
{
    twill_pool *pool;
    twill_report report;
    twill_parallel_options options = {.run = {.workers = WORKERS, .report = &report}};
    twill_status status;

    quiet();
    fails = choose(1 << ITEMS);
    for (size_t i = ITEMS; i-- > 0;)
        if (fails >> i & 1)
            low = i;
    if (twill_pool_create(&pool, &(twill_pool_options){.run.workers = 4}) != TWILL_OK)
        return 0;
    options.run.pool = pool;
    status = twill_parallel_for(ITEMS, item, &options);
    assert(status == (fails ? TWILL_FAILED : TWILL_OK));
    assert(!fails || report.first_error.index == low);
    for (size_t i = 0; i < ITEMS; i++)
        assert(i <= low ? ran[i] == 1 : ran[i] <= 1);
    counts_add_up(&report, ITEMS);
    assert(twill_pool_destroy(pool) == TWILL_OK);
    return 0;
}
