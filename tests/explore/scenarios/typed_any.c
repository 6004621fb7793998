/* Any typed loop: a map, fold, scan, filter, find or sort with an expression compiled into it, that
   naps, stops the loop, ends its thread, or makes another such call; with any schedule, policy,
   hooks, threads or pool, below a token and a deadline, while another thread does the same. Each
   answer has a reason; what it says is done is that of the plain loop, the rest is as it was; and
   no expression is asked when the call has returned.
   EXPLORE-FLAGS: -DTWILL__SPIN=0 -DTWILL__TICKS=0 */
#undef NDEBUG
#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "explore.h"

static bool no_threads, no_memory; /* some creations, some allocations fail */

static int choose(int n)
{
    return EXPLORE_CHOICE(n, 0);
}

static bool one_in(int n)
{
    return choose(n) == 0;
}

#define TWILL__FAIL_THREAD() (no_threads && one_in(3))
#define TWILL_MALLOC(size)   (no_memory && one_in(3) ? NULL : malloc(size))
#define TWILL_FREE(block)    free(block)
#define TWILL_IMPLEMENTATION
#include "twill_parallel_map.h"
#include "twill_worker_pool.h"

enum { MOST = 70, FEW = 7, CALLS = 10, DEEPEST = 2 };
enum { MAP, FOLD, SCAN, FILTER, FIND, SORT, FORMS };

typedef struct call {
    int n, depth, odd; /* what happens at item `odd` */
    int act;
    atomic_int asked, stops, starts, ends;
    atomic_bool over, refused;
    twill_report report;
    twill_run *run;
} call;

static call calls[CALLS];
static atomic_int made, ended;
static twill_cancel token;
static twill_pool *pool;
static bool may_end;
static _Thread_local bool stays;

static void any_call(int depth);

static void leave_thread(void)
{
    stays = true;
    atomic_store(&ended, 1);
#ifdef TWILL_USE_PTHREAD
    pthread_exit(NULL);
#else
    thrd_exit(0);
#endif
}

/* Of item i: its value. */
static int look(int i, const twill_task *task)
{
    call *c = task->context;
    assert(!atomic_load(&c->over) && task->worker < task->workers);
    atomic_fetch_add(&c->asked, 1);
    if (i != c->odd)
        return i;
    switch (c->act) {
    case 0:
        (void)twill_sleep(twill_within_or_cancelled(TWILL_US(3), task->until.cancel));
        break;
    case 1:
        atomic_fetch_add(&c->stops, 1);
        (void)twill_task_stop(task);
        break;
    case 2:
        if (may_end && !stays)
            leave_thread();
        break;
    case 3:
        if (c->depth + 1 < DEEPEST)
            any_call(c->depth + 1);
        break;
    default:
        break;
    }
    return i;
}

TWILL_DEFINE_MAP(map_typed, int, long, x, 7L * look(x, task))
TWILL_DEFINE_REDUCE(sum_typed, int, long, x, (long)look(x, task), a, b, a + b, 0)
TWILL_DEFINE_SCAN(scan_typed, int, a, b, a + b)
TWILL_DEFINE_FILTER(filter_typed, int, x, look(x, task) % 3 == 0)
TWILL_DEFINE_FIND(find_typed, int, x, look(x, task) >= 5)
TWILL_DEFINE_SORT(sort_typed, int, a, b, look(a, task) / 4 < b / 4)

static int start_worker(void **state, const twill_task *task)
{
    call *c = task->context;
    if (one_in(8)) {
        atomic_store(&c->refused, true);
        return 50;
    }
    *state = c;
    atomic_fetch_add(&c->starts, 1);
    return 0;
}

static void stop_worker(void *state, const twill_task *task)
{
    call *c = task->context;
    assert(state == c && !atomic_load(&c->over));
    atomic_fetch_add(&c->ends, 1);
}

static void draw(call *c, twill_parallel_options *o, int form)
{
    if (form == MAP || form == FILTER || form == FIND) {
        o->schedule = (twill_schedule)choose(4);
        o->chunk = (size_t)choose(4);
    }
    c->run = &o->run;
    o->run.context = c;
    o->run.report = &c->report;
    o->run.workers = (unsigned)choose(4);
    o->run.strict = one_in(6);
    o->run.on_error = one_in(2) ? TWILL_ON_ERROR_DEFAULT : (twill_on_error)choose(5);
    if (one_in(4)) {
        o->run.worker_start = start_worker;
        o->run.worker_stop = stop_worker;
    }
    if (one_in(6))
        o->run.until.cancel = &token;
    if (one_in(6))
        o->run.until.deadline = twill_now() + 1 + TWILL_US(2) * choose(3);
    o->run.pool = one_in(2) ? pool : NULL;
}

/* Whether all was done. */
static bool check(call *c, twill_status status)
{
    const twill_report *r = &c->report;
    assert(status == r->status && r->total == r->done + r->failed + r->skipped);
    if (!atomic_load(&ended))
        assert(atomic_load(&c->starts) == atomic_load(&c->ends));
    switch (status) {
    case TWILL_OK:
        return !atomic_load(&c->stops);
    case TWILL_CANCELLED:
        assert(twill_cancel_fired(c->run->until.cancel));
        break;
    case TWILL_TIMEOUT:
        assert(c->run->until.deadline && twill_now() >= c->run->until.deadline);
        break;
    case TWILL_FAILED: /* a thread has ended, or the caller's worker_start has failed */
        assert(atomic_load(&ended) || atomic_load(&c->refused));
        break;
    case TWILL_NO_MEMORY:
        assert(no_memory);
        break;
    default:
        assert(status == TWILL_NO_THREAD && c->run->strict);
    }
    return false;
}

static void map_it(call *c, const int *in, twill_parallel_options *o)
{
    long out[MOST];
    bool all;
    for (int i = 0; i < c->n; i++)
        out[i] = -1;
    all = check(c, map_typed(in, out, (size_t)c->n, o));
    assert(!all || atomic_load(&c->asked) == c->n);
    for (int i = 0; i < c->n; i++)
        assert(out[i] == 7L * i || (!all && out[i] == -1));
}

static void fold_it(call *c, const int *in, twill_parallel_options *o)
{
    long got = -2, sum = 0;
    if (check(c, sum_typed(in, (size_t)c->n, &got, o))) {
        for (int i = 0; i < c->n; i++)
            sum += i;
        assert(got == sum && atomic_load(&c->asked) == c->n);
    }
}

static void scan_it(call *c, const int *in, twill_parallel_options *o)
{
    int out[MOST], sum = 10, start = sum;
    if (check(c, scan_typed(in, out, (size_t)c->n, &start, o)))
        for (int i = 0; i < c->n; i++)
            assert(out[i] == sum + i * (i - 1) / 2);
}

static void filter_it(call *c, const int *in, twill_parallel_options *o)
{
    int out[MOST];
    size_t count = 99;
    if (check(c, filter_typed(in, (size_t)c->n, out, &count, o))) {
        assert((int)count == (c->n + 2) / 3);
        for (size_t k = 0; k < count; k++)
            assert(out[k] == 3 * (int)k);
    }
}

static void find_it(call *c, const int *in, twill_parallel_options *o)
{
    size_t index = 99;
    twill_status status = find_typed(in, (size_t)c->n, &index, o);
    if (check(c, status))
        assert((int)index == (c->n > 5 ? 5 : c->n));
}

static void sort_it(call *c, twill_parallel_options *o)
{
    int base[MOST], seen[MOST] = {0};
    bool all;
    for (int i = 0; i < c->n; i++)
        base[i] = (i * 5 + 3) % c->n;
    if (c->n % 5 == 0)
        for (int i = 0; i < c->n; i++)
            base[i] = c->n - 1 - i;
    all = check(c, sort_typed(base, (size_t)c->n, o));
    for (int i = 0; i < c->n && (all || !atomic_load(&ended)); i++) {
        assert(base[i] >= 0 && base[i] < c->n && seen[base[i]]++ == 0);
        assert(!all || i == 0 || base[i - 1] / 4 <= base[i] / 4);
    }
}

static void any_call(int depth)
{
    int number = atomic_fetch_add(&made, 1), form, in[MOST];
    twill_parallel_options o = {.run = {0}};
    call *c = &calls[number];
    if (number >= CALLS)
        return;
    c->depth = depth;
    c->n = one_in(6) ? MOST - choose(8) : choose(FEW);
    c->odd = choose(c->n + 1);
    c->act = choose(5);
    for (int i = 0; i < c->n; i++)
        in[i] = i;
    form = choose(FORMS);
    draw(c, &o, form);
    switch (form) {
    case MAP:
        map_it(c, in, &o);
        break;
    case FOLD:
        fold_it(c, in, &o);
        break;
    case SCAN:
        scan_it(c, in, &o);
        break;
    case FILTER:
        filter_it(c, in, &o);
        break;
    case FIND:
        find_it(c, in, &o);
        break;
    default:
        sort_it(c, &o);
    }
    atomic_store(&c->over, true);
}

static void beside(void *unused)
{
    (void)unused;
    stays = true;
    any_call(0);
}

int main(void)
{
    static twill__thrd other = {.fn = beside, .cpu = UINT_MAX};
    bool two = one_in(2);
    stays = true;
    may_end = one_in(3);
    if (one_in(2))
        assert(twill_pool_create(&pool, &(twill_pool_options){
                                            .run.workers = 1 + (unsigned)choose(2)}) == TWILL_OK);
    no_threads = one_in(6);
    no_memory = one_in(6);
    if (two && no_threads)
        two = false;
    if (two)
        assert(twill__thread_start(&other));
    any_call(0);
    if (one_in(3))
        twill_cancel_fire(&token, 1);
    if (two)
        twill__thread_join(&other);
    assert(twill_pool_destroy(pool) == TWILL_OK);
    twill_cancel_detach(&token);
    return 0;
}
