/* report.h: the figures, at the end and while it runs. */
#ifndef TWILL__PIPELINE_REPORT_H
#define TWILL__PIPELINE_REPORT_H

#include "pipeline/wait.h"

static inline void twill__flow_first_error(const twill__flow *p, twill_pipeline_report *report)
{
    const twill__flow_error *error = p->earliest.status ? &p->earliest : &p->lowest;
    if (p->dead) {
        report->run.first_error = (twill_item_error){SIZE_MAX, TWILL_FAILED, p->start_code};
    } else if (twill__flow_failed_at_last(p)) {
        report->run.first_error =
            (twill_item_error){(size_t)error->number, error->status, error->code};
        if (error->stage < p->n_steps)
            report->failed_stage = error->stage;
    }
}

/* Under the lock. */
static inline void twill__flow_fill_report(const twill__flow *p, twill_pipeline_report *report)
{
    twill_report *run = &report->run;
    double most = -1;
    *report = (twill_pipeline_report){.failed_stage = SIZE_MAX};
    *run = p->crew_report; /* flags and workers, once the crew is closed */
    run->status = p->ended || p->dead ? twill__flow_status(p) : TWILL_OK;
    run->total = (size_t)p->issued;
    run->done = (size_t)p->done;
    run->failed = (size_t)p->failed;
    run->skipped = (size_t)p->skipped;
    if (p->map_n) { /* a report at the end: what that came before */
        run->skipped += p->map_n - run->total;
        run->total = p->map_n;
    }
    run->errors_stored = p->errors_count;
    run->wall = (p->ended ? p->ended_at : twill__clock_now()) - p->began_at;
    run->workers_used = 0;
    if (p->call && run->workers_started < p->np)
        run->workers_started++;
    for (uint32_t h = 0; h < p->np; h++) {
        twill_ns busy = twill__time_of_ticks(p->hand[h].busy);
        run->chunks += p->hand[h].bursts;
        run->workers_used += p->hand[h].used;
        run->busy += busy;
        if (busy > run->busiest)
            run->busiest = busy;
    }
    twill__flow_first_error(p, report);
    report->delivered = p->delivered;
    report->filtered = p->filtered;
    report->in_flight_peak = p->in_flight_peak;
    for (uint32_t k = 0; k < p->n_steps; k++) {
        double busy = (double)p->step[k].busy / p->step[k].limit;
        if (busy > most) {
            most = busy;
            report->bottleneck = k;
        }
    }
}

static inline void twill__flow_fill_stats(twill__flow *p, twill_stage_stats *stats)
{
    if (!p->ended)
        twill__flow_moods_read(p, twill__ticks());
    for (uint32_t k = 0; k < p->n_steps; k++) {
        const twill__flow_step *step = &p->step[k];
        stats[k] = (twill_stage_stats){
            .in = step->count_in,
            .out = step->count_out,
            .filtered = step->filtered,
            .failed = step->failed,
            .dropped = step->dropped,
            .busy = twill__time_of_ticks(step->busy),
            .starved = twill__time_of_ticks(step->starved),
            .held = twill__time_of_ticks(step->held),
            .longest = twill__time_of_ticks(step->longest),
            .waiting = step->waiting,
            .waiting_peak = step->waiting_peak,
            .reorder_peak = step->reorder_peak,
            .running = step->running,
            .running_peak = step->running_peak,
        };
    }
}

/* The options' reports, at the end. */
static inline void twill__flow_report(twill__flow *p)
{
    twill_pipeline_report report;
    for (uint64_t i = p->issued; p->run.statuses && p->over && i < p->map_n; i++)
        p->run.statuses[i] = (twill_status)p->over; /* what never came in says why */
    twill__flow_fill_report(p, &report);
    if (p->options.report)
        *p->options.report = report;
    if (p->run.report)
        *p->run.report = report.run;
    if (p->options.stage_stats)
        twill__flow_fill_stats(p, p->options.stage_stats);
}

#endif
