#define _XOPEN_SOURCE 700
#include "measure.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "twill_parallel_map.h"
#include "twill_progress_tracker.h"

enum { ATTEMPTS = 3, MAX_ROUNDS = 99 };

static int give_up(struct measurement *m, const char *why)
{
    snprintf(m->trouble, sizeof m->trouble, "%s", why);
    return -1;
}

/* ---- one file, wherever it runs ---- */

struct pass { /* what all threads of one pass share; each writes its own files' places only */
    const struct corpus *corpus;
    struct counts *counts;
    struct run *run;
    twill_progress *progress;
    struct counter **counters; /* of the workers that have ended, in worker order */
    size_t counter_count;
};

struct file_progress {
    twill_progress *progress;
    uint64_t left; /* of the size that the walk saw, which is what the total counts */
};

static void advance(void *context, uint64_t bytes)
{
    struct file_progress *file = context;
    uint64_t step = bytes < file->left ? bytes : file->left;
    file->left -= step;
    twill_progress_add(file->progress, step);
}

static int crunch_file(const struct pass *pass, size_t index, unsigned worker,
                       struct counter *counter)
{
    const struct corpus_file *file = &pass->corpus->files[index];
    struct file_progress progress = {pass->progress, file->size};
    int error = count_file(counter, file->path, &pass->counts[index], &pass->run->efforts[index],
                           advance, &progress);
    pass->run->workers_of[index] = worker;
    if (error == 0)
        twill_progress_add(pass->progress, progress.left);
    else
        twill_progress_add_failed(pass->progress, progress.left);
    return error;
}

/* ---- the plain loop ---- */

static struct counter *crunch_serially(struct pass *pass)
{
    pass->run->begin = twill_now();
    struct counter *counter = counter_create();
    if (counter == NULL)
        return NULL;
    for (size_t i = 0; i < pass->corpus->count; i++)
        crunch_file(pass, i, 0, counter);
    pass->run->map_end = pass->run->end = twill_now();
    return counter;
}

/* ---- the same on workers: map with a table for each worker, then the tables merged shard by
   shard ---- */

static int start_worker(void **state, const twill_task *task)
{
    (void)task;
    *state = counter_create();
    return *state == NULL ? ENOMEM : 0;
}

/* Runs on the calling thread, one worker after the other: no lock. */
static void stop_worker(void *state, const twill_task *task)
{
    struct pass *pass = task->context;
    pass->counters[pass->counter_count++] = state;
}

static int map_file(const void *in, void *out, const twill_task *task)
{
    (void)in;
    (void)out; /* counts[index], where the plain loop has it too */
    return crunch_file(task->context, task->index, task->worker, task->worker_state);
}

static int merge_shard(const twill_task *task)
{
    const struct pass *pass = task->context;
    struct merge_effort *effort = &pass->run->merges[task->index];
    effort->begin = twill_now();
    effort->worker = task->worker;
    bool merged = true;
    for (size_t k = 1; k < pass->counter_count && merged; k++)
        merged = names_merge_shard(counter_names(pass->counters[0]),
                                   counter_names(pass->counters[k]), task->index);
    effort->took = twill_now() - effort->begin;
    return merged ? 0 : ENOMEM;
}

/* Every file has ended, one way or the other, and failures are those of files. */
static bool is_complete(twill_status status, const twill_report *report, size_t files)
{
    return (status == TWILL_OK || (status == TWILL_FAILED && report->first_error.index < files)) &&
           report->total == files && report->done + report->failed == files;
}

static int crunch_on_workers(struct measurement *m, struct pass *pass, unsigned workers)
{
    twill_report report, merge_report;
    twill_parallel_options options = {
        .run = {
            .workers = workers,
            .context = pass,
            .worker_start = start_worker,
            .worker_stop = stop_worker,
            .on_error = TWILL_ON_ERROR_COLLECT,
            .report = &report, /* one bad file does not stop the others */
        }};
    pass->run->begin = twill_now();
    twill_status status =
        twill_parallel_map(pass->corpus->files, sizeof *pass->corpus->files, pass->counts,
                           sizeof *pass->counts, pass->corpus->count, map_file, &options);
    pass->run->map_end = twill_now();
    pass->run->short_of_threads = (report.flags & TWILL_REPORT_DEGRADED) != 0;
    if (!is_complete(status, &report, pass->corpus->count)) {
        snprintf(m->trouble, sizeof m->trouble, "the map on %u workers ended early: %s%s", workers,
                 twill_status_text(status),
                 report.first_error.code == ENOMEM ? " (no memory)" : "");
        return -1;
    }
    twill_parallel_options merging = {
        .run = {.workers = workers, .context = pass, .report = &merge_report}};
    status = pass->counter_count > 1 ? twill_parallel_for(NAMES_SHARDS, merge_shard, &merging)
                                     : TWILL_OK;
    pass->run->end = twill_now();
    return status == TWILL_OK ? 0 : give_up(m, "no memory to merge the tables");
}

/* ---- proof ---- */

/* Marks in `leave` the files whose content was not the same both times; returns how many. A
   file that is the same and was counted differently is a wrong result: -1. */
static int compare_counts(struct measurement *m, const struct counts *counts, bool *leave)
{
    int changed = 0;
    for (size_t i = 0; i < m->corpus->count; i++) {
        if (counts_equal(&m->reference[i], &counts[i]))
            continue;
        if (counts_unchanged(&m->reference[i], &counts[i])) {
            m->trouble_path = m->corpus->files[i].path;
            give_up(m, "WRONG RESULT: other counts than those of the plain loop for");
            return -1;
        }
        leave[i] = true;
        changed++;
    }
    return changed;
}

/* 0: equal to the reference; 1: files changed meanwhile, see `leave`; -1: trouble. */
static int prove(struct measurement *m, const struct counts *counts, const struct names *names,
                 bool *leave)
{
    int changed = compare_counts(m, counts, leave);
    if (changed != 0)
        return changed < 0 ? -1 : 1;
    if (!names_equal(counter_names(m->reference_counter), names))
        return give_up(m, "WRONG RESULT: the table of identifiers differs from the serial one");
    m->runs_proven++;
    return 0;
}

/* ---- rounds ---- */

static twill_progress *show_progress(const struct measurement *m, const char *label, size_t passes)
{
    twill_progress *progress = NULL;
    uint64_t total = m->corpus->bytes * passes;
    twill_progress_options options = {
        .total = total,
        .total_is_zero = total == 0,
        .label = label,
        .unit = TWILL_UNIT_BYTES_SI,
    };
    /* Without progress the work is the same: NULL is understood everywhere. */
    return twill_progress_create(&progress, &options) == TWILL_OK ? progress : NULL;
}

static void end_progress(twill_progress *progress, int result)
{
    twill_progress_finish(progress, result == 0  ? TWILL_OK
                                    : result > 0 ? TWILL_CANCELLED
                                                 : TWILL_FAILED);
    twill_progress_destroy(progress);
}

static bool prepare_run(struct run *run, size_t files)
{
    run->efforts = calloc(files, sizeof *run->efforts);
    run->workers_of = calloc(files, sizeof *run->workers_of);
    return run->efforts != NULL && run->workers_of != NULL;
}

static void free_run(struct run *run)
{
    free(run->efforts);
    free(run->workers_of);
}

/* One pass of one configuration: 0, 1 or -1 as in prove. */
static int one_pass(struct measurement *m, const struct config *config, struct run *run,
                    twill_progress *progress, struct counts *counts, bool *leave)
{
    size_t room = config->workers == 0 ? 1 : config->workers;
    struct pass pass = {m->corpus, counts, run, progress, calloc(room, sizeof *pass.counters), 0};
    if (pass.counters == NULL || !prepare_run(run, m->corpus->count)) {
        free(pass.counters);
        return give_up(m, "no memory");
    }
    int result = 0;
    if (config->workers > 0) {
        result = crunch_on_workers(m, &pass, config->workers);
    } else {
        pass.counters[0] = crunch_serially(&pass);
        pass.counter_count = 1;
        if (pass.counters[0] == NULL)
            result = give_up(m, "no memory");
    }
    if (result == 0)
        result = prove(m, counts, counter_names(pass.counters[0]), leave);
    for (size_t k = 0; k < pass.counter_count; k++)
        counter_destroy(pass.counters[k]);
    free(pass.counters);
    return result;
}

/* Rounds [from, to): in each, every configuration once, so that a slow spell of the machine
   hits all of them. */
static int some_rounds(struct measurement *m, size_t from, size_t to, struct counts *counts,
                       bool *leave)
{
    char label[64];
    snprintf(label, sizeof label, to - from == 1 ? "round %zu" : "rounds %zu to %zu", from + 1, to);
    twill_progress *progress = show_progress(m, label, (to - from) * m->config_count);
    int result = 0;
    for (size_t round = from; round < to && result == 0; round++)
        for (size_t c = 0; c < m->config_count && result == 0; c++)
            result =
                one_pass(m, &m->configs[c], &m->configs[c].runs[round], progress, counts, leave);
    end_progress(progress, result == 0 && m->failed > 0 ? -1 : result);
    return result;
}

static void find_medians(struct measurement *m)
{
    for (size_t c = 0; c < m->config_count; c++) {
        struct config *config = &m->configs[c];
        for (size_t r = 0; r < m->rounds; r++) {
            size_t before = 0;
            for (size_t other = 0; other < m->rounds; other++) {
                int64_t left = run_wall(&config->runs[other]), right = run_wall(&config->runs[r]);
                before += left < right || (left == right && other < r);
            }
            if (before == (m->rounds - 1) / 2)
                config->median = r;
        }
    }
}

static void sum_up(struct measurement *m)
{
    find_medians(m);
    m->distinct = names_distinct(counter_names(m->reference_counter));
    m->totals = (struct counts){0};
    for (size_t i = 0; i < m->corpus->count; i++) {
        const struct counts *counts = &m->reference[i];
        m->totals.bytes += counts->bytes;
        m->totals.lines += counts->lines;
        m->totals.words += counts->words;
        m->totals.names += counts->names;
    }
}

/* How many rounds fit the budget, going by the first, whose files are in the cache already. On a
   busy machine up to three even if that takes twice the budget: one alone proves nothing about
   speed. */
static size_t rounds_in(int64_t budget, int64_t first_round)
{
    int64_t rounds = budget / (first_round + 1), at_most = 2 * budget / (first_round + 1);
    if (rounds < 3)
        rounds = at_most < 3 ? at_most : 3;
    return rounds < 1 ? 1 : rounds > MAX_ROUNDS ? MAX_ROUNDS : (size_t)rounds;
}

static int all_rounds(struct measurement *m, int64_t budget, bool *leave)
{
    struct counts *counts = calloc(m->corpus->count, sizeof *counts);
    if (counts == NULL)
        return give_up(m, "no memory");
    int64_t begin = twill_now();
    int result = some_rounds(m, 0, 1, counts, leave);
    m->rounds = rounds_in(budget, twill_now() - begin);
    if (result == 0 && m->rounds > 1)
        result = some_rounds(m, 1, m->rounds, counts, leave);
    free(counts);
    if (result == 0)
        sum_up(m);
    return result;
}

/* ---- the first reading ---- */

/* A file that changed while it was read, or that broke off, has left names in the table that no
   other run will find: 1, and the caller starts again without it. */
static int read_first(struct measurement *m, bool *leave)
{
    struct run run = {0};
    struct pass pass = {m->corpus, m->reference, &run, show_progress(m, "first reading", 1), NULL,
                        0};
    int result = prepare_run(&run, m->corpus->count) ? 0 : -1;
    if (result == 0)
        m->reference_counter = crunch_serially(&pass);
    if (m->reference_counter == NULL)
        result = give_up(m, "no memory");
    m->first_reading = run_wall(&run);
    m->failed = 0;
    for (size_t i = 0; i < m->corpus->count && result >= 0; i++) {
        const struct counts *counts = &m->reference[i];
        leave[i] = counts->moved || (counts->error != 0 && counts->bytes > 0);
        result |= leave[i];
        m->failed += counts->error != 0;
    }
    end_progress(pass.progress, result != 0 ? result : m->failed > 0 ? -1 : 0);
    free_run(&run);
    return result;
}

/* ---- the whole ---- */

static bool choose_configs(struct measurement *m)
{
    unsigned counts[80]; /* 0, 1, 2, 4, ... up to the CPUs, the CPUs, and twice as many */
    size_t n = 0;
    counts[n++] = 0;
    for (unsigned workers = 1; workers < m->cpus && n < 70; workers *= 2)
        counts[n++] = workers;
    counts[n++] = m->cpus;
    counts[n++] = m->cpus * 2;
    m->configs = calloc(n, sizeof *m->configs);
    if (m->configs == NULL)
        return false;
    m->config_count = n;
    for (size_t c = 0; c < n; c++) {
        m->configs[c].workers = counts[c];
        m->configs[c].runs = calloc(MAX_ROUNDS, sizeof *m->configs[c].runs);
        if (m->configs[c].runs == NULL)
            return false;
    }
    return true;
}

static void forget(struct measurement *m)
{
    for (size_t c = 0; c < m->config_count; c++) {
        for (size_t r = 0; m->configs[c].runs != NULL && r < MAX_ROUNDS; r++)
            free_run(&m->configs[c].runs[r]);
        free(m->configs[c].runs);
    }
    free(m->configs);
    free(m->reference);
    counter_destroy(m->reference_counter);
    m->configs = NULL;
    m->config_count = m->runs_proven = 0;
    m->reference = NULL;
    m->reference_counter = NULL;
}

/* 0: done; 1: files changed, see `leave`; -1: trouble. */
static int attempt(struct measurement *m, int64_t budget, bool *leave)
{
    forget(m);
    m->reference = calloc(m->corpus->count, sizeof *m->reference);
    if (m->reference == NULL || !choose_configs(m))
        return give_up(m, "no memory");
    int result = read_first(m, leave);
    return result != 0 ? result : all_rounds(m, budget, leave);
}

int measurement_make(struct measurement *m, struct corpus *corpus, int64_t budget)
{
    memset(m, 0, sizeof *m);
    m->corpus = corpus;
    m->cpus = twill_cpus();
    int result = 1;
    for (int tries = 0; tries < ATTEMPTS && result > 0 && corpus->count > 0; tries++) {
        bool *leave = calloc(corpus->count, sizeof *leave);
        if (leave == NULL)
            return give_up(m, "no memory");
        result = attempt(m, budget, leave);
        size_t before = corpus->count;
        if (result > 0)
            corpus_drop(corpus, leave);
        m->left_out += before - corpus->count;
        free(leave);
    }
    return result > 0 ? give_up(m, "the files keep changing; give it a tree that is at rest")
                      : result;
}

void measurement_free(struct measurement *m)
{
    forget(m);
    memset(m, 0, sizeof *m);
}

const struct run *config_run(const struct config *config)
{
    return &config->runs[config->median];
}

int64_t run_wall(const struct run *run)
{
    return run->end - run->begin;
}

/* ---- where the time went ---- */

struct shares config_shares(const struct measurement *m, const struct config *config)
{
    const struct run *run = config_run(config);
    struct shares s = {0};
    s.total = seconds(run_wall(run)) * (config->workers == 0 ? 1 : config->workers);
    for (size_t i = 0; i < m->corpus->count; i++) {
        const struct effort *effort = &run->efforts[i];
        s.count += seconds(effort->count_cpu);
        s.read += seconds(effort->read_cpu);
        s.wait += seconds(effort->count - effort->count_cpu + effort->read - effort->read_cpu);
    }
    for (size_t k = 0; k < NAMES_SHARDS; k++)
        s.merge += seconds(run->merges[k].took);
    if (s.wait < 0) /* the two clocks differ by some nanoseconds a file */
        s.wait = 0;
    s.idle = s.total - s.count - s.read - s.merge - s.wait;
    if (s.idle < 0)
        s.idle = 0;
    return s;
}

double measurement_waited(const struct measurement *m)
{
    double waited = 0;
    for (size_t c = 0; c < m->config_count; c++) {
        struct shares s = config_shares(m, &m->configs[c]);
        if (m->configs[c].workers == m->cpus)
            waited = s.wait / s.total;
    }
    return waited;
}
