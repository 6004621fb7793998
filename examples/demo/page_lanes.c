#include "page_lanes.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

enum {
    MAX_LANES = 64,
    MAX_SPANS = 20000
}; /* drawn, and kept apart in one run: so that the page stays small */

struct span { /* a file on a lane, or several small ones in a row; units of 100 ns */
    size_t file, more;
    int64_t begin, read, count, cpu;
};

static int64_t units(int64_t ns)
{
    return ns / 100;
}

/* ---- the files of a run by thread and time ---- */

struct turn {
    unsigned worker;
    int64_t begin;
    size_t file;
};

static int by_turn(const void *a, const void *b)
{
    const struct turn *left = a, *right = b;
    if (left->worker != right->worker)
        return left->worker < right->worker ? -1 : 1;
    return left->begin < right->begin ? -1 : left->begin > right->begin;
}

static void sort_files(const struct run *run, size_t files, struct turn *turns)
{
    for (size_t i = 0; i < files; i++)
        turns[i] = (struct turn){run->workers_of[i], run->efforts[i].begin, i};
    qsort(turns, files, sizeof *turns, by_turn);
}

/* ---- one lane ---- */

struct lane_writer {
    FILE *out;
    const size_t *number_of; /* file -> its place in the list of names */
    size_t last_file;
    int64_t last_end;
    bool any;
};

static void put_span(struct lane_writer *writer, const struct span *span)
{
    int64_t wall = span->read + span->count;
    int64_t percent = wall == 0 || span->cpu >= wall ? 100 : span->cpu * 100 / wall;
    int64_t gap = span->begin - writer->last_end;
    size_t number = writer->number_of[span->file];
    fprintf(writer->out, "%s%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 ",%zu",
            writer->any ? "," : "", (int64_t)number - (int64_t)writer->last_file, gap, span->read,
            span->count, percent, span->more);
    writer->last_file = number;
    writer->last_end = span->begin + wall;
    writer->any = true;
}

static struct span span_of(const struct run *run, size_t file)
{
    const struct effort *effort = &run->efforts[file];
    int64_t begin = units(effort->begin - run->begin);
    int64_t end = units(effort->begin - run->begin + effort->read + effort->count);
    struct span span = {.file = file, .begin = begin, .read = units(effort->read)};
    span.read = span.read > end - begin ? end - begin : span.read;
    span.count = end - begin - span.read;
    span.cpu = units(effort->read_cpu + effort->count_cpu);
    return span;
}

/* Calls `use` for each span of one lane, neighbours shorter than `shortest` made one; returns
   the turns used. */
typedef void use_span(void *context, const struct span *span);

static size_t each_span(const struct run *run, const struct turn *turns, size_t count,
                        unsigned worker, int64_t shortest, use_span *use, void *context)
{
    size_t i = 0;
    while (i < count && turns[i].worker == worker) {
        struct span span = span_of(run, turns[i++].file);
        while (i < count && turns[i].worker == worker && span.read + span.count < shortest) {
            struct span next = span_of(run, turns[i++].file);
            int64_t gap = next.begin - span.begin - span.read - span.count;
            span.read += next.read + (gap > 0 ? gap : 0);
            span.count += next.count;
            span.cpu += next.cpu;
            span.more++;
        }
        use(context, &span);
    }
    return i;
}

static void use_put(void *context, const struct span *span)
{
    put_span(context, span);
}

static void use_mark(void *context, const struct span *span)
{
    bool *named = context;
    named[span->file] = true;
}

/* ---- the runs ---- */

struct drawing {
    const struct measurement *m;
    struct turn *turns;
    bool *named; /* files whose names the page needs */
    size_t *number_of;
    unsigned lanes; /* drawn so far */
};

/* All configurations while there is room; the plain loop and the one with all CPUs in any case. */
static bool is_drawn(struct drawing *d, const struct config *config)
{
    unsigned lanes = config->workers == 0 ? 1 : config->workers;
    if (d->lanes + lanes > MAX_LANES && config->workers != 0 && config->workers != d->m->cpus)
        return false;
    d->lanes += lanes;
    return true;
}

static int64_t shortest_span(const struct measurement *m, const struct config *config)
{
    if (m->corpus->count <= MAX_SPANS)
        return 0;
    return units(run_wall(config_run(config))) * (config->workers == 0 ? 1 : config->workers) /
           MAX_SPANS;
}

static void mark_names(struct drawing *d, const struct config *config)
{
    size_t files = d->m->corpus->count, at = 0;
    sort_files(config_run(config), files, d->turns);
    for (unsigned lane = 0; lane == 0 || lane < config->workers; lane++)
        at += each_span(config_run(config), d->turns + at, files - at, lane,
                        shortest_span(d->m, config), use_mark, d->named);
}

static void put_run(FILE *out, struct drawing *d, const struct config *config)
{
    const struct run *run = config_run(config);
    size_t files = d->m->corpus->count, at = 0;
    char label[64], buffer[32];
    snprintf(label, sizeof label, "%s%s", page_label(config, buffer),
             config->workers > d->m->cpus ? " (oversubscribed)" : "");
    fprintf(out, "\n{\"label\":\"%s\",\"wall\":%" PRId64 ",\"lanes\":[", label,
            units(run_wall(run)));
    sort_files(run, files, d->turns);
    for (unsigned lane = 0; lane == 0 || lane < config->workers; lane++) {
        struct lane_writer writer = {.out = out, .number_of = d->number_of};
        fputs(lane == 0 ? "[" : ",\n[", out);
        at += each_span(run, d->turns + at, files - at, lane, shortest_span(d->m, config), use_put,
                        &writer);
        fputc(']', out);
    }
    fputs("],\"merges\":[", out);
    for (size_t k = 0, any = 0; k < NAMES_SHARDS; k++) {
        const struct merge_effort *merge = &run->merges[k];
        if (merge->took > 0)
            fprintf(out, "%s[%u,%" PRId64 ",%" PRId64 "]", any++ ? "," : "", merge->worker,
                    units(merge->begin - run->begin), units(merge->took));
    }
    fputs("]}", out);
}

/* ---- names ---- */

/* How many first characters two names share, as far as they are the same in bytes, in text and
   in the script. */
static size_t shared(const char *a, const char *b)
{
    size_t n = 0;
    while (a[n] != '\0' && a[n] == b[n] && a[n] >= ' ' && a[n] <= '~')
        n++;
    return n;
}

static void put_file_names(FILE *out, struct drawing *d)
{
    const struct corpus *corpus = d->m->corpus;
    const char *last = "";
    size_t number = 0;
    fputs("{\"names\":[", out);
    for (size_t i = 0; i < corpus->count; i++) {
        if (!d->named[i])
            continue;
        const char *path = corpus->files[i].path;
        size_t same = shared(last, path);
        fprintf(out, "%s%zu,\"", number == 0 ? "" : ",", same);
        text_json(out, path + same, strlen(path + same));
        fputc('"', out);
        d->number_of[i] = number++;
        last = path;
    }
    fputs("],\n\"sizes\":[", out);
    number = 0;
    for (size_t i = 0; i < corpus->count; i++)
        if (d->named[i])
            fprintf(out, "%s%" PRIu64, number++ == 0 ? "" : ",", d->m->reference[i].bytes);
    fputs("],\n\"runs\":[", out);
}

void page_lanes_write(FILE *out, const struct measurement *m)
{
    size_t files = m->corpus->count;
    struct drawing d = {.m = m,
                        .turns = calloc(files, sizeof *d.turns),
                        .named = calloc(files, sizeof *d.named),
                        .number_of = calloc(files, sizeof *d.number_of)};
    if (d.turns == NULL || d.named == NULL || d.number_of == NULL) {
        fputs("{\"names\":[],\"sizes\":[],\"runs\":[]}",
              out); /* the rest of the page is right without lanes */
    } else {
        for (size_t c = 0; c < m->config_count; c++)
            if (is_drawn(&d, &m->configs[c]))
                mark_names(&d, &m->configs[c]);
        put_file_names(out, &d);
        d.lanes = 0;
        bool any = false;
        for (size_t c = 0; c < m->config_count; c++) {
            if (!is_drawn(&d, &m->configs[c]))
                continue;
            fputs(any ? "," : "", out);
            put_run(out, &d, &m->configs[c]);
            any = true;
        }
        fputs("]}", out);
    }
    free(d.turns);
    free(d.named);
    free(d.number_of);
}
