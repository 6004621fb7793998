/* Exercise: fan-out/fan-in.
 *
 *     cc -std=c11 -pthread -I patterns examples/exercises/fan_out_fan_in.c && ./a.out
 *     make exercises E=fan_out_fan_in
 *
 * For n = 1000, 2000, ..., 10000 compute the sum of i * i for 0 <= i < n: ten tasks on four
 * workers. Print a line for each as it arrives, whatever its place, then an empty line and the
 * total:
 *
 *     n=3000: 8995500500
 *     n=1000: 332833500
 *     ...
 *
 *     Aggregate total: 1008140842500
 *
 * Hints: twill_fan_out_fan_in runs `process` on its workers and `aggregate` on the thread that
 * called it, one at a time: which of them needs a lock? outcome->index says which item a result
 * belongs to. How large is the largest sum, and which type holds it?
 */
#define TWILL_IMPLEMENTATION
#include "twill_fan_out_fan_in.h"

#include <inttypes.h>
#include <stdio.h>

enum { TASKS = 10 };

typedef struct job { /* what the callbacks find behind task->context */
    uint64_t n[TASKS];
    uint64_t total;
} job;

/* One task: *in is n, the sum goes to *out. */
static int sum_of_squares(const void *in, void *out, const twill_task *task)
{
    (void)in, (void)out, (void)task;
    /* TODO: compute the sum */
    return 0;
}

/* One result: print it and add it up. */
static int collect(const void *result, const twill_outcome *outcome, const twill_task *task)
{
    (void)result, (void)outcome, (void)task;
    /* TODO: print the line, add to the total */
    return 0;
}

int main(void)
{
    job all = {{0}, 0};
    for (size_t k = 0; k < TASKS; k++)
        all.n[k] = (k + 1) * 1000;
    /* TODO: call twill_fan_out_fan_in with four workers */
    (void)all, (void)sum_of_squares, (void)collect;
    puts("not solved yet");
    return 0;
}
