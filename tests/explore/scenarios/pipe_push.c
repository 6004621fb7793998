/* Two pushers and a close, one token: who is told OK has pushed, who is told CLOSED keeps his
   item. */
#include "pipe_common.h"

static int count_in(const void *in, void *out, const twill_task *task)
{
    (void)out;
    (void)task;
    atomic_fetch_add(&seen[*(const int *)in], 1);
    return 0;
}

int main(void)
{
    const twill_stage stage = {.work = count_in, .kind = TWILL_STAGE_SERIAL, .drop = drop};
    struct side a = {.item = 1}, b = {.item = 2};
    twill_pipeline_report r;
    twill_pipeline *p;

    quiet();
    assert(twill_pipeline_create(&p, sizeof(int), &stage, 1,
                                 &(twill_pipeline_options){.tokens = 1, .report = &r}) == TWILL_OK);
    go(&a, push_one, p);
    go(&b, push_one, p);
    if (choose(2))
        assert(twill_pipeline_close(p) == TWILL_OK);
    else
        assert(twill_pipeline_join(p) == TWILL_OK);
    end(&a);
    end(&b);
    assert(twill_pipeline_join(p) == TWILL_OK);
    assert(twill_pipeline_destroy(p) == TWILL_OK);
    books(&r);
    assert(seen[1] == (a.status == TWILL_OK) && seen[2] == (b.status == TWILL_OK));
    return 0;
}
