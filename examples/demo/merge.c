#include "merge.h"

#include <errno.h>
#include <string.h>

#include "twill_fan_out_fan_in.h"

struct merging {
    struct counter *const *counters;
    size_t count;
    struct merge_effort *merges; /* each shard's own place */
    struct names_found *found;   /* of the thread that gathers: no lock */
};

/* Out: one shard of all tables into that of the first, on a worker. */
static int merge_shard(const void *in, void *out, const twill_task *task)
{
    const struct merging *merging = task->context;
    struct names *into = counter_names(merging->counters[0]);
    struct merge_effort *effort = &merging->merges[task->index];
    bool merged = true;
    (void)in;
    effort->begin = twill_now();
    effort->worker = task->worker;
    for (size_t k = 1; k < merging->count && merged; k++)
        merged = names_merge_shard(into, counter_names(merging->counters[k]), task->index);
    names_find(into, task->index, out);
    effort->took = twill_now() - effort->begin;
    return merged ? 0 : ENOMEM;
}

/* In: what a shard has found joins the rest, as shards come. */
static int gather(const void *result, const twill_outcome *outcome, const twill_task *task)
{
    struct merging *merging = task->context;
    if (outcome->status == TWILL_OK)
        names_join(merging->found, result);
    return 0;
}

int merge_counters(struct counter *const *counters, size_t count, twill_pool *pool,
                   unsigned workers, struct merge_effort *merges, struct names_found *found)
{
    static const char shards[NAMES_SHARDS]; /* the index says all */
    struct merging merging = {counters, count, merges, found};
    twill_fan_options options = {.run = {.pool = pool, .workers = workers, .context = &merging}};
    memset(found, 0, sizeof *found);
    return twill_fan_out_fan_in(shards, 1, NAMES_SHARDS, merge_shard, sizeof(struct names_found),
                                gather, &options) == TWILL_OK
               ? 0
               : ENOMEM;
}
