/* A helper's bulk waits for room, then its thread consumes an item in the queue's way, as nobody
   else does, and ends by that. Its bulk does not stand before the caller's items any longer. */
#undef NDEBUG
#include <assert.h>
#include <string.h>

#define TWILL_IMPLEMENTATION
#include "twill_producer_consumer.h"
#include "twill_worker_pool.h"

#include "explore.h"

#ifdef TWILL_USE_PTHREAD
#define END_THREAD() pthread_exit(NULL)
#else
#define END_THREAD() thrd_exit(0)
#endif

static _Thread_local bool in_bulk;

static int produce(twill_queue *queue, const twill_task *task)
{
    int items[2] = {(int)task->index, (int)task->index};
    if (task->worker == 0) {
        (void)twill_sleep(twill_within(TWILL_US(20)));
        for (int k = 0; k < 3; k++)
            assert(twill_queue_push(queue, items) == TWILL_OK);
        return 0;
    }
    for (int k = 0; k < 2; k++)
        assert(twill_queue_push(queue, items) == TWILL_OK);
    in_bulk = true;
    assert(twill_queue_push_bulk_until(queue, items, 2, (twill_until){0, NULL}) == TWILL_OK);
    in_bulk = false;
    return 0;
}

static int consume(void *item, const twill_task *task)
{
    (void)item;
    (void)twill_sleep(twill_within(TWILL_US(2)));
    if (task->worker != 0) {
        if (in_bulk)
            EXPLORE_REACHED("whose bulk waits consumes");
        END_THREAD();
    }
    return 0;
}

int main(void)
{
    twill_pool *pool;
    twill_produce_consume_options options = {
        .producers = 2, .queue = {.capacity = 2}, .run = {.workers = 1}};

    assert(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 2}) == TWILL_OK);
    options.run.pool = pool;
    options.run.on_error = TWILL_ON_ERROR_COLLECT;
    (void)twill_produce_consume(sizeof(int), produce, consume, &options);
    assert(twill_pool_destroy(pool) == TWILL_OK);
    return 0;
}
