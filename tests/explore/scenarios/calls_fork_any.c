/* EXPLORE: --polling --whole-copies
   A fork in any callback of a call of several threads. Each schedule draws one: a fan over an array
   or a source, batches with results or with values, a pipeline from a source or an array, producers
   and consumers; the threads, a pool, and the callback in which the process forks, on whatever
   thread it is. It goes on as the parent or as the child.

   The parent notices nothing. In the child nothing more is called, but that batches over an array
   go on as a map does; a call whose caller is left returns, and says FORKED, or OK when nothing of
   it was another thread's; the same call works there, made anew; and all can be ended.
   Whole copies: the caller sums up in the child what others may have been writing.
   EXPLORE-FLAGS: -DTWILL__SPIN=0 -DTWILL__TICKS=0 */
#undef NDEBUG
#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "explore.h"

#define TWILL_IMPLEMENTATION
#include "twill_batch_processing.h"
#include "twill_fan_out_fan_in.h"
#include "twill_pipeline.h"
#include "twill_producer_consumer.h"
#include "twill_worker_pool.h"

extern int fork(void);

enum { FAN, STREAM, BATCHES, VALUES, PIPE, PIPE_MAP, PRODUCE, FORMS };
enum { MOST = 4 };

static int n, form;
static twill_run run;
static twill_report report;
static atomic_int to_fork; /* the callback that brings it to 0 forks */
static atomic_int calls, items_done, outputs;
static int refused; /* the first item of a batch that fails at first */
static bool child, inside_again;

static int choose(int most)
{
    return EXPLORE_CHOICE(most, 0);
}

/* The first thing in each callback. */
static void come_in(void)
{
    assert(!child || inside_again || form == BATCHES || form == VALUES);
    atomic_fetch_add(&calls, 1);
    if (atomic_fetch_sub(&to_fork, 1) != 1)
        return;
    if (fork() == 0) {
        EXPLORE_REACHED("child");
        child = true;
    } else {
        EXPLORE_REACHED("parent");
    }
}

/* ---- callbacks ---- */

static int map_one(const void *in, void *out, const twill_task *task)
{
    (void)task;
    come_in();
    atomic_fetch_add(&items_done, 1);
    *(int *)out = *(const int *)in;
    return 0;
}

static int aggregate(const void *result, const twill_outcome *outcome, const twill_task *task)
{
    (void)task;
    come_in();
    assert(outcome->status == TWILL_OK && *(const int *)result == (int)outcome->index);
    atomic_fetch_add(&outputs, 1);
    return 0;
}

/* The source of a stream and of a pipeline. */
static int pull(void *item, const twill_task *task)
{
    come_in();
    if ((int)task->index == n)
        return twill_task_stop(task);
    *(int *)item = (int)task->index;
    return 0;
}

static int batch(twill_batch *batch, const twill_task *task)
{
    (void)task;
    come_in();
    if (batch->attempt == 1 && batch->first == (size_t)refused)
        return 1;
    for (size_t i = 0; i < batch->count; i++) {
        *(int *)twill_batch_result(batch, i) = *(const int *)twill_batch_item(batch, i);
        atomic_fetch_add(&items_done, 1);
    }
    return 0;
}

static int values_of(const twill_batch *batch, const twill_task *task)
{
    come_in();
    for (size_t i = 0; i < batch->count; i++) {
        assert(twill_batch_emit(task, twill_batch_item(batch, i)) == TWILL_OK || child);
        atomic_fetch_add(&items_done, 1);
    }
    return 0;
}

static int sink(const void *in, void *out, const twill_task *task)
{
    (void)out;
    come_in();
    assert(*(const int *)in == (int)task->index);
    atomic_fetch_add(&outputs, 1);
    return 0;
}

static int produce(twill_queue *queue, const twill_task *task)
{
    (void)task;
    come_in();
    for (int i = 0; i < n; i++) {
        twill_status status = twill_queue_push(queue, &i);
        assert(status == (child && !inside_again ? TWILL_FORKED : TWILL_OK));
    }
    return 0;
}

static int consume(void *item, const twill_task *task)
{
    (void)item, (void)task;
    come_in();
    atomic_fetch_add(&items_done, 1);
    return 0;
}

/* ---- the calls ---- */

static const int in[MOST] = {0, 1, 2, 3};
static int out[MOST];

static twill_status fan(bool stream)
{
    twill_fan_options options = {.run = run};
    options.in_flight = (size_t)choose(3);
    options.max_unread = (size_t)choose(2);
    return stream ? twill_fan_stream(pull, sizeof(int), map_one, sizeof(int), aggregate, &options)
                  : twill_fan_out_fan_in(in, sizeof(int), (size_t)n, map_one, sizeof(int),
                                         aggregate, &options);
}

static twill_status batches(bool flat)
{
    twill_batch_options options = {.run = run};
    void *values = NULL;
    size_t count = 0;
    twill_status status;
    options.max_items = 1 + (size_t)choose(2);
    refused = choose(MOST);
    if (!flat) {
        options.attempts = 2;
        options.seed = 1;
        options.backoff = choose(2) ? TWILL_US(5) : 0;
        return twill_batch_process(in, sizeof *in, out, sizeof *out, (size_t)n, batch, &options);
    }
    status = twill_batch_flat_map(in, sizeof *in, (size_t)n, values_of, sizeof(int), &values,
                                  &count, &options);
    assert(status != TWILL_OK || (int)count == n);
    for (size_t i = 0; i < count && status == TWILL_OK; i++)
        assert(((const int *)values)[i] == (int)i);
    twill_batch_free(values);
    return status;
}

static twill_status pipe_line(bool map)
{
    twill_stage stages[] = {
        {.work = map_one, .out_size = sizeof(int), .workers = 1 + (unsigned)choose(2)},
        {.work = sink, .kind = TWILL_STAGE_IN_ORDER},
    };
    twill_pipeline_options options = {.run = run, .tokens = (size_t)choose(3)};
    if (!map)
        return twill_pipeline_run(pull, sizeof(int), stages, 2, &options);
    stages[1] = stages[0];
    return twill_pipeline_map(in, sizeof *in, out, sizeof *out, (size_t)n, stages, 2, &options);
}

static twill_status produce_consume(void)
{
    twill_produce_consume_options options = {.run = run, .producers = 1 + (unsigned)choose(2)};
    options.queue.capacity = 1 + (size_t)choose(2);
    return twill_produce_consume(sizeof(int), produce, consume, &options);
}

static twill_status call(void)
{
    switch (form) {
    case FAN:
    case STREAM:
        return fan(form == STREAM);
    case BATCHES:
    case VALUES:
        return batches(form == VALUES);
    case PIPE:
    case PIPE_MAP:
        return pipe_line(form == PIPE_MAP);
    default:
        return produce_consume();
    }
}

static void check_parent(twill_status status)
{
    assert(status == TWILL_OK && report.status == TWILL_OK && report.done == report.total);
    if (form == PRODUCE)
        assert(report.total == (size_t)n || report.total == 2 * (size_t)n);
    else
        assert(report.total == (size_t)n);
    assert(form == PIPE_MAP || atomic_load(&items_done) == (int)report.total);
    if (form == FAN || form == STREAM || form == PIPE)
        assert(atomic_load(&outputs) == n);
    for (int i = 0; i < n && (form == BATCHES || form == PIPE_MAP); i++)
        assert(out[i] == i);
}

int main(void)
{
    twill_pool *pool = NULL;
    twill_status status;
    EXPLORE_MUST_REACH("parent");
    EXPLORE_MUST_REACH("child");
    form = choose(FORMS);
    n = 1 + choose(MOST);
    if (choose(2))
        assert(twill_pool_create(&pool, &(twill_pool_options){
                                            .run.workers = 1 + (unsigned)choose(2)}) == TWILL_OK);
    run = (twill_run){.workers = (unsigned)choose(4), .pool = pool, .report = &report};
    atomic_store(&to_fork, 1 + choose(2 * MOST));
    status = call();
    if (!child) {
        check_parent(status);
    } else {
        if (form == BATCHES || form == VALUES)
            assert(status == TWILL_FORKED || (status == TWILL_OK && report.done == report.total));
        else
            assert(status == TWILL_FORKED);
        assert(report.status == status);
        assert(report.done + report.failed + report.skipped == report.total);
        inside_again = true;
        assert(!pool || call() == TWILL_FORKED);
        run.pool = NULL;
        assert(call() == TWILL_OK);
    }
    assert(twill_pool_destroy(pool) == TWILL_OK);
    return 0;
}
