/* graceful_shutdown: a service with jobs in flight is asked to stop by a signal. Nothing new is
 * taken, the jobs that run are finished, those that wait are handed back, and the components are
 * closed last first, each within its own limit: one of them hangs, and holds nobody up. Every job
 * has a status in the end.
 *
 *     cc -std=c11 -pthread -I patterns examples/graceful_shutdown.c && ./a.out
 *
 * TEST-RUN:
 */
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>

#define TWILL_IMPLEMENTATION
#include "twill_graceful_shutdown.h"
#include "twill_parallel_map.h"

enum { JOBS = 40, STOP_AT = 10 };

static twill_shutdown *stop;
static _Atomic int reloads, begun;

/* A job: enters, so that the end waits for it, or is told that it comes too late. */
static int job(const void *in, void *out, const twill_task *task)
{
    if (twill_shutdown_enter(stop) != TWILL_OK)
        return twill_task_skip(task); /* handed back: its status is CANCELLED */
    if (atomic_fetch_add(&begun, 1) == STOP_AT)
        raise(SIGTERM); /* in real life a supervisor sends it */
    /* stands for work; it would end early at the cancel token, not at the drain token */
    (void)twill_sleep(twill_within_or_cancelled(TWILL_MS(2), twill_shutdown_cancel_token(stop)));
    *(int *)out = *(const int *)in * 2;
    twill_shutdown_leave(stop);
    return 0;
}

static int close_database(const twill_task *task)
{
    (void)task;
    printf("database closed\n");
    return 0;
}

static int flush_cache(const twill_task *task)
{
    /* deaf: it waits for a peer that never answers, longer than its limit and for no token */
    (void)task;
    (void)twill_sleep(twill_within(TWILL_SEC(2)));
    return 0;
}

static int close_listener(const twill_task *task)
{
    (void)task;
    printf("listener closed\n");
    return 0;
}

static void reload(int number, const twill_task *task) /* SIGHUP; an ordinary thread runs it */
{
    (void)number;
    (void)task;
    atomic_fetch_add(&reloads, 1);
}

int main(void)
{
    static const twill_signal_action hup = {SIGHUP, reload, NULL};
    twill_shutdown_step steps[3];
    twill_shutdown_report report;
    int in[JOBS], out[JOBS] = {0}, done = 0, back = 0;
    twill_status statuses[JOBS];
    if (twill_shutdown_create(&stop, &(twill_shutdown_options){.total = TWILL_SEC(10),
                                                               .actions = &hup,
                                                               .action_count = 1,
                                                               .take_ignored = true,
                                                               .steps = steps,
                                                               .steps_capacity = 3}) != TWILL_OK)
        return 1;
    twill_shutdown_add(stop, "database", close_database, NULL, 0);
    twill_shutdown_add(stop, "cache", flush_cache, NULL, TWILL_MS(50));
    twill_shutdown_add(stop, "listener", close_listener, NULL, 0);
    for (int i = 0; i < JOBS; i++)
        in[i] = i;
    raise(SIGHUP);
    while (!atomic_load(&reloads))
        (void)twill_sleep(twill_within(TWILL_MS(1)));

    twill_parallel_map(in, sizeof *in, out, sizeof *out, JOBS, job,
                       &(twill_parallel_options){.run.workers = 2, .run.statuses = statuses});
    for (int i = 0; i < JOBS; i++) {
        done += statuses[i] == TWILL_OK && out[i] == 2 * i;
        back += statuses[i] != TWILL_OK && out[i] == 0;
    }
    twill_shutdown_finish(stop, &report);

    printf("reason %d, configuration read again: %s\n", report.reason,
           atomic_load(&reloads) ? "yes" : "no");
    printf("each job is done or handed back: %s\n", done + back == JOBS ? "yes" : "no");
    printf("all that entered are done: %s, some were handed back: %s\n",
           report.entered == (size_t)done && report.stuck == 0 ? "yes" : "no",
           back > 0 ? "yes" : "no");
    for (size_t i = 0; i < report.steps_stored; i++)
        printf("%s: %s\n", steps[i].name, twill_status_name(steps[i].status));
    /* Here a program ends with twill_shutdown_exit(stop, 0), and its parent sees that it died of
       SIGTERM. This one shall be seen to work. */
    fflush(stdout);
    return twill_shutdown_destroy(stop) != TWILL_OK;
}
