/* The only thread of the pool is in a task that waits, on its own way, for one who waits in a fan
   on that pool: who waits runs the tasks himself. With a reader who was there before there was
   anything to run, too, and for a function under a deadline.
   EXPLORE-FLAGS: -DTWILL__SPIN=0 -DTWILL__TICKS=0 */
#include "fan_common.h"

#include "explore.h"
#include "twill_timeout_fallback.h"
#include "twill_worker_pool.h"

static const int items[2];
static twill_pool *pool;
static twill_timeout *timeouts;
static twill_fan *fan;

static int count(const void *in, void *out, const twill_task *task)
{
    (void)in, (void)out;
    atomic_fetch_add(&ran[task->index + 1], 1);
    return 0;
}

static int task_fn(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result;
    return count(NULL, NULL, task);
}

static int call(const void *in, void *out, const twill_task *task)
{
    (void)in, (void)out, (void)task;
    return (int)twill_fan_out_fan_in(items, sizeof *items, 2, count, 0, NULL,
                                     &(twill_fan_options){.run.pool = pool});
}

static void call_alone(void *nothing)
{
    (void)nothing;
    assert(call(NULL, NULL, NULL) == TWILL_OK);
}

static void go(void *nothing)
{
    (void)nothing;
    for (int k = 0; k < 2; k++)
        assert(twill_fan_go(fan, task_fn, NULL, NULL) == TWILL_OK);
}

static void read_on(void *nothing)
{
    twill__thrd other = {.fn = go, .cpu = UINT_MAX};
    twill_outcome outcome;
    (void)nothing;
    assert(twill_fan_create(&fan, &(twill_fan_options){.run.pool = pool}) == TWILL_OK);
    assert(twill__thread_start(&other));
    for (int k = 0; k < 2; k++)
        assert(twill_fan_next(fan, NULL, &outcome) == TWILL_OK && outcome.status == TWILL_OK);
    twill__thread_join(&other);
    assert(twill_fan_destroy(fan) == TWILL_OK);
}

static int wait_for_it(void *how, void *result, const twill_task *task)
{
    twill__thrd other = {.fn = *(int *)how ? call_alone : read_on, .cpu = UINT_MAX};
    int out;
    (void)result, (void)task;
    if (*(int *)how == 2)
        return (int)twill_timeout_call(timeouts, NULL, 0, &out, sizeof out, call,
                                       (twill_until){0, NULL}, NULL);
    assert(twill__thread_start(&other));
    twill__thread_join(&other);
    return 0;
}

int main(void)
{
    twill_future future;
    int how = choose(3);
    quiet();
    assert(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 1}) == TWILL_OK);
    assert(twill_timeout_create(&timeouts, &(twill_timeout_options){.timeout = TWILL_FOREVER,
                                                                    .mode = TWILL_TIMEOUT_JOIN}) ==
           TWILL_OK);
    assert(twill_pool_submit(pool, wait_for_it, &how, &future, NULL) == TWILL_OK);
    while (twill_future_wait_until(future, NULL, NULL, twill_within(TWILL_SEC(1))) == TWILL_TIMEOUT)
        ; /* exit: it ends; with a deadline this thread does not run it itself */
    assert(ran[1] == 1 && ran[2] == 1);
    twill_future_release(future);
    assert(twill_timeout_destroy(timeouts) == TWILL_OK);
    assert(twill_pool_destroy(pool) == TWILL_OK);
    return 0;
}
