/* twill_batcher: when batches leave, what each item comes to, bounds, keys, futures, the end. */
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

static void nap(twill_ns ns)
{
    (void)twill_sleep(twill_within(ns));
}

/* ---- a batcher of numbers, and a record of what was done ---- */

enum { MOST = 20000, LOG = 4000 };

typedef struct plan {
    twill_batch_options options;
    twill_batcher *batcher;
    int fails[MOST];    /* so many attempts fail with code 1000 + item */
    bool poison[MOST];  /* its call fails as a whole with code 7 */
    bool forgets[MOST]; /* not set, although others are */
    int numbers[MOST];  /* the items: items + i */
    atomic_int seen[MOST], taken[MOST], told[MOST];
    twill_outcome outcomes[MOST];
    atomic_size_t calls, inside, inside_peak;
    size_t sizes[LOG]; /* of calls with attempt 1, by one worker */
    atomic_size_t size_count;
    twill_ns takes;
    atomic_bool hold; /* callbacks wait for it to go */
    /* order within a key */
    atomic_int last_of_key[64], busy_key[64];
    int keys;
    atomic_int disorder;
    size_t end_at;
    int mask; /* key and what an item is: number & mask */
    bool results;
} plan;

static plan *now_plan;

static int number_of(const void *item)
{
    return *(const int *)item;
}

static uint64_t key_of(const void *item, const twill_task *task)
{
    const plan *p = task->context;
    return (uint64_t)(number_of(item) % p->keys);
}

static size_t bytes_of(const void *item, const twill_task *task)
{
    CHECK_EQ(task->worker, UINT_MAX);
    return (size_t)(number_of(item) % 10 + 1) * 10;
}

static void key_in(plan *p, const twill_batch *batch, bool in)
{
    bool mine[64] = {false};
    for (size_t i = 0; i < batch->count; i++) {
        int key = number_of(twill_batch_item(batch, i)) % p->keys;
        if (mine[key])
            continue;
        mine[key] = true;
        if (atomic_fetch_add(&p->busy_key[key], in ? 1 : -1) != (in ? 0 : 1))
            atomic_fetch_add(&p->disorder, 1);
    }
}

static int act(twill_batch *batch, const twill_task *task)
{
    plan *p = task->context;
    bool bad = false, sets = false;
    size_t inside = atomic_fetch_add(&p->inside, 1) + 1;
    if (inside > atomic_load(&p->inside_peak))
        atomic_store(&p->inside_peak, inside);
    atomic_fetch_add(&p->calls, 1);
    CHECK(batch->count > 0);
    CHECK_EQ(task->index, batch->first);
    CHECK_PTR(batch->array, NULL);
    CHECK_PTR(twill_batch_item(batch, batch->count), NULL);
    CHECK_PTR(twill_batch_result(batch, batch->count), NULL);
    twill_batch_set(batch, batch->count, 9); /* no item of this batch: nothing */
    if (batch->attempt == 1 && atomic_load(&p->size_count) < LOG)
        p->sizes[atomic_fetch_add(&p->size_count, 1)] = batch->count;
    if (p->keys)
        key_in(p, batch, true);
    for (size_t i = 0; i < batch->count; i++) {
        int item = number_of(twill_batch_item(batch, i));
        atomic_fetch_add(&p->seen[item], 1);
        bad = bad || p->poison[item];
        sets = sets || p->fails[item] || p->forgets[item];
        if ((size_t)item == p->end_at)
            end_thread();
    }
    if (p->takes)
        twill_sleep(twill_within_or_cancelled(p->takes, task->until.cancel));
    while (atomic_load(&p->hold) && !twill_task_cancelled(task))
        nap(TWILL_US(50));
    for (size_t i = 0; !bad && i < batch->count; i++) {
        int item = number_of(twill_batch_item(batch, i));
        int *result = twill_batch_result(batch, i);
        CHECK((result != NULL) == p->results);
        if (result) {
            CHECK_EQ(*result, 0);
            *result = item * 3 + 1;
        }
        if ((int)batch->attempt <= p->fails[item]) {
            twill_batch_set(batch, i, 1000 + item);
            continue;
        }
        if (p->forgets[item])
            continue;
        if (sets)
            twill_batch_set(batch, i, 0);
        atomic_fetch_add(&p->taken[item], 1);
        if (p->keys && atomic_exchange(&p->last_of_key[item % p->keys], item) > item)
            atomic_fetch_add(&p->disorder, 1);
    }
    if (p->keys)
        key_in(p, batch, false);
    atomic_fetch_sub(&p->inside, 1);
    return bad ? 7 : 0;
}

static void told(void *item, const twill_outcome *outcome, void *result, const twill_task *task)
{
    plan *p = task->context;
    int number = number_of(item);
    CHECK_EQ(task->index, outcome->index);
    CHECK_PTR(outcome->key, item);
    CHECK(outcome->finished >= outcome->queued);
    CHECK(!outcome->attempts == !outcome->started);
    if (result && outcome->status == TWILL_OK && !p->options.coalesce)
        CHECK_EQ(*(int *)result, number * 3 + 1);
    p->outcomes[number] = *outcome;
    atomic_fetch_add(&p->told[number], 1);
}

static plan *plan_of(twill_batch_options options)
{
    plan *p = calloc(1, sizeof *p);
    for (int i = 0; i < MOST; i++)
        p->numbers[i] = i;
    for (int i = 0; i < 64; i++)
        atomic_store(&p->last_of_key[i], -1);
    p->options = options;
    p->end_at = SIZE_MAX;
    p->results = options.result_size != 0;
    p->options.run.context = p;
    p->options.on_item = told;
    now_plan = p;
    return p;
}

static twill_status open_plan(plan *p)
{
    twill_status status = twill_batcher_create(&p->batcher, act, &p->options);
    CHECK_EQ(status, TWILL_OK);
    return status;
}

static twill_status add(plan *p, int number)
{
    return twill_batcher_add(p->batcher, &p->numbers[number], NULL);
}

static twill_batcher_stats stats_of(plan *p)
{
    twill_batcher_stats s;
    twill_batcher_get_stats(p->batcher, &s);
    CHECK_EQ(s.added,
             s.done + s.failed + s.timed_out + s.cancelled + s.dropped + s.lost + s.pending);
    CHECK_EQ(s.batches,
             s.by_count + s.by_bytes + s.by_linger + s.by_idle + s.by_flush + s.by_close);
    return s;
}

static void close_plan(plan *p, size_t items)
{
    size_t wrong = 0;
    CHECK_EQ(twill_batcher_destroy(p->batcher), TWILL_OK);
    for (size_t i = 0; i < items; i++)
        wrong += atomic_load(&p->told[i]) != 1;
    CHECK_EQ(wrong, 0);
    CHECK_EQ(atomic_load(&p->disorder), 0);
    free(p);
    CHECK_EQ(faults_live(), 0);
}

static bool soon(bool (*so)(plan *p), plan *p)
{
    twill_ns end = twill_now() + TWILL_SEC(100);
    while (!so(p)) {
        if (twill_now() > end)
            return false;
        nap(TWILL_US(100));
    }
    return true;
}

static bool one_inside(plan *p)
{
    return atomic_load(&p->inside) >= 1;
}

/* Nothing is held and every outcome is told: an item leaves `pending` before on_item hears of
   it. */
static bool nothing_pending(plan *p)
{
    return stats_of(p).pending == 0 && twill_batcher_flush(p->batcher) == TWILL_OK;
}

/* ---- when a batch leaves ---- */

TEST(full_batches_leave_by_count_and_the_tail_by_close)
{
    for (size_t n = 1; n <= 700; n += n < 5 ? 1 : 99) {
        plan *p = plan_of(OPTIONS(.linger = TWILL_FOREVER));
        twill_batcher_stats s;
        if (open_plan(p) != TWILL_OK)
            return;
        for (size_t i = 0; i < n; i++)
            CHECK_EQ(add(p, (int)i), TWILL_OK);
        CHECK_EQ(twill_batcher_close(p->batcher), TWILL_OK);
        CHECK_EQ(twill_batcher_close(p->batcher), TWILL_CLOSED);
        CHECK_EQ(add(p, 1), TWILL_CLOSED);
        CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
        s = stats_of(p);
        CHECK_EQ(s.added, n);
        CHECK_EQ(s.done, n);
        CHECK_EQ(s.by_count, n / 100);
        CHECK_EQ(s.by_close, n % 100 != 0);
        CHECK_EQ(s.batches, s.calls);
        CHECK_EQ((size_t)(s.mean_fill * 100 * (double)s.batches + 0.5), n);
        for (size_t k = 0; k < n / 100; k++)
            CHECK_EQ(p->sizes[k], 100);
        close_plan(p, n);
    }
}

TEST(a_batch_leaves_when_its_oldest_item_is_old)
{
    plan *p = plan_of(OPTIONS(.linger = TWILL_MS(20), .max_items = 10));
    twill_batcher_stats s;
    twill_ns since = twill_now();
    if (open_plan(p) != TWILL_OK)
        return;
    for (int i = 0; i < 3; i++)
        add(p, i);
    CHECK(soon(nothing_pending, p));
    CHECK(twill_now() - since >= TWILL_MS(20));
    s = stats_of(p);
    CHECK_EQ(s.by_linger, s.batches);
    CHECK(s.batches >= 1);
    CHECK(p->outcomes[0].started - p->outcomes[0].queued >= TWILL_MS(20));
    for (int i = 3; i < 13; i++)
        add(p, i);
    CHECK(soon(nothing_pending, p));
    close_plan(p, 13);
}

TEST(a_gap_sends_what_is_there)
{
    plan *p = plan_of(OPTIONS(.linger = TWILL_FOREVER, .idle = TWILL_MS(5), .max_items = 10));
    twill_batcher_stats s;
    if (open_plan(p) != TWILL_OK)
        return;
    for (int i = 0; i < 3; i++)
        add(p, i);
    CHECK(soon(nothing_pending, p));
    s = stats_of(p);
    CHECK_EQ(s.by_idle, s.batches);
    close_plan(p, 3);
}

TEST(no_batch_is_above_its_bytes)
{
    for (int alone = 0; alone < 2; alone++) {
        plan *p = plan_of(OPTIONS(.linger = TWILL_FOREVER, .max_bytes = 90, .bytes_of = bytes_of,
                                  .oversized_alone = alone));
        twill_batcher_stats s;
        size_t added = 0;
        if (open_plan(p) != TWILL_OK)
            return;
        for (int i = 0; i < 100; i++) { /* 10, 20, .. 100 bytes */
            twill_status status = add(p, i);
            CHECK_EQ(status, i % 10 == 9 && !alone ? TWILL_TOO_BIG : TWILL_OK);
            added += status == TWILL_OK;
            if (status != TWILL_OK)
                atomic_store(&p->told[i], 1);
        }
        CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
        s = stats_of(p);
        CHECK_EQ(s.done, added);
        /* 10+20+30 | 40+50 (full: leaves) | 60 | 70 | 80 | 90 | (100) | ... */
        CHECK_EQ(s.batches, alone ? 70 : 60);
        CHECK_EQ(s.by_bytes, s.batches);
        close_plan(p, 100);
    }
}

TEST(flush_waits_for_what_was_there)
{
    plan *p = plan_of(OPTIONS(.linger = TWILL_FOREVER));
    if (open_plan(p) != TWILL_OK)
        return;
    CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK); /* nothing is */
    CHECK_EQ(stats_of(p).batches, 0);
    for (int i = 0; i < 250; i++)
        add(p, i);
    CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
    CHECK_EQ(stats_of(p).pending, 0);
    CHECK_EQ(stats_of(p).by_flush, 1);
    for (int i = 0; i < 250; i++)
        CHECK_EQ(atomic_load(&p->told[i]), 1);
    atomic_store(&p->hold, true);
    add(p, 250);
    CHECK_EQ(twill_batcher_flush_until(p->batcher, twill_within(TWILL_MS(2))), TWILL_TIMEOUT);
    atomic_store(&p->hold, false);
    CHECK_EQ(twill_batcher_flush_until(p->batcher, twill_within(0)) == TWILL_OK, false);
    CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
    CHECK_EQ(twill_batcher_flush_until(p->batcher, twill_within(0)), TWILL_OK);
    close_plan(p, 251);
}

static atomic_bool adding;
static void add_for_ever(void *p_)
{
    plan *p = p_;
    for (int i = 0; atomic_load(&adding) && i < MOST; i++)
        CHECK_EQ(add(p, i), TWILL_OK);
}

static twill__thrd threads[8];
static void go(unsigned k, void (*fn)(void *), void *arg)
{
    memset(&threads[k], 0, sizeof threads[k]);
    threads[k].fn = fn;
    threads[k].arg = arg;
    threads[k].cpu = UINT_MAX;
    if (!CHECK(twill__thread_start(&threads[k])))
        exit(1);
}

static void join(unsigned k)
{
    twill__thread_join(&threads[k]);
}

TEST(flush_returns_although_others_add_for_ever)
{
    plan *p = plan_of(OPTIONS(.max_items = 8, .capacity = 40));
    if (open_plan(p) != TWILL_OK)
        return;
    p->takes = TWILL_US(300);
    atomic_store(&adding, true);
    go(0, add_for_ever, p);
    for (int k = 0; k < 5; k++) {
        uint64_t added;
        nap(TWILL_MS(2));
        added = stats_of(p).added;
        CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
        for (uint64_t i = 0; i < added; i++)
            if (atomic_load(&p->told[i]) != 1)
                CHECK_EQ(i, SIZE_MAX);
    }
    atomic_store(&adding, false);
    join(0);
    close_plan(p, (size_t)stats_of(p).added);
}

/* ---- outcomes ---- */

TEST(each_item_has_its_own_end)
{
    for (int bisect = 0; bisect < 2; bisect++)
        for (int workers = 1; workers <= 3; workers += 2) {
            plan *p = plan_of(
                OPTIONS(.attempts = 3, .run.workers = (unsigned)workers, .result_size = sizeof(int),
                        .max_items = 16,
                        .on_bad_batch = bisect ? TWILL_BAD_BATCH_BISECT : TWILL_BAD_BATCH_RETRY));
            twill_batcher_stats s;
            size_t failed = 0, lost = 0;
            for (int i = 0; i < 1000; i++) {
                p->fails[i] = test_random_below(10) == 0 ? (int)test_random_below(5) : 0;
                p->forgets[i] = !p->fails[i] && test_random_below(50) == 0;
                p->poison[i] =
                    bisect && !p->fails[i] && !p->forgets[i] && test_random_below(50) == 0;
                failed += p->fails[i] >= 3 || p->poison[i];
                lost += p->forgets[i];
            }
            if (open_plan(p) != TWILL_OK)
                return;
            for (int i = 0; i < 1000; i++)
                CHECK_EQ(add(p, i), TWILL_OK);
            CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
            s = stats_of(p);
            CHECK_EQ(s.failed, failed);
            CHECK(s.lost <= lost); /* alone in a call it is done: nothing is set there */
            CHECK_EQ(s.done, 1000 - failed - s.lost);
            for (int i = 0; i < 1000; i++) {
                const twill_outcome *o = &p->outcomes[i];
                bool bad = p->fails[i] >= 3 || p->poison[i];
                if (p->forgets[i] && o->status == TWILL_LOST)
                    s.lost--;
                else
                    CHECK_EQ(o->status, bad ? TWILL_FAILED : TWILL_OK);
                CHECK_EQ(o->code, p->poison[i] ? 7 : bad ? 1000 + i : 0);
                CHECK_EQ(atomic_load(&p->taken[i]), !bad && !p->forgets[i]);
            }
            CHECK_EQ(s.lost, 0);
            close_plan(p, 1000);
        }
}

TEST(a_failed_batch_keeps_the_others)
{
    plan *p = plan_of(OPTIONS(.max_items = 10, .attempts = 5, .linger = TWILL_FOREVER,
                              .on_bad_batch = TWILL_BAD_BATCH_FAIL));
    if (open_plan(p) != TWILL_OK)
        return;
    p->poison[25] = true;
    for (int i = 0; i < 50; i++)
        add(p, i);
    CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
    for (int i = 0; i < 50; i++)
        CHECK_EQ(p->outcomes[i].status, i / 10 == 2 ? TWILL_FAILED : TWILL_OK);
    CHECK_EQ(atomic_load(&p->calls), 5);
    close_plan(p, 50);
}

/* The others are done before the second try, if the machine lets them. */
static bool the_retry_comes_last(twill_ns backoff)
{
    plan *p = plan_of(OPTIONS(.max_items = 1, .attempts = 2, .backoff = backoff,
                              .backoff_max = backoff, .seed = 2));
    if (open_plan(p) != TWILL_OK)
        return true;
    p->fails[0] = 1;
    for (int i = 0; i < 10; i++)
        add(p, i);
    CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
    CHECK_EQ(p->outcomes[0].attempts, 2);
    CHECK_EQ(p->outcomes[0].status, TWILL_OK);
    CHECK_EQ(stats_of(p).retried, 1);
    bool last = p->outcomes[0].finished >= p->outcomes[9].finished;
    close_plan(p, 10);
    return last;
}

TEST(retries_wait_and_others_go_on)
{
    CHECK(test_in_time(TWILL_MS(10), the_retry_comes_last));
}

/* ---- many at once ---- */

static atomic_int next_item;
static void add_some(void *p_)
{
    plan *p = p_;
    int i;
    while ((i = atomic_fetch_add(&next_item, 1)) < 6000)
        CHECK_EQ(add(p, i), TWILL_OK);
}

TEST(every_accepted_item_ends_once)
{
    for (int round = 0; round < 6; round++) {
        plan *p = plan_of(
            OPTIONS(.run.workers = 1 + (unsigned)round % 4, .attempts = 2,
                    .backoff = round % 2 ? TWILL_US(30) : 0, .max_items = 1 + test_random_below(50),
                    .capacity = 1 + test_random_below(100),
                    .linger = round == 5 ? TWILL_FOREVER : TWILL_US(100),
                    .overflow = round == 4 ? TWILL_OVERFLOW_CALLER_RUNS : TWILL_OVERFLOW_BLOCK,
                    .on_bad_batch = TWILL_BAD_BATCH_BISECT));
        twill_batcher_stats s;
        for (int i = 0; i < 6000; i++) {
            p->fails[i] = test_random_below(20) == 0 ? 1 : 0;
            p->poison[i] = test_random_below(300) == 0;
        }
        if (open_plan(p) != TWILL_OK)
            return;
        atomic_store(&next_item, 0);
        for (unsigned k = 0; k < 4; k++)
            go(k, add_some, p);
        for (unsigned k = 0; k < 4; k++)
            join(k);
        CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
        s = stats_of(p);
        CHECK_EQ(s.added, 6000);
        CHECK_EQ(s.pending, 0);
        CHECK(s.pending_peak <= p->options.capacity);
        CHECK(atomic_load(&p->inside_peak) <= p->options.run.workers);
        close_plan(p, 6000);
    }
}

/* Some are asked for by a future, some fail, some by themselves and some with their batch; with and
   without on_item. How each ends does not depend on who asks, nor on who stands beside it. */
TEST(items_that_nobody_asks_for_end_like_the_others)
{
    static twill_future futures[3000];
    for (int round = 0; round < 12; round++) {
        plan *p = plan_of(OPTIONS(.run.workers = 1 + (unsigned)round % 3, .attempts = 2,
                                  .max_items = 1 + test_random_below(40), .linger = TWILL_US(100),
                                  .capacity = 200, .on_bad_batch = TWILL_BAD_BATCH_BISECT));
        twill_batcher_stats s;
        size_t failed = 0;
        bool tells = round % 2, some_fail = round >= 4;
        twill_ns begun = twill_now();
        if (!tells)
            p->options.on_item = NULL;
        if (round % 4 >= 2)
            p->options.bytes_of = bytes_of, p->options.max_bytes = 900;
        for (int i = 0; i < 3000; i++) {
            p->fails[i] =
                some_fail && test_random_below(100) == 0 ? 1 + (int)test_random_below(2) : 0;
            p->poison[i] = some_fail && !p->fails[i] && test_random_below(200) == 0;
            failed += p->fails[i] == 2 || p->poison[i];
            futures[i].slot = NULL;
        }
        if (open_plan(p) != TWILL_OK)
            return;
        for (int i = 0; i < 3000; i++) {
            bool asks = round % 3 && i / 50 % 3 == 1;
            CHECK_EQ(twill_batcher_add(p->batcher, &p->numbers[i], asks ? &futures[i] : NULL),
                     TWILL_OK);
        }
        CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
        s = stats_of(p);
        CHECK_EQ(s.failed, failed);
        CHECK_EQ(s.done, 3000 - failed);
        CHECK_EQ(s.pending_bytes, 0);
        for (int i = 0; i < 3000; i++) {
            bool bad = p->fails[i] == 2 || p->poison[i];
            twill_outcome outcome = p->outcomes[i];
            CHECK_EQ(atomic_load(&p->taken[i]), !bad);
            if (futures[i].slot) {
                CHECK_EQ(twill_future_wait(futures[i], NULL, &outcome),
                         bad ? TWILL_FAILED : TWILL_OK);
                twill_future_release(futures[i]);
            }
            if (!tells)
                atomic_store(&p->told[i], 1);
            if (!tells && !futures[i].slot)
                continue;
            CHECK_EQ(outcome.status, bad ? TWILL_FAILED : TWILL_OK);
            CHECK_EQ(outcome.code, p->poison[i] ? 7 : bad ? 1000 + i : 0);
            CHECK_EQ(outcome.index, i);
            CHECK_EQ(outcome.attempts, bad || p->fails[i] ? 2 : 1);
            CHECK(begun <= outcome.queued && outcome.queued <= outcome.started &&
                  outcome.started <= outcome.finished);
        }
        close_plan(p, 3000);
    }
}

static size_t entries_touched(const twill__core *core)
{
    size_t count = 0;
    for (const twill__slab *slab = core->slabs; slab; slab = slab->next)
        count += slab->count;
    return count;
}

/* Nor is there an entry for one, while nothing happens to it: but for one in each piece of memory,
   it is not even touched. */
TEST(items_that_nobody_asks_for_have_no_entry)
{
    plan *p = plan_of(OPTIONS(.max_items = 50, .capacity = 1000));
    const twill__core *core;
    if (open_plan(p) != TWILL_OK)
        return;
    core = p->batcher->stock.core;
    for (int i = 0; i < 3000; i++)
        CHECK_EQ(add(p, i), TWILL_OK);
    CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
    CHECK_EQ(core->reserved, 0);
    CHECK(core->records <= 2048);
    CHECK(entries_touched(core) <= 7);
    p->poison[3000] = true;
    CHECK_EQ(add(p, 3000), TWILL_OK);
    CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
    CHECK(entries_touched(core) <= 7);
    CHECK_EQ(core->reserved, 0);
    close_plan(p, 3001);
}

/* A dropped item has a number, too: those of a batch need not follow one another. */
TEST(a_number_that_was_dropped_is_missing_in_a_batch)
{
    plan *p = plan_of(OPTIONS(.max_items = 2, .capacity = 3, .linger = TWILL_FOREVER,
                              .overflow = TWILL_OVERFLOW_DROP_INCOMING));
    if (open_plan(p) != TWILL_OK)
        return;
    atomic_store(&p->hold, true);
    CHECK_EQ(add(p, 0), TWILL_OK);
    CHECK_EQ(add(p, 1), TWILL_OK);
    CHECK(soon(one_inside, p));
    CHECK_EQ(add(p, 2), TWILL_OK);
    CHECK_EQ(add(p, 3), TWILL_DROPPED);
    atomic_store(&p->hold, false);
    while (stats_of(p).pending > 1)
        nap(TWILL_US(50));
    CHECK_EQ(add(p, 4), TWILL_OK); /* fills the batch that item 2 opened */
    CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
    CHECK_EQ(stats_of(p).by_count, 2);
    CHECK_EQ(p->sizes[1], 2);
    for (int i = 0; i < 5; i++)
        CHECK_EQ(p->outcomes[i].index, i);
    close_plan(p, 5);
}

/* One adder, so that the order of a key is that of its numbers; several workers. */
TEST(the_order_of_a_key_is_the_order_of_add)
{
    for (int round = 0; round < 8; round++) {
        plan *p = plan_of(
            OPTIONS(.run.workers = 1 + (unsigned)round % 4, .attempts = 3,
                    .backoff = round % 2 ? TWILL_US(20) : 0, .max_items = 7, .capacity = 60,
                    .linger = TWILL_US(200), .key_of = key_of,
                    .on_bad_batch = round < 4 ? TWILL_BAD_BATCH_RETRY : TWILL_BAD_BATCH_BISECT));
        p->keys = round % 3 ? 5 : 1 + round;
        p->takes = round % 2 ? TWILL_US(5) : 0;
        for (int i = 0; i < 2000; i++)
            p->poison[i] = test_random_below(60) == 0;
        if (open_plan(p) != TWILL_OK)
            return;
        for (int i = 0; i < 2000; i++)
            CHECK_EQ(add(p, i), TWILL_OK);
        CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
        CHECK_EQ(stats_of(p).added, 2000);
        close_plan(p, 2000);
    }
}

TEST(equal_keys_are_merged)
{
    plan *p = plan_of(OPTIONS(.max_items = 4, .key_of = key_of, .coalesce = true,
                              .linger = TWILL_FOREVER, .result_size = sizeof(int)));
    twill_future futures[10];
    twill_batcher_stats s;
    p->keys = 3;
    p->fails[1] = 9;
    if (open_plan(p) != TWILL_OK)
        return;
    for (int i = 0; i < 10; i++)
        CHECK_EQ(twill_batcher_add(p->batcher, &p->numbers[i], &futures[i]), TWILL_OK);
    CHECK_EQ(stats_of(p).batches, 0); /* three keys: three items of four */
    CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
    s = stats_of(p);
    CHECK_EQ(s.added, 10);
    CHECK_EQ(s.merged, 7);
    CHECK_EQ(s.batches, 1);
    CHECK_EQ(s.done, 7);
    CHECK_EQ(s.failed, 3);
    CHECK_EQ(p->sizes[0], 3);
    for (int i = 0; i < 10; i++) {
        int result = 0;
        twill_outcome outcome;
        twill_status status = twill_future_wait(futures[i], &result, &outcome);
        CHECK_EQ(status, i % 3 == 1 ? TWILL_FAILED : TWILL_OK);
        if (status == TWILL_OK)
            CHECK_EQ(result, i % 3 * 3 + 1); /* of the item that stood for it */
        else
            CHECK_EQ(outcome.code, 1001);
        CHECK_PTR(outcome.key, &p->numbers[i]);
        twill_future_release(futures[i]);
        atomic_store(&p->told[i], 1); /* results are the leader's: told() would not know */
    }
    close_plan(p, 10);
}

/* ---- full ---- */

TEST(a_full_batcher_refuses_drops_or_waits)
{
    static const twill_overflow policies[] = {
        TWILL_OVERFLOW_BLOCK, TWILL_OVERFLOW_REJECT, TWILL_OVERFLOW_DROP_INCOMING,
        TWILL_OVERFLOW_DROP_OLDEST, TWILL_OVERFLOW_DROP_NEWEST};
    for (int k = 0; k < 5; k++) {
        plan *p = plan_of(OPTIONS(.max_items = 2, .capacity = 5, .linger = TWILL_FOREVER,
                                  .overflow = policies[k]));
        twill_status status;
        twill_future future;
        twill_outcome outcome;
        if (open_plan(p) != TWILL_OK)
            return;
        atomic_store(&p->hold, true);
        for (int i = 0; i < 2; i++)
            CHECK_EQ(add(p, i), TWILL_OK);
        CHECK(soon(one_inside, p)); /* 0 and 1 are in a call: 2, 3 and 4 are not */
        for (int i = 2; i < 5; i++)
            CHECK_EQ(add(p, i), TWILL_OK);
        status =
            twill_batcher_add_until(p->batcher, &p->numbers[5], &future, twill_within(TWILL_MS(1)));
        CHECK_EQ(status, k == 0   ? TWILL_TIMEOUT
                         : k == 1 ? TWILL_FULL
                         : k == 2 ? TWILL_DROPPED
                                  : TWILL_OK);
        CHECK_EQ(stats_of(p).pending, 5);
        CHECK_EQ(stats_of(p).dropped, k >= 2);
        CHECK_EQ(stats_of(p).refused, k == 1);
        if (k == 2) {
            CHECK_EQ(p->outcomes[5].status, TWILL_DROPPED);
            CHECK_EQ(twill_future_wait(future, NULL, &outcome), TWILL_FAILED);
            CHECK_EQ(outcome.status, TWILL_DROPPED);
        }
        if (k == 3)
            CHECK_EQ(p->outcomes[2].status, TWILL_DROPPED);
        if (k == 4)
            CHECK_EQ(p->outcomes[4].status, TWILL_DROPPED);
        if (k < 2) {
            CHECK(future.slot == NULL);
            CHECK_EQ(twill_batcher_try_add(p->batcher, &p->numbers[5], NULL), TWILL_FULL);
            atomic_store(&p->told[5], 1);
        }
        atomic_store(&p->hold, false);
        twill_future_release(future);
        close_plan(p, 6);
    }
}

static bool dropped(const plan *p, int i)
{
    return atomic_load(&p->told[i]) && p->outcomes[i].status == TWILL_DROPPED;
}

/* The oldest goes first, also where nobody asks for it and somebody asks for the younger ones. */
TEST(the_oldest_is_dropped_whoever_asks)
{
    plan *p = plan_of(OPTIONS(.max_items = 2, .capacity = 6, .linger = TWILL_FOREVER,
                              .overflow = TWILL_OVERFLOW_DROP_OLDEST));
    twill_future futures[10] = {{NULL, 0}};
    if (open_plan(p) != TWILL_OK)
        return;
    atomic_store(&p->hold, true);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(add(p, i), TWILL_OK);
    CHECK(soon(one_inside, p)); /* 0 and 1 are in a call */
    for (int i = 2; i < 10; i++) {
        bool asks = i == 4 || i == 5 || i == 8;
        CHECK_EQ(twill_batcher_add(p->batcher, &p->numbers[i], asks ? &futures[i] : NULL),
                 TWILL_OK);
        CHECK(i < 6 || (dropped(p, i - 4) && !dropped(p, i - 3)));
    }
    atomic_store(&p->hold, false);
    for (int i = 0; i < 10; i++)
        twill_future_release(futures[i]);
    close_plan(p, 10);
}

TEST(nothing_to_drop_is_full)
{
    for (int newest = 0; newest < 2; newest++) {
        plan *p = plan_of(
            OPTIONS(.max_items = 2, .capacity = 2, .linger = TWILL_FOREVER,
                    .overflow = newest ? TWILL_OVERFLOW_DROP_NEWEST : TWILL_OVERFLOW_DROP_OLDEST));
        if (open_plan(p) != TWILL_OK)
            return;
        atomic_store(&p->hold, true);
        add(p, 0);
        add(p, 1);
        CHECK(soon(one_inside, p));
        CHECK_EQ(add(p, 2), TWILL_FULL);
        atomic_store(&p->hold, false);
        close_plan(p, 2);
    }
}

/* 60 bytes are in a call, 10 wait: to drop these would not make room for 50. */
TEST(nothing_is_dropped_in_vain)
{
    for (int k = 0; k < 4; k++) {
        bool newest = k & 1;
        plan *p = plan_of(
            OPTIONS(.max_items = 1, .capacity_bytes = 100, .bytes_of = bytes_of,
                    .overflow = newest ? TWILL_OVERFLOW_DROP_NEWEST : TWILL_OVERFLOW_DROP_OLDEST));
        twill_future future = {NULL, 0};
        if (open_plan(p) != TWILL_OK)
            return;
        atomic_store(&p->hold, true);
        CHECK_EQ(add(p, 5), TWILL_OK);
        CHECK(soon(one_inside, p));
        CHECK_EQ(twill_batcher_add(p->batcher, &p->numbers[0], k & 2 ? &future : NULL), TWILL_OK);
        CHECK_EQ(add(p, 4), TWILL_FULL);
        CHECK(!dropped(p, 0));
        CHECK_EQ(add(p, 3), TWILL_OK); /* 40 */
        CHECK(dropped(p, 0));
        CHECK_EQ(stats_of(p).dropped, 1);
        for (int i = 1; i < 5; i++)
            if (i != 3) /* refused, or never added */
                atomic_store(&p->told[i], 1);
        atomic_store(&p->hold, false);
        twill_future_release(future);
        close_plan(p, 6);
    }
}

/* Nor for one that finds no memory. */
TEST(nothing_is_dropped_without_memory)
{
    plan *p = plan_of(OPTIONS(.max_items = 1, .capacity = 2, .result_size = 64,
                              .overflow = TWILL_OVERFLOW_DROP_OLDEST));
    if (open_plan(p) != TWILL_OK)
        return;
    atomic_store(&p->hold, true);
    CHECK_EQ(add(p, 0), TWILL_OK);
    CHECK(soon(one_inside, p));
    CHECK_EQ(add(p, 1), TWILL_OK);
    faults_fail_alloc(1);
    CHECK_EQ(add(p, 2), TWILL_NO_MEMORY);
    CHECK(!dropped(p, 1));
    CHECK_EQ(add(p, 3), TWILL_OK);
    CHECK(dropped(p, 1));
    atomic_store(&p->told[2], 1);
    atomic_store(&p->hold, false);
    close_plan(p, 4);
}

TEST(the_peak_is_the_most_that_was_pending)
{
    plan *p = plan_of(OPTIONS(.max_items = 1, .capacity = 9));
    if (open_plan(p) != TWILL_OK)
        return;
    CHECK_EQ(stats_of(p).pending_peak, 0);
    atomic_store(&p->hold, true);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(add(p, i), TWILL_OK);
    CHECK_EQ(stats_of(p).pending_peak, 4);
    atomic_store(&p->hold, false);
    CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
    CHECK_EQ(add(p, 4), TWILL_OK);
    CHECK_EQ(stats_of(p).pending_peak, 4); /* what is gone counts */
    close_plan(p, 5);
}

TEST(a_full_batcher_never_stands_still)
{
    /* the open batch can never be full, and would linger for ever */
    static const twill_overflow policies[] = {TWILL_OVERFLOW_BLOCK, TWILL_OVERFLOW_CALLER_RUNS};
    for (int k = 0; k < 2; k++) {
        plan *p = plan_of(OPTIONS(.max_items = 100, .capacity = 7, .linger = TWILL_FOREVER,
                                  .overflow = policies[k]));
        if (open_plan(p) != TWILL_OK)
            return;
        for (int i = 0; i < 500; i++)
            CHECK_EQ(add(p, i), TWILL_OK);
        CHECK(stats_of(p).pending_peak <= 7);
        close_plan(p, 500);
    }
    {
        plan *p =
            plan_of(OPTIONS(.capacity_bytes = 150, .bytes_of = bytes_of, .linger = TWILL_FOREVER));
        if (open_plan(p) != TWILL_OK)
            return;
        for (int i = 0; i < 500; i++)
            CHECK_EQ(add(p, i), TWILL_OK);
        CHECK(stats_of(p).pending_bytes <= 150);
        close_plan(p, 500);
    }
}

static void blocked_add(void *p_)
{
    plan *p = p_;
    CHECK_EQ(add(p, 3), TWILL_CLOSED);
}

TEST(close_answers_those_who_wait)
{
    plan *p = plan_of(OPTIONS(.max_items = 1, .capacity = 1));
    if (open_plan(p) != TWILL_OK)
        return;
    atomic_store(&p->hold, true);
    add(p, 0);
    go(0, blocked_add, p);
    nap(TWILL_MS(1));
    CHECK_EQ(twill_batcher_close(p->batcher), TWILL_OK);
    join(0);
    atomic_store(&p->hold, false);
    close_plan(p, 1);
}

/* ---- from inside of callbacks ---- */

static int adds_more(twill_batch *batch, const twill_task *task)
{
    plan *p = task->context;
    for (size_t i = 0; i < batch->count; i++) {
        int number = number_of(twill_batch_item(batch, i));
        atomic_fetch_add(&p->taken[number], 1);
        if (2 * number + 2 < 1000) {
            CHECK_EQ(add(p, 2 * number + 1), TWILL_OK);
            CHECK_EQ(add(p, 2 * number + 2), TWILL_OK);
        }
    }
    return 0;
}

TEST(a_callback_may_add_to_its_own_batcher)
{
    plan *p = plan_of(OPTIONS(.max_items = 3, .capacity = 1000));
    CHECK_EQ(twill_batcher_create(&p->batcher, adds_more, &p->options), TWILL_OK);
    add(p, 0);
    CHECK(soon(nothing_pending, p));
    CHECK_EQ(stats_of(p).done, 999);
    close_plan(p, 999);
}

static atomic_int deadlocks, oks;
static int floods(twill_batch *batch, const twill_task *task)
{
    plan *p = task->context;
    int number = number_of(twill_batch_item(batch, 0));
    (void)batch;
    for (int k = 0; k < 20 && number < 20; k++) {
        twill_status status = add(p, 100 + number * 20 + k);
        CHECK(status == TWILL_OK || status == TWILL_DEADLOCK);
        if (status == TWILL_DEADLOCK)
            atomic_store(&p->told[100 + number * 20 + k], 1);
        atomic_fetch_add(status == TWILL_OK ? &oks : &deadlocks, 1);
    }
    return 0;
}

TEST(a_callback_that_floods_its_own_batcher_never_hangs)
{
    for (unsigned workers = 1; workers <= 3; workers++)
        for (size_t capacity = 1; capacity <= 4; capacity++) {
            plan *p =
                plan_of(OPTIONS(.max_items = 1, .capacity = capacity, .run.workers = workers));
            atomic_store(&deadlocks, 0);
            atomic_store(&oks, 0);
            CHECK_EQ(twill_batcher_create(&p->batcher, floods, &p->options), TWILL_OK);
            for (int i = 0; i < 20; i++)
                CHECK_EQ(add(p, i), TWILL_OK);
            CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
            CHECK_EQ(atomic_load(&oks) + atomic_load(&deadlocks), 400);
            if (capacity > workers + 1)
                CHECK(atomic_load(&oks) > 0);
            for (int i = 20; i < 100; i++)
                atomic_store(&p->told[i], 1);
            close_plan(p, 500);
        }
}

static twill_batcher *self;
static void asks_the_impossible(void *item, const twill_outcome *outcome, void *result,
                                const twill_task *task)
{
    (void)outcome;
    (void)result;
    CHECK_EQ(twill_batcher_flush(self), TWILL_DEADLOCK);
    CHECK_EQ(twill_batcher_destroy(self), TWILL_DEADLOCK);
    CHECK_EQ(twill_batcher_stop(self, twill_within(0), twill_within(0), NULL), TWILL_DEADLOCK);
    if (number_of(item) < 3) {
        plan *p = task->context;
        CHECK_EQ(add(p, number_of(item) + 100), TWILL_OK); /* its own place is free */
    }
    told(item, outcome, result, task);
}

static int starts_well(void **state, const twill_task *task)
{
    (void)state, (void)task;
    return 0;
}

static void destroys_at_the_end(void *state, const twill_task *task)
{
    (void)state, (void)task;
    CHECK_EQ(twill_batcher_destroy(self), TWILL_DEADLOCK);
    CHECK_EQ(twill_batcher_flush(self), TWILL_DEADLOCK);
}

TEST(worker_stop_may_not_destroy)
{
    plan *p =
        plan_of(OPTIONS(.run.worker_start = starts_well, .run.worker_stop = destroys_at_the_end));
    if (open_plan(p) != TWILL_OK)
        return;
    self = p->batcher;
    for (int i = 0; i < 3; i++)
        CHECK_EQ(add(p, i), TWILL_OK);
    close_plan(p, 3);
}

TEST(on_item_may_add_and_not_wait_for_itself)
{
    plan *p = plan_of(OPTIONS(.max_items = 1, .capacity = 1));
    p->options.on_item = asks_the_impossible;
    if (open_plan(p) != TWILL_OK)
        return;
    self = p->batcher;
    for (int i = 0; i < 6; i++)
        CHECK_EQ(add(p, i), TWILL_OK);
    CHECK(soon(nothing_pending, p));
    for (int i = 6; i < 100; i++)
        atomic_store(&p->told[i], 1);
    close_plan(p, 103);
    /* and outside of a worker: a drop */
    p = plan_of(OPTIONS(.max_items = 5, .capacity = 5, .linger = TWILL_FOREVER,
                        .overflow = TWILL_OVERFLOW_DROP_OLDEST));
    p->options.on_item = asks_the_impossible;
    if (open_plan(p) != TWILL_OK)
        return;
    self = p->batcher;
    for (int i = 10; i < 30; i++) {
        twill_status status = add(p, i);
        CHECK(status == TWILL_OK || status == TWILL_FULL); /* all in a call: none to drop */
        if (status == TWILL_FULL)
            atomic_store(&p->told[i], 1);
    }
    for (int i = 0; i < 10; i++)
        atomic_store(&p->told[i], 1);
    close_plan(p, 30);
}

/* ---- futures ---- */

TEST(a_future_tells_how_its_item_ended)
{
    plan *p = plan_of(OPTIONS(.result_size = sizeof(int), .max_items = 5, .attempts = 2));
    twill_future futures[50];
    size_t which = 0;
    p->fails[7] = 9;
    p->forgets[13] = true;
    if (open_plan(p) != TWILL_OK)
        return;
    for (int i = 0; i < 50; i++)
        CHECK_EQ(twill_batcher_add(p->batcher, &p->numbers[i], &futures[i]), TWILL_OK);
    CHECK_EQ(twill_future_wait_any(futures, 50, &which, twill_within(TWILL_SEC(100))), TWILL_OK);
    for (int i = 0; i < 50; i++) {
        int result = -1;
        twill_outcome outcome;
        twill_status status = twill_future_wait(futures[i], &result, &outcome);
        CHECK_EQ(status, i == 7 || i == 13 ? TWILL_FAILED : TWILL_OK);
        CHECK_EQ(outcome.status, i == 7 ? TWILL_FAILED : i == 13 ? TWILL_LOST : TWILL_OK);
        CHECK_EQ(outcome.code, i == 7 ? 1007 : 0);
        CHECK_EQ(outcome.index, i);
        if (status == TWILL_OK)
            CHECK_EQ(result, i * 3 + 1);
    }
    CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
    for (int i = 0; i < 25; i++)
        twill_future_release(futures[i]);
    CHECK_EQ(twill_future_try_wait(futures[0], NULL, NULL), TWILL_STALE);
    CHECK_EQ(twill_batcher_destroy(p->batcher), TWILL_OK);
    for (int i = 25; i < 50; i++) { /* they outlive the batcher */
        int result = 0;
        CHECK_EQ(twill_future_cancel(futures[i]), TWILL_OK);
        CHECK_EQ(twill_future_wait(futures[i], &result, NULL), TWILL_OK);
        CHECK_EQ(result, i * 3 + 1);
        twill_future_release(futures[i]);
    }
    for (int i = 0; i < 50; i++)
        CHECK_EQ(atomic_load(&p->told[i]), 1);
    free(p);
    CHECK_EQ(faults_live(), 0);
}

TEST(a_cancelled_item_is_taken_out)
{
    plan *p = plan_of(
        OPTIONS(.max_items = 3, .linger = TWILL_FOREVER, .key_of = key_of, .coalesce = true));
    twill_future futures[8];
    p->keys = 4;
    if (open_plan(p) != TWILL_OK)
        return;
    for (int i = 0; i < 2; i++)
        CHECK_EQ(twill_batcher_add(p->batcher, &p->numbers[i], &futures[i]), TWILL_OK);
    for (int i = 4; i < 6; i++) /* join 0 and 1 */
        CHECK_EQ(twill_batcher_add(p->batcher, &p->numbers[i], &futures[i]), TWILL_OK);
    CHECK_EQ(twill_future_cancel(futures[0]), TWILL_OK); /* 4 takes its place */
    CHECK_EQ(twill_future_cancel(futures[5]), TWILL_OK);
    CHECK_EQ(p->outcomes[0].status, TWILL_CANCELLED);
    CHECK_EQ(p->outcomes[5].status, TWILL_CANCELLED);
    CHECK_EQ(twill_future_wait(futures[0], NULL, NULL), TWILL_FAILED);
    CHECK_EQ(stats_of(p).pending, 2);
    CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
    CHECK_EQ(p->outcomes[4].status, TWILL_OK);
    CHECK_EQ(p->outcomes[1].status, TWILL_OK);
    CHECK_EQ(atomic_load(&p->seen[4]), 1);
    CHECK_EQ(atomic_load(&p->seen[0]), 0);
    CHECK_EQ(stats_of(p).cancelled, 2);
    /* all of a batch: nothing is sent */
    CHECK_EQ(twill_batcher_add(p->batcher, &p->numbers[2], &futures[2]), TWILL_OK);
    CHECK_EQ(twill_future_cancel(futures[2]), TWILL_OK);
    CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
    CHECK_EQ(stats_of(p).batches, 1);
    for (int i = 0; i < 6; i++)
        if (i != 3)
            twill_future_release(futures[i]);
    atomic_store(&p->told[3], 1);
    close_plan(p, 6);
}

static twill_future own_future;
static atomic_bool own_future_known;
static atomic_int self_wait;
static int waits_for_itself(twill_batch *batch, const twill_task *task)
{
    plan *p = task->context;
    twill_future other;
    (void)batch;
    if (number_of(twill_batch_item(batch, 0)) != 0)
        return 0;
    while (!atomic_load(&own_future_known))
        nap(TWILL_US(50));
    atomic_store(&self_wait, (int)twill_future_wait(own_future, NULL, NULL));
    /* another item of the only worker: processed by the wait itself */
    CHECK_EQ(twill_batcher_add(p->batcher, &p->numbers[1], &other), TWILL_OK);
    CHECK_EQ(twill_future_wait(other, NULL, NULL), TWILL_OK);
    twill_future_release(other);
    return 0;
}

TEST(a_wait_for_the_own_item_is_a_deadlock_and_for_another_one_works)
{
    plan *p = plan_of(OPTIONS(.linger = TWILL_MS(1)));
    twill_future future;
    atomic_store(&own_future_known, false);
    CHECK_EQ(twill_batcher_create(&p->batcher, waits_for_itself, &p->options), TWILL_OK);
    CHECK_EQ(twill_batcher_add(p->batcher, &p->numbers[0], &future), TWILL_OK);
    own_future = future;
    atomic_store(&own_future_known, true);
    CHECK_EQ(twill_future_wait(future, NULL, NULL), TWILL_OK);
    CHECK_EQ(atomic_load(&self_wait), TWILL_DEADLOCK);
    twill_future_release(future);
    close_plan(p, 2);
}

/* ---- time limits ---- */

/* Whether the first batch is in the callback before the time of its item is over. */
static bool inside_before_told(plan *p, twill_future future)
{
    while (!one_inside(p) && twill_future_try_wait(future, NULL, NULL) == TWILL_EMPTY)
        nap(TWILL_US(100));
    return twill_future_try_wait(future, NULL, NULL) == TWILL_EMPTY;
}

static bool one_inside_one_outside(twill_ns limit)
{
    plan *p = plan_of(OPTIONS(.max_items = 1, .linger = 1, .item_timeout = limit));
    twill_future future;
    twill_ns second;
    twill_outcome outcome;
    if (open_plan(p) != TWILL_OK)
        return true;
    atomic_store(&p->hold, true);
    CHECK_EQ(twill_batcher_add(p->batcher, &p->numbers[0], &future), TWILL_OK);
    bool in_time = inside_before_told(p, future);
    add(p, 1);
    second = twill_now();
    /* in the running batch: the future is told at once, on_item when the callback lets go of it */
    (void)twill_future_cancel(future); /* a request: it goes on */
    CHECK_EQ(twill_future_wait(future, NULL, &outcome), TWILL_FAILED);
    CHECK(outcome.status == TWILL_TIMEOUT || (outcome.status == TWILL_CANCELLED && !in_time));
    if (in_time) {
        CHECK(outcome.finished - outcome.queued >= limit);
        CHECK_EQ(atomic_load(&p->told[0]), 0);
    }
    twill_sleep((twill_until){second + limit + TWILL_MS(1), NULL});
    atomic_store(&p->hold, false);
    CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
    if (in_time) {
        CHECK_EQ(p->outcomes[0].status, TWILL_TIMEOUT);
        CHECK_EQ(p->outcomes[1].status, TWILL_TIMEOUT);
        CHECK_EQ(atomic_load(&p->seen[1]), 0);
        CHECK_EQ(stats_of(p).timed_out, 2);
    }
    twill_future_release(future);
    close_plan(p, 2);
    return in_time;
}

TEST(an_item_that_waits_too_long_times_out)
{
    CHECK(test_in_time(TWILL_MS(50), one_inside_one_outside));
}

TEST(a_pending_item_times_out_although_nobody_asks)
{
    plan *p =
        plan_of(OPTIONS(.max_items = 1, .linger = 1, .item_timeout = TWILL_MS(4), .attempts = 100,
                        .backoff = TWILL_SEC(3600), .seed = 11, .backoff_max = TWILL_SEC(3600)));
    if (open_plan(p) != TWILL_OK)
        return;
    p->fails[0] = 100;
    add(p, 0);
    CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK); /* not in an hour */
    CHECK_EQ(p->outcomes[0].status, TWILL_TIMEOUT);
    close_plan(p, 1);
}

/* ---- the end ---- */

TEST(stop_drains_then_cancels)
{
    plan *p = plan_of(OPTIONS(.max_items = 10, .linger = TWILL_FOREVER));
    twill_stopped stopped;
    if (open_plan(p) != TWILL_OK)
        return;
    for (int i = 0; i < 35; i++)
        add(p, i);
    CHECK_EQ(twill_batcher_stop(p->batcher, twill_within(TWILL_SEC(100)),
                                twill_within(TWILL_SEC(100)), &stopped),
             TWILL_OK);
    CHECK_EQ(stopped.cancelled, 0);
    CHECK_EQ(stopped.stuck, 0);
    CHECK(stopped.finished <= 35);
    CHECK_EQ(add(p, 36), TWILL_CLOSED);
    CHECK_EQ(stats_of(p).done, 35);
    for (size_t k = 0; k < 4; k++)
        CHECK_EQ(p->sizes[k], k < 3 ? 10 : 5);
    close_plan(p, 35);
}

TEST(stop_gives_up_what_has_not_begun)
{
    plan *p = plan_of(OPTIONS(.max_items = 10, .linger = TWILL_FOREVER));
    twill_stopped stopped;
    if (open_plan(p) != TWILL_OK)
        return;
    atomic_store(&p->hold, true); /* until its token fires */
    for (int i = 0; i < 35; i++)
        add(p, i);
    CHECK(soon(one_inside, p));
    CHECK_EQ(twill_batcher_stop(p->batcher, twill_within(TWILL_MS(2)), twill_within(TWILL_SEC(100)),
                                &stopped),
             TWILL_OK);
    CHECK_EQ(stopped.finished, 10);
    CHECK_EQ(stopped.cancelled, 25);
    CHECK_EQ(stopped.stuck, 0);
    for (int i = 0; i < 35; i++)
        CHECK_EQ(p->outcomes[i].status, i < 10 ? TWILL_OK : TWILL_CANCELLED);
    close_plan(p, 35);
}

static atomic_bool deaf;
static int is_deaf(twill_batch *batch, const twill_task *task)
{
    (void)batch;
    (void)task;
    while (atomic_load(&deaf))
        nap(TWILL_US(100));
    return 0;
}

TEST(stop_says_what_is_stuck_and_may_be_called_again)
{
    plan *p = plan_of(OPTIONS(.max_items = 4, .linger = TWILL_FOREVER));
    twill_stopped stopped;
    atomic_store(&deaf, true);
    CHECK_EQ(twill_batcher_create(&p->batcher, is_deaf, &p->options), TWILL_OK);
    for (int i = 0; i < 6; i++)
        add(p, i);
    while (stats_of(p).batches == 0)
        nap(TWILL_US(100));
    CHECK_EQ(twill_batcher_stop(p->batcher, twill_within(0), twill_within(TWILL_MS(2)), &stopped),
             TWILL_TIMEOUT);
    CHECK_EQ(stopped.stuck, 4);
    CHECK_EQ(stopped.cancelled, 2);
    atomic_store(&deaf, false);
    CHECK_EQ(
        twill_batcher_stop(p->batcher, twill_within(0), twill_within(TWILL_SEC(100)), &stopped),
        TWILL_OK);
    CHECK_EQ(stopped.stuck, 0);
    close_plan(p, 6);
}

/* 0..3 and 4..7: 6 has failed while 1 has still to be tried again; 3 is forgotten. */
static int fails_late_and_early(twill_batch *batch, const twill_task *task)
{
    (void)task;
    for (size_t i = 0; i < batch->count; i++) {
        int value = *(int *)twill_batch_item(batch, i);
        if (value != 3)
            twill_batch_set(batch, i, value == 1 || value == 6 ? 10 + value : 0);
    }
    return 0;
}

static bool is_one(const void *item, int code, const twill_task *task)
{
    (void)code;
    (void)task;
    return *(const int *)item == 1;
}

TEST(the_report_names_the_failure_of_the_lowest_number)
{
    static int items[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    for (unsigned attempts = 1; attempts <= 2; attempts++) {
        twill_report report;
        twill_batcher *batcher;
        twill_batch_options options = {.run.report = &report,
                                       .max_items = 4,
                                       .attempts = attempts,
                                       .backoff = TWILL_MS(1),
                                       .retryable = is_one};
        CHECK_EQ(twill_batcher_create(&batcher, fails_late_and_early, &options), TWILL_OK);
        for (int i = 0; i < 8; i++)
            CHECK_EQ(twill_batcher_add(batcher, &items[i], NULL), TWILL_OK);
        CHECK_EQ(twill_batcher_destroy(batcher), TWILL_OK);
        CHECK_EQ(report.status, TWILL_FAILED);
        CHECK_EQ(report.failed, 3);
        CHECK_EQ(report.first_error.index, 1);
        CHECK_EQ(report.first_error.status, TWILL_FAILED);
        CHECK_EQ(report.first_error.code, 11);
    }
}

TEST(the_token_of_the_run_ends_it)
{
    twill_cancel token;
    plan *p = plan_of(OPTIONS(.max_items = 10, .linger = TWILL_FOREVER));
    twill_report report;
    twill_cancel_init(&token, NULL);
    p->options.run.until.cancel = &token;
    p->options.run.report = &report;
    if (open_plan(p) != TWILL_OK)
        return;
    atomic_store(&p->hold, true);
    for (int i = 0; i < 15; i++)
        add(p, i);
    CHECK(soon(one_inside, p));
    twill_cancel_fire(&token, 4);
    CHECK_EQ(add(p, 16), TWILL_CLOSED);
    CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
    CHECK_EQ(p->outcomes[12].status, TWILL_CANCELLED);
    close_plan(p, 15);
    CHECK_EQ(report.status, TWILL_CANCELLED);
    CHECK_EQ(report.total, 15);
    CHECK_EQ(report.done, 10);
    CHECK_EQ(report.skipped, 5);
    twill_cancel_detach(&token);
}

static bool all_added_before_the_deadline(twill_ns within)
{
    plan *p = plan_of(OPTIONS(.max_items = 10, .linger = TWILL_FOREVER));
    twill_report report;
    int added = 0;
    p->options.run.report = &report;
    p->options.run.until = twill_within(within);
    if (open_plan(p) != TWILL_OK)
        return true;
    while (added < 5 && add(p, added) == TWILL_OK)
        added++;
    CHECK(soon(nothing_pending, p));
    for (int i = 0; i < added; i++)
        CHECK_EQ(p->outcomes[i].status, TWILL_TIMEOUT);
    CHECK_EQ(add(p, 7), TWILL_CLOSED);
    close_plan(p, (size_t)added);
    CHECK_EQ(report.status, TWILL_TIMEOUT);
    CHECK_EQ(report.skipped, added);
    return added == 5;
}

TEST(the_deadline_of_the_run_ends_it)
{
    CHECK(test_in_time(TWILL_MS(50), all_added_before_the_deadline));
}

TEST(destroy_processes_the_rest)
{
    plan *p = plan_of(
        OPTIONS(.max_items = 7, .linger = TWILL_FOREVER, .attempts = 2, .backoff = TWILL_MS(2)));
    if (open_plan(p) != TWILL_OK)
        return;
    p->fails[3] = 1;
    for (int i = 0; i < 100; i++)
        add(p, i);
    CHECK_EQ(twill_batcher_destroy(NULL), TWILL_OK);
    close_plan(p, 100);
}

/* ---- pools, hooks, refusals, forks, faults ---- */

typedef struct on_pool {
    plan *p;
    int waits;
} on_pool;

static int batches_on_a_pool(twill_batch *batch, const twill_task *task)
{
    plan *p = plan_of(OPTIONS(.max_items = 3, .capacity = 4, .linger = TWILL_US(50)));
    (void)batch;
    p->options.run.pool = ((twill_pool **)task->context)[0];
    if (open_plan(p) != TWILL_OK)
        return 1;
    for (int i = 0; i < 100; i++)
        CHECK_EQ(add(p, i), TWILL_OK);
    CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
    CHECK_EQ(stats_of(p).done, 100);
    CHECK_EQ(twill_batcher_destroy(p->batcher), TWILL_OK);
    free(p);
    return 0;
}

TEST(a_pool_of_one_is_enough)
{
    twill_pool *pool;
    plan *p;
    int item = 0;
    CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 1}), TWILL_OK);
    p = plan_of(OPTIONS(.max_items = 10, .run.pool = pool, .run.workers = 2));
    if (open_plan(p) != TWILL_OK)
        return;
    for (int i = 0; i < 1000; i++)
        CHECK_EQ(add(p, i), TWILL_OK);
    CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
    CHECK_EQ(stats_of(p).done, 1000);
    CHECK_EQ(twill_batcher_destroy(p->batcher), TWILL_OK);
    free(p);
    CHECK_EQ(twill_batch_process(&item, sizeof item, NULL, 0, 1, batches_on_a_pool,
                                 &OPTIONS(.run.pool = pool, .run.context = &pool)),
             TWILL_OK);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

static _Thread_local bool asks;

static int not_by_who_asks(twill_batch *batch, const twill_task *task)
{
    (void)batch, (void)task;
    return asks;
}

static int naps(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    nap(TWILL_MS(2));
    return 0;
}

/* Who waits from outside for an item does not run its batch himself, though the workers are
   busy. */
TEST(a_batch_runs_on_the_pool)
{
    twill_pool *pool;
    twill_batcher *batcher;
    twill_future future;
    int item = 0;
    CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 1}), TWILL_OK);
    CHECK_EQ(
        twill_batcher_create(&batcher, not_by_who_asks, &OPTIONS(.run.pool = pool, .max_items = 1)),
        TWILL_OK);
    asks = true;
    CHECK_EQ(twill_pool_submit(pool, naps, NULL, NULL, NULL), TWILL_OK);
    CHECK_EQ(twill_batcher_add(batcher, &item, &future), TWILL_OK);
    CHECK_EQ(twill_future_wait(future, NULL, NULL), TWILL_OK);
    asks = false;
    twill_future_release(future);
    CHECK_EQ(twill_batcher_destroy(batcher), TWILL_OK);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

static atomic_uint starts, stops;

static int counts_start(void **state, const twill_task *task)
{
    const plan *p = task->context;
    atomic_fetch_add(&starts, 1);
    *state = &starts;
    if (p->end_at == MOST + 1)
        end_thread();
    return p->end_at == MOST ? 3 : 0;
}

static void counts_stop(void *state, const twill_task *task)
{
    (void)task;
    CHECK_PTR(state, &starts);
    atomic_fetch_add(&stops, 1);
}

static bool all_ended(plan *p)
{
    return stats_of(p).added > 0 && stats_of(p).pending == 0;
}

/* end_at: MOST: worker_start fails; MOST + 1: it ends its thread. */
TEST(worker_hooks)
{
    for (size_t end_at = MOST - 1; end_at <= MOST + 1; end_at++)
        for (unsigned workers = 1; workers <= 3; workers++) {
            twill_report report;
            plan *p =
                plan_of(OPTIONS(.max_items = 2, .run.workers = workers, .run.report = &report,
                                .run.worker_start = counts_start, .run.worker_stop = counts_stop));
            size_t added = 0;
            p->end_at = end_at;
            atomic_store(&starts, 0);
            atomic_store(&stops, 0);
            if (open_plan(p) != TWILL_OK)
                return;
            for (int i = 0; i < 20; i++) {
                twill_status status = add(p, i);
                CHECK(status == TWILL_OK || (end_at >= MOST && status == TWILL_CLOSED));
                added += status == TWILL_OK;
            }
            if (end_at < MOST) {
                CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
                CHECK_EQ(stats_of(p).done, 20);
            } else {
                CHECK(soon(all_ended, p)); /* not by a flush: on a thread's part */
                CHECK_EQ(twill_batcher_flush_until(p->batcher, twill_within(TWILL_SEC(100))),
                         TWILL_OK);
                CHECK_EQ(stats_of(p).cancelled, added);
                CHECK_EQ(add(p, 0), TWILL_CLOSED);
                CHECK_EQ(atomic_load(&starts), workers);
            }
            close_plan(p, added);
            CHECK_EQ(report.total, added);
            CHECK_EQ(report.status, end_at < MOST ? TWILL_OK : TWILL_FAILED);
            if (end_at >= MOST)
                CHECK_EQ(report.first_error.index, SIZE_MAX);
            if (end_at == MOST)
                CHECK_EQ(report.first_error.code, 3);
            CHECK_EQ(atomic_load(&stops), end_at < MOST ? atomic_load(&starts) : 0);
        }
}

TEST(refusals)
{
    twill_batcher *batcher = (void *)1;
    int items[2];
    twill_status statuses[2];
    twill_item_error error;
    twill_batcher_stats stats;
#define REFUSED(why, ...)                                                      \
    CHECK_EQ(twill_batcher_create(&batcher, act, &OPTIONS(__VA_ARGS__)), why); \
    CHECK_PTR(batcher, NULL)
    REFUSED(TWILL_INVALID, .max_bytes = 5);
    REFUSED(TWILL_INVALID, .bytes_of = bytes_of);
    REFUSED(TWILL_INVALID, .capacity_bytes = 5);
    REFUSED(TWILL_INVALID, .coalesce = true);
    REFUSED(TWILL_INVALID, .item_timeout = TWILL_MS(10));
    REFUSED(TWILL_INVALID, .item_timeout = TWILL_SEC(1), .linger = TWILL_FOREVER);
    REFUSED(TWILL_INVALID, .linger = -1);
    REFUSED(TWILL_INVALID, .idle = -1);
    REFUSED(TWILL_INVALID, .backoff = -1);
    REFUSED(TWILL_INVALID, .backoff_max = -1);
    REFUSED(TWILL_INVALID, .overflow = (twill_overflow)6);
    REFUSED(TWILL_INVALID, .on_bad_batch = (twill_bad_batch)3);
    REFUSED(TWILL_INVALID, .run.on_error = TWILL_ON_ERROR_FIRST);
    REFUSED(TWILL_INVALID, .run.max_errors = 1);
    REFUSED(TWILL_INVALID, .run.errors = &error);
    REFUSED(TWILL_INVALID, .run.errors_capacity = 1);
    REFUSED(TWILL_INVALID, .run.statuses = statuses);
    REFUSED(TWILL_INVALID, .run.codes = items);
    REFUSED(TWILL_INVALID, .item_timeout = -1);
    REFUSED(TWILL_INVALID, .attempts = (unsigned)INT_MAX + 1);
    REFUSED(TWILL_TOO_BIG, .max_items = SIZE_MAX);
    REFUSED(TWILL_TOO_BIG, .max_items = SIZE_MAX / 64, .run.workers = 2);
    REFUSED(TWILL_NO_MEMORY, .max_items = SIZE_MAX / 64);
    REFUSED(TWILL_TOO_BIG, .run.workers = 1000000);
    CHECK_EQ(twill_batcher_create(/* neither is a limit */
                                  &batcher, act,
                                  &OPTIONS(.linger = TWILL_FOREVER, .item_timeout = TWILL_FOREVER)),
             TWILL_OK);
    CHECK_EQ(twill_batcher_destroy(batcher), TWILL_OK);
    CHECK_EQ(twill_batcher_create(&batcher, NULL, NULL), TWILL_INVALID);
    CHECK_EQ(twill_batcher_create(NULL, act, NULL), TWILL_INVALID);
    CHECK_EQ(twill_batcher_add(NULL, items, NULL), TWILL_INVALID);
    CHECK_EQ(twill_batcher_flush(NULL), TWILL_INVALID);
    memset(&stats, 1, sizeof stats);
    twill_batcher_get_stats(NULL, &stats);
    CHECK_EQ(stats.added, 0);
    twill_batcher_get_stats(NULL, NULL); /* nothing to be written */
    CHECK_EQ(twill_batcher_close(NULL), TWILL_INVALID);
    CHECK_EQ(twill_batcher_stop(NULL, twill_within(0), twill_within(0), NULL), TWILL_INVALID);
    CHECK_EQ(faults_live(), 0);
}

TEST(fork_child_has_no_batcher)
{
    plan *p = plan_of(OPTIONS(.linger = TWILL_FOREVER));
    twill_future future;
    pid_t child;
    int status;
    if (open_plan(p) != TWILL_OK)
        return;
    CHECK_EQ(twill_batcher_add(p->batcher, &p->numbers[0], &future), TWILL_OK);
    child = fork();
    if (child == 0) {
        twill_batcher_stats s;
        bool right = add(p, 1) == TWILL_FORKED && twill_batcher_flush(p->batcher) == TWILL_FORKED &&
                     twill_batcher_close(p->batcher) == TWILL_FORKED &&
                     twill_batcher_stop(p->batcher, twill_within(0), twill_within(0), NULL) ==
                         TWILL_FORKED &&
                     twill_future_try_wait(future, NULL, NULL) == TWILL_FORKED;
        twill_batcher_get_stats(p->batcher, &s);
        right = right && s.added == 0 && twill_batcher_destroy(p->batcher) == TWILL_OK;
        _exit(!right);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    twill_future_release(future);
    close_plan(p, 1);
}

/* A fork in a callback, while another thread has the lock. In the child it stays locked: there
   nothing is called or told any more, and the calls that went round the callback say FORKED. */
static pid_t fork_child = -1;
/* 0: fn; 1: on_item; 2: fn of a batch inside of an add in fn; 3: on_item of the first of two; 4: fn
   of a batch inside of a flush; 5: on_item of the first of two in a stop; 6: fn, while a stop
   drains; 7: as 3, without futures; 8: retryable of the first of two that fail; 9: fn of many, in
   halves, likewise */
enum { FORK_WHERES = 10 };
static int fork_where;

static void fork_here(plan *p)
{
    twill__light_take(&p->batcher->lock, TWILL__BATCHER_SPIN);
    fork_child = fork();
    if (fork_child)
        twill__light_unlock(&p->batcher->lock);
    else
        alarm(20); /* instead of a hang */
}

static int forking_fn(twill_batch *batch, const twill_task *task)
{
    plan *p = task->context;
    int item = number_of(twill_batch_item(batch, 0));
    if (fork_child == 0)
        _exit(2);
    if (fork_where == 2 && item == 0) {
        twill_status status = add(p, 30);
        if (fork_child == 0)
            return status == TWILL_FORKED ? 7 : (_exit(3), 0);
        CHECK_EQ(status, TWILL_OK);
    }
    if (fork_where >= 8 && fork_child < 0)
        return 7;
    if (fork_child < 0 && fork_where % 2 == 0 && (fork_where != 2 || item == 1))
        fork_here(p);
    return fork_child == 0 ? 7 : 0;
}

static bool forking_retryable(const void *item, int code, const twill_task *task)
{
    (void)item;
    CHECK_EQ(code, 7);
    if (fork_child == 0)
        _exit(6);
    if (fork_child < 0)
        fork_here(task->context);
    return true;
}

static void forking_told(void *item, const twill_outcome *outcome, void *result,
                         const twill_task *task)
{
    plan *p = task->context;
    (void)result;
    if (fork_child == 0)
        _exit(4);
    CHECK_EQ(outcome->status, fork_where == 5 ? TWILL_CANCELLED : TWILL_OK);
    atomic_fetch_add(&p->told[number_of(item)], 1);
    if (fork_child < 0 && fork_where % 2 == 1 && fork_where != 9)
        fork_here(p);
}

static int hold_worker(void *arg, void *result, const twill_task *task)
{
    plan *p = arg;
    (void)result;
    (void)task;
    atomic_fetch_add(&p->inside, 1);
    while (atomic_load(&p->hold))
        nap(TWILL_US(50));
    return 0;
}

/* On a pool of one the caller works. */
TEST(a_fork_in_a_callback)
{
    for (fork_where = 0; fork_where < FORK_WHERES; fork_where++) {
        const int adds = fork_where >= 4 ? 2 : 3;
        const size_t max_items[FORK_WHERES] = {1, 1, 1, 2, 1, 9, 9, 2, 2, 2};
        const bool futured = fork_where % 2 && fork_where < 7; /* those are told one by one */
        twill_future futures[3] = {{0}};
        pid_t parent = getpid();
        twill_pool *pool;
        twill_status status = TWILL_OK;
        int child = -1;
        plan *p = plan_of(
            OPTIONS(.max_items = max_items[fork_where], .linger = TWILL_FOREVER, .capacity = 2));
        fork_child = -1;
        CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 1}), TWILL_OK);
        p->options.run.pool = pool;
        p->options.on_item = forking_told;
        p->options.attempts = 3;
        if (fork_where >= 8)
            p->options.retryable = forking_retryable;
        if (fork_where == 9)
            p->options.on_bad_batch = TWILL_BAD_BATCH_BISECT;
        atomic_store(&p->hold, true);
        CHECK_EQ(twill_pool_submit(pool, hold_worker, p, NULL, NULL), TWILL_OK);
        while (!atomic_load(&p->inside))
            nap(TWILL_US(50));
        CHECK_EQ(twill_batcher_create(&p->batcher, forking_fn, &p->options), TWILL_OK);
        for (int i = 0; i < adds && status == TWILL_OK; i++)
            status = twill_batcher_add(p->batcher, &p->numbers[i], futured ? &futures[i] : NULL);
        if (status == TWILL_OK && (fork_where == 5 || fork_where == 6))
            status =
                twill_batcher_stop(p->batcher, twill_within(fork_where == 5 ? 0 : TWILL_FOREVER),
                                   (twill_until){0, NULL}, NULL);
        else if (status == TWILL_OK)
            status = twill_batcher_flush(p->batcher);
        if (getpid() != parent) {
            /* the parent's, and nobody's to give back */
            if (!(atomic_load(&p->batcher->lock.word) & TWILL__HELD))
                _exit(5);
            _exit(status == TWILL_FORKED && twill_batcher_destroy(p->batcher) == TWILL_OK ? 0 : 1);
        }
        CHECK_EQ(status, TWILL_OK);
        atomic_store(&p->hold, false);
        CHECK(fork_child > 0);
        CHECK_EQ(waitpid(fork_child, &child, 0), fork_child);
        CHECK(WIFEXITED(child));
        CHECK_EQ(WEXITSTATUS(child), 0);
        CHECK_EQ(stats_of(p).done, fork_where == 5 ? 0 : fork_where == 2 ? 4 : adds);
        for (int i = 0; i < 3; i++)
            twill_future_release(futures[i]);
        CHECK_EQ(twill_batcher_destroy(p->batcher), TWILL_OK);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
        free(p);
        CHECK_EQ(faults_live(), 0);
    }
}

/* On threads of its own, one of which is in a call that goes on after the fork: the child waits for
   nobody. */
static int waits_for_the_fork(twill_batch *batch, const twill_task *task)
{
    plan *p = task->context;
    (void)batch;
    atomic_fetch_add(&p->inside, 1);
    while (atomic_load(&p->hold))
        nap(TWILL_US(50));
    return 0;
}

static void forks_when_cancelled(void *item, const twill_outcome *outcome, void *result,
                                 const twill_task *task)
{
    plan *p = task->context;
    (void)item, (void)result;
    if (outcome->status != TWILL_CANCELLED)
        return;
    fork_here(p);
    atomic_store(&p->hold, false);
}

TEST(a_fork_while_a_stop_cancels)
{
    plan *p = plan_of(OPTIONS(.max_items = 1, .capacity = 4));
    pid_t parent = getpid();
    int child = -1;
    twill_status status;
    fork_child = -1;
    p->options.on_item = forks_when_cancelled;
    atomic_store(&p->hold, true);
    CHECK_EQ(twill_batcher_create(&p->batcher, waits_for_the_fork, &p->options), TWILL_OK);
    CHECK_EQ(add(p, 0), TWILL_OK);
    while (!atomic_load(&p->inside))
        nap(TWILL_US(50));
    CHECK_EQ(add(p, 1), TWILL_OK);
    status = twill_batcher_stop(p->batcher, twill_within(0), (twill_until){0, NULL}, NULL);
    if (getpid() != parent)
        _exit(status == TWILL_FORKED && twill_batcher_destroy(p->batcher) == TWILL_OK ? 0 : 1);
    CHECK_EQ(status, TWILL_OK);
    CHECK(fork_child > 0);
    CHECK_EQ(waitpid(fork_child, &child, 0), fork_child);
    CHECK_EQ(child, 0);
    CHECK_EQ(twill_batcher_destroy(p->batcher), TWILL_OK);
    free(p);
    CHECK_EQ(faults_live(), 0);
}

/* Before the lock: the item is the parent's. */
static size_t forking_bytes(const void *item, const twill_task *task)
{
    (void)item;
    (void)task;
    fork_child = fork();
    return 1;
}

TEST(a_fork_in_an_add)
{
    plan *p = plan_of(OPTIONS(.bytes_of = forking_bytes, .max_bytes = 10));
    twill_status status;
    int child = -1;
    if (open_plan(p) != TWILL_OK)
        return;
    status = add(p, 0);
    if (!fork_child)
        _exit(status != TWILL_FORKED);
    CHECK_EQ(status, TWILL_OK);
    CHECK_EQ(waitpid(fork_child, &child, 0), fork_child);
    CHECK(WIFEXITED(child));
    CHECK_EQ(WEXITSTATUS(child), 0);
    close_plan(p, 1);
}

/* Of the batcher's own threads the child has the one that forked: in a hook that fails or not, or
   in fn, where it ends; or it has a caller that helps a pool. Nothing more is called, and the
   process ends with it. */
static bool child_ends, child_fails;

static int forking_start(void **state, const twill_task *task)
{
    (void)state, (void)task;
    fork_child = fork();
    if (!fork_child)
        alarm(20);
    return fork_child || !child_fails ? 0 : 7;
}

static int forks_and_ends(twill_batch *batch, const twill_task *task)
{
    (void)batch, (void)task;
    if (fork_child == 0)
        _exit(2);
    if (!child_ends || fork_child > 0)
        return 0;
    fork_child = fork();
    if (!fork_child) {
        alarm(20);
        end_thread();
    }
    return 0;
}

TEST(a_fork_on_a_worker)
{
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
    SKIP("a sanitizer looks at a child whose last thread ends");
#endif
    for (int where = 0; where < 4; where++) {
        plan *p = plan_of(OPTIONS(.run.workers = 1));
        twill_pool *pool = NULL;
        int child = -1;
        child_ends = where >= 2;
        child_fails = where == 1;
        fork_child = -1;
        if (where < 2)
            p->options.run.worker_start = forking_start;
        if (where == 3) {
            CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 1}), TWILL_OK);
            atomic_store(&p->hold, true);
            CHECK_EQ(twill_pool_submit(pool, hold_worker, p, NULL, NULL), TWILL_OK);
            while (!atomic_load(&p->inside))
                nap(TWILL_US(50));
            p->options.run.pool = pool;
        }
        CHECK_EQ(twill_batcher_create(&p->batcher, forks_and_ends, &p->options), TWILL_OK);
        CHECK_EQ(add(p, 0), TWILL_OK);
        CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
        CHECK(fork_child > 0);
        CHECK_EQ(waitpid(fork_child, &child, 0), fork_child);
        CHECK_EQ(child, 0);
        CHECK_EQ(stats_of(p).done, 1);
        atomic_store(&p->hold, false);
        CHECK_EQ(twill_batcher_destroy(p->batcher), TWILL_OK);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
        free(p);
        CHECK_EQ(faults_live(), 0);
    }
}

TEST(a_callback_that_ends_its_thread)
{
    for (int workers = 1; workers <= 3; workers += 2) {
        plan *p = plan_of(OPTIONS(.max_items = 10, .attempts = 2, .linger = TWILL_FOREVER,
                                  .run.workers = (unsigned)workers));
        twill_future future;
        twill_outcome outcome;
        if (open_plan(p) != TWILL_OK)
            return;
        p->end_at = 25;
        for (int i = 0; i < 100; i++) {
            if (i == 26)
                CHECK_EQ(twill_batcher_add(p->batcher, &p->numbers[i], &future), TWILL_OK);
            else
                CHECK_EQ(add(p, i), TWILL_OK);
        }
        CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
        for (int i = 0; i < 100; i++)
            CHECK_EQ(p->outcomes[i].status, i / 10 == 2 ? TWILL_LOST : TWILL_OK);
        CHECK_EQ(twill_future_wait(future, NULL, &outcome), TWILL_FAILED);
        CHECK_EQ(outcome.status, TWILL_LOST);
        twill_future_release(future);
        CHECK_EQ(stats_of(p).lost, 10);
        close_plan(p, 100);
    }
}

static int ends_at(twill_batch *batch, const twill_task *task)
{
    const plan *p = task->context;
    if ((size_t)number_of(twill_batch_item(batch, 0)) == p->end_at)
        end_thread();
    return 0;
}

/* A caller that helps, since the pool's only thread is busy: the batcher does not wait for it. */
static void add_until_the_end(void *plan_)
{
    plan *p = plan_;
    for (int i = 0; i < 20; i++)
        CHECK_EQ(add(p, i), TWILL_OK);
    CHECK(false); /* item 7 has ended the thread */
}

TEST(a_callback_ends_a_caller_that_helps)
{
    twill_pool *pool;
    twill__thrd thread;
    plan *p = plan_of(OPTIONS(.max_items = 1, .linger = TWILL_FOREVER, .capacity = 2));
    p->end_at = 7;
    CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 1}), TWILL_OK);
    p->options.run.pool = pool;
    atomic_store(&p->hold, true);
    CHECK_EQ(twill_pool_submit(pool, hold_worker, p, NULL, NULL), TWILL_OK);
    while (!atomic_load(&p->inside))
        nap(TWILL_US(50));
    CHECK_EQ(twill_batcher_create(&p->batcher, ends_at, &p->options), TWILL_OK);
    memset(&thread, 0, sizeof thread);
    thread.fn = add_until_the_end;
    thread.arg = p;
    thread.cpu = UINT_MAX;
    CHECK(twill__thread_start(&thread));
    twill__thread_join(&thread);
    atomic_store(&p->hold, false);
    CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
    CHECK_EQ(stats_of(p).lost, 1);
    CHECK_EQ(twill_batcher_destroy(p->batcher), TWILL_OK);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    free(p);
    CHECK_EQ(faults_live(), 0);
}

/* The one who stops it tells what is dropped, and is ended by that: the next one destroys it. */
static void stop_it(void *plan_)
{
    plan *p = plan_;
    (void)twill_batcher_stop(p->batcher, twill_within(0), twill_within(TWILL_SEC(100)), NULL);
    CHECK(false);
}

static void ends_its_thread(void *item, const twill_outcome *outcome, void *result,
                            const twill_task *task)
{
    told(item, outcome, result, task);
    if (number_of(item) == 4)
        end_thread();
}

TEST(an_on_item_that_ends_its_thread)
{
    plan *p = plan_of(OPTIONS(.max_items = 10, .linger = TWILL_FOREVER));
    p->options.on_item = ends_its_thread;
    if (open_plan(p) != TWILL_OK)
        return;
    for (int i = 0; i < 50; i++)
        CHECK_EQ(add(p, i), TWILL_OK);
    CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
    CHECK_EQ(stats_of(p).done, 50);
    close_plan(p, 50);
}

TEST(an_on_item_that_ends_who_stops)
{
    twill__thrd thread;
    plan *p = plan_of(OPTIONS(.max_items = 10, .linger = TWILL_FOREVER));
    p->options.on_item = ends_its_thread;
    if (open_plan(p) != TWILL_OK)
        return;
    for (int i = 0; i < 6; i++)
        CHECK_EQ(add(p, i), TWILL_OK);
    memset(&thread, 0, sizeof thread);
    thread.fn = stop_it;
    thread.arg = p;
    thread.cpu = UINT_MAX;
    CHECK(twill__thread_start(&thread));
    twill__thread_join(&thread);
    CHECK_EQ(twill_batcher_destroy(p->batcher), TWILL_OK);
    for (int i = 0; i < 6; i++)
        CHECK_EQ(p->outcomes[i].status, TWILL_CANCELLED);
    free(p);
    CHECK_EQ(faults_live(), 0);
}

/* ---- threads that end in odd places ---- */

/* retryable ends the thread between two items: what the call had said stays said, what nobody came
   to is lost, and a batch that was bad before it has failed. */
static bool retryable_ends(const void *item, int code, const twill_task *task)
{
    (void)code;
    (void)task;
    if (number_of(item) == 2)
        end_thread();
    return false;
}

static int bad_but_for_two(twill_batch *batch, const twill_task *task)
{
    plan *p = task->context;
    for (size_t i = 0; i < batch->count; i++) {
        int item = number_of(twill_batch_item(batch, i));
        atomic_fetch_add(&p->seen[item], 1);
        if (item == 0 || item == 2)
            twill_batch_set(batch, i, item == 0 ? 0 : 1002);
    }
    return 7;
}

TEST(retryable_may_end_its_thread)
{
    plan *p = plan_of(OPTIONS(.max_items = 4, .attempts = 2, .linger = TWILL_FOREVER,
                              .retryable = retryable_ends, .on_bad_batch = TWILL_BAD_BATCH_BISECT));
    CHECK_EQ(twill_batcher_create(&p->batcher, bad_but_for_two, &p->options), TWILL_OK);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(add(p, i), TWILL_OK);
    CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
    CHECK_EQ(p->outcomes[0].status, TWILL_OK);
    CHECK_EQ(p->outcomes[1].status, TWILL_FAILED);
    CHECK_EQ(p->outcomes[2].status, TWILL_LOST);
    CHECK_EQ(p->outcomes[3].status, TWILL_LOST);
    close_plan(p, 4);
}

/* A callback that adds to its own full batcher works on another batch, which ends the thread: both
   are lost, and nothing else is. */
static int adds_and_is_ended(twill_batch *batch, const twill_task *task)
{
    plan *p = task->context;
    int item = number_of(twill_batch_item(batch, 0));
    atomic_fetch_add(&p->seen[item], 1);
    while (item == 0 && atomic_load(&p->hold))
        nap(TWILL_US(50));
    if (item == 0) {
        (void)add(p, 3);
        CHECK(false);
    }
    if (item == 1)
        end_thread();
    return 0;
}

static bool first_was_seen(plan *p)
{
    return atomic_load(&p->seen[0]) == 1;
}

TEST(a_batch_inside_of_another_ends_the_thread)
{
    plan *p = plan_of(OPTIONS(.max_items = 1, .capacity = 3));
    CHECK_EQ(twill_batcher_create(&p->batcher, adds_and_is_ended, &p->options), TWILL_OK);
    atomic_store(&p->hold, true);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(add(p, i), TWILL_OK);
    CHECK(soon(first_was_seen, p));
    atomic_store(&p->hold, false);
    CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
    CHECK_EQ(p->outcomes[0].status, TWILL_LOST);
    CHECK_EQ(p->outcomes[1].status, TWILL_LOST);
    CHECK_EQ(p->outcomes[2].status, TWILL_OK);
    close_plan(p, 3);
}

/* As above, of items with entries: those behind the one that was told are told, too. */
TEST(an_on_item_that_ends_its_thread_between_two_futures)
{
    plan *p = plan_of(OPTIONS(.max_items = 10, .linger = TWILL_FOREVER));
    twill_future futures[10];
    p->options.on_item = ends_its_thread;
    if (open_plan(p) != TWILL_OK)
        return;
    for (int i = 0; i < 10; i++)
        CHECK_EQ(twill_batcher_add(p->batcher, &p->numbers[i], &futures[i]), TWILL_OK);
    for (int i = 0; i < 10; i++) {
        CHECK_EQ(twill_future_wait(futures[i], NULL, NULL), TWILL_OK);
        twill_future_release(futures[i]);
    }
    CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
    close_plan(p, 10);
}

/* ---- who waits, and for how long ---- */

static bool someone_waits(plan *p)
{
    bool waits;
    twill__light_take(&p->batcher->lock, TWILL__BATCHER_SPIN);
    waits = p->batcher->adders.first || p->batcher->flushers.first;
    twill__light_unlock(&p->batcher->lock);
    return waits;
}

static twill_cancel patience;

static void impatient_add(void *plan_)
{
    plan *p = plan_;
    CHECK_EQ(twill_batcher_add_until(p->batcher, &p->numbers[1], NULL, (twill_until){0, &patience}),
             TWILL_CANCELLED);
    CHECK_EQ(twill_batcher_add_until(p->batcher, &p->numbers[1], NULL, (twill_until){0, &patience}),
             TWILL_CANCELLED); /* does not begin to wait */
}

TEST(an_add_that_waits_ends_with_its_token)
{
    plan *p = plan_of(OPTIONS(.max_items = 1, .capacity = 1));
    twill_cancel_init(&patience, NULL);
    if (open_plan(p) != TWILL_OK)
        return;
    atomic_store(&p->hold, true);
    CHECK_EQ(add(p, 0), TWILL_OK);
    go(0, impatient_add, p);
    CHECK(soon(someone_waits, p));
    CHECK_EQ(twill_batcher_add_until(p->batcher, &p->numbers[1], NULL, (twill_until){1, NULL}),
             TWILL_TIMEOUT);
    twill_cancel_fire(&patience, 1);
    join(0);
    CHECK_EQ(stats_of(p).added, 1);
    atomic_store(&p->hold, false);
    close_plan(p, 1);
    twill_cancel_detach(&patience);
}

/* A pool of one whose thread is held: the caller is who works. */
static twill_pool *pool_that_is_held(plan *p)
{
    twill_pool *pool = NULL;
    CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 1}), TWILL_OK);
    p->options.run.pool = pool;
    atomic_store(&p->hold, true);
    CHECK_EQ(twill_pool_submit(pool, hold_worker, p, NULL, NULL), TWILL_OK);
    CHECK(soon(one_inside, p));
    return pool;
}

static void close_pool_plan(plan *p, twill_pool *pool)
{
    atomic_store(&p->hold, false);
    CHECK_EQ(twill_batcher_destroy(p->batcher), TWILL_OK);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    free(p);
    CHECK_EQ(faults_live(), 0);
}

static int sees(twill_batch *batch, const twill_task *task)
{
    plan *p = task->context;
    int worst = 0;
    for (size_t i = 0; i < batch->count; i++) {
        int number = number_of(twill_batch_item(batch, i));
        atomic_fetch_add(&p->seen[number], 1);
        if ((int)batch->attempt <= p->fails[number])
            worst = 1000 + number;
    }
    return worst;
}

static void fires_when_someone_waits(void *plan_)
{
    CHECK(soon(someone_waits, plan_));
    twill_cancel_fire(&patience, 1);
}

/* Nothing is ready until a retry is due: the caller sleeps that long, and does it. */
TEST(a_flush_that_works_sleeps_until_a_retry_is_due)
{
    plan *p = plan_of(
        OPTIONS(.max_items = 1, .linger = TWILL_FOREVER, .attempts = 3, .backoff = TWILL_US(300)));
    twill_pool *pool = pool_that_is_held(p);
    twill_future future;
    p->fails[0] = 2;
    p->options.run.until = twill_within(TWILL_SEC(3600)); /* far away */
    CHECK_EQ(twill_batcher_create(&p->batcher, sees, &p->options), TWILL_OK);
    CHECK_EQ(add(p, 0), TWILL_OK);
    CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
    CHECK_EQ(atomic_load(&p->seen[0]), 3);
    CHECK_EQ(p->outcomes[0].status, TWILL_OK);
    CHECK_EQ(stats_of(p).retried, 2);
    /* one who may not overrun its time waits for others */
    CHECK_EQ(add(p, 1), TWILL_OK);
    CHECK_EQ(twill_batcher_flush_until(p->batcher, twill_within(TWILL_MS(1))), TWILL_TIMEOUT);
    twill_cancel_init(&patience, NULL);
    go(0, fires_when_someone_waits, p);
    CHECK_EQ(twill_batcher_flush_until(p->batcher, (twill_until){0, &patience}), TWILL_CANCELLED);
    join(0);
    twill_cancel_detach(&patience);
    CHECK_EQ(twill_batcher_add(p->batcher, &p->numbers[2], &future), TWILL_OK);
    CHECK_EQ(twill_future_wait_until(future, NULL, NULL, twill_within(TWILL_MS(1))), TWILL_TIMEOUT);
    twill_future_release(future);
    CHECK_EQ(atomic_load(&p->seen[1]), 0);
    close_pool_plan(p, pool);
}

/* Likewise an add: there is room when the retry is done. */
TEST(an_add_that_works_sleeps_until_a_retry_is_due)
{
    plan *p =
        plan_of(OPTIONS(.max_items = 1, .capacity = 1, .attempts = 3, .backoff = TWILL_US(300)));
    twill_pool *pool = pool_that_is_held(p);
    p->fails[0] = 2;
    CHECK_EQ(twill_batcher_create(&p->batcher, sees, &p->options), TWILL_OK);
    CHECK_EQ(add(p, 0), TWILL_OK);
    CHECK_EQ(add(p, 1), TWILL_OK);
    CHECK_EQ(p->outcomes[0].status, TWILL_OK);
    CHECK_EQ(atomic_load(&p->seen[0]), 3);
    close_pool_plan(p, pool);
}

/* Nobody looks after the open batch: the next item does, although nobody asks when it came. */
TEST(on_a_pool_the_next_item_sees_that_a_batch_is_old)
{
    plan *p = plan_of(OPTIONS(.linger = TWILL_MS(2)));
    twill_pool *pool = pool_that_is_held(p);
    p->options.on_item = NULL;
    CHECK_EQ(twill_batcher_create(&p->batcher, sees, &p->options), TWILL_OK);
    CHECK_EQ(add(p, 0), TWILL_OK);
    CHECK_EQ(add(p, 1), TWILL_OK);
    nap(TWILL_MS(3));
    CHECK_EQ(add(p, 2), TWILL_OK);
    CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
    CHECK(stats_of(p).by_linger >= 1);
    CHECK_EQ(atomic_load(&p->seen[2]), 1);
    CHECK_EQ(stats_of(p).done, 3);
    close_pool_plan(p, pool);
}

/* On the pool's only thread: nobody else could do it, whatever the time. */
static int waits_on_the_pool(void *plan_, void *result, const twill_task *task)
{
    plan *p = plan_;
    twill_future futures[5];
    (void)result;
    (void)task;
    for (int i = 0; i < 3; i++) /* 2 is merged with 0 */
        CHECK_EQ(twill_batcher_add(p->batcher, &p->numbers[i], &futures[i]), TWILL_OK);
    CHECK_EQ(twill_future_wait_until(futures[2], NULL, NULL, twill_within(TWILL_MS(1))),
             TWILL_TIMEOUT); /* the batch lingers */
    CHECK_EQ(twill_batcher_flush_until(p->batcher, twill_within(TWILL_SEC(100))), TWILL_OK);
    CHECK_EQ(p->outcomes[0].status, TWILL_OK);
    p->fails[4] = 99; /* tried again in an hour, or nearly */
    CHECK_EQ(add(p, 4), TWILL_OK);
    CHECK_EQ(twill_batcher_flush_until(p->batcher, twill_within(TWILL_MS(1))), TWILL_TIMEOUT);
    CHECK_EQ(twill_batcher_add(p->batcher, &p->numbers[5], &futures[3]), TWILL_OK);
    CHECK_EQ(twill_batcher_add(p->batcher, &p->numbers[7], &futures[4]), TWILL_OK);
    CHECK_EQ(twill_batcher_close(p->batcher), TWILL_OK);
    CHECK_EQ(twill_future_wait(futures[4], NULL, NULL), TWILL_OK); /* by this wait */
    CHECK_EQ(stats_of(p).pending, 1);
    for (int i = 0; i < 5; i++)
        twill_future_release(futures[i]);
    return 0;
}

TEST(the_only_thread_of_a_pool_works_while_it_waits)
{
    plan *p = plan_of(OPTIONS(.linger = TWILL_FOREVER, .attempts = 2, .backoff = TWILL_SEC(3600),
                              .backoff_max = TWILL_SEC(3600), .key_of = key_of, .coalesce = true));
    twill_pool *pool;
    twill_future future;
    p->keys = 2;
    CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 1}), TWILL_OK);
    p->options.run.pool = pool;
    CHECK_EQ(twill_batcher_create(&p->batcher, sees, &p->options), TWILL_OK);
    CHECK_EQ(twill_pool_submit(pool, waits_on_the_pool, p, &future, NULL), TWILL_OK);
    CHECK_EQ(twill_future_wait(future, NULL, NULL), TWILL_OK);
    twill_future_release(future);
    CHECK_EQ(twill_batcher_stop(p->batcher, twill_within(0), twill_within(TWILL_SEC(100)), NULL),
             TWILL_OK);
    CHECK_EQ(p->outcomes[4].status, TWILL_FAILED); /* it was called */
    CHECK_EQ(p->outcomes[4].code, 1004);
    close_pool_plan(p, pool);
}

/* ---- inside of a callback: no worker's hands, no memory, its own key ---- */

static twill_status room_of_its_own, room_of_another;
static void adds_two(void *item, const twill_outcome *outcome, void *result, const twill_task *task)
{
    plan *p = task->context;
    told(item, outcome, result, task);
    if (number_of(item) != 1)
        return;
    room_of_its_own = add(p, 2);
    room_of_another = add(p, 3);
}

TEST(an_on_item_outside_of_a_worker_cannot_make_room)
{
    plan *p = plan_of(OPTIONS(.max_items = 1, .capacity = 2));
    twill_future future;
    p->options.on_item = adds_two;
    if (open_plan(p) != TWILL_OK)
        return;
    atomic_store(&p->hold, true);
    CHECK_EQ(add(p, 0), TWILL_OK);
    CHECK(soon(one_inside, p));
    CHECK_EQ(twill_batcher_add(p->batcher, &p->numbers[1], &future), TWILL_OK);
    CHECK_EQ(twill_future_cancel(future), TWILL_OK);
    CHECK_EQ(room_of_its_own, TWILL_OK);
    CHECK_EQ(room_of_another, TWILL_DEADLOCK);
    CHECK_EQ(p->outcomes[1].status, TWILL_CANCELLED);
    twill_future_release(future);
    atomic_store(&p->hold, false);
    close_plan(p, 3);
}

static atomic_int without_memory;
static int adds_without_memory(twill_batch *batch, const twill_task *task)
{
    plan *p = task->context;
    if (number_of(twill_batch_item(batch, 0)) == 0) {
        faults_fail_alloc_from(1);
        atomic_store(&without_memory, (int)add(p, 2));
        faults_fail_alloc(0);
    }
    return 0;
}

TEST(a_callback_without_memory_for_another_batch)
{
    plan *p = plan_of(OPTIONS(.max_items = 1, .capacity = 2));
    CHECK_EQ(twill_batcher_create(&p->batcher, adds_without_memory, &p->options), TWILL_OK);
    /* both are there before the first is called */
    twill__light_take(&p->batcher->lock, TWILL__BATCHER_SPIN);
    twill__light_unlock(&p->batcher->lock);
    atomic_store(&without_memory, -1);
    CHECK_EQ(add(p, 0), TWILL_OK);
    CHECK_EQ(add(p, 1), TWILL_OK);
    CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
    CHECK(atomic_load(&without_memory) == TWILL_NO_MEMORY ||
          atomic_load(&without_memory) == TWILL_OK); /* OK: 1 came after it */
    atomic_store(&p->told[2], 1);
    close_plan(p, 3);
}

static int waits_for_its_key(twill_batch *batch, const twill_task *task)
{
    plan *p = task->context;
    twill_future same;
    if (number_of(twill_batch_item(batch, 0)) != 0)
        return 0;
    CHECK_EQ(twill_batcher_add(p->batcher, &p->numbers[3], &same), TWILL_OK);
    CHECK_EQ(twill_future_wait_until(same, NULL, NULL, twill_within(TWILL_MS(2))), TWILL_TIMEOUT);
    CHECK_EQ(twill_batcher_add(p->batcher, &p->numbers[4], NULL), TWILL_OK);
    twill_future_release(same);
    return 0;
}

TEST(a_callback_cannot_work_on_its_own_key)
{
    plan *p = plan_of(OPTIONS(.max_items = 1, .key_of = key_of));
    p->keys = 3;
    CHECK_EQ(twill_batcher_create(&p->batcher, waits_for_its_key, &p->options), TWILL_OK);
    CHECK_EQ(add(p, 0), TWILL_OK);
    CHECK(soon(nothing_pending, p));
    CHECK_EQ(stats_of(p).done, 3);
    atomic_store(&p->told[1], 1);
    atomic_store(&p->told[2], 1);
    close_plan(p, 5);
}

/* ---- keys ---- */

/* The first with its key stands for the others, and is as heavy as the heaviest. */
TEST(a_merged_item_counts_what_it_adds)
{
    plan *p = plan_of(OPTIONS(.key_of = key_of, .coalesce = true, .linger = TWILL_FOREVER,
                              .bytes_of = bytes_of, .max_bytes = 100));
    p->keys = 3;
    if (open_plan(p) != TWILL_OK)
        return;
    CHECK_EQ(add(p, 0), TWILL_OK);  /* 10 bytes */
    CHECK_EQ(add(p, 1), TWILL_OK);  /* 20 */
    CHECK_EQ(add(p, 3), TWILL_OK);  /* 40, for 0's: 30 more */
    CHECK_EQ(add(p, 6), TWILL_OK);  /* 70: 30 more */
    CHECK_EQ(add(p, 10), TWILL_OK); /* 10, for 1's: none more */
    CHECK_EQ(stats_of(p).batches, 0);
    CHECK_EQ(add(p, 9), TWILL_OK); /* 100: has no room beside 1 */
    CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
    CHECK_EQ(stats_of(p).batches, 2);
    CHECK_EQ(stats_of(p).merged, 3);
    CHECK_EQ(p->sizes[0], 2);
    CHECK_EQ(p->sizes[1], 1);
    CHECK_EQ(add(p, 0), TWILL_OK);
    CHECK_EQ(add(p, 3), TWILL_OK); /* the peak was higher */
    CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
    CHECK_EQ(stats_of(p).pending_peak, 6);
    CHECK_EQ(twill_batcher_destroy(p->batcher), TWILL_OK);
    free(p);
    CHECK_EQ(faults_live(), 0);
}

/* Three items a key, 70 keys in one batch: many of them share a bucket. Who stands for its key
   goes, in whatever place; the next one stands for it. */
TEST(whoever_is_taken_out_is_replaced)
{
    enum { KEYS = 60 };
    static twill_future futures[3 * KEYS + 3];
    plan *p = plan_of(
        OPTIONS(.key_of = key_of, .coalesce = true, .linger = TWILL_FOREVER, .capacity = 190));
    p->keys = KEYS;
    if (open_plan(p) != TWILL_OK)
        return;
    for (int i = 0; i < 3 * KEYS; i++)
        CHECK_EQ(twill_batcher_add(p->batcher, &p->numbers[i], &futures[i]), TWILL_OK);
    for (int i = 0; i < KEYS; i++) {
        int first = i % 4 == 3 ? 2 * KEYS + i : i; /* the last behind it, or itself */
        CHECK_EQ(twill_future_cancel(futures[first]), TWILL_OK);
        if (i % 4 == 1) /* all of a key */
            for (int k = 1; k < 3; k++)
                CHECK_EQ(twill_future_cancel(futures[k * KEYS + i]), TWILL_OK);
        CHECK_EQ(p->outcomes[first].status, TWILL_CANCELLED);
    }
    /* a key whose all have gone begins anew; another is joined */
    CHECK_EQ(twill_batcher_add(p->batcher, &p->numbers[3 * KEYS + 1], NULL), TWILL_OK);
    CHECK_EQ(twill_batcher_add(p->batcher, &p->numbers[3 * KEYS + 2], NULL), TWILL_OK);
    CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
    CHECK_EQ(stats_of(p).batches, 1);
    CHECK_EQ(p->sizes[0], KEYS - KEYS / 4 + 1);
    CHECK_EQ(stats_of(p).cancelled, KEYS + 2 * (KEYS / 4));
    for (int i = 0; i < KEYS; i++) { /* who stood for the key was called, and nobody else */
        int stands = i % 4 == 1 ? -1 : i % 4 == 3 ? i : KEYS + i;
        for (int k = 0; k < 3; k++)
            CHECK_EQ(atomic_load(&p->seen[k * KEYS + i]), k * KEYS + i == stands);
    }
    for (int i = 0; i < 3 * KEYS; i++)
        twill_future_release(futures[i]);
    atomic_store(&p->told[3 * KEYS], 1);
    close_plan(p, 3 * KEYS + 3);
}

static bool one_was_seen(plan *p)
{
    return atomic_load(&p->seen[0]) >= 1 && atomic_load(&p->inside) == 0;
}

static bool three_are_done(plan *p)
{
    return stats_of(p).done >= 3;
}

/* It waits for its next attempt with two behind it, and its key is taken. Cancelled, the first of
   those waits in its place, and keeps the key. In a batch that has left, nobody is behind it. */
TEST(whoever_waits_for_a_retry_leaves_its_key_to_the_next)
{
    plan *p = plan_of(OPTIONS(.max_items = 3, .key_of = key_of, .coalesce = true, .attempts = 2,
                              .linger = TWILL_FOREVER, .backoff = TWILL_SEC(3600), .seed = 5,
                              .backoff_max = TWILL_SEC(3600)));
    twill_future futures[12];
    p->keys = 3;
    p->fails[0] = 9;
    if (open_plan(p) != TWILL_OK)
        return;
    for (int i = 0; i < 12; i++)
        if (i % 3 == 0)
            CHECK_EQ(twill_batcher_add(p->batcher, &p->numbers[i], &futures[i]), TWILL_OK);
    atomic_store(&p->hold, true);
    CHECK_EQ(twill_batcher_flush_until(p->batcher, (twill_until){1, NULL}), TWILL_TIMEOUT);
    CHECK(soon(one_inside, p));
    for (int i = 1; i < 12; i += 3) /* a batch of two keys stands in its line meanwhile */
        CHECK_EQ(twill_batcher_add(p->batcher, &p->numbers[i], &futures[i]), TWILL_OK);
    CHECK_EQ(add(p, 2), TWILL_OK);
    CHECK_EQ(twill_batcher_flush_until(p->batcher, (twill_until){1, NULL}), TWILL_TIMEOUT);
    CHECK_EQ(twill_future_cancel(futures[10]), TWILL_OK); /* behind 4 and 7 */
    CHECK_EQ(twill_future_cancel(futures[1]), TWILL_OK);  /* 4 takes its place */
    CHECK_EQ(p->outcomes[1].status, TWILL_CANCELLED);
    atomic_store(&p->hold, false);
    CHECK(soon(one_was_seen, p));
    if (!CHECK(soon(three_are_done, p))) /* 4, 7 and 2 */
        return;
    CHECK_EQ(atomic_load(&p->seen[4]), 1);
    CHECK_EQ(twill_future_cancel(futures[0]), TWILL_OK); /* 3 takes its place */
    CHECK_EQ(p->outcomes[0].status, TWILL_CANCELLED);
    CHECK_EQ(add(p, 12), TWILL_OK); /* behind 3, 6 and 9, in another batch */
    CHECK_EQ(twill_batcher_flush_until(p->batcher, twill_within(TWILL_MS(2))), TWILL_TIMEOUT);
    CHECK_EQ(atomic_load(&p->seen[12]), 0);
    CHECK_EQ(twill_future_cancel(futures[3]), TWILL_OK);
    CHECK_EQ(twill_future_cancel(futures[6]), TWILL_OK);
    CHECK_EQ(atomic_load(&p->seen[12]), 0);
    CHECK_EQ(twill_future_cancel(futures[9]), TWILL_OK); /* the last of them: the key is free */
    CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
    CHECK_EQ(atomic_load(&p->seen[12]), 1);
    CHECK_EQ(stats_of(p).cancelled, 6);
    for (int i = 0; i < 12; i++)
        if (i % 3 != 2)
            twill_future_release(futures[i]);
        else if (i != 2)
            atomic_store(&p->told[i], 1);
    close_plan(p, 13);
}

/* ---- retries ---- */

static atomic_int asked_about;
static bool retries_even(const void *item, int code, const twill_task *task)
{
    CHECK_EQ(code, 1000 + number_of(item));
    CHECK_EQ(task->index, number_of(item)); /* items are added in their order */
    atomic_fetch_add(&asked_about, 1);
    return number_of(item) % 2 == 0;
}

TEST(retryable_says_what_is_tried_again)
{
    plan *p = plan_of(OPTIONS(.max_items = 4, .attempts = 3, .retryable = retries_even));
    atomic_store(&asked_about, 0);
    if (open_plan(p) != TWILL_OK)
        return;
    for (int i = 0; i < 4; i++)
        p->fails[i] = i < 2 ? 9 : 1;
    for (int i = 0; i < 5; i++)
        CHECK_EQ(add(p, i), TWILL_OK);
    CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
    for (int i = 0; i < 5; i++) {
        CHECK_EQ(atomic_load(&p->seen[i]), i == 0 ? 3 : i == 2 ? 2 : 1);
        CHECK_EQ(p->outcomes[i].status, i == 2 || i == 4 ? TWILL_OK : TWILL_FAILED);
    }
    CHECK_EQ(atomic_load(&asked_about), 5); /* not after the last attempt */
    close_plan(p, 5);
}

/* Attempts with growing delays overtake one another. */
TEST(what_is_due_first_is_tried_first)
{
    plan *p = plan_of(OPTIONS(.max_items = 1, .attempts = 6, .backoff = TWILL_US(20), .seed = 9));
    if (open_plan(p) != TWILL_OK)
        return;
    for (int i = 0; i < 60; i++) {
        p->fails[i] = i % 6;
        CHECK_EQ(add(p, i), TWILL_OK);
    }
    CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
    for (int i = 0; i < 60; i++) {
        CHECK_EQ(p->outcomes[i].status, TWILL_OK);
        CHECK_EQ(atomic_load(&p->seen[i]), i % 6 + 1);
    }
    CHECK_EQ(stats_of(p).retried, 150);
    close_plan(p, 60);
}

static bool eight_were_called(plan *p)
{
    return stats_of(p).calls >= 8;
}

/* Those that wait stand in the order of their instants, and their items, which are in no call, in
   the order of add. */
TEST(what_waits_stands_in_its_order)
{
    plan *p = plan_of(OPTIONS(.max_items = 1, .attempts = 2, .backoff = TWILL_SEC(3600), .seed = 9,
                              .backoff_max = TWILL_SEC(3600)));
    int count = 0;
    twill_ns due = 0;
    if (open_plan(p) != TWILL_OK)
        return;
    for (int i = 0; i < 8; i++) {
        p->fails[i] = 9;
        CHECK_EQ(add(p, i), TWILL_OK);
    }
    CHECK(soon(eight_were_called, p));
    twill__light_take(&p->batcher->lock, TWILL__BATCHER_SPIN);
    for (twill__batch_lot *lot = p->batcher->stock.waiting.first; lot; lot = lot->next, count++) {
        CHECK(lot->due >= due);
        due = lot->due;
    }
    CHECK_EQ(count, 8);
    for (twill__entry *entry = p->batcher->stock.front; entry; entry = entry->after)
        CHECK_EQ(entry->number, 8 - count--);
    CHECK_EQ(count, 0);
    twill__light_unlock(&p->batcher->lock);
    CHECK_EQ(twill_batcher_stop(p->batcher, twill_within(0), twill_within(TWILL_SEC(100)), NULL),
             TWILL_OK);
    for (int i = 0; i < 8; i++)
        CHECK_EQ(p->outcomes[i].status, TWILL_FAILED);
    close_plan(p, 8);
}

/* The third is named, the call is bad as a whole, and so is what stands beside it: all are tried
   again, each in its order, one alone. */
static int order_of_retries[16];
static atomic_int order_count;
static int bad_beside_a_named_one(twill_batch *batch, const twill_task *task)
{
    plan *p = task->context;
    bool bad = false;
    for (size_t i = 0; i < batch->count; i++) {
        int item = number_of(twill_batch_item(batch, i));
        atomic_fetch_add(&p->seen[item], 1);
        if (batch->attempt == 2)
            order_of_retries[atomic_fetch_add(&order_count, 1) % 16] = item;
        if (batch->attempt == 1 && item == 2)
            twill_batch_set(batch, i, 1002);
        bad = bad || (batch->attempt == 1 && item < 2);
    }
    return bad ? 7 : 0;
}

TEST(what_failed_by_itself_and_what_failed_with_others)
{
    plan *p = plan_of(OPTIONS(.max_items = 5, .attempts = 2, .linger = TWILL_FOREVER,
                              .on_bad_batch = TWILL_BAD_BATCH_BISECT));
    atomic_store(&order_count, 0);
    CHECK_EQ(twill_batcher_create(&p->batcher, bad_beside_a_named_one, &p->options), TWILL_OK);
    for (int i = 0; i < 5; i++)
        CHECK_EQ(add(p, i), TWILL_OK);
    CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
    for (int i = 0; i < 5; i++)
        CHECK_EQ(p->outcomes[i].status, TWILL_OK);
    CHECK_EQ(atomic_load(&order_count), 3);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(order_of_retries[i], i);
    close_plan(p, 5);
}

static int sets_all(twill_batch *batch, const twill_task *task)
{
    const plan *p = task->context;
    for (size_t i = 0; i < batch->count; i++)
        twill_batch_set(batch, i, p->fails[number_of(twill_batch_item(batch, i))]);
    return 7; /* not asked: all are named */
}

TEST(a_callback_that_names_each)
{
    plan *p = plan_of(OPTIONS(.max_items = 3));
    p->fails[4] = 44;
    p->options.idle = TWILL_FOREVER;
    CHECK_EQ(twill_batcher_create(&p->batcher, sets_all, &p->options), TWILL_OK);
    for (int i = 0; i < 9; i++)
        CHECK_EQ(add(p, i), TWILL_OK);
    CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
    for (int i = 0; i < 9; i++) {
        CHECK_EQ(p->outcomes[i].status, i == 4 ? TWILL_FAILED : TWILL_OK);
        CHECK_EQ(p->outcomes[i].code, i == 4 ? 44 : 0);
    }
    close_plan(p, 9);
}

/* With keys: while an item waits, the later ones of its key in the same batch wait, too, and not
   the earlier ones. */
TEST(a_retry_holds_back_the_later_ones_of_its_key)
{
    plan *p = plan_of(OPTIONS(.max_items = 6, .attempts = 4, .linger = TWILL_FOREVER,
                              .key_of = key_of, .on_bad_batch = TWILL_BAD_BATCH_BISECT));
    p->keys = 2;
    p->poison[2] = true;
    if (open_plan(p) != TWILL_OK)
        return;
    for (int i = 0; i < 6; i++)
        CHECK_EQ(add(p, i), TWILL_OK);
    CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
    for (int i = 0; i < 6; i++)
        CHECK_EQ(p->outcomes[i].status, i == 2 ? TWILL_FAILED : TWILL_OK);
    close_plan(p, 6);
}

/* The later one of a key waits, by its own code: the earlier one, bad with the others, goes before
   it. */
static int names_the_last_of_its_key(twill_batch *batch, const twill_task *task)
{
    plan *p = task->context;
    bool first = false, last = false;
    for (size_t i = 0; i < batch->count; i++) {
        int item = number_of(twill_batch_item(batch, i));
        first = first || item == 0;
        last = last || item == 4;
        if (batch->count == 6 && item == 4)
            twill_batch_set(batch, i, 1004);
    }
    if (batch->count == 6)
        return 7;
    for (size_t i = 0; i < batch->count; i++) {
        int item = number_of(twill_batch_item(batch, i));
        if (atomic_exchange(&p->last_of_key[item % p->keys], item) > item)
            atomic_fetch_add(&p->disorder, 1);
    }
    CHECK(!first || !last);
    return 0;
}

TEST(an_earlier_one_of_a_key_does_not_wait_for_a_later_one)
{
    plan *p = plan_of(OPTIONS(.max_items = 6, .attempts = 2, .linger = TWILL_FOREVER,
                              .key_of = key_of, .on_bad_batch = TWILL_BAD_BATCH_BISECT));
    p->keys = 2;
    CHECK_EQ(twill_batcher_create(&p->batcher, names_the_last_of_its_key, &p->options), TWILL_OK);
    for (int i = 0; i < 6; i++)
        CHECK_EQ(add(p, i), TWILL_OK);
    CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
    for (int i = 0; i < 6; i++)
        CHECK_EQ(p->outcomes[i].status, TWILL_OK);
    CHECK_EQ(p->outcomes[4].attempts, 2);
    close_plan(p, 6);
}

/* The run is over while a call that fails is running: what it has called has failed, and neither
   halves nor retries follow. */
static twill_cancel whole;
static int fires_and_fails(twill_batch *batch, const twill_task *task)
{
    plan *p = task->context;
    atomic_fetch_add(&p->calls, 1);
    twill_cancel_fire(&whole, 1);
    if (p->sizes[0] == 1) /* each by itself: they would be tried again */
        for (size_t i = 0; i < batch->count; i++)
            twill_batch_set(batch, i, 1000 + number_of(twill_batch_item(batch, i)));
    return 7;
}

TEST(what_was_called_when_the_run_ends_has_failed)
{
    for (size_t each = 0; each < 2; each++) {
        plan *p = plan_of(OPTIONS(.max_items = 4, .attempts = 3, .linger = TWILL_FOREVER,
                                  .on_bad_batch = TWILL_BAD_BATCH_BISECT));
        twill_report report;
        twill_cancel_init(&whole, NULL);
        p->sizes[0] = each;
        p->options.run.until.cancel = &whole;
        p->options.run.report = &report;
        CHECK_EQ(twill_batcher_create(&p->batcher, fires_and_fails, &p->options), TWILL_OK);
        for (int i = 0; i < 4; i++)
            CHECK_EQ(add(p, i), TWILL_OK);
        CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
        for (int i = 0; i < 4; i++) {
            CHECK_EQ(p->outcomes[i].status, TWILL_FAILED);
            CHECK_EQ(p->outcomes[i].code, each ? 1000 + i : 7);
            CHECK_EQ(p->outcomes[i].attempts, 1);
        }
        CHECK_EQ(atomic_load(&p->calls), 1);
        close_plan(p, 4);
        CHECK_EQ(report.failed, 4);
        twill_cancel_detach(&whole);
    }
}

/* ---- many lots ---- */

/* Memory for lots grows with the items; more lots than its newest block holds take from the
   others. */
TEST(first_many_items_and_then_many_batches)
{
    plan *p = plan_of(OPTIONS(.max_items = 100, .linger = TWILL_FOREVER, .result_size = sizeof(int),
                              .capacity = 400));
    if (open_plan(p) != TWILL_OK)
        return;
    atomic_store(&p->hold, true);
    for (int i = 0; i < 120; i++) /* one batch in a call, one open */
        CHECK_EQ(add(p, i), TWILL_OK);
    for (int i = 120; i < 240; i++) {
        CHECK_EQ(twill_batcher_flush_until(p->batcher, (twill_until){1, NULL}), TWILL_TIMEOUT);
        CHECK_EQ(add(p, i), TWILL_OK);
    }
    atomic_store(&p->hold, false);
    CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
    CHECK_EQ(stats_of(p).batches, 122);
    CHECK_EQ(stats_of(p).done, 240);
    close_plan(p, 240);
}

/* The two newest blocks of that memory are used up: there is room in the third. */
TEST(one_batch_of_many_items_and_then_many_of_one)
{
    plan *p = plan_of(OPTIONS(.max_items = 15, .linger = TWILL_FOREVER, .result_size = sizeof(int),
                              .capacity = 400));
    size_t blocks = 0;
    if (open_plan(p) != TWILL_OK)
        return;
    for (int i = 0; i < 15; i++)
        CHECK_EQ(add(p, i), TWILL_OK);
    CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
    atomic_store(&p->hold, true);
    for (int i = 15; i < 30; i++) {
        CHECK_EQ(add(p, i), TWILL_OK);
        CHECK_EQ(twill_batcher_flush_until(p->batcher, (twill_until){1, NULL}), TWILL_TIMEOUT);
    }
    twill__light_take(&p->batcher->lock, TWILL__BATCHER_SPIN);
    for (twill__lot_block *block = p->batcher->stock.blocks; block; block = block->next, blocks++)
        CHECK(block->used <= block->count);
    CHECK_EQ(blocks, 3);
    twill__light_unlock(&p->batcher->lock);
    atomic_store(&p->hold, false);
    CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
    CHECK_EQ(stats_of(p).batches, 16);
    close_plan(p, 30);
}

/* ---- two who tell, two who flush ---- */

static atomic_int tellers;
static void both_are_told(void *item, const twill_outcome *outcome, void *result,
                          const twill_task *task)
{
    plan *p = task->context;
    int number = number_of(item);
    told(item, outcome, result, task);
    if (number == 1) { /* the first to begin, and the first to end */
        atomic_store(&tellers, 1);
        while (atomic_load(&tellers) < 2)
            nap(TWILL_US(20));
        CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_DEADLOCK);
    } else if (number == 2) {
        atomic_store(&tellers, 2);
        while (atomic_load(&tellers) < 3)
            nap(TWILL_US(20));
    }
}

static twill_future two_futures[2];
static void cancels_the_first(void *unused)
{
    (void)unused;
    CHECK_EQ(twill_future_cancel(two_futures[0]), TWILL_OK);
    atomic_store(&tellers, 3);
}

static void flushes(void *plan_)
{
    plan *p = plan_;
    CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
}

static bool two_flush(plan *p)
{
    bool two;
    twill__light_take(&p->batcher->lock, TWILL__BATCHER_SPIN);
    two = p->batcher->flushers.first && p->batcher->flushers.first != p->batcher->flushers.last;
    twill__light_unlock(&p->batcher->lock);
    return two;
}

TEST(two_threads_tell_and_two_flush)
{
    plan *p = plan_of(OPTIONS(.max_items = 1));
    p->options.on_item = both_are_told;
    if (open_plan(p) != TWILL_OK)
        return;
    atomic_store(&tellers, 0);
    atomic_store(&p->hold, true);
    CHECK_EQ(add(p, 0), TWILL_OK);
    CHECK(soon(one_inside, p));
    for (int i = 0; i < 2; i++)
        CHECK_EQ(twill_batcher_add(p->batcher, &p->numbers[i + 1], &two_futures[i]), TWILL_OK);
    go(0, cancels_the_first, NULL);
    while (!atomic_load(&tellers))
        nap(TWILL_US(20));
    CHECK_EQ(twill_future_cancel(two_futures[1]), TWILL_OK);
    join(0);
    go(0, flushes, p);
    go(1, flushes, p);
    CHECK(soon(two_flush, p));
    CHECK_EQ(stats_of(p).cancelled, 2);
    atomic_store(&p->hold, false);
    join(0);
    join(1);
    for (int i = 0; i < 2; i++)
        twill_future_release(two_futures[i]);
    close_plan(p, 3);
}

static atomic_int told_so_far, may_leave;
static void told_one_by_one(void *item, const twill_outcome *outcome, void *result,
                            const twill_task *task)
{
    plan *p = task->context;
    int number = number_of(item);
    told(item, outcome, result, task);
    if (!number)
        return;
    atomic_fetch_add(&told_so_far, 1);
    while (atomic_load(&may_leave) < number)
        nap(TWILL_US(20));
    CHECK_EQ(twill_batcher_flush_until(p->batcher, (twill_until){1, NULL}), TWILL_DEADLOCK);
}

static void cancels(void *future)
{
    CHECK_EQ(twill_future_cancel(*(twill_future *)future), TWILL_OK);
}

/* Who is inside may not wait, also when one who came before has left, and who is in no callback
   may. */
TEST(three_threads_tell_and_leave_as_they_came)
{
    plan *p = plan_of(OPTIONS(.max_items = 1));
    twill_future futures[3];
    p->options.on_item = told_one_by_one;
    if (open_plan(p) != TWILL_OK)
        return;
    atomic_store(&told_so_far, 0);
    atomic_store(&may_leave, 0);
    atomic_store(&p->hold, true);
    CHECK_EQ(add(p, 0), TWILL_OK);
    CHECK(soon(one_inside, p));
    for (int i = 0; i < 3; i++)
        CHECK_EQ(twill_batcher_add(p->batcher, &p->numbers[i + 1], &futures[i]), TWILL_OK);
    for (int i = 0; i < 3; i++) {
        go((unsigned)i, cancels, &futures[i]);
        while (atomic_load(&told_so_far) <= i)
            nap(TWILL_US(20));
    }
    CHECK_EQ(twill_batcher_flush_until(p->batcher, (twill_until){1, NULL}), TWILL_TIMEOUT);
    for (int i = 0; i < 3; i++) {
        atomic_store(&may_leave, i + 1);
        join((unsigned)i);
        twill_future_release(futures[i]);
    }
    atomic_store(&p->hold, false);
    close_plan(p, 4);
}

/* ---- full: which one is dropped ---- */

/* 2 and 3, and 4: packed, or not, and whichever of them is older. */
TEST(the_oldest_or_the_newest_goes_packed_or_not)
{
    for (int k = 0; k < 4; k++) {
        bool newest = k & 1, first_packed = k & 2;
        plan *p = plan_of(
            OPTIONS(.max_items = 2, .capacity = 5, .linger = TWILL_FOREVER,
                    .overflow = newest ? TWILL_OVERFLOW_DROP_NEWEST : TWILL_OVERFLOW_DROP_OLDEST));
        twill_future future;
        if (open_plan(p) != TWILL_OK)
            return;
        atomic_store(&p->hold, true);
        CHECK_EQ(add(p, 0), TWILL_OK);
        CHECK_EQ(add(p, 1), TWILL_OK);
        CHECK(soon(one_inside, p));
        CHECK_EQ(twill_batcher_add(p->batcher, &p->numbers[2], first_packed ? NULL : &future),
                 TWILL_OK);
        CHECK_EQ(add(p, 3), TWILL_OK);
        CHECK_EQ(twill_batcher_add(p->batcher, &p->numbers[4], first_packed ? &future : NULL),
                 TWILL_OK);
        CHECK_EQ(add(p, 5), TWILL_OK);
        CHECK_EQ(p->outcomes[newest ? 4 : 2].status, TWILL_DROPPED);
        CHECK_EQ(stats_of(p).dropped, 1);
        atomic_store(&p->hold, false);
        twill_future_release(future);
        close_plan(p, 6);
    }
}

static bool two_inside(plan *p)
{
    return atomic_load(&p->inside) >= 2;
}

/* Two packed batches are in calls: the oldest that can go is of the third. */
TEST(what_two_workers_have_is_not_dropped)
{
    plan *p = plan_of(OPTIONS(.max_items = 2, .capacity = 5, .linger = TWILL_FOREVER,
                              .run.workers = 2, .overflow = TWILL_OVERFLOW_DROP_OLDEST));
    if (open_plan(p) != TWILL_OK)
        return;
    atomic_store(&p->hold, true);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(add(p, i), TWILL_OK);
    CHECK(soon(two_inside, p));
    CHECK_EQ(add(p, 4), TWILL_OK);
    CHECK_EQ(add(p, 5), TWILL_OK);
    CHECK(dropped(p, 4));
    CHECK_EQ(stats_of(p).dropped, 1);
    atomic_store(&p->hold, false);
    close_plan(p, 6);
}

static bool two_were_seen(plan *p)
{
    return atomic_load(&p->seen[0]) && atomic_load(&p->seen[1]) && !atomic_load(&p->inside);
}

/* What waits for another attempt has been called: it is not dropped, older or newer. */
TEST(what_was_called_is_not_dropped)
{
    for (int newest = 0; newest < 2; newest++) {
        plan *p = plan_of(
            OPTIONS(.max_items = 2, .capacity = 3, .linger = TWILL_FOREVER, .attempts = 2,
                    .key_of = key_of, .backoff = TWILL_SEC(3600), .backoff_max = TWILL_SEC(3600),
                    .overflow = newest ? TWILL_OVERFLOW_DROP_NEWEST : TWILL_OVERFLOW_DROP_OLDEST));
        p->keys = 2;
        p->fails[0] = p->fails[1] = 9;
        if (open_plan(p) != TWILL_OK)
            return;
        CHECK_EQ(add(p, 0), TWILL_OK);
        CHECK_EQ(twill_batcher_flush_until(p->batcher, (twill_until){1, NULL}), TWILL_TIMEOUT);
        CHECK_EQ(add(p, 2), TWILL_OK); /* waits for 0's key */
        CHECK_EQ(add(p, 1), TWILL_OK); /* leaves without it */
        CHECK(soon(two_were_seen, p));
        while (stats_of(p).calls < 2) /* both wait for another attempt */
            nap(TWILL_US(50));
        CHECK_EQ(add(p, 4), TWILL_OK); /* between two that were called */
        CHECK_EQ(p->outcomes[2].status, TWILL_DROPPED);
        CHECK_EQ(atomic_load(&p->told[0]) + atomic_load(&p->told[1]), 0);
        CHECK_EQ(add(p, 6), TWILL_OK);
        CHECK_EQ(p->outcomes[4].status, TWILL_DROPPED);
        CHECK_EQ(
            twill_batcher_stop(p->batcher, twill_within(0), twill_within(TWILL_SEC(100)), NULL),
            TWILL_OK);
        CHECK_EQ(p->outcomes[0].status, TWILL_FAILED);
        CHECK_EQ(p->outcomes[6].status, TWILL_CANCELLED);
        atomic_store(&p->told[3], 1);
        atomic_store(&p->told[5], 1);
        close_plan(p, 7);
    }
}

/* The bytes of one that is being told, and of one that on_item has added in its place. */
static void adds_in_its_place(void *item, const twill_outcome *outcome, void *result,
                              const twill_task *task)
{
    plan *p = task->context;
    told(item, outcome, result, task);
    if (number_of(item) != 9)
        return;
    CHECK_EQ(add(p, 19), TWILL_OK);
    CHECK_EQ(twill_batcher_try_add(p->batcher, &p->numbers[29], NULL), TWILL_FULL);
}

TEST(what_is_told_and_what_comes_in_its_place_may_be_above_the_bytes)
{
    plan *p = plan_of(OPTIONS(.max_items = 1, .bytes_of = bytes_of, .capacity_bytes = 100));
    p->options.on_item = adds_in_its_place;
    if (open_plan(p) != TWILL_OK)
        return;
    CHECK_EQ(add(p, 9), TWILL_OK);
    CHECK_EQ(add(p, 0), TWILL_OK); /* waits for both */
    CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
    CHECK_EQ(stats_of(p).done, 3);
    CHECK_EQ(stats_of(p).pending_bytes, 0);
    CHECK_EQ(twill_batcher_destroy(p->batcher), TWILL_OK);
    free(p);
    p = plan_of(OPTIONS(.max_items = 1, .bytes_of = bytes_of, .capacity_bytes = 50));
    if (open_plan(p) != TWILL_OK)
        return;
    CHECK_EQ(add(p, 9), TWILL_TOO_BIG); /* never fits */
    CHECK_EQ(add(p, 0), TWILL_OK);
    close_plan(p, 1);
}

/* ---- time limits of items ---- */

/* Its future was told while it ran; its callback fails then, and it would have been tried again. */
static bool told_while_it_ran(twill_ns limit)
{
    plan *p = plan_of(OPTIONS(.max_items = 1, .linger = 1, .item_timeout = limit, .attempts = 2));
    twill_future future;
    twill_outcome outcome;
    p->fails[0] = 9;
    if (open_plan(p) != TWILL_OK)
        return true;
    atomic_store(&p->hold, true);
    CHECK_EQ(twill_batcher_add(p->batcher, &p->numbers[0], &future), TWILL_OK);
    bool in_time = inside_before_told(p, future);
    CHECK_EQ(twill_future_wait(future, NULL, &outcome), TWILL_FAILED);
    CHECK_EQ(outcome.status, TWILL_TIMEOUT);
    atomic_store(&p->hold, false);
    CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
    CHECK_EQ(p->outcomes[0].status, TWILL_TIMEOUT);
    CHECK(!in_time || atomic_load(&p->seen[0]) == 1);
    CHECK_EQ(stats_of(p).timed_out, 1);
    twill_future_release(future);
    close_plan(p, 1);
    return in_time;
}

TEST(an_item_whose_time_was_over_is_told_once)
{
    CHECK(test_in_time(TWILL_MS(20), told_while_it_ran));
}

/* One that was merged into another's place has a time of its own. */
static bool a_merged_one_has_its_time(twill_ns limit)
{
    plan *p = plan_of(
        OPTIONS(.linger = TWILL_US(1), .item_timeout = limit, .key_of = key_of, .coalesce = true));
    twill_future futures[3];
    twill_outcome outcome;
    p->keys = 1;
    if (open_plan(p) != TWILL_OK)
        return true;
    atomic_store(&p->hold, true);
    CHECK_EQ(twill_batcher_add(p->batcher, &p->numbers[0], &futures[0]), TWILL_OK);
    if (!inside_before_told(p, futures[0])) {
        atomic_store(&p->hold, false);
        twill_future_release(futures[0]);
        close_plan(p, 1);
        return false;
    }
    twill__light_take(&p->batcher->lock, TWILL__BATCHER_SPIN);
    p->batcher->linger = TWILL_FOREVER;
    twill__light_unlock(&p->batcher->lock);
    for (int i = 1; i < 3; i++)
        CHECK_EQ(twill_batcher_add(p->batcher, &p->numbers[i], &futures[i]), TWILL_OK);
    CHECK_EQ(twill_future_wait(futures[2], NULL, &outcome), TWILL_FAILED);
    CHECK_EQ(outcome.status, TWILL_TIMEOUT);
    CHECK_EQ(outcome.attempts, 0);
    CHECK_EQ(twill_future_wait(futures[1], NULL, &outcome), TWILL_FAILED);
    CHECK_EQ(outcome.status, TWILL_TIMEOUT);
    atomic_store(&p->hold, false);
    for (int i = 0; i < 3; i++)
        twill_future_release(futures[i]);
    CHECK_EQ(twill_batcher_flush(p->batcher), TWILL_OK);
    CHECK_EQ(p->outcomes[2].status, TWILL_TIMEOUT);
    CHECK_EQ(atomic_load(&p->seen[2]), 0);
    close_plan(p, 3);
    return true;
}

TEST(a_merged_item_times_out)
{
    CHECK(test_in_time(TWILL_MS(20), a_merged_one_has_its_time));
}

/* ---- nobody is told ---- */

TEST(without_on_item_a_gap_and_a_time_limit_count_all_the_same)
{
    for (int k = 0; k < 2; k++) {
        plan *p = plan_of(OPTIONS(.max_items = 50));
        if (k == 0)
            p->options.idle = TWILL_US(100);
        else
            p->options.item_timeout = TWILL_SEC(1000);
        p->options.on_item = NULL;
        if (open_plan(p) != TWILL_OK)
            return;
        for (int i = 0; i < 10; i++)
            CHECK_EQ(add(p, i), TWILL_OK);
        CHECK(soon(nothing_pending, p));
        for (int i = 0; i < 10; i++)
            CHECK_EQ(atomic_load(&p->taken[i]), 1);
        CHECK_EQ(stats_of(p).by_idle > 0 || k == 1, true);
        CHECK_EQ(twill_batcher_destroy(p->batcher), TWILL_OK);
        free(p);
    }
    CHECK_EQ(faults_live(), 0);
}

static bool one_has_refused(plan *p)
{
    unsigned refused;
    twill__light_take(&p->batcher->lock, TWILL__BATCHER_SPIN);
    refused = p->batcher->refused;
    twill__light_unlock(&p->batcher->lock);
    return refused == 1;
}

static int first_cannot_start(void **state, const twill_task *task)
{
    (void)state;
    (void)task;
    return atomic_fetch_add(&starts, 1) == 0 ? 3 : 0;
}

TEST(one_worker_of_two_cannot_start)
{
    twill_report report;
    plan *p = plan_of(OPTIONS(.max_items = 2, .run.workers = 2, .run.report = &report,
                              .run.worker_start = first_cannot_start));
    p->options.on_item = NULL;
    atomic_store(&starts, 0);
    if (open_plan(p) != TWILL_OK)
        return;
    for (int i = 0; i < 21; i++) {
        CHECK_EQ(add(p, i), TWILL_OK);
        if (i == 0)
            CHECK(soon(one_has_refused, p));
    }
    CHECK(soon(nothing_pending, p));
    CHECK_EQ(stats_of(p).done, 21);
    CHECK_EQ(twill_batcher_destroy(p->batcher), TWILL_OK);
    CHECK_EQ(report.status, TWILL_OK);
    CHECK_EQ(report.done, 21);
    free(p);
    CHECK_EQ(faults_live(), 0);
}

/* Items that need no entries, and those that are dropped as they come. */
TEST(allocation_k_fails_without_futures)
{
    for (int drops = 0; drops < 2; drops++)
        for (unsigned long k = 1;; k++) {
            plan *p = plan_of(
                OPTIONS(.max_items = 3, .capacity = drops ? 3 : 100, .linger = TWILL_FOREVER,
                        .overflow = drops ? TWILL_OVERFLOW_DROP_INCOMING : TWILL_OVERFLOW_BLOCK));
            unsigned long asked;
            size_t ended = 0;
            faults_fail_alloc(k);
            if (twill_batcher_create(&p->batcher, act, &p->options) == TWILL_OK) {
                atomic_store(&p->hold, true);
                for (int i = 0; i < 90; i++) {
                    twill_status status = add(p, i);
                    CHECK(status == TWILL_OK || status == TWILL_NO_MEMORY ||
                          (drops && status == TWILL_DROPPED));
                    if (status == TWILL_NO_MEMORY)
                        atomic_store(&p->told[i], 1);
                    else
                        ended++;
                }
                CHECK_EQ(stats_of(p).added, ended);
                asked = faults_allocs();
                CHECK(ended >= 89);
                atomic_store(&p->hold, false);
                close_plan(p, 90);
            } else {
                asked = faults_allocs();
                free(p);
                CHECK_EQ(faults_live(), 0);
            }
            harness_reset_faults();
            if (asked < k)
                break;
        }
}

/* He who asks tells what is cancelled, or over time, and is ended by that: nobody waits for him. */
static twill_future asked_for;

static void ask_it(void *cancels)
{
    if (cancels)
        (void)twill_future_cancel(asked_for);
    else
        (void)twill_future_wait(asked_for, NULL, NULL);
    CHECK(false);
}

TEST(an_on_item_that_ends_who_asks)
{
    for (int cancels = 0; cancels < 2; cancels++) {
        plan *p = plan_of(OPTIONS(.max_items = 1, .item_timeout = cancels ? 0 : TWILL_SEC(1000)));
        twill__thrd thread;
        twill_outcome outcome;
        twill__entry *entry;
        p->options.on_item = ends_its_thread;
        if (open_plan(p) != TWILL_OK)
            return;
        atomic_store(&p->hold, true);
        CHECK_EQ(add(p, 0), TWILL_OK);
        CHECK(soon(one_inside, p));
        CHECK_EQ(twill_batcher_add(p->batcher, &p->numbers[4], &asked_for), TWILL_OK);
        entry = (twill__entry *)asked_for.slot;
        entry->added -= TWILL_SEC(2000); /* the worker is busy: nobody else looks */
        if (!cancels)
            atomic_store(&entry->record.due, 1);
        memset(&thread, 0, sizeof thread);
        thread.fn = ask_it;
        thread.arg = cancels ? p : NULL;
        thread.cpu = UINT_MAX;
        CHECK(twill__thread_start(&thread));
        twill__thread_join(&thread);
        atomic_store(&p->hold, false);
        CHECK_EQ(twill_future_wait(asked_for, NULL, &outcome), TWILL_FAILED);
        CHECK_EQ(outcome.status, cancels ? TWILL_CANCELLED : TWILL_TIMEOUT);
        twill_future_release(asked_for);
        CHECK_EQ(twill_batcher_destroy(p->batcher), TWILL_OK);
        free(p);
        CHECK_EQ(faults_live(), 0);
    }
}

TEST(allocation_k_fails)
{
    for (unsigned long k = 1;; k++) {
        plan *p = plan_of(OPTIONS(.max_items = 3, .run.workers = 2, .key_of = key_of,
                                  .coalesce = true, .result_size = 100));
        twill_status status;
        unsigned long asked;
        int accepted = 0;
        p->keys = 50;
        faults_fail_alloc(k);
        status = twill_batcher_create(&p->batcher, act, &p->options);
        if (status == TWILL_OK) {
            for (int i = 0; i < 40; i++) {
                twill_future future;
                status = twill_batcher_add(p->batcher, &p->numbers[i], &future);
                CHECK(status == TWILL_OK || status == TWILL_NO_MEMORY);
                accepted += status == TWILL_OK;
                if (status != TWILL_OK)
                    atomic_store(&p->told[i], 1);
                twill_future_release(future);
            }
            asked = faults_allocs();
            CHECK(accepted >= 39 || asked < k);
            close_plan(p, 40);
        } else {
            CHECK_EQ(status, TWILL_NO_MEMORY);
            CHECK_PTR(p->batcher, NULL);
            asked = faults_allocs();
            free(p);
            CHECK_EQ(faults_live(), 0);
        }
        harness_reset_faults();
        if (asked < k)
            break;
    }
}

TEST(thread_k_fails)
{
    for (unsigned long k = 1; k <= 4; k++) {
        plan *p = plan_of(OPTIONS(.max_items = 3, .run.workers = 3));
        twill_report report;
        twill_status status;
        p->options.run.report = &report;
        faults_fail_thread(k);
        status = twill_batcher_create(&p->batcher, act, &p->options);
        CHECK_EQ(status, k == 1 ? TWILL_NO_THREAD : TWILL_OK);
        if (status == TWILL_OK) {
            for (int i = 0; i < 100; i++)
                CHECK_EQ(add(p, i), TWILL_OK);
            close_plan(p, 100);
            CHECK_EQ(report.flags & TWILL_REPORT_DEGRADED, k < 4 ? TWILL_REPORT_DEGRADED : 0);
            CHECK_EQ(report.done, 100);
        } else {
            CHECK_PTR(p->batcher, NULL);
            free(p);
        }
        p = plan_of(OPTIONS(.run.workers = 3, .run.strict = true));
        faults_fail_thread(k);
        status = twill_batcher_create(&p->batcher, act, &p->options);
        CHECK_EQ(status, k < 4 ? TWILL_NO_THREAD : TWILL_OK);
        CHECK_EQ(twill_batcher_destroy(p->batcher), TWILL_OK);
        free(p);
        CHECK_EQ(faults_live(), 0);
    }
}

static twill_ns cpu_time(void)
{
    struct timespec t;
    clock_gettime(2 /* CLOCK_PROCESS_CPUTIME_ID */, &t);
    return (twill_ns)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* The threads begin in the first of the time, some time. */
static bool next_to_nothing(twill_ns idle)
{
    twill_ns before = cpu_time();
    nap(idle);
    return cpu_time() - before < idle / 5;
}

TEST(an_idle_batcher_costs_nothing)
{
    plan *p = plan_of(OPTIONS(.run.workers = 4, .linger = TWILL_SEC(100)));
    if (open_plan(p) != TWILL_OK)
        return;
    add(p, 0);
    CHECK(test_in_time(TWILL_MS(50), next_to_nothing));
    close_plan(p, 1);
}

HARNESS_MAIN
