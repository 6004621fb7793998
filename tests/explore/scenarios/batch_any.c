/* Any program on a batcher. Each schedule draws one: limits by count and bytes, linger and gap,
   capacity and what a full batcher does, keys, coalescing, results, attempts and backoff, what
   becomes of a bad batch, item_timeout, the run's deadline and token, workers of its own or of a
   pool, hooks that refuse; up to three items from two threads, with futures or without, some of
   them cancelled; a flush, a close, a stop. The callback fails, forgets an item, sleeps deafly or
   until it is told, fires the token or closes, adds another item, ends its thread; on_item may do
   the last two, too.

   Whatever it is: an accepted item has one outcome, of on_item, its future and the books alike,
   and is in no call after it; a refused one has none. No batch is above its limits. Equal keys are
   never in two calls at once and are first seen in the order of add. Nothing hangs, polls or is
   left. */
#include "explore.h"
#include "batch_common.h"
#include "twill_worker_pool.h"

#ifdef TWILL_USE_PTHREAD
#define END_THREAD() pthread_exit(NULL)
#else
#define END_THREAD() thrd_exit(0)
#endif

enum { OWN = ITEMS / 2, KEYS = 2, WORKERS = 2 }; /* each of the first OWN items has an extra one */
enum { GOOD, BAD, FAILS, DEAF, OBEYS, ENDS, FORGETS, ADDS, ADDS_TOLD, CUTS, KINDS };
enum { CODE = 7, NOT_ASKED = -1, LEFT = -2 /* the thread has ended in add */ };

static twill_batcher *shared;
static twill_batch_options drawn;
static int n, split, kind[ITEMS], teller_ends;
static bool asks[ITEMS];
static int added[ITEMS]; /* the answer of add */
static twill_future futures[ITEMS];
static _Atomic int adding[ITEMS], live[ITEMS], key_live[KEYS];
static int last_of[KEYS][2]; /* per key and adder: what was seen first of all last */
static _Atomic int starts[WORKERS], stops[WORKERS];
static int refusing;                  /* bits: worker_start fails there */
static _Thread_local bool ours;       /* this thread does not end in a callback, or does already */
static _Thread_local struct call_in { /* one on top of the other */
    const twill_batch *batch;
    const struct call_in *around;
} const *calls;

static int number_of(const void *item)
{
    return (int)((const int *)item - items);
}

static uint64_t key_of(const void *item, const twill_task *task)
{
    (void)task;
    return (uint64_t)(number_of(item) % KEYS);
}

static size_t bytes_of(const void *item, const twill_task *task)
{
    (void)task;
    return 1 + (size_t)number_of(item) % 3;
}

static bool retryable(const void *item, int code, const twill_task *task)
{
    (void)task;
    assert(code == CODE && atomic_load(&told[number_of(item)]) == 0);
    return number_of(item) % 2 == 0;
}

/* Coalesced items have one result. */
static int result_of(int item)
{
    return 100 + (drawn.coalesce ? item % KEYS : item);
}

static bool too_big(int item)
{
    size_t bytes = bytes_of(&items[item], NULL);
    return drawn.bytes_of &&
           ((drawn.max_bytes && !drawn.oversized_alone && bytes > drawn.max_bytes) ||
            (drawn.capacity_bytes && bytes > drawn.capacity_bytes));
}

static void add(int item, twill_until until, bool waits)
{
    twill_future *future = asks[item] ? &futures[item] : NULL;
    twill_status status;
    added[item] = LEFT;
    if (waits)
        status = twill_batcher_add_until(shared, &items[item], future, until);
    else
        status = twill_batcher_try_add(shared, &items[item], future);
    added[item] = (int)status;
    assert((status == TWILL_TOO_BIG) == too_big(item));
    assert(status != TWILL_DROPPED || drawn.overflow == TWILL_OVERFLOW_DROP_INCOMING);
    assert(status != TWILL_DEADLOCK || (item >= OWN && waits));
    assert(status != TWILL_FULL || !waits || drawn.overflow != TWILL_OVERFLOW_BLOCK);
}

static bool accepted(int item)
{
    if (added[item] == LEFT)
        return drawn.on_item ? atomic_load(&told[item]) == 1 : futures[item].slot != NULL;
    return added[item] == TWILL_OK || added[item] == TWILL_DROPPED;
}

/* ---- the callbacks ---- */

/* Each item is in one call at most, and each key, too. */
static void begin_call(const twill_batch *batch)
{
    size_t bytes = 0;
    bool keys[KEYS] = {false};
    assert(batch->count >= 1 && batch->count <= drawn.max_items);
    assert(batch->attempt >= 1 && batch->attempt <= (drawn.attempts ? drawn.attempts : 1));
    for (size_t i = 0; i < batch->count; i++) {
        int item = number_of(twill_batch_item(batch, i)), adder = item >= split;
        bytes += bytes_of(&items[item], NULL);
        assert(atomic_exchange_explicit(&live[item], 1, memory_order_relaxed) == 0);
        assert(atomic_load(&told[item]) == 0);
        if (drawn.result_size)
            assert(*(int *)twill_batch_result(batch, i) == 0);
        if (drawn.key_of && !keys[item % KEYS]) {
            keys[item % KEYS] = true;
            assert(!atomic_exchange_explicit(&key_live[item % KEYS], 1, memory_order_relaxed));
        }
        if (drawn.key_of && item < OWN && atomic_load(&seen[item]) == 0) {
            assert(last_of[item % KEYS][adder] <= item);
            last_of[item % KEYS][adder] = item;
        }
        atomic_fetch_add_explicit(&seen[item], 1, memory_order_relaxed);
    }
    assert(!drawn.max_bytes || bytes <= drawn.max_bytes ||
           (drawn.oversized_alone && batch->count == 1));
}

static void end_call(const twill_batch *batch)
{
    for (size_t i = 0; i < batch->count; i++) {
        int item = number_of(twill_batch_item(batch, i));
        assert(atomic_load(&told[item]) == 0);
        atomic_store_explicit(&live[item], 0, memory_order_relaxed);
        if (drawn.key_of)
            atomic_store_explicit(&key_live[item % KEYS], 0, memory_order_relaxed);
    }
}

/* With all calls that it is in. Not again while it ends: POSIX leaves that undefined. */
static void end_thread(void)
{
    for (; calls; calls = calls->around)
        end_call(calls->batch);
    ours = true;
    END_THREAD();
}

/* From inside: one item more, for which the callback may wait; a flush is refused. */
static void add_inside(int item)
{
    int extra = item + OWN;
    twill_status status;
    if (item >= OWN || atomic_exchange(&adding[extra], 1))
        return;
    assert(twill_batcher_flush(shared) == TWILL_DEADLOCK);
    assert(twill_batcher_destroy(shared) == TWILL_DEADLOCK);
    add(extra, (twill_until){0, NULL}, EXPLORE_CHOICE(2, 0));
    if (accepted(extra) && asks[extra]) {
        status = twill_future_wait_until(futures[extra], NULL, NULL, twill_within(TWILL_US(8)));
        assert(status == TWILL_OK || status == TWILL_FAILED || status == TWILL_TIMEOUT ||
               status == TWILL_DEADLOCK);
    }
}

static int process(twill_batch *batch, const twill_task *task)
{
    struct call_in me = {batch, calls};
    bool sets = false, ends = false;
    int code = 0;
    begin_call(batch);
    calls = &me;
    for (size_t i = 0; i < batch->count; i++)
        sets |= kind[number_of(twill_batch_item(batch, i))] == BAD;
    for (size_t i = 0; i < batch->count; i++) {
        int item = number_of(twill_batch_item(batch, i));
        if (kind[item] == DEAF)
            (void)twill_sleep(twill_within(TWILL_US(30)));
        else if (kind[item] == OBEYS)
            (void)twill_sleep(twill_within_or_cancelled(TWILL_US(20), task->until.cancel));
        else if (kind[item] == ADDS)
            add_inside(item);
        else if (kind[item] == CUTS && drawn.run.until.cancel)
            twill_cancel_fire(drawn.run.until.cancel, 2);
        else if (kind[item] == CUTS)
            (void)twill_batcher_close(shared);
        else if (kind[item] == FAILS)
            code = CODE;
        ends |= kind[item] == ENDS;
        if (drawn.result_size)
            *(int *)twill_batch_result(batch, i) = result_of(item);
        if (sets && kind[item] != FORGETS)
            twill_batch_set(batch, i, kind[item] == BAD ? CODE : 0);
    }
    if (ends && !ours)
        end_thread();
    end_call(batch);
    calls = me.around;
    return code;
}

static void check_outcome(int item, const twill_outcome *outcome)
{
    twill_status status = outcome->status;
    assert(outcome->key == &items[item]);
    assert(status == TWILL_OK || status == TWILL_FAILED || status == TWILL_TIMEOUT ||
           status == TWILL_CANCELLED || status == TWILL_DROPPED || status == TWILL_LOST);
    assert(outcome->code == (status == TWILL_FAILED ? CODE : 0));
    assert(outcome->attempts <= (drawn.attempts ? drawn.attempts : 1));
}

static void tell_any(void *item_, const twill_outcome *outcome, void *result,
                     const twill_task *task)
{
    int item = number_of(item_);
    check_outcome(item, outcome);
    assert(atomic_load(&live[item]) == 0);
    if (drawn.result_size && outcome->status == TWILL_OK)
        assert(*(int *)result == result_of(item));
    tell(item_, outcome, result, task);
    if (kind[item] == ADDS_TOLD)
        add_inside(item);
    if (item == teller_ends && !ours)
        end_thread();
}

static int worker_start(void **state, const twill_task *task)
{
    if (refusing >> task->worker & 1)
        return 3;
    *state = &starts[task->worker];
    assert(atomic_fetch_add(&starts[task->worker], 1) == 0);
    return 0;
}

static void worker_stop(void *state, const twill_task *task)
{
    assert(state == &starts[task->worker]);
    assert(atomic_fetch_add(&stops[task->worker], 1) == 0);
}

/* ---- the program ---- */

static bool one_of(int m)
{
    return EXPLORE_CHOICE(m, 0) == 0;
}

static void draw_items(void)
{
    n = 1 + EXPLORE_CHOICE(OWN - 1, 0);
    split = EXPLORE_CHOICE(n + 1, 0);
    teller_ends = EXPLORE_CHOICE(2 * ITEMS, 0);
    refusing = one_of(6) ? EXPLORE_CHOICE(4, 0) : 0;
    for (int i = 0; i < ITEMS; i++) {
        added[i] = NOT_ASKED;
        if (i % OWN >= n)
            continue;
        kind[i] = EXPLORE_CHOICE(i < OWN ? KINDS : ADDS, 0);
        asks[i] = one_of(2);
    }
}

static void draw_times(void)
{
    static const twill_ns lingers[] = {0, TWILL_US(10), TWILL_FOREVER};
    drawn.linger = lingers[EXPLORE_CHOICE(3, 0)];
    drawn.idle = one_of(3) ? TWILL_US(5) : 0;
    if (drawn.linger != TWILL_FOREVER && one_of(3))
        drawn.item_timeout = drawn.linger ? TWILL_US(20) : TWILL_MS(11);
    drawn.backoff = one_of(2) ? TWILL_US(5) : 0;
    drawn.seed = 1;
    if (one_of(4))
        drawn.run.until.deadline = twill_now() + TWILL_US(15);
}

static void draw_options(twill_report *report, twill_cancel *token)
{
    drawn.run = (twill_run){.workers = (unsigned)EXPLORE_CHOICE(WORKERS + 1, 0),
                            .report = report,
                            .worker_start = worker_start,
                            .worker_stop = worker_stop};
    drawn.run.until.cancel = token;
    drawn.max_items = 1 + (size_t)EXPLORE_CHOICE(3, 0);
    if (one_of(3)) {
        drawn.bytes_of = bytes_of;
        drawn.max_bytes = 2 + (size_t)EXPLORE_CHOICE(2, 0);
        drawn.oversized_alone = one_of(2);
        drawn.capacity_bytes = one_of(2) ? 2 + (size_t)EXPLORE_CHOICE(3, 0) : 0;
    }
    drawn.attempts = (unsigned)EXPLORE_CHOICE(4, 0);
    drawn.retryable = one_of(3) ? retryable : NULL;
    drawn.on_bad_batch = (twill_bad_batch)EXPLORE_CHOICE(3, 0);
    drawn.result_size = one_of(2) ? sizeof(int) : 0;
    drawn.capacity = (size_t)EXPLORE_CHOICE(4, 0);
    drawn.overflow = (twill_overflow)EXPLORE_CHOICE(6, 0);
    drawn.key_of = one_of(2) ? key_of : NULL;
    drawn.coalesce = drawn.key_of && one_of(2);
    drawn.on_item = one_of(4) ? NULL : tell_any;
    draw_times();
}

static void add_some(int from, int to)
{
    for (int i = from; i < to; i++) {
        twill_until until = {one_of(3) ? twill_now() + TWILL_US(10) : 0, NULL};
        add(i, until, !one_of(4));
        if (futures[i].slot && one_of(3))
            assert(twill_future_cancel(futures[i]) == TWILL_OK);
    }
}

static void add_rest(void *side_)
{
    struct side *side = side_;
    ours = true;
    add_some(split, n);
    if (side->until.cancel)
        twill_cancel_fire(side->until.cancel, 1);
}

static void flush_some(void)
{
    twill_until until = {one_of(2) ? twill_now() + TWILL_US(10) : 0, NULL};
    twill_status status = twill_batcher_flush_until(shared, until);
    assert(status == TWILL_OK || (status == TWILL_TIMEOUT && until.deadline));
    for (int i = 0; status == TWILL_OK && drawn.on_item && i < split; i++)
        assert(atomic_load(&told[i]) == accepted(i));
}

static void stop(void)
{
    twill_stopped stopped;
    twill_until join = {one_of(2) ? twill_now() + TWILL_US(20) : 0, NULL};
    twill_status status = twill_batcher_stop(
        shared, twill_within(TWILL_US(EXPLORE_CHOICE(3, 0) * 8)), join, &stopped);
    assert(status == TWILL_OK || (status == TWILL_TIMEOUT && join.deadline));
    assert((status == TWILL_OK) == (stopped.stuck == 0));
}

/* ---- what must hold ---- */

/* What the future says: the same as on_item. */
static void check_future(int i)
{
    twill_outcome outcome;
    int result = -1;
    twill_status status =
        twill_future_wait(futures[i], drawn.result_size ? &result : NULL, &outcome);
    assert(status == (outcome.status == TWILL_OK ? TWILL_OK : TWILL_FAILED));
    check_outcome(i, &outcome);
    if (drawn.result_size && outcome.status == TWILL_OK)
        assert(result == result_of(i));
    assert(!drawn.on_item || (int)outcome.status == atomic_load(&how[i]));
    twill_future_release(futures[i]);
}

static void check_items(const twill_report *report)
{
    size_t all = 0, done = 0, failed = 0, left = 0;
    for (int i = 0; i < ITEMS; i++) {
        bool in = accepted(i);
        int status = atomic_load(&how[i]);
        assert(atomic_load(&live[i]) == 0);
        assert(in || added[i] == LEFT || (!futures[i].slot && atomic_load(&seen[i]) == 0));
        assert(atomic_load(&told[i]) == (in && drawn.on_item));
        assert(added[i] != TWILL_DROPPED || !drawn.on_item || status == TWILL_DROPPED);
        all += in;
        left += added[i] == LEFT;
        done += in && status == TWILL_OK;
        failed += in && (status == TWILL_FAILED || status == TWILL_LOST);
        if (in && asks[i])
            check_future(i);
    }
    assert(report->total == report->done + report->failed + report->skipped);
    assert(report->total == all || (left && !drawn.on_item));
    assert(!drawn.on_item || (report->done == done && report->failed == failed));
    for (int k = 0; k < WORKERS; k++)
        assert(atomic_load(&starts[k]) == atomic_load(&stops[k]));
}

int main(void)
{
    twill_pool *pool = NULL;
    twill_report report;
    twill_cancel token = {0};
    struct side side = {.item = 0};

    ours = true;
    draw_items();
    if (one_of(3))
        side.until.cancel = &token;
    draw_options(&report, side.until.cancel);
    if (one_of(2))
        assert(twill_pool_create(
                   &pool, &(twill_pool_options){
                              .run.workers = 1 + (unsigned)EXPLORE_CHOICE(2, 0)}) == TWILL_OK);
    drawn.run.pool = pool;
    assert(twill_batcher_create(&shared, process, &drawn) == TWILL_OK);
    go(&side, add_rest, shared);
    add_some(0, split);
    if (one_of(3))
        flush_some();
    if (one_of(4))
        (void)twill_batcher_close(shared); /* CLOSED: cut off before */
    if (one_of(4))
        stop();
    end(&side);
    if (one_of(4))
        stop();
    check_books(shared);
    assert(twill_batcher_destroy(shared) == TWILL_OK);
    check_items(&report);
    assert(twill_pool_destroy(pool) == TWILL_OK);
    twill_cancel_detach(&token);
    return 0;
}
