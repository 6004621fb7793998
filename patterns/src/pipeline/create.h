/* create.h: checks, sizes, and the one block of memory. */
#ifndef TWILL__PIPELINE_CREATE_H
#define TWILL__PIPELINE_CREATE_H

#include "pipeline/report.h"

/* What a pipeline is made of. */
typedef struct twill__flow_plan {
    const twill_stage *stages;
    size_t n_stages, item_size;
    const twill_pipeline_options *options;
    twill_source_fn *source; /* NULL: pushed */
    const void *map_items;
    void *map_results;
    size_t map_n;
    bool map;
    /* found */
    uint32_t tickets, np;
    size_t loads, scratch; /* of a hand */
} twill__flow_plan;

/* Of a call that runs nothing, or is the parent process's. */
static inline twill_status twill__flow_refuse(const twill__flow_plan *plan, size_t total,
                                              twill_status status)
{
    const twill_pipeline_options *options = plan->options;
    if (options->report) {
        *options->report = (twill_pipeline_report){.failed_stage = SIZE_MAX};
        options->report->run.status = status;
        options->report->run.total = options->report->run.skipped = total;
    }
    for (size_t k = 0; options->stage_stats && k < plan->n_stages && plan->n_stages <= 65536; k++)
        options->stage_stats[k] = (twill_stage_stats){0};
    return twill__refuse(&options->run, total, status);
}

static inline twill_status twill__flow_stage_check(const twill__flow_plan *plan, size_t k)
{
    const twill_stage *stage = &plan->stages[k];
    if (!stage->work == !stage->batch || (unsigned)stage->kind > TWILL_STAGE_SERIAL ||
        (!stage->out_size && (k + 1 < plan->n_stages || stage->outputs_max)) ||
        (stage->kind != TWILL_STAGE_PARALLEL && stage->workers > 1) || stage->linger < 0 ||
        (!stage->batch && (stage->batch_max || stage->linger)) || (plan->map && stage->outputs_max))
        return TWILL_INVALID;
    return stage->outputs_max > UINT32_MAX || stage->batch_max > UINT32_MAX ? TWILL_TOO_BIG
                                                                            : TWILL_OK;
}

static inline uint32_t twill__flow_stage_limit(const twill_stage *stage)
{
    return stage->kind != TWILL_STAGE_PARALLEL ? 1
           : stage->workers                    ? stage->workers
                                               : twill__cpus_hint();
}

/* Checks all, and finds how many tickets and workers there are. */
static inline twill_status twill__flow_plan_check(twill__flow_plan *plan)
{
    const twill_pipeline_options *options = plan->options;
    const twill_run *run = &options->run;
    uint64_t workers = 0, tokens = options->tokens;
    twill_status status = twill__check_run(run);
    if (status != TWILL_OK)
        return status;
    if (!plan->item_size || !plan->stages || !plan->n_stages ||
        (!plan->map && (run->statuses || run->codes)))
        return TWILL_INVALID;
    if (plan->n_stages > 65536)
        return TWILL_TOO_BIG;
    for (size_t k = 0; k < plan->n_stages; k++) {
        status = twill__flow_stage_check(plan, k);
        if (status != TWILL_OK)
            return status;
        workers += twill__flow_stage_limit(&plan->stages[k]);
    }
    if (!tokens)
        tokens = 3 * workers;
    if (run->workers)
        workers = run->workers;
    if (workers > tokens)
        workers = tokens;
    if (tokens > 1u << 30 || workers > TWILL__MAX_WORKERS)
        return TWILL_TOO_BIG;
    plan->tickets = (uint32_t)tokens;
    plan->np = (uint32_t)workers;
    return TWILL_OK;
}

/* ---- memory ---- */

typedef struct twill__flow_carver { /* base NULL: only counts; else aligned to a line */
    char *base;
    size_t at;
    bool too_big;
} twill__flow_carver;

/* On a line of its own: items may want that much. */
static inline void *twill__flow_carve(twill__flow_carver *carver, size_t n, size_t size)
{
    size_t at = (carver->at + TWILL__LINE - 1) / TWILL__LINE * TWILL__LINE;
    if (carver->too_big || (size && n > (SIZE_MAX / 2 - at) / size)) {
        carver->too_big = true;
        return NULL;
    }
    carver->at = at + n * size;
    return carver->base && size ? carver->base + at : NULL;
}

static inline uint32_t twill__flow_power_of_two(uint64_t least)
{
    uint32_t size = 1;
    while (size < least)
        size *= 2;
    return size;
}

/* Outputs of one call. */
static inline size_t twill__flow_stage_outputs(const twill_stage *stage)
{
    if (stage->outputs_max || !stage->batch)
        return stage->outputs_max ? stage->outputs_max : 1;
    return stage->batch_max ? stage->batch_max : 16;
}

/* What a step is, given what can come to it. */
static inline twill_status twill__flow_step_plan(twill__flow_step *step,
                                                 const twill__flow_plan *plan, size_t k,
                                                 uint32_t spread, size_t in_size)
{
    const twill_stage *stage = &plan->stages[k];
    uint64_t pieces = (uint64_t)spread * plan->tickets;
    memset(step, 0, sizeof *step);
    step->user = *stage;
    step->in_size = in_size;
    step->spread = spread;
    step->most = stage->outputs_max ? (uint32_t)stage->outputs_max : 1;
    step->limit = twill__flow_stage_limit(stage);
    step->in_order = stage->kind == TWILL_STAGE_IN_ORDER;
    step->single = stage->batch && stage->outputs_max;
    step->burst = 1;
    step->mood = TWILL__FLOW_MOOD_STARVED;
    if (step->most > 1u << 30)
        return TWILL_TOO_BIG;
    step->mask = twill__flow_power_of_two(pieces) - 1;
    if (stage->batch && !step->user.batch_max)
        step->user.batch_max = 16;
    if (step->user.batch_max > pieces)
        step->user.batch_max = (size_t)pieces;
    step->room = SIZE_MAX;
    if (stage->buffer && !step->in_order) {
        /* what a call before it brings must fit, also while a batch waits to be full */
        size_t call = k > 0 ? twill__flow_stage_outputs(&plan->stages[k - 1]) : 1;
        if (stage->batch)
            call += step->user.batch_max - 1;
        step->room = stage->buffer < call ? call : stage->buffer;
        if (step->room >= pieces)
            step->room = SIZE_MAX;
    }
    return TWILL_OK;
}

static inline void twill__flow_step_carve(twill__flow_step *step, twill__flow_carver *carver,
                                          const twill__flow_plan *plan, uint32_t ring)
{
    size_t tickets = plan->tickets, pieces = tickets * step->spread;
    step->in = (char *)twill__flow_carve(carver, pieces, step->in_size);
    if (!step->in_order) {
        step->queue = (twill__flow_piece *)twill__flow_carve(carver, (size_t)step->mask + 1,
                                                             sizeof *step->queue);
    } else {
        step->ring = (uint32_t *)twill__flow_carve(carver, ring, sizeof *step->ring);
        if (carver->base)
            memset(step->ring, 0, ring * sizeof *step->ring);
    }
    if (step->in_order && step->spread > 1) {
        size_t words = tickets * ((step->spread + 63) / 64);
        step->due = (uint32_t *)twill__flow_carve(carver, tickets, sizeof *step->due);
        step->left = (uint32_t *)twill__flow_carve(carver, tickets, sizeof *step->left);
        step->bits = (uint64_t *)twill__flow_carve(carver, words, sizeof *step->bits);
        if (carver->base) {
            memset(step->left, 0, tickets * sizeof *step->left);
            memset(step->bits, 0, words * sizeof *step->bits);
        }
    }
    if (step->user.linger && step->user.linger != TWILL_FOREVER)
        step->came = (twill_ns *)twill__flow_carve(carver, pieces, sizeof *step->came);
}

/* The steps, one behind the other; base NULL: only their bytes. */
static inline twill_status
twill__flow_plan_steps(twill__flow_plan *plan, twill__flow_carver *carver, twill__flow_step *steps)
{
    uint64_t spread = 1;
    size_t in_size = plan->item_size;
    uint32_t ring = twill__flow_power_of_two(plan->tickets);
    twill__flow_step one;
    plan->loads = TWILL__FLOW_BURST;
    plan->scratch = 0;
    for (size_t k = 0; k < plan->n_stages; k++) {
        twill__flow_step *step = steps ? &steps[k] : &one;
        twill_status status = twill__flow_step_plan(step, plan, k, (uint32_t)spread, in_size);
        size_t scratch = 0;
        if (status != TWILL_OK)
            return status;
        twill__flow_step_carve(step, carver, plan, ring);
        if (step->user.batch) {
            if (in_size > SIZE_MAX / 4 / step->user.batch_max)
                return TWILL_TOO_BIG;
            scratch = in_size * step->user.batch_max;
            if (step->user.batch_max > plan->loads)
                plan->loads = step->user.batch_max;
        } else if (step->most > 1) {
            scratch = step->user.out_size;
        }
        if (scratch > plan->scratch)
            plan->scratch = scratch;
        in_size = step->user.out_size;
        if (step->user.outputs_max)
            spread *= step->most;
        if (spread * plan->tickets > 1u << 30)
            return TWILL_TOO_BIG;
    }
    if (plan->loads > spread * plan->tickets) /* no burst has more than all pieces */
        plan->loads = (size_t)spread * plan->tickets;
    if (steps) {
        twill__flow_step *last = &steps[plan->n_stages];
        memset(last, 0, sizeof *last);
        last->spread = (uint32_t)spread;
        last->in_size = in_size;
        last->room = SIZE_MAX;
        last->scale = 1;
        last->in = (char *)twill__flow_carve(carver, (size_t)spread * plan->tickets, in_size);
    } else {
        (void)twill__flow_carve(carver, (size_t)spread * plan->tickets, in_size);
    }
    return TWILL_OK;
}

/* All but the pipeline's own record and the crew's block. p NULL: only the bytes. */
static inline twill_status twill__flow_plan_carve(twill__flow_plan *plan,
                                                  twill__flow_carver *carver, twill__flow *p)
{
    size_t hands = (size_t)plan->np + 1, tickets = plan->tickets;
    twill__flow_step *steps =
        (twill__flow_step *)twill__flow_carve(carver, plan->n_stages + 1, sizeof *steps);
    twill__flow_ticket *ticket =
        (twill__flow_ticket *)twill__flow_carve(carver, tickets, sizeof *ticket);
    uint32_t *free = (uint32_t *)twill__flow_carve(carver, tickets, sizeof *free);
    twill_status status = twill__flow_plan_steps(plan, carver, p ? steps : NULL);
    size_t scratch = (plan->scratch + TWILL__LINE - 1) / TWILL__LINE * TWILL__LINE;
    twill__flow_load *loads;
    char *room;
    if (status != TWILL_OK)
        return status;
    loads = (twill__flow_load *)twill__flow_carve(carver, hands * plan->loads, sizeof *loads);
    room = (char *)twill__flow_carve(carver, hands, scratch);
    if (carver->too_big)
        return TWILL_TOO_BIG;
    if (!p)
        return TWILL_OK;
    p->step = steps;
    p->ticket = ticket;
    p->free = free;
    for (size_t h = 0; h < hands; h++) {
        p->hand[h].load = loads + h * plan->loads;
        p->hand[h].scratch = room ? room + h * scratch : NULL;
    }
    return TWILL_OK;
}

/* ---- making it ---- */

static inline void twill__flow_init(twill__flow *p, const twill__flow_plan *plan)
{
    p->n_steps = (uint32_t)plan->n_stages;
    p->tickets = p->free_count = plan->tickets;
    for (uint32_t k = 0; k < p->tickets; k++)
        p->free[k] = p->tickets - 1 - k;
    p->ring_mask = twill__flow_power_of_two(plan->tickets) - 1;
    p->first_order = p->n_steps;
    for (uint32_t k = p->n_steps; k-- > 0;) {
        p->step[k].order = p->first_order;
        p->step[k].scale = p->step[k + 1].scale * p->step[k].most;
        if (p->step[k].in_order)
            p->first_order = k;
    }
    for (uint32_t h = 0; h <= p->np; h++) {
        p->hand[h].call.table = twill__flow_calls();
        p->hand[h].pipe = p;
        p->hand[h].slot = h < p->np ? &p->crew.job.slot[h] : NULL;
    }
    p->burst_most = p->tickets / (p->np + 1);
    if (p->burst_most < 1)
        p->burst_most = 1;
    if (p->burst_most > TWILL__FLOW_BURST)
        p->burst_most = TWILL__FLOW_BURST;
    p->thin = p->step[p->n_steps].spread == 1;
    p->source_burst = 1;
    p->stop_key = SIZE_MAX;
    atomic_init(&p->limit, SIZE_MAX);
    p->timed = !twill__for_ever(p->run.until);
    p->source = plan->source;
    p->map_items = (const char *)plan->map_items;
    p->map_results = (char *)plan->map_results;
    p->map_n = plan->map_n;
    p->home = twill__home_here();
    p->goal = twill__ticks_per_us() * TWILL__FLOW_BURST_NS / 1024;
    p->began_at = twill__clock_now();
    p->began_ticks = twill__ticks();
    for (uint32_t k = 0; k < p->n_steps; k++)
        p->step[k].since = p->began_ticks;
}

/* worker_start, counted: when no number is left that could start, nobody can run anything. One that
   has ended its thread is not called again under that number. */
static inline int twill__flow_worker_start(void **state, const twill_task *task)
{
    twill__flow *p = (twill__flow *)((twill__job *)task->private_)->data;
    twill__flow_hand *hand = &p->hand[task->worker];
    twill__flow_turn turn;
    int code = -1;
    if (!hand->starting) {
        hand->starting = true;
        twill__flow_enter(p, &turn);
        p->starting++;
        twill__flow_exit(p, &turn, TWILL__FLOW_EXIT_READY);
        code = p->user_start(state, task);
        hand->starting = false;
        if (!twill__flow_here(p))
            return -1;
        twill__flow_enter(p, &turn);
        p->starting--;
    } else {
        twill__flow_enter(p, &turn);
    }
    if (code && !p->refused++)
        p->start_code = code;
    if (p->refused == p->np) {
        p->dead = true;
        twill__flow_halt(p, 0, false);
    }
    twill__flow_exit(p, &turn, TWILL__FLOW_EXIT_WORKER);
    return code;
}

static inline const twill__crew_table *twill__flow_crew_table(void)
{
    static const twill__crew_table table = {
        .ready = twill__flow_ready, .work = twill__flow_work, .ended = twill__flow_thread_ended};
    return &table;
}

/* One allocation. own: threads of its own, where it has no others. nested: it ends before the
   callback around it does. */
static inline twill_status twill__flow_make(twill__flow **out, twill__flow_plan *plan, bool nested)
{
    twill__flow_carver count = {NULL, 0, false}, carver;
    size_t head = (sizeof(twill__flow) + TWILL__LINE - 1) / TWILL__LINE * TWILL__LINE, crew, hands;
    unsigned own;
    char *memory, *base;
    twill__flow *p;
    twill_run run;
    twill__flow_turn turn;
    twill_status status = twill__flow_plan_check(plan);
    *out = NULL;
    if (status == TWILL_OK)
        status = twill__flow_plan_carve(plan, &count, NULL);
    if (status != TWILL_OK)
        return status;
    own = nested ? plan->np - 1 : plan->np;
    crew = twill__crew_bytes(plan->np, own);
    hands = ((size_t)plan->np + 1) * sizeof(twill__flow_hand);
    if (count.at > SIZE_MAX / 2 - head - crew - hands - TWILL__LINE)
        return TWILL_TOO_BIG;
    memory = (char *)TWILL_MALLOC(head + crew + hands + count.at + TWILL__LINE);
    if (!memory)
        return TWILL_NO_MEMORY;
    base = memory + (TWILL__LINE - (uintptr_t)memory % TWILL__LINE) % TWILL__LINE;
    memset(base, 0, head);
    memset(base + head + crew, 0, hands);
    p = (twill__flow *)(void *)base;
    p->memory = memory;
    p->np = plan->np;
    p->call = nested;
    p->options = *plan->options;
    p->run = plan->options->run;
    p->hand = (twill__flow_hand *)(void *)(base + head + crew);
    carver = (twill__flow_carver){base + head + crew + hands, 0, false};
    (void)twill__flow_plan_carve(plan, &carver, p);
    run = p->run;
    if (run.worker_start) {
        p->user_start = run.worker_start;
        run.worker_start = twill__flow_worker_start;
    }
    p->crew.job.slot = (twill__slot *)(void *)(base + head);
    twill__flow_init(p, plan);
    status = twill__crew_open(&p->crew, &run, p->np, own, nested, twill__flow_crew_table(), p,
                              base + head);
    if (status != TWILL_OK) {
        TWILL_FREE(memory);
        return status;
    }
    if (p->run.until.cancel) {
        p->hook.fn = twill__flow_hook;
        p->hook.context = p;
        p->hooked = true;
        twill_cancel_add_hook(p->run.until.cancel, &p->hook);
    }
    twill__flow_enter(p, &turn);
    p->opened = true;
    twill__flow_exit(p, &turn, TWILL__FLOW_EXIT_CALLER);
    *out = p;
    return TWILL_OK;
}

#endif
