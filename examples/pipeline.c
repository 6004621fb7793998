/* pipeline: fetch with ten workers, process on the CPUs, save one at a time. Items stream: one is
 * in the last stage while the next is in the first. A page that cannot be read goes to an error
 * sink, with its stage and code. At the end the same three steps once more, streamed and with a
 * barrier between them.
 *
 *     cc -std=c11 -pthread -I patterns examples/pipeline.c && ./a.out
 *
 * TEST-RUN:
 */
#include <stdio.h>

#define TWILL_IMPLEMENTATION
#include "twill_pipeline.h"

enum { ITEMS = 20, STEP_MS = 4 };

typedef struct page {
    int number, bytes;
} page;

static int fetch(const void *in, void *out, const twill_task *task)
{
    page *p = out;
    twill_sleep(twill_within_or_cancelled(TWILL_MS(STEP_MS), task->until.cancel));
    p->number = *(const int *)in;
    p->bytes = 100 + p->number;
    return 0;
}

static int process(const void *in, void *out, const twill_task *task)
{
    twill_sleep(twill_within_or_cancelled(TWILL_MS(STEP_MS), task->until.cancel));
    *(page *)out = *(const page *)in;
    ((page *)out)->bytes *= 2;
    return ((const page *)in)->number == 7 ? 42 : 0; /* page 7 cannot be read */
}

static int save(const void *in, void *out, const twill_task *task)
{
    (void)out;
    twill_sleep(twill_within_or_cancelled(TWILL_MS(STEP_MS), task->until.cancel));
    *(long *)task->context += ((const page *)in)->bytes;
    return 0;
}

static int number(void *out, const twill_task *task)
{
    *(int *)out = (int)task->index;
    return task->index == ITEMS ? twill_task_stop(task) : 0;
}

static void error_sink(size_t stage, void *in, int code, const twill_task *task)
{
    (void)in;
    printf("item %zu failed in stage %zu with code %d\n", task->index, stage, code);
}

/* Three equal stages of one worker each: (n + 2) steps of time streamed, 3 n with a barrier. */
static twill_ns timed(bool barrier)
{
    long sum = 0;
    const twill_stage stages[] = {
        {.name = "fetch", .work = fetch, .out_size = sizeof(page), .kind = TWILL_STAGE_IN_ORDER},
        {.name = "process",
         .work = process,
         .out_size = sizeof(page),
         .keep_going = true,
         .kind = TWILL_STAGE_IN_ORDER},
        {.name = "save", .work = save, .kind = TWILL_STAGE_IN_ORDER, .context = &sum},
    };
    twill_ns since = twill_now();
    if (barrier) {
        int items[ITEMS];
        page fetched[ITEMS], processed[ITEMS];
        for (int i = 0; i < ITEMS; i++)
            items[i] = i;
        (void)twill_pipeline_map(items, sizeof(int), fetched, sizeof(page), ITEMS, &stages[0], 1,
                                 NULL);
        (void)twill_pipeline_map(fetched, sizeof(page), processed, sizeof(page), ITEMS, &stages[1],
                                 1, NULL);
        for (int i = 0; i < ITEMS; i++)
            twill_sleep(twill_within(TWILL_MS(STEP_MS)));
    } else {
        (void)twill_pipeline_run(number, sizeof(int), stages, 3, NULL);
    }
    return twill_now() - since;
}

int main(void)
{
    long sum = 0;
    twill_pipeline_report report;
    const twill_stage stages[] = {
        {.name = "fetch", .work = fetch, .out_size = sizeof(page), .workers = 10},
        {.name = "process", .work = process, .out_size = sizeof(page), .keep_going = true},
        {.name = "save", .work = save, .kind = TWILL_STAGE_SERIAL, .context = &sum},
    };
    twill_status status =
        twill_pipeline_run(number, sizeof(int), stages, 3,
                           &(twill_pipeline_options){.report = &report, .dead_letter = error_sink});
    printf("%s: %zu items, %zu done, %zu failed, %ld bytes\n", twill_status_name(status),
           report.run.total, report.run.done, report.run.failed, sum);
    printf("streamed in less than two thirds of the barrier's time: %s\n",
           timed(false) * 3 < timed(true) * 2 ? "yes" : "no");
    return !(report.run.done == ITEMS - 1 && report.run.first_error.index == 7);
}
