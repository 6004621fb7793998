/* parallel_kit.h: one random parallel call, a record of what it did, and the model of what must
   hold afterwards. Shared by the tests of parallel_map, the team and the pool. Include it after
   harness.h and the twill headers. */
#ifndef TWILL_PARALLEL_KIT_H
#define TWILL_PARALLEL_KIT_H

#include <pthread.h>

enum { KIT_MAX = 3000, KIT_WORKERS = 64 };

enum kit_act { KIT_OK, KIT_FAIL, KIT_STOP, KIT_SKIP }; /* what an item will do */
enum kit_delay {
    KIT_NONE,
    KIT_SHORT,
    KIT_LONG,
    KIT_YIELD,
    KIT_SLEEP,
    KIT_SLOWEST
};                                                             /* before that */
enum kit_how { KIT_NEVER, KIT_DONE, KIT_FAILED, KIT_SKIPPED }; /* what it did */
enum kit_form { KIT_MAP, KIT_FOR, KIT_RANGE, KIT_FORMS };

typedef struct kit_call {
    twill_parallel_options options;
    twill_report report;
    enum kit_form form;
    size_t n;
    size_t first_fail, first_stop; /* lowest item that is to do so; SIZE_MAX: none */
    size_t fails;                  /* items that are to fail */
    unsigned char act[KIT_MAX], delay[KIT_MAX];
    int code[KIT_MAX]; /* of a failing item */
    bool polls;        /* items look at their token, and give up when it has fired */
    unsigned sulk; /* worker_start fails on helpers whose number is a multiple of it; 0: never */
    pthread_t caller;
    /* records */
    atomic_uint ran[KIT_MAX];
    unsigned char how[KIT_MAX]; /* plain: the call's return must make them visible */
    int got[KIT_MAX];
    atomic_uint inside, peak;               /* callbacks at once */
    atomic_bool in_worker[KIT_WORKERS + 1]; /* two at once in one worker number would be a crowd */
    atomic_uint early, crowded, odd_task, starts, start_failures;
    unsigned stops, last_stopped;
    int states[KIT_WORKERS + 1];
    twill_item_error errors[KIT_MAX];
    twill_status statuses[KIT_MAX];
    int codes[KIT_MAX];
    int64_t in[KIT_MAX], out[KIT_MAX];
} kit_call;

static inline void kit_burn(unsigned rounds)
{
    for (volatile unsigned i = 0; i < rounds; i++)
        continue;
}

static inline void kit_pause(twill_ns ns)
{
    (void)twill_sleep(twill_within(ns));
}

/* Waits, 100 s at most, until the word is at least `value`; false: it is not. */
static inline bool kit_wait_for(atomic_uint *word, unsigned value)
{
    twill_ns end = twill_now() + TWILL_SEC(100);

    while (atomic_load(word) < value) {
        if (twill_now() > end)
            return false;
        kit_pause(TWILL_US(50));
    }
    return true;
}

/* ---- the callbacks ---- */

static inline bool kit_below_all(const kit_call *call, size_t item)
{
    twill_on_error policy = call->options.run.on_error;

    if (policy == TWILL_ON_ERROR_FIRST || policy == TWILL_ON_ERROR_LIMIT)
        return call->fails == 0 && item <= call->first_stop;
    if (policy == TWILL_ON_ERROR_COLLECT &&
        call->form != KIT_RANGE) /* a range ends at its failure */
        return item <= call->first_stop;
    return item <= call->first_stop && item <= call->first_fail;
}

/* Whether the item was told to give up. One that must run may never be told. */
static inline bool kit_told(kit_call *call, size_t item, const twill_task *task)
{
    twill_task at = *task;

    at.index = item;
    if (!twill_cancel_fired(task->until.cancel) && !twill_task_cancelled(&at))
        return false;
    if (kit_below_all(call, item))
        atomic_fetch_add(&call->early, 1);
    return true;
}

static inline bool kit_delay(kit_call *call, size_t item, const twill_task *task)
{
    switch (call->delay[item]) {
    case KIT_SHORT:
        kit_burn(200);
        break;
    case KIT_LONG:
        kit_burn(6000);
        break;
    case KIT_YIELD:
        kit_pause(1);
        break;
    case KIT_SLEEP:
        if (twill_sleep(twill_within_or_cancelled(TWILL_US(100), task->until.cancel)) != TWILL_OK) {
            if (kit_below_all(call, item))
                atomic_fetch_add(&call->early, 1);
            return false;
        }
        break;
    case KIT_SLOWEST:
        kit_pause(TWILL_MS(3));
        break;
    default:
        break;
    }
    return true;
}

static inline int kit_ended(kit_call *call, size_t item, enum kit_how how, int code)
{
    call->how[item] = (unsigned char)how;
    call->got[item] = code;
    return code;
}

static inline int kit_item(kit_call *call, size_t item, const twill_task *task)
{
    bool ready;

    atomic_fetch_add(&call->ran[item], 1);
    ready = kit_delay(call, item, task);
    if (!ready || (call->polls && kit_told(call, item, task))) {
        if (item % 2 == 0 || call->form == KIT_RANGE)
            return kit_ended(call, item, KIT_FAILED, -77);
        kit_ended(call, item, KIT_SKIPPED, 0);
        return twill_task_skip(task);
    }
    switch (call->act[item]) {
    case KIT_FAIL:
        return kit_ended(call, item, KIT_FAILED, call->code[item]);
    case KIT_STOP:
        kit_ended(call, item, KIT_DONE, 0);
        return twill_task_stop(task);
    case KIT_SKIP:
        kit_ended(call, item, KIT_SKIPPED, 0);
        return twill_task_skip(task);
    default:
        return kit_ended(call, item, KIT_DONE, 0);
    }
}

static inline void kit_enter(kit_call *call, const twill_task *task)
{
    unsigned inside = atomic_fetch_add(&call->inside, 1) + 1, peak = atomic_load(&call->peak);

    while (peak < inside && !atomic_compare_exchange_weak(&call->peak, &peak, inside))
        continue;
    if (task->worker >= task->workers || task->worker > KIT_WORKERS || task->context != call ||
        (call->options.run.worker_start && task->worker_state != &call->states[task->worker]))
        atomic_fetch_add(&call->odd_task, 1);
    else if (atomic_exchange(&call->in_worker[task->worker], true))
        atomic_fetch_add(&call->crowded, 1);
}

static inline int kit_leave(kit_call *call, const twill_task *task, int code)
{
    if (task->worker <= KIT_WORKERS)
        atomic_store(&call->in_worker[task->worker], false);
    atomic_fetch_sub(&call->inside, 1);
    return code;
}

static inline int kit_for_fn(const twill_task *task)
{
    kit_call *call = (kit_call *)task->context;

    kit_enter(call, task);
    return kit_leave(call, task, kit_item(call, task->index, task));
}

static inline int kit_map_fn(const void *in, void *out, const twill_task *task)
{
    kit_call *call = (kit_call *)task->context;

    if (in != &call->in[task->index] || out != &call->out[task->index])
        atomic_fetch_add(&call->odd_task, 1);
    *(int64_t *)out = *(const int64_t *)in * 3;
    return kit_for_fn(task);
}

static inline int kit_range_fn(size_t begin, size_t end, const twill_task *task)
{
    kit_call *call = (kit_call *)task->context;
    int code = 0;

    kit_enter(call, task);
    if (begin >= end || end > call->n || task->index != begin)
        atomic_fetch_add(&call->odd_task, 1);
    for (size_t i = begin; i < end && !code; i++)
        if ((code = kit_item(call, i, task)) != 0)
            twill_task_fail(task, i, code);
    return kit_leave(call, task, code);
}

static inline int kit_start(void **state, const twill_task *task)
{
    kit_call *call = (kit_call *)task->context;

    atomic_fetch_add(&call->starts, 1);
    if (task->index != SIZE_MAX || task->worker >= task->workers || *state)
        atomic_fetch_add(&call->odd_task, 1);
    if (task->worker == 0 && !pthread_equal(pthread_self(), call->caller))
        atomic_fetch_add(&call->odd_task, 1);
    if (call->sulk && task->worker && task->worker % call->sulk == 0) {
        atomic_fetch_add(&call->start_failures, 1);
        return 9;
    }
    call->states[task->worker]++;
    *state = &call->states[task->worker];
    return 0;
}

static inline void kit_stop(void *state, const twill_task *task)
{
    kit_call *call = (kit_call *)task->context;

    if (state != &call->states[task->worker] || *(int *)state != 1 || atomic_load(&call->inside) ||
        !pthread_equal(pthread_self(), call->caller) ||
        (call->stops && task->worker <= call->last_stopped))
        atomic_fetch_add(&call->odd_task, 1);
    call->stops++;
    call->last_stopped = task->worker;
}

/* ---- making one ---- */

static inline uint64_t kit_cost(size_t index, const twill_task *task)
{
    (void)task;
    return index * 2654435761u % 97;
}

/* With FIRST and LIMIT no item stops: which of an error and a stop comes first in time is not the
   model's to say. */
static inline void kit_draw_items(kit_call *call)
{
    twill_on_error policy = call->options.run.on_error;
    bool ends_early = policy == TWILL_ON_ERROR_FIRST || policy == TWILL_ON_ERROR_LIMIT;
    static const unsigned char common[] = {KIT_NONE,  KIT_NONE, KIT_NONE,
                                           KIT_SHORT, KIT_LONG, KIT_YIELD};
    unsigned fail = (unsigned)test_random_below(4), slow = (unsigned)test_random_below(5);
    bool stops = call->form != KIT_RANGE && !ends_early && test_random_below(5) == 0;
    bool skips = call->form != KIT_RANGE && test_random_below(4) == 0;

    call->first_fail = call->first_stop = SIZE_MAX;
    call->fails = 0;
    for (size_t i = 0; i < call->n; i++) {
        enum kit_act act = KIT_OK;

        if (fail && test_random_below(call->n) < fail * fail)
            act = KIT_FAIL;
        else if (stops && test_random_below(call->n) < 2)
            act = KIT_STOP;
        else if (skips && test_random_below(8) == 0)
            act = KIT_SKIP;
        call->act[i] = (unsigned char)act;
        call->delay[i] = slow == 0 ? KIT_NONE : common[test_random_below(6)];
        if (slow == 3 && test_random_below(call->n) < 6)
            call->delay[i] = KIT_SLEEP;
        call->code[i] = act == KIT_FAIL ? (int)i * 2 - 1001 + ((int)i * 2 == 1001) : 0;
        if (act == KIT_FAIL && call->fails++ == 0)
            call->first_fail = i;
        if (act == KIT_STOP && call->first_stop == SIZE_MAX)
            call->first_stop = i;
    }
    if (call->first_fail != SIZE_MAX && slow == 4 && test_random_below(3) == 0)
        call->delay[call->first_fail] = KIT_SLOWEST;
}

/* A random call over at most `most` items. `workers` and `pool` are the caller's to set. */
static inline kit_call *kit_draw(size_t most)
{
    static const size_t chunks[] = {0, 0, 1, 3, 16, 1000};
    kit_call *call = (kit_call *)calloc(1, sizeof *call);
    twill_run *run;

    if (!CHECK(call != NULL))
        abort();
    run = &call->options.run;
    call->n =
        1 + (size_t)test_random_below(test_random_below(4) ? (most < 200 ? most : 200) : most);
    call->form = (enum kit_form)test_random_below(KIT_FORMS);
    run->on_error = (twill_on_error)test_random_below(5);
    run->max_errors = (size_t)test_random_below(4);
    kit_draw_items(call);
    call->polls = test_random_below(2) == 0;
    call->options.schedule = (twill_schedule)test_random_below(5);
    call->options.chunk = chunks[test_random_below(6)];
    call->options.cost_of = call->options.schedule == TWILL_SCHEDULE_COST ? kit_cost : NULL;
    run->context = call;
    run->report = &call->report;
    if (test_random_below(2)) {
        run->errors = call->errors;
        run->errors_capacity = test_random_below(3) ? (size_t)test_random_below(6) : call->n;
    }
    if (test_random_below(2))
        run->statuses = call->statuses;
    if (test_random_below(2))
        run->codes = call->codes;
    if (test_random_below(2)) {
        run->worker_start = kit_start;
        run->worker_stop = kit_stop;
        call->sulk = test_random_below(4) ? 0 : 1 + (unsigned)test_random_below(3);
    }
    for (size_t i = 0; i < call->n; i++)
        call->in[i] = (int64_t)i - 5;
    memset(call->statuses, 0x5a, sizeof call->statuses);
    memset(call->codes, 0x5a, sizeof call->codes);
    memset(&call->report, 0x5a, sizeof call->report);
    return call;
}

static inline twill_status kit_run(kit_call *call)
{
    call->caller = pthread_self();
    switch (call->form) {
    case KIT_MAP:
        return twill_parallel_map(call->in, sizeof *call->in, call->out, sizeof *call->out, call->n,
                                  kit_map_fn, &call->options);
    case KIT_FOR:
        return twill_parallel_for(call->n, kit_for_fn, &call->options);
    default:
        return twill_parallel_range(call->n, kit_range_fn, &call->options);
    }
}

/* ---- what must hold ---- */

typedef struct kit_counts {
    size_t done, failed, skipped;
    size_t low_fail, low_stop; /* of those that ran */
} kit_counts;

static inline kit_counts kit_count(const kit_call *call)
{
    kit_counts counts = {0, 0, 0, SIZE_MAX, SIZE_MAX};

    for (size_t i = 0; i < call->n; i++) {
        if (call->how[i] == KIT_FAILED && counts.failed++ == 0)
            counts.low_fail = i;
        counts.done += call->how[i] == KIT_DONE;
        counts.skipped += call->how[i] == KIT_SKIPPED || call->how[i] == KIT_NEVER;
        if (call->how[i] == KIT_DONE && call->act[i] == KIT_STOP && counts.low_stop == SIZE_MAX)
            counts.low_stop = i;
    }
    return counts;
}

/* Every item: how often it ran, what its status and code say. */
static inline void kit_check_items(kit_call *call)
{
    const twill_run *run = &call->options.run;
    bool all_run = run->on_error == TWILL_ON_ERROR_LIMIT && call->form != KIT_RANGE &&
                   call->fails < (run->max_errors ? run->max_errors : 1);

    for (size_t i = 0; i < call->n; i++) {
        unsigned ran = atomic_load(&call->ran[i]);
        bool must = kit_below_all(call, i) || (all_run && i <= call->first_stop);

        CHECK(must ? ran == 1 : ran <= 1);
        if (run->statuses)
            CHECK_EQ(call->statuses[i], call->how[i] == KIT_DONE     ? TWILL_OK
                                        : call->how[i] == KIT_FAILED ? TWILL_FAILED
                                                                     : TWILL_CANCELLED);
        if (run->codes)
            CHECK_EQ(call->codes[i], call->how[i] == KIT_FAILED ? call->got[i] : 0);
        if (call->form == KIT_MAP)
            CHECK_EQ(call->out[i], ran ? call->in[i] * 3 : 0);
    }
}

static inline void kit_check_errors(kit_call *call, const kit_counts *counts)
{
    size_t stored = 0, room = call->options.run.errors_capacity;

    for (size_t i = 0; i < call->n && stored < room; i++) {
        if (call->how[i] != KIT_FAILED)
            continue;
        CHECK_EQ(call->errors[stored].index, i);
        CHECK_EQ(call->errors[stored].status, TWILL_FAILED);
        CHECK_EQ(call->errors[stored].code, call->got[i]);
        stored++;
    }
    CHECK_EQ(call->report.errors_stored, stored);
    CHECK(counts->failed >= stored);
}

static inline void kit_check_first(const kit_call *call, size_t index)
{
    CHECK_EQ(call->report.first_error.index, index);
    CHECK_EQ(call->report.first_error.status, TWILL_FAILED);
    CHECK_EQ(call->report.first_error.code, call->got[index]);
}

/* The status and the first error, by policy. */
static inline void kit_check_answer(kit_call *call, twill_status status, const kit_counts *counts)
{
    const twill_run *run = &call->options.run;
    size_t at = call->report.first_error.index, limit = run->max_errors ? run->max_errors : 1;
    bool fails = counts->low_fail < counts->low_stop;

    CHECK_EQ(call->report.status, status);
    switch (run->on_error) {
    case TWILL_ON_ERROR_FIRST:
        CHECK_EQ(status, counts->failed ? TWILL_FAILED : TWILL_OK);
        if (counts->failed && CHECK(at < call->n && call->how[at] == KIT_FAILED))
            kit_check_first(call, at);
        return;
    case TWILL_ON_ERROR_LIMIT:
        CHECK(counts->failed <= limit + 2 * call->report.workers_started || call->polls);
        if (call->fails >= limit && call->first_stop == SIZE_MAX && call->form != KIT_RANGE)
            CHECK(counts->failed >= limit);
        break;
    case TWILL_ON_ERROR_COLLECT:
        CHECK_EQ(fails, call->first_fail < call->first_stop);
        break;
    default: /* what the serial loop would report */
        CHECK_EQ(fails, call->first_fail < call->first_stop);
        if (fails)
            CHECK_EQ(counts->low_fail, call->first_fail);
        break;
    }
    CHECK_EQ(status, fails ? TWILL_FAILED : TWILL_OK);
    if (fails)
        kit_check_first(call, counts->low_fail);
    else
        CHECK_EQ(call->report.first_error.status, TWILL_OK);
}

static inline void kit_check_report(kit_call *call, const kit_counts *counts)
{
    const twill_report *report = &call->report;

    CHECK_EQ(report->total, call->n);
    CHECK_EQ(report->done, counts->done);
    CHECK_EQ(report->failed, counts->failed);
    CHECK_EQ(report->skipped, counts->skipped);
    CHECK_EQ(report->total, report->done + report->failed + report->skipped);
    CHECK(report->workers_started >= 1 && report->workers_used <= report->workers_started);
    CHECK(report->workers_used >= (report->done + report->failed > 0));
    CHECK(report->chunks >= report->workers_used);
    CHECK(atomic_load(&call->peak) <= report->workers_started);
    CHECK(report->wall > 0 && report->busiest >= 0 && report->busy >= report->busiest);
    CHECK(!(report->flags & TWILL_REPORT_SERIAL) || report->workers_used <= 1);
    if (atomic_load(&call->start_failures))
        CHECK(report->flags & TWILL_REPORT_DEGRADED);
}

static inline void kit_check(kit_call *call, twill_status status)
{
    kit_counts counts = kit_count(call);
    unsigned starts = atomic_load(&call->starts), failures = atomic_load(&call->start_failures);

    kit_check_items(call);
    kit_check_errors(call, &counts);
    kit_check_answer(call, status, &counts);
    kit_check_report(call, &counts);
    CHECK_EQ(atomic_load(&call->early), 0);
    CHECK_EQ(atomic_load(&call->crowded), 0);
    CHECK_EQ(atomic_load(&call->odd_task), 0);
    CHECK_EQ(atomic_load(&call->inside), 0);
    CHECK_EQ(call->stops, starts - failures);
    if (call->options.run.worker_start)
        CHECK(starts >= 1 && starts >= call->report.workers_used);
}

/* Draws, runs and checks; on a failure says which call it was. */
static inline void kit_check_and_free(kit_call *call, twill_status status, const char *where)
{
    unsigned before = atomic_load(&harness_failures);

    kit_check(call, status);
    if (atomic_load(&harness_failures) != before)
        harness_say(
            "    in: %s, form %d, n %zu, schedule %d, chunk %zu, policy %d/%zu, workers %u, "
            "first failure %zd, first stop %zd, polls %d, sulk %u, flags %u, status %s\n",
            where, (int)call->form, call->n, (int)call->options.schedule, call->options.chunk,
            (int)call->options.run.on_error, call->options.run.max_errors,
            call->options.run.workers, (ssize_t)call->first_fail, (ssize_t)call->first_stop,
            call->polls, call->sulk, call->report.flags, twill_status_name(status));
    free(call);
}

/* ---- threads of this process ---- */

#if defined __linux__ && !defined TWILL__UNDER_TSAN /* which starts a thread of its own some time */
/* As the kernel counts them: a listing of /proc/self/task ends early when the thread that it is at
   ends meanwhile. */
static inline int kit_threads(void)
{
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];
    int count = -1;

    while (file && count < 0 && fgets(line, sizeof line, file))
        (void)sscanf(line, "Threads: %d", &count);
    if (file)
        (void)fclose(file);
    return count;
}
#else
static inline int kit_threads(void) /* unknown */
{
    return 0;
}
#endif

/* The system may show a joined thread for a moment more. */
static inline bool kit_threads_back_to(int count)
{
    bool back = kit_threads() <= count;

    for (int i = 0; i < 200000 && !back; i++) {
        kit_pause(TWILL_US(500));
        back = kit_threads() <= count;
    }
    return back;
}

#endif
