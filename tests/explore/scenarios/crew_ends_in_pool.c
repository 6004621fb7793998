/* A thread of a pool ends, in a callback of a batcher that was given the pool, or in a task while
   that batcher comes, and none can be had in its place for a while. It was the only one: it stays
   until there is one, or what is added would wait for ever; in a pool that is paused, too. Or there
   is another one, who has looked while the only worker number was taken: he is told. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

static int no_thread(void);
#define TWILL__FAIL_THREAD() no_thread()
#include "batch_common.h"
#include "explore.h"
#include "twill_worker_pool.h"

static _Atomic int failures;

static int no_thread(void)
{
    return atomic_load(&failures) > 0 && atomic_fetch_sub(&failures, 1) > 0;
}

static int end_in_task(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    pthread_exit(NULL);
}

static int end_at_first(twill_batch *batch, const twill_task *task)
{
    if (twill_batch_item(batch, 0) == &items[0])
        pthread_exit(NULL);
    return see(batch, task);
}

int main(void)
{
    twill_batch_options options = {.max_items = 1, .on_item = tell};
    bool in_task = EXPLORE_CHOICE(2, 0);
    twill_batcher *batcher;
    twill_future future;
    twill_status status;

    assert(twill_pool_create(&options.run.pool,
                             &(twill_pool_options){.run.workers = 1 + EXPLORE_CHOICE(2, 0)}) ==
           TWILL_OK);
    if (in_task)
        assert(twill_pool_submit(options.run.pool, end_in_task, NULL, NULL, NULL) == TWILL_OK);
    atomic_store(&failures, EXPLORE_CHOICE(3, 0));
    status = twill_batcher_create(&batcher, end_at_first, &options);
    if (status == TWILL_OK) {
        if (EXPLORE_CHOICE(2, 0))
            assert(twill_pool_pause(options.run.pool) == TWILL_OK);
        if (!in_task)
            assert(twill_batcher_add(batcher, &items[0], NULL) == TWILL_OK);
        assert(twill_batcher_add(batcher, &items[1], &future) == TWILL_OK);
        status = twill_future_wait(future, NULL, NULL);
        assert(status == TWILL_OK && atomic_load(&seen[1]) == 1);
        twill_future_release(future);
        assert(twill_batcher_destroy(batcher) == TWILL_OK);
        assert(in_task || atomic_load(&how[0]) == TWILL_LOST);
    } else {
        assert(status == TWILL_NO_THREAD && in_task); /* the pool had none, and nor had this */
    }
    assert(twill_pool_destroy(options.run.pool) == TWILL_OK);
    return 0;
}
