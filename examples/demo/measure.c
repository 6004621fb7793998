#define _XOPEN_SOURCE 700
#include "measure.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "merge.h"
#include "proof.h"
#include "twill_parallel_map.h"
#include "twill_progress_tracker.h"

enum { TRIES = 3, MAX_ROUNDS = 99 };

/* ---- one file, wherever it runs ---- */

struct pass { /* what all threads of one pass share; each writes its own files' places only */
    const struct corpus *corpus;
    struct stop *stop;
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

/* NULL: no memory. Asked to stop, it ends early. */
static struct counter *crunch_serially(struct pass *pass)
{
    pass->run->begin = twill_now();
    struct counter *counter = counter_create();
    if (counter == NULL)
        return NULL;
    for (size_t i = 0; i < pass->corpus->count && !stop_asked(pass->stop); i++)
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

/* Every file has ended, one way or the other, and failures are those of files. */
static bool is_complete(twill_status status, const twill_report *report, size_t files)
{
    return (status == TWILL_OK || (status == TWILL_FAILED && report->first_error.index < files)) &&
           report->total == files && report->done + report->failed == files;
}

static int crunch_on_workers(struct measurement *m, struct pass *pass, unsigned workers)
{
    twill_report report;
    struct names_found found;
    twill_parallel_options options = {
        .run = {
            .pool = m->pool,
            .workers = workers,
            .until = twill_until_cancelled(stop_begun(m->stop)),
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
    if (status == TWILL_CANCELLED)
        return STOPPED;
    if (!is_complete(status, &report, pass->corpus->count)) {
        snprintf(m->trouble, sizeof m->trouble, "the map on %u workers ended early: %s%s", workers,
                 twill_status_text(status),
                 report.first_error.code == ENOMEM ? " (no memory)" : "");
        return -1;
    }
    int error = merge_counters(pass->counters, pass->counter_count, m->pool, workers,
                               pass->run->merges, &found);
    pass->run->end = twill_now();
    return error == 0 ? DONE : give_up(m, "no memory to merge the tables");
}

/* ---- progress ---- */

/* passes 0: nobody knows yet how much there is. */
static twill_progress *show_progress(const struct measurement *m, const char *label, size_t passes)
{
    twill_progress *progress = NULL;
    uint64_t total = m->corpus->bytes * passes;
    twill_progress_options options = {
        .total = total,
        .total_is_zero = passes > 0 && total == 0,
        .label = label,
        .unit = TWILL_UNIT_BYTES_SI,
    };
    /* Without progress the work is the same: NULL is understood everywhere. */
    if (twill_progress_create(&progress, &options) != TWILL_OK)
        return NULL;
    stop_above(m->stop, progress);
    return progress;
}

static void end_progress(const struct measurement *m, twill_progress *progress, int result)
{
    stop_above(m->stop, NULL);
    twill_progress_finish(progress, result == 0  ? TWILL_OK
                                    : result > 0 ? TWILL_CANCELLED
                                                 : TWILL_FAILED);
    twill_progress_destroy(progress);
}

/* ---- passes ---- */

static bool prepare_run(struct run *run, size_t files)
{
    run->files = files;
    run->efforts = calloc(files, sizeof *run->efforts);
    run->workers_of = calloc(files, sizeof *run->workers_of);
    return run->efforts != NULL && run->workers_of != NULL;
}

static void free_run(struct run *run)
{
    free(run->efforts);
    free(run->workers_of);
    free(run->reads);
    free(run->readers_of);
}

static int pass_of_pipeline(struct measurement *m, struct run *run, unsigned workers,
                            twill_progress *progress, bool *leave)
{
    struct flow flow;
    struct flow_plan plan = {.corpus = m->corpus,
                             .pool = m->pool,
                             .stop = m->stop,
                             .progress = progress,
                             .workers = workers};
    int result = flow_run(&flow, &plan) != 0 ? give_up(m, "no memory") : DONE;
    if (result == DONE)
        result = flow.stopped ? STOPPED : prove_flow(m, &flow, leave);
    *run = flow.run;
    flow.run = (struct run){0};
    flow_free(&flow);
    return result;
}

/* By the plain loop, or by a map on workers. */
static int pass_of_files(struct measurement *m, struct run *run, unsigned workers,
                         twill_progress *progress, struct counts *counts, bool *leave)
{
    struct pass pass = {m->corpus, m->stop, counts, run, progress, NULL, 0};
    pass.counters = calloc(workers + 1u, sizeof *pass.counters);
    if (pass.counters == NULL || !prepare_run(run, m->corpus->count)) {
        free(pass.counters);
        return give_up(m, "no memory");
    }
    int result = DONE;
    if (workers > 0) {
        result = crunch_on_workers(m, &pass, workers);
    } else {
        pass.counters[pass.counter_count++] = crunch_serially(&pass);
        if (pass.counters[0] == NULL)
            result = give_up(m, "no memory");
        else if (stop_asked(m->stop))
            result = STOPPED;
    }
    if (result == DONE)
        result = prove(m, counts, counter_names(pass.counters[0]), leave);
    for (size_t k = 0; k < pass.counter_count; k++)
        counter_destroy(pass.counters[k]);
    free(pass.counters);
    return result;
}

static int one_pass(struct measurement *m, const struct config *config, struct run *run,
                    twill_progress *progress, struct counts *counts, bool *leave)
{
    return config->pipeline ? pass_of_pipeline(m, run, config->workers, progress, leave)
                            : pass_of_files(m, run, config->workers, progress, counts, leave);
}

/* ---- rounds ---- */

/* Rounds [from, to): in each, every configuration once, so that a slow spell of the machine
   hits all of them. m->rounds counts those that were complete. */
static int some_rounds(struct measurement *m, size_t from, size_t to, struct counts *counts,
                       bool *leave)
{
    char label[64];
    snprintf(label, sizeof label, to - from == 1 ? "round %zu" : "rounds %zu to %zu", from + 1, to);
    twill_progress *progress = show_progress(m, label, (to - from) * m->config_count);
    int result = DONE;
    for (size_t round = from; round < to && result == DONE; round++) {
        for (size_t c = 0; c < m->config_count && result == DONE; c++)
            result =
                one_pass(m, &m->configs[c], &m->configs[c].runs[round], progress, counts, leave);
        m->rounds += result == DONE;
    }
    end_progress(m, progress, result == DONE && m->failed > 0 ? -1 : result);
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
    m->rounds = 0;
    int result = some_rounds(m, 0, 1, counts, leave);
    size_t rounds = rounds_in(budget, twill_now() - begin);
    if (result == DONE && rounds > 1)
        result = some_rounds(m, 1, rounds, counts, leave);
    free(counts);
    if (result == DONE || result == STOPPED)
        sum_up(m);
    return result;
}

/* ---- the reference ---- */

static void count_failed(struct measurement *m)
{
    m->failed = 0;
    for (size_t i = 0; i < m->corpus->count; i++)
        m->failed += m->reference[i].error != 0;
}

/* A file that changed while it was read, or that broke off, has left names in the table that no
   other run will find: CHANGED, and the caller starts again without it. */
static int read_reference(struct measurement *m, bool *leave)
{
    struct run run = {0};
    m->reference = calloc(m->corpus->count, sizeof *m->reference);
    if (m->reference == NULL || !prepare_run(&run, m->corpus->count)) {
        free_run(&run);
        return give_up(m, "no memory");
    }
    struct pass pass = {m->corpus, m->stop, m->reference, &run, show_progress(m, "plain loop", 1),
                        NULL,      0};
    m->reference_counter = crunch_serially(&pass);
    int result = m->reference_counter == NULL ? give_up(m, "no memory")
                 : stop_asked(m->stop)        ? STOPPED
                                              : DONE;
    for (size_t i = 0; i < m->corpus->count && result == DONE; i++) {
        const struct counts *counts = &m->reference[i];
        leave[i] = counts->moved || (counts->error != 0 && counts->bytes > 0);
    }
    for (size_t i = 0; i < m->corpus->count && result == DONE; i++)
        result = leave[i] ? CHANGED : DONE;
    count_failed(m);
    end_progress(m, pass.progress, result != 0 ? result : m->failed > 0 ? -1 : 0);
    free_run(&run);
    return result;
}

/* ---- the first reading ---- */

static int read_first(struct measurement *m, const char *root)
{
    struct flow_plan plan = {.corpus = m->corpus,
                             .root = root,
                             .pool = m->pool,
                             .stop = m->stop,
                             .progress = show_progress(m, "first reading", root == NULL),
                             .workers = m->cpus,
                             .rules = m->rules};
    flow_free(&m->first);
    int error = flow_run(&m->first, &plan);
    size_t failed = 0;
    for (size_t i = 0; i < m->first.run.files; i++)
        failed += m->first.counts[i].error != 0;
    end_progress(m, plan.progress, error != 0 || failed > 0 ? -1 : m->first.stopped ? STOPPED : 0);
    return error;
}

/* Leaves in the corpus what the first reading has covered: it was asked to stop. */
static int keep_covered(struct measurement *m)
{
    bool *leave = malloc(m->corpus->count * sizeof *leave + 1);
    if (leave == NULL)
        return -1;
    memset(leave, true, m->corpus->count);
    for (size_t i = 0; i < m->first.run.files; i++)
        leave[m->first.indexes[i]] = false;
    corpus_drop(m->corpus, leave);
    free(leave);
    for (size_t i = 0; i < m->first.run.files; i++)
        m->first.indexes[i] = i;
    return 0;
}

int measurement_read(struct measurement *m, const char *root)
{
    int error = read_first(m, root);
    m->found = m->corpus->count;
    if (error != 0)
        return error;
    m->stopped = stop_asked(m->stop);
    if (m->stopped && keep_covered(m) != 0)
        return give_up(m, "no memory");
    if (!m->stopped)
        stop_measuring(m->stop, m->found);
    return 0;
}

/* The first reading serves as the reference: nothing else is there. */
static void adopt_first(struct measurement *m)
{
    m->reference = m->first.counts;
    m->reference_counter = m->first.counters[0];
    m->first.counts = NULL;
    m->first.counters[0] = NULL;
    count_failed(m);
    sum_up(m);
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
    counts[n++] = m->cpus; /* the last: through the pipeline */
    m->configs = calloc(n, sizeof *m->configs);
    if (m->configs == NULL)
        return false;
    m->config_count = n;
    for (size_t c = 0; c < n; c++) {
        m->configs[c].workers = counts[c];
        m->configs[c].pipeline = c == n - 1;
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
    m->config_count = m->rounds = m->runs_made = m->runs_proven = 0;
    m->reference = NULL;
    m->reference_counter = NULL;
}

static int attempt(struct measurement *m, int64_t budget, bool *leave, bool again)
{
    forget(m);
    if (!choose_configs(m) || (again && read_first(m, NULL) != 0))
        return give_up(m, "no memory");
    int result = m->first.stopped ? STOPPED : read_reference(m, leave);
    if (result == DONE && m->first.counters != NULL)
        result = prove_flow(m, &m->first, leave);
    return result != DONE ? result : all_rounds(m, budget, leave);
}

/* Asked to stop: with the reference there is and the rounds that were complete, or with the first
   reading alone. */
static int end_stopped(struct measurement *m)
{
    m->stopped = true;
    if (m->runs_proven > 0)
        return 0;
    forget(m);
    if (m->first.stopped && keep_covered(m) != 0)
        return give_up(m, "no memory");
    adopt_first(m);
    return 0;
}

int measurement_make(struct measurement *m, int64_t budget)
{
    struct corpus *corpus = m->corpus;
    int result = m->stopped ? STOPPED : CHANGED;
    for (int tries = 0; tries < TRIES && result == CHANGED && corpus->count > 0; tries++) {
        bool *leave = calloc(corpus->count, sizeof *leave);
        if (leave == NULL)
            return give_up(m, "no memory");
        result = attempt(m, budget, leave, tries > 0);
        size_t before = corpus->count;
        if (result == CHANGED)
            corpus_drop(corpus, leave);
        m->left_out += before - corpus->count;
        free(leave);
    }
    if (result == STOPPED)
        return end_stopped(m);
    return result == CHANGED ? give_up(m, "the files keep changing; give it a tree that is at rest")
                             : result;
}

int measurement_open(struct measurement *m, struct corpus *corpus, struct stop *stop,
                     const struct reading_rules *rules)
{
    memset(m, 0, sizeof *m);
    m->corpus = corpus;
    m->stop = stop;
    m->cpus = twill_cpus();
    if (rules != NULL)
        m->rules = *rules;
    /* the largest map, the walk and the batches */
    twill_pool_options options = {.run = {.workers = 2 * m->cpus + 2, .name = "crunch"}};
    return twill_pool_create(&m->pool, &options) == TWILL_OK ? 0 : give_up(m, "no threads");
}

void measurement_free(struct measurement *m)
{
    forget(m);
    flow_free(&m->first);
    (void)twill_pool_destroy(m->pool);
    memset(m, 0, sizeof *m);
}

const struct run *config_run(const struct config *config)
{
    return &config->runs[config->median];
}
