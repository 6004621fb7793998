/* log_shipper: five patterns at work together. Threads log lines; a batcher sends fifty of them at
 * a time, or what there is after 5 ms; a limiter holds it to what the server allows; a busy server
 * is asked again, later and later, within a budget; and SIGTERM ends it all so that no accepted
 * line is lost: nobody logs any more, what is there is sent, then the connection is closed.
 *
 *     cc -std=c11 -pthread -I patterns examples/log_shipper.c && ./a.out
 *
 * TEST-RUN:
 */
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define TWILL_IMPLEMENTATION
#include "twill_batch_processing.h"
#include "twill_graceful_shutdown.h"
#include "twill_parallel_map.h"
#include "twill_rate_limiter.h"
#include "twill_retry_backoff.h"

enum { WRITERS = 3, STOP_AFTER = 300, PERMANENT = 400, BUSY = 503 };

typedef struct shipper {
    twill_shutdown *stop;
    twill_batcher *batcher;
    twill_rate_limiter limit;
    twill_retry_budget budget; /* zeroed: ready */
    atomic_size_t calls, accepted, ended, shipped, received;
} shipper;

/* The server: every fifth call finds it busy. */
static int post(const void *batch_, void *out, const twill_task *task)
{
    const twill_batch *batch = batch_;
    shipper *me = task->context;
    (void)out;
    if (++me->calls % 5 == 2)
        return BUSY;
    me->received += batch->count;
    return 0;
}

static twill_ns is_it_worth_it(int code, const void *out, const twill_task *task)
{
    (void)out, (void)task;
    return code == PERMANENT ? TWILL_RETRY_NEVER : 0;
}

/* One batch. Retries wait here, on the batcher's own worker: who logs is not held up before
   `capacity` lines are waiting. task->until ends every wait when the batcher is told to stop. */
static int ship(twill_batch *batch, const twill_task *task)
{
    shipper *me = task->context;
    twill_retry_report report;
    if (twill_rate_limiter_acquire_until(&me->limit, 1, task->until) != TWILL_OK)
        return -1;
    (void)twill_retry_call(batch, NULL, post,
                           &(twill_retry_options){.max_attempts = 5,
                                                  .base = TWILL_MS(1),
                                                  .until = task->until,
                                                  .context = me,
                                                  .budget = &me->budget,
                                                  .after_failure = is_it_worth_it},
                           &report);
    return report.status == TWILL_OK ? 0 : report.code ? report.code : -1;
}

/* Once for each accepted line, however it ended: from here on it is ours again. */
static void line_ended(void *line, const twill_outcome *outcome, void *result,
                       const twill_task *task)
{
    shipper *me = task->context;
    (void)result;
    me->shipped += outcome->status == TWILL_OK;
    me->ended++;
    free(line);
}

/* A writer: goes on until it is told that it comes too late. The batcher keeps the address of the
   line, so each has memory of its own. */
static int write_lines(const twill_task *task)
{
    shipper *me = task->context;
    for (int k = 0; twill_shutdown_enter(me->stop) == TWILL_OK; k++) {
        char *line = malloc(64);
        twill_status status = line ? TWILL_OK : TWILL_NO_MEMORY;
        if (line) {
            (void)snprintf(line, 64, "writer %zu, line %d", task->index, k);
            status = twill_batcher_add(me->batcher, line, NULL); /* waits while it is full */
            me->accepted += status == TWILL_OK;
            if (status != TWILL_OK)
                free(line); /* refused: still ours */
        }
        twill_shutdown_leave(me->stop);
        if (status != TWILL_OK)
            return (int)status;
        if (task->index == 0 && k == STOP_AFTER)
            raise(SIGTERM); /* in real life a supervisor sends it */
    }
    return 0;
}

/* The hooks, last added first. */
static int drain(const twill_task *task)
{
    shipper *me = task->context;
    twill_status status = twill_batcher_stop(me->batcher, task->until, task->until, NULL);
    puts("drained");
    return (int)status;
}

static int disconnect(const twill_task *task)
{
    (void)task;
    puts("disconnected");
    return 0;
}

int main(void)
{
    static shipper me;
    twill_shutdown_report report;
    if (twill_shutdown_create(&me.stop, &(twill_shutdown_options){.exit_code = true}) != TWILL_OK ||
        twill_rate_limiter_init_per_second(&me.limit, 2000, 20) != TWILL_OK ||
        twill_batcher_create(&me.batcher, ship,
                             &(twill_batch_options){.run.context = &me,
                                                    .run.workers = 2,
                                                    .max_items = 50,
                                                    .linger = TWILL_MS(5),
                                                    .capacity = 500,
                                                    .on_item = line_ended}) != TWILL_OK)
        return 1;
    twill_shutdown_add(me.stop, "connection", disconnect, NULL, 0);
    twill_shutdown_add(me.stop, "batcher", drain, &me, 0);

    twill_status status =
        twill_parallel_for(WRITERS, write_lines,
                           &(twill_parallel_options){.run.workers = WRITERS, .run.context = &me});
    twill_shutdown_finish(me.stop, &report);
    printf("writers: %s, shutdown: %s, by signal %d\n", twill_status_name(status),
           twill_status_name(report.status), report.reason);
    printf("each accepted line has ended: %s, all were shipped: %s, none twice: %s\n",
           me.ended == me.accepted ? "yes" : "no", me.shipped == me.accepted ? "yes" : "no",
           me.received == me.shipped ? "yes" : "no");
    /* A hook that overran still uses what it was given: then leave without taking that away. */
    if (report.hooks_overran)
        twill_shutdown_exit(me.stop, 1);
    twill_batcher_destroy(me.batcher);
    twill_shutdown_destroy(me.stop);
    return 0;
}
