/* There is no thread to be had, and one outside runs the next task of the queue itself, without
   the lock, since it waits for it. Beside it main waits until the pool is idle, and hears of the
   end. Or it waits for so short a time that the stand-in ends under the lock, and then is the next
   one who stands in. */
#include "explore.h"

static int no_thread(void);
#define TWILL__FAIL_THREAD() no_thread()
#include "pool_common.h"

static twill_future second;
static _Atomic uint32_t begun;
static _Atomic int none_to_be_had;

static int no_thread(void)
{
    return atomic_load_explicit(&none_to_be_had, memory_order_relaxed);
}

static int run_next(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    atomic_store_explicit(&begun, 1, memory_order_relaxed);
    twill__wake(&begun, 1);
    return 0;
}

static void wait_for_it(void *side_)
{
    struct side *side = side_;

    assert(twill_future_wait(side->future, NULL, NULL) == TWILL_OK);
}

int main(void)
{
    struct side other = {0};
    bool two = EXPLORE_CHOICE(4, 0) == 1;

    other.pool = pool_of(&(twill_pool_options){.run.workers = 1, .lazy = true});
    atomic_store_explicit(&none_to_be_had, 1, memory_order_relaxed);
    assert(twill_pool_submit(other.pool, run_next, NULL, &other.future, NULL) == TWILL_OK);
    if (two)
        assert(twill_pool_submit(other.pool, run_it, NULL, &second, NULL) == TWILL_OK);
    atomic_store_explicit(&none_to_be_had, 0, memory_order_relaxed);
    go(&other, wait_for_it);
    atomic_store_explicit(&none_to_be_had, 1, memory_order_relaxed);
    if (two) {
        (void)twill_pool_wait_idle_until(other.pool, twill_within(0));
        assert(twill_future_wait(second, NULL, NULL) == TWILL_OK);
    } else {
        while (!atomic_load_explicit(&begun, memory_order_relaxed)) /* exit: it runs */
            twill__park(&begun, 0, 0);
        assert(twill_pool_wait_idle(other.pool) == TWILL_OK);
    }
    end(&other);
    twill_future_release(other.future);
    twill_future_release(second);
    assert(twill_pool_destroy(other.pool) == TWILL_OK);
    assert(ran == two);
    return 0;
}
