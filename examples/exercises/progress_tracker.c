/* Exercise: a progress tracker.
 *
 *     cc -std=c11 -pthread -I patterns examples/exercises/progress_tracker.c && ./a.out
 *     make exercises E=progress_tracker
 *
 * Twenty items, numbered 0 to 19; each sleeps 0.1 s and gives the square of its number. Five of
 * them run at once. After each one that has ended, whichever it is, draw the line anew with
 *
 *     \rProgress: 7/20 (35%)
 *
 * so that one sees 1/20 (5%), 2/20 (10%), ... 20/20 (100%), each once and none out of turn. Then a
 * new line, and the results in the order of the items:
 *
 *     Results: [0, 1, 4, 9, ..., 361]
 *
 * It takes 0.4 seconds. Hints: two threads that count and then print can print 8 before 7. Either
 * counting and printing are one step under a lock, or one thread prints for all. twill_sleep with
 * twill_within(TWILL_MS(100)) sleeps.
 */
#define TWILL_IMPLEMENTATION
#include "twill_fan_out_fan_in.h"
#include "twill_parallel_map.h"

#include <stdio.h>

enum { ITEMS = 20, WORKERS = 5 };

static int square(const void *in, void *out, const twill_task *task)
{
    (void)in, (void)out, (void)task;
    /* TODO: sleep, then give the square */
    return 0;
}

int main(void)
{
    int items[ITEMS];
    for (int i = 0; i < ITEMS; i++)
        items[i] = i;
    (void)items, (void)square;
    /* TODO: run all items on WORKERS workers; draw the progress; print the results */
    puts("not solved yet");
    return 0;
}
