/* A thread outside that waits for a task runs it itself, without the lock, if it is the next one.
   Against the worker, and against a third thread that cancels it, waits for the pool, stops,
   abandons or destroys it, pauses it, or waits for the same task: it runs once or is dropped, and
   nobody sleeps on. */
#include "pool_blocks.h"

#include "explore.h"

enum { CANCELS, WAITS_FOR_ALL, STOPS, ABANDONS, DESTROYS, PAUSES, WAITS_TOO, PUSHES, ALL };

static unsigned choice;
static uint64_t waiter;

static int run_here_too(void *arg, void *result, const twill_task *task)
{
    if (twill__thread_number() == waiter) {
        EXPLORE_REACHED("run by who waits");
        assert(task->worker == UINT_MAX && task->workers == 1 && twill_pool_current());
    }
    if (choice == STOPS) { /* it is told */
        (void)twill_sleep(twill_until_cancelled(task->until.cancel));
        return twill_task_skip(task) + run_it(arg, NULL, task);
    }
    return run_it(arg, result, task);
}

static void meets(void *side_)
{
    struct side *side = side_;
    twill_until forever = twill_within(TWILL_FOREVER);

    switch (choice) {
    case CANCELS:
        assert(twill_future_cancel(side->future) == TWILL_OK);
        break;
    case WAITS_FOR_ALL:
        assert(twill_pool_wait_idle(side->pool) == TWILL_OK);
        assert(atomic_load(&ran) == 1);
        break;
    case STOPS:
        assert(twill_pool_stop(side->pool, twill_within(0), forever, NULL) == TWILL_OK);
        assert(atomic_load(&ran) + atomic_load(&dropped) == 1);
        break;
    case ABANDONS:
        assert(twill_pool_abandon(side->pool, NULL) == TWILL_OK);
        break;
    case DESTROYS:
        assert(twill_pool_destroy(side->pool) == TWILL_OK);
        assert(atomic_load(&ran) == 1);
        break;
    case PAUSES:
        assert(twill_pool_pause(side->pool) == TWILL_OK);
        assert(twill_pool_resume(side->pool) == TWILL_OK);
        break;
    case WAITS_TOO:
        assert(twill_future_wait(side->future, NULL, NULL) == TWILL_OK);
        break;
    case PUSHES:
        assert(twill_pool_submit(side->pool, run_it, NULL, NULL, NULL) == TWILL_OK);
        break;
    }
}

int main(void)
{
    struct side other = {0};
    twill_outcome outcome;
    twill_status status;
    int seven = 0;

    EXPLORE_MUST_REACH("run by who waits");
    choice = (unsigned)EXPLORE_CHOICE(ALL, WAITS_FOR_ALL);
    waiter = twill__thread_number();
    other.pool = pool_of(&(twill_pool_options){.run.workers = 1, .capacity = 2});
    assert(twill_pool_submit(
               other.pool, run_here_too, NULL, &other.future,
               &(twill_submit_options){.result_size = sizeof seven, .drop = drop_it}) == TWILL_OK);
    go(&other, meets);
    status = twill_future_wait(other.future, &seven, &outcome);
    end(&other);
    assert(status == (outcome.status == TWILL_OK ? TWILL_OK : TWILL_FAILED));
    assert(outcome.status == TWILL_OK ? seven == 7 && !dropped : outcome.status == TWILL_CANCELLED);
    if (choice != ABANDONS && choice != DESTROYS) {
        if (choice != STOPS)
            assert(twill_pool_wait_idle(other.pool) == TWILL_OK);
        assert(ran + dropped == 1u + (choice == PUSHES));
        balanced(other.pool, 1 + (choice == PUSHES));
        assert(twill_pool_destroy(other.pool) == TWILL_OK);
    }
    twill_future_release(other.future);
    until_freed();
    return 0;
}
