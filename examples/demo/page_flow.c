#include "page_flow.h"

#include <inttypes.h>

#include "text.h"

/* ---- the stations, from left to right ---- */

static void begin_station(FILE *out, const char *name, const char *kind)
{
    fprintf(out, "<li%s><b>%s</b>", kind, name);
}

/* value and what: a figure and its words; three of them are a station. */
static void put_line(FILE *out, const char *value, const char *what)
{
    fprintf(out, "<span><i>%s</i> %s</span>", value, what);
}

static void put_count(FILE *out, uint64_t number, const char *what)
{
    char grouped[32];
    put_line(out, text_grouped(number, grouped), what);
}

static void put_before_pipeline(FILE *out, const struct measurement *m)
{
    const struct flow_figures *f = &m->first.figures;
    char took[32], peak[64];
    begin_station(out, "walk", "");
    put_count(out, m->found, m->found == 1 ? "file" : "files");
    put_count(out, m->corpus->directories, m->corpus->directories == 1 ? "folder" : "folders");
    put_line(out, text_time(f->walked, took), "in all");
    fputs("</li>\n", out);
    begin_station(out, "batches", "");
    put_count(out, f->batches.batches, f->batches.batches == 1 ? "parcel" : "parcels");
    snprintf(peak, sizeof peak, "%.1f",
             f->batches.batches == 0 ? 0.0 : (double)f->batches.added / (double)f->batches.batches);
    put_line(out, peak, "files in each");
    put_count(out, f->batches.by_bytes, "full by size");
    fputs("</li>\n", out);
    begin_station(out, "queue", "");
    snprintf(peak, sizeof peak, "%zu of %zu", f->queue.peak, f->queue.capacity);
    put_line(out, peak, "at most");
    put_count(out, f->queue.push_waits, "times full");
    put_count(out, f->queue.pop_waits, "times empty");
    fputs("</li>\n", out);
}

static void put_stage(FILE *out, const struct measurement *m, size_t stage)
{
    static const char *const colours[FLOW_STAGES] = {"read", "count", "merge"};
    const struct flow_figures *f = &m->first.figures;
    const twill_stage_stats *s = &f->stages[stage];
    double load = flow_load(f, stage, m->first.run.map_end - m->first.run.begin);
    char value[64], busy[32], longest[32];
    bool narrow = stage == f->pipeline.bottleneck;
    begin_station(out, flow_stage_names[stage],
                  narrow ? " class=\"stage narrow\"" : " class=\"stage\"");
    if (narrow)
        fputs("<em>bottleneck</em>", out);
    fprintf(out,
            "<span class=\"load\" data-tip=\"%s|%" PRIu64 " parcels, the longest in %s; %zu waited "
            "before it at most\"><i class=\"k-%s\" style=\"width:%.1f%%\"></i></span>",
            flow_stage_names[stage], s->in, text_time(s->longest, longest), s->waiting_peak,
            colours[stage], load > 1 ? 100.0 : 100 * load);
    snprintf(value, sizeof value, "%.*f %%", 100 * load < 9.95 ? 1 : 0, 100 * load);
    put_line(out, value, stage == FLOW_MERGE ? "busy, in order" : "busy");
    put_line(out, text_time(s->busy, busy), "of threads");
    fputs("</li>\n", out);
}

/* ---- the queue over time ---- */

enum { WIDTH = 1100, LEFT = 40, RIGHT = 1090, TOP = 26, BOTTOM = 160, COLUMNS = 350 };
static const double plot_left = LEFT, plot_width = RIGHT - LEFT, plot_bottom = BOTTOM,
                    plot_height = BOTTOM - TOP;

static double x_at(const struct flow *flow, int64_t when)
{
    double wall = (double)(flow->run.map_end - flow->run.begin);
    double share = (double)when / wall;
    return plot_left + plot_width * (share > 1 ? 1 : share);
}

static double y_at(unsigned parcels, unsigned most)
{
    return plot_bottom - plot_height * parcels / most;
}

/* The samples of one column: where, and the largest of both. False: none. */
static bool column_of(const struct flow *flow, size_t *next, size_t column,
                      struct flow_sample *largest)
{
    const struct flow_figures *f = &flow->figures;
    double end = plot_left + plot_width * (double)(column + 1) / (double)COLUMNS;
    bool any = false;
    for (; *next < f->sample_count && x_at(flow, f->samples[*next].when) <= end; (*next)++) {
        const struct flow_sample *s = &f->samples[*next];
        if (!any)
            *largest = *s;
        largest->queued = s->queued > largest->queued ? s->queued : largest->queued;
        largest->inside = s->inside > largest->inside ? s->inside : largest->inside;
        any = true;
    }
    return any;
}

/* A curve in steps: what is known holds until the next sample. */
static void put_steps(FILE *out, const struct flow *flow, unsigned most, bool queued)
{
    struct flow_sample s = {0};
    size_t next = 0;
    fprintf(out, "M%d %d", LEFT, BOTTOM);
    for (size_t column = 0; column < COLUMNS; column++)
        if (column_of(flow, &next, column, &s))
            fprintf(out, "H%.1fV%.1f", x_at(flow, s.when),
                    y_at(queued ? s.queued : s.inside, most));
    fprintf(out, "H%d", RIGHT);
}

/* 1, 2 or 5 times a power of ten, so that there are four to ten of them. */
static int64_t tick_step(int64_t wall)
{
    static const int64_t times[] = {1, 2, 5};
    for (int64_t power = 1;; power *= 10)
        for (size_t k = 0; k < 3; k++)
            if (wall / (power * times[k]) < 10)
                return power * times[k];
}

static const char *tick_text(int64_t when, char buffer[32])
{
    if (when >= 1000000000)
        snprintf(buffer, 32, "%.4g s", seconds(when));
    else
        snprintf(buffer, 32, "%.4g ms", 1e3 * seconds(when));
    return buffer;
}

static void put_axis(FILE *out, const struct flow *flow, unsigned most)
{
    char took[32];
    for (unsigned k = 0; k <= 2; k++)
        fprintf(out,
                "<path class=\"grid\" d=\"M%d %.1fH%d\"/><text x=\"%d\" y=\"%.1f\" "
                "text-anchor=\"end\">%u</text>\n",
                LEFT, y_at(most * k / 2, most), RIGHT, LEFT - 8, y_at(most * k / 2, most) + 4.5,
                most * k / 2);
    int64_t wall = flow->run.map_end - flow->run.begin, step = tick_step(wall);
    for (int64_t when = 0; when < wall; when += step)
        fprintf(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"%s\">%s</text>\n", x_at(flow, when),
                BOTTOM + 22,
                x_at(flow, when) > RIGHT - 20 ? "end"
                : when > 0                    ? "middle"
                                              : "start",
                when > 0 ? tick_text(when, took) : "0");
}

static void put_walk_end(FILE *out, const struct flow *flow)
{
    double x = x_at(flow, flow->figures.walked);
    bool before = x > (LEFT + RIGHT) / 2;
    fprintf(out,
            "<path class=\"mark\" d=\"M%.1f %dV%d\"/><text x=\"%.1f\" y=\"%d\" "
            "text-anchor=\"%s\">the walk has ended</text>\n",
            x, TOP - 18, BOTTOM, before ? x - 7 : x + 7, TOP - 9, before ? "end" : "start");
}

static void put_depth(FILE *out, const struct flow *flow)
{
    const struct flow_figures *f = &flow->figures;
    unsigned most = QUEUE_PARCELS;
    while (f->tokens > most)
        most *= 2;
    fprintf(out,
            "<svg class=\"depth\" viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"Parcels in the "
            "queue and in the pipeline over time\">\n",
            WIDTH, BOTTOM + 30);
    put_axis(out, flow, most);
    if (f->sample_count > 0) {
        fputs("<path class=\"queued\" d=\"", out);
        put_steps(out, flow, most, true);
        fprintf(out, "V%dZ\"/>\n<path class=\"inside\" d=\"", BOTTOM);
        put_steps(out, flow, most, false);
        fputs("\"/>\n", out);
    }
    if (f->walked < flow->run.map_end - flow->run.begin)
        put_walk_end(out, flow);
    fprintf(out,
            "</svg>\n<ul class=\"legend\"><li><span class=\"key k-queued\"></span>parcels in the "
            "queue, %d at most</li><li><span class=\"key k-inside\"></span>in the pipeline, %zu at "
            "most</li></ul>\n",
            QUEUE_PARCELS, f->tokens);
}

/* ---- the section ---- */

static void put_why(FILE *out, const struct measurement *m)
{
    const struct flow_figures *f = &m->first.figures;
    double load = flow_load(f, f->pipeline.bottleneck, m->first.run.map_end - m->first.run.begin);
    char took[32];
    fprintf(out,
            "The first reading, of files that may still be on the disk, while the walk goes on: %s "
            "on %u thread%s. A parcel is one large file or up to %d small ones; ",
            text_time(run_wall(&m->first.run), took), f->workers, text_plural(f->workers),
            PARCEL_FILES);
    fprintf(out, "memory stays at %zu buffer%s of %d KiB, however large the tree. ",
            f->reading.buffers_peak, text_plural(f->reading.buffers_peak), BUFFER_BYTES / 1024);
    fprintf(out, "The bottleneck is <b>%s</b>, busy for %.0f&nbsp;%% of its workers&rsquo; time",
            flow_stage_names[f->pipeline.bottleneck], 100 * load);
    if (m->rules.rate > 0)
        fprintf(out, ": it may read %.4g MB/s, and paused for %s of threads",
                (double)m->rules.rate / 1e6, text_time(f->reading.paused, took));
    fputs(".", out);
    if (f->reading.retries > 0)
        fprintf(out,
                " %" PRIu64 " reads failed for a moment (%" PRIu64 " were made to) and were "
                "made again.",
                f->reading.retries, f->reading.faults);
}

void page_flow_write(FILE *out, const struct measurement *m)
{
    fputs("<section class=\"card\">\n<h2>The way through the pipeline</h2>\n<p class=\"why\">",
          out);
    put_why(out, m);
    fputs("</p>\n<ol class=\"stations\">\n", out);
    put_before_pipeline(out, m);
    for (size_t k = 0; k < FLOW_STAGES; k++)
        put_stage(out, m, k);
    fputs("</ol>\n", out);
    put_depth(out, &m->first);
    fputs("</section>\n", out);
}
