/* twill_pipeline_run: the first stage is the source. */
#include "bench_pipe.h"

#define TWILL_IMPLEMENTATION
#include "twill_pipeline.h"

static int first(void *out, const twill_task *task)
{
    bench_pipe *pipe = (bench_pipe *)task->context;
    if (task->index == pipe->items)
        return twill_task_stop(task);
    *(uint64_t *)out = bench_pipe_stage(pipe, 0, task->index);
    return 0;
}

static int second(const void *in, void *out, const twill_task *task)
{
    *(uint64_t *)out = bench_pipe_stage((bench_pipe *)task->context, 1, *(const uint64_t *)in);
    return 0;
}

static int third(const void *in, void *out, const twill_task *task)
{
    (void)out;
    bench_pipe_stage((bench_pipe *)task->context, 2, *(const uint64_t *)in);
    return 0;
}

static void run(bench_pipe *pipe)
{
    const twill_stage stages[] = {
        {.name = "second", .work = second, .out_size = 8, .kind = TWILL_STAGE_IN_ORDER},
        {.name = "third", .work = third, .kind = TWILL_STAGE_IN_ORDER},
    };
    if (twill_pipeline_run(first, 8, stages, 2,
                           &(twill_pipeline_options){.run.workers = bench_threads(),
                                                     .run.context = pipe,
                                                     .tokens = pipe->tokens}) != TWILL_OK)
        exit(4);
}

int main(int argc, char **argv)
{
    return bench_pipe_main(argc, argv, run);
}
