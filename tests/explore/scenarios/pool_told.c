/* What the events tell of one task comes in order, whoever tells it: STARTED before the time limit,
   or the watch, ends it or calls it stuck. */
#include "explore.h"
#include "pool_common.h"

#include <stdbool.h>

enum { QUEUED = 1, STARTED = 2, ENDED = 4, IS_STUCK = 8 };

static _Atomic int told[3]; /* relaxed: the pool alone puts the events of a task in order */
static int begun[3];        /* plain, so that the explorer sees whether it does */

static int tell(size_t index, int what)
{
    return atomic_fetch_or_explicit(&told[index], what, memory_order_relaxed);
}

static void on_event(const twill_task_info *info, const twill_task *task)
{
    int before;

    if (info->event ==
        TWILL_EVENT_REFUSED) { /* it was given up, and the pool has ended without it */
        assert(info->status == TWILL_CLOSED);
        return;
    }
    assert(info->index < 3 && task->index == info->index);
    switch (info->event) {
    case TWILL_EVENT_QUEUED:
        before = tell(info->index, QUEUED);
        assert(before == 0);
        break;
    case TWILL_EVENT_STARTED:
        before = tell(info->index, STARTED);
        assert(before == QUEUED);
        begun[info->index] = 1;
        break;
    case TWILL_EVENT_STUCK:
        before = tell(info->index, IS_STUCK);
        assert(before & STARTED && !(before & IS_STUCK) && begun[info->index]);
        break;
    default:
        before = tell(info->index, ENDED);
        assert(info->event == TWILL_EVENT_ENDED && !(before & ENDED) && before & STARTED &&
               begun[info->index]);
        assert(info->status == TWILL_OK || info->status == TWILL_TIMEOUT ||
               info->status == TWILL_LOST);
    }
}

static int rest(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    (void)twill_sleep(twill_within(TWILL_US(EXPLORE_CHOICE(2, 0))));
    return 0;
}

static int nest(void *pool, void *result, const twill_task *task)
{
    twill_future future;
    twill_status status;

    (void)result, (void)task;
    status = twill_pool_submit(pool, rest, NULL, &future,
                               &(twill_submit_options){.timeout = TWILL_US(2)});
    if (status == TWILL_CLOSED)
        return 0;
    assert(status == TWILL_OK);
    status = twill_future_wait(future, NULL, NULL);
    assert(status == TWILL_OK || status == TWILL_FAILED);
    twill_future_release(future);
    return 0;
}

int main(void)
{
    bool watched = EXPLORE_CHOICE(2, 0), plain = watched && EXPLORE_CHOICE(2, 0);
    bool nests = EXPLORE_CHOICE(2, 0);
    twill_pool_options options = {.run.workers = 1,
                                  .stuck_after = watched ? TWILL_US(3) : 0,
                                  .max_abandoned = watched && EXPLORE_CHOICE(2, 0),
                                  .on_event = on_event};
    twill_pool *pool = pool_of(&options);
    twill_future future;

    assert(twill_pool_submit(pool, nests ? nest : rest, pool, plain ? NULL : &future,
                             plain ? NULL : &(twill_submit_options){.timeout = TWILL_US(2)}) ==
           TWILL_OK);
    if (!plain) {
        twill_status status = twill_future_wait(future, NULL, NULL);
        assert(status == TWILL_OK || status == TWILL_FAILED);
        twill_future_release(future);
    }
    assert(twill_pool_destroy(pool) == TWILL_OK);
    assert((told[0] & ~IS_STUCK) == (QUEUED | STARTED | ENDED));
    assert(!told[1] || (nests && (told[1] & ~IS_STUCK) == (QUEUED | STARTED | ENDED)));
    return 0;
}
