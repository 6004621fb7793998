/* measure: reads a corpus through the pipeline, then crunches it with a plain loop, on 1, 2, ...
   workers and through the pipeline, several rounds of each, and proves that every run found what
   the plain loop found. */
#ifndef CRUNCH_MEASURE_H
#define CRUNCH_MEASURE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "corpus.h"
#include "count.h"
#include "flow.h"
#include "run.h"
#include "stop.h"

struct config {
    unsigned workers; /* 0: the plain loop, without the library */
    bool pipeline;    /* else a map over the files */
    struct run *runs; /* one a round */
    size_t median;    /* the run whose time is the median */
};

struct measurement {
    struct corpus *corpus;
    unsigned cpus;
    twill_pool *pool;           /* of all the parallel parts */
    struct stop *stop;          /* NULL: nobody listens to Ctrl-C */
    struct reading_rules rules; /* of the first reading */
    struct flow first;          /* the first reading, through the pipeline */
    size_t found;             /* files, of which some may not have been read when it was stopped */
    bool stopped;             /* before the measuring was over */
    struct counts *reference; /* by the plain loop; if stopped before that, of the first reading */
    struct counter *reference_counter;
    struct config *configs;
    size_t config_count, rounds;
    struct counts totals; /* sums over the files that could be read */
    size_t distinct;      /* different identifiers */
    size_t failed;        /* files that could not be read */
    size_t left_out;      /* files that changed meanwhile */
    size_t runs_made, runs_proven;
    char trouble[160];        /* why it ended early, as a sentence, else empty */
    const char *trouble_path; /* with which file, or NULL */
};

/* 0, or -1 with `trouble` set. Call measurement_free in either case. */
int measurement_open(struct measurement *m, struct corpus *corpus, struct stop *stop,
                     const struct reading_rules *rules);
void measurement_free(struct measurement *m);

/* The first reading: walks `root` into the corpus and reads what it finds. 0; an errno value: there
   is no walking it; -1 with `trouble` set. Asked to stop, it leaves in the corpus what was read. */
int measurement_read(struct measurement *m, const char *root);

/* The measuring. 0, or -1 with `trouble` set. Repeats for about `budget` nanoseconds, at least
   once. Takes files that change while it works out of the corpus. Asked to stop, it keeps the
   rounds that were complete (rounds 0: none). */
int measurement_make(struct measurement *m, int64_t budget);

const struct run *config_run(const struct config *config); /* the median one */

static inline double seconds(int64_t ns)
{
    return (double)ns / 1e9;
}

struct shares { /* seconds of threads: where the time of the median run went */
    double count, read, merge, wait, idle, total;
};
struct shares config_shares(const struct config *config);

/* The share of time that threads waited for a processor or the disk when there were no more of them
   than processors: above a few per cent, somebody else was at work. */
double measurement_waited(const struct measurement *m);

#endif
