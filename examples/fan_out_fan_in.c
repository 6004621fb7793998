/* Exercise 1 of the course: ten sums of squares on four workers. Each result is
   collected as it arrives, without a lock. After that one of the ten fails, and a race of three
   replicas takes the fastest answer.

   The sums are printed in index order, since the order of arrival differs from run to run. */
#include <inttypes.h>
#include <stdio.h>

#define TWILL_IMPLEMENTATION
#include "twill_fan_out_fan_in.h"

enum { TASKS = 10 };

struct answer { /* what the calling thread collects; plain variables */
    int64_t sum[TASKS], total;
    size_t arrived, failed;
    const char *winner;
};

/* On a worker. Not 0: this task has failed. */
static int sum_of_squares(const void *in, void *out, const twill_task *task)
{
    int64_t n = *(const int64_t *)in, sum = 0;
    (void)task;
    if (n < 0)
        return 22;
    for (int64_t i = 0; i < n; i++)
        sum += i * i;
    *(int64_t *)out = sum;
    return 0;
}

/* On the calling thread, one at a time, as results arrive. */
static int collect(const void *result, const twill_outcome *outcome, const twill_task *task)
{
    struct answer *answer = task->context;
    if (outcome->status == TWILL_OK) {
        answer->sum[outcome->index] = *(const int64_t *)result;
        answer->total += answer->sum[outcome->index];
        answer->arrived++;
    } else {
        printf("task %zu failed with code %d\n", outcome->index, outcome->code);
        answer->failed++;
    }
    return 0;
}

static int ask_replica(const void *in, void *out, const twill_task *task)
{
    const int64_t *delay = in; /* ms; negative: this one is down */
    (void)out;
    if (*delay < 0)
        return 1;
    if (twill_sleep(twill_within_or_cancelled(TWILL_MS(*delay), task->until.cancel)) != TWILL_OK)
        return twill_task_skip(task); /* another one was faster */
    return 0;
}

static int take_winner(const void *result, const twill_outcome *outcome, const twill_task *task)
{
    static const char *names[] = {"north", "south", "west"};
    (void)result;
    if (outcome->status == TWILL_OK)
        ((struct answer *)task->context)->winner = names[outcome->index];
    return 0;
}

int main(void)
{
    int64_t n[TASKS], replicas[3] = {-1, 10000, 20};
    struct answer answer = {.total = 0};
    twill_fan_options options = {.run.workers = 4, .run.context = &answer};
    twill_status status;

    for (int i = 0; i < TASKS; i++)
        n[i] = 1000 * (i + 1);
    status = twill_fan_out_fan_in(n, sizeof *n, TASKS, sum_of_squares, sizeof(int64_t), collect,
                                  &options);
    for (int i = 0; i < TASKS; i++)
        printf("%6" PRId64 " -> %" PRId64 "\n", n[i], answer.sum[i]);
    printf("total %" PRId64 ", %s\n", answer.total, twill_status_name(status));
    if (answer.total != 1008140842500)
        return 1;

    /* one fails: it is seen, and the other nine are summed */
    answer = (struct answer){.total = 0};
    n[4] = -1;
    status = twill_fan_out_fan_in(n, sizeof *n, TASKS, sum_of_squares, sizeof(int64_t), collect,
                                  &options);
    printf("total of %zu: %" PRId64 ", %s\n", answer.arrived, answer.total,
           twill_status_name(status));

    /* the first success wins; a failure ends no race, and the slow one is told */
    options.goal = TWILL_FAN_FIRST_OK;
    status =
        twill_fan_out_fan_in(replicas, sizeof *replicas, 3, ask_replica, 0, take_winner, &options);
    printf("fastest: %s, %s\n", answer.winner, twill_status_name(status));
    return 0;
}
