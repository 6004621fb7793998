/* Item 0 fails, item 1 would wait for ever: it is told, or not begun, whichever comes first. */
#include "explore.h"
#include "pipe_common.h"

static int fails_or_waits(const void *in, void *out, const twill_task *task)
{
    (void)out;
    if (*(const int *)in == 0) {
        (void)twill_sleep(twill_within(1)); /* the other one is taken meanwhile, if not yet begun */
        return 5;
    }
    assert(twill_sleep((twill_until){0, task->until.cancel}) == TWILL_CANCELLED);
    EXPLORE_REACHED("told");
    return 6;
}

int main(void)
{
    const twill_stage stage = {.work = fails_or_waits, .workers = 2, .drop = drop};
    twill_pipeline_report r;

    EXPLORE_MUST_REACH("told");
    quiet();
    items = 2;
    assert(twill_pipeline_run(number, sizeof(int), &stage, 1,
                              &(twill_pipeline_options){
                                  .tokens = 2, .run.workers = 2, .report = &r}) == TWILL_FAILED);
    assert(r.run.first_error.index == 0 && r.run.first_error.code == 5);
    books(&r);
    return 0;
}
