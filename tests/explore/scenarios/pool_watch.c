/* The watch sleeps until something that is far away, or for ever; a task that waits while all
   workers are busy, or one that is stuck, has it look in time all the same. The busy one waits for
   the other task, so that a watch which sleeps on is a deadlock, or comes at another time.
   EXPLORE: --punctual */
#include "explore.h"
#include "pool_common.h"

#include <limits.h>

#define FAR TWILL_SEC(3600)

static _Atomic uint32_t over;

static int wait_for_it(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    while (!atomic_load(&over))
        (void)twill__park(&over, 0, 0);
    return 0;
}

static int be_it(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    atomic_store(&over, 1);
    twill__wake(&over, INT_MAX);
    return 0;
}

static int end_it(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    pthread_exit(NULL);
}

static void until_over(void)
{
    while (!atomic_load(&over))
        (void)twill__park(&over, 0, 0);
}

static void stuck_event(const twill_task_info *info, const twill_task *task)
{
    if (info->event == TWILL_EVENT_STUCK)
        be_it(NULL, NULL, task);
}

int main(void)
{
    enum { FAR_TASK, FAR_STUCK, LOST, GOING, STUCK };
    int which = EXPLORE_CHOICE(5, 0);
    twill_pool_options options = {.run.workers = 1,
                                  .max_workers = 2,
                                  .grow_after = TWILL_MS(1),
                                  .idle_after = TWILL_MS(5),
                                  .stuck_after = which == FAR_STUCK ? FAR
                                                 : which == STUCK   ? TWILL_MS(2)
                                                                    : 0,
                                  .on_event = which == STUCK ? stuck_event : NULL};
    twill_pool *pool = pool_of(&options);
    twill_ns begun = twill_now();
    struct side later = {0};

    if (which == FAR_TASK || which == STUCK) /* of these the watch knows when it goes to sleep */
        assert(twill_pool_submit(pool, run_it, NULL, &later.future,
                                 &(twill_submit_options){.start_at = begun + FAR}) == TWILL_OK);
    if (which == LOST || which == GOING) /* then there are two */
        assert(twill_pool_resize(pool, 2, 2) == TWILL_OK &&
               twill_pool_resize(pool, 1, 2) == TWILL_OK);
    assert(twill_pool_submit(pool, wait_for_it, NULL, NULL, NULL) == TWILL_OK);
    (void)twill_sleep(twill_within(which == GOING ? TWILL_MS(5) : which == LOST ? 0 : TWILL_MS(1)));
    if (which == LOST)
        assert(twill_pool_submit(pool, end_it, NULL, NULL, NULL) == TWILL_OK);
    if (which != STUCK)
        assert(twill_pool_submit(pool, be_it, NULL, NULL, NULL) == TWILL_OK);
    until_over();
    assert(twill_now() < begun + TWILL_MS(100));
    if (later.future.slot) {
        assert(twill_future_cancel(later.future) == TWILL_OK);
        twill_future_release(later.future);
    }
    assert(twill_pool_destroy(pool) == TWILL_OK);
    return 0;
}
