/* A push, or a join, gives up at the moment when the pipeline is destroyed: the memory stays until
   it has left. */
#include "pipe_common.h"

static int waits(const void *in, void *out, const twill_task *task)
{
    (void)out;
    atomic_fetch_add(&seen[*(const int *)in], 1);
    (void)twill_sleep(twill_within_or_cancelled(TWILL_SEC(1), task->until.cancel));
    return 0;
}

static _Atomic uint32_t over;
static int joins;

static void waiting(void *side_)
{
    struct side *side = side_;
    if (joins)
        side->status = twill_pipeline_join_until(side->pipeline, side->until);
    else
        push_one(side);
    atomic_store(&over, 1);
}

/* Whether it waits inside, or helps: only then a destroy may come. */
static bool inside(twill_pipeline *p)
{
    bool found;
    twill__lock(&p->lock);
    found = p->pushers.first || p->joiners.first || p->helpers.first;
    twill__unlock(&p->lock);
    return found;
}

int main(void)
{
    const twill_stage stage = {.work = waits, .kind = TWILL_STAGE_SERIAL, .drop = drop};
    struct side a = {.item = 1, .until = twill_within(TWILL_US(100))};
    twill_pipeline_report r;
    twill_pipeline *p;
    int zero = 0;

    quiet();
    assert(twill_pipeline_create(
               &p, sizeof(int), &stage, 1,
               &(twill_pipeline_options){.run.workers = 1, .tokens = 1, .report = &r}) == TWILL_OK);
    assert(twill_pipeline_push(p, &zero) == TWILL_OK);
    joins = choose(2);
    go(&a, waiting, p);
    (void)twill_sleep(a.until);
    while (!inside(p) && !atomic_load(&over))
        twill_sleep(twill_within(TWILL_US(100)));
    assert(twill_pipeline_destroy(p) == TWILL_OK);
    end(&a);
    assert(a.status == TWILL_OK || a.status == TWILL_TIMEOUT ||
           a.status == (joins ? TWILL_CANCELLED : TWILL_CLOSED));
    books(&r);
    assert(seen[0] + dropped[0] == 1 && seen[1] + dropped[1] == (!joins && a.status == TWILL_OK));
    return 0;
}
