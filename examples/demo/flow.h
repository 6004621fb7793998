/* flow: the whole way of a file through the program, as a pipeline with bounded memory.

       walk -> batches of small files -> queue -> read -> tokenise -> merge, in the order of paths

   A parcel, which is one large file or up to 64 small ones, has one of a few buffers from when it
   is read until it is counted. */
#ifndef CRUNCH_FLOW_H
#define CRUNCH_FLOW_H
#include "corpus.h"
#include "reading.h"
#include "run.h"
#include "stop.h"
#include "twill_batch_processing.h"
#include "twill_pipeline.h"
#include "twill_producer_consumer.h"
#include "twill_worker_pool.h"

enum {
    PARCEL_FILES = 64,
    QUEUE_PARCELS = 32,
    FLOW_READ = 0,
    FLOW_TOKENISE,
    FLOW_MERGE,
    FLOW_STAGES,
    FLOW_SAMPLES = 4096 /* kept at most; then every other one goes */
};

struct flow_plan {
    struct corpus *corpus;
    const char *root;         /* to be walked; NULL: the corpus is there */
    twill_pool *pool;         /* for the walk, the batches, the stages, the final merge */
    struct stop *stop;        /* or NULL */
    twill_progress *progress; /* or NULL */
    unsigned workers;
    struct reading_rules rules;
};

struct flow_sample {
    int64_t when;            /* since the beginning */
    unsigned queued, inside; /* parcels: in the queue, in the pipeline */
};

struct flow_figures {
    struct flow_sample *samples;
    size_t sample_count;
    unsigned workers;
    size_t tokens;
    int64_t walked; /* when the walk had ended, since the beginning */
    twill_pipeline_report pipeline;
    twill_stage_stats stages[FLOW_STAGES];
    twill_queue_stats queue;
    twill_batcher_stats batches;
    struct reading_figures reading;
    size_t given_up; /* files that were under way when the time for finishing was over */
};

struct flow {
    struct run run;
    struct counts *counts; /* of run.files files: the first ones of the corpus, unless given_up */
    size_t *indexes;       /* which ones these are; rising */
    struct counter **counters;
    size_t counter_count;
    struct names_found found;
    struct flow_figures figures;
    bool stopped; /* asked to stop before all was read */
};

/* 0: done, or stopped. Else an errno value: the root could not be walked, or no memory. Free it in
   either case. */
int flow_run(struct flow *flow, const struct flow_plan *plan);
void flow_free(struct flow *flow);

extern const char *const flow_stage_names[FLOW_STAGES];
/* How much of its workers' time a stage was busy, 0..1. */
double flow_load(const struct flow_figures *figures, size_t stage, int64_t wall);

#endif
