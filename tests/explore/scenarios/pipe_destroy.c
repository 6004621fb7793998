/* Destroy while two wait for a token and a stage runs. */
#include "pipe_common.h"

static int waits(const void *in, void *out, const twill_task *task)
{
    (void)out;
    atomic_fetch_add(&seen[*(const int *)in], 1);
    (void)twill_sleep(twill_within_or_cancelled(TWILL_MS(1), task->until.cancel));
    return 0;
}

static _Atomic uint32_t over;

static void waiting_push(void *side_)
{
    push_one(side_);
    atomic_fetch_add(&over, 1);
}

/* How many pushers wait inside or are back: only when both are, a destroy may come. */
static uint32_t inside_or_over(twill_pipeline *p)
{
    uint32_t found = atomic_load(&over); /* first, so that none counts twice */
    twill__lock(&p->lock);
    for (twill__node *node = p->pushers.first; node; node = node->next)
        found++;
    twill__unlock(&p->lock);
    return found;
}

int main(void)
{
    const twill_stage stage = {.work = waits, .kind = TWILL_STAGE_SERIAL, .drop = drop};
    struct side a = {.item = 1}, b = {.item = 2};
    twill_pipeline_report r;
    twill_pipeline *p;
    int zero = 0;

    quiet();
    assert(twill_pipeline_create(&p, sizeof(int), &stage, 1,
                                 &(twill_pipeline_options){.tokens = 1, .report = &r}) == TWILL_OK);
    assert(twill_pipeline_push(p, &zero) == TWILL_OK);
    go(&a, waiting_push, p);
    go(&b, waiting_push, p);
    while (inside_or_over(p) < 2)
        twill_sleep(twill_within(TWILL_US(100)));
    assert(twill_pipeline_destroy(p) == TWILL_OK);
    end(&a);
    end(&b);
    assert(b.status == TWILL_OK || b.status == TWILL_CLOSED);
    assert(a.status == TWILL_OK || a.status == TWILL_CLOSED);
    books(&r);
    assert(seen[0] + dropped[0] == 1 && seen[1] + dropped[1] == (a.status == TWILL_OK));
    assert(seen[2] + dropped[2] == (b.status == TWILL_OK));
    return 0;
}
