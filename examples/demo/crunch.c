/* crunch: what is in a tree of source files, and how much faster several threads find out.
 *
 *     crunch [--out DIR] [--quick] [--list] [--rate MB/s] [--faults] [--generate | CORPUS]
 *
 * Walks CORPUS (or $CORPUS, or /usr/include, or a tree that it makes), counts lines, words and
 * identifiers and a checksum of every file: first through a pipeline, while it walks; then, to
 * measure, in a plain loop, on 1..N workers, and through the pipeline again; checks that every run
 * found the same; prints the figures and draws them on a page, DIR/demo.html. Ctrl-C ends the
 * reading early, and the report is about what was read.
 *
 * The patterns at work, and where: pipeline, batch_processing, producer_consumer (flow.c);
 * rate_limiter, retry_backoff, timeout_fallback, resource_pool (reading.c); fan_out_fan_in
 * (merge.c); parallel_map, worker_pool, progress_tracker (measure.c); graceful_shutdown (stop.c).
 */
#define _XOPEN_SOURCE     700
#define _FILE_OFFSET_BITS 64

#define TWILL_IMPLEMENTATION
#include "twill.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "corpus.h"
#include "measure.h"
#include "page.h"
#include "report.h"
#include "text.h"

enum { /* exit statuses */
       ALL_WELL = 0,
       NOT_DONE = 1,      /* a wrong result, no memory, or the output could not be written */
       NOTHING_TO_DO = 2, /* wrong usage, no such corpus, or no file in it */
       FILES_MISSING = 3  /* done, but for files or folders that could not be read */
};

struct wishes {
    const char *out, *corpus; /* corpus NULL: look for one */
    bool quick, list, generate, faults;
    double rate;                    /* bytes a second; 0: as fast as it goes */
    const char *wrong, *wrong_word; /* what cannot be understood */
};

static const char usage[] =
    "usage: crunch [--out DIR] [--quick] [--list] [--rate MB/s] [--faults] [--generate | CORPUS]\n"
    "  CORPUS      the tree to crunch (or --corpus DIR; default: $CORPUS, then /usr/include, then "
    "a made one)\n"
    "  --out DIR   where demo.html goes (default: out)\n"
    "  --quick     one round instead of several seconds of them\n"
    "  --list      print lines, words, bytes, CRC-32 and name of every file\n"
    "  --generate  make a corpus in DIR/corpus and crunch that\n"
    "  --rate R    the first reading takes at most so many MB/s, 0.001 to 2000 (default: $RATE)\n"
    "  --faults    some reads of the first reading fail at first, always the same ones (or "
    "FAULTS=1)"
    "\n"
    "exit status: 0 all well, 1 wrong result or output not written, 2 nothing to do,\n"
    "             3 done, but some files or folders could not be read;\n"
    "             Ctrl-C: a report about what was read, then death by the signal\n";

/* ---- what was asked ---- */

static int wrong(struct wishes *wishes, const char *what, const char *word)
{
    wishes->wrong = what;
    wishes->wrong_word = word;
    return -1;
}

static int read_rate(struct wishes *wishes, const char *word)
{
    char *end;
    double rate = strtod(word, &end);
    if (end == word || *end != '\0' || !(rate >= 0.001 && rate <= 2000))
        return wrong(wishes, "a rate is a number of MB/s from 0.001 to 2000, not", word);
    wishes->rate = rate * 1e6;
    return 0;
}

static bool is_set(const char *variable)
{
    return variable != NULL && variable[0] != '\0';
}

/* What the words did not say. */
static int read_environment(struct wishes *wishes)
{
    const char *corpus = getenv("CORPUS"), *rate = getenv("RATE"), *faults = getenv("FAULTS");
    if (wishes->corpus == NULL && !wishes->generate && is_set(corpus))
        wishes->corpus = corpus;
    if (is_set(faults) && strcmp(faults, "0") != 0)
        wishes->faults = true;
    return wishes->rate > 0 || !is_set(rate) ? 0 : read_rate(wishes, rate);
}

/* 0, or -1 when it cannot be understood. */
static int read_wishes(struct wishes *wishes, int argc, char **argv)
{
    *wishes = (struct wishes){.out = "out"};
    const char *rate = NULL;
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
        else if (strcmp(word, "--faults") == 0)
            wishes->faults = true;
        else if (strcmp(word, "--rate") == 0)
            value = &rate;
        else if (strcmp(word, "--out") == 0)
            value = &wishes->out;
        else if (strcmp(word, "--corpus") == 0)
            value = &wishes->corpus;
        else
            return wrong(wishes, "no such option:", word);
        if (value != NULL && (i + 1 >= argc || argv[i + 1][0] == '\0'))
            return wrong(wishes, "nothing is said behind", argv[i]);
        if (value == &wishes->corpus && *value != NULL)
            return wrong(wishes, "one corpus is enough, this is another one:", argv[i + 1]);
        if (value != NULL)
            *value = argv[++i];
    }
    if (wishes->generate && wishes->corpus != NULL)
        return wrong(wishes, "--generate makes a corpus, and cannot take", wishes->corpus);
    if (rate != NULL && read_rate(wishes, rate) != 0)
        return -1;
    return read_environment(wishes);
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

/* Walks and reads it. *error: an errno value, if there is no walking it. */
static int read_tree(struct measurement *m, const char *root, int *error)
{
    *error = measurement_read(m, root);
    return *error >= 0 ? ALL_WELL : complain(NOT_DONE, m->trouble, NULL, NULL);
}

static int read_made_tree(struct measurement *m, const char *out)
{
    char *path = path_in(out, "corpus");
    if (path == NULL)
        return complain(NOT_DONE, "no memory", NULL, NULL);
    int error = corpus_generate(path), status = ALL_WELL;
    if (error != 0)
        status = complain(NOT_DONE, "cannot make a corpus in", path, strerror(error));
    else if ((status = read_tree(m, path, &error)) == ALL_WELL && error != 0)
        status = complain(NOT_DONE, "cannot read", path, strerror(error));
    free(path);
    return status;
}

static int read_corpus(struct measurement *m, const struct wishes *wishes)
{
    int error;
    if (wishes->generate)
        return read_made_tree(m, wishes->out);
    const char *root = wishes->corpus != NULL ? wishes->corpus : "/usr/include";
    int status = read_tree(m, root, &error);
    if (status != ALL_WELL || (error == 0 && m->found > 0))
        return status;
    if (wishes->corpus == NULL) {
        corpus_free(m->corpus);
        return read_made_tree(m, wishes->out);
    }
    if (error != 0)
        return complain(NOTHING_TO_DO, "cannot read", root, strerror(error));
    return complain(NOTHING_TO_DO, "no file to crunch in", root, NULL);
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

static int report(struct measurement *m, const struct wishes *wishes)
{
    if (m->corpus->count == 0) {
        report_corpus(m);
        return ALL_WELL; /* stopped before there was anything to report */
    }
    report_corpus(m);
    report_pipeline(m);
    if (measurement_make(m, wishes->quick ? 0 : TWILL_SEC(9)) != 0)
        return complain(NOT_DONE, m->trouble, m->trouble_path, NULL);
    report_runs(m);
    report_findings(m);
    if (wishes->list)
        report_list(m);
    int status = write_page(m, wishes->out);
    if (report_problems(m) > 0 && status == ALL_WELL)
        status = FILES_MISSING;
    return status;
}

static int crunch(struct stop *stop, const struct wishes *wishes)
{
    struct corpus corpus = {0};
    struct measurement m;
    struct reading_rules rules = {.rate = (uint64_t)wishes->rate, .faults = wishes->faults};
    int status = measurement_open(&m, &corpus, stop, &rules) == 0
                     ? read_corpus(&m, wishes)
                     : complain(NOT_DONE, m.trouble, NULL, NULL);
    if (status == ALL_WELL)
        status = report(&m, wishes);
    measurement_free(&m);
    corpus_free(&corpus);
    return status;
}

int main(int argc, char **argv)
{
    struct wishes wishes;
    if (argc == 2 && strcmp(argv[1], "--help") == 0)
        return fputs(usage, stdout) == EOF || fflush(stdout) != 0 ? NOT_DONE : ALL_WELL;
    if (read_wishes(&wishes, argc, argv) != 0) {
        complain(NOTHING_TO_DO, wishes.wrong, wishes.wrong_word, NULL);
        fputs(usage, stderr);
        return NOTHING_TO_DO;
    }
    if (mkdir(wishes.out, 0777) != 0 && errno != EEXIST)
        complain(0, "cannot make", wishes.out,
                 strerror(errno)); /* the page will say so again, the rest is done */
    struct stop *stop = stop_create();
    int status = crunch(stop, &wishes);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        complain(NOT_DONE, "cannot print the results", NULL, strerror(errno));
        status = NOT_DONE;
    }
    return stop_end(stop, status);
}
