/* Solution: fan-out/fan-in. The task is in ../fan_out_fan_in.c. */
#define TWILL_IMPLEMENTATION
#include "twill_fan_out_fan_in.h"

#include <inttypes.h>
#include <stdio.h>

enum { TASKS = 10 };

typedef struct job {
    uint64_t n[TASKS];
    uint64_t total;
} job;

/* FAN OUT. Four of these may run at once. Each has an item and a result slot of its own and touches
   nothing else: no lock, no race.

   64 bits are needed: the sum passes 2^31 at n = 1862 and 2^32 at n = 2345. A program with int
   would print ten lines and be wrong in nine; one with unsigned would say 3118495236 for the total,
   and nothing would tell you. */
static int sum_of_squares(const void *in, void *out, const twill_task *task)
{
    uint64_t n = *(const uint64_t *)in, sum = 0;
    (void)task;
    for (uint64_t i = 0; i < n; i++)
        sum += i * i;
    *(uint64_t *)out = sum;
    return 0; /* anything else: this task has failed, and the others go on */
}

/* FAN IN. Always on the thread that called twill_fan_out_fan_in, for one result after the other: so
   the total needs no lock, either, although ten tasks feed it. Everything that a task wrote before
   it ended is visible here.

   The results come in the order in which the tasks END. What ties one to its item is not its place
   in the output but outcome->index. */
static int collect(const void *result, const twill_outcome *outcome, const twill_task *task)
{
    job *all = task->context;
    if (outcome->status != TWILL_OK)
        return 0; /* then there is no result */
    uint64_t sum = *(const uint64_t *)result;
    printf("n=%" PRIu64 ": %" PRIu64 "\n", all->n[outcome->index], sum);
    all->total += sum;
    return 0;
}

int main(void)
{
    job all = {{0}, 0};
    for (size_t k = 0; k < TASKS; k++)
        all.n[k] = (k + 1) * 1000;

    /* The call returns when every task has ended and every result has been collected. Threads that
       cannot be had make it slower, not wrong: with none at all the caller runs the tasks
       itself. */
    twill_status status =
        twill_fan_out_fan_in(all.n, sizeof all.n[0], TASKS, sum_of_squares, sizeof(uint64_t),
                             collect, &(twill_fan_options){.run.workers = 4, .run.context = &all});
    if (status != TWILL_OK) {
        fprintf(stderr, "%s\n", twill_status_text(status));
        return 1;
    }
    printf("\nAggregate total: %" PRIu64 "\n", all.total);
    return 0;
}
