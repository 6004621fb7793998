/* What a task's call asks of the task's pool. Each schedule draws a call that a task of a pool of
   one makes, with threads of its own, or on another pool: a map, a fan, a pipeline, batches,
   producers and consumers; and what its items do, on whatever thread they are: submit to the pool,
   which has room for one, and wait for that or not; give items to a batcher on the pool, and wait
   for them or flush; go and read in a fan on it; wait for the task itself, or for the pool; close
   it.

   Nobody but these threads can do what they wait for. So all that is accepted comes to its end,
   each call returns, and a wait that could not is DEADLOCK.
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
#include "compose_calls.h"

static twill_pool *pool, *other;
static twill_batcher *batcher;
static twill_fan *fan;
static twill_future whole;
static atomic_int known, ran, submitted, batched, added, gone, had;

static int small(void *count, void *result, const twill_task *task)
{
    (void)result, (void)task;
    atomic_fetch_add((atomic_int *)count, 1);
    return 0;
}

static int batch_fn(twill_batch *batch, const twill_task *task)
{
    (void)task;
    atomic_fetch_add(&batched, (int)batch->count);
    return 0;
}

/* ---- what an item does ---- */

static void wait_for(twill_future future, const twill_task *task)
{
    twill_until until = {0, NULL};
    assert(twill_future_wait_until(future, NULL, NULL, one_in(2) ? until : task->until) ==
           TWILL_OK);
    twill_future_release(future);
}

static int act(const twill_task *task)
{
    twill_future future;
    twill_outcome outcome;
    switch (choose(7)) {
    case 0:
        for (int k = choose(3); k >= 0; k--) {
            assert(twill_pool_submit(pool, small, &ran, NULL, NULL) == TWILL_OK);
            atomic_fetch_add(&submitted, 1);
        }
        break;
    case 1:
        assert(twill_pool_submit(pool, small, &ran, &future, NULL) == TWILL_OK);
        atomic_fetch_add(&submitted, 1);
        wait_for(future, task);
        break;
    case 2:
        assert(twill_batcher_add_until(batcher, &batched, &future, task->until) == TWILL_OK);
        atomic_fetch_add(&added, 1);
        wait_for(future, task);
        break;
    case 3:
        for (int k = choose(3); k >= 0; k--) {
            assert(twill_batcher_add_until(batcher, &batched, NULL, task->until) == TWILL_OK);
            atomic_fetch_add(&added, 1);
        }
        assert(twill_batcher_flush_until(batcher, task->until) == TWILL_OK);
        break;
    case 4:
        assert(twill_fan_go_until(fan, small, &gone, NULL, task->until) == TWILL_OK);
        assert(twill_fan_next_until(fan, NULL, &outcome, task->until) == TWILL_OK);
        atomic_fetch_add(&had, 1);
        break;
    case 5:
        assert(twill_future_wait(whole, NULL, NULL) == TWILL_DEADLOCK);
        assert(twill_pool_wait_idle(pool) == TWILL_DEADLOCK);
        break;
    default:
        (void)twill_pool_close(pool);
        break;
    }
    return 0;
}

static int produce(twill_queue *queue, const twill_task *task)
{
    for (int k = 0; k < ITEMS; k++)
        if (twill_queue_push(queue, &k) != TWILL_OK)
            return 1;
    return act(task);
}

/* ---- the task ---- */

static int call(void *form, void *result, const twill_task *task)
{
    twill_run run = {.pool = other, .workers = 1 + (unsigned)choose(2)};
    (void)result, (void)task;
    while (!atomic_load(&known)) /* exit: main goes on */
        (void)twill_sleep(twill_within(TWILL_US(1)));
    return call_of(*(const int *)form, run);
}

int main(void)
{
    int form = choose(FORMS);
    twill_pool_options options = {.run.workers = 1, .capacity = 1, .lazy = one_in(4)};
    if (one_in(4))
        options.max_workers = 2;
    assert(twill_pool_create(&pool, &options) == TWILL_OK);
    if (one_in(3))
        assert(twill_pool_create(&other, &(twill_pool_options){.run.workers = 1}) == TWILL_OK);
    assert(twill_batcher_create(&batcher, batch_fn,
                                &(twill_batch_options){
                                    .run.pool = pool, .max_items = 1, .capacity = 1}) == TWILL_OK);
    assert(twill_fan_create(&fan, &(twill_fan_options){.run = {.pool = pool, .workers = 1}}) ==
           TWILL_OK);
    assert(twill_pool_submit(pool, call, &form, &whole, NULL) == TWILL_OK);
    atomic_store(&known, 1);
    if (one_in(2))
        assert(twill_future_wait(whole, NULL, NULL) == TWILL_OK);
    assert(twill_pool_wait_idle(pool) == TWILL_OK);
    assert(twill_future_wait(whole, NULL, NULL) == TWILL_OK);
    twill_future_release(whole);
    assert(twill_fan_destroy(fan) == TWILL_OK);
    assert(twill_batcher_destroy(batcher) == TWILL_OK);
    assert(atomic_load(&ran) == atomic_load(&submitted));
    assert(atomic_load(&batched) == atomic_load(&added));
    assert(atomic_load(&gone) == atomic_load(&had));
    assert(twill_pool_destroy(pool) == TWILL_OK);
    assert(twill_pool_destroy(other) == TWILL_OK);
    return 0;
}
