/* call.h: one call of producers and consumers, from its options to its report. */
#ifndef TWILL__PC_CALL_H
#define TWILL__PC_CALL_H

#include "producer_consumer/roles.h"
#include "producer_consumer/stats.h"

static inline twill_status twill__pc_answer(const twill__pc *pc, const twill_queue_stats *stats,
                                            twill_report *report)
{
    /* relaxed: all have left */
    uint32_t failed = atomic_load_explicit(&pc->failed, memory_order_relaxed);
    size_t bad = report->done + report->failed;
    twill_status inner = report->status;
    report->total = (size_t)stats->accepted;
    report->skipped = report->total - bad;
    if (inner >= TWILL_INVALID)
        return inner;
    if (report->first_error.status)
        return TWILL_FAILED;
    if (failed || twill__queue_closed(pc->queue) == TWILL_FAILED) {
        report->first_error.index = SIZE_MAX;
        report->first_error.status = failed ? (twill_status)failed : TWILL_FAILED;
        report->first_error.code = failed ? pc->code : twill_queue_code(pc->queue);
        return TWILL_FAILED;
    }
    if (!pc->job) /* over before it began */
        return inner;
    /* relaxed: as above */
    if (pc->cut && (report->skipped ||
                    atomic_load_explicit(&pc->ended, memory_order_relaxed) & TWILL__PC_EARLY))
        return pc->cut;
    return TWILL_OK;
}

/* Of a call that runs nothing, or is the parent process's. */
static inline twill_status twill__pc_refuse(const twill_produce_consume_options *options,
                                            twill_status status)
{
    if (options->queue_stats)
        memset(options->queue_stats, 0, sizeof *options->queue_stats);
    return twill__refuse(&options->run, 0, status);
}

/* Also runs when a callback ends the calling thread. */
static inline void twill__pc_finish(void *pc_)
{
    twill__pc *pc = (twill__pc *)pc_;
    const twill_produce_consume_options *options = pc->options;
    twill_queue_stats stats;
    twill_report report = pc->inner;
    if (!twill__queue_here(pc->queue)) { /* forked in a callback: the call is the parent's */
        pc->status = twill__pc_refuse(options, TWILL_FORKED);
        twill_queue_abandon(pc->queue);
        TWILL_FREE(pc->memory);
        return;
    }
    (void)twill__queue_close(pc->queue, TWILL_CLOSED, 0);
    (void)twill_queue_clear(pc->queue);
    twill_queue_get_stats(pc->queue, &stats);
    pc->status = report.status = twill__pc_answer(pc, &stats, &report);
    (void)twill__queue_destroy(pc->queue);
    TWILL_FREE(pc->memory);
    if (options->queue_stats)
        *options->queue_stats = stats;
    if (options->run.report)
        *options->run.report = report;
}

static inline twill_status twill__pc_check(twill__pc *pc, size_t item_size)
{
    const twill_produce_consume_options *options = pc->options;
    const twill__job *outer = twill__thread()->job;
    pc->run = options->run;
    pc->run.report = &pc->inner;
    pc->producers = options->producers ? options->producers : 1;
    pc->batch = options->batch ? options->batch : 1;
    pc->caller_runs = options->queue.overflow == TWILL_OVERFLOW_CALLER_RUNS;
    if (!pc->produce || !pc->consume || !item_size || options->queue.producers ||
        options->run.statuses || options->run.codes)
        return TWILL_INVALID;
    if (twill__check_run(&pc->run) != TWILL_OK)
        return twill__check_run(&pc->run);
    pc->consumers = options->run.workers ? options->run.workers
                    : options->run.pool  ? twill__team_threads(options->run.pool->team)
                    : outer              ? outer->np
                                         : twill__cpus_hint();
    if (!pc->consumers) /* a lazy pool has no thread yet */
        pc->consumers = 1;
    if (pc->producers > TWILL__MAX_WORKERS - 1 ||
        pc->consumers > TWILL__MAX_WORKERS - pc->producers)
        return TWILL_TOO_BIG;
    pc->run.workers = pc->producers + pc->consumers;
    return TWILL_OK;
}

/* One block: the workers' records, numbers and items, these on lines of their own. */
static inline twill_status twill__pc_memory(twill__pc *pc, size_t item_size)
{
    size_t count = pc->run.workers, bytes = 0, numbers, items, each;
    char *at;
    (void)twill__queue_add(&bytes, count, sizeof(twill__pc_worker)); /* see TWILL__MAX_WORKERS */
    numbers = bytes;
    if (pc->batch > SIZE_MAX / 4 / count || pc->batch > SIZE_MAX / 4 / item_size ||
        !twill__queue_add(&bytes, count * pc->batch, sizeof(uint64_t)))
        return TWILL_TOO_BIG;
    items = bytes;
    each = (pc->batch * item_size + TWILL__LINE - 1) / TWILL__LINE * TWILL__LINE;
    if (!twill__queue_add(&bytes, count, each))
        return TWILL_TOO_BIG;
    at = (char *)TWILL_MALLOC(bytes + TWILL__LINE);
    if (!at)
        return TWILL_NO_MEMORY;
    pc->memory = at;
    pc->workers = (twill__pc_worker *)(void *)at;
    memset(pc->workers, 0, count * sizeof *pc->workers);
    items += (TWILL__LINE - (uintptr_t)(at + items) % TWILL__LINE) % TWILL__LINE;
    for (size_t k = 0; k < count; k++) {
        pc->workers[k].numbers = (uint64_t *)(void *)(at + numbers) + k * pc->batch;
        pc->workers[k].items = at + items + k * each;
    }
    return TWILL_OK;
}

static inline twill_status twill__pc_queue(twill__pc *pc, size_t item_size)
{
    twill_queue_options options = pc->options->queue;
    twill_status status;
    if (pc->caller_runs)
        options.overflow = TWILL_OVERFLOW_BLOCK;
    if (!options.context)
        options.context = pc->run.context;
    options.producers = pc->producers;
    status = twill_queue_create(&pc->queue, item_size, &options);
    if (status != TWILL_OK)
        return status;
    pc->queue->relief = twill__pc_relief;
    pc->queue->relief_data = pc;
    pc->queue->others = &pc->others;
    pc->queue->held = pc->producers;
    status = twill__pc_memory(pc, item_size);
    if (status == TWILL_OK)
        pc->queue->consumed = twill__pc_consumed;
    else
        (void)twill__queue_destroy(pc->queue);
    return status;
}

TWILL__DEFINE twill_status twill_produce_consume(size_t item_size, twill_produce_fn *produce,
                                                 twill_consume_fn *consume,
                                                 const twill_produce_consume_options *options)
{
    static const twill_produce_consume_options none;
    twill__pc pc;
    twill_status status;
    memset(&pc, 0, sizeof pc);
    pc.options = options ? options : &none;
    pc.produce = produce;
    pc.consume = consume;
    status = twill__pc_check(&pc, item_size);
    if (status == TWILL_OK)
        status = twill__pc_queue(&pc, item_size);
    if (status != TWILL_OK)
        return twill__pc_refuse(pc.options, status);
    TWILL__GUARD_PUSH(twill__pc_finish, &pc);
    (void)twill__run_call(&pc.run, (size_t)pc.run.workers, true, twill__pc_steps, &pc);
    TWILL__GUARD_POP(1);
    return pc.status;
}

#endif
