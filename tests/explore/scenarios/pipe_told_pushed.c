/* As pipe_told, but neither worker has had anything of an item before: nothing tells of them which
   one they are about to begin. */
#include "explore.h"
#include "pipe_common.h"

static int fails_or_waits(const void *in, void *out, const twill_task *task)
{
    (void)out;
    if (*(const int *)in == 0)
        return 5;
    assert(twill_sleep((twill_until){0, task->until.cancel}) == TWILL_CANCELLED);
    EXPLORE_REACHED("told");
    return 6;
}

int main(void)
{
    const twill_stage stage = {.work = fails_or_waits, .workers = 2, .drop = drop};
    twill_pipeline_report r;
    twill_pipeline *p;

    EXPLORE_MUST_REACH("told");
    quiet();
    assert(twill_pipeline_create(
               &p, sizeof(int), &stage, 1,
               &(twill_pipeline_options){.tokens = 2, .run.workers = 2, .report = &r}) == TWILL_OK);
    for (int k = 0; k < 2; k++)
        if (twill_pipeline_push(p, &k) != TWILL_OK)
            break;
    assert(twill_pipeline_join(p) == TWILL_FAILED);
    assert(twill_pipeline_destroy(p) == TWILL_OK);
    assert(r.run.first_error.index == 0 && r.run.first_error.code == 5);
    books(&r);
    return 0;
}
