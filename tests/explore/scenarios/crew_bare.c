/* The only thread of a batcher ends in a callback, and none can be had in its place for a while: it
   stays until there is one, or what is added then would wait for ever. */
#include <pthread.h>
#include <stdatomic.h>

static int no_thread(void);
#define TWILL__FAIL_THREAD() no_thread()
#define TWILL__REPLACE_AFTER TWILL_US(10)
#include "batch_common.h"
#include "explore.h"

static _Atomic int failures;

static int no_thread(void)
{
    return atomic_load(&failures) > 0 && atomic_fetch_sub(&failures, 1) > 0;
}

static int end_it(twill_batch *batch, const twill_task *task)
{
    if (twill_batch_item(batch, 0) == &items[0])
        pthread_exit(NULL);
    return see(batch, task);
}

int main(void)
{
    twill_batcher *batcher =
        batcher_of(end_it, (twill_batch_options){.max_items = 1, .run.workers = 1});
    twill_future future;
    twill_status status;

    atomic_store(&failures, EXPLORE_CHOICE(4, 0));
    assert(twill_batcher_add(batcher, &items[0], NULL) == TWILL_OK);
    assert(twill_batcher_add(batcher, &items[1], &future) == TWILL_OK);
    if (EXPLORE_CHOICE(2, 0)) { /* else it is destroyed, perhaps while nobody is there */
        status = twill_future_wait(future, NULL, NULL);
        assert(status == TWILL_OK && atomic_load(&seen[1]) == 1);
    }
    assert(twill_batcher_destroy(batcher) == TWILL_OK);
    twill_future_release(future);
    check_told(2);
    assert(atomic_load(&how[0]) == TWILL_LOST);
    return 0;
}
