/* Instants and counts are exact in every order of steps, as long as no thread is held up: a stop of
   two workers with ten tasks of 1 s and a window of 2.5 s; the time limits of one task, whoever
   waits for it, and since when. (To a millisecond: who looks for work a moment may sleep some us.)
   EXPLORE: --punctual */
#include "explore.h"
#include "pool_common.h"

static int obeys(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result;
    return twill_sleep(twill_within_or_cancelled(TWILL_SEC(1), task->until.cancel)) == TWILL_OK
               ? 0
               : twill_task_skip(task);
}

static int deaf(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    (void)twill_sleep(twill_within(TWILL_SEC(1)));
    return 0;
}

static bool is_now(twill_ns at)
{
    twill_ns now = twill_now();
    return now >= at && now < at + TWILL_MS(1);
}

/* ---- a stop in two phases ---- */

static const struct {
    twill_task_fn *fn;
    twill_ns join, after; /* behind the window; when it returns */
    twill_stopped counts; /* finished, cancelled, stuck */
} stops[] = {
    {obeys, TWILL_SEC(1000), TWILL_MS(2500), {4, 6, 0}},
    {deaf, TWILL_SEC(1000), TWILL_MS(3000), {6, 4, 0}},
    {deaf, 0, TWILL_MS(2500), {4, 4, 2}},
    {deaf, TWILL_MS(500), TWILL_MS(3000), {6, 4, 0}}, /* they end as the time is over */
};

static void stop(size_t which)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 2});
    twill_ns begun = twill_now(), window = begun + TWILL_MS(2500);
    twill_stopped counts;
    twill_status status;

    for (int i = 0; i < 10; i++)
        assert(twill_pool_submit(pool, stops[which].fn, NULL, NULL, NULL) == TWILL_OK);
    status = twill_pool_stop(pool, (twill_until){window, NULL},
                             (twill_until){window + stops[which].join, NULL}, &counts);
    assert(is_now(begun + stops[which].after));
    assert(counts.finished + counts.cancelled + counts.stuck == 10);
    assert(counts.cancelled == stops[which].counts.cancelled);
    if (which < 3) {
        assert(counts.stuck == stops[which].counts.stuck);
        assert(status == (counts.stuck ? TWILL_TIMEOUT : TWILL_OK));
    }
    assert(twill_pool_stop(pool, twill_within(0), (twill_until){0}, NULL) == TWILL_OK);
    balanced(pool, 10);
    assert(twill_pool_destroy(pool) == TWILL_OK);
}

/* ---- one task ---- */

enum { LIMIT, NOT_BEFORE, NOT_AFTER, STUCK };
enum { FOR_EVER, UNTIL, ANY };

static int short_one(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    (void)twill_sleep(twill_within(TWILL_MS(10)));
    return 0;
}

static void one(int which)
{
    int wait = which == LIMIT || which == STUCK ? EXPLORE_CHOICE(3, 0) : UNTIL;
    bool behind =
        which == LIMIT && EXPLORE_CHOICE(2, 0); /* so who waits is there before it begins */
    twill_pool *pool = pool_of(&(twill_pool_options){
        .run.workers = 1,
        .stuck_after = which == STUCK ? TWILL_MS(20) : 0,
        .max_abandoned = which == STUCK,
    });
    twill_ns at = twill_now() + TWILL_MS(20);
    twill_submit_options options = {.timeout = which == LIMIT ? TWILL_MS(20) : 0,
                                    .start_at = which == NOT_BEFORE ? at : 0,
                                    .start_by = which == NOT_AFTER ? at : 0};
    twill_outcome outcome;
    twill_future future;
    size_t place;

    if (which == NOT_AFTER) /* the worker has this to do first */
        assert(twill_pool_submit(pool, deaf, NULL, NULL, NULL) == TWILL_OK);
    if (behind)
        assert(twill_pool_submit(pool, short_one, NULL, NULL, NULL) == TWILL_OK);
    assert(twill_pool_submit(pool, which == NOT_BEFORE ? run_it : deaf, NULL, &future, &options) ==
           TWILL_OK);
    if (wait == FOR_EVER && which == LIMIT)
        assert(twill_future_wait(future, NULL, &outcome) == TWILL_FAILED);
    else if (wait == ANY)
        assert(twill_future_wait_any(&future, 1, &place, without_helping()) == TWILL_OK);
    else
        assert(twill_future_wait_until(future, NULL, &outcome, without_helping()) <= TWILL_FAILED);
    assert(is_now(behind ? at + TWILL_MS(10) : at));
    assert(twill_future_try_wait(future, NULL, &outcome) <= TWILL_FAILED);
    assert(outcome.status == (which == NOT_BEFORE ? TWILL_OK
                              : which == STUCK    ? TWILL_LOST
                                                  : TWILL_TIMEOUT));
    assert(which != NOT_BEFORE || is_now(outcome.started));
    twill_future_release(future);
    assert(twill_pool_destroy(pool) == TWILL_OK);
}

int main(void)
{
    int which = EXPLORE_CHOICE(8, 0);

    if (which < 4)
        stop((size_t)which);
    else
        one(which - 4);
    return 0;
}
