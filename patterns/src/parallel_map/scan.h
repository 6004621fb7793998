/* scan.h: scan: running combinations. */
#ifndef TWILL__PARALLEL_MAP_SCAN_H
#define TWILL__PARALLEL_MAP_SCAN_H

#include "parallel_map/passes.h"

/* ---- scan ---- */

/* Who comes to the first block that is not summed up yet writes its results at once; blocks
   further on are only summed. Then the sums are carried from block to block, and a second pass
   writes what is missing. The caller begins at the front: alone, it combines each item once, as
   the serial loop does; two threads take 3/4 of that time, w threads (2 - 1/w) / w. STATIC writes
   nothing but block 0 in the first pass: each item meets the same partners always. */

#define TWILL__SCAN_SMALL 4608 /* bytes on the caller's stack: the sums of 256 blocks of 16 bytes */
#define TWILL__SCAN_LOCAL 256 /* elements up to this size are worked on on the worker's own stack */

enum { TWILL__SCAN_NONE, TWILL__SCAN_SUMMED, TWILL__SCAN_WRITTEN };

typedef struct twill__scan {
    const char *in;
    char *out;
    size_t size, n;
    const void *start; /* NULL: inclusive */
    twill_combine_fn *combine;
    twill__fold_fn *fold; /* typed: instead of combine inside of blocks */
    twill__write_fn *write;
    const twill_parallel_options *options;
    size_t blocks, each;  /* items a block */
    size_t at;            /* first block of the pass */
    unsigned workers;     /* that there is memory for */
    _Atomic size_t front; /* blocks summed up in `carry`, without a gap */
    char *carry;
    char *sum;            /* [blocks]: of the block; in the second pass, of all in front of it */
    char *work;           /* two elements a worker, where they are large */
    unsigned char *state; /* [blocks] */
    char *memory;
} twill__scan;

/* Writes a block. acc: the sum of all in front of it (unless it is the first of an inclusive
   scan), then that of all up to its end. spare: for the right operand. Returns the code of a
   combine, *i: of which item. */
static inline __attribute__((always_inline)) int twill__scan_write(const twill__scan *scan,
                                                                   size_t *at, size_t to, char *acc,
                                                                   char *spare, size_t size,
                                                                   const twill_task *task)
{
    const char *in = scan->in + *at * size;
    char *out = scan->out + *at * size;
    size_t i = *at, last = scan->n - 1;
    twill_combine_fn *combine = scan->combine;
    bool inclusive = !scan->start;
    int code = 0;
    if (inclusive && i == 0) {
        memcpy(acc, in, size);
        if (out != in)
            memcpy(out, in, size);
        i++;
        in += size;
        out += size;
    }
    for (; i < to; i++, in += size, out += size) {
        memcpy(spare, in, size);
        if (!inclusive)
            memcpy(out, acc, size);
        if (inclusive || i != last)
            code = combine(acc, spare, task);
        if (code)
            break;
        if (inclusive)
            memcpy(out, acc, size);
    }
    *at = i;
    return code;
}

static inline __attribute__((always_inline)) int twill__scan_sum(const twill__scan *scan,
                                                                 size_t *at, size_t to, char *acc,
                                                                 char *spare, size_t size,
                                                                 const twill_task *task)
{
    const char *in = scan->in + *at * size;
    size_t i = *at;
    int code = 0;
    memcpy(acc, in, size);
    for (i++, in += size; i < to; i++, in += size) {
        memcpy(spare, in, size);
        code = scan->combine(acc, spare, task);
        if (code)
            break;
    }
    *at = i;
    return code;
}

/* The same of a typed scan. Nothing can fail. */
static inline int twill__scan_typed(const twill__scan *scan, bool write, size_t *at, size_t to,
                                    char *acc, const twill_task *task)
{
    size_t size = scan->size, last = scan->n - 1;
    if (!write) {
        scan->fold(scan->in, *at, to, acc, false, task);
    } else if (!scan->start || to != scan->n) {
        scan->write(scan->in, scan->out, *at, to, acc, !scan->start, task);
    } else { /* exclusive: nobody asks for the sum of all, and it may overflow */
        scan->write(scan->in, scan->out, *at, last, acc, false, task);
        memcpy(scan->out + last * size, acc, size);
    }
    *at = to;
    return 0;
}

static inline int twill__scan_block(const twill__scan *scan, bool write, size_t *at, size_t to,
                                    char *acc, char *spare, const twill_task *task)
{
    if (scan->fold)
        return twill__scan_typed(scan, write, at, to, acc, task);
    switch (scan->size) {
    case 4:
        return write ? twill__scan_write(scan, at, to, acc, spare, 4, task)
                     : twill__scan_sum(scan, at, to, acc, spare, 4, task);
    case 8:
        return write ? twill__scan_write(scan, at, to, acc, spare, 8, task)
                     : twill__scan_sum(scan, at, to, acc, spare, 8, task);
    case 16:
        return write ? twill__scan_write(scan, at, to, acc, spare, 16, task)
                     : twill__scan_sum(scan, at, to, acc, spare, 16, task);
    default:
        return write ? twill__scan_write(scan, at, to, acc, spare, scan->size, task)
                     : twill__scan_sum(scan, at, to, acc, spare, scan->size, task);
    }
}

/* One block. carry: what precedes it, where it is written. */
static inline void twill__scan_one(twill__job *job, twill__scan *scan, twill_task *task, size_t k,
                                   bool write, const char *carry, char *acc, char *spare)
{
    twill__slot *me = &job->slot[task->worker];
    size_t block = scan->at + k, from = block * scan->each, at = from;
    size_t to = scan->n - from < scan->each ? scan->n : from + scan->each;
    int code;
    task->index = from;
    if (write && (from || scan->start))
        memcpy(acc, carry, scan->size);
    code = twill__scan_block(scan, write, &at, to, acc, spare, task);
    me->said = 0;
    me->fail_index = SIZE_MAX;
    if (write) {
        me->fail_index = at;
        twill__range_end(job, me, k, from, to, code);
    } else if (code) {
        twill__item_failed(job, me, k, at, TWILL_FAILED, code);
    }
    if (!code)
        scan->state[block] = write ? TWILL__SCAN_WRITTEN : TWILL__SCAN_SUMMED;
}

static inline void twill__scan_first(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    twill__scan *scan = (twill__scan *)job->data;
    _Alignas(TWILL__LINE) char local[2 * TWILL__SCAN_LOCAL];
    char *acc = scan->work ? scan->work + 2 * task->worker * scan->size : local;
    char *spare = acc + scan->size;
    bool fixed = scan->options->schedule == TWILL_SCHEDULE_STATIC;
    if (!scan->work)
        spare = local + TWILL__SCAN_LOCAL;
    for (size_t k = begin; k < end && twill__block_may_run(job, k); k++) {
        /* acquire, release: who finds its block in front finds the carry, too */
        bool write =
            (!fixed || k == 0) && atomic_load_explicit(&scan->front, memory_order_acquire) == k;
        if (!write && k == scan->blocks - 1)
            break; /* its sum is of no use */
        twill__scan_one(job, scan, task, k, write, scan->carry, acc, spare);
        if (scan->state[k] == TWILL__SCAN_WRITTEN) {
            memcpy(scan->carry, acc, scan->size);
            atomic_store_explicit(&scan->front, k + 1, memory_order_release);
        } else if (scan->state[k] == TWILL__SCAN_SUMMED) {
            memcpy(scan->sum + k * scan->size, acc, scan->size);
        }
    }
    task->index = SIZE_MAX;
}

static inline void twill__scan_second(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    twill__scan *scan = (twill__scan *)job->data;
    _Alignas(TWILL__LINE) char local[2 * TWILL__SCAN_LOCAL];
    char *acc = scan->work ? scan->work + 2 * task->worker * scan->size : local;
    char *spare = scan->work ? acc + scan->size : local + TWILL__SCAN_LOCAL;
    for (size_t k = begin; k < end && twill__block_may_run(job, k); k++)
        twill__scan_one(job, scan, task, k, true, scan->sum + (scan->at + k) * scan->size, acc,
                        spare);
    task->index = SIZE_MAX;
}

/* From what blocks hold to what precedes them; `need` blocks. False: a combine has failed. */
static inline bool twill__scan_carry(twill__job *job, twill__scan *scan, size_t need)
{
    _Alignas(TWILL__LINE) char local[TWILL__SCAN_LOCAL];
    char *spare = scan->work ? scan->work : local;
    twill_task task;
    twill__task_init(job, 0, &task);
    for (size_t block = scan->at; block < need; block++) {
        char *sum = scan->sum + block * scan->size;
        int code = 0;
        /* all is well: they ran */
        TWILL_ASSERT(scan->state[block] == TWILL__SCAN_SUMMED || block == scan->blocks - 1);
        memcpy(spare, sum, scan->size);
        memcpy(sum, scan->carry, scan->size);
        if (block + 1 < need)
            code = scan->combine(scan->carry, spare, &task);
        job->slot[0].said = 0;
        if (code) {
            twill__item_failed(job, &job->slot[0], block, block * scan->each, TWILL_FAILED, code);
            return false;
        }
    }
    return true;
}

static inline void twill__scan_steps(twill__job *job, void *data)
{
    twill__scan *scan = (twill__scan *)data;
    twill__pass pass = {.n = scan->blocks, .body = twill__scan_first, .data = scan, .parts = true};
    size_t need = scan->blocks, stop_at;
    pass.unit = scan->each;
    if (scan->work && scan->workers < job->np) /* the pool has grown meanwhile */
        twill__run_alone(job);
    twill__run_pass(job, &pass);
    if (!twill__all_well(job, scan->n)) /* also if the last block is missing because of it */
        return;
    stop_at = atomic_load_explicit(&job->stop_at, memory_order_relaxed); /* after the join */
    if (stop_at != SIZE_MAX)
        need = twill__place_of(job, stop_at) + 1;
    twill__go_on_below(job);
    scan->at = atomic_load_explicit(&scan->front, memory_order_relaxed);
    if (scan->at >= need || !twill__scan_carry(job, scan, need))
        return;
    pass.n = need - scan->at;
    pass.body = twill__scan_second;
    pass.first = scan->at * scan->each;
    pass.forced = twill__was_shared(job);
    twill__run_pass(job, &pass);
}

static inline bool twill__scan_memory(twill__scan *scan, char *small, size_t small_size)
{
    unsigned np = twill__workers_for(&scan->options->run, scan->n);
    size_t elements, works = scan->size > TWILL__SCAN_LOCAL ? (size_t)np * 2 : 0;
    const twill_until *until = &scan->options->run.until;
    /* one where nobody could help and nothing end it */
    bool whole = np == 1 && !until->cancel && !until->deadline &&
                 scan->options->schedule == TWILL_SCHEDULE_AUTO;
    size_t blocks = whole ? 1 : scan->n < 16384 ? 64 : 256;
    scan->each = (scan->n - 1) / blocks + 1;
    if (scan->each < 16)
        scan->each = 16;
    scan->blocks = (scan->n - 1) / scan->each + 1;
    scan->memory = NULL;
    elements = scan->blocks + works + 1;
    if (scan->size > (SIZE_MAX - TWILL__LINE - scan->blocks) / elements)
        return false;
    if (elements * scan->size + scan->blocks > small_size) {
        scan->memory = (char *)TWILL_MALLOC(elements * scan->size + scan->blocks + TWILL__LINE);
        if (!scan->memory)
            return false;
        small = twill__aligned(scan->memory);
    }
    scan->sum = small;
    scan->carry = small + scan->blocks * scan->size;
    scan->work = works ? scan->carry + scan->size : NULL;
    scan->workers = np;
    scan->state = (unsigned char *)small + elements * scan->size;
    memset(scan->state, TWILL__SCAN_NONE, scan->blocks);
    if (scan->start)
        memcpy(scan->carry, scan->start, scan->size);
    return true;
}

static __attribute__((noinline)) twill_status twill__scan_guarded(twill__scan *scan)
{
    twill_status status;
    TWILL__GUARD_PUSH(twill__free_ended, scan->memory);
    status = twill__run_call(&scan->options->run, scan->n, true, twill__scan_steps, scan);
    TWILL__GUARD_POP(0);
    TWILL_FREE(scan->memory);
    return status;
}

TWILL__DEFINE twill_status twill__parallel_scanned(const void *in, void *out, size_t size, size_t n,
                                                   const void *start, twill_combine_fn *combine,
                                                   twill__fold_fn *fold, twill__write_fn *write,
                                                   const twill_parallel_options *options)
{
    _Alignas(TWILL__LINE) char small[TWILL__SCAN_SMALL];
    twill__scan scan = {
        .in = (const char *)in, .out = (char *)out, .size = size, .n = n, .start = start};
    twill_status status = twill__items_check(in, size, n);
    scan.combine = combine;
    scan.fold = fold;
    scan.write = write;
    options = scan.options = twill__parallel_options(options);
    if (!combine || (n && !out) || (unsigned)options->schedule > TWILL_SCHEDULE_STATIC ||
        options->chunk || options->cost_of)
        status = TWILL_INVALID;
    if (status == TWILL_OK)
        status = twill__check_run(&options->run);
    if (status == TWILL_OK && n && !twill__scan_memory(&scan, small, sizeof small))
        status = TWILL_NO_MEMORY;
    if (status != TWILL_OK)
        return twill__refuse(&options->run, n, status);
    if (n && scan.memory)
        return twill__scan_guarded(&scan);
    return twill__run_call(&options->run, n, true, twill__scan_steps, &scan);
}

TWILL__DEFINE twill_status twill_parallel_scan(const void *in, void *out, size_t size, size_t n,
                                               const void *start, twill_combine_fn *combine,
                                               const twill_parallel_options *options)
{
    return twill__parallel_scanned(in, out, size, n, start, combine, NULL, NULL, options);
}

#endif
