/* Exercise: a pipeline.
 *
 *     cc -std=c11 -pthread -I patterns examples/exercises/pipeline.c && ./a.out
 *     make exercises E=pipeline
 *
 * The numbers 1 to 40 go through three steps: "fetch" takes 20 ms and gives the number's square (so
 * ten of them should run at once); "check" throws away the squares that 3 divides; "print" prints
 * what is left, a line each, in the order of the numbers:
 *
 *     1 -> 1
 *     2 -> 4
 *     4 -> 16
 *     ...
 *     40 -> 1600
 *
 * It takes about 0.1 s; one after the other it would take 0.8 s. In what order do the squares come
 * out of "fetch"? Hints: twill_pipeline_run, three stages; a source that says when it is over; a
 * stage that gives nothing says so. Which of the stages must be IN_ORDER, and which must not?
 */
#define TWILL_IMPLEMENTATION
#include "twill_pipeline.h"

#include <stdio.h>

enum { NUMBERS = 40 };

typedef struct pair {
    int number, square;
} pair;

static int count(void *out, const twill_task *task)
{
    (void)out;
    /* TODO: 1 to NUMBERS, then the end */
    return twill_task_stop(task);
}

static int fetch(const void *in, void *out, const twill_task *task)
{
    (void)in, (void)out, (void)task;
    /* TODO: twill_sleep, then the pair */
    return 0;
}

int main(void)
{
    (void)count, (void)fetch;
    /* TODO */
    puts("not solved yet");
    return 0;
}
