/* event_loop.c - a poll loop that never blocks on work: completions of a pool come to it through a
   pipe.

   Each task's on_done writes one pointer into the pipe: that is all it may do, since it runs on
   the worker, before the future wakes. The loop polls the pipe beside its other descriptors (here a
   second pipe, on which a "client" sends requests), and takes answers and requests as they come.
   The pipe never fills: there are fewer requests than it holds messages.

   TEST-RUN:
 */
#define TWILL_IMPLEMENTATION
#include "twill_worker_pool.h"

#include <poll.h>
#include <stdio.h>
#include <unistd.h>

enum { REQUESTS = 20 };

typedef struct request {
    int number;
    long answer;
} request;

static int done_pipe[2], client_pipe[2];

/* the slow part, on a worker */
static int work_out(void *arg, void *result, const twill_task *task)
{
    request *r = arg;
    long sum = 0;

    (void)result, (void)task;
    for (int i = 1; i <= r->number * 1000; i++)
        sum += i;
    r->answer = sum;
    return r->number % 7 == 6; /* some fail */
}

/* on the worker: tells the loop */
static void tell_loop(const twill_outcome *outcome, void *result, const twill_task *task)
{
    const twill_outcome *end = outcome;
    struct {
        request *request;
        twill_status status;
    } message = {end->key, end->status};

    (void)result, (void)task;
    if (write(done_pipe[1], &message, sizeof message) != (ssize_t)sizeof message)
        perror("write");
}

static int send_requests(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    for (int i = 0; i < REQUESTS; i++)
        if (write(client_pipe[1], &i, sizeof i) != (ssize_t)sizeof i)
            return 1;
    return 0;
}

static bool accept_request(twill_pool *pool, request *requests)
{
    int number;
    request *r;

    if (read(client_pipe[0], &number, sizeof number) != (ssize_t)sizeof number)
        return false;
    r = &requests[number];
    r->number = number;
    /* the loop must not wait: with room for all, it never does */
    return twill_pool_try_submit(pool, work_out, r, NULL,
                                 &(twill_submit_options){.key = r, .on_done = tell_loop}) ==
           TWILL_OK;
}

int main(void)
{
    static request requests[REQUESTS];
    struct pollfd fds[2];
    int answered = 0, failed = 0;
    long total = 0;
    twill_pool *pool;

    if (pipe(done_pipe) != 0 || pipe(client_pipe) != 0 ||
        twill_pool_create(&pool, &(twill_pool_options){.run.workers = 3}) != TWILL_OK)
        return 1;
    if (twill_pool_submit(pool, send_requests, NULL, NULL, NULL) != TWILL_OK)
        return 1;
    fds[0] = (struct pollfd){.fd = client_pipe[0], .events = POLLIN};
    fds[1] = (struct pollfd){.fd = done_pipe[0], .events = POLLIN};
    while (answered < REQUESTS) {
        if (poll(fds, 2, -1) < 0)
            return 1;
        if ((fds[0].revents & POLLIN) && !accept_request(pool, requests))
            return 1;
        if (fds[1].revents & POLLIN) {
            struct {
                request *request;
                twill_status status;
            } message;

            if (read(done_pipe[0], &message, sizeof message) != (ssize_t)sizeof message)
                return 1;
            answered++;
            failed += message.status != TWILL_OK;
            total += message.request->answer;
        }
    }
    printf("%d answers, %d of them failed, total %ld\n", answered, failed, total);
    return twill_pool_destroy(pool) != TWILL_OK;
}
