/* lanes: two kinds of tasks, a pool each. Those that compute may fill their own pool up; those that
   wait for a disk or a network never stand behind them. Each lane is bounded and sized by its own
   rule: as many workers as CPUs, and as many as answers are awaited at once.

       cc -std=c11 -pthread -I patterns examples/lanes.c && ./a.out

   TEST-RUN:
 */
#define TWILL_IMPLEMENTATION
#include "twill_worker_pool.h"

#include <stdio.h>

enum { COMPUTE, WAIT, LANES, FLOOD = 1000 };

static twill_pool *lanes[LANES];

static int compute(void *arg, void *result, const twill_task *task)
{
    twill_ns end = twill_now() + TWILL_MS(20); /* stands for 20 ms of work */

    (void)arg, (void)result;
    while (twill_now() < end && !twill_task_cancelled(task)) {}
    return 0;
}

static int fetch(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result;
    return twill_sleep((twill_until){twill_now() + TWILL_MS(2), task->until.cancel}) ==
           TWILL_CANCELLED;
}

/* Which lane, is the only thing that a caller has to know. */
static twill_status dispatch(int lane, twill_task_fn *fn, twill_future *future)
{
    return twill_pool_submit(lanes[lane], fn, NULL, future, NULL);
}

int main(void)
{
    twill_future answers[100];
    twill_pool_stats waiting, computing;

    if (twill_pool_create(&lanes[COMPUTE], &(twill_pool_options){.run.name = "compute"}) ||
        twill_pool_create(&lanes[WAIT],
                          &(twill_pool_options){.run.workers = 20, .run.name = "wait"}))
        return 1;
    for (int i = 0; i < FLOOD; i++) /* many seconds of work */
        if (dispatch(COMPUTE, compute, NULL) != TWILL_OK)
            return 1;
    for (int i = 0; i < 100; i++)
        if (dispatch(WAIT, fetch, &answers[i]) != TWILL_OK)
            return 1;
    for (int i = 0; i < 100; i++) {
        if (twill_future_wait(answers[i], NULL, NULL) != TWILL_OK)
            return 1;
        twill_future_release(answers[i]);
    }
    twill_pool_get_stats(lanes[COMPUTE], &computing);
    twill_pool_get_stats(lanes[WAIT], &waiting);
    printf("answers: %d; work still waiting: %s\n", (int)waiting.done,
           computing.queued ? "yes" : "no");

    (void)twill_pool_stop(lanes[COMPUTE], twill_within(0), twill_within(TWILL_SEC(5)), NULL);
    twill_pool_get_stats(lanes[COMPUTE], &computing);
    printf("no work is lost: %s\n", computing.done + computing.cancelled == FLOOD ? "yes" : "no");
    return twill_pool_destroy(lanes[COMPUTE]) || twill_pool_destroy(lanes[WAIT]);
}
