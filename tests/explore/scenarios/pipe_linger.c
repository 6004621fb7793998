/* A batch that is not full goes when its time has come, or at the close, whichever worker looks. */
#include "pipe_common.h"

static size_t got, calls;
static twill_ns since;

static int batch(const void *in, size_t n, const twill_task *task)
{
    (void)in;
    (void)task;
    got += n;
    calls++;
    return 0;
}

int main(void)
{
    const twill_stage stages[] = {
        {.work = pass_on, .out_size = sizeof(int)},
        {.batch = batch, .kind = TWILL_STAGE_SERIAL, .batch_max = 3, .linger = TWILL_US(500)},
    };
    twill_pipeline_report r;
    twill_pipeline *p;
    bool close = choose(2);

    quiet();
    since = twill_now();
    assert(twill_pipeline_create(
               &p, sizeof(int), stages, 2,
               &(twill_pipeline_options){.tokens = 4, .run.workers = 1, .report = &r}) == TWILL_OK);
    for (int i = 0; i < 2; i++)
        assert(twill_pipeline_push(p, &i) == TWILL_OK);
    if (!close)
        for (;;) {
            twill_pipeline_get_stats(p, &r, NULL);
            if (r.run.done == 2 || (r.run.flags & TWILL_REPORT_DEGRADED))
                break;
            twill_sleep(twill_within(TWILL_US(400)));
            assert(twill_now() - since < TWILL_MS(100));
        }
    assert(twill_pipeline_join(p) == TWILL_OK);
    assert(twill_pipeline_destroy(p) == TWILL_OK);
    assert(got == 2 && calls <= 2);
    books(&r);
    return 0;
}
