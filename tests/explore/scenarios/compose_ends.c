/* A task that ends its thread, for which two items of one call wait, and which one of them runs on
   top of itself. Each schedule draws the call, that a task of the pool makes: a map, a fan, a
   pipeline, batches, producers and consumers; whether it is on the pool too, and what more the
   ending task stands on.

   Both waits are told LOST, or end with their thread; the call, if its own thread is left, returns;
   each task is over once.
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

static twill_pool *pool;
static twill_future ending, between;
static atomic_int tasks;
static bool on_pool, deep;

static void leave_thread(void)
{
#ifdef TWILL_USE_PTHREAD
    pthread_exit(NULL);
#else
    thrd_exit(0);
#endif
}

static void expect_lost(twill_future future)
{
    twill_outcome outcome;
    assert(twill_future_wait(future, NULL, &outcome) == TWILL_FAILED);
    assert(outcome.status == TWILL_LOST);
}

static int ends(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    atomic_fetch_add(&tasks, 1);
    leave_thread();
    return 0;
}

/* It runs the one that ends on top of itself, unless another thread has it. */
static int stands_between(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    atomic_fetch_add(&tasks, 1);
    expect_lost(ending);
    leave_thread();
    return 0;
}

static int act(const twill_task *task)
{
    (void)task;
    expect_lost(deep ? between : ending);
    return 0;
}

static int produce(twill_queue *queue, const twill_task *task)
{
    (void)task;
    for (int k = 0; k < ITEMS; k++)
        if (twill_queue_push(queue, &k) != TWILL_OK)
            return 1;
    return 0;
}

static int call(void *form, void *result, const twill_task *task)
{
    twill_run run = {.pool = on_pool ? pool : NULL, .workers = 2};
    (void)result, (void)task;
    atomic_fetch_add(&tasks, 1);
    assert(twill_pool_submit(pool, ends, NULL, &ending, NULL) == TWILL_OK);
    if (deep)
        assert(twill_pool_submit(pool, stands_between, NULL, &between, NULL) == TWILL_OK);
    return call_of(*(const int *)form, run);
}

int main(void)
{
    int form = choose(FORMS);
    twill_future future;
    on_pool = one_in(2);
    deep = one_in(2);
    assert(twill_pool_create(
               &pool, &(twill_pool_options){.run.workers = 1 + (unsigned)choose(2)}) == TWILL_OK);
    assert(twill_pool_submit(pool, call, &form, &future, NULL) == TWILL_OK);
    assert(twill_pool_wait_idle(pool) == TWILL_OK);
    (void)twill_future_wait(future, NULL, NULL);
    assert(atomic_load(&tasks) == 2 + deep);
    expect_lost(ending);
    if (deep)
        expect_lost(between);
    twill_future_release(ending);
    twill_future_release(between);
    twill_future_release(future);
    assert(twill_pool_destroy(pool) == TWILL_OK);
    return 0;
}
