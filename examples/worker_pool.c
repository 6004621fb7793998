/* worker_pool.c - the jobs of a small service: some urgent, one broken, one too slow, one not
   wanted any more. Every job gets its own answer; nothing is lost when the service ends.

   TEST-RUN:
 */
#define TWILL_IMPLEMENTATION
#include "twill_worker_pool.h"

#include <stdio.h>

typedef struct job {
    const char *name;
    int kind, priority;
    twill_ns limit;
} job;

enum { COUNT_UP, FAIL, SLOW, UNWANTED };

static int run_job(void *arg, void *result, const twill_task *task)
{
    const job *j = arg;
    long sum = 0;

    switch (j->kind) {
    case FAIL:
        return 42;
    case SLOW: /* a wait that ends with the task: its time limit, a cancel, the pool's end */
        (void)twill_sleep((twill_until){task->until.deadline, task->until.cancel});
        return twill_task_skip(task);
    default:
        for (long i = 1; i <= 100000; i++)
            sum += i;
        *(long *)result = sum;
        return 0;
    }
}

static void never_ran(void *item, twill_status why, const twill_task *task)
{
    (void)why, (void)task;
    printf("%s never ran\n", ((const job *)item)->name);
}

int main(void)
{
    static job jobs[] = {{"report", COUNT_UP, 0, TWILL_SEC(60)},
                         {"broken", FAIL, 0, TWILL_SEC(60)},
                         {"alarm", COUNT_UP, 10, TWILL_SEC(60)},
                         {"too slow", SLOW, 0, TWILL_MS(50)},
                         {"not wanted", UNWANTED, -5, TWILL_SEC(60)}};
    enum { N = sizeof jobs / sizeof *jobs };
    twill_future futures[N];
    twill_pool_stats stats;
    twill_pool *pool;

    if (twill_pool_create(&pool, &(twill_pool_options){.run.workers = 2, .run.name = "service"}) !=
        TWILL_OK)
        return 1;
    (void)twill_pool_pause(
        pool); /* so that all of them are queued when the last one is cancelled */
    for (size_t i = 0; i < N; i++)
        if (twill_pool_submit(pool, run_job, &jobs[i], &futures[i],
                              &(twill_submit_options){.result_size = sizeof(long),
                                                      .priority = jobs[i].priority,
                                                      .timeout = jobs[i].limit,
                                                      .drop = never_ran}) != TWILL_OK)
            return 1;
    (void)twill_future_cancel(futures[N - 1]);
    (void)twill_pool_resume(pool);
    for (size_t i = 0; i < N; i++) {
        long sum = 0;
        twill_outcome outcome;

        (void)twill_future_wait(futures[i], &sum, &outcome);
        printf("%-10s %s, code %d, sum %ld\n", jobs[i].name, twill_status_name(outcome.status),
               outcome.code, sum);
        twill_future_release(futures[i]);
    }
    (void)twill_pool_wait_idle(pool);
    twill_pool_get_stats(pool, &stats);
    printf("%d submitted: %d done, %d failed, %d late, %d cancelled\n", (int)stats.submitted,
           (int)stats.done, (int)stats.failed, (int)stats.timed_out, (int)stats.cancelled);
    return twill_pool_destroy(pool) != TWILL_OK;
}
