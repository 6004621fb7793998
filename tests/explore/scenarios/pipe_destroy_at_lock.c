/* A destroy that begins while two pushes stand before the lock: both are served, however late, and
   the memory goes after they have left. */
#include "pipe_common.h"

static int count(const void *in, void *out, const twill_task *task)
{
    (void)out;
    (void)task;
    atomic_fetch_add(&seen[*(const int *)in], 1);
    return 0;
}

int main(void)
{
    const twill_stage stage = {.work = count, .kind = TWILL_STAGE_SERIAL, .drop = drop};
    struct side a = {.item = 0}, b = {.item = 1, .until = twill_within(TWILL_US(100))};
    twill_pipeline_report r;
    twill_pipeline *p;

    quiet();
    assert(twill_pipeline_create(
               &p, sizeof(int), &stage, 1,
               &(twill_pipeline_options){.run.workers = 1, .tokens = 1, .report = &r}) == TWILL_OK);
    twill__lock(&p->lock);
    go(&a, push_one, p);
    go(&b, push_one, p);
    twill__crew_call(&p->crew, 1);
    while (atomic_load(&p->lock) / TWILL__WAITER < 3) /* until they stand there, and the worker */
        twill__yield();
    twill__unlock(&p->lock);
    assert(twill_pipeline_destroy(p) == TWILL_OK);
    end(&a);
    end(&b);
    assert(a.status == TWILL_OK || a.status == TWILL_CLOSED);
    assert(b.status == TWILL_OK || b.status == TWILL_CLOSED || b.status == TWILL_TIMEOUT);
    books(&r);
    assert(seen[0] + dropped[0] == (a.status == TWILL_OK));
    assert(seen[1] + dropped[1] == (b.status == TWILL_OK));
    return 0;
}
