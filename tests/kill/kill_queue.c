/* kill_queue.c - the program that check.sh kills: a producer submits jobs to a queue, two workers
 * finish them, a signal ends it all at any moment. The last line says how each job ended:
 *
 *     submitted S finished F cancelled C pending P reason R
 *
 * The books balance (F + C + P == S), whatever the moment. Argument: drain (the work has
 * time), cancel (a drain window of 1 ms: jobs are cancelled in the middle).
 */
#include <stdio.h>
#include <string.h>

#define TWILL_IMPLEMENTATION
#include "twill_graceful_shutdown.h"
#include "twill_producer_consumer.h"

static twill_shutdown *stop;
static twill_queue *jobs;
static _Atomic unsigned long submitted, finished, cancelled, dropped;

static void produce(void *arg)
{
    (void)arg;
    for (int job = 0;; job++) {
        twill_until until = {0, twill_shutdown_drain_token(stop)};
        if (twill_shutdown_enter(stop) != TWILL_OK) /* one enter a job: left where it ends */
            return;
        atomic_fetch_add(&submitted, 1);
        if (twill_queue_push_until(jobs, &job, until) != TWILL_OK) {
            atomic_fetch_add(&cancelled, 1); /* still ours */
            twill_shutdown_leave(stop);
        }
    }
}

static void consume(void *arg)
{
    twill_until until = {0, twill_shutdown_cancel_token(stop)};
    int job;
    (void)arg;
    while (twill_queue_pop_until(jobs, &job, until) == TWILL_OK) {
        if (job % 64 == 0 &&
            twill_sleep(twill_within_or_cancelled(TWILL_MS(2), until.cancel)) != TWILL_OK)
            atomic_fetch_add(&cancelled, 1);
        else
            atomic_fetch_add(&finished, 1);
        twill_shutdown_leave(stop);
    }
}

static void drop(void *item, twill_status why, const twill_task *task)
{
    (void)item;
    (void)why;
    (void)task;
    atomic_fetch_add(&dropped, 1); /* accepted, and nobody has begun it */
}

static void start(twill__thrd *thread, void (*fn)(void *))
{
    memset(thread, 0, sizeof *thread);
    thread->fn = fn;
    thread->cpu = UINT_MAX;
    if (!twill__thread_start(thread))
        exit(90);
}

int main(int argc, char **argv)
{
    bool cancels = argc > 1 && strcmp(argv[1], "cancel") == 0;
    twill__thrd threads[3];
    twill_shutdown_report report;
    twill_queue_options options = {.capacity = 256, .drop = drop};
    if (twill_shutdown_create(&stop,
                              &(twill_shutdown_options){
                                  .drain = cancels ? TWILL_MS(1) : 0,
                                  .cancel = cancels ? TWILL_MS(50) : 0, /* what is queued stays */
                                  .second = TWILL_SECOND_IGNORED}) != TWILL_OK ||
        twill_queue_create(&jobs, sizeof(int), &options) != TWILL_OK)
        return 91;
    start(&threads[0], produce);
    start(&threads[1], consume);
    start(&threads[2], consume);
    printf("ready\n");
    fflush(stdout);
    twill_shutdown_wait(stop, (twill_until){0});
    if (twill_shutdown_finish(stop, &report) != TWILL_OK && !cancels)
        return 92;
    for (int i = 0; i < 3; i++)
        twill__thread_join(&threads[i]);
    twill_queue_destroy(jobs);
    if (report.entered != atomic_load(&submitted) ||
        report.entered != report.left_in_drain + report.left_in_cancel + report.stuck)
        return 93;
    printf("submitted %lu finished %lu cancelled %lu pending %lu reason %d\n",
           atomic_load(&submitted), atomic_load(&finished), atomic_load(&cancelled),
           atomic_load(&dropped), report.reason);
    fflush(stdout); /* from exit on, one press more of a storm ends it before it is flushed */
    twill_shutdown_exit(stop, 94); /* by the signal: 94 is never seen */
}
