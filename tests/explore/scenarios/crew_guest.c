/* A thread of a batcher's runs a task of a pool, for whose result its callback waits. The task
   makes a fan on that pool, helps it, and a task of the fan ends the thread: the batcher has lost a
   thread, which is replaced, once; the pool has not.
   EXPLORE-FLAGS: -DTWILL__SPIN=0 -DTWILL__TICKS=0 */
#undef NDEBUG
#include <assert.h>
#include <stdatomic.h>

#include "explore.h"

#define TWILL_IMPLEMENTATION
#include "twill_batch_processing.h"
#include "twill_fan_out_fan_in.h"
#include "twill_worker_pool.h"

static twill_pool *pool;
static twill_future future;
static atomic_int fanned, batches;

static int end_thread(const void *in, void *out, const twill_task *task)
{
    (void)in, (void)out, (void)task;
    if (atomic_fetch_add(&fanned, 1))
        return 0;
#ifdef TWILL_USE_PTHREAD
    pthread_exit(NULL);
#else
    thrd_exit(0);
#endif
}

static int fan_out(void *arg, void *result, const twill_task *task)
{
    static const int items[2];
    (void)arg, (void)result, (void)task;
    return (int)twill_fan_out_fan_in(items, sizeof *items, 2, end_thread, 0, NULL,
                                     &(twill_fan_options){.run.pool = pool});
}

static int batch_fn(twill_batch *batch, const twill_task *task)
{
    (void)batch, (void)task;
    if (atomic_fetch_add(&batches, 1))
        return 0;
    assert(twill_pool_submit(pool, fan_out, NULL, &future, NULL) == TWILL_OK);
    (void)twill_future_wait(future, NULL, NULL); /* may end this thread */
    return 0;
}

int main(void)
{
    twill_batcher *batcher;
    int item = 0;
    assert(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 1}) == TWILL_OK);
    assert(twill_batcher_create(&batcher, batch_fn,
                                &(twill_batch_options){.run.workers = 1, .max_items = 1}) ==
           TWILL_OK);
    for (int k = 0; k < 2; k++)
        assert(twill_batcher_add(batcher, &item, NULL) == TWILL_OK);
    assert(twill_batcher_destroy(batcher) == TWILL_OK);
    assert(atomic_load(&batches) == 2);
    twill_future_release(future);
    assert(twill_pool_destroy(pool) == TWILL_OK);
    return 0;
}
