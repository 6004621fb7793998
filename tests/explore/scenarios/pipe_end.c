/* A callback ends its thread, of a worker or of the caller: its item is LOST, the rest is finished
   or dropped. */
#include "pipe_common.h"

#ifdef TWILL_USE_PTHREAD
#define END_THREAD() pthread_exit(NULL)
#else
#define END_THREAD() thrd_exit(0)
#endif

static int victim;

static int ends(const void *in, void *out, const twill_task *task)
{
    (void)task;
    if (*(const int *)in == victim)
        END_THREAD();
    *(int *)out = *(const int *)in;
    return 0;
}

static twill_pipeline_report r;

static void call(void *side_)
{
    const twill_stage stages[] = {
        {.work = ends, .out_size = sizeof(int), .workers = 2, .drop = drop},
        {.work = deliver, .kind = TWILL_STAGE_IN_ORDER, .drop = drop},
    };
    (void)side_;
    (void)twill_pipeline_run(
        number, sizeof(int), stages, 2,
        &(twill_pipeline_options){.tokens = 2, .run.workers = 2, .report = &r});
}

int main(void)
{
    struct side side = {.item = 0};

    quiet();
    victim = choose(3);
    go(&side, call, NULL);
    end(&side);
    assert(r.run.status == TWILL_FAILED);
    assert(r.run.first_error.index == (size_t)victim && r.run.first_error.status == TWILL_LOST);
    books(&r);
    for (int i = victim; i < items; i++)
        assert(seen[i] == 0);
    return 0;
}
