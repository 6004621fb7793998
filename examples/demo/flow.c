#define _XOPEN_SOURCE     700
#define _FILE_OFFSET_BITS 64
#include "flow.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "merge.h"

const char *const flow_stage_names[FLOW_STAGES] = {"read", "tokenise", "merge"};

struct sheet { /* a file on its way */
    size_t index;
    uint64_t size; /* when the walk saw it */
    struct piece piece;
    struct counts counts;
    struct effort read, count;
    unsigned reader, teller;
    uint64_t shown; /* bytes of its size that the progress has */
    size_t held;    /* bytes of it in the buffer, from piece.to on */
    int error;
    bool whole; /* that is all of it */
};

struct parcel {
    size_t count;
    uint64_t bytes;
    twill_lease buffer;
    struct sheet *sheets[PARCEL_FILES];
};

struct work { /* what all threads of one flow share */
    struct flow *flow;
    const struct flow_plan *plan;
    struct reading reading;
    twill_queue *queue;
    twill_batcher *batcher;
    size_t capacity, sample_gap, samples_seen;
    atomic_uint inside; /* parcels; a figure only */
    atomic_int trouble; /* an errno value; set once */
};

static void spoil(struct work *work, int error)
{
    int none = 0;
    atomic_compare_exchange_strong(&work->trouble, &none, error);
    (void)twill_queue_close(work->queue);
}

static void free_parcel(struct parcel *parcel)
{
    for (size_t i = 0; i < parcel->count; i++)
        free(parcel->sheets[i]);
    free(parcel);
}

/* ---- walk, and batches ---- */

static size_t size_of_sheet(const void *item, const twill_task *task)
{
    const struct sheet *sheet = item;
    (void)task;
    return sheet->size < SIZE_MAX ? (size_t)sheet->size : SIZE_MAX;
}

/* One batch becomes one parcel in the queue, which holds the walk back when it is full. */
static int pack(twill_batch *batch, const twill_task *task)
{
    struct work *work = task->context;
    struct parcel *parcel = calloc(1, sizeof *parcel);
    if (parcel == NULL) {
        for (size_t i = 0; i < batch->count; i++)
            free(twill_batch_item(batch, i));
        spoil(work, ENOMEM);
        return 0;
    }
    for (size_t i = 0; i < batch->count; i++) {
        parcel->sheets[parcel->count++] = twill_batch_item(batch, i);
        parcel->bytes += parcel->sheets[i]->size;
    }
    twill_until until = twill_until_cancelled(stop_begun(work->plan->stop));
    if (twill_queue_push_until(work->queue, &parcel, until) != TWILL_OK)
        free_parcel(parcel); /* asked to stop: these files are not part of the report */
    return 0;
}

/* Once asked to stop, the walk only lists what there is. */
static int send_file(void *context, size_t index, const struct corpus_file *file)
{
    struct work *work = context;
    struct stop *stop = work->plan->stop;
    if (work->plan->root != NULL)
        twill_progress_add_total(work->plan->progress, file->size);
    if (twill_cancel_fired(stop_given_up(stop)))
        return ECANCELED;
    if (stop_asked(stop))
        return 0;
    struct sheet *sheet = calloc(1, sizeof *sheet);
    if (sheet == NULL)
        return ENOMEM;
    sheet->index = index;
    sheet->size = file->size;
    sheet->piece.path = file->path;
    sheet->piece.descriptor = -1;
    sheet->piece.counts = &sheet->counts;
    twill_status status = twill_batcher_add_until(work->batcher, sheet, NULL,
                                                  twill_until_cancelled(stop_begun(stop)));
    if (status != TWILL_OK)
        free(sheet);
    return status == TWILL_OK || status == TWILL_CANCELLED ? 0 : ENOMEM;
}

static int send_all(struct work *work)
{
    struct corpus *corpus = work->plan->corpus;
    int error = 0;
    if (work->plan->root != NULL)
        return corpus_walk(corpus, work->plan->root, send_file, work);
    for (size_t i = 0; i < corpus->count && error == 0; i++)
        error = send_file(work, i, &corpus->files[i]);
    return error;
}

/* A task of the pool. Its result: 0, or why the root could not be walked. */
static int walk(void *arg, void *result, const twill_task *task)
{
    struct work *work = arg;
    struct flow_figures *figures = &work->flow->figures;
    twill_batch_options options = {
        .run = {.pool = work->plan->pool, .context = work},
        .max_items = PARCEL_FILES,
        .max_bytes = BUFFER_BYTES,
        .bytes_of = size_of_sheet,
        .oversized_alone = true,
        .capacity = 4 * PARCEL_FILES,
    };
    int *error = result;
    (void)task;
    *error = ENOMEM;
    if (twill_batcher_create(&work->batcher, pack, &options) == TWILL_OK) {
        *error = send_all(work);
        figures->walked = twill_now() - work->flow->run.begin;
        stop_found(work->plan->stop, work->plan->corpus->count);
        (void)twill_batcher_flush(work->batcher);
        twill_batcher_get_stats(work->batcher, &figures->batches);
        (void)twill_batcher_destroy(work->batcher);
    }
    (void)twill_queue_close(work->queue);
    return 0;
}

/* ---- the source ---- */

/* One at a time: no lock. When there are too many, every other one goes, and from then on fewer are
   taken. */
static void note_depth(struct work *work)
{
    struct flow_figures *figures = &work->flow->figures;
    if (figures->samples == NULL || work->samples_seen++ % work->sample_gap != 0)
        return;
    if (figures->sample_count == FLOW_SAMPLES) {
        for (size_t i = 0; i < FLOW_SAMPLES / 2; i++)
            figures->samples[i] = figures->samples[2 * i];
        figures->sample_count = FLOW_SAMPLES / 2;
        work->sample_gap *= 2;
    }
    figures->samples[figures->sample_count++] = (struct flow_sample){
        twill_now() - work->flow->run.begin, (unsigned)twill_queue_length(work->queue),
        atomic_load_explicit(&work->inside, memory_order_relaxed)};
}

static int take_parcel(void *out, const twill_task *task)
{
    struct work *work = task->context;
    struct stop *stop = work->plan->stop;
    struct parcel *parcel = NULL;
    note_depth(work);
    twill_status status =
        twill_queue_pop_until(work->queue, &parcel, twill_until_cancelled(stop_begun(stop)));
    if (status == TWILL_OK && !stop_enter(stop, parcel->count)) {
        free_parcel(parcel);
        status = TWILL_CANCELLED;
    }
    if (status != TWILL_OK) {
        work->flow->stopped = status == TWILL_CANCELLED;
        (void)twill_queue_close(work->queue);
        return twill_task_stop(task);
    }
    atomic_fetch_add_explicit(&work->inside, 1, memory_order_relaxed);
    *(struct parcel **)out = parcel;
    return 0;
}

/* ---- read ---- */

static void let_go(struct sheet *sheet, int error)
{
    sheet->error = error;
    if (sheet->piece.descriptor >= 0)
        close(sheet->piece.descriptor);
    sheet->piece.descriptor = -1;
}

/* As much of the file as there is room for behind those before it. */
static void read_sheet(struct work *work, struct parcel *parcel, struct sheet *sheet, size_t *used)
{
    struct clocks last = clocks_now();
    struct piece *piece = &sheet->piece;
    sheet->read.begin = last.wall;
    piece->to = (unsigned char *)parcel->buffer.resource + *used;
    piece->room = BUFFER_BYTES - *used;
    int error = reading_piece(&work->reading, piece, 0);
    sheet->held = piece->got;
    sheet->whole =
        error == 0 && (piece->got == sheet->counts.stamp.size || piece->got < piece->room);
    *used += piece->got;
    if (sheet->whole)
        count_check(piece->descriptor, &sheet->counts, piece->got);
    if (sheet->whole || error != 0)
        let_go(sheet, error);
    clocks_charge(&sheet->read.read, &sheet->read.read_cpu, &last);
}

static int read_parcel(const void *in, void *out, const twill_task *task)
{
    struct work *work = task->context;
    struct parcel *parcel = *(struct parcel *const *)in;
    twill_ns waited = 0;
    size_t used = 0;
    int error = reading_borrow(&work->reading, &parcel->buffer);
    if (error == 0)
        error = reading_allow(&work->reading, parcel->bytes, &waited);
    for (size_t i = 0; i < parcel->count; i++) {
        struct sheet *sheet = parcel->sheets[i];
        sheet->reader = task->worker;
        if (error == 0)
            read_sheet(work, parcel, sheet, &used);
        else
            sheet->error = error;
    }
    *(struct parcel **)out = parcel;
    return 0;
}

/* ---- tokenise ---- */

static void show(struct work *work, struct sheet *sheet, uint64_t bytes)
{
    uint64_t left = sheet->size - sheet->shown, step = bytes < left ? bytes : left;
    sheet->shown += step;
    twill_progress_add(work->plan->progress, step);
}

static void tokenise_whole(struct work *work, struct sheet *sheet, struct counter *counter)
{
    struct clocks last = clocks_now();
    sheet->count.begin = last.wall;
    count_begin(counter, sheet->piece.path, &sheet->counts, false);
    if (sheet->held > 0)
        count_more(counter, &sheet->counts, sheet->piece.to, sheet->held);
    sheet->error = count_end(counter, &sheet->counts, 0);
    show(work, sheet, sheet->held);
    clocks_charge(&sheet->count.count, &sheet->count.count_cpu, &last);
}

/* One that is larger than a buffer: what is held, and then the rest, a buffer at a time. */
static void tokenise_long(struct work *work, struct parcel *parcel, struct sheet *sheet,
                          struct counter *counter)
{
    struct clocks last = clocks_now();
    struct piece *piece = &sheet->piece;
    struct counts *counts = &sheet->counts;
    int error = 0;
    sheet->count.begin = last.wall;
    piece->got = sheet->held;
    count_begin(counter, piece->path, counts, true);
    for (;;) {
        if (piece->got > 0)
            count_more(counter, counts, piece->to, piece->got);
        show(work, sheet, piece->got);
        clocks_charge(&sheet->count.count, &sheet->count.count_cpu, &last);
        uint64_t left = counts->stamp.size - counts->bytes;
        if (left == 0 || error != 0 || (piece->number > 0 && piece->got == 0))
            break;
        twill_ns waited = 0;
        piece->to = parcel->buffer.resource;
        piece->room = BUFFER_BYTES;
        piece->number++;
        error = reading_allow(&work->reading, left, &waited);
        piece->deadline += waited; /* the limit is for the disk */
        piece->got = 0;
        if (error == 0)
            error = reading_piece(&work->reading, piece, left);
        clocks_charge(&sheet->count.read, &sheet->count.read_cpu, &last);
    }
    if (error == 0)
        count_check(piece->descriptor, counts, counts->bytes);
    let_go(sheet, count_end(counter, counts, error));
    clocks_charge(&sheet->count.count, &sheet->count.count_cpu, &last);
}

static int tokenise_parcel(const void *in, void *out, const twill_task *task)
{
    struct work *work = task->context;
    struct parcel *parcel = *(struct parcel *const *)in;
    for (int turn = 0; turn < 2; turn++) /* long ones last: they use the buffer anew */
        for (size_t i = 0; i < parcel->count; i++) {
            struct sheet *sheet = parcel->sheets[i];
            sheet->teller = task->worker;
            if (turn == 0 && sheet->whole)
                tokenise_whole(work, sheet, task->worker_state);
            else if (turn == 1 && !sheet->whole && sheet->error == 0)
                tokenise_long(work, parcel, sheet, task->worker_state);
        }
    reading_give_back(&work->reading, &parcel->buffer);
    *(struct parcel **)out = parcel;
    return 0;
}

/* ---- merge: in order, so it appends ---- */

static bool widen(void *list_, size_t size, size_t capacity)
{
    void **list = list_, *moved = realloc(*list, size * capacity);
    if (moved != NULL)
        *list = moved;
    return moved != NULL;
}

static bool make_room_for(struct work *work, size_t more)
{
    struct flow *flow = work->flow;
    if (flow->run.files + more <= work->capacity)
        return true;
    size_t wider = 2 * work->capacity + PARCEL_FILES;
    bool wide = widen(&flow->counts, sizeof *flow->counts, wider) &&
                widen(&flow->indexes, sizeof *flow->indexes, wider) &&
                widen(&flow->run.efforts, sizeof *flow->run.efforts, wider) &&
                widen(&flow->run.reads, sizeof *flow->run.reads, wider) &&
                widen(&flow->run.workers_of, sizeof *flow->run.workers_of, wider) &&
                widen(&flow->run.readers_of, sizeof *flow->run.readers_of, wider);
    work->capacity = wide ? wider : work->capacity;
    return wide;
}

static void append(struct flow *flow, struct sheet *sheet)
{
    size_t at = flow->run.files++;
    sheet->counts.error = sheet->error;
    flow->counts[at] = sheet->counts;
    flow->indexes[at] = sheet->index;
    flow->run.efforts[at] = sheet->count;
    flow->run.reads[at] = sheet->read;
    flow->run.workers_of[at] = sheet->teller;
    flow->run.readers_of[at] = sheet->reader;
}

static int merge_parcel(const void *in, void *out, const twill_task *task)
{
    struct work *work = task->context;
    struct parcel *parcel = *(struct parcel *const *)in;
    struct reading_figures *reading = &work->flow->figures.reading;
    bool room = make_room_for(work, parcel->count);
    (void)out;
    if (!room)
        spoil(work, ENOMEM);
    for (size_t i = 0; i < parcel->count; i++) {
        struct sheet *sheet = parcel->sheets[i];
        reading->retries += sheet->piece.retries;
        reading->faults += sheet->piece.faults;
        reading->limits += sheet->error == ETIMEDOUT;
        if (sheet->error != 0)
            twill_progress_add_failed(work->plan->progress, sheet->size - sheet->shown);
        else
            show(work, sheet, sheet->size);
        if (sheet->error == ECANCELED)
            work->flow->figures.given_up++;
        else if (room)
            append(work->flow, sheet);
    }
    atomic_fetch_sub_explicit(&work->inside, 1, memory_order_relaxed);
    stop_leave(work->plan->stop, parcel->count);
    free_parcel(parcel);
    return 0;
}

/* ---- the whole ---- */

static int start_counter(void **state, const twill_task *task)
{
    (void)task;
    *state = counter_create();
    return *state == NULL ? ENOMEM : 0;
}

/* On the thread that called, one worker after the other: no lock. */
static void keep_counter(void *state, const twill_task *task)
{
    struct work *work = task->context;
    work->flow->counters[work->flow->counter_count++] = state;
}

/* Parcels that nobody took: not part of the report. */
static void drop_queued(void *item, twill_status why, const twill_task *task)
{
    (void)why, (void)task;
    free_parcel(*(struct parcel **)item);
}

static int pass_through(struct work *work)
{
    struct flow_figures *figures = &work->flow->figures;
    const struct flow_plan *plan = work->plan;
    twill_stage stages[FLOW_STAGES] = {
        [FLOW_READ] = {.work = read_parcel,
                       .out_size = sizeof(struct parcel *),
                       .workers = plan->workers},
        [FLOW_TOKENISE] = {.work = tokenise_parcel,
                           .out_size = sizeof(struct parcel *),
                           .workers = plan->workers},
        [FLOW_MERGE] = {.work = merge_parcel, .kind = TWILL_STAGE_IN_ORDER},
    };
    twill_pipeline_options options = {
        .run = {.pool = plan->pool,
                .workers = plan->workers,
                .context = work,
                .worker_start = start_counter,
                .worker_stop = keep_counter},
        .tokens = figures->tokens,
        .report = &figures->pipeline,
        .stage_stats = figures->stages,
    };
    for (size_t k = 0; k < FLOW_STAGES; k++)
        stages[k].name = flow_stage_names[k];
    twill_status status =
        twill_pipeline_run(take_parcel, sizeof(struct parcel *), stages, FLOW_STAGES, &options);
    work->flow->run.short_of_threads = (figures->pipeline.run.flags & TWILL_REPORT_DEGRADED) != 0;
    return status == TWILL_OK ? 0 : ENOMEM;
}

/* Walk and pipeline, side by side. *walk_error: why the root could not be walked. */
static int both(struct work *work, int *walk_error)
{
    twill_future walking;
    twill_submit_options options = {.result_size = sizeof *walk_error};
    *walk_error = 0;
    if (twill_pool_submit(work->plan->pool, walk, work, &walking, &options) != TWILL_OK)
        return ENOMEM;
    int error = pass_through(work);
    (void)twill_queue_close(work->queue); /* the walk must not wait for a pipeline that is */
    (void)twill_queue_clear(work->queue); /* not there any more */
    if (twill_future_wait(walking, walk_error, NULL) != TWILL_OK && error == 0)
        error = ENOMEM;
    twill_future_release(walking);
    return error != 0 ? error : atomic_load(&work->trouble);
}

static int open_work(struct work *work)
{
    const struct flow_plan *plan = work->plan;
    struct flow_figures *figures = &work->flow->figures;
    struct reading_rules rules = plan->rules;
    rules.buffers = figures->tokens; /* so that no stage ever waits for a buffer */
    twill_queue_options queue = {.capacity = QUEUE_PARCELS, .drop = drop_queued};
    work->flow->counters = calloc(plan->workers + 1u, sizeof *work->flow->counters);
    figures->samples = malloc(FLOW_SAMPLES * sizeof *figures->samples); /* NULL: none are kept */
    work->sample_gap = 1;
    if (work->flow->counters == NULL ||
        reading_open(&work->reading, &rules, stop_given_up(plan->stop)) != 0)
        return ENOMEM;
    if (twill_queue_create(&work->queue, sizeof(struct parcel *), &queue) == TWILL_OK)
        return 0;
    reading_close(&work->reading, &figures->reading);
    return ENOMEM;
}

static int merge_all(struct flow *flow, const struct flow_plan *plan)
{
    if (flow->counter_count == 0) /* not one parcel */
        flow->counters[flow->counter_count++] = counter_create();
    return flow->counters[0] == NULL
               ? ENOMEM
               : merge_counters(flow->counters, flow->counter_count, plan->pool, plan->workers,
                                flow->run.merges, &flow->found);
}

int flow_run(struct flow *flow, const struct flow_plan *plan)
{
    struct work work = {.flow = flow, .plan = plan};
    int walk_error = 0;
    memset(flow, 0, sizeof *flow);
    flow->figures.workers = plan->workers;
    flow->figures.tokens = 4u * plan->workers;
    flow->run.begin = flow->run.map_end = flow->run.end = twill_now();
    if (open_work(&work) != 0)
        return ENOMEM;
    int error = both(&work, &walk_error);
    note_depth(&work);
    flow->run.map_end = twill_now();
    twill_queue_get_stats(work.queue, &flow->figures.queue);
    (void)twill_queue_destroy(work.queue);
    reading_close(&work.reading, &flow->figures.reading);
    if (walk_error == ECANCELED)
        walk_error = 0; /* asked to stop, and the listing took too long: what is known, is known */
    if (error == 0 && walk_error == 0)
        error = merge_all(flow, plan);
    flow->run.end = twill_now();
    flow->stopped = stop_asked(plan->stop) && flow->run.files < plan->corpus->count;
    return walk_error != 0 ? walk_error : error;
}

void flow_free(struct flow *flow)
{
    for (size_t k = 0; k < flow->counter_count; k++)
        counter_destroy(flow->counters[k]);
    free(flow->counters);
    free(flow->counts);
    free(flow->indexes);
    free(flow->run.efforts);
    free(flow->run.reads);
    free(flow->run.workers_of);
    free(flow->run.readers_of);
    free(flow->figures.samples);
    memset(flow, 0, sizeof *flow);
}

double flow_load(const struct flow_figures *figures, size_t stage, int64_t wall)
{
    unsigned workers = stage == FLOW_MERGE ? 1 : figures->workers;
    return (double)figures->stages[stage].busy / ((double)wall * workers);
}
