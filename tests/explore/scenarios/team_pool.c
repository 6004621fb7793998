/* A pool of two threads, two callers at once, then the end of the pool: no call waits for the other
   one's end, and frames that have gone are not touched. */
#include "team_common.h"

enum { ITEMS = 3 };

static twill_pool *pool;

typedef struct call {
    _Atomic unsigned ran[ITEMS];
    unsigned plain[ITEMS]; /* written by the items, read after the return */
} call;

static int item(const twill_task *task)
{
    call *mine = (call *)task->context;

    atomic_fetch_add(&mine->ran[task->index], 1);
    mine->plain[task->index]++;
    return 0;
}

static void make_call(void *arg)
{
    call *mine = (call *)malloc(sizeof *mine); /* a freed block, so that late touches are seen */
    twill_report report;
    twill_parallel_options options = {
        .run = {.pool = pool, .workers = 3, .context = mine, .report = &report}};

    (void)arg;
    assert(mine);
    memset(mine, 0, sizeof *mine);
    assert(twill_parallel_for(ITEMS, item, &options) == TWILL_OK);
    assert(report.done == ITEMS);
    for (int i = 0; i < ITEMS; i++)
        assert(mine->ran[i] == 1 && mine->plain[i] == 1);
    free(mine);
}

int main(void)
{
    twill__thrd other;

    quiet();
    if (twill_pool_create(&pool, &(twill_pool_options){.run.workers = 2}) != TWILL_OK)
        return 0; /* no memory or no thread, when the explorer says so */
#ifdef WRAP
    atomic_fetch_add(&pool->team->epoch, UINT32_MAX - 1);
    twill__wake(&pool->team->epoch, INT_MAX);
#endif
    memset(&other, 0, sizeof other);
    other.fn = make_call;
    other.cpu = UINT_MAX;
    if (twill__thread_start(&other)) {
        make_call(NULL);
        twill__thread_join(&other);
    }
    assert(twill_pool_destroy(pool) == TWILL_OK);
    return 0;
}
