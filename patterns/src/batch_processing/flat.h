/* flat.h: flat map: each call of the callback writes values of its own; in the end they are put
   behind one another. */
#ifndef TWILL__BATCH_FLAT_H
#define TWILL__BATCH_FLAT_H

#include "batch_processing/calls.h"

/* The values of one call stand in blocks that double in size: no value moves before the end. A call
   that succeeds leaves them in the list of its batch, sorted by the first item; one that fails
   throws them away. */

typedef struct twill__flat_block {
    _Alignas(16) struct twill__flat_block *next;
    size_t used, room; /* bytes */
} twill__flat_block;

typedef struct twill__flat_piece { /* of one call */
    struct twill__flat_piece *next;
    size_t first;                    /* item */
    size_t bytes;                    /* of all blocks */
    twill__flat_block *blocks, **at; /* at: where the last one hangs */
} twill__flat_piece;

typedef struct twill__flat_worker {
    _Alignas(TWILL__LINE) twill__flat_piece *piece; /* of the call that runs; NULL: none */
    bool running, failed;                           /* failed: a value found no memory */
    size_t expected;                                /* bytes of the call before */
} twill__flat_worker;

typedef struct twill__flat {
    twill__calls calls;
    twill_flat_fn *fn;
    size_t value_size;
    void **values;
    size_t *values_n;
    twill__flat_worker *workers;
    twill__flat_piece **pieces; /* [batches] */
    _Atomic uint32_t no_memory;
} twill__flat;

static inline void twill__flat_free_piece(twill__flat_piece *piece)
{
    for (twill__flat_block *block = piece ? piece->blocks : NULL, *next; block; block = next) {
        next = block->next;
        TWILL_FREE(block);
    }
    TWILL_FREE(piece);
}

/* ---- emit ---- */

static inline bool twill__flat_cancelled(const twill_task *task)
{
    return twill__job_cancelled(task);
}

/* The table of a flat call: its address says that a task belongs to one. */
static inline const twill__call_table *twill__flat_table(void)
{
    static const twill__call_table table = {twill__flat_cancelled, twill__job_stop, twill__job_skip,
                                            twill__job_fail, NULL};
    return &table;
}

/* Room for one value more; NULL: no memory. */
static inline char *twill__flat_room(twill__flat *flat, twill__flat_worker *worker)
{
    twill__flat_piece *piece = worker->piece;
    twill__flat_block *block;
    size_t size = flat->value_size, room;
    if (!piece) {
        piece = (twill__flat_piece *)TWILL_MALLOC(sizeof *piece);
        if (!piece)
            return NULL;
        memset(piece, 0, sizeof *piece);
        piece->at = &piece->blocks;
        worker->piece = piece;
    }
    block = *piece->at;
    if (block && block->room - block->used >= size)
        return (char *)(block + 1) + block->used;
    room = piece->bytes ? piece->bytes : worker->expected > 240 ? worker->expected : 240;
    if (room < size)
        room = size;
    if (room > SIZE_MAX - sizeof *block)
        return NULL;
    block = (twill__flat_block *)TWILL_MALLOC(sizeof *block + room);
    if (!block)
        return NULL;
    block->next = NULL;
    block->used = 0;
    block->room = room;
    if (*piece->at)
        piece->at = &(*piece->at)->next;
    *piece->at = block;
    return (char *)(block + 1);
}

TWILL__DEFINE twill_status twill_batch_emit(const twill_task *task, const void *value)
{
    twill__flat *flat;
    twill__flat_worker *worker;
    char *room;
    if (!task || !value || twill__table_of(task) != twill__flat_table())
        return TWILL_INVALID;
    flat = ((twill__calls *)((twill__job *)task->private_)->data)->flat;
    worker = &flat->workers[task->worker];
    if (!worker->running)
        return TWILL_INVALID; /* in a hook, or in retryable */
    room = twill__flat_room(flat, worker);
    if (!room) {
        worker->failed = true;
        return TWILL_NO_MEMORY;
    }
    memcpy(room, value, flat->value_size);
    (*worker->piece->at)->used += flat->value_size;
    worker->piece->bytes += flat->value_size;
    return TWILL_OK;
}

/* ---- calls ---- */

static inline void twill__flat_keep(twill__flat *flat, size_t place, twill__flat_piece *piece)
{
    twill__flat_piece **link = &flat->pieces[place];
    while (*link && (*link)->first < piece->first)
        link = &(*link)->next;
    piece->next = *link;
    *link = piece;
}

static inline void twill__flat_drop(twill__work *work)
{
    twill__flat_worker *worker = &work->calls->flat->workers[work->task->worker];
    worker->running = false;
    twill__flat_free_piece(worker->piece);
    worker->piece = NULL;
}

static inline int twill__flat_call(twill__work *work, twill_batch *batch)
{
    twill__flat *flat = work->calls->flat;
    twill__flat_worker *worker = &flat->workers[work->task->worker];
    int code;
    worker->running = true;
    worker->failed = false;
    code = flat->fn(batch, work->task);
    worker->running = false;
    if (worker->failed) { /* nothing of the whole will be delivered */
        /* relaxed: looked at after the join */
        atomic_store_explicit(&flat->no_memory, 1, memory_order_relaxed);
        twill__stop_all(work->job, TWILL_NO_MEMORY, true);
        code = code ? code : (int)TWILL_NO_MEMORY;
    }
    if (code) {
        twill__flat_drop(work);
    } else if (worker->piece) {
        worker->expected = worker->piece->bytes;
        worker->piece->first = batch->first;
        twill__flat_keep(flat, work->place, worker->piece);
        worker->piece = NULL;
    }
    return code;
}

/* ---- the end ---- */

static inline void twill__flat_copy(const twill__flat_piece *piece, char **to)
{
    for (const twill__flat_block *block = piece->blocks; block; block = block->next) {
        memcpy(*to, block + 1, block->used);
        *to += block->used;
    }
}

/* One block for all values; false: no memory. */
static inline bool twill__flat_gather(twill__flat *flat)
{
    size_t bytes = 0, batches = flat->calls.cuts.batches;
    char *to;
    for (size_t k = 0; k < batches; k++)
        for (twill__flat_piece *piece = flat->pieces[k]; piece; piece = piece->next)
            bytes += piece->bytes; /* cannot wrap: they are in memory */
    if (!bytes)
        return true;
    to = (char *)TWILL_MALLOC(bytes);
    if (!to)
        return false;
    *flat->values = to;
    *flat->values_n = bytes / flat->value_size;
    for (size_t k = 0; k < batches; k++)
        for (twill__flat_piece *piece = flat->pieces[k]; piece; piece = piece->next)
            twill__flat_copy(piece, &to);
    return true;
}

static inline void twill__flat_steps(twill__job *job, void *data)
{
    twill__flat *flat = (twill__flat *)data;
    size_t batches = flat->calls.cuts.batches;
    char *workers = (char *)twill__scratch_get(job, job->np * sizeof *flat->workers + TWILL__LINE);
    if (batches <= SIZE_MAX / sizeof *flat->pieces)
        flat->pieces = (twill__flat_piece **)TWILL_MALLOC(batches * sizeof *flat->pieces);
    if (flat->pieces)
        memset(flat->pieces, 0, batches * sizeof *flat->pieces);
    if (!workers || !flat->pieces) {
        flat->calls.no_memory = true;
        return;
    }
    workers += (TWILL__LINE - (uintptr_t)workers % TWILL__LINE) % TWILL__LINE;
    flat->workers = (twill__flat_worker *)(void *)workers;
    memset(flat->workers, 0, job->np * sizeof *flat->workers);
    job->call.table = twill__flat_table();
    twill__calls_steps(job, &flat->calls);
    /* relaxed, here and in finish: all have ended */
    if (!atomic_load_explicit(&flat->no_memory, memory_order_relaxed) && !twill__flat_gather(flat))
        atomic_store_explicit(&flat->no_memory, 1, memory_order_relaxed);
}

/* Also runs when a callback has ended the calling thread: then nobody takes the values. */
static inline void twill__flat_finish(void *flat_)
{
    twill__flat *flat = (twill__flat *)flat_;
    for (size_t k = 0; flat->pieces && k < flat->calls.cuts.batches; k++)
        for (twill__flat_piece *piece = flat->pieces[k], *next; piece; piece = next) {
            next = piece->next;
            twill__flat_free_piece(piece);
        }
    TWILL_FREE(flat->pieces);
    if (atomic_load_explicit(&flat->no_memory, memory_order_relaxed))
        flat->calls.inner.status = TWILL_NO_MEMORY;
    twill__calls_finish(&flat->calls);
}

TWILL__DEFINE twill_status twill_batch_flat_map(const void *items, size_t item_size, size_t n,
                                                twill_flat_fn *fn, size_t value_size, void **values,
                                                size_t *values_n,
                                                const twill_batch_options *options)
{
    twill__flat flat = {.fn = fn, .value_size = value_size, .values = values, .values_n = values_n};
    twill_status status;
    options = twill__batch_options(options);
    if (values)
        *values = NULL;
    if (values_n)
        *values_n = 0;
    status = twill__calls_check(options, items, item_size, n,
                                fn != NULL && value_size && values && values_n);
    if (status != TWILL_OK)
        return twill__refuse(&options->run, n, status);
    twill__calls_init(&flat.calls, options, items, item_size, n);
    flat.calls.flat = &flat;
    atomic_init(&flat.no_memory, 0);
    return twill__calls_run(&flat.calls, twill__flat_steps, twill__flat_finish, &flat);
}

TWILL__DEFINE void twill_batch_free(void *values)
{
    TWILL_FREE(values);
}

#endif
