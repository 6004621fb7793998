#include "page_lanes.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

enum {
    MAX_LANES = 64,
    MAX_SPANS = 8000
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
    const struct effort *effort;
};

static size_t turns_of(const struct run *run)
{
    return run->reads == NULL ? run->files : 2 * run->files;
}

static int by_turn(const void *a, const void *b)
{
    const struct turn *left = a, *right = b;
    if (left->worker != right->worker)
        return left->worker < right->worker ? -1 : 1;
    return left->begin < right->begin ? -1 : left->begin > right->begin;
}

static struct turn turn_of(const struct effort *effort, unsigned worker, size_t file)
{
    return (struct turn){worker, effort->begin, file, effort};
}

static void sort_turns(const struct run *run, struct turn *turns)
{
    for (size_t i = 0; i < run->files; i++)
        turns[i] = turn_of(&run->efforts[i], run->workers_of[i], i);
    for (size_t i = 0; i < run->files && run->reads != NULL; i++)
        turns[run->files + i] = turn_of(&run->reads[i], run->readers_of[i], i);
    qsort(turns, turns_of(run), sizeof *turns, by_turn);
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

static struct span span_of(const struct run *run, const struct turn *turn)
{
    const struct effort *effort = turn->effort;
    int64_t begin = units(effort->begin - run->begin);
    int64_t end = units(effort->begin - run->begin + effort->read + effort->count);
    struct span span = {.file = turn->file, .begin = begin, .read = units(effort->read)};
    span.read = span.read > end - begin ? end - begin : span.read;
    span.count = end - begin - span.read;
    span.cpu = units(effort->read_cpu + effort->count_cpu);
    return span;
}

/* Of one kind of work, and without a pause between them? Then they may be drawn as one. */
static bool belong_together(const struct span *a, const struct span *b, int64_t shortest)
{
    bool alike = (a->read == 0) == (b->read == 0) && (a->count == 0) == (b->count == 0);
    return alike && b->begin - a->begin - a->read - a->count < shortest;
}

/* Calls `use` for each span of one lane, neighbours shorter than `shortest` made one; returns
   the turns used. */
typedef void use_span(void *context, const struct span *span);

static size_t each_span(const struct run *run, const struct turn *turns, size_t count,
                        unsigned worker, int64_t shortest, use_span *use, void *context)
{
    size_t i = 0;
    while (i < count && turns[i].worker == worker) {
        struct span span = span_of(run, &turns[i++]);
        while (i < count && turns[i].worker == worker && span.read + span.count < shortest) {
            struct span next = span_of(run, &turns[i]);
            int64_t gap = next.begin - span.begin - span.read - span.count;
            if (!belong_together(&span, &next, shortest))
                break;
            if (span.count > 0)
                span.count += next.count + (gap > 0 ? gap : 0);
            else
                span.read += gap > 0 ? gap : 0;
            span.read += next.read;
            span.cpu += next.cpu;
            span.more++;
            i++;
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
};

struct group { /* a run, and its lanes */
    char label[64];
    const struct run *run;
    unsigned lanes;
};

static struct group first_group(const struct measurement *m)
{
    struct group group = {"", &m->first.run, m->first.figures.workers};
    snprintf(group.label, sizeof group.label, "first reading, through the pipeline");
    return group;
}

static struct group config_group(const struct measurement *m, const struct config *config)
{
    struct group group = {"", config_run(config), config->workers == 0 ? 1 : config->workers};
    char buffer[32];
    snprintf(group.label, sizeof group.label, "%s%s", page_label(config, buffer),
             config->workers > m->cpus ? " (oversubscribed)" : "");
    return group;
}

/* The first reading; then all configurations while there is room, and in any case the plain loop
   and those with all CPUs. Returns how many. */
static size_t choose_groups(const struct measurement *m, struct group *groups)
{
    size_t count = 0;
    unsigned lanes = 0;
    if (m->first.run.files > 0)
        groups[count++] = first_group(m);
    for (size_t c = 0; c < m->config_count && m->rounds > 0; c++) {
        struct group group = config_group(m, &m->configs[c]);
        bool wanted = m->configs[c].workers == 0 || m->configs[c].workers == m->cpus;
        if (lanes + group.lanes > MAX_LANES && !wanted)
            continue;
        lanes += group.lanes;
        groups[count++] = group;
    }
    return count;
}

static int64_t shortest_span(const struct group *group)
{
    if (turns_of(group->run) <= MAX_SPANS)
        return 0;
    return units(run_wall(group->run)) * group->lanes / MAX_SPANS;
}

static void mark_names(struct drawing *d, const struct group *group)
{
    size_t turns = turns_of(group->run), at = 0;
    sort_turns(group->run, d->turns);
    for (unsigned lane = 0; lane < group->lanes; lane++)
        at += each_span(group->run, d->turns + at, turns - at, lane, shortest_span(group), use_mark,
                        d->named);
}

static void put_run(FILE *out, struct drawing *d, const struct group *group)
{
    const struct run *run = group->run;
    size_t turns = turns_of(run), at = 0;
    fprintf(out, "\n{\"label\":\"%s\",\"wall\":%" PRId64 ",\"lanes\":[", group->label,
            units(run_wall(run)));
    sort_turns(run, d->turns);
    for (unsigned lane = 0; lane < group->lanes; lane++) {
        struct lane_writer writer = {.out = out, .number_of = d->number_of};
        fputs(lane == 0 ? "[" : ",\n[", out);
        at +=
            each_span(run, d->turns + at, turns - at, lane, shortest_span(group), use_put, &writer);
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
    size_t files = m->corpus->count, count = 0;
    struct drawing d = {.m = m,
                        .turns = calloc(2 * files, sizeof *d.turns),
                        .named = calloc(files, sizeof *d.named),
                        .number_of = calloc(files, sizeof *d.number_of)};
    struct group *groups = calloc(m->config_count + 1, sizeof *groups);
    if (d.turns == NULL || d.named == NULL || d.number_of == NULL || groups == NULL) {
        fputs("{\"names\":[],\"sizes\":[],\"runs\":[]}",
              out); /* the rest of the page is right without lanes */
    } else {
        count = choose_groups(m, groups);
        for (size_t k = 0; k < count; k++)
            mark_names(&d, &groups[k]);
        put_file_names(out, &d);
        for (size_t k = 0; k < count; k++) {
            fputs(k > 0 ? "," : "", out);
            put_run(out, &d, &groups[k]);
        }
        fputs("]}", out);
    }
    free(groups);
    free(d.turns);
    free(d.named);
    free(d.number_of);
}
