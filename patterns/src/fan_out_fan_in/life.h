/* life.h: a fan from its options to its report. */
#ifndef TWILL__FAN_LIFE_H
#define TWILL__FAN_LIFE_H

#include "fan_out_fan_in/object.h"
#include "platform/terminal.h"

/* ---- create ---- */

typedef struct twill__fan_plan { /* what is to be made, and where it stands in its block */
    const twill_fan_options *options;
    size_t item_size, result_size, n; /* n: items of an array */
    bool call, stream, nested;
    unsigned workers, own;
    size_t window, max_unread, capacity;
    size_t task_size, item_at, result_at;
    /* places: of a lane; queue: of its first ring */
    size_t slots, crew, ring, places, lane_rings, lanes, queue, queue_ring, records, first, bytes;
} twill__fan_plan;

static inline bool twill__fan_options_valid(const twill__fan_plan *plan)
{
    const twill_fan_options *options = plan->options;
    const twill_run *run = &options->run;
    if ((unsigned)options->goal > TWILL_FAN_ENOUGH || options->timeout < 0 ||
        (options->goal == TWILL_FAN_QUORUM) != (options->quorum != 0) ||
        (options->goal == TWILL_FAN_ENOUGH) != (options->enough != NULL))
        return false;
    if (!plan->call)
        return !run->statuses && !run->codes;
    if (options->notify || (options->result_size && options->result_size != plan->result_size))
        return false;
    if (plan->stream)
        return !run->statuses && !run->codes && options->goal != TWILL_FAN_ALL_OK;
    return options->goal != TWILL_FAN_QUORUM || options->quorum <= plan->n;
}

static inline void twill__fan_plan_workers(twill__fan_plan *plan)
{
    const twill_run *run = &plan->options->run;
    const twill__job *outer = twill__thread()->job;
    unsigned workers = run->workers;
    if (!workers)
        workers = run->pool                            ? run->pool->team->threads
                  : plan->call && outer && outer->team ? outer->np
                                                       : twill__cpus_hint();
    if (!workers)
        workers = 1;
    plan->window = plan->options->in_flight ? plan->options->in_flight : 2 * (size_t)workers;
    if (workers > plan->window)
        workers = (unsigned)plan->window;
    if (plan->call && !plan->stream && workers > plan->n)
        workers = (unsigned)plan->n;
    plan->workers = workers;
    plan->own = workers;
}

/* Adds count * size to *total, in multiples of a line; false: too big. */
static inline bool twill__fan_add(size_t *total, size_t count, size_t size)
{
    if (size && count > (SIZE_MAX / 4 - TWILL__LINE) / size)
        return false;
    if (*total > SIZE_MAX / 4 - TWILL__LINE - count * size)
        return false;
    *total += (count * size + TWILL__LINE - 1) / TWILL__LINE * TWILL__LINE;
    return true;
}

/* Where so many bytes stand behind `at`, for any type of that size. */
static inline size_t twill__fan_place_of(size_t at, size_t size)
{
    size_t unit = size % 16 ? 8 : 16;
    return (at + unit - 1) / unit * unit;
}

/* How many places a lane has; 0: there are none. Only where no outcome decides anything. Those of
   an array have records of their own, a part of those that the call may have. */
static inline size_t twill__fan_plan_lanes(const twill__fan_plan *plan)
{
    const twill_fan_options *options = plan->options;
    const twill_on_error policy = options->run.on_error;
    size_t places = TWILL__FAN_PLACES;
    if (options->goal != TWILL_FAN_ALL || options->ordered || options->notify ||
        (policy != TWILL_ON_ERROR_DEFAULT && policy != TWILL_ON_ERROR_COLLECT) ||
        (options->timeout && options->timeout != TWILL_FOREVER) || options->max_abandoned ||
        plan->workers > TWILL__FAN_LANES || (!plan->queue && !plan->n))
        return 0;
    if (plan->queue) {
        while (places > TWILL__FAN_FEWEST && places / 2 >= plan->window)
            places /= 2;
        return places;
    }
    while (places > plan->capacity / (2 * (size_t)plan->workers) ||
           places > TWILL__FAN_BYTES / plan->task_size)
        places /= 2;
    return places < TWILL__FAN_FEWEST ? 0 : places;
}

/* Sizes and places; OK or TOO_BIG. */
static inline twill_status twill__fan_plan_memory(twill__fan_plan *plan)
{
    const twill_fan_options *options = plan->options;
    bool copies = plan->stream || (plan->call && options->max_abandoned);
    size_t item = copies ? plan->item_size : 0;
    if (item > SIZE_MAX / 8 || plan->result_size > SIZE_MAX / 8)
        return TWILL_TOO_BIG;
    plan->item_at = twill__fan_place_of(TWILL__FAN_RECORD, item);
    plan->result_at = twill__fan_place_of(plan->item_at + item, plan->result_size);
    plan->task_size =
        (plan->result_at + plan->result_size + TWILL__LINE - 1) / TWILL__LINE * TWILL__LINE;
    plan->max_unread = options->max_unread ? options->max_unread : plan->call ? 1024 : 65536;
    if (plan->window > SIZE_MAX / 8 || plan->max_unread > SIZE_MAX / 8)
        return TWILL_TOO_BIG;
    plan->capacity = plan->window + plan->max_unread;
    if (plan->call && !plan->stream &&
        (plan->capacity > plan->n || options->goal == TWILL_FAN_ALL_OK))
        plan->capacity = plan->n;
    plan->first = plan->call && options->goal == TWILL_FAN_ALL_OK ? plan->n
                  : plan->window < 32                             ? plan->window
                                                                  : 32;
    plan->bytes = TWILL__LINE;
    (void)twill__fan_add(&plan->bytes, 1, sizeof(twill_fan));
    plan->slots = plan->bytes;
    (void)twill__fan_add(&plan->bytes, plan->workers, sizeof(twill__fan_slot));
    plan->crew = plan->bytes;
    (void)twill__fan_add(&plan->bytes, 1, twill__crew_bytes(plan->workers, plan->own));
    plan->ring = plan->bytes;
    if (options->ordered &&
        !twill__fan_add(&plan->bytes, plan->capacity, sizeof(twill__fan_task *)))
        return TWILL_TOO_BIG;
    if (!plan->call || plan->stream) /* first <= 32 */
        for (plan->queue = 1; plan->queue < plan->first;)
            plan->queue *= 2;
    plan->queue_ring = plan->bytes;
    (void)twill__fan_add(&plan->bytes, plan->queue, sizeof(twill__fan_task *));
    plan->places = twill__fan_plan_lanes(plan);
    plan->lane_rings = plan->bytes;
    (void)twill__fan_add(&plan->bytes, plan->workers * plan->places, sizeof(twill__fan_task *));
    plan->lanes = plan->bytes;
    if (!plan->queue) {
        plan->capacity -= plan->workers * plan->places;
        if (plan->first > plan->capacity)
            plan->first = plan->capacity;
        /* no more than TWILL__FAN_BYTES for each of a few workers */
        (void)twill__fan_add(&plan->bytes, plan->workers * plan->places, plan->task_size);
    }
    plan->records = plan->bytes;
    return twill__fan_add(&plan->bytes, plan->first, plan->task_size) ? TWILL_OK : TWILL_TOO_BIG;
}

static inline twill_status twill__fan_check(twill__fan_plan *plan)
{
    twill_status status = twill__check_run(&plan->options->run);
    if (!twill__fan_options_valid(plan))
        return TWILL_INVALID;
    if (status != TWILL_OK)
        return status;
    if (plan->options->run.workers > TWILL__MAX_WORKERS)
        return TWILL_TOO_BIG;
    twill__fan_plan_workers(plan);
    return twill__fan_plan_memory(plan);
}

static inline void twill__fan_init_lanes(twill_fan *fan, const twill__fan_plan *plan, char *base)
{
    for (size_t k = 0; k < fan->workers; k++) {
        twill__fan_lane *lane = &fan->slot[k].lane;
        lane->places = (uint32_t)plan->places;
        lane->ring = (twill__fan_task **)(void *)(base + plan->lane_rings) + k * plan->places;
        for (size_t at = 0; at < plan->places; at++)
            lane->ring[at] =
                plan->queue
                    ? NULL
                    : (twill__fan_task *)(void *)(base + plan->lanes +
                                                  (k * plan->places + at) * plan->task_size);
    }
}

static inline void twill__fan_init(twill_fan *fan, const twill__fan_plan *plan)
{
    const twill_fan_options *options = plan->options;
    const twill_run *run = &options->run;
    char *base = (char *)fan - TWILL__LINE;
    memset(fan, 0, sizeof *fan);
    fan->limit = fan->stop_at = SIZE_MAX;
    fan->goal = options->goal;
    fan->policy = run->on_error                       ? run->on_error
                  : options->goal == TWILL_FAN_ALL_OK ? TWILL_ON_ERROR_LOWEST
                                                      : TWILL_ON_ERROR_COLLECT;
    fan->most_errors = fan->policy == TWILL_ON_ERROR_LIMIT && run->max_errors ? run->max_errors : 1;
    fan->quorum = options->goal == TWILL_FAN_FIRST_OK ? 1 : options->quorum;
    fan->ordered = options->ordered;
    fan->copies = plan->stream || (plan->call && options->max_abandoned);
    fan->item_size = plan->item_size;
    fan->result_size = plan->result_size;
    fan->item_at = plan->item_at;
    fan->result_at = plan->result_at;
    fan->task_size = plan->task_size;
    fan->window = plan->window;
    fan->max_unread = plan->max_unread;
    fan->capacity = plan->capacity;
    fan->max_abandoned = options->max_abandoned;
    fan->timeout = options->timeout == TWILL_FOREVER ? 0 : options->timeout;
    fan->since = twill__clock_now();
    fan->drop = options->drop;
    fan->discard = options->discard;
    fan->notify = options->notify;
    fan->context = run->context;
    fan->statuses = run->statuses;
    fan->codes = run->codes;
    fan->report = run->report;
    fan->worker_start = run->worker_start;
    fan->cancel = run->until.cancel;
    fan->workers = plan->workers;
    fan->slot = (twill__fan_slot *)(void *)(base + plan->slots);
    memset(fan->slot, 0, plan->workers * sizeof *fan->slot);
    if (fan->ordered) {
        fan->ring = (twill__fan_task **)(void *)(base + plan->ring);
        fan->ring_size = plan->capacity;
        memset(fan->ring, 0, plan->capacity * sizeof *fan->ring);
    }
    fan->laned = plan->places != 0;
    fan->streams = plan->queue != 0;
    fan->queue.ring = (twill__fan_task **)(void *)(base + plan->queue_ring);
    fan->queue.size = plan->queue;
    twill__fan_init_lanes(fan, plan, base);
    atomic_init(&fan->cut, SIZE_MAX);
    twill__fan_add_records(fan, base + plan->records, plan->first);
    /* of what is left behind the fan alone is above: the user's token may go */
    twill_cancel_init(&fan->root, fan->max_abandoned ? NULL : fan->cancel);
}

/* The user's token has fired: in the thread that fires it. */
static inline void twill__fan_token_fired(int reason, const twill_task *task)
{
    twill_fan *fan = (twill_fan *)task->context;
    twill__fan_turn turn;
    twill__fan_enter(fan, &turn);
    twill__fan_cancelled(fan, &turn, reason);
    (void)twill__fan_return(fan, &turn, TWILL_OK);
}

/* Opens the crew: the source, if any, is there already. */
static inline twill_status twill__fan_open(twill_fan *fan, const twill__fan_plan *plan)
{
    static const twill__crew_table table = {
        {NULL, NULL, NULL, NULL, NULL}, twill__fan_ready, twill__fan_work, twill__fan_died};
    twill_run run = plan->options->run;
    char *base = (char *)fan - TWILL__LINE;
    twill_status status;
    run.until.cancel = &fan->root;
    run.statuses = NULL;
    run.codes = NULL;
    run.report = NULL;
    if (run.worker_start)
        run.worker_start = twill__fan_worker_start;
    atomic_init(&fan->ready, twill__fan_available(fan)); /* twill__crew_open publishes it */
    status = twill__crew_open(&fan->crew, &run, plan->workers, plan->own, plan->nested, &table, fan,
                              base + plan->crew);
    if (status != TWILL_OK)
        return status;
    /* relaxed: the own store, or a worker has come by now */
    if (atomic_load_explicit(&fan->ready, memory_order_relaxed))
        twill__crew_call(&fan->crew, plan->workers);
    if (fan->notify && !twill__no_deadline(run.until.deadline))
        twill__crew_alarm(&fan->crew, run.until.deadline); /* perhaps nobody else looks then */
    fan->hook.fn = twill__fan_token_fired;
    fan->hook.context = fan;
    twill_cancel_add_hook(fan->cancel, &fan->hook);
    return TWILL_OK;
}

/* The block of a fan; NULL: no memory. */
static inline twill_fan *twill__fan_allocate(const twill__fan_plan *plan)
{
    char *memory = (char *)TWILL_MALLOC(plan->bytes + TWILL__LINE);
    twill_fan *fan;
    if (!memory)
        return NULL;
    fan = (twill_fan *)(void *)(memory + TWILL__LINE +
                                (TWILL__LINE - (uintptr_t)memory % TWILL__LINE) % TWILL__LINE);
    twill__fan_init(fan, plan);
    fan->memory = memory;
    return fan;
}

static inline void twill__fan_free(twill_fan *fan)
{
    void *memory = fan->memory;
    for (twill__fan_chunk *chunk = fan->chunks, *next; chunk; chunk = next) {
        next = chunk->next;
        TWILL_FREE(chunk);
    }
    TWILL_FREE(memory);
}

/* ---- the end ---- */

/* Waits, under the lock before and after, until no task is in flight but those that may be left
   behind. OK, or what `until` says; FORKED: a task that ran here has forked, and this is the child:
   the lock is not held, and nothing is touched any more. */
static inline twill_status twill__fan_settle_down(twill_fan *fan, twill__fan_turn *turn,
                                                  twill_until until, size_t most)
{
    twill__fan_wait me = {.helps = twill__fan_helps(fan, NULL), .most = most};
    twill_status over = TWILL_OK;
    for (;;) { /* exit: tasks end, or `until` */
        int instead;
        twill__fan_clock(fan, turn);
        twill__fan_sweep(fan, turn);
        if (twill__fan_calm(fan, most)) /* now: the clock has answered some */
            return TWILL_OK;
        if (twill__fan_drop_spared(fan, turn))
            continue;
        if (over == TWILL_OK)
            over = twill__over(until);
        if (over != TWILL_OK)
            return over;
        instead = twill__fan_instead(fan, turn, NULL, me.helps != 0, &me.refused);
        if (instead < 0)
            return TWILL_FORKED;
        if (instead)
            continue;
        (void)twill__fan_wait_in(fan, turn, &fan->watchers, &me, until, &over);
    }
}

/* Those that still run are left behind: their outcome is LOST. */
static inline void twill__fan_abandon(twill_fan *fan, twill__fan_turn *turn)
{
    twill__fan_list *lists[2] = {&fan->running, &fan->overdue};
    for (int k = 0; k < 2; k++)
        for (twill__fan_task *task = lists[k]->first; task; task = task->next)
            if (!task->answered)
                twill__fan_answer(fan, turn, task, TWILL_LOST);
}

/* Nobody else is inside any more, or will come. */
static inline void twill__fan_wait_visits(twill_fan *fan)
{
    for (;;) { /* exit: calls inside were told, and end */
        /* relaxed: a guess */
        uint32_t visits = atomic_load_explicit(&fan->visits, memory_order_relaxed);
        if (!(visits & ~TWILL__FAN_VISITS_WAIT)) {
            bool wanted;
            twill__lock(&fan->lock);
            /* acquire: pairs with twill__fan_leave */
            wanted = twill__lock_wanted(&fan->lock) ||
                     (atomic_load_explicit(&fan->visits, memory_order_acquire) &
                      ~TWILL__FAN_VISITS_WAIT);
            twill__unlock(&fan->lock);
            if (!wanted)
                return;
            twill__yield();
        } else if (!(visits & TWILL__FAN_VISITS_WAIT)) {
            /* relaxed: the count beside it is looked at again */
            atomic_fetch_or_explicit(&fan->visits, TWILL__FAN_VISITS_WAIT, memory_order_relaxed);
        } else {
            twill__park(&fan->visits, visits, 0);
        }
    }
}

static inline void twill__fan_reap(void *fan_)
{
    twill_fan *fan = (twill_fan *)fan_;
    twill__lock(&fan->lock); /* whoever started this thread is done with its record */
    twill__unlock(&fan->lock);
    twill__crew_close(&fan->crew, NULL);
    twill_cancel_detach(&fan->root);
    twill__fan_free(fan);
}

/* The figures, when all outcomes are given: tasks that were left behind change none of them. */
static inline void twill__fan_fill(twill_fan *fan, twill_report *report)
{
    memset(report, 0, sizeof *report);
    twill__lock(&fan->lock); /* workers may still come, and those left behind count what they run */
    report->done = fan->succeeded;
    report->failed = fan->failed;
    report->skipped = fan->skipped;
    report->total = fan->succeeded + fan->failed + fan->skipped;
    report->first_error =
        fan->policy == TWILL_ON_ERROR_FIRST && fan->earliest.status ? fan->earliest : fan->lowest;
    if (fan->refused == fan->workers) {
        report->first_error.index = SIZE_MAX;
        report->first_error.status = TWILL_FAILED;
        report->first_error.code = fan->start_code;
    }
    for (unsigned k = 0; k < fan->workers; k++) {
        report->chunks += fan->slot[k].chunks;
        report->busy += fan->slot[k].busy;
        if (fan->slot[k].busy > report->busiest)
            report->busiest = fan->slot[k].busy;
        report->workers_used += fan->slot[k].chunks != 0 || fan->slot[k].current;
    }
    twill__unlock(&fan->lock);
    twill__heap_sort(fan->crew.run.errors, fan->errors_count);
    report->errors_stored = fan->errors_count;
    report->wall = twill__clock_now() - fan->since;
}

/* How the run as a whole ended. Under the lock. */
static inline twill_status twill__fan_judged(const twill_fan *fan, const twill_report *report)
{
    if (fan->met)
        return TWILL_OK;
    if (fan->failures || fan->refused == fan->workers)
        return TWILL_FAILED;
    if ((fan->cut_short || report->failed || fan->cut_off) &&
        (fan->refusal == TWILL_TIMEOUT || fan->refusal == TWILL_CANCELLED))
        return fan->refusal;
    if (report->total && fan->stop_at == SIZE_MAX && !fan->stopped &&
        (fan->quorum || fan->goal == TWILL_FAN_ENOUGH ||
         (fan->goal == TWILL_FAN_ALL_OK && report->skipped && !fan->cut_short)))
        return TWILL_FAILED; /* the goal was not met */
    return TWILL_OK;
}

static inline twill_status twill__fan_verdict(twill_fan *fan, const twill_report *report)
{
    twill_status verdict;
    twill__lock(&fan->lock); /* the token or the deadline may say something just now */
    verdict = twill__fan_judged(fan, report);
    twill__unlock(&fan->lock);
    return verdict;
}

/* All outcomes are given. Ends the threads, and frees; what was left behind is freed later, by a
   thread that waits for it. */
static inline void twill__fan_bury(twill_fan *fan, twill_report *report)
{
    bool left, started;
    twill_cancel_remove_hook(fan->cancel, &fan->hook);
    twill__fan_wait_visits(fan);
    twill__lock(&fan->lock);
    left = fan->answered != 0;
    if (left) /* the user's token may go now: what is left behind must not ask it */
        fan->cancel = NULL;
    twill__unlock(&fan->lock);
    if (left) {
        twill__team *team = fan->crew.job.team;
        report->workers_started = team->threads < fan->workers ? team->threads : fan->workers;
        report->flags = fan->crew.job.flags;
        fan->reaper.fn = twill__fan_reap;
        fan->reaper.arg = fan;
        fan->reaper.cpu = UINT_MAX;
        twill__lock(&fan->lock); /* the new thread frees its record after it has had the lock */
        started = twill__thread_start(&fan->reaper);
        if (started)
            twill__thread_let_go(&fan->reaper);
        twill__unlock(&fan->lock);
        if (started)
            return;
    }
    report->workers_used = 0;
    twill__crew_close(&fan->crew, report);
    twill_cancel_detach(&fan->root);
    twill__fan_free(fan);
}
#endif
