#define _XOPEN_SOURCE 700
#include "report.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "text.h"

enum { SHOWN_PROBLEMS = 5 };

int complain(int status, const char *what, const char *name, const char *why)
{
    fflush(stdout);
    fprintf(stderr, "crunch: %s", what);
    if (name != NULL) {
        fputc(' ', stderr);
        text_plain(stderr, name, strlen(name));
    }
    fprintf(stderr, "%s%s\n", why == NULL ? "" : ": ", why == NULL ? "" : why);
    return status;
}

/* ---- the corpus, and the way through the pipeline ---- */

void report_corpus(const struct measurement *m)
{
    const struct corpus *corpus = m->corpus;
    char files[32], bytes[16], all[32];
    fputs("corpus  ", stdout);
    text_plain(stdout, corpus->root, strlen(corpus->root));
    printf(": %s file%s, %s, in %zu folder%s", text_grouped(corpus->count, files),
           text_plural(corpus->count), text_bytes(corpus->bytes, bytes), corpus->directories,
           text_plural(corpus->directories));
    if (corpus->links > 0)
        printf("; %zu link%s not followed", corpus->links, text_plural(corpus->links));
    if (corpus->loops > 0)
        printf("; %zu folder%s met twice", corpus->loops, text_plural(corpus->loops));
    if (corpus->others > 0)
        printf("; %zu sockets, pipes and devices left out", corpus->others);
    putchar('\n');
    if (corpus->count < m->found)
        printf("stopped the report is about %s of %s files: those read when it was asked to stop\n",
               text_grouped(corpus->count, files), text_grouped(m->found, all));
    if (m->first.figures.given_up > 0)
        printf("        %zu under way had to be given up\n", m->first.figures.given_up);
    fflush(stdout);
}

static void report_stage(const struct flow_figures *figures, size_t stage, int64_t wall)
{
    const twill_stage_stats *stats = &figures->stages[stage];
    char busy[32], longest[32];
    printf("  %-10s%9" PRIu64 "%10s%8.0f %%%11s%10zu%9u\n", flow_stage_names[stage], stats->in,
           text_time(stats->busy, busy), 100 * flow_load(figures, stage, wall),
           text_time(stats->longest, longest), stats->waiting_peak, stats->running_peak);
}

static void report_guards(const struct reading_rules *rules, const struct reading_figures *reading)
{
    char took[32];
    if (rules->rate > 0)
        printf("  rate       at most %.4g MB/s; threads paused for %s\n", (double)rules->rate / 1e6,
               text_time(reading->paused, took));
    if (rules->faults || reading->retries > 0)
        printf("  retries    %" PRIu64 " reads made again, %" PRIu64 " of them made to fail\n",
               reading->retries, reading->faults);
    if (reading->limits > 0)
        printf("  limit      %" PRIu64 " files took too long to read and were given up\n",
               reading->limits);
}

void report_pipeline(const struct measurement *m)
{
    const struct run *run = &m->first.run;
    const struct flow_figures *figures = &m->first.figures;
    size_t bottleneck = figures->pipeline.bottleneck;
    char took[32];
    uint64_t bytes = 0;
    for (size_t i = 0; i < run->files; i++)
        bytes += m->first.counts[i].bytes;
    printf("\npipeline first reading, while walking: %s, %.1f MB/s, on %u worker%s\n",
           text_time(run_wall(run), took), (double)bytes / 1e6 / seconds(run_wall(run)),
           figures->workers, text_plural(figures->workers));
    printf("  %-10s%9s%10s%10s%11s%10s%9s\n", "stage", "parcels", "busy", "load", "longest",
           "waiting", "running");
    for (size_t k = 0; k < FLOW_STAGES; k++)
        report_stage(figures, k, run->map_end - run->begin);
    printf("  bottleneck %s: busy for %.0f %% of its workers' time; queue before it all: %zu of %d "
           "at most\n",
           flow_stage_names[bottleneck],
           100 * flow_load(figures, bottleneck, run->map_end - run->begin), figures->queue.peak,
           QUEUE_PARCELS);
    printf("  memory     %zu buffer%s of %d KiB, lent %" PRIu64
           " times; parcels of up to %d files\n",
           figures->reading.buffers, text_plural(figures->reading.buffers), BUFFER_BYTES / 1024,
           figures->reading.lent, PARCEL_FILES);
    report_guards(&m->rules, &figures->reading);
    fflush(stdout);
}

/* ---- results ---- */

size_t report_problems(const struct measurement *m)
{
    const struct corpus *corpus = m->corpus;
    size_t total = corpus->problem_count + m->failed, shown = 0;
    for (size_t i = 0; i < corpus->problem_count && shown < SHOWN_PROBLEMS; i++, shown++)
        (void)complain(0, "cannot look at", corpus->problems[i].path,
                       strerror(corpus->problems[i].error));
    for (size_t i = 0; i < corpus->count && shown < SHOWN_PROBLEMS; i++) {
        if (m->reference[i].error == 0)
            continue;
        (void)complain(0, "cannot read", corpus->files[i].path, strerror(m->reference[i].error));
        shown++;
    }
    if (total > shown)
        fprintf(stderr, "crunch: and %zu more like these\n", total - shown);
    if (m->left_out > 0)
        fprintf(stderr, "crunch: left out, for they changed meanwhile: %zu\n", m->left_out);
    return total;
}

void report_runs(const struct measurement *m)
{
    if (m->rounds == 0)
        return; /* stopped before one was complete */
    double serial = (double)run_wall(config_run(&m->configs[0]));
    double megabytes = (double)m->totals.bytes / 1e6;
    printf("\n%-12s%10s%10s%10s%12s\n", "", "time", "MB/s", "speed-up", "efficiency");
    for (size_t c = 0; c < m->config_count; c++) {
        const struct config *config = &m->configs[c];
        double wall = (double)run_wall(config_run(config));
        unsigned busy = config->workers < m->cpus ? config->workers : m->cpus;
        char took[32], label[32] = "plain loop";
        if (config->pipeline)
            snprintf(label, sizeof label, "pipeline");
        else if (config->workers > 0)
            snprintf(label, sizeof label, "%u worker%s", config->workers,
                     text_plural(config->workers));
        printf("%-12s%10s%10.1f%10.2f", label, text_time(run_wall(config_run(config)), took),
               megabytes / (wall / 1e9), serial / wall);
        if (config->workers > 0)
            printf("%10.0f %%", 100 * serial / wall / busy);
        if (config->workers > m->cpus)
            printf("   oversubscribed: %u CPU%s", m->cpus, m->cpus == 1 ? "" : "s");
        if (config_run(config)->short_of_threads)
            printf("   fewer threads than asked for");
        putchar('\n');
    }
    printf("Median of %zu round%s%s. Efficiency: speed-up over the CPUs in use.\n", m->rounds,
           text_plural(m->rounds), m->stopped ? ", then asked to stop" : "");
    if (measurement_waited(m) > 0.1)
        printf("With %u workers, threads waited %.0f %% of the time: other programs had the CPUs, "
               "or the disk was slow.\n",
               m->cpus, 100 * measurement_waited(m));
}

void report_findings(const struct measurement *m)
{
    char a[32], b[32], c[32], d[32];
    printf("\nfound   %s lines, %s words, %s identifiers, %s of them different\n",
           text_grouped(m->totals.lines, a), text_grouped(m->totals.words, b),
           text_grouped(m->totals.names, c), text_grouped(m->distinct, d));
    if (m->runs_proven == 0)
        printf("proof   none: stopped before the plain loop had run\n");
    else
        printf("proof   %zu of %zu runs gave what the plain loop gave: the counts and the CRC-32 "
               "of each of\n"
               "        %s file%s, and the count of each identifier\n",
               m->runs_proven, m->runs_made, text_grouped(m->corpus->count, a),
               text_plural(m->corpus->count));
    struct name top[TOP_NAMES];
    size_t held = names_top(counter_names(m->reference_counter), top, TOP_NAMES);
    if (held > 0)
        printf("\nmost frequent identifiers\n");
    size_t rows = (held + 1) / 2;
    for (size_t row = 0; row < rows; row++) {
        for (size_t i = row; i < held; i += rows) {
            bool cut = top[i].length > 22;
            int shown = cut ? 19 : (int)top[i].length;
            printf("%s  %2zu  %.*s%-*s%10s", i == row ? "" : "   ", i + 1, shown, top[i].text,
                   22 - shown, cut ? "..." : "", text_grouped(top[i].count, a));
        }
        putchar('\n');
    }
}

void report_list(const struct measurement *m)
{
    for (size_t i = 0; i < m->corpus->count; i++) {
        const struct counts *counts = &m->reference[i];
        if (counts->error != 0)
            continue;
        printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " %08" PRIx32 " ", counts->lines, counts->words,
               counts->bytes, counts->crc);
        text_plain(stdout, m->corpus->files[i].path, strlen(m->corpus->files[i].path));
        putchar('\n');
    }
}
