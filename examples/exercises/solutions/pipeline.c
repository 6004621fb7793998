/* Solution: a pipeline. The task is in ../pipeline.c. */
#define TWILL_IMPLEMENTATION
#include "twill_pipeline.h"

#include <stdio.h>

enum { NUMBERS = 40 };

typedef struct pair {
    int number, square;
} pair;

/* One call at a time, numbers rising: no lock. It is called only when there is room: a slow printer
   slows the source down, and memory stays bounded whatever NUMBERS is. */
static int count(void *out, const twill_task *task)
{
    if (task->index == NUMBERS)
        return twill_task_stop(task); /* the end is said, not an item that means it */
    *(int *)out = (int)task->index + 1;
    return 0;
}

/* Ten at once, so they end in any order: printing here would mix the lines. */
static int fetch(const void *in, void *out, const twill_task *task)
{
    int n = *(const int *)in;
    if (twill_sleep(twill_within_or_cancelled(TWILL_MS(20), task->until.cancel)) != TWILL_OK)
        return twill_task_skip(task); /* told to stop: do not sleep on */
    *(pair *)out = (pair){n, n * n};
    return 0;
}

static int check(const void *in, void *out, const twill_task *task)
{
    *(pair *)out = *(const pair *)in;
    return ((pair *)out)->square % 3 == 0 ? twill_pipeline_filter(task) : 0;
}

/* IN_ORDER: by number, one at a time, whoever was ready first; what was filtered holds up
   nobody. */
static int print(const void *in, void *out, const twill_task *task)
{
    const pair *p = in;
    (void)out, (void)task;
    printf("%d -> %d\n", p->number, p->square);
    return 0;
}

int main(void)
{
    const twill_stage stages[] = {
        {.name = "fetch", .work = fetch, .out_size = sizeof(pair), .workers = 10},
        {.name = "check", .work = check, .out_size = sizeof(pair), .workers = 1},
        {.name = "print", .work = print, .kind = TWILL_STAGE_IN_ORDER},
    };
    twill_status status = twill_pipeline_run(count, sizeof(int), stages, 3, NULL);
    if (status != TWILL_OK)
        fprintf(stderr, "%s\n", twill_status_text(status));
    return status != TWILL_OK;
}
