/* Solution: a worker pool. The task is in ../worker_pool.c. */
#define TWILL_IMPLEMENTATION
#include "twill_worker_pool.h"

#include <stdio.h>

enum { JOBS = 6 };

static int job(void *arg, void *result, const twill_task *task)
{
    int number = *(const int *)arg;
    if (number == 4) {
        /* task->until is the end of this task's time, and a token that fires then: who waits with
           it comes back. One who does not look cannot be stopped by anybody: no thread is
           killed. */
        (void)twill_sleep(task->until);
        return 0; /* whatever it says now: it is past its time */
    }
    (void)twill_sleep(twill_within(TWILL_MS(50)));
    *(int *)result = 10 * number; /* a slot of the pool's: it outlives this call */
    return number == 3 ? 33 : 0;
}

int main(void)
{
    int numbers[JOBS]; /* must stay until the last job has ended: they get the addresses */
    twill_future futures[JOBS];
    twill_pool *pool;
    if (twill_pool_create(&pool, &(twill_pool_options){.run.workers = 2}) != TWILL_OK)
        return 1;
    for (int i = 0; i < JOBS; i++) {
        numbers[i] = i; /* not &i: the loop goes on, and all jobs would see one variable */
        if (twill_pool_submit(pool, job, &numbers[i], &futures[i],
                              &(twill_submit_options){.result_size = sizeof(int),
                                                      .timeout = i == 4 ? TWILL_MS(100) : 0}))
            return 1;
    }
    for (int i = 0; i < JOBS; i++) {
        int result = 0;
        twill_outcome outcome;
        /* The status is OK or FAILED; the outcome says how, and keeps the job's own code. What the
           job did before it ended happens before this returns. */
        if (twill_future_wait(futures[i], &result, &outcome) == TWILL_OK)
            printf("%d: %d\n", i, result);
        else if (outcome.status == TWILL_FAILED)
            printf("%d: failed with %d\n", i, outcome.code);
        else
            printf("%d: %s\n", i, twill_status_name(outcome.status));
        twill_future_release(futures[i]); /* its record is used again */
    }
    return twill_pool_destroy(pool) != TWILL_OK; /* runs what is left, joins the threads */
}
