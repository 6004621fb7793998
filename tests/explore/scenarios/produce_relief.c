/* The helper consumes an item of its own producer in the queue's way, and ends its thread by that.
   The caller, who waits for this only place among the consumers, gets it: nobody else would
   come. */
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

static _Atomic uint32_t helps, first_done;
static bool in_first;

static void wait_for(_Atomic uint32_t *flag)
{
    while (!atomic_load(flag))
        twill__park(flag, 0, 0);
}

static void raise(_Atomic uint32_t *flag)
{
    atomic_store(flag, 1);
    twill__wake(flag, INT_MAX);
}

static int produce(twill_queue *queue, const twill_task *task)
{
    int item = (int)task->index;
    if (task->worker == 0) {
        in_first = task->index == 0;
        for (int k = 0; k < 2; k++)
            assert(twill_queue_push(queue, &item) == TWILL_OK);
        in_first = false;
        if (task->index == 0)
            raise(&first_done);
        return 0;
    }
    raise(&helps);
    if (task->index == 1)
        wait_for(&first_done);
    assert(twill_queue_push(queue, &item) == TWILL_OK);
    return 0;
}

static int consume(void *item, const twill_task *task)
{
    (void)item;
    if (task->worker != 0) {
        EXPLORE_REACHED("the helper consumes");
        END_THREAD();
    }
    if (in_first)
        wait_for(&helps); /* it finds no place, and produces */
    return 0;
}

int main(void)
{
    twill_pool *pool;
    twill_produce_consume_options options = {
        .producers = 2, .queue = {.capacity = 1}, .run = {.workers = 1}};

    EXPLORE_MUST_REACH("the helper consumes");
    assert(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 1}) == TWILL_OK);
    options.run.pool = pool;
    options.run.on_error = TWILL_ON_ERROR_COLLECT;
    (void)twill_produce_consume(sizeof(int), produce, consume, &options);
    assert(twill_pool_destroy(pool) == TWILL_OK);
    return 0;
}
