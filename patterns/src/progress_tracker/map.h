/* map.h: a parallel map that shows how far it is. */
#ifndef TWILL__PROGRESS_MAP_H
#define TWILL__PROGRESS_MAP_H

#include "progress_tracker/updates.h"

/* ---- map with progress ---- */

typedef struct twill__progress_map {
    twill__map map; /* first: twill__map_body reads job->data as this */
    twill_map_fn *fn;
    twill_progress *progress;
    const twill_report *report;
    size_t n;
    twill_status status; /* of the map; LOST: it has not returned */
} twill__progress_map;

/* Stands in for the user's function and counts how the item ended. */
static inline int twill__progress_item(const void *in, void *out, const twill_task *task)
{
    const twill__job *job = (const twill__job *)task->private_;
    const twill__progress_map *data = (const twill__progress_map *)job->data;
    int code = data->fn(in, out, task);
    if (code)
        twill_progress_add_failed(data->progress, 1);
    else if (job->slot[task->worker].said & TWILL__SAID_SKIP)
        twill_progress_add_skipped(data->progress, 1);
    else
        twill_progress_add(data->progress, 1);
    return code;
}

static inline void twill__progress_steps(twill__job *job, void *data)
{
    twill__pass pass;
    memset(&pass, 0, sizeof pass);
    pass.n = ((const twill__progress_map *)data)->n;
    pass.body = twill__map_body;
    pass.data = data;
    pass.schedule = TWILL__AUTO;
    twill__run_pass(job, &pass);
}

/* What no callback could count: items that never ran, and those that ended their thread (but in an
   on_view, which has counted them). */
static inline void twill__progress_rest(twill_progress *progress, const twill_report *report)
{
    uint64_t counted[TWILL__TALLY_KINDS] = {0}, rest;
    for (unsigned kind = 0; progress && kind < TWILL__TALLY_KINDS; kind++)
        counted[kind] = twill__tally_sum(&progress->counter, kind);
    rest = report->total - counted[TWILL__TALLY_DONE] - counted[TWILL__TALLY_FAILED] -
           counted[TWILL__TALLY_SKIPPED];
    if (report->skipped > counted[TWILL__TALLY_SKIPPED]) {
        twill_progress_add_skipped(progress, report->skipped - counted[TWILL__TALLY_SKIPPED]);
        rest -= report->skipped - counted[TWILL__TALLY_SKIPPED];
    }
    if (rest)
        twill_progress_add_failed(progress, rest);
}

/* The map is over, or a callback has ended the calling thread: in it, or now. */
static inline void twill__progress_map_over(void *data_)
{
    twill__progress_map *data = (twill__progress_map *)data_;
    twill__progress_rest(data->progress, data->report);
    (void)twill_progress_finish(data->progress, data->status);
    (void)twill_progress_destroy(data->progress);
}

TWILL__DEFINE twill_status twill_map_with_progress(const void *items, size_t item_size,
                                                   void *results, size_t result_size, size_t n,
                                                   twill_map_fn *fn,
                                                   const twill_map_with_progress_options *options)
{
    static const twill_map_with_progress_options defaults;
    twill__progress_map data;
    twill_progress_options look;
    twill_report report;
    twill_run run;
    twill_status status = twill__map_check(items, item_size, results, result_size, n, fn);
    options = options ? options : &defaults;
    look = options->progress;
    run = options->run;
    if (status == TWILL_OK && (look.total || look.total_is_zero || !twill__progress_valid(&look)))
        status = TWILL_INVALID;
    if (status == TWILL_OK)
        status = twill__check_run(&run);
    if (status != TWILL_OK)
        return twill__refuse(&options->run, n, status);
    look.total = n;
    look.total_is_zero = n == 0;
    run.report = run.report ? run.report : &report;
    data.report = run.report;
    data.map.in = (const char *)items;
    data.map.out = (char *)results;
    data.map.in_size = item_size;
    data.map.out_size = result_size;
    data.map.fn = twill__progress_item;
    data.fn = fn;
    data.n = n;
    (void)twill_progress_create(&data.progress, &look); /* without one the map runs all the same */
    data.status = TWILL_LOST;
    TWILL__GUARD_PUSH(twill__progress_map_over, &data);
    data.status = twill__run_call(&run, n, false, twill__progress_steps, &data);
    twill__progress_rest(data.progress, run.report);
    (void)twill_progress_finish(data.progress, data.status); /* here it may end the thread */
    TWILL__GUARD_POP(1);
    return data.status;
}

#endif
