/* cost.h: cuts of equal cost, built in one walk over the items. */
#ifndef TWILL__PARALLEL_MAP_COST_H
#define TWILL__PARALLEL_MAP_COST_H

#include "parallel_map/options.h"

/* ---- cuts of equal cost ---- */

/* A table of bounded size, filled as the costs come: when it is full the target doubles and
   neighbours that fit under it together become one. An item above the target keeps a cut of its
   own. */
typedef struct twill__cutter {
    twill__cut *cuts;
    size_t count, capacity;
    uint64_t target;
} twill__cutter;

#define TWILL__CUTS 512 /* on the caller's stack: 12 KiB */

static inline uint64_t twill__add_costs(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

/* At least half of the table is free afterwards. */
static inline void twill__cuts_merge(twill__cutter *cutter)
{
    /* exit: at UINT64_MAX everything fits into one cut */
    while (cutter->count > cutter->capacity / 2) {
        size_t kept = 0;
        cutter->target = twill__add_costs(cutter->target, cutter->target);
        for (size_t i = 1; i < cutter->count; i++) {
            twill__cut *last = &cutter->cuts[kept];
            uint64_t sum = twill__add_costs(last->cost, cutter->cuts[i].cost);
            if (sum <= cutter->target) {
                last->end = cutter->cuts[i].end;
                last->cost = sum;
            } else {
                cutter->cuts[++kept] = cutter->cuts[i];
            }
        }
        cutter->count = kept + 1;
    }
}

static inline void twill__cuts_add(twill__cutter *cutter, size_t item, uint64_t cost)
{
    twill__cut *last = cutter->count ? &cutter->cuts[cutter->count - 1] : NULL;
    if (cost == 0)
        cost = 1;
    if (last && twill__add_costs(last->cost, cost) <= cutter->target) {
        last->end = item + 1;
        last->cost += cost;
        return;
    }
    if (cutter->count == cutter->capacity)
        twill__cuts_merge(cutter);
    last = &cutter->cuts[cutter->count++];
    last->begin = item;
    last->end = item + 1;
    last->cost = cost;
}

/* Which of two runs first: the dearer, else the lower. */
static inline bool twill__cut_before(const twill__cut *a, const twill__cut *b)
{
    return a->cost != b->cost ? a->cost > b->cost : a->begin < b->begin;
}

/* A heap sort: no memory, no bad case. */
static inline void twill__cuts_sift(twill__cut *cuts, size_t count, size_t at)
{
    twill__cut moved = cuts[at];
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && twill__cut_before(&cuts[child], &cuts[child + 1]))
            child++;
        if (!twill__cut_before(&moved, &cuts[child]))
            break;
        cuts[at] = cuts[child];
    }
    cuts[at] = moved;
}

static inline void twill__cuts_sort(twill__cut *cuts, size_t count)
{
    for (size_t i = count / 2; i-- > 0;)
        twill__cuts_sift(cuts, count, i);
    for (size_t left = count; left-- > 1;) {
        twill__cut last = cuts[left];
        cuts[left] = cuts[0];
        cuts[0] = last;
        twill__cuts_sift(cuts, left, 0);
    }
}

/* table: TWILL__CUTS of them, in a frame that stays if a callback ends the calling thread: helpers
   still read it then. */
static inline void twill__run_by_cost(twill__job *job, twill__pass *pass, twill__cut *table,
                                      const twill_parallel_options *options)
{
    twill__cutter cutter = {table, 0, TWILL__CUTS, 1};
    twill_task task;
    if (job->np > TWILL__CUTS / 8) { /* some for each worker; without memory, fewer */
        twill__cut *more = (twill__cut *)twill__scratch_get(job, job->np * 8 * sizeof *more);
        if (more) {
            cutter.cuts = more;
            cutter.capacity = (size_t)job->np * 8;
        }
    }
    twill__task_init(job, 0, &task);
    for (size_t i = 0; i < pass->n; i++) {
        if (i % 256 == 0 && twill__stopped(job, twill__clock_now()))
            return;
        twill__cuts_add(&cutter, i, options->cost_of(i, &task));
    }
    twill__cuts_sort(cutter.cuts, cutter.count);
    pass->cuts = cutter.cuts;
    pass->cut_count = cutter.count;
    twill__run_pass(job, pass);
}

#endif
