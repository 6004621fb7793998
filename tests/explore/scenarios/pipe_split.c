/* One to many before an in-order stage, through a parallel one: numbers and sub-numbers rise. */
#include "pipe_common.h"

static int many(const void *in, void *out, const twill_task *task)
{
    (void)out;
    for (int k = 0; k < 2 - *(const int *)in; k++) {
        int piece = *(const int *)in * 10 + k;
        assert(twill_pipeline_emit(task, &piece) == TWILL_OK);
    }
    return *(const int *)in == 2 ? twill_pipeline_filter(task) : 0;
}

static int rise(const void *in, void *out, const twill_task *task)
{
    int i = *(const int *)in;
    (void)out;
    assert(i > last && i / 10 == (int)task->index);
    last = i;
    return 0;
}

int main(void)
{
    const twill_stage stages[] = {
        {.work = many, .out_size = sizeof(int), .workers = 2, .outputs_max = 2},
        {.work = pass_on, .out_size = sizeof(int), .workers = 2},
        {.work = rise, .kind = TWILL_STAGE_IN_ORDER},
    };
    twill_pipeline_report r;

    quiet();
    assert(twill_pipeline_run(
               number, sizeof(int), stages, 3,
               &(twill_pipeline_options){.tokens = 2, .run.workers = 2, .report = &r}) == TWILL_OK);
    assert(r.delivered == 3 && r.run.done == 3 && r.filtered == 1);
    return 0;
}
