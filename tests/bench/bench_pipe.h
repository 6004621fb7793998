/* bench_pipe.h: three serial stages in order, each a running hash of what it gets: the result
 * depends on the order of every item at every stage. usage: contender items steps [tokens] */
#ifndef BENCH_PIPE_H
#define BENCH_PIPE_H

#include "bench.h"

enum { BENCH_PIPE_STAGES = 3 };

/* A stage's state, two cache lines apart from the next: a stage that has a thread of its own keeps
 * it in a register, and the others must not pay for sharing its line. */
typedef struct bench_pipe_state {
    uint64_t hash;
    char apart[120];
} bench_pipe_state;

typedef struct bench_pipe {
    uint64_t items;
    uint32_t steps;
    size_t tokens;
    char apart[104];
    bench_pipe_state stage[BENCH_PIPE_STAGES];
} bench_pipe;

/* what a stage makes of a value */
static inline uint64_t bench_pipe_stage(bench_pipe *pipe, int stage, uint64_t value)
{
    uint64_t *hash = &pipe->stage[stage].hash;
    return *hash = bench_work(*hash ^ value, pipe->steps);
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
    bench_pipe pipe, expected;
    if (argc < 3)
        return 2;
    memset(&pipe, 0, sizeof pipe);
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
    if (memcmp(pipe.stage, expected.stage, sizeof pipe.stage) != 0)
        bench_wrong("pipeline", 0);
    bench_report("ns/item", (double)took / (double)pipe.items);
    return 0;
}

#endif
