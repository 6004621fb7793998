/* measure: crunches a corpus with a plain loop and on 1, 2, ... workers, several rounds of
   each, and proves that every run found what the plain loop found. */
#ifndef CRUNCH_MEASURE_H
#define CRUNCH_MEASURE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "corpus.h"
#include "count.h"

struct merge_effort {
    int64_t begin, took;
    unsigned worker;
};

struct run { /* one pass over the corpus */
    int64_t begin, map_end,
        end; /* by the clock; merging the workers' tables lies between the last two */
    struct effort *efforts; /* one a file, and the worker that had it */
    unsigned *workers_of;
    struct merge_effort merges[NAMES_SHARDS];
    bool short_of_threads; /* the system refused some, or their memory */
};

struct config {
    unsigned workers; /* 0: the plain loop, without the library */
    struct run *runs; /* one a round */
    size_t median;    /* the run whose time is the median */
};

struct measurement {
    struct corpus *corpus;
    unsigned cpus;
    struct counts *reference; /* of the first reading, by the plain loop */
    struct counter *reference_counter;
    int64_t first_reading;
    struct config *configs;
    size_t config_count, rounds;
    struct counts totals; /* sums over the files that could be read */
    size_t distinct;      /* different identifiers */
    size_t failed;        /* files that could not be read */
    size_t left_out;      /* files that changed meanwhile */
    size_t runs_proven;
    char trouble[160];        /* why it ended early, as a sentence, else empty */
    const char *trouble_path; /* with which file, or NULL */
};

/* 0, or -1 with `trouble` set. Repeats for about `budget` nanoseconds, at least once. Takes
   files that change while it works out of the corpus. Call measurement_free in either case. */
int measurement_make(struct measurement *m, struct corpus *corpus, int64_t budget);
void measurement_free(struct measurement *m);

const struct run *config_run(const struct config *config); /* the median one */
int64_t run_wall(const struct run *run);

static inline double seconds(int64_t ns)
{
    return (double)ns / 1e9;
}

struct shares { /* seconds of threads: where the time of the median run went */
    double count, read, merge, wait, idle, total;
};
struct shares config_shares(const struct measurement *m, const struct config *config);

/* The share of time that threads waited for a processor or the disk when there were no more of them
   than processors: above a few per cent, somebody else was at work. */
double measurement_waited(const struct measurement *m);

#endif
