/* parallel_io: a map whose items wait (for a server, a disk) wants more threads than CPUs, and an
 * end if the far side is slow.
 *
 *     cc -std=c11 -pthread -I patterns examples/parallel_io.c && ./a.out
 *
 * TEST-RUN:
 */
#define TWILL_IMPLEMENTATION
#include "twill_parallel_map.h"

#include <stdio.h>
#include <stdlib.h>

enum { REQUESTS = 40, WORKERS = 10 };

struct answer {
    int value;
};

/* Stands for a request: most of its time is waiting. The wait is given task->until, so it ends with
   the map: at its deadline, on a cancel, or when another item has failed. */
static int ask(const void *in, void *out, const twill_task *task)
{
    int request = *(const int *)in;
    const twill_ns *latency = task->context;
    twill_until until = task->until;
    twill_ns ready = twill_now() + *latency;
    if (until.deadline == 0 || ready < until.deadline)
        until.deadline = ready;
    twill_sleep(until);
    if (twill_task_cancelled(task))
        return twill_task_skip(task); /* not failed: given up */
    ((struct answer *)out)->value = 1000 + request;
    return 0;
}

static void expect(bool holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "wrong: %s\n", what);
        exit(1);
    }
}

int main(void)
{
    int requests[REQUESTS];
    struct answer answers[REQUESTS] = {{0}};
    for (int i = 0; i < REQUESTS; i++)
        requests[i] = i;

    twill_ns latency = TWILL_MS(10);
    twill_report report;
    twill_parallel_options options = {
        .run = {.workers = WORKERS, .context = &latency, .report = &report},
    };
    twill_status status;
    do { /* a machine that has more to do needs slower servers to show it */
        latency *= 2;
        status = twill_parallel_map(requests, sizeof *requests, answers, sizeof *answers, REQUESTS,
                                    ask, &options);
        expect(status == TWILL_OK, twill_status_text(status));
        for (int i = 0; i < REQUESTS; i++)
            expect(answers[i].value == 1000 + i, "each answer stands at its request");
    } while (report.wall > REQUESTS * latency / 2 && latency < TWILL_MS(500));
    printf("%d requests of %.0f ms on %d threads: %zu answers in %.0f ms (one by one: %.0f ms)\n",
           REQUESTS, (double)latency / 1e6, WORKERS, report.done, (double)report.wall / 1e6,
           (double)(REQUESTS * latency) / 1e6);
    expect(report.wall <= REQUESTS * latency / 2, "the requests wait at the same time");

    /* Now the server takes an hour, and the caller has 50 ms. */
    latency = TWILL_SEC(3600);
    options.run.until = twill_within(TWILL_MS(50));
    status = twill_parallel_map(requests, sizeof *requests, answers, sizeof *answers, REQUESTS, ask,
                                &options);
    printf("the same with a server that sleeps: %s, %zu of %zu skipped\n",
           twill_status_text(status), report.skipped, report.total);
    expect(status == TWILL_TIMEOUT && report.skipped == REQUESTS, "the deadline ends the map");
    expect(report.wall < TWILL_SEC(30), "and its sleepers");
    return 0;
}
