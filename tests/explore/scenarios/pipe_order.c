/* Two workers, two tokens (or six, and bursts of two), any set of items filtered before an in-order
   stage: order never waits for what will not come, and nothing is lost. */
#include "pipe_common.h"

static int filtered;

static int some(const void *in, void *out, const twill_task *task)
{
    *(int *)out = *(const int *)in;
    return filtered >> *(const int *)in & 1 ? twill_pipeline_filter(task) : 0;
}

int main(void)
{
    const twill_stage stages[] = {
        {.work = some, .out_size = sizeof(int), .workers = 2},
        {.work = deliver, .kind = TWILL_STAGE_IN_ORDER},
    };
    twill_pipeline_report r;
    size_t tokens;

    quiet();
    tokens = choose(2) ? 2 : 6;
    filtered = choose(8);
    assert(twill_pipeline_run(number, sizeof(int), stages, 2,
                              &(twill_pipeline_options){
                                  .tokens = tokens, .run.workers = 2, .report = &r}) == TWILL_OK);
    books(&r);
    for (int i = 0; i < items; i++)
        assert(seen[i] == !(filtered >> i & 1));
    assert(r.run.done == 3 && r.in_flight_peak <= tokens);
    return 0;
}
