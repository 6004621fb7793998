/* A destroy that begins while a join and a stop stand before the lock: both have their answers, and
   the memory goes after they have left, however often they take the lock. */
#include "pipe_common.h"

static int count(const void *in, void *out, const twill_task *task)
{
    (void)out;
    (void)task;
    atomic_fetch_add(&seen[*(const int *)in], 1);
    return 0;
}

static void join_it(void *side_)
{
    struct side *side = side_;
    side->status = twill_pipeline_join(side->pipeline);
}

static void stop_it(void *side_)
{
    struct side *side = side_;
    side->status = twill_pipeline_stop(side->pipeline, side->until, side->until, NULL);
}

int main(void)
{
    const twill_stage stage = {.work = count, .kind = TWILL_STAGE_SERIAL, .drop = drop};
    struct side a = {0}, b = {.until = twill_within(TWILL_US(100))};
    twill_pipeline_report r;
    twill_pipeline *p;
    int first = 0;

    quiet();
    assert(twill_pipeline_create(
               &p, sizeof(int), &stage, 1,
               &(twill_pipeline_options){.run.workers = 1, .tokens = 1, .report = &r}) == TWILL_OK);
    assert(twill_pipeline_push(p, &first) == TWILL_OK);
    twill__lock(&p->lock);
    go(&a, join_it, p);
    go(&b, stop_it, p);
    twill__crew_call(&p->crew, 1);
    while (atomic_load(&p->lock) / TWILL__WAITER < 3) /* until they stand there, and the worker */
        twill__yield();
    twill__unlock(&p->lock);
    assert(twill_pipeline_destroy(p) == TWILL_OK);
    end(&a);
    end(&b);
    books(&r);
    assert(seen[0] + dropped[0] == 1);
    return 0;
}
