/* Producers and consumers at a rendezvous, in a task of the only thread of their pool: nobody else
   comes, or the one that comes late. Who pushes consumes his item then, and it has its number all
   the same; a select does so, too. */
#undef NDEBUG
#include <assert.h>
#include <string.h>

#define TWILL_IMPLEMENTATION
#include "twill_producer_consumer.h"
#include "twill_worker_pool.h"

#include "explore.h"

enum { PRODUCERS = 2, EACH = 2 };

static twill_pool *pool;
static size_t consumed;
static _Atomic int inside;
static _Atomic unsigned numbers;
static bool selects;

static int produce(twill_queue *queue, const twill_task *task)
{
    int item = (int)task->index;
    size_t chosen = 1;
    twill_queue_case one = {queue, true, &item, TWILL_CLOSED};
    for (int k = 0; k < EACH; k++)
        if (selects)
            assert(twill_queue_select_until(&one, 1, TWILL_SELECT_FAIR, &chosen,
                                            (twill_until){0, NULL}) == TWILL_OK &&
                   one.status == TWILL_OK && chosen == 0);
        else
            assert(twill_queue_push(queue, &item) == TWILL_OK);
    return 0;
}

static int consume(void *item, const twill_task *task)
{
    assert(*(int *)item < PRODUCERS);
    assert(atomic_fetch_add(&inside, 1) == 0);
    atomic_fetch_or(&numbers, 1u << task->index);
    consumed++;
    atomic_fetch_sub(&inside, 1);
    return 0;
}

static int call(void *unused, void *result, const twill_task *task)
{
    twill_report report;
    twill_queue_stats stats;
    twill_produce_consume_options options = {.producers = PRODUCERS,
                                             .run = {.pool = pool, .workers = 1, .report = &report},
                                             .queue = {.capacity = TWILL_RENDEZVOUS},
                                             .queue_stats = &stats};
    (void)unused, (void)result, (void)task;
    assert(twill_produce_consume(sizeof(int), produce, consume, &options) == TWILL_OK);
    assert(report.done == PRODUCERS * EACH && stats.popped == report.done);
    return 0;
}

int main(void)
{
    twill_pool_options options = {.run = {.workers = 1 + (unsigned)EXPLORE_CHOICE(2, 0)}};
    twill_future future;
    selects = EXPLORE_CHOICE(2, 0);
    assert(twill_pool_create(&pool, &options) == TWILL_OK);
    assert(twill_pool_submit(pool, call, NULL, &future, NULL) == TWILL_OK);
    assert(twill_future_wait(future, NULL, NULL) == TWILL_OK);
    twill_future_release(future);
    assert(consumed == PRODUCERS * EACH && atomic_load(&numbers) == (1u << consumed) - 1);
    assert(twill_pool_destroy(pool) == TWILL_OK);
    return 0;
}
