/* merge: the tables of several workers into one. */
#ifndef CRUNCH_MERGE_H
#define CRUNCH_MERGE_H
#include "run.h"
#include "twill_worker_pool.h"

/* Adds the others to counters[0], shard by shard on `workers` threads of the pool, and gathers what
   the whole has. Which shard was merged when and by whom is in merges[NAMES_SHARDS]. 0 or
   ENOMEM. */
int merge_counters(struct counter *const *counters, size_t count, twill_pool *pool,
                   unsigned workers, struct merge_effort *merges, struct names_found *found);

#endif
