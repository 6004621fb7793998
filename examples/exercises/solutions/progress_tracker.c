/* Solution: a progress tracker. The task is in ../progress_tracker.c. */
#define TWILL_IMPLEMENTATION
#include "twill_fan_out_fan_in.h"

#include <stdio.h>

enum { ITEMS = 20, WORKERS = 5 };

typedef struct progress {
    int results[ITEMS];
    int done;
} progress;

/* On a worker. task->until is how long this item may take: given to every wait, it ends the sleep
   at once when somebody cancels the run. Here nobody does. */
static int square(const void *in, void *out, const twill_task *task)
{
    int i = *(const int *)in;
    twill_sleep(twill_within_or_cancelled(TWILL_MS(100), task->until.cancel));
    *(int *)out = i * i;
    return 0;
}

/* The line must count 1, 2, 3 ... without a gap and never go back. The classic mistake:

       done++;                          // five threads at once: two of them may read the same value
       printf("%d/20", done);           // ... and even with an atomic done, the thread that counted
                                        // 8 may reach printf before the one that counted 7

   Counting and printing have to be ONE step. Either both are done under one lock, or one thread
   does them for all. This is the second way: outcomes are collected on the calling thread, one at a
   time, as they arrive. So `done` is an ordinary int.

   A real program with a million items would not print a million times: twill_progress_tracker.h
   counts with one relaxed addition and lets one thread draw, ten times a second. */
static int show(const void *result, const twill_outcome *outcome, const twill_task *task)
{
    progress *all = task->context;
    if (outcome->status == TWILL_OK)
        all->results[outcome->index] = *(const int *)result; /* its place, whenever it comes */
    all->done++;
    printf("\rProgress: %d/%d (%d%%)", all->done, ITEMS, all->done * 100 / ITEMS);
    fflush(stdout); /* without a newline nothing would be seen until the end */
    return 0;
}

int main(void)
{
    progress all = {{0}, 0};
    int items[ITEMS];
    for (int i = 0; i < ITEMS; i++)
        items[i] = i;

    /* Twenty sleeps of 0.1 s, five at a time: four rounds, 0.4 s. */
    twill_status status =
        twill_fan_out_fan_in(items, sizeof items[0], ITEMS, square, sizeof(int), show,
                             &(twill_fan_options){.run.workers = WORKERS, .run.context = &all});
    if (status != TWILL_OK) {
        fprintf(stderr, "%s\n", twill_status_text(status));
        return 1;
    }
    printf("\nResults: [");
    for (int i = 0; i < ITEMS; i++)
        printf("%s%d", i ? ", " : "", all.results[i]);
    printf("]\n");
    return 0;
}
