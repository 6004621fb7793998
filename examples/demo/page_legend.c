#include "page_legend.h"

#include <inttypes.h>

#include "text.h"

static void begin_pattern(FILE *out, const char *name)
{
    fprintf(out, "<li><b>%s</b><span>", name);
}

static void put_pattern(FILE *out, const char *name, const char *what)
{
    begin_pattern(out, name);
    fprintf(out, "%s</span></li>\n", what);
}

/* ---- the way of a file ---- */

static void put_flow_patterns(FILE *out, const struct measurement *m)
{
    const struct flow_figures *f = &m->first.figures;
    begin_pattern(out, "batch_processing");
    fprintf(out,
            "The walk gives files one by one; a <code>twill_batcher</code> closes a parcel at %d "
            "files or %d KiB, or when nothing came for a moment. A large file goes alone.</span>"
            "</li>\n",
            PARCEL_FILES, BUFFER_BYTES / 1024);
    begin_pattern(out, "producer_consumer");
    fprintf(
        out,
        "A <code>twill_queue</code> of %d parcels between walk and pipeline: full, it holds the "
        "walk back; closed, it ends the reading.</span></li>\n",
        QUEUE_PARCELS);
    begin_pattern(out, "pipeline");
    fprintf(out,
            "read and tokenise on any worker, merge one at a time in the order of the paths, so it "
            "appends without a lock. At most %zu parcels are inside; %zu were. It names the "
            "bottleneck.</span></li>\n",
            f->tokens, f->pipeline.in_flight_peak);
    begin_pattern(out, "resource_pool");
    fprintf(out,
            "Read buffers, lent for the way of a parcel from read to tokenise: %zu made, lent "
            "%" PRIu64 " times, %zu at once.</span></li>\n",
            f->reading.buffers, f->reading.lent, f->reading.buffers_peak);
}

static void put_guard_patterns(FILE *out, const struct measurement *m)
{
    const struct reading_figures *r = &m->first.figures.reading;
    char took[32];
    begin_pattern(out, "rate_limiter");
    if (m->rules.rate > 0)
        fprintf(out,
                "RATE: a bucket of bytes, %.4g MB a second; each parcel waits for its size, %s in "
                "all.</span></li>\n",
                (double)m->rules.rate / 1e6, text_time(r->paused, took));
    else
        fputs("With <code>RATE=20</code> a bucket of bytes lets the first reading have 20 MB a "
              "second.</span></li>\n",
              out);
    begin_pattern(out, "retry_backoff");
    fprintf(out,
            "A read that fails for a moment is made again, later and later, under one budget for "
            "all files: %" PRIu64 " times%s.</span></li>\n",
            r->retries,
            m->rules.faults ? ", for FAULTS made some fail"
                            : "; <code>FAULTS=1</code> makes some fail");
    begin_pattern(out, "timeout_fallback");
    fprintf(out,
            "Each file has 10 s of the disk, retries included; then the fallback stands in for it: "
            "it counts as unreadable, and the rest goes on. %" PRIu64 " did.</span></li>\n",
            r->limits);
}

/* ---- the whole ---- */

void page_legend_write(FILE *out, const struct measurement *m)
{
    fputs("<section class=\"card\">\n<h2>The twelve patterns at work</h2>\n<ul "
          "class=\"patterns\">\n",
          out);
    put_flow_patterns(out, m);
    put_guard_patterns(out, m);
    put_pattern(
        out, "graceful_shutdown",
        "The first Ctrl-C lets nothing more in, finishes what is under way and reports just "
        "that; the second ends the process at once, by the signal.");
    put_pattern(
        out, "fan_out_fan_in",
        "The workers&rsquo; tables of identifiers are merged, 64 shards out to the threads; "
        "what each shard found comes in on one, which keeps the twenty most frequent.");
    put_pattern(out, "worker_pool",
                "One set of threads, by <code>run.pool</code>: the walk is a task of it, and the "
                "batches, stages, maps and merges of every run use the same workers.");
    put_pattern(out, "parallel_map",
                "The measured runs: files handed to 1, 2, .. workers; a free one takes over from a "
                "busy one. Each has a table of its own, so counting takes no lock.");
    put_pattern(out, "progress_tracker",
                "Workers add bytes to a counter, one atomic addition a step; a thread of its own "
                "draws, so no worker waits for a terminal.");
    fputs("</ul>\n</section>\n", out);
}
