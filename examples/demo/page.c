#define _XOPEN_SOURCE 700
#include "page.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>

#include "page_assets.h"
#include "page_flow.h"
#include "page_folders.h"
#include "page_lanes.h"
#include "page_legend.h"
#include "text.h"

/* ---- figures ---- */

static double speed_up(const struct measurement *m, const struct run *run)
{
    return (double)run_wall(config_run(&m->configs[0])) / (double)run_wall(run);
}

/* Of the maps: those of the curve. */
static size_t map_count(const struct measurement *m)
{
    return m->config_count - 1;
}

static const struct config *best_config(const struct measurement *m)
{
    const struct config *best = &m->configs[1];
    for (size_t c = 2; c < map_count(m); c++)
        if (run_wall(config_run(&m->configs[c])) < run_wall(config_run(best)))
            best = &m->configs[c];
    return best;
}

static void put_lines(FILE *out, const char *const *lines)
{
    for (; *lines != NULL; lines++)
        fprintf(out, "%s\n", *lines);
}

static void put_text(FILE *out, const char *text)
{
    text_html(out, text, strlen(text));
}

const char *page_label(const struct config *config, char label[32])
{
    if (config->workers == 0)
        return "plain loop";
    snprintf(label, 32, "%u worker%s%s", config->workers, text_plural(config->workers),
             config->pipeline ? ", pipeline" : "");
    return label;
}

/* ---- head ---- */

static void put_machine(FILE *out, const struct measurement *m)
{
    struct utsname machine;
    char when[40] = "";
    time_t now = time(NULL);
    const struct tm *utc = gmtime(&now);
    fprintf(out, "%u CPU%s", m->cpus, m->cpus == 1 ? "" : "s");
    if (uname(&machine) >= 0) {
        fputs(" &middot; ", out);
        put_text(out, machine.sysname);
        fputs(" on ", out);
        put_text(out, machine.machine);
    }
    if (utc != NULL && strftime(when, sizeof when, "%Y-%m-%d %H:%M UTC", utc) > 0)
        fprintf(out, " &middot; <span class=\"when\">%s</span>", when);
}

static void put_claim(FILE *out, const struct measurement *m)
{
    const struct config *best = m->rounds > 0 ? best_config(m) : NULL;
    double factor = best != NULL ? speed_up(m, config_run(best)) : 0;
    if (factor >= 1.05)
        fprintf(out, "<em>%.2f times</em> as fast on %u thread%s, and not one count differs.",
                factor, best->workers, text_plural(best->workers));
    else if (m->rounds > 0)
        fputs("the same counts on any number of threads.", out);
    else
        fputs("read when it was asked to <em>stop</em>.", out);
}

static void put_head(FILE *out, const struct measurement *m)
{
    char files[32], bytes[16], all[32];
    fputs("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
          "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
          "<title>twill: crunch</title>\n<style>\n",
          out);
    put_lines(out, page_style);
    fprintf(out,
            "</style>\n</head>\n<body>\n<main>\n<p class=\"brand\"><b>twill</b> &nbsp;crunch</p>\n"
            "<h1>%s",
            text_grouped(m->corpus->count, files));
    if (m->corpus->count < m->found)
        fprintf(out, " of %s", text_grouped(m->found, all));
    fprintf(out, " file%s, ", text_plural(m->found));
    put_claim(out, m);
    fputs("</h1>\n", out);
    fputs("<p class=\"sub\"><code>", out);
    put_text(out, m->corpus->root);
    fprintf(out, "</code> &middot; %s &middot; ", text_bytes(m->totals.bytes, bytes));
    put_machine(out, m);
    fputs("</p>\n", out);
}

static void put_speed_tile(FILE *out, const struct measurement *m, const struct config *config)
{
    double speed = (double)m->totals.bytes / 1e6 / seconds(run_wall(config_run(config)));
    char label[32], took[32];
    fprintf(out,
            "<div class=\"tile\"><p>%s</p><strong>%.*f <small>MB/s</small></strong>"
            "<p>%s a pass</p></div>\n",
            page_label(config, label), speed < 10 ? 1 : 0, speed,
            text_time(run_wall(config_run(config)), took));
}

static void put_first_tile(FILE *out, const struct measurement *m)
{
    const struct run *run = &m->first.run;
    double speed = (double)m->totals.bytes / 1e6 / seconds(run_wall(run));
    char took[32];
    fprintf(out,
            "<div class=\"tile\"><p>First reading, pipeline</p><strong>%.*f "
            "<small>MB/s</small></strong><p>%s, walk included</p></div>\n",
            speed < 10 ? 1 : 0, speed, text_time(run_wall(run), took));
}

static void put_proof_tile(FILE *out, const struct measurement *m)
{
    if (m->runs_proven > 0)
        fprintf(out,
                "<div class=\"tile proof\"><p>Proof</p><strong>%zu of %zu "
                "<small>equal</small></strong><p>runs: all files, all names</p></div>\n",
                m->runs_proven, m->runs_made);
    else
        fputs("<div class=\"tile\"><p>Proof</p><strong>none</strong><p>stopped before the plain "
              "loop had run</p></div>\n",
              out);
}

/* Stopped before there was anything to compare. */
static void put_few_tiles(FILE *out, const struct measurement *m)
{
    char names[32], lines[32];
    fputs("<section class=\"tiles\">\n", out);
    put_first_tile(out, m);
    fprintf(out,
            "<div class=\"tile\"><p>Lines</p><strong>%s</strong><p>of what was read</p></div>\n"
            "<div class=\"tile\"><p>Identifiers</p><strong>%s</strong><p>of what was read</p>"
            "</div>\n",
            text_grouped(m->totals.lines, lines), text_grouped(m->totals.names, names));
    put_proof_tile(out, m);
    fputs("</section>\n", out);
}

static void put_tiles(FILE *out, const struct measurement *m)
{
    const struct config *best = best_config(m);
    unsigned busy = best->workers < m->cpus ? best->workers : m->cpus;
    double factor = speed_up(m, config_run(best));
    fputs("<section class=\"tiles\">\n", out);
    put_speed_tile(out, m, &m->configs[0]);
    put_speed_tile(out, m, best);
    fprintf(out,
            "<div class=\"tile\"><p>Speed-up</p><strong>%.2f <small>&times;</small></strong>"
            "<p>%.0f %% of %u CPU%s</p></div>\n",
            factor, 100 * factor / busy, busy, text_plural(busy));
    put_first_tile(out, m);
    put_proof_tile(out, m);
    fputs("</section>\n", out);
}

/* ---- lanes ---- */

static void put_lanes(FILE *out, const struct measurement *m)
{
    fputs("<section class=\"card\">\n<div class=\"top\"><div><h2>What each thread did, and "
          "when</h2>\n"
          "<p class=\"why\">One lane a thread, all on the same clock, each the median run of its "
          "kind. Where files are "
          "thinner than a pixel, the colours show the mixture. Point at a file for its name; drag "
          "across to look "
          "closer.</p></div>\n"
          "<div class=\"zoom\"><button data-factor=\"0.5\" aria-label=\"Zoom in\">+</button>"
          "<button data-factor=\"2\" aria-label=\"Zoom "
          "out\">&minus;</button><button>Whole</button></div></div>\n"
          "<canvas id=\"lanes\" tabindex=\"0\" role=\"img\" aria-label=\"Lanes of threads over "
          "time. The figures are in "
          "the sections below. Keys: plus, minus, arrows, 0.\"></canvas>\n"
          "<noscript><p>The lanes are drawn by a script on this page; the other figures need "
          "none.</p></noscript>\n"
          "<ul class=\"legend\"><li><span class=\"key k-count\"></span>counting</li>"
          "<li><span class=\"key k-read\"></span>opening and reading</li>"
          "<li><span class=\"key k-merge\"></span>merging the tables</li>"
          "<li><span class=\"key k-wait\"></span>waiting for a processor or the disk</li>"
          "<li><span class=\"key k-idle\"></span>idle</li></ul>\n"
          "<script type=\"application/json\" id=\"data\">",
          out);
    page_lanes_write(out, m);
    fputs("</script>\n</section>\n", out);
}

/* ---- the speed-up curve ---- */

struct frame {
    double left, right, top, bottom, workers, factor;
}; /* the last two: at the ends of the axes */

static double x_of(const struct frame *f, double workers)
{
    return f->left + (f->right - f->left) * workers / f->workers;
}

static double y_of(const struct frame *f, double factor)
{
    return f->bottom - (f->bottom - f->top) * factor / f->factor;
}

static struct frame frame_for(const struct measurement *m)
{
    struct frame f = {34, 505, 16, 300, m->cpus * 2 + m->cpus * 0.16, m->cpus};
    for (size_t c = 1; c < map_count(m); c++)
        for (size_t r = 0; r < m->rounds; r++)
            if (speed_up(m, &m->configs[c].runs[r]) > f.factor)
                f.factor = speed_up(m, &m->configs[c].runs[r]);
    f.factor *= 1.12;
    return f;
}

static void put_axes(FILE *out, const struct measurement *m, const struct frame *f)
{
    double cpus = x_of(f, m->cpus), last = -100;
    fprintf(out,
            "<rect class=\"over\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>"
            "<text x=\"%.1f\" y=\"%.1f\">more workers than CPUs</text>\n",
            cpus, f->top, f->right - cpus, f->bottom - f->top, cpus + 10, f->bottom - 12);
    unsigned step = 1;
    while (f->factor / step > 8)
        step *= 2;
    for (unsigned factor = 0; factor <= f->factor; factor += step)
        fprintf(out,
                "<path class=\"grid\" d=\"M%.1f %.1fH%.1f\"/><text x=\"%.1f\" y=\"%.1f\" "
                "text-anchor=\"end\">%u"
                "</text>\n",
                f->left, y_of(f, factor), f->right, f->left - 10, y_of(f, factor) + 4.5, factor);
    for (size_t c = 1; c < map_count(m); c++) {
        double x = x_of(f, m->configs[c].workers);
        if (x - last < 26)
            continue;
        fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%u</text>\n", x,
                f->bottom + 22, m->configs[c].workers);
        last = x;
    }
    fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">workers</text>\n", f->right,
            f->bottom + 42);
}

static void put_points(FILE *out, const struct measurement *m, const struct frame *f)
{
    char label[32], took[32];
    fputs("<path class=\"curve\" d=\"", out);
    for (size_t c = 1; c < map_count(m); c++)
        fprintf(out, "%c%.1f %.1f", c == 1 ? 'M' : 'L', x_of(f, m->configs[c].workers),
                y_of(f, speed_up(m, config_run(&m->configs[c]))));
    fputs("\"/>\n", out);
    for (size_t c = 1; c < map_count(m); c++)
        for (size_t r = 0; r < m->rounds; r++)
            fprintf(out, "<circle class=\"round\" cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\"/>",
                    x_of(f, m->configs[c].workers), y_of(f, speed_up(m, &m->configs[c].runs[r])));
    for (size_t c = 1; c < map_count(m); c++) {
        const struct config *config = &m->configs[c];
        double factor = speed_up(m, config_run(config)), x = x_of(f, config->workers),
               y = y_of(f, factor);
        unsigned busy = config->workers < m->cpus ? config->workers : m->cpus;
        fprintf(out,
                "\n<circle class=\"point\" cx=\"%.1f\" cy=\"%.1f\" r=\"6\" data-tip=\"%s|%s, "
                "%.2f times the "
                "plain loop, %.0f %% of %u CPU%s\"/><text class=\"value\" x=\"%.1f\" y=\"%.1f\" "
                "text-anchor=\"middle\">"
                "%.2f</text>",
                x, y, page_label(config, label), text_time(run_wall(config_run(config)), took),
                factor, 100 * factor / busy, busy, busy == 1 ? "" : "s", x, y + 28, factor);
    }
}

static void put_curve(FILE *out, const struct measurement *m)
{
    struct frame f = frame_for(m);
    fprintf(
        out,
        "<section class=\"card\">\n<h2>Speed-up</h2>\n<p class=\"why\">Against the plain loop, "
        "which does not "
        "use the library. Line: median of %zu round%s; pale dots: each round; dotted: ideal.</p>\n"
        "<svg viewBox=\"0 0 520 350\" role=\"img\" aria-label=\"Speed-up by number of workers\">\n",
        m->rounds, m->rounds == 1 ? "" : "s");
    put_axes(out, m, &f);
    fprintf(out, "<path class=\"ideal\" d=\"M%.1f %.1fL%.1f %.1fH%.1f\"/>\n", x_of(&f, 0),
            y_of(&f, 0), x_of(&f, m->cpus), y_of(&f, m->cpus), f.right);
    put_points(out, m, &f);
    fputs("\n</svg>\n</section>\n", out);
}

/* ---- where the time went ---- */

static void put_share(FILE *out, const char *kind, const char *what, double part, double whole,
                      double total)
{
    if (part / whole > 0.0005)
        fprintf(out,
                "<i class=\"k-%s\" style=\"width:%.2f%%\" data-tip=\"%s|%.1f ms of threads, %.1f "
                "%% of this bar\">"
                "</i>",
                kind, 100 * part / whole, what, 1e3 * part, 100 * part / total);
}

static void put_load(FILE *out, const struct measurement *m)
{
    double waited = measurement_waited(m);
    if (waited > 0.1)
        fprintf(out,
                " On %u threads, %.0f&nbsp;%% of the time went by waiting: other programs had the "
                "processors, or the disk was slow.",
                m->cpus, 100 * waited);
}

static void put_time(FILE *out, const struct measurement *m)
{
    char label[32], took[32];
    double widest = 0;
    for (size_t c = 0; c < m->config_count; c++) {
        struct shares s = config_shares(&m->configs[c]);
        widest = s.total > widest ? s.total : widest;
    }
    fputs(
        "<section class=\"card\">\n<h2>Where the time went</h2>\n<p class=\"why\">Time of all "
        "threads together. Twice "
        "the threads offer twice the time: what they do not use is idle, or waits for a processor.",
        out);
    put_load(out, m);
    fputs("</p>\n<div class=\"bars\">\n", out);
    for (size_t c = 0; c < m->config_count; c++) {
        struct shares s = config_shares(&m->configs[c]);
        fprintf(out, "<div><p>%s<span>%s", page_label(&m->configs[c], label),
                text_time(run_wall(config_run(&m->configs[c])), took));
        if (m->configs[c].workers > 1)
            fprintf(out, " on %u threads", m->configs[c].workers);
        fputs("</span></p><div class=\"stack\">", out);
        put_share(out, "count", "counting", s.count, widest, s.total);
        put_share(out, "read", "opening and reading", s.read, widest, s.total);
        put_share(out, "merge", "merging the tables", s.merge, widest, s.total);
        put_share(out, "wait", "waiting for a processor or the disk", s.wait, widest, s.total);
        put_share(out, "idle", "idle: starting, out of work, or between files", s.idle, widest,
                  s.total);
        fputs("</div></div>\n", out);
    }
    fputs("</div>\n<ul class=\"legend\"><li><span class=\"key k-count\"></span>count</li>"
          "<li><span class=\"key k-read\"></span>open, read</li><li><span class=\"key "
          "k-merge\"></span>merge</li>"
          "<li><span class=\"key k-wait\"></span>wait</li><li><span class=\"key "
          "k-idle\"></span>idle</li></ul>\n"
          "</section>\n",
          out);
}

/* ---- findings ---- */

static void put_names(FILE *out, const struct measurement *m)
{
    struct name top[TOP_NAMES];
    char count[32];
    size_t held = names_top(counter_names(m->reference_counter), top, TOP_NAMES);
    fputs("<section class=\"card\">\n<h2>The most frequent identifiers</h2>\n<p "
          "class=\"why\">Outside comments and "
          "literals, keywords left out.</p>\n<ol class=\"names\">\n",
          out);
    for (size_t i = 0; i < held; i++) {
        fputs("<li><code title=\"", out);
        text_html(out, top[i].text, top[i].length);
        fputs("\">", out);
        text_html(out, top[i].text, top[i].length);
        fprintf(out, "</code><i style=\"width:%.1f%%\"></i><span>%s</span></li>\n",
                100 * (double)top[i].count / (double)top[0].count,
                text_grouped(top[i].count, count));
    }
    fputs("</ol>\n</section>\n", out);
}

static void put_fact(FILE *out, const char *what, uint64_t number)
{
    char grouped[32];
    fprintf(out, "<dt>%s</dt><dd>%s</dd>\n", what, text_grouped(number, grouped));
}

static void put_facts(FILE *out, const struct measurement *m)
{
    const struct corpus *corpus = m->corpus;
    size_t largest = 0;
    char bytes[16], took[32];
    for (size_t i = 1; i < corpus->count; i++)
        if (m->reference[i].bytes > m->reference[largest].bytes)
            largest = i;
    fputs("<section class=\"card\">\n<h2>The corpus</h2>\n<dl>\n", out);
    put_fact(out, "files", corpus->count);
    put_fact(out, "folders", corpus->directories);
    put_fact(out, "bytes", m->totals.bytes);
    put_fact(out, "lines", m->totals.lines);
    put_fact(out, "words", m->totals.words);
    put_fact(out, "identifiers", m->totals.names);
    put_fact(out, "different identifiers", m->distinct);
    fputs("<dt>largest file</dt><dd><code>", out);
    put_text(out, corpus->files[largest].path);
    fprintf(out, "</code>, %s</dd>\n", text_bytes(m->reference[largest].bytes, bytes));
    fprintf(out, "<dt>first reading</dt><dd>%s, %.0f MB/s</dd>\n",
            text_time(run_wall(&m->first.run), took),
            (double)m->totals.bytes / 1e6 / seconds(run_wall(&m->first.run)));
    put_fact(out, "links not followed", corpus->links);
    if (corpus->loops > 0)
        put_fact(out, "folders met twice", corpus->loops);
    if (corpus->others > 0)
        put_fact(out, "sockets, pipes, devices", corpus->others);
    if (m->failed + corpus->problem_count > 0)
        put_fact(out, "could not be read", m->failed + corpus->problem_count);
    if (m->left_out > 0)
        put_fact(out, "changed meanwhile, left out", m->left_out);
    fputs("</dl>\n", out);
    page_folders_write(out, m);
    fputs("</section>\n", out);
}

static void put_foot(FILE *out, const struct measurement *m)
{
    fprintf(out,
            "<footer>Measured over %zu complete round%s, each with every number of workers and the "
            "pipeline once, after readings that brought the files into memory. A run is proven "
            "when bytes, lines, words, "
            "identifiers and CRC-32 of "
            "each file and the count of each identifier equal those of a reading by the "
            "plain loop. To draw "
            "your own: <code>make demo CORPUS=folder</code>.</footer>\n</main>\n<div id=\"tip\" "
            "role=\"status\"></div>\n"
            "<script>\n",
            m->rounds, m->rounds == 1 ? "" : "s");
    put_lines(out, page_script);
    fputs("</script>\n</body>\n</html>\n", out);
}

/* ---- the file ---- */

int page_write(const struct measurement *m, const char *path)
{
    FILE *out = fopen(path, "w");
    if (out == NULL)
        return errno;
    errno = 0;
    put_head(out, m);
    if (m->rounds > 0)
        put_tiles(out, m);
    else
        put_few_tiles(out, m);
    put_lanes(out, m);
    page_flow_write(out, m);
    fputs("<div class=\"pair\">\n", out);
    if (m->rounds > 0) {
        put_curve(out, m);
        put_time(out, m);
    }
    put_names(out, m);
    put_facts(out, m);
    fputs("</div>\n", out);
    page_legend_write(out, m);
    put_foot(out, m);
    int error = fflush(out) != 0 || ferror(out) ? (errno != 0 ? errno : EIO) : 0;
    if (fclose(out) != 0 && error == 0)
        error = errno;
    struct stat info;
    if (error != 0 && lstat(path, &info) == 0 && S_ISREG(info.st_mode))
        remove(path);
    return error;
}
