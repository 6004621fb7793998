/* Four patterns together: two threads give lines to a batcher, which sends them with retries and at
   a limited rate, until a shutdown drains it by a hook. Each accepted line ends once, and is sent
   once if it ended well. */
#undef NDEBUG
#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define TWILL__NO_SIGNALS 1
#define TWILL_IMPLEMENTATION
#include "explore.h"
#include "twill_batch_processing.h"
#include "twill_graceful_shutdown.h"
#include "twill_rate_limiter.h"
#include "twill_retry_backoff.h"

static twill_shutdown *stop;
static twill_batcher *batcher;
static twill_rate_limiter limit;
static twill_retry_budget budget;
static atomic_int accepted, ended, shipped, received, calls;

static int post(const void *batch, void *out, const twill_task *task)
{
    (void)out, (void)task;
    if (atomic_fetch_add(&calls, 1) == 0)
        return 503;
    atomic_fetch_add(&received, (int)((const twill_batch *)batch)->count);
    return 0;
}

static int ship(twill_batch *batch, const twill_task *task)
{
    if (twill_rate_limiter_acquire_until(&limit, 1, task->until) != TWILL_OK)
        return 1;
    return (int)twill_retry_call(
        batch, NULL, post,
        &(twill_retry_options){.base = TWILL_US(10), .until = task->until, .budget = &budget},
        NULL);
}

static void line_ended(void *line, const twill_outcome *outcome, void *result,
                       const twill_task *task)
{
    (void)result, (void)task;
    free(line);
    atomic_fetch_add(&ended, 1);
    atomic_fetch_add(&shipped, outcome->status == TWILL_OK);
}

static int drain(const twill_task *task)
{
    return (int)twill_batcher_stop(batcher, task->until, task->until, NULL);
}

static void *write_lines(void *unused)
{
    for (int k = 0; k < 2 && twill_shutdown_enter(stop) == TWILL_OK; k++) {
        void *line = malloc(4);
        twill_until until = twill_until_cancelled(twill_shutdown_cancel_token(stop));
        if (twill_batcher_add_until(batcher, line, NULL, until) == TWILL_OK)
            atomic_fetch_add(&accepted, 1);
        else
            free(line);
        twill_shutdown_leave(stop);
    }
    return unused;
}

int main(void)
{
    pthread_t writers[2];
    twill_shutdown_report report;
    assert(twill_shutdown_create(
               &stop, &(twill_shutdown_options){.no_signals = true, .total = TWILL_FOREVER}) ==
           TWILL_OK);
    assert(twill_rate_limiter_init_per_second(&limit, 1000, 1) == TWILL_OK);
    assert(twill_batcher_create(&batcher, ship,
                                &(twill_batch_options){.max_items = 2,
                                                       .capacity = 2,
                                                       .linger = TWILL_US(50),
                                                       .on_item = line_ended}) == TWILL_OK);
    assert(twill_shutdown_add(stop, "batcher", drain, NULL, 0) == TWILL_OK);
    for (int k = 0; k < 2; k++)
        assert(pthread_create(&writers[k], NULL, write_lines, NULL) == 0);
    if (EXPLORE_CHOICE(2, 0))
        (void)twill_sleep(twill_within(TWILL_MS(2)));
    (void)twill_shutdown_finish(stop, &report);
    for (int k = 0; k < 2; k++)
        pthread_join(writers[k], NULL);
    assert(report.hooks_overran == 0 && report.stuck == 0);
    assert(twill_batcher_destroy(batcher) == TWILL_OK);
    assert(ended == accepted && shipped == received);
    assert(twill_shutdown_destroy(stop) == TWILL_OK);
    return 0;
}
