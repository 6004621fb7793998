/* The only thread of a batcher ends in a callback, and so does the one that comes in its place,
   while the batcher is destroyed: all three are joined, and their records are whole. */
#include <pthread.h>

#include "batch_common.h"
#include "explore.h"

static _Atomic int calls;

static int end_it(twill_batch *batch, const twill_task *task)
{
    if (atomic_fetch_add(&calls, 1) < 2)
        pthread_exit(NULL);
    return see(batch, task);
}

int main(void)
{
    twill_batcher *batcher =
        batcher_of(end_it, (twill_batch_options){.max_items = 1, .run.workers = 1});
    int n = 2 + EXPLORE_CHOICE(2, 1);

    for (int i = 0; i < n; i++)
        assert(twill_batcher_add(batcher, &items[i], NULL) == TWILL_OK);
    assert(twill_batcher_destroy(batcher) == TWILL_OK);
    check_told(n);
    assert(atomic_load(&how[0]) == TWILL_LOST && atomic_load(&how[1]) == TWILL_LOST);
    return 0;
}
