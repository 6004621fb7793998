/* Any batch_process or batch_flat_map, alone or two beside each other, on threads of its own, of a
   pool, or fewer than asked. Each schedule draws one: items, limits by number and bytes, attempts,
   backoff, what becomes of a bad batch, policy, deadline, token, details. The callback fails, sets
   items, forgets some, sleeps deafly or until it is told, stops, fires the token, ends its thread,
   makes another call, emits values.

   Whatever it is: an item is in one call at a time, never after it was done, and in no more than
   `attempts`; batches are neighbours and within their limits; report, statuses, codes, results and
   values are those of the last call of each item; where nothing ends the call early, everything
   has been tried. */
#include <stdbool.h>

extern int thread_fails(void);
#define TWILL__FAIL_THREAD() thread_fails()
#include "batch_common.h"

#include "explore.h"
#include "twill_worker_pool.h"

#ifdef TWILL_USE_PTHREAD
#define END_THREAD() pthread_exit(NULL)
#else
#define END_THREAD() thrd_exit(0)
#endif

enum { GOOD, BAD, FAILS, ONCE, FORGETS, DEAF, OBEYS, STOPS, CUTS, ENDS, NESTS, KINDS };
enum { MOST = 5, CALLS = 4, CODE = 7, VALUES = 2 };
enum { NEVER, INSIDE, DONE, FAILED, LOST };

typedef struct call {
    int n, depth, kind[MOST], values[MOST];
    int item[MOST]; /* its own number */
    int result[MOST];
    bool flat, returned, halves;
    _Atomic bool stopped;
    twill_batch_options options;
    twill_report report;
    twill_status statuses[MOST];
    int codes[MOST];
    _Atomic int how[MOST], code[MOST], tried[MOST];
} call;

static call calls[CALLS];
static _Atomic int made, ended;
static _Atomic bool threadless;
static twill_cancel token;
static twill_pool *pool;
static bool ends;
static _Thread_local bool stays;

static void any_call(int depth);

static int choose(int n)
{
    return EXPLORE_CHOICE(n, 0);
}

static bool one_in(int n)
{
    return choose(n) == 0;
}

int thread_fails(void)
{
    return atomic_load(&threadless) && one_in(2);
}

static size_t bytes_of(const void *item, const twill_task *task)
{
    (void)task;
    return 1 + (size_t)(*(const int *)item % 3);
}

static bool retryable(const void *item, int code, const twill_task *task)
{
    (void)task;
    assert(code == CODE);
    return *(const int *)item % 2 == 0;
}

/* ---- the callback ---- */

static int number(const twill_batch *batch, size_t i)
{
    return *(const int *)twill_batch_item(batch, i);
}

static void begin_batch(call *c, const twill_batch *batch)
{
    const twill_batch_options *o = &c->options;
    size_t bytes = 0;
    assert(!c->returned && batch->count >= 1);
    assert(batch->count <= (o->max_items ? o->max_items : 100));
    assert(batch->attempt >= 1 && batch->attempt <= (o->attempts ? o->attempts : 1));
    for (size_t i = 0; i < batch->count; i++) {
        int k = number(batch, i), how = atomic_exchange(&c->how[k], INSIDE);
        assert(twill_batch_item(batch, i) == &c->item[k]);
        assert(how == NEVER || how == FAILED);
        assert(i == 0 ? (int)batch->first == k : number(batch, i - 1) < k);
        assert(!batch->array || &((const int *)batch->array)[i] == &c->item[k]);
        atomic_fetch_add(&c->tried[k], 1);
        bytes += bytes_of(&c->item[k], NULL);
        if (!c->flat)
            assert(*(int *)twill_batch_result(batch, i) == 0);
    }
    assert(!o->max_bytes || bytes <= o->max_bytes || (o->oversized_alone && batch->count == 1));
}

static void end_item(call *c, int k, int how)
{
    assert(atomic_exchange(&c->how[k], how) == INSIDE);
    atomic_store(&c->code[k], how == FAILED ? CODE : 0);
}

/* What its items do together; the code of the batch. */
static int act(call *c, const twill_batch *batch, const twill_task *task)
{
    int code = 0;
    for (size_t i = 0; i < batch->count; i++) {
        int k = number(batch, i);
        switch (c->kind[k]) {
        case FAILS:
            code = CODE;
            break;
        case ONCE:
            code = c->tried[k] == 1 ? CODE : code;
            break;
        case DEAF:
            (void)twill_sleep(twill_within(TWILL_US(30)));
            break;
        case OBEYS:
            (void)twill_sleep(twill_within_or_cancelled(TWILL_US(20), task->until.cancel));
            break;
        case STOPS:
            atomic_store(&c->stopped, true);
            (void)twill_task_stop(task);
            break;
        case CUTS:
            twill_cancel_fire(&token, 1);
            break;
        case NESTS: /* lost, unless it comes back */
            for (size_t j = 0; j < batch->count; j++)
                atomic_store(&c->how[number(batch, j)], LOST);
            any_call(c->depth + 1);
            for (size_t j = 0; j < batch->count; j++)
                atomic_store(&c->how[number(batch, j)], INSIDE);
            break;
        case ENDS:
            if (!ends || stays)
                break;
            for (size_t j = 0; j < batch->count; j++)
                end_item(c, number(batch, j), LOST);
            atomic_store(&ended, 1);
            stays = true;
            END_THREAD();
        default:
            break;
        }
    }
    return code;
}

static int process(twill_batch *batch, const twill_task *task)
{
    call *c = task->context;
    bool sets = false;
    int code;
    begin_batch(c, batch);
    code = act(c, batch, task);
    for (size_t i = 0; i < batch->count; i++)
        sets |= c->kind[number(batch, i)] == BAD;
    for (size_t i = 0; i < batch->count; i++) {
        int k = number(batch, i), own = c->kind[k] == BAD ? CODE : 0;
        bool set = sets && c->kind[k] != FORGETS;
        *(int *)twill_batch_result(batch, i) = 100 + k;
        if (set)
            twill_batch_set(batch, i, own);
        end_item(c, k, set ? own ? FAILED : DONE : code ? FAILED : sets ? LOST : DONE);
    }
    return code;
}

static int flat(const twill_batch *batch, const twill_task *task)
{
    call *c = task->context;
    int code;
    begin_batch(c, batch);
    for (size_t i = 0; i < batch->count; i++) {
        int k = number(batch, i);
        for (int j = 0; j < c->values[k]; j++) {
            int value = VALUES * k + j;
            assert(twill_batch_emit(task, &value) == TWILL_OK);
        }
    }
    code = act(c, batch, task);
    for (size_t i = 0; i < batch->count; i++)
        end_item(c, number(batch, i), code ? FAILED : DONE);
    return code;
}

/* ---- what must hold ---- */

static void check_item(const call *c, int k)
{
    const twill_run *run = &c->options.run;
    int how = c->how[k];
    twill_status said = run->statuses ? c->statuses[k] : TWILL_OK;
    unsigned most = c->options.attempts ? c->options.attempts : 1;
    assert(how != INSIDE);
    assert(c->tried[k] <= (int)most || c->halves);
    assert(c->flat || how != DONE || c->result[k] == 100 + k);
    if (!run->statuses)
        return;
    switch (how) {
    case DONE:
        assert(said == TWILL_OK);
        break;
    case FAILED:
        assert(said == TWILL_FAILED);
        assert(!run->codes || c->codes[k] == CODE);
        break;
    case LOST:
        assert(said == TWILL_LOST);
        break;
    default: /* in no call */
        assert(said == TWILL_CANCELLED || said == TWILL_TOO_BIG ||
               (said == TWILL_TIMEOUT && run->until.deadline));
    }
}

static void check_values(const call *c, const int *values, size_t n)
{
    size_t at = 0;
    for (int k = 0; k < c->n; k++)
        for (int j = 0; j < c->values[k] && c->how[k] == DONE; j++) {
            assert(at < n && values[at] == VALUES * k + j);
            at++;
        }
    assert(at == n);
}

static void check(const call *c, twill_status status)
{
    const twill_run *run = &c->options.run;
    const twill_report *r = &c->report;
    size_t done = 0, failed = 0, untried = 0, big = 0;
    for (int k = 0; k < c->n; k++) {
        size_t bytes = bytes_of(&c->item[k], NULL);
        bool too_big =
            c->options.max_bytes && !c->options.oversized_alone && bytes > c->options.max_bytes;
        check_item(c, k);
        assert(!too_big || c->how[k] == NEVER);
        done += c->how[k] == DONE;
        failed += c->how[k] == FAILED || c->how[k] == LOST;
        untried += c->how[k] == NEVER && !too_big;
        big += too_big;
    }
    assert(r->status == status && r->total == (size_t)c->n);
    assert(r->total == r->done + r->failed + r->skipped);
    assert(r->done == done && r->failed >= failed && r->failed <= failed + big);
    if (!run->until.cancel && !run->until.deadline && !c->stopped && !atomic_load(&ended) &&
        (!run->on_error || run->on_error == TWILL_ON_ERROR_COLLECT))
        assert(untried == 0 && r->failed == failed + big);
    switch (status) {
    case TWILL_OK:
        assert(r->failed == 0 || c->stopped); /* above the end none counts */
        break;
    case TWILL_FAILED:
        assert(r->failed || atomic_load(&ended));
        break;
    case TWILL_CANCELLED:
        assert(run->until.cancel && twill_cancel_fired(&token));
        break;
    default:
        assert(status == TWILL_TIMEOUT && run->until.deadline &&
               twill_now() >= run->until.deadline);
    }
}

/* ---- what is drawn ---- */

static void draw(call *c)
{
    twill_batch_options *o = &c->options;
    int odd = 1 + choose(3);
    c->flat = one_in(3);
    c->n = 1 + choose(c->depth ? 2 : MOST);
    for (int k = 0; k < c->n; k++) {
        c->item[k] = k;
        c->kind[k] = one_in(odd) ? choose(KINDS) : GOOD;
        c->values[k] = choose(VALUES + 1);
    }
    o->run = (twill_run){.workers = (unsigned)choose(3),
                         .context = c,
                         .report = &c->report,
                         .on_error = (twill_on_error)choose(5),
                         .max_errors = (size_t)choose(3),
                         .statuses = one_in(3) ? NULL : c->statuses,
                         .codes = one_in(3) ? NULL : c->codes,
                         .pool = one_in(2) ? pool : NULL};
    if (one_in(3))
        o->run.until.cancel = &token;
    if (one_in(4))
        o->run.until.deadline = twill_now() + TWILL_US(1 + choose(15));
    o->max_items = (size_t)choose(4);
    if (one_in(3)) {
        o->bytes_of = bytes_of;
        o->max_bytes = 2 + (size_t)choose(2);
        o->oversized_alone = one_in(2);
    }
    if (!c->flat) {
        o->attempts = (unsigned)choose(4);
        o->retryable = one_in(3) ? retryable : NULL;
        o->backoff = one_in(2) ? TWILL_US(5) : 0;
        o->backoff_max = one_in(3) ? TWILL_US(6) : 0;
        o->seed = 1;
        o->on_bad_batch = (twill_bad_batch)choose(3);
        c->halves = o->on_bad_batch == TWILL_BAD_BATCH_BISECT;
    }
}

static void any_call(int depth)
{
    int which = depth > 1 ? CALLS : atomic_fetch_add(&made, 1);
    call *c = &calls[which];
    twill_status status;
    void *values = NULL;
    size_t n = 0;
    if (which >= CALLS)
        return;
    c->depth = depth;
    draw(c);
    if (c->flat)
        status = twill_batch_flat_map(c->item, sizeof *c->item, (size_t)c->n, flat, sizeof(int),
                                      &values, &n, &c->options);
    else
        status = twill_batch_process(c->item, sizeof *c->item, c->result, sizeof *c->result,
                                     (size_t)c->n, process, &c->options);
    c->returned = true;         /* plain: who comes after it is a data race */
    if (status != TWILL_CLOSED) /* the pool */
        check(c, status);
    if (c->flat)
        check_values(c, values, n);
    twill_batch_free(values);
}

static void beside(void *side)
{
    (void)side;
    any_call(0);
    if (pool && one_in(3))
        (void)twill_pool_close(pool);
}

static int task_calls(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    any_call(0);
    return 0;
}

int main(void)
{
    twill__thrd other = {.fn = beside, .cpu = UINT_MAX};
    bool two;
    stays = true;
    ends = one_in(3);
    if (one_in(2))
        assert(twill_pool_create(&pool, &(twill_pool_options){
                                            .run.workers = 1 + (unsigned)choose(2)}) == TWILL_OK);
    two = one_in(2) && twill__thread_start(&other);
    atomic_store(&threadless, one_in(6));
    if (pool && one_in(2))
        (void)twill_pool_submit(pool, task_calls, NULL, NULL, NULL);
    any_call(0);
    if (one_in(2))
        twill_cancel_fire(&token, 1);
    if (two)
        twill__thread_join(&other);
    assert(twill_pool_destroy(pool) == TWILL_OK);
    twill_cancel_detach(&token);
    return 0;
}
