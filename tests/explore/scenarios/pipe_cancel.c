/* A token fires while items run, wait, or have ended: each is counted once, and whoever joins hears
   it. */
#include "pipe_common.h"

static twill_cancel cancel;

static void fire(void *side_)
{
    (void)side_;
    twill_cancel_fire(&cancel, 1);
}

static int waits(const void *in, void *out, const twill_task *task)
{
    if (*(const int *)in == 1)
        (void)twill_sleep(twill_within_or_cancelled(TWILL_MS(1), task->until.cancel));
    *(int *)out = *(const int *)in;
    return 0;
}

int main(void)
{
    const twill_stage stages[] = {
        {.work = waits, .out_size = sizeof(int), .workers = 2, .drop = drop},
        {.work = deliver, .kind = TWILL_STAGE_IN_ORDER, .drop = drop},
    };
    struct side side = {.item = 0};
    twill_pipeline_report r;
    twill_status status;

    quiet();
    go(&side, fire, NULL);
    status = twill_pipeline_run(
        number, sizeof(int), stages, 2,
        &(twill_pipeline_options){
            .tokens = 2, .run.workers = 2, .run.until.cancel = &cancel, .report = &r});
    end(&side);
    assert(status == TWILL_OK ? r.run.done == 3 : status == TWILL_CANCELLED);
    books(&r);
    twill_cancel_detach(&cancel);
    return 0;
}
