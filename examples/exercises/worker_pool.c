/* Exercise: a worker pool.
 *
 *     cc -std=c11 -pthread -I patterns examples/exercises/worker_pool.c && ./a.out
 *     make exercises E=worker_pool
 *
 * Six jobs for a pool of two workers. Each sleeps 50 ms and gives ten times its number; job 3 fails
 * with the code 33, and job 4 sleeps for ever, so it gets a timeout of 0.1 s. Print how each has
 * ended, in the order of the jobs:
 *
 *     0: 0
 *     1: 10
 *     2: 20
 *     3: failed with 33
 *     4: TWILL_TIMEOUT
 *     5: 50
 *
 * Hints: twill_pool_submit gives a future for each job; twill_future_wait takes its result and its
 * outcome. Job 4 must look at something while it sleeps, or the pool cannot end: what? Which of
 * these must be given back: the pool, the futures, the results?
 */
#define TWILL_IMPLEMENTATION
#include "twill_worker_pool.h"

#include <stdio.h>

enum { JOBS = 6 };

static int job(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    /* TODO */
    return 0;
}

int main(void)
{
    int numbers[JOBS];
    for (int i = 0; i < JOBS; i++)
        numbers[i] = i;
    (void)numbers, (void)job;
    /* TODO: make the pool, submit all, wait for each, release, destroy */
    puts("not solved yet");
    return 0;
}
