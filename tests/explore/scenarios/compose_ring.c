/* A ring of bounded buffers: a pipeline's source pops from a queue, its stage gives what came to a
   batcher, and that pushes it into the queue again, one round older, until it has gone round often
   enough. With more in the ring than there is room for all of them can wait for one another; then a
   token ends it, which all have, or a time. The batcher is on threads of its own, or on the pool
   whose task the pipeline is.

   Whatever it is: each of them returns, and what was put into the ring has ended once, wherever it
   was by then.
   EXPLORE-FLAGS: -DTWILL__SPIN=0 -DTWILL__TICKS=0 */
#undef NDEBUG
#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "explore.h"

#define TWILL__REPLACE_AFTER TWILL_US(10)
#define TWILL__NO_SIGNALS    1
#define TWILL_IMPLEMENTATION
#include "twill.h"

enum { SEEDS = 3, ROUNDS = 2 };

typedef struct ball {
    int rounds;
} ball;

static ball balls[SEEDS];
static twill_queue *queue;
static twill_batcher *batcher;
static twill_pool *pool;
static twill_cancel token;
static twill_until whole;
static atomic_int seeds, home, lost;

static int choose(int n)
{
    return EXPLORE_CHOICE(n, 0);
}

static bool one_in(int n)
{
    return choose(n) == 0;
}

static void ended(atomic_int *where)
{
    atomic_fetch_add(where, 1);
    if (atomic_load(&home) + atomic_load(&lost) == atomic_load(&seeds))
        (void)twill_queue_close(queue);
}

static void queue_dropped(void *item, twill_status why, const twill_task *task)
{
    (void)item, (void)task;
    assert(why == TWILL_CANCELLED);
    atomic_fetch_add(&lost, 1);
}

static void stage_dropped(void *item, twill_status why, const twill_task *task)
{
    (void)item, (void)why, (void)task;
    ended(&lost);
}

static int source(void *out, const twill_task *task)
{
    twill_status status = twill_queue_pop_until(queue, out, task->until);
    return status == TWILL_OK ? 0 : twill_task_stop(task);
}

static int stage(const void *in, void *out, const twill_task *task)
{
    ball *it = *(ball *const *)in;
    twill_status status = twill_batcher_add_until(batcher, it, NULL, task->until);
    (void)out;
    if (status == TWILL_OK)
        return 0;
    assert(status == TWILL_CANCELLED || status == TWILL_TIMEOUT || status == TWILL_CLOSED);
    ended(&lost);
    return (int)status;
}

static int send_on(twill_batch *batch, const twill_task *task)
{
    for (size_t i = 0; i < batch->count; i++) {
        ball *it = twill_batch_item(batch, i);
        twill_status status = TWILL_OK;
        if (++it->rounds == ROUNDS)
            ended(&home);
        else
            status = twill_queue_push_until(queue, &it, task->until);
        twill_batch_set(batch, i, (int)status);
    }
    return 0;
}

static void item_ended(void *item, const twill_outcome *outcome, void *result,
                       const twill_task *task)
{
    (void)item, (void)result, (void)task;
    if (outcome->status != TWILL_OK)
        ended(&lost);
}

static int run_pipeline(void *arg, void *result, const twill_task *task)
{
    const twill_stage stages[] = {
        {.work = stage, .workers = 1 + (unsigned)choose(2), .drop = stage_dropped}};
    twill_status status;
    (void)arg, (void)result, (void)task;
    status = twill_pipeline_run(
        source, sizeof(ball *), stages, 1,
        &(twill_pipeline_options){.run = {.until = whole}, .tokens = 1 + (size_t)choose(2)});
    assert(status == TWILL_OK || status == TWILL_FAILED || status == TWILL_CANCELLED ||
           status == TWILL_TIMEOUT);
    assert(status == TWILL_OK || twill_cancel_fired(&token) || whole.deadline);
    (void)twill_queue_close(queue);
    return 0;
}

static void fire(void *unused)
{
    (void)unused;
    twill_cancel_fire(&token, 1);
}

int main(void)
{
    twill__thrd firer = {.fn = fire, .cpu = UINT_MAX};
    int n = 1 + choose(SEEDS);
    bool on_pool = one_in(2), times = one_in(3), fires = !times || one_in(2);
    whole = (twill_until){times ? twill_now() + TWILL_US(5 + choose(20)) : 0, &token};
    assert(twill_queue_create(&queue, sizeof(ball *),
                              &(twill_queue_options){.capacity = 1, .drop = queue_dropped}) ==
           TWILL_OK);
    assert(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 1}) == TWILL_OK);
    assert(twill_batcher_create(
               &batcher, send_on,
               &(twill_batch_options){.run = {.pool = on_pool ? pool : NULL, .until = whole},
                                      .max_items = 1 + (size_t)choose(2),
                                      .capacity = 1,
                                      .on_item = item_ended}) == TWILL_OK);
    atomic_store(&seeds, n);
    assert(twill_pool_submit(pool, run_pipeline, NULL, NULL, NULL) == TWILL_OK);
    for (int k = 0; k < n; k++) {
        ball *it = &balls[k];
        if (twill_queue_push_until(queue, &it, whole) != TWILL_OK)
            ended(&lost);
    }
    if (fires)
        assert(twill__thread_start(&firer));
    assert(twill_pool_wait_idle(pool) == TWILL_OK);
    if (fires)
        twill__thread_join(&firer);
    assert(twill_batcher_destroy(batcher) == TWILL_OK);
    assert(twill_queue_destroy(queue) == TWILL_OK);
    assert(atomic_load(&home) + atomic_load(&lost) == n);
    assert(twill_pool_destroy(pool) == TWILL_OK);
    twill_cancel_detach(&token);
    return 0;
}
