// oneTBB's parallel_pipeline, filters serial in order.
#include <tbb/global_control.h>
#include <tbb/parallel_pipeline.h>

#include "bench_pipe.h"

static void run(bench_pipe *pipe)
{
    uint64_t i = 0;
    tbb::global_control threads(tbb::global_control::max_allowed_parallelism, bench_threads());
    tbb::parallel_pipeline(
        pipe->tokens, tbb::make_filter<void, uint64_t>(tbb::filter_mode::serial_in_order,
                                                       [&](tbb::flow_control &flow) -> uint64_t {
                                                           if (i == pipe->items) {
                                                               flow.stop();
                                                               return 0;
                                                           }
                                                           return bench_pipe_stage(pipe, 0, i++);
                                                       }) &
                          tbb::make_filter<uint64_t, uint64_t>(
                              tbb::filter_mode::serial_in_order,
                              [&](uint64_t value) { return bench_pipe_stage(pipe, 1, value); }) &
                          tbb::make_filter<uint64_t, void>(
                              tbb::filter_mode::serial_in_order,
                              [&](uint64_t value) { bench_pipe_stage(pipe, 2, value); }));
}

int main(int argc, char **argv)
{
    return bench_pipe_main(argc, argv, run);
}
