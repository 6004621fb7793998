/* A pool of two threads and two callers at once; in each call the caller waits for one helper. Both
   must get one, whoever opens first and whichever thread spins, sleeps or leaves. */
#include "team_common.h"

static twill_pool *pool;
static _Atomic uint32_t inside[2];

static int item(const twill_task *task)
{
    _Atomic uint32_t *mine = (_Atomic uint32_t *)task->context;

    if (atomic_fetch_add(mine, 1) + 1 == 2)
        twill__wake(mine, INT_MAX);
    while (atomic_load(mine) < 2)
        twill__park(mine, 1, 0);
    return 0;
}

static void make_call(void *mine)
{
    twill_report report;
    twill_parallel_options options = {
        .run = {.pool = pool, .workers = 2, .context = mine, .report = &report}};

    assert(twill_parallel_for(2, item, &options) == TWILL_OK);
    assert(report.done == 2 && report.workers_used == 2);
}

int main(void)
{
    twill__thrd other;
    twill_pool_options options = {.run = {.workers = 2, .strict = true}};

    quiet();
    if (twill_pool_create(&pool, &options) != TWILL_OK)
        return 0;
    memset(&other, 0, sizeof other);
    other.fn = make_call;
    other.arg = &inside[1];
    other.cpu = UINT_MAX;
    if (twill__thread_start(&other)) {
        make_call(&inside[0]);
        twill__thread_join(&other);
    }
    assert(twill_pool_destroy(pool) == TWILL_OK);
    return 0;
}
