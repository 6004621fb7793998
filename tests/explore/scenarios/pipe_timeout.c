/* A push with a deadline meets the return of the only token; then the destroy. */
#include "pipe_common.h"

static int nap(const void *in, void *out, const twill_task *task)
{
    (void)out;
    (void)task;
    twill_sleep(twill_within(TWILL_US(10)));
    atomic_fetch_add(&seen[*(const int *)in], 1);
    return 0;
}

int main(void)
{
    const twill_stage stage = {.work = nap, .drop = drop, .workers = 1};
    struct side a = {.item = 1};
    twill_pipeline_report r;
    twill_pipeline *p;
    int zero = 0;

    quiet();
    assert(twill_pipeline_create(&p, sizeof(int), &stage, 1,
                                 &(twill_pipeline_options){.tokens = 1, .report = &r}) == TWILL_OK);
    assert(twill_pipeline_push(p, &zero) == TWILL_OK);
    a.until = twill_within(TWILL_US(10));
    go(&a, push_one, p);
    end(&a);
    assert(a.status == TWILL_OK || a.status == TWILL_TIMEOUT);
    assert(twill_pipeline_destroy(p) == TWILL_OK);
    books(&r);
    assert(seen[0] + dropped[0] == 1);
    assert(seen[1] + dropped[1] == (a.status == TWILL_OK));
    return 0;
}
