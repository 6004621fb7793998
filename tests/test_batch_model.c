/* test_batch_model.c - whole runs of twill_batch_process against a model: which calls are made, of
   which items, and when, to the nanosecond: on a clock that only sleeps and callbacks move. */
#include "harness.h"
#include "virtual_time.h"

#define TWILL__TICKS 0
#define TWILL_IMPLEMENTATION
#include "twill_batch_processing.h"

#if VIRTUAL_TIME

enum { MOST = 40, CALLS = 4000, NEVER = 1000 };

/* ---- what is to happen ---- */

typedef struct item {
    int code;           /* of a call in which it fails */
    unsigned fails;     /* in its first so many attempts; NEVER: in all */
    unsigned forgotten; /* at this attempt it alone is not set; 0: never */
    size_t bytes;
} item;

typedef struct call {
    twill_ns at;
    unsigned attempt;
    size_t first, count;
    uint64_t items; /* a bit for each */
} call;

typedef struct plan {
    item items[MOST];
    size_t n;
    bool together; /* nobody says which items are bad */
    twill_ns takes;
    twill_batch_options options;
} plan;

typedef struct outcome {
    call calls[CALLS];
    size_t count;
    twill_status statuses[MOST];
    int codes[MOST];
    int results[MOST];
    twill_ns ended;
} outcome;

static plan the;
static outcome real, model;

static void note(outcome *o, call now)
{
    if (o->count < CALLS)
        o->calls[o->count] = now;
    o->count++;
}

/* ---- what happens ---- */

static int process(twill_batch *batch, const twill_task *task)
{
    call now = {virtual_now, batch->attempt, batch->first, batch->count, 0};
    int code = 0;

    (void)task;
    for (size_t i = 0; i < batch->count; i++) {
        const item *one = twill_batch_item(batch, i);
        int *result = twill_batch_result(batch, i);
        size_t index = (size_t)(one - the.items);
        bool bad = one->fails >= batch->attempt;
        now.items |= (uint64_t)1 << index;
        CHECK_EQ(*result, 0);
        *result = (int)(100 * index + batch->attempt);
        if (the.together && bad)
            code = code ? code : one->code;
        else if (!the.together && one->forgotten != batch->attempt)
            twill_batch_set(batch, i, bad ? one->code : 0);
    }
    CHECK(twill_batch_item(batch, batch->count) == NULL);
    CHECK(twill_batch_result(batch, batch->count) == NULL);
    twill_batch_set(batch, batch->count, 99);
    CHECK((batch->array != NULL) == (batch->attempt == 1 && batch->results != NULL));
    note(&real, now);
    virtual_now += the.takes;
    return code;
}

static size_t bytes_of(const void *one, const twill_task *task)
{
    CHECK_EQ(task->index, (const item *)one - the.items);
    return ((const item *)one)->bytes;
}

static bool may_go_again(const void *one, int code, const twill_task *task)
{
    CHECK_EQ(task->index, (const item *)one - the.items);
    CHECK_EQ(code, the.items[task->index].code);
    return code % 4 != 0;
}

/* ---- the model ---- */

typedef struct waiting {
    twill_ns due;
    size_t place;
    unsigned attempt;
    bool there;
} waiting;

static size_t begins[MOST + 1], batches;
static bool big[MOST], again[MOST], alone[MOST];
static waiting line[MOST];
static twill_ns now;

static void model_cut(void)
{
    size_t max = the.options.max_items ? the.options.max_items : 100, sum = 0, begin = 0;
    bool closed = true;

    batches = 0;
    memset(big, 0, sizeof big);
    for (size_t i = 0; i < the.n; i++) {
        size_t bytes = the.options.max_bytes ? the.items[i].bytes : 0;
        bool too_big = the.options.max_bytes && bytes > the.options.max_bytes;
        if (closed || too_big || i - begin == max ||
            (the.options.max_bytes && sum + bytes > the.options.max_bytes)) {
            begins[batches++] = begin = i;
            sum = 0;
        }
        closed = too_big;
        sum += bytes;
        big[i] = too_big && !the.options.oversized_alone;
    }
    begins[batches] = the.n;
}

static void model_end(size_t i, twill_status status, int code)
{
    model.statuses[i] = status;
    model.codes[i] = code;
}

static void model_failed(size_t i, int code, unsigned attempt, bool by_itself)
{
    unsigned attempts = the.options.attempts ? the.options.attempts : 1;

    if (attempt < attempts && (!the.options.retryable || code % 4 != 0)) {
        again[i] = true;
        alone[i] = by_itself;
    } else {
        model_end(i, TWILL_FAILED, code);
    }
}

/* Calls for the items of a list, and what follows from it at once. */
static void model_call(const size_t *list, size_t count, unsigned attempt)
{
    call made = {now, attempt, list[0], count, 0};
    int code = 0;

    for (size_t i = 0; i < count; i++) {
        const item *one = &the.items[list[i]];
        made.items |= (uint64_t)1 << list[i];
        model.results[list[i]] = (int)(100 * list[i] + attempt);
        if (the.together && one->fails >= attempt && !code)
            code = one->code;
    }
    note(&model, made);
    now += the.takes;
    for (size_t i = 0; i < count && !code; i++) {
        const item *one = &the.items[list[i]];
        bool some = false;
        for (size_t k = 0; k < count; k++)
            some |= !the.together && the.items[list[k]].forgotten != attempt;
        if (!the.together && some && one->forgotten == attempt)
            model_end(list[i], TWILL_LOST, 0);
        else if (!the.together && some && one->fails >= attempt)
            model_failed(list[i], one->code, attempt,
                         the.options.on_bad_batch == TWILL_BAD_BATCH_BISECT && count == 1);
        else
            model_end(list[i], TWILL_OK, 0);
    }
    if (!code)
        return;
    if (the.options.on_bad_batch == TWILL_BAD_BATCH_BISECT && count > 1) {
        model_call(list, (count + 1) / 2, attempt);
        model_call(list + (count + 1) / 2, count / 2, attempt);
        return;
    }
    for (size_t i = 0; i < count; i++)
        if (the.options.on_bad_batch == TWILL_BAD_BATCH_FAIL)
            model_end(list[i], TWILL_FAILED, code);
        else
            model_failed(list[i], code, attempt,
                         the.options.on_bad_batch == TWILL_BAD_BATCH_BISECT);
}

/* One attempt for what waits in a batch: together, then those that are called alone. */
static void model_round(size_t place, unsigned attempt)
{
    size_t list[MOST], singles[MOST], count = 0, single = 0;

    for (size_t i = begins[place]; i < begins[place + 1]; i++) {
        if (again[i] && alone[i])
            singles[single++] = i;
        else if (again[i])
            list[count++] = i;
        again[i] = false;
    }
    if (count)
        model_call(list, count, attempt);
    for (size_t i = 0; i < single; i++)
        model_call(&singles[i], 1, attempt);
}

static void model_go_on(size_t place, unsigned attempt)
{
    twill__backoff shape = twill__batch_shape(&the.options);
    bool any = false;

    for (size_t i = begins[place]; i < begins[place + 1]; i++)
        any |= again[i];
    if (!any)
        return;
    if (!the.options.backoff) {
        model_round(place, attempt + 1);
        model_go_on(place, attempt + 1);
        return;
    }
    line[place].due = now + twill__batch_delay(&shape, the.options.seed, place, attempt + 1);
    line[place].place = place;
    line[place].attempt = attempt + 1;
    line[place].there = true;
}

/* The one that is due first, not after `until`. */
static bool model_due(twill_ns until)
{
    waiting *first = NULL;

    for (size_t k = 0; k < batches; k++)
        if (line[k].there && line[k].due <= until && (!first || line[k].due < first->due))
            first = &line[k];
    if (!first)
        return false;
    first->there = false;
    now = now > first->due ? now : first->due;
    model_round(first->place, first->attempt);
    model_go_on(first->place, first->attempt);
    return true;
}

static void model_run(void)
{
    memset(line, 0, sizeof line);
    memset(again, 0, sizeof again);
    model_cut();
    for (size_t k = 0; k < batches; k++) {
        size_t list[MOST], count = 0;
        while (model_due(now))
            continue;
        for (size_t i = begins[k]; i < begins[k + 1]; i++)
            list[count++] = i;
        if (big[begins[k]]) {
            model_end(begins[k], TWILL_TOO_BIG, 0);
            continue;
        }
        model_call(list, count, 1);
        model_go_on(k, 1);
    }
    while (model_due(TWILL_FOREVER))
        continue;
    model.ended = now;
}

/* ---- both ---- */

static void compare(void)
{
    twill_report report;
    twill_item_error errors[3];
    size_t done = 0, failed = 0, lowest = SIZE_MAX;
    twill_ns begun = virtual_now;
    twill_status status;

    memset(&real, 0, sizeof real);
    memset(&model, 0, sizeof model);
    now = begun;
    model_run();
    the.options.run.workers = 1;
    the.options.run.report = &report;
    the.options.run.statuses = real.statuses;
    the.options.run.codes = real.codes;
    the.options.run.errors = errors;
    the.options.run.errors_capacity = 3;
    status = twill_batch_process(the.items, sizeof(item), real.results, sizeof(int), the.n, process,
                                 &the.options);
    for (size_t i = 0; i < the.n; i++) {
        done += model.statuses[i] == TWILL_OK;
        failed += model.statuses[i] != TWILL_OK;
        if (model.statuses[i] != TWILL_OK && failed <= 3) {
            CHECK_EQ(errors[failed - 1].index, i);
            CHECK_EQ(errors[failed - 1].status, model.statuses[i]);
            CHECK_EQ(errors[failed - 1].code, model.codes[i]);
        }
        if (model.statuses[i] != TWILL_OK && lowest == SIZE_MAX)
            lowest = i;
        CHECK_EQ(real.statuses[i], model.statuses[i]);
        CHECK_EQ(real.codes[i], model.codes[i]);
        CHECK_EQ(real.results[i], model.results[i]);
    }
    CHECK_EQ(status, failed ? TWILL_FAILED : TWILL_OK);
    CHECK_EQ(report.status, status);
    CHECK_EQ(report.total, the.n);
    CHECK_EQ(report.done, done);
    CHECK_EQ(report.failed, failed);
    CHECK_EQ(report.skipped, 0);
    CHECK_EQ(report.errors_stored, failed < 3 ? failed : 3);
    if (failed) {
        CHECK_EQ(report.first_error.index, lowest);
        CHECK_EQ(report.first_error.code, model.codes[lowest]);
    }
    CHECK_EQ(report.chunks, model.count);
    CHECK_EQ(report.wall, model.ended - begun);
    CHECK_EQ(virtual_now, model.ended);
    if (!CHECK_EQ(real.count, model.count))
        return;
    for (size_t k = 0; k < real.count && k < CALLS; k++) {
        CHECK_EQ(real.calls[k].at - begun, model.calls[k].at - begun);
        CHECK_EQ(real.calls[k].attempt, model.calls[k].attempt);
        CHECK_EQ(real.calls[k].first, model.calls[k].first);
        CHECK_EQ(real.calls[k].count, model.calls[k].count);
        CHECK_EQ(real.calls[k].items, model.calls[k].items);
    }
}

static void draw(void)
{
    static const twill_ns backoffs[] = {0, 1, 1000, 50000};

    memset(&the, 0, sizeof the);
    the.n = (size_t)test_random_below(MOST) + 1;
    the.together = test_random_below(2);
    the.takes = (twill_ns)test_random_below(3) * 700;
    the.options.max_items = (size_t)test_random_below(9);
    the.options.attempts = (unsigned)test_random_below(6);
    the.options.backoff = backoffs[test_random_below(4)];
    the.options.backoff_max = test_random_below(2) ? 3000 : 0;
    the.options.seed = test_random() | 1;
    the.options.on_bad_batch = (twill_bad_batch)test_random_below(3);
    the.options.retryable = test_random_below(3) ? NULL : may_go_again;
    if (test_random_below(2)) {
        the.options.bytes_of = bytes_of;
        the.options.max_bytes = 1 + (size_t)test_random_below(30);
        the.options.oversized_alone = test_random_below(2);
    }
    for (size_t i = 0; i < the.n; i++) {
        item *one = &the.items[i];
        uint64_t kind = test_random_below(8);
        one->code = 1 + (int)test_random_below(9);
        one->fails = kind < 4 ? 0 : kind == 4 ? NEVER : (unsigned)test_random_below(6);
        one->forgotten = test_random_below(10) ? 0 : 1 + (unsigned)test_random_below(3);
        one->bytes = (size_t)test_random_below(12);
        /* so that a callback can say of a whole batch which code it was */
        if (the.options.retryable && the.together)
            one->code = 1;
    }
}

TEST(every_call_of_a_run_is_the_models)
{
    for (int round = 0; round < 1500; round++) {
        draw();
        compare();
    }
}

TEST(batches_that_wait_go_in_the_order_of_their_instants)
{
    for (int round = 0; round < 200; round++) {
        draw();
        the.n = MOST;
        the.together = false;
        the.options.max_items = 2;
        the.options.max_bytes = 0;
        the.options.bytes_of = NULL;
        the.options.oversized_alone = false;
        the.options.retryable = NULL;
        the.options.attempts = 4;
        the.options.backoff = 2000;
        for (size_t i = 0; i < the.n; i++) {
            the.items[i].code = 5;
            the.items[i].fails = NEVER;
        }
        compare();
    }
}

#else

TEST(every_call_of_a_run_is_the_models)
{
    SKIP("time is virtual where waiting is a futex alone");
}

#endif

HARNESS_MAIN
