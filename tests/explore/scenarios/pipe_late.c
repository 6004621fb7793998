/* A pipeline whose deadline has passed while a deaf callback runs: who joins sleeps until that has
   ended, and does not wake again and again for a deadline that is over.
   EXPLORE-BACKENDS: futex */
#undef NDEBUG
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define TWILL_IMPLEMENTATION
#include "explore.h"
#include "twill_pipeline.h"

static int deaf(const void *in, void *out, const twill_task *task)
{
    (void)in, (void)out, (void)task;
    return (int)twill_sleep(twill_within(TWILL_SEC(1)));
}

int main(void)
{
    const twill_stage stage = {.work = deaf, .workers = 1};
    twill_pipeline_options options = {.run.workers = 1};
    twill_pipeline *pipeline;
    twill_status status;
    int item = 1;

    options.run.until = twill_within(TWILL_MS(1));
    assert(twill_pipeline_create(&pipeline, sizeof item, &stage, 1, &options) == TWILL_OK);
    status = twill_pipeline_push(pipeline, &item);
    assert(status == TWILL_OK || status == TWILL_CLOSED || status == TWILL_TIMEOUT);
    status = twill_pipeline_join(pipeline);
    assert(status == TWILL_OK || status == TWILL_TIMEOUT);
    assert(!explore_steps || explore_steps() < 600); /* of main: so many are few enough */
    assert(twill_pipeline_destroy(pipeline) == TWILL_OK);
    return 0;
}
