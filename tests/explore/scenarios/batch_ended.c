/* The callback of the first batch ends its thread; another worker takes its place. */
#include "batch_common.h"

static int ends(twill_batch *batch, const twill_task *task)
{
    if (twill_batch_item(batch, 0) == &items[0])
#ifdef TWILL_USE_PTHREAD
        pthread_exit(NULL);
#else
        thrd_exit(0);
#endif
    return see(batch, task);
}

int main(void)
{
    twill_batcher *batcher = batcher_of(ends, (twill_batch_options){.max_items = 1});
    for (int i = 0; i < 2; i++)
        assert(twill_batcher_add(batcher, &items[i], NULL) == TWILL_OK);
    assert(twill_batcher_flush(batcher) == TWILL_OK);
    check_books(batcher);
    assert(twill_batcher_destroy(batcher) == TWILL_OK);
    check_told(2);
    assert(atomic_load(&how[0]) == TWILL_LOST && atomic_load(&how[1]) == TWILL_OK);
    return 0;
}
