/* One thread calls on a pool, another one destroys it meanwhile: the call is served or refused as a
   whole, and destroy returns after it. */
#include "team_common.h"

enum { ITEMS = 3 };

static twill_pool *pool;
static _Atomic unsigned begun, ran, gone;

static int item(const twill_task *task)
{
    (void)task;
    assert(!gone);
    atomic_fetch_add(&ran, 1);
    atomic_store(&begun, 1);
    twill__wake(&begun, INT_MAX);
    return 0;
}

static void make_call(void *arg)
{
    twill_report report;
    twill_parallel_options options = {.run = {.pool = pool, .workers = 2, .report = &report}};

    (void)arg;
    assert(twill_parallel_for(ITEMS, item, &options) == TWILL_OK);
    assert(report.done == ITEMS);
}

int main(void)
{
    twill__thrd other;

    quiet();
    if (twill_pool_create(&pool, &(twill_pool_options){.run.workers = 1}) != TWILL_OK)
        return 0;
    memset(&other, 0, sizeof other);
    other.fn = make_call;
    other.cpu = UINT_MAX;
    if (!twill__thread_start(&other)) {
        assert(twill_pool_destroy(pool) == TWILL_OK);
        return 0;
    }
    while (!begun) /* the call is there: from now on destroy waits for it */
        twill__park(&begun, 0, 0);
    assert(twill_pool_destroy(pool) == TWILL_OK);
    atomic_store(&gone, 1);
    assert(ran == ITEMS);
    twill__thread_join(&other);
    return 0;
}
