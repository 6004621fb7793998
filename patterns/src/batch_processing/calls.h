/* calls.h: the array form: batches by index arithmetic, retries, halving. */
#ifndef TWILL__BATCH_CALLS_H
#define TWILL__BATCH_CALLS_H

#include "batch_processing/cuts.h"

/* A pass of the team over the batches (engine/run.h); place k of it is batch k. An item that fails
   and may be tried again gets a slot. Without a backoff the worker goes on with its slots at once,
   and they stand on its desk. With one, the batch waits in a heap by the instant when it is due:
   workers serve what is due between fresh batches, and a second pass serves the rest, sleeping,
   once nothing fresh is left. A batch is in at most one place: not begun, in a worker's hands, in
   the heap. */

typedef enum twill__slot_state {
    TWILL__SLOT_ENDED = 0,
    TWILL__SLOT_AGAIN, /* in the next round, together with the others */
    TWILL__SLOT_ALONE, /* in the next round, by itself */
    TWILL__SLOT_BAD    /* in this round, in a smaller call */
} twill__slot_state;

typedef struct twill__batch_slot { /* an item that has failed, and has not ended yet */
    size_t index;
    int code; /* of its last failure */
    twill__slot_state state;
} twill__batch_slot;

typedef struct twill__batch_due { /* in the heap */
    twill_ns due;
    size_t place;
    unsigned attempt;
} twill__batch_due;

struct twill__flat;
struct twill__work;

typedef struct twill__calls { /* one call of the array form */
    const twill_batch_options *options;
    twill_run run; /* a copy, that reports to `inner` */
    twill_report inner;
    const char *items;
    char *results;
    size_t item_size, result_size;
    twill_batch_fn *fn;
    struct twill__flat *flat; /* NULL: fn */
    twill__cuts cuts;
    unsigned attempts;
    bool slotted, delayed; /* there are slots; retries wait in the heap */
    twill__backoff shape;
    uint64_t seed;
    twill__job *job;
    /* until the call is over */
    char *desks; /* NULL: they fit the workers' stacks */
    size_t desk_bytes;
    twill__batch_slot *slots; /* [n], if delayed */
    twill__batch_due *heap;   /* [batches], if delayed */
    bool no_memory;
    /* shared while it runs */
    _Alignas(TWILL__LINE) _Atomic uint32_t lock;
    size_t waiting;             /* in the heap */
    _Atomic twill_ns first_due; /* of the heap; a hint */
    _Atomic size_t limit;       /* the lowest batch with an item that has failed for good */
    _Atomic size_t made;        /* calls of fn */
} twill__calls;

enum { TWILL__DESK_SMALL = 128 }; /* items whose codes stand on the worker's stack */

typedef struct twill__work { /* a worker inside a chunk */
    twill__view view;
    twill__calls *calls;
    twill__job *job;
    twill__slot *me;
    twill_task *task;
    twill__batch_slot **list; /* [max] */
    twill__batch_slot *desk;  /* [max], if not delayed */
    /* the batch at hand */
    size_t place;
    twill__batch_slot *segment; /* its slots, begin on */
    size_t segment_count, again;
    /* the call that runs, or is being settled */
    twill__batch_slot **running; /* NULL: first, first + 1, ... */
    size_t first, count, settled;
    size_t next; /* the first place of the chunk that is not begun */
    size_t made;
} twill__work;

static inline int twill__flat_call(twill__work *work, twill_batch *batch);
static inline void twill__flat_drop(twill__work *work);

/* ---- items ---- */

static inline size_t twill__work_index(const twill__work *work, size_t i)
{
    return work->running ? work->running[i]->index : work->first + i;
}

static inline void *twill__work_item(const twill__view *view, size_t i)
{
    const twill__work *work = (const twill__work *)(const void *)view;
    const char *items = work->calls->items;
    return (void *)(uintptr_t)(items + twill__work_index(work, i) * work->calls->item_size);
}

static inline void *twill__work_result(const twill__view *view, size_t i)
{
    const twill__work *work = (const twill__work *)(const void *)view;
    const twill__calls *calls = work->calls;
    return calls->results ? calls->results + twill__work_index(work, i) * calls->result_size : NULL;
}

static inline void twill__work_done(twill__work *work, size_t index)
{
    work->me->done++;
    if (work->job->detail)
        twill__item_note(work->job, index, TWILL_OK, 0);
}

static inline void twill__work_skipped(twill__work *work, size_t index)
{
    work->me->skipped++;
    if (work->job->detail)
        twill__item_note(work->job, index, TWILL_CANCELLED, 0);
}

static inline void twill__work_failed(twill__work *work, size_t index, twill_status status,
                                      int code)
{
    if (work->job->policy == TWILL_ON_ERROR_LOWEST)
        twill__lower(&work->calls->limit, work->place);
    twill__item_failed(work->job, work->me, work->place, index, status, code);
}

/* Whether nothing of this batch need run any more. Relaxed: a batch too many is harmless. */
static inline bool twill__work_over(const twill__work *work)
{
    twill__job *job = work->job;
    size_t stop_at = atomic_load_explicit(&job->stop_at, memory_order_relaxed);
    return twill__stopped(job, job->may_end ? twill__clock_now() : 0) ||
           work->place > atomic_load_explicit(&work->calls->limit, memory_order_relaxed) ||
           twill__cut_begin(&work->calls->cuts, work->place) > stop_at;
}

/* An item has failed. True: it is tried again. */
static inline bool twill__work_retries(twill__work *work, size_t i, int code, unsigned attempt)
{
    const twill_batch_options *options = work->calls->options;
    if (attempt >= work->calls->attempts)
        return false;
    work->task->index = twill__work_index(work, i);
    return !options->retryable ||
           options->retryable(twill__work_item(&work->view, i), code, work->task);
}

/* ---- one call ---- */

/* Calls fn for items in one piece, or for those of `list`. */
static inline int twill__work_call(twill__work *work, twill__batch_slot **list, size_t first,
                                   size_t count, unsigned attempt)
{
    twill__calls *calls = work->calls;
    twill_batch batch = {count, attempt, list ? list[0]->index : first, NULL, NULL, &work->view};
    int code;
    work->running = list;
    work->first = first;
    work->count = count;
    work->settled = 0;
    work->me->said = 0;
    if (!list) {
        batch.array = calls->items + first * calls->item_size;
        if (calls->results)
            batch.results = calls->results + first * calls->result_size;
    } else if (calls->results) {
        for (size_t i = 0; i < count; i++)
            memset(calls->results + list[i]->index * calls->result_size, 0, calls->result_size);
    }
    work->task->index = batch.first;
    work->made++;
    code = calls->flat ? twill__flat_call(work, &batch) : calls->fn(&batch, work->task);
    return code;
}

/* How one item of the call ended; the state of its slot, if it has one. */
static inline twill__slot_state twill__settle_item(twill__work *work, size_t i, int code, bool any,
                                                   unsigned attempt, int *its)
{
    size_t index = twill__work_index(work, i);
    twill_bad_batch bad = work->calls->options->on_bad_batch;
    bool alone = bad == TWILL_BAD_BATCH_BISECT && work->count == 1;
    switch (twill__view_end(&work->view, i, code, any, its)) {
    case TWILL__END_DONE:
        twill__work_done(work, index);
        return TWILL__SLOT_ENDED;
    case TWILL__END_LOST:
        twill__work_failed(work, index, TWILL_LOST, 0);
        return TWILL__SLOT_ENDED;
    case TWILL__END_BAD:
        if (bad == TWILL_BAD_BATCH_BISECT && work->count > 1)
            return TWILL__SLOT_BAD;
        if (bad == TWILL_BAD_BATCH_FAIL)
            break;
        /* fall through */
    case TWILL__END_FAILED:
        if (twill__work_retries(work, i, *its, attempt))
            return alone ? TWILL__SLOT_ALONE : TWILL__SLOT_AGAIN;
    }
    twill__work_failed(work, index, TWILL_FAILED, *its);
    return TWILL__SLOT_ENDED;
}

/* After a call: each item is done, failed for good, waits for the next round, or is BAD: the slots
   of those stand at the end of `list` then, and their number is returned. */
static inline size_t twill__work_settle(twill__work *work, int code, unsigned attempt,
                                        twill__batch_slot **list)
{
    size_t count = work->count, bad = 0;
    bool any = memchr(work->view.set, 1, count) != NULL;
    bool skips = !code && (work->me->said & TWILL__SAID_SKIP);
    work->me->said = 0;
    if (!code && !any && !skips && !work->job->detail && !work->running) {
        work->me->done += count;
        work->count = 0;
        return 0;
    }
    for (; work->settled < count; work->settled++) {
        size_t i = work->settled;
        twill__slot_state state = TWILL__SLOT_ENDED;
        int its = 0;
        if (skips && !(any && work->view.set[i]))
            twill__work_skipped(work, twill__work_index(work, i));
        else
            state = twill__settle_item(work, i, code, any, attempt, &its);
        if (!work->calls->slotted)
            continue;
        if (!work->running) {
            work->segment[i].index = work->first + i;
            work->segment_count = i + 1;
            list[i] = &work->segment[i];
        }
        list[i]->code = its;
        list[i]->state = state;
        bad += state == TWILL__SLOT_BAD;
        work->again += state == TWILL__SLOT_AGAIN || state == TWILL__SLOT_ALONE;
    }
    if (any)
        memset(work->view.set, 0, count);
    work->count = 0;
    for (size_t i = count, at = count; bad && at > count - bad; i--)
        if (list[i - 1]->state == TWILL__SLOT_BAD)
            list[--at] = list[i - 1];
    return bad;
}

/* ---- rounds ---- */

static inline void twill__work_give_up(twill__work *work, twill__batch_slot **list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        list[i]->state = TWILL__SLOT_ENDED;
        twill__work_failed(work, list[i]->index, TWILL_FAILED, list[i]->code);
    }
}

/* Calls fn for the items of `list` (called: it was called for all of them just now, and they are
   bad); what is bad, in halves: the left one first, until it is alone. Of the ranges that are to
   come only the ends are kept: each begins where the last one ended. */
static inline void twill__work_divide(twill__work *work, twill__batch_slot **list, size_t count,
                                      unsigned attempt, bool called)
{
    size_t ends[sizeof(size_t) * CHAR_BIT + 1], depth = 1, at = 0;
    ends[0] = count;
    if (called && count > 1)
        ends[depth++] = (count + 1) / 2;
    while (depth) { /* exit: each turn ends items, or halves a range */
        size_t to = ends[depth - 1], bad = 0;
        if (at == to) {
            depth--;
            continue;
        }
        if (twill__work_over(work)) {
            twill__work_give_up(work, list + at, to - at);
        } else {
            int code = twill__work_call(work, list + at, 0, to - at, attempt);
            bad = twill__work_settle(work, code, attempt, list + at);
        }
        at = to - bad;
        if (bad > 1)
            ends[depth++] = at + (bad + 1) / 2;
    }
}

/* Those that wait: first together, then the ones that are called alone. */
static inline void twill__work_round(twill__work *work, unsigned attempt)
{
    size_t count = 0, together;
    for (size_t i = 0; i < work->segment_count; i++)
        if (work->segment[i].state == TWILL__SLOT_AGAIN)
            work->list[count++] = &work->segment[i];
    together = count;
    for (size_t i = 0; i < work->segment_count; i++)
        if (work->segment[i].state == TWILL__SLOT_ALONE)
            work->list[count++] = &work->segment[i];
    work->again = 0;
    twill__work_divide(work, work->list, together, attempt, false);
    for (size_t i = together; i < count; i++)
        twill__work_divide(work, work->list + i, 1, attempt, false);
}

/* ---- the heap of batches that wait ---- */

static inline bool twill__due_before(const twill__batch_due *a, const twill__batch_due *b)
{
    return a->due < b->due || (a->due == b->due && a->place < b->place);
}

static inline void twill__due_push(twill__calls *calls, size_t place, unsigned attempt)
{
    twill_ns delay = twill__batch_delay(&calls->shape, calls->seed, place, attempt);
    twill__batch_due entry = {twill__instant_after(twill__clock_now(), delay), place, attempt};
    size_t at;
    if (twill__left_alone(calls->job)) /* see twill__due_pop */
        return;
    twill__lock(&calls->lock);
    for (at = calls->waiting++; at && twill__due_before(&entry, &calls->heap[(at - 1) / 2]);
         at = (at - 1) / 2)
        calls->heap[at] = calls->heap[(at - 1) / 2];
    calls->heap[at] = entry;
    /* relaxed: a hint */
    atomic_store_explicit(&calls->first_due, calls->heap[0].due, memory_order_relaxed);
    twill__unlock(&calls->lock);
}

/* The batch that is due first, if it is before `until`. */
static inline bool twill__due_pop(twill__calls *calls, twill_ns until, twill__batch_due *entry)
{
    size_t at = 0, child;
    bool found;
    if (twill__left_alone(calls->job)) /* what waits, and perhaps the lock, is the parent's */
        return false;
    twill__lock(&calls->lock);
    found = calls->waiting && calls->heap[0].due <= until;
    if (found) {
        twill__batch_due last = calls->heap[--calls->waiting];
        *entry = calls->heap[0];
        while ((child = 2 * at + 1) < calls->waiting) {
            if (child + 1 < calls->waiting &&
                twill__due_before(&calls->heap[child + 1], &calls->heap[child]))
                child++;
            if (!twill__due_before(&calls->heap[child], &last))
                break;
            calls->heap[at] = calls->heap[child];
            at = child;
        }
        calls->heap[at] = last;
        atomic_store_explicit(&calls->first_due,
                              calls->waiting ? calls->heap[0].due : TWILL_FOREVER,
                              memory_order_relaxed); /* as above */
    }
    twill__unlock(&calls->lock);
    return found;
}

/* ---- one batch ---- */

static inline void twill__work_enter(twill__work *work, size_t place)
{
    size_t begin = twill__cut_begin(&work->calls->cuts, place);
    work->place = place;
    work->segment = work->calls->delayed ? work->calls->slots + begin : work->desk;
    work->segment_count = work->again = 0;
}

/* What waits goes again at once, or into the heap. */
static inline void twill__work_go_on(twill__work *work, unsigned attempt)
{
    if (work->again && work->calls->delayed) {
        work->segment_count = 0; /* no longer ours */
        twill__due_push(work->calls, work->place, attempt + 1);
        return;
    }
    while (work->again) /* exit: attempts are used up */
        twill__work_round(work, ++attempt);
    work->segment_count = 0;
}

static inline void twill__work_fresh(twill__work *work, size_t place)
{
    const twill__cuts *cuts = &work->calls->cuts;
    size_t begin = twill__cut_begin(cuts, place), count = twill__cut_end(cuts, place) - begin, bad;
    int code;
    twill__work_enter(work, place);
    if (twill__cut_too_big(cuts, place)) {
        twill__work_failed(work, begin, TWILL_TOO_BIG, 0);
        return;
    }
    code = twill__work_call(work, NULL, begin, count, 1);
    bad = twill__work_settle(work, code, 1, work->list);
    if (bad)
        twill__work_divide(work, work->list + (count - bad), bad, 1, true);
    twill__work_go_on(work, 1);
}

static inline void twill__work_due(twill__work *work, const twill__batch_due *entry)
{
    size_t begin = twill__cut_begin(&work->calls->cuts, entry->place);
    twill__work_enter(work, entry->place);
    work->segment_count = twill__cut_end(&work->calls->cuts, entry->place) - begin;
    twill__set_begin(work->me, entry->place);
    if (!twill__work_over(work)) {
        twill_until until = work->task->until;
        until.deadline = twill__nearer(until.deadline, entry->due);
        (void)twill_sleep(until);
    }
    twill__work_round(work, entry->attempt);
    twill__work_go_on(work, entry->attempt);
}

/* ---- chunks ---- */

static inline void twill__work_leave(twill__work *work)
{
    /* read after the join */
    atomic_fetch_add_explicit(&work->calls->made, work->made, memory_order_relaxed);
}

/* A callback ends the thread: the items of its call are LOST, others of its batch stay failed, the
   rest of the chunk goes back. */
static inline void twill__work_ended(void *work_)
{
    twill__work *work = (twill__work *)work_;
    twill__job *job = work->job;
    work->me->inside = false; /* the engine has nothing more to account for */
    for (size_t i = work->settled; i < work->count; i++) {
        if (work->running)
            work->running[i]->state = TWILL__SLOT_ENDED;
        twill__work_failed(work, twill__work_index(work, i), TWILL_LOST, 0);
    }
    for (size_t i = 0; i < work->segment_count; i++) {
        twill__batch_slot *slot = &work->segment[i];
        if (slot->state != TWILL__SLOT_ENDED)
            twill__work_give_up(work, &slot, 1);
    }
    if (work->calls->flat)
        twill__flat_drop(work);
    twill__work_leave(work);
    twill__hand_back(job, work->me, work->next, work->me->end);
    atomic_store_explicit(&work->me->begin, SIZE_MAX, memory_order_seq_cst);
    twill__rouse_callers(job);
}

typedef struct twill__desk_small {
    int codes[TWILL__DESK_SMALL];
    unsigned char set[TWILL__DESK_SMALL];
} twill__desk_small;

static inline void twill__work_init(twill__work *work, twill__job *job, twill_task *task,
                                    twill__desk_small *small)
{
    twill__calls *calls = (twill__calls *)job->data;
    size_t max = calls->cuts.max;
    memset(work, 0, sizeof *work);
    work->view.item = twill__work_item;
    work->view.result = twill__work_result;
    work->calls = calls;
    work->job = job;
    work->me = &job->slot[task->worker];
    work->task = task;
    work->next = SIZE_MAX;
    if (!calls->desks) {
        work->view.codes = small->codes;
        work->view.set = small->set;
    } else {
        char *desk = calls->desks + task->worker * calls->desk_bytes;
        if (calls->slotted) {
            work->list = (twill__batch_slot **)(void *)desk;
            desk += max * sizeof *work->list;
        }
        if (calls->slotted && !calls->delayed) {
            work->desk = (twill__batch_slot *)(void *)desk;
            desk += max * sizeof *work->desk;
        }
        work->view.codes = (int *)(void *)desk;
        work->view.set = (unsigned char *)(desk + max * sizeof(int));
    }
    memset(work->view.set, 0, max);
}

/* Serves what is due; true: something was, and the place is another one now. */
static inline bool twill__work_serve_due(twill__work *work)
{
    twill__calls *calls = work->calls;
    twill__batch_due entry;
    bool served = false;
    /* relaxed: a hint */
    while (atomic_load_explicit(&calls->first_due, memory_order_relaxed) != TWILL_FOREVER &&
           twill__due_pop(calls, twill__clock_now(), &entry)) { /* exit: attempts are finite */
        twill__work_due(work, &entry);
        served = true;
    }
    return served;
}

static inline void twill__calls_body(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    twill__desk_small small;
    twill__work work;
    twill__work_init(&work, job, task, &small);
    TWILL__GUARD_PUSH(twill__work_ended, &work);
    for (size_t k = begin; k < end; k++) {
        bool looks = k > begin;
        work.next = k;
        if (work.calls->delayed && twill__work_serve_due(&work)) {
            twill__set_begin(work.me, k);
            looks = true;
        }
        /* seq_cst: see twill__set_begin */
        if (looks && (k >= atomic_load_explicit(&job->limit, memory_order_seq_cst) ||
                      twill__stopped(job, job->may_end ? twill__clock_now() : 0)))
            break;
        work.next = k + 1;
        twill__work_fresh(&work, k);
    }
    TWILL__GUARD_POP(0);
    twill__work_leave(&work);
}

/* The second pass: nothing fresh is left, so workers sleep until the next batch is due. */
static inline void twill__calls_later(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    twill__desk_small small;
    twill__work work;
    twill__batch_due entry;
    (void)begin;
    (void)end;
    twill__work_init(&work, job, task, &small);
    TWILL__GUARD_PUSH(twill__work_ended, &work);
    while (twill__due_pop(work.calls, TWILL_FOREVER, &entry)) /* exit: attempts are finite */
        twill__work_due(&work, &entry);
    TWILL__GUARD_POP(0);
    twill__work_leave(&work);
}

/* ---- the call ---- */

static inline bool twill__calls_memory(twill__calls *calls, twill__job *job)
{
    size_t max = calls->cuts.max, each = sizeof(int) + 1, n = calls->cuts.n;
    if (calls->slotted)
        each += sizeof(twill__batch_slot *);
    if (calls->slotted && !calls->delayed)
        each += sizeof(twill__batch_slot);
    if (calls->slotted || max > TWILL__DESK_SMALL) {
        if (max > (SIZE_MAX - TWILL__LINE) / each / job->np - TWILL__LINE)
            return false;
        calls->desk_bytes = (max * each + TWILL__LINE - 1) / TWILL__LINE * TWILL__LINE;
        calls->desks = (char *)twill__scratch_get(job, calls->desk_bytes * job->np);
        if (!calls->desks)
            return false;
    }
    if (!calls->delayed)
        return true;
    if (n > SIZE_MAX / sizeof *calls->slots || calls->cuts.batches > SIZE_MAX / sizeof *calls->heap)
        return false;
    calls->slots = (twill__batch_slot *)twill__scratch_get(job, n * sizeof *calls->slots);
    calls->heap =
        (twill__batch_due *)twill__scratch_get(job, calls->cuts.batches * sizeof *calls->heap);
    return calls->slots && calls->heap;
}

/* Stopped before their turn came: what waits has failed. */
static inline void twill__calls_left(twill__calls *calls, twill__job *job)
{
    twill_task task;
    twill__desk_small small;
    twill__work work;
    twill__batch_due entry;
    twill__task_init(job, 0, &task);
    twill__work_init(&work, job, &task, &small);
    while (twill__due_pop(calls, TWILL_FOREVER, &entry)) { /* exit: the heap is finite */
        twill__work_enter(&work, entry.place);
        work.segment_count =
            twill__cut_end(&calls->cuts, entry.place) - twill__cut_begin(&calls->cuts, entry.place);
        for (size_t i = 0; i < work.segment_count; i++) {
            twill__batch_slot *slot = &work.segment[i];
            if (slot->state != TWILL__SLOT_ENDED)
                twill__work_give_up(&work, &slot, 1);
        }
    }
}

static inline void twill__calls_steps(twill__job *job, void *data)
{
    twill__calls *calls = (twill__calls *)data;
    twill__pass pass = {.n = calls->cuts.batches,
                        .body = twill__calls_body,
                        .data = calls,
                        .unit = calls->cuts.max,
                        .starts = calls->cuts.starts};
    calls->job = job;
    if (!twill__calls_memory(calls, job)) {
        calls->no_memory = true;
        return;
    }
    if (calls->results)
        memset(calls->results, 0, calls->cuts.n * calls->result_size);
    twill__run_pass(job, &pass);
    pass.body = twill__calls_later;
    pass.forced = true;
    /* relaxed: nobody else is here. One pass is enough: who puts a batch into the heap takes one
       out before anything else, so once the caller has found the heap empty it stays so, whatever
       threads end. What is left when he has not come to it (the call is stopped, or its lowest
       batch has failed meanwhile) would not be called any more */
    if (calls->waiting && !atomic_load_explicit(&job->stop, memory_order_relaxed))
        twill__run_pass(job, &pass);
    if (calls->waiting)
        twill__calls_left(calls, job);
}

static inline twill_status twill__calls_check(const twill_batch_options *options, const void *items,
                                              size_t item_size, size_t n, bool callable)
{
    if (!callable || !twill__batch_common_valid(options) ||
        (options->bytes_of && !options->max_bytes) || options->result_size || options->linger ||
        options->idle || options->capacity || options->capacity_bytes || options->overflow ||
        options->key_of || options->coalesce || options->item_timeout || options->on_item ||
        (n && (!items || !item_size)))
        return TWILL_INVALID;
    if (n && n > SIZE_MAX / item_size)
        return TWILL_TOO_BIG;
    return twill__check_run(&options->run);
}

static inline void twill__calls_init(twill__calls *calls, const twill_batch_options *options,
                                     const void *items, size_t item_size, size_t n)
{
    memset(calls, 0, sizeof *calls);
    calls->options = options;
    calls->run = options->run;
    if (!calls->run.on_error)
        calls->run.on_error = TWILL_ON_ERROR_COLLECT;
    calls->run.report = &calls->inner;
    calls->items = (const char *)items;
    calls->item_size = item_size;
    calls->cuts.n = n;
    calls->attempts = options->attempts ? options->attempts : 1;
    calls->delayed = calls->attempts > 1 && options->backoff;
    calls->slotted = calls->attempts > 1 || options->on_bad_batch == TWILL_BAD_BATCH_BISECT;
    calls->shape = twill__batch_shape(options);
    calls->seed = twill__batch_seed(options, calls);
    atomic_init(&calls->lock, 0);
    atomic_init(&calls->first_due, TWILL_FOREVER);
    atomic_init(&calls->limit, SIZE_MAX);
    atomic_init(&calls->made, 0);
}

/* Fills the user's report; also runs when a callback has ended the calling thread. */
static inline void twill__calls_finish(void *calls_)
{
    twill__calls *calls = (twill__calls *)calls_;
    twill_report *report = calls->options->run.report;
    twill__cuts_free(&calls->cuts);
    calls->inner.chunks = atomic_load_explicit(&calls->made, memory_order_relaxed); /* the join */
    if (calls->no_memory)
        (void)twill__refuse(&calls->run, calls->cuts.n, TWILL_NO_MEMORY);
    if (report)
        *report = calls->inner;
}

/* Cuts the items and runs the call. */
static inline twill_status twill__calls_run(twill__calls *calls, twill__steps_fn *steps,
                                            void (*finish)(void *), void *whole)
{
    twill_status status;
    TWILL__GUARD_PUSH(finish, whole);
    status = twill__cuts_make(&calls->cuts, calls->items, calls->item_size, calls->options);
    if (status != TWILL_OK) {
        (void)twill__refuse(&calls->run, calls->cuts.n, status);
    } else {
        if (calls->run.workers > calls->cuts.batches)
            calls->run.workers = calls->cuts.batches > 1 ? (unsigned)calls->cuts.batches : 1;
        (void)twill__run_call(&calls->run, calls->cuts.n, true, steps, whole);
    }
    TWILL__GUARD_POP(1);
    return calls->inner.status;
}

static inline const twill_batch_options *twill__batch_options(const twill_batch_options *options)
{
    static const twill_batch_options none;
    return options ? options : &none;
}

TWILL__DEFINE twill_status twill_batch_process(const void *items, size_t item_size, void *results,
                                               size_t result_size, size_t n, twill_batch_fn *fn,
                                               const twill_batch_options *options)
{
    twill__calls calls;
    twill_status status;
    options = twill__batch_options(options);
    status = twill__calls_check(options, items, item_size, n, fn != NULL);
    if (status == TWILL_OK && results && !result_size)
        status = TWILL_INVALID;
    if (status == TWILL_OK && results && n > SIZE_MAX / result_size)
        status = TWILL_TOO_BIG;
    if (status != TWILL_OK)
        return twill__refuse(&options->run, n, status);
    twill__calls_init(&calls, options, items, item_size, n);
    calls.fn = fn;
    calls.results = (char *)results;
    calls.result_size = result_size;
    return twill__calls_run(&calls, twill__calls_steps, twill__calls_finish, &calls);
}

TWILL__DEFINE size_t twill_batch_count(size_t n, size_t max_items)
{
    if (!max_items)
        max_items = TWILL__BATCH_ITEMS;
    return n / max_items + (n % max_items != 0);
}

TWILL__DEFINE void twill_batch_bounds(size_t n, size_t max_items, size_t k, size_t *begin,
                                      size_t *end)
{
    size_t first;
    if (!max_items)
        max_items = TWILL__BATCH_ITEMS;
    first = k > n / max_items ? n : k * max_items;
    if (begin)
        *begin = first;
    if (end)
        *end = n - first < max_items ? n : first + max_items;
}

#endif
