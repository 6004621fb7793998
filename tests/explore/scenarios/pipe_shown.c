/* The last item of a burst, in the source or in a serial stage, waits until the one before it has
   come out: what is done is shown, though its hand is busy. Bursts are of 1 and 2 items. */
#include "pipe_common.h"

static int where;
static _Atomic uint32_t out_there;

static void wait_for_other(int here, size_t index)
{
    if (here == where && index == 2)
        while (!atomic_load(&out_there))
            twill__park(&out_there, 0, 0);
}

static int source(void *out, const twill_task *task)
{
    wait_for_other(0, task->index);
    return number(out, task);
}

static int middle(const void *in, void *out, const twill_task *task)
{
    wait_for_other(1, task->index);
    return pass_on(in, out, task);
}

static int tell(const void *in, void *out, const twill_task *task)
{
    int status = deliver(in, out, task);
    if (task->index == 1) {
        atomic_store(&out_there, 1);
        twill__wake(&out_there, INT_MAX);
    }
    return status;
}

int main(void)
{
    const twill_stage stages[] = {
        {.work = middle, .out_size = sizeof(int), .kind = TWILL_STAGE_SERIAL},
        {.work = tell, .kind = TWILL_STAGE_IN_ORDER},
    };
    twill_pipeline_report r;

    quiet();
    where = choose(2);
    assert(twill_pipeline_run(
               source, sizeof(int), stages, 2,
               &(twill_pipeline_options){.tokens = 6, .run.workers = 2, .report = &r}) == TWILL_OK);
    if (!(r.run.flags & TWILL_REPORT_DEGRADED))
        assert(r.run.done == 3);
    books(&r);
    return 0;
}
