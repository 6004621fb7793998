/* Somebody looks at the figures while a join sends the workers home. */
#include "pipe_common.h"

static twill_pipeline *p;

static void look(void *side)
{
    twill_pipeline_report now;
    (void)side;
    twill_pipeline_get_stats(p, &now, NULL);
    assert(now.run.total == 1 && now.run.workers_started <= 1);
}

int main(void)
{
    const twill_stage stage = {.work = deliver, .kind = TWILL_STAGE_IN_ORDER, .drop = drop};
    twill_pipeline_report r;
    struct side looks;
    int item = 0;

    quiet();
    assert(twill_pipeline_create(&p, sizeof(int), &stage, 1,
                                 &(twill_pipeline_options){.run.workers = 1, .report = &r}) ==
           TWILL_OK);
    assert(twill_pipeline_push(p, &item) == TWILL_OK);
    go(&looks, look, p);
    assert(twill_pipeline_join(p) == TWILL_OK);
    end(&looks);
    assert(twill_pipeline_destroy(p) == TWILL_OK);
    assert(r.run.done == 1 && r.run.workers_used == 1);
    return 0;
}
