/* A pool is destroyed while a call is on it: the call ends as ever, and its last step on the pool
   comes before the end of that. */
#include "team_common.h"

static twill_pool *pool;
static _Atomic uint32_t begun;

static int item(const twill_task *task)
{
    (void)task;
    if (atomic_fetch_add(&begun, 1) == 0)
        twill__wake(&begun, INT_MAX);
    return 0;
}

static void make_call(void *nothing)
{
    twill_report report;
    twill_parallel_options options = {.run = {.pool = pool, .workers = 2, .report = &report}};

    (void)nothing;
    assert(twill_parallel_for(2, item, &options) == TWILL_OK);
    assert(report.done == 2);
}

int main(void)
{
    twill__thrd other;

    quiet();
    if (twill_pool_create(&pool, &(twill_pool_options){.run.workers = 1}) != TWILL_OK)
        return 0; /* no memory or no thread, when the explorer says so */
    memset(&other, 0, sizeof other);
    other.fn = make_call;
    other.cpu = UINT_MAX;
    if (twill__thread_start(&other)) {
        while (atomic_load(&begun) == 0)
            twill__park(&begun, 0, 0);
        assert(twill_pool_destroy(pool) == TWILL_OK);
        twill__thread_join(&other);
        return 0;
    }
    assert(twill_pool_destroy(pool) == TWILL_OK);
    return 0;
}
