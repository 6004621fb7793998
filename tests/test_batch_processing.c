/* twill_batch_process, twill_batch_flat_map: cutting, outcomes, retries, halving, ends, faults. */
#define HARNESS_FAULTS
#include "harness.h"

#define TWILL_IMPLEMENTATION
#include "twill_batch_processing.h"
#include "twill_worker_pool.h"

#define OPTIONS(...) ((twill_batch_options){__VA_ARGS__})

static void end_thread(void)
{
#ifdef TWILL_USE_PTHREAD
    pthread_exit(NULL);
#else
    thrd_exit(0);
#endif
}

/* ---- a plan of what each item does, and a record of what was called ---- */

enum { MOST = 4000, LOG = 8000 };

typedef struct plan {
    size_t n, item_size;
    int fails[MOST];    /* so many attempts fail with code 1000 + item; < 0: for ever */
    bool poison[MOST];  /* a call that contains it fails as a whole, with code 7 */
    bool forgets[MOST]; /* it is not set, although others are */
    bool sets;          /* the callback sets every item, also those that are done */
    int items[MOST];
    /* records */
    atomic_int seen[MOST], taken[MOST]; /* calls it was in; calls that took effect for it */
    atomic_size_t calls, logged, most;
    size_t log[LOG]; /* one thread: count, then the items of each call */
    unsigned attempts[LOG];
    bool logs;
    twill_ns nap;
    size_t stop_at, skip_at, end_at, fire_at;
    bool end_alone; /* end_at: when it is the only one of its call */
    twill_cancel *token;
    unsigned ends; /* 0, or the attempt in which a helper ends its thread, once */
    atomic_bool ended;
} plan;

static plan *plan_of(size_t n)
{
    plan *p = calloc(1, sizeof *p);
    p->n = n;
    p->stop_at = p->skip_at = p->end_at = p->fire_at = SIZE_MAX;
    for (size_t i = 0; i < n; i++)
        p->items[i] = (int)i;
    return p;
}

static size_t item_at(const twill_batch *batch, size_t i)
{
    return (size_t) * (int *)twill_batch_item(batch, i);
}

static int act(twill_batch *batch, const twill_task *task)
{
    plan *p = task->context;
    bool bad = false, sets = p->sets;
    atomic_fetch_add(&p->calls, 1);
    CHECK(batch->count > 0);
    CHECK_EQ(task->index, batch->first);
    CHECK_EQ(item_at(batch, 0), batch->first);
    CHECK_PTR(twill_batch_item(batch, batch->count), NULL);
    CHECK_PTR(twill_batch_result(batch, batch->count), NULL);
    twill_batch_set(batch, batch->count, 9); /* no item of this batch: nothing */
    twill_batch_set(batch, SIZE_MAX, 9);
    if (batch->array)
        CHECK_PTR(batch->array, twill_batch_item(batch, 0));
    if (p->logs) {
        size_t at = atomic_load(&p->logged);
        p->attempts[at] = batch->attempt;
        p->log[at++] = batch->count;
        for (size_t i = 0; i < batch->count; i++)
            p->log[at++] = item_at(batch, i);
        atomic_store(&p->logged, at);
    }
    for (size_t i = 0; i < batch->count; i++) {
        size_t item = item_at(batch, i);
        atomic_fetch_add(&p->seen[item], 1);
        bad = bad || p->poison[item];
        sets = sets || p->fails[item] || p->forgets[item];
        if (item == p->stop_at)
            twill_task_stop(task);
        if (item == p->end_at && (!p->end_alone || batch->count == 1))
            end_thread();
        if (item == p->fire_at)
            twill_cancel_fire(p->token, 5);
    }
    if (p->nap)
        twill_sleep(twill_within_or_cancelled(p->nap, task->until.cancel));
    if (batch->attempt == p->ends && task->worker && !atomic_exchange(&p->ended, true))
        end_thread();
    if (bad)
        return 7;
    if (batch->first == p->skip_at)
        return twill_task_skip(task);
    for (size_t i = 0; i < batch->count; i++) {
        size_t item = item_at(batch, i);
        int *result = twill_batch_result(batch, i);
        if (result) {
            CHECK_EQ(*result, 0);
            *result = (int)item * 3 + 1;
        }
        if (p->fails[item] < 0 || (int)batch->attempt <= p->fails[item]) {
            twill_batch_set(batch, i, 1000 + (int)item);
            continue;
        }
        if (p->forgets[item])
            continue;
        if (sets)
            twill_batch_set(batch, i, 0);
        atomic_fetch_add(&p->taken[item], 1);
    }
    return 0;
}

typedef struct outcome {
    twill_status status;
    twill_report report;
    twill_status statuses[MOST];
    int codes[MOST], results[MOST];
} outcome;

static outcome *run(plan *p, twill_batch_options options)
{
    outcome *out = calloc(1, sizeof *out);
    memset(out->results, 0x55, sizeof out->results);
    options.run.context = p;
    options.run.report = &out->report;
    options.run.statuses = out->statuses;
    options.run.codes = out->codes;
    out->status = twill_batch_process(p->items, sizeof *p->items, out->results,
                                      sizeof *out->results, p->n, act, &options);
    CHECK_EQ(out->status, out->report.status);
    CHECK_EQ(out->report.total, p->n);
    CHECK_EQ(out->report.total, out->report.done + out->report.failed + out->report.skipped);
    CHECK_EQ(out->report.chunks, atomic_load(&p->calls));
    CHECK_EQ(faults_live(), 0);
    return out;
}

static void finish(plan *p, outcome *out)
{
    free(p);
    free(out);
}

static size_t with_status(const outcome *out, size_t n, twill_status status)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        count += out->statuses[i] == status;
    return count;
}

/* ---- cutting ---- */

TEST(every_item_once_for_sizes_around_every_border)
{
    static const size_t ns[] = {0, 1, 2, 6, 7, 8, 99, 100, 101, 700, 2500};
    for (size_t a = 0; a < sizeof ns / sizeof *ns; a++)
        for (size_t size = 0; size <= 101; size = size < 9 ? size + 1 : size < 99 ? 99 : size + 1)
            for (unsigned workers = 1; workers <= 4; workers += 3) {
                plan *p = plan_of(ns[a]);
                outcome *out = run(p, OPTIONS(.run.workers = workers, .max_items = size));
                size_t max = size ? size : 100;
                CHECK_EQ(out->status, TWILL_OK);
                CHECK_EQ(out->report.done, ns[a]);
                CHECK_EQ(atomic_load(&p->calls), (ns[a] + max - 1) / max);
                CHECK_EQ(twill_batch_count(ns[a], size), (ns[a] + max - 1) / max);
                for (size_t i = 0; i < ns[a]; i++)
                    if (atomic_load(&p->seen[i]) != 1 || out->results[i] != (int)i * 3 + 1 ||
                        out->statuses[i] != TWILL_OK)
                        CHECK_EQ(i, SIZE_MAX);
                finish(p, out);
            }
}

TEST(bounds_are_the_cuts)
{
    size_t begin, end;
    twill_batch_bounds(250, 0, 2, &begin, &end);
    CHECK_EQ(begin, 200);
    CHECK_EQ(end, 250);
    twill_batch_bounds(250, 100, 3, &begin, &end);
    CHECK_EQ(begin, 250);
    CHECK_EQ(end, 250);
    twill_batch_bounds(SIZE_MAX, 1, SIZE_MAX - 1, &begin, &end);
    CHECK_EQ(begin, SIZE_MAX - 1);
    CHECK_EQ(end, SIZE_MAX);
    twill_batch_bounds(10, SIZE_MAX, 0, &begin, &end);
    CHECK_EQ(begin, 0);
    CHECK_EQ(end, 10);
    twill_batch_bounds(10, 7, SIZE_MAX, &begin, &end);
    CHECK_EQ(begin, 10);
    twill_batch_bounds(10, 7, 1, NULL, &end);
    CHECK_EQ(end, 10);
    twill_batch_bounds(10, 7, 1, &begin, NULL);
    CHECK_EQ(begin, 7);
    CHECK_EQ(twill_batch_count(SIZE_MAX, 1), SIZE_MAX);
    CHECK_EQ(twill_batch_count(0, 5), 0);
}

static int nothing(twill_batch *batch, const twill_task *task)
{
    (void)batch;
    (void)task;
    return 0;
}

TEST(one_worker_runs_in_order_and_batches_are_contiguous)
{
    plan *p = plan_of(30);
    outcome *out;
    size_t at = 0;
    p->logs = true;
    out = run(p, OPTIONS(.run.workers = 1, .max_items = 7));
    for (size_t k = 0; k < 5; k++) {
        CHECK_EQ(p->log[at++], k < 4 ? 7 : 2);
        for (size_t i = k * 7; i < 30 && i < k * 7 + 7; i++)
            CHECK_EQ(p->log[at++], i);
    }
    CHECK_EQ(at, atomic_load(&p->logged));
    CHECK(out->report.flags & TWILL_REPORT_SERIAL);
    finish(p, out);
}

static size_t bytes_of(const void *item, const twill_task *task)
{
    CHECK_EQ(task->worker, UINT_MAX);
    CHECK_EQ(task->index, *(const int *)item);
    return (size_t)(*(const int *)item % 10 + 1) * 10; /* 10, 20 .. 100 */
}

static size_t greedy(size_t n, size_t max_items, size_t max_bytes, bool alone, size_t *refused)
{
    size_t batches = 0, sum = 0, count = 0;
    *refused = 0;
    for (size_t i = 0; i < n; i++) {
        size_t bytes = (i % 10 + 1) * 10;
        if (bytes > max_bytes) {
            *refused += !alone;
            batches += alone;
            count = 0;
            continue;
        }
        if (!count || sum + bytes > max_bytes || count == max_items) {
            batches++;
            sum = count = 0;
        }
        sum += bytes;
        count++;
    }
    return batches;
}

static int weigh(twill_batch *batch, const twill_task *task)
{
    size_t sum = 0, limit = ((size_t *)task->context)[0];
    for (size_t i = 0; i < batch->count; i++)
        sum += (item_at(batch, i) % 10 + 1) * 10;
    CHECK(sum <= limit || batch->count == 1);
    atomic_fetch_add((atomic_size_t *)task->context + 1, 1);
    return 0;
}

TEST(no_batch_is_above_either_limit)
{
    int items[997];
    for (int i = 0; i < 997; i++)
        items[i] = i;
    for (size_t bytes = 5; bytes <= 1000; bytes = bytes < 120 ? bytes + 5 : bytes + 290)
        for (size_t max = 1; max <= 100; max += 9)
            for (int alone = 0; alone < 2; alone++) {
                size_t context[2] = {bytes, 0}, refused;
                size_t batches = greedy(997, max, bytes, alone, &refused);
                twill_report report;
                twill_status status = twill_batch_process(
                    items, sizeof *items, NULL, 0, 997, weigh,
                    &OPTIONS(.max_items = max, .max_bytes = bytes, .bytes_of = bytes_of,
                             .oversized_alone = alone, .run.context = context,
                             .run.report = &report, .run.workers = max % 2 ? 3 : 1));
                CHECK_EQ(status, refused ? TWILL_FAILED : TWILL_OK);
                CHECK_EQ(context[1], batches);
                CHECK_EQ(report.chunks, batches);
                CHECK_EQ(report.failed, refused);
                CHECK_EQ(report.done, 997 - refused);
                if (refused) {
                    CHECK_EQ(report.first_error.status, TWILL_TOO_BIG);
                    CHECK_EQ(report.first_error.code, 0);
                    CHECK_EQ(report.first_error.index, bytes < 10 ? 0 : bytes / 10);
                }
            }
    CHECK_EQ(faults_live(), 0);
}

static size_t its_number(const void *item, const twill_task *task)
{
    (void)task;
    return (size_t) * (const int *)item;
}

TEST(items_of_no_bytes_join_a_full_batch)
{
    int items[] = {10, 0, 0, 10, 0};
    twill_report report;
    CHECK_EQ(twill_batch_process(
                 items, sizeof *items, NULL, 0, 5, nothing,
                 &OPTIONS(.max_bytes = 10, .bytes_of = its_number, .run.report = &report)),
             TWILL_OK);
    CHECK_EQ(report.chunks, 2);
    CHECK_EQ(report.done, 5);
}

static int stops_at_30(twill_batch *batch, const twill_task *task)
{
    bool stops = *(const int *)twill_batch_item(batch, 0) == 30;
    CHECK(!twill_task_cancelled(task));
    CHECK_EQ(batch->count, 2);
    return stops ? twill_task_stop(task) : 0;
}

/* Batches of different lengths: a stop lets through what is in its own, and no more. */
TEST(a_stop_in_a_batch_that_was_cut_by_bytes)
{
    int items[] = {10, 10, 30, 1, 20, 11, 9, 12};
    twill_report report;
    CHECK_EQ(twill_batch_process(items, sizeof *items, NULL, 0, 8, stops_at_30,
                                 &OPTIONS(.max_bytes = 31, .bytes_of = its_number,
                                          .run = {.workers = 1, .report = &report})),
             TWILL_OK);
    CHECK_EQ(report.chunks, 2);
    CHECK_EQ(report.done, 4);
    CHECK_EQ(report.skipped, 4);
}

static size_t huge_bytes(const void *item, const twill_task *task)
{
    (void)task;
    return *(const int *)item % 2 ? SIZE_MAX - 5 : 10;
}

TEST(sums_of_bytes_do_not_wrap)
{
    int items[6] = {0, 1, 2, 3, 4, 5};
    twill_report report;
    CHECK_EQ(twill_batch_process(items, sizeof *items, NULL, 0, 6, nothing,
                                 &OPTIONS(.max_bytes = SIZE_MAX - 2, .bytes_of = huge_bytes,
                                          .run.report = &report)),
             TWILL_OK);
    CHECK_EQ(report.chunks, 6);
}

/* ---- outcomes ---- */

TEST(set_all_some_none_and_a_code)
{
    plan *p = plan_of(100);
    outcome *out;
    p->fails[3] = p->fails[42] = -1;
    p->forgets[7] = p->forgets[43] = true;
    out = run(p, OPTIONS(.max_items = 10, .run.workers = 2, .attempts = 3));
    CHECK_EQ(out->status, TWILL_FAILED);
    CHECK_EQ(out->report.failed, 4);
    CHECK_EQ(out->report.done, 96);
    CHECK_EQ(out->statuses[3], TWILL_FAILED);
    CHECK_EQ(out->codes[3], 1003);
    CHECK_EQ(out->statuses[7], TWILL_LOST);
    CHECK_EQ(out->codes[7], 0);
    CHECK_EQ(out->report.first_error.index, 3);
    CHECK_EQ(out->report.first_error.code, 1003);
    CHECK_EQ(atomic_load(&p->seen[3]), 3);
    CHECK_EQ(atomic_load(&p->seen[7]), 1); /* forgotten: never again */
    CHECK_EQ(atomic_load(&p->seen[4]), 1);
    finish(p, out);
}

static int codes_of_all_kinds(twill_batch *batch, const twill_task *task)
{
    (void)task;
    twill_batch_set(batch, 0, INT_MIN);
    twill_batch_set(batch, 1, INT_MAX);
    twill_batch_set(batch, 2, -1);
    twill_batch_set(batch, 3, 9);
    twill_batch_set(batch, 3, 0);  /* the last one counts */
    twill_batch_set(batch, 99, 1); /* no such item */
    return (int)batch->count;      /* 4 is not set: fails with it */
}

TEST(every_int_is_a_code)
{
    char items[5] = {0};
    int codes[5];
    twill_status statuses[5];
    CHECK_EQ(twill_batch_process(items, 1, NULL, 0, 5, codes_of_all_kinds,
                                 &OPTIONS(.run.codes = codes, .run.statuses = statuses)),
             TWILL_FAILED);
    CHECK_EQ(codes[0], INT_MIN);
    CHECK_EQ(codes[1], INT_MAX);
    CHECK_EQ(codes[2], -1);
    CHECK_EQ(statuses[3], TWILL_OK);
    CHECK_EQ(codes[4], 5);
    CHECK_EQ(statuses[4], TWILL_FAILED);
}

TEST(a_failing_batch_keeps_the_others)
{
    plan *p = plan_of(1498); /* 15 batches of 100, the last of 98 */
    outcome *out;
    p->poison[550] = true;
    out = run(p, OPTIONS(.on_bad_batch = TWILL_BAD_BATCH_FAIL, .attempts = 4, .run.workers = 3));
    CHECK_EQ(out->status, TWILL_FAILED);
    CHECK_EQ(out->report.done, 1398);
    CHECK_EQ(out->report.failed, 100);
    CHECK_EQ(with_status(out, 1498, TWILL_OK), 1398);
    CHECK_EQ(out->codes[500], 7);
    CHECK_EQ(out->report.first_error.index, 500);
    CHECK_EQ(out->report.first_error.code, 7);
    CHECK_EQ(atomic_load(&p->calls), 15);
    CHECK_EQ(out->results[1497], 1497 * 3 + 1);
    finish(p, out);
}

TEST(skipped_and_stopped_batches)
{
    plan *p = plan_of(100);
    outcome *out;
    p->skip_at = 20;
    out = run(p, OPTIONS(.max_items = 10, .run.workers = 1));
    CHECK_EQ(out->status, TWILL_OK);
    CHECK_EQ(out->report.skipped, 10);
    CHECK_EQ(out->statuses[20], TWILL_CANCELLED);
    finish(p, out);
    p = plan_of(100);
    p->stop_at = 34;
    out = run(p, OPTIONS(.max_items = 10, .run.workers = 1));
    CHECK_EQ(out->status, TWILL_OK);
    CHECK_EQ(out->report.done, 40);
    CHECK_EQ(out->report.skipped, 60);
    CHECK_EQ(out->results[39], 39 * 3 + 1);
    CHECK_EQ(out->results[40], 0); /* never ran: zero */
    finish(p, out);
}

/* ---- retries ---- */

TEST(only_the_failed_go_again_in_order)
{
    plan *p = plan_of(20);
    outcome *out;
    static const size_t calls[] = {10, 0, 1,  2,  3,  4,  5,  6,  7,  8,  9,  3,  2,  5, 9, 2,
                                   2,  9, 10, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 1, 11};
    p->logs = true;
    p->fails[2] = 2;
    p->fails[5] = 1;
    p->fails[9] = 5; /* more than there are attempts */
    p->fails[11] = 1;
    out = run(p, OPTIONS(.max_items = 10, .run.workers = 1, .attempts = 3));
    CHECK_EQ(atomic_load(&p->logged), sizeof calls / sizeof *calls);
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        CHECK_EQ(p->log[i], calls[i]);
    CHECK_EQ(p->attempts[0], 1);
    CHECK_EQ(p->attempts[11], 2);
    CHECK_EQ(p->attempts[15], 3);
    CHECK_EQ(out->report.failed, 1);
    CHECK_EQ(out->codes[9], 1009);
    CHECK_EQ(out->results[2], 7);
    CHECK_EQ(out->report.chunks, 5);
    finish(p, out);
}

static bool even_codes(const void *item, int code, const twill_task *task)
{
    CHECK_EQ(*(const int *)item, task->index);
    return code % 2 == 0;
}

TEST(retryable_says_which)
{
    plan *p = plan_of(100);
    outcome *out;
    for (size_t i = 0; i < 100; i++)
        p->fails[i] = 1;
    out = run(p, OPTIONS(.attempts = 2, .retryable = even_codes, .max_items = 7, .run.workers = 3));
    CHECK_EQ(out->report.done, 50);
    CHECK_EQ(out->report.failed, 50);
    CHECK_EQ(out->report.first_error.index, 1);
    for (size_t i = 0; i < 100; i++)
        CHECK_EQ(atomic_load(&p->seen[i]), i % 2 ? 1 : 2);
    finish(p, out);
}

TEST(a_whole_batch_goes_again)
{
    plan *p = plan_of(10);
    outcome *out;
    p->poison[4] = true;
    out = run(p, OPTIONS(.max_items = 5, .attempts = 3, .run.workers = 1));
    CHECK_EQ(out->report.failed, 5);
    CHECK_EQ(out->codes[0], 7);
    CHECK_EQ(atomic_load(&p->calls), 4);
    for (size_t i = 0; i < 10; i++)
        CHECK_EQ(atomic_load(&p->seen[i]), i < 5 ? 3 : 1);
    finish(p, out);
}

/* What the rules give for one batch, all-or-nothing but for poison: calls, left half first. */
static void model(const plan *p, size_t begin, size_t end, unsigned attempts, size_t *log,
                  size_t *at)
{
    bool bad = false;
    log[(*at)++] = end - begin;
    for (size_t i = begin; i < end; i++) {
        log[(*at)++] = i;
        bad = bad || p->poison[i];
    }
    if (!bad || end - begin == 1)
        return;
    model(p, begin, begin + (end - begin + 1) / 2, attempts, log, at);
    model(p, begin + (end - begin + 1) / 2, end, attempts, log, at);
}

TEST(bisect_makes_the_calls_of_the_model)
{
    for (int round = 0; round < 300; round++) {
        size_t n = 1 + test_random_below(60), max = 1 + test_random_below(60), at = 0;
        unsigned attempts = 1 + (unsigned)test_random_below(3);
        plan *p = plan_of(n);
        outcome *out;
        size_t *log = calloc(LOG, sizeof *log), bad = 0;
        p->logs = true;
        for (size_t i = 0; i < n; i++)
            bad += p->poison[i] = test_random_below(8) == 0;
        out = run(p, OPTIONS(.max_items = max, .attempts = attempts, .run.workers = 1,
                             .on_bad_batch = TWILL_BAD_BATCH_BISECT));
        for (size_t begin = 0; begin < n; begin += max) {
            size_t end = n - begin < max ? n : begin + max;
            model(p, begin, end, attempts, log, &at);
            for (unsigned a = 1; a < attempts; a++)
                for (size_t i = begin; i < end; i++)
                    if (p->poison[i]) {
                        log[at++] = 1;
                        log[at++] = i;
                    }
        }
        CHECK_EQ(atomic_load(&p->logged), at);
        CHECK(!memcmp(p->log, log, at * sizeof *log));
        CHECK_EQ(out->report.failed, bad);
        for (size_t i = 0; i < n; i++) {
            CHECK_EQ(atomic_load(&p->taken[i]), !p->poison[i]); /* good ones take effect once */
            CHECK_EQ(out->statuses[i], p->poison[i] ? TWILL_FAILED : TWILL_OK);
            CHECK_EQ(out->results[i], p->poison[i] ? 0 : (int)i * 3 + 1);
        }
        free(log);
        finish(p, out);
    }
}

TEST(bisect_costs_what_the_manual_says)
{
    plan *p = plan_of(1024);
    outcome *out;
    p->poison[333] = true;
    out = run(p, OPTIONS(.max_items = 1024, .on_bad_batch = TWILL_BAD_BATCH_BISECT));
    CHECK_EQ(out->report.failed, 1);
    CHECK_EQ(out->report.first_error.index, 333);
    CHECK_EQ(atomic_load(&p->calls), 1 + 2 * 10);
    finish(p, out);
    p = plan_of(512);
    for (size_t i = 0; i < 512; i++)
        p->poison[i] = true;
    out = run(p, OPTIONS(.max_items = 512, .on_bad_batch = TWILL_BAD_BATCH_BISECT));
    CHECK_EQ(out->report.failed, 512);
    CHECK_EQ(atomic_load(&p->calls), 2 * 512 - 1);
    finish(p, out);
}

/* Random items that fail, are forgotten or poison their batch, on several workers, with and without
   a backoff: the outcome of each is what its own plan says. */
TEST(every_item_ends_as_planned)
{
    for (int round = 0; round < 60; round++) {
        size_t n = 1 + test_random_below(1500);
        unsigned attempts = 1 + (unsigned)test_random_below(4);
        bool bisect = test_random_below(2), bytes = test_random_below(3) == 0;
        plan *p = plan_of(n);
        outcome *out;
        size_t failed = 0;
        for (size_t i = 0; i < n; i++) {
            if (test_random_below(10) == 0)
                p->fails[i] = (int)test_random_below(5);
            if (bisect && test_random_below(40) == 0)
                p->poison[i] = true;
        }
        p->sets = test_random_below(2);
        out = run(p,
                  OPTIONS(.run.workers = 1 + (unsigned)test_random_below(4),
                          .max_items = 1 + test_random_below(150), .attempts = attempts,
                          .backoff = test_random_below(2) ? TWILL_US(20) : 0,
                          .backoff_max = TWILL_US(200), .seed = 1 + test_random(),
                          .max_bytes = bytes ? 300 : 0, .bytes_of = bytes ? bytes_of : NULL,
                          .on_bad_batch = bisect ? TWILL_BAD_BATCH_BISECT : TWILL_BAD_BATCH_RETRY));
        for (size_t i = 0; i < n; i++) {
            bool bad = p->poison[i] || p->fails[i] >= (int)attempts;
            failed += bad;
            if (out->statuses[i] != (bad ? TWILL_FAILED : TWILL_OK) ||
                atomic_load(&p->taken[i]) != !bad ||
                out->codes[i] != (p->poison[i] ? 7
                                  : bad        ? 1000 + (int)i
                                               : 0))
                CHECK_EQ(i, SIZE_MAX);
        }
        CHECK_EQ(out->report.failed, failed);
        CHECK_EQ(out->report.done, n - failed);
        finish(p, out);
    }
}

TEST(the_same_seed_gives_the_same_delays)
{
    twill__backoff shape = twill__backoff_usual(TWILL_MS(1), TWILL_MS(50));
    twill_ns most = 0;
    for (unsigned attempt = 2; attempt < 40; attempt++) {
        twill_ns delay = twill__batch_delay(&shape, 9, 4, attempt);
        CHECK_EQ(delay, twill__batch_delay(&shape, 9, 4, attempt));
        CHECK(delay >= 0 && delay <= TWILL_MS(50));
        CHECK(attempt > 5 || delay <= TWILL_MS(1) << (attempt - 2));
        most = delay > most ? delay : most;
    }
    CHECK(most > TWILL_MS(8));
    CHECK(twill__batch_delay(&shape, 9, 4, 9) != twill__batch_delay(&shape, 9, 5, 9));
    CHECK(twill__batch_delay(&shape, 9, 4, 9) != twill__batch_delay(&shape, 10, 4, 9));
}

/* While item 0 waits an hour for its next attempt, all the others run; then a token ends the
   wait. */
static _Atomic size_t others;
static atomic_bool first_ran;
static int others_run(twill_batch *batch, const twill_task *task)
{
    if (batch->first == 0) {
        atomic_store(&first_ran, true);
        return 9;
    }
    if (atomic_fetch_add(&others, batch->count) + batch->count == 99) {
        while (!atomic_load(&first_ran)) /* exit: its thread has it in hand */
            (void)twill_sleep(twill_within(TWILL_US(50)));
        twill_cancel_fire(task->context, 3);
    }
    return 0;
}

TEST(delays_grow_from_attempt_to_attempt)
{
    twill__backoff shape = twill__backoff_usual(1000, 8000);
    twill_ns longest[8] = {0};
    size_t alike = 0;
    for (uint64_t place = 0; place < 2000; place++) {
        for (unsigned attempt = 2; attempt < 8; attempt++) {
            twill_ns delay = twill__batch_delay(&shape, 5, place, attempt);
            longest[attempt] = delay > longest[attempt] ? delay : longest[attempt];
        }
        /* both at the cap, and drawn apart */
        alike += twill__batch_delay(&shape, 5, place, 6) == twill__batch_delay(&shape, 5, place, 7);
        alike +=
            twill__batch_delay(&shape, 5, place, 6) == twill__batch_delay(&shape, 5, place + 1, 6);
    }
    CHECK(alike < 20);
    for (unsigned attempt = 2; attempt < 8; attempt++) {
        twill_ns most = attempt < 5 ? 1000 << (attempt - 2) : 8000;
        CHECK(longest[attempt] <= most);
        CHECK(longest[attempt] > most * 9 / 10);
    }
}

TEST(an_instant_after_all_is_for_ever)
{
    CHECK_EQ(twill__instant_after(5, 7), 12);
    CHECK_EQ(twill__instant_after(5, TWILL_FOREVER - 6), TWILL_FOREVER - 1);
    CHECK_EQ(twill__instant_after(5, TWILL_FOREVER - 5), TWILL_FOREVER);
    CHECK_EQ(twill__instant_after(5, TWILL_FOREVER), TWILL_FOREVER);
}

TEST(a_backoff_holds_up_nobody_and_ends_with_the_token)
{
    for (unsigned workers = 1; workers <= 3; workers++) {
        int items[100] = {0};
        twill_cancel token;
        twill_report report;
        twill_ns since = twill_now();
        twill_cancel_init(&token, NULL);
        atomic_store(&others, 0);
        atomic_store(&first_ran, false);
        CHECK_EQ(
            twill_batch_process(items, sizeof *items, NULL, 0, 100, others_run,
                                &OPTIONS(.max_items = 1, .attempts = 2, .seed = 5,
                                         .backoff = TWILL_SEC(3600), .run.workers = workers,
                                         .backoff_max = TWILL_SEC(3600), .run.until.cancel = &token,
                                         .run.context = &token, .run.report = &report)),
            TWILL_FAILED);
        CHECK_EQ(report.done, 99);
        CHECK_EQ(report.failed, 1);
        CHECK_EQ(report.first_error.code, 9);
        CHECK(twill_now() - since < TWILL_SEC(100));
        twill_cancel_detach(&token);
    }
    CHECK_EQ(faults_live(), 0);
}

static bool ends_in_a_backoff(twill_ns deadline)
{
    plan *p = plan_of(10);
    outcome *out;
    bool in_time;
    twill_ns since = twill_now();
    p->fails[3] = -1;
    out = run(p, OPTIONS(.attempts = 100, .backoff = TWILL_SEC(3600), .seed = 3,
                         .backoff_max = TWILL_SEC(3600), .run.workers = 2,
                         .run.until = twill_within(deadline)));
    in_time = out->status == TWILL_FAILED; /* it had been called */
    CHECK(in_time || out->status == TWILL_TIMEOUT);
    if (in_time) {
        CHECK_EQ(out->statuses[3], TWILL_FAILED);
        CHECK_EQ(out->codes[3], 1003);
    }
    CHECK(twill_now() - since < TWILL_SEC(100));
    finish(p, out);
    return in_time;
}

TEST(a_deadline_ends_a_backoff)
{
    CHECK(test_in_time(TWILL_MS(50), ends_in_a_backoff));
}

/* ---- policies, ends ---- */

TEST(the_lowest_error_is_the_serial_loops)
{
    for (int round = 0; round < 200; round++) {
        plan *p = plan_of(400);
        outcome *out;
        size_t lowest = SIZE_MAX;
        for (size_t i = 0; i < 400; i++)
            if (test_random_below(60) == 0) {
                p->fails[i] = (int)test_random_below(4);
                if (p->fails[i] >= 2 && lowest == SIZE_MAX)
                    lowest = i;
            }
        out = run(p, OPTIONS(.run.on_error = TWILL_ON_ERROR_LOWEST, .attempts = 2,
                             .run.workers = 1 + (unsigned)test_random_below(4), .max_items = 10,
                             .backoff = round % 2 ? TWILL_US(30) : 0));
        CHECK_EQ(out->status, lowest == SIZE_MAX ? TWILL_OK : TWILL_FAILED);
        if (lowest != SIZE_MAX) {
            CHECK_EQ(out->report.first_error.index, lowest);
            CHECK_EQ(out->report.first_error.code, 1000 + lowest);
            for (size_t i = 0; i < lowest / 10 * 10; i++)
                CHECK_EQ(out->statuses[i], TWILL_OK);
        }
        finish(p, out);
    }
}

TEST(first_and_limit_stop_between_batches)
{
    plan *p = plan_of(1000);
    outcome *out;
    for (size_t i = 0; i < 1000; i += 10)
        p->fails[i] = -1;
    out = run(p, OPTIONS(.run.on_error = TWILL_ON_ERROR_FIRST, .max_items = 10, .run.workers = 1));
    CHECK_EQ(out->report.failed, 1);
    CHECK_EQ(out->report.done, 9);
    CHECK_EQ(out->report.skipped, 990);
    CHECK_EQ(atomic_load(&p->calls), 1);
    finish(p, out);
    p = plan_of(1000);
    for (size_t i = 0; i < 1000; i += 10)
        p->fails[i] = -1;
    out = run(p, OPTIONS(.run.on_error = TWILL_ON_ERROR_LIMIT, .run.max_errors = 5, .max_items = 10,
                         .run.workers = 1));
    CHECK_EQ(out->report.failed, 5);
    CHECK_EQ(atomic_load(&p->calls), 5);
    finish(p, out);
}

static bool two_is_final(const void *item, int code, const twill_task *task)
{
    (void)code;
    (void)task;
    return *(const int *)item != 2;
}

/* Two batches wait for another attempt when a third one ends the call: both have failed. */
TEST(a_stop_is_the_end_of_all_that_wait)
{
    twill_batch_options options =
        OPTIONS(.run = {.workers = 1, .on_error = TWILL_ON_ERROR_FIRST}, .max_items = 1,
                .attempts = 2, .backoff = TWILL_SEC(3600), .backoff_max = TWILL_SEC(3600),
                .retryable = two_is_final);
    twill__backoff shape = twill__batch_shape(&options);
    plan *p = plan_of(4);
    outcome *out;
    for (int i = 0; i < 3; i++)
        p->fails[i] = -1;
    do
        options.seed++; /* one with which neither is due soon */
    while (twill__batch_delay(&shape, options.seed, 0, 2) < TWILL_SEC(600) ||
           twill__batch_delay(&shape, options.seed, 1, 2) < TWILL_SEC(600));
    out = run(p, options);
    CHECK_EQ(out->status, TWILL_FAILED);
    CHECK_EQ(out->report.failed, 3);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(out->statuses[i], TWILL_FAILED);
        CHECK_EQ(out->codes[i], 1000 + i);
    }
    CHECK_EQ(out->statuses[3], TWILL_CANCELLED);
    finish(p, out);
}

static bool some_before_the_deadline(twill_ns deadline)
{
    plan *p = plan_of(1000);
    p->nap = deadline / 20;
    outcome *out =
        run(p, OPTIONS(.max_items = 10, .run.workers = 2, .run.until = twill_within(deadline)));
    bool in_time = out->report.done > 0;
    CHECK_EQ(out->status, TWILL_TIMEOUT);
    CHECK(out->report.skipped > 0);
    CHECK_EQ(with_status(out, 1000, TWILL_TIMEOUT), out->report.skipped);
    finish(p, out);
    return in_time;
}

TEST(a_token_or_a_deadline_ends_it_between_batches)
{
    twill_cancel token;
    plan *p = plan_of(1000);
    outcome *out;
    twill_cancel_init(&token, NULL);
    p->token = &token;
    p->fire_at = 45;
    out = run(p, OPTIONS(.max_items = 10, .run.workers = 1, .run.until.cancel = &token));
    CHECK_EQ(out->status, TWILL_CANCELLED);
    CHECK_EQ(out->report.done, 50);
    CHECK_EQ(out->report.skipped, 950);
    CHECK_EQ(out->statuses[50], TWILL_CANCELLED);
    finish(p, out);
    p = plan_of(1000);
    out = run(p, OPTIONS(.run.until.cancel = &token));
    CHECK_EQ(out->status, TWILL_CANCELLED);
    CHECK_EQ(atomic_load(&p->calls), 0);
    finish(p, out);
    twill_cancel_detach(&token);
    CHECK(test_in_time(TWILL_MS(40), some_before_the_deadline));
    p = plan_of(10);
    out = run(p, OPTIONS(.run.until = twill_within(0)));
    CHECK_EQ(out->status, TWILL_TIMEOUT);
    finish(p, out);
}

static int spread(const twill_batch *batch, const twill_task *task);

static uint64_t no_key(const void *item, const twill_task *task)
{
    (void)item;
    (void)task;
    return 0;
}

static void no_item(void *item, const twill_outcome *end, void *result, const twill_task *task)
{
    (void)item;
    (void)end;
    (void)result;
    (void)task;
}

TEST(refusals)
{
    int items[4] = {0};
    void *values = items;
    size_t count = 7;
    twill_report report;
#define REFUSED(why, ...)                                                       \
    CHECK_EQ(twill_batch_process(items, sizeof *items, NULL, 0, 4, act,         \
                                 &OPTIONS(.run.report = &report, __VA_ARGS__)), \
             why);                                                              \
    CHECK_EQ(report.status, why);                                               \
    CHECK_EQ(report.skipped, 4)
    REFUSED(TWILL_INVALID, .max_bytes = 5);
    REFUSED(TWILL_INVALID, .bytes_of = bytes_of);
    REFUSED(TWILL_INVALID, .oversized_alone = true);
    REFUSED(TWILL_INVALID, .backoff = -1);
    REFUSED(TWILL_INVALID, .backoff_max = -1);
    REFUSED(TWILL_INVALID, .on_bad_batch = (twill_bad_batch)3);
    REFUSED(TWILL_INVALID, .result_size = 4);
    REFUSED(TWILL_INVALID, .linger = 4);
    REFUSED(TWILL_INVALID, .idle = 4);
    REFUSED(TWILL_INVALID, .capacity = 4);
    REFUSED(TWILL_INVALID, .capacity_bytes = 4);
    REFUSED(TWILL_INVALID, .overflow = TWILL_OVERFLOW_REJECT);
    REFUSED(TWILL_INVALID, .coalesce = true);
    REFUSED(TWILL_INVALID, .key_of = no_key);
    REFUSED(TWILL_INVALID, .on_item = no_item);
    REFUSED(TWILL_INVALID, .item_timeout = 4);
    REFUSED(TWILL_INVALID, .run.errors_capacity = 4);
    CHECK_EQ(twill_batch_process(items, 4, NULL, 0, 4, NULL, NULL), TWILL_INVALID);
    CHECK_EQ(twill_batch_process(NULL, 4, NULL, 0, 4, act, NULL), TWILL_INVALID);
    CHECK_EQ(twill_batch_process(items, 0, NULL, 0, 4, act, NULL), TWILL_INVALID);
    CHECK_EQ(twill_batch_process(items, 4, items, 0, 4, act, NULL), TWILL_INVALID);
    CHECK_EQ(twill_batch_process(items, 4, NULL, 0, SIZE_MAX / 2, act, NULL), TWILL_TOO_BIG);
    CHECK_EQ(twill_batch_process(items, 1, items, 4, SIZE_MAX / 2, act, NULL), TWILL_TOO_BIG);
    CHECK_EQ(twill_batch_process(NULL, 0, NULL, 0, 0, nothing, NULL), TWILL_OK);
    CHECK_EQ(twill_batch_flat_map(NULL, 0, 0, spread, 0, &values, &count, NULL), TWILL_INVALID);
    CHECK_EQ(twill_batch_flat_map(NULL, 0, 0, spread, 4, NULL, &count, NULL), TWILL_INVALID);
    CHECK_EQ(twill_batch_flat_map(NULL, 0, 0, spread, 4, &values, NULL, NULL), TWILL_INVALID);
    CHECK_EQ(twill_batch_emit(NULL, items), TWILL_INVALID);
    CHECK_EQ(twill_batch_emit(&(twill_task){0}, items), TWILL_INVALID);
    CHECK_EQ(twill_batch_flat_map(NULL, 0, 0, NULL, 4, &values, &count, NULL), TWILL_INVALID);
    CHECK_PTR(values, NULL);
    CHECK_EQ(count, 0);
}

/* ---- flat map ---- */

static size_t copies(int item)
{
    return (size_t)(item % 7 == 0 ? 0 : item % 5 == 0 ? 40 : item % 3);
}

static int spread(const twill_batch *batch, const twill_task *task)
{
    const plan *p = task->context;
    for (size_t i = 0; i < batch->count; i++) {
        int item = (int)item_at(batch, i);
        if ((size_t)item == p->end_at)
            end_thread();
        CHECK_PTR(twill_batch_result(batch, i), NULL);
        for (size_t k = 0; k < copies(item); k++) {
            int value = item * 100 + (int)k;
            if (twill_batch_emit(task, &value) != TWILL_OK)
                return 12;
        }
        if (p->poison[item] || (p->fails[item] && (int)batch->attempt <= p->fails[item]))
            return 7;
    }
    return 0;
}

static void check_flat(const plan *p, const int *values, size_t count)
{
    size_t at = 0;
    for (size_t i = 0; i < p->n; i++)
        for (size_t k = 0; !p->poison[i] && k < copies((int)i); k++, at++)
            if (at >= count || values[at] != (int)i * 100 + (int)k) {
                CHECK_EQ(at, SIZE_MAX);
                return;
            }
    CHECK_EQ(at, count);
}

TEST(flat_map_equals_the_serial_loop)
{
    for (unsigned workers = 1; workers <= 4; workers++)
        for (int round = 0; round < 30; round++) {
            plan *p = plan_of(test_random_below(2000));
            void *values;
            size_t count;
            bool poison = round % 2;
            size_t bad = 0;
            for (size_t i = 0; i < p->n; i++) {
                bad += p->poison[i] = poison && test_random_below(50) == 0;
                p->fails[i] = test_random_below(50) == 0 ? (int)test_random_below(3) : 0;
            }
            CHECK_EQ(twill_batch_flat_map(
                         p->items, sizeof *p->items, p->n, spread, sizeof(int), &values, &count,
                         &OPTIONS(.run.workers = workers, .run.context = p, .attempts = 3,
                                  .max_items = 1 + test_random_below(120),
                                  .backoff = round % 3 ? 0 : TWILL_US(20),
                                  .on_bad_batch = TWILL_BAD_BATCH_BISECT)),
                     bad ? TWILL_FAILED : TWILL_OK);
            check_flat(p, values, count);
            twill_batch_free(values);
            free(p);
            CHECK_EQ(faults_live(), 0);
        }
}

typedef struct wide {
    char bytes[1000];
} wide;

static int emit_wide(const twill_batch *batch, const twill_task *task)
{
    wide value;
    for (size_t i = 0; i < batch->count; i++) {
        memset(&value, (int)item_at(batch, i), sizeof value);
        if (twill_batch_emit(task, &value) != TWILL_OK)
            return 1;
    }
    return 0;
}

TEST(wide_values)
{
    int items[50];
    void *values;
    size_t count;
    for (int i = 0; i < 50; i++)
        items[i] = i;
    CHECK_EQ(twill_batch_flat_map(items, sizeof *items, 50, emit_wide, sizeof(wide), &values,
                                  &count, &OPTIONS(.max_items = 7)),
             TWILL_OK);
    CHECK_EQ(count, 50);
    for (size_t i = 0; i < count; i++)
        CHECK_EQ(((wide *)values)[i].bytes[999], i);
    twill_batch_free(values);
    twill_batch_free(NULL);
}

static int emits_outside(twill_batch *batch, const twill_task *task)
{
    int value = 1;
    (void)batch;
    CHECK_EQ(twill_batch_emit(task, &value), TWILL_INVALID);
    return 0;
}

TEST(emit_outside_of_a_flat_map)
{
    int items[3] = {0}, value = 1;
    CHECK_EQ(twill_batch_process(items, sizeof *items, NULL, 0, 3, emits_outside, NULL), TWILL_OK);
    CHECK_EQ(twill_batch_emit(NULL, &value), TWILL_INVALID);
    CHECK_EQ(twill_batch_emit(&(twill_task){0}, &value), TWILL_INVALID);
}

/* ---- workers, pools, forks, faults ---- */

static int count_start(void **state, const twill_task *task)
{
    atomic_int *counts = task->context;
    *state = calloc(1, sizeof(size_t));
    atomic_fetch_add(&counts[0], 1);
    return 0;
}

static void count_stop(void *state, const twill_task *task)
{
    atomic_int *counts = task->context;
    atomic_fetch_add(&counts[1], 1);
    atomic_fetch_add(&counts[2], *(int *)state);
    free(state);
}

static int count_items(twill_batch *batch, const twill_task *task)
{
    *(int *)task->worker_state += (int)batch->count;
    twill_sleep(twill_within(TWILL_US(200)));
    return 0;
}

TEST(pools_and_worker_hooks)
{
    twill_pool *pool;
    int items[500] = {0};
    CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 3}), TWILL_OK);
    for (int own = 0; own < 2; own++) {
        atomic_int counts[3] = {0, 0, 0};
        twill_report report;
        CHECK_EQ(twill_batch_process(
                     items, sizeof *items, NULL, 0, 500, count_items,
                     &OPTIONS(.run.pool = own ? NULL : pool, .run.workers = 3, .max_items = 10,
                              .run.context = counts, .run.worker_start = count_start,
                              .run.worker_stop = count_stop, .run.report = &report)),
                 TWILL_OK);
        CHECK_EQ(atomic_load(&counts[0]), atomic_load(&counts[1]));
        CHECK_EQ(atomic_load(&counts[2]), 500);
        CHECK_EQ(report.chunks, 50);
        CHECK(report.workers_used >= 1 && report.workers_used <= 3);
    }
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

static int nested(twill_batch *batch, const twill_task *task)
{
    int items[40] = {0};
    (void)task;
    for (size_t i = 0; i < batch->count; i++)
        if (twill_batch_process(items, sizeof *items, NULL, 0, 40, nothing,
                                &OPTIONS(.max_items = 3)) != TWILL_OK)
            return 1;
    return 0;
}

TEST(calls_inside_callbacks)
{
    int items[100] = {0};
    CHECK_EQ(twill_batch_process(items, sizeof *items, NULL, 0, 100, nested,
                                 &OPTIONS(.max_items = 9, .run.workers = 3)),
             TWILL_OK);
}

/* A helper ends its thread in the callback, in a fresh call or in a later attempt. */
TEST(a_callback_that_ends_its_thread_loses_its_batch_alone)
{
    for (int round = 0; round < 60; round++) {
        plan *p = plan_of(300);
        outcome *out;
        size_t lost, expected = 0;
        p->nap = TWILL_US(100);
        p->ends = round % 2 ? 2 : 1;
        for (size_t i = 0; i < 300; i++)
            p->fails[i] = i % 10 == 5;
        out = run(p, OPTIONS(.run.workers = 3, .max_items = 10, .attempts = 3,
                             .backoff = round % 4 < 2 ? 0 : TWILL_US(50)));
        lost = with_status(out, 300, TWILL_LOST);
        if (atomic_load(&p->ended)) /* not when the helpers came too late for everything */
            expected = p->ends == 1 ? 10 : 1;
        CHECK_EQ(lost, expected);
        CHECK_EQ(out->report.failed, lost);
        CHECK_EQ(out->report.done, 300 - lost);
        CHECK_EQ(out->status, lost ? TWILL_FAILED : TWILL_OK);
        finish(p, out);
    }
}

static outcome *on_a_thread;
static void call_on_a_thread(void *p)
{
    on_a_thread = run(p, OPTIONS(.run.workers = 1, .max_items = 10, .attempts = 2,
                                 .on_bad_batch = TWILL_BAD_BATCH_BISECT));
}

static void flat_on_a_thread(void *p_)
{
    plan *p = p_;
    void *values;
    size_t count;
    (void)twill_batch_flat_map(p->items, sizeof *p->items, p->n, spread, sizeof(int), &values,
                               &count,
                               &OPTIONS(.max_items = 10, .run.workers = 1, .run.context = p));
    CHECK(false);
}

/* The calling thread itself ends: nothing leaks. */
TEST(a_callback_that_ends_the_callers_thread)
{
    for (int form = 0; form < 3; form++) {
        twill__thrd thread;
        plan *p = plan_of(100);
        bool flat = form == 1;
        memset(&thread, 0, sizeof thread);
        p->end_at = 55;
        p->poison[55] = p->end_alone = form == 2; /* when others of its batch are done */
        thread.fn = flat ? flat_on_a_thread : call_on_a_thread;
        thread.arg = p;
        thread.cpu = UINT_MAX;
        on_a_thread = NULL;
        if (!CHECK(twill__thread_start(&thread)))
            return;
        twill__thread_join(&thread);
        CHECK_PTR(on_a_thread, NULL);
        if (form == 2)
            CHECK_EQ(atomic_load(&p->taken[50]), 1);
        CHECK_EQ(faults_live(), 0);
        free(p);
    }
}

/* Two batches wait for their second call when the first one fails for good: the other is given up.
   (Where a machine is so slow that it was not called at all yet, it is skipped.) */
TEST(a_batch_above_one_that_has_failed_is_not_tried_again)
{
    twill_batch_options options =
        OPTIONS(.run = {.workers = 1, .on_error = TWILL_ON_ERROR_LOWEST}, .max_items = 1,
                .attempts = 2, .backoff = TWILL_MS(1), .backoff_max = TWILL_MS(1));
    twill__backoff shape = twill__batch_shape(&options);
    plan *p = plan_of(2);
    outcome *out;
    int calls;
    p->fails[0] = p->fails[1] = -1;
    do
        options.seed++; /* one with which the first of them is due first */
    while (twill__batch_delay(&shape, options.seed, 0, 2) >
           twill__batch_delay(&shape, options.seed, 1, 2));
    out = run(p, options);
    calls = atomic_load(&p->seen[1]);
    CHECK_EQ(out->status, TWILL_FAILED);
    CHECK_EQ(out->report.first_error.index, 0);
    CHECK_EQ(out->report.first_error.code, 1000);
    CHECK_EQ(atomic_load(&p->seen[0]), 2);
    CHECK(calls <= 1);
    CHECK_EQ(out->codes[1], calls ? 1001 : 0);
    CHECK_EQ(out->statuses[1], calls ? TWILL_FAILED : TWILL_CANCELLED);
    finish(p, out);
}

static int stops_the_second_time(twill_batch *batch, const twill_task *task)
{
    atomic_int *calls = task->context;
    atomic_fetch_add(&calls[batch->first], 1);
    return batch->attempt == 1 ? 5 : batch->first == 0 ? twill_task_stop(task) : 0;
}

/* Likewise, when the first one says stop: what lies above it was an error for nobody. */
TEST(a_batch_above_one_that_stops_is_not_tried_again)
{
    atomic_int calls[2];
    twill_report report;
    int items[2] = {0, 1};
    twill_batch_options options =
        OPTIONS(.run = {.workers = 1, .context = calls, .report = &report}, .max_items = 1,
                .attempts = 2, .backoff = TWILL_MS(1), .backoff_max = TWILL_MS(1));
    twill__backoff shape = twill__batch_shape(&options);
    atomic_init(&calls[0], 0);
    atomic_init(&calls[1], 0);
    do
        options.seed++; /* one with which the first of them is due first */
    while (twill__batch_delay(&shape, options.seed, 0, 2) >
           twill__batch_delay(&shape, options.seed, 1, 2));
    CHECK_EQ(twill_batch_process(items, sizeof *items, NULL, 0, 2, stops_the_second_time, &options),
             TWILL_OK);
    CHECK_EQ(report.done, 1);
    CHECK_EQ(report.failed + report.skipped, 1);
    CHECK_EQ(atomic_load(&calls[0]), 2);
    CHECK(atomic_load(&calls[1]) <= 1);
}

TEST(nothing_is_cut_by_bytes)
{
    CHECK_EQ(twill_batch_process(NULL, 1, NULL, 0, 0, act,
                                 &OPTIONS(.max_bytes = 5, .bytes_of = its_number)),
             TWILL_OK);
}

TEST(fork_child_runs_calls)
{
    pid_t child = fork();
    int status;
    if (child == 0) {
        plan *p = plan_of(100);
        outcome *out = run(p, OPTIONS(.run.workers = 2, .max_items = 3));
        _exit(out->status != TWILL_OK || out->report.done != 100);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* ---- calls that say something of some of their items ---- */

/* n items in one call, which names `named` of them, good or bad, and returns `code`. */
typedef struct saying {
    int code, codes[8];
    bool named[8], skips;
    int calls, counts[16];
} saying;

static int says(twill_batch *batch, const twill_task *task)
{
    saying *s = task->context;
    s->counts[s->calls++ % 16] = (int)batch->count;
    if (s->calls > 1)
        return batch->count == 1 ? 7 : 0;
    for (size_t i = 0; i < batch->count; i++)
        if (s->named[i])
            twill_batch_set(batch, i, s->codes[i]);
    return s->skips ? twill_task_skip(task) : s->code;
}

typedef struct said {
    twill_status status, statuses[8];
    int codes[8];
    twill_report report;
} said;

static said after(saying *s, size_t n, twill_batch_options options)
{
    static const int items[8] = {0};
    said out;
    memset(&out, 0, sizeof out);
    options.run.context = s;
    options.run.workers = 1;
    options.run.report = &out.report;
    options.run.statuses = out.statuses;
    options.run.codes = out.codes;
    out.status = twill_batch_process(items, sizeof *items, NULL, 0, n, says, &options);
    CHECK_EQ(out.report.total, out.report.done + out.report.failed + out.report.skipped);
    return out;
}

TEST(a_skip_is_of_those_that_were_not_named)
{
    saying s = {.named = {true, true}, .codes = {55, 0}, .skips = true};
    said out = after(&s, 4, OPTIONS(.max_items = 4));
    CHECK_EQ(out.status, TWILL_FAILED);
    CHECK_EQ(out.report.done, 1);
    CHECK_EQ(out.report.failed, 1);
    CHECK_EQ(out.report.skipped, 2);
    CHECK_EQ(out.statuses[0], TWILL_FAILED);
    CHECK_EQ(out.codes[0], 55);
    CHECK_EQ(out.statuses[1], TWILL_OK);
    s = (saying){.skips = true};
    out = after(&s, 4, OPTIONS(.max_items = 4));
    CHECK_EQ(out.report.skipped, 4);
}

TEST(a_bad_call_names_some_and_the_others_go_again)
{
    saying s = {.named = {false, true, false, true}, .code = 7};
    said out = after(&s, 6, OPTIONS(.max_items = 6, .on_bad_batch = TWILL_BAD_BATCH_BISECT));
    CHECK_EQ(s.calls, 3); /* 0, 2, 4 and 5, in halves: both are good */
    CHECK_EQ(s.counts[1], 2);
    CHECK_EQ(s.counts[2], 2);
    CHECK_EQ(out.report.done, 6);
    s = (saying){.named = {true, true, false, true}, .code = 7};
    out = after(&s, 4, OPTIONS(.max_items = 4, .on_bad_batch = TWILL_BAD_BATCH_BISECT));
    CHECK_EQ(s.calls, 2); /* the one that is left, alone */
    CHECK_EQ(out.report.done, 3);
    CHECK_EQ(out.statuses[2], TWILL_FAILED);
    CHECK_EQ(out.codes[2], 7);
}

/* Larger than what a worker has on its stack, and nothing is tried again. */
TEST(large_batches_without_a_second_try)
{
    plan *p = plan_of(600);
    outcome *out;
    p->poison[250] = true;
    p->fails[5] = p->fails[599] = -1;
    out = run(p, OPTIONS(.max_items = 200, .on_bad_batch = TWILL_BAD_BATCH_FAIL));
    CHECK_EQ(out->report.failed, 202);
    CHECK_EQ(out->report.done, 398);
    for (size_t i = 0; i < 600; i++)
        CHECK_EQ(out->codes[i], i / 200 == 1 ? 7 : i == 5 || i == 599 ? 1000 + (int)i : 0);
    CHECK_EQ(atomic_load(&p->calls), 3);
    finish(p, out);
}

/* How many of 16 seeds have the first of two batches tried again, and fail for good, before the
   second is tried again: then nothing of the second matters any more, and it gives up its retry. */
static size_t given_up(int64_t backoff)
{
    size_t cut = 0;
    for (uint64_t seed = 1; seed <= 16; seed++) {
        plan *p = plan_of(2);
        outcome *out;
        p->fails[0] = p->fails[1] = -1;
        out = run(p, OPTIONS(.max_items = 1, .attempts = 2, .backoff = backoff, .seed = seed,
                             .run.workers = 1, .run.on_error = TWILL_ON_ERROR_LOWEST,
                             .run.until = twill_within(TWILL_SEC(3600))));
        CHECK_EQ(out->status, TWILL_FAILED);
        CHECK_EQ(out->report.first_error.index, 0);
        CHECK_EQ(out->report.first_error.code, 1000);
        CHECK_EQ(atomic_load(&p->seen[0]), 2);
        cut += atomic_load(&p->calls) == 3;
        finish(p, out);
    }
    return cut;
}

/* The seed gives the order of the retries where the backoff is longer than the time between the
   first tries, which has no bound: a backoff that was too short for this machine is doubled. */
TEST(a_batch_above_the_lowest_error_gives_up_its_retries)
{
    int64_t backoff = TWILL_US(20);
    size_t cut = given_up(backoff);
    while ((cut == 0 || cut == 16) && backoff < TWILL_SEC(1))
        cut = given_up(backoff *= 2);
    CHECK(cut > 0 && cut < 16);
}

/* ---- more than there is ---- */

TEST(more_items_than_any_memory_holds)
{
    int item = 0;
    void *values;
    size_t count;
    twill_report report;
#define TOO_MANY(n, ...)                                                                          \
    CHECK_EQ(twill_batch_process(&item, 1, NULL, 0, n, act,                                       \
                                 &OPTIONS(.run.report = &report, .run.workers = 1, __VA_ARGS__)), \
             TWILL_NO_MEMORY);                                                                    \
    CHECK_EQ(report.status, TWILL_NO_MEMORY);                                                     \
    CHECK_EQ(report.skipped, n)
    TOO_MANY(SIZE_MAX / 16, .max_items = SIZE_MAX, .attempts = 2);
    TOO_MANY(SIZE_MAX / 16, .max_items = 1, .attempts = 2, .backoff = 1);
    TOO_MANY(SIZE_MAX / 64, .max_items = 1, .attempts = 2, .backoff = 1);
    TOO_MANY(SIZE_MAX / 8, .max_items = 1, .attempts = 2, .backoff = 1);
    CHECK_EQ(twill_batch_flat_map(&item, 1, SIZE_MAX / 4, spread, sizeof item, &values, &count,
                                  &OPTIONS(.max_items = 1)),
             TWILL_NO_MEMORY);
    CHECK_PTR(values, NULL);
}

static int emits_too_much(const twill_batch *batch, const twill_task *task)
{
    int value = 1;
    (void)batch;
    CHECK_EQ(twill_batch_emit(task, NULL), TWILL_INVALID);
    CHECK_EQ(twill_batch_emit(task, &value), TWILL_NO_MEMORY);
    return *(const int *)task->context; /* it may say so, or not */
}

TEST(a_value_that_no_memory_holds)
{
    for (int code = 0; code < 2; code++) {
        int item = 0;
        void *values;
        size_t count;
        twill_report report;
        CHECK_EQ(twill_batch_flat_map(&item, sizeof item, 1, emits_too_much, SIZE_MAX - 8, &values,
                                      &count,
                                      &OPTIONS(.run.report = &report, .run.context = &code)),
                 TWILL_NO_MEMORY);
        CHECK_PTR(values, NULL);
        CHECK_EQ(count, 0);
        CHECK_EQ(report.done, 0);
        CHECK_EQ(faults_live(), 0);
    }
}

static size_t big_at_7(const void *item, const twill_task *task)
{
    (void)task;
    return *(const int *)item == 7 ? 100 : 1;
}

/* 64 batches: the list of where they begin is full when its end is put behind it. */
TEST(allocation_k_fails_while_batches_are_cut)
{
    for (unsigned long k = 1;; k++) {
        plan *p = plan_of(64);
        twill_report report;
        bool all;
        twill_status status;
        faults_fail_alloc(k);
        status = twill_batch_process(p->items, sizeof *p->items, NULL, 0, 64, act,
                                     &OPTIONS(.run.context = p, .run.report = &report,
                                              .max_bytes = 10, .max_items = 1, .attempts = 2,
                                              .bytes_of = big_at_7, .run.workers = 1));
        all = faults_allocs() < k;
        CHECK_EQ(status, all ? TWILL_FAILED : TWILL_NO_MEMORY);
        CHECK_EQ(report.done, all ? 63 : 0);
        CHECK_EQ(report.failed, all);
        CHECK_EQ(atomic_load(&p->calls), all ? 63 : 0);
        harness_reset_faults();
        CHECK_EQ(faults_live(), 0);
        free(p);
        if (all)
            break;
    }
}

TEST(allocation_k_fails)
{
    for (int form = 0; form < 4; form++)
        for (unsigned long k = 1;; k++) {
            plan *p = plan_of(600);
            void *values = NULL;
            size_t count = 0;
            twill_report report;
            twill_status status;
            twill_batch_options options =
                OPTIONS(.run.workers = 2, .run.context = p, .run.report = &report, .attempts = 2,
                        .max_items = 200, .on_bad_batch = TWILL_BAD_BATCH_BISECT,
                        .backoff = form % 2 ? TWILL_US(1) : 0);
            p->fails[10] = p->fails[590] = 1;
            if (form >= 2) {
                options.max_bytes = 500;
                options.bytes_of = bytes_of;
                options.max_items = 0;
            }
            faults_fail_alloc(k);
            if (form == 1)
                status = twill_batch_flat_map(p->items, sizeof *p->items, 600, spread, sizeof(int),
                                              &values, &count, &options);
            else
                status =
                    twill_batch_process(p->items, sizeof *p->items, NULL, 0, 600, act, &options);
            if (faults_allocs() < k) {
                CHECK_EQ(status, TWILL_OK);
                CHECK_EQ(report.done, 600);
                k = 0;
            } else {
                CHECK_EQ(status, TWILL_NO_MEMORY);
                CHECK_EQ(report.status, TWILL_NO_MEMORY);
                CHECK_EQ(report.total, report.done + report.failed + report.skipped);
                CHECK_PTR(values, NULL);
                if (form != 1)
                    CHECK_EQ(atomic_load(&p->calls), 0);
            }
            twill_batch_free(values);
            faults_fail_alloc(0);
            harness_reset_faults();
            CHECK_EQ(faults_live(), 0);
            free(p);
            if (k == 0)
                break;
        }
}

TEST(thread_k_fails)
{
    for (unsigned long k = 1; k <= 4; k++) {
        plan *p = plan_of(500);
        outcome *out;
        faults_fail_thread(k);
        out = run(p, OPTIONS(.run.workers = 4, .max_items = 5));
        CHECK_EQ(out->status, TWILL_OK);
        CHECK_EQ(out->report.done, 500);
        CHECK_EQ(out->report.flags & TWILL_REPORT_DEGRADED, k < 4 ? TWILL_REPORT_DEGRADED : 0);
        finish(p, out);
        p = plan_of(500);
        faults_fail_thread(k);
        out = run(p, OPTIONS(.run.workers = 4, .run.strict = true, .max_items = 5));
        CHECK_EQ(out->status, k < 4 ? TWILL_NO_THREAD : TWILL_OK);
        finish(p, out);
    }
}

HARNESS_MAIN
