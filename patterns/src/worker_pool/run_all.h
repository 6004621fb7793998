/* run_all.h: n tasks in one call, each with its own outcome. */
#ifndef TWILL__WORKER_POOL_RUN_ALL_H
#define TWILL__WORKER_POOL_RUN_ALL_H

#include "engine/map.h"

typedef struct twill__all { /* job->data */
    twill__map map;
    twill_ns timeout, begun;
    twill_outcome *outcomes;
    uint32_t stop; /* why it began no more; 0: it has begun them all */
} twill__all;

/* One task: its outcome says LOST until its callback has returned. */
static inline int twill__all_one(const twill__all *all, twill__job *job, twill_task *task, size_t i,
                                 bool *late)
{
    const twill__map *map = &all->map;
    twill_ns started = all->outcomes || all->timeout ? twill__clock_now() : 0, deadline = 0;
    twill_ns outer = task->until.deadline;
    twill_outcome *outcome = all->outcomes ? &all->outcomes[i] : NULL;
    int code;
    if (all->timeout) {
        deadline = all->timeout < TWILL_FOREVER - started ? started + all->timeout : 0;
        task->until.deadline = twill__nearer(deadline, outer);
    }
    if (outcome) {
        outcome->started = started;
        outcome->worker = task->worker;
        outcome->attempts = 1;
        outcome->status = TWILL_LOST;
    }
    code =
        map->fn(map->in + i * map->in_size, map->out ? map->out + i * map->out_size : NULL, task);
    task->until.deadline = outer;
    *late = deadline && twill__clock_now() >= deadline;
    if (outcome) {
        outcome->finished = twill__clock_now();
        outcome->status = *late                                             ? TWILL_TIMEOUT
                          : code                                            ? TWILL_FAILED
                          : job->slot[task->worker].said & TWILL__SAID_SKIP ? TWILL_CANCELLED
                                                                            : TWILL_OK;
        outcome->code = outcome->status == TWILL_FAILED ? code : 0;
    }
    return code;
}

static inline void twill__all_body(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    const twill__all *all = (const twill__all *)job->data;
    twill__slot *me = &job->slot[task->worker];
    twill__loop loop;
    size_t i = twill__loop_begin(&loop, job, me, begin, end), look;
    while ((look = twill__loop_look(&loop, i, end)) > i) {
        for (; i < look; i++) {
            bool late;
            int code;
            task->index = i;
            code = twill__all_one(all, job, task, i, &late);
            if (late) {
                me->odd++;
                twill__item_failed(job, me, i, i, TWILL_TIMEOUT, 0);
                if (!twill__may_run(job, i + 1))
                    end = look = i + 1;
            } else if (!twill__loop_goes_on(&loop, i, code)) {
                end = look = i + 1;
            }
        }
    }
    twill__loop_end(me, i);
}

static inline void twill__all_steps(twill__job *job, void *all)
{
    twill__pass pass = {0};
    pass.n = ((twill__call_record *)(void *)job)->total;
    pass.body = twill__all_body;
    pass.data = all;
    pass.chunk = 1;
    pass.schedule = TWILL__DYNAMIC;
    twill__run_pass(job, &pass);
    /* relaxed: all have left */
    ((twill__all *)all)->stop = atomic_load_explicit(&job->stop, memory_order_relaxed);
}

/* What never ran says why, also when the call says FAILED, since others had failed before. */
static inline void twill__all_end(const twill__all *all, size_t n, twill_status status)
{
    bool late = status == TWILL_TIMEOUT || all->stop == TWILL_TIMEOUT;
    twill_ns now = all->outcomes ? twill__clock_now() : 0;
    for (size_t i = 0; all->outcomes && i < n; i++) {
        if (late && !all->outcomes[i].attempts)
            all->outcomes[i].status = TWILL_TIMEOUT;
        if (!all->outcomes[i].finished) /* it never ran, or ended its thread */
            all->outcomes[i].finished = now;
    }
}

TWILL__DEFINE twill_status twill_run_all(const void *tasks, size_t task_size, void *results,
                                         size_t result_size, size_t n, twill_map_fn *fn,
                                         twill_outcome *outcomes,
                                         const twill_run_all_options *options)
{
    static const twill_run_all_options none;
    twill__all all;
    twill_status status;
    twill_run run;
    if (!options)
        options = &none;
    run = options->run;
    if (!run.on_error)
        run.on_error = TWILL_ON_ERROR_COLLECT;
    all.map.in = (const char *)tasks;
    all.map.out = (char *)results;
    all.map.in_size = task_size;
    all.map.out_size = result_size;
    all.map.fn = fn;
    all.timeout = options->timeout == TWILL_FOREVER ? 0 : options->timeout;
    all.outcomes = outcomes;
    all.stop = 0;
    all.begun = twill__clock_now();
    if (!fn || options->timeout < 0 || (n && (!tasks || !task_size)) ||
        (!results != !result_size && n))
        return twill__refuse(&run, n, TWILL_INVALID);
    if (n && (n > SIZE_MAX / task_size || (result_size && n > SIZE_MAX / result_size) ||
              n > SIZE_MAX / sizeof *outcomes))
        return twill__refuse(&run, n, TWILL_TOO_BIG);
    for (size_t i = 0; outcomes && i < n; i++) {
        memset(&outcomes[i], 0, sizeof outcomes[i]);
        outcomes[i].status = TWILL_CANCELLED; /* unless it runs */
        outcomes[i].index = i;
        outcomes[i].worker = UINT_MAX;
        outcomes[i].queued = all.begun;
    }
    status = twill__run_call(&run, n, false, twill__all_steps, &all);
    twill__all_end(&all, n, status);
    return status;
}

#endif
