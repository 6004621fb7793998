/* Any set of items fails, at either stage: the error is the serial loop's, so is what comes out,
   and none that lies below it is told to give up. With six tokens a worker may have two items. */
#include "pipe_common.h"

static int fails[2], low = ITEMS_MOST;

static int may_fail(const void *in, void *out, const twill_task *task)
{
    int i = *(const int *)in;
    if (out)
        *(int *)out = i;
    for (int k = 0; k < 2; k++)
        if (twill_cancel_fired(task->until.cancel)) {
            assert(i > low);
            return -77;
        }
    if (fails[out == NULL] >> i & 1)
        return out ? i + 1 : i + 101;
    if (!out)
        return deliver(in, out, task);
    return 0;
}

int main(void)
{
    const twill_stage stages[] = {
        {.work = may_fail, .out_size = sizeof(int), .workers = 2, .drop = drop},
        {.work = may_fail, .kind = TWILL_STAGE_IN_ORDER, .drop = drop},
    };
    twill_pipeline_report r;
    twill_status status;

    quiet();
    fails[0] = choose(8);
    fails[1] = choose(2) * 2;
    for (int i = items; i-- > 0;)
        if ((fails[0] | fails[1]) >> i & 1)
            low = i;
    status = twill_pipeline_run(
        number, sizeof(int), stages, 2,
        &(twill_pipeline_options){.tokens = choose(2) ? 3 : 6, .run.workers = 2, .report = &r});
    assert(status == (low < items ? TWILL_FAILED : TWILL_OK));
    if (low < items) {
        assert(r.run.first_error.index == (size_t)low);
        assert(r.run.first_error.code == (fails[0] >> low & 1 ? low + 1 : low + 101));
    }
    books(&r);
    for (int i = 0; i < items; i++)
        assert(seen[i] == (i < low));
    return 0;
}
