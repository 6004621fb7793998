/* test_batcher_model.c - what a batcher does with one lot, call by call, against a model; merges
   and figures that are exact; and ends that are rare. */
#define HARNESS_FAULTS
#include "harness.h"

#include "twill_batch_processing.h"
#include "twill_worker_pool.h"

#include "pool_kit.h"

#ifdef TWILL_USE_PTHREAD
#define END_THREAD() pthread_exit(NULL)
#else
#define END_THREAD() thrd_exit(0)
#endif
#define OPTIONS(...) (&(twill_batch_options){__VA_ARGS__})

enum { MOST = 40, CALLS = 4000, NEVER = 1000 };

static struct gate gate;

static twill_batcher *batcher_of(twill_batch_fn *fn, const twill_batch_options *options)
{
    twill_batcher *batcher = NULL;

    memset(&gate, 0, sizeof gate);
    CHECK_EQ(twill_batcher_create(&batcher, fn, options), TWILL_OK);
    return batcher;
}

static twill_batcher_stats stats_now(twill_batcher *batcher)
{
    twill_batcher_stats stats;

    twill_batcher_get_stats(batcher, &stats);
    CHECK_EQ(stats.added, stats.done + stats.failed + stats.timed_out + stats.cancelled +
                              stats.dropped + stats.lost + stats.pending);
    return stats;
}

/* ---- one lot: the calls that are made for it ---- */

typedef struct unit {
    int code;           /* of a call in which it fails */
    unsigned fails;     /* in its first so many attempts; NEVER: in all */
    unsigned forgotten; /* at this attempt it alone is not set; 0: never */
} unit;

typedef struct call {
    unsigned attempt;
    size_t first, count;
    uint64_t items; /* a bit for each */
} call;

typedef struct history {
    call calls[CALLS];
    size_t count;
    twill_status status[MOST];
    int code[MOST], result[MOST];
    unsigned attempts[MOST], told[MOST];
    uint64_t retried;
} history;

static struct {
    unit items[MOST];
    size_t n;
    bool together; /* nobody says which items are bad */
    twill_batch_options options;
} the;
static history real, model;
static bool again[MOST], alone[MOST];

static void note_call(history *o, call made)
{
    if (o->count < CALLS)
        o->calls[o->count] = made;
    o->count++;
}

static int process(twill_batch *batch, const twill_task *task)
{
    call made = {batch->attempt, batch->first, batch->count, 0};
    int code = 0;

    (void)task;
    for (size_t i = 0; i < batch->count; i++) {
        const unit *one = twill_batch_item(batch, i);
        int *result = twill_batch_result(batch, i);
        size_t index = (size_t)(one - the.items);
        bool bad = one->fails >= batch->attempt;
        made.items |= (uint64_t)1 << index;
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
    CHECK(batch->array == NULL && batch->results == NULL);
    note_call(&real, made);
    return code;
}

static void told(void *one, const twill_outcome *outcome, void *result, const twill_task *task)
{
    size_t i = (size_t)((unit *)one - the.items);

    CHECK_EQ(outcome->index, i);
    CHECK_EQ(task->index, i);
    CHECK(outcome->key == one);
    CHECK(outcome->queued <= outcome->started && outcome->started <= outcome->finished);
    real.told[i]++;
    real.status[i] = outcome->status;
    real.code[i] = outcome->code;
    real.attempts[i] = outcome->attempts;
    real.result[i] = *(int *)result;
}

static void model_end(size_t i, twill_status status, int code, unsigned attempt)
{
    model.status[i] = status;
    model.code[i] = code;
    model.attempts[i] = attempt;
    model.told[i] = 1;
}

static void model_failed(size_t i, int code, unsigned attempt, bool by_itself)
{
    unsigned attempts = the.options.attempts ? the.options.attempts : 1;

    if (attempt < attempts) {
        again[i] = true;
        alone[i] = by_itself;
    } else {
        model_end(i, TWILL_FAILED, code, attempt);
    }
}

static void model_call(const size_t *list, size_t count, unsigned attempt)
{
    call made = {attempt, list[0], count, 0};
    bool some = false, bisects = the.options.on_bad_batch == TWILL_BAD_BATCH_BISECT;
    int code = 0;

    for (size_t i = 0; i < count; i++) {
        const unit *one = &the.items[list[i]];
        made.items |= (uint64_t)1 << list[i];
        model.result[list[i]] = (int)(100 * list[i] + attempt);
        if (the.together && one->fails >= attempt && !code)
            code = one->code;
        some |= !the.together && one->forgotten != attempt;
    }
    note_call(&model, made);
    for (size_t i = 0; i < count && !code; i++) {
        const unit *one = &the.items[list[i]];
        if (some && one->forgotten == attempt)
            model_end(list[i], TWILL_LOST, 0, attempt);
        else if (some && one->fails >= attempt)
            model_failed(list[i], one->code, attempt, bisects && count == 1);
        else
            model_end(list[i], TWILL_OK, 0, attempt);
    }
    if (!code)
        return;
    if (bisects && count > 1) {
        model_call(list, (count + 1) / 2, attempt);
        model_call(list + (count + 1) / 2, count / 2, attempt);
        return;
    }
    for (size_t i = 0; i < count; i++)
        if (the.options.on_bad_batch == TWILL_BAD_BATCH_FAIL)
            model_end(list[i], TWILL_FAILED, code, attempt);
        else
            model_failed(list[i], code, attempt, bisects);
}

static void model_run(void)
{
    bool any = true;

    memset(again, 1, sizeof again);
    memset(alone, 0, sizeof alone);
    for (unsigned attempt = 1; any; attempt++) {
        size_t list[MOST], singles[MOST], count = 0, single = 0;
        for (size_t i = 0; i < the.n; i++) {
            if (again[i] && alone[i])
                singles[single++] = i;
            else if (again[i])
                list[count++] = i;
            again[i] = false;
        }
        if (attempt > 1)
            model.retried += count + single;
        if (count)
            model_call(list, count, attempt);
        for (size_t i = 0; i < single; i++)
            model_call(&singles[i], 1, attempt);
        any = false;
        for (size_t i = 0; i < the.n; i++)
            any |= again[i];
    }
}

static void compare(void)
{
    twill_batcher *batcher;
    twill_batcher_stats stats;
    uint64_t ends[TWILL_LOST + 1] = {0};

    memset(&real, 0, sizeof real);
    memset(&model, 0, sizeof model);
    model_run();
    the.options.max_items = the.n;
    the.options.linger = TWILL_FOREVER;
    the.options.result_size = sizeof(int);
    the.options.on_item = told;
    batcher = batcher_of(process, &the.options);
    for (size_t i = 0; i < the.n; i++)
        CHECK_EQ(twill_batcher_add(batcher, &the.items[i], NULL), TWILL_OK);
    CHECK_EQ(twill_batcher_flush(batcher), TWILL_OK);
    for (size_t i = 0; i < the.n; i++) {
        ends[model.status[i]]++;
        CHECK_EQ(real.told[i], 1);
        CHECK_EQ(real.status[i], model.status[i]);
        CHECK_EQ(real.code[i], model.code[i]);
        CHECK_EQ(real.attempts[i], model.attempts[i]);
        CHECK_EQ(real.result[i], model.result[i]);
    }
    stats = stats_now(batcher);
    CHECK_EQ(stats.added, the.n);
    CHECK_EQ(stats.done, ends[TWILL_OK]);
    CHECK_EQ(stats.failed, ends[TWILL_FAILED]);
    CHECK_EQ(stats.lost, ends[TWILL_LOST]);
    CHECK_EQ(stats.pending, 0);
    CHECK_EQ(stats.pending_peak, the.n);
    CHECK_EQ(stats.batches, 1);
    CHECK_EQ(stats.by_count, 1);
    CHECK_EQ(stats.calls, model.count);
    CHECK_EQ(stats.retried, model.retried);
    CHECK_EQ(stats.merged, 0);
    CHECK(stats.mean_fill == 1.0);
    CHECK_EQ(twill_batcher_destroy(batcher), TWILL_OK);
    if (!CHECK_EQ(real.count, model.count))
        return;
    for (size_t k = 0; k < real.count && k < CALLS; k++) {
        CHECK_EQ(real.calls[k].attempt, model.calls[k].attempt);
        CHECK_EQ(real.calls[k].first, model.calls[k].first);
        CHECK_EQ(real.calls[k].count, model.calls[k].count);
        CHECK_EQ(real.calls[k].items, model.calls[k].items);
    }
}

TEST(the_calls_for_a_lot_are_the_models)
{
    for (int round = 0; round < 150; round++) {
        memset(&the, 0, sizeof the);
        the.n = (size_t)test_random_below(round % 3 ? 12 : MOST) + 1;
        the.together = test_random_below(2);
        the.options.attempts = (unsigned)test_random_below(5);
        the.options.on_bad_batch = (twill_bad_batch)test_random_below(3);
        for (size_t i = 0; i < the.n; i++) {
            uint64_t kind = test_random_below(8);
            the.items[i].code = 1 + (int)test_random_below(9);
            the.items[i].fails = kind < 4 ? 0 : kind == 4 ? NEVER : (unsigned)test_random_below(5);
            the.items[i].forgotten = test_random_below(10) ? 0 : 1 + (unsigned)test_random_below(3);
        }
        compare();
    }
}

/* ---- merges ---- */

static struct {
    size_t items, calls;
    uint64_t keys; /* a bit for each key in the last call */
} seen;

static uint64_t key_of(const void *one, const twill_task *task)
{
    (void)task;
    return *(const uint64_t *)one;
}

static int sees(twill_batch *batch, const twill_task *task)
{
    (void)task;
    CHECK(batch->count > 0);
    seen.calls++;
    seen.items += batch->count;
    seen.keys = 0;
    for (size_t i = 0; i < batch->count; i++) {
        uint64_t bit = (uint64_t)1 << *(const uint64_t *)twill_batch_item(batch, i);
        CHECK(!(seen.keys & bit)); /* no key twice */
        seen.keys |= bit;
    }
    return 0;
}

TEST(equal_keys_of_an_open_lot_are_one_item_whatever_lies_between)
{
    static uint64_t keys[300];

    for (uint64_t distinct = 1; distinct < 64; distinct += 9) {
        twill_batcher *batcher =
            batcher_of(sees, OPTIONS(.max_items = 300, .linger = TWILL_FOREVER, .key_of = key_of,
                                     .coalesce = true, .capacity = 1000));
        twill_batcher_stats stats;
        uint64_t all = 0, count = 0;
        memset(&seen, 0, sizeof seen);
        for (size_t i = 0; i < 300; i++) {
            keys[i] = test_random_below(distinct);
            count += !(all >> keys[i] & 1);
            all |= (uint64_t)1 << keys[i];
            CHECK_EQ(twill_batcher_add(batcher, &keys[i], NULL), TWILL_OK);
        }
        CHECK_EQ(twill_batcher_flush(batcher), TWILL_OK);
        stats = stats_now(batcher);
        CHECK_EQ(seen.calls, 1);
        CHECK_EQ(seen.items, count);
        CHECK_EQ(seen.keys, all);
        CHECK_EQ(stats.merged, 300 - count);
        CHECK_EQ(stats.done, 300);
        CHECK_EQ(stats.batches, 1);
        CHECK_EQ(stats.by_flush, 1);
        CHECK_EQ(stats.pending_peak, 300);
        CHECK_EQ(twill_batcher_destroy(batcher), TWILL_OK);
    }
}

static atomic_uint sevens;

static int says_7(twill_batch *batch, const twill_task *task)
{
    (void)batch, (void)task;
    atomic_fetch_add(&sevens, 1);
    return 7;
}

/* Two items are one; the call for them has failed, and the first is taken back before it is tried
   again: the second one still knows how the call was. */
TEST(who_takes_the_place_of_another_one_has_failed_as_it_has)
{
    static uint64_t item[2] = {5, 5};
    twill_batcher *batcher =
        batcher_of(says_7, OPTIONS(.max_items = 9, .linger = TWILL_MS(2), .key_of = key_of,
                                   .coalesce = true, .attempts = 2, .backoff = TWILL_SEC(3600),
                                   .backoff_max = TWILL_SEC(3600), .seed = 11));
    twill_future future[2];
    twill_outcome outcome;
    atomic_store(&sevens, 0);
    CHECK_EQ(twill_batcher_add(batcher, &item[0], &future[0]), TWILL_OK);
    CHECK_EQ(twill_batcher_add(batcher, &item[1], &future[1]), TWILL_OK);
    while (!atomic_load(&sevens) ||
           twill_future_try_wait(future[0], NULL, &outcome) != TWILL_FAILED) {
        if (atomic_load(&sevens))
            (void)twill_future_cancel(future[0]); /* once it is out of the call */
        twill_sleep(twill_within(TWILL_US(50)));
    }
    CHECK_EQ(outcome.status, TWILL_CANCELLED);
    (void)twill_batcher_stop(batcher, twill_within(0), twill_within(TWILL_SEC(100)), NULL);
    CHECK_EQ(twill_future_wait(future[1], NULL, &outcome), TWILL_FAILED);
    if (outcome.status ==
        TWILL_FAILED) /* else its lot had left without it, and it was not called */
        CHECK_EQ(outcome.code, 7);
    for (int k = 0; k < 2; k++)
        twill_future_release(future[k]);
    CHECK_EQ(twill_batcher_destroy(batcher), TWILL_OK);
}

/* One entry is all that there is, and it holds all the room: it must leave although its lot could
   take more. */
TEST(a_lot_that_cannot_grow_leaves_although_it_is_not_full)
{
    static uint64_t keys[4];
    static const twill_overflow overflows[] = {TWILL_OVERFLOW_REJECT, TWILL_OVERFLOW_DROP_INCOMING,
                                               TWILL_OVERFLOW_BLOCK};

    for (int k = 0; k < 3; k++) {
        twill_batcher *batcher =
            batcher_of(sees, OPTIONS(.max_items = 3, .linger = TWILL_FOREVER, .key_of = key_of,
                                     .coalesce = true, .capacity = 3, .overflow = overflows[k]));
        twill_status status;
        twill_ns end = twill_now() + TWILL_SEC(100);
        memset(&seen, 0, sizeof seen);
        for (int i = 0; i < 3; i++)
            CHECK_EQ(twill_batcher_add(batcher, &keys[i], NULL), TWILL_OK);
        CHECK_EQ(stats_now(batcher).batches, 0);
        status = twill_batcher_add(batcher, &keys[3], NULL);
        CHECK_EQ(status, k == 0 ? TWILL_FULL : k == 1 ? TWILL_DROPPED : TWILL_OK);
        while (stats_now(batcher).done < 3 && twill_now() < end)
            (void)twill_sleep(twill_within(TWILL_US(100)));
        CHECK_EQ(stats_now(batcher).done, 3);
        CHECK_EQ(stats_now(batcher).refused, k == 0);
        CHECK_EQ(stats_now(batcher).dropped, k == 1);
        CHECK_EQ(stats_now(batcher).by_count, 1);
        CHECK_EQ(twill_batcher_destroy(batcher), TWILL_OK);
        CHECK_EQ(seen.calls, k == 2 ? 2 : 1);
    }
}

/* ---- who waits for room ---- */

static atomic_size_t sizes[16], size_count;

static int at_the_gate(twill_batch *batch, const twill_task *task)
{
    (void)task;
    CHECK(batch->count > 0);
    atomic_store(&sizes[atomic_fetch_add(&size_count, 1) % 16], batch->count);
    return gate_wait(&gate) ? 0 : 1;
}

static void *adds_one(void *batcher)
{
    static int one;

    return (void *)(intptr_t)twill_batcher_add(batcher, &one, NULL);
}

/* While something is in a call, the open lot goes on to wait for more. */
TEST(who_waits_for_room_does_not_cut_the_open_lot)
{
    static int items[5];
    twill_batcher *batcher;
    void *answer;
    pthread_t thread;

    atomic_store(&size_count, 0);
    batcher =
        batcher_of(at_the_gate, OPTIONS(.max_items = 4, .linger = TWILL_FOREVER, .capacity = 5));
    for (int i = 0; i < 5; i++)
        CHECK_EQ(twill_batcher_add(batcher, &items[i], NULL), TWILL_OK);
    CHECK(gate_inside(&gate, 1));
    CHECK_EQ(twill_batcher_try_add(batcher, &items[0], NULL), TWILL_FULL);
    CHECK_EQ(twill_batcher_add_until(batcher, &items[0], NULL, twill_within(TWILL_MS(2))),
             TWILL_TIMEOUT);
    CHECK_EQ(pthread_create(&thread, NULL, adds_one, batcher), 0);
    (void)twill_sleep(twill_within(TWILL_MS(5)));
    gate_open(&gate);
    CHECK_EQ(pthread_join(thread, &answer), 0);
    CHECK_EQ((intptr_t)answer, TWILL_OK);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(twill_batcher_add(batcher, &items[i], NULL), TWILL_OK);
    CHECK_EQ(twill_batcher_destroy(batcher), TWILL_OK);
    CHECK_EQ(atomic_load(&size_count), 2);
    CHECK_EQ(atomic_load(&sizes[0]), 4);
    CHECK_EQ(atomic_load(&sizes[1]), 4);
}

/* More than a turn under the lock can note. */
TEST(a_close_answers_any_number_of_those_who_wait)
{
    enum { WAIT = 40 };
    static int item;
    twill_batcher *batcher =
        batcher_of(at_the_gate, OPTIONS(.max_items = 1, .linger = TWILL_FOREVER, .capacity = 1));
    pthread_t thread[WAIT];

    CHECK_EQ(twill_batcher_add(batcher, &item, NULL), TWILL_OK);
    CHECK(gate_inside(&gate, 1));
    for (int i = 0; i < WAIT; i++)
        CHECK_EQ(pthread_create(&thread[i], NULL, adds_one, batcher), 0);
    (void)twill_sleep(twill_within(TWILL_MS(30)));
    CHECK_EQ(twill_batcher_close(batcher), TWILL_OK);
    for (int i = 0; i < WAIT; i++) {
        void *answer;
        CHECK_EQ(pthread_join(thread[i], &answer), 0);
        CHECK_EQ((intptr_t)answer, TWILL_CLOSED);
    }
    gate_open(&gate);
    CHECK_EQ(twill_batcher_destroy(batcher), TWILL_OK);
}

static uint64_t ran_on;

static int notes_its_thread(twill_batch *batch, const twill_task *task)
{
    (void)batch, (void)task;
    ran_on = thread_mark();
    return 0;
}

/* Who has a deadline or a token may overrun it in another's batch: a stranger to the pool waits. */
TEST(a_stranger_with_a_limit_does_not_work_for_the_pool)
{
    static int items[2];
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 1});
    twill_cancel token;
    struct gate held;

    memset(&held, 0, sizeof held);
    twill_cancel_init(&token, NULL);
    CHECK_EQ(twill_pool_submit(pool, at_gate, &held, NULL, NULL), TWILL_OK);
    CHECK(gate_inside(&held, 1));
    for (int k = 0; k < 3; k++) {
        twill_until until = twill_within(TWILL_MS(10));
        twill_batcher *batcher = batcher_of(
            notes_its_thread, OPTIONS(.run.pool = pool, .max_items = 1, .linger = TWILL_FOREVER));
        ran_on = 0;
        if (k == 1)
            until.cancel = &token;
        if (k == 2) {
            twill_cancel_fire(&token, 1);
            until = (twill_until){0, &token};
        }
        CHECK_EQ(twill_batcher_add(batcher, &items[0], NULL), TWILL_OK);
        CHECK_EQ(twill_batcher_flush_until(batcher, until),
                 k == 2 ? TWILL_CANCELLED : TWILL_TIMEOUT);
        CHECK_EQ(ran_on, 0);
        CHECK_EQ(twill_batcher_flush(batcher), TWILL_OK); /* no limit: it may, and must */
        CHECK_EQ(ran_on, thread_mark());
        CHECK_EQ(twill_batcher_destroy(batcher), TWILL_OK);
    }
    gate_open(&held);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    twill_cancel_detach(&token);
}

/* ---- rare ends ---- */

/* Whether a call has come to the gate before this item's time was over. */
static bool comes_before(twill_future future)
{
    while (!atomic_load(&gate.inside) && twill_future_try_wait(future, NULL, NULL) == TWILL_EMPTY)
        (void)twill_sleep(twill_within(TWILL_US(30)));
    return atomic_load(&gate.inside);
}

static bool ends_once(twill_ns time)
{
    static int item;
    twill_batcher *batcher = batcher_of(
        at_the_gate, OPTIONS(.max_items = 1, .linger = TWILL_MS(1), .item_timeout = time));
    twill_future future;
    twill_outcome outcome;
    twill_batcher_stats stats;
    bool in_time;

    CHECK_EQ(twill_batcher_add(batcher, &item, &future), TWILL_OK);
    in_time = comes_before(future);
    CHECK_EQ(twill_future_wait(future, NULL, &outcome), TWILL_FAILED);
    CHECK_EQ(outcome.status, TWILL_TIMEOUT);
    CHECK_EQ(twill_future_try_wait(future, NULL, &outcome), TWILL_FAILED);
    gate_open(&gate);
    CHECK_EQ(twill_batcher_flush(batcher), TWILL_OK);
    stats = stats_now(batcher);
    CHECK_EQ(stats.timed_out, 1);
    CHECK_EQ(stats.done, 0);
    CHECK_EQ(stats.pending, 0);
    CHECK_EQ(twill_future_wait(future, NULL, &outcome), TWILL_FAILED);
    CHECK_EQ(outcome.status, TWILL_TIMEOUT);
    twill_future_release(future);
    CHECK_EQ(twill_batcher_destroy(batcher), TWILL_OK);
    return in_time;
}

TEST(an_item_that_times_out_in_its_call_ends_once)
{
    CHECK(test_in_time(TWILL_MS(20), ends_once));
}

/* An item that waits, and whose time is over when somebody looks: that one ends it. */
static bool looked_at_late(twill_ns time)
{
    static int items[3];
    twill_batcher *batcher = batcher_of(at_the_gate, OPTIONS(.max_items = 1, .linger = TWILL_MS(1),
                                                             .capacity = 3, .item_timeout = time));
    twill_future future[3];
    twill_outcome outcome;
    twill_status status;
    bool in_time;

    for (int i = 0; i < 3; i++)
        CHECK_EQ(twill_batcher_add(batcher, &items[i], &future[i]), TWILL_OK);
    in_time = comes_before(future[2]);
    for (int i = 2; i > 0; i--) {
        do
            status = twill_future_try_wait(future[i], NULL, &outcome);
        while (status == TWILL_EMPTY);
        CHECK_EQ(status, TWILL_FAILED);
        CHECK_EQ(outcome.status, TWILL_TIMEOUT);
        CHECK_EQ(twill_future_try_wait(future[i], NULL, &outcome), TWILL_FAILED);
        CHECK_EQ(twill_future_cancel(future[i]), TWILL_OK);
        twill_future_release(future[i]);
    }
    CHECK(stats_now(batcher).timed_out >= 2);
    gate_open(&gate);
    twill_future_release(future[0]);
    CHECK_EQ(twill_batcher_destroy(batcher), TWILL_OK);
    return in_time;
}

TEST(who_looks_at_a_late_item_ends_it)
{
    CHECK(test_in_time(TWILL_MS(20), looked_at_late));
}

TEST(the_only_item_of_a_lot_is_taken_out)
{
    static uint64_t item;
    twill_batcher *batcher =
        batcher_of(sees, OPTIONS(.max_items = 10, .linger = TWILL_FOREVER, .capacity = 20));
    twill_future future;

    memset(&seen, 0, sizeof seen);
    for (int round = 0; round < 5; round++) {
        CHECK_EQ(twill_batcher_add(batcher, &item, &future), TWILL_OK);
        CHECK_EQ(twill_future_cancel(future), TWILL_OK);
        CHECK_EQ(twill_future_wait(future, NULL, NULL), TWILL_FAILED);
        twill_future_release(future);
        CHECK_EQ(twill_batcher_flush(batcher), TWILL_OK);
    }
    CHECK_EQ(stats_now(batcher).cancelled, 5);
    CHECK_EQ(stats_now(batcher).batches, 0);
    CHECK_EQ(twill_batcher_destroy(batcher), TWILL_OK);
    CHECK_EQ(seen.calls, 0);
}

static atomic_uint told_dropped;

static void ends_at_the_first(void *one, const twill_outcome *outcome, void *result,
                              const twill_task *task)
{
    (void)one, (void)result, (void)task;
    if (outcome->status == TWILL_DROPPED && atomic_fetch_add(&told_dropped, 1) == 0)
        END_THREAD();
}

static size_t bytes_of(const void *one, const twill_task *task)
{
    (void)task;
    return (size_t) * (const int *)one;
}

static void *adds_a_large_one(void *batcher)
{
    static uint64_t large = 3;

    (void)twill_batcher_add(batcher, &large, NULL);
    CHECK(false); /* on_item has ended this thread */
    return NULL;
}

/* Three small items make room for a large one. The thread that tells of it ends with the first. */
TEST(all_that_were_dropped_are_told_although_the_thread_ends)
{
    static uint64_t small[3] = {1, 1, 1};
    twill_batcher *batcher = batcher_of(
        sees, OPTIONS(.max_items = 10, .max_bytes = 4, .capacity_bytes = 3, .bytes_of = bytes_of,
                      .linger = TWILL_FOREVER, .overflow = TWILL_OVERFLOW_DROP_OLDEST,
                      .on_item = ends_at_the_first));
    pthread_t thread;

    memset(&seen, 0, sizeof seen);
    atomic_store(&told_dropped, 0);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(twill_batcher_add(batcher, &small[i], NULL), TWILL_OK);
    CHECK_EQ(pthread_create(&thread, NULL, adds_a_large_one, batcher), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(atomic_load(&told_dropped), 3);
    CHECK_EQ(stats_now(batcher).dropped, 3);
    CHECK_EQ(twill_batcher_destroy(batcher), TWILL_OK);
}

TEST(sizes_that_no_memory_has_are_too_big)
{
    twill_batcher *batcher;

    for (size_t capacity = SIZE_MAX; capacity > SIZE_MAX / 64; capacity /= 2) {
        twill_status status = twill_batcher_create(
            &batcher, sees, OPTIONS(.capacity = capacity, .key_of = key_of, .coalesce = true));
        CHECK(status == TWILL_TOO_BIG || status == TWILL_NO_MEMORY || status == TWILL_OK);
        if (status == TWILL_OK) {
            uint64_t key = 1;
            CHECK_EQ(twill_batcher_add(batcher, &key, NULL), TWILL_OK);
            CHECK_EQ(twill_batcher_destroy(batcher), TWILL_OK);
        }
    }
}

/* ---- flat_map ---- */

static const twill_task *flat_task;
static twill_status emitted_late;

static int emits_two(const twill_batch *batch, const twill_task *task)
{
    for (size_t i = 0; i < 2 * batch->count; i++)
        if (twill_batch_emit(task, &(int){(int)(2 * batch->first + i)}) != TWILL_OK)
            return 0; /* nothing said of it */
    return 0;
}

static void emits_late(void *state, const twill_task *task)
{
    int value = 1;

    (void)state;
    emitted_late = twill_batch_emit(task, &value);
}

static int starts(void **state, const twill_task *task)
{
    *state = NULL;
    flat_task = task;
    return 0;
}

static __attribute__((noinline)) void dirty_the_stack(void)
{
    volatile unsigned char all[32768];

    for (size_t i = 0; i < sizeof all; i++)
        all[i] = 0xa5;
}

TEST(values_of_a_flat_map_whatever_lay_on_the_stack)
{
    static int items[20];

    for (unsigned workers = 1; workers < 4; workers += 2) {
        void *values;
        size_t n;
        emitted_late = TWILL_OK;
        dirty_the_stack();
        CHECK_EQ(twill_batch_flat_map(items, sizeof(int), 20, emits_two, sizeof(int), &values, &n,
                                      OPTIONS(.max_items = 3, .run = {.workers = workers,
                                                                      .worker_start = starts,
                                                                      .worker_stop = emits_late})),
                 TWILL_OK);
        CHECK_EQ(n, 40);
        for (size_t i = 0; i < n; i++)
            CHECK_EQ(((int *)values)[i], i);
        twill_batch_free(values);
        CHECK_EQ(emitted_late, TWILL_INVALID);
    }
}

TEST(a_flat_map_without_memory_says_so_although_its_function_does_not)
{
    static int items[20];
    twill_report report;
    void *values;
    size_t n;

    faults_fail_alloc_from(2);
    CHECK_EQ(
        twill_batch_flat_map(items, sizeof(int), 20, emits_two, sizeof(int), &values, &n,
                             OPTIONS(.max_items = 3, .run = {.workers = 1, .report = &report})),
        TWILL_NO_MEMORY);
    faults_fail_alloc_from(0);
    CHECK(values == NULL);
    CHECK_EQ(n, 0);
    CHECK_EQ(report.status, TWILL_NO_MEMORY);
    CHECK_EQ(report.done, 0);
    CHECK_EQ(report.failed + report.skipped, 20);
}

HARNESS_MAIN
