/* A pool without a worker, since a thread, or its worker_start, has failed once or twice: a lazy
   one; one whose only worker's task has ended its thread, or was given up as stuck. Whoever waits
   for room, for a future or for the pool is not forgotten: somebody tries again. */
#include "explore.h"

#include <stdatomic.h>
#include <stdbool.h>

static int no_thread(void);
#define TWILL__FAIL_THREAD() no_thread()
#include "pool_common.h"

enum { LAZY, ENDS, STUCK, HOWS };

static _Atomic int failures, refusals;
static twill_cancel release;

static bool one_less(_Atomic int *count)
{
    int left = atomic_load(count);
    while (left > 0 && !atomic_compare_exchange_weak(count, &left, left - 1)) {}
    return left > 0;
}

static int no_thread(void)
{
    return one_less(&failures);
}

static int start(void **state, const twill_task *task)
{
    (void)state, (void)task;
    return one_less(&refusals);
}

static int end_it(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    pthread_exit(NULL);
}

static int hang(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    (void)twill_sleep(twill_until_cancelled(&release));
    return 0;
}

static void submit_two(void *side_)
{
    struct side *side = side_;
    for (int i = 0; i < 2; i++)
        assert(twill_pool_submit(side->pool, run_it, NULL, NULL, NULL) == TWILL_OK);
}

static void wait_for_all(void *side_)
{
    struct side *side = side_;
    assert(twill_pool_wait_idle(side->pool) == TWILL_OK);
}

static void look(const twill_task_info *info, const twill_task *task)
{
    (void)info, (void)task;
}

/* Another thread waits for the pool, before it is bare or after. */
static void left_to_another(twill_pool *pool)
{
    struct side other = {.pool = pool};
    bool pauses = EXPLORE_CHOICE(2, 0);
    int left = atomic_exchange(&failures, 0);

    if (pauses)
        assert(twill_pool_pause(pool) == TWILL_OK);
    go(&other, wait_for_all);
    atomic_store(&failures, left);
    assert(twill_pool_submit(pool, run_it, NULL, NULL, NULL) == TWILL_OK);
    if (pauses)
        assert(twill_pool_resume(pool) == TWILL_OK);
    end(&other);
}

/* Nobody could begin it in time; nor does who destroys the pool then. */
static void too_late(twill_pool *pool)
{
    atomic_store(&failures, 9);
    assert(twill_pool_submit(
               pool, run_it, NULL, NULL,
               &(twill_submit_options){.drop = drop_it, .start_by = twill_now() + TWILL_US(1)}) ==
           TWILL_OK);
    (void)twill_sleep(twill_within(TWILL_US(2)));
    assert(twill_pool_destroy(pool) == TWILL_OK);
    assert(ran == 0 && dropped == 1);
}

int main(void)
{
    int how = EXPLORE_CHOICE(HOWS, 0);
    bool hooks = EXPLORE_CHOICE(4, 0);
    bool beside = how != STUCK && EXPLORE_CHOICE(2, 0); /* they could be taken for stuck ones */
    struct side other = {0};
    twill_future future;

    other.pool = pool_of(&(twill_pool_options){.run.workers = 1,
                                               .run.worker_start = hooks ? start : NULL,
                                               .lazy = how == LAZY,
                                               .capacity = 1,
                                               .stuck_after = how == STUCK ? TWILL_US(5) : 0,
                                               .max_abandoned = how == STUCK,
                                               .on_event = EXPLORE_CHOICE(2, 0) ? look : NULL});
    if (beside)
        go(&other, submit_two);
    atomic_store(&failures, EXPLORE_CHOICE(3, 0));
    atomic_store(&refusals, EXPLORE_CHOICE(3, 0));
    if (how != LAZY)
        assert(twill_pool_submit(other.pool, how == ENDS ? end_it : hang, NULL, NULL, NULL) ==
               TWILL_OK);
    if (how == LAZY && !beside && EXPLORE_CHOICE(4, 1) == 0) {
        too_late(other.pool);
        return 0;
    }
    if (how == LAZY && !beside && EXPLORE_CHOICE(2, 0)) {
        left_to_another(other.pool);
        assert(twill_pool_destroy(other.pool) == TWILL_OK);
        return 0; /* without hooks all have run, else who destroys may have found no worker */
    }
    assert(twill_pool_submit(other.pool, run_it, NULL, &future, NULL) == TWILL_OK);
    if (EXPLORE_CHOICE(2, 0))
        assert(twill_future_wait(future, NULL, NULL) == TWILL_OK);
    else if (EXPLORE_CHOICE(2, 0))
        assert(twill_future_wait_any(&future, 1, NULL, without_helping()) == TWILL_OK);
    else
        assert(twill_future_wait_until(future, NULL, NULL, without_helping()) == TWILL_OK);
    twill_future_release(future);
    if (beside)
        end(&other);
    twill_cancel_fire(&release, 1);
    assert(twill_pool_wait_idle(other.pool) == TWILL_OK);
    assert(ran == (beside ? 3 : 1));
    assert(twill_pool_destroy(other.pool) == TWILL_OK);
    return 0;
}
