/* bench_pipe.h: three serial stages in order, each a running hash of what it gets: the result depends
 * on the order of every item at every stage. usage: contender items steps [tokens] */
#ifndef BENCH_PIPE_H
#define BENCH_PIPE_H

#include "bench.h"

enum { BENCH_PIPE_STAGES = 3 };

typedef struct bench_pipe {
    uint64_t items;
    uint32_t steps;
    size_t tokens;
    uint64_t hash[BENCH_PIPE_STAGES];
} bench_pipe;

/* what a stage makes of a value */
static inline uint64_t bench_pipe_stage(bench_pipe *pipe, int stage, uint64_t value)
{
    return pipe->hash[stage] = bench_work(pipe->hash[stage] ^ value, pipe->steps);
}

/* the loop that everybody replaces */
static inline void bench_pipe_serial(bench_pipe *pipe)
{
    for (uint64_t i = 0; i < pipe->items; i++) {
        uint64_t value = i;
        for (int stage = 0; stage < BENCH_PIPE_STAGES; stage++)
            value = bench_pipe_stage(pipe, stage, value);
    }
}

static inline int bench_pipe_main(int argc, char **argv, void (*run)(bench_pipe *pipe))
{
    bench_pipe pipe = {0, 0, 0, {0, 0, 0}}, expected;
    if (argc < 3)
        return 2;
    pipe.items = strtoul(argv[1], NULL, 10);
    pipe.steps = (uint32_t)strtoul(argv[2], NULL, 10);
    pipe.tokens = argc > 3 ? strtoul(argv[3], NULL, 10) : 1024;
    if (!pipe.items || !pipe.tokens)
        return 2;
    expected = pipe;
    int64_t start = bench_now();
    run(&pipe);
    int64_t took = bench_now() - start;
    bench_pipe_serial(&expected);
    if (memcmp(pipe.hash, expected.hash, sizeof pipe.hash) != 0)
        bench_wrong("pipeline", 0);
    bench_report("ns/item", (double)took / (double)pipe.items);
    return 0;
}

#endif
