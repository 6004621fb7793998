/* Three patterns together: tasks of a pool push into a pipeline that runs on that pool; its last
   stage, a batch that may linger, pushes into a queue with room for one; a token may fire. What was
   pushed is counted, and without the token all of it arrives. */
#undef NDEBUG
#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define TWILL_IMPLEMENTATION
#include "explore.h"
#include "twill_pipeline.h"
#include "twill_producer_consumer.h"
#include "twill_worker_pool.h"

static twill_pipeline *pipeline;
static twill_queue *queue;
static twill_cancel token;
static atomic_int pushed, dropped, written;

static void drop(void *item, twill_status why, const twill_task *task)
{
    (void)item, (void)why, (void)task;
    atomic_fetch_add(&dropped, 1);
}

static int copy(const void *in, void *out, const twill_task *task)
{
    (void)task;
    *(int *)out = *(const int *)in;
    return 0;
}

static int write_rows(const void *rows, size_t n, const twill_task *task)
{
    for (size_t i = 0; i < n; i++) {
        twill_status status = twill_queue_push_until(queue, (const int *)rows + i, task->until);
        if (status != TWILL_OK)
            return (int)status;
    }
    atomic_fetch_add(&written, (int)n);
    return 0;
}

static int push_two(void *item, void *result, const twill_task *task)
{
    (void)result;
    for (int k = 0; k < 2; k++) {
        twill_status status = twill_pipeline_push_until(pipeline, item, task->until);
        assert(status == TWILL_OK || status == TWILL_CLOSED || status == TWILL_CANCELLED);
        if (status != TWILL_OK)
            return (int)status;
        atomic_fetch_add(&pushed, 1);
    }
    return 0;
}

static void *pop_all(void *popped)
{
    int row;
    while (twill_queue_pop(queue, &row) == TWILL_OK)
        ++*(int *)popped;
    return NULL;
}

static void *fire(void *unused)
{
    twill_cancel_fire(&token, 1);
    return unused;
}

int main(void)
{
    pthread_t popper, firer;
    twill_pool *pool;
    twill_pipeline_report report;
    twill_status status;
    int popped = 0, item = 3, fires = EXPLORE_CHOICE(2, 0);
    const twill_stage stages[] = {
        {.work = copy, .out_size = sizeof(int), .workers = 2, .drop = drop},
        {.batch = write_rows,
         .batch_max = 2,
         .linger = EXPLORE_CHOICE(2, 0) ? TWILL_US(10) : TWILL_FOREVER,
         .kind = TWILL_STAGE_IN_ORDER,
         .drop = drop}};
    assert(twill_queue_create(&queue, sizeof(int), &(twill_queue_options){.capacity = 1}) ==
           TWILL_OK);
    assert(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 2}) == TWILL_OK);
    assert(twill_pipeline_create(
               &pipeline, sizeof(int), stages, 2,
               &(twill_pipeline_options){.run = {.pool = pool, .until.cancel = &token},
                                         .tokens = 2 + (size_t)EXPLORE_CHOICE(3, 0),
                                         .report = &report}) == TWILL_OK);
    assert(pthread_create(&popper, NULL, pop_all, &popped) == 0);
    for (int k = 0; k < 2; k++)
        assert(twill_pool_submit(pool, push_two, &item, NULL, NULL) == TWILL_OK);
    if (fires)
        assert(pthread_create(&firer, NULL, fire, NULL) == 0);
    assert(twill_pool_wait_idle(pool) == TWILL_OK);
    status = twill_pipeline_join(pipeline);
    if (fires)
        pthread_join(firer, NULL);
    assert(twill_pipeline_destroy(pipeline) == TWILL_OK);
    twill_queue_close(queue);
    pthread_join(popper, NULL);
    assert(report.run.total == (size_t)pushed);
    assert(report.run.total == report.run.done + report.run.failed + report.run.skipped);
    assert(status == TWILL_OK || fires);
    assert(status != TWILL_OK || (pushed == 4 && written == 4 && popped == 4 && dropped == 0));
    assert(twill_queue_destroy(queue) == TWILL_OK);
    assert(twill_pool_destroy(pool) == TWILL_OK);
    twill_cancel_detach(&token);
    return 0;
}
