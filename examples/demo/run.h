/* run: what is known of one pass over the corpus: who did what when. */
#ifndef CRUNCH_RUN_H
#define CRUNCH_RUN_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "count.h"

struct merge_effort {
    int64_t begin, took;
    unsigned worker;
};

struct run {
    int64_t begin, map_end,
        end; /* by the clock; merging the workers' tables lies between the last two */
    struct effort *efforts; /* one a file, and the worker that had it */
    unsigned *workers_of;
    /* through the pipeline: the reading of each file, by another worker perhaps; else NULL */
    struct effort *reads;
    unsigned *readers_of;
    size_t files; /* that the arrays are about */
    struct merge_effort merges[NAMES_SHARDS];
    bool short_of_threads; /* the system refused some, or their memory */
};

static inline int64_t run_wall(const struct run *run)
{
    return run->end - run->begin;
}

#endif
