/* One worker, four tokens: a callback pushes while at most three items are inside that have not
   ended. What ended in its own burst before it counts: it is never told that nobody is left. */
#include "pipe_common.h"

static twill_pipeline *p;
static _Atomic int answer = TWILL_EMPTY;

static int sink(const void *in, void *out, const twill_task *task)
{
    int i = *(const int *)in, more = 5;
    (void)out;
    (void)task;
    if (i == 2)
        answer = (int)twill_pipeline_push(p, &more);
    atomic_fetch_add(&seen[i], 1);
    return 0;
}

int main(void)
{
    const twill_stage stage = {.work = sink, .kind = TWILL_STAGE_IN_ORDER, .drop = drop};
    twill_pipeline_report r;

    quiet();
    assert(twill_pipeline_create(
               &p, sizeof(int), &stage, 1,
               &(twill_pipeline_options){.tokens = 4, .run.workers = 1, .report = &r}) == TWILL_OK);
    for (int i = 0; i < 5; i++)
        assert(twill_pipeline_push(p, &i) == TWILL_OK);
    while (answer == TWILL_EMPTY) /* not closed before it has pushed */
        twill_sleep(twill_within(TWILL_US(1)));
    assert(twill_pipeline_join(p) == TWILL_OK);
    assert(answer == TWILL_OK);
    assert(twill_pipeline_destroy(p) == TWILL_OK);
    books(&r);
    assert(r.run.done == 6);
    return 0;
}
