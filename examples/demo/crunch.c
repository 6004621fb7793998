/* crunch: what is in a tree of source files, and how much faster several threads find out.
 *
 *     crunch [--out DIR] [--quick] [--list] [--generate | CORPUS]
 *
 * Walks CORPUS (or $CORPUS, or /usr/include, or a tree that it makes), counts lines, words and
 * identifiers and a checksum of every file, first in a plain loop, then on 1..N workers; checks
 * that every run found the same; prints the figures and draws them on a page, DIR/demo.html.
 *
 * The patterns at work: parallel_map (files on workers, each with a table of its own; the tables
 * merged shard by shard) and progress_tracker (bytes done, drawn by a thread that no worker waits
 * for).
 */
#define _XOPEN_SOURCE     700
#define _FILE_OFFSET_BITS 64

#define TWILL_IMPLEMENTATION
#include "twill_parallel_map.h"
#include "twill_progress_tracker.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "corpus.h"
#include "measure.h"
#include "page.h"
#include "text.h"

enum { SHOWN_PROBLEMS = 5 };

enum { /* exit statuses */
       ALL_WELL = 0,
       NOT_DONE = 1,      /* a wrong result, no memory, or the output could not be written */
       NOTHING_TO_DO = 2, /* wrong usage, no such corpus, or no file in it */
       FILES_MISSING = 3  /* done, but for files or folders that could not be read */
};

struct wishes {
    const char *out, *corpus; /* corpus NULL: look for one */
    bool quick, list, generate;
};

static const char usage[] =
    "usage: crunch [--out DIR] [--quick] [--list] [--generate | CORPUS]\n"
    "  CORPUS      the tree to crunch (or --corpus DIR; default: $CORPUS, then /usr/include, then "
    "a made one)\n"
    "  --out DIR   where demo.html goes (default: out)\n"
    "  --quick     one round instead of several seconds of them\n"
    "  --list      print lines, words, bytes, CRC-32 and name of every file\n"
    "  --generate  make a corpus in DIR/corpus and crunch that\n"
    "exit status: 0 all well, 1 wrong result or output not written, 2 nothing to do,\n"
    "             3 done, but some files or folders could not be read\n";

static int complain(int status, const char *what, const char *name, const char *why)
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

/* ---- what was asked ---- */

/* 0, or -1 when it cannot be understood. */
static int read_wishes(struct wishes *wishes, int argc, char **argv)
{
    *wishes = (struct wishes){.out = "out"};
    bool options = true;
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i], **value = NULL;
        if (!options || word[0] != '-' || word[1] == '\0')
            value = &wishes->corpus, i--;
        else if (strcmp(word, "--") == 0)
            options = false;
        else if (strcmp(word, "--quick") == 0)
            wishes->quick = true;
        else if (strcmp(word, "--list") == 0)
            wishes->list = true;
        else if (strcmp(word, "--generate") == 0)
            wishes->generate = true;
        else if (strcmp(word, "--out") == 0)
            value = &wishes->out;
        else if (strcmp(word, "--corpus") == 0)
            value = &wishes->corpus;
        else
            return -1;
        if (value != NULL && (i + 1 >= argc || argv[i + 1][0] == '\0' ||
                              (value == &wishes->corpus && *value != NULL)))
            return -1;
        if (value != NULL)
            *value = argv[++i];
    }
    if (wishes->generate && wishes->corpus != NULL)
        return -1;
    const char *environment = getenv("CORPUS");
    if (wishes->corpus == NULL && !wishes->generate && environment != NULL &&
        environment[0] != '\0')
        wishes->corpus = environment;
    return 0;
}

static char *path_in(const char *directory, const char *name)
{
    size_t room = strlen(directory) + strlen(name) + 2;
    char *path = malloc(room);
    if (path != NULL)
        snprintf(path, room, "%s/%s", directory, name);
    return path;
}

/* ---- the corpus ---- */

static int make_corpus(struct corpus *corpus, const char *out)
{
    char *path = path_in(out, "corpus");
    if (path == NULL)
        return complain(NOT_DONE, "no memory", NULL, NULL);
    int error = corpus_generate(path);
    if (error != 0)
        complain(NOT_DONE, "cannot make a corpus in", path, strerror(error));
    else if ((error = corpus_walk(corpus, path)) != 0)
        complain(NOT_DONE, "cannot read", path, strerror(error));
    free(path);
    return error == 0 ? ALL_WELL : NOT_DONE;
}

static int find_corpus(struct corpus *corpus, const struct wishes *wishes)
{
    if (wishes->generate)
        return make_corpus(corpus, wishes->out);
    const char *root = wishes->corpus != NULL ? wishes->corpus : "/usr/include";
    int error = corpus_walk(corpus, root);
    if (error == 0 && corpus->count > 0)
        return ALL_WELL;
    if (wishes->corpus == NULL) {
        corpus_free(corpus);
        return make_corpus(corpus, wishes->out);
    }
    if (error != 0)
        return complain(NOTHING_TO_DO, "cannot read", root, strerror(error));
    return complain(NOTHING_TO_DO, "no file to crunch in", root, NULL);
}

static void print_corpus(const struct corpus *corpus)
{
    char files[32], bytes[16];
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
    fflush(stdout);
}

/* ---- results ---- */

static size_t print_problems(const struct measurement *m)
{
    const struct corpus *corpus = m->corpus;
    size_t total = corpus->problem_count + m->failed, shown = 0;
    for (size_t i = 0; i < corpus->problem_count && shown < SHOWN_PROBLEMS; i++, shown++)
        complain(0, "cannot look at", corpus->problems[i].path,
                 strerror(corpus->problems[i].error));
    for (size_t i = 0; i < corpus->count && shown < SHOWN_PROBLEMS; i++) {
        if (m->reference[i].error == 0)
            continue;
        complain(0, "cannot read", corpus->files[i].path, strerror(m->reference[i].error));
        shown++;
    }
    if (total > shown)
        fprintf(stderr, "crunch: and %zu more like these\n", total - shown);
    if (m->left_out > 0)
        fprintf(stderr, "crunch: left out, for they changed meanwhile: %zu\n", m->left_out);
    return total;
}

static void print_runs(const struct measurement *m)
{
    double serial = (double)run_wall(config_run(&m->configs[0]));
    double megabytes = (double)m->totals.bytes / 1e6;
    printf("\n%-12s%10s%10s%10s%12s\n", "", "time", "MB/s", "speed-up", "efficiency");
    for (size_t c = 0; c < m->config_count; c++) {
        const struct config *config = &m->configs[c];
        double wall = (double)run_wall(config_run(config));
        unsigned busy = config->workers < m->cpus ? config->workers : m->cpus;
        char took[32], label[32] = "plain loop";
        if (config->workers > 0)
            snprintf(label, sizeof label, "%u worker%s", config->workers,
                     config->workers == 1 ? "" : "s");
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
    printf("Median of %zu round%s. Efficiency: speed-up over the CPUs in use.\n", m->rounds,
           m->rounds == 1 ? "" : "s");
    if (measurement_waited(m) > 0.1)
        printf("With %u workers, threads waited %.0f %% of the time: other programs had the CPUs, "
               "or the disk was slow.\n",
               m->cpus, 100 * measurement_waited(m));
}

static void print_findings(const struct measurement *m)
{
    char a[32], b[32], c[32], d[32];
    printf("\nfound   %s lines, %s words, %s identifiers, %s of them different\n",
           text_grouped(m->totals.lines, a), text_grouped(m->totals.words, b),
           text_grouped(m->totals.names, c), text_grouped(m->distinct, d));
    printf("proof   %zu of %zu runs gave what the plain loop gave: the counts and the CRC-32 of "
           "each of\n"
           "        %s file%s, and the count of each identifier\n",
           m->runs_proven, m->rounds * m->config_count, text_grouped(m->corpus->count, a),
           text_plural(m->corpus->count));
    struct name top[TOP_NAMES];
    size_t held = names_top(counter_names(m->reference_counter), top, TOP_NAMES);
    if (held > 0)
        printf("\nmost frequent identifiers\n");
    size_t rows = (held + 1) / 2;
    for (size_t row = 0; row < rows; row++) {
        for (size_t i = row; i < held; i += rows)
            printf("  %2zu  %-22.*s%10s   ", i + 1, (int)top[i].length, top[i].text,
                   text_grouped(top[i].count, a));
        putchar('\n');
    }
}

static void print_list(const struct measurement *m)
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

/* ---- the whole ---- */

static int write_page(const struct measurement *m, const char *out)
{
    char *path = path_in(out, "demo.html");
    if (path == NULL)
        return complain(NOT_DONE, "no memory", NULL, NULL);
    int error = page_write(m, path);
    if (error != 0) {
        complain(NOT_DONE, "cannot write", path, strerror(error));
    } else {
        fputs("\npage    ", stdout);
        text_plain(stdout, path, strlen(path));
        putchar('\n');
    }
    free(path);
    return error == 0 ? ALL_WELL : NOT_DONE;
}

static int crunch(struct corpus *corpus, const struct wishes *wishes)
{
    struct measurement m;
    print_corpus(corpus);
    int status =
        measurement_make(&m, corpus, wishes->quick ? 0 : TWILL_SEC(9)) == 0 ? ALL_WELL : NOT_DONE;
    if (status != ALL_WELL) {
        complain(status, m.trouble, m.trouble_path, NULL);
    } else {
        print_runs(&m);
        print_findings(&m);
        if (wishes->list)
            print_list(&m);
        status = write_page(&m, wishes->out);
        if (print_problems(&m) > 0 && status == ALL_WELL)
            status = FILES_MISSING;
    }
    measurement_free(&m);
    return status;
}

int main(int argc, char **argv)
{
    struct wishes wishes;
    struct corpus corpus = {0};
    if (argc == 2 && strcmp(argv[1], "--help") == 0)
        return fputs(usage, stdout) == EOF || fflush(stdout) != 0 ? NOT_DONE : ALL_WELL;
    if (read_wishes(&wishes, argc, argv) != 0) {
        fputs(usage, stderr);
        return NOTHING_TO_DO;
    }
    if (mkdir(wishes.out, 0777) != 0 && errno != EEXIST)
        complain(0, "cannot make", wishes.out,
                 strerror(errno)); /* the page will say so again, the rest is done */
    int status = find_corpus(&corpus, &wishes);
    if (status == ALL_WELL)
        status = crunch(&corpus, &wishes);
    corpus_free(&corpus);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        complain(NOT_DONE, "cannot print the results", NULL, strerror(errno));
        status = NOT_DONE;
    }
    return status;
}
